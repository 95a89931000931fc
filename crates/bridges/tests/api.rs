//! The registry's own API over real sockets, as clients see it that have never heard of us.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use meshwright_bridges::{Tokens, router};
use meshwright_catalog::{Catalog, EtcdSettings};
use meshwright_registry::Limits;
use meshwright_testkit::{Etcd, PATIENCE, RawClient, Response, eventually};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// The API of a registry in memory, on a thread of its own.
struct Server {
    address: SocketAddr,
    catalog: Catalog,
    _stop: oneshot::Sender<()>,
}

impl Server {
    fn start() -> Self {
        Self::with(Tokens::default(), Limits::default())
    }

    fn with(tokens: Tokens, limits: Limits) -> Self {
        Self::of(Catalog::in_memory(limits, 0), tokens)
    }

    fn of(catalog: Catalog, tokens: Tokens) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let served = catalog.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                tokio::spawn(served.clone().run(std::future::pending()));
                let stopped = async move { drop(stopped.await) };
                meshwright_site::serve(listener, router(served, tokens), 1000, stopped).await.unwrap();
            });
        });
        Self { address: told.recv().unwrap(), catalog, _stop: stop }
    }

    fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Response {
        RawClient::connect(self.address).request(method, "localhost", target, headers, body.as_bytes())
    }

    fn get(&self, target: &str) -> Response {
        self.send("GET", target, &[], "")
    }

    fn put(&self, target: &str, body: &Value) -> Response {
        self.send("PUT", target, &[], &body.to_string())
    }

    fn post(&self, target: &str, body: &str) -> Response {
        self.send("POST", target, &[], body)
    }
}

const A: &str = "/v1/services/users/instances/a";

fn instance() -> Value {
    json!({ "address": "10.0.0.1", "port": 8080, "metadata": { "zone": "a" }, "lease": { "ttl": "30s" } })
}

