//! What is read out of a history.

use picture::{Attempt, End, Run, Step};
use serde_json::{Value, json};
use shared::contract::Status;

use crate::{
    history::{ARN, History, failed, finished, replicated, round, target, task_input},
    service::read,
};

/// Two targets side by side: the first is throttled once and copied by two shards, the second fails; redriven two hours later,
/// it arrives. `redriven` is what the first event after the redrive follows: that is not documented.
pub(crate) fn two_targets(redriven: fn(failed: i64, redriven: i64) -> i64) -> History {
    let mut history = History::default();
    let (first, second) = (target("eu-west-1"), target("us-west-2"));
    let targets = [first.clone(), second.clone()];
    let input = json!({"rule": "releases", "image": {"repository": "prod/app", "tag": "v1"}});
    history.start(&input);
    let resolved = history.task(0, (0.1, 1.0), "ResolveImage", &input);
    let entered = history.enter(resolved, 1.0, "Choice", "IsReplicationNeeded", &json!({}));
    let chosen = history.exit(entered, 1.0, "Choice", "IsReplicationNeeded", &json!({}));
    let map = history.map(chosen, 1.0, "ReplicateToTargets", 2, &round(1, &targets, &json!([])));
    let a = history.iteration(map, 1.0, "ReplicateToTargets", 0, "Started");
    let b = history.iteration(map, 1.0, "ReplicateToTargets", 1, "Started");

    // Their events lie between each other.
    let (of_a, of_b) = (task_input(&first, &Value::Null), task_input(&second, &Value::Null));
    let a = history.enter(a, 1.0, "Task", "EnsureRepository", &of_a);
    let b = history.enter(b, 1.1, "Task", "EnsureRepository", &of_b);
    let a = history.schedule(a, 1.1, &of_a);
    let b = history.schedule(b, 1.1, &of_b);
    let a = history.fail(a, 1.5, "RegistryThrottled", "slow down");
    let b = history.succeed(b, 1.6);
    let b = history.exit(b, 1.6, "Task", "EnsureRepository", &json!({}));
    let a = history.schedule(a, 3.5, &of_a);
    let b = history.map(b, 1.6, "CopyShards", 1, &of_b);
    let b = history.iteration(b, 1.6, "CopyShards", 0, "Started");
    let b = history.enter(b, 1.7, "Task", "CopyLayers", &of_b);
    let b = history.schedule(b, 1.7, &of_b);
    let a = history.succeed(a, 3.9);
    let b = history.fail(b, 4.0, "AccessDenied", "not allowed to upload");
    let a = history.exit(a, 3.9, "Task", "EnsureRepository", &json!({}));
    let b = history.exit(b, 4.0, "Task", "CopyLayers", &json!({}));
    let b = history.iteration(b, 4.0, "CopyShards", 0, "Succeeded");
    let b = history.end_map(b, 4.0, "CopyShards", &json!({}));
    let b = history.enter(b, 4.0, "Pass", "RecordFailure", &json!({}));
    let b = history.exit(b, 4.0, "Pass", "RecordFailure", &json!({}));
    history.iteration(b, 4.0, "ReplicateToTargets", 1, "Succeeded");

    // The copy is handed out in two shards.
    let a = history.map(a, 4.0, "CopyShards", 1, &of_a);
    let a = history.iteration(a, 4.0, "CopyShards", 0, "Started");
    let a = history.task(a, (4.0, 4.4), "CopyLayers", &of_a);
    let a = history.iteration(a, 4.4, "CopyShards", 0, "Succeeded");
    let a = history.end_map(a, 4.4, "CopyShards", &json!({}));
    let shards = history.map(a, 4.5, "CopyShards", 2, &of_a);
    let one = history.iteration(shards, 4.5, "CopyShards", 0, "Started");
    let two = history.iteration(shards, 4.5, "CopyShards", 1, "Started");
    let (of_one, of_two) = (task_input(&first, &json!([{"size": 1}])), task_input(&first, &json!([{"size": 2}])));
    let one = history.enter(one, 4.5, "Task", "CopyLayers", &of_one);
    let two = history.enter(two, 4.5, "Task", "CopyLayers", &of_two);
    let one = history.schedule(one, 4.5, &of_one);
    let two = history.schedule(two, 4.5, &of_two);
    let one = history.succeed(one, 14.5);
    let two = history.succeed(two, 16.5);
    let one = history.exit(one, 14.5, "Task", "CopyLayers", &json!({}));
    history.iteration(one, 14.5, "CopyShards", 0, "Succeeded");
    let two = history.exit(two, 16.5, "Task", "CopyLayers", &json!({}));
    let two = history.iteration(two, 16.5, "CopyShards", 1, "Succeeded");
    let a = history.end_map(two, 16.5, "CopyShards", &json!({}));
    let a = history.task(a, (16.6, 17.6), "PutManifest", &of_a);
    let a = history.iteration(a, 17.6, "ReplicateToTargets", 0, "Succeeded");
    let outcomes = [replicated(&first, 30_000_000), failed(&second, "AccessDenied", "not allowed to upload")];
    let round_1 = finished(1, &outcomes, &json!([]));
    let map = history.end_map(a, 17.7, "ReplicateToTargets", &round_1);

    let report_input = json!({"execution": {}, "round": round_1});
    let entered = history.enter(map, 17.7, "Task", "Report", &round_1);
    let started = history.schedule(entered, 17.7, &report_input);
    let fails = history.fail(started, 18.0, "ReplicationIncomplete", "prod/app:v1 is not complete at 1 of 2 targets");
    let details = json!({"error": "ReplicationIncomplete", "cause": "{\"errorMessage\": \"1 of 2 targets\"}"});
    let execution = history.add(fails, 18.0, "ExecutionFailed", json!({"executionFailedEventDetails": details}));
    let redrive = history.add(
        execution,
        7200.0,
        "ExecutionRedriven",
        json!({"executionRedrivenEventDetails": {"redriveCount": 1}}),
    );

    let started = history.schedule(redriven(fails, redrive), 7200.1, &report_input);
    let reported = history.succeed(started, 7200.4);
    let reported = history.exit(reported, 7200.4, "Task", "Report", &json!({}));
    let settled = json!([]);
    let map = history.map(reported, 7200.5, "ReplicateToTargets", 1, &round(2, &targets[1..], &settled));
    let b = history.iteration(map, 7200.5, "ReplicateToTargets", 0, "Started");
    let b = history.task(b, (7200.5, 7200.9), "EnsureRepository", &of_b);
    let copy = history.map(b, 7200.9, "CopyShards", 1, &of_b);
    let copy = history.iteration(copy, 7200.9, "CopyShards", 0, "Started");
    let copy = history.task(copy, (7200.9, 7203.0), "CopyLayers", &of_b);
    let copy = history.iteration(copy, 7203.0, "CopyShards", 0, "Succeeded");
    let b = history.end_map(copy, 7203.0, "CopyShards", &json!({}));
    let b = history.task(b, (7203.0, 7203.5), "PutManifest", &of_b);
    let b = history.iteration(b, 7203.5, "ReplicateToTargets", 0, "Succeeded");
    let round_2 = finished(2, &[replicated(&second, 39_845_888)], &settled);
    let map = history.end_map(b, 7203.5, "ReplicateToTargets", &round_2);
    let reported = history.task(map, (7203.5, 7204.0), "Report", &round_2);
    history.add(reported, 7204.0, "ExecutionSucceeded", json!({"executionSucceededEventDetails": {"output": "{}"}}));
    history
}

