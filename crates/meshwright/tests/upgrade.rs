//! Connections that change their protocol: only after a 101, only when asked for.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use meshwright_testkit::{Config, Launch, Meshwright, Origin, Pattern, RawClient, binary, gateway_to};

fn in_front_of(origin: &Origin) -> Meshwright {
    let config = Config::new(&[&gateway_to("svc")]);
    Launch::run(binary!())
        .file(config.path())
        .service_at("svc", origin.address())
        .args(&["--access-log", "text", "--no-watch", "--workers", "1"])
        .start()
}

#[test]
fn bytes_pass_both_ways_after_101_and_not_before() {
    let origin = Origin::switches_protocol_and_echoes();
    let process = in_front_of(&origin);
    let mut client = process.connect();
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    client.send(format!("GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{key}\r\n"));
    let switched = client.head();
    assert_eq!(switched.status, 101);
    assert_eq!(switched.header("upgrade"), Some("websocket"));
    assert_eq!(switched.header("connection").map(str::to_ascii_lowercase).as_deref(), Some("upgrade"));
    let received = origin.last();
    assert_eq!(received.header("upgrade"), Some("websocket"));
    assert_eq!(received.header("connection").map(str::to_ascii_lowercase).as_deref(), Some("upgrade"));
    assert_eq!(received.header("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    for message in [&b"\x81\x05hello"[..], b"GET / HTTP/1.1\r\n\r\n", &Pattern::bytes(100_000)] {
        client.send(message);
        assert_eq!(client.read_exactly(message.len()), message);
    }
    client.finish_sending();
    assert!(client.read_to_end().is_empty());
    process.metric_becomes("meshwright_downstream_upgrades_total", &[], 1.0);
    process.metric_becomes("istio_requests_total", &[("response_code", "101")], 1.0);
}

#[test]
fn a_refused_upgrade_followed_by_a_pipelined_request_opens_no_tunnel() {
    for status in [200, 403] {
        let origin = Origin::answers(status, &[], "no tunnel");
        let process = in_front_of(&origin);
        let mut client = process.connect();
        client.send(
            "GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n\
             GET /b HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n",
        );
        assert_eq!(client.response().status, status);
        assert_eq!(client.response().status, status);
        // The second request was parsed, not tunnelled: it has the headers of the proxy.
        let received = origin.requests();
        assert_eq!(received.len(), 2);
        assert_eq!(received[1].header("x-forwarded-for"), Some("6.6.6.6,127.0.0.1"));
        assert!(received[1].header("x-request-id").is_some());
    }
}

#[test]
fn a_switch_of_protocol_that_nobody_asked_for_is_502() {
    let origin = Origin::switches_protocol_and_echoes();
    let process = in_front_of(&origin);
    assert_eq!(process.get("x", "/").status, 502);
    assert_eq!(process.record_of("/").flags(), "UPE");
}

#[test]
fn an_upgrade_to_http2_in_clear_text_is_not_passed_on() {
    let origin = Origin::named("ok");
    let process = in_front_of(&origin);
    let headers =
        [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABkAAQCAAAAAAIAAAAA")];
    assert_eq!(process.connect().request("GET", "x", "/", &headers, b"").text(), "ok");
    let received = origin.last();
    assert_eq!((received.header("upgrade"), received.header("http2-settings")), (None, None));
}

#[test]
fn services_upgrade_between_each_other_too_and_half_closes_pass() {
    let origin = Origin::start(|connection| {
        if connection.request()?.is_none() {
            return Ok(());
        }
        connection.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: count\r\n\r\nhello")?;
        let mut count = 0;
        let mut buffer = [0; 1024];
        loop {
            match connection.read_some(&mut buffer)? {
                0 => return connection.send(format!("{count} bytes")),
                more => count += more,
            }
        }
    });
    let process = in_front_of(&origin);
    let mut client = RawClient::connect(process.mesh());
    // Bytes behind the request belong to the new protocol, and so do bytes behind the answer.
    client.send("GET / HTTP/1.1\r\nHost: svc\r\nConnection: Upgrade\r\nUpgrade: count\r\n\r\n123");
    assert_eq!(client.head().status, 101);
    assert_eq!(client.read_exactly(5), b"hello");
    client.send("4567");
    client.finish_sending();
    assert_eq!(client.read_to_end(), b"7 bytes");
    let record = process.record_of("/");
    assert_eq!((record.status(), record.bytes_received(), record.bytes_sent()), (101, "7", "12"));
}
