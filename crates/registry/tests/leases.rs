//! Leases under simulated time: who leaves when, who is kept, against a slow oracle.

#![allow(clippy::disallowed_methods, reason = "a test has to begin at some moment")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use meshwright_registry::{InstanceKey, Leases, ServiceKey};
use proptest::prelude::*;

const TTL: Duration = Duration::from_secs(30);

fn key(id: usize) -> InstanceKey {
    InstanceKey::new(ServiceKey::new("", "users").unwrap(), &format!("i{id:04}")).unwrap()
}

/// A clock that the leases are swept by, as their driver does.
struct World {
    leases: Leases,
    now: Instant,
    evicted: Vec<InstanceKey>,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        Self { leases: Leases::new(now), now, evicted: Vec::new() }
    }

    fn of(count: usize) -> Self {
        let mut world = Self::new();
        for id in 0..count {
            world.leases.put(&key(id), Some(TTL), world.now);
        }
        world
    }

    /// Lets time pass; `renewing` renew every 10 s.
    fn pass(&mut self, time: Duration, renewing: std::ops::Range<usize>) {
        let end = self.now + time;
        let mut renewal = self.now + Duration::from_secs(10);
        while self.now < end {
            let wake = self.leases.poll_timeout().unwrap_or(end).max(self.now + Duration::from_millis(1));
            self.now = wake.min(renewal).min(end);
            if self.now >= renewal {
                renewal += Duration::from_secs(10);
                for id in renewing.clone() {
                    self.leases.renew(&key(id), self.now);
                }
            }
            let over = self.leases.sweep(self.now);
            self.evicted.extend(over);
        }
    }
}

#[test]
fn one_dead_of_two_leaves_when_its_time_is_over_and_not_before() {
    let mut world = World::of(2);
    world.pass(TTL - Duration::from_millis(5), 0..1);
    assert!(world.evicted.is_empty());
    world.pass(Duration::from_millis(10), 0..1);
    assert_eq!(world.evicted, [key(1)]);
    assert!(world.leases.renew(&key(1), world.now).is_none(), "who comes late registers again");
    assert!(world.leases.preservation().is_none());
}

#[test]
fn when_most_lapse_at_once_nobody_is_evicted_and_they_come_back_as_they_were() {
    let mut world = World::of(10);
    world.pass(Duration::from_secs(300), 0..3);
    assert!(world.evicted.is_empty(), "{:?}", world.evicted);
    let preservation = world.leases.preservation().expect("it says so");
    assert_eq!((preservation.lapsed, preservation.leases), (7, 10));
    for id in 0..10 {
        assert!(world.leases.renew(&key(id), world.now).is_some());
    }
    world.pass(Duration::from_secs(60), 0..10);
    assert!(world.leases.preservation().is_none(), "the wave is over");
    world.pass(Duration::from_secs(60), 0..9);
    assert_eq!(world.evicted, [key(9)], "and a single death counts again");
}

#[test]
fn a_wave_that_comes_one_by_one_is_stopped_at_15_percent() {
    let mut world = World::new();
    for id in 0..100 {
        world.leases.put(&key(id), Some(TTL), world.now);
        world.pass(Duration::from_millis(100), 0..0);
    }
    world.pass(TTL + Duration::from_secs(1), 0..0);
    assert_eq!(world.evicted.len(), 15);
    world.pass(Duration::from_secs(600), 0..0);
    assert_eq!(world.evicted.len(), 15, "nobody is evicted while most are silent");
    world.pass(Duration::from_secs(3600), 0..0);
    assert_eq!(world.evicted.len(), 100, "but nobody stays for ever");
}

#[test]
fn three_dead_of_many_leave_because_they_are_few() {
    let mut world = World::of(40);
    world.pass(Duration::from_secs(40), 0..37);
    assert_eq!(world.evicted.len(), 3);
}

#[test]
fn a_process_that_stood_still_blames_nobody() {
    let mut world = World::of(2);
    world.pass(Duration::from_secs(20), 0..2);
    world.now += Duration::from_secs(3600);
    world.pass(Duration::from_secs(20), 0..1);
    assert!(world.evicted.is_empty(), "the hour does not count");
    world.pass(Duration::from_secs(12), 0..1);
    assert_eq!(world.evicted, [key(1)], "the time before and after does");
}

#[test]
fn a_held_lease_does_not_end_and_has_its_full_time_once_it_is_let_go() {
    let mut world = World::of(1);
    world.leases.hold(&key(0), true, world.now);
    world.pass(Duration::from_secs(300), 0..0);
    assert!(world.evicted.is_empty());
    world.leases.hold(&key(0), false, world.now);
    world.pass(TTL - Duration::from_millis(5), 0..0);
    assert!(world.evicted.is_empty());
    world.pass(Duration::from_millis(10), 0..0);
    assert_eq!(world.evicted, [key(0)]);
}

#[test]
fn a_lease_without_end_stays_and_one_that_becomes_shorter_ends_sooner() {
    let mut world = World::new();
    world.leases.put(&key(0), None, world.now);
    assert_eq!(world.leases.poll_timeout(), None, "there is nothing to wake for");
    world.leases.put(&key(1), Some(Duration::from_secs(1000)), world.now);
    world.leases.put(&key(1), Some(Duration::from_secs(5)), world.now);
    world.pass(Duration::from_secs(6), 0..0);
    assert_eq!(world.evicted, [key(1)]);
    world.pass(Duration::from_secs(100_000), 0..0);
    assert_eq!(world.evicted.len(), 1);
}

proptest! {
    /// With few deaths: every lease ends at the sweep that a plain list says, whatever is renewed,
    /// registered with another time or removed in between.
    #[test]
    fn leases_end_when_a_plain_list_says(
        steps in prop::collection::vec((0..40usize, 0..4u8, 1..20u64, 0..1500u64), 1..200),
    ) {
        let start = Instant::now();
        let mut leases = Leases::new(start);
        // Many that never lapse keep the wave below its share.
        for id in 1000..1400 {
            leases.put(&key(id), Some(Duration::from_secs(80_000)), start);
        }
        let mut oracle: BTreeMap<usize, (Duration, Duration)> = BTreeMap::new();
        let mut now = Duration::ZERO;
        for (id, what, ttl, pause) in steps {
            let end = now + Duration::from_millis(pause);
            while now < end {
                now += Duration::from_millis(20).min(end - now);
                let mut over: Vec<_> = leases.sweep(start + now);
                let mut expected: Vec<_> = oracle.iter().filter(|(_, (at, ttl))| *at + *ttl <= now).map(|(id, _)| *id).collect();
                oracle.retain(|_, (at, ttl)| *at + *ttl > now);
                over.sort();
                expected.sort_unstable();
                prop_assert_eq!(over, expected.into_iter().map(key).collect::<Vec<_>>());
            }
            match what {
                0 | 1 => {
                    oracle.insert(id, (now, Duration::from_secs(ttl)));
                    leases.put(&key(id), Some(Duration::from_secs(ttl)), start + now);
                }
                2 => {
                    let known = oracle.get_mut(&id).map(|lease| lease.0 = now).is_some();
                    prop_assert_eq!(leases.renew(&key(id), start + now).is_some(), known);
                }
                _ => {
                    oracle.remove(&id);
                    leases.remove(&key(id));
                }
            }
        }
    }
}
