//! A token bucket: so many per time, some at once. The generic cell rate algorithm (ITU-T I.371), which keeps one instant
//! instead of a count. Knows no clock and no key. Read next: `budget.rs`.

use std::time::{Duration, Instant};

/// How much may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens that come in every `per`, evenly; at least 1.
    pub tokens: u32,
    /// The time that `tokens` take to come; at least 1 ns per token.
    pub per: Duration,
    /// Tokens a full bucket holds: what may pass at once after a rest; at least 1.
    pub burst: u32,
}

impl Rate {
    /// So many per second, all of which may come at once.
    pub const fn per_second(tokens: u32) -> Self {
        Self { tokens, per: Duration::from_secs(1), burst: tokens }
    }

    fn interval(&self) -> Duration {
        (self.per / self.tokens.max(1)).max(Duration::from_nanos(1))
    }
}

/// A bucket that is full at first.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    interval: Duration,
    /// The time that a full bucket is ahead.
    tolerance: Duration,
    /// When the bucket is full again.
    full_at: Instant,
}

impl TokenBucket {
    /// A full bucket.
    pub fn new(rate: Rate, now: Instant) -> Self {
        let interval = rate.interval();
        Self { interval, tolerance: interval.saturating_mul(rate.burst.max(1)), full_at: now }
    }

    /// Takes a token; otherwise the time until there is one.
    ///
    /// # Errors
    /// The time until there is a token.
    pub fn try_take(&mut self, now: Instant) -> Result<(), Duration> {
        self.take_within(Duration::ZERO, now).map(|_| ())
    }

    /// Takes a token that comes within `wait`, and gives the time to wait for it. Those who ask later wait longer.
    ///
    /// # Errors
    /// The time until there would be a token, when that is longer; nothing is taken then.
    pub fn take_within(&mut self, wait: Duration, now: Instant) -> Result<Duration, Duration> {
        let from = self.full_at.max(now);
        let Some(full_at) = from.checked_add(self.interval) else { return Err(Duration::MAX) };
        let ahead = full_at.duration_since(now);
        let until_there = ahead.saturating_sub(self.tolerance);
        if until_there > wait {
            return Err(until_there);
        }
        self.full_at = full_at;
        Ok(until_there)
    }

    /// Tokens that can be taken at once.
    pub fn remaining(&self, now: Instant) -> u32 {
        let free = self.tolerance.saturating_sub(self.full_in(now));
        u32::try_from(free.as_nanos() / self.interval.as_nanos().max(1)).unwrap_or(u32::MAX)
    }

    /// Time until the bucket is full, when nothing more is taken.
    pub fn full_in(&self, now: Instant) -> Duration {
        self.full_at.saturating_duration_since(now)
    }

    /// Nothing was taken for so long that the bucket is full: one can forget it.
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods, reason = "the start of simulated time")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let mut now = start();
        let rate = Rate { tokens: 10, per: Duration::from_secs(1), burst: 3 };
        let mut bucket = TokenBucket::new(rate, now);
        assert!((0..3).all(|_| bucket.try_take(now).is_ok()));
        assert_eq!(bucket.try_take(now), Err(Duration::from_millis(100)));
        now += Duration::from_millis(99);
        assert_eq!(bucket.try_take(now), Err(Duration::from_millis(1)));
        now += Duration::from_millis(1);
        assert_eq!(bucket.try_take(now), Ok(()));
        let mut passed = 0;
        for _ in 0..10_000 {
            now += Duration::from_millis(1);
            passed += u32::from(bucket.try_take(now).is_ok());
        }
        assert_eq!(passed, 100);
        assert!(!bucket.is_full(now));
        assert!(bucket.is_full(now + Duration::from_secs(1)));
    }

    #[test]
    fn those_who_wait_come_one_after_the_other() {
        let now = start();
        let mut bucket = TokenBucket::new(Rate { tokens: 1, per: Duration::from_secs(1), burst: 1 }, now);
        let waits: Vec<_> = (0..4).map(|_| bucket.take_within(Duration::from_secs(2), now)).collect();
        let seconds = Duration::from_secs;
        assert_eq!(waits, [Ok(seconds(0)), Ok(seconds(1)), Ok(seconds(2)), Err(seconds(3))]);
    }

    #[test]
    fn a_rate_of_nothing_is_one_and_never_overflows() {
        let now = start();
        let mut bucket = TokenBucket::new(Rate { tokens: 0, per: Duration::MAX, burst: 0 }, now);
        assert!(bucket.try_take(now).is_err(), "the clock ends before the next token");
        let mut bucket = TokenBucket::new(Rate { tokens: 9, per: Duration::ZERO, burst: u32::MAX }, now);
        assert!((0..1_000).all(|_| bucket.try_take(now).is_ok()));
    }
}
