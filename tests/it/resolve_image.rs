//! ResolveImage against the local ECR.

use std::time::Duration;

use ecr_local::Fault;
use futures::StreamExt as _;
use jiff::Timestamp;
use resolve_image::{Input, Output, Reason, handle};
use serde_json::{Value, json};
use shared::{
    error::{ErrorName, Named as _},
    names::Digest,
    serve::decode,
};

use crate::world::{OCI_INDEX, OCI_MANIFEST, REPOSITORY, SOURCE, TARGET, World, index, manifest};

fn event(digest: &Digest, tag: Option<&str>) -> Value {
    let mut event = json!({
        "version": "0", "id": "13cde686-328b-6117-af20-0e5566167482", "detail-type": "ECR Image Action",
        "source": "aws.ecr", "account": "123456789012", "time": "2026-11-16T01:54:34Z", "region": SOURCE, "resources": [],
        "detail": {
            "result": "SUCCESS", "repository-name": REPOSITORY, "image-digest": digest.as_str(), "action-type": "PUSH",
            "manifest-media-type": OCI_INDEX, "artifact-media-type": "application/vnd.oci.image.config.v1+json",
        },
    });
    if let Some(tag) = tag {
        event["detail"]["image-tag"] = json!(tag);
    }
    json!({"event": event, "rule": "all", "targets": [{"region": TARGET}]})
}

fn input(execution_input: &Value) -> Input {
    decode(json!({"execution": "test", "input": execution_input})).unwrap()
}

async fn resolve(world: &World, execution_input: &Value) -> Output {
    handle(&world.registries().await, input(execution_input)).await.unwrap()
}

/// The error of an input: of its decoding, or of the handler.
async fn refusal(world: &World, execution_input: &Value) -> (String, String) {
    match decode::<Input>(json!({"execution": "test", "input": execution_input})) {
        Err(diagnostic) => (diagnostic.error_type, diagnostic.error_message),
        Ok(input) => {
            let error = handle(&world.registries().await, input).await.unwrap_err();
            (error.name().to_string(), error.to_string())
        }
    }
}

#[tokio::test]
async fn a_push_is_pinned_and_counted() {
    let world = World::start().await;
    let (digest, _) = world.push_index(Some("v1")).await;
    let output = resolve(&world, &event(&digest, Some("v1"))).await;
    assert!(output.replicate);
    assert_eq!(
        serde_json::to_value(output).unwrap(),
        json!({
            "replicate": true,
            "image": {
                "region": SOURCE, "repository": REPOSITORY, "digest": digest.as_str(), "tag": "v1",
                // Two configs of 15 bytes, one shared layer, one layer for each platform.
                "mediaType": OCI_INDEX, "manifests": 3, "referrers": 0, "referrersLeftOut": 0, "blobs": 5, "bytes": 120_030,
                "pushedAt": "2026-11-16T01:54:34Z",
            },
            "referrers": [], "rule": "all", "round": 1, "redrives": 0, "targets": [{"region": TARGET, "repository": REPOSITORY}], "settled": [],
        })
    );
}

/// An event of an untagged push, to a rule that asks for such, `age` after the push.
fn untagged_event(digest: &Digest, age: Duration) -> Value {
    let mut event = event(digest, Some(""));
    event["untagged"] = json!(true);
    event["event"]["time"] = json!(Timestamp::now() - age);
    event
}

#[tokio::test]
async fn what_is_pushed_without_a_tag_is_left_alone_unless_the_rule_asks_for_it() {
    let world = World::start().await;
    let image = world.push_image(None, &[b"config", b"layer"]).await;
    let (index, _) = world.push_index(None).await;
    for digest in [&image, &index] {
        for tag in [None, Some("")] {
            let output = resolve(&world, &event(digest, tag)).await;
            assert!(!output.replicate);
            assert_eq!(output.nothing_to_do.unwrap().reason, Reason::Untagged);
        }
        // A person who names it means it.
        let image = json!({"repository": REPOSITORY, "digest": digest.as_str()});
        assert!(resolve(&world, &json!({"image": image, "targets": [{"region": TARGET}]})).await.replicate);
        let output = resolve(&world, &untagged_event(digest, Duration::from_mins(2))).await;
        assert_eq!(output.round.unwrap().image.tag, None);
    }
}

