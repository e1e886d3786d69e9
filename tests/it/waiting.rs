//! The command with which a pipeline waits until a push is everywhere: on the local stack, and by a clock of its own, where
//! executions come and go as they seldom do.

use std::process::{Command, Output};

use local_stack::{Options, Sample};
use serde_json::json;

use crate::operator::{Operator, is_cli_installed, program};
use crate::scene::{NO_LAYER, REPOSITORY, Scene, TAG, TARGETS};

impl Operator {
    async fn wait(&self, image: &str, seconds: &str) -> Output {
        let image = format!("IMAGE={image}");
        self.run("make", &["--silent", "wait-for-image", &image, &format!("SECONDS={seconds}")]).await
    }
}

fn said(text: &[u8]) -> String {
    String::from_utf8(text.to_vec()).unwrap()
}

/// Step Functions and a clock, in the place of the AWS CLI, `sleep` and `date`: an execution is there from one second to another,
/// and ends as its line says; the call of the word in `fails` is refused.
const AWS: &str = r#"#!/bin/sh
now=$(cat "$HOME/clock")
[ "$2" != "$(cat "$HOME/fails")" ] || { echo "ThrottlingException: Rate exceeded" >&2; exit 254; }
case $2 in
list-state-machines) echo arn:aws:states:eu-central-1:123456789012:stateMachine:ecr-replicator-replicate-image ;;
list-executions)
  while read -r start end rule ending; do
    [ "$now" -lt "$start" ] || echo "arn:aws:states:eu-central-1:123456789012:execution:machine:$rule"
  done <"$HOME/executions"
  echo None
  ;;
describe-execution)
  while read -r start end rule ending; do
    [ "$rule" = "${4##*:}" ] || continue
    case "$6 $ending" in
    input*)
      detail='{"image-digest": "sha256:ab", "repository-name": "prod/app", "image-tag": "v1"}'
      echo "{\"rule\": \"$rule\", \"event\": {\"detail\": $detail}}"
      ;;
    *error*) printf '%s\tReplicationIncomplete\tthe cause\n' FAILED ;;
    *) [ "$now" -ge "$end" ] || ending="running"
      case $ending in
      running) printf 'RUNNING\tNone\n' ;;
      failed) printf 'FAILED\tNone\n' ;;
      complete) printf 'SUCCEEDED\t{"replicate": false, "report": {"complete": true}}\n' ;;
      gone) printf 'SUCCEEDED\t{"replicate": false, "report": {"complete": false}}\n' ;;
      nothing) printf 'SUCCEEDED\t{"replicate": false, "nothingToDo": {"reason": "NOT_SELECTED"}}\n' ;;
      esac
      ;;
    esac
  done <"$HOME/executions"
  ;;
esac
"#;

/// What the command says of executions that come and go so, on which second it does, and whether it ends well.
fn waited(executions: &str, fails: &str, seconds: &str) -> (bool, u32, String) {
    let home = tempfile::tempdir().unwrap();
    for (name, content) in [("executions", executions), ("fails", fails), ("clock", "0")] {
        std::fs::write(home.path().join(name), content).unwrap();
    }
    program(home.path(), "aws", AWS);
    program(home.path(), "date", "#!/bin/sh\ncat \"$HOME/clock\"\n");
    program(home.path(), "sleep", "#!/bin/sh\necho $(($(cat \"$HOME/clock\") + $1)) >\"$HOME/clock\"\n");
    let mut wait = Command::new("sh");
    wait.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../terraform/wait-for-image.sh"));
    wait.args(["prod/app:v1@sha256:ab", "ecr-replicator", seconds]).env("HOME", home.path());
    wait.env("PATH", format!("{}:{}", home.path().display(), std::env::var("PATH").unwrap()));
    let output = wait.output().unwrap();
    let clock = std::fs::read_to_string(home.path().join("clock")).unwrap();
    let said = format!("{}{}", said(&output.stdout), said(&output.stderr));
    (output.status.success(), clock.trim().parse().unwrap(), said)
}

