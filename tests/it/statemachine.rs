//! The state machines, the error names and their documentation, held to each other.

use std::{collections::BTreeMap, io::Write as _, path::Path, process::Stdio, sync::LazyLock};

use resolve_image::{INDEX_FOLLOWS_WITHIN, LONGEST_PUT_INTERVAL};
use serde_json::{Value, json};
use shared::{
    contract::MOST_REPAIRS,
    error::{Class, ErrorName},
    reconcile::Request,
};

use crate::execution::MACHINE;

const DEFINITION: &str = include_str!("../../statemachine/replicate-image.asl.json");
const RECONCILE_DEFINITION: &str = include_str!("../../statemachine/reconcile-registry.asl.json");
const EXAMPLE: &str = include_str!("../../statemachine/examples/reconcile.json");
const STATES_README: &str = include_str!("../../statemachine/README.md");
const ERRORS: &str = include_str!("../../docs/errors.md");

/// The definition of reconcile-registry, for a deployment without rules.
static RECONCILE: LazyLock<Value> = LazyLock::new(|| {
    let definition = RECONCILE_DEFINITION.replace("${rules}", "{}");
    let definition = definition.replace("${concurrency}", "10").replace("${puts_per_second}", "1");
    serde_json::from_str(&definition).unwrap()
});

/// The errors that AWS raises around a function, and that the definition names.
const AWS_ERRORS: [&str; 18] = [
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
    "Lambda.ResourceNotReadyException",
    "Lambda.ResourceConflictException",
    "Lambda.ENINotReadyException",
    "Lambda.EC2ThrottledException",
    "Lambda.EC2UnexpectedException",
    "Lambda.Unknown",
    "Runtime.ExitError",
    "Runtime.OutOfMemory",
    "Sandbox.Timedout",
    "States.ALL",
    "States.DataLimitExceeded",
    "States.TaskFailed",
    "States.Timeout",
];

/// The names that each Task's function raises, as the documentation of its `handle` says. `Internal` is any function's.
const RAISED: [(&str, &[ErrorName]); 7] = {
    use ErrorName::{
        AccessDenied, DigestMismatch, ImageNotFound, Internal, InvalidInput, LayersMissing, QuotaExceeded,
        ReconcileIncomplete, RegistryThrottled, RegistryUnavailable, ReplicationIncomplete, ReportUndelivered,
        RepositoryNotFound, RunUnderWay, TagConflict, TagUnsettled, UploadLost,
    };
    [
        (
            "ResolveImage",
            &[
                InvalidInput,
                ImageNotFound,
                RepositoryNotFound,
                AccessDenied,
                RegistryThrottled,
                RegistryUnavailable,
                DigestMismatch,
                Internal,
            ],
        ),
        (
            "EnsureRepository",
            &[
                InvalidInput,
                RepositoryNotFound,
                AccessDenied,
                RegistryThrottled,
                RegistryUnavailable,
                QuotaExceeded,
                Internal,
            ],
        ),
        (
            "CopyLayers",
            &[
                InvalidInput,
                ImageNotFound,
                RepositoryNotFound,
                AccessDenied,
                RegistryThrottled,
                RegistryUnavailable,
                UploadLost,
                DigestMismatch,
                QuotaExceeded,
                Internal,
            ],
        ),
        (
            "PutManifest",
            &[
                InvalidInput,
                ImageNotFound,
                RepositoryNotFound,
                AccessDenied,
                RegistryThrottled,
                RegistryUnavailable,
                DigestMismatch,
                LayersMissing,
                TagConflict,
                TagUnsettled,
                QuotaExceeded,
                Internal,
            ],
        ),
        ("Report", &[InvalidInput, ReportUndelivered, ReplicationIncomplete, Internal]),
        (
            "FindDifferences",
            &[
                InvalidInput,
                AccessDenied,
                RegistryThrottled,
                RegistryUnavailable,
                ReportUndelivered,
                RunUnderWay,
                Internal,
            ],
        ),
        ("ReportDifferences", &[InvalidInput, ReportUndelivered, ReconcileIncomplete, Internal]),
    ]
};

/// The task of reconcile-registry that runs no function, but an execution of replicate-image.
const REPLICATION: &str = "ReplicateImage";

