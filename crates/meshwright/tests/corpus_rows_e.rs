//! Rows E of the corpus: gRPC, WebSocket, bytes over TCP, protocols that are not recognised, and PROXY headers.
//!
//! What these features do when everybody behaves is in `grpc.rs`, `websocket.rs` and `tcp.rs`.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "support/pairs.rs"]
mod pairs;
mod support;

use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;

use meshwright_codec::WebSocketKey;
use meshwright_testkit::{
    Ask, Client, Config, GATEWAY_FOR_BYTES, Grpc, GrpcEnd, Http2Client, Http2Failure, Http2Origin, Launch, Meshwright,
    Origin, PATIENCE, Pattern, RawClient, RefusingPort, Speaks, binary, destination_rule, eventually, gateway_routes,
    gateway_to, service_entry,
};
use pairs::{PAIRS, in_front_of};
use support::Backend;

const UNAVAILABLE: u16 = 14;

fn grpc_to(address: SocketAddr) -> (Config, Meshwright) {
    let config = Config::new(&[&gateway_to("svc"), &service_entry("svc", "GRPC", address)]);
    let process = Launch::run(binary!()).file(config.path()).args(&["--no-watch", "--workers", "1"]).start();
    (config, process)
}

fn call(process: &Meshwright, metadata: &[(&str, &str)]) -> GrpcEnd {
    let client = Http2Client::connect(process.gateway());
    Grpc::new(&client, "svc").unary("/s.S/M", metadata, b"x")
}

/// An answer of ours to a call: 200, no message, and the status in the one head.
#[track_caller]
fn is_told(end: &GrpcEnd, status: u16) {
    assert_eq!((end.status, end.trailers_only), (Some(status), true), "{end:?}");
    assert_eq!(end.head.as_ref().map(|head| head.status), Some(200));
    assert!(!end.message.is_empty() && end.messages.is_empty());
}

#[test]
fn row_e1_deadlines_that_are_none_and_calls_without_te() {
    let origin = Http2Origin::echoes_messages();
    let (_config, process) = grpc_to(origin.address());
    for timeout in ["99999999999H", "99999999H", "1", "-1S", "+1S", "123456789S", "S", "", "1s", "0x1S", "1 S", "1S1S"]
    {
        let end = call(&process, &[("grpc-timeout", timeout)]);
        assert_eq!((end.status, end.messages), (Some(0), vec![b"x".to_vec()]), "{timeout:?}");
    }
    let silent = Http2Origin::never_answers();
    let (_config, slow) = grpc_to(silent.address());
    is_told(&call(&slow, &[("grpc-timeout", "0n")]), 4);
    let client = Http2Client::connect(process.gateway());
    let ask = Ask::post("svc", "/s.S/M", &b"\0\0\0\0\x01x"[..]).header("content-type", "application/grpc");
    let answer = client.request(&ask);
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"\0\0\0\0\x01x"[..]), "the field te is missing");
    assert!(answer.trailers.contains(&("grpc-status".to_owned(), "0".to_owned())), "{:?}", answer.trailers);
}

#[test]
fn row_e2_messages_that_claim_to_be_anything_stream_through_in_bounded_memory() {
    let origin = Http2Origin::streams_back();
    let (_config, process) = grpc_to(origin.address());
    let client = Http2Client::connect(process.gateway());
    let call = |length: &str| {
        let ask = Ask::post("svc", "/s.S/M", "").left_open().header("content-type", "application/grpc");
        client.start(&ask.header("te", "trailers").header("grpc-encoding", length)).unwrap()
    };
    let before = process.rss_bytes();
    // 4 GiB that never come; a message that is compressed with nothing; one that comes a byte at a time.
    for prefix in [[0, 0xff, 0xff, 0xff, 0xff], [1, 0, 0, 0, 9], [0xff, 0, 0, 0, 0]] {
        let mut exchange = call("identity");
        let body = [&prefix[..], &Pattern::bytes(2 << 20)].concat();
        let mut back = Vec::new();
        for piece in body.chunks(64 * 1024) {
            exchange.sender.send(piece.to_vec()).unwrap();
            let mut missing = piece.len();
            while missing > 0 {
                let data = exchange.body().read_some().unwrap().unwrap();
                missing -= data.len();
                back.extend_from_slice(&data);
            }
        }
        exchange.sender.finish().unwrap();
        assert_eq!(exchange.body().read_some(), Ok(None));
        assert!(back == body, "{prefix:?}");
    }
    let mut exchange = call("identity");
    for byte in *b"\0\0\0\0\x20a message of thirty-two bytes....." {
        exchange.sender.send(vec![byte]).unwrap();
        assert_eq!(exchange.body().read_some().unwrap().unwrap().as_ref(), [byte]);
    }
    let grown = process.rss_bytes().saturating_sub(before);
    assert!(grown < 8 << 20, "grew by {grown} bytes");
}

