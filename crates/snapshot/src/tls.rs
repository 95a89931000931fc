//! What a listener does with TLS, and with connections whose bytes are not looked at. Plain data for the data plane.
//!
//! It does not know how it came about: that is `stream.rs`, and `credentials.rs` for certificates.

use std::net::IpAddr;
use std::sync::Arc;

use meshwright_identity::ServerTls;
use meshwright_model::{Origin, Subnet};
use meshwright_route::HostTable;

use crate::Forward;

/// The TLS of a listener: which chain a connection gets by the server name of its ClientHello.
#[derive(Debug)]
pub struct ListenerTls {
    /// At least one, in the order of the configuration.
    pub chains: Vec<TlsChain>,
    /// Index into [`ListenerTls::chains`] by server name: exact before wildcard, a longer wildcard before a shorter one.
    pub by_server_name: HostTable<usize>,
    /// The chain of a server whose host is `*`: for every other name, and for a ClientHello without any.
    pub default_chain: Option<usize>,
}

impl ListenerTls {
    /// The index of the chain for a ClientHello with this server name. Without one the connection is to be closed, as in
    /// Istio. Does not allocate; the cost does not depend on the number of chains.
    pub fn index(&self, server_name: Option<&str>) -> Option<usize> {
        server_name.and_then(|name| self.by_server_name.find(name).copied()).or(self.default_chain)
    }

    /// The chain of [`ListenerTls::index`].
    pub fn chain(&self, server_name: Option<&str>) -> Option<&TlsChain> {
        self.chains.get(self.index(server_name)?)
    }
}

/// What happens to the TLS connections of one server entry, or of one rule of `tls` routes.
#[derive(Debug)]
pub struct TlsChain {
    /// For logs and the admin API: the port name of the server entry, or `virtual service/rule`.
    pub name: String,
    /// What happens.
    pub action: TlsAction,
    /// Patterns (`*`, `*.suffix`, names) of the server entry. An HTTP authority outside of them is not served on this
    /// connection: 421 (RFC 9110 section 15.5.20).
    pub hosts: Vec<String>,
}

impl TlsChain {
    /// Whether a request for `host`, lower-case and without port, belongs on a connection of this chain.
    pub fn serves(&self, host: &str) -> bool {
        self.hosts.iter().any(|pattern| meshwright_model::host::covers(pattern, host))
    }
}

/// One of the things that can happen to a TLS connection.
#[derive(Debug)]
pub enum TlsAction {
    /// End TLS here.
    Terminate {
        /// Certificates and what is asked of clients. The same `Arc` over reloads while nothing of it changes.
        config: Arc<ServerTls>,
        /// Where the bytes inside go; `None` is HTTP, by the virtual hosts of the listener.
        then: Option<TcpForward>,
    },
    /// Pass the connection on as it is, ClientHello included.
    Passthrough(TcpForward),
}

/// Where connections go whose bytes are not looked at.
#[derive(Debug)]
pub struct TcpForward {
    /// In order; the first that matches wins. At least one.
    pub rules: Vec<TcpRule>,
}

impl TcpForward {
    /// The destinations for a connection that came in at the local address `destination`; draw a ticket for
    /// [`Forward::choose`]. `None` when no rule matches: close the connection. Does not allocate.
    pub fn forward(&self, destination: IpAddr) -> Option<&Forward> {
        self.rules.iter().find(|rule| rule.applies(destination)).map(|rule| &rule.forward)
    }
}

/// One rule for connections.
#[derive(Debug)]
pub struct TcpRule {
    /// Networks of which one must hold the local address; empty is any.
    pub destination_subnets: Vec<Subnet>,
    /// Where to. Header changes of its destinations are empty.
    pub forward: Forward,
    /// Where it was written.
    pub origin: Origin,
}

impl TcpRule {
    fn applies(&self, destination: IpAddr) -> bool {
        self.destination_subnets.is_empty()
            || self.destination_subnets.iter().any(|subnet| subnet.contains(destination))
    }
}
