//! PutManifest: children before parents, byte for byte, and the tag last.
//!
//! The tag follows the source. It is compared before it is put, and again after: a run that was overtaken leaves the
//! tag to the newer image, or hands it back.

use std::{collections::HashSet, time::Instant};

use shared::{
    contract::{Put, Status, TargetInput, milliseconds, now},
    error::{ErrorName, Named},
    manifest::{Manifest, ManifestError, walk},
    names::{Digest, ImageTag},
    registry::{PutImage, Registries, RegistryError, Repository},
};
use tracing::info;

/// Why the image could not be put.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source's manifests could not be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A call failed, or the tag is taken.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl Named for Error {
    fn name(&self) -> ErrorName {
        match self {
            Self::Manifest(error) => error.name(),
            Self::Registry(error) => error.name(),
        }
    }
}

/// Puts the image's manifests, and its tag.
///
/// # Errors
/// `LayersMissing` when the target lacks a blob, `TagConflict` when the tag is immutable and taken, `ImageNotFound`
/// when the source lost the image, `DigestMismatch`, `QuotaExceeded`, `RepositoryNotFound`, `AccessDenied`,
/// `RegistryThrottled`, `RegistryUnavailable`.
pub async fn handle(registries: &Registries, input: TargetInput) -> Result<Put, Error> {
    let started = Instant::now();
    let TargetInput { execution, image, target } = input;
    let source = registries.repository(&image.region, &image.repository);
    let target = registries.repository(&target.region, &target.repository);
    let tree = walk(&source, &image.digest).await?;

    let digests: Vec<Digest> = tree.manifests().map(|manifest| manifest.digest.clone()).collect();
    let (there, tagged) = target.manifests_and_tag(&digests, image.tag.as_ref()).await?;
    let there: HashSet<Digest> = there.into_iter().map(|manifest| manifest.digest).collect();
    let missing: Vec<&Manifest> = tree.manifests().filter(|manifest| !there.contains(&manifest.digest)).collect();
    let children: Vec<_> = missing.iter().filter(|manifest| manifest.digest != image.digest).collect();
    for child in &children {
        target.put_image(child, None).await?;
    }
    let root = Root {
        source: &source,
        target: &target,
        manifest: &tree.root,
        is_there: there.contains(&image.digest),
        is_tagged: tagged.as_ref() == Some(&image.digest),
    };
    let tagged = match &image.tag {
        Some(tag) => root.put_tagged(tag).await?,
        None if root.is_there => Tagged::Unchanged,
        None => root.put_untagged().await.map(|()| Tagged::Changed)?,
    };
    let put = Put {
        status: match tagged {
            Tagged::Superseded => Status::Superseded,
            Tagged::Unchanged if children.is_empty() => Status::Unchanged,
            Tagged::Changed | Tagged::Unchanged => Status::Replicated,
        },
        manifests_copied: missing.len(),
        manifests_skipped: digests.len() - missing.len(),
        completed_at: now(),
        duration_ms: milliseconds(started.elapsed()),
    };
    info!(
        execution,
        region = %target.region(),
        repository = %target.name(),
        digest = %image.digest,
        ?put,
        "manifests put"
    );
    Ok(put)
}

/// What became of the image's own manifest, and of its tag.
enum Tagged {
    /// It was put.
    Changed,
    /// It was there, with the tag.
    Unchanged,
    /// The source has moved it to another image.
    Superseded,
}

/// The image's own manifest, when everything below it is at the target.
struct Root<'a> {
    source: &'a Repository,
    target: &'a Repository,
    manifest: &'a Manifest,
    /// Whether the target has it.
    is_there: bool,
    /// Whether its tag pointed at it there.
    is_tagged: bool,
}

impl Root<'_> {
    async fn put_untagged(&self) -> Result<(), RegistryError> {
        if !self.is_there {
            self.target.put_image(self.manifest, None).await?;
        }
        Ok(())
    }

    /// Puts it under `tag`, unless the source's tag has left it. Where the tag cannot be had, it stands by digest.
    async fn put_tagged(&self, tag: &ImageTag) -> Result<Tagged, RegistryError> {
        if self.source.tagged(tag).await?.as_ref() != Some(&self.manifest.digest) {
            self.put_untagged().await?;
            return Ok(Tagged::Superseded);
        }
        if self.is_tagged {
            return Ok(Tagged::Unchanged);
        }
        match self.target.put_image(self.manifest, Some(tag)).await? {
            PutImage::Changed => self.hand_back(tag).await,
            PutImage::Unchanged => Ok(Tagged::Unchanged),
            PutImage::TagTaken => {
                let holder = self.target.tagged(tag).await?;
                // Sources disagree on what an immutable tag answers for the same digest, so the digest decides.
                if holder.as_ref() == Some(&self.manifest.digest) {
                    return Ok(Tagged::Unchanged);
                }
                self.put_untagged().await?;
                Err(self.target.tag_conflict(tag, &self.manifest.digest, holder.as_ref()))
            }
        }
    }

    /// Gives the tag to the image that the source has moved it to in the meantime, if that is whole at the target.
    /// If it is not, its own run puts the tag when it is.
    async fn hand_back(&self, tag: &ImageTag) -> Result<Tagged, RegistryError> {
        let Some(newer) = self.source.tagged(tag).await?.filter(|digest| *digest != self.manifest.digest) else {
            return Ok(Tagged::Changed);
        };
        for manifest in self.target.manifests(&[newer]).await? {
            self.target.put_image(&manifest, Some(tag)).await?;
        }
        Ok(Tagged::Superseded)
    }
}
