//! Endpoints that refuse connections, without any configuration: out at the first, back when somebody listens.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use meshwright_testkit::{
    Config, FullPort, GATEWAY_FOR_BYTES, Launch, Meshwright, Origin, RawClient, RefusingPort, binary, eventually,
    gateway_to, service_entry,
};

const SVC: [(&str, &str); 1] = [("cluster_name", "outbound|80||svc.default.svc.cluster.local")];
const FAILED: &str = "envoy_cluster_upstream_cx_connect_fail";
const OUT: &str = "meshwright_cluster_unreachable_endpoints";

/// A gateway in front of `svc`, whose endpoints take turns; `policy` is what else its destination rule says.
fn with(annotation: &str, policy: &str, endpoints: &[String]) -> (Config, Meshwright) {
    let rule = format!(
        "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: svc, annotations: {{{annotation}}}}}
spec:
  host: svc
  trafficPolicy: {{loadBalancer: {{simple: ROUND_ROBIN}}{policy}}}
"
    );
    let config = Config::new(&[&gateway_to("svc"), &rule]);
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let arguments = ["--workers", "1", "--access-log", "text"];
    let process = Launch::run(binary!()).file(config.path()).service("svc", &endpoints).args(&arguments).start();
    (config, process)
}

fn ports(count: usize) -> Vec<RefusingPort> {
    (0..count).map(|_| RefusingPort::new()).collect()
}

fn addresses(ports: &[RefusingPort]) -> Vec<String> {
    ports.iter().map(|port| port.address().to_string()).collect()
}

