//! One execution environment of a Lambda function: its packaged program, and the runtime API that it polls.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::error::Error;
use crate::resources::Resources;

/// How long an environment may take to start.
const INIT_TIME: Duration = Duration::from_secs(10);

/// How long after its deadline a function is still waited for.
const GRACE: Duration = Duration::from_secs(5);

/// A function's process, started and waiting for its first invocation.
#[derive(Debug)]
pub(crate) struct Function {
    name: &'static str,
    child: Child,
    log: PathBuf,
    invocations: mpsc::Sender<Invocation>,
    answers: mpsc::Receiver<Answer>,
    number: u32,
    /// From its start to its first poll.
    pub(crate) init: Duration,
    /// Ends with this.
    _server: JoinSet<()>,
}

#[derive(Debug)]
struct Invocation {
    id: String,
    deadline: SystemTime,
    payload: Vec<u8>,
}

type Answer = Result<Bytes, Bytes>;

/// What the runtime API stands on.
#[derive(Debug)]
struct Runtime {
    function: &'static str,
    invocations: Mutex<mpsc::Receiver<Invocation>>,
    answers: mpsc::Sender<Answer>,
    polled: Notify,
}

/// A function's error as the runtime posts it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    error_type: String,
    error_message: String,
}

impl Function {
    /// Starts the function `name` from `packages`, with `environment` and nothing of our own.
    pub(crate) async fn start(
        name: &'static str,
        packages: &Path,
        memory: u32,
        environment: &[(&str, String)],
        log: PathBuf,
    ) -> Result<Self, Error> {
        let program = Command::new(packages.join(name).join("bootstrap"));
        Self::start_program(name, program, memory, environment, log).await
    }

