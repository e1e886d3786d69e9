//! What the page shows, and what it looks like in a browser.

use picture::page;
use serde_json::{Value, json};

use crate::{
    browser::open,
    history::{History, START, failed, finished, replicated, round, target, task_input},
    runs::{two_targets, until},
    service::read,
};

/// What a registry might say to do harm.
const HOSTILE: &str =
    "</p><script>document.title='owned'</script><img src=x onerror=alert(1)>{{ 7 * 7 }}\" onmouseover='x' &amp;";

/// So many targets, the last of which fails.
fn many_targets(count: usize, repository: &str, error: &str, message: &str) -> History {
    let mut history = History::default();
    let targets: Vec<Value> = (0..count)
        .map(|index| {
            let mut target = target(&format!("xx-region-{}", index + 1));
            target["repository"] = json!(repository);
            target["registryId"] = json!("210987654321");
            target
        })
        .collect();
    history.start(&json!({"rule": "releases"}));
    let map = history.map(0, 1.0, "ReplicateToTargets", count, &round(1, &targets, &json!([])));
    let (mut outcomes, mut last) = (Vec::new(), map);
    for (index, target) in targets.iter().enumerate() {
        let input = task_input(target, &Value::Null);
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let at = 1.0 + index as f64 * 0.7;
        let iteration = history.iteration(map, 1.0, "ReplicateToTargets", index, "Started");
        let ensured = history.task(iteration, (at, at + 0.4), "EnsureRepository", &input);
        let entered = history.enter(ensured, at + 0.5, "Task", "CopyLayers", &input);
        let started = history.schedule(entered, at + 0.5, &input);
        let copied = if index + 1 == count {
            outcomes.push(failed(target, error, message));
            history.fail(started, at + 3.0, error, message)
        } else {
            outcomes.push(replicated(target, 39_845_888));
            let copied = history.succeed(started, at + 9.0);
            let copied = history.exit(copied, at + 9.0, "Task", "CopyLayers", &json!({}));
            history.task(copied, (at + 9.0, at + 9.1), "PutManifest", &input)
        };
        last = history.iteration(copied, at + 9.5, "ReplicateToTargets", index, "Succeeded");
    }
    let round = finished(1, &outcomes, &json!([]));
    let map = history.end_map(last, 60.0, "ReplicateToTargets", &round);
    history.task(map, (60.0, 60.4), "Report", &round);
    history
}

#[tokio::test]
async fn what_an_execution_says_is_text_and_never_markup() {
    let history = many_targets(2, "prod/app", HOSTILE, HOSTILE);
    let described = json!({"status": "FAILED", "stopDate": START + 61.0, "error": HOSTILE, "cause": HOSTILE});
    let page = page(&read(&history, described).await, true).unwrap();
    // Escaped, it has none of these; the page itself has none either.
    for markup in ["<script", "<img", "onmouseover='", "&amp;\"", "\" onmouseover"] {
        assert!(!page.contains(markup), "{markup}");
    }
    let Some(seen) = open(&page).await else { return };
    assert_eq!(
        seen.text.matches(HOSTILE).count(),
        5,
        "twice at the head, in the table, twice among the errors: {}",
        seen.text
    );
    assert!(seen.lanes.iter().flat_map(|lane| &lane.bars).any(|bar| bar.title.contains(HOSTILE)));
}

#[tokio::test]
async fn a_redriven_run_has_a_timeline_for_each_part() {
    let run =
        read(&two_targets(|_, redriven| redriven), json!({"status": "SUCCEEDED", "stopDate": START + 7204.0})).await;
    let page = page(&run, true).unwrap();
    assert!(page.contains("https://eu-central-1.console.aws.amazon.com/states/home?region=eu-central-1#/v2/executions/details/arn:aws:states"));
    assert!(!picture::page(&run, false).unwrap().contains("console.aws.amazon.com"));
    let Some(seen) = open(&page).await else { return };
    assert_eq!(seen.outcome, "succeeded");
    let slowest =
        "The slowest target was eu-west-1 prod/app, with 16.5 s; 12.0 s of that went to CopyLayers of shard 2.";
    assert_eq!(seen.slowest.as_deref(), Some(slowest));
    let lanes: Vec<&str> = seen.lanes.iter().map(|lane| lane.name.as_str()).collect();
    assert_eq!(lanes, ["execution", "eu-west-1", "us-west-2", "execution", "us-west-2"]);
    assert_eq!(seen.lanes[1].caption.as_deref(), Some("▲ slowest: CopyLayers of shard 2, 12.0 s"));
    let kinds = |lane: usize| seen.lanes[lane].bars.iter().map(|bar| bar.kind.as_str()).collect::<Vec<_>>();
    assert_eq!(kinds(1), ["wait", "failed", "ensure", "copy", "copy", "copy", "put"]);
    assert_eq!(kinds(2), ["ensure", "failed"]);
    assert_eq!(kinds(4), ["ensure", "copy", "put"]);
    let title = "EnsureRepository: 2.0 s until the next attempt";
    assert_eq!(seen.lanes[1].bars[0].title, title);
    assert_eq!(seen.lanes[2].bars[1].title, "CopyLayers, attempt 1: failed with AccessDenied, 2.3 s, from 1.7 s");
    assert!(seen.text.contains("Timeline after redrive 1, 2026-11-26 10:00:00 UTC"), "{}", seen.text);
    let one = "eu-west-1 123456789012 prod/app ✓_replicated 20.0_s 30000000 9845888 6_/_2 1 ";
    assert_eq!(seen.targets[0].join(" "), one.replace('_', " "));
    assert_eq!(seen.targets[1][3], "✓ replicated in round 2");
    assert_eq!(seen.attempts.len(), 15);
}

