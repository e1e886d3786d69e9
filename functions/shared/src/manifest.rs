//! Manifests as they are stored, and the walk over an image's tree.
//!
//! A manifest's bytes are passed through as they came: they are parsed to be read, and never written again.

use std::collections::{HashMap, HashSet};

use futures::future::join;
use serde::Deserialize;

use crate::{
    contract::{Blob, Referrer},
    error::{Class, ErrorName, Named},
    names::Digest,
    registry::{MANIFESTS_LIMIT, RegistryError, Repository},
};

/// The media types that ECR stores, all accepted, so that no manifest is translated on its way to us.
pub const MEDIA_TYPES: [&str; 7] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.artifact.manifest.v1+json",
    SCHEMA_1[0],
    SCHEMA_1[1],
];

/// Docker's manifest schema 1, which names no sizes, and whose digest is not that of its bytes when it is signed.
const SCHEMA_1: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];

/// Whether a media type is that of an index, also called a manifest list.
pub(crate) fn is_index(media_type: &str) -> bool {
    media_type.ends_with(".index.v1+json") || media_type.ends_with(".list.v2+json")
}

/// How deep indexes may nest. Real images have one level, rarely two.
const DEPTH_LIMIT: usize = 8;

/// How many manifests one image may have: an index for every platform that exists has some dozens.
const MANIFEST_LIMIT: usize = 1000;

/// How many blobs one image may have: a container engine mounts some hundred layers, and artifacts have a file in each.
const BLOB_LIMIT: usize = 10_000;

/// The largest blob that a manifest may name, in bytes: ECR's quota for a layer, 52,000 MiB, which cannot be raised.
const BLOB_SIZE_LIMIT: u64 = 52_000 * 1024 * 1024;

/// A manifest, byte for byte as it was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The digest of its bytes.
    pub digest: Digest,
    /// The media type that it is stored with.
    pub media_type: String,
    /// Its bytes: JSON text in UTF-8.
    pub content: String,
}

/// A manifest that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is not JSON, or lacks what a manifest must have.
    #[error("manifest {digest} cannot be read")]
    Malformed {
        /// The manifest.
        digest: Digest,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// It is of Docker's schema 1.
    #[error(
        "manifest {digest} is of Docker's manifest schema 1, which is not replicated: pull the image and push it again with \
         a client of this decade, or convert it with `skopeo copy --format v2s2`"
    )]
    Schema1 {
        /// The manifest.
        digest: Digest,
    },
    /// It is of a kind that names no blobs by descriptor.
    #[error(
        "manifest {digest} is of the unsupported media type {media_type}: push the image again with a current client"
    )]
    Unsupported {
        /// The manifest.
        digest: Digest,
        /// Its media type.
        media_type: String,
    },
    /// The tree has no end that an image would have.
    #[error("image {digest} has more than {limit}")]
    TooLarge {
        /// The image.
        digest: Digest,
        /// What it has too much of, and how much it may have.
        limit: String,
    },
    /// It names a blob that no registry of ECR can have.
    #[error("manifest {digest} names a blob of {size} bytes, and ECR stores none of more than {BLOB_SIZE_LIMIT}")]
    BlobTooLarge {
        /// The manifest.
        digest: Digest,
        /// The blob's size.
        size: u64,
    },
    /// The source could not be read.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl Named for ManifestError {
    fn name(&self) -> ErrorName {
        match self {
            Self::Malformed { .. }
            | Self::Schema1 { .. }
            | Self::Unsupported { .. }
            | Self::TooLarge { .. }
            | Self::BlobTooLarge { .. } => ErrorName::InvalidInput,
            Self::Registry(error) => error.name(),
        }
    }
}

/// What a manifest refers to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct References {
    /// Whether it is an index, also called a manifest list.
    pub is_index: bool,
    /// The manifests of an index.
    pub children: Vec<Digest>,
    /// The blobs of an image: its config first, then its layers.
    pub blobs: Vec<Blob>,
    /// Layers that are not stored in registries.
    pub foreign: Vec<Digest>,
    /// The manifest that this one is about, for a signature or an SBOM.
    pub subject: Option<Digest>,
}

