//! Properties of compilation over random meshes, against slow definitions of the same rules.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::*;
use meshwright_model::{EndpointSet, GatewayRef, Mesh, ServiceId, host};
use meshwright_snapshot::{Action, Listener, Snapshot, Target, compile};
use proptest::prelude::*;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const PATTERNS: [&str; 8] = ["*", "*.t", "*.x.t", "a.t", "a.x.t", "b.x.t", "b.a.x.t", "x.t"];
const PROBES: [&str; 7] = ["a.t", "a.x.t", "b.x.t", "b.a.x.t", "x.t", "t", "z.t"];

fn patterns(most: usize) -> impl Strategy<Value = Vec<&'static str>> {
    prop::sample::subsequence(PATTERNS.to_vec(), 1..=most)
}

fn services() -> impl Strategy<Value = Vec<meshwright_model::Service>> {
    let ports = prop::sample::subsequence(vec![80u16, 81, 82], 0..=3);
    let endpoints = prop::collection::vec((1u8..6, prop::bool::ANY), 0..5);
    let one = (ports, endpoints);
    prop::collection::vec(one, 1..=4).prop_map(|all| {
        let build = |index: usize, ports: Vec<u16>, endpoints: Vec<(u8, bool)>| {
            let endpoints: Vec<String> = endpoints
                .iter()
                .map(|(last, new)| format!("10.0.0.{last}:9000;version={}", if *new { "v2" } else { "v1" }))
                .collect();
            let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
            service(NAMES[index], &ports, &endpoints)
        };
        all.into_iter().enumerate().map(|(index, (ports, endpoints))| build(index, ports, endpoints)).collect()
    })
}

fn meshes() -> impl Strategy<Value = Mesh> {
    let destinations = prop::sample::select(vec!["a", "b:80", "c/v1", "d:81/v2", "a.default", "nobody", "b:4711/v1"]);
    let route = (destinations, prop::sample::select(vec!["/", "/a", "/b"]));
    let drawn = (patterns(3), prop::collection::vec(route, 1..4), 0u8..3);
    let rules = prop::sample::subsequence(vec!["a", "b", "*.default.svc.cluster.local"], 0..=3);
    (services(), prop::collection::vec(drawn, 0..5), rules, patterns(3)).prop_map(
        |(services, virtual_services, rules, server_hosts)| {
            let virtual_services = virtual_services.into_iter().enumerate().map(|(index, (hosts, routes, bound))| {
                let http = routes.into_iter().map(|(destination, path)| {
                    let mut route = forward(&format!("v{index}"), destination);
                    route.matches = vec![prefix(path)];
                    route
                });
                let gateways = match bound {
                    0 => vec![gateway_ref("edge")],
                    1 => vec![GatewayRef::Mesh],
                    _ => vec![gateway_ref("edge"), GatewayRef::Mesh],
                };
                virtual_service(&format!("v{index}"), &hosts, gateways, http.collect())
            });
            let destination_rules = rules.into_iter().map(|name| {
                let mut rule = destination_rule("default", name, Default::default());
                rule.subsets = vec![subset("v1", &[("version", "v1")]), subset("v2", &[("version", "v2")])];
                rule
            });
            Mesh {
                gateways: vec![gateway("edge", &[(80, &server_hosts)])],
                virtual_services: virtual_services.collect(),
                destination_rules: destination_rules.collect(),
                services,
                ..Mesh::default()
            }
        },
    )
}

/// Indexes in range, names unique, addresses unique and parallel, one set per service.
fn check_whole(snapshot: &Snapshot) {
    let names: BTreeSet<&str> = snapshot.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    assert_eq!(names.len(), snapshot.clusters.len());
    for cluster in &snapshot.clusters {
        let addresses: BTreeSet<_> = cluster.addresses.iter().collect();
        assert_eq!(addresses.len(), cluster.hosts.hosts().len(), "{}", cluster.name);
        assert_eq!(cluster.addresses.len(), cluster.labels_of.len());
    }
    assert_eq!(snapshot.resolved.len(), snapshot.mesh.services.len());
    for listener in &snapshot.listeners {
        for virtual_host in &listener.virtual_hosts {
            assert_eq!(virtual_host.table.is_empty(), virtual_host.routes.is_empty());
            for route in &virtual_host.routes {
                let Action::Forward(forward) = &route.action else { continue };
                assert!(forward.total_weight > 0);
                for destination in &forward.destinations {
                    match &destination.target {
                        Target::Cluster(index) => assert!(*index < snapshot.clusters.len()),
                        Target::ByPort(ports) => {
                            assert!(ports.iter().all(|(port, index)| snapshot.clusters[*index].port == *port));
                        }
                        Target::Missing => {}
                    }
                }
            }
        }
    }
}

