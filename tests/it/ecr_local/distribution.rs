use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use aws_sdk_ecr::operation::get_authorization_token::GetAuthorizationTokenOutput;
use aws_sdk_ecr::types::ImageTagMutability;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ecr_local::{Config, EcrLocal, Fault};
use oci_client::Reference;
use oci_client::client::{ClientConfig, ClientProtocol, Config as OciConfig, ImageLayer};
use oci_client::manifest::OciImageManifest;
use oci_client::secrets::RegistryAuth;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LINK, LOCATION, RANGE, WWW_AUTHENTICATE};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;
use tokio::process::Command;

use super::layers::part;
use super::{
    ACCOUNT, OCI_INDEX, OCI_MANIFEST, PART_SIZE, REGION, World, client, descriptor, digest, index, initiate, manifest,
    push_image,
};

/// A region's registry as a client of `/v2` knows it.
pub(super) struct Registry {
    /// With its scheme.
    pub(super) endpoint: String,
    password: String,
    http: reqwest::Client,
}

impl Registry {
    pub(super) async fn of(client: &aws_sdk_ecr::Client) -> Self {
        Self::in_answer(&client.get_authorization_token().send().await.unwrap())
    }

    pub(super) fn in_answer(answer: &GetAuthorizationTokenOutput) -> Self {
        let data = &answer.authorization_data()[0];
        let credentials = String::from_utf8(STANDARD.decode(data.authorization_token().unwrap()).unwrap()).unwrap();
        let password = credentials.strip_prefix("AWS:").unwrap().to_owned();
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { endpoint: data.proxy_endpoint().unwrap().to_owned(), password, http }
    }

    fn host(&self) -> &str {
        self.endpoint.strip_prefix("http://").unwrap()
    }

    /// The same credentials at another endpoint.
    pub(super) fn at(self, endpoint: &str) -> Self {
        Self { endpoint: endpoint.to_owned(), ..self }
    }

    pub(super) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}/v2/{path}", self.endpoint) };
        self.http.request(Method::from_bytes(method.as_bytes()).unwrap(), url).basic_auth("AWS", Some(&self.password))
    }

    async fn start_upload(&self, repository: &str) -> String {
        let started = self.request("POST", &format!("{repository}/blobs/uploads/")).send().await.unwrap();
        assert_eq!(started.status(), 202);
        started.headers()[LOCATION].to_str().unwrap().to_owned()
    }
}

/// The status and the code of an error of the Distribution protocol.
pub(super) async fn refusal(request: RequestBuilder) -> (u16, String) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body = response.text().await.unwrap();
    let error: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{status} {body}"));
    assert!(error["errors"][0]["message"].is_string(), "{body}");
    (status, error["errors"][0]["code"].as_str().unwrap().to_owned())
}

pub(super) fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn a_client_without_a_good_token_is_not_let_in() {
    let World { ecr, client: here } = World::with_repository("app").await;
    let registry = Registry::of(&here).await;
    let ping = format!("{}/v2/", registry.endpoint);
    for request in [registry.http.get(&ping), registry.http.get(&ping).basic_auth("AWS", Some("x"))] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 401);
        let challenge = response.headers()[WWW_AUTHENTICATE].to_str().unwrap();
        assert!(challenge.starts_with(&format!("Basic realm=\"{}/\"", registry.endpoint)), "{challenge}");
    }
    let admitted = registry.request("GET", "").send().await.unwrap();
    assert_eq!(admitted.status(), 200);
    assert_eq!(admitted.headers()["docker-distribution-api-version"], "registry/2.0");

    // Another region's registry is another host, and does not take this token.
    let elsewhere = Registry::of(&client(&ecr, ACCOUNT, "us-east-1")).await;
    assert_ne!(elsewhere.endpoint, registry.endpoint);
    let mistaken = registry.http.get(format!("{}/v2/", elsewhere.endpoint)).basic_auth("AWS", Some(&registry.password));
    assert_eq!(refusal(mistaken).await, refused(403, "DENIED"));
    // On the main port, the token tells the registry.
    let main = format!("{}/v2/app/tags/list", ecr.endpoint());
    assert_eq!(registry.request("GET", &main).send().await.unwrap().status(), 200);
    let main = elsewhere.http.get(main).basic_auth("AWS", Some(&elsewhere.password));
    assert_eq!(refusal(main).await, refused(404, "NAME_UNKNOWN"));

    let world = World::with(Config { token_ttl: Duration::ZERO, ..Config::default() }).await;
    let expired = Registry::of(&world.client).await;
    assert_eq!(refusal(expired.request("GET", "")).await, refused(403, "DENIED"));
}

