//! PutManifest against the local ECR.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aws_sdk_ecr::types::ImageTagMutability;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use ecr_local::{Config, Fault, RepeatedImmutableTagAnswer};
use put_manifest::{Error, handle};
use serde_json::{Value, json};
use shared::{
    contract::{Put, Status},
    error::{ErrorName, Named as _, diagnostic},
    names::Digest,
    registry::Registries,
    serve::{Deadline, decode},
};

use crate::world::{REPOSITORY, SOURCE, TARGET, World, layer, manifest, sdk_config, target_input};

fn in_time() -> Deadline {
    Deadline::told_by(|| Duration::from_mins(5))
}

async fn put(world: &World, digest: &Digest, tag: Option<&str>) -> Result<Put, Error> {
    handle(&world.registries().await, decode(target_input(digest, tag)).unwrap(), in_time()).await
}

/// A source with an index, and a target that has its blobs.
async fn world_with_index() -> (World, Digest, [Value; 2]) {
    let world = World::start().await;
    let (digest, children) = world.push_index(Some("v1")).await;
    world.create_repository(TARGET).await;
    for blob in [&layer(1, 50_000)[..], &layer(2, 40_000), &layer(3, 30_000), b"config of amd64", b"config of arm64"] {
        world.push_blob(TARGET, blob).await;
    }
    world.ecr.reset_stats();
    (world, digest, children)
}

/// A source with two single images, the tag `v1` on the second, and a target that has the blobs of both.
async fn world_with_two_images(config: Config) -> (World, Digest, Digest) {
    let world = World::start_with(config).await;
    let first = world.push_image(Some("v1"), &[b"config", b"first"]).await;
    let second = world.push_image(Some("v1"), &[b"config", b"second"]).await;
    world.create_repository(TARGET).await;
    for blob in [&b"config"[..], b"first", b"second"] {
        world.push_blob(TARGET, blob).await;
    }
    world.ecr.reset_stats();
    (world, first, second)
}

#[tokio::test]
async fn an_index_is_put_byte_for_byte_with_one_call_for_each_manifest() {
    let (world, digest, children) = world_with_index().await;
    let put = put(&world, &digest, Some("v1")).await.unwrap();
    assert_eq!((put.status, put.manifests_copied, put.manifests_skipped), (Status::Replicated, 3, 0));
    assert_eq!(world.calls(TARGET, "PutImage"), 3);
    assert_eq!(world.tagged(TARGET, "v1").await, Some(digest.clone()));
    assert_eq!(world.by_digest(TARGET, &digest).await, world.by_digest(SOURCE, &digest).await);
    for child in children {
        let child = child.to_string();
        assert_eq!(world.by_digest(TARGET, &Digest::of(child.as_bytes())).await, Some(child));
    }
}

#[tokio::test]
async fn an_image_that_is_there_is_not_put_again() {
    let (world, digest, _) = world_with_index().await;
    put(&world, &digest, Some("v1")).await.unwrap();
    world.ecr.reset_stats();
    let put = put(&world, &digest, Some("v1")).await.unwrap();
    assert_eq!((put.status, put.manifests_copied, put.manifests_skipped), (Status::Unchanged, 0, 3));
    assert_eq!(world.calls(TARGET, "PutImage"), 0, "a put that changes nothing would still be an event");
}

#[tokio::test]
async fn an_image_without_a_tag_stands_by_digest() {
    let (world, digest, _) = world_with_index().await;
    let put = put(&world, &digest, None).await.unwrap();
    assert_eq!(put.status, Status::Replicated);
    assert!(world.by_digest(TARGET, &digest).await.is_some());
    assert_eq!(world.tagged(TARGET, "v1").await, None);
}

#[tokio::test]
async fn a_run_beside_this_one_that_put_the_image_first_is_a_success() {
    let (world, digest, _) = world_with_index().await;
    world.ecr.fault(Fault { after: true, ..Fault::new("PutImage", 400, "ImageAlreadyExistsException").times(3) });
    put(&world, &digest, Some("v1")).await.unwrap();
    assert_eq!(world.tagged(TARGET, "v1").await, Some(digest));
}

