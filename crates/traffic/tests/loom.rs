//! Every interleaving of threads on every word that is shared without a lock:
//! `RUSTFLAGS='--cfg loom' cargo test -p meshwright-traffic --test loom --target-dir target/loom`.
//! Without that cfg there is nothing here: loom's atomics work only inside of its models.

#![cfg(loom)]
#![allow(clippy::disallowed_methods, reason = "any instant will do")]

use std::future::Future as _;
use std::task::Poll;
use std::time::{Duration, Instant};

use loom::sync::Arc;
use loom::thread;
use meshwright_traffic::{
    ActiveBudget, AdaptiveLimit, AdaptivePolicy, Bulkhead, CoalesceBounds, Coalescer, Criticality, EjectionKind,
    FailurePercentagePolicy, Host, HostSet, HostState, InFlight, LimitSample, Limits, LoadMeter, Observation,
    OutlierDetector, OutlierEvent, OutlierPolicy, Turn, Unreachable, UnreachableDetector, UnreachablePolicy, Usage,
};

fn rng() -> fastrand::Rng {
    fastrand::Rng::with_seed(1)
}

/// Runs `work` in two threads beside each other; what each gave.
fn both<S: Send + Sync + 'static, R: 'static>(shared: &Arc<S>, work: fn(&S, usize) -> R) -> [R; 2] {
    let (shared, other) = (shared.clone(), shared.clone());
    let second = thread::spawn(move || work(&other, 1));
    let first = work(&shared, 0);
    [first, second.join().expect("the other thread ends")]
}

#[test]
fn the_last_place_of_a_limit_is_given_once_and_comes_back() {
    loom::model(|| {
        let usage = Arc::new(Usage::new());
        let limits = Limits { max_requests: 1, max_connections: 1, ..Limits::default() };
        let take = |usage: &Usage, _| {
            let limits = Limits { max_requests: 1, max_connections: 1, ..Limits::default() };
            (usage.try_request(&limits), usage.try_connection(&limits))
        };
        let got = both(&usage, take);
        assert_eq!(got.iter().filter(|got| got.0).count(), 1);
        assert_eq!(got.iter().filter(|got| got.1).count(), 1);
        usage.release_request(&limits);
        assert!(usage.try_request(&limits));
    });
}

/// Says whether it was woken.
struct Flag(loom::sync::atomic::AtomicBool);

impl std::task::Wake for Flag {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.store(true, loom::sync::atomic::Ordering::SeqCst);
    }
}

#[test]
fn whoever_waits_for_a_coalesced_call_is_woken_or_finds_what_came_of_it() {
    for lands in [true, false] {
        loom::model(move || {
            let coalescer = std::sync::Arc::new(Coalescer::new(CoalesceBounds { keys: 1, waiters: 1 }));
            let Turn::Lead(leader) = coalescer.join(1, Instant::now(), None) else { panic!("the first leads") };
            let others = coalescer.clone();
            let other = thread::spawn(move || {
                let Turn::Follow(mut follower) = others.join(1, Instant::now(), None) else { return None };
                let flag = std::sync::Arc::new(Flag(loom::sync::atomic::AtomicBool::new(false)));
                let waker = flag.clone().into();
                let polled = std::pin::Pin::new(&mut follower).poll(&mut std::task::Context::from_waker(&waker));
                Some((follower, flag, polled))
            });
            if lands {
                leader.land(7)
            } else {
                drop(leader)
            }
            let outcome = lands.then_some(7);
            if let Some((mut follower, flag, polled)) = other.join().expect("the other thread ends") {
                match polled {
                    Poll::Ready(found) => assert_eq!(found, outcome),
                    Poll::Pending => {
                        assert!(flag.0.load(loom::sync::atomic::Ordering::SeqCst), "nobody wakes it");
                        let waker = flag.into();
                        let polled =
                            std::pin::Pin::new(&mut follower).poll(&mut std::task::Context::from_waker(&waker));
                        assert_eq!(polled, Poll::Ready(outcome));
                    }
                }
                drop(follower);
            }
            assert_eq!(coalescer.usage(), (0, 0));
        });
    }
}

