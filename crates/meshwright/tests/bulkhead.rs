//! Bulkheads: how many requests each endpoint may have in flight, whatever asks.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use meshwright_testkit::{
    Config, GATEWAY_FOR_BYTES, Grpc, Http2Client, Launch, Meshwright, Origin, PATIENCE, RawClient, binary,
    destination_rule, eventually, gateway_routes, gateway_to, resilience_policy, service_entry,
};

const SVC: [(&str, &str); 1] = [("cluster_name", "outbound|80||svc.default.svc.cluster.local")];
const ONE: &str = "bulkhead: {maxRequestsPerEndpoint: 1}";

/// A gateway in front of `svc`, whose endpoints take turns.
fn with(policy: &str, routes: &str, workers: &str, origins: &[&Origin]) -> (Config, Meshwright) {
    let routes = if routes.is_empty() { gateway_to("svc") } else { gateway_routes(routes) };
    let in_turn = destination_rule("svc", "{loadBalancer: {simple: ROUND_ROBIN}}");
    let config = Config::new(&[&routes, &in_turn, &resilience_policy("svc", policy)]);
    let endpoints: Vec<String> = origins.iter().map(|origin| origin.address().to_string()).collect();
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let arguments = ["--workers", workers, "--no-watch", "--access-log", "text"];
    let process = Launch::run(binary!()).file(config.path()).service("svc", &endpoints).args(&arguments).start();
    (config, process)
}

