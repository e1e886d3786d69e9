//! CopyLayers against the local ECR.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use aws_sdk_ecr::primitives::Blob;
use copy_layers::{Dependencies, Error, handle};
use ecr_local::{Config, Fault, MissingLayerAnswer};
use serde_json::json;
use shared::{
    contract::{Copied, Cursor, Upload},
    error::{ErrorName, Named as _},
    layer::Hash,
    names::Digest,
    serve::{Deadline, decode},
};

use crate::world::{PART_SIZE, REPOSITORY, SOURCE, TARGET, World, layer, manifest, target_input};

const FUNCTION_MEMORY: i32 = 256;

async fn copy_from(
    world: &World,
    digest: &Digest,
    cursor: Option<Cursor>,
    deadline: Deadline,
) -> Result<Copied, Error> {
    let mut input = target_input(digest, None);
    input["cursor"] = json!(cursor);
    let dependencies = Dependencies::new(world.registries().await, FUNCTION_MEMORY).unwrap();
    handle(&dependencies, decode(input).unwrap(), deadline).await
}

fn deadline_in(time: Duration) -> Deadline {
    Deadline::at(SystemTime::now() + time)
}

/// A deadline by a clock that goes on by ten seconds whenever it is looked at: where the copy stops does not depend on
/// how fast this machine is.
fn deadline_after_looks(looks: u64) -> Deadline {
    let looked = AtomicU64::new(0);
    Deadline::told_by(move || {
        Duration::from_secs(10) * u32::try_from(looks.saturating_sub(looked.fetch_add(1, Ordering::Relaxed))).unwrap()
    })
}

async fn copy(world: &World, digest: &Digest) -> Result<Copied, Error> {
    copy_from(world, digest, None, deadline_in(Duration::from_mins(15))).await
}

/// A source with an image of one layer of four and a half parts, and an empty target.
async fn world_with_layer(config: Config) -> (World, Digest, Vec<u8>) {
    let world = World::start_with(config).await;
    world.create_repository(TARGET).await;
    let content = layer(7, usize::try_from(PART_SIZE).unwrap() * 9 / 2);
    let digest = world.push_image(Some("v1"), &[b"config", &content]).await;
    world.ecr.reset_stats();
    (world, digest, content)
}

/// Puts the image's manifest at the target: the registry refuses it unless every blob is there.
async fn assert_whole(world: &World, content: &[u8]) {
    world.put(TARGET, &manifest(&[b"config", content]), Some("whole")).await;
}

#[tokio::test]
async fn every_missing_blob_is_copied_in_parts() {
    let (world, digest, content) = world_with_layer(Config::default()).await;
    let copied = copy(&world, &digest).await.unwrap();
    assert!(copied.done);
    assert_eq!((copied.cursor.layers_copied, copied.cursor.bytes_copied), (2, content.len() as u64 + 6));
    assert_eq!((copied.layers_skipped, copied.bytes_skipped, copied.layers_foreign), (0, 0, 0));
    assert!(copied.cursor.uploads.is_empty());
    assert_eq!(world.calls(TARGET, "UploadLayerPart"), 5 + 1, "five parts of the layer, one of the config");
    assert_eq!(world.uploaded(TARGET), content.len() as u64 + 6);
    assert_eq!(world.calls(SOURCE, "GetDownloadUrlForLayer"), 2, "one URL serves a whole layer");
    assert_whole(&world, &content).await;
}

#[tokio::test]
async fn a_blob_that_is_there_is_not_sent_whichever_way_the_registry_says_so() {
    for missing_layer in [MissingLayerAnswer::Unavailable, MissingLayerAnswer::MissingLayerDigest] {
        let (world, digest, content) = world_with_layer(Config { missing_layer, ..Config::default() }).await;
        world.push_blob(TARGET, &content).await;
        world.ecr.reset_stats();
        let copied = copy(&world, &digest).await.unwrap();
        assert_eq!((copied.cursor.layers_copied, copied.layers_skipped), (1, 1));
        assert_eq!((copied.cursor.bytes_copied, copied.bytes_skipped), (6, content.len() as u64));
        assert_eq!(world.uploaded(TARGET), 6);
        let again = copy(&world, &digest).await.unwrap();
        assert_eq!((again.cursor.layers_copied, again.layers_skipped), (0, 2));
        assert_eq!(world.uploaded(TARGET), 6, "nothing is sent twice");
    }
}

