//! Events on the default bus: a push that is replayed, and reports that are received.

use std::time::{Duration, Instant};

use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use shared::contract::Report;
use shared::names::Digest;
use tokio::sync::Mutex;

use crate::error::Error;

/// How long one call waits for a message.
const WAIT_SECONDS: i32 = 1;

/// A report as EventBridge delivers it: of a replication's round, unless it is said of what.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ReportEvent<R = Report> {
    /// `Image Replication Complete` or `Image Replication Incomplete`; `ECR Registry Reconcile Complete` or
    /// `ECR Registry Reconcile Incomplete`.
    pub detail_type: String,
    /// The report.
    #[serde(rename = "detail")]
    pub report: R,
}

/// The queue of reports.
#[derive(Debug)]
pub(crate) struct Reports {
    client: aws_sdk_sqs::Client,
    queue_url: String,
    received: Mutex<Vec<Value>>,
}

impl Reports {
    pub(crate) fn new(client: aws_sdk_sqs::Client, queue_url: String) -> Self {
        Self { client, queue_url, received: Mutex::default() }
    }

    /// The reports of an execution; waits for the first, and takes whatever came with it.
    pub(crate) async fn of<R: DeserializeOwned>(
        &self,
        execution_arn: &str,
        patience: Duration,
    ) -> Result<Vec<ReportEvent<R>>, Error> {
        let start = Instant::now();
        let mut received = self.received.lock().await;
        loop {
            let more = self.receive().await?;
            let none_left = more.is_empty();
            received.extend(more);
            let is_of = |event: &&Value| event["detail"]["execution"]["arn"] == execution_arn;
            let reports: Vec<_> = received.iter().filter(is_of).cloned().collect();
            if none_left && !reports.is_empty() {
                let read = |event: Value| {
                    let text = event.to_string();
                    serde_json::from_value(event).map_err(|error| Error::answer("a report", format!("{error}: {text}")))
                };
                return reports.into_iter().map(read).collect();
            }
            if start.elapsed() > patience {
                return Err(Error::Late {
                    what: format!("a report of {execution_arn}"),
                    seconds: patience.as_secs(),
                    standing: format!("{} reports of other executions came", received.len()),
                });
            }
        }
    }

    async fn receive(&self) -> Result<Vec<Value>, Error> {
        let request = self.client.receive_message().queue_url(&self.queue_url).max_number_of_messages(10);
        let answer = request.wait_time_seconds(WAIT_SECONDS).send().await.map_err(Error::call("ReceiveMessage"))?;
        let mut events = Vec::new();
        for message in answer.messages() {
            let body = message.body().unwrap_or_default();
            events.push(
                serde_json::from_str(body).map_err(|error| Error::answer("a report", format!("{error}: {body}")))?,
            );
            let delete = self.client.delete_message().queue_url(&self.queue_url);
            let delete = delete.set_receipt_handle(message.receipt_handle.clone()).send().await;
            delete.map_err(Error::call("DeleteMessage"))?;
        }
        Ok(events)
    }
}

/// Sends the event of a push, as one does to replay an event that was lost.
pub(crate) async fn replay_push(
    client: &aws_sdk_eventbridge::Client,
    repository: &str,
    digest: &Digest,
    tag: &str,
) -> Result<(), Error> {
    let detail = json!({
        "result": "SUCCESS",
        "repository-name": repository,
        "image-digest": digest,
        "action-type": "PUSH",
        "image-tag": tag,
    });
    let entry = PutEventsRequestEntry::builder().source("ecr-replicator.replay").detail_type("ECR Image Action");
    let request = client.put_events().entries(entry.detail(detail.to_string()).build());
    let answer = request.send().await.map_err(Error::call("PutEvents"))?;
    match answer.failed_entry_count() {
        0 => Ok(()),
        _ => Err(Error::answer("PutEvents", format!("refused: {:?}", answer.entries()))),
    }
}

/// Whether EventBridge's own evaluator lets an event through a pattern.
pub(crate) async fn matches(client: &aws_sdk_eventbridge::Client, pattern: &str, event: &Value) -> Result<bool, Error> {
    let request = client.test_event_pattern().event_pattern(pattern).event(event.to_string());
    Ok(request.send().await.map_err(Error::call("TestEventPattern"))?.result)
}
