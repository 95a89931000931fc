//! What is asked of `ServiceEntry`, `WorkloadEntry`, Kubernetes `Service` and `EndpointSlice`.

use meshwright_model::{EndpointAddress, EndpointPorts, PortProtocol, Resolution};

use crate::case::{document, error, expect, mesh, warning};

fn entry(spec: &str) -> String {
    document("ServiceEntry", spec)
}

fn service(spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: a}}\nspec:\n  {}\n", spec.replace('\n', "\n  "))
}

fn slice(body: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: a-1, labels: {{kubernetes.io/service-name: a, \
         version: v1}}}}\naddressType: IPv4\n{body}\n"
    )
}

const PORTS: &str = "ports: [{number: 80, name: http, protocol: HTTP}]";

#[test]
fn every_mistake_in_a_service_entry_is_named_at_its_place() {
    let cases = [
        (format!("§{PORTS}"), error("missing-field", "spec.hosts", "service entry must have at least one host")),
        (format!("hosts: [§'*']\n{PORTS}"), error("invalid-host", "spec.hosts[0]", "invalid host *")),
        (
            "hosts: [a.b]\nports: [{number: 80, name: a, protocol: HTTP}, {number: 81, name: §a, protocol: HTTP}]"
                .to_owned(),
            error("duplicate-name", "spec.ports[1].name", "service entry port name \"a\" already defined"),
        ),
        (
            "hosts: [a.b]\nports: [{number: 80, name: a, protocol: HTTP}, {number: §80, name: b, protocol: HTTP}]"
                .to_owned(),
            error("duplicate-name", "spec.ports[1].number", "service entry port 80 already defined"),
        ),
        (
            "hosts: [a.b]\nports: [{number: 80, name: §A_b, protocol: HTTP}]".to_owned(),
            error("invalid-name", "spec.ports[0].name", "invalid port name: A_b"),
        ),
        (
            "hosts: [a.b]\nports: [{number: 80, name: a, protocol: §HTPP}]".to_owned(),
            error("unknown-value", "spec.ports[0].protocol", "unsupported protocol: HTPP"),
        ),
        (
            format!("hosts: [a.b]\n{PORTS}\n§endpoints: [{{address: 1.2.3.4}}]"),
            error("contradiction", "spec.endpoints", "no endpoints should be provided for resolution type none"),
        ),
        (
            format!("hosts: [a.b]\n{PORTS}\nresolution: STATIC\nendpoints: [{{address: §1.2.3.400}}]"),
            error(
                "invalid-address",
                "spec.endpoints[0].address",
                "endpoint address \"1.2.3.400\" is not a valid IP address",
            ),
        ),
        (
            format!("hosts: [a.b]\n{PORTS}\nresolution: STATIC\nendpoints: [{{address: §name.example.com}}]"),
            error("invalid-address", "spec.endpoints[0].address", "is not a valid IP address"),
        ),
        (
            format!("hosts: [§'*.a.b']\n{PORTS}\nresolution: DNS"),
            error(
                "invalid-host",
                "spec.hosts[0]",
                "hosts must be FQDN or contain only prefix wildcards if no endpoints are provided for resolution mode DNS",
            ),
        ),
        (
            format!(
                "hosts: [a.b]\n{PORTS}\nresolution: DNS_ROUND_ROBIN\n§endpoints: [{{address: a.c}}, {{address: a.d}}]"
            ),
            error(
                "contradiction",
                "spec.endpoints",
                "there must only be 0 or 1 endpoint for resolution mode DNS_ROUND_ROBIN",
            ),
        ),
        (
            format!("hosts: [a.b]\n{PORTS}\nresolution: DNS\naddresses: [§10.0.0.0/8]"),
            error(
                "contradiction",
                "spec.addresses[0]",
                "CIDR addresses are allowed only for NONE/STATIC resolution types",
            ),
        ),
        (
            format!("hosts: [a.b]\n{PORTS}\nresolution: STATIC\nendpoints: [{{address: 1.2.3.4, ports: {{§web: 1}}}}]"),
            error(
                "unknown-value",
                "spec.endpoints[0].ports.web",
                "endpoint port web is not defined by the service entry",
            ),
        ),
        (
            format!(
                "hosts: [a.b]\n{PORTS}\nresolution: STATIC\nendpoints: [{{address: 1.2.3.4}}]\n§workloadSelector: {{labels: {{a: b}}}}"
            ),
            error(
                "choice",
                "spec.workloadSelector",
                "only one of WorkloadSelector or Endpoints is allowed in Service Entry",
            ),
        ),
        (
            format!("hosts: [a.b]\n{PORTS}\nresolution: STATIC\nendpoints: [{{§ports: {{http: 1}}}}]"),
            error("invalid-address", "spec.endpoints[0].address", "address is required"),
        ),
        (
            format!(
                "hosts: [a.b]\n{PORTS}\nresolution: STATIC\nendpoints: [{{address: §unix:///a, ports: {{http: 1}}}}]"
            ),
            error("contradiction", "spec.endpoints[0].address", "unix endpoint unix:///a must not include ports"),
        ),
    ];
    for (spec, expected) in &cases {
        expect(&entry(spec), expected);
    }
}

