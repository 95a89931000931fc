//! TLS and TCP ports: which connection gets which chain, where bytes go, and what certificates do to a compilation.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::{
    answer, destination_rule, forward, gateway, gateway_ref, ip, listener, origin, served, service, virtual_service,
};
use meshwright_model::{
    AuthoritiesRef, CertificateRef, ClientCertificate, ClientTlsPolicy, ClientTlsSettings, ConnectionPool, Diagnostic,
    Gateway, Mesh, PortProtocol, ProxyProtocol, Reference, RouteAction, Secret, ServerProtocol, ServerTlsSettings,
    Severity, Subnet, TcpMatch, TcpRoute, TlsMatch, TlsRoute, TlsVersion, TrafficPolicy, UpstreamProtocol,
    VirtualService, WeightedDestination,
};
use meshwright_snapshot::{CompileOptions, Credentials, Forward, Snapshot, TlsAction, compile};

fn reference(name: &str) -> Reference {
    Reference { name: name.to_owned(), origin: origin(20), length: 1, object: None, path: "spec.tls".to_owned() }
}

/// A self-signed certificate, in force from 1975 on, as the secret `name`.
fn secret(name: &str, hosts: &[&str]) -> Secret {
    let made = rcgen::generate_simple_self_signed(hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>());
    let made = made.unwrap();
    Secret {
        name: name.to_owned(),
        namespace: "default".to_owned(),
        certificate: Some(made.cert.pem().into_bytes()),
        key: Some(made.signing_key.serialize_pem().into_bytes()),
        authorities: Some(made.cert.pem().into_bytes()),
        revoked: None,
    }
}

fn settings(credential: &str) -> Box<ServerTlsSettings> {
    Box::new(ServerTlsSettings {
        certificates: vec![CertificateRef::Credential(reference(credential))],
        client_certificate: ClientCertificate::None,
        authorities: None,
        revoked: None,
        subject_alt_names: Vec::new(),
        spki_hashes: Vec::new(),
        certificate_hashes: Vec::new(),
        min_version: TlsVersion::V1_2,
        max_version: TlsVersion::V1_3,
        cipher_suites: Vec::new(),
    })
}

/// A gateway with one server for each `(port, protocol, hosts, credential)`.
fn tls_gateway(servers: &[(u16, ServerProtocol, &[&str], &str)]) -> Gateway {
    let plain: Vec<(u16, &[&str])> = servers.iter().map(|(port, _, hosts, _)| (*port, *hosts)).collect();
    let mut gateway = gateway("edge", &plain);
    for (server, (port, protocol, hosts, credential)) in gateway.servers.iter_mut().zip(servers) {
        server.protocol = *protocol;
        server.port_name = format!("{protocol:?}-{port}-{}", hosts[0]).to_lowercase();
        let ended = matches!(protocol, ServerProtocol::Https | ServerProtocol::Tls);
        server.tls = ended.then(|| settings(credential));
    }
    gateway
}

fn to(host: &str) -> Vec<WeightedDestination> {
    match forward("any", host).action {
        RouteAction::Forward(destinations) => destinations,
        _ => Vec::new(),
    }
}

fn streams(name: &str, hosts: &[&str], tls: Vec<TlsRoute>, tcp: Vec<TcpRoute>) -> VirtualService {
    VirtualService { tls, tcp, ..virtual_service(name, hosts, vec![gateway_ref("edge")], Vec::new()) }
}

fn sni(hosts: &[&str], destination: &str) -> TlsRoute {
    let sni_hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    let matches = vec![TlsMatch { sni_hosts, connection: TcpMatch::default() }];
    TlsRoute { matches, destinations: to(destination), origin: origin(30) }
}

fn tcp(matches: Vec<TcpMatch>, destination: &str) -> TcpRoute {
    TcpRoute { matches, destinations: to(destination), origin: origin(40) }
}

fn try_compile(
    mesh: Mesh,
    credentials: Credentials,
    previous: Option<&Snapshot>,
) -> Result<(Snapshot, Vec<Diagnostic>), Vec<Diagnostic>> {
    compile(mesh, &[], &CompileOptions { credentials, ..CompileOptions::default() }, previous)
}

