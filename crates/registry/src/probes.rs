//! Which check is to be carried out when, and what its results mean: rise and fall, words that stay away, instances that
//! were critical for too long.
//!
//! ```text
//!            set                 take_due                result: due again after its interval, a little sooner or later
//!  (unknown) ───▶ due soon ─────────────────▶ running ──┤
//!                   ▲                                   └─▶ Verdict, when rise or fall is reached
//!                   └───────────────────────────────────┘
//! ```
//! It is pure: the caller carries checks out and brings time and chance.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use meshwright_traffic::{Schedule, Streak};

use crate::{Check, InstanceKey, Probe, Status};

/// Share of the interval by which a probe comes sooner or later, so that probes do not march in step.
const JITTER: f64 = 0.1;
/// The first probe of a new instance comes within this time.
const FIRST: Duration = Duration::from_millis(50);

/// What follows from results, or from their absence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The check says something else now.
    Set {
        /// Whose check.
        key: InstanceKey,
        /// Which check.
        check: String,
        /// What it says.
        status: Status,
        /// Why.
        output: String,
    },
    /// The instance was critical for too long.
    Remove(InstanceKey),
}

/// A check to carry out now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Whose check.
    pub key: InstanceKey,
    /// What to do.
    pub check: Check,
    /// Which edition of the check; a result for an older one is ignored.
    pub edition: u64,
}

#[derive(Debug)]
struct State {
    check: Check,
    edition: u64,
    streak: Streak,
    /// When it became critical.
    critical: Option<Instant>,
}

/// All checks of all instances.
#[derive(Debug, Default)]
pub struct Probes {
    states: HashMap<InstanceKey, Vec<State>>,
    /// Editions of checks that are not under way.
    schedule: Schedule<(InstanceKey, u64)>,
    editions: u64,
}

impl Probes {
    /// The instance has these checks now. Checks that ask the same as before go on as they were. `spread` says that it is one
    /// of many that were known before: its first probes come at any moment of their interval.
    pub fn set(&mut self, key: &InstanceKey, checks: &[Check], spread: bool, now: Instant, rng: &mut fastrand::Rng) {
        let own_time = |check: &&Check| check.probe != Probe::Word;
        if !checks.iter().any(|check| own_time(&check)) {
            self.remove(key);
            return;
        }
        let mut before = self.states.remove(key).unwrap_or_default();
        let mut states = Vec::with_capacity(checks.len());
        for check in checks.iter().filter(own_time) {
            let same = before.iter().position(|state| {
                state.check.same_question(check)
                    && state.check.interval == check.interval
                    && state.check.timeout == check.timeout
            });
            let state = match same {
                Some(index) => {
                    let mut state = before.swap_remove(index);
                    if state.check.status != check.status {
                        state.critical = (check.status == Status::Critical).then_some(now);
                    }
                    state.check = check.clone();
                    state
                }
                None => {
                    self.editions += 1;
                    let wait = match check.probe {
                        Probe::Ttl(ttl) => ttl,
                        _ if spread => check.interval.mul_f64(rng.f64()),
                        _ => FIRST.min(check.interval).mul_f64(rng.f64()),
                    };
                    let state = State {
                        check: check.clone(),
                        edition: self.editions,
                        streak: Streak::default(),
                        critical: (check.status == Status::Critical).then_some(now),
                    };
                    self.schedule.set((key.clone(), state.edition), now + wait);
                    state
                }
            };
            states.push(state);
        }
        for state in before {
            self.schedule.remove(&(key.clone(), state.edition));
        }
        self.states.insert(key.clone(), states);
    }

    /// The instance is gone.
    pub fn remove(&mut self, key: &InstanceKey) {
        for state in self.states.remove(key).into_iter().flatten() {
            self.schedule.remove(&(key.clone(), state.edition));
        }
    }

