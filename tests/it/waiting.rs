//! The command with which a pipeline waits until a push is everywhere, on the local stack.

use std::process::Output;

use serde_json::json;

use crate::operator::{Operator, is_cli_installed};
use crate::scene::{NO_LAYER, REPOSITORY, Scene, TAG, TARGETS};

impl Operator {
    async fn wait(&self, image: &str, seconds: &str) -> Output {
        let image = format!("IMAGE={image}");
        self.run("make", &["--silent", "wait-for-image", &image, &format!("SECONDS={seconds}")]).await
    }
}

fn said(text: &[u8]) -> String {
    String::from_utf8(text.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_waits_until_its_push_is_everywhere() {
    if !is_cli_installed().await {
        return println!("SKIPPED: the AWS CLI is not installed");
    }
    let operator = Operator::of(Scene::set(&TARGETS).await);
    let scene = &operator.scene;
    let pushed = scene.push().await;
    let image = format!("{REPOSITORY}:{TAG}@{}", pushed.digest);
    // It is asked while the execution runs, or before it is started.
    let output = operator.wait(&image, "120").await;
    assert!(output.status.success(), "{output:?}");
    assert!(said(&output.stdout).trim().ends_with(": the image is at every target"), "{output:?}");
    let source = scene.read(scene.stack.source()).await;
    for region in TARGETS {
        assert_eq!(scene.read(region).await, source, "{region}");
    }

    for (image, problem) in [
        (format!("{REPOSITORY}:v2@{}", pushed.digest), "no execution is of prod/app:v2@sha256:"),
        (format!("other@{}", pushed.digest), "no execution is of other@sha256:"),
        ("prod/app:v1".to_owned(), "usage: wait-for-image.sh"),
    ] {
        let output = operator.wait(&image, "0").await;
        assert!(!output.status.success() && said(&output.stderr).contains(problem), "{output:?}");
    }

    // The newest execution of the push decides: what failed is told with its cause.
    for fault in NO_LAYER {
        scene.stack.ecr().fault(fault().in_region(TARGETS[0]).for_ever());
    }
    let detail = json!({
        "result": "SUCCESS", "repository-name": REPOSITORY, "image-digest": pushed.digest, "image-tag": TAG,
        "action-type": "PUSH",
    });
    let event = json!({
        "detail-type": "ECR Image Action", "region": scene.stack.source(), "time": "2026-11-16T01:54:34Z",
        "detail": detail,
    });
    let targets = json!([{"region": TARGETS[0], "repository": "mirror/app"}]);
    let failed = scene.start(json!({"event": event, "targets": targets})).await;
    let output = operator.wait(&image, "120").await;
    assert!(!output.status.success(), "{output:?}");
    let problem = said(&output.stderr);
    assert!(problem.contains(&failed.arn) && problem.contains("ReplicationIncomplete"), "{problem}");
    assert!(problem.contains("eu-west-1 mirror/app: CopyLayers failed with AccessDenied"), "{problem}");
}
