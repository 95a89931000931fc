//! Policies that look at how long hosts take.

use std::time::{Duration, Instant};

use meshwright_traffic::{Ask, Balancer, Host, HostSet, LoadSource, Policy, ProbeOutcome, Stagger};
use proptest::prelude::*;

const MILLI: Duration = Duration::from_millis(1);

#[allow(clippy::disallowed_methods, reason = "any instant will do")]
fn start() -> Instant {
    Instant::now()
}

fn set(weights: &[u32]) -> HostSet {
    HostSet::new(weights.iter().map(|weight| Host::new(*weight)).collect(), 0)
}

fn spread(hosts: &HostSet, policy: Policy, now: Instant, count: usize) -> Vec<usize> {
    let mut balancer = Balancer::new(policy, hosts, Stagger::ALONE);
    let mut rng = fastrand::Rng::with_seed(2);
    let mut picks = vec![0; hosts.hosts().len()];
    (0..count).for_each(|_| picks[balancer.pick(hosts, &Ask::first(now), &mut rng).expect("there are hosts")] += 1);
    picks
}

#[test]
fn peak_ewma_takes_the_host_where_the_request_would_be_over_sooner() {
    let (hosts, now) = (set(&[1, 1]), start());
    hosts.hosts()[0].state.observe_latency(10 * MILLI, now);
    hosts.hosts()[1].state.observe_latency(25 * MILLI, now);
    assert_eq!(spread(&hosts, Policy::PeakEwma, now, 20), [20, 0]);
    // 10 ms for each of three requests is more than 25 ms for one.
    (0..2).for_each(|_| hosts.acquire(0));
    assert_eq!(spread(&hosts, Policy::PeakEwma, now, 20), [0, 20]);
}

#[test]
fn a_host_that_never_answered_is_asked_once_and_then_waited_for() {
    let (hosts, now) = (set(&[1, 1]), start());
    hosts.hosts()[0].state.observe_latency(10 * MILLI, now);
    assert_eq!(spread(&hosts, Policy::PeakEwma, now, 20), [0, 20]);
    hosts.acquire(1);
    assert_eq!(spread(&hosts, Policy::PeakEwma, now, 20), [20, 0]);
}

#[test]
fn a_host_that_was_slow_is_asked_again_after_a_while() {
    let (hosts, now) = (set(&[1, 1]), start());
    hosts.hosts()[1].state.observe_latency(1_000 * MILLI, now);
    let later = |seconds| now + Duration::from_secs(seconds);
    for seconds in [10, 60] {
        hosts.hosts()[0].state.observe_latency(10 * MILLI, later(seconds));
        let slow = spread(&hosts, Policy::PeakEwma, later(seconds), 20)[1];
        assert_eq!(slow, if seconds == 60 { 20 } else { 0 }, "after {seconds} s");
    }
}

#[test]
fn prequal_takes_the_fastest_of_those_that_are_not_hot() {
    let (hosts, now) = (set(&[1; 4]), start());
    for (index, (in_flight, millis)) in [(9, 1), (2, 30), (2, 10), (3, 20)].into_iter().enumerate() {
        hosts.hosts()[index].state.report(in_flight, millis * MILLI, now);
    }
    // Each probe counts one more request whenever it is used: the others come in as the best one gets hot.
    let picks = spread(&hosts, Policy::Prequal, now, 200);
    assert!(picks[2] > 120 && picks[3] > picks[0], "{picks:?}");
}

#[test]
fn prequal_believes_endpoints_for_a_second_and_then_what_it_knows_itself() {
    let (hosts, now) = (set(&[1, 1]), start());
    hosts.hosts()[0].state.observe_latency(5 * MILLI, now);
    hosts.hosts()[1].state.observe_latency(50 * MILLI, now);
    let first_of_ten = |now| spread(&hosts, Policy::Prequal, now, 10)[0];
    assert!(first_of_ten(now) > 5);
    hosts.hosts()[0].state.report(100, 900 * MILLI, now);
    hosts.hosts()[1].state.report(1, MILLI, now);
    assert!(first_of_ten(now) < 5);
    assert_eq!(hosts.hosts()[1].state.reported(now), Some((1, MILLI)));
    assert!(first_of_ten(now + Duration::from_secs(2)) > 5);
}

#[test]
fn prequal_names_whom_to_ask_and_takes_in_what_they_say() {
    let (hosts, now) = (set(&[1; 3]), start());
    let (mut balancer, mut rng) = (Balancer::new(Policy::Prequal, &hosts, Stagger::ALONE), fastrand::Rng::with_seed(3));
    let mut pick = |balancer: &mut Balancer| balancer.pick(&hosts, &Ask::first(now), &mut rng).unwrap();
    let mut asked = [0; 3];
    for _ in 0..20 {
        pick(&mut balancer);
        let drawn: Vec<usize> = balancer.take_drawn().collect();
        assert_eq!(drawn.len(), 3);
        drawn.into_iter().for_each(|host| asked[host] += 1);
        assert_eq!(balancer.take_drawn().count(), 0, "once");
    }
    assert!(asked.iter().all(|count| *count > 5), "{asked:?}");
    for (host, load) in [(0, 50), (1, 50), (2, 0)] {
        assert!(hosts.hosts()[host].state.begin_probe(MILLI, now));
        hosts.hosts()[host].state.end_probe(ProbeOutcome::Load(load, 10 * MILLI), now);
        balancer.learn(&hosts, host, now);
    }
    assert_eq!((pick(&mut balancer), hosts.hosts()[2].state.load_source(now)), (2, LoadSource::Probed));
    balancer.learn(&hosts, 9, now);
    let mut other = Balancer::new(Policy::RoundRobin, &hosts, Stagger::ALONE);
    assert!(other.pick(&hosts, &Ask::first(now), &mut fastrand::Rng::with_seed(3)).is_ok());
    assert_eq!(other.take_drawn().count(), 0);
}

#[test]
fn response_times_share_as_ribbon_weighs_them() {
    let (hosts, now) = (set(&[1, 1, 1]), start());
    assert!(spread(&hosts, Policy::ResponseTime, now, 900).iter().all(|count| count.abs_diff(300) < 80));
    for (host, millis) in hosts.hosts().iter().zip([10, 40, 50]) {
        host.state.observe_latency(millis * MILLI, now);
    }
    // 100 less the own: 90, 60, 50 of 200.
    let picks = spread(&hosts, Policy::ResponseTime, now, 4_000);
    for (got, fair) in picks.into_iter().zip([1_800, 1_200, 1_000]) {
        assert!(got.abs_diff(fair) < 150, "{got} instead of {fair}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// With two hosts both are looked at: the choice is the smaller product.
    #[test]
    fn of_two_hosts_the_smaller_product_of_latency_and_requests_wins(
        latencies in prop::array::uniform2(1u32..1_000),
        in_flight in prop::array::uniform2(0u32..20),
        weights in prop::array::uniform2(1u32..5),
    ) {
        let (hosts, now) = (set(&weights), start());
        for index in 0..2 {
            hosts.hosts()[index].state.observe_latency(latencies[index] * MILLI, now);
            (0..in_flight[index]).for_each(|_| hosts.acquire(index));
        }
        let load = |index: usize| u64::from(latencies[index]) * u64::from(in_flight[index] + 1) * u64::from(weights[1 - index]);
        prop_assume!(load(0) != load(1));
        let best = usize::from(load(1) < load(0));
        prop_assert_eq!(spread(&hosts, Policy::PeakEwma, now, 10)[best], 10);
    }
}
