//! The live snapshot as JSON, every object with the place it was written at: the page `/config_dump`.
//!
//! Shows what runs, not what was read: a route that is bound nowhere is missing here. Durations are written as Istio
//! writes them (`1.5s`); limits that do not limit are `null`. It knows no HTTP and no counters; the state of endpoints is
//! on `/clusters`. Read next: `dump/rules.rs` (conditions and changes), `dump/policy.rs` (clusters, services, policies).

mod health;
mod load_balancer;
mod policy;
mod resilience;
mod rules;
mod stream;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use meshwright_model::{Gateway, HttpRoute, Origin, Server, ServerProtocol};
use meshwright_snapshot::{Action, Forward, Listener, ListenerKind, Route, Snapshot, Target, VirtualHost};
use serde_json::{Value, json};

/// Routes as they were configured, by the place they were written at.
type Configured<'a> = HashMap<&'a Origin, &'a HttpRoute>;

/// The whole of `snapshot` as JSON.
pub fn dump(snapshot: &Snapshot) -> Value {
    let mesh = &snapshot.mesh;
    let configured: Configured<'_> = mesh
        .virtual_services
        .iter()
        .flat_map(|virtual_service| &virtual_service.http)
        .map(|route| (&route.origin, route))
        .collect();
    let listeners: Vec<Value> =
        snapshot.listeners.iter().map(|listener| of_listener(snapshot, listener, &configured)).collect();
    json!({
        "generation": snapshot.generation,
        "number": snapshot.number,
        "listeners": listeners,
        "clusters": snapshot.clusters.iter().map(|cluster| policy::of_cluster(cluster)).collect::<Vec<_>>(),
        "services": policy::of_services(snapshot),
        "virtual_services": mesh.virtual_services.iter().map(rules::of_virtual_service).collect::<Vec<_>>(),
        "destination_rules": mesh.destination_rules.iter().map(policy::of_destination_rule).collect::<Vec<_>>(),
        "resilience_policies": mesh.resilience_policies.iter().map(resilience::of_policy).collect::<Vec<_>>(),
        "gateways": mesh.gateways.iter().map(of_gateway).collect::<Vec<_>>(),
    })
}

fn of_listener(snapshot: &Snapshot, listener: &Listener, configured: &Configured<'_>) -> Value {
    let kind = match listener.kind {
        ListenerKind::Gateway => "gateway",
        ListenerKind::Mesh => "mesh",
    };
    let virtual_hosts: Vec<Value> =
        listener.virtual_hosts.iter().map(|host| of_virtual_host(snapshot, host, configured)).collect();
    json!({
        "name": listener.name,
        "kind": kind,
        "bind": listener.bind.to_string(),
        "port": listener.port,
        "origin": place(&listener.origin),
        "unknown_host_status": listener.unknown_host.outcome().status,
        "tls": listener.tls.as_ref().map(|tls| stream::of_tls(snapshot, tls)),
        "tcp": listener.tcp.as_ref().map(|tcp| stream::of_tcp(snapshot, tcp)),
        "virtual_hosts": virtual_hosts,
    })
}

fn of_virtual_host(snapshot: &Snapshot, host: &VirtualHost, configured: &Configured<'_>) -> Value {
    let routes: Vec<Value> = host.routes.iter().map(|route| of_route(snapshot, route, configured)).collect();
    json!({ "name": host.name, "https_redirect": host.https_redirect, "routes": routes })
}

fn of_route(snapshot: &Snapshot, route: &Arc<Route>, configured: &Configured<'_>) -> Value {
    let written = configured.get(&route.origin);
    json!({
        "name": route.name,
        "origin": place(&route.origin),
        "matches": written.map(|written| written.matches.iter().map(rules::of_match).collect::<Vec<_>>())
            .unwrap_or_default(),
        "action": of_action(snapshot, &route.action),
        "timeout": route.timeout.map(seconds),
        "retries": route.retries.as_ref().map(rules::of_retries),
        "rewrite": written.and_then(|written| written.rewrite.as_ref()).map(rules::of_rewrite),
        "headers": rules::of_headers(&route.headers),
    })
}

fn of_action(snapshot: &Snapshot, action: &Action) -> Value {
    match action {
        Action::Forward(forward) => json!({ "forward": of_forward(snapshot, forward) }),
        Action::Redirect(redirect) => json!({ "redirect": rules::of_redirect(redirect) }),
        Action::Direct(direct) => json!({
            "direct_response": { "status": direct.status, "body_bytes": direct.body.len() }
        }),
    }
}

fn of_forward(snapshot: &Snapshot, forward: &Forward) -> Vec<Value> {
    let name = |index: usize| snapshot.clusters.get(index).map(|cluster| cluster.name.as_str());
    let destination = |target: &Target| match target {
        Target::Cluster(index) => json!({ "cluster": name(*index) }),
        Target::ByPort(ports) => {
            let clusters: serde_json::Map<String, Value> =
                ports.iter().map(|(port, index)| (port.to_string(), json!(name(*index)))).collect();
            json!({ "cluster_by_port": clusters })
        }
        Target::Missing => json!({ "cluster": null, "missing": true }),
    };
    forward
        .destinations
        .iter()
        .map(|weighted| {
            let mut value = destination(&weighted.target);
            value["weight"] = json!(weighted.weight);
            value["headers"] = rules::of_headers(&weighted.headers);
            value
        })
        .collect()
}

