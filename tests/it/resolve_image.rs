//! ResolveImage against the local ECR.

use ecr_local::Fault;
use resolve_image::{Input, Output, Reason, handle};
use serde_json::{Value, json};
use shared::{
    error::{ErrorName, Named as _},
    names::Digest,
    serve::decode,
};

use crate::world::{OCI_INDEX, OCI_MANIFEST, REPOSITORY, SOURCE, TARGET, World, manifest};

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
                "mediaType": OCI_INDEX, "manifests": 3, "blobs": 5, "bytes": 120_030,
                "pushedAt": "2026-11-16T01:54:34Z",
            },
            "rule": "all", "round": 1, "redrives": 0, "targets": [{"region": TARGET, "repository": REPOSITORY}], "settled": [],
        })
    );
}

#[tokio::test]
async fn an_untagged_index_is_replicated_whether_its_tag_is_absent_or_empty() {
    let world = World::start().await;
    let (digest, _) = world.push_index(None).await;
    for tag in [None, Some("")] {
        let output = resolve(&world, &event(&digest, tag)).await;
        assert_eq!(output.round.unwrap().image.tag, None, "{tag:?}");
    }
}

#[tokio::test]
async fn an_untagged_platform_is_left_to_its_index() {
    let world = World::start().await;
    let digest = world.push_image(None, &[b"config", b"layer"]).await;
    for tag in [None, Some("")] {
        let output = resolve(&world, &event(&digest, tag)).await;
        assert!(!output.replicate);
        assert_eq!(output.nothing_to_do.unwrap().reason, Reason::UntaggedManifest);
    }
    // A person who names it means it.
    let asked =
        json!({"image": {"repository": REPOSITORY, "digest": digest.as_str()}, "targets": [{"region": TARGET}]});
    assert!(resolve(&world, &asked).await.replicate);
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
