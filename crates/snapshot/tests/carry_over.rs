//! What of the running state survives a new snapshot.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::sync::Arc;
use std::time::Instant;

use common::*;
use meshwright_model::{Algorithm, ConnectionPool, EndpointSet, Mesh, OutlierDetection, ServiceId, TrafficPolicy};
use meshwright_snapshot::{Cluster, Snapshot, compile};
use meshwright_traffic::{AdminState, Comeback, EjectionKind, Observation, Unreachable};

const USERS: &str = "outbound|80||users.default.svc.cluster.local";

fn mesh(endpoints: &[&str], policy: TrafficPolicy) -> Mesh {
    Mesh {
        services: vec![service("users", &[80], endpoints), service("posts", &[80], &["10.0.1.1:9000"])],
        destination_rules: vec![destination_rule("default", "users", policy)],
        ..Mesh::default()
    }
}

fn next(mesh: Mesh, previous: &Snapshot) -> Snapshot {
    compile(mesh, &[], &mesh_options(), Some(previous)).unwrap().0
}

fn users(snapshot: &Snapshot) -> &Arc<Cluster> {
    snapshot.cluster(USERS).unwrap()
}

fn ejecting() -> TrafficPolicy {
    let outlier = OutlierDetection { consecutive_5xx: 1, max_ejection_percent: 100, ..OutlierDetection::default() };
    TrafficPolicy { outlier_detection: Some(outlier), ..TrafficPolicy::default() }
}

/// Ejects host `index`.
fn eject(cluster: &Cluster, index: usize) {
    let (outlier, error) = (cluster.outlier.as_ref().unwrap(), Observation::Status(500));
    let event = outlier.observe(&cluster.hosts, index, error, Instant::now(), &mut fastrand::Rng::with_seed(1));
    assert!(event.is_some());
    assert!(cluster.hosts.hosts()[index].verdict.is_ejected());
}

#[test]
fn the_same_configuration_again_keeps_every_cluster_and_counts_on() {
    let first = snapshot(mesh(&["10.0.0.1:9000"], ejecting()));
    let second = next(mesh(&["10.0.0.1:9000"], ejecting()), &first);
    assert_eq!((first.number, first.generation), (1, 1));
    assert_eq!((second.number, second.generation), (2, 2));
    for (before, after) in first.clusters.iter().zip(&second.clusters) {
        assert!(Arc::ptr_eq(before, after), "{}", before.name);
    }
}

#[test]
fn a_cluster_stays_the_same_when_another_service_comes_before_it() {
    let first = snapshot(mesh(&["10.0.0.1:9000"], ejecting()));
    let mut changed = mesh(&["10.0.0.1:9000"], ejecting());
    changed.services.insert(0, service("added", &[80], &["10.0.2.1:9000"]));
    let second = next(changed, &first);
    assert!(Arc::ptr_eq(users(&first), users(&second)));
    assert_eq!(second.clusters.len(), first.clusters.len() + 1);
}

#[test]
fn a_changed_policy_keeps_hosts_verdicts_and_usage() {
    let limited = |limit: u32| TrafficPolicy {
        connection_pool: Some(ConnectionPool { max_requests: Some(limit), ..ConnectionPool::default() }),
        ..ejecting()
    };
    let first = snapshot(mesh(&["10.0.0.1:9000", "10.0.0.2:9000"], limited(10)));
    let before = users(&first);
    assert!(before.usage.try_request(&before.limits));
    before.hosts.hosts()[0].state.set_admin(AdminState::Draining);
    eject(before, 1);
    let second = next(mesh(&["10.0.0.1:9000", "10.0.0.2:9000"], limited(20)), &first);
    let after = users(&second);
    assert!(!Arc::ptr_eq(before, after));
    assert_eq!(after.limits.max_requests, 20);
    assert_eq!(after.usage.requests(), 1);
    assert_eq!(after.hosts.hosts()[0].state.admin(), AdminState::Draining);
    assert!(after.hosts.hosts()[1].verdict.is_ejected());
    assert!(Arc::ptr_eq(before.outlier.as_ref().unwrap(), after.outlier.as_ref().unwrap()), "its policy is the same");
    assert!(Arc::ptr_eq(&before.labels, &after.labels));
}

#[test]
fn a_changed_detector_keeps_the_verdicts() {
    let first = snapshot(mesh(&["10.0.0.1:9000"], ejecting()));
    eject(users(&first), 0);
    let mut policy = ejecting();
    policy.outlier_detection.as_mut().unwrap().consecutive_5xx = 9;
    let second = next(mesh(&["10.0.0.1:9000"], policy), &first);
    assert!(users(&second).hosts.hosts()[0].verdict.is_ejected());
    assert_eq!(users(&second).outlier.as_ref().unwrap().policy().consecutive_5xx, 9);
}

#[test]
fn without_outlier_detection_nobody_stays_ejected() {
    let first = snapshot(mesh(&["10.0.0.1:9000"], ejecting()));
    eject(users(&first), 0);
    let second = next(mesh(&["10.0.0.1:9000"], TrafficPolicy::default()), &first);
    assert!(users(&second).outlier.is_none());
    assert!(users(&second).hosts.hosts()[0].is_available());
}

/// A refused connection takes host `index` out.
fn refuse(cluster: &Cluster, index: usize) -> Comeback {
    let mut rng = fastrand::Rng::with_seed(1);
    let told = cluster.unreachable.refused(&cluster.hosts, index, Unreachable::Refused, Instant::now(), &mut rng);
    told.and_then(|(_, comeback)| comeback).expect("it is out")
}

