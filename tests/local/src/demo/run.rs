//! The demo from the start of the stack to the comparison of what arrived.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use local_stack::{Client, Contents, Error, Execution, Image, LocalStack, Options, Pushed, SOURCE, Sample, Undeployed};
use serde::Serialize;
use shared::contract::{Report, Status, TargetReport};

use crate::Request;
use crate::follow::follow;
use crate::screen::{Screen, bytes, count, milliseconds, seconds};

const REPOSITORY: &str = "demo/app";
const TAG: &str = "v1";

/// The target regions that nobody named.
const TARGETS: &str = "eu-west-1 us-west-2 ap-southeast-2";

/// Where the demo leaves what it made, from the project's directory.
pub(crate) const DIRECTORY: &str = "target/demo";

/// The run as a page, there.
const PICTURE: &str = "run.html";

/// Why the demo failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The stack did.
    #[error("{}", .0.chain())]
    Stack(#[from] Error),
    /// TARGETS names no regions that can be replicated to.
    #[error("TARGETS: {0}")]
    Targets(String),
    /// The picture of the run could not be made.
    #[error("{}", shared::error::chain(.0))]
    Picture(#[from] picture::Error),
    /// A file could not be written.
    #[error("could not write {path}: {source}")]
    Write {
        path: String,
        #[source]
        source: std::io::Error,
    },
    /// The image did not arrive everywhere.
    #[error("{0}")]
    Incomplete(String),
}

pub(crate) async fn run(request: &Request, screen: &Screen) -> Result<(), Failure> {
    let start = Instant::now();
    let targets = targets(request)?;
    let directory = prepare()?;
    let image = match &request.image {
        Some(image) => Image::find(image)?,
        None => Sample::default().write(directory.join("image"))?,
    };

    screen.line(format!("One push to {SOURCE}, replicated to {}\n", targets.join(", ")));
    let stack = start_stack(targets, &directory, screen).await?;
    let pushed = push(&stack, &image, screen).await?;

    screen.line("");
    let execution = stack.execution_for(&pushed.digest, &[]).await?;
    let result = show_run(&stack, screen, &execution, &directory, &pushed).await;
    if result.is_ok() {
        screen.line(format!("\n  {DIRECTORY}/report.json    the report, as EventBridge delivered it"));
        screen.line(format!("  {DIRECTORY}/history.json   the execution's history"));
        screen.line(format!("  {DIRECTORY}/{PICTURE}       a picture of it: open it in a browser"));
        screen.line(format!("\nThe same digest in {}, after {}", every_region(&stack), seconds(start.elapsed())));
    }
    if request.keep {
        if let Err(failure) = &result {
            screen.problem(&failure.to_string());
        }
        show_how_to_use(&stack, &image, screen).await?;
        std::future::pending::<()>().await;
    }
    result
}

pub(crate) fn targets(request: &Request) -> Result<Vec<String>, Failure> {
    let text = request.targets.as_deref().unwrap_or(TARGETS);
    let mut targets: Vec<String> = Vec::new();
    for name in text.split([',', ' ']).filter(|name| !name.is_empty()) {
        name.parse::<shared::names::Region>().map_err(|error| Failure::Targets(error.to_string()))?;
        if name == SOURCE {
            return Err(Failure::Targets(format!("{SOURCE} is the source")));
        }
        if !targets.iter().any(|target| target == name) {
            targets.push(name.to_owned());
        }
    }
    if targets.is_empty() { Err(Failure::Targets("names no region".to_owned())) } else { Ok(targets) }
}

/// Makes the directory, without what an earlier run left.
pub(crate) fn prepare() -> Result<PathBuf, Failure> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(DIRECTORY);
    let logs = directory.join("logs");
    let failed = |source| Failure::Write { path: DIRECTORY.to_owned(), source };
    for old in ["report.json", "reconcile-report.json", "history.json", PICTURE].map(|name| directory.join(name)) {
        if old.exists() {
            fs::remove_file(old).map_err(failed)?;
        }
    }
    if logs.exists() {
        fs::remove_dir_all(&logs).map_err(failed)?;
    }
    fs::create_dir_all(logs).and_then(|()| directory.canonicalize()).map_err(failed)
}

