//! Waiting out a registry that throttles, for as long as the invocation has time.

use std::time::Duration;

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
}

impl Patience {
    /// Patience until `deadline` is near.
    #[must_use]
    pub fn until(deadline: Deadline) -> Self {
        Self { deadline }
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
            if self.time_left().is_none_or(|time| time < jittered) {
                return Some(Err(error));
            }
            sleep(jittered).await;
            pause = longest.min(pause * 2);
        }
    }
}
