//! The runtime loop of each function: decode, run, and give every failure its name.

use std::{
    fmt,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::FutureExt as _;
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn, tracing};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::error::{ErrorName, Named, diagnostic, named};

/// When an invocation is killed.
#[derive(Clone)]
pub struct Deadline(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Deadline {
    /// The deadline `end`.
    #[must_use]
    pub fn at(end: SystemTime) -> Self {
        Self::told_by(move || end.duration_since(SystemTime::now()).unwrap_or_default())
    }

    /// A deadline by another clock: `remaining` tells the time left.
    #[must_use]
    pub fn told_by(remaining: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(remaining))
    }

    /// The time left; zero when there is none.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        (self.0)()
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Deadline").field(&self.remaining()).finish()
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
    let run = lambda_runtime::run(service_fn(async move |event: LambdaEvent<Value>| {
        let deadline = Deadline::at(SystemTime::UNIX_EPOCH + Duration::from_millis(event.context.deadline));
        let input = decode(event.payload)?;
        answer(handler(dependencies, input, deadline)).await
    }));
    // Boxed: optimized, the whole of it is more than the compiler computes a layout for.
    Box::pin(run).await
}

/// Reads an input, or says which field is wrong.
///
/// # Errors
/// `InvalidInput` with the field's path.
pub fn decode<I: DeserializeOwned>(payload: Value) -> Result<I, Diagnostic> {
    serde_path_to_error::deserialize(payload)
        .map_err(|error| named(ErrorName::InvalidInput, &format!("{}: {}", error.path(), error.inner())))
}

/// Runs a handler to its result, its error, or its panic.
async fn answer<O, E: Named>(handler: impl Future<Output = Result<O, E>>) -> Result<O, Diagnostic> {
    // Boxed: as one nested type, a whole function is more than the compiler computes a layout for.
    match AssertUnwindSafe(handler.boxed_local()).catch_unwind().await {
        Ok(result) => result.map_err(|error| diagnostic(&error)),
        Err(panic) => {
            let text =
                panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            Err(named(ErrorName::Internal, &format!("panic: {}", text.unwrap_or("no message"))))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{contract::Target, manifest::ManifestError};

    #[test]
    fn a_bad_field_is_named_with_its_path() {
        let diagnostic = decode::<Vec<Target>>(json!([{"region": "Mars", "repository": "app"}])).unwrap_err();
        assert_eq!(diagnostic.error_type, "InvalidInput");
        assert_eq!(
            diagnostic.error_message,
            "[0].region: malformed region `Mars`: expected the code of an AWS region, such as `eu-west-1`"
        );
        let diagnostic = decode::<Vec<Target>>(json!([{"regoin": "eu-west-1"}])).unwrap_err();
        assert!(diagnostic.error_message.contains("unknown field `regoin`"), "{}", diagnostic.error_message);
    }

    #[tokio::test]
    async fn a_panic_has_a_name_that_the_state_machine_knows() {
        let panicking = async { if true { panic!("the {} broke", "defect") } else { Ok::<(), ManifestError>(()) } };
        let diagnostic = answer(panicking).await.unwrap_err();
        assert_eq!(diagnostic.error_type, "Internal");
        assert_eq!(diagnostic.error_message, "panic: the defect broke");
    }
}
