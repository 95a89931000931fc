//! `VirtualService`: hosts and gateways; the routes are in the files beside.
//!
//! Knows one document: whether hosts, gateways, services and subsets exist is asked in `check.rs`.
//! Read next: `route.rs`, `condition.rs`, `action.rs`, `headers.rs`, `retry.rs`, `stream.rs`.

mod action;
mod condition;
mod headers;
mod retry;
mod route;
mod stream;
mod table;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use meshwright_model::{Diagnostic, GatewayRef, VirtualService, host};

use super::{Document, Object};
use crate::finding::Reporter;
use crate::name;
use crate::node::Place;
use crate::record::{Data, Record};

pub(crate) use action::check_subset_name;
pub(super) use action::{read_body, read_destination};
pub(super) use retry::read_conditions as read_retry_conditions;
pub(super) use table::{DESTINATION, DIRECT_RESPONSE_BODY as HTTP_BODY, DOCUMENT};

/// Reads a virtual service.
pub(super) fn read(document: Document<'_>, reporter: &mut Reporter<'_>) -> Object<VirtualService> {
    let spec = document.spec(&table::SPEC);
    let gateways = read_gateways(&spec, "gateways", &document.namespace, reporter);
    let gateways = if gateways.is_empty() { vec![GatewayRef::Mesh] } else { gateways };
    let hosts = read_hosts(&spec, &gateways, &document.namespace, reporter);
    check_routes_given(&spec, reporter);
    super::check_export(&spec, reporter);
    let http = spec
        .records("http")
        .enumerate()
        .filter_map(|(index, route)| route::read(route, index, &document.namespace, reporter))
        .collect();
    let tls = stream::read_tls(&spec, &hosts, &document.namespace, reporter);
    let tcp = stream::read_tcp(&spec, &document.namespace, reporter);
    let virtual_service = VirtualService {
        name: document.name(),
        namespace: document.namespace.clone(),
        hosts,
        gateways,
        http,
        tls,
        tcp,
        origin: document.origin(),
    };
    document.object(spec, virtual_service)
}

fn check_routes_given(spec: &Record, reporter: &mut Reporter<'_>) {
    let given =
        |name: &str| spec.item(name).is_some_and(|item| !matches!(&item.data, Data::List(items) if items.is_empty()));
    if given("http") || given("tcp") || given("tls") {
        return;
    }
    let finding = Diagnostic::error("missing-field", "http, tcp or tls must be provided in virtual service")
        .with_allowed("`http` with one or more routes")
        .with_effect("requests for these hosts would get 404 NR")
        .with_suggestion("add `http:` with `- route: [{destination: {host: my-service}}]`");
    reporter.add(&spec.place_of("http"), finding);
}

fn read_hosts(spec: &Record, gateways: &[GatewayRef], namespace: &str, reporter: &mut Reporter<'_>) -> Vec<String> {
    if spec.list("hosts").is_empty() {
        let refused = spec.item("hosts").is_some_and(|item| matches!(item.data, Data::Invalid));
        if !refused {
            let message = match spec.has("gateways") {
                true => "`hosts` is missing: delegate virtual service must have no gateways specified",
                false => "virtual service must have at least one host (`hosts` is missing)",
            };
            let finding = Diagnostic::error("missing-field", message)
                .with_allowed("one or more hosts")
                .with_effect("no request would ever reach these routes; delegates are not supported by this version")
                .with_suggestion("add `hosts: [api.example.com]`");
            reporter.add(&spec.place_of("hosts"), finding);
        }
        return Vec::new();
    }
    let mut hosts = Vec::new();
    let mut claims = Claims::default();
    for (item, text) in spec.texts("hosts") {
        let lower = text.to_ascii_lowercase();
        let problem = if name::is_ip(text) { None } else { name::host_problem(text) };
        if let Some(problem) = problem {
            let finding = Diagnostic::error("invalid-host", problem)
                .with_value(text)
                .with_allowed(name::HOST_FORMS)
                .with_effect("no request could ever have this host")
                .with_suggestion("write `*` for all hosts, `*.domain` for all below a domain, or the whole name");
            reporter.add(&item.place, finding);
            continue;
        }
        if lower == "*" && gateways.contains(&GatewayRef::Mesh) {
            let message = "wildcard host * is not allowed for virtual services bound to the mesh gateway";
            let finding = Diagnostic::error("invalid-host", message)
                .with_value("*")
                .with_allowed("a name or `*.domain`; `*` only at gateways")
                .with_effect("it would take the calls to every service")
                .with_suggestion("add `gateways: [my-gateway]`, or name the hosts");
            reporter.add(&item.place, finding);
            continue;
        }
        claims.claim(&lower, &item.place, namespace, reporter);
        hosts.push(lower);
    }
    hosts
}