#[test]
fn a_service_entry_that_cannot_be_served_is_said_to_be() {
    let cases = [
        (
            format!("hosts: [a.b]\n{PORTS}\nresolution: §NONE"),
            warning("not-supported", "spec.resolution", "resolution NONE"),
        ),
        (
            format!("hosts: ['*.a.b']\n{PORTS}\nresolution: §DYNAMIC_DNS"),
            warning("not-supported", "spec.resolution", "resolution DYNAMIC_DNS"),
        ),
        (
            format!("hosts: [a.b]\n{PORTS}\nresolution: §STATIC"),
            warning("no-endpoints", "spec.resolution", "STATIC needs endpoints or workloadSelector"),
        ),
        (
            "§hosts: [a.b]\nresolution: DNS".to_owned(),
            warning("missing-field", "spec.ports", "the service entry has no ports"),
        ),
        (
            format!("hosts: [a.b]\n{PORTS}\nresolution: STATIC\n§workloadSelector: {{labels: {{app: b}}}}"),
            warning("IST0127", "spec.workloadSelector", "no WorkloadEntry of namespace default has the labels app=b"),
        ),
        (
            format!("hosts: [a.b]\n{PORTS}\nresolution: STATIC\nendpoints: [{{address: §unix:///a}}]"),
            warning("not-supported", "spec.endpoints[0].address", "unix sockets are not supported"),
        ),
        (
            "hosts: [a.b]\nports: [{number: 443, name: https, protocol: §UDP}]\nresolution: DNS".to_owned(),
            warning("not-supported", "spec.ports[0].protocol", "UDP ports are not routed"),
        ),
    ];
    for (spec, expected) in &cases {
        expect(&entry(spec), expected);
    }
    assert!(mesh(&entry(&format!("hosts: [a.b]\n{PORTS}"))).services.is_empty());
}

#[test]
fn workload_entries_are_checked_and_found_by_their_labels() {
    expect(
        &document("WorkloadEntry", "§labels: {app: a}"),
        &error("invalid-address", "spec.address", "address is required"),
    );
    expect(
        &document("WorkloadEntry", "address: 10.0.0.1\nports: {http: §0}"),
        &error("port-range", "spec.ports.http", "port number 0 must be in the range"),
    );
    expect(
        &format!("§{}", document("WorkloadEntry", "address: 10.0.0.1")),
        &warning("unused-endpoints", "", "no service of its namespace selects this instance"),
    );
    let text = format!(
        "{}---\n{}---\n{}",
        entry(
            "hosts: [a]\nports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]\nresolution: STATIC\nworkloadSelector: {labels: {app: a}}"
        ),
        document(
            "WorkloadEntry",
            "address: 10.0.0.1\nweight: 3\nlocality: r/z\nports: {http: 9000}\nlabels: {app: a, version: v2}"
        ),
        "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: b, labels: {app: a}}\nspec: {address: '::1'}\n",
    );
    let mesh = mesh(&text);
    let service = &mesh.services[0];
    assert_eq!(service.host, "a.default.svc.cluster.local");
    assert_eq!(service.short_name.as_deref(), Some("a"));
    assert_eq!(service.resolution, Resolution::Static);
    assert_eq!(service.endpoints.len(), 2);
    assert_eq!((service.endpoints[0].weight, service.endpoints[0].locality.as_str()), (3, "r/z"));
    assert_eq!(service.socket_port(&service.endpoints[0], 80), 9000);
    assert_eq!(service.socket_port(&service.endpoints[1], 80), 8080);
}

#[test]
fn every_host_of_a_service_entry_is_a_service_resolved_by_its_own_name() {
    let mesh = mesh(&entry(
        "hosts: [a.example.com, b.example.com]\nports: [{number: 80, name: http, protocol: HTTP}]\nresolution: DNS",
    ));
    let names: Vec<(&str, String)> =
        mesh.services.iter().map(|service| (service.host.as_str(), service.endpoints[0].address.to_string())).collect();
    assert_eq!(names, [("a.example.com", "a.example.com".to_owned()), ("b.example.com", "b.example.com".to_owned())]);
    assert_eq!(mesh.services[0].socket_port(&mesh.services[0].endpoints[0], 80), 80);
}

