use std::path::PathBuf;
use std::time::Duration;

use crate::caller::Role;

/// How a local ECR is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// The main port; 0 takes a free one.
    pub port: u16,
    /// The directory in which a directory for the layers is made (and deleted again); `None` takes the system's.
    pub data_dir: Option<PathBuf>,
    /// Where `PutEvents` is sent on each push; without it no event is sent.
    pub events_endpoint: Option<String>,
    /// How long a layer download URL is valid.
    pub url_ttl: Duration,
    /// How long a token of `GetAuthorizationToken` is valid.
    pub token_ttl: Duration,
    /// The roles that `AssumeRole` gives credentials of.
    pub roles: Vec<Role>,
    /// How long those credentials are valid at most.
    pub session_ttl: Duration,
    /// The part size that `InitiateLayerUpload` asks for. A size below 5 MiB lowers the minimum of a part with it.
    pub part_size: u64,
    /// `PutImage`'s quota: how many calls a second each registry, which is an account in a region, takes, and as many at once;
    /// `None` is no quota. A manifest that is put by `/v2` is such a call, too.
    pub put_image_rate: Option<u32>,
    /// What the faults with a probability are drawn by: the same for the same seed.
    pub seed: u64,
    /// How `BatchCheckLayerAvailability` answers for a layer that is not there.
    pub missing_layer: MissingLayerAnswer,
    /// How `PutImage` answers when an immutable tag already points at the pushed image.
    pub repeated_immutable_tag: RepeatedImmutableTagAnswer,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            port: 0,
            data_dir: None,
            events_endpoint: None,
            url_ttl: Duration::from_hours(1),
            token_ttl: Duration::from_hours(12),
            roles: Vec::new(),
            session_ttl: Duration::from_hours(1),
            part_size: 10 * 1024 * 1024,
            put_image_rate: None,
            seed: 0,
            missing_layer: MissingLayerAnswer::default(),
            repeated_immutable_tag: RepeatedImmutableTagAnswer::default(),
        }
    }
}

/// The two answers for a missing layer that the sources describe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MissingLayerAnswer {
    /// `layers[]` with `UNAVAILABLE`, as the resolver that AWS wrote for containerd expects.
    #[default]
    Unavailable,
    /// `failures[]` with `MissingLayerDigest`, as other emulators answer.
    MissingLayerDigest,
}

/// The two answers for an immutable tag pushed again with the same image that users of ECR report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RepeatedImmutableTagAnswer {
    /// `ImageAlreadyExistsException` (aws/aws-sdk#750).
    #[default]
    ImageAlreadyExists,
    /// `ImageTagAlreadyExistsException` (aws/containers-roadmap#2179).
    ImageTagAlreadyExists,
}
