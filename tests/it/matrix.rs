//! Each call that the functions make times each fault, once and for ever, through all functions and the retriers of the
//! state machine. What came of it is the tables of docs/reliability.md: `UPDATE_DOCS=1` writes them.
//!
//! Left out, for they would show nothing else: a 500 that is answered when the call took effect (it is the lost answer), an answer
//! that never comes (each attempt has a time-out of a minute, and then it is a connection that was cut), lies that nobody could
//! tell from the truth (a target that says it has the image, and has not).

use std::{
    cell::Cell,
    collections::BTreeMap,
    fmt::Write as _,
    fs::File,
    io::{Read as _, Seek as _, Write as _},
    panic::AssertUnwindSafe,
    path::Path,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use aws_config::SdkConfig;
use ecr_local::{Fault, Meanwhile};
use futures::{FutureExt as _, StreamExt as _, stream};
use serde_json::{Value, json};
use shared::{
    contract::{Put, Status},
    copy::Uploads,
    error::Class,
    names::Digest,
};

use crate::{
    execution::{Course, Failed, Functions, State, Undisturbed, named},
    sample::{IMAGES, SIGNATURE, Sample, Way, digest, execution_input},
    world::{OCI_INDEX, SOURCE, TARGET, sdk_config},
};

/// The time of an invocation that would wait until its deadline.
const SHORT: Duration = Duration::from_secs(4);

/// After this, a cell hangs.
const PATIENCE: Duration = Duration::from_secs(80);

/// Where nobody listens.
const NOBODY: &str = "http://127.0.0.1:9/";

/// Something that answers nothing, and counts who comes: no call may be led there.
static ELSEWHERE: LazyLock<(String, Arc<AtomicU32>)> = LazyLock::new(|| {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let visits = Arc::new(AtomicU32::new(0));
    let (url, counted) = (format!("http://{}/", listener.local_addr().unwrap()), Arc::clone(&visits));
    std::thread::spawn(move || listener.incoming().for_each(|_| _ = counted.fetch_add(1, Ordering::SeqCst)));
    (url, visits)
});

/// A call as a state makes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) operation: &'static str,
    pub(crate) region: &'static str,
    pub(crate) state: State,
    pub(crate) way: Way,
}

const fn call(operation: &'static str, region: &'static str, state: State, way: Way) -> Call {
    Call { operation, region, state, way }
}

/// What a fault is to the call that meets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Met once, it keeps nothing from arriving.
    Passing,
    /// As that; and met for ever it is waited for until the deadline.
    Awaited,
    /// It is as it is: that it is named, and how, is all that is asked.
    Lasting,
}
use Kind::{Awaited, Lasting, Passing};

pub(crate) struct Row {
    pub(crate) call: Call,
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) fault: Fault,
    /// What else goes wrong, for the call is made only then.
    pub(crate) before: Option<Fault>,
}

impl Row {
    /// How many calls an error that lasts may meet, for each is made once: by each manifest, layer or platform under way.
    /// Nothing can be said where others than the last one are no error, nor of a download: its URL may have expired.
    fn most_calls(&self) -> Option<u64> {
        let is_error = self.fault.status.is_some() && self.fault.digest.is_none();
        (is_error && self.call.operation != "DownloadLayer").then_some(match (self.call.state, self.call.operation) {
            (_, "ListImageReferrers") | (State::PutManifest, _) => 3,
            (State::CopyLayers, _) => self.call.way.blobs().len() as u64,
            _ => 1,
        })
    }
}

/// What any call of the API may meet.
pub(crate) fn of_any(operation: &str) -> Vec<(&'static str, Kind, Fault)> {
    let error = |status, code| Fault::new(operation, status, code);
    vec![
        ("`ThrottleException`", Awaited, error(400, "ThrottleException")),
        ("429", Awaited, error(429, "TooManyRequestsException")),
        ("500 `ServerException`", Passing, error(500, "ServerException")),
        ("503, a proxy's page", Passing, Fault { status: Some(503), ..Fault::of(operation).body("<html>") }),
        ("connection cut before the request", Passing, Fault::cut(operation, 0)),
        ("connection cut in the request", Passing, Fault::cut(operation, 20)),
        ("request read slowly", Passing, Fault::of(operation).read_slowly(5000)),
        ("done, and the answer lost", Passing, Fault::cut(operation, 20).after_effect()),
        ("connection cut in the answer", Passing, Fault::of(operation).cut_answer_after(7)),
        ("answer ends midway", Passing, Fault::of(operation).truncate(7)),
        ("answer is no JSON", Passing, Fault::of(operation).body("<html>")),
        ("answer trickles", Passing, Fault::of(operation).trickle(5000)),
        (
            "redirect to another host",
            Passing,
            Fault { status: Some(307), ..Fault::of(operation).body("").location(&ELSEWHERE.0) },
        ),
        ("`AccessDeniedException`", Lasting, error(400, "AccessDeniedException")),
        ("`InvalidParameterException`", Lasting, error(400, "InvalidParameterException")),
    ]
}

/// What a call on a repository may meet besides.
fn of_repository(operation: &str) -> Vec<(&'static str, Kind, Fault)> {
    vec![
        ("`RepositoryNotFoundException`", Lasting, Fault::new(operation, 400, "RepositoryNotFoundException")),
        ("repository deleted midway", Lasting, Fault::of(operation).meanwhile(Meanwhile::DeleteRepository)),
    ]
}

/// What a call may be told of the repository's KMS key.
fn of_key(operation: &str) -> Vec<(&'static str, Kind, Fault)> {
    let error = || Fault::new(operation, 400, "KmsException");
    vec![
        ("`KmsException`", Lasting, error()),
        ("`KmsException`: KMS throttles", Awaited, error().body(json!({"kmsError": "ThrottlingException"}))),
    ]
}

/// What BatchGetImage may be refused with besides.
fn of_images() -> Vec<(&'static str, Kind, Fault)> {
    let error = |code| Fault::new("BatchGetImage", 400, code);
    vec![
        ("`UnableToGetUpstreamImageException`", Passing, error("UnableToGetUpstreamImageException")),
        ("`LimitExceededException`", Lasting, error("LimitExceededException")),
    ]
}