#[test]
fn no_verdict_is_given_before_every_rule_has_started_its_execution() {
    // From the second when it is started, to that when it ends.
    let (is_well, at, said) = waited("0 1 one nothing\n2 60 two complete\n", "", "1800");
    assert!(is_well && said.contains("one: nothing to do\n"), "{said}");
    assert!(said.contains("two: the image is at every target\n"), "{said}");
    assert_eq!(at, 60);

    let (is_well, at, said) = waited("0 1 one complete\n20 90 two failed\n", "", "1800");
    assert!(!is_well && said.contains("two: FAILED\tReplicationIncomplete\tthe cause\n"), "{said}");
    assert_eq!(at, 90);

    // An execution more is waited for as long after the one before it.
    let (is_well, at, said) = waited("0 1 one complete\n25 26 two complete\n50 51 three gone\n", "", "1800");
    assert!(!is_well && said.contains("three: the image was deleted at the source"), "{said}");
    assert_eq!(at, 50 + 30);

    let (is_well, at, said) = waited("0 1 one complete\n", "", "1800");
    assert!(is_well, "{said}");
    assert_eq!(at, 30);
}

#[test]
fn what_has_nothing_to_do_is_no_verdict_before_the_time_is_up() {
    let (is_well, at, said) = waited("0 1 one nothing\n300 310 two complete\n", "", "1800");
    assert!(is_well && said.contains("two: the image is at every target"), "{said}");
    assert_eq!(at, 330);

    let (is_well, at, said) = waited("0 1 one nothing\n", "", "600");
    assert!(!is_well && said.ends_with("no rule replicates prod/app:v1@sha256:ab\n"), "{said}");
    assert_eq!(at, 600);

    let (is_well, _, said) = waited("0 1 one complete\n", "", "20");
    assert!(!is_well && said.ends_with("after 20 s, another rule's execution may still be to come\n"), "{said}");
    let (is_well, _, said) = waited("0 90 one complete\n", "", "20");
    assert!(!is_well && said.contains("after 20 s, these still run: arn:aws:states:"), "{said}");
}

#[test]
fn a_call_that_fails_is_no_verdict() {
    for call in ["list-state-machines", "list-executions", "describe-execution"] {
        let said = waited("0 1 one complete\n", call, "1800");
        assert_eq!(said, (false, 0, "ThrottlingException: Rate exceeded\n".to_owned()), "{call}");
    }
    let (is_well, _, said) = waited("", "", "30");
    assert!(!is_well && said.contains("no execution is of prod/app:v1@sha256:ab"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_waits_until_its_push_is_everywhere() {
    if !is_cli_installed().await {
        return println!("SKIPPED: the AWS CLI is not installed");
    }
    let sample = Sample { seed: 7, own_layers: vec![64], ..Sample::default() };
    let operator = Operator::of(Scene::of(&sample, Options::quick(&TARGETS)).await);
    let scene = &operator.scene;
    let pushed = scene.push().await;
    let image = format!("{REPOSITORY}:{TAG}@{}", pushed.digest);
    // It is asked while the execution runs, or before it is started.
    let output = operator.wait(&image, "120").await;
    assert!(output.status.success(), "{output:?}");
    assert!(said(&output.stdout).trim().ends_with(": the image is at every target"), "{output:?}");
    let source = scene.read(scene.stack.source()).await;
    for region in TARGETS {
        assert_eq!(scene.read(region).await, source, "{region}");
    }

    for (image, problem) in [
        (format!("{REPOSITORY}:v2@{}", pushed.digest), "no execution is of prod/app:v2@sha256:"),
        (format!("other@{}", pushed.digest), "no execution is of other@sha256:"),
        ("prod/app:v1".to_owned(), "usage: wait-for-image.sh"),
    ] {
        let output = operator.wait(&image, "0").await;
        assert!(!output.status.success() && said(&output.stderr).contains(problem), "{output:?}");
    }

    // The newest execution of the push decides: what failed is told with its cause.
    for fault in NO_LAYER {
        scene.stack.ecr().fault(fault().in_region(TARGETS[0]).for_ever());
    }
    let detail = json!({
        "result": "SUCCESS", "repository-name": REPOSITORY, "image-digest": pushed.digest, "image-tag": TAG,
        "action-type": "PUSH",
    });
    let event = json!({
        "detail-type": "ECR Image Action", "region": scene.stack.source(), "time": "2026-11-16T01:54:34Z",
        "detail": detail,
    });
    let targets = json!([{"region": TARGETS[0], "repository": "mirror/app"}]);
    let failed = scene.start(json!({"event": event, "targets": targets})).await;
    let output = operator.wait(&image, "120").await;
    assert!(!output.status.success(), "{output:?}");
    let problem = said(&output.stderr);
    assert!(problem.contains(&failed.arn) && problem.contains("ReplicationIncomplete"), "{problem}");
    assert!(problem.contains("eu-west-1 mirror/app: CopyLayers failed with AccessDenied"), "{problem}");
}
