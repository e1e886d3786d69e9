//! ResolveImage: an ECR event or a person's request becomes one pinned digest, its size, and its targets.
//!
//! The whole event travels here, because in an EventBridge input template a missing path cannot be told from an empty
//! string, and `image-tag` is either in an untagged push. So this is the one place that reads it.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::{
    contract::{Image, Referrer, Round, Target, milliseconds},
    error::{ErrorName, Named},
    manifest::{ManifestError, walk},
    names::{Digest, ImageTag, Region, RepositoryName},
    referrers,
    registry::{Registries, RegistryError, Repository},
    rules::{self, RequestedTarget, Rule, TargetName, Unusable, resolve_targets},
};
use tracing::info;

/// What the function is given.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    /// The execution's name, for the logs.
    pub execution: String,
    /// The execution's input.
    pub input: ExecutionInput,
    /// The rules of the deployment, by name. Each is read when it is named: one that cannot be read stops no other.
    #[serde(default)]
    pub rules: BTreeMap<String, Value>,
}

/// The execution's input: an event from a rule, or an image from a person.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExecutionInput {
    /// The ECR event, whole.
    event: Option<Event>,
    /// The image that a person asks for.
    image: Option<Request>,
    /// The rule's name: the image goes to its targets.
    rule: Option<String>,
    /// Where the image goes instead.
    targets: Option<Vec<RequestedTarget>>,
    /// The pace of an image that a person asks for.
    puts_per_second: Option<PutsPerSecond>,
    /// Whether an image that is asked for may be gone by now, which leaves nothing to do.
    #[serde(default)]
    may_be_gone: bool,
    /// The ARN of the execution that started this one. Step Functions' console reads it by this name, and links the two.
    #[serde(rename = "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID")]
    started_by: Option<String>,
}

/// How many PutImage calls an execution may make in a second in each registry of each region, so that several at once leave
/// each other a share of what ECR takes.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "f64")]
struct PutsPerSecond(f64);

impl TryFrom<f64> for PutsPerSecond {
    type Error = String;

    fn try_from(number: f64) -> Result<Self, String> {
        if number > 0.0 && number <= ECR_PUTS_PER_SECOND {
            Ok(Self(number))
        } else {
            Err(format!("is {number}: expected a number above 0, and at most {ECR_PUTS_PER_SECOND}"))
        }
    }
}

impl PutsPerSecond {
    /// How long each of so many targets waits before a put; `None` when that is too long for an invocation.
    fn interval(self, targets: u32) -> Option<Duration> {
        let interval = Duration::try_from_secs_f64(f64::from(targets) / self.0).ok()?;
        (interval <= LONGEST_PUT_INTERVAL).then_some(interval)
    }
}

/// What is read of an ECR event. Fields that ECR adds later are no error.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Event {
    detail_type: String,
    region: Region,
    time: Timestamp,
    detail: Detail,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Detail {
    action_type: String,
    result: String,
    repository_name: RepositoryName,
    image_digest: Digest,
    /// Absent or empty when the image was pushed without a tag.
    #[serde(default, deserialize_with = "tag_or_empty")]
    image_tag: Option<ImageTag>,
}

fn tag_or_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<ImageTag>, D::Error> {
    let tag = Option::<String>::deserialize(deserializer)?.filter(|tag| !tag.is_empty());
    tag.map(ImageTag::try_from).transpose().map_err(serde::de::Error::custom)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Request {
    repository: RepositoryName,
    tag: Option<ImageTag>,
    digest: Option<Digest>,
}

/// What the function answers.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// Whether there is something to replicate.
    pub replicate: bool,
    /// The first round, if there is.
    #[serde(flatten)]
    pub round: Option<Round>,
    /// Whether that can be told only when an index has had the time to follow.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub await_index: bool,
    /// Why there is not, if not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nothing_to_do: Option<NothingToDo>,
}

/// Why an execution has nothing to do.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NothingToDo {
    /// The reason.
    pub reason: Reason,
    /// The repository.
    pub repository: RepositoryName,
    /// The image; `None` where a tag was asked for that is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Its tag, where it was pushed, or asked for, with one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<ImageTag>,
    /// The reason, for a person.
    pub message: String,
}

/// The reasons for which a push needs no run of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Reason {
    /// It was pushed without a tag, and the rule does not ask for such images.
    Untagged,
    /// It is in an index, whose own push replicates it.
    InIndex,
    /// The source no longer has the image.
    ImageGone,
    /// The rule does not select it, which the rule's event pattern could not tell.
    NotSelected,
}

