//! The circuit breaker against a slow model that keeps every call and counts anew each time, under simulated time.

use std::time::{Duration, Instant};

use meshwright_traffic::{
    BreakerMode, BreakerPolicy, BreakerRefusal, BreakerState, CircuitBreaker, Counts, OpenTime, Outcome, Permit,
    ReadyToTrip, Recovery, SlowCalls, StateCause, Window,
};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
struct Ended {
    at: Instant,
    failed: bool,
    slow: bool,
}

/// What the model says about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ticket {
    Counted(u32),
    Ignored,
}

/// The breaker as one would explain it: a list of calls that ended in the present phase.
struct Model {
    policy: BreakerPolicy,
    mode: BreakerMode,
    state: BreakerState,
    phase: u32,
    began: Instant,
    open_until: Option<Instant>,
    failed_recoveries: i32,
    ended: Vec<Ended>,
    in_flight: u32,
}

impl Model {
    fn new(policy: BreakerPolicy, now: Instant) -> Self {
        Self {
            policy,
            mode: BreakerMode::Automatic,
            state: BreakerState::Closed,
            phase: 0,
            began: now,
            open_until: None,
            failed_recoveries: 0,
            ended: Vec::new(),
            in_flight: 0,
        }
    }

    fn phase(&mut self, state: BreakerState, now: Instant) {
        (self.state, self.began, self.open_until) = (state, now, None);
        self.phase += 1;
        self.ended.clear();
        self.in_flight = 0;
    }

    fn open(&mut self, now: Instant) {
        self.phase(BreakerState::Open, now);
        let time = self.policy.open_time.base.as_millis() as f64
            * self.policy.open_time.multiplier.powi(self.failed_recoveries);
        let time = Duration::from_millis(time as u64).min(self.policy.open_time.max);
        self.open_until = Some(now + time);
        self.failed_recoveries += 1;
    }

    fn time(&mut self, now: Instant) -> Option<StateCause> {
        match self.state {
            BreakerState::Closed => {
                if let Window::Interval(Some(interval)) = self.policy.window
                    && now >= self.began + interval
                {
                    self.phase(BreakerState::Closed, now);
                }
                None
            }
            BreakerState::Open if self.open_until.is_some_and(|until| now >= until) => {
                self.phase(BreakerState::HalfOpen, now);
                Some(StateCause::OpenTimeOver)
            }
            BreakerState::HalfOpen if self.policy.max_half_open_time.is_some_and(|most| now >= self.began + most) => {
                self.open(now);
                Some(StateCause::ProbesTookTooLong)
            }
            _ => None,
        }
    }

    fn admit(&mut self, now: Instant) -> Result<Ticket, BreakerRefusal> {
        let refusal = match self.state {
            _ if self.mode == BreakerMode::Disabled => return Ok(Ticket::Ignored),
            _ if self.mode == BreakerMode::ForcedOpen => Some(BreakerRefusal::Forced),
            BreakerState::Closed => None,
            BreakerState::Open => Some(BreakerRefusal::Open {
                retry_after: self.open_until.expect("an open phase has an end").duration_since(now),
            }),
            BreakerState::HalfOpen => (self.ended.len() as u32 + self.in_flight >= self.policy.probes)
                .then_some(BreakerRefusal::ProbesInFlight),
        };
        match refusal {
            Some(_) if self.mode == BreakerMode::MetricsOnly => Ok(Ticket::Ignored),
            Some(refusal) => Err(refusal),
            None => {
                self.in_flight += 1;
                Ok(Ticket::Counted(self.phase))
            }
        }
    }

    fn end(&mut self, ticket: Ticket, started: Instant, failed: bool, now: Instant) -> Option<StateCause> {
        if ticket != Ticket::Counted(self.phase) {
            return None;
        }
        if let Some(cause) = self.time(now) {
            return Some(cause);
        }
        if ticket != Ticket::Counted(self.phase) {
            return None;
        }
        self.in_flight -= 1;
        let slow = self.policy.slow_calls.is_some_and(|slow| now - started > slow.longer_than);
        self.ended.push(Ended { at: now, failed, slow });
        if self.state == BreakerState::HalfOpen { self.judge_probes(now) } else { self.judge(failed, now) }
    }

