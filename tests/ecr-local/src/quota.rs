use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::guarded::Guarded;
use crate::names::Registry;

const SECOND: Duration = Duration::from_secs(1);

/// How often an operation may be called: for each registry a bucket of tokens, which holds as many as a second brings.
#[derive(Debug)]
pub(crate) struct Quota {
    per_second: Guarded<Option<u32>>,
    /// When the bucket of a registry is full again, from which follows what is in it.
    full: Guarded<BTreeMap<Registry, Instant>>,
}

impl Quota {
    /// `None` is no quota.
    pub(crate) fn new(per_second: Option<u32>) -> Self {
        Self { per_second: Guarded::new(per_second), full: Guarded::default() }
    }

    /// Sets it anew.
    pub(crate) fn set(&self, per_second: Option<u32>) {
        *self.per_second.lock() = per_second;
    }

    /// Lets a call pass, or refuses it.
    pub(crate) fn pass(&self, registry: &Registry) -> Result<()> {
        if self.take(registry, Instant::now()) { Ok(()) } else { Err(Error::Throttled) }
    }

    fn take(&self, registry: &Registry, now: Instant) -> bool {
        let Some(per_second) = *self.per_second.lock() else {
            return true;
        };
        // A rate of 0 brings no token.
        let Some(token) = SECOND.checked_div(per_second) else {
            return false;
        };
        let mut full = self.full.lock();
        let full_then = full.get(registry).map_or(now, |full| now.max(*full)) + token;
        let has_token = full_then.duration_since(now) <= SECOND;
        if has_token {
            full.insert(registry.clone(), full_then);
        }
        has_token
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{Account, Region};

    fn registry(account: &str, region: &str) -> Registry {
        Registry { account: Account::try_from(account).unwrap(), region: Region::try_from(region).unwrap() }
    }

    #[test]
    fn a_second_brings_as_many_calls_as_pass_at_once() {
        let (quota, start) = (Quota::new(Some(3)), Instant::now());
        let here = registry("123456789012", "eu-west-1");
        let passed = |milliseconds: u64| {
            let now = start + Duration::from_millis(milliseconds);
            (0..10).filter(|_| quota.take(&here, now)).count()
        };
        assert_eq!([0, 300, 334, 1000, 60_000].map(passed), [3, 0, 1, 2, 3]);
    }

    #[test]
    fn each_account_has_its_own_quota_in_each_region() {
        let (quota, now) = (Quota::new(Some(1)), Instant::now());
        let registries = [
            registry("123456789012", "eu-west-1"),
            registry("123456789012", "us-east-1"),
            registry("210987654321", "eu-west-1"),
        ];
        for expected in [true, false] {
            for registry in &registries {
                assert_eq!(quota.take(registry, now), expected, "{registry:?}");
            }
        }
    }

    #[test]
    fn no_rate_is_no_quota_and_a_rate_of_zero_no_call() {
        let (here, now) = (registry("123456789012", "eu-west-1"), Instant::now());
        let (unlimited, closed) = (Quota::new(None), Quota::new(Some(0)));
        assert!((0..1000).all(|_| unlimited.take(&here, now)));
        assert!(!closed.take(&here, now));
    }
}
