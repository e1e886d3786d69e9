//! What stands between the functions and what they talk to, for tests that let it go wrong.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path as UrlPath, State};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::error::Error;
use crate::process::run;
use crate::stack::root;
use crate::terraform::FUNCTIONS;

/// A server on loopback that ends when it is dropped.
#[derive(Debug)]
struct Server {
    address: String,
    _task: JoinSet<()>,
}

impl Server {
    async fn start(router: Router) -> Result<Self, Error> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(Error::io("listen on loopback"))?;
        let address = listener.local_addr().map_err(Error::io("listen on loopback"))?.to_string();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, _task: task })
    }
}

fn client() -> Result<reqwest::Client, Error> {
    reqwest::Client::builder().no_proxy().build().map_err(Error::call("building an HTTP client"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hands a request on, and its answer back.
async fn forward(
    client: &reqwest::Client,
    method: Method,
    url: String,
    mut headers: HeaderMap,
    body: Bytes,
) -> (HeaderMap, Response) {
    // The client sets its own.
    for name in [header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING] {
        headers.remove(name);
    }
    match client.request(method, url).headers(headers).body(body).send().await {
        Ok(answer) => {
            let (status, headers) = (answer.status(), kept(answer.headers()));
            (headers.clone(), (status, headers, answer.bytes().await.unwrap_or_default()).into_response())
        }
        Err(error) => (HeaderMap::new(), (StatusCode::BAD_GATEWAY, error.to_string()).into_response()),
    }
}

/// The headers of an answer but those that are about its connection.
fn kept(headers: &HeaderMap) -> HeaderMap {
    let about_connection: [HeaderName; 3] = [header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
    let kept = headers.iter().filter(|(name, _)| !about_connection.contains(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// In front of ministack, for what the functions and Terraform ask of it: how often an execution was redriven, the Map Runs of
/// what it goes on in and which queries CloudWatch Logs keeps, none of which ministack knows, and whether an event is taken.
#[derive(Debug)]
pub(crate) struct Services {
    server: Server,
    state: Arc<ServicesState>,
}

#[derive(Debug)]
struct ServicesState {
    ministack: String,
    client: reqwest::Client,
    redrives: Mutex<HashMap<String, u32>>,
    /// What an execution went on in, each time that it was redriven.
    continuations: Mutex<HashMap<String, Vec<String>>>,
    refuses_events: Mutex<bool>,
    /// The query definitions by their IDs.
    queries: Mutex<BTreeMap<String, Value>>,
    calls: Mutex<Vec<Call>>,
}

/// What a function asked of a service.
#[derive(Debug, Clone)]
pub struct Call {
    /// The function.
    pub access_key: String,
    /// The operation, such as `AWSEvents.PutEvents`; for S3 the method.
    pub operation: String,
    /// The URL without its host.
    pub uri: String,
    /// The request's body.
    pub body: Bytes,
}

impl ServicesState {
    /// The answer to an operation on query definitions.
    fn of_queries(&self, operation: &str, asked: &Value) -> Option<Value> {
        let mut queries = lock(&self.queries);
        let id =
            asked["queryDefinitionId"].as_str().map_or_else(|| format!("query-{}", queries.len()), ToOwned::to_owned);
        match operation {
            "Logs_20140328.PutQueryDefinition" => {
                let mut query = asked.clone();
                query["queryDefinitionId"] = json!(id);
                queries.insert(id.clone(), query);
                Some(json!({"queryDefinitionId": id}))
            }
            "Logs_20140328.DescribeQueryDefinitions" => {
                let prefix = asked["queryDefinitionNamePrefix"].as_str().unwrap_or_default();
                let begins = |query: &&Value| query["name"].as_str().is_some_and(|name| name.starts_with(prefix));
                Some(json!({"queryDefinitions": queries.values().filter(begins).collect::<Vec<_>>()}))
            }
            "Logs_20140328.DeleteQueryDefinition" => Some(json!({"success": queries.remove(&id).is_some()})),
            _ => None,
        }
    }
}

impl Services {
    pub(crate) async fn start(ministack: &str) -> Result<Self, Error> {
        let state = Arc::new(ServicesState {
            ministack: ministack.to_owned(),
            client: client()?,
            redrives: Mutex::default(),
            continuations: Mutex::default(),
            refuses_events: Mutex::default(),
            queries: Mutex::default(),
            calls: Mutex::default(),
        });
        // Lists go through S3.
        let router = Router::new().fallback(service).layer(DefaultBodyLimit::disable());
        let server = Server::start(router.with_state(Arc::clone(&state))).await?;
        Ok(Self { server, state })
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.server.address)
    }

    pub(crate) fn refuse_events(&self, refuse: bool) {
        *lock(&self.state.refuses_events) = refuse;
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        lock(&self.state.calls).clone()
    }

    /// Counts one more redrive of an execution; how many there were.
    pub(crate) fn count_redrive(&self, execution: &str) -> u32 {
        let mut redrives = lock(&self.state.redrives);
        let count = redrives.entry(execution.to_owned()).or_default();
        *count += 1;
        *count
    }

    /// `execution` goes on in `continuation`.
    pub(crate) fn goes_on_in(&self, execution: &str, continuation: &str) {
        lock(&self.state.continuations).entry(execution.to_owned()).or_default().push(continuation.to_owned());
    }
}

async fn service(
    State(state): State<Arc<ServicesState>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let operation = headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let signed = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let access_key = signed.split_once("Credential=").and_then(|(_, rest)| rest.split('/').next()).unwrap_or_default();
    // Terraform's have whole packages in them.
    if FUNCTIONS.contains(&access_key) {
        lock(&state.calls).push(Call {
            access_key: access_key.to_owned(),
            operation: if operation.is_empty() { method.to_string() } else { operation.clone() },
            uri: uri.to_string(),
            body: body.clone(),
        });
    }
    if operation == "AWSEvents.PutEvents" && *lock(&state.refuses_events) {
        let error = json!({"__type": "AccessDeniedException", "message": "the bus takes no events"});
        return (StatusCode::BAD_REQUEST, error.to_string()).into_response();
    }
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    if let Some(answer) = state.of_queries(&operation, &asked) {
        return answer.to_string().into_response();
    }
    let url = format!("{}{uri}", state.ministack);
    let (answered, answer) = forward(&state.client, method, url.clone(), headers.clone(), body).await;
    let execution = asked["executionArn"].as_str().unwrap_or_default();
    let redrives = lock(&state.redrives).get(execution).copied();
    let continuations = lock(&state.continuations).get(execution).cloned().unwrap_or_default();
    match redrives {
        Some(_) if operation == "AWSStepFunctions.ListMapRuns" => {
            let mut listed = read_json(answer).await;
            for continuation in continuations {
                let asked = Bytes::from(json!({"executionArn": continuation}).to_string());
                let (_, answer) = forward(&state.client, Method::POST, url.clone(), headers.clone(), asked).await;
                let mut more = read_json(answer).await["mapRuns"].take();
                if let (Some(all), Some(more)) = (listed["mapRuns"].as_array_mut(), more.as_array_mut()) {
                    all.append(more);
                }
            }
            (answered, listed.to_string()).into_response()
        }
        Some(count) if operation == "AWSStepFunctions.DescribeExecution" => {
            let mut described = read_json(answer).await;
            described["redriveCount"] = json!(count);
            described["status"] = json!("RUNNING");
            (answered, described.to_string()).into_response()
        }
        _ => answer,
    }
}

async fn read_json(answer: Response) -> Value {
    let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap_or_default();
    serde_json::from_slice(&body).unwrap_or_default()
}

/// An invocation on its way to a function.
#[derive(Debug)]
pub struct Invocation {
    /// The function, such as `copy-layers`.
    pub function: String,
    /// The function's process.
    pub process: u32,
    /// What the function is given.
    pub payload: Value,
}

impl Invocation {
    /// The region of the target that it is for, if it is for one.
    #[must_use]
    pub fn target(&self) -> Option<&str> {
        self.payload["target"]["region"].as_str()
    }

    /// The name of the execution that it is part of.
    #[must_use]
    pub fn execution(&self) -> Option<&str> {
        let execution = &self.payload["execution"];
        execution.as_str().or_else(|| execution["name"].as_str())
    }
}

/// What becomes of an invocation.
#[derive(Debug, Clone)]
pub enum Fate {
    /// The function serves it.
    Served,
    /// It fails with an error of this name, without the function.
    Failed(String),
    /// It is answered with this, without the function.
    Answered(Value),
    /// The function's process is killed before it has it.
    Killed,
    /// The function has it, and its process is stopped before it does anything.
    Stopped,
    /// The function has it, and hardly more memory than it uses already.
    Starved,
    /// Another program serves it: a function that is not this one.
    HandedTo(PathBuf),
}

type Decide = Box<dyn FnMut(&Invocation) -> Fate + Send>;

/// What the function of a starved process may still take: less than a part of a layer.
const STARVATION: u64 = 8 * 1024 * 1024;

/// The path's beginning for a process that serves an invocation in the place of a function.
const STAND_IN: &str = "stand-in";

/// Between the functions' processes and ministack's Lambda runtime API. Each package is a script that starts the real
/// function, in its own process, with this in the place of the runtime API: its tests' signals reach the real function.
pub(crate) struct Runtime {
    server: Server,
    state: Arc<RuntimeState>,
}

struct RuntimeState {
    /// This server's.
    address: Mutex<String>,
    client: reqwest::Client,
    decide: Mutex<Decide>,
    /// What a stand-in is to serve, by the number in its path.
    handed: Mutex<HashMap<u32, (HeaderMap, Bytes)>>,
    /// Ended with this.
    stand_ins: Mutex<Vec<Child>>,
}

impl fmt::Debug for Runtime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Runtime").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Runtime {
    pub(crate) async fn start() -> Result<Self, Error> {
        let state = Arc::new(RuntimeState {
            address: Mutex::default(),
            client: client()?,
            decide: Mutex::new(Box::new(|_| Fate::Served)),
            handed: Mutex::default(),
            stand_ins: Mutex::default(),
        });
        let api = "/{function}/{process}/{upstream}/2018-06-01/runtime";
        let router = Router::new()
            .route(&format!("{api}/invocation/next"), get(next))
            .route(&format!("{api}/{{*what}}"), post(tell))
            .with_state(Arc::clone(&state));
        let server = Server::start(router).await?;
        lock(&state.address).clone_from(&server.address);
        Ok(Self { server, state })
    }

    pub(crate) fn decide(&self, decide: impl FnMut(&Invocation) -> Fate + Send + 'static) {
        *lock(&self.state.decide) = Box::new(decide);
    }

    /// Writes a package for each of the functions in `packages`. Each signs with an access key of its name, so that it is known who calls.
    pub(crate) async fn wrap(&self, packages: &Path, functions: &[&str], home: &Path) -> Result<PathBuf, Error> {
        let wrapped = home.join("packages");
        for function in functions {
            let directory = wrapped.join(function);
            fs::create_dir_all(&directory).map_err(Error::io(format!("make {}", directory.display())))?;
            let bootstrap = directory.join("bootstrap");
            let script = format!(
                "#!/bin/sh\nAWS_ACCESS_KEY_ID={function} AWS_LAMBDA_RUNTIME_API=http://{}/{function}/$$/$AWS_LAMBDA_RUNTIME_API exec '{}'\n",
                self.server.address,
                packages.join(function).join("bootstrap").display(),
            );
            fs::write(&bootstrap, script).map_err(Error::io(format!("write {}", bootstrap.display())))?;
            let mut zip = crate::process::guarded(root().join(".tools/python/bin/python"));
            zip.args(["-m", "zipfile", "-c", "bootstrap.zip", "bootstrap"]).current_dir(&directory);
            run("zipfile", zip, &home.join("zipfile.log"), false).await?;
        }
        Ok(wrapped)
    }
}

/// A process of a function asks for its next invocation.
async fn next(
    State(state): State<Arc<RuntimeState>>,
    UrlPath((function, process, upstream)): UrlPath<(String, u32, String)>,
) -> Response {
    if function == STAND_IN {
        let handed = lock(&state.handed).remove(&process);
        return match handed {
            Some((headers, body)) => (headers, body).into_response(),
            // It has served what it was started for.
            None => std::future::pending().await,
        };
    }
    let api = format!("http://{upstream}/2018-06-01/runtime/invocation");
    loop {
        let Ok(answer) = state.client.get(format!("{api}/next")).send().await else {
            return StatusCode::GONE.into_response();
        };
        let (status, headers) = (answer.status(), kept(answer.headers()));
        let body = answer.bytes().await.unwrap_or_default();
        if !status.is_success() {
            return status.into_response();
        }
        let payload = serde_json::from_slice(&body).unwrap_or_default();
        let fate = lock(&state.decide)(&Invocation { function: function.clone(), process, payload });
        let id = headers.get("lambda-runtime-aws-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
        let answered = match fate {
            Fate::Served => return (headers, body).into_response(),
            Fate::Failed(name) => {
                let error = json!({"errorType": name, "errorMessage": "a fault of the local stack"});
                Some((format!("{api}/{id}/error"), error))
            }
            Fate::Answered(answer) => Some((format!("{api}/{id}/response"), answer)),
            Fate::Killed => {
                signal(process, "KILL").await;
                return StatusCode::GONE.into_response();
            }
            Fate::Stopped => {
                signal(process, "STOP").await;
                return (headers, body).into_response();
            }
            Fate::Starved => {
                starve(process).await;
                return (headers, body).into_response();
            }
            Fate::HandedTo(program) => {
                let number = u32::try_from(lock(&state.stand_ins).len()).unwrap_or_default();
                lock(&state.handed).insert(number, (headers, body));
                let address = format!("http://{}/{STAND_IN}/{number}/{upstream}", lock(&state.address));
                let child = Command::new(program)
                    .env("AWS_LAMBDA_RUNTIME_API", address)
                    .env("AWS_LAMBDA_FUNCTION_NAME", &function)
                    .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
                    .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
                    .stdin(Stdio::null())
                    .kill_on_drop(true)
                    .spawn();
                lock(&state.stand_ins).extend(child);
                None
            }
        };
        if let Some((url, body)) = answered {
            let _ = state.client.post(url).body(body.to_string()).send().await;
        }
    }
}

/// A process of a function tells how its invocation ended, or that it could not start.
async fn tell(
    State(state): State<Arc<RuntimeState>>,
    UrlPath((_, _, upstream, what)): UrlPath<(String, String, String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    forward(&state.client, Method::POST, format!("http://{upstream}/2018-06-01/runtime/{what}"), headers, body).await.1
}

/// Sends a signal to a function's process.
pub(crate) async fn signal(process: u32, name: &str) {
    command(Command::new("/bin/sh").args(["-c", &format!("kill -{name} {process}")])).await;
}

/// Limits a process's memory to what it has and [`STARVATION`].
async fn starve(process: u32) {
    let pages = fs::read_to_string(format!("/proc/{process}/statm")).unwrap_or_default();
    let pages: u64 = pages.split(' ').next().and_then(|pages| pages.parse().ok()).unwrap_or_default();
    let limit = pages * 4096 + STARVATION;
    command(Command::new("prlimit").args([format!("--pid={process}"), format!("--as={limit}")])).await;
}

/// A fault that does not happen is seen: the test misses what it does.
async fn command(command: &mut Command) {
    let _ = command.stdin(Stdio::null()).status().await;
}
