//! `Gateway`: its table and what is asked of it; TLS settings are in `tls.rs`.
//!
//! Knows one document. Which virtual services bind, and what several gateways do to one port, is in `check.rs`.

mod tls;

pub(crate) use tls::address_as_server_name;

use std::collections::HashMap;
use std::net::IpAddr;

use meshwright_model::{Diagnostic, Gateway, Server, ServerHost};

use super::{API_VERSION, Document, KIND, METADATA, Object, STATUS};
use crate::finding::Reporter;
use crate::name;
use crate::record::{Item, Record};
use crate::table::{Message, PORT, TEXT_MAP, TEXTS, Type, full, ignored, message, warned};
use crate::text::nearest;

pub(super) static DOCUMENT: Message =
    message("Gateway", &[API_VERSION, KIND, METADATA, full("spec", Type::Message(&SPEC), "The gateway."), STATUS]);

static SPEC: Message = message(
    "Gateway.spec",
    &[
        full("selector", TEXT_MAP, "Labels of the gateway process that it is meant for; absent means any."),
        full("servers", Type::List(&Type::Message(&SERVER)), "Ports; at least one."),
    ],
);

static SERVER: Message = message(
    "Server",
    &[
        full("port", Type::Message(&PORT_MESSAGE), "The port that is opened."),
        full("bind", Type::Text, "IP address to listen on instead of the process default."),
        full("hosts", TEXTS, "Hosts served there: `name`, `*.suffix`, `*`, each with an optional `namespace/`."),
        full("tls", Type::Message(&tls::TABLE), "TLS settings of HTTPS and TLS ports; `httpsRedirect` on HTTP ports."),
        ignored("defaultEndpoint", Type::Text, "Never implemented by Istio."),
        full("name", Type::Text, "Name of the server, for people."),
    ],
);

static PORT_MESSAGE: Message = message(
    "Port",
    &[
        full("number", PORT, "Port number, 1 to 65535."),
        full("protocol", Type::Text, "HTTP, HTTP2, GRPC, GRPC-WEB, HTTPS, TLS, TCP, MONGO, REDIS or MYSQL."),
        full("name", Type::Text, "Name of the port, unique in the gateway."),
        warned("targetPort", PORT, "Deprecated.", "targetPort has no impact on Gateways"),
    ],
);

/// All protocols that Istio takes, upper-case.
const PROTOCOLS: &[&str] =
    &["HTTP", "HTTPS", "HTTP2", "GRPC", "GRPC-WEB", "TCP", "TLS", "MONGO", "REDIS", "MYSQL", "HTTP_PROXY"];

/// Reads a gateway.
pub(super) fn read(document: Document<'_>, reporter: &mut Reporter<'_>) -> Object<Gateway> {
    let spec = document.spec(&SPEC);
    let mut gateway = Gateway {
        name: document.name(),
        namespace: document.namespace.clone(),
        selector: spec.text_map("selector").map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        servers: Vec::new(),
        origin: document.origin(),
    };
    if !spec.has("servers")
        || matches!(spec.item("servers"), Some(Item { data: crate::record::Data::List(list), .. }) if list.is_empty())
    {
        let finding = Diagnostic::error("missing-field", "gateway must have at least one server")
            .with_allowed("one or more servers, each with port and hosts")
            .with_effect("no port would be opened")
            .with_suggestion(
                "add `servers:` with `- port: {number: 80, name: http, protocol: HTTP}` and `  hosts: [\"*\"]`",
            );
        reporter.add(&spec.place_of("servers"), finding);
    }
    let mut names: HashMap<String, String> = HashMap::new();
    for server in spec.records("servers") {
        check_port_name(server, &mut names, reporter);
        gateway.servers.extend(read_server(server, &document.namespace, reporter));
    }
    document.object(spec, gateway)
}

fn check_port_name(server: &Record, names: &mut HashMap<String, String>, reporter: &mut Reporter<'_>) {
    let Some(port) = server.record("port") else { return };
    let place = port.place_of("name");
    match port.text("name") {
        None | Some("") if port.text("name").is_some() || !port.has("name") => {
            let number = port.whole("number").map_or_else(|| "?".to_owned(), |number| number.to_string());
            let finding = Diagnostic::error("missing-field", format!("port name must be set: {number}"))
                .with_allowed("a name that is unique in the gateway")
                .with_suggestion("add for example `name: http`");
            reporter.add(&place, finding);
        }
        Some(name) => {
            if let Some(first) = names.get(name) {
                let message = format!("port names in servers must be unique: duplicate name {name} (first at {first})");
                let finding = Diagnostic::error("duplicate-name", message)
                    .with_value(name)
                    .with_allowed("every port name once in a gateway")
                    .with_suggestion(format!("rename it, for example to {name}-2"));
                reporter.add(&place, finding);
            } else {
                let at = format!("line {}, column {}", place.span.line, place.span.column);
                names.insert(name.to_owned(), at);
            }
        }
        None => {}
    }
}

