//! A deterministic scheduler for code that calls ECR, and a search through the orders in which calls can happen: a model
//! checker over the real code, which runs it again from the start for each order (a stateless one).
//!
//! An actor is a future whose SDK calls go through a [`Line`]: each call is announced, and waits. When every actor waits,
//! one call is let through, answered, and its actor goes on to its next call: exactly one call is under way at a time, so
//! the order of the calls is all that two executions can differ in. Where an actor may be killed, that is a choice as well.
//!
//! [`explore`] takes every order, but for those that cannot differ in anything that a call or a check can see:
//! - A state that was met before is not gone on from again. A state is what the registries hold, and for each actor the
//!   calls that it made with their answers: the code is deterministic, so these are all that it can remember.
//! - Of neighbours that commute, one order is taken (sleep sets, as in Godefroid's "Partial-Order Methods for the
//!   Verification of Concurrent Systems"). Calls commute unless one writes what the other reads or writes; what they read
//!   and write is told by their requests.
//! - A call that only reads what no actor ever writes is made at once. Several of them that one actor makes side by side
//!   are answered in one order only: the one thing left out that code could see, if it looked at who answers first.
//!
//! [`wander`] draws orders at random, and leaves nothing out.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
    future::poll_fn,
    hash::{DefaultHasher, Hash, Hasher as _},
    ops::Range,
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        http::{
            HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
            SharedHttpConnector,
        },
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
        runtime_components::RuntimeComponents,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use futures::{future::LocalBoxFuture, task::AtomicWaker};
use serde_json::Value;
use shared::names::Digest;
use tokio::sync::oneshot;

/// How long an actor may take to its next call before it counts as hanging: many times what a call takes.
const HANGING: Duration = Duration::from_secs(30);

/// A part of a region's registry, as far as calls tell parts apart. Scenes have one repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Resource {
    pub(crate) region: String,
    pub(crate) part: Part,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Part {
    /// Where a tag points.
    Tag(String),
    /// Whether an image is there: its bytes never change.
    Image(String),
    /// Which images refer to this one.
    Referrers(String),
    /// All of it: of calls that are not known better.
    Everything,
}

impl Resource {
    fn overlaps(&self, other: &Self) -> bool {
        self.region == other.region
            && (self.part == other.part || self.part == Part::Everything || other.part == Part::Everything)
    }
}

fn overlap(some: &BTreeSet<Resource>, others: &BTreeSet<Resource>) -> bool {
    some.iter().any(|one| others.iter().any(|other| one.overlaps(other)))
}

/// What a call reads and writes in the state that it meets.
#[derive(Debug, Clone, Default, Hash)]
struct Footprint {
    reads: BTreeSet<Resource>,
    writes: BTreeSet<Resource>,
}

impl Footprint {
    /// Whether the order of two calls of different actors may matter.
    fn conflicts(&self, other: &Self) -> bool {
        overlap(&self.writes, &other.writes)
            || overlap(&self.writes, &other.reads)
            || overlap(&self.reads, &other.writes)
    }
}

/// A call, as people and schedules tell it from others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Call {
    operation: String,
    region: String,
    about: String,
}

impl fmt::Display for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} in {}", self.operation, self.about, self.region)
    }
}

/// What a call will read and write, whatever state it meets.
#[derive(Debug, Clone, Default)]
struct Access {
    footprint: Footprint,
    /// The image that it puts, and what else that writes; where the image is already there, neither is written.
    makes: Option<(Resource, BTreeSet<Resource>)>,
}

impl Access {
    fn footprint(&self, views: &Views) -> Footprint {
        let mut footprint = self.footprint.clone();
        if let Some((image, more)) = &self.makes {
            let Part::Image(digest) = &image.part else { return footprint };
            footprint.reads.insert(image.clone());
            if !views.get(&image.region).is_some_and(|view| view.images.contains(digest)) {
                footprint.writes.insert(image.clone());
                footprint.writes.extend(more.iter().cloned());
            }
        }
        footprint
    }
}

/// The operation of a request, and its region.
pub(crate) fn addressed(request: &HttpRequest) -> Result<(String, String), BoxError> {
    let header = |name: &str| request.headers().get(name).ok_or_else(|| format!("no header {name}"));
    let operation = header("x-amz-target")?.rsplit('.').next().unwrap_or_default().to_owned();
    // Credential=<key>/<date>/<region>/<service>/aws4_request
    let scope = header("authorization")?.split("Credential=").nth(1).unwrap_or_default();
    let region = scope.split('/').nth(2).ok_or("no region in the signature")?.to_owned();
    Ok((operation, region))
}

