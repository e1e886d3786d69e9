//! A picture of a run: one HTML page of an execution, which needs nothing else to be read.
//!
//! It tells what the console tells in many places: what came of each target, how long each of its steps took, what was tried
//! again and why, and which of it made the execution take as long as it did.

mod arn;
mod error;
mod page;
mod run;

use aws_sdk_sfn::{Client, operation::describe_execution::DescribeExecutionError};
use jiff::Timestamp;

pub use crate::{
    arn::ExecutionArn,
    error::Error,
    page::page,
    run::{Attempt, End, Failed, Part, Pictured, Place, Run, Slowest, Step, TargetRun},
};

/// Reads an execution: over or not, what there is of it.
///
/// # Errors
/// If there is none of this ARN, it is of another state machine, or Step Functions does not answer.
pub async fn read(client: &Client, arn: &str) -> Result<Run, Error> {
    let described = client.describe_execution().execution_arn(arn).send().await;
    let described = described.map_err(|error| match error.as_service_error() {
        Some(DescribeExecutionError::ExecutionDoesNotExist(_)) => Error::Unknown { arn: arn.to_owned() },
        _ => Error::Call { operation: "DescribeExecution", source: error.into() },
    })?;
    let request = client.get_execution_history().execution_arn(arn).include_execution_data(true);
    let history = request.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await;
    let history = history.map_err(|error| Error::Call { operation: "GetExecutionHistory", source: error.into() })?;
    Run::of(described, &history, Timestamp::now())
}
