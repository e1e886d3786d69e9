//! The runtime loop of each function: decode, run, and give every failure its name.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, SystemTime},
};

use futures::FutureExt as _;
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn, tracing};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::error::{ErrorName, Named, diagnostic};

/// When an invocation is killed.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(SystemTime);

impl Deadline {
    /// A deadline `time` from now.
    #[must_use]
    pub fn after(time: Duration) -> Self {
        Self(SystemTime::now() + time)
    }

    /// The time left; zero when there is none.
    #[must_use]
    pub fn remaining(self) -> Duration {
        self.0.duration_since(SystemTime::now()).unwrap_or_default()
    }
}

/// Serves invocations with `handler` until the environment is shut down.
///
/// Input that cannot be decoded answers `InvalidInput` with the field's path, a panic answers `Internal`: the
/// runtime's own names for both are Rust type names, which no retrier or catcher could match.
///
/// # Errors
/// When the Lambda runtime API cannot be reached.
pub async fn serve<D, I, O, E>(
    dependencies: D,
    handler: impl AsyncFn(&D, I, Deadline) -> Result<O, E>,
) -> Result<(), lambda_runtime::Error>
where
    I: DeserializeOwned,
    O: Serialize,
    E: Named,
{
    tracing::init_default_subscriber();
    let (dependencies, handler) = (&dependencies, &handler);
    lambda_runtime::run(service_fn(async move |event: LambdaEvent<Value>| {
        let deadline = Deadline(SystemTime::UNIX_EPOCH + Duration::from_millis(event.context.deadline));
        let input = serde_path_to_error::deserialize(event.payload)
            .map_err(|error| named(ErrorName::InvalidInput, format!("{}: {}", error.path(), error.inner())))?;
        // Boxed: as one nested type, a whole function is more than the compiler computes a layout for.
        AssertUnwindSafe(handler(dependencies, input, deadline).boxed_local())
            .catch_unwind()
            .await
            .map_err(|panic| {
                let text = panic
                    .downcast_ref::<&str>()
                    .map(ToString::to_string)
                    .or_else(|| panic.downcast_ref::<String>().cloned());
                named(ErrorName::Internal, format!("panic: {}", text.unwrap_or_default()))
            })?
            .map_err(|error| diagnostic(&error))
    }))
    .await
}

fn named(name: ErrorName, error_message: String) -> Diagnostic {
    Diagnostic { error_type: name.to_string(), error_message }
}
