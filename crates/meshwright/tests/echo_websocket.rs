//! `meshwright echo` as a WebSocket server: the handshake by its bytes, everything else with Python's `websockets`.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use std::io::{Read, Write};

use meshwright_testkit::{Ask, Http2Client, Pattern, RawClient, TlsClient, WebSocket};
use support::{Backend, exchange, python, read_head};

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const UPGRADE: &str =
    "Host: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n";

#[test]
fn the_handshake_is_that_of_the_rfc() {
    let backend = Backend::start(&["--name", "chat-1"]);
    let mut stream = backend.connect();
    let offers = "Sec-WebSocket-Protocol: chat, superchat\r\n";
    stream.write_all(format!("GET /chat HTTP/1.1\r\n{UPGRADE}{KEY}{offers}\r\n").as_bytes()).unwrap();
    let reply = read_head(&mut stream);
    assert_eq!(reply.status, 101);
    let head = reply.head.to_ascii_lowercase();
    for field in [
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=",
        "sec-websocket-protocol: chat\r",
        "echo-name: chat-1",
    ] {
        assert!(head.contains(field), "{field} is missing in {head}");
    }
    // A frame with a mask of zeros is sent back without a mask.
    stream.write_all(b"\x81\x82\0\0\0\0hi").unwrap();
    let mut frame = [0; 4];
    stream.read_exact(&mut frame).unwrap();
    assert_eq!(&frame, b"\x81\x02hi");
}

#[test]
fn a_handshake_that_is_none_is_refused_with_a_reason() {
    let backend = Backend::start(&[]);
    for (request, status, says) in [
        (format!("GET / HTTP/1.1\r\n{}{KEY}\r\n", UPGRADE.replace("13", "8")), 426, "13"),
        (format!("GET / HTTP/1.1\r\n{UPGRADE}\r\n"), 400, "Sec-WebSocket-Key"),
        (format!("GET / HTTP/1.1\r\n{UPGRADE}Sec-WebSocket-Key: c2hvcnQ=\r\n\r\n"), 400, "Sec-WebSocket-Key"),
        (format!("PUT / HTTP/1.1\r\n{UPGRADE}{KEY}\r\n"), 400, "GET"),
    ] {
        let reply = exchange(&mut backend.connect(), &request);
        assert_eq!(reply.status, status, "{request}");
        assert!(reply.json()["error"].as_str().unwrap().contains(says), "{reply:?}");
        assert_eq!(reply.head.to_ascii_lowercase().contains("sec-websocket-version: 13"), status == 426);
    }
}

#[test]
fn messages_come_back_whole() {
    let backend = Backend::start(&[]);
    let script = r#"
import asyncio, sys, websockets
async def main(uri):
    async with websockets.connect(uri, max_size=None, compression=None, subprotocols=["a", "b"]) as ws:
        assert ws.subprotocol == "a"
        for message in ["hello", "", "\u00e4\u20ac\U0001F600" * 1000, b"", bytes(range(256)) * 300, b"x" * (15 << 20)]:
            await ws.send(message)
            assert await ws.recv() == message, len(message)
        await ws.send(["frag", "men", "ted"])
        assert await ws.recv() == "fragmented"
        await (await ws.ping(b"are you there"))
        await ws.close(4000, "enough")
    assert ws.close_code == 4000, ws.close_code
asyncio.run(main(sys.argv[1]))
print("fine")
"#;
    assert_eq!(python(script, &[&format!("ws://{}/any/path", backend.address)]), "fine");
}

#[test]
fn many_connections_at_once_are_served_over_tls_too() {
    let backend = Backend::start(&["--tls"]);
    let script = r#"
import asyncio, ssl, sys, websockets
trusting = ssl.create_default_context()
trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
async def one(uri, number):
    async with websockets.connect(uri, ssl=trusting) as ws:
        for turn in range(5):
            await ws.send("%d %d" % (number, turn))
            assert await ws.recv() == "%d %d" % (number, turn)
async def main(uri):
    await asyncio.gather(*[one(uri, number) for number in range(50)])
asyncio.run(main(sys.argv[1]))
print("fine")
"#;
    assert_eq!(python(script, &[&format!("wss://{}/", backend.address)]), "fine");
}

