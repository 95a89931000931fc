//! Limits of concurrency that learn from latency how much a destination bears: Gradient2, Vegas and AIMD as Netflix
//! publishes them (Netflix/concurrency-limits, classes `Gradient2Limit`, `VegasLimit`, `AIMDLimit`, `WindowedLimit`),
//! with their defaults. Knows no clock. Read next: `adaptive/algorithm.rs`, `shed.rs`.

mod algorithm;

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicU32, AtomicU64, Mutex, Ordering};
use crate::{Criticality, ShedPolicy};
use algorithm::Learner;
pub use algorithm::{Aimd, Gradient2, LimitAlgorithm, Vegas};

/// Samples below this say nothing (Netflix' `minRttThreshold`).
const SHORTEST: Duration = Duration::from_micros(100);

/// A window with fewer samples says nothing (Netflix' `windowSize`).
const FEWEST: u32 = 10;

/// How a limit learns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaptivePolicy {
    /// The rule by which it learns. Default: [`Gradient2`].
    pub algorithm: LimitAlgorithm,
    /// Where it begins. Default 20.
    pub initial: u32,
    /// It is never lower; at least 1. Default 20.
    pub min: u32,
    /// It is never higher. Default 200.
    pub max: u32,
    /// Samples are averaged over so long before they are looked at; zero looks at each one. Default 1 s.
    pub window: Duration,
    /// Observe: learn and count, but refuse nothing. Default false.
    pub observe: bool,
    /// Which share of the limit a request may use, by criticality.
    pub shed: ShedPolicy,
}

impl Default for AdaptivePolicy {
    fn default() -> Self {
        Self {
            algorithm: LimitAlgorithm::Gradient2(Gradient2::default()),
            initial: 20,
            min: 20,
            max: 200,
            window: Duration::from_secs(1),
            observe: false,
            shed: ShedPolicy::default(),
        }
    }
}

/// How a request that had a slot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitSample {
    /// It was answered: its latency counts.
    Success,
    /// It timed out or the destination said that it is overloaded: a reason to lower the limit.
    Dropped,
    /// It says nothing about the destination, such as a request that was cancelled.
    Ignored,
}

/// A place among the requests in flight; owed back by [`AdaptiveLimit::end`].
#[derive(Debug)]
#[must_use = "a slot that is not given back lowers the limit for good"]
pub struct Slot {
    started: Instant,
    in_flight: u32,
}

/// A limit at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdaptiveView {
    /// Requests that may be in flight.
    pub limit: u32,
    /// Requests in flight.
    pub in_flight: u32,
    /// Requests that found no place, ever; when observing, those that would have found none.
    pub refused: u64,
    /// Latency without load as the algorithm sees it; `None` before there is one, and for AIMD.
    pub base_latency: Option<Duration>,
}

/// A limit that threads share. Getting a place is one atomic exchange; giving it back also takes a lock for some tens of
/// nanoseconds.
#[derive(Debug)]
pub struct AdaptiveLimit {
    policy: AdaptivePolicy,
    limit: AtomicU32,
    in_flight: CachePadded<AtomicU32>,
    refused: AtomicU64,
    /// Held while one sample is added.
    learner: Mutex<Learning>,
}

#[derive(Debug)]
struct Learning {
    learner: Learner,
    window: SampleWindow,
    next_update: Option<Instant>,
}

#[derive(Debug, Default)]
struct SampleWindow {
    sum: Duration,
    samples: u32,
    most_in_flight: u32,
    dropped: bool,
}

impl AdaptiveLimit {
    /// A limit that has learnt nothing yet.
    pub fn new(policy: AdaptivePolicy) -> Self {
        let min = policy.min.max(1);
        let policy = AdaptivePolicy { min, max: policy.max.max(min), ..policy };
        let initial = policy.initial.clamp(policy.min, policy.max);
        let learning = Learning {
            learner: Learner::new(policy.algorithm, initial, policy.min, policy.max),
            window: SampleWindow::default(),
            next_update: None,
        };
        Self {
            policy,
            limit: AtomicU32::new(initial),
            in_flight: CachePadded::default(),
            refused: AtomicU64::new(0),
            learner: Mutex::new(learning),
        }
    }

    /// The policy, in range.
    pub fn policy(&self) -> &AdaptivePolicy {
        &self.policy
    }

    /// Takes a place, or says that there is none for a request of that criticality.
    pub fn try_acquire(&self, criticality: Criticality, now: Instant) -> Option<Slot> {
        let places = self.policy.shed.places(criticality, self.limit.load(Ordering::Relaxed));
        let observe = self.policy.observe;
        let one_more = |used: u32| (observe || used < places).then(|| used.saturating_add(1));
        let before = self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        if before.is_err() || before.is_ok_and(|used| used >= places) {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        before.ok().map(|used| Slot { started: now, in_flight: used.saturating_add(1) })
    }

    /// Gives a place back and learns from how the request went. `rng` draws the jitter of Vegas' probes.
    pub fn end(&self, slot: Slot, sample: LimitSample, now: Instant, rng: &mut fastrand::Rng) {
        if sample == LimitSample::Ignored {
            return self.release(slot);
        }
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        let took = now.saturating_duration_since(slot.started);
        let dropped = sample == LimitSample::Dropped;
        let mut learning = self.learner.lock().unwrap_or_else(PoisonError::into_inner);
        let sample = learning.add(took, slot.in_flight, dropped, now, self.policy.window);
        if let Some((latency, in_flight, dropped)) = sample {
            let limit = learning.learner.update(latency, in_flight, dropped, rng);
            self.limit.store(limit, Ordering::Relaxed);
        }
    }

    /// Gives a place back without learning anything.
    pub fn release(&self, _slot: Slot) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// The limit at this moment.
    pub fn view(&self) -> AdaptiveView {
        let base_latency = self.learner.lock().unwrap_or_else(PoisonError::into_inner).learner.base_latency();
        AdaptiveView {
            limit: self.limit.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            base_latency,
        }
    }
}

impl Learning {
    /// Adds a sample; what is to be learnt from, when there is something: latency, requests in flight, whether one was
    /// lost.
    fn add(
        &mut self,
        took: Duration,
        in_flight: u32,
        dropped: bool,
        now: Instant,
        length: Duration,
    ) -> Option<(Duration, u32, bool)> {
        let some_time = |time: Duration| time.max(Duration::from_nanos(1));
        if length.is_zero() {
            return Some((some_time(took), in_flight, dropped));
        }
        if took < SHORTEST && !dropped {
            return None;
        }
        let window = &mut self.window;
        window.sum = window.sum.saturating_add(took);
        window.samples += 1;
        window.most_in_flight = window.most_in_flight.max(in_flight);
        window.dropped |= dropped;
        if self.next_update.is_some_and(|next| now <= next) {
            return None;
        }
        self.next_update = now.checked_add(length);
        let window = std::mem::take(&mut self.window);
        let average = window.sum / window.samples;
        (window.samples >= FEWEST).then_some((some_time(average), window.most_in_flight, window.dropped))
    }
}
