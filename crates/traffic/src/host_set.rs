//! The hosts of one cluster with what can be computed ahead from their names and weights. Knows no balancing state: that
//! is each worker's own. Read next: `group.rs`, `balance/mod.rs`.

use std::collections::HashMap;
use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::group::GroupTables;
use crate::hash::hash_key;
use crate::sync::{AtomicU32, Ordering};
use crate::{Bulkhead, Group, Host, Policy, Warmup};

/// The hosts of a cluster. Members, weights and groups are fixed; facts and verdicts inside change while it is used.
/// Shared by all workers; what balancers need to know about names and weights is computed once here.
#[derive(Debug)]
pub struct HostSet {
    hosts: Vec<Host>,
    min_health_percent: u32,
    groups: Box<[GroupTables]>,
    names: Names,
    warmup: Option<Warmup>,
    in_flight: Option<InFlight>,
    bulkhead: Option<Bulkhead>,
    /// Requests in flight with which a host is passed over; `u32::MAX` where none is.
    full_at: u32,
}

/// Requests in flight at all hosts of a set, and of the sets that follow it.
#[derive(Clone, Debug, Default)]
pub struct InFlight(Arc<CachePadded<AtomicU32>>);

/// What hosts are called.
#[derive(Debug, Default)]
struct Names {
    by_index: Vec<String>,
    /// Index by the hash of the name.
    by_id: HashMap<u64, u32>,
}

impl HostSet {
    /// A set of `hosts`. `min_health_percent` (0 to 100) is the panic threshold: when less than that share of the hosts
    /// that operators left in is healthy, ejections are ignored; 0 is never.
    pub fn new(mut hosts: Vec<Host>, min_health_percent: u32) -> Self {
        for host in &mut hosts {
            host.weight = host.weight.max(1);
        }
        let groups = Box::new([GroupTables::of_all(&hosts)]);
        Self {
            hosts,
            min_health_percent,
            groups,
            names: Names::default(),
            warmup: None,
            in_flight: None,
            bulkhead: None,
            full_at: u32::MAX,
        }
    }

    /// The set with names, by index: what consistent hashing places on its tables, and what sessions name. Usually
    /// `address:port`.
    #[must_use]
    pub fn with_names(mut self, names: Vec<String>) -> Self {
        let ids = names.iter().map(|name| hash_key(name.as_bytes()));
        self.names.by_id = ids.zip(0u32..).collect();
        self.names.by_index = names;
        self
    }

    /// The set divided into groups. A host that is in no group gets no requests.
    #[must_use]
    pub fn with_groups(mut self, groups: &[Group]) -> Self {
        let mut groups: Vec<GroupTables> = groups.iter().map(|group| GroupTables::listed(group, &self.hosts)).collect();
        groups.sort_by_key(|group| group.priority);
        if groups.is_empty() {
            groups.push(GroupTables::listed(&Group { priority: 0, weight: 1, hosts: Vec::new() }, &self.hosts));
        }
        self.groups = groups.into();
        self
    }

    /// The set with slow start for hosts that join or return later than the others.
    #[must_use]
    pub fn with_warmup(mut self, warmup: Option<Warmup>) -> Self {
        self.warmup = warmup;
        self
    }

    /// The set with a count of all requests in flight, which policies with a bound on the load need. A set that follows
    /// another takes over its count.
    #[must_use]
    pub fn with_in_flight(mut self, in_flight: Option<InFlight>) -> Self {
        self.in_flight = in_flight;
        self
    }

    /// The set with a bound on the requests in flight at each host. They must be counted then: with
    /// [`HostSet::try_acquire`].
    #[must_use]
    pub fn with_bulkhead(mut self, bulkhead: Option<Bulkhead>) -> Self {
        self.bulkhead = bulkhead;
        self.full_at = bulkhead.filter(|of| !of.observe).map_or(u32::MAX, Bulkhead::full_at);
        self
    }

    /// Does now what the first pick with this policy would otherwise do: round robin with unequal weights lays out its
    /// rotations, a few milliseconds at most; consistent hashing builds its tables. Meant for the thread that compiles
    /// configuration.
    pub fn prepare(&self, policy: Policy) {
        for group in &self.groups {
            match policy {
                Policy::RoundRobin => {
                    group.rotation(self);
                }
                Policy::ConsistentHash { table, .. } => {
                    group.table(self, table);
                }
                _ => {}
            }
        }
    }

    /// The hosts, in the order of their indices.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Number of hosts that may be picked at this moment.
    pub fn healthy(&self) -> usize {
        self.hosts.iter().filter(|host| host.is_available()).count()
    }

