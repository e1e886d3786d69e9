//! The copy engine: an image's missing blobs, side by side, in a fixed amount of memory.
//!
//! A layer is streamed (`stream`), or goes by parts (`parts`) where its stream broke, or would not
//! end before the deadline.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tracing::warn;

use crate::{
    contract::{Blob, Copied, Cursor, Upload},
    error::{Class, ErrorName, Named, chain},
    layer::Layer,
    names::Digest,
    parts::Sending,
    patience::Patience,
    registry::{Completed, Part, RegistryError, Repository},
    serve::Deadline,
    stream::{Destination, Progress, StreamError},
};

/// How many large layers are under way at once, memory allowing: what docker and containerd users settle on.
const LARGE_AT_ONCE: usize = 8;

/// How many small layers are under way beside them: they wait for answers rather than for the wire. ECR opens 100
/// uploads a second in a region, and these open 80 where an upload takes 200 ms.
const SMALL_AT_ONCE: usize = 16;

/// The largest layer that counts as small, in bytes: less than a round trip's time on the wire.
const SMALL: u64 = 1024 * 1024;

/// How many times a part stands in memory while it is sent: its bytes, their base64, the JSON body around that, the
/// buffer that the body grew out of; and the part that is read meanwhile.
const COPIES_OF_A_PART: u64 = 6;

/// The memory of a stream, in bytes: what its two connections buffer.
const STREAM_MEMORY: u64 = 2 * 1024 * 1024;

/// What streams and small layers have of the memory for themselves, in MiB: eight streams and sixteen small ones.
const STREAMS_SHARE: u32 = 32;

/// What all streams together are taken to send in a second, in bytes, until it is seen: most of 625 Mbit/s.
const ASSUMED_RATE: u64 = 64 * 1024 * 1024;

/// The time over which a stream's rate is taken: a connection to a distant region takes seconds to come up to its rate.
const RATE_SEEN_IN: Duration = Duration::from_secs(5);

/// How long a stream may stand still.
const STALLED_AFTER: Duration = Duration::from_mins(1);

/// How long a registry may take to answer for a layer that it has all bytes of: it may be writing them.
const STORED_AFTER: Duration = Duration::from_mins(5);

/// A layer that is begun so long after the target was asked for it is asked for again: another run may have brought it.
const ASKED_LONG_AGO: Duration = Duration::from_secs(5);

/// The most uploads that a cursor takes along, of a few hundred bytes each: Step Functions carries 256 KiB.
const MOST_UPLOADS: usize = 256;

/// How often one invocation starts a layer again whose upload the registry lost, before it gives up.
const RESTARTS: u32 = 2;

/// The client that reads layers, and streams them.
///
/// It follows no redirect: nothing but source and target is contacted, whatever they answer.
///
/// # Errors
/// When the system's TLS roots cannot be loaded.
pub fn http_client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5))
        .build()
}

/// The roads that layers may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uploads {
    /// Streamed, or by parts: decided for each layer.
    Auto,
    /// By parts only: for a network without a route to the registries' endpoints.
    Parts,
}

/// The memory that layers may take while they are copied.
///
/// Large layers that go by parts take most of it, and wait for it for a long time. Streams and small layers have a share of
/// their own: behind those they would wait for nothing.
#[derive(Debug, Clone)]
pub struct Budget {
    parts: Share,
    others: Share,
}

#[derive(Debug, Clone)]
struct Share {
    mebibytes: u32,
    free: Arc<Semaphore>,
}

impl Budget {
    /// A budget of `mebibytes` MiB.
    #[must_use]
    pub fn new(mebibytes: u32) -> Self {
        let others = STREAMS_SHARE.min(mebibytes / 4);
        Self { parts: Share::new(mebibytes - others), others: Share::new(others) }
    }
}

impl Share {
    fn new(mebibytes: u32) -> Self {
        Self { mebibytes, free: Arc::new(Semaphore::new(mebibytes as usize)) }
    }

    /// Waits until `bytes` bytes fit. What is larger than the whole share goes alone.
    async fn take(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let wanted = u32::try_from(bytes.div_ceil(1024 * 1024)).unwrap_or(u32::MAX).clamp(1, self.mebibytes.max(1));
        // The semaphore is never closed.
        self.free.clone().acquire_many_owned(wanted).await.ok()
    }
}

