//! Counters and faults over HTTP, for those who do not have the library's methods at hand.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;

use crate::ecr::Ecr;
use crate::faults::{Fault, FaultState};
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
    ecr.faults.add(fault);
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn clear_faults(State(ecr): State<Arc<Ecr>>) -> StatusCode {
    ecr.faults.clear();
    StatusCode::NO_CONTENT
}
