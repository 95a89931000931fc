//! How many requests one host may have in flight, so that a slow host does not hold all of them. What is counted is in
//! `host.rs`, who is passed over for it in `balance/candidates.rs`. Read next: `host_set.rs`.

use crate::{Host, HostSet};

/// A bound on the requests in flight at each host of a set, whatever its weight (resilience4j's `Bulkhead`, HAProxy's
/// `maxconn` of a server). It is the same for all workers: they count in one word of the host, and a place is taken by a
/// compare-and-swap, so that two workers that race for the last one never both get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bulkhead {
    /// Requests in flight at one host at most; 0 counts as 1.
    pub max_requests: u32,
    /// Nobody is passed over: it only tells who is full.
    pub observe: bool,
}

impl Bulkhead {
    /// A host with so many requests in flight has no place for another one. Below the count that no limit has.
    pub(crate) fn full_at(self) -> u32 {
        self.max_requests.clamp(1, u32::MAX - 1)
    }

    fn is_full(self, host: &Host) -> bool {
        host.state.in_flight() >= self.full_at()
    }
}

impl HostSet {
    /// Hosts that have as many requests in flight as their bulkhead allows, or more, which those of an earlier
    /// configuration can be; 0 without a bulkhead.
    pub fn full(&self) -> usize {
        let Some(bulkhead) = self.bulkhead() else { return 0 };
        self.hosts().iter().filter(|host| bulkhead.is_full(host)).count()
    }

    /// Every host that may be picked is full: the next request is refused, or would be where the bulkhead observes. False
    /// without a bulkhead and without such a host.
    pub fn is_full(&self) -> bool {
        let Some(bulkhead) = self.bulkhead() else { return false };
        let mut available = self.hosts().iter().filter(|host| host.is_available()).peekable();
        available.peek().is_some() && available.all(|host| bulkhead.is_full(host))
    }
}
