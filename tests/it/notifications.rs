//! Whoever watches a deployment, on the local stack: a deployment that waits for its image, somebody who is told by a topic, and what
//! Terraform makes to look at.
//!
//! ministack fills in a template as EventBridge documents it; that EventBridge quotes and escapes a value outside of a string, line
//! breaks and all, is documented as well. Nothing there measures or draws: alarms and dashboard are held to what was applied.
//! A redrive is simulated, and its report is what the redriven execution's would be.

use std::collections::BTreeSet;
use std::time::Instant;

use ecr_local::Fault;
use local_stack::{Client, ExecutionStatus, Options, Sample};
use report::Input;
use serde_json::{Value, json};
use shared::serve::decode;

use crate::operator::{Operator, blocks, is_cli_installed};
use crate::report::{failed, input, succeeded};
use crate::scene::{NO_LAYER, PATIENCE, REPOSITORY, Scene, TAG, TARGETS, target};

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

    what_fails_is_told_round_by_round(&operator).await;

    // What is stopped says nothing itself.
    scene.stack.ecr().fault(Fault::new("PutImage", 400, "ThrottleException").for_ever());
    let targets = json!([{"region": TARGETS[0], "repository": "stopped/app"}]);
    let input = json!({"image": {"repository": REPOSITORY, "tag": TAG}, "targets": targets});
    let stopped = scene.stack.start_execution(&input).await.unwrap();
    operator.aws(&["stepfunctions", "stop-execution", "--execution-arn", &stopped]).await;
    let told = operator.told().await;
    let name = stopped.rsplit(':').next().unwrap();
    assert_eq!(told["title"], format!("ecr-replicator: the execution {name} ended as ABORTED"));
    assert_eq!(told["nextSteps"], json!([link(&stopped), LOOK_UP, redrive(&stopped)]));

    // All of them are over, and none of the later ones started a deployment.
    let url = operator.aws(&["sqs", "get-queue-url", "--queue-name", "ecr-replicator-deployments"]).await;
    let receive = ["sqs", "receive-message", "--queue-url", url["QueueUrl"].as_str().unwrap()];
    assert!(operator.aws(&receive).await.get("Messages").is_none());

    // What there is to look at.
    let alarms = ["cloudwatch", "describe-alarms", "--alarm-name-prefix", "ecr-replicator-"];
    let alarms = operator.names(&alarms, "MetricAlarms", "AlarmName").await;
    let queries = operator.names(&["logs", "describe-query-definitions"], "queryDefinitions", "name").await;
    let runbook = include_str!("../../docs/runbook.md").lines().filter_map(|line| line.strip_prefix("## "));
    let runbook: BTreeSet<String> = runbook.map(ToOwned::to_owned).collect();
    assert_eq!(
        (&alarms, &queries),
        (&runbook, &runbook),
        "each has an entry in the runbook, and no entry is of nothing"
    );
    let dashboard = operator.aws(&["cloudwatch", "get-dashboard", "--dashboard-name", "ecr-replicator"]).await;
    let body: Value = serde_json::from_str(dashboard["DashboardBody"].as_str().unwrap()).unwrap();
    assert_eq!(body["widgets"].as_array().unwrap().len(), 12, "{body}");
    assert_eq!(body["widgets"][0]["properties"]["alarms"].as_array().unwrap().len(), alarms.len());
}

