//! Outlier detection as Envoy documents it ("Outlier detection", consecutive errors; success rates are not looked at):
//! when a host fails so many times in a row, it is out for a while. Knows no clock: the caller says what time it is and
//! sweeps at every interval. Read next: `verdict.rs` for what is remembered per host.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::verdict::reset;
use crate::{HostSet, HostVerdict};

/// An ejection lasts no longer than this, or than the base time when that is longer (Envoy's `max_ejection_time`).
const MAX_EJECTION_TIME: Duration = Duration::from_secs(300);

/// When hosts are ejected and for how long. The panic threshold that goes with it belongs to [`HostSet`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlierPolicy {
    /// 5xx answers in a row until ejection, local failures included; 0 is off. Default 5.
    pub consecutive_5xx: u32,
    /// 502, 503 and 504 in a row until ejection, local failures included; 0 is off. Default 0.
    pub consecutive_gateway_errors: u32,
    /// Count local failures (connect, reset, timeout) apart from answers. Default false.
    pub split_local_origin: bool,
    /// Local failures in a row until ejection, only when they are counted apart; 0 is off. Default 5.
    pub consecutive_local_origin_failures: u32,
    /// Time between sweeps. Default 10 s.
    pub interval: Duration,
    /// Time out of the first ejection; the n-th in a row takes n times as long, at most the larger of this and 300 s.
    /// Default 30 s.
    pub base_ejection_time: Duration,
    /// Share of the hosts that may be out at once, in percent; one host always may. Default 10.
    pub max_ejection_percent: u32,
}

impl Default for OutlierPolicy {
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            consecutive_gateway_errors: 0,
            split_local_origin: false,
            consecutive_local_origin_failures: 5,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_percent: 10,
        }
    }
}

/// How a try ended, as far as it says something about the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observation {
    /// The host answered, and not with an error of its own.
    Success,
    /// The host answered with this status; below 500 is success.
    Status(u16),
    /// There was no answer: connecting failed, the connection broke, or time was over.
    LocalOrigin,
}

/// What ran full when a host was (or should have been) ejected, with the number of errors in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EjectionCause {
    /// `consecutive5xxErrors`.
    Consecutive5xx(u32),
    /// `consecutiveGatewayErrors`.
    ConsecutiveGatewayErrors(u32),
    /// `consecutiveLocalOriginFailures`.
    ConsecutiveLocalOriginFailures(u32),
}

impl fmt::Display for EjectionCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Consecutive5xx(count) => write!(f, "{count} server errors in a row"),
            Self::ConsecutiveGatewayErrors(count) => write!(f, "{count} gateway errors in a row"),
            Self::ConsecutiveLocalOriginFailures(count) => write!(f, "{count} local-origin failures in a row"),
        }
    }
}

/// Why a host that failed often enough stays in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EjectionRefusal {
    /// One more would exceed `maxEjectionPercent`.
    MaxEjectionPercent {
        /// Hosts that are out.
        ejected: usize,
        /// Hosts there are.
        hosts: usize,
        /// The limit in percent.
        percent: u32,
    },
}

impl fmt::Display for EjectionRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MaxEjectionPercent { ejected, hosts, percent } => {
                write!(f, "{ejected} of {hosts} hosts are ejected, one more would exceed maxEjectionPercent {percent}")
            }
        }
    }
}

/// Something to log and count. `index` is the host's place in the set that was passed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutlierEvent {
    /// The host is out now.
    Ejected {
        /// Which host.
        index: usize,
        /// For how long; it ends with the first sweep after that.
        duration: Duration,
        /// Why.
        cause: EjectionCause,
    },
    /// The host should be out but stays in. Its count starts again, so this is said once per threshold of errors.
    Refused {
        /// Which host.
        index: usize,
        /// Why it should be out.
        cause: EjectionCause,
        /// Why it is not.
        reason: EjectionRefusal,
    },
    /// The host is in again.
    Returned {
        /// Which host.
        index: usize,
    },
}

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
/// The path of a success is one relaxed load per counter. State is in the hosts' [`HostVerdict`]s, which survive a
/// change of policy: times are computed from the policy at hand, so a shorter base time takes effect for hosts already
/// out.
#[derive(Debug)]
pub struct OutlierDetector {
    policy: OutlierPolicy,
    /// Held while a host changes sides (counting who is out is part of the decision), for one pass over the hosts.
    /// Never taken on the path of a success. Guards no data of its own.
    decision: Mutex<()>,
}

