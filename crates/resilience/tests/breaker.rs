//! The breaker around calls: what counts as a failure, what does not, and that no permit is ever lost.

use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use meshwright_resilience::{
    BreakerMode, BreakerPolicy, BreakerRefusal, BreakerState, CircuitBreaker, CircuitBreakers, Error, StateCause,
};
use proptest::prelude::*;

fn breaker(consecutive_failures: u32, probes: u32) -> CircuitBreaker {
    CircuitBreaker::new("b", BreakerPolicy { consecutive_failures, probes, ..BreakerPolicy::default() })
}

async fn fails() -> Result<(), &'static str> {
    Err("no")
}

async fn succeeds() -> Result<(), &'static str> {
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn it_opens_refuses_lets_a_probe_through_and_closes() {
    let changes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&changes);
    let breaker = breaker(2, 1).on_state_change(move |name, change| {
        assert_eq!(name, "b");
        seen.lock().unwrap().push((change.to, change.cause));
    });
    assert_eq!(breaker.call(fails()).await, Err(Error::Inner("no")));
    assert_eq!(breaker.call(fails()).await, Err(Error::Inner("no")));
    let refusal = BreakerRefusal::Open { retry_after: Duration::from_secs(60) };
    let error = breaker.call(succeeds()).await.unwrap_err();
    assert_eq!(error, Error::Open { breaker: "b".into(), refusal });
    assert_eq!(error.to_string(), "b: circuit breaker is open");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(60)));
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(breaker.call(succeeds()).await, Ok(()));
    assert_eq!(breaker.state(), BreakerState::Closed);
    let expected = [
        (BreakerState::Open, StateCause::ConsecutiveFailures(2)),
        (BreakerState::HalfOpen, StateCause::OpenTimeOver),
        (BreakerState::Closed, StateCause::ProbesSucceeded(1)),
    ];
    assert_eq!(*changes.lock().unwrap(), expected);
}

#[tokio::test]
async fn the_caller_may_say_what_a_failure_is() {
    let breaker = breaker(1, 1);
    let not_found = breaker.call_with(fails(), |_| false).await;
    assert_eq!(not_found, Err(Error::Inner("no")));
    assert_eq!(breaker.state(), BreakerState::Closed);
    assert_eq!(breaker.call_with(succeeds(), |_| true).await, Ok(()));
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[test]
fn blocking_calls_and_permits_by_hand_work_without_a_runtime() {
    let breaker = breaker(3, 1);
    assert_eq!(breaker.call_sync(|| Err::<(), _>("no")), Err(Error::Inner("no")));
    breaker.try_acquire().unwrap().failure();
    drop(breaker.try_acquire().unwrap());
    assert_eq!(breaker.view().counts.consecutive_failures, 2, "a dropped permit counts neither way");
    breaker.try_acquire().unwrap().success();
    assert_eq!(breaker.view().counts.consecutive_failures, 0);
    for _ in 0..3 {
        breaker.try_acquire().unwrap().failure();
    }
    assert!(matches!(breaker.call_sync(|| Ok::<_, ()>(())), Err(Error::Open { .. })));
}

#[tokio::test]
async fn a_panic_is_a_failure_in_every_way_of_calling() {
    let breaker = Arc::new(breaker(3, 1));
    let of_future = Arc::clone(&breaker);
    let panicking = async move { of_future.call(async { panic!("a bug") as Result<(), ()> }).await };
    assert!(tokio::spawn(panicking).await.unwrap_err().is_panic());
    assert_eq!(breaker.view().counts.consecutive_failures, 1);
    catch_unwind(AssertUnwindSafe(|| breaker.call_sync(|| -> Result<(), ()> { panic!("a bug") }))).unwrap_err();
    assert_eq!(breaker.view().counts.consecutive_failures, 2);
    catch_unwind(AssertUnwindSafe(|| {
        let _permit = breaker.try_acquire().unwrap();
        panic!("a bug")
    }))
    .unwrap_err();
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[tokio::test]
async fn a_waiting_call_that_is_dropped_by_somebody_elses_panic_is_no_failure() {
    let breaker = breaker(1, 1);
    catch_unwind(AssertUnwindSafe(|| {
        let mut call = Box::pin(breaker.call(pending::<Result<(), ()>>()));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(call.as_mut().poll(&mut cx).is_pending());
        panic!("somebody else's bug")
    }))
    .unwrap_err();
    assert_eq!(breaker.state(), BreakerState::Closed);
    assert_eq!(breaker.view().counts.requests, 0);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_probe_gives_its_place_back() {
    let breaker = breaker(1, 1);
    breaker.try_acquire().unwrap().failure();
    tokio::time::advance(Duration::from_secs(60)).await;
    let probe = breaker.call(pending::<Result<(), ()>>());
    assert!(tokio::time::timeout(Duration::from_secs(1), probe).await.is_err());
    assert_eq!(breaker.call(succeeds()).await, Ok(()));
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[test]
fn breakers_by_name_are_made_once_and_follow_the_presets() {
    let breakers = CircuitBreakers::new(BreakerPolicy::for_service);
    let threads: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| breakers.named("payment-service"))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(threads.iter().all(|breaker| Arc::ptr_eq(breaker, &threads[0])));
    assert_eq!(threads[0].policy().probes, 3);
    breakers.named("user-service").set_mode(BreakerMode::ForcedOpen);
    assert_eq!(
        breakers.all().iter().map(|breaker| breaker.name()).collect::<Vec<_>>(),
        ["payment-service", "user-service"]
    );
    assert_eq!(breakers.named("user-service").state(), BreakerState::Open);
    assert_eq!(threads[0].state(), BreakerState::Closed);
}

/// What happens to a call: it is polled so often, and then ends or is dropped.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Succeeds,
    Fails,
    IsDropped,
}

proptest! {
    /// However calls are begun, ended and dropped, no permit stays behind and no half-open breaker has too many.
    #[test]
    fn no_permit_is_lost(steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>(), 0..3u8, 0..30u64), 1..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let policy = BreakerPolicy {
                consecutive_failures: 2,
                probes: 3,
                open_time: meshwright_resilience::OpenTime::fixed(Duration::from_millis(40)),
                ..BreakerPolicy::default()
            };
            let breaker = CircuitBreaker::new("b", policy);
            let mut calls = Vec::new();
            for (begin, which, fate, wait) in steps {
                tokio::time::advance(Duration::from_millis(wait)).await;
                if begin || calls.is_empty() {
                    let (end, ended) = tokio::sync::oneshot::channel();
                    let mut call = Box::pin(breaker.call(async move { ended.await.unwrap_or(Err("never")) }));
                    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
                    if call.as_mut().poll(&mut cx).is_pending() {
                        calls.push((call, end));
                    }
                } else {
                    let (call, end) = calls.swap_remove(which.index(calls.len()));
                    match [Fate::Succeeds, Fate::Fails, Fate::IsDropped][usize::from(fate)] {
                        Fate::Succeeds => {
                            end.send(Ok(())).unwrap();
                            call.await.unwrap();
                        }
                        Fate::Fails => {
                            end.send(Err("no")).unwrap();
                            call.await.unwrap_err();
                        }
                        Fate::IsDropped => drop(call),
                    }
                }
                let view = breaker.view();
                prop_assert!(view.state != BreakerState::HalfOpen || view.counts.requests <= 3);
            }
            drop(calls);
            let counts = breaker.view().counts;
            prop_assert_eq!(counts.requests, counts.total_successes + counts.total_failures, "nothing is in flight");
            Ok(())
        })?;
    }
}
