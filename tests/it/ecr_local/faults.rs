use std::time::{Duration, Instant};

use aws_sdk_ecr::Client;
use aws_sdk_ecr::error::ProvideErrorMetadata as _;
use aws_sdk_ecr::types::{Image, ImageIdentifier, Layer, LayerAvailability};
use ecr_local::{Config, Fault, FaultState, Meanwhile, Moment, RegionStats, Stats};
use serde_json::{Value, json};

use super::layers::{part, refused_part};
use super::{ACCOUNT, OCI_INDEX, REGION, World, client, digest, index, initiate, push_image, refused, upload};

#[tokio::test]
async fn a_fault_is_answered_where_and_as_often_as_it_was_asked_for() {
    let World { ecr, client: here } = World::with_repository("app").await;
    here.create_repository().repository_name("other").send().await.unwrap();
    let elsewhere = client(&ecr, ACCOUNT, "us-east-1");
    elsewhere.create_repository().repository_name("app").send().await.unwrap();

    let fault = Fault::new("InitiateLayerUpload", 429, "ThrottlingException");
    ecr.fault(fault.in_region(REGION).in_repository("app").skip(1).times(2));
    let initiate = here.initiate_layer_upload();
    elsewhere.initiate_layer_upload().repository_name("app").send().await.unwrap();
    initiate.clone().repository_name("other").send().await.unwrap();
    initiate.clone().repository_name("app").send().await.unwrap();
    for _ in 0..2 {
        let error = initiate.clone().repository_name("app").send().await.unwrap_err();
        assert_eq!(error.raw_response().unwrap().status().as_u16(), 429);
        assert_eq!(error.code(), Some("ThrottlingException"));
    }
    initiate.clone().repository_name("app").send().await.unwrap();
    assert_eq!((ecr.faults()[0].remaining_times, ecr.faults()[0].met), (Some(0), 2));

    ecr.fault(Fault::new("InitiateLayerUpload", 500, "ServerException").for_ever());
    for _ in 0..3 {
        refused!(initiate.clone().repository_name("app"), is_server_exception);
    }
    ecr.clear_faults();
    initiate.repository_name("app").send().await.unwrap();
}

#[tokio::test]
async fn a_fault_comes_before_the_effect_or_after_it() {
    let World { ecr, client } = World::start().await;
    let create = client.create_repository().repository_name("app");
    ecr.fault(Fault::new("CreateRepository", 500, "ServerException"));
    refused!(create.clone(), is_server_exception);
    refused!(client.describe_repositories().repository_names("app"), is_repository_not_found_exception);
    ecr.fault(Fault::new("CreateRepository", 500, "ServerException").after_effect());
    refused!(create.clone(), is_server_exception);
    refused!(create, is_repository_already_exists_exception);
}

#[tokio::test]
async fn a_fault_may_be_a_matter_of_chance_that_a_seed_repeats() {
    let World { ecr, client } = World::with(Config { seed: 3, ..Config::default() }).await;
    let drawn = async || {
        let mut drawn = Vec::new();
        for _ in 0..40 {
            drawn.push(client.describe_repositories().send().await.is_err());
        }
        drawn
    };
    ecr.fault(Fault::new("DescribeRepositories", 500, "ServerException").probability(0.5).for_ever());
    let first = drawn().await;
    assert!(first.contains(&true) && first.contains(&false), "{first:?}");
    ecr.seed(3);
    assert_eq!(drawn().await, first);
    ecr.seed(4);
    assert_ne!(drawn().await, first);

    // The calls that do not meet it are left to the faults that follow.
    ecr.fault(Fault::new("DescribeRepositories", 400, "InvalidParameterException").for_ever());
    for _ in 0..10 {
        client.describe_repositories().send().await.unwrap_err();
    }
}