/// Why an image's blobs could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A call failed.
    #[error("layer {digest} could not be copied")]
    Layer {
        /// The layer.
        digest: Digest,
        /// What failed.
        #[source]
        source: RegistryError,
    },
    /// The source's bytes are not the layer's.
    #[error("layer {digest} could not be copied: the source's bytes have the digest {found}")]
    Corrupt {
        /// The layer.
        digest: Digest,
        /// The digest of what was read.
        found: Digest,
    },
    /// The registry lost the layer's upload again and again.
    #[error("layer {digest} could not be copied: the target lost its upload {times} times")]
    UploadLost {
        /// The layer.
        digest: Digest,
        /// How often.
        times: u32,
    },
    /// The blob has no bytes, and no part can have none.
    #[error("blob {digest} is empty: the ECR API takes no such upload, a stream does (copy_layers.uploads = \"auto\")")]
    Empty {
        /// The blob.
        digest: Digest,
    },
    /// An invocation ended without a single part sent.
    #[error(
        "no part of any layer could be sent in {seconds} s: the function's time-out is too short, or the registry too slow"
    )]
    NoProgress {
        /// The time that it had.
        seconds: u64,
    },
}

impl Named for CopyError {
    fn name(&self) -> ErrorName {
        match self {
            Self::Layer { source, .. } => source.name(),
            Self::Corrupt { .. } => ErrorName::DigestMismatch,
            Self::UploadLost { .. } => ErrorName::UploadLost,
            Self::Empty { .. } => ErrorName::InvalidInput,
            Self::NoProgress { .. } => ErrorName::RegistryUnavailable,
        }
    }
}

/// What became of one layer.
enum LayerCopy {
    /// It is at the target.
    Done { size: u64, streamed: bool },
    /// Another run has brought it meanwhile.
    Found,
    /// The deadline came near; `advanced` tells whether anything was sent, read again for the hash, or learnt.
    Paused { upload: Upload, advanced: bool },
    /// There was no time to begin.
    NotStarted,
    /// It failed, midway where there is an upload.
    Failed { digest: Digest, error: CopyError, upload: Option<Upload>, advanced: bool },
}

/// How a layer's stream ended.
enum Streamed {
    Stored,
    /// It goes by parts. Whether another invocation should be told, for it would stream it once more.
    Broken {
        is_worth_telling: bool,
    },
}

/// How a layer's parts ended without an error.
enum Ended {
    Stored,
    OutOfTime,
}

/// The copy of blobs from one repository to another.
#[derive(Debug)]
pub struct Copy<'a> {
    source: &'a Repository,
    target: &'a Repository,
    client: &'a reqwest::Client,
    budget: &'a Budget,
    patience: Patience,
    /// When the target was asked what it misses.
    asked_at: Instant,
    /// Whether layers are streamed: until one shows that none can be.
    streaming: AtomicBool,
    pace: Pace,
}

impl<'a> Copy<'a> {
    /// A copy from `source` to `target` with `client`, which is [`http_client`]'s, until `deadline`.
    #[must_use]
    pub fn new(
        source: &'a Repository,
        target: &'a Repository,
        client: &'a reqwest::Client,
        budget: &'a Budget,
        uploads: Uploads,
        deadline: Deadline,
    ) -> Self {
        let streaming = AtomicBool::new(uploads == Uploads::Auto);
        let (patience, asked_at) = (Patience::until(deadline), Instant::now());
        Self { source, target, client, budget, patience, asked_at, streaming, pace: Pace::default() }
    }

    /// Those of `blobs` that the target misses.
    ///
    /// # Errors
    /// As [`Repository::missing_blobs`]; one that throttles is waited out while there is time.
    pub async fn missing(&self, blobs: Vec<Blob>) -> Result<Vec<Blob>, RegistryError> {
        let digests: Vec<Digest> = blobs.iter().map(|blob| blob.digest.clone()).collect();
        let asked = self.patience.ask(self.target, async || self.target.missing_blobs(&digests).await).await?;
        let missing: HashSet<Digest> = asked.into_iter().collect();
        Ok(blobs.into_iter().filter(|blob| missing.contains(&blob.digest)).collect())
    }

