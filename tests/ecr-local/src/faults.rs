use std::time::Duration;

use axum::http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::chance::Chance;
use crate::guarded::Guarded;
use crate::names::{Digest, Region};

/// What a call meets instead of its operation's own answer: another answer, a connection that breaks, its own answer late or
/// altered, or a registry in which something has happened meanwhile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// An API operation, `AssumeRole`, `DownloadLayer`, or `v2:<METHOD> <kind>`: the names that the stats count by.
    pub operation: String,
    /// Only in this region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Only for this repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Only for the image with this digest, when it is pushed, or the layer, when it is read or completed: of the operations
    /// of `WITH_DIGEST`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// How many calls pass before the first fault.
    #[serde(default)]
    pub skip: u64,
    /// How often the fault is answered; `None` (null) for ever.
    #[serde(default = "once")]
    pub times: Option<u64>,
    /// How likely each call after those meets it, above 0 and up to 1; `None` is every call. What is drawn is the same for the
    /// same seed, place of the fault among the faults, and number of the call among those that it is drawn for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// The HTTP status of the answer; `None` where none is given: the connection is cut, or the operation answers itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The error's name.
    #[serde(default)]
    pub code: String,
    /// The error's message.
    #[serde(default)]
    pub message: String,
    /// How long the answer, or the cut, is held back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// The operation takes effect and then its answer is replaced: a lost answer.
    #[serde(default)]
    pub after: bool,
    /// The connection is closed when so many bytes have passed: of the answer's body for `DownloadLayer`, and of the request's
    /// body otherwise, of which nothing takes effect then. With `after`, everything takes effect, and then it is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_after: Option<u64>,
    /// What has happened in the registry just before the call is handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meanwhile: Option<Meanwhile>,
    /// Of a part or a chunk only the first so many bytes are kept, as if no more had been sent: of `UploadLayerPart`,
    /// `v2:PATCH upload` and `v2:PUT upload`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u64>,
    /// What the answer's body is: a string in its place, or an object that is merged into its JSON. A null there takes a member
    /// away, and an object in the place of a list is merged into each of its items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// The answer's `Location`: with a status of 3xx a redirect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The place of a byte of the answer's body that is changed on the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrupt: Option<u64>,
    /// The answer's body ends after so many bytes, and its `Content-Length` says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncate: Option<u64>,
    /// So many zeros follow the answer's body, and its `Content-Length` says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extend: Option<u64>,
    /// How fast the answer's body comes, evenly and ten times a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// The connection is closed when so many bytes of the answer's body were sent, of which its `Content-Length` says that they
    /// are all: the operation has taken effect, or the fault is answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_answer_after: Option<u64>,
    /// How fast the request's body is read, evenly and ten times a second: a client that sends faster is held up by TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_bytes_per_second: Option<u64>,
}

/// The operations whose calls are about one digest.
const WITH_DIGEST: [&str; 6] =
    ["PutImage", "v2:PUT manifest", "GetDownloadUrlForLayer", "DownloadLayer", "CompleteLayerUpload", "v2:PUT upload"];

/// What a fault lets happen in the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Meanwhile {
    /// The call's repository is deleted, with all that is in it.
    DeleteRepository,
    /// The image with this digest is deleted from the call's repository, and with it each index that lists it.
    DeleteImage(String),
    /// All open uploads of the call's region are forgotten.
    ForgetUploads,
    /// All download URLs that were given out expire.
    ExpireUrls,
}

#[expect(clippy::unnecessary_wraps, reason = "serde's default has the field's type")]
fn once() -> Option<u64> {
    Some(1)
}

impl Fault {
    /// A fault that is answered once, everywhere, before the operation takes effect.
    #[must_use]
    pub fn new(operation: &str, status: u16, code: &str) -> Self {
        Self {
            status: Some(status),
            code: code.to_owned(),
            message: format!("a fault of the local ECR: {code}"),
            ..Self::of(operation)
        }
    }