#[test]
fn no_place_is_lost_by_threads_that_take_and_give_back() {
    loom::model(|| {
        let usage = Arc::new(Usage::new());
        both(&usage, |usage, _| {
            let budget = ActiveBudget { percent: 100, min_concurrency: 1 };
            let limits = Limits { max_pending: 1, retry_budget: Some(budget), ..Limits::default() };
            if usage.try_pending(&limits) {
                usage.release_pending(&limits);
            }
            if usage.try_retry(&limits) {
                usage.release_retry(&limits);
            }
        });
        assert_eq!((usage.pending(), usage.retries()), (0, 0));
    });
}

#[test]
fn requests_in_flight_of_a_host_and_of_its_set_add_up() {
    loom::model(|| {
        let hosts = HostSet::new(vec![Host::new(1)], 0).with_in_flight(Some(InFlight::default()));
        let hosts = Arc::new(hosts);
        both(&hosts, |hosts, number| {
            hosts.acquire(0);
            if number == 0 {
                hosts.release(0);
            }
        });
        assert_eq!(hosts.hosts()[0].state.in_flight(), 1);
    });
}

#[test]
fn the_last_place_at_a_host_is_given_once_and_comes_back() {
    loom::model(|| {
        let bulkhead = Bulkhead { max_requests: 1, observe: false };
        let hosts = HostSet::new(vec![Host::new(1)], 0).with_in_flight(Some(InFlight::default()));
        let hosts = Arc::new(hosts.with_bulkhead(Some(bulkhead)));
        let got = both(&hosts, |hosts, _| hosts.try_acquire(0));
        assert_eq!(got.iter().filter(|got| **got).count(), 1);
        hosts.release(0);
        assert_eq!((hosts.full(), hosts.in_flight().map(InFlight::count)), (0, Some(0)));
        assert!(hosts.try_acquire(0));
    });
}

#[test]
fn the_peak_of_two_latencies_that_are_observed_at_once_counts() {
    loom::model(|| {
        let state = Arc::new(HostState::new());
        let now = Instant::now();
        let shared = Arc::new((state, now));
        both(&shared, |(state, now), number| {
            state.observe_latency(Duration::from_millis(if number == 0 { 10 } else { 90 }), *now);
        });
        let (state, now) = &*shared;
        let millis = state.latency(*now).as_secs_f64() * 1e3;
        assert!((89.0..91.0).contains(&millis), "{millis}");
    });
}

#[test]
fn a_report_is_seen_whole_and_an_old_one_never_under_a_new_time() {
    loom::model(|| {
        let state = HostState::new();
        let start = Instant::now();
        state.report(1, Duration::from_micros(1), start);
        let shared = Arc::new((state, start + Duration::from_secs(5)));
        let seen = both(&shared, |(state, later), number| {
            if number == 0 {
                state.report(2, Duration::from_micros(2), *later);
            }
            state.reported(*later)
        });
        assert_eq!(seen[0], Some((2, Duration::from_micros(2))));
        assert!(seen[1].is_none() || seen[1] == seen[0], "{seen:?}");
    });
}

#[test]
fn what_a_server_says_of_itself_is_one_of_its_latencies_or_their_average() {
    loom::model(|| {
        let meter = Arc::new(LoadMeter::default());
        both(&meter, |meter, number| {
            meter.enter();
            meter.answered(0, Duration::from_micros(160 * (number as u64 + 1)));
            meter.leave();
        });
        let (in_flight, latency) = meter.read();
        assert_eq!(in_flight, 0);
        assert!((160..=320).contains(&latency.as_micros()), "{latency:?}");
    });
}

#[test]
fn an_adaptive_limit_is_never_exceeded_and_loses_no_place() {
    loom::model(|| {
        let policy = AdaptivePolicy { initial: 1, min: 1, max: 1, window: Duration::ZERO, ..AdaptivePolicy::default() };
        let shared = Arc::new((AdaptiveLimit::new(policy), Instant::now()));
        let got = both(&shared, |(limit, now), _| limit.try_acquire(Criticality::Critical, *now));
        let (limit, now) = &*shared;
        assert_eq!(got.iter().filter(|slot| slot.is_some()).count(), 1);
        for slot in got.into_iter().flatten() {
            limit.end(slot, LimitSample::Success, *now + Duration::from_millis(5), &mut rng());
        }
        assert_eq!((limit.view().in_flight, limit.view().refused), (0, 1));
    });
}

