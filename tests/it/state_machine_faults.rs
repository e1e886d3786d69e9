//! What the state machine does when its functions, the targets and the report's destination fail, on the local stack.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ecr_local::Fault;
use local_stack::{Client, CopyLayers, Execution, ExecutionStatus, Fate, HistoryEvent, Options, Sample};
use serde_json::{Value, json};
use shared::contract::Status;

use crate::execution::MACHINE;
use crate::scene::{NO_LAYER, PATIENCE, REPOSITORY, Scene, TAG, TARGETS, calls, until};

/// What cannot be exercised here, and why: a handler of the definition that is not in this list and not exercised is found
/// missing, and so is one that is in it and exercised.
const OUT_OF_REACH: [(&str, &str, &str); 1] = [(
    "CopyShards",
    "Catch States.DataLimitExceeded",
    "Step Functions itself raises it, ministack knows no limit of 256 KiB, and no function can raise it in a Map's name",
)];

/// A state's retriers and catchers, each by the errors that it names, and the function that a Task calls.
#[derive(Debug)]
struct Handlers {
    function: Option<String>,
    retriers: Vec<Vec<String>>,
    catchers: Vec<Vec<String>>,
}

impl Handlers {
    /// The name under which a retrier or a catcher is told of.
    fn called(kind: &str, errors: &[String]) -> String {
        format!("{kind} {}", errors[0])
    }

    fn all(&self) -> impl Iterator<Item = String> {
        let retriers = self.retriers.iter().map(|errors| Self::called("Retry", errors));
        retriers.chain(self.catchers.iter().map(|errors| Self::called("Catch", errors)))
    }

    /// The handler that an error comes to: the first that names it, or all.
    fn of(kind: &str, handlers: &[Vec<String>], error: &str) -> Option<String> {
        let names = |errors: &&Vec<String>| errors.iter().any(|name| name == error || name == "States.ALL");
        handlers.iter().find(names).map(|errors| Self::called(kind, errors))
    }
}

/// Every state that has retriers or catchers.
fn handlers() -> BTreeMap<String, Handlers> {
    fn errors(state: &Value, member: &str) -> Vec<Vec<String>> {
        let handlers = state[member].as_array().cloned().unwrap_or_default();
        handlers.into_iter().map(|handler| serde_json::from_value(handler["ErrorEquals"].clone()).unwrap()).collect()
    }
    fn collect(states: &Value, into: &mut BTreeMap<String, Handlers>) {
        for (name, state) in states.as_object().unwrap() {
            let (retriers, catchers) = (errors(state, "Retry"), errors(state, "Catch"));
            let function = state.pointer("/Arguments/FunctionName").and_then(Value::as_str);
            let function =
                function.map(|arn| arn.trim_matches(['$', '{', '}']).trim_end_matches("_arn").replace('_', "-"));
            if !(retriers.is_empty() && catchers.is_empty()) {
                into.insert(name.clone(), Handlers { function, retriers, catchers });
            }
            if let Some(inner) = state.pointer("/ItemProcessor/States") {
                collect(inner, into);
            }
        }
    }
    let mut found = BTreeMap::new();
    collect(&MACHINE["States"], &mut found);
    found
}

/// What an execution with one target shows of retriers and catchers at work: state and handler. It is the invocations that
/// are looked at, each with the error that it failed with, and what the catchers handed on.
fn at_work(
    invocations: &[(String, Option<String>)],
    history: &[HistoryEvent],
    handlers: &BTreeMap<String, Handlers>,
) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for pair in invocations.windows(2) {
        let [(function, Some(error)), (next, _)] = pair else { continue };
        let (state, of_state) = handlers.iter().find(|(_, state)| state.function.as_ref() == Some(function)).unwrap();
        let handler = if next == function {
            Handlers::of("Retry", &of_state.retriers, error)
        } else {
            // Only a way back to an earlier state is shown by what comes next.
            Handlers::of("Catch", &of_state.catchers, error).filter(|_| next == "copy-layers")
        };
        found.extend(handler.map(|handler| (state.clone(), handler)));
    }
    let outcomes = history.iter().find_map(|event| event.output_of("ReplicateToTargets")).unwrap();
    let failure = &outcomes["outcomes"][0]["failure"];
    if let (Some(step), Some(error)) = (failure["step"].as_str(), failure["error"].as_str()) {
        found.extend(Handlers::of("Catch", &handlers[step].catchers, error).map(|name| (step.to_owned(), name)));
    }
    found
}

/// What becomes of the invocations of a function in an execution, one after another; then they are served.
#[derive(Default)]
struct Script(HashMap<(String, String), VecDeque<Fate>>);

