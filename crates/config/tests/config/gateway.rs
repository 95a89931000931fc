//! What is asked of a `Gateway`.

use crate::case::{error, expect, gateway, mesh, warning};

const HTTP: &str = "port: {number: 80, name: http, protocol: HTTP}";

#[test]
fn every_mistake_in_a_gateway_is_named_at_its_place() {
    let cases = [
        ("§selector: {a: b}", error("missing-field", "spec.servers", "gateway must have at least one server")),
        ("servers: §[]", error("missing-field", "spec.servers", "gateway must have at least one server")),
        (
            &format!("servers:\n- §{HTTP}"),
            error("missing-field", "spec.servers[0].hosts", "server config must contain at least one host"),
        ),
        ("servers:\n- §hosts: ['*']", error("missing-field", "spec.servers[0].port", "port is required")),
        (
            "servers:\n- port: {§number: 80, protocol: HTTP}\n  hosts: ['*']",
            error("missing-field", "spec.servers[0].port.name", "port name must be set: 80"),
        ),
        (
            &format!(
                "servers:\n- {HTTP}\n  hosts: ['*']\n- port: {{number: 81, name: §http, protocol: HTTP}}\n  hosts: ['*']"
            ),
            error(
                "duplicate-name",
                "spec.servers[1].port.name",
                "port names in servers must be unique: duplicate name http",
            ),
        ),
        (
            "servers:\n- port: {number: 80, name: http, protocol: §HTPP}\n  hosts: ['*']",
            error(
                "unknown-value",
                "spec.servers[0].port.protocol",
                "invalid protocol \"HTPP\", supported protocols are",
            ),
        ),
        (
            "servers:\n- port: {§number: 80, name: http}\n  hosts: ['*']",
            error("missing-field", "spec.servers[0].port.protocol", "the port has no protocol"),
        ),
        (
            "servers:\n- port: {number: §70000, name: http, protocol: HTTP}\n  hosts: ['*']",
            error("port-range", "spec.servers[0].port.number", "port number 70000 must be in the range 1..65535"),
        ),
        (
            "servers:\n- port: {number: §0, name: http, protocol: HTTP}\n  hosts: ['*']",
            error("port-range", "spec.servers[0].port.number", "port number 0 must be in the range 1..65535"),
        ),
        (
            "servers:\n- port: {§name: http, protocol: HTTP}\n  hosts: ['*']",
            error("port-range", "spec.servers[0].port.number", "must be in the range 1..65535"),
        ),
        (
            "servers:\n- §port: {number: 443, name: https, protocol: HTTPS}\n  hosts: ['*']",
            error("missing-field", "spec.servers[0].tls", "server must have TLS settings for HTTPS/TLS protocols"),
        ),
        (
            &format!("servers:\n- {HTTP}\n  hosts: ['*']\n  tls: {{mode: §SIMPLE}}"),
            error(
                "tls-on-plain-port",
                "spec.servers[0].tls.mode",
                "server cannot have TLS settings for plain text HTTP ports",
            ),
        ),
        (
            &format!("servers:\n- {HTTP}\n  hosts: [§'*foo.com']"),
            error("invalid-host", "spec.servers[0].hosts[0]", "partial wildcard \"*foo.com\" not allowed"),
        ),
        (
            &format!("servers:\n- {HTTP}\n  hosts: [§shop]"),
            error("invalid-host", "spec.servers[0].hosts[0]", "short names (non FQDN) are not allowed"),
        ),
        (
            &format!("servers:\n- {HTTP}\n  hosts: [§/a.example.com]"),
            error(
                "invalid-host",
                "spec.servers[0].hosts[0]",
                "config namespace and dnsName in host entry cannot be empty",
            ),
        ),
        (
            &format!("servers:\n- {HTTP}\n  hosts: ['*']\n  bind: §unix:///tmp/x"),
            error("unknown-value", "spec.servers[0].bind", "invalid bind address"),
        ),
    ];
    for (spec, expected) in &cases {
        expect(&gateway(spec), expected);
    }
}

#[test]
fn what_has_no_effect_on_a_gateway_is_said() {
    expect(
        &gateway("servers:\n- port: {number: 80, name: a, protocol: HTTP, §targetPort: 8080}\n  hosts: ['*']"),
        &warning("not-supported", "spec.servers[0].port.targetPort", "targetPort"),
    );
}

#[test]
fn namespaces_bind_and_redirect_of_a_server_are_read() {
    let mesh = mesh(&gateway(
        "servers:\n- port: {number: '80', name: a, protocol: http}\n  hosts: ['*', ./own.example.com, \
         shop/*.Example.com, '*/b.example.com']\n  bind: 127.0.0.1\n  tls: {https_redirect: true}",
    ));
    let server = &mesh.gateways[0].servers[0];
    let hosts: Vec<(Option<&str>, &str)> =
        server.hosts.iter().map(|host| (host.namespace.as_deref(), host.pattern.as_str())).collect();
    assert_eq!(
        hosts,
        [(None, "*"), (Some("default"), "own.example.com"), (Some("shop"), "*.example.com"), (None, "b.example.com")]
    );
    assert!(server.https_redirect);
    assert_eq!(server.bind.map(|ip| ip.to_string()).as_deref(), Some("127.0.0.1"));
}
