//! Running a workload: the contenders in turn, each run on fresh targets, and what the figures come to.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use jiff::Timestamp;
use shared::contract::Target;

use crate::error::Error;
use crate::figures::median;
use crate::image;
use crate::machine::revision;
use crate::peer::{Copy, Peer, Reference};
use crate::replicate::Functions;
use crate::resources::{Busy, Resources};
use crate::results::{self, Judged, Measured};
use crate::workload::{Bound, Network, Ours, Prior, Workload};
use crate::world::{Counted, Pushed, REPOSITORY, SOURCE, TAG, TARGETS, World};

const MIB: u64 = 1024 * 1024;

/// The part size that the registry asks for, in bytes.
const LARGEST_PART: u64 = 10 * MIB;

/// Who runs a workload.
#[derive(Debug, Clone, Copy)]
enum Contender<'a> {
    Ours(Ours),
    /// A peer: its copies to several targets one after the other, or all at once.
    Peer {
        peer: &'a Peer,
        side_by_side: bool,
    },
}

/// One run.
#[derive(Debug, Default)]
struct Run {
    time: Duration,
    counted: Counted,
    resources: Resources,
    machine_busy: f64,
    invocations: Option<u32>,
    starts: Vec<f64>,
}

impl Contender<'_> {
    fn name(&self) -> String {
        match self {
            Self::Ours(ours) => ours.name.to_owned(),
            Self::Peer { peer, side_by_side: false } => peer.name.to_owned(),
            Self::Peer { peer, side_by_side: true } => format!("{}, side by side", peer.name),
        }
    }

    fn own_runs(&self) -> Option<usize> {
        if let Self::Ours(ours) = self { ours.runs } else { None }
    }
}

/// Measures a workload.
pub(crate) async fn measure(
    workload: &Workload,
    peers: &[&Peer],
    runs: usize,
    packages: &Path,
    home: &Path,
) -> Result<Measured, Error> {
    say(&format!("{}: {}", workload.name, workload.title));
    let world = World::start(home.join(workload.name)).await?;
    world.create(SOURCE, REPOSITORY).await?;
    let layers = workload.image();
    let pushed = world.push(SOURCE, REPOSITORY, &layers).await?;

    let mut contenders: Vec<Contender<'_>> = workload.ours.iter().copied().map(Contender::Ours).collect();
    for peer in peers.iter().filter(|_| workload.peers) {
        contenders.push(Contender::Peer { peer, side_by_side: false });
        if workload.targets > 1 {
            contenders.push(Contender::Peer { peer, side_by_side: true });
        }
    }
    let mut measured: Vec<Vec<Run>> = contenders.iter().map(|_| Vec::new()).collect();
    // The first round is the warm-up. The contenders take turns, so that noise meets all of them.
    for round in 0..=runs {
        for (contender, measured) in contenders.iter().zip(&mut measured) {
            let own_runs = contender.own_runs().or(workload.runs);
            if own_runs.is_some_and(|own_runs| round == 0 || round > own_runs) {
                continue;
            }
            let run = run(&world, workload, &pushed, *contender, packages).await?;
            let kind = if round == 0 { "warm-up".to_owned() } else { format!("run {round}") };
            say(&format!("  {kind}, {}: {:.2} s", contender.name(), run.time.as_secs_f64()));
            if round > 0 {
                measured.push(run);
            }
        }
    }
    let contenders = contenders
        .iter()
        .zip(measured)
        .map(|(contender, runs)| summary(contender, &runs, limit(workload, &pushed, *contender)))
        .collect();
    let mut measured = Measured {
        name: workload.name.into(),
        title: workload.title.into(),
        at: Timestamp::now(),
        revision: revision(),
        targets: workload.targets,
        layer_bytes_missing: missing(workload, &pushed) * workload.targets as u64,
        round_trip_ms: shared::contract::milliseconds(workload.network.round_trip),
        bits_per_second: workload.network.bits_per_second,
        contenders,
        aims: Vec::new(),
    };
    compare(&mut measured, peers);
    measured.aims = judge(workload, &measured, peers);
    Ok(measured)
}

/// One run on fresh targets, which are checked and deleted afterwards.
async fn run(
    world: &World,
    workload: &Workload,
    pushed: &Pushed,
    contender: Contender<'_>,
    packages: &Path,
) -> Result<Run, Error> {
    const TARGET: &str = "bench/target";
    let regions = &TARGETS[..workload.targets];
    for region in regions {
        world.create(region, TARGET).await?;
        match workload.prior {
            Prior::Nothing => {}
            Prior::Older => drop(world.push(region, TARGET, &image::older(&workload.image())).await?),
            Prior::Same => drop(world.push(region, TARGET, &workload.image()).await?),
        }
    }
    let mut run = match contender {
        Contender::Ours(ours) => run_ours(world, workload, pushed, &ours, packages, TARGET).await?,
        Contender::Peer { peer, side_by_side } => run_peer(world, workload, peer, side_by_side, TARGET).await?,
    };
    run.counted = world.counted(regions);
    for region in regions {
        world.check(region, TARGET, &pushed.digest).await?;
        world.delete(region, TARGET).await?;
    }
    Ok(run)
}

