//! The runbook: every command of it, run on the local stack, and every query, held to the lines of the logs that it reads.
//!
//! The emulator has no service quotas and no redrives: of the former the CLI checks the arguments, of the latter it is noted which
//! executions they are of. It does not write the state machine's log either: its lines are made of the history, as the Step Functions
//! Developer Guide has them ("Logging in CloudWatch Logs").

use std::collections::BTreeMap;

use aws_sdk_ecr::types::ImageIdentifier;
use ecr_local::Fault;
use local_stack::{ExecutionStatus, HistoryEvent, Options, Sample};
use serde_json::{Value, json};

use crate::execution::MACHINE;
use crate::operator::{Operator, blocks, clis, is_cli_installed};
use crate::scene::{NO_LAYER, PATIENCE, REPOSITORY, Scene, TAG, TARGETS};

const RUNBOOK: &str = include_str!("../../docs/runbook.md");

/// The command that redrives several executions.
const REDRIVE_ALL: &str = "while read -r execution; do aws stepfunctions redrive-execution";

/// The commands of a block, which may be indented, each with the lines that it goes on in.
pub(crate) fn commands(block: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    for line in block.lines().filter(|line| !line.trim().is_empty()) {
        match (line.trim_start().strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push(command.to_owned()),
            (None, Some(command)) => command.extend(["\n", line]),
            (None, None) => panic!("no prompt is before {line}"),
        }
    }
    commands
}

/// What stands for something in the runbook.
struct Blanks {
    state_machine: String,
    queue: String,
    execution: String,
    reconcile: String,
    reconcile_queue: String,
    bucket: String,
    /// The name of a run that has a report.
    run: String,
}

impl Blanks {
    fn fill(&self, command: &str, answer: &str) -> String {
        let filled = command
            .replace("<state_machine_arn>", &self.state_machine)
            .replace("<dead_letter_queue_url>", &self.queue)
            .replace("<execution>", &self.execution)
            .replace("<execution name>", &self.run)
            .replace("<reconcile_state_machine_arn>", &self.reconcile)
            .replace("<reconcile_dead_letter_queue_url>", &self.reconcile_queue)
            .replace("<reconcile_bucket>", &self.bucket)
            .replace("<region>", TARGETS[0])
            .replace("<its answer>", answer);
        assert!(!filled.contains('<'), "a blank that nobody fills in: {filled}");
        filled
    }
}

