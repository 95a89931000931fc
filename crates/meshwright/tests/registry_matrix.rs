//! One registry, whatever the protocol: who registers by any way is seen by every way, and who is taken out by any way is gone
//! for every way, traffic included.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use meshwright_client::{Client, Registered, Registration};
use meshwright_testkit::{
    Config, Launch, Meshwright, Origin, RawClient, Response, binary, eventually, gateway_to, holds_within,
    service_entry,
};
use serde_json::{Value, json};

/// Everything that a case needs.
struct Mesh {
    process: Meshwright,
    origin: SocketAddr,
    runtime: tokio::runtime::Runtime,
}

impl Mesh {
    fn send(&self, to: SocketAddr, (method, path): (&str, &str), body: &Value) -> Response {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        RawClient::connect(to).request(method, "localhost", path, &[("accept", "application/json")], body.as_bytes())
    }

    #[track_caller]
    fn api(&self, method: &str, path: &str, body: &Value) {
        let answer = self.send(self.process.admin(), (method, path), body);
        assert!(matches!(answer.status, 200..=204), "{method} {path}: {} {}", answer.status, answer.text());
    }

    #[track_caller]
    fn consul(&self, path: &str, body: &Value) {
        let answer = self.send(self.process.consul(), ("PUT", path), body);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }

    #[track_caller]
    fn command(&self, words: &[&str]) {
        let admin = self.process.admin().to_string();
        let (code, _, err) = Launch::command(binary!()).args(words).environment("MESHWRIGHT_ADMIN", &admin).output();
        assert_eq!(code, 0, "{words:?}: {err}");
    }
}

type In = fn(&Mesh, &str) -> Option<Registered>;

/// Ways in. Ids are names of services, so that they are unique for those who ask by id alone.
const INS: [(&str, In); 5] =
    [("api", by_api), ("client", by_client), ("command", by_command), ("eureka", by_eureka), ("consul", by_consul)];

fn by_api(mesh: &Mesh, name: &str) -> Option<Registered> {
    let body = json!({ "address": mesh.origin.ip(), "port": mesh.origin.port() });
    mesh.api("PUT", &format!("/v1/services/{name}/instances/{name}"), &body);
    None
}

fn by_client(mesh: &Mesh, name: &str) -> Option<Registered> {
    let registration = Registration::new(name, mesh.origin.port()).with_id(name).with_ttl(Duration::from_secs(600));
    let client = Client::new(&mesh.process.admin().to_string()).unwrap();
    Some(mesh.runtime.block_on(client.register(registration)).unwrap())
}

fn by_command(mesh: &Mesh, name: &str) -> Option<Registered> {
    mesh.command(&["register", name, "--id", name, "--port", &mesh.origin.port().to_string(), "--static"]);
    None
}

fn by_eureka(mesh: &Mesh, name: &str) -> Option<Registered> {
    eureka(mesh, name, 600);
    None
}

fn eureka(mesh: &Mesh, name: &str, seconds: u32) {
    let body = json!({ "instance": {
        "instanceId": name, "app": name, "hostName": "localhost", "ipAddr": mesh.origin.ip(), "status": "UP",
        "port": { "$": mesh.origin.port(), "@enabled": "true" }, "leaseInfo": { "durationInSecs": seconds },
        "dataCenterInfo": { "@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", "name": "MyOwn" },
    } });
    mesh.api("POST", &format!("/eureka/apps/{name}"), &body);
}

fn by_consul(mesh: &Mesh, name: &str) -> Option<Registered> {
    let body = json!({ "ID": name, "Name": name, "Address": mesh.origin.ip(), "Port": mesh.origin.port() });
    mesh.consul("/v1/agent/service/register", &body);
    None
}

/// Ways to take an instance out, and back where that can be.
type Step = fn(&Mesh, &str);

