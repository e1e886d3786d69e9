//! Input and answers that mean harm: what is decoded, what is read and how much of it, and where nobody goes.

mod answers;

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse as _, Response},
    routing::post,
};
use copy_layers::{Dependencies, Settings};
use ecr_local::Fault;
use futures::future::join_all;
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};
use shared::{
    copy::Uploads,
    error::{ErrorName, Named, chain},
    manifest::{ManifestError, Tree, walk},
    names::Digest,
    registry::{Registries, Repository},
    serve::{Deadline, decode},
};

use crate::world::{
    OCI_INDEX, OCI_MANIFEST, REPOSITORY, SOURCE, TARGET, World, layer, manifest, sdk_config, target_input,
};

const MIB: usize = 1024 * 1024;

/// More than anybody could read within a test.
const ENDLESS: u64 = 1 << 40;

/// A source that says whatever it is told to say.
#[derive(Clone, Default)]
struct Liar {
    /// The media types and the texts that it has.
    images: HashMap<Digest, (String, String)>,
    /// What it answers BatchGetImage instead, whatever it is asked for.
    always: Option<Digest>,
    pages: Arc<AtomicU64>,
}

impl Liar {
    /// Adds a manifest; its digest.
    fn put(&mut self, media_type: &str, content: &Value) -> Digest {
        let content = content.to_string();
        let digest = Digest::of(content.as_bytes());
        self.images.insert(digest.clone(), (media_type.to_owned(), content));
        digest
    }

    /// Adds an index of `children`, with an annotation of `padding` bytes.
    fn put_index(&mut self, children: &[Digest], padding: usize) -> Digest {
        let children: Vec<Value> =
            children.iter().map(|child| json!({"mediaType": OCI_MANIFEST, "digest": child, "size": 1})).collect();
        let annotations = json!({"padding": "x".repeat(padding), "number": self.images.len().to_string()});
        self.put(OCI_INDEX, &json!({"schemaVersion": 2, "manifests": children, "annotations": annotations}))
    }

    /// Adds an image of no layers, with an annotation of `padding` bytes.
    fn put_image(&mut self, padding: usize) -> Digest {
        let annotations = json!({"padding": "x".repeat(padding), "number": self.images.len().to_string()});
        self.put(OCI_MANIFEST, &json!({"schemaVersion": 2, "layers": [], "annotations": annotations}))
    }

    /// Serves it; its repository.
    async fn serve(self) -> Repository {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/", post(answer)).with_state(Arc::new(self));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let registries = Registries::new(sdk_config(&endpoint, SOURCE).await).unwrap();
        registries.repository(&SOURCE.parse().unwrap(), &REPOSITORY.parse().unwrap())
    }

    async fn walk(self, digest: &Digest) -> Result<Tree, ManifestError> {
        walk(&self.serve().await, digest, &[]).await
    }
}

async fn answer(State(liar): State<Arc<Liar>>, headers: HeaderMap, body: Bytes) -> Response {
    let asked: Value = serde_json::from_slice(&body).unwrap();
    let operation = headers["x-amz-target"].to_str().unwrap().rsplit('.').next().unwrap();
    let next = format!("page {}", liar.pages.fetch_add(1, Ordering::SeqCst));
    let answer = match operation {
        "BatchGetImage" => {
            let asked = asked["imageIds"].as_array().unwrap().iter();
            let asked = asked.filter_map(|id| id["imageDigest"].as_str()?.parse::<Digest>().ok());
            let images = asked.map(|digest| liar.always.clone().unwrap_or(digest)).filter_map(|digest| {
                let (media_type, content) = liar.images.get(&digest)?;
                let id = json!({"imageDigest": digest});
                Some(json!({"imageId": id, "imageManifest": content, "imageManifestMediaType": media_type}))
            });
            json!({"images": images.collect::<Vec<_>>(), "failures": []})
        }
        "ListImageReferrers" => json!({"referrers": [], "nextToken": next}),
        "DescribeImages" => json!({"imageDetails": [], "nextToken": next}),
        other => panic!("{other} is not asked for here"),
    };
    answer.to_string().into_response()
}

/// The name of an error, and all that it says.
fn told<T>(result: Result<T, impl Named>) -> (ErrorName, String) {
    let error = result.err().unwrap();
    (error.name(), chain(&error))
}

