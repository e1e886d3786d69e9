//! The Distribution protocol below `/v2/`, with the ways of its own that ECR has.

mod blobs;
mod error;
mod manifests;
mod referrers;
mod tags;
mod target;
mod uploads;

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::header::{HeaderName, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;

use self::error::Refusal;
use self::target::Target;
use crate::caller::Caller;
use crate::connection::Connection;
use crate::ecr::Ecr;
use crate::faults::Kind;
use crate::gate::Gate;
use crate::names::{Digest, Registry, RepositoryName};
use crate::tokens::Unauthorized;

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A request of a client that was let in.
#[derive(Debug)]
struct Exchange {
    gate: Gate,
    connection: Connection,
    ecr: Arc<Ecr>,
    caller: Caller,
    registry: Registry,
    head: Parts,
    /// How much of a chunk is kept, where a fault says so.
    keep: Option<u64>,
}

/// A request's body, until a handler reads it.
type UnreadBody = Option<Body>;

impl Exchange {
    /// The URL that the client knows this registry by.
    fn endpoint(&self) -> String {
        self.gate.endpoint()
    }

    fn header(&self, name: &HeaderName) -> Option<&str> {
        self.head.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn query(&self) -> HashMap<String, String> {
        Query::try_from_uri(&self.head.uri).map(|Query(query)| query).unwrap_or_default()
    }
}

/// Answers any request below `/v2/`.
pub(crate) async fn handle(
    State(gate): State<Gate>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let mut body: UnreadBody = Some(body);
    let mut response = match admit(&gate, &head) {
        Ok((caller, registry)) => {
            let exchange =
                Exchange { ecr: Arc::clone(&gate.ecr), gate, connection, caller, registry, head, keep: None };
            respond(exchange, &mut body).await.unwrap_or_else(Refusal::answer)
        }
        Err(refusal) => *refusal,
    };
    // A client that is still sending would not read an answer: whatever no handler has read is read before.
    if let Some(rest) = body {
        let mut rest = rest.into_data_stream();
        while let Some(Ok(_)) = rest.next().await {}
    }
    response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    response
}

/// Who asks which registry. A token is good for all registries of its region, as far as their policies allow.
fn admit(gate: &Gate, head: &Parts) -> Result<(Caller, Registry), Box<Response>> {
    let refusal = match gate.claim_of(&head.headers) {
        Ok(claim) => {
            let asked_for = claim.registry();
            let registry = gate.registry.clone().unwrap_or_else(|| asked_for.clone());
            if registry.region == asked_for.region {
                return Ok((claim.caller, registry));
            }
            Refusal::denied("Your authorization token is for another region.").answer()
        }
        Err(Unauthorized::Expired) => {
            Refusal::denied("Your authorization token has expired. Reauthenticate and try again.").answer()
        }
        Err(Unauthorized::NoCredentials | Unauthorized::Invalid) => {
            let challenge = format!("Basic realm=\"{}/\",service=\"ecr.amazonaws.com\"", gate.endpoint());
            (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, challenge)], "Not Authorized\n").into_response()
        }
    };
    Err(Box::new(refusal))
}

async fn respond(mut exchange: Exchange, body: &mut UnreadBody) -> Result<Response, Refusal> {
    let target = Target::parse(exchange.head.uri.path())?;
    let operation = operation(&exchange.head, &target);
    let region = &exchange.registry.region;
    exchange.ecr.counters.call(region, &operation);
    let by_digest = || exchange.ecr.faults.concern(&operation, region).is_some_and(|concern| concern.by_digest);
    let digest = match target {
        Target::Manifest(..) if by_digest() => manifests::pushed_digest(&exchange, body).await?,
        Target::Upload(..) => exchange.query().remove("digest").and_then(|digest| Digest::try_from(digest).ok()),
        _ => None,
    };
    let fault =
        exchange.ecr.faults.take(&operation, region, target.repository().map(RepositoryName::as_str), digest.as_ref());
    let Some(fault) = fault else {
        return dispatch(&exchange, body, target).await;
    };
    if let Some(event) = &fault.meanwhile {
        exchange.ecr.happen(event, &exchange.registry, target.repository().map(RepositoryName::as_str));
    }
    exchange.keep = fault.keep;
    *body = body.take().map(|body| fault.slow_down(body));
    let answer = match fault.kind() {
        Kind::Answer => {
            if fault.after {
                dispatch(&exchange, body, target).await?;
            }
            Err(Refusal::from(&fault))
        }
        Kind::Cut(bytes) => {
            if fault.after {
                dispatch(&exchange, body, target).await?;
            } else {
                receive(&exchange, body, &target, bytes).await;
            }
            fault.hold().await;
            match exchange.connection.cut().await {}
        }
        Kind::Own => dispatch(&exchange, body, target).await,
    };
    fault.hold().await;
    Ok(fault.alter(answer.unwrap_or_else(Refusal::answer), &exchange.connection).await)
}

/// The name that a request has in the counters.
fn operation(head: &Parts, target: &Target) -> String {
    format!("v2:{} {}", head.method, target.kind())
}

/// Takes so many bytes of a body, or all of a shorter one, and forgets them.
async fn receive(exchange: &Exchange, body: &mut UnreadBody, target: &Target, bytes: u64) {
    let traffic = exchange.ecr.counters.traffic(&exchange.registry.region);
    let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
    let mut body = body.take().unwrap_or_default().into_data_stream();
    while left > 0
        && let Some(Ok(chunk)) = body.next().await
    {
        let passed = chunk.len().min(left);
        left -= passed;
        if matches!(target, Target::Upload(..)) {
            traffic.uploaded.add(passed);
        }
    }
}

async fn dispatch(exchange: &Exchange, body: &mut UnreadBody, target: Target) -> Result<Response, Refusal> {
    let operation = operation(&exchange.head, &target);
    if let Some(name) = target.repository() {
        for action in target.actions(exchange.head.method.as_str()) {
            let resource = format!("{}{}", exchange.registry.arn_prefix(), name.as_str());
            exchange.ecr.ask(&exchange.caller, &operation, &format!("ecr:{action}"), resource);
            exchange.ecr.permit(&exchange.caller, &exchange.registry, name, action)?;
        }
    }
    match (exchange.head.method.as_str(), target) {
        ("GET" | "HEAD", Target::Ping) => Ok(StatusCode::OK.into_response()),
        ("GET" | "HEAD", Target::Manifest(name, reference)) => manifests::get(exchange, &name, &reference),
        ("PUT", Target::Manifest(name, reference)) => manifests::put(exchange, body, &name, reference).await,
        ("DELETE", Target::Manifest(name, reference)) => manifests::delete(exchange, &name, &reference),
        ("HEAD", Target::Blob(name, digest)) => blobs::head(exchange, &name, &digest),
        ("GET", Target::Blob(name, digest)) => blobs::get(exchange, &name, &digest),
        ("POST", Target::Uploads(name)) => uploads::start(exchange, &name),
        ("GET", Target::Upload(name, id)) => uploads::progress(exchange, &name, id).await,
        ("PATCH", Target::Upload(name, id)) => uploads::patch(exchange, body, &name, id).await,
        ("PUT", Target::Upload(name, id)) => uploads::complete(exchange, body, &name, id).await,
        ("GET", Target::Tags(name)) => tags::list(exchange, &name),
        ("GET", Target::Referrers(name, subject)) => referrers::list(exchange, &name, &subject),
        (method, _) => {
            let message = format!("The local ECR does not answer {method} here");
            Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message))
        }
    }
}
