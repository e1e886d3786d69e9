//! Executions of the state machine: what started them, where they are, how they ended.

use std::time::{Duration, Instant};

use aws_sdk_sfn::Client;
use aws_sdk_sfn::config::{BehaviorVersion, Region};
use aws_sdk_sfn::operation::describe_execution::DescribeExecutionOutput;
use aws_sdk_sfn::types::ExecutionStatus;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};
use shared::names::Digest;

use crate::error::Error;
use crate::stack::credentials;

const POLL: Duration = Duration::from_millis(100);

/// An execution as DescribeExecution shows it.
#[derive(Debug, Clone)]
pub struct Execution {
    /// Its ARN.
    pub arn: String,
    /// Its status.
    pub status: ExecutionStatus,
    /// Its input.
    pub input: Value,
    /// Its output, if it succeeded.
    pub output: Option<Value>,
    /// The error's name, if it failed.
    pub error: Option<String>,
    /// The error's cause, if it failed.
    pub cause: Option<String>,
}

impl Execution {
    fn of(answer: DescribeExecutionOutput) -> Self {
        let json = |text: Option<&str>| text.and_then(|text| serde_json::from_str(text).ok());
        Self {
            input: json(answer.input()).unwrap_or_default(),
            output: json(answer.output()),
            arn: answer.execution_arn,
            status: answer.status,
            error: answer.error,
            cause: answer.cause,
        }
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        !matches!(self.status, ExecutionStatus::Running | ExecutionStatus::PendingRedrive)
    }

    fn is_of(&self, digest: &Digest) -> bool {
        self.input["event"]["detail"]["image-digest"] == digest.as_str()
    }
}

/// An event of an execution's history, written as the AWS CLI writes it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEvent {
    /// When it happened.
    pub timestamp: Timestamp,
    /// What happened.
    pub r#type: String,
    /// Its number.
    pub id: i64,
    /// The number of the event before it.
    pub previous_event_id: i64,
    /// `<what>EventDetails`, with the event's data.
    #[serde(flatten)]
    pub details: Map<String, Value>,
}

impl HistoryEvent {
    fn of(event: &aws_sdk_sfn::types::HistoryEvent) -> Self {
        let mut details = Map::new();
        let mut put = |name: &str, fields: &[(&str, Option<&str>)]| {
            let fields = fields.iter().filter_map(|(name, value)| Some(((*name).to_owned(), json!((*value)?))));
            details.insert(format!("{name}EventDetails"), Value::Object(fields.collect()));
        };
        if let Some(it) = &event.execution_started_event_details {
            put("executionStarted", &[("input", it.input()), ("roleArn", it.role_arn())]);
        }
        if let Some(it) = &event.execution_succeeded_event_details {
            put("executionSucceeded", &[("output", it.output())]);
        }
        if let Some(it) = &event.execution_failed_event_details {
            put("executionFailed", &[("error", it.error()), ("cause", it.cause())]);
        }
        if let Some(it) = &event.state_entered_event_details {
            put("stateEntered", &[("name", Some(it.name())), ("input", it.input())]);
        }
        if let Some(it) = &event.state_exited_event_details {
            put("stateExited", &[("name", Some(it.name())), ("output", it.output())]);
        }
        if let Some(it) = &event.task_scheduled_event_details {
            put("taskScheduled", &[("resourceType", Some(it.resource_type())), ("resource", Some(it.resource()))]);
        }
        if let Some(it) = &event.task_succeeded_event_details {
            put("taskSucceeded", &[("resource", Some(it.resource())), ("output", it.output())]);
        }
        if let Some(it) = &event.task_failed_event_details {
            put("taskFailed", &[("resource", Some(it.resource())), ("error", it.error()), ("cause", it.cause())]);
        }
        let timestamp = Timestamp::new(event.timestamp.secs(), event.timestamp.subsec_nanos().cast_signed());
        Self {
            timestamp: timestamp.unwrap_or_default(),
            r#type: event.r#type.as_str().to_owned(),
            id: event.id,
            previous_event_id: event.previous_event_id,
            details,
        }
    }

    /// The state that was entered, if one was.
    #[must_use]
    pub fn entered(&self) -> Option<&str> {
        self.details.get("stateEnteredEventDetails")?["name"].as_str()
    }

    /// The output of the state that was left, if it is this one.
    #[must_use]
    pub fn output_of(&self, state: &str) -> Option<Value> {
        let details = self.details.get("stateExitedEventDetails")?;
        let output = details["output"].as_str().filter(|_| details["name"] == state)?;
        serde_json::from_str(output).ok()
    }

    /// What a task's function answered, if one did.
    #[must_use]
    pub fn task_payload(&self) -> Option<Value> {
        let output = self.details.get("taskSucceededEventDetails")?["output"].as_str()?;
        Some(serde_json::from_str::<Value>(output).ok()?["Payload"].take())
    }

    /// The name of the error with which a task failed, if one did.
    #[must_use]
    pub fn task_error(&self) -> Option<&str> {
        self.details.get("taskFailedEventDetails")?["error"].as_str()
    }
}

/// How far a Map Run is: its items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapRun {
    /// All of them.
    pub total: usize,
    /// Those whose child succeeded.
    pub succeeded: usize,
    /// Those whose child failed.
    pub failed: usize,
}