#[test]
fn row_e3_failures_of_ours_are_told_in_the_only_head() {
    let refusing = RefusingPort::new();
    let (_config, process) = grpc_to(refusing.address());
    is_told(&call(&process, &[]), UNAVAILABLE);
    let silent = Http2Origin::never_answers();
    let (_config, process) = grpc_to(silent.address());
    is_told(&call(&process, &[("grpc-timeout", "100m")]), 4);
    let mute = Origin::start(|connection| {
        connection.wait_for_close(PATIENCE);
        Ok(())
    });
    let (_config, process) = grpc_to(mute.address());
    is_told(&call(&process, &[("grpc-timeout", "100m")]), 4);
    let http1 = Origin::named("no HTTP/2 here");
    let (_config, process) = grpc_to(http1.address());
    is_told(&call(&process, &[]), UNAVAILABLE);
    let config =
        Config::new(&[&gateway_routes("- match: [{uri: {prefix: /other}}]\n  route: [{destination: {host: svc}}]")]);
    let process = Launch::run(binary!()).file(config.path()).service_at("svc", refusing.address()).start();
    is_told(&call(&process, &[]), 12);
}

#[test]
fn row_e4_streams_that_are_reset_with_any_code_before_the_answer() {
    const REFUSED_STREAM: u32 = 7;
    for code in 0..=13 {
        let origin = Http2Origin::start(move |stream| {
            stream.reset(code);
            Ok(())
        });
        let (_config, process) = grpc_to(origin.address());
        is_told(&call(&process, &[]), UNAVAILABLE);
        // What was refused the service has not begun with; anything else it may have.
        let tries = origin.streams();
        assert_eq!(tries > 1, code == REFUSED_STREAM, "code {code}: {tries} tries");
    }
}

#[test]
fn row_e4_streams_that_end_in_the_middle_of_an_answer_do_not_look_whole() {
    for code in [0, 2, 7, 8, 11, 13] {
        let origin = Http2Origin::start(move |stream| {
            stream.begin_call(&[])?;
            stream.send_message(b"first")?;
            // The message must be on its way before the reset overtakes it.
            stream.wait_for_reset(Duration::from_millis(50));
            stream.reset(code);
            Ok(())
        });
        let (_config, process) = grpc_to(origin.address());
        let end = call(&process, &[]);
        assert!(end.status.is_none() && end.failure.is_some(), "code {code}: {end:?}");
        assert_eq!(origin.streams(), 1, "code {code}: an answer that has begun is not asked for again");
    }
    let dies = Http2Origin::start(|stream| {
        stream.begin_call(&[])?;
        stream.send_message(b"first")?;
        stream.wait_for_reset(PATIENCE);
        Ok(())
    });
    let (_config, process) = grpc_to(dies.address());
    let client = Http2Client::connect(process.gateway());
    let mut call = Grpc::new(&client, "svc").call("/s.S/M", &[]);
    assert_eq!(call.message(), Ok(Some(b"first".to_vec())));
    dies.close_connections();
    assert!(matches!(call.end(), GrpcEnd { status: None, failure: Some(Http2Failure::Reset(_)), .. }));
}

#[test]
fn row_e4_a_service_that_goes_away_between_calls_loses_none() {
    let origin = Http2Origin::echoes_messages();
    let (_config, process) = grpc_to(origin.address());
    let client = Http2Client::connect(process.gateway());
    let grpc = Grpc::new(&client, "svc");
    for round in 0..20 {
        let mut open = grpc.call("/s.S/Open", &[]);
        open.send(b"before").unwrap();
        assert_eq!(open.message(), Ok(Some(b"before".to_vec())));
        origin.go_away();
        assert_eq!(grpc.unary("/s.S/M", &[], b"x").status, Some(0), "round {round}");
        open.send(b"after").unwrap();
        open.finish_sending().unwrap();
        let end = open.end();
        assert_eq!((end.status, end.messages), (Some(0), vec![b"after".to_vec()]), "round {round}");
    }
    assert!(origin.connections() > 1);
}

