//! The page: a run in words, lengths and positions. All the HTML is the template's, and all the escaping.

use askama::Template;
use aws_sdk_sfn::types::ExecutionStatus;
use jiff::Timestamp;
use shared::contract::{Status, TargetReport};

use crate::Error;
use crate::arn::ExecutionArn;
use crate::run::{Attempt, End, Failed, Part, Run, Slowest, Step};

/// How wide a character of a bar's label is, and a bar's padding, in percent of the timeline on a screen of 1280 pixels.
const CHARACTER: f64 = 0.72;
const PADDING: f64 = 0.9;

/// At most so many steps has a time axis.
const MOST_TICKS: i64 = 8;

/// The steps that a time axis may have, in milliseconds.
const TICKS: [i64; 24] = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000,
    900_000, 1_800_000, 3_600_000, 7_200_000, 14_400_000,
];

/// Writes the page of a run, with a link to the console if that shows it.
///
/// # Errors
/// If the page cannot be rendered.
pub fn page(run: &Run, has_console: bool) -> Result<String, Error> {
    Ok(Page::of(run, has_console).render()?)
}

#[derive(Template)]
#[template(path = "run.html")]
struct Page<'run> {
    name: String,
    digest: &'run str,
    outcome: &'static str,
    outcome_kind: &'static str,
    facts: Vec<(&'static str, String)>,
    arn: &'run str,
    console: Option<String>,
    error: Option<&'run Failed>,
    notes: Vec<String>,
    targets: Vec<Row>,
    slowest: Option<String>,
    timelines: Vec<Timeline>,
    failures: Vec<Failure>,
    attempts: Vec<AttemptRow>,
}

/// A target, in the table.
struct Row {
    region: String,
    account: String,
    repository: String,
    status: String,
    mark: &'static str,
    kind: &'static str,
    lag: String,
    copied: Option<Bytes>,
    skipped: Option<Bytes>,
    layers: String,
    retries: usize,
    error: String,
}

struct Bytes {
    exact: u64,
    text: String,
}

/// The lanes of one part of the run.
struct Timeline {
    title: String,
    ticks: Vec<Tick>,
    lanes: Vec<Lane>,
}

struct Tick {
    left: f64,
    text: String,
}

struct Lane {
    name: String,
    detail: String,
    mark: &'static str,
    kind: &'static str,
    length: String,
    /// How many steps run side by side at most, and a line for the caption.
    rows: usize,
    bars: Vec<Bar>,
    caption: Option<Caption>,
}

struct Bar {
    kind: &'static str,
    is_slowest: bool,
    left: f64,
    width: f64,
    row: usize,
    label: String,
    title: String,
}

struct Caption {
    /// Which side it hangs on, and how far from it.
    side: &'static str,
    offset: f64,
    text: String,
}

/// An error, with how often it came.
struct Failure {
    lane: String,
    step: String,
    error: String,
    message: String,
    count: usize,
}

/// An attempt, in the list of all.
struct AttemptRow {
    lane: String,
    step: String,
    number: usize,
    start: String,
    length: String,
    outcome: String,
}

impl<'run> Page<'run> {
    fn of(run: &'run Run, has_console: bool) -> Self {
        let image = &run.image;
        let tag = image.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let name = image.repository.as_ref().map_or("no image".to_owned(), |repository| format!("{repository}{tag}"));
        let arn = ExecutionArn::parse(&run.arn).ok();
        let slowest = run.slowest();
        let (outcome, outcome_kind) = outcome(run);
        Self {
            name,
            digest: image.digest.as_deref().unwrap_or_default(),
            outcome,
            outcome_kind,
            facts: facts(run),
            arn: &run.arn,
            console: arn.as_ref().filter(|_| has_console).map(ExecutionArn::console),
            error: run.error.as_ref(),
            notes: notes(run),
            targets: (0..run.targets.len()).map(|target| row(run, target, arn.as_ref())).collect(),
            slowest: slowest.map(|slowest| slowest_in_words(run, slowest)),
            timelines: (0..run.parts.len()).map(|part| timeline(run, part, slowest)).collect(),
            failures: failures(run),
            attempts: attempts(run),
        }
    }
}

/// What became of the run, and the class of the style sheet for that.
fn outcome(run: &Run) -> (&'static str, &'static str) {
    match run.status {
        ExecutionStatus::Succeeded if run.nothing_to_do.is_some() => ("nothing to do", "open"),
        ExecutionStatus::Succeeded => ("succeeded", "good"),
        ExecutionStatus::Running => ("running", "open"),
        ExecutionStatus::PendingRedrive => ("about to be redriven", "open"),
        ExecutionStatus::TimedOut => ("timed out", "bad"),
        ExecutionStatus::Aborted => ("aborted", "bad"),
        _ => ("failed", "bad"),
    }
}

