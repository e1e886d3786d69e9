//! Reading a layer from the source: ranged GETs of its presigned URL, hashed as they stream.

use std::time::Duration;

use base64_simd::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use futures::{Stream, stream};
use reqwest::{
    StatusCode,
    header::{CONTENT_RANGE, RANGE},
};
use sha2::{
    Digest as _, Sha256,
    digest::common::hazmat::{SerializableState as _, SerializedState},
};
use tokio::time::{sleep, timeout};

use crate::{
    contract::Blob,
    error::{Class, ErrorName, Named as _},
    names::Digest,
    registry::{DownloadUrl, RegistryError, Repository},
};

/// How often a download may fail in a row, with growing pauses, before the layer counts as unreadable.
const ATTEMPTS: u32 = 6;

/// How many bytes between two failures keep them from being in a row.
const READ_BETWEEN_FAILURES: u64 = 1024 * 1024;

/// The pause before the second attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// How often in a row a download may be refused, each time but the first for a fresh URL, before it counts as forbidden.
const REFUSALS: u32 = 3;

/// How long a download may be silent.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// The SHA-256 of a layer's first bytes, which can be carried to another invocation.
#[derive(Debug, Clone, Default)]
pub struct Hash {
    hasher: Sha256,
    position: u64,
}

impl Hash {
    /// The hash after `position` bytes, from what [`Hash::save`] gave; `None` when that is not such a state.
    #[must_use]
    pub fn restore(saved: &str, position: u64) -> Option<Self> {
        let state = BASE64.decode_to_vec(saved).ok()?;
        let state = SerializedState::<Sha256>::try_from(state.as_slice()).ok()?;
        Some(Self { hasher: Sha256::deserialize(&state).ok()?, position })
    }

    /// The state, in base64.
    #[must_use]
    pub fn save(&self) -> String {
        BASE64.encode_to_string(self.hasher.serialize())
    }

    /// How many bytes it has seen.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Adds the bytes that follow.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.position += bytes.len() as u64;
    }

    /// The digest of all bytes.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest::from_hash(self.hasher)
    }
}

/// Why a range could not be read.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("no download URL")]
    Url(#[source] RegistryError),
    #[error("the download URL has expired")]
    Expired,
    #[error(
        "the download answered 403 Forbidden for a URL that was just made: does a VPC endpoint's policy forbid it?"
    )]
    Forbidden,
    #[error("the download answered {0}")]
    Status(StatusCode),
    #[error("the download broke")]
    Broken(#[source] reqwest::Error),
    #[error("the download was silent for {} s", READ_TIMEOUT.as_secs())]
    Silent,
    #[error("the download ended {missing} bytes too early")]
    Short { missing: u64 },
    #[error("the download gave more bytes than it was asked for")]
    Long,
    #[error("the blob is not the size that its manifest says: asked for bytes {asked}, got {got}")]
    Size { asked: String, got: String },
}

impl ReadError {
    fn name(&self) -> ErrorName {
        match self {
            Self::Url(error) => error.name(),
            Self::Size { .. } => ErrorName::DigestMismatch,
            Self::Forbidden => ErrorName::AccessDenied,
            Self::Status(StatusCode::TOO_MANY_REQUESTS) => ErrorName::RegistryThrottled,
            Self::Expired | Self::Status(_) | Self::Broken(_) | Self::Silent | Self::Short { .. } | Self::Long => {
                ErrorName::RegistryUnavailable
            }
        }
    }
}

/// A layer of the source, read a range at a time.
#[derive(Debug)]
pub struct Layer {
    source: Repository,
    client: reqwest::Client,
    blob: Blob,
    url: Option<DownloadUrl>,
    /// The download that is under way.
    answer: Option<reqwest::Response>,
    /// The next byte of the range that is read.
    position: u64,
    /// The byte after that range.
    end: u64,
    /// Failures in a row.
    failures: u32,
    /// The bytes since the last one.
    read: u64,
    /// Refused URLs in a row.
    refusals: u32,
}

impl Layer {
    /// The layer `blob` of `source`.
    #[must_use]
    pub fn new(source: &Repository, client: &reqwest::Client, blob: &Blob) -> Self {
        Self {
            source: source.clone(),
            client: client.clone(),
            blob: blob.clone(),
            url: None,
            answer: None,
            position: 0,
            end: blob.size,
            failures: 0,
            read: 0,
            refusals: 0,
        }
    }

    /// The `length` bytes that begin at `first`.
    ///
    /// # Errors
    /// `DigestMismatch` when the blob is not as long as its manifest says, `ImageNotFound` when the source no longer
    /// has it, `AccessDenied`, `RegistryThrottled`, `RegistryUnavailable`.
    pub async fn read(&mut self, first: u64, length: u64) -> Result<Bytes, RegistryError> {
        (self.answer, self.position, self.end) = (None, first, first + length);
        // A part is at most 20 MiB.
        let mut bytes = BytesMut::with_capacity(usize::try_from(length).unwrap_or_default());
        while let Some(chunk) = self.chunk().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }

