//! Retries beyond Istio's default, and the time that a request has left: what services and clients see of them.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use meshwright_testkit::{
    Config, Launch, Meshwright, Origin, RawClient, binary, destination_rule, gateway_routes, gateway_to,
    resilience_policy,
};

const SVC: [(&str, &str); 1] = [("cluster_name", "outbound|80||svc.default.svc.cluster.local")];
const EXPECTED: &str = "x-envoy-expected-rq-timeout-ms";

/// A gateway and the mesh listener in front of `svc`.
fn with(documents: &[&str], origin: &Origin) -> (Config, Meshwright) {
    let config = Config::new(documents);
    let process = Launch::run(binary!())
        .file(config.path())
        .service_at("svc", origin.address())
        .args(&["--workers", "1", "--no-watch", "--access-log", "text"])
        .start();
    (config, process)
}

/// An origin whose answers to the first requests are these, as bytes, and 200 from then on.
fn begins_with(answers: &'static [&'static str]) -> Origin {
    let count = AtomicUsize::new(0);
    Origin::sends_by(move |_| match answers.get(count.fetch_add(1, Ordering::SeqCst)) {
        Some(answer) => format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").into_bytes(),
        None => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(),
    })
}

fn status(process: &Meshwright, method: &str) -> u16 {
    process.connect().request(method, "x", "/", &[], b"").status
}

#[test]
fn a_policy_of_retries_sends_again_what_only_reads() {
    let origin = begins_with(&["503 No", "503 No", "503 No"]);
    let (_config, process) = with(&[&gateway_to("svc"), &resilience_policy("svc", "retries: {}")], &origin);
    assert_eq!((status(&process, "POST"), origin.count()), (503, 1), "it may have been carried out");
    assert_eq!((status(&process, "PUT"), origin.count()), (503, 2));
    assert_eq!((status(&process, "GET"), origin.count()), (200, 4));
    process.metric_becomes("envoy_cluster_upstream_rq_retry", &SVC, 1.0);
}

#[test]
fn a_policy_says_which_methods_and_a_route_overrules_it() {
    let idempotent = resilience_policy("svc", "retries: {methods: IDEMPOTENT, attempts: 1, retryOn: '503'}");
    let origin = begins_with(&["503 No", "503 No"]);
    let (_config, process) = with(&[&gateway_to("svc"), &idempotent], &origin);
    assert_eq!((status(&process, "PUT"), origin.count()), (503, 2), "one retry");
    let route = "- retries: {attempts: 2, retryOn: '409'}\n  route: [{destination: {host: svc}}]";
    let origin = begins_with(&["409 Not now", "409 Not now", "503 No"]);
    let (_config, process) = with(&[&gateway_routes(route), &idempotent], &origin);
    assert_eq!((status(&process, "POST"), origin.count()), (503, 3), "what the route says holds");
}

#[test]
fn a_retry_waits_as_long_as_the_service_asks() {
    let origin = begins_with(&["503 Busy\r\nRetry-After: 1"]);
    let (_config, process) = with(&[&gateway_to("svc"), &resilience_policy("svc", "retries: {}")], &origin);
    let began = Instant::now();
    assert_eq!((status(&process, "GET"), origin.count()), (200, 2));
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
}

#[test]
fn a_service_that_asks_for_too_long_a_pause_is_left_alone_and_the_client_is_told() {
    let policy = resilience_policy("svc", "retries: {maxRetryAfter: 2s}");
    let origin = begins_with(&["503 Busy\r\nRetry-After: 3"]);
    let (_config, process) = with(&[&gateway_to("svc"), &policy], &origin);
    let answer = process.get("x", "/");
    assert_eq!((answer.status, answer.header("retry-after"), origin.count()), (503, Some("3"), 1));
    process.metric_becomes("meshwright_cluster_retry_after_too_long_total", &SVC, 1.0);

    let route = "- timeout: 1s\n  route: [{destination: {host: svc}}]";
    let origin = begins_with(&["503 Busy\r\nRetry-After: 2"]);
    let (_config, process) = with(&[&gateway_routes(route), &policy], &origin);
    assert_eq!((process.get("x", "/").status, origin.count()), (503, 1), "the route's time would be over");
}

#[test]
fn the_retry_budget_of_a_destination_rule_bounds_retries() {
    let route = gateway_routes("- retries: {attempts: 3, retryOn: 5xx}\n  route: [{destination: {host: svc}}]");
    let origin = Origin::answers(503, &[], "no");
    let none = destination_rule("svc", "{retryBudget: {percent: 0, minRetryConcurrency: 0}}");
    let (_config, process) = with(&[&route, &none], &origin);
    assert_eq!((process.get("x", "/").status, origin.count()), (503, 1));
    process.metric_becomes("envoy_cluster_upstream_rq_retry_overflow", &SVC, 1.0);
    let dump = process.admin_get("/config_dump").json();
    assert_eq!(dump["clusters"][0]["limits"]["retry_budget"]["percent"], 0);
    // Our own policy is the narrower word.
    let own = resilience_policy("svc", "retryBudget: {percent: 0, minRetryConcurrency: 5}");
    let (_config, process) = with(&[&route, &none, &own], &origin);
    assert_eq!((process.get("x", "/").status, origin.count()), (503, 5));
}

#[test]
fn the_time_that_is_left_is_told_to_every_try_and_shrinks() {
    let origin = begins_with(&["503 Busy\r\nRetry-After: 1", "503 No"]);
    let route = "- timeout: 30s\n  retries: {attempts: 3, retryOn: 5xx}\n  route: [{destination: {host: svc}}]";
    let (_config, process) = with(&[&gateway_routes(route)], &origin);
    let mut client = process.connect();
    let answer = client.request("POST", "x", "/", &[(EXPECTED, "5")], b"body");
    assert_eq!((answer.status, origin.count()), (200, 3), "strangers have no say");
    let received = origin.requests();
    let left: Vec<u64> = received.iter().map(|request| request.header(EXPECTED).unwrap().parse().unwrap()).collect();
    assert_eq!(left[0], 30_000);
    assert!(left[1] <= 29_000 && left[2] <= left[1] && left[2] > 1_000, "{left:?}");
    assert!(received.iter().all(|request| request.body == b"body"));
    let counts: Vec<_> = received.iter().map(|request| request.header("x-envoy-attempt-count").unwrap()).collect();
    assert_eq!(counts, ["1", "2", "3"]);
}

#[test]
fn a_caller_in_the_mesh_hands_its_deadline_on() {
    let origin = Origin::never_answers();
    let (_config, process) = with(&[&gateway_to("svc")], &origin);
    let mut client = RawClient::connect(process.mesh());
    let answer = client.request("GET", "svc", "/late", &[(EXPECTED, "300")], b"");
    assert_eq!(answer.status, 504);
    assert_eq!(origin.heads(), 1);
    let record = process.record_of("/late");
    assert_eq!(record.flags(), "UT");
    let echo = Origin::named("ok");
    let (_config, process) = with(&[&gateway_to("svc")], &echo);
    let mut client = RawClient::connect(process.mesh());
    assert_eq!(client.request("GET", "svc", "/", &[(EXPECTED, "60000")], b"").status, 200);
    let left: u64 = echo.last().header(EXPECTED).unwrap().parse().unwrap();
    assert!((1..=60_000).contains(&left), "{left}");
    assert_eq!(client.request("GET", "svc", "/", &[], b"").status, 200);
    assert_eq!(echo.last().header(EXPECTED), None, "without a deadline nothing is told");
}
