//! What is answered when a service has no good answer.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use meshwright_testkit::{
    Config, Http2Client, Http2Origin, Launch, Meshwright, Origin, RefusingPort, Response, binary, destination_rule,
    eventually, gateway_routes, gateway_to, resilience_policy, service_entry,
};

const SVC: [(&str, &str); 1] = [("cluster_name", "outbound|80||svc.default.svc.cluster.local")];
const LATER: &str =
    "response: {status: 203, headers: {content-type: application/json, cache-control: no-store}, body: {string: '{}'}}";

const NOBODY: &[&str] = &["127.0.0.1:9"];

/// A gateway to `svc`, which has this fallback, with another service beside it.
fn with(fallback: &str, documents: &[&str], svc: &[&str], other: &[&str]) -> (Config, Meshwright) {
    let policy = resilience_policy("svc", &format!("fallback:\n  {}", fallback.replace('\n', "\n  ")));
    let route = gateway_routes("- retries: {attempts: 0}\n  route: [{destination: {host: svc}}]");
    let mut all = vec![route.as_str(), policy.as_str()];
    all.extend(documents);
    let config = Config::new(&all);
    let process = Launch::run(binary!())
        .file(config.path())
        .service("svc", svc)
        .service("other", other)
        .args(&["--workers", "1", "--no-watch", "--access-log", "text"])
        .start();
    (config, process)
}

fn kind(response: &Response) -> Option<&str> {
    response.header("x-meshwright-fallback")
}

/// An origin that answers with a status that can be changed.
fn switchable(status: &Arc<AtomicU16>) -> Origin {
    let status = status.clone();
    Origin::answers_by(move |_| (status.load(Ordering::SeqCst), "own".to_owned()))
}

#[test]
fn a_fixed_answer_stands_in_while_all_endpoints_are_down_and_no_longer() {
    let status = Arc::new(AtomicU16::new(500));
    let origins = [switchable(&status), switchable(&status)];
    let addresses = origins.each_ref().map(|origin| origin.address().to_string());
    let ejection = destination_rule(
        "svc",
        "{outlierDetection: {consecutive5xxErrors: 1, interval: 0.1s, baseEjectionTime: 2s, maxEjectionPercent: 100}}",
    );
    let (_config, process) = with(LATER, &[&ejection], &addresses.each_ref().map(String::as_str), NOBODY);
    let mut client = process.connect();
    let own = [client.get("x", "/"), client.get("x", "/")];
    assert!(own.iter().all(|answer| answer.status == 500 && kind(answer).is_none()), "an answer is an answer");
    let answer = client.get("x", "/down");
    assert_eq!((answer.status, answer.text().as_str(), kind(&answer)), (203, "{}", Some("response")));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let record = process.record_of("/down");
    assert_eq!((record.status(), record.flags(), record.details()), (203, "UH", "fallback_response"));
    process.metric_becomes("meshwright_cluster_fallback_response_total", &SVC, 1.0);
    status.store(200, Ordering::SeqCst);
    eventually("they are back", || kind(&client.get("x", "/")).is_none());
    let back = client.get("x", "/");
    assert_eq!((back.status, back.text().as_str()), (200, "own"));
}

#[test]
fn an_open_circuit_breaker_is_answered_by_the_fallback() {
    let origin = Origin::answers(500, &[], "own");
    let blocks = format!("circuitBreaker: {{consecutiveFailures: 1, timeout: 60s}}\nfallback:\n  {LATER}");
    let documents = resilience_policy("svc", &blocks);
    let config = Config::new(&[&gateway_to("svc"), &documents]);
    let process = Launch::run(binary!()).file(config.path()).service_at("svc", origin.address()).start();
    assert_eq!(process.get("x", "/").status, 500);
    let answer = process.get("x", "/");
    assert_eq!((answer.status, kind(&answer), origin.count()), (203, Some("response"), 1));
}

