//! The balancer over backends: turns, load, latency, keys and retries.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use meshwright_resilience::{Backends, BalancingPolicy, NoHost, TableKind};

fn shares(backends: &Backends<usize>, count: usize, pick: impl Fn(usize) -> usize) -> Vec<usize> {
    let mut shares = vec![0; backends.all().len()];
    for call in 0..count {
        shares[pick(call)] += 1;
    }
    shares
}

#[test]
fn backends_take_turns_by_weight() {
    let backends = Backends::weighted(BalancingPolicy::RoundRobin, vec![(1, 0), (2, 1), (1, 2)]);
    let taken = shares(&backends, 400, |_| *backends.pick().expect("a backend").backend());
    assert_eq!(taken, [100, 200, 100]);
}

#[test]
fn a_backend_with_calls_in_flight_gets_fewer_until_its_leases_are_dropped() {
    let backends = Backends::new(BalancingPolicy::LeastRequest, vec![0, 1]);
    let mut busy: Vec<_> = (0..10).map(|_| backends.pick_other(&[1]).expect("a backend")).collect();
    assert!(busy.iter().all(|lease| *lease.backend() == 0));
    assert_eq!(shares(&backends, 100, |_| *backends.pick().expect("a backend").backend()), [0, 100]);
    busy.clear();
    let after = shares(&backends, 400, |_| *backends.pick().expect("a backend").backend());
    assert!(after.iter().all(|share| *share > 100), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn latency_that_was_told_decides_with_peak_ewma() {
    let backends = Backends::new(BalancingPolicy::PeakEwma, vec![0, 1]);
    for (other, time) in [(1, 200), (0, 1)] {
        let lease = backends.pick_other(&[other]).expect("a backend");
        tokio::time::advance(Duration::from_millis(time)).await;
        lease.answered();
    }
    let taken = shares(&backends, 100, |_| *backends.pick().expect("a backend").backend());
    assert!(taken[1] > 90, "{taken:?}");
}

#[test]
fn a_key_stays_with_its_backend() {
    let policy = BalancingPolicy::ConsistentHash { table: TableKind::Maglev { table_size: 251 }, bound: None };
    let backends = Backends::new(policy, (0..5).collect());
    let owner = |call: usize| *backends.pick_for(call.to_string().as_bytes()).expect("a backend").backend();
    assert!((0..100).all(|call| owner(call) == owner(call)));
    assert!(shares(&backends, 1_000, owner).iter().all(|share| *share > 100));
}

#[test]
fn a_full_backend_is_passed_over_and_a_dropped_lease_makes_room() {
    for policy in [BalancingPolicy::RoundRobin, BalancingPolicy::LeastRequest] {
        let backends = Backends::new(policy, vec![0, 1, 2]).with_bulkhead(2);
        let mut leases: Vec<_> = (0..6).map(|_| backends.pick().expect("there is room")).collect();
        assert!((0..3).all(|backend| leases.iter().filter(|lease| *lease.backend() == backend).count() == 2));
        assert_eq!(backends.pick().err(), Some(NoHost::Full));
        let freed = *leases.remove(3).backend();
        assert_eq!(*backends.pick_other(&[freed as u32]).expect("the only one with room").backend(), freed);
    }
}

#[tokio::test]
async fn a_call_that_is_given_up_leaves_its_backend() {
    let backends = Backends::new(BalancingPolicy::Random, vec![0]).with_bulkhead(1);
    let hangs = async {
        let _lease = backends.pick().expect("there is room");
        std::future::pending::<()>().await;
    };
    assert!(tokio::time::timeout(Duration::from_millis(1), hangs).await.is_err());
    assert!(backends.pick().is_ok());
}

#[test]
fn callers_that_race_for_backends_never_exceed_the_bulkhead() {
    let backends = Backends::new(BalancingPolicy::RoundRobin, vec![AtomicU32::new(0), AtomicU32::new(0)]);
    let backends = backends.with_bulkhead(2);
    let admitted = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..500 {
                    let Ok(lease) = backends.pick() else { continue };
                    assert!(lease.backend().fetch_add(1, Ordering::SeqCst) < 2);
                    admitted.fetch_add(1, Ordering::Relaxed);
                    std::thread::yield_now();
                    lease.backend().fetch_sub(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert!(admitted.into_inner() >= 500, "a caller alone always gets a backend");
    let all: Vec<_> = (0..4).map(|_| backends.pick().expect("every place came back")).collect();
    assert_eq!(all.len(), 4);
}

#[test]
fn nothing_comes_of_no_backends() {
    assert!(Backends::<u8>::new(BalancingPolicy::Random, Vec::new()).pick().is_err());
}
