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

/// Somebody with the AWS CLI, and credentials for the local stack.
pub(crate) struct Operator {
    pub(crate) scene: Scene,
    path: String,
    home: TempDir,
}

impl Operator {
    pub(crate) fn of(scene: Scene) -> Self {
        // The CLI's first version reads no endpoint for SQS from the environment.
        let home = tempfile::tempdir().unwrap();
        let path = std::env::var("PATH").unwrap();
        let script = format!(
            "#!/bin/sh\n\
            if [ \"$2\" = start-execution ] && [ -e '{}' ]; then echo AccessDeniedException >&2; exit 254; fi\n\
            PATH='{path}' exec aws --endpoint-url '{}' \"$@\"\n",
            home.path().join(DENIED).display(),
            scene.stack.endpoint()
        );
        program(home.path(), "aws", &script);
        // What looks again every few seconds need not take them here.
        program(home.path(), "sleep", &format!("#!/bin/sh\nPATH='{path}' exec sleep 0.2\n"));
        Self { scene, path: format!("{}:{path}", home.path().display()), home }
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

/// Writes a program into a directory of the path.
pub(crate) fn program(directory: &Path, name: &str, script: &str) {
    let path = directory.join(name);
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
}

/// Whether there is an AWS CLI, without which a test shows nothing; in CI there must be.
pub(crate) async fn is_cli_installed() -> bool {
    let is_installed = Command::new("aws").arg("--version").output().await.is_ok();
    assert!(is_installed || std::env::var_os("CI").is_none(), "the AWS CLI is not installed");
    is_installed
}
