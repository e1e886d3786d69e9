//! A source that lies: about manifests, about sizes, about where layers are; and one whose answers break off.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
    routing::post,
};
use copy_layers::{Dependencies, Error, Settings, handle};
use serde_json::{Value, json};
use shared::{
    contract::Copied,
    copy::Uploads,
    error::{ErrorName, Named as _, diagnostic},
    names::Digest,
    registry::Registries,
    serve::{Deadline, decode},
};

use crate::world::{SOURCE, TARGET, World, layer, sdk_config, target_input};

const ROADS: [Uploads; 2] = [Uploads::Auto, Uploads::Parts];

#[derive(Clone, Copy)]
enum Lie {
    /// Manifests of the source have another byte than their digest says.
    Manifest,
    /// Layers are a byte longer than their manifest says.
    Size,
    /// Layers are elsewhere.
    Redirect,
    /// So many downloads break off in the middle.
    BreakOff(u32),
}

/// Passes calls on to the local ECR, and lies on the way back.
#[derive(Clone)]
struct Liar {
    ecr: String,
    lie: Lie,
    client: reqwest::Client,
    downloads: Arc<AtomicU32>,
    elsewhere: Arc<AtomicU32>,
}

async fn call(State(liar): State<Liar>, headers: HeaderMap, body: Bytes) -> Response {
    let operation = headers["x-amz-target"].to_str().unwrap().to_owned();
    let is_source = headers["authorization"].to_str().unwrap().contains(SOURCE);
    let host = headers["host"].to_str().unwrap().to_owned();
    let answer = liar.client.post(&liar.ecr).headers(headers).body(body).send().await.unwrap();
    let status = answer.status();
    let mut answer: Value = answer.json().await.unwrap();
    if let Some(url) = answer["downloadUrl"].as_str() {
        answer["downloadUrl"] = json!(url.replace(&liar.ecr, &format!("http://{host}")));
    }
    if matches!(liar.lie, Lie::Manifest) && operation.ends_with(".BatchGetImage") && is_source {
        let manifest = answer["images"][0]["imageManifest"].as_str().unwrap();
        answer["images"][0]["imageManifest"] = json!(format!("{manifest} "));
    }
    (status, answer.to_string()).into_response()
}

async fn download(State(liar): State<Liar>, headers: HeaderMap, uri: Uri) -> Response {
    if uri.path() == "/elsewhere" {
        liar.elsewhere.fetch_add(1, Ordering::SeqCst);
        return "not a layer".into_response();
    }
    let before = liar.downloads.fetch_add(1, Ordering::SeqCst);
    if matches!(liar.lie, Lie::Redirect) {
        return (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/elsewhere")]).into_response();
    }
    let range = headers[header::RANGE].clone();
    let answer = liar.client.get(format!("{}{uri}", liar.ecr)).header(header::RANGE, range).send().await.unwrap();
    let (status, said) = (answer.status(), answer.headers()[header::CONTENT_RANGE].to_str().unwrap().to_owned());
    let content = answer.bytes().await.unwrap();
    match liar.lie {
        Lie::Size => {
            let (range, size) = said.split_once('/').unwrap();
            let size: u64 = size.parse().unwrap();
            (status, [(header::CONTENT_RANGE, format!("{range}/{}", size + 1))], content).into_response()
        }
        Lie::BreakOff(times) if before < times => {
            let half = content.slice(..content.len() / 2);
            let body = futures::stream::iter([Ok(half), Err(std::io::Error::other("cut"))]);
            (status, [(header::CONTENT_RANGE, said)], Body::from_stream(body)).into_response()
        }
        _ => (status, [(header::CONTENT_RANGE, said)], content).into_response(),
    }
}

/// Copies an image from a source that lies; what came of it, and the liar.
async fn copy_from(lie: Lie, uploads: Uploads) -> (World, Liar, Result<Copied, Error>) {
    let world = World::start().await;
    world.create_repository(TARGET).await;
    let digest = world.push_image(Some("v1"), &[b"config", &layer(1, 5000)]).await;
    let liar = Liar {
        ecr: world.ecr.endpoint(),
        lie,
        client: reqwest::Client::new(),
        downloads: Arc::default(),
        elsewhere: Arc::default(),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/", post(call)).fallback(download).with_state(liar.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });

    let registries = Registries::new(sdk_config(&endpoint, SOURCE).await).unwrap();
    let dependencies = Dependencies::new(registries, Settings { memory: 256, uploads, max_shards: 1 }).unwrap();
    let mut input = target_input(&digest, None);
    (input["layers"], input["cursor"]) = (Value::Null, Value::Null);
    let far = Deadline::told_by(|| std::time::Duration::from_mins(15));
    let copied = handle(&dependencies, decode(input).unwrap(), far).await;
    (world, liar, copied)
}

#[tokio::test]
async fn a_manifest_that_is_not_its_digest_s_is_refused() {
    let (world, _, copied) = copy_from(Lie::Manifest, Uploads::Auto).await;
    assert_eq!(copied.unwrap_err().name(), ErrorName::DigestMismatch);
    assert_eq!(world.calls(TARGET, "InitiateLayerUpload"), 0);
}

#[tokio::test]
async fn a_layer_of_another_size_than_its_manifest_says_is_refused() {
    for uploads in ROADS {
        let (world, _, copied) = copy_from(Lie::Size, uploads).await;
        assert_eq!(copied.unwrap_err().name(), ErrorName::DigestMismatch);
        assert_eq!(world.calls(TARGET, "CompleteLayerUpload") + world.calls(TARGET, "v2:PUT upload"), 0);
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    for uploads in ROADS {
        let (_, liar, copied) = copy_from(Lie::Redirect, uploads).await;
        assert_eq!(copied.unwrap_err().name(), ErrorName::RegistryUnavailable);
        assert_eq!(liar.elsewhere.load(Ordering::SeqCst), 0, "nothing but the source and the targets is contacted");
    }
}

#[tokio::test]
async fn a_download_that_breaks_off_is_read_again() {
    for uploads in ROADS {
        let (world, liar, copied) = copy_from(Lie::BreakOff(2), uploads).await;
        let cursor = copied.unwrap().cursor;
        assert_eq!(cursor.layers_copied, 2);
        assert_eq!(cursor.layers_streamed, if uploads == Uploads::Auto { 2 } else { 0 }, "the stream waits for it");
        assert_eq!(liar.downloads.load(Ordering::SeqCst), 2 + 2, "each of two blobs once, and each break once more");
        world.put(TARGET, &crate::world::manifest(&[b"config", &layer(1, 5000)]), None).await;
    }
}

#[tokio::test]
async fn a_download_that_always_breaks_off_is_told_without_its_url() {
    for uploads in ROADS {
        let (_, _, copied) = copy_from(Lie::BreakOff(u32::MAX), uploads).await;
        let diagnostic = diagnostic(&copied.unwrap_err());
        assert_eq!(diagnostic.error_type, "RegistryUnavailable");
        let message = diagnostic.error_message;
        let layers = [Digest::of(&layer(1, 5000)), Digest::of(b"config")];
        assert!(layers.iter().any(|layer| message.contains(layer.as_str())), "{message}");
        assert!(message.contains("the download broke") && !message.contains("http"), "{message}");
    }
}
