//! Limits, ejection, retries and timeouts of a destination.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use meshwright_testkit::{
    Config, Launch, Meshwright, Origin, RawClient, RefusingPort, binary, destination_rule, eventually, gateway_routes,
    gateway_to, pass,
};

const SVC: [(&str, &str); 1] = [("cluster_name", "outbound|80||svc.default.svc.cluster.local")];

/// A traffic policy that limits nothing.
const PLAIN: &str = "{loadBalancer: {simple: LEAST_REQUEST}}";

/// One worker in front of `endpoints`, with the entries of a traffic policy and of `http`.
fn with(policy: &str, http: &str, endpoints: &[String]) -> (Config, Meshwright) {
    let rule = destination_rule("svc", policy);
    let routes = if http.is_empty() { gateway_to("svc") } else { gateway_routes(http) };
    let config = Config::new(&[&routes, &rule]);
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let process = Launch::run(binary!())
        .file(config.path())
        .service("svc", &endpoints)
        .args(&["--workers", "1", "--no-watch", "--access-log", "text"])
        .start();
    (config, process)
}

fn addresses(origins: &[&Origin]) -> Vec<String> {
    origins.iter().map(|origin| origin.address().to_string()).collect()
}

/// An origin that answers with a status that can be changed, and its name.
fn switchable(name: &'static str, status: &Arc<AtomicU16>) -> Origin {
    let status = status.clone();
    Origin::answers_by(move |_| (status.load(Ordering::SeqCst), name.to_owned()))
}

/// An origin that answers the n-th request, from 0, with the status that `script` chooses.
fn scripted(script: impl Fn(usize) -> u16 + Send + Sync + 'static) -> Origin {
    let count = AtomicUsize::new(0);
    Origin::answers_by(move |_| (script(count.fetch_add(1, Ordering::SeqCst)), "scripted".to_owned()))
}

fn get(client: &mut RawClient, target: &str) -> u16 {
    client.get("x", target).status
}

