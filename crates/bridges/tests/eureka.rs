//! Eureka's protocol as its clients speak it, with the shapes that trip servers up.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod support;

use meshwright_bridges::{Tokens, eureka};
use serde_json::{Value, json};
use support::Server;

fn server() -> Server {
    Server::start(|catalog| eureka::router(catalog, Tokens::default()))
}

const JSON: &[(&str, &str)] = &[("accept", "application/json"), ("content-type", "application/json")];

fn info(id: &str, status: &str) -> Value {
    json!({ "instance": {
        "instanceId": id, "hostName": "h1", "app": "Users", "ipAddr": "10.0.0.1", "status": status,
        "port": { "$": 8080, "@enabled": "true" }, "securePort": { "$": "443", "@enabled": false }, "vipAddress": "users",
        "dataCenterInfo": { "@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", "name": "MyOwn" },
        "leaseInfo": { "renewalIntervalInSecs": 10, "durationInSecs": "30" },
        "metadata": { "zone": "a", "my_key": 7, "@class": "x" }, "homePageUrl": "http://h1/", "lastDirtyTimestamp": "100",
    } })
}

fn register(server: &Server, id: &str, status: &str) -> u16 {
    server.send("POST", "/eureka/apps/users", JSON, &info(id, status).to_string()).status
}

fn get(server: &Server, path: &str) -> Value {
    server.send("GET", path, JSON, "").json()
}

#[test]
fn an_instance_is_given_back_as_it_registered() {
    let server = server();
    assert_eq!(register(&server, "h1:users:8080", "UP"), 204);
    for path in [
        "/eureka/apps/USERS/h1:users:8080",
        "/eureka/v2/apps/users/h1%3Ausers%3A8080/",
        "/eureka/instances/h1:users:8080",
    ] {
        let instance = &get(&server, path)["instance"];
        for (pointer, expected) in [
            ("/app", json!("USERS")),
            ("/hostName", json!("h1")),
            ("/status", json!("UP")),
            ("/overriddenstatus", json!("UNKNOWN")),
            ("/port", json!({ "$": 8080, "@enabled": "true" })),
            ("/securePort", json!({ "$": 443, "@enabled": "false" })),
            ("/leaseInfo/renewalIntervalInSecs", json!(10)),
            ("/leaseInfo/durationInSecs", json!(30)),
            ("/metadata", json!({ "zone": "a", "my_key": "7" })),
            ("/homePageUrl", json!("http://h1/")),
            ("/vipAddress", json!("users")),
            ("/lastDirtyTimestamp", json!("100")),
        ] {
            assert_eq!(instance.pointer(pointer), Some(&expected), "{pointer} at {path}: {instance}");
        }
    }
    let found = get(&server, "/eureka/vips/users");
    assert_eq!(found["applications"]["application"][0]["instance"].as_array().unwrap().len(), 1);
    for unknown in [
        "/eureka/apps/other",
        "/eureka/apps/users/x",
        "/eureka/instances/x",
        "/eureka/vips/x",
        "/eureka/svips/users",
        "/eureka/x",
    ] {
        assert_eq!(server.send("GET", unknown, JSON, "").status, 404, "{unknown}");
    }
}