    /// When to ask [`Probes::take_due`] again.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.schedule.poll_timeout()
    }

    /// The checks to carry out now, at most `room`, and what follows from words that did not come. Each task must come back
    /// by [`Probes::result`].
    pub fn take_due(&mut self, room: usize, now: Instant) -> (Vec<Task>, Vec<Verdict>) {
        let (mut tasks, mut verdicts) = (Vec::new(), Vec::new());
        while tasks.len() < room {
            let Some((key, edition)) = self.schedule.take_due(now) else { break };
            let states = self.states.get_mut(&key);
            let Some(state) = states.and_then(|states| states.iter_mut().find(|state| state.edition == edition)) else {
                continue;
            };
            if let Probe::Ttl(ttl) = state.check.probe {
                self.schedule.set((key.clone(), edition), now + ttl);
                if state.check.status != Status::Critical {
                    let output = format!("no word for {} ms", ttl.as_millis());
                    let check = state.check.id.clone();
                    verdicts.push(Verdict::Set { key: key.clone(), check, status: Status::Critical, output });
                }
                verdicts.extend(overdue(state, &key, now));
                continue;
            }
            tasks.push(Task { key, check: state.check.clone(), edition });
        }
        (tasks, verdicts)
    }

    /// A check was carried out.
    pub fn result(
        &mut self,
        task: &Task,
        (status, output): (Status, &str),
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Vec<Verdict> {
        let Some(states) = self.states.get_mut(&task.key) else { return Vec::new() };
        let Some(state) = states.iter_mut().find(|state| state.edition == task.edition) else { return Vec::new() };
        let swing = 1.0 - JITTER + 2.0 * JITTER * rng.f64();
        self.schedule.set((task.key.clone(), state.edition), now + state.check.interval.mul_f64(swing));
        let bad = status == Status::Critical;
        let in_a_row = state.streak.count(!bad);
        let needed = if bad { state.check.fall } else { state.check.rise };
        let mut verdicts = Vec::new();
        // The first result of all decides at once: nobody knows better.
        if state.check.status != status && (in_a_row >= needed || state.check.status == Status::Starting) {
            let (key, check) = (task.key.clone(), state.check.id.clone());
            verdicts.push(Verdict::Set { key, check, status, output: output.to_owned() });
        }
        verdicts.extend(overdue(state, &task.key, now));
        verdicts
    }

    /// An instance gave a word for its TTL check: the next is due in its full time.
    pub fn heard(&mut self, key: &InstanceKey, check: &str, now: Instant) {
        for state in self.states.get(key).into_iter().flatten().filter(|state| state.check.id == check) {
            if let Probe::Ttl(ttl) = state.check.probe {
                self.schedule.set((key.clone(), state.edition), now + ttl);
            }
        }
    }
}

