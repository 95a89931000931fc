//! Who is near, who is the fallback, and how load moves between them.

use std::time::{Duration, Instant};

use meshwright_traffic::{
    AdminState, Ask, Balancer, Distribution, Failover, Group, Host, HostSet, Labels, LocalityRule, Observation,
    OutlierDetector, OutlierPolicy, Place, Policy, Stagger, Warmup,
};
use proptest::prelude::*;

fn dice() -> fastrand::Rng {
    fastrand::Rng::with_seed(1)
}

#[allow(clippy::disallowed_methods, reason = "any instant will do")]
fn start() -> Instant {
    Instant::now()
}

/// Groups as (priority, weight, hosts).
fn groups(rule: &LocalityRule, client: &str, hosts: &[&str]) -> Option<Vec<(u32, u32, Vec<u32>)>> {
    let labels = Labels::new();
    let place = |locality| Place { locality, labels: &labels, weight: 1 };
    let hosts: Vec<Place<'_>> = hosts.iter().map(|locality| place(*locality)).collect();
    let groups = rule.groups(&place(client), &hosts)?;
    Some(groups.into_iter().map(|group| (group.priority, group.weight, group.hosts)).collect())
}

fn failover() -> LocalityRule {
    LocalityRule::Failover(Failover::default())
}

#[test]
fn the_nearest_come_first_and_empty_levels_are_closed_up() {
    let hosts = ["eu/a/1", "eu/a/2", "eu/b/1", "us/a/1", "", "eu/a/1"];
    let expected = vec![(0, 1, vec![0, 5]), (1, 1, vec![1]), (2, 1, vec![2]), (3, 1, vec![3, 4])];
    assert_eq!(groups(&failover(), "eu/a/1", &hosts), Some(expected));
    let expected = vec![(0, 1, vec![3]), (1, 1, vec![0, 1, 2, 4, 5])];
    assert_eq!(groups(&failover(), "us/a/1", &hosts), Some(expected));
    assert_eq!(groups(&failover(), "", &hosts), None, "an unknown place is near to nothing");
}

#[test]
fn a_region_can_name_the_one_that_stands_in_for_it() {
    let regions = vec![("eu".to_owned(), "us".to_owned())];
    let rule = LocalityRule::Failover(Failover { regions, labels: Vec::new() });
    let expected = vec![(0, 1, vec![0]), (1, 1, vec![2]), (2, 1, vec![1])];
    assert_eq!(groups(&rule, "eu/a", &["eu/a", "asia/a", "us/a"]), Some(expected));
    let expected = vec![(0, 1, vec![1]), (1, 1, vec![0, 2])];
    assert_eq!(groups(&rule, "asia/a", &["eu/a", "asia/a", "us/a"]), Some(expected));
}

#[test]
fn labels_order_endpoints_by_how_many_they_share_from_the_first_on() {
    let labels = |pairs: &[(&str, &str)]| -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let rule = LocalityRule::Failover(Failover {
        regions: Vec::new(),
        labels: vec!["rack".to_owned(), "topology.kubernetes.io/zone".to_owned(), "version=v2".to_owned()],
    });
    let own = labels(&[("rack", "r1")]);
    let of = [
        labels(&[("rack", "r1"), ("version", "v2")]),
        labels(&[("rack", "r1"), ("version", "v1")]),
        labels(&[("rack", "r2"), ("version", "v2")]),
        labels(&[("rack", "r1"), ("version", "v2")]),
    ];
    let localities = ["eu/a", "eu/a", "eu/a", "eu/b"];
    let hosts: Vec<Place<'_>> =
        of.iter().zip(localities).map(|(labels, locality)| Place { locality, labels, weight: 1 }).collect();
    let client = Place { locality: "eu/a", labels: &own, weight: 1 };
    let found: Vec<Vec<u32>> = rule.groups(&client, &hosts).unwrap().into_iter().map(|group| group.hosts).collect();
    assert_eq!(found, [vec![0], vec![1], vec![3], vec![2]]);
}

