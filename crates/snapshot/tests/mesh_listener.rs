//! Calls between services: who is reached by which name, and which virtual service decides.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::*;
use meshwright_model::{GatewayRef, Mesh, PortProtocol};
use meshwright_snapshot::ListenerKind;

fn mesh_bound(name: &str, hosts: &[&str], route: &str) -> meshwright_model::VirtualService {
    virtual_service(name, hosts, vec![GatewayRef::Mesh], vec![answer(route, vec![])])
}

#[test]
fn every_name_of_a_service_reaches_its_own_route() {
    let snapshot = snapshot(Mesh { services: vec![service("users", &[], &["10.0.0.1:9000"])], ..Mesh::default() });
    let mesh = listener(&snapshot, "mesh");
    assert_eq!(mesh.kind, ListenerKind::Mesh);
    for name in ["users", "users.default", "users.default.svc", "users.default.svc.cluster.local"] {
        assert_eq!(served(mesh, name, "/"), "default", "{name}");
    }
    assert_eq!(served(mesh, "elsewhere.org", "/"), "UnknownHost");
}

#[test]
fn a_short_name_means_the_service_of_our_namespace_first() {
    let services = vec![
        service_in("other", "users", &[80], &[]),
        service("users", &[80], &[]),
        service_in("other", "posts", &[80], &[]),
    ];
    let snapshot = snapshot(Mesh { services, ..Mesh::default() });
    let mesh = listener(&snapshot, "mesh");
    let cluster = |name: &str| destination(&snapshot, route(mesh, name, "/", 80).unwrap(), 80);
    assert_eq!(cluster("users"), "outbound|80||users.default.svc.cluster.local");
    assert_eq!(cluster("users.other"), "outbound|80||users.other.svc.cluster.local");
    assert_eq!(cluster("posts"), "outbound|80||posts.other.svc.cluster.local");
}

#[test]
fn a_virtual_service_replaces_the_own_route_of_its_service() {
    let mesh = Mesh {
        services: vec![service("users", &[80], &[]), service("posts", &[80], &[])],
        virtual_services: vec![virtual_service(
            "v",
            &["users"],
            vec![GatewayRef::Mesh],
            vec![answer("special", vec![prefix("/special")])],
        )],
        ..Mesh::default()
    };
    let snapshot = snapshot(mesh);
    let mesh = listener(&snapshot, "mesh");
    assert_eq!(served(mesh, "users", "/special"), "special");
    assert_eq!(served(mesh, "users", "/else"), "no route", "as in Istio, the own route does not stand behind it");
    assert_eq!(served(mesh, "posts", "/special"), "default");
}

#[test]
fn virtual_services_that_name_only_gateways_do_not_apply() {
    let mesh = Mesh {
        services: vec![service("users", &[80], &[])],
        virtual_services: vec![virtual_service(
            "v",
            &["users"],
            vec![gateway_ref("edge")],
            vec![answer("edge", vec![])],
        )],
        ..Mesh::default()
    };
    assert_eq!(served(listener(&snapshot(mesh), "mesh"), "users", "/"), "default");
}

#[test]
fn the_narrowest_host_decides_and_equals_are_merged() {
    let mesh = Mesh {
        services: vec![service("users", &[80], &[]), service("posts", &[80], &[])],
        virtual_services: vec![
            mesh_bound("wide", &["*.svc.cluster.local"], "wide"),
            virtual_service("first", &["users"], vec![GatewayRef::Mesh], vec![answer("one", vec![prefix("/1")])]),
            virtual_service(
                "second",
                &["users.default.svc.cluster.local"],
                vec![GatewayRef::Mesh],
                vec![answer("two", vec![prefix("/2")])],
            ),
            mesh_bound("narrower", &["*.default.svc.cluster.local"], "narrower"),
        ],
        ..Mesh::default()
    };
    let snapshot = snapshot(mesh);
    let mesh = listener(&snapshot, "mesh");
    assert_eq!(served(mesh, "users", "/1"), "one");
    assert_eq!(served(mesh, "users", "/2"), "two");
    assert_eq!(served(mesh, "users", "/3"), "no route");
    assert_eq!(served(mesh, "posts", "/"), "narrower");
}

#[test]
fn a_host_without_service_is_served_when_a_virtual_service_names_it() {
    let mesh = Mesh {
        services: vec![service("users", &[80], &[])],
        virtual_services: vec![
            mesh_bound("own", &["shop.example.com"], "own"),
            mesh_bound("short", &["nobody"], "short"),
            mesh_bound("wild", &["*.example.org"], "wild"),
        ],
        ..Mesh::default()
    };
    let snapshot = snapshot(mesh);
    let mesh = listener(&snapshot, "mesh");
    assert_eq!(served(mesh, "shop.example.com", "/"), "own");
    assert_eq!(served(mesh, "nobody", "/"), "short");
    assert_eq!(served(mesh, "nobody.default.svc.cluster.local", "/"), "short");
    assert_eq!(served(mesh, "a.example.org", "/"), "wild");
    assert_eq!(served(mesh, "example.org", "/"), "UnknownHost");
}

#[test]
fn a_wildcard_that_covers_services_does_not_open_other_names() {
    let mesh = Mesh {
        services: vec![service("users", &[80], &[])],
        virtual_services: vec![mesh_bound("wild", &["*.default.svc.cluster.local"], "wild")],
        ..Mesh::default()
    };
    let snapshot = snapshot(mesh);
    let mesh = listener(&snapshot, "mesh");
    assert_eq!(served(mesh, "users", "/"), "wild");
    assert_eq!(served(mesh, "nobody.default.svc.cluster.local", "/"), "UnknownHost");
}

#[test]
fn the_own_route_takes_the_only_http_port_or_the_port_of_the_request() {
    let mut mixed = service("mixed", &[8080, 9090], &[]);
    mixed.ports[1].protocol = PortProtocol::Other;
    let mut none = service("none", &[9090], &[]);
    none.ports[0].protocol = PortProtocol::Other;
    let services = vec![service("any", &[], &[]), mixed, service("two", &[80, 81], &[]), none];
    let snapshot = snapshot(Mesh { services, ..Mesh::default() });
    let mesh = listener(&snapshot, "mesh");
    let cluster = |name: &str, port: u16| destination(&snapshot, route(mesh, name, "/", port).unwrap(), port);
    assert_eq!(cluster("any", 80), "outbound|80||any.default.svc.cluster.local");
    assert_eq!(cluster("any", 4711), "outbound|80||any.default.svc.cluster.local");
    assert_eq!(cluster("mixed", 80), "outbound|8080||mixed.default.svc.cluster.local");
    assert_eq!(cluster("two", 81), "outbound|81||two.default.svc.cluster.local");
    assert_eq!(cluster("two", 82), "missing");
    assert_eq!(cluster("none", 9090), "missing");
}

#[test]
fn without_an_address_there_is_no_mesh_listener() {
    let mesh = Mesh { services: vec![service("users", &[80], &[])], ..Mesh::default() };
    let (snapshot, _) =
        meshwright_snapshot::compile(mesh, &[], &meshwright_snapshot::CompileOptions::default(), None).unwrap();
    assert!(snapshot.listeners.is_empty());
    assert_eq!(snapshot.clusters.len(), 1);
}
