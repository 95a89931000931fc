//! Virtual services and gateways: does each find the other, and do two claim the same.

use std::collections::{HashMap, HashSet};

use meshwright_model::{Diagnostic, Gateway, GatewayRef, ServerHost, ServerProtocol, VirtualService, host};

use super::World;
use crate::finding::{Findings, Reporter};
use crate::kind::Object;
use crate::node::Place;
use crate::record::Record;

pub(super) fn check(world: &World<'_>, findings: &mut Findings) {
    for object in &world.objects.virtual_services {
        gateways_exist(world, object, findings);
        streams_need_a_gateway(object, findings);
        routes_have_a_port(world, object, findings);
    }
    mesh_hosts_once(world, findings);
    gateways_agree(world, findings);
}

/// IST0101 and IST0132.
fn gateways_exist(world: &World<'_>, object: &Object<VirtualService>, findings: &mut Findings) {
    let mut reporter = Reporter { findings, subject: &object.subject };
    let lists = ["http", "tls", "tcp"];
    let in_matches =
        lists.into_iter().flat_map(|list| object.spec.records(list)).flat_map(|route| route.records("match"));
    let mut seen: HashSet<&str> = HashSet::new();
    for record in std::iter::once(&object.spec).chain(in_matches) {
        for (item, text) in record.texts("gateways") {
            let Ok(reference) = crate::kind::virtual_service::gateway_reference(text, &object.namespace) else {
                continue;
            };
            let GatewayRef::Named { namespace, name } = &reference else { continue };
            let found = world
                .objects
                .gateways
                .iter()
                .find(|gateway| gateway.model.name == *name && gateway.model.namespace == *namespace);
            let first = seen.insert(text);
            match found {
                Some(gateway) if first => hosts_are_served(object, gateway, &item.place, &mut reporter),
                None if !world.objects.incomplete => {
                    let gateways = world.objects.gateways.iter().take(MAX_SUGGESTED);
                    let names: Vec<&str> = gateways.map(|gateway| gateway.model.name.as_str()).collect();
                    let finding =
                        missing("gateway", text, &names, "nothing is bound to it: no gateway uses these routes");
                    reporter.add(&item.place, finding);
                }
                _ => {}
            }
        }
    }
}

/// Between services only HTTP is routed: a connection that is passed on as bytes does not say which service it is for.
fn streams_need_a_gateway(object: &Object<VirtualService>, findings: &mut Findings) {
    if !object.model.gateways.contains(&GatewayRef::Mesh) {
        return;
    }
    let mut reporter = Reporter { findings, subject: &object.subject };
    for field in ["tls", "tcp"].into_iter().filter(|field| !object.spec.list(field).is_empty()) {
        let effect = match object.model.gateways.len() {
            1 => "no connection is routed by it",
            _ => "it works at its gateways; connections between services are not routed by it",
        };
        let finding = Diagnostic::warning(
            "not-supported",
            format!("`{field}` routes of the mesh are not supported by this version"),
        )
        .with_value("mesh")
        .with_allowed(format!("`gateways` with a gateway that has a {} port", field.to_uppercase()))
        .with_effect(effect)
        .with_suggestion("name a gateway in `gateways`, or remove the routes");
        reporter.add(&object.spec.key_of(field), finding);
    }
}

/// What a kind of routes needs at a gateway.
const PORTS: [(&str, &[ServerProtocol], &str); 3] = [
    ("http", &[ServerProtocol::Http, ServerProtocol::Https], "HTTP or HTTPS"),
    ("tls", &[ServerProtocol::Passthrough], "HTTPS or TLS with `mode: PASSTHROUGH`"),
    ("tcp", &[ServerProtocol::Tcp, ServerProtocol::Tls], "TCP, or TLS that ends here"),
];

/// Routes of a kind that none of the gateways has a port for are not reached.
fn routes_have_a_port(world: &World<'_>, object: &Object<VirtualService>, findings: &mut Findings) {
    let named = |gateway: &&Object<Gateway>| {
        object.model.gateways.iter().any(|reference| {
            matches!(reference, GatewayRef::Named { namespace, name }
                if *namespace == gateway.model.namespace && *name == gateway.model.name)
        })
    };
    let gateways: Vec<&Object<Gateway>> = world.objects.gateways.iter().filter(named).collect();
    let found = object.model.gateways.len();
    let servers = || gateways.iter().flat_map(|gateway| &gateway.model.servers);
    // A gateway that is missing, the mesh, or a port that is not served, was spoken of already.
    let doubtful = world.objects.incomplete
        || gateways.len() < found
        || servers().any(|server| server.protocol == ServerProtocol::Unsupported);
    if doubtful || gateways.is_empty() || servers().next().is_none() {
        return;
    }
    let mut reporter = Reporter { findings, subject: &object.subject };
    for (field, protocols, needed) in PORTS {
        let given = !object.spec.list(field).is_empty();
        if !given || servers().any(|server| protocols.contains(&server.protocol)) {
            continue;
        }
        let names: Vec<&str> = gateways.iter().map(|gateway| gateway.model.name.as_str()).collect();
        let message = format!("`{field}` routes need a port of {needed}, and {} has none", names.join(", "));
        let finding = Diagnostic::warning("no-port-for-routes", message)
            .with_value(names.join(", "))
            .with_allowed(format!("a gateway with a port of {needed}"))
            .with_effect("nothing is routed by them")
            .with_suggestion("add such a server to the gateway, or name another gateway");
        reporter.add(&object.spec.key_of(field), finding);
    }
}

/// Names that are compared with a name that leads nowhere; of more only the first are.
pub(super) const MAX_SUGGESTED: usize = 2_000;

