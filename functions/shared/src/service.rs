//! The AWS services beside ECR: the bucket that runs keep their lists in, Step Functions, and EventBridge.
//!
//! No SDK type and no SDK error leaves this module.

use std::error::Error as StdError;

use aws_config::SdkConfig;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_sdk_s3::{
    operation::get_object::GetObjectError,
    primitives::ByteStream,
    types::{Delete, ObjectIdentifier},
};
use aws_sdk_sfn::{operation::describe_execution::DescribeExecutionOutput, types::ExecutionStatus};
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use jiff::Timestamp;

use crate::error::{ErrorName, Named, shorten};

/// The source of the events that carry reports.
pub const EVENT_SOURCE: &str = "ecr-replicator";

/// The namespace of all metrics in CloudWatch, which reads them from the log.
pub const NAMESPACE: &str = "EcrReplicator";

/// How many entries of a list come with one answer of Step Functions: the documented limit.
const PAGE: i32 = 1000;

/// How many pages of a list are read.
const PAGES: usize = 100;

/// How many objects one call deletes: DeleteObjects' documented limit.
const DELETED_AT_ONCE: usize = 1000;

/// The call that all of an execution is told by.
const DESCRIBE_EXECUTION: &str = "DescribeExecution";

/// The most of an error's message that is kept, in bytes.
const MESSAGE_LIMIT: usize = 1024;

/// A call that failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} on {resource} failed")]
pub struct ServiceError {
    name: ErrorName,
    operation: &'static str,
    resource: String,
    source: Box<dyn StdError + Send + Sync>,
}

impl Named for ServiceError {
    fn name(&self) -> ErrorName {
        self.name
    }
}

impl ServiceError {
    /// An answer, or an object, that is not what it must be.
    pub fn unreadable(
        operation: &'static str,
        resource: &str,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self { name: ErrorName::Internal, operation, resource: resource.to_owned(), source: source.into() }
    }

    fn failed<E, R>(operation: &'static str, resource: &str, error: SdkError<E, R>) -> Self
    where
        E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
        R: std::fmt::Debug + Send + Sync + 'static,
    {
        let (code, message) = match &error {
            SdkError::ServiceError(answer) => (answer.err().code(), answer.err().message()),
            _ => (None, None),
        };
        let name = match code {
            Some(code) if code.contains("AccessDenied") || code == "InvalidAccessKeyId" => ErrorName::AccessDenied,
            _ => ErrorName::ReportUndelivered,
        };
        let source: Box<dyn StdError + Send + Sync> = match code {
            Some(code) => shorten(&format!("{code}: {}", message.unwrap_or("no message")), MESSAGE_LIMIT).into(),
            None => error.into(),
        };
        Self { name, operation, resource: resource.to_owned(), source }
    }
}

/// A version of an object, by its ETag; of none that is there, that there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Version(Option<String>);

/// What S3 answers for an object that is not what a write wants to replace, or that is being written.
const CHANGED: [&str; 2] = ["PreconditionFailed", "ConditionalRequestConflict"];

/// The bucket.
#[derive(Debug, Clone)]
pub struct Bucket {
    client: aws_sdk_s3::Client,
    name: String,
}

impl Bucket {
    /// The bucket `name`, in the region and the account of `config`.
    #[must_use]
    pub fn new(config: &SdkConfig, name: String) -> Self {
        Self { client: aws_sdk_s3::Client::new(config), name }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn uri(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.name)
    }

    /// The object `key`; `None` when there is none.
    ///
    /// # Errors
    /// `AccessDenied`, `ReportUndelivered`.
    pub async fn read(&self, key: &str) -> Result<Option<Vec<u8>>, ServiceError> {
        Ok(self.read_version(key).await?.map(|(content, _)| content))
    }

    /// As [`Bucket::read`], with what a write is to replace.
    ///
    /// # Errors
    /// `AccessDenied`, `ReportUndelivered`.
    pub async fn read_version(&self, key: &str) -> Result<Option<(Vec<u8>, Version)>, ServiceError> {
        const OPERATION: &str = "GetObject";
        let object = match self.client.get_object().bucket(&self.name).key(key).send().await {
            Err(error) if error.as_service_error().is_some_and(GetObjectError::is_no_such_key) => return Ok(None),
            object => object.map_err(|error| ServiceError::failed(OPERATION, &self.uri(key), error))?,
        };
        let version = Version(object.e_tag);
        let content = object.body.collect().await.map_err(|error| ServiceError {
            name: ErrorName::ReportUndelivered,
            operation: OPERATION,
            resource: self.uri(key),
            source: error.into(),
        })?;
        Ok(Some((content.to_vec(), version)))
    }

