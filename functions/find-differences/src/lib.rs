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
    service::{Bucket, ServiceError, StepFunctions, Version},
};
use tokio::time::timeout;
use tracing::info;

use crate::{
    compare::{Comparer, Comparison},
    selection::Selection,
};

/// How many repositories are compared at once: the images of each are in memory.
const REPOSITORIES_AT_ONCE: usize = 4;

/// How many items an object has at most: as many as are in memory.
const ITEMS_AT_ONCE: u64 = 1000;

/// How many repositories are compared before what is known is written, at the latest: what is lost is done again.
const REPOSITORIES_A_SAVE: u64 = 1000;

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
    /// The execution was redriven while another one is under way.
    #[error("the execution {other} is under way: redrive this one when that has ended")]
    RunUnderWay {
        /// Its ARN.
        other: String,
    },
    /// The list of repositories takes longer than an invocation.
    #[error("the source's repositories could not be listed within one invocation: {repositories} of the rules' were")]
    NotListed {
        /// How many of those that the rules take were.
        repositories: usize,
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
            Self::RunUnderWay { .. } => ErrorName::RunUnderWay,
            Self::NotListed { .. } | Self::OutOfTime { .. } => ErrorName::RegistryUnavailable,
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
/// `InvalidInput` naming the field, `RunUnderWay` when the execution was redriven beside another one, `AccessDenied`,
/// `RegistryThrottled`, `RegistryUnavailable` when the source cannot be read, or a repository takes longer than an invocation,
/// `ReportUndelivered` when S3 or Step Functions do not answer.
pub async fn handle(dependencies: &Dependencies, input: FindInput, deadline: Deadline) -> Result<Found, Error> {
    let FindInput { execution, input, rules, round, verification } = input;
    let pass = Pass { bucket: &dependencies.bucket, prefix: reconcile::prefix(&execution.name, round, verification) };
    let (mut state, version) = match pass.read().await? {
        Some(read) => read,
        None if verification => {
            let found = Pass { bucket: &dependencies.bucket, prefix: reconcile::prefix(&execution.name, round, false) };
            let Some((found, _)) = found.read().await?.filter(|(found, _)| found.done) else {
                return Err(Error::NothingToVerify { key: reconcile::state_key(&found.prefix) });
            };
            // What was pushed while it was repaired has events of its own; so has what is in repositories that were made since.
            let State { request, began_at, list, .. } = found;
            (State { request, began_at, list, ..State::default() }, Version::default())
        }
        None => {
            let request: Request =
                decode(&input).map_err(|problem| Error::InvalidInput(format!("input.{}", problem.error_message)))?;
            (State { request, began_at: now(), ..State::default() }, Version::default())
        }
    };
    let selection = Selection::new(state.request.clone(), &rules, dependencies.registries.source(), state.began_at)?;
    let is_begun = version != Version::default();
    if !state.done
        && !verification
        && let Some(other) = other_run(&dependencies.step_functions, &execution, round, &mut state, is_begun).await?
    {
        info!(execution = execution.name, other, "another one is running");
        return Ok(Found { already_running: Some(other), ..pass.found(&State { done: true, ..state }, false) });
    }
    let mut overtaken = false;
    if !state.done {
        if !is_begun {
            state.totals = selection.totals();
        }
        let (invocation, selection) = (fastrand::u64(..), Arc::new(selection));
        let (names, written) = (Arc::default(), Vec::new());
        let lines = Lines::default();
        let mut run =
            Run { dependencies, pass: &pass, selection, state, version, invocation, names, written, deadline, lines };
        // Boxed: its calls are many, and each has a place in it.
        overtaken = !Box::pin(run.go_on()).await?;
        state = run.state;
    }
    info!(
        execution = execution.name,
        round,
        verification,
        done = state.done,
        overtaken,
        repositories = state.repositories,
        images = state.images,
        differences = state.items,
        problems = state.problems.len(),
        "repositories compared"
    );
    Ok(pass.found(&state, !verification))
}

/// The run that this one is to leave alone; `state` knows of this one's redrives from then on.
///
/// Of two executions that begin, the older one goes on; the other one ends, and has nothing to be redriven. One that was redriven
/// is to fail instead, at its first call: that it is the first, the number of its redrives tells, which Step Functions lists, and
/// else a round that is not the first. A redrive that enters the Map, or a verification, does not come by here.
async fn other_run(
    step_functions: &StepFunctions,
    execution: &Execution,
    round: u32,
    state: &mut State,
    is_begun: bool,
) -> Result<Option<String>, Error> {
    let machine =
        execution.arn.rsplit_once(':').map(|(machine, _)| machine.replacen(":execution:", ":stateMachine:", 1));
    let machine = machine.ok_or_else(|| Error::InvalidInput("execution.arn: is no execution's".to_owned()))?;
    let running = step_functions.running(&machine).await?;
    let itself = running.iter().find(|it| it.arn == execution.arn);
    let redrives = itself.map_or(state.redrives, |it| it.redrives);
    let is_redriven = redrives > state.redrives || (round > 1 && !is_begun);
    // Its time as this list has it: others may round.
    let begun = (itself.map_or(execution.started_at, |it| it.started_at), &execution.name);
    let others = running.iter().filter(|it| it.arn != execution.arn);
    let before = others.filter(|it| is_redriven || (!is_begun && (it.started_at, &it.name) < begun));
    let before = before.min_by_key(|it| (it.started_at, &it.name)).map(|it| it.arn.clone());
    match before {
        Some(other) if is_redriven => Err(Error::RunUnderWay { other }),
        other => {
            state.redrives = redrives;
            Ok(other)
        }
    }
}

/// A pass over the registry: its objects in S3.
struct Pass<'a> {
    bucket: &'a Bucket,
    prefix: String,
}

