//! The runtime loop of each function: decode, run, and give every failure its name.

use std::{
    fmt,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::FutureExt as _;
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn, tracing};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};

use crate::error::{ErrorName, Named, diagnostic, named, shorten};

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
    // What a panic says is in the error that is answered, without secrets.
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(location = panic.location().map(ToString::to_string), "panic");
    }));
    let (dependencies, handler) = (&dependencies, &handler);
    // Not as a `Value`: one cannot hold everything that is JSON, and what it cannot the runtime would refuse by its own name.
    let run = lambda_runtime::run(service_fn(async move |event: LambdaEvent<Box<RawValue>>| {
        let deadline = Deadline::at(SystemTime::UNIX_EPOCH + Duration::from_millis(event.context.deadline));
        let invocation = async {
            let input = decode(&*event.payload)?;
            handler(dependencies, input, deadline).await.map_err(|error| diagnostic(&error))
        };
        answer(invocation).await.inspect_err(|failed| log(failed, event.payload.get()))
    }));
    // Boxed: optimized, the whole of it is more than the compiler computes a layout for.
    Box::pin(run).await
}

/// The most of an error that a log line has, in bytes.
const LOGGED_LIMIT: usize = 4096;

/// Logs an invocation that failed, with what its other lines have: where `payload` says it, as the input of every function does.
fn log(failed: &Diagnostic, payload: &str) {
    let input: Value = serde_json::from_str(payload).unwrap_or_default();
    let said = |paths: &[&str]| paths.iter().find_map(|path| input.pointer(path)?.as_str());
    tracing::error!(
        execution = said(&["/execution", "/execution/name"]),
        region = said(&["/target/region"]),
        repository = said(&["/target/repository", "/image/repository", "/round/image/repository"]),
        digest = said(&["/image/digest", "/round/image/digest"]),
        error = failed.error_type,
        cause = shorten(&failed.error_message, LOGGED_LIMIT),
        "failed"
    );
}

/// Reads an input, or says which field is wrong.
///
/// # Errors
/// `InvalidInput` with the field's path.
pub fn decode<'de, I: Deserialize<'de>>(payload: impl Deserializer<'de, Error: fmt::Display>) -> Result<I, Diagnostic> {
    serde_path_to_error::deserialize(payload)
        .map_err(|error| named(ErrorName::InvalidInput, &format!("{}: {}", error.path(), error.inner())))
}

/// Answers with what was `handled`: its result, its error, or its panic by name.
async fn answer<O>(handled: impl Future<Output = Result<O, Diagnostic>>) -> Result<O, Diagnostic> {
    // Boxed: as one nested type, a whole function is more than the compiler computes a layout for.
    AssertUnwindSafe(handled.boxed_local()).catch_unwind().await.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Err(named(ErrorName::Internal, &format!("panic: {}", text.unwrap_or("no message"))))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{
        contract::{Target, TargetInput},
        rules::Filter,
    };

    /// JSON of every kind, and text that is none.
    fn payload() -> impl Strategy<Value = String> {
        let name = proptest::sample::select(vec!["region", "repository", "execution", "image", "target", "digest", ""]);
        let leaf = prop_oneof![
            Just("null".to_owned()),
            any::<bool>().prop_map(|it| it.to_string()),
            any::<i64>().prop_map(|it| it.to_string()),
            "-?[0-9]{1,400}(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,4})?",
            any::<String>().prop_map(|it| json!(it).to_string()),
            "\"(\\\\u[0-9a-fA-F]{4}){1,4}\"",
            Just(r#""eu-west-1""#.to_owned()),
        ];
        let json = leaf.prop_recursive(6, 40, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(|items| format!("[{}]", items.join(","))),
                proptest::collection::vec((name.clone(), inner), 0..6).prop_map(|members| {
                    let members: Vec<String> = members.iter().map(|(name, it)| format!("\"{name}\":{it}")).collect();
                    format!("{{{}}}", members.join(","))
                }),
            ]
        });
        prop_oneof![8 => json, 1 => any::<String>()]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_is_json_is_a_value_or_an_error_with_a_name(text in payload()) {
            // As the runtime reads it: what is no JSON does not come here.
            let Ok(payload) = serde_json::from_str::<Box<RawValue>>(&text) else { return Ok(()) };
            let decoded = [
                decode::<Vec<Target>>(&*payload).map(drop),
                decode::<Target>(&*payload).map(drop),
                decode::<TargetInput>(&*payload).map(drop),
                decode::<serde_json::Value>(&*payload).map(drop),
            ];
            for diagnostic in decoded.into_iter().filter_map(Result::err) {
                prop_assert_eq!(diagnostic.error_type, "InvalidInput");
                prop_assert!(diagnostic.error_message.contains(": "), "a path: {}", diagnostic.error_message);
            }
        }
    }

    #[test]
    fn json_that_no_value_can_hold_is_named_with_its_field() {
        let deep = format!(r#"{{"region":"eu-west-1","repository":{}1{}}}"#, "[".repeat(5000), "]".repeat(5000));
        for (text, path) in [
            (deep.as_str(), "repository: "),
            (r#"{"region":"\ud800"}"#, "region: "),
            (r#"{"region":1e999}"#, "region: "),
            (r#"{"region":"eu-west-1","region":"eu-west-1"}"#, ".: duplicate field"),
        ] {
            assert!(text.len() < 1000 || serde_json::from_str::<serde_json::Value>(text).is_err());
            let payload: Box<RawValue> = serde_json::from_str(text).unwrap();
            let diagnostic = decode::<Target>(&*payload).unwrap_err();
            assert_eq!(diagnostic.error_type, "InvalidInput");
            assert!(diagnostic.error_message.starts_with(path), "{}", diagnostic.error_message);
        }
    }

    #[test]
    fn a_bad_field_is_named_with_its_path() {
        let diagnostic = decode::<Vec<Target>>(json!([{"region": "Mars", "repository": "app"}])).unwrap_err();
        assert_eq!(diagnostic.error_type, "InvalidInput");
        assert_eq!(
            diagnostic.error_message,
            "[0].region: malformed region `Mars`: expected the code of an AWS region, such as `eu-west-1`"
        );
        let diagnostic = decode::<Filter>(json!({"inclood": ["prod/*"]})).unwrap_err();
        assert!(diagnostic.error_message.contains("unknown field `inclood`"), "{}", diagnostic.error_message);
    }

    #[tokio::test]
    async fn a_panic_has_a_name_that_the_state_machine_knows() {
        let panicking = async {
            if true { panic!("{} broke", "https://bucket.example/layer?signature") } else { Ok::<(), Diagnostic>(()) }
        };
        let diagnostic = answer(panicking).await.unwrap_err();
        assert_eq!(diagnostic.error_type, "Internal");
        assert_eq!(diagnostic.error_message, "panic: https://bucket.example/layer?(redacted) broke");
    }
}
