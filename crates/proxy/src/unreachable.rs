//! Endpoints that refuse connections: out at once, probed in the background, in again when a connection could be made. A probe
//! connects and closes; nothing is sent, so that it says that somebody listens and no more.
//!
//! Costs nothing while connections are made. Who is taken out and when probes are due is decided in `meshwright-traffic`;
//! whoever met the refusal has the task that probes. Read next: `lease.rs`, which tells of refusals.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use meshwright_telemetry::{ClusterCounter, ClusterMetrics};
use meshwright_traffic::{Comeback, Unreachable};
use meshwright_wire::net;

use crate::outlier;
use crate::view::WorkerCluster;

/// Takes note that a connection to an endpoint could not be made. Time that was over says nothing: a slow endpoint is there.
pub(crate) fn observe(cluster: &WorkerCluster, host: usize, error: &io::Error) {
    let why = match error.kind() {
        ErrorKind::ConnectionRefused => Unreachable::Refused,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Unreachable::NoRoute,
        _ => return,
    };
    let of = &cluster.cluster;
    let told = of.unreachable.refused(&of.hosts, host, why, Instant::now(), &mut fastrand::Rng::new());
    let Some((event, comeback)) = told else { return };
    outlier::tell(cluster, &event);
    if let Some(comeback) = comeback {
        let (of, endpoint) = (of.name.clone(), of.addresses[host]);
        let probes = Probes { of, endpoint, limit: cluster.cluster.connect_timeout, metrics: cluster.metrics.clone() };
        tokio::task::spawn_local(probes.run(comeback));
    }
}

/// The probes of one endpoint. They hold nothing of the cluster alive but its metrics: its endpoints and its configuration
/// may change meanwhile.
struct Probes {
    /// Name of the cluster.
    of: String,
    endpoint: SocketAddr,
    /// Time for one.
    limit: Duration,
    metrics: Rc<ClusterMetrics>,
}

impl Probes {
    /// Probes until the endpoint takes part again, by a probe or by an operator's word, or no cluster has it any more.
    async fn run(self, comeback: Comeback) {
        let Self { of, endpoint, limit, metrics } = self;
        while let Some(due) = comeback.poll_timeout() {
            if due > Instant::now() {
                tokio::time::sleep_until(due.into()).await;
                // It may have come back, or left, meanwhile.
                continue;
            }
            metrics.count(ClusterCounter::UnreachableProbes);
            let connected = matches!(tokio::time::timeout(limit, net::connect(endpoint, None)).await, Ok(Ok(_)));
            if comeback.probed(connected, Instant::now(), &mut fastrand::Rng::new()) {
                tracing::info!(cluster = %of, %endpoint, "endpoint takes part again: a connection to it can be made");
            }
        }
    }
}
