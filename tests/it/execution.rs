//! An execution of the state machine in process: the functions as they are, with the retriers and the repairs of the
//! definition, and without its waits. One target comes after the other; no image here is worth shards.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use aws_config::SdkConfig;
use copy_layers::{Dependencies, Settings};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
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

/// The error that a state ended with.
#[derive(Debug, Clone)]
pub(crate) struct Failed {
    pub(crate) state: State,
    pub(crate) name: String,
    pub(crate) message: String,
    /// How often the state ran since it was entered.
    pub(crate) attempts: u64,
}

impl Failed {
    /// Its name, if it is one of the functions' own.
    pub(crate) fn error(&self) -> Option<ErrorName> {
        ErrorName::ALL.iter().copied().find(|name| name.as_str() == self.name)
    }

    /// Whether its function was killed, again and again.
    pub(crate) fn is_killed(&self) -> bool {
        self.name == KILLED
    }
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
async fn attempt<T, E: Named>(
    course: &impl Course,
    state: State,
    mut function: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T, Failed> {
    let mut retriers = retriers(state);
    let mut attempts = 0;
    loop {
        attempts += 1;
        let (name, message) = match course.invoke(function()).await {
            Some(Ok(answer)) => return Ok(answer),
            Some(Err(error)) => {
                let diagnostic = diagnostic(&error);
                (diagnostic.error_type, diagnostic.error_message)
            }
            None => (KILLED.to_owned(), String::new()),
        };
        let left = retriers.iter_mut().find(|(names, left)| *left > 0 && names.contains(&name));
        let Some((_, left)) = left else { return Err(Failed { state, name, message, attempts }) };
        *left -= 1;
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
    registries: Registries,
    copy: Dependencies,
    report: report::Dependencies,
    /// The time of an invocation.
    time: Duration,
    /// When the execution was started.
    started_at: Timestamp,
}

impl Functions {
    /// The functions as they are deployed: with the registries of `config`, and Step Functions and EventBridge at `services`.
    pub(crate) fn new(config: &SdkConfig, services: &SdkConfig, uploads: Uploads) -> Self {
        let settings = Settings { memory: 512, uploads, max_shards: 4 };
        Self {
            registries: Registries::new(config.clone()).unwrap(),
            copy: Dependencies::new(Registries::new(config.clone()).unwrap(), settings).unwrap(),
            report: report::Dependencies::new(services, "ecr-replicator".to_owned()),
            time: Duration::from_mins(15),
            started_at: Timestamp::now(),
        }
    }

    /// The same functions with another time-out.
    pub(crate) fn with_time(self, time: Duration) -> Self {
        Self { time, ..self }
    }

    fn deadline(&self) -> Deadline {
        let end = Instant::now() + self.time;
        Deadline::told_by(move || end.saturating_duration_since(Instant::now()))
    }

    /// ResolveImage: the first round, unless there is nothing to do.
    pub(crate) async fn resolve(&self, course: &impl Course, input: &Value) -> Result<Option<Round>, Failed> {
        course.enters(State::ResolveImage);
        let input = json!({"execution": NAME, "input": input, "rules": rules()});
        let resolve = async || resolve_image::handle(&self.registries, decode(input.clone()).unwrap()).await;
        Ok(attempt(course, State::ResolveImage, resolve).await?.round)
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
        let ensure = async || ensure_repo::handle(&self.registries, decode(ensured_input.clone()).unwrap()).await;
        *ensured = json!(attempt(course, State::EnsureRepository, ensure).await?);

        let mut repairs = 0;
        loop {
            course.enters(State::CopyLayers);
            let answer = self.copy_layers(course, input.clone()).await?;
            copied.layers_copied += answer.cursor.layers_copied;
            copied.layers_streamed += answer.cursor.layers_streamed;
            copied.bytes_copied += answer.cursor.bytes_copied;
            copied.duration_ms += answer.cursor.duration_ms;
            copied.layers_foreign = answer.layers_foreign;
            copied.shards += 1;

            course.enters(State::PutManifest);
            let mut input = input.clone();
            input["repairs"] = json!(repairs);
            let put =
                async || put_manifest::handle(&self.registries, decode(input.clone()).unwrap(), self.deadline()).await;
            match attempt(course, State::PutManifest, put).await {
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
            let copy = async || copy_layers::handle(&self.copy, decode(input.clone()).unwrap(), self.deadline()).await;
            let answer = attempt(course, State::CopyLayers, copy).await?;
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
        let report = async || report::handle(&self.report, decode(input.clone()).unwrap()).await;
        let answer = attempt(course, State::Report, report).await?;
        Ok(answer.round.map_or(Told::Done, |round| Told::Again(Box::new(round))))
    }
}