fn facts(run: &Run) -> Vec<(&'static str, String)> {
    let image = &run.image;
    let duration = milliseconds_between(run.started_at, run.ended_at);
    let mut facts = vec![("Started", moment(run.started_at)), ("Duration", span(duration))];
    if let Some(region) = &image.region {
        facts.push(("Source region", region.clone()));
    }
    facts.push(("Rule", run.rule.clone().unwrap_or_else(|| "none: started by hand".to_owned())));
    if let (Some(size), Some(manifests), Some(layers)) = (image.bytes, image.manifests, image.blobs) {
        let content = format!("{}, {}, {}", bytes(size), count(manifests, "manifest"), count(layers, "layer"));
        facts.push(("Image", content));
    }
    if !run.targets.is_empty() {
        let reports = run.targets.iter().filter_map(|target| target.report.as_ref());
        let complete = reports.filter(|report| report.status.is_complete()).count();
        facts.push(("Targets", format!("{complete} of {} complete", run.targets.len())));
    }
    if run.parts.len() > 1 {
        facts.push(("Redrives", (run.parts.len() - 1).to_string()));
    }
    facts
}

fn notes(run: &Run) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(message) = &run.nothing_to_do {
        notes.push(format!("There was nothing to do: {message}."));
    }
    if run.status == ExecutionStatus::Running {
        notes.push(format!("It is still running: this is how it stood at {}.", moment(run.ended_at)));
    }
    if let Some(problem) = &run.unreadable {
        notes.push(format!(
            "Bytes, layers and status are missing: this program cannot read what the round ended with ({problem})."
        ));
    }
    notes
}

fn row(run: &Run, target: usize, arn: Option<&ExecutionArn>) -> Row {
    let place = &run.targets[target].place;
    let report = run.targets[target].report.as_ref();
    let own_account = || arn.map(|arn| arn.account.clone()).unwrap_or_default();
    let (mark, kind) = mark(run, target);
    let none = || "–".to_owned();
    Row {
        region: place.region.clone(),
        account: place.registry_id.clone().unwrap_or_else(own_account),
        repository: place.repository.clone(),
        status: status(run, target),
        mark,
        kind,
        lag: report.and_then(|report| report.lag_ms).map_or_else(none, span),
        copied: report.map(|report| Bytes::of(report.bytes_copied)),
        skipped: report.map(|report| Bytes::of(report.bytes_skipped)),
        layers: report.map_or_else(none, |report| format!("{} / {}", report.layers_copied, report.layers_skipped)),
        retries: run.retries(target),
        error: report.and_then(|report| report.error.clone()).unwrap_or_default(),
    }
}

fn status(run: &Run, target: usize) -> String {
    match &run.targets[target].report {
        Some(report) => {
            let name = match report.status {
                Status::Replicated => "replicated",
                Status::Unchanged => "unchanged",
                Status::Superseded => "superseded",
                Status::Skipped => "skipped",
                Status::Conflict => "conflict",
                Status::Failed => "failed",
            };
            if report.round > 1 { format!("{name} in round {}", report.round) } else { name.to_owned() }
        }
        None if run.status == ExecutionStatus::Running => "running".to_owned(),
        None => "not reported".to_owned(),
    }
}

/// A target's status as a sign and as a class of the style sheet.
fn mark(run: &Run, target: usize) -> (&'static str, &'static str) {
    match run.targets[target].report.as_ref().map(|report| report.status) {
        Some(status) if status.is_complete() => ("✓", "good"),
        Some(status) if status.is_failure() => ("✕", "bad"),
        _ => ("○", "open"),
    }
}

fn slowest_in_words(run: &Run, slowest: Slowest) -> String {
    let (place, step) = (&run.targets[slowest.target].place, &run.steps[slowest.step]);
    format!(
        "The slowest target was {} {}, with {}; {} of that went to {}.",
        place.region,
        place.repository,
        span(slowest.target_ms),
        span(slowest.step_ms),
        step_name(step)
    )
}

fn timeline(run: &Run, part: usize, slowest: Option<Slowest>) -> Timeline {
    let title = match part {
        _ if run.parts.len() == 1 => "Timeline".to_owned(),
        0 => "Timeline until it failed".to_owned(),
        _ => format!("Timeline after redrive {part}, {}", moment(run.parts[part].start)),
    };
    let mut lanes = vec![lane(run, part, None, slowest)];
    let targets = (0..run.targets.len()).map(|target| lane(run, part, Some(target), slowest));
    // After a redrive, what arrived before it has no part in it.
    lanes.extend(targets.filter(|lane| !lane.bars.is_empty() || run.parts.len() == 1));
    Timeline { title, ticks: ticks(&run.parts[part]), lanes }
}