/// Why an image could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The input is not what it must be.
    #[error("{field}: {problem}")]
    InvalidInput {
        /// The field, as a path from the execution's input.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A person asked for an image that is not there.
    #[error("no image {image} in {repository} in {region}")]
    ImageNotFound {
        /// The tag or the digest.
        image: String,
        /// The repository.
        repository: RepositoryName,
        /// The source region.
        region: Region,
    },
    /// The image could not be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The source could not be asked.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl Named for Error {
    fn name(&self) -> ErrorName {
        match self {
            Self::InvalidInput { .. } => ErrorName::InvalidInput,
            Self::ImageNotFound { .. } => ErrorName::ImageNotFound,
            Self::Manifest(error) => error.name(),
            Self::Registry(error) => error.name(),
        }
    }
}

impl From<Unusable> for Error {
    fn from(Unusable { field, problem }: Unusable) -> Self {
        Self::InvalidInput { field, problem }
    }
}

fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Error {
    Error::InvalidInput { field: field.into(), problem: problem.into() }
}

/// An image that is to be pinned.
struct Wanted {
    repository: RepositoryName,
    tag: Option<ImageTag>,
    digest: Option<Digest>,
    /// An event's time; a person's request has none.
    pushed_at: Option<Timestamp>,
}

impl Wanted {
    fn is_event(&self) -> bool {
        self.pushed_at.is_some()
    }
}

/// How long after its push an untagged image is looked for in an index, in seconds: clients push a platform's manifest
/// seconds before the index that it is in. `AwaitIndex` in the state machine waits as long.
pub const INDEX_FOLLOWS_WITHIN: i64 = 60;

/// How many indexes are read at a time: they are in memory.
const INDEXES_AT_ONCE: usize = 100;

/// How many PutImage calls ECR takes in a second, in a registry of a region, by AWS's default.
const ECR_PUTS_PER_SECOND: f64 = 10.0;

/// The longest that PutManifest may have to wait before a put: it has time for two of them.
pub const LONGEST_PUT_INTERVAL: Duration = Duration::from_mins(2);

/// By how much the clock that an event's time is of may be ahead.
const FASTER_CLOCK: SignedDuration = SignedDuration::from_mins(5);

/// By how many seconds an event's time and an image's may differ: events have whole seconds.
const CLOCK_MARGIN: i64 = 60;

/// Resolves an execution's input.
///
/// # Errors
/// `InvalidInput` naming the field, `ImageNotFound` when a person asks for an image that is not there, or of a repository
/// that is not, `DigestMismatch`, `AccessDenied`, `RegistryThrottled`, `RegistryUnavailable`.
pub async fn handle(registries: &Registries, Input { execution, input, rules }: Input) -> Result<Output, Error> {
    let ExecutionInput { event, image, rule: name, targets, puts_per_second, may_be_gone, started_by } = input;
    let rule = match (&name, &targets) {
        (Some(_), Some(_)) => return Err(invalid("input", "needs either a `rule` or `targets`, and not both")),
        (Some(name), None) => Some(rules::find(name, &rules)?),
        (None, _) => None,
    };
    let rule = rule.as_ref();
    let wanted = match (event, image) {
        (Some(event), None) => from_event(event, registries.source())?,
        (None, Some(request)) => from_request(request)?,
        _ => return Err(invalid("input", "needs either `event` or `image`, and not both")),
    };
    for (field, is_given) in [("putsPerSecond", puts_per_second.is_some()), ("mayBeGone", may_be_gone)] {
        if is_given && wanted.is_event() {
            return Err(invalid(field, "is for an `image`, and not for an `event`"));
        }
    }
    let requested = rule.map(|rule| &rule.targets).or(targets.as_ref());
    let requested = requested.ok_or_else(|| invalid("input", "needs a `rule`, or `targets`"))?;
    let mut targets = resolve_targets(requested, &wanted.repository, registries.source())?;
    if let Some(puts_per_second) = puts_per_second {
        pace(&mut targets, puts_per_second)?;
    }
    let repository_settings = rule.and_then(|rule| rule.repository_settings.clone());
    // A person who names an image and a rule means it; but under a fixed name stands another repository's image.
    if let Some(rule) = rule
        && !wanted.is_event()
        && !rule.repositories.selects(wanted.repository.as_str())
        && let Some(place) =
            rule.targets.iter().position(|target| matches!(target.repository, Some(TargetName::Fixed(_))))
    {
        let problem = format!("has a fixed name, and the rule does not select {}", wanted.repository);
        return Err(invalid(format!("targets[{place}].repository"), problem));
    }
    let rule = rule.filter(|_| wanted.is_event());
    if let Some(rule) = rule
        && !rule.repositories.selects(wanted.repository.as_str())
    {
        let message = "the rule does not select its repository";
        return Ok(nothing_to_do(&execution, registries.source(), Reason::NotSelected, &wanted, message));
    }
    let source = registries.repository(registries.source(), &wanted.repository);
    let nothing_to_do = |reason, message: &str| nothing_to_do(&execution, source.region(), reason, &wanted, message);
    let (image, referrers) = match read(&source, &wanted, rule).await {
        Ok(Read::Image(image)) => *image,
        Ok(Read::TooEarly) => {
            let (region, repository) = (source.region(), source.name());
            let digest = wanted.digest.as_ref().map(Digest::as_str);
            info!(execution, %region, %repository, digest, "waiting for an index");
            return Ok(Output { replicate: false, round: None, await_index: true, nothing_to_do: None });
        }
        Ok(Read::NothingToDo(reason, message)) => return Ok(nothing_to_do(reason, &message)),
        Err(error) if (wanted.is_event() || may_be_gone) && error.name() == ErrorName::ImageNotFound => {
            return Ok(nothing_to_do(Reason::ImageGone, "the source no longer has it"));
        }
        Err(error) => return Err(error),
    };
    info!(
        execution,
        started_by,
        region = %image.region,
        repository = %image.repository,
        digest = %image.digest,
        tag = image.tag.as_ref().map(ImageTag::as_str),
        manifests = image.manifests,
        referrers = image.referrers,
        blobs = image.blobs,
        bytes = image.bytes,
        targets = targets.len(),
        "image resolved"
    );
    let round = Round {
        image,
        referrers,
        rule: name,
        round: 1,
        redrives: 0,
        targets,
        repository_settings,
        settled: Vec::new(),
    };
    Ok(Output { replicate: true, round: Some(round), await_index: false, nothing_to_do: None })
}