/// The members of manifests of every kind that are read here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    blobs: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    size: u64,
}

impl Descriptor {
    /// Nondistributable layers of Windows images: `foreign` for Docker, `nondistributable` for OCI.
    fn is_foreign(&self) -> bool {
        self.media_type.contains("foreign") || self.media_type.contains("nondistributable")
    }
}

impl Manifest {
    /// Whether a media type is that of Docker's schema 1.
    pub(crate) fn is_schema_1(media_type: &str) -> bool {
        SCHEMA_1.contains(&media_type)
    }

    /// What it refers to.
    ///
    /// # Errors
    /// `InvalidInput` when it is no manifest, or of a kind that names no blobs by descriptor.
    pub fn references(&self) -> Result<References, ManifestError> {
        if Self::is_schema_1(&self.media_type) {
            return Err(ManifestError::Schema1 { digest: self.digest.clone() });
        }
        let document: Document = serde_json::from_str(&self.content)
            .map_err(|source| ManifestError::Malformed { digest: self.digest.clone(), source })?;
        if let Document { manifests: None, config: None, layers: None, blobs: None, .. } = document {
            return Err(ManifestError::Unsupported {
                digest: self.digest.clone(),
                media_type: self.media_type.clone(),
            });
        }
        let mut references = References {
            is_index: document.manifests.is_some(),
            children: document.manifests.into_iter().flatten().map(|child| child.digest).collect(),
            subject: document.subject.map(|subject| subject.digest),
            ..References::default()
        };
        let layers = document.layers.into_iter().flatten();
        let blobs = document.blobs.into_iter().flatten();
        for descriptor in document.config.into_iter().chain(layers).chain(blobs) {
            if descriptor.is_foreign() {
                references.foreign.push(descriptor.digest);
            } else if descriptor.size > BLOB_SIZE_LIMIT {
                return Err(ManifestError::BlobTooLarge { digest: self.digest.clone(), size: descriptor.size });
            } else {
                references.blobs.push(Blob { digest: descriptor.digest, size: descriptor.size, of_referrer: false });
            }
        }
        Ok(references)
    }
}

/// An image's manifests and blobs, and those of its referrers.
#[derive(Debug)]
pub struct Tree {
    /// The image's own manifest.
    pub root: Manifest,
    /// What that refers to.
    pub references: References,
    /// The manifests below it, children before parents.
    pub below: Vec<Manifest>,
    /// Its referrers, in the order in which they were asked for; those that the source has lost are not among them.
    pub referrers: Vec<ReferrerTree>,
    /// Referrers that cannot be read.
    pub unreadable: Vec<(Referrer, ManifestError)>,
    /// The distinct blobs of all of them.
    pub blobs: Vec<Blob>,
    /// How many distinct foreign layers they name.
    pub foreign: usize,
}

/// A referrer's manifests.
#[derive(Debug)]
pub struct ReferrerTree {
    /// Which it is.
    pub referrer: Referrer,
    /// Its own.
    pub root: Manifest,
    /// Those below it, children before parents.
    pub below: Vec<Manifest>,
}

impl ReferrerTree {
    /// Its manifests, children before parents.
    pub fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        self.below.iter().chain([&self.root])
    }
}

impl Tree {
    /// The image's manifests, children before parents.
    pub fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        self.below.iter().chain([&self.root])
    }

    /// The image's manifests, and then those of its referrers.
    pub fn all_manifests(&self) -> impl Iterator<Item = &Manifest> {
        self.manifests().chain(self.referrers.iter().flat_map(ReferrerTree::manifests))
    }
}

