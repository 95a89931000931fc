//! Where destinations lead, and which policy their clusters have.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::*;
use meshwright_model::{
    Algorithm, ConnectionPool, EndpointSet, GatewayRef, Mesh, OutlierDetection, PortPolicy, ServiceId, TrafficPolicy,
};
use meshwright_snapshot::{Action, Snapshot, Target};
use meshwright_traffic::{Limits, Policy};

fn to(destination: &str) -> meshwright_model::VirtualService {
    virtual_service("v", &["front"], vec![GatewayRef::Mesh], vec![forward("r", destination)])
}

fn target(snapshot: &Snapshot) -> Target {
    let route = route(listener(snapshot, "mesh"), "front", "/", 80).unwrap();
    let Action::Forward(forward) = &route.action else { panic!("{route:?}") };
    forward.destinations[0].target.clone()
}

fn lead(mesh: &Mesh, destination_text: &str) -> String {
    let mut mesh = mesh.clone();
    mesh.virtual_services = vec![to(destination_text)];
    let snapshot = snapshot(mesh);
    match target(&snapshot) {
        Target::Cluster(index) => snapshot.clusters[index].name.clone(),
        Target::ByPort(ports) => {
            let ports: Vec<String> =
                ports.iter().map(|(port, index)| format!("{port}={}", snapshot.clusters[*index].name)).collect();
            ports.join(" ")
        }
        Target::Missing => "missing".to_owned(),
    }
}

#[test]
fn destinations_lead_to_the_cluster_that_istio_would_name() {
    let mut rule = destination_rule("default", "users", TrafficPolicy::default());
    rule.subsets = vec![subset("v1", &[("version", "v1")])];
    let mesh = Mesh {
        services: vec![
            service("users", &[8080], &["10.0.0.1:9000"]),
            service("two", &[80, 81], &[]),
            service("flag", &[], &["10.0.0.2:9000"]),
        ],
        destination_rules: vec![rule],
        ..Mesh::default()
    };
    let table = [
        ("users", "outbound|8080||users.default.svc.cluster.local"),
        ("users:8080", "outbound|8080||users.default.svc.cluster.local"),
        ("users.default.svc.cluster.local", "outbound|8080||users.default.svc.cluster.local"),
        ("users/v1", "outbound|8080|v1|users.default.svc.cluster.local"),
        ("users:8080/v1", "outbound|8080|v1|users.default.svc.cluster.local"),
        ("users:9999", "missing"),
        ("users/v9", "missing"),
        ("nobody", "missing"),
        ("two", "80=outbound|80||two.default.svc.cluster.local 81=outbound|81||two.default.svc.cluster.local"),
        ("two:81", "outbound|81||two.default.svc.cluster.local"),
        ("flag", "outbound|80||flag.default.svc.cluster.local"),
        ("flag:4711", "outbound|4711||flag.default.svc.cluster.local"),
        ("flag/v1", "missing"),
    ];
    for (destination, expected) in table {
        assert_eq!(lead(&mesh, destination), expected, "{destination}");
    }
}

#[test]
fn subsets_select_endpoints_by_labels_and_duplicates_count_once() {
    let mut rule = destination_rule("default", "users", TrafficPolicy::default());
    rule.subsets = vec![subset("v1", &[("version", "v1")]), subset("all", &[]), subset("none", &[("version", "v9")])];
    let endpoints =
        ["10.0.0.1:9000;version=v1;weight=3", "10.0.0.2:9000;version=v2", "10.0.0.1:9000;version=v1", "10.0.0.3:9000"];
    let mesh =
        Mesh { services: vec![service("users", &[80], &endpoints)], destination_rules: vec![rule], ..Mesh::default() };
    let snapshot = snapshot(mesh);
    let addresses = |subset: &str| -> Vec<String> {
        let cluster = snapshot.cluster(&format!("outbound|80|{subset}|users.default.svc.cluster.local")).unwrap();
        cluster.addresses.iter().map(ToString::to_string).collect()
    };
    assert_eq!(addresses("v1"), ["10.0.0.1:9000"]);
    assert_eq!(addresses("all"), ["10.0.0.1:9000", "10.0.0.2:9000", "10.0.0.3:9000"]);
    assert_eq!(addresses(""), addresses("all"));
    assert!(addresses("none").is_empty());
    let cluster = snapshot.cluster("outbound|80|v1|users.default.svc.cluster.local").unwrap();
    assert_eq!(cluster.hosts.hosts()[0].weight, 3);
    assert_eq!(cluster.labels_of[0], labels(&[("version", "v1")]));
    assert_eq!((cluster.labels.version.as_str(), cluster.labels.service_name.as_str()), ("v1", "users"));
    let all = snapshot.cluster("outbound|80||users.default.svc.cluster.local").unwrap();
    assert_eq!(all.labels.version, "unknown", "the hosts do not agree");
}