#[tokio::test]
async fn uploads_go_the_ways_of_ecr() {
    let World { ecr, client } = World::with_repository("app").await;
    let registry = Registry::of(&client).await;

    // One request for the layer's bytes, as docker sends it: 201, not the 202 of the specification.
    let location = registry.start_upload("app").await;
    let patched = registry.request("PATCH", &location).body("small").send().await.unwrap();
    assert_eq!((patched.status(), &patched.headers()[RANGE]), (StatusCode::CREATED, &"0-4".parse().unwrap()));
    let put = format!("{location}?digest={}", digest(b"small").replace(':', "%3A"));
    let completed = registry.request("PUT", &put).send().await.unwrap();
    assert_eq!(completed.status(), 201);
    assert_eq!(completed.headers()["docker-content-digest"], digest(b"small").as_str());
    assert_eq!(refusal(registry.request("PUT", &put)).await, refused(404, "BLOB_UPLOAD_UNKNOWN"));

    // The same layer again, with its bytes in the last request, is there already: a success.
    let location = registry.start_upload("app").await;
    let put = format!("{location}?digest={}", digest(b"small"));
    assert_eq!(registry.request("PUT", &put).body("small").send().await.unwrap().status(), 201);

    // In chunks: the Range of the answers stays where the first chunk ended, and chunks have to follow each other.
    let location = registry.start_upload("app").await;
    let chunk = |range: &str, bytes: &'static str| {
        registry.request("PATCH", &location).header(CONTENT_RANGE, range).body(bytes)
    };
    assert_eq!(chunk("0-7", "01234567").send().await.unwrap().headers()[RANGE], "0-7");
    let second = chunk("8-15", "89abcdef").send().await.unwrap();
    assert_eq!((second.status(), &second.headers()[RANGE]), (StatusCode::CREATED, &"0-7".parse().unwrap()));
    assert_eq!(refusal(chunk("0-7", "01234567")).await, refused(416, "BLOB_UPLOAD_INVALID"));
    assert_eq!(refusal(chunk("17-17", "h")).await, refused(416, "BLOB_UPLOAD_INVALID"));
    assert_eq!(refusal(chunk("nonsense", "h")).await, refused(400, "BLOB_UPLOAD_INVALID"));
    let progress = registry.request("GET", &location).send().await.unwrap();
    assert_eq!((progress.status(), &progress.headers()[RANGE]), (StatusCode::NO_CONTENT, &"0-15".parse().unwrap()));
    let put = |layer: &[u8]| registry.request("PUT", &format!("{location}?digest={}", digest(layer)));
    assert_eq!(refusal(put(b"other")).await, refused(400, "DIGEST_INVALID"));
    assert_eq!(put(b"0123456789abcdef").send().await.unwrap().status(), 201);

    // A mount is answered with an upload.
    let mount = format!("app/blobs/uploads/?mount={}&from=other", digest(b"small"));
    assert_eq!(registry.request("POST", &mount).send().await.unwrap().status(), 202);
    let absent = registry.request("POST", "absent/blobs/uploads/");
    assert_eq!(refusal(absent).await, refused(404, "NAME_UNKNOWN"));
    assert_eq!(refusal(registry.request("POST", "A/blobs/uploads/")).await, refused(400, "NAME_INVALID"));

    let stats = ecr.stats().region(REGION);
    assert_eq!((stats.calls["v2:POST upload"], stats.calls["v2:PATCH upload"]), (5, 6));
    // The two chunks that were out of order were received, too.
    assert_eq!(stats.uploaded_bytes, 5 + 5 + 8 + 8 + 8 + 1);
}

