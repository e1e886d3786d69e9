//! The images that meet faults, in a registry of their own, and the eye that looks at what came of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
};

use aws_config::{Region, SdkConfig};
use aws_sdk_ecr::{Client, primitives::Blob};
use ecr_local::{Config, EcrLocal, RepositoryView};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::{
    contract::{Put, Status},
    copy::Uploads,
    names::Digest,
};

use crate::world::{LIFECYCLE_POLICY, OCI_INDEX, PART_SIZE, REPOSITORY, SOURCE, TARGET, World, index, layer, manifest};

/// The repository policy of the source's repository, which the target's is to have, too, and a lifecycle policy.
const REPOSITORY_POLICY: &str = r#"{"Statement": []}"#;

/// What is replicated, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Way {
    /// The tagged index, its layers streamed.
    Stream,
    /// As that, and the referrer is one by its tag, in cosign's scheme.
    Cosign,
    /// As that, without the referrer: what is read of the source is read one after the other.
    Unsigned,
    /// The tagged index, its layers by parts.
    Parts,
    /// As that, without the referrer, whose layer meets what befalls one of them.
    UnsignedParts,
    /// An image without a tag, which no index has.
    Untagged,
}

impl Way {
    /// The roads that its layers may take.
    pub(crate) fn uploads(self) -> Uploads {
        if matches!(self, Self::Parts | Self::UnsignedParts) { Uploads::Parts } else { Uploads::Auto }
    }

    /// The image's manifest, and its tag.
    fn root(self) -> (&'static Value, Option<&'static str>) {
        if self == Self::Untagged { (&IMAGES.lone, None) } else { (&IMAGES.index, Some("v1")) }
    }

    /// The blobs of the image and of what belongs to it.
    pub(crate) fn blobs(self) -> &'static [Vec<u8>] {
        // The first one only the signature has, the second one only the index.
        match self {
            Self::Stream | Self::Cosign | Self::Parts => &IMAGES.blobs,
            Self::Unsigned | Self::UnsignedParts => &IMAGES.blobs[1..],
            Self::Untagged => &IMAGES.blobs[2..],
        }
    }

    /// The manifests of the image, and those that belong to it.
    pub(crate) fn whole(self) -> (Vec<&'static Value>, Option<&'static Value>) {
        let images = &*IMAGES;
        match self {
            Self::Untagged => (vec![&images.lone], None),
            Self::Unsigned | Self::UnsignedParts => (images.platforms.iter().chain([&images.index]).collect(), None),
            Self::Stream | Self::Cosign | Self::Parts => {
                let referrer = if self == Self::Cosign { &images.tagged_signature } else { &images.signature };
                (images.platforms.iter().chain([&images.index]).collect(), Some(referrer))
            }
        }
    }

    /// The referrer's tag.
    fn referrer_tag(self) -> Option<String> {
        (self == Self::Cosign).then(|| format!("{}.sig", digest(&IMAGES.index).as_str().replace(':', "-")))
    }

    /// The tags of the image and of its referrer, and what they are on.
    fn tags(self) -> BTreeMap<String, String> {
        let (root, tag) = self.root();
        let of_root = tag.map(|tag| (tag.to_owned(), digest(root).to_string()));
        let of_referrer = self.referrer_tag().zip(self.whole().1.map(|referrer| digest(referrer).to_string()));
        of_root.into_iter().chain(of_referrer).collect()
    }

    /// The first manifest that `there` lacks, the image's before its referrer.
    fn lacks(self, there: &RepositoryView) -> Option<Lack> {
        let (image, referrer) = self.whole();
        image.into_iter().chain(referrer).find_map(|manifest| {
            let (digest, is_referrer) = (digest(manifest), referrer == Some(manifest));
            let tag = self.referrer_tag().filter(|_| is_referrer);
            let is_tagged = tag.is_none_or(|tag| there.tags.get(&tag).is_some_and(|on| on == digest.as_str()));
            let is_there = there.images.get(digest.as_str()) == Some(&manifest.to_string()) && is_tagged;
            (!is_there).then_some(Lack { digest, is_referrer })
        })
    }

    /// A tag in `there` on what is not whole.
    pub(crate) fn half_tagged(self, there: &RepositoryView) -> Option<Wrong> {
        let is_tagged = self.root().1.is_some_and(|tag| there.tags.contains_key(tag));
        self.lacks(there).filter(|_| is_tagged).map(|lack| lack.wrong())
    }
}

