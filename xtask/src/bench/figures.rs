//! The shapes of what was measured. Plain data: `session.rs` fills it, `report.rs` prints it.

use super::counters::Counters;
use super::counts::Counts;
use super::measure::Memory;
use super::peer::Peer;

/// One window of one proxy.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// CPU microseconds of the proxy per request.
    pub(crate) cpu_us: f64,
    /// Requests per second.
    pub(crate) rate: f64,
    /// CPU time over wall time: 1 is a core that never rests.
    pub(crate) busy: f64,
    /// Median latency in microseconds.
    pub(crate) p50_us: f64,
    /// 99th percentile of latency in microseconds.
    pub(crate) p99_us: f64,
}

/// One proxy in one load scenario.
#[derive(Debug, Clone)]
pub(crate) struct LoadFigures {
    /// Whose figures.
    pub(crate) peer: Peer,
    /// One per round.
    pub(crate) samples: Vec<Sample>,
    /// Resident memory after the last round.
    pub(crate) memory: Memory,
    /// The counts of all rounds.
    pub(crate) counts: Counts,
    /// What the kernel counted in a window of its own.
    pub(crate) counters: Counters,
}

impl LoadFigures {
    /// CPU microseconds per request of each round.
    pub(crate) fn cpu(&self) -> Vec<f64> {
        self.samples.iter().map(|sample| sample.cpu_us).collect()
    }
}

/// One proxy in an idle scenario.
#[derive(Debug, Clone)]
pub(crate) struct IdleFigures {
    /// Whose figures.
    pub(crate) peer: Peer,
    /// Connections held, or streams.
    pub(crate) held: u64,
    /// Resident memory before them, after a warm-up.
    pub(crate) before: Memory,
    /// Resident memory with them.
    pub(crate) with: Memory,
}

impl IdleFigures {
    /// Growth of the resident set for each of them, in KiB.
    pub(crate) fn kib_each(&self) -> f64 {
        self.with.rss_kib.saturating_sub(self.before.rss_kib) as f64 / (self.held.max(1)) as f64
    }
}

/// The outcome of a scenario.
#[derive(Debug, Clone)]
pub(crate) enum Figures {
    /// CPU per request.
    Load(Vec<LoadFigures>),
    /// Memory per idle connection.
    Idle(Vec<IdleFigures>),
    /// Memory of `run` after its first requests; none when ours is not measured.
    Start(Option<Memory>),
}
