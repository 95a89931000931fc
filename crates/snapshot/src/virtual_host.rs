//! From virtual services to virtual hosts: which rules apply where, how several virtual services of one host are merged.
//!
//! It does not know how host names are bound to listeners; `gateway.rs` and `mesh.rs` hand in drafts.

use std::collections::HashMap;
use std::sync::Arc;

use meshwright_model::{
    Diagnostic, GatewayRef, HttpMatch, HttpRoute, Mesh, ObjectRef, RouteAction, StringMatch, VirtualService,
    WeightedDestination,
};
use meshwright_route::{CompiledRewrite, HostTable, RouteTable, Rule};

use crate::registry::Registry;
use crate::{Action, Forward, Route, Target, VirtualHost, WeightedCluster};

/// The contents of a virtual host before compilation. Host names with equal drafts share one virtual host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Draft {
    pub(crate) https_redirect: bool,
    /// Virtual services in order of the input, each with what it is bound through.
    pub(crate) sources: Vec<Source>,
    /// The service whose own route is served when there is no source.
    pub(crate) own_service: Option<usize>,
}

/// A virtual service within a [`Draft`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Source {
    /// Index in `Mesh::virtual_services`.
    pub(crate) virtual_service: usize,
    /// Indexes in `Mesh::gateways` that it is bound through here; empty means the mesh.
    pub(crate) gateways: Vec<usize>,
}

/// Host patterns in order of first appearance, each with its draft.
pub(crate) type Drafts = Vec<(String, Draft)>;

/// Compiles `drafts`; findings that refuse the configuration go to `diagnostics`.
pub(crate) fn compile(
    mesh: &Mesh,
    drafts: Drafts,
    port: u16,
    registry: &mut Registry<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> (HostTable<usize>, Vec<VirtualHost>) {
    let mut table = HostTable::new();
    let mut virtual_hosts: Vec<VirtualHost> = Vec::new();
    let mut known: HashMap<Draft, usize> = HashMap::new();
    for (pattern, draft) in drafts {
        if let Some(index) = known.get(&draft) {
            table.insert(&pattern, *index);
            continue;
        }
        let name = format!("{pattern}:{port}");
        if let Some(virtual_host) = virtual_host(mesh, name, &draft, registry, diagnostics) {
            let index = virtual_hosts.len();
            virtual_hosts.push(virtual_host);
            table.insert(&pattern, index);
            known.insert(draft, index);
        }
    }
    (table, virtual_hosts)
}

/// `None` when its routes cannot be compiled, which is an error in `diagnostics`.
fn virtual_host(
    mesh: &Mesh,
    name: String,
    draft: &Draft,
    registry: &mut Registry<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<VirtualHost> {
    let mut rules: Vec<Rule> = Vec::new();
    let mut routes: Vec<Arc<Route>> = Vec::new();
    let mut places: Vec<(ObjectRef, usize)> = Vec::new();
    for entry in ordered_entries(mesh, draft) {
        match compile_route(&entry, registry) {
            Ok(route) => {
                places.push((object(entry.virtual_service), entry.index));
                rules.push(Rule { matches: entry.alternatives.into_iter().cloned().collect() });
                routes.push(Arc::new(route));
            }
            Err(diagnostic) => diagnostics.push(*diagnostic),
        }
    }
    if let (true, Some(service)) = (draft.sources.is_empty(), draft.own_service) {
        rules.push(Rule { matches: Vec::new() });
        routes.push(Arc::new(own_route(mesh, service, registry)));
    }
    match RouteTable::compile(&rules) {
        Ok(table) => Some(VirtualHost { name, https_redirect: draft.https_redirect, table, routes }),
        Err(error) => {
            let message = format!("the {} condition of a match cannot be compiled: {}", error.condition, error.error);
            let mut diagnostic = Diagnostic::error("route-table", message);
            if let (Some(route), Some((object, index))) = (routes.get(error.rule), places.get(error.rule)) {
                diagnostic = diagnostic
                    .at(route.origin.clone(), 1)
                    .of(object.clone())
                    .with_path(format!("spec.http[{index}].match"));
            }
            diagnostics.push(diagnostic);
            None
        }
    }
}

/// A rule of a virtual service with those of its alternatives that apply here.
struct Entry<'a> {
    virtual_service: &'a VirtualService,
    index: usize,
    route: &'a HttpRoute,
    alternatives: Vec<&'a HttpMatch>,
}

/// The rules of all sources. One virtual service keeps its order. Several are put one after the other, and what matches
/// everything moves to the end, so that it does not hide the rules of the later ones; nothing is taken from behind the
/// first such rule of each, because it could never be reached.
fn ordered_entries<'a>(mesh: &'a Mesh, draft: &Draft) -> Vec<Entry<'a>> {
    let mut narrow: Vec<Entry<'a>> = Vec::new();
    let mut catch_all: Vec<Entry<'a>> = Vec::new();
    let merged = draft.sources.len() > 1;
    for source in &draft.sources {
        let virtual_service = &mesh.virtual_services[source.virtual_service];
        for (index, route) in virtual_service.http.iter().enumerate() {
            let kept: Vec<&HttpMatch> =
                route.matches.iter().filter(|alternative| applies(mesh, source, alternative)).collect();
            if kept.is_empty() && !route.matches.is_empty() {
                continue;
            }
            let entry = |alternatives| Entry { virtual_service, index, route, alternatives };
            if !merged {
                narrow.push(entry(kept));
                continue;
            }
            let all = kept.is_empty();
            let (wide, limited): (Vec<_>, Vec<_>) = kept.into_iter().partition(|one| matches_everything(one));
            if !limited.is_empty() {
                narrow.push(entry(limited));
            }
            if all || !wide.is_empty() {
                catch_all.push(entry(wide));
                break;
            }
        }
    }
    narrow.append(&mut catch_all);
    narrow
}

