//! Report: one document for each round, and the state that fails when a target does not have the image.
//!
//! A Fail state would fail again when redriven, and an iteration that caught its error counts as succeeded, so neither
//! could carry a redrive. This is a Task, and is entered again with the same input. It asks Step Functions how often
//! the execution was redriven, because nothing documents that a redriven Task's arguments are evaluated anew.

pub mod metrics;

use std::io::Write as _;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use shared::{
    config::SdkConfig,
    contract::{
        Execution, Failure, Image, Outcome, Referrer, Report, RepositorySettings, Round, Status, Steps, Target,
        TargetReport,
    },
    error::{ErrorName, Named, shorten},
    serve::decode,
    service::{Events, StepFunctions},
};

/// The version of the report's schema.
const SCHEMA_VERSION: u32 = 1;

/// The state that runs when every blob is at the target.
const PUT_MANIFEST: &str = "PutManifest";

/// The most of one target's error that the execution's cause repeats, in bytes.
const LINE_LIMIT: usize = 1000;

/// The most of the summary that the report has, in bytes: an event has 256 KiB, and each target says what it has to say, too.
const SUMMARY_LIMIT: usize = 8 * 1024;

/// What the function works with.
#[derive(Debug)]
pub struct Dependencies {
    step_functions: StepFunctions,
    events: Events,
    deployment: String,
}

impl Dependencies {
    /// Clients for the region and the account of `config`; metrics are those of `deployment`.
    #[must_use]
    pub fn new(config: &SdkConfig, deployment: String) -> Self {
        Self { step_functions: StepFunctions::new(config), events: Events::new(config), deployment }
    }
}

/// What the function is given.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    /// The execution.
    pub execution: Execution,
    /// The round that is over.
    pub round: FinishedRound,
}

/// A round that is over.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FinishedRound {
    /// The image.
    pub image: Image,
    /// Its referrers.
    pub referrers: Vec<Referrer>,
    /// The rule that asked for it.
    pub rule: Option<String>,
    /// The round's number.
    pub round: u32,
    /// How often the execution had been redriven when the round was over.
    pub redrives: u32,
    /// The rule's own settings for target repositories.
    #[serde(default)]
    pub repository_settings: Option<RepositorySettings>,
    /// What earlier rounds finished.
    pub settled: Vec<TargetReport>,
    /// How this round's iterations ended.
    pub outcomes: Vec<Ended>,
    /// When they had.
    pub finished_at: Timestamp,
}

/// An iteration's end, of which only what the state machine says itself is read at once: where a function answered what is
/// no answer, its target failed, and the others are reported all the same.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    target: Target,
    ensure: Option<Value>,
    copied: Option<Value>,
    put: Option<Value>,
    #[serde(default)]
    retries: u64,
    failure: Option<Failure>,
}

impl From<Ended> for Outcome {
    fn from(Ended { target, ensure, copied, put, retries, mut failure }: Ended) -> Self {
        let ensure = answered("EnsureRepository", ensure, &mut failure);
        let copied = answered("CopyLayers", copied, &mut failure).unwrap_or_default();
        let put = answered(PUT_MANIFEST, put, &mut failure);
        Self { target, ensure, copied, put, retries, failure }
    }
}

/// What a step answered; where that is no answer, the step failed, unless one did already.
fn answered<T: DeserializeOwned>(step: &str, answer: Option<Value>, failure: &mut Option<Failure>) -> Option<T> {
    decode(answer?)
        .inspect_err(|problem| {
            failure.get_or_insert_with(|| Failure {
                step: step.to_owned(),
                error: ErrorName::Internal.to_string(),
                cause: format!("the step answered what is no answer: {}", problem.error_message),
            });
        })
        .ok()
}

/// What the function answers.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// Whether another round is due.
    pub replicate: bool,
    /// That round.
    #[serde(flatten)]
    pub round: Option<Round>,
    /// The report, when no round is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
}