/// What the source told of an image.
enum Read {
    /// It is to be replicated, with its referrers.
    Image(Box<(Image, Vec<Referrer>)>),
    /// It may be a platform of an index that has not followed yet.
    TooEarly,
    /// It is not, and why.
    NothingToDo(Reason, String),
}

/// Reads what is wanted from the source; `rule` is that of an event.
async fn read(source: &Repository, wanted: &Wanted, rule: Option<&Rule>) -> Result<Read, Error> {
    let digest = pin(source, wanted).await?;
    let tree = walk(source, &digest, &[]).await?;
    // A referrer has no tag, or one that tells whose it is, and goes where what it refers to goes.
    let subject = tree.references.subject.clone().or_else(|| wanted.tag.as_ref().and_then(referrers::subject_of_tag));
    if let Some(rule) = rule
        && !is_tag_selected(rule, wanted, subject.as_ref(), source).await?
    {
        return Ok(Read::NothingToDo(Reason::NotSelected, "the rule does not select its tag".to_owned()));
    }
    if let (Some(pushed_at), None, None) = (wanted.pushed_at, &wanted.tag, &subject) {
        if !rule.is_some_and(|rule| rule.untagged) {
            let message = "pushed without a tag: if it is a platform of an index, the index's own push replicates it";
            return Ok(Read::NothingToDo(Reason::Untagged, message.to_owned()));
        }
        if Timestamp::now().duration_since(pushed_at).as_secs() < INDEX_FOLLOWS_WITHIN {
            return Ok(Read::TooEarly);
        }
        if let Some(index) = index_of(source, &digest, pushed_at).await? {
            let message = format!("a platform of the index {index}, whose own push replicates it");
            return Ok(Read::NothingToDo(Reason::InIndex, message));
        }
    }
    let (referrers, referrers_left_out) =
        referrers::find(source, tree.manifests().map(|manifest| manifest.digest.clone())).await?;
    let tree = if referrers.is_empty() { tree } else { walk(source, &digest, &referrers).await? };
    let image = Image {
        region: source.region().clone(),
        repository: wanted.repository.clone(),
        digest,
        tag: wanted.tag.clone(),
        manifests: tree.manifests().count(),
        media_type: tree.root.media_type,
        referrers: referrers.len(),
        referrers_left_out,
        blobs: tree.blobs.len(),
        bytes: tree.blobs.iter().map(|blob| blob.size).sum(),
        pushed_at: wanted.pushed_at,
    };
    Ok(Read::Image(Box::new((image, referrers))))
}

/// Whether the rule selects the tag of what was pushed: of a referrer, a tag of what it refers to, if that has one.
async fn is_tag_selected(
    rule: &Rule,
    wanted: &Wanted,
    subject: Option<&Digest>,
    source: &Repository,
) -> Result<bool, Error> {
    if rule.tags.selects_all() {
        return Ok(true);
    }
    let Some(subject) = subject else {
        return Ok(wanted.tag.as_ref().is_none_or(|tag| rule.tags.selects(tag.as_str())));
    };
    let tags = source.tags_of(subject).await?;
    Ok(tags.is_empty() || tags.iter().any(|tag| rule.tags.selects(tag.as_str())))
}