/// Names of the virtual services that a gateway serves for `asked`, by going through every pair of hosts.
fn bound_by_definition(mesh: &Mesh, asked: &str) -> BTreeSet<String> {
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for virtual_service in mesh.virtual_services.iter().filter(|one| one.gateways.contains(&gateway_ref("edge"))) {
        for own in &virtual_service.hosts {
            for server_host in &mesh.gateways[0].servers[0].hosts {
                if let Some(narrower) = host::intersection(own, &server_host.pattern) {
                    pairs.push((narrower, &virtual_service.name));
                }
            }
        }
    }
    let rank = |pattern: &str| if pattern.starts_with('*') { pattern.len() } else { usize::MAX };
    let best = pairs.iter().filter(|(pattern, _)| host::covers(pattern, asked)).map(|(pattern, _)| rank(pattern)).max();
    let chosen = pairs.iter().filter(|(pattern, _)| host::covers(pattern, asked) && Some(rank(pattern)) == best);
    chosen.map(|(_, name)| (*name).to_owned()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_compilation_is_whole_and_the_same_again_changes_no_cluster(mesh in meshes()) {
        let first = compile(mesh.clone(), &[], &mesh_options(), None).unwrap().0;
        check_whole(&first);
        let second = compile(mesh, &[], &mesh_options(), Some(&first)).unwrap().0;
        check_whole(&second);
        prop_assert_eq!(first.clusters.len(), second.clusters.len());
        for (before, after) in first.clusters.iter().zip(&second.clusters) {
            prop_assert!(Arc::ptr_eq(before, after), "{}", before.name);
        }
        for (before, after) in first.listeners.iter().zip(&second.listeners) {
            prop_assert_eq!((&before.name, before.bind), (&after.name, after.bind));
            let contents = |listener: &Listener| -> Vec<String> {
                let hosts = listener.virtual_hosts.iter();
                hosts.map(|host| format!("{} {} {:?}", host.name, host.https_redirect, host.routes)).collect()
            };
            prop_assert_eq!(contents(before), contents(after));
            for asked in PROBES.iter().chain(&NAMES) {
                prop_assert_eq!(before.hosts.find(asked), after.hosts.find(asked));
            }
        }
    }

    #[test]
    fn from_one_mesh_to_another_the_result_is_that_of_a_fresh_start(before in meshes(), after in meshes()) {
        let first = compile(before, &[], &mesh_options(), None).unwrap().0;
        let carried = compile(after.clone(), &[], &mesh_options(), Some(&first)).unwrap().0;
        let fresh = compile(after, &[], &mesh_options(), None).unwrap().0;
        check_whole(&carried);
        prop_assert_eq!(carried.clusters.len(), fresh.clusters.len());
        for (one, other) in carried.clusters.iter().zip(&fresh.clusters) {
            prop_assert_eq!(&one.name, &other.name);
            prop_assert_eq!(&one.addresses, &other.addresses);
            prop_assert_eq!(one.policy, other.policy);
            let weights = |cluster: &meshwright_snapshot::Cluster| -> Vec<u32> {
                cluster.hosts.hosts().iter().map(|host| host.weight).collect()
            };
            prop_assert_eq!(weights(one), weights(other));
        }
    }

    #[test]
    fn changed_endpoints_give_what_a_compilation_with_them_gives(
        mesh in meshes(),
        addresses in prop::collection::vec(1u8..6, 0..4),
        which in 0usize..6,
    ) {
        let ips = addresses.iter().map(|last| ip(&format!("10.0.9.{last}"))).collect();
        let set = EndpointSet { service: ServiceId(which), addresses: vec![(0, ips)], registered: Vec::new() };
        let first = compile(mesh.clone(), &[], &mesh_options(), None).unwrap().0;
        let changed = first.with_endpoints(std::slice::from_ref(&set));
        let compiled = compile(mesh, std::slice::from_ref(&set), &mesh_options(), None).unwrap().0;
        check_whole(&changed);
        for (one, other) in changed.clusters.iter().zip(&compiled.clusters) {
            prop_assert_eq!(&one.name, &other.name);
            prop_assert_eq!(&one.addresses, &other.addresses);
        }
        for (index, service) in changed.mesh.services.iter().enumerate().filter(|(index, _)| *index != which) {
            for cluster in changed.clusters_of(&service.host) {
                prop_assert!(Arc::ptr_eq(cluster, first.cluster(&cluster.name).unwrap()), "service {index}");
            }
        }
    }

    #[test]
    fn a_gateway_serves_exactly_what_the_definition_says(mesh in meshes()) {
        let snapshot = compile(mesh.clone(), &[], &mesh_options(), None).unwrap().0;
        let edge = listener(&snapshot, "0.0.0.0_80");
        for asked in PROBES {
            let served: BTreeSet<String> = match edge.hosts.find(asked) {
                None => BTreeSet::new(),
                Some(index) => edge.virtual_hosts[*index].routes.iter().map(|route| route.name.clone()).collect(),
            };
            prop_assert_eq!(served, bound_by_definition(&mesh, asked), "{}", asked);
        }
    }

    #[test]
    fn tickets_choose_destinations_by_their_weights(weights in prop::collection::vec(0u32..9, 1..6)) {
        let total: u32 = weights.iter().sum();
        prop_assume!(total > 0);
        let mut mesh = Mesh { services: vec![service("a", &[80], &[])], ..Mesh::default() };
        let mut route = forward("r", "a");
        if let meshwright_model::RouteAction::Forward(destinations) = &mut route.action {
            let one = destinations[0].clone();
            *destinations = weights.iter().map(|weight| {
                let mut next = one.clone();
                next.weight = *weight;
                next
            }).collect();
        }
        mesh.virtual_services = vec![virtual_service("v", &["a"], vec![GatewayRef::Mesh], vec![route])];
        let snapshot = snapshot(mesh);
        let Action::Forward(forward) = &snapshot.listeners[0].virtual_hosts[0].routes[0].action else { unreachable!() };
        let mut chosen = vec![0u32; weights.len()];
        for ticket in 0..forward.total_weight {
            let pick = forward.choose(ticket);
            let index = forward.destinations.iter().position(|one| std::ptr::eq(one, pick)).unwrap();
            chosen[index] += 1;
        }
        prop_assert_eq!(chosen, weights);
    }
}
