use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_sdk_ecr::operation::create_repository::CreateRepositoryError;
use aws_sdk_ecr::operation::create_repository::builders::CreateRepositoryFluentBuilder;
use aws_sdk_sfn::config::{BehaviorVersion, Credentials, Region};
use ecr_local::{Config as EcrConfig, EcrLocal, Shape};
use serde::Serialize;
use serde_json::{Value, json};
use shared::names::Digest;
use shared::reconcile;
use tempfile::TempDir;

use crate::between::{Call, Fate, Invocation, Runtime, Services, signal};
use crate::error::Error;
use crate::events::{ReportEvent, Reports, matches, replay_push};
use crate::executions::{Execution, Executions, HistoryEvent, MapRun};
use crate::image::{Client, Image, Pushed};
use crate::logs;
use crate::ministack::Ministack;
use crate::process::tail;
use crate::redrive::redrive;
use crate::registry::Registry;
use crate::terraform;

pub(crate) const ACCESS_KEY: &str = "test";
pub(crate) const SECRET_KEY: &str = "test";

/// How long the stack is given for what it should do at once.
const PATIENCE: Duration = Duration::from_mins(1);

/// How often a start is tried again whose port somebody else took.
const PORT_ATTEMPTS: u32 = 3;

/// The default source region.
pub const SOURCE: &str = "eu-central-1";

/// How a local stack is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// The source region.
    pub source: String,
    /// The regions that a push is replicated to.
    pub targets: Vec<String>,
    /// What the state machine's waits are multiplied with: 1 as in AWS, less for those who cannot wait for a retry.
    pub wait_scale: f64,
    /// Where the logs go that are to stay; otherwise they go with the stack.
    pub logs: Option<PathBuf>,
    /// How layers are copied.
    pub copy_layers: CopyLayers,
    /// Whether images that are pushed without a tag are replicated.
    pub untagged_images: bool,
    /// The replication rules, as the module takes them, instead of one for every image, to all targets.
    pub rules: Option<Value>,
    /// What is set of the module's `reconcile`; the rest keeps its default.
    pub reconcile: Value,
    /// What the module's `notifications` are on: `failures` or `all`; then a deployment waits for the image, too.
    pub notify_on: Option<String>,
    /// What else the functions' environment has.
    pub environment: Vec<(String, String)>,
    /// The network between the functions, all of them together, and ECR; `None` is as fast as it goes.
    pub shape: Option<Shape>,
    /// Whether [`LocalStack::decide`] has a say in what becomes of an invocation.
    pub decided: bool,
}

/// What is set of the module's `copy_layers`; the rest keeps its default.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CopyLayers {
    /// The function's memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u32>,
    /// The function's time-out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
    /// The roads that layers may take: `auto` or `parts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uploads: Option<String>,
    /// How many functions may copy one image to one target side by side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_shards: Option<u32>,
}

impl Options {
    /// A stack with these targets, in which retries hardly wait.
    #[must_use]
    pub fn quick(targets: &[&str]) -> Self {
        Self {
            source: SOURCE.to_owned(),
            targets: targets.iter().map(|region| (*region).to_owned()).collect(),
            wait_scale: 0.01,
            logs: None,
            copy_layers: CopyLayers::default(),
            untagged_images: false,
            rules: None,
            reconcile: json!({}),
            notify_on: None,
            environment: Vec::new(),
            shape: None,
            decided: false,
        }
    }

    /// The replication rules, as the module takes them.
    pub(crate) fn rules(&self) -> Value {
        let targets: Vec<Value> = self.targets.iter().map(|region| json!({"region": region})).collect();
        let rule = json!({"untagged": self.untagged_images, "targets": targets});
        self.rules.clone().unwrap_or_else(|| json!({"all": rule}))
    }
}

/// The module, applied, and all that it needs. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct LocalStack {
    options: Options,
    executions: Executions,
    reconciliations: Executions,
    reconcile_bucket: String,
    reports: Reports,
    dead_letter_queue_url: String,
    event_patterns: BTreeMap<String, String>,
    logs: PathBuf,
    // Stopped in this order: the functions, what they call, and the directory that both write to.
    ministack: Ministack,
    services: Services,
    runtime: Option<Runtime>,
    ecr: EcrLocal,
    home: TempDir,
}