#[test]
fn another_destination_is_asked_with_the_same_request() {
    let (refusing, other) = (RefusingPort::new(), Origin::echoes());
    let (svc, elsewhere) = (refusing.address().to_string(), other.address().to_string());
    let (_config, process) = with("destination: {host: other}", &[], &[&svc], &[&elsewhere]);
    let mut client = process.connect();
    let answer = client.request("POST", "x", "/p?q=1", &[("x-one", "1")], b"the body");
    assert_eq!((answer.status, answer.text().as_str(), kind(&answer)), (200, "the body", Some("destination")));
    let received = other.last();
    assert_eq!((received.target.as_str(), received.header("x-one")), ("/p?q=1", Some("1")));
    assert_eq!(received.header("x-envoy-attempt-count"), Some("1"));
    let record = process.record_of("/p?q=1");
    assert_eq!(
        (record.upstream_cluster(), record.details()),
        ("outbound|80||other.default.svc.cluster.local", "fallback_destination")
    );
    process.metric_becomes("meshwright_cluster_fallback_destination_total", &SVC, 1.0);
}

#[test]
fn statuses_are_replaced_where_the_policy_says_so_and_the_fixed_answer_comes_last() {
    let status = Arc::new(AtomicU16::new(503));
    let (own, other) = (switchable(&status), RefusingPort::new());
    let (svc, elsewhere) = (own.address().to_string(), other.address().to_string());
    let fallback = format!("statuses: [502, 503]\ndestination: {{host: other}}\n{LATER}");
    let (_config, process) = with(&fallback, &[], &[&svc], &[&elsewhere]);
    let mut client = process.connect();
    let answer = client.request("POST", "x", "/", &[], b"body");
    assert_eq!((answer.status, kind(&answer), own.count()), (203, Some("response"), 1));
    status.store(500, Ordering::SeqCst);
    let answer = client.get("x", "/");
    assert_eq!((answer.status, kind(&answer)), (500, None));
    let (_config, process) = with("statuses: [503]\ndestination: {host: other}", &[], &[&svc], &[&elsewhere]);
    status.store(503, Ordering::SeqCst);
    let answer = process.get("x", "/");
    assert_eq!((answer.status, kind(&answer)), (503, None));
}

#[test]
fn the_other_destination_may_speak_another_protocol() {
    let (refusing, other) = (RefusingPort::new(), Http2Origin::echoes());
    let svc = refusing.address().to_string();
    let entry = service_entry("modern.example", "HTTP2", other.address());
    let (_config, process) = with("destination: {host: modern.example}", &[&entry], &[&svc], NOBODY);
    let answer = process.get("x", "/");
    assert_eq!((answer.status, kind(&answer)), (200, Some("destination")));
    let mut client = process.connect();
    let answer = client.request("POST", "x", "/", &[], b"body");
    assert_eq!((answer.status, kind(&answer)), (503, None), "a body that was framed for HTTP/1 is not framed anew");
}

#[test]
fn a_client_of_http2_gets_the_fallback_too() {
    let refusing = RefusingPort::new();
    let (_config, process) = with(LATER, &[], &[&refusing.address().to_string()], NOBODY);
    let answer = Http2Client::connect(process.gateway()).get("x", "/");
    assert_eq!((answer.status, answer.header("x-meshwright-fallback")), (203, Some("response")));
}

#[test]
fn a_destination_that_does_not_exist_is_warned_about() {
    let policy = resilience_policy("svc", "fallback: {destination: {host: nobody}}");
    let config = Config::new(&[&gateway_to("svc"), &policy]);
    let path = config.path().display().to_string();
    let arguments = ["validate", "-f", &path, "--service", "svc=127.0.0.1:9"];
    let (code, said, _) = Launch::command(binary!()).args(&arguments).output();
    assert_eq!(code, 79, "{said}");
    assert!(said.contains("fallback destination nobody does not exist"), "{said}");
}