/// What the execution itself did in a part of the run, or what it did for a target.
fn lane(run: &Run, part: usize, target: Option<usize>, slowest: Option<Slowest>) -> Lane {
    let scale = Scale::of(&run.parts[part]);
    let slowest = slowest.filter(|slowest| slowest.part == part && Some(slowest.target) == target);
    // When each of the rows is free again.
    let mut rows: Vec<Timestamp> = Vec::new();
    let (mut bars, mut caption) = (Vec::new(), None);
    let mut period: Option<(Timestamp, Timestamp)> = None;
    for (index, step) in run.steps.iter().enumerate().filter(|(_, step)| step.target == target) {
        let attempts: Vec<&Attempt> = step.in_part(part).collect();
        let (Some(first), Some(last)) = (attempts.first(), attempts.last()) else { continue };
        let row = rows.iter().position(|free| *free <= first.start).unwrap_or(rows.len());
        rows.resize(rows.len().max(row + 1), last.end);
        rows[row] = last.end;
        let (start, end) = period.unwrap_or((first.start, last.end));
        period = Some((start.min(first.start), end.max(last.end)));
        bars.extend(attempts.windows(2).map(|pair| scale.wait(step, pair[0], pair[1], row)));
        let is_slowest = slowest.is_some_and(|slowest| slowest.step == index);
        for (number, attempt) in attempts.iter().enumerate() {
            bars.push(scale.bar(step, number + 1, attempt, row, is_slowest));
        }
        if let Some(slowest) = slowest.filter(|_| is_slowest) {
            caption = Some(scale.caption(step, slowest, first.start, last.end));
        }
    }
    let (mark, kind) = target.map_or(("", ""), |target| mark(run, target));
    let place = target.map(|target| &run.targets[target].place);
    let account = place.and_then(|place| place.registry_id.as_ref()).map(|id| format!(" in {id}")).unwrap_or_default();
    Lane {
        name: place.map_or_else(|| "execution".to_owned(), |place| place.region.clone()),
        detail: place.map(|place| format!("{}{account}", place.repository)).unwrap_or_default(),
        mark,
        kind,
        // The execution's own is at the head of the page.
        length: period
            .filter(|_| place.is_some())
            .map(|(start, end)| span(milliseconds_between(start, end)))
            .unwrap_or_default(),
        rows: rows.len().max(1) + usize::from(caption.is_some()),
        bars,
        caption,
    }
}

/// Where a moment of a part of the run is in its timeline, in percent.
struct Scale {
    start: Timestamp,
    total_ms: i64,
}

impl Scale {
    fn of(part: &Part) -> Self {
        Self { start: part.start, total_ms: milliseconds_between(part.start, part.end).max(1) }
    }

    #[expect(clippy::cast_precision_loss, reason = "a position on a screen")]
    fn percent(&self, milliseconds: i64) -> f64 {
        milliseconds as f64 / self.total_ms as f64 * 100.0
    }

    fn left(&self, at: Timestamp) -> f64 {
        self.percent(milliseconds_between(self.start, at))
    }

    fn bar(&self, step: &Step, number: usize, attempt: &Attempt, row: usize, is_slowest: bool) -> Bar {
        let left = self.left(attempt.start);
        let width = self.left(attempt.end) - left;
        let failed = matches!(attempt.end_state, End::Failed(_));
        let kind = match (&attempt.end_state, step.name.as_str()) {
            (End::Failed(_), _) => "failed",
            (End::Stopped, _) => "stopped",
            _ if step.is_wait => "wait",
            (_, "EnsureRepository") => "ensure",
            (_, "CopyLayers") => "copy",
            (_, "PutManifest") => "put",
            _ => "other",
        };
        let name = if failed { format!("✕ {}", step.name) } else { step.name.clone() };
        let initial = if failed { "✕" } else { step.name.get(..1).unwrap_or_default() };
        let fits = |text: &str| {
            let characters = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
            f64::from(characters) * CHARACTER + PADDING <= width
        };
        let label = [name.as_str(), initial].into_iter().find(|text| fits(text)).unwrap_or_default().to_owned();
        let title = format!(
            "{}, attempt {number}: {}, {}, from {}",
            step_name(step),
            end_in_words(&attempt.end_state),
            span(milliseconds_between(attempt.start, attempt.end)),
            span(milliseconds_between(self.start, attempt.start))
        );
        Bar { kind, is_slowest, left, width, row, label, title }
    }

    fn wait(&self, step: &Step, before: &Attempt, after: &Attempt, row: usize) -> Bar {
        let left = self.left(before.end);
        let length = span(milliseconds_between(before.end, after.start));
        Bar {
            kind: "wait",
            is_slowest: false,
            left,
            width: self.left(after.start) - left,
            row,
            label: String::new(),
            title: format!("{}: {length} until the next attempt", step_name(step)),
        }
    }

