//! Limits that are on by default: what they refuse, and that every refusal is counted.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::time::{Duration, Instant};

use meshwright_testkit::{
    Config, Launch, Meshwright, Origin, RawClient, binary, eventually, gateway_to, holds_within, pass,
};

fn limited(arguments: &[&str]) -> (Origin, Meshwright) {
    let origin = Origin::echoes();
    let config = Config::new(&[&gateway_to("svc")]);
    let process = Launch::run(binary!())
        .file(config.path())
        .service_at("svc", origin.address())
        .args(&["--no-watch"])
        .args(arguments)
        .start();
    (origin, process)
}

fn refused(process: &Meshwright, reason: &str, times: f64) {
    process.metric_becomes("meshwright_refusals_total", &[("reason", reason)], times);
}

#[test]
fn a_client_that_drips_its_head_is_ended_by_the_clock_and_not_by_its_bytes() {
    let (origin, process) = limited(&["--header-timeout", "400ms"]);
    let mut client = process.connect();
    client.send("GET / HTTP/1.1\r\nHost: x\r\n");
    let start = Instant::now();
    // Every byte comes well within the time; only the whole head does not.
    let ended = holds_within(Duration::from_secs(5), || {
        pass(Duration::from_millis(40));
        client.try_send("X").is_err() || start.elapsed() > Duration::from_millis(900)
    });
    assert!(ended);
    assert_eq!(client.response().status, 408);
    assert_eq!(origin.bytes(), 0);
    refused(&process, "head_timeout", 1.0);
}

#[test]
fn a_connection_that_never_sends_a_byte_is_closed_and_counted() {
    let (_origin, process) = limited(&["--header-timeout", "200ms"]);
    let mut client = process.connect();
    assert!(client.is_closed_within(Duration::from_secs(5)));
    eventually("it is counted", || {
        let metrics = process.metrics();
        metrics.sum("meshwright_refusals_total", &[("reason", "head_timeout")])
            + metrics.sum("meshwright_refusals_total", &[("reason", "idle_timeout")])
            == 1.0
    });
}

#[test]
fn an_idle_connection_is_closed_after_its_time() {
    let (_origin, process) = limited(&["--idle-timeout", "200ms"]);
    let mut client = process.connect();
    assert_eq!(client.get("x", "/").status, 200);
    assert!(client.is_closed_within(Duration::from_secs(5)));
    refused(&process, "idle_timeout", 1.0);
}

#[test]
fn the_number_and_the_size_of_headers_are_limited() {
    let (origin, process) =
        limited(&["--max-headers", "10", "--max-header-line", "1KiB", "--max-header-bytes", "2KiB"]);
    let ask = |headers: &str| {
        let mut client = process.connect();
        client.send(format!("GET / HTTP/1.1\r\nHost: x\r\n{headers}\r\n"));
        client.response().status
    };
    assert_eq!(ask(&"X: y\r\n".repeat(9)), 200);
    assert_eq!(ask(&"X: y\r\n".repeat(10)), 431);
    refused(&process, "too_many_headers", 1.0);
    assert_eq!(ask(&format!("X: {}\r\n", "a".repeat(900))), 200);
    assert_eq!(ask(&format!("X: {}\r\n", "a".repeat(1100))), 431);
    assert_eq!(ask(&format!("X: {}\r\n", "a".repeat(700)).repeat(3)), 431);
    refused(&process, "headers_too_large", 2.0);
    assert_eq!(origin.count(), 2);
}

#[test]
fn the_request_line_is_limited() {
    let (_origin, process) = limited(&["--max-request-line", "1KiB"]);
    let ask = |length: usize| process.get("x", &format!("/{}", "a".repeat(length))).status;
    assert_eq!(ask(900), 200);
    assert_eq!(ask(1100), 414);
    refused(&process, "request_line_too_long", 1.0);
}

