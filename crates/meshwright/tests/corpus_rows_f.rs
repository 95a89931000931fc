//! Rows F1 to F5 of the corpus: handshakes of TLS that are broken, frozen, outdated, replayed, or made to cost.
//!
//! ClientHellos are put together byte by byte (RFC 8446, section 4.1.2). What certificates a peer may show is in `tls.rs`.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use meshwright_testkit::{
    Authority, Config, Launch, Meshwright, Origin, PATIENCE, RawClient, TlsClient, binary, eventually, service_entry,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

const NAME: &str = "a.example.com";

/// A gateway for HTTPS and what it needs to live.
struct Edge {
    process: Meshwright,
    authority: Authority,
    origin: Origin,
    _config: Config,
}

impl Edge {
    fn start(tls: &str, arguments: &[&str]) -> Self {
        let (authority, origin) = (Authority::new("ours"), Origin::named("hello"));
        let gateway = format!(
            "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: gateway}}
spec:
  servers:
    - port: {{number: 443, name: https, protocol: HTTPS}}
      hosts: ['*']
      tls: {{serverCertificate: edge.pem, privateKey: edge.key, caCertificates: clients.pem, {tls}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: routes}}
spec:
  hosts: ['*']
  gateways: [gateway]
  http: [{{route: [{{destination: {{host: svc}}}}]}}]
"
        );
        let gateway =
            if tls.contains("MUTUAL") { gateway } else { gateway.replace("caCertificates: clients.pem, ", "") };
        let config = Config::new(&[&gateway, &service_entry("svc", "HTTP", origin.address())]);
        authority.server(&[NAME]).write(config.directory(), "edge");
        authority.write(config.directory(), "clients.pem");
        let ports = ["--map-port", "443=0", "--workers", "1", "--log", "error"];
        let process = Launch::run(binary!()).file(config.path()).args(&ports).args(arguments).start();
        Self { process, authority, origin, _config: config }
    }

    fn address(&self) -> SocketAddr {
        self.process.listener(443).unwrap()
    }

    fn tls(&self) -> TlsClient {
        TlsClient::trusting(&self.authority, NAME)
    }

    /// Others are served, and nothing has broken.
    #[track_caller]
    fn serves_on(&mut self) {
        let identity = self.authority.client(&["caller"]);
        assert_eq!(RawClient::over_tls(self.address(), &self.tls().identity(&identity)).get(NAME, "/").text(), "hello");
        assert!(self.process.is_running() && !self.process.stderr().contains("panic"), "{}", self.process.stderr());
    }

    /// Sends bytes and reads to the end.
    #[track_caller]
    fn answer(&self, bytes: &[u8]) -> Vec<u8> {
        let mut client = RawClient::connect(self.address());
        // It may be closed before all of it was sent.
        let _ = client.try_send(bytes);
        client.read_to_end()
    }
}

/// A record of TLS.
fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind, 3, 1][..], &u16::try_from(payload.len()).unwrap().to_be_bytes(), payload].concat()
}

/// A message of a handshake in records of at most so many bytes.
fn handshake(kind: u8, body: &[u8], most: usize) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind][..], &length[1..], body].concat().chunks(most).flat_map(|piece| record(22, piece)).collect()
}

