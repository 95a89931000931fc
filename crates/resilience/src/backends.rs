//! A balancer over the backends of a service: whatever stands for one, chosen by any policy of the mesh. Knows no
//! connection and no health: a backend that fails is left out by its own breaker or by the caller. Read next:
//! `meshwright-traffic`, `balance/mod.rs`.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use meshwright_traffic::{Ask, Balancer, Bulkhead, Host, HostSet, NoHost, Policy, Stagger, hash_key};

use crate::clock::{dice, now};

/// Backends of one service with a policy that chooses among them. Share it with an `Arc`.
///
/// ```
/// use meshwright_resilience::{Backends, BalancingPolicy};
///
/// let backends = Backends::new(BalancingPolicy::RoundRobin, vec!["10.0.0.1:80", "10.0.0.2:80"]);
/// let first = *backends.pick().unwrap().backend();
/// let second = *backends.pick().unwrap().backend();
/// assert_ne!(first, second);
/// ```
pub struct Backends<T> {
    backends: Vec<T>,
    hosts: HostSet,
    policy: Policy,
    /// Held for one choice and for taking its place.
    balancer: Mutex<Balancer>,
}

impl<T> Backends<T> {
    /// Backends of equal weight.
    pub fn new(policy: Policy, backends: Vec<T>) -> Self {
        Self::weighted(policy, backends.into_iter().map(|backend| (1, backend)).collect())
    }

    /// Backends by weight; 0 counts as 1. With a consistent hash the place in the list is what a backend is known by.
    pub fn weighted(policy: Policy, backends: Vec<(u32, T)>) -> Self {
        let names = (0..backends.len()).map(|index| index.to_string()).collect();
        let (weights, backends): (Vec<u32>, Vec<T>) = backends.into_iter().unzip();
        let hosts = HostSet::new(weights.into_iter().map(Host::new).collect(), 0).with_names(names);
        hosts.prepare(policy);
        let balancer = Mutex::new(Balancer::new(policy, &hosts, Stagger::ALONE));
        Self { backends, hosts, policy, balancer }
    }

    /// Lets at most so many calls be with each backend at one time (at least 1): a backend that is full is passed over, and
    /// when all are full there is none to pick. Nobody waits. A lease that is dropped makes room, whatever came of the call.
    ///
    /// ```
    /// use meshwright_resilience::{Backends, BalancingPolicy, NoHost};
    ///
    /// let backends = Backends::new(BalancingPolicy::Random, vec!["10.0.0.1:80", "10.0.0.2:80"]).with_bulkhead(1);
    /// let (first, second) = (backends.pick().unwrap(), backends.pick().unwrap());
    /// assert_ne!(first.backend(), second.backend());
    /// assert_eq!(backends.pick().err(), Some(NoHost::Full));
    /// drop(first);
    /// assert!(backends.pick().is_ok());
    /// ```
    #[must_use]
    pub fn with_bulkhead(self, max_concurrent: u32) -> Self {
        let bulkhead = Bulkhead { max_requests: max_concurrent, observe: false };
        Self { hosts: self.hosts.with_bulkhead(Some(bulkhead)), ..self }
    }

    /// All backends, in their order.
    pub fn all(&self) -> &[T] {
        &self.backends
    }

    /// A backend for the next call.
    ///
    /// # Errors
    /// There is no backend, or all of them are full ([`Backends::with_bulkhead`]).
    pub fn pick(&self) -> Result<Lease<'_, T>, NoHost> {
        self.choose(&Ask::first(now()))
    }

    /// The backend that owns `key`, with a consistent hash; any backend with other policies.
    ///
    /// # Errors
    /// There is no backend, or all of them are full ([`Backends::with_bulkhead`]).
    pub fn pick_for(&self, key: &[u8]) -> Result<Lease<'_, T>, NoHost> {
        self.choose(&Ask { hash: Some(hash_key(key)), ..Ask::first(now()) })
    }

    /// A backend that is none of `tried` (places in the list), as long as there is another: for retries.
    ///
    /// # Errors
    /// There is no backend, or all of them are full ([`Backends::with_bulkhead`]).
    pub fn pick_other(&self, tried: &[u32]) -> Result<Lease<'_, T>, NoHost> {
        self.choose(&Ask { tried, ..Ask::first(now()) })
    }

    fn choose(&self, ask: &Ask<'_>) -> Result<Lease<'_, T>, NoHost> {
        let mut balancer = self.balancer.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let index = balancer.pick(&self.hosts, ask, &mut dice())?;
            // Places are taken under the lock alone: one that was seen is there.
            if !self.counts_in_flight() || self.hosts.try_acquire(index) {
                return Ok(Lease { backends: self, index, began: ask.now });
            }
        }
    }

    fn counts_in_flight(&self) -> bool {
        self.policy.needs_in_flight() || self.hosts.bulkhead().is_some()
    }
}

impl<T: fmt::Debug> fmt::Debug for Backends<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backends")
            .field("policy", &self.policy)
            .field("backends", &self.backends)
            .finish_non_exhaustive()
    }
}

/// A backend for one call, which is in flight there until the lease is dropped.
#[must_use = "the call counts as in flight for as long as the lease lives"]
pub struct Lease<'a, T> {
    backends: &'a Backends<T>,
    index: usize,
    began: Instant,
}

impl<'a, T> Lease<'a, T> {
    /// The backend.
    pub fn backend(&self) -> &'a T {
        &self.backends.backends[self.index]
    }

    /// Its place in the list.
    pub fn index(&self) -> u32 {
        self.index as u32
    }

    /// The call succeeded: the time since the lease began is its latency, which some policies go by.
    pub fn answered(self) {
        if self.backends.policy.needs_latency() {
            let now = now();
            let latency = now.saturating_duration_since(self.began);
            self.backends.hosts.hosts()[self.index].state.observe_latency(latency, now);
        }
    }
}

impl<T> Drop for Lease<'_, T> {
    fn drop(&mut self) {
        if self.backends.counts_in_flight() {
            self.backends.hosts.release(self.index);
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Lease<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lease").field(self.backend()).finish()
    }
}