    /// Writes the object `key`, whatever was there.
    ///
    /// # Errors
    /// `AccessDenied`, `ReportUndelivered`.
    pub async fn write(&self, key: &str, media_type: &str, content: Vec<u8>) -> Result<(), ServiceError> {
        let put = self.client.put_object().bucket(&self.name).key(key).content_type(media_type);
        let put = put.body(ByteStream::from(content)).send().await;
        put.map(drop).map_err(|error| ServiceError::failed("PutObject", &self.uri(key), error))
    }

    /// Writes the object `key` in the place of `version`; the version that it is then. `None` where another one is there, which
    /// stays: that of somebody else, or of this very call, whose first answer was lost.
    ///
    /// # Errors
    /// `AccessDenied`, `ReportUndelivered`.
    pub async fn replace(
        &self,
        key: &str,
        media_type: &str,
        content: Vec<u8>,
        Version(etag): &Version,
    ) -> Result<Option<Version>, ServiceError> {
        let put = self.client.put_object().bucket(&self.name).key(key).content_type(media_type);
        let put = put.set_if_match(etag.clone()).set_if_none_match(etag.is_none().then(|| "*".to_owned()));
        match put.body(ByteStream::from(content)).send().await {
            Err(error) if error.code().is_some_and(|code| CHANGED.contains(&code)) => Ok(None),
            put => {
                let put = put.map_err(|error| ServiceError::failed("PutObject", &self.uri(key), error))?;
                Ok(Some(Version(put.e_tag)))
            }
        }
    }

    /// The keys that begin with `prefix`, in order.
    ///
    /// # Errors
    /// `AccessDenied`, `ReportUndelivered`.
    pub async fn keys(&self, prefix: &str) -> Result<Vec<String>, ServiceError> {
        let list = self.client.list_objects_v2().bucket(&self.name).prefix(prefix);
        let mut pages = list.into_paginator().send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| ServiceError::failed("ListObjectsV2", &self.uri(prefix), error))?;
            keys.extend(page.contents.unwrap_or_default().into_iter().filter_map(|object| object.key));
        }
        Ok(keys)
    }

    /// Deletes the objects `keys`, those of them that are there.
    ///
    /// # Errors
    /// `AccessDenied`, `ReportUndelivered`.
    pub async fn delete(&self, keys: &[String]) -> Result<(), ServiceError> {
        const OPERATION: &str = "DeleteObjects";
        for keys in keys.chunks(DELETED_AT_ONCE) {
            let first = self.uri(&keys[0]);
            let objects = keys.iter().map(|key| ObjectIdentifier::builder().key(key).build());
            let objects = objects.collect::<Result<_, _>>();
            let delete = objects.and_then(|objects| Delete::builder().set_objects(Some(objects)).quiet(true).build());
            let delete = delete.map_err(|error| ServiceError::unreadable(OPERATION, &first, error))?;
            let deleted = self.client.delete_objects().bucket(&self.name).delete(delete).send().await;
            let deleted = deleted.map_err(|error| ServiceError::failed(OPERATION, &first, error))?;
            if let Some(refused) = deleted.errors.unwrap_or_default().first() {
                let (code, message) = (refused.code().unwrap_or_default(), refused.message().unwrap_or_default());
                let (name, resource) = (ErrorName::ReportUndelivered, refused.key().map_or(first, |key| self.uri(key)));
                let source = format!("{code}: {message}").into();
                return Err(ServiceError { name, operation: OPERATION, resource, source });
            }
        }
        Ok(())
    }
}

/// An execution that is running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Its ARN.
    pub arn: String,
    /// Its name.
    pub name: String,
    /// When it was started.
    pub started_at: Timestamp,
    /// How often it was redriven.
    pub redrives: u32,
}

/// An execution that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Its ARN.
    pub arn: String,
    /// Its input, as text.
    pub input: String,
    /// The error's name.
    pub error: String,
    /// The error's cause, as Step Functions gives it.
    pub cause: String,
}

/// Step Functions.
#[derive(Debug, Clone)]
pub struct StepFunctions {
    client: aws_sdk_sfn::Client,
}

impl StepFunctions {
    /// Those of the region and the account of `config`.
    #[must_use]
    pub fn new(config: &SdkConfig) -> Self {
        Self { client: aws_sdk_sfn::Client::new(config) }
    }

    /// How often an execution was redriven.
    ///
    /// # Errors
    /// `AccessDenied`, `ReportUndelivered`.
    pub async fn redrive_count(&self, execution: &str) -> Result<u32, ServiceError> {
        let count = self.describe(execution).await?.redrive_count.unwrap_or_default();
        count.try_into().map_err(|error| ServiceError::unreadable(DESCRIBE_EXECUTION, execution, error))
    }

    async fn describe(&self, execution: &str) -> Result<DescribeExecutionOutput, ServiceError> {
        let described = self.client.describe_execution().execution_arn(execution).send().await;
        described.map_err(|error| ServiceError::failed(DESCRIBE_EXECUTION, execution, error))
    }