#[test]
fn fixed_shares_go_to_the_first_pattern_and_what_none_covers_gets_nothing() {
    let rule = LocalityRule::Distribute(vec![Distribution {
        from: "eu/a/*".to_owned(),
        to: vec![("eu/a/*".to_owned(), 80), ("eu/b".to_owned(), 20), ("asia/*".to_owned(), 5)],
    }]);
    let hosts = ["eu/a/1", "eu/a/2", "eu/b/1", "us/a/1"];
    assert_eq!(groups(&rule, "eu/a/9", &hosts), Some(vec![(0, 80, vec![0, 1]), (0, 20, vec![2])]));
    assert_eq!(groups(&rule, "us/a/1", &hosts), None);
}

#[test]
fn a_zone_keeps_its_requests_as_far_as_it_can_carry_them() {
    let rule = |minimum_hosts| LocalityRule::ZoneAware { minimum_hosts, failover: Failover::default() };
    let even = ["eu/a", "eu/a", "eu/b", "eu/b", "us/a", "us/a"];
    let expected = vec![(0, 10_000, vec![0, 1]), (1, 1, vec![2, 3]), (2, 1, vec![4, 5])];
    assert_eq!(groups(&rule(6), "eu/a", &even), Some(expected));
    assert_eq!(groups(&rule(7), "eu/a", &even), None, "too few");
    // Zone a has one of six endpoints where a third would be fair: half of its requests go elsewhere, to c, which has more.
    let uneven = ["eu/a", "eu/b", "eu/b", "eu/c", "eu/c", "eu/c"];
    let expected = vec![(0, 5_000, vec![0]), (0, 5_000, vec![3, 4, 5]), (1, 1, vec![1, 2])];
    assert_eq!(groups(&rule(6), "eu/a", &uneven), Some(expected));
}

fn set(groups: &[(u32, u32, usize)], panic_percent: u32) -> HostSet {
    let mut hosts = Vec::new();
    let groups: Vec<Group> = groups
        .iter()
        .map(|&(priority, weight, count)| {
            let first = hosts.len() as u32;
            hosts.extend((0..count).map(|_| Host::new(1)));
            Group { priority, weight, hosts: (first..first + count as u32).collect() }
        })
        .collect();
    HostSet::new(hosts, panic_percent).with_groups(&groups)
}

fn eject(hosts: &HostSet, indices: impl IntoIterator<Item = usize>) {
    let policy = OutlierPolicy { consecutive_5xx: 1, max_ejection_percent: 100, ..OutlierPolicy::default() };
    let detector = OutlierDetector::new(policy);
    for index in indices {
        detector.observe(hosts, index, Observation::Status(500), start(), &mut dice());
    }
}

/// Picks by host, of `count` in all.
fn spread(hosts: &HostSet, policy: Policy, count: usize) -> Vec<usize> {
    let mut balancer = Balancer::new(policy, hosts, Stagger::ALONE);
    let mut rng = fastrand::Rng::with_seed(3);
    let mut picks = vec![0; hosts.hosts().len()];
    for _ in 0..count {
        let index = balancer.pick(hosts, &Ask::first(start()), &mut rng).expect("somebody is available");
        picks[index] += 1;
    }
    picks
}

#[test]
fn the_next_priority_gets_what_the_first_cannot_carry() {
    let hosts = set(&[(0, 1, 10), (1, 1, 10)], 0);
    let first = |hosts: &HostSet| spread(hosts, Policy::RoundRobin, 1000)[..10].iter().sum::<usize>();
    assert_eq!(first(&hosts), 1000);
    eject(&hosts, 0..2);
    assert_eq!(first(&hosts), 1000, "eight of ten can carry everything");
    eject(&hosts, 2..5);
    assert_eq!(first(&hosts), 700, "five of ten carry 1.4 x half");
    eject(&hosts, 5..10);
    assert_eq!(first(&hosts), 0);
    eject(&hosts, 10..20);
    let nobody = Balancer::new(Policy::RoundRobin, &hosts, Stagger::ALONE).pick(
        &hosts,
        &Ask::first(start()),
        &mut fastrand::Rng::with_seed(1),
    );
    assert!(nobody.is_err());
}