async fn source(world: &World) -> Repository {
    world.registries().await.repository(&SOURCE.parse().unwrap(), &REPOSITORY.parse().unwrap())
}

async fn target(world: &World) -> Repository {
    world.registries().await.repository(&TARGET.parse().unwrap(), &REPOSITORY.parse().unwrap())
}

#[tokio::test]
async fn an_image_of_too_many_manifests_levels_or_blobs_is_refused_with_the_limit() {
    let mut liar = Liar::default();
    let images: Vec<Digest> = (0..1000).map(|_| liar.put_image(0)).collect();
    let wide = liar.put_index(&images[..999], 0);
    let too_wide = liar.put_index(&images, 0);
    let mut deep = liar.put_image(0);
    for _ in 0..7 {
        deep = liar.put_index(&[deep], 0);
    }
    let too_deep = liar.put_index(std::slice::from_ref(&deep), 0);
    let blobs = |count: usize| {
        let layers = (0..count).map(|number| json!({"digest": Digest::of(&number.to_le_bytes()), "size": 1}));
        json!({"schemaVersion": 2, "layers": layers.collect::<Vec<_>>()})
    };
    let (many, too_many) = (liar.put(OCI_MANIFEST, &blobs(10_000)), liar.put(OCI_MANIFEST, &blobs(10_001)));

    assert_eq!(liar.clone().walk(&wide).await.unwrap().manifests().count(), 1000);
    assert_eq!(liar.clone().walk(&deep).await.unwrap().manifests().count(), 8);
    assert_eq!(liar.clone().walk(&many).await.unwrap().blobs.len(), 10_000);
    for (digest, limit) in
        [(too_wide, "1000 manifests"), (too_deep, "8 levels of manifests"), (too_many, "10000 blobs")]
    {
        let (name, message) = told(liar.clone().walk(&digest).await);
        assert_eq!((name, message), (ErrorName::InvalidInput, format!("image {digest} has more than {limit}")));
    }
}

#[tokio::test]
async fn manifests_of_too_many_bytes_are_refused_with_the_limit() {
    const ALONE: usize = 4 * MIB;
    let mut liar = Liar::default();
    // One alone, as long as a manifest may be and longer.
    let around = liar.put_image(0);
    let around = liar.images[&around].1.len();
    let long = liar.put_image(ALONE - around);
    let too_long = liar.put_image(ALONE - around + 1);
    // A level of them, in answers that are none too long.
    let level: Vec<Digest> = (0..310).map(|_| liar.put_image(MIB / 9)).collect();
    let level = liar.put_index(&level, 0);
    assert_eq!(liar.clone().walk(&long).await.unwrap().root.content.len(), ALONE);
    for (digest, limit) in [
        (&too_long, "a manifest has more than 4194304 characters"),
        (&level, "the manifests have more than 32 MiB together"),
    ] {
        let (name, message) = told(liar.clone().walk(digest).await);
        assert!(name == ErrorName::InvalidInput && message.ends_with(limit), "{name}: {message}");
    }
}

#[tokio::test]
async fn levels_of_manifests_count_together() {
    let mut liar = Liar::default();
    let mut level = vec![liar.put_image(0)];
    // Six levels of 6 MiB.
    for _ in 0..6 {
        level = (0..2).map(|_| liar.put_index(&level, 3 * MIB)).collect();
    }
    let digest = liar.put_index(&level, 0);
    let (name, message) = told(liar.walk(&digest).await);
    let wanted = format!("image {digest} has more than 32 MiB of manifests");
    assert_eq!((name, message), (ErrorName::InvalidInput, wanted));
}

#[tokio::test]
async fn an_index_that_has_no_end_has_one() {
    let mut liar = Liar::default();
    let leaf = liar.put_image(0);
    let index = liar.put_index(&[leaf], 0);
    // Whatever it is asked for, it answers the index itself.
    liar.always = Some(index.clone());
    let (name, message) = told(liar.clone().walk(&index).await);
    assert_eq!(name, ErrorName::RegistryUnavailable, "{message}");
    // Schema 1 is the one kind whose digest is not that of its bytes: as such, an index could list itself.
    let lying = Digest::of(b"lying");
    let content = json!({"schemaVersion": 2, "manifests": [{"digest": lying, "size": 1}]}).to_string();
    let signed = "application/vnd.docker.distribution.manifest.v1+prettyjws".to_owned();
    liar.images.insert(lying.clone(), (signed, content));
    liar.always = None;
    let (name, message) = told(liar.walk(&lying).await);
    assert_eq!(name, ErrorName::InvalidInput, "{message}");
}

