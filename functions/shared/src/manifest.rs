//! Manifests as they are stored, and the walk over an image's tree.
//!
//! A manifest's bytes are passed through as they came: they are parsed to be read, and never written again.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;

use crate::{
    contract::Blob,
    error::{ErrorName, Named},
    names::Digest,
    registry::{RegistryError, Repository},
};

/// The media types that ECR stores, all accepted, so that no manifest is translated on its way to us.
pub const MEDIA_TYPES: [&str; 6] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.artifact.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];

/// How deep indexes may nest. Real images have one level, rarely two.
const DEPTH_LIMIT: usize = 8;

/// How many manifests one image may have: an index for every platform that exists has some dozens.
const MANIFEST_LIMIT: usize = 1000;

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
    #[error("image {digest} nests deeper than {DEPTH_LIMIT} levels, or has more than {MANIFEST_LIMIT} manifests")]
    TooLarge {
        /// The image.
        digest: Digest,
    },
    /// The source could not be read.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl Named for ManifestError {
    fn name(&self) -> ErrorName {
        match self {
            Self::Malformed { .. } | Self::Unsupported { .. } | Self::TooLarge { .. } => ErrorName::InvalidInput,
            // Manifests are walked in the source alone: without its repository there is no image.
            Self::Registry(error) if error.name() == ErrorName::RepositoryNotFound => ErrorName::ImageNotFound,
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
    /// What it refers to.
    ///
    /// # Errors
    /// `InvalidInput` when it is no manifest, or of a kind that names no blobs by descriptor.
    pub fn references(&self) -> Result<References, ManifestError> {
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
            } else {
                references.blobs.push(Blob { digest: descriptor.digest, size: descriptor.size });
            }
        }
        Ok(references)
    }
}

/// An image's manifests and blobs.
#[derive(Debug)]
pub struct Tree {
    /// The image's own manifest.
    pub root: Manifest,
    /// What that refers to.
    pub references: References,
    /// The manifests below it, children before parents.
    pub below: Vec<Manifest>,
    /// The distinct blobs of all of them.
    pub blobs: Vec<Blob>,
    /// How many distinct foreign layers they name.
    pub foreign: usize,
}

impl Tree {
    /// Its manifests, children before parents.
    pub fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        self.below.iter().chain([&self.root])
    }
}

/// Reads the tree of the image `digest`, each manifest once, a level of it at a time.
///
/// # Errors
/// `ImageNotFound` when the source does not have the image, `RegistryUnavailable` when it lacks one of its manifests,
/// `InvalidInput` when one cannot be read, and those of [`Repository::manifests`].
pub async fn walk(source: &Repository, digest: &Digest) -> Result<Tree, ManifestError> {
    let mut found: HashMap<Digest, (Manifest, References)> = HashMap::new();
    let mut level = vec![digest.clone()];
    for _ in 0..DEPTH_LIMIT {
        if level.is_empty() {
            break;
        }
        if found.len() + level.len() > MANIFEST_LIMIT {
            return Err(ManifestError::TooLarge { digest: digest.clone() });
        }
        for manifest in source.manifests(&level).await? {
            let references = manifest.references()?;
            found.insert(manifest.digest.clone(), (manifest, references));
        }
        for digest in std::mem::take(&mut level) {
            let Some((_, references)) = found.get(&digest) else {
                let is_image = found.is_empty();
                let error = if is_image { source.image_not_found(&digest) } else { source.child_not_found(&digest) };
                return Err(error.into());
            };
            level.extend(references.children.iter().filter(|child| !found.contains_key(child)).cloned());
        }
        level.sort_unstable();
        level.dedup();
    }
    if !level.is_empty() {
        return Err(ManifestError::TooLarge { digest: digest.clone() });
    }

    let (mut order, mut seen) = (Vec::new(), HashSet::new());
    children_first(digest, &found, &mut seen, &mut order);
    let (mut blobs, mut distinct, mut foreign) = (Vec::new(), HashSet::new(), HashSet::new());
    let mut manifests = Vec::new();
    for (manifest, references) in order.iter().filter_map(|digest| found.remove(digest)) {
        blobs.extend(references.blobs.iter().filter(|blob| distinct.insert(blob.digest.clone())).cloned());
        foreign.extend(references.foreign.iter().cloned());
        manifests.push((manifest, references));
    }
    let Some((root, references)) = manifests.pop() else {
        return Err(source.image_not_found(digest).into());
    };
    let below = manifests.into_iter().map(|(manifest, _)| manifest).collect();
    Ok(Tree { root, references, below, blobs, foreign: foreign.len() })
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
    use super::*;

    fn manifest(content: &str) -> Manifest {
        Manifest {
            digest: Digest::of(content.as_bytes()),
            media_type: "application/test".to_owned(),
            content: content.to_owned(),
        }
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
        assert_eq!(references.blobs, [Blob { digest: config, size: 1 }, Blob { digest: layer, size: 2 }]);
        assert_eq!(references.foreign, [docker, oci]);
    }

    #[test]
    fn what_is_no_manifest_is_refused_by_name() {
        let unreadable = manifest("<html>").references().unwrap_err();
        assert!(matches!(unreadable, ManifestError::Malformed { .. }));
        assert_eq!(unreadable.name(), ErrorName::InvalidInput);
        let schema1 = manifest(r#"{"schemaVersion":1,"fsLayers":[]}"#).references().unwrap_err();
        assert!(matches!(schema1, ManifestError::Unsupported { .. }));
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
