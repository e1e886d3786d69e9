use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::blobs::Blob;
use crate::config::RepeatedImmutableTagAnswer;
use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::names::{Digest, ImageTag, RepositoryPlace};
use crate::policy::Policy;
use crate::uploads::Upload;
use crate::wildcard;

/// A repository: its settings, layers, uploads and images.
#[derive(Debug)]
pub(crate) struct Repository {
    pub(crate) place: RepositoryPlace,
    pub(crate) created_at: Timestamp,
    pub(crate) mutability: TagMutability,
    pub(crate) scan_on_push: bool,
    pub(crate) encryption: Encryption,
    pub(crate) resource_tags: BTreeMap<String, String>,
    pub(crate) policy: Option<Policy>,
    pub(crate) lifecycle_policy: Option<String>,
    pub(crate) uploads: HashMap<Uuid, Arc<Upload>>,
    layers: BTreeMap<Digest, Layer>,
    images: BTreeMap<Digest, Image>,
    image_tags: BTreeMap<ImageTag, Digest>,
}

/// A layer, or an image's config, in a repository.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) blob: Arc<Blob>,
    /// As the images that hold it call it.
    pub(crate) media_type: Option<String>,
    /// How many images hold it.
    references: usize,
}

/// An image in a repository.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) pushed_at: Timestamp,
}

/// What is in a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepositoryView {
    /// The digest that each tag points at.
    pub tags: BTreeMap<String, String>,
    /// The manifest of each digest, as it was pushed.
    pub images: BTreeMap<String, String>,
}

/// How a repository is set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepositorySettings {
    /// `MUTABLE`, `IMMUTABLE`, `IMMUTABLE_WITH_EXCLUSION` or `MUTABLE_WITH_EXCLUSION`.
    pub image_tag_mutability: String,
    /// The wildcards of the tags that are excluded from that, in the order in which they were given.
    pub exclusion_filters: Vec<String>,
    /// Whether an image is scanned when it is pushed.
    pub scan_on_push: bool,
    /// `AES256`, `KMS` or `KMS_DSSE`.
    pub encryption_type: String,
    /// The key, of other types than `AES256`.
    pub kms_key: Option<String>,
    /// The repository's own tags, which are not those of its images.
    pub tags: BTreeMap<String, String>,
    /// The text of its policy, as it was set.
    pub policy: Option<String>,
    /// The text of its lifecycle policy, as it was put.
    pub lifecycle_policy: Option<String>,
}

/// Which tags may be moved.
#[derive(Debug, Clone, Default)]
pub(crate) struct TagMutability {
    pub(crate) mode: MutabilityMode,
    pub(crate) exclusions: Vec<ExclusionFilter>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum MutabilityMode {
    #[default]
    Mutable,
    Immutable,
    ImmutableWithExclusion,
    MutableWithExclusion,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExclusionFilter {
    filter_type: ExclusionFilterType,
    filter: String,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum ExclusionFilterType {
    Wildcard,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Encryption {
    pub(crate) encryption_type: EncryptionType,
    pub(crate) kms_key: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum EncryptionType {
    #[serde(rename = "AES256")]
    Aes256,
    #[serde(rename = "KMS")]
    Kms,
    #[serde(rename = "KMS_DSSE")]
    KmsDsse,
}

/// What `CreateRepository` sets.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) mutability: TagMutability,
    pub(crate) scan_on_push: bool,
    pub(crate) encryption: Encryption,
    pub(crate) resource_tags: BTreeMap<String, String>,
}

impl MutabilityMode {
    fn as_str(self) -> &'static str {
        match self {
            Self::Mutable => "MUTABLE",
            Self::Immutable => "IMMUTABLE",
            Self::ImmutableWithExclusion => "IMMUTABLE_WITH_EXCLUSION",
            Self::MutableWithExclusion => "MUTABLE_WITH_EXCLUSION",
        }
    }
}

impl EncryptionType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Aes256 => "AES256",
            Self::Kms => "KMS",
            Self::KmsDsse => "KMS_DSSE",
        }
    }
}