const DOWNS: [(&str, Step, Option<Step>); 8] = [
    ("deleted", |mesh, name| mesh.api("DELETE", &format!("/v1/services/{name}/instances/{name}"), &Value::Null), None),
    ("cancelled", |mesh, name| mesh.api("DELETE", &format!("/eureka/apps/{name}/{name}"), &Value::Null), None),
    ("deregistered", |mesh, name| mesh.consul(&format!("/v1/agent/service/deregister/{name}"), &Value::Null), None),
    ("commanded", |mesh, name| mesh.command(&["deregister", &format!("{name}/{name}")]), None),
    ("ill", |mesh, name| health(mesh, name, "critical"), Some(|mesh, name| health(mesh, name, "passing"))),
    (
        "overridden",
        |mesh, name| mesh.api("PUT", &format!("/eureka/apps/{name}/{name}/status?value=OUT_OF_SERVICE"), &Value::Null),
        Some(|mesh, name| mesh.api("DELETE", &format!("/eureka/apps/{name}/{name}/status?value=UP"), &Value::Null)),
    ),
    (
        "maintained",
        |mesh, name| mesh.consul(&format!("/v1/agent/service/maintenance/{name}?enable=true"), &Value::Null),
        Some(|mesh, name| mesh.consul(&format!("/v1/agent/service/maintenance/{name}?enable=false"), &Value::Null)),
    ),
    (
        "drained",
        |mesh, name| mesh.command(&["drain", &format!("{name}/{name}")]),
        Some(|mesh, name| mesh.command(&["drain", &format!("{name}/{name}"), "--undo"])),
    ),
];

fn health(mesh: &Mesh, name: &str, status: &str) {
    mesh.api("PUT", &format!("/v1/services/{name}/instances/{name}/health"), &json!({ "status": status }));
}

type Look = fn(&Mesh, &str) -> Vec<u64>;

/// Ports that each way out gives for a service; for traffic, that of the origin when a request reaches it.
const OUTS: [(&str, Look); 6] = [
    ("discover", |mesh, name| {
        let found = mesh.process.admin_get(&format!("/discover?name={name}")).json();
        ports(&found["services"], |one| one["port"].as_u64())
    }),
    ("v1", |mesh, name| {
        let found = mesh.process.admin_get(&format!("/v1/services/{name}/instances?healthy=true")).json();
        ports(&found["instances"], |one| one["port"].as_u64())
    }),
    ("dns", dns),
    ("eureka", |mesh, name| {
        let answer = mesh.send(mesh.process.admin(), ("GET", &format!("/eureka/apps/{name}")), &Value::Null);
        match answer.status {
            200 => ports(&answer.json()["application"]["instance"], |one| {
                (one["status"] == "UP").then(|| one["port"]["$"].as_u64()).flatten()
            }),
            _ => Vec::new(),
        }
    }),
    ("consul", |mesh, name| {
        let path = format!("/v1/health/service/{name}?passing");
        let found = mesh.send(mesh.process.consul(), ("GET", &path), &Value::Null).json();
        ports(&found, |one| one["Service"]["Port"].as_u64())
    }),
    ("traffic", |mesh, name| match mesh.process.mesh_get(name, "/").text().as_str() {
        "here" => vec![u64::from(mesh.origin.port())],
        _ => Vec::new(),
    }),
];

fn ports(list: &Value, port: impl Fn(&Value) -> Option<u64>) -> Vec<u64> {
    list.as_array().into_iter().flatten().filter_map(port).collect()
}

/// The ports in the SRV records of `NAME.service.mesh`. One instance has at most one record, and none means that there is no name.
fn dns(mesh: &Mesh, name: &str) -> Vec<u64> {
    let mut query = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in [name, "service", "mesh"] {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 33, 0, 1]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(4))).unwrap();
    let mut answer = [0; 1500];
    // A datagram may get lost: it is sent again, as resolvers do.
    let length = (0..5).find_map(|_| {
        socket.send_to(&query, mesh.process.dns()).unwrap();
        socket.recv(&mut answer).ok()
    });
    assert!(length.unwrap() >= query.len(), "an answer repeats its question");
    if answer[7] == 0 {
        return Vec::new();
    }
    // Behind the question: the owner, which is a pointer or the labels again, 10 bytes, then priority, weight and port.
    let owner = if answer[query.len()] & 0xc0 == 0xc0 { 2 } else { query.len() - 12 - 4 };
    let port = query.len() + owner + 10 + 4;
    vec![u64::from(u16::from_be_bytes([answer[port], answer[port + 1]]))]
}