    fn judge(&mut self, failed: bool, now: Instant) -> Option<StateCause> {
        if self.mode == BreakerMode::ForcedClosed {
            return None;
        }
        let counts = self.counts(now);
        let row = counts.consecutive_failures;
        let own = self.policy.ready_to_trip.as_ref().is_some_and(|_| failed && counts.total_failures == 3);
        let cause = if self.policy.consecutive_failures > 0 && row >= self.policy.consecutive_failures {
            StateCause::ConsecutiveFailures(row)
        } else if let Some(cause) = self.rates(&counts, self.policy.minimum_calls) {
            cause
        } else if own {
            StateCause::ReadyToTrip
        } else {
            return None;
        };
        self.open(now);
        Some(cause)
    }

    fn judge_probes(&mut self, now: Instant) -> Option<StateCause> {
        let counts = self.counts(now);
        let rates = self.policy.failure_percent.is_some() || self.policy.slow_calls.is_some();
        let all = self.ended.len() as u32 == self.policy.probes;
        let bad = if self.policy.recovery == Recovery::Rates && rates {
            if all { self.rates(&counts, 1) } else { None }
        } else {
            (counts.total_failures + counts.slow_calls > 0).then_some(StateCause::ProbeFailed)
        };
        if bad.is_some() {
            self.open(now);
            return bad;
        }
        if !all {
            return None;
        }
        self.failed_recoveries = 0;
        self.phase(BreakerState::Closed, now);
        Some(StateCause::ProbesSucceeded(self.policy.probes))
    }

    fn rates(&self, counts: &Counts, minimum: u32) -> Option<StateCause> {
        let calls = counts.total_successes + counts.total_failures;
        let minimum = if let Window::Count(size) = self.policy.window { minimum.min(size) } else { minimum };
        if calls < minimum.max(1) {
            return None;
        }
        let share = |part: u32| f64::from(part) / f64::from(calls) * 100.0 + 1e-9;
        if self.policy.failure_percent.is_some_and(|percent| share(counts.total_failures) >= f64::from(percent)) {
            return Some(StateCause::FailureRate { failed: counts.total_failures, calls });
        }
        let slow = self.policy.slow_calls.filter(|slow| share(counts.slow_calls) >= f64::from(slow.percent))?;
        let _ = slow;
        Some(StateCause::SlowCallRate { slow: counts.slow_calls, calls })
    }

    fn in_window(&self, now: Instant) -> Vec<Ended> {
        let bucket = |at: Instant, width: Duration| (at - self.began).as_nanos() / width.as_nanos();
        match self.policy.window {
            _ if self.state != BreakerState::Closed => self.ended.clone(),
            Window::Count(size) => self.ended.iter().rev().take(size as usize).copied().collect(),
            Window::Time { length, buckets } => {
                let width = length / buckets;
                let kept = |call: &&Ended| bucket(call.at, width) + u128::from(buckets) > bucket(now, width);
                self.ended.iter().filter(kept).copied().collect()
            }
            Window::Interval(_) => self.ended.clone(),
        }
    }

