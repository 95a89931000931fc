//! `meshwright import`: a live registry that speaks Eureka or Consul is mirrored into ours, and nothing of ours is touched.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use meshwright_testkit::{Config, Launch, Meshwright, Origin, RawClient, Signal, binary, eventually, gateway_to};
use serde_json::{Value, json};

/// A process with a registry and all its faces; a gateway sends everything to `users`.
fn process() -> (Config, Meshwright) {
    let config = Config::new(&[&gateway_to("users")]);
    let process = Launch::run(binary!()).file(config.path()).args(&["--consul", "127.0.0.1:0"]).start();
    (config, process)
}

/// An import that runs beside the test; ended with it.
struct Import {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Import {
    fn start(into: &Meshwright, words: &[&str]) -> Self {
        let mut command = Command::new(binary!());
        command
            .arg("import")
            .args(words)
            .args(["--interval", "50ms"])
            .env("MESHWRIGHT_ADMIN", into.admin().to_string());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let source = BufReader::new(child.stderr.take().unwrap());
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        std::thread::spawn(move || {
            source.lines().map_while(Result::ok).for_each(|line| kept.lock().unwrap().push(line))
        });
        Self { child, lines }
    }

    fn says(&self, what: &str) -> bool {
        self.lines.lock().unwrap().iter().any(|line| line.contains(what))
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the import said:\n{}", self.lines.lock().unwrap().join("\n"));
        }
    }
}

fn send(process: &Meshwright, method: &str, path: &str, body: &Value) -> u16 {
    RawClient::connect(process.admin()).request(method, "localhost", path, &[], body.to_string().as_bytes()).status
}

fn register(process: &Meshwright, id: &str, port: u16) {
    let body =
        json!({ "address": "127.0.0.1", "port": port, "version": "v2", "metadata": { "version": "v2", "zone": "a" } });
    let status = send(process, "PUT", &format!("/v1/services/users/instances/{id}"), &body);
    assert!(matches!(status, 200 | 201), "{status}");
}

fn leave(process: &Meshwright, id: &str) {
    assert_eq!(send(process, "DELETE", &format!("/v1/services/users/instances/{id}"), &Value::Null), 204);
}

/// Ids of the instances of `users`.
fn ids(process: &Meshwright) -> Vec<String> {
    let list = process.admin_get("/v1/services/users/instances").json();
    list["instances"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

fn shown(process: &Meshwright, id: &str) -> Value {
    process.admin_get(&format!("/v1/services/users/instances/{id}")).json()
}

fn eureka(process: &Meshwright) -> String {
    format!("http://{}/eureka/", process.admin())
}

#[test]
fn what_an_eureka_has_is_here_too_with_its_status_for_as_long_as_it_is_there() {
    let ((_there_config, there), (_here_config, here)) = (process(), process());
    let origin = Origin::named("one");
    register(&there, "one", origin.address().port());
    register(&there, "two", 2);
    let import = Import::start(&here, &["eureka", &eureka(&there)]);
    eventually("both are here", || ids(&here) == ["one", "two"]);
    let one = shown(&here, "one");
    assert_eq!(
        (&one["version"], &one["metadata"]["zone"], &one["status"]),
        (&json!("v2"), &json!("a"), &json!("passing"))
    );
    assert_eq!(one["metadata"]["meshwright.io/imported-from"], format!("eureka http://{}/eureka", there.admin()));
    send(&there, "PUT", "/v1/services/users/instances/two/status", &json!({ "status": "out_of_service" }));
    eventually("it is out of service there and not well here", || shown(&here, "two")["status"] == "critical");
    eventually("the gateway sends requests to the other", || here.get("example.com", "/").text() == "one");
    leave(&there, "two");
    eventually("it is gone", || ids(&here) == ["one"]);
    register(&there, "three", 3);
    eventually("another came", || ids(&here) == ["one", "three"]);
    assert!(import.says("2 instances, 2 new, 0 gone"), "it says what it does");
}

#[test]
fn what_a_consul_has_is_imported_and_what_registered_here_itself_wins() {
    let ((_there_config, there), (_here_config, here)) = (process(), process());
    for (id, port) in [("one", 1), ("two", 2), ("three", 3)] {
        register(&there, id, port);
    }
    register(&here, "one", 7);
    register(&here, "mine", 2);
    let import = Import::start(&here, &["consul", &format!("http://{}", there.consul())]);
    eventually("only what does not collide is imported", || ids(&here) == ["mine", "one", "three"]);
    eventually("both collisions are told", || {
        import.says("users/one is registered here by itself as one, which wins")
            && import.says("users/two is registered here by itself as mine, which wins")
    });
    assert_eq!(shown(&here, "one")["port"], 7);
    leave(&here, "one");
    eventually("it comes when nothing is in its way", || shown(&here, "one")["port"] == 1);
    // A client that is pointed here takes its instance over, and it stays when the source forgets it.
    register(&here, "three", 3);
    leave(&there, "three");
    leave(&there, "one");
    eventually("only what is imported goes", || ids(&here) == ["mine", "three"]);
}

#[test]
fn a_source_that_is_away_and_an_import_that_begins_again_change_nothing() {
    let ((_there_config, there), (_here_config, here)) = (process(), process());
    register(&there, "one", 1);
    register(&there, "two", 2);
    let import = Import::start(&here, &["eureka", &eureka(&there)]);
    eventually("both are here", || ids(&here) == ["one", "two"]);
    let created = shown(&here, "one")["created"].clone();
    drop(import);
    leave(&there, "two");
    let again = Import::start(&here, &["eureka", &eureka(&there)]);
    eventually("what went meanwhile goes", || ids(&here) == ["one"]);
    assert_eq!(shown(&here, "one")["created"], created, "it was never away");
    there.signal(Signal::KILL);
    eventually("it is told", || again.says("what was imported stays for 300s"));
    assert_eq!(ids(&here), ["one"]);
}

#[test]
fn once_is_once_and_a_source_that_is_no_registry_is_an_error() {
    let ((_there_config, there), (_here_config, here)) = (process(), process());
    register(&there, "one", 1);
    let import = |url: &str| {
        let words = ["import", "consul", url, "--once", "--grace", "2s"];
        Launch::command(binary!()).args(&words).environment("MESHWRIGHT_ADMIN", &here.admin().to_string()).output()
    };
    let (code, out, err) = import(&format!("http://{}", there.consul()));
    assert_eq!((code, out), (0, format!("imported 1 instances from consul http://{}\n", there.consul())), "{err}");
    eventually("nobody renews it", || ids(&here).is_empty());
    let (code, _, err) = import(&format!("http://{}", there.admin()));
    assert_eq!(code, 1);
    assert!(
        err.contains("cannot import from consul") && err.contains("/v1/catalog/services is answered with 404"),
        "{err}"
    );
}
