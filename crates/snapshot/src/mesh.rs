//! The listener for calls between services: every service by all its names, with the virtual services bound to the mesh.
//!
//! A service gets the virtual services whose host covers it most narrowly; without one it is served as it is. Hosts that
//! only a virtual service knows are served too. Everything else is refused: this is no open proxy.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use meshwright_model::{
    Diagnostic, FailureKind, GatewayRef, Mesh, Origin, Service, ServiceDirectory, ServiceId, VirtualService, host,
};

use crate::gateway::spellings;
use crate::registry::Registry;
use crate::virtual_host::{self, Draft, Drafts, Source};
use crate::{CompileOptions, Listener, ListenerKind};

/// Port of a request whose authority names none.
const DEFAULT_PORT: u16 = 80;

/// Compiles the mesh listener at `bind`.
pub(crate) fn listener(
    mesh: &Mesh,
    directory: &ServiceDirectory,
    (bind, options): (SocketAddr, &CompileOptions),
    registry: &mut Registry<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Arc<Listener> {
    let bound = bound_hosts(mesh, directory);
    let mut drafts = service_drafts(mesh, directory, &options.namespace, &bound);
    own_drafts(mesh, directory, &bound, &mut drafts);
    let (hosts, virtual_hosts) = virtual_host::compile(mesh, drafts, DEFAULT_PORT, registry, diagnostics);
    Arc::new(Listener {
        kind: ListenerKind::Mesh,
        bind,
        port: DEFAULT_PORT,
        name: "mesh".to_owned(),
        hosts,
        virtual_hosts,
        unknown_host: FailureKind::UnknownHost,
        tls: None,
        tcp: None,
        origin: Origin::flag("--mesh"),
    })
}

/// A host of a virtual service that is bound to the mesh.
struct BoundHost<'a> {
    virtual_service: usize,
    namespace: &'a str,
    pattern: &'a str,
    /// The service it names exactly.
    service: Option<ServiceId>,
}

fn bound_hosts<'a>(mesh: &'a Mesh, directory: &ServiceDirectory) -> Vec<BoundHost<'a>> {
    let is_mesh = |virtual_service: &&VirtualService| virtual_service.gateways.contains(&GatewayRef::Mesh);
    mesh.virtual_services
        .iter()
        .enumerate()
        .filter(|(_, virtual_service)| is_mesh(virtual_service))
        .flat_map(|(index, virtual_service)| {
            virtual_service.hosts.iter().map(move |pattern| BoundHost {
                virtual_service: index,
                namespace: &virtual_service.namespace,
                pattern,
                service: directory.find(pattern, &virtual_service.namespace),
            })
        })
        .collect()
}

/// How narrowly a bound host covers the service; exact beats every wildcard, a longer wildcard a shorter one.
fn specificity(bound: &BoundHost<'_>, id: ServiceId, service: &Service) -> Option<usize> {
    if bound.service.is_some() || !bound.pattern.starts_with('*') {
        return (bound.service == Some(id)).then_some(usize::MAX);
    }
    let mut names = std::iter::once(&service.host).chain(&service.aliases);
    names.any(|name| host::covers(bound.pattern, name)).then_some(bound.pattern.len())
}

fn service_drafts(mesh: &Mesh, directory: &ServiceDirectory, namespace: &str, bound: &[BoundHost<'_>]) -> Drafts {
    let mut drafts = Drafts::new();
    let mut claimed: HashSet<String> = HashSet::new();
    for (index, service) in mesh.services.iter().enumerate() {
        let id = ServiceId(index);
        let rated: Vec<(usize, usize)> = bound
            .iter()
            .filter_map(|one| specificity(one, id, service).map(|rating| (rating, one.virtual_service)))
            .collect();
        let best = rated.iter().map(|(rating, _)| *rating).max();
        let mut sources: Vec<Source> = Vec::new();
        for (_, virtual_service) in rated.iter().filter(|(rating, _)| Some(*rating) == best) {
            if sources.last().is_none_or(|last| last.virtual_service != *virtual_service) {
                sources.push(Source { virtual_service: *virtual_service, gateways: Vec::new() });
            }
        }
        let draft = Draft { https_redirect: false, sources, own_service: Some(index) };
        for name in reachable_names(service, id, directory, namespace) {
            if claimed.insert(name.to_owned()) {
                drafts.push((name.to_owned(), draft.clone()));
            }
        }
    }
    drafts
}

/// The names of a service that really lead to it for a client in `namespace`.
fn reachable_names<'a>(
    service: &'a Service,
    id: ServiceId,
    directory: &'a ServiceDirectory,
    namespace: &'a str,
) -> impl Iterator<Item = &'a str> {
    std::iter::once(&service.host)
        .chain(service.short_name.as_ref())
        .chain(&service.aliases)
        .map(String::as_str)
        .filter(move |name| directory.find(name, namespace) == Some(id))
}

/// Hosts that no service has: exact ones always, a wildcard only when it covers no service, so that it does not open the
/// listener for names beside the services that it was written for.
fn own_drafts(mesh: &Mesh, directory: &ServiceDirectory, bound: &[BoundHost<'_>], drafts: &mut Drafts) {
    let served = drafts.len();
    let mut position: HashMap<String, usize> = HashMap::new();
    for one in bound.iter().filter(|one| one.service.is_none()) {
        let covers_a_service = one.pattern.starts_with('*')
            && mesh.services.iter().enumerate().any(|(id, service)| specificity(one, ServiceId(id), service).is_some());
        if covers_a_service {
            continue;
        }
        for name in spellings(mesh, directory, one.pattern, one.namespace) {
            let at = *position.entry(name).or_insert_with_key(|name| {
                drafts.push((name.clone(), Draft::default()));
                drafts.len() - 1
            });
            let sources = &mut drafts[at].1.sources;
            if sources.last().is_none_or(|last| last.virtual_service != one.virtual_service) {
                sources.push(Source { virtual_service: one.virtual_service, gateways: Vec::new() });
            }
        }
    }
    let taken: HashSet<String> = drafts[..served].iter().map(|(name, _)| name.clone()).collect();
    let mut index = 0;
    drafts.retain(|(name, _)| {
        index += 1;
        index <= served || !taken.contains(name)
    });
}