#[tokio::test]
async fn a_hundred_and_one_blobs_are_checked_in_two_calls() {
    let world = World::start().await;
    world.create_repository(TARGET).await;
    let layers: Vec<Vec<u8>> = (0..100).map(|seed| layer(100 + seed, 200)).collect();
    let blobs: Vec<&[u8]> = std::iter::once(&b"config"[..]).chain(layers.iter().map(Vec::as_slice)).collect();
    let digest = world.push_image(Some("v1"), &blobs).await;
    let copied = copy(&world, &digest).await.unwrap();
    assert_eq!(copied.cursor.layers_copied, 101);
    assert_eq!(world.calls(TARGET, "BatchCheckLayerAvailability"), 2);
}

#[tokio::test]
async fn a_foreign_layer_is_counted_and_never_fetched() {
    let world = World::start().await;
    world.create_repository(TARGET).await;
    world.push_blob(SOURCE, b"config").await;
    let mut image = manifest(&[b"config"]);
    image["layers"] = json!([{
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "digest": Digest::of(b"windows").as_str(), "size": 7, "urls": [format!("{}/elsewhere", world.ecr.endpoint())],
    }]);
    let digest = world.put(SOURCE, &image, None).await;
    world.ecr.reset_stats();
    let copied = copy(&world, &digest).await.unwrap();
    assert_eq!((copied.cursor.layers_copied, copied.layers_foreign), (1, 1));
    assert_eq!(world.calls(SOURCE, "DownloadLayer"), 1, "the config alone");
}

#[tokio::test]
async fn an_expired_url_is_renewed() {
    let (world, digest, content) = world_with_layer(Config::default()).await;
    world.ecr.fault(Fault::new("DownloadLayer", 403, "AccessDenied").in_region(SOURCE).skip(2).times(2));
    copy(&world, &digest).await.unwrap();
    assert_eq!(world.calls(SOURCE, "GetDownloadUrlForLayer"), 2 + 2);
    assert_whole(&world, &content).await;
}

#[tokio::test]
async fn urls_that_expire_at_once_end_as_a_named_error() {
    let (world, digest, _) = world_with_layer(Config { url_ttl: Duration::ZERO, ..Config::default() }).await;
    let error = copy(&world, &digest).await.unwrap_err();
    assert_eq!(error.name(), ErrorName::RegistryUnavailable);
}

#[tokio::test]
async fn near_the_deadline_it_stops_and_goes_on_at_the_next_byte() {
    let world = World::start().await;
    world.create_repository(TARGET).await;
    let parts = 60;
    let content = layer(8, usize::try_from(PART_SIZE).unwrap() * parts);
    let digest = world.push_image(Some("v1"), &[b"config", &content]).await;
    world.ecr.reset_stats();
    let (mut cursor, mut invocations) = (None, 0);
    let copied = loop {
        invocations += 1;
        let copied = copy_from(&world, &digest, cursor, deadline_after_looks(20)).await.unwrap();
        if copied.done {
            break copied;
        }
        // What the state machine carries is what the function wrote.
        cursor = serde_json::from_value(serde_json::to_value(copied.cursor).unwrap()).unwrap();
    };
    assert!(invocations > 2, "the layer was meant to need several invocations");
    assert_eq!((copied.cursor.layers_copied, copied.layers_skipped), (2, 0));
    assert_eq!(world.calls(TARGET, "UploadLayerPart"), parts as u64 + 1, "no part is sent twice");
    assert_eq!(world.calls(TARGET, "InitiateLayerUpload"), 2, "no layer starts again");
    assert_eq!(world.calls(SOURCE, "DownloadLayer"), parts as u64 + 1, "no part is read twice");
    assert_whole(&world, &content).await;
}

#[tokio::test]
async fn an_error_that_may_pass_does_not_cost_what_others_have_sent() {
    let (world, digest, content) = world_with_layer(Config::default()).await;
    // The layer is begun first and stops midway; the config cannot begin.
    world.ecr.fault(Fault::new("InitiateLayerUpload", 429, "TooManyRequestsException").skip(1).times(3));
    let stopped = copy_from(&world, &digest, None, deadline_after_looks(5)).await.unwrap();
    assert!(!stopped.done);
    assert_eq!(stopped.cursor.uploads.len(), 1);
    let copied = copy_from(&world, &digest, Some(stopped.cursor), deadline_in(Duration::from_mins(15))).await.unwrap();
    assert_eq!(copied.cursor.layers_copied, 2);
    assert_eq!(world.uploaded(TARGET), content.len() as u64 + 6, "no byte is sent twice");

    // One that will not pass is told at once.
    let (world, digest, _) = world_with_layer(Config::default()).await;
    world.ecr.fault(Fault::new("InitiateLayerUpload", 400, "AccessDeniedException").skip(1));
    let error = copy_from(&world, &digest, None, deadline_after_looks(5)).await.unwrap_err();
    assert_eq!(error.name(), ErrorName::AccessDenied);
}

