//! The peers against each other: a tool that lies would make every other test worthless.

use std::time::Duration;

use meshwright_testkit::{FullPort, Origin, Pattern, RawClient, ReadError, RefusingPort, eventually, holds_within};

fn client(origin: &Origin) -> RawClient {
    RawClient::connect(origin.address())
}

#[test]
fn an_origin_records_what_a_client_sends() {
    let origin = Origin::echoes();
    let mut client = client(&origin);
    let answer = client.request("POST", "host", "/target?q", &[("X-Name", "value")], b"body");
    assert_eq!((answer.status, answer.text().as_str(), answer.header("X-TARGET")), (200, "body", Some("/target?q")));
    client.send("PUT /2 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nab\r\n0\r\nT: u\r\n\r\n");
    let answer = client.response();
    assert_eq!((answer.text().as_str(), answer.trailers.len()), ("ab", 1));
    let received = origin.requests();
    assert_eq!(received[0].header("x-name"), Some("value"));
    assert_eq!((received[1].method.as_str(), received[1].connection, received[1].before), ("PUT", 0, 1));
    assert_eq!(received[1].chunk_lines, ["2;x", "0"]);
    assert_eq!((origin.count(), origin.heads(), origin.connections(), origin.open()), (2, 2, 1, 1));
    drop(client);
    eventually("the connection ends", || origin.open() == 0);
}

#[test]
fn ways_to_fail_look_different_to_a_client() {
    let ask = |origin: &Origin| client(origin).try_request("GET", "h", "/", &[], b"");
    assert!(matches!(ask(&Origin::closes_mid_body()), Err(ReadError::Truncated(part)) if part.body == b"hello"));
    assert!(matches!(ask(&Origin::resets_before_answering()), Err(ReadError::Failed(_))));
    assert!(matches!(ask(&Origin::closes_unanswered_after(0)), Err(ReadError::Closed)));
    assert!(matches!(ask(&Origin::sends("nonsense\r\n\r\n")), Err(ReadError::Invalid(_))));
    assert!(RawClient::try_connect(RefusingPort::new().address()).is_err());
}

#[test]
fn a_full_port_neither_accepts_nor_refuses() {
    let full = FullPort::new();
    let connected = std::net::TcpStream::connect_timeout(&full.address(), Duration::from_millis(200));
    assert_eq!(connected.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
}

#[test]
fn slow_early_and_silent_origins_do_what_their_names_say() {
    let slow = Origin::one_byte_at_a_time("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(client(&slow).get("h", "/").text(), "abc");
    let early = Origin::answers_early_without_reading(413);
    let mut sender = client(&early);
    sender.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n");
    assert_eq!(sender.response().status, 413);
    let silent = Origin::never_answers();
    let mut waiting = client(&silent);
    waiting.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(!waiting.is_closed_within(Duration::from_millis(50)));
    assert_eq!(silent.count(), 1);
    let idle = Origin::closes_after_idle(Duration::from_millis(20));
    let mut kept = client(&idle);
    assert_eq!(kept.get("h", "/").text(), "alive");
    assert!(kept.is_closed_within(Duration::from_secs(5)));
    let continued = Origin::answers_100_then(201, "made");
    let answer = client(&continued).request("POST", "h", "/", &[], b"x");
    assert_eq!((answer.status, answer.informational.as_slice()), (201, &[100][..]));
}

#[test]
fn patterns_are_checked_and_made_by_origins() {
    let checks = Origin::checks_pattern();
    let mut bytes = Pattern::bytes(300_000);
    assert_eq!(client(&checks).request("POST", "h", "/", &[], &bytes).text(), "intact 300000");
    bytes.swap(70_000, 70_001);
    bytes[200_000] ^= 1;
    assert!(client(&checks).request("POST", "h", "/", &[], &bytes).text().starts_with("broken"));
    let answer = client(&Origin::sends_pattern(100_000)).get("h", "/");
    assert!(answer.body.len() == 100_000 && Pattern::default().check(&answer.body));
}

#[test]
fn waiting_ends_with_the_condition_or_with_the_time() {
    let mut looks = 0;
    assert!(holds_within(Duration::from_secs(5), || {
        looks += 1;
        looks == 3
    }));
    assert!(!holds_within(Duration::from_millis(20), || false));
}
