//! Clusters: the endpoints of one (service, port, subset) with their policy, and what of them survives a new snapshot.
//!
//! Facts about a host belong to (service, address), verdicts about it to (cluster, address), usage to the cluster. A host
//! that left and comes back starts fresh. It does not balance: that is `meshwright-traffic`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use meshwright_identity::ClientTls;
use meshwright_model::{
    EndpointSet, Fallback, Hedging, OutlierDetection, ProxyProtocol, ResilienceSettings, RetryPolicy, Service,
    UpstreamProtocol,
};
use meshwright_telemetry::DestinationLabels;
use meshwright_traffic::{
    Ejections, HealthCounts, HedgeDelay, Host, HostSet, HostState, HostVerdict, Limits, OutlierDetector, Policy,
    UnreachableDetector, Usage,
};

use crate::balancing::{self, Affinity, Caller};
use crate::destination_rule::ClusterPolicy;
use crate::health::{self, HostCheck};
use crate::resilience::{self, Adaptive, Breakers, RateLimiter};
use crate::shared_answers::SharedAnswers;

/// Time to connect where no rule says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time that an unused connection is kept where no rule says otherwise.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// Streams of an HTTP/2 connection where no rule says otherwise; most servers allow 100 to 250.
const MAX_CONCURRENT_STREAMS: u32 = 100;
/// Envoy's panic threshold, which holds where no outlier detection is configured, in percent.
const PANIC_THRESHOLD: u32 = 50;

/// What one (service, port, subset) is, apart from its endpoints.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClusterSpec {
    pub(crate) service: Arc<str>,
    pub(crate) service_name: String,
    pub(crate) namespace: String,
    pub(crate) port: u16,
    pub(crate) subset: Option<String>,
    pub(crate) selector: BTreeMap<String, String>,
    pub(crate) policy: ClusterPolicy,
    pub(crate) protocol: UpstreamProtocol,
    pub(crate) tls: Option<Arc<ClientTls>>,
    /// Who sends: it decides who is near.
    pub(crate) caller: Arc<Caller>,
    pub(crate) resilience: ResilienceSettings,
}

impl ClusterSpec {
    /// Istio's name: `outbound|port|subset|host`.
    fn name(&self) -> String {
        format!("outbound|{}|{}|{}", self.port, self.subset.as_deref().unwrap_or_default(), self.service)
    }
}

/// One endpoint of a cluster, resolved.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Member {
    pub(crate) address: SocketAddr,
    pub(crate) weight: u32,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) locality: String,
    pub(crate) check: Option<HostCheck>,
}