/// A service that switches to WebSocket as it should, and then sends back every byte.
fn switches() -> Origin {
    Origin::start(|connection| {
        let Some(received) = connection.request()? else { return Ok(()) };
        let accept = WebSocketKey::accept_of(received.header("sec-websocket-key").unwrap_or_default().as_bytes());
        connection.send([
            &b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: "[..],
            &accept,
            b"\r\n\r\n",
        ].concat())?;
        let mut buffer = [0; 4096];
        loop {
            match connection.read_some(&mut buffer)? {
                0 => return Ok(()),
                count => connection.send(&buffer[..count])?,
            }
        }
    })
}

/// Frames that no WebSocket should see, and those that are rare (RFC 6455, section 5).
fn odd_frames() -> Vec<u8> {
    let mut bytes = Vec::new();
    // Reserved bits, reserved opcodes, controls in pieces and too long, each masked.
    for first in [0xc1, 0xa1, 0x91, 0xf1, 0x83, 0x87, 0x8b, 0x8f, 0x09, 0x08, 0x0a, 0x00, 0x80] {
        bytes.extend([first, 0x85, 1, 2, 3, 4]);
        bytes.extend(b"hello");
    }
    bytes.extend([0x89, 0xfe, 0x00, 0xff, 0, 0, 0, 0]);
    bytes.extend([b'p'; 255]);
    // A length of 64 bits, its highest bit set; one in more bits than it needs; no mask at all.
    bytes.extend([0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1, 9, 9, 9, 9, 1]);
    bytes.extend([0x82, 0xff, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 2]);
    bytes.extend([0x81, 0x02, b'n', b'o']);
    // A character in two fragments, bytes that are no text, a close with half a code.
    bytes.extend([0x01, 0x81, 0, 0, 0, 0, 0xc3, 0x80, 0x81, 0, 0, 0, 0, 0xa4, 0x81, 0x81, 0, 0, 0, 0, 0xff]);
    bytes.extend([0x88, 0x81, 0, 0, 0, 0, 3]);
    bytes.extend(Pattern::bytes(100_000));
    bytes
}