/// What a request of `/v2` may meet.
fn of_v2(operation: &str) -> Vec<(&'static str, Kind, Fault)> {
    let error = |status, code| Fault::new(operation, status, code);
    vec![
        ("429 `TOOMANYREQUESTS`", Awaited, error(429, "TOOMANYREQUESTS")),
        ("500", Passing, error(500, "UNKNOWN")),
        ("503, a proxy's page", Passing, Fault { status: Some(503), ..Fault::of(operation).body("<html>") }),
        ("401 `UNAUTHORIZED`", Passing, error(401, "UNAUTHORIZED")),
        ("403 `DENIED`", Passing, error(403, "DENIED")),
        ("404 `NAME_UNKNOWN`", Passing, error(404, "NAME_UNKNOWN")),
        ("405 `UNSUPPORTED`", Passing, error(405, "UNSUPPORTED")),
        ("connection cut before the request", Passing, Fault::cut(operation, 0)),
        ("done, and the answer lost", Passing, Fault::cut(operation, 20).after_effect()),
        // Its answers have no body of their own.
        ("connection cut in the answer", Passing, Fault::of(operation).extend(10).cut_answer_after(3)),
        (
            "redirect to another host",
            Passing,
            Fault { code: "Moved".to_owned(), status: Some(307), ..Fault::of(operation).location(&ELSEWHERE.0) },
        ),
        ("upload forgotten midway", Passing, Fault::of(operation).meanwhile(Meanwhile::ForgetUploads)),
        ("repository deleted midway", Lasting, Fault::of(operation).meanwhile(Meanwhile::DeleteRepository)),
    ]
}

