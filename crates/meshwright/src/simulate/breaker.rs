//! Calls that go through a circuit breaker of `meshwright-traffic` in made-up time: what it let through, what it refused, and
//! when and why its state changed. Every policy meets the same calls. Read next: `plot.rs`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use meshwright_traffic::{BreakerState, BreakerView, CircuitBreaker, Outcome, Permit, StateChange};

use super::script::{CallLoad, NamedBreaker, Script};

/// What became of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Succeeded,
    Failed,
    Refused,
}

/// One call, when it was over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) at: Duration,
    pub(super) fate: Fate,
    /// It took longer than the policy's limit for slow calls.
    pub(super) slow: bool,
}

/// A change of state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub(super) at: Duration,
    pub(super) change: StateChange,
}

/// All that happened.
#[derive(Debug)]
pub(super) struct History {
    /// In the order of their ends.
    pub(super) calls: Vec<Call>,
    pub(super) changes: Vec<Change>,
    /// The breaker at the end.
    pub(super) end: BreakerView,
}

impl History {
    /// The state at a time.
    pub(super) fn state(&self, time: Duration) -> BreakerState {
        let last = self.changes.iter().take_while(|change| change.at <= time).last();
        last.map_or(BreakerState::Closed, |last| last.change.to)
    }

    /// Calls that ended so.
    pub(super) fn count(&self, fate: Fate) -> usize {
        self.calls.iter().filter(|call| call.fate == fate).count()
    }
}

/// A call that was let through, waiting for its end.
struct Pending {
    permit: Permit,
    failed: bool,
    took: Duration,
}

/// Lets the calls of a script go through one breaker.
pub(super) fn run(named: &NamedBreaker, script: &Script, load: CallLoad, seed: u64) -> History {
    let breaker = CircuitBreaker::new(named.policy.clone()).with_mode(named.mode);
    // Calls have dice of their own, so that they are the same for every policy.
    let (mut calls_rng, mut breaker_rng) = (fastrand::Rng::with_seed(seed), fastrand::Rng::with_seed(seed));
    let start = Instant::now();
    breaker.view(start);
    let mut run = Run { breaker: &breaker, start, slow: slow_limit(named), calls: Vec::new(), changes: Vec::new() };
    let (mut ends, mut pending) = (BinaryHeap::new(), Vec::new());
    let length = script.length();
    let mut next = load.pause(&mut calls_rng);
    while let Some(phase) = script.at(next).filter(|_| next < length) {
        run.end_until(next, &mut ends, &mut pending, &mut breaker_rng);
        let took = phase.delay.sample(&mut calls_rng);
        let failed = calls_rng.f64() * 100.0 < phase.fail;
        if let Some(permit) = run.ask(next, &mut breaker_rng) {
            ends.push(Reverse((next + took, pending.len())));
            pending.push(Some(Pending { permit, failed, took }));
        }
        next += load.pause(&mut calls_rng);
    }
    run.end_until(Duration::MAX, &mut ends, &mut pending, &mut breaker_rng);
    let last = run.calls.last().map_or(length, |call| call.at.max(length));
    History { end: breaker.view(start + last), calls: run.calls, changes: run.changes }
}

fn slow_limit(named: &NamedBreaker) -> Option<Duration> {
    named.policy.slow_calls.map(|slow| slow.longer_than)
}

struct Run<'a> {
    breaker: &'a CircuitBreaker,
    start: Instant,
    slow: Option<Duration>,
    calls: Vec<Call>,
    changes: Vec<Change>,
}

impl Run<'_> {
    fn note(&mut self, at: Duration, change: Option<StateChange>) {
        self.changes.extend(change.map(|change| Change { at, change }));
    }

    fn ask(&mut self, at: Duration, rng: &mut fastrand::Rng) -> Option<Permit> {
        let admission = self.breaker.try_acquire(self.start + at, rng);
        self.note(at, admission.change);
        if admission.permit.is_err() {
            self.calls.push(Call { at, fate: Fate::Refused, slow: false });
        }
        admission.permit.ok()
    }

    /// Ends the calls that are over at a time.
    fn end_until(
        &mut self,
        time: Duration,
        ends: &mut BinaryHeap<Reverse<(Duration, usize)>>,
        pending: &mut [Option<Pending>],
        rng: &mut fastrand::Rng,
    ) {
        while let Some(&Reverse((at, number))) = ends.peek().filter(|Reverse((at, _))| *at <= time) {
            ends.pop();
            let Some(Pending { permit, failed, took }) = pending[number].take() else { continue };
            let (outcome, fate) =
                if failed { (Outcome::Failure, Fate::Failed) } else { (Outcome::Success, Fate::Succeeded) };
            let change = self.breaker.record(permit, outcome, self.start + at, rng);
            self.note(at, change);
            self.calls.push(Call { at, fate, slow: self.slow.is_some_and(|limit| took > limit) });
        }
    }
}

#[cfg(test)]
mod tests {
    use meshwright_traffic::StateCause;

    use super::*;

    fn simulate(policy: &str, script: &str, load: &str) -> History {
        run(&policy.parse().unwrap(), &script.parse().unwrap(), load.parse().unwrap(), 7)
    }

    #[test]
    fn an_outage_opens_the_breaker_and_its_end_closes_it() {
        let history = simulate(
            "consecutiveFailures: 3, timeout: 5s",
            "10s;delay=10ms,10s;fail=100%;delay=10ms,20s;delay=10ms",
            "every 100ms",
        );
        let seen: Vec<(u64, &str)> =
            history.changes.iter().map(|change| (change.at.as_secs(), change.change.to.as_str())).collect();
        // Open at 10.2 s, a probe fails at 15.2 s, the next one succeeds at 20.3 s.
        assert_eq!(seen, [(10, "open"), (15, "half-open"), (15, "open"), (20, "half-open"), (20, "closed")]);
        assert_eq!(history.changes[0].change.cause, StateCause::ConsecutiveFailures(3));
        assert_eq!(history.count(Fate::Failed), 4, "three calls and a probe");
        assert_eq!(history.state(Duration::from_secs(12)), BreakerState::Open);
        assert_eq!(history.end.state, BreakerState::Closed);
        assert_eq!(history.end.refused, history.count(Fate::Refused) as u64);
    }

    #[test]
    fn slow_calls_open_a_breaker_that_looks_at_them() {
        let policy =
            "consecutiveFailures: 0, slowCallDuration: 1s, slowCallPercent: 50, minimumCalls: 10, windowTime: 10s";
        let history = simulate(policy, "20s;delay=20ms,20s;delay=3s", "20/s");
        assert!(matches!(history.changes[0].change.cause, StateCause::SlowCallRate { .. }), "{:?}", history.changes);
        assert!(history.calls.iter().any(|call| call.slow));
        assert_eq!(history.count(Fate::Failed), 0);
    }

    #[test]
    fn observing_refuses_nothing_and_every_policy_meets_the_same_calls() {
        let script = "5s,20s;fail=80%,5s";
        let deciding = simulate("GOBREAKER", script, "20/s");
        let observing = simulate("mode: OBSERVE", script, "20/s");
        assert_eq!(observing.count(Fate::Refused), 0);
        assert!(deciding.count(Fate::Refused) > 0);
        assert_eq!(deciding.calls.len(), observing.calls.len());
        assert!(observing.changes.iter().all(|change| !change.change.enforced));
    }
}