/// The endpoints of one service, port and subset, and how they are to be used. Immutable but for the live facts behind
/// `hosts`, `usage` and `outlier`, which are shared with the snapshots before and after.
#[derive(Debug)]
pub struct Cluster {
    /// `outbound|8080|v1|user-service.default.svc.cluster.local`; unique in a snapshot.
    pub name: String,
    /// Canonical host name of the service.
    pub service: Arc<str>,
    /// Service port.
    pub port: u16,
    /// Subset of the destination rule.
    pub subset: Option<String>,
    /// Where each host is; parallel to `hosts`.
    pub addresses: Vec<SocketAddr>,
    /// Labels of each host; parallel to `hosts`.
    pub labels_of: Vec<BTreeMap<String, String>>,
    /// `region/zone/subzone` of each host, empty when unknown; parallel to `hosts`.
    pub localities: Vec<String>,
    /// How each host is checked whether it is well; parallel to `hosts`.
    pub checks: Vec<Option<HostCheck>>,
    /// Checks of its hosts.
    pub health: Arc<HealthCounts>,
    /// Weights, groups and live facts of each host.
    pub hosts: Arc<HostSet>,
    /// How a host is picked.
    pub policy: Policy,
    /// Most times in a second that endpoints are asked for their load, over all workers; 0 where they are not.
    pub probes_per_second: u32,
    /// What of a request decides about its host; `None` when nothing does.
    pub affinity: Option<Affinity>,
    /// Connections, pending requests, requests and retries that may be open at once, over all workers.
    pub limits: Limits,
    /// How many of them are.
    pub usage: Arc<Usage>,
    /// Retries for routes that say nothing of them; `None` is Istio's default policy.
    pub retries: Option<RetryPolicy>,
    /// When a request that only reads is sent once more; `None` is never.
    pub hedge: Option<Arc<HedgeDelay>>,
    /// How many requests there may be in a time; `None` is unlimited.
    pub rate_limit: Option<RateLimiter>,
    /// What is answered when there is no good answer; `None` is the failure itself. Where its destination leads is in
    /// [`crate::Snapshot::fallbacks`].
    pub fallback: Option<Fallback>,
    /// What is done with answers that are for everybody; `None` is nothing.
    pub shared_answers: Option<SharedAnswers>,
    /// Ejection of failing hosts; `None` is off.
    pub outlier: Option<Arc<OutlierDetector>>,
    /// Ejection of hosts that refuse connections.
    pub unreachable: Arc<UnreachableDetector>,
    /// Circuit breakers; `None` is off.
    pub breakers: Option<Breakers>,
    /// A limit of requests that learns from latency; `None` is off.
    pub adaptive: Option<Adaptive>,
    /// Time to connect. Default 10 s.
    pub connect_timeout: Duration,
    /// Time that an unused connection is kept; `None` is for ever. Default 1 h.
    pub idle_timeout: Option<Duration>,
    /// Requests after which a connection is closed; `None` is unlimited.
    pub max_requests_per_connection: Option<u32>,
    /// Age at which a connection is not used for another request; `None` is unlimited.
    pub max_connection_duration: Option<Duration>,
    /// TCP keep-alive: probes, time, interval; `None` is off, absent parts are the system's.
    pub tcp_keepalive: Option<(Option<u32>, Option<Duration>, Option<Duration>)>,
    /// TLS on every connection; `None` is clear text. The same `Arc` over reloads while nothing of it changes.
    pub tls: Option<Arc<ClientTls>>,
    /// Which HTTP is spoken. Default HTTP/1.1.
    pub protocol: UpstreamProtocol,
    /// Requests that one HTTP/2 connection carries at once; its peer may allow fewer. Default 100.
    pub max_concurrent_streams: u32,
    /// HTTP/2 pings: interval, and time for the answer until the connection is given up; `None` is off.
    pub http2_keepalive: Option<(Duration, Duration)>,
    /// PROXY header at the start of every connection, before TLS; `None` is off.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Metric labels of the destination. A label that the hosts do not agree on is unknown.
    pub labels: Arc<DestinationLabels>,
    pub(crate) spec: Arc<ClusterSpec>,
    members: Vec<Member>,
}

impl Cluster {
    /// What its policy says of hedging.
    pub fn hedging(&self) -> Option<Hedging> {
        self.spec.resilience.hedging
    }

    /// Whether requests in flight are counted at each host: where the policy or the bulkhead looks at them.
    pub fn counts_in_flight(&self) -> bool {
        self.policy.needs_in_flight() || self.hosts.bulkhead().is_some()
    }

    /// Whether some host is checked.
    pub fn is_checked(&self) -> bool {
        self.checks.iter().any(Option::is_some)
    }

    /// The index of the host at `address`.
    pub fn host_at(&self, address: SocketAddr) -> Option<usize> {
        self.addresses.iter().position(|candidate| *candidate == address)
    }
}

/// What clusters of the snapshot before know, by the keys that facts belong to.
pub(crate) struct LiveFacts<'a> {
    clusters: HashMap<&'a str, &'a Arc<Cluster>>,
    states: HashMap<(Arc<str>, SocketAddr), Arc<HostState>>,
}

impl<'a> LiveFacts<'a> {
    pub(crate) fn of(previous: impl Iterator<Item = &'a Arc<Cluster>>) -> Self {
        let mut facts = Self { clusters: HashMap::new(), states: HashMap::new() };
        for cluster in previous {
            facts.clusters.insert(&cluster.name, cluster);
            for (address, host) in cluster.addresses.iter().zip(cluster.hosts.hosts()) {
                facts.states.entry((Arc::clone(&cluster.service), *address)).or_insert_with(|| Arc::clone(&host.state));
            }
        }
        facts
    }

