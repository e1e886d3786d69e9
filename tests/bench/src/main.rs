//! `make bench`: how long the packaged functions take to replicate an image, beside other programs and beside the limit.
//!
//! A local ECR ([`ecr_local`]) gives every client a network interface of its own with a round trip and a rate, the same for
//! all of them; reading from the source is not shaped, for the functions run beside it. The functions are the packaged
//! programs, each polling a runtime API of its own, and are driven as the state machine drives them; they are started before
//! the clock, as they are after a first push. A peer is a process for each target, started by the clock, as there is no other
//! way to run it. Each run has fresh target repositories, and counts only if the image is there afterwards.
//!
//! It is a benchmark and not a test: nothing fails when a time misses its aim, which is written down. What no machine may
//! miss, bytes and memory, is an error.

mod audit;
mod error;
mod figures;
mod function;
mod image;
mod machine;
mod measure;
mod peer;
mod replicate;
mod resources;
mod results;
mod table;
mod workload;
mod world;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use crate::error::Error;
use crate::machine::Machine;
use crate::measure::{measure, say};
use crate::peer::PEERS;
use crate::results::Results;
use crate::workload::Workload;

/// The instruction set of this machine, as the packages are named.
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };

/// Measure the packaged functions beside other programs.
#[derive(Debug, Parser)]
struct Arguments {
    /// How often each program runs each workload, after a warm-up
    #[arg(long, default_value_t = 5, env = "RUNS")]
    runs: usize,
    /// Only this workload (several times for several); the figures of the others are kept
    #[arg(long, value_name = "WORKLOAD")]
    only: Vec<String>,
    /// One run of an eighth of each size: to see whether everything runs
    #[arg(long)]
    quick: bool,
    /// Measure nothing: print the figures that there are
    #[arg(long)]
    no_run: bool,
    /// Write the tables into docs/performance.md
    #[arg(long, conflicts_with = "quick")]
    write_docs: bool,
    /// Where the functions are, if not below target/lambda: to profile a build with symbols
    #[arg(long, value_name = "DIRECTORY")]
    packages: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {}", error.chain()));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Error> {
    let root = root();
    let bench = root.join("target/bench");
    fs::create_dir_all(&bench).map_err(Error::io(format!("make {}", bench.display())))?;
    // What is measured in small is never taken for the real figures.
    let file = bench.join(if arguments.quick { "quick.json" } else { "results.json" });
    let machine = Machine::this();
    let mut results = Results::read(&file).filter(|results| results.machine == machine).unwrap_or_default();
    if !arguments.no_run {
        results.machine = machine;
        run_workloads(&arguments, &root, &mut results, &file).await?;
    }
    let table = table::markdown(&results);
    let _ = writeln!(io::stdout(), "{table}\n{}", table::of_audits(&results));
    if arguments.write_docs {
        let document = root.join("docs/performance.md");
        // What another machine measured stays where this one has nothing to say.
        if !results.workloads.is_empty() {
            table::write(&document, &table, table::BENCH)?;
        }
        if !results.audits.is_empty() {
            table::write(&document, &table::of_audits(&results), table::AUDIT)?;
        }
    }
    let judged = results
        .workloads
        .iter()
        .flat_map(|workload| workload.aims.iter().map(|aim| (workload.name.clone(), aim.clone())));
    let audited = audit::judge(&results.audits).into_iter().map(|aim| (audit::NAME.to_owned(), aim));
    match judged.chain(audited).find(|(_, aim)| !aim.met && !aim.is_of_time) {
        Some((workload, aim)) => {
            Err(Error::Failed(format!("{workload}, {}: {}, found {}", aim.contender, aim.aim, aim.found)))
        }
        None => Ok(()),
    }
}

async fn run_workloads(arguments: &Arguments, root: &Path, results: &mut Results, file: &Path) -> Result<(), Error> {
    let workloads = workload::all();
    let names: Vec<&str> = workloads.iter().map(|workload| workload.name).chain([audit::NAME]).collect();
    if let Some(unknown) = arguments.only.iter().find(|name| !names.contains(&name.as_str())) {
        return Err(Error::Failed(format!("no workload `{unknown}`: there are {}", names.join(", "))));
    }
    let mut peers = Vec::new();
    for peer in &PEERS {
        if let Some(version) = peer.version() {
            results.peers.insert(peer.name.into(), version);
            peers.push(peer);
        } else {
            say(&format!("{} is not installed: it is left out", peer.name));
        }
    }
    let packages = arguments.packages.clone().unwrap_or_else(|| root.join("target/lambda").join(ARCHITECTURE));
    let data = root.join("target/bench/data");
    if data.exists() {
        fs::remove_dir_all(&data).map_err(Error::io(format!("empty {}", data.display())))?;
    }
    let is_chosen = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);
    let runs = if arguments.quick { 1 } else { arguments.runs.max(1) };
    for workload in workloads.iter().filter(|workload| is_chosen(workload.name)) {
        let workload = if arguments.quick { Workload::quick(workload.clone()) } else { workload.clone() };
        let measured = measure(&workload, &peers, runs, &packages, &data).await?;
        results.add(measured, &names);
        // Kept after each: an hour's figures are not lost with the last one.
        results.write(file)?;
        fs::remove_dir_all(data.join(workload.name)).map_err(Error::io("remove a workload's data"))?;
    }
    if is_chosen(audit::NAME) {
        results.audits = audit::measure(arguments.quick, &packages, &data).await?;
        results.write(file)?;
    }
    Ok(())
}

/// The workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap_or_else(|_| PathBuf::from("."))
}