#[test]
fn hosts_of_one_address_share_their_facts_over_the_clusters_of_a_service() {
    let mut rule = destination_rule("default", "users", TrafficPolicy::default());
    rule.subsets = vec![subset("all", &[])];
    let mesh = Mesh {
        services: vec![service("users", &[80], &["10.0.0.1:9000"]), service("other", &[80], &["10.0.0.1:9000"])],
        destination_rules: vec![rule],
        ..Mesh::default()
    };
    let snapshot = snapshot(mesh);
    let host = |name: &str| snapshot.cluster(name).unwrap().hosts.hosts()[0].clone();
    let plain = host("outbound|80||users.default.svc.cluster.local");
    let subset = host("outbound|80|all|users.default.svc.cluster.local");
    let other = host("outbound|80||other.default.svc.cluster.local");
    assert!(std::sync::Arc::ptr_eq(&plain.state, &subset.state));
    assert!(!std::sync::Arc::ptr_eq(&plain.verdict, &subset.verdict));
    assert!(!std::sync::Arc::ptr_eq(&plain.state, &other.state));
}

#[test]
fn defaults_are_those_of_istio() {
    let snapshot = snapshot(Mesh { services: vec![service("users", &[80], &["10.0.0.1:9000"])], ..Mesh::default() });
    let cluster = &snapshot.clusters[0];
    assert_eq!(cluster.policy, Policy::LeastRequest);
    assert_eq!(cluster.limits, Limits::default());
    assert_eq!(cluster.connect_timeout, Duration::from_secs(10));
    assert_eq!(cluster.idle_timeout, Some(Duration::from_secs(3600)));
    assert!(cluster.outlier.is_none());
    assert_eq!(cluster.hosts.min_health_percent(), 50);
    assert_eq!((cluster.max_requests_per_connection, cluster.max_connection_duration), (None, None));
}

fn pool(max_connections: u32) -> Option<ConnectionPool> {
    Some(ConnectionPool { max_connections: Some(max_connections), ..ConnectionPool::default() })
}

#[test]
fn blocks_of_a_subset_replace_whole_blocks_and_port_settings_replace_everything_at_their_level() {
    let mut rule = destination_rule(
        "default",
        "users",
        TrafficPolicy {
            load_balancer: Some(Algorithm::RoundRobin.into()),
            connection_pool: Some(ConnectionPool { max_retries: Some(3), ..pool(10).unwrap() }),
            outlier_detection: Some(OutlierDetection::default()),
            port_level: vec![PortPolicy {
                port: 81,
                load_balancer: Some(Algorithm::Random.into()),
                connection_pool: None,
                outlier_detection: None,
                tls: None,
            }],
            ..TrafficPolicy::default()
        },
    );
    let mut tuned = subset("tuned", &[]);
    tuned.traffic_policy.connection_pool = pool(20);
    rule.subsets = vec![subset("plain", &[]), tuned];
    let mesh = Mesh {
        services: vec![service("users", &[80, 81], &["10.0.0.1:9000"])],
        destination_rules: vec![rule],
        ..Mesh::default()
    };
    let snapshot = snapshot(mesh);
    let seen = |port: u16, subset: &str| {
        let cluster = snapshot.cluster(&format!("outbound|{port}|{subset}|users.default.svc.cluster.local")).unwrap();
        (cluster.policy, cluster.limits.max_connections, cluster.limits.max_retries, cluster.outlier.is_some())
    };
    let unlimited = u32::MAX;
    assert_eq!(seen(80, ""), (Policy::RoundRobin, 10, 3, true));
    assert_eq!(seen(80, "plain"), (Policy::RoundRobin, 10, 3, true));
    assert_eq!(seen(80, "tuned"), (Policy::RoundRobin, 20, unlimited, true), "the block is replaced, not merged");
    assert_eq!(seen(81, ""), (Policy::Random, unlimited, unlimited, false), "absent blocks fall back to defaults");
    assert_eq!(seen(81, "tuned"), (Policy::Random, 20, unlimited, false));
}

