//! Counters and faults over HTTP, for those who do not have the library's methods at hand.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::ecr::Ecr;
use crate::faults::{Fault, FaultState};
use crate::shape::Shape;
use crate::stats::Stats;

pub(crate) async fn stats(State(ecr): State<Arc<Ecr>>) -> Json<Stats> {
    Json(ecr.counters.snapshot())
}

pub(crate) async fn reset_stats(State(ecr): State<Arc<Ecr>>) -> StatusCode {
    ecr.counters.reset();
    StatusCode::NO_CONTENT
}

pub(crate) async fn faults(State(ecr): State<Arc<Ecr>>) -> Json<Vec<FaultState>> {
    Json(ecr.faults.list())
}

pub(crate) async fn add_fault(State(ecr): State<Arc<Ecr>>, body: Bytes) -> Result<StatusCode, (StatusCode, String)> {
    let fault: Fault = serde_json::from_slice(&body).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    if let Some(mistake) = fault.mistake() {
        return Err((StatusCode::BAD_REQUEST, mistake.to_owned()));
    }
    ecr.faults.add(fault);
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn clear_faults(State(ecr): State<Arc<Ecr>>) -> StatusCode {
    ecr.faults.clear();
    StatusCode::NO_CONTENT
}

/// A shape as it is written in JSON.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ShapeInput {
    #[serde(default)]
    round_trip_ms: u64,
    bits_per_second: Option<u64>,
    near: Option<String>,
}

pub(crate) async fn add_interface(
    State(ecr): State<Arc<Ecr>>,
    body: Bytes,
) -> Result<Json<Value>, (StatusCode, String)> {
    let input: ShapeInput =
        serde_json::from_slice(&body).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    let ShapeInput { round_trip_ms, bits_per_second, near } = input;
    let shape = Shape { round_trip: Duration::from_millis(round_trip_ms), bits_per_second, near };
    let endpoint = ecr.interface(shape).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    Ok(Json(json!({ "endpoint": endpoint })))
}
