//! An execution, read out of its history.
//!
//! Every event of a history names the one that it follows, and so whose it is: the iterations of a Map run side by side, and
//! their events lie between each other.

use std::collections::HashMap;

use aws_sdk_sfn::{
    operation::describe_execution::DescribeExecutionOutput,
    primitives::DateTime,
    types::{ExecutionStatus, HistoryEvent, HistoryEventType as Type, TaskScheduledEventDetails},
};
use jiff::{Timestamp, Unit};
use report::FinishedRound;
use serde::Deserialize;
use serde_json::Value;
use shared::contract::{Execution, TargetReport};

use crate::Error;

/// The Map over the targets, and the one over the shards of one target's copy.
const TARGETS: &str = "ReplicateToTargets";
const SHARDS: &str = "CopyShards";

/// The states that an execution of this state machine enters first: at its start, or in a local redrive.
const FIRST_STATES: [&str; 4] = ["ResolveImage", "AwaitIndex", TARGETS, "Report"];

/// An execution of the state machine.
#[derive(Debug)]
pub struct Run {
    /// Its ARN.
    pub arn: String,
    /// Where it stands.
    pub status: ExecutionStatus,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it ended; of one that runs, when it was looked at.
    pub ended_at: Timestamp,
    /// The error that it failed with.
    pub error: Option<Failed>,
    /// The image.
    pub image: Pictured,
    /// The rule that asked for it.
    pub rule: Option<String>,
    /// Why there was nothing to do.
    pub nothing_to_do: Option<String>,
    /// How many rounds it has had.
    pub rounds: usize,
    /// Every target, in the order of the first round.
    pub targets: Vec<TargetRun>,
    /// The tasks and the waits, in the order in which they were entered.
    pub steps: Vec<Step>,
    /// From its start, and from each redrive, to when it failed or was over.
    pub parts: Vec<Part>,
    /// Why the figures of a round cannot be told.
    pub unreadable: Option<String>,
}

/// What is known of the image. All of it is optional: an execution may have failed before it was known.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Pictured {
    /// The source region.
    pub region: Option<String>,
    /// The source repository.
    pub repository: Option<String>,
    /// The tag.
    pub tag: Option<String>,
    /// The digest.
    pub digest: Option<String>,
    /// The size of its blobs.
    pub bytes: Option<u64>,
    /// How many manifests it has.
    pub manifests: Option<usize>,
    /// How many blobs it has.
    pub blobs: Option<usize>,
}

/// A target of the execution.
#[derive(Debug)]
pub struct TargetRun {
    /// Where it is.
    pub place: Place,
    /// What the last round that is over reports of it.
    pub report: Option<TargetReport>,
}

/// What tells targets apart.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// Its region.
    pub region: String,
    /// The repository there.
    pub repository: String,
    /// The account, where it is another than the functions' own.
    pub registry_id: Option<String>,
}

/// A state that takes time: a task or a wait.
#[derive(Debug)]
pub struct Step {
    /// The state's name.
    pub name: String,
    /// The target that it is for, of those of the run.
    pub target: Option<usize>,
    /// The shard that it copies, from 1, where the copy was handed out.
    pub shard: Option<usize>,
    /// Its attempts. A wait is one.
    pub attempts: Vec<Attempt>,
    /// Whether it waits for a time to pass.
    pub is_wait: bool,
    layers: Value,
    is_open: bool,
}

/// An attempt at a task.
#[derive(Debug)]
pub struct Attempt {
    /// The part of the run that it is in.
    pub part: usize,
    /// When it was scheduled.
    pub start: Timestamp,
    /// When it was over. Of one that is not: the end of its part.
    pub end: Timestamp,
    /// What came of it.
    pub end_state: End,
    /// Whether it was made because the one before it failed.
    pub is_retry: bool,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It is under way.
    Running,
    /// It succeeded.
    Succeeded,
    /// It failed.
    Failed(Failed),
    /// The execution ended before it did.
    Stopped,
}

/// An error, as it was caught.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Its name.
    pub error: String,
    /// What it says.
    pub message: String,
}

impl Failed {
    fn of(error: Option<&str>, cause: Option<&str>) -> Self {
        Self { error: error.unwrap_or("no error").to_owned(), message: report::message(cause.unwrap_or_default()) }
    }
}

/// A stretch of the execution without a redrive in it.
#[derive(Debug)]
pub struct Part {
    /// When it began.
    pub start: Timestamp,
    /// When it was over.
    pub end: Timestamp,
}

