//! Retries, budgets, time limits, hedging, fallbacks, bulkheads and limits: each alone, and all in their order. Under
//! tokio's paused clock.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use meshwright_resilience::{
    AdaptiveLimiter, AdaptivePolicy, BreakerPolicy, BreakerState, BudgetPolicy, Bulkhead, CircuitBreaker, Criticality,
    Error, Hedge, Policy, Rate, RateLimiter, Retry, RetryBudget,
};
use tokio::time::{Instant, sleep};

const MILLISECOND: Duration = Duration::from_millis(1);

type Answer = Result<u32, &'static str>;

/// Counts its calls, which all fail.
#[derive(Default)]
struct Failing(AtomicU32);

impl Failing {
    async fn call(&self) -> Answer {
        self.0.fetch_add(1, Ordering::Relaxed);
        Err("no")
    }

    fn calls(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_is_tried_again_until_it_succeeds_or_tries_are_over() {
    let calls = AtomicU32::new(0);
    let third = || async { if calls.fetch_add(1, Ordering::Relaxed) == 2 { Ok(7) } else { Err("not yet") } };
    assert_eq!(Retry::new(2).call(third).await, Ok(7));
    let failing = Failing::default();
    assert_eq!(Retry::new(2).call(|| failing.call()).await, Err(Error::Inner("no")));
    assert_eq!(failing.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn retries_of_a_dead_destination_stay_within_the_budget() {
    let failing = Failing::default();
    let budget = BudgetPolicy { min_per_second: 0, ..BudgetPolicy::default() };
    let retry = Retry::new(3).with_budget(Arc::new(RetryBudget::new(budget))).with_backoff(Duration::ZERO);
    for _ in 0..1_000 {
        assert!(retry.call(|| failing.call()).await.is_err());
    }
    assert!((1_190..=1_200).contains(&failing.calls()), "{} calls for 1,000", failing.calls());
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_be_unwelcome_and_name_the_pause() {
    let retry = Retry::new(1)
        .when(|result: &Result<u32, Error<&str>>| *result == Ok(503))
        .with_pause_of(|result| (*result == Ok(503)).then_some(Duration::from_secs(7)));
    let began = Instant::now();
    assert_eq!(retry.call(|| async { Ok(503) }).await, Ok(503));
    assert_eq!(began.elapsed(), Duration::from_secs(7));
    let failing = Failing::default();
    assert!(retry.call(|| failing.call()).await.is_err());
    assert_eq!(failing.calls(), 1, "another condition replaces the first");
}

#[tokio::test(start_paused = true)]
async fn a_late_call_is_hedged_and_the_faster_one_wins() {
    let budget = Arc::new(RetryBudget::new(BudgetPolicy::default()));
    let hedge = Hedge::after(MILLISECOND * 50, budget);
    let calls = AtomicU32::new(0);
    let slow_first = || {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        async move {
            sleep(if call == 0 { Duration::from_secs(5) } else { MILLISECOND * 10 }).await;
            Ok::<_, ()>(call)
        }
    };
    let began = Instant::now();
    assert_eq!(hedge.call(slow_first).await, Ok(1));
    assert_eq!(began.elapsed(), MILLISECOND * 60);
    let failing = Failing::default();
    assert!(hedge.call(|| failing.call()).await.is_err());
    assert_eq!(failing.calls(), 1, "a failure is no reason to hedge");
}

#[tokio::test(start_paused = true)]
async fn when_the_hedge_fails_the_first_call_may_still_answer() {
    let hedge = Hedge::after(MILLISECOND, Arc::new(RetryBudget::new(BudgetPolicy::default())));
    let calls = AtomicU32::new(0);
    let second_fails = || {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        async move {
            sleep(if call == 0 { MILLISECOND * 100 } else { MILLISECOND }).await;
            if call == 0 { Ok(0) } else { Err("no") }
        }
    };
    assert_eq!(hedge.call(second_fails).await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn hedges_at_a_percentile_begin_when_it_is_known_and_stop_with_the_budget() {
    let budget = BudgetPolicy { percent: 0, min_per_second: 1, ..BudgetPolicy::default() };
    let hedge = Hedge::at_percentile(90.0, Arc::new(RetryBudget::new(budget)));
    let calls = AtomicU32::new(0);
    let call_of = |time: Duration| {
        let calls = &calls;
        move || async move {
            calls.fetch_add(1, Ordering::Relaxed);
            sleep(time).await;
            Ok::<_, ()>(())
        }
    };
    for _ in 0..100 {
        hedge.call(call_of(MILLISECOND * 10)).await.unwrap();
    }
    assert_eq!(calls.swap(0, Ordering::Relaxed), 100, "nothing is known, nothing is hedged");
    for _ in 0..20 {
        hedge.call(call_of(MILLISECOND * 30)).await.unwrap();
    }
    assert_eq!(calls.load(Ordering::Relaxed), 30, "ten hedges in ten seconds");
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_runs_so_many_lets_some_wait_and_refuses_the_rest() {
    let bulkhead = Arc::new(Bulkhead::new(2).with_queue(1, MILLISECOND * 100));
    let call = |time: Duration| {
        let bulkhead = Arc::clone(&bulkhead);
        tokio::spawn(async move {
            let call = async {
                sleep(time).await;
                Ok::<_, ()>(())
            };
            bulkhead.call(call).await
        })
    };
    let running = [call(MILLISECOND * 50), call(Duration::from_secs(9))];
    tokio::task::yield_now().await;
    let waiting = call(Duration::from_secs(1));
    tokio::task::yield_now().await;
    assert_eq!(call(MILLISECOND).await.unwrap(), Err(Error::BulkheadFull), "the queue is full");
    let [first, second] = running;
    assert_eq!(first.await.unwrap(), Ok(()));
    tokio::task::yield_now().await;
    let began = Instant::now();
    assert_eq!(call(MILLISECOND).await.unwrap(), Err(Error::BulkheadFull), "it waited in vain");
    assert_eq!(began.elapsed(), MILLISECOND * 100);
    assert_eq!(waiting.await.unwrap(), Ok(()));
    second.abort();
    assert!(second.await.unwrap_err().is_cancelled());
    assert_eq!(bulkhead.available(), 2, "a cancelled call gives its place back");
}

#[tokio::test(start_paused = true)]
async fn rates_are_by_key_and_memory_is_bounded() {
    let limiter = RateLimiter::new(Rate::per_second(2)).with_max_keys(3);
    for key in 0..3 {
        assert_eq!([limiter.check(key), limiter.check(key)], [Ok(()), Ok(())]);
        assert_eq!(limiter.check(key), Err(MILLISECOND * 500));
    }
    assert_eq!([limiter.check(3), limiter.check(4)], [Ok(()), Ok(())]);
    assert!(limiter.check(5).is_err(), "keys that find the table full share one bucket");
    tokio::time::advance(Duration::from_secs(1)).await;
    for key in 10..13 {
        assert_eq!([limiter.check(key), limiter.check(key)], [Ok(()), Ok(())], "full buckets were forgotten");
    }
    let waiting = RateLimiter::new(Rate::per_second(1)).with_max_wait(Duration::from_secs(1));
    let began = Instant::now();
    waiting.acquire::<()>(()).await.unwrap();
    waiting.acquire::<()>(()).await.unwrap();
    assert_eq!(began.elapsed(), Duration::from_secs(1));
    let (third, fourth) = tokio::join!(waiting.acquire::<()>(()), waiting.acquire::<()>(()));
    assert_eq!(third, Ok(()));
    assert_eq!(fourth, Err(Error::RateLimited { retry_after: Duration::from_secs(2) }));
}

#[tokio::test(start_paused = true)]
async fn an_adaptive_limit_refuses_the_sheddable_first_and_forgets_what_was_cancelled() {
    let limiter = AdaptiveLimiter::new(AdaptivePolicy { initial: 4, min: 4, ..AdaptivePolicy::default() });
    let mut held: Vec<_> = (0..2).map(|_| Box::pin(limiter.call(Criticality::Critical, pending::<Answer>()))).collect();
    for call in &mut held {
        assert!(tokio::time::timeout(MILLISECOND, call).await.is_err());
    }
    assert_eq!(limiter.call(Criticality::Sheddable, async { Ok::<_, ()>(1) }).await, Err(Error::Overloaded));
    assert_eq!(limiter.call(Criticality::Critical, async { Ok::<_, ()>(1) }).await, Ok(1));
    drop(held);
    assert_eq!(limiter.view().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_is_a_failure_to_the_breaker_and_a_refusal_of_ours_is_none() {
    let breaker =
        Arc::new(CircuitBreaker::new("b", BreakerPolicy { consecutive_failures: 2, ..BreakerPolicy::default() }));
    let limiter = Arc::new(RateLimiter::new(Rate { tokens: 1, per: Duration::from_secs(3_600), burst: 2 }));
    let policy = Policy::<u32, ()>::new()
        .with_breaker(Arc::clone(&breaker))
        .with_timeout(MILLISECOND * 10)
        .with_rate_limiter(limiter);
    assert_eq!(policy.call(pending).await, Err(Error::Timeout(MILLISECOND * 10)));
    assert_eq!(policy.call(|| async { Ok(1) }).await, Ok(1));
    for _ in 0..5 {
        assert!(matches!(policy.call(pending).await, Err(Error::RateLimited { .. })));
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
    assert_eq!(breaker.view().counts.requests, 2, "a call that was not made is not counted");
}

#[tokio::test(start_paused = true)]
async fn a_try_that_finds_the_breaker_open_is_not_repeated() {
    let failing = Failing::default();
    let breaker = CircuitBreaker::new("b", BreakerPolicy { consecutive_failures: 2, ..BreakerPolicy::default() });
    let policy = Policy::new().with_retry(Retry::new(5)).with_breaker(breaker);
    assert!(matches!(policy.call(|| failing.call()).await, Err(Error::Open { .. })));
    assert_eq!(failing.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_bounds_all_tries_and_a_fallback_answers_for_everything() {
    let policy = Policy::new()
        .with_deadline(MILLISECOND * 250)
        .with_retry(Retry::<u32, ()>::new(100))
        .with_timeout(MILLISECOND * 100)
        .with_fallback(|error| async move { if matches!(error, Error::Timeout(_)) { Ok(42) } else { Err(error) } });
    let began = Instant::now();
    assert_eq!(policy.call(pending).await, Ok(42));
    assert_eq!(began.elapsed(), MILLISECOND * 250);
    assert_eq!(Policy::<_, ()>::new().with_fallback_value(9).call(|| async { Err(()) }).await, Ok(9));
}

#[tokio::test(start_paused = true)]
async fn a_policys_own_failures_decide_for_the_breaker() {
    let breaker =
        Arc::new(CircuitBreaker::new("b", BreakerPolicy { consecutive_failures: 1, ..BreakerPolicy::default() }));
    let policy =
        Policy::<u32, &str>::new().with_breaker(Arc::clone(&breaker)).with_failures(|result| *result == Ok(503));
    assert_eq!(policy.call(|| async { Err("not found") }).await, Err(Error::Inner("not found")));
    assert_eq!(breaker.state(), BreakerState::Closed);
    assert_eq!(policy.call(|| async { Ok(503) }).await, Ok(503));
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[test]
fn a_policy_runs_on_many_threads() {
    fn assert_send<T: Send>(value: T) -> T {
        value
    }
    let policy = Policy::<u32, ()>::new().with_retry(Retry::new(1)).with_fallback_value(3);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap();
    let answer = runtime.block_on(assert_send(async move {
        tokio::spawn(async move { policy.call(|| async { Err(()) }).await }).await.unwrap()
    }));
    assert_eq!(answer, Ok(3));
}
