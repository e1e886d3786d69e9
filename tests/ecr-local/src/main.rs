//! Runs a local ECR until it is told to stop.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use ecr_local::{Config, EcrLocal, Role};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// A regional, per-account Amazon ECR on loopback: a test double, not a registry to keep images in.
///
/// It prints one line of JSON with its endpoint, and stops on SIGTERM, SIGINT, or when its standard input is closed, so that
/// it does not outlive what started it.
#[derive(Debug, Parser)]
struct Arguments {
    /// The main port; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Where PutEvents is sent on each push; without it no event is sent.
    #[arg(long)]
    events_endpoint: Option<String>,
    /// The directory in which a directory for the layers is made, and deleted at the end.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// How many seconds a layer download URL is valid.
    #[arg(long, default_value_t = 3600)]
    url_ttl_seconds: u64,
    /// A role that AssumeRole gives credentials of, as <ARN> or <ARN>#<external ID>; may be given several times.
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<Role>,
    /// How many seconds those credentials are valid at most.
    #[arg(long, default_value_t = 3600)]
    session_ttl_seconds: u64,
    /// How many calls of PutImage a second each account has in a region; without it there is no quota.
    #[arg(long)]
    put_image_rate: Option<u32>,
    /// What the faults with a probability are drawn by.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    // Before the line is printed: who reads it may send a signal at once.
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let ecr = EcrLocal::start(Config {
        port: arguments.port,
        events_endpoint: arguments.events_endpoint,
        data_dir: arguments.data_dir,
        url_ttl: Duration::from_secs(arguments.url_ttl_seconds),
        roles: arguments.roles,
        session_ttl: Duration::from_secs(arguments.session_ttl_seconds),
        put_image_rate: arguments.put_image_rate,
        seed: arguments.seed,
        ..Config::default()
    })
    .await?;
    writeln!(io::stdout(), "{}", serde_json::json!({ "endpoint": ecr.endpoint() }))?;

    tokio::select! {
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
        _ = input_closed() => {}
    }
    Ok(())
}

/// Read on a thread of its own: the runtime would wait for its own reader of the standard input before it ends.
fn input_closed() -> oneshot::Receiver<()> {
    let (closed, signal) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        let _ = closed.send(());
    });
    signal
}