    /// The executions of a state machine that are running.
    ///
    /// # Errors
    /// `AccessDenied`, `ReportUndelivered`.
    pub async fn running(&self, state_machine: &str) -> Result<Vec<Running>, ServiceError> {
        let list = self.client.list_executions().state_machine_arn(state_machine);
        let mut pages = list.status_filter(ExecutionStatus::Running).into_paginator().page_size(PAGE).items().send();
        let mut running = Vec::new();
        while let Some(execution) = pages.next().await {
            let execution = execution.map_err(|error| ServiceError::failed("ListExecutions", state_machine, error))?;
            let started_at = timestamp(&execution.start_date);
            let redrives = execution.redrive_count.and_then(|count| count.try_into().ok()).unwrap_or_default();
            running.push(Running { arn: execution.execution_arn, name: execution.name, started_at, redrives });
        }
        Ok(running)
    }

    /// The outputs of the last executions of a state machine that succeeded, at most `most` of them, the latest first.
    ///
    /// # Errors
    /// `AccessDenied`, `ReportUndelivered`.
    pub async fn last_outputs(&self, state_machine: &str, most: i32) -> Result<Vec<String>, ServiceError> {
        let list = self.client.list_executions().state_machine_arn(state_machine);
        let list = list.status_filter(ExecutionStatus::Succeeded).max_results(most).send().await;
        let list = list.map_err(|error| ServiceError::failed("ListExecutions", state_machine, error))?;
        let mut outputs = Vec::new();
        for execution in list.executions {
            outputs.extend(self.describe(&execution.execution_arn).await?.output);
        }
        Ok(outputs)
    }

    /// The children that failed of an execution's last Map Run that began at or after `since`, at most `most` of them.
    ///
    /// # Errors
    /// `AccessDenied`, `ReportUndelivered`.
    pub async fn failed_children(
        &self,
        execution: &str,
        since: Timestamp,
        most: i32,
    ) -> Result<Vec<Failed>, ServiceError> {
        let runs = self.client.list_map_runs().execution_arn(execution);
        let (mut pages, mut latest) = (runs.into_paginator().page_size(PAGE).send(), None);
        for _ in 0..PAGES {
            let Some(page) = pages.next().await else { break };
            let page = page.map_err(|error| ServiceError::failed("ListMapRuns", execution, error))?;
            let runs = page.map_runs.into_iter().map(|run| (timestamp(&run.start_date), run.map_run_arn));
            latest = runs.filter(|(started_at, _)| *started_at >= since).chain(latest).max();
        }
        let Some((_, map_run)) = latest else { return Ok(Vec::new()) };
        let list = self.client.list_executions().map_run_arn(&map_run).status_filter(ExecutionStatus::Failed);
        let list = list.max_results(most).send().await;
        let list = list.map_err(|error| ServiceError::failed("ListExecutions", &map_run, error))?;
        let mut failed = Vec::new();
        for child in list.executions {
            let arn = child.execution_arn;
            let described = self.describe(&arn).await?;
            failed.push(Failed {
                arn,
                input: described.input.unwrap_or_default(),
                error: described.error.unwrap_or_default(),
                cause: described.cause.unwrap_or_default(),
            });
        }
        Ok(failed)
    }
}

fn timestamp(time: &aws_smithy_types::DateTime) -> Timestamp {
    time.to_millis().ok().and_then(|time| Timestamp::from_millisecond(time).ok()).unwrap_or_default()
}

/// EventBridge's default bus.
#[derive(Debug, Clone)]
pub struct Events {
    client: aws_sdk_eventbridge::Client,
}

impl Events {
    /// That of the region and the account of `config`.
    #[must_use]
    pub fn new(config: &SdkConfig) -> Self {
        Self { client: aws_sdk_eventbridge::Client::new(config) }
    }

    /// Sends an event about `resource`.
    ///
    /// # Errors
    /// `AccessDenied`, `ReportUndelivered`.
    pub async fn publish(&self, detail_type: &str, resource: &str, detail: String) -> Result<(), ServiceError> {
        const OPERATION: &str = "PutEvents";
        let entry = PutEventsRequestEntry::builder().source(EVENT_SOURCE).detail_type(detail_type);
        let put = self.client.put_events().entries(entry.resources(resource).detail(detail).build()).send().await;
        let answer = put.map_err(|error| ServiceError::failed(OPERATION, "the default bus", error))?;
        // PutEvents answers 200 for entries that it did not take.
        match answer.entries().iter().find(|entry| entry.error_code().is_some()) {
            Some(refused) => Err(ServiceError {
                name: ErrorName::ReportUndelivered,
                operation: OPERATION,
                resource: "the default bus".to_owned(),
                source: format!(
                    "EventBridge refused the event: {}: {}",
                    refused.error_code().unwrap_or_default(),
                    refused.error_message().unwrap_or_default()
                )
                .into(),
            }),
            None => Ok(()),
        }
    }
}
