use std::time::{Duration, Instant};

use ecr_local::{Config, Fault, Meanwhile};
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, LOCATION, RANGE};
use serde_json::json;

use super::{PART_SIZE, REGION, World, digest, push_image};

const LAYER: &[u8] = b"0123456789abcdef";

async fn url(world: &World) -> String {
    world.client.create_repository().repository_name("prod/app").send().await.unwrap();
    push_image(&world.client, "prod/app", b"{}", &[LAYER], None).await;
    url_of(world, LAYER).await
}

async fn url_of(world: &World, layer: &[u8]) -> String {
    let request = world.client.get_download_url_for_layer().repository_name("prod/app").layer_digest(digest(layer));
    request.send().await.unwrap().download_url().unwrap().to_owned()
}

#[tokio::test]
async fn a_url_serves_any_range() {
    let world = World::start().await;
    let url = url(&world).await;
    for (range, status, content_range, expected) in [
        ("bytes=0-3", 206, Some("bytes 0-3/16"), &LAYER[0..4]),
        ("bytes=10-", 206, Some("bytes 10-15/16"), &LAYER[10..]),
        ("bytes=12-99", 206, Some("bytes 12-15/16"), &LAYER[12..]),
        ("bytes=-2", 206, Some("bytes 14-15/16"), &LAYER[14..]),
        ("nonsense", 200, None, LAYER),
    ] {
        let response = reqwest::Client::new().get(&url).header(RANGE, range).send().await.unwrap();
        assert_eq!(response.status(), status, "{range}");
        let header = response.headers().get(CONTENT_RANGE).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(header.as_deref(), content_range);
        assert_eq!(response.headers()[CONTENT_LENGTH].to_str().unwrap(), expected.len().to_string());
        assert_eq!(response.bytes().await.unwrap(), expected);
    }
    let beyond = reqwest::Client::new().get(&url).header(RANGE, "bytes=16-").send().await.unwrap();
    assert_eq!(beyond.status(), 416);
    assert_eq!(beyond.headers()[CONTENT_RANGE], "bytes */16");
    assert!(beyond.text().await.unwrap().contains("<Code>InvalidRange</Code>"));

    let stats = world.ecr.stats().region(REGION);
    assert_eq!(stats.calls["DownloadLayer"], 6);
    assert_eq!(stats.downloaded_bytes, 4 + 6 + 4 + 2 + 16);
}

#[tokio::test]
async fn a_url_is_refused_when_it_was_changed_or_has_expired() {
    let world = World::start().await;
    let url = url(&world).await;
    let longer = url.replace("x-expires-at-ms=", "x-expires-at-ms=9");
    let other_layer = url.replace(&digest(LAYER), &digest(b"{}"));
    for changed in [longer, other_layer, format!("{url}0")] {
        let response = reqwest::get(&changed).await.unwrap();
        assert_eq!(response.status(), 403, "{changed}");
        assert!(response.text().await.unwrap().contains("<Code>SignatureDoesNotMatch</Code>"));
    }
    let unsigned = reqwest::get(url.split('?').next().unwrap()).await.unwrap();
    assert_eq!(unsigned.status(), 403);
    // The signature is for GET.
    assert_eq!(reqwest::Client::new().head(&url).send().await.unwrap().status(), 403);
    assert_eq!(reqwest::get(&url).await.unwrap().status(), 200);

    let config = Config { url_ttl: Duration::ZERO, part_size: PART_SIZE, ..Config::default() };
    let world = World::with(config).await;
    let expired = reqwest::get(self::url(&world).await).await.unwrap();
    assert_eq!(expired.status(), 403);
    assert!(expired.text().await.unwrap().contains("<Message>Request has expired</Message>"));
}

#[tokio::test]
async fn a_url_with_credentials_beside_it_is_refused() {
    let world = World::start().await;
    let url = url(&world).await;
    let response = reqwest::Client::new().get(url).header(AUTHORIZATION, "Basic QVdTOng=").send().await.unwrap();
    assert_eq!(response.status(), 400);
    assert!(response.text().await.unwrap().contains("Only one auth mechanism allowed"));
}

