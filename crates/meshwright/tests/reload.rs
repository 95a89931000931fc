//! A new configuration while traffic flows: whole or not at all, and nobody notices.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use meshwright_testkit::{
    Config, GATEWAY, Launch, Meshwright, Origin, RawClient, Signal, binary, eventually, gateway_routes, gateway_to,
    indent, pass,
};

/// Routes that answer with `text`.
fn saying(text: &str) -> String {
    gateway_routes(&format!("- directResponse: {{status: 200, body: {{string: {text}}}}}"))
}

fn start(config: &Config, arguments: &[&str]) -> Meshwright {
    Launch::run(binary!()).file(config.path()).args(arguments).start()
}

fn says(process: &Meshwright, text: &str) {
    eventually(text, || process.get("x", "/").text() == text);
}

const BROKEN: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: broken}\nspec: {hosts: [a], http: [{rute: []}]}\n";

#[test]
fn a_file_that_is_renamed_over_the_old_one_is_taken_over() {
    let config = Config::new(&[&saying("one")]);
    let process = start(&config, &[]);
    says(&process, "one");
    config.replace(&[&saying("two")]);
    says(&process, "two");
    process.generation_becomes(2.0);
    std::fs::write(config.path(), saying("three")).unwrap();
    says(&process, "three");
    let metrics = process.metrics();
    assert_eq!(metrics.value("meshwright_config_last_reload_successful"), 1.0);
    assert_eq!(metrics.value("meshwright_config_reload_failures_total"), 0.0);
}

#[test]
fn a_symlink_that_is_swapped_is_taken_over() {
    // As Kubernetes mounts a ConfigMap: mesh.yaml -> ..data/mesh.yaml, ..data -> a directory of the version.
    let directory = tempfile::tempdir().unwrap();
    let version = |name: &str, text: &str| {
        std::fs::create_dir(directory.path().join(name)).unwrap();
        std::fs::write(directory.path().join(name).join("mesh.yaml"), saying(text)).unwrap();
    };
    version("v1", "one");
    symlink("v1", directory.path().join("..data")).unwrap();
    symlink("..data/mesh.yaml", directory.path().join("mesh.yaml")).unwrap();
    let process = Launch::run(binary!()).file(&directory.path().join("mesh.yaml")).start();
    says(&process, "one");
    version("v2", "two");
    symlink("v2", directory.path().join("..data_tmp")).unwrap();
    std::fs::rename(directory.path().join("..data_tmp"), directory.path().join("..data")).unwrap();
    says(&process, "two");
}

#[test]
fn files_of_a_directory_come_and_go() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("gateway.yaml"), GATEWAY).unwrap();
    let process = Launch::run(binary!()).file(directory.path()).start();
    assert_eq!(process.get("x", "/").status, 404);
    let text = saying("here");
    let routes = text.split_once("---\n").unwrap().1;
    std::fs::write(directory.path().join("routes.yaml"), routes).unwrap();
    says(&process, "here");
    std::fs::remove_file(directory.path().join("routes.yaml")).unwrap();
    eventually("the routes are gone", || process.get("x", "/").status == 404);
}

#[test]
fn sighup_reloads_where_files_are_not_watched() {
    let config = Config::new(&[&saying("one")]);
    let process = start(&config, &["--no-watch"]);
    config.replace(&[&saying("two")]);
    pass(Duration::from_millis(300));
    assert_eq!(process.get("x", "/").text(), "one");
    process.signal(Signal::HUP);
    says(&process, "two");
}

#[test]
fn a_bad_file_changes_nothing_and_is_reported_everywhere() {
    let config = Config::new(&[&saying("good")]);
    let process = start(&config, &[]);
    config.replace(&[&saying("half of it"), BROKEN]);
    process.metric_becomes("meshwright_config_reload_failures_total", &[], 1.0);
    assert_eq!(process.get("x", "/").text(), "good");
    let metrics = process.metrics();
    assert_eq!(metrics.value("meshwright_config_last_reload_successful"), 0.0);
    assert_eq!(metrics.value("meshwright_config_generation"), 1.0);
    let ready = process.admin_get("/ready");
    assert_eq!(ready.status, 200, "the last good configuration serves");
    assert!(ready.text().contains("refused") && ready.text().contains("rute"), "{}", ready.text());
    eventually("the log says it with its place", || {
        let log = process.stderr();
        log.contains("mesh.yaml:") && log.contains("rute")
    });
    config.replace(&[&saying("better")]);
    says(&process, "better");
    assert_eq!(process.metrics().value("meshwright_config_last_reload_successful"), 1.0);
    assert!(!process.admin_get("/ready").text().contains("refused"));
}