    /// A connection that breaks once, everywhere, when so many bytes of the body have passed.
    #[must_use]
    pub fn cut(operation: &str, bytes: u64) -> Self {
        Self::of(operation).cut_after(bytes)
    }

    /// The operation's own answer, held back once.
    #[must_use]
    pub fn slow(operation: &str, delay: Duration) -> Self {
        Self::of(operation).delay(delay)
    }

    /// The operation's own answer, once, everywhere: what is wrong with it is for the methods that follow to say.
    #[must_use]
    pub fn of(operation: &str) -> Self {
        Self {
            operation: operation.to_owned(),
            region: None,
            repository: None,
            digest: None,
            skip: 0,
            times: once(),
            probability: None,
            status: None,
            code: String::new(),
            message: String::new(),
            delay_ms: None,
            after: false,
            cut_after: None,
            meanwhile: None,
            keep: None,
            body: None,
            location: None,
            corrupt: None,
            truncate: None,
            extend: None,
            bytes_per_second: None,
            cut_answer_after: None,
            read_bytes_per_second: None,
        }
    }

    /// The same fault, but the connection is closed instead, when so many bytes of the body have passed.
    #[must_use]
    pub fn cut_after(self, bytes: u64) -> Self {
        Self { status: None, code: String::new(), message: String::new(), cut_after: Some(bytes), ..self }
    }