impl LocalStack {
    /// Starts ministack and a local ECR, and applies tests/local to them.
    ///
    /// # Errors
    /// If something that it needs is missing, or one of them fails; with the end of that one's log.
    pub async fn start(options: Options) -> Result<Self, Error> {
        Self::launch(options).await?.deploy().await
    }

    /// Starts ministack and a local ECR.
    ///
    /// # Errors
    /// As [`LocalStack::start`].
    pub async fn launch(options: Options) -> Result<Undeployed, Error> {
        let parent = root().join("target/local-stack");
        let doing = || format!("make a directory in {}", parent.display());
        fs::create_dir_all(&parent).map_err(Error::io(doing()))?;
        let home = tempfile::Builder::new().prefix("run-").tempdir_in(&parent).map_err(Error::io(doing()))?;
        let logs = options.logs.clone().unwrap_or_else(|| home.path().to_owned());
        fs::create_dir_all(&logs).map_err(Error::io(format!("make {}", logs.display())))?;
        let mut attempt = 1;
        loop {
            let port = Ministack::free_port()?;
            let config = EcrConfig {
                data_dir: Some(home.path().to_owned()),
                events_endpoint: Some(Ministack::endpoint_at(port)),
                ..EcrConfig::default()
            };
            let ecr = EcrLocal::start(config).await.map_err(Error::io("start the local ECR"))?;
            let ecr_endpoint = match options.shape.clone() {
                None => ecr.endpoint(),
                Some(shape) => ecr.interface(shape).map_err(Error::io("open a network interface of the local ECR"))?,
            };
            let services = Services::start(&Ministack::endpoint_at(port)).await?;
            match Ministack::start(port, &services.endpoint(), &ecr_endpoint, &options, home.path(), &logs).await {
                Ok(ministack) => return Ok(Undeployed { options, logs, ministack, services, ecr, home }),
                Err(Error::Program { tail, .. }) if tail.contains("already in use") && attempt < PORT_ATTEMPTS => {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The source region.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.options.source
    }

    /// The target regions.
    #[must_use]
    pub fn targets(&self) -> &[String] {
        &self.options.targets
    }

    /// The local ECR: its counters and faults.
    #[must_use]
    pub fn ecr(&self) -> &EcrLocal {
        &self.ecr
    }

    /// The URL of every AWS service but ECR.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.ministack.endpoint()
    }

    /// The URL of CloudWatch Logs with the queries that it keeps, which ministack does not.
    #[must_use]
    pub fn logs_endpoint(&self) -> String {
        self.services.endpoint()
    }

    /// The state machine.
    #[must_use]
    pub fn state_machine_arn(&self) -> &str {
        &self.executions.state_machine_arn
    }

    /// The queue of push events that could not start an execution.
    #[must_use]
    pub fn dead_letter_queue_url(&self) -> &str {
        &self.dead_letter_queue_url
    }

    /// All that the functions and the state machine have logged.
    ///
    /// # Errors
    /// If CloudWatch Logs does not answer.
    pub async fn function_logs(&self) -> Result<String, Error> {
        logs::read(self.endpoint(), self.source()).await
    }

    /// What the stand-in for AWS has logged, and whatever the functions wrote past their log.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn service_log(&self) -> Result<String, Error> {
        let log = self.ministack.log();
        fs::read(log)
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .map_err(Error::io(format!("read {}", log.display())))
    }

    /// A client of a region's ECR.
    #[must_use]
    pub fn ecr_client(&self, region: &str) -> aws_sdk_ecr::Client {
        ecr_client(&self.ecr, region)
    }

    /// A region's registry, signed in to.
    ///
    /// # Errors
    /// If GetAuthorizationToken does not give what it should.
    pub async fn registry(&self, region: &str) -> Result<Registry, Error> {
        Registry::sign_in(&self.ecr_client(region), region).await
    }

    /// Makes a repository in the source region, with the settings that `set` adds.
    ///
    /// # Errors
    /// If CreateRepository fails.
    pub async fn create_repository(
        &self,
        name: &str,
        set: impl FnOnce(CreateRepositoryFluentBuilder) -> CreateRepositoryFluentBuilder,
    ) -> Result<(), Error> {
        let request = set(self.ecr_client(self.source()).create_repository().repository_name(name));
        request.send().await.map_err(Error::call("CreateRepository"))?;
        Ok(())
    }

    /// Pushes an image to the source region.
    ///
    /// # Errors
    /// If the client fails, or the registry does not have the tag afterwards.
    pub async fn push(&self, client: Client, image: &Image, repository: &str, tag: &str) -> Result<Pushed, Error> {
        let registry = self.registry(self.source()).await?;
        push(&registry, client, image, (repository, tag), self.home.path(), &self.logs).await
    }

    /// Sends a push's event again.
    ///
    /// # Errors
    /// If PutEvents fails.
    pub async fn replay_push(&self, repository: &str, digest: &Digest, tag: &str) -> Result<(), Error> {
        replay_push(&self.events(), repository, digest, tag).await
    }

    /// The replication rules whose event patterns let an event through, as EventBridge evaluates them.
    ///
    /// # Errors
    /// If TestEventPattern fails, as it does for a pattern that is none.
    pub async fn rules_for(&self, event: &Value) -> Result<BTreeSet<&str>, Error> {
        let mut rules = BTreeSet::new();
        for (rule, pattern) in &self.event_patterns {
            if self.lets_through(pattern, event).await? {
                rules.insert(rule.as_str());
            }
        }
        Ok(rules)
    }

    /// Whether an event pattern lets an event through, as EventBridge evaluates it.
    ///
    /// # Errors
    /// If TestEventPattern fails, as it does for a pattern that is none.
    pub async fn lets_through(&self, pattern: &str, event: &Value) -> Result<bool, Error> {
        matches(&self.events(), pattern, event).await
    }

    fn events(&self) -> aws_sdk_eventbridge::Client {
        let config = aws_sdk_eventbridge::Config::builder().behavior_version(BehaviorVersion::v2026_01_12());
        let config = config.endpoint_url(self.endpoint()).credentials_provider(credentials());
        let config = config.region(Region::new(self.source().to_owned())).build();
        aws_sdk_eventbridge::Client::from_conf(config)
    }

    /// Every execution so far.
    ///
    /// # Errors
    /// If Step Functions does not answer.
    pub async fn executions(&self) -> Result<Vec<Execution>, Error> {
        self.executions.all().await
    }

    /// Waits for an execution that an event about this image started, other than those that are known already.
    ///
    /// # Errors
    /// If there is none within a minute.
    pub async fn execution_for(&self, digest: &Digest, known: &[Execution]) -> Result<Execution, Error> {
        self.executions.started_for(digest, known, PATIENCE).await
    }

    /// The executions of this deployment.
    #[must_use]
    pub fn all_executions(&self) -> &Executions {
        &self.executions
    }

    /// Applies tests/local once more, with another source region; its executions.
    ///
    /// # Errors
    /// If Terraform fails, with the end of its log.
    pub async fn deploy_also(&self, source: &str, targets: &[&str]) -> Result<Executions, Error> {
        let home = self.home.path().join(source);
        fs::create_dir_all(&home).map_err(Error::io(format!("make {}", home.display())))?;
        let options = Options { source: source.to_owned(), ..Options::quick(targets) };
        let packages = terraform::packages()?;
        let outputs =
            terraform::apply(self.endpoint(), &self.logs_endpoint(), &options, &packages, &home, &self.logs).await?;
        Ok(Executions::new(self.endpoint(), source, outputs.state_machine_arn))
    }

    /// Starts an execution by hand.
    ///
    /// # Errors
    /// If StartExecution fails.
    pub async fn start_execution(&self, input: &Value) -> Result<String, Error> {
        self.executions.start(None, input).await
    }

    /// Starts an execution of this name by hand.
    ///
    /// # Errors
    /// If StartExecution fails, as it does where there was one of that name.
    pub async fn start_named(&self, name: &str, input: &Value) -> Result<String, Error> {
        self.executions.start(Some(name), input).await
    }

    /// Stops an execution.
    ///
    /// # Errors
    /// If StopExecution fails.
    pub async fn stop(&self, arn: &str) -> Result<(), Error> {
        let stop = self.executions.client.stop_execution().execution_arn(arn).send().await;
        stop.map(drop).map_err(Error::call("StopExecution"))
    }

    /// Redrives an execution as Step Functions documents it; `failed` is its last part: itself, or what it went on in when it
    /// was redriven for the last time. The ARN of what it goes on in now.
    ///
    /// # Errors
    /// If it is under way or has succeeded, or a call fails.
    pub async fn redrive(&self, original: &Execution, failed: &Execution) -> Result<String, Error> {
        let count = self.services.count_redrive(&original.arn);
        redrive(&self.executions, original, failed, count).await
    }

    /// What the functions asked of the services beside ECR, in a stack that [`LocalStack::decide`] has a say in: elsewhere nothing tells
    /// who asks.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.services.calls()
    }

