//! Passive marking: a host that refuses a connection is out at once, and in again as soon as a connection to it can be made.
//! HAProxy does so by its checks, nginx by `max_fails=1`; here nothing is checked while all is well. Whether hosts are
//! reached in time, and what they answer, is `mod.rs`'s business.
//!
//! Knows no clock and opens no socket: the caller says what time it is, makes the probes and says how they ended. Read next:
//! `../verdict.rs` for what is remembered per host.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::{EjectionCause, EjectionKind, EjectionRefusal, Ejections, OutlierEvent};
use crate::verdict::OutBy;
use crate::{HostSet, HostVerdict};

/// An ejection of the same host that is refused again and again is said once in this time: where a service has one host and
/// that is down, every request asks for it.
const SAY_AGAIN: Duration = Duration::from_secs(30);
/// By how much a pause may be shorter or longer than it should be, so that many proxies do not probe at once.
const JITTER: f64 = 0.25;

/// When hosts that refuse connections are out, and when they are probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnreachablePolicy {
    /// Time from the refused connection to the first probe; each further pause is twice as long. Pauses are up to a quarter
    /// shorter or longer, at random. Default 500 ms.
    pub first_probe: Duration,
    /// The longest pause between two probes. Default 10 s.
    pub longest_pause: Duration,
    /// Of the hosts that refuse, how many are taken out, in percent; with 0 it is only said. Default 100.
    pub enforcing: u8,
    /// Share of the hosts that may be out at once for whatever reason, in percent; one host always may, the last never.
    /// Default 10.
    pub max_ejection_percent: u32,
}

impl Default for UnreachablePolicy {
    fn default() -> Self {
        Self {
            first_probe: Duration::from_millis(500),
            longest_pause: Duration::from_secs(10),
            enforcing: 100,
            max_ejection_percent: 10,
        }
    }
}

impl UnreachablePolicy {
    /// The pause after so many probes in vain.
    fn pause(&self, failed: u32, rng: &mut Rng) -> Duration {
        let doubled = self.first_probe.saturating_mul(1 << failed.min(20));
        doubled.min(self.longest_pause).mul_f64(1.0 + JITTER * (2.0 * rng.f64() - 1.0))
    }
}

/// Why a host cannot be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// Nobody listens at its port.
    Refused,
    /// There is no way to it: the network or the host is away.
    NoRoute,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "connection refused",
            Self::NoRoute => "no route to the host",
        })
    }
}

/// Since when and why a host is out that could not be connected to, and what is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Away {
    /// Since when.
    pub since: Instant,
    /// Why.
    pub why: Unreachable,
    /// Probes in vain.
    pub failed_probes: u32,
    /// When the next probe is due.
    pub next_probe: Instant,
}

/// Takes hosts of one cluster out that refuse connections.
///
/// ```text
///        +------+   a connection is refused, another host can be picked, the percentage allows it    +------+
///        |  In  | ---------------------------------------------------------------------------------> | Away |
///        +------+ <--------------------------------------------------------------------------------- +------+
///                   a probe could connect, or an operator says so: errors in a row are forgotten      |    ^
///                                                                                                     +----+
///                                                                      a probe was in vain: the pause doubles
/// ```
///
/// It costs nothing while connections are made: nobody asks it then.
#[derive(Debug, Default)]
pub struct UnreachableDetector {
    policy: UnreachablePolicy,
    ejections: Arc<Ejections>,
}

impl UnreachableDetector {
    /// A detector with that policy which counts, and decides in turn with others, in `ejections`.
    pub fn new(policy: UnreachablePolicy, ejections: Arc<Ejections>) -> Self {
        Self { policy, ejections }
    }

    /// The policy.
    pub fn policy(&self) -> &UnreachablePolicy {
        &self.policy
    }

    /// What was ejected from the cluster so far, by all who eject.
    pub fn ejections(&self) -> &Arc<Ejections> {
        &self.ejections
    }

