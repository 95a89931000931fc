//! The mesh listener: services call each other by name.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use meshwright_testkit::{Config, GATEWAY, Launch, Meshwright, Origin, RawClient, binary, gateway_to, mesh_routes};

struct Setting {
    process: Meshwright,
    users: Origin,
    posts: Origin,
    _config: Config,
}

impl Setting {
    fn new(documents: &[&str]) -> Self {
        let (users, posts) = (Origin::named("users"), Origin::named("posts"));
        let config = Config::new(documents);
        let process = Launch::run(binary!())
            .file(config.path())
            .service_at("user-service", users.address())
            .service_at("post-service.blog", posts.address())
            .args(&["--access-log", "text", "--no-watch"])
            .start();
        Self { process, users, posts, _config: config }
    }
}

#[test]
fn every_form_of_a_name_reaches_the_one_service() {
    let setting = Setting::new(&[GATEWAY]);
    for host in [
        "user-service",
        "user-service:8080",
        "User-Service",
        "user-service.default",
        "user-service.default.svc",
        "user-service.default.svc.cluster.local",
        "user-service.default.svc.cluster.local.",
        "user-service.default.svc.cluster.local:80",
    ] {
        let answer = setting.process.mesh_get(host, "/");
        assert_eq!((answer.status, answer.text().as_str()), (200, "users"), "{host}");
    }
    for host in ["post-service.blog", "post-service.blog.svc.cluster.local"] {
        assert_eq!(setting.process.mesh_get(host, "/").text(), "posts", "{host}");
    }
    assert_eq!(setting.users.count(), 8);
    let record = setting.process.record(|record| record.authority() == "user-service.default");
    assert_eq!(record.upstream_cluster(), "outbound|80||user-service.default.svc.cluster.local");
    assert_eq!(record.route_name(), "default");
}

#[test]
fn it_serves_as_an_http_proxy() {
    let setting = Setting::new(&[GATEWAY]);
    let mut client = RawClient::connect(setting.process.mesh());
    client.send(
        "GET http://user-service/users/7?x=1 HTTP/1.1\r\nHost: user-service\r\nProxy-Connection: keep-alive\r\n\r\n",
    );
    assert_eq!(client.response().text(), "users");
    let received = setting.users.last();
    assert_eq!((received.target.as_str(), received.header("host")), ("/users/7?x=1", Some("user-service")));
    // The target's host counts, not the one beside it.
    client.send("GET http://post-service.blog/ HTTP/1.1\r\nHost: user-service\r\n\r\n");
    assert_eq!(client.response().text(), "posts");
}

#[test]
fn an_unknown_host_is_502_and_connect_is_405() {
    let setting = Setting::new(&[GATEWAY]);
    for host in ["example.com", "127.0.0.1", "nobody"] {
        assert_eq!(setting.process.mesh_get(host, "/").status, 502, "{host}");
    }
    let mut client = RawClient::connect(setting.process.mesh());
    client.send("CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n");
    assert_eq!(client.response().status, 405);
    let unknown = setting.process.record(|record| record.authority() == "nobody");
    assert!(unknown.reason().is_some_and(|reason| reason.contains("REGISTRY_ONLY")), "{unknown:?}");
    setting.process.metric_becomes("meshwright_refusals_total", &[("reason", "unknown_host")], 3.0);
    setting.process.metric_becomes("meshwright_refusals_total", &[("reason", "method_not_allowed")], 1.0);
}

#[test]
fn routes_for_the_mesh_do_not_apply_at_the_gateway_and_the_other_way_round() {
    let mesh = mesh_routes(
        "user-service",
        "- match: [{uri: {prefix: /direct}}]
  directResponse: {status: 299, body: {string: mesh}}
- route: [{destination: {host: user-service}}]",
    );
    let gateway = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: at-the-gateway}
spec:
  hosts: [user-service]
  gateways: [gateway]
  http:
    - match: [{uri: {prefix: /direct}}]
      directResponse: {status: 298, body: {string: gateway}}
    - route: [{destination: {host: user-service}}]
";
    let setting = Setting::new(&[GATEWAY, &mesh, gateway]);
    assert_eq!(setting.process.mesh_get("user-service", "/direct").text(), "mesh");
    assert_eq!(setting.process.get("user-service", "/direct").text(), "gateway");
    assert_eq!(setting.process.mesh_get("user-service", "/").text(), "users");
    assert_eq!(setting.process.get("user-service", "/").text(), "users");
}

#[test]
fn a_route_of_the_mesh_alone_opens_nothing_at_the_gateway() {
    let mesh = mesh_routes("user-service", "- directResponse: {status: 299}");
    let setting = Setting::new(&[GATEWAY, &mesh]);
    assert_eq!(setting.process.mesh_get("user-service", "/").status, 299);
    assert_eq!(setting.process.get("user-service", "/").status, 404);
}

#[test]
fn a_virtual_service_may_apply_to_both() {
    let both = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: both}
spec:
  hosts: [user-service]
  gateways: [gateway, mesh]
  http:
    - match: [{gateways: [mesh]}]
      directResponse: {status: 297}
    - route: [{destination: {host: user-service}}]
";
    let setting = Setting::new(&[GATEWAY, both]);
    assert_eq!(setting.process.mesh_get("user-service", "/").status, 297);
    assert_eq!(setting.process.get("user-service", "/").text(), "users");
}

#[test]
fn callers_within_the_mesh_are_trusted_and_callers_at_the_gateway_are_not() {
    let setting = Setting::new(&[&gateway_to("user-service")]);
    let id = "00000000-1111-4222-8333-444444444444";
    let headers = [("x-envoy-decorator", "forged"), ("x-forwarded-proto", "https"), ("x-request-id", id)];
    let mut outside = setting.process.connect();
    assert_eq!(outside.request("GET", "x", "/", &headers, b"").status, 200);
    let received = setting.users.last();
    assert_eq!(received.header("x-envoy-decorator"), None);
    assert_eq!(received.values("x-forwarded-proto"), ["http"]);
    assert_eq!(received.header("x-forwarded-for"), Some("127.0.0.1"));
    let mut inside = RawClient::connect(setting.process.mesh());
    assert_eq!(inside.request("GET", "user-service", "/", &headers, b"").status, 200);
    let received = setting.users.last();
    assert_eq!(received.header("x-request-id"), Some(id));
    assert_eq!(received.values("x-forwarded-proto"), ["https"]);
    assert_eq!(setting.posts.count(), 0);
}
