//! Executions that meet several faults, and are killed: what is at the targets then, and after a redrive in a registry that works
//! again. Drawn by seeds; and, for each image, stopped at every single call.
//!
//! `RELIABILITY=<directory>` writes what was measured there, `RUNS` is how many seeds, `FIRST_SEED` the first of them, and
//! `CASE` plays one case that a failure told.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashSet, VecDeque},
    fmt::Write as _,
    fs::File,
    io::{Read as _, Seek as _, Write as _},
    ops::RangeInclusive,
    panic::AssertUnwindSafe,
    sync::{LazyLock, Mutex, atomic::Ordering},
    time::Duration,
};

use aws_config::SdkConfig;
use ecr_local::{EcrLocal, Fault, Meanwhile, Moment};
use futures::{
    FutureExt as _, StreamExt as _,
    future::{Either, select},
    stream,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::{
    contract::{Put, Round, Status},
    copy::Uploads,
    error::{Class, ErrorName},
    names::Digest,
};
use tokio::sync::oneshot;

use crate::{
    execution::{Course, Failed, Functions, Iteration, State, Told, Undisturbed, named},
    matrix,
    report::{Listening, Services},
    sample::{IMAGES, SIGNATURE, Sample, Way, Wrong, digest, execution_input},
    world::{REPOSITORY, SOURCE, TARGET, sdk_config},
};

const ACCOUNT: &str = "123456789012";

/// How many seeds a test draws, unless `RUNS` says otherwise.
const RUNS: u64 = 150;

/// How many runs are under way on each core: most of them wait.
const SIDE_BY_SIDE: usize = 64;

/// After this, a run hangs.
const PATIENCE: Duration = Duration::from_mins(5);

/// How many faults a run has.
const FAULTS: RangeInclusive<usize> = 2..=5;

/// After so many redrives in a registry that works, a run never ends.
const MOST_REDRIVES: u32 = 60;

/// A fault of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Meets {
    /// The state before which it begins.
    state: State,
    /// What the tables of docs/reliability.md call it.
    name: String,
    /// Whether it is an error that nothing but a person helps against.
    is_lasting: bool,
    fault: Fault,
}

/// What makes a source's image seem gone: nobody can tell that it is not.
const GONE: [&str; 5] = [
    "`RepositoryNotFoundException`",
    "`ImageNotFoundException`",
    "failure `ImageNotFound`",
    "failure `ImageInaccessible`",
    "a manifest that is no JSON, under its own digest",
];

/// What is tried again a few times only, and met as often keeps a referrer from the target.
const REPEATED: [(&str, u64); 27] = [
    ("another manifest than the digest's", 2),
    ("`ImageDigestDoesNotMatchException`", 2),
    ("the referrer: `ImageDigestDoesNotMatchException`", 2),
    ("200 with a page in its place", 2),
    ("416 `InvalidRange`", 2),
    ("an upload id that is unknown", 2),
    ("upload forgotten midway", 2),
    ("`InvalidLayerPartException`, without a byte", 2),
    ("`InvalidLayerPartException`, a lower byte", 2),
    ("`InvalidLayerPartException`, a byte too high", 2),
    ("part acknowledged short", 2),
    ("`EmptyUploadException`", 2),
    ("`LayerPartTooSmallException`", 2),
    ("`UploadNotFoundException`", 2),
    ("its layer: `UploadNotFoundException`", 2),
    ("403 `AccessDenied`", 3),
    ("its layer: 403 `AccessDenied`", 3),
    ("corrupted", 4),
    ("its layer: corrupted", 4),
    ("`InvalidLayerException`", 4),
    ("its layer: `InvalidLayerException`", 4),
    ("lie: every layer is there", 4),
    ("lie: the layer is there", 4),
    ("lie: `LayerAlreadyExistsException`", 4),
    ("`LayersNotFoundException`", 4),
    ("`ReferencedImagesNotFoundException`", 4),
    ("the referrer: `LayersNotFoundException`", 4),
];

/// What may keep a referrer from the target, in shares of it: each number in `REPEATED` divides it.
const REFUSED: u64 = 12;

impl Meets {
    fn is_at(&self, region: &str) -> bool {
        self.fault.region.as_deref() == Some(region)
    }

    /// Whether the source said that it has not what it has.
    fn hides_image(&self) -> bool {
        self.is_at(SOURCE) && GONE.contains(&self.name.as_str())
    }

    /// Whether the source said that it has no such referrer.
    fn hides_referrer(&self) -> bool {
        self.hides_image() && self.fault.operation == "BatchGetImage"
    }

    /// Whether the target's repository may be left with other settings than the source's, and nobody comes to them again: the
    /// target took a policy as wrong, or said that it has no such repository; or the source said that it has no such policy.
    fn may_leave_settings(&self) -> bool {
        let of_settings = ["DescribeRepositories", "ListTagsForResource", "PutLifecyclePolicy", "SetRepositoryPolicy"];
        let said = ["InvalidParameterException`", "ValidationException`", "RepositoryNotFoundException`"];
        let is_refused = self.is_at(TARGET)
            && of_settings.contains(&self.fault.operation.as_str())
            && said.iter().any(|name| self.name.ends_with(name));
        is_refused || self.name.ends_with("PolicyNotFoundException`")
    }