async fn run_ours(
    world: &World,
    workload: &Workload,
    pushed: &Pushed,
    ours: &Ours,
    packages: &Path,
    repository: &str,
) -> Result<Run, Error> {
    let image = pushed.image()?;
    let mut functions = Vec::new();
    for region in &TARGETS[..workload.targets] {
        let target = || Ok::<_, shared::names::MalformedName>(Target::own(region.parse()?, repository.parse()?));
        let target = target().map_err(Error::call("naming a target"))?;
        functions.push((target, Functions::start(world, workload, ours, packages).await?));
    }
    world.reset();
    let (started, busy) = (Instant::now(), Busy::now());
    let image = &image;
    let copies = functions.iter_mut().map(|(target, functions)| functions.run(image, target, workload.invocation));
    let invocations = try_join_all(copies).await?.into_iter().sum();
    let mut run =
        Run { time: started.elapsed(), machine_busy: busy.since(), invocations: Some(invocations), ..Run::default() };
    for (_, functions) in &functions {
        let (resources, starts) = functions.resources();
        run.resources += resources;
        run.starts.extend(starts);
    }
    Ok(run)
}

async fn run_peer(
    world: &World,
    workload: &Workload,
    peer: &Peer,
    side_by_side: bool,
    repository: &str,
) -> Result<Run, Error> {
    let source = world.endpoint();
    let mut targets = Vec::new();
    for &region in &TARGETS[..workload.targets] {
        targets.push((region, world.interface(workload.network)?, world.fresh(peer.name)));
    }
    let copies: Vec<Copy<'_>> = targets
        .iter()
        .map(|(region, endpoint, home)| Copy {
            source: Reference { endpoint: &source, repository: REPOSITORY, tag: TAG, password: world.password(SOURCE) },
            target: Reference { endpoint, repository, tag: TAG, password: world.password(region) },
            home: home.clone(),
        })
        .collect();
    world.reset();
    let (started, busy) = (Instant::now(), Busy::now());
    let mut resources = Resources::default();
    if side_by_side {
        for used in try_join_all(copies.iter().map(|copy| peer.run(copy))).await? {
            resources += used;
        }
    } else {
        for copy in &copies {
            resources += peer.run(copy).await?;
        }
    }
    Ok(Run { time: started.elapsed(), machine_busy: busy.since(), resources, ..Run::default() })
}

/// The layer bytes that each target has to receive, whoever sends them.
fn missing(workload: &Workload, pushed: &Pushed) -> u64 {
    workload.missing(&pushed.blobs).iter().map(|blob| blob.size).sum()
}

/// The least time that a copy takes: its bytes at the rate of the interfaces that it has, and the round trips that nobody can
/// do without ([`Workload::round_trips`]). A layer goes through one interface, so with several of them it takes as long as an
/// even share, or as the largest layer. Copies to targets that follow one another take as long as all of them.
fn limit(workload: &Workload, pushed: &Pushed, contender: Contender<'_>) -> Option<f64> {
    let Network { round_trip, bits_per_second } = workload.network;
    let (interfaces, times) = match contender {
        Contender::Ours(ours) => (ours.shards, 1),
        Contender::Peer { side_by_side: true, .. } => (1, 1),
        Contender::Peer { side_by_side: false, .. } => (1, workload.targets),
    };
    let largest = workload.missing(&pushed.blobs).iter().map(|blob| blob.size).max().unwrap_or(0);
    let manifest = if workload.prior == Prior::Same { 0 } else { pushed.manifest_bytes };
    let bytes = ((missing(workload, pushed) + manifest) / interfaces as u64).max(largest);
    let wire = crate::figures::ratio(bytes * 8, bits_per_second?);
    Some((wire + round_trip.as_secs_f64() * f64::from(workload.round_trips())) * crate::figures::ratio(times as u64, 1))
}

