use std::collections::BTreeMap;

use aws_sdk_ecr::Client;
use aws_sdk_ecr::error::ProvideErrorMetadata as _;
use aws_sdk_ecr::operation::put_image::builders::PutImageFluentBuilder;
use aws_sdk_ecr::types::{
    DescribeImagesFilter, ImageFailure, ImageFailureCode, ImageIdentifier, ImageTagMutability,
    ImageTagMutabilityExclusionFilter, ImageTagMutabilityExclusionFilterType, ListImageReferrersFilter,
    ListImagesFilter, SubjectIdentifier, TagStatus,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ecr_local::{Config, RepeatedImmutableTagAnswer, RepositoryView};
use serde_json::{Value, json};

use super::{
    ACCOUNT, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, REGION, World, client, descriptor, digest, index, manifest,
    push_image, refused, upload,
};

const OCI_ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";
const DOCKER_SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+json";
const DOCKER_SCHEMA_1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

fn put(client: &Client, manifest: &str) -> PutImageFluentBuilder {
    client.put_image().repository_name("app").image_manifest(manifest)
}

fn by_digest(digest: &str) -> ImageIdentifier {
    ImageIdentifier::builder().image_digest(digest).build()
}

fn by_tag(tag: &str) -> ImageIdentifier {
    ImageIdentifier::builder().image_tag(tag).build()
}

async fn digest_of_tag(client: &Client, tag: &str) -> Option<String> {
    let answer = client.batch_get_image().repository_name("app").image_ids(by_tag(tag)).send().await.unwrap();
    let image = answer.images().first()?;
    Some(image.image_id().unwrap().image_digest().unwrap().to_owned())
}

fn codes(failures: &[ImageFailure]) -> Vec<ImageFailureCode> {
    failures.iter().map(|failure| failure.failure_code().unwrap().clone()).collect()
}

/// A referrer of a subject: an artifact without layers, with a type of its own.
fn referrer(subject: &str, artifact_type: &str) -> String {
    let mut manifest = manifest(b"{}", &[]);
    manifest["artifactType"] = json!(artifact_type);
    manifest["subject"] = descriptor(OCI_MANIFEST, subject.as_bytes());
    manifest["annotations"] = json!({ "by": "a test" });
    manifest.to_string()
}

#[tokio::test]
async fn a_manifest_comes_back_as_it_was_put() {
    let World { ecr: _ecr, client } = World::with_repository("app").await;
    upload(&client, "app", b"{}").await;
    // Neither the order of the members nor the white space is that of a serializer.
    let manifest = format!(
        "{{\n\t\"layers\" : [],\"config\":{},\r\n  \"schemaVersion\":2 , \"mediaType\":\"{OCI_MANIFEST}\" }}\n",
        descriptor(OCI_CONFIG, b"{}")
    );
    let expected = digest(manifest.as_bytes());
    let answer = put(&client, &manifest).image_tag("v1").image_digest(&expected).send().await.unwrap();
    let image = answer.image().unwrap();
    assert_eq!(image.registry_id(), Some(ACCOUNT));
    assert_eq!(image.image_id().unwrap().image_digest(), Some(expected.as_str()));
    assert_eq!(image.image_id().unwrap().image_tag(), Some("v1"));

    let answer = client
        .batch_get_image()
        .repository_name("app")
        .image_ids(by_digest(&expected))
        .image_ids(by_tag("v1"))
        .accepted_media_types(OCI_MANIFEST)
        .send()
        .await
        .unwrap();
    assert!(answer.failures().is_empty());
    assert_eq!(answer.images().len(), 2);
    for image in answer.images() {
        assert_eq!(image.image_manifest(), Some(manifest.as_str()));
        assert_eq!(image.image_manifest_media_type(), Some(OCI_MANIFEST));
    }
}

#[tokio::test]
async fn put_image_refuses_what_the_documentation_says() {
    let World { ecr: _ecr, client } = World::with_repository("app").await;
    upload(&client, "app", b"{}").await;
    let image = manifest(b"{}", &[]).to_string();

    refused!(put(&client, &image).repository_name("absent"), is_repository_not_found_exception);
    refused!(put(&client, &image).image_digest(digest(b"x")), is_image_digest_does_not_match_exception);
    refused!(put(&client, &image).image_tag("-v1"), is_invalid_parameter_exception);
    refused!(put(&client, "{"), is_invalid_parameter_exception);
    refused!(put(&client, &" ".repeat(4 * 1024 * 1024 + 1)), is_invalid_parameter_exception);

    let with_layer = manifest(b"{}", &[b"absent"]).to_string();
    let error = refused!(put(&client, &with_layer), is_layers_not_found_exception);
    assert!(error.meta().message().unwrap().contains(&digest(b"absent")));
    assert!(!error.meta().message().unwrap().contains(&digest(b"{}")), "only what is missing is named");

    let list = index(&[&image]).to_string();
    let error = refused!(put(&client, &list), is_referenced_images_not_found_exception);
    assert!(error.meta().message().unwrap().contains(&digest(image.as_bytes())));

    let mut untyped = manifest(b"{}", &[]);
    untyped.as_object_mut().unwrap().remove("mediaType");
    let error = refused!(put(&client, &untyped.to_string()), is_invalid_parameter_exception);
    assert!(error.meta().message().unwrap().contains("Invalid JSON syntax"));
    put(&client, &untyped.to_string()).image_manifest_media_type(OCI_MANIFEST).send().await.unwrap();

    put(&client, &image).send().await.unwrap();
    put(&client, &list).send().await.unwrap();
    refused!(put(&client, &image), is_image_already_exists_exception);
    put(&client, &image).image_tag("v1").send().await.unwrap();
    refused!(put(&client, &image).image_tag("v1"), is_image_already_exists_exception);
}

#[tokio::test]
async fn a_foreign_layer_and_a_subject_need_not_be_there() {
    let World { ecr: _ecr, client } = World::with_repository("app").await;
    upload(&client, "app", b"{}").await;
    let mut foreign = manifest(b"{}", &[b"absent"]);
    foreign["layers"][0]["mediaType"] = json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    put(&client, &foreign.to_string()).send().await.unwrap();
    put(&client, &referrer("an image that is not there", "application/x")).send().await.unwrap();
}

#[tokio::test]
async fn an_artifact_manifest_has_blobs_and_neither_config_nor_version() {
    let World { ecr: _ecr, client } = World::with_repository("app").await;
    let image = push_image(&client, "app", b"{}", &[], None).await;
    let mut artifact = json!({
        "mediaType": OCI_ARTIFACT,
        "artifactType": "application/x.sbom",
        "blobs": [descriptor("application/x.sbom.part", b"sbom")],
        "subject": descriptor(OCI_MANIFEST, image.as_bytes()),
    });
    let error = refused!(put(&client, &artifact.to_string()), is_layers_not_found_exception);
    assert!(error.meta().message().unwrap().contains(&digest(b"sbom")));
    upload(&client, "app", b"sbom").await;
    put(&client, &artifact.to_string()).send().await.unwrap();

    let subject = SubjectIdentifier::builder().image_digest(digest(image.as_bytes())).build().unwrap();
    let referrers = client.list_image_referrers().repository_name("app").subject_id(subject).send().await.unwrap();
    let [found] = referrers.referrers() else { panic!("{referrers:?}") };
    assert_eq!(found.digest(), digest(artifact.to_string().as_bytes()));
    assert_eq!((found.media_type(), found.artifact_type()), (OCI_ARTIFACT, Some("application/x.sbom")));
    let url = client.get_download_url_for_layer().repository_name("app").layer_digest(digest(b"sbom"));
    url.send().await.unwrap();

    // One that has no blobs is one, too; one that has a config is not.
    artifact.as_object_mut().unwrap().remove("blobs");
    put(&client, &artifact.to_string()).send().await.unwrap();
    artifact["config"] = descriptor(OCI_CONFIG, b"{}");
    refused!(put(&client, &artifact.to_string()), is_invalid_parameter_exception);
}

/// A manifest of Docker's schema 1 with these layers, without and with a signature.
fn schema_1(layers: &[&[u8]]) -> (String, String) {
    let fs_layers: Vec<Value> = layers.iter().map(|layer| json!({ "blobSum": digest(layer) })).collect();
    let history: Vec<Value> = layers.iter().map(|_| json!({ "v1Compatibility": "{}" })).collect();
    let unsigned = json!({
        "schemaVersion": 1,
        "name": "app",
        "tag": "v1",
        "architecture": "amd64",
        "fsLayers": fs_layers,
        "history": history,
    });
    let unsigned = format!("{unsigned:#}");
    let start = unsigned.strip_suffix("\n}").unwrap();
    let protected = json!({ "formatLength": start.len(), "formatTail": URL_SAFE_NO_PAD.encode("\n}") });
    let protected = URL_SAFE_NO_PAD.encode(protected.to_string());
    let signature = json!({ "header": { "alg": "ES256" }, "signature": "AA", "protected": protected });
    let signed = format!("{start},\n  \"signatures\": [{signature}]\n}}");
    (unsigned, signed)
}

#[tokio::test]
async fn schema_1_is_kept_signed_or_not_under_the_digest_of_what_is_signed() {
    let World { ecr: _ecr, client } = World::with_repository("app").await;
    upload(&client, "app", b"one").await;
    let (payload, signed) = schema_1(&[b"one", b"one"]);
    let (unsigned, _) = schema_1(&[b"one"]);
    let cases = [
        (&signed, DOCKER_SCHEMA_1_SIGNED, digest(payload.as_bytes())),
        (&unsigned, DOCKER_SCHEMA_1, digest(unsigned.as_bytes())),
    ];
    for (text, media_type, id) in &cases {
        put(&client, text).image_manifest_media_type(*media_type).image_digest(id).send().await.unwrap();
        let get = client.batch_get_image().repository_name("app").image_ids(by_digest(id)).send().await.unwrap();
        let [image] = get.images() else { panic!("{get:?}") };
        assert_eq!(image.image_manifest(), Some(text.as_str()));
        assert_eq!(image.image_manifest_media_type(), Some(*media_type));
        let described = client.describe_images().repository_name("app").image_ids(by_digest(id)).send().await.unwrap();
        assert_eq!(described.image_details()[0].image_size_in_bytes(), Some(3));
    }

    let (incomplete, _) = schema_1(&[b"one", b"absent"]);
    refused!(put(&client, &incomplete).image_manifest_media_type(DOCKER_SCHEMA_1), is_layers_not_found_exception);
    let of_its_text = put(&client, &signed).image_manifest_media_type(DOCKER_SCHEMA_1_SIGNED);
    let of_its_text = of_its_text.image_digest(digest(signed.as_bytes()));
    refused!(of_its_text, is_image_digest_does_not_match_exception);
    // It has no media type in it, so the caller has to tell it.
    refused!(put(&client, &unsigned), is_invalid_parameter_exception);
    for (text, media_type) in [
        (&unsigned, DOCKER_SCHEMA_1_SIGNED),
        (&unsigned, OCI_MANIFEST),
        (&manifest(b"{}", &[]).to_string(), DOCKER_SCHEMA_1),
    ] {
        refused!(put(&client, text).image_manifest_media_type(media_type), is_invalid_parameter_exception);
    }
}

/// Pushes an image that is there, and tells whether the call was throttled.
async fn is_throttled(client: &Client, image: &str) -> bool {
    let error = put(client, image).send().await.unwrap_err();
    let status = error.raw_response().unwrap().status().as_u16();
    let error = error.into_service_error();
    if error.is_image_already_exists_exception() {
        return false;
    }
    assert_eq!((status, error.code(), error.message()), (400, Some("ThrottleException"), Some("Rate exceeded")));
    true
}

#[tokio::test]
async fn put_image_is_throttled_by_account_and_region() {
    let World { ecr, client: here } = World::with(Config { put_image_rate: Some(10), ..Config::default() }).await;
    let others = [client(&ecr, ACCOUNT, "us-east-1"), client(&ecr, "210987654321", REGION)];
    for client in others.iter().chain([&here]) {
        client.create_repository().repository_name("app").send().await.unwrap();
    }
    let image = push_image(&here, "app", b"{}", &[], None).await;
    // Ten pass at once; a busy machine may be slow enough for some more.
    let mut calls = 2;
    while !is_throttled(&here, &image).await {
        calls += 1;
    }
    assert!(calls > 10, "the call {calls} was throttled");
    for client in &others {
        push_image(client, "app", b"{}", &[], None).await;
    }
    calls += 1;
    while is_throttled(&here, &image).await {
        calls += 1;
    }
    // One more is the other account's in this region.
    assert_eq!(ecr.stats().calls(REGION, "PutImage"), calls + 1, "throttled calls are counted, too");
}

#[tokio::test]
async fn a_view_shows_a_repository_and_counts_no_call() {
    let World { ecr, client } = World::with_repository("app").await;
    assert_eq!(ecr.view(ACCOUNT, REGION, "app"), Some(RepositoryView::default()));
    let image = push_image(&client, "app", b"{}", &[], Some("v1")).await;
    put(&client, &image).image_tag("latest").send().await.unwrap();
    let list = index(&[&image]).to_string();
    put(&client, &list).send().await.unwrap();

    let before = ecr.stats();
    let view = ecr.view(ACCOUNT, REGION, "app").unwrap();
    let id = |manifest: &str| digest(manifest.as_bytes());
    assert_eq!(view.tags, BTreeMap::from(["latest", "v1"].map(|tag| (tag.to_owned(), id(&image)))));
    assert_eq!(view.images, BTreeMap::from([(id(&image), image), (id(&list), list)]));
    for (account, region, repository) in [
        ("210987654321", REGION, "app"),
        (ACCOUNT, "us-east-1", "app"),
        (ACCOUNT, REGION, "other"),
        ("no account", "NO REGION", "NO NAME"),
    ] {
        assert_eq!(ecr.view(account, region, repository), None, "{account} {region} {repository}");
    }
    assert_eq!(ecr.stats(), before);
}

#[tokio::test]
async fn a_tag_moves_where_it_is_mutable() {
    let World { ecr: _ecr, client } = World::with_repository("app").await;
    let exclusion = ImageTagMutabilityExclusionFilter::builder()
        .filter_type(ImageTagMutabilityExclusionFilterType::Wildcard)
        .filter("dev-*")
        .build()
        .unwrap();
    let first = push_image(&client, "app", b"{\"n\":1}", &[], None).await;
    let second = push_image(&client, "app", b"{\"n\":2}", &[], None).await;
    for (mode, exclusions, tag, moves) in [
        (ImageTagMutability::Mutable, None, "v1", true),
        (ImageTagMutability::Immutable, None, "v2", false),
        (ImageTagMutability::ImmutableWithExclusion, Some(vec![exclusion.clone()]), "v3", false),
        (ImageTagMutability::ImmutableWithExclusion, Some(vec![exclusion.clone()]), "dev-1", true),
        (ImageTagMutability::MutableWithExclusion, Some(vec![exclusion.clone()]), "v4", true),
        (ImageTagMutability::MutableWithExclusion, Some(vec![exclusion]), "dev-2", false),
    ] {
        client
            .put_image_tag_mutability()
            .repository_name("app")
            .image_tag_mutability(mode.clone())
            .set_image_tag_mutability_exclusion_filters(exclusions)
            .send()
            .await
            .unwrap();
        put(&client, &first).image_tag(tag).send().await.unwrap();
        // The same image once more is no change, whether or not the tag could move.
        refused!(put(&client, &first).image_tag(tag), is_image_already_exists_exception);
        let again = put(&client, &second).image_tag(tag);
        let expected = if moves {
            again.send().await.unwrap();
            &second
        } else {
            refused!(again, is_image_tag_already_exists_exception);
            &first
        };
        assert_eq!(digest_of_tag(&client, tag).await, Some(digest(expected.as_bytes())), "{mode:?} {tag}");
    }
}

#[tokio::test]
async fn an_immutable_tag_put_again_may_be_answered_as_a_conflict() {
    let config =
        Config { repeated_immutable_tag: RepeatedImmutableTagAnswer::ImageTagAlreadyExists, ..Config::default() };
    let World { ecr: _ecr, client } = World::with(config).await;
    let create = client.create_repository().repository_name("app");
    create.image_tag_mutability(ImageTagMutability::Immutable).send().await.unwrap();
    let image = push_image(&client, "app", b"{}", &[], Some("v1")).await;
    refused!(put(&client, &image).image_tag("v1"), is_image_tag_already_exists_exception);
    refused!(put(&client, &image), is_image_already_exists_exception);
}

#[tokio::test]
async fn batch_get_image_tells_why_an_image_is_not_in_its_answer() {
    let World { ecr: _ecr, client } = World::with_repository("app").await;
    let image = push_image(&client, "app", b"{}", &[], Some("v1")).await;
    let other = digest(b"other");
    let answer = client
        .batch_get_image()
        .repository_name("app")
        .image_ids(by_tag("v1"))
        .image_ids(by_digest("sha256:1"))
        .image_ids(by_tag("?"))
        .image_ids(ImageIdentifier::builder().build())
        .image_ids(by_tag("v2"))
        .image_ids(by_digest(&other))
        .image_ids(ImageIdentifier::builder().image_tag("v1").image_digest(&other).build())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.images()[0].image_manifest(), Some(image.as_str()));
    assert_eq!(answer.images().len(), 1);
    assert_eq!(
        codes(answer.failures()),
        [
            ImageFailureCode::InvalidImageDigest,
            ImageFailureCode::InvalidImageTag,
            ImageFailureCode::MissingDigestAndTag,
            ImageFailureCode::ImageNotFound,
            ImageFailureCode::ImageNotFound,
            ImageFailureCode::ImageTagDoesNotMatchDigest,
        ]
    );
    assert_eq!(answer.failures()[3].image_id().unwrap().image_tag(), Some("v2"));

    let too_many = Some(vec![by_tag("v1"); 101]);
    let get = client.batch_get_image().repository_name("app");
    refused!(get.clone().set_image_ids(too_many), is_invalid_parameter_exception);
    refused!(get.image_ids(by_tag("v1")).repository_name("absent"), is_repository_not_found_exception);
}

