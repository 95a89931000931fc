//! WebSockets through the gateway, from and to either version of HTTP.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "support/pairs.rs"]
mod pairs;
mod support;

use std::net::SocketAddr;
use std::time::Duration;

use meshwright_testkit::{
    Client, Config, Http2Client, Http2Origin, Launch, Meshwright, Origin, Pattern, RawClient, Signal, Speaks,
    WebSocket, binary, eventually, gateway_to, service_entry,
};
use pairs::{PAIRS, in_front_of};
use support::{Backend, python};

fn open(client: Client, path: &str) -> WebSocket {
    match client {
        Client::Http1(client) => WebSocket::open(client, "chat.example.com", path),
        // The connection ends with its client, so it has to outlive the test.
        Client::Http2(client) => WebSocket::open_http2(Box::leak(Box::new(client)), "chat.example.com", path),
    }
}

fn connect(down: Speaks, process: &Meshwright, path: &str) -> WebSocket {
    open(Client::connect(down, process.gateway()), path)
}

#[test]
fn frames_pass_both_ways_in_all_pairs() {
    let backend = Backend::start(&[]);
    for (down, up) in PAIRS {
        let (_config, process) = in_front_of(backend.address, up, &[]);
        let mut socket = connect(down, &process, "/chat");
        socket.echoes("hello");
        socket.echoes("");
        socket.send_frame(1, false, b"frag");
        socket.send_frame(9, true, b"ping");
        socket.send_frame(0, true, b"ment");
        let (pong, whole) = (socket.frame(), socket.frame());
        assert_eq!((pong.opcode, pong.payload.as_slice()), (10, &b"ping"[..]), "{down:?} {up:?}");
        assert_eq!((whole.opcode, whole.payload.as_slice()), (1, &b"fragment"[..]), "{down:?} {up:?}");
        for length in [125, 126, 65_535, 65_536, 5 << 20] {
            socket.send_frame(2, true, &Pattern::bytes(length));
            assert!(socket.frame().payload == Pattern::bytes(length), "{down:?} {up:?} {length}");
        }
        for _ in 0..1000 {
            socket.echoes("hi");
        }
        socket.close();
        let record = process.record_of("/chat");
        assert_eq!(record.flags(), "-", "{down:?} {up:?}");
        process.metric_becomes("meshwright_downstream_upgrades_total", &[], 1.0);
    }
}

#[test]
fn the_end_of_either_side_ends_the_other_in_all_pairs() {
    let backend = Backend::start(&[]);
    for (down, up) in PAIRS {
        let (_config, process) = in_front_of(backend.address, up, &[]);
        let mut socket = connect(down, &process, "/broken");
        // The service closes because of a broken rule.
        socket.send_bytes(b"\x81\x02hi");
        assert_eq!(socket.frame().close_code(), Some(1002), "{down:?} {up:?}");
        socket.ends();
        // The client just goes away.
        match Client::connect(down, process.gateway()) {
            Client::Http1(client) => drop(WebSocket::open(client, "x", "/gone")),
            Client::Http2(client) => drop(WebSocket::open_http2(&client, "x", "/gone")),
        }
        process.record_of("/gone");
    }
}

#[test]
fn python_talks_through_the_gateway() {
    let backend = Backend::start(&[]);
    for up in [Speaks::Http1, Speaks::Http2] {
        let (_config, process) = in_front_of(backend.address, up, &[]);
        let script = r#"
import asyncio, sys, websockets
async def one(uri, number):
    async with websockets.connect(uri, subprotocols=["a", "b"], max_size=None) as ws:
        assert ws.subprotocol == "a", ws.subprotocol
        for message in ["hello", "", "\u00e4\u20ac" * 1000, bytes(range(256)) * 300, "%d" % number]:
            await ws.send(message)
            assert await ws.recv() == message, len(message)
        await ws.send(["frag", "men", "ted"])
        assert await ws.recv() == "fragmented"
        await (await ws.ping(b"are you there"))
        await ws.close(4000, "enough")
    assert ws.close_code == 4000, ws.close_code
async def main(uri):
    await asyncio.gather(*[one(uri, number) for number in range(50)])
asyncio.run(main(sys.argv[1]))
print("fine")
"#;
        assert_eq!(python(script, &[&format!("ws://{}/any", process.gateway())]), "fine", "{up:?}");
        process.metric_becomes("meshwright_downstream_upgrades_total", &[], 50.0);
    }
}

#[test]
fn a_service_that_does_not_agree_is_heard_in_all_pairs() {
    for (down, up) in PAIRS {
        let h1 = Origin::answers(403, &[("X-Why", "no")], "go away");
        let h2 = Http2Origin::start(|stream| stream.answer(403, &[("x-why", "no")], b"go away"));
        let address = if up == Speaks::Http2 { h2.address() } else { h1.address() };
        let (_config, process) = in_front_of(address, up, &[]);
        let refused = match Client::connect(down, process.gateway()) {
            Client::Http1(client) => *WebSocket::try_open(client, "x", "/", &[]).err().unwrap(),
            Client::Http2(client) => *WebSocket::try_open_http2(&client, "x", "/").err().unwrap().unwrap(),
        };
        assert_eq!((refused.status, refused.header("x-why")), (403, Some("no")), "{down:?} {up:?}");
        process.metric_becomes("meshwright_downstream_upgrades_total", &[], 0.0);
    }
}

