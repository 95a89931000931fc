//! Several processes share one registry in etcd: what is registered at one is found and served at all, and each may die.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::net::SocketAddr;

use meshwright_testkit::{
    Authority, Config, Etcd, Launch, Meshwright, Origin, RawClient, Response, Signal, binary, eventually, gateway_to,
};
use serde_json::{Value, json};

/// Processes whose gateways send everything to the service `users`, which nobody has said anything about.
struct Processes {
    config: Config,
    store: String,
}

impl Processes {
    fn of(etcd: &[&Etcd]) -> Self {
        let members: Vec<String> = etcd.iter().map(|member| member.address().to_string()).collect();
        Self { config: Config::new(&[&gateway_to("users")]), store: format!("etcd://{}", members.join(",")) }
    }

    fn start(&self, more: &[&str]) -> Meshwright {
        Launch::run(binary!()).file(self.config.path()).args(&["--store", &self.store]).args(more).start()
    }
}

fn send(process: &Meshwright, method: &str, path: &str, body: &Value) -> Response {
    RawClient::connect(process.admin()).request(method, "localhost", path, &[], body.to_string().as_bytes())
}

fn instance(id: &str) -> String {
    format!("/v1/services/users/instances/{id}")
}

fn register(process: &Meshwright, id: &str, address: SocketAddr, ttl: &str) -> Response {
    let body = json!({ "address": address.ip(), "port": address.port(), "lease": { "ttl": ttl } });
    send(process, "PUT", &instance(id), &body)
}

fn renew(process: &Meshwright, id: &str) -> u16 {
    send(process, "POST", &format!("{}/renew", instance(id)), &json!({})).status
}