    /// The same fault, held back.
    #[must_use]
    pub fn delay(self, delay: Duration) -> Self {
        Self { delay_ms: Some(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)), ..self }
    }

    /// The same fault in one region only.
    #[must_use]
    pub fn in_region(self, region: &str) -> Self {
        Self { region: Some(region.to_owned()), ..self }
    }

    /// The same fault for one repository only.
    #[must_use]
    pub fn in_repository(self, repository: &str) -> Self {
        Self { repository: Some(repository.to_owned()), ..self }
    }

    /// The same fault only where the image with this digest is pushed, by `PutImage` or `v2:PUT manifest`; other operations do
    /// not meet it.
    #[must_use]
    pub fn of_image(self, digest: &str) -> Self {
        Self { digest: Some(digest.to_owned()), ..self }
    }

    /// The same fault only where the layer with this digest is read or completed, by `GetDownloadUrlForLayer`, `DownloadLayer`,
    /// `CompleteLayerUpload` or `v2:PUT upload`; other operations do not meet it.
    #[must_use]
    pub fn of_layer(self, digest: &str) -> Self {
        Self { digest: Some(digest.to_owned()), ..self }
    }

    /// The same fault after `calls` calls that pass.
    #[must_use]
    pub fn skip(self, calls: u64) -> Self {
        Self { skip: calls, ..self }
    }

    /// The same fault, answered `times` times.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { times: Some(times), ..self }
    }

    /// The same fault for every call from now on.
    #[must_use]
    pub fn for_ever(self) -> Self {
        Self { times: None, ..self }
    }

    /// The same fault, met by each call with this probability.
    #[must_use]
    pub fn probability(self, probability: f64) -> Self {
        Self { probability: Some(probability), ..self }
    }

    /// The same fault, answered after the operation took effect.
    #[must_use]
    pub fn after_effect(self) -> Self {
        Self { after: true, ..self }
    }

    /// The same fault in a registry where this has happened just before.
    #[must_use]
    pub fn meanwhile(self, event: Meanwhile) -> Self {
        Self { meanwhile: Some(event), ..self }
    }

    /// The same fault, and of a part or a chunk only the first so many bytes are kept.
    #[must_use]
    pub fn keep(self, bytes: u64) -> Self {
        Self { keep: Some(bytes), ..self }
    }

    /// The same fault with another body: a string, or an object that is merged into the answer's JSON.
    #[must_use]
    pub fn body(self, body: impl Into<Value>) -> Self {
        Self { body: Some(body.into()), ..self }
    }

    /// The same fault with a `Location` in its answer.
    #[must_use]
    pub fn location(self, url: &str) -> Self {
        Self { location: Some(url.to_owned()), ..self }
    }

    /// The same fault with one byte of the answer's body changed, which has `index` bytes before it.
    #[must_use]
    pub fn corrupt(self, index: u64) -> Self {
        Self { corrupt: Some(index), ..self }
    }

    /// The same fault with no more than so many bytes of the answer's body.
    #[must_use]
    pub fn truncate(self, bytes: u64) -> Self {
        Self { truncate: Some(bytes), ..self }
    }

    /// The same fault with so many zeros after the answer's body.
    #[must_use]
    pub fn extend(self, bytes: u64) -> Self {
        Self { extend: Some(bytes), ..self }
    }

    /// The same fault with an answer whose body comes as slowly as this.
    #[must_use]
    pub fn trickle(self, bytes_per_second: u64) -> Self {
        Self { bytes_per_second: Some(bytes_per_second), ..self }
    }

    /// The same fault, but the connection is closed when so many bytes of its answer's body were sent.
    #[must_use]
    pub fn cut_answer_after(self, bytes: u64) -> Self {
        Self { cut_answer_after: Some(bytes), ..self }
    }

    /// The same fault, and the request's body is read as slowly as this.
    #[must_use]
    pub fn read_slowly(self, bytes_per_second: u64) -> Self {
        Self { read_bytes_per_second: Some(bytes_per_second), ..self }
    }

    /// Who answers.
    pub(crate) fn kind(&self) -> Kind {
        match (self.cut_after, self.status) {
            (Some(bytes), _) => Kind::Cut(bytes),
            (None, Some(_)) => Kind::Answer,
            (None, None) => Kind::Own,
        }
    }

    /// Why this is no fault.
    pub(crate) fn mistake(&self) -> Option<&'static str> {
        let operation = self.operation.as_str();
        let (is_answered, is_cut) = (self.status.is_some(), self.cut_after.is_some());
        let deletes_no_digest = match &self.meanwhile {
            Some(Meanwhile::DeleteImage(digest)) => Digest::try_from(digest.as_str()).is_err(),
            _ => false,
        };
        let is_nothing = !(is_answered
            || is_cut
            || self.alters()
            || self.delay_ms.is_some()
            || self.meanwhile.is_some()
            || self.keep.is_some()
            || self.read_bytes_per_second.is_some());
        [
            (is_nothing, "a fault needs a status, cutAfter, delayMs, or another member that does something"),
            (is_answered && is_cut, "a connection that is cut has no status"),
            (is_cut && self.alters(), "a connection that is cut has no answer to alter"),
            (is_answered && self.code.is_empty() && self.body.is_none(), "a status needs a code or a body"),
            (
                self.digest.is_some() && !WITH_DIGEST.contains(&operation),
                "only PutImage, v2:PUT manifest, and what reads or completes a layer have a digest",
            ),
            (
                self.probability.is_some_and(|probability| !(probability > 0.0 && probability <= 1.0)),
                "a probability is above 0 and up to 1",
            ),
            (
                self.keep.is_some() && !matches!(operation, "UploadLayerPart" | "v2:PATCH upload" | "v2:PUT upload"),
                "only UploadLayerPart, v2:PATCH upload and v2:PUT upload have bytes to keep",
            ),
            (
                self.keep.is_some() && (is_answered || is_cut) && !self.after,
                "what has no effect keeps nothing: keep needs after where there is a status or cutAfter",
            ),
            (deletes_no_digest, "an image is deleted by its digest"),
            (
                self.body.as_ref().is_some_and(|body| !(body.is_string() || body.is_object())),
                "a body is a string or an object",
            ),
            (
                self.location.as_deref().is_some_and(|location| HeaderValue::from_str(location).is_err()),
                "the location cannot stand in a header",
            ),
            (self.truncate.is_some() && self.extend.is_some(), "an answer is truncated or extended"),
            (self.bytes_per_second == Some(0), "bytesPerSecond is above 0"),
            (self.read_bytes_per_second == Some(0), "readBytesPerSecond is above 0"),
            (
                self.read_bytes_per_second.is_some() && matches!(operation, "AssumeRole" | "DownloadLayer"),
                "AssumeRole and DownloadLayer have no body to read slowly",
            ),
        ]
        .into_iter()
        .find_map(|(is_made, mistake)| is_made.then_some(mistake))
    }

    /// Whether it has the answer come otherwise than it was given.
    fn alters(&self) -> bool {
        self.body.is_some()
            || self.location.is_some()
            || self.corrupt.is_some()
            || self.truncate.is_some()
            || self.extend.is_some()
            || self.bytes_per_second.is_some()
            || self.cut_answer_after.is_some()
    }

    pub(crate) fn status(&self) -> StatusCode {
        let status = self.status.and_then(|status| StatusCode::from_u16(status).ok());
        status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Waits as long as the fault holds its answer back.
    pub(crate) async fn hold(&self) {
        if let Some(milliseconds) = self.delay_ms {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        }
    }

    fn concerns(&self, operation: &str, region: &Region) -> bool {
        self.operation == operation && self.region.as_deref().is_none_or(|wanted| wanted == region.as_str())
    }

    fn matches(&self, operation: &str, region: &Region, repository: Option<&str>, digest: Option<&Digest>) -> bool {
        self.concerns(operation, region)
            && (self.repository.is_none() || self.repository.as_deref() == repository)
            && (self.digest.is_none() || self.digest.as_deref() == digest.map(Digest::as_str))
    }
}

