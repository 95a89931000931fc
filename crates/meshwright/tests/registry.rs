//! The service registry of a running process: instances come and go by themselves, and traffic follows.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use meshwright_testkit::{
    Config, Launch, Meshwright, Origin, RawClient, Response, Signal, binary, eventually, gateway_to,
};
use serde_json::{Value, json};

/// An instance that answers with `text`.
fn hello(text: &str) -> Origin {
    Origin::answers(200, &[], text)
}

/// A process whose gateway sends everything to the service `users`, which nobody has said anything about.
fn gateway() -> (Config, Meshwright) {
    let config = Config::new(&[&gateway_to("users")]);
    let process = Launch::run(binary!()).file(config.path()).start();
    (config, process)
}

fn post(process: &Meshwright, path: &str, body: &Value) -> Response {
    send(process, "POST", path, body)
}

fn send(process: &Meshwright, method: &str, path: &str, body: &Value) -> Response {
    RawClient::connect(process.admin()).request(method, "localhost", path, &[], body.to_string().as_bytes())
}

fn small(name: &str, address: SocketAddr) -> Value {
    json!({ "name": name, "address": address.ip(), "port": address.port() })
}

#[test]
fn a_registered_instance_gets_requests_at_once_and_none_after_it_left() {
    let (_config, process) = gateway();
    let origin = hello("hello");
    assert_eq!(process.get("example.com", "/").status, 503, "nobody is there");
    assert_eq!(post(&process, "/register", &small("users", origin.address())).status, 200);
    let acknowledged = Instant::now();
    eventually("the first request is served", || process.get("example.com", "/").status == 200);
    println!("served {:?} after the acknowledgement", acknowledged.elapsed());
    let found = process.admin_get("/discover?name=users").json();
    assert_eq!((&found["count"], &found["services"][0]["port"]), (&json!(1), &json!(origin.address().port())));
    assert!(found["services"][0]["last_seen"].as_str().is_some_and(|time| time.ends_with('Z')), "{found}");
    assert_eq!(post(&process, "/heartbeat", &small("users", origin.address())).status, 200);
    assert_eq!(post(&process, "/deregister", &small("users", origin.address())).status, 200);
    eventually("no request is sent there", || process.get("example.com", "/").status == 503);
    assert_eq!(post(&process, "/heartbeat", &small("users", origin.address())).status, 404);
    assert_eq!(process.admin_get("/discover?name=users").json()["count"], 0);
}

#[test]
fn a_registered_name_is_served_by_the_mesh_listener_without_any_configuration_for_it() {
    let (_config, process) = gateway();
    let origin = hello("orders here");
    let ask = |host: &str| RawClient::connect(process.mesh()).get(host, "/");
    assert_eq!(ask("orders").status, 502, "it is no open proxy");
    assert_eq!(post(&process, "/register", &small("Orders", origin.address())).status, 200);
    eventually("the name is known", || ask("orders").status == 200);
    assert_eq!(ask("orders.default.svc.cluster.local:8080").status, 200);
    let generation = process.admin_get("/ready").text();
    assert!(generation.contains("generation 1"), "it is the same configuration: {generation}");
}

#[test]
fn subsets_select_by_version_tags_and_metadata_and_an_instance_that_says_it_is_ill_is_left_out() {
    let config = Config::new(&[
        &gateway_to("users").replace("host: users", "host: users, subset: canary"),
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: users}\nspec:\n  host: users\n  \
         subsets: [{name: canary, labels: {version: v2, zone: a, tag/canary: 'true'}}]\n",
    ]);
    let process = Launch::run(binary!()).file(config.path()).start();
    let (old, new) = (hello("old"), hello("new"));
    let register = |id: &str, address: SocketAddr, version: &str| {
        let body = json!({
            "address": address.ip(), "port": address.port(), "version": version, "metadata": { "zone": "a" },
            "tags": ["canary"], "lease": { "ttl": "30s" },
        });
        send(&process, "PUT", &format!("/v1/services/users/instances/{id}"), &body)
    };
    assert_eq!(register("old", old.address(), "v1").status, 201);
    assert_eq!(register("new", new.address(), "v2").status, 201);
    eventually("the canary answers", || process.get("example.com", "/").text() == "new");
    for _ in 0..10 {
        assert_eq!(process.get("example.com", "/").text(), "new");
    }
    let ill = send(&process, "PUT", "/v1/services/users/instances/new/health", &json!({ "status": "critical" }));
    assert_eq!(ill.json()["status"], "critical");
    eventually("nobody is left", || process.get("example.com", "/").status == 503);
}