/// The events up to one of this type, that one included.
pub(crate) fn until(history: &History, r#type: &str) -> History {
    let end = history.events.iter().position(|event| event["type"] == r#type).unwrap();
    History { events: history.events[..=end].to_vec() }
}

fn steps<'run>(run: &'run Run, target: Option<&str>) -> Vec<&'run Step> {
    let region = |step: &Step| step.target.map(|index| run.targets[index].place.region.as_str());
    run.steps.iter().filter(|step| region(step) == target).collect()
}

/// A step's name, its shard, and from when to when, in milliseconds, it was at work how.
fn told(step: &Step, run: &Run) -> (String, Vec<(i64, i64, String)>) {
    let at = |time: jiff::Timestamp| time.as_millisecond() - run.started_at.as_millisecond();
    let attempt = |attempt: &Attempt| {
        let end = match &attempt.end_state {
            End::Failed(failed) => failed.error.clone(),
            other => format!("{other:?}"),
        };
        (at(attempt.start), at(attempt.end), end)
    };
    let shard = step.shard.map(|shard| format!(" {shard}")).unwrap_or_default();
    (format!("{}{shard}", step.name), step.attempts.iter().map(attempt).collect())
}

fn one(name: &str, from: i64, to: i64) -> (String, Vec<(i64, i64, String)>) {
    (name.to_owned(), vec![(from, to, "Succeeded".to_owned())])
}

