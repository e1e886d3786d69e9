use std::time::Duration;

use ecr_local::Config;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, RANGE};

use super::{PART_SIZE, REGION, World, digest, push_image};

const LAYER: &[u8] = b"0123456789abcdef";

async fn url(world: &World) -> String {
    world.client.create_repository().repository_name("prod/app").send().await.unwrap();
    push_image(&world.client, "prod/app", b"{}", &[LAYER], None).await;
    let request = world.client.get_download_url_for_layer().repository_name("prod/app").layer_digest(digest(LAYER));
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
