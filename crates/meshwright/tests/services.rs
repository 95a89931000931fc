//! Services from every kind of document, their ports, their endpoints and their subsets.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use meshwright_testkit::{
    Config, GATEWAY, Launch, Meshwright, Origin, RawClient, binary, eventually, gateway_routes, gateway_to,
};

fn start(documents: &[&str]) -> (Config, Meshwright) {
    let config = Config::new(documents);
    let process = Launch::run(binary!()).file(config.path()).args(&["--workers", "1", "--access-log", "text"]).start();
    (config, process)
}

fn names(process: &Meshwright, host: &str, count: usize) -> Vec<String> {
    let mut client = RawClient::connect(process.mesh());
    let mut names: Vec<String> = (0..count).map(|_| client.get(host, "/").text()).collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn a_kubernetes_service_with_its_endpoint_slice_is_served() {
    let (a, b, not_ready) = (Origin::named("a"), Origin::named("b"), Origin::named("not ready"));
    let slice = |name: &str, origin: &Origin, ready: bool| {
        format!(
            "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, namespace: shop, labels: {{kubernetes.io/service-name: cart}}}}
addressType: IPv4
endpoints: [{{addresses: [127.0.0.1], conditions: {{ready: {ready}}}}}]
ports: [{{name: http, port: {}, protocol: TCP}}]
",
            origin.address().port()
        )
    };
    let service = "apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec:
  ports: [{name: http, port: 8080, targetPort: 9090}]
";
    let documents = [
        GATEWAY.to_owned(),
        service.to_owned(),
        slice("cart-1", &a, true),
        slice("cart-2", &b, true),
        slice("cart-3", &not_ready, false),
    ];
    let (_config, process) = start(&documents.each_ref().map(String::as_str));
    assert_eq!(names(&process, "cart.shop", 40), ["a", "b"]);
    assert_eq!(names(&process, "cart.shop.svc.cluster.local:8080", 40), ["a", "b"]);
    assert_eq!(not_ready.count(), 0);
    eventually("the log is written", || process.records().len() == 80);
    assert!(
        process
            .records()
            .iter()
            .all(|record| record.upstream_cluster() == "outbound|8080||cart.shop.svc.cluster.local")
    );
}

#[test]
fn each_port_of_a_service_has_its_own_endpoints() {
    let (web, admin) = (Origin::named("web"), Origin::named("admin"));
    let entry = format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: two-ports}}
spec:
  hosts: [two.example]
  ports:
    - {{number: 80, name: web, protocol: HTTP}}
    - {{number: 8081, name: admin, protocol: HTTP}}
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{web: {}, admin: {}}}}}]
",
        web.address().port(),
        admin.address().port()
    );
    let routes = gateway_routes(
        "- match: [{uri: {prefix: /admin}}]
  route: [{destination: {host: two.example, port: {number: 8081}}}]
- route: [{destination: {host: two.example, port: {number: 80}}}]",
    );
    let (_config, process) = start(&[&routes, &entry]);
    assert_eq!(process.get("x", "/admin").text(), "admin");
    assert_eq!(process.get("x", "/").text(), "web");
    assert_eq!(process.mesh_get("two.example:8081", "/").text(), "admin");
    assert_eq!(process.mesh_get("two.example", "/").text(), "web");
}

