//! What a permit costs, by itself: nanoseconds per call of breakers, limits and budgets, one thread and two. Run it with
//! `cargo run --release -p meshwright-traffic --example breaker_speed`; it takes the best of several rounds.

#![allow(clippy::disallowed_methods, reason = "it measures real time")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use meshwright_traffic::{
    AdaptiveLimit, AdaptivePolicy, BreakerMode, BreakerPolicy, BudgetPolicy, CircuitBreaker, Criticality, LimitSample,
    Outcome, Rate, RetryBudget, SlowCalls, TokenBucket, Window,
};

const ROUNDS: u32 = 12;
const CALLS: u32 = 200_000;

/// Nanoseconds per call in the fastest round.
fn nanos(mut call: impl FnMut(Instant, &mut fastrand::Rng)) -> f64 {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        for step in 0..CALLS {
            call(began + Duration::from_nanos(u64::from(step) * 100), &mut rng);
        }
        best = best.min(began.elapsed());
    }
    best.as_nanos() as f64 / f64::from(CALLS)
}

fn permit(breaker: &CircuitBreaker, now: Instant, rng: &mut fastrand::Rng) {
    if let Ok(permit) = breaker.try_acquire(now, rng).permit {
        black_box(breaker.record(permit, Outcome::Success, now, rng));
    }
}

fn of_policy(policy: BreakerPolicy) -> f64 {
    let breaker = CircuitBreaker::new(policy);
    nanos(|now, rng| permit(&breaker, now, rng))
}

fn main() {
    let everything = BreakerPolicy {
        window: Window::Time { length: Duration::from_secs(10), buckets: 10 },
        failure_percent: Some(50),
        slow_calls: Some(SlowCalls { longer_than: Duration::from_secs(1), percent: 50 }),
        minimum_calls: 20,
        ..BreakerPolicy::default()
    };
    println!("ask and record, closed, failures in a row  {:6.1} ns", of_policy(BreakerPolicy::gobreaker()));
    println!("ask and record, closed, last 100 calls     {:6.1} ns", of_policy(BreakerPolicy::resilience4j()));
    println!("ask and record, closed, 10 s in 10 buckets {:6.1} ns", of_policy(everything));
    let open = CircuitBreaker::new(BreakerPolicy::gobreaker()).with_mode(BreakerMode::ForcedOpen);
    println!("ask, open                                  {:6.1} ns", nanos(|now, rng| permit(&open, now, rng)));
    let shared = CircuitBreaker::new(BreakerPolicy::gobreaker());
    let both = std::thread::scope(|scope| {
        let other = scope.spawn(|| nanos(|now, rng| permit(&shared, now, rng)));
        let own = nanos(|now, rng| permit(&shared, now, rng));
        own.max(other.join().expect("the other thread ends"))
    });
    println!("ask and record, two threads on one breaker {both:6.1} ns");
    let limit = AdaptiveLimit::new(AdaptivePolicy::default());
    let adaptive = nanos(|now, rng| {
        if let Some(slot) = limit.try_acquire(Criticality::Critical, now) {
            limit.end(slot, LimitSample::Success, now + Duration::from_millis(1), rng);
        }
    });
    println!("adaptive limit, place and sample           {adaptive:6.1} ns");
    let budget = RetryBudget::new(BudgetPolicy::default(), Instant::now());
    println!("retry budget, deposit                      {:6.1} ns", nanos(|now, _| budget.deposit(now)));
    let mut bucket = TokenBucket::new(Rate::per_second(1_000_000), Instant::now());
    println!(
        "token bucket                               {:6.1} ns",
        nanos(|now, _| _ = black_box(bucket.try_take(now)))
    );
}
