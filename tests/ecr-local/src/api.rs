//! The ECR API: AWS JSON 1.1.

mod arriving;
mod authorization;
mod identity;
mod images;
mod layers;
mod page;
mod policies;
mod referrers;
mod repositories;
mod tags;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use self::arriving::Arriving;
use self::identity::Identity;
use crate::connection::Connection;
use crate::ecr::Ecr;
use crate::error::{Error, Result};
use crate::faults::{Fault, Kind};
use crate::gate::Gate;
use crate::names::{Account, Digest, Region, Registry, RepositoryName};
use crate::scope::{Scope, Service};
use crate::sts;

const TARGET: HeaderName = HeaderName::from_static("x-amz-target");
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const TARGET_PREFIX: &str = "AmazonEC2ContainerRegistry_V20150921.";

/// A call of the API: who calls, and where.
#[derive(Debug)]
struct Call {
    gate: Gate,
    ecr: Arc<Ecr>,
    identity: Identity,
    operation: String,
    /// The action that a policy allows or denies.
    action: String,
    /// How much of a part is kept, where a fault says so.
    keep: Option<u64>,
}

impl Call {
    fn region(&self) -> &Region {
        &self.identity.region
    }

    /// The registry of a repository with which the caller may do this.
    fn permitted(&self, account: Option<Account>, name: &RepositoryName) -> Result<Registry> {
        let registry = self.named_registry(account);
        self.ask(&registry, name.as_str());
        self.ecr.permit(&self.identity.caller, &registry, name, &self.action)?;
        Ok(registry)
    }

    /// Notes the question whether the caller may do this with a repository, or with what else `resource` is.
    fn ask(&self, registry: &Registry, resource: &str) {
        self.ask_for(&self.action, registry, resource, BTreeMap::new());
    }

    /// As [`Call::ask`], of what the call does besides, or with what conditions ask about.
    fn ask_for(&self, action: &str, registry: &Registry, resource: &str, context: BTreeMap<String, BTreeSet<String>>) {
        let resource = format!("{}{resource}", registry.arn_prefix());
        self.ecr.ask_with(&self.identity.caller, &self.operation, &format!("ecr:{action}"), resource, context);
    }

    /// The registry that a request is about: the caller's own, or the one it names in the same region. Whether the caller
    /// may do this there is not asked.
    fn named_registry(&self, account: Option<Account>) -> Registry {
        let account = account.unwrap_or_else(|| self.identity.caller.account.clone());
        Registry { account, region: self.identity.region.clone() }
    }
}

/// An answer that is no success: one of ECR's exceptions, or a protocol's that every service has.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    name: Cow<'static, str>,
    message: String,
    members: Map<String, Value>,
}

impl Refusal {
    fn new(status: StatusCode, name: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { status, name: name.into(), message: message.into(), members: Map::new() }
    }

