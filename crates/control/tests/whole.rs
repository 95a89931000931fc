//! From the text of a gateway with a canary to the snapshot that runs, with services given on the command line.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::Recorder;
use meshwright_control::{Control, Settings};
use meshwright_model::Severity;
use meshwright_snapshot::{Action, CompileOptions, Snapshot, VirtualHost};
use meshwright_traffic::Policy;

const TEXT: &str = r"
apiVersion: networking.istio.io/v1alpha3
kind: Gateway
metadata:
  name: edge
spec:
  selector:
    istio: ingressgateway
  servers:
    - port: {number: 80, name: http, protocol: HTTP}
      hosts: [shop.example.com]
---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata:
  name: shop
spec:
  hosts: [shop.example.com]
  gateways: [edge]
  http:
    - match:
        - uri: {prefix: /orders}
      route:
        - destination: {host: order-service, port: {number: 8080}}
---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata:
  name: order-service
spec:
  hosts: [order-service]
  http:
    - route:
        - destination: {host: order-service, subset: v1}
          weight: 90
        - destination: {host: order-service, subset: v2}
          weight: 10
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata:
  name: order-service
spec:
  host: order-service
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    connectionPool:
      tcp: {maxConnections: 100}
      http: {http1MaxPendingRequests: 50, maxRequestsPerConnection: 2}
    outlierDetection: {consecutive5xxErrors: 3, interval: 30s, baseEjectionTime: 30s, maxEjectionPercent: 50}
  subsets:
    - name: v1
      labels: {version: v1}
    - name: v2
      labels: {version: v2}
";

fn snapshot() -> Arc<Snapshot> {
    let mut settings = Settings {
        stdin: Some(TEXT.into()),
        compile_options: CompileOptions {
            port_map: BTreeMap::from([(80, 8080)]),
            mesh_bind: Some("127.0.0.1:15001".parse().unwrap()),
            ..CompileOptions::default()
        },
        ..Settings::default()
    };
    let flag = "order-service=127.0.0.1:9001;version=v1,127.0.0.1:9002;version=v1,127.0.0.1:9003;version=v2";
    settings.config_options.services = vec![flag.parse().unwrap()];
    let (control, findings) = Control::start(settings, Arc::new(Recorder::default())).unwrap();
    assert!(findings.iter().all(|finding| finding.severity == Severity::Warning), "{findings:?}");
    control.handle().snapshot()
}

fn clusters(snapshot: &Snapshot, virtual_host: &VirtualHost) -> Vec<(u32, String, Vec<u16>)> {
    let Action::Forward(forward) = &virtual_host.routes[0].action else { panic!("{virtual_host:?}") };
    let lead = forward.destinations.iter().map(|destination| {
        let cluster = &snapshot.clusters[destination.target.cluster(80).unwrap()];
        let ports = cluster.addresses.iter().map(std::net::SocketAddr::port).collect();
        (destination.weight, cluster.name.clone(), ports)
    });
    lead.collect()
}

#[test]
fn the_gateway_leads_to_the_service_with_its_policy() {
    let snapshot = snapshot();
    let edge = &snapshot.listeners[0];
    assert_eq!((edge.name.as_str(), edge.bind.to_string().as_str(), edge.port), ("0.0.0.0_80", "0.0.0.0:8080", 80));
    let virtual_host = &edge.virtual_hosts[*edge.hosts.find("shop.example.com").unwrap()];
    let name = "outbound|8080||order-service.default.svc.cluster.local";
    assert_eq!(clusters(&snapshot, virtual_host), [(1, name.to_owned(), vec![9001, 9002, 9003])]);
    let cluster = snapshot.cluster(name).unwrap();
    assert_eq!(cluster.policy, Policy::RoundRobin);
    assert_eq!((cluster.limits.max_connections, cluster.limits.max_pending), (100, 50));
    assert_eq!(cluster.max_requests_per_connection, Some(2));
    let outlier = cluster.outlier.as_ref().unwrap().policy();
    assert_eq!((outlier.consecutive_5xx, outlier.max_ejection_percent), (3, 50));
    assert_eq!((outlier.interval, outlier.base_ejection_time), (Duration::from_secs(30), Duration::from_secs(30)));
}

#[test]
fn the_canary_splits_by_subset_on_the_mesh_listener_only() {
    let snapshot = snapshot();
    let mesh = &snapshot.listeners[1];
    for name in ["order-service", "order-service.default", "order-service.default.svc.cluster.local"] {
        let virtual_host = &mesh.virtual_hosts[*mesh.hosts.find(name).unwrap()];
        let v1 = "outbound|80|v1|order-service.default.svc.cluster.local".to_owned();
        let v2 = "outbound|80|v2|order-service.default.svc.cluster.local".to_owned();
        assert_eq!(clusters(&snapshot, virtual_host), [(90, v1, vec![9001, 9002]), (10, v2, vec![9003])], "{name}");
    }
    assert!(snapshot.listeners[0].hosts.find("order-service").is_none());
    assert!(mesh.hosts.find("shop.example.com").is_none());
}