#[tokio::test]
async fn a_fault_may_be_for_the_push_of_one_image() {
    let World { ecr, client } = World::with_repository("app").await;
    let image = push_image(&client, "app", b"{}", &[], None).await;
    let list = index(&[&image]).to_string();
    let fault = json!({
        "operation": "PutImage",
        "digest": digest(list.as_bytes()),
        "status": 403,
        "code": "AccessDeniedException",
    });
    let admin = format!("{}/_admin/faults", ecr.endpoint());
    let add = |fault: &Value| reqwest::Client::new().post(&admin).body(fault.to_string()).send();
    assert_eq!(add(&fault).await.unwrap().status(), 204);
    let put = client.put_image().repository_name("app");
    put.clone().image_manifest(&image).image_tag("v1").send().await.unwrap();
    refused!(put.clone().image_manifest("{"), is_invalid_parameter_exception);
    assert_eq!(ecr.faults()[0].remaining_times, Some(1));
    let error = put.clone().image_manifest(&list).send().await.unwrap_err();
    assert_eq!(error.code(), Some("AccessDeniedException"));
    put.image_manifest(&list).send().await.unwrap();

    let of_no_image = json!({ "operation": "BatchGetImage", "digest": digest(b"x"), "status": 500, "code": "X" });
    assert_eq!(add(&of_no_image).await.unwrap().status(), 400);
}

#[tokio::test]
async fn a_fault_may_hold_its_answer_back() {
    let World { ecr, client } = World::start().await;
    let delay = Duration::from_millis(300);
    ecr.fault(Fault { delay_ms: Some(300), ..Fault::new("CreateRepository", 500, "ServerException") });
    let started = Instant::now();
    refused!(client.create_repository().repository_name("app"), is_server_exception);
    assert!(started.elapsed() >= delay);
}

#[tokio::test]
async fn a_download_can_fail_too() {
    let World { ecr, client } = World::with_repository("app").await;
    push_image(&client, "app", b"{}", &[], None).await;
    let url = client.get_download_url_for_layer().repository_name("app").layer_digest(digest(b"{}"));
    let url = url.send().await.unwrap().download_url().unwrap().to_owned();
    ecr.fault(Fault::new("DownloadLayer", 503, "SlowDown").in_region(REGION).in_repository("app"));
    let refused = reqwest::get(&url).await.unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.text().await.unwrap().contains("<Code>SlowDown</Code>"));
    assert_eq!(reqwest::get(&url).await.unwrap().bytes().await.unwrap(), b"{}".as_slice());
}

#[tokio::test]
async fn a_repository_may_be_deleted_before_any_call() {
    let World { ecr, client: here } = World::with_repository("app").await;
    here.create_repository().repository_name("other").send().await.unwrap();
    let elsewhere = client(&ecr, ACCOUNT, "us-east-1");
    elsewhere.create_repository().repository_name("app").send().await.unwrap();
    push_image(&here, "app", b"{}", &[], Some("v1")).await;
    let id = initiate(&here, "app").await;
    ecr.fault(Fault::of("UploadLayerPart").meanwhile(Meanwhile::DeleteRepository).skip(1));
    part(&here, &id, 0, b"01234567").send().await.unwrap();
    refused!(part(&here, &id, 8, b"89"), is_repository_not_found_exception);
    let is_there = |region: &str, name: &str| ecr.view(ACCOUNT, region, name).is_some();
    assert!(!is_there(REGION, "app") && is_there(REGION, "other") && is_there("us-east-1", "app"));
    // One that is made again begins empty.
    here.create_repository().repository_name("app").send().await.unwrap();
    refused!(part(&here, &id, 8, b"89"), is_upload_not_found_exception);

    // It is that of the registry which the call names, and the answer may be lost as well.
    let owner = client(&ecr, "210987654321", REGION);
    owner.create_repository().repository_name("app").send().await.unwrap();
    ecr.fault(Fault::new("InitiateLayerUpload", 500, "ServerException").meanwhile(Meanwhile::DeleteRepository));
    let initiate = here.initiate_layer_upload().registry_id("210987654321").repository_name("app");
    refused!(initiate, is_server_exception);
    assert!(is_there(REGION, "app") && ecr.view("210987654321", REGION, "app").is_none());
}