    /// Starts a run of reconcile-registry by hand.
    ///
    /// # Errors
    /// If StartExecution fails.
    pub async fn start_reconcile(&self, input: &Value) -> Result<String, Error> {
        self.reconciliations.start(None, input).await
    }

    /// As [`LocalStack::redrive`], for a run of reconcile-registry.
    ///
    /// # Errors
    /// As [`LocalStack::redrive`].
    pub async fn redrive_reconcile(&self, original: &Execution, failed: &Execution) -> Result<String, Error> {
        let count = self.services.count_redrive(&original.arn);
        let continuation = redrive(&self.reconciliations, original, failed, count).await?;
        self.services.goes_on_in(&original.arn, &continuation);
        Ok(continuation)
    }

    /// The runs of reconcile-registry.
    #[must_use]
    pub fn reconciliations(&self) -> &Executions {
        &self.reconciliations
    }

    /// The Map Run of a run of reconcile-registry, if there is one yet.
    ///
    /// # Errors
    /// If Step Functions does not answer.
    pub async fn map_run(&self, arn: &str) -> Result<Option<MapRun>, Error> {
        self.reconciliations.map_run(arn).await
    }

    /// The bucket of the lists and reports of reconcile-registry.
    #[must_use]
    pub fn reconcile_bucket(&self) -> &str {
        &self.reconcile_bucket
    }