/// Wildcard hosts of one virtual service that are compared with all others.
const MAX_WILDCARDS: usize = 1_000;

/// The hosts of one virtual service so far, by their full names.
#[derive(Default)]
struct Claims {
    exact: HashMap<String, (String, Place)>,
    wildcards: Vec<(String, Place)>,
}

impl Claims {
    /// Two hosts of one virtual service must not cover a common name; Istio counts overlapping wildcards as duplicates.
    fn claim(&mut self, new: &str, place: &Place, namespace: &str, reporter: &mut Reporter<'_>) {
        let full = match host::is_short(new) {
            true => host::fully_qualified(new, namespace),
            false => new.to_owned(),
        };
        let wildcard = full.starts_with('*');
        if wildcard && self.wildcards.len() >= MAX_WILDCARDS {
            return;
        }
        let covered = || {
            let names = self.exact.iter().filter(|(name, _)| host::covers(&full, name));
            names.map(|(_, claim)| claim).min_by_key(|(_, place)| (place.span.line, place.span.column))
        };
        let rival = self.exact.get(&full);
        let rival = rival
            .or_else(|| self.wildcards.iter().find(|(pattern, _)| host::intersection(pattern, &full).is_some()))
            .or_else(|| if wildcard { covered() } else { None });
        if let Some((earlier, first)) = rival {
            let message = format!(
                "duplicate hosts in virtual service: {earlier} & {new} (first at line {}, column {})",
                first.span.line, first.span.column
            );
            let finding = Diagnostic::error("duplicate-name", message)
                .with_value(new)
                .with_allowed("hosts that cover no common name (a short name and its full name are one host)")
                .with_suggestion("remove one of them");
            reporter.add(place, finding);
            return;
        }
        if !wildcard {
            self.exact.insert(full, (new.to_owned(), place.clone()));
        } else {
            self.wildcards.push((full, place.clone()));
        }
    }
}

/// `gateways` of a virtual service or of a match.
fn read_gateways(record: &Record, field: &str, namespace: &str, reporter: &mut Reporter<'_>) -> Vec<GatewayRef> {
    let mut gateways = Vec::new();
    let mut seen = HashSet::new();
    for (item, text) in record.texts(field) {
        match gateway_reference(text, namespace) {
            Ok(gateway) => {
                let key = match &gateway {
                    GatewayRef::Mesh => None,
                    GatewayRef::Named { namespace, name } => Some((namespace.clone(), name.clone())),
                };
                if seen.insert(key) {
                    gateways.push(gateway);
                }
            }
            Err(problem) => {
                let finding = Diagnostic::error("invalid-name", problem)
                    .with_value(text)
                    .with_allowed("`name`, `namespace/name` or `mesh`")
                    .with_effect("the virtual service would be bound to nothing by it")
                    .with_suggestion("write metadata.name of the Gateway");
                reporter.add(&item.place, finding);
            }
        }
    }
    gateways
}

/// A gateway by the name that a virtual service in `namespace` uses, or Istio's words for what is wrong.
pub(crate) fn gateway_reference(text: &str, namespace: &str) -> Result<GatewayRef, String> {
    if text == "mesh" {
        return Ok(GatewayRef::Mesh);
    }
    let parts: Vec<&str> = text.split('/').collect();
    let (namespace, name) = match parts.as_slice() {
        [name] => (namespace, *name),
        [namespace, name] if namespace.is_empty() || name.is_empty() => {
            return Err("config namespace and gateway name cannot be empty".to_owned());
        }
        [".", name] => (namespace, *name),
        [other, name] => (*other, *name),
        _ => return Err(format!("invalid value for gateway name: {text:?}")),
    };
    let bad = name.contains('*') || !name::is_domain(name) || name.parse::<IpAddr>().is_ok();
    if bad || !name::is_dns_label(namespace) {
        return Err(format!("invalid value for gateway name: {text:?}"));
    }
    Ok(GatewayRef::Named { namespace: namespace.to_owned(), name: name.to_owned() })
}
