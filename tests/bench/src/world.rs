//! The registries of one workload: an ECR on loopback, its image in the source, and fresh repositories in the targets.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use aws_sdk_ecr::config::{BehaviorVersion, Credentials, Region as SdkRegion};
use aws_sdk_ecr::types::ImageIdentifier;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ecr_local::{Config, EcrLocal, RegionStats, Shape};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Body, Method, Response, Url};
use serde_json::{Value, json};
use shared::contract::{Blob, Image};
use shared::names::Digest;
use tokio::sync::mpsc;

use crate::error::Error;
use crate::image::{self, Layer, MANIFEST};
use crate::workload::Network;

/// The source's region, which the functions run in.
pub(crate) const SOURCE: &str = "eu-central-1";

/// The account.
pub(crate) const ACCOUNT: &str = "123456789012";

/// The targets' regions: a workload takes as many as it has targets, from the first on.
pub(crate) const TARGETS: [&str; 5] = ["us-east-1", "eu-west-1", "ap-northeast-1", "sa-east-1", "ap-southeast-2"];

/// The tag of the image.
pub(crate) const TAG: &str = "v1";

/// The source's repository.
pub(crate) const REPOSITORY: &str = "bench/source";

/// How many chunks of a layer wait for the connection while it is pushed.
const CHUNKS: usize = 8;

/// The environment of a function that reaches ECR at `endpoint`.
pub(crate) fn environment(endpoint: String) -> Vec<(&'static str, String)> {
    vec![
        ("AWS_REGION", SOURCE.to_owned()),
        ("AWS_ACCESS_KEY_ID", ACCOUNT.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "none".to_owned()),
        ("AWS_ENDPOINT_URL_ECR", endpoint),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ("NO_PROXY", "127.0.0.1,localhost".to_owned()),
    ]
}

/// A workload's registries. They and every byte in them are gone when it is dropped.
#[derive(Debug)]
pub(crate) struct World {
    ecr: EcrLocal,
    client: reqwest::Client,
    passwords: BTreeMap<&'static str, String>,
    /// A directory for logs and for what peers write.
    home: PathBuf,
    number: AtomicU32,
}

impl World {
    pub(crate) async fn start(home: PathBuf) -> Result<Self, Error> {
        std::fs::create_dir_all(&home).map_err(Error::io(format!("make {}", home.display())))?;
        let config = Config { data_dir: Some(home.clone()), ..Config::default() };
        let ecr = EcrLocal::start(config).await.map_err(Error::io("start ecr-local"))?;
        let client = reqwest::Client::builder().no_proxy().build().map_err(Error::call("making a client"))?;
        let mut world = Self { ecr, client, passwords: BTreeMap::new(), home, number: AtomicU32::new(0) };
        for region in [SOURCE].into_iter().chain(TARGETS) {
            let password = world.sign_in(region).await?;
            world.passwords.insert(region, password);
        }
        Ok(world)
    }

    /// The password of the user `AWS` in a region.
    pub(crate) fn password(&self, region: &str) -> &str {
        self.passwords.get(region).map_or("", String::as_str)
    }

    /// The registries' endpoint without a shape.
    pub(crate) fn endpoint(&self) -> String {
        self.ecr.endpoint()
    }

    /// A network interface for one client.
    pub(crate) fn interface(&self, network: Network) -> Result<String, Error> {
        let shape = Shape {
            round_trip: network.round_trip,
            bits_per_second: network.bits_per_second,
            near: Some(SOURCE.to_owned()),
        };
        self.ecr.interface(shape).map_err(Error::io("open an interface"))
    }

    /// A path in the home directory that nothing has.
    pub(crate) fn fresh(&self, name: &str) -> PathBuf {
        self.home.join(format!("{}-{name}", self.number.fetch_add(1, Ordering::Relaxed)))
    }

    /// Forgets what was counted.
    pub(crate) fn reset(&self) {
        self.ecr.reset_stats();
    }

    /// What the targets counted.
    pub(crate) fn counted(&self, targets: &[&str]) -> Counted {
        let stats = self.ecr.stats();
        let mut counted = Counted::default();
        for target in targets {
            counted.add(stats.region(target));
        }
        counted
    }

