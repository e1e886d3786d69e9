//! The stream road: a layer as one PATCH to the target's `/v2`, raw bytes, as every `docker push` sends it.
//!
//! Sending pulls: a chunk is read from the source when the connection to the target takes one, so a layer of any size
//! is never in memory. What broke starts over, by parts.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use reqwest::{
    Body, Client, Method, RequestBuilder, Response, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION},
};
use tokio::time::sleep;

use crate::{
    config::PART_ATTEMPT,
    contract::Blob,
    error::{ErrorName, Named as _},
    layer::{Hash, Layer},
    names::Digest,
    patience::{Patience, Throttled},
    registry::{Authorization, RegistryError, Repository},
};

/// How often a request without a body is made that fails in a way that may pass: a connection that was kept from the last
/// invocation may be dead, and a layer whose bytes have all arrived is worth asking for twice.
const ATTEMPTS: u32 = 3;

/// The pause before the second.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// Why a layer could not be streamed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    /// The source could not be read: it cannot by parts either.
    #[error("the source could not be read")]
    Unreadable(#[source] RegistryError),
    /// The source's bytes are not the layer's.
    #[error("the source's bytes have the digest {found}")]
    Corrupt {
        /// The digest of what was read.
        found: Digest,
    },
    /// The registry's endpoint or its token cannot be had.
    #[error("the registry gives no authorization")]
    Unauthorized(#[source] RegistryError),
    /// The registry's endpoint cannot be reached.
    #[error("the registry's endpoint cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// The connection broke.
    #[error("the connection to the registry broke")]
    Broken(#[source] reqwest::Error),
    /// The registry answered otherwise than the protocol has it.
    #[error("the registry answered {method} with {status}")]
    Refused {
        /// The request.
        method: Method,
        /// Its answer.
        status: StatusCode,
    },
    /// The registry sent us on to nowhere, or to another host.
    #[error("the registry named no upload of its own")]
    Elsewhere,
    /// The time was over before it answered.
    #[error("the registry did not answer in time")]
    Unanswered,
    /// It went too slowly for the time left, or not at all.
    #[error("{sent} bytes in {seconds} s are too slow for the time left")]
    TooSlow {
        /// What was sent.
        sent: u64,
        /// In which time.
        seconds: u64,
    },
}

impl StreamError {
    /// Whether no other layer need be tried.
    pub(crate) fn closes_the_road(&self) -> bool {
        match self {
            Self::Unauthorized(source) => source.name() == ErrorName::AccessDenied,
            Self::Unreachable(_) | Self::Elsewhere => true,
            Self::Refused { status, .. } => *status == StatusCode::METHOD_NOT_ALLOWED || self.is_refused_credential(),
            _ => false,
        }
    }

    /// Whether it is the credential that the registry refused.
    pub(crate) fn is_refused_credential(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, .. })
    }

    /// Whether the same request may succeed a little later.
    fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Broken(_) => true,
            Self::Refused { status, .. } => status.is_server_error(),
            _ => false,
        }
    }

    fn lost(error: reqwest::Error) -> Self {
        // An upload's URL may carry a state that is its registry's secret.
        let error = error.without_url();
        if error.is_connect() { Self::Unreachable(error) } else { Self::Broken(error) }
    }
}

impl Throttled for StreamError {
    fn is_throttled(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::TOO_MANY_REQUESTS, .. })
    }
}

/// How far a stream has come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    began: OnceLock<Instant>,
    sent: AtomicU64,
    hash: Mutex<Hash>,
    unreadable: Mutex<Option<RegistryError>>,
}

impl Progress {
    /// The bytes that were given to the connection.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// The time since the first of them; signing in and connecting are not counted.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.get().map(Instant::elapsed).unwrap_or_default()
    }

    fn add(&self, chunk: &[u8]) {
        self.began.get_or_init(Instant::now);
        self.hash.lock().unwrap_or_else(PoisonError::into_inner).update(chunk);
        self.sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
    }

    fn digest(&self) -> Digest {
        self.hash.lock().unwrap_or_else(PoisonError::into_inner).clone().finish()
    }
}