async fn start_stack(targets: Vec<String>, directory: &Path, screen: &Screen) -> Result<LocalStack, Error> {
    deploy(launch(targets, directory, screen).await?, screen).await
}

pub(crate) async fn launch(targets: Vec<String>, directory: &Path, screen: &Screen) -> Result<Undeployed, Error> {
    let since = Instant::now();
    let logs = Some(directory.join("logs"));
    let options = Options { source: SOURCE.to_owned(), targets, wait_scale: 1.0, logs, ..Options::quick(&[]) };
    let stack = LocalStack::launch(options).await?;
    screen.step("start", "a local ECR, and ministack for the rest of AWS", since);
    Ok(stack)
}

pub(crate) async fn deploy(stack: Undeployed, screen: &Screen) -> Result<LocalStack, Error> {
    let since = Instant::now();
    let stack = stack.deploy().await?;
    screen.step("deploy", "terraform apply: functions, state machines, event rule", since);
    Ok(stack)
}

async fn push(stack: &LocalStack, image: &Image, screen: &Screen) -> Result<Pushed, Error> {
    stack.create_repository(REPOSITORY, |request| request).await?;
    let client = Client::installed();
    let since = Instant::now();
    let pushed = stack.push(client, image, REPOSITORY, TAG).await?;
    let size = bytes(stack.ecr().stats().region(stack.source()).uploaded_bytes);
    screen.step("push", format!("{REPOSITORY}:{TAG} to {SOURCE} by {}, {size}", pushed.client), since);
    screen.line(format!("  {:<9} {}", "", pushed.digest));
    Ok(pushed)
}

/// Follows the run, shows and writes its report, and reads every target back.
async fn show_run(
    stack: &LocalStack,
    screen: &Screen,
    execution: &Execution,
    directory: &Path,
    pushed: &Pushed,
) -> Result<(), Failure> {
    let followed = follow(stack, screen, &execution.arn).await;
    // Whatever happened, what can be known about it is written.
    write_json(&directory.join("history.json"), &History { events: stack.history(&execution.arn).await? })?;
    let run = picture::read(stack.step_functions(), &execution.arn).await?;
    write(&directory.join(PICTURE), &picture::page(&run, false)?)?;
    let execution = followed?;
    let report = stack.reports(&execution.arn).await.map(|mut events| events.remove(0).report);
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            let cause = execution.cause.as_deref().or(execution.error.as_deref()).unwrap_or("it did not say why");
            return Err(Failure::Incomplete(format!("no report ({}); the execution: {cause}", error.chain())));
        }
    };
    write_json(&directory.join("report.json"), &report)?;
    screen.line("");
    show_report(screen, &report);
    screen.line("");
    compare(stack, screen, pushed, &report).await
}

/// As GetExecutionHistory answers.
#[derive(Serialize)]
struct History<T> {
    events: Vec<T>,
}

pub(crate) fn write_json(path: &Path, content: &impl Serialize) -> Result<(), Failure> {
    let failed = |source| Failure::Write { path: path.display().to_string(), source };
    let mut text = serde_json::to_string_pretty(content).map_err(|error| failed(error.into()))?;
    text.push('\n');
    write(path, &text)
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|source| Failure::Write { path: path.display().to_string(), source })
}

fn show_report(screen: &Screen, report: &Report) {
    let row = |target: &TargetReport| {
        vec![
            target.region.to_string(),
            name(target.status).to_owned(),
            (target.manifests_copied + target.manifests_skipped).to_string(),
            target.layers_copied.to_string(),
            target.layers_skipped.to_string(),
            bytes(target.bytes_copied),
            milliseconds(target.duration_ms),
            target.lag_ms.map_or("-".to_owned(), |lag| milliseconds(lag.unsigned_abs())),
        ]
    };
    let head = ["target", "status", "manifests", "layers copied", "skipped", "bytes", "duration", "lag"];
    screen.table(&head, &report.targets.iter().map(row).collect::<Vec<_>>());
    for target in &report.targets {
        if let (Some(step), Some(error)) = (&target.step, &target.error) {
            let message = target.message.as_deref().unwrap_or_default();
            screen.line(format!("\n  {}: {step} failed with {error}: {message}", target.region));
        }
    }
}

