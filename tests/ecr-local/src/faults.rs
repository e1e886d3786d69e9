use std::time::Duration;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::guarded::Guarded;
use crate::names::Region;

/// What a call meets instead of its operation's own answer: another answer, a connection that breaks, or just a delay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// An API operation, `DownloadLayer`, or `v2:<METHOD> <kind>`: the names that the stats count by.
    pub operation: String,
    /// Only in this region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Only for this repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// How many calls pass before the first fault.
    #[serde(default)]
    pub skip: u64,
    /// How often the fault is answered; `None` (null) for ever.
    #[serde(default = "once")]
    pub times: Option<u64>,
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
            operation: operation.to_owned(),
            region: None,
            repository: None,
            skip: 0,
            times: once(),
            status: Some(status),
            code: code.to_owned(),
            message: format!("a fault of the local ECR: {code}"),
            delay_ms: None,
            after: false,
            cut_after: None,
        }
    }

    /// A connection that breaks once, everywhere, when so many bytes of the body have passed.
    #[must_use]
    pub fn cut(operation: &str, bytes: u64) -> Self {
        let answer = Self::new(operation, 500, "");
        Self { status: None, message: String::new(), cut_after: Some(bytes), ..answer }
    }

    /// The operation's own answer, held back once.
    #[must_use]
    pub fn slow(operation: &str, delay: Duration) -> Self {
        let answer = Self::new(operation, 500, "");
        Self { status: None, message: String::new(), ..answer }.delay(delay)
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

    /// The same fault, answered after the operation took effect.
    #[must_use]
    pub fn after_effect(self) -> Self {
        Self { after: true, ..self }
    }

    /// What the fault does.
    pub(crate) fn kind(&self) -> Kind {
        match (self.cut_after, self.status) {
            (Some(bytes), _) => Kind::Cut(bytes),
            (None, Some(_)) => Kind::Answer,
            (None, None) => Kind::Slow,
        }
    }

    /// Why this is no fault.
    pub(crate) fn mistake(&self) -> Option<&'static str> {
        match (self.status, self.cut_after, self.delay_ms) {
            (None, None, None) => Some("a fault needs a status, cutAfter or delayMs"),
            (Some(_), Some(_), _) => Some("a connection that is cut has no status"),
            (Some(_), None, _) if self.code.is_empty() => Some("a status needs a code"),
            _ => None,
        }
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

    fn matches(&self, operation: &str, region: &Region, repository: Option<&str>) -> bool {
        self.concerns(operation, region) && (self.repository.is_none() || self.repository.as_deref() == repository)
    }
}

/// What a fault does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It answers.
    Answer,
    /// It closes the connection after so many bytes.
    Cut(u64),
    /// It holds the operation's answer back.
    Slow,
}

/// What has to be known of a call, to tell which of its operation's faults it meets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Concern {
    /// After how many bytes its connection may have to be cut.
    pub(crate) first_cut: Option<u64>,
    /// Whether any of the faults is for one repository only.
    pub(crate) by_repository: bool,
}

/// A fault and what is left of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FaultState {
    /// The fault as it was added.
    pub fault: Fault,
    /// Calls that still pass before it is answered.
    pub remaining_skip: u64,
    /// How often it will still be answered; `None` for ever.
    pub remaining_times: Option<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Faults(Guarded<Vec<FaultState>>);

impl Faults {
    pub(crate) fn add(&self, fault: Fault) {
        let (remaining_skip, remaining_times) = (fault.skip, fault.times);
        self.0.lock().push(FaultState { fault, remaining_skip, remaining_times });
    }

    pub(crate) fn list(&self) -> Vec<FaultState> {
        self.0.lock().clone()
    }

    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }

    /// What a call has to be read for, if there is any fault for it.
    pub(crate) fn concern(&self, operation: &str, region: &Region) -> Option<Concern> {
        let states = self.0.lock();
        let mut live = states
            .iter()
            .filter(|state| state.remaining_times != Some(0) && state.fault.concerns(operation, region))
            .map(|state| &state.fault)
            .peekable();
        live.peek()?;
        let concern = Concern { first_cut: None, by_repository: false };
        let concern = live.fold(concern, |concern, fault| Concern {
            first_cut: concern.first_cut.into_iter().chain(fault.cut_after.filter(|_| !fault.after)).min(),
            by_repository: concern.by_repository || fault.repository.is_some(),
        });
        Some(concern)
    }

    /// The fault to answer to this call, which is then used up by one.
    pub(crate) fn take(&self, operation: &str, region: &Region, repository: Option<&str>) -> Option<Fault> {
        for state in self.0.lock().iter_mut() {
            if !state.fault.matches(operation, region, repository) || state.remaining_times == Some(0) {
                continue;
            }
            if state.remaining_skip > 0 {
                state.remaining_skip -= 1;
                continue;
            }
            state.remaining_times = state.remaining_times.map(|times| times - 1);
            return Some(state.fault.clone());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_passes_the_skipped_calls_and_ends() {
        let faults = Faults::default();
        let region = Region::try_from("eu-west-1").unwrap();
        faults.add(Fault::new("PutImage", 500, "ServerException").in_repository("app").skip(1).times(2));
        let answers: Vec<bool> = [Some("app"), Some("other"), None, Some("app"), Some("app"), Some("app")]
            .into_iter()
            .map(|repository| faults.take("PutImage", &region, repository).is_some())
            .collect();
        assert_eq!(answers, [false, false, false, true, true, false]);
    }

    #[test]
    fn times_is_once_when_absent_and_for_ever_when_null() {
        let base = r#""operation": "PutImage", "status": 500, "code": "ServerException""#;
        let absent: Fault = serde_json::from_str(&format!("{{{base}}}")).unwrap();
        let null: Fault = serde_json::from_str(&format!(r#"{{{base}, "times": null}}"#)).unwrap();
        assert_eq!((absent.times, null.times), (Some(1), None));
    }
}
