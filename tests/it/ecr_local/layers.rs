use std::collections::BTreeMap;

use aws_sdk_ecr::Client;
use aws_sdk_ecr::operation::upload_layer_part::UploadLayerPartError;
use aws_sdk_ecr::operation::upload_layer_part::builders::UploadLayerPartFluentBuilder;
use aws_sdk_ecr::primitives::Blob;
use aws_sdk_ecr::types::error::InvalidLayerPartException;
use aws_sdk_ecr::types::{LayerAvailability, LayerFailureCode};
use ecr_local::{Config, MissingLayerAnswer};

use super::{ACCOUNT, PART_SIZE, World, digest, initiate, push_image, refused, upload};

const MIB: usize = 1024 * 1024;

pub(super) fn part(client: &Client, upload_id: &str, first: i64, bytes: &[u8]) -> UploadLayerPartFluentBuilder {
    client
        .upload_layer_part()
        .repository_name("app")
        .upload_id(upload_id)
        .part_first_byte(first)
        .part_last_byte(first + i64::try_from(bytes.len()).unwrap() - 1)
        .layer_part_blob(Blob::new(bytes))
}

pub(super) async fn refused_part(part: UploadLayerPartFluentBuilder) -> InvalidLayerPartException {
    match part.send().await.unwrap_err().into_service_error() {
        UploadLayerPartError::InvalidLayerPartException(error) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn availability_is_told_by_digest() {
    let World { ecr, client } = World::with_repository("app").await;
    let there = upload(&client, "app", b"a layer of some bytes").await;
    let absent = digest(b"absent");
    let check = client.batch_check_layer_availability().repository_name("app");
    let answer =
        check.clone().layer_digests(&there).layer_digests(&absent).layer_digests("sha256:x").send().await.unwrap();
    let layers: BTreeMap<_, _> = answer
        .layers()
        .iter()
        .map(|layer| (layer.layer_digest().unwrap(), (layer.layer_availability().unwrap(), layer.layer_size())))
        .collect();
    assert_eq!(layers[there.as_str()], (&LayerAvailability::Available, Some(21)));
    assert_eq!(layers[absent.as_str()], (&LayerAvailability::Unavailable, None));
    let [failure] = answer.failures() else { panic!("{answer:?}") };
    assert_eq!(failure.layer_digest(), Some("sha256:x"));
    assert_eq!(failure.failure_code(), Some(&LayerFailureCode::InvalidLayerDigest));

    let digests = |count: usize| Some((0..count).map(|number| digest(&number.to_ne_bytes())).collect());
    assert_eq!(check.clone().set_layer_digests(digests(100)).send().await.unwrap().layers().len(), 100);
    for count in [0, 101] {
        refused!(check.clone().set_layer_digests(digests(count)), is_invalid_parameter_exception);
    }
    refused!(check.repository_name("absent").layer_digests(&absent), is_repository_not_found_exception);
    assert_eq!(ecr.stats().region(super::REGION).uploaded_bytes, 21);
}

#[tokio::test]
async fn a_missing_layer_may_be_answered_as_a_failure() {
    let config = Config { missing_layer: MissingLayerAnswer::MissingLayerDigest, ..Config::default() };
    let World { ecr: _ecr, client } = World::with(config).await;
    client.create_repository().repository_name("app").send().await.unwrap();
    let answer = client
        .batch_check_layer_availability()
        .repository_name("app")
        .layer_digests(digest(b"absent"))
        .send()
        .await
        .unwrap();
    assert!(answer.layers().is_empty());
    assert_eq!(answer.failures()[0].failure_code(), Some(&LayerFailureCode::MissingLayerDigest));
}

#[tokio::test]
async fn parts_follow_each_other() {
    let World { ecr: _ecr, client } = World::with_repository("app").await;
    let id = initiate(&client, "app").await;

    let error = refused_part(part(&client, &id, 8, b"too soon")).await;
    assert_eq!(error.last_valid_byte_received(), None);
    let answer = part(&client, &id, 0, b"01234567").send().await.unwrap();
    assert_eq!(answer.last_byte_received(), Some(7));

    // The first answer may have been lost: the part is refused, and the error says that it is there.
    let error = refused_part(part(&client, &id, 0, b"01234567")).await;
    assert_eq!(error.last_valid_byte_received(), Some(7));
    assert_eq!(error.registry_id(), Some(ACCOUNT));
    assert_eq!(error.repository_name(), Some("app"));
    assert_eq!(error.upload_id(), Some(id.as_str()));
    assert!(error.message().unwrap().contains("First byte of the layer part is 0 instead of 8"), "{error:?}");
    // A gap is refused as well, and changes nothing.
    assert_eq!(refused_part(part(&client, &id, 9, b"x")).await.last_valid_byte_received(), Some(7));
    // The range and the bytes have to agree.
    let short = part(&client, &id, 8, b"x").part_last_byte(12);
    assert_eq!(refused_part(short).await.last_valid_byte_received(), Some(7));

    // To go on where the error says makes the layer whole.
    part(&client, &id, 8, b"89").send().await.unwrap();
    let complete = client.complete_layer_upload().repository_name("app").upload_id(&id);
    complete.layer_digests(digest(b"0123456789")).send().await.unwrap();
}

#[tokio::test]
async fn an_upload_is_known_in_its_repository_until_it_is_complete() {
    let World { ecr: _ecr, client } = World::with_repository("app").await;
    client.create_repository().repository_name("other").send().await.unwrap();
    let id = initiate(&client, "app").await;
    refused!(part(&client, &id, 0, b"x").repository_name("other"), is_upload_not_found_exception);
    refused!(part(&client, "00000000-0000-4000-8000-000000000000", 0, b"x"), is_upload_not_found_exception);
    refused!(part(&client, &id, 0, b"x").repository_name("absent"), is_repository_not_found_exception);
    refused!(part(&client, "nonsense", 0, b"x"), is_invalid_parameter_exception);

    part(&client, &id, 0, b"x").send().await.unwrap();
    let complete = client.complete_layer_upload().repository_name("app").upload_id(&id).layer_digests(digest(b"x"));
    complete.clone().send().await.unwrap();
    refused!(complete, is_upload_not_found_exception);
    refused!(part(&client, &id, 1, b"x"), is_upload_not_found_exception);
    refused!(client.initiate_layer_upload().repository_name("absent"), is_repository_not_found_exception);
}

#[tokio::test]
async fn an_upload_is_completed_only_when_it_is_whole() {
    let World { ecr: _ecr, client } = World::with_repository("app").await;
    let id = initiate(&client, "app").await;
    let complete = client.complete_layer_upload().repository_name("app").upload_id(&id);
    refused!(complete.clone().layer_digests(digest(b"x")), is_empty_upload_exception);
    part(&client, &id, 0, b"x").send().await.unwrap();
    refused!(complete.clone().layer_digests(digest(b"y")), is_invalid_layer_exception);
    refused!(complete.clone(), is_invalid_parameter_exception);
    // The first part is now no longer the last, and is smaller than parts may be.
    part(&client, &id, 1, b"y").send().await.unwrap();
    refused!(complete.layer_digests(digest(b"xy")), is_layer_part_too_small_exception);
}

#[tokio::test]
async fn a_part_may_be_as_large_as_the_documentation_says_and_no_larger() {
    let World { ecr, client } = World::with(Config::default()).await;
    client.create_repository().repository_name("app").send().await.unwrap();
    let started = client.initiate_layer_upload().repository_name("app").send().await.unwrap();
    assert_eq!(started.part_size(), Some(10 * 1024 * 1024));
    let id = started.upload_id().unwrap();
    let layer = vec![7; 20 * MIB + 1];
    assert_eq!(refused_part(part(&client, id, 0, &layer)).await.last_valid_byte_received(), None);
    part(&client, id, 0, &layer[..20 * MIB]).send().await.unwrap();
    part(&client, id, 20 * 1024 * 1024, &layer[20 * MIB..]).send().await.unwrap();
    let complete = client.complete_layer_upload().repository_name("app").upload_id(id);
    complete.layer_digests(digest(&layer)).send().await.unwrap();
    assert_eq!(ecr.stats().calls(super::REGION, "UploadLayerPart"), 3);

    // With the usual part size the usual minimum holds.
    let id = initiate(&client, "app").await;
    part(&client, &id, 0, b"x").send().await.unwrap();
    part(&client, &id, 1, b"y").send().await.unwrap();
    let complete = client.complete_layer_upload().repository_name("app").upload_id(&id);
    refused!(complete.layer_digests(digest(b"xy")), is_layer_part_too_small_exception);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_uploads_of_one_layer_the_second_finds_it_there() {
    let World { ecr: _ecr, client } = World::with_repository("app").await;
    let layer = [3; 1000];
    let complete =
        |id: String| client.complete_layer_upload().repository_name("app").upload_id(id).layer_digests(digest(&layer));
    let (first, second) = (initiate(&client, "app").await, initiate(&client, "app").await);
    for id in [&first, &second] {
        part(&client, id, 0, &layer).send().await.unwrap();
    }
    let (first, second) = tokio::join!(complete(first).send(), complete(second).send());
    let (won, lost) = if first.is_ok() { (first, second) } else { (second, first) };
    won.unwrap();
    assert!(lost.unwrap_err().into_service_error().is_layer_already_exists_exception());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_writers_of_one_part_one_is_refused() {
    let World { ecr: _ecr, client } = World::with_repository("app").await;
    let id = initiate(&client, "app").await;
    let bytes = vec![5; 3 * MIB];
    let (first, second) = tokio::join!(part(&client, &id, 0, &bytes).send(), part(&client, &id, 0, &bytes).send());
    let (won, lost) = if first.is_ok() { (first, second) } else { (second, first) };
    won.unwrap();
    assert!(lost.unwrap_err().into_service_error().is_invalid_layer_part_exception());
    let complete = client.complete_layer_upload().repository_name("app").upload_id(&id);
    complete.layer_digests(digest(&bytes)).send().await.unwrap();
}

#[tokio::test]
async fn only_the_layers_of_an_image_can_be_downloaded() {
    let World { ecr: _ecr, client } = World::with_repository("app").await;
    let layer = b"more than one part of bytes";
    assert!(layer.len() > usize::try_from(PART_SIZE).unwrap());
    let url = client.get_download_url_for_layer().repository_name("app").layer_digest(digest(layer));
    refused!(url.clone(), is_layers_not_found_exception);
    upload(&client, "app", layer).await;
    refused!(url.clone(), is_layer_inaccessible_exception);
    push_image(&client, "app", b"{}", &[layer], None).await;
    let answer = url.clone().send().await.unwrap();
    let served = reqwest::get(answer.download_url().unwrap()).await.unwrap();
    assert_eq!(served.status(), 200);
    assert_eq!(served.bytes().await.unwrap(), layer.as_slice());
    refused!(url.clone().layer_digest("latest"), is_invalid_parameter_exception);
    refused!(url.repository_name("absent"), is_repository_not_found_exception);
}
