//! The metrics in the log, held to the rules of CloudWatch's embedded metric format (CloudWatch User Guide, "Specification:
//! Embedded metric format").

use std::collections::BTreeMap;

use report::metrics::lines;
use serde_json::{Value, json};
use shared::{contract::Report, service::NAMESPACE};

/// A metric: its name, its unit, the names of its dimensions, and its value.
type Metric<'a> = (&'a str, &'a str, Vec<&'a str>, f64);

/// The metrics that CloudWatch finds in a line, which must be in its format.
fn metrics(line: &Value) -> Vec<Metric<'_>> {
    assert!(line.to_string().len() < 1024 * 1024, "a line has 1 MB at most");
    let metadata = &line["_aws"];
    assert!(metadata["Timestamp"].as_u64().unwrap() > 1_700_000_000_000, "milliseconds");
    let mut metrics = Vec::new();
    for directive in metadata["CloudWatchMetrics"].as_array().unwrap() {
        assert_eq!(directive["Namespace"], NAMESPACE);
        let definitions = directive["Metrics"].as_array().unwrap();
        assert!((1..=100).contains(&definitions.len()), "{directive}");
        for set in directive["Dimensions"].as_array().unwrap() {
            let set: Vec<&str> = set.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
            assert!(set.len() <= 30, "{set:?}");
            for name in &set {
                let value = line[name].as_str().unwrap();
                assert!((1..=1024).contains(&value.len()), "the dimension {name} is in the line");
            }
            for definition in definitions {
                let (name, unit) = (definition["Name"].as_str().unwrap(), definition["Unit"].as_str().unwrap());
                assert!(["Count", "Bytes", "Milliseconds"].contains(&unit), "a unit of CloudWatch's");
                metrics.push((name, unit, set.clone(), line[name].as_f64().unwrap()));
            }
        }
    }
    metrics
}

/// The sums of all metrics in a log, by dimension values and name.
pub(crate) fn sums<'a>(lines: impl IntoIterator<Item = &'a Value>) -> BTreeMap<(String, String), f64> {
    let mut sums = BTreeMap::new();
    for line in lines {
        for (name, _, dimensions, value) in metrics(line) {
            let dimensions: Vec<&str> = dimensions.iter().map(|name| line[name].as_str().unwrap()).collect();
            *sums.entry((dimensions.join("/"), name.to_owned())).or_default() += value;
        }
    }
    sums
}

fn target(region: &str, status: &str, round: u32, throttled: u64) -> Value {
    json!({
        "region": region, "repository": "prod/app", "registryId": null, "status": status, "round": round,
        "step": null, "error": null, "message": null, "repositoryCreated": false, "settings": [],
        "manifestsCopied": 1, "manifestsSkipped": 0, "referrersCopied": 0, "referrersSkipped": 0,
        "referrersRefused": 0, "refusals": [],
        "layersCopied": 3, "layersStreamed": 3, "layersSkipped": 1, "layersForeign": 0,
        "bytesCopied": 3000, "bytesSkipped": 1000, "shards": 1, "retries": 2, "throttled": throttled, "durationMs": 300,
        "steps": {"ensureRepositoryMs": 30, "copyLayersMs": 200, "putManifestMs": null},
        "completedAt": "2026-11-16T01:54:40.250Z", "lagMs": 6250,
    })
}

#[test]
fn a_round_is_measured_target_by_target_and_what_came_before_is_not_measured_again() {
    let image = json!({
        "region": "eu-central-1", "repository": "prod/app", "digest": format!("sha256:{}", "a".repeat(64)), "tag": "v1",
        "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": 1, "referrers": 0, "referrersLeftOut": 0,
        "blobs": 4, "bytes": 4000, "pushedAt": "2026-11-16T01:54:34Z",
    });
    let report: Report = serde_json::from_value(json!({
        "version": 1, "execution": {"arn": "arn", "name": "run-1", "startedAt": "2026-11-16T01:54:35Z"}, "rule": "all",
        "round": 2, "image": image, "complete": true, "summary": "",
        "targets": [
            target("eu-west-1", "REPLICATED", 1, 9), target("us-west-2", "REPLICATED", 2, 0),
            target("us-east-1", "UNCHANGED", 2, 5), target("sa-east-1", "FAILED", 2, 7),
        ],
        "finishedAt": "2026-11-16T01:54:41Z", "durationMs": 6000,
    }))
    .unwrap();
    let lines: Vec<Value> = lines(&report, "mirror").collect();
    assert!(lines.iter().all(|line| line["execution"] == "run-1" && line["digest"] == report.image.digest.as_str()));
    let of = |region: &str, metrics: &[(&str, f64)]| -> Vec<((String, String), f64)> {
        metrics.iter().map(|(name, value)| ((region.to_owned(), (*name).to_owned()), *value)).collect()
    };
    let figures = [
        ("Retries", 2.0),
        ("LayersCopied", 3.0),
        ("BytesCopied", 3000.0),
        ("BytesSkipped", 1000.0),
        ("EnsureRepositoryDuration", 30.0),
        ("CopyLayersDuration", 200.0),
    ];
    let wanted = [
        of("mirror", &[("ReplicationLag", 6250.0), ("Throttled", 12.0)]),
        of("mirror/us-west-2", &[("ReplicationLag", 6250.0), ("Replicated", 1.0)]),
        of("mirror/us-west-2", &figures),
        of("mirror/us-east-1", &[("Unchanged", 1.0), ("Throttled", 5.0)]),
        of("mirror/us-east-1", &figures),
        // Nothing came, and so nothing came late.
        of("mirror/sa-east-1", &[("Failed", 1.0), ("Throttled", 7.0)]),
        of("mirror/sa-east-1", &figures),
    ];
    assert_eq!(sums(&lines), wanted.into_iter().flatten().collect());
}
