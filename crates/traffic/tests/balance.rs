//! Who is picked how often, and who never is.

use std::collections::BTreeMap;

use std::time::Instant;

use meshwright_traffic::{
    AdminState, Ask, Balancer, Host, HostSet, NoHost, Observation, OutlierDetector, OutlierPolicy, Policy, Stagger,
    TableKind,
};
use proptest::prelude::*;

const POLICIES: [Policy; 9] = [
    Policy::RoundRobin,
    Policy::LeastRequest,
    Policy::LeastRequestOfAll,
    Policy::Random,
    Policy::PeakEwma,
    Policy::ResponseTime,
    Policy::Prequal,
    Policy::ConsistentHash { table: TableKind::RING, bound: None },
    Policy::ConsistentHash { table: TableKind::Maglev { table_size: 251 }, bound: None },
];

fn dice() -> fastrand::Rng {
    fastrand::Rng::with_seed(1)
}

#[allow(clippy::disallowed_methods, reason = "any instant will do")]
fn ask(tried: &[u32]) -> Ask<'_> {
    Ask { tried, ..Ask::first(Instant::now()) }
}

fn set(weights: &[u32]) -> HostSet {
    HostSet::new(weights.iter().map(|&weight| Host::new(weight)).collect(), 0)
}

fn with_panic_threshold(hosts: HostSet, percent: u32) -> HostSet {
    HostSet::new(hosts.hosts().to_vec(), percent)
}

/// Ejects through the front door: the first error of each of `indices` is one too many.
#[allow(clippy::disallowed_methods, reason = "any instant will do")]
fn eject(hosts: &HostSet, indices: impl IntoIterator<Item = usize>) {
    let policy = OutlierPolicy { consecutive_5xx: 1, max_ejection_percent: 100, ..OutlierPolicy::default() };
    let detector = OutlierDetector::new(policy);
    for index in indices {
        detector.observe(hosts, index, Observation::Status(500), std::time::Instant::now(), &mut dice());
        assert!(hosts.hosts()[index].verdict.is_ejected());
    }
}

fn rng() -> fastrand::Rng {
    fastrand::Rng::with_seed(7)
}

fn picks(balancer: &mut Balancer, hosts: &HostSet, count: usize) -> Vec<usize> {
    let mut rng = rng();
    (0..count).map(|_| balancer.pick(hosts, &ask(&[]), &mut rng).expect("a host is available")).collect()
}

fn round_robin(hosts: &HostSet) -> Balancer {
    Balancer::new(Policy::RoundRobin, hosts, Stagger::ALONE)
}

fn counts(picks: &[usize]) -> BTreeMap<usize, usize> {
    let mut counts = BTreeMap::new();
    picks.iter().for_each(|index| *counts.entry(*index).or_default() += 1);
    counts
}

/// nginx's smooth weighted round robin as it is described, one turn at a time, over the hosts that are in.
fn smooth(weights: &[u32], out: &[bool], turns: usize) -> Vec<usize> {
    let mut credits = vec![0i128; weights.len()];
    let members: Vec<usize> = (0..weights.len()).filter(|&index| !out[index]).collect();
    let total: i128 = members.iter().map(|&index| i128::from(weights[index])).sum();
    (0..turns)
        .map(|_| {
            members.iter().for_each(|&index| credits[index] += i128::from(weights[index]));
            let richest = members.iter().copied().reduce(|a, b| if credits[b] > credits[a] { b } else { a });
            let richest = richest.expect("somebody is in");
            credits[richest] -= total;
            richest
        })
        .collect()
}