#[test]
fn connections_beyond_the_limit_wait_and_pending_requests_beyond_the_limit_are_refused() {
    let origin = Origin::never_answers();
    let policy = "{connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}}";
    let (_config, process) = with(policy, "", &addresses(&[&origin]));
    let mut first = process.connect();
    first.send("GET /first HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually("the first request has the connection", || origin.count() == 1);
    let mut second = process.connect();
    second.send("GET /second HTTP/1.1\r\nHost: x\r\n\r\n");
    process.metric_becomes("envoy_cluster_upstream_rq_pending_active", &SVC, 1.0);
    let refused = process.get("x", "/third");
    assert_eq!((refused.status, refused.header("x-envoy-overloaded")), (503, Some("true")));
    assert_eq!(process.record_of("/third").flags(), "UO");
    process.metric_becomes("envoy_cluster_upstream_rq_pending_overflow", &SVC, 1.0);
    process.metric_becomes("envoy_cluster_circuit_breakers_default_cx_open", &SVC, 1.0);
    process.metric_becomes("envoy_cluster_circuit_breakers_default_remaining_cx", &SVC, 0.0);
    process.metric_becomes("envoy_cluster_circuit_breakers_default_remaining_rq", &SVC, f64::from(u32::MAX));
    assert_eq!(origin.connections(), 1);
    // The place of the first is given to the second.
    drop(first);
    eventually("the second request has a connection", || origin.count() == 2);
    assert_eq!(origin.last().target, "/second");
}

#[test]
fn a_waiting_request_gets_the_connection_of_the_one_before() {
    let origin = Origin::answers_after(Duration::from_millis(50), "ok");
    let policy = "{connectionPool: {tcp: {maxConnections: 1}}}";
    let (_config, process) = with(policy, "", &addresses(&[&origin]));
    let mut clients: Vec<RawClient> = (0..5).map(|_| process.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    assert!(clients.iter_mut().all(|client| client.response().status == 200));
    assert_eq!((origin.connections(), origin.count()), (1, 5));
}

#[test]
fn a_request_that_waits_for_a_connection_ends_with_its_route_timeout_or_its_client() {
    let origin = Origin::never_answers();
    let route = "- match: [{uri: {prefix: /timed}}]
  timeout: 0.3s
  route: [{destination: {host: svc}}]
- route: [{destination: {host: svc}}]";
    let policy = "{connectionPool: {tcp: {maxConnections: 1}}}";
    let (_config, process) = with(policy, route, &addresses(&[&origin]));
    let mut holder = process.connect();
    holder.send("GET /held HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually("the first request has the connection", || origin.count() == 1);
    assert_eq!(process.get("x", "/timed").status, 504);
    assert_eq!(process.record_of("/timed").flags(), "UT");
    let mut leaving = process.connect();
    leaving.send("GET /leaving HTTP/1.1\r\nHost: x\r\n\r\n");
    process.metric_becomes("envoy_cluster_upstream_rq_pending_active", &SVC, 1.0);
    drop(leaving);
    process.metric_becomes("envoy_cluster_upstream_rq_pending_active", &SVC, 0.0);
    assert_eq!(process.record_of("/leaving").flags(), "DC");
    assert_eq!(origin.count(), 1);
}

#[test]
fn connections_of_one_worker_do_not_starve_another() {
    let origin = Origin::answers_after(Duration::from_millis(5), "ok");
    let rule = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: svc}
spec:
  host: svc
  trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}
";
    let config = Config::new(&[&gateway_to("svc"), rule]);
    let process = Launch::run(binary!())
        .file(config.path())
        .service_at("svc", origin.address())
        .args(&["--workers", "3"])
        .start();
    let mut clients: Vec<RawClient> = (0..24).map(|_| process.connect()).collect();
    for _ in 0..3 {
        clients.iter_mut().for_each(|client| client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert!(clients.iter_mut().all(|client| client.response().status == 200));
    }
    assert!(origin.connections() <= 3, "{} connections", origin.connections());
}

#[test]
fn requests_in_flight_are_limited() {
    let origin = Origin::never_answers();
    let (_config, process) = with("{connectionPool: {http: {http2MaxRequests: 2}}}", "", &addresses(&[&origin]));
    let mut held: Vec<RawClient> = Vec::new();
    for count in 1..=2 {
        let mut client = process.connect();
        client.send("GET /held HTTP/1.1\r\nHost: x\r\n\r\n");
        eventually("the request is with the service", || origin.count() == count);
        held.push(client);
    }
    assert_eq!(process.get("x", "/refused").status, 503);
    assert_eq!(process.record_of("/refused").flags(), "UO");
    held.pop();
    eventually("a place is free", || {
        let mut client = process.connect();
        client.send("GET /next HTTP/1.1\r\nHost: x\r\n\r\n");
        !client.is_closed_within(Duration::from_millis(20)) && origin.last().target == "/next"
    });
}

#[test]
fn a_connection_serves_no_more_requests_than_allowed() {
    let origin = Origin::named("ok");
    let policy = "{connectionPool: {http: {maxRequestsPerConnection: 3}}}";
    let (_config, process) = with(policy, "", &addresses(&[&origin]));
    let mut client = process.connect();
    for _ in 0..9 {
        assert_eq!(get(&mut client, "/"), 200);
    }
    assert_eq!(origin.connections(), 3);
    assert!(origin.requests().iter().all(|request| request.before < 3));
}

#[test]
fn a_host_that_fails_in_a_row_is_ejected_at_once_and_returns_after_its_time() {
    let status = Arc::new(AtomicU16::new(500));
    let (bad, good) = (switchable("bad", &status), Origin::named("good"));
    let policy = "{loadBalancer: {simple: ROUND_ROBIN}, \
                   outlierDetection: {consecutive5xxErrors: 3, interval: 0.1s, baseEjectionTime: 1s, maxEjectionPercent: 50}}";
    let (_config, process) = with(policy, "", &addresses(&[&bad, &good]));
    let mut client = process.connect();
    let statuses: Vec<u16> = (0..6).map(|_| get(&mut client, "/")).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 500).count(), 3, "{statuses:?}");
    let ejected_at = Instant::now();
    assert_eq!(bad.count(), 3);
    process.metric_becomes("envoy_cluster_outlier_detection_ejections_active", &SVC, 1.0);
    process.metric_becomes("envoy_cluster_outlier_detection_ejections_enforced_total", &SVC, 1.0);
    process.metric_becomes("envoy_cluster_membership_healthy", &SVC, 1.0);
    assert!((0..20).all(|_| get(&mut client, "/") == 200), "all traffic goes to the other host");
    if ejected_at.elapsed() < Duration::from_millis(900) {
        assert_eq!(bad.count(), 3);
    }
    status.store(200, Ordering::SeqCst);
    eventually("the host returns", || {
        get(&mut client, "/");
        bad.count() > 3
    });
    assert!(ejected_at.elapsed() >= Duration::from_millis(900), "{:?}", ejected_at.elapsed());
    process.metric_becomes("envoy_cluster_outlier_detection_ejections_active", &SVC, 0.0);
    assert!(process.stderr().contains("endpoint ejected"));
}

