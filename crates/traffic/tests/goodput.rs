//! A destination that is asked for four times what it can do, under simulated time: what an adaptive limit saves.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use meshwright_traffic::{
    AdaptiveLimit, AdaptivePolicy, Aimd, Criticality, Gradient2, LimitAlgorithm, LimitSample, Slot, Vegas,
};

/// Requests the destination works on at once; further ones wait in line, also when nobody waits for them any more.
const CONCURRENCY: usize = 8;
/// Time of a request, on average.
const SERVICE: Duration = Duration::from_millis(10);
/// Requests per second that it can do.
const CAPACITY: f64 = CONCURRENCY as f64 / 0.010;
/// How long callers wait.
const PATIENCE: Duration = Duration::from_millis(500);
const LENGTH: Duration = Duration::from_secs(60);
/// Left out of the numbers: the limit learns.
const SETTLING: Duration = Duration::from_secs(10);

fn exponential(mean: Duration, rng: &mut fastrand::Rng) -> Duration {
    mean.mul_f64(-(1.0 - rng.f64()).ln())
}

/// The share of the capacity that is answered in time.
#[allow(clippy::disallowed_methods, reason = "the start of simulated time")]
fn goodput(limit: Option<&AdaptiveLimit>, overload: f64) -> f64 {
    let (start, mut rng) = (Instant::now(), fastrand::Rng::with_seed(11));
    let mut ends: BinaryHeap<Reverse<(Duration, usize)>> = BinaryHeap::new();
    let mut requests: Vec<(Duration, Option<Slot>)> = Vec::new();
    let (mut line, mut serving, mut good) = (VecDeque::new(), 0, 0u32);
    let mut arrival = Duration::ZERO;
    while arrival < LENGTH {
        // Whatever ends before the next request comes.
        while let Some(&Reverse((at, number))) = ends.peek().filter(|Reverse((at, _))| *at <= arrival) {
            ends.pop();
            serving -= 1;
            let (sent, slot) = &mut requests[number];
            let in_time = at - *sent <= PATIENCE;
            good += u32::from(in_time && at > SETTLING);
            if let (Some(limit), Some(slot)) = (limit, slot.take()) {
                let sample = if in_time { LimitSample::Success } else { LimitSample::Dropped };
                limit.end(slot, sample, start + at, &mut rng);
            }
            if let Some(next) = line.pop_front() {
                serving += 1;
                ends.push(Reverse((at + exponential(SERVICE, &mut rng), next)));
            }
        }
        let slot = limit.map(|limit| limit.try_acquire(Criticality::Critical, start + arrival));
        if !matches!(slot, Some(None)) {
            let number = requests.len();
            requests.push((arrival, slot.flatten()));
            if serving < CONCURRENCY {
                serving += 1;
                ends.push(Reverse((arrival + exponential(SERVICE, &mut rng), number)));
            } else {
                line.push_back(number);
            }
        }
        arrival += exponential(Duration::from_secs_f64(1.0 / (CAPACITY * overload)), &mut rng);
    }
    f64::from(good) / (LENGTH - SETTLING).as_secs_f64() / CAPACITY
}

#[test]
fn an_enforced_limit_keeps_the_goodput_at_four_times_the_capacity() {
    let unprotected = goodput(None, 4.0);
    assert!(unprotected < 0.1, "without a limit everybody waits in vain: {unprotected}");
    let algorithms = [
        LimitAlgorithm::Gradient2(Gradient2::default()),
        LimitAlgorithm::Vegas(Vegas::default()),
        LimitAlgorithm::Aimd(Aimd::default()),
    ];
    for algorithm in algorithms {
        let limit = AdaptiveLimit::new(AdaptivePolicy { algorithm, ..AdaptivePolicy::default() });
        let share = goodput(Some(&limit), 4.0);
        println!("{algorithm:?}: {:.1} % of the capacity, limit {}", share * 100.0, limit.view().limit);
        assert!(share > 0.8, "{algorithm:?} {share}");
    }
}

#[test]
fn a_limit_refuses_next_to_nothing_where_the_load_is_half_of_the_capacity() {
    let limit = AdaptiveLimit::new(AdaptivePolicy::default());
    let share = goodput(Some(&limit), 0.5);
    assert!((share - 0.5).abs() < 0.02, "{share}");
    assert!(limit.view().refused < 300, "{:?}", limit.view());
}
