//! Answers that are nearly right, drawn by chance: a whole execution gets them in one state, and ends in the image or by name.

use std::{
    panic::AssertUnwindSafe,
    sync::{LazyLock, OnceLock},
    time::Duration,
};

use aws_config::SdkConfig;
use ecr_local::Fault;
use futures::{FutureExt as _, future::join_all};
use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};
use shared::{contract::Put, error::ErrorName, names::Digest};

use super::{Elsewhere, anything, runtime};
use crate::{
    execution::{Course, Failed, Functions, State},
    sample::{IMAGES, Sample, Way, Wrong, digest, execution_input},
    world::{OCI_INDEX, OCI_MANIFEST, SOURCE, TARGET, sdk_config},
};

/// The time of an invocation: a source that cannot be read is waited for until its end.
const TIME: Duration = Duration::from_secs(4);

/// After this, an execution hangs.
const PATIENCE: Duration = Duration::from_secs(80);

/// How many executions run side by side, for most of them wait.
const SIDE_BY_SIDE: usize = 16;

/// A call, in the state that makes it, and the members of its answer, as pointers.
#[derive(Debug)]
struct Answered {
    state: State,
    region: &'static str,
    way: Way,
    operation: &'static str,
    members: &'static [&'static str],
}

const fn answered(
    state: State,
    region: &'static str,
    way: Way,
    operation: &'static str,
    members: &'static [&'static str],
) -> Answered {
    Answered { state, region, way, operation, members }
}

const REFERRERS: Answered = answered(
    State::ResolveImage,
    SOURCE,
    Way::Stream,
    "ListImageReferrers",
    &[
        "/referrers",
        "/referrers/digest",
        "/referrers/mediaType",
        "/referrers/artifactType",
        "/referrers/size",
        "/nextToken",
    ],
);

const IMAGE_MEMBERS: &[&str] = &[
    "/images",
    "/images/imageManifest",
    "/images/imageManifestMediaType",
    "/images/imageId",
    "/images/imageId/imageDigest",
    "/images/imageId/imageTag",
    "/failures",
];

/// What CopyLayers and PutManifest are answered.
const COPYING: [Answered; 13] = [
    answered(
        State::CopyLayers,
        TARGET,
        Way::Stream,
        "BatchCheckLayerAvailability",
        &["/layers", "/layers/layerDigest", "/layers/layerAvailability", "/layers/layerSize", "/failures"],
    ),
    answered(State::CopyLayers, SOURCE, Way::Stream, "GetDownloadUrlForLayer", &["/downloadUrl", "/layerDigest"]),
    answered(State::CopyLayers, SOURCE, Way::Parts, "GetDownloadUrlForLayer", &["/downloadUrl", "/layerDigest"]),
    answered(
        State::CopyLayers,
        TARGET,
        Way::Stream,
        "GetAuthorizationToken",
        &[
            "/authorizationData",
            "/authorizationData/authorizationToken",
            "/authorizationData/proxyEndpoint",
            "/authorizationData/expiresAt",
        ],
    ),
    answered(State::CopyLayers, TARGET, Way::Parts, "InitiateLayerUpload", &["/uploadId", "/partSize"]),
    answered(
        State::CopyLayers,
        TARGET,
        Way::Parts,
        "UploadLayerPart",
        &["/lastByteReceived", "/lastValidByteReceived", "/uploadId"],
    ),
    answered(State::CopyLayers, TARGET, Way::Parts, "CompleteLayerUpload", &["/layerDigest", "/uploadId"]),
    answered(State::CopyLayers, TARGET, Way::Stream, "v2:POST upload", &["/errors"]),
    answered(State::CopyLayers, TARGET, Way::Stream, "v2:PATCH upload", &["/errors"]),
    answered(State::CopyLayers, TARGET, Way::Stream, "v2:PUT upload", &["/errors"]),
    answered(State::PutManifest, SOURCE, Way::Unsigned, "BatchGetImage", IMAGE_MEMBERS),
    answered(State::PutManifest, TARGET, Way::Unsigned, "BatchGetImage", IMAGE_MEMBERS),
    answered(
        State::PutManifest,
        TARGET,
        Way::Stream,
        "PutImage",
        &["/image", "/image/imageId", "/image/imageId/imageDigest", "/image/imageManifest"],
    ),
];