fn compiled(mesh: Mesh) -> (Snapshot, Vec<Diagnostic>) {
    try_compile(mesh, Credentials::default(), None).unwrap()
}

/// Name of the chain that a connection with this server name gets on `listener`.
fn chain(snapshot: &Snapshot, port: &str, name: Option<&str>) -> String {
    let tls = listener(snapshot, port).tls.as_ref().unwrap();
    tls.chain(name).map_or_else(|| "closed".to_owned(), |chain| chain.name.clone())
}

fn cluster_of(snapshot: &Snapshot, forward: &Forward, port: u16) -> String {
    let index = forward.choose(0).target.cluster(port).unwrap();
    snapshot.clusters[index].name.clone()
}

#[test]
fn the_server_name_chooses_the_certificate() {
    let mesh = Mesh {
        gateways: vec![tls_gateway(&[
            (443, ServerProtocol::Https, &["a.example.com"], "a"),
            (443, ServerProtocol::Https, &["*.example.com"], "wild"),
        ])],
        virtual_services: vec![virtual_service(
            "vs",
            &["a.example.com", "b.example.com"],
            vec![gateway_ref("edge")],
            vec![answer("hello", Vec::new())],
        )],
        secrets: vec![secret("a", &["a.example.com"]), secret("wild", &["*.example.com"])],
        ..Mesh::default()
    };
    let (snapshot, findings) = compiled(mesh);
    assert_eq!(findings, []);
    let at = |name: &str| chain(&snapshot, "0.0.0.0_443", Some(name));
    assert_eq!(at("a.example.com"), "https-443-a.example.com");
    assert_eq!(at("A.Example.com"), "https-443-a.example.com");
    assert_eq!(at("b.example.com"), "https-443-*.example.com");
    assert_eq!(at("other.org"), "closed");
    assert_eq!(chain(&snapshot, "0.0.0.0_443", None), "closed", "no host is `*`");
    let listener = listener(&snapshot, "0.0.0.0_443");
    assert_eq!(served(listener, "b.example.com", "/"), "hello", "requests inside are routed as anywhere");
    let tls = listener.tls.as_ref().unwrap();
    let TlsAction::Terminate { config, then: None } = &tls.chain(Some("a.example.com")).unwrap().action else {
        panic!("{tls:?}")
    };
    assert_eq!(config.names, ["a.example.com"]);
    let narrow = tls.chain(Some("a.example.com")).unwrap();
    assert!(narrow.serves("a.example.com"));
    assert!(!narrow.serves("b.example.com"), "it has another certificate: 421");
}

#[test]
fn a_server_for_every_host_also_takes_clients_without_server_name() {
    let mesh = Mesh {
        gateways: vec![tls_gateway(&[
            (443, ServerProtocol::Https, &["a.example.com"], "a"),
            (443, ServerProtocol::Https, &["*"], "a"),
        ])],
        secrets: vec![secret("a", &["a.example.com"])],
        ..Mesh::default()
    };
    let (snapshot, _) = compiled(mesh);
    assert_eq!(chain(&snapshot, "0.0.0.0_443", None), "https-443-*");
    assert_eq!(chain(&snapshot, "0.0.0.0_443", Some("other.org")), "https-443-*");
    assert_eq!(chain(&snapshot, "0.0.0.0_443", Some("a.example.com")), "https-443-a.example.com");
}

#[test]
fn tls_routes_pass_connections_on_by_server_name() {
    let mesh = Mesh {
        gateways: vec![tls_gateway(&[
            (443, ServerProtocol::Passthrough, &["*.example.com"], ""),
            (443, ServerProtocol::Https, &["ended.org"], "ended"),
        ])],
        virtual_services: vec![streams(
            "vs",
            &["*.example.com"],
            vec![sni(&["a.example.com"], "one:443"), sni(&["*.example.com"], "two:443")],
            Vec::new(),
        )],
        services: vec![service("one", &[443], &["10.0.0.1:443"]), service("two", &[443], &["10.0.0.2:443"])],
        secrets: vec![secret("ended", &["ended.org"])],
        ..Mesh::default()
    };
    let (snapshot, findings) = compiled(mesh);
    assert_eq!(findings, []);
    let tls = listener(&snapshot, "0.0.0.0_443").tls.as_ref().unwrap();
    let goes = |name: &str| match &tls.chain(Some(name)).unwrap().action {
        TlsAction::Passthrough(forward) => cluster_of(&snapshot, forward.forward(ip("192.0.2.1")).unwrap(), 443),
        TlsAction::Terminate { .. } => "ended here".to_owned(),
    };
    assert_eq!(goes("a.example.com"), "outbound|443||one.default.svc.cluster.local");
    assert_eq!(goes("b.example.com"), "outbound|443||two.default.svc.cluster.local");
    assert_eq!(goes("ended.org"), "ended here");
    assert!(tls.chain(Some("nobody.org")).is_none());
}