fn rows_of(call: Call, faults: Vec<(&'static str, Kind, Fault)>) -> Vec<Row> {
    let row = |(name, kind, fault): (_, _, Fault)| Row {
        call,
        name,
        kind,
        fault: fault.in_region(call.region),
        before: None,
    };
    faults.into_iter().map(row).collect()
}

/// All rows.
pub(crate) fn rows() -> Vec<Row> {
    [resolving(), settling(), reading(), streaming(), in_parts(), asking_again(), putting(), referring()]
        .into_iter()
        .flatten()
        .collect()
}

/// ResolveImage and EnsureRepository.
fn resolving() -> Vec<Row> {
    let mut rows = Vec::new();
    let read = call("BatchGetImage", SOURCE, State::ResolveImage, Way::Stream);
    let failure = |code: &str| {
        Fault::of("BatchGetImage")
            .body(json!({"images": [], "failures": [{"failureCode": code, "failureReason": code}]}))
    };
    let no_json = json!({
        "imageManifest": "no manifest", "imageManifestMediaType": OCI_INDEX,
        "imageId": {"imageDigest": Digest::of(b"no manifest").as_str(), "imageTag": "v1"},
    });
    let no_json = Fault::of("BatchGetImage").body(json!({"images": [no_json], "failures": []}));
    rows.extend(rows_of(read, of_any(read.operation)));
    rows.extend(rows_of(read, of_repository(read.operation)));
    rows.extend(rows_of(read, of_images()));
    rows.extend(rows_of(
        read,
        vec![
            ("failure `ImageNotFound`", Lasting, failure("ImageNotFound")),
            ("failure `ImageInaccessible`", Lasting, failure("ImageInaccessible")),
            ("failure `InvalidImageDigest`", Lasting, failure("InvalidImageDigest")),
            ("failure `InvalidImageTag`", Lasting, failure("InvalidImageTag")),
            ("failure `ImageTagDoesNotMatchDigest`", Lasting, failure("ImageTagDoesNotMatchDigest")),
            ("failure `MissingDigestAndTag`", Lasting, failure("MissingDigestAndTag")),
            ("failure `ImageReferencedByManifestList`", Lasting, failure("ImageReferencedByManifestList")),
            ("failure `KmsError`", Lasting, failure("KmsError")),
            ("failure `UpstreamAccessDenied`", Lasting, failure("UpstreamAccessDenied")),
            ("failure `UpstreamTooManyRequests`", Passing, failure("UpstreamTooManyRequests")),
            ("failure `UpstreamUnavailable`", Passing, failure("UpstreamUnavailable")),
            (
                "another manifest than the digest's",
                Passing,
                Fault::of("BatchGetImage").body(json!({"images": {"imageManifest": "{}"}})),
            ),
            ("a manifest that is no JSON, under its own digest", Lasting, no_json),
            (
                "image deleted midway",
                Lasting,
                Fault::of("BatchGetImage").meanwhile(Meanwhile::DeleteImage(digest(&IMAGES.index).to_string())),
            ),
        ],
    ));
    let list = call("ListImageReferrers", SOURCE, State::ResolveImage, Way::Stream);
    rows.extend(rows_of(list, of_any(list.operation)));
    rows.extend(rows_of(list, of_repository(list.operation)));
    rows.extend(rows_of(
        list,
        vec![
            (
                "a referrer whose digest is none",
                Passing,
                Fault::of(list.operation)
                    .body(json!({"referrers": [{"digest": "none", "mediaType": OCI_INDEX, "size": 1}]})),
            ),
            (
                "`UnableToListUpstreamImageReferrersException`",
                Passing,
                Fault::new(list.operation, 400, "UnableToListUpstreamImageReferrersException"),
            ),
            ("`ValidationException`", Lasting, Fault::new(list.operation, 400, "ValidationException")),
        ],
    ));
    let recent = call("DescribeImages", SOURCE, State::ResolveImage, Way::Untagged);
    rows.extend(rows_of(recent, of_any(recent.operation)));
    rows.extend(rows_of(recent, of_repository(recent.operation)));
    let not_found = Fault::new(recent.operation, 400, "ImageNotFoundException");
    rows.extend(rows_of(recent, vec![("`ImageNotFoundException`", Lasting, not_found)]));
    for region in [TARGET, SOURCE] {
        let describe = call("DescribeRepositories", region, State::EnsureRepository, Way::Stream);
        rows.extend(rows_of(describe, of_any(describe.operation)));
        rows.extend(rows_of(describe, of_repository(describe.operation)[..1].to_vec()));
    }
    let tags = call("ListTagsForResource", SOURCE, State::EnsureRepository, Way::Stream);
    rows.extend(rows_of(tags, of_any(tags.operation)));
    rows.extend(rows_of(tags, of_repository(tags.operation)[..1].to_vec()));
    let create = call("CreateRepository", TARGET, State::EnsureRepository, Way::Stream);
    rows.extend(rows_of(create, of_any(create.operation)));
    rows.extend(rows_of(create, of_key(create.operation)));
    let error = |code| Fault::new(create.operation, 400, code);
    rows.extend(rows_of(
        create,
        vec![
            (
                "another run was faster: `RepositoryAlreadyExistsException`",
                Passing,
                error("RepositoryAlreadyExistsException").after_effect(),
            ),
            ("`LimitExceededException`", Lasting, error("LimitExceededException")),
            ("`InvalidTagParameterException`", Lasting, error("InvalidTagParameterException")),
            ("`TooManyTagsException`", Lasting, error("TooManyTagsException")),
        ],
    ));
    rows
}

/// EnsureRepository, of the policies of a repository that it makes.
fn settling() -> Vec<Row> {
    let mut rows = Vec::new();
    let none = |name, operation, code| (name, Passing, Fault::new(operation, 400, code));
    for (operation, name, code) in [
        ("GetLifecyclePolicy", "`LifecyclePolicyNotFoundException`", "LifecyclePolicyNotFoundException"),
        ("GetRepositoryPolicy", "`RepositoryPolicyNotFoundException`", "RepositoryPolicyNotFoundException"),
    ] {
        let get = call(operation, SOURCE, State::EnsureRepository, Way::Stream);
        rows.extend(rows_of(get, of_any(operation)));
        rows.extend(rows_of(get, of_repository(operation)[..1].to_vec()));
        rows.extend(rows_of(get, vec![none(name, operation, code)]));
        if operation == "GetLifecyclePolicy" {
            let invalid = Fault::new(operation, 400, "ValidationException");
            rows.extend(rows_of(get, vec![("`ValidationException`", Lasting, invalid)]));
        }
    }
    for operation in ["PutLifecyclePolicy", "SetRepositoryPolicy"] {
        let put = call(operation, TARGET, State::EnsureRepository, Way::Stream);
        rows.extend(rows_of(put, of_any(operation)));
        rows.extend(rows_of(put, of_repository(operation)));
        if operation == "PutLifecyclePolicy" {
            let invalid = Fault::new(operation, 400, "ValidationException");
            rows.extend(rows_of(put, vec![("`ValidationException`", Lasting, invalid)]));
        }
    }
    // The repository is marked until it has its policies; one that another run has made is looked at for that mark.
    let untag = call("UntagResource", TARGET, State::EnsureRepository, Way::Stream);
    let error = |code| Fault::new(untag.operation, 400, code);
    rows.extend(rows_of(untag, of_any(untag.operation)));
    rows.extend(rows_of(untag, of_repository(untag.operation)));
    rows.extend(rows_of(
        untag,
        vec![
            ("`InvalidTagParameterException`", Lasting, error("InvalidTagParameterException")),
            ("`TooManyTagsException`", Lasting, error("TooManyTagsException")),
        ],
    ));
    let tags = call("ListTagsForResource", TARGET, State::EnsureRepository, Way::Stream);
    let mut found = rows_of(tags, of_any(tags.operation));
    found.extend(rows_of(tags, of_repository(tags.operation)));
    let faster = Fault::new("CreateRepository", 400, "RepositoryAlreadyExistsException").after_effect();
    let faster = faster.in_region(TARGET);
    rows.extend(found.into_iter().map(|row| Row { before: Some(faster.clone()), ..row }));
    rows
}

/// CopyLayers at the source.
fn reading() -> Vec<Row> {
    let mut rows = Vec::new();
    let walk = call("BatchGetImage", SOURCE, State::CopyLayers, Way::Unsigned);
    // All else is as in ResolveImage.
    let kept = ["`ThrottleException`", "500 `ServerException`", "`AccessDeniedException`"];
    let some = of_any(walk.operation).into_iter().filter(|(name, ..)| kept.contains(name)).collect();
    rows.extend(rows_of(walk, some));
    rows.extend(rows_of(walk, of_repository(walk.operation)));
    rows.extend(rows_of(
        walk,
        vec![
            (
                "image deleted midway",
                Lasting,
                Fault::of(walk.operation).meanwhile(Meanwhile::DeleteImage(digest(&IMAGES.index).to_string())),
            ),
            (
                "another manifest than the digest's",
                Passing,
                Fault::of(walk.operation).body(json!({"images": {"imageManifest": "{}"}})),
            ),
        ],
    ));
    for way in [Way::Unsigned, Way::UnsignedParts] {
        let url = call("GetDownloadUrlForLayer", SOURCE, State::CopyLayers, way);
        let error = |code| Fault::new(url.operation, 400, code);
        let lie = |url: &str| Fault::of("GetDownloadUrlForLayer").body(json!({"downloadUrl": url}));
        // A layer is read six times before it is given up, with pauses: what lasts is waited for until the deadline.
        let waited = |(name, kind, fault)| (name, if kind == Passing { Awaited } else { kind }, fault);
        rows.extend(rows_of(url, of_any(url.operation).into_iter().map(waited).collect()));
        rows.extend(rows_of(url, of_repository(url.operation)));
        rows.extend(rows_of(
            url,
            vec![
                ("`LayersNotFoundException`", Awaited, error("LayersNotFoundException")),
                ("`LayerInaccessibleException`", Awaited, error("LayerInaccessibleException")),
                ("`UnableToGetUpstreamLayerException`", Awaited, error("UnableToGetUpstreamLayerException")),
                (
                    "image deleted midway",
                    Lasting,
                    Fault::of(url.operation).meanwhile(Meanwhile::DeleteImage(digest(&IMAGES.index).to_string())),
                ),
                ("no URL in the answer", Awaited, lie("")),
                ("a URL where nobody listens", Awaited, lie(NOBODY)),
            ],
        ));
        let read = call("DownloadLayer", SOURCE, State::CopyLayers, way);
        let error = |status, code| Fault::new(read.operation, status, code);
        rows.extend(rows_of(
            read,
            vec![
                ("503 `SlowDown`", Awaited, error(503, "SlowDown")),
                ("429", Awaited, error(429, "TooManyRequests")),
                ("500 `InternalError`", Awaited, error(500, "InternalError")),
                ("403 `AccessDenied`", Passing, error(403, "AccessDenied")),
                ("404 `NoSuchKey`", Awaited, error(404, "NoSuchKey")),
                ("416 `InvalidRange`", Passing, error(416, "InvalidRange")),
                ("URL expired midway", Passing, Fault::of(read.operation).meanwhile(Meanwhile::ExpireUrls)),
                ("connection cut before the body", Awaited, Fault::cut(read.operation, 0)),
                ("connection cut in the body", Awaited, Fault::cut(read.operation, 3)),
                ("truncated", Awaited, Fault::of(read.operation).truncate(3)),
                ("extended", Awaited, Fault::of(read.operation).extend(10)),
                ("corrupted", Passing, Fault::of(read.operation).corrupt(2)),
                ("trickles", Awaited, Fault::of(read.operation).trickle(3000)),
                (
                    "200 with a page in its place",
                    Passing,
                    Fault { status: Some(200), ..Fault::of(read.operation).body("<html>") },
                ),
                (
                    "redirect to another host",
                    Awaited,
                    Fault {
                        code: "Moved".to_owned(),
                        status: Some(307),
                        ..Fault::of(read.operation).location(&ELSEWHERE.0)
                    },
                ),
            ],
        ));
    }
    rows
}

/// CopyLayers at the target, by stream.
fn streaming() -> Vec<Row> {
    let mut rows = Vec::new();
    let check = call("BatchCheckLayerAvailability", TARGET, State::CopyLayers, Way::Unsigned);
    let lie = |answer: Value| Fault::of("BatchCheckLayerAvailability").body(answer);
    rows.extend(rows_of(check, of_any(check.operation)));
    rows.extend(rows_of(check, of_repository(check.operation)));
    rows.extend(rows_of(
        check,
        vec![
            (
                "failure `MissingLayerDigest`",
                Passing,
                lie(json!({"layers": [], "failures": [{"failureCode": "MissingLayerDigest"}]})),
            ),
            (
                "failure `InvalidLayerDigest`",
                Lasting,
                lie(json!({"layers": [], "failures": [{"failureCode": "InvalidLayerDigest"}]})),
            ),
            (
                "lie: every layer is there",
                Passing,
                lie(json!({"layers": {"layerAvailability": "AVAILABLE", "layerSize": 1}})),
            ),
            (
                "lie: no layer is there",
                Passing,
                lie(json!({"layers": {"layerAvailability": "UNAVAILABLE", "layerSize": null}})),
            ),
        ],
    ));
    let token = call("GetAuthorizationToken", TARGET, State::CopyLayers, Way::Unsigned);
    let lie = |answer: Value| Fault::of("GetAuthorizationToken").body(answer);
    rows.extend(rows_of(token, of_any(token.operation)));
    rows.extend(rows_of(
        token,
        vec![
            ("no token in the answer", Passing, lie(json!({"authorizationData": []}))),
            ("a token that is none", Passing, lie(json!({"authorizationData": {"authorizationToken": "none"}}))),
            ("an endpoint where nobody listens", Passing, lie(json!({"authorizationData": {"proxyEndpoint": NOBODY}}))),
        ],
    ));
    for operation in ["v2:POST upload", "v2:PATCH upload", "v2:PUT upload"] {
        let request = call(operation, TARGET, State::CopyLayers, Way::Unsigned);
        rows.extend(rows_of(request, of_v2(operation)));
        if operation != "v2:PUT upload" {
            let location = Fault::of(operation).location(&ELSEWHERE.0);
            rows.extend(rows_of(request, vec![("`Location` at another host", Passing, location)]));
        }
    }
    let patch = call("v2:PATCH upload", TARGET, State::CopyLayers, Way::Unsigned);
    rows.extend(rows_of(
        patch,
        vec![
            ("connection cut in the body", Passing, Fault::cut(patch.operation, 3)),
            ("request read slowly", Passing, Fault::of(patch.operation).read_slowly(5000)),
            ("only a beginning is kept", Passing, Fault::of(patch.operation).keep(3)),
            ("416 `BLOB_UPLOAD_INVALID`", Passing, Fault::new(patch.operation, 416, "BLOB_UPLOAD_INVALID")),
        ],
    ));
    let put = call("v2:PUT upload", TARGET, State::CopyLayers, Way::Unsigned);
    rows.extend(rows_of(
        put,
        vec![("400 `DIGEST_INVALID`", Passing, Fault::new(put.operation, 400, "DIGEST_INVALID"))],
    ));
    rows
}

/// CopyLayers at the target, by parts.
fn in_parts() -> Vec<Row> {
    let mut rows = Vec::new();
    for operation in ["InitiateLayerUpload", "UploadLayerPart", "CompleteLayerUpload"] {
        let part = call(operation, TARGET, State::CopyLayers, Way::UnsignedParts);
        rows.extend(rows_of(part, of_any(operation)));
        rows.extend(rows_of(part, of_repository(operation)));
        rows.extend(rows_of(part, of_key(operation)));
    }
    let begin = call("InitiateLayerUpload", TARGET, State::CopyLayers, Way::UnsignedParts);
    rows.extend(rows_of(
        begin,
        vec![
            ("no upload id in the answer", Passing, Fault::of(begin.operation).body(json!({"uploadId": null}))),
            (
                "an upload id that is unknown",
                Passing,
                Fault::of(begin.operation).body(json!({"uploadId": "00000000-0000-4000-8000-000000000000"})),
            ),
            ("a part size of 0", Passing, Fault::of(begin.operation).body(json!({"partSize": 0}))),
            (
                "a part size of 1 TB",
                Passing,
                Fault::of(begin.operation).body(json!({"partSize": 1_000_000_000_000_u64})),
            ),
        ],
    ));
    let part = call("UploadLayerPart", TARGET, State::CopyLayers, Way::UnsignedParts);
    let error = |code| Fault::new("UploadLayerPart", 400, code);
    rows.extend(rows_of(
        part,
        vec![
            ("`InvalidLayerPartException`, without a byte", Passing, error("InvalidLayerPartException")),
            (
                "`InvalidLayerPartException`, a lower byte",
                Passing,
                error("InvalidLayerPartException").body(json!({"lastValidByteReceived": 2})),
            ),
            (
                "`InvalidLayerPartException`, a byte too high",
                Passing,
                error("InvalidLayerPartException").body(json!({"lastValidByteReceived": 999_999_999})),
            ),
            ("`UploadNotFoundException`", Passing, error("UploadNotFoundException")),
            ("`LimitExceededException`", Lasting, error("LimitExceededException")),
            ("upload forgotten midway", Passing, Fault::of(part.operation).meanwhile(Meanwhile::ForgetUploads)),
            ("part acknowledged short", Passing, Fault::of(part.operation).keep(3)),
            (
                "lie: more was received than was sent",
                Passing,
                Fault::of(part.operation).body(json!({"lastByteReceived": 999_999_999})),
            ),
        ],
    ));
    let complete = call("CompleteLayerUpload", TARGET, State::CopyLayers, Way::UnsignedParts);
    let error = |code| Fault::new("CompleteLayerUpload", 400, code);
    rows.extend(rows_of(
        complete,
        vec![
            ("`UploadNotFoundException`", Passing, error("UploadNotFoundException")),
            ("`EmptyUploadException`", Passing, error("EmptyUploadException")),
            ("`InvalidLayerException`", Passing, error("InvalidLayerException")),
            ("`LayerPartTooSmallException`", Passing, error("LayerPartTooSmallException")),
            (
                "another run was faster: `LayerAlreadyExistsException`",
                Passing,
                error("LayerAlreadyExistsException").after_effect(),
            ),
            ("lie: `LayerAlreadyExistsException`", Passing, error("LayerAlreadyExistsException")),
            ("upload forgotten midway", Passing, Fault::of(complete.operation).meanwhile(Meanwhile::ForgetUploads)),
        ],
    ));
    rows
}

/// PutManifest, of what it reads.
fn looking() -> Vec<Row> {
    let mut rows = Vec::new();
    // Without a pause: only puts are waited for.
    let at_once = |(name, kind, fault)| (name, if kind == Awaited { Passing } else { kind }, fault);
    for region in [SOURCE, TARGET] {
        let read = call("BatchGetImage", region, State::PutManifest, Way::Unsigned);
        rows.extend(rows_of(read, of_any(read.operation).into_iter().map(at_once).collect()));
        rows.extend(rows_of(read, of_repository(read.operation)));
        let failure = json!({"images": [], "failures": [{"failureCode": "KmsError", "failureReason": "disabled"}]});
        rows.extend(rows_of(read, vec![("failure `KmsError`", Lasting, Fault::of(read.operation).body(failure))]));
        rows.extend(rows_of(read, of_images()));
    }
    let read = call("BatchGetImage", SOURCE, State::PutManifest, Way::Unsigned);
    let deleted = Meanwhile::DeleteImage(digest(&IMAGES.index).to_string());
    rows.extend(rows_of(
        read,
        vec![
            (
                "another manifest than the digest's",
                Passing,
                Fault::of(read.operation).body(json!({"images": {"imageManifest": "{}"}})),
            ),
            ("image deleted midway", Lasting, Fault::of(read.operation).meanwhile(deleted.clone())),
            ("image deleted when the tag is looked at", Lasting, Fault::of(read.operation).meanwhile(deleted).skip(2)),
            (
                "500 when the tag is looked at again",
                Passing,
                Fault::new(read.operation, 500, "ServerException").skip(3),
            ),
        ],
    ));
    rows
}

/// PutManifest.
fn putting() -> Vec<Row> {
    let mut rows = looking();
    let images = &*IMAGES;
    let put = call("PutImage", TARGET, State::PutManifest, Way::Stream);
    let error = |code| Fault::new("PutImage", 400, code);
    rows.extend(rows_of(put, of_any(put.operation)));
    rows.extend(rows_of(put, of_repository(put.operation)));
    rows.extend(rows_of(put, of_key(put.operation)));
    let platform = digest(&images.platforms[0]);
    rows.extend(rows_of(
        put,
        vec![
            ("`LayersNotFoundException`", Passing, error("LayersNotFoundException")),
            ("`ReferencedImagesNotFoundException`", Passing, error("ReferencedImagesNotFoundException")),
            ("`ImageDigestDoesNotMatchException`", Passing, error("ImageDigestDoesNotMatchException")),
            ("`LimitExceededException`", Lasting, error("LimitExceededException")),
            ("405", Lasting, Fault::new("PutImage", 405, "Unsupported")),
            (
                "another run was faster: `ImageAlreadyExistsException`",
                Passing,
                error("ImageAlreadyExistsException").after_effect(),
            ),
        ],
    ));
    // The index is put by its digest, then its referrer, and then once more with the tag.
    let index = digest(&images.index);
    let of_tag = |fault: Fault| fault.of_image(index.as_str()).skip(1);
    rows.extend(rows_of(
        put,
        vec![
            (
                "a platform deleted before its index is put",
                Passing,
                Fault::of("PutImage").of_image(index.as_str()).meanwhile(Meanwhile::DeleteImage(platform.to_string())),
            ),
            ("the tag: `ThrottleException`", Awaited, of_tag(error("ThrottleException"))),
            ("the tag: 500 `ServerException`", Passing, of_tag(Fault::new("PutImage", 500, "ServerException"))),
            ("the tag: connection cut in the request", Passing, of_tag(Fault::cut("PutImage", 20))),
            ("the tag: done, and the answer lost", Passing, of_tag(Fault::cut("PutImage", 20).after_effect())),
            ("the tag: `AccessDeniedException`", Lasting, of_tag(error("AccessDeniedException"))),
            ("the tag: `ImageTagAlreadyExistsException`", Lasting, of_tag(error("ImageTagAlreadyExistsException"))),
            ("the tag: `LayersNotFoundException`", Passing, of_tag(error("LayersNotFoundException"))),
            (
                "the tag: a platform deleted midway",
                Passing,
                of_tag(Fault::of("PutImage").meanwhile(Meanwhile::DeleteImage(platform.to_string()))),
            ),
            (
                "the tag: repository deleted midway",
                Lasting,
                of_tag(Fault::of("PutImage").meanwhile(Meanwhile::DeleteRepository)),
            ),
        ],
    ));
    let signature = digest(&images.signature);
    let of_signature = |fault: Fault| fault.of_image(signature.as_str());
    rows.extend(rows_of(
        put,
        vec![
            (
                "the referrer: 500 `ServerException`",
                Passing,
                of_signature(Fault::new("PutImage", 500, "ServerException")),
            ),
            ("the referrer: 405", Lasting, of_signature(Fault::new("PutImage", 405, "Unsupported"))),
            ("the referrer: `LayersNotFoundException`", Passing, of_signature(error("LayersNotFoundException"))),
            ("the referrer: `AccessDeniedException`", Lasting, of_signature(error("AccessDeniedException"))),
        ],
    ));
    rows
}

/// CopyLayers, of a layer whose upload is unknown: it may be there.
fn asking_again() -> Vec<Row> {
    let check = call("BatchCheckLayerAvailability", TARGET, State::CopyLayers, Way::Parts);
    let lie = |answer: Value| Fault::of(check.operation).body(answer);
    let mut rows = rows_of(check, of_any(check.operation));
    rows.extend(rows_of(check, of_repository(check.operation)));
    rows.extend(rows_of(
        check,
        vec![
            (
                "failure `InvalidLayerDigest`",
                Lasting,
                lie(json!({"layers": [], "failures": [{"failureCode": "InvalidLayerDigest"}]})),
            ),
            (
                "lie: the layer is there",
                Passing,
                lie(json!({"layers": {"layerAvailability": "AVAILABLE", "layerSize": 1}})),
            ),
        ],
    ));
    // The first such call asks for all layers.
    let unknown = Fault::new("CompleteLayerUpload", 400, "UploadNotFoundException").in_region(TARGET);
    let unknown = unknown.of_layer(Digest::of(&Way::Unsigned.blobs()[0]).as_str());
    let asked_again = |row: Row| Row { before: Some(unknown.clone()), fault: row.fault.skip(1), ..row };
    rows.into_iter().map(asked_again).collect()
}

/// What befalls a referrer alone: its layer, and its manifest.
fn referring() -> Vec<Row> {
    let mut rows = Vec::new();
    let layer = Digest::of(SIGNATURE);
    for way in [Way::Stream, Way::Parts] {
        let url = call("GetDownloadUrlForLayer", SOURCE, State::CopyLayers, way);
        let error = |status, code| Fault::new(url.operation, status, code).of_layer(layer.as_str());
        rows.extend(rows_of(
            url,
            vec![
                ("its layer: `ThrottleException`", Awaited, error(400, "ThrottleException")),
                ("its layer: 429", Awaited, error(429, "TooManyRequestsException")),
                ("its layer: 500 `ServerException`", Awaited, error(500, "ServerException")),
                ("its layer: 503", Awaited, error(503, "ServiceUnavailable")),
                ("its layer: `AccessDeniedException`", Lasting, error(400, "AccessDeniedException")),
            ],
        ));
        let read = call("DownloadLayer", SOURCE, State::CopyLayers, way);
        let error = |status, code| Fault::new(read.operation, status, code);
        let of_layer = |(name, kind, fault): (_, _, Fault)| (name, kind, fault.of_layer(layer.as_str()));
        let faults = [
            ("its layer: 503 `SlowDown`", Awaited, error(503, "SlowDown")),
            ("its layer: 403 `AccessDenied`", Awaited, error(403, "AccessDenied")),
            ("its layer: connection cut in the body", Awaited, Fault::cut(read.operation, 3)),
            ("its layer: corrupted", Passing, Fault::of(read.operation).corrupt(2)),
        ];
        rows.extend(rows_of(read, faults.into_iter().map(of_layer).collect()));
    }
    let stored = call("v2:PUT upload", TARGET, State::CopyLayers, Way::Stream);
    let error = |status, code| Fault::new(stored.operation, status, code).of_layer(layer.as_str());
    rows.extend(rows_of(
        stored,
        vec![
            ("its layer: 500", Passing, error(500, "UNKNOWN")),
            ("its layer: 429 `TOOMANYREQUESTS`", Awaited, error(429, "TOOMANYREQUESTS")),
            ("its layer: 403 `DENIED`", Passing, error(403, "DENIED")),
        ],
    ));
    let complete = call("CompleteLayerUpload", TARGET, State::CopyLayers, Way::Parts);
    let error = |status, code| Fault::new(complete.operation, status, code).of_layer(layer.as_str());
    rows.extend(rows_of(
        complete,
        vec![
            ("its layer: `ThrottleException`", Awaited, error(400, "ThrottleException")),
            ("its layer: 500 `ServerException`", Passing, error(500, "ServerException")),
            ("its layer: `UploadNotFoundException`", Passing, error(400, "UploadNotFoundException")),
            ("its layer: `InvalidLayerException`", Passing, error(400, "InvalidLayerException")),
            ("its layer: `AccessDeniedException`", Lasting, error(400, "AccessDeniedException")),
        ],
    ));
    let put = call("PutImage", TARGET, State::PutManifest, Way::Stream);
    let mismatch = Fault::new(put.operation, 400, "ImageDigestDoesNotMatchException");
    let mismatch = mismatch.of_image(digest(&IMAGES.signature).as_str());
    rows.extend(rows_of(put, vec![("the referrer: `ImageDigestDoesNotMatchException`", Passing, mismatch)]));
    rows
}

/// PutManifest, whose image's tag is at the target, and has moved on at the source to an image that lacks nothing there but
/// its referrer, and the tag.
fn following() -> Vec<Row> {
    let mut rows = Vec::new();
    let kept = [
        "`ThrottleException`",
        "500 `ServerException`",
        "connection cut in the request",
        "answer is no JSON",
        "`AccessDeniedException`",
    ];
    let read = |region, skip, also: Vec<(&'static str, Kind, Fault)>| {
        let read = call("BatchGetImage", region, State::PutManifest, Way::Unsigned);
        let some = of_any(read.operation).into_iter().filter(|(name, ..)| kept.contains(name)).chain(also);
        let at_once =
            |(name, kind, fault): (_, _, Fault)| (name, if kind == Awaited { Passing } else { kind }, fault.skip(skip));
        rows_of(read, some.map(at_once).collect())
    };
    let none = json!({"images": [], "failures": [{"failureCode": "ImageNotFound", "failureReason": "gone"}]});
    let other = json!({"images": {"imageManifest": "{}"}});
    // The image is read with its platforms, and asked for at the target; then the tag is looked at, twice.
    let gone = Fault::of("BatchGetImage").body(none);
    let changed = Fault::of("BatchGetImage").body(other);
    rows.extend(read(
        SOURCE,
        4,
        vec![("failure `ImageNotFound`", Lasting, gone), ("another manifest than the digest's", Passing, changed)],
    ));
    rows.extend(read(TARGET, 1, Vec::new()));
    let list = call("ListImageReferrers", SOURCE, State::PutManifest, Way::Unsigned);
    let some = of_any(list.operation).into_iter().filter(|(name, ..)| kept.contains(name));
    rows.extend(rows_of(
        list,
        some.map(|(name, kind, fault)| (name, if kind == Awaited { Passing } else { kind }, fault)).collect(),
    ));
    for (skip, names) in [
        (
            0,
            [
                "the referrer: `ThrottleException`",
                "the referrer: 500 `ServerException`",
                "the referrer: done, and the answer lost",
                "the referrer: `LayersNotFoundException`",
                "the referrer: `AccessDeniedException`",
            ],
        ),
        (
            1,
            [
                "the tag: `ThrottleException`",
                "the tag: 500 `ServerException`",
                "the tag: done, and the answer lost",
                "the tag: `LayersNotFoundException`",
                "the tag: `AccessDeniedException`",
            ],
        ),
    ] {
        let put = call("PutImage", TARGET, State::PutManifest, Way::Unsigned);
        let error = |status, code| Fault::new(put.operation, status, code);
        let faults = [
            (Awaited, error(400, "ThrottleException")),
            (Passing, error(500, "ServerException")),
            (Passing, Fault::cut(put.operation, 20).after_effect()),
            (Passing, error(400, "LayersNotFoundException")),
            (Lasting, error(400, "AccessDeniedException")),
        ];
        let faults = names.into_iter().zip(faults).map(|(name, (kind, fault))| (name, kind, fault.skip(skip)));
        rows.extend(rows_of(put, faults.collect()));
    }
    rows
}

/// An execution whose registry turns bad before a state is entered for the first time.
struct Armed<'a> {
    sample: &'a Sample,
    row: &'a Row,
    is_for_ever: bool,
    has_begun: Cell<bool>,
}

