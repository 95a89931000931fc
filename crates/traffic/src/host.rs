//! One endpoint of a cluster and the facts about it that every worker shares. Does not know its address: the caller
//! keeps addresses parallel to the hosts. Read next: `verdict.rs`, `host_set.rs`.

use std::sync::Arc;
use std::sync::atomic::AtomicU64 as StaticU64;
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use crate::HostVerdict;
use crate::ewma::PeakLatency;
use crate::health::HostHealth;
use crate::limits::take;
use crate::report::{LoadSource, ProbeOutcome, Report};
use crate::sync::{AtomicU8, AtomicU32, Ordering};

/// Counts changes of the availability of any host in this process. What a worker computed from availabilities is good as
/// long as this stands still; the number itself means nothing.
static AVAILABILITY_CHANGES: StaticU64 = StaticU64::new(1);

/// See [`availability_changed`].
pub(crate) fn availability_epoch() -> u64 {
    AVAILABILITY_CHANGES.load(Ordering::Acquire)
}

/// To be called after any fact changed that [`Host::is_available`] or slow start looks at.
pub(crate) fn availability_changed() {
    AVAILABILITY_CHANGES.fetch_add(1, Ordering::Release);
}

/// What an operator said about an endpoint. It outranks every automatic verdict and survives reloads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AdminState {
    /// Nothing: health decides.
    #[default]
    Enabled,
    /// No new requests; what is in flight ends by itself.
    Draining,
    /// No new requests, and the data plane may close connections that are idle.
    Disabled,
}

impl AdminState {
    /// Lower-case name, as admin pages and commands write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Draining => "draining",
            Self::Disabled => "disabled",
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Enabled => 0,
            Self::Draining => 1,
            Self::Disabled => 2,
        }
    }

    const fn of_code(code: u8) -> Self {
        match code {
            0 => Self::Enabled,
            1 => Self::Draining,
            _ => Self::Disabled,
        }
    }
}

/// Facts about one (service, address), shared by all workers and by every cluster of the service; they survive reloads.
///
/// Requests in flight and latency have a cache line of their own, since they are what requests write. A data plane
/// touches it only for clusters whose [`crate::Policy::needs_in_flight`] or [`crate::Policy::needs_latency`] says so, or that
/// have a [`crate::Bulkhead`]:
/// limits are counted in [`crate::Usage`], so round robin and random cost no shared write at all, and the counter of their
/// hosts stays 0.
#[derive(Debug, Default)]
pub struct HostState {
    load: CachePadded<Load>,
    admin: AtomicU8,
    health: HostHealth,
}

#[derive(Debug, Default)]
struct Load {
    in_flight: AtomicU32,
    latency: PeakLatency,
    report: Report,
}

impl HostState {
    /// Idle and enabled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Idle and enabled, and out of use until an active check has found it well.
    pub fn awaiting_check() -> Self {
        Self { health: HostHealth::pending(), ..Self::default() }
    }

    /// What active checks know about it.
    pub fn health(&self) -> &HostHealth {
        &self.health
    }

    /// Counts one more request in flight. Whoever calls this owes one [`HostState::release`], also when the request is
    /// cancelled; the caller's guard remembers that it acquired, because the policy may change in between.
    pub fn acquire(&self) {
        self.load.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one more request in flight unless there are `limit` already. Exact: two workers that race for the last place
    /// never both get it. Whoever is answered `true` owes one [`HostState::release`]. `limit` is less than `u32::MAX`.
    pub(crate) fn try_acquire(&self, limit: u32) -> bool {
        debug_assert!(limit < u32::MAX, "what is unlimited is not counted");
        take(&self.load.in_flight, limit)
    }

    /// Takes back one [`HostState::acquire`].
    pub fn release(&self) {
        let before = self.load.in_flight.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "release without acquire");
    }

    /// Requests in flight that were counted.
    pub fn in_flight(&self) -> u32 {
        self.load.in_flight.load(Ordering::Relaxed)
    }

    /// Takes note of how long an answer took to begin.
    pub fn observe_latency(&self, latency: Duration, now: Instant) {
        self.load.latency.observe(latency, now);
    }

    /// The peak-sensitive average of the time until answers begin, as it has decayed until `now`; zero before the first.
    pub fn latency(&self, now: Instant) -> Duration {
        // A float becomes the nearest whole number that there is.
        Duration::from_nanos(self.latency_nanos(now) as u64)
    }

