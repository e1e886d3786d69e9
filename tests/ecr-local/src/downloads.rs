//! Layer downloads by expiring URLs, which in AWS are presigned URLs of S3.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::header::{ACCEPT_RANGES, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, RANGE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use jiff::Timestamp;
use serde::Deserialize;

use crate::altered;
use crate::blobs::Blob;
use crate::connection::Connection;
use crate::ecr::Ecr;
use crate::faults::Kind;
use crate::names::{Account, Digest, Region, Registry, RepositoryName};
use crate::xml::escape;

const OPERATION: &str = "DownloadLayer";

/// The signed part of a URL that says how long it is valid.
#[derive(Debug, Deserialize)]
struct Signature {
    #[serde(rename = "x-expires-at-ms")]
    expires_at: i64,
    #[serde(rename = "x-generation")]
    generation: u64,
    #[serde(rename = "X-Amz-Signature")]
    value: String,
}

impl Ecr {
    /// The path and query of a layer's download URL, valid from now on for the configured time.
    pub(crate) fn download_path(&self, registry: &Registry, repository: &RepositoryName, digest: &Digest) -> String {
        let now = Timestamp::now();
        let ttl = self.config.url_ttl;
        let expires_at = now.as_millisecond().saturating_add(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX));
        let Registry { account, region } = registry;
        let unsigned = format!(
            "/prod-{region}-starport-layer-bucket/{account}/{repository}/{digest}\
             ?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date={}&X-Amz-SignedHeaders=host&X-Amz-Expires={}\
             &x-expires-at-ms={expires_at}&x-generation={}",
            now.strftime("%Y%m%dT%H%M%SZ"),
            ttl.as_secs(),
            self.url_generation.load(Ordering::Relaxed),
        );
        let signature = self.secret.sign(&unsigned);
        format!("{unsigned}&X-Amz-Signature={signature}")
    }
}

/// The region of a download URL.
pub(crate) fn region(path: &str) -> Option<Region> {
    LayerPath::parse(path).map(|layer| layer.registry.region)
}

