//! The AWS SDK's configuration, the same for every function.

pub use aws_config::SdkConfig;
use aws_config::{BehaviorVersion, stalled_stream_protection::StalledStreamProtectionConfig};
use aws_smithy_types::{retry::RetryConfig, timeout::TimeoutConfig};

use crate::registry::TIMEOUT;

/// How often the SDK tries a call. `docs/errors.md` has the product with the state machine's retries.
const ATTEMPTS: u32 = 3;

/// The region and the account that the environment names.
pub async fn from_env() -> SdkConfig {
    aws_config::defaults(BehaviorVersion::v2026_01_12())
        // An upload waits for the registry after its last byte, which the protection has taken for a stall
        // (aws-sdk-rust#1146); a call that stalls runs into its time-out.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .timeout_config(TimeoutConfig::builder().operation_attempt_timeout(TIMEOUT).build())
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
        .load()
        .await
}