    /// How much of `REFUSED` it is to a referrer that it was met so often.
    fn refuses_referrer(&self, met: u64) -> u64 {
        let operation = self.fault.operation.as_str();
        let is_of_source = matches!(operation, "BatchGetImage" | "GetDownloadUrlForLayer" | "DownloadLayer");
        let is_of_target = self.state == State::CopyLayers || operation == "PutImage";
        let can_meet_it = if self.is_at(SOURCE) { is_of_source } else { is_of_target };
        // For a layer that the source does not give, it is waited.
        let is_waited_for = operation == "GetDownloadUrlForLayer" && self.name == "`LayersNotFoundException`";
        let repeated = REPEATED.iter().find(|(name, _)| *name == self.name).filter(|_| !is_waited_for);
        match repeated {
            _ if !can_meet_it => 0,
            _ if self.is_lasting => REFUSED,
            Some((_, times)) => met * (REFUSED / times),
            None => 0,
        }
    }
}

/// A kill of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kill {
    /// The requests since the last one, or since the beginning.
    after: u64,
    /// Whether the request that it comes with took effect.
    is_late: bool,
}

/// What happens in a run. The same case meets the same faults at the same calls; which of the layers that are copied side by
/// side meets one is chance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Case {
    way: Way,
    faults: Vec<Meets>,
    kills: Vec<Kill>,
    /// How many times EventBridge refuses the report.
    refused_events: u32,
    /// Of what is drawn while it runs.
    seed: u64,
}

impl Case {
    /// The case of a seed.
    fn of(seed: u64) -> Self {
        static ROWS: LazyLock<Vec<matrix::Row>> = LazyLock::new(matrix::rows);
        let mut random = fastrand::Rng::with_seed(seed);
        let ways =
            [Way::Stream, Way::Stream, Way::Parts, Way::Parts, Way::Cosign, Way::Cosign, Way::Unsigned, Way::Untagged];
        let way = *random.choice(&ways).unwrap();
        let mut faults = Vec::new();
        for _ in 0..random.usize(FAULTS) {
            // A fault that this way cannot meet would be none.
            let rows: Vec<&matrix::Row> = ROWS.iter().filter(|row| can_meet(way, &faults, row)).collect();
            let row = *random.choice(&rows).unwrap();
            // What is called once meets nothing that is skipped, unless it is called again for another fault.
            let is_once = row.call.state == State::EnsureRepository || row.call.operation == "DescribeImages";
            let skip = random.u64(0..if is_once { 2 } else { 5 });
            let fault = row.fault.clone().skip(row.fault.skip + skip).times(random.u64(1..=4));
            // Some that last are met now and then; and a few of those that are not waited for, for ever.
            let fault = match random.u8(0..10) {
                0 | 1 => fault.for_ever().probability(0.2),
                2 if row.kind != matrix::Kind::Awaited => fault.for_ever(),
                _ => fault,
            };
            let is_lasting = row.kind == matrix::Kind::Lasting;
            faults.push(Meets { state: row.call.state, name: row.name.to_owned(), is_lasting, fault });
        }
        let kills = (0..[0, 0, 0, 1, 1, 2][random.usize(0..6)])
            .map(|_| Kill { after: random.u64(0..30), is_late: random.bool() })
            .collect();
        let refused_events = [0, 0, 0, 0, 1, 9][random.usize(0..6)];
        Self { way, faults, kills, refused_events, seed }
    }

    /// Cases that are less than this one, by one thing.
    fn smaller(&self) -> Vec<Self> {
        let mut smaller = Vec::new();
        for place in 0..self.faults.len() {
            let mut case = self.clone();
            case.faults.remove(place);
            smaller.push(case);
        }
        for place in 0..self.kills.len() {
            let mut case = self.clone();
            case.kills.remove(place);
            smaller.push(case);
        }
        if self.refused_events > 0 {
            smaller.push(Self { refused_events: 0, ..self.clone() });
        }
        for (place, Meets { fault, .. }) in self.faults.iter().enumerate() {
            let simple = [
                (fault.probability.is_some()).then(|| Fault { probability: None, times: Some(1), ..fault.clone() }),
                (fault.times != Some(1)).then(|| fault.clone().times(1)),
                (fault.skip > 0).then(|| fault.clone().skip(fault.skip - 1)),
            ];
            for fault in simple.into_iter().flatten() {
                let mut case = self.clone();
                case.faults[place].fault = fault;
                smaller.push(case);
            }
        }
        smaller
    }
}

