//! Executions that failed and are redriven, on the local stack: what Step Functions does then is simulated there.

use std::collections::BTreeMap;

use ecr_local::Fault;
use local_stack::{ExecutionStatus, ReportEvent};
use serde_json::json;
use shared::contract::{Report, Status};

use crate::scene::{NO_LAYER, REPOSITORY, Scene, TAG, TARGETS, target, until};

/// The regions that the last round worked on.
fn worked_on(scene: &Scene) -> Vec<&'static str> {
    let stats = scene.stack.ecr().stats();
    TARGETS.into_iter().filter(|region| stats.regions.contains_key(*region)).collect()
}

/// Every target of a report with the round that it was settled in, or failed in.
fn rounds(report: &Report) -> BTreeMap<&str, (u32, Status)> {
    report.targets.iter().map(|target| (target.region.as_str(), (target.round, target.status))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_redriven_and_what_arrived_is_left_alone() {
    let scene = Scene::set(&TARGETS).await;
    failed_targets_run_again(&scene).await;
    an_execution_that_found_no_image_begins_again(&scene).await;
    a_report_that_was_not_delivered_is(&scene).await;
    a_failed_round_that_was_not_told_is(&scene).await;
    an_execution_that_was_stopped_goes_on(&scene).await;
}

async fn failed_targets_run_again(scene: &Scene) {
    let [whole, without_repository, without_layers] = TARGETS;
    for fault in NO_LAYER {
        scene.stack.ecr().fault(fault().in_region(without_layers).for_ever());
    }
    let no_repository = Fault::new("CreateRepository", 400, "AccessDeniedException");
    scene.stack.ecr().fault(no_repository.in_region(without_repository).for_ever());
    let (_, first) = scene.replicate().await;
    assert_eq!(first.error.as_deref(), Some("ReplicationIncomplete"), "{first:?}");
    let source = scene.read(scene.stack.source()).await;
    assert_eq!(scene.read(whole).await, source);

    // One cause is mended, and then the other.
    scene.stack.ecr().clear_faults();
    for fault in NO_LAYER {
        scene.stack.ecr().fault(fault().in_region(without_layers).for_ever());
    }
    scene.stack.ecr().reset_stats();
    let second = scene.stack.redrive(&first, &first).await.unwrap();
    let second = scene.finished(&second).await;
    assert_eq!(second.error.as_deref(), Some("ReplicationIncomplete"), "{second:?}");
    assert!(second.cause.as_deref().unwrap().contains("at 1 of 3 targets"), "{second:?}");
    assert_eq!(worked_on(scene), [without_repository, without_layers]);
    assert_eq!(scene.read(without_repository).await, source);
    scene.stack.registry(without_layers).await.unwrap().digest(REPOSITORY, TAG).await.unwrap_err();

    scene.stack.ecr().clear_faults();
    scene.stack.ecr().reset_stats();
    let third = scene.stack.redrive(&first, &second).await.unwrap();
    let third = scene.finished(&third).await;
    assert_eq!(third.status, ExecutionStatus::Succeeded, "{third:?}");
    assert_eq!(worked_on(scene), [without_layers]);
    assert_eq!(scene.read(without_layers).await, source);

    // Every round was reported under the one execution, once more by the redrive that went on from it, and each report has what
    // the rounds before it settled.
    let reports = scene.stack.reports(&first.arn).await.unwrap();
    let [one, again, two, two_again, three] =
        &reports.iter().map(|event: &ReportEvent| &event.report).collect::<Vec<_>>()[..]
    else {
        panic!("{reports:#?}")
    };
    for (report, repeated) in [(one, again), (two, two_again)] {
        assert_eq!(*repeated, &Report { repeated: true, ..(*report).clone() });
        assert!(!report.repeated);
    }
    let (replicated, failed) = (Status::Replicated, Status::Failed);
    let wanted = |rounds: [(u32, Status); 3]| TARGETS.into_iter().zip(rounds).collect::<BTreeMap<_, _>>();
    assert_eq!(rounds(one), wanted([(1, replicated), (1, failed), (1, failed)]));
    assert_eq!(rounds(two), wanted([(1, replicated), (2, replicated), (2, failed)]));
    assert_eq!(rounds(three), wanted([(1, replicated), (2, replicated), (3, replicated)]));
    assert_eq!([one, two, three].map(|report| (report.round, report.complete)), [(1, false), (2, false), (3, true)]);
    assert_eq!(target(three, whole), target(one, whole), "what a round settled is told as it was");
    assert_eq!(third.output.unwrap()["report"], json!(three));
}

async fn an_execution_that_found_no_image_begins_again(scene: &Scene) {
    let denied = Fault::new("BatchGetImage", 400, "AccessDeniedException").in_region(scene.stack.source());
    scene.stack.ecr().fault(denied.for_ever());
    for fault in NO_LAYER {
        scene.stack.ecr().fault(fault().in_region(TARGETS[0]).for_ever());
    }
    let targets = json!([{"region": TARGETS[0], "repository": "mirror/app"}]);
    let first = scene.start(json!({"image": {"repository": REPOSITORY, "tag": TAG}, "targets": targets})).await;
    assert_eq!(first.error.as_deref(), Some("AccessDenied"), "{first:?}");

    // It was redriven once before its first round: that round fails like any other.
    scene.stack.ecr().clear_faults();
    for fault in NO_LAYER {
        scene.stack.ecr().fault(fault().in_region(TARGETS[0]).for_ever());
    }
    let second = scene.stack.redrive(&first, &first).await.unwrap();
    let second = scene.finished(&second).await;
    assert_eq!(second.error.as_deref(), Some("ReplicationIncomplete"), "{second:?}");

    scene.stack.ecr().clear_faults();
    let third = scene.stack.redrive(&first, &second).await.unwrap();
    let third = scene.finished(&third).await;
    assert_eq!(third.status, ExecutionStatus::Succeeded, "{third:?}");
    let reports = scene.stack.reports(&first.arn).await.unwrap();
    let told: Vec<_> = reports.iter().map(|ReportEvent { report, .. }| (report.round, report.repeated)).collect();
    assert_eq!(told, [(1, false), (1, true), (2, false)]);
    let registry = scene.stack.registry(TARGETS[0]).await.unwrap();
    assert_eq!(registry.read("mirror/app", TAG).await.unwrap(), scene.read(scene.stack.source()).await);
}

async fn a_report_that_was_not_delivered_is(scene: &Scene) {
    scene.stack.refuse_events(true);
    let targets = json!([{"region": TARGETS[1], "repository": "mirror/app"}]);
    let first = scene.start(json!({"image": {"repository": REPOSITORY, "tag": TAG}, "targets": targets})).await;
    assert_eq!(first.error.as_deref(), Some("ReportUndelivered"), "{first:?}");
    let registry = scene.stack.registry(TARGETS[1]).await.unwrap();
    let source = scene.read(scene.stack.source()).await;
    assert_eq!(registry.read("mirror/app", TAG).await.unwrap(), source, "it arrived");
    // A line of its own for each attempt.
    let logs = scene.stack.function_logs().await.unwrap();
    let logged: Vec<Report> = logs.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let logged: Vec<Report> = logged.into_iter().filter(|report| report.execution.arn == first.arn).collect();
    assert_eq!(logged.len(), 1 + 6, "the retries of the definition");
    assert!(logged.iter().all(|report| report == &logged[0] && report.complete));

    scene.stack.refuse_events(false);
    scene.stack.ecr().reset_stats();
    let second = scene.stack.redrive(&first, &first).await.unwrap();
    let second = scene.finished(&second).await;
    assert_eq!(second.status, ExecutionStatus::Succeeded, "{second:?}");
    assert_eq!(worked_on(scene), [] as [&str; 0]);
    let (_, report) = scene.report(&first).await;
    assert_eq!(report, logged[0]);
}

async fn a_failed_round_that_was_not_told_is(scene: &Scene) {
    scene.stack.refuse_events(true);
    for fault in NO_LAYER {
        scene.stack.ecr().fault(fault().in_region(TARGETS[1]).for_ever());
    }
    let targets = json!([{"region": TARGETS[1], "repository": "untold/app"}]);
    let first = scene.start(json!({"image": {"repository": REPOSITORY, "tag": TAG}, "targets": targets})).await;
    assert_eq!(first.error.as_deref(), Some("ReportUndelivered"), "{first:?}");

    scene.stack.refuse_events(false);
    scene.stack.ecr().clear_faults();
    let second = scene.stack.redrive(&first, &first).await.unwrap();
    let second = scene.finished(&second).await;
    assert_eq!(second.status, ExecutionStatus::Succeeded, "{second:?}");
    let reports = scene.stack.reports(&first.arn).await.unwrap();
    let told: Vec<_> = reports.iter().map(|ReportEvent { report, .. }| (report.round, report.complete)).collect();
    assert_eq!(told, [(1, false), (2, true)]);
}

async fn an_execution_that_was_stopped_goes_on(scene: &Scene) {
    let [arrived, waiting, _] = TARGETS;
    // One target throttles its puts for as long as it takes, the other one has the image.
    scene.stack.ecr().fault(Fault::new("PutImage", 400, "ThrottleException").in_region(waiting).for_ever());
    let targets = json!([arrived, waiting].map(|region| json!({"region": region, "repository": "stopped/app"})));
    let input = json!({"image": {"repository": REPOSITORY, "tag": TAG}, "targets": targets});
    let first = scene.stack.start_execution(&input).await.unwrap();
    let has_tag = |region| {
        let there = scene.stack.ecr().view("000000000000", region, "stopped/app");
        there.is_some_and(|there| there.tags.contains_key(TAG))
    };
    let throttled = || scene.stack.ecr().faults().iter().any(|fault| fault.met > 0);
    until("one target, and the other one's throttling", || has_tag(arrived) && throttled()).await;
    scene.stack.stop(&first).await.unwrap();
    let first = scene.finished(&first).await;
    assert_eq!((first.status.clone(), has_tag(waiting)), (ExecutionStatus::Aborted, false), "{first:?}");

    scene.stack.ecr().clear_faults();
    let second = scene.stack.redrive(&first, &first).await.unwrap();
    let second = scene.finished(&second).await;
    assert_eq!(second.status, ExecutionStatus::Succeeded, "{second:?}");
    let source = scene.read(scene.stack.source()).await;
    for region in [arrived, waiting] {
        let registry = scene.stack.registry(region).await.unwrap();
        assert_eq!(registry.read("stopped/app", TAG).await.unwrap(), source, "{region}");
    }
    let (_, report) = scene.report(&first).await;
    assert!(report.complete, "{report:?}");
}