/// Every state by name, in the order of the files, those of the Maps too.
fn states() -> Vec<(String, Value)> {
    fn collect(states: &Value, into: &mut Vec<(String, Value)>) {
        for (name, state) in states.as_object().unwrap() {
            into.push((name.clone(), state.clone()));
            if let Some(inner) = state.pointer("/ItemProcessor/States") {
                collect(inner, into);
            }
        }
    }
    let of_machine = |machine: &Value, definition: &str| {
        let mut found = Vec::new();
        collect(&machine["States"], &mut found);
        found.sort_by_key(|(name, _)| definition.find(&format!("\"{name}\": {{")));
        found
    };
    let mut found = of_machine(&MACHINE, DEFINITION);
    found.extend(of_machine(&RECONCILE, RECONCILE_DEFINITION));
    found
}

fn list<'a>(state: &'a Value, member: &str) -> Vec<&'a Value> {
    state[member].as_array().map(|members| members.iter().collect()).unwrap_or_default()
}

fn error_equals(handler: &Value) -> Vec<&str> {
    list(handler, "ErrorEquals").into_iter().map(|name| name.as_str().unwrap()).collect()
}

#[test]
fn every_error_that_is_matched_is_one_that_is_raised() {
    let ours: Vec<&str> = ErrorName::ALL.iter().map(|name| name.as_str()).collect();
    let mut matched = 0;
    for (state, definition) in states() {
        for handler in list(&definition, "Retry").into_iter().chain(list(&definition, "Catch")) {
            for name in error_equals(handler) {
                assert!(
                    ours.contains(&name) || AWS_ERRORS.contains(&name),
                    "{state} matches {name}, which nobody raises"
                );
                matched += 1;
            }
        }
    }
    assert!(matched > 0);
}

#[test]
fn every_error_is_answered_as_its_class_says() {
    let states: BTreeMap<String, Value> = states().into_iter().collect();
    for (state, names) in RAISED {
        let definition = &states[state];
        for name in names {
            let retried =
                list(definition, "Retry").into_iter().any(|retrier| error_equals(retrier).contains(&name.as_str()));
            let caught = list(definition, "Catch").into_iter().any(|catcher| error_equals(catcher) == [name.as_str()]);
            match name.class() {
                Class::Retry => assert!(retried, "{state} does not retry {name}"),
                // Done again by a retrier, or by a way back of its own.
                Class::Restart => assert!(retried || caught, "{state} gives up at {name}"),
                Class::Fatal => assert!(!retried, "{state} retries {name}"),
            }
        }
        for retrier in list(definition, "Retry") {
            for name in error_equals(retrier).into_iter().filter(|name| !AWS_ERRORS.contains(name)) {
                assert!(
                    names.iter().any(|raised| raised.as_str() == name),
                    "{state} retries {name}, which it does not raise"
                );
            }
        }
    }
}

#[test]
fn tasks_keep_the_rules_of_the_house() {
    let mut tasks = 0;
    for (name, state) in states() {
        assert!(state["Comment"].as_str().is_some_and(|comment| comment.len() > 15), "{name} has no Comment");
        match state["Type"].as_str().unwrap() {
            "Task" => {
                tasks += 1;
                assert!(state["TimeoutSeconds"].is_u64(), "{name} has no TimeoutSeconds");
                for retrier in list(&state, "Retry") {
                    assert_eq!(retrier["JitterStrategy"], "FULL", "{name}");
                    assert!(retrier["MaxDelaySeconds"].is_u64(), "{name}");
                    assert!(retrier["MaxAttempts"].is_u64(), "{name}");
                    assert!(!error_equals(retrier).contains(&"States.ALL"), "{name} retries whatever comes");
                }
                let timeouts: Vec<_> = list(&state, "Retry")
                    .into_iter()
                    .filter(|retrier| error_equals(retrier).contains(&"States.Timeout"))
                    .collect();
                assert_eq!(timeouts.len(), 1, "{name} does not retry a time-out");
            }
            "Choice" => assert!(state["Default"].is_string(), "{name} has no Default"),
            "Map" => assert!(state["MaxConcurrency"].as_u64().is_some_and(|most| (1..=40).contains(&most)), "{name}"),
            _ => {}
        }
    }
    assert_eq!(tasks, RAISED.len() + 1, "and {REPLICATION}");
    for machine in [&*MACHINE, &*RECONCILE] {
        assert_eq!(machine["QueryLanguage"], "JSONata");
        assert!(machine["TimeoutSeconds"].is_u64());
    }
    let fails = states().into_iter().filter(|(_, state)| state["Type"] == "Fail").map(|(name, _)| name);
    // A child's: who redrives the run has it replicate what differs still, in a new Map Run.
    assert_eq!(fails.collect::<Vec<_>>(), ["TargetRefused"], "a Fail state fails again when redriven");
}