/// A manifest of the image, or of what belongs to it, that a target does not have.
pub(crate) struct Lack {
    digest: Digest,
    is_referrer: bool,
}

impl Lack {
    /// What is wrong, if the image is there.
    fn wrong(&self) -> Wrong {
        let lacks = format!("it lacks {}", self.digest);
        if self.is_referrer { Wrong::Referrer(lacks) } else { Wrong::Tag(lacks) }
    }
}

/// The images at the source.
pub(crate) struct Images {
    pub(crate) blobs: Vec<Vec<u8>>,
    pub(crate) platforms: [Value; 2],
    pub(crate) index: Value,
    pub(crate) signature: Value,
    /// A signature that only its tag tells for one.
    tagged_signature: Value,
    /// Without a tag, and in no index.
    lone: Value,
}

pub(crate) fn digest(manifest: &Value) -> Digest {
    Digest::of(manifest.to_string().as_bytes())
}

/// The blob that only the signature has.
pub(crate) const SIGNATURE: &[u8] = b"signature";

pub(crate) static IMAGES: LazyLock<Images> = LazyLock::new(|| {
    // Two parts.
    let layer = layer(1, usize::try_from(PART_SIZE).unwrap() + 4000);
    let platforms = [manifest(&[b"amd64", &layer]), manifest(&[b"arm64", &layer])];
    let index = index(&[&platforms[0], &platforms[1]]);
    // Its config is the image's, its layer is its own.
    let tagged_signature = manifest(&[b"amd64", SIGNATURE]);
    let mut signature = tagged_signature.clone();
    signature["artifactType"] = json!("application/vnd.example.signature");
    signature["subject"] = json!({"mediaType": OCI_INDEX, "digest": digest(&index).as_str(), "size": 1});
    let lone = manifest(&[b"amd64", b"arm64"]);
    let blobs = vec![SIGNATURE.to_vec(), layer, b"amd64".to_vec(), b"arm64".to_vec()];
    Images { blobs, platforms, index, signature, tagged_signature, lone }
});

/// A registry of its own, with the images at the source.
pub(crate) struct Sample {
    pub(crate) world: World,
    /// For its clients.
    pub(crate) config: SdkConfig,
}

/// What must not be at a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// Other bytes than those of a digest, or an image without all of its blobs; or one that is told to be there, and is not.
    Image(String),
    /// A tag on what is not whole, or on another image; or one that is told to be there, and is not.
    Tag(String),
    /// A tag on an image that lacks its referrer, or an image that is told to be there, and lacks it.
    Referrer(String),
}

impl Sample {
    /// The images of `way`; `config` is that of its clients, but for the endpoint.
    pub(crate) async fn set(way: Way, config: &SdkConfig) -> Self {
        let ecr = EcrLocal::start(Config { part_size: PART_SIZE, ..Config::default() }).await.unwrap();
        let config = config.clone().into_builder().endpoint_url(ecr.endpoint()).build();
        let sample = Self { world: World { ecr: Arc::new(ecr) }, config };
        sample.push(way).await;
        sample
    }

