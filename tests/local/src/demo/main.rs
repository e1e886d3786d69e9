//! `make demo`: one push, every region, on this machine.

mod follow;
mod reconcile;
mod run;
mod screen;

use std::env;
use std::process::ExitCode;

/// What the environment asks for; what is empty is not asked for.
#[derive(Debug)]
pub(crate) struct Request {
    /// `IMAGE`: an OCI layout's directory or a tar archive, each with `:<name>` where it holds several; with skopeo, anything
    /// that it reads.
    image: Option<String>,
    /// `TARGETS`: regions, separated by commas or spaces.
    targets: Option<String>,
    /// `RECONCILE`: instead of a push, a source that already has images.
    reconcile: bool,
    /// `KEEP`: leave the stack up until Ctrl-C, and show how to use it.
    keep: bool,
}

impl Request {
    fn from_env() -> Self {
        let value = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let is_set = |name| value(name).is_some_and(|value| value != "0");
        let (reconcile, keep) = (is_set("RECONCILE"), is_set("KEEP"));
        Self { image: value("IMAGE"), targets: value("TARGETS"), reconcile, keep }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let request = Request::from_env();
    let screen = screen::Screen::new();
    // Dropping the run stops what it started.
    let demonstrate = async {
        if request.reconcile { reconcile::run(&request, &screen).await } else { run::run(&request, &screen).await }
    };
    let result = tokio::select! {
        result = demonstrate => result,
        () = interrupted() => {
            screen.line("\nstopped");
            return ExitCode::from(130);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            screen.problem(&problem.to_string());
            ExitCode::FAILURE
        }
    }
}

async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        }
        _ => std::future::pending().await,
    }
}
