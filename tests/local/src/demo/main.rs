//! `make demo`: one push, every region, on this machine.

mod follow;
mod run;
mod screen;

use std::process::ExitCode;

use clap::Parser;

/// Replicates an image on a local stack, and compares what arrived.
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    /// The image: an OCI layout's directory or a tar archive, each with :<name> where it holds several; with skopeo, anything
    /// that it reads. Default: an image made for this.
    #[arg(long, env = "IMAGE", hide_env_values = true)]
    image: Option<String>,
    /// The target regions, separated by commas or spaces.
    #[arg(long, env = "TARGETS", default_value = "eu-west-1 us-west-2 ap-southeast-2")]
    targets: String,
    /// Leave the stack up until Ctrl-C, and show how to use it.
    #[arg(long, env = "KEEP", value_parser = clap::builder::BoolishValueParser::new(), action = clap::ArgAction::Set,
        num_args = 0..=1, default_value = "false", default_missing_value = "true")]
    keep: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse_from(std::env::args().filter(|argument| !argument.is_empty()));
    let screen = screen::Screen::new();
    // Dropping the run stops what it started.
    let result = tokio::select! {
        result = run::run(&arguments, &screen) => result,
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