    /// All of its bytes, as they come.
    ///
    /// # Errors
    /// Each item, as [`Layer::read`].
    pub fn stream(self) -> impl Stream<Item = Result<Bytes, RegistryError>> + Send + 'static {
        stream::try_unfold(self, async |mut layer| Ok(layer.chunk().await?.map(|chunk| (chunk, layer))))
    }

    /// The next bytes of the range; `None` at its end. A download that breaks goes on where it broke.
    async fn chunk(&mut self) -> Result<Option<Bytes>, RegistryError> {
        while self.position < self.end {
            let error = match self.next().await {
                Ok(chunk) => {
                    self.position += chunk.len() as u64;
                    self.read += chunk.len() as u64;
                    if self.read >= READ_BETWEEN_FAILURES {
                        self.failures = 0;
                    }
                    return Ok(Some(chunk));
                }
                Err(error) => error,
            };
            // Whatever it was, the next attempt has a fresh URL; only an expired one needs no pause.
            (self.answer, self.url) = (None, None);
            self.failures += 1;
            self.read = 0;
            if self.failures == ATTEMPTS || error.name().class() != Class::Retry {
                return Err(match error {
                    ReadError::Url(error) => error,
                    error => self.source.unreadable(error.name(), error),
                });
            }
            if !matches!(error, ReadError::Expired) {
                sleep(FIRST_PAUSE * 2u32.pow(self.failures - 1)).await;
            }
        }
        Ok(None)
    }

    async fn next(&mut self) -> Result<Bytes, ReadError> {
        let mut answer = match self.answer.take() {
            Some(answer) => answer,
            None => self.open().await?,
        };
        let missing = self.end - self.position;
        let chunk = silent(answer.chunk()).await?.ok_or(ReadError::Short { missing })?;
        if chunk.len() as u64 > missing {
            return Err(ReadError::Long);
        }
        self.answer = Some(answer);
        Ok(chunk)
    }

    /// Asks for what is left of the range.
    async fn open(&mut self) -> Result<reqwest::Response, ReadError> {
        let url = match self.url.take() {
            Some(url) => url,
            None => self.source.download_url(&self.blob.digest).await.map_err(ReadError::Url)?,
        };
        let url = self.url.insert(url);
        let (first, last) = (self.position, self.end - 1);
        let asked = format!("bytes {first}-{last}/{}", self.blob.size);
        let answer =
            silent(self.client.get(url.as_str()).header(RANGE, format!("bytes={first}-{last}")).send()).await?;
        match answer.status() {
            StatusCode::PARTIAL_CONTENT => {
                let got = answer.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok()).unwrap_or_default();
                if got != asked {
                    return Err(ReadError::Size { asked, got: got.to_owned() });
                }
            }
            // A server may send the whole for a range that is the whole.
            StatusCode::OK if first == 0 && self.end == self.blob.size && answer.content_length() == Some(self.end) => {
            }
            StatusCode::OK | StatusCode::RANGE_NOT_SATISFIABLE => {
                return Err(ReadError::Size { asked, got: format!("HTTP {}", answer.status()) });
            }
            StatusCode::FORBIDDEN => {
                self.refusals += 1;
                return Err(if self.refusals == REFUSALS { ReadError::Forbidden } else { ReadError::Expired });
            }
            status => return Err(ReadError::Status(status)),
        }
        self.refusals = 0;
        Ok(answer)
    }
}

/// What a step of a download gives, unless it is silent for too long.
async fn silent<T>(step: impl Future<Output = Result<T, reqwest::Error>>) -> Result<T, ReadError> {
    match timeout(READ_TIMEOUT, step).await {
        // A URL is a credential: reqwest's errors would carry it.
        Ok(given) => given.map_err(|error| ReadError::Broken(error.without_url())),
        Err(_) => Err(ReadError::Silent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_goes_on_where_it_was_saved() {
        let layer: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        let mut hash = Hash::default();
        for part in layer.chunks(77_777) {
            hash.update(part);
            hash = Hash::restore(&hash.save(), hash.position()).unwrap();
        }
        assert_eq!(hash.position(), layer.len() as u64);
        assert_eq!(hash.finish(), Digest::of(&layer));
    }

    #[test]
    fn a_state_that_is_none_is_not_restored() {
        assert!(Hash::restore("", 0).is_none());
        assert!(Hash::restore("AAAA", 3).is_none());
        assert!(Hash::restore("not base64!", 3).is_none());
    }
}
