//! ReportDifferences: what a run found, and what its repair left, as one document; and the state that fails where something is
//! left.
//!
//! As Report of replicate-image, it is a Task that a redrive enters again: it asks Step Functions how often the execution was
//! redriven, and hands back to FindDifferences. What arrived meanwhile does not differ any more.

pub mod metrics;

use std::{fmt::Write as _, io::Write as _};

use jiff::Timestamp;
use serde::Deserialize;
use shared::{
    contract::now,
    error::{ErrorName, Named, shorten},
    reconcile::{
        self, Item, Items, Mode, ReplicationFailure, Report, ReportInput, Reported, State, items_prefix, prefix,
        report_key, state_key,
    },
    service::{Bucket, Events, Failed, ServiceError, StepFunctions},
};
use tracing::{info, warn};

/// The version of the report's schema.
const SCHEMA_VERSION: u32 = 1;

/// How many items that differ are told, and how many replications that failed.
const TOLD: usize = 20;

/// The most of a failed replication's message that is told, in bytes.
const MESSAGE_LIMIT: usize = 1000;

/// The most that the report has as an event, in bytes: an event has 256 KiB, and so does a state's output, with what is around it.
const EVENT_LIMIT: usize = 200 * 1024;

/// The most of one line of the summary, and of the summary, in bytes.
const LINE_LIMIT: usize = 1000;
const SUMMARY_LIMIT: usize = 8 * 1024;

/// What the function works with.
#[derive(Debug)]
pub struct Dependencies {
    bucket: Bucket,
    step_functions: StepFunctions,
    events: Events,
    deployment: String,
    drift_since: Option<Timestamp>,
}

impl Dependencies {
    /// Reports on what is in `bucket`; metrics are those of `deployment`, and of images that were pushed since `drift_since`.
    #[must_use]
    pub fn new(
        bucket: Bucket,
        step_functions: StepFunctions,
        events: Events,
        deployment: String,
        drift_since: Option<Timestamp>,
    ) -> Self {
        Self { bucket, step_functions, events, deployment, drift_since }
    }
}

/// Why the execution fails here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something differs after a repair.
    #[error("{summary}")]
    ReconcileIncomplete {
        /// What a person needs to know: a line for each rule and target.
        summary: String,
    },
    /// There is nothing to report on.
    #[error("there is no finished state at {key}")]
    NothingFound {
        /// Its key.
        key: String,
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
            Self::ReconcileIncomplete { .. } => ErrorName::ReconcileIncomplete,
            Self::NothingFound { .. } => ErrorName::InvalidInput,
            Self::ReportUndelivered { .. } => ErrorName::ReportUndelivered,
        }
    }
}

