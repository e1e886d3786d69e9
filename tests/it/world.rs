//! A local ECR with a source and target regions, images in it, and the dependencies of the functions.

use std::{sync::Arc, time::Duration};

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig};
use aws_sdk_ecr::{
    Client,
    config::Credentials,
    primitives::Blob,
    types::{ImageIdentifier, LayerAvailability},
};
use ecr_local::{Config, EcrLocal, RepositoryView};
use serde_json::{Value, json};
use shared::{config, names::Digest, registry::Registries};

/// A lifecycle policy, as a user may have it.
pub(crate) const LIFECYCLE_POLICY: &str = r#"{"rules":[{"rulePriority":1,"selection":{"tagStatus":"untagged","countType":"imageCountMoreThan","countNumber":9},"action":{"type":"expire"}}]}"#;

pub(crate) const SOURCE: &str = "eu-central-1";
pub(crate) const TARGET: &str = "eu-west-1";
pub(crate) const REPOSITORY: &str = "prod/app";

/// Small, so that a layer of some kilobytes has several parts.
pub(crate) const PART_SIZE: u64 = 16 * 1024;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub(crate) struct World {
    pub(crate) ecr: Arc<EcrLocal>,
}

/// An SDK configuration for the services at `endpoint`, with retries that do not slow a test down.
pub(crate) async fn sdk_config(endpoint: &str, region: &str) -> SdkConfig {
    sdk_config_with("123456789012", endpoint, region, config::ATTEMPT).await
}

/// As [`sdk_config`], for another account, and with attempts that take `attempt` at most.
pub(crate) async fn sdk_config_with(account: &str, endpoint: &str, region: &str, attempt: Duration) -> SdkConfig {
    config::limited(aws_config::defaults(BehaviorVersion::v2026_01_12()), attempt)
        .endpoint_url(endpoint)
        .region(Region::new(region.to_owned()))
        .credentials_provider(Credentials::new(account, "secret", None, None, "test"))
        .retry_config(
            RetryConfig::standard().with_max_attempts(config::ATTEMPTS).with_initial_backoff(Duration::from_millis(1)),
        )
        .load()
        .await
}

/// Bytes that look like a layer's: `length` of them, others for another `seed`.
pub(crate) fn layer(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

/// An image manifest over blobs; the first is its config.
pub(crate) fn manifest(blobs: &[&[u8]]) -> Value {
    let descriptor = |media_type: &str, content: &[u8]| json!({"mediaType": media_type, "digest": Digest::of(content).as_str(), "size": content.len()});
    let layers: Vec<Value> =
        blobs[1..].iter().map(|content| descriptor("application/vnd.oci.image.layer.v1.tar+gzip", content)).collect();
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", blobs[0]),
        "layers": layers,
    })
}

/// An index over manifests.
pub(crate) fn index(manifests: &[&Value]) -> Value {
    let children: Vec<Value> = manifests
        .iter()
        .map(|manifest| {
            let content = manifest.to_string();
            json!({"mediaType": OCI_MANIFEST, "digest": Digest::of(content.as_bytes()).as_str(), "size": content.len()})
        })
        .collect();
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children})
}

impl World {
    /// A local ECR whose source region has the repository.
    pub(crate) async fn start() -> Self {
        Self::start_with(Config::default()).await
    }

    pub(crate) async fn start_with(config: Config) -> Self {
        let ecr = EcrLocal::start(Config { part_size: PART_SIZE, ..config }).await.unwrap();
        let world = Self { ecr: Arc::new(ecr) };
        world.create_repository(SOURCE).await;
        world
    }

    pub(crate) async fn registries(&self) -> Registries {
        self.registries_of(SOURCE).await
    }

    /// As [`World::registries`], for functions in another source region.
    pub(crate) async fn registries_of(&self, source: &str) -> Registries {
        Registries::new(sdk_config(&self.ecr.endpoint(), source).await).unwrap()
    }

