//! Push events that could not start an execution, and the command that replays them, on the local stack.
//!
//! ministack delivers nothing to a dead-letter queue. So the event is lost here, by a rule that is off, and the letter is put
//! into the module's queue as EventBridge documents it.

use std::time::Duration;

use local_stack::{Execution, ExecutionStatus};
use serde_json::{Value, json};
use shared::contract::Status;
use shared::names::Digest;
use tokio::process::Command;

use crate::operator::{Operator, is_cli_installed, program};
use crate::scene::{REPOSITORY, Scene, TAG, TARGETS, calls};

const RULE: &str = "ecr-replicator_all";

impl Operator {
    /// The documented command: whether it succeeded, and the last line of what it says.
    async fn replay(&self) -> (bool, String) {
        let output = self.run("make", &["--silent", "replay-dead-letters"]).await;
        let said = String::from_utf8(output.stdout).unwrap();
        (output.status.success(), said.lines().last().unwrap_or_default().to_owned())
    }

    /// Puts a letter into the queue, with the attributes that EventBridge gives it; its number.
    async fn put(&self, body: &str) -> String {
        let text = |value: &str| json!({"DataType": "String", "StringValue": value});
        let region = self.scene.stack.source();
        let attributes = json!({
            "RULE_ARN": text(&format!("arn:aws:events:{region}:000000000000:rule/{RULE}")),
            "TARGET_ARN": text(self.scene.stack.state_machine_arn()),
            "ERROR_CODE": text("NO_PERMISSIONS"),
            "ERROR_MESSAGE": text("the rule's role may not start an execution"),
        });
        let queue = ["--queue-url", self.scene.stack.dead_letter_queue_url()];
        let letter = ["--message-body", body, "--message-attributes", &attributes.to_string()];
        let sent = self.aws(&[&["sqs", "send-message"], &queue[..], &letter[..]].concat()).await;
        sent["MessageId"].as_str().unwrap().to_owned()
    }

    /// How many letters are in the queue, read or not.
    async fn left(&self) -> u64 {
        let queue = ["--queue-url", self.scene.stack.dead_letter_queue_url(), "--attribute-names", "All"];
        let answer = self.aws(&[&["sqs", "get-queue-attributes"], &queue[..]].concat()).await;
        let number = |name: &str| answer["Attributes"][name].as_str().unwrap().parse::<u64>().unwrap();
        number("ApproximateNumberOfMessages") + number("ApproximateNumberOfMessagesNotVisible")
    }
}

/// The event of a push, as ECR sends it.
fn event(scene: &Scene, digest: &Digest) -> Value {
    json!({
        "version": "0", "id": "13cde686-328b-6117-af20-0e5566167482", "detail-type": "ECR Image Action",
        "source": "aws.ecr", "account": "000000000000", "time": "2026-11-16T01:54:34Z",
        "region": scene.stack.source(), "resources": [],
        "detail": {
            "result": "SUCCESS", "repository-name": REPOSITORY, "image-digest": digest, "action-type": "PUSH",
            "image-tag": TAG,
        },
    })
}

