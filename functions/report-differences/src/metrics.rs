//! How far targets have drifted, in CloudWatch's embedded metric format: lines of the log, which CloudWatch reads by itself.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use shared::{names::Region, reconcile::Report, service::NAMESPACE};

/// The gauge: how many items differ, of a rule in a target region. By deployment alone, for an alarm, which cannot search: of all
/// rules, and besides in how many target repositories it could not be told.
pub const DRIFT: &str = "Drift";

/// The lines of `report`; `deployment` is what the dimension `Deployment` says.
///
/// A run that was narrowed tells nothing of a whole rule, and must not clear an alarm: there are lines only of one that takes what
/// was pushed since `since`, or all where that is `None`, and nothing less. Where a part could not be told, nothing differs is not
/// known either: there is no line of a rule and region of which nothing else was found.
#[must_use]
pub fn lines(report: &Report, deployment: &str, since: Option<Timestamp>) -> Vec<Value> {
    let Report { request, totals, problems, .. } = report;
    if !request.is_of_whole_rules(since) {
        return Vec::new();
    }
    let mut drifts: BTreeMap<(&str, &Region), u64> = BTreeMap::new();
    for total in totals {
        *drifts.entry((&total.rule, &total.region)).or_default() += total.differences();
    }
    let of_all = drifts.values().sum::<u64>() + problems.iter().map(|problem| problem.repositories).sum::<u64>();
    for problem in problems {
        let key = (problem.rule.as_str(), &problem.region);
        if drifts.get(&key) == Some(&0) {
            drifts.remove(&key);
        }
    }
    let line = |dimensions: &[(&str, &str)], drift: u64| {
        let names: Vec<&str> = dimensions.iter().map(|(name, _)| *name).collect();
        let directive = json!({
            "Namespace": NAMESPACE,
            "Dimensions": [names],
            "Metrics": [{"Name": DRIFT, "Unit": "Count"}],
        });
        let mut line = json!({
            "_aws": {"Timestamp": report.finished_at.as_millisecond(), "CloudWatchMetrics": [directive]},
            DRIFT: drift,
            // No dimension: for whoever looks for the execution behind a figure.
            "execution": report.execution.name,
        });
        for (name, value) in dimensions {
            line[*name] = json!(value);
        }
        line
    };
    let by_place = drifts.into_iter().map(|((rule, region), drift)| {
        line(&[("Deployment", deployment), ("Rule", rule), ("Region", region.as_str())], drift)
    });
    let of_all = request.rules.is_empty().then(|| line(&[("Deployment", deployment)], of_all));
    by_place.chain(of_all).collect()
}
