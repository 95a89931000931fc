//! Outlier detection as Envoy documents it ("Outlier detection"): when a host fails so many times in a row, or much more
//! often than the others, it is out for a while. Knows no clock: the caller says what time it is and sweeps at every
//! interval. Read next: `policy.rs`, `rates.rs`, and `../verdict.rs` for what is remembered per host.

mod ejections;
mod event;
mod policy;
mod rates;
mod unreachable;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;

pub use ejections::Ejections;
pub use event::{EjectionCause, EjectionKind, EjectionRefusal, OutlierEvent};
pub use policy::{Enforcing, FailurePercentagePolicy, Observation, OutlierPolicy, SuccessRatePolicy};
pub(crate) use rates::Tally;
pub use unreachable::{Away, Comeback, Unreachable, UnreachableDetector, UnreachablePolicy};

use crate::sync::{AtomicU32, Ordering};
use crate::verdict::{History, OutBy, reset};
use crate::{HostSet, HostVerdict};

/// Ejects and returns the hosts of one cluster.
///
/// ```text
///                    N-th error in a row, and the percentage allows it
///                    multiplier + 1 (while base x multiplier is below the cap)
///        +--------+ ------------------------------------------------> +---------+
///        |   In   |                                                   | Ejected |
///        +--------+ <------------------------------------------------ +---------+
///         |  ^  |       sweep: base x multiplier (capped) is over          |
///         |  |  |       counters 0, multiplier stays                       | errors and successes
///         |  |  |                                                          | of requests sent before:
///         |  |  |       operator: counters 0, multiplier 0                 | not counted
///         |  |  |
///         |  |  +-- success: counters 0
///         |  +----- N-th error, but the percentage forbids it: refused, counters 0
///         +-------- sweep: multiplier - 1, not below 0
/// ```
///
/// At the end of each interval hosts are compared too, when the policy asks for it: see `rates.rs`. An ejection is the same
/// whatever led to it.
///
/// The path of a success is one relaxed load per counter, and two additions more when hosts are compared. State is in the hosts' [`HostVerdict`]s, which survive a
/// change of policy: times are computed from the policy at hand, so a shorter base time takes effect for hosts already
/// out.
#[derive(Debug)]
pub struct OutlierDetector {
    policy: OutlierPolicy,
    ejections: Arc<Ejections>,
}

impl OutlierDetector {
    /// A detector with that policy.
    pub fn new(policy: OutlierPolicy) -> Self {
        Self::counting_in(policy, Arc::default())
    }

    /// A detector that counts, and decides in turn with others, in `ejections`: those of the detector before it, or those
    /// that the cluster's [`UnreachableDetector`] has.
    pub fn counting_in(policy: OutlierPolicy, ejections: Arc<Ejections>) -> Self {
        Self { policy, ejections }
    }

    /// The policy.
    pub fn policy(&self) -> &OutlierPolicy {
        &self.policy
    }

    /// What was ejected so far, by all who eject.
    pub fn ejections(&self) -> &Arc<Ejections> {
        &self.ejections
    }

    /// Takes note of how a try at host `index` ended, and ejects it at once when that was one error too many.
    pub fn observe(
        &self,
        hosts: &HostSet,
        index: usize,
        observation: Observation,
        now: Instant,
        rng: &mut Rng,
    ) -> Option<OutlierEvent> {
        let verdict = &*hosts.hosts().get(index)?.verdict;
        let policy = &self.policy;
        if policy.counts_rates() {
            self.tally(verdict, observation);
        }
        let cause = match observation {
            Observation::Status(status) if policy.is_error(status) => {
                // There was an answer, so the network did its part.
                reset(&verdict.local_origin_failures);
                self.count_error(verdict, matches!(status, 502..=504))
            }
            Observation::Success | Observation::Status(_) => {
                verdict.reset_counters();
                return None;
            }
            Observation::LocalOrigin if policy.split_local_origin => {
                let limit = policy.consecutive_local_origin_failures;
                count(verdict, &verdict.local_origin_failures, limit).map(EjectionCause::ConsecutiveLocalOriginFailures)
            }
            Observation::LocalOrigin => self.count_error(verdict, true),
        };
        let cause = cause?;
        let _decision = self.ejections.decide();
        self.eject(hosts, index, cause, now, rng)
    }

    /// Counts a try for the comparison at the end of the interval. Local failures are errors like others unless they are
    /// counted apart; then an answer, whatever it is, is a local success.
    fn tally(&self, verdict: &HostVerdict, observation: Observation) {
        let error = match observation {
            Observation::Success => false,
            Observation::Status(status) => self.policy.is_error(status),
            Observation::LocalOrigin => true,
        };
        let local = observation == Observation::LocalOrigin;
        if self.policy.split_local_origin {
            verdict.local_tally.count(!local);
        }
        if !(local && self.policy.split_local_origin) {
            verdict.tally.count(!error);
        }
    }

