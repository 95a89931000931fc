//! Small builders for meshes, and questions to listeners. Shared by the tests of this crate; each uses a part of it.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use meshwright_message::{RequestHead, Scheme};
use meshwright_model::{
    Destination, DestinationRule, Diagnostic, DirectResponse, Endpoint, EndpointAddress, EndpointPorts, Gateway,
    GatewayRef, HeaderOperations, HttpMatch, HttpRoute, Mesh, Origin, PortProtocol, Resolution, RouteAction, Server,
    ServerHost, ServerProtocol, Service, ServicePort, ServiceSource, StringMatch, Subset, TrafficPolicy,
    VirtualService, WeightedDestination, host,
};
use meshwright_route::Site;
use meshwright_snapshot::{Action, CompileOptions, Listener, Route, Snapshot, Target, compile};

pub fn origin(line: u32) -> Origin {
    Origin { source: "mesh.yaml".into(), line, column: 1 }
}

pub fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// `address;key=value;weight=N` with a port, as an endpoint for every service port.
pub fn endpoint(text: &str) -> Endpoint {
    let mut parts = text.split(';');
    let address: SocketAddr = parts.next().unwrap().parse().unwrap();
    let mut labels = BTreeMap::new();
    let mut weight = 1;
    for (key, value) in parts.filter_map(|part| part.split_once('=')) {
        match key {
            "weight" => weight = value.parse().unwrap(),
            _ => {
                labels.insert(key.to_owned(), value.to_owned());
            }
        }
    }
    Endpoint {
        address: EndpointAddress::Ip(address.ip()),
        ports: EndpointPorts::Fixed(address.port()),
        labels,
        weight,
        locality: String::new(),
        health_check: None,
    }
}

/// A service in namespace `default` under its cluster-local name. No ports: it serves every port.
pub fn service(name: &str, ports: &[u16], endpoints: &[&str]) -> Service {
    service_in("default", name, ports, endpoints)
}

pub fn service_in(namespace: &str, name: &str, ports: &[u16], endpoints: &[&str]) -> Service {
    let port = |number: &u16| ServicePort {
        number: *number,
        name: format!("http-{number}"),
        protocol: PortProtocol::Http,
        target_port: None,
    };
    Service {
        host: host::fully_qualified(name, namespace),
        namespace: namespace.to_owned(),
        aliases: vec![format!("{name}.{namespace}"), format!("{name}.{namespace}.svc")],
        short_name: Some(name.to_owned()),
        ports: ports.iter().map(port).collect(),
        resolution: Resolution::Static,
        endpoints: endpoints.iter().map(|text| endpoint(text)).collect(),
        source: ServiceSource::Kubernetes,
        origin: origin(1),
    }
}

pub fn gateway_ref(name: &str) -> GatewayRef {
    GatewayRef::Named { namespace: "default".to_owned(), name: name.to_owned() }
}

/// One HTTP server per `(port, hosts)`; a host may be written `namespace/pattern`.
pub fn gateway(name: &str, servers: &[(u16, &[&str])]) -> Gateway {
    let server = |(port, hosts): &(u16, &[&str])| Server {
        port: *port,
        port_name: format!("http-{port}"),
        protocol: ServerProtocol::Http,
        bind: None,
        hosts: hosts
            .iter()
            .map(|text| match text.split_once('/') {
                Some((namespace, pattern)) => {
                    ServerHost { namespace: Some(namespace.to_owned()), pattern: pattern.to_owned() }
                }
                None => ServerHost { namespace: None, pattern: (*text).to_owned() },
            })
            .collect(),
        tls: None,
        https_redirect: false,
        origin: origin(u32::from(*port)),
    };
    Gateway {
        name: name.to_owned(),
        namespace: "default".to_owned(),
        selector: labels(&[("istio", "ingressgateway")]),
        servers: servers.iter().map(server).collect(),
        origin: origin(1),
    }
}

pub fn prefix(path: &str) -> HttpMatch {
    HttpMatch { uri: Some(StringMatch::Prefix(path.to_owned())), ..HttpMatch::default() }
}

pub fn exact(path: &str) -> HttpMatch {
    HttpMatch { uri: Some(StringMatch::Exact(path.to_owned())), ..HttpMatch::default() }
}