#[tokio::test]
async fn a_broken_chunk_leaves_the_upload_as_it_was() {
    let World { ecr: _ecr, client } = World::with_repository("app").await;
    let registry = Registry::of(&client).await;
    let location = registry.start_upload("app").await;
    let first = registry.request("PATCH", &location).body("01234567").send().await.unwrap();
    assert_eq!(first.status(), 201);
    // Enough that the registry has written some of it before the sender goes.
    let garbage = (0..32).map(|_| Ok(vec![0; 64 * 1024])).chain([Err(std::io::Error::other("the sender is gone"))]);
    let broken = futures::stream::iter(garbage);
    let broken = registry.request("PATCH", &location).body(reqwest::Body::wrap_stream(broken));
    broken.send().await.unwrap_err();
    let second = registry.request("PATCH", &location).header(CONTENT_RANGE, "8-9").body("89");
    assert_eq!(second.send().await.unwrap().status(), 201);
    let put = registry.request("PUT", &format!("{location}?digest={}", digest(b"0123456789")));
    assert_eq!(put.send().await.unwrap().status(), 201);
    push_image(&client, "app", b"{}", &[b"0123456789"], None).await;
    let url = client.get_download_url_for_layer().repository_name("app").layer_digest(digest(b"0123456789"));
    let served = reqwest::get(url.send().await.unwrap().download_url().unwrap()).await.unwrap();
    assert_eq!(served.bytes().await.unwrap(), b"0123456789".as_slice());
}

#[tokio::test]
async fn blobs_are_read_by_redirect() {
    let World { ecr: _ecr, client } = World::with_repository("app").await;
    let registry = Registry::of(&client).await;
    push_image(&client, "app", b"{}", &[b"0123456789"], None).await;
    let path = format!("app/blobs/{}", digest(b"0123456789"));
    let head = registry.request("HEAD", &path).send().await.unwrap();
    assert_eq!((head.status(), &head.headers()[CONTENT_LENGTH]), (StatusCode::OK, &"10".parse().unwrap()));
    let redirect = registry.request("GET", &path).send().await.unwrap();
    assert_eq!(redirect.status(), 307);
    let location = redirect.headers()[LOCATION].to_str().unwrap();
    // On another host, so that every client drops the credentials, which would be refused there.
    assert!(!location.contains("127.0.0.1"), "{location}");
    let served = reqwest::Client::new().get(location).header(RANGE, "bytes=2-3").send().await.unwrap();
    assert_eq!((served.status().as_u16(), served.bytes().await.unwrap()), (206, "23".into()));

    let absent = format!("app/blobs/{}", digest(b"absent"));
    assert_eq!(registry.request("HEAD", &absent).send().await.unwrap().status(), 404);
    assert_eq!(refusal(registry.request("GET", &absent)).await, refused(404, "BLOB_UNKNOWN"));
    assert_eq!(refusal(registry.request("GET", "app/blobs/latest")).await, refused(400, "DIGEST_INVALID"));
    assert_eq!(refusal(registry.request("DELETE", &path)).await, refused(405, "UNSUPPORTED"));
}

