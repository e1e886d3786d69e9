//! The copy engine: an image's missing blobs, side by side, in a fixed amount of memory.
//!
//! A layer goes by parts: InitiateLayerUpload, UploadLayerPart in strict order, CompleteLayerUpload. What it takes to
//! go on with an interrupted upload is an [`Upload`], a few hundred bytes, whatever the layer's size.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{
    contract::{Blob, Copied, Cursor, Upload, milliseconds},
    error::{Class, ErrorName, Named},
    layer::{Hash, Layer},
    names::Digest,
    registry::{Completed, OpenUpload, Part, RegistryError, Repository},
    serve::Deadline,
};

/// How many layers are under way at once, memory allowing: what docker and containerd users settle on.
const LAYERS_AT_ONCE: usize = 8;

/// How many times a part stands in memory while it is sent: its bytes, their base64, the JSON body around that, and
/// the buffer that the body grew out of.
const COPIES_OF_A_PART: u64 = 5;

/// How often one invocation starts a layer again whose upload the registry lost, before it gives up.
const RESTARTS: u32 = 2;

/// The time kept for what follows the last part: completing layers, and answering.
const RESERVE: Duration = Duration::from_secs(2);

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

    /// Waits until a layer with parts of `part_size` bytes fits. A part larger than the whole budget goes alone.
    async fn take(&self, part_size: u64) -> Option<OwnedSemaphorePermit> {
        let wanted = (part_size * COPIES_OF_A_PART).div_ceil(1024 * 1024);
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX).clamp(1, self.mebibytes);
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
    /// A call that is about no layer in particular failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl Named for CopyError {
    fn name(&self) -> ErrorName {
        match self {
            Self::Layer { source, .. } | Self::Registry(source) => source.name(),
            Self::Corrupt { .. } => ErrorName::DigestMismatch,
            Self::UploadLost { .. } => ErrorName::UploadLost,
            Self::NoProgress { .. } => ErrorName::RegistryUnavailable,
        }
    }
}

/// What became of one layer.
enum LayerCopy {
    /// It is at the target.
    Done { size: u64 },
    /// The deadline came near; `advanced` tells whether a part was sent, or read again for the hash.
    Paused { upload: Upload, advanced: bool },
    /// There was no time to begin.
    NotStarted,
}

/// The copy of blobs from one repository to another.
#[derive(Debug)]
pub struct Copy<'a> {
    /// Where they are.
    pub source: &'a Repository,
    /// Where they go.
    pub target: &'a Repository,
    /// Reads them: [`crate::layer::download_client`].
    pub client: &'a reqwest::Client,
    /// The memory for it.
    pub budget: &'a Budget,
    /// When the invocation is killed.
    pub deadline: Deadline,
    /// How fast it goes.
    pub pace: Pace,
}