#[tokio::test]
async fn images_are_described_with_their_sizes_and_tags() {
    let World { ecr: _ecr, client } = World::with_repository("app").await;
    let small = push_image(&client, "app", b"{\"n\":1}", &[b"small"], None).await;
    let large = push_image(&client, "app", b"{\"n\":2}", &[b"a larger layer", b"small"], Some("b")).await;
    put(&client, &large).image_tag("a").send().await.unwrap();
    let list = index(&[&small, &large]).to_string();
    put(&client, &list).send().await.unwrap();
    let signature = referrer(&list, "application/x.signature");
    upload(&client, "app", b"{}").await;
    put(&client, &signature).send().await.unwrap();

    for (content, size, media_type, artifact_type, tags) in [
        (&small, 7 + 5, OCI_MANIFEST, Some(OCI_CONFIG), vec![]),
        (&large, 7 + 14 + 5, OCI_MANIFEST, Some(OCI_CONFIG), vec!["a", "b"]),
        (&list, 7 + 14 + 5, OCI_INDEX, None, vec![]),
        (&signature, 2, OCI_MANIFEST, Some("application/x.signature"), vec![]),
    ] {
        let id = digest(content.as_bytes());
        let described = client.describe_images().repository_name("app").image_ids(by_digest(&id)).send().await.unwrap();
        let [detail] = described.image_details() else { panic!("{described:?}") };
        assert_eq!(detail.image_digest(), Some(id.as_str()));
        assert_eq!(detail.image_size_in_bytes(), Some(size));
        assert_eq!(detail.image_manifest_media_type(), Some(media_type));
        assert_eq!(detail.artifact_media_type(), artifact_type);
        assert_eq!(detail.image_tags(), tags);
        assert!(detail.image_pushed_at().is_some());
    }
    let described = client.describe_images().repository_name("app");
    let signed = described.clone().image_ids(by_digest(&digest(signature.as_bytes()))).send().await.unwrap();
    assert_eq!(signed.image_details()[0].subject_manifest_digest(), Some(digest(list.as_bytes()).as_str()));
    refused!(described.clone().image_ids(by_tag("absent")), is_image_not_found_exception);
    refused!(described.clone().image_ids(by_tag("a")).max_results(1), is_invalid_parameter_exception);
    let tagged = DescribeImagesFilter::builder().tag_status(TagStatus::Tagged).build();
    let tagged = described.filter(tagged).send().await.unwrap();
    assert_eq!(tagged.image_details().len(), 1);
}