    /// Copies `missing` blobs until all are at the target or the deadline is near. `cursor` is where an earlier
    /// invocation stopped; the time and the throttling are left to the caller.
    ///
    /// # Errors
    /// `DigestMismatch` when a layer's bytes are not its own, `UploadLost`, `RepositoryNotFound`, `AccessDenied`,
    /// `QuotaExceeded`, `RegistryThrottled`, `RegistryUnavailable`. The other layers are copied first: what is there
    /// need not be sent again. An error that may pass is one only for an invocation that came no further, and one that
    /// should not come twice only when it does.
    pub async fn run(&self, mut missing: Vec<Blob>, mut cursor: Cursor) -> Result<Copied, CopyError> {
        let time = self.patience.time_left().unwrap_or_default();
        // The largest first: begun last, it would be the only one under way at the end.
        missing.sort_unstable_by_key(|blob| std::cmp::Reverse(blob.size));
        let mut uploads: HashMap<Digest, Upload> =
            cursor.uploads.drain(..).map(|upload| (upload.digest.clone(), upload)).collect();
        if uploads.len() == MOST_UPLOADS {
            // They are what broken streams left. Another one would leave nothing in a full cursor, and be begun again for ever.
            self.streaming.store(false, Ordering::Relaxed);
        }
        let layers = missing.iter().map(|blob| (blob, uploads.remove(&blob.digest)));
        // What only a referrer needs does not keep the image from arriving, unless it may pass.
        let of_referrers: HashSet<Digest> =
            missing.iter().filter(|blob| blob.of_referrer).map(|blob| blob.digest.clone()).collect();
        let (small, large): (Vec<_>, Vec<_>) = layers.partition(|(blob, _)| blob.size <= SMALL);
        let side_by_side = large.len().clamp(1, LARGE_AT_ONCE);
        let copies = |layers: Vec<_>, at_once| {
            let copies = stream::iter(layers).map(move |(blob, upload)| self.layer(blob, upload, side_by_side));
            copies.buffer_unordered(at_once)
        };
        // Small layers have slots of their own: behind large ones they would wait for nothing.
        let copies = stream::select(copies(large, LARGE_AT_ONCE), copies(small, SMALL_AT_ONCE));
        let copies: Vec<LayerCopy> = copies.collect().await;

        let (mut done, mut progress) = (true, false);
        let (mut failures, mut told) = (Vec::new(), None);
        for copy in copies {
            match copy {
                LayerCopy::Done { size, streamed } => {
                    progress = true;
                    cursor.layers_copied += 1;
                    cursor.layers_streamed += usize::from(streamed);
                    cursor.bytes_copied += size;
                }
                LayerCopy::Paused { upload, advanced } => {
                    done = false;
                    progress |= advanced;
                    cursor.uploads.push(upload);
                }
                LayerCopy::Found => progress = true,
                LayerCopy::NotStarted => done = false,
                LayerCopy::Failed { digest, error, .. }
                    if of_referrers.contains(&digest) && is_left_out(&error, cursor.restarted.contains(&digest)) =>
                {
                    let (region, error) = (self.target.region(), chain(&error));
                    warn!(%region, layer = %digest, error, "a layer of a referrer is left out: PutManifest tells which");
                }
                LayerCopy::Failed { digest, error, upload, advanced } => {
                    done = false;
                    // That a referrer's layer failed once is worth the cursor's way: without it, none was ever the second time.
                    progress |= advanced || (of_referrers.contains(&digest) && error.name().class() == Class::Restart);
                    cursor.uploads.extend(upload);
                    // One that may pass is met again if it stays, one that should not come twice is told when it does. An
                    // error has no room for a cursor, so where anything was sent, the next invocation meets it.
                    match error.name().class() {
                        Class::Fatal => told = Some(failures.len()),
                        Class::Restart if cursor.restarted.contains(&digest) => told = told.or(Some(failures.len())),
                        Class::Restart => cursor.restarted.push(digest),
                        Class::Retry => {}
                    }
                    failures.push(error);
                }
            }
        }
        if let Some(told) = told.or_else(|| (!failures.is_empty() && !progress).then_some(0)) {
            return Err(failures.swap_remove(told));
        }
        // Those that have come the farthest are worth the most.
        cursor.uploads.sort_by_key(|upload| std::cmp::Reverse(upload.received));
        cursor.uploads.truncate(MOST_UPLOADS);
        for failure in &failures {
            warn!(region = %self.target.region(), error = chain(failure), "a layer is left to the next invocation");
        }
        if !done && !progress {
            return Err(CopyError::NoProgress { seconds: time.as_secs() });
        }
        Ok(Copied { done, shards: Vec::new(), cursor, layers_foreign: 0 })
    }