/// Serves a layer.
pub(crate) async fn download(
    State(ecr): State<Arc<Ecr>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response {
    let (head, _) = request.into_parts();
    let Some(layer) = LayerPath::parse(head.uri.path()) else {
        return error(StatusCode::NOT_FOUND, "NoSuchBucket", "The specified bucket does not exist");
    };
    let region = &layer.registry.region;
    ecr.counters.call(region, OPERATION);
    let fault = ecr.faults.take(OPERATION, region, Some(layer.repository.as_str()), Some(&layer.digest));
    let Some(fault) = fault else {
        return serve(&ecr, &layer, &head).await;
    };
    if let Some(event) = &fault.meanwhile {
        ecr.happen(event, &layer.registry, Some(layer.repository.as_str()));
    }
    let response = match fault.kind() {
        Kind::Answer => {
            if fault.after {
                serve(&ecr, &layer, &head).await;
            }
            error(fault.status(), &fault.code, &fault.message)
        }
        Kind::Cut(bytes) => serve(&ecr, &layer, &head)
            .await
            .map(|body| Body::from_stream(altered::cut(body.into_data_stream().boxed(), bytes, connection.clone()))),
        Kind::Own => serve(&ecr, &layer, &head).await,
    };
    fault.hold().await;
    fault.alter(response, &connection).await
}

async fn serve(ecr: &Arc<Ecr>, layer: &LayerPath, head: &Parts) -> Response {
    if head.headers.contains_key(AUTHORIZATION) {
        let message = "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string \
                       parameter or the Authorization header should be specified";
        return error(StatusCode::BAD_REQUEST, "InvalidArgument", message);
    }
    if let Err((code, message)) = check_signature(ecr, head) {
        return error(StatusCode::FORBIDDEN, code, message);
    }
    let blob = {
        let store = ecr.store.lock();
        let repository = store.repository(&layer.registry, &layer.repository);
        repository.ok().and_then(|repository| repository.layer(&layer.digest)).map(|layer| Arc::clone(&layer.blob))
    };
    let Some(blob) = blob else {
        return error(StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist.");
    };
    send(ecr, layer, blob, &head.headers)
        .await
        .unwrap_or_else(|failure| error(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", &failure.to_string()))
}

fn check_signature(ecr: &Ecr, head: &Parts) -> Result<(), (&'static str, &'static str)> {
    let mismatch = (
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. Check your key and signing method.",
    );
    // As S3's, the signature is for one method.
    if head.method != Method::GET {
        return Err(mismatch);
    }
    let Ok(Query(signature)) = Query::<Signature>::try_from_uri(&head.uri) else {
        return Err(("AccessDenied", "Access Denied"));
    };
    let signed = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let unsigned = signed.strip_suffix(&format!("&X-Amz-Signature={}", signature.value)).ok_or(mismatch)?;
    if ecr.secret.sign(unsigned) != signature.value {
        return Err(mismatch);
    }
    let is_early = signature.generation < ecr.url_generation.load(Ordering::Relaxed);
    if is_early || Timestamp::now().as_millisecond() >= signature.expires_at {
        return Err(("AccessDenied", "Request has expired"));
    }
    Ok(())
}

async fn send(ecr: &Arc<Ecr>, layer: &LayerPath, blob: Arc<Blob>, headers: &HeaderMap) -> io::Result<Response> {
    let size = blob.size;
    let range = headers.get(RANGE).and_then(|range| range.to_str().ok()).and_then(ByteRange::parse);
    let (status, first, length) = match range.map(|range| range.within(size)) {
        None => (StatusCode::OK, 0, size),
        Some(Some((first, length))) => (StatusCode::PARTIAL_CONTENT, first, length),
        Some(None) => {
            let mut response =
                error(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange", "The requested range is not satisfiable");
            if let Ok(value) = format!("bytes */{size}").parse() {
                response.headers_mut().insert(CONTENT_RANGE, value);
            }
            return Ok(response);
        }
    };
    let traffic = ecr.counters.traffic(&layer.registry.region);
    let body = blob.read(first, length, move |bytes| traffic.downloaded.add(bytes)).await?;
    let mut response = Response::builder()
        .status(status)
        .header(ACCEPT_RANGES, "bytes")
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(CONTENT_LENGTH, length)
        .header(ETAG, format!("\"{}\"", layer.digest));
    if status == StatusCode::PARTIAL_CONTENT {
        response = response.header(CONTENT_RANGE, format!("bytes {first}-{}/{size}", first + length - 1));
    }
    response.body(Body::from_stream(body)).map_err(io::Error::other)
}

/// An error as S3 writes it.
fn error(status: StatusCode, code: &str, message: &str) -> Response {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{}</Code><Message>{}</Message></Error>",
        escape(code),
        escape(message)
    );
    (status, [(CONTENT_TYPE, "application/xml")], body).into_response()
}

/// A layer as its URL names it.
#[derive(Debug)]
struct LayerPath {
    registry: Registry,
    repository: RepositoryName,
    digest: Digest,
}

impl LayerPath {
    fn parse(path: &str) -> Option<Self> {
        let (bucket, key) = path.strip_prefix('/')?.split_once('/')?;
        let region = bucket.strip_prefix("prod-")?.strip_suffix("-starport-layer-bucket")?;
        let (account, key) = key.split_once('/')?;
        let (repository, digest) = key.rsplit_once('/')?;
        Some(Self {
            registry: Registry { account: Account::try_from(account).ok()?, region: Region::try_from(region).ok()? },
            repository: repository.try_into().ok()?,
            digest: digest.try_into().ok()?,
        })
    }
}

/// A `Range` header with one range; S3 serves no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ByteRange {
    From(u64),
    Between(u64, u64),
    Last(u64),
}

impl ByteRange {
    /// A malformed header is none, as RFC 9110 has it.
    fn parse(header: &str) -> Option<Self> {
        let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
        match (first, last) {
            ("", last) => Some(Self::Last(last.parse().ok()?)),
            (first, "") => Some(Self::From(first.parse().ok()?)),
            (first, last) => {
                let (first, last) = (first.parse().ok()?, last.parse().ok()?);
                (first <= last).then_some(Self::Between(first, last))
            }
        }
    }

    /// The first byte and the length of what is there of the range.
    fn within(self, size: u64) -> Option<(u64, u64)> {
        let (first, end) = match self {
            Self::From(first) => (first, size),
            Self::Between(first, last) => (first, size.min(last.saturating_add(1))),
            Self::Last(length) => (size.saturating_sub(length), size),
        };
        (first < end).then(|| (first, end - first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_at_the_end() {
        for (header, expected) in [
            ("bytes=0-0", Some(Some((0, 1)))),
            ("bytes=2-", Some(Some((2, 8)))),
            ("bytes=2-100", Some(Some((2, 8)))),
            ("bytes=-3", Some(Some((7, 3)))),
            ("bytes=-100", Some(Some((0, 10)))),
            ("bytes=10-", Some(None)),
            ("bytes=10-12", Some(None)),
            ("bytes=-0", Some(None)),
            ("bytes=3-2", None),
            ("bytes=0-1,4-5", None),
            ("lines=0-1", None),
        ] {
            assert_eq!(ByteRange::parse(header).map(|range| range.within(10)), expected, "{header}");
        }
    }
}
