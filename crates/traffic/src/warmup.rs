//! Slow start: the share of a new host grows from a little to all of it. Pure arithmetic. Read next: `balance/outlook.rs`.

use std::time::{Duration, Instant};

/// How a new host is warmed up (Envoy's slow start, Istio's `warmup`): for `window` after it joined or came back from an
/// ejection, its weight is multiplied by `max(minimum, (elapsed / window)^(1 / aggression))`.
///
/// Hosts that are all new warm up together, which changes nobody's share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Warmup {
    /// Length of the ramp, more than zero.
    pub window: Duration,
    /// Least share of the weight, in percent, 0 to 100. Istio's default is 10.
    pub minimum_percent: f64,
    /// Shape: 1 is a straight line, more rises sooner. At least 1; Istio's default is 1.
    pub aggression: f64,
}

impl Warmup {
    /// The part of its weight that a host has which started at `since`; 1 once it is warm.
    pub fn factor(&self, since: Instant, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(since);
        if elapsed >= self.window {
            return 1.0;
        }
        let ramp = (elapsed.as_secs_f64() / self.window.as_secs_f64()).powf(1.0 / self.aggression.max(1.0));
        ramp.max(self.minimum_percent.clamp(0.0, 100.0) / 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "any instant will do")]
    fn the_ramp_starts_at_the_minimum_and_ends_at_the_whole_weight() {
        let since = Instant::now();
        let at = |warmup: Warmup, seconds| warmup.factor(since, since + Duration::from_secs(seconds));
        let line = Warmup { window: Duration::from_secs(100), minimum_percent: 10.0, aggression: 1.0 };
        assert_eq!([at(line, 0), at(line, 5), at(line, 50), at(line, 100), at(line, 900)], [0.1, 0.1, 0.5, 1.0, 1.0]);
        let eager = Warmup { aggression: 2.0, ..line };
        assert_eq!(at(eager, 25), 0.5, "more aggression rises sooner");
        assert_eq!(Warmup { minimum_percent: 0.0, ..line }.factor(since + Duration::from_secs(9), since), 0.0);
    }
}