    /// The images, at the source: as `World` pushes them, but with one client.
    async fn push(&self, way: Way) {
        let client = Client::new(&self.config);
        client.create_repository().repository_name(REPOSITORY).send().await.unwrap();
        let set = client.set_repository_policy().repository_name(REPOSITORY).policy_text(REPOSITORY_POLICY);
        set.send().await.unwrap();
        let put = client.put_lifecycle_policy().repository_name(REPOSITORY).lifecycle_policy_text(LIFECYCLE_POLICY);
        put.send().await.unwrap();
        let images = &*IMAGES;
        for blob in &images.blobs {
            let upload = client.initiate_layer_upload().repository_name(REPOSITORY).send().await.unwrap();
            let id = upload.upload_id().unwrap();
            let part = client.upload_layer_part().repository_name(REPOSITORY).upload_id(id).part_first_byte(0);
            let part = part.part_last_byte(i64::try_from(blob.len()).unwrap() - 1).layer_part_blob(Blob::new(&**blob));
            part.send().await.unwrap();
            let complete = client.complete_layer_upload().repository_name(REPOSITORY).upload_id(id);
            complete.layer_digests(Digest::of(blob).as_str()).send().await.unwrap();
        }
        let [amd64, arm64] = &images.platforms;
        let index_tag = Some("v1".to_owned());
        let manifests = [(amd64, None), (arm64, None), (&images.index, index_tag), (&images.lone, None)];
        let signature = match way {
            Way::Unsigned | Way::UnsignedParts => None,
            Way::Cosign => Some((&images.tagged_signature, way.referrer_tag())),
            Way::Stream | Way::Parts | Way::Untagged => Some((&images.signature, None)),
        };
        for (manifest, tag) in manifests.into_iter().chain(signature) {
            let put = client.put_image().repository_name(REPOSITORY).image_manifest(manifest.to_string());
            let media_type = manifest["mediaType"].as_str().unwrap();
            let put = put.image_manifest_media_type(media_type).set_image_tag(tag);
            put.send().await.unwrap();
        }
    }

    /// Moves the source's tag on to another image that has a referrer of its own, and brings all of the image but that tag and
    /// that referrer to the target; the digests of both.
    pub(crate) async fn move_tag(&self) -> (Digest, Digest) {
        let (world, newer) = (&self.world, &IMAGES.lone);
        let newer_digest = world.put(SOURCE, newer, Some("v1")).await;
        let referrer = world.refer(&newer_digest, "signature of the newer image", None).await;
        for blob in [&b"{}"[..], b"signature of the newer image"] {
            world.push_blob(TARGET, blob).await;
        }
        assert_eq!(world.put(TARGET, newer, None).await, newer_digest);
        (newer_digest, referrer)
    }

    /// Whether a region has the image, with its tag on it if it has one.
    pub(crate) fn has_image(&self, way: Way, region: &str) -> bool {
        let (there, (root, tag)) = (self.world.view(region), way.root());
        let digest = digest(root).to_string();
        there.images.contains_key(&digest) && tag.is_none_or(|tag| there.tags.get(tag) == Some(&digest))
    }

    /// How many settings of the target's repository are not the source's, while both are there.
    pub(crate) fn differences(&self) -> usize {
        let settings = |region| {
            let settings = self.world.ecr.settings("123456789012", region, REPOSITORY)?;
            let read = |text: Option<String>| text.map(|text| serde_json::from_str::<Value>(&text).unwrap());
            Some([
                json!(settings.image_tag_mutability),
                json!(settings.scan_on_push),
                json!(settings.tags),
                json!(read(settings.policy)),
                json!(read(settings.lifecycle_policy)),
            ])
        };
        let both = settings(SOURCE).zip(settings(TARGET));
        both.map_or(0, |(wanted, has)| wanted.iter().zip(&has).filter(|(wanted, has)| wanted != has).count())
    }