    /// Makes a repository.
    pub(crate) async fn create(&self, region: &str, repository: &str) -> Result<(), Error> {
        let created = self.sdk(region).create_repository().repository_name(repository).send().await;
        created.map(drop).map_err(Error::call("CreateRepository"))
    }

    /// Deletes a repository with all that it has.
    pub(crate) async fn delete(&self, region: &str, repository: &str) -> Result<(), Error> {
        let deleted = self.sdk(region).delete_repository().repository_name(repository).force(true).send().await;
        deleted.map(drop).map_err(Error::call("DeleteRepository"))
    }

    /// An error unless the repository's tag is on `digest`. The registry checked every blob and manifest when it took them.
    pub(crate) async fn check(&self, region: &str, repository: &str, digest: &Digest) -> Result<(), Error> {
        let image = ImageIdentifier::builder().image_tag(TAG).build();
        let answer = self.sdk(region).batch_get_image().repository_name(repository).image_ids(image).send().await;
        let answer = answer.map_err(Error::call("BatchGetImage"))?;
        let found = answer.images().first().and_then(|image| image.image_id()).and_then(|id| id.image_digest());
        if found == Some(digest.as_str()) {
            return Ok(());
        }
        Err(Error::Failed(format!("{region} has {} and not {digest}", found.unwrap_or("no image"))))
    }

    /// Makes a repository with so many images, each of one blob that all have, and with a tag of its own.
    pub(crate) async fn fill(&self, region: &str, repository: &str, images: usize) -> Result<(), Error> {
        const BLOB: &str = "{}";
        self.create(region, repository).await?;
        let digest = Digest::of(BLOB.as_bytes());
        let upload = self.upload(region, repository, BLOB.len() as u64, Body::from(BLOB)).await?;
        self.complete(region, upload, &digest).await?;
        let sdk = self.sdk(region);
        for number in 0..images {
            let config =
                json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": BLOB.len()});
            let annotations = json!({"number": number.to_string()});
            let manifest = json!({
                "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [], "annotations": annotations,
            });
            let put = sdk.put_image().repository_name(repository).image_manifest(manifest.to_string());
            let put = put.image_manifest_media_type(MANIFEST).image_tag(format!("v{number}")).send().await;
            put.map_err(Error::call("PutImage"))?;
        }
        Ok(())
    }

    /// Pushes an image of `layers` with the tag.
    pub(crate) async fn push(&self, region: &str, repository: &str, layers: &[Layer]) -> Result<Pushed, Error> {
        let mut blobs = Vec::new();
        for &layer in layers {
            let (sender, receiver) = mpsc::channel(CHUNKS);
            let generated = tokio::task::spawn_blocking(move || layer.generate(&sender));
            let body = chunks(receiver);
            let upload = self.upload(region, repository, layer.size, body).await?;
            let digest = generated.await.map_err(Error::call("making a layer"))?;
            let digest = digest.ok_or_else(|| Error::Failed("a layer was not taken whole".into()))?;
            self.complete(region, upload, &digest).await?;
            blobs.push(Blob { digest, size: layer.size, of_referrer: false });
        }
        let config = image::config(&blobs).to_string().into_bytes();
        let config_blob = Blob { digest: Digest::of(&config), size: config.len() as u64, of_referrer: false };
        let upload = self.upload(region, repository, config_blob.size, config.into()).await?;
        self.complete(region, upload, &config_blob.digest).await?;
        let manifest: Value = image::manifest(&config_blob, &blobs);
        let manifest = manifest.to_string().into_bytes();
        let digest = Digest::of(&manifest);
        let url = self.url(&format!("/v2/{repository}/manifests/{TAG}"))?;
        let manifest_bytes = manifest.len() as u64;
        let request = self.client.put(url).header(CONTENT_TYPE, MANIFEST).body(manifest);
        self.ask(region, request).await?;
        blobs.push(config_blob);
        Ok(Pushed { digest, blobs, manifest_bytes })
    }

    async fn upload(&self, region: &str, repository: &str, size: u64, body: Body) -> Result<Url, Error> {
        let uploads = self.url(&format!("/v2/{repository}/blobs/uploads/"))?;
        let begun = self.ask(region, self.client.post(uploads.clone())).await?;
        let upload = location(&uploads, &begun)?;
        let request = self.client.request(Method::PATCH, upload.clone());
        let request = request.header(CONTENT_LENGTH, size).header(CONTENT_TYPE, "application/octet-stream").body(body);
        let sent = self.ask(region, request).await?;
        location(&upload, &sent)
    }