#[test]
fn an_http2_connection_carries_several_websockets_and_requests_beside_them() {
    let plain = Backend::start(&[]);
    let secure = Backend::start(&["--tls"]);
    let tls = TlsClient::trusting_everybody("localhost").alpn(&["h2"]);
    for client in [Http2Client::connect(plain.address), Http2Client::over_tls(secure.address, &tls)] {
        let mut sockets: Vec<WebSocket> =
            (0..10).map(|number| WebSocket::open_http2(&client, "localhost", &format!("/chat/{number}"))).collect();
        for (number, socket) in sockets.iter_mut().enumerate() {
            socket.echoes(&format!("I am {number}"));
            socket.send_frame(1, false, b"frag");
            socket.send_frame(9, true, b"ping");
            socket.send_frame(0, true, b"ment");
            let (pong, whole) = (socket.frame(), socket.frame());
            assert_eq!((pong.opcode, pong.payload.as_slice()), (10, &b"ping"[..]));
            assert_eq!((whole.opcode, whole.payload.as_slice()), (1, &b"fragment"[..]));
        }
        assert_eq!(client.get("localhost", "/beside").json()["connection"], 1);
        sockets[0].send_frame(2, true, &Pattern::bytes(3 << 20));
        assert_eq!(sockets[0].frame().payload, Pattern::bytes(3 << 20));
        sockets.into_iter().for_each(WebSocket::close);
        let refused = client.request(&Ask::extended_connect("localhost", "/", "connect-udp"));
        assert_eq!(refused.status, 405);
    }
}

#[test]
fn the_peer_of_other_tests_agrees_with_it_over_http1() {
    let backend = Backend::start(&[]);
    let mut socket = WebSocket::open(RawClient::connect(backend.address), "localhost", "/");
    socket.echoes("");
    socket.send_frame(1, true, &[b'a'; 200]);
    assert_eq!(socket.frame().payload, [b'a'; 200]);
    socket.close();
}

#[test]
fn broken_rules_are_answered_with_the_close_code_for_them() {
    let backend = Backend::start(&[]);
    let close_after = |bytes: &[u8]| {
        let mut stream = backend.connect();
        stream.write_all(format!("GET / HTTP/1.1\r\n{UPGRADE}{KEY}\r\n").as_bytes()).unwrap();
        assert_eq!(read_head(&mut stream).status, 101);
        stream.write_all(bytes).unwrap();
        let mut frames = Vec::new();
        stream.read_to_end(&mut frames).unwrap();
        assert_eq!(frames[0], 0x88, "{frames:x?}");
        u16::from_be_bytes([frames[2], frames[3]])
    };
    assert_eq!(close_after(b"\x81\x02hi"), 1002, "a frame without a mask");
    assert_eq!(close_after(b"\x81\x81\0\0\0\0\xff"), 1007, "text that is not UTF-8");
    assert_eq!(close_after(b"\x82\xff\0\0\0\0\x01\0\0\x01\0\0\0\0"), 1009, "a message above 16 MiB");
    assert_eq!(close_after(b"\x88\x80\0\0\0\0"), 1000, "an end without a code");
    assert_eq!(close_after(b"\x88\x82\0\0\0\0\x0f\xa0"), 4000, "an end with a code of the application");
}

#[test]
fn sigterm_tells_open_websockets_that_the_backend_goes_away() {
    let backend = Backend::start(&[]);
    let mut stream = backend.connect();
    stream.write_all(format!("GET / HTTP/1.1\r\n{UPGRADE}{KEY}\r\n").as_bytes()).unwrap();
    assert_eq!(read_head(&mut stream).status, 101);
    let ended = std::thread::spawn(move || backend.terminate());
    let mut frame = [0; 4];
    stream.read_exact(&mut frame).unwrap();
    assert_eq!((frame[0], &frame[2..]), (0x88, &1001_u16.to_be_bytes()[..]));
    stream.write_all(b"\x88\x82\0\0\0\0\x03\xe9").unwrap();
    drop(stream);
    assert_eq!(ended.join().unwrap(), Some(0));
}
