//! The DNS server over UDP and TCP: names, records, truncation, what is not ours, garbage.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use meshwright_bridges::dns;
use meshwright_catalog::Catalog;
use meshwright_registry::{Instance, InstanceKey, Limits, ServiceKey, Status};

const PATIENCE: Duration = Duration::from_secs(20);
/// Time after which a question is asked again; longer than a forwarded one may take.
const RESEND: Duration = Duration::from_secs(4);

/// A server with its registry, on a thread of its own.
struct Server {
    address: SocketAddr,
    catalog: Catalog,
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Server {
    fn start(forward: Option<SocketAddr>) -> Self {
        let catalog = Catalog::in_memory(Limits::default(), 0);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let served = catalog.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let server = dns::Server::bind("127.0.0.1:0".parse().unwrap(), served, forward).await.unwrap();
                tell.send(server.local_address().unwrap()).unwrap();
                server.run(async move { drop(stopped.await) }).await;
            });
        });
        Self { address: told.recv().unwrap(), catalog, _stop: stop }
    }

    fn register(&self, namespace: &str, service: &str, id: &str, change: impl FnOnce(&mut Instance)) {
        let key = InstanceKey::new(ServiceKey::new(namespace, service).unwrap(), id).unwrap();
        let mut instance = Instance::new("10.0.0.1", 8080);
        change(&mut instance);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.catalog.register(key, instance)).unwrap();
    }

    fn udp(&self, bytes: &[u8]) -> Vec<u8> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(RESEND)).unwrap();
        let mut answer = vec![0; 65_535];
        // A datagram may get lost where many come at once: it is sent again, as resolvers do.
        let tries = PATIENCE.as_millis() / RESEND.as_millis();
        let received = (0..tries).find_map(|_| {
            socket.send_to(bytes, self.address).unwrap();
            socket.recv(&mut answer).ok()
        });
        let length = received.expect("an answer");
        answer.truncate(length);
        answer
    }

    #[allow(clippy::disallowed_methods, reason = "a test has nothing to do but wait")]
    fn tcp(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&u16::try_from(bytes.len()).unwrap().to_be_bytes()).unwrap();
        stream.write_all(bytes).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).unwrap();
        answer
    }

    fn ask(&self, name: &str, kind: RecordType) -> Message {
        Message::from_vec(&self.udp(&query(name, kind))).unwrap()
    }

    /// Answers as texts, sorted.
    fn find(&self, name: &str, kind: RecordType) -> Vec<String> {
        let mut found: Vec<String> =
            self.ask(name, kind).answers.iter().map(|record| record.data.to_string()).collect();
        found.sort();
        found
    }
}

