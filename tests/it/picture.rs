//! A picture of a run on the local stack, held to its report, and opened in a browser.

use std::collections::HashMap;

use local_stack::{Fate, Options, Sample};
use shared::contract::{Report, Status};

use crate::browser::{Lane, open};
use crate::scene::{Scene, TARGETS, target};

/// An error's name as nobody would want it in a page.
const HOSTILE: &str = "<img src=x onerror=alert(1)>";

/// One target is throttled twice before it is copied, and one fails for good.
async fn run(scene: &Scene) -> (String, Report) {
    let [_, throttled, failing] = TARGETS;
    let mut seen: HashMap<(String, String), usize> = HashMap::new();
    scene.stack.decide(move |invocation| {
        let region = invocation.target().unwrap_or_default().to_owned();
        let count = seen.entry((invocation.function.clone(), region.clone())).or_default();
        *count += 1;
        match (invocation.function.as_str(), region.as_str(), *count) {
            ("copy-layers", region, 1 | 2) if region == throttled => Fate::Failed("RegistryThrottled".to_owned()),
            ("put-manifest", region, _) if region == failing => Fate::Failed(HOSTILE.to_owned()),
            _ => Fate::Served,
        }
    });
    let (_, execution) = scene.replicate().await;
    let (_, report) = scene.report(&execution).await;
    assert_eq!(
        TARGETS.map(|region| target(&report, region).status),
        [Status::Replicated, Status::Replicated, Status::Failed]
    );
    (execution.arn, report)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_picture_of_a_run_shows_what_its_report_says() {
    let sample = Sample { seed: 47, shared_layers: vec![8, 256], own_layers: vec![64], ..Sample::default() };
    let options = Options { decided: true, ..Options::quick(&TARGETS) };
    let scene = Scene::of(&sample, options).await;
    let (arn, report) = run(&scene).await;
    let run = picture::read(scene.stack.step_functions(), &arn).await.unwrap();
    let page = picture::page(&run, false).unwrap();
    assert!(!page.contains(HOSTILE));

    let Some(seen) = open(&page).await else { return };
    assert_eq!(seen.outcome, "failed");
    assert_eq!(
        seen.lanes.iter().map(|lane| &lane.name).collect::<Vec<_>>(),
        [["execution"].as_slice(), &TARGETS].concat()
    );
    assert_eq!(seen.targets.len(), report.targets.len());
    assert_eq!(target(&report, TARGETS[1]).retries, 2);
    for (row, reported) in seen.targets.iter().zip(&report.targets) {
        let mark = if reported.status == Status::Failed { "✕ failed" } else { "✓ replicated" };
        let layers = format!("{} / {}", reported.layers_copied, reported.layers_skipped);
        let retries = reported.retries.to_string();
        let bytes = [reported.bytes_copied, reported.bytes_skipped].map(|bytes| bytes.to_string());
        assert_eq!((row[0].as_str(), row[1].as_str()), (reported.region.as_str(), "000000000000"));
        assert_eq!((row[2].as_str(), row[3].as_str()), (reported.repository.as_str(), mark));
        assert_eq!((row[4].as_str() == "–", &row[5..7]), (reported.lag_ms.is_none(), &bytes[..]));
        assert_eq!((row[7].as_str(), row[8].as_str()), (layers.as_str(), retries.as_str()));
        assert_eq!(row[9], reported.error.clone().unwrap_or_default());
    }

    // Each target's own attempts, though they ran side by side.
    let kinds = |lane: &Lane| lane.bars.iter().map(|bar| bar.kind.clone()).collect::<Vec<_>>();
    assert_eq!(kinds(&seen.lanes[1]), ["ensure", "copy", "put"]);
    assert_eq!(kinds(&seen.lanes[2]), ["ensure", "wait", "wait", "failed", "failed", "copy", "put"]);
    assert_eq!(kinds(&seen.lanes[3]), ["ensure", "copy", "failed"]);
    let slowest = run.slowest().unwrap();
    let captions: Vec<bool> = seen.lanes.iter().map(|lane| lane.caption.is_some()).collect();
    assert_eq!(captions.iter().position(|is_there| *is_there), Some(slowest.target + 1), "{captions:?}");
    let name = &run.steps[slowest.step].name;
    assert!(seen.slowest.unwrap().contains(name), "{name}");
    assert!(seen.lanes[2].bars[3].title.contains("CopyLayers, attempt 1: failed with RegistryThrottled"));
    assert!(seen.text.contains("RegistryThrottled in CopyLayers, us-west-2 prod/app, 2 times"), "{}", seen.text);
    assert!(seen.text.contains(&format!("{HOSTILE} in PutManifest, ap-southeast-2 prod/app")), "{}", seen.text);
    assert!(seen.text.contains("is not complete at 1 of 3 targets"), "{}", seen.text);
    assert!(page.contains("Retries are the history's"), "where each figure is from");
    assert_eq!(seen.attempts.len(), 2 + 3 + 5 + 3);
    assert!(seen.attempts.iter().all(|attempt| attempt.len() == 6));
}
