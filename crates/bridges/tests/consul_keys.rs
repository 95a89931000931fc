//! Consul's API for keys and sessions: shapes, conditions, locks, blocking queries, tokens, limits.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod support;

use meshwright_bridges::{Tokens, consul};
use meshwright_testkit::{RawClient, Response, eventually};
use serde_json::{Value, json};
use support::Server;

fn server() -> Server {
    Server::start(|catalog| consul::router(support::keys(catalog), Tokens::default()))
}

fn get(server: &Server, path: &str) -> Response {
    server.send("GET", path, &[], "")
}

fn put(server: &Server, path: &str, body: &str) -> String {
    let answer = server.send("PUT", path, &[], body);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.text()
}

fn session(server: &Server, body: Value) -> String {
    let answer: Value = serde_json::from_str(&put(server, "/v1/session/create", &body.to_string())).unwrap();
    answer["ID"].as_str().unwrap().to_owned()
}

#[test]
fn keys_are_put_listed_and_deleted_in_consuls_shapes() {
    let server = server();
    let none = get(&server, "/v1/kv/app/a");
    assert_eq!((none.status, none.text()), (404, String::new()));
    assert!(none.header("x-consul-index").is_some(), "what is not there can be waited for");
    for (key, value) in [("app/a", "1"), ("app/b/c", "two"), ("app/b/d", ""), ("app//e%20f", "5"), ("other", "x")] {
        assert_eq!(put(&server, &format!("/v1/kv/{key}?flags=42"), value), "true");
    }
    let a = get(&server, "/v1/kv/app/a").json();
    let (created, modified) = (a[0]["CreateIndex"].clone(), a[0]["ModifyIndex"].clone());
    assert_eq!(
        a,
        json!([{ "LockIndex": 0, "Key": "app/a", "Flags": 42, "Value": "MQ==", "CreateIndex": created, "ModifyIndex": modified }])
    );
    let raw = get(&server, "/v1/kv/app/b/c?raw");
    assert_eq!((raw.text(), raw.header("content-security-policy")), ("two".to_owned(), Some("sandbox")));
    assert_eq!(get(&server, "/v1/kv/app/b/d").json()[0]["Value"], Value::Null);
    assert_eq!(get(&server, "/v1/kv/app?keys").json(), json!(["app//e f", "app/a", "app/b/c", "app/b/d"]));
    assert_eq!(get(&server, "/v1/kv/app/?keys&separator=/").json(), json!(["app//", "app/a", "app/b/"]));
    assert_eq!(get(&server, "/v1/kv/app/b/?recurse").json().as_array().unwrap().len(), 2);
    assert_eq!(get(&server, "/v1/kv/?recurse").json().as_array().unwrap().len(), 5);
    assert_eq!(get(&server, "/v1/kv/none?recurse").status, 404);
    let delete = |path: &str| server.send("DELETE", path, &[], "").text();
    assert_eq!(delete("/v1/kv/app/a?cas=1"), "false");
    assert_eq!(delete(&format!("/v1/kv/app/a?cas={modified}")), "true");
    assert_eq!(delete("/v1/kv/app/b?recurse"), "true");
    assert_eq!(delete("/v1/kv/nothing"), "true");
    assert_eq!(get(&server, "/v1/kv/?keys").json(), json!(["app//e f", "other"]));
    assert_eq!(delete("/v1/kv/?recurse"), "true");
    assert_eq!(get(&server, "/v1/kv/?keys").json(), json!([]));
}

fn transact(server: &Server, operations: Value) -> Response {
    server.send("PUT", "/v1/txn", &[], &operations.to_string())
}

