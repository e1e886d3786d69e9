//! Report's calls to Step Functions and EventBridge times each fault, once and for ever, with the retriers of the state
//! machine. What came of it is a table of docs/reliability.md: `UPDATE_DOCS=1` writes it.

use std::{
    fmt::Write as _,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State as Extracted},
    http::StatusCode,
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
};
use ecr_local::Fault;
use futures::stream;
use serde_json::json;

use crate::{
    execution::{Functions, State, Undisturbed},
    matrix::hold,
    report::Services,
    sample::{Sample, Way, execution_input},
    world::{SOURCE, TARGET, sdk_config},
};

/// What a call meets.
#[derive(Debug, Clone, Copy)]
enum Wrong {
    /// This answer, and nothing took effect.
    Answer(StatusCode, &'static str),
    /// A connection that is cut within the answer, and whether the call took effect.
    Cut { is_done: bool },
}
use Wrong::{Answer, Cut};

/// What goes wrong with the calls of an operation.
#[derive(Debug, Clone)]
struct Broken {
    operation: &'static str,
    wrong: Wrong,
    is_for_ever: bool,
    met: Arc<AtomicU64>,
}

async fn meet(Extracted(broken): Extracted<Broken>, request: Request, next: Next) -> Response {
    let target = request.headers()["x-amz-target"].to_str().unwrap();
    let is_met =
        target.ends_with(broken.operation) && (broken.met.fetch_add(1, Ordering::SeqCst) == 0 || broken.is_for_ever);
    if !is_met {
        return next.run(request).await;
    }
    match broken.wrong {
        Answer(status, body) => (status, body).into_response(),
        Cut { is_done } => {
            if is_done {
                next.run(request).await;
            }
            Response::new(Body::from_stream(stream::iter([Err::<&str, _>(io::Error::other("cut"))])))
        }
    }
}

/// A round whose target failed, reported while Step Functions or EventBridge is broken: the error, how often the state ran,
/// and how often the event came.
async fn report(broken: Broken) -> (String, usize, usize) {
    let config = sdk_config("http://127.0.0.1:9/", SOURCE).await;
    let sample = Sample::set(Way::Unsigned, &config).await;
    sample
        .world
        .ecr
        .fault(Fault::new("DescribeRepositories", 400, "AccessDeniedException").in_region(TARGET).for_ever());
    let services = Services::default();
    let router: Router = services.router().layer(from_fn_with_state(broken, meet));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let config = config.into_builder().endpoint_url(endpoint).build();
    let functions = Functions::new(&sample.config, &config, Way::Unsigned.uploads());
    let round = functions.resolve(&Undisturbed, &execution_input(Way::Unsigned)).await.unwrap().unwrap();
    let iteration = functions.replicate(&Undisturbed, &round, &round.targets[0]).await;
    let failed = functions.report(&Undisturbed, &round, &[iteration]).await.unwrap_err();
    server.abort();
    assert_eq!(failed.state, State::Report);
    for event in services.events() {
        let told: serde_json::Value = serde_json::from_str(event["Detail"].as_str().unwrap()).unwrap();
        assert_eq!(told["targets"][0]["error"], json!("AccessDenied"), "{told}");
    }
    (failed.name.clone(), failed.attempts(), services.events().len())
}

fn faults(operation: &str) -> Vec<(&'static str, Wrong)> {
    let refused = |name: &'static str, body| (name, Answer(StatusCode::BAD_REQUEST, body));
    let mut faults = vec![
        refused("`ThrottlingException`", r#"{"__type": "ThrottlingException", "message": "slow down"}"#),
        ("500 `InternalFailure`", Answer(StatusCode::INTERNAL_SERVER_ERROR, r#"{"__type": "InternalFailure"}"#)),
        ("503, a proxy's page", Answer(StatusCode::SERVICE_UNAVAILABLE, "<html>")),
        refused("`AccessDeniedException`", r#"{"__type": "AccessDeniedException", "message": "not for you"}"#),
        ("connection cut", Cut { is_done: false }),
        ("done, and the answer lost", Cut { is_done: true }),
        ("answer is no JSON", Answer(StatusCode::OK, "<html>")),
    ];
    if operation == "PutEvents" {
        let entry = r#"{"FailedEntryCount": 1, "Entries": [{"ErrorCode": "InternalFailure", "ErrorMessage": "no"}]}"#;
        faults.push(("200, and the entry failed", Answer(StatusCode::OK, entry)));
    } else {
        faults.push(refused("`ExecutionDoesNotExist`", r#"{"__type": "ExecutionDoesNotExist", "message": "none"}"#));
    }
    faults
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_s_calls_fail() {
    let mut text = "| Call | Fault | Once | For ever |\n|---|---|---|---|\n".to_owned();
    let mut wrong = String::new();
    for operation in ["DescribeExecution", "PutEvents"] {
        for (name, fault) in faults(operation) {
            let mut told = Vec::new();
            for is_for_ever in [false, true] {
                let broken = Broken { operation, wrong: fault, is_for_ever, met: Arc::default() };
                let met = Arc::clone(&broken.met);
                let (error, attempts, events) = Box::pin(report(broken)).await;
                let is_lost = operation == "PutEvents" && is_for_ever && !matches!(fault, Cut { is_done: true });
                let expected = if is_for_ever { "ReportUndelivered" } else { "ReplicationIncomplete" };
                if met.load(Ordering::SeqCst) == 0 || error != expected || (events == 0) != is_lost {
                    writeln!(wrong, "{operation}, {name}, for ever: {is_for_ever}: {error}, {events} events").unwrap();
                }
                let events = match events {
                    0 => "no event",
                    1 => "one event",
                    _ => "the event more than once",
                };
                told.push(format!("{events}, `{error}` ({attempts})"));
            }
            writeln!(text, "| `Report`: {operation} | {name} | {} | {} |", told[0], told[1]).unwrap();
        }
    }
    hold("report", &text, &wrong);
}