#[tokio::test]
async fn an_untagged_image_is_looked_for_in_an_index_when_that_has_had_time_to_follow() {
    let world = World::start().await;
    let (index, children) = world.push_index(None).await;
    let child = Digest::of(children[1].to_string().as_bytes());
    let output = resolve(&world, &untagged_event(&child, Duration::from_secs(20))).await;
    assert!(!output.replicate);
    assert!(output.await_index && output.nothing_to_do.is_none(), "{output:?}");

    let output = resolve(&world, &untagged_event(&child, Duration::from_mins(2))).await;
    let nothing_to_do = output.nothing_to_do.unwrap();
    assert_eq!(nothing_to_do.reason, Reason::InIndex);
    assert!(nothing_to_do.message.contains(index.as_str()), "{}", nothing_to_do.message);
}

#[tokio::test]
async fn what_belongs_to_an_image_is_found_with_what_belongs_to_that() {
    let world = World::start().await;
    let (digest, children) = world.push_index(Some("v1")).await;
    let child = Digest::of(children[0].to_string().as_bytes());
    let sbom = world.refer(&digest, "sbom", None).await;
    let signed_sbom = world.refer(&sbom, "signature of the sbom", None).await;
    let tag = |digest: &Digest, kind: &str| format!("{}.{kind}", digest.as_str().replace(':', "-"));
    let signature = world.push_image(Some(&tag(&digest, "sig")), &[b"config", b"signature"]).await;
    let attestation = world.push_image(Some(&tag(&child, "att")), &[b"config", b"attestation"]).await;
    let of_attestation = world.push_image(Some(&tag(&attestation, "sig")), &[b"config", b"of the attestation"]).await;
    world.push_image(Some("sha256-00.sig"), &[b"config", b"of something else"]).await;

    let round = resolve(&world, &event(&digest, Some("v1"))).await.round.unwrap();
    let found: Vec<(&Digest, Option<String>)> =
        round.referrers.iter().map(|found| (&found.digest, found.tag.as_ref().map(ToString::to_string))).collect();
    assert_eq!(found.len(), 5, "{found:#?}");
    for wanted in [
        (&sbom, None),
        (&signed_sbom, None),
        (&signature, Some(tag(&digest, "sig"))),
        (&attestation, Some(tag(&child, "att"))),
        (&of_attestation, Some(tag(&attestation, "sig"))),
    ] {
        assert!(found.contains(&wanted), "{wanted:?} is not in {found:#?}");
    }
    let place = |digest| found.iter().position(|(found, _)| *found == digest).unwrap();
    assert!(
        place(&sbom) < place(&signed_sbom) && place(&attestation) < place(&of_attestation),
        "each after its subject"
    );
    assert_eq!((round.image.manifests, round.image.referrers, round.image.referrers_left_out), (3, 5, 0));
    assert_eq!(round.image.blobs, 5 + 2 + 5, "two configs, and a layer of each");
}

#[tokio::test]
async fn what_is_in_the_index_itself_is_not_looked_for_beside_it() {
    let world = World::start().await;
    let image = world.push_image(None, &[b"config", b"layer"]).await;
    let statement = World::referrer(&image, b"statement", "in the index");
    for blob in [&b"{}"[..], b"statement"] {
        world.push_blob(SOURCE, blob).await;
    }
    world.put(SOURCE, &statement, None).await;
    let digest = world.put(SOURCE, &index(&[&manifest(&[b"config", b"layer"]), &statement]), Some("v1")).await;
    let round = resolve(&world, &event(&digest, Some("v1"))).await.round.unwrap();
    assert_eq!((round.image.manifests, round.referrers), (3, Vec::new()));
}

