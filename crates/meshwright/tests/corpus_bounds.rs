//! Rows of the corpus that need many connections or an origin that answers badly over HTTP/2: B10, C17 and D7.

mod corpus;

use std::net::SocketAddr;

use meshwright_testkit::corpus::{AnswerMust, answers};
use meshwright_testkit::frames::{self, FrameClient, PREFACE, headers, kind, request, settings};
use meshwright_testkit::{Launch, Origin, PATIENCE, RawClient, binary, raise_descriptor_limit};

use corpus::{Setting, no_failures};

/// Clients that take their time.
const SLOW: usize = 2000;

/// Opens many connections that each send `first`, then a byte at a time in three rounds; whoever asks meanwhile is served.
/// What each of them costs the process, in bytes.
#[track_caller]
fn crowd(first: &[u8], open: impl Fn(SocketAddr) -> RawClient) -> u64 {
    raise_descriptor_limit();
    let setting = Setting::new();
    let mut neighbour = setting.process.connect();
    assert_eq!(neighbour.get("x", "/before").status, 200);
    let rss = setting.process.rss_bytes();
    let mut clients: Vec<RawClient> = (0..SLOW).map(|_| open(setting.process.gateway())).collect();
    clients.iter_mut().for_each(|client| client.send(first));
    for round in 0..3 {
        clients.iter_mut().for_each(|client| client.send("a"));
        for _ in 0..50 {
            assert_eq!(neighbour.get("x", &format!("/round/{round}")).status, 200);
        }
        assert_eq!(setting.process.get("x", "/new").status, 200);
    }
    let cost = setting.process.rss_bytes().saturating_sub(rss) / SLOW as u64;
    println!("{cost} bytes for each of {SLOW} that sent {} bytes", first.len() + 3);
    drop(clients);
    setting.serves_on();
    cost
}

#[test]
fn row_b10_two_thousand_clients_that_drip_their_heads_keep_nobody_waiting() {
    let cost = crowd(b"GET /slow HTTP/1.1\r\nHost: x\r\nX-Slow: ", RawClient::connect);
    assert!(cost <= 8 * 1024, "{cost} bytes each");
}

#[test]
fn row_b10_two_thousand_clients_that_drip_their_bodies_keep_nobody_waiting() {
    let cost = crowd(b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", RawClient::connect);
    // Each has a connection to the service too.
    assert!(cost <= 16 * 1024, "{cost} bytes each");
}

#[test]
fn row_b10_two_thousand_clients_that_hardly_read_keep_nobody_waiting() {
    const LARGE: usize = 256 * 1024;
    raise_descriptor_limit();
    let origin = Origin::answers_by(|request| match request.target.as_str() {
        "/large" => (200, "x".repeat(LARGE)),
        _ => (200, "small".to_owned()),
    });
    let process = Launch::proxy(binary!(), &[origin.address()]).args(&["--workers", "1", "--log", "error"]).start();
    let mut neighbour = process.connect();
    assert_eq!(neighbour.get("x", "/small").text(), "small");
    let rss = process.rss_bytes();
    let mut clients: Vec<RawClient> = (0..SLOW)
        .map(|_| {
            let mut client = process.connect();
            client.take_little();
            client.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
            client
        })
        .collect();
    for _ in 0..2 {
        clients.iter_mut().for_each(|client| drop(client.read_exactly(1)));
        for _ in 0..50 {
            assert_eq!(neighbour.get("x", "/small").text(), "small");
        }
        assert_eq!(process.get("x", "/small").text(), "small");
    }
    let cost = process.rss_bytes().saturating_sub(rss) / SLOW as u64;
    println!("{cost} bytes for each of {SLOW} that take a few bytes of {LARGE}");
    // What was read from the service at once and waits for its client, at most.
    assert!(cost <= (8 + 64 + 8) * 1024, "{cost} bytes each");
    drop(clients);
    assert_eq!(process.get("x", "/small").text(), "small");
}

#[test]
fn row_c17_two_thousand_clients_that_begin_http2_and_ask_nothing_keep_nobody_waiting() {
    // The byte behind is the beginning of a frame that never ends.
    let cost = crowd(&[PREFACE, &settings(&[])].concat(), RawClient::connect);
    // The buffers of HTTP/2 come on top of what a connection of HTTP/1 holds.
    assert!(cost <= 24 * 1024, "{cost} bytes each");
}

#[test]
fn row_d7_bad_answers_of_http1_never_look_whole_over_http2() {
    let setting = Setting::new();
    let mut failures = Vec::new();
    for (number, case) in answers().iter().enumerate() {
        let mut client = FrameClient::open(setting.process.gateway(), None, &[]);
        client.send(headers(1, request(case.method, &format!("/answers/{number}/0"), &[]), true));
        client.read_until(PATIENCE, |all| {
            all.iter().any(|one| one.stream == 1 && (one.is_last() || one.kind == kind::RST_STREAM))
        });
        let whole = client.is_answered(1) && client.reset_of(1).is_none_or(|code| code == 0);
        let status = client.status_of(1).unwrap_or_default();
        let failed = !whole || status >= 500;
        let body = client.data_of(1);
        let right = match case.must {
            AnswerMust::Fail => failed,
            AnswerMust::Deliver(expected) => !failed && body == expected.as_bytes(),
            AnswerMust::FailOrDeliver(expected) => failed || body == expected.as_bytes(),
        };
        if !right {
            let kinds: Vec<u8> = client.frames().iter().map(|frame: &frames::Http2Frame| frame.kind).collect();
            failures.push(format!("{} ({}): {status}, whole {whole}, {kinds:?}", case.row, case.name));
        }
    }
    no_failures(&failures);
    setting.stays_unharmed();
}