/// What a command prints, which must end well and complain of nothing.
async fn printed(operator: &Operator, command: &str) -> String {
    let output = operator.run("sh", &["-c", command]).await;
    let said = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    assert!(output.status.success() && output.stderr.is_empty(), "{command}\n{}", said(&output.stderr));
    said(&output.stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_runbook_runs() {
    if !is_cli_installed().await {
        return println!("SKIPPED: the AWS CLI is not installed");
    }
    let sample = Sample { seed: 7, own_layers: vec![64], ..Sample::default() };
    let operator = Operator::of(Scene::of(&sample, Options::quick(&TARGETS[..1])).await);
    let scene = &operator.scene;
    let mut blanks = Blanks {
        state_machine: scene.stack.state_machine_arn().to_owned(),
        queue: scene.stack.dead_letter_queue_url().to_owned(),
        execution: String::new(),
        reconcile: scene.stack.reconciliations().state_machine_arn().to_owned(),
        reconcile_queue: scene.stack.dead_letter_queue_url().replace("image-pushed", "reconcile"),
        bucket: scene.stack.reconcile_bucket().to_owned(),
        run: String::new(),
    };
    let all: Vec<Vec<String>> = blocks(RUNBOOK, "console").into_iter().map(commands).collect();
    let redrive_all = all.iter().flatten().find(|command| command.contains(REDRIVE_ALL)).unwrap();
    let redrive_all = blanks.fill(redrive_all, "");

    // What was throttled is in its line of metrics.
    scene.stack.ecr().fault(Fault::new("PutImage", 400, "ThrottleException").in_region(TARGETS[0]));
    let (_, succeeded) = scene.replicate().await;
    assert_eq!(succeeded.status, ExecutionStatus::Succeeded);
    for cli in clis() {
        operator.take_cli(&cli);
        printed(&operator, &redrive_all).await;
        assert_eq!(operator.redriven(), [""; 0], "none failed, says {cli}");
    }
    for fault in NO_LAYER {
        scene.stack.ecr().fault(fault().for_ever());
    }
    let mut failed = Vec::new();
    for name in ["other/app", "another/app"] {
        let targets = json!([{"region": TARGETS[0], "repository": name}]);
        let execution = scene.start(json!({"image": {"repository": REPOSITORY, "tag": TAG}, "targets": targets})).await;
        assert_eq!(execution.error.as_deref(), Some("ReplicationIncomplete"));
        failed.insert(0, execution.arn);
    }
    for cli in clis() {
        operator.take_cli(&cli);
        printed(&operator, &redrive_all).await;
        assert_eq!(operator.redriven(), failed, "those that failed and no other, says {cli}");
    }
    operator.take_cli("aws");
    scene.stack.ecr().clear_faults();

    // The target loses its image: an audit says so.
    let id = ImageIdentifier::builder().image_tag(TAG).build();
    let delete = scene.stack.ecr_client(TARGETS[0]).batch_delete_image().repository_name(REPOSITORY);
    assert_eq!(delete.image_ids(id).send().await.unwrap().failures(), []);
    let audit = scene.stack.start_reconcile(&json!({})).await.unwrap();
    let audit = scene.finished(&audit).await;
    assert_eq!(audit.output.unwrap()["report"]["complete"], false);
    audit.arn.rsplit(':').next().unwrap().clone_into(&mut blanks.run);

    let mut said = BTreeMap::new();
    for block in all {
        let (mut set, mut answer) = (String::new(), String::new());
        blanks.execution.clone_from(&failed[0]);
        for command in block {
            if command.starts_with("QUERY=") {
                set = format!("{command}\n");
                continue;
            }
            let printed = printed(&operator, &format!("{set}{}", blanks.fill(&command, &answer))).await;
            let printed_json: Value = serde_json::from_str(&printed).unwrap_or_default();
            answer = printed_json["queryId"].as_str().unwrap_or_default().to_owned();
            // What starts a run prints its ARN: what follows is about that, and a run follows when it is over.
            if command.starts_with("make reconcile MODE=") {
                printed.trim().clone_into(&mut blanks.execution);
                scene.stack.finished(&blanks.execution, PATIENCE).await.unwrap();
            }
            said.insert(command, printed);
        }
    }
    let of = |beginning: &str| said.iter().find(|(command, _)| command.starts_with(beginning)).unwrap().1.as_str();
    assert!(of("aws stepfunctions describe-execution").starts_with("ReplicationIncomplete\t"));
    assert!(
        failed
            .iter()
            .all(|arn| of("aws stepfunctions list-executions --state-machine-arn <state_machine_arn>").contains(arn))
    );
    assert!(of("aws stepfunctions get-execution-history").contains("ExecutionFailed"));
    assert!(of("aws logs get-query-results").contains("results"));
    assert_eq!(of("make replay-dead-letters").lines().last(), Some("0 replayed, 0 failed"));
    assert!(of("aws lambda get-account-settings").trim().parse::<u32>().is_ok());
    let report: Value = serde_json::from_str(of("aws s3 cp")).unwrap();
    assert_eq!((&report["items"], &report["request"]["mode"]), (&json!(1), &json!("audit")));
    assert!(of("aws s3 ls").contains("/1/differences/"));
    assert!(of("make reconcile-progress").contains("1 differed and were replicated, nothing differs any more."));

    every_query_finds_what_it_asks_for(&operator, &failed[0]).await;
}

/// The fields that a query reads, without those that every line has, and those that it makes itself.
fn fields(query: &str) -> Vec<String> {
    let code = query.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join(" ");
    let mut fields = Vec::new();
    let mut made = Vec::new();
    let mut rest = code.as_str();
    let mut before = "";
    while let Some(first) = rest.chars().next() {
        let is_of_name = |letter: char| letter.is_alphanumeric() || "_.@".contains(letter);
        let length = match first {
            // What is looked for is no field.
            '"' | '/' => rest[1..].find(first).map_or(rest.len(), |end| end + 2),
            _ => rest.find(|letter| !is_of_name(letter)).unwrap_or(rest.len()).max(first.len_utf8()),
        };
        let (word, after) = rest.split_at(length);
        let is_call = after.starts_with('(');
        let is_word = matches!(
            word,
            "fields"
                | "filter"
                | "stats"
                | "sort"
                | "limit"
                | "by"
                | "as"
                | "asc"
                | "desc"
                | "and"
                | "or"
                | "in"
                | "like"
        );
        if before == "as" {
            made.push(word);
        } else if first.is_ascii_alphabetic() && !is_call && !is_word {
            fields.push(word.to_owned());
        }
        if !word.trim().is_empty() {
            before = word;
        }
        rest = after;
    }
    fields.retain(|field| !made.contains(&field.as_str()));
    fields
}

/// The lines of the state machine's log.
fn logged(history: &[HistoryEvent], arn: &str) -> Vec<Value> {
    let line = |event: &HistoryEvent| {
        let details = event.details.values().next();
        json!({
            "id": event.id.to_string(), "type": event.r#type, "details": details, "execution_arn": arn,
            "previous_event_id": event.previous_event_id.to_string(), "event_timestamp": "1581972450000",
        })
    };
    history.iter().map(line).collect()
}

async fn every_query_finds_what_it_asks_for(operator: &Operator, failed: &str) {
    let history = operator.scene.stack.history(failed).await.unwrap();
    let answer = operator.aws(&["logs", "describe-query-definitions"]).await;
    let queries = answer["queryDefinitions"].as_array().unwrap();
    assert_eq!(queries.len(), RUNBOOK.matches("\n## ").count());
    let mut logs: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for query in queries {
        let fields = fields(query["queryString"].as_str().unwrap());
        assert!(fields.len() > 1, "{query}");
        for group in query["logGroupNames"].as_array().unwrap() {
            let group = group.as_str().unwrap();
            if !logs.contains_key(group) {
                let lines = if group.starts_with("/aws/vendedlogs/states/") {
                    logged(&history, failed)
                } else {
                    let events = operator.aws(&["logs", "filter-log-events", "--log-group-name", group]).await;
                    let events = events["events"].as_array().unwrap().iter();
                    events.filter_map(|event| serde_json::from_str(event["message"].as_str()?).ok()).collect()
                };
                logs.insert(group.to_owned(), lines);
            }
            let has = |line: &Value, field: &String| line.pointer(&format!("/{}", field.replace('.', "/"))).is_some();
            let found = logs[group].iter().any(|line| fields.iter().all(|field| has(line, field)));
            assert!(found, "no line of {group} has all of {fields:?}: {:#?}", logs[group]);
        }
    }
}

#[test]
fn what_a_query_reads_is_told_from_what_it_makes() {
    let query = "# a comment\nfields @timestamp, a.b as c, d\n| filter ispresent(e) and f like /sha256:x/ and g = \"h i\"\n\
        | stats latest(j) as k, count(*) as l by m, bin(5m)\n| sort k desc\n| limit 100";
    assert_eq!(fields(query), ["a.b", "d", "e", "f", "g", "j", "m"]);
}

#[test]
fn the_runbook_needs_no_program_of_one_system() {
    // GNU's `date` and `xargs` know what those of macOS do not.
    let words = ["date -u -d", "date -d", "xargs"];
    assert!(words.iter().all(|word| !RUNBOOK.contains(word)));
    assert!(RUNBOOK.contains("the source region in\n`AWS_DEFAULT_REGION`"), "version 1 of the CLI reads no other");
}

#[test]
fn the_runbook_says_how_long_the_state_machine_tries_again() {
    let retriers = MACHINE["States"]["ResolveImage"]["Retry"].as_array().unwrap();
    let throttled = json!("Lambda.TooManyRequestsException");
    let of_lambda = retriers.iter().find(|it| it["ErrorEquals"].as_array().unwrap().contains(&throttled)).unwrap();
    let number = |name: &str| of_lambda[name].as_f64().unwrap();
    let (mut wait, mut together) = (number("IntervalSeconds"), 0.0);
    let attempts = of_lambda["MaxAttempts"].as_u64().unwrap();
    for _ in 0..attempts {
        together += wait;
        wait = (wait * number("BackoffRate")).min(number("MaxDelaySeconds"));
    }
    let words = format!("tries again {attempts} times, with waits of at most {together}");
    assert!(RUNBOOK.contains(&words), "{words}");
    let wait = &MACHINE["States"]["AwaitIndex"]["Seconds"];
    assert!(RUNBOOK.contains(&format!("`AwaitIndex` waits for {wait} seconds after the push")));
}