/// What an operation may be refused with. That something is there already is left out: nobody could tell it from the truth.
const CODES: [&str; 16] = [
    "",
    "AccessDeniedException",
    "EmptyUploadException",
    "ImageNotFoundException",
    "ImageTagAlreadyExistsException",
    "InvalidLayerException",
    "InvalidLayerPartException",
    "InvalidParameterException",
    "KmsException",
    "LayersNotFoundException",
    "LimitExceededException",
    "ReferencedImagesNotFoundException",
    "RepositoryNotFoundException",
    "ThrottleException",
    "UploadNotFoundException",
    "com.amazonaws.ecr#ServerException",
];

/// Nobody is ever sent here.
static ELSEWHERE: LazyLock<Elsewhere> = LazyLock::new(|| runtime().block_on(Elsewhere::listen()));

/// Answers that are drawn: what stands in the place of an operation's own from the state on that gets them.
#[derive(Debug, Clone)]
struct Lie {
    state: State,
    way: Way,
    fault: Fault,
}

impl Lie {
    /// Whether only the answer is not the operation's own: there is no error in it that is unknown.
    fn is_own_answer(&self) -> bool {
        matches!(self.fault.status, None | Some(200))
    }
}

/// An execution that is lied to in one state, whenever that is entered, and in no other.
struct Deceived<'a> {
    sample: &'a Sample,
    lie: &'a Lie,
}

impl Course for Deceived<'_> {
    fn enters(&self, state: State) {
        let ecr = &self.sample.world.ecr;
        ecr.clear_faults();
        if state == self.lie.state {
            ecr.fault(self.lie.fault.clone());
        }
    }
}

async fn execute(sample: &Sample, lie: &Lie) -> Result<Put, Failed> {
    let functions = Functions::new(&sample.config, &sample.config, lie.way.uploads()).with_time(TIME);
    let course = Deceived { sample, lie };
    let round = functions.resolve(&course, &execution_input(lie.way)).await?.unwrap();
    functions.replicate(&course, &round, &round.targets[0]).await.ended
}

/// What is wrong with what came of it, if anything is.
async fn wrong(lie: &Lie, config: &SdkConfig, client: &reqwest::Client) -> Option<String> {
    let sample = Sample::set(lie.way, config).await;
    let execution = AssertUnwindSafe(Box::pin(execute(&sample, lie))).catch_unwind();
    let ended = match tokio::time::timeout(PATIENCE, execution).await {
        Ok(Ok(ended)) => ended,
        Ok(Err(_)) => return Some("it panics".to_owned()),
        Err(_) => return Some("it hangs".to_owned()),
    };
    if let Err(failed) = &ended {
        match failed.error() {
            None => return Some(format!("an error without a name: {failed:?}")),
            Some(ErrorName::Internal) if lie.is_own_answer() => {
                return Some(format!("an answer that is no error is an unknown one: {failed:?}"));
            }
            Some(_) => {}
        }
    }
    match sample.wrong(lie.way, ended.as_ref().ok(), client).await {
        // Which referrers there are, only the source's own word tells.
        Some(Wrong::Referrer(_)) if lie.fault.operation == "ListImageReferrers" => None,
        wrong => wrong.map(|wrong| format!("{wrong:?}")),
    }
}

/// The first lie of which something wrong comes.
fn believed(lies: &[Lie]) -> Option<String> {
    static CLIENTS: OnceLock<(SdkConfig, reqwest::Client)> = OnceLock::new();
    let clients =
        CLIENTS.get_or_init(|| (runtime().block_on(sdk_config("http://127.0.0.1:9/", SOURCE)), reqwest::Client::new()));
    let ((config, client), elsewhere) = (clients, &*ELSEWHERE);
    runtime().block_on(async {
        let runs = lies.iter().map(|lie| async move { (lie, wrong(lie, config, client).await) });
        let runs = join_all(runs).await;
        let visits = elsewhere.visits().await;
        let elsewhere = (visits > 0).then(|| format!("{visits} visits elsewhere"));
        runs.into_iter().find_map(|(lie, wrong)| Some(format!("{}: {lie:?}", wrong?))).or(elsewhere)
    })
}

