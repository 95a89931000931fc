//! `PREQUAL` asks endpoints for their load, in the background and in bounds, and does without where they say nothing.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use std::sync::Arc;
use std::time::Instant;

use meshwright_client::{LOAD_HEADER, LOAD_PATH, Load};
use meshwright_testkit::{Config, Launch, Meshwright, Origin, Received, binary, eventually, gateway_to, service_entry};
use serde_json::Value;
use support::Backend;

const RULE: &str = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: svc, annotations: {meshwright.io/load-balancer: PREQUAL}}
spec: {host: svc}
";

/// An origin that answers requests with its name and probes like this.
fn origin(name: &'static str, load: impl Fn(&Received) -> String + Send + Sync + 'static) -> Origin {
    Origin::sends_by(move |request| {
        if request.target == LOAD_PATH {
            return load(request).into_bytes();
        }
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len()).into_bytes()
    })
}

fn says(load: &str) -> String {
    format!("HTTP/1.1 204 No Content\r\n{LOAD_HEADER}: {load}\r\n\r\n")
}

fn probes_of(origin: &Origin) -> Vec<Received> {
    origin.requests().into_iter().filter(|request| request.target == LOAD_PATH).collect()
}

fn load_sources(process: &Meshwright) -> Vec<Value> {
    let clusters = process.admin_get("/clusters?format=json").json();
    let endpoints = clusters["clusters"][0]["endpoints"].as_array().unwrap().clone();
    endpoints.into_iter().map(|endpoint| endpoint["load_source"].clone()).collect()
}

#[test]
fn endpoints_are_asked_for_their_load_and_the_idle_one_gets_the_requests() {
    let busy = origin("busy", |_| says("in-flight=50, latency-us=90000"));
    let idle = origin("idle", |_| says("in-flight=0, latency-us=1"));
    let deaf = origin("deaf", |_| "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned());
    let origins = [&busy, &idle, &deaf].map(Origin::address);
    let process = Launch::proxy(binary!(), &origins).args(&["--lb", "prequal", "--workers", "1"]).start();
    let mut client = process.connect();
    let mut sent = 0;
    let mut get = || {
        sent += 1;
        client.get("x", "/").text()
    };
    // Until everybody was asked, what this process measured counts.
    eventually("all have been asked", || {
        get();
        load_sources(&process) == ["probed", "probed", "local"] && probes_of(&deaf).len() == 1
    });
    let from_idle = (0..100).filter(|_| get() == "idle").count();
    assert!(from_idle > 60, "{from_idle}");
    assert_eq!(probes_of(&deaf).len(), 1, "it is asked rarely");
    let probe = probes_of(&idle).swap_remove(0);
    assert_eq!((probe.header("user-agent"), probe.header("x-request-id")), (Some("meshwright-probe"), None));
    let metrics = process.metrics();
    assert_eq!(metrics.sum("envoy_cluster_upstream_rq_total", &[]), f64::from(sent), "probes are no requests");
    assert!(metrics.sum("meshwright_cluster_load_probes_total", &[]) >= 3.0);
    assert_eq!(metrics.sum("meshwright_cluster_load_probes_in_vain_total", &[]), 1.0);
}

#[test]
fn probes_are_bounded_by_a_rate_and_zero_sends_none() {
    let origin = origin("a", |_| says("in-flight=0, latency-us=1"));
    let entry = service_entry("svc", "HTTP", origin.address());
    let rate = |probes: u32| RULE.replace("PREQUAL}", &format!("PREQUAL, meshwright.io/prequal-probes: '{probes}'}}"));
    let config = Config::new(&[&gateway_to("svc"), &entry, &rate(0)]);
    let process = Launch::run(binary!()).file(config.path()).args(&["--workers", "1"]).start();
    let mut client = process.connect();
    (0..50).for_each(|_| assert_eq!(client.get("x", "/").status, 200));
    assert_eq!(process.metrics().sum("meshwright_cluster_load_probes_total", &[]), 0.0);
    config.replace(&[&gateway_to("svc"), &entry, &rate(1)]);
    process.signal(meshwright_testkit::Signal::HUP);
    process.generation_becomes(2.0);
    let begun = Instant::now();
    eventually("it is asked", || {
        assert_eq!(client.get("x", "/").status, 200);
        probes_of(&origin).len() > 1
    });
    (0..50).for_each(|_| assert_eq!(client.get("x", "/").status, 200));
    let most = 2 + begun.elapsed().as_secs() as usize;
    assert!(probes_of(&origin).len() <= most, "one a second");
}

#[test]
fn garbage_and_bodies_without_end_are_no_load_and_no_harm() {
    let garbage = origin("garbage", |_| "no HTTP at all\r\n\r\n".to_owned());
    let endless =
        origin("endless", |_| format!("HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n{}", "x".repeat(900_000)));
    let wrong = origin("wrong", |_| says("in-flight=many"));
    let origins = [&garbage, &endless, &wrong].map(Origin::address);
    let process = Launch::proxy(binary!(), &origins).args(&["--lb", "prequal", "--workers", "1"]).start();
    let mut client = process.connect();
    eventually("all have been asked", || {
        assert_eq!(client.get("x", "/").status, 200);
        process.metrics().sum("meshwright_cluster_load_probes_in_vain_total", &[]) >= 3.0
    });
    assert_eq!(load_sources(&process), ["local"; 3]);
    (0..20).for_each(|_| assert_eq!(client.get("x", "/").status, 200));
    assert_eq!(process.metrics().sum("envoy_cluster_upstream_rq_retry", &[]), 0.0, "no request was disturbed");
}

#[test]
fn echo_is_asked_over_http2_and_a_service_with_the_client_library_over_http1() {
    let load = Arc::new(Load::default());
    let service = Origin::sends_by(move |request| {
        if request.target == LOAD_PATH {
            return says(&load.header()).into_bytes();
        }
        load.begin().answered();
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()
    });
    let backend = Backend::start(&[]);
    for (protocol, address) in [("HTTP2", backend.address), ("HTTP", service.address())] {
        let config = Config::new(&[&gateway_to("svc"), &service_entry("svc", protocol, address), RULE]);
        let process = Launch::run(binary!()).file(config.path()).args(&["--workers", "1"]).start();
        let mut client = process.connect();
        eventually("a probe was the last that was heard", || {
            assert_eq!(client.get("x", "/").status, 200);
            load_sources(&process) == ["probed"]
        });
        assert_eq!(process.metrics().sum("meshwright_cluster_load_probes_in_vain_total", &[]), 0.0, "{protocol}");
    }
}
