//! A layer on its way in, by the API or by `/v2`.

use std::fs::File;
use std::io::{self, SeekFrom, Write as _};
use std::sync::Arc;

use axum::body::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use sha2::{Digest as _, Sha256};
use tempfile::TempPath;
use tokio::fs::OpenOptions;
use tokio::io::AsyncSeekExt as _;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::names::{Digest, RepositoryPlace};

/// The documented minimum of every part but the last.
const MIN_PART_SIZE: u64 = 5 * 1024 * 1024;
/// The most that the service model takes in one part, whatever part size was asked for.
pub(crate) const MAX_PART_SIZE: u64 = 20 * 1024 * 1024;
/// The documented quota of parts per layer.
const MAX_PARTS: u32 = 4_200;
/// Network chunks are small; so many bytes are handed to the blocking pool at once.
const WRITE_SIZE: usize = 1024 * 1024;

/// An upload, in progress until its session is taken by the call that completes it.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) id: Uuid,
    place: RepositoryPlace,
    part_size: u64,
    /// The one lock that is held while bytes are written: two writers of one upload must take turns.
    session: Mutex<Option<Session>>,
}

/// What was received. A part is added to it when all of it is on disk; a part whose connection broke, or whose handler was
/// dropped on the way, leaves it as it was, and the next part overwrites those bytes.
#[derive(Debug)]
struct Session {
    file: TempPath,
    received: u64,
    hash: Sha256,
    parts: u32,
    first_part_last_byte: Option<u64>,
    last_part_is_small: bool,
    earlier_part_is_small: bool,
    /// Whether a body came, if only an empty one: `/v2/` takes a blob of no bytes, the API no upload of no parts.
    is_begun: bool,
}

/// Where a part goes and how long it is, as far as its sender says.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PartRange {
    pub(crate) first: Option<u64>,
    pub(crate) length: Option<u64>,
    pub(crate) limit: Option<u64>,
    /// How much of it is kept; the rest is taken as not sent.
    pub(crate) kept: Option<u64>,
}

/// How far an upload has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    pub(crate) received: u64,
    pub(crate) first_part_last_byte: Option<u64>,
}

/// A whole layer that no repository has yet.
#[derive(Debug)]
pub(crate) struct ReceivedLayer {
    pub(crate) digest: Digest,
    pub(crate) file: TempPath,
    pub(crate) size: u64,
}

impl Upload {
    pub(crate) fn new(id: Uuid, place: RepositoryPlace, part_size: u64, file: TempPath) -> Self {
        let session = Session {
            file,
            received: 0,
            hash: Sha256::new(),
            parts: 0,
            first_part_last_byte: None,
            last_part_is_small: false,
            earlier_part_is_small: false,
            is_begun: false,
        };
        Self { id, place, part_size, session: Mutex::new(Some(session)) }
    }

    pub(crate) async fn progress(&self) -> Result<Progress> {
        let session = self.session.lock().await;
        let session = session.as_ref().ok_or_else(|| self.not_found())?;
        Ok(session.progress())
    }