/// Whether a run of `way` that meets `faults` may come to the call of a row.
fn can_meet(way: Way, faults: &[Meets], row: &matrix::Row) -> bool {
    let of_stream = |operation: &str| operation.starts_with("v2:") || operation == "GetAuthorizationToken";
    let operation = row.call.operation;
    let has_road = match (way, row.call.way.uploads()) {
        (Way::Parts, _) => !of_stream(operation),
        // A layer whose stream breaks goes by parts.
        (_, Uploads::Parts) => faults.iter().any(|meets| of_stream(&meets.fault.operation)),
        _ => true,
    };
    let is_of = |digest: &Digest| row.fault.digest.as_deref() == Some(digest.as_str());
    let referrer = way.whole().1;
    has_road
        && (referrer == Some(&IMAGES.signature) || !is_of(&digest(&IMAGES.signature)))
        && (referrer.is_some() || !is_of(&Digest::of(SIGNATURE)))
        && (way != Way::Untagged || !is_of(&digest(&IMAGES.index)))
        && (way == Way::Untagged || operation != "DescribeImages")
}

/// What was seen in runs.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    runs: u64,
    redrives: u64,
    faults_drawn: u64,
    /// Of those, the ones that were met.
    faults_met: u64,
    runs_that_met_several: u64,
    /// By the name of the fault.
    faults_injected: BTreeMap<String, u64>,
    kills: u64,
    images_right: u64,
    /// Executions that had nothing to do, for the image was gone.
    nothing_to_do: u64,
    /// Of rounds and executions, by the error's name.
    named_errors: BTreeMap<String, u64>,
    /// What would have been held against a run, had it not met that.
    excused: BTreeMap<Excuse, u64>,
    wrong_images: u64,
    half_tagged_images: u64,
    unreported_outcomes: u64,
    /// Errors that no retrier and no catcher has a name for.
    unnamed_errors: u64,
    not_right_after_redrive: u64,
    /// Runs in which a layer was sent again that was there whole.
    layers_sent_again: u64,
    panics: u64,
    hangs: u64,
    /// How many bytes were sent again, by run that was killed.
    #[serde(skip)]
    sent_again: Vec<u64>,
}

impl Seen {
    fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.redrives += other.redrives;
        self.faults_drawn += other.faults_drawn;
        self.faults_met += other.faults_met;
        self.runs_that_met_several += other.runs_that_met_several;
        self.kills += other.kills;
        self.images_right += other.images_right;
        self.nothing_to_do += other.nothing_to_do;
        self.wrong_images += other.wrong_images;
        self.half_tagged_images += other.half_tagged_images;
        self.unreported_outcomes += other.unreported_outcomes;
        self.unnamed_errors += other.unnamed_errors;
        self.not_right_after_redrive += other.not_right_after_redrive;
        self.layers_sent_again += other.layers_sent_again;
        self.panics += other.panics;
        self.hangs += other.hangs;
        for (name, count) in other.faults_injected {
            *self.faults_injected.entry(name).or_default() += count;
        }
        for (excuse, count) in other.excused {
            *self.excused.entry(excuse).or_default() += count;
        }
        for (name, count) in other.named_errors {
            *self.named_errors.entry(name).or_default() += count;
        }
        self.sent_again.extend(other.sent_again);
    }
}

/// What must not happen.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Bad {
    Wrong(Wrong),
    Unreported(String),
    Unnamed(String),
    NotRight(String),
    SentAgain(String),
    Panic,
    Hang,
}

/// The environment of a run: the faults that begin, and the kills.
struct Disturbed<'a> {
    ecr: &'a EcrLocal,
    waiting: RefCell<Vec<Meets>>,
    kills: RefCell<VecDeque<Kill>>,
    next: RefCell<Option<oneshot::Receiver<()>>>,
    /// The bytes of those layers that the target did not have whole, at each kill.
    unfinished: RefCell<Vec<u64>>,
    way: Way,
    /// The tags that kills left on half an image.
    half_tagged: RefCell<Vec<Wrong>>,
}

impl<'a> Disturbed<'a> {
    fn begin(ecr: &'a EcrLocal, case: &Case) -> Self {
        let disturbed = Self {
            ecr,
            waiting: RefCell::new(case.faults.clone()),
            kills: RefCell::new(case.kills.clone().into()),
            next: RefCell::default(),
            unfinished: RefCell::default(),
            way: case.way,
            half_tagged: RefCell::default(),
        };
        disturbed.arm();
        disturbed
    }

    fn arm(&self) {
        let Some(kill) = self.kills.borrow_mut().pop_front() else { return };
        let moment = if kill.is_late { Moment::After } else { Moment::Before };
        *self.next.borrow_mut() = Some(self.ecr.halt_after(kill.after, moment));
    }

    fn is_over(&self) -> bool {
        self.next.borrow().is_none()
    }
}

