//! A region's registry, through `/v2` and a client that is not ours.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use shared::manifest::MEDIA_TYPES;
use shared::names::Digest;
use tokio::io::{AsyncReadExt as _, BufReader};

use crate::error::Error;
use crate::layout::Layout;

/// How many blobs are read at once.
const READS_AT_ONCE: usize = 4;

/// How much of a blob is in memory while it is pushed.
const CHUNK: usize = 1024 * 1024;

/// A registry and the credentials for it.
#[derive(Debug, Clone)]
pub struct Registry {
    /// The region.
    pub region: String,
    /// Host and port.
    pub host: String,
    /// The password of the user `AWS`.
    pub password: String,
}

/// What an image has in a registry, every byte of it read and hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The image.
    pub digest: Digest,
    /// Every manifest and its size, that of the image among them.
    pub manifests: BTreeMap<Digest, u64>,
    /// Every distinct blob and its size, foreign layers left out.
    pub blobs: BTreeMap<Digest, u64>,
}

impl Contents {
    /// The size of the blobs.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.blobs.values().sum()
    }
}

/// What is read of a manifest.
pub(crate) struct Parts {
    pub(crate) media_type: String,
    pub(crate) children: Vec<Descriptor>,
    pub(crate) blobs: Vec<Descriptor>,
}

/// What a manifest says of something that it refers to.
#[derive(Debug, Clone)]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) name: Option<String>,
}

impl Parts {
    pub(crate) fn of(manifest: &[u8]) -> Result<Self, String> {
        let manifest: Value = serde_json::from_slice(manifest).map_err(|error| error.to_string())?;
        let list = |field: &str| {
            let values = manifest[field].as_array().into_iter().flatten();
            values.map(Descriptor::of).collect::<Result<Vec<_>, _>>()
        };
        let mut blobs = list("layers")?;
        if manifest["config"].is_object() {
            blobs.push(Descriptor::of(&manifest["config"])?);
        }
        // Registries do not hold foreign layers.
        blobs.retain(|blob| !blob.media_type.contains("foreign") && !blob.media_type.contains("nondistributable"));
        let media_type = manifest["mediaType"].as_str().unwrap_or_default().to_owned();
        Ok(Self { media_type, children: list("manifests")?, blobs })
    }
}

impl Descriptor {
    fn of(value: &Value) -> Result<Self, String> {
        let digest = value["digest"].as_str().unwrap_or_default();
        Ok(Self {
            media_type: value["mediaType"].as_str().unwrap_or_default().to_owned(),
            digest: digest.parse().map_err(|error| format!("{error}"))?,
            size: value["size"].as_u64().ok_or_else(|| format!("{digest} has no size"))?,
            name: value["annotations"]["org.opencontainers.image.ref.name"].as_str().map(ToOwned::to_owned),
        })
    }
}

impl Registry {
    /// The credentials that GetAuthorizationToken gives for a region.
    pub(crate) async fn sign_in(ecr: &aws_sdk_ecr::Client, region: &str) -> Result<Self, Error> {
        const OPERATION: &str = "GetAuthorizationToken";
        let answer = ecr.get_authorization_token().send().await.map_err(Error::call(OPERATION))?;
        let data = answer.authorization_data().first();
        let host = data.and_then(|data| data.proxy_endpoint()).and_then(|url| url.strip_prefix("http://"));
        let token = data.and_then(|data| data.authorization_token()).and_then(|token| STANDARD.decode(token).ok());
        let token = token.and_then(|token| String::from_utf8(token).ok());
        let password = token.as_deref().and_then(|token| token.strip_prefix("AWS:"));
        let (Some(host), Some(password)) = (host, password) else {
            return Err(Error::answer(OPERATION, format!("no HTTP endpoint or no password for AWS in {region}")));
        };
        Ok(Self { region: region.to_owned(), host: host.to_owned(), password: password.to_owned() })
    }

    /// The digest that a tag points at.
    ///
    /// # Errors
    /// If the tag is not there, or the registry does not answer.
    pub async fn digest(&self, repository: &str, tag: &str) -> Result<Digest, Error> {
        Ok(Digest::of(&self.manifest(repository, tag).await?))
    }

    /// Reads an image whole: every manifest and every blob, each compared with its digest.
    ///
    /// # Errors
    /// If anything is missing, or is not what its digest says.
    pub async fn read(&self, repository: &str, tag_or_digest: &str) -> Result<Contents, Error> {
        let root = self.manifest(repository, tag_or_digest).await?;
        let digest = Digest::of(&root);
        let mut manifests = BTreeMap::from([(digest.clone(), root.len() as u64)]);
        let mut blobs = BTreeMap::new();
        let mut unread = vec![root];
        while let Some(manifest) = unread.pop() {
            let parts = Parts::of(&manifest).map_err(|problem| self.wrong(repository, tag_or_digest, problem))?;
            blobs.extend(parts.blobs.into_iter().map(|blob| (blob.digest, blob.size)));
            for child in parts.children {
                let manifest = self.manifest(repository, child.digest.as_str()).await?;
                if Digest::of(&manifest) != child.digest {
                    return Err(self.wrong(repository, child.digest.as_str(), "other bytes than its digest says"));
                }
                if manifests.insert(child.digest, manifest.len() as u64).is_none() {
                    unread.push(manifest);
                }
            }
        }
        let client = client();
        self.authorize(&client, repository, RegistryOperation::Pull).await?;
        let reads = blobs.iter().map(|(digest, size)| self.read_blob(&client, repository, digest, *size));
        stream::iter(reads).buffer_unordered(READS_AT_ONCE).try_collect::<()>().await?;
        Ok(Contents { digest, manifests, blobs })
    }

