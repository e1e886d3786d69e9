//! An execution of the state machine in process: the functions as they are, with the retriers and the repairs of the
//! definition, and without its waits. One target comes after the other; no image here is worth shards.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::LazyLock,
    time::{Duration, Instant},
};

use aws_config::SdkConfig;
use copy_layers::{Dependencies, Settings};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use shared::{
    contract::{Copied, CopiedInAll, Cursor, MOST_REPAIRS, Put, Round, Target},
    copy::Uploads,
    error::{ErrorName, Named, diagnostic},
    registry::Registries,
    serve::{Deadline, decode},
};

use crate::{report::EXECUTION, sample::rules};

/// After so many invocations of CopyLayers without an error in between, it never ends.
const MOST_INVOCATIONS: usize = 20;

/// What a function that is killed is to the state machine.
const KILLED: &str = "Lambda.Unknown";

/// The state machine's definition, for a deployment without rules.
pub(crate) static MACHINE: LazyLock<Value> = LazyLock::new(|| {
    let definition = include_str!("../../statemachine/replicate-image.asl.json");
    serde_json::from_str(&definition.replace("${rules}", "{}")).unwrap()
});

/// What the execution is called.
const NAME: &str = "run-1";

/// A state that runs a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum State {
    ResolveImage,
    EnsureRepository,
    CopyLayers,
    PutManifest,
    Report,
}

/// What happens to an execution from outside.
pub(crate) trait Course {
    /// A state is about to be entered.
    fn enters(&self, _: State) {}

    /// Runs an invocation to its end; `None` when its function is killed before that.
    async fn invoke<T>(&self, invocation: impl Future<Output = T>) -> Option<T> {
        Some(invocation.await)
    }
}

/// Nothing happens to it.
pub(crate) struct Undisturbed;

impl Course for Undisturbed {}

/// What the process of a function keeps from one invocation to the next.
struct Process<T> {
    make: Box<dyn Fn() -> T>,
    made: RefCell<Option<Rc<T>>>,
}

impl<T> Process<T> {
    fn new(make: impl Fn() -> T + 'static) -> Self {
        Self { make: Box::new(make), made: RefCell::default() }
    }

    fn kept(&self) -> Rc<T> {
        Rc::clone(self.made.borrow_mut().get_or_insert_with(|| Rc::new((self.make)())))
    }

    fn end(&self) {
        self.made.take();
    }
}

/// The error that a state ended with.
#[derive(Debug, Clone)]
pub(crate) struct Failed {
    pub(crate) state: State,
    pub(crate) name: String,
    pub(crate) message: String,
    /// The errors before it that were tried again.
    pub(crate) tried_again: Vec<String>,
}

impl Failed {
    /// Its name, if it is one of the functions' own.
    pub(crate) fn error(&self) -> Option<ErrorName> {
        named(&self.name)
    }

    /// How often the state ended with this error since it was entered: others before it are the machine's, which may be busy.
    pub(crate) fn attempts(&self) -> usize {
        self.tried_again.iter().filter(|error| **error == self.name).count() + 1
    }

    /// Whether its function was killed, again and again.
    pub(crate) fn is_killed(&self) -> bool {
        self.name == KILLED
    }
}

/// The error that is called so, if it is one of the functions' own.
pub(crate) fn named(name: &str) -> Option<ErrorName> {
    ErrorName::ALL.iter().copied().find(|error| error.as_str() == name)
}

/// How often a state tries again, by error names, as the state machine has it.
fn retriers(state: State) -> Vec<(Vec<String>, u64)> {
    fn find<'a>(states: &'a Value, name: &str) -> Option<&'a Value> {
        let states = states.as_object()?;
        states
            .get(name)
            .or_else(|| states.values().find_map(|state| find(state.pointer("/ItemProcessor/States")?, name)))
    }
    let state = find(&MACHINE["States"], &format!("{state:?}")).unwrap();
    let names = |retrier: &Value| {
        let names = retrier["ErrorEquals"].as_array().unwrap();
        names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    let retriers = state["Retry"].as_array().unwrap();
    retriers.iter().map(|retrier| (names(retrier), retrier["MaxAttempts"].as_u64().unwrap())).collect()
}

