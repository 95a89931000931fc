//! The circuit breaker: what trips it, what it lets through half-open, how it closes, and what is not counted.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use meshwright_traffic::{
    Admission, BreakerChanges, BreakerMode, BreakerPolicy, BreakerRefusal, BreakerState, CircuitBreaker, OpenTime,
    Outcome, Permit, ReadyToTrip, Recovery, SlowCalls, StateCause, StateChange, Window,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A breaker with its own time.
struct Bench {
    breaker: CircuitBreaker,
    now: Instant,
    rng: Mutex<fastrand::Rng>,
}

impl Bench {
    #[allow(clippy::disallowed_methods, reason = "the start of simulated time")]
    fn new(policy: BreakerPolicy) -> Self {
        let rng = Mutex::new(fastrand::Rng::with_seed(3));
        let bench = Self { breaker: CircuitBreaker::new(policy), now: Instant::now(), rng };
        // Its life begins here.
        bench.state();
        bench
    }

    fn ask(&self) -> Admission {
        self.breaker.try_acquire(self.now, &mut self.dice())
    }

    fn dice(&self) -> MutexGuard<'_, fastrand::Rng> {
        self.rng.lock().expect("nobody panicked with the dice")
    }

    fn permit(&self) -> Permit {
        self.ask().permit.expect("the call is admitted")
    }

    fn refusal(&self) -> BreakerRefusal {
        self.ask().permit.expect_err("the call is refused")
    }

    fn record(&self, permit: Permit, outcome: Outcome) -> Option<StateChange> {
        self.breaker.record(permit, outcome, self.now, &mut self.dice())
    }

    /// Calls that end at once, until one changes the state.
    fn calls(&self, outcomes: &[Outcome]) -> Option<StateCause> {
        outcomes.iter().find_map(|outcome| self.record(self.permit(), *outcome)).map(|change| change.cause)
    }

    /// A call that takes so long.
    fn call_of(&mut self, time: Duration, outcome: Outcome) -> Option<StateCause> {
        let permit = self.permit();
        self.now += time;
        self.record(permit, outcome).map(|change| change.cause)
    }

    fn state(&self) -> BreakerState {
        self.breaker.view(self.now).state
    }
}

const FAIL: Outcome = Outcome::Failure;
const PASS: Outcome = Outcome::Success;

fn off() -> BreakerPolicy {
    BreakerPolicy { consecutive_failures: 0, minimum_calls: 1, ..BreakerPolicy::default() }
}

#[test]
fn failures_in_a_row_trip_and_a_success_starts_the_count_again() {
    let bench = Bench::new(BreakerPolicy { consecutive_failures: 3, ..off() });
    assert_eq!(bench.calls(&[FAIL, FAIL, PASS, FAIL, FAIL]), None);
    assert_eq!(bench.breaker.view(bench.now).counts.consecutive_failures, 2);
    assert_eq!(bench.calls(&[FAIL]), Some(StateCause::ConsecutiveFailures(3)));
    assert_eq!(bench.refusal(), BreakerRefusal::Open { retry_after: MINUTE });
    let view = bench.breaker.view(bench.now);
    assert_eq!((view.state, view.openings, view.refused), (BreakerState::Open, 1, 1));
    assert_eq!(view.until, Some(bench.now + MINUTE));
}

#[test]
fn a_failure_rate_trips_at_its_percentage_and_not_before_the_minimum_volume() {
    let bench = Bench::new(BreakerPolicy { failure_percent: Some(50), minimum_calls: 4, ..off() });
    assert_eq!(bench.calls(&[FAIL, FAIL, PASS]), None, "three calls are too few");
    assert_eq!(bench.calls(&[PASS]), Some(StateCause::FailureRate { failed: 2, calls: 4 }));
}