#[test]
fn with_several_priorities_there_is_panic_only_when_all_together_cannot_carry_the_load() {
    let hosts = set(&[(0, 1, 10), (1, 1, 10)], 50);
    eject(&hosts, 0..9);
    let picks = spread(&hosts, Policy::Random, 2000);
    assert!(picks[..9].iter().all(|count| *count == 0), "the second priority carries the rest: {picks:?}");
    eject(&hosts, 10..16);
    let picks = spread(&hosts, Policy::Random, 4000);
    assert!(picks.iter().all(|count| *count > 0), "14 + 56 percent are less than everything: {picks:?}");
}

#[test]
fn localities_share_by_their_weights_and_by_their_health() {
    let hosts = set(&[(0, 80, 4), (0, 20, 4)], 0);
    for policy in [Policy::RoundRobin, Policy::LeastRequest, Policy::Random] {
        let picks = spread(&hosts, policy, 1000);
        assert_eq!(picks[..4].iter().sum::<usize>(), 800, "{policy:?}");
    }
    eject(&hosts, 0..2);
    let picks = spread(&hosts, Policy::RoundRobin, 1520);
    // 80 x 0.7 to 20.
    assert_eq!(picks[..4].iter().sum::<usize>(), 1120);
}

#[test]
fn a_retry_leaves_its_locality_when_everybody_there_was_tried() {
    let hosts = set(&[(0, 1, 2), (1, 1, 1)], 0);
    let mut balancer = Balancer::new(Policy::LeastRequest, &hosts, Stagger::ALONE);
    let ask = Ask { tried: &[0, 1], ..Ask::first(start()) };
    assert_eq!(balancer.pick(&hosts, &ask, &mut fastrand::Rng::with_seed(1)), Ok(2));
}

#[test]
fn a_new_host_warms_up_and_hosts_that_are_all_new_do_not_wait_for_each_other() {
    let warmup = Warmup { window: Duration::from_secs(100), minimum_percent: 10.0, aggression: 1.0 };
    for policy in [Policy::RoundRobin, Policy::Random] {
        let begun = start();
        let mut rng = fastrand::Rng::with_seed(5);
        let before = HostSet::new(vec![Host::new(1)], 0).with_warmup(Some(warmup));
        let mut balancer = Balancer::new(policy, &before, Stagger::ALONE);
        assert!(balancer.pick(&before, &Ask::first(begun), &mut rng).is_ok());
        let mut hosts = before.hosts().to_vec();
        hosts.push(Host::new(1));
        let after = HostSet::new(hosts, 0).with_warmup(Some(warmup));
        balancer.rebuild(policy, &after);
        let mut share = |seconds: u64| {
            let ask = Ask::first(begun + Duration::from_secs(1_000 + seconds));
            (0..4000).filter(|_| balancer.pick(&after, &ask, &mut rng) == Ok(1)).count()
        };
        // Weights 1 : 0.1, 1 : 0.5, 1 : 1 of 4000.
        for (seconds, fair) in [(0, 364), (50, 1333), (100, 2000)] {
            let got = share(seconds);
            assert!(got.abs_diff(fair) < 150, "{policy:?} after {seconds} s: {got} instead of {fair}");
        }
    }
}

