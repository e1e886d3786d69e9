use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::guarded::Guarded;
use crate::names::Region;

/// What happened in each region since the start, or since the last reset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stats {
    /// The counters by region.
    pub regions: BTreeMap<String, RegionStats>,
}

impl Stats {
    /// The counters of a region, all zero where nothing happened.
    #[must_use]
    pub fn region(&self, region: &str) -> RegionStats {
        self.regions.get(region).cloned().unwrap_or_default()
    }

    /// How often an operation was called in a region, answered calls and faults alike.
    #[must_use]
    pub fn calls(&self, region: &str, operation: &str) -> u64 {
        self.regions.get(region).and_then(|stats| stats.calls.get(operation)).copied().unwrap_or_default()
    }
}

/// A region's counters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegionStats {
    /// Calls by operation: an API operation, `DownloadLayer`, or `v2:<METHOD> <kind>`.
    pub calls: BTreeMap<String, u64>,
    /// Raw layer bytes received, by the API and by `/v2`.
    pub uploaded_bytes: u64,
    /// Raw layer bytes served.
    pub downloaded_bytes: u64,
    /// Push events that the events endpoint took.
    pub events_delivered: u64,
    /// Push events that were given up.
    pub events_failed: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters(Guarded<Stats>);

impl Counters {
    pub(crate) fn call(&self, region: &Region, operation: &str) {
        self.update(region, |stats| *stats.calls.entry(operation.to_owned()).or_default() += 1);
    }

    pub(crate) fn uploaded(&self, region: &Region, bytes: usize) {
        self.update(region, |stats| stats.uploaded_bytes += bytes as u64);
    }

    pub(crate) fn downloaded(&self, region: &Region, bytes: usize) {
        self.update(region, |stats| stats.downloaded_bytes += bytes as u64);
    }

    pub(crate) fn event(&self, region: &Region, delivered: bool) {
        self.update(region, |stats| {
            *(if delivered { &mut stats.events_delivered } else { &mut stats.events_failed }) += 1;
        });
    }

    pub(crate) fn snapshot(&self) -> Stats {
        self.0.lock().clone()
    }

    pub(crate) fn reset(&self) {
        *self.0.lock() = Stats::default();
    }

    fn update(&self, region: &Region, change: impl FnOnce(&mut RegionStats)) {
        change(self.0.lock().regions.entry(region.to_string()).or_default());
    }
}
