//! The local ECR, asked by clients that know nothing of it: the AWS SDK, oci-client, skopeo, plain HTTP.

mod accounts;
mod distribution;
mod downloads;
mod events;
mod faults;
mod images;
mod layers;
mod repositories;

use aws_sdk_ecr::Client;
use aws_sdk_ecr::config::retry::RetryConfig;
use aws_sdk_ecr::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_ecr::primitives::Blob;
use ecr_local::{Config, EcrLocal};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const ACCOUNT: &str = "123456789012";
const REGION: &str = "eu-central-1";
/// Small, so that a layer of some bytes has several parts.
const PART_SIZE: u64 = 8;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Calls the operation, which has to be refused with the named exception, and gives back its error.
macro_rules! refused {
    ($call:expr, $is_exception:ident) => {{
        let error = $call.send().await.expect_err(stringify!($is_exception)).into_service_error();
        assert!(error.$is_exception(), "{}: {error:?}", stringify!($is_exception));
        error
    }};
}
use refused;

/// A local ECR with one client in one region and account.
struct World {
    ecr: EcrLocal,
    client: Client,
}

impl World {
    async fn start() -> Self {
        Self::with(Config { part_size: PART_SIZE, ..Config::default() }).await
    }

    async fn with(config: Config) -> Self {
        let ecr = EcrLocal::start(config).await.unwrap();
        let client = client(&ecr, ACCOUNT, REGION);
        Self { ecr, client }
    }

    /// A world with one repository of default settings.
    async fn with_repository(repository: &str) -> Self {
        let world = Self::start().await;
        world.client.create_repository().repository_name(repository).send().await.unwrap();
        world
    }
}

/// An SDK client that does not retry: every answer is the first.
fn client(ecr: &EcrLocal, account: &str, region: &str) -> Client {
    client_of(ecr, Credentials::new(account, "secret", None, None, "test"), region)
}

fn client_of(ecr: &EcrLocal, credentials: Credentials, region: &str) -> Client {
    Client::from_conf(
        aws_sdk_ecr::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .endpoint_url(ecr.endpoint())
            .region(Region::new(region.to_owned()))
            .credentials_provider(credentials)
            .retry_config(RetryConfig::disabled())
            .build(),
    )
}

fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

async fn initiate(client: &Client, repository: &str) -> String {
    let answer = client.initiate_layer_upload().repository_name(repository).send().await.unwrap();
    answer.upload_id().unwrap().to_owned()
}

/// Uploads a layer by parts of the size that the registry asks for.
async fn upload(client: &Client, repository: &str, layer: &[u8]) -> String {
    let started = client.initiate_layer_upload().repository_name(repository).send().await.unwrap();
    let part_size = usize::try_from(started.part_size().unwrap()).unwrap();
    let mut first = 0;
    for part in layer.chunks(part_size) {
        let last = first + i64::try_from(part.len()).unwrap() - 1;
        let answer = client
            .upload_layer_part()
            .repository_name(repository)
            .upload_id(started.upload_id().unwrap())
            .part_first_byte(first)
            .part_last_byte(last)
            .layer_part_blob(Blob::new(part))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.last_byte_received(), Some(last));
        first = last + 1;
    }
    let completed = client
        .complete_layer_upload()
        .repository_name(repository)
        .upload_id(started.upload_id().unwrap())
        .layer_digests(digest(layer))
        .send()
        .await
        .unwrap();
    assert_eq!(completed.layer_digest(), Some(digest(layer).as_str()));
    digest(layer)
}

fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(content), "size": content.len() })
}

/// The manifest of an image with this config and these layers.
fn manifest(config: &[u8], layers: &[&[u8]]) -> Value {
    let layers: Vec<Value> = layers.iter().map(|layer| descriptor(OCI_LAYER, layer)).collect();
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(OCI_CONFIG, config),
        "layers": layers,
    })
}

fn index(children: &[&str]) -> Value {
    let children: Vec<Value> = children.iter().map(|child| descriptor(OCI_MANIFEST, child.as_bytes())).collect();
    json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children })
}

/// Uploads the config and layers of an image, and pushes it; gives back its manifest.
async fn push_image(client: &Client, repository: &str, config: &[u8], layers: &[&[u8]], tag: Option<&str>) -> String {
    for blob in [config].iter().chain(layers) {
        let check = client.batch_check_layer_availability().repository_name(repository).layer_digests(digest(blob));
        let availability = check.send().await.unwrap();
        if availability.layers()[0].layer_size().is_none() {
            upload(client, repository, blob).await;
        }
    }
    let manifest = manifest(config, layers).to_string();
    let put = client.put_image().repository_name(repository).image_manifest(&manifest);
    put.set_image_tag(tag.map(str::to_owned)).send().await.unwrap();
    manifest
}