#[test]
fn a_host_that_comes_back_from_an_ejection_warms_up_again() {
    let warmup = Warmup { window: Duration::from_secs(100), minimum_percent: 0.0, aggression: 1.0 };
    let hosts = HostSet::new(vec![Host::new(1), Host::new(1)], 0).with_warmup(Some(warmup));
    let mut balancer = Balancer::new(Policy::RoundRobin, &hosts, Stagger::ALONE);
    let (begun, mut rng) = (start(), fastrand::Rng::with_seed(5));
    assert!(balancer.pick(&hosts, &Ask::first(begun), &mut rng).is_ok());
    let policy = OutlierPolicy { consecutive_5xx: 1, max_ejection_percent: 100, ..OutlierPolicy::default() };
    let detector = OutlierDetector::new(policy);
    let back = begun + Duration::from_secs(1_000);
    detector.observe(&hosts, 1, Observation::Status(500), back - Duration::from_secs(60), &mut dice());
    detector.sweep(&hosts, back, &mut dice());
    let mut share = |seconds: u64| {
        let ask = Ask::first(back + Duration::from_secs(seconds));
        (0..1000).filter(|_| balancer.pick(&hosts, &ask, &mut rng) == Ok(1)).count()
    };
    assert_eq!(share(0), 0);
    assert!(share(25).abs_diff(200) < 60);
    assert_eq!(share(100), 500);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Also when nobody is warm yet: then those who are warmer do not get more than their part, and whoever comes first in a
    /// rotation is not favoured.
    #[test]
    fn hosts_that_warm_up_share_by_weight_and_warmth(
        hosts in prop::collection::vec((1u32..4, 0u64..500), 2..6),
        later in 0u64..300,
        minimum_percent in prop::sample::select(vec![1.0, 10.0, 50.0]),
        policy in prop::sample::select(vec![Policy::RoundRobin, Policy::Random, Policy::LeastRequest]),
        seed: u64,
    ) {
        const PICKS: usize = 2_000;
        let warmup = Warmup { window: Duration::from_secs(600), minimum_percent, aggression: 1.0 };
        let (begun, mut rng) = (start(), fastrand::Rng::with_seed(seed));
        let mut hosts = hosts;
        hosts.sort_by_key(|(_, joined)| *joined);
        let mut set = HostSet::new(Vec::new(), 0);
        let mut balancer = Balancer::new(policy, &set, Stagger::ALONE);
        for (weight, joined) in &hosts {
            let mut all = set.hosts().to_vec();
            all.push(Host::new(*weight));
            set = HostSet::new(all, 0).with_warmup(Some(warmup));
            balancer.rebuild(policy, &set);
            prop_assert!(balancer.pick(&set, &Ask::first(begun + Duration::from_secs(*joined)), &mut rng).is_ok());
        }
        let at = hosts.iter().map(|(_, joined)| joined).max().expect("two") + later;
        let parts: Vec<f64> = hosts
            .iter()
            .map(|(weight, joined)| f64::from(*weight) * ((at - joined) as f64 / 600.0).clamp(minimum_percent / 100.0, 1.0))
            .collect();
        let mut picks = vec![0usize; hosts.len()];
        for _ in 0..PICKS {
            let picked = balancer.pick(&set, &Ask::first(begun + Duration::from_secs(at)), &mut rng);
            picks[picked.expect("all are available")] += 1;
        }
        for (got, part) in picks.iter().zip(&parts) {
            let share = part / parts.iter().sum::<f64>();
            let fair = PICKS as f64 * share;
            let spread = (fair * (1.0 - share)).sqrt();
            prop_assert!((*got as f64 - fair).abs() < 6.0 * spread + 5.0, "{picks:?} of parts {parts:?}");
        }
    }

    /// Envoy's documented arithmetic, as slowly as possible.
    #[test]
    fn priorities_share_as_documented(
        sizes in prop::collection::vec((1usize..8, 0usize..8, 0usize..3), 1..5),
    ) {
        let levels: Vec<(u32, u32, usize)> = (0u32..).zip(&sizes).map(|(level, size)| (level, 1, size.0)).collect();
        let hosts = set(&levels, 0);
        let mut first = 0;
        let mut health = Vec::new();
        for (size, ill, drained) in &sizes {
            let drained = (*drained).min(*size);
            let ill = (*ill).min(size - drained);
            (first..first + drained).for_each(|index| hosts.hosts()[index].state.set_admin(AdminState::Draining));
            eject(&hosts, first + drained..first + drained + ill);
            let enabled = size - drained;
            health.push((140 * (enabled - ill)).checked_div(enabled).unwrap_or(0).min(100));
            first += size;
        }
        let total: usize = health.iter().sum();
        prop_assume!(total > 0);
        let mut left = 1.0f64;
        let picks = spread(&hosts, Policy::RoundRobin, 2000);
        let mut begin = 0;
        for (level, health) in sizes.iter().zip(health) {
            let load = (health as f64 / (total.min(100)) as f64).min(left);
            left -= load;
            let got: usize = picks[begin..begin + level.0].iter().sum();
            prop_assert!((got as f64 - 2000.0 * load).abs() <= 5.0, "{} instead of {}", got, 2000.0 * load);
            begin += level.0;
        }
    }
}
