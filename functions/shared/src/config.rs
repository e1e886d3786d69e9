//! The AWS SDK's configuration, the same for every function.

use std::time::Duration;

pub use aws_config::SdkConfig;
use aws_config::{BehaviorVersion, ConfigLoader, stalled_stream_protection::StalledStreamProtectionConfig};
use aws_smithy_types::{retry::RetryConfig, timeout::TimeoutConfig};

/// How often the SDK tries a call. `docs/errors.md` has the product with the state machine's retries.
pub const ATTEMPTS: u32 = 3;

/// The longest that one attempt of a call may take: all of them are over, and the call is named, before a function of a minute is
/// killed. The largest answer is 16 MiB of manifests, from the region that the function is in.
pub const ATTEMPT: Duration = Duration::from_secs(15);

/// The same in a function that sends layers. The largest call is a part: 10 MiB at 200 KiB/s.
pub const PART_ATTEMPT: Duration = Duration::from_mins(1);

/// The region and the account that the environment names, and attempts that take `attempt` at most.
pub async fn from_env(attempt: Duration) -> SdkConfig {
    limited(aws_config::defaults(BehaviorVersion::v2026_01_12()), attempt).load().await
}

/// What the calls of every function are held to.
#[must_use]
pub fn limited(loader: ConfigLoader, attempt: Duration) -> ConfigLoader {
    loader
        // An upload waits for the registry after its last byte, which the protection has taken for a stall
        // (aws-sdk-rust#1146); a call that stalls runs into its time-out.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .timeout_config(TimeoutConfig::builder().operation_attempt_timeout(attempt).build())
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
}