impl<'a> Armed<'a> {
    fn new(sample: &'a Sample, row: &'a Row, is_for_ever: bool) -> Self {
        Self { sample, row, is_for_ever, has_begun: Cell::new(false) }
    }

    /// How often the row's fault was met.
    fn met(&self) -> u64 {
        self.sample.world.ecr.faults().last().map_or(0, |state| state.met)
    }
}

impl Course for Armed<'_> {
    fn enters(&self, state: State) {
        let Row { call, fault, before, .. } = self.row;
        if state == call.state && !self.has_begun.replace(true) {
            let fault = if self.is_for_ever { fault.clone().for_ever() } else { fault.clone() };
            before.iter().cloned().chain([fault]).for_each(|fault| self.sample.world.ecr.fault(fault));
        }
    }
}

/// What came of a cell: what the table says, and what is wrong with it.
struct Verdict {
    text: String,
    wrong: Option<String>,
}

fn is_fatal(error: &str) -> bool {
    named(error).is_some_and(|name| name.class() == Class::Fatal)
}

/// The functions as a cell runs them.
fn functions(sample: &Sample, row: &Row, is_for_ever: bool) -> Functions {
    let functions = Functions::new(&sample.config, &sample.config, row.call.way.uploads());
    if is_for_ever && row.kind == Awaited { functions.with_time(SHORT) } else { functions }
}