/// Where layers are streamed to.
pub(crate) struct Destination<'a> {
    pub(crate) client: &'a Client,
    pub(crate) authorization: Authorization,
    pub(crate) repository: &'a Repository,
    pub(crate) patience: &'a Patience,
}

impl Destination<'_> {
    /// Streams `layer`, which is `blob`.
    pub(crate) async fn send(&self, layer: Layer, blob: &Blob, progress: &Arc<Progress>) -> Result<(), StreamError> {
        let endpoint = Url::parse(&self.authorization.endpoint).map_err(|_| StreamError::Elsewhere)?;
        let name = self.repository.name();
        let uploads = endpoint.join(&format!("/v2/{name}/blobs/uploads/")).map_err(|_| StreamError::Elsewhere)?;
        let upload = location(&uploads, &self.ask_again(Method::POST, &uploads).await?)?;

        let patched = self.ask(Method::PATCH, &upload, |request| {
            request
                .header(CONTENT_TYPE, "application/octet-stream")
                .header(CONTENT_LENGTH, blob.size)
                .body(Body::wrap_stream(tallied(layer, progress)))
        });
        let patched = match patched.await {
            Ok(answer) => answer,
            Err(error) => {
                let unreadable = progress.unreadable.lock().unwrap_or_else(PoisonError::into_inner).take();
                return Err(unreadable.map_or(error, StreamError::Unreadable));
            }
        };
        let found = progress.digest();
        if found != blob.digest {
            return Err(StreamError::Corrupt { found });
        }
        let mut upload = location(&upload, &patched)?;
        upload.query_pairs_mut().append_pair("digest", found.as_str());
        self.ask_again(Method::PUT, &upload).await?;
        Ok(())
    }

    /// Makes a request without a body: until it is not throttled, and a few times when it fails in a way that may pass.
    async fn ask_again(&self, method: Method, url: &Url) -> Result<Response, StreamError> {
        let mut attempt = 1;
        loop {
            let asked = self.patience.call(async || {
                let bare = |request: RequestBuilder| request.header(CONTENT_LENGTH, 0).timeout(PART_ATTEMPT);
                self.ask(method.clone(), url, bare).await
            });
            match asked.await.unwrap_or(Err(StreamError::Unanswered)) {
                Err(error) if error.may_pass() && attempt < ATTEMPTS => {
                    sleep(FIRST_PAUSE * 2u32.pow(attempt - 1)).await;
                    attempt += 1;
                }
                answer => return answer,
            }
        }
    }

    /// Makes a request. ECR answers some with another status than the specification has: any success is one.
    async fn ask(
        &self,
        method: Method,
        url: &Url,
        request: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, StreamError> {
        let credential = format!("Basic {}", self.authorization.credential);
        let mut credential = HeaderValue::try_from(credential).map_err(|_| StreamError::Elsewhere)?;
        credential.set_sensitive(true);
        let asked = self.client.request(method.clone(), url.clone()).header(AUTHORIZATION, credential);
        let answer = request(asked).send().await.map_err(StreamError::lost)?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let refused = StreamError::Refused { method, status: answer.status() };
        if refused.is_throttled() {
            self.repository.count_throttle();
        }
        Err(refused)
    }
}

/// The URL that an answer names next, relative to the last one or absolute; at the same registry, for the credential
/// goes with it.
fn location(asked: &Url, answer: &Response) -> Result<Url, StreamError> {
    let location = answer.headers().get(LOCATION).and_then(|location| location.to_str().ok());
    let location = location.and_then(|location| asked.join(location).ok());
    location.filter(|location| location.origin() == asked.origin()).ok_or(StreamError::Elsewhere)
}

/// The layer's bytes, counted and hashed as they go.
fn tallied(
    layer: Layer,
    progress: &Arc<Progress>,
) -> impl futures::Stream<Item = Result<bytes::Bytes, BrokenOff>> + Send + 'static {
    let progress = Arc::clone(progress);
    layer.stream().map(move |chunk| match chunk {
        Ok(chunk) => {
            progress.add(&chunk);
            Ok(chunk)
        }
        Err(error) => {
            *progress.unreadable.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            Err(BrokenOff)
        }
    })
}

/// What the connection is told of an error of the source; the error itself is kept.
#[derive(Debug, thiserror::Error)]
#[error("the source could not be read")]
struct BrokenOff;