#[test]
fn tcp_routes_choose_by_port_and_by_the_address_connected_to() {
    let subnet = |text: &str| vec![Subnet::parse(text).unwrap()];
    let routes = vec![
        tcp(vec![TcpMatch { port: Some(1), ..TcpMatch::default() }], "never:90"),
        tcp(
            vec![TcpMatch { destination_subnets: subnet("10.0.0.0/8"), port: Some(9000), gateways: None }],
            "inside:90",
        ),
        tcp(Vec::new(), "outside:90"),
    ];
    let mesh = Mesh {
        gateways: vec![tls_gateway(&[
            (9000, ServerProtocol::Tcp, &["*"], ""),
            (9443, ServerProtocol::Tls, &["*"], "a"),
        ])],
        virtual_services: vec![streams("vs", &["db.example.com"], Vec::new(), routes)],
        services: ["never", "inside", "outside"].map(|name| service(name, &[90], &["10.0.0.1:90"])).into(),
        secrets: vec![secret("a", &["db.example.com"])],
        ..Mesh::default()
    };
    let (snapshot, findings) = compiled(mesh);
    assert_eq!(findings, []);
    let plain = listener(&snapshot, "0.0.0.0_9000");
    let forward = plain.tcp.as_ref().unwrap();
    assert!(plain.virtual_hosts.is_empty() && plain.tls.is_none());
    let goes = |address: &str| cluster_of(&snapshot, forward.forward(ip(address)).unwrap(), 9000);
    assert_eq!(goes("10.1.2.3"), "outbound|90||inside.default.svc.cluster.local");
    assert_eq!(goes("192.0.2.1"), "outbound|90||outside.default.svc.cluster.local");
    let ended = listener(&snapshot, "0.0.0.0_9443").tls.as_ref().unwrap();
    let TlsAction::Terminate { then: Some(then), config } = &ended.chain(None).unwrap().action else {
        panic!("{ended:?}")
    };
    assert!(config.config.alpn_protocols.is_empty(), "what is inside is not HTTP");
    assert_eq!(
        cluster_of(&snapshot, then.forward(ip("10.1.2.3")).unwrap(), 9443),
        "outbound|90||outside.default.svc.cluster.local",
        "the subnet route is for port 9000"
    );
}

#[test]
fn a_port_without_routes_is_not_opened_and_a_port_has_one_kind_of_server() {
    let mesh = Mesh {
        gateways: vec![tls_gateway(&[
            (9000, ServerProtocol::Tcp, &["*"], ""),
            (443, ServerProtocol::Passthrough, &["*"], ""),
            (80, ServerProtocol::Http, &["*"], ""),
            (80, ServerProtocol::Tcp, &["*"], ""),
            (80, ServerProtocol::Https, &["*"], "a"),
        ])],
        secrets: vec![secret("a", &["a.example.com"])],
        ..Mesh::default()
    };
    let (snapshot, findings) = compiled(mesh);
    let names: Vec<&str> = snapshot.listeners.iter().map(|listener| listener.name.as_str()).collect();
    assert_eq!(names, ["0.0.0.0_80"]);
    assert!(snapshot.listeners[0].tls.is_none());
    let codes: Vec<&str> = findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["port-conflict", "port-conflict", "no-route", "no-route"]);
}