/// `request`, to be sent by `client`.
pub(crate) fn forward(client: &reqwest::Client, request: &HttpRequest) -> reqwest::RequestBuilder {
    let mut forwarded = client.post(request.uri());
    for (name, value) in request.headers() {
        forwarded = forwarded.header(name, value);
    }
    forwarded.body(request.body().bytes().unwrap_or_default().to_vec())
}

/// What a forwarded request was answered.
pub(crate) async fn read_response(answer: reqwest::Response) -> Result<HttpResponse, BoxError> {
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let body = answer.bytes().await?;
    let mut response = HttpResponse::new(StatusCode::try_from(status)?, SdkBody::from(&body[..]));
    for (name, value) in &headers {
        response.headers_mut().append(name.clone(), value.clone());
    }
    Ok(response)
}

/// What a request asks for. An operation that is not known here reads and writes everything.
fn read_request(request: &HttpRequest, names: &BTreeMap<String, String>) -> Result<(Call, Access), BoxError> {
    let (operation, region) = addressed(request)?;
    let body: Value = serde_json::from_slice(request.body().bytes().unwrap_or_default())?;

    let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
    let name = |digest: &str| names.get(digest).cloned().unwrap_or_else(|| digest.to_owned());
    // Some tags are made of a digest: sha256-<hex>.sig
    let name_of_tag = |tag: &str| match tag.replacen('-', ":", 1).split_once('.') {
        Some((digest, kind)) if names.contains_key(digest) => format!("{}.{kind}", name(digest)),
        _ => tag.to_owned(),
    };
    let resource = |part: Part| Resource { region: region.clone(), part };
    let mut access = Access::default();
    let about = match operation.as_str() {
        "BatchGetImage" => {
            let mut about = BTreeSet::new();
            for id in body["imageIds"].as_array().into_iter().flatten() {
                if let Some(tag) = text(&id["imageTag"]) {
                    about.insert(name_of_tag(&tag));
                    access.footprint.reads.insert(resource(Part::Tag(tag)));
                }
                if let Some(digest) = text(&id["imageDigest"]) {
                    about.insert(name(&digest));
                    access.footprint.reads.insert(resource(Part::Image(digest)));
                }
            }
            about.into_iter().collect::<Vec<_>>().join("+")
        }
        "ListImageReferrers" => {
            let digest = text(&body["subjectId"]["imageDigest"]).unwrap_or_default();
            let about = name(&digest);
            access.footprint.reads.insert(resource(Part::Referrers(digest)));
            about
        }
        "PutImage" => {
            let content = text(&body["imageManifest"]).unwrap_or_default();
            let manifest: Value = serde_json::from_str(&content)?;
            let digest = Digest::of(content.as_bytes()).to_string();
            let children = manifest["manifests"].as_array().into_iter().flatten();
            let children = children.filter_map(|child| text(&child["digest"]));
            access.footprint.reads.extend(children.map(|child| resource(Part::Image(child))));
            let subject = text(&manifest["subject"]["digest"]);
            let referrers = subject.into_iter().map(|subject| resource(Part::Referrers(subject))).collect();
            access.makes = Some((resource(Part::Image(digest.clone())), referrers));
            let tag = text(&body["imageTag"]);
            access.footprint.writes.extend(tag.iter().map(|tag| resource(Part::Tag(tag.clone()))));
            name(&digest) + &tag.map(|tag| format!(" as {}", name_of_tag(&tag))).unwrap_or_default()
        }
        _ => {
            access.footprint.writes.insert(resource(Part::Everything));
            let ids = body["imageIds"].as_array().into_iter().flatten();
            let ids = ids.filter_map(|id| id["imageTag"].as_str().or(id["imageDigest"].as_str()).map(name));
            ids.collect::<Vec<_>>().join("+")
        }
    };
    Ok((Call { operation, region, about }, access))
}

/// An answer without the order of its lists, which may be that of a hash table in the request.
fn canonical(value: Value) -> Value {
    match value {
        Value::Array(items) => {
            let mut items: Vec<Value> = items.into_iter().map(canonical).collect();
            items.sort_by_cached_key(Value::to_string);
            Value::Array(items)
        }
        Value::Object(members) => {
            Value::Object(members.into_iter().map(|(name, value)| (name, canonical(value))).collect())
        }
        other => other,
    }
}