impl Copy<'_> {
    /// Copies those of `blobs` that the target misses, until all are there or the deadline is near.
    ///
    /// `foreign` layers are counted only. `cursor` is where an earlier invocation stopped.
    ///
    /// # Errors
    /// `DigestMismatch` when a layer's bytes are not its own, `UploadLost`, `RepositoryNotFound`, `AccessDenied`,
    /// `QuotaExceeded`, `RegistryThrottled`, `RegistryUnavailable`. The other layers are copied first: what is there
    /// need not be sent again.
    pub async fn run(&self, blobs: &[Blob], foreign: usize, cursor: Cursor) -> Result<Copied, CopyError> {
        let started = Instant::now();
        let time = self.deadline.remaining();
        let digests: Vec<Digest> = blobs.iter().map(|blob| blob.digest.clone()).collect();
        let missing: HashSet<Digest> = self.target.missing_blobs(&digests).await?.into_iter().collect();
        let mut missing: Vec<&Blob> = blobs.iter().filter(|blob| missing.contains(&blob.digest)).collect();
        // The largest first: begun last, it would be the only one under way at the end.
        missing.sort_unstable_by_key(|blob| std::cmp::Reverse(blob.size));

        let mut uploads: HashMap<Digest, Upload> =
            cursor.uploads.into_iter().map(|upload| (upload.digest.clone(), upload)).collect();
        let layers: Vec<_> = missing.into_iter().map(|blob| (blob, uploads.remove(&blob.digest))).collect();
        let copies: Vec<Result<LayerCopy, CopyError>> = stream::iter(layers)
            .map(|(blob, upload)| self.layer(blob, upload))
            .buffer_unordered(LAYERS_AT_ONCE)
            .collect()
            .await;

        let mut cursor = Cursor { uploads: Vec::new(), ..cursor };
        let (mut done, mut progress, mut paused) = (true, false, false);
        let mut failures = Vec::new();
        for copy in copies {
            match copy {
                Ok(LayerCopy::Done { size }) => {
                    progress = true;
                    cursor.layers_copied += 1;
                    cursor.bytes_copied += size;
                }
                Ok(LayerCopy::Paused { upload, advanced }) => {
                    done = false;
                    progress |= advanced;
                    paused |= advanced;
                    cursor.uploads.push(upload);
                }
                Ok(LayerCopy::NotStarted) => done = false,
                Err(error) => failures.push(error),
            }
        }
        // An error has no room for a cursor. Where one layer's may pass and others stopped midway, those go on: the
        // next invocation meets the error again if it stays.
        let passing = paused && failures.iter().all(|failure| failure.name().class() != Class::Fatal);
        if !failures.is_empty() && !passing {
            // A fatal one says more than one that may pass.
            let told = failures.iter().position(|failure| failure.name().class() == Class::Fatal).unwrap_or(0);
            return Err(failures.swap_remove(told));
        }
        done &= failures.is_empty();
        if !done && !progress {
            return Err(CopyError::NoProgress { seconds: time.as_secs() });
        }
        cursor.duration_ms += milliseconds(started.elapsed());
        Ok(Copied {
            done,
            shards: Vec::new(),
            layers_foreign: foreign,
            cursor,
        })
    }

    /// Copies one layer by parts, from the first byte or from where `earlier` stands.
    async fn layer(&self, blob: &Blob, earlier: Option<Upload>) -> Result<LayerCopy, CopyError> {
        let failed = |source| CopyError::Layer { digest: blob.digest.clone(), source };
        let mut upload = match earlier {
            Some(upload) => Sending::resume(upload),
            None if self.time_for_a_part().is_none() => return Ok(LayerCopy::NotStarted),
            None => Sending::begin(self.target).await.map_err(failed)?,
        };
        let _memory = self.budget.take(upload.open.part_size.min(blob.size)).await;
        let mut layer = Layer::new(self.source, self.client, blob);
        let (mut advanced, mut restarts) = (false, 0);
        loop {
            let paused =
                |upload: Sending, advanced| Ok(LayerCopy::Paused { upload: upload.save(&blob.digest), advanced });
            let Some(time) = self.time_for_a_part() else {
                return paused(upload, advanced);
            };
            let lost = if upload.received == blob.size && upload.hash.position() == blob.size {
                let found = upload.hash.clone().finish();
                if found != blob.digest {
                    return Err(CopyError::Corrupt { digest: blob.digest.clone(), found });
                }
                match self.target.complete_upload(&upload.open.id, &blob.digest).await.map_err(failed)? {
                    Completed::Stored => return Ok(LayerCopy::Done { size: blob.size }),
                    Completed::UploadLost => true,
                }
            } else if upload.hash.position() == upload.received {
                let Some(sent) = self.within(time, upload.send_part(self.target, &mut layer, blob.size)).await else {
                    return paused(upload, advanced);
                };
                let sent = sent.map_err(failed)?;
                advanced |= matches!(sent, Part::Received);
                match sent {
                    Part::Received => false,
                    Part::OutOfOrder { received: Some(received) } if received <= blob.size && restarts < RESTARTS => {
                        restarts += 1;
                        upload.go_to(received);
                        false
                    }
                    Part::OutOfOrder { .. } | Part::UploadLost => true,
                }
            } else {
                let Some(hashed) = self.within(time, upload.hash_ahead(&mut layer)).await else {
                    return paused(upload, advanced);
                };
                hashed.map_err(failed)?;
                advanced = true;
                false
            };
            if lost {
                // An upload that was completed is unknown too: by this run, whose answer was lost, or by one beside it.
                let missing = self.target.missing_blobs(std::slice::from_ref(&blob.digest)).await;
                if missing.map_err(failed)?.is_empty() {
                    return Ok(LayerCopy::Done { size: blob.size });
                }
                if restarts == RESTARTS {
                    return Err(CopyError::UploadLost { digest: blob.digest.clone(), times: restarts + 1 });
                }
                restarts += 1;
                upload = Sending::begin(self.target).await.map_err(failed)?;
            }
        }
    }

    /// What `part` gives, if it comes to that in `time`. Nothing is lost with a part that is given up: if the registry has
    /// it, it says so when the upload goes on.
    async fn within<T>(&self, time: Duration, part: impl Future<Output = T>) -> Option<T> {
        let started = Instant::now();
        let done = timeout(time, part).await.ok();
        self.pace.observe(started.elapsed());
        done
    }

    /// The time left for a part; `None` when the deadline is too near for one.
    fn time_for_a_part(&self) -> Option<Duration> {
        let time = self.deadline.remaining().checked_sub(RESERVE)?;
        (time >= self.pace.of_a_part() * 2).then_some(time)
    }
}