#[test]
fn a_server_name_that_is_taken_stays_with_the_earlier_server() {
    let mesh = Mesh {
        gateways: vec![tls_gateway(&[
            (443, ServerProtocol::Https, &["a.example.com"], "a"),
            (443, ServerProtocol::Https, &["a.example.com", "b.example.com"], "a"),
        ])],
        secrets: vec![secret("a", &["a.example.com", "b.example.com"])],
        ..Mesh::default()
    };
    let (snapshot, findings) = compiled(mesh);
    assert_eq!(findings.iter().map(|finding| finding.code).collect::<Vec<_>>(), ["server-name-conflict"]);
    let tls = listener(&snapshot, "0.0.0.0_443").tls.as_ref().unwrap();
    assert_eq!(tls.by_server_name.find("a.example.com"), Some(&0));
    assert_eq!(tls.by_server_name.find("b.example.com"), Some(&1));
}

fn https(credential: &str, secrets: Vec<Secret>) -> Mesh {
    Mesh {
        gateways: vec![tls_gateway(&[(443, ServerProtocol::Https, &["a.example.com"], credential)])],
        secrets,
        ..Mesh::default()
    }
}

fn error(result: Result<(Snapshot, Vec<Diagnostic>), Vec<Diagnostic>>) -> Diagnostic {
    result.unwrap_err().into_iter().find(|finding| finding.severity == Severity::Error).unwrap()
}

#[test]
fn a_credential_that_is_missing_or_incomplete_refuses_the_configuration() {
    let missing = error(try_compile(https("a", Vec::new()), Credentials::default(), None));
    assert_eq!(missing.code, "IST0101");
    assert_eq!(missing.message, "Referenced credentialName not found: \"a\"");
    assert!(missing.allowed.unwrap().contains("--credentials DIR"));
    let elsewhere = Secret { namespace: "other".to_owned(), ..secret("a", &["a.example.com"]) };
    let unseen = error(try_compile(https("a", vec![elsewhere]), Credentials::default(), None));
    assert!(unseen.suggestion.unwrap().contains("namespace other"));
    let keyless = Secret { key: None, ..secret("a", &["a.example.com"]) };
    let incomplete = error(try_compile(https("a", vec![keyless]), Credentials::default(), None));
    assert_eq!(incomplete.message, "the credential \"a\" has no tls.key");
}

#[test]
fn secrets_of_the_input_come_before_the_credentials_directory() {
    let outside = Credentials { secrets: vec![secret("a", &["outside.org"])], ..Credentials::default() };
    let names = |mesh: Mesh| {
        let snapshot = try_compile(mesh, outside.clone(), None).unwrap().0;
        match &snapshot.listeners[0].tls.as_ref().unwrap().chains[0].action {
            TlsAction::Terminate { config, .. } => config.names.clone(),
            TlsAction::Passthrough(_) => Vec::new(),
        }
    };
    assert_eq!(names(https("a", Vec::new())), ["outside.org"]);
    assert_eq!(names(https("a", vec![secret("a", &["a.example.com"])])), ["a.example.com"]);
}

#[test]
fn files_are_taken_as_they_were_read() {
    let mut mesh = https("a", Vec::new());
    let (certificate, key) = (reference("certs/tls.crt"), reference("/keys/tls.key"));
    let tls = mesh.gateways[0].servers[0].tls.as_mut().unwrap();
    tls.certificates = vec![CertificateRef::Files { certificate, key }];
    let made = secret("a", &["a.example.com"]);
    let files = BTreeMap::from([
        (PathBuf::from("certs/tls.crt"), Ok(Arc::from(made.certificate.unwrap()))),
        (PathBuf::from("/keys/tls.key"), Ok(Arc::from(made.key.unwrap()))),
    ]);
    let good = Credentials { files: files.clone(), ..Credentials::default() };
    assert!(try_compile(mesh.clone(), good, None).is_ok());
    let mut files = files;
    files.insert(PathBuf::from("/keys/tls.key"), Err("permission denied".to_owned()));
    let finding = error(try_compile(mesh, Credentials { files, ..Credentials::default() }, None));
    assert_eq!(finding.message, "/keys/tls.key cannot be read: permission denied");
    assert_eq!(finding.path, "spec.tls");
}

