//! Streams to a registry server that is not ours: Distribution's own, as Debian packages it.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse as _, Response},
    routing::post,
};
use copy_layers::{Dependencies, Settings, handle};
use serde_json::{Value, json};
use shared::{
    copy::Uploads,
    names::Digest,
    registry::Registries,
    serve::{Deadline, decode},
};
use tokio::process::{Child, Command};

use crate::world::{REPOSITORY, SOURCE, TARGET, World, layer, sdk_config, target_input};

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

/// The local ECR's API, with Distribution as the target's endpoint, which misses every layer.
#[derive(Clone)]
struct Api {
    ecr: String,
    registry: String,
}

async fn call(State(api): State<Api>, headers: HeaderMap, body: Bytes) -> Response {
    let operation = headers["x-amz-target"].to_str().unwrap();
    if operation.ends_with(".GetAuthorizationToken") {
        let data = json!({"authorizationToken": "QVdTOnRva2Vu", "expiresAt": 4e9, "proxyEndpoint": api.registry});
        return Json(json!({"authorizationData": [data]})).into_response();
    }
    if operation.ends_with(".BatchCheckLayerAvailability") {
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
        println!("SKIPPED: docker-registry is not installed; the local ECR takes the same stream in other tests");
        return;
    };
    let world = World::start().await;
    let layers = [layer(1, 3_000_000), layer(2, 70_000)];
    let blobs: [&[u8]; 3] = [b"config", &layers[0], &layers[1]];
    let digest = world.push_image(Some("v1"), &blobs).await;
    let api = Api { ecr: world.ecr.endpoint(), registry: distribution.endpoint.clone() };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/", post(call)).with_state(api)).await });

    let registries = Registries::new(sdk_config(&endpoint, SOURCE).await).unwrap();
    let settings = Settings { memory: 256, uploads: Uploads::Auto, max_shards: 1 };
    let mut input = target_input(&digest, None);
    (input["layers"], input["cursor"]) = (Value::Null, Value::Null);
    let dependencies = Dependencies::new(registries, settings).unwrap();
    let deadline = Deadline::told_by(|| Duration::from_mins(15));
    let copied = handle(&dependencies, decode(input).unwrap(), deadline).await.unwrap();
    assert_eq!((copied.done, copied.cursor.layers_copied, copied.cursor.layers_streamed), (true, 3, 3));
    assert_eq!(world.calls(TARGET, "InitiateLayerUpload"), 0);
    for blob in blobs {
        let url = format!("{}/v2/{REPOSITORY}/blobs/{}", distribution.endpoint, Digest::of(blob));
        let stored = reqwest::get(url).await.unwrap().error_for_status().unwrap().bytes().await.unwrap();
        assert_eq!(Digest::of(&stored), Digest::of(blob));
    }
}
