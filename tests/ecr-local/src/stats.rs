use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// Calls by operation: an API operation, `AssumeRole`, `DownloadLayer`, or `v2:<METHOD> <kind>`.
    pub calls: BTreeMap<String, u64>,
    /// Raw layer bytes received, by the API and by `/v2`.
    pub uploaded_bytes: u64,
    /// Raw layer bytes served.
    pub downloaded_bytes: u64,
    /// Bytes of request bodies as they came over the wire, by any listener and of any call.
    pub wire_received_bytes: u64,
    /// Bytes of response bodies as they went over the wire.
    pub wire_sent_bytes: u64,
    /// Push events that the events endpoint took.
    pub events_delivered: u64,
    /// Push events that were given up.
    pub events_failed: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    stats: Guarded<Stats>,
    traffic: Guarded<BTreeMap<Region, Arc<Traffic>>>,
}

/// The bytes of a region, which are counted by the chunk: a body keeps it, and takes no lock for a chunk.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) uploaded: Counter,
    pub(crate) downloaded: Counter,
    received: Counter,
    sent: Counter,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Traffic {
    pub(crate) fn received(&self) -> &Counter {
        &self.received
    }

    pub(crate) fn sent(&self) -> &Counter {
        &self.sent
    }

    fn all(&self) -> [&Counter; 4] {
        [&self.uploaded, &self.downloaded, &self.received, &self.sent]
    }
}

impl Counters {
    pub(crate) fn call(&self, region: &Region, operation: &str) {
        self.update(region, |stats| *stats.calls.entry(operation.to_owned()).or_default() += 1);
    }

    pub(crate) fn traffic(&self, region: &Region) -> Arc<Traffic> {
        Arc::clone(self.traffic.lock().entry(region.clone()).or_default())
    }

    pub(crate) fn event(&self, region: &Region, delivered: bool) {
        self.update(region, |stats| {
            *(if delivered { &mut stats.events_delivered } else { &mut stats.events_failed }) += 1;
        });
    }

    pub(crate) fn snapshot(&self) -> Stats {
        let mut stats = self.stats.lock().clone();
        for (region, traffic) in self.traffic.lock().iter() {
            let [uploaded, downloaded, received, sent] = traffic.all().map(Counter::get);
            // A region where nothing has passed since the last reset is not there.
            if uploaded + downloaded + received + sent > 0 {
                let region = stats.regions.entry(region.to_string()).or_default();
                region.uploaded_bytes = uploaded;
                region.downloaded_bytes = downloaded;
                region.wire_received_bytes = received;
                region.wire_sent_bytes = sent;
            }
        }
        stats
    }

    pub(crate) fn reset(&self) {
        *self.stats.lock() = Stats::default();
        // Not forgotten: a body that is on its way goes on counting.
        for counter in self.traffic.lock().values().flat_map(|traffic| traffic.all()) {
            counter.0.store(0, Ordering::Relaxed);
        }
    }

    fn update(&self, region: &Region, change: impl FnOnce(&mut RegionStats)) {
        change(self.stats.lock().regions.entry(region.to_string()).or_default());
    }
}
