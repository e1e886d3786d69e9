//! The part of Amazon S3 that the functions use, on loopback and in memory: a test double.
//!
//! Objects are read, written, listed and deleted by path-style URLs, whatever the bucket's name; a write may be conditional. No
//! signature is checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// How many keys a page of a list has: fewer than S3's, so that small lists have several.
const PAGE: usize = 100;

/// A local S3, for as long as it lives.
#[derive(Debug)]
pub struct S3Local {
    address: SocketAddr,
    shared: Shared,
    /// Ends with this.
    _server: JoinSet<()>,
}

type Shared = Arc<Mutex<Objects>>;

#[derive(Debug, Default)]
struct Objects {
    /// By bucket and key.
    content: BTreeMap<(String, String), Bytes>,
    /// How many more writes are taken; any number without one.
    writes_left: Option<usize>,
    /// The writes that are taken before one whose answer is lost.
    writes_until_lost: Option<usize>,
    calls: BTreeMap<&'static str, u64>,
    asked: BTreeSet<Asked>,
}

/// What IAM would be asked about a call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// The call.
    pub call: &'static str,
    /// The action, such as `s3:GetObject`.
    pub action: &'static str,
    /// The ARN of the bucket or the object.
    pub resource: String,
}

impl Objects {
    /// Counts a call, and notes what IAM would be asked about it; without a key it is about the bucket.
    fn call(&mut self, call: &'static str, action: &'static str, bucket: &str, keys: &[&str]) {
        *self.calls.entry(call).or_default() += 1;
        self.ask(call, action, bucket, keys);
    }

    fn ask(&mut self, call: &'static str, action: &'static str, bucket: &str, keys: &[&str]) {
        let bucket = format!("arn:aws:s3:::{bucket}");
        let resources = keys.iter().map(|key| format!("{bucket}/{key}")).chain(keys.is_empty().then(|| bucket.clone()));
        self.asked.extend(resources.map(|resource| Asked { call, action, resource }));
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, Objects> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl S3Local {
    /// Starts one.
    ///
    /// # Errors
    /// When no port can be listened on.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Shared::default();
        let router = Router::new()
            .route("/{bucket}", get(list).post(delete))
            .route("/{bucket}/", get(list).post(delete))
            .route("/{bucket}/{*key}", get(read).put(write))
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&shared));
        let mut server = JoinSet::new();
        server.spawn(async move {
            // It ends with the task.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, shared, _server: server })
    }

    /// Its URL.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// An object's content.
    #[must_use]
    pub fn object(&self, bucket: &str, key: &str) -> Option<Bytes> {
        lock(&self.shared).content.get(&(bucket.to_owned(), key.to_owned())).cloned()
    }

    /// The keys of a bucket, in order.
    #[must_use]
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        let objects = lock(&self.shared);
        objects.content.keys().filter(|(of, _)| of == bucket).map(|(_, key)| key.clone()).collect()
    }

    /// How often an operation was called, answered calls and refused ones alike.
    #[must_use]
    pub fn calls(&self, operation: &str) -> u64 {
        lock(&self.shared).calls.get(operation).copied().unwrap_or_default()
    }

    /// What IAM would have been asked since the start, or since the last time that it was forgotten.
    #[must_use]
    pub fn asked(&self) -> BTreeSet<Asked> {
        lock(&self.shared).asked.clone()
    }

    /// Forgets what IAM would have been asked.
    pub fn forget_asked(&self) {
        lock(&self.shared).asked.clear();
    }

    /// From now on, takes so many writes, and answers all after them with an error; any number without one.
    pub fn take_writes(&self, count: Option<usize>) {
        lock(&self.shared).writes_left = count;
    }

    /// After so many writes, takes one and answers it with an error.
    pub fn lose_answer_after(&self, writes: usize) {
        lock(&self.shared).writes_until_lost = Some(writes);
    }
}

fn refused(status: StatusCode, code: &str) -> Response {
    let body = format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>");
    (status, [(header::CONTENT_TYPE, "application/xml")], body).into_response()
}

fn xml(body: String) -> Response {
    ([(header::CONTENT_TYPE, "application/xml")], body).into_response()
}