#[test]
fn without_json_in_accept_the_answer_is_xml_and_xml_registers_too() {
    let server = server();
    let xml = "<instance><hostName>h2</hostName><app>USERS</app><ipAddr>10.0.0.2</ipAddr><status>UP</status>\
        <port enabled=\"true\">81</port><dataCenterInfo class=\"x\"><name>MyOwn</name></dataCenterInfo>\
        <metadata><a__b>c &amp; d</a__b></metadata></instance>";
    assert_eq!(server.send("POST", "/eureka/apps/USERS", &[("content-type", "application/xml")], xml).status, 204);
    let answer = server.send("GET", "/eureka/apps/", &[("accept", "*/*")], "");
    assert_eq!(answer.header("content-type"), Some("application/xml"));
    let text = answer.text();
    for part in [
        "<apps__hashcode>UP_1_</apps__hashcode>",
        "<instanceId>h2</instanceId>",
        "<port enabled=\"true\">81</port>",
        "<a__b>c &amp; d</a__b>",
        "<dataCenterInfo class=\"com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo\"><name>MyOwn</name>",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn an_unknown_heartbeat_and_one_that_knows_more_than_we_do_are_told_to_register() {
    let server = server();
    let beat = |query: &str| server.send("PUT", &format!("/eureka/apps/USERS/a{query}"), JSON, "").status;
    assert_eq!(beat(""), 404);
    register(&server, "a", "UP");
    assert_eq!((beat(""), beat("?status=UP&lastDirtyTimestamp=100"), beat("?lastDirtyTimestamp=101")), (200, 200, 404));
    assert_eq!(server.send("DELETE", "/eureka/apps/USERS/a", JSON, "").status, 200);
    assert_eq!(server.send("DELETE", "/eureka/apps/USERS/a", JSON, "").status, 404);
}

#[test]
fn an_override_beats_what_the_instance_says_unless_that_is_worse() {
    let server = server();
    register(&server, "a", "UP");
    let status = || get(&server, "/eureka/apps/USERS/a")["instance"]["status"].as_str().unwrap().to_owned();
    let put = |value: &str| server.send("PUT", &format!("/eureka/apps/USERS/a/status?value={value}"), JSON, "").status;
    assert_eq!((put("OUT_OF_SERVICE"), status().as_str()), (200, "OUT_OF_SERVICE"));
    register(&server, "a", "UP");
    assert_eq!(status(), "OUT_OF_SERVICE", "it lasts over a registration");
    register(&server, "a", "DOWN");
    assert_eq!(status(), "DOWN");
    assert_eq!(put("BROKEN"), 400);
    assert_eq!(server.send("DELETE", "/eureka/apps/USERS/a/status?value=UP", JSON, "").status, 200);
    assert_eq!(status(), "UP");
    register(&server, "a", "OUT_OF_SERVICE");
    assert_eq!(status(), "OUT_OF_SERVICE", "an instance may say so itself");
    assert_eq!(server.send("PUT", "/eureka/apps/USERS/a/metadata?version=v2&k=a%20b", JSON, "").status, 200);
    assert_eq!(get(&server, "/eureka/apps/USERS/a")["instance"]["metadata"]["k"], "a b");
}

#[test]
fn a_client_that_applies_deltas_has_the_same_hash_as_everything() {
    let server = server();
    for id in ["a", "b", "c"] {
        register(&server, id, "UP");
    }
    register(&server, "b", "DOWN");
    server.send("DELETE", "/eureka/apps/USERS/c", JSON, "");
    let delta = get(&server, "/eureka/apps/delta");
    assert_eq!(delta["applications"]["apps__hashcode"], "DOWN_1_UP_1_");
    assert_eq!(get(&server, "/eureka/apps")["applications"]["apps__hashcode"], "DOWN_1_UP_1_");
    let mut actions: Vec<String> = delta["applications"]["application"][0]["instance"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| format!("{} {}", one["instanceId"].as_str().unwrap(), one["actionType"].as_str().unwrap()))
        .collect();
    actions.sort();
    assert_eq!(actions, ["a ADDED", "b ADDED", "c DELETED"]);
}

#[test]
fn what_is_missing_is_said_in_the_words_of_the_protocol() {
    let server = server();
    for (field, sentence) in [
        ("hostName", "Missing hostname"),
        ("ipAddr", "Missing ip address"),
        ("app", "Missing appName"),
        ("dataCenterInfo", "Missing dataCenterInfo"),
    ] {
        let mut body = info("a", "UP");
        body["instance"].as_object_mut().unwrap().remove(field);
        let answer = server.send("POST", "/eureka/apps/users", JSON, &body.to_string());
        assert_eq!((answer.status, answer.text().trim()), (400, sentence));
    }
    let answer = server.send("POST", "/eureka/apps/other", JSON, &info("a", "UP").to_string());
    assert!(answer.status == 400 && answer.text().contains("Mismatched appName"));
    for bad in ["", "{", "[]", "\"x\""] {
        assert_eq!(server.send("POST", "/eureka/apps/users", JSON, bad).status, 400, "{bad}");
    }
    for bad in ["", "<a>", "<!DOCTYPE a><a/>"] {
        let xml: &[(&str, &str)] = &[("content-type", "application/xml")];
        assert_eq!(server.send("POST", "/eureka/apps/users", xml, bad).status, 400, "{bad}");
    }
    assert!(server.catalog.read(|registry| registry.is_empty()));
}

#[test]
fn a_batch_of_another_server_is_carried_out_one_by_one() {
    let server = server();
    let item = |action: &str| {
        json!({ "appName": "USERS", "id": "a", "action": action, "status": "OUT_OF_SERVICE",
        "instanceInfo": info("a", "UP")["instance"] })
    };
    let actions = ["Heartbeat", "Register", "Heartbeat", "StatusUpdate", "Cancel", "Cancel", "Dance"];
    let list: Vec<Value> = actions.iter().map(|action| item(action)).collect();
    let body = json!({ "replicationList": list }).to_string();
    let answer = server.send("POST", "/eureka/peerreplication/batch/", JSON, &body).json();
    let codes: Vec<i64> =
        answer["responseList"].as_array().unwrap().iter().map(|one| one["statusCode"].as_i64().unwrap()).collect();
    assert_eq!(codes, [404, 200, 200, 200, 200, 404, 400]);
}
