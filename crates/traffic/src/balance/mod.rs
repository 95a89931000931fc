//! One worker's choice among the hosts of a cluster. Each algorithm is one file here; what they share is which hosts
//! may be picked at all. Knows no addresses and no connections. Read next: `candidates.rs`, `outlook.rs`, then an algorithm.
//!
//! First a group of hosts is chosen (a priority, and a locality in it) by its share of the load, then a host of the group.
//! Who may be picked, in order of preference:
//!
//! 1. hosts that are available (no operator took them out, not ejected, not found unhealthy) and were not tried for this
//!    request: in the chosen group, then in the others by priority;
//! 2. hosts that are available, tried or not, in the same order.
//!
//! A host that is full ([`crate::Bulkhead`]) is passed over in both. In panic (fewer hosts healthy than the set's threshold)
//! ejection and health are ignored in both. A host that an operator took out is never picked, except that a host being
//! drained still gets the requests of sessions that are with it.
//!
//! To add an algorithm: a file with its state and its `pick`, a variant of [`Policy`] and one of `Algorithm`. Tables
//! that depend on members and weights alone belong to [`HostSet`], so that workers share them; what moves belongs to
//! the worker.

mod candidates;
mod consistent_hash;
mod least_request;
mod outlook;
mod peak_ewma;
mod policy;
mod prequal;
mod response_time;
mod round_robin;

use std::fmt;
use std::time::Instant;

use crate::{AdminState, HostSet};
use candidates::{Candidates, Tier};
use least_request::Compared;
use outlook::Outlook;
pub use policy::Policy;
use prequal::Prequal;
use response_time::ResponseTime;
use round_robin::RoundRobin;

/// Which worker this is: rotations start staggered, so that all workers together are fair as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stagger {
    /// Number of the worker, from 0.
    pub worker: usize,
    /// Number of workers, at least 1.
    pub workers: usize,
}

impl Stagger {
    /// A worker on its own.
    pub const ALONE: Self = Self { worker: 0, workers: 1 };

    /// This worker's first turn: worker k of n starts at k/n of that many turns.
    fn start(self, turns: u64) -> u64 {
        let workers = self.workers.max(1) as u128;
        let worker = self.worker as u128 % workers;
        // Below `turns`, so it fits again.
        (u128::from(turns) * worker / workers) as u64
    }
}

/// No host may be picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHost {
    /// There is none, or all are ejected or taken out.
    Unhealthy,
    /// Those that are not have as many requests in flight as their bulkhead allows.
    Full,
}

impl fmt::Display for NoHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unhealthy => "no healthy host",
            Self::Full => "every healthy host is full",
        })
    }
}

impl std::error::Error for NoHost {}

/// What is asked for one try of a request.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Indices of hosts that the request was sent to already; they are picked again only when nothing else is left.
    pub tried: &'a [u32],
    /// Hash of the request's key ([`crate::hash_key`]), for [`Policy::ConsistentHash`]. Without one a host is drawn by weight.
    pub hash: Option<u64>,
    /// The host that the request's session is with ([`HostSet::id`]). It is picked if it can be, whatever the policy.
    pub session: Option<u64>,
    /// The time.
    pub now: Instant,
}

impl Ask<'_> {
    /// The first try of a request without key and session.
    pub const fn first(now: Instant) -> Self {
        Self { tried: &[], hash: None, session: None, now }
    }
}

/// The moving part of balancing: one per worker and cluster. No lock, and no allocation per pick.
#[derive(Clone, Debug)]
pub struct Balancer {
    policy: Policy,
    algorithm: Algorithm,
    outlook: Outlook,
    stagger: Stagger,
    /// The group that was picked from last, where that matters.
    last: usize,
}

#[derive(Clone, Debug)]
enum Algorithm {
    /// One rotation per group.
    RoundRobin(Vec<RoundRobin>),
    /// One set of weights per group.
    ResponseTime(Vec<ResponseTime>),
    /// One pool of probes per group.
    Prequal(Vec<Prequal>),
    /// All that there is to know is in the hosts.
    Stateless,
}

impl Balancer {
    /// A balancer for `hosts`.
    pub fn new(policy: Policy, hosts: &HostSet, stagger: Stagger) -> Self {
        let groups = hosts.group_tables();
        let algorithm = match policy {
            Policy::RoundRobin => {
                let rotations = groups.iter().map(|group| RoundRobin::new(hosts, group, stagger));
                Algorithm::RoundRobin(rotations.collect())
            }
            Policy::ResponseTime => Algorithm::ResponseTime(vec![ResponseTime::default(); groups.len()]),
            Policy::Prequal => Algorithm::Prequal(vec![Prequal::default(); groups.len()]),
            _ => Algorithm::Stateless,
        };
        Self { policy, algorithm, outlook: Outlook::default(), stagger, last: 0 }
    }

    /// Goes over to another set of hosts or another policy. A rotation goes on where it was, as far as the new set
    /// allows, so that frequent changes do not favour the first hosts. Must be called before picking from a changed
    /// set.
    pub fn rebuild(&mut self, policy: Policy, hosts: &HostSet) {
        self.outlook.forget();
        let groups = hosts.group_tables();
        match (&mut self.algorithm, policy) {
            (Algorithm::RoundRobin(rotations), Policy::RoundRobin) if rotations.len() == groups.len() => {
                for (rotation, group) in rotations.iter_mut().zip(groups) {
                    rotation.rebuild(hosts, group, self.stagger);
                }
            }
            _ => *self = Self::new(policy, hosts, self.stagger),
        }
    }

