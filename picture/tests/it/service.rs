//! Step Functions, as far as it is asked: one execution, its history in pages.

use std::sync::Arc;

use aws_sdk_sfn::config::{BehaviorVersion, Credentials, Region};
use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use picture::Run;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::history::{ARN, History, START};

/// Small, so that a history has several.
const PAGE: usize = 10;

struct Served {
    described: Value,
    events: Vec<Value>,
}

/// Serves the execution until the test is over; its URL.
pub(crate) async fn serve(history: &History, described: Value) -> String {
    let mut whole = json!({
        "executionArn": ARN, "name": "a-push", "startDate": START, "input": "{}",
        "stateMachineArn": "arn:aws:states:eu-central-1:123456789012:stateMachine:ecr-replicator-replicate-image",
    });
    whole.as_object_mut().unwrap().extend(described.as_object().cloned().unwrap());
    let served = Arc::new(Served { described: whole, events: history.events.clone() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, Router::new().route("/", post(answer)).with_state(served)).await });
    format!("http://{address}")
}

/// What is read of the execution.
pub(crate) async fn read(history: &History, described: Value) -> Run {
    let config = aws_sdk_sfn::Config::builder().behavior_version(BehaviorVersion::v2026_01_12());
    let config = config.region(Region::new("eu-central-1")).endpoint_url(serve(history, described).await);
    let config = config.credentials_provider(Credentials::new("test", "test", None, None, "test")).build();
    picture::read(&aws_sdk_sfn::Client::from_conf(config), ARN).await.unwrap()
}

async fn answer(State(served): State<Arc<Served>>, headers: HeaderMap, body: String) -> Response {
    let asked: Value = serde_json::from_str(&body).unwrap();
    if asked["executionArn"] != ARN {
        let error = json!({"__type": "ExecutionDoesNotExist", "message": "Execution Does Not Exist"});
        return (StatusCode::BAD_REQUEST, error.to_string()).into_response();
    }
    let answer = match headers["x-amz-target"].to_str().unwrap() {
        "AWSStepFunctions.DescribeExecution" => served.described.clone(),
        "AWSStepFunctions.GetExecutionHistory" => {
            let from = asked["nextToken"].as_str().map_or(0, |token| token.parse().unwrap());
            let to = served.events.len().min(from + PAGE);
            let next = (to < served.events.len()).then(|| to.to_string());
            json!({"events": served.events[from..to], "nextToken": next})
        }
        other => panic!("{other}"),
    };
    answer.to_string().into_response()
}
