//! Active health checks under simulated time: thresholds, intervals, states, and what of them survives.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![allow(clippy::disallowed_methods, reason = "a test has to begin at some moment")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meshwright_traffic::{
    Ask, Balancer, CheckResult, CheckedHost, HealthChecks, HealthCounts, HealthPolicy, HealthState, Host, HostSet,
    HostState, NoHost, Policy, Stagger,
};
use proptest::prelude::*;

const POLICY: HealthPolicy = HealthPolicy {
    interval: Duration::from_secs(30),
    unhealthy_interval: Duration::from_secs(5),
    jitter: Duration::from_secs(3),
    unhealthy_threshold: 3,
    healthy_threshold: 2,
    initial_delay: Duration::ZERO,
};

/// Some endpoints that are checked, and the time.
struct World {
    checks: HealthChecks<usize, &'static str>,
    hosts: Vec<CheckedHost<&'static str>>,
    now: Instant,
    rng: fastrand::Rng,
}

impl World {
    fn new(states: Vec<HostState>) -> Self {
        let host = |state| CheckedHost {
            policy: POLICY,
            question: "/health",
            state: Arc::new(state),
            counts: vec![Arc::new(HealthCounts::default())],
        };
        let hosts = states.into_iter().map(host).collect();
        let mut world =
            Self { checks: HealthChecks::default(), hosts, now: Instant::now(), rng: fastrand::Rng::with_seed(7) };
        world.set();
        world
    }

    fn set(&mut self) {
        let hosts: HashMap<usize, _> = self.hosts.iter().cloned().enumerate().collect();
        self.checks.set_hosts(hosts, self.now, &mut self.rng);
    }

    fn state(&self, host: usize) -> HealthState {
        self.hosts[host].state.health().state()
    }

    /// Goes to the next check and answers it; the time that passed, and whether that changed anything.
    fn answer(&mut self, healthy: bool) -> (Duration, bool) {
        let before = self.now;
        self.now = self.checks.poll_timeout().unwrap();
        let task = self.checks.take_due(self.now).unwrap();
        let result = CheckResult { healthy, network_failure: false, found: format!("it said {healthy}") };
        let change = self.checks.result(&task, result, self.now, &mut self.rng);
        (self.now - before, change.is_some())
    }
}

#[test]
fn thresholds_decide_and_what_stays_within_them_changes_nothing() {
    let mut world = World::new(vec![HostState::new()]);
    assert_eq!(world.state(0), HealthState::Healthy, "it was in use before anybody checked it");
    assert!(world.answer(true).0 <= Duration::from_millis(50), "the first question comes at once");
    for (healthy, expected) in [
        (false, HealthState::Healthy),
        (false, HealthState::Healthy),
        (true, HealthState::Healthy),
        (false, HealthState::Healthy),
        (false, HealthState::Healthy),
        (false, HealthState::Unhealthy),
        (true, HealthState::Unhealthy),
        (false, HealthState::Unhealthy),
        (true, HealthState::Unhealthy),
        (true, HealthState::Healthy),
    ] {
        let before = world.state(0);
        let (pause, changed) = world.answer(healthy);
        let least = if before.is_out() { POLICY.unhealthy_interval } else { POLICY.interval };
        assert!((least..=least + POLICY.jitter).contains(&pause), "{pause:?}");
        assert_eq!((world.state(0), changed), (expected, expected != before));
    }
    let counts = &world.hosts[0].counts[0];
    assert_eq!((counts.attempts(), counts.successes(), counts.failures()), (11, 5, 6));
}

#[test]
fn an_endpoint_that_waits_for_its_first_answer_is_in_by_one_success() {
    let mut world = World::new(vec![HostState::awaiting_check(), HostState::awaiting_check()]);
    assert!(world.checks.is_waiting());
    assert!(world.answer(true).1);
    assert!(world.answer(false).1);
    let states = [world.state(0), world.state(1)];
    assert!(states.contains(&HealthState::Healthy) && states.contains(&HealthState::Unhealthy), "{states:?}");
    assert!(!world.checks.is_waiting());
}

#[test]
fn the_first_question_waits_for_its_delay_only_where_the_endpoint_joins_later() {
    let mut world = World::new(vec![HostState::awaiting_check()]);
    world.hosts[0].policy.initial_delay = Duration::from_secs(20);
    world.checks = HealthChecks::default();
    world.set();
    assert!(world.answer(true).0 <= Duration::from_millis(50));
    world.hosts.push(CheckedHost { state: Arc::new(HostState::awaiting_check()), ..world.hosts[0].clone() });
    world.set();
    let first = world.hosts[1].state.health().facts().next.unwrap() - world.now;
    assert!((Duration::from_secs(20)..Duration::from_secs(21)).contains(&first), "{first:?}");
}

