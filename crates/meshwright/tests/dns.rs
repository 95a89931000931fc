//! Endpoints with names instead of addresses. Only names of this machine: no test needs a name server.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use meshwright_testkit::{Config, Launch, Origin, binary, eventually, gateway_routes, gateway_to};

fn entry(resolution: &str, name: &str, port: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: named}}
spec:
  hosts: [named.example]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: {resolution}
  endpoints: [{{address: {name}, ports: {{http: {port}}}}}]
"
    )
}

#[test]
fn a_name_is_resolved_and_its_address_serves() {
    for resolution in ["DNS", "DNS_ROUND_ROBIN"] {
        let origin = Origin::named("resolved");
        let config =
            Config::new(&[&gateway_to("named.example"), &entry(resolution, "localhost", origin.address().port())]);
        let process = Launch::run(binary!()).file(config.path()).start();
        eventually("the name is resolved", || process.get("x", "/").text() == "resolved");
        let clusters = process.admin_get("/clusters").text();
        assert!(clusters.contains(&format!("::{}::", origin.address())), "{resolution}: {clusters}");
    }
}

#[test]
fn a_flag_may_name_its_endpoint_too() {
    let origin = Origin::named("resolved");
    let config = Config::new(&[&gateway_to("svc")]);
    let endpoint = format!("localhost:{}", origin.address().port());
    let process = Launch::run(binary!()).file(config.path()).service("svc", &[&endpoint]).start();
    eventually("the name is resolved", || process.get("x", "/").text() == "resolved");
}

#[test]
fn a_name_that_does_not_resolve_is_503_uh_and_is_reported() {
    let config = Config::new(&[&gateway_to("named.example"), &entry("DNS", "no-such-name.invalid", 80)]);
    let process = Launch::run(binary!()).file(config.path()).args(&["--access-log", "text"]).start();
    assert_eq!(process.get("x", "/first").status, 503);
    assert_eq!(process.record_of("/first").flags(), "UH");
    eventually("readiness names it", || process.admin_get("/ready").text().contains("no-such-name.invalid"));
    assert_eq!(process.admin_get("/ready").status, 200);
}

#[test]
fn a_reload_keeps_what_was_resolved() {
    let origin = Origin::named("resolved");
    let entry = entry("DNS", "localhost", origin.address().port());
    let config = Config::new(&[&gateway_to("named.example"), &entry]);
    let process = Launch::run(binary!()).file(config.path()).start();
    eventually("the name is resolved", || process.get("x", "/").text() == "resolved");
    let mut client = process.connect();
    let changed = gateway_routes("- timeout: 5s\n  route: [{destination: {host: named.example}}]");
    config.replace(&[&changed, &entry]);
    eventually("the new configuration runs", || {
        assert_eq!(client.get("x", "/").text(), "resolved", "without a gap");
        process.metrics().value("meshwright_config_generation") == 2.0
    });
    for _ in 0..10 {
        assert_eq!(client.get("x", "/").text(), "resolved");
    }
}
