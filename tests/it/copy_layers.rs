//! CopyLayers against the local ECR.

use std::time::{Duration, SystemTime};

use aws_sdk_ecr::primitives::Blob;
use copy_layers::{Dependencies, Error, Settings, handle};
use ecr_local::{Config, Fault, MissingLayerAnswer};
use serde_json::{Value, json};
use shared::{
    contract::{Copied, Cursor, Upload},
    copy::Uploads,
    error::{ErrorName, Named as _},
    layer::Hash,
    names::Digest,
    serve::{Deadline, decode},
};

use crate::world::{PART_SIZE, REPOSITORY, SOURCE, TARGET, World, layer, manifest, target_input};

/// By parts: most of what can happen to a layer happens on that road. `mod streams` has the other.
const BY_PARTS: Settings = Settings { memory: 256, uploads: Uploads::Parts, max_shards: 4 };
const AUTO: Settings = Settings { uploads: Uploads::Auto, ..BY_PARTS };

async fn call(world: &World, settings: Settings, input: Value, deadline: Deadline) -> Result<Copied, Error> {
    let dependencies = Dependencies::new(world.registries().await, settings).unwrap();
    handle(&dependencies, decode(input).unwrap(), deadline).await
}

fn input(digest: &Digest, cursor: Option<&Cursor>) -> Value {
    let mut input = target_input(digest, None);
    (input["layers"], input["cursor"]) = (Value::Null, json!(cursor));
    input
}

async fn copy_from(
    world: &World,
    digest: &Digest,
    cursor: Option<Cursor>,
    deadline: Deadline,
) -> Result<Copied, Error> {
    call(world, BY_PARTS, input(digest, cursor.as_ref()), deadline).await
}

fn deadline_in(time: Duration) -> Deadline {
    Deadline::at(SystemTime::now() + time)
}