fn of_gateway(gateway: &Gateway) -> Value {
    json!({
        "name": gateway.name,
        "namespace": gateway.namespace,
        "origin": place(&gateway.origin),
        "selector": gateway.selector,
        "servers": gateway.servers.iter().map(of_server).collect::<Vec<_>>(),
    })
}

fn of_server(server: &Server) -> Value {
    let hosts: Vec<String> = server
        .hosts
        .iter()
        .map(|host| match &host.namespace {
            Some(namespace) => format!("{namespace}/{}", host.pattern),
            None => host.pattern.clone(),
        })
        .collect();
    json!({
        "port": server.port,
        "port_name": server.port_name,
        "protocol": protocol(server.protocol),
        "served": server.protocol != ServerProtocol::Unsupported,
        "bind": server.bind.map(|ip| ip.to_string()),
        "hosts": hosts,
        "https_redirect": server.https_redirect,
        "origin": place(&server.origin),
    })
}

fn protocol(protocol: ServerProtocol) -> &'static str {
    match protocol {
        ServerProtocol::Http => "HTTP",
        ServerProtocol::Https => "HTTPS",
        ServerProtocol::Tls => "TLS",
        ServerProtocol::Passthrough => "TLS passed on",
        ServerProtocol::Tcp => "TCP",
        ServerProtocol::Unsupported => "not served",
    }
}

/// `file:line:column`, or the flag.
fn place(origin: &Origin) -> String {
    origin.to_string()
}

/// A duration in seconds as Istio writes it: `30s`, `0.025s`.
fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use meshwright_config::{Options, Source, load};
    use meshwright_snapshot::{CompileOptions, compile};

    use super::*;

    const YAML: &str = "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: api}
spec:
  servers:
    - port: {number: 80, name: http, protocol: HTTP}
      hosts: [api.example.com]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: api}
spec:
  hosts: [api.example.com]
  gateways: [api]
  http:
    - name: users
      match:
        - uri: {prefix: /users}
          headers: {version: {exact: v2}}
      timeout: 1.5s
      rewrite: {uri: /u}
      route:
        - destination: {host: users, subset: v2}
    - redirect: {uri: /elsewhere, redirectCode: 308}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: users}
spec:
  host: users
  trafficPolicy:
    connectionPool: {tcp: {maxConnections: 7}}
    outlierDetection: {consecutive5xxErrors: 3}
  subsets:
    - {name: v2, labels: {version: v2}}
";

    fn dumped() -> Value {
        let options =
            Options { services: vec!["users=127.0.0.1:9001;version=v2".parse().unwrap()], ..Options::default() };
        let loaded = load(&[Source::new("mesh.yaml", YAML)], &options);
        let mesh = loaded.mesh.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
        dump(&compile(mesh, &[], &CompileOptions::default(), None).unwrap().0)
    }

    #[test]
    fn a_route_is_shown_with_its_place_conditions_and_destinations() {
        let value = dumped();
        let listener = &value["listeners"][0];
        assert_eq!((&listener["name"], &listener["kind"]), (&json!("0.0.0.0_80"), &json!("gateway")));
        let route = &listener["virtual_hosts"][0]["routes"][0];
        assert_eq!(route["name"], "users");
        assert_eq!(route["origin"], "mesh.yaml:16:7");
        assert_eq!(route["timeout"], "1.5s");
        assert_eq!(route["matches"][0]["uri"], json!({ "prefix": "/users" }));
        assert_eq!(route["matches"][0]["headers"]["version"], json!({ "exact": "v2" }));
        assert_eq!(route["rewrite"]["uri"], "/u");
        let destination = &route["action"]["forward"][0];
        assert_eq!(destination["cluster"], "outbound|80|v2|users.default.svc.cluster.local");
        let redirect = &listener["virtual_hosts"][0]["routes"][1]["action"]["redirect"];
        assert_eq!((&redirect["uri"], &redirect["status"]), (&json!("/elsewhere"), &json!(308)));
    }

    #[test]
    fn a_cluster_is_shown_with_the_policy_in_force_and_its_endpoints() {
        let value = dumped();
        let clusters = value["clusters"].as_array().unwrap();
        let cluster = clusters.iter().find(|cluster| cluster["subset"] == "v2").unwrap();
        assert_eq!(cluster["limits"]["max_connections"], 7);
        assert_eq!(cluster["limits"]["max_requests"], Value::Null);
        assert_eq!(cluster["outlier_detection"]["consecutive_5xx"], 3);
        assert_eq!(cluster["endpoints"][0]["address"], "127.0.0.1:9001");
        assert_eq!(cluster["endpoints"][0]["labels"]["version"], "v2");
        assert_eq!(value["services"][0]["source"], "--service");
        assert_eq!(value["destination_rules"][0]["origin"], "mesh.yaml:26:1");
    }
}
