//! Bad input to the registry's faces, by row: what must not pass is refused by a clear answer, and nothing is registered,
//! lost or half done by it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod support;

use axum::Router;
use meshwright_bridges::{Tokens, consul, eureka, router};
use meshwright_catalog::Catalog;
use meshwright_registry::Registry;
use meshwright_testkit::{Origin, RawClient, eventually};
use serde_json::{Value, json};

use support::Server;

const A: &str = "/v1/services/users/instances/a";

/// Our own API and Eureka's on one address, as the admin address has them.
fn admin(catalog: Catalog, tokens: Tokens) -> Router {
    router(catalog.clone(), tokens.clone()).merge(eureka::router(catalog, tokens))
}

fn is_empty(server: &Server) -> bool {
    server.catalog.read(Registry::is_empty)
}

fn eureka_info(change: &Value) -> Value {
    let mut info = json!({
        "instanceId": "a", "hostName": "a", "app": "USERS", "ipAddr": "10.0.0.1", "status": "UP",
        "port": { "$": 80, "@enabled": "true" }, "dataCenterInfo": { "name": "MyOwn" },
    });
    info.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    json!({ "instance": info })
}

#[test]
fn h1_no_spelling_of_a_path_and_no_header_gets_around_the_token() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens");
    std::fs::write(&path, "all-all-all-all-all\norders-orders-orders service=orders\n").unwrap();
    let tokens = Tokens::read(&path).unwrap();
    let servers = [
        Server::start(|catalog| admin(catalog, tokens.clone())),
        Server::start(|catalog| consul::router(support::keys(catalog), tokens.clone())),
    ];
    let paths = [
        "/register",
        "/register/",
        "//register",
        "/register;a",
        "/%72egister",
        "/heartbeat",
        "/deregister",
        A,
        "/v1/services/users/instances/a/",
        "//v1/services/users/instances/a",
        "/v1/services//users/instances/a",
        "/v1%2Fservices/users/instances/a",
        "/v1/services/users/instances/a;b=c",
        "/V1/services/users/instances/a",
        "/v1/./services/users/instances/a",
        "/x/../v1/services/users/instances/a",
        "/v1/batch",
        "/v1/watch",
        "/v1/status",
        "/eureka/apps/USERS",
        "/eureka//apps/USERS",
        "/eureka/v2/apps/USERS/",
        "/eureka/apps/USERS/a/status?value=UP",
        "/eureka/peerreplication/batch",
        "/v1/agent/service/register",
        "/v1/agent/service/register/",
        "//v1/agent/service/register",
        "/v1/agent/service/deregister/a",
        "/v1/catalog/services",
        "/v1/health/service/users",
    ];
    let attempts: [&[(&str, &str)]; 7] = [
        &[],
        &[("user-agent", "Nacos-Server")],
        &[("x-http-method-override", "GET"), ("x-original-url", "/ready")],
        &[("x-forwarded-for", "127.0.0.1"), ("x-real-ip", "127.0.0.1")],
        &[("authorization", "Bearer all-all-all-all-all2")],
        &[("authorization", "Basic YTo=")],
        &[("x-consul-token", "anonymous")],
    ];
    for server in &servers {
        for path in paths {
            for method in ["GET", "POST", "PUT", "DELETE"] {
                for headers in attempts {
                    let status = server.send(method, path, headers, "{}").status;
                    // A path that is not served says so to everybody; it is no way in.
                    let refused = matches!(status, 401 | 404 | 405);
                    assert!(refused, "{method} {path} {headers:?}: {status}");
                }
            }
        }
        assert!(is_empty(server));
    }
    let other = [("authorization", "Bearer orders-orders-orders")];
    let small = json!({ "name": "users", "address": "10.0.0.1", "port": 80 }).to_string();
    let consul = json!({ "Name": "users", "Address": "10.0.0.1", "Port": 80 }).to_string();
    let info = eureka_info(&json!({})).to_string();
    for (server, method, path, body) in [
        (&servers[0], "POST", "/register", &small),
        (&servers[0], "POST", "/heartbeat", &small),
        (&servers[0], "POST", "/deregister", &small),
        (&servers[0], "PUT", A, &"{\"port\":80}".to_owned()),
        (&servers[0], "DELETE", A, &String::new()),
        (&servers[0], "POST", "/eureka/apps/USERS", &info),
        (&servers[0], "PUT", "/eureka/apps/USERS/a", &String::new()),
        (&servers[1], "PUT", "/v1/agent/service/register", &consul),
    ] {
        assert_eq!(server.send(method, path, &other, body).status, 403, "{method} {path} with another service's token");
    }
    assert!(servers.iter().all(is_empty));
}