/// Why the execution fails here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// At least one target does not have the image.
    #[error("{summary}")]
    ReplicationIncomplete {
        /// What a person needs to know: a line for each such target.
        summary: String,
    },
    /// The report is not delivered.
    #[error("the report of round {round} could not be {action}")]
    ReportUndelivered {
        /// The round.
        round: u32,
        /// What failed.
        action: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Named for Error {
    fn name(&self) -> ErrorName {
        match self {
            Self::ReplicationIncomplete { .. } => ErrorName::ReplicationIncomplete,
            Self::ReportUndelivered { .. } => ErrorName::ReportUndelivered,
        }
    }
}

/// Reports a round; after a redrive, hands its failed targets back as the next one.
///
/// # Errors
/// `ReplicationIncomplete` when a target does not have the image, `ReportUndelivered` when EventBridge or Step
/// Functions do not answer.
pub async fn handle(dependencies: &Dependencies, Input { execution, mut round }: Input) -> Result<Output, Error> {
    let (number, redrives) = (round.round, round.redrives);
    let handed_on = HandedOn {
        referrers: std::mem::take(&mut round.referrers),
        repository_settings: round.repository_settings.take(),
        targets: round.outcomes.iter().map(|ended| ended.target.clone()).collect(),
    };
    let mut report = report(execution, round);
    let undelivered = |action| {
        move |source: Box<dyn std::error::Error + Send + Sync>| Error::ReportUndelivered {
            round: number,
            action,
            source,
        }
    };
    let failed = report.targets.iter().any(|target| target.status.is_failure());
    let redrives_now =
        if failed { dependencies.step_functions.redrive_count(&report.execution.arn).await } else { Ok(redrives) };
    let beyond = redrives_now.as_ref().ok().copied().filter(|now| *now > redrives);
    // Nothing tells whether it was delivered before the execution failed: what failed may be that.
    report.repeated = beyond.is_some();
    // What happened is told, whether or not it is known what is next.
    publish(&dependencies.events, &report).await.map_err(undelivered("delivered"))?;
    if let Some(redrives) = beyond {
        return Ok(next_round(report, handed_on, redrives));
    }
    let unknown = undelivered("decided on: Step Functions did not say how often the execution was redriven");
    redrives_now.map_err(|error| unknown(error.into()))?;
    // Once for each round: whatever is tried again comes before this.
    for line in metrics::lines(&report, &dependencies.deployment) {
        writeln!(std::io::stdout(), "{line}").map_err(|error| undelivered("measured")(error.into()))?;
    }
    if failed {
        return Err(Error::ReplicationIncomplete { summary: summary(&report) });
    }
    Ok(Output { replicate: false, round: None, report: Some(report) })
}

/// The report of a round that is over.
#[must_use]
pub fn report(execution: Execution, round: FinishedRound) -> Report {
    let FinishedRound { image, rule, round, settled: mut targets, outcomes, finished_at, .. } = round;
    targets.extend(outcomes.into_iter().map(|ended| target_report(ended.into(), round, &image)));
    let mut report = Report {
        version: SCHEMA_VERSION,
        complete: targets.iter().all(|target| target.status.is_complete()),
        duration_ms: milliseconds_between(execution.started_at, finished_at),
        execution,
        rule,
        round,
        repeated: false,
        image,
        summary: String::new(),
        targets,
        finished_at,
    };
    report.summary = shorten(&summary(&report), SUMMARY_LIMIT);
    report
}

fn target_report(outcome: Outcome, round: u32, image: &Image) -> TargetReport {
    let Outcome { target, ensure, copied, put, retries, failure } = outcome;
    let status = match (&put, &failure) {
        (Some(put), None) => put.status,
        (_, Some(failure)) if failure.error == ErrorName::ImageNotFound.as_str() => Status::Skipped,
        (_, Some(failure)) if failure.error == ErrorName::TagConflict.as_str() => Status::Conflict,
        _ => Status::Failed,
    };
    // What was there is known once the copy is complete: it is what the copy did not have to send. Of an image that was
    // gone, nothing was looked for.
    let copied_all = match &failure {
        Some(failure) => failure.step == PUT_MANIFEST && failure.error != ErrorName::ImageNotFound.as_str(),
        None => put.is_some(),
    };
    let (step, error, message) = match failure {
        Some(failure) => (Some(failure.step), Some(failure.error), Some(message(&failure.cause))),
        None => (None, None, None),
    };
    let steps = Steps {
        ensure_repository_ms: ensure.as_ref().map(|ensure| ensure.duration_ms),
        copy_layers_ms: (copied.shards > 0).then_some(copied.duration_ms),
        put_manifest_ms: put.as_ref().map(|put| put.duration_ms),
    };
    let durations = [steps.ensure_repository_ms, steps.copy_layers_ms, steps.put_manifest_ms];
    let throttled =
        [ensure.as_ref().map(|ensure| ensure.throttled), Some(copied.throttled), put.as_ref().map(|put| put.throttled)];
    let completed_at = put.as_ref().map(|put| put.completed_at);
    // An event's time is another clock's.
    let lag = |(pushed, completed)| milliseconds_between(pushed, completed).max(0);
    TargetReport {
        region: target.region,
        repository: target.repository,
        registry_id: target.registry_id,
        status,
        round,
        step,
        error,
        message,
        repository_created: ensure.as_ref().is_some_and(|ensure| ensure.created),
        settings: ensure.map(|ensure| ensure.settings).unwrap_or_default(),
        manifests_copied: put.as_ref().map_or(0, |put| put.manifests_copied),
        manifests_skipped: put.as_ref().map_or(0, |put| put.manifests_skipped),
        referrers_copied: put.as_ref().map_or(0, |put| put.referrers_copied),
        referrers_skipped: put.as_ref().map_or(0, |put| put.referrers_skipped),
        referrers_refused: put.as_ref().map_or(0, |put| put.referrers_refused),
        refusals: put.as_ref().map(|put| put.refusals.clone()).unwrap_or_default(),
        layers_copied: copied.layers_copied,
        layers_streamed: copied.layers_streamed,
        layers_skipped: if copied_all { image.blobs.saturating_sub(copied.layers_copied) } else { 0 },
        layers_foreign: copied.layers_foreign,
        bytes_copied: copied.bytes_copied,
        bytes_skipped: if copied_all { image.bytes.saturating_sub(copied.bytes_copied) } else { 0 },
        shards: copied.shards,
        retries,
        throttled: throttled.into_iter().flatten().sum(),
        duration_ms: durations.into_iter().flatten().sum(),
        steps,
        completed_at,
        lag_ms: image.pushed_at.zip(completed_at).map(lag),
    }
}

/// What a caught error says: a function's `errorMessage`, or else the cause as it is.
#[must_use]
pub fn message(cause: &str) -> String {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Cause {
        error_message: String,
    }
    serde_json::from_str::<Cause>(cause).map_or_else(|_| cause.to_owned(), |cause| cause.error_message)
}

fn milliseconds_between(from: Timestamp, to: Timestamp) -> i64 {
    to.as_millisecond() - from.as_millisecond()
}

/// What a next round needs of the one that is over, and the report does not tell.
struct HandedOn {
    referrers: Vec<Referrer>,
    repository_settings: Option<RepositorySettings>,
    targets: Vec<Target>,
}

/// The failed targets of `report` as the next round.
fn next_round(report: Report, handed_on: HandedOn, redrives: u32) -> Output {
    let HandedOn { referrers, repository_settings, targets } = handed_on;
    let Report { image, rule, round, targets: reports, .. } = report;
    // What earlier rounds settled comes before this round's targets, and none of it failed.
    let (mut settled, of_round) = (reports, targets.len());
    let reports = settled.split_off(settled.len() - of_round);
    let (failed, arrived): (Vec<_>, Vec<_>) =
        targets.into_iter().zip(reports).partition(|(_, report)| report.status.is_failure());
    settled.extend(arrived.into_iter().map(|(_, report)| report));
    let targets = failed.into_iter().map(|(target, _)| target).collect();
    let round = Round { image, referrers, rule, round: round + 1, redrives, targets, repository_settings, settled };
    Output { replicate: true, round: Some(round), report: None }
}

/// Writes the report to the log, a line of its own, and sends it as an event.
async fn publish(events: &Events, report: &Report) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let document = serde_json::to_string(report)?;
    writeln!(std::io::stdout(), "{document}")?;
    let detail_type = if report.complete { "Image Replication Complete" } else { "Image Replication Incomplete" };
    Ok(events.publish(detail_type, &report.execution.arn, document).await?)
}

