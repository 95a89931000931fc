//! What one worker keeps of a snapshot: its balancers, connection pools and counters, by cluster index.
//!
//! A view is made once per published snapshot and shared by reference count within the worker. Whatever belongs to a
//! cluster or an endpoint that is still there is carried over, so that a new snapshot closes no connection.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meshwright_codec::FrameLimits;
use meshwright_message::{ResponseHead, Scheme, Version};
use meshwright_model::UpstreamProtocol;
use meshwright_snapshot::{Cluster, Snapshot};
use meshwright_telemetry::{ClusterMetrics, WorkerMetrics};
use meshwright_traffic::{Balancer, Stagger, TokenBucket};
use meshwright_wire::http2::ClientLimits;
use meshwright_wire::{EndpointPool, PoolKey, PoolLimits, Protocol, net::KeepAlive};

use crate::{load_probe, load_report};

/// Bytes of the header section of an answer over HTTP/2, counted as name + value + 32 for each field.
const HEADER_LIST: u32 = 64 * 1024;

/// A try without an answer counts as one that took at least so long: an endpoint that refuses at once must not look like the
/// fastest of all.
const FAILURE_LATENCY: Duration = Duration::from_secs(1);

/// A snapshot as one worker uses it.
pub(crate) struct View {
    pub(crate) snapshot: Arc<Snapshot>,
    /// Parallel to `Snapshot::clusters`.
    pub(crate) clusters: Vec<Rc<WorkerCluster>>,
}

/// A cluster as one worker uses it.
pub(crate) struct WorkerCluster {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) balancer: RefCell<Balancer>,
    /// Whether requests in flight are counted per host: only where the policy or a bulkhead looks at them.
    pub(crate) counts_in_flight: bool,
    /// Whether the time until answers begin is kept per host: only where the policy looks at it.
    pub(crate) measures_latency: bool,
    /// Parallel to `Cluster::addresses`.
    pub(crate) pools: Vec<Rc<EndpointPool>>,
    pub(crate) pool_limits: PoolLimits,
    /// How many endpoints may be asked for their load; `None` where none is.
    pub(crate) probes: Option<RefCell<TokenBucket>>,
    pub(crate) metrics: Rc<ClusterMetrics>,
}

impl View {
    /// The view of `snapshot` that keeps what `previous` has in use.
    pub(crate) fn new(
        snapshot: Arc<Snapshot>,
        previous: Option<&View>,
        metrics: &WorkerMetrics,
        stagger: Stagger,
    ) -> Self {
        let before: &[Rc<WorkerCluster>] = previous.map(|previous| previous.clusters.as_slice()).unwrap_or_default();
        // Where only endpoints changed nearly every cluster is the same at the same place: no name is looked at.
        let unmoved = |index: usize| {
            let (old, new) = (before.get(index)?, snapshot.clusters.get(index)?);
            Arc::ptr_eq(&old.cluster, new).then_some(old)
        };
        let moved = before.iter().enumerate().filter(|(index, _)| unmoved(*index).is_none());
        let mut old: HashMap<&str, &Rc<WorkerCluster>> =
            moved.map(|(_, cluster)| (cluster.cluster.name.as_str(), cluster)).collect();
        let mut taken_over = |cluster: &Arc<Cluster>| match old.remove(cluster.name.as_str()) {
            Some(same) if Arc::ptr_eq(&same.cluster, cluster) => Rc::clone(same),
            before => Rc::new(WorkerCluster::new(cluster, before.map(Rc::as_ref), metrics, stagger)),
        };
        let clusters = snapshot.clusters.iter().enumerate();
        let clusters =
            clusters.map(|(index, cluster)| unmoved(index).map_or_else(|| taken_over(cluster), Rc::clone)).collect();
        for gone in old.into_values() {
            gone.pools.iter().for_each(|pool| pool.retire());
        }
        Self { snapshot, clusters }
    }
}

impl WorkerCluster {
    /// Tells the balancer how long an answer took to begin.
    pub(crate) fn measure(&self, host: usize, latency: Duration, now: Instant) {
        if self.measures_latency {
            self.cluster.hosts.hosts()[host].state.observe_latency(latency, now);
        }
    }

    /// Passes on what the endpoint says of its load in this answer.
    pub(crate) fn report(&self, host: usize, answer: &mut ResponseHead, now: Instant) {
        if self.cluster.policy.reads_reports()
            && let Some((in_flight, latency)) = load_report::take(answer)
        {
            self.cluster.hosts.hosts()[host].state.report(in_flight, latency, now);
        }
    }

    /// Tells the balancer of a try that began then and got no answer.
    pub(crate) fn measure_failure(&self, host: usize, began: Instant, now: Instant) {
        self.measure(host, now.saturating_duration_since(began).max(FAILURE_LATENCY), now);
    }

    /// What is spoken to the endpoints for a client that speaks `version`.
    pub(crate) fn protocol(&self, version: Version) -> Protocol {
        match (self.cluster.protocol, version) {
            (UpstreamProtocol::Http2, _) | (UpstreamProtocol::FollowClient, Version::Http2) => Protocol::Http2,
            _ => Protocol::Http1,
        }
    }

    /// The scheme of requests as the endpoints see them.
    pub(crate) fn scheme(&self) -> Scheme {
        if self.cluster.tls.is_some() { Scheme::Https } else { Scheme::Http }
    }

    fn new(cluster: &Arc<Cluster>, before: Option<&Self>, metrics: &WorkerMetrics, stagger: Stagger) -> Self {
        let metrics = metrics.cluster(&cluster.labels);
        let balancer = match before {
            Some(before) => {
                let mut balancer = before.balancer.borrow().clone();
                balancer.rebuild(cluster.policy, &cluster.hosts);
                balancer
            }
            None => Balancer::new(cluster.policy, &cluster.hosts, stagger),
        };
        let keep_alive = cluster.tcp_keepalive.map(|(probes, time, interval)| KeepAlive { probes, time, interval });
        let mut old: HashMap<SocketAddr, &Rc<EndpointPool>> =
            before.iter().flat_map(|before| &before.pools).map(|pool| (pool.key().address, pool)).collect();
        let pools = cluster
            .addresses
            .iter()
            .map(|&address| {
                let key = PoolKey { address, keep_alive, tls: cluster.tls.clone() };
                let same = old.get(&address).copied().filter(|pool| *pool.key() == key).cloned();
                if same.is_some() {
                    old.remove(&address);
                }
                same.unwrap_or_else(|| Rc::new(EndpointPool::new(key)))
            })
            .collect();
        old.into_values().for_each(|pool| pool.retire());
        Self {
            cluster: cluster.clone(),
            counts_in_flight: cluster.counts_in_flight(),
            measures_latency: cluster.policy.needs_latency(),
            balancer: RefCell::new(balancer),
            pools,
            probes: load_probe::bucket(cluster.probes_per_second, stagger.workers, Instant::now()).map(RefCell::new),
            pool_limits: PoolLimits {
                connect_timeout: cluster.connect_timeout,
                requests: cluster.max_requests_per_connection,
                idle: cluster.idle_timeout,
                age: cluster.max_connection_duration,
                http2: ClientLimits {
                    streams: cluster.max_concurrent_streams,
                    requests: cluster.max_requests_per_connection,
                    header_list: HEADER_LIST,
                    frames: FrameLimits::default(),
                    keep_alive: cluster.http2_keepalive,
                },
            },
            metrics,
        }
    }
}
