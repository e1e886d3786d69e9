//! What a plan weighs: the blobs of what goes to a target, each once.

use std::collections::{HashMap, HashSet};

use shared::{
    manifest::References,
    names::Digest,
    patience::Patience,
    registry::{RegistryError, Repository},
};

use crate::{manifests, source::Sha};

/// How deep indexes may nest, as where an image is replicated.
const DEPTH_LIMIT: usize = 8;

/// How many blobs a target is asked for at a time: some calls side by side.
const BLOBS_AT_ONCE: usize = 800;

/// The manifests of images, and the blobs that they name, by number: a layer is named by many manifests.
#[derive(Default)]
pub(crate) struct Trees {
    manifests: HashMap<Sha, Named>,
    blobs: Vec<(Sha, u64)>,
}

/// What a manifest names.
struct Named {
    blobs: Vec<u32>,
    children: Vec<Sha>,
}

impl Trees {
    /// Reads the manifests of `roots`, and those below them. Those that are gone, or cannot be read, weigh nothing.
    ///
    /// # Errors
    /// As [`manifests::read`].
    pub(crate) async fn read(
        source: &Repository,
        roots: HashSet<Sha>,
        patience: &Patience,
    ) -> Result<Self, RegistryError> {
        let (mut trees, mut numbers, mut asked) = (Self::default(), HashMap::new(), HashSet::new());
        let mut level: Vec<Sha> = roots.into_iter().collect();
        for _ in 0..DEPTH_LIMIT {
            level.retain(|sha| asked.insert(*sha));
            let digests: Vec<Digest> = level.iter().filter_map(|sha| sha.digest()).collect();
            level.clear();
            let take = |sha: Sha, references: References| {
                let blobs = references.blobs.into_iter().map(|blob| {
                    let sha = Sha::from(&blob.digest);
                    *numbers.entry(sha).or_insert_with(|| {
                        trees.blobs.push((sha, blob.size));
                        u32::try_from(trees.blobs.len() - 1).unwrap_or(u32::MAX)
                    })
                });
                let blobs = blobs.collect();
                let children: Vec<Sha> = references.children.iter().map(Sha::from).collect();
                level.extend(&children);
                trees.manifests.insert(sha, Named { blobs, children });
            };
            manifests::read(source, &digests, patience, take).await?;
        }
        Ok(trees)
    }

    /// The bytes of the blobs that go to `target` for each of `images`, which come with a number: a blob that several name
    /// counts for the first. `None` for a repository that is to be made.
    ///
    /// # Errors
    /// `AccessDenied`, `RegistryThrottled`, `RegistryUnavailable`.
    pub(crate) async fn weigh(
        &self,
        images: impl Iterator<Item = (u32, Sha)>,
        target: Option<&Repository>,
        patience: &Patience,
    ) -> Result<HashMap<u32, u64>, RegistryError> {
        // Each blob with the image that brings it.
        let (mut seen, mut brought) = (HashSet::new(), Vec::new());
        for (image, sha) in images {
            for blob in self.blobs_of(sha) {
                if seen.insert(blob) {
                    brought.push((blob, image));
                }
            }
        }
        let mut bytes = HashMap::new();
        for brought in brought.chunks(BLOBS_AT_ONCE) {
            let missing = match target {
                None => None,
                Some(target) => {
                    let digests = brought.iter().filter_map(|(blob, _)| self.blobs[*blob as usize].0.digest());
                    let digests: Vec<Digest> = digests.collect();
                    let missing = patience.ask(target, async || target.missing_blobs(&digests).await).await?;
                    Some(missing.iter().map(Sha::from).collect::<HashSet<Sha>>())
                }
            };
            for (blob, image) in brought {
                let (sha, size) = self.blobs[*blob as usize];
                if missing.as_ref().is_none_or(|missing| missing.contains(&sha)) {
                    *bytes.entry(*image).or_default() += size;
                }
            }
        }
        Ok(bytes)
    }

    /// The blobs of an image and of what is below it.
    fn blobs_of(&self, root: Sha) -> Vec<u32> {
        let (mut blobs, mut open, mut seen) = (Vec::new(), vec![root], HashSet::new());
        while let Some(sha) = open.pop() {
            if let Some(named) = self.manifests.get(&sha).filter(|_| seen.insert(sha)) {
                blobs.extend(&named.blobs);
                open.extend(named.children.iter().rev());
            }
        }
        blobs
    }
}
