//! Report against a stand-in for Step Functions and EventBridge.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use ecr_local::Asked;
use report::{Dependencies, Output, handle};
use serde_json::{Value, json};
use shared::{
    contract::Status,
    error::{ErrorName, Named as _, diagnostic},
    names::Digest,
    serve::decode,
};
use tokio::sync::oneshot;

use crate::{
    iam,
    world::{REPOSITORY, SOURCE, image_input, sdk_config},
};

pub(crate) const EXECUTION: &str =
    "arn:aws:states:eu-central-1:123456789012:execution:ecr-replicator-replicate-image:run-1";

/// Answers DescribeExecution with a redrive count, and keeps the entries of PutEvents.
#[derive(Clone, Default)]
pub(crate) struct Services {
    pub(crate) redrives: Arc<AtomicU32>,
    /// How many of the next PutEvents are refused.
    pub(crate) refused_events: Arc<AtomicU32>,
    refuse_questions: bool,
    events: Arc<Mutex<Vec<Value>>>,
    /// What IAM would have been asked.
    asked: Arc<Mutex<BTreeSet<Asked>>>,
}

impl Services {
    /// Serves them until what this gives back is dropped.
    pub(crate) async fn listen(&self) -> Listening {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let router = self.router();
        let (closing, closed) = oneshot::channel::<()>();
        // Nothing is ever sent: the sign is that the sender is gone.
        let closed = async move { drop(closed.await) };
        tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(closed).await });
        Listening { endpoint, _closing: closing }
    }

    /// What answers for them.
    pub(crate) fn router(&self) -> Router {
        Router::new().route("/", post(answer)).with_state(self.clone())
    }

    /// The entries of PutEvents that were taken.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.events.lock().unwrap().clone()
    }
}

pub(crate) fn counter(at: u32) -> Arc<AtomicU32> {
    Arc::new(AtomicU32::new(at))
}

/// The services, while they are served.
pub(crate) struct Listening {
    pub(crate) endpoint: String,
    _closing: oneshot::Sender<()>,
}

fn is_used_up_by_one(left: &AtomicU32) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

