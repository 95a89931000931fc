//! What an endpoint says of itself: requests in flight and latency. Knows no wire format. Read next: `balance/prequal.rs`.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::sync::{AtomicU64, Ordering};

/// How long a report is believed.
const LONGEST_AGE: Duration = Duration::from_secs(1);

/// The last report of one endpoint, shared by all workers.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Time zero: the first report.
    anchor: OnceLock<Instant>,
    /// Requests in flight and latency in microseconds.
    load: AtomicU64,
    /// Milliseconds since the anchor, plus one.
    at: AtomicU64,
}

impl Report {
    /// Takes a report down.
    pub(crate) fn set(&self, in_flight: u32, latency: Duration, now: Instant) {
        let anchor = *self.anchor.get_or_init(|| now);
        let micros = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        self.load.store(u64::from(in_flight) << 32 | u64::from(micros), Ordering::Relaxed);
        // Whoever sees this time sees this load, or a newer one.
        self.at.store(millis(anchor, now) + 1, Ordering::Release);
    }

    /// Requests in flight and latency, when there is a fresh report.
    pub(crate) fn fresh(&self, now: Instant) -> Option<(u32, Duration)> {
        let at = self.at.load(Ordering::Acquire).checked_sub(1)?;
        let age = millis(*self.anchor.get()?, now).saturating_sub(at);
        let load = self.load.load(Ordering::Relaxed);
        // The halves of the word.
        let (in_flight, micros) = ((load >> 32) as u32, load as u32);
        (u128::from(age) < LONGEST_AGE.as_millis()).then(|| (in_flight, Duration::from_micros(u64::from(micros))))
    }
}

fn millis(anchor: Instant, now: Instant) -> u64 {
    // Five hundred million years are enough.
    now.saturating_duration_since(anchor).as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "any instant will do")]
    fn a_report_is_believed_for_a_second() {
        let (report, now) = (Report::default(), Instant::now());
        assert_eq!(report.fresh(now), None);
        report.set(7, Duration::from_micros(1_500), now);
        let at = |millis| report.fresh(now + Duration::from_millis(millis));
        assert_eq!(at(999), Some((7, Duration::from_micros(1_500))));
        assert_eq!(at(1_000), None);
    }
}
