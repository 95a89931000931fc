//! `Gateway`: its table and what is asked of it.
//!
//! Knows one document. Which virtual services bind, and what several gateways do to one port, is in `check.rs`.

use std::collections::HashMap;
use std::net::IpAddr;

use meshwright_model::{Diagnostic, Gateway, Server, ServerHost, ServerProtocol};

use super::{API_VERSION, Document, KIND, METADATA, Object, STATUS};
use crate::finding::Reporter;
use crate::name;
use crate::record::{Item, Record};
use crate::table::{Message, PORT, TEXT_MAP, TEXTS, Type, Words, full, ignored, message, warned};
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
        full("tls", Type::Message(&TLS), "TLS settings; `httpsRedirect` works on HTTP ports."),
        ignored("defaultEndpoint", Type::Text, "Never implemented by Istio."),
        full("name", Type::Text, "Name of the server, for people."),
    ],
);

static PORT_MESSAGE: Message = message(
    "Port",
    &[
        full("number", PORT, "Port number, 1 to 65535."),
        full("protocol", Type::Text, "HTTP, HTTPS, HTTP2, GRPC, GRPC-WEB, TCP, TLS or MONGO."),
        full("name", Type::Text, "Name of the port, unique in the gateway."),
        warned("targetPort", PORT, "Deprecated.", "targetPort has no impact on Gateways"),
    ],
);

static TLS: Message = message(
    "ServerTLSSettings",
    &[
        full("httpsRedirect", Type::Boolean, "Answer 301 to https for every host of this HTTP port."),
        full("mode", Type::Word(&TLS_MODES), "How TLS is ended; checked, the port is not opened by this version."),
        full("serverCertificate", Type::Text, "Certificate file."),
        full("privateKey", Type::Text, "Key file."),
        full("caCertificates", Type::Text, "File of authorities for client certificates."),
        full("caCrl", Type::Text, "File of revoked certificates."),
        full("credentialName", Type::Text, "Secret with certificate and key."),
        full("credentialNames", TEXTS, "Secrets with certificates and keys."),
        full("caCertCredentialName", Type::Text, "Secret with authorities for client certificates."),
        full("tlsCertificates", Type::List(&Type::Message(&TLS_CERTIFICATE)), "Certificate and key files."),
        full("subjectAltNames", TEXTS, "Names accepted in client certificates."),
        full("verifyCertificateSpki", TEXTS, "Hashes of accepted client keys."),
        full("verifyCertificateHash", TEXTS, "Hashes of accepted client certificates."),
        full("insecureSkipVerify", Type::Boolean, "Do not verify client certificates."),
        full("minProtocolVersion", Type::Word(&TLS_VERSIONS), "Oldest TLS version."),
        full("maxProtocolVersion", Type::Word(&TLS_VERSIONS), "Newest TLS version."),
        full("cipherSuites", TEXTS, "Cipher suites of TLS 1.2 and older."),
    ],
);

static TLS_CERTIFICATE: Message = message(
    "TLSCertificate",
    &[
        full("serverCertificate", Type::Text, "Certificate file."),
        full("privateKey", Type::Text, "Key file."),
        full("caCertificates", Type::Text, "File of authorities."),
    ],
);

static TLS_MODES: Words = Words {
    what: "TLS mode",
    values: &[
        ("PASSTHROUGH", 0),
        ("SIMPLE", 1),
        ("MUTUAL", 2),
        ("AUTO_PASSTHROUGH", 3),
        ("ISTIO_MUTUAL", 4),
        ("OPTIONAL_MUTUAL", 5),
    ],
};

