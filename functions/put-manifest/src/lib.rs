//! PutManifest: children before parents, byte for byte, then the referrers, and the tag last.
//!
//! A tag follows the source's. That is looked at before the tag is put, and again after, until both agree: a run that was
//! overtaken leaves the tag to the newer image, or hands it on.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use shared::{
    contract::{
        MOST_REFUSALS, MOST_REPAIRS, Put, REFUSAL_LIMIT, Referrer, Refusal, Status, TargetInput, milliseconds, now,
    },
    error::{Class, ErrorName, Named, chain, shorten_json},
    manifest::{Manifest, ManifestError, ReferrerTree, Tree, walk},
    names::{Digest, ImageTag},
    patience::Patience,
    referrers,
    registry::{PutImage, Registries, RegistryError, Repository},
    serve::Deadline,
};
use tokio::{sync::Mutex, time::sleep};
use tracing::{info, warn};

/// How many manifests are put at once: ECR takes ten a second in a region, from everyone, and a put takes a round trip.
const PUTS_AT_ONCE: usize = 4;

/// How often in a row the source's tag may move while this run follows it.
const MOVES: usize = 8;

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

/// Puts the image's manifests, its referrers, and its tag.
///
/// # Errors
/// `LayersMissing` when the target lacks a blob, `TagConflict` when the tag is immutable and taken, `TagUnsettled` when it
/// is to go to a newer image that is not whole yet, `ImageNotFound` when the source lost the image, `DigestMismatch`,
/// `QuotaExceeded`, `RepositoryNotFound`, `AccessDenied`, `RegistryThrottled`, `RegistryUnavailable`.
pub async fn handle(registries: &Registries, input: TargetInput, deadline: Deadline) -> Result<Put, Error> {
    let (started, throttled) = (Instant::now(), registries.throttled());
    let TargetInput { execution, image, referrers, repairs, target, .. } = input;
    let source = registries.repository(&image.region, &image.repository);
    let puts = Puts::new(deadline, target.put_interval_ms);
    let target = registries.target(&target).await;
    let tree = match walk(&source, &image.digest, &referrers).await {
        Err(error) if error.name() == ErrorName::ImageNotFound => {
            // It may have been here when this very run put the tag, and was killed before it could look again.
            if let Some(tag) = &image.tag
                && target.tagged(tag).await?.as_ref() == Some(&image.digest)
            {
                let mut placing = Placing::new(&source, &target, &puts);
                placing.follow(tag, &image.digest, Tagged::Superseded).await?;
            }
            return Err(error.into());
        }
        tree => tree?,
    };
    let mut placing = Placing::begin(&source, &target, &puts, &tree, image.tag.as_ref()).await?;
    let digests: HashSet<&Digest> = tree.manifests().map(|manifest| &manifest.digest).collect();
    let skipped = digests.iter().filter(|digest| placing.there.contains(**digest)).count();

    placing.put_below(&tree.below).await?;
    // A referrer comes after what it refers to.
    if tree.referrers.iter().any(|referrer| !placing.has(referrer)) {
        placing.put_untagged(&tree.root).await?;
    }
    let mut refusals: Vec<Refusal> = tree.unreadable.iter().map(|(referrer, error)| refusal(referrer, error)).collect();
    let (mut referrers_copied, mut referrers_there) = (0, referrers.len() - tree.referrers.len() - refusals.len());
    for referrer in &tree.referrers {
        match placing.put_referrer(referrer).await {
            Ok(true) => referrers_copied += 1,
            Ok(false) => referrers_there += 1,
            // What may pass, or be mended by another copy, is tried again with the image.
            Err(error) if error.name().class() == Class::Retry => return Err(error),
            Err(error) if error.name() == ErrorName::LayersMissing && repairs < MOST_REPAIRS => return Err(error),
            Err(error) => refusals.push(refusal(&referrer.referrer, &error)),
        }
    }
    for refusal in &refusals {
        let (region, repository) = (target.region(), target.name());
        warn!(execution, %region, %repository, ?refusal, "a referrer is not at the target");
    }
    let tagged = match &image.tag {
        Some(tag) => placing.put_tagged(&tree.root, tag).await?,
        None => placing.put_untagged(&tree.root).await?,
    };

    let status = match tagged {
        Tagged::Superseded => Status::Superseded,
        Tagged::Unchanged if !placing.changed => Status::Unchanged,
        Tagged::Changed | Tagged::Unchanged => Status::Replicated,
    };
    let referrers_refused = refusals.len();
    refusals.truncate(MOST_REFUSALS);
    let put = Put {
        status,
        manifests_copied: digests.len() - skipped,
        manifests_skipped: skipped,
        referrers_copied,
        referrers_skipped: referrers_there,
        referrers_refused,
        refusals,
        completed_at: now(),
        duration_ms: milliseconds(started.elapsed()),
        throttled: registries.throttled() - throttled,
    };
    info!(
        execution,
        region = %target.region(),
        repository = %target.name(),
        digest = %image.digest,
        status = ?put.status,
        manifests_copied = put.manifests_copied,
        manifests_skipped = put.manifests_skipped,
        referrers_copied = put.referrers_copied,
        referrers_skipped = put.referrers_skipped,
        referrers_refused = put.referrers_refused,
        duration_ms = put.duration_ms,
        throttled = put.throttled,
        "manifests put"
    );
    Ok(put)
}

