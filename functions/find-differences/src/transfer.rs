//! What a plan tells of each target: bytes, time and cost.

use serde::Deserialize;
use shared::{
    contract::Target,
    reconcile::{State, Transfer},
    service::{ServiceError, StepFunctions},
};

/// How many of the last executions are looked at for the rate at which images are copied.
const EXECUTIONS: i32 = 20;

/// The bytes of a GB, as transfers are priced.
const GB: f64 = 1e9;

/// What is read of the output of an execution of replicate-image.
#[derive(Deserialize)]
struct Output {
    report: Option<Report>,
}

#[derive(Deserialize)]
struct Report {
    targets: Vec<Copied>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Copied {
    bytes_copied: u64,
    steps: Steps,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Steps {
    copy_layers_ms: Option<u64>,
}

/// Adds bytes that would go to a target.
pub(crate) fn add(transfers: &mut Vec<Transfer>, target: &Target, bytes: u64) {
    let is_it = |known: &&mut Transfer| known.region == target.region && known.registry_id == target.registry_id;
    match transfers.iter_mut().find(is_it) {
        Some(known) => known.bytes += bytes,
        None => transfers.push(Transfer {
            region: target.region.clone(),
            registry_id: target.registry_id.clone(),
            bytes,
            seconds: None,
            bytes_per_second: None,
            observed: false,
            cost: None,
        }),
    }
}

/// Tells how long the transfers of a plan take, and what they cost.
///
/// # Errors
/// `AccessDenied`, `ReportUndelivered`, when no rate is given and Step Functions does not tell one.
pub(crate) async fn reckon(
    state: &mut State,
    step_functions: &StepFunctions,
    replication: &str,
) -> Result<(), ServiceError> {
    let given = state.request.bytes_per_second;
    let rate = match given {
        Some(rate) => Some(rate),
        None => rate(&step_functions.last_outputs(replication, EXECUTIONS).await?),
    };
    for transfer in &mut state.transfers {
        transfer.bytes_per_second = rate;
        transfer.observed = rate.is_some() && given.is_none();
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let bytes = transfer.bytes as f64;
        transfer.seconds = rate.map(|rate| bytes / rate);
        transfer.cost = state.request.price_per_gb.map(|price| bytes / GB * price);
    }
    Ok(())
}

/// The bytes that one target received in a second, by the outputs of executions; `None` where nothing was copied.
fn rate(outputs: &[String]) -> Option<f64> {
    let (mut bytes, mut milliseconds) = (0, 0);
    // An execution that had nothing to do has no report.
    let reports = outputs.iter().filter_map(|output| serde_json::from_str::<Output>(output).ok()?.report);
    for target in reports.flat_map(|report| report.targets) {
        if let Some(time) = target.steps.copy_layers_ms.filter(|_| target.bytes_copied > 0) {
            bytes += target.bytes_copied;
            milliseconds += time;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let rate = bytes as f64 * 1000.0 / milliseconds.max(1) as f64;
    (bytes > 0).then_some(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_what_was_copied() {
        let target =
            |bytes: u64, time: &str| format!(r#"{{"bytesCopied": {bytes}, "steps": {{"copyLayersMs": {time}}}}}"#);
        let output = |targets: &[String]| format!(r#"{{"report": {{"targets": [{}]}}}}"#, targets.join(","));
        let outputs = [
            output(&[target(3_000_000, "1000"), target(0, "50"), target(0, "null")]),
            r#"{"nothingToDo": {}}"#.to_owned(),
            output(&[target(1_000_000, "1000")]),
        ];
        assert_eq!(rate(&outputs), Some(2_000_000.0));
        assert_eq!(rate(&outputs[1..2]), None);
    }
}