    /// An object in that bucket.
    ///
    /// # Errors
    /// If S3 does not answer, or does not have it.
    pub async fn object(&self, key: &str) -> Result<String, Error> {
        let client = reqwest::Client::builder().no_proxy().build().map_err(Error::call("building an HTTP client"))?;
        let url = format!("{}/{}/{key}", self.endpoint(), self.reconcile_bucket);
        let answer = client.get(url).send().await.and_then(reqwest::Response::error_for_status);
        let answer = answer.map_err(Error::call("GetObject"))?;
        answer.text().await.map_err(Error::call("GetObject"))
    }

    /// Whether EventBridge refuses the functions' events from now on.
    pub fn refuse_events(&self, refuse: bool) {
        self.services.refuse_events(refuse);
    }

    /// Lets `decide` say what becomes of every invocation from now on, in a stack with [`Options::decided`].
    pub fn decide(&self, decide: impl FnMut(&Invocation) -> Fate + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            runtime.decide(decide);
        }
    }

    /// Sends a signal, such as `KILL`, to a function's process.
    pub async fn signal(&self, process: u32, name: &str) {
        signal(process, name).await;
    }

    /// An execution as it is now.
    ///
    /// # Errors
    /// If DescribeExecution fails.
    pub async fn execution(&self, arn: &str) -> Result<Execution, Error> {
        self.executions.describe(arn).await
    }

    /// Waits until an execution is over.
    ///
    /// # Errors
    /// If it is not within `patience`: the error names the state that it is in.
    pub async fn finished(&self, arn: &str, patience: Duration) -> Result<Execution, Error> {
        self.executions.finished(arn, patience).await
    }

    /// A client of Step Functions.
    #[must_use]
    pub fn step_functions(&self) -> &aws_sdk_sfn::Client {
        &self.executions.client
    }

    /// An execution's history, every page of it.
    ///
    /// # Errors
    /// If GetExecutionHistory fails.
    pub async fn history(&self, arn: &str) -> Result<Vec<HistoryEvent>, Error> {
        self.executions.history(arn).await
    }

    /// The report events of an execution, at least one.
    ///
    /// # Errors
    /// If there is none within a minute.
    pub async fn reports(&self, execution_arn: &str) -> Result<Vec<ReportEvent>, Error> {
        self.reports.of(execution_arn, PATIENCE).await
    }

    /// The report events of a run of reconcile-registry, at least one.
    ///
    /// # Errors
    /// If there is none within a minute.
    pub async fn reconcile_reports(&self, execution_arn: &str) -> Result<Vec<ReportEvent<reconcile::Report>>, Error> {
        self.reports.of(execution_arn, PATIENCE).await
    }
}

