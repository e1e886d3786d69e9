//! Waiting out a registry that throttles, for as long as the invocation has time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{sleep, timeout};

use crate::{
    error::{ErrorName, Named as _},
    registry::{RegistryError, Repository},
    serve::Deadline,
};

/// The time kept for what follows the last part or manifest: ending what is under way, and answering.
const RESERVE: Duration = Duration::from_secs(2);

/// How long before the deadline a call is given up that has not answered: what is known must still be told.
const ANSWER: Duration = Duration::from_millis(500);

/// The first pause of what is throttled, and the longest. Each is jittered: calls that were throttled together do not
/// come back together.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(20));

/// An error that may be throttling.
pub(crate) trait Throttled {
    /// Whether the registry is only being asked too often.
    fn is_throttled(&self) -> bool;
}

impl Throttled for RegistryError {
    fn is_throttled(&self) -> bool {
        self.name() == ErrorName::RegistryThrottled
    }
}

/// The patience of one invocation.
#[derive(Debug, Clone)]
pub struct Patience {
    deadline: Deadline,
    /// How many milliseconds of pauses are left, where they are limited.
    pauses_left: Option<Arc<AtomicU64>>,
}

impl Patience {
    /// Patience until `deadline` is near.
    #[must_use]
    pub fn until(deadline: Deadline) -> Self {
        Self { deadline, pauses_left: None }
    }

    /// The same, for a registry that is to hold up no other: the pauses of all calls together are `pauses` at most.
    #[must_use]
    pub fn with_pauses_of(&self, pauses: Duration) -> Self {
        let pauses = u64::try_from(pauses.as_millis()).unwrap_or(u64::MAX);
        Self { deadline: self.deadline.clone(), pauses_left: Some(Arc::new(AtomicU64::new(pauses))) }
    }

    /// Whether there is room for a pause, which it takes.
    fn takes_pause(&self, pause: Duration) -> bool {
        let take = |left: &AtomicU64| {
            let pause = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(pause)).is_ok()
        };
        self.time_left().is_some_and(|time| time >= pause) && self.pauses_left.as_deref().is_none_or(take)
    }

    /// The time left for work; `None` when only the reserve is.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        self.deadline.remaining().checked_sub(RESERVE)
    }

    /// Makes a call on `repository` again and again while it is throttled, as long as there is time.
    ///
    /// # Errors
    /// Those of the call; `RegistryUnavailable` when the time was over before it answered.
    pub async fn ask<T>(
        &self,
        repository: &Repository,
        call: impl AsyncFnMut() -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        self.call(call).await.unwrap_or_else(|| Err(repository.unanswered()))
    }

    /// As [`Patience::ask`], of any kind of call; `None` when the time was over before it answered.
    pub(crate) async fn call<T, E: Throttled>(
        &self,
        mut call: impl AsyncFnMut() -> Result<T, E>,
    ) -> Option<Result<T, E>> {
        let (mut pause, longest) = PAUSES;
        loop {
            let time = self.deadline.remaining().saturating_sub(ANSWER);
            // Boxed: the SDK's futures are 20 KiB, and each layer under way would hold several.
            let error = match timeout(time, Box::pin(call())).await.ok()? {
                Err(error) if error.is_throttled() => error,
                answer => return Some(answer),
            };
            let jittered = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
            if !self.takes_pause(jittered) {
                return Some(Err(error));
            }
            sleep(jittered).await;
            pause = longest.min(pause * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    struct Busy;

    impl Throttled for Busy {
        fn is_throttled(&self) -> bool {
            true
        }
    }

    #[tokio::test(start_paused = true)]
    async fn limited_pauses_are_those_of_all_calls_together() {
        let patience = Patience::until(Deadline::told_by(|| Duration::from_mins(15)));
        let patience = patience.with_pauses_of(Duration::from_millis(1100));
        let begun = Instant::now();
        let mut calls = 0;
        for _ in 0..3 {
            let answer = patience.call(async || {
                calls += 1;
                Err::<(), Busy>(Busy)
            });
            assert!(matches!(answer.await, Some(Err(Busy))));
        }
        assert!((4..=5).contains(&calls), "one pause of a second at most, and one of less, if any: {calls} calls");
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    }
}