    async fn start_program(
        name: &'static str,
        mut program: Command,
        memory: u32,
        environment: &[(&str, String)],
        log: PathBuf,
    ) -> Result<Self, Error> {
        let (invocations, received) = mpsc::channel(1);
        let (answered, answers) = mpsc::channel(1);
        let runtime = Arc::new(Runtime {
            function: name,
            invocations: Mutex::new(received),
            answers: answered,
            polled: Notify::new(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(Error::io("listen"))?;
        let address = listener.local_addr().map_err(Error::io("listen"))?;
        let router = router(Arc::clone(&runtime));
        let mut server = JoinSet::new();
        server.spawn(async move {
            let _ = axum::serve(listener, router).await;
        });

        let output = File::create(&log).map_err(Error::io(format!("write {}", log.display())))?;
        let errors = output.try_clone().map_err(Error::io(format!("write {}", log.display())))?;
        let started = Instant::now();
        let mut child = program
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", name)
            .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", memory.to_string())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .map_err(Error::io(format!("start {name}")))?;
        tokio::select! {
            polled = timeout(INIT_TIME, runtime.polled.notified()) => {
                polled.map_err(|_| Error::program(name, "did not start", &log))?;
            }
            _ = child.wait() => return Err(Error::program(name, "ended before it was asked for anything", &log)),
        }
        let init = started.elapsed();
        Ok(Self { name, child, log, invocations, answers, number: 0, init, _server: server })
    }

    /// Invokes the function, which is to be done in `time`.
    pub(crate) async fn invoke<O: DeserializeOwned>(
        &mut self,
        input: &impl Serialize,
        time: Duration,
    ) -> Result<O, Error> {
        self.number += 1;
        let payload = serde_json::to_vec(input).map_err(Error::call("encoding an input"))?;
        let id = format!("00000000-0000-4000-8000-{:012}", self.number);
        let invocation = Invocation { id, deadline: SystemTime::now() + time, payload };
        let gone = || Error::program(self.name, "cannot be invoked", &self.log);
        self.invocations.send(invocation).await.map_err(|_| gone())?;
        let answer = tokio::select! {
            answer = timeout(time + GRACE, self.answers.recv()) => match answer {
                Ok(answer) => answer.ok_or_else(gone)?,
                Err(_) => return Err(Error::program(self.name, "ran into its deadline", &self.log)),
            },
            status = self.child.wait() => {
                let status = status.map_err(Error::io(format!("watch {}", self.name)))?;
                return Err(Error::program(self.name, &format!("ended ({status})"), &self.log));
            }
        };
        match answer {
            Ok(output) => serde_json::from_slice(&output).map_err(Error::call("decoding an output")),
            Err(failure) => {
                let failure: Failure = serde_json::from_slice(&failure).map_err(Error::call("decoding an error"))?;
                let problem = format!("failed with {}: {}", failure.error_type, failure.error_message);
                Err(Error::program(self.name, &problem, &self.log))
            }
        }
    }

    /// What it used until now.
    pub(crate) fn resources(&self) -> Resources {
        self.child.id().and_then(Resources::of).unwrap_or_default()
    }
}

/// The part of the Lambda runtime API that a runtime uses.
fn router(runtime: Arc<Runtime>) -> Router {
    Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
        .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
        .route("/2018-06-01/runtime/init/error", post(init_error))
        .with_state(runtime)
}

async fn next(State(runtime): State<Arc<Runtime>>) -> impl IntoResponse {
    runtime.polled.notify_one();
    let Some(invocation) = runtime.invocations.lock().await.recv().await else {
        return StatusCode::GONE.into_response();
    };
    let deadline = invocation.deadline.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let headers = [
        ("lambda-runtime-aws-request-id", invocation.id),
        ("lambda-runtime-deadline-ms", deadline.as_millis().to_string()),
        (
            "lambda-runtime-invoked-function-arn",
            format!("arn:aws:lambda:{}:{}:function:{}", crate::world::SOURCE, crate::world::ACCOUNT, runtime.function),
        ),
        ("lambda-runtime-trace-id", "Root=1-00000000-000000000000000000000000;Sampled=0".to_owned()),
        ("content-type", "application/json".to_owned()),
    ];
    (headers, invocation.payload).into_response()
}

async fn response(State(runtime): State<Arc<Runtime>>, UrlPath(_): UrlPath<String>, body: Bytes) -> StatusCode {
    answered(&runtime, Ok(body)).await
}

async fn error(State(runtime): State<Arc<Runtime>>, UrlPath(_): UrlPath<String>, body: Bytes) -> StatusCode {
    answered(&runtime, Err(body)).await
}

/// The process ends after this, which is noticed.
async fn init_error() -> StatusCode {
    StatusCode::ACCEPTED
}

async fn answered(runtime: &Runtime, answer: Answer) -> StatusCode {
    match runtime.answers.send(answer).await {
        Ok(()) => StatusCode::ACCEPTED,
        Err(_) => StatusCode::GONE,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const FUNCTIONS: [&str; 7] = [
        "resolve-image",
        "ensure-repo",
        "copy-layers",
        "put-manifest",
        "report",
        "find-differences",
        "report-differences",
    ];

    /// Each function, run by `emulator` if there is one, starts and names the error of an input that is none.
    async fn each_function_answers(architecture: &str, emulator: Option<&[&str]>) {
        let root = crate::root();
        let packages = root.join("target/lambda").join(architecture);
        let logs = root.join("target/bench");
        std::fs::create_dir_all(&logs).unwrap();
        // Nothing is at the endpoint: what is wrong with the input is found before anybody is asked.
        let mut environment = crate::world::environment("http://127.0.0.1:9".into());
        environment.extend(["BUCKET", "DEPLOYMENT", "REPLICATION_ARN"].map(|name| (name, "any".to_owned())));
        for name in FUNCTIONS {
            let bootstrap = packages.join(name).join("bootstrap");
            let program = match emulator {
                Some([emulator, arguments @ ..]) => {
                    let mut program = Command::new(emulator);
                    program.args(arguments).arg(bootstrap);
                    program
                }
                _ => Command::new(bootstrap),
            };
            let log = logs.join(format!("{name}-{architecture}.log"));
            let mut function = Function::start_program(name, program, 256, &environment, log).await.unwrap();
            let error = function.invoke::<Value>(&json!("none"), Duration::from_secs(30)).await.unwrap_err();
            assert!(error.chain().contains(&format!("{name} failed with InvalidInput: ")), "{}", error.chain());
        }
    }

    #[tokio::test]
    async fn each_function_for_this_machine_answers() {
        each_function_answers(crate::ARCHITECTURE, None).await;
    }

    #[cfg(target_arch = "x86_64")]
    #[tokio::test]
    async fn each_function_for_arm64_answers_under_qemu() {
        // Debian's packages qemu-user and libc6-arm64-cross.
        let emulator = ["/usr/bin/qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"];
        if !Path::new(emulator[0]).exists() || !Path::new(emulator[2]).exists() {
            assert!(std::env::var_os("CI").is_none(), "qemu-user or libc6-arm64-cross is not installed");
            eprintln!("qemu-user or libc6-arm64-cross is not installed: the functions for arm64 were not run");
            return;
        }
        each_function_answers("arm64", Some(&emulator)).await;
    }
}