fn overdue(state: &State, key: &InstanceKey, now: Instant) -> Option<Verdict> {
    let (since, after) = (state.critical?, state.check.deregister_after?);
    (state.check.status == Status::Critical && now.saturating_duration_since(since) >= after)
        .then(|| Verdict::Remove(key.clone()))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test has to begin at some moment")]
mod tests {
    use super::*;
    use crate::ServiceKey;

    fn key() -> InstanceKey {
        InstanceKey::new(ServiceKey::new("", "users").unwrap(), "a").unwrap()
    }

    fn tcp() -> Check {
        Check { interval: Duration::from_secs(10), ..Check::new("tcp", Probe::Tcp { authority: None }) }
    }

    /// One instance with one check, probed by a script of results.
    struct World {
        probes: Probes,
        check: Check,
        now: Instant,
        rng: fastrand::Rng,
    }

    impl World {
        fn new(check: Check) -> Self {
            let mut world =
                Self { probes: Probes::default(), check, now: Instant::now(), rng: fastrand::Rng::with_seed(7) };
            world.set();
            world
        }

        fn set(&mut self) {
            self.probes.set(&key(), std::slice::from_ref(&self.check), false, self.now, &mut self.rng);
        }

        /// Goes to the next probe, gives it a result, and takes the verdicts in as the registry would.
        fn probe(&mut self, status: Status) -> Vec<Verdict> {
            self.now = self.probes.poll_timeout().unwrap();
            let (tasks, none) = self.probes.take_due(10, self.now);
            assert_eq!((tasks.len(), none.len()), (1, 0));
            let verdicts = self.probes.result(&tasks[0], (status, "said"), self.now, &mut self.rng);
            self.apply(&verdicts);
            verdicts
        }

        fn apply(&mut self, verdicts: &[Verdict]) {
            for verdict in verdicts {
                if let Verdict::Set { status, output, .. } = verdict {
                    self.check = self.check.with_result(*status, output);
                    self.set();
                }
            }
        }
    }

    #[test]
    fn the_first_result_decides_and_later_ones_need_their_row() {
        let mut world = World::new(Check { rise: 2, fall: 3, ..tcp() });
        let start = world.now;
        world.probe(Status::Passing);
        assert!(world.now - start <= Duration::from_millis(50), "a new instance is not kept waiting");
        assert_eq!(world.check.status, Status::Passing);
        for (result, expected) in [
            (Status::Critical, Status::Passing),
            (Status::Critical, Status::Passing),
            (Status::Passing, Status::Passing),
            (Status::Critical, Status::Passing),
            (Status::Critical, Status::Passing),
            (Status::Critical, Status::Critical),
            (Status::Passing, Status::Critical),
            (Status::Passing, Status::Passing),
        ] {
            let before = world.now;
            world.probe(result);
            let pause = (world.now - before).as_secs_f64();
            assert!((9.0..=11.0).contains(&pause), "{pause}");
            assert_eq!(world.check.status, expected);
        }
    }

    #[test]
    fn an_instance_that_is_critical_for_too_long_is_removed() {
        let mut world = World::new(Check { deregister_after: Some(Duration::from_secs(35)), ..tcp() });
        world.probe(Status::Critical);
        let since = world.now;
        loop {
            let verdicts = world.probe(Status::Critical);
            let silence = world.now - since;
            assert_eq!(verdicts.contains(&Verdict::Remove(key())), silence >= Duration::from_secs(35), "{silence:?}");
            if silence > Duration::from_secs(35) {
                break;
            }
        }
    }

    #[test]
    fn an_instance_that_gives_no_word_in_time_becomes_critical_once() {
        let ttl = Duration::from_secs(10);
        let mut world = World::new(Check::new("word", Probe::Ttl(ttl)).with_result(Status::Passing, ""));
        world.now += Duration::from_secs(9);
        world.probes.heard(&key(), "word", world.now);
        world.now += Duration::from_secs(9);
        assert_eq!(world.probes.take_due(10, world.now), (vec![], vec![]));
        world.now += Duration::from_secs(1);
        let (_, verdicts) = world.probes.take_due(10, world.now);
        assert!(matches!(&verdicts[..], [Verdict::Set { status: Status::Critical, .. }]), "{verdicts:?}");
        world.apply(&verdicts);
        world.now += Duration::from_secs(30);
        assert_eq!(world.probes.take_due(10, world.now), (vec![], vec![]), "it is known already");
    }

    #[test]
    fn a_result_for_a_check_that_was_replaced_or_removed_is_ignored() {
        let mut world = World::new(tcp());
        world.now = world.probes.poll_timeout().unwrap();
        let (tasks, _) = world.probes.take_due(10, world.now);
        world.check = Check { probe: Probe::Tcp { authority: Some("10.0.0.9:1".into()) }, ..tcp() };
        world.set();
        let old = world.probes.result(&tasks[0], (Status::Passing, ""), world.now, &mut world.rng);
        assert_eq!(old, []);
        world.probes.remove(&key());
        world.now += Duration::from_secs(1);
        assert_eq!(world.probes.take_due(10, world.now).0, []);
    }

    #[test]
    fn no_more_checks_are_taken_than_there_is_room_for() {
        let mut world = World::new(tcp());
        for id in 0..10 {
            let other = InstanceKey::new(key().service, &id.to_string()).unwrap();
            world.probes.set(&other, &[tcp()], true, world.now, &mut world.rng);
        }
        world.now += Duration::from_secs(10);
        assert_eq!(world.probes.take_due(4, world.now).0.len(), 4);
        assert_eq!(world.probes.take_due(100, world.now).0.len(), 7);
    }
}