#[test]
fn kubernetes_services_are_checked() {
    let cases = [
        ("§selector: {a: b}", error("missing-field", "spec.ports", "the service has no ports")),
        (
            "ports: [{port: 80, name: a}, {port: 81, name: §a}]",
            error("duplicate-name", "spec.ports[1].name", "port names in a service must be unique: duplicate name a"),
        ),
        (
            "ports: [{port: 80, name: a}, {§port: 81}]",
            error("duplicate-name", "spec.ports[1].name", "port name must be set: 81"),
        ),
        ("ports: [{port: §0}]", error("port-range", "spec.ports[0].port", "port number 0 must be in the range")),
        (
            "type: ExternalName\nexternalName: §a_b",
            error("invalid-host", "spec.externalName", "invalid externalName \"a_b\""),
        ),
        (
            "ports: [{port: 80}]\nsessionAffinity: §ClientIP",
            warning("not-supported", "spec.sessionAffinity", "ClientIP"),
        ),
        (
            "ports: [{port: 80, name: a, protocol: §UDP}]",
            warning("not-supported", "spec.ports[0].protocol", "UDP ports"),
        ),
        (
            "ports: [{port: 80, name: a, appProtocol: §udp}]",
            warning("not-supported", "spec.ports[0].appProtocol", "udp ports"),
        ),
    ];
    for (spec, expected) in &cases {
        expect(&service(spec), expected);
    }
    expect(
        &format!("§{}", service("ports: [{port: 80}]")),
        &warning("no-endpoints", "", "the service has no endpoints here"),
    );
}

#[test]
fn a_dump_of_a_cluster_is_read_without_complaints_about_what_only_clusters_know() {
    let text = format!(
        "{}---\n{}",
        "apiVersion: v1\nkind: Service\nmetadata: {name: a, uid: x, resourceVersion: '5', creationTimestamp: 2024-01-01, \
         annotations: {k: v}, labels: {app: a}}\nspec: {clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1], type: NodePort, \
         ports: [{port: 80, targetPort: 8080, nodePort: 30000, protocol: TCP, name: http}], sessionAffinity: None}\nstatus: \
         {loadBalancer: {}}\n",
        slice(
            "endpoints:\n- {addresses: [10.0.0.2], conditions: {ready: true}, nodeName: n, zone: z1, targetRef: {kind: Pod}}\nports: [{name: http, port: 8080, protocol: TCP}]"
        ),
    );
    let outcome = crate::case::read(&text);
    assert!(outcome.diagnostics.is_empty(), "{:#?}", outcome.diagnostics);
}

#[test]
fn endpoint_slices_are_joined_to_their_service_by_label_and_port_name() {
    let text = format!(
        "{}---\n{}",
        service(
            "ports: [{port: 80, targetPort: web, name: http-web}, {port: 9, targetPort: 99, name: http-admin}, {port: 6, name: tcp-x}]"
        ),
        slice(
            "endpoints:\n- {addresses: [10.0.0.2, 10.0.0.3], zone: z1}\n- {addresses: [10.0.0.4], conditions: {ready: false}}\n- \
             {addresses: [10.0.0.5], conditions: {ready: null}}\nports: [{name: http-web, port: 8080}]"
        ),
    );
    let mesh = mesh(&text);
    let service = &mesh.services[0];
    let addresses: Vec<String> = service.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect();
    assert_eq!(addresses, ["10.0.0.2", "10.0.0.5"]);
    assert_eq!(service.endpoints[0].labels["version"], "v1");
    assert_eq!(service.endpoints[0].labels.len(), 1);
    assert_eq!(service.socket_port(&service.endpoints[0], 80), 8080);
    assert_eq!(service.socket_port(&service.endpoints[0], 9), 99);
    assert_eq!(service.ports[2].protocol, PortProtocol::Tcp);
    expect(
        &format!("§{}", slice("endpoints: []")),
        &warning("unused-endpoints", "", "there is no Service \"a\" in namespace default"),
    );
    expect(
        &slice("endpoints: [{addresses: [§10.0.0.256]}]"),
        &error("invalid-address", "endpoints[0].addresses[0]", "is not a valid IP address"),
    );
}

#[test]
fn a_kubernetes_service_selects_workload_entries_with_named_target_ports() {
    let text = format!(
        "{}---\n{}",
        service("selector: {app: a}\nports: [{port: 80, targetPort: web, name: http}]"),
        document("WorkloadEntry", "address: 10.0.0.1\nports: {web: 8081}\nlabels: {app: a}"),
    );
    let mesh = mesh(&text);
    assert_eq!(mesh.services[0].socket_port(&mesh.services[0].endpoints[0], 80), 8081);
}

#[test]
fn an_external_name_is_resolved_by_dns() {
    let mesh = mesh(&service("type: ExternalName\nexternalName: API.example.com."));
    let service = &mesh.services[0];
    assert_eq!(service.resolution, Resolution::Dns);
    assert_eq!(service.endpoints[0].address, EndpointAddress::Name("api.example.com".to_owned()));
    assert!(matches!(service.endpoints[0].ports, EndpointPorts::ByName(_)));
    assert_eq!(service.socket_port(&service.endpoints[0], 8080), 8080);
}