async fn answer(State(services): State<Services>, headers: HeaderMap, body: String) -> (StatusCode, Json<Value>) {
    let body: Value = serde_json::from_str(&body).unwrap();
    let operation = headers["x-amz-target"].to_str().unwrap();
    services.asked.lock().unwrap().extend(iam::asked_of_service(iam::ACCOUNT, operation, &body));
    match operation {
        "AWSStepFunctions.DescribeExecution" if services.refuse_questions => {
            (StatusCode::BAD_REQUEST, Json(json!({"__type": "AccessDeniedException", "message": "not for you"})))
        }
        "AWSStepFunctions.DescribeExecution" => {
            assert_eq!(body["executionArn"], EXECUTION);
            let described = json!({
                "executionArn": EXECUTION, "stateMachineArn": "machine", "status": "RUNNING", "startDate": 1.0,
                "redriveCount": services.redrives.load(Ordering::SeqCst),
            });
            (StatusCode::OK, Json(described))
        }
        "AWSEvents.PutEvents" if is_used_up_by_one(&services.refused_events) => {
            let entry = json!({"ErrorCode": "ThrottlingException", "ErrorMessage": "slow down"});
            (StatusCode::OK, Json(json!({"FailedEntryCount": 1, "Entries": [entry]})))
        }
        "AWSEvents.PutEvents" => {
            services.events.lock().unwrap().extend(body["Entries"].as_array().unwrap().iter().cloned());
            (StatusCode::OK, Json(json!({"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]})))
        }
        other => panic!("unexpected call {other}"),
    }
}

fn copied(layers: u64, bytes: u64) -> Value {
    json!({
        "layersCopied": layers, "layersStreamed": layers - 1, "bytesCopied": bytes, "durationMs": 200,
        "throttled": 20, "layersForeign": 0, "shards": 1,
    })
}

/// A setting of the target repository that could not be changed.
fn change() -> Value {
    json!({"setting": "encryption", "before": "AES256", "after": "KMS", "refused": "it cannot be changed"})
}

pub(crate) fn succeeded(region: &str) -> Value {
    json!({
        "target": {"region": region, "repository": REPOSITORY},
        "ensure": {"created": true, "settings": [change()], "durationMs": 30, "throttled": 1},
        "copied": copied(4, 4000),
        "put": {
            "status": "REPLICATED", "manifestsCopied": 3, "manifestsSkipped": 0,
            "referrersCopied": 2, "referrersSkipped": 1, "referrersRefused": 1, "refusals": [{
                "digest": Digest::of(b"signature"), "tag": null, "error": "InvalidInput", "message": "405",
            }],
            "completedAt": "2026-11-16T01:54:40.250Z", "durationMs": 70, "throttled": 300,
        },
        "retries": 2,
    })
}

pub(crate) fn failed(region: &str, step: &str, error: &str, message: &str) -> Value {
    let cause = json!({"errorType": error, "errorMessage": message}).to_string();
    json!({
        "target": {"region": region, "repository": REPOSITORY},
        "ensure": {"created": false, "durationMs": 30},
        "failure": {"step": step, "error": error, "cause": cause},
    })
}

/// The input of the round `round`, of an execution that was redriven before each but the first.
pub(crate) fn input(round: u32, settled: &Value, outcomes: &[Value]) -> Value {
    let mut image = image_input(&Digest::of(b"image"), Some("v1"));
    (image["blobs"], image["bytes"]) = (json!(5), json!(4010));
    image["pushedAt"] = json!("2026-11-16T01:54:34Z");
    json!({
        "execution": {"arn": EXECUTION, "name": "run-1", "startedAt": "2026-11-16T01:54:35Z"},
        "round": {
            "image": image, "referrers": [{"digest": Digest::of(b"signature")}], "rule": "all", "round": round, "redrives": round - 1,
            "repositorySettings": {"scanOnPush": true}, "settled": settled, "outcomes": outcomes,
            "finishedAt": "2026-11-16T01:54:41Z",
        },
    })
}

async fn report(services: &Services, input: Value) -> Result<Output, report::Error> {
    let listening = services.listen().await;
    let dependencies = Dependencies::new(&sdk_config(&listening.endpoint, SOURCE).await, "ecr-replicator".to_owned());
    handle(&dependencies, decode(input).unwrap()).await
}

/// What IAM is asked about the function.
pub(crate) async fn questions() -> BTreeSet<Asked> {
    let services = Services { redrives: counter(1), ..Services::default() };
    report(&services, input(1, &json!([]), &[failed("us-west-2", "CopyLayers", "AccessDenied", "no")])).await.unwrap();
    let asked = services.asked.lock().unwrap();
    asked.clone()
}

/// The report in an event, held to its schema.
fn document(event: &Value) -> Value {
    let schema: Value = serde_json::from_str(include_str!("../../docs/report.schema.json")).unwrap();
    let document: Value = serde_json::from_str(event["Detail"].as_str().unwrap()).unwrap();
    let problems: Vec<String> = jsonschema::options()
        .should_validate_formats(true)
        .build(&schema)
        .unwrap()
        .iter_errors(&document)
        .map(|problem| format!("{}: {problem}", problem.instance_path()))
        .collect();
    assert!(problems.is_empty(), "{problems:#?}");
    document
}

#[tokio::test]
async fn a_complete_round_is_reported_once_with_its_figures() {
    let services = Services::default();
    let output =
        report(&services, input(1, &json!([]), &[succeeded("eu-west-1"), succeeded("us-west-2")])).await.unwrap();
    assert!(!output.replicate);

    let events = services.events();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["Source"], "ecr-replicator");
    assert_eq!(events[0]["DetailType"], "Image Replication Complete");
    assert_eq!(events[0]["Resources"], json!([EXECUTION]));
    let document = document(&events[0]);
    assert_eq!(document, serde_json::to_value(output.report).unwrap(), "the execution's output is the same document");
    assert_eq!(document["complete"], true);
    assert_eq!(document["durationMs"], 6000);
    let summary = format!("prod/app:v1 ({}) is at all of 2 targets.", Digest::of(b"image"));
    assert_eq!(document["summary"], summary);
    assert_eq!(
        document["targets"][1],
        json!({
            "region": "us-west-2", "repository": REPOSITORY, "registryId": null, "status": "REPLICATED", "round": 1,
            "step": null, "error": null, "message": null, "repositoryCreated": true, "settings": [change()],
            "manifestsCopied": 3, "manifestsSkipped": 0,
            "referrersCopied": 2, "referrersSkipped": 1, "referrersRefused": 1, "refusals": [{
                "digest": Digest::of(b"signature"), "tag": null, "error": "InvalidInput", "message": "405",
            }],
            "layersCopied": 4, "layersStreamed": 3, "layersSkipped": 1,
            "layersForeign": 0, "bytesCopied": 4000, "bytesSkipped": 10, "shards": 1, "retries": 2, "throttled": 321,
            "durationMs": 300,
            "steps": {"ensureRepositoryMs": 30, "copyLayersMs": 200, "putManifestMs": 70},
            "completedAt": "2026-11-16T01:54:40.25Z", "lagMs": 6250,
        })
    );
}

#[tokio::test]
async fn an_incomplete_round_is_reported_and_fails_with_a_line_for_each_target() {
    let services = Services::default();
    let outcomes = [
        succeeded("eu-west-1"),
        failed("us-west-2", "CopyLayers", "AccessDenied", "UploadLayerPart on prod/app in us-west-2 failed: no"),
        failed("ap-southeast-2", "PutManifest", "TagConflict", "the tag v1 is immutable there"),
    ];
    let error = report(&services, input(1, &json!([]), &outcomes)).await.unwrap_err();
    assert_eq!(error.name(), ErrorName::ReplicationIncomplete);
    assert_eq!(
        diagnostic(&error).error_message,
        format!(
            "prod/app:v1 ({}) is not complete at 2 of 3 targets. Mend the cause and redrive this execution: \
             it goes on with those alone.\n\
             us-west-2 prod/app: CopyLayers failed with AccessDenied: UploadLayerPart on prod/app in us-west-2 failed: no\n\
             ap-southeast-2 prod/app: PutManifest failed with TagConflict: the tag v1 is immutable there",
            Digest::of(b"image")
        )
    );
    let events = services.events();
    assert_eq!(events[0]["DetailType"], "Image Replication Incomplete");
    let document = document(&events[0]);
    let statuses: Vec<&Value> =
        document["targets"].as_array().unwrap().iter().map(|target| &target["status"]).collect();
    assert_eq!(statuses, ["REPLICATED", "FAILED", "CONFLICT"]);
    assert_eq!(document["summary"], diagnostic(&error).error_message);
    assert_eq!(document["targets"][1]["message"], "UploadLayerPart on prod/app in us-west-2 failed: no");
}

#[tokio::test]
async fn an_answer_that_is_none_fails_its_own_target() {
    let services = Services::default();
    let mut garbage = [succeeded("eu-west-1"), succeeded("us-west-2"), succeeded("sa-east-1"), succeeded("eu-north-1")];
    garbage[1]["put"] = json!("garbage");
    garbage[2]["ensure"] = json!({"created": 1});
    garbage[3] = failed("eu-north-1", "CopyLayers", "AccessDenied", "no");
    garbage[3]["ensure"] = json!([]);
    let error = report(&services, input(1, &json!([]), &garbage)).await.unwrap_err();
    assert_eq!(error.name(), ErrorName::ReplicationIncomplete);
    let document = document(&services.events()[0]);
    let told: Vec<_> = document["targets"].as_array().unwrap().iter().map(|it| [&it["step"], &it["error"]]).collect();
    let (put, ensure, copy) = (json!("PutManifest"), json!("EnsureRepository"), json!("CopyLayers"));
    let (internal, denied) = (json!("Internal"), json!("AccessDenied"));
    let null = Value::Null;
    assert_eq!(told, [[&null, &null], [&put, &internal], [&ensure, &internal], [&copy, &denied]]);
    let message = document["targets"][2]["message"].as_str().unwrap();
    assert!(message.contains("created: invalid type: integer"), "{message}");
}

#[tokio::test]
async fn an_image_that_the_source_lost_midway_leaves_nothing_to_redrive() {
    let services = Services::default();
    let outcome = failed("eu-west-1", "CopyLayers", "ImageNotFound", "gone");
    let output = report(&services, input(1, &json!([]), &[outcome])).await.unwrap();
    assert_eq!(output.report.unwrap().targets[0].status, Status::Skipped);
    let events = services.events();
    assert_eq!(events[0]["DetailType"], "Image Replication Incomplete", "nobody may deploy it");
    let document = document(&events[0]);
    assert_eq!(document["complete"], false);
    let summary = document["summary"].as_str().unwrap();
    assert!(summary.ends_with("was deleted at the source before it was at 1 of 1 targets."), "{summary}");
}

#[tokio::test]
async fn an_error_that_is_not_a_functions_own_is_told_as_it_is() {
    let services = Services::default();
    let mut outcome = failed("eu-west-1", "CopyLayers", "States.Timeout", "");
    outcome["failure"]["cause"] = json!("");
    outcome["copied"] = copied(2, 500);
    report(&services, input(1, &json!([]), &[outcome])).await.unwrap_err();
    let document = document(&services.events()[0]);
    let target = &document["targets"][0];
    assert_eq!((&target["error"], &target["message"]), (&json!("States.Timeout"), &json!("")));
    assert_eq!(target["bytesCopied"], 500, "what an earlier invocation copied is told");
    assert_eq!(
        (&target["layersSkipped"], &target["bytesSkipped"]),
        (&json!(0), &json!(0)),
        "what was there is not known"
    );
}

#[tokio::test]
async fn what_was_there_is_known_when_the_copy_is_complete() {
    let services = Services::default();
    let mut outcome = failed("eu-west-1", "PutManifest", "TagConflict", "the tag v1 is immutable there");
    outcome["copied"] = copied(6, 4500);
    report(&services, input(1, &json!([]), &[outcome])).await.unwrap_err();
    let document = document(&services.events()[0]);
    let target = &document["targets"][0];
    let skipped = (&target["layersSkipped"], &target["bytesSkipped"]);
    assert_eq!(skipped, (&json!(0), &json!(0)), "a repair may copy again what was copied: more than the image has");
    assert_eq!(target["layersCopied"], json!(6));

    let services = Services::default();
    let mut outcome = failed("eu-west-1", "PutManifest", "TagConflict", "the tag v1 is immutable there");
    outcome["copied"] = copied(2, 500);
    report(&services, input(1, &json!([]), &[outcome])).await.unwrap_err();
    let document = self::document(&services.events()[0]);
    let target = &document["targets"][0];
    assert_eq!((&target["layersSkipped"], &target["bytesSkipped"]), (&json!(3), &json!(3510)));
}

#[tokio::test]
async fn an_image_that_was_pushed_by_a_clock_ahead_of_this_one_has_no_lag() {
    let services = Services::default();
    let mut input = input(1, &json!([]), &[succeeded("eu-west-1")]);
    input["round"]["image"]["pushedAt"] = json!("2026-11-16T01:54:41Z");
    report(&services, input).await.unwrap();
    assert_eq!(document(&services.events()[0])["targets"][0]["lagMs"], 0);
}

#[tokio::test]
async fn a_redrive_hands_the_failed_targets_back_and_keeps_the_others() {
    let mut outcomes = [succeeded("eu-west-1"), failed("us-west-2", "CopyLayers", "AccessDenied", "no")];
    let target = json!({
        "region": "us-west-2", "repository": "mirror/app", "registryId": "222222222222",
        "roleArn": "arn:aws:iam::222222222222:role/target", "externalId": "secret", "settings": "sync",
        "putIntervalMs": 500,
    });
    outcomes[1]["target"] = target.clone();
    let services = Services { redrives: counter(1), ..Services::default() };
    let output = report(&services, input(1, &json!([]), &outcomes)).await.unwrap();
    assert!(output.replicate);
    assert_eq!(output.round.as_ref().unwrap().referrers[0].digest, Digest::of(b"signature"), "they go along");
    let told = document(&services.events()[0]);
    assert_eq!((&told["round"], &told["repeated"]), (&json!(1), &json!(true)), "it may not have been delivered before");
    let round = serde_json::to_value(&output).unwrap();
    assert_eq!(round["round"], 2);
    assert_eq!(round["targets"], json!([target]), "with all that is known of it");
    assert_eq!(round["repositorySettings"], json!({"scanOnPush": true}));
    assert_eq!(round["settled"][0]["region"], "eu-west-1");
    assert_eq!(round["settled"].as_array().unwrap().len(), 1);

    // The second round succeeds: its report has both targets, each with its round.
    let services = Services { redrives: counter(1), ..Services::default() };
    let output = report(&services, input(2, &round["settled"], &[succeeded("us-west-2")])).await.unwrap();
    assert!(!output.replicate);
    let document = document(&services.events()[0]);
    assert_eq!(document["repeated"], false);
    let rounds: Vec<(&Value, &Value)> =
        document["targets"].as_array().unwrap().iter().map(|target| (&target["region"], &target["round"])).collect();
    assert_eq!(rounds, [(&json!("eu-west-1"), &json!(1)), (&json!("us-west-2"), &json!(2))]);
}

#[tokio::test]
async fn a_second_round_that_fails_is_reported_and_can_be_redriven_too() {
    let outcome = [failed("us-west-2", "CopyLayers", "AccessDenied", "no")];
    let services = Services { redrives: counter(1), ..Services::default() };
    let error = report(&services, input(2, &json!([]), &outcome)).await.unwrap_err();
    assert_eq!(error.name(), ErrorName::ReplicationIncomplete);
    let told = document(&services.events()[0]);
    assert_eq!((&told["round"], &told["repeated"]), (&json!(2), &json!(false)));
    let services = Services { redrives: counter(2), ..Services::default() };
    let output = report(&services, input(2, &json!([]), &outcome)).await.unwrap();
    assert_eq!(output.round.unwrap().round, 3);
}

#[tokio::test]
async fn a_round_that_a_redrive_cannot_tell_is_not_handed_on() {
    let outcome = [failed("us-west-2", "CopyLayers", "AccessDenied", "no")];
    let services = Services { redrives: counter(1), refused_events: counter(1), ..Services::default() };
    let error = report(&services, input(1, &json!([]), &outcome)).await.unwrap_err();
    assert_eq!(error.name(), ErrorName::ReportUndelivered);
}

#[tokio::test]
async fn a_report_that_is_not_taken_is_retried_by_name() {
    let services = Services { refused_events: counter(1), ..Services::default() };
    let error = report(&services, input(1, &json!([]), &[succeeded("eu-west-1")])).await.unwrap_err();
    assert_eq!(error.name(), ErrorName::ReportUndelivered);
    assert_eq!(
        diagnostic(&error).error_message,
        "the report of round 1 could not be delivered: PutEvents on the default bus failed: EventBridge refused the event: ThrottlingException: slow down"
    );
}

#[tokio::test]
async fn a_redrive_before_the_round_is_no_redrive_of_it() {
    // ResolveImage had failed, and the execution was redriven: the first round is reported like any other.
    let services = Services { redrives: counter(1), ..Services::default() };
    let mut input = input(1, &json!([]), &[failed("us-west-2", "CopyLayers", "AccessDenied", "no")]);
    input["round"]["redrives"] = json!(1);
    let error = report(&services, input).await.unwrap_err();
    assert_eq!(error.name(), ErrorName::ReplicationIncomplete);
    assert_eq!(services.events().len(), 1);
}

#[tokio::test]
async fn an_execution_that_cannot_be_asked_about_is_retried_by_name() {
    let services = Services { refuse_questions: true, ..Services::default() };
    let outcome = failed("us-west-2", "CopyLayers", "AccessDenied", "no");
    let error = report(&services, input(1, &json!([]), &[outcome])).await.unwrap_err();
    assert_eq!(error.name(), ErrorName::ReportUndelivered);
    let message = diagnostic(&error).error_message;
    assert!(message.contains("how often the execution was redriven") && message.contains("not for you"), "{message}");
    assert_eq!(document(&services.events()[0])["complete"], false, "what happened is told all the same");
}

#[tokio::test]
async fn of_an_image_that_was_gone_nothing_is_told_to_have_been_there() {
    let services = Services::default();
    let mut outcome = failed("eu-west-1", "PutManifest", "ImageNotFound", "gone");
    outcome["copied"] = json!({
        "layersCopied": 0, "layersStreamed": 0, "bytesCopied": 0, "durationMs": 0, "layersForeign": 0, "shards": 1,
    });
    report(&services, input(1, &json!([]), &[outcome])).await.unwrap();
    let target = &document(&services.events()[0])["targets"][0];
    assert_eq!((&target["status"], &target["layersSkipped"]), (&json!("SKIPPED"), &json!(0)));
}

#[tokio::test]
async fn the_cause_has_room_for_what_iam_says_to_every_target() {
    let denial = "UploadLayerPart on prod/app in us-west-2 failed: AccessDeniedException: User: arn:aws:sts::123456789012:\
        assumed-role/ecr-replicator-eu-central-1-copy-layers/ecr-replicator-copy-layers is not authorized to perform: \
        ecr:UploadLayerPart on resource: arn:aws:ecr:us-west-2:123456789012:repository/prod/app because no \
        identity-based policy allows the ecr:UploadLayerPart action";
    let outcomes: Vec<Value> =
        (1..=25).map(|n| failed(&format!("us-west-{n}"), "CopyLayers", "AccessDenied", denial)).collect();
    let error = report(&Services::default(), input(1, &json!([]), &outcomes)).await.unwrap_err();
    let message = diagnostic(&error).error_message;
    assert_eq!(message.matches(denial).count(), 25);
}