#[test]
fn a_file_that_is_gone_changes_nothing() {
    let config = Config::new(&[&saying("good")]);
    let process = start(&config, &[]);
    std::fs::remove_file(config.path()).unwrap();
    process.signal(Signal::HUP);
    process.metric_becomes("meshwright_config_last_reload_successful", &[], 0.0);
    assert_eq!(process.get("x", "/").text(), "good");
}

#[test]
fn listeners_come_and_go_with_the_configuration() {
    let two_ports = "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gateway}
spec:
  servers:
    - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}
    - {port: {number: 81, name: more, protocol: HTTP}, hosts: ['*']}
";
    let text = saying("ok");
    let routes = text.split_once("---\n").unwrap().1;
    let config = Config::new(&[GATEWAY, routes]);
    let process = start(&config, &["--map-port", "81=0"]);
    assert_eq!(process.listener(81), None);
    let mut kept = process.connect();
    assert_eq!(kept.get("x", "/").text(), "ok");
    config.replace(&[two_ports, routes]);
    eventually("the second port is open", || process.listener(81).is_some());
    let address = process.listener(81).unwrap();
    let mut on_second = RawClient::connect(address);
    assert_eq!(on_second.get("x", "/").text(), "ok");
    config.replace(&[GATEWAY, routes]);
    eventually("the second port is closed", || RawClient::try_connect(address).is_err());
    // Connections of the removed listener are served once more, then they end.
    let last = on_second.request("POST", "x", "/", &[], b"x");
    assert_eq!(last.text(), "ok");
    assert!(last.says_close());
    assert_eq!(kept.get("x", "/").text(), "ok");
}

#[test]
fn a_port_that_cannot_be_had_refuses_the_whole_configuration() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let text = saying("one");
    let routes = text.split_once("---\n").unwrap().1;
    let config = Config::new(&[GATEWAY, routes]);
    let process = start(&config, &["--map-port", &format!("81={port}")]);
    let more = GATEWAY.replace("name: gateway", "name: more").replace("number: 80", "number: 81");
    let next = saying("two");
    config.replace(&[&next, &more]);
    process.metric_becomes("meshwright_config_reload_failures_total", &[], 1.0);
    assert_eq!(process.get("x", "/").text(), "one");
    assert!(process.admin_get("/ready").text().contains("cannot listen"), "{}", process.admin_get("/ready").text());
    drop(taken);
    process.signal(Signal::HUP);
    says(&process, "two");
}

#[test]
fn a_keep_alive_connection_and_its_upstream_connection_live_on() {
    let origin = Origin::named("svc");
    let routes = |header: &str| {
        gateway_routes(&format!(
            "- headers: {{response: {{set: {{x-version: '{header}'}}}}}}\n  route: [{{destination: {{host: svc}}}}]"
        ))
    };
    let config = Config::new(&[&routes("1")]);
    let process = Launch::run(binary!())
        .file(config.path())
        .service_at("svc", origin.address())
        .args(&["--workers", "1"])
        .start();
    let mut client = process.connect();
    assert_eq!(client.get("x", "/").header("x-version"), Some("1"));
    for version in ["2", "3", "4"] {
        config.replace(&[&routes(version)]);
        eventually("the connection sees the new routes", || {
            let answer = client.get("x", "/");
            assert_eq!((answer.status, answer.says_close()), (200, false));
            answer.header("x-version") == Some(version)
        });
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_ejection_outlives_a_reload() {
    let (bad, good) = (Origin::answers(500, &[], "bad"), Origin::named("good"));
    let rule = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: svc}
spec:
  host: svc
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    outlierDetection: {consecutive5xxErrors: 2, baseEjectionTime: 300s, maxEjectionPercent: 50}
";
    let config = Config::new(&[&gateway_to("svc"), rule]);
    let process = Launch::run(binary!())
        .file(config.path())
        .service("svc", &[&bad.address().to_string(), &good.address().to_string()])
        .start();
    let mut client = process.connect();
    while bad.count() < 2 {
        client.get("x", "/");
    }
    let labels = [("cluster_name", "outbound|80||svc.default.svc.cluster.local")];
    process.metric_becomes("envoy_cluster_outlier_detection_ejections_active", &labels, 1.0);
    let changed = gateway_routes("- timeout: 5s\n  route: [{destination: {host: svc}}]");
    config.replace(&[&changed, rule]);
    process.generation_becomes(2.0);
    assert_eq!(process.metrics().sum("envoy_cluster_outlier_detection_ejections_active", &labels), 1.0);
    for _ in 0..20 {
        assert_eq!(client.get("x", "/").text(), "good");
    }
    assert_eq!(bad.count(), 2);
}

#[test]
fn endpoints_in_files_change_without_losing_requests() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let entry = |origin: &Origin| {
        format!(
            "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: svc}}
spec:
  hosts: [svc.example]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{http: {}}}}}]
