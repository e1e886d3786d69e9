//! What was measured: `target/bench/results.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::audit::Audit;
use crate::error::Error;
use crate::machine::Machine;

/// Everything that was measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    /// The peers' versions.
    pub(crate) peers: BTreeMap<String, String>,
    pub(crate) workloads: Vec<Measured>,
    /// Audits of registries, the smaller one first.
    #[serde(default)]
    pub(crate) audits: Vec<Audit>,
}

/// One workload.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) at: Timestamp,
    /// The commit, with `+` where the tree had changes.
    pub(crate) revision: String,
    pub(crate) targets: usize,
    /// The layers and configs that the targets miss, all together.
    pub(crate) layer_bytes_missing: u64,
    pub(crate) round_trip_ms: u64,
    pub(crate) bits_per_second: Option<u64>,
    pub(crate) contenders: Vec<Contender>,
    pub(crate) aims: Vec<Judged>,
}

/// One program, in one setting, at one workload. Figures but `seconds` are medians.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) ours: bool,
    /// Of each run, in their order.
    pub(crate) seconds: Vec<f64>,
    pub(crate) median_seconds: f64,
    /// The least that the bytes and the unavoidable round trips take with its interfaces.
    pub(crate) limit_seconds: Option<f64>,
    /// Its time, by that of each peer whose copies follow one another.
    pub(crate) ratio: BTreeMap<String, f64>,
    /// Calls to the targets, by operation.
    pub(crate) calls: BTreeMap<String, u64>,
    /// Layer bytes that the targets received, before they were encoded.
    pub(crate) layer_bytes: u64,
    /// Bytes of all requests' bodies to the targets: layers as they are encoded, manifests, calls.
    pub(crate) wire_bytes: u64,
    /// Bytes of the answers' bodies.
    pub(crate) wire_bytes_back: u64,
    /// The most that one of its processes had in memory.
    pub(crate) peak_memory: u64,
    /// Seconds on a processor, of all its processes: in programs, and in the kernel.
    pub(crate) user_seconds: f64,
    pub(crate) system_seconds: f64,
    /// The share of the machine's processors that was in use: by it, by the registries, by anything else.
    pub(crate) machine_busy: f64,
    /// Invocations of our functions.
    pub(crate) invocations: Option<u32>,
    /// From the start of a function's process until it polls: not in its time.
    pub(crate) start_seconds: Option<f64>,
}

/// What was aimed at, and what came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Judged {
    pub(crate) contender: String,
    pub(crate) aim: String,
    pub(crate) found: String,
    pub(crate) met: bool,
    /// Whether it depends on how fast the machine is.
    pub(crate) is_of_time: bool,
}

impl Results {
    /// What an earlier run wrote; nothing if there is none that is still understood.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(self).map_err(Error::call("encoding the results"))?;
        fs::write(path, text + "\n").map_err(Error::io(format!("write {}", path.display())))
    }

    /// Takes a workload in, in the place of what was measured of it before; `order` is that of all workloads.
    pub(crate) fn add(&mut self, measured: Measured, order: &[&str]) {
        self.workloads.retain(|other| other.name != measured.name);
        self.workloads.push(measured);
        self.workloads.sort_by_key(|workload| order.iter().position(|&name| name == workload.name));
    }
}