#[test]
fn no_failure_leaves_its_iteration() {
    let machine = &*MACHINE;
    let mut steps = Vec::new();
    for (iteration, records) in [
        ("/States/ReplicateToTargets/ItemProcessor/States", "RecordFailure"),
        ("/States/ReplicateToTargets/ItemProcessor/States/CopyShards/ItemProcessor/States", "EndShard"),
    ] {
        let states = machine.pointer(iteration).unwrap().as_object().unwrap();
        for (name, state) in states.iter().filter(|(_, state)| state["Type"] == "Task" || state["Type"] == "Map") {
            steps.push(name.as_str());
            let catchers = list(state, "Catch");
            let [.., beside, last] = catchers.as_slice() else { panic!("{name} does not catch everything") };
            assert_eq!(error_equals(last), ["States.ALL"], "{name}");
            assert_eq!(error_equals(beside), ["States.DataLimitExceeded"], "{name}");
            for catcher in [beside, last] {
                assert_eq!(catcher["Next"], records, "{name}");
                let output = catcher["Output"].as_str().unwrap();
                assert!(output.contains(&format!("'step': '{name}'")), "{name} records another step");
            }
        }
    }
    steps.sort_unstable();
    assert_eq!(steps, ["CopyLayers", "CopyShards", "EnsureRepository", "PutManifest"]);
}

#[test]
fn a_child_that_fails_stops_no_other() {
    let map = &RECONCILE["States"]["ReplicateImages"];
    assert_eq!(map["ToleratedFailurePercentage"], 100);
    assert_eq!(map["ItemProcessor"]["ProcessorConfig"]["Mode"], "DISTRIBUTED");
    // IAM and whoever looks for the children know it by this name.
    assert_eq!(map["Label"], "ReplicateImages");
    let child = &map["ItemProcessor"]["States"];
    let replication = &child[REPLICATION];
    assert!(replication.get("Catch").is_none(), "a child whose error is caught has not failed");
    assert_eq!(error_equals(list(replication, "Retry")[0]), ["States.TaskFailed", "States.Timeout"]);
    // Longer than what it waits for.
    assert!(replication["TimeoutSeconds"].as_u64() > MACHINE["TimeoutSeconds"].as_u64());
}

#[test]
fn a_child_fails_with_what_a_target_refused() {
    let replicated_for = |kind: &str, replicated: Value| {
        let input = json!({"differences": [{"kind": "MISSING"}, {"kind": kind}]});
        let result = json!({"ExecutionArn": "replication", "Output": replicated});
        output(REPLICATION, &json!({"input": input, "result": result}))
    };
    let replicated = |output| replicated_for("SETTINGS", output);
    let gone = json!({"reason": "IMAGE_GONE"});
    assert_eq!(replicated(json!({"nothingToDo": gone})), json!({"execution": "replication", "nothingToDo": gone}));
    let target = |region: &str, refusals: Value, settings: Value| json!({"region": region, "refusals": refusals, "settings": settings});
    let set = json!({"setting": "scanOnPush", "refused": null});
    let all = json!([target("eu-west-1", json!([]), json!([set])), target("us-east-1", json!([]), json!([]))]);
    let report = |targets: &Value| json!({"report": {"summary": "told", "targets": targets}});
    let reported = |targets: &Value| replicated(report(targets));
    assert_eq!(reported(&all), json!({"execution": "replication", "summary": "told"}));
    let refusal = |digest: &str| json!({"digest": digest, "error": "TagConflict", "message": "is another's"});
    let refused = json!({"setting": "encryption", "refused": "cannot be changed"});
    let some = json!([
        target("eu-west-1", json!([refusal("sha256:1"), refusal("sha256:2")]), json!([set, refused])),
        target("us-east-1", json!([]), json!([refused])),
    ]);
    assert_eq!(
        reported(&some)["refused"],
        "eu-west-1: the referrer sha256:1: TagConflict: is another's\n\
         eu-west-1: the referrer sha256:2: TagConflict: is another's\n\
         eu-west-1: encryption: cannot be changed\n\
         us-east-1: encryption: cannot be changed"
    );
    // Settings that it was not started for are no failure of it.
    let other = replicated_for("OTHER_DIGEST", report(&some));
    assert_eq!(other["refused"].as_str().unwrap().lines().count(), 2, "{other}");
}