impl Course for Disturbed<'_> {
    fn enters(&self, state: State) {
        self.waiting.borrow_mut().retain(|meets| {
            if meets.state == state {
                self.ecr.fault(meets.fault.clone());
            }
            meets.state != state
        });
    }

    async fn invoke<T>(&self, invocation: impl Future<Output = T>) -> Option<T> {
        let Some(killed) = self.next.take() else { return Some(invocation.await) };
        match select(Box::pin(invocation), killed).await {
            Either::Left((answer, killed)) => {
                *self.next.borrow_mut() = Some(killed);
                return Some(answer);
            }
            // What it had under way goes with it.
            Either::Right((_, invocation)) => drop(invocation),
        }
        let there = self.ecr.layers(ACCOUNT, TARGET, REPOSITORY).unwrap_or_default();
        let missing = self.way.blobs().iter().filter(|blob| !there.contains_key(Digest::of(blob).as_str()));
        self.unfinished.borrow_mut().push(missing.map(|blob| blob.len() as u64).sum());
        let there = self.ecr.view(ACCOUNT, TARGET, REPOSITORY).unwrap_or_default();
        self.half_tagged.borrow_mut().extend(self.way.half_tagged(&there));
        self.ecr.go_on();
        self.arm();
        None
    }
}

/// What was met that may look like a fault of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
enum Excuse {
    /// Something at the target was deleted in this round that this program had put there.
    Deleted,
    /// The source said that it has not the image that it has.
    ImageHidden,
    /// As that, of the referrer.
    ReferrerHidden,
    /// A referrer may have been refused: that keeps no image back, and where the step fails after it, only the log tells.
    ReferrerRefused,
    /// The repository's settings may be others than the source's, for good.
    SettingsLeft,
}

/// One execution from its start to its last redrive.
struct Run<'a> {
    case: &'a Case,
    sample: &'a Sample,
    functions: Functions,
    services: Services,
    _listening: Listening,
    client: &'a reqwest::Client,
    seen: Seen,
    /// What keeps its judge from telling right from wrong.
    excuses: HashSet<Excuse>,
}

impl<'a> Run<'a> {
    async fn set(case: &'a Case, sample: &'a Sample, tools: &'a Tools) -> Self {
        let services = Services::default();
        services.refused_events.store(case.refused_events, Ordering::SeqCst);
        let listening = services.listen().await;
        let config = tools.config.clone().into_builder().endpoint_url(&listening.endpoint).build();
        let functions = Functions::new(&sample.config, &config, case.way.uploads());
        let (client, faults_drawn) = (&tools.client, case.faults.len() as u64);
        let seen = Seen { runs: 1, faults_drawn, ..Seen::default() };
        Self { case, sample, functions, services, _listening: listening, client, seen, excuses: HashSet::new() }
    }

    fn is_source_whole(&self) -> bool {
        let there = self.sample.world.view(SOURCE);
        let (image, _) = self.case.way.whole();
        image.iter().all(|manifest| there.images.contains_key(digest(manifest).as_str()))
    }

    /// Counts an error, which must have a name in the contract.
    fn note(&mut self, failed: &Failed) -> Result<(), Bad> {
        if failed.error().is_none() && !failed.is_killed() {
            return Err(Bad::Unnamed(format!("{failed:?}")));
        }
        *self.seen.named_errors.entry(failed.name.clone()).or_default() += 1;
        Ok(())
    }

    /// Lets all be well from now on, but for kills.
    fn calm(&mut self, course: &Disturbed<'_>) {
        course.waiting.borrow_mut().clear();
        let (mut met, mut refused) = (0, 0);
        for state in self.sample.world.ecr.faults().into_iter().filter(|state| state.met > 0) {
            let fault = state.fault;
            let deletes = matches!(fault.meanwhile, Some(Meanwhile::DeleteRepository | Meanwhile::DeleteImage(_)));
            let meets = self.case.faults.iter().find(|meets| meets.fault == fault).unwrap();
            self.excuses.extend(
                [
                    (deletes && meets.is_at(TARGET), Excuse::Deleted),
                    (meets.hides_image(), Excuse::ImageHidden),
                    (meets.hides_referrer(), Excuse::ReferrerHidden),
                    (meets.may_leave_settings(), Excuse::SettingsLeft),
                ]
                .into_iter()
                .filter_map(|(is_excused, excuse)| is_excused.then_some(excuse)),
            );
            refused += meets.refuses_referrer(state.met);
            met += 1;
            *self.seen.faults_injected.entry(meets.name.clone()).or_default() += state.met;
        }
        if refused >= REFUSED {
            self.excuses.insert(Excuse::ReferrerRefused);
        }
        self.seen.faults_met += met;
        self.seen.runs_that_met_several += u64::from(met > 1);
        self.sample.world.ecr.clear_faults();
        self.services.refused_events.store(0, Ordering::SeqCst);
    }

