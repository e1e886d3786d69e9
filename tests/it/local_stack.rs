//! End to end, on the local stack: the packaged functions, the state machine, the rules, a client that pushes.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use ecr_local::{Fault, Shape};
use jiff::Timestamp;
use local_stack::{
    Client, CopyLayers, Execution, ExecutionStatus, FUNCTIONS, Fate, HistoryEvent, Image, Options, SOURCE, Sample,
};
use serde_json::{Value, json};
use shared::contract::{Copied, Status};
use shared::names::Digest;

use crate::iam::{self, Planned};
use crate::metrics;
use crate::scene::{NO_LAYER, PATIENCE, REPOSITORY, Scene, TAG, TARGETS, calls, target};

/// A layer of which five are more than one function should move.
const LARGE: usize = 108 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_push_reaches_three_regions() {
    let scene = Scene::set(&TARGETS).await;
    let (pushed, execution) = scene.replicate().await;
    assert_eq!(execution.status, ExecutionStatus::Succeeded, "{execution:?}");

    let source = scene.read(scene.stack.source()).await;
    assert_eq!(source.digest, pushed.digest);
    assert_eq!((source.manifests.len(), source.blobs.len()), (3, 2 + 2 * 2 + 2));
    for region in TARGETS {
        assert_eq!(scene.read(region).await, source, "{region}");
    }

    let (detail_type, report) = scene.report(&execution).await;
    assert_eq!(detail_type, "Image Replication Complete");
    assert_eq!(execution.output.as_ref().unwrap()["report"], serde_json::to_value(&report).unwrap());
    assert!(report.complete && report.round == 1 && report.rule.is_some(), "{report:?}");
    assert_eq!((&report.image.digest, report.image.tag.as_ref().unwrap().as_str()), (&source.digest, TAG));
    assert_eq!((report.image.manifests, report.image.blobs), (source.manifests.len(), source.blobs.len()));
    assert_eq!(report.image.bytes, source.bytes());
    assert_eq!(report.targets.len(), TARGETS.len());
    let stats = scene.stack.ecr().stats();
    for region in TARGETS {
        let target = target(&report, region);
        assert_eq!((target.status, target.repository.as_str()), (Status::Replicated, REPOSITORY));
        assert!(target.repository_created);
        assert_eq!((target.manifests_copied, target.manifests_skipped), (source.manifests.len(), 0));
        assert_eq!((target.layers_copied, target.layers_skipped), (source.blobs.len(), 0));
        assert_eq!((target.bytes_copied, target.bytes_skipped), (source.bytes(), 0));
        assert!(target.lag_ms.is_some_and(|lag| lag >= 0), "{target:?}");
        assert_eq!(stats.region(region).uploaded_bytes, source.bytes(), "each byte crosses once to {region}");
    }
    // What it costs, as the README has it: six states of the execution, and seven for each target.
    assert_eq!(transitions(&scene.stack.history(&execution.arn).await.unwrap()), 6 + 7 * TARGETS.len());
    let readme = include_str!("../../README.md");
    assert!(readme.contains("6 + 7 *n* state transitions at $0.025 per 1,000. Three regions: 27, which is $0.0007."));
}

