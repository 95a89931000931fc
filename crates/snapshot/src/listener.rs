//! What a listener serves: virtual hosts, their routes, and where each route leads.
//!
//! Plain data, read by the data plane once per request. It does not know how it came about (`gateway.rs`, `mesh.rs`,
//! `virtual_host.rs`) nor what a cluster is made of (`cluster.rs`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use meshwright_model::{DirectResponse, FailureKind, HeaderOperations, Origin, Redirect, RetryPolicy};
use meshwright_route::{CompiledRewrite, HostTable, RouteTable};

use crate::{Cluster, ListenerTls, TcpForward};

/// Which calls a listener takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListenerKind {
    /// Calls from outside, as `Gateway` objects say.
    Gateway,
    /// Calls between services by their names.
    Mesh,
}

/// One socket to listen on, and everything that is served there.
#[derive(Debug)]
pub struct Listener {
    /// Which calls it takes.
    pub kind: ListenerKind,
    /// Where the socket is, after `--map-port`; port 0 lets the system choose.
    pub bind: SocketAddr,
    /// Port as configured, which `match.port` and redirects see. At the mesh listener the port of a request is the one in
    /// its authority, and this one (80) where the authority has none.
    pub port: u16,
    /// Identity over reloads: address and port as configured (`0.0.0.0_80`), or `mesh`.
    pub name: String,
    /// Index into [`Listener::virtual_hosts`] by host name.
    pub hosts: HostTable<usize>,
    /// Virtual hosts in order of first appearance.
    pub virtual_hosts: Vec<VirtualHost>,
    /// What a request for any other host gets.
    pub unknown_host: FailureKind,
    /// How TLS is ended or passed on; `None` is clear text.
    pub tls: Option<ListenerTls>,
    /// Where bytes go; `Some` is a port whose connections are not looked at, and which has no virtual hosts.
    pub tcp: Option<TcpForward>,
    /// The first server entry that asks for it, or the flag.
    pub origin: Origin,
}

/// The routes of a set of host names.
#[derive(Debug)]
pub struct VirtualHost {
    /// `host:port`, with the host pattern that it was made for.
    pub name: String,
    /// Answer 301 to https, whatever the routes say.
    pub https_redirect: bool,
    /// Match conditions of `routes`, in the same order.
    pub table: RouteTable,
    /// `routes[Found::rule]`.
    pub routes: Vec<Arc<Route>>,
}

/// One rule: what happens to a request that matches it.
#[derive(Debug)]
pub struct Route {
    /// Name in logs: as configured, `default` for the own route of a service, `-` when it has none.
    pub name: String,
    /// Name in logs by alternative (`route.match`), where the alternative has one. Parallel to the conditions of the rule.
    pub match_names: Vec<Option<String>>,
    /// What to do.
    pub action: Action,
    /// From the complete request to the complete response, over all tries; `None` is no limit.
    pub timeout: Option<Duration>,
    /// Retries; `None` leaves them to the cluster.
    pub retries: Option<RetryPolicy>,
    /// Path and authority changes before forwarding.
    pub rewrite: Option<CompiledRewrite>,
    /// Header changes for every destination.
    pub headers: HeaderOperations,
    /// Where it was written; the service's place for its own route.
    pub origin: Origin,
}

impl Route {
    /// Retries on the way to `cluster`: those of the route, else of the cluster's policy, else Istio's default.
    pub fn retries<'a>(&'a self, cluster: &'a Cluster) -> &'a RetryPolicy {
        static ISTIO: RetryPolicy = RetryPolicy::ISTIO;
        self.retries.as_ref().or(cluster.retries.as_ref()).unwrap_or(&ISTIO)
    }

    /// What `%ROUTE_NAME%` shows for a request that matched by alternative `matched`.
    pub fn log_name(&self, matched: Option<usize>) -> &str {
        let alternative = matched.and_then(|index| self.match_names.get(index));
        alternative.and_then(Option::as_deref).unwrap_or(&self.name)
    }
}

/// The one action of a route.
#[derive(Debug)]
pub enum Action {
    /// Send to one of several clusters.
    Forward(Forward),
    /// Answer with a `Location`.
    Redirect(Redirect),
    /// Answer with a fixed status and body.
    Direct(DirectResponse),
}

/// Destinations and their shares.
#[derive(Debug)]
pub struct Forward {
    /// At least one, in the order written. Destinations of weight 0 stay listed and are never chosen.
    pub destinations: Vec<WeightedCluster>,
    /// Sum of the weights, more than 0.
    pub total_weight: u32,
}

impl Forward {
    /// The destination for `ticket`, a number in `0..total_weight` drawn at random.
    /// A ticket outside that range gets the last destination.
    pub fn choose(&self, ticket: u32) -> &WeightedCluster {
        let mut rest = ticket;
        for destination in &self.destinations {
            if rest < destination.weight {
                return destination;
            }
            rest -= destination.weight;
        }
        &self.destinations[self.destinations.len() - 1]
    }
}

/// A destination with its share.
#[derive(Debug)]
pub struct WeightedCluster {
    /// Share of [`Forward::total_weight`].
    pub weight: u32,
    /// Where to.
    pub target: Target,
    /// Header changes for this destination, applied after those of the route.
    pub headers: HeaderOperations,
}

/// A destination as far as it can be resolved before a request is there. Indexes point into `Snapshot::clusters`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// This cluster.
    Cluster(usize),
    /// The service has several ports and none is named: the one whose port the request came in on; none is as `Missing`.
    ByPort(Vec<(u16, usize)>),
    /// The service, the port or the subset does not exist: [`FailureKind::NoCluster`].
    Missing,
}

impl Target {
    /// The cluster for a request that came in on `port`.
    pub fn cluster(&self, port: u16) -> Option<usize> {
        match self {
            Self::Cluster(index) => Some(*index),
            Self::ByPort(ports) => ports.iter().find(|(number, _)| *number == port).map(|(_, index)| *index),
            Self::Missing => None,
        }
    }
}
