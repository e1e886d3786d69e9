use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use ecr_local::{Config, EcrLocal, Fault};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{ACCOUNT, OCI_CONFIG, OCI_MANIFEST, PART_SIZE, REGION, World, digest, push_image};

/// An event bus that refuses so many calls before it takes one, half of them with a refused entry in a good answer.
struct Bus {
    endpoint: String,
    taken: mpsc::UnboundedReceiver<(HeaderMap, Value)>,
}

#[derive(Clone)]
struct BusState {
    refusals: Arc<AtomicU32>,
    taken: mpsc::UnboundedSender<(HeaderMap, Value)>,
}

impl Bus {
    async fn start(refusals: u32) -> Self {
        let (sender, taken) = mpsc::unbounded_channel();
        let state = BusState { refusals: Arc::new(AtomicU32::new(refusals)), taken: sender };
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/", post(put_events)).with_state(state);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { endpoint, taken }
    }

    async fn next(&mut self) -> (HeaderMap, Value) {
        tokio::time::timeout(Duration::from_secs(10), self.taken.recv()).await.unwrap().unwrap()
    }
}

async fn put_events(State(bus): State<BusState>, headers: HeaderMap, body: String) -> (StatusCode, Json<Value>) {
    let left = bus.refusals.load(Ordering::SeqCst);
    if left > 0 {
        bus.refusals.store(left - 1, Ordering::SeqCst);
        return if left % 2 == 0 {
            (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({ "__type": "InternalException" })))
        } else {
            let entries = json!([{ "ErrorCode": "ThrottlingException", "ErrorMessage": "later" }]);
            (StatusCode::OK, Json(json!({ "FailedEntryCount": 1, "Entries": entries })))
        };
    }
    bus.taken.send((headers, serde_json::from_str(&body).unwrap())).unwrap();
    (StatusCode::OK, Json(json!({ "FailedEntryCount": 0, "Entries": [{ "EventId": "1" }] })))
}

async fn world(bus: &Bus) -> World {
    let config = Config { events_endpoint: Some(bus.endpoint.clone()), part_size: PART_SIZE, ..Config::default() };
    let world = World::with(config).await;
    world.client.create_repository().repository_name("app").send().await.unwrap();
    world
}

/// Events are delivered in the background: waits until `count` of them are settled.
async fn settled(ecr: &EcrLocal, count: u64) -> (u64, u64) {
    tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let stats = ecr.stats().region(REGION);
            if stats.events_delivered + stats.events_failed >= count {
                return (stats.events_delivered, stats.events_failed);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn each_push_that_changes_something_sends_the_documented_event() {
    let mut bus = Bus::start(0).await;
    let world = world(&bus).await;
    let image = push_image(&world.client, "app", b"{}", &[], None).await;
    let (headers, body) = bus.next().await;
    let authorization = headers["authorization"].to_str().unwrap();
    assert!(authorization.contains(&format!("Credential={ACCOUNT}/")), "{authorization}");
    assert!(authorization.contains(&format!("/{REGION}/events/")), "{authorization}");
    let [entry] = body["Entries"].as_array().unwrap().as_slice() else { panic!("{body}") };
    assert_eq!(entry["Source"], "ecr-replicator.replay");
    assert_eq!(entry["DetailType"], "ECR Image Action");
    let mut expected = json!({
        "result": "SUCCESS",
        "repository-name": "app",
        "image-digest": digest(image.as_bytes()),
        "action-type": "PUSH",
        "image-tag": "",
        "manifest-media-type": OCI_MANIFEST,
        "artifact-media-type": OCI_CONFIG,
    });
    let detail: Value = serde_json::from_str(entry["Detail"].as_str().unwrap()).unwrap();
    assert_eq!(detail, expected);

    // A new tag is a change; the same once more is none.
    let put = world.client.put_image().repository_name("app").image_manifest(&image).image_tag("v1");
    put.clone().send().await.unwrap();
    put.send().await.unwrap_err();
    let (_, body) = bus.next().await;
    let detail: Value = serde_json::from_str(body["Entries"][0]["Detail"].as_str().unwrap()).unwrap();
    expected["image-tag"] = json!("v1");
    assert_eq!(detail, expected);
    push_image(&world.client, "app", b"{\"n\":2}", &[], None).await;
    let (_, body) = bus.next().await;
    let detail: Value = serde_json::from_str(body["Entries"][0]["Detail"].as_str().unwrap()).unwrap();
    assert_eq!(detail["image-tag"], "", "an event for the push that changed nothing");
    assert_eq!(settled(&world.ecr, 3).await, (3, 0));
}

#[tokio::test]
async fn an_event_is_sent_again_until_the_bus_takes_it() {
    let mut bus = Bus::start(3).await;
    let world = world(&bus).await;
    push_image(&world.client, "app", b"{}", &[], Some("v1")).await;
    bus.next().await;
    assert_eq!(settled(&world.ecr, 1).await, (1, 0));
}

#[tokio::test]
async fn an_event_that_is_given_up_is_counted() {
    let bus = Bus::start(u32::MAX).await;
    let world = world(&bus).await;
    push_image(&world.client, "app", b"{}", &[], Some("v1")).await;
    assert_eq!(settled(&world.ecr, 1).await, (0, 1));
}

#[tokio::test]
async fn a_push_whose_answer_was_lost_sends_its_event() {
    let mut bus = Bus::start(0).await;
    let world = world(&bus).await;
    super::upload(&world.client, "app", b"{}").await;
    world.ecr.fault(Fault::new("PutImage", 500, "ServerException").after_effect());
    let put = world.client.put_image().repository_name("app").image_tag("v1");
    put.image_manifest(super::manifest(b"{}", &[]).to_string()).send().await.unwrap_err();
    bus.next().await;
}
