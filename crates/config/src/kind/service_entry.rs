//! `ServiceEntry`: hosts, ports, and where the endpoints come from.
//!
//! Knows one document; instances that its selector finds, and other sources of the same name, are joined in `union`.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use meshwright_model::{Diagnostic, Endpoint, EndpointAddress, ServicePort};

use super::{API_VERSION, Document, KIND, METADATA, Object, STATUS, port_number, workload_entry};
use crate::finding::Reporter;
use crate::name;
use crate::record::{Data, Record};
use crate::table::{Message, PORT, TEXT_MAP, TEXTS, Type, Words, full, ignored, message, warned};

pub(super) static DOCUMENT: Message =
    message("ServiceEntry", &[API_VERSION, KIND, METADATA, full("spec", Type::Message(&SPEC), "The service."), STATUS]);

static SPEC: Message = message(
    "ServiceEntry.spec",
    &[
        full("hosts", TEXTS, "Names of the service; each is a service of its own."),
        warned("addresses", TEXTS, "Virtual addresses.", "the service is reached by name, not by address"),
        full("ports", Type::List(&Type::Message(&SERVICE_PORT)), "Ports."),
        ignored(
            "location",
            Type::Word(&LOCATION),
            "Inside or outside of the mesh; a DestinationRule decides about TLS either way.",
        ),
        full(
            "resolution",
            Type::Word(&RESOLUTION),
            "STATIC, DNS or DNS_ROUND_ROBIN; NONE and DYNAMIC_DNS are not served.",
        ),
        full("endpoints", Type::List(&Type::Message(&workload_entry::WORKLOAD)), "Endpoints."),
        full("workloadSelector", Type::Message(&SELECTOR), "WorkloadEntry documents that are its endpoints."),
        full("exportTo", TEXTS, "Namespaces that see it; `*` works, other values have no effect."),
        warned(
            "subjectAltNames",
            TEXTS,
            "Names in certificates.",
            "names are those of trafficPolicy.tls in a DestinationRule",
        ),
    ],
);

static SERVICE_PORT: Message = message(
    "ServicePort",
    &[
        full("number", PORT, "Port number that callers name."),
        full("protocol", Type::Text, "HTTP, HTTP2, GRPC, GRPC-WEB, HTTPS, TLS, TCP, MONGO, REDIS or MYSQL."),
        full("name", Type::Text, "Name, unique in the service."),
        full("targetPort", PORT, "Port of the endpoints, when it differs."),
    ],
);

static SELECTOR: Message = message("WorkloadSelector", &[full("labels", TEXT_MAP, "All must be equal.")]);

static LOCATION: Words = Words { what: "location", values: &[("MESH_EXTERNAL", 0), ("MESH_INTERNAL", 1)] };

static RESOLUTION: Words = Words {
    what: "resolution",
    values: &[("NONE", 0), ("STATIC", 1), ("DNS", 2), ("DNS_ROUND_ROBIN", 3), ("DYNAMIC_DNS", 4)],
};

/// A service entry before its instances are joined.
#[derive(Clone, Debug)]
pub(crate) struct ServiceEntry {
    /// Lower-case hosts.
    pub hosts: Vec<String>,
    /// Ports; never empty when `resolution` is `Some`.
    pub ports: Vec<ServicePort>,
    /// How addresses are found; `None` when the entry is not served (said already).
    pub resolution: Option<meshwright_model::Resolution>,
    /// Endpoints as written.
    pub endpoints: Vec<Endpoint>,
    /// Labels of the instances, when they are selected.
    pub selector: Option<BTreeMap<String, String>>,
}

/// Reads a document.
pub(super) fn read(document: Document<'_>, reporter: &mut Reporter<'_>) -> Object<ServiceEntry> {
    let spec = document.spec(&SPEC);
    super::check_export(&spec, reporter);
    let ports = read_ports(&spec, reporter);
    let mode = spec.word("resolution").unwrap_or("NONE");
    let selector = read_selector(&spec, reporter);
    let endpoints = read_endpoints(&spec, mode, &ports, reporter);
    let hosts = read_hosts(&spec, mode, selector.is_some(), reporter);
    check_addresses(&spec, mode, reporter);
    let mut resolution = read_resolution(&spec, mode, reporter);
    if ports.is_empty() && !spec.has("ports") {
        let finding = Diagnostic::warning("missing-field", "the service entry has no ports")
            .with_allowed("one or more ports")
            .with_effect("the service is not served, no port of it can be called")
            .with_suggestion("add `ports: [{number: 80, name: http, protocol: HTTP}]`");
        reporter.add(&spec.place.field("ports"), finding);
    }
    if ports.is_empty() {
        resolution = None;
    }
    let entry = ServiceEntry { hosts, ports, resolution, endpoints, selector };
    document.object(spec, entry)
}

