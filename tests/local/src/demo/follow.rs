//! A run as it goes: the state machine's states, and for each target what its registry has been asked.
//!
//! The history tells of a task when it is over, so how far a target is is read off the calls that its registry counts.

use std::collections::BTreeSet;
use std::mem;
use std::time::Duration;

use ecr_local::RegionStats;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use local_stack::{Error, Execution, HistoryEvent, LocalStack};
use shared::contract::Image;

use crate::screen::{Screen, bytes, count};

const POLL: Duration = Duration::from_millis(100);

/// How many quarters of the bytes are told where there is no bar.
const QUARTERS: u64 = 4;

/// Shows an execution until it is over.
pub(crate) async fn follow(stack: &LocalStack, screen: &Screen, arn: &str) -> Result<Execution, Error> {
    let mut view = View::new(screen, stack.targets());
    loop {
        // Asked first: what is counted afterwards is then all of it.
        let execution = stack.execution(arn).await?;
        let history = stack.history(arn).await?;
        let stats = stack.ecr().stats();
        for (index, region) in stack.targets().iter().enumerate() {
            view.show_target(index, &stats.region(region));
        }
        view.show_states(&history);
        if execution.is_over() {
            view.end();
            return Ok(execution);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// What a target is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Waiting,
    EnsureRepository,
    CopyLayers,
    PutManifest,
}

impl Step {
    fn of(stats: &RegionStats) -> Self {
        let any = |operations: &[&str]| operations.iter().any(|operation| stats.calls.contains_key(*operation));
        // PutManifest begins by asking what is there already.
        if any(&["BatchGetImage", "PutImage"]) {
            Self::PutManifest
        } else if any(&["BatchCheckLayerAvailability", "InitiateLayerUpload"]) {
            Self::CopyLayers
        } else if any(&["DescribeRepositories", "CreateRepository"]) {
            Self::EnsureRepository
        } else {
            Self::Waiting
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::EnsureRepository => "EnsureRepository",
            Self::CopyLayers => "CopyLayers",
            Self::PutManifest => "PutManifest",
        }
    }
}

struct Target {
    region: String,
    bar: ProgressBar,
    shown: Option<(Step, u64)>,
    /// Where it stands, in words.
    standing: String,
}

struct View<'screen> {
    screen: &'screen Screen,
    states: BTreeSet<i64>,
    image: Option<Image>,
    targets: Vec<Target>,
    ended: bool,
}

impl<'screen> View<'screen> {
    fn new(screen: &'screen Screen, regions: &[String]) -> Self {
        let widest = regions.iter().map(String::len).max().unwrap_or_default();
        let targets = regions.iter().map(|region| Target {
            region: format!("{region:<widest$}"),
            bar: ProgressBar::hidden(),
            shown: None,
            standing: String::new(),
        });
        Self { screen, states: BTreeSet::new(), image: None, targets: targets.collect(), ended: false }
    }

    fn show_states(&mut self, history: &[HistoryEvent]) {
        if self.image.is_none() {
            let image = history.iter().find_map(|event| event.output_of("ResolveImage"));
            self.image = image.and_then(|output| serde_json::from_value(output["image"].clone()).ok());
            if let Some(image) = self.image.clone() {
                self.show_image(&image);
            }
        }
        for event in history {
            let Some(state) = event.entered() else { continue };
            if self.states.insert(event.id) {
                match (state, &self.image) {
                    ("ReplicateToTargets", Some(_)) => self.begin_targets(),
                    ("Report", _) => {
                        self.end();
                        self.screen.line("  Report");
                    }
                    ("AwaitIndex" | "NothingToDo" | "Replicated", _) => self.screen.line(format!("  {state}")),
                    // Over before anyone reads its name, or within the Map.
                    _ => {}
                }
            }
        }
    }

    fn show_image(&self, image: &Image) {
        let (manifests, blobs) = (count(image.manifests, "manifest"), count(image.blobs, "layer"));
        self.screen.line(format!("  ResolveImage         {manifests}, {blobs}, {}", bytes(image.bytes)));
    }

    fn begin_targets(&mut self) {
        self.screen.line(format!("  ReplicateToTargets   {}", count(self.targets.len(), "target")));
        if !self.screen.is_live {
            return;
        }
        let style = ProgressStyle::with_template("    {prefix}   {msg:<16} {bar:24} {bytes:>10} of {total_bytes}");
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        let total = self.image.as_ref().map_or(0, |image| image.bytes);
        for target in &mut self.targets {
            target.bar = bars.add(ProgressBar::new(total));
            target.bar.set_prefix(target.region.clone());
            if let Ok(style) = &style {
                target.bar.set_style(style.clone().progress_chars("━╸─"));
            }
        }
    }

    fn show_target(&mut self, index: usize, stats: &RegionStats) {
        let (Some(image), Some(target)) = (&self.image, self.targets.get_mut(index)) else { return };
        let step = Step::of(stats);
        // A part that is sent again is received again.
        let received = stats.uploaded_bytes.min(image.bytes);
        // By parts, and streamed.
        let layers: u64 =
            ["CompleteLayerUpload", "v2:PUT upload"].iter().filter_map(|call| stats.calls.get(*call)).sum();
        let what = match step {
            Step::CopyLayers => {
                format!("{layers} of {} layers, {} of {}", image.blobs, bytes(received), bytes(image.bytes))
            }
            Step::PutManifest => format!("{}, {}", count(image.manifests, "manifest"), bytes(received)),
            Step::EnsureRepository | Step::Waiting => String::new(),
        };
        let standing = format!("    {}   {:<16}   {what}", target.region, step.name());
        standing.trim_end().clone_into(&mut target.standing);
        if self.screen.is_live {
            target.bar.set_message(step.name());
            target.bar.set_position(received);
            return;
        }
        let quarter = if step == Step::CopyLayers { received * QUARTERS / image.bytes.max(1) } else { 0 };
        if step > Step::Waiting && target.shown != Some((step, quarter)) {
            target.shown = Some((step, quarter));
            self.screen.line(&target.standing);
        }
    }

    /// Puts the last words in the place of the bars.
    fn end(&mut self) {
        for target in &mut self.targets {
            mem::replace(&mut target.bar, ProgressBar::hidden()).finish_and_clear();
        }
        if self.screen.is_live && !mem::replace(&mut self.ended, true) {
            for target in &self.targets {
                self.screen.line(&target.standing);
            }
        }
    }
}
