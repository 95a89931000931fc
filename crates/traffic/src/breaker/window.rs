//! Sums of finished calls over a moving window: the last so many, the last so long, or all. Knows no breaker. Read next:
//! `machine.rs`.

use std::time::{Duration, Instant};

use super::Window;

/// How one call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) failed: bool,
    pub(super) slow: bool,
}

/// Finished calls by kind. A slow call is also a success or a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) successes: u32,
    pub(super) failures: u32,
    pub(super) slow: u32,
}

impl Sums {
    pub(super) fn calls(&self) -> u32 {
        self.successes.saturating_add(self.failures)
    }

    pub(super) fn add(&mut self, call: Call) {
        let side = if call.failed { &mut self.failures } else { &mut self.successes };
        *side = side.saturating_add(1);
        self.slow = self.slow.saturating_add(u32::from(call.slow));
    }

    fn take_away(&mut self, other: Sums) {
        self.successes = self.successes.saturating_sub(other.successes);
        self.failures = self.failures.saturating_sub(other.failures);
        self.slow = self.slow.saturating_sub(other.slow);
    }
}

/// A window with what is in it. Adding a call costs the same however large the window is.
#[derive(Debug)]
pub(super) struct Tally {
    sums: Sums,
    parts: Parts,
}

#[derive(Debug)]
enum Parts {
    /// Nothing leaves.
    Whole,
    /// Calls in a ring; `oldest` is overwritten next once the ring is full.
    Ring { calls: Vec<Call>, size: usize, oldest: usize },
    /// Buckets in a ring; bucket `n` since `start` is at place `n % len`.
    /// The division that finds a bucket is only made when the present one is over.
    Buckets { buckets: Box<[Sums]>, width: u128, start: Instant, present: u128, ends: Option<Instant> },
}

impl Tally {
    /// An empty window that begins now.
    pub(super) fn new(window: Window, now: Instant) -> Self {
        let parts = match window {
            Window::Interval(_) => Parts::Whole,
            Window::Count(size) => Parts::Ring { calls: Vec::new(), size: size as usize, oldest: 0 },
            Window::Time { length, buckets } => Parts::Buckets {
                buckets: vec![Sums::default(); buckets as usize].into(),
                width: (length.as_nanos() / u128::from(buckets)).max(1),
                start: now,
                present: 0,
                ends: None,
            },
        };
        Self { sums: Sums::default(), parts }
    }

    /// Empties it.
    pub(super) fn clear(&mut self, now: Instant) {
        self.sums = Sums::default();
        match &mut self.parts {
            Parts::Whole => {}
            Parts::Ring { calls, oldest, .. } => {
                calls.clear();
                *oldest = 0;
            }
            Parts::Buckets { buckets, start, present, ends, .. } => {
                buckets.fill(Sums::default());
                *start = now;
                *present = 0;
                *ends = None;
            }
        }
    }

    /// Moves the window to `now`, which may also be a little earlier than the last time: it never moves back.
    pub(super) fn advance(&mut self, now: Instant) {
        let Parts::Buckets { buckets, width, start, present, ends } = &mut self.parts else { return };
        if ends.is_some_and(|ends| now < ends) {
            return;
        }
        let at = now.saturating_duration_since(*start).as_nanos() / *width;
        let over = u64::try_from((at.max(*present) + 1).saturating_mul(*width)).ok();
        *ends = over.and_then(|over| start.checked_add(Duration::from_nanos(over)));
        if at <= *present {
            return;
        }
        let size = buckets.len() as u128;
        for step in (*present + 1)..=at.min(*present + size) {
            let place = (step % size) as usize;
            self.sums.take_away(std::mem::take(&mut buckets[place]));
        }
        if at - *present >= size {
            // Everything is too old; sums that ran into their bounds start exact again.
            self.sums = Sums::default();
        }
        *present = at;
    }

    /// Adds a call that ended now.
    pub(super) fn add(&mut self, call: Call, now: Instant) {
        self.advance(now);
        match &mut self.parts {
            Parts::Whole => {}
            Parts::Ring { calls, size, oldest } if calls.len() < *size => {
                debug_assert_eq!(*oldest, 0, "the ring is not full yet");
                calls.push(call);
            }
            Parts::Ring { calls, size, oldest } => {
                let mut gone = Sums::default();
                gone.add(std::mem::replace(&mut calls[*oldest], call));
                self.sums.take_away(gone);
                *oldest = (*oldest + 1) % *size;
            }
            Parts::Buckets { buckets, present, .. } => {
                let place = (*present % buckets.len() as u128) as usize;
                buckets[place].add(call);
            }
        }
        self.sums.add(call);
    }

    /// What is in the window as of the last move.
    pub(super) fn sums(&self) -> Sums {
        self.sums
    }
}

/// End of a time that starts now; `None` is never.
pub(super) fn end(now: Instant, time: Option<Duration>) -> Option<Instant> {
    time.and_then(|time| now.checked_add(time))
}
