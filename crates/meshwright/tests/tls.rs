//! TLS on both sides of the gateway under use: HTTP/2 inside, resumption, renewal while streams are open, clients and services that
//! are not to be trusted.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use meshwright_testkit::{
    Ask, Authority, Config, Grpc, Http2Client, Http2Origin, Http2Settings, Http2Stream, Issued, Launch, Leaf,
    Meshwright, Origin, Pattern, RawClient, TlsClient, TlsServer, WebSocket, binary, destination_rule, eventually,
    resilience_policy, service_entry,
};
use support::Backend;

const NAME: &str = "a.example.com";
/// A rule that changes nothing.
const NO_RULE: &str = "{loadBalancer: {simple: ROUND_ROBIN}}";

/// A gateway for HTTPS with the certificate of `edge.pem`, and one service.
fn documents(tls: &str, protocol: &str, address: SocketAddr, rule: &str) -> [String; 3] {
    let gateway = format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: gateway}}
spec:
  servers:
    - port: {{number: 443, name: https, protocol: HTTPS}}
      hosts: ['*']
      tls: {{serverCertificate: edge.pem, privateKey: edge.key, {tls}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: routes}}
spec:
  hosts: ['*']
  gateways: [gateway]
  http:
    - route: [{{destination: {{host: svc.example.com}}}}]
"
    );
    [gateway, service_entry("svc.example.com", protocol, address), destination_rule("svc.example.com", rule)]
}

struct Edge {
    process: Meshwright,
    config: Config,
}

impl Edge {
    fn start(issued: &Issued, documents: &[String], write: impl FnOnce(&Config), arguments: &[&str]) -> Self {
        let documents: Vec<&str> = documents.iter().map(String::as_str).collect();
        let config = Config::new(&documents);
        issued.write(config.directory(), "edge");
        write(&config);
        let ports = ["--map-port", "443=0", "--access-log", "text"];
        let process = Launch::run(binary!()).file(config.path()).args(&ports).args(arguments).start();
        Self { process, config }
    }

    /// In clear text to `address`.
    fn before(issued: &Issued, protocol: &str, address: SocketAddr) -> Self {
        Self::start(issued, &documents("mode: SIMPLE", protocol, address, NO_RULE), |_| {}, &["--workers", "2"])
    }

    fn address(&self) -> SocketAddr {
        self.process.listener(443).unwrap()
    }
}

#[test]
fn sessions_are_resumed_by_every_worker_in_both_versions() {
    let authority = Authority::new("ours");
    let origin = Origin::named("hello");
    let edge = Edge::before(&authority.server(&[NAME]), "HTTP", origin.address());
    for tls in [TlsClient::trusting(&authority, NAME).only_tls12(), TlsClient::trusting(&authority, NAME).only_tls13()]
    {
        let mut resumed = 0;
        for _ in 0..20 {
            let mut client = RawClient::over_tls(edge.address(), &tls);
            resumed += usize::from(client.tls().resumed);
            // Tickets come with the first answer.
            assert_eq!(client.get(NAME, "/").text(), "hello");
        }
        assert_eq!(resumed, 19);
    }
}

#[test]
fn http2_over_tls_on_both_sides_carries_large_bodies_intact() {
    const LARGE: u64 = 24 << 20;
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let service = TlsServer::new(&theirs.server(&["svc.example.com"])).alpn(&["h2", "http/1.1"]);
    let origin = Http2Origin::with(Some(&service), Http2Settings::default(), |stream: &mut Http2Stream| {
        stream.head(200, &[])?;
        while let Some(data) = stream.body.read_some()? {
            stream.sender().send(data)?;
        }
        stream.sender().finish_with(&[("x-end", "yes")])
    });
    let rule = "{tls: {mode: SIMPLE, caCertificates: theirs.pem}}";
    let documents = documents("mode: SIMPLE", "HTTP2", origin.address(), rule);
    let trust = |config: &Config| drop(theirs.write(config.directory(), "theirs.pem"));
    let edge = Edge::start(&ours.server(&[NAME]), &documents, trust, &[]);
    let client = Http2Client::over_tls(edge.address(), &TlsClient::trusting(&ours, NAME).alpn(&["h2"]));
    let before = edge.process.rss_bytes();
    let mut exchange = client.start(&Ask::post(NAME, "/", "").scheme("https").left_open()).unwrap();
    let (mut up, mut down) = (Pattern::default(), Pattern::default());
    while up.total() < LARGE {
        exchange.sender.send(up.next(16_000).to_vec()).unwrap();
        while let Some(Ok(Some(data))) = exchange.body().read_within(Duration::ZERO) {
            let before = down.total();
            assert!(down.check(&data), "broken between {before} and {}", before + data.len() as u64);
        }
    }
    exchange.sender.finish().unwrap();
    exchange.body().read_pattern(&mut down).unwrap();
    assert_eq!(down.total(), up.total());
    assert_eq!(exchange.body().trailers().unwrap(), [("x-end".to_owned(), "yes".to_owned())]);
    let grown = edge.process.rss_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "grew by {grown} bytes");
    let handshake = &origin.handshakes()[0];
    assert_eq!((handshake.sni.as_deref(), handshake.alpn.as_deref()), (Some("svc.example.com"), Some("h2")));
}

