//! The demo of reconcile-registry: a source that has images before anything is deployed, audited, planned, repaired, and audited again.

use std::path::Path;
use std::time::{Duration, Instant};

use local_stack::{Client, Error, ExecutionStatus, LocalStack, MapRun, SOURCE, Sample, Undeployed};
use serde_json::{Value, json};
use shared::reconcile::{Mode, Report};

use crate::Request;
use crate::run::{DIRECTORY, Failure, deploy, launch, prepare, targets, write_json};
use crate::screen::{Screen, bytes, count, seconds};

const REPOSITORIES: [&str; 3] = ["demo/api", "demo/base", "demo/web"];

/// How many images each of them has.
const IMAGES: u64 = 4;

/// What a GB costs between regions, in the plan.
const PRICE_PER_GB: f64 = 0.02;

/// What arrives in a second, in the plan: nothing was copied yet from which it could be told.
const BYTES_PER_SECOND: f64 = 50_000_000.0;

const POLL: Duration = Duration::from_millis(200);

/// How wide a progress bar is.
const BAR: usize = 30;

pub(crate) async fn run(request: &Request, screen: &Screen) -> Result<(), Failure> {
    let start = Instant::now();
    let targets = targets(request)?;
    let directory = prepare()?;
    screen.line(format!("Images that are in {SOURCE} already, found and replicated to {}\n", targets.join(", ")));
    let undeployed = launch(targets, &directory, screen).await?;
    fill(&undeployed, &directory, screen).await?;
    let stack = deploy(undeployed, screen).await?;

    for input in [
        json!({"mode": "audit"}),
        json!({"mode": "plan", "pricePerGb": PRICE_PER_GB, "bytesPerSecond": BYTES_PER_SECOND}),
        json!({"mode": "repair"}),
    ] {
        reconcile(&stack, &input, screen).await?;
    }
    let report = reconcile(&stack, &json!({"mode": "audit"}), screen).await?;
    write_json(&directory.join("reconcile-report.json"), &report)?;
    if !report.complete {
        return Err(Failure::Incomplete(report.summary));
    }
    screen.line(format!("\n  {DIRECTORY}/reconcile-report.json   the last report, as EventBridge delivered it"));
    screen.line(format!("\nNothing differs any more, after {}", seconds(start.elapsed())));
    if request.keep {
        show_how_to_use(&stack, screen);
        std::future::pending::<()>().await;
    }
    Ok(())
}

/// Pushes images before there is anything that could hear of it.
async fn fill(undeployed: &Undeployed, directory: &Path, screen: &Screen) -> Result<(), Error> {
    let since = Instant::now();
    let mut seed = 0;
    for repository in REPOSITORIES {
        for version in 1..=IMAGES {
            seed += 1;
            let sample = Sample {
                seed,
                shared_layers: vec![256],
                own_layers: vec![512],
                architectures: vec!["amd64"],
                attested: false,
            };
            let image = sample.write(directory.join("image"))?;
            undeployed.push(Client::installed(), &image, repository, &format!("v{version}")).await?;
        }
    }
    let images = count(REPOSITORIES.len() * usize::try_from(IMAGES).unwrap_or_default(), "image");
    screen.step("push", format!("{images} to {SOURCE}, in {}", REPOSITORIES.join(", ")), since);
    Ok(())
}

/// Runs reconcile-registry, and shows what it found.
async fn reconcile(stack: &LocalStack, input: &Value, screen: &Screen) -> Result<Report, Failure> {
    let since = Instant::now();
    let arn = stack.start_reconcile(input).await?;
    let mut shown = None;
    let execution = loop {
        let execution = stack.execution(&arn).await?;
        if let Some(progress) = progress(stack, &arn).await?.filter(|it| Some(it) != shown.as_ref()) {
            screen.line(format!("  {progress}"));
            shown = Some(progress);
        }
        if execution.is_over() {
            break execution;
        }
        tokio::time::sleep(POLL).await;
    };
    if execution.status != ExecutionStatus::Succeeded {
        let cause = execution.cause.or(execution.error).unwrap_or_else(|| "it did not say why".to_owned());
        return Err(Failure::Incomplete(cause));
    }
    let mut events = stack.reconcile_reports(&arn).await?;
    let report = events.remove(0).report;
    screen.line("");
    let mode = input["mode"].as_str().unwrap_or_default();
    screen.step(mode, report.summary.lines().next().unwrap_or_default(), since);
    show(&report, screen);
    Ok(report)
}

/// How far the replications are, once there are any.
async fn progress(stack: &LocalStack, execution: &str) -> Result<Option<String>, Error> {
    Ok(stack.map_run(execution).await?.map(|MapRun { total, succeeded, failed }| {
        let filled = BAR * (succeeded + failed) / total.max(1);
        let bar = format!("{}{}", "━".repeat(filled), "─".repeat(BAR - filled));
        format!("ReplicateImages {bar} {succeeded} of {} replicated, {failed} failed", count(total, "image"))
    }))
}

fn show(report: &Report, screen: &Screen) {
    let rows = report.totals.iter().map(|total| {
        vec![
            total.region.to_string(),
            total.rule.clone(),
            total.compared.to_string(),
            total.missing.to_string(),
            total.other_digest.to_string(),
            total.referrers_missing.to_string(),
        ]
    });
    screen.table(
        &["target", "rule", "compared", "missing", "other digest", "referrers missing"],
        &rows.collect::<Vec<_>>(),
    );
    for transfer in report.transfers.iter().filter(|_| report.request.mode == Mode::Plan) {
        let time = transfer.seconds.map_or_else(String::new, |time| format!(", {time:.2} s"));
        let cost = transfer.cost.map_or_else(String::new, |cost| format!(", {cost:.5} at {PRICE_PER_GB} a GB"));
        screen.line(format!("  {}   {} would cross{time}{cost}", transfer.region, bytes(transfer.bytes)));
    }
}

fn show_how_to_use(stack: &LocalStack, screen: &Screen) {
    screen.line(format!(
        "
The stack is up until Ctrl-C. Delete or push something, and then:

  export AWS_ENDPOINT_URL={} AWS_DEFAULT_REGION={} AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test
  make reconcile MODE=audit
  make reconcile-progress EXECUTION=<its ARN>
  aws s3 ls --recursive s3://{}/runs/",
        stack.endpoint(),
        stack.source(),
        stack.reconcile_bucket(),
    ));
}
