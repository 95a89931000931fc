//! Resilience policies in front of services: circuit breakers of every kind, retry budgets, adaptive limits.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use meshwright_testkit::{
    Config, GATEWAY_FOR_BYTES, Launch, Meshwright, Origin, RawClient, RefusingPort, Response, binary, destination_rule,
    eventually, gateway_routes, gateway_to, resilience_policy, service_entry,
};

const CLUSTER: &str = "outbound|80||svc.default.svc.cluster.local";
const SVC: [(&str, &str); 1] = [("cluster_name", CLUSTER)];

/// A gateway in front of `svc` with the blocks of a resilience policy.
fn with(policy: &str, http: &str, origins: &[&Origin]) -> (Config, Meshwright) {
    let routes = if http.is_empty() { gateway_to("svc") } else { gateway_routes(http) };
    let in_turn = destination_rule("svc", "{loadBalancer: {simple: ROUND_ROBIN}}");
    let config = Config::new(&[&routes, &in_turn, &resilience_policy("svc", policy)]);
    let endpoints: Vec<String> = origins.iter().map(|origin| origin.address().to_string()).collect();
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let process = Launch::run(binary!())
        .file(config.path())
        .service("svc", &endpoints)
        .args(&["--workers", "1", "--no-watch", "--access-log", "text"])
        .start();
    (config, process)
}

/// An origin that answers with a status that can be changed.
fn switchable(status: &Arc<AtomicU16>) -> Origin {
    let status = status.clone();
    Origin::answers_by(move |_| (status.load(Ordering::SeqCst), "answer".to_owned()))
}

fn get(process: &Meshwright, target: &str) -> Response {
    process.get("x", target)
}

fn is_refused(response: &Response) -> bool {
    response.status == 503 && response.body == b"circuit breaker is open"
}

/// The state of the breaker as `/clusters` shows it.
fn state(process: &Meshwright) -> String {
    let text = process.admin_get("/clusters").text();
    let line = text.lines().find(|line| line.contains("circuit_breaker::state::")).expect("a breaker").to_owned();
    line.rsplit("::").next().unwrap().to_owned()
}

/// Opens by `open`, refuses without asking the service, lets a probe through and closes.
fn opens_half_opens_and_closes(process: &Meshwright, origin: &Origin, open: impl FnOnce(), heal: impl FnOnce()) {
    open();
    assert_eq!(state(process), "open");
    let asked = origin.count();
    assert!(is_refused(&get(process, "/refused")));
    assert_eq!(origin.count(), asked, "the service is not asked");
    let record = process.record_of("/refused");
    assert_eq!((record.status(), record.flags(), record.details()), (503, "UO", "circuit_breaker_open"));
    process.metric_becomes("meshwright_cluster_circuit_breakers_open", &SVC, 1.0);
    process.metric_becomes("meshwright_cluster_circuit_breaker_openings_total", &SVC, 1.0);
    heal();
    eventually("a probe is let through", || get(process, "/probe").status == 200);
    assert_eq!(state(process), "closed");
    process.metric_becomes("meshwright_cluster_circuit_breakers_open", &SVC, 0.0);
}

#[test]
fn failures_in_a_row_open_a_breaker_that_probes_and_closes() {
    let status = Arc::new(AtomicU16::new(500));
    let origin = switchable(&status);
    let (_config, process) = with("circuitBreaker: {consecutiveFailures: 3, timeout: 3s}", "", &[&origin]);
    let open = || {
        for _ in 0..3 {
            assert_eq!(state(&process), "closed");
            assert_eq!(get(&process, "/").status, 500);
        }
    };
    opens_half_opens_and_closes(&process, &origin, open, || status.store(200, Ordering::SeqCst));
}

#[test]
fn a_failure_rate_opens_a_breaker_at_its_minimum_volume() {
    let status = Arc::new(AtomicU16::new(200));
    let origin = switchable(&status);
    let policy =
        "circuitBreaker: {consecutiveFailures: 0, failurePercent: 50, minimumCalls: 6, windowCalls: 10, timeout: 3s}";
    let (_config, process) = with(policy, "", &[&origin]);
    let open = || {
        for expected in [200, 503, 200, 503, 404, 503] {
            assert_eq!(state(&process), "closed");
            status.store(expected, Ordering::SeqCst);
            assert_eq!(get(&process, "/").status, expected);
        }
    };
    opens_half_opens_and_closes(&process, &origin, open, || status.store(200, Ordering::SeqCst));
}