fn ids(process: &Meshwright) -> Vec<String> {
    let answer = process.admin_get("/v1/services/users/instances").json();
    let instances = answer["instances"].as_array().unwrap().iter();
    instances.map(|instance| instance["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_is_registered_at_one_process_is_served_by_the_other_and_outlives_the_one_it_registered_at() {
    let etcd = Etcd::start();
    let processes = Processes::of(&[&etcd]);
    let (first, second) = (processes.start(&[]), processes.start(&[]));
    let origin = Origin::answers(200, &[], "hello");
    assert_eq!(second.get("example.com", "/").status, 503, "nobody is there");
    assert_eq!(register(&first, "moves", origin.address(), "4s").status, 201);
    assert_eq!(register(&first, "silent", origin.address(), "4s").status, 201);
    eventually("the other one serves it", || second.get("example.com", "/").status == 200);
    assert_eq!(ids(&second), ["moves", "silent"]);
    eventually("both are seen", || second.admin_get("/v1/status").json()["members"] == 2);
    assert_eq!(second.admin_get("/v1/status").json()["store"], "etcd");
    first.signal(Signal::KILL);
    drop(first);
    eventually("who is silent leaves, and who renews here does not", || {
        assert_eq!(renew(&second, "moves"), 200);
        assert_eq!(second.get("example.com", "/").status, 200);
        ids(&second) == ["moves"]
    });
    assert_eq!(second.admin_get("/v1/status").json()["members"], 1);
    let third = processes.start(&[]);
    assert_eq!(third.get("example.com", "/").status, 200, "a process that starts serves it at once");
}

#[test]
fn while_etcd_is_gone_requests_and_answers_go_on_and_writes_are_told_to_come_back() {
    let mut etcd = Etcd::start();
    let processes = Processes::of(&[&etcd]);
    let (first, second) = (processes.start(&[]), processes.start(&[]));
    let origin = Origin::answers(200, &[], "hello");
    assert_eq!(register(&first, "a", origin.address(), "60s").status, 201);
    eventually("both have it", || second.get("example.com", "/").status == 200);
    etcd.kill();
    let refused = register(&first, "b", origin.address(), "60s");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{}", refused.text());
    for process in [&first, &second] {
        eventually("it is said", || !process.admin_get("/v1/status").json()["trouble"].is_null());
        assert_eq!(process.get("example.com", "/").status, 200);
        assert_eq!(process.admin_get("/discover?name=users").json()["count"], 1);
        assert_eq!(process.admin_get("/ready").status, 200, "it serves what it knows");
    }
    assert_eq!(renew(&first, "a"), 200);
    let founding = json!({ "name": "users", "address": "127.0.0.1", "port": 1 });
    assert_eq!(send(&second, "POST", "/register", &founding).status, 503);
    etcd.restart();
    eventually("it can be written to again", || register(&first, "b", origin.address(), "60s").status == 201);
    eventually("and the other one follows", || ids(&second) == ["a", "b"]);
}

#[test]
fn etcd_may_ask_for_certificates() {
    let authority = Authority::new("etcd authority");
    let files = tempfile::tempdir().unwrap();
    let trusted = authority.write(files.path(), "ca.pem");
    // etcd is a client of itself, too.
    let server = meshwright_testkit::Leaf::server(&["127.0.0.1", "localhost"]).for_both();
    let (certificate, key) = authority.issue(&server).write(files.path(), "server");
    let (own, own_key) = authority.client(&["meshwright"]).write(files.path(), "client");
    let etcd = Etcd::start_tls(&certificate, &key, &trusted);
    let config = Config::new(&[&gateway_to("users")]);
    let store = format!("etcds://{}/secured", etcd.address());
    let text = |path: &std::path::Path| path.display().to_string();
    let process = Launch::run(binary!())
        .file(config.path())
        .args(&["--store", &store, "--store-ca", &text(&trusted)])
        .args(&["--store-certificate", &text(&own), "--store-key", &text(&own_key)])
        .start();
    let origin = Origin::answers(200, &[], "secured");
    assert_eq!(register(&process, "a", origin.address(), "60s").status, 201);
    assert_eq!(process.admin_get("/ready").status, 200);
}

#[test]
fn etcd_may_ask_for_a_password_that_is_read_from_a_file() {
    let etcd = Etcd::start();
    etcd.call("/v3/auth/user/add", &json!({ "name": "root", "password": "pass:word" }));
    etcd.call("/v3/auth/role/add", &json!({ "name": "root" }));
    etcd.call("/v3/auth/user/grant", &json!({ "user": "root", "role": "root" }));
    etcd.call("/v3/auth/enable", &json!({}));
    let files = tempfile::tempdir().unwrap();
    let login = files.path().join("login");
    std::fs::write(&login, "root:pass:word\n").unwrap();
    let processes = Processes::of(&[&etcd]);
    let process = processes.start(&["--store-login", &login.display().to_string()]);
    let origin = Origin::answers(200, &[], "hello");
    assert_eq!(register(&process, "a", origin.address(), "60s").status, 201);
    assert!(!process.stderr().contains("pass:word"));
}

#[test]
fn flags_of_a_store_that_cannot_be_meant_are_refused_by_name() {
    let config = Config::new(&[&gateway_to("users")]);
    let refusal = |flags: &[&str]| {
        let (code, _, sentence) = Launch::run(binary!()).file(config.path()).args(flags).output();
        assert_eq!(code, 2, "{sentence}");
        sentence
    };
    assert!(refusal(&["--store", "redis://127.0.0.1"]).contains("there is no store"));
    assert!(refusal(&["--store", "etcd://root:secret@127.0.0.1"]).contains("--store-login"));
    assert!(refusal(&["--store", "etcd://127.0.0.1", "--data", "/tmp/x"]).contains("give one of them"));
    assert!(refusal(&["--store", "etcd://127.0.0.1", "--store-ca", "/tmp/x"]).contains("etcds://"));
}

/// It waits ten seconds for etcd at the start.
#[test]
#[ignore = "longer tier"]
fn a_process_that_starts_without_etcd_is_not_ready_until_it_is_there() {
    let mut etcd = Etcd::start();
    etcd.kill();
    let processes = Processes::of(&[&etcd]);
    let process = processes.start(&[]);
    let ready = process.admin_get("/ready");
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("waiting for the registry"), "{}", ready.text());
    assert_eq!(register(&process, "a", "127.0.0.1:1".parse().unwrap(), "60s").status, 503);
    etcd.restart();
    eventually("it is ready", || process.admin_get("/ready").status == 200);
    assert_eq!(register(&process, "a", "127.0.0.1:1".parse().unwrap(), "60s").status, 201);
}