/// What is wrong with how an execution went, whatever is at the target.
fn wrong_way(row: &Row, is_for_ever: bool, met: u64, failed: Option<&Failed>) -> Option<String> {
    if met == 0 {
        return Some("the fault was never met".to_owned());
    }
    let failed = failed?;
    if row.kind == Lasting && !is_fatal(&failed.name) {
        return Some(format!("what lasts is named as what passes: {}", failed.name));
    }
    let is_met_again = is_fatal(&failed.name) && is_for_ever && met > row.most_calls().unwrap_or(u64::MAX);
    if is_met_again || failed.tried_again.iter().any(|error| is_fatal(error)) {
        return Some(format!("what lasts was tried again: met {met} times, {:?}", failed.tried_again));
    }
    (row.kind != Lasting && !is_for_ever).then(|| "what passes kept the image from arriving".to_owned())
}

async fn verdict(row: &Row, is_for_ever: bool, config: &SdkConfig, client: &reqwest::Client) -> Verdict {
    let sample = Sample::set(row.call.way, config).await;
    let functions = functions(&sample, row, is_for_ever);
    let course = Armed::new(&sample, row, is_for_ever);
    let execution = async {
        let Some(round) = functions.resolve(&course, &execution_input(row.call.way)).await? else { return Ok(None) };
        functions.replicate(&course, &round, &round.targets[0]).await.ended.map(Some)
    };
    let ended: Result<Option<Put>, Failed> = execution.await;
    let put = ended.as_ref().ok().and_then(Option::as_ref);
    let met = course.met();
    let wrong = sample.wrong(row.call.way, put, client).await;
    let wrong = wrong.map(|wrong| format!("{wrong:?}"));
    let wrong = wrong.or_else(|| wrong_way(row, is_for_ever, met, ended.as_ref().err()));
    let is_less = ended.is_ok() && put.is_none_or(|put| put.status == Status::Superseded || put.referrers_refused > 0);
    let wrong = wrong.or_else(|| {
        let is_wrong = row.kind != Lasting && !is_for_ever && is_less;
        is_wrong.then(|| "what passes kept the image, the tag or the referrer from arriving".to_owned())
    });
    let wrong = wrong.or_else(|| {
        let is_superseded = put.is_some_and(|put| put.status == Status::Superseded);
        let is_wrong = row.kind == Passing && is_superseded;
        is_wrong.then(|| "superseded, and nothing has taken the source's tag away".to_owned())
    });
    let text = match &ended {
        Ok(None) => "nothing to do".to_owned(),
        Ok(Some(put)) if put.status == Status::Superseded => "the image, not its tag".to_owned(),
        Ok(Some(put)) => match put.refusals.first() {
            Some(refusal) => format!("the image; its referrer: `{}`", refusal.error),
            None => "the image".to_owned(),
        },
        Err(failed) => format!("`{}` ({})", failed.name, failed.attempts()),
    };
    Verdict { text, wrong }
}

