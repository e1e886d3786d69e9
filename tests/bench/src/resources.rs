//! What processes used, as /proc tells it.

use std::fs;
use std::ops::AddAssign;
use std::time::Duration;

use tokio::process::Child;
use tokio::time::interval;

/// Linux tells processor times in hundredths of a second, on every architecture that the functions run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// How often a process is looked at that is gone when it has ended.
const SAMPLED_EVERY: Duration = Duration::from_millis(20);

/// What one or more processes used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Resources {
    /// The most that one of them had in memory, in bytes.
    pub(crate) peak_memory: u64,
    /// Seconds on a processor in programs.
    pub(crate) user: f64,
    /// Seconds on a processor in the kernel for them.
    pub(crate) system: f64,
}

impl AddAssign for Resources {
    fn add_assign(&mut self, other: Self) {
        self.peak_memory = self.peak_memory.max(other.peak_memory);
        self.user += other.user;
        self.system += other.system;
    }
}

impl Resources {
    /// What a process used until now; `None` when it is gone.
    pub(crate) fn of(process: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kibibytes: u64 = peak.split_whitespace().next()?.parse().ok()?;
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The second field is the program's name in parentheses, which may have anything in it.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let mut seconds = || Some(f64::from(fields.next()?.parse::<u32>().ok()?) / TICKS_PER_SECOND);
        Some(Self { peak_memory: kibibytes * 1024, user: seconds()?, system: seconds()? })
    }

    /// Waits for the end of a process, and tells what it was last seen to use.
    pub(crate) async fn until_end(child: &mut Child) -> std::io::Result<(std::process::ExitStatus, Self)> {
        let process = child.id().unwrap_or_default();
        let (mut resources, mut samples) = (Self::default(), interval(SAMPLED_EVERY));
        loop {
            tokio::select! {
                status = child.wait() => return Ok((status?, resources)),
                _ = samples.tick() => resources = Self::of(process).unwrap_or(resources),
            }
        }
    }
}

/// How busy the machine was: what was measured on one that was full says little of the network's shape.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Busy {
    busy: u64,
    all: u64,
}

impl Busy {
    pub(crate) fn now() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = stat.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = line.split_whitespace().skip(1).take(8).filter_map(|ticks| ticks.parse().ok()).collect();
        let all = ticks.iter().sum();
        // Idle, and waiting for the disk.
        let idle: u64 = ticks.iter().skip(3).take(2).sum();
        Self { busy: all - idle, all }
    }

    /// The share of all processors' time that was used since.
    pub(crate) fn since(self) -> f64 {
        let now = Self::now();
        crate::figures::ratio(now.busy - self.busy, (now.all - self.all).max(1))
    }
}