/// How many states were entered: Step Functions bills those.
fn transitions(history: &[HistoryEvent]) -> usize {
    history.iter().filter(|event| event.entered().is_some()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_push_of_the_same_image_copies_nothing() {
    let scene = Scene::set(&TARGETS).await;
    let (pushed, _) = scene.replicate().await;
    let known = scene.stack.executions().await.unwrap();
    scene.stack.ecr().reset_stats();

    // The registry sends no event for a push that changes nothing: one that came late, or twice, does the same.
    scene.stack.replay_push(REPOSITORY, &pushed.digest, TAG).await.unwrap();
    let execution = scene.stack.execution_for(&pushed.digest, &known).await.unwrap();
    let execution = scene.finished(&execution.arn).await;
    assert_eq!(execution.status, ExecutionStatus::Succeeded, "{execution:?}");

    let (_, report) = scene.report(&execution).await;
    let stats = scene.stack.ecr().stats();
    for region in TARGETS {
        let target = target(&report, region);
        assert_eq!(target.status, Status::Unchanged);
        assert_eq!((target.manifests_copied, target.manifests_skipped), (0, report.image.manifests));
        assert_eq!((target.layers_copied, target.layers_skipped), (0, report.image.blobs));
        assert_eq!((target.bytes_copied, target.bytes_skipped), (0, report.image.bytes));
        assert!(calls(&stats, region, &["BatchCheckLayerAvailability"]) > 0, "{region} was asked");
        assert_eq!(
            calls(&stats, region, &["CreateRepository", "InitiateLayerUpload", "v2:POST upload", "PutImage"]),
            0,
            "{stats:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transient_fault_is_retried() {
    let scene = Scene::set(&TARGETS).await;
    let region = TARGETS[1];
    // Oftener than the SDK tries it: the first invocation fails, and the next succeeds.
    let fault = Fault::new("BatchCheckLayerAvailability", 500, "ServerException");
    scene.stack.ecr().fault(fault.in_region(region).times(4));
    let (_, execution) = scene.replicate().await;
    assert_eq!(execution.status, ExecutionStatus::Succeeded, "{execution:?}");

    let errors = scene.task_errors(&execution).await;
    assert!(!errors.is_empty() && errors.iter().all(|error| error == "RegistryUnavailable"), "{errors:?}");
    let (_, report) = scene.report(&execution).await;
    assert!(report.targets.iter().all(|target| target.status == Status::Replicated), "{report:#?}");
    assert_eq!(scene.read(region).await, scene.read(scene.stack.source()).await);
    for target in &report.targets {
        let retries = if target.region.as_str() == region { errors.len() } else { 0 };
        assert_eq!(target.retries, retries as u64, "{target:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_region_failing_for_good_leaves_the_others_whole() {
    let scene = Scene::set(&TARGETS).await;
    let failing = TARGETS[0];
    for fault in NO_LAYER {
        scene.stack.ecr().fault(fault().in_region(failing).for_ever());
    }
    let (_, execution) = scene.replicate().await;
    assert_eq!(execution.status, ExecutionStatus::Failed);
    assert_eq!(execution.error.as_deref(), Some("ReplicationIncomplete"));
    let cause = execution.cause.as_deref().unwrap();
    for part in [failing, REPOSITORY, "CopyLayers", "AccessDenied"] {
        assert!(cause.contains(part), "no {part} in: {cause}");
    }

    let source = scene.read(scene.stack.source()).await;
    for region in &TARGETS[1..] {
        assert_eq!(scene.read(region).await, source, "{region}");
    }
    scene.stack.registry(failing).await.unwrap().digest(REPOSITORY, TAG).await.unwrap_err();

    let (detail_type, report) = scene.report(&execution).await;
    assert_eq!((detail_type.as_str(), report.complete), ("Image Replication Incomplete", false));
    let failed = target(&report, failing);
    assert_eq!(failed.status, Status::Failed);
    assert_eq!((failed.step.as_deref(), failed.error.as_deref()), (Some("CopyLayers"), Some("AccessDenied")));
    assert!(TARGETS[1..].iter().all(|region| target(&report, region).status == Status::Replicated), "{report:#?}");

    // Each step's line has what it is found by, that of one that failed too.
    let logged = logged(&scene).await;
    let told = |message: &str, region: &str| told(&logged, message, region, &execution, source.digest.as_str());
    told("image resolved", scene.stack.source());
    told("the repository is there", failing);
    assert_eq!(told("failed", failing)["error"], "AccessDenied");
    told("layers copied", TARGETS[1]);
    assert_eq!(told("manifests put", TARGETS[1])["manifests_copied"], source.manifests.len());

    // The round's metrics are in the log, once, and they are what the report says.
    let logged: Vec<&Value> = logged.iter().filter(|line| line.get("_aws").is_some()).collect();
    let of_report: Vec<Value> = report::metrics::lines(&report, "ecr-replicator").collect();
    let sums = metrics::sums(logged);
    assert_eq!(sums, metrics::sums(&of_report));
    let sum = |region: &str, name: &str| sums.get(&(format!("ecr-replicator/{region}"), name.to_owned())).copied();
    assert_eq!((sum(failing, "Failed"), sum(failing, "ReplicationLag")), (Some(1.0), None));
    #[expect(clippy::cast_precision_loss, reason = "an image of this size")]
    let bytes = source.bytes() as f64;
    assert_eq!((sum(TARGETS[1], "Replicated"), sum(TARGETS[1], "BytesCopied")), (Some(1.0), Some(bytes)));
}

/// The lines of the functions' logs.
async fn logged(scene: &Scene) -> Vec<Value> {
    let logs = scene.stack.function_logs().await.unwrap();
    logs.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The line of an execution that says `message` of a region, which must have what it is found by.
fn told(logged: &[Value], message: &str, region: &str, execution: &Execution, digest: &str) -> Value {
    let name = execution.arn.rsplit(':').next().unwrap();
    let fields = logged.iter().map(|line| &line["fields"]);
    let mut fields = fields.filter(|it| it["message"] == message && it["region"] == region && it["execution"] == name);
    let fields = fields.next().unwrap_or_else(|| panic!("no line `{message}` for {region}: {logged:#?}"));
    assert_eq!((&fields["repository"], &fields["digest"]), (&json!(REPOSITORY), &json!(digest)), "{message}");
    fields.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_for_an_image_that_is_gone_ends_quietly() {
    let scene = Scene::set(&TARGETS).await;
    let gone = Digest::of(b"an image that was deleted before its event came");
    scene.stack.replay_push(REPOSITORY, &gone, TAG).await.unwrap();
    let execution = scene.stack.execution_for(&gone, &[]).await.unwrap();
    let execution = scene.finished(&execution.arn).await;
    assert_eq!(execution.status, ExecutionStatus::Succeeded, "{execution:?}");
    let output = execution.output.as_ref().unwrap();
    assert_eq!(output["nothingToDo"]["reason"], "IMAGE_GONE", "{output}");
    let line = told(&logged(&scene).await, "nothing to do", scene.stack.source(), &execution, gone.as_str());
    assert_eq!(line["reason"], "ImageGone");
    let stats = scene.stack.ecr().stats();
    assert!(calls(&stats, scene.stack.source(), &["BatchGetImage"]) > 0);
    assert!(TARGETS.iter().all(|region| !stats.regions.contains_key(*region)), "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_target_works() {
    // A list of one is where JSONata drops the list.
    let scene = Scene::set(&TARGETS[..1]).await;
    let (_, execution) = scene.replicate().await;
    assert_eq!(execution.status, ExecutionStatus::Succeeded, "{execution:?}");
    assert_eq!(scene.read(TARGETS[0]).await, scene.read(scene.stack.source()).await);
    let (_, report) = scene.report(&execution).await;
    assert_eq!((report.targets.len(), report.targets[0].status), (1, Status::Replicated));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_by_another_client_and_a_run_by_hand_do_the_same() {
    let scene = Scene::set(&TARGETS[..2]).await;
    let pushed = scene.stack.push(Client::OciClient, &scene.image, REPOSITORY, TAG).await.unwrap();
    let execution = scene.stack.execution_for(&pushed.digest, &[]).await.unwrap();
    let execution = scene.finished(&execution.arn).await;
    assert_eq!(execution.status, ExecutionStatus::Succeeded, "{execution:?}");
    let source = scene.read(scene.stack.source()).await;
    for region in &TARGETS[..2] {
        assert_eq!(scene.read(region).await, source, "{region}");
    }

    // To a region that no rule knows, and under another name.
    let (region, repository) = (TARGETS[2], "mirror/app");
    let execution = scene
        .start(json!({
            "image": {"repository": REPOSITORY, "tag": TAG},
            "targets": [{"region": region, "repository": repository}],
        }))
        .await;
    assert_eq!(execution.status, ExecutionStatus::Succeeded, "{execution:?}");
    assert_eq!(scene.stack.registry(region).await.unwrap().read(repository, TAG).await.unwrap(), source);
    let (_, report) = scene.report(&execution).await;
    assert_eq!((report.rule, report.targets[0].lag_ms), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_fails_by_name() {
    let scene = Scene::set(&TARGETS[..1]).await;
    let execution = scene
        .start(json!({
            "image": {"repository": REPOSITORY, "tag": TAG},
            "targets": [{"region": TARGETS[0]}, {"region": "Europe (Ireland)"}],
        }))
        .await;
    assert_eq!(execution.status, ExecutionStatus::Failed);
    assert_eq!(execution.error.as_deref(), Some("InvalidInput"));
    let cause = execution.cause.unwrap();
    assert!(cause.contains("targets[1].region") && cause.contains("Europe (Ireland)"), "{cause}");

    // Deeper than what serde_json reads into a value, which the Lambda runtime would refuse by a name of its own.
    let deep = (0..200).fold(Value::Null, |inner, _| json!([inner]));
    let execution = scene.start(json!({"image": {"repository": deep}, "targets": []})).await;
    assert_eq!(execution.error.as_deref(), Some("InvalidInput"), "{:?}", execution.cause);
    assert!(execution.cause.unwrap().contains("input.image.repository"));
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_cleaned_up_meanwhile_are_copied_again() {
    let sample = Sample { seed: 7, shared_layers: vec![8, 11 * 1024], own_layers: vec![512, 64], ..Sample::default() };
    let scene = Scene::of(&sample, Options { decided: true, ..Options::quick(&TARGETS) }).await;
    let region = TARGETS[2];
    // First it is tried again, and then it comes back.
    let mut puts = 0;
    scene.stack.decide(move |invocation| {
        let is_put = invocation.function == "put-manifest" && invocation.target() == Some(region);
        puts += usize::from(is_put);
        if is_put && puts == 1 { Fate::Failed("RegistryUnavailable".to_owned()) } else { Fate::Served }
    });
    scene.stack.ecr().fault(Fault::new("PutImage", 400, "LayersNotFoundException").in_region(region));
    let (_, execution) = scene.replicate().await;
    assert_eq!(execution.status, ExecutionStatus::Succeeded, "{execution:?}");
    assert_eq!(scene.task_errors(&execution).await, ["RegistryUnavailable", "LayersMissing"]);
    let (_, report) = scene.report(&execution).await;
    assert_eq!((target(&report, region).status, target(&report, region).retries), (Status::Replicated, 1));
    assert_eq!(scene.read(region).await, scene.read(scene.stack.source()).await);
    let checks = |region| scene.stack.ecr().stats().calls(region, "BatchCheckLayerAvailability");
    assert_eq!(checks(region), 2 * checks(TARGETS[0]), "CopyLayers looked again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_image_is_copied_by_several_functions_again_and_again() {
    let region = TARGETS[0];
    let sample = Sample { seed: 11, shared_layers: vec![LARGE; 5], own_layers: Vec::new(), ..Sample::default() };
    let copy_layers = CopyLayers { timeout_seconds: Some(10), max_shards: Some(2), ..CopyLayers::default() };
    // The two functions together move some 350 MiB before their time is over.
    let shape = Shape { bits_per_second: Some(400_000_000), near: Some(SOURCE.to_owned()), ..Shape::default() };
    let scene = Scene::of(&sample, Options { copy_layers, shape: Some(shape), ..Options::quick(&[region]) }).await;

    // First neither shard arrives: two failures become one target's.
    for fault in
        [Fault::new("v2:POST upload", 403, "DENIED"), Fault::new("InitiateLayerUpload", 400, "AccessDeniedException")]
    {
        scene.stack.ecr().fault(fault.in_region(region).for_ever());
    }
    let (pushed, execution) = scene.replicate().await;
    assert_eq!(execution.error.as_deref(), Some("ReplicationIncomplete"), "{execution:?}");
    assert_eq!(scene.task_errors(&execution).await, ["AccessDenied", "AccessDenied", "ReplicationIncomplete"]);
    let failed = scene.report(&execution).await.1.targets.remove(0);
    assert_eq!((failed.step.as_deref(), failed.error.as_deref()), (Some("CopyLayers"), Some("AccessDenied")));
    assert_eq!((failed.shards, failed.layers_copied, failed.layers_skipped), (0, 0, 0));

    // Then both do, each in several invocations.
    scene.stack.ecr().clear_faults();
    scene.stack.ecr().reset_stats();
    let known = scene.stack.executions().await.unwrap();
    scene.stack.replay_push(REPOSITORY, &pushed.digest, TAG).await.unwrap();
    let execution = scene.stack.execution_for(&pushed.digest, &known).await.unwrap();
    let execution = scene.finished(&execution.arn).await;
    assert_eq!(execution.status, ExecutionStatus::Succeeded, "{execution:?}");
    let source = scene.read(scene.stack.source()).await;
    assert_eq!(scene.read(region).await, source);

    let history = scene.stack.history(&execution.arn).await.unwrap();
    let copied = |event: &HistoryEvent| serde_json::from_value::<Copied>(event.task_payload()?).ok();
    let handed_out = history.iter().position(|event| copied(event).is_some()).unwrap();
    let shards = copied(&history[handed_out]).unwrap().shards;
    assert_eq!(shards.len(), 2);
    assert_eq!(shards.iter().map(|shard| shard.layers.len()).sum::<usize>(), source.blobs.len());
    let of_task = ["TaskScheduled", "TaskSucceeded", "TaskFailed"];
    let tasks = history[handed_out + 1..].iter().filter(|event| of_task.contains(&event.r#type.as_str()));
    let tasks: Vec<&str> = tasks.take(2).map(|event| event.r#type.as_str()).collect();
    assert_eq!(tasks, ["TaskScheduled", "TaskScheduled"], "the shards are copied side by side");
    let results: Vec<Copied> = history[handed_out + 1..].iter().filter_map(copied).collect();
    assert!(results.iter().all(|copied| copied.shards.is_empty()), "a shard is not divided again");
    assert_eq!(results.iter().filter(|copied| copied.done).count(), 2);
    assert!(results.len() > 2, "no shard took more than one invocation: {results:?}");
    // An attempt enters no state again; Step Functions bills it all the same.
    let again = results.len() - shards.len();
    assert_eq!(transitions(&history), 6 + 7 + 2 + 3 * shards.len() + 2 * again, "as the README has it");

    // What was handed out does not travel on, nor what was under way: there may be many layers, and many targets.
    let outcomes = history.iter().find_map(|event| event.output_of("ReplicateToTargets")).unwrap();
    let outcome = outcomes["outcomes"][0].as_object().unwrap();
    let members: Vec<&str> = outcome.keys().map(String::as_str).collect();
    assert_eq!(members, ["copied", "ensure", "put", "retries", "target"], "{outcomes}");

    let (_, report) = scene.report(&execution).await;
    let target = target(&report, region);
    assert_eq!((target.status, target.shards), (Status::Replicated, 2));
    assert_eq!((target.layers_copied, target.layers_skipped), (source.blobs.len(), 0));
    assert_eq!((target.bytes_copied, target.bytes_skipped), (source.bytes(), 0));
    let uploaded = scene.stack.ecr().stats().region(region).uploaded_bytes;
    // Twice goes what was streamed until that was seen to be too slow, and what the deadline cut off of a part.
    assert!((source.bytes()..source.bytes() * 3 / 2).contains(&uploaded), "{uploaded} of {}", source.bytes());
}

/// The media type of what cosign signs.
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// What cosign calls the image that signs, attests or describes `digest`.
fn cosign_tag(digest: &Digest, kind: &str) -> String {
    format!("{}.{kind}", digest.as_str().replace(':', "-"))
}

/// Writes an artifact of one layer as an OCI layout; one that refers to `subject`, if there is one.
fn artifact(directory: &Path, layer_type: &str, content: &str, subject: Option<&Digest>) -> (Image, Digest) {
    let blobs = directory.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |media_type: &str, content: &str| {
        let digest = Digest::of(content.as_bytes());
        std::fs::write(blobs.join(digest.as_str().trim_start_matches("sha256:")), content).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": content.len()})
    };
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let config = json!({"architecture": "", "os": "", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}});
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": manifest_type,
        "config": put("application/vnd.oci.image.config.v1+json", &config.to_string()),
        "layers": [put(layer_type, content)],
    });
    if let Some(subject) = subject {
        // What refers to an image says what it is: by that, an event pattern tells it from an image without a tag.
        manifest["artifactType"] = json!(layer_type);
        manifest["subject"] =
            json!({"mediaType": "application/vnd.oci.image.index.v1+json", "digest": subject, "size": 1});
    }
    let manifest = put(manifest_type, &manifest.to_string());
    let digest = manifest["digest"].as_str().unwrap().parse().unwrap();
    std::fs::write(directory.join("index.json"), json!({"schemaVersion": 2, "manifests": [manifest]}).to_string())
        .unwrap();
    std::fs::write(directory.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string()).unwrap();
    (Image::find(directory.to_str().unwrap()).unwrap(), digest)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_and_attested_image_of_three_platforms_arrives_whole() {
    let sample = Sample {
        seed: 21,
        shared_layers: vec![64],
        own_layers: vec![32],
        architectures: vec!["amd64", "arm64", "s390x"],
        attested: true,
    };
    let scene = Scene::of(&sample, Options::quick(&TARGETS[..2])).await;
    let (pushed, execution) = scene.replicate().await;
    assert_eq!(execution.status, ExecutionStatus::Succeeded, "{execution:?}");
    let source = scene.read(scene.stack.source()).await;
    assert_eq!(source.manifests.len(), 1 + 3 + 3, "an index, three platforms, and an attestation for each");

    // Then it is signed as cosign does it, once as a whole and once for a platform; described; and the description signed.
    let platform = source.manifests.keys().find(|digest| **digest != pushed.digest).unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut belonging = Vec::new();
    for (name, subject) in [("index", &pushed.digest), ("platform", platform)] {
        let (image, digest) =
            artifact(&home.path().join(name), SIMPLE_SIGNING, &format!("signature of {subject}"), None);
        let tag = cosign_tag(subject, "sig");
        assert_eq!(scene.stack.push(Client::installed(), &image, REPOSITORY, &tag).await.unwrap().digest, digest);
        belonging.push((digest, tag));
    }
    let (sbom, sbom_digest) = artifact(&home.path().join("sbom"), "text/spdx+json", "sbom", Some(&pushed.digest));
    let (signature, signature_digest) =
        artifact(&home.path().join("of the sbom"), SIMPLE_SIGNING, "of the sbom", Some(&sbom_digest));
    for (image, digest) in [(sbom, sbom_digest), (signature, signature_digest)] {
        // By digest, as referrers are pushed: skopeo knows no such push.
        scene.stack.push(Client::OciClient, &image, REPOSITORY, digest.as_str()).await.unwrap();
        belonging.push((digest.clone(), digest.to_string()));
    }
    for (digest, _) in &belonging {
        let execution = scene.stack.execution_for(digest, &[]).await.unwrap();
        let execution = scene.finished(&execution.arn).await;
        assert_eq!(execution.status, ExecutionStatus::Succeeded, "{execution:?}");
        let (_, report) = scene.report(&execution).await;
        assert!(report.complete, "{report:#?}");
    }

    // And to a region that has nothing yet, it goes with all of that in one run.
    // It takes fewer puts a second than there are, which costs no attempt.
    let late = TARGETS[2];
    scene.stack.ecr().limit_put_image(Some(4));
    let image = json!({"repository": REPOSITORY, "tag": TAG});
    let execution = scene.start(json!({"image": image, "targets": [{"region": late}]})).await;
    assert_eq!(execution.status, ExecutionStatus::Succeeded, "{execution:?}");
    assert_eq!(scene.task_errors(&execution).await, [] as [&str; 0]);
    let puts = 7 + belonging.len() as u64 + 1;
    assert!(scene.stack.ecr().stats().calls(late, "PutImage") > puts, "none was throttled");
    let (_, report) = scene.report(&execution).await;
    assert_eq!((report.image.manifests, report.image.referrers), (7, belonging.len()));
    assert_eq!(report.targets[0].referrers_copied, belonging.len());
    assert!(report.targets[0].throttled > 0, "{report:#?}");

    let view = |region: &str| scene.stack.ecr().view("000000000000", region, REPOSITORY).unwrap();
    let wanted = view(scene.stack.source());
    assert_eq!((wanted.images.len(), wanted.tags.len()), (7 + belonging.len(), 1 + 2));
    for region in TARGETS {
        assert_eq!(scene.read(region).await, source, "{region}");
        let registry = scene.stack.registry(region).await.unwrap();
        for (digest, name) in &belonging {
            assert_eq!(registry.read(REPOSITORY, name).await.unwrap().digest, *digest, "{name} in {region}");
        }
        assert_eq!(view(region), wanted, "every manifest and every tag of {region}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_deployments_that_replicate_to_each_other_go_quiet() {
    let there = TARGETS[0];
    let scene = Scene::set(&[there]).await;
    let here = scene.stack.source();
    let back = scene.stack.deploy_also(there, &[here]).await.unwrap();
    let (_, execution) = scene.replicate().await;
    assert_eq!(execution.status, ExecutionStatus::Succeeded, "{execution:?}");

    // Each of the three manifests is a push here and, put by the first deployment, a push there; the index's starts an execution.
    for (executions, region) in [(&back, there), (scene.stack.all_executions(), here)] {
        let ended = executions.when_all_have_ended(1, PATIENCE).await.unwrap();
        assert!(ended.iter().all(|execution| execution.status == ExecutionStatus::Succeeded), "{region}: {ended:#?}");
    }
    let stats = scene.stack.ecr().stats();
    assert_eq!(stats.calls(here, "PutImage"), 0, "nothing comes back: {stats:#?}");
    assert_eq!((stats.region(here).events_delivered, stats.region(there).events_delivered), (3, 3));
    assert_eq!(scene.read(there).await, scene.read(here).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_a_tag_waits_for_its_index_and_is_replicated_if_there_is_none() {
    let options = Options { untagged_images: true, wait_scale: 0.05, ..Options::quick(&TARGETS[..1]) };
    let sample = Sample { seed: 31, shared_layers: vec![8], own_layers: vec![8], ..Sample::default() };
    let scene = Scene::of(&sample, options).await;
    let pushed = scene.push().await;
    let index = scene.stack.execution_for(&pushed.digest, &[]).await.unwrap();
    assert_eq!(scene.finished(&index.arn).await.status, ExecutionStatus::Succeeded);
    let source = scene.read(scene.stack.source()).await;
    let platform = source.manifests.keys().find(|digest| **digest != pushed.digest).unwrap();
    let home = tempfile::tempdir().unwrap();
    let (lone, lone_digest) =
        artifact(&home.path().join("lone"), "application/vnd.oci.image.layer.v1.tar", "lone", None);
    scene.stack.push(Client::OciClient, &lone, REPOSITORY, lone_digest.as_str()).await.unwrap();

    let event = |digest: &Digest, age: Duration| {
        json!({
            "event": {
                "detail-type": "ECR Image Action", "region": scene.stack.source(), "time": Timestamp::now() - age,
                "detail": {
                    "action-type": "PUSH", "result": "SUCCESS", "repository-name": REPOSITORY,
                    "image-digest": digest, "image-tag": "",
                },
            },
            "rule": "all",
        })
    };
    // One that was pushed a moment ago may still get its index.
    let execution = scene.start(event(platform, Duration::from_secs(58))).await;
    let history = scene.stack.history(&execution.arn).await.unwrap();
    assert!(history.iter().any(|event| event.entered() == Some("AwaitIndex")), "{history:#?}");
    assert_eq!(execution.output.as_ref().unwrap()["nothingToDo"]["reason"], "IN_INDEX");
    let logged = logged(&scene).await;
    let told = |message: &str| told(&logged, message, scene.stack.source(), &execution, platform.as_str());
    told("waiting for an index");
    assert_eq!(told("nothing to do")["reason"], "InIndex");

    let execution = scene.start(event(&lone_digest, Duration::from_mins(2))).await;
    assert_eq!(execution.status, ExecutionStatus::Succeeded, "{execution:?}");
    let registry = scene.stack.registry(TARGETS[0]).await.unwrap();
    assert_eq!(registry.read(REPOSITORY, lone_digest.as_str()).await.unwrap().digest, lone_digest);
}

/// The stack's.
const ACCOUNT: &str = "000000000000";

#[tokio::test(flavor = "multi_thread")]
async fn what_the_packaged_functions_do_is_what_their_policies_allow() {
    let rules = json!({"all": {
        "repositories": {"include": ["prod/*"]},
        "tags": {"include": ["v*"]},
        "targets": [
            {"region": TARGETS[0]},
            {"region": TARGETS[1], "repository_prefix": "mirror/", "settings": "sync"},
        ],
    }});
    let sample = Sample { seed: 7, shared_layers: vec![8, 11 * 1024], own_layers: vec![512, 64], ..Sample::default() };
    let options = Options { rules: Some(rules.clone()), decided: true, ..Options::quick(&TARGETS[..2]) };
    let scene = Scene::of(&sample, options).await;
    let stack = &scene.stack;
    let (pushed, execution) = scene.replicate().await;
    assert_eq!(execution.status, ExecutionStatus::Succeeded, "{execution:?}");
    // A target loses it, and gets it back.
    let lost = stack.ecr_client(TARGETS[0]).delete_repository().repository_name(REPOSITORY).force(true);
    lost.send().await.unwrap();
    for input in [json!({"mode": "plan"}), json!({"mode": "repair"})] {
        let run = stack.start_reconcile(&input).await.unwrap();
        let run = stack.finished(&run, PATIENCE).await.unwrap();
        assert_eq!(run.status, ExecutionStatus::Succeeded, "{run:?}");
    }
    assert_eq!(scene.read(TARGETS[0]).await.digest, pushed.digest);

    let planned = Planned::of("terraform", ACCOUNT, &json!({"rules": rules, "package_dir": "./tests/packages"})).await;
    let (of_ecr, of_services) = (stack.ecr().asked(), stack.calls());
    for function in FUNCTIONS {
        let policy = planned.policy(&format!("aws_iam_role_policy.function[\"{function}\"]"));
        let of_services =
            of_services.iter().filter(|call| call.access_key == function).flat_map(
                |call| match serde_json::from_slice(&call.body) {
                    Ok(body) if call.operation.contains('.') => iam::asked_of_service(ACCOUNT, &call.operation, &body),
                    _ => iam::asked_of_s3(call),
                },
            );
        let asked: BTreeSet<_> =
            of_ecr.iter().filter(|asked| asked.access_key == function).cloned().chain(of_services).collect();
        assert!(!asked.is_empty(), "nobody saw {function} call anything");
        for question in asked {
            assert!(policy.allows(&question).is_some(), "{function} may not do what it does: {question:?}");
        }
    }
}
