//! TLS and TCP as documents say: certificates of gateways and services, server names, secrets, renewal, byte streams.
//!
//! The clients are curl and a rustls client of our own; services are `meshwright echo` and scripted origins.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use meshwright_testkit::{Authority, Config, Launch, Meshwright, Origin, binary, eventually};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use support::Backend;

/// A gateway with these servers, in YAML's flow form, and what one virtual service says.
fn mesh(servers: &[&str], virtual_service: &str) -> String {
    let servers: String = servers.iter().map(|server| format!("  - {server}\n")).collect();
    let kind = |kind: &str, name: &str| {
        format!("apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n")
    };
    format!(
        "{}  servers:\n{servers}---\n{}  hosts: ['*']\n  gateways: [edge]\n{virtual_service}\n",
        kind("Gateway", "edge"),
        kind("VirtualService", "routes")
    )
}

fn https(name: &str, hosts: &str, tls: &str) -> String {
    format!("{{port: {{number: 443, name: {name}, protocol: HTTPS}}, hosts: [{hosts}], tls: {{{tls}}}}}")
}

const TO_SERVICE: &str = "  http: [{route: [{destination: {host: svc}}]}]";
const FILES: &str = "mode: SIMPLE, serverCertificate: edge.pem, privateKey: edge.key";

fn launch(config: &Config, address: SocketAddr) -> Launch {
    let ports = ["--map-port", "443=0", "--map-port", "9000=0", "--workers", "1"];
    Launch::run(binary!()).file(config.path()).service_at("svc", address).args(&ports)
}

/// Runs curl for `https://host/` at a port of this machine: what it printed, or its complaint.
fn curl(host: &str, at: SocketAddr, arguments: &[&str]) -> Result<String, String> {
    let (url, resolve) = (format!("https://{host}:{}/", at.port()), format!("{host}:{}:127.0.0.1", at.port()));
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "20", "--noproxy", "*", "--resolve", &resolve])
        .args(arguments)
        .arg(&url)
        .stdin(Stdio::null())
        .output()
        .expect("curl is installed by `cargo xtask tools`");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

fn trusting(authority: &Authority, directory: &Path) -> String {
    authority.write(directory, "authority.pem").to_str().unwrap().to_owned()
}

fn gateway(process: &Meshwright) -> SocketAddr {
    process.listener(443).unwrap()
}

#[test]
fn an_https_port_serves_both_http_versions_with_the_certificate_of_its_files() {
    let (authority, origin) = (Authority::new("ours"), Origin::named("hello"));
    let config = Config::new(&[&mesh(&[&https("https", "'*'", FILES)], TO_SERVICE)]);
    authority.server(&["a.example.com"]).write(config.directory(), "edge");
    let process = launch(&config, origin.address()).start();
    let trust = trusting(&authority, config.directory());
    let get = |more: &[&str]| {
        let arguments = [&["--cacert", &trust, "-w", " over %{http_version}"], more].concat();
        curl("a.example.com", gateway(&process), &arguments)
    };
    assert_eq!(get(&[]).unwrap(), "hello over 2");
    assert_eq!(get(&["--http1.1"]).unwrap(), "hello over 1.1");
    assert_eq!(get(&["--tls-max", "1.2"]).unwrap(), "hello over 2");
    assert!(get(&["--tls-max", "1.1"]).is_err());
    assert_eq!(origin.last().header("x-forwarded-proto"), Some("https"));
    let dump = process.admin_get("/config_dump").json().to_string();
    assert!(dump.contains("\"dns_names\":[\"a.example.com\"]") && dump.contains("\"not_after\""), "{dump}");
    assert!(!dump.contains("PRIVATE KEY"));
    let metrics = String::from_utf8(process.admin_get("/metrics").body).unwrap();
    let expires = "meshwright_certificate_expiration_timestamp_seconds{shown_by=\"127.0.0.1_443/0/https\",subject=\"";
    assert!(metrics.contains(expires), "{metrics}");
}

