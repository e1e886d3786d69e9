//! `make deploy` and `make destroy`, and the examples, as in accounts of their own on the local stack.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use ecr_local::Fault;
use local_stack::{Client, LocalStack, Options};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    operator::{Operator, blocks, is_cli_installed},
    runbook::commands,
    scene::{REPOSITORY, Scene, TAG, TARGETS, until},
    world::SOURCE,
};

/// This machine's, which the functions run on.
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };

/// A target of the example that the scene's deployment does not have.
const FAR: &str = "us-east-1";

/// Somebody whose accounts are the local stack's, and what Terraform keeps for him.
struct Somebody<'stack> {
    stack: &'stack LocalStack,
    home: TempDir,
    account: &'static str,
}

impl Somebody<'_> {
    /// Runs a program in the repository, which ends well.
    async fn run(&self, program: &str, arguments: &[&str], terraform: &str) -> String {
        let (is_well, said) = self.try_to_run(program, arguments, terraform).await;
        assert!(is_well, "{program} {arguments:?}: {said}");
        said
    }

    /// Runs a program in the repository. Terraform's own files are elsewhere, as the repository's are others' too.
    async fn try_to_run(&self, program: &str, arguments: &[&str], terraform: &str) -> (bool, String) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut command = Command::new(if program.contains('/') { root.join(program) } else { PathBuf::from(program) });
        command.args(arguments).current_dir(root).stdin(Stdio::null());
        command.env("AWS_ENDPOINT_URL", self.stack.endpoint());
        command.env("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", self.stack.logs_endpoint());
        command.env("AWS_ACCESS_KEY_ID", self.account).env("AWS_SECRET_ACCESS_KEY", "test");
        command.env("AWS_REGION", SOURCE).env("AWS_CONFIG_FILE", self.home.path().join("config"));
        command.env("TF_DATA_DIR", self.home.path().join("data"));
        let state = self.home.path().join("terraform.tfstate");
        for name in ["apply", "destroy"] {
            command.env(format!("TF_CLI_ARGS_{name}"), format!("-no-color -state={} {terraform}", state.display()));
        }
        let output = command.output().await.unwrap();
        (output.status.success(), [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat())
    }

    /// Runs a target of the Makefile. The packages are there, and other tests read them.
    async fn make(&self, target: &str, change: &str) -> String {
        let architecture = format!("ARCH={ARCHITECTURE}");
        let arguments = ["--silent", "--old-file=package", target, "APPROVE=yes", &architecture];
        // Instead of the copy of the example that the README has somebody make.
        let variables = format!("-var-file=terraform.tfvars.example -var=name=second {change}");
        self.run("make", &arguments, &variables).await
    }
}