#[test]
fn what_the_children_came_to_goes_where_no_map_reads_it() {
    let written = evaluate(
        RECONCILE["States"]["ReplicateImages"]["ResultWriter"]["Arguments"]["Prefix"].as_str().unwrap(),
        &json!({"input": {"round": 2}, "context": {"Execution": {"Name": "run-1"}}}),
    );
    let prefix = shared::reconcile::prefix("run-1", 2, false);
    assert_eq!(written, format!("{prefix}replicated"));
    assert!(!written.as_str().unwrap().starts_with(&shared::reconcile::items_prefix(&prefix)));
}

#[test]
fn the_example_of_a_run_is_a_valid_input() {
    let request: Request = serde_json::from_str(EXAMPLE).unwrap();
    assert!(request.newest.is_some() && request.pushed_since.is_some() && !request.rules.is_empty(), "{request:?}");
}

#[test]
fn every_way_out_of_a_step_counts_its_retries() {
    let states: BTreeMap<String, Value> = states().into_iter().collect();
    let counted = "'retries': $sum([$states.input.retries, $states.context.State.RetryCount])";
    for step in ["EnsureRepository", "CopyLayers", "PutManifest"] {
        let catchers = list(&states[step], "Catch");
        for output in catchers.into_iter().chain([&states[step]]).map(|way| way["Output"].as_str().unwrap()) {
            assert!(output.contains(counted), "{step}: {output}");
        }
    }
}

/// What the state's `Output` comes to with `$states`.
fn output(state: &str, states_variable: &Value) -> Value {
    let states: BTreeMap<String, Value> = states().into_iter().collect();
    evaluate(states[state]["Output"].as_str().unwrap(), states_variable)
}

/// What an expression comes to with `$states`, by JSONata's own implementation.
fn evaluate(expression: &str, states_variable: &Value) -> Value {
    const EVALUATE: &str = "const [expression, states] = JSON.parse(require('fs').readFileSync(0, 'utf8'));\
        require(process.argv[1])(expression).evaluate(undefined, {states})\
          .then((output) => process.stdout.write(JSON.stringify(output)));";
    let expression = expression.strip_prefix("{% ").and_then(|rest| rest.strip_suffix(" %}")).unwrap();
    let jsonata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/node/node_modules/jsonata");
    assert!(jsonata.exists(), "{} is not there: run `make tools`", jsonata.display());
    let mut node = std::process::Command::new("node");
    node.args(["-e", EVALUATE]).arg(jsonata).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut node = node.spawn().unwrap();
    let input = json!([expression, states_variable]).to_string();
    node.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let evaluated = node.wait_with_output().unwrap();
    assert!(evaluated.status.success(), "{expression}: {evaluated:?}");
    serde_json::from_slice(&evaluated.stdout).unwrap()
}

#[test]
fn a_cause_is_cut_to_what_every_target_has_room_for() {
    let recorded = |cause: &str| {
        let failure = json!({"step": "CopyLayers", "error": "Internal", "cause": cause});
        let kept = json!({"target": {"region": "eu-west-1"}, "ensure": {}, "copied": {}, "retries": 2});
        let mut input = kept.clone();
        (input["failure"], input["execution"], input["shards"]) = (failure.clone(), json!("run-1"), json!([]));
        let mut outcome = output("RecordFailure", &json!({"input": input}));
        let recorded = outcome.as_object_mut().unwrap().remove("failure").unwrap();
        assert_eq!(outcome, kept);
        assert_eq!((&recorded["step"], &recorded["error"]), (&failure["step"], &failure["error"]));
        recorded["cause"].as_str().unwrap().to_owned()
    };
    let told = json!({"errorType": "AccessDenied", "errorMessage": "no ".repeat(500)}).to_string();
    for cause in ["", "killed", &told, &"x".repeat(1890)] {
        assert_eq!(recorded(cause), cause);
    }
    let denied = json!({"errorType": "Internal", "errorMessage": "\"".repeat(1000)}).to_string();
    for cause in ["x", "\"", "\\", "ä", "漢", "😀", "\n", "\u{1}"].map(|text| text.repeat(2000)).iter().chain([&denied])
    {
        let recorded = recorded(cause);
        let size = serde_json::to_string(&recorded).unwrap().len();
        assert!(cause.starts_with(&recorded) && (300..=1900).contains(&size), "{size}: {recorded}");
    }
}

