//! Adaptive limits: each algorithm against its published formula, the window, observing, shedding.

use std::time::{Duration, Instant};

use meshwright_traffic::{
    AdaptiveLimit, AdaptivePolicy, Aimd, Criticality, Gradient2, LimitAlgorithm, LimitSample, Slot, Vegas,
};
use proptest::prelude::*;

const MILLISECOND: Duration = Duration::from_millis(1);

#[allow(clippy::disallowed_methods, reason = "the start of simulated time")]
fn start() -> Instant {
    Instant::now()
}

fn limit_of(algorithm: LimitAlgorithm) -> AdaptiveLimit {
    let policy = AdaptivePolicy { algorithm, min: 1, window: Duration::ZERO, ..AdaptivePolicy::default() };
    AdaptiveLimit::new(policy)
}

fn end(limit: &AdaptiveLimit, slot: Slot, sample: LimitSample, now: Instant) {
    limit.end(slot, sample, now, &mut fastrand::Rng::with_seed(1));
}

/// Fills the limit and ends all with that latency.
fn round(limit: &AdaptiveLimit, latency: Duration, sample: LimitSample, now: &mut Instant) -> u32 {
    let slots: Vec<_> = std::iter::from_fn(|| limit.try_acquire(Criticality::Critical, *now)).collect();
    *now += latency;
    for slot in slots {
        end(limit, slot, sample, *now);
    }
    limit.view().limit
}

#[test]
fn gradient2_follows_its_formula() {
    let limit = limit_of(LimitAlgorithm::Gradient2(Gradient2::default()));
    let mut now = start();
    let (mut expected, mut long, mut samples) = (20.0f64, 0.0f64, 0u32);
    for latency in [10u64; 40].into_iter().chain([100; 20]).chain([5; 40]) {
        let slots: Vec<_> = std::iter::from_fn(|| limit.try_acquire(Criticality::Critical, now)).collect();
        now += MILLISECOND * latency as u32;
        let mut in_flight = 0.0;
        for slot in slots {
            in_flight += 1.0;
            let short = (latency * 1_000_000) as f64;
            long = if samples < 10 {
                (long * f64::from(samples) + short) / f64::from(samples + 1)
            } else {
                long + (short - long) * 2.0 / 601.0
            };
            samples = (samples + 1).min(10);
            let gradient = (1.5 * long / short).clamp(0.5, 1.0);
            if long / short > 2.0 {
                long *= 0.95;
            }
            if in_flight >= expected / 2.0 {
                expected = (0.8 * expected + 0.2 * (expected * gradient + 4.0)).clamp(1.0, 200.0);
            }
            end(&limit, slot, LimitSample::Success, now);
            assert_eq!(limit.view().limit, expected as u32);
        }
    }
}

#[test]
fn gradient2_grows_while_latency_is_flat_and_shrinks_when_it_rises() {
    let limit = limit_of(LimitAlgorithm::Gradient2(Gradient2::default()));
    let mut now = start();
    let grown = (0..20).map(|_| round(&limit, MILLISECOND * 10, LimitSample::Success, &mut now)).last();
    assert!(grown.unwrap() > 100, "{grown:?}");
    let shrunk = (0..3).map(|_| round(&limit, MILLISECOND * 100, LimitSample::Success, &mut now)).last();
    assert!(shrunk.unwrap() < grown.unwrap() / 2, "{shrunk:?}");
}

#[test]
fn vegas_grows_without_a_queue_and_shrinks_with_one() {
    let limit = limit_of(LimitAlgorithm::Vegas(Vegas { probe_multiplier: 1_000_000, ..Vegas::default() }));
    let mut now = start();
    let grown = (0..5).map(|_| round(&limit, MILLISECOND * 10, LimitSample::Success, &mut now)).last().unwrap();
    assert!(grown > 100, "{grown}");
    let base = limit.view().base_latency;
    assert_eq!(base, Some(MILLISECOND * 10));
    let shrunk = round(&limit, MILLISECOND * 50, LimitSample::Success, &mut now);
    assert!(shrunk < grown / 2, "{shrunk}");
    let lost = round(&limit, MILLISECOND * 10, LimitSample::Dropped, &mut now);
    assert!(lost < shrunk, "what is lost lowers the limit whatever its latency");
}

