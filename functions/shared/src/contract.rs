//! What the state machine passes from function to function.
//!
//! It holds references, digests and figures, never manifests or layers: Step Functions carries 256 KiB.
//! Field names are camelCase in JSON; bytes are bytes, durations milliseconds, times RFC 3339 in UTC.
//!
//! While a deployment is upgraded, or taken back, a function may be given what another release wrote: what it does not know it leaves
//! alone, and what a release adds to what there was has a default. What a person writes is read strictly.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::names::{Digest, ImageTag, Region, RegistryId, RepositoryName, RoleArn};

/// The image that an execution replicates: one pinned digest, with its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// The source region.
    pub region: Region,
    /// The source repository.
    pub repository: RepositoryName,
    /// The digest of its manifest, or of its index.
    pub digest: Digest,
    /// The tag that it was pushed or asked for with.
    pub tag: Option<ImageTag>,
    /// The media type of that manifest.
    pub media_type: String,
    /// How many manifests it has, the index counted, referrers not.
    pub manifests: usize,
    /// How many referrers go with it.
    pub referrers: usize,
    /// How many do not, because they are too many: they have their own events.
    pub referrers_left_out: usize,
    /// How many distinct blobs it and its referrers have, configs counted, foreign layers not.
    pub blobs: usize,
    /// The size of those blobs.
    pub bytes: u64,
    /// When it was pushed; unknown for a run that a person started.
    pub pushed_at: Option<Timestamp>,
}

/// What belongs to an image and is not in its tree: a signature, an SBOM, an attestation. It goes with the image, before the
/// image's tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Referrer {
    /// Its digest.
    pub digest: Digest,
    /// The tag that tells whose it is, in cosign's scheme; an OCI referrer has none, its manifest tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<ImageTag>,
}

/// Where an image goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// The target region.
    pub region: Region,
    /// The repository's name there.
    pub repository: RepositoryName,
    /// The account whose registry it is; the functions' own, unless it is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<RegistryId>,
    /// The role that is assumed to reach it; the functions' own do, unless it is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<RoleArn>,
    /// What that role wants to hear from whoever assumes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// The KMS key that a repository which is made there is encrypted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kms_key_arn: Option<String>,
    /// What becomes of the repository's settings.
    #[serde(default, skip_serializing_if = "is_default")]
    pub settings: SettingsMode,
    /// How long PutManifest waits before each PutImage there, in milliseconds, so that all targets of the execution in one
    /// registry keep to the pace that it was given; not at all, unless it was given one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub put_interval_ms: Option<u64>,
}

impl Target {
    /// A repository of the functions' own account.
    #[must_use]
    pub fn own(region: Region, repository: RepositoryName) -> Self {
        Self {
            region,
            repository,
            registry_id: None,
            role_arn: None,
            external_id: None,
            kms_key_arn: None,
            settings: SettingsMode::Create,
            put_interval_ms: None,
        }
    }
}

/// What becomes of a target repository's settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SettingsMode {
    /// A repository that is made gets the source's; one that exists is left alone.
    #[default]
    Create,
    /// As that; and one that exists is brought to the same.
    Sync,
    /// No repository is made: it must exist.
    None,
}

/// Which tags of a repository may be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TagMutability {
    /// All.
    Mutable,
    /// None.
    Immutable,
    /// None but those of the exclusions.
    ImmutableWithExclusion,
    /// All but those of the exclusions.
    MutableWithExclusion,
}

/// A rule's own settings for target repositories; what it does not name is the source's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RepositorySettings {
    /// Which tags may be moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag_mutability: Option<TagMutability>,
    /// The filters of its exclusions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag_mutability_exclusions: Option<Vec<String>>,
    /// Whether an image is scanned when it is pushed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan_on_push: Option<bool>,
    /// Tags of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
    /// The lifecycle policy, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle_policy: Option<String>,
    /// The repository policy, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_policy: Option<String>,
}

