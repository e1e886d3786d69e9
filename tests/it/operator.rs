//! Somebody with the AWS CLI who runs the documented commands against the local stack.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::scene::Scene;

/// Where this file is, nobody may start an execution.
const DENIED: &str = "denied";

/// A line for each execution that was redriven, which no emulator does.
const REDRIVEN: &str = "redriven";

/// Somebody with the AWS CLI, and credentials for the local stack.
pub(crate) struct Operator {
    pub(crate) scene: Scene,
    path: String,
    home: TempDir,
}

impl Operator {
    pub(crate) fn of(scene: Scene) -> Self {
        let home = tempfile::tempdir().unwrap();
        let path = std::env::var("PATH").unwrap();
        // What looks again every few seconds need not take them here.
        program(home.path(), "sleep", &format!("#!/bin/sh\nPATH='{path}' exec sleep 0.2\n"));
        let operator = Self { scene, path: format!("{}:{path}", home.path().display()), home };
        operator.take_cli("aws");
        operator
    }

    /// Takes another version of the CLI from now on.
    pub(crate) fn take_cli(&self, cli: &str) {
        // The CLI's first version reads no endpoint for SQS from the environment. Where there is none, the CLI checks arguments and
        // makes an answer up.
        let (home, stack, path) = (self.home.path().display(), &self.scene.stack, std::env::var("PATH").unwrap());
        let script = format!(
            "#!/bin/sh\n\
            PATH='{path}'\n\
            case \"$1 $2\" in\n\
            *' start-execution') if [ -e '{home}/{DENIED}' ]; then echo AccessDeniedException >&2; exit 254; fi ;;\n\
            *' redrive-execution') [ \"$# $3\" = '4 --execution-arn' ] && echo \"$4\" >>'{home}/{REDRIVEN}'; exit ;;\n\
            'service-quotas '*) exec {cli} \"$@\" --generate-cli-skeleton output ;;\n\
            'logs '*) exec {cli} --endpoint-url '{}' \"$@\" ;;\n\
            esac\n\
            exec {cli} --endpoint-url '{}' \"$@\"\n",
            stack.logs_endpoint(),
            stack.endpoint()
        );
        program(self.home.path(), "aws", &script);
    }

    /// The executions that were redriven since the last look.
    pub(crate) fn redriven(&self) -> Vec<String> {
        let file = self.home.path().join(REDRIVEN);
        let redriven = std::fs::read_to_string(&file).unwrap_or_default();
        std::fs::write(file, "").unwrap();
        redriven.lines().map(ToOwned::to_owned).collect()
    }

    /// Runs a program in the project's directory.
    pub(crate) async fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).env_clear();
        command.envs(std::env::var_os("HOME").map(|home| ("HOME", home))).env("PATH", &self.path);
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        command.env("AWS_DEFAULT_REGION", self.scene.stack.source());
        command.output().await.unwrap()
    }

    pub(crate) async fn aws(&self, arguments: &[&str]) -> Value {
        let output = self.run("aws", &[arguments, &["--output", "json"]].concat()).await;
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Lets nobody start an execution from now on.
    pub(crate) fn deny_starts(&self) {
        std::fs::write(self.home.path().join(DENIED), "").unwrap();
    }
}

/// The blocks of a document that are written in this language.
pub(crate) fn blocks<'document>(document: &'document str, language: &str) -> Vec<&'document str> {
    let begins = format!("```{language}\n");
    let blocks = document.split(begins.as_str()).skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap_or_default()).collect()
}

/// Writes a program into a directory of the path.
pub(crate) fn program(directory: &Path, name: &str, script: &str) {
    let path = directory.join(name);
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
}

/// Every AWS CLI of the path, by its own path: its versions differ in what they print.
pub(crate) fn clis() -> Vec<String> {
    let path = std::env::var_os("PATH").unwrap();
    let clis = std::env::split_paths(&path).map(|directory| directory.join("aws")).filter(|cli| cli.is_file());
    let mut clis: Vec<String> = clis.map(|cli| cli.display().to_string()).collect();
    clis.dedup();
    clis
}

/// Whether there is an AWS CLI, without which a test shows nothing; in CI there must be.
pub(crate) async fn is_cli_installed() -> bool {
    let is_installed = Command::new("aws").arg("--version").output().await.is_ok();
    assert!(is_installed || std::env::var_os("CI").is_none(), "the AWS CLI is not installed");
    is_installed
}
