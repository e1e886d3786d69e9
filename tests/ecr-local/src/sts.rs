//! `AssumeRole` of STS: the AWS query protocol, a form that is answered in XML.

use std::ops::RangeInclusive;
use std::time::Duration;

use axum::extract::{Form, FromRequest as _, Request};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use uuid::Uuid;

use crate::caller::Caller;
use crate::connection::Connection;
use crate::faults::{Fault, Kind};
use crate::gate::Gate;
use crate::names::Registry;
use crate::scope::{self, Scope};
use crate::sessions::{Credentials, Rejected};
use crate::xml::escape;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const VERSION: &str = "2011-06-15";
const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";
const ASSUME_ROLE: &str = "AssumeRole";
/// What `DurationSeconds` may be.
const DURATION: RangeInclusive<u64> = 900..=43_200;

/// An error as STS writes it.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    code: String,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into() }
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "ValidationError", message)
    }

    fn answer(self) -> Response {
        let Self { status, code, message } = self;
        let fault = if status.is_server_error() { "Receiver" } else { "Sender" };
        let id = Uuid::new_v4();
        let body = format!(
            "<ErrorResponse xmlns=\"{NAMESPACE}\">\n  <Error>\n    <Type>{fault}</Type>\n    <Code>{}</Code>\n    \
             <Message>{}</Message>\n  </Error>\n  <RequestId>{id}</RequestId>\n</ErrorResponse>\n",
            escape(&code),
            escape(&message),
        );
        answer(status, id, body)
    }
}

impl From<Rejected> for Refusal {
    fn from(rejected: Rejected) -> Self {
        let code = match rejected {
            Rejected::Invalid => "InvalidClientTokenId",
            Rejected::Expired => "ExpiredToken",
        };
        Self::new(StatusCode::FORBIDDEN, code, rejected.message())
    }
}

impl From<&Fault> for Refusal {
    fn from(fault: &Fault) -> Self {
        Self::new(fault.status(), &fault.code, fault.message.clone())
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Input {
    action: String,
    version: String,
    role_arn: String,
    role_session_name: String,
    external_id: Option<String>,
    duration_seconds: Option<u64>,
}

/// Answers a call of STS.
pub(crate) async fn call(gate: &Gate, connection: &Connection, scope: Scope, request: Request) -> Response {
    respond(gate, connection, scope, request).await.unwrap_or_else(Refusal::answer)
}

async fn respond(gate: &Gate, connection: &Connection, scope: Scope, request: Request) -> Result<Response, Refusal> {
    let ecr = &gate.ecr;
    let token = scope::session_token(request.headers()).map(str::to_owned);
    // All of it before any answer: it is short, and tells the operation.
    let input = Form::<Input>::from_request(request, &()).await;
    let caller = ecr.sessions.caller(&scope.access_key, token.as_deref())?;
    let Form(input) = input.map_err(|error| Refusal::new(error.status(), "MalformedInput", error.body_text()))?;
    if (input.action.as_str(), input.version.as_str()) != (ASSUME_ROLE, VERSION) {
        let Input { action, version, .. } = input;
        let message = format!("Could not find operation {action} for version {version}");
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "InvalidAction", message));
    }
    ecr.counters.call(&scope.region, ASSUME_ROLE);
    ecr.ask(&caller, ASSUME_ROLE, "sts:AssumeRole", input.role_arn.clone());
    let Some(fault) = ecr.faults.take(ASSUME_ROLE, &scope.region, None, None) else {
        return assume_role(gate, &caller, &input);
    };
    if let Some(event) = &fault.meanwhile {
        let registry = Registry { account: caller.account.clone(), region: scope.region };
        ecr.happen(event, &registry, None);
    }
    let own = (fault.after || fault.kind() == Kind::Own).then(|| assume_role(gate, &caller, &input));
    fault.hold().await;
    let answer = match (fault.kind(), own) {
        (Kind::Cut(_), _) => match connection.cut().await {},
        (Kind::Own, Some(own)) => own,
        (Kind::Answer, Some(Err(refusal))) => return Err(refusal),
        (Kind::Answer | Kind::Own, _) => Err(Refusal::from(&fault)),
    };
    Ok(fault.alter(answer.unwrap_or_else(Refusal::answer), connection).await)
}

fn assume_role(gate: &Gate, caller: &Caller, input: &Input) -> Result<Response, Refusal> {
    let Input { role_arn, role_session_name, external_id, duration_seconds, .. } = input;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
    if !(2..=64).contains(&role_session_name.len()) || !role_session_name.bytes().all(is_name) {
        return Err(Refusal::invalid(format!(
            "1 validation error detected: Value '{role_session_name}' at 'roleSessionName' failed to satisfy constraint: \
             Member must have length 2 to 64 and satisfy regular expression pattern: [\\w+=,.@-]*"
        )));
    }
    if let Some(seconds) = duration_seconds.filter(|seconds| !DURATION.contains(seconds)) {
        return Err(Refusal::invalid(format!(
            "1 validation error detected: Value '{seconds}' at 'durationSeconds' failed to satisfy constraint: \
             Member must have value between {} and {}",
            DURATION.start(),
            DURATION.end(),
        )));
    }
    let sessions = &gate.ecr.sessions;
    let Some(role) = sessions.role(role_arn).filter(|role| role.is_open_to(external_id.as_deref())) else {
        let user = caller.arn();
        let message = format!("User: {user} is not authorized to perform: sts:AssumeRole on resource: {role_arn}");
        return Err(Refusal::new(StatusCode::FORBIDDEN, "AccessDenied", message));
    };
    let most = gate.ecr.config.session_ttl;
    let lifetime = duration_seconds.map_or(most, |seconds| most.min(Duration::from_secs(seconds)));
    let session = caller.assuming(&role, role_session_name);
    let arn = session.arn();
    let Credentials { access_key, secret_key, token, expires_at } = sessions.issue(session, lifetime);
    let id = Uuid::new_v4();
    // An id of the role stands here in AWS, the same for each of its sessions.
    let body = format!(
        "<AssumeRoleResponse xmlns=\"{NAMESPACE}\">\n  <AssumeRoleResult>\n    <AssumedRoleUser>\n      \
         <AssumedRoleId>AROALOCALECR:{}</AssumedRoleId>\n      <Arn>{}</Arn>\n    </AssumedRoleUser>\n    <Credentials>\n      \
         <AccessKeyId>{access_key}</AccessKeyId>\n      <SecretAccessKey>{secret_key}</SecretAccessKey>\n      \
         <SessionToken>{token}</SessionToken>\n      <Expiration>{expires_at}</Expiration>\n    </Credentials>\n  \
         </AssumeRoleResult>\n  <ResponseMetadata>\n    <RequestId>{id}</RequestId>\n  </ResponseMetadata>\n\
         </AssumeRoleResponse>\n",
        escape(role_session_name),
        escape(&arn),
    );
    Ok(answer(StatusCode::OK, id, body))
}

fn answer(status: StatusCode, id: Uuid, body: String) -> Response {
    (status, [(CONTENT_TYPE, "text/xml".to_owned()), (REQUEST_ID, id.to_string())], body).into_response()
}
