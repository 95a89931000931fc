//! From what a destination rule says about load balancing to what `meshwright-traffic` works with: the policy, the groups
//! of near and far hosts, what of a request decides about its host, and when failing hosts are ejected. It does not balance.

use std::collections::BTreeMap;

use meshwright_model::{
    self as model, Algorithm, ConsistentHash, HashCookie, HashKey, HashTable, LoadBalancer, LocalityFailover,
    LocalitySetting, OutlierDetection,
};
use meshwright_traffic::{
    Distribution, EjectionKind, Enforcing, Failover, FailurePercentagePolicy, Group, HostSet, InFlight, LocalityRule,
    OutlierPolicy, Place, Policy, SuccessRatePolicy, TableKind, UnreachablePolicy, Warmup,
};

use crate::cluster::{ClusterSpec, Member};
use crate::destination_rule::ClusterPolicy;

/// The process that sends, as far as it decides who is near.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Caller {
    /// `region/zone/subzone`; empty when unknown.
    pub(crate) locality: String,
    /// Labels of the process.
    pub(crate) labels: BTreeMap<String, String>,
}

/// What of a request decides about its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affinity {
    /// The key of consistent hashing.
    pub hash: Option<HashKey>,
    /// The cookie that names the host.
    pub session: Option<HashCookie>,
}

impl Affinity {
    pub(crate) fn of(load_balancer: &LoadBalancer) -> Option<Self> {
        let hash = match &load_balancer.algorithm {
            Algorithm::ConsistentHash(hash) => Some(hash.key.clone()),
            _ => None,
        };
        let session = load_balancer.session.clone();
        (hash.is_some() || session.is_some()).then_some(Self { hash, session })
    }
}

/// What `meshwright-traffic` does for an algorithm.
pub fn policy(algorithm: &Algorithm) -> Policy {
    match algorithm {
        Algorithm::LeastRequest => Policy::LeastRequest,
        Algorithm::LeastRequestOfAll => Policy::LeastRequestOfAll,
        Algorithm::RoundRobin => Policy::RoundRobin,
        Algorithm::Random => Policy::Random,
        Algorithm::PeakEwma => Policy::PeakEwma,
        Algorithm::ResponseTime => Policy::ResponseTime,
        Algorithm::Prequal { .. } => Policy::Prequal,
        Algorithm::ConsistentHash(ConsistentHash { table, balance_factor, .. }) => Policy::ConsistentHash {
            table: match *table {
                HashTable::Ring(minimum_size) => TableKind::Ring { minimum_size },
                HashTable::Maglev(table_size) => TableKind::Maglev { table_size },
            },
            bound: *balance_factor,
        },
    }
}

/// Probes of load in a second. A connection that begins with a PROXY header is one client's, and none is made for a probe.
pub(crate) fn probes_per_second(policy: &ClusterPolicy) -> u32 {
    match policy.load_balancer.algorithm {
        Algorithm::Prequal { probes_per_second } if policy.proxy_protocol.is_none() => probes_per_second,
        _ => 0,
    }
}

/// Outlier detection in the words of `meshwright-traffic`.
pub(crate) fn outlier_policy(detection: &OutlierDetection) -> OutlierPolicy {
    OutlierPolicy {
        consecutive_5xx: detection.consecutive_5xx,
        consecutive_gateway_errors: detection.consecutive_gateway_errors,
        split_local_origin: detection.split_local_origin,
        consecutive_local_origin_failures: detection.consecutive_local_origin_failures,
        error_statuses: detection.error_statuses.as_deref().map(Box::from),
        success_rate: detection.success_rate.map(|rule| SuccessRatePolicy {
            minimum_hosts: rule.minimum_hosts,
            request_volume: rule.request_volume,
            stdev_factor: rule.stdev_factor,
        }),
        failure_percentage: detection.failure_percentage.map(|rule| FailurePercentagePolicy {
            threshold: rule.threshold,
            minimum_hosts: rule.minimum_hosts,
            request_volume: rule.request_volume,
        }),
        interval: detection.interval,
        base_ejection_time: detection.base_ejection_time,
        max_ejection_time: detection.max_ejection_time,
        max_ejection_time_jitter: detection.max_ejection_time_jitter,
        enforcing: enforcing(&detection.enforcing),
        max_ejection_percent: detection.max_ejection_percent,
    }
}