/// What a person reads: of a round that failed, in the console as the execution's cause.
fn summary(report: &Report) -> String {
    let image = &report.image;
    let tag = image.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
    let failures: Vec<&TargetReport> = report.targets.iter().filter(|target| target.status.is_failure()).collect();
    let (image, count) = (format!("{}{tag} ({})", image.repository, image.digest), report.targets.len());
    if report.complete {
        return format!("{image} is at all of {count} targets.");
    }
    if failures.is_empty() {
        let gone = report.targets.iter().filter(|target| target.status == Status::Skipped).count();
        return format!("{image} was deleted at the source before it was at {gone} of {count} targets.");
    }
    let mut text = format!(
        "{image} is not complete at {} of {count} targets. Mend the cause and redrive this execution: it goes on with those alone.",
        failures.len(),
    );
    for target in failures {
        let account = target.registry_id.as_ref().map(|id| format!(" of the account {id}")).unwrap_or_default();
        let line = format!(
            "\n{} {}{account}: {} failed with {}: {}",
            target.region,
            target.repository,
            target.step.as_deref().unwrap_or("a step"),
            target.error.as_deref().unwrap_or("no error"),
            target.message.as_deref().unwrap_or_default()
        );
        text.push_str(&shorten(&line, LINE_LIMIT));
    }
    text
}