/// Waits until every way out says that it is there, or that it is not.
#[track_caller]
fn agree(mesh: &Mesh, name: &str, up: bool) {
    let expected = if up { vec![u64::from(mesh.origin.port())] } else { Vec::new() };
    let seen = || OUTS.map(|(out, look)| (out, look(mesh, name)));
    let agreed = holds_within(meshwright_testkit::PATIENCE, || seen().iter().all(|(_, ports)| *ports == expected));
    assert!(agreed, "{name} is to be {}: {:?}", if up { "there" } else { "gone" }, seen());
}

fn start(config: &Config) -> (Mesh, Origin) {
    let origin = Origin::named("here");
    let faces = ["--consul", "127.0.0.1:0", "--dns", "127.0.0.1:0"];
    let process = Launch::run(binary!()).file(config.path()).args(&faces).start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    (Mesh { process, origin: origin.address(), runtime }, origin)
}

#[test]
fn whoever_comes_by_any_way_and_goes_by_any_way_does_so_for_everybody() {
    let config = Config::new(&[&gateway_to("anybody")]);
    let (mesh, _origin) = start(&config);
    let mut kept = Vec::new();
    for (come, register) in INS {
        for (go, _, _) in DOWNS {
            kept.extend(register(&mesh, &format!("{come}-{go}")));
        }
    }
    for (come, _) in INS {
        for (go, down, back) in DOWNS {
            let name = format!("{come}-{go}");
            agree(&mesh, &name, true);
            down(&mesh, &name);
            agree(&mesh, &name, false);
            if let Some(back) = back {
                back(&mesh, &name);
                agree(&mesh, &name, true);
            }
        }
    }
}

#[test]
fn whoever_falls_silent_or_fails_a_check_is_gone_for_everybody() {
    let config = Config::new(&[&gateway_to("anybody")]);
    let (mesh, origin) = start(&config);
    let (ip, port) = (mesh.origin.ip(), mesh.origin.port());
    // Two leases that end are no reason for self-preservation.
    mesh.api(
        "PUT",
        "/v1/services/silent/instances/silent",
        &json!({ "address": ip, "port": port, "lease": { "ttl": "1s" } }),
    );
    eureka(&mesh, "quiet", 1);
    let ttl = json!({ "ID": "late", "Name": "late", "Address": ip, "Port": port, "Check": { "TTL": "1s", "Status": "passing" } });
    mesh.consul("/v1/agent/service/register", &ttl);
    for name in ["silent", "quiet", "late"] {
        agree(&mesh, name, false);
    }
    let check = json!({ "address": ip, "port": port, "checks": [{ "tcp": true, "interval": "100ms" }] });
    mesh.api("PUT", "/v1/services/checked/instances/checked", &check);
    agree(&mesh, "checked", true);
    drop(origin);
    agree(&mesh, "checked", false);
}

/// What a document says is in the mesh and not in the registry: traffic goes there, and nobody else is told.
#[test]
fn a_document_is_for_traffic_alone_and_who_registers_under_its_name_joins_it() {
    let written = Origin::named("written");
    let config = Config::new(&[&gateway_to("anybody"), &service_entry("both.test", "HTTP", written.address())]);
    let (mesh, _origin) = start(&config);
    assert_eq!(mesh.process.mesh_get("both.test", "/").text(), "written");
    assert!(OUTS[..5].iter().all(|(_, look)| look(&mesh, "both.test").is_empty()));
    by_api(&mesh, "both.test");
    eventually("both get requests", || (0..20).any(|_| mesh.process.mesh_get("both.test", "/").text() == "here"));
    assert!((0..40).any(|_| mesh.process.mesh_get("both.test", "/").text() == "written"));
    assert_eq!(OUTS[0].1(&mesh, "both.test"), [u64::from(mesh.origin.port())]);
}