    /// What at the target is not what its digest says. Takes all faults away.
    pub(crate) async fn broken(&self, client: &reqwest::Client) -> Option<Wrong> {
        self.world.ecr.clear_faults();
        let there = self.world.view(TARGET);
        let config = aws_sdk_ecr::config::Builder::from(&self.config).region(Region::new(TARGET)).build();
        let token = Client::from_conf(config).get_authorization_token().send().await.unwrap();
        let token = &token.authorization_data()[0];
        let (endpoint, token) = (token.proxy_endpoint().unwrap(), token.authorization_token().unwrap());
        let mut read = BTreeSet::new();
        for (digest, content) in &there.images {
            if Digest::of(content.as_bytes()).as_str() != digest {
                return Some(Wrong::Image(format!("{digest} has other bytes")));
            }
            // A blob is read as any client reads it.
            let manifest: Value = serde_json::from_str(content).unwrap();
            let config = manifest.get("config").into_iter();
            let blobs = config.chain(manifest["layers"].as_array().into_iter().flatten());
            for blob in blobs.map(|blob| blob["digest"].as_str().unwrap()) {
                if !read.insert(blob.to_owned()) {
                    continue;
                }
                let request = client.get(format!("{endpoint}/v2/{REPOSITORY}/blobs/{blob}"));
                let answer = request.header("authorization", format!("Basic {token}")).send().await.unwrap();
                let content = answer.bytes().await.unwrap();
                if Digest::of(&content).as_str() != blob {
                    return Some(Wrong::Image(format!("blob {blob} is missing, or another")));
                }
            }
        }
        None
    }

    /// What is wrong at the target, when an execution has ended, and what it `told` where it succeeded. Takes all faults away.
    pub(crate) async fn wrong(&self, way: Way, told: Option<&Put>, client: &reqwest::Client) -> Option<Wrong> {
        if let Some(broken) = self.broken(client).await {
            return Some(broken);
        }
        let there = self.world.view(TARGET);
        let (_, tag) = way.root();
        let (tagged, wanted) = (tag.and_then(|tag| there.tags.get(tag)), way.tags());
        if there.tags.iter().any(|(tag, on)| wanted.get(tag) != Some(on)) {
            return Some(Wrong::Tag(format!("other tags: {:?}", there.tags)));
        }
        let is_superseded = told.is_some_and(|put| put.status == Status::Superseded);
        if told.is_some() && !is_superseded && tagged.is_none() != tag.is_none() {
            return Some(Wrong::Tag("it is told to be tagged, and is not".to_owned()));
        }
        let lack = way.lacks(&there)?;
        let is_refused = lack.is_referrer && told.is_some_and(|put| put.referrers_refused > 0);
        match (tagged, told) {
            _ if is_refused => None,
            (Some(_), _) => Some(lack.wrong()),
            (None, Some(_)) if lack.is_referrer => Some(lack.wrong()),
            (None, Some(_)) => Some(Wrong::Image(format!("it lacks {}", lack.digest))),
            (None, None) => None,
        }
    }
}

/// What the state machine is started with.
pub(crate) fn execution_input(way: Way) -> Value {
    if way != Way::Untagged {
        let targets = json!([{"region": TARGET}]);
        return json!({"image": {"repository": REPOSITORY, "tag": "v1"}, "targets": targets});
    }
    // So long ago that an index would have followed.
    let time = Timestamp::from_second(Timestamp::now().as_second() - resolve_image::INDEX_FOLLOWS_WITHIN - 1).unwrap();
    let detail = json!({
        "result": "SUCCESS", "repository-name": REPOSITORY, "image-digest": digest(&IMAGES.lone).as_str(),
        "action-type": "PUSH",
    });
    let event = json!({"detail-type": "ECR Image Action", "region": SOURCE, "time": time, "detail": detail});
    json!({"event": event, "rule": "untagged"})
}

/// What the state machine's definition has of rules.
pub(crate) fn rules() -> Value {
    let all = json!({"include": ["*"], "exclude": []});
    json!({"untagged": {"repositories": all, "tags": all, "untagged": true, "targets": [{"region": TARGET}]}})
}