/// When endpoints that refuse connections are out; as far as outlier detection says so, and else by default.
pub(crate) fn unreachable_policy(detection: Option<&OutlierDetection>) -> UnreachablePolicy {
    let default = UnreachablePolicy::default();
    detection.map_or(default, |detection| UnreachablePolicy {
        enforcing: detection.enforcing.unreachable,
        max_ejection_percent: detection.max_ejection_percent,
        ..default
    })
}

fn enforcing(shares: &model::Enforcing) -> Enforcing {
    Enforcing::default()
        .with(EjectionKind::Consecutive5xx, shares.consecutive_5xx)
        .with(EjectionKind::ConsecutiveGatewayErrors, shares.consecutive_gateway_failure)
        .with(EjectionKind::ConsecutiveLocalOriginFailures, shares.consecutive_local_origin_failure)
        .with(EjectionKind::SuccessRate, shares.success_rate)
        .with(EjectionKind::LocalOriginSuccessRate, shares.local_origin_success_rate)
        .with(EjectionKind::FailurePercentage, shares.failure_percentage)
        .with(EjectionKind::LocalOriginFailurePercentage, shares.failure_percentage_local_origin)
        .with(EjectionKind::Unreachable, shares.unreachable)
}

/// The set with the names, groups, slow start and counts that its policy needs. `before` is the set of the snapshot before.
pub(crate) fn arrange(hosts: HostSet, spec: &ClusterSpec, members: &[Member], before: Option<&HostSet>) -> HostSet {
    let load_balancer = &spec.policy.load_balancer;
    let warmup = load_balancer.warmup.map(|warmup| Warmup {
        window: warmup.duration,
        minimum_percent: warmup.minimum_percent,
        aggression: warmup.aggression,
    });
    let mut hosts = hosts.with_warmup(warmup);
    if Affinity::of(load_balancer).is_some() {
        hosts = hosts.with_names(members.iter().map(|member| member.address.to_string()).collect());
    }
    if let Policy::ConsistentHash { bound: Some(_), .. } = policy(&load_balancer.algorithm) {
        let in_flight: InFlight = before.and_then(HostSet::in_flight).cloned().unwrap_or_default();
        hosts = hosts.with_in_flight(Some(in_flight));
    }
    match groups(spec, members) {
        Some(groups) => hosts.with_groups(&groups),
        None => hosts,
    }
}

/// `None` when all hosts are equally near. As in Istio the nearest are preferred only where failing hosts are ejected:
/// without that nobody would notice that the near ones fail.
fn groups(spec: &ClusterSpec, members: &[Member]) -> Option<Vec<Group>> {
    let detects = spec.policy.outlier_detection.is_some();
    let rule = match &spec.policy.load_balancer.locality {
        LocalitySetting::Off => return None,
        LocalitySetting::Unset if detects => LocalityRule::Failover(Failover::default()),
        LocalitySetting::Failover(rule) if detects => LocalityRule::Failover(failover(rule)),
        LocalitySetting::Unset | LocalitySetting::Failover(_) => return None,
        LocalitySetting::ZoneAware { minimum_cluster_size, failover: rule } => {
            LocalityRule::ZoneAware { minimum_hosts: *minimum_cluster_size, failover: failover(rule) }
        }
        LocalitySetting::Distribute(entries) => {
            let entry = |(from, to): &(String, Vec<(String, u32)>)| Distribution { from: from.clone(), to: to.clone() };
            LocalityRule::Distribute(entries.iter().map(entry).collect())
        }
    };
    let caller = Place { locality: &spec.caller.locality, labels: &spec.caller.labels, weight: 1 };
    let places: Vec<Place<'_>> = members
        .iter()
        .map(|member| Place { locality: &member.locality, labels: &member.labels, weight: member.weight })
        .collect();
    rule.groups(&caller, &places)
}

fn failover(rule: &LocalityFailover) -> Failover {
    Failover { regions: rule.regions.clone(), labels: rule.labels.clone() }
}
