//! The Distribution protocol as ECR speaks it.
use crate::ecr::Ecr;
use crate::names::Registry;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use std::sync::Arc;
/// x
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    pub(crate) ecr: Arc<Ecr>,
    pub(crate) registry: Option<Registry>,
}
pub(crate) async fn ping(State(_g): State<Gate>) -> Response {
    StatusCode::NOT_IMPLEMENTED.into_response()
}
pub(crate) async fn handle(State(_g): State<Gate>, _r: Request) -> Response {
    StatusCode::NOT_IMPLEMENTED.into_response()
}