/// What fails is told once a round: by its report, which says it in words, and not by its execution as well.
async fn what_fails_is_told_round_by_round(operator: &Operator) {
    let scene = &operator.scene;
    for fault in NO_LAYER {
        scene.stack.ecr().fault(fault().in_region(TARGETS[0]).for_ever());
    }
    let home = tempfile::tempdir().unwrap();
    let sample = Sample { seed: 8, own_layers: vec![64], ..Sample::default() };
    let image = sample.write(home.path().join("image")).unwrap();
    let pushed = scene.stack.push(Client::installed(), &image, REPOSITORY, "v2").await.unwrap();
    let first = scene.stack.execution_for(&pushed.digest, &[]).await.unwrap();
    let first = scene.finished(&first.arn).await;
    assert_eq!(first.status, ExecutionStatus::Failed);
    let of_round = |round| {
        format!("ecr-replicator: {REPOSITORY} {} is not complete at every target, round {round}", pushed.digest)
    };
    let told = operator.told().await;
    assert_eq!(told["title"], of_round(1));
    assert_eq!(told["nextSteps"], json!([link(&first.arn), LOOK_UP, redrive(&first.arn)]));
    let (_, report) = scene.report(&first).await;
    let [outcome, cause] = &told["description"].as_str().unwrap().lines().collect::<Vec<_>>()[..] else {
        panic!("{told:#}")
    };
    let image = format!("{REPOSITORY}:v2 ({})", pushed.digest);
    assert_eq!(
        *outcome,
        format!(
            "{image} is not complete at 1 of 3 targets. Mend the cause and redrive this execution: it goes on with those alone."
        )
    );
    let message = target(&report, TARGETS[0]).message.as_deref().unwrap();
    assert_eq!(*cause, format!("{} {REPOSITORY}: CopyLayers failed with AccessDenied: {message}", TARGETS[0]));

    let second = scene.finished(&scene.stack.redrive(&first, &first).await.unwrap()).await;
    assert_eq!(second.status, ExecutionStatus::Failed);
    let told = operator.told().await;
    assert_eq!((&told["title"], &told["nextSteps"][0]), (&json!(of_round(2)), &json!(link(&first.arn))));
    scene.stack.ecr().clear_faults();
    let third = scene.finished(&scene.stack.redrive(&first, &second).await.unwrap()).await;
    assert_eq!(third.status, ExecutionStatus::Succeeded);
    let told = operator.told().await;
    assert_eq!(told["title"], format!("ecr-replicator: {REPOSITORY} {} is at every target", pushed.digest));
    assert_eq!(operator.received("deployments").await.len(), 1, "it may be deployed now");

    // Without a round there is no report: the execution says it, and Lambda's words are what it has.
    let denied = Fault::new("BatchGetImage", 400, "AccessDeniedException").in_region(scene.stack.source());
    scene.stack.ecr().fault(denied.for_ever());
    let input = json!({"image": {"repository": REPOSITORY, "tag": TAG}, "rule": "all"});
    let failed = scene.start(input).await;
    let name = failed.arn.rsplit(':').next().unwrap();
    let told = operator.told().await;
    assert_eq!(told["title"], format!("ecr-replicator: the execution {name} failed: AccessDenied"));
    assert_eq!(told["description"], failed.cause.unwrap());
    assert_eq!(told["nextSteps"], json!([link(&failed.arn), LOOK_UP, redrive(&failed.arn)]));
    scene.stack.ecr().clear_faults();
}

/// The event of a round that ended so, by an execution of the stack.
fn report_event(operator: &Operator, rule: &str, outcomes: &[Value]) -> Value {
    let Input { execution, round } = decode(input(1, &json!([]), outcomes)).unwrap();
    let mut report = report::report(execution, round);
    report.execution.arn =
        format!("{}:run-1", operator.scene.stack.state_machine_arn().replace(":stateMachine:", ":execution:"));
    report.rule = Some(rule.to_owned());
    let outcome = if report.complete { "Complete" } else { "Incomplete" };
    event("ecr-replicator", &format!("Image Replication {outcome}"), &json!(report))
}

