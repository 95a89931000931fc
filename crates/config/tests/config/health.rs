//! Whose probe checks which endpoint: `WorkloadGroup`, and the readiness probes of pods.

use std::time::Duration;

use meshwright_model::{HealthCheck, HealthPort, HealthProbe, HealthTransport};

use crate::case::{document, error, expect, mesh, warning};

const ENTRY: &str = "hosts: [a]\nports: [{number: 80, name: http, protocol: HTTP}]\nresolution: STATIC\nworkloadSelector: {labels: {app: a}}";

fn named(kind: &str, metadata: &str, spec: &str) -> String {
    let text = document(kind, spec);
    let (head, rest) = text.split_once("metadata:").expect("a document");
    format!("{head}metadata: {{{metadata}}}\nspec:{}", rest.split_once("spec:").expect("a spec").1)
}

fn group(name: &str, labels: &str, probe: &str) -> String {
    named(
        "WorkloadGroup",
        &format!("name: {name}"),
        &format!("metadata: {{labels: {{{labels}}}}}\ntemplate: {{ports: {{http: 8080}}}}\nprobe: {{{probe}}}"),
    )
}

fn instance(name: &str, metadata: &str, labels: &str, address: &str) -> String {
    let spec = format!("address: {address}\nports: {{http: 9000}}\nlabels: {{{labels}}}");
    named("WorkloadEntry", &format!("name: {name}{metadata}"), &spec)
}

fn kubernetes(kind: &str, labels: &str, containers: &str) -> String {
    let (api, spec) = match kind {
        "Pod" => ("v1", format!("spec: {{nodeName: n, containers: [{containers}]}}")),
        _ => (
            "apps/v1",
            format!(
                "spec: {{replicas: 2, template: {{metadata: {{labels: {{{labels}}}}}, spec: {{serviceAccountName: x, containers: \
                 [{containers}]}}}}}}"
            ),
        ),
    };
    format!("apiVersion: {api}\nkind: {kind}\nmetadata: {{name: web-{}, labels: {{{labels}}}}}\n{spec}\n", labels.len())
}

fn service(ports: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{selector: {{app: a}}, ports: [{ports}]}}\n"
    )
}

/// The checks of the only service's endpoints.
fn checks(documents: &[String]) -> Vec<Option<HealthCheck>> {
    let mesh = mesh(&documents.join("---\n"));
    let endpoints = &mesh.services[0].endpoints;
    endpoints.iter().map(|endpoint| endpoint.health_check.as_deref().cloned()).collect()
}

fn sources(documents: &[String]) -> Vec<String> {
    checks(documents).into_iter().map(|check| check.map(|check| check.source).unwrap_or_default()).collect()
}

#[test]
fn the_probe_of_a_group_has_the_defaults_of_kubernetes_and_every_field_its_meaning() {
    let of = |probe: &str| {
        let documents =
            [document("ServiceEntry", ENTRY), group("g", "app: a", probe), instance("i", "", "app: a", "10.0.0.1")];
        checks(&documents).remove(0).unwrap()
    };
    let default = of("httpGet: {port: 8080}");
    assert_eq!(default.source, "WorkloadGroup default/g");
    assert_eq!((default.interval, default.timeout), (Duration::from_secs(10), Duration::from_secs(1)));
    assert_eq!((default.unhealthy_threshold, default.healthy_threshold, default.initially_healthy), (3, 1, false));
    assert_eq!((default.port, default.transport), (HealthPort::Number(8080), HealthTransport::Plain));
    let statuses = vec![200..=399];
    let http = |path: &str, headers| HealthProbe::Http {
        path: path.to_owned(),
        host: None,
        headers,
        expected_statuses: statuses.clone(),
    };
    assert_eq!(default.probe, http("/", Vec::new()));
    let all = of(
        "httpGet: {path: ready, port: 8443, scheme: HTTPS, httpHeaders: [{name: Host, value: a.b}]}, initialDelaySeconds: 7, \
         timeoutSeconds: 2, periodSeconds: 4, successThreshold: 5, failureThreshold: 6",
    );
    assert_eq!(all.probe, http("/ready", vec![("host".to_owned(), "a.b".to_owned())]));
    assert_eq!((all.port, all.transport), (HealthPort::Number(8443), HealthTransport::UnverifiedTls));
    assert_eq!([all.initial_delay, all.timeout, all.interval].map(|time| time.as_secs()), [7, 2, 4]);
    assert_eq!((all.healthy_threshold, all.unhealthy_threshold), (5, 6));
    assert_eq!(of("tcpSocket: {port: http}").port, HealthPort::Number(9000), "by the name of the instance's port");
    let grpc = HealthProbe::Grpc { service: "a.B".to_owned(), authority: None };
    assert_eq!(of("grpc: {port: 1, service: a.B}").probe, grpc);
}