    /// Holds the target to what was told of it.
    async fn look(&mut self, iterations: &[Iteration]) -> Result<(), Bad> {
        let told = iterations.iter().find_map(|iteration| iteration.ended.as_ref().ok());
        if told.is_some_and(|put| put.referrers_refused > 0) && !self.excuses(Excuse::ReferrerRefused) {
            return Err(Bad::Wrong(Wrong::Referrer(format!("it was refused without a reason: {told:?}"))));
        }
        let is_superseded = told.is_some_and(|put| put.status == Status::Superseded);
        let has_moved = !self.sample.has_image(self.case.way, SOURCE);
        if is_superseded && !has_moved && !self.excuses(Excuse::ImageHidden) {
            return Err(Bad::NotRight("superseded, and the source's tag has not moved".to_owned()));
        }
        let (way, mut told, mut wrong) =
            (self.case.way, told, self.sample.wrong(self.case.way, told, self.client).await);
        // What was told is of what was there before something was deleted.
        if wrong.is_some() && told.is_some() && self.excuses(Excuse::Deleted) {
            told = None;
            wrong = self.sample.wrong(way, told, self.client).await;
        }
        match wrong {
            Some(Wrong::Referrer(_)) if self.may_lack_referrer(told) => Ok(()),
            wrong => wrong.map_or(Ok(()), |wrong| Err(Bad::Wrong(wrong))),
        }?;
        let differences = if told.is_some() { self.sample.differences() } else { 0 };
        if differences == 0 || self.excuses(Excuse::SettingsLeft) || self.excuses(Excuse::Deleted) {
            Ok(())
        } else {
            Err(Bad::NotRight(format!("{differences} settings are not the source's")))
        }
    }

    /// Whether a tag may be on an image that lacks its referrer, where that is not `told`.
    fn may_lack_referrer(&mut self, told: Option<&Put>) -> bool {
        self.excuses(Excuse::ReferrerHidden) || (told.is_none() && self.excuses(Excuse::ReferrerRefused))
    }

    fn has(&self, excuse: Excuse) -> bool {
        self.excuses.contains(&excuse)
    }

    /// Whether something bad is excused by that, which then counts.
    fn excuses(&mut self, excuse: Excuse) -> bool {
        let has = self.has(excuse);
        if has {
            *self.seen.excused.entry(excuse).or_default() += 1;
        }
        has
    }

    /// Another execution for the image: whatever was lied about or refused, it is whole after that. Settings stay as they are.
    async fn replicate_anew(&mut self) -> Result<(), Bad> {
        self.excuses.retain(|excuse| *excuse == Excuse::SettingsLeft);
        let resolved = self.functions.resolve(&Undisturbed, &execution_input(self.case.way)).await;
        let Ok(Some(mut round)) = resolved else { return Err(Bad::NotRight(format!("anew: {resolved:?}"))) };
        let iterations = self.iterate(&Undisturbed, &mut round).await?;
        self.look(&iterations).await?;
        let is_there = iterations.iter().all(|iteration| iteration.ended.is_ok());
        if is_there && self.sample.has_image(self.case.way, TARGET) {
            Ok(())
        } else {
            Err(Bad::NotRight(format!("anew: {iterations:?}")))
        }
    }

    async fn iterate(&mut self, course: &impl Course, round: &mut Round) -> Result<Vec<Iteration>, Bad> {
        self.excuses.remove(&Excuse::Deleted);
        let mut iterations = Vec::new();
        for target in &round.targets {
            let iteration = self.functions.replicate(course, round, target).await;
            if let Err(failed) = &iteration.ended {
                self.note(failed)?;
            }
            iterations.push(iteration);
        }
        round.redrives = round.redrives.max(self.services.redrives.load(Ordering::SeqCst));
        Ok(iterations)
    }

    /// Reports a round, and holds the event to what happened.
    async fn report(
        &mut self,
        course: &impl Course,
        round: &Round,
        iterations: &[Iteration],
    ) -> Result<Result<Told, Failed>, Bad> {
        let before = self.services.events().len();
        let told = self.functions.report(course, round, iterations).await;
        let events = self.services.events().split_off(before);
        // Not delivered is said so, and told by the redrive that hands the round on.
        let is_told = match &told {
            Ok(_) => !events.is_empty(),
            Err(failed) => !events.is_empty() || failed.name == "ReportUndelivered" || failed.is_killed(),
        };
        if !is_told {
            return Err(Bad::Unreported(format!("round {}", round.round)));
        }
        for event in events {
            let report: Value = serde_json::from_str(event["Detail"].as_str().unwrap()).unwrap();
            for iteration in iterations {
                let region = iteration.target.region.as_str();
                let targets = report["targets"].as_array().unwrap();
                let target = targets.iter().find(|target| target["region"] == region);
                let expected = match &iteration.ended {
                    Ok(put) => json!({
                        "status": put.status, "error": null,
                        "manifestsCopied": put.manifests_copied, "manifestsSkipped": put.manifests_skipped,
                        "referrersCopied": put.referrers_copied, "referrersSkipped": put.referrers_skipped,
                        "referrersRefused": put.referrers_refused, "refusals": put.refusals,
                    }),
                    Err(failed) => json!({"status": status_of(failed), "error": failed.name}),
                };
                let is_told =
                    |(member, value): (&String, &Value)| target.is_some_and(|target| target[member] == *value);
                if !expected.as_object().unwrap().iter().all(is_told) {
                    return Err(Bad::Unreported(format!("{region}: {expected}, and told is {target:?}")));
                }
            }
        }
        if let Err(failed) = &told {
            self.note(failed)?;
        }
        Ok(told)
    }

