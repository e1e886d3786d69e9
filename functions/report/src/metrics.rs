//! The metrics of a round, in CloudWatch's embedded metric format: lines of the log, which CloudWatch reads by itself.
//!
//! Each metric of each region is billed. So there is one dimension besides the deployment, and no metric without a question
//! that it answers.

use serde_json::{Map, Value, json};
use shared::{
    contract::{Report, Status, TargetReport},
    service::NAMESPACE,
};

/// Those that alarms are on, for all regions together, too.
const LAG: &str = "ReplicationLag";
const THROTTLED: &str = "Throttled";

/// The lines of the round that `report` is of, one for each of its targets; `deployment` is what the dimension `Deployment` says.
/// What earlier rounds settled was counted by them.
pub fn lines<'a>(report: &'a Report, deployment: &'a str) -> impl Iterator<Item = Value> + 'a {
    let of_round = report.targets.iter().filter(|target| target.round == report.round);
    of_round.map(move |target| line(report, target, deployment))
}

fn line(report: &Report, target: &TargetReport, deployment: &str) -> Value {
    let of_region = json!(["Deployment", "Region"]);
    let metrics = of_target(target);
    let units = metrics.iter().map(|(name, unit, _)| json!({"Name": name, "Unit": unit})).collect::<Vec<_>>();
    let mut directives = vec![json!({"Namespace": NAMESPACE, "Dimensions": [of_region], "Metrics": units})];
    let mut line = Map::new();
    // What was there already did not come late, and what is seldom is not billed as long as it is not there.
    let lag = target.lag_ms.filter(|_| target.status == Status::Replicated);
    let throttled = Some(target.throttled).filter(|times| *times > 0);
    for (name, unit, value) in
        [(LAG, "Milliseconds", lag.map(Value::from)), (THROTTLED, "Count", throttled.map(Value::from))]
    {
        let Some(value) = value else { continue };
        let (metric, dimensions) = (json!({"Name": name, "Unit": unit}), json!([["Deployment"], of_region]));
        directives.push(json!({"Namespace": NAMESPACE, "Dimensions": dimensions, "Metrics": [metric]}));
        line.insert(name.to_owned(), value);
    }
    line.extend(metrics.into_iter().map(|(name, _, value)| (name.to_owned(), json!(value))));
    let timestamp = report.finished_at.as_millisecond();
    line.insert("_aws".to_owned(), json!({"Timestamp": timestamp, "CloudWatchMetrics": directives}));
    for (name, value) in [
        ("Deployment", json!(deployment)),
        ("Region", json!(target.region)),
        // No dimensions: for whoever looks for the execution behind a figure.
        ("execution", json!(report.execution.name)),
        ("repository", json!(target.repository)),
        ("digest", json!(report.image.digest)),
    ] {
        line.insert(name.to_owned(), value);
    }
    Value::Object(line)
}

/// Names, units and values.
fn of_target(target: &TargetReport) -> Vec<(&'static str, &'static str, u64)> {
    let outcome = match target.status {
        Status::Replicated => "Replicated",
        Status::Unchanged => "Unchanged",
        Status::Superseded => "Superseded",
        Status::Skipped => "Skipped",
        Status::Conflict => "Conflict",
        Status::Failed => "Failed",
    };
    let mut metrics = vec![
        (outcome, "Count", 1),
        ("Retries", "Count", target.retries),
        ("LayersCopied", "Count", target.layers_copied as u64),
        ("BytesCopied", "Bytes", target.bytes_copied),
        ("BytesSkipped", "Bytes", target.bytes_skipped),
    ];
    let steps = &target.steps;
    let durations = [
        ("EnsureRepositoryDuration", steps.ensure_repository_ms),
        ("CopyLayersDuration", steps.copy_layers_ms),
        ("PutManifestDuration", steps.put_manifest_ms),
    ];
    let durations = durations.into_iter().filter_map(|(name, time)| Some((name, "Milliseconds", time?)));
    metrics.extend(durations);
    metrics
}
