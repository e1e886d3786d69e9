//! FindDifferences: what of the source's images a target does not have.
//!
//! Each repository is listed once, and so is each repository of a target that it goes to, at a thousand images a call. What
//! differs goes to S3 as JSON Lines, and so does where the run stands: an invocation ends before it is killed and is called again,
//! and one that is lost is done again from the last state on.

mod compare;
mod manifests;
mod plan;
mod selection;
mod source;
mod transfer;

use std::{mem, sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _, stream};
use shared::{
    contract::{Execution, now},
    error::{ErrorName, Named},
    names::RepositoryName,
    patience::Patience,
    reconcile::{self, FindInput, Found, Item, Items, Mode, Problem, Request, State},
    registry::{Registries, RegistryError},
    rules::Unusable,
    serve::{Deadline, decode},
    service::{Bucket, ServiceError, StepFunctions},
};
use tokio::time::timeout;
use tracing::info;

use crate::{compare::Comparer, compare::Comparison, selection::Selection};

/// How many repositories are compared at once: the images of each are in memory.
const REPOSITORIES_AT_ONCE: usize = 4;

/// How many items an object has at most: as many as are in memory.
const ITEMS_AT_ONCE: u64 = 1000;

/// How long before its end an invocation stops comparing: what it knows is still to be written.
const RESERVE: Duration = Duration::from_secs(20);

/// How long before its end what fails may have failed for lack of time: a call that is throttled is given up when the next pause
/// would be too long.
const LATE: Duration = Duration::from_secs(30);

/// What the function works with.
#[derive(Debug)]
pub struct Dependencies {
    registries: Registries,
    bucket: Bucket,
    step_functions: StepFunctions,
    replication: String,
}

impl Dependencies {
    /// What `registries` reaches is compared, and goes to `bucket`. `replication` is the ARN of the state machine whose executions
    /// tell how fast images are copied.
    #[must_use]
    pub fn new(registries: Registries, bucket: Bucket, step_functions: StepFunctions, replication: String) -> Self {
        Self { registries, bucket, step_functions, replication }
    }
}

/// Why it is not known what differs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The execution's input is not what it must be.
    #[error("{0}")]
    InvalidInput(String),
    /// A verification without what it verifies.
    #[error("there is no finished state at {key}")]
    NothingToVerify {
        /// Its key.
        key: String,
    },
    /// An invocation came to nothing: a repository takes longer than it has.
    #[error("no repository could be compared within one invocation; the first is {}", first.as_ref().map_or("unknown", |it| it.as_str()))]
    OutOfTime {
        /// The first of those that were to be compared.
        first: Option<RepositoryName>,
    },
    /// The source could not be read.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// S3 or Step Functions did not answer.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

impl Named for Error {
    fn name(&self) -> ErrorName {
        match self {
            Self::InvalidInput(_) | Self::NothingToVerify { .. } => ErrorName::InvalidInput,
            Self::OutOfTime { .. } => ErrorName::RegistryUnavailable,
            Self::Registry(error) => error.name(),
            Self::Service(error) => error.name(),
        }
    }
}

impl From<Unusable> for Error {
    fn from(unusable: Unusable) -> Self {
        Self::InvalidInput(unusable.to_string())
    }
}

