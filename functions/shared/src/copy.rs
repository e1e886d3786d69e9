//! The copy engine: an image's missing blobs, side by side, in a fixed amount of memory.
//!
//! A layer is streamed (`stream`), or goes by parts (`parts`) where its stream broke, or would not
//! end before the deadline.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tracing::warn;

use crate::{
    contract::{Blob, Copied, Cursor, Upload, milliseconds},
    error::{Class, ErrorName, Named, chain},
    layer::Layer,
    names::Digest,
    parts::Sending,
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

/// What all streams together are taken to send in a second, in bytes, until it is seen: most of 625 Mbit/s.
const ASSUMED_RATE: u64 = 64 * 1024 * 1024;

/// How long a stream is watched before its rate says something.
const RATE_SEEN_AFTER: Duration = Duration::from_secs(2);

/// How long a stream may stand still, or its registry take to answer.
const STALLED_AFTER: Duration = Duration::from_mins(1);

/// How often one invocation starts a layer again whose upload the registry lost, before it gives up.
const RESTARTS: u32 = 2;

/// The time kept for what follows the last part: completing layers, and answering.
const RESERVE: Duration = Duration::from_secs(2);

/// The first pause of a layer whose calls are throttled, and the longest. Each is jittered: layers that were throttled
/// together do not come back together.
const THROTTLED_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(20));

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
#[derive(Debug, Clone)]
pub struct Budget {
    mebibytes: u32,
    free: Arc<Semaphore>,
}

impl Budget {
    /// A budget of `mebibytes` MiB.
    #[must_use]
    pub fn new(mebibytes: u32) -> Self {
        Self { mebibytes, free: Arc::new(Semaphore::new(mebibytes as usize)) }
    }

    /// Waits until `bytes` bytes fit. What is larger than the whole budget goes alone.
    async fn take(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let wanted = u32::try_from(bytes.div_ceil(1024 * 1024)).unwrap_or(u32::MAX).clamp(1, self.mebibytes);
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
            Self::NoProgress { .. } => ErrorName::RegistryUnavailable,
        }
    }
}

