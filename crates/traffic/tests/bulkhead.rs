//! A bulkhead for each host: never more than it allows, nobody refused while there is room, no place lost.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use meshwright_traffic::{
    AdminState, Ask, Balancer, Bulkhead, Group, Host, HostSet, InFlight, NoHost, Policy, Stagger, TableKind,
};
use proptest::prelude::*;

const POLICIES: [Policy; 8] = [
    Policy::RoundRobin,
    Policy::LeastRequest,
    Policy::LeastRequestOfAll,
    Policy::Random,
    Policy::PeakEwma,
    Policy::ResponseTime,
    Policy::Prequal,
    Policy::ConsistentHash { table: TableKind::Maglev { table_size: 251 }, bound: Some(125) },
];

#[allow(clippy::disallowed_methods, reason = "any instant will do")]
fn now() -> Instant {
    Instant::now()
}

fn set(hosts: usize, max_requests: u32, observe: bool) -> HostSet {
    let names = (0..hosts).map(|index| index.to_string()).collect();
    let hosts = HostSet::new((0..hosts).map(|_| Host::new(1)).collect(), 0);
    let hosts = hosts.with_names(names).with_in_flight(Some(InFlight::default()));
    hosts.with_bulkhead(Some(Bulkhead { max_requests, observe }))
}

/// What one worker does for a request: pick until a place is taken, or nobody has one.
fn enter(balancer: &mut Balancer, hosts: &HostSet, ask: &Ask<'_>, rng: &mut fastrand::Rng) -> Result<usize, NoHost> {
    loop {
        let host = balancer.pick(hosts, ask, rng)?;
        if hosts.try_acquire(host) {
            return Ok(host);
        }
    }
}

#[test]
fn a_full_host_is_passed_over_and_a_service_of_full_hosts_says_so() {
    for policy in POLICIES {
        let hosts = set(3, 2, false);
        let (mut balancer, mut rng) = (Balancer::new(policy, &hosts, Stagger::ALONE), fastrand::Rng::with_seed(1));
        let ask = Ask { hash: Some(7), ..Ask::first(now()) };
        let taken: Vec<usize> =
            (0..6).map(|_| enter(&mut balancer, &hosts, &ask, &mut rng).expect("there is room")).collect();
        assert!((0..3).all(|host| hosts.hosts()[host].state.in_flight() == 2), "{policy:?}: {taken:?}");
        assert!(hosts.is_full() && hosts.full() == 3);
        assert_eq!(balancer.pick(&hosts, &ask, &mut rng), Err(NoHost::Full), "{policy:?}");
        hosts.release(1);
        assert_eq!(enter(&mut balancer, &hosts, &ask, &mut rng), Ok(1), "{policy:?}");
        for host in [0, 1, 2] {
            hosts.hosts()[host].state.set_admin(AdminState::Disabled);
        }
        assert_eq!(balancer.pick(&hosts, &ask, &mut rng), Err(NoHost::Unhealthy), "{policy:?}");
    }
}

#[test]
fn what_the_near_hosts_have_no_place_for_goes_to_the_far_ones() {
    let groups = [(0, vec![0]), (1, vec![1])];
    let groups = groups.map(|(priority, hosts)| Group { priority, weight: 1, hosts });
    let hosts = set(2, 1, false).with_groups(&groups);
    let (mut balancer, mut rng) = (Balancer::new(Policy::Random, &hosts, Stagger::ALONE), fastrand::Rng::with_seed(3));
    let ask = Ask::first(now());
    let order = [(); 3].map(|()| enter(&mut balancer, &hosts, &ask, &mut rng));
    assert_eq!(order, [Ok(0), Ok(1), Err(NoHost::Full)]);
}

#[test]
fn a_session_goes_elsewhere_while_its_host_is_full() {
    let hosts = set(2, 1, false);
    let (mut balancer, mut rng) = (Balancer::new(Policy::Random, &hosts, Stagger::ALONE), fastrand::Rng::with_seed(3));
    let ask = Ask { session: hosts.id(1), ..Ask::first(now()) };
    assert_eq!([(); 2].map(|()| enter(&mut balancer, &hosts, &ask, &mut rng)), [Ok(1), Ok(0)]);
}

#[test]
fn a_bulkhead_that_observes_passes_nobody_over_and_tells_who_is_full() {
    let hosts = set(1, 1, true);
    let (mut balancer, mut rng) = (Balancer::new(Policy::Random, &hosts, Stagger::ALONE), fastrand::Rng::with_seed(3));
    assert!(!hosts.is_full());
    for in_flight in 1..=3 {
        assert_eq!(enter(&mut balancer, &hosts, &Ask::first(now()), &mut rng), Ok(0));
        assert_eq!((hosts.is_full(), hosts.full(), hosts.hosts()[0].state.in_flight()), (true, 1, in_flight));
    }
}