/// A value that may stand in an answer; with a URL in it, unless it is one that is to be followed.
fn value(member: &str) -> BoxedStrategy<Value> {
    let is_followed = member.ends_with("/downloadUrl") || member.ends_with("/proxyEndpoint");
    let [index, platform] = [&IMAGES.index, &IMAGES.platforms[0]].map(|manifest| digest(manifest).to_string());
    let digests = [index, platform, Digest::of(&IMAGES.blobs[0]).to_string(), Digest::of(b"nothing").to_string()];
    let digest = select(digests.to_vec());
    let item = |digest: String, other: Value| {
        json!({
            "digest": digest, "layerDigest": digest, "imageDigest": digest, "mediaType": other, "artifactType": other,
            "size": 1, "layerAvailability": "AVAILABLE", "failureCode": other, "imageId": {"imageDigest": digest},
        })
    };
    let items = prop::collection::vec((digest.clone(), anything()), 0..4);
    let items = items.prop_map(move |items| items.into_iter().map(|(digest, other)| item(digest, other)).collect());
    // More than there are of anything.
    let many = (500..3000u32).prop_map(|count| {
        let digests = (0..count).map(|number| Digest::of(&number.to_le_bytes()).to_string());
        digests.map(|digest| json!({"digest": digest, "mediaType": OCI_MANIFEST, "size": 1})).collect()
    });
    let texts = ["", "KmsError", "ARCHIVED", "AVAILABLE", "//127.0.0.1:9/", "file:///etc/passwd", "eA=="];
    let texts = texts.into_iter().map(str::to_owned);
    let texts = texts.chain((!is_followed).then(|| ELSEWHERE.url.clone()));
    let lists = if matches!(member, "/referrers" | "/layers" | "/images" | "/failures") { 8 } else { 1 };
    prop_oneof![
        4 => anything(),
        2 => digest.prop_map(Value::from),
        lists => items,
        lists => many,
        2 => select(texts.collect::<Vec<_>>()).prop_map(Value::from),
        2 => select(vec![json!(0), json!(-1), json!(i64::MAX), json!(u64::MAX), json!(1e300), json!(0.5)]),
    ]
    .boxed()
}

/// An answer whose `member` is another.
fn with_member(member: &'static str) -> impl Strategy<Value = Value> {
    let names = || member.rsplit('/').filter(|name| !name.is_empty());
    value(member).prop_map(move |value| names().fold(value, |inner, name| json!({name: inner})))
}

/// Where an answer of `/v2` may lead.
fn location() -> impl Strategy<Value = String> {
    let elsewhere = ELSEWHERE.url.clone();
    let host = elsewhere.strip_prefix("http:").unwrap().to_owned();
    let fixed = ["", "/", "?", "?digest=sha256:0", "#", "http://", "http://[", "file:///etc/passwd", "../../../v2/"];
    let fixed = fixed.into_iter().map(str::to_owned);
    prop_oneof![
        select(
            fixed
                .chain([elsewhere, format!("{host}/v2/"), format!("\\\\{host}"), format!("{host}@x")])
                .collect::<Vec<_>>()
        ),
        "[ -~]{0,60}",
    ]
}

/// A lie about one of `answers`.
fn lie(answers: &'static [Answered]) -> impl Strategy<Value = Lie> {
    select((0..answers.len()).collect::<Vec<_>>()).prop_flat_map(move |number| {
        let Answered { state, region, way, operation, members } = &answers[number];
        let own = || Fault::of(operation);
        let member = select(members.to_vec()).prop_flat_map(with_member);
        let refused = (prop_oneof![Just(400u16), 200..600u16], select(CODES.to_vec()), member.clone())
            .prop_map(|(status, code, body)| Fault::new(operation, status, code).body(body));
        let altered = member.prop_map(move |body| {
            // The registry itself would take no token that it has not given.
            let is_next = body.get("nextToken").is_some();
            if is_next { Fault::new(operation, 200, "").body(body) } else { own().body(body) }
        });
        let text = prop_oneof![anything().prop_map(|json| json.to_string()), any::<String>()];
        let text = text.prop_map(move |text| own().body(text));
        let answer = if operation.starts_with("v2:") {
            let led = location().prop_map(move |location| own().location(&location));
            let redirected = (300..309u16, location())
                .prop_map(|(status, location)| Fault::new(operation, status, "Moved").location(&location));
            prop_oneof![4 => led, 2 => redirected, 1 => refused, 1 => text].boxed()
        } else {
            prop_oneof![6 => altered, 2 => refused, 1 => text].boxed()
        };
        // What is waited for, or asked for a thousand times, does not last for ever here.
        let most = if matches!(*operation, "GetDownloadUrlForLayer" | "ListImageReferrers") { 20 } else { 1000 };
        (answer, prop_oneof![1..4u64, Just(most)]).prop_map(move |(fault, times)| {
            let times = if fault.code == "ThrottleException" { times.min(20) } else { times };
            Lie { state: *state, way: *way, fault: fault.in_region(region).times(times) }
        })
    })
}