    fn answer(self) -> Response {
        let mut body = self.members;
        body.insert("__type".to_owned(), json!(self.name));
        body.insert("message".to_owned(), json!(self.message));
        let mut response = answer(self.status, &Value::Object(body));
        if !self.name.is_empty()
            && let Ok(name) = self.name.parse()
        {
            response.headers_mut().insert(ERROR_TYPE, name);
        }
        response
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = match error {
            Error::Server(_) => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        let mut refusal = Self::new(status, error.exception(), error.to_string());
        match error {
            Error::InvalidLayerPart { account, repository, upload, last_valid_byte, .. } => {
                refusal.members.insert("registryId".to_owned(), json!(account));
                refusal.members.insert("repositoryName".to_owned(), json!(repository));
                refusal.members.insert("uploadId".to_owned(), json!(upload));
                // Nothing documents what stands here when nothing was received; a 0 would say that byte 0 was.
                if let Some(last) = last_valid_byte {
                    refusal.members.insert("lastValidByteReceived".to_owned(), json!(last));
                }
            }
            Error::Kms { kms_error, .. } => {
                refusal.members.insert("kmsError".to_owned(), json!(kms_error));
            }
            _ => {}
        }
        refusal
    }
}

impl From<&Fault> for Refusal {
    fn from(fault: &Fault) -> Self {
        Self::new(fault.status(), fault.code.clone(), fault.message.clone())
    }
}

/// The region that a call is for.
pub(crate) fn region(headers: &HeaderMap) -> Option<Region> {
    Scope::of(headers).ok().map(|scope| scope.region)
}

/// Answers a call of the API, or of STS, which the signature tells.
pub(crate) async fn call(
    State(gate): State<Gate>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response {
    if let Ok(scope) = Scope::of(request.headers())
        && scope.service == Service::Sts
    {
        return sts::call(&gate, &connection, scope, request).await;
    }
    respond(gate, &connection, request).await.unwrap_or_else(Refusal::answer)
}

fn answer(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
    if let Ok(id) = Uuid::new_v4().to_string().parse() {
        headers.insert(REQUEST_ID, id);
    }
    response
}

async fn respond(gate: Gate, connection: &Connection, request: Request) -> Result<Response, Refusal> {
    let (head, body) = request.into_parts();
    let mut body = Arriving::new(body);
    let (identity, operation) = match addressed_operation(&gate.ecr, &head.headers) {
        Ok(addressed) => addressed,
        Err(refusal) => {
            // All of it before any answer: a client that is still sending would not read one.
            body.whole().await?;
            return Err(refusal);
        }
    };
    let ecr = Arc::clone(&gate.ecr);
    ecr.counters.call(&identity.region, operation);
    let fault = match ecr.faults.concern(operation, &identity.region) {
        Some(concern) => {
            body.up_to(concern.first_cut.unwrap_or(0)).await?;
            let repository = if concern.by_repository { body.repository().await? } else { None };
            let digest = if concern.by_digest { digest(body.whole().await?) } else { None };
            ecr.faults.take(operation, &identity.region, repository.as_deref(), digest.as_ref())
        }
        None => None,
    };
    let (action, operation) = (action(operation).to_owned(), operation.to_owned());
    let mut call = Call { gate, ecr, identity, operation, action, keep: None };
    let Some(fault) = fault else {
        return dispatch(&call, body.whole().await?).await;
    };
    body.slow_down(&fault);
    if let Some(event) = &fault.meanwhile {
        let Addressed { registry_id, repository } = Addressed::by(body.whole().await?);
        call.ecr.happen(event, &call.named_registry(registry_id), repository.as_deref());
    }
    call.keep = fault.keep;
    let answer = match fault.kind() {
        Kind::Answer => {
            let body = body.whole().await?;
            if fault.after {
                dispatch(&call, body).await?;
            }
            Err(Refusal::from(&fault))
        }
        Kind::Cut(bytes) => {
            if fault.after {
                dispatch(&call, body.whole().await?).await?;
            } else {
                body.up_to(bytes).await?;
            }
            fault.hold().await;
            match connection.cut().await {}
        }
        Kind::Own => dispatch(&call, body.whole().await?).await,
    };
    fault.hold().await;
    Ok(fault.alter(answer.unwrap_or_else(Refusal::answer), connection).await)
}

fn addressed_operation<'a>(ecr: &Ecr, headers: &'a HeaderMap) -> Result<(Identity, &'a str), Refusal> {
    Ok((Identity::of(ecr, headers)?, operation(headers)?))
}

fn operation(headers: &HeaderMap) -> Result<&str, Refusal> {
    let target = headers.get(TARGET).and_then(|target| target.to_str().ok()).unwrap_or_default();
    target.strip_prefix(TARGET_PREFIX).ok_or_else(|| unknown_operation(target))
}

/// The action of IAM that an operation takes.
fn action(operation: &str) -> &str {
    match operation {
        // As its documentation says.
        "ListImageReferrers" => "BatchGetImage",
        operation => operation,
    }
}

fn unknown_operation(target: &str) -> Refusal {
    let message = format!("The local ECR has no operation '{target}'");
    Refusal::new(StatusCode::BAD_REQUEST, "UnknownOperationException", message)
}

/// The digest of the image that a request pushes, or of the layer that it names, whatever else is right or wrong with it.
fn digest(body: &[u8]) -> Option<Digest> {
    images::pushed_digest(body).or_else(|| layers::named_digest(body))
}

/// What a request is about, where its other members do not matter yet.
#[derive(Debug, Default)]
struct Addressed {
    registry_id: Option<Account>,
    repository: Option<String>,
}

impl Addressed {
    fn by(body: &[u8]) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Members {
            registry_id: Option<String>,
            repository_name: Option<String>,
            resource_arn: Option<String>,
        }