    /// The panic threshold in percent.
    pub fn min_health_percent(&self) -> u32 {
        self.min_health_percent
    }

    /// Slow start, when there is one.
    pub fn warmup(&self) -> Option<Warmup> {
        self.warmup
    }

    /// The groups as they were given, the most preferred first; one with all hosts when none were.
    pub fn groups(&self) -> impl Iterator<Item = Group> + '_ {
        self.groups.iter().map(|group| Group {
            priority: group.priority,
            weight: group.weight,
            hosts: group.indices().map(|index| index as u32).collect(),
        })
    }

    /// The priority of a host; `None` when it is in no group.
    pub fn priority(&self, index: usize) -> Option<u32> {
        self.groups.iter().find(|group| group.indices().any(|other| other == index)).map(|group| group.priority)
    }

    /// The shared count of requests in flight, when it is kept.
    pub fn in_flight(&self) -> Option<&InFlight> {
        self.in_flight.as_ref()
    }

    /// The bound on the requests in flight at each host, when there is one.
    pub fn bulkhead(&self) -> Option<Bulkhead> {
        self.bulkhead
    }

    /// The name of a host; empty when names were not given.
    pub fn name(&self, index: usize) -> &str {
        self.names.by_index.get(index).map_or("", String::as_str)
    }

    /// What a session remembers of a host: the hash of its name. `None` when names were not given.
    pub fn id(&self, index: usize) -> Option<u64> {
        self.names.by_index.get(index).map(|name| hash_key(name.as_bytes()))
    }

    /// The host with that id.
    pub fn index_of(&self, id: u64) -> Option<usize> {
        self.names.by_id.get(&id).map(|index| *index as usize)
    }

    /// Counts one more request in flight at a host. Whoever calls this owes one [`HostSet::release`] of the same set, also
    /// when the request is cancelled.
    pub fn acquire(&self, index: usize) {
        self.hosts[index].state.acquire();
        if let Some(InFlight(total)) = &self.in_flight {
            total.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// As [`HostSet::acquire`], unless the host is full by the set's bulkhead: then nothing is counted and nothing is owed.
    /// A host that was picked may have become full since; another pick passes it over.
    #[must_use = "only what was counted is released"]
    pub fn try_acquire(&self, index: usize) -> bool {
        if self.full_at == u32::MAX {
            self.acquire(index);
            return true;
        }
        let taken = self.hosts[index].state.try_acquire(self.full_at);
        if taken && let Some(InFlight(total)) = &self.in_flight {
            total.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// Takes back one [`HostSet::acquire`] or one [`HostSet::try_acquire`] that was granted.
    pub fn release(&self, index: usize) {
        self.hosts[index].state.release();
        if let Some(InFlight(total)) = &self.in_flight {
            total.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The host is passed over because it is full. One comparison where no host ever is.
    pub(crate) fn has_no_place(&self, index: usize) -> bool {
        self.full_at != u32::MAX && self.hosts[index].state.in_flight() >= self.full_at
    }

    pub(crate) fn group_tables(&self) -> &[GroupTables] {
        &self.groups
    }
}

impl InFlight {
    /// Requests in flight at this moment.
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_at_the_host_and_for_the_sets_that_follow() {
        let before = HostSet::new(vec![Host::new(1), Host::new(1)], 0).with_in_flight(Some(InFlight::default()));
        before.acquire(0);
        before.acquire(1);
        let after = HostSet::new(before.hosts()[..1].to_vec(), 0).with_in_flight(before.in_flight().cloned());
        before.release(1);
        assert_eq!(after.in_flight().map(InFlight::count), Some(1));
        assert_eq!(after.hosts()[0].state.in_flight(), 1);
    }

    #[test]
    fn a_session_finds_its_host_whatever_the_order() {
        let names = |names: [&str; 3]| names.map(str::to_owned).to_vec();
        let hosts = || (0..3).map(|_| Host::new(1)).collect();
        let before = HostSet::new(hosts(), 0).with_names(names(["a:1", "b:1", "c:1"]));
        let after = HostSet::new(hosts(), 0).with_names(names(["c:1", "d:1", "a:1"]));
        let id = |index| before.id(index).unwrap();
        assert_eq!([after.index_of(id(0)), after.index_of(id(1)), after.index_of(id(2))], [Some(2), None, Some(0)]);
        assert_eq!(HostSet::new(hosts(), 0).id(0), None);
    }
}