#[test]
fn workload_entries_become_endpoints_by_their_labels() {
    let (v1, v2, other) = (Origin::named("v1"), Origin::named("v2"), Origin::named("other"));
    let workload = |name: &str, origin: &Origin, labels: &str| {
        format!(
            "apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: {name}}}
spec: {{address: 127.0.0.1, ports: {{http: {}}}, labels: {labels}}}
",
            origin.address().port()
        )
    };
    let documents = [
        gateway_routes(
            "- match: [{headers: {version: {exact: v2}}}]
  route: [{destination: {host: vm.example, subset: v2}}]
- route: [{destination: {host: vm.example}}]",
        ),
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: vm}
spec:
  hosts: [vm.example]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  location: MESH_INTERNAL
  workloadSelector: {labels: {app: vm}}
"
        .to_owned(),
        "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: vm}
spec:
  host: vm.example
  subsets: [{name: v2, labels: {version: v2}}]
"
        .to_owned(),
        workload("one", &v1, "{app: vm, version: v1}"),
        workload("two", &v2, "{app: vm, version: v2}"),
        workload("three", &other, "{app: other}"),
    ];
    let (_config, process) = start(&documents.each_ref().map(String::as_str));
    assert_eq!(names(&process, "vm.example", 40), ["v1", "v2"]);
    let mut client = process.connect();
    for _ in 0..10 {
        assert_eq!(client.request("GET", "x", "/", &[("version", "v2")], b"").text(), "v2");
    }
    assert_eq!(other.count(), 0);
}

#[test]
fn a_subset_without_endpoints_is_503_uh_and_another_subset_serves() {
    let v1 = Origin::named("v1");
    let rule = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: svc}
spec:
  host: svc
  subsets:
    - {name: v1, labels: {version: v1}}
    - {name: v9, labels: {version: v9}}
";
    let routes = gateway_routes(
        "- match: [{uri: {prefix: /v9}}]
  route: [{destination: {host: svc, subset: v9}}]
- route: [{destination: {host: svc, subset: v1}}]",
    );
    let config = Config::new(&[&routes, rule]);
    let process = Launch::run(binary!())
        .file(config.path())
        .service("svc", &[&format!("{};version=v1", v1.address())])
        .args(&["--access-log", "text"])
        .start();
    assert_eq!(process.get("x", "/").text(), "v1");
    assert_eq!(process.get("x", "/v9").status, 503);
    let record = process.record_of("/v9");
    assert_eq!((record.flags(), record.upstream_cluster()), ("UH", "outbound|80|v9|svc.default.svc.cluster.local"));
}

#[test]
fn a_subset_may_have_a_policy_of_its_own() {
    let (v1, v2) = (Origin::never_answers(), Origin::named("v2"));
    let rule = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: svc}
spec:
  host: svc
  subsets:
    - name: v1
      labels: {version: v1}
      trafficPolicy: {connectionPool: {http: {http2MaxRequests: 1}}}
    - {name: v2, labels: {version: v2}}
";
    let routes = gateway_routes(
        "- match: [{uri: {prefix: /v1}}]
  route: [{destination: {host: svc, subset: v1}}]
- route: [{destination: {host: svc, subset: v2}}]",
    );
    let config = Config::new(&[&routes, rule]);
    let process = Launch::run(binary!())
        .file(config.path())
        .service("svc", &[&format!("{};version=v1", v1.address()), &format!("{};version=v2", v2.address())])
        .start();
    let mut held = process.connect();
    held.send("GET /v1 HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually("the request is with the service", || v1.count() == 1);
    assert_eq!(process.get("x", "/v1").status, 503);
    assert_eq!(process.get("x", "/v2").text(), "v2");
}

#[test]
fn services_and_gateways_work_over_ipv6() {
    let origin = Origin::named("six");
    let config = Config::new(&[&gateway_to("svc")]);
    let process = Launch::command(binary!())
        .args(&["run", "--bind", "::1", "--map-port", "80=0", "--mesh", "[::1]:0", "--admin", "[::1]:0"])
        .args(&["--access-log", "text"])
        .file(config.path())
        .service_at("svc", origin.address())
        .start();
    assert!(process.gateway().is_ipv6() && process.mesh().is_ipv6() && process.admin().is_ipv6());
    assert_eq!(process.get("[::1]:80", "/").text(), "six");
    assert_eq!(process.mesh_get("svc", "/mesh").text(), "six");
    assert_eq!(origin.requests()[0].header("x-forwarded-for"), Some("::1"));
    assert_eq!(process.record_of("/").authority(), "[::1]:80");
}