#[test]
fn any_outlier_detection_switches_the_panic_threshold_to_its_own() {
    let outlier = OutlierDetection { consecutive_5xx: 7, min_health_percent: 30, ..OutlierDetection::default() };
    let policy = TrafficPolicy { outlier_detection: Some(outlier), ..TrafficPolicy::default() };
    let mesh = Mesh {
        services: vec![service("users", &[80], &["10.0.0.1:9000"])],
        destination_rules: vec![destination_rule("default", "users", policy)],
        ..Mesh::default()
    };
    let snapshot = snapshot(mesh);
    let cluster = &snapshot.clusters[0];
    assert_eq!(cluster.hosts.min_health_percent(), 30);
    assert_eq!(cluster.outlier.as_ref().unwrap().policy().consecutive_5xx, 7);
}

#[test]
fn zero_counts_as_unset_and_an_idle_time_of_zero_is_for_ever() {
    let pool = ConnectionPool {
        max_connections: Some(0),
        max_requests_per_connection: Some(0),
        idle_timeout: Some(Duration::ZERO),
        ..ConnectionPool::default()
    };
    let policy = TrafficPolicy { connection_pool: Some(pool), ..TrafficPolicy::default() };
    let mesh = Mesh {
        services: vec![service("users", &[80], &["10.0.0.1:9000"])],
        destination_rules: vec![destination_rule("default", "users", policy)],
        ..Mesh::default()
    };
    let cluster = &snapshot(mesh).clusters[0];
    assert_eq!((cluster.limits.max_connections, cluster.max_requests_per_connection), (u32::MAX, None));
    assert_eq!(cluster.idle_timeout, None);
}

#[test]
fn rules_are_looked_up_in_our_namespace_then_the_services_then_the_root_namespace() {
    let users = || service_in("shop", "users", &[80], &["10.0.0.1:9000"]);
    let limit = |rules: &[(&str, &str, u32)]| {
        let rules = rules.iter().map(|(namespace, host, limit)| {
            let policy = TrafficPolicy { connection_pool: pool(*limit), ..TrafficPolicy::default() };
            destination_rule(namespace, host, policy)
        });
        let mesh = Mesh { services: vec![users()], destination_rules: rules.collect(), ..Mesh::default() };
        let (snapshot, warnings) = compiled(mesh);
        let unused = warnings.iter().filter(|warning| warning.code == "destination-rule-unused").count();
        (snapshot.clusters[0].limits.max_connections, unused)
    };
    let fqdn = "users.shop.svc.cluster.local";
    assert_eq!(limit(&[("istio-system", fqdn, 1)]), (1, 0));
    assert_eq!(limit(&[("istio-system", fqdn, 1), ("shop", "users", 2)]), (2, 1));
    assert_eq!(
        limit(&[("istio-system", fqdn, 1), ("shop", "users", 2), ("default", "*.svc.cluster.local", 3)]),
        (3, 2)
    );
    assert_eq!(limit(&[("shop", "*.cluster.local", 1), ("shop", "*.shop.svc.cluster.local", 2)]), (2, 1));
    assert_eq!(limit(&[("shop", "*", 1), ("shop", "users", 2)]), (2, 1));
    assert_eq!(limit(&[("shop", "users", 1), ("shop", fqdn, 2)]), (1, 1), "of equals the earlier");
    assert_eq!(limit(&[("elsewhere", fqdn, 1)]), (u32::MAX, 1), "a rule of a third namespace is said to be unused");
}

#[test]
fn endpoints_that_were_resolved_replace_the_configured_ones() {
    let mesh = Mesh { services: vec![service("users", &[80], &["10.0.0.1:9000"])], ..Mesh::default() };
    let set = EndpointSet {
        service: ServiceId(0),
        addresses: vec![(0, vec![ip("10.0.0.8"), ip("10.0.0.9")]), (5, vec![ip("10.0.0.7")])],
        registered: Vec::new(),
    };
    let (snapshot, _) = meshwright_snapshot::compile(mesh, &[set], &mesh_options(), None).unwrap();
    let addresses: Vec<String> = snapshot.clusters[0].addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.0.0.8:9000", "10.0.0.9:9000"], "an endpoint that is not configured is left out");
}