/// A deadline that has come when the target was asked for so many parts more: where the copy stops does not depend on how
/// fast this machine is.
fn deadline_after_parts(world: &World, parts: u64) -> Deadline {
    let ecr = std::sync::Arc::clone(&world.ecr);
    let last = world.calls(TARGET, "UploadLayerPart") + parts;
    Deadline::told_by(move || {
        let is_over = ecr.stats().calls(TARGET, "UploadLayerPart") >= last;
        if is_over { Duration::ZERO } else { Duration::from_mins(15) }
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
    assert_eq!((copied.cursor.layers_streamed, copied.layers_foreign), (0, 0));
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
        assert_eq!((copied.cursor.layers_copied, copied.cursor.bytes_copied), (1, 6));
        assert_eq!(world.uploaded(TARGET), 6);
        let again = copy(&world, &digest).await.unwrap();
        assert_eq!((again.done, again.cursor.layers_copied), (true, 0));
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
async fn urls_that_are_refused_at_once_are_a_matter_of_permission() {
    let (world, digest, _) = world_with_layer(Config { url_ttl: Duration::ZERO, ..Config::default() }).await;
    let error = copy(&world, &digest).await.unwrap_err();
    assert_eq!(error.name(), ErrorName::AccessDenied);
    assert_eq!(world.calls(SOURCE, "DownloadLayer"), 2 * 3, "each of two blobs");
}

#[tokio::test]
async fn a_part_that_is_acknowledged_short_is_gone_on_with_where_it_is() {
    let (world, digest, content) = world_with_layer(Config::default()).await;
    world.ecr.fault(Fault::of("UploadLayerPart").keep(100).in_region(TARGET).skip(2));
    let copied = copy(&world, &digest).await.unwrap();
    assert_eq!(copied.cursor.layers_copied, 2);
    assert_eq!(world.calls(TARGET, "InitiateLayerUpload"), 2, "no layer starts again");
    assert_eq!(
        world.calls(TARGET, "UploadLayerPart"),
        1 + 6,
        "the config, 100 bytes, and what is left: none is refused"
    );
    assert_whole(&world, &content).await;
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
        let copied = copy_from(&world, &digest, cursor, deadline_after_parts(&world, 20)).await.unwrap();
        if copied.done {
            break copied;
        }
        // What the state machine carries is what the function wrote.
        cursor = serde_json::from_value(serde_json::to_value(copied.cursor).unwrap()).unwrap();
    };
    assert!(invocations > 2, "the layer was meant to need several invocations");
    assert_eq!(copied.cursor.layers_copied, 2);
    assert_eq!(world.calls(TARGET, "UploadLayerPart"), parts as u64 + 1, "no part is sent twice");
    assert_eq!(world.calls(TARGET, "InitiateLayerUpload"), 2, "no layer starts again");
    let reads = world.calls(SOURCE, "DownloadLayer");
    assert!(reads < parts as u64 + 1 + invocations, "only what was read ahead is read again: {reads}");
    assert_whole(&world, &content).await;
}

#[tokio::test]
async fn an_error_that_may_pass_does_not_cost_what_others_have_sent() {
    let (world, digest, content) = world_with_layer(Config::default()).await;
    // The layer is begun first and stops midway; the config cannot begin.
    world.ecr.fault(Fault::new("InitiateLayerUpload", 500, "ServerException").skip(1).times(3));
    let stopped = copy_from(&world, &digest, None, deadline_after_parts(&world, 3)).await.unwrap();
    assert!(!stopped.done);
    assert_eq!(stopped.cursor.uploads.len(), 1);
    let copied = copy_from(&world, &digest, Some(stopped.cursor), deadline_in(Duration::from_mins(15))).await.unwrap();
    assert_eq!(copied.cursor.layers_copied, 2);
    assert_eq!(world.uploaded(TARGET), content.len() as u64 + 6, "no byte is sent twice");

    // One that will not pass is told at once.
    let (world, digest, _) = world_with_layer(Config::default()).await;
    world.ecr.fault(Fault::new("InitiateLayerUpload", 400, "AccessDeniedException").skip(1));
    let error = copy_from(&world, &digest, None, deadline_after_parts(&world, 3)).await.unwrap_err();
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
    let stopped = copy_from(&world, &digest, Some(cursor), deadline_in(Duration::from_mins(15))).await.unwrap();
    assert_eq!(world.calls(TARGET, "CompleteLayerUpload"), 1, "the config alone");
    assert_eq!((stopped.done, stopped.cursor.uploads.len()), (false, 0), "the layer starts again");
    copy_from(&world, &digest, Some(stopped.cursor), deadline_in(Duration::from_mins(15))).await.unwrap();
    assert_whole(&world, &content).await;
}

#[tokio::test]
async fn a_call_that_does_not_answer_is_given_up_in_time_to_tell_where_the_copy_stands() {
    for operation in ["InitiateLayerUpload", "CompleteLayerUpload"] {
        let (world, digest, content) = world_with_layer(Config::default()).await;
        world.push_blob(TARGET, b"config").await;
        let other = layer(9, 100);
        let image = manifest(&[b"config", &content, &other]);
        world.push_blob(SOURCE, &other).await;
        let digest = {
            drop(digest);
            world.put(SOURCE, &image, None).await
        };
        world.ecr.reset_stats();
        // Of the two layers one arrives.
        world.ecr.fault(Fault::slow(operation, Duration::from_mins(10)).in_region(TARGET));
        let started = std::time::Instant::now();
        let stopped = copy_from(&world, &digest, None, deadline_in(Duration::from_secs(4))).await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(4), "the function was killed");
        assert_eq!((stopped.done, stopped.cursor.layers_copied), (false, 1), "{operation}");
        let deadline = deadline_in(Duration::from_mins(15));
        assert!(copy_from(&world, &digest, Some(stopped.cursor), deadline).await.unwrap().done);
        let sent = world.uploaded(TARGET);
        assert_eq!(sent, content.len() as u64 + 100, "{operation}: nothing is sent twice");
    }
}

#[tokio::test]
async fn a_layer_that_another_run_brings_meanwhile_is_not_sent() {
    let world = World::start().await;
    world.create_repository(TARGET).await;
    // Ten large layers: two wait until one of the first eight has arrived.
    let layers: Vec<Vec<u8>> =
        (0..10).map(|seed| layer(300 + seed, 1024 * 1024 + 1000 - usize::try_from(seed).unwrap())).collect();
    let blobs: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    let digest = world.push_image(Some("v1"), &blobs).await;
    world.ecr.reset_stats();
    world.ecr.fault(Fault::slow("v2:PUT upload", Duration::from_secs(6)).in_region(TARGET).times(8));
    let deadline = deadline_in(Duration::from_mins(15));
    let (copied, ()) = tokio::join!(call(&world, AUTO, input(&digest, None), deadline), async {
        while world.calls(TARGET, "v2:PUT upload") < 8 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for blob in &blobs[8..] {
            world.push_blob(TARGET, blob).await;
        }
    });
    let copied = copied.unwrap();
    assert_eq!((copied.done, copied.cursor.layers_copied), (true, 8));
    assert_eq!(world.uploaded(TARGET), blobs.iter().map(|blob| blob.len() as u64).sum::<u64>(), "each byte once");
}

#[tokio::test]
async fn a_layer_that_is_corrupt_twice_is_told_while_others_move() {
    let (world, digest, content) = world_with_layer(Config::default()).await;
    let mut cursor = Cursor::default();
    // The hash of other bytes stands for a source whose bytes are not the layer's; the config arrives beside it.
    for invocation in 1..=2 {
        // The config arrives each time, so that the invocation has something to show.
        let client = world.client(TARGET).await;
        client.delete_repository().repository_name(REPOSITORY).force(true).send().await.unwrap();
        world.create_repository(TARGET).await;
        let id = begun(&world, &content, 1).await;
        let corrupt = self::cursor(&content, id, PART_SIZE, &layer(99, usize::try_from(PART_SIZE).unwrap()));
        cursor.uploads = corrupt.uploads;
        let deadline = deadline_in(Duration::from_mins(15));
        match copy_from(&world, &digest, Some(cursor.clone()), deadline).await {
            Ok(stopped) => {
                assert_eq!((invocation, stopped.done), (1, false));
                assert_eq!(stopped.cursor.restarted, [Digest::of(&content)]);
                cursor = stopped.cursor;
            }
            Err(error) => assert_eq!((invocation, error.name()), (2, ErrorName::DigestMismatch)),
        }
    }
}

#[tokio::test]
async fn one_layer_that_fails_does_not_keep_the_others_from_arriving() {
    let (world, digest, content) = world_with_layer(Config::default()).await;
    // The largest layer is begun first.
    world.ecr.fault(Fault::new("UploadLayerPart", 400, "AccessDeniedException").in_region(TARGET));
    let error = copy(&world, &digest).await.unwrap_err();
    assert_eq!(error.name(), ErrorName::AccessDenied);
    let copied = copy(&world, &digest).await.unwrap();
    assert_eq!(copied.cursor.layers_copied, 1);
    assert_whole(&world, &content).await;
}

#[tokio::test]
async fn errors_say_which_side_and_which_call() {
    let (world, digest, _) = world_with_layer(Config::default()).await;
    for (fault, name, text) in [
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

#[tokio::test]
async fn throttling_slows_a_layer_down_and_does_not_fail_it() {
    for code in ["ThrottleException", "TooManyRequestsException"] {
        for operation in
            ["BatchCheckLayerAvailability", "InitiateLayerUpload", "UploadLayerPart", "CompleteLayerUpload"]
        {
            let (world, digest, content) = world_with_layer(Config::default()).await;
            // More often than the SDK tries.
            let status = if code == "ThrottleException" { 400 } else { 429 };
            world.ecr.fault(Fault::new(operation, status, code).in_region(TARGET).times(7));
            let copied = copy(&world, &digest).await.unwrap();
            assert_eq!((copied.done, copied.cursor.layers_copied), (true, 2), "{operation} {code}");
            assert_eq!(copied.cursor.throttled, 7, "{operation} {code}");
            assert_eq!(
                world.calls(TARGET, "UploadLayerPart") - if operation == "UploadLayerPart" { 7 } else { 0 },
                5 + 1
            );
            assert_whole(&world, &content).await;
        }
    }
}

#[tokio::test]
async fn throttling_until_the_deadline_is_told() {
    for operation in ["BatchCheckLayerAvailability", "InitiateLayerUpload"] {
        let (world, digest, _) = world_with_layer(Config::default()).await;
        world.ecr.fault(Fault::new(operation, 429, "").in_region(TARGET).for_ever());
        let error = copy_from(&world, &digest, None, deadline_in(Duration::from_secs(4))).await.unwrap_err();
        assert_eq!(error.name(), ErrorName::RegistryThrottled);
        let message = shared::error::diagnostic(&error).error_message;
        assert!(message.contains(&format!("{operation} on prod/app in eu-west-1")), "{message}");
    }
}

#[tokio::test]
async fn what_a_killed_invocation_sent_is_not_sent_again_at_whichever_part_it_was_killed() {
    let parts = 5;
    for killed_after in 0..=parts {
        let (world, digest, content) = world_with_layer(Config::default()).await;
        let id = begun(&world, &content, 1).await;
        let cursor = cursor(&content, id, PART_SIZE, &content[..usize::try_from(PART_SIZE).unwrap()]);
        // The first invocation is dropped when the part that it is sending stalls: nothing that it learnt is left.
        let stall = Fault { delay_ms: Some(600_000), ..Fault::new("UploadLayerPart", 500, "ServerException") };
        world.ecr.fault(stall.skip(killed_after).for_ever());
        {
            let doomed = copy_from(&world, &digest, Some(cursor.clone()), deadline_in(Duration::from_mins(15)));
            let stalled = async {
                while world.calls(TARGET, "UploadLayerPart") < 1 + killed_after + 1 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::select! {
                copied = doomed => assert!(copied.unwrap().done, "every part passed"),
                () = stalled => {}
            }
        }
        world.ecr.clear_faults();
        let copied = copy_from(&world, &digest, Some(cursor), deadline_in(Duration::from_mins(15))).await.unwrap();
        assert!(copied.done);
        let twice = (world.uploaded(TARGET) - 6).saturating_sub(content.len() as u64);
        // The part that was under way, and the config if it was, too.
        assert!(twice <= PART_SIZE + 6, "killed after {killed_after} parts: {twice} bytes were sent twice");
        assert_whole(&world, &content).await;
    }
}

#[tokio::test]
async fn an_image_that_is_there_costs_three_calls() {
    let world = World::start().await;
    world.create_repository(TARGET).await;
    let (digest, _) = world.push_index(Some("v1")).await;
    call(&world, AUTO, input(&digest, None), deadline_in(Duration::from_mins(15))).await.unwrap();
    world.ecr.reset_stats();
    let copied = call(&world, AUTO, input(&digest, None), deadline_in(Duration::from_mins(15))).await.unwrap();
    assert!(copied.done);
    let stats = world.ecr.stats();
    let calls: u64 = stats.regions.values().flat_map(|region| region.calls.values()).sum();
    assert_eq!(calls, 3, "{stats:?}");
}

mod shards {
    use super::*;

    /// An image whose manifest says that its layers are large: that is all that a plan looks at.
    async fn world_with_large_layers() -> (World, Digest) {
        let world = World::start().await;
        world.create_repository(TARGET).await;
        let blobs: Vec<Vec<u8>> = (0..5).map(|seed| layer(seed, 100)).collect();
        let blobs: Vec<&[u8]> = blobs.iter().map(Vec::as_slice).collect();
        let mut image = manifest(&blobs);
        for blob in &blobs {
            world.push_blob(SOURCE, blob).await;
        }
        for layer in image["layers"].as_array_mut().unwrap() {
            layer["size"] = json!(300 * 1024 * 1024);
        }
        let digest = world.put(SOURCE, &image, None).await;
        world.ecr.reset_stats();
        (world, digest)
    }

    #[tokio::test]
    async fn more_than_one_function_should_move_is_handed_out() {
        let (world, digest) = world_with_large_layers().await;
        let input = input(&digest, None);
        world.ecr.fault(Fault::new("BatchCheckLayerAvailability", 400, "ThrottleException").in_region(TARGET).times(4));
        let copied = call(&world, AUTO, input.clone(), deadline_in(Duration::from_mins(15))).await.unwrap();
        assert!(!copied.done);
        assert_eq!(copied.shards.iter().map(|shard| shard.layers.len()).max(), Some(2), "four layers and a config");
        assert_eq!(copied.shards.len(), 4);
        let Cursor { duration_ms, throttled, .. } = copied.cursor;
        assert_eq!(copied.cursor, Cursor { duration_ms, throttled, ..Cursor::default() });
        assert!(throttled == 4 && duration_ms > 500, "looking takes its time: {throttled}, {duration_ms}");
        assert_eq!((world.calls(TARGET, "InitiateLayerUpload"), world.calls(TARGET, "v2:POST upload")), (0, 0));

        let one = Settings { max_shards: 1, ..AUTO };
        let copied = call(&world, one, input.clone(), deadline_in(Duration::from_mins(15))).await.unwrap();
        assert_eq!((copied.done, copied.cursor.layers_copied), (false, 1), "it copied what it could");
        let error = call(&world, one, input, deadline_in(Duration::from_mins(15))).await.unwrap_err();
        assert_eq!(error.name(), ErrorName::DigestMismatch, "the layers are not that large");
    }

    #[tokio::test]
    async fn a_shard_copies_its_own_layers_and_reads_no_manifest() {
        let (world, digest, content) = world_with_layer(Config::default()).await;
        let mut input = input(&digest, None);
        input["layers"] = json!([{"digest": Digest::of(&content).as_str(), "size": content.len()}]);
        let copied = call(&world, AUTO, input, deadline_in(Duration::from_mins(15))).await.unwrap();
        assert_eq!((copied.done, copied.cursor.layers_copied, copied.layers_foreign), (true, 1, 0));
        assert_eq!(world.calls(SOURCE, "BatchGetImage"), 0);
        assert_eq!(world.uploaded(TARGET), content.len() as u64);
    }
}

#[test]
fn settings_are_read_from_the_environment() {
    let read = |uploads: Option<&str>, shards: Option<&str>| {
        Settings::read(512, |name| match name {
            "UPLOADS" => uploads.map(ToOwned::to_owned),
            "MAX_SHARDS" => shards.map(ToOwned::to_owned),
            _ => None,
        })
    };
    assert_eq!(read(None, None).unwrap(), Settings { memory: 512, ..AUTO });
    let parts = Settings { memory: 512, max_shards: 16, ..BY_PARTS };
    assert_eq!(read(Some("parts"), Some("16")).unwrap(), parts);
    assert_eq!(read(Some("stream"), None).unwrap_err(), "UPLOADS is `stream`: expected `auto` or `parts`");
    assert_eq!(read(None, Some("0")).unwrap_err(), "MAX_SHARDS is `0`: expected a number from 1 to 16");
}

mod streams {
    use super::*;

    async fn stream(world: &World, digest: &Digest) -> Result<Copied, Error> {
        call(world, AUTO, input(digest, None), deadline_in(Duration::from_mins(15))).await
    }

    #[tokio::test]
    async fn a_layer_goes_as_one_request_with_one_token_for_all() {
        let (world, digest, content) = world_with_layer(Config::default()).await;
        let copied = stream(&world, &digest).await.unwrap();
        assert!(copied.done);
        assert_eq!((copied.cursor.layers_copied, copied.cursor.layers_streamed), (2, 2));
        assert_eq!(copied.cursor.bytes_copied, content.len() as u64 + 6);
        for (operation, calls) in [
            ("GetAuthorizationToken", 1),
            ("v2:POST upload", 2),
            ("v2:PATCH upload", 2),
            ("v2:PUT upload", 2),
            ("UploadLayerPart", 0),
            ("InitiateLayerUpload", 0),
        ] {
            assert_eq!(world.calls(TARGET, operation), calls, "{operation}");
        }
        assert_eq!(world.calls(SOURCE, "DownloadLayer"), 2, "a layer is read in one");
        assert_eq!(world.uploaded(TARGET), content.len() as u64 + 6);
        assert_whole(&world, &content).await;
    }

    #[tokio::test]
    async fn a_layer_whose_stream_broke_goes_by_parts_and_no_other() {
        for fault in [
            Fault::new("v2:PATCH upload", 500, "UNKNOWN"),
            Fault::new("v2:PATCH upload", 500, "UNKNOWN").cut_after(20_000),
            Fault::new("v2:POST upload", 500, "UNKNOWN").times(3),
            Fault::new("v2:PUT upload", 500, "UNKNOWN").times(3),
        ] {
            let (world, digest, content) = world_with_layer(Config::default()).await;
            // The config waits until the layer's faults are used up.
            world.push_blob(TARGET, b"config").await;
            world.ecr.reset_stats();
            world.ecr.fault(fault.clone().in_region(TARGET));
            let copied = stream(&world, &digest).await.unwrap();
            assert_eq!((copied.cursor.layers_copied, copied.cursor.layers_streamed), (1, 0), "{fault:?}");
            assert_eq!(world.calls(TARGET, "InitiateLayerUpload"), 1, "{fault:?}");
            assert_whole(&world, &content).await;
        }
    }

    #[tokio::test]
    async fn what_fails_or_is_throttled_beside_a_stream_is_asked_for_again_and_the_layer_sent_once() {
        for (fault, throttled) in [
            (Fault::new("v2:POST upload", 500, "UNKNOWN").times(2), 0),
            (Fault::new("v2:PUT upload", 503, "UNAVAILABLE").times(2), 0),
            (Fault::new("v2:POST upload", 429, "TOOMANYREQUESTS").times(2), 2),
            (Fault::new("v2:PUT upload", 429, "TOOMANYREQUESTS").times(2), 2),
            (Fault::new("GetAuthorizationToken", 400, "ThrottleException").times(4), 4),
            (Fault::new("GetDownloadUrlForLayer", 429, "").times(4).in_region(SOURCE), 4),
            // That is no registry's.
            (Fault::new("DownloadLayer", 503, "SlowDown").times(3).in_region(SOURCE), 0),
        ] {
            let (world, digest, content) = world_with_layer(Config::default()).await;
            world.ecr.fault(fault.clone());
            let copied = stream(&world, &digest).await.unwrap();
            assert_eq!((copied.cursor.layers_copied, copied.cursor.layers_streamed), (2, 2), "{fault:?}");
            assert_eq!(copied.cursor.throttled, throttled, "{fault:?}");
            assert_eq!(world.uploaded(TARGET), content.len() as u64 + 6, "{fault:?}");
            assert_whole(&world, &content).await;
        }
    }

    #[tokio::test]
    async fn a_source_that_breaks_off_for_long_is_waited_for_by_parts() {
        let (world, digest, content) = world_with_layer(Config::default()).await;
        // The stream gives up at its sixth failure, and the first part succeeds after two more.
        world.push_blob(TARGET, b"config").await;
        world.ecr.fault(Fault::new("DownloadLayer", 503, "SlowDown").times(8).in_region(SOURCE));
        let copied = stream(&world, &digest).await.unwrap();
        assert_eq!((copied.cursor.layers_copied, copied.cursor.layers_streamed), (1, 0));
        assert_whole(&world, &content).await;
    }

    #[tokio::test]
    async fn a_stream_that_begins_late_keeps_its_road() {
        let (world, digest, content) = world_with_layer(Config::default()).await;
        world.ecr.fault(Fault::slow("v2:POST upload", Duration::from_secs(3)).in_region(TARGET).times(2));
        let copied = call(&world, AUTO, input(&digest, None), deadline_in(Duration::from_secs(30))).await.unwrap();
        assert_eq!(copied.cursor.layers_streamed, 2, "signing in and connecting say nothing of the rate");
        assert_whole(&world, &content).await;
    }

    #[tokio::test]
    async fn a_refused_token_is_not_offered_again() {
        let (world, digest, content) = world_with_layer(Config::default()).await;
        let dependencies = Dependencies::new(world.registries().await, AUTO).unwrap();
        let deadline = || deadline_in(Duration::from_mins(15));
        let input = || decode(input(&digest, None)).unwrap();
        world.ecr.fault(Fault::new("v2:POST upload", 401, "UNAUTHORIZED").in_region(TARGET).times(2));
        let copied = handle(&dependencies, input(), deadline()).await.unwrap();
        assert_eq!(copied.cursor.layers_streamed, 0);
        world.client(TARGET).await.delete_repository().repository_name(REPOSITORY).force(true).send().await.unwrap();
        world.create_repository(TARGET).await;
        let copied = handle(&dependencies, input(), deadline()).await.unwrap();
        assert_eq!(copied.cursor.layers_streamed, 2, "the next invocation has the road open");
        assert_eq!(world.calls(TARGET, "GetAuthorizationToken"), 2, "and a token of its own");
        assert_whole(&world, &content).await;
    }

    #[tokio::test]
    async fn an_empty_blob_is_streamed_and_cannot_go_by_parts() {
        let world = World::start().await;
        world.create_repository(TARGET).await;
        world.push_blob(SOURCE, b"config").await;
        world.push_empty_blob(SOURCE).await;
        let digest = world.put(SOURCE, &manifest(&[b"config", b""]), Some("v1")).await;
        let error = copy(&world, &digest).await.unwrap_err();
        assert_eq!(error.name(), ErrorName::InvalidInput);
        assert!(error.to_string().contains("copy_layers.uploads"), "{error}");
        let copied = stream(&world, &digest).await.unwrap();
        assert!(copied.done);
        world.put(TARGET, &manifest(&[b"config", b""]), Some("whole")).await;
    }

    #[tokio::test]
    async fn more_broken_layers_than_a_cursor_takes_along_are_not_begun_again_for_ever() {
        let world = World::start().await;
        world.create_repository(TARGET).await;
        let layers: Vec<Vec<u8>> = (0..290).map(|seed| layer(1000 + seed, 100)).collect();
        let blobs: Vec<&[u8]> = std::iter::once(&b"config"[..]).chain(layers.iter().map(Vec::as_slice)).collect();
        let digest = world.push_image(Some("v1"), &blobs).await;
        world.ecr.fault(Fault::new("v2:PATCH upload", 404, "NAME_UNKNOWN").in_region(TARGET).for_ever());
        let gone = Fault { status: Some(404), ..Fault::of("UploadLayerPart").body("<html>") };
        world.ecr.fault(gone.in_region(TARGET).for_ever());
        let mut cursor = None::<Cursor>;
        for _ in 0..4 {
            let input = input(&digest, cursor.as_ref());
            match call(&world, AUTO, input, deadline_in(Duration::from_mins(15))).await {
                Ok(copied) => cursor = Some(copied.cursor),
                Err(error) => return assert_eq!(error.name(), ErrorName::RegistryUnavailable),
            }
        }
        panic!("it is told that something moves, and nothing does");
    }

    #[tokio::test]
    async fn a_stream_whose_last_answer_was_lost_counts_as_done() {
        let (world, digest, content) = world_with_layer(Config::default()).await;
        world.ecr.fault(Fault::new("v2:PUT upload", 500, "UNKNOWN").in_region(TARGET).after_effect().times(2));
        let copied = stream(&world, &digest).await.unwrap();
        assert_eq!(copied.cursor.layers_streamed, 2);
        assert_eq!(world.calls(TARGET, "InitiateLayerUpload"), 0);
        assert_whole(&world, &content).await;
    }

    #[tokio::test]
    async fn without_a_token_or_a_right_to_the_endpoint_every_layer_goes_by_parts() {
        for fault in [
            Fault::new("GetAuthorizationToken", 400, "AccessDeniedException"),
            Fault::new("v2:POST upload", 401, "UNAUTHORIZED"),
            Fault::new("v2:POST upload", 403, "DENIED"),
        ] {
            let (world, digest, content) = world_with_layer(Config::default()).await;
            world.ecr.fault(fault.in_region(TARGET).for_ever());
            let copied = stream(&world, &digest).await.unwrap();
            assert_eq!((copied.cursor.layers_copied, copied.cursor.layers_streamed), (2, 0));
            assert_whole(&world, &content).await;
        }
    }

    #[tokio::test]
    async fn a_closed_road_is_not_tried_layer_after_layer() {
        let world = World::start().await;
        world.create_repository(TARGET).await;
        let layers: Vec<Vec<u8>> = (0..60).map(|seed| layer(100 + seed, 200)).collect();
        let blobs: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
        let digest = world.push_image(Some("v1"), &blobs).await;
        world.ecr.fault(Fault::new("v2:POST upload", 403, "DENIED").in_region(TARGET).for_ever());
        let copied = stream(&world, &digest).await.unwrap();
        assert_eq!((copied.cursor.layers_copied, copied.cursor.layers_streamed), (60, 0));
        assert!(world.calls(TARGET, "v2:POST upload") <= 16, "those that began together");
    }

    #[tokio::test]
    async fn a_stream_that_stalls_is_given_up_in_time_and_goes_on_by_parts() {
        let (world, digest, content) = world_with_layer(Config::default()).await;
        let stall = Fault { delay_ms: Some(600_000), ..Fault::new("v2:PATCH upload", 500, "UNKNOWN") };
        world.ecr.fault(stall.times(2));
        let deadline = deadline_in(Duration::from_secs(5));
        let stopped = call(&world, AUTO, input(&digest, None), deadline).await.unwrap();
        assert!(!stopped.done);
        assert_eq!(stopped.cursor.uploads.len(), 2, "the next invocation knows not to stream them");
        let next = input(&digest, Some(&stopped.cursor));
        let copied = call(&world, AUTO, next, deadline_in(Duration::from_mins(15))).await.unwrap();
        assert_eq!((copied.cursor.layers_copied, copied.cursor.layers_streamed), (2, 0));
        assert_eq!(world.calls(TARGET, "InitiateLayerUpload"), 2);
        assert_whole(&world, &content).await;
    }

    #[tokio::test]
    async fn the_token_is_told_to_nobody() {
        let (world, digest, _) = world_with_layer(Config::default()).await;
        let repository = world.registries().await.repository(&TARGET.parse().unwrap(), &REPOSITORY.parse().unwrap());
        let authorization = repository.authorization().await.unwrap();
        assert!(authorization.credential.len() > 20);
        for shown in [format!("{authorization:?}"), format!("{repository:?}")] {
            assert!(!shown.contains(&authorization.credential), "{shown}");
        }
        for operation in ["v2:POST upload", "InitiateLayerUpload"] {
            world.ecr.fault(Fault::new(operation, 403, "AccessDeniedException").in_region(TARGET).for_ever());
        }
        let error = stream(&world, &digest).await.unwrap_err();
        let message = shared::error::diagnostic(&error).error_message;
        assert!(!message.contains("Basic") && !message.contains("QVdTO"), "{message}");
    }
}
