use std::time::{Duration, Instant};

use aws_sdk_ecr::error::ProvideErrorMetadata as _;
use ecr_local::{Fault, FaultState, RegionStats, Stats};
use serde_json::{Value, json};

use super::{ACCOUNT, REGION, World, client, digest, push_image, refused, upload};

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
    assert_eq!(ecr.faults()[0].remaining_times, Some(0));

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
