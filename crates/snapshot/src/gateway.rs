//! Which gateway servers share a listener, and which virtual services are bound to which host there.
//!
//! All servers of one address and port are one listener. A virtual service is bound where it names the gateway and one of
//! its hosts intersects a host of the server; the narrower of the two is what is served. It does not know sockets.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use meshwright_model::{
    Diagnostic, FailureKind, Gateway, GatewayRef, Mesh, ObjectRef, Server, ServerProtocol, ServiceDirectory,
    VirtualService, host,
};

use crate::registry::Registry;
use crate::virtual_host::{self, Draft, Drafts, Source};
use crate::{CompileOptions, Listener, ListenerKind};

/// Compiles the listeners of every gateway that is meant for this process.
pub(crate) fn listeners(
    mesh: &Mesh,
    directory: &ServiceDirectory,
    options: &CompileOptions,
    registry: &mut Registry<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Arc<Listener>> {
    let sites = sites(mesh, options, diagnostics);
    unused_port_maps(&sites, options, diagnostics);
    sites
        .iter()
        .map(|site| {
            let drafts = drafts(mesh, directory, site);
            let (hosts, virtual_hosts) = virtual_host::compile(mesh, drafts, site.port, registry, diagnostics);
            let socket_port = options.port_map.get(&site.port).copied().unwrap_or(site.port);
            Arc::new(Listener {
                kind: ListenerKind::Gateway,
                bind: SocketAddr::new(site.bind, socket_port),
                port: site.port,
                name: format!("{}_{}", site.bind, site.port),
                hosts,
                virtual_hosts,
                unknown_host: FailureKind::NoRoute,
                origin: site.servers[0].1.origin.clone(),
            })
        })
        .collect()
}

/// All servers of one address and port, each with the index of its gateway.
struct Site<'a> {
    bind: IpAddr,
    port: u16,
    servers: Vec<(usize, &'a Server)>,
}

fn sites<'a>(mesh: &'a Mesh, options: &CompileOptions, diagnostics: &mut Vec<Diagnostic>) -> Vec<Site<'a>> {
    let mut sites: Vec<Site<'a>> = Vec::new();
    for (index, gateway) in mesh.gateways.iter().enumerate() {
        if !is_selected(gateway, options) {
            diagnostics.push(not_selected(gateway, options));
            continue;
        }
        for server in gateway.servers.iter().filter(|server| server.protocol == ServerProtocol::Http) {
            let bind = server.bind.unwrap_or(options.bind);
            match sites.iter_mut().find(|site| site.bind == bind && site.port == server.port) {
                Some(site) => site.servers.push((index, server)),
                None => sites.push(Site { bind, port: server.port, servers: vec![(index, server)] }),
            }
        }
    }
    sites
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
    for (gateway_index, server) in &site.servers {
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

fn names_gateway(virtual_service: &VirtualService, gateway: &Gateway) -> bool {
    virtual_service.gateways.iter().any(|reference| match reference {
        GatewayRef::Mesh => false,
        GatewayRef::Named { namespace, name } => *namespace == gateway.namespace && *name == gateway.name,
    })
}

fn bound_patterns(
    mesh: &Mesh,
    directory: &ServiceDirectory,
    server: &Server,
    virtual_service: &VirtualService,
) -> Vec<String> {
    let mut patterns: Vec<String> = Vec::new();
    for name in virtual_service.hosts.iter().flat_map(|own| spellings(mesh, directory, own, &virtual_service.namespace))
    {
        for server_host in &server.hosts {
            if server_host.namespace.as_ref().is_some_and(|namespace| *namespace != virtual_service.namespace) {
                continue;
            }
            if let Some(narrower) = host::intersection(&name, &server_host.pattern)
                && !patterns.iter().any(|known| known == narrower)
            {
                patterns.push(narrower.to_owned());
            }
        }
    }
    patterns
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