",
            origin.address().port()
        )
    };
    let config = Config::new(&[&gateway_to("svc.example"), &entry(&old)]);
    let process = start(&config, &[]);
    let mut client = process.connect();
    assert_eq!(client.get("x", "/").text(), "old");
    config.replace(&[&gateway_to("svc.example"), &entry(&new)]);
    eventually("the new endpoint serves", || client.get("x", "/").text() == "new");
    eventually("connections to the old one are closed", || old.open() == 0);
}

#[test]
fn a_request_in_flight_ends_at_an_endpoint_that_was_removed_and_a_tunnel_lives_on() {
    let slow = Origin::answers_after(Duration::from_millis(400), "slow");
    let tunnel = Origin::switches_protocol_and_echoes();
    let routes = |service: &str| {
        gateway_routes(&format!(
            "- match: [{{uri: {{prefix: /tunnel}}}}]
  route: [{{destination: {{host: tunnel}}}}]
- route: [{{destination: {{host: {service}}}}}]"
        ))
    };
    let entry = |name: &str, port: u16| {
        format!(
            "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec:
  hosts: [{name}.example]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{http: {port}}}}}]
"
        )
    };
    let next = Origin::named("next");
    let config = Config::new(&[&routes("slow.example"), &entry("slow", slow.address().port())]);
    let process = Launch::run(binary!()).file(config.path()).service_at("tunnel", tunnel.address()).start();
    let mut upgraded = process.connect();
    upgraded.send("GET /tunnel HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(upgraded.head().status, 101);
    let mut client = process.connect();
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually("the request is with the old endpoint", || slow.count() == 1);
    config.replace(&[&routes("next.example"), &entry("next", next.address().port())]);
    eventually("the new configuration runs", || process.get("x", "/").text() == "next");
    assert_eq!(client.response().text(), "slow");
    assert_eq!(client.get("x", "/").text(), "next");
    upgraded.send("still here");
    assert_eq!(upgraded.read_exactly(10), b"still here");
}

/// The n-th configuration of the load test: route, limit and listeners change each time.
fn generation(number: usize) -> String {
    let gateway = if number.is_multiple_of(2) {
        GATEWAY.to_owned()
    } else {
        format!(
            "{GATEWAY}    - {{port: {{number: {}, name: more, protocol: HTTP}}, hosts: ['*']}}\n",
            8100 + number % 4
        )
    };
    let routes = format!(
        "- headers: {{response: {{set: {{x-generation: '{number}'}}}}}}
  route: [{{destination: {{host: svc}}}}]
"
    );
    format!(
        "{gateway}---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: routes}}
spec:
  hosts: ['*']
  gateways: [gateway]
  http:
{}---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: svc}}
spec:
  host: svc
  trafficPolicy: {{connectionPool: {{http: {{http1MaxPendingRequests: {}}}}}}}
",
        indent(&routes, 4),
        1000 + number
    )
}

#[test]
fn thirty_quick_reloads_cost_keep_alive_clients_nothing() {
    reload_under_load(30);
}

#[test]
#[ignore = "longer tier"]
fn two_hundred_reloads_cost_keep_alive_clients_nothing() {
    reload_under_load(200);
}

/// Reloads that often, while clients that never connect again and never repeat a request send POSTs.
fn reload_under_load(reloads: usize) {
    let origins = [Origin::named("ok"), Origin::named("ok")];
    let config = Config::new(&[&generation(0)]);
    let endpoints = origins.each_ref().map(|origin| origin.address().to_string());
    let process = Launch::run(binary!())
        .file(config.path())
        .service("svc", &[&endpoints[0], &endpoints[1]])
        .args(&["--no-watch", "--workers", "2", "--map-port", "8101=0", "--map-port", "8103=0"])
        .start();
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let mut client = process.connect();
            let (stop, answered) = (stop.clone(), answered.clone());
            thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    // Panics on any failure, and never connects again.
                    let answer = client.request("POST", "x", "/", &[], b"never repeated");
                    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
                    assert!(!answer.says_close());
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for number in 1..=reloads {
        let before = answered.load(Ordering::SeqCst);
        config.replace(&[&generation(number)]);
        process.signal(Signal::HUP);
        process.generation_becomes((number + 1) as f64);
        eventually("requests flow", || answered.load(Ordering::SeqCst) > before + 8);
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.join().expect("no request failed");
    }
    let answered = answered.load(Ordering::SeqCst);
    process.metric_becomes("istio_requests_total", &[("response_code", "200")], answered as f64);
    assert_eq!(process.metrics().sum("istio_requests_total", &[]), answered as f64);
    assert_eq!(process.metrics().value("meshwright_downstream_connections_accepted_total"), 8.0);
    assert_eq!(origins.iter().map(Origin::count).sum::<usize>(), answered);
}
