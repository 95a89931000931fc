//! Hosts that refuse connections, in simulated time: out at once, never the last, in again when one can be made.

#![allow(clippy::disallowed_methods, reason = "any instant will do as the start")]

use std::time::{Duration, Instant};

use meshwright_traffic::{
    AdminState, Comeback, EjectionCause, EjectionKind, EjectionRefusal, Host, HostSet, Observation, OutlierDetector,
    OutlierEvent, OutlierPolicy, Unreachable, UnreachableDetector, UnreachablePolicy,
};
use proptest::prelude::*;

const REFUSED: EjectionCause = EjectionCause::Unreachable(Unreachable::Refused);

fn set(hosts: usize) -> HostSet {
    HostSet::new((0..hosts).map(|_| Host::new(1)).collect(), 0)
}

fn rng() -> fastrand::Rng {
    fastrand::Rng::with_seed(5)
}

fn detector(max_ejection_percent: u32) -> UnreachableDetector {
    let policy = UnreachablePolicy { max_ejection_percent, ..UnreachablePolicy::default() };
    UnreachableDetector::new(policy, Default::default())
}

/// A refused connection that takes the host out.
fn away(detector: &UnreachableDetector, hosts: &HostSet, index: usize, now: Instant) -> Comeback {
    let told = detector.refused(hosts, index, Unreachable::Refused, now, &mut rng());
    let Some((OutlierEvent::Ejected { index: out, cause: REFUSED, .. }, Some(comeback))) = told else {
        panic!("{told:?}")
    };
    assert_eq!((out, hosts.hosts()[index].is_available()), (index, false));
    comeback
}

fn reason(detector: &UnreachableDetector, hosts: &HostSet, index: usize, now: Instant) -> Option<EjectionRefusal> {
    match detector.refused(hosts, index, Unreachable::Refused, now, &mut rng()) {
        Some((OutlierEvent::Refused { cause: REFUSED, reason, .. }, None)) => Some(reason),
        None => None,
        told => panic!("{told:?}"),
    }
}

#[test]
fn a_host_is_out_at_the_first_refusal_and_probed_after_pauses_that_double() {
    let (hosts, detector, start) = (set(3), detector(10), Instant::now());
    let comeback = away(&detector, &hosts, 1, start);
    assert!(detector.refused(&hosts, 1, Unreachable::Refused, start, &mut rng()).is_none(), "it is out already");
    let mut now = start;
    for pause in [500u64, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
        let due = comeback.poll_timeout().expect("a probe is due");
        let (least, most) = (Duration::from_millis(pause * 3 / 4), Duration::from_millis(pause * 5 / 4));
        assert!((least..=most).contains(&(due - now)), "{:?} for {pause} ms", due - now);
        now = due;
        assert!(!comeback.probed(false, now, &mut rng()));
    }
    let seen = hosts.hosts()[1].verdict.away().expect("it is away");
    assert_eq!((seen.since, seen.why, seen.failed_probes), (start, Unreachable::Refused, 7));
    assert_eq!(hosts.hosts()[1].verdict.ejected_since(), Some(start));
    assert!(comeback.probed(true, now, &mut rng()));
    assert!(hosts.hosts()[1].is_available() && hosts.hosts()[1].verdict.away().is_none());
    assert_eq!(comeback.poll_timeout(), None);
    assert_eq!((detector.ejections().ejected(EjectionKind::Unreachable), detector.ejections().refused()), (1, 0));
    assert_eq!(hosts.hosts()[1].verdict.total_ejections(), 1);
}

#[test]
fn the_pauses_of_two_processes_differ() {
    let (hosts, detector, now) = (set(3), detector(100), Instant::now());
    let due = [1, 2].map(|seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let told = detector.refused(&hosts, seed as usize, Unreachable::NoRoute, now, &mut rng);
        told.and_then(|(_, comeback)| comeback?.poll_timeout()).expect("it is out")
    });
    assert_ne!(due[0], due[1]);
}