#[test]
fn workers_that_race_never_exceed_it_and_leave_nothing_behind() {
    let (hosts, most) = (set(3, 2, false), AtomicU32::new(0));
    let held: [AtomicU32; 3] = Default::default();
    let (entered, refused) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let (hosts, held, most, entered, refused) = (&hosts, &held, &most, &entered, &refused);
            scope.spawn(move || {
                let policy = POLICIES[worker % POLICIES.len()];
                let mut balancer = Balancer::new(policy, hosts, Stagger { worker, workers: 8 });
                let mut rng = fastrand::Rng::with_seed(worker as u64);
                for turn in 0..1_000 {
                    let ask = Ask { hash: Some(turn), ..Ask::first(now()) };
                    match enter(&mut balancer, hosts, &ask, &mut rng) {
                        Ok(host) => {
                            most.fetch_max(held[host].fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            std::thread::yield_now();
                            held[host].fetch_sub(1, Ordering::SeqCst);
                            hosts.release(host);
                            entered.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(NoHost::Full) => drop(refused.fetch_add(1, Ordering::Relaxed)),
                        Err(NoHost::Unhealthy) => panic!("all hosts are healthy"),
                    }
                }
            });
        }
    });
    assert!(most.into_inner() <= 2);
    assert!(entered.load(Ordering::Relaxed) >= 1_000, "a worker alone always gets in");
    assert_eq!(entered.into_inner() + refused.into_inner(), 8_000);
    assert!((0..3).all(|host| hosts.hosts()[host].state.in_flight() == 0));
    assert_eq!(hosts.in_flight().map(InFlight::count), Some(0));
}

#[derive(Clone, Debug)]
enum Step {
    /// A request begins; hosts with a bit set were tried.
    Begin(u8),
    /// A request ends, whether with an answer or because its client went away.
    End(prop::sample::Index),
    /// An operator takes a host out, or in again.
    Turn(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<u8>().prop_map(Step::Begin),
        2 => any::<prop::sample::Index>().prop_map(Step::End),
        1 => (0u8..4).prop_map(Step::Turn),
    ]
}

proptest! {
    #[test]
    fn a_request_is_refused_only_when_every_host_that_could_have_it_is_full(
        steps in prop::collection::vec(step(), 1..80),
        count in 1usize..5,
        max in 1u32..4,
        policy in prop::sample::select(&POLICIES[..]),
        seed in any::<u64>(),
    ) {
        let hosts = set(count, max, false);
        let (mut balancer, mut rng) = (Balancer::new(policy, &hosts, Stagger::ALONE), fastrand::Rng::with_seed(seed));
        let mut running: Vec<usize> = Vec::new();
        let mut out = vec![false; count];
        for step in steps {
            match step {
                Step::Begin(tried) => {
                    let tried: Vec<u32> = (0..count as u32).filter(|host| tried >> host & 1 == 1).collect();
                    let ask = Ask { tried: &tried, hash: Some(rng.u64(..)), ..Ask::first(now()) };
                    let room = |host: usize| running.iter().filter(|other| **other == host).count() < max as usize;
                    let expected = (0..count).filter(|host| !out[*host] && room(*host));
                    let untried = expected.clone().any(|host| !tried.contains(&(host as u32)));
                    let expected: Vec<usize> =
                        expected.filter(|host| !untried || !tried.contains(&(*host as u32))).collect();
                    match enter(&mut balancer, &hosts, &ask, &mut rng) {
                        Ok(host) => {
                            prop_assert!(expected.contains(&host), "{host} is none of {expected:?}");
                            running.push(host);
                        }
                        Err(why) => {
                            prop_assert!(expected.is_empty());
                            prop_assert_eq!(why == NoHost::Full, out.contains(&false));
                        }
                    }
                }
                Step::End(which) if !running.is_empty() => {
                    let host = running.swap_remove(which.index(running.len()));
                    hosts.release(host);
                }
                Step::End(_) => {}
                Step::Turn(host) => {
                    let host = host as usize % count;
                    out[host] = !out[host];
                    let word = if out[host] { AdminState::Disabled } else { AdminState::Enabled };
                    hosts.hosts()[host].state.set_admin(word);
                }
            }
            for (index, host) in hosts.hosts().iter().enumerate() {
                let expected = running.iter().filter(|other| **other == index).count();
                prop_assert_eq!(host.state.in_flight() as usize, expected);
                prop_assert!(expected <= max as usize);
            }
        }
    }
}