    /// The execution with all that happens to it, and what is redriven of it when all is well again.
    async fn go(&mut self) -> Result<(), Bad> {
        let case = self.case;
        let ecr = &self.sample.world.ecr;
        let course = Disturbed::begin(ecr, case);
        let input = execution_input(case.way);
        let mut resolved = self.functions.resolve(&course, &input).await;
        while let Err(failed) = &resolved {
            self.note(failed)?;
            self.calm(&course);
            let is_gone = matches!(failed.error(), Some(ErrorName::RepositoryNotFound | ErrorName::ImageNotFound));
            if is_gone && !self.is_source_whole() {
                ecr.go_on();
                return self.look(&[]).await;
            }
            self.redrive(failed)?;
            resolved = self.functions.resolve(&course, &input).await;
        }
        let Ok(Some(mut round)) = resolved else {
            self.calm(&course);
            self.seen.nothing_to_do += 1;
            ecr.go_on();
            return match self.is_source_whole() {
                false => Ok(()),
                true if self.excuses(Excuse::ImageHidden) => self.replicate_anew().await,
                true => Err(Bad::NotRight("it is said to be gone".to_owned())),
            };
        };
        let mut iterations = self.iterate(&course, &mut round).await?;
        let mut told = self.report(&course, &round, &iterations).await?;
        self.calm(&course);
        if course.is_over() {
            self.look(&iterations).await?;
        }
        while !matches!(told, Ok(Told::Done)) {
            match told {
                Ok(Told::Again(next)) => {
                    round = *next;
                    iterations = self.iterate(&course, &mut round).await?;
                }
                Ok(Told::Done) => {}
                Err(failed) => self.redrive(&failed)?,
            }
            told = self.report(&course, &round, &iterations).await?;
        }
        self.seen.kills = course.unfinished.borrow().len() as u64;
        ecr.go_on();
        self.look(&iterations).await?;
        for wrong in course.half_tagged.take() {
            if !(matches!(wrong, Wrong::Referrer(_)) && self.may_lack_referrer(None)) {
                return Err(Bad::Wrong(wrong));
            }
        }
        if iterations.iter().all(|iteration| iteration.ended.is_ok()) {
            self.seen.images_right += u64::from(self.sample.has_image(case.way, TARGET));
        } else if self.is_source_whole() && !self.excuses(Excuse::ImageHidden) {
            return Err(Bad::NotRight(format!("{iterations:?}")));
        }
        // What a kill leaves is what there would be without it, and no layer is sent again that was there whole.
        if case.faults.is_empty() {
            let (image, referrer) = case.way.whole();
            let there = self.sample.world.view(TARGET).images.len();
            if there != image.len() + usize::from(referrer.is_some()) {
                return Err(Bad::Wrong(Wrong::Image(format!("there are {there} manifests"))));
            }
            let sent = self.sample.world.uploaded(TARGET);
            let image: u64 = case.way.blobs().iter().map(|blob| blob.len() as u64).sum();
            let unfinished: u64 = course.unfinished.borrow().iter().sum();
            if sent > image + unfinished {
                return Err(Bad::SentAgain(format!("{sent} of {image}, and {unfinished} were under way")));
            }
            self.seen.sent_again.push(sent.saturating_sub(image));
            if case.kills.len() == 1 && self.seen.kills == 0 {
                return Err(Bad::NotRight("it was never killed".to_owned()));
            }
        }
        if !self.excuses.is_empty() && self.is_source_whole() { self.replicate_anew().await } else { Ok(()) }
    }

    fn redrive(&mut self, failed: &Failed) -> Result<(), Bad> {
        self.seen.redrives += 1;
        let redrives = self.services.redrives.fetch_add(1, Ordering::SeqCst);
        if redrives < MOST_REDRIVES {
            return Ok(());
        }
        Err(Bad::NotRight(format!("{failed:?} after {redrives} redrives")))
    }
}

/// What Report makes of an error.
fn status_of(failed: &Failed) -> Status {
    match failed.error() {
        Some(ErrorName::ImageNotFound) => Status::Skipped,
        Some(ErrorName::TagConflict) => Status::Conflict,
        _ => Status::Failed,
    }
}

/// What runs share: clients take longer to make than a run to go.
struct Tools {
    config: SdkConfig,
    client: reqwest::Client,
}

impl Tools {
    async fn new() -> Self {
        Self { config: sdk_config("http://127.0.0.1:9/", SOURCE).await, client: reqwest::Client::new() }
    }
}