    fn counts(&self, now: Instant) -> Counts {
        let calls = self.in_window(now);
        let row = |failed: bool| self.ended.iter().rev().take_while(|call| call.failed == failed).count() as u32;
        Counts {
            requests: calls.len() as u32 + self.in_flight,
            total_successes: calls.iter().filter(|call| !call.failed).count() as u32,
            total_failures: calls.iter().filter(|call| call.failed).count() as u32,
            consecutive_successes: row(false),
            consecutive_failures: row(true),
            slow_calls: calls.iter().filter(|call| call.slow).count() as u32,
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Ask,
    End(prop::sample::Index, bool),
    GiveUp(prop::sample::Index),
    Mode(BreakerMode),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => prop_oneof![Just(0), 1..40u64, Just(100), Just(1_000), 0..3_000u64].prop_map(Step::Wait),
        12 => Just(Step::Ask),
        10 => (any::<prop::sample::Index>(), prop::bool::weighted(0.55)).prop_map(|(which, failed)| Step::End(which, failed)),
        2 => any::<prop::sample::Index>().prop_map(Step::GiveUp),
        1 => prop::sample::select(&BreakerMode::ALL[..]).prop_map(Step::Mode),
    ];
    prop::collection::vec(step, 1..300)
}

fn policies() -> impl Strategy<Value = BreakerPolicy> {
    let window = prop_oneof![
        (1..20u32).prop_map(Window::Count),
        (1..8u32, 1..200u64).prop_map(|(buckets, width)| Window::Time {
            length: Duration::from_millis(width * u64::from(buckets)),
            buckets
        }),
        prop::option::of(1..2_000u64).prop_map(|time| Window::Interval(time.map(Duration::from_millis))),
    ];
    let slow = prop::option::of((1..200u64, 1..=100u32))
        .prop_map(|slow| slow.map(|(time, percent)| SlowCalls { longer_than: Duration::from_millis(time), percent }));
    let trip = (0..6u32, prop::option::of(1..=100u32), slow, 1..15u32, prop::bool::weighted(0.3));
    let back = (1..5u32, any::<bool>(), prop::option::of(1..2_000u64), 1..1_000u64, 1..4u32);
    (window, trip, back).prop_map(|(window, trip, back)| BreakerPolicy {
        window,
        consecutive_failures: trip.0,
        failure_percent: trip.1,
        slow_calls: trip.2,
        minimum_calls: trip.3,
        ready_to_trip: trip.4.then(|| ReadyToTrip::new(|counts| counts.total_failures == 3)),
        probes: back.0,
        recovery: if back.1 { Recovery::Rates } else { Recovery::EveryProbe },
        max_half_open_time: back.2.map(Duration::from_millis),
        open_time: OpenTime {
            base: Duration::from_millis(back.3),
            multiplier: f64::from(back.4),
            max: Duration::from_secs(3),
            jitter: 0.0,
        },
    })
}

proptest! {
    #[test]
    #[allow(clippy::disallowed_methods, reason = "the start of simulated time")]
    fn the_breaker_does_what_the_model_does(policy in policies(), steps in steps()) {
        let mut now = Instant::now();
        let mut rng = fastrand::Rng::with_seed(1);
        let breaker = CircuitBreaker::new(policy.clone());
        breaker.view(now);
        let mut model = Model::new(policy.clone(), now);
        let mut calls: Vec<(Permit, Ticket)> = Vec::new();
        for step in steps {
            match step {
                Step::Wait(time) => now += Duration::from_millis(time),
                Step::Ask => {
                    let admission = breaker.try_acquire(now, &mut rng);
                    prop_assert_eq!(admission.change.map(|change| change.cause), model.time(now));
                    match (admission.permit, model.admit(now)) {
                        (Ok(permit), Ok(ticket)) => calls.push((permit, ticket)),
                        (Err(ours), Err(theirs)) => prop_assert_eq!(ours, theirs),
                        (ours, theirs) => prop_assert!(false, "{:?} but the model says {:?}", ours, theirs),
                    }
                }
                Step::End(which, failed) if !calls.is_empty() => {
                    let (permit, ticket) = calls.swap_remove(which.index(calls.len()));
                    let started = permit.started();
                    let outcome = if failed { Outcome::Failure } else { Outcome::Success };
                    let cause = breaker.record(permit, outcome, now, &mut rng).map(|change| change.cause);
                    prop_assert_eq!(cause, model.end(ticket, started, failed, now));
                }
                Step::GiveUp(which) if !calls.is_empty() => {
                    let (permit, ticket) = calls.swap_remove(which.index(calls.len()));
                    breaker.release(permit);
                    if ticket == Ticket::Counted(model.phase) {
                        model.in_flight -= 1;
                    }
                }
                Step::Mode(mode) => {
                    breaker.set_mode(mode, now);
                    (model.mode, model.failed_recoveries) = (mode, 0);
                    let open = mode == BreakerMode::ForcedOpen;
                    model.phase(if open { BreakerState::Open } else { BreakerState::Closed }, now);
                }
                Step::End(..) | Step::GiveUp(_) => {}
            }
            let view = breaker.view(now);
            prop_assert_eq!(view.state, model.state);
            prop_assert_eq!(view.counts, model.counts(now));
            if view.state == BreakerState::HalfOpen {
                prop_assert!(view.counts.requests <= policy.probes, "more probes than allowed");
            }
        }
    }
}
