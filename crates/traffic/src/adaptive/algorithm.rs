//! The rules by which a limit learns, one sample at a time. Knows no lock and no window. Read next: `../adaptive.rs`.

use std::time::Duration;

/// A rule by which a limit learns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LimitAlgorithm {
    /// By the ratio of long-term to present latency.
    Gradient2(Gradient2),
    /// By the estimated queue at the destination.
    Vegas(Vegas),
    /// Up one by one, down by a share when something is lost.
    Aimd(Aimd),
}

/// `Gradient2Limit`: `limit x clamp(tolerance x long / short, 0.5, 1) + queue`, smoothed. The long-term latency is an
/// exponential average over `long_window` samples after the first ten; it is lowered by 5 % a sample while it is more
/// than twice the present one. The limit does not move while less than half of it is used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gradient2 {
    /// Share of a new estimate in the limit, 0 to 1. Default 0.2.
    pub smoothing: f64,
    /// Requests the destination may queue; what the limit grows by. Default 4.
    pub queue: u32,
    /// Factor by which latency may grow before the limit shrinks. Default 1.5.
    pub tolerance: f64,
    /// Samples of the long-term average. Default 600.
    pub long_window: u32,
}

impl Default for Gradient2 {
    fn default() -> Self {
        Self { smoothing: 0.2, queue: 4, tolerance: 1.5, long_window: 600 }
    }
}

/// `VegasLimit`: `queue = limit x (1 - base / latency)`. With `l = max(1, floor(log10 limit))` the limit grows by `6 l`
/// while the queue is at most `l`, by `l` below `3 l`, and shrinks by `l` beyond `6 l` or when something is lost. The base
/// latency is the lowest seen, taken anew about every `probe_multiplier x limit` samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vegas {
    /// Share of a new estimate in the limit, 0 to 1. Default 1.
    pub smoothing: f64,
    /// Samples per unit of the limit after which the base latency is taken anew. Default 30.
    pub probe_multiplier: u32,
}

impl Default for Vegas {
    fn default() -> Self {
        Self { smoothing: 1.0, probe_multiplier: 30 }
    }
}

/// `AIMDLimit`: one more when at least half of the limit is used, `backoff` times as many when something is lost or takes
/// longer than `timeout`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Aimd {
    /// Factor when something is lost, 0.5 to 1. Default 0.9.
    pub backoff: f64,
    /// Latency that counts as lost. Default 5 s.
    pub timeout: Duration,
}

impl Default for Aimd {
    fn default() -> Self {
        Self { backoff: 0.9, timeout: Duration::from_secs(5) }
    }
}

#[derive(Debug)]
pub(super) struct Learner {
    algorithm: LimitAlgorithm,
    limit: f64,
    min: f64,
    max: f64,
    /// Gradient2: the long-term latency. Vegas: the base latency. Nanoseconds; 0 before there is one.
    base: f64,
    /// Gradient2: samples of the first average, at most ten. Vegas: samples since the base was taken.
    samples: u32,
    /// Vegas: the share of the probe interval that is waited for; drawn when it is needed.
    probe_jitter: Option<f64>,
}

/// Samples whose plain average the long-term latency begins with.
const WARM_UP: u32 = 10;

impl Learner {
    pub(super) fn new(algorithm: LimitAlgorithm, initial: u32, min: u32, max: u32) -> Self {
        let [limit, min, max] = [initial, min, max].map(f64::from);
        Self { algorithm, limit, min, max, base: 0.0, samples: 0, probe_jitter: None }
    }

    pub(super) fn base_latency(&self) -> Option<Duration> {
        (self.base > 0.0).then(|| Duration::from_nanos(self.base as u64))
    }

    /// The limit after a sample.
    pub(super) fn update(&mut self, latency: Duration, in_flight: u32, dropped: bool, rng: &mut fastrand::Rng) -> u32 {
        let nanos = latency.as_nanos() as f64;
        let next = match self.algorithm {
            LimitAlgorithm::Gradient2(rule) => self.gradient2(rule, nanos, in_flight),
            LimitAlgorithm::Vegas(rule) => {
                let jitter = *self.probe_jitter.get_or_insert_with(|| jitter(rng));
                self.vegas(rule, jitter, nanos, in_flight, dropped)
            }
            LimitAlgorithm::Aimd(rule) => {
                let whole = self.limit.trunc();
                if dropped || latency > rule.timeout {
                    (whole * rule.backoff).trunc()
                } else if f64::from(in_flight) * 2.0 >= whole {
                    whole + 1.0
                } else {
                    whole
                }
            }
        };
        self.limit = next.clamp(self.min, self.max);
        self.limit as u32
    }

    fn gradient2(&mut self, rule: Gradient2, short: f64, in_flight: u32) -> f64 {
        if self.samples < WARM_UP {
            self.base = (self.base * f64::from(self.samples) + short) / f64::from(self.samples + 1);
            self.samples += 1;
        } else {
            let factor = 2.0 / (f64::from(rule.long_window) + 1.0);
            self.base = self.base * (1.0 - factor) + short * factor;
        }
        let long = self.base;
        if long / short > 2.0 {
            self.base *= 0.95;
        }
        if f64::from(in_flight) < self.limit / 2.0 {
            return self.limit;
        }
        let gradient = (rule.tolerance * long / short).clamp(0.5, 1.0);
        let next = self.limit * gradient + f64::from(rule.queue);
        self.limit * (1.0 - rule.smoothing) + next * rule.smoothing
    }

    fn vegas(&mut self, rule: Vegas, jitter: f64, latency: f64, in_flight: u32, dropped: bool) -> f64 {
        self.samples = self.samples.saturating_add(1);
        if jitter * f64::from(rule.probe_multiplier) * self.limit <= f64::from(self.samples) {
            self.probe_jitter = None;
            self.samples = 0;
            self.base = latency;
            return self.limit;
        }
        if self.base == 0.0 || latency < self.base {
            self.base = latency;
            return self.limit;
        }
        let unit = self.limit.log10().floor().max(1.0);
        let queue = (self.limit * (1.0 - self.base / latency)).ceil();
        let next = if dropped {
            self.limit - unit
        } else if f64::from(in_flight) * 2.0 < self.limit {
            return self.limit;
        } else if queue <= unit {
            self.limit + 6.0 * unit
        } else if queue < 3.0 * unit {
            self.limit + unit
        } else if queue > 6.0 * unit {
            self.limit - unit
        } else {
            return self.limit;
        };
        self.limit * (1.0 - rule.smoothing) + next.clamp(1.0, self.max) * rule.smoothing
    }
}

/// Between a half and one, as Netflix draws it.
fn jitter(rng: &mut fastrand::Rng) -> f64 {
    0.5 + rng.f64() / 2.0
}