/// An answer for a person.
fn read_answer(status: u16, body: &Value, names: &BTreeMap<String, String>) -> String {
    if status != 200 {
        return body["__type"].as_str().unwrap_or("failed").to_owned();
    }
    let Some(found) = body["images"].as_array().or(body["referrers"].as_array()) else { return "done".to_owned() };
    let found = found.iter().map(|item| {
        let id = if item["imageId"].is_object() { &item["imageId"] } else { item };
        let digest = id["imageDigest"].as_str().or(id["digest"].as_str()).unwrap_or_default();
        let name = names.get(digest).map_or(digest, String::as_str);
        id["imageTag"].as_str().map_or_else(|| name.to_owned(), |tag| format!("{tag}={name}"))
    });
    let found: BTreeSet<String> = found.collect();
    if found.is_empty() { "nothing".to_owned() } else { found.into_iter().collect::<Vec<_>>().join("+") }
}

fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// What is known of the calls: shared between the scheduler and the actors' lines.
#[derive(Debug, Default)]
struct Control {
    /// What the trace calls digests.
    names: BTreeMap<String, String>,
    wires: Mutex<Wires>,
}

#[derive(Debug, Default)]
struct Wires {
    last_id: u64,
    announced: Vec<Announced>,
    under_way: Option<UnderWay>,
    logs: BTreeMap<Arc<str>, Log>,
    /// What each call wrote that took effect, in their order.
    writes: Vec<BTreeSet<Resource>>,
    trace: Vec<String>,
    /// What actors told, and how they ended.
    told: BTreeSet<String>,
}

#[derive(Debug)]
struct Announced {
    id: u64,
    actor: Arc<str>,
    call: Call,
    access: Access,
    permit: oneshot::Sender<()>,
}

#[derive(Debug)]
struct UnderWay {
    id: u64,
    actor: Arc<str>,
    call: Call,
    footprint: Footprint,
}

/// What an actor may remember.
#[derive(Debug, Default)]
struct Log {
    /// The calls since its attempt began, what they read and wrote, and their answers.
    history: u64,
    calls: usize,
    /// What these read, and how many writes there had been by then.
    seen: Vec<(BTreeSet<Resource>, usize)>,
    /// Set while it waits for news.
    waiting: Option<Waker>,
}

impl Control {
    fn wires(&self) -> MutexGuard<'_, Wires> {
        self.wires.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wires {
    /// Whether something that the actor's attempt read was written since, by whomever.
    fn has_news(&self, actor: &str) -> bool {
        let seen = self.logs.get(actor).map_or(&[][..], |log| &log.seen);
        seen.iter().any(|(reads, by_then)| self.writes[*by_then..].iter().any(|written| overlap(reads, written)))
    }

    fn tell(&mut self, actor: &str, what: &str) {
        let told = format!("{actor}: {what}");
        self.trace.push(told.clone());
        self.told.insert(told);
    }

    fn announced_by(&self, actor: &str) -> impl Iterator<Item = &Announced> {
        self.announced.iter().filter(move |announced| &*announced.actor == actor)
    }
}

/// An actor's connection to the local ECR. It is the actor's HTTP client.
#[derive(Debug, Clone)]
struct Line {
    actor: Arc<str>,
    control: Arc<Control>,
    client: reqwest::Client,
}

impl HttpClient for Line {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Line {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let line = self.clone();
        HttpConnectorFuture::new(async move { line.pass(request).await.map_err(ConnectorError::io) })
    }
}

/// A call from its announcement to its answer. It is withdrawn when its actor drops it.
struct Pending<'a> {
    control: &'a Control,
    id: u64,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let mut wires = self.control.wires();
        wires.announced.retain(|announced| announced.id != self.id);
        if wires.under_way.as_ref().is_some_and(|call| call.id == self.id) {
            wires.under_way = None;
        }
    }
}

impl Line {
    async fn pass(&self, request: HttpRequest) -> Result<HttpResponse, BoxError> {
        let (call, access) = read_request(&request, &self.control.names)?;
        let forwarded = forward(&self.client, &request);
        drop(request);

        let (permit, permitted) = oneshot::channel();
        let pending = self.announce(call, access, permit);
        permitted.await?;
        let response = read_response(forwarded.send().await?).await?;
        self.answered(pending.id, response.status().as_u16(), response.body().bytes().unwrap_or_default());
        Ok(response)
    }

