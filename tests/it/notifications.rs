//! Whoever watches a deployment, on the local stack: a deployment that waits for its image, somebody who is told by a topic, and what
//! Terraform makes to look at.
//!
//! ministack fills in a template as EventBridge documents it; that EventBridge quotes and escapes a value outside of a string, line
//! breaks and all, is documented as well. Nothing there measures or draws: alarms and dashboard are held to what was applied.

use std::collections::BTreeSet;
use std::time::Instant;

use local_stack::{Client, ExecutionStatus, Options, Sample};
use serde_json::{Value, json};

use crate::operator::{Operator, is_cli_installed};
use crate::scene::{NO_LAYER, PATIENCE, REPOSITORY, Scene, TAG, TARGETS};

impl Operator {
    /// What came to a queue since the last look; waits for the first.
    async fn received(&self, queue: &str) -> Vec<Value> {
        let queue = format!("ecr-replicator-{queue}");
        let url = self.aws(&["sqs", "get-queue-url", "--queue-name", &queue]).await["QueueUrl"].clone();
        let queue = ["--queue-url", url.as_str().unwrap()];
        let receive = ["sqs", "receive-message", "--max-number-of-messages", "10", "--wait-time-seconds", "1"];
        let mut bodies = Vec::new();
        let start = Instant::now();
        loop {
            let answer = self.aws(&[&receive[..], &queue].concat()).await;
            let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
            if messages.is_empty() && (!bodies.is_empty() || start.elapsed() > PATIENCE) {
                return bodies;
            }
            for message in messages {
                bodies.push(serde_json::from_str(message["Body"].as_str().unwrap()).unwrap());
                let handle = ["--receipt-handle", message["ReceiptHandle"].as_str().unwrap()];
                self.aws(&[&["sqs", "delete-message"], &queue[..], &handle].concat()).await;
            }
        }
    }

    /// The one message that came to the topic.
    async fn told(&self) -> Value {
        let mut notifications = self.received("notifications").await;
        assert_eq!(notifications.len(), 1, "{notifications:#?}");
        let notification = notifications.remove(0);
        let message: Value = serde_json::from_str(notification["Message"].as_str().unwrap()).unwrap();
        // What Amazon Q Developer in chat applications asks for.
        assert_eq!((&message["version"], &message["source"]), (&json!("1.0"), &json!("custom")), "{message}");
        message["content"].clone()
    }

    /// The names of what Terraform made, without the deployment's.
    async fn names(&self, arguments: &[&str], list: &str, name: &str) -> BTreeSet<String> {
        let answer = self.aws(arguments).await;
        let names = answer[list].as_array().unwrap().iter().map(|it| it[name].as_str().unwrap());
        names.map(|name| name["ecr-replicator".len() + 1..].to_owned()).collect()
    }
}

/// Where the console shows an execution.
fn link(arn: &str) -> String {
    format!(
        "Open https://eu-central-1.console.aws.amazon.com/states/home?region=eu-central-1#/v2/executions/details/{arn}"
    )
}

fn redrive(arn: &str) -> String {
    format!("aws stepfunctions redrive-execution --execution-arn {arn} --region eu-central-1")
}