#[test]
fn an_expired_certificate_is_refused_unless_it_is_running_already() {
    let later = || Credentials {
        now: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(90_000_000_000)),
        ..Credentials::default()
    };
    let secret = secret("a", &["a.example.com"]);
    let mesh = || https("a", vec![secret.clone()]);
    let refused = error(try_compile(mesh(), later(), None));
    assert_eq!(refused.code, "certificate");
    assert!(refused.message.contains("expired on"), "{}", refused.message);
    let running = compiled(mesh()).0;
    let (_, findings) = try_compile(mesh(), later(), Some(&running)).unwrap();
    assert_eq!(findings.iter().map(|finding| finding.code).collect::<Vec<_>>(), ["certificate-expired"]);
}

#[test]
fn a_certificate_for_other_names_is_a_warning() {
    let (_, findings) = compiled(https("a", vec![secret("a", &["b.example.com"])]));
    assert_eq!(findings[0].code, "certificate-name");
    assert_eq!(findings[0].allowed.as_deref(), Some("b.example.com"));
}

#[test]
fn a_reload_keeps_the_configuration_of_a_certificate_that_did_not_change() {
    let config = |snapshot: &Snapshot| match &snapshot.listeners[0].tls.as_ref().unwrap().chains[0].action {
        TlsAction::Terminate { config, .. } => Arc::clone(config),
        TlsAction::Passthrough(_) => panic!("not ended"),
    };
    let kept = secret("a", &["a.example.com"]);
    let first = compiled(https("a", vec![kept.clone()])).0;
    let second = try_compile(https("a", vec![kept]), Credentials::default(), Some(&first)).unwrap().0;
    assert!(Arc::ptr_eq(&config(&first), &config(&second)), "tickets stay good");
    let renewed = https("a", vec![secret("a", &["a.example.com"])]);
    let third = try_compile(renewed, Credentials::default(), Some(&second)).unwrap().0;
    assert!(!Arc::ptr_eq(&config(&second), &config(&third)));
}

fn originate(settings: ClientTlsSettings) -> TrafficPolicy {
    TrafficPolicy { tls: Some(ClientTlsPolicy::Originate(Box::new(settings))), ..TrafficPolicy::default() }
}

fn client_settings() -> ClientTlsSettings {
    ClientTlsSettings {
        certificate: None,
        authorities: Some(AuthoritiesRef::Credential(reference("ca"))),
        revoked: None,
        subject_alt_names: Vec::new(),
        sni: None,
        insecure_skip_verify: false,
        block: reference("SIMPLE"),
    }
}

fn with_rule(policy: TrafficPolicy) -> Mesh {
    Mesh {
        services: vec![service("users", &[80], &["10.0.0.1:9000"])],
        destination_rules: vec![destination_rule("default", "users", policy)],
        secrets: vec![secret("ca", &["ca"])],
        ..Mesh::default()
    }
}

#[test]
fn a_rule_gives_its_clusters_tls_to_the_name_of_the_service() {
    let first = compiled(with_rule(originate(client_settings()))).0;
    let name = "outbound|80||users.default.svc.cluster.local";
    let cluster = first.cluster(name).unwrap();
    let tls = cluster.tls.as_ref().unwrap();
    assert_eq!(tls.server_name.to_str(), "users.default.svc.cluster.local");
    assert_eq!(cluster.protocol, UpstreamProtocol::Http1);
    let sni = ClientTlsSettings { sni: Some("front.example.com".to_owned()), ..client_settings() };
    let mesh = Mesh { secrets: first.mesh.secrets.clone(), ..with_rule(originate(sni)) };
    let second = try_compile(mesh, Credentials::default(), Some(&first)).unwrap().0;
    assert_eq!(second.cluster(name).unwrap().tls.as_ref().unwrap().server_name.to_str(), "front.example.com");
    let mesh = Mesh { secrets: first.mesh.secrets.clone(), ..with_rule(originate(client_settings())) };
    let third = try_compile(mesh, Credentials::default(), Some(&first)).unwrap().0;
    assert!(Arc::ptr_eq(cluster, third.cluster(name).unwrap()), "nothing changed");
}