#[test]
fn a_host_that_refuses_connections_stays_out_until_a_probe_or_until_it_leaves() {
    let first = snapshot(mesh(&["10.0.0.1:9000", "10.0.0.2:9000"], TrafficPolicy::default()));
    let comeback = refuse(users(&first), 0);
    let second = next(mesh(&["10.0.0.2:9000", "10.0.0.1:9000", "10.0.0.3:9000"], TrafficPolicy::default()), &first);
    assert_eq!(users(&second).hosts.hosts()[1].verdict.away().map(|away| away.failed_probes), Some(0));
    drop(first);
    let limited = OutlierDetection { max_ejection_percent: 70, ..OutlierDetection::default() };
    let limited = TrafficPolicy { outlier_detection: Some(limited), ..TrafficPolicy::default() };
    let third = next(mesh(&["10.0.0.1:9000", "10.0.0.2:9000", "10.0.0.3:9000"], limited), &second);
    drop(second);
    let cluster = users(&third);
    assert_eq!(cluster.unreachable.policy().max_ejection_percent, 70);
    assert_eq!(cluster.unreachable.ejections().ejected(EjectionKind::Unreachable), 1, "it counts on");
    let other = refuse(cluster, 1);
    assert!(Arc::ptr_eq(cluster.unreachable.ejections(), cluster.outlier.as_ref().unwrap().ejections()));
    assert!(comeback.probed(true, Instant::now(), &mut fastrand::Rng::with_seed(1)));
    assert_eq!(cluster.hosts.healthy(), 2);
    assert!(other.poll_timeout().is_some());
    let fourth = next(mesh(&["10.0.0.1:9000"], TrafficPolicy::default()), &third);
    drop(third);
    assert_eq!((other.poll_timeout(), users(&fourth).hosts.healthy()), (None, 1));
}

#[test]
fn hosts_are_recognised_by_address_in_whatever_order_they_come() {
    let first = snapshot(mesh(&["10.0.0.1:9000", "10.0.0.2:9000"], ejecting()));
    eject(users(&first), 0);
    users(&first).hosts.hosts()[0].state.acquire();
    let second = next(mesh(&["10.0.0.3:9000", "10.0.0.1:9000;weight=5"], ejecting()), &first);
    let after = users(&second);
    let index = after.host_at("10.0.0.1:9000".parse().unwrap()).unwrap();
    assert_eq!(index, 1);
    assert!(after.hosts.hosts()[1].verdict.is_ejected());
    assert_eq!((after.hosts.hosts()[1].state.in_flight(), after.hosts.hosts()[1].weight), (1, 5));
    assert!(after.hosts.hosts()[0].is_available());
    let third = next(mesh(&["10.0.0.2:9000"], ejecting()), &second);
    assert!(users(&third).hosts.hosts()[0].is_available(), "who was away starts fresh");
}

#[test]
fn a_refused_configuration_leaves_the_snapshot_before_untouched() {
    let first = snapshot(mesh(&["10.0.0.1:9000"], ejecting()));
    let mut bad =
        mesh(&["10.0.0.9:9000"], TrafficPolicy { load_balancer: Some(Algorithm::Random.into()), ..ejecting() });
    bad.gateways = vec![gateway("edge", &[(80, &["*"]), (8080, &["*"])])];
    let mut options = mesh_options();
    options.port_map.insert(80, 8080);
    assert!(compile(bad, &[], &options, Some(&first)).is_err());
    assert_eq!(users(&first).addresses, ["10.0.0.1:9000".parse().unwrap()]);
}

#[test]
fn other_endpoints_share_everything_but_the_clusters_of_their_service() {
    let first = snapshot(mesh(&["10.0.0.1:9000"], ejecting()));
    users(&first).hosts.hosts()[0].state.acquire();
    let set = EndpointSet {
        service: ServiceId(0),
        addresses: vec![(0, vec![ip("10.0.0.2"), ip("10.0.0.1")])],
        registered: Vec::new(),
    };
    let second = first.with_endpoints(std::slice::from_ref(&set));
    assert_eq!((second.number, second.generation), (2, 1));
    assert_eq!(users(&second).addresses.len(), 2);
    assert_eq!(users(&second).hosts.hosts()[1].state.in_flight(), 1);
    assert!(Arc::ptr_eq(&users(&first).usage, &users(&second).usage));
    let posts = "outbound|80||posts.default.svc.cluster.local";
    assert!(Arc::ptr_eq(first.cluster(posts).unwrap(), second.cluster(posts).unwrap()));
    assert!(Arc::ptr_eq(&first.mesh, &second.mesh));
    assert!(first.listeners.iter().zip(&second.listeners).all(|(before, after)| Arc::ptr_eq(before, after)));
    let third = second.with_endpoints(&[set]);
    assert_eq!(third.number, 3);
    assert!(Arc::ptr_eq(users(&second), users(&third)), "the same endpoints again are the same cluster");
}

#[test]
fn endpoints_of_a_service_that_is_not_there_change_nothing() {
    let first = snapshot(mesh(&["10.0.0.1:9000"], ejecting()));
    let stray =
        EndpointSet { service: ServiceId(99), addresses: vec![(0, vec![ip("10.0.0.2")])], registered: Vec::new() };
    let second = first.with_endpoints(&[stray]);
    assert!(first.clusters.iter().zip(&second.clusters).all(|(before, after)| Arc::ptr_eq(before, after)));
}