#[tokio::test]
async fn every_event_finds_the_target_and_the_shard_that_it_is_of() {
    // Whatever the first event after a redrive follows.
    for redriven in [|_, redriven| redriven, |failed, _| failed, |_, _| 0] as [fn(i64, i64) -> i64; 3] {
        let history = two_targets(redriven);
        let run = read(&history, json!({"status": "SUCCEEDED", "stopDate": crate::history::START + 7204.0})).await;
        let told = |target| steps(&run, target).into_iter().map(|step| told(step, &run)).collect::<Vec<_>>();
        let failed = |error: &str| error.to_owned();
        let throttled = vec![(1100, 1500, failed("RegistryThrottled")), (3500, 3900, "Succeeded".to_owned())];
        assert_eq!(
            told(Some("eu-west-1")),
            [
                ("EnsureRepository".to_owned(), throttled),
                one("CopyLayers", 4000, 4400),
                one("CopyLayers 1", 4500, 14_500),
                one("CopyLayers 2", 4500, 16_500),
                one("PutManifest", 16_600, 17_600),
            ]
        );
        assert_eq!(
            told(Some("us-west-2")),
            [
                one("EnsureRepository", 1100, 1600),
                ("CopyLayers".to_owned(), vec![(1700, 4000, failed("AccessDenied"))]),
                one("EnsureRepository", 7_200_500, 7_200_900),
                one("CopyLayers", 7_200_900, 7_203_000),
                one("PutManifest", 7_203_000, 7_203_500),
            ]
        );
        let report =
            vec![(17_700, 18_000, failed("ReplicationIncomplete")), (7_200_100, 7_200_400, "Succeeded".to_owned())];
        assert_eq!(
            told(None),
            [one("ResolveImage", 100, 1000), ("Report".to_owned(), report), one("Report", 7_203_500, 7_204_000),]
        );
        assert_eq!((run.retries(0), run.retries(1)), (1, 0), "a redrive is no retry");
        assert_eq!((run.parts.len(), run.rounds), (2, 2));
        let slowest = run.slowest().unwrap();
        assert_eq!((slowest.target, slowest.part), (0, 0));
        assert_eq!((slowest.target_ms, slowest.step_ms), (16_500, 12_000));
        assert_eq!(run.steps[slowest.step].shard, Some(2));
        assert_eq!(run.arn, ARN);
    }
}

#[tokio::test]
async fn the_figures_are_the_reports() {
    let run = read(&two_targets(|_, redriven| redriven), json!({"status": "SUCCEEDED"})).await;
    let report = |index: usize| run.targets[index].report.as_ref().unwrap();
    assert_eq!((report(0).status, report(0).round), (Status::Replicated, 1));
    assert_eq!((report(0).bytes_copied, report(0).bytes_skipped), (30_000_000, 9_845_888));
    assert_eq!((report(0).layers_copied, report(0).layers_skipped, report(0).lag_ms), (6, 2, Some(20_000)));
    assert_eq!((report(1).status, report(1).round), (Status::Replicated, 2));
    assert_eq!(run.image.repository.as_deref(), Some("prod/app"));
    assert_eq!(run.rule.as_deref(), Some("releases"));
}

#[tokio::test]
async fn what_the_end_of_the_execution_cut_off_is_told() {
    let stopped = until(&two_targets(|_, redriven| redriven), "TaskFailed");
    let run = read(&stopped, json!({"status": "ABORTED", "stopDate": crate::history::START + 2.0})).await;
    let ends = |run: &Run| -> Vec<End> {
        steps(run, Some("us-west-2")).iter().flat_map(|step| &step.attempts).map(|it| it.end_state.clone()).collect()
    };
    assert_eq!(ends(&run), [End::Stopped]);
    let run = read(&stopped, json!({"status": "RUNNING"})).await;
    assert_eq!(ends(&run), [End::Running]);
    assert!(run.targets.iter().all(|target| target.report.is_none()));
}

#[tokio::test]
async fn a_round_that_cannot_be_read_leaves_the_timeline() {
    let mut history = two_targets(|_, redriven| redriven);
    for event in &mut history.events {
        let details = &mut event["stateExitedEventDetails"];
        if details["name"] == "ReplicateToTargets" {
            details["output"] = json!("{\"of\": \"another version\"}");
        }
    }
    let run = read(&history, json!({"status": "SUCCEEDED"})).await;
    assert!(run.unreadable.as_deref().unwrap().contains("missing field `image`"), "{:?}", run.unreadable);
    assert_eq!(steps(&run, Some("us-west-2")).len(), 5);
}