#[test]
fn the_server_name_chooses_among_certificates_and_requests_stay_with_theirs() {
    let (one, other, origin) = (Authority::new("one"), Authority::new("other"), Origin::named("hello"));
    let servers = [
        https("one", "a.example.com", FILES),
        https("other", "b.example.com", "mode: SIMPLE, serverCertificate: other.pem, privateKey: other.key"),
    ];
    let config = Config::new(&[&mesh(&[&servers[0], &servers[1]], TO_SERVICE)]);
    one.server(&["a.example.com"]).write(config.directory(), "edge");
    other.server(&["b.example.com"]).write(config.directory(), "other");
    let process = launch(&config, origin.address()).start();
    let first = one.write(config.directory(), "one-ca.pem").to_str().unwrap().to_owned();
    let second = other.write(config.directory(), "other-ca.pem").to_str().unwrap().to_owned();
    let get = |host: &str, trust: &str| curl(host, gateway(&process), &["--cacert", trust]);
    assert_eq!(get("a.example.com", &first).unwrap(), "hello");
    assert_eq!(get("b.example.com", &second).unwrap(), "hello");
    assert!(get("b.example.com", &first).is_err());
    assert!(get("c.example.com", &first).is_err(), "nobody has this name");
    let listeners = process.admin_get("/listeners?format=json").json();
    let https = listeners["listeners"].as_array().unwrap().iter().find(|one| one["port"] == 443).unwrap();
    assert_eq!(https["protocol"], "https");
    assert_eq!(https["server_names"], serde_json::json!(["a.example.com", "b.example.com"]));
    let misdirected = ["--cacert", &first, "-H", "Host: b.example.com", "-o", "/dev/null", "-w", "%{http_code}"];
    assert_eq!(curl("a.example.com", gateway(&process), &misdirected).unwrap(), "421");
}

#[test]
fn mutual_tls_lets_in_who_has_a_certificate_of_the_authority() {
    let (ours, theirs, origin) = (Authority::new("ours"), Authority::new("theirs"), Origin::named("hello"));
    let tls = format!("{}, caCertificates: clients.pem", FILES.replace("SIMPLE", "MUTUAL"));
    let config = Config::new(&[&mesh(&[&https("https", "'*'", &tls)], TO_SERVICE)]);
    ours.server(&["a.example.com"]).write(config.directory(), "edge");
    ours.write(config.directory(), "clients.pem");
    ours.client(&["caller"]).write(config.directory(), "good");
    theirs.client(&["caller"]).write(config.directory(), "bad");
    let process = launch(&config, origin.address()).start();
    let trust = trusting(&ours, config.directory());
    let path = |file: &str| config.directory().join(file).to_str().unwrap().to_owned();
    let get = |name: &str| {
        let (certificate, key) = (path(&format!("{name}.pem")), path(&format!("{name}.key")));
        curl("a.example.com", gateway(&process), &["--cacert", &trust, "--cert", &certificate, "--key", &key])
    };
    assert_eq!(get("good").unwrap(), "hello");
    assert!(get("bad").is_err());
    assert!(curl("a.example.com", gateway(&process), &["--cacert", &trust]).is_err());
    assert_eq!(origin.count(), 1);
}