fn read_hosts(spec: &Record, mode: &str, selects: bool, reporter: &mut Reporter<'_>) -> Vec<String> {
    let refused = spec.item("hosts").is_some_and(|item| matches!(item.data, Data::Invalid));
    if spec.list("hosts").is_empty() && !refused {
        let finding = Diagnostic::error("missing-field", "service entry must have at least one host")
            .with_allowed("one or more hosts")
            .with_effect("nobody could name the service")
            .with_suggestion("add for example `hosts: [api.example.com]`");
        reporter.add(&spec.place_of("hosts"), finding);
    }
    let mut hosts = Vec::new();
    let by_name = matches!(mode, "DNS" | "DNS_ROUND_ROBIN") && spec.list("endpoints").is_empty() && !selects;
    for (item, text) in spec.texts("hosts") {
        let lower = text.to_ascii_lowercase();
        if lower == "*" || name::host_problem(text).is_some() || name::looks_like_ip(text) {
            let finding = Diagnostic::error("invalid-host", format!("invalid host {text}"))
                .with_value(text)
                .with_allowed("a DNS name or `*.domain`, but not `*` alone")
                .with_effect("nobody could name the service")
                .with_suggestion("write for example api.example.com");
            reporter.add(&item.place, finding);
        } else if by_name && lower.starts_with('*') {
            let message = format!(
                "hosts must be FQDN or contain only prefix wildcards if no endpoints are provided for resolution mode \
                 {mode}, {text}"
            );
            let finding = Diagnostic::error("invalid-host", message)
                .with_value(text)
                .with_allowed("a whole DNS name, or `endpoints`")
                .with_effect("there would be no name to resolve")
                .with_suggestion("name the host, or add endpoints");
            reporter.add(&item.place, finding);
        } else {
            hosts.push(lower);
        }
    }
    hosts
}

fn read_ports(spec: &Record, reporter: &mut Reporter<'_>) -> Vec<ServicePort> {
    let mut ports: Vec<ServicePort> = Vec::new();
    let mut names: HashSet<String> = HashSet::new();
    let mut numbers: HashSet<u16> = HashSet::new();
    for record in spec.records("ports") {
        let name = record.text_or_empty("name").to_owned();
        let duplicate = |message: String, field: &str, reporter: &mut Reporter<'_>| {
            let finding = Diagnostic::error("duplicate-name", message)
                .with_value(match record.whole(field) {
                    Some(number) => number.to_string(),
                    None => record.text(field).unwrap_or_default().to_owned(),
                })
                .with_allowed("every port number and name once in a service entry")
                .with_suggestion("rename or remove one of them");
            reporter.add(&record.place_of(field), finding);
        };
        if !name::is_dns_label(&name) && (record.text("name").is_some() || !record.has("name")) {
            let finding = Diagnostic::error("invalid-name", format!("invalid port name: {name}"))
                .with_value(name.clone())
                .with_allowed("at most 63 lower-case letters, digits and inner hyphens")
                .with_suggestion("write for example `name: http`");
            reporter.add(&record.place_of("name"), finding);
        }
        let protocol = super::kubernetes::read_protocol(record, "protocol", reporter);
        let target_port = if record.has("targetPort") { port_number(record, "targetPort", reporter) } else { None };
        let number = port_number(record, "number", reporter);
        let known_name = !name.is_empty() && !names.insert(name.clone());
        if known_name {
            duplicate(format!("service entry port name {name:?} already defined"), "name", reporter);
        }
        let Some(number) = number else { continue };
        let known_number = !numbers.insert(number);
        if known_number {
            duplicate(format!("service entry port {number} already defined"), "number", reporter);
        }
        if known_name || known_number {
            continue;
        }
        ports.push(ServicePort { number, name, protocol, target_port });
    }
    ports
}

fn read_selector(spec: &Record, reporter: &mut Reporter<'_>) -> Option<BTreeMap<String, String>> {
    let record = spec.record("workloadSelector")?;
    if !spec.list("endpoints").is_empty() {
        let finding =
            Diagnostic::error("choice", "only one of WorkloadSelector or Endpoints is allowed in Service Entry")
                .with_allowed("workloadSelector or endpoints")
                .with_suggestion("remove one of them");
        reporter.add(&spec.key_of("workloadSelector"), finding);
    }
    let labels: BTreeMap<String, String> =
        record.text_map("labels").map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    if labels.is_empty() && !record.has("labels") {
        let finding = Diagnostic::warning("ineffective", "workload selector specified without labels")
            .with_allowed("`labels` with one or more labels")
            .with_effect("it selects every WorkloadEntry of the namespace")
            .with_suggestion("add for example `labels: {app: my-service}`");
        reporter.add(&record.place, finding);
    }
    Some(labels)
}

