//! The pause before a retry. Knows no request. Read next: `meshwright-proxy`, which waits.

use std::time::Duration;

/// Envoy's exponential back-off with full jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Upper bound of the first pause; no pause is ten times as long. Istio's default is 25 ms.
    pub base: Duration,
}

/// No pause is longer than this many times the base.
const MAX_FACTOR: u32 = 10;

impl Backoff {
    /// The pause before retry number `attempt` (the first is 1): at random in `[0, (2^attempt - 1) x base)`, where the
    /// bound is at most ten times the base.
    pub fn delay(&self, attempt: u32, rng: &mut fastrand::Rng) -> Duration {
        let factor = 1u32.checked_shl(attempt).map_or(MAX_FACTOR, |power| (power - 1).min(MAX_FACTOR));
        let bound = u64::try_from((self.base.saturating_mul(factor)).as_nanos()).unwrap_or(u64::MAX);
        if bound == 0 { Duration::ZERO } else { Duration::from_nanos(rng.u64(..bound)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_with_the_attempt_up_to_ten_times_the_base_and_fill_their_range() {
        let backoff = Backoff { base: Duration::from_millis(25) };
        let mut rng = fastrand::Rng::with_seed(1);
        for (attempt, bound) in [(1, 25), (2, 75), (3, 175), (4, 250), (5, 250), (31, 250), (32, 250), (u32::MAX, 250)]
        {
            let bound = Duration::from_millis(bound);
            let delays: Vec<Duration> = (0..500).map(|_| backoff.delay(attempt, &mut rng)).collect();
            assert!(delays.iter().all(|delay| *delay < bound), "attempt {attempt}");
            assert!(delays.iter().any(|delay| *delay > bound.mul_f64(0.9)), "attempt {attempt}");
            assert!(delays.iter().any(|delay| *delay < bound.mul_f64(0.1)), "attempt {attempt}");
        }
    }

    #[test]
    fn no_base_is_no_pause() {
        let mut rng = fastrand::Rng::with_seed(1);
        assert_eq!(Backoff { base: Duration::ZERO }.delay(3, &mut rng), Duration::ZERO);
        assert_eq!(Backoff { base: Duration::from_secs(1) }.delay(0, &mut rng), Duration::ZERO);
        assert!(Backoff { base: Duration::MAX }.delay(9, &mut rng) < Duration::MAX);
    }
}