#[test]
fn slow_calls_trip_whether_they_succeed_or_not() {
    let slow_calls = Some(SlowCalls { longer_than: SECOND, percent: 100 });
    let mut bench = Bench::new(BreakerPolicy { slow_calls, minimum_calls: 3, ..off() });
    assert_eq!(bench.call_of(SECOND, PASS), None, "exactly as long as allowed is not slow");
    assert_eq!(bench.breaker.view(bench.now).counts.slow_calls, 0);
    let mut bench = Bench::new(BreakerPolicy { slow_calls, minimum_calls: 3, ..off() });
    assert_eq!(bench.call_of(SECOND * 2, PASS), None);
    assert_eq!(bench.call_of(SECOND * 2, FAIL), None);
    assert_eq!(bench.call_of(SECOND * 2, PASS), Some(StateCause::SlowCallRate { slow: 3, calls: 3 }));
}

#[test]
fn a_callers_condition_is_asked_after_failures() {
    let condition = ReadyToTrip::new(|counts| counts.requests >= 3 && counts.total_failures * 5 >= counts.requests * 3);
    let bench = Bench::new(BreakerPolicy { ready_to_trip: Some(condition), ..off() });
    assert_eq!(bench.calls(&[FAIL, FAIL, PASS]), None, "a success does not trip, though the condition holds");
    assert_eq!(bench.calls(&[FAIL]), Some(StateCause::ReadyToTrip));
}

#[test]
fn a_count_window_remembers_exactly_the_last_calls() {
    let bench =
        Bench::new(BreakerPolicy { window: Window::Count(4), failure_percent: Some(75), minimum_calls: 4, ..off() });
    assert_eq!(bench.calls(&[FAIL, FAIL, PASS, PASS, FAIL]), None);
    let counts = bench.breaker.view(bench.now).counts;
    assert_eq!((counts.total_failures, counts.total_successes, counts.requests), (2, 2, 4));
    assert_eq!(bench.calls(&[FAIL, FAIL]), Some(StateCause::FailureRate { failed: 3, calls: 4 }));
}

#[test]
fn a_count_window_smaller_than_the_minimum_volume_still_trips() {
    let bench =
        Bench::new(BreakerPolicy { window: Window::Count(2), failure_percent: Some(100), minimum_calls: 50, ..off() });
    assert_eq!(bench.calls(&[FAIL, FAIL]), Some(StateCause::FailureRate { failed: 2, calls: 2 }));
}

#[test]
fn a_time_window_forgets_bucket_by_bucket_exactly_at_the_edge() {
    let window = Window::Time { length: SECOND * 10, buckets: 10 };
    let mut bench = Bench::new(BreakerPolicy { window, failure_percent: Some(100), minimum_calls: 3, ..off() });
    let start = bench.now;
    assert_eq!(bench.calls(&[FAIL, FAIL]), None);
    bench.now = start + SECOND * 10 - Duration::from_nanos(1);
    assert_eq!(bench.breaker.view(bench.now).counts.total_failures, 2);
    bench.now = start + SECOND * 10;
    assert_eq!(bench.breaker.view(bench.now).counts.total_failures, 0);
    bench.now = start + SECOND * 1_000;
    assert_eq!(bench.calls(&[FAIL, FAIL, FAIL]), Some(StateCause::FailureRate { failed: 3, calls: 3 }));
}

#[test]
fn an_interval_starts_the_counts_anew_and_ignores_what_it_did_not_send() {
    let window = Window::Interval(Some(MINUTE));
    let mut bench = Bench::new(BreakerPolicy { window, consecutive_failures: 2, ..off() });
    assert_eq!(bench.calls(&[FAIL]), None);
    let late = bench.permit();
    bench.now += MINUTE;
    assert_eq!(bench.record(late, FAIL), None);
    assert_eq!(bench.breaker.view(bench.now).counts.consecutive_failures, 0);
    assert_eq!(bench.calls(&[FAIL]), None);
    assert_eq!(bench.calls(&[FAIL]), Some(StateCause::ConsecutiveFailures(2)));
}

