//! How long a host takes to answer: a peak-sensitive moving average that all workers write. Knows no policy and no clock:
//! the caller says what time it is. Read next: `balance/peak_ewma.rs`.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::sync::{AtomicU64, Ordering};

/// Time in which an observation loses all but 1/e of its weight. Finagle's default.
const DECAY: Duration = Duration::from_secs(10);
/// Nanoseconds of one unit of time in the cell, as a power of two: 65.5 µs, so that 32 bits last 78 hours.
const TICK_BITS: u32 = 16;

/// Finagle's peak EWMA (`com.twitter.finagle.loadbalancer.PeakEwma`): a latency above the average replaces it at once, one
/// below pulls it down with a weight that grows with the time since the last observation, `1 - exp(-dt / 10 s)`. Without
/// observations the average decays towards zero, so that a host that was slow is asked again.
///
/// One word holds average (nanoseconds, f32) and time (ticks): an observation is one compare-and-exchange, a reading one
/// load and one `exp`.
#[derive(Debug, Default)]
pub(crate) struct PeakLatency {
    /// Time zero: the first observation.
    anchor: OnceLock<Instant>,
    cell: AtomicU64,
}

impl PeakLatency {
    /// Takes note of a latency.
    pub(crate) fn observe(&self, latency: Duration, now: Instant) {
        let now = self.ticks(*self.anchor.get_or_init(|| now), now);
        let latency = (latency.as_secs_f64() * 1e9) as f32;
        let mut seen = self.cell.load(Ordering::Relaxed);
        loop {
            let (cost, at) = unpack(seen);
            // Workers read their clocks at different moments: an observation from before the last one counts as now.
            let passed = (now.wrapping_sub(at) as i32).max(0) as u32;
            let cost = if latency > cost {
                latency
            } else {
                let weight = remaining(passed);
                cost * weight + latency * (1.0 - weight)
            };
            let next = pack(cost, at.wrapping_add(passed));
            match self.cell.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(other) => seen = other,
            }
        }
    }

    /// The average at this moment, in nanoseconds; 0 before the first observation.
    pub(crate) fn nanos(&self, now: Instant) -> f64 {
        let Some(anchor) = self.anchor.get() else { return 0.0 };
        let (cost, at) = unpack(self.cell.load(Ordering::Relaxed));
        let passed = (self.ticks(*anchor, now).wrapping_sub(at) as i32).max(0) as u32;
        f64::from(cost * remaining(passed))
    }

    fn ticks(&self, anchor: Instant, now: Instant) -> u32 {
        let passed = now.saturating_duration_since(anchor);
        let nanos = passed.as_secs().wrapping_mul(1_000_000_000).wrapping_add(u64::from(passed.subsec_nanos()));
        // The low bits are meant: the counter may wrap.
        (nanos >> TICK_BITS) as u32
    }
}

/// What a tick is of the time in which an observation loses all but 1/e of its weight.
const PART_OF_DECAY: f32 = (1u64 << TICK_BITS) as f32 / DECAY.as_nanos() as f32;
/// Below this part of the decay time the first terms of the exponential are exact to a hundred-thousandth.
const SMALL: f32 = 0.04;

/// What is left of an observation's weight.
fn remaining(ticks: u32) -> f32 {
    let passed = ticks as f32 * PART_OF_DECAY;
    if passed < SMALL { 1.0 - passed * (1.0 - passed * 0.5) } else { (-passed).exp() }
}

fn pack(cost: f32, at: u32) -> u64 {
    u64::from(cost.to_bits()) << 32 | u64::from(at)
}

fn unpack(cell: u64) -> (f32, u32) {
    // The halves of the word.
    (f32::from_bits((cell >> 32) as u32), cell as u32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[allow(clippy::disallowed_methods, reason = "any instant will do")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_peak_counts_at_once_and_fades_by_a_factor_e_in_ten_seconds() {
        let (latency, start) = (PeakLatency::default(), start());
        assert_eq!(latency.nanos(start), 0.0);
        latency.observe(Duration::from_millis(10), start);
        latency.observe(Duration::from_secs(1), start + Duration::from_secs(1));
        assert!((latency.nanos(start + Duration::from_secs(1)) - 1e9).abs() < 1e3);
        let later = latency.nanos(start + Duration::from_secs(11));
        assert!((later / 1e9 - (-1.0f64).exp()).abs() < 1e-3, "{later}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn it_is_finagles_formula(steps in prop::collection::vec((0u64..20_000, 1u64..2_000), 1..60)) {
            let (latency, mut now) = (PeakLatency::default(), start());
            let (mut cost, mut at) = (0.0f64, now);
            for (pause, millis) in steps {
                now += Duration::from_millis(pause);
                let observed = millis as f64 * 1e6;
                let weight = (-(now - at).as_secs_f64() / 10.0).exp();
                cost = if observed > cost { observed } else { cost * weight + observed * (1.0 - weight) };
                at = now;
                latency.observe(Duration::from_millis(millis), now);
                let got = latency.nanos(now);
                prop_assert!((got - cost).abs() <= cost * 1e-3, "{} instead of {}", got, cost);
            }
        }
    }
}