fn summary(contender: &Contender<'_>, runs: &[Run], limit_seconds: Option<f64>) -> results::Contender {
    let seconds: Vec<f64> = runs.iter().map(|run| run.time.as_secs_f64()).collect();
    let of = |figure: &dyn Fn(&Run) -> f64| median(runs.iter().map(figure).collect());
    // Of whole numbers the middle one: it was really measured.
    let whole = |figure: &dyn Fn(&Run) -> u64| {
        let mut values: Vec<u64> = runs.iter().map(figure).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    let starts: Vec<f64> = runs.iter().flat_map(|run| run.starts.iter().copied()).collect();
    let invocations = runs.iter().map(|run| run.invocations).collect::<Option<Vec<_>>>().map(|mut invocations| {
        invocations.sort_unstable();
        invocations.get(invocations.len() / 2).copied().unwrap_or_default()
    });
    let operations: std::collections::BTreeSet<&String> =
        runs.iter().flat_map(|run| run.counted.calls.keys()).collect();
    let calls = operations
        .into_iter()
        .map(|name| (name.clone(), whole(&|run| run.counted.calls.get(name).copied().unwrap_or_default())))
        .collect();
    results::Contender {
        name: contender.name(),
        ours: matches!(contender, Contender::Ours(_)),
        median_seconds: median(seconds.clone()),
        seconds,
        limit_seconds,
        ratio: BTreeMap::new(),
        calls,
        layer_bytes: whole(&|run| run.counted.uploaded),
        wire_bytes: whole(&|run| run.counted.received),
        wire_bytes_back: whole(&|run| run.counted.sent),
        peak_memory: whole(&|run| run.resources.peak_memory),
        user_seconds: of(&|run| run.resources.user),
        system_seconds: of(&|run| run.resources.system),
        machine_busy: of(&|run| run.machine_busy),
        invocations,
        start_seconds: (!starts.is_empty()).then(|| median(starts)),
    }
}

/// Fills in everyone's time by that of each peer.
fn compare(measured: &mut Measured, peers: &[&Peer]) {
    for peer in peers {
        let Some(seconds) = seconds(measured, peer.name) else { continue };
        for contender in &mut measured.contenders {
            contender.ratio.insert(peer.name.to_owned(), contender.median_seconds / seconds);
        }
    }
}

fn seconds(measured: &Measured, name: &str) -> Option<f64> {
    measured.contenders.iter().find(|contender| contender.name == name).map(|contender| contender.median_seconds)
}

fn judge(workload: &Workload, measured: &Measured, peers: &[&Peer]) -> Vec<Judged> {
    let mut judged = Vec::new();
    for aim in &workload.aims {
        let Some(ours) = measured.contenders.iter().find(|contender| contender.name == aim.ours.name) else { continue };
        let mut add = |text: String, found: String, met: bool| {
            let (contender, is_of_time) = (ours.name.clone(), aim.bound.is_of_time());
            judged.push(Judged { contender, aim: text, found, met, is_of_time });
        };
        match aim.bound {
            Bound::OfPeer(most) | Bound::OfPeerSideBySide(most) => {
                for peer in peers {
                    let side_by_side = matches!(aim.bound, Bound::OfPeerSideBySide(_));
                    let name = Contender::Peer { peer, side_by_side }.name();
                    let Some(theirs) = seconds(measured, &name) else { continue };
                    let ratio = ours.median_seconds / theirs;
                    add(format!("<= {most:.2} x {name}"), format!("{ratio:.2} x"), ratio <= most);
                }
            }
            Bound::OfLimit(least) => {
                let Some(limit) = ours.limit_seconds else { continue };
                let share = limit / ours.median_seconds;
                add(
                    format!(">= {:.0} % of the limit", least * 100.0),
                    format!("{:.0} %", share * 100.0),
                    share >= least,
                );
            }
            Bound::TimesAsFastAs(least, other) => {
                let Some(theirs) = seconds(measured, other.name) else { continue };
                let times = theirs / ours.median_seconds;
                add(format!(">= {least:.1} x as fast as {}", other.name), format!("{times:.1} x"), times >= least);
            }
            Bound::OnlyWhatIsMissing => {
                let wanted = measured.layer_bytes_missing;
                let found = format!("{} bytes of {wanted}", ours.layer_bytes);
                add("layer bytes sent = those missing".into(), found, ours.layer_bytes == wanted);
            }
            Bound::OnePartTwice => {
                let parts = (workload.layers.len() * measured.targets) as u64;
                let most = measured.layer_bytes_missing + parts * LARGEST_PART;
                let found = format!("{} bytes more than were missing", ours.layer_bytes - measured.layer_bytes_missing);
                add("at most one part of each layer twice".into(), found, ours.layer_bytes <= most);
            }
            Bound::Memory => {
                let found = format!("{} MiB", ours.peak_memory.div_ceil(MIB));
                add("<= 256 MiB of memory".into(), found, ours.peak_memory <= 256 * MIB);
            }
        }
    }
    judged
}

/// Tells how far it has come.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