#[tokio::test]
async fn throttling_slows_a_put_down_and_is_counted() {
    let (world, digest, _) = world_with_index().await;
    let registries = world.registries().await;
    // More often than the SDK tries, and at both ends; and by the key of the repository.
    for (operation, region, times) in [("PutImage", TARGET, 5), ("BatchGetImage", SOURCE, 2)] {
        world.ecr.fault(Fault::new(operation, 400, "ThrottleException").in_region(region).times(times));
    }
    let of_key = Fault::new("PutImage", 400, "KmsException").body(json!({"kmsError": "ThrottlingException"}));
    world.ecr.fault(of_key.in_region(TARGET));
    let input = || decode(target_input(&digest, Some("v1"))).unwrap();
    let put = handle(&registries, input(), in_time()).await.unwrap();
    assert_eq!((put.status, put.throttled), (Status::Replicated, 8));
    let put = handle(&registries, input(), in_time()).await.unwrap();
    assert_eq!(put.throttled, 0, "what the invocation before it met is not this one's");
}

#[tokio::test]
async fn no_tag_appears_while_a_blob_is_missing() {
    let world = World::start().await;
    let digest = world.push_image(Some("v1"), &[b"config", b"layer"]).await;
    world.create_repository(TARGET).await;
    world.push_blob(TARGET, b"config").await;
    let error = put(&world, &digest, Some("v1")).await.unwrap_err();
    assert_eq!(error.name(), ErrorName::LayersMissing);
    assert_eq!(world.tagged(TARGET, "v1").await, None);
}

#[tokio::test]
async fn a_tag_that_the_source_has_moved_on_is_left_to_the_newer_image() {
    let (world, first, second) = world_with_two_images(Config::default()).await;
    assert_eq!(put(&world, &first, Some("v1")).await.unwrap().status, Status::Superseded);
    assert_eq!(world.tagged(TARGET, "v1").await, None);
    assert!(world.by_digest(TARGET, &first).await.is_some(), "it may be pulled by digest");

    assert_eq!(put(&world, &second, Some("v1")).await.unwrap().status, Status::Replicated);
    assert_eq!(put(&world, &first, Some("v1")).await.unwrap().status, Status::Superseded);
    assert_eq!(world.tagged(TARGET, "v1").await, Some(second));
}

#[tokio::test]
async fn a_tag_that_the_source_has_deleted_is_not_made() {
    let (world, _, second) = world_with_two_images(Config::default()).await;
    let tag = aws_sdk_ecr::types::ImageIdentifier::builder().image_tag("v1").build();
    world.client(SOURCE).await.batch_delete_image().repository_name(REPOSITORY).image_ids(tag).send().await.unwrap();
    // The tag was the image's only one, so the image went with it: pushed again without a tag, it is there.
    world.push_image(None, &[b"config", b"second"]).await;
    assert_eq!(put(&world, &second, Some("v1")).await.unwrap().status, Status::Superseded);
    assert_eq!(world.tagged(TARGET, "v1").await, None);
}

async fn make_immutable(world: &World) {
    world
        .client(TARGET)
        .await
        .put_image_tag_mutability()
        .repository_name(REPOSITORY)
        .image_tag_mutability(ImageTagMutability::Immutable)
        .send()
        .await
        .unwrap();
}

#[tokio::test]
async fn an_immutable_tag_of_another_image_is_a_conflict_that_names_both() {
    let (world, first, second) = world_with_two_images(Config::default()).await;
    world.put(TARGET, &manifest(&[b"config", b"first"]), Some("v1")).await;
    make_immutable(&world).await;
    let error = put(&world, &second, Some("v1")).await.unwrap_err();
    assert_eq!(error.name(), ErrorName::TagConflict);
    let message = diagnostic(&error).error_message;
    assert!(message.contains(first.as_str()) && message.contains(second.as_str()), "{message}");
    assert_eq!(world.tagged(TARGET, "v1").await, Some(first));
    assert!(world.by_digest(TARGET, &second).await.is_some(), "it may be pulled by digest");
}