impl Pass<'_> {
    /// What is answered of a pass that is where `state` says; `repairs` is whether a repair may follow it.
    fn found(&self, state: &State, repairs: bool) -> Found {
        let State { done, request, items, .. } = state;
        let prefix = reconcile::items_prefix(&self.prefix);
        Found {
            done: *done,
            mode: request.mode,
            already_running: None,
            replicate: *done && repairs && request.mode == Mode::Repair && *items > 0,
            differences: Items { bucket: self.bucket.name().to_owned(), prefix, items: *items },
        }
    }

    async fn read(&self) -> Result<Option<(State, Version)>, ServiceError> {
        let key = reconcile::state_key(&self.prefix);
        let Some((content, version)) = self.bucket.read_version(&key).await? else { return Ok(None) };
        let state = serde_json::from_slice(&content);
        let state = state.map_err(|error| ServiceError::unreadable("reading a state", &key, error))?;
        Ok(Some((state, version)))
    }

    /// Writes the state in the place of `version`; `None` where that is not what is there any more.
    async fn write(&self, state: &State, version: &Version) -> Result<Option<Version>, ServiceError> {
        let key = reconcile::state_key(&self.prefix);
        let content = serde_json::to_vec(state).map_err(|error| ServiceError::unreadable("a state", &key, error))?;
        self.bucket.replace(&key, "application/json", content, version).await
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
    /// The state is not this invocation's any more.
    Overtaken,
    /// The source could not be read.
    Failed(Error),
}

/// An invocation's share of a pass.
struct Run<'a> {
    dependencies: &'a Dependencies,
    pass: &'a Pass<'a>,
    selection: Arc<Selection>,
    state: State,
    version: Version,
    /// What tells its objects from those of another invocation.
    invocation: u64,
    /// The repositories that are compared, in their order.
    names: Arc<Vec<RepositoryName>>,
    /// The keys of what it wrote.
    written: Vec<String>,
    deadline: Deadline,
    lines: Lines,
}