#[test]
fn connect_failures_eject_too_and_traffic_leaves_without_an_error() {
    let (refusing, good) = (RefusingPort::new(), Origin::named("good"));
    let policy =
        "{loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {consecutive5xxErrors: 2, maxEjectionPercent: 50}}";
    let endpoints = [refusing.address().to_string(), good.address().to_string()];
    let (_config, process) = with(policy, "", &endpoints);
    let mut client = process.connect();
    assert!((0..20).all(|_| get(&mut client, "/") == 200), "the default policy tries another host");
    process.metric_becomes("envoy_cluster_upstream_cx_connect_fail", &SVC, 1.0);
    process.metric_becomes("envoy_cluster_outlier_detection_ejections_active", &SVC, 1.0);
}

#[test]
fn when_everybody_is_ejected_the_answer_is_503_uh() {
    let (a, b) = (scripted(|_| 503), scripted(|_| 503));
    let policy =
        "{loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 100}}";
    let (_config, process) = with(policy, "", &addresses(&[&a, &b]));
    let mut client = process.connect();
    assert_eq!((get(&mut client, "/"), get(&mut client, "/")), (503, 503));
    let refused = client.get("x", "/refused");
    assert_eq!((refused.status, refused.text().as_str()), (503, "no healthy upstream"));
    assert_eq!(process.record_of("/refused").flags(), "UH");
    assert_eq!(a.count() + b.count(), 2);
}

#[test]
fn no_more_hosts_are_ejected_than_the_share_allows() {
    let origins: Vec<Origin> = (0..4).map(|_| scripted(|_| 500)).collect();
    let policy =
        "{loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 50}}";
    let (_config, process) = with(policy, "", &addresses(&origins.iter().collect::<Vec<_>>()));
    let mut client = process.connect();
    for _ in 0..20 {
        assert_eq!(get(&mut client, "/"), 500);
    }
    process.metric_becomes("envoy_cluster_outlier_detection_ejections_active", &SVC, 2.0);
    assert!(process.metrics().sum("envoy_cluster_outlier_detection_ejections_overflow", &SVC) > 0.0);
    assert!(process.stderr().contains("not ejected"));
}

#[test]
fn without_any_policy_a_refused_connection_is_tried_at_another_host() {
    let (refusing, good) = (RefusingPort::new(), Origin::echoes());
    let endpoints = [refusing.address().to_string(), good.address().to_string()];
    let (_config, process) = with("{loadBalancer: {simple: ROUND_ROBIN}}", "", &endpoints);
    let mut client = process.connect();
    for index in 0..10 {
        let answer = client.request("POST", "x", "/", &[], index.to_string().as_bytes());
        assert_eq!(
            (answer.status, answer.text()),
            (200, index.to_string()),
            "nothing was sent, so a POST may be repeated"
        );
    }
    process.metric_becomes("envoy_cluster_upstream_rq_retry", &SVC, 1.0);
    process.metric_becomes("istio_requests_total", &[("response_code", "200"), ("response_flags", "-")], 10.0);
    let attempts: Vec<_> =
        good.requests().iter().map(|request| request.header("x-envoy-attempt-count").map(str::to_owned)).collect();
    assert_eq!(attempts.iter().filter(|count| count.as_deref() == Some("2")).count(), 1, "{attempts:?}");
}