#[tokio::test]
async fn a_list_that_has_no_end_is_given_up() {
    let liar = Liar::default();
    let pages = Arc::clone(&liar.pages);
    let repository = liar.serve().await;
    for list in 1..=2 {
        let (name, message) = match list {
            1 => told(repository.referrers(&Digest::of(b"image")).await),
            _ => told(repository.indexes_since(Timestamp::UNIX_EPOCH).await),
        };
        assert!(message.ends_with("the list has more than 1000 pages"), "{message}");
        assert_eq!((name, pages.load(Ordering::SeqCst)), (ErrorName::RegistryUnavailable, list * 1000));
    }
}

#[tokio::test]
async fn a_list_whose_pages_are_too_long_is_given_up() {
    let world = World::start().await;
    let repository = source(&world).await;
    let digest = Digest::of(b"image");
    let referrer = json!({"digest": digest, "mediaType": OCI_MANIFEST, "size": 1});
    let image = json!({"imageDigest": digest, "imageManifestMediaType": OCI_INDEX, "imagePushedAt": 1});
    // Three of these pages are more than is kept.
    let pages = [
        ("ListImageReferrers", json!({"referrers": vec![referrer; 40_000]})),
        ("DescribeImages", json!({"imageDetails": vec![image; 40_000]})),
    ];
    for (operation, mut page) in pages {
        for number in 0..4 {
            // The paginator takes no token twice, and the registry none that it has not given.
            page["nextToken"] = json!(number.to_string());
            world.ecr.fault(Fault::new(operation, 200, "").body(page.clone()));
        }
        let (name, message) = match operation {
            "ListImageReferrers" => told(repository.referrers(&digest).await),
            _ => told(repository.indexes_since(Timestamp::UNIX_EPOCH).await),
        };
        assert!(message.ends_with("the list has more than 100000 entries"), "{message}");
        assert_eq!((name, world.calls(SOURCE, operation)), (ErrorName::RegistryUnavailable, 3));
    }
}