    fn announce(&self, call: Call, access: Access, permit: oneshot::Sender<()>) -> Pending<'_> {
        let mut wires = self.control.wires();
        wires.last_id += 1;
        let id = wires.last_id;
        wires.announced.push(Announced { id, actor: self.actor.clone(), call, access, permit });
        Pending { control: &self.control, id }
    }

    fn answered(&self, id: u64, status: u16, body: &[u8]) {
        let body = canonical(serde_json::from_slice(body).unwrap_or_default());
        let mut wires = self.control.wires();
        let wires = &mut *wires;
        let Some(UnderWay { actor, call, footprint, .. }) = wires.under_way.take_if(|call| call.id == id) else {
            return;
        };
        wires.trace.push(format!("{actor}: {call} -> {}", read_answer(status, &body, &self.control.names)));
        let log = wires.logs.entry(actor).or_default();
        log.history = hash_of(&(log.history, &call, &footprint, status, body.to_string()));
        log.calls += 1;
        // A call whose own write changed something has news of it: done again, it may find something else.
        log.seen.push((footprint.reads.into_iter().chain(footprint.writes.clone()).collect(), wires.writes.len()));
        if status == 200 && !footprint.writes.is_empty() {
            wires.writes.push(footprint.writes);
            for log in wires.logs.values() {
                log.waiting.iter().for_each(Waker::wake_by_ref);
            }
        }
    }
}

/// How an actor ended: in words, or why it must not have.
pub(crate) type Outcome = Result<String, String>;

type Body = Rc<dyn Fn(Actor) -> LocalBoxFuture<'static, Outcome>>;

/// An actor's name, how often it may be killed, and what it does.
type Entrance = (Arc<str>, usize, Body);

/// Where actors enter.
#[derive(Clone)]
pub(crate) struct Stage {
    control: Arc<Control>,
    client: reqwest::Client,
    entering: Rc<RefCell<Vec<Entrance>>>,
}

impl Stage {
    /// Puts an actor on the stage, from the beginning or by another one. No two have the same `name`. It may be killed
    /// after each of its calls, `kills` times in all, and then begins again.
    pub(crate) fn enter(
        &self,
        name: &str,
        kills: usize,
        body: impl Fn(Actor) -> LocalBoxFuture<'static, Outcome> + 'static,
    ) {
        self.entering.borrow_mut().push((name.into(), kills, Rc::new(body)));
    }
}

/// What an actor is given.
#[derive(Clone)]
pub(crate) struct Actor {
    pub(crate) stage: Stage,
    line: Line,
}

impl Actor {
    /// The HTTP client that the actor has to use for every call.
    pub(crate) fn http_client(&self) -> SharedHttpClient {
        SharedHttpClient::new(self.line.clone())
    }

    /// Tells something of what has happened.
    pub(crate) fn tell(&self, what: &str) {
        self.line.control.wires().tell(&self.line.actor, what);
    }

    /// Begins an attempt of a code that remembers nothing of attempts before.
    pub(crate) fn begin(&self, attempt: usize) {
        let mut wires = self.line.control.wires();
        let log = wires.logs.entry(self.line.actor.clone()).or_default();
        *log = Log { history: hash_of(&attempt), ..Log::default() };
    }