#[test]
fn draining_an_instance_finishes_what_it_has_and_sends_nothing_new() {
    let (_config, process) = gateway();
    let (first, second) = (hello("first"), hello("second"));
    for origin in [&first, &second] {
        post(&process, "/register", &small("users", origin.address()));
    }
    eventually("both answer", || {
        let answers: Vec<String> = (0..20).map(|_| process.get("example.com", "/").text()).collect();
        answers.iter().any(|text| text == "first") && answers.iter().any(|text| text == "second")
    });
    let path = format!("/v1/services/users/instances/{}/status", first.address());
    let drained = send(&process, "PUT", &path, &json!({ "status": "draining", "reason": "upgrade" }));
    assert_eq!(drained.json()["override"]["reason"], "upgrade", "{}", drained.text());
    eventually("only the other one answers", || (0..20).all(|_| process.get("example.com", "/").text() == "second"));
    assert_eq!(process.admin_get("/discover?name=users").json()["count"], 1);
    assert_eq!(send(&process, "DELETE", &path, &json!({})).json()["status"], "passing");
    eventually("it takes part again", || (0..20).any(|_| process.get("example.com", "/").text() == "first"));
}

#[test]
fn an_instance_that_is_silent_leaves_and_one_that_a_connection_holds_leaves_with_it() {
    let (_config, process) = gateway();
    let origin = hello("held");
    let body = json!({ "address": "127.0.0.1", "port": 1, "lease": { "ttl": "1s" } });
    assert_eq!(send(&process, "PUT", "/v1/services/users/instances/silent", &body).status, 201);
    eventually("its lease ends", || process.admin_get("/v1/services/users/instances/silent").status == 404);
    let held = json!({ "address": "127.0.0.1", "port": origin.address().port() }).to_string();
    let mut connection = RawClient::connect(process.admin());
    connection.send(
        format!(
            "PUT /v1/services/users/instances/held?hold=true HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{held}",
            held.len()
        )
        .as_bytes(),
    );
    eventually("it is served", || process.get("example.com", "/").status == 200);
    drop(connection);
    eventually("it is gone with its connection", || {
        process.admin_get("/v1/services/users/instances/held").status == 404
    });
}

#[test]
fn a_flag_wins_over_the_registry_and_says_so_and_a_document_is_joined() {
    let (flagged, registered, written) = (hello("flag"), hello("registry"), hello("entry"));
    let entry = format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: both}}\nspec:\n  hosts: [both.test]\n  \
         ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {}}}]\n  resolution: STATIC\n  endpoints: [{{address: \
         127.0.0.1}}]\n",
        written.address().port()
    );
    let config = Config::new(&[&gateway_to("users"), &entry]);
    let process = Launch::run(binary!()).file(config.path()).service_at("users", flagged.address()).start();
    for name in ["users", "both.test"] {
        assert_eq!(post(&process, "/register", &small(name, registered.address())).status, 200);
    }
    eventually("instances of both sources answer", || {
        let ask = || RawClient::connect(process.mesh()).get("both.test", "/").text();
        let answers: Vec<String> = (0..20).map(|_| ask()).collect();
        answers.iter().any(|text| text == "entry") && answers.iter().any(|text| text == "registry")
    });
    assert!((0..20).all(|_| process.get("example.com", "/").text() == "flag"));
    eventually("both are said", || {
        let said = process.stderr();
        said.contains("--service has this name and wins")
            && said.contains("join those of the ServiceEntry that has this name")
    });
    let dump = process.admin_get("/config_dump").text();
    assert!(
        dump.contains("\"source\": \"--service\"") || dump.contains("\"source\":\"--service\""),
        "and can be looked up"
    );
}

#[test]
fn that_a_flag_wins_is_said_of_instances_from_before_the_start_too() {
    let data = tempfile::tempdir().unwrap();
    let directory = ["--data", data.path().to_str().unwrap()];
    let config = Config::new(&[&gateway_to("users")]);
    let (flagged, registered) = (hello("flag"), hello("registry"));
    let process = Launch::run(binary!()).file(config.path()).args(&directory).start();
    assert_eq!(post(&process, "/register", &small("users", registered.address())).status, 200);
    drop(process);
    let run = Launch::run(binary!()).file(config.path()).args(&directory);
    let process = run.service_at("users", flagged.address()).start();
    eventually("it is said", || process.stderr().contains("--service has this name and wins"));
    assert_eq!(process.get("example.com", "/").text(), "flag");
}

#[test]
fn what_was_acknowledged_survives_a_kill_and_is_served_at_once_after_it() {
    let data = tempfile::tempdir().unwrap();
    let config = Config::new(&[&gateway_to("users")]);
    let origin = hello("still here");
    let directory = data.path().to_str().unwrap();
    let process = Launch::run(binary!()).file(config.path()).args(&["--data", directory]).start();
    let (code, _, sentence) = Launch::run(binary!()).file(config.path()).args(&["--data", directory]).output();
    assert_eq!(code, 1);
    assert!(sentence.contains("in use by process"), "{sentence}");
    assert_eq!(post(&process, "/register", &small("users", origin.address())).status, 200);
    assert_eq!(process.admin_get("/v1/status").json()["store"], "redb");
    process.signal(Signal::KILL);
    drop(process);
    let process = Launch::run(binary!()).file(config.path()).args(&["--data", directory]).start();
    assert_eq!(process.get("example.com", "/").text(), "still here");
    assert_eq!(post(&process, "/heartbeat", &small("users", origin.address())).status, 200);
}