/// Whether the alternative is meant for what the virtual service is bound through here.
fn applies(mesh: &Mesh, source: &Source, alternative: &HttpMatch) -> bool {
    let Some(wanted) = &alternative.gateways else { return true };
    wanted.iter().any(|reference| match reference {
        GatewayRef::Mesh => source.gateways.is_empty(),
        GatewayRef::Named { namespace, name } => source.gateways.iter().any(|index| {
            let gateway = &mesh.gateways[*index];
            gateway.namespace == *namespace && gateway.name == *name
        }),
    })
}

/// Whether the alternative has no condition that a request could fail.
fn matches_everything(alternative: &HttpMatch) -> bool {
    let any_path = match &alternative.uri {
        None => true,
        Some(StringMatch::Prefix(prefix)) => prefix.is_empty() || prefix == "/",
        Some(StringMatch::Regex(pattern)) => pattern == ".*" || pattern == "/.*",
        Some(StringMatch::Exact(_)) => false,
    };
    any_path
        && alternative.scheme.is_none()
        && alternative.method.is_none()
        && alternative.authority.is_none()
        && alternative.headers.is_empty()
        && alternative.without_headers.is_empty()
        && alternative.query.is_empty()
        && alternative.port.is_none()
}

fn compile_route(entry: &Entry<'_>, registry: &mut Registry<'_>) -> Result<Route, Box<Diagnostic>> {
    let route = entry.route;
    let action = match &route.action {
        RouteAction::Forward(destinations) => {
            Action::Forward(forward(destinations, &entry.virtual_service.namespace, registry))
        }
        RouteAction::Redirect(redirect) => Action::Redirect(redirect.clone()),
        RouteAction::DirectResponse(response) => Action::Direct(response.clone()),
    };
    let rewrite = route.rewrite.as_ref().map(CompiledRewrite::compile).transpose().map_err(|error| {
        let message = format!("the rewrite cannot be compiled: {error}");
        let diagnostic = Diagnostic::error("rewrite", message)
            .at(route.origin.clone(), 1)
            .of(object(entry.virtual_service))
            .with_path(format!("spec.http[{}].rewrite", entry.index));
        Box::new(diagnostic)
    })?;
    Ok(Route {
        name: route.name.clone().unwrap_or_else(|| "-".to_owned()),
        match_names: entry
            .alternatives
            .iter()
            .map(|one| log_name(route.name.as_deref(), one.name.as_deref()))
            .collect(),
        action,
        timeout: route.timeout,
        retries: route.retries.clone(),
        rewrite,
        headers: route.headers.clone(),
        origin: route.origin.clone(),
    })
}

fn log_name(route: Option<&str>, alternative: Option<&str>) -> Option<String> {
    match (route, alternative) {
        (_, None) => None,
        (Some(route), Some(alternative)) => Some(format!("{route}.{alternative}")),
        (None, Some(alternative)) => Some(alternative.to_owned()),
    }
}

/// Destinations resolved to clusters.
pub(crate) fn forward(destinations: &[WeightedDestination], namespace: &str, registry: &mut Registry<'_>) -> Forward {
    let destinations: Vec<WeightedCluster> = destinations
        .iter()
        .map(|destination| WeightedCluster {
            weight: destination.weight,
            target: registry.target(&destination.destination, namespace),
            headers: destination.headers.clone(),
        })
        .collect();
    let total_weight = destinations.iter().fold(0u32, |sum, destination| sum.saturating_add(destination.weight));
    Forward { destinations, total_weight }
}

/// What a service serves when no virtual service covers it: everything goes to it.
fn own_route(mesh: &Mesh, service: usize, registry: &mut Registry<'_>) -> Route {
    let target: Target = registry.own_target(meshwright_model::ServiceId(service));
    Route {
        name: "default".to_owned(),
        match_names: Vec::new(),
        action: Action::Forward(Forward {
            destinations: vec![WeightedCluster { weight: 1, target, headers: Default::default() }],
            total_weight: 1,
        }),
        timeout: None,
        retries: None,
        rewrite: None,
        headers: Default::default(),
        origin: mesh.services[service].origin.clone(),
    }
}

/// The reference that findings about a virtual service carry.
fn object(virtual_service: &VirtualService) -> ObjectRef {
    ObjectRef {
        kind: "VirtualService".to_owned(),
        namespace: virtual_service.namespace.clone(),
        name: virtual_service.name.clone(),
    }
}