/// The verdict on PutManifest of an image that its tag has left.
async fn verdict_on_follower(row: &Row, is_for_ever: bool, config: &SdkConfig, client: &reqwest::Client) -> Verdict {
    let sample = Sample::set(row.call.way, config).await;
    let functions = functions(&sample, row, is_for_ever);
    let round = functions.resolve(&Undisturbed, &execution_input(row.call.way)).await.unwrap().unwrap();
    let target = &round.targets[0];
    functions.replicate(&Undisturbed, &round, target).await.ended.unwrap();
    let (newer, referrer) = sample.move_tag().await;
    let course = Armed::new(&sample, row, is_for_ever);
    let ended = functions.replicate(&course, &round, target).await.ended;
    let met = course.met();
    let wrong = sample.broken(client).await.map(|wrong| format!("{wrong:?}"));
    let there = sample.world.view(TARGET);
    let has_moved = there.tags["v1"] == newer.as_str();
    let has_referrer = there.images.contains_key(referrer.as_str());
    let wrong = wrong.or_else(|| wrong_way(row, is_for_ever, met, ended.as_ref().err()));
    let wrong = wrong.or_else(|| {
        let is_wrong = ended.is_ok() && !has_moved;
        is_wrong.then(|| "the tag stays where the source's is no longer, and that is not told".to_owned())
    });
    let wrong = wrong.or_else(|| {
        let is_wrong = has_moved && !has_referrer && row.kind != Lasting;
        is_wrong.then(|| "the tag is on an image that lacks its referrer".to_owned())
    });
    let text = match &ended {
        Ok(_) if has_moved && has_referrer => "the newer image".to_owned(),
        Ok(_) if has_moved => "the newer image, not its referrer".to_owned(),
        Ok(_) => "the image as it was".to_owned(),
        Err(failed) => format!("`{}` ({})", failed.name, failed.attempts()),
    };
    Verdict { text, wrong }
}