#[tokio::test]
async fn referrers_without_number_are_counted_and_not_carried() {
    let world = World::start().await;
    let digest = world.push_image(Some("v1"), &[b"config", b"layer"]).await;
    for blob in [&b"{}"[..], b"scan"] {
        world.push_blob(SOURCE, blob).await;
    }
    let scans: Vec<Value> = (0..503).map(|number| World::referrer(&digest, b"scan", &number.to_string())).collect();
    futures::stream::iter(&scans)
        .for_each_concurrent(16, |scan| async { drop(world.put(SOURCE, scan, None).await) })
        .await;
    let round = resolve(&world, &event(&digest, Some("v1"))).await.round.unwrap();
    assert_eq!((round.image.referrers, round.image.referrers_left_out), (500, 3));
    assert!(serde_json::to_vec(&round).unwrap().len() < 64 * 1024, "Step Functions carries 256 KiB");
}

#[tokio::test]
async fn schema_1_is_refused_by_name() {
    let world = World::start().await;
    world.push_blob(SOURCE, b"layer").await;
    let schema_1 = json!({
        "schemaVersion": 1, "name": "prod/app", "tag": "v1", "architecture": "amd64",
        "fsLayers": [{"blobSum": Digest::of(b"layer")}], "history": [{"v1Compatibility": "{}"}],
        "mediaType": "application/vnd.docker.distribution.manifest.v1+json",
    });
    let digest = world.put(SOURCE, &schema_1, Some("v1")).await;
    let (error, message) = refusal(&world, &event(&digest, Some("v1"))).await;
    assert_eq!(error, "InvalidInput");
    assert!(message.contains("schema 1") && message.contains("push it again"), "{message}");
}

#[tokio::test]
async fn a_referrer_is_replicated_by_its_own_push() {
    let world = World::start().await;
    let subject = world.push_image(None, &[b"config", b"layer"]).await;
    world.push_blob(SOURCE, b"signature").await;
    let mut signature = manifest(&[b"config", b"signature"]);
    signature["subject"] = json!({"mediaType": OCI_MANIFEST, "digest": subject.as_str(), "size": 1});
    let digest = world.put(SOURCE, &signature, None).await;
    assert!(resolve(&world, &event(&digest, None)).await.replicate, "no index will follow it");
}

#[tokio::test]
async fn an_image_that_is_gone_ends_the_execution_early() {
    let world = World::start().await;
    let output = resolve(&world, &event(&Digest::of(b"nothing"), Some("v1"))).await;
    assert!(!output.replicate);
    assert_eq!(output.nothing_to_do.unwrap().reason, Reason::ImageGone);

    world.client(SOURCE).await.delete_repository().repository_name(REPOSITORY).send().await.unwrap();
    let output = resolve(&world, &event(&Digest::of(b"nothing"), Some("v1"))).await;
    assert_eq!(output.nothing_to_do.unwrap().reason, Reason::ImageGone);
}

#[tokio::test]
async fn a_tag_that_a_person_names_is_resolved_once() {
    let world = World::start().await;
    let digest = world.push_image(Some("v1"), &[b"config", b"layer"]).await;
    let asked = json!({
        "image": {"repository": REPOSITORY, "tag": "v1"},
        "targets": [{"region": TARGET}, {"region": TARGET, "repository": "mirror/app"}, {"region": TARGET}],
    });
    let round = resolve(&world, &asked).await.round.unwrap();
    assert_eq!(round.image.digest, digest);
    assert_eq!(round.image.pushed_at, None);
    let targets: Vec<&str> = round.targets.iter().map(|target| target.repository.as_str()).collect();
    assert_eq!(targets, [REPOSITORY, "mirror/app"], "the same target twice is one target");
}

#[tokio::test]
async fn what_a_person_names_and_is_not_there_is_an_error() {
    let world = World::start().await;
    for (image, name) in [
        (json!({"repository": REPOSITORY, "tag": "v9"}), ErrorName::ImageNotFound),
        (json!({"repository": REPOSITORY, "digest": Digest::of(b"x").as_str()}), ErrorName::ImageNotFound),
        (json!({"repository": "no/such", "tag": "v1"}), ErrorName::RepositoryNotFound),
        (json!({"repository": "no/such", "digest": Digest::of(b"x").as_str()}), ErrorName::ImageNotFound),
    ] {
        let (error, message) = refusal(&world, &json!({"image": image, "targets": [{"region": TARGET}]})).await;
        assert_eq!(error, name.as_str(), "{message}");
    }
}