/// What was read of the source.
#[derive(Default)]
struct Found {
    manifests: HashMap<Digest, (Manifest, References)>,
    unreadable: HashMap<Digest, ManifestError>,
    /// What was too deep to be read.
    too_deep: HashSet<Digest>,
    /// What the manifests take, in bytes.
    bytes: usize,
}

impl Found {
    /// Reads what `roots` are and have below them, each manifest once, a level of all trees at a time.
    async fn read(source: &Repository, roots: &[Digest]) -> Result<Self, ManifestError> {
        let mut found = Self::default();
        let (mut level, mut asked) = (roots.to_vec(), HashSet::new());
        for _ in 0..DEPTH_LIMIT {
            level.retain(|digest| asked.insert(digest.clone()));
            if let Some(digest) = roots.first().filter(|_| asked.len() >= MANIFEST_LIMIT + roots.len()) {
                return Err(too_large(digest, format!("{MANIFEST_LIMIT} manifests")));
            }
            if level.is_empty() {
                return Ok(found);
            }
            let mut below = Vec::new();
            for manifest in source.manifests(&level).await? {
                found.bytes += manifest.content.len();
                match manifest.references() {
                    Ok(references) => {
                        below.extend(references.children.iter().cloned());
                        found.manifests.insert(manifest.digest.clone(), (manifest, references));
                    }
                    Err(error) => drop(found.unreadable.insert(manifest.digest, error)),
                }
            }
            if let Some(digest) = roots.first().filter(|_| is_too_large(found.bytes)) {
                return Err(too_large(digest, format!("{MANIFESTS_LIMIT} MiB of manifests")));
            }
            level = below;
        }
        found.too_deep.extend(level.into_iter().filter(|digest| !asked.contains(digest)));
        Ok(found)
    }

    /// As [`Found::read`]; what does not let itself be read keeps nothing else from it.
    async fn read_each(source: &Repository, roots: &[Digest]) -> Result<Self, ManifestError> {
        match Self::read(source, roots).await {
            Err(error) if error.name().class() != Class::Retry && error.name() != ErrorName::ImageNotFound => {}
            found => return found,
        }
        let mut all = Self::default();
        for root in roots {
            match Self::read(source, std::slice::from_ref(root)).await {
                Ok(found) if is_too_large(all.bytes + found.bytes) => {
                    let error = too_large(root, format!("{MANIFESTS_LIMIT} MiB of manifests, with those before it"));
                    all.unreadable.insert(root.clone(), error);
                }
                Ok(found) => {
                    all.bytes += found.bytes;
                    all.manifests.extend(found.manifests);
                    all.unreadable.extend(found.unreadable);
                    all.too_deep.extend(found.too_deep);
                }
                Err(error) if error.name().class() == Class::Retry => return Err(error),
                Err(error) => drop(all.unreadable.insert(root.clone(), error)),
            }
        }
        Ok(all)
    }

    /// The digests of the tree below `digest`, children before parents, if all of it was read.
    fn tree(&mut self, source: &Repository, digest: &Digest) -> Result<Vec<Digest>, ManifestError> {
        let mut order = Vec::new();
        children_first(digest, &self.manifests, &mut HashSet::new(), &mut order);
        let of_all = order.iter().filter_map(|below| self.manifests.get(below));
        if of_all.map(|(_, references)| references.blobs.len()).sum::<usize>() > BLOB_LIMIT {
            return Err(too_large(digest, format!("{BLOB_LIMIT} blobs")));
        }
        match order.iter().find(|below| !self.manifests.contains_key(below)) {
            None => Ok(order),
            Some(lost) if self.too_deep.contains(lost) => {
                Err(too_large(digest, format!("{DEPTH_LIMIT} levels of manifests")))
            }
            Some(lost) => Err(match self.unreadable.remove(lost) {
                Some(error) => error,
                None if lost == digest => source.image_not_found(digest).into(),
                None => source.child_not_found(lost).into(),
            }),
        }
    }
}

fn is_too_large(bytes: usize) -> bool {
    bytes > MANIFESTS_LIMIT * 1024 * 1024
}

