//! The main job: a gateway and a traffic split, from two unedited files, in front of real services.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use meshwright_testkit::{Config, Launch, Meshwright, Origin, RawClient, binary};

const GATEWAY: &str = include_str!("../../config/tests/data/gateway.yaml");
const CANARY: &str = include_str!("../../config/tests/data/canary.yaml");

/// What `canary.yaml` needs beside it.
const SUBSETS: &str = "\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: user-service
spec:
  host: user-service
  subsets:
    - {name: v1, labels: {version: v1}}
    - {name: v2, labels: {version: v2}}
";

struct Services {
    users: [Origin; 2],
    posts: Origin,
}

impl Services {
    fn start() -> Self {
        Self { users: [Origin::echoes(), Origin::echoes()], posts: Origin::echoes() }
    }
}

fn gateway(services: &Services) -> (Config, Meshwright) {
    let config = Config::new(&[GATEWAY]);
    let users = services.users.each_ref().map(|origin| origin.address().to_string());
    let process = Launch::run(binary!())
        .file(config.path())
        .service("user-service", &[&users[0], &users[1]])
        .service_at("post-service", services.posts.address())
        .args(&["--access-log", "text"])
        .start();
    (config, process)
}

#[test]
fn method_path_query_headers_and_body_reach_the_service_and_come_back() {
    let services = Services::start();
    let (_config, process) = gateway(&services);
    let mut client = process.connect();
    let headers = [("X-Custom", "one"), ("x-custom", "two"), ("Cookie", "a=b; c=d"), ("Accept", "*/*")];
    let answer = client.request("PUT", "api.example.com", "/users/7?full=1&q=%20", &headers, b"the body");
    assert_eq!((answer.status, answer.text().as_str()), (200, "the body"));
    assert_eq!(answer.header("x-method"), Some("PUT"));
    assert_eq!(answer.header("x-target"), Some("/users/7?full=1&q=%20"));
    let received: Vec<_> = services.users.iter().flat_map(Origin::requests).collect();
    assert_eq!(received.len(), 1);
    let received = &received[0];
    assert_eq!(received.body, b"the body");
    assert_eq!(received.header("host"), Some("api.example.com"));
    assert_eq!(received.values("x-custom"), ["one", "two"]);
    assert_eq!(received.header("cookie"), Some("a=b; c=d"));
    assert_eq!(received.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(received.header("x-forwarded-proto"), Some("http"));
    assert_eq!(received.header("x-request-id").map(str::len), Some(36));
    assert!(answer.header("x-envoy-upstream-service-time").is_some());

    let record = process.record_of("/users/7?full=1&q=%20");
    assert_eq!(record.request(), "PUT /users/7?full=1&q=%20 HTTP/1.1");
    assert_eq!((record.status(), record.flags(), record.details()), (200, "-", "via_upstream"));
    assert_eq!((record.bytes_received(), record.bytes_sent()), ("8", "8"));
    assert_eq!(record.authority(), "api.example.com");
    assert_eq!(record.upstream_cluster(), "outbound|8080||user-service.default.svc.cluster.local");
    let labels = [
        ("destination_service_name", "user-service"),
        ("response_code", "200"),
        ("reporter", "source"),
        ("request_protocol", "http"),
    ];
    process.metric_becomes("istio_requests_total", &labels, 1.0);
}

#[test]
fn each_prefix_has_its_service_and_its_instances_take_turns() {
    let services = Services::start();
    let (_config, process) = gateway(&services);
    let mut client = process.connect();
    for index in 0..10 {
        assert_eq!(client.get("api.example.com", &format!("/users/{index}")).status, 200);
        assert_eq!(client.get("api.example.com", &format!("/posts/{index}")).status, 200);
    }
    assert_eq!(services.posts.count(), 10);
    assert_eq!(services.users.each_ref().map(Origin::count), [5, 5], "round robin over two instances");
    assert!(services.posts.requests().iter().all(|request| request.target.starts_with("/posts/")));
    // maxRequestsPerConnection is 2 in the file.
    assert!(services.users[0].connections() >= 3, "{} connections", services.users[0].connections());
    assert_eq!(services.posts.connections(), 1, "keep-alive to the other service");
}

#[test]
fn the_circuit_breaker_of_the_file_takes_a_failing_instance_out() {
    let (bad, good, posts) = (Origin::answers(503, &[], "bad"), Origin::named("good"), Origin::named("posts"));
    let config = Config::new(&[GATEWAY]);
    let process = Launch::run(binary!())
        .file(config.path())
        .service("user-service", &[&bad.address().to_string(), &good.address().to_string()])
        .service_at("post-service", posts.address())
        .start();
    let mut client = process.connect();
    let statuses: Vec<u16> = (0..40).map(|_| client.get("api.example.com", "/users").status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 503).count(), 3, "{statuses:?}");
    assert_eq!(bad.count(), 3);
    let labels = [("cluster_name", "outbound|8080||user-service.default.svc.cluster.local")];
    process.metric_becomes("envoy_cluster_outlier_detection_ejections_active", &labels, 1.0);
    let dump = process.admin_get("/config_dump").json();
    let clusters = dump["clusters"].as_array().unwrap();
    let cluster = clusters.iter().find(|cluster| cluster["name"] == labels[0].1).unwrap();
    assert_eq!(cluster["limits"]["max_connections"], 100);
    assert_eq!(cluster["limits"]["max_pending"], 50);
    assert_eq!(cluster["max_requests_per_connection"], 2);
    assert_eq!(cluster["outlier_detection"]["max_ejection_percent"], 50);
}

