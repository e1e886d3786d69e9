//! What an audit of a registry takes: calls, memory and time; of one registry, and of another of half its size.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use axum::routing::post;
use axum::{Json, Router};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use s3_local::S3Local;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::contract::Execution;
use shared::reconcile::{FindInput, Found};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::error::Error;
use crate::figures::ratio;
use crate::function::Function;
use crate::machine::revision;
use crate::measure::say;
use crate::resources::Busy;
use crate::results::Judged;
use crate::world::{SOURCE, TARGETS, World, environment};

/// What `--only` calls it.
pub(crate) const NAME: &str = "audit";

/// The sizes of the registries, in repositories, and the images of each of those.
const REPOSITORIES: [usize; 2] = [100, 200];
const IMAGES: usize = 100;

/// How many of the regions are targets.
const TARGET_COUNT: usize = 3;

/// How many images come with one answer: DescribeImages' documented limit, and DescribeRepositories'.
const PAGE: usize = 1000;

/// How many repositories are filled at once.
const FILLED_AT_ONCE: usize = 8;

/// The function as the module deploys it.
const FUNCTION: &str = "find-differences";
const MEMORY: u32 = 512;
const TIME: Duration = Duration::from_mins(15);

/// How much more memory a registry of twice the size may take: what is measured of a process differs from run to run.
const NOISE: f64 = 1.1;

const BUCKET: &str = "bench";

/// The audit of a registry.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Audit {
    pub(crate) at: Timestamp,
    pub(crate) revision: String,
    pub(crate) repositories: usize,
    pub(crate) images: usize,
    pub(crate) targets: usize,
    /// What differed, and was found.
    pub(crate) differences: u64,
    pub(crate) seconds: f64,
    /// Calls to ECR by operation, those of all regions together.
    pub(crate) calls: BTreeMap<String, u64>,
    /// As few as the sizes of pages allow.
    pub(crate) least_calls: u64,
    /// Calls to S3.
    pub(crate) writes: u64,
    pub(crate) peak_memory: u64,
    pub(crate) user_seconds: f64,
    pub(crate) system_seconds: f64,
    pub(crate) machine_busy: f64,
}

impl Audit {
    pub(crate) fn calls(&self) -> u64 {
        self.calls.values().sum()
    }

    pub(crate) fn images_per_second(&self) -> f64 {
        ratio(self.images as u64, 1) / self.seconds
    }
}

/// Audits both registries, an eighth of each where it is to be quick.
pub(crate) async fn measure(quick: bool, packages: &Path, home: &Path) -> Result<Vec<Audit>, Error> {
    let mut audits = Vec::new();
    for repositories in REPOSITORIES {
        let repositories = if quick { repositories / 8 } else { repositories };
        let images = repositories * IMAGES;
        say(&format!("{NAME}: {images} images in {repositories} repositories, {TARGET_COUNT} targets"));
        let home = home.join(format!("{NAME}-{repositories}"));
        let audit = audit(repositories, packages, &home).await?;
        say(&format!("  {:.2} s, {} calls", audit.seconds, audit.calls()));
        audits.push(audit);
        std::fs::remove_dir_all(&home).map_err(Error::io("remove a registry's data"))?;
    }
    Ok(audits)
}