#[test]
fn an_instance_is_checked_before_it_gets_requests_and_for_as_long_as_it_is_there() {
    let (_config, process) = gateway();
    let origin = hello("well");
    let body = json!({
        "address": "127.0.0.1", "port": origin.address().port(), "lease": { "kind": "checks", "ttl": "30s" },
        "checks": [{ "http": "/health", "interval": "100ms" }, { "tcp": true, "interval": "100ms" }],
    });
    let answer = send(&process, "PUT", "/v1/services/users/instances/a", &body);
    assert_eq!(answer.json()["status"], "starting", "{}", answer.text());
    eventually("the checks pass", || process.get("example.com", "/").status == 200);
    drop(origin);
    eventually("the checks fail", || {
        process.admin_get("/v1/services/users/instances/a").json()["status"] == "critical"
    });
    eventually("it gets no requests", || process.get("example.com", "/").status == 503);
}

#[test]
fn who_watched_a_registry_in_memory_is_told_to_begin_again_by_the_next_process() {
    let origin = hello("again");
    let config = Config::new(&[&gateway_to("users")]);
    let started = || Launch::run(binary!()).file(config.path()).args(&["--data", "none"]).start();
    let first = started();
    assert_eq!(post(&first, "/register", &small("users", origin.address())).status, 200);
    let revision = first.admin_get("/v1/status").json()["revision"].as_u64().unwrap();
    let listed = first.admin_get("/v1/services/users/instances");
    drop(first);

    let second = started();
    for name in ["orders", "users"] {
        assert_eq!(post(&second, "/register", &small(name, origin.address())).status, 200);
    }
    let watched = second.admin_get(&format!("/v1/watch?revision={revision}&wait=1s"));
    assert_eq!(watched.status, 410, "{}", watched.text());
    let mut client = RawClient::connect(second.admin());
    let tag = ("if-none-match", listed.header("etag").unwrap());
    let again = client.request("GET", "localhost", "/v1/services/users/instances", &[tag], b"");
    assert_eq!(again.status, 200, "what is known is of another process");
}

#[test]
fn a_check_that_flaps_below_its_thresholds_moves_no_traffic_and_an_instance_that_left_comes_back_only_when_it_stays_well()
 {
    let (_config, process) = gateway();
    // 0: well; 1: fails every other time; 2: ill.
    let (mood, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let origin = {
        let (mood, asked) = (mood.clone(), asked.clone());
        Origin::answers_by(move |received| {
            if received.target != "/health" {
                return (200, String::new());
            }
            let number = asked.fetch_add(1, Ordering::SeqCst);
            let is_well = match mood.load(Ordering::SeqCst) {
                0 => true,
                1 => number.is_multiple_of(2),
                _ => false,
            };
            (if is_well { 200 } else { 500 }, String::new())
        })
    };
    let body = json!({
        "address": "127.0.0.1", "port": origin.address().port(), "lease": { "kind": "static" },
        "checks": [{ "http": "/health", "interval": "100ms", "timeout": "20s", "rise": 3, "fall": 3 }],
    });
    let answer = send(&process, "PUT", "/v1/services/users/instances/a", &body);
    assert_eq!(answer.status, 201, "{}", answer.text());
    let serves = || process.get("example.com", "/").status == 200;
    let revision = || process.admin_get("/v1/status").json()["revision"].clone();
    let until_asked = |more: usize| {
        let wanted = asked.load(Ordering::SeqCst) + more;
        eventually("the check is carried out", || asked.load(Ordering::SeqCst) >= wanted);
    };
    eventually("the first check passes", serves);

    let before = revision();
    mood.store(1, Ordering::SeqCst);
    for _ in 0..10 {
        until_asked(2);
        assert!(serves(), "one failure is not three");
    }
    assert_eq!(revision(), before, "nobody was told anything");

    mood.store(2, Ordering::SeqCst);
    eventually("it leaves", || !serves());
    let left = revision();
    mood.store(1, Ordering::SeqCst);
    for _ in 0..10 {
        until_asked(2);
        assert!(!serves(), "one success is not three");
    }
    assert_eq!(revision(), left, "nobody was told anything");
    mood.store(0, Ordering::SeqCst);
    eventually("it comes back", serves);
}

/// Time from the acknowledgement to the first request that is served. It is printed; the budget is checked in a benchmark.
#[test]
fn names_that_are_registered_one_after_the_other_are_all_served() {
    let (_config, process) = gateway();
    let origin = hello("one of many");
    let mut times: Vec<Duration> = Vec::new();
    for number in 0..50 {
        let name = format!("service-{number}");
        let mut client = RawClient::connect(process.mesh());
        assert_eq!(post(&process, "/register", &small(&name, origin.address())).status, 200);
        let start = Instant::now();
        while client.get(&name, "/").status != 200 {
            assert!(start.elapsed() < meshwright_testkit::PATIENCE, "{name} is not served");
            client = RawClient::connect(process.mesh());
        }
        times.push(start.elapsed());
    }
    times.sort();
    println!("registered to served: median {:?}, most {:?}", times[25], times[49]);
}
