//! A circuit breaker: stops calls to what fails or is slow, waits, lets a few through, closes when they succeed. Knows no
//! clock and no call: the caller says what time it is and how a call ended. Read next: `policy.rs` for what can be
//! configured, `machine.rs` for the states.

mod changes;
mod event;
mod machine;
mod policy;
mod window;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use machine::Machine;

pub use changes::BreakerChanges;
pub use event::{BreakerMode, BreakerRefusal, BreakerState, BreakerView, Counts, StateCause, StateChange};
pub use policy::{BreakerPolicy, OpenTime, ReadyToTrip, Recovery, SlowCalls, Window};

/// Leave to make one call. Give it back to the breaker that gave it, by [`CircuitBreaker::record`] when the call ended or
/// [`CircuitBreaker::release`] when it was given up: a half-open breaker waits for its probes.
#[derive(Debug)]
#[must_use = "a permit that is not given back keeps a probe's place"]
pub struct Permit {
    generation: u64,
    started: Instant,
}

impl Permit {
    /// When the call was admitted; how long it took is counted from here.
    pub fn started(&self) -> Instant {
        self.started
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Success,
    /// Not as it should.
    Failure,
}

/// What asking for a permit came to. Both parts may matter: the call that finds the open time over is the first probe.
#[derive(Debug)]
pub struct Admission {
    /// The permit, or why there is none.
    pub permit: Result<Permit, BreakerRefusal>,
    /// The change of state that came with the question.
    pub change: Option<StateChange>,
}

/// A circuit breaker that threads share. Its life begins with the first question.
///
/// Sources: Nygard, "Release It!" (the pattern); sony/gobreaker (generations, counts, a caller's own condition);
/// resilience4j (count and time windows, slow calls, half-open by rates, modes); Hystrix (rolling buckets, one trial).
///
/// Asking and recording take a lock for some tens of nanoseconds each; a caller's own condition runs under it. Nothing
/// waits and nothing allocates, but for the ring of a count window that fills up for the first time. `rng` draws the
/// jitter of an open time.
///
/// ```
/// use std::time::{Duration, Instant};
/// use meshwright_traffic::{BreakerPolicy, BreakerState, CircuitBreaker, Outcome};
///
/// let (mut now, mut rng) = (Instant::now(), fastrand::Rng::with_seed(7));
/// let breaker = CircuitBreaker::new(BreakerPolicy { consecutive_failures: 1, ..BreakerPolicy::default() });
///
/// let permit = breaker.try_acquire(now, &mut rng).permit.unwrap();
/// let change = breaker.record(permit, Outcome::Failure, now, &mut rng).unwrap();
/// assert_eq!(change.to, BreakerState::Open);
/// assert!(breaker.try_acquire(now, &mut rng).permit.is_err());
///
/// now += Duration::from_secs(60);
/// let probe = breaker.try_acquire(now, &mut rng).permit.unwrap();
/// breaker.record(probe, Outcome::Success, now, &mut rng);
/// assert_eq!(breaker.view(now).state, BreakerState::Closed);
/// ```
#[derive(Debug)]
pub struct CircuitBreaker {
    policy: Arc<BreakerPolicy>,
    /// Who decides at first.
    mode: BreakerMode,
    /// Held for one step of the state machine, never while a call is made. Empty until the first question.
    machine: Mutex<Option<Machine>>,
}

impl CircuitBreaker {
    /// A closed breaker.
    pub fn new(policy: BreakerPolicy) -> Self {
        Self { policy: Arc::new(policy.in_range()), mode: BreakerMode::Automatic, machine: Mutex::new(None) }
    }

    /// Says who decides at first.
    #[must_use]
    pub fn with_mode(self, mode: BreakerMode) -> Self {
        Self { mode, machine: Mutex::new(None), ..self }
    }

    /// Asks for leave to make a call.
    pub fn try_acquire(&self, now: Instant, rng: &mut fastrand::Rng) -> Admission {
        self.with(now, |machine| {
            let change = machine.advance(now, rng);
            Admission { permit: machine.admit(now), change }
        })
    }

    /// Takes note of how an admitted call ended. A permit of an earlier state says nothing.
    pub fn record(
        &self,
        permit: Permit,
        outcome: Outcome,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Option<StateChange> {
        self.with(now, |machine| machine.record(permit, outcome, now, rng))
    }

    /// Takes an admitted call back that was given up: it counts neither way, and its place is free again.
    pub fn release(&self, permit: Permit) {
        if let Some(machine) = &mut *self.lock() {
            machine.release(permit);
        }
    }

    /// Does what time alone does. Calls do this by themselves; use it to see changes without calls.
    pub fn advance(&self, now: Instant, rng: &mut fastrand::Rng) -> Option<StateChange> {
        self.with(now, |machine| machine.advance(now, rng))
    }

    /// Says who decides, and starts anew: closed and with nothing counted, or open when that is forced.
    pub fn set_mode(&self, mode: BreakerMode, now: Instant) -> StateChange {
        self.with(now, |machine| machine.set_mode(mode, now))
    }

    /// Starts anew, with who decided at first deciding again.
    pub fn reset(&self, now: Instant) -> StateChange {
        self.set_mode(self.mode, now)
    }

    /// The breaker at this moment.
    pub fn view(&self, now: Instant) -> BreakerView {
        self.with(now, |machine| machine.view(now))
    }

    /// Its policy, every value in its range.
    pub fn policy(&self) -> &BreakerPolicy {
        &self.policy
    }

    fn with<R>(&self, now: Instant, step: impl FnOnce(&mut Machine) -> R) -> R {
        step(self.lock().get_or_insert_with(|| Machine::new(Arc::clone(&self.policy), self.mode, now)))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Machine>> {
        // A caller's condition may panic; the state is consistent before it runs.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