/// One image to targets: what ReplicateToTargets maps over, at first and again after a redrive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Round {
    /// The image.
    pub image: Image,
    /// Its referrers, each after what it refers to.
    pub referrers: Vec<Referrer>,
    /// The rule that asked for it.
    pub rule: Option<String>,
    /// The round's number: 1, and one more for each redrive.
    pub round: u32,
    /// How often the execution had been redriven when the round began.
    pub redrives: u32,
    /// The targets of this round.
    pub targets: Vec<Target>,
    /// The rule's own settings for target repositories.
    #[serde(default)]
    pub repository_settings: Option<RepositorySettings>,
    /// What earlier rounds finished.
    pub settled: Vec<TargetReport>,
}

/// The input of the functions that work on one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetInput {
    /// The execution's name, for the logs.
    pub execution: String,
    /// What is replicated.
    pub image: Image,
    /// What goes with it; EnsureRepository is not told.
    #[serde(default)]
    pub referrers: Vec<Referrer>,
    /// How often layers were copied again because the target lacked one; EnsureRepository is not told.
    #[serde(default)]
    pub repairs: u32,
    /// Where to.
    pub target: Target,
    /// When the execution was started; only EnsureRepository is told.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// The rule's own settings for the repository; only EnsureRepository is told.
    #[serde(default)]
    pub repository_settings: Option<RepositorySettings>,
}

/// How often layers are copied again because the target lacked one: `AreRepairsLeft` in the state machine.
pub const MOST_REPAIRS: u32 = 3;

/// What EnsureRepository found or made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ensured {
    /// Whether it made the repository.
    pub created: bool,
    /// The settings of a repository that existed which were not what they should be.
    #[serde(default)]
    pub settings: Vec<SettingChange>,
    /// How long it took.
    pub duration_ms: u64,
    /// How often a registry answered that it is asked too often.
    #[serde(default)]
    pub throttled: u64,
}

/// A setting of a target repository that was not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SettingChange {
    /// The setting: `tagMutability`, `scanOnPush`, `tags`, `lifecyclePolicy`, `repositoryPolicy` or `encryption`.
    pub setting: String,
    /// What it was; long texts are cut. Absent where there was none.
    pub before: Option<String>,
    /// What it is to be.
    pub after: Option<String>,
    /// Why it is still what it was, if it is.
    pub refused: Option<String>,
}

/// A part of an image's blobs, for one CopyLayers of several that copy side by side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shard {
    /// The blobs, the largest first.
    pub layers: Vec<Blob>,
}

/// A blob that a manifest names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Blob {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Whether only referrers have it: the image arrives without it, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_referrer: bool,
}

/// Where CopyLayers stands, given back to it when it was not done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cursor {
    /// Blobs that were copied whole.
    pub layers_copied: usize,
    /// Those of them that were streamed; the others went by parts.
    pub layers_streamed: usize,
    /// Their bytes.
    pub bytes_copied: u64,
    /// The time spent.
    pub duration_ms: u64,
    /// How often a registry answered that it is asked too often.
    #[serde(default)]
    pub throttled: u64,
    /// Uploads that are under way.
    pub uploads: Vec<Upload>,
    /// Layers that failed in a way that should not come twice, once.
    #[serde(default)]
    pub restarted: Vec<Digest>,
}

/// One layer's upload by parts: enough to go on at the next byte in another invocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Upload {
    /// The layer.
    pub digest: Digest,
    /// The registry's id of the upload.
    pub upload_id: String,
    /// The size of parts that the registry asked for.
    pub part_size: u64,
    /// The bytes that it has received.
    pub received: u64,
    /// The bytes that are hashed.
    pub hashed: u64,
    /// The SHA-256 state after those, in base64: a layer is hashed once, however many invocations it takes.
    pub hash: String,
}