#[tokio::test]
async fn a_part_that_stalls_is_given_up_in_time() {
    let (world, digest, content) = world_with_layer(Config::default()).await;
    let stall = Fault { delay_ms: Some(60_000), ..Fault::new("UploadLayerPart", 500, "ServerException") };
    world.ecr.fault(stall.skip(4));
    let stopped = copy_from(&world, &digest, None, Deadline::told_by(|| Duration::from_secs(5))).await.unwrap();
    assert!(!stopped.done);
    world.ecr.clear_faults();
    let copied = copy_from(&world, &digest, Some(stopped.cursor), deadline_in(Duration::from_mins(15))).await.unwrap();
    assert!(copied.done);
    assert_eq!(world.calls(TARGET, "InitiateLayerUpload"), 2, "no layer starts again");
    assert_whole(&world, &content).await;
}

#[tokio::test]
async fn an_invocation_without_time_says_so() {
    let (world, digest, _) = world_with_layer(Config::default()).await;
    let error = copy_from(&world, &digest, None, deadline_in(Duration::from_secs(1))).await.unwrap_err();
    assert_eq!(error.name(), ErrorName::RegistryUnavailable);
    assert!(error.to_string().starts_with("no part of any layer could be sent"), "{error}");
}

#[tokio::test]
async fn a_part_whose_answer_was_lost_counts_as_sent() {
    let (world, digest, content) = world_with_layer(Config::default()).await;
    world.ecr.fault(Fault { after: true, ..Fault::new("UploadLayerPart", 500, "ServerException").skip(2) });
    let copied = copy(&world, &digest).await.unwrap();
    assert_eq!(copied.cursor.layers_copied, 2);
    assert_eq!(world.calls(TARGET, "InitiateLayerUpload"), 2, "no layer starts again");
    assert_eq!(world.calls(SOURCE, "DownloadLayer"), 5 + 1, "no part is read again");
    assert_whole(&world, &content).await;
}

#[tokio::test]
async fn a_completion_whose_answer_was_lost_counts_as_done() {
    let (world, digest, content) = world_with_layer(Config::default()).await;
    world.ecr.fault(Fault { after: true, ..Fault::new("CompleteLayerUpload", 500, "ServerException").times(2) });
    copy(&world, &digest).await.unwrap();
    assert_eq!(world.calls(TARGET, "InitiateLayerUpload"), 2, "no layer starts again");
    assert_whole(&world, &content).await;
}

#[tokio::test]
async fn a_layer_whose_upload_is_lost_starts_again_and_no_other() {
    let (world, digest, content) = world_with_layer(Config::default()).await;
    world.ecr.fault(Fault::new("UploadLayerPart", 400, "UploadNotFoundException").skip(3));
    copy(&world, &digest).await.unwrap();
    assert_eq!(world.calls(TARGET, "InitiateLayerUpload"), 3);
    assert_whole(&world, &content).await;
}

#[tokio::test]
async fn uploads_that_are_always_lost_end_as_a_named_error() {
    let (world, digest, _) = world_with_layer(Config::default()).await;
    world.ecr.fault(Fault::new("UploadLayerPart", 400, "UploadNotFoundException").for_ever());
    let error = copy(&world, &digest).await.unwrap_err();
    assert_eq!(error.name(), ErrorName::UploadLost);
}

#[tokio::test]
async fn a_layer_that_another_run_completed_is_done() {
    let (world, digest, content) = world_with_layer(Config::default()).await;
    world.ecr.fault(Fault::new("CompleteLayerUpload", 400, "LayerAlreadyExistsException").times(2));
    let copied = copy(&world, &digest).await.unwrap();
    assert_eq!(copied.cursor.layers_copied, 2);
    drop(content);
}

/// An upload at the target that has the layer's first `parts` parts.
async fn begun(world: &World, content: &[u8], parts: u64) -> String {
    let client = world.client(TARGET).await;
    let upload = client.initiate_layer_upload().repository_name(REPOSITORY).send().await.unwrap();
    let id = upload.upload_id().unwrap().to_owned();
    for part in 0..parts {
        let range = part * PART_SIZE..(part + 1) * PART_SIZE;
        client
            .upload_layer_part()
            .repository_name(REPOSITORY)
            .upload_id(&id)
            .part_first_byte(range.start.try_into().unwrap())
            .part_last_byte((range.end - 1).try_into().unwrap())
            .layer_part_blob(Blob::new(&content[range.start.try_into().unwrap()..range.end.try_into().unwrap()]))
            .send()
            .await
            .unwrap();
    }
    id
}