/// Reports a round; after a redrive, hands back to FindDifferences then.
///
/// # Errors
/// `ReconcileIncomplete` when something differs after a repair, `InvalidInput` when nothing was found, `ReportUndelivered` when
/// S3, EventBridge or Step Functions do not answer.
pub async fn handle(dependencies: &Dependencies, input: ReportInput) -> Result<Reported, Error> {
    let Dependencies { bucket, step_functions, events, deployment, drift_since } = dependencies;
    let ReportInput { ref execution, round, redrives } = input;
    let undelivered = |action| {
        move |source: Box<dyn std::error::Error + Send + Sync>| Error::ReportUndelivered { round, action, source }
    };
    let found = state(bucket, &prefix(&execution.name, round, false)).await;
    let found = found.map_err(|error| error.named(undelivered("made")))?;
    // Where nothing was repaired, what was found is what is left.
    let is_repaired = found.request.mode == Mode::Repair && found.items > 0;
    let place = prefix(&execution.name, round, is_repaired);
    let left = if is_repaired {
        state(bucket, &place).await.map_err(|error| error.named(undelivered("made")))?
    } else {
        found.clone()
    };
    let is_left = left.items > 0 || !left.problems.is_empty();
    let fails = is_left && found.request.mode == Mode::Repair;
    let redrives_now = if fails { step_functions.redrive_count(&execution.arn).await } else { Ok(redrives) };
    let is_redriven = redrives_now.as_ref().is_ok_and(|now| *now > redrives);
    let differences = first_items(bucket, &left).await.map_err(|error| undelivered("made")(error.into()))?;
    // The report does not wait for what only explains it.
    let failures = if fails && is_repaired {
        failures(step_functions, &execution.arn, found.began_at).await.unwrap_or_else(|error| {
            warn!(
                execution = execution.name,
                cause = shared::error::chain(&error),
                "failed replications are not known"
            );
            Vec::new()
        })
    } else {
        Vec::new()
    };
    let finished_at = now();
    let mut report = Report {
        version: SCHEMA_VERSION,
        round,
        // Nothing tells whether it was delivered before the execution failed: what failed may be that.
        repeated: is_redriven,
        complete: !is_left,
        summary: String::new(),
        repositories: left.repositories,
        images: left.images,
        found: found.items,
        items: left.items,
        totals: left.totals,
        problems: left.problems,
        transfers: left.transfers,
        differences,
        failures,
        all: Items { bucket: bucket.name().to_owned(), prefix: items_prefix(&place), items: left.items },
        document: report_key(&execution.name),
        shortened: false,
        finished_at,
        duration_ms: finished_at.as_millisecond() - execution.started_at.as_millisecond(),
        execution: execution.clone(),
        request: left.request,
    };
    report.summary = shorten(&summary(&report), SUMMARY_LIMIT);
    let document = serde_json::to_vec(&report).map_err(|error| undelivered("made")(error.into()))?;
    let written = bucket.write(&report.document, "application/json", document).await;
    written.map_err(|error| undelivered("written")(error.into()))?;
    let told = shortened(report.clone());
    publish(events, &told).await.map_err(undelivered("delivered"))?;
    if is_redriven {
        return Ok(Reported { reconcile: true, round: Some(round + 1), report: None });
    }
    let unknown = undelivered("decided on: Step Functions did not say how often the execution was redriven");
    redrives_now.map_err(|error| unknown(error.into()))?;
    // Once for each round: whatever is tried again comes before this.
    for line in metrics::lines(&report, deployment, *drift_since) {
        writeln!(std::io::stdout(), "{line}").map_err(|error| undelivered("measured")(error.into()))?;
    }
    info!(
        execution = execution.name,
        round,
        complete = report.complete,
        found = report.found,
        differences = report.items,
        problems = report.problems.len(),
        "reported"
    );
    if fails {
        return Err(Error::ReconcileIncomplete { summary: summary(&report) });
    }
    Ok(Reported { reconcile: false, round: None, report: Some(told) })
}

/// Why there is no state to be read.
enum Unread {
    Absent(String),
    Failed(ServiceError),
}

impl Unread {
    fn named(self, undelivered: impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> Error) -> Error {
        match self {
            Self::Absent(key) => Error::NothingFound { key },
            Self::Failed(error) => undelivered(error.into()),
        }
    }
}

/// The state of a pass that is done.
async fn state(bucket: &Bucket, prefix: &str) -> Result<State, Unread> {
    let key = state_key(prefix);
    let content = bucket.read(&key).await.map_err(Unread::Failed)?;
    let read = |content: Vec<u8>| serde_json::from_slice::<State>(&content);
    let state = content.map(read).transpose();
    let state = state.map_err(|error| Unread::Failed(ServiceError::unreadable("reading a state", &key, error)))?;
    state.filter(|state| state.done).ok_or(Unread::Absent(key))
}

/// The first items of a pass.
async fn first_items(bucket: &Bucket, state: &State) -> Result<Vec<Item>, ServiceError> {
    let mut items = Vec::new();
    for key in &state.parts {
        let content = bucket.read(key).await?.unwrap_or_default();
        let lines = content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        for line in lines.take(TOLD - items.len()) {
            let item = serde_json::from_slice(line);
            items.push(item.map_err(|error| ServiceError::unreadable("reading an item", key, error))?);
        }
        if items.len() == TOLD {
            break;
        }
    }
    Ok(items)
}

/// The first replications of the round's Map Run that failed.
async fn failures(
    step_functions: &StepFunctions,
    execution: &str,
    began_at: Timestamp,
) -> Result<Vec<ReplicationFailure>, ServiceError> {
    let most = i32::try_from(TOLD).unwrap_or(i32::MAX);
    let failed = step_functions.failed_children(execution, began_at, most).await?;
    // What is no item of ours failed before it could be replicated, and is among what differs.
    Ok(failed.into_iter().filter_map(failure).collect())
}