fn read_endpoints(spec: &Record, mode: &str, ports: &[ServicePort], reporter: &mut Reporter<'_>) -> Vec<Endpoint> {
    let records: Vec<&Record> = spec.records("endpoints").collect();
    let place = spec.key_of("endpoints");
    let refuse = |message: String, allowed: &str, suggestion: &str, reporter: &mut Reporter<'_>| {
        let finding = Diagnostic::error("contradiction", message)
            .with_value(format!("{} endpoints", records.len()))
            .with_allowed(allowed)
            .with_suggestion(suggestion);
        reporter.add(&place, finding);
    };
    if mode == "NONE" && !records.is_empty() {
        let message = "no endpoints should be provided for resolution type none".to_owned();
        refuse(message, "endpoints with STATIC or DNS", "write `resolution: STATIC` for IP addresses", reporter);
    }
    if mode == "DNS_ROUND_ROBIN" && records.len() > 1 {
        let message = format!("there must only be 0 or 1 endpoint for resolution mode {mode}");
        refuse(message, "at most one endpoint", "use resolution DNS for several names", reporter);
    }
    let names: BTreeSet<&str> = ports.iter().map(|port| port.name.as_str()).collect();
    let mut endpoints = Vec::new();
    for record in records {
        for (port, span, _) in record.map("ports") {
            if !names.contains(&**port) {
                let finding = Diagnostic::error(
                    "unknown-value",
                    format!("endpoint port {port} is not defined by the service entry"),
                )
                .with_value(port.to_string())
                .with_allowed(names.iter().copied().collect::<Vec<_>>().join(", "))
                .with_effect("no call would ever use this port")
                .with_suggestion("use the name of a port of the service entry");
                reporter.add(&record.map_key("ports", port, *span), finding);
            }
        }
        let Some(endpoint) = workload_entry::read_endpoint(record, reporter) else { continue };
        match &endpoint.address {
            EndpointAddress::Name(name) if mode == "STATIC" => {
                let message = format!("endpoint address {name:?} is not a valid IP address");
                let finding = Diagnostic::error("invalid-address", message)
                    .with_value(name.clone())
                    .with_allowed("an IP address with resolution STATIC, a DNS name with resolution DNS")
                    .with_effect("no connection could be made")
                    .with_suggestion("write `resolution: DNS`, or the IP address");
                reporter.add(&record.place_of("address"), finding);
            }
            _ => endpoints.push(endpoint),
        }
    }
    endpoints
}

fn check_addresses(spec: &Record, mode: &str, reporter: &mut Reporter<'_>) {
    for (item, text) in spec.texts("addresses") {
        if text.contains('/') && !matches!(mode, "NONE" | "STATIC") {
            let message = "CIDR addresses are allowed only for NONE/STATIC resolution types";
            let finding = Diagnostic::error("contradiction", message)
                .with_value(text)
                .with_allowed("single IP addresses")
                .with_suggestion("remove the range");
            reporter.add(&item.place, finding);
        }
    }
}

fn read_resolution(spec: &Record, mode: &str, reporter: &mut Reporter<'_>) -> Option<meshwright_model::Resolution> {
    let place = spec.place_of("resolution");
    match mode {
        "STATIC" => {
            if spec.list("endpoints").is_empty() && !spec.has("workloadSelector") {
                let finding = Diagnostic::warning("no-endpoints", "STATIC needs endpoints or workloadSelector")
                    .with_value("STATIC")
                    .with_allowed("`endpoints` or `workloadSelector` beside it")
                    .with_effect("requests get 503 UH: there is no endpoint")
                    .with_suggestion("add `endpoints: [{address: 10.0.0.7}]`");
                reporter.add(&place, finding);
            }
            Some(meshwright_model::Resolution::Static)
        }
        "DNS" => Some(meshwright_model::Resolution::Dns),
        "DNS_ROUND_ROBIN" => Some(meshwright_model::Resolution::DnsRoundRobin),
        _ => {
            let finding =
                Diagnostic::warning("not-supported", format!("resolution {mode} is not supported by this version"))
                    .with_value(mode)
                    .with_allowed("STATIC, DNS or DNS_ROUND_ROBIN")
                    .with_effect("the service is not served: there is no original address to forward to")
                    .with_suggestion("write STATIC with endpoints, or DNS");
            reporter.add(&place, finding);
            None
        }
    }
}