    /// The cluster of `spec` with the endpoints of `set`: the old one when nothing changed, else a new one with the facts
    /// that live on.
    pub(crate) fn cluster(&mut self, spec: Arc<ClusterSpec>, service: &Service, set: &EndpointSet) -> Arc<Cluster> {
        let name = spec.name();
        let members = members(&spec, service, set);
        let previous = self.clusters.get(name.as_str()).copied();
        if let Some(previous) = previous
            && previous.spec == spec
            && previous.members == members
        {
            return Arc::clone(previous);
        }
        let hosts = members.iter().map(|member| self.host(&spec, member, previous)).collect();
        let pool = &spec.policy.connection_pool;
        let outlier = &spec.policy.outlier_detection;
        let labels = labels(&name, &spec, &members);
        let min_health_percent = outlier.as_ref().map_or(PANIC_THRESHOLD, |outlier| outlier.min_health_percent);
        let load_balancer = &spec.policy.load_balancer;
        let policy = balancing::policy(&load_balancer.algorithm);
        let hosts = HostSet::new(hosts, min_health_percent);
        let hosts = balancing::arrange(hosts, &spec, &members, previous.map(|before| &*before.hosts));
        let hosts = hosts.with_bulkhead(resilience::bulkhead(&spec.resilience));
        let addresses: Vec<SocketAddr> = members.iter().map(|member| member.address).collect();
        let before = previous.map(|of| (&of.spec.resilience, of.addresses.as_slice(), of.breakers.as_ref()));
        let breakers = resilience::breakers(&spec.resilience, &spec.service_name, &addresses, before);
        let before = previous.map(|of| (&of.spec.resilience, of.adaptive.as_ref()));
        let adaptive = resilience::adaptive(&spec.resilience, before);
        let unreachable = unreachable(outlier.as_ref(), previous);
        hosts.prepare(policy);
        Arc::new(Cluster {
            name,
            service: Arc::clone(&spec.service),
            port: spec.port,
            subset: spec.subset.clone(),
            addresses,
            labels_of: members.iter().map(|member| member.labels.clone()).collect(),
            localities: members.iter().map(|member| member.locality.clone()).collect(),
            checks: members.iter().map(|member| member.check.clone()).collect(),
            health: previous.map_or_else(Default::default, |previous| Arc::clone(&previous.health)),
            hosts: Arc::new(hosts),
            policy,
            probes_per_second: balancing::probes_per_second(&spec.policy),
            affinity: Affinity::of(load_balancer),
            limits: Limits {
                max_connections: limit(pool.max_connections),
                max_pending: limit(pool.max_pending_requests),
                max_requests: limit(pool.max_requests),
                max_retries: limit(pool.max_retries),
                retry_budget: resilience::retry_budget(&spec.resilience, spec.policy.retry_budget),
            },
            usage: previous.map_or_else(Default::default, |previous| Arc::clone(&previous.usage)),
            retries: spec.resilience.retries.clone(),
            hedge: resilience::hedge(&spec.resilience, previous.map(|of| (&of.spec.resilience, of.hedge.as_ref()))),
            rate_limit: resilience::rate_limit(&spec.resilience, previous.and_then(|of| of.rate_limit.as_ref())),
            fallback: spec.resilience.fallback.clone(),
            shared_answers: SharedAnswers::of(&spec.resilience, previous.and_then(|of| of.shared_answers.as_ref())),
            outlier: detector(outlier.as_ref(), previous, unreachable.ejections()),
            unreachable,
            breakers,
            adaptive,
            connect_timeout: pool.connect_timeout.unwrap_or(CONNECT_TIMEOUT),
            idle_timeout: Some(pool.idle_timeout.unwrap_or(IDLE_TIMEOUT)).filter(|time| !time.is_zero()),
            max_requests_per_connection: pool.max_requests_per_connection.filter(|requests| *requests > 0),
            max_connection_duration: pool.max_connection_duration,
            tcp_keepalive: pool.tcp_keepalive,
            tls: spec.tls.clone(),
            protocol: spec.protocol,
            max_concurrent_streams: pool
                .max_concurrent_streams
                .filter(|streams| *streams > 0)
                .unwrap_or(MAX_CONCURRENT_STREAMS),
            http2_keepalive: pool.http2_keepalive,
            proxy_protocol: spec.policy.proxy_protocol,
            labels: match previous {
                Some(previous) if *previous.labels == labels => Arc::clone(&previous.labels),
                _ => Arc::new(labels),
            },
            spec,
            members,
        })
    }