#[test]
fn slow_answers_open_a_breaker_though_they_succeed() {
    let slow = Arc::new(AtomicU16::new(1));
    let is_slow = slow.clone();
    let origin = Origin::answers_by(move |_| {
        if is_slow.load(Ordering::SeqCst) == 1 {
            std::thread::park_timeout(Duration::from_millis(400));
        }
        (200, "late".to_owned())
    });
    let policy =
        "circuitBreaker: {slowCallDuration: 0.3s, slowCallPercent: 100, minimumCalls: 2, windowTime: 60s, timeout: 3s}";
    let (_config, process) = with(policy, "", &[&origin]);
    let open = || assert_eq!([get(&process, "/").status, get(&process, "/").status], [200, 200]);
    opens_half_opens_and_closes(&process, &origin, open, || slow.store(0, Ordering::SeqCst));
}

#[test]
fn endpoints_that_do_not_answer_open_a_breaker_too() {
    let origin = Origin::resets_before_answering();
    let (_config, process) = with("circuitBreaker: {consecutiveFailures: 2, timeout: 60s}", "", &[&origin]);
    assert!(!is_refused(&get(&process, "/")) && !is_refused(&get(&process, "/")));
    assert!(is_refused(&get(&process, "/")));
}

#[test]
fn an_open_breaker_is_not_retried_and_only_probes_pass_a_half_open_one() {
    let origin = Origin::answers(503, &[], "no");
    let route = "- retries: {attempts: 5, retryOn: 5xx}
  route: [{destination: {host: svc}}]";
    let (_config, process) = with("circuitBreaker: {consecutiveFailures: 2, timeout: 3s}", route, &[&origin]);
    assert!(is_refused(&get(&process, "/")), "the third try finds it open");
    assert_eq!(origin.count(), 2);
    process.metric_becomes("envoy_cluster_upstream_rq_retry", &SVC, 2.0);
    eventually("a probe is let through", || {
        get(&process, "/");
        origin.count() > 2
    });
    assert_eq!(origin.count(), 3, "its retry is refused");
}

#[test]
fn a_breaker_per_endpoint_sends_requests_to_the_others_until_all_are_open() {
    let status = Arc::new(AtomicU16::new(200));
    let (well, ill) = (switchable(&status), Origin::answers(500, &[], "ill"));
    let policy = "circuitBreaker: {scope: ENDPOINT, consecutiveFailures: 2, timeout: 60s}";
    let (_config, process) = with(policy, "", &[&well, &ill]);
    let failed = (0..20).filter(|_| get(&process, "/").status == 500).count();
    assert_eq!((failed, ill.count(), well.count()), (2, 2, 18));
    process.metric_becomes("meshwright_cluster_circuit_breakers_open", &SVC, 1.0);
    let shown = process.admin_get("/clusters").text();
    assert!(shown.contains(&format!("{CLUSTER}::{}::circuit_breaker::state::open", ill.address())), "{shown}");
    assert!(shown.contains(&format!("{CLUSTER}::{}::circuit_breaker::state::closed", well.address())), "{shown}");
    status.store(500, Ordering::SeqCst);
    assert_eq!([get(&process, "/").status, get(&process, "/").status], [500, 500]);
    assert!(is_refused(&get(&process, "/")));
}

#[test]
fn what_an_open_breaker_refuses_is_not_tried_again() {
    let origin = Origin::answers(500, &[], "no");
    let route = "- retries: {attempts: 3, retryOn: '5xx,gateway-error,reset,connect-failure,refused-stream,503'}
  route: [{destination: {host: svc}}]";
    let policy = "circuitBreaker: {consecutiveFailures: 1, timeout: 60s}";
    let (_config, process) = with(policy, route, &[&origin]);
    let first = get(&process, "/first");
    assert!(is_refused(&first), "its retry met the open breaker, which was the last: {first:?}");
    assert_eq!(origin.count(), 1);
    process.metric_becomes("envoy_cluster_upstream_rq_retry", &SVC, 1.0);
    assert!(is_refused(&get(&process, "/refused")));
    let record = process.record_of("/refused");
    assert_eq!((record.status(), record.flags(), record.details()), (503, "UO", "circuit_breaker_open"));
    process.metric_becomes("meshwright_cluster_circuit_breaker_refused_total", &SVC, 2.0);
    process.metric_becomes("envoy_cluster_upstream_rq_retry", &SVC, 1.0);
    assert_eq!(origin.count(), 1);
}

