//! From localities to groups: who is near, who is the fallback, who gets what share. Pure arithmetic over names; health
//! comes in when a group is chosen. Read next: `group.rs`, `balance/outlook.rs`.
//!
//! The rules are Istio's (`localityLbSetting`, `zoneAwareLbSetting` of `DestinationRule`) with Envoy's zone-aware routing.

use std::collections::BTreeMap;

use crate::Group;

/// Labels that an endpoint has through its locality, for `failoverPriority`.
const TOPOLOGY: [&str; 3] =
    ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];
/// What the shares of zones add up to.
const SHARES: f64 = 10_000.0;

/// Labels of a process or an endpoint.
pub type Labels = BTreeMap<String, String>;

/// How localities are regarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalityRule {
    /// Fixed shares. The first entry whose pattern covers the client counts; without one localities are not regarded.
    /// Endpoints that no pattern covers get nothing.
    Distribute(Vec<Distribution>),
    /// The nearest first: the same subzone, zone, region, then the rest. Each takes over what the one before cannot carry.
    Failover(Failover),
    /// The own zone, as far as it can carry its share; other regions only as in [`LocalityRule::Failover`].
    ZoneAware {
        /// With fewer endpoints than this zones are not regarded.
        minimum_hosts: u32,
        /// What comes after the own region.
        failover: Failover,
    },
}

/// Shares for clients of one locality.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// `region/zone/subzone` of the client; `*` stands for any part, missing parts at the end for any.
    pub from: String,
    /// Patterns of endpoints with their shares.
    pub to: Vec<(String, u32)>,
}

/// Order of preference beyond the distance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failover {
    /// For a client in the first region the second comes before all other foreign ones.
    pub regions: Vec<(String, String)>,
    /// Labels, `key` or `key=value`: the more of them an endpoint shares with the client from the first on, the more it is
    /// preferred. Where given, they replace the distance.
    pub labels: Vec<String>,
}

/// A client or an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// `region/zone/subzone`, parts at the end may be missing; empty when unknown.
    pub locality: &'a str,
    /// Labels.
    pub labels: &'a Labels,
    /// Weight; of no meaning for a client.
    pub weight: u32,
}

impl Place<'_> {
    fn parts(&self) -> [&str; 3] {
        let mut parts = self.locality.split('/');
        [(); 3].map(|()| parts.next().unwrap_or_default())
    }

    fn label(&self, key: &str) -> &str {
        let topology = || TOPOLOGY.iter().position(|name| *name == key).map(|part| self.parts()[part]);
        self.labels.get(key).map(String::as_str).or_else(topology).unwrap_or_default()
    }
}

impl LocalityRule {
    /// The groups of `hosts` as `client` sees them; `None` when localities do not matter: the client's is unknown, no rule
    /// is for it, or there are too few hosts.
    pub fn groups(&self, client: &Place<'_>, hosts: &[Place<'_>]) -> Option<Vec<Group>> {
        match self {
            Self::Distribute(distributions) => {
                let own = |distribution: &&Distribution| covers(&distribution.from, client.locality);
                let distribution = distributions.iter().find(own).filter(|_| !client.locality.is_empty())?;
                Some(distributed(&distribution.to, hosts))
            }
            Self::Failover(failover) if client.locality.is_empty() && failover.labels.is_empty() => None,
            Self::Failover(failover) => {
                let ranks = hosts.iter().map(|host| (failover.rank(client, host), 1));
                Some(by_rank(ranks))
            }
            Self::ZoneAware { minimum_hosts, failover } => {
                let few = hosts.len() < *minimum_hosts as usize;
                if client.locality.is_empty() || few { None } else { Some(zone_aware(failover, client, hosts)) }
            }
        }
    }
}

impl Failover {
    /// The lower, the more preferred.
    fn rank(&self, client: &Place<'_>, host: &Place<'_>) -> u32 {
        if self.labels.is_empty() { self.distance(client, host) } else { self.by_labels(client, host) }
    }

    fn distance(&self, client: &Place<'_>, host: &Place<'_>) -> u32 {
        let ([region, zone, subzone], [own_region, own_zone, own_subzone]) = (host.parts(), client.parts());
        // Kubernetes names zones without their region.
        let same_zone = region.is_empty() && !zone.is_empty() && zone == own_zone;
        if region == own_region || same_zone {
            return match (zone == own_zone, subzone == own_subzone) {
                (true, true) => 0,
                (true, false) => 1,
                (false, _) => 2,
            };
        }
        let next = self.regions.iter().find(|(from, _)| from == own_region);
        if next.is_none_or(|(_, to)| to == region) { 3 } else { 4 }
    }