#[test]
fn half_open_admits_its_probes_and_closes_when_all_succeed() {
    let mut bench = Bench::new(BreakerPolicy { consecutive_failures: 1, probes: 2, ..off() });
    bench.calls(&[FAIL]);
    bench.now += MINUTE;
    let first = bench.ask();
    assert_eq!(first.change.map(|change| change.cause), Some(StateCause::OpenTimeOver));
    let (first, second) = (first.permit.unwrap(), bench.permit());
    assert_eq!(bench.refusal(), BreakerRefusal::ProbesInFlight);
    assert_eq!(bench.record(first, PASS), None);
    assert_eq!(bench.refusal(), BreakerRefusal::ProbesInFlight, "one has ended, but there were two to show it");
    let closed = bench.record(second, PASS).unwrap();
    assert_eq!((closed.to, closed.cause), (BreakerState::Closed, StateCause::ProbesSucceeded(2)));
    assert_eq!(bench.breaker.view(bench.now).counts.requests, 0);
}

#[test]
fn a_probe_that_fails_opens_again_and_the_other_probe_is_ignored() {
    let mut bench = Bench::new(BreakerPolicy { consecutive_failures: 1, probes: 2, ..off() });
    bench.calls(&[FAIL]);
    bench.now += MINUTE;
    let (first, second) = (bench.permit(), bench.permit());
    assert_eq!(bench.record(first, FAIL).map(|change| change.cause), Some(StateCause::ProbeFailed));
    assert_eq!(bench.record(second, PASS), None);
    assert_eq!(bench.state(), BreakerState::Open);
}

#[test]
fn a_probe_that_was_given_up_gives_its_place_back() {
    let mut bench = Bench::new(BreakerPolicy { consecutive_failures: 1, ..off() });
    bench.calls(&[FAIL]);
    bench.now += MINUTE;
    let probe = bench.permit();
    assert_eq!(bench.refusal(), BreakerRefusal::ProbesInFlight);
    bench.breaker.release(probe);
    assert_eq!(bench.calls(&[PASS]), Some(StateCause::ProbesSucceeded(1)));
}

#[test]
fn a_slow_probe_does_not_close_a_breaker_that_trips_on_slow_calls() {
    let slow_calls = Some(SlowCalls { longer_than: SECOND, percent: 100 });
    let mut bench = Bench::new(BreakerPolicy { slow_calls, ..off() });
    bench.call_of(SECOND * 2, PASS);
    bench.now += MINUTE;
    assert_eq!(bench.call_of(SECOND * 2, PASS), Some(StateCause::ProbeFailed));
}

#[test]
fn probes_may_be_judged_by_their_rates() {
    let policy = BreakerPolicy { failure_percent: Some(50), probes: 3, recovery: Recovery::Rates, ..off() };
    let mut bench = Bench::new(policy);
    bench.calls(&[FAIL]);
    bench.now += MINUTE;
    assert_eq!(bench.calls(&[FAIL, PASS]), None);
    assert_eq!(bench.calls(&[PASS]), Some(StateCause::ProbesSucceeded(3)), "one of three is below 50 %");
    bench.calls(&[FAIL]);
    bench.now += MINUTE;
    assert_eq!(bench.calls(&[PASS, FAIL, FAIL]), Some(StateCause::FailureRate { failed: 2, calls: 3 }));
}

#[test]
fn probes_that_never_end_do_not_hold_it_half_open_for_ever() {
    let policy = BreakerPolicy { consecutive_failures: 1, max_half_open_time: Some(SECOND * 5), ..off() };
    let mut bench = Bench::new(policy);
    bench.calls(&[FAIL]);
    bench.now += MINUTE;
    let lost = bench.permit();
    bench.now += SECOND * 5;
    let change = bench.breaker.advance(bench.now, &mut bench.dice()).unwrap();
    assert_eq!((change.to, change.cause), (BreakerState::Open, StateCause::ProbesTookTooLong));
    assert_eq!(bench.record(lost, PASS), None);
    bench.now += MINUTE;
    assert_eq!(bench.calls(&[PASS]), Some(StateCause::ProbesSucceeded(1)));
}

