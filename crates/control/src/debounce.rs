//! When a burst of file events is over. Pure: the caller brings the time.

use std::time::{Duration, Instant};

/// Quiet time after which a burst is taken for complete.
const QUIET: Duration = Duration::from_millis(100);
/// Longest time that a burst may put off the answer.
const LONGEST: Duration = Duration::from_secs(1);

/// Collects events until 100 ms pass without one, at most for 1 s.
#[derive(Debug, Default)]
pub(crate) struct Debounce {
    burst: Option<Burst>,
}

#[derive(Debug)]
struct Burst {
    first: Instant,
    last: Instant,
}

impl Debounce {
    /// An event came.
    pub(crate) fn handle_event(&mut self, now: Instant) {
        match &mut self.burst {
            Some(burst) => burst.last = now,
            None => self.burst = Some(Burst { first: now, last: now }),
        }
    }

    /// When to ask [`Debounce::take`] again; `None` while nothing happened.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.burst.as_ref().map(|burst| (burst.last + QUIET).min(burst.first + LONGEST))
    }

    /// True once when a burst is over.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let over = self.poll_timeout().is_some_and(|due| due <= now);
        if over {
            self.burst = None;
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_answered_once_when_it_falls_quiet() {
        let start = Instant::now();
        let mut debounce = Debounce::default();
        assert_eq!(debounce.poll_timeout(), None);
        debounce.handle_event(start);
        debounce.handle_event(start + Duration::from_millis(60));
        assert!(!debounce.take(start + Duration::from_millis(159)));
        assert!(debounce.take(start + Duration::from_millis(160)));
        assert!(!debounce.take(start + Duration::from_millis(500)));
        assert_eq!(debounce.poll_timeout(), None);
    }

    #[test]
    fn events_without_end_cannot_put_the_answer_off_for_more_than_a_second() {
        let start = Instant::now();
        let mut debounce = Debounce::default();
        let mut now = start;
        while !debounce.take(now) {
            debounce.handle_event(now);
            now += Duration::from_millis(50);
            assert!(now <= start + LONGEST, "still waiting");
        }
        assert_eq!(now, start + LONGEST);
    }
}