#[test]
fn a_transaction_does_all_of_its_operations_or_none_and_answers_in_consuls_shapes() {
    let server = server();
    let id = session(&server, json!({ "Name": "s" }));
    assert_eq!(put(&server, "/v1/kv/t/old", "x"), "true");
    let old = get(&server, "/v1/kv/t/old").json()[0]["ModifyIndex"].clone();
    let kv = |verb: &str, key: &str, more: Value| {
        let mut fields = json!({ "Verb": verb, "Key": key });
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "KV": fields })
    };
    let answer = transact(
        &server,
        json!([
            kv("set", "t/a", json!({ "Value": "dHdv", "Flags": 7 })),
            kv("lock", "t/lock", json!({ "Value": "", "Session": id })),
            kv("check-index", "t/old", json!({ "Index": old })),
            kv("check-session", "t/old", json!({})),
            kv("check-session", "t/lock", json!({ "Session": id })),
            kv("check-not-exists", "t/none", json!({})),
            kv("get-or-empty", "t/none", json!({})),
            kv("delete-cas", "t/old", json!({ "Index": old })),
            kv("get-tree", "t/", json!({})),
        ]),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    assert_eq!(answer["Errors"], Value::Null);
    let results: Vec<&Value> = answer["Results"].as_array().unwrap().iter().map(|result| &result["KV"]).collect();
    let names: Vec<&str> = results.iter().map(|result| result["Key"].as_str().unwrap()).collect();
    assert_eq!(names, ["t/a", "t/lock", "t/old", "t/old", "t/lock", "t/none", "t/a", "t/lock"]);
    let index = results[0]["ModifyIndex"].clone();
    let value = |value| json!({ "LockIndex": 0, "Key": "t/a", "Flags": 7, "Value": value, "CreateIndex": index, "ModifyIndex": index });
    assert_eq!((results[0], results[6]), (&value(Value::Null), &value(json!("dHdv"))));
    assert_eq!(get(&server, "/v1/kv/t/?recurse").json(), json!([results[6], results[7]]), "all have one index");

    // What does not hold is named, each by its number, and nothing is done.
    let answer = transact(
        &server,
        json!([
            kv("set", "t/b", json!({ "Value": "eA==" })),
            kv("cas", "t/a", json!({})),
            kv("get", "t/none", json!({})),
            kv("unlock", "t/a", json!({ "Session": id })),
            kv("delete-tree", "t/", json!({})),
        ]),
    );
    assert_eq!(answer.status, 409);
    let answer = answer.json();
    assert_eq!(answer["Results"], Value::Null);
    let numbers: Vec<&Value> = answer["Errors"].as_array().unwrap().iter().map(|error| &error["OpIndex"]).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(answer["Errors"][0]["What"], "failed to set key \"t/a\", index is stale");
    assert_eq!(get(&server, "/v1/kv/t/?keys").json(), json!(["t/a", "t/lock"]));
    assert_eq!(transact(&server, json!([kv("delete-tree", "", json!({}))])).json()["Results"], json!([]));
    assert_eq!(get(&server, "/v1/kv/?keys").json(), json!([]));
}

#[test]
fn what_is_no_transaction_is_refused_before_anything_is_done() {
    let server = server();
    let set = |key: &str| json!({ "KV": { "Verb": "set", "Key": key, "Value": "eA==" } });
    for (wrong, status, part) in [
        (json!({ "Verb": "set" }), 400, "\"KV\""),
        (json!({}), 400, "one member"),
        (json!({ "KV": [] }), 400, "must be an object"),
        (json!({ "Service": { "Verb": "set" } }), 400, "\"Service\" is not served"),
        (json!({ "KV": { "Verb": "steal", "Key": "a" } }), 400, "unknown KV verb \"steal\""),
        (json!({ "KV": { "Verb": "set", "Key": "a", "Value": "%" } }), 400, "no base64"),
        (json!({ "KV": { "Verb": "lock", "Key": "a" } }), 400, "needs a Session"),
        (json!({ "KV": { "Verb": "get" } }), 400, "Missing key"),
        (json!({ "KV": { "Verb": "set", "Key": "a", "Flags": -1 } }), 400, "operation 1"),
        (json!({ "KV": { "Verb": "set", "Key": "x".repeat(1025) } }), 409, "1 to 1,024 bytes"),
        (json!({ "KV": { "Verb": "lock", "Key": "a", "Session": "nobody" } }), 409, "invalid session"),
    ] {
        let answer = transact(&server, json!([set("kept"), wrong]));
        assert_eq!(answer.status, status, "{wrong}: {}", answer.text());
        assert!(answer.text().contains(part), "{wrong}: {}", answer.text());
    }
    let many: Vec<Value> = (0..65).map(|number| set(&format!("k{number}"))).collect();
    assert_eq!(transact(&server, json!(many)).status, 413);
    assert_eq!(transact(&server, json!([set(&"x".repeat(600 << 10))])).status, 413);
    assert_eq!(server.send("PUT", "/v1/txn", &[], "{").status, 400);
    assert_eq!(get(&server, "/v1/txn").status, 404);
    assert_eq!(transact(&server, json!([])).status, 200);
    assert_eq!(get(&server, "/v1/kv/?keys").json(), json!([]));
}