#[test]
fn the_last_host_stays_in_and_that_is_said_now_and_then() {
    let (hosts, detector, now) = (set(1), detector(100), Instant::now());
    let at = |seconds| reason(&detector, &hosts, 0, now + Duration::from_secs(seconds));
    assert_eq!(
        [at(0), at(1), at(29), at(31)],
        [Some(EjectionRefusal::LastHost), None, None, Some(EjectionRefusal::LastHost)]
    );
    assert!(hosts.hosts()[0].is_available());
    assert_eq!(detector.ejections().refused(), 2, "what is said is counted");
    let two = set(2);
    two.hosts()[1].state.set_admin(AdminState::Draining);
    assert_eq!(reason(&detector, &two, 0, now), Some(EjectionRefusal::LastHost), "an operator took the other out");
    two.hosts()[1].state.set_admin(AdminState::Enabled);
    let comeback = away(&detector, &two, 0, now);
    assert_eq!(reason(&detector, &two, 1, now), Some(EjectionRefusal::LastHost));
    assert!(comeback.probed(true, now, &mut rng()));
    away(&detector, &two, 1, now);
}

#[test]
fn no_more_are_out_than_the_share_allows_and_one_always_may() {
    let now = Instant::now();
    for (hosts, percent, expected) in [(3, 10, 1), (10, 10, 1), (20, 10, 2), (10, 35, 3), (4, 100, 3), (5, 0, 1)] {
        let (set, detector) = (set(hosts), detector(percent));
        for index in 0..hosts {
            detector.refused(&set, index, Unreachable::Refused, now, &mut rng());
        }
        assert_eq!(set.healthy(), hosts - expected, "{hosts} hosts, {percent} %");
    }
    let (set, detector) = (set(4), detector(50));
    let _comebacks = [away(&detector, &set, 0, now), away(&detector, &set, 3, now)];
    let expected = EjectionRefusal::MaxEjectionPercent { ejected: 2, hosts: 4, percent: 50 };
    assert_eq!(reason(&detector, &set, 1, now), Some(expected));
}

#[test]
fn what_is_not_enforced_is_only_said() {
    let policy = UnreachablePolicy { enforcing: 0, ..UnreachablePolicy::default() };
    let (hosts, detector) = (set(3), UnreachableDetector::new(policy, Default::default()));
    assert_eq!(reason(&detector, &hosts, 0, Instant::now()), Some(EjectionRefusal::NotEnforced { percent: 0 }));
    assert_eq!(hosts.healthy(), 3);
}

#[test]
fn nobody_probes_for_a_host_that_an_operator_took_in_or_that_no_cluster_has() {
    let (hosts, detector, now) = (set(3), detector(100), Instant::now());
    let first = away(&detector, &hosts, 0, now);
    assert_eq!(detector.ejections().uneject(&hosts, 0), Some(OutlierEvent::Returned { index: 0 }));
    assert_eq!((first.poll_timeout(), first.probed(true, now, &mut rng())), (None, false));
    let second = away(&detector, &hosts, 0, now);
    assert_eq!(
        (first.poll_timeout(), first.probed(true, now, &mut rng())),
        (None, false),
        "another time, another task"
    );
    assert!(second.poll_timeout().is_some());
    let others = HostSet::new(hosts.hosts()[1..].to_vec(), 0);
    drop(hosts);
    assert_eq!((second.poll_timeout(), others.healthy()), (None, 2));
}