    async fn complete(&self, region: &str, mut upload: Url, digest: &Digest) -> Result<(), Error> {
        upload.query_pairs_mut().append_pair("digest", digest.as_str());
        self.ask(region, self.client.put(upload)).await.map(drop)
    }

    async fn ask(&self, region: &str, request: reqwest::RequestBuilder) -> Result<Response, Error> {
        let answer = request.basic_auth("AWS", Some(self.password(region))).send().await;
        let answer = answer.and_then(Response::error_for_status);
        answer.map_err(Error::call("a push"))
    }

    fn url(&self, path: &str) -> Result<Url, Error> {
        let url = Url::parse(&self.ecr.endpoint()).and_then(|endpoint| endpoint.join(path));
        url.map_err(Error::call("making a URL"))
    }

    fn sdk(&self, region: &str) -> aws_sdk_ecr::Client {
        let config = aws_sdk_ecr::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .endpoint_url(self.ecr.endpoint())
            .credentials_provider(Credentials::new(ACCOUNT, "none", None, None, "bench"))
            .region(SdkRegion::new(region.to_owned()));
        aws_sdk_ecr::Client::from_conf(config.build())
    }

    async fn sign_in(&self, region: &str) -> Result<String, Error> {
        let answer = self.sdk(region).get_authorization_token().send().await;
        let answer = answer.map_err(Error::call("GetAuthorizationToken"))?;
        let token = answer.authorization_data().first().and_then(|data| data.authorization_token());
        let decoded = token.and_then(|token| STANDARD.decode(token).ok()).and_then(|text| String::from_utf8(text).ok());
        let password = decoded.as_deref().and_then(|text| text.strip_prefix("AWS:"));
        password.map(ToOwned::to_owned).ok_or_else(|| Error::Failed("GetAuthorizationToken gave no password".into()))
    }
}

/// An image that was pushed.
#[derive(Debug)]
pub(crate) struct Pushed {
    pub(crate) digest: Digest,
    /// The layers and, last, the config.
    pub(crate) blobs: Vec<Blob>,
    pub(crate) manifest_bytes: u64,
}

impl Pushed {
    /// It as ResolveImage tells the other functions.
    pub(crate) fn image(&self) -> Result<Image, Error> {
        let wrong = Error::call("naming the image");
        let name = || Ok::<_, shared::names::MalformedName>((SOURCE.parse()?, REPOSITORY.parse()?, TAG.parse()?));
        let (region, repository, tag) = name().map_err(wrong)?;
        Ok(Image {
            region,
            repository,
            digest: self.digest.clone(),
            tag: Some(tag),
            media_type: MANIFEST.into(),
            manifests: 1,
            referrers: 0,
            referrers_left_out: 0,
            blobs: self.blobs.len(),
            bytes: self.blobs.iter().map(|blob| blob.size).sum(),
            pushed_at: None,
        })
    }
}

/// What target registries counted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counted {
    pub(crate) calls: BTreeMap<String, u64>,
    /// Raw bytes of layers and configs that came.
    pub(crate) uploaded: u64,
    /// Bytes of all requests' bodies.
    pub(crate) received: u64,
    /// Bytes of all answers' bodies.
    pub(crate) sent: u64,
}

impl Counted {
    fn add(&mut self, stats: RegionStats) {
        for (operation, calls) in stats.calls {
            *self.calls.entry(operation).or_default() += calls;
        }
        self.uploaded += stats.uploaded_bytes;
        self.received += stats.wire_received_bytes;
        self.sent += stats.wire_sent_bytes;
    }
}

fn location(asked: &Url, answer: &Response) -> Result<Url, Error> {
    let location = answer.headers().get(LOCATION).and_then(|location| location.to_str().ok());
    location.and_then(|location| asked.join(location).ok()).ok_or_else(|| Error::Failed("no upload was named".into()))
}

fn chunks(mut receiver: mpsc::Receiver<Bytes>) -> Body {
    let chunks = futures::stream::poll_fn(move |context| receiver.poll_recv(context));
    Body::wrap_stream(futures::StreamExt::map(chunks, Ok::<_, std::convert::Infallible>))
}