#[test]
fn a_server_error_is_repeated_as_often_as_the_route_says() {
    let route = "- retries: {attempts: 3, retryOn: 5xx, perTryTimeout: 5s}
  route: [{destination: {host: svc}}]";
    let heals = scripted(|count| if count < 3 { 503 } else { 200 });
    let (_config, process) = with(PLAIN, route, &addresses(&[&heals]));
    let mut client = process.connect();
    let answer = client.request("POST", "x", "/heals", &[], b"the body goes along each time");
    assert_eq!((answer.status, heals.count()), (200, 4));
    assert!(heals.requests().iter().all(|request| request.body == b"the body goes along each time"));
    let counts: Vec<_> =
        heals.requests().iter().map(|request| request.header("x-envoy-attempt-count").unwrap().to_owned()).collect();
    assert_eq!(counts, ["1", "2", "3", "4"]);
    assert_eq!(process.record_of("/heals").flags(), "-");

    let never = scripted(|_| 503);
    let (_config, process) = with(PLAIN, route, &addresses(&[&never]));
    assert_eq!(process.get("x", "/never").status, 503);
    assert_eq!(never.count(), 4);
    assert_eq!(process.record_of("/never").flags(), "URX");
    process.metric_becomes("envoy_cluster_upstream_rq_retry", &SVC, 3.0);
}

#[test]
fn a_dozen_tries_send_the_same_request_a_dozen_times() {
    let origin = scripted(|count| if count < 12 { 500 } else { 200 });
    let route = "- retries: {attempts: 14, retryOn: 5xx, backoff: 1ms}
  route: [{destination: {host: svc}}]";
    let (_config, process) = with(PLAIN, route, &addresses(&[&origin]));
    let mut client = process.connect();
    let headers = [("x-one", "1"), ("x-two", "2")];
    assert_eq!(client.request("POST", "x", "/dozen", &headers, b"the same body").status, 200);
    let received = origin.requests();
    assert_eq!(received.len(), 13);
    for (index, request) in received.iter().enumerate() {
        assert_eq!((request.target.as_str(), request.body.as_slice()), ("/dozen", &b"the same body"[..]));
        assert_eq!(request.header("x-envoy-attempt-count"), Some((index + 1).to_string().as_str()));
        assert_eq!((request.header("x-one"), request.header("x-two")), (Some("1"), Some("2")));
        assert_eq!(request.header("x-request-id"), received[0].header("x-request-id"));
    }
}

#[test]
fn a_chunked_body_and_a_pipelined_request_survive_a_retry() {
    let count = AtomicUsize::new(0);
    let origin = Origin::answers_by(move |request| match count.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => (503, String::new()),
        _ => (200, format!("{} {}", request.target, request.body.len())),
    });
    let route = "- retries: {attempts: 3, retryOn: 5xx, backoff: 1ms}
  route: [{destination: {host: svc}}]";
    let (_config, process) = with(PLAIN, route, &addresses(&[&origin]));
    let mut client = process.connect();
    client.send(
        "POST /one HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n\
         POST /two HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nxy",
    );
    assert_eq!(client.response().text(), "/one 7");
    assert_eq!(client.response().text(), "/two 2");
    assert!(origin.requests()[..3].iter().all(|request| request.body == b"abcdefg"));
    assert_eq!(origin.count(), 4);
}

#[test]
fn a_retry_in_the_middle_of_an_upload_sends_all_of_it() {
    let origin = Origin::start(|connection| {
        let is_first = connection.number() == 0;
        while let Some(received) = connection.head()? {
            if is_first {
                connection.send("HTTP/1.1 503 Not yet\r\nContent-Length: 0\r\n\r\n")?;
                connection.wait_for_close(Duration::from_secs(20));
                return Ok(());
            }
            let body = connection.body_of(received)?.body;
            connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()))?;
            connection.send(body)?;
        }
        Ok(())
    });
    let route = "- retries: {attempts: 3, retryOn: 5xx, backoff: 1ms}
  route: [{destination: {host: svc}}]";
    let (_config, process) = with(PLAIN, route, &addresses(&[&origin]));
    let mut client = process.connect();
    let body = meshwright_testkit::Pattern::bytes(30_000);
    client.send(format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len()));
    client.send(&body[..10_000]);
    eventually("the second try has begun", || origin.heads() == 2);
    client.send(&body[10_000..]);
    let answer = client.response();
    assert_eq!(answer.status, 200);
    assert!(answer.body == body);
}

#[test]
fn an_expectation_survives_a_retry() {
    let refusing = RefusingPort::new();
    let good = Origin::answers_100_then(200, "taken");
    let endpoints = [refusing.address().to_string(), good.address().to_string()];
    let (_config, process) = with("{loadBalancer: {simple: ROUND_ROBIN}}", "", &endpoints);
    for _ in 0..2 {
        let mut client = process.connect();
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(client.head().status, 100);
        client.send("hello");
        assert_eq!(client.response().text(), "taken");
        assert_eq!(good.last().body, b"hello");
    }
}