#[test]
fn a_write_with_a_condition_happens_on_the_revision_that_it_names_or_not_at_all() {
    let server = server();
    assert_eq!(put(&server, "/v1/kv/a?cas=0", "1"), "true");
    assert_eq!(put(&server, "/v1/kv/a?cas=0", "2"), "false");
    let index = get(&server, "/v1/kv/a").json()[0]["ModifyIndex"].clone();
    assert_eq!(put(&server, &format!("/v1/kv/a?cas={index}"), "3"), "true");
    assert_eq!(put(&server, &format!("/v1/kv/a?cas={index}"), "4"), "false");
    assert_eq!(get(&server, "/v1/kv/a?raw").text(), "3");
}

#[test]
fn of_many_that_want_a_lock_one_gets_it_and_after_its_session_the_delay_is_kept() {
    let server = server();
    let sessions: Vec<String> = (0..8).map(|_| session(&server, json!({ "LockDelay": "60s" }))).collect();
    let won: Vec<bool> = std::thread::scope(|scope| {
        let tries = sessions.iter().map(|id| {
            let server = &server;
            scope.spawn(move || put(server, &format!("/v1/kv/lock?acquire={id}"), id) == "true")
        });
        let tries: Vec<_> = tries.collect();
        tries.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(won.iter().filter(|won| **won).count(), 1, "{won:?}");
    let winner = &sessions[won.iter().position(|won| *won).unwrap()];
    let loser = &sessions[won.iter().position(|won| !won).unwrap()];
    let pair = get(&server, "/v1/kv/lock").json();
    assert_eq!((&pair[0]["Session"], &pair[0]["LockIndex"]), (&json!(winner), &json!(1)));
    assert_eq!(put(&server, "/v1/kv/lock", "plain"), "true", "locks are advisory");
    assert_eq!(put(&server, &format!("/v1/kv/lock?release={loser}"), ""), "false");
    assert_eq!(put(&server, &format!("/v1/kv/lock?release={winner}"), "given"), "true");
    assert_eq!(put(&server, &format!("/v1/kv/lock?acquire={loser}"), "mine"), "true", "given back, it is free");
    assert_eq!(put(&server, &format!("/v1/session/destroy/{loser}"), ""), "true");
    assert_eq!(get(&server, "/v1/kv/lock").json()[0].get("Session"), None);
    assert_eq!(put(&server, &format!("/v1/kv/lock?acquire={winner}"), ""), "false", "the lock delay");
    let gone = server.send("PUT", &format!("/v1/kv/lock?acquire={loser}"), &[], "");
    assert!(gone.status == 400 && gone.text().contains("invalid session"), "{}", gone.text());
}

#[test]
fn sessions_are_shown_renewed_and_take_what_they_locked_with_them() {
    let server = server();
    let small = json!({ "name": "job", "ttl": "30s", "lockdelay": "0s", "behavior": "delete" });
    let id = session(&server, small);
    let shown = get(&server, &format!("/v1/session/info/{id}"));
    let index = shown.header("x-consul-index").unwrap().to_owned();
    let shown = shown.json();
    assert_eq!(
        shown,
        json!([{ "ID": id, "Name": "job", "Node": "meshwright", "LockDelay": 0, "Behavior": "delete", "TTL": "30s",
            "NodeChecks": ["serfHealth"], "ServiceChecks": null,
            "CreateIndex": shown[0]["CreateIndex"], "ModifyIndex": shown[0]["ModifyIndex"] }])
    );
    assert_eq!(session(&server, json!({ "LockDelay": 5 })).len(), 36);
    assert_eq!(session(&server, Value::Object(serde_json::Map::new())).len(), 36);
    let list = get(&server, "/v1/session/list").json();
    assert_eq!(list.as_array().unwrap().len(), 3);
    let delays: Vec<u64> = list.as_array().unwrap().iter().map(|one| one["LockDelay"].as_u64().unwrap()).collect();
    assert!(delays.contains(&5_000_000_000) && delays.contains(&15_000_000_000), "{delays:?}");
    assert_eq!(get(&server, "/v1/session/node/meshwright").json().as_array().unwrap().len(), 3);
    assert_eq!(get(&server, "/v1/session/node/other").json(), json!([]));
    assert_eq!(put(&server, &format!("/v1/session/renew/{id}"), ""), shown.to_string());
    assert_eq!(put(&server, &format!("/v1/kv/temporary?acquire={id}"), "x"), "true");
    let mut waiting = RawClient::connect(server.address);
    waiting.send(format!("GET /v1/kv/temporary?index={index} HTTP/1.1\r\nhost: localhost\r\n\r\n"));
    assert_eq!(waiting.response().status, 200, "an index that is not that of now has missed something");
    assert_eq!(put(&server, &format!("/v1/session/destroy/{id}"), ""), "true");
    assert_eq!(put(&server, &format!("/v1/session/destroy/{id}"), ""), "true", "as often as one likes");
    assert_eq!(get(&server, "/v1/kv/temporary").status, 404);
    assert_eq!(server.send("PUT", &format!("/v1/session/renew/{id}"), &[], "").status, 404);
    assert_eq!(get(&server, &format!("/v1/session/info/{id}")).json(), json!([]));
}

#[test]
fn a_session_lives_by_the_check_of_a_service() {
    let server = server();
    let service = json!({ "Name": "web", "Port": 80, "Check": { "TTL": "60s" } }).to_string();
    put(&server, "/v1/agent/service/register", &service);
    let body = json!({ "Checks": ["serfHealth", "service:web"], "LockDelay": "0s" });
    let refused = server.send("PUT", "/v1/session/create", &[], &body.to_string());
    assert!(refused.status == 400 && refused.text().contains("critical state"), "{}", refused.text());
    put(&server, "/v1/agent/check/pass/service:web", "");
    let id = session(&server, body);
    assert_eq!(put(&server, &format!("/v1/kv/leader?acquire={id}"), "web"), "true");
    assert_eq!(get(&server, &format!("/v1/session/info/{id}")).json()[0]["ServiceChecks"][0]["ID"], "service:web");
    put(&server, "/v1/agent/check/fail/service:web", "");
    eventually("the session ends, and its lock is free", || {
        get(&server, "/v1/kv/leader").json()[0].get("Session").is_none()
    });
    assert_eq!(get(&server, "/v1/session/list").json(), json!([]));
}

#[test]
fn a_blocking_query_waits_for_its_key_or_prefix_and_for_no_other() {
    let server = server();
    put(&server, "/v1/kv/a/1", "1");
    let index = |path: &str| get(&server, path).header("x-consul-index").unwrap().to_owned();
    let (prefix, absent) = (index("/v1/kv/a/?recurse"), index("/v1/kv/b"));
    let wait = |path: String| {
        let mut waiting = RawClient::connect(server.address);
        waiting.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"));
        waiting
    };
    let mut of_prefix = wait(format!("/v1/kv/a/?recurse&index={prefix}&wait=60s"));
    let mut of_absent = wait(format!("/v1/kv/b?index={absent}&wait=60s"));
    let unchanged = get(&server, &format!("/v1/kv/a/1?index={prefix}&wait=100ms"));
    assert_eq!(unchanged.header("x-consul-index"), Some(prefix.as_str()), "nothing happened to it");
    put(&server, "/v1/kv/c", "no matter");
    put(&server, "/v1/kv/a/2", "2");
    assert_eq!(of_prefix.response().json().as_array().unwrap().len(), 2);
    put(&server, "/v1/kv/b", "there");
    let there = of_absent.response();
    assert_eq!(there.json()[0]["Value"], "dGhlcmU=");
    let index = there.header("x-consul-index").unwrap();
    let mut of_gone = wait(format!("/v1/kv/b?index={index}"));
    server.send("DELETE", "/v1/kv/b", &[], "");
    let gone = of_gone.response();
    assert!(gone.status == 404 && gone.header("x-consul-index").unwrap() > index, "it went");
    let sessions = get(&server, "/v1/session/list").header("x-consul-index").unwrap().to_owned();
    let mut of_sessions = wait(format!("/v1/session/list?index={sessions}"));
    let id = session(&server, json!({}));
    assert_eq!(of_sessions.response().json()[0]["ID"], json!(id));
}

#[test]
fn what_cannot_be_is_refused_by_name_and_keeps_what_was_there() {
    let server = server();
    put(&server, "/v1/kv/a", "kept");
    let (large, long) = ("v".repeat(512 * 1024 + 1), format!("/v1/kv/{}", "k".repeat(1025)));
    for (method, path, body, status, part) in [
        ("PUT", "/v1/kv/", "x", 400, "Missing key name"),
        ("GET", "/v1/kv", "", 400, "Missing key name"),
        ("DELETE", "/v1/kv/", "", 400, "Missing key name"),
        ("PUT", "/v1/kv/%ff", "x", 400, "UTF-8"),
        ("PUT", "/v1/kv/a%00b", "x", 400, "without NUL"),
        ("PUT", long.as_str(), "x", 400, "1,024 bytes"),
        ("PUT", "/v1/kv/a", large.as_str(), 413, "too large"),
        ("PUT", "/v1/kv/a?cas=x", "x", 400, "Invalid cas"),
        ("PUT", "/v1/kv/a?flags=-1", "x", 400, "Invalid flags"),
        ("PUT", "/v1/kv/a?cas=1&acquire=b", "x", 400, "Conflicting flags: cas, acquire"),
        ("DELETE", "/v1/kv/a?cas=1&recurse", "", 400, "Conflicting flags"),
        ("PUT", "/v1/kv/a?acquire=nobody", "x", 400, "invalid session"),
        ("GET", "/v1/kv/a?index=1&wait=soon", "", 400, "Invalid wait"),
        ("POST", "/v1/kv/a", "x", 404, "no such path"),
        ("PUT", "/v1/session/create", "[]", 400, "Request decode failed"),
        ("PUT", "/v1/session/create", "{\"TTL\":\"9s\"}", 400, "10s to 86400s"),
        ("PUT", "/v1/session/create", "{\"TTL\":\"soon\"}", 400, "Invalid Session TTL"),
        ("PUT", "/v1/session/create", "{\"LockDelay\":\"61s\"}", 400, "at most 60s"),
        ("PUT", "/v1/session/create", "{\"LockDelay\":[]}", 400, "Invalid LockDelay"),
        ("PUT", "/v1/session/create", "{\"Behavior\":\"odd\"}", 400, "release or delete"),
        ("PUT", "/v1/session/create", "{\"Node\":\"other\"}", 400, "Missing node"),
        ("PUT", "/v1/session/create", "{\"Checks\":[\"odd\"]}", 400, "Missing check"),
        ("PUT", "/v1/session/odd", "", 404, "no such path"),
    ] {
        let answer = server.send(method, path, &[], body);
        let sentence = answer.text();
        assert!(answer.status == status && sentence.contains(part), "{method} {path}: {} {sentence}", answer.status);
    }
    assert_eq!(get(&server, "/v1/kv/?keys").json(), json!(["a"]));
    assert_eq!(get(&server, "/v1/kv/a?raw").text(), "kept");
    assert_eq!(get(&server, "/v1/session/list").json(), json!([]));
}

#[test]
fn keys_and_sessions_ask_for_a_token_that_is_for_everything() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens");
    let text = "all-all-all-all-all\nread-read-read-read read-only\nservice-service-service service=web\n";
    std::fs::write(&path, text).unwrap();
    let tokens = Tokens::read(&path).unwrap();
    let server = Server::start(|catalog| consul::router(support::keys(catalog), tokens.clone()));
    let ask =
        |method: &str, path: &str, token: &str| server.send(method, path, &[("x-consul-token", token)], "").status;
    let session = "/v1/session/create";
    assert_eq!(server.send("PUT", "/v1/kv/a", &[], "x").status, 401);
    for (method, path, statuses) in [
        ("PUT", "/v1/kv/a", [200, 403, 403]),
        ("GET", "/v1/kv/a", [200, 200, 403]),
        ("PUT", session, [200, 403, 403]),
        ("GET", "/v1/session/list", [200, 200, 403]),
        ("DELETE", "/v1/kv/a", [200, 403, 403]),
    ] {
        let tokens = ["all-all-all-all-all", "read-read-read-read", "service-service-service"];
        assert_eq!(tokens.map(|token| ask(method, path, token)), statuses, "{method} {path}");
    }
    for (verb, statuses) in [("set", [200, 403, 403]), ("get-or-empty", [200, 200, 403])] {
        let body = json!([{ "KV": { "Verb": verb, "Key": "a" } }]).to_string();
        let tokens = ["all-all-all-all-all", "read-read-read-read", "service-service-service"];
        let transact = |token| server.send("PUT", "/v1/txn", &[("x-consul-token", token)], &body).status;
        assert_eq!(tokens.map(transact), statuses, "a transaction with {verb}");
    }
}