fn query(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

#[test]
fn healthy_instances_are_found_by_name_namespace_and_tag() {
    let server = Server::start(None);
    server.register("", "users", "a", |instance| instance.tags = vec!["Canary".into()]);
    server.register("", "users", "b", |instance| instance.address = "10.0.0.2".into());
    server.register("", "users", "c", |instance| instance.reported = Status::Critical);
    server.register("", "users", "d", |instance| instance.address = "fd00::1".into());
    server.register("shop", "cart", "a", |instance| instance.address = "10.0.0.3".into());
    server.register("", "db.main", "a", |instance| instance.address = "10.0.0.4".into());
    assert_eq!(server.find("users.service.mesh.", RecordType::A), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(server.find("USERS.Service.Consul.", RecordType::A), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(server.find("users.service.dc1.consul.", RecordType::AAAA), ["fd00::1"]);
    assert_eq!(server.find("canary.users.service.mesh.", RecordType::A), ["10.0.0.1"]);
    assert_eq!(server.find("cart.shop.service.mesh.", RecordType::A), ["10.0.0.3"]);
    assert_eq!(server.find("db.main.service.mesh.", RecordType::A), ["10.0.0.4"]);
    assert_eq!(server.find("0a000007.addr.mesh.", RecordType::A), ["10.0.0.7"]);
    let answer = server.ask("users.service.mesh.", RecordType::A);
    assert!(answer.metadata.authoritative && answer.metadata.id == 4711);
    assert!(answer.answers.iter().all(|record| record.ttl == 0));
}

#[test]
fn service_records_have_ports_weights_and_addresses_and_text_records_metadata() {
    let server = Server::start(None);
    server.register("", "users", "a", |instance| {
        instance.weight = 3;
        instance.tags = vec!["v1".into()];
        instance.metadata.insert("zone", "eu");
    });
    for name in ["users.service.mesh.", "_users._tcp.service.mesh.", "_users._v1.service.mesh."] {
        let answer = server.ask(name, RecordType::SRV);
        let [record] = answer.answers.as_slice() else { panic!("{answer:?}") };
        assert_eq!(record.data.to_string(), "1 3 8080 0a000001.addr.mesh.");
        assert_eq!(answer.additionals[0].data.to_string(), "10.0.0.1");
    }
    assert_eq!(server.ask("_users._v2.service.mesh.", RecordType::SRV).metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(
        server.find("users.service.mesh.", RecordType::TXT),
        ["id=azone=eu"],
        "two texts, which are shown as one"
    );
}

#[test]
fn what_is_not_there_says_so_with_the_zone_and_what_is_not_ours_is_refused() {
    let server = Server::start(None);
    server.register("", "users", "a", |_| {});
    let missing = server.ask("nobody.service.mesh.", RecordType::A);
    assert_eq!(missing.metadata.response_code, ResponseCode::NXDomain);
    assert!(matches!(missing.authorities[0].data, RData::SOA(_)));
    let other_kind = server.ask("users.service.mesh.", RecordType::AAAA);
    assert_eq!(other_kind.metadata.response_code, ResponseCode::NoError);
    assert!(other_kind.answers.is_empty() && !other_kind.authorities.is_empty());
    assert_eq!(server.ask("mesh.", RecordType::SOA).answers.len(), 1);
    assert_eq!(server.ask("service.mesh.", RecordType::A).metadata.response_code, ResponseCode::NoError);
    assert_eq!(server.ask("example.com.", RecordType::A).metadata.response_code, ResponseCode::Refused);
}

#[test]
fn what_does_not_fit_is_told_over_udp_and_whole_over_tcp() {
    let server = Server::start(None);
    for id in 0..100 {
        server.register("", "users", &id.to_string(), |instance| instance.address = format!("10.0.1.{id}"));
    }
    let small = server.udp(&query("users.service.mesh.", RecordType::A));
    assert!(small.len() <= 512);
    let answer = Message::from_vec(&small).unwrap();
    assert!(answer.metadata.truncation && !answer.answers.is_empty());
    let mut message = Message::from_vec(&query("users.service.mesh.", RecordType::A)).unwrap();
    let mut edns = Edns::new();
    edns.set_max_payload(65_000);
    message.set_edns(edns);
    let larger = server.udp(&message.to_vec().unwrap());
    assert!(larger.len() > 512 && larger.len() <= 1232, "{}", larger.len());
    let whole = Message::from_vec(&server.tcp(&query("users.service.mesh.", RecordType::A))).unwrap();
    assert_eq!((whole.answers.len(), whole.metadata.truncation), (100, false));
    let firsts: std::collections::BTreeSet<String> =
        (0..20).map(|_| server.ask("users.service.mesh.", RecordType::A).answers[0].data.to_string()).collect();
    assert!(firsts.len() > 1, "the order changes");
}

#[test]
fn other_names_are_forwarded_when_asked_to_and_a_server_that_is_silent_is_a_failure() {
    let upstream = Server::start(None);
    upstream.register("", "users", "a", |_| {});
    let server = Server::start(Some(upstream.address));
    let refused = server.ask("example.com.", RecordType::A);
    assert_eq!(refused.metadata.response_code, ResponseCode::Refused, "this is the other server's answer");
    let by_tcp = Message::from_vec(&server.tcp(&query("example.com.", RecordType::A))).unwrap();
    assert_eq!(by_tcp.metadata.response_code, ResponseCode::Refused);
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = Server::start(Some(silent.local_addr().unwrap()));
    assert_eq!(server.ask("example.com.", RecordType::A).metadata.response_code, ResponseCode::ServFail);
}

#[test]
fn garbage_is_answered_with_an_error_or_not_at_all_and_the_server_goes_on() {
    let server = Server::start(None);
    server.register("", "users", "a", |_| {});
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut state = 1u32;
    for length in 0..600 {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state.to_be_bytes()[0]
            })
            .collect();
        socket.send_to(&bytes, server.address).unwrap();
    }
    let mut cut = query("users.service.mesh.", RecordType::A);
    cut.truncate(20);
    assert_eq!(Message::from_vec(&server.udp(&cut)).unwrap().metadata.response_code, ResponseCode::FormErr);
    let mut two = Message::from_vec(&query("users.service.mesh.", RecordType::A)).unwrap();
    two.add_query(Query::query(Name::from_ascii("mesh.").unwrap(), RecordType::A));
    let answer = Message::from_vec(&server.udp(&two.to_vec().unwrap())).unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
    let status = Message::new(1, MessageType::Query, OpCode::Status).to_vec().unwrap();
    assert_eq!(Message::from_vec(&server.udp(&status)).unwrap().metadata.response_code, ResponseCode::NotImp);
    assert_eq!(server.find("users.service.mesh.", RecordType::A), ["10.0.0.1"]);
}