#[test]
fn a_body_that_is_too_large_to_keep_is_sent_once() {
    let origin = scripted(|_| 503);
    let route = "- retries: {attempts: 3, retryOn: 5xx}
  route: [{destination: {host: svc}}]";
    let (_config, process) = with(PLAIN, route, &addresses(&[&origin]));
    let mut client = process.connect();
    assert_eq!(client.request("POST", "x", "/large", &[], &vec![b'x'; 1 << 20]).status, 503);
    assert_eq!(origin.count(), 1);
    assert_eq!(client.request("POST", "x", "/small", &[], b"x").status, 503);
    assert_eq!(origin.count(), 5);
}

#[test]
fn an_application_error_is_not_repeated_by_the_default_policy() {
    let origin = scripted(|_| 503);
    let (_config, process) = with(PLAIN, "", &addresses(&[&origin]));
    assert_eq!(process.get("x", "/").status, 503);
    assert_eq!(origin.count(), 1);
    assert_eq!((process.record_of("/").flags(), process.record_of("/").details()), ("-", "via_upstream"));
}

#[test]
fn a_try_that_takes_too_long_is_repeated_elsewhere() {
    let (silent, good) = (Origin::never_answers(), Origin::named("good"));
    let route = "- retries: {attempts: 2, perTryTimeout: 0.1s, retryOn: 5xx}
  route: [{destination: {host: svc}}]";
    let (_config, process) = with("{loadBalancer: {simple: ROUND_ROBIN}}", route, &addresses(&[&silent, &good]));
    let mut client = process.connect();
    for _ in 0..4 {
        assert_eq!(client.get("x", "/").text(), "good");
    }
    assert_eq!(silent.count(), 2);
    process.metric_becomes("envoy_cluster_upstream_rq_per_try_timeout", &SVC, 2.0);
}