    fn host(&mut self, spec: &ClusterSpec, member: &Member, previous: Option<&Arc<Cluster>>) -> Host {
        let state = self.states.entry((Arc::clone(&spec.service), member.address)).or_insert_with(|| {
            // One that was in use before anybody checked it is not taken out before the first answer.
            let waits = member.check.as_ref().is_some_and(|of| !of.check.initially_healthy);
            Arc::new(if waits { HostState::awaiting_check() } else { HostState::new() })
        });
        // Where there is no outlier detection any more nobody would end its ejections: verdicts start fresh then.
        let goes_on =
            spec.policy.outlier_detection.is_some() || previous.is_some_and(|before| before.outlier.is_none());
        let verdict = previous.and_then(|cluster| {
            let verdict = &cluster.hosts.hosts()[cluster.host_at(member.address)?].verdict;
            Some(if goes_on { Arc::clone(verdict) } else { Arc::new(verdict.without_detection()) })
        });
        Host {
            weight: member.weight,
            state: Arc::clone(state),
            verdict: verdict.unwrap_or_else(|| Arc::new(HostVerdict::default())),
        }
    }
}

/// The endpoints that the subset selects, each address once: what is written first keeps it.
fn members(spec: &ClusterSpec, service: &Service, set: &EndpointSet) -> Vec<Member> {
    let mut seen: HashSet<SocketAddr> = HashSet::new();
    set.sockets(service, spec.port)
        .filter(|(_, endpoint)| spec.selector.iter().all(|(key, value)| endpoint.labels.get(key) == Some(value)))
        .filter(|(address, _)| seen.insert(*address))
        .map(|(address, endpoint)| Member {
            address,
            weight: endpoint.weight.max(1),
            labels: endpoint.labels.clone(),
            locality: endpoint.locality.clone(),
            check: health::check_of(spec, service, endpoint, address),
        })
        .collect()
}

/// 0 counts as unset, as in Istio.
fn limit(configured: Option<u32>) -> u32 {
    configured.filter(|limit| *limit > 0).unwrap_or(u32::MAX)
}

/// The detector before, when the policy is the same; else a new one. Verdicts live with the hosts and stay either way.
fn detector(
    policy: Option<&OutlierDetection>,
    previous: Option<&Arc<Cluster>>,
    ejections: &Arc<Ejections>,
) -> Option<Arc<OutlierDetector>> {
    let policy = policy?;
    if let Some(previous) = previous
        && previous.spec.policy.outlier_detection.as_ref() == Some(policy)
        && let Some(detector) = &previous.outlier
    {
        return Some(Arc::clone(detector));
    }
    let policy = balancing::outlier_policy(policy);
    Some(Arc::new(OutlierDetector::counting_in(policy, Arc::clone(ejections))))
}

/// The same for hosts that refuse connections. What was ejected so far stays with the cluster.
fn unreachable(policy: Option<&OutlierDetection>, previous: Option<&Arc<Cluster>>) -> Arc<UnreachableDetector> {
    let policy = balancing::unreachable_policy(policy);
    let Some(before) = previous.map(|previous| &previous.unreachable) else {
        return Arc::new(UnreachableDetector::new(policy, Arc::default()));
    };
    if *before.policy() == policy {
        return Arc::clone(before);
    }
    Arc::new(UnreachableDetector::new(policy, Arc::clone(before.ejections())))
}

/// Labels of the destination, from labels that all hosts have in common; those of the subset when there is no host.
fn labels(name: &str, spec: &ClusterSpec, members: &[Member]) -> DestinationLabels {
    let common = |key: &str| -> Option<&str> {
        let Some((first, others)) = members.split_first() else { return spec.selector.get(key).map(String::as_str) };
        let value = first.labels.get(key)?;
        others.iter().all(|other| other.labels.get(key) == Some(value)).then_some(value)
    };
    let first_of = |keys: [&str; 3]| keys.into_iter().find_map(common);
    let mut labels = DestinationLabels::service(name, &spec.service, &spec.service_name, &spec.namespace);
    if let Some(version) = common("version") {
        labels = labels.with_version(version);
    }
    if let Some(app) = common("app") {
        labels.app = app.to_owned();
    }
    if let Some(service) = first_of(["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]) {
        labels.canonical_service = service.to_owned();
    }
    if let Some(revision) = first_of(["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]) {
        labels.canonical_revision = revision.to_owned();
    }
    labels
}