    /// The policy in force.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// The hosts that the last pick under [`Policy::Prequal`] would like to know the load of, once; nothing under other
    /// policies. Whoever asks them takes down what they say ([`crate::HostState::end_probe`]) and calls [`Balancer::learn`].
    pub fn take_drawn(&mut self) -> impl Iterator<Item = usize> + use<> {
        let drawn = match &mut self.algorithm {
            Algorithm::Prequal(pools) => pools.get_mut(self.last).map(Prequal::take_drawn),
            _ => None,
        };
        drawn.into_iter().flatten().flatten().map(|index| index as usize)
    }

    /// The load of a host became known anew.
    pub fn learn(&mut self, hosts: &HostSet, index: usize, now: Instant) {
        if let (Algorithm::Prequal(pools), Some(host)) = (&mut self.algorithm, hosts.hosts().get(index)) {
            pools.iter_mut().for_each(|pool| pool.learn(index, host, now));
        }
    }

    /// The index of the host that gets the next try of a request.
    pub fn pick(&mut self, hosts: &HostSet, ask: &Ask<'_>, rng: &mut fastrand::Rng) -> Result<usize, NoHost> {
        if hosts.hosts().is_empty() {
            return Err(NoHost::Unhealthy);
        }
        self.outlook.refresh(hosts, ask.now);
        if let Some(index) = of_session(hosts, ask) {
            return Ok(index);
        }
        let first = self.outlook.turn(ask.hash);
        let tiers = if ask.tried.is_empty() { &[Tier::Any][..] } else { &[Tier::Untried, Tier::Any] };
        for &tier in tiers {
            let others = (0..self.outlook.count()).filter(|group| *group != first);
            for group in std::iter::once(first).chain(others) {
                if let Some(index) = self.pick_from(hosts, group, tier, ask, rng) {
                    return Ok(index);
                }
            }
        }
        Err(self.refusal(hosts, ask))
    }

    /// Why no host may be picked.
    #[cold]
    fn refusal(&self, hosts: &HostSet, ask: &Ask<'_>) -> NoHost {
        let full = (0..self.outlook.count()).any(|group| {
            candidates(&self.outlook, hosts, (group, Tier::Any), ask).is_some_and(|group| group.lacks_a_place())
        });
        if full { NoHost::Full } else { NoHost::Unhealthy }
    }

    fn pick_from(
        &mut self,
        hosts: &HostSet,
        number: usize,
        tier: Tier,
        ask: &Ask<'_>,
        rng: &mut fastrand::Rng,
    ) -> Option<usize> {
        let candidates = candidates(&self.outlook, hosts, (number, tier), ask)?;
        match (&mut self.algorithm, self.policy) {
            // A retry is drawn instead of taken in turn: the rotation of first tries must not depend on who fails.
            // Otherwise, of two hosts of which one fails, the failing one would get every first try.
            (Algorithm::RoundRobin(rotations), _) if ask.tried.is_empty() => {
                rotations.get_mut(number)?.pick(&candidates, rng)
            }
            (Algorithm::Prequal(pools), _) => {
                self.last = number;
                pools.get_mut(number)?.pick(&candidates, rng)
            }
            (Algorithm::ResponseTime(times), _) => times.get_mut(number)?.pick(&candidates, rng),
            (_, Policy::LeastRequest) => least_request::pick(&candidates, Compared::Two, rng),
            (_, Policy::LeastRequestOfAll) => least_request::pick(&candidates, Compared::All, rng),
            (_, Policy::PeakEwma) => peak_ewma::pick(&candidates, rng),
            (_, Policy::ConsistentHash { table, bound }) => match ask.hash {
                Some(hash) => consistent_hash::pick(&candidates, table, bound, hash),
                None => candidates.draw(None, rng),
            },
            (_, Policy::RoundRobin | Policy::ResponseTime | Policy::Prequal | Policy::Random) => {
                candidates.draw(None, rng)
            }
        }
    }
}

/// Who of a group may be picked; `None` when there is no such group.
#[inline(always)]
fn candidates<'a>(
    outlook: &'a Outlook,
    hosts: &'a HostSet,
    (number, tier): (usize, Tier),
    ask: &Ask<'a>,
) -> Option<Candidates<'a>> {
    Some(Candidates {
        hosts,
        group: hosts.group_tables().get(number)?,
        tried: ask.tried,
        tier,
        panic: outlook.is_panicking(number),
        warming: outlook.warming(number, ask.now),
        now: ask.now,
    })
}

/// The host of the request's session, when it may have the request: it is there, was not tried, is not ejected, and no
/// operator disabled it, and it has a place. A host being drained keeps its sessions until they end.
fn of_session(hosts: &HostSet, ask: &Ask<'_>) -> Option<usize> {
    let index = hosts.index_of(ask.session?)?;
    let host = hosts.hosts().get(index)?;
    let serves = host.state.admin() != AdminState::Disabled && host.is_healthy() && !hosts.has_no_place(index);
    (serves && !ask.tried.contains(&(index as u32))).then_some(index)
}