impl OutlierDetector {
    /// A detector with that policy.
    pub fn new(policy: OutlierPolicy) -> Self {
        Self { policy, decision: Mutex::new(()) }
    }

    /// The policy.
    pub fn policy(&self) -> &OutlierPolicy {
        &self.policy
    }

    /// Takes note of how a try at host `index` ended, and ejects it at once when that was one error too many.
    pub fn observe(
        &self,
        hosts: &HostSet,
        index: usize,
        observation: Observation,
        now: Instant,
    ) -> Option<OutlierEvent> {
        let verdict = &*hosts.hosts().get(index)?.verdict;
        let policy = &self.policy;
        let cause = match observation {
            Observation::Status(status @ 500..=599) => {
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
        self.eject(hosts, index, cause?, now)
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

    fn eject(&self, hosts: &HostSet, index: usize, cause: EjectionCause, now: Instant) -> Option<OutlierEvent> {
        let _decision = self.decision.lock().unwrap_or_else(PoisonError::into_inner);
        let verdict = &*hosts.hosts()[index].verdict;
        if verdict.is_ejected() {
            return None;
        }
        verdict.reset_counters();
        let total = hosts.hosts().len();
        let ejected = hosts.hosts().iter().filter(|host| host.verdict.is_ejected()).count();
        let percent = self.policy.max_ejection_percent;
        if ejected > 0 && (ejected as u64 + 1) * 100 > u64::from(percent) * total as u64 {
            let reason = EjectionRefusal::MaxEjectionPercent { ejected, hosts: total, percent };
            return Some(OutlierEvent::Refused { index, cause, reason });
        }
        let mut history = verdict.history();
        // A multiplier beyond the cap would only take longer to forgive.
        if self.policy.base_ejection_time.saturating_mul(history.multiplier) < self.longest() {
            history.multiplier = history.multiplier.saturating_add(1);
        }
        history.since = Some(now);
        history.total = history.total.saturating_add(1);
        verdict.set_ejected(true);
        Some(OutlierEvent::Ejected { index, duration: self.duration(history.multiplier), cause })
    }

    /// Ends ejections whose time is over and lowers the multipliers of hosts that are in. To be called every
    /// [`OutlierPolicy::interval`].
    pub fn sweep(&self, hosts: &HostSet, now: Instant) -> Vec<OutlierEvent> {
        let _decision = self.decision.lock().unwrap_or_else(PoisonError::into_inner);
        let mut events = Vec::new();
        for (index, host) in hosts.hosts().iter().enumerate() {
            let mut history = host.verdict.history();
            if !host.verdict.is_ejected() {
                history.multiplier = history.multiplier.saturating_sub(1);
                continue;
            }
            let duration = self.duration(history.multiplier);
            if history.since.is_none_or(|since| now.saturating_duration_since(since) >= duration) {
                history.since = None;
                history.warm_since = Some(now);
                host.verdict.reset_counters();
                host.verdict.set_ejected(false);
                events.push(OutlierEvent::Returned { index });
            }
        }
        events
    }

    /// Takes a host in again at an operator's word and forgives it everything; `None` when it was not out.
    pub fn uneject(&self, hosts: &HostSet, index: usize) -> Option<OutlierEvent> {
        let _decision = self.decision.lock().unwrap_or_else(PoisonError::into_inner);
        let verdict = &*hosts.hosts().get(index)?.verdict;
        let was_out = verdict.is_ejected();
        verdict.clear();
        was_out.then_some(OutlierEvent::Returned { index })
    }

    fn longest(&self) -> Duration {
        self.policy.base_ejection_time.max(MAX_EJECTION_TIME)
    }

    fn duration(&self, multiplier: u32) -> Duration {
        self.policy.base_ejection_time.saturating_mul(multiplier).min(self.longest())
    }
}

/// Counts one error of a host that is in; the count when it has reached `limit`. A limit of 0 counts nothing.
fn count(verdict: &HostVerdict, counter: &AtomicU32, limit: u32) -> Option<u32> {
    if limit == 0 || verdict.is_ejected() {
        return None;
    }
    let count = counter.fetch_add(1, Ordering::Relaxed).saturating_add(1);
    (count >= limit).then_some(count)
}