#[test]
fn a_breaker_that_observes_refuses_nothing_and_says_what_it_would_have_done() {
    let origin = Origin::answers(500, &[], "no");
    let policy = "circuitBreaker: {mode: OBSERVE, consecutiveFailures: 2, timeout: 60s}";
    let (_config, process) = with(policy, "", &[&origin]);
    assert!((0..10).all(|_| get(&process, "/").status == 500));
    assert_eq!(origin.count(), 10);
    process.metric_becomes("meshwright_cluster_circuit_breaker_refused_total", &SVC, 8.0);
    assert!(process.admin_get("/clusters").text().contains("circuit_breaker::mode::metrics-only"));
}

#[test]
fn a_breaker_keeps_its_state_over_a_reload_that_does_not_change_it() {
    let origin = Origin::answers(500, &[], "no");
    let policy = "circuitBreaker: {consecutiveFailures: 1, timeout: 60s}";
    let (config, process) = with(policy, "", &[&origin]);
    get(&process, "/");
    assert!(is_refused(&get(&process, "/")));
    let random = destination_rule("svc", "{loadBalancer: {simple: RANDOM}}");
    config.replace(&[&gateway_to("svc"), &random, &resilience_policy("svc", policy)]);
    process.signal(meshwright_testkit::Signal::HUP);
    process.generation_becomes(2.0);
    assert!(is_refused(&get(&process, "/")));
    config.replace(&[&gateway_to("svc"), &random]);
    process.signal(meshwright_testkit::Signal::HUP);
    process.generation_becomes(3.0);
    assert_eq!(get(&process, "/").status, 500);
}

#[test]
fn a_policy_for_every_service_takes_its_preset_from_their_names() {
    let origin = Origin::answers(200, &[], "ok");
    let by_name = resilience_policy("*", "circuitBreaker: {preset: SERVICE_NAME}");
    let config = Config::new(&[&gateway_to("user-service"), &by_name]);
    let address = origin.address().to_string();
    let process = Launch::run(binary!())
        .file(config.path())
        .service("user-service", &[&address])
        .service("payment-service", &[&address])
        .start();
    let dump = process.admin_get("/config_dump").json();
    let of = |name: &str| {
        let clusters = dump["clusters"].as_array().unwrap();
        let cluster = clusters.iter().find(|cluster| cluster["name"].as_str().unwrap().contains(name)).unwrap();
        cluster["circuit_breaker"]["policy"].clone()
    };
    let (users, payments) = (of("|user-service."), of("|payment-service."));
    assert_eq!((&users["max_requests"], &users["timeout"]), (&5.into(), &"120s".into()));
    assert_eq!((&payments["max_requests"], &payments["timeout"]), (&3.into(), &"300s".into()));
    assert_eq!(users["window"]["interval"], "60s");
}

#[test]
fn a_retry_budget_bounds_the_load_that_retries_make() {
    let origin = Origin::answers(503, &[], "no");
    let route = "- retries: {attempts: 3, retryOn: 5xx}
  route: [{destination: {host: svc}}]";
    let (_config, process) = with("retryBudget: {percent: 0, minRetryConcurrency: 0}", route, &[&origin]);
    assert_eq!(get(&process, "/").status, 503);
    assert_eq!(origin.count(), 1);
    process.metric_becomes("envoy_cluster_upstream_rq_retry_overflow", &SVC, 1.0);
    let (_config, process) = with("retryBudget: {percent: 20, minRetryConcurrency: 1}", route, &[&origin]);
    assert_eq!(get(&process, "/").status, 503);
    assert_eq!(origin.count(), 1 + 4);
}

/// Holds a request at an origin that never answers.
fn hold(process: &Meshwright, origin: &Origin, headers: &str) -> RawClient {
    let before = origin.count();
    let mut client = process.connect();
    client.send(format!("GET /held HTTP/1.1\r\nHost: x\r\n{headers}\r\n"));
    eventually("the request is held", || origin.count() == before + 1);
    client
}