#[test]
fn row_e5_frames_of_any_kind_pass_byte_by_byte_as_they_are() {
    let frames = odd_frames();
    let (h1, h2) = (switches(), Http2Origin::streams_back());
    for (down, up) in PAIRS {
        let address = if up == Speaks::Http2 { h2.address() } else { h1.address() };
        let (_config, process) = in_front_of(address, up, &[]);
        match Client::connect(down, process.gateway()) {
            Client::Http1(mut client) => {
                client.send(
                    "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                );
                assert_eq!(client.head().status, 101, "{down:?} {up:?}");
                client.send_split(&frames, &[1, 2, 3, 40, 500, 6000]);
                assert!(client.read_exactly(frames.len()) == frames, "{down:?} {up:?}");
            }
            Client::Http2(client) => {
                assert!(client.may_extended_connect());
                let ask = Ask::extended_connect("x", "/", "websocket").header("sec-websocket-version", "13");
                let mut exchange = client.start(&ask).unwrap();
                assert_eq!(exchange.head().status, 200, "{down:?} {up:?}");
                exchange.sender.send(frames.clone()).unwrap();
                let mut back = Vec::new();
                while back.len() < frames.len() {
                    back.extend_from_slice(&exchange.body().read_some().unwrap().unwrap());
                }
                assert!(back == frames, "{down:?} {up:?}");
            }
        }
    }
}

#[test]
fn row_e6_handshakes_of_websocket_that_are_wrong() {
    let backend = Backend::start(&[]);
    let (_config, process) = in_front_of(backend.address, Speaks::Http1, &[]);
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for lines in [
        format!("{upgrade}Sec-WebSocket-Version: 13\r\n"),
        format!("{upgrade}{key}Sec-WebSocket-Version: 99\r\n"),
        format!("{upgrade}{key}"),
        format!("{upgrade}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n"),
    ] {
        let mut client = process.connect();
        client.send(format!("GET / HTTP/1.1\r\nHost: x\r\n{lines}\r\n"));
        let status = client.response().status;
        assert!((400..500).contains(&status), "{status} for {lines}");
    }
    for head in [
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: something-else\r\n\r\n",
    ] {
        let origin = Origin::sends(head);
        let (_config, process) = in_front_of(origin.address(), Speaks::Http1, &[]);
        let mut client = process.connect();
        client.send(format!("GET / HTTP/1.1\r\nHost: x\r\n{upgrade}{key}Sec-WebSocket-Version: 13\r\n\r\n"));
        assert_eq!(client.response().status, 502, "{head}");
    }
}

#[test]
fn row_e6_cve_2023_43669_a_head_of_megabytes_byte_by_byte_costs_no_more_than_its_limit() {
    let origin = Origin::echoes();
    let (_config, process) = in_front_of(origin.address(), Speaks::Http1, &[]);
    let mut client = process.connect();
    client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n");
    let cpu = process.cpu_time();
    let field = format!("X: {}\r\n", "y".repeat(1000));
    let sent =
        (0..10 << 20).take_while(|at| client.try_send(&field.as_bytes()[at % field.len()..][..1]).is_ok()).count();
    let cpu = process.cpu_time() - cpu;
    println!("{sent} bytes were taken for {cpu:?} of processor time");
    assert!(sent < 1 << 20, "{sent} bytes were taken");
    assert_eq!(origin.bytes(), 0);
    assert_eq!(process.get("x", "/after").status, 200);
}

/// A gateway whose port 9000 sends bytes to `address`.
fn bytes_to(address: SocketAddr) -> (Config, Meshwright) {
    let rule = destination_rule("svc", "{loadBalancer: {simple: ROUND_ROBIN}}");
    let config = Config::new(&[GATEWAY_FOR_BYTES, &service_entry("svc", "TCP", address), &rule]);
    let arguments = ["--map-port", "9000=0", "--workers", "1"];
    let process = Launch::run(binary!()).file(config.path()).args(&arguments).start();
    (config, process)
}

#[test]
fn row_e7_a_service_that_speaks_first_to_a_client_that_takes_nothing_for_a_while() {
    const LARGE: u64 = 48 << 20;
    let origin = Origin::start(|connection| {
        let mut pattern = Pattern::default();
        while pattern.total() < LARGE {
            let most = usize::try_from(LARGE - pattern.total()).unwrap();
            let block = pattern.next(most).to_vec();
            connection.send(block)?;
        }
        connection.finish_sending();
        // The other direction goes on behind the end of this one.
        let mut buffer = [0; 64];
        let count = connection.read_some(&mut buffer)?;
        connection.record(meshwright_testkit::Received { body: buffer[..count].to_vec(), ..Default::default() });
        Ok(())
    });
    let (_config, process) = bytes_to(origin.address());
    let before = process.rss_bytes();
    let mut client = RawClient::connect(process.listener(9000).unwrap());
    let mut rest = vec![0; 1 << 16];
    let mut pattern = Pattern::default();
    // Nothing is taken until the sockets are full: a look at the memory then.
    meshwright_testkit::pass(Duration::from_millis(300));
    let grown = process.rss_bytes().saturating_sub(before);
    assert!(grown < 4 << 20, "grew by {grown} bytes");
    loop {
        let count = client.stream().read(&mut rest).unwrap();
        if count == 0 {
            break;
        }
        assert!(pattern.check(&rest[..count]), "broken near byte {}", pattern.total());
    }
    assert_eq!(pattern.total(), LARGE);
    client.send("and goes on");
    client.finish_sending();
    eventually("it came", || origin.count() == 1);
    assert_eq!(origin.last().body, b"and goes on");
}

#[test]
fn row_e7_a_reset_of_either_side_reaches_the_other_as_no_end() {
    let (told, tells) = std::sync::mpsc::channel();
    let origin = Origin::start(move |connection| {
        let mut buffer = [0; 16];
        let mut ended = Ok(1);
        while ended.as_ref().is_ok_and(|count| *count > 0) {
            ended = connection.read_some(&mut buffer);
            if buffer.starts_with(b"reset") {
                connection.reset();
                return Ok(());
            }
        }
        told.send(ended.is_err()).unwrap();
        Ok(())
    });
    let (_config, process) = bytes_to(origin.address());
    let mut client = RawClient::connect(process.listener(9000).unwrap());
    client.send("reset");
    assert!(client.stream().read(&mut [0; 8]).is_err(), "a reset of the service looks like an end");
    let mut client = RawClient::connect(process.listener(9000).unwrap());
    client.send("half");
    eventually("it came", || origin.bytes() == 9);
    client.reset();
    assert!(tells.recv_timeout(PATIENCE).unwrap(), "a reset of the client looks like an end");
}

#[test]
fn row_e8_who_never_says_what_it_speaks_is_closed_after_the_time_for_heads() {
    let origin = Origin::echoes();
    let (_config, process) = in_front_of(origin.address(), Speaks::Http1, &["--header-timeout", "500ms"]);
    for (what, bytes, status) in [
        ("nothing", &b""[..], None),
        ("a byte", b"G", Some(408)),
        ("half a method", b"POS", Some(408)),
        ("half a preface", b"PRI * HT", Some(408)),
        ("a record of TLS", b"\x16\x03\x01\x00\x05\x01\x00\x00", Some(400)),
        ("a PROXY header that nobody expects", b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n", Some(400)),
    ] {
        let mut client = process.connect();
        client.send(bytes);
        let answer = String::from_utf8_lossy(&client.read_to_end()).into_owned();
        let expected = status.map_or(String::new(), |status| format!("HTTP/1.1 {status} "));
        assert!(answer.starts_with(&expected) && answer.is_empty() == status.is_none(), "{what}: {answer}");
    }
    assert_eq!(origin.bytes(), 0);
    assert_eq!(process.get("x", "/after").status, 200);
}

/// A header of version 2 with this command, these addresses and what follows them.
fn second(command: u8, length: u16, rest: &[u8]) -> Vec<u8> {
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, 0x11], &length.to_be_bytes(), rest].concat()
}

