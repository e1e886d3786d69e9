//! `make deploy` and `make destroy`, as in an account that has another deployment already.

use std::{path::Path, process::Stdio};

use local_stack::{Client, LocalStack, SOURCE};
use serde_json::json;
use tokio::process::Command;

use crate::scene::{REPOSITORY, Scene, TAG, until};

const NEAR: &str = "eu-west-1";
const FAR: &str = "us-east-1";

/// Runs a target of the Makefile, as somebody whose account is the local stack. What it makes of Terraform is in `home`.
async fn make(stack: &LocalStack, home: &Path, target: &str) {
    // The package is there, and other tests read it.
    let mut make = Command::new("make");
    make.args(["--silent", "--old-file=package", target, "APPROVE=yes"]);
    if cfg!(target_arch = "aarch64") {
        make.arg("ARCH=arm64");
    }
    make.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).stdin(Stdio::null());
    make.env("AWS_ENDPOINT_URL", stack.endpoint()).env("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", stack.logs_endpoint());
    make.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
    make.env("TF_DATA_DIR", home.join("data"));
    for command in ["apply", "destroy"] {
        make.env(format!("TF_CLI_ARGS_{command}"), format!("-no-color -state={}/terraform.tfstate", home.display()));
    }
    make.env("TF_VAR_name", "second").env("TF_VAR_region", SOURCE);
    make.env("TF_VAR_rules", json!({"all": {"targets": [{"region": FAR}]}}).to_string());
    let output = make.output().await.unwrap();
    assert!(output.status.success(), "make {target}: {}", String::from_utf8_lossy(&output.stderr));
}

async fn state_machines(stack: &LocalStack) -> Vec<String> {
    let listed = stack.step_functions().list_state_machines().send().await.unwrap();
    let mut names: Vec<String> = listed.state_machines().iter().map(|it| it.name().to_owned()).collect();
    names.sort_unstable();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn what_make_deploys_replicates_until_it_is_destroyed() {
    let scene = Scene::set(&[NEAR]).await;
    let stack = &scene.stack;
    let home = tempfile::tempdir().unwrap();
    let of_first = ["ecr-replicator-reconcile-registry", "ecr-replicator-replicate-image"];
    assert_eq!(state_machines(stack).await, of_first);

    make(stack, home.path(), "deploy").await;
    let of_second = ["second-reconcile-registry", "second-replicate-image"];
    assert_eq!(state_machines(stack).await, [of_first, of_second].concat());
    stack.push(Client::installed(), &scene.image, REPOSITORY, TAG).await.unwrap();
    let has = |region| stack.ecr().view("000000000000", region, REPOSITORY).is_some_and(|it| it.tags.contains_key(TAG));
    until("both deployments' images", || has(NEAR) && has(FAR)).await;

    make(stack, home.path(), "destroy").await;
    assert_eq!(state_machines(stack).await, of_first);
    assert!(has(FAR), "images stay");
}