#[test]
fn the_small_api_answers_as_it_is_known_to() {
    let server = Server::start();
    for (path, body, sentence) in [
        ("/register", "{", "Invalid JSON\n"),
        ("/register", "[]", "Invalid JSON\n"),
        ("/register", r#"{"name":"a","port":"80"}"#, "Invalid JSON\n"),
        ("/register", r#"{"address":"10.0.0.1","port":80}"#, "Service name required\n"),
        ("/deregister", r#"{"name":"","address":"10.0.0.1","port":80}"#, "Service name required\n"),
        ("/heartbeat", "", "Invalid JSON\n"),
    ] {
        let answer = server.post(path, body);
        assert_eq!((answer.status, answer.text().as_str()), (400, sentence), "{path} {body}");
    }
    let missing = server.get("/discover");
    assert_eq!((missing.status, missing.text().as_str()), (400, "Service name required\n"));
    let of =
        |health: &str| format!(r#"{{"name":"users","address":"10.0.0.1","port":80{health},"metadata":{{"k":"v"}}}}"#);
    assert_eq!(server.post("/register", &of("")).status, 200);
    let found = server.get("/discover?name=users").json();
    assert_eq!(found["count"], 1);
    let service = &found["services"][0];
    assert_eq!(
        (&service["name"], &service["health"], &service["metadata"]["k"]),
        (&json!("users"), &json!(true), &json!("v"))
    );
    assert_eq!(server.post("/register", &of(r#","health":false"#)).status, 200);
    assert_eq!(server.get("/discover?name=users").json(), json!({ "services": [], "count": 0 }));
    assert_eq!(server.post("/deregister", &of("")).status, 200);
    assert_eq!(server.post("/deregister", &of("")).status, 200, "to be gone is what was asked for");
    assert_eq!(server.post("/heartbeat", &of("")).status, 404);
}

#[test]
fn an_instance_is_registered_shown_renewed_and_taken_away() {
    let server = Server::start();
    let created = server.put(A, &instance());
    assert_eq!(created.status, 201, "{}", created.text());
    assert_eq!(server.put(A, &instance()).status, 200, "once more is no news");
    let shown = server.get(A).json();
    for (pointer, expected) in [
        ("/status", json!("passing")),
        ("/lease", json!({ "kind": "heartbeat", "ttl": "30s" })),
        ("/metadata/zone", json!("a")),
        ("/created", json!(1)),
        ("/weight", json!(1)),
        ("/source", json!("api")),
    ] {
        assert_eq!(shown.pointer(pointer), Some(&expected), "{pointer} of {shown}");
    }
    assert_eq!(server.post(&format!("{A}/renew"), "").json(), json!({ "ttl": "30s" }));
    assert_eq!(server.send("DELETE", A, &[], "").status, 204);
    for gone in [server.get(A), server.send("DELETE", A, &[], ""), server.post(&format!("{A}/renew"), "")] {
        assert_eq!(gone.status, 404);
        assert_eq!(gone.header("content-type"), Some("application/problem+json"));
        assert_eq!(gone.json()["title"], "Not Found");
    }
}

#[test]
fn without_address_and_id_an_instance_is_where_it_came_from() {
    let server = Server::start();
    let answer = server.post("/v1/services/users/instances", r#"{"port": 7}"#);
    assert_eq!(answer.status, 201);
    assert_eq!((&answer.json()["id"], &answer.json()["address"]), (&json!("127.0.0.1:7"), &json!("127.0.0.1")));
}

#[test]
fn wrong_values_are_refused_with_their_field_and_what_is_allowed() {
    let server = Server::start();
    let wrong = |change: Value| {
        let mut body = instance();
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let answer = server.put(A, &body);
        assert_eq!(answer.status, 400, "{body}");
        answer.json()["detail"].as_str().unwrap().to_owned()
    };
    for (change, part) in [
        (json!({ "adress": "x" }), "unknown field `adress`"),
        (json!({ "port": 70000 }), "70000"),
        (json!({ "address": "10.0.0.1:80" }), "an IP address or a DNS name, without port"),
        (json!({ "weight": 0 }), "1 to 65535"),
        (json!({ "health": "great" }), "passing, warning"),
        (json!({ "lease": { "ttl": "1y" } }), "a duration is a text such as"),
        (json!({ "lease": { "ttl": "1ms" } }), "1 s to 24 h"),
        (json!({ "lease": { "kind": "checks" } }), "come with a check"),
        (json!({ "checks": [{ "http": "/a", "tcp": true }] }), "exactly one of"),
        (json!({ "checks": [{ "http": "ftp://x" }] }), "a path such as /health"),
        (json!({ "id": "b" }), "not the id in the path"),
    ] {
        let detail = wrong(change);
        assert!(detail.contains(part), "{detail}");
    }
    assert_eq!(server.put("/v1/services/-/instances/a", &instance()).json()["field"], "service name");
    assert_eq!(server.put(&format!("{A}?namespace=a.b"), &instance()).json()["field"], "namespace");
    assert_eq!(server.get("/v1/services/users/instances?healthy=perhaps").status, 400);
    assert_eq!(server.get("/v1/services/users/instances?wait=long").status, 400);
    assert_eq!(server.send("PATCH", A, &[], "").status, 405);
    // The server answers and closes before all of it was sent: a client that is still sending may find only the close.
    let large = json!({ "version": "v".repeat(1 << 20) }).to_string();
    let answer = RawClient::connect(server.address).try_request("PUT", "localhost", A, &[], large.as_bytes());
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 413));
    assert!(server.catalog.read(|registry| registry.is_empty()));
}

#[test]
fn instances_are_found_by_health_tag_label_and_version_and_an_etag_saves_the_answer() {
    let server = Server::start();
    for (id, version, tags, health) in [
        ("a", "v1", json!(["blue"]), "passing"),
        ("b", "v2", json!(["blue", "x=y"]), "passing"),
        ("c", "v2", json!([]), "critical"),
    ] {
        let mut body = instance();
        body["version"] = json!(version);
        body["tags"] = tags;
        body["health"] = json!(health);
        assert_eq!(server.put(&format!("/v1/services/users/instances/{id}"), &body).status, 201);
    }
    let found = |query: &str| {
        let answer = server.get(&format!("/v1/services/users/instances{query}")).json();
        let ids: Vec<String> =
            answer["instances"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect();
        ids.join("")
    };
    for (query, expected) in [
        ("", "abc"),
        ("?healthy=true", "ab"),
        ("?tag=blue", "ab"),
        ("?version=v2", "bc"),
        ("?label=x=y", "b"),
        ("?label=zone=a,x=y&tag=blue", "b"),
        ("?version=v3", ""),
        ("?namespace=other", ""),
    ] {
        assert_eq!(found(query), expected, "{query}");
    }
    let list = server.get("/v1/services/users/instances");
    let tag = list.header("etag").unwrap().to_owned();
    assert_eq!(list.header("meshwright-revision"), Some("3"));
    let again = server.send("GET", "/v1/services/users/instances", &[("if-none-match", &tag)], "");
    assert_eq!((again.status, again.body.len()), (304, 0));
    server.send("DELETE", A, &[], "");
    assert_eq!(server.send("GET", "/v1/services/users/instances", &[("if-none-match", &tag)], "").status, 200);
    let services = server.get("/v1/services").json();
    assert_eq!(
        services["services"][0],
        json!({ "namespace": "default", "name": "users", "instances": 2, "healthy": 1, "modified": 4 })
    );
}

#[test]
fn an_override_lasts_until_it_is_withdrawn_and_a_ttl_check_until_its_word_stays_away() {
    let server = Server::start();
    let mut body = instance();
    body["checks"] = json!([{ "id": "word", "ttl": "1s" }]);
    server.put(A, &body);
    assert_eq!(server.get(A).json()["status"], "starting", "it has not said a word yet");
    let word = json!({ "status": "passing", "check": "word", "output": "fine" });
    assert_eq!(server.put(&format!("{A}/health"), &word).json()["status"], "passing");
    let unknown = json!({ "status": "passing", "check": "other" });
    assert_eq!(server.put(&format!("{A}/health"), &unknown).status, 404);
    let out = json!({ "status": "out_of_service", "reason": "night" });
    assert_eq!(server.put(&format!("{A}/status"), &out).json()["status"], "out_of_service");
    assert_eq!(server.put(A, &body).json()["status"], "out_of_service", "registering again does not end it");
    assert_eq!(server.send("DELETE", &format!("{A}/status"), &[], "").status, 200);
    eventually("the word stays away", || server.get(A).json()["status"] == "critical");
    assert!(server.get(A).json()["checks"][0]["output"].as_str().unwrap().contains("no word for 1000 ms"));
}

#[test]
fn a_batch_does_what_it_can_and_says_of_each_what_came_of_it() {
    let server = Server::start();
    let operations = json!({ "operations": [
        { "op": "register", "service": "users", "instance": { "id": "a", "address": "10.0.0.1", "port": 1 } },
        { "op": "register", "service": "users", "instance": { "id": "b", "address": "bad address", "port": 1 } },
        { "op": "renew", "service": "users", "id": "nobody" },
        { "op": "register", "service": "users", "instance": { "id": "c", "address": "10.0.0.3", "port": 1 } },
        { "op": "deregister", "service": "users", "id": "a" },
    ] });
    let results = server.post("/v1/batch", &operations.to_string()).json();
    let statuses: Vec<i64> =
        results["results"].as_array().unwrap().iter().map(|one| one["status"].as_i64().unwrap()).collect();
    assert_eq!(statuses, [200, 400, 404, 200, 200], "{results}");
    let ids = server.get("/v1/services/users/instances").json();
    assert_eq!(ids["instances"].as_array().unwrap().len(), 1);
    assert_eq!(server.post("/v1/batch", r#"{"operations":[{"op":"explode"}]}"#).status, 400);
}

#[test]
fn an_operation_of_a_batch_may_depend_on_what_its_instance_is_now() {
    let server = Server::start();
    let step = |body: Value| {
        server.post("/v1/batch", &json!({ "operations": [body] }).to_string()).json()["results"][0].clone()
    };
    let register = |expected: u64| {
        let instance = json!({ "id": "a", "address": "10.0.0.1", "port": 1, "version": expected.to_string() });
        step(json!({ "op": "register", "service": "users", "expected": expected, "instance": instance }))
    };
    let first = register(0);
    assert_eq!(first["status"], 200, "nobody was there: {first}");
    assert_eq!(register(0)["status"], 409);
    let modified = first["instance"]["modified"].as_u64().unwrap();
    let second = register(modified);
    assert_eq!(second["status"], 200, "{second}");
    let leave =
        |expected: u64| step(json!({ "op": "deregister", "service": "users", "id": "a", "expected": expected }));
    assert_eq!(leave(modified)["status"], 409, "it has changed since");
    assert_eq!(leave(second["instance"]["modified"].as_u64().unwrap())["status"], 200);
}

#[test]
fn a_long_poll_answers_when_something_changes_and_when_its_time_is_over() {
    let server = Server::start();
    let start = Instant::now();
    let none = server.get("/v1/watch?wait=100ms").json();
    assert_eq!(none, json!({ "revision": 0, "events": [] }));
    assert!(start.elapsed() >= Duration::from_millis(100));
    let mut waiting = RawClient::connect(server.address);
    waiting.send("GET /v1/watch?revision=0&service=users&wait=20s HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let mut list = RawClient::connect(server.address);
    list.send("GET /v1/services/users/instances?revision=0&wait=20s HTTP/1.1\r\nhost: localhost\r\n\r\n");
    server.put("/v1/services/others/instances/a", &instance());
    server.put(A, &instance());
    let changes = waiting.response().json();
    assert_eq!((&changes["revision"], &changes["events"][0]["kind"]), (&json!(2), &json!("put")), "{changes}");
    assert_eq!(changes["events"].as_array().unwrap().len(), 1);
    assert_eq!(list.response().json()["instances"].as_array().unwrap().len(), 1);
    server.send("DELETE", A, &[], "");
    let removed = server.get("/v1/watch?revision=2&wait=20s").json();
    assert_eq!(
        (&removed["events"][0]["kind"], &removed["events"][0]["reason"]),
        (&json!("remove"), &json!("deregistered"))
    );
}

#[test]
fn a_cursor_that_the_log_no_longer_reaches_is_told_to_read_everything() {
    let server = Server::with(Tokens::default(), Limits { history: 2, ..Limits::default() });
    for id in 0..4 {
        server.put(&format!("/v1/services/users/instances/{id}"), &instance());
    }
    let gone = server.get("/v1/watch?revision=1");
    assert_eq!((gone.status, &gone.json()["compacted"]), (410, &json!(2)));
    assert_eq!(server.get("/v1/watch?revision=2").json()["events"].as_array().unwrap().len(), 2);
    assert_eq!(
        server.get("/v1/services/users/instances?revision=0&wait=20s").status,
        200,
        "a list is read anew anyway"
    );
}

/// Server-sent events as they come: name, id, data.
struct Stream(RawClient, String);

impl Stream {
    fn open(server: &Server, target: &str, headers: &str) -> Self {
        let mut client = RawClient::connect(server.address);
        client.send(format!("GET {target} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n{headers}\r\n"));
        let head = client.head();
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        Self(client, String::new())
    }

    fn next(&mut self) -> (String, Option<String>, Value) {
        while !self.1.contains("\n\n") {
            let byte = self.0.read_exactly(1);
            self.1.push(char::from(byte[0]));
        }
        let (event, rest) = self.1.split_once("\n\n").map(|(event, rest)| (event.to_owned(), rest.to_owned())).unwrap();
        self.1 = rest;
        let field =
            |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(|text| text.trim().to_owned());
        (
            field("event:").unwrap_or_default(),
            field("id:"),
            field("data:").map(|data| serde_json::from_str(&data).unwrap()).unwrap_or_default(),
        )
    }
}

#[test]
fn a_stream_begins_with_what_there_is_goes_on_with_changes_and_can_be_resumed() {
    let server = Server::start();
    server.put(A, &instance());
    let mut stream = Stream::open(&server, "/v1/watch?service=users", "");
    let (name, _, data) = stream.next();
    assert_eq!((name.as_str(), &data["instance"]["id"]), ("put", &json!("a")));
    let (name, id, _) = stream.next();
    assert_eq!((name.as_str(), id.as_deref()), ("ready", Some("1")));
    server.put("/v1/services/users/instances/b", &instance());
    let (name, id, data) = stream.next();
    assert_eq!((name.as_str(), id.as_deref(), &data["instance"]["id"]), ("put", Some("2"), &json!("b")));
    server.send("DELETE", A, &[], "");
    assert_eq!(stream.next().0, "remove");
    drop(stream);
    let mut resumed = Stream::open(&server, "/v1/watch?service=users", "last-event-id: 1\r\n");
    assert_eq!((resumed.next().1.as_deref(), resumed.next().1.as_deref()), (Some("2"), Some("3")));
}

#[test]
fn a_stream_can_be_resumed_within_changes_that_were_written_together() {
    let etcd = Etcd::start();
    let endpoints = vec![etcd.address().to_string().parse().unwrap()];
    let settings = EtcdSettings { endpoints, tls: None, login: None, prefix: EtcdSettings::PREFIX.to_owned() };
    let catalog = Catalog::connect(settings, Limits::default(), PATIENCE);
    let before = catalog.read(|registry| registry.revision());
    let server = Server::of(catalog, Tokens::default());
    let mut stream = Stream::open(&server, "/v1/watch?service=users", "");
    assert_eq!(stream.next().0, "ready");
    let register = |id: &str| json!({ "op": "register", "service": "users", "instance": { "id": id, "port": 80 } });
    let batch = json!({ "operations": [register("a"), register("b"), register("c")] });
    let answer = server.post("/v1/batch", &batch.to_string()).json();
    let revision = answer["results"][0]["instance"]["modified"].as_u64().unwrap();
    assert!(answer["results"].as_array().unwrap().iter().all(|result| result["instance"]["modified"] == revision));
    let ids: Vec<Option<String>> = (0..3).map(|_| stream.next().1).collect();
    // A client that is cut off before the last one goes on from before all of them.
    assert_eq!(ids, [None, None, Some(revision.to_string())]);
    let mut resumed = Stream::open(&server, "/v1/watch?service=users", &format!("last-event-id: {before}\r\n"));
    assert_eq!((0..3).map(|_| resumed.next().1).collect::<Vec<_>>(), ids);
}

#[test]
fn many_idle_watches_cost_little_and_all_hear_of_a_change() {
    let server = Server::start();
    let watches = 500;
    let mut waiting: Vec<RawClient> = (0..watches)
        .map(|_| {
            let mut client = RawClient::connect(server.address);
            client.send("GET /v1/watch?revision=0&wait=60s HTTP/1.1\r\nhost: localhost\r\n\r\n");
            client
        })
        .collect();
    server.put(A, &instance());
    for client in &mut waiting {
        assert_eq!(client.response().json()["revision"], 1);
    }
}

#[test]
fn with_tokens_any_host_will_do_and_a_page_of_another_site_still_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::with(tokens(directory.path(), "all-all-all-all-all\n"), Limits::default());
    // The password of Basic authentication, as a browser remembers it.
    let basic = ("authorization", "Basic bWU6YWxsLWFsbC1hbGwtYWxsLWFsbA==");
    let put = |origin: &[(&str, &str)]| {
        let headers = [&[basic], origin].concat();
        let mut client = RawClient::connect(server.address);
        client.request("PUT", "registry.example.com", A, &headers, instance().to_string().as_bytes()).status
    };
    assert_eq!(put(&[("origin", "http://evil.example")]), 403);
    assert_eq!(put(&[("sec-fetch-site", "cross-site")]), 403);
    assert_eq!(put(&[]), 201);
    assert_eq!(put(&[("origin", "http://registry.example.com")]), 200);
}

#[test]
fn tokens_are_read_again_when_their_file_changes_and_stay_when_it_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let tokens = tokens(directory.path(), "first-first-first-first\n");
    let server = Server::with(tokens.clone(), Limits::default());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(tokens.follow());
    });
    let write = |text: &str| {
        let (new, path) = (directory.path().join("new"), directory.path().join("tokens"));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &path).unwrap();
    };
    let status = |token: &str| server.send("GET", "/v1/services", &[("x-consul-token", token)], "").status;
    assert_eq!((status("first-first-first-first"), status("second-second-second")), (200, 401));
    write("first-first-first-first\nsecond-second-second\n");
    eventually("the second is known", || status("second-second-second") == 200);
    assert_eq!(status("first-first-first-first"), 200, "for a change without a gap both are there");
    write("short\n");
    // Nothing tells that a wrong file was seen but the log: time for two looks at it.
    meshwright_testkit::pass(Duration::from_millis(2500));
    assert_eq!((status("first-first-first-first"), status("second-second-second")), (200, 200));
    write("second-second-second\nthird-third-third-t\n");
    eventually("the third is known", || status("third-third-third-t") == 200);
    assert_eq!((status("first-first-first-first"), status("second-second-second")), (401, 200));
    std::fs::remove_file(directory.path().join("tokens")).unwrap();
    write("fourth-fourth-fourth\n");
    eventually("only the fourth is known", || status("second-second-second") == 401);
}

fn tokens(directory: &Path, text: &str) -> Tokens {
    let path = directory.join("tokens");
    std::fs::write(&path, text).unwrap();
    Tokens::read(&path).unwrap()
}

#[test]
fn with_tokens_everybody_has_to_show_one_and_may_do_what_it_allows() {
    let directory = tempfile::tempdir().unwrap();
    let text =
        "all-all-all-all-all\nusers-users-users-u service=users\nread-read-read-read namespace=default read-only\n";
    let server = Server::with(tokens(directory.path(), text), Limits::default());
    let with = |token: &str, method: &str, target: &str| {
        server.send(method, target, &[("authorization", &format!("Bearer {token}"))], &instance().to_string()).status
    };
    let none = server.get("/v1/services");
    assert_eq!((none.status, none.header("www-authenticate").is_some()), (401, true));
    assert_eq!(server.post("/register", "{}").status, 401);
    assert_eq!(with("wrong-wrong-wrong-w", "GET", "/v1/services"), 401);
    assert_eq!(with("all-all-all-all-all", "PUT", "/v1/services/orders/instances/a"), 201);
    assert_eq!(with("users-users-users-u", "PUT", A), 201);
    assert_eq!(with("users-users-users-u", "PUT", "/v1/services/orders/instances/a"), 403);
    assert_eq!(with("users-users-users-u", "GET", "/v1/services/orders/instances"), 403);
    assert_eq!(with("read-read-read-read", "GET", "/v1/services/orders/instances"), 200);
    assert_eq!(with("read-read-read-read", "DELETE", A), 403);
    let seen = server.send("GET", "/v1/services?token=users-users-users-u", &[], "").json();
    assert_eq!(seen["services"].as_array().unwrap().len(), 1, "{seen}");
    let changes = server.send("GET", "/v1/watch?revision=0&token=users-users-users-u", &[], "").json();
    assert_eq!(changes["events"].as_array().unwrap().len(), 1, "{changes}");
    assert_eq!((&changes["events"][0]["instance"]["service"], &changes["revision"]), (&json!("users"), &json!(2)));
}

#[test]
fn browsers_that_were_lured_to_a_foreign_page_are_refused() {
    let server = Server::start();
    let foreign = RawClient::connect(server.address).get("evil.example", "/v1/services");
    assert_eq!(foreign.status, 403);
    for headers in [("origin", "http://evil.example"), ("sec-fetch-site", "cross-site")] {
        assert_eq!(server.send("PUT", A, &[headers], &instance().to_string()).status, 403);
        assert_eq!(server.send("POST", "/register", &[headers], "{}").status, 403);
    }
    assert!(server.catalog.read(|registry| registry.is_empty()));
}

#[test]
fn a_full_registry_says_so_and_keeps_what_it_has() {
    let server = Server::with(Tokens::default(), Limits { instances: 2, ..Limits::default() });
    for (id, status) in [("1", 201), ("2", 201), ("3", 507), ("2", 200)] {
        let answer = server.put(&format!("/v1/services/users/instances/{id}"), &instance());
        assert_eq!(answer.status, status, "{}", answer.text());
    }
}