/// A route called `name` that answers itself; its conditions are `matches`.
pub fn answer(name: &str, matches: Vec<HttpMatch>) -> HttpRoute {
    HttpRoute {
        name: Some(name.to_owned()),
        matches,
        action: RouteAction::DirectResponse(DirectResponse { status: 200, body: Vec::new() }),
        rewrite: None,
        timeout: None,
        retries: None,
        headers: HeaderOperations::default(),
        origin: origin(1),
    }
}

/// A route without conditions to one destination: `host[:port][/subset]`.
pub fn forward(name: &str, destination: &str) -> HttpRoute {
    let (rest, subset) = destination.split_once('/').map_or((destination, None), |(rest, subset)| (rest, Some(subset)));
    let (host, port) = rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port)));
    let destination = Destination {
        host: host.to_owned(),
        subset: subset.map(str::to_owned),
        port: port.map(|port| port.parse().unwrap()),
    };
    let weighted =
        WeightedDestination { destination, weight: 1, headers: HeaderOperations::default(), origin: origin(1) };
    HttpRoute { action: RouteAction::Forward(vec![weighted]), ..answer(name, Vec::new()) }
}

pub fn virtual_service(name: &str, hosts: &[&str], gateways: Vec<GatewayRef>, http: Vec<HttpRoute>) -> VirtualService {
    VirtualService {
        name: name.to_owned(),
        namespace: "default".to_owned(),
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        gateways,
        http,
        tls: Vec::new(),
        tcp: Vec::new(),
        origin: origin(1),
    }
}

pub fn destination_rule(namespace: &str, host: &str, traffic_policy: TrafficPolicy) -> DestinationRule {
    DestinationRule {
        name: format!("{host}-rule"),
        namespace: namespace.to_owned(),
        host: host.to_owned(),
        traffic_policy,
        subsets: Vec::new(),
        origin: origin(7),
    }
}

pub fn subset(name: &str, selector: &[(&str, &str)]) -> Subset {
    Subset {
        name: name.to_owned(),
        labels: labels(selector),
        traffic_policy: TrafficPolicy::default(),
        origin: origin(8),
    }
}

pub fn mesh_options() -> CompileOptions {
    CompileOptions { mesh_bind: Some("127.0.0.1:15001".parse().unwrap()), ..CompileOptions::default() }
}

pub fn compiled(mesh: Mesh) -> (Snapshot, Vec<Diagnostic>) {
    compile(mesh, &[], &mesh_options(), None).unwrap()
}

pub fn snapshot(mesh: Mesh) -> Snapshot {
    compiled(mesh).0
}

pub fn listener<'a>(snapshot: &'a Snapshot, name: &str) -> &'a Listener {
    snapshot.listeners.iter().find(|listener| listener.name == name).unwrap()
}

/// The route that serves `GET http://host path` on `port`.
pub fn route<'a>(listener: &'a Listener, host: &str, path: &str, port: u16) -> Option<&'a Route> {
    let head = RequestHead {
        authority: host.to_owned(),
        target: path.to_owned(),
        path_len: path.len(),
        ..RequestHead::default()
    };
    let virtual_host = &listener.virtual_hosts[*listener.hosts.find(host)?];
    let found = virtual_host.table.find(&head, &Site { port, scheme: Scheme::Http })?;
    Some(&virtual_host.routes[found.rule])
}

/// Name of the route that serves it, or what happens instead.
pub fn served(listener: &Listener, host: &str, path: &str) -> String {
    if listener.hosts.find(host).is_none() {
        return format!("{:?}", listener.unknown_host);
    }
    route(listener, host, path, listener.port).map_or_else(|| "no route".to_owned(), |route| route.name.clone())
}

/// Name of the cluster that a forwarding route leads to, `missing` when there is none.
pub fn destination(snapshot: &Snapshot, route: &Route, port: u16) -> String {
    let Action::Forward(forward) = &route.action else { panic!("{route:?} does not forward") };
    let target: &Target = &forward.destinations[0].target;
    target.cluster(port).map_or_else(|| "missing".to_owned(), |index| snapshot.clusters[index].name.clone())
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