    /// Takes down what the endpoint said of itself: its requests in flight, from everybody, and its latency. It is believed
    /// for a second.
    pub fn report(&self, in_flight: u32, latency: Duration, now: Instant) {
        self.load.report.set(in_flight, latency, now);
    }

    /// What the endpoint said of itself, as long as that is fresh.
    pub fn reported(&self, now: Instant) -> Option<(u32, Duration)> {
        self.load.report.fresh(now)
    }

    /// Where the load of the endpoint is known from.
    pub fn load_source(&self, now: Instant) -> LoadSource {
        self.load.report.source(now)
    }

    /// Leave to ask the endpoint for its load: given to one at a time, over all workers, and not for a while after it did not
    /// answer as it should ([`ProbeOutcome`]). It is given back with [`HostState::end_probe`], or lapses after `within`.
    pub fn begin_probe(&self, within: Duration, now: Instant) -> bool {
        self.load.report.begin_probe(within, now)
    }

    /// A probe ended like that. What the endpoint said is believed for a second.
    pub fn end_probe(&self, outcome: ProbeOutcome, now: Instant) {
        self.load.report.end_probe(outcome, now);
    }

    /// Requests in flight and the time, in nanoseconds, that one more would take: what the endpoint said, else what this
    /// process knows, where latencies of less busy moments are scaled by the requests in flight.
    pub(crate) fn load(&self, now: Instant) -> (u32, f64) {
        match self.reported(now) {
            // Microseconds of 32 bits; exact.
            Some((in_flight, latency)) => (in_flight, latency.as_secs_f64() * 1e9),
            None => {
                let in_flight = self.in_flight();
                (in_flight, self.latency_nanos(now) * (f64::from(in_flight) + 1.0))
            }
        }
    }

    pub(crate) fn latency_nanos(&self, now: Instant) -> f64 {
        self.load.latency.nanos(now)
    }

    /// Records an operator's word. It takes effect with the next pick of every worker.
    pub fn set_admin(&self, state: AdminState) {
        if self.admin.swap(state.code(), Ordering::Relaxed) != state.code() {
            availability_changed();
        }
    }

    /// The operator's word; [`AdminState::Enabled`] until there is one.
    pub fn admin(&self) -> AdminState {
        AdminState::of_code(self.admin.load(Ordering::Relaxed))
    }
}

/// One endpoint as a cluster sees it. Facts are shared with other clusters of the service, the verdict is the cluster's
/// own.
#[derive(Clone, Debug)]
pub struct Host {
    /// Relative weight; 0 counts as 1.
    pub weight: u32,
    /// Facts about (service, address).
    pub state: Arc<HostState>,
    /// Verdicts about (service, port, subset, address).
    pub verdict: Arc<HostVerdict>,
}

impl Host {
    /// A host of that weight without any history.
    pub fn new(weight: u32) -> Self {
        Self { weight, state: Arc::new(HostState::new()), verdict: Arc::new(HostVerdict::new()) }
    }

    /// No operator took it out.
    pub fn is_enabled(&self) -> bool {
        self.state.admin() == AdminState::Enabled
    }

    /// It works as far as anybody knows: neither ejected nor found unhealthy by active checks. Two relaxed loads.
    pub fn is_healthy(&self) -> bool {
        !self.verdict.is_ejected() && !self.state.health().is_out()
    }

    /// It may be picked: neither taken out by an operator nor unhealthy. Three relaxed loads.
    pub fn is_available(&self) -> bool {
        self.is_enabled() && self.is_healthy()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operators_word_takes_a_host_out_and_brings_it_back() {
        let host = Host::new(1);
        assert!(host.is_available());
        for state in [AdminState::Draining, AdminState::Disabled] {
            host.state.set_admin(state);
            assert_eq!(host.state.admin(), state);
            assert!(!host.is_available());
        }
        host.state.set_admin(AdminState::Enabled);
        assert!(host.is_available());
    }

    #[test]
    fn requests_in_flight_are_counted_across_threads() {
        let state = HostState::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        state.acquire();
                        state.acquire();
                        state.release();
                    }
                });
            }
        });
        assert_eq!(state.in_flight(), 4_000);
    }
}