/// The verdict that comes, unless it hangs or panics.
async fn in_time(verdict: impl Future<Output = Verdict>) -> Verdict {
    let whole = tokio::time::timeout(PATIENCE, AssertUnwindSafe(Box::pin(verdict)).catch_unwind()).await;
    let broken = |text: &str| Verdict { text: text.to_owned(), wrong: Some(text.to_owned()) };
    whole.map_or_else(|_| broken("HANGS"), |ended| ended.unwrap_or_else(|_| broken("PANICS")))
}

/// Runs all cells of `rows`, so many side by side, for most of them wait; and holds the table `section` of the document to
/// what `judge` says came of them.
async fn table(
    section: &str,
    side_by_side: usize,
    rows: Vec<Row>,
    judge: impl AsyncFn(&Row, bool, &SdkConfig, &reqwest::Client) -> Verdict,
) {
    let config = sdk_config(NOBODY, SOURCE).await;
    let client = reqwest::Client::new();
    let cells = rows.iter().enumerate().flat_map(|(number, row)| [(number, row, false), (number, row, true)]);
    let (config, client, judge) = (&config, &client, &judge);
    let cells = stream::iter(cells).map(|(number, row, for_ever)| async move {
        ((number, for_ever), in_time(judge(row, for_ever, config, client)).await)
    });
    let cells: BTreeMap<(usize, bool), Verdict> = cells.buffer_unordered(side_by_side).collect().await;

    let mut text = "| Call | Fault | Once | For ever |\n|---|---|---|---|\n".to_owned();
    let mut wrong = String::new();
    for (number, row) in rows.iter().enumerate() {
        let Call { operation, region, state, way } = row.call;
        let place = if region == SOURCE { "source" } else { "target" };
        let way = if way.uploads() == Uploads::Parts { ", by parts" } else { "" };
        let [once, for_ever] = [false, true].map(|for_ever| &cells[&(number, for_ever)]);
        writeln!(text, "| `{state:?}`: {operation}, {place}{way} | {} | {} | {} |", row.name, once.text, for_ever.text)
            .unwrap();
        for (when, verdict) in [("once", once), ("for ever", for_ever)] {
            if let Some(what) = &verdict.wrong {
                writeln!(wrong, "{state:?} {operation} {place}{way}, {}, {when}: {}: {what}", row.name, verdict.text)
                    .unwrap();
            }
        }
    }
    assert_eq!(ELSEWHERE.1.load(Ordering::SeqCst), 0, "nothing but the source and the target is contacted");
    hold(section, &text, &wrong);
}