fn base64(text: &str) -> String {
    let output = Command::new("sh").args(["-c", "printf %s \"$0\" | base64 -w0", text]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn credentials_are_secrets_of_the_input_or_files_of_the_credentials_directory() {
    let (authority, origin) = (Authority::new("ours"), Origin::named("hello"));
    let issued = authority.server(&["a.example.com"]);
    let document = mesh(&[&https("https", "'*'", "mode: SIMPLE, credentialName: edge")], TO_SERVICE);
    let (chain, key) = (base64(&issued.chain_pem), base64(&issued.key_pem()));
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: edge}}\ntype: kubernetes.io/tls\ndata:\n  tls.crt: {chain}\n  \
         tls.key: {key}\n"
    );
    let config = Config::new(&[&document, &secret]);
    let trust = trusting(&authority, config.directory());
    let process = launch(&config, origin.address()).start();
    assert_eq!(curl("a.example.com", gateway(&process), &["--cacert", &trust]).unwrap(), "hello");
    let dump = process.admin_get("/config_dump").body;
    assert!(!String::from_utf8_lossy(&dump).contains(&key));

    let config = Config::new(&[&document]);
    let store = config.directory().join("store");
    std::fs::create_dir_all(store.join("edge")).unwrap();
    std::fs::write(store.join("edge/tls.crt"), &issued.chain_pem).unwrap();
    std::fs::write(store.join("edge/tls.key"), issued.key_pem()).unwrap();
    let process = launch(&config, origin.address()).args(&["--credentials", store.to_str().unwrap()]).start();
    assert_eq!(curl("a.example.com", gateway(&process), &["--cacert", &trust]).unwrap(), "hello");
}

/// A TLS connection of our own, so that it can be kept.
#[allow(clippy::disallowed_methods, reason = "a test has nothing to do but wait")]
fn connect(authority: &Authority, at: SocketAddr) -> StreamOwned<ClientConnection, TcpStream> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(authority.roots())
        .with_no_client_auth();
    let client = ClientConnection::new(Arc::new(config), "a.example.com".try_into().unwrap()).unwrap();
    StreamOwned::new(client, TcpStream::connect(at).unwrap())
}

/// One request on a connection that stays open: the body, up to its line end.
fn get(stream: &mut StreamOwned<ClientConnection, TcpStream>) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n").unwrap();
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}

#[test]
fn a_renewed_certificate_is_taken_over_and_open_connections_live_on() {
    let (old, new, origin) = (Authority::new("old"), Authority::new("new"), Origin::named("hello"));
    let config = Config::new(&[&mesh(&[&https("https", "'*'", FILES)], TO_SERVICE)]);
    old.server(&["a.example.com"]).write(config.directory(), "edge");
    let process = launch(&config, origin.address()).start();
    let at = gateway(&process);
    let mut kept = connect(&old, at);
    assert_eq!(get(&mut kept), "hello");
    new.server(&["a.example.com"]).write(config.directory(), "edge");
    let trust = trusting(&new, config.directory());
    eventually("the new certificate is shown", || curl("a.example.com", at, &["--cacert", &trust]).is_ok());
    assert_eq!(get(&mut kept), "hello", "the old connection was not dropped");
    let mut resumed = connect(&new, at);
    assert_eq!(get(&mut resumed), "hello");
    std::fs::write(config.directory().join("edge.pem"), "nothing").unwrap();
    let refused = || String::from_utf8_lossy(&process.admin_get("/ready").body).contains("it holds no certificate");
    eventually("the bad file is named", refused);
    assert_eq!(curl("a.example.com", at, &["--cacert", &trust]).unwrap(), "hello", "the last good one stays");
}

/// `echo` over TLS with a certificate for `name`, written beside `config`.
fn tls_service(authority: &Authority, name: &str, directory: &Path) -> Backend {
    let (certificate, key) = authority.server(&[name]).write(directory, "service");
    Backend::start(&["--tls-certificate", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()])
}

#[test]
fn tls_is_passed_on_by_server_name_and_ends_at_the_service() {
    let authority = Authority::new("service");
    let server = "{port: {number: 443, name: tls, protocol: TLS}, hosts: ['*.example.com'], tls: {mode: PASSTHROUGH}}";
    let routes = "  tls: [{match: [{sniHosts: [a.example.com]}], route: [{destination: {host: svc}}]}]";
    let document = mesh(&[server], routes).replace("hosts: ['*']\n  gateways", "hosts: ['*.example.com']\n  gateways");
    let config = Config::new(&[&document]);
    let service = tls_service(&authority, "a.example.com", config.directory());
    let process = launch(&config, service.address).start();
    let trust = trusting(&authority, config.directory());
    let seen = curl("a.example.com", gateway(&process), &["--cacert", &trust]).unwrap();
    let seen: serde_json::Value = serde_json::from_str(&seen).unwrap();
    assert_eq!((seen["protocol"].as_str(), seen["tls"]["sni"].as_str()), (Some("HTTP/2"), Some("a.example.com")));
    assert!(curl("b.example.com", gateway(&process), &["-k"]).is_err(), "no route has this name");
}