/// The finding for a name that leads nowhere.
pub(super) fn missing(what: &str, name: &str, names: &[&str], effect: &str) -> Diagnostic {
    let near = crate::text::nearest(name, names.iter().copied().take(MAX_SUGGESTED));
    let suggestion = match near {
        Some(near) => format!("did you mean {near}?"),
        None => format!("add the {what}, or correct its name"),
    };
    let allowed = match names {
        [] => "there is none in the input".to_owned(),
        names if names.len() > 12 => format!("{} and {} more", names[..12].join(", "), names.len() - 12),
        names => names.join(", "),
    };
    Diagnostic::warning("IST0101", format!("Referenced {what} not found: {name:?}"))
        .with_value(name)
        .with_allowed(allowed)
        .with_effect(effect)
        .with_suggestion(suggestion)
}

fn hosts_are_served(
    object: &Object<VirtualService>,
    gateway: &Object<Gateway>,
    place: &Place,
    reporter: &mut Reporter<'_>,
) {
    let servers: Vec<&ServerHost> = gateway.model.servers.iter().flat_map(|server| &server.hosts).collect();
    if servers.is_empty() || object.model.hosts.is_empty() {
        return;
    }
    let admits = |server: &ServerHost| server.namespace.as_ref().is_none_or(|only| *only == object.namespace);
    let served = |name: &String| {
        servers.iter().any(|server| admits(server) && host::intersection(&server.pattern, name).is_some())
    };
    let lost: Vec<&str> = object.model.hosts.iter().filter(|host| !served(host)).map(String::as_str).collect();
    if lost.is_empty() {
        return;
    }
    let patterns: Vec<&str> = servers.iter().map(|server| server.pattern.as_str()).collect();
    let message = format!(
        "one or more host {lost:?} defined in VirtualService {} not found in Gateway {}/{}",
        object.model.name, gateway.model.namespace, gateway.model.name
    );
    let finding = Diagnostic::warning("IST0132", message)
        .with_value(lost.join(", "))
        .with_allowed(patterns.join(", "))
        .with_effect("requests for these hosts get 404 NR at that gateway")
        .with_suggestion("add the hosts to a server of the gateway, or correct them");
    reporter.add(place, finding);
}

/// IST0109.
fn mesh_hosts_once(world: &World<'_>, findings: &mut Findings) {
    let mut claimed: HashMap<String, &Object<VirtualService>> = HashMap::new();
    for object in &world.objects.virtual_services {
        if !object.model.gateways.contains(&GatewayRef::Mesh) {
            continue;
        }
        let mut new = Vec::new();
        for (item, text) in object.spec.texts("hosts") {
            let lower = text.to_ascii_lowercase();
            let canonical = match world.service(&lower, &object.namespace) {
                Some(service) => service.host.clone(),
                None if host::is_short(&lower) => host::fully_qualified(&lower, &object.namespace),
                None => lower,
            };
            let Some(first) = claimed.get(&canonical) else {
                new.push(canonical);
                continue;
            };
            let message = format!(
                "The VirtualServices {}/{},{}/{} associated with mesh gateway define the same host {canonical} which \
                 can lead to undefined behavior",
                first.namespace, first.model.name, object.namespace, object.model.name
            );
            let finding = Diagnostic::warning("IST0109", message)
                .with_value(text)
                .with_allowed("every host in one virtual service of the mesh")
                .with_effect(format!("the routes of {} are tried first, then these", first.model.origin))
                .with_suggestion("merge the two virtual services into one");
            Reporter { findings, subject: &object.subject }.add(&item.place, finding);
        }
        for canonical in new {
            claimed.entry(canonical).or_insert(object);
        }
    }
}

/// IST0145: two gateways that the same process may take, with the same port and host.
fn gateways_agree(world: &World<'_>, findings: &mut Findings) {
    type Claim<'c> = (&'c Object<Gateway>, Option<&'c str>);
    let mut claimed: HashMap<(u16, Option<std::net::IpAddr>, &str), Vec<Claim<'_>>> = HashMap::new();
    for object in &world.objects.gateways {
        let records: HashMap<(u32, u32), &Record> = object
            .spec
            .records("servers")
            .map(|record| ((record.place.span.line, record.place.span.column), record))
            .collect();
        for server in &object.model.servers {
            let record = records.get(&(server.origin.line, server.origin.column));
            for pattern in &server.hosts {
                let key = (server.port, server.bind, pattern.pattern.as_str());
                let claims = claimed.entry(key).or_default();
                let namespace = pattern.namespace.as_deref();
                let rival = claims.iter().find(|(other, theirs)| {
                    let same = theirs.is_none() || namespace.is_none() || *theirs == namespace;
                    same && other.model.selector == object.model.selector && !std::ptr::eq(*other, object)
                });
                if let (Some((rival, _)), Some(record)) = (rival, record) {
                    let message = format!(
                        "Conflict with gateways {}/{} (workload selector {:?}, port {}, hosts {})",
                        rival.model.namespace, rival.model.name, object.model.selector, server.port, pattern.pattern
                    );
                    let finding = Diagnostic::warning("IST0145", message)
                        .with_value(pattern.pattern.clone())
                        .with_allowed("every host once on a port")
                        .with_effect(
                            "both bind to the host; the routes of the earlier virtual services are tried first",
                        )
                        .with_suggestion("keep the host in one of the two gateways");
                    Reporter { findings, subject: &object.subject }.add(&record.place_of("hosts"), finding);
                }
                claims.push((object, namespace));
            }
        }
    }
}