fn too_large(digest: &Digest, limit: String) -> ManifestError {
    ManifestError::TooLarge { digest: digest.clone(), limit }
}

/// Reads the tree of the image `digest`, and those of its `referrers`.
///
/// # Errors
/// `ImageNotFound` when the source does not have the image, `RegistryUnavailable` when it lacks one of its manifests,
/// `InvalidInput` when one cannot be read, and those of [`Repository::manifests`]. A referrer is no reason for one.
pub async fn walk(source: &Repository, digest: &Digest, referrers: &[Referrer]) -> Result<Tree, ManifestError> {
    let roots: Vec<Digest> = referrers.iter().map(|referrer| referrer.digest.clone()).collect();
    let (image, others) =
        join(Found::read(source, std::slice::from_ref(digest)), Found::read_each(source, &roots)).await;
    let (mut image, mut others) = (image?, others?);
    let order = image.tree(source, digest)?;
    let (mut trees, mut unreadable) = (Vec::new(), Vec::new());
    for referrer in referrers {
        match others.tree(source, &referrer.digest) {
            Ok(order) => trees.push((referrer.clone(), order)),
            // It was deleted since it was found.
            Err(error) if error.name() == ErrorName::ImageNotFound => {}
            Err(error) => unreadable.push((referrer.clone(), error)),
        }
    }

    let (mut blobs, mut distinct, mut foreign) = (Vec::new(), HashSet::new(), HashSet::new());
    let of_image = order.iter().filter_map(|digest| image.manifests.get(digest)).map(|found| (found, false));
    let of_referrers = trees.iter().flat_map(|(_, order)| order).filter_map(|digest| others.manifests.get(digest));
    for ((_, references), of_referrer) in of_image.chain(of_referrers.map(|found| (found, true))) {
        let new = references.blobs.iter().filter(|blob| distinct.insert(blob.digest.clone()));
        blobs.extend(new.map(|blob| Blob { of_referrer, ..blob.clone() }));
        foreign.extend(references.foreign.iter().cloned());
    }
    let split = |found: &Found, order: &[Digest]| {
        let manifests = order.iter().filter_map(|digest| found.manifests.get(digest));
        // Trees may share manifests.
        let mut manifests: Vec<Manifest> = manifests.map(|(manifest, _)| manifest.clone()).collect();
        manifests.pop().map(|root| (root, manifests))
    };
    let referrers = trees.into_iter().filter_map(|(referrer, order)| {
        let (root, below) = split(&others, &order)?;
        Some(ReferrerTree { referrer, root, below })
    });
    let referrers = referrers.collect();
    let Some(((root, below), (_, references))) = split(&image, &order).zip(image.manifests.remove(digest)) else {
        return Err(source.image_not_found(digest).into());
    };
    Ok(Tree { root, references, below, referrers, unreadable, blobs, foreign: foreign.len() })
}