async fn audit(repositories: usize, packages: &Path, home: &Path) -> Result<Audit, Error> {
    let world = World::start(home.to_owned()).await?;
    let targets = &TARGETS[..TARGET_COUNT];
    let regions = || [SOURCE].into_iter().chain(targets.iter().copied());
    let name = |number: usize| format!("bench/repository-{number:04}");
    let fills = (0..repositories).flat_map(|number| regions().map(move |region| (number, region)));
    let fills = fills.map(|(number, region)| {
        // In the last target, an image of each repository is missing.
        let count = if Some(&region) == targets.last() { IMAGES - 1 } else { IMAGES };
        let world = &world;
        async move { world.fill(region, &name(number), count).await }
    });
    stream::iter(fills).buffer_unordered(FILLED_AT_ONCE).try_collect::<Vec<()>>().await?;

    let s3 = S3Local::start().await.map_err(Error::io("start s3-local"))?;
    let (step_functions, _server) = step_functions().await?;
    let mut environment = environment(world.endpoint());
    environment.push(("AWS_ENDPOINT_URL_S3", s3.endpoint()));
    environment.push(("AWS_ENDPOINT_URL_SFN", step_functions));
    environment.push(("BUCKET", BUCKET.to_owned()));
    environment.push(("REPLICATION_ARN", "arn:aws:states:eu-central-1:123456789012:stateMachine:replicate".to_owned()));
    let log = world.fresh("find-differences.log");
    let mut function = Function::start(FUNCTION, packages, MEMORY, &environment, log).await?;
    world.reset();
    let (started, busy) = (Instant::now(), Busy::now());
    let found: Found = function.invoke(&input(targets), TIME).await?;
    let (seconds, machine_busy) = (started.elapsed().as_secs_f64(), busy.since());
    if !found.done || found.differences.items != repositories as u64 {
        return Err(Error::Failed(format!("of {repositories} differences, the audit found {found:?}")));
    }
    let resources = function.resources();
    let pages = |count: usize| count.div_ceil(PAGE) as u64;
    let lists = (TARGET_COUNT + 1) as u64 * repositories as u64 * pages(IMAGES);
    Ok(Audit {
        at: Timestamp::now(),
        revision: revision(),
        repositories,
        images: repositories * IMAGES,
        targets: TARGET_COUNT,
        differences: found.differences.items,
        seconds,
        calls: world.counted(&regions().collect::<Vec<_>>()).calls,
        least_calls: pages(repositories) + lists,
        writes: s3.calls("PutObject"),
        peak_memory: resources.peak_memory,
        user_seconds: resources.user,
        system_seconds: resources.system,
        machine_busy,
    })
}

fn input(targets: &[&str]) -> FindInput {
    let all = json!({"include": ["*"], "exclude": []});
    let targets: Vec<Value> = targets.iter().map(|region| json!({"region": region})).collect();
    let rule = json!({"repositories": all, "tags": all, "untagged": false, "targets": targets});
    FindInput {
        execution: Execution {
            arn: "arn:aws:states:eu-central-1:123456789012:execution:reconcile:bench".into(),
            name: "bench".into(),
            started_at: Timestamp::now(),
            started_by: None,
        },
        input: json!({"mode": "audit"}),
        rules: BTreeMap::from([("all".to_owned(), rule)]),
        round: 1,
        verification: false,
    }
}

/// A Step Functions in which nothing runs, for as long as the set lives.
async fn step_functions() -> Result<(String, JoinSet<()>), Error> {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(Error::io("listen"))?;
    let address = listener.local_addr().map_err(Error::io("listen"))?;
    let router = Router::new().route("/", post(async || Json(json!({"executions": []}))));
    let mut server = JoinSet::new();
    server.spawn(async move {
        let _ = axum::serve(listener, router).await;
    });
    Ok((format!("http://{address}"), server))
}

/// What is aimed at, and what came of it.
pub(crate) fn judge(audits: &[Audit]) -> Vec<Judged> {
    let judged = |aim: &str, found: String, met: bool| Judged {
        contender: FUNCTION.into(),
        aim: aim.into(),
        found,
        met,
        is_of_time: false,
    };
    let mut all: Vec<Judged> = audits
        .iter()
        .map(|audit| {
            let found = format!("{} of {} images: {}", audit.calls(), audit.images, audit.least_calls);
            judged("as few calls as the sizes of pages allow", found, audit.calls() == audit.least_calls)
        })
        .collect();
    if let [half, whole] = audits {
        let times = ratio(whole.peak_memory, half.peak_memory.max(1));
        all.push(judged("twice the registry takes no more memory", format!("{times:.2} x"), times <= NOISE));
    }
    all
}