/// Plays a case.
async fn play(case: &Case, tools: &Tools) -> (Seen, Option<Bad>) {
    let whole = async {
        let sample = Sample::set(case.way, &tools.config).await;
        sample.world.ecr.seed(case.seed);
        let mut run = Run::set(case, &sample, tools).await;
        let bad = run.go().await.err();
        (run.seen, bad)
    };
    let ended = tokio::time::timeout(PATIENCE, AssertUnwindSafe(Box::pin(whole)).catch_unwind()).await;
    let (mut seen, bad) = match ended {
        Ok(Ok(ended)) => ended,
        Ok(Err(_)) => (Seen { runs: 1, ..Seen::default() }, Some(Bad::Panic)),
        Err(_) => (Seen { runs: 1, ..Seen::default() }, Some(Bad::Hang)),
    };
    match &bad {
        None => {}
        Some(Bad::Wrong(Wrong::Image(_))) => seen.wrong_images = 1,
        Some(Bad::Wrong(Wrong::Tag(_) | Wrong::Referrer(_))) => seen.half_tagged_images = 1,
        Some(Bad::Unreported(_)) => seen.unreported_outcomes = 1,
        Some(Bad::Unnamed(_)) => seen.unnamed_errors = 1,
        Some(Bad::NotRight(_)) => seen.not_right_after_redrive = 1,
        Some(Bad::SentAgain(_)) => seen.layers_sent_again = 1,
        Some(Bad::Panic) => seen.panics = 1,
        Some(Bad::Hang) => seen.hangs = 1,
    }
    (seen, bad)
}

/// The least case that is bad as this one is; it is played twice before it counts as good, for not all of it is in our hands.
async fn shrink(mut case: Case, tools: &Tools) -> (Case, Bad) {
    let (_, bad) = play(&case, tools).await;
    let mut bad = bad.unwrap_or_else(|| Bad::NotRight("not seen again".to_owned()));
    'smaller: loop {
        for smaller in case.smaller() {
            for _ in 0..2 {
                if let (_, Some(worse)) = play(&smaller, tools).await
                    && std::mem::discriminant(&worse) == std::mem::discriminant(&bad)
                {
                    (case, bad) = (smaller, worse);
                    continue 'smaller;
                }
            }
        }
        return (case, bad);
    }
}

/// Plays cases on every core, many side by side; fails with the least reproduction of those that are bad, and writes down
/// what was seen.
fn play_all(name: &str, cases: Vec<Case>) -> Seen {
    let cases = Mutex::new(cases.into_iter());
    let (mut seen, mut bad_cases) = (Seen::default(), Vec::new());
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().unwrap().get();
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(|| on_this_thread(play_some(&cases)))).collect();
        for thread in threads {
            let (of_thread, bad) = thread.join().unwrap();
            seen.add(of_thread);
            bad_cases.extend(bad);
        }
    });
    write_down(name, &seen);
    let mut told = String::new();
    // One of each kind is made small, and all are named; to see again that one hangs takes too long.
    let mut shrunk = HashSet::new();
    for (case, bad) in bad_cases {
        writeln!(told, "{bad:?}\n  CASE='{}'", serde_json::to_string(&case).unwrap()).unwrap();
        if bad != Bad::Hang && shrunk.insert(std::mem::discriminant(&bad)) {
            let (small, bad) = on_this_thread(async { shrink(case, &Tools::new().await).await });
            writeln!(told, "least: {bad:?}\n  CASE='{}'", serde_json::to_string(&small).unwrap()).unwrap();
        }
    }
    assert!(told.is_empty(), "{seen:#?}\n{told}");
    seen
}

fn on_this_thread<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Plays what is left of the cases, as other threads do; those that are bad come back.
async fn play_some(cases: &Mutex<impl Iterator<Item = Case>>) -> (Seen, Vec<(Case, Bad)>) {
    let tools = &Tools::new().await;
    let left = std::iter::from_fn(|| cases.lock().unwrap().next());
    let played = stream::iter(left).map(async |case| {
        let (seen, bad) = play(&case, tools).await;
        (seen, bad.map(|bad| (case, bad)))
    });
    let (mut seen, mut bad_cases) = (Seen::default(), Vec::new());
    let mut played = std::pin::pin!(played.buffer_unordered(SIDE_BY_SIDE));
    while let Some((of_case, bad)) = played.next().await {
        seen.add(of_case);
        bad_cases.extend(bad);
    }
    (seen, bad_cases)
}

#[test]
fn runs_that_meet_several_faults() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse::<u64>().unwrap());
    let first = number("FIRST_SEED", 0);
    if let Ok(case) = std::env::var("CASE") {
        play_all("faults", vec![serde_json::from_str(&case).unwrap()]);
        return;
    }
    let seen = play_all("faults", (first..first + number("RUNS", RUNS)).map(Case::of).collect());
    // They were disturbed, and were judged.
    let is_disturbed =
        seen.faults_met * 4 > seen.faults_drawn && seen.kills * 4 > seen.runs && seen.redrives * 4 > seen.runs;
    assert!(is_disturbed && seen.excused.values().all(|excused| excused * 10 < seen.runs), "{seen:#?}");
}