/// Appends the tree below `digest` to `order`, and then `digest`. A digest cannot be its own descendant.
fn children_first(
    digest: &Digest,
    found: &HashMap<Digest, (Manifest, References)>,
    seen: &mut HashSet<Digest>,
    order: &mut Vec<Digest>,
) {
    if !seen.insert(digest.clone()) {
        return;
    }
    for child in found.get(digest).into_iter().flat_map(|(_, references)| &references.children) {
        children_first(child, found, seen, order);
    }
    order.push(digest.clone());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// A number of any kind, as JSON has them.
    fn number() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<u64>().prop_map(|it| it.to_string()),
            any::<i64>().prop_map(|it| it.to_string()),
            (0..2 * BLOB_SIZE_LIMIT).prop_map(|it| it.to_string()),
            "-?[0-9]{1,400}(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,4})?",
        ]
    }

    /// What stands in a manifest where something else should.
    fn anything() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("null".to_owned()),
            Just("{}".to_owned()),
            number(),
            any::<String>().prop_map(|it| json!(it).to_string()),
            (1..2000usize).prop_map(|depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth))),
            (1..2000usize).prop_map(|depth| format!("{}1{}", r#"{"manifests":"#.repeat(depth), "}".repeat(depth))),
        ]
    }

    fn descriptor() -> impl Strategy<Value = String> {
        let types = proptest::sample::select(vec![
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "application/vnd.oci.image.layer.nondistributable.v1.tar",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "application/x-unheard-of",
            "",
        ]);
        let digest = prop_oneof![
            8 => (0..6u8).prop_map(|it| json!(Digest::of(&[it])).to_string()),
            1 => "[sS][hH][aA](256|512):[0-9a-fA-F]{0,130}".prop_map(|it| json!(it).to_string()),
            1 => anything(),
        ];
        let size = prop_oneof![8 => (0..1_000_000u64).prop_map(|it| it.to_string()), 2 => number(), 1 => anything()];
        (types, digest, size, proptest::option::weighted(0.2, anything()), 0..12usize).prop_map(
            |(media_type, digest, size, other, lost)| {
                let mut members = vec![
                    format!(r#""mediaType":"{media_type}""#),
                    format!(r#""digest":{digest}"#),
                    format!(r#""size":{size}"#),
                    r#""urls":["https://elsewhere.example/layer"]"#.to_owned(),
                ];
                if lost < 3 {
                    members.remove(lost);
                }
                members.extend(other.map(|other| format!(r#""annotations":{other}"#)));
                format!("{{{}}}", members.join(","))
            },
        )
    }

    /// Manifests of every kind, nearly, and bytes that are none.
    fn content() -> impl Strategy<Value = String> {
        let list = || {
            prop_oneof![
                8 => proptest::collection::vec(descriptor(), 0..5).prop_map(|items| format!("[{}]", items.join(","))),
                1 => anything(),
            ]
        };
        let one = || prop_oneof![8 => descriptor(), 1 => anything()];
        let names = ["manifests", "layers", "blobs", "config", "subject", "schemaVersion", "mediaType", "unknown"];
        let member = (0..names.len(), list(), one(), anything()).prop_map(move |(name, list, one, anything)| {
            let value = match name {
                0..3 => list,
                3..5 => one,
                _ => anything,
            };
            format!(r#""{}":{value}"#, names[name])
        });
        let manifest = proptest::collection::vec(member, 0..5).prop_map(|members| format!("{{{}}}", members.join(",")));
        let cut = proptest::option::weighted(0.05, any::<proptest::sample::Index>());
        let manifest = (manifest, cut).prop_map(|(manifest, cut)| match cut {
            Some(end) => manifest.chars().take(end.index(manifest.len())).collect(),
            None => manifest,
        });
        let bytes = proptest::collection::vec(any::<u8>(), 0..200);
        let bytes = bytes.prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        prop_oneof![16 => manifest, 1 => bytes, 1 => any::<String>()]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_is_stored_is_read_or_refused_by_name(
            content in content(),
            media_type in prop_oneof![proptest::sample::select(MEDIA_TYPES.to_vec()).prop_map(str::to_owned), any::<String>()],
        ) {
            let manifest = Manifest { media_type, ..manifest(&content) };
            match manifest.references() {
                Err(error) => prop_assert_eq!(error.name(), ErrorName::InvalidInput),
                Ok(references) => {
                    // What was read stands there, under a digest that is one, in a size that a blob may have.
                    for blob in &references.blobs {
                        prop_assert!(blob.size <= BLOB_SIZE_LIMIT && content.contains(blob.digest.as_str()));
                    }
                    // A value cannot be as deep as what is passed over.
                    let Ok(document) = serde_json::from_str::<Value>(&content) else { return Ok(()) };
                    prop_assert_eq!(references.is_index, document["manifests"].is_array());
                    let listed = ["layers", "blobs", "manifests"].iter().filter_map(|list| document[list].as_array());
                    let listed = listed.map(Vec::len).sum::<usize>() + usize::from(document["config"].is_object());
                    let read = references.blobs.len() + references.foreign.len() + references.children.len();
                    prop_assert_eq!(read, listed);
                }
            }
        }
    }

    fn manifest(content: &str) -> Manifest {
        Manifest {
            digest: Digest::of(content.as_bytes()),
            media_type: "application/test".to_owned(),
            content: content.to_owned(),
        }
    }

    fn blob(digest: Digest, size: u64) -> Blob {
        Blob { digest, size, of_referrer: false }
    }

    #[test]
    fn foreign_layers_are_told_from_layers() {
        let [config, layer, docker, oci] = ["config", "layer", "docker", "oci"].map(|name| Digest::of(name.as_bytes()));
        let references = manifest(&format!(
            r#"{{"schemaVersion":2,
                "config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":1}},
                "layers":[
                  {{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","digest":"{docker}","size":9}},
                  {{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{layer}","size":2}},
                  {{"mediaType":"application/vnd.oci.image.layer.nondistributable.v1.tar","digest":"{oci}","size":9}}]}}"#
        ))
        .references()
        .unwrap();
        assert!(!references.is_index);
        assert_eq!(references.blobs, [blob(config, 1), blob(layer, 2)]);
        assert_eq!(references.foreign, [docker, oci]);
    }

    #[test]
    fn what_is_no_manifest_is_refused_by_name() {
        let unreadable = manifest("<html>").references().unwrap_err();
        assert!(matches!(unreadable, ManifestError::Malformed { .. }));
        assert_eq!(unreadable.name(), ErrorName::InvalidInput);
        let unsupported = manifest(r#"{"schemaVersion":2}"#).references().unwrap_err();
        assert!(matches!(unsupported, ManifestError::Unsupported { .. }));
        let schema1 = manifest(r#"{"schemaVersion":1,"fsLayers":[]}"#);
        for media_type in SCHEMA_1 {
            let schema1 = Manifest { media_type: media_type.to_owned(), ..schema1.clone() }.references().unwrap_err();
            assert!(matches!(schema1, ManifestError::Schema1 { .. }));
            assert!(schema1.to_string().contains("push it again"), "it says what to do: {schema1}");
        }
    }

    #[test]
    fn a_blob_larger_than_any_is_refused_and_the_largest_is_not() {
        let of = |size: u64| {
            let layer =
                json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": Digest::of(b""), "size": size});
            manifest(&json!({"layers": [layer]}).to_string()).references()
        };
        assert_eq!(of(BLOB_SIZE_LIMIT).unwrap().blobs[0].size, BLOB_SIZE_LIMIT);
        let error = of(BLOB_SIZE_LIMIT + 1).unwrap_err();
        assert_eq!(error.name(), ErrorName::InvalidInput);
        assert!(
            error
                .to_string()
                .ends_with("names a blob of 54525952001 bytes, and ECR stores none of more than 54525952000")
        );
    }

    #[test]
    fn a_child_shared_by_two_indexes_comes_before_both() {
        let leaf = manifest(r#"{"layers":[]}"#);
        let index = |children: &[&Manifest]| {
            let children: Vec<String> =
                children.iter().map(|child| format!(r#"{{"digest":"{}","size":1}}"#, child.digest)).collect();
            manifest(&format!(r#"{{"manifests":[{}]}}"#, children.join(",")))
        };
        let inner = index(&[&leaf]);
        let root = index(&[&leaf, &inner]);
        let found = [&leaf, &inner, &root]
            .map(|manifest| (manifest.digest.clone(), (manifest.clone(), manifest.references().unwrap())))
            .into();
        let mut order = Vec::new();
        children_first(&root.digest, &found, &mut HashSet::new(), &mut order);
        assert_eq!(order, [leaf.digest, inner.digest, root.digest]);
    }
}