#[tokio::test]
async fn sixty_targets_are_legible() {
    let history = many_targets(60, &["a-long-name"; 12].join("/"), "AccessDenied", "not allowed to upload");
    let described =
        json!({"status": "FAILED", "stopDate": START + 61.0, "error": "ReplicationIncomplete", "cause": "1 of 60"});
    let Some(seen) = open(&page(&read(&history, described).await, true).unwrap()).await else { return };
    assert_eq!((seen.lanes.len(), seen.targets.len()), (61, 60));
    assert!(seen.targets[..59].iter().all(|row| row[3] == "✓ replicated"), "{:#?}", seen.targets);
    assert_eq!((seen.targets[59][3].as_str(), seen.targets[59][9].as_str()), ("✕ failed", "AccessDenied"));
    let label = |lane: usize| seen.lanes[lane].bars[1].label.as_str();
    assert!((1..60).all(|lane| label(lane) == "CopyLayers"), "{:#?}", seen.lanes);
    assert_eq!(label(60), "✕", "of what is too short for its name");
}

#[tokio::test]
async fn an_execution_that_runs_is_told_as_far_as_it_is() {
    let history = until(&two_targets(|_, redriven| redriven), "TaskFailed");
    let page = page(&read(&history, json!({"status": "RUNNING"})).await, true).unwrap();
    assert!(page.contains("It is still running: this is how it stood at "), "{page}");
    let Some(seen) = open(&page).await else { return };
    assert_eq!((seen.outcome.as_str(), seen.targets[0][3].as_str()), ("running", "○ running"));
}

#[tokio::test]
async fn only_what_succeeded_looks_as_if_it_had() {
    let mut history = History::default();
    history.start(&json!({}));
    let nothing_to_do = json!({"nothingToDo": {"message": "gone"}}).to_string();
    for (status, output, kind, outcome) in [
        ("SUCCEEDED", "{}", "good", "succeeded"),
        ("SUCCEEDED", &nothing_to_do, "open", "nothing to do"),
        ("RUNNING", "{}", "open", "running"),
        ("PENDING_REDRIVE", "{}", "open", "about to be redriven"),
        ("TIMED_OUT", "{}", "bad", "timed out"),
        ("ABORTED", "{}", "bad", "aborted"),
        ("FAILED", "{}", "bad", "failed"),
    ] {
        let page = page(&read(&history, json!({"status": status, "output": output})).await, true).unwrap();
        let badge = format!(r#"<span class="outcome {kind}" id="outcome">{outcome}</span>"#);
        assert!(page.contains(&badge), "{badge} is not in {page}");
    }
}

#[tokio::test]
async fn an_execution_without_a_target_says_why() {
    let mut history = History::default();
    history.start(&json!({}));
    let described = json!({"status": "ABORTED", "stopDate": START + 1.0});
    let Some(seen) = open(&page(&read(&history, described).await, true).unwrap()).await else { return };
    assert_eq!((seen.outcome.as_str(), seen.targets.len(), seen.slowest), ("aborted", 0, None));

    let input = json!({"event": {"detail": {"repository-name": "prod/app", "image-digest": "sha256:ab"}}});
    history.task(0, (0.1, 0.9), "ResolveImage", &input);
    let output = json!({"replicate": false, "nothingToDo": {"message": "the source no longer has it"}});
    let described = json!({"status": "SUCCEEDED", "stopDate": START + 1.0, "input": input.to_string(), "output": output.to_string()});
    let Some(seen) = open(&page(&read(&history, described).await, true).unwrap()).await else { return };
    assert_eq!(seen.outcome, "nothing to do");
    assert!(seen.text.contains("There was nothing to do: the source no longer has it."), "{}", seen.text);
    assert!(seen.text.starts_with("prod/app"), "{}", seen.text);
}