#[test]
fn a_tcp_port_carries_bytes_as_they_are() {
    let origin = Origin::named("over bytes");
    let server = "{port: {number: 9000, name: tcp, protocol: TCP}, hosts: ['*']}";
    let config =
        Config::new(&[&mesh(&[server], "  tcp: [{match: [{port: 9000}], route: [{destination: {host: svc}}]}]")]);
    let process = launch(&config, origin.address()).start();
    let mut client = meshwright_testkit::RawClient::connect(process.listener(9000).unwrap());
    assert_eq!(client.get("anything at all", "/").body, b"over bytes");
    assert_eq!(origin.last().header("x-forwarded-for"), None, "nothing was added");
}

#[test]
fn tls_of_a_tls_port_ends_here_and_its_bytes_go_on() {
    let (authority, origin) = (Authority::new("ours"), Origin::named("over bytes"));
    let server = "{port: {number: 443, name: tls, protocol: TLS}, hosts: ['*'], tls: {FILES}}".replace("FILES", FILES);
    let config = Config::new(&[&mesh(&[&server], "  tcp: [{route: [{destination: {host: svc}}]}]")]);
    authority.server(&["a.example.com"]).write(config.directory(), "edge");
    let process = launch(&config, origin.address()).start();
    assert_eq!(get(&mut connect(&authority, gateway(&process))), "over bytes");
    assert_eq!(origin.last().header("x-forwarded-proto"), None, "what is inside is not looked at");
}

#[test]
fn optional_mutual_tls_takes_clients_without_certificate_but_none_with_a_bad_one() {
    let (ours, theirs, origin) = (Authority::new("ours"), Authority::new("theirs"), Origin::named("hello"));
    let tls = "mode: OPTIONAL_MUTUAL, credentialName: edge";
    let config = Config::new(&[&mesh(&[&https("https", "'*'", tls)], TO_SERVICE)]);
    let store = config.directory().join("store");
    std::fs::create_dir_all(&store).unwrap();
    let issued = ours.server(&["a.example.com"]);
    std::fs::write(store.join("edge.crt"), &issued.chain_pem).unwrap();
    std::fs::write(store.join("edge.key"), issued.key_pem()).unwrap();
    ours.write(&store, "edge-cacert.crt");
    let process = launch(&config, origin.address()).args(&["--credentials", store.to_str().unwrap()]).start();
    let trust = trusting(&ours, config.directory());
    let get = |more: &[&str]| curl("a.example.com", gateway(&process), &[&["--cacert", &trust], more].concat());
    assert_eq!(get(&[]).unwrap(), "hello");
    let with = |authority: &Authority| {
        let (certificate, key) = authority.client(&["caller"]).write(config.directory(), "caller");
        get(&["--cert", certificate.to_str().unwrap(), "--key", key.to_str().unwrap()])
    };
    assert_eq!(with(&ours).unwrap(), "hello");
    assert!(with(&theirs).is_err());
}

#[test]
fn a_service_outside_is_called_over_tls_by_its_name() {
    let authority = Authority::new("service");
    let directory = tempfile::tempdir().unwrap();
    let service = tls_service(&authority, "payments.example.com", directory.path());
    let document = |kind: &str, spec: &str| {
        format!("apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: payments}}\nspec: {spec}\n")
    };
    let entry = format!(
        "{{hosts: [payments.example.com], ports: [{{number: 443, name: https, protocol: HTTPS}}], resolution: STATIC, \
         endpoints: [{{address: 127.0.0.1, ports: {{https: {}}}}}]}}",
        service.address.port()
    );
    let rule = "{host: payments.example.com, trafficPolicy: {tls: {mode: SIMPLE, caCertificates: ca.pem}}}";
    let config = Config::new(&[&document("ServiceEntry", &entry), &document("DestinationRule", rule)]);
    authority.write(config.directory(), "ca.pem");
    let process = Launch::run(binary!()).file(config.path()).args(&["--workers", "1"]).start();
    let mut client = meshwright_testkit::RawClient::connect(process.mesh());
    let seen = client.get("payments.example.com", "/pay").json();
    assert_eq!(
        (seen["path"].as_str(), seen["tls"]["sni"].as_str()),
        (Some("/pay"), Some("payments.example.com")),
        "{seen}"
    );
}