#[test]
fn what_the_gateway_does_not_serve_is_404() {
    let services = Services::start();
    let (_config, process) = gateway(&services);
    assert_eq!(process.get("api.example.com", "/").status, 404);
    assert_eq!(process.get("other.example.com", "/users").status, 404);
    assert_eq!(process.record_of("/").flags(), "NR");
    let total: usize = services.users.iter().chain([&services.posts]).map(Origin::count).sum();
    assert_eq!(total, 0);
    process.metric_becomes("istio_requests_total", &[("response_code", "404"), ("response_flags", "NR")], 2.0);
}

fn canary() -> (Config, Meshwright, Origin, Origin) {
    let (v1, v2) = (Origin::named("v1"), Origin::named("v2"));
    let config = Config::new(&[CANARY, SUBSETS]);
    let process = Launch::run(binary!())
        .file(config.path())
        .service("user-service", &[&format!("{};version=v1", v1.address()), &format!("{};version=v2", v2.address())])
        .start();
    (config, process, v1, v2)
}

#[test]
fn the_header_version_v2_leads_to_the_subset_v2() {
    let (_config, process, v1, v2) = canary();
    let mut client = RawClient::connect(process.mesh());
    for _ in 0..50 {
        let answer = client.request("GET", "user-service", "/users/7", &[("version", "v2")], b"");
        assert_eq!(answer.text(), "v2");
    }
    assert_eq!((v1.count(), v2.count()), (0, 50));
    let labels = [("destination_version", "v2"), ("response_code", "200")];
    process.metric_becomes("istio_requests_total", &labels, 50.0);
}

#[test]
fn requests_without_the_header_are_split_90_to_10() {
    let (_config, process, v1, v2) = canary();
    let mut client = RawClient::connect(process.mesh());
    for _ in 0..2000 {
        assert_eq!(client.get("user-service", "/").status, 200);
    }
    assert_eq!(v1.count() + v2.count(), 2000);
    // Six standard deviations of a binomial distribution with n = 2000, p = 0.1 are 80.
    assert!((120..=280).contains(&v2.count()), "v2 got {} of 2000", v2.count());
    process.metric_becomes("istio_requests_total", &[("destination_version", "v1")], v1.count() as f64);
    process.metric_becomes("istio_requests_total", &[("destination_version", "v2")], v2.count() as f64);
}

#[test]
fn both_files_run_together_and_the_split_does_not_apply_at_the_gateway() {
    let (v1, v2) = (Origin::named("v1"), Origin::named("v2"));
    let config = Config::new(&[GATEWAY, CANARY]);
    let process = Launch::run(binary!())
        .file(config.path())
        .service("user-service", &[&format!("{};version=v1", v1.address()), &format!("{};version=v2", v2.address())])
        .start();
    let mut client = process.connect();
    for _ in 0..10 {
        assert_eq!(client.request("GET", "api.example.com", "/users", &[("version", "v2")], b"").status, 200);
    }
    assert_eq!((v1.count(), v2.count()), (5, 5), "at the gateway every instance takes its turn");
    // Nobody has defined the subsets: the mesh route has no cluster.
    assert_eq!(process.mesh_get("user-service", "/").status, 503);
}
