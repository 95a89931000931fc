//! A balancer over the instances of a service: any policy of the mesh, with a circuit breaker for each instance. What is
//! known of an instance (requests in flight, latency, its breaker) stays when others come and go. Knows no HTTP.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use meshwright_traffic::{
    Ask, Balancer, BreakerPolicy, CircuitBreaker, Host, HostSet, InFlight, Outcome, Permit, Policy, Stagger, hash_key,
};

use crate::{Discovery, Instance};

/// Instances of a service with a policy that chooses among them. Share it with an `Arc`.
pub struct Balanced {
    discovery: Discovery,
    policy: Policy,
    breaker: BreakerPolicy,
    present: Mutex<Present>,
}

/// Those that there are now. Held for one choice.
struct Present {
    instances: Arc<[Instance]>,
    hosts: Arc<HostSet>,
    breakers: Vec<Arc<CircuitBreaker>>,
    balancer: Balancer,
}

/// Why there is nobody to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoInstance {
    /// No healthy instance is known.
    #[error("no healthy instance is known")]
    None,
    /// The circuit breakers of all are open.
    #[error("the circuit breakers of all instances are open")]
    Open,
}

impl Balanced {
    /// Chooses among what `discovery` knows by `policy`. An instance whose calls fail is left out as `breaker` says.
    pub fn new(discovery: Discovery, policy: Policy, breaker: BreakerPolicy) -> Self {
        let hosts = HostSet::new(Vec::new(), 0).with_in_flight(Some(InFlight::default()));
        let present = Present {
            instances: Arc::new([]),
            balancer: Balancer::new(policy, &hosts, Stagger::ALONE),
            hosts: Arc::new(hosts),
            breakers: Vec::new(),
        };
        Self { discovery, policy, breaker, present: Mutex::new(present) }
    }

    /// What is chosen from.
    pub fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    /// An instance for the next call.
    ///
    /// # Errors
    /// There is none.
    pub fn pick(&self) -> Result<Lease, NoInstance> {
        self.choose(None, &[])
    }

    /// The instance that owns `key`, with a consistent hash; any instance with other policies.
    ///
    /// # Errors
    /// There is none.
    pub fn pick_for(&self, key: &[u8]) -> Result<Lease, NoInstance> {
        self.choose(Some(hash_key(key)), &[])
    }

    /// An instance with none of the ids `tried`, as long as there is another: for retries.
    ///
    /// # Errors
    /// There is none.
    pub fn pick_other(&self, tried: &[&str]) -> Result<Lease, NoInstance> {
        self.choose(None, tried)
    }

    fn choose(&self, hash: Option<u64>, ids: &[&str]) -> Result<Lease, NoInstance> {
        let (now, mut rng) = (Instant::now(), fastrand::Rng::new());
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        let instances = self.discovery.instances();
        if !Arc::ptr_eq(&instances, &present.instances) {
            present.follow(instances, self.policy, &self.breaker);
        }
        let places = 0u32..;
        let mut tried: Vec<u32> = match ids.is_empty() {
            true => Vec::new(),
            false => {
                let known = present.instances.iter().zip(places);
                known.filter(|(instance, _)| ids.contains(&instance.id.as_str())).map(|(_, place)| place).collect()
            }
        };
        let mut open = vec![false; present.breakers.len()];
        loop {
            let Present { balancer, hosts, .. } = &mut *present;
            let ask = Ask { tried: &tried, hash, session: None, now };
            let index = balancer.pick(hosts, &ask, &mut rng).map_err(|_| NoInstance::None)?;
            let breaker = Arc::clone(&present.breakers[index]);
            if let Ok(permit) = breaker.try_acquire(now, &mut rng).permit {
                let (instances, hosts) = (Arc::clone(&present.instances), Arc::clone(&present.hosts));
                drop(present);
                hosts.acquire(index);
                return Ok(Lease { instances, hosts, index, breaker, permit: Some(permit) });
            }
            // Picked again although it was refused: there is nobody else.
            if std::mem::replace(&mut open[index], true) {
                return Err(NoInstance::Open);
            }
            tried.push(u32::try_from(index).unwrap_or(u32::MAX));
            if tried.len() >= open.len() {
                // Nobody is left but those to avoid, and one of them is better than none.
                tried = (0u32..).zip(&open).filter(|(_, open)| **open).map(|(place, _)| place).collect();
            }
        }
    }
}

impl Present {
    /// Goes over to other instances; the ones that stay keep what is known of them.
    fn follow(&mut self, instances: Arc<[Instance]>, policy: Policy, breaker: &BreakerPolicy) {
        let same = |instance: &Instance| (instance.id.clone(), instance.authority());
        let known = self.hosts.hosts().iter().zip(&self.breakers);
        let mut known: HashMap<_, _> = self.instances.iter().map(same).zip(known).collect();
        let mut breakers = Vec::with_capacity(instances.len());
        let mut hosts = Vec::with_capacity(instances.len());
        for instance in &*instances {
            let (host, breaker) = match known.remove(&same(instance)) {
                Some((host, breaker)) => (Host { weight: instance.weight, ..host.clone() }, Arc::clone(breaker)),
                None => (Host::new(instance.weight), Arc::new(CircuitBreaker::new(breaker.clone()))),
            };
            hosts.push(host);
            breakers.push(breaker);
        }
        let names = instances.iter().map(Instance::authority).collect();
        let hosts = HostSet::new(hosts, 0).with_names(names).with_in_flight(self.hosts.in_flight().cloned());
        hosts.prepare(policy);
        self.balancer.rebuild(policy, &hosts);
        (self.instances, self.hosts, self.breakers) = (instances, Arc::new(hosts), breakers);
    }
}

impl fmt::Debug for Balanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balanced")
            .field("policy", &self.policy)
            .field("instances", &self.discovery.instances())
            .finish_non_exhaustive()
    }
}

/// An instance for one call, which is in flight there until the lease ends. A lease that is dropped says that the call was
/// given up, which counts neither way.
#[derive(Debug)]
#[must_use = "the call counts as in flight for as long as the lease lives"]
pub struct Lease {
    instances: Arc<[Instance]>,
    hosts: Arc<HostSet>,
    index: usize,
    breaker: Arc<CircuitBreaker>,
    /// Taken when it ends.
    permit: Option<Permit>,
}

impl Lease {
    /// The instance.
    pub fn instance(&self) -> &Instance {
        &self.instances[self.index]
    }

    /// The call went well. How long it took is what some policies go by.
    pub fn succeeded(self) {
        self.end(Outcome::Success);
    }

    /// The call failed: the instance's breaker counts it.
    pub fn failed(self) {
        self.end(Outcome::Failure);
    }

    fn end(mut self, outcome: Outcome) {
        let Some(permit) = self.permit.take() else { return };
        let now = Instant::now();
        if outcome == Outcome::Success {
            let latency = now.saturating_duration_since(permit.started());
            self.hosts.hosts()[self.index].state.observe_latency(latency, now);
        }
        self.breaker.record(permit, outcome, now, &mut fastrand::Rng::new());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.breaker.release(permit);
        }
        self.hosts.release(self.index);
    }
}