/// Goes on with a pass until it is done, or until there is no more time.
///
/// # Errors
/// `InvalidInput` naming the field, `AccessDenied`, `RegistryThrottled`, `RegistryUnavailable` when the source cannot be read, or
/// a repository takes longer than an invocation, `ReportUndelivered` when S3 or Step Functions do not answer.
pub async fn handle(dependencies: &Dependencies, input: FindInput, deadline: Deadline) -> Result<Found, Error> {
    let FindInput { execution, input, rules, round, verification } = input;
    let prefix = reconcile::prefix(&execution.name, round, verification);
    let pass = Pass { bucket: &dependencies.bucket, prefix };
    let (state, selection) = match pass.read().await? {
        Some(state) => {
            let selection =
                Selection::new(state.request.clone(), &rules, dependencies.registries.source(), state.began_at)?;
            (state, selection)
        }
        None if verification => {
            let found = Pass { bucket: &dependencies.bucket, prefix: reconcile::prefix(&execution.name, round, false) };
            let Some(found) = found.read().await?.filter(|found| found.done) else {
                return Err(Error::NothingToVerify { key: reconcile::state_key(&found.prefix) });
            };
            let selection =
                Selection::new(found.request.clone(), &rules, dependencies.registries.source(), found.began_at)?;
            // What was pushed while it was repaired has events of its own.
            (begin(found.request, &selection, found.began_at), selection)
        }
        None => {
            let request: Request =
                decode(&input).map_err(|problem| Error::InvalidInput(format!("input.{}", problem.error_message)))?;
            let began_at = now();
            let selection = Selection::new(request.clone(), &rules, dependencies.registries.source(), began_at)?;
            if let Some(other) = running_already(&dependencies.step_functions, &execution, round).await? {
                info!(execution = execution.name, other, "another one is running");
                let differences = Items { items: 0, ..pass.items(&State::default()) };
                return Ok(Found {
                    done: true,
                    mode: request.mode,
                    already_running: Some(other),
                    replicate: false,
                    differences,
                });
            }
            (begin(request, &selection, began_at), selection)
        }
    };
    let mut run = Run { dependencies, pass, selection: Arc::new(selection), state, deadline, lines: Lines::default() };
    if !run.state.done {
        // Boxed: its calls are many, and each has a place in it.
        Box::pin(run.go_on()).await?;
    }
    let Run { pass, state, .. } = run;
    info!(
        execution = execution.name,
        round,
        verification,
        done = state.done,
        repositories = state.repositories,
        images = state.images,
        differences = state.items,
        problems = state.problems.len(),
        "repositories compared"
    );
    Ok(Found {
        done: state.done,
        mode: state.request.mode,
        already_running: None,
        replicate: state.done && !verification && state.request.mode == Mode::Repair && state.items > 0,
        differences: pass.items(&state),
    })
}

/// The state of a pass that begins.
fn begin(request: Request, selection: &Selection, began_at: jiff::Timestamp) -> State {
    State { request, began_at, totals: selection.totals(), ..State::default() }
}

/// Another execution that goes before this one: of two that begin, the older; of one that is redriven and another, that one.
async fn running_already(
    step_functions: &StepFunctions,
    execution: &Execution,
    round: u32,
) -> Result<Option<String>, Error> {
    let machine =
        execution.arn.rsplit_once(':').map(|(machine, _)| machine.replacen(":execution:", ":stateMachine:", 1));
    let machine = machine.ok_or_else(|| Error::InvalidInput("execution.arn: is no execution's".to_owned()))?;
    let running = step_functions.running(&machine).await?;
    // Its time as this list has it: others may round.
    let itself = running.iter().find(|it| it.arn == execution.arn).map(|it| it.started_at);
    let begun = (itself.unwrap_or(execution.started_at), &execution.name);
    let others = running.iter().filter(|it| it.arn != execution.arn);
    let before = others.filter(|it| round > 1 || (it.started_at, &it.name) < begun);
    Ok(before.min_by_key(|it| (it.started_at, &it.name)).map(|it| it.arn.clone()))
}

/// A pass over the registry: its objects in S3.
struct Pass<'a> {
    bucket: &'a Bucket,
    prefix: String,
}