/// What CopyLayers did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Copied {
    /// Whether every blob that it was asked for is at the target. If not, it wants to be called again: for each of the
    /// shards, or with the cursor where there are none.
    pub done: bool,
    /// The missing blobs, when they are more than one function should copy; nothing was copied then.
    pub shards: Vec<Shard>,
    /// Where it stands.
    pub cursor: Cursor,
    /// Foreign layers: not copied, because registries do not hold them. A shard has none.
    pub layers_foreign: usize,
}

/// What all CopyLayers of one target did, those of shards and of repairs added up; of times, see there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CopiedInAll {
    /// Blobs that were copied whole.
    pub layers_copied: usize,
    /// Those of them that were streamed.
    pub layers_streamed: usize,
    /// Their bytes.
    pub bytes_copied: u64,
    /// The time spent: of shards that copied side by side, that of the one that took the longest; one pass after another.
    pub duration_ms: u64,
    /// How often a registry answered that it is asked too often.
    #[serde(default)]
    pub throttled: u64,
    /// Foreign layers.
    pub layers_foreign: usize,
    /// How many CopyLayers came to a result that handed nothing out.
    pub shards: usize,
}

/// What became of the tag and the manifests at a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// The target has the image, and this execution put it there.
    Replicated,
    /// The target had the image and the tag already; nothing was put.
    Unchanged,
    /// The target has the image by digest; the source's tag has moved on, so the tag was left to the newer image.
    Superseded,
    /// The source lost the image before it reached this target.
    Skipped,
    /// The tag is immutable at the target and belongs to another image; this one is there by digest.
    Conflict,
    /// The target does not have the image.
    Failed,
}

impl Status {
    /// Whether the target has the image, whole.
    #[must_use]
    pub const fn is_complete(self) -> bool {
        match self {
            Self::Replicated | Self::Unchanged | Self::Superseded => true,
            Self::Skipped | Self::Conflict | Self::Failed => false,
        }
    }

    /// Whether a redrive should try the target again. Nothing can be tried with an image that the source lost.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        match self {
            Self::Replicated | Self::Unchanged | Self::Superseded | Self::Skipped => false,
            Self::Conflict | Self::Failed => true,
        }
    }
}

/// What PutManifest did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Put {
    /// What became of the image.
    pub status: Status,
    /// Manifests that were put.
    pub manifests_copied: usize,
    /// Manifests that were there.
    pub manifests_skipped: usize,
    /// Referrers that were put.
    pub referrers_copied: usize,
    /// Referrers that were there, or that the source has lost.
    pub referrers_skipped: usize,
    /// Referrers that the registry refused, or that cannot be read.
    pub referrers_refused: usize,
    /// The first of those.
    pub refusals: Vec<Refusal>,
    /// When the image stood at the target, tag and all.
    pub completed_at: Timestamp,
    /// How long it took.
    pub duration_ms: u64,
    /// How often a registry answered that it is asked too often.
    #[serde(default)]
    pub throttled: u64,
}

/// How many refusals are told one by one, and how much of what each says, as JSON, in bytes: for 60 targets they are carried
/// together.
pub const MOST_REFUSALS: usize = 4;
/// See [`MOST_REFUSALS`].
pub const REFUSAL_LIMIT: usize = 200;

/// A referrer that is not at the target, which does not keep its image from being there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// The referrer.
    pub digest: Digest,
    /// The tag that it has in cosign's scheme.
    pub tag: Option<ImageTag>,
    /// The error's name.
    pub error: String,
    /// What the error says.
    pub message: String,
}

/// An error that an iteration caught.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The state that failed.
    pub step: String,
    /// The error's name.
    pub error: String,
    /// Its cause as Step Functions gives it: for a function's error, a JSON text with `errorMessage`.
    pub cause: String,
}

/// What one iteration of ReplicateToTargets ends with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The target.
    pub target: Target,
    /// EnsureRepository's result, if it came to one.
    pub ensure: Option<Ensured>,
    /// What was copied. Absent when the iteration did not get there.
    #[serde(default)]
    pub copied: CopiedInAll,
    /// PutManifest's result, if it came to one.
    pub put: Option<Put>,
    /// How often its steps were tried again.
    #[serde(default)]
    pub retries: u64,
    /// What failed.
    pub failure: Option<Failure>,
}

