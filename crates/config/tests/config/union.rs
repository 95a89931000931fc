//! Services of one name from several sources.

use meshwright_config::{Options, Outcome, Source, load};
use meshwright_model::{EndpointPorts, Resolution, ServiceDirectory, ServiceSource, Severity};

use crate::case::{document, read_with};

const ENTRY: &str = "hosts: [a.default.svc.cluster.local]\nports: [{number: 80, name: http, protocol: HTTP}]\nresolution: STATIC\nendpoints: [{address: 10.0.0.1}]";

const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {ports: [{port: 80, targetPort: 8080, name: web}, {port: 81, name: http-admin}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a, labels: {kubernetes.io/service-name: a}}
endpoints: [{addresses: [10.0.0.2]}]
ports: [{name: web, port: 8081}]
";

fn codes(outcome: &Outcome) -> Vec<&'static str> {
    outcome.diagnostics.iter().map(|finding| finding.code).collect()
}

#[test]
fn a_flag_replaces_every_other_source_of_its_name_and_says_which() {
    let text = format!("{}---\n{SERVICE}", document("ServiceEntry", ENTRY));
    let outcome = read_with(&text, &["a=127.0.0.1:9001"]);
    assert_eq!(codes(&outcome), ["service-replaced", "service-replaced"]);
    let first = &outcome.diagnostics[0];
    assert_eq!(first.severity, Severity::Warning);
    assert!(
        first
            .message
            .contains("ServiceEntry of a.default.svc.cluster.local at test.yaml:1:1 is replaced by --service a"),
        "{first}"
    );
    let services = outcome.mesh.expect("a mesh").services;
    assert_eq!(services.len(), 1);
    assert_eq!(services[0].source, ServiceSource::Flag);
    assert!(services[0].ports.is_empty());
    assert_eq!(services[0].endpoints[0].ports, EndpointPorts::Fixed(9001));
}

#[test]
fn sources_of_one_name_are_united_and_the_winner_of_a_conflict_is_named() {
    let text = format!("{SERVICE}---\n{}", document("ServiceEntry", ENTRY));
    let outcome = read_with(&text, &[]);
    assert_eq!(codes(&outcome), ["service-conflict"]);
    let conflict = &outcome.diagnostics[0];
    assert!(conflict.message.contains("ServiceEntry of a.default.svc.cluster.local at test.yaml:12:1"), "{conflict}");
    assert!(conflict.message.contains("and Service at test.yaml:1:1 disagree: port 80"), "{conflict}");
    let services = outcome.mesh.expect("a mesh").services;
    assert_eq!(services.len(), 1);
    let service = &services[0];
    assert_eq!(service.source, ServiceSource::ServiceEntry);
    let ports: Vec<(u16, &str)> = service.ports.iter().map(|port| (port.number, port.name.as_str())).collect();
    assert_eq!(ports, [(80, "http"), (81, "http-admin")]);
    let sockets: Vec<u16> = service.endpoints.iter().map(|endpoint| service.socket_port(endpoint, 80)).collect();
    assert_eq!(sockets, [80, 8081], "the endpoint of the slice keeps its port under the winner's name");
}

#[test]
fn another_resolution_is_a_conflict_and_endpoints_that_do_not_fit_are_left_out() {
    let dns = "hosts: [a.default.svc.cluster.local]\nports: [{number: 80, name: http, protocol: HTTP}]\nresolution: DNS\nendpoints: [{address: b.example.com}, {address: 10.0.0.9}]";
    let text = format!(
        "{}---\n{}",
        document("ServiceEntry", ENTRY),
        document("ServiceEntry", dns).replace("name: test", "name: other")
    );
    let outcome = read_with(&text, &[]);
    assert_eq!(codes(&outcome), ["service-conflict"]);
    assert!(outcome.diagnostics[0].effect.as_deref().is_some_and(|text| text.contains("1 endpoints that do not fit")));
    let services = outcome.mesh.expect("a mesh").services;
    assert_eq!(services[0].resolution, Resolution::Static);
    let addresses: Vec<String> = services[0].endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect();
    assert_eq!(addresses, ["10.0.0.1", "10.0.0.9"]);
}

#[test]
fn two_flags_of_one_name_are_one_service() {
    let outcome = read_with("", &["a=:1", "a.default=:2;version=v2", "a=:1"]);
    assert_eq!(codes(&outcome), [] as [&str; 0]);
    let services = outcome.mesh.expect("a mesh").services;
    assert_eq!(services.len(), 1);
    assert_eq!(services[0].endpoints.len(), 2);
}

#[test]
fn all_forms_of_a_name_reach_one_service() {
    let outcome = read_with("", &["user-service.shop=:1", "api.example.com=:2", "other=:3"]);
    let services = outcome.mesh.expect("a mesh").services;
    let directory = ServiceDirectory::new(&services);
    for name in ["user-service.shop", "user-service.shop.svc", "user-service.shop.svc.cluster.local", "user-service"] {
        let found = directory.find(name, "default").map(|id| services[id.0].host.as_str());
        assert_eq!(found, Some("user-service.shop.svc.cluster.local"), "{name}");
    }
    assert_eq!(directory.find("api.example.com", "default").map(|id| id.0), Some(1));
    assert_eq!(directory.find("nobody", "default"), None);
}

#[test]
fn a_flag_with_a_name_is_resolved_by_dns() {
    let outcome = read_with("", &["a=backend.example.com:80;weight=2"]);
    let services = outcome.mesh.expect("a mesh").services;
    assert_eq!(services[0].resolution, Resolution::Dns);
    assert_eq!(services[0].endpoints[0].weight, 2);
}

#[test]
fn a_flag_replaces_an_external_host_that_its_short_form_spells() {
    let entry = ENTRY.replace("a.default.svc.cluster.local", "example.com");
    let options = Options { services: vec!["example.com=:9".parse().expect("a good flag")], ..Options::default() };
    let outcome = load(&[Source::new("a", document("ServiceEntry", &entry))], &options);
    assert_eq!(codes(&outcome), ["service-replaced"]);
}
