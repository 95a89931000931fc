//! Active health checks: whom they take out and bring back, where they come from, and where none goes.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use meshwright_testkit::{
    Authority, Config, Launch, Meshwright, Origin, RefusingPort, TlsServer, binary, destination_rule, eventually,
    gateway_to, resilience_policy,
};
use support::Backend;

const SVC: [(&str, &str); 1] = [("cluster_name", "outbound|80||svc.default.svc.cluster.local")];

/// Every check of a test that is not about times: often, and one answer decides.
const OFTEN: &str = "interval: 50ms, unhealthyThreshold: 1, healthyThreshold: 1";

/// An origin whose checks are answered with a status that can be changed.
struct Patient {
    origin: Origin,
    status: Arc<AtomicU16>,
}

impl Patient {
    fn new(status: u16) -> Self {
        let status = Arc::new(AtomicU16::new(status));
        let of_checks = Arc::clone(&status);
        let origin = Origin::answers_by(move |request| match request.target.as_str() {
            "/" => (200, String::new()),
            _ => (of_checks.load(Ordering::SeqCst), String::new()),
        });
        Self { origin, status }
    }

    fn is(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn address(&self) -> SocketAddr {
        self.origin.address()
    }

    /// Requests of clients that came.
    fn served(&self) -> usize {
        self.targets().iter().filter(|target| *target == "/").count()
    }

    /// Checks that came.
    fn checked(&self) -> usize {
        self.targets().iter().filter(|target| *target != "/").count()
    }

    fn targets(&self) -> Vec<String> {
        self.origin.requests().into_iter().map(|request| request.target).collect()
    }
}

fn start(endpoints: &[SocketAddr], documents: &[&str], arguments: &[&str]) -> (Config, Meshwright) {
    let gateway = gateway_to("svc");
    let config = Config::new(&[&[gateway.as_str()], documents].concat());
    let endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let launch = Launch::run(binary!()).file(config.path()).service("svc", &endpoints);
    (config, launch.args(&["--workers", "2"]).args(arguments).start())
}

fn policy(check: &str) -> String {
    resilience_policy("svc", &format!("healthCheck: {{{check}}}"))
}

/// What `/clusters` says of the check of an endpoint.
fn check_of(process: &Meshwright, address: SocketAddr) -> serde_json::Value {
    let clusters = process.admin_get("/clusters?format=json").json();
    let endpoints = clusters["clusters"][0]["endpoints"].as_array().unwrap().clone();
    let found = endpoints.into_iter().find(|endpoint| endpoint["address"] == address.to_string());
    found.unwrap()["health_check"].clone()
}

fn becomes(process: &Meshwright, address: SocketAddr, state: &str) {
    eventually(state, || check_of(process, address)["state"] == state);
}

/// Both endpoints get some of these requests, which all succeed.
fn serve_both(process: &Meshwright, origins: [&Patient; 2]) {
    let before = origins.map(Patient::served);
    assert!((0..40).all(|_| process.get("x", "/").status == 200));
    assert!(origins.iter().zip(before).all(|(origin, before)| origin.served() > before));
}

/// The first gets all of these requests.
fn serve_first(process: &Meshwright, [first, second]: [&Patient; 2]) {
    let before = (first.served(), second.served());
    assert!((0..40).all(|_| process.get("x", "/").status == 200));
    assert_eq!((first.served(), second.served()), (before.0 + 40, before.1));
}

#[test]
fn the_flag_alone_asks_for_health_and_whoever_is_not_well_gets_nothing() {
    let (well, ill) = (Patient::new(200), Patient::new(500));
    let (_config, process) = start(&[well.address(), ill.address()], &[], &["--health"]);
    becomes(&process, well.address(), "healthy");
    becomes(&process, ill.address(), "unhealthy");
    serve_first(&process, [&well, &ill]);
    let request = well.origin.requests().into_iter().find(|request| request.target != "/").unwrap();
    assert_eq!((request.method.as_str(), request.target.as_str()), ("GET", "/health"));
    assert_eq!(request.header("host"), Some(well.address().to_string().as_str()));
    let check = check_of(&process, ill.address());
    assert_eq!((&check["state"], &check["last"]), (&"unhealthy".into(), &"HTTP status 500".into()), "{check:#}");
    assert_eq!(check["source"], "--health");
    assert!(check["next_in_ms"].as_u64().unwrap() <= 33_000, "{check:#}");
    let lines = process.admin_get("/clusters").text();
    assert!(lines.contains(&format!("{}::health_flags::/failed_active_hc", ill.address())), "{lines}");
    assert!(lines.contains("::health_check::last::health check: HTTP status 500"), "{lines}");
    let metrics = process.metrics();
    for (name, value) in [
        ("envoy_cluster_membership_healthy", 1.0),
        ("envoy_cluster_health_check_healthy", 1.0),
        ("envoy_cluster_health_check_network_failure", 0.0),
    ] {
        assert_eq!(metrics.sum(name, &SVC), value, "{name}");
    }
    // On a slow machine there may be more by now.
    for (name, least) in [
        ("envoy_cluster_health_check_attempt", 2.0),
        ("envoy_cluster_health_check_success", 1.0),
        ("envoy_cluster_health_check_failure", 1.0),
    ] {
        assert!(metrics.sum(name, &SVC) >= least, "{name}");
    }
    eventually("the log says why", || {
        let log = process.stderr();
        log.contains("endpoint unhealthy: health check") && log.contains("HTTP status 500")
    });
}

#[test]
fn without_the_flag_nobody_is_asked_and_with_a_path_it_is_that_one() {
    let (first, second) = (Patient::new(200), Patient::new(200));
    let (_config, process) = start(&[first.address()], &[], &[]);
    assert_eq!(process.get("x", "/").status, 200);
    assert_eq!(first.checked(), 0);
    assert_eq!(check_of(&process, first.address()), serde_json::Value::Null);
    assert_eq!(process.metrics().count("envoy_cluster_health_check_attempt", &[]), 0);
    let (_config, process) = start(&[second.address()], &[], &["--health", "/ready?full=1"]);
    becomes(&process, second.address(), "healthy");
    assert!(second.targets().iter().all(|target| target == "/ready?full=1"));
}

#[test]
fn a_proxy_of_some_targets_checks_them_too() {
    let (well, ill) = (Patient::new(200), Patient::new(503));
    let process = Launch::proxy(binary!(), &[well.address(), ill.address()]).args(&["--health"]).start();
    becomes(&process, well.address(), "healthy");
    becomes(&process, ill.address(), "unhealthy");
    serve_first(&process, [&well, &ill]);
}

#[test]
fn redirects_are_not_followed_and_are_no_success_unless_they_are_expected() {
    let other = Patient::new(200);
    let location = format!("http://{}/health", other.address());
    let moved = Origin::answers(302, &[("location", &location)], "");
    let (_config, process) = start(&[moved.address()], &[], &["--health"]);
    becomes(&process, moved.address(), "unhealthy");
    assert_eq!(check_of(&process, moved.address())["last"], "HTTP status 302");
    let check = policy(&format!("http: {{expectedStatuses: [200, 300-399]}}, {OFTEN}"));
    let (_config, process) = start(&[moved.address()], &[&check], &[]);
    becomes(&process, moved.address(), "healthy");
    assert_eq!(other.origin.connections(), 0);
}

#[test]
fn when_all_are_ill_there_is_panic_and_all_are_asked_as_with_ejections() {
    let (first, second) = (Patient::new(500), Patient::new(500));
    let (_config, process) = start(&[first.address(), second.address()], &[], &["--health"]);
    becomes(&process, first.address(), "unhealthy");
    becomes(&process, second.address(), "unhealthy");
    serve_both(&process, [&first, &second]);
}

#[test]
fn metadata_and_link_local_addresses_are_refused() {
    for address in ["169.254.169.254:80", "[fe80::1]:80", "100.100.100.200:80", "[fd00:ec2::254]:80"] {
        let config = Config::new(&[&gateway_to("svc")]);
        let launch = Launch::run(binary!()).file(config.path()).service("svc", &[address]);
        let (code, _, stderr) = launch.args(&["--health"]).output();
        assert_eq!(code, 65, "{stderr}");
        assert!(stderr.contains("health checks are not sent to"), "{stderr}");
    }
    let config = Config::new(&[&gateway_to("svc"), &policy("tcp: {}")]);
    let launch = Launch::run(binary!()).file(config.path()).service("svc", &["169.254.0.7:80"]);
    let (code, _, stderr) = launch.output();
    assert_eq!(code, 65, "{stderr}");
    assert!(stderr.contains("ResiliencePolicy default/resilience would send requests there"), "{stderr}");
}

#[test]
fn endpoints_go_out_and_come_back_by_thresholds_without_another_configuration() {
    let (steady, patient) = (Patient::new(200), Patient::new(200));
    let check = policy("interval: 50ms, unhealthyThreshold: 3, healthyThreshold: 2");
    let (_config, process) = start(&[steady.address(), patient.address()], &[&check], &[]);
    becomes(&process, steady.address(), "healthy");
    becomes(&process, patient.address(), "healthy");
    serve_both(&process, [&steady, &patient]);
    patient.is(500);
    becomes(&process, patient.address(), "unhealthy");
    let check = check_of(&process, patient.address());
    assert!(check["failures"].as_u64().unwrap() >= 3, "{check:#}");
    serve_first(&process, [&steady, &patient]);
    patient.is(200);
    becomes(&process, patient.address(), "healthy");
    serve_both(&process, [&steady, &patient]);
    assert_eq!(process.metrics().value("meshwright_config_generation"), 1.0);
    eventually("the log has both", || {
        let log = process.stderr();
        log.contains("failures=3") && log.contains("endpoint healthy: health check")
    });
}

#[test]
fn a_flap_within_the_thresholds_moves_no_traffic() {
    let steady = Patient::new(200);
    let count = AtomicU16::new(0);
    let flap = Origin::answers_by(move |request| match request.target.as_str() {
        "/" => (200, "flapping".to_owned()),
        // Two failures, then a success.
        _ => (if count.fetch_add(1, Ordering::SeqCst) % 3 == 2 { 200 } else { 500 }, String::new()),
    });
    let check = policy("interval: 20ms, intervalJitter: 0s, unhealthyThreshold: 3, initialState: HEALTHY");
    let (_config, process) = start(&[steady.address(), flap.address()], &[&check], &[]);
    eventually("there were many checks", || {
        assert_eq!(process.get("x", "/").status, 200);
        flap.requests().iter().filter(|request| request.target != "/").count() >= 30
    });
    assert!(!process.stderr().contains("endpoint unhealthy"), "{}", process.stderr());
    assert_eq!(check_of(&process, flap.address())["state"], "healthy");
    assert!((0..100).any(|_| process.get("x", "/").body == b"flapping"));
}

#[test]
fn a_connection_is_enough_for_tcp_and_none_is_a_failure_of_the_network() {
    let (well, refusing) = (Patient::new(500), RefusingPort::new());
    let check = policy(&format!("tcp: {{}}, {OFTEN}"));
    let (_config, process) = start(&[well.address(), refusing.address()], &[&check], &[]);
    becomes(&process, refusing.address(), "unhealthy");
    becomes(&process, well.address(), "healthy");
    assert!((0..20).all(|_| process.get("x", "/").status == 200));
    assert_eq!(process.metrics().sum("envoy_cluster_upstream_cx_connect_fail", &SVC), 0.0, "nobody met it");
    assert!(process.metrics().sum("envoy_cluster_health_check_network_failure", &SVC) > 0.0);
    assert!(check_of(&process, refusing.address())["last"].as_str().unwrap().contains("refused"));
    let address = refusing.address();
    let healed = refusing.listen(|connection| {
        while connection.request()?.is_some() {
            connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
        }
        Ok(())
    });
    becomes(&process, address, "healthy");
    eventually("it serves", || process.get("x", "/").status == 200 && !healed.requests().is_empty());
}

#[test]
fn an_endpoint_that_does_not_answer_in_time_is_unhealthy() {
    let (well, silent) = (Patient::new(200), Origin::never_answers());
    let check = policy(&format!("http: {{path: /health}}, timeout: 100ms, {OFTEN}"));
    let (_config, process) = start(&[well.address(), silent.address()], &[&check], &[]);
    becomes(&process, silent.address(), "unhealthy");
    assert_eq!(check_of(&process, silent.address())["last"], "no answer in 100 ms");
}

#[test]
fn grpc_servers_are_asked_by_the_health_protocol() {
    let (grpc, plain) = (Backend::start(&[]), Patient::new(200));
    let check = policy(&format!("grpc: {{}}, timeout: 20s, {OFTEN}"));
    let (_config, process) = start(&[grpc.address, plain.address()], &[&check], &[]);
    becomes(&process, grpc.address, "healthy");
    assert_eq!(check_of(&process, grpc.address)["last"], "SERVING");
    becomes(&process, plain.address(), "unhealthy");
    let check = policy(&format!("grpc: {{service: no.such.Service}}, timeout: 20s, {OFTEN}"));
    let (_config, process) = start(&[grpc.address], &[&check], &[]);
    becomes(&process, grpc.address, "unhealthy");
    let last = check_of(&process, grpc.address)["last"].as_str().unwrap().to_owned();
    assert!(last.contains("gRPC status 5") || last == "SERVICE_UNKNOWN", "{last}");
}

#[test]
fn checks_have_the_tls_that_requests_have() {
    let authority = Authority::new("mesh");
    let origin = Origin::echoes_over_tls(&TlsServer::new(&authority.server(&["svc.example.com"])));
    let rule = destination_rule("svc", "{tls: {mode: SIMPLE, caCertificates: ca.pem, sni: svc.example.com}}");
    let check = policy(OFTEN);
    let config = Config::new(&[&gateway_to("svc"), &rule, &check]);
    authority.write(config.directory(), "ca.pem");
    let launch = Launch::run(binary!()).file(config.path()).service("svc", &[&origin.address().to_string()]);
    let process = launch.start();
    becomes(&process, origin.address(), "healthy");
    let paths: BTreeSet<String> = origin.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(paths, BTreeSet::from(["/health".to_owned()]));
}

#[test]
fn an_endpoint_that_joins_waits_for_its_first_success_unless_it_begins_healthy() {
    let silent = Origin::never_answers();
    for (initial, state) in [("UNHEALTHY", "pending"), ("HEALTHY", "healthy")] {
        let check = policy(&format!("initialState: {initial}, interval: 60s, timeout: 60s"));
        let (_config, process) = start(&[silent.address()], &[&check], &[]);
        eventually("it is being checked", || check_of(&process, silent.address())["next_in_ms"].is_null());
        assert_eq!(check_of(&process, silent.address())["state"], state);
    }
}

#[test]
fn a_reload_keeps_what_is_known_and_one_without_the_check_forgets_it() {
    let (well, ill) = (Patient::new(200), Patient::new(500));
    let check = policy(OFTEN);
    let (config, process) = start(&[well.address(), ill.address()], &[&check], &[]);
    becomes(&process, well.address(), "healthy");
    becomes(&process, ill.address(), "unhealthy");
    let rule = destination_rule("svc", "{loadBalancer: {simple: ROUND_ROBIN}}");
    config.replace(&[&gateway_to("svc"), &check, &rule]);
    process.generation_becomes(2.0);
    serve_first(&process, [&well, &ill]);
    config.replace(&[&gateway_to("svc"), &rule]);
    process.generation_becomes(3.0);
    assert_eq!(check_of(&process, ill.address()), serde_json::Value::Null);
    serve_both(&process, [&well, &ill]);
    config.replace(&[&gateway_to("svc"), &policy("interval: 60s"), &rule]);
    process.generation_becomes(4.0);
    eventually("the first failure is known", || check_of(&process, ill.address())["failures"] == 1);
    assert_eq!(check_of(&process, ill.address())["state"], "healthy", "it was in use, and one is not three");
    serve_both(&process, [&well, &ill]);
}

/// A service entry `svc` on port 80 whose instances are the documents with the label `app: a`.
const SELECTING: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: svc}
spec:
  hosts: [svc]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  workloadSelector: {labels: {app: a}}
