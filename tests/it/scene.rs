//! A local stack and an image, for the end-to-end tests.

use std::time::{Duration, Instant};

use ecr_local::{Fault, Stats};
use local_stack::{Client, Contents, Execution, Image, LocalStack, Options, Pushed, Sample, Undeployed};
use serde_json::Value;
use shared::contract::{Report, TargetReport};

pub(crate) const REPOSITORY: &str = "prod/app";
pub(crate) const TAG: &str = "v1";
pub(crate) const TARGETS: [&str; 3] = ["eu-west-1", "us-west-2", "ap-southeast-2"];

/// How long an execution may take. It takes seconds, but the machine may have other things to do.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// A stack with a source repository, and an image that has what images have.
pub(crate) struct Scene {
    pub(crate) stack: LocalStack,
    pub(crate) image: Image,
    _home: tempfile::TempDir,
}

impl Scene {
    /// With an image that is small.
    pub(crate) async fn set(targets: &[&str]) -> Self {
        // Two parts of 10 MiB, and a few layers of one.
        let sample =
            Sample { seed: 7, shared_layers: vec![8, 11 * 1024], own_layers: vec![512, 64], ..Sample::default() };
        Self::of(&sample, Options::quick(targets)).await
    }

    pub(crate) async fn of(sample: &Sample, options: Options) -> Self {
        let home = tempfile::tempdir().unwrap();
        let image = sample.write(home.path().join("image")).unwrap();
        let stack = LocalStack::start(options).await.unwrap();
        stack.create_repository(REPOSITORY, |request| request).await.unwrap();
        Self { stack, image, _home: home }
    }

    /// On a registry that has something before the module is applied.
    pub(crate) async fn onto(options: Options, fill: impl AsyncFnOnce(&Undeployed)) -> Self {
        let home = tempfile::tempdir().unwrap();
        let small = Sample { seed: 7, shared_layers: vec![8], own_layers: vec![8], ..Sample::default() };
        let image = small.write(home.path().join("image")).unwrap();
        let undeployed = LocalStack::launch(options).await.unwrap();
        fill(&undeployed).await;
        Self { stack: undeployed.deploy().await.unwrap(), image, _home: home }
    }

    pub(crate) async fn push(&self) -> Pushed {
        self.stack.push(Client::installed(), &self.image, REPOSITORY, TAG).await.unwrap()
    }

    /// Pushes, and waits for the end of the execution that the push starts.
    pub(crate) async fn replicate(&self) -> (Pushed, Execution) {
        let pushed = self.push().await;
        let execution = self.stack.execution_for(&pushed.digest, &[]).await.unwrap();
        (pushed, self.finished(&execution.arn).await)
    }

    pub(crate) async fn finished(&self, arn: &str) -> Execution {
        self.stack.finished(arn, PATIENCE).await.unwrap()
    }

    pub(crate) async fn start(&self, input: Value) -> Execution {
        let arn = self.stack.start_execution(&input).await.unwrap();
        self.finished(&arn).await
    }

    pub(crate) async fn read(&self, region: &str) -> Contents {
        self.stack.registry(region).await.unwrap().read(REPOSITORY, TAG).await.unwrap()
    }

    /// The one report event of an execution.
    pub(crate) async fn report(&self, execution: &Execution) -> (String, Report) {
        let mut events = self.stack.reports(&execution.arn).await.unwrap();
        assert_eq!(events.len(), 1, "one report, not {events:#?}");
        let event = events.remove(0);
        (event.detail_type, event.report)
    }

    pub(crate) async fn task_errors(&self, execution: &Execution) -> Vec<String> {
        let history = self.stack.history(&execution.arn).await.unwrap();
        history.iter().filter_map(|event| event.task_error()).map(ToOwned::to_owned).collect()
    }
}

/// What keeps every layer from its target, on either road.
pub(crate) const NO_LAYER: [fn() -> Fault; 2] =
    [|| Fault::new("v2:PUT upload", 403, "DENIED"), || Fault::new("CompleteLayerUpload", 400, "AccessDeniedException")];

pub(crate) fn target<'report>(report: &'report Report, region: &str) -> &'report TargetReport {
    report.targets.iter().find(|target| target.region.as_str() == region).unwrap()
}

pub(crate) fn calls(stats: &Stats, region: &str, operations: &[&str]) -> u64 {
    operations.iter().map(|operation| stats.calls(region, operation)).sum()
}

/// Waits for what is to come.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