#[tokio::test]
async fn images_come_in_pages() {
    let World { ecr: _ecr, client } = World::with_repository("app").await;
    for (number, tag) in [(1, Some("a")), (2, Some("b")), (3, None), (4, None), (5, Some("c"))] {
        push_image(&client, "app", format!("{{\"n\":{number}}}").as_bytes(), &[], tag).await;
    }
    let (mut sizes, mut seen, mut token) = (Vec::new(), Vec::new(), None);
    loop {
        let list = client.list_images().repository_name("app").max_results(2).set_next_token(token);
        let page = list.send().await.unwrap();
        sizes.push(page.image_ids().len());
        seen.extend(page.image_ids().iter().map(|id| id.image_digest().unwrap().to_owned()));
        token = page.next_token().map(str::to_owned);
        if token.is_none() {
            break;
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!((sizes, seen.len()), (vec![2, 2, 1], 5));

    for (status, count) in [(TagStatus::Tagged, 3), (TagStatus::Untagged, 2), (TagStatus::Any, 5)] {
        let filter = ListImagesFilter::builder().tag_status(status.clone()).build();
        let list = client.list_images().repository_name("app").filter(filter).send().await.unwrap();
        assert_eq!(list.image_ids().len(), count, "{status:?}");
    }
    let first = client.describe_images().repository_name("app").max_results(4).send().await.unwrap();
    let second = client.describe_images().repository_name("app").next_token(first.next_token().unwrap());
    assert_eq!((first.image_details().len(), second.send().await.unwrap().image_details().len()), (4, 1));
}

#[tokio::test]
async fn an_image_goes_with_its_last_tag_and_not_before_its_list() {
    let World { ecr: _ecr, client } = World::with_repository("app").await;
    let image = push_image(&client, "app", b"{}", &[b"layer"], Some("a")).await;
    put(&client, &image).image_tag("b").send().await.unwrap();
    let list = index(&[&image]).to_string();
    put(&client, &list).image_tag("list").send().await.unwrap();
    let delete = client.batch_delete_image().repository_name("app");

    let answer = delete.clone().image_ids(by_tag("a")).image_ids(by_tag("absent")).send().await.unwrap();
    assert_eq!(answer.image_ids()[0].image_tag(), Some("a"));
    assert_eq!(codes(answer.failures()), [ImageFailureCode::ImageNotFound]);
    let answer = delete.clone().image_ids(by_digest(&digest(image.as_bytes()))).send().await.unwrap();
    assert_eq!(codes(answer.failures()), [ImageFailureCode::ImageReferencedByManifestList]);
    assert_eq!(digest_of_tag(&client, "b").await, Some(digest(image.as_bytes())));

    let answer = delete.image_ids(by_tag("list")).image_ids(by_tag("b")).send().await.unwrap();
    assert_eq!((answer.image_ids().len(), answer.failures().len()), (2, 0));
    assert!(client.list_images().repository_name("app").send().await.unwrap().image_ids().is_empty());
    let url = client.get_download_url_for_layer().repository_name("app").layer_digest(digest(b"layer"));
    refused!(url, is_layers_not_found_exception);
}

#[tokio::test]
async fn referrers_are_listed_by_type_and_in_pages() {
    let World { ecr: _ecr, client } = World::with_repository("app").await;
    let image = push_image(&client, "app", b"{}", &[], None).await;
    for artifact_type in ["application/x.signature", "application/x.sbom", "application/x.report"] {
        put(&client, &referrer(&image, artifact_type)).send().await.unwrap();
    }
    let subject =
        |content: &str| SubjectIdentifier::builder().image_digest(digest(content.as_bytes())).build().unwrap();
    let list = || client.list_image_referrers().repository_name("app").subject_id(subject(&image));
    let all = list().send().await.unwrap();
    assert_eq!(all.referrers().len(), 3);
    let sbom = referrer(&image, "application/x.sbom");
    let filter = ListImageReferrersFilter::builder().artifact_types("application/x.sbom").build();
    let some = list().filter(filter).send().await.unwrap();
    let [found] = some.referrers() else { panic!("{some:?}") };
    assert_eq!(found.digest(), digest(sbom.as_bytes()));
    assert_eq!(found.media_type(), OCI_MANIFEST);
    assert_eq!(found.artifact_type(), Some("application/x.sbom"));
    assert_eq!(found.size(), i64::try_from(sbom.len()).unwrap());
    assert_eq!(found.annotations().unwrap()["by"], "a test");

    let first = list().max_results(2).send().await.unwrap();
    let second = list().next_token(first.next_token().unwrap()).send().await.unwrap();
    assert_eq!((first.referrers().len(), second.referrers().len()), (2, 1));
    refused!(list().max_results(51), is_invalid_parameter_exception);
    let none = client.list_image_referrers().repository_name("app").subject_id(subject("absent"));
    assert!(none.send().await.unwrap().referrers().is_empty());
}