#[tokio::test]
async fn manifests_are_put_and_read_by_tag_and_digest() {
    let World { ecr: _ecr, client } = World::with_repository("app").await;
    let registry = Registry::of(&client).await;
    let image = push_image(&client, "app", b"{}", &[], None).await;
    let list = index(&[&image]).to_string();
    let put = |reference: &str, content: &str, media_type: &str| {
        let request = registry.request("PUT", &format!("app/manifests/{reference}"));
        request.header(CONTENT_TYPE, media_type).body(content.to_owned())
    };
    let created = put("v1", &list, OCI_INDEX).send().await.unwrap();
    assert_eq!(created.status(), 201);
    assert_eq!(created.headers()["docker-content-digest"], digest(list.as_bytes()).as_str());
    // Nothing changes by the same push again; here that is a success.
    assert_eq!(put("v1", &list, OCI_INDEX).send().await.unwrap().status(), 201);

    for reference in ["v1", &digest(list.as_bytes())] {
        for method in ["GET", "HEAD"] {
            let found = registry.request(method, &format!("app/manifests/{reference}")).send().await.unwrap();
            assert_eq!(found.status(), 200);
            assert_eq!(found.headers()[CONTENT_TYPE], OCI_INDEX);
            assert_eq!(found.headers()["docker-content-digest"], digest(list.as_bytes()).as_str());
            assert_eq!(found.headers()[CONTENT_LENGTH].to_str().unwrap(), list.len().to_string());
            let expected = if method == "GET" { list.as_str() } else { "" };
            assert_eq!(found.text().await.unwrap(), expected);
        }
    }

    let missing_layer = manifest(b"{}", &[b"absent"]).to_string();
    let missing_child = index(&[&missing_layer]).to_string();
    let other = digest(b"other");
    for (reference, content, media_type, expected) in [
        ("v2", missing_layer.as_str(), OCI_MANIFEST, refused(400, "MANIFEST_BLOB_UNKNOWN")),
        ("v2", &missing_child, OCI_INDEX, refused(400, "MANIFEST_BLOB_UNKNOWN")),
        (&other, &image, OCI_MANIFEST, refused(400, "DIGEST_INVALID")),
        ("v2", &image, OCI_INDEX, refused(400, "MANIFEST_INVALID")),
        ("v2", "{", OCI_MANIFEST, refused(400, "MANIFEST_INVALID")),
        ("-v2", &image, OCI_MANIFEST, refused(400, "TAG_INVALID")),
    ] {
        assert_eq!(refusal(put(reference, content, media_type)).await, expected, "{reference} {content}");
    }
    let mutability = client.put_image_tag_mutability().repository_name("app");
    mutability.image_tag_mutability(ImageTagMutability::Immutable).send().await.unwrap();
    assert_eq!(refusal(put("v1", &image, OCI_MANIFEST)).await, refused(400, "TAG_INVALID"));

    let child = format!("app/manifests/{}", digest(image.as_bytes()));
    assert_eq!(refusal(registry.request("DELETE", &child)).await, refused(403, "DENIED"));
    assert_eq!(registry.request("DELETE", "app/manifests/v1").send().await.unwrap().status(), 202);
    assert_eq!(refusal(registry.request("GET", "app/manifests/v1")).await, refused(404, "MANIFEST_UNKNOWN"));
    assert_eq!(registry.request("DELETE", &child).send().await.unwrap().status(), 202);
}

#[tokio::test]
async fn tags_come_in_pages_and_referrers_by_type() {
    let World { ecr: _ecr, client } = World::with_repository("app").await;
    let registry = Registry::of(&client).await;
    let image = push_image(&client, "app", b"{}", &[], Some("a")).await;
    for tag in ["b", "c"] {
        client.put_image().repository_name("app").image_manifest(&image).image_tag(tag).send().await.unwrap();
    }
    let (mut path, mut pages) = ("app/tags/list?n=2".to_owned(), Vec::new());
    loop {
        let page = registry.request("GET", &path).send().await.unwrap();
        let next = page.headers().get(LINK).map(|link| {
            let link = link.to_str().unwrap();
            link.strip_prefix("</v2/").unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned()
        });
        let page: Value = serde_json::from_str(&page.text().await.unwrap()).unwrap();
        pages.push(page["tags"].clone());
        match next {
            Some(next) => path = next,
            None => break,
        }
    }
    assert_eq!(pages, [serde_json::json!(["a", "b"]), serde_json::json!(["c"])]);

    let mut signature = manifest(b"{}", &[]);
    signature["artifactType"] = "application/x.signature".into();
    signature["subject"] = descriptor(OCI_MANIFEST, image.as_bytes());
    let signature = signature.to_string();
    let put = registry.request("PUT", &format!("app/manifests/{}", digest(signature.as_bytes())));
    let put = put.header(CONTENT_TYPE, OCI_MANIFEST).body(signature.clone()).send().await.unwrap();
    assert_eq!(put.headers()["oci-subject"], digest(image.as_bytes()).as_str());
    let path = format!("app/referrers/{}", digest(image.as_bytes()));
    for (query, found) in [("", 1), ("?artifactType=application/x.signature", 1), ("?artifactType=other", 0)] {
        let answer = registry.request("GET", &format!("{path}{query}")).send().await.unwrap();
        assert_eq!(answer.headers()[CONTENT_TYPE], OCI_INDEX);
        assert_eq!(answer.headers().contains_key("oci-filters-applied"), !query.is_empty());
        let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        let manifests = answer["manifests"].as_array().unwrap();
        assert_eq!(manifests.len(), found, "{query}");
        assert!(manifests.iter().all(|each| each["digest"] == digest(signature.as_bytes()).as_str()));
    }
}