/// The executions that letters started, when they have ended.
async fn replayed(scene: &Scene, count: usize) -> Vec<Execution> {
    let executions = scene.stack.executions().await.unwrap();
    let mut ended = Vec::new();
    for execution in executions.into_iter().filter(|execution| execution.arn.contains(":replay-")) {
        ended.push(scene.finished(&execution.arn).await);
    }
    assert_eq!(ended.len(), count, "{ended:#?}");
    ended
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_replayed_by_one_command_and_again_without_harm() {
    if !is_cli_installed().await {
        return println!("SKIPPED: the AWS CLI is not installed");
    }
    let operator = Operator::of(Scene::set(&TARGETS).await);
    let scene = &operator.scene;
    assert_eq!(operator.replay().await, (true, "0 replayed, 0 failed".to_owned()), "there is none");

    // The alarm is on this very queue.
    let alarm = operator.aws(&["cloudwatch", "describe-alarms", "--alarm-names", "ecr-replicator-dead-letters"]).await;
    let queue = scene.stack.dead_letter_queue_url().rsplit('/').next().unwrap();
    assert_eq!(alarm["MetricAlarms"][0]["Dimensions"], json!([{"Name": "QueueName", "Value": queue}]));
    assert!(alarm["MetricAlarms"][0]["AlarmDescription"].as_str().unwrap().contains("make replay-dead-letters"));

    operator.aws(&["events", "disable-rule", "--name", RULE]).await;
    let pushed = scene.push().await;
    let letter = event(scene, &pushed.digest).to_string();
    operator.put(&letter).await;
    replayed(scene, 0).await;
    assert_eq!(operator.replay().await, (true, "1 replayed, 0 failed".to_owned()));
    let first = replayed(scene, 1).await.remove(0);
    assert_eq!(first.status, ExecutionStatus::Succeeded, "{first:?}");
    assert_eq!(first.input["rule"], "all", "what the rule adds to the event is there");
    let source = scene.read(scene.stack.source()).await;
    for region in TARGETS {
        assert_eq!(scene.read(region).await, source, "{region}");
    }
    assert_eq!(operator.left().await, 0);

    // The same event as another letter, and as what the rule made of it; and a letter whose execution was started already, by a
    // command that was stopped before it deleted the letter. None of them puts anything.
    scene.stack.ecr().reset_stats();
    operator.put(&letter).await;
    operator.put(&first.input.to_string().replacen("{\"event\":", "{\"event\": ", 1)).await;
    let started = operator.put(&letter).await;
    scene.stack.start_named(&format!("replay-{started}"), &first.input).await.unwrap();
    assert_eq!(operator.replay().await, (true, "3 replayed, 0 failed".to_owned()));
    for execution in replayed(scene, 4).await {
        assert_eq!(execution.input, first.input);
        assert_eq!(execution.status, ExecutionStatus::Succeeded, "{execution:?}");
        let unchanged = |status: Status| execution.arn == first.arn || status == Status::Unchanged;
        assert!(scene.report(&execution).await.1.targets.iter().all(|target| unchanged(target.status)));
    }
    let stats = scene.stack.ecr().stats();
    for region in TARGETS {
        let writes = ["CreateRepository", "InitiateLayerUpload", "v2:POST upload", "PutImage"];
        assert_eq!(calls(&stats, region, &writes), 0, "{stats:?}");
    }
    assert_eq!(operator.left().await, 0);

    // What starts nothing is told, and kept.
    operator.deny_starts();
    operator.put(&letter).await;
    let (succeeded, last) = operator.replay().await;
    assert_eq!((succeeded, last.as_str()), (false, "0 replayed, 1 failed"));
    assert_eq!(operator.left().await, 1);
}

/// A queue that gives the letter that it keeps again at once, as one does that takes longer to come round than a letter is hidden.
#[tokio::test]
async fn a_letter_that_stays_is_tried_once() {
    let home = tempfile::tempdir().unwrap();
    let script = "#!/bin/sh\n\
        case $2 in\n\
        get-queue-url) echo https://queue ;;\n\
        receive-message) printf 'letter\\thandle\\trule/all\\tbody\\n' ;;\n\
        *) echo AccessDeniedException >&2; exit 254 ;;\n\
        esac\n";
    program(home.path(), "aws", script);
    let replay = concat!(env!("CARGO_MANIFEST_DIR"), "/../../terraform/replay-dead-letters.sh");
    let path = format!("{}:{}", home.path().display(), std::env::var("PATH").unwrap());
    let output = Command::new("sh").arg(replay).env("PATH", path).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(30), output).await.expect("it ends").unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "0 replayed, 1 failed\n");
    assert!(!output.status.success());
}