#[tokio::test]
async fn bad_input_is_refused_by_field() {
    let world = World::start().await;
    let digest = Digest::of(b"x");
    let edit = |change: fn(&mut Value)| {
        let mut input = event(&digest, Some("v1"));
        change(&mut input);
        input
    };
    let asked = |image: Value| json!({"image": image, "targets": [{"region": TARGET}]});
    for (input, field) in [
        (json!({}), "input: missing field `targets`"),
        (json!({"targets": [{"region": TARGET}]}), "input: needs either `event` or `image`"),
        (edit(|input| input["image"] = json!({"repository": REPOSITORY, "tag": "v1"})), "input: needs either"),
        (edit(|input| input["tragets"] = json!([])), "input.tragets: unknown field `tragets`"),
        (edit(|input| input["targets"] = json!([])), "targets: is empty"),
        (
            edit(|input| input["targets"] = json!([{"region": "Mars"}])),
            "input.targets[0].region: malformed region `Mars`",
        ),
        (edit(|input| input["targets"] = json!([{"region": SOURCE}])), "targets[0]: is the source itself"),
        (
            edit(|input| input["targets"] = json!([{"region": TARGET, "repository": "A"}])),
            "input.targets[0].repository: malformed repository name `A`",
        ),
        (
            edit(|input| input["event"]["detail"]["image-digest"] = json!("sha256:1")),
            "input.event.detail.image-digest: malformed digest `sha256:1`",
        ),
        (
            edit(|input| input["event"]["detail"]["image-tag"] = json!("a b")),
            "input.event.detail.image-tag: malformed image tag `a b`",
        ),
        (
            edit(|input| input["event"]["detail"]["repository-name"] = json!("")),
            "input.event.detail.repository-name: malformed repository name",
        ),
        (
            edit(|input| input["event"]["detail"]["action-type"] = json!("DELETE")),
            "event.detail.action-type: is `DELETE`",
        ),
        (edit(|input| input["event"]["detail"]["result"] = json!("FAILURE")), "event.detail.result: is `FAILURE`"),
        (edit(|input| input["event"]["detail-type"] = json!("ECR Image Scan")), "event.detail-type: is"),
        (edit(|input| input["event"]["region"] = json!("us-east-1")), "event.region: is us-east-1"),
        (edit(|input| input["event"]["time"] = json!("yesterday")), "input.event.time: "),
        (asked(json!({"repository": REPOSITORY})), "image: needs a `tag`, a `digest`, or both"),
        (asked(json!({"tag": "v1"})), "input.image: missing field `repository`"),
    ] {
        let (error, message) = refusal(&world, &input).await;
        assert_eq!(error, "InvalidInput", "{message}");
        assert!(message.starts_with(field), "{message} does not begin with {field}");
    }
    assert_eq!(world.calls(SOURCE, "BatchGetImage"), 0, "bad input costs no call");
}

#[tokio::test]
async fn a_tag_and_a_digest_that_disagree_are_refused() {
    let world = World::start().await;
    let first = world.push_image(Some("v1"), &[b"config", b"first"]).await;
    let second = world.push_image(Some("v1"), &[b"config", b"second"]).await;
    let asked = |digest: &Digest| {
        let image = json!({"repository": REPOSITORY, "tag": "v1", "digest": digest.as_str()});
        json!({"image": image, "targets": [{"region": TARGET}]})
    };
    let (error, message) = refusal(&world, &asked(&first)).await;
    assert_eq!(error, "InvalidInput");
    assert_eq!(message, format!("image.tag: points at {second}, and not at {first}"));
    assert_eq!(resolve(&world, &asked(&second)).await.round.unwrap().image.digest, second);
}

#[tokio::test]
async fn an_index_whose_platform_cannot_be_read_is_not_taken_for_gone() {
    let world = World::start().await;
    let (digest, _) = world.push_index(Some("v1")).await;
    // An answer without images, to the question for the index's manifests.
    world.ecr.fault(Fault::new("BatchGetImage", 200, "").skip(1));
    let (error, message) = refusal(&world, &event(&digest, Some("v1"))).await;
    assert_eq!(error, "RegistryUnavailable", "{message}");
}