/// Runs a state's function until it succeeds, or no retrier is left for its error.
async fn attempt<P, T, E: Named>(
    course: &impl Course,
    state: State,
    process: &Process<P>,
    function: impl AsyncFn(&P) -> Result<T, E>,
) -> Result<T, Failed> {
    let mut retriers = retriers(state);
    let mut tried_again = Vec::new();
    loop {
        let kept = process.kept();
        let (name, message) = match course.invoke(function(&kept)).await {
            Some(Ok(answer)) => return Ok(answer),
            Some(Err(error)) => {
                let diagnostic = diagnostic(&error);
                (diagnostic.error_type, diagnostic.error_message)
            }
            None => {
                process.end();
                (KILLED.to_owned(), String::new())
            }
        };
        let left = retriers.iter_mut().find(|(names, left)| *left > 0 && names.contains(&name));
        let Some((_, left)) = left else { return Err(Failed { state, name, message, tried_again }) };
        *left -= 1;
        tried_again.push(name);
    }
}

/// How a target's iteration ended.
#[derive(Debug)]
pub(crate) struct Iteration {
    pub(crate) target: Target,
    pub(crate) ended: Result<Put, Failed>,
    ensure: Value,
    copied: CopiedInAll,
}

impl Iteration {
    /// What the Map hands to Report.
    fn outcome(&self) -> Value {
        let Self { target, ended, ensure, copied } = self;
        let mut outcome = json!({"target": target, "ensure": ensure, "copied": copied});
        match ended {
            Ok(put) => outcome["put"] = json!(put),
            Err(Failed { state, name, message, .. }) => {
                let cause = json!({"errorType": name, "errorMessage": message}).to_string();
                outcome["failure"] = json!({"step": format!("{state:?}"), "error": name, "cause": cause});
            }
        }
        outcome
    }
}

/// What Report made of a round.
#[derive(Debug)]
pub(crate) enum Told {
    /// It was the last one, and every target has the image, or nobody has it.
    Done,
    /// After a redrive: its failed targets are to run again.
    Again(Box<Round>),
}

/// The functions, in the environment of one execution.
pub(crate) struct Functions {
    resolve: Process<Registries>,
    ensure: Process<Registries>,
    copy: Process<Dependencies>,
    put: Process<Registries>,
    report: Process<report::Dependencies>,
    /// What the definition has of rules.
    rules: Value,
    /// The time of an invocation.
    time: Duration,
    /// When the execution was started.
    started_at: Timestamp,
}

impl Functions {
    /// The functions as they are deployed: with the registries of `config`, and Step Functions and EventBridge at `services`.
    pub(crate) fn new(config: &SdkConfig, services: &SdkConfig, uploads: Uploads) -> Self {
        let registries = || {
            let config = config.clone();
            move || Registries::new(config.clone()).unwrap()
        };
        let (of_copy, services) = (registries(), services.clone());
        let settings = move || Settings { memory: 512, uploads, max_shards: 4 };
        Self {
            resolve: Process::new(registries()),
            ensure: Process::new(registries()),
            copy: Process::new(move || Dependencies::new(of_copy(), settings()).unwrap()),
            put: Process::new(registries()),
            report: Process::new(move || report::Dependencies::new(&services, "ecr-replicator".to_owned())),
            rules: rules(),
            time: Duration::from_mins(15),
            started_at: Timestamp::now(),
        }
    }

    /// The same functions with another time-out.
    pub(crate) fn with_time(self, time: Duration) -> Self {
        Self { time, ..self }
    }

    /// The same functions with other rules.
    pub(crate) fn with_rules(self, rules: Value) -> Self {
        Self { rules, ..self }
    }

    fn deadline(&self) -> Deadline {
        let end = Instant::now() + self.time;
        Deadline::told_by(move || end.saturating_duration_since(Instant::now()))
    }

    /// ResolveImage: the first round, unless there is nothing to do.
    pub(crate) async fn resolve(&self, course: &impl Course, input: &Value) -> Result<Option<Round>, Failed> {
        course.enters(State::ResolveImage);
        let input = json!({"execution": NAME, "input": input, "rules": self.rules});
        let resolve = async |registries: &_| resolve_image::handle(registries, decode(input.clone()).unwrap()).await;
        Ok(attempt(course, State::ResolveImage, &self.resolve, resolve).await?.round)
    }