#[test]
fn a_handshake_that_the_service_did_not_understand_is_not_passed_on_over_http2() {
    let origin = Origin::start(|connection| {
        connection.request()?;
        connection.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
        )
    });
    let (_config, process) = in_front_of(origin.address(), Speaks::Http1, &[]);
    let client = Http2Client::connect(process.gateway());
    let refused = WebSocket::try_open_http2(&client, "x", "/").err().unwrap().unwrap();
    assert_eq!(refused.status, 502);
    assert_eq!(process.record_of("/").flags(), "UPE");
}

#[test]
fn one_connection_carries_websockets_and_requests_side_by_side() {
    let backend = Backend::start(&[]);
    for up in [Speaks::Http1, Speaks::Http2] {
        let (_config, process) = in_front_of(backend.address, up, &[]);
        let client = Http2Client::connect(process.gateway());
        let mut sockets: Vec<_> =
            (0..40).map(|number| WebSocket::open_http2(&client, "x", &format!("/{number}"))).collect();
        for round in 0..10 {
            for (number, socket) in sockets.iter_mut().enumerate() {
                socket.echoes(&format!("{number} in round {round}"));
            }
            assert_eq!(client.get("x", "/beside").status, 200);
        }
        sockets.into_iter().for_each(WebSocket::close);
        process.metric_becomes("meshwright_downstream_connections_accepted_total", &[], 1.0);
    }
}

/// Keeps `count` WebSockets of each kind open over `reloads` changes of the configuration.
fn survive_reloads(count: usize, reloads: u32) {
    meshwright_testkit::raise_descriptor_limit();
    let backend = Backend::start(&[]);
    let documents = |note: u32, address: SocketAddr| {
        [format!("# {note}\n{}", gateway_to("svc")), service_entry("svc", "HTTP2", address)]
    };
    let write = |config: &Config, note: u32| {
        let [first, second] = documents(note, backend.address);
        config.replace(&[&first, &second]);
    };
    let [first, second] = documents(0, backend.address);
    let config = Config::new(&[&first, &second]);
    let process = Launch::run(binary!()).file(config.path()).start();
    let client = Http2Client::connect(process.gateway());
    let mut sockets: Vec<WebSocket> = (0..count)
        .map(|number| match number % 2 {
            0 => WebSocket::open(RawClient::connect(process.gateway()), "x", "/"),
            _ if number < 100 => WebSocket::open_http2(&client, "x", "/"),
            _ => connect(Speaks::Http2, &process, "/"),
        })
        .collect();
    for reload in 1..=reloads {
        write(&config, reload);
        process.generation_becomes(f64::from(reload + 1));
        let some = sockets.len().min(50);
        let first = reload as usize * some % sockets.len();
        for number in first..first + some {
            let length = sockets.len();
            sockets[number % length].echoes(&format!("reload {reload}"));
        }
    }
    for (number, socket) in sockets.iter_mut().enumerate() {
        socket.echoes(&format!("socket {number} at the end"));
    }
}

#[test]
fn websockets_survive_reloads() {
    survive_reloads(100, 10);
}

#[test]
#[ignore = "longer tier"]
fn a_thousand_websockets_survive_two_hundred_reloads() {
    survive_reloads(1000, 200);
}

#[test]
fn a_drain_lets_websockets_go_on_until_its_end() {
    let backend = Backend::start(&[]);
    for (down, up) in PAIRS {
        let (_config, mut process) = in_front_of(backend.address, up, &["--drain-timeout", "20s"]);
        let mut socket = connect(down, &process, "/");
        socket.echoes("before");
        process.signal(Signal::TERM);
        eventually("it drains", || RawClient::try_connect(process.gateway()).is_err());
        socket.echoes("after");
        socket.close();
        assert_eq!(process.wait_exit(), 0, "{down:?} {up:?}");
    }
}

#[test]
fn an_idle_websocket_is_no_stalled_stream_and_an_abandoned_one_ends() {
    let backend = Backend::start(&[]);
    for (down, up) in PAIRS {
        let timeouts = ["--stall-timeout", "300ms", "--stream-stall-timeout", "300ms", "--tunnel-idle-timeout", "2s"];
        let (_config, process) = in_front_of(backend.address, up, &timeouts);
        let mut socket = connect(down, &process, "/");
        socket.echoes("hello");
        meshwright_testkit::pass(Duration::from_millis(900));
        socket.echoes("still there");
        // Its record is written when the tunnel has ended.
        process.record_of("/");
    }
}