fn with_length(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// What a ClientHello says.
#[derive(Clone)]
struct Hello {
    version: u16,
    suites: Vec<u16>,
    compressions: Vec<u8>,
    extensions: Vec<(u16, Vec<u8>)>,
}

impl Hello {
    /// One that is answered: TLS 1.3 with X25519, and TLS 1.2.
    fn good() -> Self {
        let x25519 = [&[0, 29][..], &with_length(&[9; 32])].concat();
        Self {
            version: 0x0303,
            suites: vec![0x1301, 0xc02b, 0xc02f],
            compressions: vec![0],
            extensions: vec![
                (0, server_name(NAME.as_bytes())),
                (10, with_length(&[0, 29])),
                (13, with_length(&[4, 3, 8, 4])),
                (43, vec![4, 3, 4, 3, 3]),
                (51, with_length(&x25519)),
            ],
        }
    }

    /// One of TLS 1.2 or before, with these suites.
    fn old(version: u16, suites: &[u16]) -> Self {
        let mut hello = Self { version, suites: suites.to_vec(), ..Self::good() };
        hello.extensions.retain(|(kind, _)| !matches!(kind, 43 | 51));
        hello
    }

    fn with(mut self, kind: u16, body: impl Into<Vec<u8>>) -> Self {
        self.extensions.push((kind, body.into()));
        self
    }

    fn instead(mut self, kind: u16, body: impl Into<Vec<u8>>) -> Self {
        self.extensions.retain(|(one, _)| *one != kind);
        self.with(kind, body)
    }

    fn body(&self) -> Vec<u8> {
        let suites: Vec<u8> = self.suites.iter().flat_map(|suite| suite.to_be_bytes()).collect();
        let extensions: Vec<u8> = self
            .extensions
            .iter()
            .flat_map(|(kind, body)| [&kind.to_be_bytes()[..], &with_length(body)].concat())
            .collect();
        let mut bytes = self.version.to_be_bytes().to_vec();
        bytes.extend([7; 32]);
        bytes.push(0);
        bytes.extend(with_length(&suites));
        bytes.push(u8::try_from(self.compressions.len()).unwrap());
        bytes.extend(&self.compressions);
        // Extensions of more than 64 KiB cannot say how long they are.
        bytes.extend((extensions.len() as u16).to_be_bytes());
        bytes.extend(extensions);
        bytes
    }

    fn bytes(&self) -> Vec<u8> {
        handshake(1, &self.body(), 16_384)
    }
}

fn server_name(name: &[u8]) -> Vec<u8> {
    with_length(&[&[0][..], &with_length(name)].concat())
}

/// An alert, or the end without one.
fn is_refused(answer: &[u8]) -> bool {
    answer.is_empty() || answer[0] == 21
}

#[test]
fn row_f1_cve_2024_11738_hellos_in_pieces_are_read_whole() {
    let mut edge = Edge::start("mode: SIMPLE", &["--header-timeout", "1s"]);
    let long = Hello::good().with(21, vec![0; 12_000]);
    for (hello, pieces) in [(Hello::good(), &[1, 2, 7, 100][..]), (long.clone(), &[1000, 16_384][..])] {
        for most in pieces {
            let mut client = RawClient::connect(edge.address());
            client.send(handshake(1, &hello.body(), *most));
            // ServerHello: the handshake goes on.
            assert_eq!(client.read_exactly(1), [22], "records of {most} bytes");
        }
    }
    // More bytes of records than of what is in them may be too many.
    let mut client = RawClient::connect(edge.address());
    let _ = client.try_send(handshake(1, &long.body(), 1));
    let answer = client.read_to_end();
    assert!(matches!(answer.first(), None | Some(21 | 22)), "{answer:?}");
    edge.serves_on();
}

#[test]
fn row_f1_hellos_that_are_wrong_get_an_alert() {
    let mut edge = Edge::start("mode: SIMPLE", &["--header-timeout", "2s"]);
    let good = Hello::good();
    let cut = |length: usize| handshake(1, &good.body()[..length], 16_384);
    let mut lies = good.body();
    let at = lies.len() - good.extensions.iter().map(|(_, body)| 4 + body.len()).sum::<usize>() - 2;
    lies[at..at + 2].copy_from_slice(&[0xff, 0xff]);
    for (what, bytes) in [
        ("64 KiB of extensions", good.clone().with(21, vec![0; 65_000]).with(0x9999, vec![0; 65_000]).bytes()),
        ("an extension twice", good.clone().with(10, with_length(&[0, 29])).bytes()),
        ("two lists of versions", good.clone().with(43, vec![2, 3, 4]).bytes()),
        ("half a key share", good.clone().instead(51, vec![0, 8, 0, 29, 0, 32]).bytes()),
        ("no name in the list of names", good.clone().instead(0, vec![0, 0]).bytes()),
        ("a name of 64 KiB", good.clone().instead(0, server_name(&[b'a'; 65_000])).bytes()),
        ("no groups", good.clone().instead(10, vec![0, 0]).bytes()),
        ("no suites", Hello { suites: Vec::new(), ..good.clone() }.bytes()),
        ("unknown suites", Hello { suites: vec![0x9999, 0x0a0a], ..good.clone() }.bytes()),
        ("no random", cut(10)),
        ("half an extension", cut(good.body().len() - 3)),
        ("extensions longer than the message", handshake(1, &lies, 16_384)),
        ("bytes behind the extensions", handshake(1, &[&good.body()[..], b"more"].concat(), 16_384)),
        ("a message of 16 MiB", record(22, &[1, 0xff, 0xff, 0xff, 3, 3])),
        ("a record longer than may be", [&[22, 3, 1, 0xff, 0xff][..], &[1; 70_000]].concat()),
        ("a record of nothing", record(22, &[]).repeat(200)),
        ("another message first", handshake(20, &[0; 12], 16_384)),
        ("data first", record(23, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")),
        ("a kind of record that is none", record(99, &[1, 2, 3])),
    ] {
        let answer = edge.answer(&bytes);
        assert!(is_refused(&answer), "{what}: {answer:?}");
    }
    edge.serves_on();
    assert_eq!(edge.origin.count(), 1);
}

#[test]
fn row_f1_names_that_are_none_are_served_as_if_there_were_none_or_refused() {
    let mut edge = Edge::start("mode: SIMPLE", &["--header-timeout", "1s"]);
    for name in
        [&b""[..], b"a\0b.example.com", b"127.0.0.1", b"::1", b"a b", b"*", b"a..b", b"-", &[0xff, 0xfe], &[b'a'; 300]]
    {
        // Where a hello is taken, nothing more comes of it than the time for heads allows.
        let answer = edge.answer(&Hello::good().instead(0, server_name(name)).bytes());
        assert!(matches!(answer.first(), None | Some(21 | 22)), "{name:?}: {answer:?}");
    }
    edge.serves_on();
    assert_eq!(edge.origin.count(), 1);
}

#[test]
fn row_f2_cve_2024_32650_alerts_during_the_handshake_end_it() {
    let mut edge = Edge::start("mode: SIMPLE", &["--header-timeout", "2s"]);
    let cpu = edge.process.cpu_time();
    for level in [1, 2] {
        for description in [0, 10, 20, 40, 80, 90, 100, 255] {
            let alert = record(21, &[level, description]);
            for bytes in [alert.clone(), [Hello::good().bytes(), alert.clone()].concat(), alert.repeat(500)] {
                let mut client = RawClient::connect(edge.address());
                let _ = client.try_send(&bytes);
                client.finish_sending();
                client.read_to_end();
            }
        }
    }
    let cpu = edge.process.cpu_time() - cpu;
    println!("48 handshakes with alerts for {cpu:?} of processor time");
    edge.serves_on();
}

#[test]
fn row_f2_handshakes_that_freeze_at_any_step_are_closed_in_time_and_cost_little() {
    let mut edge = Edge::start("mode: SIMPLE", &["--header-timeout", "1s"]);
    edge.serves_on();
    let before = edge.process.rss_bytes();
    let hello = Hello::good().bytes();
    let frozen: Vec<RawClient> = (0..300)
        .map(|number| {
            let mut client = RawClient::connect(edge.address());
            // From nothing to a whole hello, whose answer is not answered.
            client.send(&hello[..hello.len() * (number % 11) / 10]);
            client
        })
        .collect();
    edge.serves_on();
    let cost = edge.process.rss_bytes().saturating_sub(before) / frozen.len() as u64;
    println!("{cost} bytes for each handshake that is frozen");
    assert!(cost < 40 * 1024, "{cost} bytes each");
    for mut client in frozen {
        client.set_patience(PATIENCE);
        client.read_to_end();
    }
    edge.process.metric_becomes("meshwright_refusals_total", &[("reason", "head_timeout")], 300.0);
    edge.serves_on();
}

#[test]
fn row_f3_what_is_outdated_is_refused() {
    let mut edge = Edge::start("mode: SIMPLE", &["--header-timeout", "2s"]);
    let aead = [0xc02b, 0xc02c, 0xc02f, 0xc030];
    assert!(matches!(
        RawClient::connect(edge.address()).secure(&edge.tls().only_tls12()).map(|client| client.tls().version),
        Ok(version) if version == "TLSv1_2"
    ));
    let no_null = Hello { compressions: vec![1], ..Hello::old(0x0303, &aead) };
    let ssl2 = [&[0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10][..], &[7; 37]].concat();
    for (what, bytes) in [
        ("SSLv2", ssl2),
        ("SSLv3", Hello::old(0x0300, &[0x0005, 0x000a]).bytes()),
        ("TLS 1.0", Hello::old(0x0301, &[0xc013, 0x002f]).bytes()),
        ("TLS 1.1", Hello::old(0x0302, &[0xc013, 0x002f]).bytes()),
        ("TLS 1.0 by its list of versions", Hello::good().instead(43, vec![2, 3, 1]).bytes()),
        ("RC4", Hello::old(0x0303, &[0xc011, 0xc007, 0x0005, 0x0004]).bytes()),
        ("3DES", Hello::old(0x0303, &[0xc012, 0xc008, 0x000a]).bytes()),
        ("CBC", Hello::old(0x0303, &[0xc009, 0xc00a, 0xc013, 0xc014, 0xc023, 0xc027, 0xc028]).bytes()),
        ("key exchange by RSA", Hello::old(0x0303, &[0x009c, 0x009d, 0x002f, 0x0035, 0x003c]).bytes()),
        ("finite fields", Hello::old(0x0303, &[0x009e, 0x009f, 0x0033, 0x0039]).bytes()),
        ("no cipher and nobody", Hello::old(0x0303, &[0x0000, 0x0001, 0x0002, 0x003b, 0xc006]).bytes()),
        ("nobody's key", Hello::old(0x0303, &[0x0018, 0x001b, 0x0034, 0x003a, 0x006c]).bytes()),
        ("compression alone", no_null.bytes()),
    ] {
        let answer = edge.answer(&bytes);
        assert!(is_refused(&answer), "{what}: {:?}", &answer[..answer.len().min(16)]);
    }
    edge.serves_on();
    assert_eq!(edge.origin.count(), 1);
}

#[test]
fn row_f3_renegotiation_is_refused() {
    let mut edge = Edge::start("mode: SIMPLE", &["--header-timeout", "5s"]);
    let mut client = Command::new("openssl")
        .args(["s_client", "-tls1_2", "-connect", &edge.address().to_string(), "-servername", NAME])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is installed by `cargo xtask tools`");
    // A line with an R begins a new handshake.
    client.stdin.take().unwrap().write_all(b"R\n").unwrap();
    let output = client.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(said.contains("RENEGOTIATING") && said.contains("no renegotiation"), "{said}");
    edge.serves_on();
}

#[test]
fn row_f4_nothing_is_taken_before_the_handshake_is_over() {
    let mut edge = Edge::start("mode: SIMPLE", &[]);
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(edge.authority.roots()).with_no_client_auth();
    config.enable_early_data = true;
    let config = Arc::new(config);
    let connect = || {
        let name = ServerName::try_from(NAME).unwrap();
        let connection = ClientConnection::new(config.clone(), name).unwrap();
        let socket = RawClient::connect(edge.address()).stream().try_clone().unwrap();
        StreamOwned::new(connection, socket)
    };
    for round in 0..3 {
        let mut stream = connect();
        // Nothing in the ticket of the connection before allows it.
        assert!(stream.conn.early_data().is_none(), "round {round}");
        stream
            .write_all(b"POST / HTTP/1.1\r\nHost: a.example.com\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.ends_with(b"hello"));
        assert_eq!(stream.conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed), round > 0);
    }
    // Who sends some all the same, as if it replayed a connection of somebody else, is not heard.
    let early = [Hello::good().with(42, Vec::new()).bytes(), record(23, &[0xaa; 200])].concat();
    let mut client = RawClient::connect(edge.address());
    client.send(early);
    client.finish_sending();
    client.read_to_end();
    edge.serves_on();
    assert_eq!(edge.origin.count(), 4);
}

#[test]
fn row_f5_chains_that_are_garbage_long_or_twisted_cost_only_their_client() {
    let mut edge = Edge::start("mode: MUTUAL", &[]);
    let strange = Authority::new("ours");
    let mut deep = Authority::new("ours").intermediate("of ours");
    let mut twisted = edge.authority.intermediate("ours");
    for number in 0..100 {
        deep = deep.intermediate(&format!("number {number}"));
    }
    // All of one name: each of them may have signed each other (RUSTSEC-2023-0053).
    for _ in 0..30 {
        twisted = twisted.intermediate("ours");
    }
    let identities = [strange.client(&["caller"]), deep.client(&["caller"]), twisted.client(&["caller"])];
    let cpu = edge.process.cpu_time();
    let mut tried = 0;
    for round in 0..60 {
        for issued in &identities {
            for tls in [edge.tls().only_tls12(), edge.tls().only_tls13()] {
                let client = RawClient::connect(edge.address()).secure(&tls.identity(issued));
                let served = client.and_then(|mut client| {
                    client
                        .try_request("GET", NAME, "/", &[], b"")
                        .map_err(|error| std::io::Error::other(error.to_string()))
                });
                assert!(served.is_err(), "round {round}");
                tried += 1;
            }
        }
        if round % 20 == 0 {
            edge.serves_on();
        }
    }
    let cpu = edge.process.cpu_time() - cpu;
    println!("{tried} handshakes with bad chains for {cpu:?} of processor time");
    let count = edge.origin.count();
    assert_eq!(count, 3, "nothing but what others asked");
    eventually("each is counted", || {
        edge.process.metrics().sum("meshwright_refusals_total", &[("reason", "tls_handshake")]) >= f64::from(tried)
    });
    edge.serves_on();
}

#[test]
fn row_f5_a_crowd_of_handshakes_leaves_others_served() {
    let mut edge = Edge::start("mode: SIMPLE", &["--header-timeout", "30s"]);
    let hello = Hello::good().bytes();
    let kept = RawClient::over_tls(edge.address(), &edge.tls());
    let address = edge.address();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..250 {
                    let mut client = RawClient::connect(address);
                    client.send(&hello);
                    let _ = client.is_closed_within(Duration::from_millis(1));
                }
            });
        }
        let mut kept = kept;
        for _ in 0..100 {
            assert_eq!(kept.get(NAME, "/").text(), "hello");
        }
    });
    edge.serves_on();
}