#[test]
fn h2_values_that_no_instance_can_have_are_refused_on_every_face() {
    let own = Server::start(|catalog| admin(catalog, Tokens::default()));
    let agent = Server::start(|catalog| consul::router(support::keys(catalog), Tokens::default()));
    let many: Vec<String> = (0..10_000).map(|tag| format!("t{tag}")).collect();
    let megabyte = "m".repeat(1_000_000);
    let long = "n".repeat(65_536);
    let wrong = |status: u16, body: &str, what: &str| {
        assert!(matches!(status, 400 | 413), "{what}: {status} {body}");
    };
    for name in ["a/b", "a\u{0}b", long.as_str(), "", "..", "-a", "a b", "ä"] {
        let body = json!({ "name": name, "address": "10.0.0.1", "port": 80 }).to_string();
        let answer = own.send("POST", "/register", &[], &body);
        wrong(answer.status, &answer.text(), "/register name");
        let body = json!({ "Name": name, "Address": "10.0.0.1", "Port": 80 }).to_string();
        let answer = agent.send("PUT", "/v1/agent/service/register", &[], &body);
        wrong(answer.status, &answer.text(), "Consul name");
    }
    for address in [
        "",
        "169.254.169.254",
        "fe80::1",
        "0.0.0.0",
        "::",
        "255.255.255.255",
        "224.0.0.1",
        "ff02::1",
        "::ffff:169.254.1.1",
        "10.0.0.256",
        "http://a",
        "a:80",
        "a/b",
        "a\u{0}",
        long.as_str(),
    ] {
        let small = json!({ "name": "users", "address": address, "port": 80 }).to_string();
        let answer = own.send("POST", "/register", &[], &small);
        wrong(answer.status, &answer.text(), &format!("/register {address:.40}"));
        let answer = own.send("PUT", A, &[], &json!({ "address": address, "port": 80 }).to_string());
        wrong(answer.status, &answer.text(), &format!("/v1 {address:.40}"));
        let answer = own.send(
            "POST",
            "/eureka/apps/USERS",
            &[("content-type", "application/json")],
            &eureka_info(&json!({ "ipAddr": address })).to_string(),
        );
        wrong(answer.status, &answer.text(), &format!("Eureka {address:.40}"));
        if !address.is_empty() {
            let body = json!({ "Name": "users", "Address": address, "Port": 80 }).to_string();
            let answer = agent.send("PUT", "/v1/agent/service/register", &[], &body);
            wrong(answer.status, &answer.text(), &format!("Consul {address:.40}"));
        }
    }
    for change in [
        json!({ "port": -1 }),
        json!({ "port": 65_536 }),
        json!({ "port": 1.5 }),
        json!({ "port": "80" }),
        json!({ "port": 1e99 }),
        json!({ "weight": -1 }),
        json!({ "weight": 65_536 }),
        json!({ "metadata": { "a": megabyte } }),
        json!({ "metadata": [] }),
        json!({ "metadata": { "a": { "b": 1 } } }),
        json!({ "tags": many }),
        json!({ "tags": ["a\u{7}"] }),
        json!({ "version": long }),
        json!({ "checks": [{ "tcp": "a\r\nb:1" }] }),
        json!({ "checks": [{ "tcp": true, "timeout": "2m" }] }),
        json!({ "checks": [{ "http": "/a\u{0}" }] }),
        json!({ "lease": { "ttl": 1e300 } }),
        json!({ "lease": { "ttl": -1 } }),
    ] {
        let mut body = json!({ "address": "10.0.0.1", "port": 80 });
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let answer = own.send("PUT", A, &[], &body.to_string());
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        wrong(answer.status, &answer.text(), &format!("{change:.60}"));
    }
    assert!(is_empty(&own) && is_empty(&agent));
    for port in [1, 2] {
        assert!(own.send("PUT", A, &[], &json!({ "address": "10.0.0.1", "port": port }).to_string()).status < 300);
    }
    assert_eq!(own.catalog.read(Registry::len), 1, "one id is one instance, whoever says it");
}