    /// Waits until something was written that this attempt has read: before that, another attempt would read the same,
    /// and end the same. It stands for the pause before a retry, which others use.
    pub(crate) async fn news(&self) {
        poll_fn(|context| {
            let mut wires = self.line.control.wires();
            let has_news = wires.has_news(&self.line.actor);
            let log = wires.logs.entry(self.line.actor.clone()).or_default();
            log.waiting = (!has_news).then(|| context.waker().clone());
            if has_news { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// What a region's repository holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct View {
    /// The digest of each tag.
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) images: BTreeSet<String>,
}

/// What the regions hold.
pub(crate) type Views = BTreeMap<String, View>;

/// What is played in every order.
pub(crate) trait Scene {
    fn title(&self) -> &str;

    /// What the trace calls digests.
    fn names(&self) -> BTreeMap<String, String>;

    /// Makes the registries what they are before the first call.
    async fn reset(&self);

    /// Puts the first actors on the stage.
    fn begin(&self, stage: &Stage);

    fn views(&self) -> Views;

    /// Whether no actor ever writes this.
    fn is_fixed(&self, resource: &Resource) -> bool;

    /// What holds after every call.
    fn check(&self, views: &Views) -> Result<(), String>;

    /// What holds when every actor has ended.
    fn check_end(&self, views: &Views) -> Result<(), String>;
}

/// Something that can happen next.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Step {
    actor: Arc<str>,
    deed: Deed,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Deed {
    /// The call is let through, and answered.
    Call(Call),
    /// The actor stops where it is, and begins again.
    Kill,
}

/// Tells that an actor may go on.
struct Alarm {
    has_rung: AtomicBool,
    scheduler: Arc<AtomicWaker>,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_rung.store(true, Ordering::SeqCst);
        self.scheduler.wake();
    }
}

struct Member {
    kills: usize,
    body: Body,
    /// `None` when it has ended.
    future: Option<LocalBoxFuture<'static, Outcome>>,
    alarm: Arc<Alarm>,
}

/// One execution of a scene.
struct Play<'a, S> {
    scene: &'a S,
    stage: Stage,
    cast: BTreeMap<Arc<str>, Member>,
    scheduler: Arc<AtomicWaker>,
    /// What was chosen, each by its place among what was possible.
    schedule: Vec<usize>,
}

impl<'a, S: Scene> Play<'a, S> {
    async fn begin(scene: &'a S, client: &reqwest::Client) -> Result<Self, String> {
        scene.reset().await;
        let control = Arc::new(Control { names: scene.names(), wires: Mutex::default() });
        let stage = Stage { control, client: client.clone(), entering: Rc::default() };
        scene.begin(&stage);
        let mut play = Self { scene, stage, cast: BTreeMap::new(), scheduler: Arc::default(), schedule: Vec::new() };
        play.settle().await?;
        Ok(play)
    }

    fn actor(&self, name: &Arc<str>) -> Actor {
        let (control, client) = (self.stage.control.clone(), self.stage.client.clone());
        Actor { stage: self.stage.clone(), line: Line { actor: name.clone(), control, client } }
    }

    /// Lets the actors go on until each waits for a permit or for news, or has ended.
    async fn settle(&mut self) -> Result<(), String> {
        let settled = tokio::time::timeout(HANGING, poll_fn(|context| self.poll(context))).await;
        settled.unwrap_or_else(|_| Err("an actor neither calls nor ends".to_owned())).map_err(|why| self.failed(&why))
    }

