//! reconcile-registry end to end, on the local stack: both state machines, the packaged functions, a registry that was there before.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_ecr::types::ImageIdentifier;
use ecr_local::Fault;
use futures::{StreamExt as _, stream};
use local_stack::{Execution, ExecutionStatus, LocalStack, Options, SOURCE, Undeployed};
use serde_json::{Value, json};
use shared::names::ImageTag;
use shared::reconcile::{Item, Kind, Mode, Report, State, state_key};

use crate::operator::{Operator, is_cli_installed};
use crate::reconcile::{image, put};
use crate::scene::{Scene, until};

const NEAR: &str = "eu-west-1";
const FAR: &str = "us-east-1";
const ACCOUNT: &str = "000000000000";

/// How long a run may take over some hundred images.
const PATIENCE: Duration = Duration::from_mins(15);

async fn push(undeployed: &Undeployed, region: &str, repository: &str, name: &str, tag: &str) {
    put(&undeployed.ecr_client(region), repository, &image(name, &[name], None), &[name], &[tag]).await;
}

/// Runs reconcile-registry to its end.
async fn run(stack: &LocalStack, input: Value) -> Execution {
    let arn = stack.start_reconcile(&input).await.unwrap();
    finished(stack, &arn).await
}

async fn finished(stack: &LocalStack, arn: &str) -> Execution {
    stack.finished(arn, PATIENCE).await.unwrap()
}

/// The report in an execution's output, which the event and the object have, too.
async fn report(stack: &LocalStack, execution: &Execution) -> Report {
    assert_eq!(execution.status, ExecutionStatus::Succeeded, "{execution:?}");
    let output = execution.output.as_ref().unwrap();
    let report: Report = serde_json::from_value(output["report"].clone()).unwrap();
    let events = stack.reconcile_reports(&execution.arn).await.unwrap();
    assert_eq!(events.last().unwrap().report, report);
    let said = if report.complete { "ECR Registry Reconcile Complete" } else { "ECR Registry Reconcile Incomplete" };
    assert_eq!(events.last().unwrap().detail_type, said);
    let document: Report = serde_json::from_str(&stack.object(&report.document).await.unwrap()).unwrap();
    assert_eq!((document.items, document.round, document.complete), (report.items, report.round, report.complete));
    report
}

/// Every item of a round, as a Map reads them.
async fn items(stack: &LocalStack, report: &Report) -> Vec<Item> {
    let state = state_key(report.all.prefix.strip_suffix("differences/").unwrap());
    let state: State = serde_json::from_str(&stack.object(&state).await.unwrap()).unwrap();
    let mut items = Vec::new();
    for part in state.parts {
        let text = stack.object(&part).await.unwrap();
        items.extend(text.lines().map(|line| serde_json::from_str::<Item>(line).unwrap()));
    }
    items
}

/// The digest of each tag of a repository.
fn tags(stack: &LocalStack, region: &str, repository: &str) -> BTreeMap<String, String> {
    stack.ecr().view(ACCOUNT, region, repository).map(|view| view.tags).unwrap_or_default()
}

/// What puts something into a region.
fn writes(stack: &LocalStack, region: &str) -> u64 {
    let stats = stack.ecr().stats();
    ["PutImage", "CreateRepository", "InitiateLayerUpload", "v2:POST upload"]
        .iter()
        .map(|operation| stats.calls(region, operation))
        .sum()
}

/// The children of an execution's Map Runs, by status.
async fn children(stack: &LocalStack, execution: &str) -> Vec<(ExecutionStatus, Value)> {
    let client = stack.step_functions();
    let runs = client.list_map_runs().execution_arn(execution).send().await.unwrap();
    let mut children = Vec::new();
    for run in runs.map_runs() {
        let listed = client.list_executions().map_run_arn(run.map_run_arn()).into_paginator().items().send();
        for child in listed.collect::<Result<Vec<_>, _>>().await.unwrap() {
            let child = stack.execution(child.execution_arn()).await.unwrap();
            children.push((child.status, child.input));
        }
    }
    children
}

/// Repositories of 15 images each: 18 that the rule selects, one that it excludes and one that it does not include. Of each, two
/// have a tag that it does not select.
fn registry() -> Vec<(String, String)> {
    let repositories = (1..=18).map(|number| format!("prod/app-{number:02}"));
    let repositories = repositories.chain(["prod/scratch".to_owned(), "dev/tool".to_owned()]);
    let tags = || (1..=13).map(|number| format!("v{number}")).chain(["dev-1".to_owned(), "dev-2".to_owned()]);
    repositories.flat_map(|repository| tags().map(move |tag| (repository.clone(), tag))).collect()
}