    /// Copies one layer, from its first byte or from where `earlier` stands. `side_by_side` layers share the wire.
    async fn layer(&self, blob: &Blob, earlier: Option<Upload>, side_by_side: usize) -> LayerCopy {
        let failed = |error| LayerCopy::Failed { digest: blob.digest.clone(), error, upload: None, advanced: false };
        if let Some(upload) = earlier {
            return self.by_parts(blob, Sending::resume(upload), false).await;
        }
        if self.time_for_a_part().is_none() {
            return LayerCopy::NotStarted;
        }
        if blob.size > SMALL && self.asked_at.elapsed() > ASKED_LONG_AGO {
            match self.is_there(blob).await {
                Ok(true) => return LayerCopy::Found,
                Ok(false) => {}
                Err(error) => return failed(error),
            }
        }
        let mut advanced = false;
        if self.streams(blob, side_by_side) {
            match self.by_stream(blob).await {
                Ok(Streamed::Stored) => return LayerCopy::Done { size: blob.size, streamed: true },
                Ok(Streamed::Broken { is_worth_telling }) => advanced = is_worth_telling,
                Err(error) => return failed(error),
            }
        }
        if blob.size == 0 {
            return failed(CopyError::Empty { digest: blob.digest.clone() });
        }
        match self.patience.ask(self.target, async || Sending::begin(self.target).await).await {
            Ok(sending) => self.by_parts(blob, sending, advanced).await,
            Err(source) => failed(CopyError::Layer { digest: blob.digest.clone(), source }),
        }
    }

    /// Whether a layer is to be streamed: twice its time must be left, as for a part, for a stream that is given up is sent
    /// again from its first byte.
    fn streams(&self, blob: &Blob, side_by_side: usize) -> bool {
        let needed = self.pace.of_a_stream(blob.size, side_by_side) * 2;
        self.streaming.load(Ordering::Relaxed) && self.patience.time_left().is_some_and(|time| needed <= time)
    }

    /// Streams a layer.
    async fn by_stream(&self, blob: &Blob) -> Result<Streamed, CopyError> {
        let _memory = self.budget.others.take(STREAM_MEMORY.min(blob.size)).await;
        let progress = Arc::new(Progress::default());
        let sent = async {
            let authorization = self.patience.ask(self.target, async || self.target.authorization().await).await;
            let authorization = authorization.map_err(StreamError::Unauthorized)?;
            let (client, patience, repository) = (self.client, &self.patience, self.target);
            let destination = Destination { client, authorization, repository, patience };
            destination.send(Layer::new(self.source, self.client, blob), blob, &progress).await
        };
        let sent = tokio::select! {
            sent = sent => sent,
            error = self.watch(&progress, blob.size) => Err(error),
        };
        if progress.elapsed() >= RATE_SEEN_IN {
            self.pace.observe_stream(Rate { bytes: progress.sent(), time: progress.elapsed() });
        }
        match sent {
            Ok(()) => Ok(Streamed::Stored),
            Err(StreamError::Corrupt { found }) => Err(CopyError::Corrupt { digest: blob.digest.clone(), found }),
            // What may pass is waited for by parts, which go on at the next byte.
            Err(StreamError::Unreadable(source)) if source.name().class() != Class::Retry => {
                Err(CopyError::Layer { digest: blob.digest.clone(), source })
            }
            Err(error) => {
                warn!(
                    region = %self.target.region(),
                    repository = %self.target.name(),
                    layer = %blob.digest,
                    error = chain(&error),
                    "the stream of a layer ended early: it goes by parts"
                );
                if error.closes_the_road() {
                    self.streaming.store(false, Ordering::Relaxed);
                }
                if error.is_refused_credential() {
                    self.target.forget_authorization().await;
                }
                // Only its last answer may be lost.
                if self.is_there(blob).await? {
                    return Ok(Streamed::Stored);
                }
                let is_worth_telling = progress.sent() > 0 || !matches!(error, StreamError::Unreadable(_));
                Ok(Streamed::Broken { is_worth_telling })
            }
        }
    }