#[tokio::test]
async fn a_download_may_be_truncated_corrupted_or_too_long() {
    let world = World::start().await;
    let url = url(&world).await;
    let cases: [(Fault, &[u8]); 5] = [
        (Fault::of("DownloadLayer").truncate(3), b"456"),
        (Fault::of("DownloadLayer").corrupt(2), b"457789ab"),
        (Fault::of("DownloadLayer").extend(2), b"456789ab\0\0"),
        (Fault::of("DownloadLayer").corrupt(1).truncate(2), b"44"),
        (Fault::of("DownloadLayer").body("another layer"), b"another layer"),
    ];
    for (fault, expected) in cases {
        world.ecr.fault(fault.in_region(REGION).in_repository("prod/app"));
        let answer = reqwest::Client::new().get(&url).header(RANGE, "bytes=4-11").send().await.unwrap();
        assert_eq!(answer.status(), 206);
        assert_eq!(answer.headers()[CONTENT_RANGE], "bytes 4-11/16");
        assert_eq!(answer.headers()[CONTENT_LENGTH].to_str().unwrap(), expected.len().to_string());
        assert_eq!(answer.bytes().await.unwrap(), expected);
    }
    // As if the range had not been asked for.
    world.ecr.fault(Fault::new("DownloadLayer", 200, "").body(std::str::from_utf8(LAYER).unwrap()));
    let answer = reqwest::Client::new().get(&url).header(RANGE, "bytes=4-11").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.bytes().await.unwrap(), LAYER);
    assert_eq!(reqwest::get(&url).await.unwrap().bytes().await.unwrap(), LAYER);
}

#[tokio::test]
async fn a_download_may_trickle() {
    let world = World::start().await;
    let url = url(&world).await;
    world.ecr.fault(Fault::of("DownloadLayer").trickle(40));
    let started = Instant::now();
    let mut answer = reqwest::get(&url).await.unwrap();
    let mut layer = Vec::new();
    let mut first = None;
    while let Some(chunk) = answer.chunk().await.unwrap() {
        first = first.or(Some(chunk.len()));
        layer.extend_from_slice(&chunk);
    }
    assert_eq!(layer, LAYER);
    // Four pieces, a tenth of a second each: nobody waits for the whole.
    assert!(started.elapsed() >= Duration::from_millis(400));
    assert!(first.unwrap() < LAYER.len());
}

#[tokio::test]
async fn a_download_may_be_redirected() {
    let world = World::start().await;
    let url = url(&world).await;
    let elsewhere = "http://elsewhere.invalid/layer";
    world.ecr.fault(Fault::new("DownloadLayer", 307, "TemporaryRedirect").location(elsewhere));
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let answer = http.get(&url).send().await.unwrap();
    assert_eq!(answer.status(), 307);
    assert_eq!(answer.headers()[LOCATION], elsewhere);
    assert!(answer.text().await.unwrap().contains("<Code>TemporaryRedirect</Code>"));
}

#[tokio::test]
async fn a_url_may_be_that_of_another_layer() {
    let world = World::start().await;
    let url = url(&world).await;
    world.ecr.fault(Fault::of("GetDownloadUrlForLayer").body(json!({ "downloadUrl": url })));
    let lie = url_of(&world, b"{}").await;
    assert_eq!(reqwest::get(lie).await.unwrap().bytes().await.unwrap(), LAYER);
    assert_eq!(reqwest::get(url_of(&world, b"{}").await).await.unwrap().bytes().await.unwrap(), b"{}".as_slice());
}

#[tokio::test]
async fn a_url_may_expire_between_two_ranges_of_a_layer() {
    let world = World::start().await;
    let url = url(&world).await;
    let get = async |url: &str| {
        let answer = reqwest::Client::new().get(url).header(RANGE, "bytes=8-").send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    world.ecr.fault(Fault::of("DownloadLayer").meanwhile(Meanwhile::ExpireUrls).skip(1));
    assert_eq!(get(&url).await.0, 206);
    for _ in 0..2 {
        let (status, body) = get(&url).await;
        assert_eq!(status, 403);
        assert!(body.contains("<Message>Request has expired</Message>"), "{body}");
    }
    let renewed = url_of(&world, LAYER).await;
    assert_eq!(get(&renewed).await, (206, "89abcdef".to_owned()));
    world.ecr.expire_urls();
    assert_eq!(get(&renewed).await.0, 403);
    assert_eq!(get(&url_of(&world, LAYER).await).await.0, 206);
}