    fn caption(&self, step: &Step, slowest: Slowest, start: Timestamp, end: Timestamp) -> Caption {
        let text = format!("slowest: {}, {}", step_name(step), span(slowest.step_ms));
        // On the side that has room for it.
        let (left, right) = (self.left(start), 100.0 - self.left(end));
        if left <= 50.0 {
            Caption { side: "left", offset: left, text: format!("▲ {text}") }
        } else {
            Caption { side: "right", offset: right, text: format!("{text} ▲") }
        }
    }
}

fn ticks(part: &Part) -> Vec<Tick> {
    let scale = Scale::of(part);
    let step = TICKS.into_iter().find(|step| scale.total_ms / step <= MOST_TICKS);
    let step = step.unwrap_or(scale.total_ms / MOST_TICKS);
    let ticks = (0..=scale.total_ms / step).map(|number| number * step);
    ticks.map(|at| Tick { left: scale.percent(at), text: span(at) }).collect()
}

/// The errors, those that came several times once.
fn failures(run: &Run) -> Vec<Failure> {
    let mut found: Vec<Failure> = Vec::new();
    let mut add = |lane: String, step: String, failed: &Failed| {
        let Failed { error, message } = failed.clone();
        let same = found.iter_mut().find(|failure| {
            (&failure.lane, &failure.step, &failure.error, &failure.message) == (&lane, &step, &error, &message)
        });
        match same {
            Some(failure) => failure.count += 1,
            None => found.push(Failure { lane, step, error, message, count: 1 }),
        }
    };
    for step in &run.steps {
        for attempt in &step.attempts {
            if let End::Failed(failed) = &attempt.end_state {
                add(lane_name(run, step.target), step_name(step), failed);
            }
        }
    }
    // What failed between the tasks.
    for (index, target) in run.targets.iter().enumerate() {
        let Some(TargetReport { step: Some(step), error: Some(error), message, .. }) = &target.report else { continue };
        let steps = run.steps.iter().filter(|it| it.target == Some(index)).flat_map(|step| &step.attempts);
        let mut errors = steps.filter_map(|attempt| match &attempt.end_state {
            End::Failed(failed) => Some(&failed.error),
            _ => None,
        });
        if !errors.any(|it| it == error) {
            let failed = Failed { error: error.clone(), message: message.clone().unwrap_or_default() };
            add(lane_name(run, Some(index)), step.clone(), &failed);
        }
    }
    found
}

fn attempts(run: &Run) -> Vec<AttemptRow> {
    let mut rows = Vec::new();
    for target in [None].into_iter().chain((0..run.targets.len()).map(Some)) {
        for step in run.steps.iter().filter(|step| step.target == target) {
            for (number, attempt) in step.attempts.iter().enumerate() {
                rows.push(AttemptRow {
                    lane: lane_name(run, target),
                    step: step_name(step),
                    number: number + 1,
                    start: moment(attempt.start),
                    length: span(milliseconds_between(attempt.start, attempt.end)),
                    outcome: end_in_words(&attempt.end_state),
                });
            }
        }
    }
    rows
}

fn lane_name(run: &Run, target: Option<usize>) -> String {
    target.map_or_else(
        || "execution".to_owned(),
        |target| {
            let place = &run.targets[target].place;
            format!("{} {}", place.region, place.repository)
        },
    )
}

fn step_name(step: &Step) -> String {
    step.shard.map_or_else(|| step.name.clone(), |shard| format!("{} of shard {shard}", step.name))
}

fn end_in_words(end: &End) -> String {
    match end {
        End::Running => "running".to_owned(),
        End::Succeeded => "succeeded".to_owned(),
        End::Failed(failed) => format!("failed with {}", failed.error),
        End::Stopped => "stopped with the execution".to_owned(),
    }
}

impl Bytes {
    fn of(exact: u64) -> Self {
        Self { exact, text: bytes(exact) }
    }
}

/// A moment, to the second.
fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn milliseconds_between(from: Timestamp, to: Timestamp) -> i64 {
    to.as_millisecond() - from.as_millisecond()
}

/// A duration, as exact as a person wants it.
fn span(milliseconds: i64) -> String {
    let seconds = milliseconds / 1000;
    if seconds == 0 {
        format!("{milliseconds} ms")
    } else if seconds < 60 {
        format!("{seconds}.{} s", milliseconds % 1000 / 100)
    } else if seconds < 3600 {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    } else {
        format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60)
    }
}

#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut size = count as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < units.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", units[unit])
}

/// A count and its noun.
fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}