    async fn read_blob(&self, client: &Client, repository: &str, digest: &Digest, size: u64) -> Result<(), Error> {
        let operation = || format!("reading {digest} of {repository} in {}", self.region);
        let descriptor = OciDescriptor { digest: digest.to_string(), ..OciDescriptor::default() };
        let reference = self.reference(repository, digest.as_str());
        let mut blob = client.pull_blob_stream(&reference, &descriptor).await.map_err(Error::call(operation()))?;
        let (mut hash, mut received) = (Sha256::new(), 0);
        while let Some(bytes) = blob.stream.try_next().await.map_err(Error::call(operation()))? {
            hash.update(&bytes);
            received += bytes.len() as u64;
        }
        let found = Digest::from_hash(hash);
        if found == *digest && received == size {
            return Ok(());
        }
        Err(Error::answer(operation(), format!("{received} bytes of digest {found} instead of {size}")))
    }

    /// Pushes an OCI layout: blobs, then manifests, children first, the tag last.
    pub(crate) async fn push(&self, layout: &Layout, repository: &str, tag: &str) -> Result<(), Error> {
        let client = client();
        self.authorize(&client, repository, RegistryOperation::Push).await?;
        // Each manifest comes after those that it was found in, so the other way round is children first.
        let mut manifests = Vec::new();
        let mut blobs = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut unread = vec![layout.root().clone()];
        while let Some(descriptor) = unread.pop() {
            if !seen.insert(descriptor.digest.clone()) {
                continue;
            }
            let manifest = layout.manifest(&descriptor)?;
            let parts = Parts::of(&manifest).map_err(|problem| layout.wrong(problem))?;
            blobs.extend(parts.blobs.into_iter().map(|blob| (blob.digest, blob.size)));
            unread.extend(parts.children);
            let media_type = if parts.media_type.is_empty() { descriptor.media_type } else { parts.media_type };
            manifests.push((descriptor.digest, media_type, manifest));
        }
        for (digest, size) in &blobs {
            self.push_blob(&client, layout, repository, digest, *size).await?;
        }
        for (index, (digest, media_type, manifest)) in manifests.into_iter().enumerate().rev() {
            let reference = self.reference(repository, if index == 0 { tag } else { digest.as_str() });
            let media_type = media_type.parse().map_err(|_| layout.wrong(format!("media type {media_type:?}")))?;
            client
                .push_manifest_raw(&reference, manifest, media_type)
                .await
                .map_err(Error::call(format!("pushing manifest {digest} to {repository}")))?;
        }
        Ok(())
    }

    async fn push_blob(
        &self,
        client: &Client,
        layout: &Layout,
        repository: &str,
        digest: &Digest,
        size: u64,
    ) -> Result<(), Error> {
        let operation = || format!("pushing {digest} to {repository}");
        let reference = self.reference(repository, digest.as_str());
        if client.blob_exists(&reference, digest.as_str()).await.map_err(Error::call(operation()))? {
            return Ok(());
        }
        let path = layout.blob(digest);
        let file = tokio::fs::File::open(&path).await.map_err(Error::io(format!("read {}", path.display())))?;
        let chunks = stream::try_unfold(BufReader::with_capacity(CHUNK, file), |mut file| async move {
            let mut chunk = bytes::BytesMut::with_capacity(CHUNK);
            let length = file.read_buf(&mut chunk).await?;
            Ok((length > 0).then(|| (chunk.freeze(), file)))
        });
        client
            .push_blob_stream(&reference, chunks, digest.as_str(), Some(size))
            .await
            .map_err(Error::call(operation()))?;
        Ok(())
    }

    async fn manifest(&self, repository: &str, tag_or_digest: &str) -> Result<Vec<u8>, Error> {
        let operation = format!("reading manifest {tag_or_digest} of {repository} in {}", self.region);
        let reference = self.reference(repository, tag_or_digest);
        let manifest = client().pull_manifest_raw(&reference, &self.auth(), &MEDIA_TYPES).await;
        Ok(manifest.map_err(Error::call(operation))?.0.to_vec())
    }

    async fn authorize(&self, client: &Client, repository: &str, operation: RegistryOperation) -> Result<(), Error> {
        let reference = self.reference(repository, "latest");
        let answer = client.auth(&reference, &self.auth(), operation).await;
        answer.map_err(Error::call(format!("signing in to {}", self.host)))?;
        Ok(())
    }

    fn auth(&self) -> RegistryAuth {
        RegistryAuth::Basic("AWS".to_owned(), self.password.clone())
    }

    fn reference(&self, repository: &str, tag_or_digest: &str) -> Reference {
        let (host, repository, name) = (self.host.clone(), repository.to_owned(), tag_or_digest.to_owned());
        if name.contains(':') {
            Reference::with_digest(host, repository, name)
        } else {
            Reference::with_tag(host, repository, name)
        }
    }

    fn wrong(&self, repository: &str, name: &str, problem: impl Into<String>) -> Error {
        Error::answer(format!("reading manifest {name} of {repository} in {}", self.region), problem)
    }
}

fn client() -> Client {
    // The one request for a whole blob that ECR documents; its answer to chunked ones is not the specification's.
    let config = ClientConfig { protocol: ClientProtocol::Http, use_monolithic_push: true, ..ClientConfig::default() };
    Client::new(config)
}