#[test]
fn open_streams_websockets_and_calls_outlive_renewals_of_the_certificate() {
    let backend = Backend::start(&[]);
    let authorities: Vec<Authority> = (0..6).map(|number| Authority::new(&format!("authority {number}"))).collect();
    let edge = Edge::before(&authorities[0].server(&[NAME]), "HTTP2", backend.address);
    let tls = |authority: &Authority| TlsClient::trusting(authority, NAME);
    let second = Http2Client::over_tls(edge.address(), &tls(&authorities[0]).alpn(&["h2"]));
    let mut first = RawClient::over_tls(edge.address(), &tls(&authorities[0]));
    let mut sockets: Vec<WebSocket> = (0..20)
        .map(|number| match number % 2 {
            0 => WebSocket::open_http2(&second, NAME, "/chat"),
            _ => WebSocket::open(RawClient::over_tls(edge.address(), &tls(&authorities[0])), NAME, "/chat"),
        })
        .collect();
    let grpc = Grpc::new(&second, NAME);
    let mut call = grpc.call("/meshwright.Echo/Bidi", &[]);
    for authority in &authorities[1..] {
        let issued = authority.server(&[NAME]);
        issued.write(edge.config.directory(), "edge");
        eventually("the new certificate is shown", || {
            let connected = RawClient::connect(edge.address()).secure(&tls(authority));
            connected.is_ok_and(|client| client.tls().peer.first() == issued.chain.first())
        });
        sockets.iter_mut().for_each(|socket| socket.echoes("still there"));
        call.send(b"still there").unwrap();
        assert_eq!(call.message(), Ok(Some(b"still there".to_vec())));
        assert_eq!(first.get(NAME, "/").status, 200);
        assert_eq!(second.get(NAME, "/").status, 200);
    }
    call.finish_sending().unwrap();
    assert_eq!(call.end().status, Some(0));
}

#[test]
fn a_connection_serves_only_names_of_its_certificate_and_goes_on_after_another_name() {
    let (one, other) = (Authority::new("one"), Authority::new("other"));
    let origin = Origin::named("hello");
    let [gateway, entry, _] = documents("mode: SIMPLE", "HTTP", origin.address(), NO_RULE);
    let second = "    - port: {number: 443, name: other, protocol: HTTPS}
      hosts: [b.example.com]
      tls: {mode: SIMPLE, serverCertificate: other.pem, privateKey: other.key}
---";
    let gateway = gateway.replacen("hosts: ['*']", "hosts: [a.example.com]", 1).replacen("---", second, 1);
    let write = |config: &Config| drop(other.server(&["b.example.com"]).write(config.directory(), "other"));
    let edge = Edge::start(&one.server(&[NAME]), &[gateway, entry], write, &[]);
    let client = Http2Client::over_tls(edge.address(), &TlsClient::trusting(&one, NAME).alpn(&["h2"]));
    for _ in 0..3 {
        assert_eq!(client.get(NAME, "/").text(), "hello");
        assert_eq!(client.get("b.example.com", "/").status, 421, "coalesced");
    }
    let client = Http2Client::over_tls(edge.address(), &TlsClient::trusting(&other, "b.example.com").alpn(&["h2"]));
    assert_eq!(client.get("b.example.com", "/").text(), "hello");
    assert!(RawClient::connect(edge.address()).secure(&TlsClient::trusting(&one, "c.example.com")).is_err());
    edge.process.metric_becomes("meshwright_refusals_total", &[("reason", "unknown_server_name")], 1.0);
}