#[tokio::test]
async fn an_answer_is_read_only_so_far() {
    let world = World::start().await;
    let digest = world.push_image(Some("v1"), &[b"config", &layer(1, 5000)]).await;
    let repository = source(&world).await;
    for fault in [
        Fault::of("BatchGetImage").extend(ENDLESS),
        Fault::new("BatchGetImage", 400, "AccessDeniedException").extend(ENDLESS),
        Fault::new("BatchGetImage", 500, "ServerException").extend(ENDLESS),
    ] {
        world.ecr.fault(fault.for_ever());
        let (name, message) = told(repository.manifests(std::slice::from_ref(&digest)).await);
        assert_eq!(name, ErrorName::RegistryUnavailable);
        assert!(message.contains("the answer has more than 16 MiB"), "{message}");
        world.ecr.clear_faults();
    }
    // So far it is read.
    world.ecr.fault(Fault::of("BatchGetImage").body(json!({"unknown": "x".repeat(15 * MIB)})));
    assert_eq!(repository.manifests(&[digest]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_a_registry_names_is_no_longer_than_such_names_are() {
    let world = World::start().await;
    world.create_repository(TARGET).await;
    let target = target(&world).await;
    world.ecr.fault(Fault::of("InitiateLayerUpload").body(json!({"partSize": ENDLESS})));
    assert_eq!(target.initiate_upload().await.unwrap().part_size, 20 * 1024 * 1024);
    world.ecr.fault(Fault::of("InitiateLayerUpload").body(json!({"uploadId": "x".repeat(MIB)})));
    let (name, message) = told(target.initiate_upload().await);
    assert!(name == ErrorName::RegistryUnavailable && message.len() < 1500, "{name}: {message}");
    let failure = json!({"__type": "x".repeat(MIB), "message": "y".repeat(MIB)}).to_string();
    world.ecr.fault(Fault::new("InitiateLayerUpload", 400, "").body(failure));
    let (name, message) = told(target.initiate_upload().await);
    assert!(name == ErrorName::Internal && message.len() < 1500, "{name}: {message}");

    let digest = world.push_image(Some("v1"), &[b"config", &layer(1, 5000)]).await;
    let media_type = json!({"images": {"imageManifestMediaType": "x".repeat(256)}});
    world.ecr.fault(Fault::of("BatchGetImage").body(media_type));
    let (name, message) = told(source(&world).await.manifests(&[digest]).await);
    assert!(name == ErrorName::InvalidInput && message.ends_with("more than 255 characters"), "{name}: {message}");
}

/// A port at which nobody should ever knock.
struct Elsewhere {
    url: String,
    visits: Arc<AtomicU64>,
}

impl Elsewhere {
    async fn listen() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let visits: Arc<AtomicU64> = Arc::default();
        let counted = Arc::clone(&visits);
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { url, visits }
    }

    /// How many came until now, one of our own not counted: it is accepted after all that came before it.
    async fn visits(&self) -> u64 {
        let before = self.visits.load(Ordering::SeqCst);
        let _own = tokio::net::TcpStream::connect(self.url.strip_prefix("http://").unwrap()).await.unwrap();
        while self.visits.load(Ordering::SeqCst) == before {
            tokio::task::yield_now().await;
        }
        self.visits.fetch_sub(1, Ordering::SeqCst) - 1
    }
}

/// Resolves, copies and puts the image `digest`; the first error.
async fn replicate(world: &World, digest: &Digest, uploads: Uploads) -> Result<(), (ErrorName, String)> {
    let registries = world.registries().await;
    let image = json!({"image": {"repository": REPOSITORY, "tag": "v1"}, "targets": [{"region": TARGET}]});
    let resolved = resolve_image::handle(&registries, decode(json!({"execution": "test", "input": image})).unwrap());
    let referrers = match resolved.await {
        Ok(output) => json!(output.round.unwrap().referrers),
        error => return Err(told(error)),
    };
    let mut input = target_input(digest, Some("v1"));
    input["referrers"] = referrers;
    let in_time = || Deadline::told_by(|| Duration::from_mins(15));
    let settings = Settings { memory: 256, uploads, max_shards: 1 };
    let copy = Dependencies::new(world.registries().await, settings).unwrap();
    let mut to_copy = input.clone();
    (to_copy["layers"], to_copy["cursor"]) = (Value::Null, Value::Null);
    loop {
        match copy_layers::handle(&copy, decode(to_copy.clone()).unwrap(), in_time()).await {
            Ok(copied) if copied.done => break,
            Ok(copied) => to_copy["cursor"] = json!(copied.cursor),
            error => return Err(told(error)),
        }
    }
    let put = put_manifest::handle(&registries, decode(input).unwrap(), in_time()).await;
    if put.is_ok() { Ok(()) } else { Err(told(put)) }
}

#[tokio::test]
async fn no_url_in_a_manifest_is_visited() {
    for uploads in [Uploads::Auto, Uploads::Parts] {
        let world = World::start().await;
        world.create_repository(TARGET).await;
        let elsewhere = Elsewhere::listen().await;
        let url = |path: &str| json!(format!("{}/{path}", elsewhere.url));
        let blobs: [&[u8]; 2] = [b"config", &layer(1, 5000)];
        for blob in blobs.into_iter().chain([&b"{}"[..], b"signature"]) {
            world.push_blob(SOURCE, blob).await;
        }
        let mut image = manifest(&blobs);
        for descriptor in ["/config", "/layers/0"] {
            let descriptor = image.pointer_mut(descriptor).unwrap();
            descriptor["urls"] = json!([url("layer")]);
            descriptor["annotations"] = json!({"org.opencontainers.image.url": url("annotation")});
        }
        let foreign = json!({
            "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "digest": Digest::of(b"foreign"), "size": 7, "urls": [url("foreign")],
        });
        image["layers"].as_array_mut().unwrap().push(foreign);
        image["annotations"] = json!({"org.opencontainers.image.source": url("source")});
        let child = world.put(SOURCE, &image, None).await;
        let index = json!({
            "schemaVersion": 2, "mediaType": OCI_INDEX, "urls": [url("index")],
            "manifests": [{"mediaType": OCI_MANIFEST, "digest": child, "size": 1, "urls": [url("manifest")]}],
        });
        let digest = world.put(SOURCE, &index, Some("v1")).await;
        let mut signature = World::referrer(&digest, b"signature", "signature");
        signature["subject"]["urls"] = json!([url("subject")]);
        let signature = world.put(SOURCE, &signature, None).await;

        replicate(&world, &digest, uploads).await.unwrap();
        assert_eq!(world.tagged(TARGET, "v1").await, Some(digest));
        assert!(world.by_digest(TARGET, &signature).await.is_some());
        assert_eq!(elsewhere.visits().await, 0);
    }
}

/// Replicates an image while `fault` is met for ever, in a world of its own; with which error.
async fn replicate_despite(fault: Fault, uploads: Uploads) -> (World, Result<(), (ErrorName, String)>) {
    let world = World::start().await;
    world.create_repository(TARGET).await;
    let digest = world.push_image(Some("v1"), &[b"config", &layer(1, 5000)]).await;
    world.ecr.fault(fault.for_ever());
    let replicated = replicate(&world, &digest, uploads).await;
    (world, replicated)
}

#[tokio::test]
async fn no_answer_sends_anybody_elsewhere() {
    let elsewhere = Elsewhere::listen().await;
    let location = format!("{}/v2/{REPOSITORY}/blobs/uploads/1?state=1", elsewhere.url);
    let mut cases = Vec::new();
    for (operation, region) in [
        ("BatchGetImage", SOURCE),
        ("ListImageReferrers", SOURCE),
        ("GetDownloadUrlForLayer", SOURCE),
        ("DownloadLayer", SOURCE),
        ("BatchCheckLayerAvailability", TARGET),
        ("GetAuthorizationToken", TARGET),
        ("v2:POST upload", TARGET),
        ("v2:PATCH upload", TARGET),
        ("v2:PUT upload", TARGET),
        ("PutImage", TARGET),
    ] {
        for status in [None, Some(301), Some(307), Some(308)] {
            let fault = status.map_or(Fault::of(operation), |status| Fault::new(operation, status, "Moved"));
            let fault = fault.in_region(region).location(&location);
            cases.push(async move {
                let (world, replicated) = replicate_despite(fault, Uploads::Auto).await;
                // Where the endpoint or its token cannot be had, layers go by parts.
                let is_stream = operation == "GetAuthorizationToken" || operation.starts_with("v2:");
                assert_eq!(replicated.is_ok(), status.is_none() || is_stream, "{operation} {status:?}: {replicated:?}");
                assert!(world.calls(region, operation) > 0, "{operation}");
            });
        }
    }
    join_all(cases).await;
    assert_eq!(elsewhere.visits().await, 0);
}

#[tokio::test]
async fn the_body_of_an_error_is_not_read() {
    let mut cases = Vec::new();
    for (uploads, operation, region, arrives) in [
        (Uploads::Auto, "v2:POST upload", TARGET, true),
        (Uploads::Auto, "v2:PATCH upload", TARGET, true),
        (Uploads::Auto, "v2:PUT upload", TARGET, true),
        (Uploads::Auto, "DownloadLayer", SOURCE, false),
        (Uploads::Parts, "DownloadLayer", SOURCE, false),
    ] {
        for status in [401, 404, 503] {
            let fault = Fault::new(operation, status, "DENIED").in_region(region).extend(ENDLESS);
            cases.push(async move {
                let (_, replicated) = replicate_despite(fault, uploads).await;
                assert_eq!(replicated.is_ok(), arrives, "{operation} {status}: {replicated:?}");
                if let Err((name, message)) = replicated {
                    assert_eq!(name, ErrorName::RegistryUnavailable, "{message}");
                }
            });
        }
    }
    join_all(cases).await;
}

/// One runtime for all cases of a property.
fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Runtime::new().unwrap())
}