async fn images(client: &Client, digest: &str) -> Vec<Image> {
    let id = ImageIdentifier::builder().image_digest(digest).build();
    client.batch_get_image().repository_name("app").image_ids(id).send().await.unwrap().images.unwrap_or_default()
}

#[tokio::test]
async fn an_image_may_be_deleted_before_any_call() {
    let World { ecr, client } = World::with_repository("app").await;
    let image = push_image(&client, "app", b"{}", &[b"layer"], None).await;
    let kept = push_image(&client, "app", b"{}", &[], Some("kept")).await;
    let list = index(&[&image]).to_string();
    let put = client.put_image().repository_name("app").image_manifest(index(&[&list, &kept]).to_string());
    client.put_image().repository_name("app").image_manifest(&list).send().await.unwrap();
    put.image_tag("v1").send().await.unwrap();

    let deleted = digest(image.as_bytes());
    ecr.fault(Fault::of("BatchGetImage").meanwhile(Meanwhile::DeleteImage(deleted.clone())).skip(1));
    assert_eq!(images(&client, &deleted).await.len(), 1);
    assert_eq!(images(&client, &deleted).await.len(), 0);
    // Neither do the indexes stay that list it, nor the layers that no other image has.
    let view = ecr.view(ACCOUNT, REGION, "app").unwrap();
    assert_eq!(view.images.into_values().collect::<Vec<_>>(), [kept]);
    assert_eq!(view.tags.into_keys().collect::<Vec<_>>(), ["kept"]);
    let url = client.get_download_url_for_layer().repository_name("app");
    refused!(url.clone().layer_digest(digest(b"layer")), is_layers_not_found_exception);
    url.layer_digest(digest(b"{}")).send().await.unwrap();
}

#[tokio::test]
async fn an_upload_that_is_forgotten_is_unknown() {
    let World { ecr, client: here } = World::with_repository("app").await;
    let elsewhere = client(&ecr, ACCOUNT, "us-east-1");
    elsewhere.create_repository().repository_name("app").send().await.unwrap();
    let (id, other) = (initiate(&here, "app").await, initiate(&elsewhere, "app").await);
    part(&here, &id, 0, b"01234567").send().await.unwrap();
    ecr.forget_uploads(REGION);
    refused!(part(&here, &id, 8, b"89"), is_upload_not_found_exception);
    part(&elsewhere, &other, 0, b"x").send().await.unwrap();
    upload(&here, "app", b"0123456789").await;

    let id = initiate(&here, "app").await;
    part(&here, &id, 0, b"x").send().await.unwrap();
    ecr.fault(Fault::of("CompleteLayerUpload").in_region(REGION).meanwhile(Meanwhile::ForgetUploads));
    let complete = here.complete_layer_upload().repository_name("app").upload_id(&id).layer_digests(digest(b"x"));
    refused!(complete, is_upload_not_found_exception);
    let complete = elsewhere.complete_layer_upload().repository_name("app").upload_id(&other);
    complete.layer_digests(digest(b"x")).send().await.unwrap();
}