/// Holds a request at one of the origins, none of which ever answers.
fn hold(process: &Meshwright, origins: &[&Origin]) -> RawClient {
    let count = || origins.iter().map(|origin| origin.count()).sum::<usize>();
    let before = count();
    let mut client = process.connect();
    client.send("GET /held HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually("the request is held", || count() == before + 1);
    client
}

#[test]
fn a_full_endpoint_is_passed_over_and_a_full_service_refuses_until_a_request_ends() {
    let origins = [Origin::never_answers(), Origin::never_answers()];
    let both = [&origins[0], &origins[1]];
    let retries = "- retries: {attempts: 3, retryOn: 'gateway-error,reset,connect-failure,refused-stream'}
  route: [{destination: {host: svc}}]";
    let (_config, process) = with(ONE, retries, "1", &both);
    let mut held = vec![hold(&process, &both), hold(&process, &both)];
    assert_eq!([origins[0].count(), origins[1].count()], [1, 1]);
    let refused = process.get("x", "/refused");
    assert_eq!((refused.status, refused.text().as_str()), (503, "bulkhead is full"));
    assert_eq!(refused.header("x-envoy-overloaded"), Some("true"));
    let record = process.record_of("/refused");
    assert_eq!((record.flags(), record.details()), ("UO", "bulkhead_full"));
    process.metric_becomes("meshwright_cluster_bulkhead_full_endpoints", &SVC, 2.0);
    process.metric_becomes("meshwright_cluster_bulkhead_refused_total", &SVC, 1.0);
    assert_eq!(process.metrics().sum("envoy_cluster_upstream_rq_retry", &SVC), 0.0, "it is not tried again");
    let shown = process.admin_get("/clusters").text();
    for line in ["bulkhead::mode::enforce", "bulkhead::max_requests_per_endpoint::1", "bulkhead::full_endpoints::2"] {
        assert!(shown.contains(line), "{line} is missing in {shown}");
    }
    assert!(shown.contains(&format!("{}::rq_active::1", origins[0].address())), "{shown}");
    // Whoever goes away makes room.
    drop(held.remove(0));
    process.metric_becomes("meshwright_cluster_bulkhead_full_endpoints", &SVC, 1.0);
    held.push(hold(&process, &both));
    assert_eq!(process.get("x", "/refused").status, 503);
    let dump = process.admin_get("/config_dump").json();
    let of_cluster = &dump["clusters"][0]["bulkhead"];
    assert_eq!(*of_cluster, serde_json::json!({"max_requests_per_endpoint": 1, "mode": "ENFORCE"}));
}

#[test]
fn workers_that_race_never_send_an_endpoint_more_than_it_may_have() {
    let most = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
    let origin = |place: usize| {
        let (most, running) = (most.clone(), AtomicU32::new(0));
        Origin::answers_by(move |_| {
            most[place].fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            (0..200).for_each(|_| std::thread::yield_now());
            running.fetch_sub(1, Ordering::SeqCst);
            (200, "ok".to_owned())
        })
    };
    let origins = [origin(0), origin(1)];
    let policy = "bulkhead: {maxRequestsPerEndpoint: 2}";
    let (_config, process) = with(policy, "", "4", &[&origins[0], &origins[1]]);
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let client = || {
            let mut client = process.connect();
            (0..40).map(|_| client.get("x", "/").status).collect::<Vec<_>>()
        };
        let clients: Vec<_> = (0..12).map(|_| scope.spawn(client)).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    assert!(most.iter().all(|most| most.load(Ordering::SeqCst) <= 2), "{most:?}");
    let good = answers.iter().filter(|status| **status == 200).count();
    let refused = answers.iter().filter(|status| **status == 503).count();
    assert_eq!(good + refused, 480);
    assert_eq!(origins[0].count() + origins[1].count(), good, "who is refused is sent to nobody");
    process.metric_becomes("meshwright_cluster_bulkhead_refused_total", &SVC, refused as f64);
    process.metric_becomes("meshwright_cluster_bulkhead_full_endpoints", &SVC, 0.0);
    assert!(good >= 4, "there is always somebody who has a place: {good}");
}

#[test]
fn no_place_is_lost_by_clients_that_go_away() {
    let origin = Origin::never_answers();
    let (_config, process) = with("bulkhead: {maxRequestsPerEndpoint: 3}", "", "2", &[&origin]);
    let idle = format!("{}::rq_active::0", origin.address());
    for round in 1..=20 {
        // One closes its connection, one resets it, one resets its stream.
        let closing = [hold(&process, &[&origin]), hold(&process, &[&origin])];
        let client = Http2Client::connect(process.gateway());
        let mut call = Grpc::new(&client, "svc").call("/s.S/M", &[]);
        eventually("the call is held", || origin.heads() == 3 * round);
        assert_eq!(process.get("x", "/").status, 503, "every place is taken");
        let [closed, reset] = closing;
        drop(closed);
        reset.reset();
        call.cancel();
        eventually("every place is free", || process.admin_get("/clusters").text().contains(&idle));
    }
    process.metric_becomes("meshwright_cluster_bulkhead_refused_total", &SVC, 20.0);
}

#[test]
fn a_retry_has_the_place_of_the_try_before_it() {
    let status = Arc::new(AtomicU16::new(503));
    let answered = status.clone();
    let origin = Origin::answers_by(move |_| (answered.swap(200, Ordering::SeqCst), "answer".to_owned()));
    let retries = "- retries: {attempts: 1, retryOn: 5xx}\n  route: [{destination: {host: svc}}]";
    let (_config, process) = with(ONE, retries, "1", &[&origin]);
    assert_eq!(process.get("x", "/").status, 200);
    assert_eq!(origin.count(), 2);
    process.metric_becomes("meshwright_cluster_bulkhead_refused_total", &SVC, 0.0);
}

#[test]
fn a_hedge_takes_a_place_of_its_own_and_none_where_there_is_none() {
    let (silent, good) = (Origin::never_answers(), Origin::named("good"));
    let policy = "bulkhead: {maxRequestsPerEndpoint: 1}\nhedging: {delay: 50ms}";
    let (_config, process) = with(policy, "", "1", &[&silent, &good]);
    let mut client = process.connect();
    assert!((0..6).all(|_| client.get("x", "/").text() == "good"));
    assert_eq!(silent.count(), 3, "every other request went there first");
    process.metric_becomes("meshwright_cluster_bulkhead_full_endpoints", &SVC, 0.0);
    let origins = [Origin::never_answers(), Origin::never_answers()];
    let both = [&origins[0], &origins[1]];
    let (_config, process) = with(policy, "", "1", &both);
    let _first = hold(&process, &both);
    eventually("it is hedged", || origins[0].count() + origins[1].count() == 2);
    assert_eq!(process.get("x", "/").text(), "bulkhead is full");
    process.metric_becomes("meshwright_cluster_hedges_total", &SVC, 1.0);
}

#[test]
fn a_bulkhead_that_observes_refuses_nothing_and_counts() {
    let origin = Origin::never_answers();
    let (_config, process) = with("bulkhead: {maxRequestsPerEndpoint: 1, mode: OBSERVE}", "", "1", &[&origin]);
    let _held = [hold(&process, &[&origin]), hold(&process, &[&origin])];
    process.metric_becomes("meshwright_cluster_bulkhead_refused_total", &SVC, 1.0);
    process.metric_becomes("meshwright_cluster_bulkhead_full_endpoints", &SVC, 1.0);
    assert!(process.admin_get("/clusters").text().contains("bulkhead::mode::observe"));
}

#[test]
fn a_call_of_grpc_learns_of_a_full_service_in_its_way_and_a_fallback_stands_in() {
    let origin = Origin::never_answers();
    let (_config, process) = with(ONE, "", "1", &[&origin]);
    let _held = hold(&process, &[&origin]);
    let client = Http2Client::connect(process.gateway());
    let end = Grpc::new(&client, "svc").unary("/s.S/M", &[], b"x");
    assert_eq!((end.status, end.trailers_only), (Some(14), true), "{end:?}");
    assert!(end.message.contains("as many requests in flight as one may have"), "{}", end.message);
    let origin = Origin::never_answers();
    let policy = "bulkhead: {maxRequestsPerEndpoint: 1}\nfallback: {response: {status: 200, body: {string: later}}}";
    let (_config, process) = with(policy, "", "1", &[&origin]);
    let _held = hold(&process, &[&origin]);
    assert_eq!(process.get("x", "/").text(), "later");
}

#[test]
fn a_connection_for_bytes_is_a_request_for_as_long_as_it_lasts() {
    let origin = Origin::start(|connection| {
        let mut bytes = [0; 16];
        while connection.read_some(&mut bytes)? > 0 {
            connection.send("hello")?;
        }
        Ok(())
    });
    let documents = [service_entry("svc", "TCP", origin.address()), resilience_policy("svc", ONE)];
    let config = Config::new(&[GATEWAY_FOR_BYTES, &documents[0], &documents[1]]);
    let arguments = ["--map-port", "9000=0", "--access-log", "text"];
    let process = Launch::run(binary!()).file(config.path()).args(&arguments).start();
    let connect = || RawClient::try_connect(process.listener(9000).unwrap());
    let greeted = || {
        let mut client = connect().unwrap();
        client.send("hi");
        assert_eq!(client.read_exactly(5), b"hello");
        client
    };
    let first = greeted();
    // It may be reset before the client sees that it was made.
    assert!(connect().map_or(true, |mut client| client.is_closed_within(PATIENCE)));
    let record = process.record(|record| record.details() == "bulkhead_full");
    assert_eq!(record.flags(), "UO");
    drop(first);
    process.metric_becomes("meshwright_cluster_bulkhead_full_endpoints", &SVC, 0.0);
    greeted();
}