/// What took the longest: a step in one part of the run, of the target that took the longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slowest {
    /// The target.
    pub target: usize,
    /// The part.
    pub part: usize,
    /// The step.
    pub step: usize,
    /// How long the target took, in milliseconds.
    pub target_ms: i64,
    /// How long the step did, retries and the waits before them included.
    pub step_ms: i64,
}

impl Run {
    /// Reads an execution that was asked for at `now`.
    ///
    /// # Errors
    /// If it is of another state machine.
    pub fn of(described: DescribeExecutionOutput, history: &[HistoryEvent], now: Timestamp) -> Result<Self, Error> {
        let first = history.iter().find_map(|event| event.state_entered_event_details.as_ref());
        if let Some(first) = first.filter(|first| !FIRST_STATES.contains(&first.name())) {
            return Err(Error::OtherStateMachine {
                arn: described.execution_arn,
                state_machine: described.state_machine_arn,
                state: first.name.clone(),
            });
        }
        let mut reader = Reader::new(described, now);
        for event in history {
            reader.read(event);
        }
        Ok(reader.end())
    }

    /// How often a target's tasks were tried again.
    #[must_use]
    pub fn retries(&self, target: usize) -> usize {
        let steps = self.steps.iter().filter(|step| step.target == Some(target));
        steps.flat_map(|step| &step.attempts).filter(|attempt| attempt.is_retry).count()
    }

    /// What took the longest, if there was a target.
    #[must_use]
    pub fn slowest(&self) -> Option<Slowest> {
        let lanes = (0..self.targets.len()).flat_map(|target| (0..self.parts.len()).map(move |part| (target, part)));
        let lanes = lanes.filter_map(|(target, part)| {
            let steps = self.steps.iter().filter(|step| step.target == Some(target));
            Some((target, part, length(steps.flat_map(|step| step.in_part(part)))?))
        });
        let (target, part, target_ms) = lanes.max_by_key(|(_, _, length)| *length)?;
        let steps = self.steps.iter().enumerate().filter(|(_, step)| step.target == Some(target));
        let steps = steps.filter_map(|(index, step)| Some((index, length(step.in_part(part))?)));
        let (step, step_ms) = steps.max_by_key(|(_, length)| *length)?;
        Some(Slowest { target, part, step, target_ms, step_ms })
    }
}

impl Step {
    /// The attempts of a part of the run.
    pub fn in_part(&self, part: usize) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(move |attempt| attempt.part == part)
    }
}

/// From the first start to the last end, in milliseconds.
fn length<'attempt>(attempts: impl Iterator<Item = &'attempt Attempt>) -> Option<i64> {
    let (starts, ends): (Vec<_>, Vec<_>) = attempts.map(|attempt| (attempt.start, attempt.end)).unzip();
    Some(ends.into_iter().max()?.as_millisecond() - starts.into_iter().min()?.as_millisecond())
}

/// Whose an event is.
#[derive(Debug, Clone, Default)]
struct Whose {
    shard: Option<usize>,
    step: Option<usize>,
}

struct Reader {
    run: Run,
    execution: Execution,
    /// Of every event that was read.
    whose: HashMap<i64, Whose>,
}

impl Reader {
    fn new(described: DescribeExecutionOutput, now: Timestamp) -> Self {
        let started_at = timestamp(described.start_date);
        let input = json(described.input()).unwrap_or_default();
        let output = json(described.output()).unwrap_or_default();
        let is_failed = described.error.is_some() || described.cause.is_some();
        let execution = Execution {
            name: described.name.unwrap_or_default(),
            arn: described.execution_arn.clone(),
            started_at,
            started_by: input["AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID"].as_str().map(ToOwned::to_owned),
        };
        let run = Run {
            arn: described.execution_arn,
            started_at,
            ended_at: described.stop_date.map_or(now, timestamp),
            error: is_failed.then(|| Failed::of(described.error.as_deref(), described.cause.as_deref())),
            status: described.status,
            image: asked_for(&input),
            rule: input["rule"].as_str().map(ToOwned::to_owned),
            nothing_to_do: output["nothingToDo"]["message"].as_str().map(ToOwned::to_owned),
            rounds: 0,
            targets: Vec::new(),
            steps: Vec::new(),
            parts: vec![Part { start: started_at, end: started_at }],
            unreadable: None,
        };
        Self { run, execution, whose: HashMap::new() }
    }