        let members: Members = serde_json::from_slice(body).unwrap_or_default();
        let from_arn = || Some(members.resource_arn?.split_once(":repository/")?.1.to_owned());
        Self {
            registry_id: members.registry_id.and_then(|id| Account::try_from(id).ok()),
            repository: members.repository_name.or_else(from_arn),
        }
    }
}

async fn dispatch(call: &Call, body: &[u8]) -> Result<Response, Refusal> {
    let answer = match call.operation.as_str() {
        "BatchCheckLayerAvailability" => layers::check_availability(call, input(body)?),
        "BatchDeleteImage" => images::delete(call, input(body)?),
        "BatchGetImage" => images::get(call, input(body)?),
        "CompleteLayerUpload" => layers::complete_upload(call, input(body)?).await,
        "CreateRepository" => repositories::create(call, input(body)?),
        "DeleteLifecyclePolicy" => policies::delete_lifecycle(call, input(body)?),
        "DeleteRepository" => repositories::delete(call, input(body)?),
        "DeleteRepositoryPolicy" => policies::delete(call, input(body)?),
        "DescribeImages" => images::describe(call, input(body)?),
        "DescribeRepositories" => repositories::describe(call, input(body)?),
        "GetAuthorizationToken" => authorization::token(call, input(body)?),
        "GetDownloadUrlForLayer" => layers::download_url(call, input(body)?),
        "GetLifecyclePolicy" => policies::get_lifecycle(call, input(body)?),
        "GetRepositoryPolicy" => policies::get(call, input(body)?),
        "InitiateLayerUpload" => layers::initiate_upload(call, input(body)?),
        "ListImageReferrers" => referrers::list(call, input(body)?),
        "ListImages" => images::list(call, input(body)?),
        "ListTagsForResource" => tags::list(call, input(body)?),
        "PutImage" => images::put(call, input(body)?),
        "PutImageScanningConfiguration" => repositories::put_scanning(call, input(body)?),
        "PutImageTagMutability" => repositories::put_mutability(call, input(body)?),
        "PutLifecyclePolicy" => policies::put_lifecycle(call, input(body)?),
        "SetRepositoryPolicy" => policies::set(call, input(body)?),
        "TagResource" => tags::add(call, input(body)?),
        "UntagResource" => tags::remove(call, input(body)?),
        "UploadLayerPart" => layers::upload_part(call, input(body)?).await,
        unknown => return Err(unknown_operation(unknown)),
    };
    Ok(self::answer(StatusCode::OK, &without_nulls(answer?)))
}

/// Reads an operation's input. What is no JSON is another error than JSON that is no such input.
fn input<'body, T: Deserialize<'body>>(body: &'body [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        if error.is_data() {
            Refusal::from(Error::InvalidParameter(error.to_string()))
        } else {
            Refusal::new(StatusCode::BAD_REQUEST, "SerializationException", error.to_string())
        }
    })
}

fn without_nulls(mut value: Value) -> Value {
    remove_nulls(&mut value);
    value
}

/// AWS leaves out what is not there.
fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(remove_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_nulls),
        _ => {}
    }
}

/// Checks the length of a list.
fn check_length<T>(parameter: &str, items: &[T], max: usize) -> Result<()> {
    if (1..=max).contains(&items.len()) {
        return Ok(());
    }
    Err(Error::InvalidParameter(format!(
        "Invalid parameter at '{parameter}' failed to satisfy constraint: 'Member must have length between 1 and {max}'"
    )))
}

/// Seconds since 1970, as JSON 1.1 writes a time.
#[expect(clippy::cast_precision_loss, reason = "milliseconds of this millennium fit")]
fn epoch_seconds(time: jiff::Timestamp) -> Value {
    json!(time.as_millisecond() as f64 / 1000.0)
}
