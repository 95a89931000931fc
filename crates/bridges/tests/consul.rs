//! Consul's API for services: refusals, checks, blocking queries, what is not served.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod support;

use std::time::{Duration, Instant};

use meshwright_bridges::{Tokens, consul};
use meshwright_testkit::{RawClient, Response, eventually};
use serde_json::{Value, json};
use support::Server;

fn server() -> Server {
    Server::start(|catalog| consul::router(support::keys(catalog), Tokens::default()))
}

fn put(server: &Server, path: &str, body: &Value) -> Response {
    server.send("PUT", path, &[], &if body.is_null() { String::new() } else { body.to_string() })
}

fn get(server: &Server, path: &str) -> Value {
    server.send("GET", path, &[], "").json()
}

fn register(server: &Server, id: &str, name: &str) {
    let body = json!({ "ID": id, "Name": name, "Port": 80, "Tags": ["x"], "Meta": { "version": "v1" }, "Check": { "TTL": "10s" } });
    let answer = put(server, "/v1/agent/service/register", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn a_service_is_critical_until_its_check_says_otherwise_and_its_id_belongs_to_one_name() {
    let server = server();
    register(&server, "web1", "web");
    let entry = &get(&server, "/v1/health/service/web")[0];
    assert_eq!(entry["Service"]["Address"], "127.0.0.1", "where it came from");
    assert_eq!(
        (&entry["Checks"][0]["CheckID"], &entry["Checks"][1]["Status"]),
        (&json!("serfHealth"), &json!("critical"))
    );
    assert_eq!(put(&server, "/v1/agent/check/warn/service:web1?note=hm", &Value::Null).status, 200);
    assert_eq!(get(&server, "/v1/health/service/web?passing"), json!([]), "a warning is not passing");
    assert_eq!(get(&server, "/v1/health/checks/web")[0]["Output"], "hm");
    let update = json!({ "Status": "passing", "Output": "fine" });
    assert_eq!(put(&server, "/v1/agent/check/update/service:web1", &update).status, 200);
    assert_eq!(get(&server, "/v1/health/service/web?passing&tag=x")[0]["Service"]["ID"], "web1");
    assert_eq!(get(&server, "/v1/health/service/web?tag=y"), json!([]));
    assert_eq!(get(&server, "/v1/health/state/passing").as_array().unwrap().len(), 2);
    assert_eq!(get(&server, "/v1/agent/health/service/id/web1")["AggregatedStatus"], "passing");
    let small = json!({ "id": "web2", "name": "web", "address": "10.0.0.9", "port": 81, "meta": { "Some_Key": "v" }, "check": { "ttl": "5s" } });
    assert_eq!(put(&server, "/v1/agent/service/register", &small).status, 200);
    let web2 = get(&server, "/v1/agent/service/web2");
    assert_eq!(
        (&web2["Address"], &web2["Meta"]["Some_Key"]),
        (&json!("10.0.0.9"), &json!("v")),
        "names do not differ by case"
    );
    assert_eq!(put(&server, "/v1/agent/service/deregister/web2", &Value::Null).status, 200);
    register(&server, "web1", "shop");
    assert_eq!(get(&server, "/v1/catalog/service/web"), json!([]));
    assert_eq!(get(&server, "/v1/catalog/service/shop")[0]["ServiceMeta"]["version"], "v1");
    assert_eq!(put(&server, "/v1/agent/service/deregister/web1", &Value::Null).status, 200);
    assert_eq!(get(&server, "/v1/catalog/services"), json!({ "consul": [] }));
}

#[test]
fn checks_come_and_go_by_themselves_and_a_critical_one_can_take_its_service_away() {
    let server = server();
    let body = json!({ "Name": "db", "Port": 1, "Checks": [
        { "TTL": "10s", "Status": "passing" },
        { "TCP": "127.0.0.1:1", "Interval": "100ms", "DeregisterCriticalServiceAfter": 200_000_000 },
    ] });
    put(&server, "/v1/agent/service/register", &body);
    let ids: Vec<String> = get(&server, "/v1/agent/checks").as_object().unwrap().keys().cloned().collect();
    assert_eq!(ids, ["service:db:1", "service:db:2"]);
    eventually("it is taken away", || get(&server, "/v1/catalog/service/db") == json!([]));
    register(&server, "web1", "web");
    let extra = json!({ "ServiceID": "web1", "CheckID": "more", "Name": "More", "TTL": "5s" });
    assert_eq!(put(&server, "/v1/agent/check/register", &extra).status, 200);
    assert_eq!(put(&server, "/v1/agent/check/pass/more", &Value::Null).status, 200);
    assert_eq!(put(&server, "/v1/agent/check/deregister/more", &Value::Null).status, 200);
    assert_eq!(put(&server, "/v1/agent/check/pass/more", &Value::Null).status, 404);
}

#[test]
fn a_blocking_query_waits_for_its_service_and_for_no_other() {
    let server = server();
    register(&server, "web1", "web");
    let first = server.send("GET", "/v1/health/service/web", &[], "");
    let index = first.header("x-consul-index").unwrap().to_owned();
    let start = Instant::now();
    let same = server.send("GET", &format!("/v1/health/service/web?index={index}&wait=200ms"), &[], "");
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert_eq!(same.header("x-consul-index"), Some(index.as_str()));
    let mut waiting = RawClient::connect(server.address);
    waiting.send(format!("GET /v1/health/service/web?passing=1&index={index} HTTP/1.1\r\nhost: localhost\r\n\r\n"));
    register(&server, "other", "other");
    put(&server, "/v1/agent/check/pass/service:web1", &Value::Null);
    let changed = waiting.response();
    assert_eq!(changed.json().as_array().unwrap().len(), 1);
    assert!(changed.header("x-consul-index").unwrap().parse::<u64>().unwrap() > index.parse::<u64>().unwrap());
    let ahead = server.send("GET", "/v1/catalog/services?index=99999&wait=60s", &[], "");
    assert_eq!(ahead.status, 200, "an index from before we lost everything is answered at once");
    assert_ne!(server.send("GET", "/v1/health/service/nobody", &[], "").header("x-consul-index"), Some("0"));
}

#[test]
fn maintenance_shows_as_a_critical_check_and_ends() {
    let server = server();
    register(&server, "web1", "web");
    put(&server, "/v1/agent/check/pass/service:web1", &Value::Null);
    assert_eq!(
        put(&server, "/v1/agent/service/maintenance/web1?enable=true&reason=night%20shift", &Value::Null).status,
        200
    );
    let checks = get(&server, "/v1/health/checks/web");
    let shown =
        checks.as_array().unwrap().iter().find(|check| check["CheckID"] == "_service_maintenance:web1").unwrap();
    assert_eq!((&shown["Status"], &shown["Output"]), (&json!("critical"), &json!("night shift")));
    assert_eq!(server.send("GET", "/v1/agent/health/service/name/web", &[], "").status, 503);
    assert_eq!(put(&server, "/v1/agent/service/maintenance/web1?enable=false", &Value::Null).status, 200);
    assert_eq!(get(&server, "/v1/health/service/web?passing").as_array().unwrap().len(), 1);
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let server = server();
    let refused = |body: Value| {
        let answer = put(&server, "/v1/agent/service/register", &body);
        assert_eq!(answer.status, 400, "{body}");
        answer.text()
    };
    for (body, part) in [
        (json!({}), "Missing service name"),
        (json!({ "Name": "a b" }), "service name"),
        (json!({ "Name": "a", "Port": "80" }), "Request decode failed"),
        (json!({ "Name": "a", "Connect": { "SidecarService": {} } }), "Connect is not served"),
        (json!({ "Name": "a", "Check": { "Args": ["true"], "Interval": "1s" } }), "scripts are not served"),
        (json!({ "Name": "a", "Check": { "HTTP": "https://a/", "Interval": "1s" } }), "an http URL"),
        (json!({ "Name": "a", "Check": { "HTTP": "http://a/" } }), "Interval must be"),
        (json!({ "Name": "a", "Check": { "TTL": "soon" } }), "Invalid TTL"),
        (json!({ "Name": "a", "Check": {} }), "exactly one of"),
    ] {
        let sentence = refused(body);
        assert!(sentence.contains(part), "{sentence}");
    }
    for (method, path, status) in [
        ("PUT", "/v1/agent/service/deregister/nobody", 404),
        ("PUT", "/v1/agent/check/pass/nobody", 404),
        ("PUT", "/v1/agent/service/maintenance/nobody", 400),
        ("GET", "/v1/agent/service/nobody", 404),
        ("PUT", "/v1/event/fire/a", 501),
        ("GET", "/v1/health/service/a?filter=x", 400),
        ("GET", "/v1/health/state/odd", 400),
        ("GET", "/v1/nothing", 404),
        ("DELETE", "/v1/catalog/services", 404),
    ] {
        assert_eq!(server.send(method, path, &[], "").status, status, "{method} {path}");
    }
}

fn catalog(server: &Server, path: &str, body: Value) -> (u16, String) {
    let answer = put(server, &format!("/v1/catalog/{path}"), &body);
    (answer.status, answer.text())
}

fn redis(node: &str) -> Value {
    json!({ "Datacenter": "dc1", "Node": node, "Address": "10.1.0.1", "NodeMeta": { "rack": "r1" },
        "Service": { "ID": "redis1", "Service": "redis", "Tags": ["v1"], "Meta": { "Some_Key": "v" }, "Port": 6379, "Weights": { "Passing": 3 } },
        "Check": { "Node": node, "CheckID": "service:redis1", "Name": "Redis", "Status": "passing", "ServiceID": "redis1" } })
}

#[test]
fn services_of_nodes_without_an_agent_are_registered_shown_on_their_nodes_and_taken_away() {
    let server = server();
    let done = (200, "true".to_owned());
    assert_eq!(catalog(&server, "register", redis("one")), done);
    assert_eq!(catalog(&server, "register", redis("two")), done, "two nodes may have one id");
    let entry = &get(&server, "/v1/health/service/redis?passing")[0];
    assert_eq!((&entry["Node"]["Node"], &entry["Node"]["Address"]), (&json!("one"), &json!("10.1.0.1")));
    let service = &entry["Service"];
    assert_eq!((&service["ID"], &service["Address"]), (&json!("redis1"), &json!("10.1.0.1")), "that of its node");
    assert_eq!((&service["Meta"]["Some_Key"], &service["Weights"]["Passing"]), (&json!("v"), &json!(3)));
    assert_eq!(entry["Checks"].as_array().unwrap().len(), 1, "nobody knows whether such a node is alive");
    let flat = get(&server, "/v1/catalog/service/redis");
    assert_eq!((&flat[1]["Node"], &flat[1]["NodeMeta"]["rack"]), (&json!("two"), &json!("r1")));
    let nodes = get(&server, "/v1/catalog/nodes");
    let names: Vec<&str> = nodes.as_array().unwrap().iter().map(|node| node["Node"].as_str().unwrap()).collect();
    assert_eq!(names, ["meshwright", "one", "two"]);
    assert_eq!(get(&server, "/v1/catalog/node/one")["Services"]["redis1"]["Port"], 6379);
    assert_eq!(get(&server, "/v1/agent/services"), json!({}), "they are no agent's");
    assert_eq!(put(&server, "/v1/agent/service/deregister/redis1", &Value::Null).status, 404);

    let ill = json!({ "Node": "one", "Address": "10.1.0.1", "SkipNodeUpdate": true,
        "Check": { "CheckID": "service:redis1", "Status": "critical", "Output": "gone", "ServiceID": "redis1" } });
    assert_eq!(catalog(&server, "register", ill), done);
    assert_eq!(get(&server, "/v1/health/node/one")[0]["Output"], "gone");
    assert_eq!(get(&server, "/v1/health/service/redis?passing")[0]["Node"]["Node"], "two");
    let mut without = redis("one");
    without.as_object_mut().unwrap().remove("Check");
    assert_eq!(catalog(&server, "register", without), done);
    assert_eq!(get(&server, "/v1/health/node/one")[0]["Status"], "critical", "checks stay until they are taken away");
    assert_eq!(catalog(&server, "deregister", json!({ "Node": "one", "CheckID": "service:redis1" })), done);
    assert_eq!(get(&server, "/v1/health/service/redis?passing").as_array().unwrap().len(), 2);

    let mut renamed = redis("one");
    renamed["Service"]["Service"] = json!("cache");
    assert_eq!(catalog(&server, "register", renamed), done);
    assert_eq!(get(&server, "/v1/catalog/service/redis").as_array().unwrap().len(), 1, "an id is one service");
    assert_eq!(catalog(&server, "deregister", json!({ "Node": "two", "ServiceID": "redis1" })), done);
    assert_eq!(get(&server, "/v1/catalog/service/redis"), json!([]));
    assert_eq!(catalog(&server, "deregister", json!({ "Node": "one" })), done);
    assert_eq!(get(&server, "/v1/catalog/nodes").as_array().unwrap().len(), 1);
    assert_eq!(catalog(&server, "deregister", json!({ "Node": "nobody", "ServiceID": "x" })), done, "as with Consul");
}

#[test]
fn what_the_catalog_cannot_keep_is_refused_by_name_and_nothing_of_it_is_kept() {
    let server = server();
    for (status, change, part) in [
        (400, json!({ "Node": null }), "Must provide node"),
        (400, json!({ "Node": "a@b" }), "without @"),
        (400, json!({ "Address": "" }), "Must provide address"),
        (400, json!({ "Address": "169.254.169.254" }), "link-local"),
        (400, json!({ "Datacenter": "dc2" }), "No path to datacenter"),
        (400, json!({ "Service": null, "Check": null }), "Service is missing"),
        (400, json!({ "Service": null }), "there is no service"),
        (400, json!({ "Service": { "Service": "a", "Kind": "connect-proxy" } }), "Kind is not served"),
        (400, json!({ "Check": { "CheckID": "a", "Status": "passing" } }), "checks of nodes are not served"),
        (400, json!({ "Check": { "CheckID": "a", "ServiceID": "other" } }), "a check of it names"),
        (400, json!({ "Check": { "CheckID": "a", "ServiceID": "redis1", "Status": "odd" } }), "Invalid check status"),
        (
            400,
            json!({ "Check": { "CheckID": "a", "ServiceID": "redis1", "Definition": { "TCP": "a:1" } } }),
            "Definition",
        ),
        (400, json!({ "TaggedAddresses": { "wan": "1.2.3.4" } }), "TaggedAddresses"),
    ] {
        let mut body = redis("one");
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let (answered, sentence) = catalog(&server, "register", body);
        assert!(answered == status && sentence.contains(part), "{change}: {answered} {sentence}");
    }
    assert_eq!(catalog(&server, "deregister", json!({ "Node": "meshwright" })).0, 400);
    assert_eq!(catalog(&server, "deregister", json!([])).0, 400);
    assert_eq!(get(&server, "/v1/catalog/services"), json!({ "consul": [] }));
}