    /// What the repository has in a region.
    pub(crate) fn view(&self, region: &str) -> RepositoryView {
        self.ecr.view("123456789012", region, REPOSITORY).unwrap_or_default()
    }

    /// A client in another account.
    pub(crate) async fn client_of(&self, account: &str, region: &str) -> Client {
        Client::new(&sdk_config_with(account, &self.ecr.endpoint(), region, config::ATTEMPT).await)
    }

    pub(crate) async fn client(&self, region: &str) -> Client {
        Client::new(&sdk_config(&self.ecr.endpoint(), region).await)
    }

    pub(crate) async fn create_repository(&self, region: &str) {
        self.client(region).await.create_repository().repository_name(REPOSITORY).send().await.unwrap();
    }

    /// Uploads a blob as one part, unless it is there.
    pub(crate) async fn push_blob(&self, region: &str, content: &[u8]) {
        self.push_blob_to(region, REPOSITORY, content).await;
    }

    /// As [`World::push_blob`], to another repository.
    pub(crate) async fn push_blob_to(&self, region: &str, repository: &str, content: &[u8]) {
        let client = self.client(region).await;
        let digest = Digest::of(content);
        let check = client.batch_check_layer_availability().repository_name(repository).layer_digests(digest.as_str());
        let checked = check.send().await.unwrap();
        if checked.layers().iter().any(|layer| layer.layer_availability() == Some(&LayerAvailability::Available)) {
            return;
        }
        let upload = client.initiate_layer_upload().repository_name(repository).send().await.unwrap();
        let id = upload.upload_id().unwrap();
        client
            .upload_layer_part()
            .repository_name(repository)
            .upload_id(id)
            .part_first_byte(0)
            .part_last_byte(i64::try_from(content.len()).unwrap() - 1)
            .layer_part_blob(Blob::new(content))
            .send()
            .await
            .unwrap();
        client
            .complete_layer_upload()
            .repository_name(repository)
            .upload_id(id)
            .layer_digests(digest.as_str())
            .send()
            .await
            .unwrap();
    }

    /// Uploads the blob that has no bytes, as registry clients do: the ECR API takes no part of nothing.
    pub(crate) async fn push_empty_blob(&self, region: &str) {
        let token = self.client(region).await.get_authorization_token().send().await.unwrap();
        let data = &token.authorization_data()[0];
        let (endpoint, token) = (data.proxy_endpoint().unwrap(), data.authorization_token().unwrap());
        let client = reqwest::Client::new();
        let signed = |request: reqwest::RequestBuilder| request.header("authorization", format!("Basic {token}"));
        let begun =
            signed(client.post(format!("{endpoint}/v2/{REPOSITORY}/blobs/uploads/"))).header("content-length", 0);
        let begun = begun.send().await.unwrap();
        let location = begun.headers()["location"].to_str().unwrap();
        let mut upload = begun.url().join(location).unwrap();
        upload.query_pairs_mut().append_pair("digest", Digest::of(b"").as_str());
        let put = signed(client.put(upload)).header("content-length", 0).send().await.unwrap();
        assert!(put.status().is_success(), "{put:?}");
    }

    /// Puts a manifest whose blobs are there; its digest.
    pub(crate) async fn put(&self, region: &str, manifest: &Value, tag: Option<&str>) -> Digest {
        let content = manifest.to_string();
        let media_type = manifest["mediaType"].as_str().unwrap_or(OCI_MANIFEST);
        self.client(region)
            .await
            .put_image()
            .repository_name(REPOSITORY)
            .image_manifest(&content)
            .image_manifest_media_type(media_type)
            .set_image_tag(tag.map(ToOwned::to_owned))
            .send()
            .await
            .unwrap();
        Digest::of(content.as_bytes())
    }

    /// Pushes a single-platform image to the source; its digest.
    pub(crate) async fn push_image(&self, tag: Option<&str>, blobs: &[&[u8]]) -> Digest {
        for blob in blobs {
            self.push_blob(SOURCE, blob).await;
        }
        self.put(SOURCE, &manifest(blobs), tag).await
    }

