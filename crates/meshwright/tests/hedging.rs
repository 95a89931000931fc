//! Hedging: a late request that only reads is sent to another endpoint too.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use meshwright_testkit::{
    Config, Http2Client, Http2Origin, Launch, Meshwright, Origin, binary, destination_rule, eventually, gateway_routes,
    resilience_policy,
};

const SVC: [(&str, &str); 1] = [("cluster_name", "outbound|80||svc.default.svc.cluster.local")];

/// A gateway in front of `svc`, whose endpoints take turns; routes give up after a time.
fn with(policy: &str, rule: &str, timeout: &str, endpoints: &[String]) -> (Config, Meshwright) {
    let route = format!("- timeout: {timeout}\n  retries: {{attempts: 0}}\n  route: [{{destination: {{host: svc}}}}]");
    let documents = [gateway_routes(&route), destination_rule("svc", rule), resilience_policy("svc", policy)];
    let config = Config::new(&documents.each_ref().map(String::as_str));
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let process = Launch::run(binary!())
        .file(config.path())
        .service("svc", &endpoints)
        .args(&["--workers", "1", "--no-watch", "--access-log", "text"])
        .start();
    (config, process)
}

const IN_TURN: &str = "{loadBalancer: {simple: ROUND_ROBIN}}";

fn addresses(origins: &[&Origin]) -> Vec<String> {
    origins.iter().map(|origin| origin.address().to_string()).collect()
}

#[test]
fn the_first_answer_wins_and_the_other_try_is_cancelled() {
    let (silent, good) = (Origin::never_answers(), Origin::named("good"));
    let (_config, process) = with("hedging: {delay: 100ms}", IN_TURN, "30s", &addresses(&[&silent, &good]));
    let mut client = process.connect();
    for _ in 0..6 {
        let answer = client.get("x", "/late");
        assert_eq!((answer.status, answer.text().as_str()), (200, "good"));
    }
    assert_eq!(silent.count(), 3, "every other request went there first");
    eventually("the connections to it are closed", || silent.open() == 0);
    process.metric_becomes("meshwright_cluster_hedges_total", &SVC, 3.0);
    process.metric_becomes("meshwright_cluster_hedges_won_total", &SVC, 3.0);
    process.metric_becomes("envoy_cluster_upstream_rq_total", &SVC, 9.0);
    process.metric_becomes("envoy_cluster_upstream_rq_active", &SVC, 0.0);
    process.metric_becomes("envoy_cluster_upstream_rq_retry", &SVC, 0.0);
    process.metric_becomes("istio_requests_total", &[("response_code", "200")], 6.0);
    assert!(process.records().iter().all(|record| record.upstream_host() == good.address().to_string()));
}

#[test]
fn the_first_try_wins_when_it_answers_first() {
    let (slow, silent) = (Origin::answers_after(Duration::from_millis(600), "slow"), Origin::never_answers());
    let (_config, process) = with("hedging: {delay: 100ms}", IN_TURN, "30s", &addresses(&[&slow, &silent]));
    assert_eq!(process.get("x", "/").text(), "slow");
    process.metric_becomes("meshwright_cluster_hedges_total", &SVC, 1.0);
    process.metric_becomes("meshwright_cluster_hedges_won_total", &SVC, 0.0);
    eventually("the hedge is cancelled", || silent.count() == 1 && silent.open() == 0);
}

#[test]
fn a_hedge_that_cannot_connect_leaves_the_first_try_alone() {
    let slow = Origin::answers_after(Duration::from_millis(600), "slow");
    let refusing = meshwright_testkit::RefusingPort::new();
    let endpoints = [slow.address().to_string(), refusing.address().to_string()];
    let (_config, process) = with("hedging: {delay: 100ms}", IN_TURN, "30s", &endpoints);
    assert_eq!(process.get("x", "/").text(), "slow");
    process.metric_becomes("envoy_cluster_upstream_cx_connect_fail", &SVC, 1.0);
}

#[test]
fn what_may_change_something_is_not_sent_twice() {
    let (silent, good) = (Origin::never_answers(), Origin::named("good"));
    let (_config, process) = with("hedging: {delay: 50ms}", IN_TURN, "0.5s", &addresses(&[&silent, &good]));
    let answer = process.connect().request("POST", "x", "/", &[], b"");
    assert_eq!((answer.status, good.count()), (504, 0));
}

#[test]
fn hedges_are_bounded_by_the_retry_budget() {
    let (silent, good) = (Origin::never_answers(), Origin::named("good"));
    let policy = "hedging: {delay: 50ms}\nretryBudget: {percent: 0, minRetryConcurrency: 0}";
    let (_config, process) = with(policy, IN_TURN, "0.5s", &addresses(&[&silent, &good]));
    assert_eq!((process.get("x", "/").status, good.count()), (504, 0));
    process.metric_becomes("envoy_cluster_upstream_rq_retry_overflow", &SVC, 1.0);
    process.metric_becomes("meshwright_cluster_hedges_total", &SVC, 0.0);
}

#[test]
fn late_is_what_takes_longer_than_most_requests_did() {
    let hangs = Arc::new(AtomicBool::new(false));
    let now = hangs.clone();
    let moody = Origin::answers_by(move |_| {
        if now.load(Ordering::SeqCst) {
            std::thread::park_timeout(Duration::from_secs(5));
        }
        (200, "moody".to_owned())
    });
    let good = Origin::named("good");
    let (_config, process) = with("hedging: {percentile: 99}", IN_TURN, "30s", &addresses(&[&moody, &good]));
    let mut client = process.connect();
    (0..100).for_each(|_| drop(client.get("x", "/")));
    hangs.store(true, Ordering::SeqCst);
    let answers = [client.get("x", "/").text(), client.get("x", "/").text()];
    assert_eq!(answers, ["good", "good"]);
    assert!(process.metrics().sum("meshwright_cluster_hedges_won_total", &SVC) >= 1.0);
}

#[test]
fn streams_of_http2_are_hedged_too() {
    let (silent, good) = (Http2Origin::never_answers(), Http2Origin::echoes());
    let endpoints = [silent.address().to_string(), good.address().to_string()];
    let rule = "{loadBalancer: {simple: ROUND_ROBIN}, connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}";
    let (_config, process) = with("hedging: {delay: 100ms}", rule, "30s", &endpoints);
    let client = Http2Client::connect(process.gateway());
    assert!((0..4).all(|_| client.get("x", "/").status == 200));
    process.metric_becomes("meshwright_cluster_hedges_won_total", &SVC, 2.0);
    process.metric_becomes("envoy_cluster_upstream_rq_active", &SVC, 0.0);
}
