//! Which gateway servers share a listener, and which virtual services are bound to which host there.
//!
//! All servers of one address and port are one listener. A virtual service is bound where it names the gateway and one of
//! its hosts intersects a host of the server; the narrower of the two is what is served. It does not know sockets.
//! What a TLS or TCP port does is in `stream.rs`.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use meshwright_model::{
    Diagnostic, FailureKind, Gateway, GatewayRef, Mesh, ObjectRef, Server, ServerProtocol, ServiceDirectory,
    VirtualService, host,
};

use crate::registry::Registry;
use crate::stream::Binder;
use crate::virtual_host::{self, Draft, Drafts, Source};
use crate::{CompileOptions, Listener, ListenerKind};

/// Compiles the listeners of every gateway that is meant for this process.
pub(crate) fn listeners<'a>(
    mesh: &'a Mesh,
    directory: &'a ServiceDirectory,
    options: &CompileOptions,
    registry: &mut Registry<'a>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Arc<Listener>> {
    let sites = sites(mesh, options, diagnostics);
    unused_port_maps(&sites, options, diagnostics);
    let mut listeners = Vec::with_capacity(sites.len());
    for site in &sites {
        let mut binder = Binder { mesh, directory, registry, diagnostics };
        let (tls, tcp) = match site.carrier {
            Carrier::Http => (None, None),
            Carrier::Tls => match binder.tls(site) {
                Some(tls) => (Some(tls), None),
                None => continue,
            },
            Carrier::Tcp => {
                let (gateway, server) = site.servers[0];
                match binder.tcp(&mesh.gateways[gateway], server) {
                    Some(tcp) => (None, Some(tcp)),
                    None => continue,
                }
            }
        };
        let drafts = drafts(mesh, directory, site);
        let (hosts, virtual_hosts) = virtual_host::compile(mesh, drafts, site.port, registry, diagnostics);
        let socket_port = options.port_map.get(&site.port).copied().unwrap_or(site.port);
        listeners.push(Arc::new(Listener {
            kind: ListenerKind::Gateway,
            bind: SocketAddr::new(site.bind, socket_port),
            port: site.port,
            name: format!("{}_{}", site.bind, site.port),
            hosts,
            virtual_hosts,
            unknown_host: FailureKind::NoRoute,
            tls,
            tcp,
            origin: site.servers[0].1.origin.clone(),
        }));
    }
    listeners
}

/// All servers of one address and port, each with the index of its gateway.
pub(crate) struct Site<'a> {
    bind: IpAddr,
    port: u16,
    carrier: Carrier,
    pub(crate) servers: Vec<(usize, &'a Server)>,
}

/// How the connections of a port begin; one port has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrier {
    Http,
    Tls,
    Tcp,
}

impl Carrier {
    /// `None` for a server that is not served.
    fn of(protocol: ServerProtocol) -> Option<Self> {
        match protocol {
            ServerProtocol::Http => Some(Self::Http),
            ServerProtocol::Https | ServerProtocol::Tls | ServerProtocol::Passthrough => Some(Self::Tls),
            ServerProtocol::Tcp => Some(Self::Tcp),
            ServerProtocol::Unsupported => None,
        }
    }
}

fn sites<'a>(mesh: &'a Mesh, options: &CompileOptions, diagnostics: &mut Vec<Diagnostic>) -> Vec<Site<'a>> {
    let mut sites: Vec<Site<'a>> = Vec::new();
    for (index, gateway) in mesh.gateways.iter().enumerate() {
        if !is_selected(gateway, options) {
            diagnostics.push(not_selected(gateway, options));
            continue;
        }
        for server in &gateway.servers {
            let Some(carrier) = Carrier::of(server.protocol) else { continue };
            let bind = server.bind.unwrap_or(options.bind);
            match sites.iter_mut().find(|site| site.bind == bind && site.port == server.port) {
                Some(site) if site.carrier != carrier || carrier == Carrier::Tcp => {
                    diagnostics.push(port_conflict(gateway, server, site));
                }
                Some(site) => site.servers.push((index, server)),
                None => sites.push(Site { bind, port: server.port, carrier, servers: vec![(index, server)] }),
            }
        }
    }
    sites
}

/// HTTP, TLS and bytes cannot share a port, nor can two servers of bytes; Istio leaves the later one out in silence.
fn port_conflict(gateway: &Gateway, server: &Server, site: &Site<'_>) -> Diagnostic {
    let (_, first) = site.servers[0];
    let message = format!(
        "port {} is {:?} here and {:?} in the server at {}",
        server.port, server.protocol, first.protocol, first.origin
    );
    Diagnostic::warning("port-conflict", message)
        .at(server.origin.clone(), 1)
        .of(ObjectRef { kind: "Gateway".to_owned(), namespace: gateway.namespace.clone(), name: gateway.name.clone() })
        .with_value(server.port.to_string())
        .with_allowed("a port has servers of HTTP, or of HTTPS and TLS, or one of TCP; the earlier in the input wins")
        .with_effect("this server is left out, as in Istio")
        .with_suggestion("give it another port")
}

fn is_selected(gateway: &Gateway, options: &CompileOptions) -> bool {
    gateway.selector.iter().all(|(key, value)| options.gateway_labels.get(key) == Some(value))
}