    /// Appends a part. It runs as a task of its own, which a connection that goes away does not stop half way: no write of
    /// this part can then land after the next part has begun.
    pub(crate) async fn append<E>(
        self: Arc<Self>,
        range: PartRange,
        mut data: impl Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
    ) -> Result<Progress>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        let part = async move {
            let result = self.append_part(range, &mut data).await;
            // A client that is still sending would not read a refusal.
            while let Some(Ok(_)) = data.next().await {}
            result
        };
        tokio::spawn(part).await.map_err(io::Error::other)?
    }

    async fn append_part<E>(
        &self,
        range: PartRange,
        data: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<Progress>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut left = range.kept.unwrap_or(u64::MAX);
        let data = data.map_ok(move |mut chunk: Bytes| {
            chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            left -= chunk.len() as u64;
            chunk
        });
        let mut guard = self.session.lock().await;
        let session = guard.as_mut().ok_or_else(|| self.not_found())?;
        if let Some(first) = range.first.filter(|first| *first != session.received) {
            let expected = session.received;
            return Err(
                self.invalid_part(session, format!("First byte of the layer part is {first} instead of {expected}"))
            );
        }

        let mut file = OpenOptions::new().create(true).write(true).truncate(false).open(&session.file).await?;
        file.seek(SeekFrom::Start(session.received)).await?;
        let writer = Writer { file: file.into_std().await, hash: session.hash.clone() };
        let (length, hash) = write(writer, data, range.limit).await?;

        if range.limit.is_some_and(|limit| length > limit) {
            return Err(self.invalid_part(session, format!("Layer part size of {length} bytes is too large")));
        }
        let is_kept_short = range.kept == Some(length);
        if let Some(expected) = range.length.filter(|expected| *expected != length && !is_kept_short) {
            return Err(self.invalid_part(session, format!("Layer part has {length} bytes, its range has {expected}")));
        }
        if length > 0 {
            if session.parts == MAX_PARTS {
                return Err(Error::LimitExceeded(format!("The maximum number of parts of a layer is {MAX_PARTS}")));
            }
            // A part is small by what was sent.
            session.add(length, hash, length < self.min_part_size() && !is_kept_short);
        }
        session.is_begun = true;
        Ok(session.progress())
    }

    /// Ends the upload if what was received is what the caller says it is.
    pub(crate) async fn complete(&self, provided: &[Digest]) -> Result<ReceivedLayer> {
        let mut guard = self.session.lock().await;
        let session = guard.as_ref().ok_or_else(|| self.not_found())?;
        if !session.is_begun {
            return Err(Error::EmptyUpload);
        }
        if session.earlier_part_is_small {
            return Err(Error::LayerPartTooSmall);
        }
        let digest = Digest::from_hash(session.hash.clone());
        if let Some(other) = provided.iter().find(|provided| **provided != digest) {
            return Err(Error::InvalidLayer { computed: digest, provided: other.clone() });
        }
        let session = guard.take().ok_or_else(|| self.not_found())?;
        Ok(ReceivedLayer { digest, file: session.file, size: session.received })
    }

    /// A smaller part size asks for smaller parts, so that tests need no large layers.
    fn min_part_size(&self) -> u64 {
        MIN_PART_SIZE.min(self.part_size)
    }

    fn not_found(&self) -> Error {
        Error::UploadNotFound { upload: self.id, place: self.place.clone() }
    }

    fn invalid_part(&self, session: &Session, message: String) -> Error {
        Error::InvalidLayerPart {
            message,
            account: self.place.account.clone(),
            repository: self.place.name.clone(),
            upload: self.id,
            last_valid_byte: session.received.checked_sub(1),
        }
    }
}

impl Session {
    fn add(&mut self, length: u64, hash: Sha256, is_small: bool) {
        self.received += length;
        self.hash = hash;
        self.parts += 1;
        self.first_part_last_byte = self.first_part_last_byte.or(Some(length - 1));
        self.earlier_part_is_small |= self.last_part_is_small;
        self.last_part_is_small = is_small;
    }

    fn progress(&self) -> Progress {
        Progress { received: self.received, first_part_last_byte: self.first_part_last_byte }
    }
}

/// Where the bytes of a part go.
#[derive(Debug)]
struct Writer {
    file: File,
    hash: Sha256,
}

impl Writer {
    fn write(mut self, chunks: &[Bytes]) -> io::Result<Self> {
        for chunk in chunks {
            self.hash.update(chunk);
            self.file.write_all(chunk)?;
        }
        Ok(self)
    }
}

/// Writes and hashes the data, until it ends or is longer than the limit. While some of it is written, the next is received.
async fn write<E>(
    writer: Writer,
    mut data: impl Stream<Item = Result<Bytes, E>> + Unpin,
    limit: Option<u64>,
) -> io::Result<(u64, Sha256)>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut under_way = spawn_blocking(move || writer.write(&[]));
    let (mut length, mut waiting, mut chunks) = (0, 0, Vec::new());
    let mut broken = None;
    while let Some(chunk) = data.next().await {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => {
                broken = Some(io::Error::other(error));
                break;
            }
        };
        length += chunk.len() as u64;
        if limit.is_some_and(|limit| length > limit) {
            break;
        }
        waiting += chunk.len();
        chunks.push(chunk);
        if waiting >= WRITE_SIZE {
            let (writer, ready) = (under_way.await??, std::mem::take(&mut chunks));
            under_way = spawn_blocking(move || writer.write(&ready));
            waiting = 0;
        }
    }
    // Also after a failure: a write must not be left behind in the blocking pool.
    let writer = under_way.await??;
    if let Some(error) = broken {
        return Err(error);
    }
    let writer = spawn_blocking(move || writer.write(&chunks)).await??;
    Ok((length, writer.hash))
}
