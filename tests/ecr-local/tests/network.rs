//! Network interfaces, wire counters and cut connections, seen by a client that writes its HTTP itself.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ecr_local::{Config, EcrLocal, Fault, Meanwhile, Shape};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const NEAR: &str = "eu-central-1";
const FAR: &str = "us-east-1";

/// An answer, as much of it as came before the connection was closed.
#[derive(Debug)]
struct Answer {
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(header, _)| *header == name).map(|(_, value)| value).next().unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn is_none(&self) -> bool {
        self.head.is_empty()
    }
}

/// Sends one request over a connection of its own.
async fn ask(url: &str, method: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap_or((url, ""));
    let host = host.trim_start_matches("http://");
    let headers: String = headers.iter().flat_map(|(name, value)| [name, ": ", value, "\r\n"]).collect();
    let length = body.len();
    let request = format!(
        "{method} /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n"
    );
    let (mut input, mut output) = TcpStream::connect(host).await.unwrap().into_split();
    let request = [request.as_bytes(), body].concat();
    // A connection that is cut may refuse the rest of the request, and the rest of its answer.
    let send = async { drop(output.write_all(&request).await) };
    let mut answer = Vec::new();
    let receive = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = input.read(&mut buffer).await {
            answer.extend_from_slice(&buffer[..read]);
        }
    };
    // A connection that should have been cut and was not would wait for ever.
    tokio::time::timeout(Duration::from_mins(1), async { tokio::join!(send, receive) }).await.unwrap();
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        assert!(answer.is_empty(), "{answer:?}");
        return Answer { head: String::new(), body: answer };
    };
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    Answer { head, body: answer.split_off(end + 4) }
}

/// Calls an operation of the API.
async fn call(endpoint: &str, region: &str, operation: &str, input: &Value) -> Answer {
    let scope = format!(
        "AWS4-HMAC-SHA256 Credential=123456789012/20260101/{region}/ecr/aws4_request, SignedHeaders=host, Signature=0"
    );
    let target = format!("AmazonEC2ContainerRegistry_V20150921.{operation}");
    let headers = [("authorization", scope.as_str()), ("x-amz-target", &target)];
    ask(&format!("{endpoint}/"), "POST", &headers, input.to_string().as_bytes()).await
}

async fn create(ecr: &EcrLocal, region: &str) {
    let answer = call(&ecr.endpoint(), region, "CreateRepository", &json!({ "repositoryName": "app" })).await;
    assert_eq!(answer.status(), "200", "{answer:?}");
}