impl Drop for LocalStack {
    fn drop(&mut self) {
        // A test that fails is read without the stack that it failed on.
        if std::thread::panicking() {
            eprintln!("the end of ministack's log:\n{}", tail(self.ministack.log()));
        }
    }
}

/// A stack to which the module is not applied yet.
#[derive(Debug)]
pub struct Undeployed {
    options: Options,
    logs: PathBuf,
    ministack: Ministack,
    services: Services,
    ecr: EcrLocal,
    home: TempDir,
}

impl Undeployed {
    /// A client of a region's ECR.
    #[must_use]
    pub fn ecr_client(&self, region: &str) -> aws_sdk_ecr::Client {
        ecr_client(&self.ecr, region)
    }

    /// Pushes an image to a repository of the source region, which is made where there is none.
    ///
    /// # Errors
    /// If the client fails, or the registry does not have the tag afterwards.
    pub async fn push(&self, client: Client, image: &Image, repository: &str, tag: &str) -> Result<Pushed, Error> {
        let ecr = self.ecr_client(&self.options.source);
        if let Err(error) = ecr.create_repository().repository_name(repository).send().await
            && !error.as_service_error().is_some_and(CreateRepositoryError::is_repository_already_exists_exception)
        {
            return Err(Error::call("CreateRepository")(error));
        }
        let registry = Registry::sign_in(&ecr, &self.options.source).await?;
        push(&registry, client, image, (repository, tag), self.home.path(), &self.logs).await
    }

    /// Applies tests/local.
    ///
    /// # Errors
    /// If Terraform fails, with the end of its log.
    pub async fn deploy(self) -> Result<LocalStack, Error> {
        let Self { options, logs, ministack, services, ecr, home } = self;
        let mut packages = terraform::packages()?;
        let mut runtime = None;
        if options.decided {
            let between = runtime.insert(Runtime::start().await?);
            packages = between.wrap(&packages, &terraform::FUNCTIONS, home.path()).await?;
        }
        let (endpoint, logs_endpoint) = (ministack.endpoint(), services.endpoint());
        let outputs = terraform::apply(endpoint, &logs_endpoint, &options, &packages, home.path(), &logs).await?;
        let region = Region::new(options.source.clone());
        let sqs = aws_sdk_sqs::Config::builder().behavior_version(BehaviorVersion::v2026_01_12());
        let sqs = sqs.endpoint_url(ministack.endpoint()).credentials_provider(credentials()).region(region);
        let executions = Executions::new(ministack.endpoint(), &options.source, outputs.state_machine_arn);
        let reconciliations =
            Executions::new(ministack.endpoint(), &options.source, outputs.reconcile_state_machine_arn);
        let reports = Reports::new(aws_sdk_sqs::Client::from_conf(sqs.build()), outputs.reports_queue_url);
        Ok(LocalStack {
            options,
            executions,
            reconciliations,
            reconcile_bucket: outputs.reconcile_bucket,
            reports,
            dead_letter_queue_url: outputs.dead_letter_queue_url,
            event_patterns: outputs.event_patterns,
            logs,
            ministack,
            services,
            runtime,
            ecr,
            home,
        })
    }
}

async fn push(
    registry: &Registry,
    client: Client,
    image: &Image,
    (repository, tag): (&str, &str),
    home: &Path,
    logs: &Path,
) -> Result<Pushed, Error> {
    let digest = image.push(&client, registry, repository, tag, home, &logs.join("push.log")).await?;
    Ok(Pushed { digest, client })
}

fn ecr_client(ecr: &EcrLocal, region: &str) -> aws_sdk_ecr::Client {
    let config = aws_sdk_ecr::Config::builder().behavior_version(BehaviorVersion::v2026_01_12());
    let config = config.endpoint_url(ecr.endpoint()).credentials_provider(credentials());
    aws_sdk_ecr::Client::from_conf(config.region(Region::new(region.to_owned())).build())
}

pub(crate) fn credentials() -> Credentials {
    Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "local-stack")
}

/// The project's directory.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap_or_default()
}