impl TagMutability {
    pub(crate) fn new(mode: MutabilityMode, exclusions: Option<Vec<ExclusionFilter>>) -> Result<Self> {
        let takes_exclusions =
            matches!(mode, MutabilityMode::ImmutableWithExclusion | MutabilityMode::MutableWithExclusion);
        let exclusions = exclusions.unwrap_or_default();
        let invalid = |constraint: &str| {
            Error::InvalidParameter(format!(
                "Invalid parameter at 'imageTagMutabilityExclusionFilters' failed to satisfy constraint: '{constraint}'"
            ))
        };
        if takes_exclusions == exclusions.is_empty() {
            return Err(invalid("filters are required with, and only with, a mutability WITH_EXCLUSION"));
        }
        if exclusions.len() > 5 {
            return Err(invalid("must have length 1 to 5"));
        }
        if !exclusions.iter().all(ExclusionFilter::is_valid) {
            return Err(invalid(
                "must satisfy regular expression '^[0-9a-zA-Z._*-]{1,128}$' with at most two wildcards",
            ));
        }
        Ok(Self { mode, exclusions })
    }

    fn is_immutable(&self, tag: &ImageTag) -> bool {
        let is_excluded = || self.exclusions.iter().any(|exclusion| wildcard::matches(&exclusion.filter, tag.as_str()));
        match self.mode {
            MutabilityMode::Mutable => false,
            MutabilityMode::Immutable => true,
            MutabilityMode::ImmutableWithExclusion => !is_excluded(),
            MutabilityMode::MutableWithExclusion => is_excluded(),
        }
    }
}

impl ExclusionFilter {
    fn is_valid(&self) -> bool {
        (1..=128).contains(&self.filter.len())
            && self.filter.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._*-".contains(&byte))
            && self.filter.matches('*').count() <= 2
    }
}

/// What became of an image that was named by a tag, a digest, or both.
#[derive(Debug)]
pub(crate) enum ImageLookup<'a> {
    Found(&'a Image),
    NotFound,
    OtherDigest,
}

/// What a deletion took away.
#[derive(Debug)]
pub(crate) enum ImageDeletion {
    /// The image with all of its tags.
    Image(Digest, Vec<ImageTag>),
    /// One tag of several.
    Tag(Digest, ImageTag),
    NotFound,
    OtherDigest,
    ReferencedByManifestList,
}

impl Repository {
    pub(crate) fn new(place: RepositoryPlace, settings: Settings) -> Self {
        Self {
            place,
            created_at: Timestamp::now(),
            mutability: settings.mutability,
            scan_on_push: settings.scan_on_push,
            encryption: settings.encryption,
            resource_tags: settings.resource_tags,
            policy: None,
            lifecycle_policy: None,
            uploads: HashMap::new(),
            layers: BTreeMap::new(),
            images: BTreeMap::new(),
            image_tags: BTreeMap::new(),
        }
    }

    pub(crate) fn upload(&self, id: Uuid) -> Result<Arc<Upload>> {
        self.uploads.get(&id).cloned().ok_or_else(|| Error::UploadNotFound { upload: id, place: self.place.clone() })
    }

    pub(crate) fn layer(&self, digest: &Digest) -> Option<&Layer> {
        self.layers.get(digest)
    }

    /// A layer to download, which only the layers of an image are.
    pub(crate) fn downloadable_layer(&self, digest: &Digest) -> Result<&Layer> {
        let layer = self
            .layer(digest)
            .ok_or_else(|| Error::LayerNotFound { digest: digest.clone(), place: self.place.clone() })?;
        if layer.references == 0 {
            return Err(Error::LayerInaccessible { digest: digest.clone(), place: self.place.clone() });
        }
        Ok(layer)
    }

    pub(crate) fn add_layer(&mut self, digest: Digest, blob: Arc<Blob>) -> Result<()> {
        if self.layers.contains_key(&digest) {
            return Err(Error::LayerAlreadyExists { digest, place: self.place.clone() });
        }
        self.layers.insert(digest, Layer { blob, media_type: None, references: 0 });
        Ok(())
    }

