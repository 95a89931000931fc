//! A quantile of recent latencies, for when to hedge: a histogram of powers of two, each in sixteen steps, over two
//! windows that take turns. Knows no clock. Read next: `budget.rs`, which bounds hedges.

use std::time::{Duration, Instant};

/// Steps per power of two; a latency is known to one in so many.
const STEPS: usize = 16;

/// Powers of two above a microsecond: up to 71 minutes.
const POWERS: usize = 32;

/// Samples after which the quantile is worked out anew.
const FRESH: u32 = 64;

/// A quantile over the last one to two windows, at most 1/16 too high.
#[derive(Debug)]
pub struct LatencyQuantile {
    percent: f64,
    window: Duration,
    present: Histogram,
    before: Histogram,
    since: Instant,
    unseen: u32,
    value: Option<Duration>,
}

#[derive(Debug)]
struct Histogram {
    steps: Box<[u32]>,
    samples: u32,
}

impl Histogram {
    fn new() -> Self {
        Self { steps: vec![0; STEPS * POWERS].into(), samples: 0 }
    }

    fn clear(&mut self) {
        self.steps.fill(0);
        self.samples = 0;
    }
}

impl LatencyQuantile {
    /// The latency that `percent` (0 to 100) of the samples stay below, over windows of that length.
    pub fn new(percent: f64, window: Duration, now: Instant) -> Self {
        Self {
            percent: if percent >= 0.0 { percent.min(100.0) } else { 0.0 },
            window,
            present: Histogram::new(),
            before: Histogram::new(),
            since: now,
            unseen: 0,
            value: None,
        }
    }

    /// Adds a latency.
    pub fn record(&mut self, latency: Duration, now: Instant) {
        self.turn(now);
        let step = &mut self.present.steps[place(latency)];
        *step = step.saturating_add(1);
        self.present.samples = self.present.samples.saturating_add(1);
        self.unseen += 1;
    }

    /// The quantile; `None` with fewer than `fewest` samples. It may lag by 64 samples.
    pub fn value(&mut self, fewest: u32, now: Instant) -> Option<Duration> {
        self.turn(now);
        let samples = self.present.samples.saturating_add(self.before.samples);
        if samples < fewest.max(1) {
            return None;
        }
        if self.value.is_none() || self.unseen >= FRESH {
            self.value = Some(self.work_out(samples));
            self.unseen = 0;
        }
        self.value
    }

    fn turn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        if passed < self.window {
            return;
        }
        std::mem::swap(&mut self.present, &mut self.before);
        self.present.clear();
        if passed >= self.window.saturating_mul(2) {
            self.before.clear();
        }
        self.since = now;
        self.value = None;
    }

    fn work_out(&self, samples: u32) -> Duration {
        let wanted = (f64::from(samples) * self.percent / 100.0).ceil().max(1.0) as u64;
        let mut seen = 0u64;
        for (place, (present, before)) in self.present.steps.iter().zip(&self.before.steps).enumerate() {
            seen += u64::from(*present) + u64::from(*before);
            if seen >= wanted {
                return upper_bound(place);
            }
        }
        upper_bound(STEPS * POWERS - 1)
    }
}

/// The step of a latency: microseconds plus one, by power of two and sixteenth of it.
fn place(latency: Duration) -> usize {
    let scaled = (latency.as_nanos() / 62).max(16);
    let power = (scaled.ilog2() - 4) as usize;
    let step = (scaled >> power) as usize - STEPS;
    (power * STEPS + step).min(STEPS * POWERS - 1)
}

fn upper_bound(place: usize) -> Duration {
    let (power, step) = (place / STEPS, place % STEPS);
    let scaled = ((STEPS + step + 1) as u64) << power;
    Duration::from_nanos(scaled.saturating_mul(62))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods, reason = "the start of simulated time")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn the_quantile_is_that_of_a_sorted_list_to_one_in_sixteen() {
        let now = start();
        let mut rng = fastrand::Rng::with_seed(5);
        for percent in [50.0, 95.0, 99.0] {
            let mut quantile = LatencyQuantile::new(percent, Duration::from_secs(60), now);
            let mut all: Vec<Duration> =
                (0..5_000).map(|_| Duration::from_micros(2u64.pow(rng.u32(1..24)) + rng.u64(..1_000))).collect();
            for latency in &all {
                quantile.record(*latency, now);
            }
            all.sort();
            let exact = all[(all.len() as f64 * percent / 100.0).ceil() as usize - 1];
            let ours = quantile.value(100, now).unwrap();
            assert!(ours >= exact && ours <= exact + exact / 15 + Duration::from_nanos(62), "{ours:?} for {exact:?}");
        }
    }

    #[test]
    fn old_samples_are_forgotten_and_few_say_nothing() {
        let mut now = start();
        let window = Duration::from_secs(10);
        let mut quantile = LatencyQuantile::new(50.0, window, now);
        assert_eq!(quantile.value(0, now), None);
        for _ in 0..100 {
            quantile.record(Duration::from_secs(1), now);
        }
        assert_eq!(quantile.value(101, now), None);
        assert!(quantile.value(100, now).is_some());
        now += window;
        assert!(quantile.value(100, now).is_some(), "the window before still counts");
        now += window * 2;
        assert_eq!(quantile.value(1, now), None);
    }

    #[test]
    fn extreme_latencies_have_a_place() {
        let now = start();
        let mut quantile = LatencyQuantile::new(100.0, Duration::MAX, now);
        quantile.record(Duration::ZERO, now);
        assert!(quantile.value(1, now).unwrap() < Duration::from_micros(2));
        quantile.record(Duration::MAX, now);
        quantile.value = None;
        assert!(quantile.value(1, now).unwrap() > Duration::from_secs(4_000));
    }
}