#[test]
fn the_timeout_of_the_route_covers_all_tries() {
    let origin = Origin::never_answers();
    let route = "- timeout: 0.3s
  retries: {attempts: 10, perTryTimeout: 0.1s, retryOn: 5xx}
  route: [{destination: {host: svc}}]";
    let (_config, process) = with(PLAIN, route, &addresses(&[&origin]));
    let start = Instant::now();
    assert_eq!(process.get("x", "/").status, 504);
    assert!(
        start.elapsed() >= Duration::from_millis(290) && start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    assert!((2..=4).contains(&origin.count()), "{} tries", origin.count());
    assert!(process.record_of("/").flags().starts_with("UT"));
}

#[test]
fn the_timeout_runs_from_the_end_of_the_request() {
    let origin = Origin::named("ok");
    let route = "- timeout: 0.3s
  route: [{destination: {host: svc}}]";
    let (_config, process) = with(PLAIN, route, &addresses(&[&origin]));
    let mut client = process.connect();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n");
    for _ in 0..6 {
        pass(Duration::from_millis(100));
        client.send("x");
    }
    assert_eq!(client.response().status, 200);
}

#[test]
fn a_timeout_in_the_middle_of_an_answer_is_seen_as_a_cut() {
    let origin = Origin::stalls_after_head();
    let route = "- timeout: 0.2s
  route: [{destination: {host: svc}}]";
    let (_config, process) = with(PLAIN, route, &addresses(&[&origin]));
    let mut client = process.connect();
    assert!(client.try_request("GET", "x", "/", &[], b"").is_err());
    let record = process.record_of("/");
    assert_eq!((record.status(), record.flags()), (200, "UT"));
}

/// Whether any socket of this machine is connected to `port` and has not heard of the end, as the kernel tells.
fn is_established_to(port: u16) -> bool {
    const ESTABLISHED: &str = "01";
    let suffix = format!(":{port:04X}");
    std::fs::read_to_string("/proc/net/tcp").unwrap().lines().any(|line| {
        let mut columns = line.split_whitespace().skip(2);
        columns.next().is_some_and(|remote| remote.ends_with(&suffix)) && columns.next() == Some(ESTABLISHED)
    })
}

#[test]
fn posts_never_fail_although_the_service_closes_idle_connections() {
    let origin = Origin::closes_after_idle(Duration::from_millis(10));
    let (_config, process) = with(PLAIN, "", &addresses(&[&origin]));
    let mut client = process.connect();
    for round in 0..60 {
        let answer = client.request("POST", "x", "/", &[], b"once");
        assert_eq!((answer.status, answer.text().as_str()), (200, "alive"), "round {round}");
        // The close has reached the machine's end of the connection; whether the proxy has noticed is its own business.
        while origin.open() > 0 || is_established_to(origin.address().port()) {
            std::hint::spin_loop();
        }
    }
    assert_eq!(origin.count(), 60, "every POST arrived exactly once");
    process.metric_becomes("istio_requests_total", &[("response_code", "200")], 60.0);
    assert_eq!(process.metrics().sum("istio_requests_total", &[]), 60.0);
}

#[test]
fn a_get_that_meets_a_close_on_a_kept_connection_is_repeated_and_a_post_is_not() {
    let origin = Origin::closes_unanswered_after(1);
    let (_config, process) = with(PLAIN, "", &addresses(&[&origin]));
    let mut client = process.connect();
    assert_eq!(get(&mut client, "/1"), 200);
    assert_eq!(get(&mut client, "/2"), 200, "zero bytes of an answer on a reused connection");
    let answer = client.request("POST", "x", "/3", &[], b"body");
    assert_eq!(answer.status, 503, "the POST was sent: nobody knows what became of it");
    assert_eq!(process.record_of("/3").flags(), "UC");
    assert_eq!(origin.requests().iter().filter(|request| request.target == "/3").count(), 1);
}

#[test]
fn a_connection_is_not_used_beyond_what_keep_alive_announces() {
    let origin = Origin::sends("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 2\r\n\r\nok");
    let (_config, process) = with(PLAIN, "", &addresses(&[&origin]));
    let mut client = process.connect();
    assert_eq!((get(&mut client, "/"), get(&mut client, "/")), (200, 200));
    assert_eq!(origin.connections(), 1);
    eventually("it is closed before its second is over", || origin.open() == 0);
    assert_eq!(get(&mut client, "/"), 200);
    assert_eq!(origin.connections(), 2);
}

#[test]
fn idle_upstream_connections_are_closed_after_their_time() {
    let origin = Origin::named("ok");
    let policy = "{connectionPool: {http: {idleTimeout: 0.3s}}}";
    let (_config, process) = with(policy, "", &addresses(&[&origin]));
    assert_eq!(process.get("x", "/").status, 200);
    eventually("the idle connection is closed", || origin.open() == 0);
    process.metric_becomes("envoy_cluster_upstream_cx_active", &SVC, 0.0);
}

#[test]
fn a_connection_that_is_not_answered_ends_after_the_connect_timeout() {
    // A full accept queue swallows further connections.
    let full = meshwright_testkit::FullPort::new();
    let route = "- retries: {attempts: 0}
  route: [{destination: {host: svc}}]";
    let policy = "{connectionPool: {tcp: {connectTimeout: 0.2s}}}";
    let (_config, process) = with(policy, route, &[full.address().to_string()]);
    let start = Instant::now();
    let answer = process.get("x", "/");
    assert_eq!(answer.status, 503);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(process.record_of("/").flags(), "UF");
    process.metric_becomes("envoy_cluster_upstream_cx_connect_fail", &SVC, 1.0);
}

#[test]
fn retries_in_flight_are_limited() {
    let silent = Origin::start(|connection| {
        let mut count = 0;
        while let Some(request) = connection.request()? {
            count += 1;
            if request.header("x-envoy-attempt-count") != Some("1") {
                connection.wait_for_close(Duration::from_secs(20));
                return Ok(());
            }
            connection.send(format!("HTTP/1.1 503 No\r\nContent-Length: 0\r\nX-Count: {count}\r\n\r\n"))?;
        }
        Ok(())
    });
    let route = "- retries: {attempts: 2, retryOn: 5xx}
  route: [{destination: {host: svc}}]";
    let (_config, process) = with("{connectionPool: {http: {maxRetries: 1}}}", route, &addresses(&[&silent]));
    let mut held = process.connect();
    held.send("GET /held HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually("the retry is with the service", || silent.count() == 2);
    assert_eq!(process.get("x", "/refused").status, 503, "the answer stays as it is: there is no room for a retry");
    assert_eq!(silent.count(), 3);
    process.metric_becomes("envoy_cluster_upstream_rq_retry_overflow", &SVC, 1.0);
}
