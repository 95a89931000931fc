//! meshwright's configuration: `proxy` without a file, or `run` with a generated mesh.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

use super::{CLUSTER_LIMIT, CONSECUTIVE_ERRORS, Launch, Wiring, words, write};
use crate::bench::child::Output;
use crate::bench::scenario::{Version, authority};

pub(super) const FEATURES: [&str; 4] = [
    "`proxy`, one worker; metrics with Istio's names and admin API, x-request-id, x-forwarded-for and -proto, path \
     normalisation, default retry policy, all default limits and time-outs",
    "`run`: Gateway with 100 hosts, 100 VirtualServices with three routes each, 100 ServiceEntries, 100 DestinationRules \
     (round robin, limits of connections, pending requests, requests and retries, outlier detection), file watch",
    "`--access-log json:FILE`, Istio's keys",
    "`run`: a Gateway server HTTPS with `mode: SIMPLE` and files, or TCP; one VirtualService, ServiceEntry and \
     DestinationRule, with `h2UpgradePolicy: UPGRADE` for HTTP/2 to the service; default tickets; all default limits and flood \
     meters",
];

pub(super) fn launch(program: &Path, wiring: &Wiring) -> Result<Launch> {
    let (listen, admin, spare) = (wiring.listen.to_string(), wiring.admin.to_string(), wiring.spare.to_string());
    let wire = wiring.wire;
    let needs_files = wiring.hosts > 0 || wiring.certificate.is_some() || wire.bytes || wire.service == Version::Http2;
    let mut words = if !needs_files {
        let origin = wiring.origin.to_string();
        words(program, &["proxy", "--from", &listen, "--to", &origin, "--workers", "1", "--admin", &admin])
    } else {
        let file = wiring.folder.join("mesh.yaml");
        write(&file, &if wiring.hosts > 0 { mesh(wiring) } else { single(wiring) })?;
        let file = file.to_string_lossy();
        let map = format!("80={}", wiring.listen.port());
        let run = ["run", "-f", &file, "--workers", "1", "--bind", "127.0.0.1", "--map-port", &map];
        words(program, &[&run[..], &["--admin", &admin, "--mesh", &spare]].concat())
    };
    if let Some(log) = wiring.access_log {
        words.extend(["--access-log".to_owned(), format!("json:{}", log.display())]);
    }
    Ok(Launch { words, output: Output::Log(wiring.folder.join("meshwright.log")) })
}

/// One port, one service: what `proxy` does, with TLS, HTTP/2 to the service, or TCP.
fn single(wiring: &Wiring) -> String {
    let (address, port) = (wiring.origin.ip(), wiring.origin.port());
    let wire = wiring.wire;
    let (protocol, routes) = if wire.bytes { ("TCP", "tcp") } else { ("HTTP", "http") };
    let (server, tls) = match wiring.certificate {
        Some(certificate) => {
            let (chain, key) = (certificate.chain.display(), certificate.key.display());
            ("HTTPS", format!("\n      tls: {{mode: SIMPLE, serverCertificate: {chain}, privateKey: {key}}}"))
        }
        None => (protocol, String::new()),
    };
    let upgrade = if wire.service == Version::Http2 { "UPGRADE" } else { "DEFAULT" };
    format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: bench}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
    - port: {{number: 80, name: entry, protocol: {server}}}
      hosts: [\"*\"]{tls}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: bench}}
spec:
  hosts: [\"*\"]
  gateways: [bench]
  {routes}:
    - route: [{{destination: {{host: origin.mesh.example, port: {{number: 8080}}}}}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: origin}}
spec:
  hosts: [origin.mesh.example]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 8080, name: entry, protocol: {protocol}}}]
  endpoints: [{{address: {address}, ports: {{entry: {port}}}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: origin}}
spec:
  host: origin.mesh.example
  trafficPolicy: {{connectionPool: {{http: {{h2UpgradePolicy: {upgrade}}}}}}}
"
    )
}

fn mesh(wiring: &Wiring) -> String {
    let mut text = String::from(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: bench}\nspec:\n  selector: {istio: ingressgateway}\n  servers:\n    - port: {number: 80, name: http, protocol: HTTP}\n      hosts:\n",
    );
    for host in 0..wiring.hosts {
        let _ = writeln!(text, "        - {}", authority(host));
    }
    for host in 0..wiring.hosts {
        text.push_str(&one_host(host, wiring));
    }
    text
}

fn one_host(host: usize, wiring: &Wiring) -> String {
    let (authority, service) = (authority(host), format!("service-{host}.mesh.example"));
    let (address, port) = (wiring.origin.ip(), wiring.origin.port());
    let route = format!("route: [{{destination: {{host: {service}, port: {{number: 8080}}}}}}]");
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: host-{host}}}
spec:
  hosts: [{authority}]
  gateways: [bench]
  http:
    - match:
        - uri: {{prefix: /api/}}
          headers: {{x-canary: {{exact: \"1\"}}}}
      {route}
    - match:
        - uri: {{exact: /health}}
      {route}
    - {route}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: service-{host}}}
spec:
  hosts: [{service}]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 8080, name: http, protocol: HTTP}}]
  endpoints: [{{address: {address}, ports: {{http: {port}}}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: service-{host}}}
spec:
  host: {service}
  trafficPolicy:
    loadBalancer: {{simple: ROUND_ROBIN}}
    connectionPool:
      tcp: {{maxConnections: {CLUSTER_LIMIT}}}
      http: {{http1MaxPendingRequests: {CLUSTER_LIMIT}, http2MaxRequests: {CLUSTER_LIMIT}, maxRetries: 3}}
    outlierDetection:
      consecutive5xxErrors: {CONSECUTIVE_ERRORS}
      interval: 10s
      baseEjectionTime: 30s
      maxEjectionPercent: 100
"
    )
}