/// Holds the table `section` of docs/reliability.md to what it is now, and says what is wrong in that.
pub(crate) fn hold(section: &str, text: &str, wrong: &str) {
    hold_section("docs/reliability.md", section, text);
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// Holds a section of a document to what it is now: the lines after `<!-- section: from ... -->`, up to `<!-- section: end -->`.
pub(crate) fn hold_section(document: &str, section: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(document);
    let is_updated = std::env::var_os("UPDATE_DOCS").is_some();
    let mut file = File::options().read(true).write(is_updated).open(path).unwrap();
    // Each section has a process of its own.
    file.lock().unwrap();
    let mut content = String::new();
    file.read_to_string(&mut content).unwrap();
    let begin = content.find(&format!("<!-- {section}: from ")).unwrap();
    let from = begin + content[begin..].find('\n').unwrap() + 1;
    let to = content.find(&format!("<!-- {section}: end -->")).unwrap();
    if is_updated {
        content.replace_range(from..to, text);
        file.set_len(0).unwrap();
        file.rewind().unwrap();
        file.write_all(content.as_bytes()).unwrap();
    } else {
        let (was, is): (Vec<&str>, Vec<&str>) = (content[from..to].lines().collect(), text.lines().collect());
        let other: Vec<&&str> = is.iter().filter(|line| !was.contains(line)).collect();
        assert!(was == is, "{document} says otherwise (UPDATE_DOCS=1 writes it): {other:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn resolve_and_ensure() {
    table("resolve", 16, resolving(), verdict).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn set_policies() {
    table("settings", 16, settling(), verdict).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn read_layers() {
    table("read", 64, reading(), verdict).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_layers() {
    table("stream", 24, streaming(), verdict).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn send_parts() {
    table("parts", 24, in_parts(), verdict).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn put_manifests() {
    table("put", 24, putting(), verdict).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ask_for_layers_again() {
    table("again", 24, asking_again(), verdict).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_and_put_referrers() {
    table("referrer", 24, referring(), verdict).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn follow_a_tag() {
    table("follow", 24, following(), verdict_on_follower).await;
}