#[tokio::test]
async fn a_part_may_be_acknowledged_short() {
    let World { ecr, client } = World::with_repository("app").await;
    let id = initiate(&client, "app").await;
    ecr.fault(Fault::of("UploadLayerPart").keep(3));
    let answer = part(&client, &id, 0, b"01234567").send().await.unwrap();
    assert_eq!(answer.last_byte_received(), Some(2));
    assert_eq!(refused_part(part(&client, &id, 8, b"89abcdef")).await.last_valid_byte_received(), Some(2));
    // Its answer may be lost as well, and more than what was sent cannot be kept.
    ecr.fault(Fault::new("UploadLayerPart", 500, "ServerException").after_effect().keep(2));
    refused!(part(&client, &id, 3, b"3456789a"), is_server_exception);
    assert_eq!(refused_part(part(&client, &id, 3, b"3456789a")).await.last_valid_byte_received(), Some(4));
    ecr.fault(Fault::of("UploadLayerPart").keep(100));
    let answer = part(&client, &id, 5, b"56789abc").send().await.unwrap();
    assert_eq!(answer.last_byte_received(), Some(12));
    // Nobody is blamed for parts that were long enough when they were sent.
    part(&client, &id, 13, b"def").send().await.unwrap();
    let complete = client.complete_layer_upload().repository_name("app").upload_id(&id);
    complete.layer_digests(digest(b"0123456789abcdef")).send().await.unwrap();

    ecr.fault(Fault::of("UploadLayerPart").keep(0));
    let id = initiate(&client, "app").await;
    assert_eq!(part(&client, &id, 0, b"x").send().await.unwrap().last_byte_received(), None);
    assert_eq!(refused_part(part(&client, &id, 1, b"y")).await.last_valid_byte_received(), None);
}

#[tokio::test]
async fn a_registry_may_lie_about_its_layers() {
    let World { ecr, client } = World::with_repository("app").await;
    let (there, absent) = (upload(&client, "app", b"layer").await, digest(b"absent"));
    let told = async || -> Vec<Layer> {
        let check = client.batch_check_layer_availability().repository_name("app");
        check.layer_digests(&there).layer_digests(&absent).send().await.unwrap().layers.unwrap_or_default()
    };
    let truth = told().await;
    assert_eq!(truth[1].layer_availability(), Some(&LayerAvailability::Unavailable));
    let lie = |layers: Value| ecr.fault(Fault::of("BatchCheckLayerAvailability").body(json!({ "layers": layers })));
    lie(json!({ "layerAvailability": "AVAILABLE", "layerSize": 7 }));
    for (layer, digest) in told().await.iter().zip([&there, &absent]) {
        assert_eq!(layer.layer_digest(), Some(digest.as_str()));
        assert_eq!((layer.layer_availability(), layer.layer_size()), (Some(&LayerAvailability::Available), Some(7)));
    }
    lie(json!({ "layerAvailability": "UNAVAILABLE", "layerSize": null }));
    for layer in told().await {
        assert_eq!((layer.layer_availability(), layer.layer_size()), (Some(&LayerAvailability::Unavailable), None));
    }
    lie(json!([]));
    assert!(told().await.is_empty());
    assert_eq!(told().await, truth);
}

#[tokio::test]
async fn a_registry_may_answer_any_text_for_a_manifest() {
    let World { ecr, client } = World::with_repository("app").await;
    let image = push_image(&client, "app", b"{}", &[], Some("v1")).await;
    let asked = digest(image.as_bytes());
    let itself = json!({ "mediaType": OCI_INDEX, "digest": asked, "size": 1 });
    let cyclic = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [itself] });
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for lie in [image.replace(':', ": "), "no json".to_owned(), " ".repeat(5 * 1024 * 1024), deep, cyclic.to_string()] {
        ecr.fault(Fault::of("BatchGetImage").body(json!({ "images": { "imageManifest": lie } })));
        let told = images(&client, &asked).await;
        assert!(told[0].image_manifest() == Some(lie.as_str()), "{lie:.80}");
        assert_eq!(told[0].image_id().unwrap().image_digest(), Some(asked.as_str()));
    }
    assert_eq!(images(&client, &asked).await[0].image_manifest(), Some(image.as_str()));
}

