//! How far targets have drifted, in CloudWatch's embedded metric format: lines of the log, which CloudWatch reads by itself.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use shared::{names::Region, reconcile::Report, service::NAMESPACE};

/// The gauge: how many items differ, of a rule in a target region. By deployment alone, too: an alarm cannot search.
pub const DRIFT: &str = "Drift";

/// The lines of `report`, one for each rule and target region that it knows all about; `deployment` is what the dimension
/// `Deployment` says. A run that was narrowed tells nothing of a whole rule: it must not clear an alarm.
pub fn lines<'a>(report: &'a Report, deployment: &'a str) -> impl Iterator<Item = Value> + 'a {
    let mut drifts: BTreeMap<(&str, &Region), u64> = BTreeMap::new();
    if report.request.is_of_whole_rules() {
        for total in &report.totals {
            *drifts.entry((&total.rule, &total.region)).or_default() += total.differences();
        }
    }
    for problem in &report.problems {
        drifts.remove(&(problem.rule.as_str(), &problem.region));
    }
    drifts.into_iter().map(move |((rule, region), drift)| {
        let directive = json!({
            "Namespace": NAMESPACE,
            "Dimensions": [["Deployment"], ["Deployment", "Rule", "Region"]],
            "Metrics": [{"Name": DRIFT, "Unit": "Count"}],
        });
        json!({
            "_aws": {"Timestamp": report.finished_at.as_millisecond(), "CloudWatchMetrics": [directive]},
            "Deployment": deployment,
            "Rule": rule,
            "Region": region,
            DRIFT: drift,
            // No dimension: for whoever looks for the execution behind a figure.
            "execution": report.execution.name,
        })
    })
}