    /// Adds the image and its tag as far as they are not there.
    pub(crate) fn put_image(
        &mut self,
        manifest: &Arc<Manifest>,
        tag: Option<&ImageTag>,
        repeated_immutable_tag: RepeatedImmutableTagAnswer,
    ) -> Result<()> {
        self.check_references(manifest)?;
        let is_immutable = |tag: &ImageTag| self.mutability.is_immutable(tag);
        match tag.and_then(|tag| self.image_tags.get(tag).map(|digest| (tag, digest))) {
            Some((tag, digest))
                if is_immutable(tag)
                    && (*digest != manifest.digest
                        || repeated_immutable_tag == RepeatedImmutableTagAnswer::ImageTagAlreadyExists) =>
            {
                return Err(Error::ImageTagAlreadyExists { tag: tag.clone(), repository: self.place.name.clone() });
            }
            Some((_, digest)) if *digest == manifest.digest => return Err(self.image_exists(manifest, tag)),
            None if tag.is_none() && self.images.contains_key(&manifest.digest) => {
                return Err(self.image_exists(manifest, tag));
            }
            _ => {}
        }

        if !self.images.contains_key(&manifest.digest) {
            for (digest, media_type) in &manifest.layers {
                if let Some(layer) = self.layers.get_mut(digest) {
                    layer.references += 1;
                    layer.media_type = Some(media_type.clone());
                }
            }
            let image = Image { manifest: Arc::clone(manifest), pushed_at: Timestamp::now() };
            self.images.insert(manifest.digest.clone(), image);
        }
        if let Some(tag) = tag {
            self.image_tags.insert(tag.clone(), manifest.digest.clone());
        }
        Ok(())
    }

    fn check_references(&self, manifest: &Manifest) -> Result<()> {
        let missing: Vec<Digest> =
            manifest.layers.keys().filter(|digest| !self.layers.contains_key(digest)).cloned().collect();
        if !missing.is_empty() {
            return Err(Error::RequiredLayersNotFound { digests: missing, place: self.place.clone() });
        }
        let missing: Vec<Digest> =
            manifest.children.iter().filter(|digest| !self.images.contains_key(digest)).cloned().collect();
        if !missing.is_empty() {
            return Err(Error::ReferencedImagesNotFound { digests: missing, place: self.place.clone() });
        }
        Ok(())
    }

    fn image_exists(&self, manifest: &Manifest, tag: Option<&ImageTag>) -> Error {
        Error::ImageAlreadyExists { digest: manifest.digest.clone(), tag: tag.cloned(), place: self.place.clone() }
    }

    /// The images in the order of their digests.
    pub(crate) fn images(&self) -> impl Iterator<Item = &Image> {
        self.images.values()
    }