const LOOK_UP: &str = "Look it up in docs/runbook.md, and mend what it says";

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_starts_when_its_image_is_everywhere_and_somebody_is_told_of_every_round() {
    if !is_cli_installed().await {
        return println!("SKIPPED: the AWS CLI is not installed");
    }
    let options = Options { notify_on: Some("all".to_owned()), ..Options::quick(&TARGETS) };
    let sample = Sample { seed: 7, own_layers: vec![64], ..Sample::default() };
    let operator = Operator::of(Scene::of(&sample, options).await);
    let scene = &operator.scene;

    let (pushed, execution) = scene.replicate().await;
    let mut deployments = operator.received("deployments").await;
    assert_eq!(deployments.len(), 1, "{deployments:#?}");
    let report = deployments.remove(0);
    assert_eq!(
        (&report["complete"], &report["image"]["digest"], &report["execution"]["arn"]),
        (&json!(true), &json!(pushed.digest), &json!(execution.arn)),
        "{report}"
    );
    assert_eq!(report["targets"].as_array().unwrap().len(), TARGETS.len());
    let told = operator.told().await;
    assert_eq!(told["title"], format!("ecr-replicator: {REPOSITORY} {} is at every target", pushed.digest));
    assert_eq!(told["description"], report["summary"]);
    assert!(told["description"].as_str().unwrap().contains(TAG), "{told}");
    assert_eq!(told["nextSteps"], json!([link(&execution.arn)]), "there is nothing to redrive");

    // It is everywhere, but under a tag that nobody waits for.
    let pushed = scene.stack.push(Client::installed(), &scene.image, REPOSITORY, "latest").await.unwrap();
    let known = [execution];
    let execution = scene.stack.execution_for(&pushed.digest, &known).await.unwrap();
    assert_eq!(scene.finished(&execution.arn).await.status, ExecutionStatus::Succeeded);
    assert_eq!(operator.told().await["nextSteps"], json!([link(&execution.arn)]));

    // What fails is told once: by its execution, not by its report as well.
    for fault in NO_LAYER {
        scene.stack.ecr().fault(fault().in_region(TARGETS[0]).for_ever());
    }
    let home = tempfile::tempdir().unwrap();
    let image = Sample { seed: 8, ..sample }.write(home.path().join("image")).unwrap();
    let pushed = scene.stack.push(Client::installed(), &image, REPOSITORY, "v2").await.unwrap();
    let execution = scene.stack.execution_for(&pushed.digest, &[]).await.unwrap();
    assert_eq!(scene.finished(&execution.arn).await.status, ExecutionStatus::Failed);
    let told = operator.told().await;
    let name = execution.arn.rsplit(':').next().unwrap();
    assert_eq!(told["title"], format!("ecr-replicator: the replication {name} failed: ReplicationIncomplete"));
    let description = told["description"].as_str().unwrap();
    let cause = format!("{} {REPOSITORY}: CopyLayers failed with AccessDenied", TARGETS[0]);
    assert!(description.contains(&cause) && description.contains(pushed.digest.as_str()), "{description}");
    assert_eq!(told["nextSteps"], json!([link(&execution.arn), LOOK_UP, redrive(&execution.arn)]));

    // What is stopped says nothing itself.
    let input = json!({"image": {"repository": REPOSITORY, "tag": "v2"}, "rule": "all"});
    let stopped = scene.stack.start_execution(&input).await.unwrap();
    scene.stack.stop(&stopped).await.unwrap();
    let told = operator.told().await;
    let name = stopped.rsplit(':').next().unwrap();
    assert_eq!(told["title"], format!("ecr-replicator: the replication {name} ended as ABORTED"));
    assert_eq!(told["nextSteps"], json!([link(&stopped), LOOK_UP, redrive(&stopped)]));

    // All of them are over, and none of the later ones started a deployment.
    let url = operator.aws(&["sqs", "get-queue-url", "--queue-name", "ecr-replicator-deployments"]).await;
    let receive = ["sqs", "receive-message", "--queue-url", url["QueueUrl"].as_str().unwrap()];
    assert!(operator.aws(&receive).await.get("Messages").is_none());

    // What there is to look at.
    let alarms = ["cloudwatch", "describe-alarms", "--alarm-name-prefix", "ecr-replicator-"];
    let alarms = operator.names(&alarms, "MetricAlarms", "AlarmName").await;
    let logs = scene.stack.logs_endpoint();
    let queries = ["logs", "describe-query-definitions", "--endpoint-url", &logs];
    let queries = operator.names(&queries, "queryDefinitions", "name").await;
    let runbook = include_str!("../../docs/runbook.md").lines().filter_map(|line| line.strip_prefix("## "));
    let runbook: BTreeSet<String> = runbook.map(ToOwned::to_owned).collect();
    assert_eq!(
        (&alarms, &queries),
        (&runbook, &runbook),
        "each has an entry in the runbook, and no entry is of nothing"
    );
    let dashboard = operator.aws(&["cloudwatch", "get-dashboard", "--dashboard-name", "ecr-replicator"]).await;
    let body: Value = serde_json::from_str(dashboard["DashboardBody"].as_str().unwrap()).unwrap();
    assert_eq!(body["widgets"].as_array().unwrap().len(), 10, "{body}");
    assert_eq!(body["widgets"][0]["properties"]["alarms"].as_array().unwrap().len(), alarms.len());
}