    fn read(&mut self, event: &HistoryEvent) {
        let at = timestamp(event.timestamp);
        let mut whose = self.whose.get(&event.previous_event_id).cloned().unwrap_or_default();
        match &event.r#type {
            Type::MapIterationStarted => {
                let iteration = event.map_iteration_started_event_details.as_ref();
                let shard = iteration.filter(|iteration| iteration.name() == Some(SHARDS));
                whose.shard = shard.and_then(|iteration| usize::try_from(iteration.index).ok()).map(|index| index + 1);
                whose.step = None;
            }
            Type::MapStateEntered => self.enter_map(event),
            Type::MapStateExited => {
                whose = Whose::default();
                self.exit_map(event);
            }
            Type::TaskStateEntered | Type::WaitStateEntered => whose.step = self.enter(event, at, whose.shard),
            Type::TaskScheduled => {
                if whose.step.is_none() {
                    whose = self.redriven(event);
                }
                self.schedule(whose.step, at);
            }
            Type::TaskSucceeded => self.close(whose.step, at, &End::Succeeded),
            Type::TaskStateAborted | Type::WaitStateAborted => self.close(whose.step, at, &End::Stopped),
            Type::TaskStateExited | Type::WaitStateExited => {
                // Of a task that failed and was caught, or that succeeded, nothing is left to be closed.
                self.close(whose.step, at, &End::Succeeded);
                if let Some(step) = whose.step.take() {
                    self.run.steps[step].is_open = false;
                }
            }
            Type::ExecutionRedriven => {
                self.end_part(&End::Stopped);
                self.run.parts.push(Part { start: at, end: at });
                whose = Whose::default();
            }
            _ => {
                if let Some(failed) = failure(event) {
                    self.fail(whose.step, at, failed);
                }
            }
        }
        if let Some(part) = self.run.parts.last_mut() {
            part.end = part.end.max(at);
        }
        self.whose.insert(event.id, whose);
    }

    /// Tells the targets of a round, as it begins.
    fn enter_map(&mut self, event: &HistoryEvent) {
        let Some(entered) = event.state_entered_event_details.as_ref().filter(|it| it.name() == TARGETS) else {
            return;
        };
        let Some(round) = json(entered.input()) else { return };
        self.run.rounds += 1;
        self.run.image = serde_json::from_value(round["image"].clone()).unwrap_or_default();
        self.run.rule = round["rule"].as_str().map(ToOwned::to_owned);
        let settled = round["settled"].as_array().into_iter().flatten();
        for place in settled.chain(round["targets"].as_array().into_iter().flatten()) {
            self.target(place);
        }
    }

    /// Reports a round that is over.
    fn exit_map(&mut self, event: &HistoryEvent) {
        let Some(exited) = event.state_exited_event_details.as_ref().filter(|it| it.name() == TARGETS) else { return };
        let round = serde_json::from_str::<FinishedRound>(exited.output().unwrap_or_default());
        match round {
            Ok(round) => self.report(round),
            // The functions that ran were of another version than this program.
            Err(error) => self.run.unreadable = Some(error.to_string()),
        }
    }

    fn report(&mut self, round: FinishedRound) {
        for report in report::report(self.execution.clone(), round).targets {
            let place = Place {
                region: report.region.to_string(),
                repository: report.repository.to_string(),
                registry_id: report.registry_id.as_ref().map(ToString::to_string),
            };
            let index = self.place(place);
            self.run.targets[index].report = Some(report);
        }
    }

    fn target(&mut self, target: &Value) -> Option<usize> {
        serde_json::from_value(target.clone()).ok().map(|place| self.place(place))
    }

    fn place(&mut self, place: Place) -> usize {
        self.run.targets.iter().position(|target| target.place == place).unwrap_or_else(|| {
            self.run.targets.push(TargetRun { place, report: None });
            self.run.targets.len() - 1
        })
    }

    fn enter(&mut self, event: &HistoryEvent, at: Timestamp, shard: Option<usize>) -> Option<usize> {
        let entered = event.state_entered_event_details.as_ref()?;
        let input = json(entered.input()).unwrap_or_default();
        let is_wait = event.r#type == Type::WaitStateEntered;
        // An execution that a redrive goes on with, where that is simulated, begins here.
        if entered.name() == "Report" && self.run.targets.is_empty() {
            self.run.image = serde_json::from_value(input["image"].clone()).unwrap_or_default();
            self.run.rule = input["rule"].as_str().map(ToOwned::to_owned);
            match serde_json::from_value::<FinishedRound>(input.clone()) {
                Ok(round) => self.report(round),
                Err(error) => self.run.unreadable = Some(error.to_string()),
            }
        }
        let target = self.target(&input["target"]);
        self.run.steps.push(Step {
            name: entered.name.clone(),
            target,
            // One that stands for the whole image names no layers.
            shard: shard.filter(|_| !input["layers"].is_null()),
            attempts: Vec::new(),
            is_wait,
            layers: input["layers"].clone(),
            is_open: true,
        });
        let step = Some(self.run.steps.len() - 1);
        if is_wait {
            self.schedule(step, at);
        }
        step
    }

    /// The step that a redrive goes on with. What its first event follows is not documented; what it works on is told by the
    /// arguments.
    fn redriven(&self, event: &HistoryEvent) -> Whose {
        let parameters = event.task_scheduled_event_details.as_ref().map(TaskScheduledEventDetails::parameters);
        let payload = json(parameters).unwrap_or_default()["Payload"].take();
        let place = serde_json::from_value::<Place>(payload["target"].clone()).ok();
        let target = place.and_then(|place| self.run.targets.iter().position(|target| target.place == place));
        let mut steps = self.run.steps.iter();
        let step = steps.rposition(|step| step.is_open && step.target == target && step.layers == payload["layers"]);
        Whose { shard: step.and_then(|step| self.run.steps[step].shard), step }
    }

    fn schedule(&mut self, step: Option<usize>, at: Timestamp) {
        let Some(step) = step.and_then(|step| self.run.steps.get_mut(step)) else { return };
        let part = self.run.parts.len() - 1;
        let before = step.attempts.last().filter(|attempt| attempt.part == part);
        let is_retry = before.is_some_and(|attempt| matches!(attempt.end_state, End::Failed(_)));
        step.attempts.push(Attempt { part, start: at, end: at, end_state: End::Running, is_retry });
    }

    fn close(&mut self, step: Option<usize>, at: Timestamp, end_state: &End) {
        let step = step.and_then(|step| self.run.steps.get_mut(step));
        let attempt = step.and_then(|step| step.attempts.last_mut());
        if let Some(attempt) = attempt.filter(|attempt| attempt.end_state == End::Running) {
            attempt.end = at;
            attempt.end_state = end_state.clone();
        }
    }

    fn fail(&mut self, step: Option<usize>, at: Timestamp, failed: Failed) {
        let Some(index) = step else { return };
        let running = self.run.steps[index].attempts.last().is_some_and(|attempt| attempt.end_state == End::Running);
        if !running {
            // Its arguments, or what it made of its answer, could not be evaluated.
            self.schedule(step, at);
        }
        self.close(step, at, &End::Failed(failed));
    }

    /// Ends what the end of the execution left open.
    fn end_part(&mut self, end_state: &End) {
        let Some(end) = self.run.parts.last().map(|part| part.end) else { return };
        for attempt in self.run.steps.iter_mut().flat_map(|step| &mut step.attempts) {
            if attempt.end_state == End::Running {
                attempt.end = end;
                attempt.end_state = end_state.clone();
            }
        }
    }

    fn end(mut self) -> Run {
        let is_over = !matches!(self.run.status, ExecutionStatus::Running | ExecutionStatus::PendingRedrive);
        let ended_at = self.run.ended_at;
        if let Some(part) = self.run.parts.last_mut().filter(|_| !is_over) {
            part.end = part.end.max(ended_at);
        }
        self.end_part(if is_over { &End::Stopped } else { &End::Running });
        self.run
    }
}