/// The index that has the manifest `digest`, if one was pushed since: an index cannot be there before what it names.
async fn index_of(source: &Repository, digest: &Digest, pushed_at: Timestamp) -> Result<Option<Digest>, Error> {
    let since = Timestamp::from_second(pushed_at.as_second() - CLOCK_MARGIN).unwrap_or(pushed_at);
    let indexes = source.indexes_since(since).await?;
    for indexes in indexes.chunks(INDEXES_AT_ONCE) {
        for index in source.manifests(indexes).await? {
            // One that cannot be read names nothing.
            if index.references().is_ok_and(|references| references.children.contains(digest)) {
                return Ok(Some(index.digest));
            }
        }
    }
    Ok(None)
}

fn from_event(event: Event, source: &Region) -> Result<Wanted, Error> {
    let detail = event.detail;
    for (field, given, wanted) in [
        ("event.detail-type", &event.detail_type, "ECR Image Action"),
        ("event.detail.action-type", &detail.action_type, "PUSH"),
        ("event.detail.result", &detail.result, "SUCCESS"),
    ] {
        if given != wanted {
            return Err(invalid(field, format!("is `{given}`, and only `{wanted}` is replicated")));
        }
    }
    if event.region != *source {
        return Err(invalid("event.region", format!("is {}, and this runs in {source}", event.region)));
    }
    // An image without a tag is looked for in an index until a while after its push.
    if event.time > Timestamp::now() + FASTER_CLOCK {
        return Err(invalid("event.time", format!("is {}, in the future", event.time)));
    }
    Ok(Wanted {
        repository: detail.repository_name,
        tag: detail.image_tag,
        digest: Some(detail.image_digest),
        pushed_at: Some(event.time),
    })
}

fn from_request(request: Request) -> Result<Wanted, Error> {
    if request.tag.is_none() && request.digest.is_none() {
        return Err(invalid("image", "needs a `tag`, a `digest`, or both"));
    }
    Ok(Wanted { repository: request.repository, tag: request.tag, digest: request.digest, pushed_at: None })
}

/// Has each of `targets` wait before a put, those of one registry for each other.
fn pace(targets: &mut [Target], puts_per_second: PutsPerSecond) -> Result<(), Error> {
    let registry = |target: &Target| (target.region.clone(), target.registry_id.clone());
    let mut sharing: HashMap<_, u32> = HashMap::new();
    for target in &*targets {
        *sharing.entry(registry(target)).or_default() += 1;
    }
    for target in targets {
        let sharing = sharing[&registry(target)];
        let interval = puts_per_second.interval(sharing).ok_or_else(|| {
            let problem = format!(
                "is {}, for {sharing} of the targets in {}: PutManifest can wait {} s before a put, and no longer",
                puts_per_second.0,
                target.region,
                LONGEST_PUT_INTERVAL.as_secs()
            );
            invalid("putsPerSecond", problem)
        })?;
        // Rounded up: never more puts than that.
        target.put_interval_ms = Some(milliseconds(interval + Duration::from_nanos(999_999)));
    }
    Ok(())
}

/// The digest to replicate: the event's, the person's, or the one that the tag points at now.
async fn pin(source: &Repository, wanted: &Wanted) -> Result<Digest, Error> {
    let tag = match (&wanted.digest, &wanted.tag) {
        (Some(digest), None) => return Ok(digest.clone()),
        // An event tells what its tag pointed at; whether it still does is PutManifest's to ask.
        (Some(digest), Some(_)) if wanted.is_event() => return Ok(digest.clone()),
        (_, tag) => tag.as_ref(),
    };
    let tagged = match tag {
        Some(tag) => source.tagged(tag).await?,
        None => None,
    };
    match (tagged, &wanted.digest) {
        (Some(tagged), Some(digest)) if tagged != *digest => {
            Err(invalid("image.tag", format!("points at {tagged}, and not at {digest}")))
        }
        (Some(tagged), _) => Ok(tagged),
        (None, _) => Err(Error::ImageNotFound {
            image: tag.map(ToString::to_string).unwrap_or_default(),
            repository: source.name().clone(),
            region: source.region().clone(),
        }),
    }
}

fn nothing_to_do(execution: &str, source: &Region, reason: Reason, wanted: &Wanted, message: &str) -> Output {
    let (digest, tag) = (wanted.digest.as_ref().map(Digest::as_str), wanted.tag.as_ref().map(ImageTag::as_str));
    info!(execution, region = %source, repository = %wanted.repository, digest, tag, ?reason, "nothing to do");
    let nothing_to_do = NothingToDo {
        reason,
        repository: wanted.repository.clone(),
        digest: wanted.digest.clone(),
        tag: wanted.tag.clone(),
        message: message.to_owned(),
    };
    Output { replicate: false, round: None, await_index: false, nothing_to_do: Some(nothing_to_do) }
}