#[test]
fn h2_bodies_that_are_none_are_refused_on_every_face() {
    let own = Server::start(|catalog| admin(catalog, Tokens::default()));
    let agent = Server::start(|catalog| consul::router(support::keys(catalog), Tokens::default()));
    let deep = "[".repeat(100_000);
    let nested = "<instance>".repeat(100);
    let bomb = "<!DOCTYPE a [<!ENTITY x \"y\"><!ENTITY z \"&x;&x;\">]><instance>&z;</instance>";
    let json_bodies =
        ["", "{", "null", "[]", "7", "\"a\"", "{\"name\":", "\u{feff}{}", "{\"instance\":7}", deep.as_str()];
    for body in json_bodies {
        for (server, method, path) in [
            (&own, "POST", "/register"),
            (&own, "POST", "/heartbeat"),
            (&own, "POST", "/deregister"),
            (&own, "PUT", A),
            (&own, "PUT", "/v1/services/users/instances/a/status"),
            (&own, "PUT", "/v1/services/users/instances/a/health"),
            (&own, "POST", "/v1/batch"),
            (&own, "POST", "/eureka/apps/USERS"),
            (&own, "POST", "/eureka/peerreplication/batch"),
            (&agent, "PUT", "/v1/agent/service/register"),
            (&agent, "PUT", "/v1/agent/check/register"),
            (&agent, "PUT", "/v1/agent/check/update/a"),
            (&agent, "PUT", "/v1/catalog/register"),
            (&agent, "PUT", "/v1/catalog/deregister"),
        ] {
            // The API's own registration may be empty but for its address: it is where it came from, without a port.
            let status = server.send(method, path, &[("content-type", "application/json")], body).status;
            assert_eq!(status, 400, "{method} {path}: {body:.40}");
        }
    }
    for body in ["", "<", "<a", "<instance>", "<instance></b>", "&", "\u{0}", &nested, bomb] {
        let answer = own.send("POST", "/eureka/apps/USERS", &[("content-type", "application/xml")], body);
        assert_eq!(answer.status, 400, "{body:.40}: {}", answer.text());
    }
    let path = own.send("GET", "/v1/services/%ff%fe/instances", &[], "");
    assert_eq!((path.status, path.header("content-type")), (400, Some("application/problem+json")));
    assert!(is_empty(&own) && is_empty(&agent));
}

#[test]
fn h3_checks_do_not_reach_metadata_services_and_do_not_follow_anybody() {
    let server = Server::start(|catalog| admin(catalog, Tokens::default()));
    let elsewhere = Origin::answers(200, &[], "secret");
    let location = format!("http://{}/", elsewhere.address());
    let redirecting = Origin::answers(302, &[("location", &location)], "");
    let port = redirecting.address().port();
    for target in ["file:///etc/passwd", "gopher://a/", "https://a/", "http://", "http://a@b/", "http://a\r\nx/"] {
        let body = json!({ "address": "127.0.0.1", "port": port, "checks": [{ "http": target }] }).to_string();
        assert_eq!(server.send("PUT", A, &[], &body).status, 400, "{target}");
    }
    let checks = json!([
        { "id": "metadata", "http": "http://169.254.169.254/latest/" }, { "id": "six", "http": "http://[fe80::1]:80/" },
        { "id": "mapped", "http": "http://[::ffff:169.254.169.254]/" }, { "id": "redirect", "http": "/" },
    ]);
    let body = json!({ "address": "127.0.0.1", "port": port, "checks": checks }).to_string();
    assert_eq!(server.send("PUT", A, &[], &body).status, 201);
    let outputs = || -> Vec<String> {
        let shown = server.send("GET", A, &[], "").json();
        shown["checks"].as_array().unwrap().iter().map(|check| check["output"].as_str().unwrap().to_owned()).collect()
    };
    eventually("all checks were carried out", || outputs().iter().all(|output| !output.is_empty()));
    let outputs = outputs();
    assert!(outputs[..3].iter().all(|output| output.ends_with("is not probed")), "{outputs:?}");
    assert!(outputs[3].ends_with("answered 302"), "{outputs:?}");
    assert_eq!(elsewhere.count(), 0, "a redirection is no success and is not followed");
}

