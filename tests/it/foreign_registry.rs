//! Streams to a registry server that is not ours: Distribution's own, as Debian packages it.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::post,
};
use copy_layers::{Dependencies, Settings, handle};
use serde_json::{Value, json};
use shared::{
    contract::Copied,
    copy::Uploads,
    names::Digest,
    registry::Registries,
    serve::{Deadline, decode},
};
use tokio::process::{Child, Command};

use crate::world::{REPOSITORY, SOURCE, TARGET, World, layer, manifest, sdk_config, target_input};

/// Distribution on a free port, with its files in a directory of its own. It ends when it is dropped.
struct Distribution {
    _process: Child,
    _home: tempfile::TempDir,
    endpoint: String,
}

impl Distribution {
    /// `None` where it is not installed.
    async fn start() -> Option<Self> {
        let home = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = json!({
            "version": "0.1",
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": home.path().join("registry")}},
            "http": {"addr": format!("127.0.0.1:{port}")},
        });
        let file = home.path().join("config.yml");
        // JSON is YAML.
        std::fs::write(&file, config.to_string()).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .ok()?;
        let endpoint = format!("http://127.0.0.1:{port}");
        let started = Instant::now();
        while reqwest::get(format!("{endpoint}/v2/")).await.is_err() {
            assert!(started.elapsed() < Duration::from_mins(1), "docker-registry does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(Self { _process: process, _home: home, endpoint })
    }
}

/// The local ECR's API, with another registry as the target's endpoint.
#[derive(Clone)]
struct Api {
    ecr: String,
    registry: String,
    /// Whether the API is to say that every layer is missing: what is streamed elsewhere it does not know of.
    misses_all: bool,
}

impl Api {
    /// Registries that call it.
    async fn serve(self) -> Registries {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/", post(call)).with_state(self)).await });
        Registries::new(sdk_config(&endpoint, SOURCE).await).unwrap()
    }
}

async fn copy(registries: Registries, digest: &Digest) -> Copied {
    let settings = Settings { memory: 256, uploads: Uploads::Auto, max_shards: 1 };
    let mut input = target_input(digest, None);
    (input["layers"], input["cursor"]) = (Value::Null, Value::Null);
    let dependencies = Dependencies::new(registries, settings).unwrap();
    let deadline = Deadline::told_by(|| Duration::from_mins(15));
    handle(&dependencies, decode(input).unwrap(), deadline).await.unwrap()
}

async fn call(State(api): State<Api>, headers: HeaderMap, body: Bytes) -> Response {
    let operation = headers["x-amz-target"].to_str().unwrap();
    if operation.ends_with(".GetAuthorizationToken") {
        let data = json!({"authorizationToken": "QVdTOnRva2Vu", "expiresAt": 4e9, "proxyEndpoint": api.registry});
        return Json(json!({"authorizationData": [data]})).into_response();
    }
    if operation.ends_with(".BatchCheckLayerAvailability") && api.misses_all {
        let asked: Value = serde_json::from_slice(&body).unwrap();
        let layers = asked["layerDigests"].as_array().unwrap().iter();
        let missing = layers.map(|digest| json!({"layerDigest": digest, "layerAvailability": "UNAVAILABLE"}));
        return Json(json!({"layers": missing.collect::<Vec<_>>(), "failures": []})).into_response();
    }
    let answer = reqwest::Client::new().post(&api.ecr).headers(headers).body(body).send().await.unwrap();
    (answer.status(), answer.bytes().await.unwrap()).into_response()
}

#[tokio::test]
async fn distribution_takes_a_stream() {
    let Some(distribution) = Distribution::start().await else {
        assert!(std::env::var_os("CI").is_none(), "docker-registry is not installed");
        println!("SKIPPED: docker-registry is not installed; the local ECR takes the same stream in other tests");
        return;
    };
    let world = World::start().await;
    let layers = [layer(1, 3_000_000), layer(2, 70_000)];
    let blobs: [&[u8]; 3] = [b"config", &layers[0], &layers[1]];
    let digest = world.push_image(Some("v1"), &blobs).await;
    let api = Api { ecr: world.ecr.endpoint(), registry: distribution.endpoint.clone(), misses_all: true };
    let copied = copy(api.serve().await, &digest).await;
    assert_eq!((copied.done, copied.cursor.layers_copied, copied.cursor.layers_streamed), (true, 3, 3));
    assert_eq!(world.calls(TARGET, "InitiateLayerUpload"), 0);
    for blob in blobs {
        let url = format!("{}/v2/{REPOSITORY}/blobs/{}", distribution.endpoint, Digest::of(blob));
        let stored = reqwest::get(url).await.unwrap().error_for_status().unwrap().bytes().await.unwrap();
        assert_eq!(Digest::of(&stored), Digest::of(blob));
    }
}

#[tokio::test]
async fn an_endpoint_without_a_route_costs_a_few_attempts_and_every_layer_goes_by_parts() {
    let world = World::start().await;
    world.create_repository(TARGET).await;
    let digest = world.push_image(Some("v1"), &[b"config", &layer(1, 50_000)]).await;
    // As in a VPC that has an endpoint for the API only: nobody listens there.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let api = Api { ecr: world.ecr.endpoint(), registry: format!("http://{closed}"), misses_all: false };
    let copied = copy(api.serve().await, &digest).await;
    assert_eq!((copied.done, copied.cursor.layers_copied, copied.cursor.layers_streamed), (true, 2, 0));
    world.put(TARGET, &manifest(&[b"config", &layer(1, 50_000)]), Some("whole")).await;
}

#[tokio::test]
async fn an_upload_that_is_sent_elsewhere_is_not_followed_there() {
    let world = World::start().await;
    world.create_repository(TARGET).await;
    let digest = world.push_image(Some("v1"), &[b"config", &layer(1, 50_000)]).await;
    let elsewhere = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let location = format!("http://{}/v2/prod/app/blobs/uploads/1", elsewhere.local_addr().unwrap());
    let begin = async move || (StatusCode::ACCEPTED, [("location", location)]).into_response();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let registry = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(begin)).await });
    let api = Api { ecr: world.ecr.endpoint(), registry, misses_all: false };
    let copied = copy(api.serve().await, &digest).await;
    assert_eq!((copied.done, copied.cursor.layers_copied, copied.cursor.layers_streamed), (true, 2, 0));
    let came = tokio::time::timeout(Duration::from_millis(1), elsewhere.accept()).await;
    assert!(came.is_err(), "a token went to another host");
}