#[test]
fn weights_five_one_one_interleave_as_in_nginx() {
    let hosts = set(&[5, 1, 1]);
    assert_eq!(picks(&mut round_robin(&hosts), &hosts, 14), [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn every_window_of_n_picks_hits_each_of_n_equal_hosts_once() {
    let hosts = set(&[1; 5]);
    let picks = picks(&mut round_robin(&hosts), &hosts, 50);
    for window in picks.windows(5) {
        assert_eq!(counts(window).len(), 5, "{window:?}");
    }
}

#[test]
fn a_host_that_is_out_leaves_its_share_to_all_and_not_to_its_neighbour() {
    let hosts = set(&[1, 1, 1, 1]);
    eject(&hosts, [1]);
    let out = picks(&mut round_robin(&hosts), &hosts, 12);
    assert_eq!(out, [0, 2, 3, 0, 2, 3, 0, 2, 3, 0, 2, 3]);
    let hosts = set(&[5, 1, 1]);
    eject(&hosts, [1]);
    assert_eq!(counts(&picks(&mut round_robin(&hosts), &hosts, 60)), BTreeMap::from([(0, 50), (2, 10)]));
}

#[test]
fn workers_start_staggered_so_that_together_they_are_fair() {
    let hosts = set(&[1; 4]);
    let mut first: Vec<usize> = (0..4)
        .map(|worker| Balancer::new(Policy::RoundRobin, &hosts, Stagger { worker, workers: 4 }))
        .map(|mut balancer| picks(&mut balancer, &hosts, 1)[0])
        .collect();
    first.sort_unstable();
    assert_eq!(first, [0, 1, 2, 3]);
}

#[test]
fn workers_start_staggered_with_nearly_equal_weights_too() {
    for weights in [&[1001, 1000][..], &[40_000, 40_004], &[1_000_003, 999_999]] {
        let hosts = set(weights);
        let start = |worker| {
            let mut balancer = Balancer::new(Policy::RoundRobin, &hosts, Stagger { worker, workers: 2 });
            picks(&mut balancer, &hosts, 1)[0]
        };
        assert_ne!(start(0), start(1), "{weights:?}");
    }
}

#[test]
fn shares_stay_by_weight_when_most_draws_miss() {
    let hosts = set(&[1_000, 3, 1]);
    eject(&hosts, [0]);
    let mut balancer = Balancer::new(Policy::Random, &hosts, Stagger::ALONE);
    let share = counts(&picks(&mut balancer, &hosts, 4_000))[&1];
    assert!((2_850..=3_150).contains(&share), "{share} of 4000 instead of 3000");
}

#[test]
fn workers_stay_staggered_when_the_hosts_arrive_later() {
    let (none, hosts) = (set(&[]), set(&[1; 4]));
    let first: Vec<usize> = (0..4)
        .map(|worker| {
            let mut balancer = Balancer::new(Policy::RoundRobin, &none, Stagger { worker, workers: 4 });
            balancer.rebuild(Policy::RoundRobin, &hosts);
            picks(&mut balancer, &hosts, 1)[0]
        })
        .collect();
    assert_eq!(first, [0, 1, 2, 3]);
}

#[test]
fn a_rebuild_goes_on_where_the_rotation_was() {
    for weights in [&[1, 1, 1, 1][..], &[5, 1, 1], &[1_000_003, 999_999]] {
        let hosts = set(weights);
        let straight = picks(&mut round_robin(&hosts), &hosts, 20);
        let mut rebuilt = round_robin(&hosts);
        let mut pieces = picks(&mut rebuilt, &hosts, 3);
        rebuilt.rebuild(Policy::RoundRobin, &set(weights));
        pieces.extend(picks(&mut rebuilt, &hosts, 17));
        assert_eq!(pieces, straight, "{weights:?}");
    }
}

#[test]
fn a_rebuild_changes_the_policy() {
    let hosts = set(&[1, 1]);
    let mut balancer = round_robin(&hosts);
    assert!(!balancer.policy().needs_in_flight());
    balancer.rebuild(Policy::LeastRequest, &hosts);
    assert_eq!(balancer.policy(), Policy::LeastRequest);
    assert!(balancer.policy().needs_in_flight());
}

#[test]
fn a_set_that_changed_under_the_balancer_is_no_reason_to_fail() {
    let (many, few) = (set(&[1, 2, 3, 4]), set(&[3, 2]));
    let (large, small) = (set(&[1_000_003, 5, 7]), set(&[1_000_003, 1]));
    for (before, after) in [(&many, &few), (&few, &many), (&large, &small), (&small, &large), (&many, &small)] {
        let mut balancer = round_robin(before);
        picks(&mut balancer, before, 5);
        assert!(picks(&mut balancer, after, 30).iter().all(|&index| index < after.hosts().len()));
    }
}

#[test]
fn first_tries_keep_their_rotation_whatever_is_retried() {
    let hosts = set(&[1, 1]);
    let mut balancer = round_robin(&hosts);
    let mut rng = rng();
    for turn in 0..10 {
        let first = balancer.pick(&hosts, &ask(&[]), &mut rng).expect("there are hosts");
        assert_eq!(first, turn % 2);
        assert_eq!(balancer.pick(&hosts, &ask(&[first as u32]), &mut rng), Ok(1 - first));
    }
}

#[test]
fn a_host_that_was_tried_is_picked_again_only_when_nothing_else_is_left() {
    for policy in POLICIES {
        let hosts = set(&[50, 1, 1]);
        let mut balancer = Balancer::new(policy, &hosts, Stagger::ALONE);
        let mut rng = rng();
        for _ in 0..50 {
            assert_eq!(balancer.pick(&hosts, &ask(&[0, 2]), &mut rng), Ok(1), "{policy:?}");
        }
        assert!(balancer.pick(&hosts, &ask(&[0, 1, 2]), &mut rng).is_ok());
        eject(&hosts, [1]);
        assert_eq!(balancer.pick(&hosts, &ask(&[0, 2]), &mut rng).map(|index| index != 1), Ok(true), "{policy:?}");
    }
}

#[test]
fn without_any_available_host_there_is_no_pick() {
    for policy in POLICIES {
        let hosts = set(&[1, 2]);
        let mut balancer = Balancer::new(policy, &hosts, Stagger::ALONE);
        eject(&hosts, [0, 1]);
        assert_eq!(balancer.pick(&hosts, &ask(&[]), &mut rng()), Err(NoHost::Unhealthy));
        assert_eq!(
            Balancer::new(policy, &set(&[]), Stagger::ALONE).pick(&set(&[]), &ask(&[]), &mut rng()),
            Err(NoHost::Unhealthy)
        );
    }
}

#[test]
fn in_panic_ejection_is_ignored_but_an_operators_word_is_not() {
    for policy in POLICIES {
        let hosts = with_panic_threshold(set(&[1, 1, 1, 1]), 50);
        hosts.hosts()[3].state.set_admin(AdminState::Disabled);
        eject(&hosts, [0, 1]);
        let mut balancer = Balancer::new(policy, &hosts, Stagger::ALONE);
        let spread = counts(&picks(&mut balancer, &hosts, 300));
        assert_eq!(spread.keys().copied().collect::<Vec<_>>(), [0, 1, 2], "{policy:?}");
        assert!(spread.values().all(|&count| count > 60), "{policy:?}: {spread:?}");
    }
}

#[test]
fn hosts_that_operators_took_out_are_not_ill() {
    let hosts = with_panic_threshold(set(&[1; 10]), 50);
    hosts.hosts()[..6].iter().for_each(|host| host.state.set_admin(AdminState::Draining));
    eject(&hosts, [6, 7]);
    let mut balancer = Balancer::new(Policy::Random, &hosts, Stagger::ALONE);
    assert_eq!(counts(&picks(&mut balancer, &hosts, 100)).len(), 2, "two healthy of four are enough");
    eject(&hosts, [8]);
    assert_eq!(counts(&picks(&mut balancer, &hosts, 100)).len(), 4, "one healthy of four is not");
}

#[test]
fn at_the_threshold_ejection_still_counts() {
    for policy in POLICIES {
        let hosts = with_panic_threshold(set(&[1, 1, 1, 1]), 50);
        eject(&hosts, [0, 1]);
        let mut balancer = Balancer::new(policy, &hosts, Stagger::ALONE);
        assert!(picks(&mut balancer, &hosts, 100).iter().all(|&index| index >= 2), "{policy:?}");
    }
}

#[test]
fn idle_hosts_get_their_weights_under_every_policy() {
    for policy in POLICIES {
        let hosts = set(&[3, 1]);
        let mut balancer = Balancer::new(policy, &hosts, Stagger::ALONE);
        let share = counts(&picks(&mut balancer, &hosts, 4_000))[&0];
        assert!((2_850..=3_150).contains(&share), "{policy:?}: {share} of 4000 instead of 3000");
    }
}

#[test]
fn least_request_goes_to_the_less_loaded_of_two() {
    let hosts = set(&[1, 1]);
    (0..3).for_each(|_| hosts.hosts()[0].state.acquire());
    let mut balancer = Balancer::new(Policy::LeastRequest, &hosts, Stagger::ALONE);
    assert!(picks(&mut balancer, &hosts, 50).iter().all(|&index| index == 1));
}

#[test]
fn of_few_hosts_the_least_loaded_is_taken_and_of_many_when_all_are_compared() {
    for (count, policy) in [(4, Policy::LeastRequest), (100, Policy::LeastRequestOfAll)] {
        let hosts = set(&vec![1; count]);
        (0..count).filter(|index| *index != 2).for_each(|index| hosts.hosts()[index].state.acquire());
        let mut balancer = Balancer::new(policy, &hosts, Stagger::ALONE);
        assert!(picks(&mut balancer, &hosts, 50).iter().all(|&index| index == 2));
    }
}

#[test]
fn least_request_fills_hosts_by_their_weights() {
    let hosts = set(&[4, 2, 1, 1]);
    let mut balancer = Balancer::new(Policy::LeastRequest, &hosts, Stagger::ALONE);
    let mut rng = rng();
    for _ in 0..800 {
        let index = balancer.pick(&hosts, &ask(&[]), &mut rng).expect("there are hosts");
        hosts.hosts()[index].state.acquire();
    }
    for host in hosts.hosts() {
        let (load, fair) = (host.state.in_flight(), host.weight * 100);
        assert!(load.abs_diff(fair) <= 10, "{load} in flight where {fair} would be fair");
    }
}

/// Small weights, and large ones whose rotation is too long to lay out.
fn any_weights() -> impl Strategy<Value = Vec<u32>> {
    prop_oneof![
        prop::collection::vec(1u32..20, 1..12),
        prop::collection::vec(1u32..=1, 1..12),
        prop::collection::vec(10_000u32..1_000_000, 2..6),
        prop::collection::vec(any::<u32>(), 1..6),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn round_robin_is_smooth_weighted_round_robin(weights in any_weights(), turns in 1usize..200) {
        let hosts = set(&weights);
        let weights: Vec<u32> = weights.into_iter().map(|weight| weight.max(1)).collect();
        let all_in = vec![false; weights.len()];
        prop_assert_eq!(picks(&mut round_robin(&hosts), &hosts, turns), smooth(&weights, &all_in, turns));
    }

    /// Requests come to workers at random, and every so often everything is rebuilt.
    #[test]
    fn round_robin_is_fair_to_one_percent_over_ten_thousand_requests_of_eight_workers(
        hosts in 2usize..=10,
        seed in any::<u64>(),
        rebuild_every in 50usize..5_000,
    ) {
        let set = || set(&vec![1; hosts]);
        let mut current = set();
        let mut rng = fastrand::Rng::with_seed(seed);
        let stagger = |worker| Stagger { worker, workers: 8 };
        let mut workers: Vec<Balancer> =
            (0..8).map(|worker| Balancer::new(Policy::RoundRobin, &current, stagger(worker))).collect();
        let mut picks = vec![0usize; hosts];
        for request in 0..10_000 {
            if request % rebuild_every == 0 {
                current = set();
                workers.iter_mut().for_each(|worker| worker.rebuild(Policy::RoundRobin, &current));
            }
            let worker = rng.usize(..8);
            picks[workers[worker].pick(&current, &ask(&[]), &mut rng).expect("there are hosts")] += 1;
        }
        let fair = 10_000.0 / hosts as f64;
        prop_assert!(picks.iter().all(|&count| (count as f64 / fair - 1.0).abs() <= 0.01), "{:?}", picks);
    }

    #[test]
    fn whoever_is_out_the_others_keep_their_shares(
        weights in prop::collection::vec(1u32..20, 2..10),
        out in prop::collection::vec(any::<bool>(), 10),
        stagger in 0usize..7,
    ) {
        let hosts = set(&weights);
        let out: Vec<usize> = (0..weights.len()).filter(|&index| out[index]).collect();
        eject(&hosts, out.iter().copied());
        let members = (0..weights.len()).filter(|index| !out.contains(index));
        let total: u32 = members.clone().map(|index| weights[index]).sum();
        prop_assume!(total > 0);
        let mut balancer = Balancer::new(Policy::RoundRobin, &hosts, Stagger { worker: stagger, workers: 7 });
        let rounds = 3;
        let picked = counts(&picks(&mut balancer, &hosts, rounds * total as usize));
        let fair: BTreeMap<usize, usize> = members.map(|index| (index, rounds * weights[index] as usize)).collect();
        prop_assert_eq!(picked, fair);
    }

    #[test]
    fn a_computed_rotation_skips_as_a_smooth_one_without_those_hosts(
        weights in prop::collection::vec(10_000u32..1_000_000, 2..6),
        out in 0usize..6,
    ) {
        let hosts = set(&weights);
        let out: Vec<bool> = (0..weights.len()).map(|index| index == out).collect();
        eject(&hosts, (0..weights.len()).filter(|&index| out[index]));
        prop_assert_eq!(picks(&mut round_robin(&hosts), &hosts, 60), smooth(&weights, &out, 60));
    }

    #[test]
    fn workers_with_long_rotations_are_fair_together(weights in prop::collection::vec(10_000u32..100_000, 2..6)) {
        let hosts = set(&weights);
        let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
        let (workers, turns) = (4, 50);
        let mut all = Vec::new();
        for worker in 0..workers {
            let mut balancer = Balancer::new(Policy::RoundRobin, &hosts, Stagger { worker, workers });
            all.extend(picks(&mut balancer, &hosts, turns));
        }
        let counts = counts(&all);
        for (index, &weight) in weights.iter().enumerate() {
            let fair = f64::from(weight) / total * (workers * turns) as f64;
            let got = counts.get(&index).copied().unwrap_or(0) as f64;
            prop_assert!((got - fair).abs() <= 2.0 * workers as f64, "host {index}: {got} instead of {fair}");
        }
    }

    #[test]
    fn nobody_unavailable_or_tried_is_picked_while_somebody_else_can_be(
        weights in prop::collection::vec(1u32..100, 1..12),
        state in prop::collection::vec((any::<bool>(), prop::bool::weighted(0.2), any::<bool>(), 0u32..4), 12),
        policy in prop::sample::select(&POLICIES[..]),
        seed in any::<u64>(),
    ) {
        let hosts = set(&weights);
        let ill = (0..weights.len()).filter(|&index| state[index].0);
        eject(&hosts, ill);
        for (host, (_, disabled, _, in_flight)) in hosts.hosts().iter().zip(&state) {
            if *disabled {
                host.state.set_admin(AdminState::Disabled);
            }
            (0..*in_flight).for_each(|_| host.state.acquire());
        }
        let tried: Vec<u32> = (0u32..).zip(&state).take(weights.len()).filter(|(_, s)| s.2).map(|(i, _)| i).collect();
        let available = |index: &usize| hosts.hosts()[*index].is_available();
        let any_available = (0..weights.len()).any(|index| available(&index));
        let any_untried = (0..weights.len()).any(|index| available(&index) && !tried.contains(&(index as u32)));
        let mut balancer = Balancer::new(policy, &hosts, Stagger::ALONE);
        let mut rng = fastrand::Rng::with_seed(seed);
        for _ in 0..20 {
            match balancer.pick(&hosts, &ask(&tried), &mut rng) {
                Err(_) => prop_assert!(!any_available),
                Ok(index) => {
                    prop_assert!(available(&index));
                    prop_assert!(!any_untried || !tried.contains(&(index as u32)));
                }
            }
        }
    }
}