#[test]
fn without_roots_of_the_system_a_rule_that_needs_them_is_refused() {
    let bare = ClientTlsSettings { authorities: None, ..client_settings() };
    let refused = error(try_compile(with_rule(originate(bare)), Credentials::default(), None));
    assert_eq!(refused.code, "certificate");
    assert_eq!(refused.value.as_deref(), Some("SIMPLE"));
    let any = ClientTlsSettings { authorities: None, insecure_skip_verify: true, ..client_settings() };
    assert!(try_compile(with_rule(originate(any)), Credentials::default(), None).is_ok());
}

#[test]
fn an_https_port_of_a_service_is_called_by_name_once_a_rule_begins_its_tls() {
    let mesh = |policy: Option<TrafficPolicy>| {
        let mut secure = service("users", &[443], &["10.0.0.1:9000"]);
        secure.ports[0].protocol = PortProtocol::Https;
        Mesh {
            services: vec![secure],
            destination_rules: policy.into_iter().map(|policy| destination_rule("default", "users", policy)).collect(),
            secrets: vec![secret("ca", &["ca"])],
            ..Mesh::default()
        }
    };
    let leads_to = |mesh: Mesh| {
        let snapshot = common::snapshot(mesh);
        let route = common::route(listener(&snapshot, "mesh"), "users", "/", 80).unwrap();
        common::destination(&snapshot, route, 80)
    };
    assert_eq!(leads_to(mesh(None)), "missing");
    assert_eq!(leads_to(mesh(Some(originate(client_settings())))), "outbound|443||users.default.svc.cluster.local");
}

#[test]
fn the_protocol_of_a_cluster_is_that_of_the_rule_else_that_of_the_port() {
    let cluster = |protocol: PortProtocol, pool: ConnectionPool| {
        let mut users = service("users", &[80], &["10.0.0.1:9000"]);
        users.ports[0].protocol = protocol;
        let policy = TrafficPolicy {
            connection_pool: Some(pool),
            proxy_protocol: Some(ProxyProtocol::Version2),
            ..TrafficPolicy::default()
        };
        let mesh = Mesh {
            services: vec![users],
            destination_rules: vec![destination_rule("default", "users", policy)],
            ..Mesh::default()
        };
        Arc::clone(common::snapshot(mesh).cluster("outbound|80||users.default.svc.cluster.local").unwrap())
    };
    let plain = cluster(PortProtocol::Http, ConnectionPool::default());
    assert_eq!((plain.protocol, plain.max_concurrent_streams), (UpstreamProtocol::Http1, 100));
    assert_eq!((plain.http2_keepalive, plain.proxy_protocol), (None, Some(ProxyProtocol::Version2)));
    assert_eq!(cluster(PortProtocol::Http2, ConnectionPool::default()).protocol, UpstreamProtocol::Http2);
    let upgrade =
        ConnectionPool { upgrade_to_http2: true, max_concurrent_streams: Some(7), ..ConnectionPool::default() };
    let upgraded = cluster(PortProtocol::Http, upgrade);
    assert_eq!((upgraded.protocol, upgraded.max_concurrent_streams), (UpstreamProtocol::Http2, 7));
    let keepalive = (Duration::from_secs(5), Duration::from_secs(1));
    let follow =
        ConnectionPool { use_client_protocol: true, http2_keepalive: Some(keepalive), ..ConnectionPool::default() };
    let followed = cluster(PortProtocol::Http2, follow);
    assert_eq!((followed.protocol, followed.http2_keepalive), (UpstreamProtocol::FollowClient, Some(keepalive)));
}

#[test]
fn a_subset_may_switch_tls_off() {
    let mut mesh = with_rule(originate(client_settings()));
    let mut plain = common::subset("plain", &[]);
    plain.traffic_policy.tls = Some(ClientTlsPolicy::Disable);
    mesh.destination_rules[0].subsets = vec![plain, common::subset("same", &[])];
    let (snapshot, _) = compiled(mesh);
    let tls = |subset: &str| {
        let name = format!("outbound|80|{subset}|users.default.svc.cluster.local");
        snapshot.cluster(&name).unwrap().tls.is_some()
    };
    assert!(tls("") && tls("same"));
    assert!(!tls("plain"));
}
