//! The whole of what was meant: gateways, routes, policies and services, validated, each with its origin.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::{DestinationRule, Origin, ResiliencePolicy, Secret, ServerTlsSettings, Service, VirtualService};

/// Everything that one transaction of configuration says. Lists keep the order of the input, which decides conflicts.
#[derive(Clone, Debug, Default)]
pub struct Mesh {
    /// Gateways in input order.
    pub gateways: Vec<Gateway>,
    /// Virtual services in input order; the earlier wins a conflict.
    pub virtual_services: Vec<VirtualService>,
    /// Destination rules in input order; the earlier wins a conflict.
    pub destination_rules: Vec<DestinationRule>,
    /// Resilience policies in input order; the earlier wins a conflict.
    pub resilience_policies: Vec<ResiliencePolicy>,
    /// All services, already united over their sources: at most one per fully qualified name.
    pub services: Vec<Service>,
    /// Certificates and keys that stand in the configuration, in input order.
    pub secrets: Vec<Secret>,
}

/// Istio's `Gateway`: the ports a gateway process listens on and the hosts it serves there.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// `metadata.name`.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Labels of the gateway process that it is meant for; empty means any.
    pub selector: BTreeMap<String, String>,
    /// Ports.
    pub servers: Vec<Server>,
    /// Where the document starts.
    pub origin: Origin,
}

/// One port of a [`Gateway`].
#[derive(Clone, Debug)]
pub struct Server {
    /// Port number as written; `--map-port` may move the socket elsewhere, route matches still see this one.
    pub port: u16,
    /// Port name.
    pub port_name: String,
    /// Protocol spoken by clients.
    pub protocol: ServerProtocol,
    /// Address to bind to instead of the process default.
    pub bind: Option<IpAddr>,
    /// Hosts served, at least one.
    pub hosts: Vec<ServerHost>,
    /// How TLS is ended; `Some` for [`ServerProtocol::Https`] and [`ServerProtocol::Tls`].
    pub tls: Option<Box<ServerTlsSettings>>,
    /// Answer 301 to https for every host.
    pub https_redirect: bool,
    /// Where the server entry starts.
    pub origin: Origin,
}

/// A host of a [`Server`]: `[namespace/]dns-name`, where the namespace limits which virtual services may bind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerHost {
    /// `None` for any namespace (`*/` or no prefix).
    pub namespace: Option<String>,
    /// Lower-case name or wildcard.
    pub pattern: String,
}

/// What a gateway port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServerProtocol {
    /// HTTP in clear text, HTTP/1.1 and HTTP/2 with prior knowledge (`HTTP`, `HTTP2`, `GRPC`, `GRPC-WEB`).
    Http,
    /// HTTP over TLS that ends here (`HTTPS` with a mode other than `PASSTHROUGH`).
    Https,
    /// Bytes over TLS that ends here, by `tcp` routes (`TLS` with a mode other than `PASSTHROUGH`).
    Tls,
    /// TLS that is passed on by its server name, by `tls` routes (`HTTPS` and `TLS` with mode `PASSTHROUGH`).
    Passthrough,
    /// Bytes, by `tcp` routes (`TCP`, `MONGO`, `REDIS`, `MYSQL`).
    Tcp,
    /// Known to Istio, not served by this version: the port is not opened, and a diagnostic says so.
    Unsupported,
}

/// What a virtual service binds to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GatewayRef {
    /// The reserved word `mesh`: the listener for calls between services.
    Mesh,
    /// A [`Gateway`] by namespace and name.
    Named {
        /// Namespace of the gateway.
        namespace: String,
        /// Name of the gateway.
        name: String,
    },
}