#[test]
fn a_late_answer_of_an_earlier_generation_says_nothing() {
    let mut bench = Bench::new(BreakerPolicy { consecutive_failures: 1, ..off() });
    let late = bench.permit();
    bench.calls(&[FAIL]);
    bench.now += MINUTE;
    let probe = bench.permit();
    assert_eq!(bench.record(late, FAIL), None);
    assert_eq!(bench.state(), BreakerState::HalfOpen, "the late failure is no probe");
    assert_eq!(bench.record(probe, PASS).map(|change| change.to), Some(BreakerState::Closed));
}

#[test]
fn the_open_time_grows_with_every_failed_recovery_up_to_its_bound_and_starts_again_after_a_success() {
    let open_time = OpenTime { base: SECOND, multiplier: 2.0, max: SECOND * 5, jitter: 0.0 };
    let mut bench = Bench::new(BreakerPolicy { consecutive_failures: 1, open_time, ..off() });
    for seconds in [1, 2, 4, 5, 5] {
        let change = bench.record(bench.permit(), FAIL).unwrap();
        assert_eq!(change.open_time, Some(SECOND * seconds));
        bench.now += SECOND * seconds;
    }
    bench.calls(&[PASS]);
    assert_eq!(bench.record(bench.permit(), FAIL).unwrap().open_time, Some(SECOND));
}

#[test]
fn jitter_fills_its_range_and_no_more() {
    let open_time = OpenTime { base: SECOND * 10, multiplier: 1.0, max: SECOND * 10, jitter: 0.2 };
    let mut rng = fastrand::Rng::with_seed(1);
    let times: Vec<Duration> = (0..1_000).map(|_| open_time.after(0, &mut rng)).collect();
    assert!(times.iter().all(|time| (SECOND * 8..=SECOND * 12).contains(time)));
    assert!(times.iter().any(|time| *time < Duration::from_millis(8_100)));
    assert!(times.iter().any(|time| *time > Duration::from_millis(11_900)));
}

#[test]
fn an_open_time_never_overflows() {
    let open_time = OpenTime { base: Duration::MAX, multiplier: f64::MAX, max: Duration::MAX, jitter: 1.0 };
    let mut rng = fastrand::Rng::with_seed(1);
    assert!((0..100).all(|before| open_time.after(before * 1_000_000, &mut rng) <= Duration::MAX));
    let bench = Bench::new(BreakerPolicy { consecutive_failures: 1, open_time, ..off() });
    bench.calls(&[FAIL]);
    assert!(matches!(bench.refusal(), BreakerRefusal::Open { .. }));
}

#[test]
fn forced_open_refuses_and_forced_closed_counts_without_tripping() {
    let bench = Bench::new(BreakerPolicy { consecutive_failures: 1, ..off() });
    let change = bench.breaker.set_mode(BreakerMode::ForcedOpen, bench.now);
    assert_eq!((change.to, change.cause), (BreakerState::Open, StateCause::Operator(BreakerMode::ForcedOpen)));
    assert_eq!(bench.refusal(), BreakerRefusal::Forced);
    bench.breaker.set_mode(BreakerMode::ForcedClosed, bench.now);
    assert_eq!(bench.calls(&[FAIL; 10]), None);
    assert_eq!(bench.breaker.view(bench.now).counts.consecutive_failures, 10);
    bench.breaker.set_mode(BreakerMode::Automatic, bench.now);
    assert_eq!(bench.calls(&[FAIL]), Some(StateCause::ConsecutiveFailures(1)), "counts started anew");
}

#[test]
fn disabled_admits_everything_and_counts_nothing() {
    let bench = Bench::new(BreakerPolicy { consecutive_failures: 1, ..off() });
    bench.breaker.set_mode(BreakerMode::Disabled, bench.now);
    assert_eq!(bench.calls(&[FAIL; 10]), None);
    assert_eq!(bench.breaker.view(bench.now).counts, Default::default());
}