    fn poll(&mut self, context: &Context<'_>) -> Poll<Result<(), String>> {
        self.scheduler.register(context.waker());
        loop {
            for (name, kills, body) in self.stage.entering.take() {
                self.stage.control.wires().logs.insert(name.clone(), Log::default());
                let future = body(self.actor(&name));
                let alarm = Alarm { has_rung: AtomicBool::new(true), scheduler: self.scheduler.clone() };
                // Nor may tokio have it pause in the middle, for the sake of other tasks.
                let future = Box::pin(tokio::task::unconstrained(future));
                let member = Member { kills, body, future: Some(future), alarm: Arc::new(alarm) };
                assert!(self.cast.insert(name.clone(), member).is_none(), "two actors are called {name}");
            }
            let mut is_quiet = true;
            for (name, member) in &mut self.cast {
                let Some(future) = &mut member.future else { continue };
                if !member.alarm.has_rung.swap(false, Ordering::SeqCst) {
                    continue;
                }
                is_quiet = false;
                let waker = Waker::from(member.alarm.clone());
                let Poll::Ready(outcome) = future.as_mut().poll(&mut Context::from_waker(&waker)) else { continue };
                member.future = None;
                match outcome {
                    Ok(ending) => self.stage.control.wires().tell(name, &ending),
                    Err(why) => return Poll::Ready(Err(format!("{name}: {why}"))),
                }
            }
            if is_quiet && self.stage.entering.borrow().is_empty() {
                break;
            }
        }
        if self.is_settled() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn is_settled(&self) -> bool {
        let wires = self.stage.control.wires();
        wires.under_way.is_none()
            && self.on_stage().all(|name| {
                wires.announced_by(name).next().is_some()
                    || wires.logs.get(name).is_some_and(|log| log.waiting.is_some())
            })
    }

    /// The actors that have not ended.
    fn on_stage(&self) -> impl Iterator<Item = &Arc<str>> {
        self.cast.iter().filter(|(_, member)| member.future.is_some()).map(|(name, _)| name)
    }

    /// What can happen next.
    fn possible(&self, views: &Views) -> BTreeMap<Step, Footprint> {
        let wires = self.stage.control.wires();
        let calls = wires.announced.iter().map(|announced| {
            let step = Step { actor: announced.actor.clone(), deed: Deed::Call(announced.call.clone()) };
            (step, announced.access.footprint(views))
        });
        // Before its first call, and while it waits, a kill changes nothing.
        let mortal = self.cast.iter().filter(|(name, member)| {
            member.kills > 0
                && wires.announced_by(name).next().is_some()
                && wires.logs.get(*name).is_some_and(|log| log.calls > 0)
        });
        let kills = mortal.map(|(name, _)| (Step { actor: name.clone(), deed: Deed::Kill }, Footprint::default()));
        calls.chain(kills).collect()
    }

    /// Of what is possible, enough that nothing is missed: a call alone, where it only reads what nobody ever writes. It
    /// commutes with whatever the others do until it is made. Its own actor must have nothing else under way than such
    /// calls; that it may be killed instead makes no difference, as it has seen nothing new.
    fn enough(&self, possible: &BTreeMap<Step, Footprint>) -> BTreeSet<Step> {
        let is_fixed = |footprint: &Footprint| {
            footprint.writes.is_empty() && footprint.reads.iter().all(|resource| self.scene.is_fixed(resource))
        };
        let alone = self.on_stage().find_map(|actor| {
            let mut calls = possible.iter().filter(|(step, _)| step.actor == *actor && step.deed != Deed::Kill);
            let (first, footprint) = calls.next()?;
            let is_only_fixed = is_fixed(footprint) && calls.all(|(_, footprint)| is_fixed(footprint));
            is_only_fixed.then(|| first.clone())
        });
        alone.map_or_else(|| possible.keys().cloned().collect(), |step| BTreeSet::from([step]))
    }

    /// Does one step, and looks whether all is well after it.
    async fn take(&mut self, step: &Step) -> Result<(), String> {
        let views = self.scene.views();
        let possible = self.possible(&views);
        let Some(place) = possible.keys().position(|other| other == step) else {
            return Err(self.failed(&format!("it is not deterministic: {step:?} was possible here before")));
        };
        self.schedule.push(place);
        match &step.deed {
            Deed::Call(call) => self.permit(&step.actor, call, &views),
            Deed::Kill => self.kill(&step.actor),
        }
        self.settle().await?;
        self.scene.check(&self.scene.views()).map_err(|why| self.failed(&why))
    }

    fn permit(&self, actor: &Arc<str>, call: &Call, views: &Views) {
        let mut wires = self.stage.control.wires();
        let place = wires.announced.iter().position(|other| other.actor == *actor && other.call == *call);
        let Some(place) = place else { return };
        let Announced { id, actor, call, access, permit } = wires.announced.remove(place);
        wires.under_way = Some(UnderWay { id, actor, call, footprint: access.footprint(views) });
        // Its receiver is gone only with the announcement.
        let _ = permit.send(());
    }

    fn kill(&mut self, name: &Arc<str>) {
        let actor = self.actor(name);
        let Some(member) = self.cast.get_mut(name) else { return };
        member.kills -= 1;
        // Its calls are withdrawn, before it begins again.
        member.future = None;
        let mut wires = self.stage.control.wires();
        wires.trace.push(format!("{name}: killed"));
        wires.logs.insert(name.clone(), Log::default());
        drop(wires);
        member.future = Some(Box::pin(tokio::task::unconstrained((member.body)(actor))));
        member.alarm.has_rung.store(true, Ordering::SeqCst);
    }

    /// What the future depends on.
    fn state(&self, views: &Views) -> u64 {
        let wires = self.stage.control.wires();
        let actors = self.cast.iter().map(|(name, member)| {
            let history = member.future.as_ref().map(|_| wires.logs.get(name).map(|log| (log.history, log.calls)));
            (name, history, member.future.is_some() && wires.has_news(name), member.kills)
        });
        hash_of(&(views, actors.collect::<Vec<_>>()))
    }

    /// Looks whether all is well when nothing is possible any more; what the registries hold then, as a number.
    fn end(&self) -> Result<u64, String> {
        let views = self.scene.views();
        if let Some(name) = self.on_stage().next() {
            return Err(self.failed(&format!("{name} waits for news, and nobody is left to make any")));
        }
        self.scene.check_end(&views).map_err(|why| self.failed(&why))?;
        Ok(hash_of(&views))
    }

    fn failed(&self, why: &str) -> String {
        let trace = self.stage.control.wires().trace.join("\n  ");
        let schedule: Vec<String> = self.schedule.iter().map(ToString::to_string).collect();
        let schedule = schedule.join(".");
        format!("{}: {why}\n  {trace}\nto see it again, run this test with REPLAY={schedule}", self.scene.title())
    }
}

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Explored {
    /// How many orders of calls were executed, to their end or to a state that was met before.
    pub(crate) schedules: usize,
    /// How many different states there were.
    pub(crate) states: usize,
    /// How many steps were done in all.
    pub(crate) steps: usize,
    /// What the registries hold at the different ends.
    pub(crate) ends: BTreeSet<u64>,
    /// What actors told, and how they ended.
    pub(crate) told: BTreeSet<String>,
    /// Whether nothing is left.
    pub(crate) is_complete: bool,
}

impl fmt::Display for Explored {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { schedules, states, steps, ends, told, is_complete } = self;
        let extent = if *is_complete { "all there are" } else { "not all there are" };
        let (ends, told) = (ends.len(), told.iter().map(String::as_str).collect::<Vec<_>>().join(", "));
        write!(formatter, "{schedules} schedules ({extent}), {states} states, {steps} steps, {ends} ends ({told})")
    }
}

/// What of the orders of calls is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Search {
    /// Each one.
    Plain,
    /// Those that can differ in something.
    Reduced,
}