static TLS_VERSIONS: Words = Words {
    what: "TLS version",
    values: &[("TLS_AUTO", 0), ("TLSV1_0", 1), ("TLSV1_1", 2), ("TLSV1_2", 3), ("TLSV1_3", 4)],
};

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
    check_tls(server, &protocol, reporter);
    let redirect = server.record("tls").and_then(|tls| tls.boolean("httpsRedirect")).unwrap_or(false);
    let plain = plain_http(&protocol);
    if !plain {
        let finding =
            Diagnostic::warning("not-supported", format!("{protocol} servers are not supported by this version"))
                .with_value(protocol.clone())
                .with_allowed("HTTP, HTTP2, GRPC or GRPC-WEB")
                .with_effect("the port is not opened")
                .with_suggestion("end TLS in front of this gateway and use protocol HTTP, or wait for a later version");
        reporter.add(&port.place_of("protocol"), finding);
    } else if protocol != "HTTP" {
        let finding = Diagnostic::warning("not-supported", format!("{protocol} is served as HTTP/1.1 by this version"))
            .with_value(protocol.clone())
            .with_effect("the port is opened; clients that insist on HTTP/2 cannot use it")
            .with_suggestion("use HTTP/1.1 clients, or protocol HTTP");
        reporter.add(&port.place_of("protocol"), finding);
    }
    Some(Server {
        port: number?,
        port_name: port.text_or_empty("name").to_owned(),
        protocol: if plain { ServerProtocol::Http } else { ServerProtocol::Unsupported },
        bind,
        hosts,
        tls: None,
        https_redirect: plain && redirect,
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

fn check_tls(server: &Record, protocol: &str, reporter: &mut Reporter<'_>) {
    let tls_port = matches!(protocol, "HTTPS" | "TLS");
    let Some(tls) = server.record("tls") else {
        if tls_port && !server.has("tls") {
            let finding = Diagnostic::error("missing-field", "server must have TLS settings for HTTPS/TLS protocols")
                .with_allowed("`tls` with a mode")
                .with_effect("there would be no certificate to show to clients")
                .with_suggestion("add `tls: {mode: SIMPLE, credentialName: my-certificate}`");
            reporter.add(&server.place.field("tls"), finding);
        }
        return;
    };
    if !tls_port {
        let more = tls.fields.iter().find(|(name, _)| *name != "httpsRedirect");
        if let Some((name, item)) = more.filter(|_| plain_http(protocol)) {
            let finding =
                Diagnostic::error("tls-on-plain-port", "server cannot have TLS settings for plain text HTTP ports")
                    .with_value(*name)
                    .with_allowed("only httpsRedirect on a plain HTTP port")
                    .with_suggestion("use protocol HTTPS, or remove the field");
            reporter.add(&item.place, finding);
        }
        return;
    }
    if tls.boolean("httpsRedirect") == Some(true) {
        let finding = Diagnostic::warning("ineffective", "tls.httpsRedirect should only be used with http servers")
            .with_value("true")
            .with_effect("nothing is redirected here")
            .with_suggestion("put it on the server with protocol HTTP");
        reporter.add(&tls.place_of("httpsRedirect"), finding);
    }
    check_certificates(tls, reporter);
}

/// Which certificates a mode needs and which it must not have.
fn check_certificates(tls: &Record, reporter: &mut Reporter<'_>) {
    let mode = tls.word("mode").unwrap_or("PASSTHROUGH");
    let text = |name: &str| tls.text(name).is_some_and(|text| !text.is_empty());
    let refuse = |place, message: String, allowed: &str, suggestion: &str, reporter: &mut Reporter<'_>| {
        let finding = Diagnostic::error("tls-settings", message)
            .with_value(mode)
            .with_allowed(allowed)
            .with_effect("no TLS connection could be made")
            .with_suggestion(suggestion);
        reporter.add(&place, finding);
    };
    let files = text("serverCertificate") || text("privateKey");
    let sources = [
        ("credentialName", text("credentialName")),
        ("credentialNames", !tls.list("credentialNames").is_empty()),
        ("serverCertificate/privateKey", files),
        ("tlsCertificates", !tls.list("tlsCertificates").is_empty()),
    ];
    let given: Vec<&str> = sources.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
    if mode == "ISTIO_MUTUAL" {
        if !given.is_empty() || text("caCertificates") {
            let message = "ISTIO_MUTUAL TLS cannot have associated server certificate".to_owned();
            refuse(tls.place_of("mode"), message, "no certificate fields", "remove the certificate fields", reporter);
        }
        return;
    }
    if !matches!(mode, "SIMPLE" | "MUTUAL" | "OPTIONAL_MUTUAL") {
        return;
    }
    if given.len() > 1 {
        let message = format!(
            "only one of credential_name, credential_names, server_certificate/private_key, tls_certificates should be \
             specified; given are {}",
            given.join(" and ")
        );
        refuse(tls.place.clone(), message, "one source of certificates", "remove all but one", reporter);
        return;
    }
    if matches!(given.first(), None | Some(&"serverCertificate/privateKey")) {
        for (field, what) in [("serverCertificate", "server certificate"), ("privateKey", "private key")] {
            if !text(field) {
                let message = format!("{mode} requires a {what}");
                let suggestion = "add serverCertificate and privateKey, or credentialName";
                refuse(tls.place.field(field), message, "a file, or credentialName", suggestion, reporter);
            }
        }
    }
    let authorities = text("caCertificates") || text("caCertCredentialName") || text("credentialName");
    if mode == "MUTUAL" && !authorities && tls.list("credentialNames").is_empty() {
        let message = format!("{mode} requires a client CA bundle");
        let suggestion = "add caCertificates, or a secret `<credentialName>-cacert`";
        refuse(tls.place.field("caCertificates"), message, "a file of authorities", suggestion, reporter);
    }
}