";

fn instance(name: &str, address: SocketAddr) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: {name}}}
spec: {{address: {}, ports: {{http: {}}}, labels: {{app: a}}}}
",
        address.ip(),
        address.port()
    )
}

#[test]
fn the_probe_of_a_workload_group_is_carried_out_on_its_instances() {
    let (well, ill) = (Patient::new(302), Patient::new(404));
    let group = "apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: group}
spec:
  metadata: {labels: {app: a}}
  template: {ports: {http: 8080}}
  probe: {httpGet: {path: /ready, port: http}, periodSeconds: 1, failureThreshold: 1}
";
    let entries = [instance("well", well.address()), instance("ill", ill.address())];
    let config = Config::new(&[&gateway_to("svc"), SELECTING, group, &entries[0], &entries[1]]);
    let process = Launch::run(binary!()).file(config.path()).start();
    becomes(&process, well.address(), "healthy");
    becomes(&process, ill.address(), "unhealthy");
    let check = check_of(&process, ill.address());
    assert_eq!((&check["source"], &check["last"]), (&"WorkloadGroup default/group".into(), &"HTTP status 404".into()));
    serve_first(&process, [&well, &ill]);
    assert!(well.targets().contains(&"/ready".to_owned()));
    ill.is(200);
    becomes(&process, ill.address(), "healthy");
    serve_both(&process, [&well, &ill]);
}

#[test]
fn the_readiness_probe_of_a_deployment_checks_the_endpoints_of_the_service_that_selects_it() {
    let (well, ill) = (Patient::new(200), Patient::new(500));
    let documents = "apiVersion: v1
kind: Service
metadata: {name: svc}
spec: {selector: {app: a}, ports: [{name: http, port: 80, targetPort: web}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: svc, labels: {app: a}}
spec:
  replicas: 2
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      containers:
      - name: web
        image: registry.example.com/web:1
        ports: [{name: web, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /ready, port: web}, periodSeconds: 1, failureThreshold: 1}
";
    let entries = [instance("well", well.address()), instance("ill", ill.address())];
    let config = Config::new(&[&gateway_to("svc"), documents, &entries[0], &entries[1]]);
    let process = Launch::run(binary!()).file(config.path()).start();
    becomes(&process, well.address(), "healthy");
    becomes(&process, ill.address(), "unhealthy");
    assert_eq!(check_of(&process, ill.address())["source"], "Deployment default/svc");
    serve_first(&process, [&well, &ill]);
}