/// A state on the way to the one in hand, and what is still to be done in it.
struct Branch {
    possible: BTreeMap<Step, Footprint>,
    /// What need not be done here: an execution that does it later was seen.
    asleep: BTreeSet<Step>,
    /// What was done here, and gone on from to every end.
    done: Vec<Step>,
    current: Step,
    todo: Vec<Step>,
}

impl Branch {
    /// What need not be done after the current step.
    fn asleep_after(&self) -> BTreeSet<Step> {
        let Some(taken) = self.possible.get(&self.current) else { return BTreeSet::new() };
        let commutes = |step: &&Step| {
            step.actor != self.current.actor
                && self.possible.get(*step).is_some_and(|footprint| !footprint.conflicts(taken))
        };
        self.asleep.iter().chain(&self.done).filter(commutes).cloned().collect()
    }

    /// Goes on to the next step; `false` if there is none.
    fn advance(&mut self) -> bool {
        let Some(next) = self.todo.pop() else { return false };
        self.done.push(std::mem::replace(&mut self.current, next));
        true
    }
}

/// A schedule that a failure told, to be seen again.
fn told_schedule() -> Option<String> {
    std::env::var("REPLAY").ok().filter(|schedule| !schedule.is_empty())
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// Plays `scene` in every order of its calls, or in the first `budget` of them; the first order in which a check fails is
/// the error.
pub(crate) async fn explore<S: Scene>(scene: &S, search: Search, budget: usize) -> Result<Explored, String> {
    if let Some(schedule) = told_schedule() {
        return again(scene, &schedule).await;
    }
    let client = client();
    let mut explored = Explored::default();
    let mut met: HashMap<u64, BTreeSet<Step>> = HashMap::new();
    let mut path: Vec<Branch> = Vec::new();
    while explored.schedules < budget {
        let mut play = Play::begin(scene, &client).await?;
        for branch in &path {
            play.take(&branch.current).await?;
        }
        loop {
            let views = scene.views();
            let possible = play.possible(&views);
            if possible.is_empty() {
                explored.ends.insert(play.end()?);
                break;
            }
            let (mut todo, asleep) = match search {
                Search::Plain => (possible.keys().cloned().collect(), BTreeSet::new()),
                Search::Reduced => {
                    let asleep = path.last().map(Branch::asleep_after).unwrap_or_default();
                    let enough = play.enough(&possible);
                    let before = met.get(&play.state(&views));
                    let asleep: BTreeSet<Step> = match before {
                        // What slept then, and does not now, was never gone on from here.
                        Some(before) => before.intersection(&asleep).cloned().collect(),
                        None => asleep,
                    };
                    let is_todo = |step: &&Step| match before {
                        Some(before) => before.contains(*step) && !asleep.contains(*step),
                        None => !asleep.contains(*step),
                    };
                    let todo: Vec<Step> = enough.iter().filter(is_todo).cloned().collect();
                    met.insert(play.state(&views), asleep.clone());
                    (todo, asleep)
                }
            };
            todo.reverse();
            let Some(current) = todo.pop() else { break };
            play.take(&current).await?;
            path.push(Branch { possible, asleep, done: Vec::new(), current, todo });
        }
        explored.schedules += 1;
        explored.steps += play.schedule.len();
        explored.told.append(&mut play.stage.control.wires().told);
        explored.states = met.len();
        while path.last_mut().is_some_and(|branch| !branch.advance()) {
            path.pop();
        }
        if path.is_empty() {
            explored.is_complete = true;
            break;
        }
    }
    eprintln!("{}: {explored}", scene.title());
    Ok(explored)
}

/// Plays `scene` in an order drawn by each of `seeds`. The actor that ranks first goes on, and its rank is drawn anew now
/// and then, above all before it asks for a tag or puts one: so it may rest between two such calls while others do all that
/// they have to. Races are lost in orders of that kind, which hardly come when each step is drawn.
pub(crate) async fn wander<S: Scene>(scene: &S, seeds: Range<u64>) -> Result<Explored, String> {
    /// One call of so many is put off, one of those for a tag, and one step of so many is a kill where it can be.
    const PUT_OFF: u32 = 32;
    const PUT_OFF_TAG: u32 = 3;
    const KILL: u32 = 16;

    if let Some(schedule) = told_schedule() {
        return again(scene, &schedule).await;
    }
    let client = client();
    let mut explored = Explored::default();
    let (mut schedules, mut states) = (HashSet::new(), HashSet::new());
    for seed in seeds {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut ranks: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        let mut play = Play::begin(scene, &client).await?;
        loop {
            let views = scene.views();
            states.insert(play.state(&views));
            let possible = play.possible(&views);
            for step in possible.keys() {
                ranks.entry(step.actor.clone()).or_insert_with(|| random.u64(..));
            }
            let mut step = drawn(&possible, &ranks, &mut random);
            let Some(footprint) = step.and_then(|step| possible.get(step)) else {
                explored.ends.insert(play.end()?);
                break;
            };
            let is_for_tag = footprint
                .reads
                .iter()
                .chain(&footprint.writes)
                .any(|resource| matches!(resource.part, Part::Tag(_)) && !scene.is_fixed(resource));
            if random.u32(0..if is_for_tag { PUT_OFF_TAG } else { PUT_OFF }) == 0 {
                ranks.extend(step.map(|step| (step.actor.clone(), random.u64(..))));
                step = drawn(&possible, &ranks, &mut random);
            }
            let kill = step.map(|step| Step { actor: step.actor.clone(), deed: Deed::Kill });
            let kill = kill.filter(|kill| possible.contains_key(kill) && random.u32(0..KILL) == 0);
            let Some(step) = kill.as_ref().or(step) else { break };
            play.take(step).await.map_err(|why| format!("seed {seed}: {why}"))?;
        }
        explored.steps += play.schedule.len();
        explored.told.append(&mut play.stage.control.wires().told);
        schedules.insert(play.schedule);
    }
    explored.schedules = schedules.len();
    explored.states = states.len();
    eprintln!("{}, at random: {explored}", scene.title());
    Ok(explored)
}

/// A call of the actor that ranks first.
fn drawn<'a>(
    possible: &'a BTreeMap<Step, Footprint>,
    ranks: &BTreeMap<Arc<str>, u64>,
    random: &mut fastrand::Rng,
) -> Option<&'a Step> {
    let calls = || possible.keys().filter(|step| step.deed != Deed::Kill);
    let first = calls().map(|step| &step.actor).max_by_key(|actor| ranks.get(*actor))?;
    random.choice(calls().filter(|step| step.actor == *first).collect::<Vec<_>>())
}

/// Plays `scene` once, in the order `schedule`, and tells what happens.
async fn again<S: Scene>(scene: &S, schedule: &str) -> Result<Explored, String> {
    let mut play = Play::begin(scene, &client()).await?;
    for place in schedule.split('.') {
        let possible = play.possible(&scene.views());
        let place: usize = place.parse().map_err(|error| format!("REPLAY: {error}"))?;
        let Some(step) = possible.keys().nth(place) else { return Err(play.failed("REPLAY is of another scene")) };
        play.take(step).await?;
    }
    if play.possible(&scene.views()).is_empty() {
        play.end()?;
    }
    eprintln!("{}", play.failed("played again, and nothing is wrong"));
    Ok(Explored { schedules: 1, steps: play.schedule.len(), ..Explored::default() })
}
