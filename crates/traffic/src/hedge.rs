//! When a call is late enough to be made once more (Dean and Barroso, "The Tail at Scale"): after a fixed time, or when it takes
//! longer than most of the recent ones. Shared by threads. Read next: `latency.rs`; `budget.rs`, which bounds hedges.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::LatencyQuantile;

/// Calls that must be known before a percentile means anything.
const FEWEST: u32 = 100;

/// Latencies are remembered for one to two of these.
const WINDOW: Duration = Duration::from_secs(30);

/// The delay of a hedge.
#[derive(Debug)]
pub struct HedgeDelay {
    rule: Rule,
    /// Held to add a latency and to ask for the quantile.
    latencies: Mutex<Option<LatencyQuantile>>,
}

#[derive(Clone, Copy, Debug)]
enum Rule {
    Fixed(Duration),
    Percentile(f64),
}

impl HedgeDelay {
    /// After that time.
    pub fn fixed(delay: Duration) -> Self {
        Self { rule: Rule::Fixed(delay), latencies: Mutex::default() }
    }

    /// When a call takes longer than `percent` (0 to 100) of those of the last 30 to 60 s. There is no delay until 100 calls
    /// are known.
    pub fn percentile(percent: f64) -> Self {
        Self { rule: Rule::Percentile(percent), latencies: Mutex::default() }
    }

    /// Adds the latency of a call; costs nothing with a fixed time.
    pub fn record(&self, latency: Duration, now: Instant) {
        let Rule::Percentile(percent) = self.rule else { return };
        let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        latencies.get_or_insert_with(|| LatencyQuantile::new(percent, WINDOW, now)).record(latency, now);
    }

    /// How long a call that begins now may take until it is made once more; `None` while nothing is known.
    pub fn delay(&self, now: Instant) -> Option<Duration> {
        match self.rule {
            Rule::Fixed(delay) => Some(delay),
            Rule::Percentile(_) => {
                let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
                latencies.as_mut()?.value(FEWEST, now)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_known_after_a_hundred_calls() {
        #[allow(clippy::disallowed_methods, reason = "the start of simulated time")]
        let now = Instant::now();
        let hedge = HedgeDelay::percentile(90.0);
        assert_eq!(hedge.delay(now), None);
        for call in 1..=100u64 {
            hedge.record(Duration::from_millis(call), now);
        }
        let delay = hedge.delay(now).unwrap();
        assert!((90..=96).contains(&delay.as_millis()), "{delay:?}");
        assert_eq!(HedgeDelay::fixed(Duration::from_secs(1)).delay(now), Some(Duration::from_secs(1)));
    }
}