#[test]
fn chunk_extensions_and_trailers_are_limited() {
    let (origin, process) =
        limited(&["--max-chunk-extension", "16", "--max-trailer-bytes", "256", "--max-trailers", "3"]);
    let ask = |body: &str| {
        let mut client = process.connect();
        client.send(format!("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{body}"));
        client.response().status
    };
    assert_eq!(ask("1;a=b\r\nx\r\n0\r\nA: b\r\n\r\n"), 200);
    assert_eq!(ask(&format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(17))), 400);
    assert_eq!(ask(&format!("1\r\nx\r\n0\r\n{}\r\n", "A: b\r\n".repeat(4))), 400);
    assert_eq!(ask(&format!("1\r\nx\r\n0\r\nA: {}\r\n\r\n", "b".repeat(300))), 400);
    assert_eq!(origin.count(), 1);
    refused(&process, "chunked_body_limit", 3.0);
}

#[test]
fn connections_beyond_the_limit_are_closed_and_others_go_on() {
    let (_origin, process) = limited(&["--max-connections", "5"]);
    let mut clients: Vec<RawClient> = (0..5).map(|_| process.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("x", "/").status, 200);
    }
    let mut further = process.connect();
    assert!(further.is_closed_within(Duration::from_secs(5)));
    refused(&process, "connection_limit", 1.0);
    for client in &mut clients {
        assert_eq!(client.get("x", "/").status, 200);
    }
    clients.pop();
    eventually("there is room again", || {
        let mut client = process.connect();
        client.try_request("GET", "x", "/", &[], b"").is_ok_and(|answer| answer.status == 200)
    });
}

#[test]
fn one_source_cannot_take_all_places() {
    let (_origin, process) = limited(&["--max-connections-per-source", "3"]);
    let mut clients: Vec<RawClient> = (0..3).map(|_| process.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("x", "/").status, 200);
    }
    assert!(process.connect().is_closed_within(Duration::from_secs(5)));
    refused(&process, "source_connection_limit", 1.0);
    clients.pop();
    eventually("there is room again", || {
        let mut client = process.connect();
        client.try_request("GET", "x", "/", &[], b"").is_ok_and(|answer| answer.status == 200)
    });
}

#[test]
fn a_process_that_is_short_of_memory_turns_clients_away() {
    // Less than any process needs: pressure is at its highest from the first look on.
    let (origin, process) = limited(&["--max-memory", "1MiB", "--access-log", "text"]);
    eventually("new connections are closed", || process.connect().is_closed_within(Duration::from_millis(100)));
    assert!(process.metrics().sum("meshwright_refusals_total", &[("reason", "memory_limit")]) > 0.0);
    assert_eq!(origin.count(), 0);
    assert_eq!(process.admin_get("/healthz").status, 200, "the admin API still answers");
}

#[test]
fn a_body_that_stops_coming_is_ended() {
    let (origin, process) = limited(&["--stall-timeout", "300ms", "--access-log", "text"]);
    let mut client = process.connect();
    client.send("POST /stopped HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello");
    assert_eq!(client.response().status, 408);
    assert!(client.is_closed_within(Duration::from_secs(5)));
    assert_eq!(origin.count(), 0);
    eventually("the service is rid of it", || origin.open() == 0);
}

#[test]
fn a_silent_tunnel_is_closed_after_its_time() {
    let origin = Origin::switches_protocol_and_echoes();
    let config = Config::new(&[&gateway_to("svc")]);
    let process = Launch::run(binary!())
        .file(config.path())
        .service_at("svc", origin.address())
        .args(&["--tunnel-idle-timeout", "300ms"])
        .start();
    let mut client = process.connect();
    client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.head().status, 101);
    for _ in 0..6 {
        pass(Duration::from_millis(100));
        client.send("x");
        assert_eq!(client.read_exactly(1), b"x");
    }
    assert!(client.is_closed_within(Duration::from_secs(5)));
    eventually("the upstream side is closed too", || origin.open() == 0);
}

#[test]
fn the_head_of_an_answer_is_limited_too() {
    let origin = Origin::sends_by(|request| match request.target.as_str() {
        "/many" => format!("HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n", "X: y\r\n".repeat(200)).into_bytes(),
        _ => format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "y".repeat(100_000)).into_bytes(),
    });
    let config = Config::new(&[&gateway_to("svc")]);
    let process = Launch::run(binary!()).file(config.path()).service_at("svc", origin.address()).start();
    assert_eq!(process.get("x", "/many").status, 502);
    assert_eq!(process.get("x", "/large").status, 502);
    refused(&process, "upstream_head_limit", 2.0);
}