    /// A manifest that refers to `subject`, over one blob; `name` tells it from another.
    pub(crate) fn referrer(subject: &Digest, blob: &[u8], name: &str) -> Value {
        let mut referrer = manifest(&[b"{}", blob]);
        referrer["artifactType"] = json!("application/vnd.example.signature");
        referrer["annotations"] = json!({"name": name});
        referrer["subject"] = json!({"mediaType": OCI_MANIFEST, "digest": subject.as_str(), "size": 1});
        referrer["config"]["mediaType"] = json!("application/vnd.oci.empty.v1+json");
        referrer
    }

    /// Pushes a referrer of `subject` to the source, with `content` for its layer; its digest.
    pub(crate) async fn refer(&self, subject: &Digest, content: &str, tag: Option<&str>) -> Digest {
        for blob in [&b"{}"[..], content.as_bytes()] {
            self.push_blob(SOURCE, blob).await;
        }
        self.put(SOURCE, &Self::referrer(subject, content.as_bytes(), content), tag).await
    }

    /// Pushes an index of two platforms that share a layer; its digest and its children's manifests.
    pub(crate) async fn push_index(&self, tag: Option<&str>) -> (Digest, [Value; 2]) {
        let [shared, first, second] = [layer(1, 50_000), layer(2, 40_000), layer(3, 30_000)];
        let children =
            [manifest(&[b"config of amd64", &shared, &first]), manifest(&[b"config of arm64", &shared, &second])];
        for blob in [&shared[..], &first, &second, b"config of amd64", b"config of arm64"] {
            self.push_blob(SOURCE, blob).await;
        }
        for child in &children {
            self.put(SOURCE, child, None).await;
        }
        let digest = self.put(SOURCE, &index(&[&children[0], &children[1]]), tag).await;
        (digest, children)
    }

    /// The stored manifest of an image, and the digest of its tag or itself; `None` when it is not there.
    pub(crate) async fn image(&self, region: &str, id: ImageIdentifier) -> Option<(Digest, String)> {
        let answer =
            self.client(region).await.batch_get_image().repository_name(REPOSITORY).image_ids(id).send().await.unwrap();
        let image = answer.images().first()?;
        let digest = image.image_id().unwrap().image_digest().unwrap().parse().unwrap();
        Some((digest, image.image_manifest().unwrap().to_owned()))
    }

    pub(crate) async fn tagged(&self, region: &str, tag: &str) -> Option<Digest> {
        let id = ImageIdentifier::builder().image_tag(tag).build();
        self.image(region, id).await.map(|(digest, _)| digest)
    }

    pub(crate) async fn by_digest(&self, region: &str, digest: &Digest) -> Option<String> {
        let id = ImageIdentifier::builder().image_digest(digest.as_str()).build();
        self.image(region, id).await.map(|(_, manifest)| manifest)
    }

    /// How often an operation was called in a region.
    pub(crate) fn calls(&self, region: &str, operation: &str) -> u64 {
        self.ecr.stats().calls(region, operation)
    }

    /// The bytes of layers that a region received.
    pub(crate) fn uploaded(&self, region: &str) -> u64 {
        self.ecr.stats().region(region).uploaded_bytes
    }
}

/// An image of the source in the contract's form, for functions that work on one target.
pub(crate) fn image_input(digest: &Digest, tag: Option<&str>) -> Value {
    json!({
        "region": SOURCE, "repository": REPOSITORY, "digest": digest.as_str(), "tag": tag,
        "mediaType": OCI_MANIFEST, "manifests": 1, "referrers": 0, "referrersLeftOut": 0, "blobs": 1, "bytes": 1,
        "pushedAt": null,
    })
}

/// The input of a function that works on one target.
pub(crate) fn target_input(digest: &Digest, tag: Option<&str>) -> Value {
    json!({
        "execution": "test",
        "image": image_input(digest, tag),
        "referrers": [],
        "target": {"region": TARGET, "repository": REPOSITORY},
    })
}