/// An image as BatchGetImage answers it, one of cosign's or another: with a digest that is its own or not, and a tag that is
/// cosign's or not; never with the image's own tag.
fn tagged_image() -> impl Strategy<Value = Value> {
    let images = &*IMAGES;
    let manifests = [&images.index, &images.platforms[0], &images.platforms[1], &images.signature];
    let digests: Vec<String> = manifests.iter().map(|manifest| digest(manifest).to_string()).collect();
    let contents = manifests.iter().map(ToString::to_string).chain(["{}".to_owned(), "no manifest".to_owned()]);
    let subject = select(digests.clone());
    let kind = select(vec!["sig", "att", "sbom", "other"]);
    let tag = (subject, kind).prop_map(|(digest, kind)| format!("{}.{kind}", digest.replace(':', "-")));
    let tag = prop_oneof![8 => tag.prop_map(Value::from), 1 => "[a-z.-]{0,9}".prop_map(Value::from), 1 => anything()];
    let stated = prop_oneof![
        6 => Just(None),
        2 => select(digests).prop_map(|digest| Some(json!(digest))),
        2 => "(sha256:[0-9A-F]{0,64})?".prop_map(|text| Some(json!(text))),
        1 => anything().prop_map(Some),
    ];
    let media_type = select(vec![OCI_MANIFEST, OCI_INDEX]).prop_map(Value::from);
    let media_type = prop_oneof![8 => media_type, 1 => anything()];
    (select(contents.collect::<Vec<_>>()), stated, tag, media_type).prop_map(|(content, stated, tag, media_type)| {
        let digest = stated.unwrap_or_else(|| json!(Digest::of(content.as_bytes())));
        let id = json!({"imageDigest": digest, "imageTag": tag});
        json!({"imageId": id, "imageManifest": content, "imageManifestMediaType": media_type})
    })
}

/// An answer to one of the calls of ResolveImage for manifests and for cosign's tags.
fn lie_of_tags() -> impl Strategy<Value = Lie> {
    let images = prop::collection::vec(tagged_image(), 0..4);
    let failure = select(vec!["ImageNotFound", "InvalidImageTag", "KmsError", "UpstreamUnavailable", "none"]);
    let failures = prop::collection::vec(failure.prop_map(|code| json!({"failureCode": code})), 0..2);
    (images, failures, 0..8u64, prop_oneof![Just(1u64), Just(1000)]).prop_map(|(images, failures, skip, times)| {
        let fault = Fault::of("BatchGetImage").body(json!({"images": images, "failures": failures}));
        let fault = fault.in_region(SOURCE).skip(skip).times(times);
        Lie { state: State::ResolveImage, way: Way::Stream, fault }
    })
}

fn side_by_side(lie: impl Strategy<Value = Lie>) -> impl Strategy<Value = Vec<Lie>> {
    prop::collection::vec(lie, SIDE_BY_SIDE)
}

proptest! {
    // Each case is many executions, and what is wrong is told of the one: nothing is made smaller.
    #![proptest_config(ProptestConfig {
        failure_persistence: None, cases: 6, max_shrink_iters: 0, ..ProptestConfig::default()
    })]

    #[test]
    fn a_list_of_referrers_of_anything_ends_in_the_image_or_by_name(lies in side_by_side(lie(&[REFERRERS]))) {
        prop_assert_eq!(believed(&lies), None);
    }

    #[test]
    fn tags_of_cosign_on_anything_end_in_the_image_or_by_name(lies in side_by_side(lie_of_tags())) {
        prop_assert_eq!(believed(&lies), None);
    }

    #[test]
    fn whatever_copying_is_answered_ends_in_the_image_or_by_name(lies in side_by_side(lie(&COPYING))) {
        prop_assert_eq!(believed(&lies), None);
    }
}
