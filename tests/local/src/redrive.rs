//! Redrives, which no emulator has, simulated as the Step Functions Developer Guide describes them ("Restarting state
//! machine executions with redrive").
//!
//! A redriven execution goes on at its unsuccessful state, with that state's input and the variables that it had, under its
//! own ARN, name, start and input; its context object and DescribeExecution count the redrive. Here it goes on in an
//! execution of a state machine that begins at the failed state and is the same from there: what the definition reads of
//! the execution in its context is written into it.
//!
//! A Map in which an execution was stopped begins again as a whole here. Step Functions keeps the iterations that had succeeded.

use std::collections::HashMap;

use aws_sdk_sfn::types::ExecutionStatus;
use jiff::Unit;
use serde_json::{Value, json};

use crate::error::Error;
use crate::executions::{Execution, Executions, HistoryEvent};

/// Redrives `original`, an execution of the state machine of `executions`, of which `failed` is the last part: itself, or the execution in which it went on when it was
/// redriven for the last time. `count` is how often it is redriven, this time included. The ARN of what it goes on in.
pub(crate) async fn redrive(
    executions: &Executions,
    original: &Execution,
    failed: &Execution,
    count: u32,
) -> Result<String, Error> {
    let wrong = |problem: String| Error::answer(format!("redrive of {}", original.arn), problem);
    if !matches!(failed.status, ExecutionStatus::Failed | ExecutionStatus::TimedOut | ExecutionStatus::Aborted) {
        return Err(wrong(format!("it is {}", failed.status)));
    }
    let client = &executions.client;
    let machine = client.describe_state_machine().state_machine_arn(&executions.state_machine_arn).send().await;
    let machine = machine.map_err(Error::call("DescribeStateMachine"))?;
    if machine.definition().contains("\"Assign\"") {
        return Err(wrong("its definition has variables, which are not kept here".to_owned()));
    }
    let mut definition: Value =
        serde_json::from_str(machine.definition()).map_err(|error| wrong(format!("its definition: {error}")))?;

    let name = original.arn.rsplit(':').next().unwrap_or_default();
    // The context has milliseconds, and the history a fraction that may be a hair less.
    let started_at = executions.history(&original.arn).await?.first().map(|event| event.timestamp);
    let started_at = started_at.and_then(|at| at.round(Unit::Millisecond).ok());
    let context = HashMap::from([
        ("Id", json!(original.arn)),
        ("Name", json!(name)),
        ("StartTime", json!(started_at)),
        ("Input", original.input.clone()),
        ("RedriveCount", json!(count)),
    ]);
    let history = executions.history(&failed.arn).await?;
    let (state, input) =
        unsuccessful(&history, &definition).ok_or_else(|| wrong("no state of it is unsuccessful".to_owned()))?;
    fill_in(&mut definition, &context);
    definition["StartAt"] = json!(state);

    let created = client.create_state_machine().name(format!("redrive-{count}-of-{name}"));
    let created = created.definition(definition.to_string()).role_arn(machine.role_arn()).send().await;
    let created = created.map_err(Error::call("CreateStateMachine"))?;
    let started = client.start_execution().state_machine_arn(created.state_machine_arn()).input(input).send().await;
    Ok(started.map_err(Error::call("StartExecution"))?.execution_arn)
}

/// The state of `definition` itself, and not of a Map in it, that was entered and never left, and its input.
fn unsuccessful(history: &[HistoryEvent], definition: &Value) -> Option<(String, String)> {
    let of_a_state = |event: &&HistoryEvent| {
        let details = event.details.iter().find(|(name, _)| name.starts_with("state"));
        details.is_some_and(|(_, details)| definition["States"].get(details["name"].as_str().unwrap_or("")).is_some())
    };
    let last = history.iter().rev().find(of_a_state)?;
    let entered = last.details.get("stateEnteredEventDetails")?;
    Some((entered["name"].as_str()?.to_owned(), entered["input"].as_str()?.to_owned()))
}

/// Writes the execution's context into every expression that reads it.
fn fill_in(definition: &mut Value, context: &HashMap<&str, Value>) {
    match definition {
        Value::String(text) => {
            for (name, value) in context {
                *text = text.replace(&format!("$states.context.Execution.{name}"), &value.to_string());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill_in(item, context)),
        Value::Object(members) => members.values_mut().for_each(|member| fill_in(member, context)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