#[test]
fn shards_side_by_side_take_as_long_as_the_longest_and_passes_one_after_another() {
    let copied = |number: u64| {
        json!({
            "layersCopied": number, "layersStreamed": number, "bytesCopied": number, "durationMs": number,
            "throttled": number, "layersForeign": number, "shards": 1,
        })
    };
    let shard = |copied: &[Value]| json!({"copied": copied, "shards": [], "failures": [], "retries": 1});
    let after = |results: &[Value]| {
        output("CopyShards", &json!({"input": {"copied": copied(1000), "retries": 3}, "result": results}))
    };
    let passed = after(&[shard(&[copied(20)]), shard(&[copied(30)]), shard(&[])]);
    assert_eq!(
        passed["copied"],
        json!({
            "layersCopied": 1050, "layersStreamed": 1050, "bytesCopied": 1050, "durationMs": 1030,
            "throttled": 1050, "layersForeign": 1000, "shards": 3,
        })
    );
    assert_eq!(passed["retries"], 6);
    assert_eq!(after(&[shard(&[])])["copied"], copied(1000), "none came to a result");
}

#[test]
fn put_manifest_knows_which_repair_is_the_last() {
    let states: BTreeMap<String, Value> = states().into_iter().collect();
    let condition = states["AreRepairsLeft"]["Choices"][0]["Condition"].as_str().unwrap();
    assert_eq!(condition, format!("{{% $states.input.repairs <= {MOST_REPAIRS} %}}"));
}

#[test]
fn put_manifest_has_time_for_more_than_one_put_at_any_pace() {
    let states: BTreeMap<String, Value> = states().into_iter().collect();
    let seconds = states["PutManifest"]["TimeoutSeconds"].as_u64().unwrap();
    assert!(seconds > 2 * LONGEST_PUT_INTERVAL.as_secs(), "{seconds}");
}

#[test]
fn an_untagged_image_waits_as_long_as_resolve_image_wants() {
    let states: BTreeMap<String, Value> = states().into_iter().collect();
    assert_eq!(states["AwaitIndex"]["Seconds"], INDEX_FOLLOWS_WITHIN);
}

#[test]
fn the_states_are_documented_in_their_order() {
    let documented: Vec<&str> = STATES_README
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split('`').next())
        .collect();
    let names: Vec<String> = states().into_iter().map(|(name, _)| name).collect();
    assert_eq!(documented, names);
}

/// `5 times, 1 s doubling to 30 s`, for every state in which a name is retried.
fn retries(name: &str) -> String {
    let mut by_text: Vec<(String, Vec<String>)> = Vec::new();
    for (state, definition) in states() {
        for retrier in list(&definition, "Retry").into_iter().filter(|retrier| error_equals(retrier).contains(&name)) {
            let text = match retrier["MaxAttempts"].as_u64().unwrap() {
                1 => format!("once, after {} s", retrier["IntervalSeconds"]),
                times => format!(
                    "{times} times, {} s doubling to {} s",
                    retrier["IntervalSeconds"], retrier["MaxDelaySeconds"]
                ),
            };
            match by_text.iter_mut().find(|(known, _)| *known == text) {
                Some((_, states)) => states.push(state.clone()),
                None => by_text.push((text, vec![state.clone()])),
            }
        }
    }
    match by_text.as_slice() {
        [] => "no".to_owned(),
        [(text, _)] => text.clone(),
        several => {
            several.iter().map(|(text, states)| format!("{}: {text}", states.join(", "))).collect::<Vec<_>>().join("; ")
        }
    }
}

#[test]
fn the_table_of_errors_is_the_definition_s() {
    let mut documented = BTreeMap::new();
    for line in ERRORS.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        documented.insert(cells[0].trim_matches('`').to_owned(), cells[1].to_owned());
    }
    let mut wanted: BTreeMap<String, String> =
        ErrorName::ALL.iter().map(|name| (name.to_string(), retries(name.as_str()))).collect();
    for name in AWS_ERRORS.into_iter().filter(|name| *name != "States.ALL") {
        wanted.insert(name.to_owned(), retries(name));
    }
    assert_eq!(documented, wanted, "docs/errors.md, second column");
}