#[test]
fn an_instance_belongs_to_the_group_that_it_names_or_whose_labels_it_has() {
    let probe = "tcpSocket: {port: 1}";
    let documents = [
        document("ServiceEntry", ENTRY),
        group("all", "app: a", probe),
        group("narrow", "app: a, version: v2", probe),
        group("named", "app: z", probe),
        instance("i1", "", "app: a", "10.0.0.1"),
        instance("i2", "", "app: a, version: v2", "10.0.0.2"),
        instance("i3", ", annotations: {istio.io/autoRegistrationGroup: named}", "app: a", "10.0.0.3"),
        instance("i4", ", annotations: {istio.io/autoRegistrationGroup: nobody}", "app: a", "10.0.0.4"),
    ];
    let of = |name: &str| format!("WorkloadGroup default/{name}");
    assert_eq!(sources(&documents), [of("all"), of("narrow"), of("named"), String::new()]);
}

#[test]
fn what_of_a_group_has_no_effect_is_named() {
    let group = |spec: &str| named("WorkloadGroup", "name: g", spec);
    for (spec, expected) in [
        ("probe: {§exec: {command: [a]}}", warning("not-supported", "spec.probe.exec", "`exec` is not supported")),
        (
            "probe: {tcpSocket: {port: 1, §host: b}}",
            warning("not-supported", "spec.probe.tcpSocket.host", "`host` is not supported"),
        ),
        ("probe: {§periodSeconds: 3}", error("missing-field", "spec.probe", "does not say what is asked")),
        ("probe: {httpGet: {path: §'/a b', port: 1}}", error("invalid-path", "spec.probe.httpGet.path", "is no path")),
        ("probe: {tcpSocket: {port: §0}}", error("port-range", "spec.probe.tcpSocket.port", "must be in the range")),
        ("probe: {tcpSocket: {port: 1}, timeoutSeconds: §61}", error("range", "spec.probe.timeoutSeconds", "a minute")),
    ] {
        expect(&group(spec), &expected);
    }
    expect(&format!("§{}", group("probe: {tcpSocket: {port: 1}}")), &warning("unused-probe", "", "no WorkloadEntry"));
}

#[test]
fn endpoints_of_a_service_have_the_readiness_probe_of_the_pods_that_it_selects() {
    for kind in ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Pod"] {
        let container = "{name: web, image: x, ports: [{containerPort: 8080, name: web}], \
                         readinessProbe: {httpGet: {path: /ready, port: web}, periodSeconds: 5}, livenessProbe: {exec: {}}}";
        let documents = [
            service("{port: 80, targetPort: web, name: http}"),
            kubernetes(kind, "app: a", container),
            instance("i", "", "app: a", "10.0.0.1"),
        ];
        let check = checks(&documents).remove(0).unwrap();
        assert_eq!(check.source, format!("{kind} default/web-6"));
        assert_eq!(check.port, HealthPort::OfService(80), "the instance has its own port for it");
        assert_eq!(check.interval, Duration::from_secs(5));
    }
}

#[test]
fn a_probe_of_another_port_asks_that_one_and_the_serving_container_counts() {
    let of = |ports: &str, containers: &str| {
        let documents =
            [service(ports), kubernetes("Deployment", "app: a", containers), instance("i", "", "app: a", "10.0.0.1")];
        checks(&documents).remove(0).unwrap()
    };
    let probe = |name: &str, port: u16| format!("{{name: {name}, readinessProbe: {{tcpSocket: {{port: {port}}}}}}}");
    assert_eq!(of("{port: 80, targetPort: 8080}", &probe("a", 9090)).port, HealthPort::Number(9090));
    assert_eq!(of("{port: 80, targetPort: 8080}", &probe("a", 8080)).port, HealthPort::OfService(80));
    assert_eq!(of("{port: 8080}", &probe("a", 8080)).port, HealthPort::OfService(8080));
    let both = format!("{}, {}", probe("side", 15021), probe("main", 8080));
    assert_eq!(of("{port: 80, targetPort: 8080}", &both).port, HealthPort::OfService(80));
}

#[test]
fn where_pods_differ_the_labels_of_the_endpoint_decide_and_a_group_comes_first() {
    let probe = "{name: a, readinessProbe: {tcpSocket: {port: 8080}}}";
    let documents = [
        service("{port: 80, targetPort: 8080}"),
        kubernetes("Deployment", "app: a, version: v1", probe),
        kubernetes("StatefulSet", "app: a, version: v2", probe),
        group("g", "app: a, version: v3", "tcpSocket: {port: 1}"),
        instance("i1", "", "app: a, version: v2", "10.0.0.1"),
        instance("i2", "", "app: a", "10.0.0.2"),
        instance("i3", "", "app: a, version: v3", "10.0.0.3"),
    ];
    let expected = ["StatefulSet default/web-19", "Deployment default/web-19", "WorkloadGroup default/g"];
    assert_eq!(sources(&documents), expected);
}

#[test]
fn pods_that_check_nobody_are_named() {
    let probe = "{name: a, readinessProbe: {tcpSocket: {port: 8080}}}";
    let text = |containers: &str| format!("§{}", kubernetes("Deployment", "app: a", containers));
    expect(&text("{name: a}"), &warning("kind-without-effect", "", "the Deployment has no readinessProbe"));
    expect(&text(probe), &warning("unused-probe", "", "no Service of its namespace selects these pods"));
}