const fn name(status: Status) -> &'static str {
    match status {
        Status::Replicated => "replicated",
        Status::Unchanged => "unchanged",
        Status::Superseded => "superseded",
        Status::Skipped => "skipped",
        Status::Conflict => "conflict",
        Status::Failed => "failed",
    }
}

/// Reads every target back and compares it with the source, digest by digest.
async fn compare(stack: &LocalStack, screen: &Screen, pushed: &Pushed, report: &Report) -> Result<(), Failure> {
    let source = stack.registry(stack.source()).await?.read(REPOSITORY, TAG).await?;
    if source.digest != pushed.digest {
        return Err(Failure::Incomplete(format!("the source has {} now", source.digest)));
    }
    let widest = stack.targets().iter().map(String::len).max().unwrap_or_default();
    let mut different = Vec::new();
    for region in stack.targets() {
        let since = Instant::now();
        let read = async { stack.registry(region).await?.read(REPOSITORY, TAG).await };
        let verdict = match read.await {
            Ok(target) if target == source => {
                let (manifests, blobs) =
                    (count(target.manifests.len(), "manifest"), count(target.blobs.len(), "layer"));
                let all = format!("{manifests}, {blobs}, {}", bytes(target.bytes()));
                Ok(format!("same digest   {all}, read back in {}", seconds(since.elapsed())))
            }
            Ok(target) => Err(format!("DIFFERENT   {}", difference(&source, &target))),
            Err(error) => Err(format!("UNREADABLE   {}", error.chain())),
        };
        let (Ok(text) | Err(text)) = &verdict;
        screen.line(format!("  {region:<widest$}  {text}"));
        let reported = report.targets.iter().find(|target| target.region.as_str() == region);
        if verdict.is_err() || reported.is_none_or(|target| !target.status.is_complete()) {
            different.push(region.as_str());
        }
    }
    if different.is_empty() && report.complete {
        return Ok(());
    }
    Err(Failure::Incomplete(format!("the image did not arrive whole in {}", different.join(", "))))
}

fn difference(source: &Contents, target: &Contents) -> String {
    if source.digest != target.digest {
        return format!("{} instead of {}", target.digest, source.digest);
    }
    let missing = |wanted: usize, found: usize, noun| format!("{found} of {}", count(wanted, noun));
    let manifests = missing(source.manifests.len(), target.manifests.len(), "manifest");
    format!("{manifests}, {}", missing(source.blobs.len(), target.blobs.len(), "layer"))
}

fn every_region(stack: &LocalStack) -> String {
    count(stack.targets().len() + 1, "region")
}

async fn show_how_to_use(stack: &LocalStack, image: &Image, screen: &Screen) -> Result<(), Failure> {
    let (source, target) = (stack.registry(stack.source()).await?, stack.registry(&stack.targets()[0]).await?);
    screen.line(format!(
        "
The stack is up until Ctrl-C. A push starts an execution:

  skopeo copy --all --dest-tls-verify=false --dest-creds AWS:{} \\
    {} docker://{}/{REPOSITORY}:v2

Watch it:

  export AWS_ENDPOINT_URL={} AWS_DEFAULT_REGION={} AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test
  aws stepfunctions list-executions --state-machine-arn {}
  aws stepfunctions get-execution-history --execution-arn <its ARN>
  make picture EXECUTION=<its ARN>

Pull from {}:

  skopeo copy --all --src-tls-verify=false --src-creds AWS:{} \\
    docker://{}/{REPOSITORY}:v2 oci:{DIRECTORY}/pulled:v2

The calls that each region got, and faults to add:

  curl {}/_admin/stats
  curl {}/_admin/faults -H 'Content-Type: application/json' \\
    -d '{{\"operation\": \"PutImage\", \"region\": \"{}\", \"status\": 500, \"code\": \"ServerException\"}}'",
        source.password,
        image.for_skopeo(),
        source.host,
        stack.endpoint(),
        stack.source(),
        stack.state_machine_arn(),
        target.region,
        target.password,
        target.host,
        stack.ecr().endpoint(),
        stack.ecr().endpoint(),
        target.region,
    ));
    Ok(())
}
