//! What a circuit breaker says: its state, why it changed, why a call is refused, what it counts. Knows no rule. Read
//! next: `machine.rs`.

use std::fmt;
use std::time::{Duration, Instant};

/// Where a breaker stands, in the usual words: closed lets calls through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// Calls go through and are counted.
    Closed,
    /// Calls are refused.
    Open,
    /// A few calls go through to see whether it can close.
    HalfOpen,
}

impl BreakerState {
    /// Lower-case name, as admin pages and metrics write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether the breaker decides, or somebody else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BreakerMode {
    /// The breaker decides.
    #[default]
    Automatic,
    /// Every call is refused.
    ForcedOpen,
    /// Every call goes through and is counted; nothing trips.
    ForcedClosed,
    /// Every call goes through and nothing is counted.
    Disabled,
    /// Every call goes through. The breaker counts and changes its state as if it decided; its changes say that they are
    /// not enforced, and calls that it would have refused are counted as such.
    MetricsOnly,
}

impl BreakerMode {
    /// All modes.
    pub const ALL: [Self; 5] =
        [Self::Automatic, Self::ForcedOpen, Self::ForcedClosed, Self::Disabled, Self::MetricsOnly];

    /// Lower-case name, as admin pages, commands and configuration write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Automatic => "automatic",
            Self::ForcedOpen => "forced-open",
            Self::ForcedClosed => "forced-closed",
            Self::Disabled => "disabled",
            Self::MetricsOnly => "metrics-only",
        }
    }

    /// The mode of that name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == name)
    }
}

impl fmt::Display for BreakerMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a breaker has seen in its present state, within its window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that ended and calls in flight.
    pub requests: u32,
    /// Calls that succeeded.
    pub total_successes: u32,
    /// Calls that failed.
    pub total_failures: u32,
    /// Successes since the last failure, also when the window has forgotten some.
    pub consecutive_successes: u32,
    /// Failures since the last success, also when the window has forgotten some.
    pub consecutive_failures: u32,
    /// Calls that took too long, among those that ended.
    pub slow_calls: u32,
}

/// Why a state changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateCause {
    /// That many failures in a row.
    ConsecutiveFailures(u32),
    /// Too many of the calls in the window failed.
    FailureRate {
        /// Failed calls.
        failed: u32,
        /// All calls that ended.
        calls: u32,
    },
    /// Too many of the calls in the window were slow.
    SlowCallRate {
        /// Slow calls.
        slow: u32,
        /// All calls that ended.
        calls: u32,
    },
    /// The caller's own condition held.
    ReadyToTrip,
    /// The open time is over; probes may show whether it can close.
    OpenTimeOver,
    /// A probe failed or was slow.
    ProbeFailed,
    /// The probes did not all end within the longest half-open time.
    ProbesTookTooLong,
    /// That many probes showed what they should.
    ProbesSucceeded(u32),
    /// Somebody set this mode, or started the breaker anew.
    Operator(BreakerMode),
}

impl fmt::Display for StateCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConsecutiveFailures(count) => write!(f, "{count} failures in a row"),
            Self::FailureRate { failed, calls } => write!(f, "{failed} of {calls} calls failed"),
            Self::SlowCallRate { slow, calls } => write!(f, "{slow} of {calls} calls were slow"),
            Self::ReadyToTrip => f.write_str("the caller's condition held"),
            Self::OpenTimeOver => f.write_str("the open time is over"),
            Self::ProbeFailed => f.write_str("a probe failed"),
            Self::ProbesTookTooLong => f.write_str("the probes took too long"),
            Self::ProbesSucceeded(count) => write!(f, "{count} probes succeeded"),
            Self::Operator(mode) => write!(f, "set to {mode}"),
        }
    }
}

/// A change of state, to log and to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// The state before.
    pub from: BreakerState,
    /// The state now.
    pub to: BreakerState,
    /// Why.
    pub cause: StateCause,
    /// When.
    pub at: Instant,
    /// How long it stays open, when it opened by itself.
    pub open_time: Option<Duration>,
    /// Calls are refused accordingly; not so with [`BreakerMode::MetricsOnly`].
    pub enforced: bool,
}

impl fmt::Display for StateChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}: {}", self.from, self.to, self.cause)
    }
}

/// Why a call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerRefusal {
    /// The breaker is open.
    Open {
        /// Time until probes are let through.
        retry_after: Duration,
    },
    /// The breaker is half-open and all its probes are under way.
    ProbesInFlight,
    /// Somebody forced it open.
    Forced,
}

impl fmt::Display for BreakerRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { .. } => f.write_str("circuit breaker is open"),
            Self::ProbesInFlight => f.write_str("circuit breaker is half-open and its probes are under way"),
            Self::Forced => f.write_str("circuit breaker is forced open"),
        }
    }
}

impl std::error::Error for BreakerRefusal {}

/// A breaker at one moment, for admin pages and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerView {
    /// Its state. A breaker whose open time is over stays open until the next call.
    pub state: BreakerState,
    /// Who decides.
    pub mode: BreakerMode,
    /// Since when it is in this state.
    pub since: Instant,
    /// Why it is in this state; `None` for one that never changed.
    pub cause: Option<StateCause>,
    /// When open: from when on probes are let through.
    pub until: Option<Instant>,
    /// What it counted in this state.
    pub counts: Counts,
    /// Times that it opened by itself, ever.
    pub openings: u64,
    /// Calls that it refused, ever; with [`BreakerMode::MetricsOnly`] also those that it would have refused.
    pub refused: u64,
}