/// A cursor that says that the registry has `received` bytes, `hashed` of which are hashed.
fn cursor(content: &[u8], upload_id: String, received: u64, hashed: &[u8]) -> Cursor {
    let mut hash = Hash::default();
    hash.update(hashed);
    let upload = Upload {
        digest: Digest::of(content),
        upload_id,
        part_size: PART_SIZE,
        received,
        hashed: hash.position(),
        hash: hash.save(),
    };
    Cursor { uploads: vec![upload], ..Cursor::default() }
}

#[tokio::test]
async fn a_registry_that_is_ahead_or_behind_decides_where_to_go_on() {
    for (has, said) in [(3, 1), (1, 3), (2, 0), (2, 2)] {
        let (world, digest, content) = world_with_layer(Config::default()).await;
        let id = begun(&world, &content, has).await;
        let said = said * PART_SIZE;
        let cursor = cursor(&content, id, said, &content[..usize::try_from(said).unwrap()]);
        let copied = copy_from(&world, &digest, Some(cursor), deadline_in(Duration::from_mins(15))).await.unwrap();
        assert!(copied.done);
        assert_eq!(world.calls(TARGET, "InitiateLayerUpload"), 2, "registry has {has} parts, cursor says {said} bytes");
        let twice = world.uploaded(TARGET) - (content.len() as u64 + 6);
        assert!(
            twice <= PART_SIZE,
            "registry has {has} parts, cursor says {said} bytes: {twice} bytes were sent twice"
        );
        assert_whole(&world, &content).await;
    }
}

#[tokio::test]
async fn bytes_that_are_not_the_layers_are_never_completed() {
    let (world, digest, content) = world_with_layer(Config::default()).await;
    let id = begun(&world, &content, 1).await;
    // The hash of other bytes than those that were sent stands for a source that changed its mind midway.
    let cursor = cursor(&content, id, PART_SIZE, &layer(99, usize::try_from(PART_SIZE).unwrap()));
    let error = copy_from(&world, &digest, Some(cursor), deadline_in(Duration::from_mins(15))).await.unwrap_err();
    assert_eq!(error.name(), ErrorName::DigestMismatch);
    assert_eq!(world.calls(TARGET, "CompleteLayerUpload"), 1, "the config alone");
}

#[tokio::test]
async fn one_layer_that_fails_does_not_keep_the_others_from_arriving() {
    let (world, digest, content) = world_with_layer(Config::default()).await;
    // The largest layer is begun first.
    world.ecr.fault(Fault::new("UploadLayerPart", 400, "AccessDeniedException").in_region(TARGET));
    let error = copy(&world, &digest).await.unwrap_err();
    assert_eq!(error.name(), ErrorName::AccessDenied);
    let copied = copy(&world, &digest).await.unwrap();
    assert_eq!((copied.cursor.layers_copied, copied.layers_skipped), (1, 1));
    assert_whole(&world, &content).await;
}

#[tokio::test]
async fn errors_say_which_side_and_which_call() {
    let (world, digest, _) = world_with_layer(Config::default()).await;
    for (fault, name, text) in [
        (
            Fault::new("InitiateLayerUpload", 429, "").in_region(TARGET),
            ErrorName::RegistryThrottled,
            "InitiateLayerUpload on prod/app in eu-west-1",
        ),
        (
            Fault::new("InitiateLayerUpload", 400, "RepositoryNotFoundException").in_region(TARGET),
            ErrorName::RepositoryNotFound,
            "InitiateLayerUpload on prod/app in eu-west-1",
        ),
        (
            Fault::new("CompleteLayerUpload", 400, "InvalidLayerException").in_region(TARGET),
            ErrorName::DigestMismatch,
            "CompleteLayerUpload on prod/app in eu-west-1",
        ),
        (
            Fault::new("GetDownloadUrlForLayer", 400, "LayersNotFoundException").in_region(SOURCE),
            ErrorName::RegistryUnavailable,
            "GetDownloadUrlForLayer on prod/app in eu-central-1",
        ),
        (
            Fault::new("BatchGetImage", 400, "AccessDeniedException").in_region(SOURCE),
            ErrorName::AccessDenied,
            "BatchGetImage on prod/app in eu-central-1",
        ),
        (
            Fault::new("DownloadLayer", 503, "SlowDown").in_region(SOURCE),
            ErrorName::RegistryUnavailable,
            "reading a layer on prod/app in eu-central-1",
        ),
    ] {
        world.ecr.clear_faults();
        world.ecr.fault(fault.for_ever());
        let error = copy(&world, &digest).await.unwrap_err();
        let diagnostic = shared::error::diagnostic(&error);
        assert_eq!(diagnostic.error_type, name.as_str(), "{}", diagnostic.error_message);
        assert!(diagnostic.error_message.contains(text), "{}", diagnostic.error_message);
        assert!(!diagnostic.error_message.contains("X-Amz"), "{}", diagnostic.error_message);
    }
}