fn refusal(referrer: &Referrer, error: &impl Named) -> Refusal {
    Refusal {
        digest: referrer.digest.clone(),
        tag: referrer.tag.clone(),
        error: error.name().to_string(),
        message: shorten_json(&chain(error), REFUSAL_LIMIT),
    }
}

/// What became of a manifest and its tag.
enum Tagged {
    /// It was put.
    Changed,
    /// It was there, with the tag.
    Unchanged,
    /// The source has moved the tag to another image.
    Superseded,
}

/// Whether an image is at the target.
enum Presence {
    /// Not even its own manifest is.
    Absent,
    /// A referrer is missing that is on its way.
    Partial,
    Whole(Manifest),
}

impl From<PutImage> for Tagged {
    fn from(put: PutImage) -> Self {
        if put == PutImage::Changed { Self::Changed } else { Self::Unchanged }
    }
}

/// How manifests are put: as fast as the registry takes them, or in turns.
struct Puts {
    patience: Patience,
    turns: Option<Turns>,
}

impl Puts {
    fn new(deadline: Deadline, interval_ms: Option<u64>) -> Self {
        Self { patience: Patience::until(deadline), turns: interval_ms.map(Turns::new) }
    }

    /// Puts `manifest` as soon as the registry takes it and it has its turn.
    ///
    /// # Errors
    /// As [`Repository::put_image`]; `RegistryThrottled` as well when its turn would come too late.
    async fn put(
        &self,
        target: &Repository,
        manifest: &Manifest,
        tag: Option<&ImageTag>,
    ) -> Result<PutImage, RegistryError> {
        let Some(turns) = &self.turns else {
            return self.patience.ask(target, async || target.put_image(manifest, tag).await).await;
        };
        let put = async || {
            if !turns.next(&self.patience).await {
                return Ok(None);
            }
            target.put_image_once(manifest, tag).await.map(Some)
        };
        self.patience.ask(target, put).await?.ok_or_else(|| target.turn_too_late())
    }
}

/// The turns of puts that go on side by side. The first one has to wait, too: another invocation may have put until now.
struct Turns {
    interval: Duration,
    waiting: Mutex<()>,
}

impl Turns {
    fn new(interval_ms: u64) -> Self {
        Self { interval: Duration::from_millis(interval_ms), waiting: Mutex::default() }
    }

    /// Waits for a turn; `false`, at once, when there is no time for that.
    async fn next(&self, patience: &Patience) -> bool {
        let _waiting = self.waiting.lock().await;
        if patience.time_left().is_none_or(|time| time < self.interval) {
            return false;
        }
        sleep(self.interval).await;
        true
    }
}

/// The target while manifests are put there.
struct Placing<'a> {
    source: &'a Repository,
    target: &'a Repository,
    puts: &'a Puts,
    /// The manifests that it has.
    there: HashSet<Digest>,
    /// What its tags pointed at when this began: the image's, and those of referrers.
    tags: HashMap<ImageTag, Digest>,
    /// Whether anything was put.
    changed: bool,
}