impl Pass<'_> {
    fn items(&self, state: &State) -> Items {
        let prefix = reconcile::items_prefix(&self.prefix);
        Items { bucket: self.bucket.name().to_owned(), prefix, items: state.items }
    }

    async fn read(&self) -> Result<Option<State>, ServiceError> {
        let key = reconcile::state_key(&self.prefix);
        let Some(content) = self.bucket.read(&key).await? else { return Ok(None) };
        let state = serde_json::from_slice(&content);
        state.map(Some).map_err(|error| ServiceError::unreadable("reading a state", &key, error))
    }

    async fn write(&self, state: &State) -> Result<(), ServiceError> {
        let key = reconcile::state_key(&self.prefix);
        let content = serde_json::to_vec(state).map_err(|error| ServiceError::unreadable("a state", &key, error))?;
        self.bucket.write(&key, "application/json", content).await
    }
}

/// Items that are not written yet.
#[derive(Default)]
struct Lines {
    content: Vec<u8>,
    count: u64,
    /// Whether an object was written since the state was.
    is_ahead: bool,
}

/// How comparing ended.
enum Ended {
    /// There is no more to compare.
    Done,
    /// There is no more time.
    OutOfTime,
    /// The source could not be read.
    Failed(Error),
}

/// An invocation's share of a pass.
struct Run<'a> {
    dependencies: &'a Dependencies,
    pass: Pass<'a>,
    selection: Arc<Selection>,
    state: State,
    deadline: Deadline,
    lines: Lines,
}

