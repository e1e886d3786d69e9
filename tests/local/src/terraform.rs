//! `terraform apply` of tests/local, and `terraform plan` of what users apply. Nothing is written into the source tree, and several stacks may apply at once.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::{Value, json};
use shared::names::Digest;

use crate::error::Error;
use crate::process::{guarded, run};
use crate::stack::{ACCESS_KEY, Options, SECRET_KEY, root};

/// What tests/local tells about what it made.
#[derive(Debug, Clone)]
pub(crate) struct Outputs {
    pub(crate) state_machine_arn: String,
    pub(crate) reconcile_state_machine_arn: String,
    pub(crate) reconcile_bucket: String,
    pub(crate) reports_queue_url: String,
    pub(crate) dead_letter_queue_url: String,
    /// By replication rule, as JSON.
    pub(crate) event_patterns: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct RawOutputs {
    state_machine_arn: Output<String>,
    reconcile_state_machine_arn: Output<String>,
    reconcile_bucket: Output<String>,
    reports_queue_url: Output<String>,
    dead_letter_queue_url: Output<String>,
    event_patterns: Output<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
struct Output<T> {
    value: T,
}

/// The root module of a local stack.
const STACK: &str = "tests/local";

/// The functions, each of which has a package, in the order in which an image, and then a registry, comes to them.
pub const FUNCTIONS: [&str; 7] =
    ["resolve-image", "ensure-repo", "copy-layers", "put-manifest", "report", "find-differences", "report-differences"];

/// The instruction set of this machine, as the module's `architecture`.
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };

/// The directory of the packages for this machine.
pub(crate) fn packages() -> Result<PathBuf, Error> {
    let packages = root().join("target/lambda").join(ARCHITECTURE);
    for function in FUNCTIONS {
        let package = packages.join(function).join("bootstrap.zip");
        if !package.exists() {
            return Err(Error::Missing { path: package, remedy: "run `make functions`" });
        }
    }
    Ok(packages)
}

pub(crate) async fn apply(
    endpoint: &str,
    logs_endpoint: &str,
    options: &Options,
    packages: &Path,
    home: &Path,
    logs: &Path,
) -> Result<Outputs, Error> {
    let log = logs.join("terraform.log");
    let data_dir = initialize(STACK, &log).await?;
    let state = home.join("terraform.tfstate");

    let mut command = terraform(STACK, &data_dir);
    command.args([
        "apply",
        "-auto-approve",
        "-input=false",
        "-no-color",
        "-lock=false",
        "-backup=-",
        "-parallelism=20",
    ]);
    command.arg(format!("-state={}", state.display()));
    command.arg(format!("-var=architecture={ARCHITECTURE}"));
    command.arg(format!("-var=copy_layers={}", json!(options.copy_layers)));
    command.arg(format!("-var=endpoint={endpoint}"));
    command.arg(format!("-var=logs_endpoint={logs_endpoint}"));
    command.args(options.notify_on.iter().map(|on| format!("-var=notify_on={on}")));
    command.arg(format!("-var=package_dir={}", packages.display()));
    command.arg(format!("-var=reconcile={}", options.reconcile));
    command.arg(format!("-var=region={}", options.source));
    command.arg(format!("-var=rules={}", options.rules()));
    run("terraform apply", command, &log, false).await?;

    let mut command = terraform(STACK, &data_dir);
    command.args(["output", "-json", "-no-color"]).arg(format!("-state={}", state.display()));
    let text = run("terraform output", command, &log, true).await?;
    let raw: RawOutputs =
        serde_json::from_slice(&text).map_err(|error| Error::answer("terraform output", error.to_string()))?;
    Ok(Outputs {
        state_machine_arn: raw.state_machine_arn.value,
        reconcile_state_machine_arn: raw.reconcile_state_machine_arn.value,
        reconcile_bucket: raw.reconcile_bucket.value,
        reports_queue_url: raw.reports_queue_url.value,
        dead_letter_queue_url: raw.dead_letter_queue_url.value,
        event_patterns: raw.event_patterns.value,
    })
}

/// What `terraform plan` would make of a module with nothing but `variables`, as `terraform show` tells it. Every service that
/// it asks is at `endpoint`: STS whose account it is, and Step Functions whether a definition is one.
///
/// # Errors
/// If Terraform fails, with the end of its log.
pub async fn plan(module: &str, region: &str, variables: &Value, endpoint: &str) -> Result<Value, Error> {
    let home = tempfile::tempdir().map_err(Error::io("make a directory"))?;
    let [log, plan, values] = ["terraform.log", "plan", "values.tfvars.json"].map(|name| home.path().join(name));
    let data_dir = initialize(module, &log).await?;
    fs::write(&values, variables.to_string()).map_err(Error::io(format!("write {}", values.display())))?;
    let mut command = terraform(module, &data_dir);
    command.args(["plan", "-input=false", "-no-color", "-lock=false"]);
    command.arg(format!("-state={}", home.path().join("terraform.tfstate").display()));
    command.arg(format!("-var-file={}", values.display())).arg(format!("-out={}", plan.display()));
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    command.env("AWS_REGION", region).env("AWS_ENDPOINT_URL", endpoint);
    run("terraform plan", command, &log, false).await?;
    let mut command = terraform(module, &data_dir);
    command.args(["show", "-json", "-no-color"]).arg(&plan);
    let text = run("terraform show", command, &log, true).await?;
    serde_json::from_slice(&text).map_err(|error| Error::answer("terraform show", error.to_string()))
}

/// `terraform init`, once for each state of the configuration: stacks that start later, or at once, share its result.
async fn initialize(module: &str, log: &Path) -> Result<PathBuf, Error> {
    let shared = root().join("target/local-stack/terraform");
    let data_dir = shared.join(fingerprint(module).map_err(Error::io("read the Terraform configuration"))?);
    fs::create_dir_all(&data_dir).map_err(Error::io(format!("make {}", data_dir.display())))?;
    let done = data_dir.join(".initialized");
    let turn = File::create(shared.join(".lock")).map_err(Error::io("take turns at terraform init"))?;
    let turn = tokio::task::spawn_blocking(move || turn.lock().map(|()| turn)).await;
    let _turn = turn.map_err(io::Error::other).flatten().map_err(Error::io("take turns at terraform init"))?;
    if !done.exists() {
        let plugins = shared.join("plugins");
        fs::create_dir_all(&plugins).map_err(Error::io(format!("make {}", plugins.display())))?;
        let mut command = terraform(module, &data_dir);
        command.env("TF_PLUGIN_CACHE_DIR", &plugins);
        command.args(["init", "-input=false", "-no-color", "-backend=false", "-lockfile=readonly"]);
        run("terraform init", command, log, false).await?;
        File::create(&done).map_err(Error::io(format!("write {}", done.display())))?;
    }
    Ok(data_dir)
}

/// A name for the configuration of a root module as it is now.
fn fingerprint(module: &str) -> io::Result<String> {
    const MODULES: [&str; 5] = [
        "terraform/modules/rules",
        "terraform/modules/rules/shapes",
        "terraform/modules/rules/types",
        "terraform/modules/target-account",
        "terraform/examples/deploy-when-replicated",
    ];
    let mut content = module.as_bytes().to_vec();
    for directory in ["terraform", STACK].into_iter().chain(MODULES) {
        let entries = fs::read_dir(root().join(directory))?.collect::<Result<Vec<_>, _>>()?;
        let mut paths: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let name = path.to_string_lossy();
            if name.ends_with(".tf") || name.ends_with(".terraform.lock.hcl") {
                content.extend(fs::read(&path)?);
            }
        }
    }
    Ok(Digest::of(&content).as_str()[7..19].to_owned())
}

fn terraform(module: &str, data_dir: &Path) -> Command {
    let root = root();
    let mut command = guarded(root.join("tests/local/bin/terraform"));
    command.arg(format!("-chdir={}", root.join(module).display()));
    // The caller's profile, endpoints, variables and workspace are for a real account.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["AWS_", "TF_VAR_", "TF_CLI_ARGS"].iter().any(|prefix| text.starts_with(prefix)) || text == "TF_WORKSPACE" {
            command.env_remove(&name);
        }
    }
    command.env("TF_DATA_DIR", data_dir).env("TF_IN_AUTOMATION", "1").env("CHECKPOINT_DISABLE", "1");
    command
}