    pub(crate) fn find_image(&self, digest: Option<&Digest>, tag: Option<&ImageTag>) -> ImageLookup<'_> {
        let tagged = tag.and_then(|tag| self.image_tags.get(tag));
        let digest = match (digest, tagged) {
            (Some(digest), Some(tagged)) if digest != tagged => return ImageLookup::OtherDigest,
            (_, None) if tag.is_some() => return ImageLookup::NotFound,
            (digest, tagged) => digest.or(tagged),
        };
        digest.and_then(|digest| self.images.get(digest)).map_or(ImageLookup::NotFound, ImageLookup::Found)
    }

    /// An image's tags in alphabetical order.
    pub(crate) fn tags_of(&self, digest: &Digest) -> Vec<ImageTag> {
        self.image_tags.iter().filter(|(_, tagged)| *tagged == digest).map(|(tag, _)| tag.clone()).collect()
    }

    /// The tags of every image that has one, each image's in alphabetical order.
    pub(crate) fn tags_by_digest(&self) -> HashMap<&Digest, Vec<ImageTag>> {
        let mut tags: HashMap<&Digest, Vec<ImageTag>> = HashMap::new();
        for (tag, digest) in &self.image_tags {
            tags.entry(digest).or_default().push(tag.clone());
        }
        tags
    }

    pub(crate) fn tags(&self) -> impl Iterator<Item = &ImageTag> {
        self.image_tags.keys()
    }

    pub(crate) fn view(&self) -> RepositoryView {
        let tags = self.image_tags.iter().map(|(tag, digest)| (tag.to_string(), digest.to_string()));
        let images = self.images.iter().map(|(digest, image)| (digest.to_string(), image.manifest.text.clone()));
        RepositoryView { tags: tags.collect(), images: images.collect() }
    }

    pub(crate) fn settings(&self) -> RepositorySettings {
        let exclusions = self.mutability.exclusions.iter().map(|exclusion| exclusion.filter.clone());
        RepositorySettings {
            image_tag_mutability: self.mutability.mode.as_str().to_owned(),
            exclusion_filters: exclusions.collect(),
            scan_on_push: self.scan_on_push,
            encryption_type: self.encryption.encryption_type.as_str().to_owned(),
            kms_key: self.encryption.kms_key.clone(),
            tags: self.resource_tags.clone(),
            policy: self.policy.as_ref().map(|policy| policy.text().to_owned()),
            lifecycle_policy: self.lifecycle_policy.clone(),
        }
    }

    pub(crate) fn layer_sizes(&self) -> BTreeMap<String, u64> {
        self.layers.iter().map(|(digest, layer)| (digest.to_string(), layer.blob.size)).collect()
    }

    /// The size of an image's config and layers; of an index, its largest image's.
    pub(crate) fn image_size(&self, manifest: &Manifest) -> u64 {
        if manifest.children.is_empty() {
            manifest.layers.keys().filter_map(|digest| self.layers.get(digest)).map(|layer| layer.blob.size).sum()
        } else {
            // Nested indexes are allowed; a digest cannot be in its own tree.
            let sizes = manifest.children.iter().filter_map(|child| self.images.get(child));
            sizes.map(|image| self.image_size(&image.manifest)).max().unwrap_or_default()
        }
    }

    /// The images whose subject is this digest, of these types if any are given.
    pub(crate) fn referrers(&self, subject: &Digest, artifact_types: &[String]) -> impl Iterator<Item = &Image> {
        self.images.values().filter(move |image| {
            let manifest = &image.manifest;
            manifest.subject.as_ref() == Some(subject)
                && (artifact_types.is_empty()
                    || manifest.artifact_type.as_ref().is_some_and(|own| artifact_types.contains(own)))
        })
    }

    /// Deletes an image with its tags, or one tag, and with its last tag the image.
    pub(crate) fn delete_image(&mut self, digest: Option<&Digest>, tag: Option<&ImageTag>) -> ImageDeletion {
        let digest = match self.find_image(digest, tag) {
            ImageLookup::Found(image) => image.manifest.digest.clone(),
            ImageLookup::NotFound => return ImageDeletion::NotFound,
            ImageLookup::OtherDigest => return ImageDeletion::OtherDigest,
        };
        let tags = self.tags_of(&digest);
        if let Some(tag) = tag.filter(|_| tags.len() > 1) {
            self.image_tags.remove(tag);
            return ImageDeletion::Tag(digest, tag.clone());
        }
        if self.images.values().any(|image| image.manifest.children.contains(&digest)) {
            return ImageDeletion::ReferencedByManifestList;
        }
        self.image_tags.retain(|_, tagged| *tagged != digest);
        if let Some(image) = self.images.remove(&digest) {
            self.release_layers(image.manifest.layers.keys().collect());
        }
        ImageDeletion::Image(digest, tags)
    }

    /// Deletes an image with its tags, and before it each index that lists it.
    pub(crate) fn delete_image_and_indexes(&mut self, digest: &Digest) {
        let lists = |image: &&Image| image.manifest.children.contains(digest);
        while let Some(index) = self.images.values().find(lists).map(|image| image.manifest.digest.clone()) {
            self.delete_image_and_indexes(&index);
        }
        self.delete_image(Some(digest), None);
    }

    /// "Unassociated image layers may be cleaned up at any time": here, at once.
    fn release_layers(&mut self, digests: BTreeSet<&Digest>) {
        for digest in digests {
            if let Some(layer) = self.layers.get_mut(digest) {
                layer.references -= 1;
                if layer.references == 0 {
                    self.layers.remove(digest);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exclusions_turn_the_mode_around() {
        let filter =
            |filter: &str| ExclusionFilter { filter_type: ExclusionFilterType::Wildcard, filter: filter.into() };
        let (latest, v1) = (ImageTag::try_from("latest").unwrap(), ImageTag::try_from("v1").unwrap());
        for (mode, exclusions, immutable_latest, immutable_v1) in [
            (MutabilityMode::Mutable, None, false, false),
            (MutabilityMode::Immutable, None, true, true),
            (MutabilityMode::ImmutableWithExclusion, Some(vec![filter("la*")]), false, true),
            (MutabilityMode::MutableWithExclusion, Some(vec![filter("la*")]), true, false),
        ] {
            let mutability = TagMutability::new(mode, exclusions).unwrap();
            assert_eq!(mutability.is_immutable(&latest), immutable_latest, "{mode:?}");
            assert_eq!(mutability.is_immutable(&v1), immutable_v1, "{mode:?}");
        }
        assert!(TagMutability::new(MutabilityMode::Mutable, Some(vec![filter("x")])).is_err());
        assert!(TagMutability::new(MutabilityMode::ImmutableWithExclusion, None).is_err());
        assert!(TagMutability::new(MutabilityMode::ImmutableWithExclusion, Some(vec![filter("*a*b*")])).is_err());
    }
}