#[test]
fn places_that_end_beside_each_other_are_all_given_back() {
    loom::model(|| {
        let policy = AdaptivePolicy { initial: 2, min: 1, max: 4, window: Duration::ZERO, ..AdaptivePolicy::default() };
        let shared = Arc::new((AdaptiveLimit::new(policy), Instant::now()));
        both(&shared, |(limit, now), _| {
            if let Some(slot) = limit.try_acquire(Criticality::Critical, *now) {
                limit.end(slot, LimitSample::Success, *now + Duration::from_millis(5), &mut rng());
            }
        });
        assert_eq!(shared.0.view().in_flight, 0);
    });
}

#[test]
fn two_workers_eject_a_host_once_and_never_more_than_the_percentage() {
    loom::model(|| {
        let policy = OutlierPolicy { consecutive_5xx: 1, max_ejection_percent: 50, ..OutlierPolicy::default() };
        let hosts = HostSet::new(vec![Host::new(1), Host::new(1)], 0);
        let shared = Arc::new((hosts, OutlierDetector::new(policy), Instant::now()));
        let events = both(&shared, |(hosts, detector, now), number| {
            detector.observe(hosts, number, Observation::Status(500), *now, &mut rng())
        });
        let ejected = events.iter().filter(|event| matches!(event, Some(OutlierEvent::Ejected { .. }))).count();
        let refused = events.iter().filter(|event| matches!(event, Some(OutlierEvent::Refused { .. }))).count();
        assert_eq!((ejected, refused), (1, 1), "{events:?}");
        assert_eq!(shared.1.ejections().ejected(EjectionKind::Consecutive5xx), 1);
    });
}

#[test]
fn two_hosts_that_refuse_at_once_are_never_both_out() {
    loom::model(|| {
        let policy = UnreachablePolicy { max_ejection_percent: 100, ..UnreachablePolicy::default() };
        let hosts = HostSet::new(vec![Host::new(1), Host::new(1)], 0);
        let shared = Arc::new((hosts, UnreachableDetector::new(policy, Default::default()), Instant::now()));
        let out = both(&shared, |(hosts, detector, now), number| {
            let told = detector.refused(hosts, number, Unreachable::Refused, *now, &mut rng());
            matches!(told, Some((OutlierEvent::Ejected { .. }, Some(_))))
        });
        assert_eq!(out.iter().filter(|out| **out).count(), 1);
        assert_eq!(shared.0.healthy(), 1);
    });
}

#[test]
fn a_host_that_is_out_by_two_words_at_once_is_in_again_when_both_are_taken_back() {
    loom::model(|| {
        let policy =
            OutlierPolicy { consecutive_5xx: 1, base_ejection_time: Duration::ZERO, ..OutlierPolicy::default() };
        let unreachable = UnreachableDetector::default();
        let detector = OutlierDetector::counting_in(policy, unreachable.ejections().clone());
        let hosts = HostSet::new(vec![Host::new(1), Host::new(1)], 0);
        let shared = Arc::new((hosts, detector, unreachable, Instant::now()));
        both(&shared, |(hosts, detector, unreachable, now), number| {
            if number == 0 {
                detector.observe(hosts, 0, Observation::LocalOrigin, *now, &mut rng());
                detector.sweep(hosts, *now, &mut rng());
            } else if let Some((_, Some(comeback))) =
                unreachable.refused(hosts, 0, Unreachable::Refused, *now, &mut rng())
            {
                comeback.probed(true, *now, &mut rng());
            }
        });
        assert!(!shared.0.hosts()[0].verdict.is_ejected());
    });
}

#[test]
fn a_sweep_beside_answers_sees_no_more_successes_than_tries() {
    loom::model(|| {
        let rule = FailurePercentagePolicy { threshold: 100, minimum_hosts: 1, request_volume: 1 };
        let policy = OutlierPolicy { failure_percentage: Some(rule), ..OutlierPolicy::default() };
        let shared = Arc::new((HostSet::new(vec![Host::new(1)], 0), OutlierDetector::new(policy), Instant::now()));
        both(&shared, |(hosts, detector, now), number| {
            if number == 0 {
                detector.sweep(hosts, *now, &mut rng());
            } else {
                detector.observe(hosts, 0, Observation::Success, *now, &mut rng());
            }
        });
        // A host that only succeeded is never the one that fails too often, whatever was seen by half.
        assert!(!shared.0.hosts()[0].verdict.is_ejected());
    });
}
