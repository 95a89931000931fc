//! `tls` and `tcp` routes of a `VirtualService`.

use meshwright_model::Subnet;

use crate::case::{error, expect, gateway, mesh, read, virtual_service, warning};

fn with(routes: &str) -> String {
    format!(
        "{}---\n{}",
        gateway("servers:\n- port: {number: 443, name: a, protocol: TLS}\n  hosts: ['*']\n  tls: {mode: PASSTHROUGH}"),
        virtual_service(&format!("hosts: ['*.example.com']\ngateways: [test]\n{routes}"))
            .replace("name: test", "name: vs")
    )
}

#[test]
fn every_mistake_in_a_stream_route_is_named_at_its_place() {
    let to = "route: [{destination: {host: a}}]";
    let cases = [
        (
            format!("tls: [{{§{to}}}]"),
            error("missing-field", "spec.tls[0].match", "TLS route must have at least one match condition"),
        ),
        (
            format!("tls: [{{match: §[], {to}}}]"),
            error("missing-field", "spec.tls[0].match", "TLS route must have at least one match condition"),
        ),
        (
            format!("tls: [{{match: [{{§port: 443}}], {to}}}]"),
            error("missing-field", "spec.tls[0].match[0].sniHosts", "TLS match must have at least one SNI host"),
        ),
        (
            format!("tls: [{{match: [{{sniHosts: [§a.other.org]}}], {to}}}]"),
            error(
                "sni-host",
                "spec.tls[0].match[0].sniHosts[0]",
                "SNI host \"a.other.org\" is not a compatible subset of any of the virtual service hosts: [*.example.com]",
            ),
        ),
        (
            format!("tls: [{{match: [{{sniHosts: [§'*.com']}}], {to}}}]"),
            error("sni-host", "spec.tls[0].match[0].sniHosts[0]", "is not a compatible subset"),
        ),
        (
            format!("tls: [{{match: [{{sniHosts: [a.example.com], sourceLabels: {{app: a}}}}], {to}}}]")
                .replace("sourceLabels", "§sourceLabels"),
            error("not-supported", "spec.tls[0].match[0].sourceLabels", "cannot be left out safely"),
        ),
        (
            "tls: [{§match: [{sniHosts: [a.example.com]}]}]".to_owned(),
            error("missing-field", "spec.tls[0].route", "TLS route is required"),
        ),
        (
            "tcp: [{§match: [{port: 1}]}]".to_owned(),
            error("missing-field", "spec.tcp[0].route", "TCP route is required"),
        ),
        (
            format!("tcp: [{{match: [{{destinationSubnets: [§10.0.0.0/40]}}], {to}}}]"),
            error("invalid-address", "spec.tcp[0].match[0].destinationSubnets[0]", "is no IP network"),
        ),
        (
            format!("tcp: [{{match: [{{§sourceSubnet: 10.0.0.0/8}}], {to}}}]"),
            error("not-supported", "spec.tcp[0].match[0].sourceSubnet", "cannot be left out safely"),
        ),
        (
            "tcp: [{route: [{destination: {host: §nobody}}]}]".to_owned(),
            warning("IST0101", "spec.tcp[0].route[0].destination.host", "Referenced host not found"),
        ),
        (
            format!("tcp: [{{match: [{{gateways: [§nowhere]}}], {to}}}]"),
            warning("IST0101", "spec.tcp[0].match[0].gateways[0]", "Referenced gateway not found"),
        ),
    ];
    for (routes, expected) in &cases {
        expect(&with(routes), expected);
    }
}

#[test]
fn stream_routes_are_read() {
    let mesh = mesh(&with(
        "tls:\n- match: [{sniHosts: [A.example.com, '*.b.example.com'], port: 443}]\n  route: [{destination: {host: a, port: \
         {number: 443}}, weight: 1}, {destination: {host: b}, weight: 3}]\ntcp:\n- match: [{destinationSubnets: \
         [10.0.0.0/8], gateways: [test]}, {port: 9}]\n  route: [{destination: {host: a, subset: v1}}]",
    ));
    let routes = &mesh.virtual_services[0];
    assert_eq!(routes.tls[0].matches[0].sni_hosts, ["a.example.com", "*.b.example.com"]);
    assert_eq!(routes.tls[0].matches[0].connection.port, Some(443));
    assert_eq!(routes.tls[0].destinations.iter().map(|to| to.weight).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(routes.tcp[0].matches[0].destination_subnets, [Subnet::parse("10.0.0.0/8").unwrap()]);
    assert_eq!(routes.tcp[0].matches[0].gateways.as_ref().map(Vec::len), Some(1));
    assert_eq!(routes.tcp[0].destinations[0].destination.subset.as_deref(), Some("v1"));
    assert!(routes.http.is_empty());
}

#[test]
fn routes_without_a_port_of_their_kind_are_named() {
    let to = "route: [{destination: {host: a}}]";
    expect(
        &with(&format!("§tcp: [{{{to}}}]")),
        &warning(
            "no-port-for-routes",
            "spec.tcp",
            "`tcp` routes need a port of TCP, or TLS that ends here, and test has none",
        ),
    );
    expect(
        &with(&format!("§http: [{{{to}}}]")),
        &warning("no-port-for-routes", "spec.http", "`http` routes need a port of HTTP or HTTPS, and test has none"),
    );
    let plain = with(&format!("§tls: [{{match: [{{sniHosts: [a.example.com]}}], {to}}}]"))
        .replace("protocol: TLS", "protocol: HTTP")
        .replace("tls: {mode: PASSTHROUGH}", "tls: {httpsRedirect: false}");
    expect(&plain, &warning("no-port-for-routes", "spec.tls", "need a port of HTTPS or TLS with `mode: PASSTHROUGH`"));
    let served = with(&format!("tls: [{{match: [{{sniHosts: [a.example.com]}}], {to}}}]"));
    assert!(!read(&served).diagnostics.iter().any(|finding| finding.code == "no-port-for-routes"));
}

#[test]
fn streams_between_services_are_said_not_to_be_routed() {
    let tcp = "tcp: [{route: [{destination: {host: a}}]}]";
    expect(
        &virtual_service(&format!("hosts: [a]\n§{tcp}")),
        &warning("not-supported", "spec.tcp", "`tcp` routes of the mesh are not supported"),
    );
    let outcome = read(&with(tcp));
    assert!(!outcome.diagnostics.iter().any(|finding| finding.code == "not-supported"), "{:#?}", outcome.diagnostics);
}
