//! The order of the work: rules to services, virtual services to listeners, clusters last, with what lived before.
//!
//! Each step is a module of its own; nothing here looks into a match or an endpoint.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use meshwright_model::{Diagnostic, EndpointSet, Mesh, ServiceDirectory, ServiceId, Severity, host::DEFAULT_NAMESPACE};

use crate::cluster::LiveFacts;
use crate::credentials::Vault;
use crate::registry::{Registry, usable_endpoints};
use crate::{Credentials, Listener, Snapshot, gateway, health, mesh as mesh_listener};

/// What a process adds to the configuration.
#[derive(Clone, Debug)]
pub struct CompileOptions {
    /// Address of every gateway listener whose server names none. Default 0.0.0.0.
    pub bind: IpAddr,
    /// Ports of gateway listeners that are opened elsewhere than the configuration says (`--map-port`).
    pub port_map: BTreeMap<u16, u16>,
    /// Where the mesh listener is; `None` for no such listener.
    pub mesh_bind: Option<SocketAddr>,
    /// Namespace of this process, in which destination rules are looked up first and short names are meant.
    pub namespace: String,
    /// Labels that gateway selectors are compared with. Default `istio=ingressgateway`.
    pub gateway_labels: BTreeMap<String, String>,
    /// Certificates and keys that the configuration refers to.
    pub credentials: Credentials,
    /// Where this process is, `region/zone/subzone`; empty when unknown, and then no endpoint is near.
    pub locality: String,
}

impl Default for CompileOptions {
    fn default() -> Self {
        Self {
            bind: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            port_map: BTreeMap::new(),
            mesh_bind: None,
            namespace: DEFAULT_NAMESPACE.to_owned(),
            gateway_labels: BTreeMap::from([("istio".to_owned(), "ingressgateway".to_owned())]),
            credentials: Credentials::default(),
            locality: String::new(),
        }
    }
}

/// Compiles `mesh` into the next snapshot, with every warning found on the way.
///
/// `resolved` holds the endpoints known so far; a service that it leaves out has its numeric addresses. From `previous` the
/// live facts are carried over: usage of clusters of the same name, detectors whose policy did not change, hosts by
/// (service, address) and verdicts by (cluster, address); a cluster without any change is the same `Arc`, and so is a TLS
/// configuration made of the same certificates.
///
/// # Errors
///
/// All findings, at least one of them an error: a regular expression too large to compile, a certificate that is missing
/// or does not hold, or two listeners that would need the same socket. Nothing of the configuration applies then.
pub fn compile(
    mesh: Mesh,
    resolved: &[EndpointSet],
    options: &CompileOptions,
    previous: Option<&Snapshot>,
) -> Result<(Snapshot, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mesh = Arc::new(mesh);
    let directory = Arc::new(ServiceDirectory::new(&mesh.services));
    let mut diagnostics: Vec<Diagnostic> = Vec::new();
    let vault = Vault::new(&mesh, &options.credentials, &options.namespace, previous);
    let mut registry = Registry::new(&mesh, &directory, options, vault, &mut diagnostics);
    let mut listeners = gateway::listeners(&mesh, &directory, options, &mut registry, &mut diagnostics);
    if let Some(bind) = options.mesh_bind {
        let listener = mesh_listener::listener(&mesh, &directory, (bind, options), &mut registry, &mut diagnostics);
        listeners.push(listener);
    }
    shared_sockets(&listeners, &mut diagnostics);
    let finished = registry.finish(&mut diagnostics);
    health::refused_targets(&mesh, &finished.clusters, &mut diagnostics);
    let mut found: Vec<Diagnostic> = Vec::with_capacity(diagnostics.len());
    for diagnostic in diagnostics {
        if !found.contains(&diagnostic) {
            found.push(diagnostic);
        }
    }
    if found.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
        return Err(found);
    }
    let resolved: Vec<Arc<EndpointSet>> = endpoints(&mesh, resolved).into_iter().map(Arc::new).collect();
    let mut facts = LiveFacts::of(previous.iter().flat_map(|previous| &previous.clusters));
    let mut clusters_by_service: Vec<Vec<usize>> = vec![Vec::new(); mesh.services.len()];
    for (index, (service, _)) in finished.clusters.iter().enumerate() {
        clusters_by_service[service.0].push(index);
    }
    let clusters = finished
        .clusters
        .into_iter()
        .map(|(id, spec)| facts.cluster(spec, &mesh.services[id.0], &resolved[id.0]))
        .collect();
    let snapshot = Snapshot {
        number: previous.map_or(1, |previous| previous.number + 1),
        generation: previous.map_or(1, |previous| previous.generation + 1),
        listeners,
        clusters,
        fallbacks: Arc::new(finished.fallbacks),
        mesh: Arc::clone(&mesh),
        directory: Arc::clone(&directory),
        resolved,
        clusters_by_service: clusters_by_service.into(),
    };
    Ok((snapshot, found))
}

/// One set per service, in order.
fn endpoints(mesh: &Mesh, resolved: &[EndpointSet]) -> Vec<EndpointSet> {
    let mut sets: Vec<EndpointSet> = mesh
        .services
        .iter()
        .enumerate()
        .map(|(index, service)| EndpointSet::of_numbers(ServiceId(index), &service.endpoints))
        .collect();
    for set in resolved {
        if let Some(service) = mesh.services.get(set.service.0) {
            sets[set.service.0] = usable_endpoints(service, set);
        }
    }
    sets
}

/// Two listeners on one socket are an error, however they came there. Port 0 is a new port each time.
fn shared_sockets(listeners: &[Arc<Listener>], diagnostics: &mut Vec<Diagnostic>) {
    for (index, listener) in listeners.iter().enumerate() {
        let earlier = listeners[..index].iter().find(|other| other.bind == listener.bind && listener.bind.port() != 0);
        let Some(earlier) = earlier else { continue };
        let message = format!(
            "listener {} needs the socket {} that listener {} ({}) has",
            listener.name, listener.bind, earlier.name, earlier.origin
        );
        diagnostics.push(
            Diagnostic::error("socket-conflict", message)
                .at(listener.origin.clone(), 1)
                .with_value(listener.bind.to_string())
                .with_effect("neither could tell which requests are meant for it")
                .with_suggestion("choose another port with --map-port or --mesh"),
        );
    }
}
