//! One worker's choice among the hosts of a cluster. Each algorithm is one file here; what they share is which hosts
//! may be picked at all. Knows no addresses and no connections. Read next: `round_robin.rs`, `least_request.rs`.
//!
//! Who may be picked, in order of preference:
//!
//! 1. hosts that are available (no operator took them out, not ejected) and were not tried for this request;
//! 2. hosts that are available, tried or not.
//!
//! In panic (fewer hosts healthy than the set's threshold) ejection is ignored in both. A host that an operator took
//! out is never picked. Whether it is panic is only asked when an ejected host comes up: a healthy host may be taken
//! either way.
//!
//! To add an algorithm: a file with its state and its `pick`, a variant of [`Policy`] and one of `Algorithm`. Tables
//! that depend on members and weights alone belong to [`HostSet`], so that workers share them; what moves belongs to
//! the worker.

mod least_request;
mod random;
mod round_robin;

use std::fmt;

use crate::HostSet;
use round_robin::RoundRobin;

/// How a host is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// In turn, by weight.
    RoundRobin,
    /// The less loaded of two that are drawn at random by weight. Istio's default.
    #[default]
    LeastRequest,
    /// At random, by weight.
    Random,
}

impl Policy {
    /// Whether picks read the hosts' in-flight counters, so that requests must be counted there.
    pub const fn needs_in_flight(self) -> bool {
        matches!(self, Self::LeastRequest)
    }
}

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

/// No host may be picked: there is none, or all are ejected or taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoHost;

impl fmt::Display for NoHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no healthy host")
    }
}

impl std::error::Error for NoHost {}

/// The moving part of balancing: one per worker and cluster. No lock, and no allocation per pick.
#[derive(Clone, Debug)]
pub struct Balancer {
    algorithm: Algorithm,
    stagger: Stagger,
}

#[derive(Clone, Debug)]
enum Algorithm {
    RoundRobin(RoundRobin),
    LeastRequest,
    Random,
}

impl Balancer {
    /// A balancer for `hosts`.
    pub fn new(policy: Policy, hosts: &HostSet, stagger: Stagger) -> Self {
        let algorithm = match policy {
            Policy::RoundRobin => Algorithm::RoundRobin(RoundRobin::new(hosts, stagger)),
            Policy::LeastRequest => Algorithm::LeastRequest,
            Policy::Random => Algorithm::Random,
        };
        Self { algorithm, stagger }
    }

    /// Goes over to another set of hosts or another policy. A rotation goes on where it was, as far as the new set
    /// allows, so that frequent changes do not favour the first hosts. Must be called before picking from a changed
    /// set.
    pub fn rebuild(&mut self, policy: Policy, hosts: &HostSet) {
        match (&mut self.algorithm, policy) {
            (Algorithm::RoundRobin(rotation), Policy::RoundRobin) => rotation.rebuild(hosts, self.stagger),
            _ => *self = Self::new(policy, hosts, self.stagger),
        }
    }

    /// The policy in force.
    pub fn policy(&self) -> Policy {
        match self.algorithm {
            Algorithm::RoundRobin(_) => Policy::RoundRobin,
            Algorithm::LeastRequest => Policy::LeastRequest,
            Algorithm::Random => Policy::Random,
        }
    }

    /// Whether the caller must count its requests with [`crate::HostState::acquire`] and [`crate::HostState::release`].
    pub fn needs_in_flight(&self) -> bool {
        self.policy().needs_in_flight()
    }

    /// The index of the host that gets the next try of a request. `tried` holds the indices that the request was sent
    /// to already; they are picked again only when nothing else is left.
    pub fn pick(&mut self, hosts: &HostSet, tried: &[u32], rng: &mut fastrand::Rng) -> Result<usize, NoHost> {
        if hosts.hosts().is_empty() {
            return Err(NoHost);
        }
        let mut candidates = Candidates { hosts, tried, panic: None };
        match &mut self.algorithm {
            // A retry is drawn instead of taken in turn: the rotation of first tries must not depend on who fails.
            // Otherwise, of two hosts of which one fails, the failing one would get every first try.
            Algorithm::RoundRobin(rotation) if tried.is_empty() => rotation.pick(&mut candidates),
            Algorithm::RoundRobin(_) | Algorithm::Random => random::pick(&mut candidates, rng),
            Algorithm::LeastRequest => least_request::pick(&mut candidates, rng),
        }
        .ok_or(NoHost)
    }
}

/// Redraws before the remaining hosts are counted out. A few catch nearly all cases where most hosts may be picked.
const DRAWS: usize = 4;

/// Which hosts may be picked for one try.
struct Candidates<'a> {
    hosts: &'a HostSet,
    tried: &'a [u32],
    /// Found out when the first ejected host comes up.
    panic: Option<bool>,
}

impl Candidates<'_> {
    /// The host may be picked.
    fn admits(&mut self, index: usize) -> bool {
        let host = &self.hosts.hosts()[index];
        if !host.is_enabled() {
            return false;
        }
        !host.verdict.is_ejected() || *self.panic.get_or_insert_with(|| self.hosts.is_panicking())
    }

    /// The host may be picked, belongs to `tier` and is not the one that is `excluded`.
    fn fits(&mut self, index: usize, tier: Tier, excluded: Option<usize>) -> bool {
        excluded != Some(index) && (tier == Tier::Any || !self.tried.contains(&(index as u32))) && self.admits(index)
    }

    /// A host drawn at random by weight among those that fit, or `None` when none does. Drawing again after a miss and
    /// counting out the rest both give every fitting host exactly its share.
    fn draw(&mut self, tier: Tier, excluded: Option<usize>, rng: &mut fastrand::Rng) -> Option<usize> {
        for _ in 0..DRAWS {
            let index = self.hosts.draw(rng);
            if self.fits(index, tier, excluded) {
                return Some(index);
            }
        }
        let hosts = self.hosts.hosts();
        let mut total = 0u64;
        for (index, host) in hosts.iter().enumerate() {
            if self.fits(index, tier, excluded) {
                total += u64::from(host.weight);
            }
        }
        if total == 0 {
            return None;
        }
        let mut rest = rng.u64(..total);
        let mut last = None;
        for (index, host) in hosts.iter().enumerate() {
            if self.fits(index, tier, excluded) {
                last = Some(index);
                let weight = u64::from(host.weight);
                if rest < weight {
                    break;
                }
                rest -= weight;
            }
        }
        // Another thread may have changed a host's health between the two passes: then the last that fits is taken.
        last
    }

    /// The best tier that has a host, with a host drawn from it.
    fn draw_first(&mut self, rng: &mut fastrand::Rng) -> Option<(usize, Tier)> {
        if let Some(index) = self.draw(Tier::Untried, None, rng) {
            return Some((index, Tier::Untried));
        }
        if self.tried.is_empty() {
            return None;
        }
        self.draw(Tier::Any, None, rng).map(|index| (index, Tier::Any))
    }
}

/// Order of preference, see the head of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tier {
    Untried,
    Any,
}