    /// Takes note that a connection to host `index` was refused, and takes it out when that may be. Whoever is told of an
    /// ejection owes the host its probes: see [`Comeback`].
    pub fn refused(
        &self,
        hosts: &HostSet,
        index: usize,
        why: Unreachable,
        now: Instant,
        rng: &mut Rng,
    ) -> Option<(OutlierEvent, Option<Comeback>)> {
        let verdict = &hosts.hosts().get(index)?.verdict;
        if verdict.is_away() {
            return None;
        }
        let cause = EjectionCause::Unreachable(why);
        let _decision = self.ejections.decide();
        if verdict.is_away() {
            return None;
        }
        if let Some(reason) = self.refusal(hosts, index, rng) {
            let mut history = verdict.history();
            if history.refusal_said.is_some_and(|said| now.saturating_duration_since(said) < SAY_AGAIN) {
                return None;
            }
            history.refusal_said = Some(now);
            self.ejections.count_refused();
            return Some((OutlierEvent::Refused { index, cause, reason }, None));
        }
        let pause = self.policy.pause(0, rng);
        let mut history = verdict.history();
        history.away = Some(Away { since: now, why, failed_probes: 0, next_probe: now + pause });
        history.refusal_said = None;
        history.times_away += 1;
        history.total = history.total.saturating_add(1);
        verdict.set_out(OutBy::BeingAway, true);
        let comeback = Comeback { verdict: Arc::downgrade(verdict), number: history.times_away, policy: self.policy };
        drop(history);
        self.ejections.count_ejected(EjectionKind::Unreachable);
        Some((OutlierEvent::Ejected { index, duration: pause, cause }, Some(comeback)))
    }

    /// Why the host stays in, if it does. The caller holds the decision.
    fn refusal(&self, hosts: &HostSet, index: usize, rng: &mut Rng) -> Option<EjectionRefusal> {
        let percent = self.policy.enforcing;
        if percent < 100 && rng.u8(..100) >= percent {
            return Some(EjectionRefusal::NotEnforced { percent });
        }
        let others = || hosts.hosts().iter().enumerate().filter(|(other, _)| *other != index).map(|(_, host)| host);
        if !others().any(|host| host.is_available()) {
            return Some(EjectionRefusal::LastHost);
        }
        let ejected = others().filter(|host| host.verdict.is_ejected()).count();
        EjectionRefusal::by_share(ejected, hosts.hosts().len(), self.policy.max_ejection_percent)
    }
}

/// The way back of one host that was taken out because it could not be connected to. It is asked when it wants to be woken,
/// and told how a probe (an attempt to connect) ended. It does not keep the host alive: when no cluster has it any more,
/// nobody waits for it.
#[derive(Debug)]
pub struct Comeback {
    verdict: Weak<HostVerdict>,
    /// Which time of the host's being away this is about.
    number: u64,
    policy: UnreachablePolicy,
}

impl Comeback {
    /// When a probe is due; `None` when there is nothing more to do: the host is in again, or gone.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let verdict = self.verdict.upgrade()?;
        let history = verdict.history();
        history.away.filter(|_| history.times_away == self.number).map(|away| away.next_probe)
    }

    /// A probe ended: with a connection the host takes part again, without one the next probe is due later. Whether it
    /// takes part again by this probe.
    pub fn probed(&self, connected: bool, now: Instant, rng: &mut Rng) -> bool {
        let Some(verdict) = self.verdict.upgrade() else { return false };
        let mut history = verdict.history();
        let number = history.times_away;
        let Some(away) = history.away.as_mut().filter(|_| number == self.number) else { return false };
        if !connected {
            away.failed_probes = away.failed_probes.saturating_add(1);
            away.next_probe = now + self.policy.pause(away.failed_probes, rng);
            return false;
        }
        history.away = None;
        history.warm_since = Some(now);
        verdict.set_out(OutBy::BeingAway, false);
        drop(history);
        verdict.reset_counters();
        true
    }
}
