//! Which endpoints are asked, when each is due, and what follows from an answer. Pure. Read next: `mod.rs`.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{HealthCounts, HealthPolicy, HealthState};
use crate::HostState;
use crate::schedule::{Schedule, Streak};
use crate::sync::Ordering;

/// An endpoint that was not asked before is asked within this time, or its interval if that is shorter.
const FIRST: Duration = Duration::from_millis(50);

/// An endpoint that is to be checked.
#[derive(Clone, Debug)]
pub struct CheckedHost<Q> {
    /// When, and how many answers decide.
    pub policy: HealthPolicy,
    /// What is asked.
    pub question: Q,
    /// The facts about it.
    pub state: Arc<HostState>,
    /// Where its checks are counted: in every cluster that it belongs to.
    pub counts: Vec<Arc<HealthCounts>>,
}

/// A check to carry out now. It comes back by [`HealthChecks::result`].
#[derive(Clone, Debug)]
pub struct CheckTask<K, Q> {
    /// Whom to ask.
    pub key: K,
    /// What to ask.
    pub question: Q,
    /// A result for an older edition of the check is ignored.
    edition: u64,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckResult {
    /// The endpoint is well.
    pub healthy: bool,
    /// There was no answer.
    pub network_failure: bool,
    /// What was found, for people.
    pub found: String,
}

/// An endpoint takes part from now on, or does not any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthChange {
    /// Which state it had.
    pub before: HealthState,
    /// Which state it has now.
    pub state: HealthState,
    /// Answers in a row that led to it.
    pub in_a_row: u32,
}

#[derive(Debug)]
struct Checked<Q> {
    host: CheckedHost<Q>,
    edition: u64,
    streak: Streak,
}

/// All endpoints that are checked.
#[derive(Debug)]
pub struct HealthChecks<K, Q> {
    hosts: HashMap<K, Checked<Q>>,
    /// What is not under way.
    schedule: Schedule<K>,
    editions: u64,
    /// Endpoints were set before: those that come now have only just joined.
    begun: bool,
}

impl<K, Q> Default for HealthChecks<K, Q> {
    fn default() -> Self {
        Self { hosts: HashMap::new(), schedule: Schedule::default(), editions: 0, begun: false }
    }
}

impl<K: Clone + Eq + Hash + Ord, Q: Clone + PartialEq> HealthChecks<K, Q> {
    /// These are the endpoints to check from now on. One whose check is the same goes on as it was; one whose check is new or
    /// another keeps its state and is asked soon; one that is checked no more is as if it never had been.
    ///
    /// An endpoint that was in use before anybody checked it stays so until failures in a row say otherwise.
    pub fn set_hosts(&mut self, wanted: HashMap<K, CheckedHost<Q>>, now: Instant, rng: &mut fastrand::Rng) {
        let gone: Vec<K> = self.hosts.keys().filter(|key| !wanted.contains_key(key)).cloned().collect();
        for key in gone {
            self.schedule.remove(&key);
            if let Some(checked) = self.hosts.remove(&key) {
                checked.host.state.health().clear();
            }
        }
        for (key, host) in wanted {
            if let Some(known) = self.hosts.get_mut(&key)
                && known.host.policy == host.policy
                && known.host.question == host.question
                && Arc::ptr_eq(&known.host.state, &host.state)
            {
                known.host.counts = host.counts;
                continue;
            }
            let health = host.state.health();
            let joins = self.begun && health.state() == HealthState::Pending;
            let delay = if joins { host.policy.initial_delay } else { Duration::ZERO };
            let due = now + delay + FIRST.min(host.policy.interval).mul_f64(rng.f64());
            if health.state() == HealthState::Unchecked {
                health.set(HealthState::Healthy);
            }
            let mut facts = health.lock();
            (facts.since, facts.next) = (facts.since.or(Some(now)), Some(due));
            (facts.successes, facts.failures) = (0, 0);
            drop(facts);
            self.editions += 1;
            self.schedule.set(key.clone(), due);
            self.hosts.insert(key, Checked { host, edition: self.editions, streak: Streak::default() });
        }
        self.begun = true;
    }

    /// When to ask [`HealthChecks::take_due`] again; `None` while nothing waits.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.schedule.poll_timeout()
    }

    /// Whether some endpoint waits for its first answer before it takes part.
    pub fn is_waiting(&self) -> bool {
        self.hosts.values().any(|checked| checked.host.state.health().state() == HealthState::Pending)
    }

    /// The next check to carry out now. Its next one is scheduled by its result.
    pub fn take_due(&mut self, now: Instant) -> Option<CheckTask<K, Q>> {
        let key = self.schedule.take_due(now)?;
        let checked = self.hosts.get(&key)?;
        checked.host.state.health().lock().next = None;
        for counts in &checked.host.counts {
            counts.attempts.fetch_add(1, Ordering::Relaxed);
        }
        Some(CheckTask { question: checked.host.question.clone(), edition: checked.edition, key })
    }

    /// A check was carried out. Says when the endpoint goes out or comes back by that.
    pub fn result(
        &mut self,
        task: &CheckTask<K, Q>,
        result: CheckResult,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Option<HealthChange> {
        let checked = self.hosts.get_mut(&task.key).filter(|checked| checked.edition == task.edition)?;
        let policy = checked.host.policy;
        for counts in &checked.host.counts {
            let outcome = if result.healthy { &counts.successes } else { &counts.failures };
            outcome.fetch_add(1, Ordering::Relaxed);
            counts.network_failures.fetch_add(u64::from(result.network_failure), Ordering::Relaxed);
        }
        let in_a_row = checked.streak.count(result.healthy);
        let health = checked.host.state.health();
        let before = health.state();
        let after = match (before, result.healthy) {
            (HealthState::Pending, true) => HealthState::Healthy,
            (HealthState::Pending, false) => HealthState::Unhealthy,
            (HealthState::Unhealthy, true) if in_a_row >= policy.healthy_threshold => HealthState::Healthy,
            (HealthState::Healthy | HealthState::Unchecked, false) if in_a_row >= policy.unhealthy_threshold => {
                HealthState::Unhealthy
            }
            _ => before,
        };
        let interval = if after.is_out() { policy.unhealthy_interval } else { policy.interval };
        let due = now + interval + policy.jitter.mul_f64(rng.f64());
        let mut facts = health.lock();
        facts.last = result.found;
        facts.next = Some(due);
        (facts.successes, facts.failures) = (checked.streak.of(true), checked.streak.of(false));
        if before != after {
            facts.since = Some(now);
        }
        if before.is_out() && !after.is_out() {
            facts.recovered = Some(now);
        }
        // While the lock is held, so that nobody reads one without the other.
        health.set(after);
        drop(facts);
        self.schedule.set(task.key.clone(), due);
        (before != after).then_some(HealthChange { before, state: after, in_a_row })
    }
}