/// What became of one layer.
enum LayerCopy {
    /// It is at the target.
    Done { size: u64, streamed: bool },
    /// The deadline came near; `advanced` tells whether anything was sent, read again for the hash, or learnt.
    Paused { upload: Upload, advanced: bool },
    /// There was no time to begin.
    NotStarted,
    /// It failed, midway where there is an upload.
    Failed { error: CopyError, upload: Option<Upload>, advanced: bool },
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
    deadline: Deadline,
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
        Self { source, target, client, budget, deadline, streaming, pace: Pace::default() }
    }

    /// Those of `blobs` that the target misses.
    ///
    /// # Errors
    /// As [`Repository::missing_blobs`].
    pub async fn missing(&self, blobs: Vec<Blob>) -> Result<Vec<Blob>, RegistryError> {
        let digests: Vec<Digest> = blobs.iter().map(|blob| blob.digest.clone()).collect();
        let missing: HashSet<Digest> = self.target.missing_blobs(&digests).await?.into_iter().collect();
        Ok(blobs.into_iter().filter(|blob| missing.contains(&blob.digest)).collect())
    }

    /// Copies `missing` blobs until all are at the target or the deadline is near. `cursor` is where an earlier
    /// invocation stopped.
    ///
    /// # Errors
    /// `DigestMismatch` when a layer's bytes are not its own, `UploadLost`, `RepositoryNotFound`, `AccessDenied`,
    /// `QuotaExceeded`, `RegistryThrottled`, `RegistryUnavailable`. The other layers are copied first: what is there
    /// need not be sent again. An error that may pass is one only for an invocation that came no further.
    pub async fn run(&self, mut missing: Vec<Blob>, mut cursor: Cursor) -> Result<Copied, CopyError> {
        let started = Instant::now();
        let time = self.deadline.remaining();
        // The largest first: begun last, it would be the only one under way at the end.
        missing.sort_unstable_by_key(|blob| std::cmp::Reverse(blob.size));
        let mut uploads: HashMap<Digest, Upload> =
            cursor.uploads.drain(..).map(|upload| (upload.digest.clone(), upload)).collect();
        let layers = missing.iter().map(|blob| (blob, uploads.remove(&blob.digest)));
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
        let mut failures = Vec::new();
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
                LayerCopy::NotStarted => done = false,
                LayerCopy::Failed { error, upload, advanced } => {
                    done = false;
                    progress |= advanced;
                    cursor.uploads.extend(upload);
                    failures.push(error);
                }
            }
        }
        // A fatal one says more than one that may pass. One that may pass is met again if it stays: an error has no
        // room for a cursor, so where anything was sent, the next invocation meets it.
        let told = failures.iter().position(|failure| failure.name().class() == Class::Fatal);
        if let Some(told) = told.or_else(|| (!failures.is_empty() && !progress).then_some(0)) {
            return Err(failures.swap_remove(told));
        }
        for failure in &failures {
            warn!(region = %self.target.region(), error = chain(failure), "a layer is left to the next invocation");
        }
        if !done && !progress {
            return Err(CopyError::NoProgress { seconds: time.as_secs() });
        }
        cursor.duration_ms += milliseconds(started.elapsed());
        Ok(Copied { done, shards: Vec::new(), cursor, layers_foreign: 0 })
    }

    /// Copies one layer, from its first byte or from where `earlier` stands. `side_by_side` layers share the wire.
    async fn layer(&self, blob: &Blob, earlier: Option<Upload>, side_by_side: usize) -> LayerCopy {
        if let Some(upload) = earlier {
            return self.by_parts(blob, Sending::resume(upload), false).await;
        }
        let Some(time) = self.time_for_a_part() else { return LayerCopy::NotStarted };
        // Twice its time must be left, as for a part: a stream that is given up is sent again from its first byte.
        let needed = self.pace.of_a_stream(blob.size, side_by_side) * 2;
        let streams = self.streaming.load(Ordering::Relaxed) && needed <= time;
        if streams {
            match self.by_stream(blob).await {
                Ok(true) => return LayerCopy::Done { size: blob.size, streamed: true },
                Ok(false) => {}
                Err(error) => return LayerCopy::Failed { error, upload: None, advanced: false },
            }
        }
        match self.patiently(async || Sending::begin(self.target).await).await {
            // That a layer is not to be streamed is worth a cursor by itself.
            Ok(sending) => self.by_parts(blob, sending, streams).await,
            Err(source) => {
                let error = CopyError::Layer { digest: blob.digest.clone(), source };
                LayerCopy::Failed { error, upload: None, advanced: false }
            }
        }
    }

    /// Streams a layer; `false` when it must go by parts.
    async fn by_stream(&self, blob: &Blob) -> Result<bool, CopyError> {
        let _memory = self.budget.take(STREAM_MEMORY.min(blob.size)).await;
        let progress = Arc::new(Progress::default());
        let sent = async {
            let authorization = self.target.authorization().await.map_err(StreamError::Unauthorized)?;
            let destination = Destination { client: self.client, authorization, repository: self.target.name() };
            destination.send(Layer::new(self.source, self.client, blob), blob, &progress).await
        };
        let error = tokio::select! {
            sent = sent => match sent {
                Ok(()) => return Ok(true),
                Err(error) => error,
            },
            error = self.watch(&progress, blob.size) => error,
        };
        match error {
            StreamError::Unreadable(source) => Err(CopyError::Layer { digest: blob.digest.clone(), source }),
            StreamError::Corrupt { found } => Err(CopyError::Corrupt { digest: blob.digest.clone(), found }),
            error => {
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
                // Only its last answer may be lost.
                self.is_there(blob).await
            }
        }
    }

    /// Watches a stream until it is too slow for the time left.
    async fn watch(&self, progress: &Progress, size: u64) -> StreamError {
        let (started, mut moved, mut sent) = (Instant::now(), Instant::now(), 0);
        loop {
            sleep(Duration::from_secs(1)).await;
            if progress.sent() > sent {
                (moved, sent) = (Instant::now(), progress.sent());
            }
            let elapsed = started.elapsed();
            let needed = if elapsed < RATE_SEEN_AFTER || sent == 0 {
                Duration::ZERO
            } else {
                let rate = Rate { bytes: sent, time: elapsed };
                self.pace.observe_stream(rate);
                rate.of(size - sent)
            };
            if moved.elapsed() > STALLED_AFTER || self.time_left().is_none_or(|time| time < needed) {
                return StreamError::TooSlow { sent, seconds: elapsed.as_secs() };
            }
        }
    }

    /// Sends a layer by parts. `advanced` tells whether it was begun with reason.
    async fn by_parts(&self, blob: &Blob, mut sending: Sending, advanced: bool) -> LayerCopy {
        let _memory = self.budget.take(sending.part_size().min(blob.size) * COPIES_OF_A_PART).await;
        let ended = self.send(blob, &mut sending).await;
        let advanced = advanced || sending.has_advanced();
        match ended {
            Ok(Ended::Stored) => LayerCopy::Done { size: blob.size, streamed: false },
            Ok(Ended::OutOfTime) => LayerCopy::Paused { upload: sending.save(&blob.digest), advanced },
            // What may pass goes on where it stands; anything else starts again.
            Err(error) if error.name().class() == Class::Retry => {
                LayerCopy::Failed { error, upload: Some(sending.save(&blob.digest)), advanced }
            }
            Err(error) => LayerCopy::Failed { error, upload: None, advanced: false },
        }
    }

    async fn send(&self, blob: &Blob, sending: &mut Sending) -> Result<Ended, CopyError> {
        let failed = |source| CopyError::Layer { digest: blob.digest.clone(), source };
        let mut layer = Layer::new(self.source, self.client, blob);
        let mut restarts = 0;
        loop {
            let Some(time) = self.time_for_a_part() else { return Ok(Ended::OutOfTime) };
            if let Some(found) = sending.whole(blob.size) {
                if found != blob.digest {
                    return Err(CopyError::Corrupt { digest: blob.digest.clone(), found });
                }
                let completed = self.patiently(async || self.target.complete_upload(sending.id(), &found).await);
                match completed.await.map_err(failed)? {
                    Completed::Stored => return Ok(Ended::Stored),
                    Completed::UploadLost => {}
                }
            } else {
                let part = self.patiently(async || sending.advance(self.target, &mut layer, blob.size).await);
                let Some(part) = self.within(time, part).await else { return Ok(Ended::OutOfTime) };
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
            *sending = self.patiently(async || Sending::begin(self.target).await).await.map_err(failed)?;
        }
    }

    async fn is_there(&self, blob: &Blob) -> Result<bool, CopyError> {
        let missing = self.patiently(async || self.target.missing_blobs(std::slice::from_ref(&blob.digest)).await);
        match missing.await {
            Ok(missing) => Ok(missing.is_empty()),
            Err(source) => Err(CopyError::Layer { digest: blob.digest.clone(), source }),
        }
    }

    /// Makes a call again and again while the registry throttles it, as long as there is time.
    async fn patiently<T>(&self, mut call: impl AsyncFnMut() -> Result<T, RegistryError>) -> Result<T, RegistryError> {
        let (mut pause, longest) = THROTTLED_PAUSES;
        loop {
            // Boxed: the SDK's futures are 20 KiB, and each layer under way would hold several.
            let error = match Box::pin(call()).await {
                Err(error) if error.name() == ErrorName::RegistryThrottled => error,
                answer => return answer,
            };
            let jittered = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
            if self.time_left().is_none_or(|time| time < jittered) {
                return Err(error);
            }
            sleep(jittered).await;
            pause = longest.min(pause * 2);
        }
    }

    /// What `part` gives, if it comes to that in `time`. Nothing is lost with a part that is given up: if the registry has
    /// it, it says so when the upload goes on.
    async fn within<T>(&self, time: Duration, part: impl Future<Output = T>) -> Option<T> {
        let started = Instant::now();
        let done = timeout(time, part).await.ok();
        self.pace.observe_part(started.elapsed());
        done
    }

    /// The time left for copying.
    fn time_left(&self) -> Option<Duration> {
        self.deadline.remaining().checked_sub(RESERVE)
    }

    /// The time left for a part; `None` when the deadline is too near for one.
    fn time_for_a_part(&self) -> Option<Duration> {
        self.time_left().filter(|&time| time >= self.pace.of_a_part() * 2)
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
    async fn the_budget_is_shared_and_takes_what_is_larger_than_itself_alone() {
        let budget = Budget::new(10);
        let first = budget.take(6 * MIB).await.unwrap();
        let second = budget.take(100 * MIB);
        tokio::pin!(second);
        assert!(futures::poll!(&mut second).is_pending(), "it fits only alone");
        drop(first);
        assert_eq!(second.await.unwrap().num_permits(), 10);
        assert_eq!(budget.take(1).await.unwrap().num_permits(), 1);
    }
}