fn read_server(server: &Record, namespace: &str, reporter: &mut Reporter<'_>) -> Option<Server> {
    let hosts = read_hosts(server, namespace, reporter);
    let bind = read_bind(server, reporter);
    let Some(port) = server.record("port") else {
        if !server.has("port") {
            let finding = Diagnostic::error("missing-field", "port is required")
                .with_allowed("`port` with number, name and protocol")
                .with_effect("no port would be opened for this server")
                .with_suggestion("add `port: {number: 80, name: http, protocol: HTTP}`");
            reporter.add(&server.place.field("port"), finding);
        }
        return None;
    };
    let number = super::port_number(port, "number", reporter);
    let protocol = read_protocol(port, reporter)?;
    let redirect = server.record("tls").and_then(|tls| tls.boolean("httpsRedirect")).unwrap_or(false);
    let served = tls::read(server, &protocol, reporter);
    if protocol == "HTTP_PROXY" {
        let finding = Diagnostic::warning("not-supported", "HTTP_PROXY servers are not supported by this version")
            .with_value(protocol.clone())
            .with_allowed("HTTP, HTTP2, GRPC, GRPC-WEB, HTTPS, TLS, TCP, MONGO, REDIS or MYSQL")
            .with_effect("the port is not opened")
            .with_suggestion("use protocol HTTP if clients send ordinary requests");
        reporter.add(&port.place_of("protocol"), finding);
    }
    Some(Server {
        port: number?,
        port_name: port.text_or_empty("name").to_owned(),
        protocol: served.protocol,
        bind,
        hosts,
        tls: served.settings,
        https_redirect: plain_http(&protocol) && redirect,
        origin: reporter.subject.origin(&server.place),
    })
}

fn plain_http(protocol: &str) -> bool {
    matches!(protocol, "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB")
}

fn read_protocol(port: &Record, reporter: &mut Reporter<'_>) -> Option<String> {
    let place = port.place_of("protocol");
    let Some(written) = port.text("protocol") else {
        if !port.has("protocol") {
            let finding = Diagnostic::error("missing-field", "the port has no protocol")
                .with_allowed(PROTOCOLS.join(", "))
                .with_suggestion("add `protocol: HTTP`");
            reporter.add(&place, finding);
        }
        return None;
    };
    let upper = written.to_ascii_uppercase();
    if PROTOCOLS.contains(&upper.as_str()) {
        return Some(upper);
    }
    let message = format!(
        "invalid protocol {written:?}, supported protocols are HTTP, HTTP2, GRPC, GRPC-WEB, MONGO, REDIS, MYSQL, TCP, \
         HTTPS, TLS"
    );
    let mut finding = Diagnostic::error("unknown-value", message)
        .with_value(written)
        .with_allowed(PROTOCOLS.join(", "))
        .with_effect("nobody would know how to read what clients send");
    finding.suggestion = nearest(written, PROTOCOLS.iter().copied()).map(|near| format!("did you mean {near}?"));
    reporter.add(&place, finding);
    None
}

fn read_bind(server: &Record, reporter: &mut Reporter<'_>) -> Option<IpAddr> {
    let text = server.text("bind").filter(|text| !text.is_empty())?;
    if let Ok(ip) = text.parse() {
        return Some(ip);
    }
    let finding = Diagnostic::error("unknown-value", format!("invalid bind address {text:?}"))
        .with_value(text)
        .with_allowed("an IP address (unix sockets are not supported by this version)")
        .with_effect("without it the port would be open on every address of the machine")
        .with_suggestion("write for example 127.0.0.1, or remove `bind`");
    reporter.add(&server.place_of("bind"), finding);
    None
}

fn read_hosts(server: &Record, own: &str, reporter: &mut Reporter<'_>) -> Vec<ServerHost> {
    let mut hosts = Vec::new();
    for (item, text) in server.texts("hosts") {
        match host_of(text, own) {
            Ok(host) => hosts.push(host),
            Err(problem) => {
                let finding = Diagnostic::error("invalid-host", problem)
                    .with_value(text)
                    .with_allowed("`name.domain`, `*.domain`, `*`, an IP address; each with an optional `namespace/`")
                    .with_effect("no request could ever have this host")
                    .with_suggestion("write a host with a dot such as api.example.com, or \"*\" for any host");
                reporter.add(&item.place, finding);
            }
        }
    }
    let empty = server.list("hosts").is_empty();
    let refused = matches!(server.item("hosts"), Some(Item { data: crate::record::Data::Invalid, .. }));
    if empty && !refused {
        let finding = Diagnostic::error("missing-field", "server config must contain at least one host")
            .with_allowed("one or more hosts")
            .with_effect("the server would answer no request")
            .with_suggestion("use \"*\" for any host: `hosts: [\"*\"]`");
        reporter.add(&server.place_of("hosts"), finding);
    }
    hosts
}

/// A host of a server, or Istio's words for what is wrong with it.
fn host_of(text: &str, own: &str) -> Result<ServerHost, String> {
    let (namespace, pattern) = match text.split_once('/') {
        None => (None, text),
        Some((namespace, pattern)) => {
            if namespace.is_empty() || pattern.is_empty() {
                return Err("config namespace and dnsName in host entry cannot be empty".to_owned());
            }
            match namespace {
                "*" => (None, pattern),
                "." => (Some(own.to_owned()), pattern),
                other if name::is_dns_label(other) => (Some(other.to_owned()), pattern),
                other => return Err(format!("invalid namespace value {other:?}")),
            }
        }
    };
    if pattern.contains('*') && !name::is_wildcard_domain(&pattern.to_ascii_lowercase()) {
        return Err(format!("partial wildcard {pattern:?} not allowed"));
    }
    if pattern != "*" && !pattern.contains('.') && !name::is_ip(pattern) {
        return Err(format!("short names (non FQDN) are not allowed: {pattern:?}"));
    }
    if !name::is_ip(pattern) {
        name::host_problem(pattern).map_or(Ok(()), Err)?;
    }
    Ok(ServerHost { namespace, pattern: pattern.to_ascii_lowercase() })
}