#[test]
fn clients_are_let_in_by_their_certificate_over_both_protocols_and_versions() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let origin = Origin::named("hello");
    let documents = documents("mode: MUTUAL, caCertificates: clients.pem", "HTTP", origin.address(), NO_RULE);
    let trust = |config: &Config| drop(ours.write(config.directory(), "clients.pem"));
    let edge = Edge::start(&ours.server(&[NAME]), &documents, trust, &[]);
    let tls = || TlsClient::trusting(&ours, NAME);
    let good = [ours.client(&["caller"]), ours.intermediate("middle").client(&["spiffe://td/ns/n/sa/s"])];
    for issued in &good {
        for tls in [tls().only_tls12(), tls().only_tls13()] {
            assert_eq!(RawClient::over_tls(edge.address(), &tls.identity(issued)).get(NAME, "/").text(), "hello");
        }
        let client = Http2Client::over_tls(edge.address(), &tls().identity(issued).alpn(&["h2"]));
        assert_eq!(client.get(NAME, "/").text(), "hello");
    }
    let bad = [
        theirs.client(&["caller"]),
        ours.issue(&Leaf::client(&["caller"]).expired()),
        ours.issue(&Leaf::client(&["caller"]).not_yet_valid()),
        ours.issue(&Leaf::server(&["caller"])),
    ];
    let fails = |tls: TlsClient| {
        // With TLS 1.3 the refusal comes after the client's side of the handshake.
        let client = RawClient::connect(edge.address()).secure(&tls);
        client.is_err() || client.is_ok_and(|mut client| client.try_request("GET", NAME, "/", &[], b"").is_err())
    };
    for (number, issued) in bad.iter().enumerate() {
        assert!(fails(tls().only_tls12().identity(issued)), "{number}");
        assert!(fails(tls().only_tls13().identity(issued)), "{number}");
    }
    assert!(fails(tls().only_tls12()) && fails(tls().only_tls13()));
    assert_eq!(origin.count(), 6);
    edge.process.metric_becomes("meshwright_refusals_total", &[("reason", "tls_handshake")], 10.0);
}

#[test]
fn who_does_not_speak_tls_or_stops_in_the_middle_is_closed_and_others_are_served() {
    let authority = Authority::new("ours");
    let origin = Origin::named("hello");
    let documents = documents("mode: SIMPLE", "HTTP", origin.address(), NO_RULE);
    let edge =
        Edge::start(&authority.server(&[NAME]), &documents, |_| {}, &["--header-timeout", "1s", "--workers", "1"]);
    let mut stalled: Vec<RawClient> = (0..50)
        .map(|number| {
            let mut client = RawClient::connect(edge.address());
            // Nothing; the first bytes of a record; a record whose handshake goes on for ever.
            client.send(&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"[..number % 10]);
            client
        })
        .collect();
    let mut plain = RawClient::connect(edge.address());
    plain.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    plain.read_to_end();
    assert_eq!(
        RawClient::over_tls(edge.address(), &TlsClient::trusting(&authority, NAME)).get(NAME, "/").text(),
        "hello"
    );
    for client in &mut stalled {
        client.read_to_end();
    }
    edge.process.metric_becomes("meshwright_refusals_total", &[("reason", "tls_handshake")], 1.0);
    edge.process.metric_becomes("meshwright_refusals_total", &[("reason", "head_timeout")], 50.0);
    assert_eq!(origin.count(), 1);
}

#[test]
fn a_service_that_cannot_prove_its_name_gets_no_request() {
    let (ours, theirs, strange) = (Authority::new("ours"), Authority::new("theirs"), Authority::new("strange"));
    let identity = theirs.client(&["gateway"]);
    let plain = TlsServer::new(&theirs.server(&["svc.example.com"]));
    let cases = [
        ("good", plain.clone(), 200),
        ("mutual", plain.clone().demanding(&theirs), 200),
        ("tls 1.2", plain.clone().only_tls12(), 200),
        ("another client authority", plain.demanding(&strange), 503),
        ("another authority", TlsServer::new(&strange.server(&["svc.example.com"])), 503),
        ("another name", TlsServer::new(&theirs.server(&["other"])), 503),
        ("expired", TlsServer::new(&theirs.issue(&Leaf::server(&["svc.example.com"]).expired())), 503),
        ("not yet valid", TlsServer::new(&theirs.issue(&Leaf::server(&["svc.example.com"]).not_yet_valid())), 503),
        ("a client's certificate", TlsServer::new(&theirs.issue(&Leaf::client(&["svc.example.com"]))), 503),
    ];
    for (case, server, status) in cases {
        let origin = Origin::echoes_over_tls(&server);
        let rule = "{tls: {mode: MUTUAL, caCertificates: theirs.pem, clientCertificate: own.pem, privateKey: own.key}}";
        let documents = documents("mode: SIMPLE", "HTTP", origin.address(), rule);
        let write = |config: &Config| {
            theirs.write(config.directory(), "theirs.pem");
            identity.write(config.directory(), "own");
        };
        let edge = Edge::start(&ours.server(&[NAME]), &documents, write, &["--workers", "1", "--explain-errors"]);
        let mut client = RawClient::over_tls(edge.address(), &TlsClient::trusting(&ours, NAME));
        for _ in 0..3 {
            let answer = client.request("POST", NAME, "/", &[], b"secret");
            assert_eq!(answer.status, status, "{case}: {}", answer.text());
        }
        assert_eq!(origin.count(), if status == 200 { 3 } else { 0 }, "{case}");
    }
}

#[test]
fn tls_that_is_passed_on_carries_both_protocols_and_large_bodies() {
    let theirs = Authority::new("theirs");
    let service = TlsServer::new(&theirs.server(&[NAME])).alpn(&["h2"]);
    let origin = Http2Origin::echoes_over_tls(&service);
    let gateway = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gateway}
spec:
  servers:
    - port: {number: 443, name: tls, protocol: TLS}
      hosts: ['*.example.com']
      tls: {mode: PASSTHROUGH}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: routes}