/// Listens from now on and answers.
fn serve(port: RefusingPort) -> Origin {
    port.listen(|connection| {
        while connection.request()?.is_some() {
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        Ok(())
    })
}

#[test]
fn a_dead_endpoint_of_three_fails_one_try_and_returns_when_it_listens() {
    let mut dead = ports(3);
    let endpoints = addresses(&dead);
    let (_config, process) = with("", "", &endpoints);
    let _well = [serve(dead.remove(0)), serve(dead.remove(0))];
    let mut client = process.connect();
    assert!((0..30).all(|_| client.get("x", "/").status == 200), "nothing was sent, so another endpoint is tried");
    process.metric_becomes(FAILED, &SVC, 1.0);
    process.metric_becomes("envoy_cluster_upstream_rq_retry", &SVC, 1.0);
    process.metric_becomes(OUT, &SVC, 1.0);
    process.metric_becomes("meshwright_cluster_unreachable_ejections_total", &SVC, 1.0);
    process.metric_becomes("envoy_cluster_outlier_detection_ejections_active", &SVC, 1.0);
    process.metric_becomes("envoy_cluster_membership_healthy", &SVC, 2.0);
    let shown = process.admin_get("/clusters?format=json").json();
    let out = &shown["clusters"][0]["endpoints"][2];
    assert_eq!((&out["ejected"], &out["unreachable_cause"]), (&true.into(), &"connection refused".into()), "{out:#}");
    assert!(out["unreachable_for_ms"].is_u64() && out["ejection_ends_in_ms"].is_null(), "{out:#}");
    assert!(out["next_probe_in_ms"].as_u64() <= Some(12_500), "{out:#}");
    assert!(process.admin_get("/clusters").text().contains(&format!("{}::health_flags::/unreachable", endpoints[2])));
    eventually("it is probed", || process.metrics().sum("meshwright_cluster_unreachable_probes_total", &SVC) > 0.0);
    let back = serve(dead.remove(0));
    process.metric_becomes(OUT, &SVC, 0.0);
    assert!((0..6).all(|_| client.get("x", "/").status == 200));
    assert_eq!(back.count(), 2, "it has its turns again");
    process.metric_becomes(FAILED, &SVC, 1.0);
    process.metric_becomes("envoy_cluster_membership_healthy", &SVC, 3.0);
    let said = process.stderr();
    assert!(said.contains("endpoint ejected") && said.contains("connection refused"), "{said}");
    assert!(said.contains("endpoint takes part again"), "{said}");
}

#[test]
fn an_endpoint_that_was_killed_is_met_once() {
    let origins = [Origin::named("one"), Origin::named("two"), Origin::named("three")];
    let endpoints: Vec<String> = origins.iter().map(|origin| origin.address().to_string()).collect();
    let (_config, process) = with("", "", &endpoints);
    let [one, _two, _three] = origins;
    let mut client = process.connect();
    assert!((0..6).all(|_| client.get("x", "/").status == 200));
    drop(one);
    assert!((0..30).all(|_| client.get("x", "/").status == 200));
    process.metric_becomes(FAILED, &SVC, 1.0);
    process.metric_becomes(OUT, &SVC, 1.0);
}

#[test]
fn the_last_endpoint_is_never_taken_out() {
    let mut dead = ports(1);
    let (_config, process) = with("", "", &addresses(&dead));
    for target in ["/one", "/two", "/three"] {
        assert_eq!(process.get("x", target).status, 503);
        assert!(process.record_of(target).flags().starts_with("UF"));
    }
    process.metric_becomes(OUT, &SVC, 0.0);
    assert!(process.metrics().sum("envoy_cluster_outlier_detection_ejections_overflow", &SVC) >= 1.0);
    eventually("the log says why", || process.stderr().contains("no other host could take its requests"));
    let _well = serve(dead.remove(0));
    assert_eq!(process.get("x", "/").status, 200, "it is asked at once");
    let two = ports(2);
    let (_config, process) = with("", ", outlierDetection: {maxEjectionPercent: 100}", &addresses(&two));
    assert!((0..10).all(|_| process.get("x", "/").status == 503));
    process.metric_becomes(OUT, &SVC, 1.0);
}

#[test]
fn no_more_are_out_than_max_ejection_percent_allows() {
    let (dead, well) = (ports(3), Origin::named("well"));
    let mut endpoints = addresses(&dead);
    endpoints.push(well.address().to_string());
    for (policy, expected) in [("", 1.0), (", outlierDetection: {maxEjectionPercent: 50}", 2.0)] {
        let (_config, process) = with("", policy, &endpoints);
        (0..40).for_each(|_| drop(process.get("x", "/")));
        process.metric_becomes(OUT, &SVC, expected);
        let refused = "envoy_cluster_outlier_detection_ejections_overflow";
        assert!(process.metrics().sum(refused, &SVC) >= 1.0);
        assert!(process.stderr().contains("one more would exceed maxEjectionPercent"), "{}", process.stderr());
    }
}

#[test]
fn it_can_be_switched_off_and_outlier_detection_still_counts_refusals() {
    let (dead, well) = (ports(1), Origin::named("well"));
    let endpoints = [dead[0].address().to_string(), well.address().to_string()];
    let off = "meshwright.io/outlier-detection: 'enforcing-unreachable=0'";
    let (_config, process) = with(off, ", outlierDetection: {consecutive5xxErrors: 2}", &endpoints);
    assert!((0..20).all(|_| process.get("x", "/").status == 200));
    process.metric_becomes(FAILED, &SVC, 2.0);
    process.metric_becomes("envoy_cluster_outlier_detection_ejections_enforced_consecutive_5xx", &SVC, 1.0);
    process.metric_becomes(OUT, &SVC, 0.0);
    eventually("the log says so", || process.stderr().contains("0 % of such ejections are enforced"));
}

#[test]
fn an_operator_takes_it_in_again_and_the_next_refusal_takes_it_out() {
    let (dead, well) = (ports(1), Origin::named("well"));
    let endpoints = [dead[0].address().to_string(), well.address().to_string()];
    let (_config, process) = with("", "", &endpoints);
    assert!((0..4).all(|_| process.get("x", "/").status == 200));
    process.metric_becomes(FAILED, &SVC, 1.0);
    let done = process.admin_post(&format!("/endpoints/svc/{}/uneject", endpoints[0]));
    assert_eq!(done.status, 200, "{}", done.text());
    assert!((0..4).all(|_| process.get("x", "/").status == 200));
    process.metric_becomes(FAILED, &SVC, 2.0);
    process.metric_becomes(OUT, &SVC, 1.0);
}

#[test]
fn an_endpoint_that_does_not_answer_in_time_stays_in() {
    let (full, well) = (FullPort::new(), Origin::named("well"));
    let endpoints = [full.address().to_string(), well.address().to_string()];
    let (_config, process) = with("", ", connectionPool: {tcp: {connectTimeout: 300ms}}", &endpoints);
    assert!((0..4).all(|_| process.get("x", "/").status == 200));
    assert!(process.metrics().sum(FAILED, &SVC) >= 2.0);
    process.metric_becomes(OUT, &SVC, 0.0);
}

#[test]
fn connections_for_bytes_leave_a_dead_endpoint_too() {
    let (dead, well) = (RefusingPort::new(), Origin::sends_by(|_| b"hello".to_vec()));
    let entry = service_entry("svc", "TCP", dead.address());
    let (head, _) = entry.split_once("  endpoints:").unwrap();
    let list = [dead.address(), well.address()]
        .map(|at| format!("    - {{address: 127.0.0.1, ports: {{port: {}}}}}\n", at.port()));
    let config = Config::new(&[GATEWAY_FOR_BYTES, &format!("{head}  endpoints:\n{}", list.concat())]);
    let arguments = ["--map-port", "9000=0", "--workers", "1"];
    let process = Launch::run(binary!()).file(config.path()).args(&arguments).start();
    for _ in 0..6 {
        let mut client = RawClient::connect(process.listener(9000).unwrap());
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(client.read_exactly(5), b"hello");
    }
    eventually("it is out", || process.metrics().sum(OUT, &[]) == 1.0);
    assert_eq!(process.metrics().sum(FAILED, &[]), 1.0);
}