#[test]
fn outlier_detection_and_it_take_a_host_out_each_by_its_own_word() {
    let unreachable = detector(50);
    let policy = OutlierPolicy { consecutive_5xx: 1, max_ejection_percent: 50, ..OutlierPolicy::default() };
    let outlier = OutlierDetector::counting_in(policy.clone(), unreachable.ejections().clone());
    let (hosts, now) = (set(4), Instant::now());
    let host = &hosts.hosts()[0];
    let comeback = away(&unreachable, &hosts, 0, now);
    let told = outlier.observe(&hosts, 0, Observation::LocalOrigin, now, &mut rng());
    assert!(matches!(told, Some(OutlierEvent::Ejected { index: 0, .. })), "{told:?}");
    assert!(comeback.probed(true, now, &mut rng()));
    assert!(!host.is_available(), "its ejection is not over");
    let later = now + policy.base_ejection_time;
    assert_eq!(outlier.sweep(&hosts, later, &mut rng()), [OutlierEvent::Returned { index: 0 }]);
    assert!(host.is_available());
    // The other way around: the sweep has nothing to say of a host that stays away.
    outlier.observe(&hosts, 0, Observation::Status(500), later, &mut rng());
    let comeback = away(&unreachable, &hosts, 0, later);
    assert_eq!(outlier.sweep(&hosts, later + policy.base_ejection_time * 2, &mut rng()), []);
    assert!(!host.is_available());
    assert!(comeback.probed(true, later, &mut rng()) && host.is_available());
    // They share what may be out: of four hosts two.
    outlier.observe(&hosts, 1, Observation::Status(500), later, &mut rng());
    let _second = away(&unreachable, &hosts, 2, later);
    assert!(reason(&unreachable, &hosts, 3, later).is_some());
    let told = outlier.observe(&hosts, 3, Observation::Status(500), later, &mut rng());
    assert!(matches!(told, Some(OutlierEvent::Refused { index: 3, .. })), "{told:?}");
    assert_eq!(hosts.healthy(), 2);
}

#[derive(Clone, Debug)]
enum Step {
    Refuse(usize),
    Probe(usize, bool),
    Uneject(usize),
    Turn(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let host = || 0usize..6;
    prop_oneof![
        4 => host().prop_map(Step::Refuse),
        2 => (host(), any::<bool>()).prop_map(|(host, connected)| Step::Probe(host, connected)),
        1 => host().prop_map(Step::Uneject),
        1 => host().prop_map(Step::Turn),
    ]
}

proptest! {
    #[test]
    fn who_is_away_is_who_a_naive_model_says(
        steps in prop::collection::vec(step(), 1..60),
        count in 1usize..6,
        percent in 0u32..=100,
    ) {
        let (hosts, detector, start) = (set(count), detector(percent), Instant::now());
        let (mut away, mut disabled) = (vec![false; count], vec![false; count]);
        let mut comebacks: Vec<Option<Comeback>> = (0..count).map(|_| None).collect();
        for (second, step) in steps.into_iter().enumerate() {
            let now = start + Duration::from_secs(second as u64);
            match step {
                Step::Refuse(host) => {
                    let host = host % count;
                    let others = || (0..count).filter(|other| *other != host);
                    let out = others().filter(|other| away[*other]).count();
                    let left = others().any(|other| !away[other] && !disabled[other]);
                    let allowed = left && (out == 0 || (out + 1) * 100 <= percent as usize * count);
                    let told = detector.refused(&hosts, host, Unreachable::Refused, now, &mut rng());
                    let ejected = matches!(told, Some((OutlierEvent::Ejected { .. }, _)));
                    prop_assert_eq!(ejected, allowed && !away[host]);
                    if let Some((_, Some(comeback))) = told {
                        away[host] = true;
                        comebacks[host] = Some(comeback);
                    }
                }
                Step::Probe(host, connected) => {
                    let host = host % count;
                    let Some(comeback) = &comebacks[host] else { continue };
                    prop_assert_eq!(comeback.poll_timeout().is_some(), away[host]);
                    prop_assert_eq!(comeback.probed(connected, now, &mut rng()), connected && away[host]);
                    away[host] &= !connected;
                }
                Step::Uneject(host) => {
                    let host = host % count;
                    prop_assert_eq!(detector.ejections().uneject(&hosts, host).is_some(), away[host]);
                    away[host] = false;
                }
                Step::Turn(host) => {
                    let host = host % count;
                    disabled[host] = !disabled[host];
                    let word = if disabled[host] { AdminState::Disabled } else { AdminState::Enabled };
                    hosts.hosts()[host].state.set_admin(word);
                }
            }
            for (index, host) in hosts.hosts().iter().enumerate() {
                prop_assert_eq!(host.verdict.is_ejected(), away[index]);
                prop_assert_eq!(host.verdict.away().is_some(), away[index]);
            }
        }
    }
}