impl Run<'_> {
    async fn go_on(&mut self) -> Result<(), Error> {
        // A call that was lost may have written more than this one will.
        let last = reconcile::part_key(&self.pass.prefix, self.state.parts);
        self.pass.bucket.delete_after(&reconcile::items_prefix(&self.pass.prefix), &last).await?;
        let begun = self.stand();
        // What failed to be written is done again, with all that came after the last state.
        let ended = self.compare_all().await?;
        self.save().await?;
        match ended {
            Ended::Failed(error) => Err(error),
            Ended::OutOfTime if self.stand() == begun => {
                Err(Error::OutOfTime { first: self.state.pending.first().cloned() })
            }
            Ended::OutOfTime | Ended::Done => Ok(()),
        }
    }

    fn stand(&self) -> (u64, bool, Option<String>) {
        (self.state.repositories, self.state.listed, self.state.next_page.clone())
    }

    /// The time that is left for comparing.
    fn time_left(&self) -> Option<Duration> {
        self.deadline.remaining().checked_sub(RESERVE).filter(|time| !time.is_zero())
    }

    /// Compares repository after repository, for as long as there is time.
    async fn compare_all(&mut self) -> Result<Ended, Error> {
        loop {
            if self.time_left().is_none() {
                return Ok(Ended::OutOfTime);
            }
            if !self.state.pending.is_empty() {
                match self.compare_pending().await? {
                    Ended::Done => self.save().await?,
                    ended => return Ok(ended),
                }
            } else if self.state.listed {
                if self.state.request.mode == Mode::Plan {
                    let Dependencies { step_functions, replication, .. } = self.dependencies;
                    transfer::reckon(&mut self.state, step_functions, replication).await?;
                }
                self.state.done = true;
                return Ok(Ended::Done);
            } else {
                let registries = &self.dependencies.registries;
                let page = match registries.source_repositories(self.state.next_page.clone()).await {
                    Ok(page) => page,
                    Err(error) => return Ok(Ended::Failed(error.into())),
                };
                let names = page.entries.into_iter().filter(|name| !self.selection.rules_of(name).is_empty());
                self.state.pending = names.collect();
                (self.state.listed, self.state.next_page) = (page.next.is_none(), page.next);
            }
        }
    }

    /// Compares the repositories that are pending.
    async fn compare_pending(&mut self) -> Result<Ended, Error> {
        let selection = Arc::clone(&self.selection);
        let comparer = Comparer {
            registries: &self.dependencies.registries,
            selection: &selection,
            patience: Patience::until(self.deadline.clone()),
            began_at: self.state.began_at,
            mode: self.state.request.mode,
        };
        let names = self.state.pending.clone();
        let comparisons = names.into_iter().map(|name| comparer.compare(name).boxed_local());
        // In their order, so that what is pending is what comes after.
        let mut comparisons = stream::iter(comparisons).buffered(REPOSITORIES_AT_ONCE);
        loop {
            let Some(time) = self.time_left() else { return Ok(Ended::OutOfTime) };
            match timeout(time, comparisons.next()).await {
                Err(_) => return Ok(Ended::OutOfTime),
                Ok(None) => return Ok(Ended::Done),
                Ok(Some(ended)) if has_failed(&ended) && self.deadline.remaining() < LATE => {
                    return Ok(Ended::OutOfTime);
                }
                Ok(Some(Err(error))) => return Ok(Ended::Failed(error.into())),
                Ok(Some(Ok(comparison))) => self.take(comparison).await?,
            }
        }
    }

    /// Writes down what was found out about the first repository that was pending.
    async fn take(&mut self, comparison: Option<Comparison>) -> Result<(), Error> {
        let mut items = 0;
        if let Some(mut comparison) = comparison {
            for problem in mem::take(&mut comparison.problems) {
                add_problem(&mut self.state.problems, problem);
            }
            comparison.count(&mut self.state.totals);
            for (target, bytes) in comparison.bytes() {
                transfer::add(&mut self.state.transfers, target, bytes);
            }
            self.state.images += comparison.images() as u64;
            comparison
                .items(async |item| {
                    items += 1;
                    self.add(&item).await
                })
                .await?;
        }
        self.state.items += items;
        self.state.repositories += 1;
        self.state.pending.remove(0);
        if self.lines.is_ahead { Ok(self.save().await?) } else { Ok(()) }
    }

    async fn add(&mut self, item: &Item) -> Result<(), Error> {
        for difference in &item.differences {
            let (region, account) = (&difference.region, difference.registry_id.as_ref());
            let total = selection::total(&mut self.state.totals, &item.rule, region, account);
            *match difference.kind {
                reconcile::Kind::Missing => &mut total.missing,
                reconcile::Kind::OtherDigest => &mut total.other_digest,
                reconcile::Kind::ReferrersMissing => &mut total.referrers_missing,
                reconcile::Kind::Settings => &mut total.settings,
            } += 1;
        }
        serde_json::to_writer(&mut self.lines.content, item)
            .map_err(|error| ServiceError::unreadable("writing an item", &self.pass.prefix, error))?;
        self.lines.content.push(b'\n');
        self.lines.count += 1;
        if self.lines.count == ITEMS_AT_ONCE {
            self.write_part().await?;
        }
        Ok(())
    }

    async fn write_part(&mut self) -> Result<(), ServiceError> {
        let content = mem::take(&mut self.lines.content);
        self.lines.count = 0;
        self.state.parts += 1;
        self.lines.is_ahead = true;
        let key = reconcile::part_key(&self.pass.prefix, self.state.parts);
        self.pass.bucket.write(&key, "application/jsonl", content).await
    }

    /// Writes what is known, the state last.
    async fn save(&mut self) -> Result<(), ServiceError> {
        if self.lines.count > 0 {
            self.write_part().await?;
        }
        self.pass.write(&self.state).await?;
        self.lines.is_ahead = false;
        Ok(())
    }
}

/// Whether something could not be asked.
fn has_failed(compared: &Result<Option<Comparison>, RegistryError>) -> bool {
    compared.as_ref().map_or(true, |comparison| comparison.as_ref().is_some_and(|it| !it.problems.is_empty()))
}

fn add_problem(problems: &mut Vec<Problem>, problem: Problem) {
    let is_it = |known: &&mut Problem| {
        let key = |problem: &Problem| {
            let Problem { rule, region, registry_id, error, .. } = problem.clone();
            (rule, region, registry_id, error)
        };
        key(known) == key(&problem)
    };
    match problems.iter_mut().find(is_it) {
        Some(known) => known.repositories += problem.repositories,
        None => problems.push(problem),
    }
}
