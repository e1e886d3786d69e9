//! Other programs that copy an image from registry to registry. Another peer is another entry in [`PEERS`].

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::Error;
use crate::resources::Resources;

/// The programs that ours is compared with.
pub(crate) const PEERS: [Peer; 1] = [Peer { name: "skopeo", version: &["skopeo", "--version"], copy: skopeo }];

/// A program that copies an image.
#[derive(Debug)]
pub(crate) struct Peer {
    /// What it is called here.
    pub(crate) name: &'static str,
    /// What prints its version; a peer that cannot is left out.
    version: &'static [&'static str],
    /// The command of one copy.
    copy: fn(&Copy<'_>) -> Command,
}

/// One copy that a peer is to make.
#[derive(Debug)]
pub(crate) struct Copy<'a> {
    pub(crate) source: Reference<'a>,
    pub(crate) target: Reference<'a>,
    /// A directory of its own, for what it would keep from run to run.
    pub(crate) home: PathBuf,
}

/// An image in a registry, and the password for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reference<'a> {
    pub(crate) endpoint: &'a str,
    pub(crate) repository: &'a str,
    pub(crate) tag: &'a str,
    pub(crate) password: &'a str,
}

impl Reference<'_> {
    fn name(&self) -> String {
        format!("docker://{}/{}:{}", self.endpoint.trim_start_matches("http://"), self.repository, self.tag)
    }

    fn credentials(&self) -> String {
        format!("AWS:{}", self.password)
    }
}

impl Peer {
    /// What it says its version is; `None` when it is not installed.
    pub(crate) fn version(&self) -> Option<String> {
        let (program, arguments) = self.version.split_first()?;
        let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).lines().next()?.trim().to_owned())
    }

    /// Makes a copy, in a process of its own.
    pub(crate) async fn run(&self, copy: &Copy<'_>) -> Result<Resources, Error> {
        let failed = |problem| Error::io(format!("{problem} {}", self.name));
        fs::create_dir_all(&copy.home).map_err(failed("make a directory for"))?;
        let log = copy.home.join("log");
        let output = File::create(&log).map_err(failed("write the log of"))?;
        let errors = output.try_clone().map_err(failed("write the log of"))?;
        let mut command = (self.copy)(copy);
        command.env("NO_PROXY", "127.0.0.1,localhost").env("HOME", &copy.home);
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn().map_err(failed("start"))?;
        let (status, resources) = Resources::until_end(&mut child).await.map_err(failed("watch"))?;
        if status.success() {
            return Ok(resources);
        }
        Err(Error::program(self.name, &format!("failed ({status})"), &log))
    }
}

fn skopeo(copy: &Copy<'_>) -> Command {
    let mut command = Command::new("skopeo");
    if !Path::new("/etc/containers/policy.json").exists() {
        command.arg("--insecure-policy");
    }
    command.args(["copy", "--all", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false"]);
    command.args(["--src-creds", &copy.source.credentials(), "--dest-creds", &copy.target.credentials()]);
    command.args([copy.source.name(), copy.target.name()]);
    // What it learns of blobs it keeps in a database: root's is in /var/lib, which no option moves, and everyone else's in
    // their data directory. So it takes itself for someone else, for whom every run is the first.
    command.env("_CONTAINERS_ROOTLESS_UID", "1000").env("XDG_DATA_HOME", &copy.home);
    command
}