async fn state_machines(stack: &LocalStack) -> Vec<String> {
    let listed = stack.step_functions().list_state_machines().send().await.unwrap();
    let mut names: Vec<String> = listed.state_machines().iter().map(|it| it.name().to_owned()).collect();
    names.sort_unstable();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn what_make_deploys_replicates_until_it_is_destroyed() {
    let scene = Scene::set(&TARGETS[..1]).await;
    let stack = &scene.stack;
    let of_first = ["ecr-replicator-reconcile-registry", "ecr-replicator-replicate-image"];
    assert_eq!(state_machines(stack).await, of_first);

    let somebody = Somebody { stack, home: tempfile::tempdir().unwrap(), account: "test" };
    somebody.make("deploy", "").await;
    let of_second = ["second-reconcile-registry", "second-replicate-image"];
    assert_eq!(state_machines(stack).await, [of_first, of_second].concat());
    // An upgrade while an execution is under way, which waits for its target.
    let throttled = Fault::new("BatchCheckLayerAvailability", 400, "ThrottlingException").in_region(FAR);
    stack.ecr().fault(throttled.for_ever());
    stack.push(Client::installed(), &scene.image, REPOSITORY, TAG).await.unwrap();
    until("the copy", || stack.ecr().stats().calls(FAR, "BatchCheckLayerAvailability") > 0).await;
    let upgraded = somebody.make("deploy", "-var=copy_layers={memory_mb=1024}").await;
    assert!(upgraded.contains(r#"aws_lambda_alias.live["copy-layers"]: Modifications complete"#), "{upgraded}");
    stack.ecr().clear_faults();
    let has = |region| stack.ecr().view("000000000000", region, REPOSITORY).is_some_and(|it| it.tags.contains_key(TAG));
    until("both deployments' images", || has(TARGETS[0]) && has(FAR)).await;

    somebody.make("destroy", "").await;
    assert_eq!(state_machines(stack).await, of_first);
    assert!(has(FAR), "images stay");
    if is_cli_installed().await {
        let of_target = ["--region", FAR, "--endpoint-url", &stack.ecr().endpoint()];
        let delete = ["ecr", "delete-repository", "--force", "--repository-name", REPOSITORY];
        somebody.run("aws", &[&delete[..], &of_target].concat(), "").await;
        assert!(stack.ecr().view("000000000000", FAR, REPOSITORY).is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_can_be_applied_and_destroyed() {
    let stack = LocalStack::start(Options::quick(&TARGETS[..1])).await.unwrap();
    let profile =
        |name, account| format!("[profile {name}]\naws_access_key_id = {account}\naws_secret_access_key = test\n");
    let profiles = [profile("source", "111122223333"), profile("target", "444455556666")].concat();
    for (example, variables) in [
        ("basic", ""),
        ("rules", ""),
        ("cross-account", "-var=source_profile=source -var=target_profile=target -var=external_id=0b7c5f2e"),
    ] {
        let somebody = Somebody { stack: &stack, home: tempfile::tempdir().unwrap(), account: "111122223333" };
        std::fs::write(somebody.home.path().join("config"), &profiles).unwrap();
        let directory = format!("-chdir=terraform/examples/{example}");
        let init = [&directory, "init", "-input=false", "-lockfile=readonly"];
        for arguments in [&init[..], &[&directory, "apply", "-auto-approve"], &[&directory, "destroy", "-auto-approve"]]
        {
            somebody.run("tests/local/bin/terraform", arguments, variables).await;
        }
    }
}

/// What the module is given, in a file for Terraform.
fn variables(of: &Somebody<'_>, name: &str, variables: &Value) -> String {
    let file = of.home.path().join(name);
    std::fs::write(&file, variables.to_string()).unwrap();
    format!("-var-file={}", file.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_in_a_bucket_are_called_if_they_are_those_of_the_checksums() {
    if !is_cli_installed().await {
        return;
    }
    let operator = Operator::of(Scene::set(&TARGETS[..1]).await);
    let stack = &operator.scene.stack;
    operator.aws(&["s3", "mb", "s3://my-artifacts"]).await;
    let documented = blocks(include_str!("../../terraform/README.md"), "console").into_iter().flat_map(commands);
    let upload = documented.filter(|command| command.starts_with("aws s3 sync ")).collect::<Vec<_>>();
    let [upload] = &upload[..] else { panic!("{upload:?}") };
    let output = operator.run("sh", &["-c", upload]).await;
    assert!(output.status.success(), "{output:?}");

    let somebody = Somebody { stack, home: tempfile::tempdir().unwrap(), account: "test" };
    let sums = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dist/SHA256SUMS")).unwrap();
    let given = |prefix: &str| {
        let packages = json!({"bucket": "my-artifacts", "key_prefix": prefix, "sha256sums": sums});
        let rules = json!({"all": {"targets": [{"region": FAR}]}});
        json!({"name": "second", "architecture": ARCHITECTURE, "rules": rules, "packages_s3": packages})
    };
    let init = ["-chdir=terraform", "init", "-input=false", "-lockfile=readonly"];
    somebody.run("tests/local/bin/terraform", &init, "").await;
    let apply = ["-chdir=terraform", "apply", "-auto-approve"];
    let right = variables(&somebody, "right.tfvars.json", &given("ecr-replicator/0.1.0/"));
    somebody.run("tests/local/bin/terraform", &apply, &right).await;
    stack.push(Client::installed(), &operator.scene.image, REPOSITORY, TAG).await.unwrap();
    let has = |tag: &str| stack.ecr().view("000000000000", FAR, REPOSITORY).is_some_and(|it| it.tags.contains_key(tag));
    until("the image", || has(TAG)).await;

    // One of another release is not what its checksum says: another function's, here.
    let at =
        |prefix: &str, function: &str| format!("s3://my-artifacts/{prefix}/{ARCHITECTURE}/{function}/bootstrap.zip");
    let release = |from: &str, to: &str| (format!("s3://my-artifacts/{from}/"), format!("s3://my-artifacts/{to}/"));
    let (from, to) = release("ecr-replicator/0.1.0", "changed");
    operator.run("aws", &["s3", "cp", "--recursive", &from, &to]).await;
    let (from, to) = (at("ecr-replicator/0.1.0", "report"), at("changed", "put-manifest"));
    operator.run("aws", &["s3", "cp", &from, &to]).await;
    let changed = variables(&somebody, "changed.tfvars.json", &given("changed/"));
    let (is_well, said) = somebody.try_to_run("tests/local/bin/terraform", &apply, &changed).await;
    let said = said.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    let wrong =
        format!("of second-put-manifest is not the package that the checksums name {ARCHITECTURE}/put-manifest/");
    assert!(!is_well && said.contains(&wrong), "{said}");
    stack.push(Client::installed(), &operator.scene.image, REPOSITORY, "v2").await.unwrap();
    until("the next image, by the version that was there", || has("v2")).await;
}