fn event(source: &str, detail_type: &str, detail: &Value) -> Value {
    json!({
        "version": "0", "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718", "detail-type": detail_type, "source": source,
        "account": "000000000000", "time": "2026-11-16T01:54:41Z", "region": "eu-central-1", "resources": [], "detail": detail,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_takes_what_is_said_of_it() {
    if !is_cli_installed().await {
        return println!("SKIPPED: the AWS CLI is not installed");
    }
    let options = Options { notify_on: Some("all".to_owned()), ..Options::quick(&TARGETS) };
    let operator = Operator::of(Scene::of(&Sample::default(), options).await);
    each_event_is_told_by_one_rule(&operator).await;
    a_deployment_may_wait_as_the_readme_says(&operator).await;
}

/// However the targets of a round end, and however an execution does, one rule tells it, or none.
async fn each_event_is_told_by_one_rule(operator: &Operator) {
    let stack = &operator.scene.stack;
    let prefix = "ecr-replicator-notify.";
    let rules = operator.aws(&["events", "list-rules", "--name-prefix", prefix]).await;
    let rules: Vec<(&str, &str)> = rules["Rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| (rule["Name"].as_str().unwrap(), rule["EventPattern"].as_str().unwrap()))
        .collect();
    assert_eq!(rules.len(), 7, "{rules:?}");
    let told_by = async |event: &Value| {
        let mut by = Vec::new();
        for (rule, pattern) in &rules {
            if stack.lets_through(pattern, event).await.unwrap() {
                by.push(rule.strip_prefix(prefix).unwrap());
            }
        }
        by
    };

    let lost = failed("us-west-2", "CopyLayers", "ImageNotFound", "gone");
    let denied = failed("eu-west-1", "CopyLayers", "AccessDenied", "no");
    let conflict = failed("eu-west-1", "PutManifest", "TagConflict", "the tag v1 is immutable there");
    for (outcomes, rule) in [
        (vec![succeeded("eu-west-1"), succeeded("us-west-2")], "round-complete"),
        (vec![succeeded("eu-west-1"), denied.clone()], "round-incomplete"),
        (vec![conflict.clone()], "round-incomplete"),
        (vec![lost.clone()], "round-skipped"),
        (vec![succeeded("eu-west-1"), lost.clone()], "round-skipped"),
        (vec![lost.clone(), denied.clone()], "round-incomplete"),
        (vec![succeeded("us-east-1"), conflict, lost, denied], "round-incomplete"),
    ] {
        let event = report_event(operator, "all", &outcomes);
        assert_eq!(told_by(&event).await, [rule], "{event:#}");
    }
    let mut foreign = report_event(operator, "all", &[succeeded("eu-west-1")]);
    foreign["detail"]["execution"]["arn"] = json!(crate::report::EXECUTION);
    assert_eq!(told_by(&foreign).await, [""; 0], "another deployment's");
    let mut repeated = report_event(operator, "all", &[failed("eu-west-1", "CopyLayers", "AccessDenied", "no")]);
    repeated["detail"]["repeated"] = json!(true);
    assert_eq!(told_by(&repeated).await, [""; 0], "its execution has failed, and that was told");
    let run = format!("{}:1", stack.reconciliations().state_machine_arn().replace(":stateMachine:", ":execution:"));
    for outcomes in [vec![succeeded("eu-west-1")], vec![failed("eu-west-1", "CopyLayers", "AccessDenied", "no")]] {
        let mut of_repair = report_event(operator, "all", &outcomes);
        of_repair["detail"]["execution"]["startedBy"] = json!(run);
        assert_eq!(told_by(&of_repair).await, [""; 0], "the run tells of all of its images");
    }
    for (outcome, repeated, execution, rules) in [
        ("Complete", false, run.as_str(), &["targets-agree"][..]),
        ("Incomplete", false, &run, &["targets-differ"]),
        ("Incomplete", true, &run, &[]),
        ("Incomplete", false, crate::report::EXECUTION, &[]),
    ] {
        let detail = json!({"execution": {"arn": execution}, "repeated": repeated});
        let event = event("ecr-replicator", &format!("ECR Registry Reconcile {outcome}"), &detail);
        assert_eq!(told_by(&event).await, rules, "{event:#}");
    }

    for (status, error, rules) in [
        ("RUNNING", None, &[][..]),
        ("SUCCEEDED", None, &[]),
        ("FAILED", Some("ReplicationIncomplete"), &[]),
        ("FAILED", Some("ReconcileIncomplete"), &[]),
        ("FAILED", Some("ReportUndelivered"), &["execution-failed"]),
        ("FAILED", Some("States.Runtime"), &["execution-failed"]),
        ("TIMED_OUT", None, &["execution-ended"]),
        ("ABORTED", None, &["execution-ended"]),
    ] {
        for state_machine in [stack.state_machine_arn(), stack.reconciliations().state_machine_arn()] {
            let detail = json!({"stateMachineArn": state_machine, "status": status, "error": error});
            let event = event("aws.states", "Step Functions Execution Status Change", &detail);
            assert_eq!(told_by(&event).await, rules, "{event:#}");
        }
    }
}

/// The README's rule takes what a rule replicated everywhere, and nothing that somebody sent to fewer targets.
async fn a_deployment_may_wait_as_the_readme_says(operator: &Operator) {
    let readme = include_str!("../../README.md");
    let [pattern] = &blocks(readme, "json")[..] else { panic!("the README has another pattern, or none") };
    let complete = [succeeded("eu-west-1")];
    let failed = [failed("eu-west-1", "CopyLayers", "AccessDenied", "no")];
    let mut by_hand = report_event(operator, "releases", &complete);
    by_hand["detail"]["rule"] = Value::Null;
    for (event, passes) in [
        (report_event(operator, "releases", &complete), true),
        (report_event(operator, "staging", &complete), false),
        (by_hand, false),
        (report_event(operator, "releases", &failed), false),
    ] {
        assert_eq!(operator.scene.stack.lets_through(pattern, &event).await.unwrap(), passes, "{event:#}");
    }
}