impl Run<'_> {
    /// Compares what there is to compare. Whether the state is this invocation's: one that Lambda gave up may be under way beside
    /// the one that was called in its place, and whichever writes the state first goes on.
    async fn go_on(&mut self) -> Result<bool, Error> {
        let is_new = self.state.list.is_empty();
        if is_new {
            self.list().await?;
            if !self.save().await? {
                return self.leave().await;
            }
        } else {
            self.read_list().await?;
        }
        let begun = self.state.repositories;
        // What failed to be written is done again, with all that came after the last state.
        let ended = self.compare_all().await?;
        if matches!(ended, Ended::Overtaken) || !self.end(matches!(ended, Ended::Done)).await? {
            return self.leave().await;
        }
        match ended {
            Ended::Failed(error) => Err(error),
            Ended::OutOfTime if !is_new && self.state.repositories == begun => {
                Err(Error::OutOfTime { first: self.pending().next().cloned() })
            }
            Ended::OutOfTime | Ended::Overtaken | Ended::Done => Ok(true),
        }
    }

    /// Lists the repositories that the selection takes, and writes the list.
    async fn list(&mut self) -> Result<(), Error> {
        let (mut names, mut token) = (Vec::new(), None);
        loop {
            let listing = self.dependencies.registries.source_repositories(token);
            let time = self.time_left().unwrap_or_default();
            let page = timeout(time, listing).await.map_err(|_| Error::NotListed { repositories: names.len() })??;
            names.extend(page.entries.into_iter().filter(|name| !self.selection.rules_of(name).is_empty()));
            token = page.next;
            if token.is_none() {
                break;
            }
        }
        let key = reconcile::list_key(&self.pass.prefix, self.invocation);
        let content = serde_json::to_vec(&names).map_err(|error| ServiceError::unreadable("a list", &key, error))?;
        self.pass.bucket.write(&key, "application/json", content).await?;
        (self.state.list, self.names) = (key, Arc::new(names));
        Ok(())
    }

    async fn read_list(&mut self) -> Result<(), ServiceError> {
        let key = &self.state.list;
        let content = self.pass.bucket.read(key).await?.unwrap_or_default();
        let names = serde_json::from_slice(&content);
        self.names = Arc::new(names.map_err(|error| ServiceError::unreadable("reading a list", key, error))?);
        Ok(())
    }

    /// Ends the invocation's share: writes what is known, and, where all is, that it is done.
    async fn end(&mut self, done: bool) -> Result<bool, Error> {
        if done {
            if self.lines.count > 0 {
                self.write_part().await?;
            }
            // The Map reads whatever is there: what was lost may have written more.
            let keys = self.pass.bucket.keys(&reconcile::items_prefix(&self.pass.prefix)).await?;
            self.delete_unlisted(keys).await?;
            if self.state.request.mode == Mode::Plan {
                let Dependencies { step_functions, replication, .. } = self.dependencies;
                transfer::reckon(&mut self.state, step_functions, replication).await?;
            }
            self.state.done = true;
        }
        Ok(self.save().await?)
    }

    /// Goes by the state that another invocation wrote, and takes away what this one did.
    async fn leave(&mut self) -> Result<bool, Error> {
        if let Some((state, version)) = self.pass.read().await? {
            (self.state, self.version) = (State { done: false, ..state }, version);
        }
        let written = mem::take(&mut self.written);
        self.delete_unlisted(written).await?;
        Ok(false)
    }

    /// Deletes those of the objects `keys` that the state does not know of.
    async fn delete_unlisted(&self, mut keys: Vec<String>) -> Result<(), ServiceError> {
        keys.retain(|key| !self.state.parts.contains(key));
        self.pass.bucket.delete(&keys).await
    }

    /// The repositories that are still to be compared.
    fn pending(&self) -> impl Iterator<Item = &RepositoryName> {
        self.names.iter().skip(usize::try_from(self.state.repositories).unwrap_or(usize::MAX))
    }

    /// The time that is left for comparing.
    fn time_left(&self) -> Option<Duration> {
        self.deadline.remaining().checked_sub(RESERVE).filter(|time| !time.is_zero())
    }

    /// Compares repository after repository, for as long as there is time.
    async fn compare_all(&mut self) -> Result<Ended, Error> {
        let (selection, names) = (Arc::clone(&self.selection), Arc::clone(&self.names));
        let comparer = Comparer {
            registries: &self.dependencies.registries,
            selection: &selection,
            patience: Patience::until(self.deadline.clone()),
            began_at: self.state.began_at,
            mode: self.state.request.mode,
        };
        let pending = &names[names.len() - self.pending().count()..];
        let comparisons = pending.iter().map(|name| comparer.compare(name.clone()).boxed_local());
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
                Ok(Some(Ok(comparison))) => {
                    if !self.take(comparison).await? {
                        return Ok(Ended::Overtaken);
                    }
                }
            }
        }
    }

    /// Writes down what was found out about the first repository that was pending. Whether the state is this invocation's.
    async fn take(&mut self, comparison: Option<Comparison>) -> Result<bool, Error> {
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
        let is_due = self.lines.is_ahead || self.state.repositories.is_multiple_of(REPOSITORIES_A_SAVE);
        Ok(!is_due || self.save().await?)
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
        self.lines.is_ahead = true;
        let key = reconcile::part_key(&self.pass.prefix, self.state.parts.len() + 1, self.invocation);
        self.pass.bucket.write(&key, "application/jsonl", content).await?;
        self.written.push(key.clone());
        self.state.parts.push(key);
        Ok(())
    }

    /// Writes what is known, the state last. Whether that was this invocation's still.
    async fn save(&mut self) -> Result<bool, ServiceError> {
        if self.lines.count > 0 {
            self.write_part().await?;
        }
        let Some(version) = self.pass.write(&self.state, &self.version).await? else { return Ok(false) };
        self.version = version;
        self.lines.is_ahead = false;
        Ok(true)
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