/// Who answers a call that meets a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The fault.
    Answer,
    /// Nobody: the connection is closed after so many bytes.
    Cut(u64),
    /// The operation.
    Own,
}

/// What has to be known of a call, to tell which of its operation's faults it meets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Concern {
    /// After how many bytes its connection may have to be cut.
    pub(crate) first_cut: Option<u64>,
    /// Whether any of the faults is for one repository only.
    pub(crate) by_repository: bool,
    /// Whether any of them is for one digest only.
    pub(crate) by_digest: bool,
}

/// A fault and what is left of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FaultState {
    /// The fault as it was added.
    pub fault: Fault,
    /// Calls that still pass before it is answered.
    pub remaining_skip: u64,
    /// How often it will still be answered; `None` for ever.
    pub remaining_times: Option<u64>,
    /// How often it was answered.
    pub met: u64,
}

#[derive(Debug)]
pub(crate) struct Faults(Guarded<Script>);

#[derive(Debug)]
struct Script {
    seed: u64,
    faults: Vec<Scripted>,
}

#[derive(Debug)]
struct Scripted {
    state: FaultState,
    chance: Chance,
}

impl Scripted {
    /// Whether the fault is met by a call that it matches, which uses it up by one.
    fn is_met(&mut self) -> bool {
        let Self { state: FaultState { fault, remaining_skip, remaining_times, met }, chance } = self;
        if *remaining_times == Some(0) {
            return false;
        }
        if *remaining_skip > 0 {
            *remaining_skip -= 1;
            return false;
        }
        if fault.probability.is_some_and(|probability| !chance.falls(probability)) {
            return false;
        }
        *remaining_times = remaining_times.map(|times| times - 1);
        *met += 1;
        true
    }
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Guarded::new(Script { seed, faults: Vec::new() }))
    }

    /// Has all that is drawn from now on follow from this seed.
    pub(crate) fn seed(&self, seed: u64) {
        let mut script = self.0.lock();
        script.seed = seed;
        for (place, scripted) in script.faults.iter_mut().enumerate() {
            scripted.chance = Chance::new(seed, place);
        }
    }

    pub(crate) fn add(&self, fault: Fault) {
        let mut script = self.0.lock();
        let chance = Chance::new(script.seed, script.faults.len());
        let (remaining_skip, remaining_times) = (fault.skip, fault.times);
        script.faults.push(Scripted { state: FaultState { fault, remaining_skip, remaining_times, met: 0 }, chance });
    }

    pub(crate) fn list(&self) -> Vec<FaultState> {
        self.0.lock().faults.iter().map(|scripted| scripted.state.clone()).collect()
    }

    pub(crate) fn clear(&self) {
        self.0.lock().faults.clear();
    }

    /// What a call has to be read for, if there is any fault for it.
    pub(crate) fn concern(&self, operation: &str, region: &Region) -> Option<Concern> {
        let script = self.0.lock();
        let mut live = script
            .faults
            .iter()
            .map(|scripted| &scripted.state)
            .filter(|state| state.remaining_times != Some(0) && state.fault.concerns(operation, region))
            .map(|state| &state.fault)
            .peekable();
        live.peek()?;
        let concern = Concern { first_cut: None, by_repository: false, by_digest: false };
        let concern = live.fold(concern, |concern, fault| Concern {
            first_cut: concern.first_cut.into_iter().chain(fault.cut_after.filter(|_| !fault.after)).min(),
            by_repository: concern.by_repository || fault.repository.is_some(),
            by_digest: concern.by_digest || fault.digest.is_some(),
        });
        Some(concern)
    }

    /// The fault to answer to this call, which is then used up by one.
    pub(crate) fn take(
        &self,
        operation: &str,
        region: &Region,
        repository: Option<&str>,
        digest: Option<&Digest>,
    ) -> Option<Fault> {
        let mut script = self.0.lock();
        let mut matching = script
            .faults
            .iter_mut()
            .filter(|scripted| scripted.state.fault.matches(operation, region, repository, digest));
        matching.find_map(|scripted| scripted.is_met().then(|| scripted.state.fault.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_passes_the_skipped_calls_and_ends() {
        let faults = Faults::new(0);
        let region = Region::try_from("eu-west-1").unwrap();
        faults.add(Fault::new("PutImage", 500, "ServerException").in_repository("app").skip(1).times(2));
        let answers: Vec<bool> = [Some("app"), Some("other"), None, Some("app"), Some("app"), Some("app")]
            .into_iter()
            .map(|repository| faults.take("PutImage", &region, repository, None).is_some())
            .collect();
        assert_eq!(answers, [false, false, false, true, true, false]);
    }

    #[test]
    fn a_fault_of_a_digest_passes_every_other() {
        let faults = Faults::new(0);
        let region = Region::try_from("eu-west-1").unwrap();
        let (image, other) = (Digest::of(b"image"), Digest::of(b"other"));
        faults.add(Fault::new("PutImage", 500, "ServerException").of_image(image.as_str()).for_ever());
        assert!(faults.concern("PutImage", &region).unwrap().by_digest);
        for (pushed, is_met) in [(Some(&image), true), (Some(&other), false), (None, false)] {
            assert_eq!(faults.take("PutImage", &region, None, pushed).is_some(), is_met, "{pushed:?}");
        }
        let with_digest = WITH_DIGEST.map(|operation| (operation, true));
        for (operation, is_fault) in with_digest.into_iter().chain([("UploadLayerPart", false)]) {
            let fault = Fault::new(operation, 500, "ServerException").of_image(image.as_str());
            assert_eq!(fault.mistake().is_none(), is_fault, "{operation}");
        }
    }

    #[test]
    fn times_is_once_when_absent_and_for_ever_when_null() {
        let base = r#""operation": "PutImage", "status": 500, "code": "ServerException""#;
        let absent: Fault = serde_json::from_str(&format!("{{{base}}}")).unwrap();
        let null: Fault = serde_json::from_str(&format!(r#"{{{base}, "times": null}}"#)).unwrap();
        assert_eq!((absent.times, null.times), (Some(1), None));
    }

    #[test]
    fn each_fault_is_drawn_for_by_itself() {
        let region = Region::try_from("eu-west-1").unwrap();
        let even = Fault::new("PutImage", 500, "ServerException").probability(0.5).skip(2).times(20);
        let meets = |faults: &Faults, operation: &str| faults.take(operation, &region, None, None).is_some();
        let drawn = |faults: &Faults| (0..100).map(|_| meets(faults, "PutImage")).collect::<Vec<_>>();

        let faults = Faults::new(7);
        faults.add(even.clone());
        let alone = drawn(&faults);
        assert_eq!(alone.iter().filter(|is_met| **is_met).count(), 20);
        assert!(!alone[0] && !alone[1] && alone[2..30].contains(&true) && alone[2..30].contains(&false), "{alone:?}");

        // What is drawn for other faults between its calls changes nothing; another seed does, and another place.
        faults.clear();
        faults.add(even.clone());
        faults.add(Fault { operation: "InitiateLayerUpload".to_owned(), ..even.clone() });
        let between = (0..100).map(|_| (meets(&faults, "PutImage"), meets(&faults, "InitiateLayerUpload")));
        let (first, second): (Vec<_>, Vec<_>) = between.unzip();
        assert_eq!(first, alone);
        assert_ne!(second, alone);
        faults.clear();
        faults.add(even);
        faults.seed(8);
        assert_ne!(drawn(&faults), alone);
    }

    #[test]
    fn a_fault_that_makes_no_sense_is_none() {
        let answer = || Fault::new("UploadLayerPart", 500, "ServerException");
        let own = || Fault::of("UploadLayerPart");
        for (fault, is_fault) in [
            (own(), false),
            (own().after_effect(), false),
            (own().probability(0.5), false),
            (answer().probability(0.5), true),
            (answer().probability(1.0), true),
            (answer().probability(0.0), false),
            (answer().probability(1.1), false),
            (answer().probability(f64::NAN), false),
            (answer().cut_after(1).truncate(1), false),
            (own().keep(1), true),
            (answer().keep(1), false),
            (own().cut_after(0).keep(1), false),
            (answer().after_effect().keep(1), true),
            (own().cut_after(0).after_effect().keep(1), true),
            (Fault::of("PutImage").keep(1), false),
            (own().body("text"), true),
            (own().body(serde_json::json!({ "lastByteReceived": null })), true),
            (own().body(serde_json::json!([1])), false),
            (Fault::new("UploadLayerPart", 502, ""), false),
            (Fault::new("UploadLayerPart", 502, "").body("text"), true),
            (own().location("http://localhost/"), true),
            (own().location("a\nb"), false),
            (own().truncate(0), true),
            (own().extend(1), true),
            (own().truncate(0).extend(1), false),
            (own().corrupt(0), true),
            (own().trickle(1), true),
            (own().trickle(0), false),
            (own().meanwhile(Meanwhile::DeleteRepository), true),
            (own().meanwhile(Meanwhile::DeleteImage(Digest::of(b"image").to_string())), true),
            (own().meanwhile(Meanwhile::DeleteImage("v1".to_owned())), false),
        ] {
            assert_eq!(fault.mistake().is_none(), is_fault, "{fault:?}");
        }
    }

    #[test]
    fn an_answer_breaks_off_where_there_is_one_and_a_body_is_slow_where_it_is_read() {
        let own = || Fault::of("UploadLayerPart");
        for (fault, is_fault) in [
            (own().cut_answer_after(0), true),
            (Fault::new("UploadLayerPart", 500, "ServerException").cut_answer_after(0), true),
            (own().cut_after(0).cut_answer_after(0), false),
            (own().read_slowly(1), true),
            (own().cut_after(1).read_slowly(1), true),
            (own().read_slowly(0), false),
            (Fault::of("DownloadLayer").read_slowly(1), false),
            (Fault::of("AssumeRole").read_slowly(1), false),
        ] {
            assert_eq!(fault.mistake().is_none(), is_fault, "{fault:?}");
        }
    }

    #[test]
    fn what_happens_meanwhile_is_told_by_name() {
        for (text, event) in [
            (r#""deleteRepository""#, Meanwhile::DeleteRepository),
            (r#"{"deleteImage":"sha256:x"}"#, Meanwhile::DeleteImage("sha256:x".to_owned())),
            (r#""forgetUploads""#, Meanwhile::ForgetUploads),
            (r#""expireUrls""#, Meanwhile::ExpireUrls),
        ] {
            assert_eq!(serde_json::from_str::<Meanwhile>(text).unwrap(), event);
        }
    }
}