#[test]
fn row_e9_proxy_headers_that_are_wrong_are_never_trusted() {
    let origin = Origin::echoes();
    let (_config, process) =
        in_front_of(origin.address(), Speaks::Http1, &["--proxy-protocol-port", "80", "--header-timeout", "500ms"]);
    let addresses = [192, 0, 2, 8, 198, 51, 100, 1, 0x12, 0x34, 0, 80];
    let long = format!("PROXY TCP4 192.0.2.7 198.51.100.1 4711 80{}\r\n", " ".repeat(107));
    let tlv = |bytes: &[u8]| second(0x21, 12 + bytes.len() as u16, &[&addresses[..], bytes].concat());
    for (what, header) in [
        ("none at all", Vec::new()),
        ("more than 107 bytes", long.into_bytes()),
        ("no end", b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 80".to_vec()),
        ("a bare line feed", b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 80\n".to_vec()),
        ("another family", b"PROXY TCP6 192.0.2.7 198.51.100.1 4711 80\r\n".to_vec()),
        ("leading zeros", b"PROXY TCP4 192.0.02.7 198.51.100.1 4711 80\r\n".to_vec()),
        ("a port beyond all", b"PROXY TCP4 192.0.2.7 198.51.100.1 99999 80\r\n".to_vec()),
        ("two of them", b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\nPROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n".to_vec()),
        ("a version that is none", second(0x31, 12, &addresses)),
        ("a command that is none", second(0x2f, 12, &addresses)),
        ("too few addresses", second(0x21, 4, &addresses[..4])),
        ("more than there may be", second(0x21, 0xffff, &vec![0; 0xffff])),
        ("a TLV longer than the header", tlv(&[3, 0xff, 0xff, 1])),
        ("half a TLV", tlv(&[3, 0])),
    ] {
        let mut client = process.connect();
        let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        // The peer may close before everything is sent.
        let _ = client.try_send([&header[..], request].concat());
        let answer = client.read_to_end();
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{what}");
        assert_eq!(origin.bytes(), 0, "{what}");
    }
    // LOCAL: a check of the balancer itself. What addresses it carries does not count.
    for local in [second(0x20, 0, &[]), second(0x20, 12, &addresses), b"PROXY UNKNOWN 1.2.3.4 5.6.7.8 1 2\r\n".to_vec()]
    {
        let mut client = process.connect();
        client.send([&local[..], b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"].concat());
        assert_eq!(client.response().status, 200);
        assert_eq!(origin.last().header("x-forwarded-for"), Some("127.0.0.1"));
    }
    let good = tlv(&[0x20, 0, 1, 9]);
    let mut client = process.connect();
    client
        .send_split(&[&good[..], b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"].concat(), &(1..good.len()).collect::<Vec<_>>());
    assert_eq!(client.response().status, 200);
    assert_eq!(origin.last().header("x-forwarded-for"), Some("192.0.2.8"));
}
