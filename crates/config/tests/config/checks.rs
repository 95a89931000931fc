//! What objects say about each other.

use crate::case::{
    Expected, MARK, destination_rule, document, expect_with, read_with, routes, virtual_service, warning,
};

fn gateway(name: &str, hosts: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\nspec: {{servers: [{{port: {{number: 80, \
         name: http, protocol: HTTP}}, hosts: {hosts}}}]}}\n---\n"
    )
}

fn check(text: &str, services: &[&str], expected: Expected) {
    expect_with(text, services, &expected);
}

const ROUTE: &str = "route: [{destination: {host: a}}]";
const A: &[&str] = &["a=:1"];

#[test]
fn a_gateway_that_does_not_exist_is_named() {
    let text = format!(
        "{}{}",
        gateway("shop-gateway", "['*']"),
        virtual_service(&format!("hosts: [a.example.com]\ngateways: [§shop-gatway]\nhttp:\n- {ROUTE}"))
    );
    check(&text, A, warning("IST0101", "spec.gateways[0]", "Referenced gateway not found: \"shop-gatway\""));
    let outcome = read_with(&text.replace(MARK, ""), A);
    assert_eq!(outcome.diagnostics[0].suggestion.as_deref(), Some("did you mean shop-gateway?"));
    assert!(outcome.diagnostics[0].effect.as_deref().is_some_and(|effect| effect.contains("nothing is bound")));
}

#[test]
fn a_host_that_its_gateway_does_not_serve_is_named() {
    let text = |hosts: &str| {
        format!(
            "{}{}",
            gateway("g", hosts),
            virtual_service(&format!("hosts: [a.example.com, b.example.org]\ngateways: [§g]\nhttp:\n- {ROUTE}"))
        )
    };
    let expected = warning("IST0132", "spec.gateways[0]", "one or more host [\"b.example.org\"]");
    check(&text("['*.example.com']"), A, expected);
    let other = warning("IST0132", "spec.gateways[0]", "one or more host [\"a.example.com\", \"b.example.org\"]");
    check(&text("['other/*']"), A, other);
    assert!(read_with(&text("['default/*']").replace(MARK, ""), A).diagnostics.is_empty());
}

#[test]
fn hosts_ports_and_subsets_that_do_not_exist_are_named() {
    let entry = document(
        "ServiceEntry",
        "hosts: [b]\nports: [{number: 80, name: http, protocol: HTTP}, {number: 81, name: http-b, protocol: \
         HTTP}]\nresolution: STATIC\nendpoints: [{address: 10.0.0.1}]",
    );
    let rule = destination_rule("host: b\nsubsets: [{name: v1}]");
    let with = |http: &str| format!("{entry}---\n{rule}---\n{}", routes(http));
    let base = "spec.http[0].route[0].destination";
    let path = |field: &str| -> &'static str { format!("{base}.{field}").leak() };
    let cases = [
        (
            "- route: [{destination: {host: §nobody}}]",
            warning("IST0101", path("host"), "Referenced host not found: \"nobody\""),
        ),
        (
            "- route: [{destination: {host: b, port: {number: §8080}}}]",
            warning("IST0101", path("port.number"), "Referenced port not found: \"b:8080\""),
        ),
        ("- route: [{destination: {host: §b}}]", warning("IST0112", path("host"), "exposes multiple ports [80, 81]")),
        (
            "- route: [{destination: {host: b, subset: §v2, port: {number: 80}}}]",
            warning("IST0101", path("subset"), "Referenced host+subset in destinationrule not found: \"b+v2\""),
        ),
    ];
    for (http, expected) in cases {
        check(&with(http), &[], expected);
    }
    let good = with("- route: [{destination: {host: b.default.svc.cluster.local, subset: v1, port: {number: 81}}}]");
    assert!(read_with(&good, &[]).diagnostics.is_empty());
}

#[test]
fn nothing_is_called_missing_while_a_document_could_not_be_read() {
    let text = format!("{}---\na: [\n", routes("- route: [{destination: {host: nobody, subset: v1}}]"));
    let outcome = read_with(&text, &[]);
    let codes: Vec<&str> = outcome.diagnostics.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["yaml-syntax"]);
}

#[test]
fn one_host_in_two_virtual_services_of_the_mesh_is_named() {
    let text = format!(
        "{}---\n{}",
        virtual_service(&format!("hosts: [a]\nhttp:\n- {ROUTE}")),
        virtual_service(&format!("hosts: [§a.default.svc.cluster.local]\nhttp:\n- {ROUTE}"))
            .replace("name: test", "name: other")
    );
    check(&text, A, warning("IST0109", "spec.hosts[0]", "define the same host a.default.svc.cluster.local"));
}

