//! The state machine of a circuit breaker, one thread at a time. Knows no lock. Read next: `mod.rs`, which shares it.
//!
//! ```text
//!            a condition of the policy holds
//!  Closed ─────────────────────────────────────▶ Open ◀──────────────────┐
//!    ▲  ▲                                         │ open time is over,    │ a probe failed, the rates are too high,
//!    │  └── interval over: counts 0               ▼ and a call comes      │ or the probes take too long
//!    └──────────────────────────────────────── HalfOpen ─────────────────┘
//!            the probes showed what they should
//! ```
//!
//! Every arrow begins a new generation with counts of 0; a permit knows its generation, and what an old one says is
//! ignored.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::event::{BreakerMode, BreakerRefusal, BreakerState, BreakerView, Counts, StateCause, StateChange};
use super::policy::{BreakerPolicy, Recovery, Window};
use super::window::{Call, Sums, Tally, end};
use super::{Outcome, Permit};

/// Generation of permits that say nothing.
const UNCOUNTED: u64 = 0;

#[derive(Debug)]
pub(super) struct Machine {
    policy: Arc<BreakerPolicy>,
    state: BreakerState,
    mode: BreakerMode,
    generation: u64,
    since: Instant,
    cause: Option<StateCause>,
    /// Closed: end of the interval. Open: end of the open time. HalfOpen: end of its longest time.
    until: Option<Instant>,
    /// Calls of this generation that have not ended.
    in_flight: u32,
    consecutive_successes: u32,
    consecutive_failures: u32,
    /// Calls that ended while closed.
    window: Tally,
    /// Calls that ended while half-open.
    probes: Sums,
    /// Openings since it was closed last.
    in_a_row: u32,
    openings: u64,
    refused: u64,
}

impl Machine {
    /// A closed breaker whose life begins now; `policy` is in range.
    pub(super) fn new(policy: Arc<BreakerPolicy>, mode: BreakerMode, now: Instant) -> Self {
        let mut machine = Self {
            window: Tally::new(policy.window, now),
            state: if mode == BreakerMode::ForcedOpen { BreakerState::Open } else { BreakerState::Closed },
            mode,
            generation: UNCOUNTED,
            since: now,
            cause: None,
            until: None,
            in_flight: 0,
            consecutive_successes: 0,
            consecutive_failures: 0,
            probes: Sums::default(),
            in_a_row: 0,
            openings: 0,
            refused: 0,
            policy,
        };
        machine.begin_generation(now);
        machine
    }

    /// Does what time alone does: ends an interval, an open time, a half-open time.
    pub(super) fn advance(&mut self, now: Instant, rng: &mut fastrand::Rng) -> Option<StateChange> {
        if self.until.is_none_or(|until| now < until) {
            return None;
        }
        match self.state {
            BreakerState::Closed => {
                self.begin_generation(now);
                None
            }
            BreakerState::Open => Some(self.enter(BreakerState::HalfOpen, StateCause::OpenTimeOver, now, rng)),
            BreakerState::HalfOpen => Some(self.enter(BreakerState::Open, StateCause::ProbesTookTooLong, now, rng)),
        }
    }

    /// Admits a call or refuses it. `advance` must have been called with the same time.
    pub(super) fn admit(&mut self, now: Instant) -> Result<Permit, BreakerRefusal> {
        let refusal = match (self.mode, self.state) {
            (BreakerMode::Disabled, _) => return Ok(Permit { generation: UNCOUNTED, started: now }),
            (BreakerMode::ForcedOpen, _) => Some(BreakerRefusal::Forced),
            (_, BreakerState::Closed) => None,
            (_, BreakerState::Open) => {
                let retry_after = self.until.map_or(Duration::MAX, |until| until.saturating_duration_since(now));
                Some(BreakerRefusal::Open { retry_after })
            }
            (_, BreakerState::HalfOpen) => {
                let admitted = self.probes.calls().saturating_add(self.in_flight);
                (admitted >= self.policy.probes).then_some(BreakerRefusal::ProbesInFlight)
            }
        };
        let Some(refusal) = refusal else {
            self.in_flight = self.in_flight.saturating_add(1);
            return Ok(Permit { generation: self.generation, started: now });
        };
        self.refused += 1;
        match self.mode {
            BreakerMode::MetricsOnly => Ok(Permit { generation: UNCOUNTED, started: now }),
            _ => Err(refusal),
        }
    }

