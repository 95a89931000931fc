//! Services, their ports and their endpoints, from whatever source.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::{HealthCheck, Origin, ServiceId};

/// A service that requests can be sent to.
#[derive(Clone, Debug)]
pub struct Service {
    /// The one canonical name, for example `user-service.default.svc.cluster.local` or `api.example.com`.
    pub host: String,
    /// Namespace it belongs to.
    pub namespace: String,
    /// Every other name that reaches it from anywhere, lower-case: `name.ns`, `name.ns.svc`, further hosts of a ServiceEntry.
    pub aliases: Vec<String>,
    /// Name that reaches it from its own namespace only (`user-service`), or from anywhere when nobody else has it.
    pub short_name: Option<String>,
    /// Ports; empty means that every port reaches the same endpoints (`--service`).
    pub ports: Vec<ServicePort>,
    /// How endpoint addresses become socket addresses.
    pub resolution: Resolution,
    /// Endpoints as configured; more may come at run time.
    pub endpoints: Vec<Endpoint>,
    /// Where it came from.
    pub source: ServiceSource,
    /// Where it was written.
    pub origin: Origin,
}

impl Service {
    /// The socket address of `endpoint` for service port `port`, when its address is a number.
    /// Names are resolved by the control plane and arrive as an [`EndpointSet`].
    pub fn socket_port(&self, endpoint: &Endpoint, port: u16) -> u16 {
        match &endpoint.ports {
            EndpointPorts::Fixed(number) => *number,
            EndpointPorts::ByName(ports) => {
                let declared = self.ports.iter().find(|candidate| candidate.number == port);
                declared
                    .and_then(|declared| ports.get(&declared.name).copied().or(declared.target_port))
                    .unwrap_or(port)
            }
        }
    }
}

/// A port of a [`Service`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Number that callers name.
    pub number: u16,
    /// Name, unique in the service; may be empty when it is the only one.
    pub name: String,
    /// What is spoken.
    pub protocol: PortProtocol,
    /// Port of the endpoints, when it differs.
    pub target_port: Option<u16>,
}

/// What a service port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PortProtocol {
    /// HTTP/1.1, or unknown and taken as such.
    Http,
    /// HTTP/2 (`http2`, `grpc`, `grpc-web`, `kubernetes.io/h2c`).
    Http2,
    /// HTTP over TLS: requests need a TLS policy, connections are passed on as bytes.
    Https,
    /// TLS, passed on as bytes.
    Tls,
    /// Bytes (`tcp`, `mongo`, `redis`, `mysql`).
    Tcp,
    /// No TCP at all (`udp`, `sctp`), or a proxy's protocol: not served, and a diagnostic says so.
    Other,
}

impl PortProtocol {
    /// Whether requests are sent to such a port without further ado.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2)
    }
}

/// How endpoint addresses become socket addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// They are IP addresses.
    Static,
    /// Names, resolved again by TTL; all addresses are used.
    Dns,
    /// Names, resolved again by TTL; only the first address is used for new connections.
    DnsRoundRobin,
}

/// Who said that a service exists. Earlier in this list wins a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceSource {
    /// `--service` on the command line.
    Flag,
    /// Istio's `ServiceEntry`.
    ServiceEntry,
    /// A Kubernetes `Service` document.
    Kubernetes,
    /// The service registry.
    Registry,
}

impl fmt::Display for ServiceSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "--service",
            Self::ServiceEntry => "ServiceEntry",
            Self::Kubernetes => "Service",
            Self::Registry => "registry",
        })
    }
}

/// One instance of a service as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is.
    pub address: EndpointAddress,
    /// Which of its ports serves which service port.
    pub ports: EndpointPorts,
    /// Labels that subsets select by.
    pub labels: BTreeMap<String, String>,
    /// Relative weight, at least 1.
    pub weight: u32,
    /// `region/zone/subzone`; empty when unknown.
    pub locality: String,
    /// How it is checked whether it is well, where its own source says so; `None` is not, unless a policy for its service says
    /// how.
    pub health_check: Option<Arc<HealthCheck>>,
}

/// Address of an [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EndpointAddress {
    /// A number.
    Ip(IpAddr),
    /// A DNS name.
    Name(String),
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// Ports of an [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointPorts {
    /// This one for every service port.
    Fixed(u16),
    /// By name of the service port; names that are missing use the service port's target or number.
    ByName(BTreeMap<String, u16>),
}

/// The resolved endpoints of one service: what DNS and registries deliver without a new configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSet {
    /// Which service of the current [`crate::Mesh`].
    pub service: ServiceId,
    /// Resolved instances: index into `Service::endpoints` and the addresses it has now (ports are not resolved).
    pub addresses: Vec<(usize, Vec<IpAddr>)>,
    /// Instances of the service registry that requests may go to now, with the addresses that each has.
    pub registered: Vec<(Endpoint, Vec<IpAddr>)>,
}

impl EndpointSet {
    /// Every configured endpoint whose address is a number, as the starting point before any resolution.
    pub fn of_numbers(service: ServiceId, endpoints: &[Endpoint]) -> Self {
        let addresses = endpoints
            .iter()
            .enumerate()
            .filter_map(|(index, endpoint)| match &endpoint.address {
                EndpointAddress::Ip(ip) => Some((index, vec![*ip])),
                EndpointAddress::Name(_) => None,
            })
            .collect();
        Self { service, addresses, registered: Vec::new() }
    }

    /// Socket addresses of this set for one service port, with the endpoint each belongs to.
    pub fn sockets<'a>(
        &'a self,
        service: &'a Service,
        port: u16,
    ) -> impl Iterator<Item = (SocketAddr, &'a Endpoint)> + 'a {
        let configured = self.addresses.iter().map(|(index, ips)| (&service.endpoints[*index], ips));
        let registered = self.registered.iter().map(|(endpoint, ips)| (endpoint, ips));
        configured.chain(registered).flat_map(move |(endpoint, ips)| {
            let number = service.socket_port(endpoint, port);
            ips.iter().map(move |ip| (SocketAddr::new(*ip, number), endpoint))
        })
    }
}