#[test]
fn rules_that_no_request_reaches_are_named() {
    let first = format!("- {ROUTE}\n");
    let cases = [
        (format!("{first}- §name: late\n  {ROUTE}"), warning("IST0130", "spec.http[1]", "rule \"late\" not used")),
        (
            format!("- match: [{{uri: {{prefix: /}}}}]\n  {ROUTE}\n- §match: [{{uri: {{exact: /a}}}}]\n  {ROUTE}"),
            warning("IST0130", "spec.http[1]", "not used"),
        ),
        (
            format!("- match: [{{uri: {{prefix: /a}}}}]\n  {ROUTE}\n- match: [{{§uri: {{prefix: /a}}}}]\n  {ROUTE}"),
            warning("IST0131", "spec.http[1].match[0]", "duplicate/overlapping match in rule #0"),
        ),
        (
            format!("- match: [{{uri: {{prefix: /a}}}}]\n  {ROUTE}\n- match: [{{§uri: {{exact: /a/b}}}}]\n  {ROUTE}"),
            warning(
                "shadowed-match",
                "spec.http[1].match[0]",
                "rule #0 takes every request that it matches (prefix /a)",
            ),
        ),
        (
            format!(
                "- match: [{{uri: {{prefix: /a}}}}]\n  {ROUTE}\n- match: [{{§uri: {{regex: '/a/\\d+'}}}}]\n  {ROUTE}"
            ),
            warning("shadowed-match", "spec.http[1].match[0]", "is never reached"),
        ),
        (
            format!(
                "- match: [{{uri: {{prefix: /a}}, ignoreUriCase: true}}]\n  {ROUTE}\n- match: [{{§uri: {{prefix: /A/b}}, headers: \
                 {{x: {{}}}}}}]\n  {ROUTE}"
            ),
            warning("shadowed-match", "spec.http[1].match[0]", "is never reached"),
        ),
    ];
    for (http, expected) in cases {
        check(&routes(&http), A, expected);
    }
}

#[test]
fn rules_that_can_be_reached_are_left_alone() {
    for (first, second) in [
        ("uri: {exact: /a}", "uri: {prefix: /a}"),
        ("uri: {prefix: /ab}", "uri: {prefix: /a}"),
        ("uri: {prefix: /a}, method: {exact: GET}", "uri: {prefix: /a}"),
        ("uri: {prefix: /a}, headers: {x: {}}", "uri: {prefix: /a/b}"),
        ("uri: {prefix: /a}", "uri: {regex: '/a?b'}"),
        ("uri: {prefix: /a}", "uri: {regex: '/a|/b'}"),
        ("uri: {prefix: /a}", "uri: {prefix: /a}, ignoreUriCase: true"),
        ("uri: {prefix: /}, port: 80", "uri: {prefix: /b}, port: 81"),
    ] {
        let text = routes(&format!("- match: [{{{first}}}]\n  {ROUTE}\n- match: [{{{second}}}]\n  {ROUTE}"));
        let outcome = read_with(&text, A);
        assert!(outcome.diagnostics.is_empty(), "{first} / {second}: {:?}", outcome.diagnostics);
    }
}

#[test]
fn two_gateways_with_one_port_and_host_are_named() {
    let text = format!("{}{}", gateway("g", "['a.example.com']"), gateway("h", "§['a.example.com']"));
    check(&text, &[], warning("IST0145", "spec.servers[0].hosts", "Conflict with gateways default/g"));
    let apart = format!("{}{}", gateway("g", "['a.example.com']"), gateway("h", "['b.example.com']"));
    assert!(read_with(&apart, &[]).diagnostics.is_empty());
}

#[test]
fn destination_rules_that_find_nothing_are_named() {
    let cases = [
        (
            destination_rule("host: §b"),
            warning("IST0174", "spec.host", "The host b defined in the DestinationRule does not match any services"),
        ),
        (
            destination_rule("host: a\nsubsets: [{name: §v2, labels: {version: v2}}]"),
            warning(
                "IST0173",
                "spec.subsets[0].name",
                "The Subset v2 defined in the DestinationRule does not select any pods",
            ),
        ),
        (
            destination_rule("host: a\ntrafficPolicy: {outlierDetection: {maxEjectionPercent: §10}}"),
            warning(
                "few-ejections",
                "spec.trafficPolicy.outlierDetection.maxEjectionPercent",
                "of 3 endpoints only one",
            ),
        ),
    ];
    for (text, expected) in cases {
        check(&text, &["a=:1;version=v1,:2,:3"], expected);
    }
    let wildcard = destination_rule("host: '*.default.svc.cluster.local'");
    assert!(read_with(&wildcard, A).diagnostics.is_empty());
}
