//! `meshwright echo` over real sockets.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use support::{Backend, exchange, meshwright, read_head};

#[test]
fn the_load_is_on_every_answer_and_on_a_path_of_its_own() {
    let backend = Backend::start(&["--delay", "30ms"]);
    let answer = backend.get("/");
    let line = answer.head.lines().find(|line| line.starts_with("x-meshwright-load: in-flight=0, latency-us="));
    let micros: u64 = line.and_then(|line| line.rsplit('=').next()?.parse().ok()).expect("the load");
    assert!(micros >= 30_000, "{micros}");
    let load = backend.get("/.well-known/meshwright/load").json();
    assert_eq!((load["inFlight"].as_u64(), load["latencyUs"].as_u64()), (Some(0), Some(micros)));
}

#[test]
fn it_answers_with_what_it_saw() {
    let backend = Backend::start(&["--name", "users-1"]);
    let request =
        "POST /users/7?full=1 HTTP/1.1\r\nHost: api.example.com\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 5\r\n\r\nhello";
    let reply = exchange(&mut backend.connect(), request);
    assert_eq!(reply.status, 200);
    let seen = reply.json();
    assert_eq!(seen["name"], "users-1");
    assert_eq!(seen["method"], "POST");
    assert_eq!(seen["path"], "/users/7");
    assert_eq!(seen["query"], "full=1");
    assert_eq!(seen["headers"]["host"], "api.example.com");
    assert_eq!(seen["headers"]["x-a"], serde_json::json!(["1", "2"]));
    assert_eq!(seen["body_bytes"], 5);
}

#[test]
fn it_numbers_connections_and_requests() {
    let backend = Backend::start(&[]);
    let mut first = backend.connect();
    let get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    exchange(&mut first, get);
    let again = exchange(&mut first, get).json();
    assert_eq!(
        (&again["connection"], &again["request"], &again["request_on_connection"]),
        (&1.into(), &2.into(), &2.into())
    );
    let other = backend.get("/").json();
    assert_eq!(
        (&other["connection"], &other["request"], &other["request_on_connection"]),
        (&2.into(), &3.into(), &1.into())
    );
}

#[test]
fn it_counts_a_chunked_body() {
    let backend = Backend::start(&[]);
    let request = "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n";
    assert_eq!(exchange(&mut backend.connect(), request).json()["body_bytes"], 7);
}

#[test]
fn the_query_wins_over_the_flags() {
    let backend = Backend::start(&["--status", "500", "--fail", "100", "--size", "10"]);
    assert_eq!(backend.get("/").status, 503);
    let reply = backend.get("/?fail=0");
    assert_eq!((reply.status, reply.body.len()), (500, 10));
    let reply = backend.get("/?fail=0&status=404&size=3");
    assert_eq!((reply.status, reply.body.len()), (404, 3));
}

#[test]
fn a_bad_knob_is_answered_with_what_is_allowed() {
    let backend = Backend::start(&[]);
    let reply = backend.get("/?delay=5");
    assert_eq!(reply.status, 400);
    assert!(reply.json()["error"].as_str().unwrap().contains("`5s`"), "{reply:?}");
}

#[test]
fn a_delay_is_waited() {
    let backend = Backend::start(&["--delay", "30ms..40ms"]);
    let start = Instant::now();
    assert_eq!(backend.get("/").status, 200);
    assert!(start.elapsed() >= Duration::from_millis(30));
    let start = Instant::now();
    assert_eq!(backend.get("/?delay=80ms").status, 200);
    assert!(start.elapsed() >= Duration::from_millis(80));
}

#[test]
fn requests_beyond_the_concurrency_wait_in_line_and_health_does_not() {
    let backend = Backend::start(&["--concurrency", "1"]);
    let mut hog = backend.connect();
    let upload = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    hog.write_all(upload.as_bytes()).unwrap();
    assert_eq!(read_head(&mut hog).status, 100, "the hog holds the only place while its body is awaited");

    let mut waiting = backend.connect();
    waiting.write_all(b"GET /second HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(backend.get("/health").json(), serde_json::json!({ "status": "ok" }));
    waiting.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(waiting.read(&mut [0]).is_err(), "the second request was answered out of turn");

    assert_eq!(exchange(&mut hog, "ab").status, 200);
    waiting.set_read_timeout(Some(support::PATIENCE)).unwrap();
    assert_eq!(exchange(&mut waiting, "").json()["path"], "/second");
}

#[test]
fn a_large_answer_is_streamed_in_constant_memory() {
    let backend = Backend::start(&[]);
    let before = resident_bytes(&backend);
    let mut stream = backend.connect();
    stream.write_all(b"GET /?size=64MiB HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!(support::content_length(&read_head(&mut stream).head), 64 << 20);
    let received = std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
    assert_eq!(received, 64 << 20);
    let grown = resident_bytes(&backend).saturating_sub(before);
    assert!(grown < 16 << 20, "resident memory grew by {grown} bytes");
}

fn resident_bytes(backend: &Backend) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", backend.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn answers_without_body_have_none() {
    let backend = Backend::start(&[]);
    let mut stream = backend.connect();
    let head = exchange(&mut stream, "HEAD /?size=10 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((head.status, support::content_length(&head.head)), (200, 10));
    let empty = exchange(&mut stream, "GET /?status=204&size=10 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((empty.status, empty.body.len()), (204, 0));
    assert_eq!(exchange(&mut stream, "GET /after HTTP/1.1\r\nHost: x\r\n\r\n").json()["path"], "/after");
}

#[test]
fn flags_come_from_the_environment_and_the_command_line_wins() {
    let mut command = meshwright(&["echo", "--listen", "127.0.0.1:0", "--status", "202"]);
    command.env("MESHWRIGHT_NAME", "from-env").env("MESHWRIGHT_STATUS", "418");
    let backend = Backend::spawn(&mut command);
    let reply = backend.get("/");
    assert_eq!(reply.status, 202);
    assert_eq!(reply.json()["name"], "from-env");
}

#[test]
fn a_busy_address_is_an_error_that_names_it() {
    let backend = Backend::start(&[]);
    let address = backend.address.to_string();
    let (code, _, error) = support::output(&mut meshwright(&["echo", "--listen", &address]));
    assert_eq!(code, 1);
    assert!(error.contains(&format!("cannot listen on {address}")), "{error}");
}

#[test]
fn sigterm_lets_the_answer_in_progress_end() {
    let backend = Backend::start(&[]);
    let mut stream = backend.connect();
    let upload = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(upload.as_bytes()).unwrap();
    assert_eq!(read_head(&mut stream).status, 100);
    let ended = std::thread::spawn(move || backend.terminate());
    let reply = exchange(&mut stream, "ab");
    assert_eq!((reply.status, ended.join().unwrap()), (200, Some(0)));
}