impl Script {
    fn add(&mut self, execution: &str, function: &str, fates: impl IntoIterator<Item = Fate>) {
        self.0.entry((execution.to_owned(), function.to_owned())).or_default().extend(fates);
    }

    fn next(&mut self, execution: &str, function: &str) -> Fate {
        let fates = self.0.get_mut(&(execution.to_owned(), function.to_owned()));
        fates.and_then(VecDeque::pop_front).unwrap_or(Fate::Served)
    }
}

/// How an execution with a script is to end.
enum End {
    Complete,
    /// The target failed in this step with this error.
    Failed(String, &'static str),
}

#[tokio::test(flavor = "multi_thread")]
async fn each_retrier_and_each_catcher_does_its_work() {
    let sample = Sample { seed: 41, shared_layers: vec![8], own_layers: vec![8], ..Sample::default() };
    let options = Options { decided: true, ..Options::quick(&TARGETS[..1]) };
    let scene = Scene::of(&sample, options).await;
    let (_, execution) = scene.replicate().await;
    assert_eq!(execution.status, ExecutionStatus::Succeeded, "{execution:?}");
    let source = scene.read(scene.stack.source()).await;

    let handlers = handlers();
    let (mut script, mut ends) = (Script::default(), BTreeMap::new());
    // Every name of every retrier: in one execution the first of each, in the next the second.
    let most = handlers.values().flat_map(|state| &state.retriers).map(Vec::len).max().unwrap();
    for number in 0..most {
        let execution = format!("retriers-{number}");
        for state in handlers.values() {
            let names = state.retriers.iter().filter_map(|names| names.get(number));
            script.add(&execution, state.function.as_deref().unwrap_or_default(), names.cloned().map(Fate::Failed));
        }
        ends.insert(execution, End::Complete);
    }
    for (name, state) in &handlers {
        for (number, errors) in state.catchers.iter().enumerate() {
            let execution = format!("catchers-{name}-{number}");
            let Some(function) = &state.function else { continue };
            let error = if errors[0] == "States.ALL" { "AccessDenied" } else { errors[0].as_str() };
            script.add(&execution, function, [Fate::Failed(error.to_owned())]);
            let end = match error {
                "LayersMissing" => End::Complete,
                "AccessDenied" => End::Failed(name.clone(), "AccessDenied"),
                _ => End::Failed(name.clone(), "States.DataLimitExceeded"),
            };
            ends.insert(execution, end);
        }
    }
    // Figures that cannot be added up fail in the Map's own name.
    let wrong = json!({"done": true, "shards": [], "layersForeign": 0, "cursor": {"layersCopied": "many"}});
    script.add("catchers-CopyShards", "copy-layers", [Fate::Answered(wrong)]);
    ends.insert("catchers-CopyShards".to_owned(), End::Failed("CopyShards".to_owned(), "States.QueryEvaluationError"));

    let invocations: Arc<Mutex<HashMap<String, Vec<_>>>> = Arc::default();
    let seen = Arc::clone(&invocations);
    scene.stack.decide(move |invocation| {
        let fate = script.next(invocation.execution().unwrap(), &invocation.function);
        let error = if let Fate::Failed(error) = &fate { Some(error.clone()) } else { None };
        let mut seen = seen.lock().unwrap();
        let of_execution = seen.entry(invocation.execution().unwrap().to_owned()).or_default();
        of_execution.push((invocation.function.clone(), error));
        fate
    });
    let repository = |execution: &str| format!("mirror/{}", execution.to_lowercase());
    let mut started = Vec::new();
    for (execution, end) in &ends {
        let input = json!({
            "image": {"repository": REPOSITORY, "tag": TAG},
            "targets": [{"region": TARGETS[1], "repository": repository(execution)}],
        });
        started.push((execution, end, scene.stack.start_named(execution, &input).await.unwrap()));
    }
    let mut exercised = Vec::new();
    for (name, end, arn) in started {
        let execution = scene.finished(&arn).await;
        let history = scene.stack.history(&arn).await.unwrap();
        exercised.extend(at_work(&invocations.lock().unwrap()[name], &history, &handlers));
        let (_, report) = scene.report(&execution).await;
        let registry = scene.stack.registry(TARGETS[1]).await.unwrap();
        match end {
            End::Complete => {
                assert_eq!(execution.status, ExecutionStatus::Succeeded, "{name}: {execution:?}");
                assert!(report.complete, "{name}: {report:#?}");
                assert_eq!(registry.read(&repository(name), TAG).await.unwrap(), source, "{name}");
            }
            End::Failed(step, error) => {
                assert_eq!(execution.error.as_deref(), Some("ReplicationIncomplete"), "{name}: {execution:?}");
                let failed = &report.targets[0];
                assert_eq!((failed.step.as_deref(), failed.error.as_deref()), (Some(step.as_str()), Some(*error)));
                registry.digest(&repository(name), TAG).await.unwrap_err();
            }
        }
    }
    let all = handlers.iter().flat_map(|(name, state)| state.all().map(move |handler| (name.clone(), handler)));
    let missing: Vec<_> = all.filter(|handler| !exercised.contains(handler)).collect();
    let expected = OUT_OF_REACH.map(|(state, handler, _)| (state.to_owned(), handler.to_owned()));
    assert_eq!(missing, expected, "not exercised");
}

/// The regions of one push, each of which meets something else.
const KILLED: &str = "eu-west-1";
const STOPPED: &str = "us-west-2";
const STARVED: &str = "ap-southeast-2";
const PANICKING: &str = "sa-east-1";
const THROTTLED: &str = "us-east-1";
/// Functions that answer something that is no answer, and the step that fails.
const GARBLED: [(&str, &str, &str); 3] = [
    // It made no repository.
    ("eu-north-1", "ensure-repo", "CopyLayers"),
    ("eu-south-1", "copy-layers", "CopyLayers"),
    ("ca-central-1", "put-manifest", "PutManifest"),
];
const UNHARMED: &str = "ap-northeast-1";

/// How long a target throttles everything.
const THROTTLING: Duration = Duration::from_mins(1);

/// The program beside this one that panics, which is built with it.
fn panicking() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let program = own.ancestors().nth(2).unwrap().join("examples/panicking");
    assert!(program.exists(), "{} is not there", program.display());
    program
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_befalls_a_function_the_image_arrives_or_the_report_says_what_failed() {
    let garbled = GARBLED.map(|(region, ..)| region);
    let targets = [&[KILLED, STOPPED, STARVED, PANICKING, THROTTLED, UNHARMED][..], &garbled].concat();
    let sample = Sample { seed: 43, shared_layers: vec![8, 11 * 1024], own_layers: vec![512, 64], ..Sample::default() };
    let copy_layers = CopyLayers { uploads: Some("parts".to_owned()), ..CopyLayers::default() };
    let scene = Scene::of(&sample, Options { decided: true, copy_layers, ..Options::quick(&targets) }).await;

    let copying: Arc<Mutex<Option<u32>>> = Arc::default();
    let mut script = Script::default();
    script.add("", "resolve-image", [Fate::Killed]);
    script.add("", "report", [Fate::Killed]);
    script.add(STOPPED, "ensure-repo", [Fate::Stopped]);
    script.add(STARVED, "copy-layers", [Fate::Starved]);
    script.add(PANICKING, "put-manifest", [Fate::HandedTo(panicking())]);
    for (region, function, _) in GARBLED {
        script.add(region, function, [Fate::Answered(json!("garbage"))]);
    }
    let process = Arc::clone(&copying);
    scene.stack.decide(move |invocation| {
        let region = invocation.target().unwrap_or_default();
        if region == KILLED && invocation.function == "copy-layers" {
            process.lock().unwrap().get_or_insert(invocation.process);
        }
        // Not that of a platform, which is a push of its own.
        let is_of_platform = invocation.payload["input"]["event"]["detail"]["image-tag"] == "";
        if is_of_platform { Fate::Served } else { script.next(region, &invocation.function) }
    });
    // The part's answer is held back: the function is killed in the midst of it.
    scene.stack.ecr().fault(Fault::slow("UploadLayerPart", Duration::from_mins(5)).in_region(KILLED));
    for operation in ["BatchCheckLayerAvailability", "InitiateLayerUpload", "UploadLayerPart", "PutImage"] {
        scene.stack.ecr().fault(Fault::new(operation, 400, "ThrottlingException").in_region(THROTTLED).for_ever());
    }

    let pushed = scene.push().await;
    let execution = scene.stack.execution_for(&pushed.digest, &[]).await.unwrap();
    let parts = |region: &str| calls(&scene.stack.ecr().stats(), region, &["UploadLayerPart"]);
    until("a part to the region of the function that is killed", || parts(KILLED) > 0).await;
    let process = copying.lock().unwrap().unwrap();
    scene.stack.signal(process, "KILL").await;
    let throttled = || calls(&scene.stack.ecr().stats(), THROTTLED, &["BatchCheckLayerAvailability"]);
    until("a throttled call", || throttled() > 0).await;
    tokio::time::sleep(THROTTLING).await;
    assert!(throttled() > 1, "it is asked again");
    scene.stack.ecr().clear_faults();
    let execution = scene.stack.finished(&execution.arn, 2 * PATIENCE).await.unwrap();

    // What was killed in any way, stopped, or panicked is called again, and what is throttled waits within the function.
    let mut errors = scene.task_errors(&execution).await;
    errors.sort_unstable();
    let killed = ["Runtime.ExitError"; 4];
    let wanted = [
        &["Internal", "ReplicationIncomplete", "RepositoryNotFound"][..],
        &killed,
        &["Sandbox.Timedout", "States.QueryEvaluationError"],
    ];
    assert_eq!(errors, wanted.concat());

    assert_fails_in(&scene, &execution, &GARBLED.map(|(region, _, step)| (region, step))).await;

    every_target_fails(&scene, &targets).await;
    what_is_no_answer_is_asked_for_again(&scene).await;
}

/// The states that no target's failure can come from: what fails there is the execution, and a redrive enters them again.
async fn what_is_no_answer_is_asked_for_again(scene: &Scene) {
    for function in ["resolve-image", "report"] {
        let mut script = Script::default();
        script.add("", function, [Fate::Answered(json!("garbage"))]);
        scene.stack.decide(move |invocation| script.next("", &invocation.function));
        let target = json!({"region": UNHARMED});
        let first = scene.start(json!({"image": {"repository": REPOSITORY, "tag": TAG}, "targets": [target]})).await;
        assert_eq!(first.error.as_deref(), Some("States.QueryEvaluationError"), "{first:?}");
        assert!(
            first.cause.as_deref().unwrap().contains(&format!("{function} answered what is no answer")),
            "{first:?}"
        );
        let second = scene.stack.redrive(&first, &first).await.unwrap();
        let second = scene.finished(&second).await;
        assert_eq!(second.status, ExecutionStatus::Succeeded, "{second:?}");
        let (_, report) = scene.report(&first).await;
        assert_eq!(report.targets[0].status, Status::Unchanged);
    }
}

/// Another image, which no target takes.
async fn every_target_fails(scene: &Scene, targets: &[&str]) {
    for fault in NO_LAYER {
        for region in targets {
            scene.stack.ecr().fault(fault().in_region(region).for_ever());
        }
    }
    let image = Sample { seed: 44, shared_layers: vec![8], own_layers: vec![8], ..Sample::default() };
    let home = tempfile::tempdir().unwrap();
    let image = image.write(home.path().join("image")).unwrap();
    let pushed = scene.stack.push(Client::installed(), &image, REPOSITORY, "v2").await.unwrap();
    let execution = scene.stack.execution_for(&pushed.digest, &[]).await.unwrap();
    let execution = scene.finished(&execution.arn).await;
    assert_eq!(execution.error.as_deref(), Some("ReplicationIncomplete"), "{execution:?}");
    let (_, report) = scene.report(&execution).await;
    assert_eq!((report.complete, report.targets.len()), (false, targets.len()));
    for target in &report.targets {
        assert_eq!((target.step.as_deref(), target.error.as_deref()), (Some("CopyLayers"), Some("AccessDenied")));
        let region = target.region.as_str();
        assert!(execution.cause.as_deref().unwrap().contains(region), "{execution:?}");
        scene.stack.registry(region).await.unwrap().digest(REPOSITORY, "v2").await.unwrap_err();
    }
}

/// Whether exactly these targets failed, each in its step, all others have the image, and none has a part of it.
async fn assert_fails_in(scene: &Scene, execution: &Execution, failing: &[(&str, &str)]) {
    assert_eq!(execution.error.as_deref(), Some("ReplicationIncomplete"), "{execution:?}");
    let (detail_type, report) = scene.report(execution).await;
    assert_eq!(detail_type, "Image Replication Incomplete");
    let source = scene.read(scene.stack.source()).await;
    for reported in &report.targets {
        let region = reported.region.as_str();
        if let Some((_, step)) = failing.iter().find(|(failing, _)| *failing == region) {
            assert_eq!((reported.status, reported.step.as_deref()), (Status::Failed, Some(*step)), "{reported:?}");
            assert!(execution.cause.as_deref().unwrap().contains(region));
            // The tag is nowhere, or its image is whole.
            let registry = scene.stack.registry(region).await.unwrap();
            if registry.digest(REPOSITORY, TAG).await.is_ok() {
                assert_eq!(registry.read(REPOSITORY, TAG).await.unwrap(), source, "{region}");
            }
        } else {
            assert_eq!(reported.status, Status::Replicated, "{reported:?}");
            assert_eq!(scene.read(region).await, source, "{region}");
        }
    }
    assert_eq!(report.targets.len(), scene.stack.targets().len());
}