#[test]
fn metrics_only_says_what_it_would_have_done_and_refuses_nothing() {
    let mut bench = Bench::new(BreakerPolicy { consecutive_failures: 2, ..off() });
    bench.breaker.set_mode(BreakerMode::MetricsOnly, bench.now);
    bench.calls(&[FAIL]);
    let change = bench.record(bench.permit(), FAIL).unwrap();
    assert_eq!((change.to, change.enforced), (BreakerState::Open, false));
    assert_eq!(bench.calls(&[FAIL; 7]), None, "calls it would have refused are not counted");
    assert_eq!(bench.breaker.view(bench.now).refused, 7);
    bench.now += MINUTE;
    let probe = bench.permit();
    let beside = bench.permit();
    assert_eq!(bench.record(beside, FAIL), None, "a call beside the probe would not have been made");
    assert_eq!(bench.record(probe, PASS).map(|change| change.to), Some(BreakerState::Closed));
}

#[test]
fn half_open_never_admits_more_than_its_probes_however_many_threads_ask() {
    let mut bench = Bench::new(BreakerPolicy { consecutive_failures: 1, probes: 3, ..off() });
    for _ in 0..50 {
        bench.calls(&[FAIL]);
        bench.now += MINUTE;
        let admitted = AtomicU32::new(0);
        let permits = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..4 {
                        if let Ok(permit) = bench.ask().permit {
                            admitted.fetch_add(1, Ordering::Relaxed);
                            permits.lock().unwrap().push(permit);
                        }
                    }
                });
            }
        });
        assert_eq!(admitted.into_inner(), 3);
        for permit in permits.into_inner().unwrap() {
            bench.record(permit, PASS);
        }
        assert_eq!(bench.state(), BreakerState::Closed);
    }
}

#[test]
fn presets_have_the_published_defaults() {
    let hystrix = Bench::new(BreakerPolicy::hystrix());
    assert_eq!(hystrix.calls(&[FAIL; 19]), None);
    assert_eq!(hystrix.calls(&[FAIL]), Some(StateCause::FailureRate { failed: 20, calls: 20 }));
    assert_eq!(hystrix.refusal(), BreakerRefusal::Open { retry_after: SECOND * 5 });

    let resilience4j = Bench::new(BreakerPolicy::resilience4j());
    assert_eq!(resilience4j.calls(&[PASS; 50]), None);
    assert_eq!(resilience4j.calls(&[FAIL; 49]), None);
    assert_eq!(resilience4j.calls(&[FAIL]), Some(StateCause::FailureRate { failed: 50, calls: 100 }));
    assert_eq!(resilience4j.breaker.policy().probes, 10);

    let gobreaker = Bench::new(BreakerPolicy::gobreaker());
    assert_eq!(gobreaker.calls(&[FAIL; 5]), None);
    assert_eq!(gobreaker.calls(&[FAIL]), Some(StateCause::ConsecutiveFailures(6)));
    assert_eq!(gobreaker.refusal(), BreakerRefusal::Open { retry_after: MINUTE });

    for (service, probes, interval, timeout) in [
        ("user-service", 5, MINUTE, MINUTE * 2),
        ("payment-service", 3, MINUTE * 2, MINUTE * 5),
        ("x", 10, MINUTE, MINUTE),
    ] {
        let policy = BreakerPolicy::for_service(service);
        assert_eq!(policy.probes, probes);
        assert_eq!(policy.window, Window::Interval(Some(interval)));
        assert_eq!(policy.open_time, OpenTime::fixed(timeout));
        assert_eq!(policy.consecutive_failures, 6);
    }
    let doubled = BreakerChanges {
        window: Some(Window::Count(9)),
        open_time: Some(SECOND),
        open_growth_percent: Some(200),
        failure_percent: Some(10),
        ..BreakerChanges::default()
    };
    let changed = BreakerPolicy::hystrix().with(&doubled);
    assert_eq!((changed.window, changed.failure_percent, changed.minimum_calls), (Window::Count(9), Some(10), 20));
    assert_eq!(changed.open_time, OpenTime { base: SECOND, multiplier: 2.0, max: SECOND * 10, jitter: 0.0 });
    assert_eq!(BreakerPolicy::resilience4j().with(&BreakerChanges::default()), BreakerPolicy::resilience4j());
    for name in BreakerPolicy::PRESETS {
        assert!(BreakerPolicy::preset(name).is_some(), "{name}");
    }
    assert_eq!(BreakerPolicy::preset("polly"), None);
}