#[test]
fn h4_whoever_is_not_known_is_told_to_register_again_on_every_face() {
    let own = Server::start(|catalog| admin(catalog, Tokens::default()));
    let agent = Server::start(|catalog| consul::router(support::keys(catalog), Tokens::default()));
    let small = json!({ "name": "users", "address": "10.0.0.1", "port": 80 }).to_string();
    for (server, method, path, body) in [
        (&own, "POST", "/heartbeat", small.as_str()),
        (&own, "POST", "/v1/services/users/instances/a/renew", ""),
        (&own, "PUT", "/v1/services/users/instances/a/health", "{\"status\":\"passing\"}"),
        (&own, "PUT", "/v1/services/users/instances/a/status", "{\"status\":\"draining\"}"),
        (&own, "DELETE", A, ""),
        (&own, "GET", A, ""),
        (&own, "PUT", "/eureka/apps/USERS/a", ""),
        (&own, "DELETE", "/eureka/apps/USERS/a", ""),
        (&own, "PUT", "/eureka/apps/USERS/a/status?value=UP", ""),
        (&agent, "PUT", "/v1/agent/check/pass/service:a", ""),
        (&agent, "PUT", "/v1/agent/service/deregister/a", ""),
        (&agent, "PUT", "/v1/agent/service/maintenance/a?enable=true", ""),
    ] {
        assert_eq!(server.send(method, path, &[], body).status, 404, "{method} {path}");
    }
}

#[test]
fn h5_a_revision_that_is_not_of_this_registry_is_answered_at_once() {
    let server = Server::start(|catalog| admin(catalog, Tokens::default()));
    assert_eq!(server.send("PUT", A, &[], "{\"port\":80}").status, 201);
    for revision in ["2", "900", "18446744073709551615"] {
        let path = format!("/v1/watch?revision={revision}&wait=600s");
        let answer = server.send("GET", &path, &[], "");
        assert_eq!((answer.status, answer.header("content-type")), (410, Some("application/problem+json")), "{path}");
        let stream = [("accept", "text/event-stream"), ("last-event-id", revision)];
        assert_eq!(server.send("GET", "/v1/watch", &stream, "").status, 410);
        let list = server.send("GET", &format!("/v1/services/users/instances?revision={revision}&wait=600s"), &[], "");
        assert_eq!((list.status, &list.json()["revision"]), (200, &json!(1)));
    }
    for wrong in ["-1", "x", "1.5", "18446744073709551616", "%00"] {
        assert_eq!(server.send("GET", &format!("/v1/watch?revision={wrong}"), &[], "").status, 400, "{wrong}");
        assert_eq!(server.send("GET", &format!("/v1/watch?wait={wrong}q"), &[], "").status, 400, "{wrong}");
    }
}

#[test]
fn h9_pages_of_other_sites_change_nothing_on_any_face() {
    let own = Server::start(|catalog| admin(catalog, Tokens::default()));
    let agent = Server::start(|catalog| consul::router(support::keys(catalog), Tokens::default()));
    let small = json!({ "name": "users", "address": "10.0.0.1", "port": 80 }).to_string();
    let info = eureka_info(&json!({})).to_string();
    let service = json!({ "Name": "users", "Address": "10.0.0.1", "Port": 80 }).to_string();
    for (server, method, path, body) in [
        (&own, "POST", "/register", &small),
        (&own, "PUT", A, &"{\"port\":80}".to_owned()),
        (&own, "POST", "/v1/batch", &small),
        (&own, "POST", "/eureka/apps/USERS", &info),
        (&agent, "PUT", "/v1/agent/service/register", &service),
    ] {
        for header in [("origin", "http://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")] {
            assert_eq!(
                server.send(method, path, &[header, ("content-type", "text/plain")], body).status,
                403,
                "{path}"
            );
        }
        for host in ["evil.example", "evil.example:15000", "localhost.evil.example", "169.254.169.254", ""] {
            let mut client = RawClient::connect(server.address);
            let status = client.request(method, host, path, &[], body.as_bytes()).status;
            assert!(matches!(status, 400 | 403), "{path} of {host:?}: {status}");
        }
    }
    assert!(is_empty(&own) && is_empty(&agent));
}