/// The password of `/v2` and its endpoint.
async fn sign_in(endpoint: &str, region: &str) -> (String, String) {
    let answer = call(endpoint, region, "GetAuthorizationToken", &json!({})).await.json();
    let data = &answer["authorizationData"][0];
    let token = data["authorizationToken"].as_str().unwrap();
    (format!("Basic {token}"), data["proxyEndpoint"].as_str().unwrap().to_owned())
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// Starts an upload, and gives back its location.
async fn start(endpoint: &str, token: &str) -> String {
    let answer = ask(&format!("{endpoint}/v2/app/blobs/uploads/"), "POST", &[("authorization", token)], b"").await;
    assert_eq!(answer.status(), "202", "{answer:?}");
    answer.header("location").to_owned()
}

/// Pushes a config as an image, so that it can be downloaded, and gives back the URL for that.
async fn push(endpoint: &str, region: &str, config: &[u8]) -> String {
    let (token, registry) = sign_in(endpoint, region).await;
    let location = start(&registry, &token).await;
    let digest = digest(config);
    let complete = format!("{location}?digest={digest}");
    assert_eq!(ask(&complete, "PUT", &[("authorization", &token)], config).await.status(), "201");
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": config.len(),
        },
        "layers": [],
    });
    let input = json!({ "repositoryName": "app", "imageManifest": manifest.to_string() });
    let put = call(endpoint, region, "PutImage", &input).await;
    assert_eq!(put.status(), "200", "{put:?}");
    let input = json!({ "repositoryName": "app", "layerDigest": digest });
    let answer = call(endpoint, region, "GetDownloadUrlForLayer", &input).await;
    answer.json()["downloadUrl"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_client_stays_on_its_interface() {
    let ecr = EcrLocal::start(Config::default()).await.unwrap();
    create(&ecr, FAR).await;
    let interface = ecr.interface(Shape::default()).unwrap();
    assert_ne!(interface, ecr.endpoint());
    let (token, registry) = sign_in(&interface, FAR).await;
    assert_eq!(registry, interface);
    assert!(start(&registry, &token).await.starts_with(&interface));
    let url = push(&interface, FAR, b"{}").await;
    assert!(url.starts_with(&interface), "{url}");
    assert_eq!(ask(&url, "GET", &[], b"").await.body, b"{}");
    let blob = format!("{interface}/v2/app/blobs/{}", digest(b"{}"));
    let redirect = ask(&blob, "GET", &[("authorization", &token)], b"").await;
    assert!(redirect.header("location").starts_with(&interface.replace("127.0.0.1", "localhost")), "{redirect:?}");
    // Elsewhere each region has a port of its own.
    let (_, registry) = sign_in(&ecr.endpoint(), FAR).await;
    assert!(registry != ecr.endpoint() && registry != interface);
}

#[tokio::test]
async fn what_is_far_is_late() {
    let ecr = EcrLocal::start(Config::default()).await.unwrap();
    let round_trip = Duration::from_millis(250);
    let shape = Shape { round_trip, near: Some(NEAR.to_owned()), ..Shape::default() };
    let interface = ecr.interface(shape).unwrap();
    create(&ecr, FAR).await;
    let url = push(&ecr.endpoint(), FAR, b"{}").await;
    let (token, _) = sign_in(&ecr.endpoint(), FAR).await;
    let url = url.replace(&ecr.endpoint(), &interface);
    let ping = format!("{interface}/v2/");

    let started = Instant::now();
    call(&interface, FAR, "DescribeRepositories", &json!({})).await;
    assert!(started.elapsed() >= round_trip);
    let started = Instant::now();
    assert_eq!(ask(&ping, "GET", &[("authorization", &token)], b"").await.status(), "200");
    assert!(started.elapsed() >= round_trip);
    let started = Instant::now();
    assert_eq!(ask(&url, "GET", &[], b"").await.body, b"{}");
    assert!(started.elapsed() >= round_trip);
}

/// A day's delay and a bit a second: whatever is not near would not come.
#[tokio::test]
async fn what_is_near_is_not_shaped() {
    let ecr = EcrLocal::start(Config::default()).await.unwrap();
    create(&ecr, NEAR).await;
    let shape = json!({ "roundTripMs": 86_400_000, "bitsPerSecond": 1, "near": NEAR }).to_string();
    let admin = format!("{}/_admin/interfaces", ecr.endpoint());
    let interface = ask(&admin, "POST", &[], shape.as_bytes()).await.json();
    let interface = interface["endpoint"].as_str().unwrap();
    let layer = vec![7; 1024 * 1024];
    let all = async {
        let url = push(interface, NEAR, &layer).await;
        assert_eq!(ask(&url, "GET", &[], b"").await.body, layer);
        ask(&format!("{interface}/_admin/stats"), "GET", &[], b"").await;
    };
    tokio::time::timeout(Duration::from_mins(1), all).await.unwrap();
    let input = json!({});
    let far = call(interface, FAR, "DescribeRepositories", &input);
    tokio::time::timeout(Duration::from_millis(500), far).await.unwrap_err();

    for wrong in [json!({ "bitsPerSecond": 0 }), json!({ "roundTrip": 1 })] {
        assert_eq!(ask(&admin, "POST", &[], wrong.to_string().as_bytes()).await.status(), "400", "{wrong}");
    }
}

#[tokio::test]
async fn both_directions_have_the_rate() {
    let ecr = EcrLocal::start(Config::default()).await.unwrap();
    // A MiB takes half a second; a sixteenth of it is a burst.
    let shape = Shape { bits_per_second: Some(16 * 1024 * 1024), ..Shape::default() };
    let interface = ecr.interface(shape).unwrap();
    create(&ecr, FAR).await;
    let layer = vec![7; 1024 * 1024];
    let least = Duration::from_millis(460);
    let started = Instant::now();
    let url = push(&interface, FAR, &layer).await;
    assert!(started.elapsed() >= least);
    let started = Instant::now();
    assert_eq!(ask(&url, "GET", &[], b"").await.body, layer);
    assert!(started.elapsed() >= least);
}

#[tokio::test]
async fn bytes_are_counted_as_they_are_on_the_wire() {
    let ecr = EcrLocal::start(Config::default()).await.unwrap();
    create(&ecr, FAR).await;
    let interface = ecr.interface(Shape { near: Some(FAR.to_owned()), ..Shape::default() }).unwrap();
    for (endpoint, byte) in [(ecr.endpoint(), 7), (interface, 8)] {
        let started = call(&endpoint, FAR, "InitiateLayerUpload", &json!({ "repositoryName": "app" })).await;
        ecr.reset_stats();
        let input = json!({
            "repositoryName": "app", "uploadId": started.json()["uploadId"],
            "partFirstByte": 0, "partLastByte": 2999, "layerPartBlob": STANDARD.encode([7; 3000]),
        });
        let answer = call(&endpoint, FAR, "UploadLayerPart", &input).await;
        let stats = ecr.stats().region(FAR);
        assert_eq!(stats.uploaded_bytes, 3000);
        assert_eq!(stats.wire_received_bytes, input.to_string().len() as u64);
        assert_eq!(stats.wire_sent_bytes, answer.body.len() as u64);

        let url = push(&endpoint, FAR, &[byte; 5000]).await;
        ecr.reset_stats();
        ask(&url, "GET", &[], b"").await;
        let stats = ecr.stats().region(FAR);
        assert_eq!((stats.downloaded_bytes, stats.wire_sent_bytes, stats.wire_received_bytes), (5000, 5000, 0));
    }
    assert!(!ecr.stats().regions.contains_key(NEAR));
}

#[tokio::test]
async fn an_upload_that_is_cut_leaves_nothing() {
    let ecr = EcrLocal::start(Config::default()).await.unwrap();
    create(&ecr, FAR).await;
    let (token, registry) = sign_in(&ecr.endpoint(), FAR).await;
    let authorization = [("authorization", token.as_str())];
    let layer = vec![9; 3_000_000];
    for bytes in [0, 1_000_000, 9_000_000] {
        let location = start(&registry, &token).await;
        ecr.clear_faults();
        ecr.fault(Fault::cut("v2:PATCH upload", bytes).in_region(FAR));
        ecr.reset_stats();
        assert!(ask(&location, "PATCH", &authorization, &layer).await.is_none());
        assert_eq!(ecr.stats().region(FAR).uploaded_bytes, bytes.min(3_000_000));
        // The whole of it fits where the broken chunk has begun.
        let complete = format!("{location}?digest={}", digest(&layer));
        ecr.fault(Fault::new("v2:PUT upload", 500, "UNKNOWN").cut_after(bytes));
        assert!(ask(&complete, "PUT", &authorization, &layer).await.is_none());
        let status = ask(&complete, "PUT", &authorization, &layer).await;
        assert_eq!(status.status(), "201", "{status:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_is_lost() {
    let ecr = EcrLocal::start(Config::default()).await.unwrap();
    create(&ecr, FAR).await;
    let (token, registry) = sign_in(&ecr.endpoint(), FAR).await;
    let location = start(&registry, &token).await;
    ecr.fault(Fault::cut("v2:PATCH upload", 0).after_effect());
    assert!(ask(&location, "PATCH", &[("authorization", &token)], &[1; 1000]).await.is_none());
    let progress = ask(&location, "GET", &[("authorization", &token)], b"").await;
    assert_eq!(progress.header("range"), "0-999");
}

#[tokio::test]
async fn a_part_can_be_cut_in_one_repository() {
    let ecr = EcrLocal::start(Config::default()).await.unwrap();
    create(&ecr, FAR).await;
    let started = call(&ecr.endpoint(), FAR, "InitiateLayerUpload", &json!({ "repositoryName": "app" })).await;
    // The members are sent in the order of their names: here the repository comes after the part.
    let input = json!({
        "repositoryName": "app", "uploadId": started.json()["uploadId"],
        "partFirstByte": 0, "partLastByte": 2_999_999, "layerPartBlob": STANDARD.encode(vec![7; 3_000_000]),
    });
    ecr.fault(Fault::cut("UploadLayerPart", 1_000_000).in_repository("other"));
    ecr.fault(Fault::cut("UploadLayerPart", 1_000_000).in_repository("app"));
    assert!(call(&ecr.endpoint(), FAR, "UploadLayerPart", &input).await.is_none());
    // Nobody asks for the repository now, and the rest need not come.
    ecr.clear_faults();
    ecr.fault(Fault::cut("UploadLayerPart", 1_000_000).in_region(FAR));
    ecr.reset_stats();
    assert!(call(&ecr.endpoint(), FAR, "UploadLayerPart", &input).await.is_none());
    let stats = ecr.stats().region(FAR);
    assert!((1_000_000..4_000_000).contains(&stats.wire_received_bytes), "{stats:?}");
    assert_eq!(stats.calls["UploadLayerPart"], 1);

    ecr.fault(Fault::cut("UploadLayerPart", 0).after_effect());
    assert!(call(&ecr.endpoint(), FAR, "UploadLayerPart", &input).await.is_none());
    let again = call(&ecr.endpoint(), FAR, "UploadLayerPart", &input).await;
    assert_eq!(again.json()["lastValidByteReceived"], 2_999_999, "{again:?}");
}

#[tokio::test]
async fn a_download_is_cut_after_its_first_bytes() {
    let ecr = EcrLocal::start(Config::default()).await.unwrap();
    create(&ecr, FAR).await;
    let layer: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let url = push(&ecr.endpoint(), FAR, &layer).await;
    for bytes in [0, 1, 5_000_000] {
        ecr.fault(Fault::cut("DownloadLayer", bytes));
        let answer = ask(&url, "GET", &[], b"").await;
        assert_eq!(answer.header("content-length"), "12000000");
        assert_eq!(answer.body, layer[..usize::try_from(bytes).unwrap()]);
    }
    assert_eq!(ask(&url, "GET", &[], b"").await.body, layer);
}

#[tokio::test]
async fn an_answer_may_be_cut_within_its_body() {
    let ecr = EcrLocal::start(Config::default()).await.unwrap();
    // Of what was done before its answer was cut.
    ecr.fault(Fault::of("CreateRepository").cut_answer_after(7));
    let created = call(&ecr.endpoint(), FAR, "CreateRepository", &json!({ "repositoryName": "app" })).await;
    assert_eq!((created.status(), created.body.len()), ("200", 7));
    let length: usize = created.header("content-length").parse().unwrap();
    assert!(length > 7 && ecr.view("123456789012", FAR, "app").is_some(), "{created:?}");
    // Of an error, and beside what else becomes of an answer.
    let input = json!({ "repositoryName": "app" });
    ecr.fault(Fault::new("GetRepositoryPolicy", 500, "").body("0123456789").corrupt(2).cut_answer_after(5));
    let refused = call(&ecr.endpoint(), FAR, "GetRepositoryPolicy", &input).await;
    assert_eq!((refused.status(), refused.header("content-length"), &*refused.body), ("500", "10", &b"01334"[..]));

    let url = push(&ecr.endpoint(), FAR, b"0123456789").await;
    let (token, registry) = sign_in(&ecr.endpoint(), FAR).await;
    for (operation, method, url) in [
        ("DownloadLayer", "GET", url),
        // An answer without a body has one then.
        ("v2:POST upload", "POST", format!("{registry}/v2/app/blobs/uploads/")),
    ] {
        let authorization = [("authorization", token.as_str())];
        let headers = if method == "POST" { &authorization[..] } else { &[] };
        let own = ask(&url, method, headers, b"").await;
        for bytes in [0, 3] {
            ecr.fault(Fault::of(operation).extend(10).cut_answer_after(bytes));
            let answer = ask(&url, method, headers, b"").await;
            assert_eq!(answer.status(), own.status());
            assert_eq!(answer.header("content-length"), (own.body.len() + 10).to_string());
            assert_eq!(answer.body.len() as u64, bytes, "{answer:?}");
        }
    }
}

#[tokio::test]
async fn a_request_may_be_read_slowly() {
    let ecr = EcrLocal::start(Config::default()).await.unwrap();
    create(&ecr, FAR).await;
    let (token, registry) = sign_in(&ecr.endpoint(), FAR).await;
    let started = call(&ecr.endpoint(), FAR, "InitiateLayerUpload", &json!({ "repositoryName": "app" })).await;
    let input = json!({
        "repositoryName": "app", "uploadId": started.json()["uploadId"],
        "partFirstByte": 0, "partLastByte": 2999, "layerPartBlob": STANDARD.encode([7; 3000]),
    });
    ecr.fault(Fault::of("UploadLayerPart").read_slowly(10_000));
    let began = Instant::now();
    let answer = call(&ecr.endpoint(), FAR, "UploadLayerPart", &input).await;
    assert_eq!((answer.status(), &answer.json()["lastByteReceived"]), ("200", &json!(2999)));
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());

    // Its sender is held up: far more than the sockets hold is not taken.
    let location = start(&registry, &token).await;
    ecr.fault(Fault::of("v2:PATCH upload").read_slowly(1_000_000));
    let (host, path) = location.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).await.unwrap();
    let layer = vec![0; 64 * 1024 * 1024];
    let length = layer.len();
    let head =
        format!("PATCH /{path} HTTP/1.1\r\nhost: {host}\r\nauthorization: {token}\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let sent = tokio::time::timeout(Duration::from_secs(2), stream.write_all(&layer)).await;
    assert!(sent.is_err(), "{sent:?}");
}

#[tokio::test]
async fn a_slow_operation_answers_itself() {
    let ecr = EcrLocal::start(Config::default()).await.unwrap();
    let delay = Duration::from_millis(250);
    for operation in ["CreateRepository", "v2:POST upload", "DownloadLayer"] {
        ecr.fault(Fault::slow(operation, delay));
    }
    let started = Instant::now();
    create(&ecr, FAR).await;
    assert!(started.elapsed() >= delay);
    let started = Instant::now();
    let url = push(&ecr.endpoint(), FAR, b"{}").await;
    assert!(started.elapsed() >= delay);
    let started = Instant::now();
    assert_eq!(ask(&url, "GET", &[], b"").await.body, b"{}");
    assert!(started.elapsed() >= delay);
}

#[tokio::test]
async fn a_chunk_may_be_kept_short() {
    let ecr = EcrLocal::start(Config::default()).await.unwrap();
    create(&ecr, FAR).await;
    let (token, registry) = sign_in(&ecr.endpoint(), FAR).await;
    let authorization = [("authorization", token.as_str())];
    let layer = vec![9; 3_000_000];
    let location = start(&registry, &token).await;
    ecr.fault(Fault::of("v2:PATCH upload").keep(1_000_001));
    let answer = ask(&location, "PATCH", &authorization, &layer).await;
    assert_eq!((answer.status(), answer.header("range")), ("201", "0-1000000"));
    assert_eq!(ask(&location, "GET", &authorization, b"").await.header("range"), "0-1000000");
    let complete = format!("{location}?digest={}", digest(&layer));
    assert_eq!(ask(&complete, "PUT", &authorization, b"").await.json()["errors"][0]["code"], "DIGEST_INVALID");
    assert_eq!(ask(&complete, "PUT", &authorization, &layer[1_000_001..]).await.status(), "201");

    let location = start(&registry, &token).await;
    let complete = format!("{location}?digest={}", digest(b"layer"));
    ecr.fault(Fault::of("v2:PUT upload").keep(3));
    assert_eq!(ask(&complete, "PUT", &authorization, b"layer").await.json()["errors"][0]["code"], "DIGEST_INVALID");
    assert_eq!(ask(&complete, "PUT", &authorization, b"er").await.status(), "201");
}

#[tokio::test]
async fn answers_of_v2_can_be_altered_too() {
    let ecr = EcrLocal::start(Config::default()).await.unwrap();
    create(&ecr, FAR).await;
    push(&ecr.endpoint(), FAR, b"{}").await;
    let (token, registry) = sign_in(&ecr.endpoint(), FAR).await;
    let authorization = [("authorization", token.as_str())];
    let uploads = format!("{registry}/v2/app/blobs/uploads/");
    let elsewhere = "http://elsewhere.invalid/";
    ecr.fault(Fault::of("v2:POST upload").location(elsewhere));
    ecr.fault(Fault::new("v2:POST upload", 307, "UNKNOWN").location(elsewhere));
    for status in ["202", "307"] {
        let answer = ask(&uploads, "POST", &authorization, b"").await;
        assert_eq!((answer.status(), answer.header("location")), (status, elsewhere));
    }
    ecr.fault(Fault::of("v2:HEAD blob").extend(1));
    let blob = format!("{registry}/v2/app/blobs/{}", digest(b"{}"));
    assert_eq!(ask(&blob, "HEAD", &authorization, b"").await.header("content-length"), "3");
    ecr.fault(Fault::of("v2:GET tags").body(json!({ "tags": ["v1"] })));
    let tags = format!("{registry}/v2/app/tags/list");
    assert_eq!(ask(&tags, "GET", &authorization, b"").await.json(), json!({ "name": "app", "tags": ["v1"] }));

    let location = start(&registry, &token).await;
    ecr.fault(Fault::of("v2:PATCH upload").meanwhile(Meanwhile::ForgetUploads));
    let answer = ask(&location, "PATCH", &authorization, b"layer").await;
    assert_eq!(answer.json()["errors"][0]["code"], "BLOB_UPLOAD_UNKNOWN");
    ecr.fault(Fault::of("v2:POST upload").meanwhile(Meanwhile::DeleteRepository));
    assert_eq!(ask(&uploads, "POST", &authorization, b"").await.json()["errors"][0]["code"], "NAME_UNKNOWN");
}

#[tokio::test]
async fn a_fault_that_does_nothing_is_refused() {
    let ecr = EcrLocal::start(Config::default()).await.unwrap();
    let admin = format!("{}/_admin/faults", ecr.endpoint());
    for (fault, status) in [
        (json!({ "operation": "PutImage", "cutAfter": 0 }), "204"),
        (json!({ "operation": "PutImage", "delayMs": 10 }), "204"),
        (json!({ "operation": "PutImage", "status": 500, "code": "ServerException", "delayMs": 10 }), "204"),
        (json!({ "operation": "PutImage", "probability": 0.1, "meanwhile": "deleteRepository" }), "204"),
        (json!({ "operation": "PutImage", "meanwhile": { "deleteImage": digest(b"image") } }), "204"),
        (json!({ "operation": "UploadLayerPart", "keep": 5, "body": { "lastByteReceived": 9 } }), "204"),
        (json!({ "operation": "DownloadLayer", "corrupt": 0, "truncate": 9, "bytesPerSecond": 1 }), "204"),
        (json!({ "operation": "DownloadLayer", "extend": 1 }), "204"),
        (json!({ "operation": "PutImage", "cutAnswerAfter": 7, "readBytesPerSecond": 1 }), "204"),
        (json!({ "operation": "DownloadLayer", "status": 301, "code": "X", "location": "http://localhost/" }), "204"),
        (json!({ "operation": "PutImage" }), "400"),
        (json!({ "operation": "PutImage", "probability": 0.1 }), "400"),
        (json!({ "operation": "PutImage", "cutAfter": 7, "cutAnswerAfter": 7 }), "400"),
        (json!({ "operation": "DownloadLayer", "readBytesPerSecond": 1 }), "400"),
        (json!({ "operation": "PutImage", "meanwhile": "deleteImage" }), "400"),
        (json!({ "operation": "PutImage", "status": 500 }), "400"),
        (json!({ "operation": "PutImage", "status": 500, "code": "ServerException", "cutAfter": 1 }), "400"),
    ] {
        assert_eq!(ask(&admin, "POST", &[], fault.to_string().as_bytes()).await.status(), status, "{fault}");
    }
}
