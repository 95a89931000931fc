//! The hosts of one cluster with what can be computed ahead from their weights. Knows no balancing state: that is each
//! worker's own. Read next: `rotation.rs`, `weighted_draw.rs`, `balance/mod.rs`.

use std::sync::OnceLock;

use crate::rotation::Rotation;
use crate::weighted_draw::WeightedDraw;
use crate::{Host, Policy};

/// The hosts of a cluster. Members and weights are fixed; facts and verdicts inside change while it is used.
/// Shared by all workers; what balancers need to know about the weights is computed once here.
#[derive(Debug)]
pub struct HostSet {
    hosts: Vec<Host>,
    min_health_percent: u32,
    draw: WeightedDraw,
    rotation: OnceLock<Rotation>,
}

impl HostSet {
    /// A set of `hosts`. `min_health_percent` (0 to 100) is the panic threshold: when less than that share of the hosts
    /// that operators left in is healthy, ejections are ignored; 0 is never.
    pub fn new(mut hosts: Vec<Host>, min_health_percent: u32) -> Self {
        for host in &mut hosts {
            host.weight = host.weight.max(1);
        }
        let draw = WeightedDraw::new(hosts.iter().map(|host| host.weight));
        Self { hosts, min_health_percent, draw, rotation: OnceLock::new() }
    }

    /// Does now what the first pick with this policy would otherwise do: round robin with unequal weights lays out its
    /// rotation, a few milliseconds at most. Meant for the thread that compiles configuration.
    pub fn prepare(&self, policy: Policy) {
        if policy == Policy::RoundRobin {
            self.rotation();
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

    /// Whether so few hosts are healthy that ejections are ignored. Reads hosts only until the answer is certain.
    pub fn is_panicking(&self) -> bool {
        if self.min_health_percent == 0 {
            return false;
        }
        let enabled = self.hosts.iter().filter(|host| host.is_enabled()).count();
        let needed = (enabled as u64 * u64::from(self.min_health_percent.min(100))).div_ceil(100);
        let available = self.hosts.iter().filter(|host| host.is_available());
        (available.take(needed as usize).count() as u64) < needed
    }

    /// A random index by weight, whatever the health. The set must not be empty.
    pub(crate) fn draw(&self, rng: &mut fastrand::Rng) -> usize {
        self.draw.draw(self.hosts.len(), rng)
    }

    /// The order of round robin.
    pub(crate) fn rotation(&self) -> &Rotation {
        self.rotation.get_or_init(|| Rotation::new(self.hosts.iter().map(|host| host.weight)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AdminState;

    #[test]
    fn the_panic_threshold_looks_only_at_hosts_that_operators_left_in() {
        let set = HostSet::new((0..10).map(|_| Host::new(1)).collect(), 50);
        assert!(!set.is_panicking());
        for host in &set.hosts()[..6] {
            host.state.set_admin(AdminState::Draining);
        }
        assert_eq!(set.healthy(), 4);
        assert!(!set.is_panicking(), "drained hosts are not ill");
        for host in &set.hosts()[6..9] {
            host.verdict.set_ejected(true);
        }
        assert!(set.is_panicking(), "one healthy of four is below half");
    }

    #[test]
    fn exactly_the_threshold_is_no_panic_and_zero_never_is() {
        let set = HostSet::new((0..4).map(|_| Host::new(1)).collect(), 50);
        set.hosts()[0].verdict.set_ejected(true);
        set.hosts()[1].verdict.set_ejected(true);
        assert!(!set.is_panicking());
        set.hosts()[2].verdict.set_ejected(true);
        assert!(set.is_panicking());
        let never = HostSet::new(set.hosts().to_vec(), 0);
        assert!(!never.is_panicking());
        assert!(!HostSet::new(Vec::new(), 50).is_panicking());
    }
}
