//! Programs that never outlive this one, and whose last words are kept.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::error::Error;

/// A program runs in a process group of its own, in which a watcher holds the other end of a pipe from us. However we end,
/// the pipe closes with us, and the watcher kills the group: the program, and whatever it started.
const GUARD: &str = r#"exec 3<&0
{ cat <&3; kill -KILL 0; } >/dev/null 2>&1 &
exec "$@" </dev/null 3<&-"#;

/// How much of a log is shown.
const TAIL_LINES: usize = 25;

/// A command that is killed, with its children, when its standard input is closed.
pub(crate) fn guarded(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", GUARD, "sh"]).arg(program).stdin(Stdio::piped()).process_group(0);
    command
}

/// A program that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Service {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Service {
    pub(crate) fn start(name: &'static str, mut command: Command, log: PathBuf) -> Result<Self, Error> {
        let (output, errors) = log_to(&log)?;
        let child = command.stdout(output).stderr(errors).spawn().map_err(Error::io(format!("start {name}")))?;
        Ok(Self { name, child, log })
    }

    /// An error if the program has ended, with the end of its log.
    pub(crate) fn alive(&mut self) -> Result<(), Error> {
        match self.child.try_wait().map_err(Error::io(format!("watch {}", self.name)))? {
            None => Ok(()),
            Some(status) => Err(self.failed(format!("ended ({status})"))),
        }
    }

    pub(crate) fn failed(&self, problem: impl Into<String>) -> Error {
        Error::Program {
            program: self.name.into(),
            problem: problem.into(),
            log: self.log.clone(),
            tail: tail(&self.log),
        }
    }

    pub(crate) fn log(&self) -> &Path {
        &self.log
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Waiting closes the pipe first, and the watcher does the rest.
        let _ = self.child.wait();
    }
}

/// Runs a program to its end. Its standard output is returned, or goes to the log with its standard error.
pub(crate) async fn run(name: &str, command: Command, log: &Path, capture: bool) -> Result<Vec<u8>, Error> {
    let (output, errors) = log_to(log)?;
    let mut command = tokio::process::Command::from(command);
    command.stdout(if capture { Stdio::piped() } else { output }).stderr(errors);
    let mut child = command.spawn().map_err(Error::io(format!("start {name}")))?;
    // To wait for it would close the pipe, and that would end it.
    let guard = child.stdin.take();
    let output = child.wait_with_output().await.map_err(Error::io(format!("wait for {name}")))?;
    drop(guard);
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(Error::Program {
        program: name.into(),
        problem: format!("failed ({})", output.status),
        log: log.to_owned(),
        tail: tail(log),
    })
}

fn log_to(log: &Path) -> Result<(Stdio, Stdio), Error> {
    let doing = || format!("write {}", log.display());
    let file = File::options().create(true).append(true).open(log).map_err(Error::io(doing()))?;
    let second = file.try_clone().map_err(Error::io(doing()))?;
    Ok((file.into(), second.into()))
}

/// The last lines of a log.
pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::*;

    fn is_running(pid: &str) -> bool {
        // A zombie that nobody has reaped yet has ended as well.
        let state = Command::new("ps").args(["-o", "stat=", "-p", pid]).output().unwrap().stdout;
        !state.is_empty() && !state.starts_with(b"Z")
    }

    fn eventually(condition: impl Fn() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn a_dropped_service_takes_its_children_with_it() {
        let home = tempfile::tempdir().unwrap();
        let pids = home.path().join("pids");
        let mut command = guarded("/bin/sh");
        command.args(["-c", r#"sleep 1000 & echo $! $$ >"$0.new"; mv "$0.new" "$0"; wait"#]).arg(&pids);
        let mut service = Service::start("sh", command, home.path().join("log")).unwrap();
        eventually(|| pids.exists());
        service.alive().unwrap();
        let pids = fs::read_to_string(pids).unwrap();
        assert!(pids.split_whitespace().all(is_running));
        drop(service);
        eventually(|| !pids.split_whitespace().any(is_running));
    }

    #[tokio::test]
    async fn a_failure_shows_the_end_of_the_log() {
        let home = tempfile::tempdir().unwrap();
        let mut command = guarded("/bin/sh");
        command.args(["-c", "echo one; echo two >&2; exit 3"]);
        let error = run("sh", command, &home.path().join("log"), false).await.unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.ends_with("one\ntwo"), "{error}");
    }

    #[tokio::test]
    async fn what_is_captured_is_not_in_the_log() {
        let home = tempfile::tempdir().unwrap();
        let mut command = guarded("/bin/echo");
        command.arg("hello");
        let output = run("echo", command, &home.path().join("log"), true).await.unwrap();
        assert_eq!((output.as_slice(), tail(&home.path().join("log")).as_str()), (b"hello\n".as_slice(), ""));
    }
}
