//! YAML for the process under test, in a directory of its own that goes away with it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A gateway on port 80 for every host, bound by the name `gateway`.
pub const GATEWAY: &str = "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gateway}
spec:
  servers:
    - port: {number: 80, name: http, protocol: HTTP}
      hosts: ['*']
";

/// A gateway whose port 9000 sends bytes to the service `svc`.
pub const GATEWAY_FOR_BYTES: &str = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gateway}
spec:
  servers:
    - port: {number: 9000, name: tcp, protocol: TCP}
      hosts: ['*']
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: routes}
spec:
  hosts: ['*']
  gateways: [gateway]
  tcp:
    - route: [{destination: {host: svc}}]
";

/// Puts `by` blanks before every line.
pub fn indent(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{:by$}{line}\n", "")).collect()
}

/// A gateway on port 80 for every host with these routes: the entries of `http`, not indented.
pub fn gateway_routes(http: &str) -> String {
    format!(
        "{GATEWAY}---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: routes}}
spec:
  hosts: ['*']
  gateways: [gateway]
  http:
{}",
        indent(http, 4)
    )
}

/// A gateway on port 80 that sends everything to one service.
pub fn gateway_to(service: &str) -> String {
    gateway_routes(&format!("- route: [{{destination: {{host: {service}}}}}]"))
}

/// As [`gateway_to`], with the certificate `edge.pem` and its key beside the file; `tls` is what else stands in its `tls`, with a comma
/// before it.
pub fn https_gateway_to(service: &str, tls: &str) -> String {
    let plain = "port: {number: 80, name: http, protocol: HTTP}";
    gateway_to(service).replacen(plain, &https_server(tls), 1)
}

/// As [`gateway_to`], and the same over TLS with the certificate `edge.pem` and its key beside the file.
pub fn gateway_with_https_to(service: &str) -> String {
    let hosts = "      hosts: ['*']\n";
    let both = format!("{hosts}    - {}\n{hosts}---", https_server(""));
    gateway_to(service).replacen(&format!("{hosts}---"), &both, 1)
}

fn https_server(tls: &str) -> String {
    format!(
        "port: {{number: 443, name: https, protocol: HTTPS}}
      tls: {{mode: SIMPLE, serverCertificate: edge.pem, privateKey: edge.key{tls}}}"
    )
}

/// A virtual service for calls between services to `host`, with the entries of `http`, not indented.
pub fn mesh_routes(host: &str, http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {host}}}
spec:
  hosts: [{host}]
  http:
{}",
        indent(http, 4)
    )
}

/// A configuration file.
pub struct Config {
    directory: TempDir,
    path: PathBuf,
}

impl Config {
    /// A file with the given documents, joined.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn new(documents: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("mesh.yaml");
        std::fs::write(&path, documents.join("---\n")).expect("the file is written");
        Self { directory, path }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its directory, for further files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Replaces the file as editors and deployments do: a new one is written beside it and renamed over it.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn replace(&self, documents: &[&str]) {
        let next = self.directory.path().join(".mesh.yaml.next");
        std::fs::write(&next, documents.join("---\n")).expect("the file is written");
        std::fs::rename(&next, &self.path).expect("the file is renamed");
    }
}

/// A DestinationRule for `host` with this traffic policy, in YAML's flow form.
pub fn destination_rule(host: &str, policy: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {host}}}
spec:
  host: {host}
  trafficPolicy: {policy}
"
    )
}

/// A ServiceEntry for `host` with one endpoint of this machine, on port 80 with this protocol (`HTTP`, `HTTP2`, `GRPC`).
pub fn service_entry(host: &str, protocol: &str, address: SocketAddr) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {host}}}
spec:
  hosts: [{host}]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: port, protocol: {protocol}}}]
  endpoints: [{{address: {}, ports: {{port: {}}}}}]
",
        address.ip(),
        address.port(),
    )
}

/// A resilience policy for `host` with these blocks.
pub fn resilience_policy(host: &str, blocks: &str) -> String {
    format!(
        "apiVersion: meshwright.io/v1alpha1
kind: ResiliencePolicy
metadata: {{name: resilience}}
spec:
  host: '{host}'
{}",
        indent(blocks, 2)
    )
}