/// One target in the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetReport {
    /// The target's region.
    pub region: Region,
    /// The repository's name there.
    pub repository: RepositoryName,
    /// The account whose registry it is, where that is another than the functions' own.
    #[serde(default)]
    pub registry_id: Option<RegistryId>,
    /// What became of it.
    pub status: Status,
    /// The round that this is from.
    pub round: u32,
    /// The step that failed.
    pub step: Option<String>,
    /// The error's name.
    pub error: Option<String>,
    /// What the error says.
    pub message: Option<String>,
    /// Whether the repository was made.
    pub repository_created: bool,
    /// The settings of a repository that existed which were not what they should be.
    #[serde(default)]
    pub settings: Vec<SettingChange>,
    /// Manifests put.
    pub manifests_copied: usize,
    /// Manifests that were there.
    pub manifests_skipped: usize,
    /// Referrers put.
    pub referrers_copied: usize,
    /// Referrers that were there, or that the source has lost.
    pub referrers_skipped: usize,
    /// Referrers that the target refused, or that cannot be read.
    pub referrers_refused: usize,
    /// The first of those.
    pub refusals: Vec<Refusal>,
    /// Blobs copied.
    pub layers_copied: usize,
    /// Those of them that were streamed; the others went by parts.
    pub layers_streamed: usize,
    /// Blobs that were there.
    pub layers_skipped: usize,
    /// Foreign layers.
    pub layers_foreign: usize,
    /// Bytes copied.
    pub bytes_copied: u64,
    /// Bytes that were there.
    pub bytes_skipped: u64,
    /// How many CopyLayers copied side by side.
    pub shards: usize,
    /// How often its steps were tried again.
    #[serde(default)]
    pub retries: u64,
    /// How often the source's registry or its own answered its steps that it is asked too often, and was asked again. What an
    /// attempt met that failed is not in it: that is a retry.
    #[serde(default)]
    pub throttled: u64,
    /// The time that the steps took.
    pub duration_ms: u64,
    /// The time that each of them took.
    #[serde(default)]
    pub steps: Steps,
    /// When the image stood there.
    pub completed_at: Option<Timestamp>,
    /// From the push to then; 0 where the push's clock is ahead.
    pub lag_ms: Option<i64>,
}

/// The time that the steps of a target took, in milliseconds; none where one came to no result. No step's is longer than it was
/// under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Steps {
    /// EnsureRepository.
    pub ensure_repository_ms: Option<u64>,
    /// CopyLayers; of shards that copied side by side, the one that took the longest.
    pub copy_layers_ms: Option<u64>,
    /// PutManifest.
    pub put_manifest_ms: Option<u64>,
}

/// The execution that a report is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Execution {
    /// Its ARN.
    pub arn: String,
    /// Its name.
    pub name: String,
    /// When it started.
    pub started_at: Timestamp,
    /// The ARN of the execution that started it, where one did: a repair's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_by: Option<String>,
}

/// The report of a round: `docs/report.schema.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The version of this document's schema.
    pub version: u32,
    /// The execution.
    pub execution: Execution,
    /// The rule that asked for it.
    pub rule: Option<String>,
    /// The round.
    pub round: u32,
    /// Whether a redrive tells it, after which its failed targets are the next round: it may have been told before.
    #[serde(default)]
    pub repeated: bool,
    /// The image.
    pub image: Image,
    /// Whether every target has the image.
    pub complete: bool,
    /// The outcome for a person: a sentence, and a line for each target that failed.
    pub summary: String,
    /// Every target, those of earlier rounds too.
    pub targets: Vec<TargetReport>,
    /// When the round was over.
    pub finished_at: Timestamp,
    /// From the execution's start to then.
    pub duration_ms: i64,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A duration in milliseconds.
#[must_use]
pub fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The time, in whole milliseconds.
#[must_use]
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}