#[test]
fn an_adaptive_limit_that_is_enforced_refuses_what_the_service_does_not_bear() {
    let origin = Origin::never_answers();
    let policy = "adaptiveConcurrency: {mode: ENFORCE, initialLimit: 1, minLimit: 1, maxLimit: 1}";
    let (_config, process) = with(policy, "", &[&origin]);
    let held = hold(&process, &origin, "");
    let refused = get(&process, "/refused");
    assert_eq!((refused.status, refused.body.as_slice()), (503, &b"reached concurrency limit"[..]));
    assert_eq!(refused.header("x-envoy-overloaded"), Some("true"));
    let record = process.record_of("/refused");
    assert_eq!((record.flags(), record.details()), ("UO", "reached_concurrency_limit"));
    process.metric_becomes("meshwright_cluster_adaptive_concurrency_in_flight", &SVC, 1.0);
    drop(held);
    process.metric_becomes("meshwright_cluster_adaptive_concurrency_in_flight", &SVC, 0.0);
    drop(hold(&process, &origin, ""));
}

#[test]
fn an_adaptive_limit_observes_unless_told_otherwise() {
    let origin = Origin::never_answers();
    let policy = "adaptiveConcurrency: {initialLimit: 1, minLimit: 1, maxLimit: 1}";
    let (_config, process) = with(policy, "", &[&origin]);
    let _held = [hold(&process, &origin, ""), hold(&process, &origin, "")];
    process.metric_becomes("meshwright_cluster_adaptive_concurrency_in_flight", &SVC, 2.0);
    process.metric_becomes("meshwright_cluster_adaptive_concurrency_refused_total", &SVC, 1.0);
    assert!(process.admin_get("/clusters").text().contains("adaptive_concurrency::mode::observe"));
}

#[test]
fn the_less_critical_is_shed_first() {
    let (busy, count) = (Arc::new(RwLock::new(())), 3);
    let held_back = busy.write().unwrap();
    let free = busy.clone();
    let origin = Origin::answers_by(move |request| {
        let _waited = (request.target == "/held").then(|| free.read());
        (200, "ok".to_owned())
    });
    let policy = "adaptiveConcurrency: {mode: ENFORCE, initialLimit: 4, minLimit: 4, maxLimit: 4, criticalityHeader: X-Criticality}";
    let (_config, process) = with(policy, "", &[&origin]);
    let mut held: Vec<RawClient> = (0..count).map(|_| hold_sent(&process)).collect();
    process.metric_becomes("meshwright_cluster_adaptive_concurrency_in_flight", &SVC, f64::from(count));
    let status_of = |criticality: &str| {
        let mut client = process.connect();
        client.send(format!("GET / HTTP/1.1\r\nHost: x\r\nx-criticality: {criticality}\r\n\r\n"));
        client.response().status
    };
    assert_eq!(status_of("sheddable"), 503);
    assert_eq!(status_of("SHEDDABLE_PLUS"), 200, "80 % of four is a place for the fourth");
    assert_eq!([status_of("critical"), status_of("nonsense"), status_of("critical-plus")], [200; 3]);
    drop(held_back);
    assert!(held.iter_mut().all(|client| client.response().status == 200));
    assert_eq!(status_of("sheddable"), 200);
}

#[test]
fn a_route_says_how_critical_its_requests_are_whatever_their_header_says() {
    let origin = Origin::never_answers();
    let policy = "adaptiveConcurrency: {mode: ENFORCE, initialLimit: 2, minLimit: 2, maxLimit: 2, \
                  criticalityHeader: x-criticality, criticalityByRoute: {reports: sheddable, nobody: critical}}";
    let routes = "- name: reports
  match: [{uri: {prefix: /reports}}]
  route: [{destination: {host: svc}}]
- route: [{destination: {host: svc}}]";
    let (_config, process) = with(policy, routes, &[&origin]);
    assert!(process.stderr().contains("no virtual service has a route of the name nobody"), "{}", process.stderr());
    let _held = hold(&process, &origin, "");
    let mut client = process.connect();
    let shed = client.request("GET", "x", "/reports", &[("x-criticality", "critical-plus")], b"");
    assert_eq!((shed.status, origin.count()), (503, 1), "half of the limit is taken");
    let _other = hold(&process, &origin, "");
}