#[tokio::test]
async fn an_immutable_tag_of_the_same_image_is_a_success_whichever_error_says_so() {
    for repeated_immutable_tag in
        [RepeatedImmutableTagAnswer::ImageAlreadyExists, RepeatedImmutableTagAnswer::ImageTagAlreadyExists]
    {
        let (world, _, second) = world_with_two_images(Config { repeated_immutable_tag, ..Config::default() }).await;
        world.put(TARGET, &manifest(&[b"config", b"second"]), Some("v1")).await;
        make_immutable(&world).await;
        world.ecr.reset_stats();
        // The look at the target sees nothing, as when another run puts the image a moment later.
        let nothing = json!({"images": [], "failures": [{"failureCode": "ImageNotFound", "failureReason": ""}]});
        world.ecr.fault(Fault::of("BatchGetImage").body(nothing).in_region(TARGET));
        let put = put(&world, &second, Some("v1")).await;
        assert_eq!(put.unwrap().status, Status::Unchanged, "{repeated_immutable_tag:?}");
        assert_eq!(world.calls(TARGET, "PutImage"), 1, "the registry was asked, and refused");
    }
}

/// Passes calls on to the local ECR. At the first put of a tag the source's `v1` moves to the second image: after it was
/// put, and before the function has its answer; or before it, and that image's own run is through as well.
struct Overtaking {
    world: World,
    client: reqwest::Client,
    has_moved: AtomicBool,
    is_faster: bool,
}

impl Overtaking {
    /// The registries of a function whose calls it passes on.
    async fn serve(self: &Arc<Self>) -> Registries {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/", post(pass)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Registries::new(sdk_config(&endpoint, SOURCE).await).unwrap()
    }
}

async fn pass(State(overtaking): State<Arc<Overtaking>>, headers: HeaderMap, body: Bytes) -> (StatusCode, Bytes) {
    let world = &overtaking.world;
    let moves = headers["x-amz-target"].to_str().unwrap().ends_with(".PutImage")
        && body.windows(8).any(|bytes| bytes == b"imageTag")
        && !overtaking.has_moved.swap(true, Ordering::SeqCst);
    let second = manifest(&[b"config", b"second"]);
    if moves && overtaking.is_faster {
        for region in [SOURCE, TARGET] {
            world.put(region, &second, Some("v1")).await;
        }
    }
    let answer = overtaking.client.post(world.ecr.endpoint()).headers(headers).body(body).send().await.unwrap();
    if moves && !overtaking.is_faster {
        world.put(SOURCE, &second, Some("v1")).await;
    }
    (answer.status(), answer.bytes().await.unwrap())
}

#[tokio::test]
async fn a_run_that_is_overtaken_while_it_puts_the_tag_hands_it_back() {
    for newer_is_there in [true, false] {
        let (world, first, second) = world_with_two_images(Config::default()).await;
        world.put(SOURCE, &manifest(&[b"config", b"first"]), Some("v1")).await;
        if newer_is_there {
            world.put(TARGET, &manifest(&[b"config", b"second"]), None).await;
        }
        let (client, has_moved) = (reqwest::Client::new(), AtomicBool::new(false));
        let overtaking = Arc::new(Overtaking { world, client, has_moved, is_faster: false });
        let registries = overtaking.serve().await;
        let put = handle(&registries, decode(target_input(&first, Some("v1"))).unwrap(), in_time()).await.unwrap();
        assert_eq!(put.status, Status::Superseded);
        // Where the newer image is not whole yet, its own run puts the tag when it is.
        let holder = if newer_is_there { second } else { first };
        assert_eq!(overtaking.world.tagged(TARGET, "v1").await, Some(holder));
    }
}

#[tokio::test]
async fn an_immutable_tag_that_the_newer_image_has_first_is_no_conflict() {
    let (world, first, second) = world_with_two_images(Config::default()).await;
    world.put(SOURCE, &manifest(&[b"config", b"first"]), Some("v1")).await;
    make_immutable(&world).await;
    let (client, has_moved) = (reqwest::Client::new(), AtomicBool::new(false));
    let overtaking = Arc::new(Overtaking { world, client, has_moved, is_faster: true });
    let registries = overtaking.serve().await;
    let put = handle(&registries, decode(target_input(&first, Some("v1"))).unwrap(), in_time()).await.unwrap();
    assert_eq!(put.status, Status::Superseded);
    assert_eq!(overtaking.world.tagged(TARGET, "v1").await, Some(second));
    assert!(overtaking.world.by_digest(TARGET, &first).await.is_some(), "it may be pulled by digest");
}