/// What the service saw of `GET /` through a gateway in clear text, with this policy for `svc`.
fn originated(policy: &str, certificate_for: &str) -> serde_json::Value {
    let authority = Authority::new("service");
    let rule = meshwright_testkit::destination_rule("svc", policy);
    let config =
        Config::new(&[&mesh(&["{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}"], TO_SERVICE), &rule]);
    let service = tls_service(&authority, certificate_for, config.directory());
    authority.write(config.directory(), "ca.pem");
    let process = launch(&config, service.address).start();
    let answer = meshwright_testkit::RawClient::connect(process.gateway()).get("a.example.com", "/");
    match answer.status {
        200 => answer.json(),
        status => status.into(),
    }
}

#[test]
fn a_rule_begins_tls_to_the_service_and_verifies_its_name() {
    let full = "svc.default.svc.cluster.local";
    let seen = originated("{tls: {mode: SIMPLE, caCertificates: ca.pem}}", full);
    assert_eq!(seen["tls"]["sni"].as_str(), Some(full), "{seen}");
    assert_eq!(seen["protocol"].as_str(), Some("HTTP/1.1"));
    assert_eq!(originated("{tls: {mode: SIMPLE, caCertificates: ca.pem}}", "other.example.com"), 503);
    let named =
        "{tls: {mode: SIMPLE, caCertificates: ca.pem, sni: front.example.com, subjectAltNames: [real.example.com]}}";
    let seen = originated(named, "real.example.com");
    assert_eq!(seen["tls"]["sni"].as_str(), Some("front.example.com"), "{seen}");
    assert_eq!(originated(named, "front.example.com"), 503, "the listed names replace the server name");
}

#[test]
fn http2_is_spoken_to_a_service_where_the_rule_says_so() {
    let pool = "connectionPool: {http: {h2UpgradePolicy: UPGRADE}}";
    let tls = "tls: {mode: SIMPLE, caCertificates: ca.pem, sni: a.example.com}";
    let seen = originated(&format!("{{{tls}, {pool}}}"), "a.example.com");
    assert_eq!((seen["protocol"].as_str(), seen["tls"]["alpn"].as_str()), (Some("HTTP/2"), Some("h2")), "{seen}");
}

#[test]
fn validate_names_a_missing_certificate_and_never_shows_a_secret() {
    let config = Config::new(&[&mesh(&[&https("https", "'*'", FILES)], TO_SERVICE)]);
    let file = config.path().to_str().unwrap();
    let (code, text, _) = support::output(&mut support::meshwright(&["validate", "-f", file, "--service", "svc=:1"]));
    assert_eq!(code, 65, "{text}");
    assert!(text.contains("edge.pem cannot be read: it does not exist"), "{text}");
    assert!(text.contains("spec.servers[0].tls.serverCertificate"), "{text}");
    let hidden = "c2VjcmV0LWtleS1ieXRlcw";
    let secret = format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: edge}}, data: {{tls.crt: b25l, tls.key: '{hidden}!'}}}}\n"
    );
    let config = Config::new(&[&secret]);
    let file = config.path().to_str().unwrap();
    for form in ["text", "json"] {
        let (code, text, _) = support::output(&mut support::meshwright(&["validate", "-f", file, "-o", form]));
        assert_eq!(code, 65, "{text}");
        assert!(text.contains("expected base64 in tls.key"), "{text}");
        assert!(!text.contains(hidden), "{text}");
    }
}