/// Seeds 8476 and 8668: the source gave another manifest for the referrer, and had none for a moment.
#[test]
fn a_referrer_that_the_source_does_not_give_keeps_no_image_back() {
    let read = |name: &str, body: Value| Meets {
        state: State::PutManifest,
        name: name.to_owned(),
        is_lasting: false,
        fault: Fault::of("BatchGetImage").in_region(SOURCE).for_ever().probability(0.2).body(body),
    };
    let case = |seed, meets| Case { way: Way::Stream, faults: vec![meets], kills: Vec::new(), refused_events: 0, seed };
    let other = json!({"images": {"imageManifest": "{}"}});
    let none = json!({"failures": [{"failureCode": "ImageNotFound", "failureReason": ""}], "images": []});
    let cases = (0..50).flat_map(|seed| {
        [
            case(seed, read("another manifest than the digest's", other.clone())),
            case(seed, read("failure `ImageNotFound`", none.clone())),
        ]
    });
    let seen = play_all("referrers", cases.collect());
    assert!(seen.faults_met * 2 > seen.faults_drawn, "{seen:#?}");
}

/// Seed 8385: what the target forgets again and again was not among the reasons for which a referrer may be refused.
#[test]
fn whatever_is_tried_again_a_few_times_may_refuse_a_referrer() {
    let tables = include_str!("../../docs/reliability.md").lines();
    let rows = tables.filter(|row| row.starts_with("| `CopyLayers`: ") || row.starts_with("| `PutManifest`: "));
    let mut checked = 0;
    for row in rows {
        let cells: Vec<&str> = row.split(" | ").collect();
        let [_, name, _, for_ever] = cells[..] else { panic!("{row}") };
        let error = for_ever.strip_prefix('`').and_then(|error| named(error.split('`').next()?));
        // The image's own manifests are put before every referrer, and its tag after.
        let is_of_image = name.starts_with("the tag: ") || name == "a platform deleted before its index is put";
        if error.is_some_and(|error| error.class() == Class::Restart) && !is_of_image {
            assert!(REPEATED.iter().any(|(repeated, _)| *repeated == name), "{row}");
            checked += 1;
        }
    }
    assert!(checked > 10, "{checked} rows");
}

fn killed(way: Way, kills: Vec<Kill>) -> Case {
    Case { way, faults: Vec::new(), kills, refused_events: 0, seed: 0 }
}

/// How many requests an execution makes that nothing disturbs.
async fn requests(way: Way) -> u64 {
    let tools = &Tools::new().await;
    let case = killed(way, Vec::new());
    let sample = Sample::set(way, &tools.config).await;
    let stats =
        || -> u64 { sample.world.ecr.stats().regions.values().map(|region| region.calls.values().sum::<u64>()).sum() };
    let before = stats();
    let mut run = Run::set(&case, &sample, tools).await;
    let mut round = run.functions.resolve(&Undisturbed, &execution_input(way)).await.unwrap().unwrap();
    let iterations = run.iterate(&Undisturbed, &mut round).await.unwrap();
    assert!(iterations.iter().all(|iteration| iteration.ended.is_ok()), "{iterations:?}");
    stats() - before
}

#[test]
fn runs_that_are_stopped_at_every_call() {
    let mut cases = Vec::new();
    for way in [Way::Stream, Way::Parts, Way::Cosign, Way::Untagged] {
        let requests = on_this_thread(requests(way));
        for is_late in [false, true] {
            cases.extend((0..requests).map(|after| killed(way, vec![Kill { after, is_late }])));
            // One call further each time, until it is done.
            cases.push(killed(way, (0..requests).map(|after| Kill { after, is_late }).collect()));
        }
    }
    let runs = cases.len() as u64;
    let seen = play_all("kills", cases);
    assert!(seen.kills >= runs, "{seen:#?}");
}

/// Writes what was seen as a member of results.json, where `RELIABILITY` says so. Tests have processes of their own.
fn write_down(name: &str, seen: &Seen) {
    let Some(directory) = std::env::var_os("RELIABILITY") else { return };
    std::fs::create_dir_all(&directory).unwrap();
    let path = std::path::Path::new(&directory).join("results.json");
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap();
    file.lock().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    let mut results: Value = if text.is_empty() { json!({}) } else { serde_json::from_str(&text).unwrap() };
    results[name] = json!(seen);
    if !seen.sent_again.is_empty() {
        let (most, sum) = (seen.sent_again.iter().max(), seen.sent_again.iter().sum::<u64>());
        results[name]["bytesSentAgain"] = json!({"most": most, "perKill": sum / seen.kills.max(1)});
    }
    file.set_len(0).unwrap();
    file.rewind().unwrap();
    file.write_all(format!("{results:#}\n").as_bytes()).unwrap();
}