fn not_selected(gateway: &Gateway, options: &CompileOptions) -> Diagnostic {
    let pairs = |labels: &std::collections::BTreeMap<String, String>| {
        labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
    };
    let missing: Vec<String> = gateway
        .selector
        .iter()
        .filter(|(key, value)| options.gateway_labels.get(*key) != Some(value))
        .map(|(key, value)| format!("--gateway-label {key}={value}"))
        .collect();
    Diagnostic::warning(
        "gateway-not-selected",
        "the selector of this gateway does not match the labels of this process",
    )
    .at(gateway.origin.clone(), 1)
    .of(ObjectRef { kind: "Gateway".to_owned(), namespace: gateway.namespace.clone(), name: gateway.name.clone() })
    .with_path("spec.selector")
    .with_value(pairs(&gateway.selector))
    .with_allowed(format!("labels of this process: {}", pairs(&options.gateway_labels)))
    .with_effect("its ports are not opened")
    .with_suggestion(format!("start with {}", missing.join(" ")))
}

fn unused_port_maps(sites: &[Site<'_>], options: &CompileOptions, diagnostics: &mut Vec<Diagnostic>) {
    for (from, to) in &options.port_map {
        if sites.iter().any(|site| site.port == *from) {
            continue;
        }
        let mut ports: Vec<u16> = sites.iter().map(|site| site.port).collect();
        ports.sort_unstable();
        ports.dedup();
        let ports = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        diagnostics.push(
            Diagnostic::warning("port-map-unused", format!("no gateway listens on port {from}"))
                .at(meshwright_model::Origin::flag("--map-port"), 1)
                .with_value(format!("{from}={to}"))
                .with_allowed(if ports.is_empty() { "no gateway port is open".to_owned() } else { ports })
                .with_effect("the mapping does nothing"),
        );
    }
}

fn drafts(mesh: &Mesh, directory: &ServiceDirectory, site: &Site<'_>) -> Drafts {
    let mut drafts = Drafts::new();
    let mut position: HashMap<String, usize> = HashMap::new();
    let mut entry = |drafts: &mut Drafts, pattern: &str| -> usize {
        *position.entry(pattern.to_owned()).or_insert_with(|| {
            drafts.push((pattern.to_owned(), Draft::default()));
            drafts.len() - 1
        })
    };
    let http = |server: &Server| matches!(server.protocol, ServerProtocol::Http | ServerProtocol::Https);
    for (gateway_index, server) in site.servers.iter().filter(|(_, server)| http(server)) {
        let gateway = &mesh.gateways[*gateway_index];
        if server.https_redirect {
            for server_host in &server.hosts {
                let at = entry(&mut drafts, &server_host.pattern);
                drafts[at].1.https_redirect = true;
            }
        }
        for (index, virtual_service) in mesh.virtual_services.iter().enumerate() {
            if !names_gateway(virtual_service, gateway) {
                continue;
            }
            for pattern in bound_patterns(mesh, directory, server, virtual_service) {
                let at = entry(&mut drafts, &pattern);
                drafts[at].1.https_redirect |= server.https_redirect;
                add_source(&mut drafts[at].1, index, *gateway_index);
            }
        }
    }
    for (_, draft) in &mut drafts {
        draft.sources.sort_by_key(|source| source.virtual_service);
    }
    drafts
}

pub(crate) fn names_gateway(virtual_service: &VirtualService, gateway: &Gateway) -> bool {
    virtual_service.gateways.iter().any(|reference| match reference {
        GatewayRef::Mesh => false,
        GatewayRef::Named { namespace, name } => *namespace == gateway.namespace && *name == gateway.name,
    })
}

/// What hosts of a virtual service and hosts of a server have in common.
pub(crate) fn bound_patterns(
    mesh: &Mesh,
    directory: &ServiceDirectory,
    server: &Server,
    virtual_service: &VirtualService,
) -> Vec<String> {
    let mut patterns: Vec<String> = Vec::new();
    for name in virtual_service.hosts.iter().flat_map(|own| spellings(mesh, directory, own, &virtual_service.namespace))
    {
        for pattern in narrower(&name, server, virtual_service) {
            if !patterns.contains(&pattern) {
                patterns.push(pattern);
            }
        }
    }
    patterns
}

/// What `name`, a host in `virtual_service`, and the hosts of a server have in common.
pub(crate) fn narrower(name: &str, server: &Server, virtual_service: &VirtualService) -> Vec<String> {
    let admits = |only: &Option<String>| only.as_ref().is_none_or(|namespace| *namespace == virtual_service.namespace);
    server
        .hosts
        .iter()
        .filter(|host| admits(&host.namespace))
        .filter_map(|host| host::intersection(name, &host.pattern).map(str::to_owned))
        .collect()
}

/// Every name that means the same as `name` does in a virtual service of `namespace`: the name itself, and for a service
/// its canonical host, its aliases and its short name.
pub(crate) fn spellings(mesh: &Mesh, directory: &ServiceDirectory, name: &str, namespace: &str) -> Vec<String> {
    let mut names = vec![name.to_owned()];
    if name.starts_with('*') {
        return names;
    }
    if host::is_short(name) {
        names.push(format!("{name}.{namespace}"));
        names.push(format!("{name}.{namespace}.svc"));
        names.push(host::fully_qualified(name, namespace));
    }
    if let Some(id) = directory.find(name, namespace) {
        let service = &mesh.services[id.0];
        names.push(service.host.clone());
        names.extend(service.aliases.iter().cloned());
    }
    let mut seen = std::collections::HashSet::new();
    names.retain(|one| seen.insert(one.clone()));
    names
}

fn add_source(draft: &mut Draft, virtual_service: usize, gateway: usize) {
    match draft.sources.iter_mut().find(|source| source.virtual_service == virtual_service) {
        Some(source) if source.gateways.contains(&gateway) => {}
        Some(source) => source.gateways.push(gateway),
        None => draft.sources.push(Source { virtual_service, gateways: vec![gateway] }),
    }
}
