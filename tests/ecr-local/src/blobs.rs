//! Layers on disk: each is a file of its own, deleted with its last owner.

use std::collections::HashMap;
use std::io::{self, SeekFrom};
use std::path::Path;
use std::sync::{Arc, Weak};

use bytes::{Bytes, BytesMut};
use futures::Stream;
use tempfile::{TempDir, TempPath};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use uuid::Uuid;

use crate::guarded::Guarded;
use crate::names::Digest;

/// Large enough that handing a read to the blocking pool costs little beside it.
const READ_SIZE: usize = 256 * 1024;

/// The directory of the layers.
#[derive(Debug)]
pub(crate) struct Blobs {
    directory: TempDir,
    known: Guarded<HashMap<Digest, Weak<Blob>>>,
}

/// A layer's file.
#[derive(Debug)]
pub(crate) struct Blob {
    file: TempPath,
    pub(crate) size: u64,
}

impl Blobs {
    pub(crate) fn new(parent: Option<&Path>) -> io::Result<Self> {
        let mut directory = tempfile::Builder::new();
        directory.prefix("ecr-local-");
        let directory = match parent {
            Some(parent) => {
                std::fs::create_dir_all(parent)?;
                directory.tempdir_in(parent)?
            }
            None => directory.tempdir()?,
        };
        Ok(Self { directory, known: Guarded::default() })
    }

    /// A path for a file that an upload will make.
    pub(crate) fn file(&self, upload: Uuid) -> io::Result<TempPath> {
        TempPath::try_from_path(self.directory.path().join(upload.to_string()))
    }

    /// The layer with these bytes: of equal layers in several repositories and regions only one file is kept.
    pub(crate) fn adopt(&self, digest: &Digest, file: TempPath, size: u64) -> Arc<Blob> {
        let mut known = self.known.lock();
        known.retain(|_, blob| blob.strong_count() > 0);
        if let Some(blob) = known.get(digest).and_then(Weak::upgrade) {
            return blob;
        }
        let blob = Arc::new(Blob { file, size });
        known.insert(digest.clone(), Arc::downgrade(&blob));
        blob
    }
}

impl Blob {
    /// The bytes from `first` on, `length` of them, `on_chunk` told of the size of each chunk that goes out.
    pub(crate) async fn read(
        self: Arc<Self>,
        first: u64,
        length: u64,
        on_chunk: impl Fn(usize),
    ) -> io::Result<impl Stream<Item = io::Result<Bytes>>> {
        let mut file = File::open(&self.file).await?;
        // The read size of tokio's file is at most this buffer; without it a 256 KiB read would still be cut.
        file.set_max_buf_size(READ_SIZE);
        file.seek(SeekFrom::Start(first)).await?;
        let reader = file.take(length);
        Ok(futures::stream::try_unfold((self, reader, on_chunk), |(blob, mut reader, on_chunk)| async move {
            let mut chunk = BytesMut::with_capacity(READ_SIZE);
            if reader.read_buf(&mut chunk).await? == 0 {
                return Ok(None);
            }
            on_chunk(chunk.len());
            Ok(Some((chunk.freeze(), (blob, reader, on_chunk))))
        }))
    }
}
