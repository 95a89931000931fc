//! What a cluster thinks of one of its hosts: whether it is out and by whose word, errors in a row, the history of ejections. Knows no
//! policy: thresholds and times are in `outlier/policy.rs`. Read next: `outlier/mod.rs`.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crate::host::availability_changed;
use crate::outlier::Tally;
use crate::sync::{AtomicU8, AtomicU32, Mutex, MutexGuard, Ordering};
use crate::{Away, EjectionCause};

/// The verdict about one (service, port, subset, address), shared by all workers; it survives reloads.
///
/// Reading whether a host is ejected is one relaxed load of a word that changes only when something goes wrong.
/// Counters are stored only when they change, so a healthy host's verdict stays in every core's cache.
///
/// A cluster that no longer has outlier detection must start with fresh verdicts (or call [`HostVerdict::clear`]):
/// nobody would end an ejection otherwise.
#[derive(Debug, Default)]
pub struct HostVerdict {
    /// Bits of [`OutBy`]; the host is in while none is set.
    out: AtomicU8,
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

/// Who takes a host out. Each has his bit: it is in again when all have taken theirs back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutBy {
    /// Outlier detection.
    Detection = 1,
    /// It could not be connected to.
    BeingAway = 2,
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
    /// There while it cannot be connected to.
    pub(crate) away: Option<Away>,
    /// How often it could not be.
    pub(crate) times_away: u64,
    /// When it was last said that it stays in although it cannot be connected to.
    pub(crate) refusal_said: Option<Instant>,
    /// When it joined its cluster, or came back from its last ejection: slow start counts from here.
    pub(crate) warm_since: Option<Instant>,
}

impl HostVerdict {
    /// Nothing known: not ejected, no error seen.
    pub fn new() -> Self {
        Self::default()
    }

    /// The host is out, by whoever's word.
    pub fn is_ejected(&self) -> bool {
        self.out.load(Ordering::Relaxed) != 0
    }

    /// It is out by the word of outlier detection.
    pub(crate) fn is_outlier(&self) -> bool {
        self.out.load(Ordering::Relaxed) & OutBy::Detection as u8 != 0
    }

    /// It is out because it could not be connected to.
    pub(crate) fn is_away(&self) -> bool {
        self.out.load(Ordering::Relaxed) & OutBy::BeingAway as u8 != 0
    }

    /// Since when it is out.
    pub fn ejected_since(&self) -> Option<Instant> {
        let history = self.history();
        history.since.into_iter().chain(history.away.map(|away| away.since)).min()
    }

    /// Since when and why it is out because it could not be connected to, if it is.
    pub fn away(&self) -> Option<Away> {
        self.history().away
    }

    /// When the present ejection by outlier detection ends at the earliest (with the first sweep after that), and what led
    /// to it.
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
        self.set_out(OutBy::Detection, false);
        self.set_out(OutBy::BeingAway, false);
        history.since = None;
        history.ends = None;
        history.away = None;
        history.refusal_said = None;
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

    /// Takes it out by that word, or takes the word back. To be called with the history locked, so that the two agree.
    pub(crate) fn set_out(&self, by: OutBy, out: bool) {
        let bit = by as u8;
        let (before, after) = if out {
            let before = self.out.fetch_or(bit, Ordering::Relaxed);
            (before, before | bit)
        } else {
            let before = self.out.fetch_and(!bit, Ordering::Relaxed);
            (before, before & !bit)
        };
        if (before == 0) != (after == 0) {
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
