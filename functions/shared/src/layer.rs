//! Reading a layer from the source: ranged GETs of its presigned URL, hashed as they stream.

use std::time::Duration;

use base64_simd::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use reqwest::{
    StatusCode,
    header::{CONTENT_RANGE, RANGE},
    redirect,
};
use sha2::{
    Digest as _, Sha256,
    digest::common::hazmat::{SerializableState as _, SerializedState},
};

use crate::{
    contract::Blob,
    error::ErrorName,
    names::Digest,
    registry::{RegistryError, Repository},
};

/// How often one range is asked for, with growing pauses, before the layer counts as unreadable.
const ATTEMPTS: u32 = 4;

/// The pause before the second attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// How long a download may be silent.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// The client that reads layers.
///
/// It follows no redirect: nothing but the source is contacted, whatever it answers.
///
/// # Errors
/// When the system's TLS roots cannot be loaded.
pub fn download_client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .redirect(redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5))
        .read_timeout(READ_TIMEOUT)
        .build()
}

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
    #[error("the download URL has expired")]
    Expired,
    #[error("the download answered {0}")]
    Status(StatusCode),
    #[error("the download broke")]
    Broken(#[source] reqwest::Error),
    #[error("the download gave {given} of {wanted} bytes")]
    Short { given: usize, wanted: usize },
    #[error("the blob is not the size that its manifest says: asked for bytes {asked}, got {got}")]
    Size { asked: String, got: String },
}

impl ReadError {
    fn name(&self) -> ErrorName {
        match self {
            Self::Size { .. } => ErrorName::DigestMismatch,
            Self::Status(StatusCode::TOO_MANY_REQUESTS) => ErrorName::RegistryThrottled,
            Self::Expired | Self::Status(_) | Self::Broken(_) | Self::Short { .. } => ErrorName::RegistryUnavailable,
        }
    }
}

/// A layer of the source.
#[derive(Debug)]
pub struct Layer<'a> {
    source: &'a Repository,
    client: &'a reqwest::Client,
    blob: &'a Blob,
    url: Option<String>,
}

impl<'a> Layer<'a> {
    /// The layer `blob` of `source`.
    #[must_use]
    pub fn new(source: &'a Repository, client: &'a reqwest::Client, blob: &'a Blob) -> Self {
        Self { source, client, blob, url: None }
    }

    /// The `length` bytes that begin at `first`.
    ///
    /// # Errors
    /// `DigestMismatch` when the blob is not as long as its manifest says, `ImageNotFound` when the source no longer
    /// has it, `AccessDenied`, `RegistryThrottled`, `RegistryUnavailable`.
    pub async fn read(&mut self, first: u64, length: u64) -> Result<Bytes, RegistryError> {
        let mut pause = FIRST_PAUSE;
        let mut attempt = 1;
        loop {
            let url = match self.url.take() {
                Some(url) => url,
                None => self.source.download_url(&self.blob.digest).await?,
            };
            let error = match self.get(&url, first, length).await {
                Ok(bytes) => {
                    self.url = Some(url);
                    return Ok(bytes);
                }
                Err(error) => error,
            };
            if attempt == ATTEMPTS || error.name() == ErrorName::DigestMismatch {
                return Err(self.source.unreadable(error.name(), error));
            }
            attempt += 1;
            // Whatever it was, the next attempt has a fresh URL; only an expired one needs no pause.
            if !matches!(error, ReadError::Expired) {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        }
    }

    async fn get(&self, url: &str, first: u64, length: u64) -> Result<Bytes, ReadError> {
        // A URL is a credential: reqwest's errors would carry it.
        let broken = |error: reqwest::Error| ReadError::Broken(error.without_url());
        let last = first + length - 1;
        let asked = format!("bytes {first}-{last}/{}", self.blob.size);
        let mut answer =
            self.client.get(url).header(RANGE, format!("bytes={first}-{last}")).send().await.map_err(broken)?;
        match answer.status() {
            StatusCode::PARTIAL_CONTENT => {
                let got = answer.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok()).unwrap_or_default();
                if got != asked {
                    return Err(ReadError::Size { asked, got: got.to_owned() });
                }
            }
            // A server may send the whole for a range that is the whole.
            StatusCode::OK if answer.content_length() == Some(length) && length == self.blob.size => {}
            StatusCode::OK | StatusCode::RANGE_NOT_SATISFIABLE => {
                return Err(ReadError::Size { asked, got: format!("HTTP {}", answer.status()) });
            }
            StatusCode::FORBIDDEN => return Err(ReadError::Expired),
            status => return Err(ReadError::Status(status)),
        }
        // A part is at most some 20 MiB.
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let mut bytes = BytesMut::with_capacity(length);
        while let Some(chunk) = answer.chunk().await.map_err(broken)? {
            if bytes.len() + chunk.len() > length {
                return Err(ReadError::Short { given: bytes.len() + chunk.len(), wanted: length });
            }
            bytes.extend_from_slice(&chunk);
        }
        if bytes.len() < length {
            return Err(ReadError::Short { given: bytes.len(), wanted: length });
        }
        Ok(bytes.freeze())
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