    /// Counts an error in both counters; gives the cause when one of them is full.
    fn count_error(&self, verdict: &HostVerdict, gateway_error: bool) -> Option<EjectionCause> {
        let server_errors = count(verdict, &verdict.server_errors, self.policy.consecutive_5xx);
        let gateway_errors = if gateway_error {
            count(verdict, &verdict.gateway_errors, self.policy.consecutive_gateway_errors)
        } else {
            reset(&verdict.gateway_errors);
            None
        };
        let gateway_cause = gateway_errors.map(EjectionCause::ConsecutiveGatewayErrors);
        gateway_cause.or(server_errors.map(EjectionCause::Consecutive5xx))
    }

    /// Ejects a host, if that may be. The caller holds the decision.
    fn eject(
        &self,
        hosts: &HostSet,
        index: usize,
        cause: EjectionCause,
        now: Instant,
        rng: &mut Rng,
    ) -> Option<OutlierEvent> {
        let verdict = &*hosts.hosts()[index].verdict;
        if verdict.is_outlier() {
            return None;
        }
        verdict.reset_counters();
        let enforced = self.policy.enforcing.percent(cause.kind());
        if enforced < 100 && rng.u8(..100) >= enforced {
            self.ejections.count_refused();
            let reason = EjectionRefusal::NotEnforced { percent: enforced };
            return Some(OutlierEvent::Refused { index, cause, reason });
        }
        // It may be out already, because it could not be connected to: what counts are the others.
        let others = hosts.hosts().iter().enumerate().filter(|(other, _)| *other != index);
        let ejected = others.filter(|(_, host)| host.verdict.is_ejected()).count();
        let percent = self.policy.max_ejection_percent;
        if let Some(reason) = EjectionRefusal::by_share(ejected, hosts.hosts().len(), percent) {
            self.ejections.count_refused();
            return Some(OutlierEvent::Refused { index, cause, reason });
        }
        let mut history = verdict.history();
        // A multiplier beyond the cap would only take longer to forgive.
        if self.policy.base_ejection_time.saturating_mul(history.multiplier) < self.longest() {
            history.multiplier = history.multiplier.saturating_add(1);
        }
        history.jitter = self.policy.max_ejection_time_jitter.mul_f64(rng.f64());
        let duration = self.duration(&history);
        history.since = Some(now);
        history.ends = now.checked_add(duration).map(|ends| (ends, cause));
        history.total = history.total.saturating_add(1);
        verdict.set_out(OutBy::Detection, true);
        self.ejections.count_ejected(cause.kind());
        Some(OutlierEvent::Ejected { index, duration, cause })
    }

    /// Ends ejections whose time is over, lowers the multipliers of hosts that are in, and ejects those that did worse than
    /// the policy allows since the last sweep. To be called every [`OutlierPolicy::interval`].
    pub fn sweep(&self, hosts: &HostSet, now: Instant, rng: &mut Rng) -> Vec<OutlierEvent> {
        let _decision = self.ejections.decide();
        let mut events = Vec::new();
        let (mut tallies, mut local_tallies) = (Vec::new(), Vec::new());
        for (index, host) in hosts.hosts().iter().enumerate() {
            let (tally, local_tally) = (host.verdict.tally.take(), host.verdict.local_tally.take());
            let mut history = host.verdict.history();
            if !host.verdict.is_outlier() {
                tallies.push((index, tally));
                local_tallies.push((index, local_tally));
                history.multiplier = history.multiplier.saturating_sub(1);
                continue;
            }
            let duration = self.duration(&history);
            if history.since.is_none_or(|since| now.saturating_duration_since(since) >= duration) {
                history.since = None;
                history.ends = None;
                history.warm_since = Some(now);
                host.verdict.reset_counters();
                host.verdict.set_out(OutBy::Detection, false);
                // One that cannot be connected to stays out.
                if !host.verdict.is_ejected() {
                    events.push(OutlierEvent::Returned { index });
                }
            }
        }
        let outliers = rates::outliers(&self.policy, &tallies, false);
        let unreachable = rates::outliers(&self.policy, &local_tallies, true);
        for (index, cause) in outliers.into_iter().chain(unreachable) {
            events.extend(self.eject(hosts, index, cause, now, rng));
        }
        events
    }

    fn longest(&self) -> Duration {
        self.policy.base_ejection_time.max(self.policy.max_ejection_time)
    }

    fn duration(&self, history: &History) -> Duration {
        let time = self.policy.base_ejection_time.saturating_mul(history.multiplier).min(self.longest());
        time.saturating_add(history.jitter)
    }
}

/// Counts one error of a host that is in; the count when it has reached `limit`. A limit of 0 counts nothing.
fn count(verdict: &HostVerdict, counter: &AtomicU32, limit: u32) -> Option<u32> {
    if limit == 0 || verdict.is_outlier() {
        return None;
    }
    let count = counter.fetch_add(1, Ordering::Relaxed).saturating_add(1);
    (count >= limit).then_some(count)
}
