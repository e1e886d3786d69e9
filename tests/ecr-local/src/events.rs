//! The event of a push, by `PutEvents`.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::config::retry::RetryConfig;
use aws_sdk_eventbridge::config::{BehaviorVersion, Config, Credentials, Region};
use aws_sdk_eventbridge::error::DisplayErrorContext;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use serde_json::json;

use crate::manifest::Manifest;
use crate::names::{ImageTag, Registry, RepositoryName};
use crate::stats::Counters;

/// AWS keeps `aws.*` to itself, so `PutEvents` takes no event from `aws.ecr`.
const SOURCE: &str = "ecr-replicator.replay";
const DETAIL_TYPE: &str = "ECR Image Action";
const ATTEMPTS: u32 = 4;
const FIRST_BACKOFF: Duration = Duration::from_millis(200);

/// Sends events in the background: ECR, too, does not make a push wait for its event.
#[derive(Debug)]
pub(crate) struct Events {
    client: Client,
    counters: Arc<Counters>,
}

impl Events {
    pub(crate) fn new(endpoint: &str, counters: Arc<Counters>) -> Self {
        let config = Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .endpoint_url(endpoint)
            // Retried here, where a refused entry of an answered call is retried as well.
            .retry_config(RetryConfig::disabled())
            .build();
        Self { client: Client::from_conf(config), counters }
    }

    pub(crate) fn pushed(
        &self,
        registry: &Registry,
        name: &RepositoryName,
        manifest: &Manifest,
        tag: Option<&ImageTag>,
    ) {
        let mut detail = json!({
            "result": "SUCCESS",
            "repository-name": name,
            "image-digest": manifest.digest,
            "action-type": "PUSH",
            // Empty for an untagged push, as in the one event of such a push that was captured in public.
            "image-tag": tag.map_or("", ImageTag::as_str),
            "manifest-media-type": manifest.media_type,
        });
        if let Some(artifact_type) = &manifest.artifact_type {
            detail["artifact-media-type"] = json!(artifact_type);
        }
        let entry =
            PutEventsRequestEntry::builder().source(SOURCE).detail_type(DETAIL_TYPE).detail(detail.to_string()).build();
        let (client, counters, registry) = (self.client.clone(), Arc::clone(&self.counters), registry.clone());
        tokio::spawn(async move {
            let delivered = deliver(&client, &registry, &entry).await;
            counters.event(&registry.region, delivered.is_ok());
            if let Err(reason) = delivered {
                let _ = writeln!(std::io::stderr(), "ecr-local: gave up the event {detail}: {reason}");
            }
        });
    }
}

async fn deliver(client: &Client, registry: &Registry, entry: &PutEventsRequestEntry) -> Result<(), String> {
    let mut attempt = 1;
    loop {
        match put(client, registry, entry.clone()).await {
            Err(_) if attempt < ATTEMPTS => {
                tokio::time::sleep(FIRST_BACKOFF * 2_u32.pow(attempt - 1)).await;
                attempt += 1;
            }
            result => return result,
        }
    }
}

async fn put(client: &Client, registry: &Registry, entry: PutEventsRequestEntry) -> Result<(), String> {
    let identity = Config::builder()
        .region(Region::new(registry.region.to_string()))
        .credentials_provider(Credentials::new(registry.account.as_str(), "ecr-local", None, None, "ecr-local"));
    let request = client.put_events().entries(entry).customize().config_override(identity);
    let answer = request.send().await.map_err(|error| DisplayErrorContext(error).to_string())?;
    match answer.entries().iter().find_map(|entry| entry.error_code()) {
        Some(code) => Err(format!("the entry was refused with {code}")),
        None => Ok(()),
    }
}
