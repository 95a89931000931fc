//! Names of load balancers that stand for an algorithm: our own, those of service types, those of Ribbon's rules. Shared by
//! annotations and the command line.

use meshwright_model::{Algorithm, LoadBalancer, LocalityFailover, LocalitySetting};

/// Probes of load that are sent where nothing else is said.
const PROBES_PER_SECOND: u32 = 100;

/// Our own names, the common ones first.
const OWN: [(&str, Algorithm); 7] = [
    ("LEAST_REQUEST", Algorithm::LeastRequest),
    ("ROUND_ROBIN", Algorithm::RoundRobin),
    ("RANDOM", Algorithm::Random),
    ("PEAK_EWMA", Algorithm::PeakEwma),
    ("PREQUAL", Algorithm::Prequal { probes_per_second: PROBES_PER_SECOND }),
    ("RESPONSE_TIME", Algorithm::ResponseTime),
    ("LEAST_REQUEST_OF_ALL", Algorithm::LeastRequestOfAll),
];

/// Kinds of services with what suits them; every other kind is balanced at random. Weights of endpoints count in each.
const SERVICE_TYPES: [(&str, Algorithm); 4] = [
    ("stateless", Algorithm::RoundRobin),
    ("cpu-intensive", Algorithm::LeastRequest),
    ("weighted", Algorithm::RoundRobin),
    ("random", Algorithm::Random),
];

/// Ribbon's rules. Whoever is out by outlier detection is passed over in all of them, which is what
/// `AvailabilityFilteringRule` and `RetryRule` add to `RoundRobinRule`.
const RIBBON: [(&str, Algorithm); 7] = [
    ("RoundRobinRule", Algorithm::RoundRobin),
    ("RandomRule", Algorithm::Random),
    ("AvailabilityFilteringRule", Algorithm::RoundRobin),
    ("WeightedResponseTimeRule", Algorithm::ResponseTime),
    ("BestAvailableRule", Algorithm::LeastRequestOfAll),
    (ZONE_AVOIDANCE, Algorithm::RoundRobin),
    ("RetryRule", Algorithm::RoundRobin),
];

/// The rule of Ribbon that also regards zones.
const ZONE_AVOIDANCE: &str = "ZoneAvoidanceRule";

/// The load balancer of a name: one of ours, without regard to case and with `-` for `_`, a rule of Ribbon with or without
/// its package, or a type of service.
pub fn preset(name: &str) -> Option<LoadBalancer> {
    let rule = name.rsplit('.').next().unwrap_or(name);
    let own = name.to_ascii_uppercase().replace('-', "_");
    let found = OWN
        .iter()
        .find(|(known, _)| *known == own)
        .or_else(|| RIBBON.iter().find(|(known, _)| *known == rule))
        .or_else(|| service_type(name));
    let mut balancer = LoadBalancer::from(found?.1.clone());
    if rule == ZONE_AVOIDANCE {
        let failover = LocalityFailover::default();
        balancer.locality = LocalitySetting::ZoneAware { minimum_cluster_size: 1, failover };
    }
    Some(balancer)
}

/// What suits a type of service; `_` counts as `-`.
pub fn of_service_type(name: &str) -> Algorithm {
    service_type(name).map_or(Algorithm::Random, |(_, algorithm)| algorithm.clone())
}

/// Whether [`of_service_type`] has a rule for it.
pub(crate) fn is_service_type(name: &str) -> bool {
    service_type(name).is_some()
}

fn service_type(name: &str) -> Option<&'static (&'static str, Algorithm)> {
    let name = name.to_ascii_lowercase().replace('_', "-");
    SERVICE_TYPES.iter().find(|(known, _)| *known == name)
}

/// The types of services, for messages.
pub(crate) fn service_types() -> String {
    SERVICE_TYPES.map(|(name, _)| name).join(", ")
}

/// Every name that [`preset`] knows.
pub fn names() -> Vec<&'static str> {
    OWN.iter().chain(&RIBBON).chain(&SERVICE_TYPES).map(|(name, _)| *name).collect()
}
