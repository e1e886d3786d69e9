//! Where figures come from.

use std::fmt;
use std::fs;
use std::process::Command;
use std::thread::available_parallelism;

use serde::{Deserialize, Serialize};

/// The machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    /// Whether the processor has instructions for SHA-256, which every byte goes through on both sides.
    pub(crate) sha_instructions: bool,
    pub(crate) memory_gib: u64,
    /// Its version, without its patch level and whose build it is.
    pub(crate) kernel: String,
}

impl Machine {
    pub(crate) fn this() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (processors, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let kibibytes: u64 = field(&memory, "MemTotal").trim_end_matches(" kB").parse().unwrap_or_default();
        let processor = field(&processors, "model name");
        let features = format!("{} {}", field(&processors, "flags"), field(&processors, "Features"));
        Self {
            processor: if processor.is_empty() { std::env::consts::ARCH.to_owned() } else { processor },
            cores: available_parallelism().map_or(1, usize::from),
            sha_instructions: features.split_whitespace().any(|feature| feature == "sha_ni" || feature == "sha2"),
            memory_gib: kibibytes.div_ceil(1024 * 1024),
            kernel: read("/proc/sys/kernel/osrelease").split('.').take(2).collect::<Vec<_>>().join("."),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, cores, sha_instructions, memory_gib, kernel } = self;
        let sha = if *sha_instructions { "with" } else { "without" };
        write!(
            formatter,
            "{cores} cores of {processor} ({sha} SHA-256 instructions), {memory_gib} GiB of memory, Linux {kernel}"
        )
    }
}

/// The commit that is measured, with `+` where the tree has changes.
pub(crate) fn revision() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".to_owned() };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_none_or(|changes| !changes.is_empty());
    if changed { commit + "+" } else { commit }
}
