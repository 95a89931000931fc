//! Active health checks as state: when which endpoint is asked, and what its answers mean.
//!
//! ```text
//!   set_hosts          take_due                    result
//!  ───────────▶ due ────────────▶ under way ───────────────▶ due again, an interval later
//!                                                 └─▶ HealthChange, when a threshold is reached
//! ```
//! What is asked is a value of the caller's, who carries it out and brings time and chance. The thresholds and intervals are
//! Envoy's ("Health checking" in its documentation), with two differences: failures in a row are always counted, also those
//! of an answer that says no, and each pause may be longer by its jitter. What a check found is a fact about the endpoint
//! ([`crate::HostState::health`]): every cluster of the service sees it, and it survives reloads. Read next: `checks.rs`.

mod checks;

pub use checks::{CheckResult, CheckTask, CheckedHost, HealthChange, HealthChecks};

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crate::host::availability_changed;
use crate::sync::{AtomicU8, AtomicU64, Mutex, MutexGuard, Ordering};

/// How often an endpoint is asked, and how many answers decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthPolicy {
    /// From one answer to the next question.
    pub interval: Duration,
    /// The same while the endpoint is out.
    pub unhealthy_interval: Duration,
    /// By how much each pause may be longer, drawn anew each time.
    pub jitter: Duration,
    /// Failures in a row that take it out; at least 1.
    pub unhealthy_threshold: u32,
    /// Successes in a row that bring it back; at least 1. One is enough for an endpoint that was not asked before.
    pub healthy_threshold: u32,
    /// Time before an endpoint that joins is asked first. Those that are there from the start are asked at once: nobody
    /// knows for how long they have been running.
    pub initial_delay: Duration,
}

/// What active checks say about an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HealthState {
    /// Nothing: nobody checks it.
    #[default]
    Unchecked,
    /// It takes part.
    Healthy,
    /// It is not known yet, and does not take part before it is.
    Pending,
    /// It does not take part.
    Unhealthy,
}

impl HealthState {
    /// Lower-case name, as admin pages write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unchecked => "unchecked",
            Self::Healthy => "healthy",
            Self::Pending => "pending",
            Self::Unhealthy => "unhealthy",
        }
    }

    /// Whether an endpoint in this state gets no requests.
    pub const fn is_out(self) -> bool {
        matches!(self, Self::Pending | Self::Unhealthy)
    }

    const fn of_code(code: u8) -> Self {
        match code {
            1 => Self::Healthy,
            2 => Self::Pending,
            3 => Self::Unhealthy,
            _ => Self::Unchecked,
        }
    }
}

/// What active checks know about one endpoint. Reading whether it is out is one relaxed load.
#[derive(Debug, Default)]
pub struct HostHealth {
    state: AtomicU8,
    /// Guards the facts for a few instructions: once per check, and for admin pages.
    facts: Mutex<HealthFacts>,
}

/// The details, for people and for slow start.
#[derive(Clone, Debug, Default)]
pub struct HealthFacts {
    /// Since when the state is what it is; `None` before the first check.
    pub since: Option<Instant>,
    /// What the last answer was, or why there was none; empty before the first.
    pub last: String,
    /// Successes in a row.
    pub successes: u32,
    /// Failures in a row.
    pub failures: u32,
    /// When it is asked next; `None` while it is being asked.
    pub next: Option<Instant>,
    /// When it last came back: slow start counts from there.
    pub recovered: Option<Instant>,
}

impl HostHealth {
    /// Of an endpoint that does not take part before it was found well.
    pub(crate) fn pending() -> Self {
        Self { state: AtomicU8::new(HealthState::Pending as u8), facts: Mutex::default() }
    }

    /// What checks say.
    pub fn state(&self) -> HealthState {
        HealthState::of_code(self.state.load(Ordering::Relaxed))
    }

    /// It gets no requests because of what checks say.
    pub fn is_out(&self) -> bool {
        self.state().is_out()
    }

    /// The details.
    pub fn facts(&self) -> HealthFacts {
        self.lock().clone()
    }

    /// When it came back from being out, if it ever did.
    pub(crate) fn recovered(&self) -> Option<Instant> {
        self.lock().recovered
    }

    fn set(&self, state: HealthState) {
        let before = HealthState::of_code(self.state.swap(state as u8, Ordering::Relaxed));
        if before.is_out() != state.is_out() {
            availability_changed();
        }
    }

    /// Nobody checks it any more.
    fn clear(&self) {
        let mut facts = self.lock();
        *facts = HealthFacts { recovered: facts.recovered, ..HealthFacts::default() };
        self.set(HealthState::Unchecked);
    }

    /// A thread that panicked while it held the lock left plain values behind, which are fit for use.
    fn lock(&self) -> MutexGuard<'_, HealthFacts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks of the endpoints of a cluster, as Envoy counts them.
#[derive(Debug, Default)]
pub struct HealthCounts {
    attempts: AtomicU64,
    successes: AtomicU64,
    failures: AtomicU64,
    network_failures: AtomicU64,
}

impl HealthCounts {
    /// Checks begun.
    pub fn attempts(&self) -> u64 {
        self.attempts.load(Ordering::Relaxed)
    }

    /// Checks that found the endpoint well.
    pub fn successes(&self) -> u64 {
        self.successes.load(Ordering::Relaxed)
    }

    /// Checks that did not, for whatever reason.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Of these, those without an answer: no connection, or none in time.
    pub fn network_failures(&self) -> u64 {
        self.network_failures.load(Ordering::Relaxed)
    }
}