impl<'a> Placing<'a> {
    /// The target before it was asked for anything.
    fn new(source: &'a Repository, target: &'a Repository, puts: &'a Puts) -> Self {
        Self { source, target, puts, there: HashSet::new(), tags: HashMap::new(), changed: false }
    }

    /// Asks what the target has of `tree`: a call for each hundred manifests and tags.
    async fn begin(
        source: &'a Repository,
        target: &'a Repository,
        puts: &'a Puts,
        tree: &Tree,
        tag: Option<&ImageTag>,
    ) -> Result<Self, RegistryError> {
        let digests: HashSet<&Digest> = tree.all_manifests().map(|manifest| &manifest.digest).collect();
        let digests: Vec<Digest> = digests.into_iter().cloned().collect();
        let of_referrers = tree.referrers.iter().filter_map(|referrer| referrer.referrer.tag.as_ref());
        let tags: Vec<ImageTag> = tag.into_iter().chain(of_referrers).cloned().collect();
        let (there, tags) = target.manifests_and_tags(&digests, &tags).await?;
        let there = there.into_iter().map(|manifest| manifest.digest).collect();
        Ok(Self { there, tags, ..Self::new(source, target, puts) })
    }

    /// Whether the target has a referrer, tag and all.
    fn has(&self, referrer: &ReferrerTree) -> bool {
        let digest = &referrer.root.digest;
        let tag = referrer.referrer.tag.as_ref();
        self.there.contains(digest) && tag.is_none_or(|tag| self.tags.get(tag) == Some(digest))
    }

    async fn put(&mut self, manifest: &Manifest, tag: Option<&ImageTag>) -> Result<PutImage, RegistryError> {
        let put = self.puts.put(self.target, manifest, tag).await?;
        if put != PutImage::TagTaken {
            self.there.insert(manifest.digest.clone());
            self.changed |= put == PutImage::Changed;
        }
        Ok(put)
    }

    async fn put_untagged(&mut self, manifest: &Manifest) -> Result<Tagged, RegistryError> {
        if self.there.contains(&manifest.digest) {
            return Ok(Tagged::Unchanged);
        }
        self.put(manifest, None).await.map(Tagged::from)
    }

    /// Puts what is missing of `manifests`, which are children before parents: those without children side by side.
    async fn put_below(&mut self, manifests: &[Manifest]) -> Result<(), RegistryError> {
        let missing = manifests.iter().filter(|manifest| !self.there.contains(&manifest.digest));
        let (indexes, images): (Vec<&Manifest>, Vec<&Manifest>) =
            missing.partition(|manifest| manifest.references().is_ok_and(|references| references.is_index));
        let (target, puts) = (self.target, self.puts);
        let puts = stream::iter(images)
            .map(|image| async move { puts.put(target, image, None).await.map(|put| (image.digest.clone(), put)) });
        let puts: Vec<(Digest, PutImage)> = puts.buffer_unordered(PUTS_AT_ONCE).try_collect().await?;
        for (digest, put) in puts {
            self.there.insert(digest);
            self.changed |= put == PutImage::Changed;
        }
        for index in indexes {
            self.put_untagged(index).await?;
        }
        Ok(())
    }

    /// Puts a referrer, and its tag if it has one; `false` when it was there. What may be an accident is done once more here:
    /// the state's own retries are the image's.
    async fn put_referrer(&mut self, referrer: &ReferrerTree) -> Result<bool, Error> {
        match self.put_referrer_once(referrer).await {
            Err(error) if error.name().class() == Class::Restart && error.name() != ErrorName::LayersMissing => {
                self.put_referrer_once(referrer).await
            }
            put => put,
        }
    }

    async fn put_referrer_once(&mut self, referrer: &ReferrerTree) -> Result<bool, Error> {
        self.put_below(&referrer.below).await?;
        let tagged = match &referrer.referrer.tag {
            Some(tag) => self.put_tagged(&referrer.root, tag).await?,
            None => self.put_untagged(&referrer.root).await?,
        };
        Ok(!matches!(tagged, Tagged::Unchanged))
    }