    /// Watches a stream until it is too slow for the time left.
    async fn watch(&self, progress: &Progress, size: u64) -> StreamError {
        let started = Instant::now();
        let (mut moved, mut sent) = (started, 0);
        let mut window = VecDeque::new();
        loop {
            sleep(Duration::from_secs(1)).await;
            let now = Instant::now();
            if progress.sent() > sent {
                (moved, sent) = (now, progress.sent());
            }
            let mut needed = Duration::ZERO;
            if sent > 0 {
                window.push_back((now, sent));
                while let Some(&(from, before)) = window.front().filter(|(from, _)| now - *from >= RATE_SEEN_IN) {
                    needed = Rate { bytes: sent - before, time: now - from }.of(size - sent);
                    window.pop_front();
                }
            }
            let patience = if sent == size { STORED_AFTER } else { STALLED_AFTER };
            if moved.elapsed() > patience || self.patience.time_left().is_none_or(|time| time < needed) {
                return StreamError::TooSlow { sent, seconds: started.elapsed().as_secs() };
            }
        }
    }

    /// Sends a layer by parts. `advanced` tells whether it was begun with reason.
    async fn by_parts(&self, blob: &Blob, mut sending: Sending, advanced: bool) -> LayerCopy {
        let share = if blob.size > SMALL { &self.budget.parts } else { &self.budget.others };
        let _memory = share.take(sending.part_size().min(blob.size) * COPIES_OF_A_PART).await;
        let ended = self.send(blob, &mut sending).await;
        let advanced = advanced || sending.has_advanced();
        match ended {
            Ok(Ended::Stored) => LayerCopy::Done { size: blob.size, streamed: false },
            Ok(Ended::OutOfTime) => LayerCopy::Paused { upload: sending.save(&blob.digest), advanced },
            // What may pass goes on where it stands; anything else starts again.
            Err(error) if error.name().class() == Class::Retry => LayerCopy::Failed {
                digest: blob.digest.clone(),
                error,
                upload: Some(sending.save(&blob.digest)),
                advanced,
            },
            Err(error) => LayerCopy::Failed { digest: blob.digest.clone(), error, upload: None, advanced: false },
        }
    }

    async fn send(&self, blob: &Blob, sending: &mut Sending) -> Result<Ended, CopyError> {
        let failed = |source| CopyError::Layer { digest: blob.digest.clone(), source };
        let mut layer = Layer::new(self.source, self.client, blob);
        let mut restarts = 0;
        loop {
            if self.time_for_a_part().is_none() {
                return Ok(Ended::OutOfTime);
            }
            if let Some(found) = sending.whole(blob.size) {
                if found != blob.digest {
                    return Err(CopyError::Corrupt { digest: blob.digest.clone(), found });
                }
                let complete = async || self.target.complete_upload(sending.id(), &found).await;
                match self.patience.ask(self.target, complete).await.map_err(failed)? {
                    Completed::Stored => return Ok(Ended::Stored),
                    Completed::UploadLost => {}
                }
            } else {
                let part = async || {
                    let started = Instant::now();
                    let part = sending.advance(self.target, &mut layer, blob.size).await;
                    self.pace.observe_part(started.elapsed());
                    part
                };
                // Nothing is lost with a part that is given up: if the registry has it, it says so when the upload goes on.
                let Some(part) = self.patience.call(part).await else { return Ok(Ended::OutOfTime) };
                match part.map_err(failed)? {
                    Part::Received => continue,
                    Part::OutOfOrder { received: Some(received) } if received <= blob.size && restarts < RESTARTS => {
                        restarts += 1;
                        sending.go_to(received);
                        continue;
                    }
                    Part::OutOfOrder { .. } | Part::UploadLost => {}
                }
            }
            // An upload that was completed is unknown too: by this run, whose answer was lost, or by one beside it.
            if self.is_there(blob).await? {
                return Ok(Ended::Stored);
            }
            if restarts == RESTARTS {
                return Err(CopyError::UploadLost { digest: blob.digest.clone(), times: restarts + 1 });
            }
            restarts += 1;
            let begun = self.patience.ask(self.target, async || Sending::begin(self.target).await).await;
            *sending = begun.map_err(failed)?;
        }
    }

