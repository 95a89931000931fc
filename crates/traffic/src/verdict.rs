//! What a cluster thinks of one of its hosts: the ejected flag, errors in a row, the history of ejections. Knows no
//! policy: thresholds and times are in `outlier/policy.rs`. Read next: `outlier/mod.rs`.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crate::EjectionCause;
use crate::host::availability_changed;
use crate::outlier::Tally;
use crate::sync::{AtomicBool, AtomicU32, Mutex, MutexGuard, Ordering};

/// The verdict about one (service, port, subset, address), shared by all workers; it survives reloads.
///
/// Reading whether a host is ejected is one relaxed load of a word that changes only when something goes wrong.
/// Counters are stored only when they change, so a healthy host's verdict stays in every core's cache.
///
/// A cluster that no longer has outlier detection must start with fresh verdicts (or call [`HostVerdict::clear`]):
/// nobody would end an ejection otherwise.
#[derive(Debug, Default)]
pub struct HostVerdict {
    ejected: AtomicBool,
    pub(crate) server_errors: AtomicU32,
    pub(crate) gateway_errors: AtomicU32,
    pub(crate) local_origin_failures: AtomicU32,
    /// Tries since the last sweep, when hosts are compared; local failures only when they are not counted apart.
    pub(crate) tally: Tally,
    /// Tries since the last sweep by whether there was an answer, when local failures are counted apart.
    pub(crate) local_tally: Tally,
    /// Guards the history below for a few instructions, on ejection, on sweep and for admin pages; never per request.
    history: Mutex<History>,
}

/// When the host was ejected, and how often in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct History {
    /// Start of the present ejection.
    pub(crate) since: Option<Instant>,
    /// Factor of the next ejection time; grows with each ejection, shrinks with each healthy interval.
    pub(crate) multiplier: u32,
    /// By how much the present ejection is longer than its multiplier says.
    pub(crate) jitter: Duration,
    /// When the present ejection ends at the earliest, and what led to it.
    pub(crate) ends: Option<(Instant, EjectionCause)>,
    /// All ejections there ever were.
    pub(crate) total: u64,
    /// When it joined its cluster, or came back from its last ejection: slow start counts from here.
    pub(crate) warm_since: Option<Instant>,
}

impl HostVerdict {
    /// Nothing known: not ejected, no error seen.
    pub fn new() -> Self {
        Self::default()
    }

    /// The host is out.
    pub fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed)
    }

    /// Since when it is out.
    pub fn ejected_since(&self) -> Option<Instant> {
        self.history().since
    }

    /// When the present ejection ends at the earliest (with the first sweep after that), and what led to it.
    pub fn ejection_ends(&self) -> Option<(Instant, EjectionCause)> {
        self.history().ends
    }

    /// How many times the base ejection time the last ejection took (0 when all is forgiven).
    pub fn multiplier(&self) -> u32 {
        self.history().multiplier
    }

    /// Ejections since the verdict exists.
    pub fn total_ejections(&self) -> u64 {
        self.history().total
    }

    /// 5xx answers in a row, with local failures unless these are counted apart.
    pub fn consecutive_5xx(&self) -> u32 {
        self.server_errors.load(Ordering::Relaxed)
    }

    /// 502, 503 and 504 in a row, with local failures unless these are counted apart.
    pub fn consecutive_gateway_errors(&self) -> u32 {
        self.gateway_errors.load(Ordering::Relaxed)
    }

    /// Local failures in a row, when they are counted apart.
    pub fn consecutive_local_origin_failures(&self) -> u32 {
        self.local_origin_failures.load(Ordering::Relaxed)
    }

    /// Forgets ejection, counters and multiplier; the total stays.
    pub fn clear(&self) {
        let mut history = self.history();
        self.set_ejected(false);
        history.since = None;
        history.ends = None;
        history.multiplier = 0;
        drop(history);
        self.reset_counters();
    }

    /// The verdict without anything that detection found: what stays is when the host joined.
    #[must_use]
    pub fn without_detection(&self) -> Self {
        let new = Self::default();
        new.history().warm_since = self.history().warm_since;
        new
    }

    /// The host joined its cluster now, unless it did before. Returns when slow start counts from.
    pub(crate) fn join(&self, now: Instant) -> Instant {
        *self.history().warm_since.get_or_insert(now)
    }

    pub(crate) fn set_ejected(&self, ejected: bool) {
        if self.ejected.swap(ejected, Ordering::Relaxed) != ejected {
            availability_changed();
        }
    }

    pub(crate) fn reset_counters(&self) {
        reset(&self.server_errors);
        reset(&self.gateway_errors);
        reset(&self.local_origin_failures);
    }

    /// A thread that panicked while it held the lock left plain numbers behind, which are fit for use.
    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stores 0 only over something else: the usual success writes nothing.
pub(crate) fn reset(counter: &AtomicU32) {
    if counter.load(Ordering::Relaxed) != 0 {
        counter.store(0, Ordering::Relaxed);
    }
}