/// The same for the same content, as S3's is.
fn etag(content: &Bytes) -> String {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

async fn read(State(shared): State<Shared>, Path(name): Path<(String, String)>) -> Response {
    let mut objects = lock(&shared);
    objects.call("GetObject", "s3:GetObject", &name.0, &[&name.1]);
    if let Some(content) = objects.content.get(&name).cloned() {
        return ([(header::ETAG, etag(&content))], content).into_response();
    }
    // Who may not list the bucket is told that it may not read what is not there.
    objects.ask("GetObject", "s3:ListBucket", &name.0, &[]);
    refused(StatusCode::NOT_FOUND, "NoSuchKey")
}

async fn write(
    State(shared): State<Shared>,
    Path(name): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut objects = lock(&shared);
    objects.call("PutObject", "s3:PutObject", &name.0, &[&name.1]);
    // A body in signed chunks is not what would be stored.
    if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding == "aws-chunked") {
        return refused(StatusCode::NOT_IMPLEMENTED, "NotImplemented");
    }
    if let Some(left) = &mut objects.writes_left {
        match left.checked_sub(1) {
            Some(fewer) => *left = fewer,
            None => return refused(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        }
    }
    let there = objects.content.get(&name).map(etag);
    // Whether an object is the one that is expected, is for who may read it.
    if headers.contains_key(header::IF_MATCH) {
        objects.ask("PutObject", "s3:GetObject", &name.0, &[&name.1]);
    }
    let condition = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match (condition(header::IF_MATCH), condition(header::IF_NONE_MATCH), there) {
        (Some(_), _, None) => return refused(StatusCode::NOT_FOUND, "NoSuchKey"),
        (Some(wanted), _, Some(there)) if wanted != there => {
            return refused(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
        }
        (None, Some("*"), Some(_)) => return refused(StatusCode::PRECONDITION_FAILED, "PreconditionFailed"),
        _ => {}
    }
    let written = [(header::ETAG, etag(&body))];
    objects.content.insert(name, body);
    match objects.writes_until_lost {
        Some(0) => {
            objects.writes_until_lost = None;
            return refused(StatusCode::INTERNAL_SERVER_ERROR, "InternalError");
        }
        Some(more) => objects.writes_until_lost = Some(more - 1),
        None => {}
    }
    written.into_response()
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Listing {
    #[serde(default)]
    prefix: String,
    continuation_token: Option<String>,
}

async fn list(State(shared): State<Shared>, Path(bucket): Path<String>, Query(listing): Query<Listing>) -> Response {
    let mut objects = lock(&shared);
    objects.call("ListObjectsV2", "s3:ListBucket", &bucket, &[]);
    let after = listing.continuation_token.unwrap_or_default();
    let names = objects.content.keys().filter(|(of, key)| *of == bucket && key.starts_with(&listing.prefix));
    let mut names = names.map(|(_, key)| key).filter(|key| **key > after).peekable();
    let mut body = String::from("<ListBucketResult>");
    let mut last = None;
    for key in names.by_ref().take(PAGE) {
        // Writing to a text cannot fail. No key of the functions' has what XML would have to escape.
        let _ = write!(body, "<Contents><Key>{key}</Key></Contents>");
        last = Some(key);
    }
    match last.filter(|_| names.peek().is_some()) {
        Some(last) => {
            let token = format!("<NextContinuationToken>{last}</NextContinuationToken>");
            let _ = write!(body, "<IsTruncated>true</IsTruncated>{token}</ListBucketResult>");
        }
        None => body.push_str("<IsTruncated>false</IsTruncated></ListBucketResult>"),
    }
    xml(body)
}

/// DeleteObjects: the only call that is posted to a bucket.
async fn delete(State(shared): State<Shared>, Path(bucket): Path<String>, body: String) -> Response {
    let mut objects = lock(&shared);
    let keys = body.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
    let keys: Vec<&str> = keys.map(|(key, _)| key).collect();
    objects.call("DeleteObjects", "s3:DeleteObject", &bucket, &keys);
    for key in keys {
        objects.content.remove(&(bucket.clone(), key.to_owned()));
    }
    xml("<DeleteResult></DeleteResult>".to_owned())
}