/// What is read of the cause of a state that waited for an execution: the execution, as DescribeExecution tells it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Nested {
    execution_arn: Option<String>,
    error: Option<String>,
    cause: Option<String>,
}

/// What failed, and why: the replication's own error where there is one.
fn failure(failed: Failed) -> Option<ReplicationFailure> {
    let Failed { arn, input, error, cause } = failed;
    let Item { rule, repository, tag, digest, .. } = serde_json::from_str(&input).ok()?;
    let nested: Nested = serde_json::from_str(&cause).unwrap_or_default();
    let message = nested.cause.as_deref().map_or(cause.as_str(), |cause| cause);
    Some(ReplicationFailure {
        rule,
        repository,
        tag,
        digest,
        execution: nested.execution_arn.unwrap_or(arn),
        error: nested.error.unwrap_or(error),
        message: shorten(message, MESSAGE_LIMIT),
    })
}

/// The report as an event has room for it: what is longest is left out first.
fn shortened(mut report: Report) -> Report {
    let is_too_long = |report: &Report| serde_json::to_vec(report).is_ok_and(|text| text.len() > EVENT_LIMIT);
    if is_too_long(&report) {
        report.shortened = true;
        report.totals.retain(|total| total.differences() > 0);
    }
    while is_too_long(&report) {
        let half = |length: usize| length / 2;
        match report.differences.len() {
            0 if report.totals.len() + report.problems.len() == 0 => break,
            0 => {
                report.totals.truncate(half(report.totals.len()));
                report.problems.truncate(half(report.problems.len()));
            }
            length => report.differences.truncate(half(length)),
        }
    }
    report
}

/// Writes the report to the log, a line of its own, and sends it as an event.
async fn publish(events: &Events, report: &Report) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let document = serde_json::to_string(report)?;
    writeln!(std::io::stdout(), "{document}")?;
    let complete = "ECR Registry Reconcile Complete";
    let detail_type = if report.complete { complete } else { "ECR Registry Reconcile Incomplete" };
    Ok(events.publish(detail_type, &report.execution.arn, document).await?)
}

/// Where a target is, for a person.
fn place(region: &shared::names::Region, account: Option<&shared::names::RegistryId>) -> String {
    account.map_or_else(|| region.to_string(), |account| format!("{region} of the account {account}"))
}

/// What a person reads: of a repair that left something, in the console as the execution's cause.
fn summary(report: &Report) -> String {
    let Report { repositories, images, found, items, .. } = report;
    let mut text = format!("{images} images in {repositories} repositories were compared: ");
    let is_repair = report.request.mode == Mode::Repair && *found > 0;
    // Writing to a text cannot fail.
    let _ = match (items, is_repair) {
        (0, false) => write!(text, "nothing differs."),
        (0, true) => write!(text, "{found} differed and were replicated, nothing differs any more."),
        (_, false) => write!(text, "{items} differ."),
        (_, true) => {
            write!(
                text,
                "{found} differed, {items} differ still. Mend the cause and redrive this execution: it goes on with those alone."
            )
        }
    };
    let mut lines = Vec::new();
    for total in report.totals.iter().filter(|total| total.differences() > 0) {
        let kinds = [
            (total.missing, "missing"),
            (total.other_digest, "with another digest"),
            (total.referrers_missing, "without a referrer"),
            (total.settings, "with other settings"),
        ];
        let kinds = kinds.iter().filter(|(count, _)| *count > 0).map(|(count, kind)| format!("{count} {kind}"));
        let kinds: Vec<String> = kinds.collect();
        let place = place(&total.region, total.registry_id.as_ref());
        lines.push(format!("{} in {place}: {} of {}", total.rule, kinds.join(", "), total.compared));
    }
    for problem in &report.problems {
        let place = place(&problem.region, problem.registry_id.as_ref());
        let reconcile::Problem { rule, error, message, repositories, .. } = problem;
        lines.push(format!("{rule} in {place}: unknown for {repositories} repositories, {error}: {message}"));
    }
    for failure in &report.failures {
        let ReplicationFailure { repository, tag, digest, error, message, .. } = failure;
        let tag = tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = digest.as_ref().map(|digest| format!("@{digest}")).unwrap_or_default();
        lines.push(format!("{repository}{tag}{digest}: {error}: {message}"));
    }
    for line in lines {
        let _ = write!(text, "\n{}", shorten(&line, LINE_LIMIT));
    }
    text
}