    async fn is_there(&self, blob: &Blob) -> Result<bool, CopyError> {
        let digests = std::slice::from_ref(&blob.digest);
        match self.patience.ask(self.target, async || self.target.missing_blobs(digests).await).await {
            Ok(missing) => Ok(missing.is_empty()),
            Err(source) => Err(CopyError::Layer { digest: blob.digest.clone(), source }),
        }
    }

    /// The time left for a part; `None` when the deadline is too near for one.
    fn time_for_a_part(&self) -> Option<Duration> {
        self.patience.time_left().filter(|&time| time >= self.pace.of_a_part() * 2)
    }
}

/// Whether the layer of a referrer is left out that failed with `error`: trying again does not help, or did not.
fn is_left_out(error: &CopyError, was_restarted: bool) -> bool {
    match error.name().class() {
        Class::Fatal => true,
        Class::Restart => was_restarted,
        Class::Retry => false,
    }
}

/// So many bytes in such a time.
#[derive(Debug, Clone, Copy)]
struct Rate {
    bytes: u64,
    time: Duration,
}

impl Rate {
    /// The time that `bytes` take.
    fn of(self, bytes: u64) -> Duration {
        let milliseconds = self.time.as_millis() * u128::from(bytes) / u128::from(self.bytes.max(1));
        Duration::from_millis(u64::try_from(milliseconds).unwrap_or(u64::MAX))
    }
}

/// How fast this invocation was seen to go.
#[derive(Debug, Default)]
struct Pace {
    /// The longest that a part took; none was seen when an invocation begins, and then it has all its time.
    part: Mutex<Duration>,
    /// The slowest stream.
    stream: Mutex<Option<Rate>>,
}

impl Pace {
    fn of_a_part(&self) -> Duration {
        *self.part.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn observe_part(&self, part: Duration) {
        let mut longest = self.part.lock().unwrap_or_else(PoisonError::into_inner);
        *longest = part.max(*longest);
    }

    /// How long a stream of `bytes` takes, beside others to `side_by_side` in all.
    fn of_a_stream(&self, bytes: u64, side_by_side: usize) -> Duration {
        let assumed = || Rate { bytes: ASSUMED_RATE / side_by_side as u64, time: Duration::from_secs(1) };
        self.stream.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or_else(assumed).of(bytes)
    }

    fn observe_stream(&self, seen: Rate) {
        let mut slowest = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        if slowest.is_none_or(|slowest| seen.of(ASSUMED_RATE) > slowest.of(ASSUMED_RATE)) {
            *slowest = Some(seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn a_stream_s_time_is_assumed_until_one_is_seen_and_then_the_slowest_s() {
        let pace = Pace::default();
        assert_eq!(pace.of_a_stream(640 * MIB, 1), Duration::from_secs(10));
        assert_eq!(pace.of_a_stream(640 * MIB, 8), Duration::from_secs(80));
        pace.observe_stream(Rate { bytes: 100 * MIB, time: Duration::from_secs(5) });
        pace.observe_stream(Rate { bytes: 20 * MIB, time: Duration::from_secs(2) });
        pace.observe_stream(Rate { bytes: 300 * MIB, time: Duration::from_secs(3) });
        assert_eq!(pace.of_a_stream(640 * MIB, 8), Duration::from_secs(64));
    }

    #[tokio::test]
    async fn a_share_takes_what_is_larger_than_itself_alone_and_holds_nobody_else_up() {
        let budget = Budget::new(40);
        let first = budget.parts.take(6 * MIB).await.unwrap();
        let second = budget.parts.take(100 * MIB);
        tokio::pin!(second);
        assert!(futures::poll!(&mut second).is_pending(), "it fits only alone");
        assert_eq!(budget.others.take(2 * MIB).await.unwrap().num_permits(), 2, "streams do not wait for it");
        drop(first);
        assert_eq!(second.await.unwrap().num_permits(), 30);
        assert_eq!(budget.parts.take(1).await.unwrap().num_permits(), 1);
    }
}