fn hold_sent(process: &Meshwright) -> RawClient {
    let mut client = process.connect();
    client.send("GET /held HTTP/1.1\r\nHost: x\r\n\r\n");
    client
}

#[test]
fn an_operator_forces_a_breaker_open_over_reloads_and_resets_it() {
    let origin = Origin::answers(200, &[], "ok");
    let policy = "circuitBreaker: {consecutiveFailures: 3}";
    let (config, process) = with(policy, "", &[&origin]);
    let admin = format!("http://{}", process.admin());
    let breakers = |action: &str, service: &str| {
        Launch::command(binary!()).args(&["breakers", action, service, "--admin", &admin]).output()
    };
    let (code, said, error) = breakers("force-open", "svc");
    let scope = "in this process, for all its workers; other proxies have their own";
    let expected = format!("{CLUSTER}: forced-open of 1 circuit breakers\n{scope}");
    assert_eq!((code, said.trim()), (0, &*expected), "{error}");
    let shown = process.admin_get("/clusters").text();
    assert!(shown.contains(&format!("{CLUSTER}::scope::process\n")), "{shown}");
    assert!(is_refused(&get(&process, "/")));
    let changed = resilience_policy("svc", "circuitBreaker: {consecutiveFailures: 4}");
    config.replace(&[&gateway_to("svc"), &changed]);
    process.signal(meshwright_testkit::Signal::HUP);
    process.generation_becomes(2.0);
    assert!(is_refused(&get(&process, "/")), "a new breaker obeys too");
    assert_eq!(breakers("reset", "svc").0, 0);
    assert_eq!(get(&process, "/").status, 200);
    let (code, _, error) = breakers("reset", "nobody");
    assert!(code != 0 && error.contains("nobody"), "{error}");
    let audit = process.admin_get("/audit").text();
    assert!(audit.contains("force-open") && audit.contains("circuit breakers of svc"), "{audit}");
}

/// A third of the endpoints is dead, every request may be tried four times, and sixteen clients ask at once.
#[test]
fn retries_do_not_multiply_the_load_when_a_third_of_the_endpoints_is_dead() {
    let (one, two, dead) = (Origin::named("one"), Origin::named("two"), Origin::answers(503, &[], "dead"));
    let route = "- retries: {attempts: 3, retryOn: 5xx}
  route: [{destination: {host: svc}}]";
    let policy = "circuitBreaker: {scope: ENDPOINT, consecutiveFailures: 2, timeout: 60s}\nretryBudget: {percent: 20}";
    let (_config, process) = with(policy, route, &[&one, &two, &dead]);
    let succeeded: usize = std::thread::scope(|scope| {
        let client = || {
            let mut client = process.connect();
            (0..100).filter(|_| client.get("x", "/").status == 200).count()
        };
        let clients: Vec<_> = (0..16).map(|_| scope.spawn(client)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert!(succeeded >= 1_584, "{succeeded} of 1,600 succeeded");
    let tries = one.count() + two.count() + dead.count();
    assert!(tries <= 1_920, "{tries} tries for 1,600 requests");
}

#[test]
fn connections_for_bytes_that_are_refused_open_a_breaker_too() {
    let refusing = RefusingPort::new();
    let entry = service_entry("svc", "TCP", refusing.address());
    let policy = resilience_policy("svc", "circuitBreaker: {consecutiveFailures: 2, timeout: 60s}");
    let config = Config::new(&[GATEWAY_FOR_BYTES, &entry, &policy]);
    let arguments = ["--map-port", "9000=0", "--access-log", "text", "--workers", "1"];
    let process = Launch::run(binary!()).file(config.path()).args(&arguments).start();
    let connect = || drop(RawClient::try_connect(process.listener(9000).unwrap()));
    (0..2).for_each(|_| connect());
    process.metric_becomes("meshwright_cluster_circuit_breakers_open", &SVC, 1.0);
    process.metric_becomes("envoy_cluster_upstream_cx_total", &SVC, 2.0);
    connect();
    process.metric_becomes("meshwright_cluster_circuit_breaker_refused_total", &SVC, 1.0);
    let record = process.record(|record| record.details() == "circuit_breaker_open");
    assert_eq!(record.flags(), "UO");
    process.metric_becomes("envoy_cluster_upstream_cx_total", &SVC, 2.0);
}