#[test]
fn aimd_adds_one_and_takes_a_tenth() {
    let limit = limit_of(LimitAlgorithm::Aimd(Aimd::default()));
    let now = start();
    let mut slots: Vec<_> = std::iter::from_fn(|| limit.try_acquire(Criticality::Critical, now)).collect();
    assert_eq!(slots.len(), 20);
    end(&limit, slots.pop().unwrap(), LimitSample::Success, now + MILLISECOND);
    assert_eq!(limit.view().limit, 21);
    end(&limit, slots.pop().unwrap(), LimitSample::Dropped, now + MILLISECOND);
    assert_eq!(limit.view().limit, 18);
    end(&limit, slots.pop().unwrap(), LimitSample::Success, now + Duration::from_secs(6));
    assert_eq!(limit.view().limit, 16, "too late is as good as lost");
    end(&limit, slots.remove(0), LimitSample::Success, now + MILLISECOND);
    assert_eq!(limit.view().limit, 16, "a request that had the place to itself does not raise it");
    end(&limit, slots.pop().unwrap(), LimitSample::Ignored, now);
    assert_eq!((limit.view().limit, limit.view().in_flight), (16, 15));
}

#[test]
fn a_window_is_looked_at_once_a_second_and_only_with_ten_samples() {
    let aimd = LimitAlgorithm::Aimd(Aimd::default());
    let policy = AdaptivePolicy { algorithm: aimd, ..AdaptivePolicy::default() };
    let limit = AdaptiveLimit::new(policy);
    let mut now = start();
    for _ in 0..3 {
        round(&limit, MILLISECOND * 10, LimitSample::Success, &mut now);
    }
    assert_eq!(limit.view().limit, 20, "the first sample ended a window of one, the others wait for the second");
    now += Duration::from_secs(1);
    assert_eq!(round(&limit, MILLISECOND * 10, LimitSample::Success, &mut now), 21);
}

#[test]
fn observing_refuses_nothing_and_says_what_it_would_refuse() {
    let policy = AdaptivePolicy { observe: true, initial: 20, ..AdaptivePolicy::default() };
    let limit = AdaptiveLimit::new(policy);
    let now = start();
    let slots: Vec<_> = (0..30).filter_map(|_| limit.try_acquire(Criticality::Critical, now)).collect();
    assert_eq!(slots.len(), 30);
    assert_eq!((limit.view().in_flight, limit.view().refused), (30, 10));
    slots.into_iter().for_each(|slot| end(&limit, slot, LimitSample::Ignored, now));
    assert_eq!(limit.view().in_flight, 0);
}

#[test]
fn the_less_critical_is_shed_first() {
    let limit = limit_of(LimitAlgorithm::Aimd(Aimd::default()));
    let now = start();
    let take = |criticality| std::iter::from_fn(|| limit.try_acquire(criticality, now)).collect::<Vec<_>>();
    let shed = [Criticality::Sheddable, Criticality::SheddablePlus, Criticality::Critical, Criticality::CriticalPlus];
    let taken = shed.map(take);
    assert_eq!(taken.each_ref().map(Vec::len), [10, 6, 4, 0]);
    taken.into_iter().flatten().for_each(|slot| end(&limit, slot, LimitSample::Ignored, now));
}

proptest! {
    #[test]
    fn a_limit_stays_in_its_bounds_and_gives_every_place_back(
        which in 0..3usize,
        min in 0..30u32,
        max in 0..60u32,
        steps in prop::collection::vec((0..3u8, 1..200u32, any::<prop::sample::Index>()), 1..300),
    ) {
        let algorithm = [
            LimitAlgorithm::Gradient2(Gradient2::default()),
            LimitAlgorithm::Vegas(Vegas::default()),
            LimitAlgorithm::Aimd(Aimd::default()),
        ][which];
        let policy = AdaptivePolicy { algorithm, min, max, window: Duration::ZERO, ..AdaptivePolicy::default() };
        let limit = AdaptiveLimit::new(policy);
        let (low, high) = (min.max(1), max.max(min.max(1)));
        let mut now = start();
        let mut slots = Vec::new();
        for (kind, time, index) in steps {
            now += MILLISECOND * time;
            if kind == 0 || slots.is_empty() {
                let full = limit.view().in_flight >= limit.view().limit;
                let slot = limit.try_acquire(Criticality::Critical, now);
                prop_assert_eq!(slot.is_none(), full);
                slots.extend(slot);
            } else {
                let slot = slots.swap_remove(index.index(slots.len()));
                end(&limit, slot, if kind == 1 { LimitSample::Success } else { LimitSample::Dropped }, now);
            }
            let view = limit.view();
            prop_assert!((low..=high).contains(&view.limit));
            prop_assert_eq!(view.in_flight as usize, slots.len());
        }
    }
}