    /// Takes note of how an admitted call ended.
    pub(super) fn record(
        &mut self,
        permit: Permit,
        outcome: Outcome,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Option<StateChange> {
        if permit.generation != self.generation {
            return None;
        }
        if let Some(change) = self.advance(now, rng) {
            return Some(change);
        }
        if permit.generation != self.generation {
            return None;
        }
        self.in_flight = self.in_flight.saturating_sub(1);
        let took = now.saturating_duration_since(permit.started);
        let slow = self.policy.slow_calls.is_some_and(|slow| took > slow.longer_than);
        let call = Call { failed: outcome == Outcome::Failure, slow };
        if call.failed {
            self.consecutive_failures = self.consecutive_failures.saturating_add(1);
            self.consecutive_successes = 0;
        } else {
            self.consecutive_successes = self.consecutive_successes.saturating_add(1);
            self.consecutive_failures = 0;
        }
        match self.state {
            BreakerState::HalfOpen => self.record_probe(call, now, rng),
            // Nothing is admitted in this generation while open.
            BreakerState::Open => None,
            BreakerState::Closed => {
                self.window.add(call, now);
                let cause = self.trips(call.failed)?;
                Some(self.enter(BreakerState::Open, cause, now, rng))
            }
        }
    }

    /// Takes an admitted call back that never ended: it is as if it had not been admitted.
    pub(super) fn release(&mut self, permit: Permit) {
        if permit.generation == self.generation {
            self.in_flight = self.in_flight.saturating_sub(1);
        }
    }

    /// Starts anew, closed, with who decides from now on.
    pub(super) fn set_mode(&mut self, mode: BreakerMode, now: Instant) -> StateChange {
        self.mode = mode;
        self.in_a_row = 0;
        let to = if mode == BreakerMode::ForcedOpen { BreakerState::Open } else { BreakerState::Closed };
        let mut change = self.enter_without_time(to, StateCause::Operator(mode), now);
        change.enforced = true;
        change
    }

    pub(super) fn view(&mut self, now: Instant) -> BreakerView {
        self.window.advance(now);
        BreakerView {
            state: self.state,
            mode: self.mode,
            since: self.since,
            cause: self.cause,
            until: self.until.filter(|_| self.state == BreakerState::Open),
            counts: self.counts(),
            openings: self.openings,
            refused: self.refused,
        }
    }

    fn counts(&self) -> Counts {
        let sums = if self.state == BreakerState::HalfOpen { self.probes } else { self.window.sums() };
        Counts {
            requests: sums.calls().saturating_add(self.in_flight),
            total_successes: sums.successes,
            total_failures: sums.failures,
            consecutive_successes: self.consecutive_successes,
            consecutive_failures: self.consecutive_failures,
            slow_calls: sums.slow,
        }
    }

    /// The condition that holds after a call, while closed.
    fn trips(&self, failed: bool) -> Option<StateCause> {
        if matches!(self.mode, BreakerMode::ForcedClosed) {
            return None;
        }
        let limit = self.policy.consecutive_failures;
        if failed && limit > 0 && self.consecutive_failures >= limit {
            return Some(StateCause::ConsecutiveFailures(self.consecutive_failures));
        }
        let sums = self.window.sums();
        if sums.calls() >= self.policy.minimum_calls
            && let Some(cause) = self.rates(sums)
        {
            return Some(cause);
        }
        let own = self.policy.ready_to_trip.as_ref().filter(|_| failed)?;
        own.says(&self.counts()).then_some(StateCause::ReadyToTrip)
    }

    /// The rate that is at or above its limit.
    fn rates(&self, sums: Sums) -> Option<StateCause> {
        let calls = sums.calls();
        let reaches = |part: u32, percent: u32| u64::from(part) * 100 >= u64::from(percent) * u64::from(calls);
        if self.policy.failure_percent.is_some_and(|percent| reaches(sums.failures, percent)) {
            return Some(StateCause::FailureRate { failed: sums.failures, calls });
        }
        let slow = self.policy.slow_calls?;
        reaches(sums.slow, slow.percent).then_some(StateCause::SlowCallRate { slow: sums.slow, calls })
    }

    fn record_probe(&mut self, call: Call, now: Instant, rng: &mut fastrand::Rng) -> Option<StateChange> {
        self.probes.add(call);
        let by_rates = self.policy.recovery == Recovery::Rates
            && (self.policy.failure_percent.is_some() || self.policy.slow_calls.is_some());
        if !by_rates && (call.failed || call.slow) {
            return Some(self.enter(BreakerState::Open, StateCause::ProbeFailed, now, rng));
        }
        let ended = self.probes.calls();
        if ended < self.policy.probes {
            return None;
        }
        if by_rates && let Some(cause) = self.rates(self.probes) {
            return Some(self.enter(BreakerState::Open, cause, now, rng));
        }
        self.in_a_row = 0;
        Some(self.enter(BreakerState::Closed, StateCause::ProbesSucceeded(ended), now, rng))
    }

    fn enter(&mut self, to: BreakerState, cause: StateCause, now: Instant, rng: &mut fastrand::Rng) -> StateChange {
        let mut change = self.enter_without_time(to, cause, now);
        if to == BreakerState::Open {
            let time = self.policy.open_time.after(self.in_a_row, rng);
            self.in_a_row = self.in_a_row.saturating_add(1);
            self.openings += 1;
            // A time beyond what the clock can name is for ever.
            self.until = end(now, Some(time));
            change.open_time = Some(time);
        }
        change
    }

    fn enter_without_time(&mut self, to: BreakerState, cause: StateCause, now: Instant) -> StateChange {
        let from = std::mem::replace(&mut self.state, to);
        self.since = now;
        self.cause = Some(cause);
        self.begin_generation(now);
        StateChange { from, to, cause, at: now, open_time: None, enforced: self.mode != BreakerMode::MetricsOnly }
    }

    fn begin_generation(&mut self, now: Instant) {
        self.generation += 1;
        self.in_flight = 0;
        self.consecutive_successes = 0;
        self.consecutive_failures = 0;
        self.probes = Sums::default();
        self.window.clear(now);
        self.until = match (self.state, self.policy.window) {
            (BreakerState::Closed, Window::Interval(interval)) => end(now, interval),
            (BreakerState::HalfOpen, _) => end(now, self.policy.max_half_open_time),
            _ => None,
        };
    }
}