#[tokio::test]
async fn faults_reach_the_distribution_protocol() {
    let World { ecr, client } = World::with_repository("app").await;
    let registry = Registry::of(&client).await;
    let location = registry.start_upload("app").await;
    ecr.fault(Fault::new("v2:PATCH upload", 429, "TOOMANYREQUESTS").in_region(REGION));
    let patch = || registry.request("PATCH", &location).header(CONTENT_RANGE, "0-0").body("x");
    assert_eq!(refusal(patch()).await, refused(429, "TOOMANYREQUESTS"));
    assert_eq!(patch().send().await.unwrap().status(), 201);
    let complete = || registry.request("PUT", &format!("{location}?digest={}", digest(b"x")));
    ecr.fault(Fault::new("v2:PUT upload", 500, "UNKNOWN").after_effect());
    assert_eq!(refusal(complete()).await, refused(500, "UNKNOWN"));
    assert_eq!(refusal(complete()).await, refused(404, "BLOB_UPLOAD_UNKNOWN"));
}

#[tokio::test]
async fn a_fault_may_be_for_the_manifest_of_one_digest() {
    let World { ecr, client } = World::with_repository("app").await;
    let registry = Registry::of(&client).await;
    let image = push_image(&client, "app", b"{}", &[], None).await;
    let list = index(&[&image]).to_string();
    let fault = Fault::new("v2:PUT manifest", 403, "DENIED").of_image(&digest(list.as_bytes()));
    ecr.fault(fault.clone().times(2));
    let put = |reference: &str, content: &str, media_type: &str| {
        let request = registry.request("PUT", &format!("app/manifests/{reference}"));
        request.header(CONTENT_TYPE, media_type).body(content.to_owned())
    };
    assert_eq!(put("v1", &image, OCI_MANIFEST).send().await.unwrap().status(), 201);
    for reference in ["list", &digest(list.as_bytes())] {
        assert_eq!(refusal(put(reference, &list, OCI_INDEX)).await, refused(403, "DENIED"));
    }
    assert_eq!(put("list", &list, OCI_INDEX).send().await.unwrap().status(), 201);

    // What is read to know the digest still takes effect where the fault comes after it, and breaks where it is a cut.
    let again = || registry.request("GET", "app/manifests/again").send();
    ecr.fault(fault.clone().cut_after(1));
    put("again", &list, OCI_INDEX).send().await.unwrap_err();
    assert_eq!(again().await.unwrap().status(), 404);
    ecr.fault(fault.after_effect());
    assert_eq!(refusal(put("again", &list, OCI_INDEX)).await, refused(403, "DENIED"));
    assert_eq!(again().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_fault_may_be_for_the_layer_of_one_digest() {
    let World { ecr, client } = World::with_repository("app").await;
    let registry = Registry::of(&client).await;
    push_image(&client, "app", b"layer", &[b"other"], None).await;
    for operation in ["GetDownloadUrlForLayer", "CompleteLayerUpload", "v2:PUT upload"] {
        ecr.fault(Fault::new(operation, 418, "Teapot").of_layer(&digest(b"layer")).skip(1).for_ever());
    }
    for (content, status) in [("other", 200), ("layer", 200), ("other", 200), ("layer", 418)] {
        let wanted = digest(content.as_bytes());
        let is_met = |status: u16| status == 418;
        let location = registry.start_upload("app").await;
        let put = registry.request("PUT", &format!("{location}?digest={wanted}")).body(content);
        assert_eq!(is_met(put.send().await.unwrap().status().as_u16()), is_met(status), "{content}");
        let id = initiate(&client, "app").await;
        part(&client, &id, 0, content.as_bytes()).send().await.unwrap();
        let complete = client.complete_layer_upload().repository_name("app").upload_id(id).layer_digests(&wanted);
        let refused = complete.send().await.unwrap_err();
        assert_eq!(is_met(refused.raw_response().unwrap().status().as_u16()), is_met(status), "{content}");
        let url = client.get_download_url_for_layer().repository_name("app").layer_digest(&wanted);
        assert_eq!(url.send().await.is_err(), is_met(status), "{content}");
    }
    ecr.clear_faults();
    ecr.fault(Fault::new("DownloadLayer", 418, "Teapot").of_layer(&digest(b"layer")).for_ever());
    for (content, status) in [("other", 200), ("layer", 418)] {
        let url = client.get_download_url_for_layer().repository_name("app").layer_digest(digest(content.as_bytes()));
        let url = url.send().await.unwrap().download_url.unwrap();
        assert_eq!(reqwest::get(url).await.unwrap().status(), status, "{content}");
    }
}

#[tokio::test]
async fn a_manifest_over_the_rate_is_too_many_requests() {
    let World { ecr, client } = World::with(Config { put_image_rate: Some(10), ..Config::default() }).await;
    client.create_repository().repository_name("app").send().await.unwrap();
    let registry = Registry::of(&client).await;
    let image = push_image(&client, "app", b"{}", &[], None).await;
    let put = || registry.request("PUT", "app/manifests/v1").header(CONTENT_TYPE, OCI_MANIFEST).body(image.clone());
    // The image's push was the first of ten; a busy machine may be slow enough for some more.
    let mut calls = 1;
    let over = loop {
        let answer = put().send().await.unwrap();
        if answer.status() != 201 {
            break answer;
        }
        calls += 1;
    };
    assert!(calls >= 10, "only {calls} passed");
    assert_eq!(over.status(), 429);
    let error: Value = serde_json::from_str(&over.text().await.unwrap()).unwrap();
    assert_eq!(error["errors"][0]["code"], "TOOMANYREQUESTS");
    assert_eq!(ecr.stats().calls(REGION, "v2:PUT manifest"), calls);
}

#[tokio::test]
async fn content_may_be_empty() {
    let World { ecr: _ecr, client } = World::with_repository("app").await;
    let registry = Registry::of(&client).await;
    let location = registry.start_upload("app").await;
    let put = format!("{location}?digest={}", digest(b""));
    assert_eq!(registry.request("PUT", &put).send().await.unwrap().status(), 201);
    // The same blob as config and layer: nothing is special about it.
    push_image(&client, "app", b"", &[b""], None).await;
    let url = client.get_download_url_for_layer().repository_name("app").layer_digest(digest(b""));
    let served = reqwest::get(url.send().await.unwrap().download_url().unwrap()).await.unwrap();
    assert_eq!((served.status(), &served.headers()[CONTENT_LENGTH]), (StatusCode::OK, &"0".parse().unwrap()));
    assert_eq!(served.bytes().await.unwrap(), b"".as_slice());
}

#[tokio::test]
async fn oci_client_pushes_to_one_region_and_does_not_find_it_in_another() {
    let World { ecr, client: here } = World::with(Config::default()).await;
    let elsewhere = client(&ecr, ACCOUNT, "us-east-1");
    for client in [&here, &elsewhere] {
        client.create_repository().repository_name("prod/app").send().await.unwrap();
    }
    let oci = oci_client::Client::new(ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() });
    let registry = Registry::of(&here).await;
    let auth = RegistryAuth::Basic("AWS".to_owned(), registry.password.clone());
    let reference: Reference = format!("{}/prod/app:v1", registry.host()).parse().unwrap();
    let layers =
        [vec![1; 6 * 1024 * 1024], b"a small layer".to_vec()].map(|layer| ImageLayer::oci_v1_gzip(layer, None));
    let config = OciConfig::oci_v1(b"{}".as_slice(), None);
    let manifest = OciImageManifest::build(&layers, &config, None);
    oci.push(&reference, &layers, config, &auth, Some(manifest.clone())).await.unwrap();

    let pulled = oci.pull(&reference, &auth, vec!["application/vnd.oci.image.layer.v1.tar+gzip"]).await.unwrap();
    assert_eq!(serde_json::to_value(pulled.manifest).unwrap(), serde_json::to_value(manifest).unwrap());
    // It pulls several layers at once, and gives them back as they come.
    let digests = |layers: &[ImageLayer]| {
        let mut digests: Vec<_> = layers.iter().map(|layer| digest(&layer.data)).collect();
        digests.sort();
        digests
    };
    assert_eq!(digests(&pulled.layers), digests(&layers));
    let described = here.describe_images().repository_name("prod/app").send().await.unwrap();
    assert_eq!(described.image_details()[0].image_digest(), pulled.digest.as_deref());

    let registry = Registry::of(&elsewhere).await;
    let auth = RegistryAuth::Basic("AWS".to_owned(), registry.password.clone());
    let reference: Reference = format!("{}/prod/app:v1", registry.host()).parse().unwrap();
    assert!(oci.pull_manifest(&reference, &auth).await.unwrap_err().to_string().contains("v1"));
}

/// An OCI layout with one image: two layers, of which one is larger than a chunk of any client.
fn oci_layout(directory: &Path) -> String {
    let blobs = directory.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let write = |content: &[u8]| {
        let name = digest(content);
        std::fs::write(blobs.join(name.strip_prefix("sha256:").unwrap()), content).unwrap();
    };
    let config = serde_json::json!({
        "architecture": "amd64",
        "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [digest(b"one"), digest(b"two")] },
    })
    .to_string();
    let layers = [vec![9; 3 * 1024 * 1024], b"a small layer".to_vec()];
    let manifest = manifest(config.as_bytes(), &[&layers[0], &layers[1]]).to_string();
    for content in [config.as_bytes(), &layers[0], &layers[1], manifest.as_bytes()] {
        write(content);
    }
    std::fs::write(directory.join("index.json"), index(&[&manifest]).to_string()).unwrap();
    std::fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    digest(manifest.as_bytes())
}

async fn skopeo(arguments: &[&str]) {
    let output = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--preserve-digests"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "skopeo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn skopeo_pushes_and_pulls_the_same_bytes() {
    if Command::new("skopeo").arg("--version").output().await.is_err() {
        println!("SKIPPED: skopeo is not installed; oci-client's test is the same with another client");
        return;
    }
    let World { ecr: _ecr, client } = World::with(Config { part_size: PART_SIZE, ..Config::default() }).await;
    client.create_repository().repository_name("prod/app").send().await.unwrap();
    let registry = Registry::of(&client).await;
    let (source, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let pushed = oci_layout(source.path());
    let credentials = format!("AWS:{}", registry.password);
    let from = format!("oci:{}", source.path().display());
    let image = format!("docker://{}/prod/app", registry.host());
    skopeo(&["--dest-tls-verify=false", "--dest-creds", &credentials, &from, &format!("{image}:v1")]).await;

    let found = client.describe_images().repository_name("prod/app").send().await.unwrap();
    assert_eq!(found.image_details()[0].image_digest(), Some(pushed.as_str()));
    assert_eq!(found.image_details()[0].image_tags(), ["v1"]);
    // By digest, and the other way round: the layout that comes out has the files that went in.
    let to = format!("oci:{}", copy.path().display());
    skopeo(&["--src-tls-verify=false", "--src-creds", &credentials, &format!("{image}@{pushed}"), &to]).await;
    let blobs = |layout: &Path| {
        let mut blobs: Vec<_> = std::fs::read_dir(layout.join("blobs/sha256"))
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap()))
            .collect();
        blobs.sort();
        blobs
    };
    assert_eq!(blobs(source.path()), blobs(copy.path()));
    // A second push finds everything there.
    skopeo(&["--dest-tls-verify=false", "--dest-creds", &credentials, &from, &format!("{image}:v1")]).await;
}

#[tokio::test]
async fn it_stops_and_deletes_its_layers_when_it_is_dropped() {
    let data = tempfile::tempdir().unwrap();
    let ecr = EcrLocal::start(Config { data_dir: Some(data.path().to_owned()), ..Config::default() }).await.unwrap();
    let endpoint = ecr.endpoint();
    let client = client(&ecr, ACCOUNT, REGION);
    client.create_repository().repository_name("app").send().await.unwrap();
    super::upload(&client, "app", b"layer").await;
    let entries = || std::fs::read_dir(data.path()).unwrap().count();
    assert_eq!(entries(), 1);
    drop((ecr, client));
    let gone = async {
        while entries() > 0 || reqwest::get(&endpoint).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("nothing is left");
}