#[test]
fn a_large_body_is_not_limited_because_it_streams() {
    let (_, process) = limited(&[]);
    let origin = Origin::checks_pattern();
    let config = Config::new(&[&gateway_to("svc")]);
    let streaming = Launch::run(binary!()).file(config.path()).service_at("svc", origin.address()).start();
    drop(process);
    let body = meshwright_testkit::Pattern::bytes(3 << 20);
    let answer = streaming.connect().request("POST", "x", "/", &[], &body);
    assert_eq!(answer.text(), format!("intact {}", 3 << 20));
}

#[test]
fn the_admin_api_listens_on_this_machine_only_and_refuses_foreign_hosts() {
    let (_origin, process) = limited(&[]);
    assert!(process.admin().ip().is_loopback());
    let mut client = RawClient::connect(process.admin());
    assert_eq!(client.get("evil.example", "/config_dump").status, 403);
    assert_eq!(process.admin_get("/ready").status, 200);
}

/// A process with at most so many open files.
fn with_open_files(most: u32, origin: &Origin, arguments: &[&str]) -> Meshwright {
    let config = Config::new(&[&gateway_to("svc")]);
    let launch = Launch::with_descriptors(binary!(), most).args(arguments);
    launch.file(config.path()).service_at("svc", origin.address()).start()
}

#[test]
fn connections_are_limited_by_the_limit_on_open_files() {
    let origin = Origin::named("ok");
    let process = with_open_files(400, &origin, &[]);
    let mut clients: Vec<RawClient> = (0..120).map(|_| process.connect()).collect();
    eventually("every connection is accepted or refused", || {
        process.metrics().value("meshwright_downstream_connections_accepted_total") == 120.0
    });
    let metrics = process.metrics();
    let refused = metrics.sum("meshwright_refusals_total", &[("reason", "connection_limit")]);
    // Half of what 256 reserved ones leave.
    assert_eq!(refused, 120.0 - 72.0);
    assert_eq!(metrics.value("meshwright_accept_errors_total"), 0.0);
    let served = clients.iter_mut().filter_map(|client| client.try_request("GET", "x", "/", &[], b"").ok()).count();
    assert_eq!(served, 72);
}

#[test]
fn running_out_of_file_descriptors_ends_no_listener() {
    let origin = Origin::named("ok");
    let process = with_open_files(64, &origin, &["--max-connections", "1000"]);
    let clients: Vec<RawClient> = (0..100).filter_map(|_| RawClient::try_connect(process.gateway()).ok()).collect();
    eventually("accepting fails", || process.stderr().contains("connections cannot be accepted"));
    drop(clients);
    eventually("it serves again", || {
        let Ok(mut client) = RawClient::try_connect(process.gateway()) else { return false };
        client.try_request("GET", "x", "/", &[], b"").is_ok_and(|answer| answer.text() == "ok")
    });
    assert!(process.metrics().value("meshwright_accept_errors_total") > 0.0);
}

#[test]
fn every_refusal_is_counted_with_its_reason() {
    let (_origin, process) = limited(&[]);
    let send = |bytes: &[u8]| {
        let mut client: RawClient = process.connect();
        client.send(bytes);
        client.response();
    };
    send(b"GET / HTTP/1.1\r\n\r\n");
    send(b"GET / HTTP/1.2\r\nHost: x\r\n\r\n");
    send(b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n");
    send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n");
    send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: y\r\n\r\n");
    for reason in [
        "malformed_request",
        "version_not_supported",
        "method_not_allowed",
        "unsupported_transfer_coding",
        "expectation_failed",
    ] {
        process.metric_becomes("meshwright_refusals_total", &[("reason", reason)], 1.0);
    }
    process.metric_becomes("istio_requests_total", &[("response_flags", "DPE")], 4.0);
}