/// What an event tells of a task that failed.
fn failure(event: &HistoryEvent) -> Option<Failed> {
    let details = [
        event.task_failed_event_details.as_ref().map(|it| (it.error(), it.cause())),
        event.task_timed_out_event_details.as_ref().map(|it| (it.error(), it.cause())),
        event.task_start_failed_event_details.as_ref().map(|it| (it.error(), it.cause())),
        event.task_submit_failed_event_details.as_ref().map(|it| (it.error(), it.cause())),
        event.evaluation_failed_event_details.as_ref().map(|it| (it.error(), it.cause())),
    ];
    let (error, cause) = details.into_iter().flatten().next()?;
    Some(Failed::of(error, cause))
}

/// What an execution's input tells of the image: an event's, or that of a person.
fn asked_for(input: &Value) -> Pictured {
    let detail = &input["event"]["detail"];
    if detail.is_null() {
        return serde_json::from_value(input["image"].clone()).unwrap_or_default();
    }
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(ToOwned::to_owned);
    Pictured {
        region: text(&input["event"]["region"]),
        repository: text(&detail["repository-name"]),
        tag: text(&detail["image-tag"]),
        digest: text(&detail["image-digest"]),
        ..Pictured::default()
    }
}

fn json(text: Option<&str>) -> Option<Value> {
    text.and_then(|text| serde_json::from_str(text).ok())
}

/// A moment in whole milliseconds: the history has a fraction that may be a hair less.
fn timestamp(time: DateTime) -> Timestamp {
    let time = Timestamp::new(time.secs(), time.subsec_nanos().cast_signed());
    time.and_then(|time| time.round(Unit::Millisecond)).unwrap_or_default()
}