#[tokio::test]
async fn an_answer_may_be_no_json() {
    let World { ecr, client } = World::with_repository("app").await;
    let describe = client.describe_repositories();
    let page = "<html>Bad Gateway</html>";
    ecr.fault(Fault::new("DescribeRepositories", 502, "").body(page));
    let error = describe.clone().send().await.unwrap_err();
    let answer = error.raw_response().unwrap();
    assert_eq!((answer.status().as_u16(), answer.body().bytes()), (502, Some(page.as_bytes())));
    assert_eq!(answer.headers().get("x-amzn-errortype"), None);

    ecr.fault(Fault::of("DescribeRepositories").truncate(20));
    let error = describe.clone().send().await.unwrap_err();
    let answer = error.raw_response().unwrap();
    assert_eq!((answer.status().as_u16(), answer.body().bytes().map(<[u8]>::len)), (200, Some(20)));
    assert_eq!(describe.send().await.unwrap().repositories().len(), 1);
}

#[tokio::test]
async fn a_client_is_stopped_at_a_request_that_takes_effect_or_does_not() {
    let World { ecr, client } = World::with_repository("app").await;
    let make = |name: &str| client.create_repository().repository_name(name).send();
    let names = async || {
        let described = client.describe_repositories().send().await.unwrap();
        let mut names: Vec<_> =
            described.repositories().iter().map(|it| it.repository_name().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    for (moment, there) in [(Moment::Before, &["app", "b1"][..]), (Moment::After, &["app", "b1", "c1", "c2"])] {
        let name = if moment == Moment::Before { "b" } else { "c" };
        let halted = ecr.halt_after(1, moment);
        make(&format!("{name}1")).await.unwrap();
        let second = format!("{name}2");
        tokio::select! {
            biased;
            halted = halted => halted.unwrap(),
            answer = make(&second) => panic!("it was answered: {answer:?}"),
        }
        ecr.go_on();
        assert_eq!(names().await, there);
    }
}

#[tokio::test]
async fn the_admin_endpoint_has_counters_and_faults() {
    let World { ecr, client } = World::with_repository("app").await;
    let admin = |path: &str| format!("{}/_admin/{path}", ecr.endpoint());
    let http = reqwest::Client::new();
    upload(&client, "app", b"0123456789").await;
    let stats: Stats =
        serde_json::from_str(&reqwest::get(admin("stats")).await.unwrap().text().await.unwrap()).unwrap();
    assert_eq!(stats, ecr.stats());
    let expected =
        [("CompleteLayerUpload", 1), ("CreateRepository", 1), ("InitiateLayerUpload", 1), ("UploadLayerPart", 2)];
    let calls = expected.map(|(operation, count)| (operation.to_owned(), count)).into();
    let counted = stats.region(REGION);
    assert!(counted.wire_received_bytes > 10 && counted.wire_sent_bytes > 0, "{counted:?}");
    let RegionStats { wire_received_bytes, wire_sent_bytes, .. } = counted;
    let expected =
        RegionStats { calls, uploaded_bytes: 10, wire_received_bytes, wire_sent_bytes, ..RegionStats::default() };
    assert_eq!(counted, expected);
    assert_eq!(http.delete(admin("stats")).send().await.unwrap().status(), 204);
    assert_eq!(ecr.stats(), Stats::default());

    let fault = json!({ "operation": "PutImage", "status": 500, "code": "ServerException", "times": null });
    assert_eq!(http.post(admin("faults")).body(fault.to_string()).send().await.unwrap().status(), 204);
    let unknown = json!({ "operation": "PutImage", "status": 500, "code": "ServerException", "time": 1 });
    assert_eq!(http.post(admin("faults")).body(unknown.to_string()).send().await.unwrap().status(), 400);
    let listed = reqwest::get(admin("faults")).await.unwrap().text().await.unwrap();
    let listed: Vec<FaultState> = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed, ecr.faults());
    assert_eq!((listed.len(), listed[0].remaining_times), (1, None));
    let put = client.put_image().repository_name("app").image_manifest("{}");
    refused!(put, is_server_exception);
    assert_eq!(http.delete(admin("faults")).send().await.unwrap().status(), 204);
    let listed: Value =
        serde_json::from_str(&reqwest::get(admin("faults")).await.unwrap().text().await.unwrap()).unwrap();
    assert_eq!(listed, json!([]));
}