/// A value that may stand anywhere.
fn anything() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        any::<String>(),
        "[a-zA-Z0-9._/:-]{0,40}",
        Just("x".repeat(10_000)),
        Just(format!("sha256:{}", "A".repeat(64))),
        Just("eu-west-1".to_owned()),
        Just("9999-12-31T23:59:59Z".to_owned()),
        Just("-009999-01-02T01:59:59Z".to_owned()),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z-]{0,12}", inner, 0..4).prop_map(|members| json!(members)),
        ]
    })
}

/// The fields of an execution's input, as pointers, and as the error names them.
const FIELDS: [(&str, &str); 17] = [
    ("/event", "input.event"),
    ("/event/detail-type", "input.event.detail-type"),
    ("/event/region", "input.event.region"),
    ("/event/time", "input.event.time"),
    ("/event/detail", "input.event.detail"),
    ("/event/detail/action-type", "input.event.detail.action-type"),
    ("/event/detail/result", "input.event.detail.result"),
    ("/event/detail/repository-name", "input.event.detail.repository-name"),
    ("/event/detail/image-digest", "input.event.detail.image-digest"),
    ("/event/detail/image-tag", "input.event.detail.image-tag"),
    ("/image", "input.image"),
    ("/image/repository", "input.image.repository"),
    ("/image/tag", "input.image.tag"),
    ("/image/digest", "input.image.digest"),
    ("/targets", "input.targets"),
    ("/targets/0/region", "input.targets[0].region"),
    ("/targets/0/repository", "input.targets[0].repository"),
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// One field of an input is another: it is resolved, or refused by a name, and by the field's path where it is that
    /// field's fault.
    #[test]
    fn an_input_is_resolved_or_refused_by_name(field in 0..FIELDS.len(), value in prop::option::weighted(0.9, anything())) {
        static REGISTRIES: OnceLock<(World, Registries)> = OnceLock::new();
        let (_, registries) = REGISTRIES.get_or_init(|| runtime().block_on(async {
            let world = World::start().await;
            let registries = world.registries().await;
            (world, registries)
        }));
        let (pointer, path) = FIELDS[field];
        let digest = Digest::of(b"image");
        let mut input = if pointer.starts_with("/image") {
            json!({"image": {"repository": REPOSITORY, "tag": "v1", "digest": digest}})
        } else {
            json!({"event": {
                "detail-type": "ECR Image Action", "region": SOURCE, "time": "2026-11-16T01:54:34Z",
                "detail": {
                    "action-type": "PUSH", "result": "SUCCESS", "repository-name": REPOSITORY, "image-digest": digest,
                    "image-tag": "v1",
                },
            }})
        };
        input["targets"] = json!([{"region": TARGET, "repository": "mirror/app"}]);
        if let Some(value) = value {
            *input.pointer_mut(pointer).unwrap() = value;
        } else {
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            input.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
        }
        match decode::<resolve_image::Input>(json!({"execution": "test", "input": input})) {
            Err(diagnostic) => {
                prop_assert_eq!(diagnostic.error_type, "InvalidInput");
                let parent = &path[..path.rfind('.').unwrap()];
                let message = diagnostic.error_message;
                prop_assert!(message.starts_with(path) || message.starts_with(&format!("{parent}: ")), "{}: {}", path, message);
            }
            Ok(decoded) => match runtime().block_on(resolve_image::handle(registries, decoded)) {
                Ok(output) => prop_assert!(!output.replicate && output.nothing_to_do.is_some(), "{:?}", output),
                Err(error) => {
                    let name = error.name();
                    let expected = [ErrorName::InvalidInput, ErrorName::ImageNotFound, ErrorName::RepositoryNotFound];
                    prop_assert!(expected.contains(&name), "{}: {}", name, chain(&error));
                }
            },
        }
    }

    /// Whatever manifests an index lists: they are walked, or refused by a name.
    #[test]
    fn an_index_of_anything_is_walked_or_refused_by_name(
        children in prop::collection::vec((anything(), anything(), 0..6usize, any::<bool>()), 1..4),
    ) {
        let mut liar = Liar::default();
        let mut listed = Vec::new();
        for (one, other, shape, is_index) in children {
            let blob = json!({"digest": Digest::of(b"blob"), "size": 1});
            let content = match shape {
                0 => one,
                1 => json!({"layers": [blob, {"digest": one, "size": other}]}),
                2 => json!({"manifests": [{"digest": Digest::of(b"lost"), "size": one}], "subject": other}),
                3 => json!({"config": one, "layers": other}),
                4 => json!({"config": blob, "layers": [{"digest": Digest::of(b"blob"), "size": one, "mediaType": other}]}),
                _ => json!({"layers": [blob.clone(), blob], "annotations": one, "unknown": other}),
            };
            listed.push(liar.put(if is_index { OCI_INDEX } else { OCI_MANIFEST }, &content));
        }
        // Twice is once.
        listed.push(listed[0].clone());
        let index = liar.put_index(&listed, 0);
        match runtime().block_on(liar.walk(&index)) {
            Ok(tree) => prop_assert!(tree.manifests().count() <= listed.len(), "{:?}", tree),
            Err(error) => {
                let name = error.name();
                prop_assert!(matches!(name, ErrorName::InvalidInput | ErrorName::RegistryUnavailable), "{}", chain(&error));
            }
        }
    }
}
