//! The balancer over backends: turns, load, latency, keys and retries.

use std::time::Duration;

use meshwright_resilience::{Backends, BalancingPolicy, TableKind};

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
fn nothing_comes_of_no_backends() {
    assert!(Backends::<u8>::new(BalancingPolicy::Random, Vec::new()).pick().is_err());
}