fn is_selected((repository, tag): &(String, String)) -> bool {
    repository.starts_with("prod/app-") && tag.starts_with('v')
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_of_300_images_is_repaired_to_zero_drift() {
    let rules = json!({"releases": {
        "repositories": {"include": ["prod/*"], "exclude": ["prod/scratch*"]},
        "tags": {"include": ["v*"]},
        "targets": [{"region": NEAR}, {"region": FAR, "repository_prefix": "mirror/"}],
    }});
    let registry = registry();
    assert_eq!(registry.len(), 300);
    let options = Options { rules: Some(rules), ..Options::quick(&[NEAR, FAR]) };
    let undeployed = LocalStack::launch(options).await.unwrap();
    let fill = registry.iter().map(async |(repository, tag)| {
        let name = format!("{repository}:{tag}");
        push(&undeployed, SOURCE, repository, &name, tag).await;
        match repository.as_str() {
            "prod/app-01" if tag.starts_with('v') => push(&undeployed, NEAR, repository, &name, tag).await,
            // Moved: the tag is another image's there.
            "prod/app-02" if ["v1", "v2", "v3"].contains(&tag.as_str()) => {
                push(&undeployed, NEAR, repository, "an older one", tag).await;
            }
            // Renamed: it is there, under the name that the rule gives it, and under its own, which counts for nothing.
            "prod/app-03" if tag.starts_with('v') => {
                push(&undeployed, FAR, &format!("mirror/{repository}"), &name, tag).await;
            }
            "prod/app-04" => push(&undeployed, FAR, repository, &name, tag).await,
            _ => {}
        }
    });
    stream::iter(fill).buffer_unordered(8).collect::<Vec<()>>().await;
    let stack = undeployed.deploy().await.unwrap();
    let stack = &stack;

    // An audit says what differs, and changes nothing.
    stack.ecr().reset_stats();
    let audit = report(stack, &run(stack, json!({})).await).await;
    let selected: Vec<_> = registry.iter().filter(|image| is_selected(image)).collect();
    // Whatever the tags of what it looks at.
    assert_eq!((audit.complete, audit.repositories, audit.images), (false, 18, 18 * 15), "{}", audit.summary);
    assert_eq!(audit.items, selected.len() as u64);
    let total = |report: &Report, region: &str| {
        let total = report.totals.iter().find(|total| total.region.as_str() == region).unwrap();
        (total.compared, total.missing, total.other_digest)
    };
    assert_eq!(total(&audit, NEAR), (234, 234 - 13 - 3, 3));
    assert_eq!(total(&audit, FAR), (234, 234 - 13, 0));
    let differing = items(stack, &audit).await;
    assert_eq!(differing.len(), selected.len());
    assert_eq!(audit.differences[..], differing[..audit.differences.len()], "the first of them");
    let moved = differing.iter().flat_map(|item| &item.differences).filter(|it| it.kind == Kind::OtherDigest).count();
    assert_eq!(moved, 3);
    let stats = stack.ecr().stats();
    assert_eq!(stats.calls(SOURCE, "DescribeRepositories"), 1);
    for region in [SOURCE, NEAR, FAR] {
        assert_eq!(stats.calls(region, "DescribeImages"), 18, "one call for each repository in {region}");
        assert_eq!(writes(stack, region), 0, "{region}");
    }

    // A plan says besides what it would take.
    let plan = run(stack, json!({"mode": "plan", "pricePerGb": 1000.0, "bytesPerSecond": 100.0})).await;
    let plan = report(stack, &plan).await;
    assert_eq!(plan.items, audit.items);
    for transfer in &plan.transfers {
        assert!(transfer.bytes > 0 && !transfer.observed, "{transfer:?}");
        #[expect(clippy::cast_precision_loss, reason = "some kilobytes")]
        let bytes = transfer.bytes as f64;
        assert!((transfer.seconds.unwrap() - bytes / 100.0).abs() < 1.0, "{transfer:?}");
        assert!((transfer.cost.unwrap() - bytes / 1e6).abs() < 0.01, "{transfer:?}");
    }
    assert_eq!((plan.transfers.len(), writes(stack, NEAR), writes(stack, FAR)), (2, 0, 0));

    // A repair of a part does that part.
    let narrowed = json!({"mode": "repair", "repositories": ["prod/app-05"], "newest": 4});
    let narrowed = report(stack, &run(stack, narrowed).await).await;
    assert_eq!((narrowed.complete, narrowed.found, narrowed.items), (true, 4, 0), "{}", narrowed.summary);
    assert_eq!(tags(stack, NEAR, "prod/app-05").len(), 4);

    // A repair does the rest.
    let repair = run(stack, json!({"mode": "repair"})).await;
    let children = children(stack, &repair.arn).await;
    assert_eq!(children.len(), selected.len() - 4);
    assert!(children.iter().all(|(status, _)| *status == ExecutionStatus::Succeeded), "{children:?}");
    let repair = report(stack, &repair).await;
    assert_eq!((repair.complete, repair.found, repair.items), (true, 230, 0), "{}", repair.summary);
    assert_eq!(repair.failures, []);
    for number in 1..=18 {
        let repository = format!("prod/app-{number:02}");
        let mut wanted = tags(stack, SOURCE, &repository);
        wanted.retain(|tag, _| tag.starts_with('v'));
        assert_eq!(tags(stack, NEAR, &repository), wanted, "{repository}");
        assert_eq!(tags(stack, FAR, &format!("mirror/{repository}")), wanted, "{repository}");
    }
    for repository in ["prod/scratch", "dev/tool"] {
        assert_eq!(tags(stack, NEAR, repository), BTreeMap::new(), "{repository}");
        assert_eq!(tags(stack, FAR, &format!("mirror/{repository}")), BTreeMap::new(), "{repository}");
    }

    // Nothing differs any more, and the gauge says so.
    let last = run(stack, json!({"mode": "audit"})).await;
    let last = (last.arn.clone(), report(stack, &last).await);
    assert_eq!((last.1.complete, last.1.items), (true, 0), "{}", last.1.summary);
    let logs = stack.function_logs().await.unwrap();
    let logged: Vec<Value> = logs.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let name = last.0.rsplit(':').next().unwrap();
    let gauges = logged.iter().filter(|line| line.get("_aws").is_some() && line["execution"] == name);
    let drifts: BTreeMap<_, _> =
        gauges.map(|line| ((line["Rule"].as_str(), line["Region"].as_str()), line["Drift"].as_u64())).collect();
    let none = [(Some("releases"), Some(NEAR)), (Some("releases"), Some(FAR)), (None, None)].map(|of| (of, Some(0)));
    assert_eq!(drifts, BTreeMap::from(none));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_is_watched_disturbed_and_redriven() {
    // One after the other, so that there is time for something to happen.
    let options = Options { reconcile: json!({"concurrency": 1}), ..Options::quick(&[NEAR, FAR]) };
    let scene = Scene::onto(options, async |undeployed| {
        for number in 1..=6 {
            push(undeployed, SOURCE, "prod/app", &format!("image {number}"), &format!("v{number}")).await;
        }
    })
    .await;
    let operator = is_cli_installed().await.then(|| Operator::of(scene));
    let Some(operator) = operator else { return println!("SKIPPED: the AWS CLI is not installed") };
    what_the_schedule_starts_is_a_run(&operator).await;
    what_happens_meanwhile_is_no_failure(&operator).await;
    a_child_that_fails_is_redriven(&operator).await;
}

async fn what_the_schedule_starts_is_a_run(operator: &Operator) {
    let stack = &operator.scene.stack;
    let schedule = operator.aws(&["scheduler", "get-schedule", "--name", "ecr-replicator-reconcile"]).await;
    assert_eq!(schedule["Target"]["Arn"], stack.reconciliations().state_machine_arn());
    let input = serde_json::from_str(schedule["Target"]["Input"].as_str().unwrap()).unwrap();
    let audit = report(stack, &run(stack, input).await).await;
    assert_eq!(audit.request.mode, Mode::Audit);
    // What was pushed within the hour may still be on its way.
    assert_eq!((audit.complete, audit.images, audit.items), (true, 0, 0), "{}", audit.summary);
    let now = report(stack, &run(stack, json!({})).await).await;
    assert_eq!((now.complete, now.items), (false, 6), "{}", now.summary);
    assert_eq!(writes(stack, NEAR) + writes(stack, FAR), 0, "it only looks");
}

async fn what_happens_meanwhile_is_no_failure(operator: &Operator) {
    let stack = &operator.scene.stack;
    // Slow enough for what comes in between.
    stack.ecr().fault(Fault::slow("PutImage", Duration::from_secs(2)).in_region(NEAR).for_ever());
    let output = operator.run("make", &["--silent", "reconcile", "MODE=repair"]).await;
    assert!(output.status.success(), "{output:?}");
    let repair = String::from_utf8(output.stdout).unwrap().trim().to_owned();

    // An image goes, and another one comes.
    until("the first child", || !tags(stack, NEAR, "prod/app").is_empty()).await;
    let client = stack.ecr_client(SOURCE);
    let there = tags(stack, NEAR, "prod/app");
    let last = tags(stack, SOURCE, "prod/app").into_keys().rfind(|tag| !there.contains_key(tag)).unwrap();
    let id = ImageIdentifier::builder().image_tag(&last).build();
    let deleted = client.batch_delete_image().repository_name("prod/app").image_ids(id).send().await.unwrap();
    assert_eq!(deleted.failures(), []);
    put(&client, "prod/app", &image("a new one", &["new"], None), &["new"], &["v7"]).await;

    // Whoever comes second says so, and ends.
    let output = operator.run("make", &["--silent", "reconcile"]).await;
    let second = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let second = finished(stack, &second).await;
    assert_eq!(second.status, ExecutionStatus::Succeeded, "{second:?}");
    assert_eq!(second.output.unwrap()["alreadyRunning"], repair.as_str());

    let progress = operator.run("terraform/reconcile-progress.sh", &[&repair, "0.2"]).await;
    let shown = String::from_utf8(progress.stdout.clone()).unwrap();
    assert!(progress.status.success(), "{progress:?}");
    assert!(shown.contains("ReplicateImages [##############################] 100 %, 6 of 6 replicated"), "{shown}");
    let repair = finished(stack, &repair).await;
    stack.ecr().clear_faults();
    let gone = children(stack, &repair.arn).await.into_iter().find(|(_, input)| input["tag"] == last.as_str());
    assert_eq!(gone.unwrap().0, ExecutionStatus::Succeeded, "an image that is gone is no failure");
    let repair = report(stack, &repair).await;
    assert_eq!((repair.complete, repair.found, repair.items), (true, 6, 0), "{}", repair.summary);
    assert!(shown.ends_with(&format!("{}\n", repair.summary)), "{shown}");
    let wanted = tags(stack, SOURCE, "prod/app");
    assert_eq!(wanted.len(), 6);
    // Its own event brings the new one.
    for region in [NEAR, FAR] {
        until("the new image", || tags(stack, region, "prod/app") == wanted).await;
    }
}

async fn a_child_that_fails_is_redriven(operator: &Operator) {
    let stack = &operator.scene.stack;
    let ids = ["v1", "v7"].map(|tag| ImageIdentifier::builder().image_tag(tag).build());
    let mended = tags(stack, FAR, "prod/app");
    let delete = stack.ecr_client(FAR).batch_delete_image().repository_name("prod/app");
    assert_eq!(delete.set_image_ids(Some(ids.into())).send().await.unwrap().failures(), []);
    stack
        .ecr()
        .fault(Fault::new("PutImage", 400, "AccessDeniedException").in_region(FAR).of_image(&mended["v7"]).for_ever());
    let first = run(stack, json!({"mode": "repair"})).await;
    assert_eq!(first.error.as_deref(), Some("ReconcileIncomplete"), "{first:?}");
    let cause = first.cause.as_deref().unwrap();
    assert!(cause.contains(FAR) && cause.contains("prod/app:v7"), "{cause}");
    let mut statuses: Vec<_> = children(stack, &first.arn).await;
    statuses.sort_by_key(|(_, input)| input["tag"].to_string());
    let statuses: Vec<_> = statuses.into_iter().map(|(status, _)| status).collect();
    assert_eq!(statuses, [ExecutionStatus::Succeeded, ExecutionStatus::Failed]);
    let progress = operator.run("make", &["--silent", "reconcile-progress", &format!("EXECUTION={}", first.arn)]).await;
    assert!(!progress.status.success(), "{progress:?}");
    let said = String::from_utf8(progress.stderr).unwrap();
    assert!(said.contains("FAILED: ") && said.contains("ReconcileIncomplete"), "{said}");

    stack.ecr().clear_faults();
    stack.ecr().reset_stats();
    let second = stack.redrive_reconcile(&first, &first).await.unwrap();
    let second = finished(stack, &second).await;
    assert_eq!(second.status, ExecutionStatus::Succeeded, "{second:?}");
    assert_eq!(tags(stack, FAR, "prod/app"), mended);
    assert_eq!(stack.ecr().stats().calls(FAR, "PutImage"), 1, "what arrived is not sent again");
    let reports = stack.reconcile_reports(&first.arn).await.unwrap();
    let told = reports.iter().map(|event| (event.report.round, event.report.repeated, event.report.complete));
    assert_eq!(told.collect::<Vec<_>>(), [(1, false, false), (1, true, false), (2, false, true)]);
    let [failure] = &reports[0].report.failures[..] else { panic!("{:?}", reports[0].report.failures) };
    assert_eq!(failure.tag.as_ref().map(ImageTag::as_str), Some("v7"), "{failure:?}");
}