    /// Puts it under `tag`, unless the source's tag has left it. Where the tag cannot be had, it stands by digest.
    async fn put_tagged(&mut self, manifest: &Manifest, tag: &ImageTag) -> Result<Tagged, Error> {
        let had_tag = self.tags.get(tag) == Some(&manifest.digest);
        if self.source.tagged(tag).await?.as_ref() != Some(&manifest.digest) {
            self.put_untagged(manifest).await?;
            // It may have been put by this very run, which was killed before it could look again.
            if had_tag {
                self.follow(tag, &manifest.digest, Tagged::Superseded).await?;
            }
            return Ok(Tagged::Superseded);
        }
        if had_tag {
            return Ok(Tagged::Unchanged);
        }
        match self.put(manifest, Some(tag)).await? {
            put @ (PutImage::Changed | PutImage::Unchanged) => self.follow(tag, &manifest.digest, put.into()).await,
            PutImage::TagTaken => {
                let holder = self.target.tagged(tag).await?;
                // Sources disagree on what an immutable tag answers for the same digest, so the digest decides.
                if holder.as_ref() == Some(&manifest.digest) {
                    return Ok(Tagged::Unchanged);
                }
                self.put_untagged(manifest).await?;
                // The newer image may have been faster.
                if self.source.tagged(tag).await?.as_ref() != Some(&manifest.digest) {
                    return Ok(Tagged::Superseded);
                }
                Err(self.target.tag_conflict(tag, &manifest.digest, holder.as_ref()).into())
            }
        }
    }

    /// Looks where the source's tag is, when the target's is on `put`, until both agree: the newer image gets the tag here,
    /// if it is whole. If it is not there at all, its own run puts the tag later; if it is there in part, that cannot be
    /// told, and this is to be done again. What came of it is `outcome`, if the source's tag has not moved.
    async fn follow(&mut self, tag: &ImageTag, put: &Digest, mut outcome: Tagged) -> Result<Tagged, Error> {
        let mut put = put.clone();
        for _ in 0..MOVES {
            let newer = match self.source.tagged(tag).await? {
                Some(newer) if newer != put => newer,
                Some(_) => return Ok(outcome),
                None => return Ok(Tagged::Superseded),
            };
            outcome = Tagged::Superseded;
            // Boxed: a referrer that this puts may have a tag of its own that has moved.
            match Box::pin(self.presence(&newer)).await? {
                Presence::Absent => return Ok(outcome),
                Presence::Partial => return Err(self.target.tag_unsettled(tag, &newer).into()),
                Presence::Whole(manifest) => match self.put(&manifest, Some(tag)).await? {
                    PutImage::Changed | PutImage::Unchanged => put = newer,
                    PutImage::TagTaken => return Ok(outcome),
                },
            }
        }
        Err(self.target.tag_unsettled(tag, &put).into())
    }

    /// How much of the source's image `digest` the target has, when the referrers that it lacks are put as far as they can
    /// be: what the image's own run does. The registry refuses an index without its manifests, and a manifest without its
    /// blobs, so its own manifest tells of the rest.
    async fn presence(&self, digest: &Digest) -> Result<Presence, Error> {
        if self.target.manifests(std::slice::from_ref(digest)).await?.is_empty() {
            return Ok(Presence::Absent);
        }
        let tree = match self.with_referrers(digest).await {
            Ok(tree) => tree,
            // The tag has left it again, and it was deleted.
            Err(error) if error.name() == ErrorName::ImageNotFound => return Ok(Presence::Partial),
            // Its own run cannot replicate it.
            Err(error) if error.name() == ErrorName::InvalidInput => return Ok(Presence::Absent),
            Err(error) => return Err(error),
        };
        let mut placing = Placing::begin(self.source, self.target, self.puts, &tree, None).await?;
        for referrer in &tree.referrers {
            match placing.put_referrer(referrer).await {
                Err(error) if error.name().class() == Class::Retry => return Err(error),
                Err(error) if error.name() == ErrorName::LayersMissing => return Ok(Presence::Partial),
                // There, or refused.
                _ => {}
            }
        }
        Ok(Presence::Whole(tree.root))
    }

    async fn with_referrers(&self, digest: &Digest) -> Result<Tree, Error> {
        let tree = walk(self.source, digest, &[]).await?;
        let below = tree.manifests().map(|manifest| manifest.digest.clone());
        let (referrers, _) = referrers::find(self.source, below).await?;
        Ok(walk(self.source, digest, &referrers).await?)
    }
}