/// The executions of one deployment's state machine.
#[derive(Debug)]
pub struct Executions {
    pub(crate) client: Client,
    pub(crate) state_machine_arn: String,
}

impl Executions {
    pub(crate) fn new(endpoint: &str, region: &str, state_machine_arn: String) -> Self {
        let config = aws_sdk_sfn::Config::builder().behavior_version(BehaviorVersion::v2026_01_12());
        let config = config.endpoint_url(endpoint).credentials_provider(credentials());
        let client = Client::from_conf(config.region(Region::new(region.to_owned())).build());
        Self { client, state_machine_arn }
    }

    /// The state machine.
    #[must_use]
    pub fn state_machine_arn(&self) -> &str {
        &self.state_machine_arn
    }

    /// Waits until there are at least `count`, and all of them have ended.
    ///
    /// # Errors
    /// If that takes longer than `patience`.
    pub async fn when_all_have_ended(&self, count: usize, patience: Duration) -> Result<Vec<Execution>, Error> {
        let start = Instant::now();
        loop {
            let executions = self.all().await?;
            if executions.len() >= count && executions.iter().all(Execution::is_over) {
                return Ok(executions);
            }
            if start.elapsed() > patience {
                return Err(Error::Late {
                    what: format!("the end of {count} executions of {}", self.state_machine_arn),
                    seconds: patience.as_secs(),
                    standing: format!("{executions:#?}"),
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    pub(crate) async fn start(&self, name: Option<&str>, input: &Value) -> Result<String, Error> {
        let request = self.client.start_execution().state_machine_arn(&self.state_machine_arn).input(input.to_string());
        let request = request.set_name(name.map(ToOwned::to_owned));
        Ok(request.send().await.map_err(Error::call("StartExecution"))?.execution_arn)
    }

    pub(crate) async fn describe(&self, arn: &str) -> Result<Execution, Error> {
        let answer = self.client.describe_execution().execution_arn(arn).send().await;
        Ok(Execution::of(answer.map_err(Error::call("DescribeExecution"))?))
    }

    pub(crate) async fn all(&self) -> Result<Vec<Execution>, Error> {
        let request = self.client.list_executions().state_machine_arn(&self.state_machine_arn);
        let mut items = request.into_paginator().items().send();
        let mut executions = Vec::new();
        while let Some(item) = items.next().await {
            let item = item.map_err(Error::call("ListExecutions"))?;
            executions.push(self.describe(&item.execution_arn).await?);
        }
        Ok(executions)
    }

    /// Waits for an execution that an event about this image started, other than those that are known already.
    pub(crate) async fn started_for(
        &self,
        digest: &Digest,
        known: &[Execution],
        patience: Duration,
    ) -> Result<Execution, Error> {
        let start = Instant::now();
        loop {
            let mut executions = self.all().await?;
            let count = executions.len();
            executions
                .retain(|execution| execution.is_of(digest) && known.iter().all(|known| known.arn != execution.arn));
            if let Some(execution) = executions.pop() {
                return Ok(execution);
            }
            if start.elapsed() > patience {
                return Err(Error::Late {
                    what: format!("an execution that a push of {digest} starts"),
                    seconds: patience.as_secs(),
                    standing: format!("none of the {count} executions is of it"),
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    pub(crate) async fn finished(&self, arn: &str, patience: Duration) -> Result<Execution, Error> {
        let start = Instant::now();
        loop {
            let execution = self.describe(arn).await?;
            if execution.is_over() {
                return Ok(execution);
            }
            if start.elapsed() > patience {
                let history = self.history(arn).await?;
                let state = history.iter().rev().find_map(HistoryEvent::entered).unwrap_or("no state").to_owned();
                let failures: Vec<&str> = history.iter().filter_map(HistoryEvent::task_error).collect();
                return Err(Error::Late {
                    what: format!("execution {arn}"),
                    seconds: patience.as_secs(),
                    standing: format!("it is in {state}, after these errors: {failures:?}"),
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The Map Run of an execution, if there is one yet.
    pub(crate) async fn map_run(&self, arn: &str) -> Result<Option<MapRun>, Error> {
        let runs = self.client.list_map_runs().execution_arn(arn).send().await.map_err(Error::call("ListMapRuns"))?;
        let Some(run) = runs.map_runs().first() else { return Ok(None) };
        let described = self.client.describe_map_run().map_run_arn(run.map_run_arn()).send().await;
        let described = described.map_err(Error::call("DescribeMapRun"))?;
        let number = |count: i64| usize::try_from(count).unwrap_or_default();
        Ok(described.item_counts().map(|counts| MapRun {
            total: number(counts.total()),
            succeeded: number(counts.succeeded()),
            failed: number(counts.failed()),
        }))
    }

    pub(crate) async fn history(&self, arn: &str) -> Result<Vec<HistoryEvent>, Error> {
        let mut items = self.client.get_execution_history().execution_arn(arn).into_paginator().items().send();
        let mut history = Vec::new();
        while let Some(event) = items.next().await {
            history.push(HistoryEvent::of(&event.map_err(Error::call("GetExecutionHistory"))?));
        }
        Ok(history)
    }
}
