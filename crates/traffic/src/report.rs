//! What an endpoint says of itself: requests in flight and latency, and when it is asked again. Knows no wire format. Read
//! next: `balance/prequal.rs`.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::sync::{AtomicU64, Ordering};

/// How long a report is believed.
const LONGEST_AGE: Duration = Duration::from_secs(1);

/// An endpoint that answered a probe without a report is asked again after so long.
const AFTER_REFUSAL: Duration = Duration::from_secs(60);
/// An endpoint that did not answer a probe is asked again after so long.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Where the load of an endpoint is known from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadSource {
    /// It answered a probe.
    Probed,
    /// It said so in the answer to a request.
    Reported,
    /// It said nothing lately: what this process knows of its own requests counts.
    Local,
}

impl LoadSource {
    /// Lower-case name, as admin pages write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Probed => "probed",
            Self::Reported => "reported",
            Self::Local => "local",
        }
    }
}

/// How a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// The endpoint said how many requests it has in flight and how long they take.
    Load(u32, Duration),
    /// It answered and said nothing of its load: it does not know the question. It is asked again after a minute.
    Refused,
    /// It did not answer, or not in time. It is asked again after five seconds.
    Failed,
}

/// The last report of one endpoint, shared by all workers.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Time zero: the first report or probe.
    anchor: OnceLock<Instant>,
    /// Requests in flight and latency in microseconds.
    load: AtomicU64,
    /// Milliseconds since the anchor, plus one, times two; the lowest bit says that a probe brought it.
    at: AtomicU64,
    /// Milliseconds since the anchor before which no probe begins.
    next_probe: AtomicU64,
}

impl Report {
    /// Takes a report down that came with the answer to a request.
    pub(crate) fn set(&self, in_flight: u32, latency: Duration, now: Instant) {
        self.store(in_flight, latency, false, now);
    }

    fn store(&self, in_flight: u32, latency: Duration, probed: bool, now: Instant) {
        let anchor = *self.anchor.get_or_init(|| now);
        let micros = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        self.load.store(u64::from(in_flight) << 32 | u64::from(micros), Ordering::Relaxed);
        // Whoever sees this time sees this load, or a newer one.
        self.at.store((millis(anchor, now) + 1) << 1 | u64::from(probed), Ordering::Release);
    }

    /// Requests in flight and latency, when there is a fresh report.
    pub(crate) fn fresh(&self, now: Instant) -> Option<(u32, Duration)> {
        self.read(now).map(|(load, _)| load)
    }

    /// Where the load is known from.
    pub(crate) fn source(&self, now: Instant) -> LoadSource {
        match self.read(now) {
            Some((_, true)) => LoadSource::Probed,
            Some((_, false)) => LoadSource::Reported,
            None => LoadSource::Local,
        }
    }

    fn read(&self, now: Instant) -> Option<((u32, Duration), bool)> {
        let stamp = self.at.load(Ordering::Acquire);
        let age = millis(*self.anchor.get()?, now).saturating_sub((stamp >> 1).checked_sub(1)?);
        let load = self.load.load(Ordering::Relaxed);
        // The halves of the word.
        let (in_flight, micros) = ((load >> 32) as u32, load as u32);
        let is_fresh = u128::from(age) < LONGEST_AGE.as_millis();
        is_fresh.then(|| ((in_flight, Duration::from_micros(u64::from(micros))), stamp & 1 == 1))
    }

    /// Leave to probe, for one at a time; it lapses after `within`.
    pub(crate) fn begin_probe(&self, within: Duration, now: Instant) -> bool {
        let anchor = *self.anchor.get_or_init(|| now);
        let due = self.next_probe.load(Ordering::Relaxed);
        due <= millis(anchor, now)
            && self
                .next_probe
                .compare_exchange(due, millis(anchor, now + within), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    pub(crate) fn end_probe(&self, outcome: ProbeOutcome, now: Instant) {
        let pause = match outcome {
            ProbeOutcome::Load(in_flight, latency) => {
                self.store(in_flight, latency, true, now);
                Duration::ZERO
            }
            ProbeOutcome::Refused => AFTER_REFUSAL,
            ProbeOutcome::Failed => AFTER_FAILURE,
        };
        let anchor = *self.anchor.get_or_init(|| now);
        self.next_probe.store(millis(anchor, now + pause), Ordering::Relaxed);
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

    #[test]
    #[allow(clippy::disallowed_methods, reason = "any instant will do")]
    fn one_probe_at_a_time_and_whoever_does_not_know_the_question_is_asked_rarely() {
        let (report, start) = (Report::default(), Instant::now());
        let within = Duration::from_secs(1);
        let at = |millis| start + Duration::from_millis(millis);
        assert!(report.begin_probe(within, at(0)));
        assert!(!report.begin_probe(within, at(999)), "one is under way");
        assert!(report.begin_probe(within, at(1_000)), "its leave has lapsed");
        report.end_probe(ProbeOutcome::Load(3, Duration::from_millis(2)), at(1_100));
        assert_eq!(
            (report.fresh(at(1_200)), report.source(at(1_200))),
            (Some((3, Duration::from_millis(2))), LoadSource::Probed)
        );
        report.set(4, Duration::from_millis(9), at(1_300));
        assert_eq!(report.source(at(1_400)), LoadSource::Reported);
        assert_eq!(report.source(at(2_300)), LoadSource::Local);
        for (outcome, pause) in [(ProbeOutcome::Failed, 5_000), (ProbeOutcome::Refused, 60_000)] {
            assert!(report.begin_probe(within, at(100_000)));
            report.end_probe(outcome, at(100_000));
            assert!(!report.begin_probe(within, at(99_999 + pause)));
            assert!(report.begin_probe(within, at(100_000 + pause)));
            report.end_probe(ProbeOutcome::Load(0, Duration::ZERO), at(100_000));
        }
    }
}
