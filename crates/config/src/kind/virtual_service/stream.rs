//! `tls[]` and `tcp[]`: routes for connections whose bytes are not looked at.
//!
//! Knows one document. Where they are served, at gateways only, is said in `check/binding.rs`.

use meshwright_model::{Diagnostic, Subnet, TcpMatch, TcpRoute, TlsMatch, TlsRoute, WeightedDestination, host};

use super::super::gateway::address_as_server_name;
use super::super::port_number;
use super::{action, read_gateways};
use crate::finding::Reporter;
use crate::name;
use crate::record::{Data, Record};

/// Reads `tls[]` of a virtual service with these hosts.
pub(super) fn read_tls(spec: &Record, hosts: &[String], namespace: &str, reporter: &mut Reporter<'_>) -> Vec<TlsRoute> {
    let mut routes = Vec::new();
    for record in spec.records("tls") {
        if empty(record, "match") {
            let finding = Diagnostic::error("missing-field", "TLS route must have at least one match condition")
                .with_allowed("`match` with `sniHosts`")
                .with_effect("nobody would know which connections are meant")
                .with_suggestion("add `match: [{sniHosts: [a.example.com]}]`");
            reporter.add(&record.place_of("match"), finding);
        }
        let matches: Vec<TlsMatch> = record
            .records("match")
            .map(|entry| TlsMatch {
                sni_hosts: read_sni_hosts(entry, hosts, reporter),
                connection: read_match(entry, namespace, reporter),
            })
            .collect();
        let Some(destinations) = read_destinations(record, "TLS route is required", reporter) else { continue };
        if matches.iter().any(|alternative| !alternative.sni_hosts.is_empty()) {
            routes.push(TlsRoute { matches, destinations, origin: reporter.subject.origin(&record.place) });
        }
    }
    routes
}

/// Reads `tcp[]`.
pub(super) fn read_tcp(spec: &Record, namespace: &str, reporter: &mut Reporter<'_>) -> Vec<TcpRoute> {
    let mut routes = Vec::new();
    for record in spec.records("tcp") {
        let matches = record.records("match").map(|entry| read_match(entry, namespace, reporter)).collect();
        let Some(destinations) = read_destinations(record, "TCP route is required", reporter) else { continue };
        routes.push(TcpRoute { matches, destinations, origin: reporter.subject.origin(&record.place) });
    }
    routes
}

fn empty(record: &Record, field: &str) -> bool {
    record.item(field).is_none_or(|item| matches!(&item.data, Data::List(items) if items.is_empty()))
}

fn read_destinations(record: &Record, required: &str, reporter: &mut Reporter<'_>) -> Option<Vec<WeightedDestination>> {
    if empty(record, "route") {
        let finding = Diagnostic::error("missing-field", required)
            .with_allowed("`route` with one or more destinations")
            .with_effect("nobody would know where connections go")
            .with_suggestion("add `route: [{destination: {host: my-service}}]`");
        reporter.add(&record.place_of("route"), finding);
    }
    let destinations = action::read_destinations(record, reporter);
    (!destinations.is_empty()).then_some(destinations)
}

fn read_sni_hosts(entry: &Record, hosts: &[String], reporter: &mut Reporter<'_>) -> Vec<String> {
    if empty(entry, "sniHosts") {
        let finding = Diagnostic::error("missing-field", "TLS match must have at least one SNI host")
            .with_allowed("`sniHosts` with one or more names")
            .with_effect("no connection would be meant by it")
            .with_suggestion("add `sniHosts: [a.example.com]`");
        reporter.add(&entry.place_of("sniHosts"), finding);
    }
    let mut names = Vec::new();
    for (item, text) in entry.texts("sniHosts") {
        let lower = text.to_ascii_lowercase();
        if name::is_ip(text) {
            reporter.add(&item.place, address_as_server_name(text));
        } else if let Some(problem) = name::host_problem(text) {
            let finding = Diagnostic::error("invalid-host", problem)
                .with_value(text)
                .with_allowed(name::HOST_FORMS)
                .with_effect("no client could ask for it")
                .with_suggestion("write a whole name, or `*.domain` for all below a domain");
            reporter.add(&item.place, finding);
            continue;
        }
        // Hosts that were refused are missing from the list: without any, this would be a second report of them.
        let covered = hosts.iter().any(|host| host::intersection(host, &lower) == Some(lower.as_str()));
        if !covered && !hosts.is_empty() {
            let message = format!(
                "SNI host {text:?} is not a compatible subset of any of the virtual service hosts: [{}]",
                hosts.join(" ")
            );
            let finding = Diagnostic::error("sni-host", message)
                .with_value(text)
                .with_allowed(hosts.join(", "))
                .with_effect("the virtual service is not for this name")
                .with_suggestion("add it to `hosts` of the virtual service, or correct it");
            reporter.add(&item.place, finding);
            continue;
        }
        names.push(lower);
    }
    names
}

fn read_match(entry: &Record, namespace: &str, reporter: &mut Reporter<'_>) -> TcpMatch {
    let gateways = read_gateways(entry, "gateways", namespace, reporter);
    let mut destination_subnets = Vec::new();
    for (item, text) in entry.texts("destinationSubnets") {
        match Subnet::parse(text) {
            Some(subnet) => destination_subnets.push(subnet),
            None => {
                let finding = Diagnostic::error("invalid-address", format!("{text:?} is no IP network"))
                    .with_value(text)
                    .with_allowed("an address with a prefix length such as 10.0.0.0/8, or an address alone")
                    .with_effect("no connection could meet the condition")
                    .with_suggestion("write for example 10.0.0.0/8");
                reporter.add(&item.place, finding);
            }
        }
    }
    TcpMatch {
        destination_subnets,
        port: if entry.has("port") { port_number(entry, "port", reporter) } else { None },
        gateways: if gateways.is_empty() { None } else { Some(gateways) },
    }
}