    /// The iteration of `target`.
    pub(crate) async fn replicate(&self, course: &impl Course, round: &Round, target: &Target) -> Iteration {
        let (mut ensure, mut copied) = (Value::Null, CopiedInAll::default());
        let ended = Box::pin(self.steps(course, round, target, &mut ensure, &mut copied)).await;
        Iteration { target: target.clone(), ended, ensure, copied }
    }

    async fn steps(
        &self,
        course: &impl Course,
        round: &Round,
        target: &Target,
        ensured: &mut Value,
        copied: &mut CopiedInAll,
    ) -> Result<Put, Failed> {
        let input = json!({"execution": NAME, "image": round.image, "referrers": round.referrers, "target": target});
        course.enters(State::EnsureRepository);
        let mut ensured_input = input.clone();
        ensured_input["startedAt"] = json!(self.started_at);
        let ensure = async |registries: &_| ensure_repo::handle(registries, given(&ensured_input)).await;
        *ensured = json!(attempt(course, State::EnsureRepository, &self.ensure, ensure).await?);

        let mut repairs = 0;
        loop {
            course.enters(State::CopyLayers);
            let answer = self.copy_layers(course, input.clone()).await?;
            copied.layers_copied += answer.cursor.layers_copied;
            copied.layers_streamed += answer.cursor.layers_streamed;
            copied.bytes_copied += answer.cursor.bytes_copied;
            copied.duration_ms += answer.cursor.duration_ms;
            copied.throttled += answer.cursor.throttled;
            copied.layers_foreign = answer.layers_foreign;
            copied.shards += 1;

            course.enters(State::PutManifest);
            let mut input = input.clone();
            input["repairs"] = json!(repairs);
            let put = async |registries: &_| put_manifest::handle(registries, given(&input), self.deadline()).await;
            match attempt(course, State::PutManifest, &self.put, put).await {
                Err(failed) if failed.name == ErrorName::LayersMissing.as_str() && repairs < MOST_REPAIRS => {
                    repairs += 1;
                }
                ended => return ended,
            }
        }
    }

    /// CopyLayers until it is complete.
    async fn copy_layers(&self, course: &impl Course, mut input: Value) -> Result<Copied, Failed> {
        let mut cursor = None::<Cursor>;
        for _ in 0..MOST_INVOCATIONS {
            (input["layers"], input["cursor"]) = (Value::Null, json!(cursor));
            let copy = async |kept: &_| copy_layers::handle(kept, given(&input), self.deadline()).await;
            let answer = attempt(course, State::CopyLayers, &self.copy, copy).await?;
            if answer.done {
                return Ok(answer);
            }
            cursor = Some(answer.cursor);
        }
        panic!("CopyLayers never ends");
    }

    /// Report, of a round whose iterations have ended.
    pub(crate) async fn report(
        &self,
        course: &impl Course,
        round: &Round,
        iterations: &[Iteration],
    ) -> Result<Told, Failed> {
        course.enters(State::Report);
        let outcomes: Vec<Value> = iterations.iter().map(Iteration::outcome).collect();
        let mut over = json!(round);
        over.as_object_mut().unwrap().remove("targets");
        (over["outcomes"], over["finishedAt"]) = (json!(outcomes), json!(jiff::Timestamp::now()));
        let input = json!({
            "execution": {"arn": EXECUTION, "name": NAME, "startedAt": jiff::Timestamp::now()},
            "round": over,
        });
        let report = async |kept: &_| report::handle(kept, given(&input)).await;
        let answer = attempt(course, State::Report, &self.report, report).await?;
        Ok(answer.round.map_or(Told::Done, |round| Told::Again(Box::new(round))))
    }
}

/// What a function makes of a payload that a later release wrote, whose objects have something more.
fn given<T: DeserializeOwned>(payload: &Value) -> T {
    decode(of_later_release(payload.clone())).unwrap()
}

/// Adds to every object, but not to what a person writes, which is read strictly.
pub(crate) fn of_later_release(mut payload: Value) -> Value {
    match &mut payload {
        Value::Array(items) => items.iter_mut().for_each(|item| *item = of_later_release(item.take())),
        Value::Object(members) => {
            let written = ["repositorySettings", "request"];
            for (_, value) in members.iter_mut().filter(|(name, _)| !written.contains(&name.as_str())) {
                *value = of_later_release(value.take());
            }
            members.insert("sinceALaterRelease".to_owned(), Value::Bool(true));
        }
        _ => {}
    }
    payload
}