#[test]
fn the_same_check_goes_on_over_a_reload_another_keeps_the_state_and_none_forgets_it() {
    let mut world = World::new(vec![HostState::new()]);
    (0..3).for_each(|_| _ = world.answer(false));
    assert_eq!(world.state(0), HealthState::Unhealthy);
    world.answer(true);
    world.set();
    assert!(world.answer(true).1, "the success before the reload counts");
    (0..3).for_each(|_| _ = world.answer(false));
    world.hosts[0].question = "/ready";
    world.set();
    assert_eq!(world.state(0), HealthState::Unhealthy);
    assert!(world.answer(true).0 <= Duration::from_millis(50));
    assert_eq!(world.state(0), HealthState::Unhealthy, "what the other check said does not count");
    let state = Arc::clone(&world.hosts[0].state);
    world.hosts.clear();
    world.set();
    assert_eq!(state.health().state(), HealthState::Unchecked);
    assert_eq!((state.health().facts().last, world.checks.poll_timeout()), (String::new(), None));
}

#[test]
fn a_result_of_a_check_that_is_no_more_is_ignored() {
    let mut world = World::new(vec![HostState::new()]);
    world.now = world.checks.poll_timeout().unwrap();
    let task = world.checks.take_due(world.now).unwrap();
    assert_eq!(world.checks.poll_timeout(), None, "it is under way");
    world.hosts[0].question = "/ready";
    world.hosts[0].policy.unhealthy_threshold = 1;
    world.set();
    let result = CheckResult { healthy: false, network_failure: true, found: "late".into() };
    assert_eq!(world.checks.result(&task, result, world.now, &mut world.rng), None);
    assert_eq!(world.state(0), HealthState::Healthy);
}

#[test]
fn an_unhealthy_endpoint_is_not_picked_unless_there_is_panic() {
    let mut world = World::new(vec![HostState::new(), HostState::new(), HostState::new()]);
    let host = |state: &CheckedHost<_>| Host { state: Arc::clone(&state.state), ..Host::new(1) };
    let pick = |world: &mut World, panic: u32| {
        let set = HostSet::new(world.hosts.iter().map(host).collect(), panic);
        let mut balancer = Balancer::new(Policy::RoundRobin, &set, Stagger::ALONE);
        let (now, mut rng) = (world.now, fastrand::Rng::with_seed(1));
        let mut picked: Vec<_> = (0..30).map(|_| balancer.pick(&set, &Ask::first(now), &mut rng)).collect();
        picked.sort_by_key(|pick| pick.unwrap_or(usize::MAX));
        picked.dedup();
        picked
    };
    world.hosts.iter_mut().for_each(|host| host.policy.unhealthy_threshold = 1);
    world.set();
    let fail = |world: &mut World| {
        let before = |world: &World| (0..3).filter(|host| world.state(*host).is_out()).count();
        let out = before(world);
        while before(world) == out {
            world.answer(false);
        }
    };
    fail(&mut world);
    let out = (0..3).find(|host| world.state(*host).is_out()).unwrap();
    assert_eq!(pick(&mut world, 50), (0..3).filter(|host| *host != out).map(Ok).collect::<Vec<_>>());
    fail(&mut world);
    assert_eq!(pick(&mut world, 50), [Ok(0), Ok(1), Ok(2)], "one of three is less than half");
    assert_eq!(pick(&mut world, 0).len(), 1);
    fail(&mut world);
    assert_eq!(pick(&mut world, 0), [Err(NoHost::Unhealthy)]);
}

proptest! {
    /// Against a model that looks at the whole history of answers.
    #[test]
    fn the_state_is_what_the_history_of_answers_says(
        answers in prop::collection::vec(any::<bool>(), 1..40),
        pending in any::<bool>(),
        rise in 1..5u32,
        fall in 1..5u32,
    ) {
        let mut world = World::new(vec![if pending { HostState::awaiting_check() } else { HostState::new() }]);
        world.hosts[0].policy.healthy_threshold = rise;
        world.hosts[0].policy.unhealthy_threshold = fall;
        world.set();
        let mut expected = if pending { HealthState::Pending } else { HealthState::Healthy };
        for count in 1..=answers.len() {
            world.answer(answers[count - 1]);
            let history = &answers[..count];
            let ends_with = |good: bool, length: u32| {
                history.len() >= length as usize && history[history.len() - length as usize..].iter().all(|of| *of == good)
            };
            expected = match expected {
                HealthState::Pending if answers[0] => HealthState::Healthy,
                HealthState::Pending => HealthState::Unhealthy,
                HealthState::Healthy if ends_with(false, fall) => HealthState::Unhealthy,
                HealthState::Unhealthy if ends_with(true, rise) => HealthState::Healthy,
                same => same,
            };
            prop_assert_eq!(world.state(0), expected, "{:?}", history);
        }
    }
}