/// How long a part takes: the longest seen so far, by any layer. None was seen when an invocation begins, and then it
/// has all its time.
#[derive(Debug, Default)]
pub struct Pace(Mutex<Duration>);

impl Pace {
    fn of_a_part(&self) -> Duration {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn observe(&self, part: Duration) {
        let mut longest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *longest = part.max(*longest);
    }
}

/// A layer's upload while it is sent.
struct Sending {
    open: OpenUpload,
    /// The bytes that the registry has.
    received: u64,
    /// The hash of the layer's first bytes: usually of those that the registry has.
    hash: Hash,
}

impl Sending {
    async fn begin(target: &Repository) -> Result<Self, RegistryError> {
        Ok(Self { open: target.initiate_upload().await?, received: 0, hash: Hash::default() })
    }

    fn resume(upload: Upload) -> Self {
        Self {
            received: upload.received,
            // A state that cannot be restored costs reading the layer's beginning again, nothing else.
            hash: Hash::restore(&upload.hash, upload.hashed).unwrap_or_default(),
            open: OpenUpload { id: upload.upload_id, part_size: upload.part_size },
        }
    }

    fn save(self, digest: &Digest) -> Upload {
        Upload {
            digest: digest.clone(),
            upload_id: self.open.id,
            part_size: self.open.part_size,
            received: self.received,
            hashed: self.hash.position(),
            hash: self.hash.save(),
        }
    }

    /// Goes on at the byte `received`. A hash that is beyond it starts again.
    fn go_to(&mut self, received: u64) {
        self.received = received;
        if self.hash.position() > received {
            self.hash = Hash::default();
        }
    }

    /// Reads the next part, sends it, and hashes it.
    async fn send_part(
        &mut self,
        target: &Repository,
        layer: &mut Layer<'_>,
        size: u64,
    ) -> Result<Part, RegistryError> {
        let bytes = layer.read(self.received, self.open.part_size.min(size - self.received)).await?;
        let mut hash = self.hash.clone();
        hash.update(&bytes);
        // The part is given away: kept for later, it would be copied.
        let sent = target.upload_part(&self.open.id, self.received, bytes).await?;
        if sent == Part::Received {
            self.received = hash.position();
            self.hash = hash;
        }
        Ok(sent)
    }

    /// Hashes bytes that the registry has and this invocation has not seen, a part of them at a time.
    async fn hash_ahead(&mut self, layer: &mut Layer<'_>) -> Result<(), RegistryError> {
        let length = self.open.part_size.min(self.received - self.hash.position());
        let bytes = layer.read(self.hash.position(), length).await?;
        self.hash.update(&bytes);
        Ok(())
    }
}