    fn by_labels(&self, client: &Place<'_>, host: &Place<'_>) -> u32 {
        let shared = self.labels.iter().take_while(|label| {
            let (key, value) = label.split_once('=').unwrap_or((label, client.label(label)));
            host.label(key) == value
        });
        let missing = (self.labels.len() - shared.count()) as u32;
        // Regions only order what shares no label.
        let foreign = missing as usize == self.labels.len() && !self.regions.is_empty();
        missing + u32::from(foreign && self.distance(client, host) == 4)
    }
}

/// Whether a pattern covers a locality.
fn covers(pattern: &str, locality: &str) -> bool {
    let mut parts = locality.split('/');
    pattern.split('/').all(|wanted| {
        let part = parts.next().unwrap_or_default();
        wanted == "*" || wanted == part
    })
}

fn distributed(to: &[(String, u32)], hosts: &[Place<'_>]) -> Vec<Group> {
    let mut groups: Vec<Group> =
        to.iter().map(|(_, share)| Group { priority: 0, weight: (*share).max(1), hosts: Vec::new() }).collect();
    for (index, host) in (0u32..).zip(hosts) {
        if let Some(group) = to.iter().position(|(pattern, _)| covers(pattern, host.locality)) {
            groups[group].hosts.push(index);
        }
    }
    groups.retain(|group| !group.hosts.is_empty());
    groups
}

/// One group for each pair of rank and weight; ranks without hosts are left out and the others move up.
fn by_rank(ranks: impl Iterator<Item = (u32, u32)>) -> Vec<Group> {
    let mut groups: BTreeMap<(u32, u32), Vec<u32>> = BTreeMap::new();
    for (index, rank) in (0u32..).zip(ranks) {
        groups.entry(rank).or_default().push(index);
    }
    let mut levels: Vec<u32> = groups.keys().map(|(rank, _)| *rank).collect();
    levels.dedup();
    let priority = |rank: u32| levels.iter().position(|level| *level == rank).unwrap_or_default() as u32;
    groups
        .into_iter()
        .map(|((rank, weight), hosts)| Group { priority: priority(rank), weight: weight.max(1), hosts })
        .collect()
}

/// Envoy's zone-aware routing, for clients that are spread evenly over the zones of the region. A zone that has at least its
/// share of the region's weight keeps its own requests; one that has less keeps what it can and gives the rest to the
/// zones that have more, in proportion to what they have more.
fn zone_aware(failover: &Failover, client: &Place<'_>, hosts: &[Place<'_>]) -> Vec<Group> {
    let [own_region, own_zone, _] = client.parts();
    let mut zones: BTreeMap<&str, f64> = BTreeMap::new();
    for host in hosts.iter().filter(|host| host.parts()[0] == own_region) {
        *zones.entry(host.parts()[1]).or_default() += f64::from(host.weight);
    }
    let total: f64 = zones.values().sum();
    let fair = total / zones.len().max(1) as f64;
    let own = zones.get(own_zone).copied().unwrap_or_default();
    let spare: f64 = zones.values().map(|weight| (weight - fair).max(0.0)).sum();
    // What the own zone cannot carry, as a part of its requests.
    let away = (1.0 - own / fair.max(f64::MIN_POSITIVE)).max(0.0);
    let ranks = hosts.iter().map(|host| {
        let [region, zone, _] = host.parts();
        if region != own_region {
            return (2 + failover.rank(client, host), 1);
        }
        let weight = zones.get(zone).copied().unwrap_or_default();
        let share =
            if zone == own_zone { 1.0 - away } else { away * (weight - fair).max(0.0) / spare.max(f64::MIN_POSITIVE) };
        // Between 0 and 10,000. Zones without a share are there for when the others fail.
        let share = (share * SHARES).round() as u32;
        (u32::from(share == 0), share)
    });
    // Two zones of one share would become one group, and share what each should have: their names keep them apart.
    let mut apart: Vec<Group> = Vec::new();
    for group in by_rank(ranks) {
        let mut by_zone: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for index in &group.hosts {
            by_zone.entry(hosts[*index as usize].parts()[1]).or_default().push(*index);
        }
        let whole = group.priority > 0;
        if whole {
            apart.push(group);
        } else {
            apart.extend(by_zone.into_values().map(|hosts| Group { hosts, ..group.clone() }));
        }
    }
    apart
}
