//! WebSockets and streaming calls that outlive many reloads and a change of the certificate.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use std::net::SocketAddr;

use meshwright_testkit::{
    Authority, Config, Grpc, GrpcCall, Http2Client, Launch, RawClient, Signal, TlsClient, WebSocket, binary,
    eventually, raise_descriptor_limit,
};
use support::Backend;

const HOST: &str = "a.example.com";
/// Streams on one HTTP/2 connection.
const STREAMS: usize = 50;

/// A gateway that ends TLS; WebSockets go to the service over HTTP/1.1 and over HTTP/2, calls over HTTP/2. Every number is
/// another configuration.
fn generation(number: usize) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  servers:
  - port: {{number: 443, name: https, protocol: HTTPS}}
    hosts: ['*']
    tls: {{mode: SIMPLE, serverCertificate: edge.pem, privateKey: edge.key}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: routes}}
spec:
  hosts: ['*']
  gateways: [edge]
  http:
  - headers: {{response: {{set: {{x-generation: '{number}'}}}}}}
    match: [{{uri: {{prefix: /old}}}}]
    route: [{{destination: {{host: old}}}}]
  - route: [{{destination: {{host: new}}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: new}}
spec:
  host: new
  trafficPolicy: {{connectionPool: {{http: {{h2UpgradePolicy: UPGRADE, http2MaxRequests: {limit}}}}}}}
",
        limit = 100_000 + number
    )
}

/// Everything that is held open.
struct Held {
    sockets: Vec<WebSocket>,
    calls: Vec<GrpcCall>,
    _clients: Vec<Http2Client>,
}

impl Held {
    /// A third of the WebSockets each: over HTTP/1.1 on both sides, changing to HTTP/2, and from HTTP/2 on.
    fn open(at: SocketAddr, authority: &Authority, sockets: usize, calls: usize) -> Self {
        let over_http1 = TlsClient::trusting(authority, HOST).alpn(&["http/1.1"]);
        let over_http2 = TlsClient::trusting(authority, HOST).alpn(&["h2"]);
        let mut held = Self { sockets: Vec::new(), calls: Vec::new(), _clients: Vec::new() };
        for number in 0..sockets / 3 * 2 {
            let path = if number % 2 == 0 { "/old" } else { "/new" };
            held.sockets.push(WebSocket::open(RawClient::over_tls(at, &over_http1), HOST, path));
        }
        while held.sockets.len() < sockets || held.calls.len() < calls {
            let client = Http2Client::over_tls(at, &over_http2);
            for number in 0..STREAMS {
                if held.sockets.len() < sockets {
                    let path = if number % 2 == 0 { "/old" } else { "/new" };
                    held.sockets.push(WebSocket::open_http2(&client, HOST, path));
                } else if held.calls.len() < calls {
                    held.calls.push(Grpc::new(&client, HOST).call("/meshwright.Echo/Bidi", &[]));
                }
            }
            held._clients.push(client);
        }
        held
    }

    /// Everyone of them still carries messages both ways.
    fn is_alive(&mut self, text: &str) {
        for socket in &mut self.sockets {
            socket.echoes(text);
        }
        for call in &mut self.calls {
            call.send(text.as_bytes()).unwrap();
            assert_eq!(call.message().unwrap().as_deref(), Some(text.as_bytes()));
        }
    }
}

fn outlive(sockets: usize, calls: usize, reloads: usize) {
    raise_descriptor_limit();
    let backend = Backend::start(&[]);
    let authority = Authority::new("ours");
    let config = Config::new(&[&generation(0)]);
    let first = authority.server(&[HOST]);
    first.write(config.directory(), "edge");
    let address = backend.address.to_string();
    let process = Launch::run(binary!())
        .file(config.path())
        .service("old", &[&address])
        .service("new", &[&address])
        .args(&["--no-watch", "--workers", "2", "--map-port", "443=0"])
        .start();
    let at = process.listener(443).unwrap();
    let mut held = Held::open(at, &authority, sockets, calls);
    held.is_alive("at first");
    for number in 1..=reloads {
        config.replace(&[&generation(number)]);
        process.signal(Signal::HUP);
        process.generation_becomes((number + 1) as f64);
        if number == reloads / 2 {
            held.is_alive("half way");
        }
    }
    held.is_alive("behind the reloads");

    let second = authority.server(&[HOST]);
    second.write(config.directory(), "edge");
    process.signal(Signal::HUP);
    eventually("new connections see the new certificate", || {
        let client = RawClient::over_tls(at, &TlsClient::trusting(&authority, HOST));
        client.tls().peer.first() == second.chain.first()
    });
    held.is_alive("behind the certificate");
    assert_eq!(process.metrics().value("meshwright_downstream_connections_forced_total"), 0.0);
}

#[test]
fn a_thousand_websockets_and_two_hundred_calls_outlive_two_hundred_reloads_and_a_new_certificate() {
    outlive(1000, 200, 200);
}