spec:
  hosts: ['*.example.com']
  gateways: [gateway]
  tls:
    - match: [{sniHosts: [a.example.com]}]
      route: [{destination: {host: svc.example.com}}]
";
    let documents = [gateway.to_owned(), service_entry("svc.example.com", "TLS", origin.address())];
    let edge = Edge::start(&theirs.server(&["unused"]), &documents, |_| {}, &[]);
    let client = Http2Client::over_tls(edge.address(), &TlsClient::trusting(&theirs, NAME).alpn(&["h2"]));
    let body = Pattern::bytes(8 << 20);
    let answer = client.request(&Ask::post(NAME, "/", body.clone()).scheme("https"));
    assert!(answer.body == body);
    assert_eq!(origin.last().header("x-forwarded-for"), None, "nothing can be added");
    let refused = TlsClient::trusting_everybody("b.example.com");
    assert!(RawClient::connect(edge.address()).secure(&refused).is_err(), "no route has this name");
}

#[test]
fn a_client_is_as_critical_as_its_certificate_allows_whatever_its_header_says() {
    let (ours, origin) = (Authority::new("ours"), Origin::never_answers());
    let documents = documents("mode: OPTIONAL_MUTUAL, caCertificates: clients.pem", "HTTP", origin.address(), NO_RULE);
    let policy = "adaptiveConcurrency:
  {mode: ENFORCE, initialLimit: 2, minLimit: 2, maxLimit: 2, criticalityHeader: x-criticality, criticalityByIdentity: [
  {exact: spiffe://td/ns/batch/sa/a, criticality: sheddable}, {prefix: spiffe://td/ns/shop/, criticality: critical-plus},
  {criticality: sheddable}]}";
    let [gateway, entry, rule] = documents;
    let documents = [gateway, entry, format!("{rule}---\n{}", resilience_policy("svc.example.com", policy))];
    let trust = |config: &Config| drop(ours.write(config.directory(), "clients.pem"));
    let edge = Edge::start(&ours.server(&[NAME]), &documents, trust, &["--workers", "1"]);
    let (batch, shop) = (ours.client(&["spiffe://td/ns/batch/sa/a"]), ours.client(&["spiffe://td/ns/shop/sa/b"]));
    let tls = || TlsClient::trusting(&ours, NAME);
    let hold = |count: usize| {
        let mut client = RawClient::over_tls(edge.address(), &tls().identity(&shop));
        client.send(format!("GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n"));
        eventually("the request is held", || origin.count() == count);
        client
    };
    let _first = hold(1);
    let status = |tls: TlsClient, said: &str| {
        let headers = [("x-criticality", said)];
        RawClient::over_tls(edge.address(), &tls).request("GET", NAME, "/", &headers, b"").status
    };
    // One of two places is taken, which is all that is sheddable may have.
    assert_eq!(status(tls().identity(&batch), "critical-plus"), 503, "an identity is not raised by a header");
    assert_eq!(status(tls(), "critical-plus"), 503, "nor is nobody");
    assert_eq!(status(tls().identity(&shop), "sheddable"), 503, "a header may lower it");
    let over_http2 = Http2Client::over_tls(edge.address(), &tls().identity(&batch).alpn(&["h2"]));
    assert_eq!(over_http2.get(NAME, "/").status, 503);
    let _second = hold(2);
}
