//! Which virtual services are served on which listener, and in which order their rules are asked.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::*;
use meshwright_model::{GatewayRef, HttpMatch, Mesh, Severity};
use meshwright_snapshot::{CompileOptions, ListenerKind, compile};

#[test]
fn a_virtual_service_is_served_where_a_host_of_it_meets_a_host_of_the_gateway() {
    let table: &[(&str, &str, &str, &str)] = &[
        // host of the server, host of the virtual service, host asked for, what happens
        ("api.example.com", "api.example.com", "api.example.com", "all"),
        ("api.example.com", "*", "api.example.com", "all"),
        ("api.example.com", "*", "other.example.com", "NoRoute"),
        ("*", "api.example.com", "api.example.com", "all"),
        ("*", "api.example.com", "other.example.com", "NoRoute"),
        ("*.example.com", "*.api.example.com", "v1.api.example.com", "all"),
        ("*.example.com", "*.api.example.com", "web.example.com", "NoRoute"),
        ("*.example.com", "example.com", "example.com", "NoRoute"),
        ("*.example.com", "*.example.org", "a.example.com", "NoRoute"),
        ("default/*", "api.example.com", "api.example.com", "all"),
        ("other/*", "api.example.com", "api.example.com", "NoRoute"),
    ];
    for (server_host, host, asked, expected) in table {
        let mesh = Mesh {
            gateways: vec![gateway("edge", &[(80, &[server_host])])],
            virtual_services: vec![virtual_service(
                "v",
                &[host],
                vec![gateway_ref("edge")],
                vec![answer("all", vec![])],
            )],
            ..Mesh::default()
        };
        let snapshot = snapshot(mesh);
        let served = served(listener(&snapshot, "0.0.0.0_80"), asked, "/");
        assert_eq!(served, *expected, "server {server_host}, virtual service {host}, asked {asked}");
    }
}

#[test]
fn virtual_services_of_the_mesh_are_not_served_at_a_gateway() {
    let mesh = Mesh {
        gateways: vec![gateway("edge", &[(80, &["*"])])],
        virtual_services: vec![virtual_service("v", &["a.test"], vec![GatewayRef::Mesh], vec![answer("all", vec![])])],
        ..Mesh::default()
    };
    assert_eq!(served(listener(&snapshot(mesh), "0.0.0.0_80"), "a.test", "/"), "NoRoute");
}

#[test]
fn a_short_host_is_served_at_a_gateway_by_every_name_of_the_service() {
    let mesh = Mesh {
        gateways: vec![gateway("edge", &[(80, &["*"])])],
        services: vec![service("users", &[80], &["10.0.0.1:9000"])],
        virtual_services: vec![virtual_service(
            "v",
            &["users"],
            vec![gateway_ref("edge")],
            vec![answer("all", vec![])],
        )],
        ..Mesh::default()
    };
    let snapshot = snapshot(mesh);
    for name in ["users", "users.default", "users.default.svc", "users.default.svc.cluster.local"] {
        assert_eq!(served(listener(&snapshot, "0.0.0.0_80"), name, "/"), "all", "{name}");
    }
}

#[test]
fn the_most_specific_host_wins_and_does_not_fall_through() {
    let edge = || vec![gateway_ref("edge")];
    let mesh = Mesh {
        gateways: vec![gateway("edge", &[(80, &["*"])])],
        virtual_services: vec![
            virtual_service("wide", &["*"], edge(), vec![answer("wide", vec![])]),
            virtual_service("middle", &["*.example.com"], edge(), vec![answer("middle", vec![])]),
            virtual_service("narrow", &["api.example.com"], edge(), vec![answer("narrow", vec![prefix("/v1")])]),
        ],
        ..Mesh::default()
    };
    let snapshot = snapshot(mesh);
    let edge = listener(&snapshot, "0.0.0.0_80");
    assert_eq!(served(edge, "elsewhere.org", "/v1"), "wide");
    assert_eq!(served(edge, "web.example.com", "/v1"), "middle");
    assert_eq!(served(edge, "api.example.com", "/v1"), "narrow");
    assert_eq!(served(edge, "api.example.com", "/v2"), "no route");
}

#[test]
fn virtual_services_of_one_host_are_merged_with_what_matches_everything_last() {
    let edge = || vec![gateway_ref("edge")];
    let mesh = Mesh {
        gateways: vec![gateway("edge", &[(80, &["a.test"])])],
        virtual_services: vec![
            virtual_service(
                "first",
                &["a.test"],
                edge(),
                vec![
                    answer("one", vec![prefix("/one")]),
                    answer("mixed", vec![exact("/mixed"), prefix("/")]),
                    answer("dead", vec![exact("/two")]),
                ],
            ),
            virtual_service(
                "second",
                &["a.test"],
                edge(),
                vec![answer("two", vec![prefix("/two")]), answer("rest", vec![])],
            ),
        ],
        ..Mesh::default()
    };
    let snapshot = snapshot(mesh);
    let edge = listener(&snapshot, "0.0.0.0_80");
    assert_eq!(served(edge, "a.test", "/one"), "one");
    assert_eq!(served(edge, "a.test", "/mixed"), "mixed");
    assert_eq!(served(edge, "a.test", "/two"), "two", "what stood behind a match of everything stays unreachable");
    assert_eq!(served(edge, "a.test", "/three"), "mixed", "the earlier catch-all comes first");
}

#[test]
fn virtual_services_are_merged_in_the_order_of_the_input_whatever_gateway_binds_them() {
    let mesh = Mesh {
        gateways: vec![gateway("one", &[(80, &["a.test"])]), gateway("two", &[(80, &["a.test"])])],
        virtual_services: vec![
            virtual_service("v", &["a.test"], vec![gateway_ref("two")], vec![answer("first", vec![])]),
            virtual_service("w", &["a.test"], vec![gateway_ref("one")], vec![answer("second", vec![])]),
        ],
        ..Mesh::default()
    };
    assert_eq!(served(listener(&snapshot(mesh), "0.0.0.0_80"), "a.test", "/"), "first");
}

#[test]
fn a_single_virtual_service_keeps_its_order() {
    let http = vec![answer("all", vec![prefix("/")]), answer("one", vec![prefix("/one")])];
    let mesh = Mesh {
        gateways: vec![gateway("edge", &[(80, &["a.test"])])],
        virtual_services: vec![virtual_service("v", &["a.test"], vec![gateway_ref("edge")], http)],
        ..Mesh::default()
    };
    assert_eq!(served(listener(&snapshot(mesh), "0.0.0.0_80"), "a.test", "/one"), "all");
}

#[test]
fn gateways_of_one_port_share_a_listener_and_keep_their_own_bindings() {
    let mesh = Mesh {
        gateways: vec![gateway("one", &[(80, &["a.test"])]), gateway("two", &[(80, &["b.test"]), (81, &["a.test"])])],
        virtual_services: vec![
            virtual_service("v", &["a.test", "b.test"], vec![gateway_ref("one")], vec![answer("one", vec![])]),
            virtual_service("w", &["a.test", "b.test"], vec![gateway_ref("two")], vec![answer("two", vec![])]),
        ],
        ..Mesh::default()
    };
    let snapshot = snapshot(mesh);
    let names: Vec<&str> = snapshot.listeners.iter().map(|listener| listener.name.as_str()).collect();
    assert_eq!(names, ["0.0.0.0_80", "0.0.0.0_81", "mesh"]);
    assert_eq!(served(listener(&snapshot, "0.0.0.0_80"), "a.test", "/"), "one");
    assert_eq!(served(listener(&snapshot, "0.0.0.0_80"), "b.test", "/"), "two");
    assert_eq!(served(listener(&snapshot, "0.0.0.0_81"), "a.test", "/"), "two");
    assert_eq!(served(listener(&snapshot, "0.0.0.0_81"), "b.test", "/"), "NoRoute");
}

#[test]
fn an_alternative_that_names_gateways_applies_only_there() {
    let at = |gateways: Vec<GatewayRef>, path: &str| HttpMatch { gateways: Some(gateways), ..prefix(path) };
    let http = vec![
        answer("edge-only", vec![at(vec![gateway_ref("edge")], "/a")]),
        answer("mesh-only", vec![at(vec![GatewayRef::Mesh], "/a"), at(vec![gateway_ref("elsewhere")], "/")]),
    ];
    let mesh = Mesh {
        gateways: vec![gateway("edge", &[(80, &["a.test"])])],
        virtual_services: vec![virtual_service("v", &["a.test"], vec![gateway_ref("edge"), GatewayRef::Mesh], http)],
        ..Mesh::default()
    };
    let snapshot = snapshot(mesh);
    assert_eq!(served(listener(&snapshot, "0.0.0.0_80"), "a.test", "/a"), "edge-only");
    assert_eq!(served(listener(&snapshot, "0.0.0.0_80"), "a.test", "/b"), "no route");
    assert_eq!(served(listener(&snapshot, "mesh"), "a.test", "/a"), "mesh-only");
    assert_eq!(served(listener(&snapshot, "mesh"), "a.test", "/b"), "no route");
}

#[test]
fn a_server_that_redirects_to_https_does_so_without_any_virtual_service() {
    let mut edge = gateway("edge", &[(80, &["a.test", "*.b.test"])]);
    edge.servers[0].https_redirect = true;
    let mesh = Mesh {
        gateways: vec![edge],
        virtual_services: vec![virtual_service(
            "v",
            &["c.b.test"],
            vec![gateway_ref("edge")],
            vec![answer("c", vec![])],
        )],
        ..Mesh::default()
    };
    let snapshot = snapshot(mesh);
    let edge = listener(&snapshot, "0.0.0.0_80");
    for host in ["a.test", "x.b.test", "c.b.test"] {
        assert!(edge.virtual_hosts[*edge.hosts.find(host).unwrap()].https_redirect, "{host}");
    }
    assert!(edge.hosts.find("d.test").is_none());
}

#[test]
fn a_gateway_for_other_labels_is_not_opened_and_the_warning_says_what_would_open_it() {
    let mut edge = gateway("edge", &[(80, &["*"])]);
    edge.selector = labels(&[("istio", "egressgateway")]);
    let (snapshot, warnings) = compiled(Mesh { gateways: vec![edge], ..Mesh::default() });
    assert_eq!(snapshot.listeners.len(), 1, "only the mesh listener");
    let warning = warnings.iter().find(|warning| warning.code == "gateway-not-selected").unwrap();
    assert_eq!(warning.severity, Severity::Warning);
    assert!(warning.suggestion.as_ref().unwrap().contains("--gateway-label istio=egressgateway"), "{warning:?}");
}

#[test]
fn ports_are_mapped_for_sockets_only() {
    let options = CompileOptions {
        port_map: BTreeMap::from([(80, 8080), (443, 8443)]),
        bind: ip("127.0.0.1"),
        ..CompileOptions::default()
    };
    let mesh = Mesh { gateways: vec![gateway("edge", &[(80, &["*"])])], ..Mesh::default() };
    let (snapshot, warnings) = compile(mesh, &[], &options, None).unwrap();
    let edge = &snapshot.listeners[0];
    assert_eq!((edge.kind, edge.port), (ListenerKind::Gateway, 80));
    assert_eq!(edge.bind, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(edge.name, "127.0.0.1_80");
    let unused: Vec<_> = warnings.iter().filter(|warning| warning.code == "port-map-unused").collect();
    assert_eq!(unused.len(), 1);
    assert_eq!(unused[0].value.as_deref(), Some("443=8443"));
}

#[test]
fn two_listeners_for_one_socket_are_refused() {
    let options = CompileOptions { port_map: BTreeMap::from([(80, 8080)]), ..CompileOptions::default() };
    let mesh = Mesh { gateways: vec![gateway("edge", &[(80, &["*"]), (8080, &["*"])])], ..Mesh::default() };
    let findings = compile(mesh, &[], &options, None).unwrap_err();
    let conflict = findings.iter().find(|finding| finding.code == "socket-conflict").unwrap();
    assert!(conflict.message.contains("0.0.0.0:8080"), "{conflict}");
    assert_eq!(conflict.origin.as_ref().unwrap().line, 8080);
}

#[test]
fn port_0_may_be_asked_for_by_several_listeners() {
    let options = CompileOptions { port_map: BTreeMap::from([(80, 0), (81, 0)]), ..CompileOptions::default() };
    let mesh = Mesh { gateways: vec![gateway("edge", &[(80, &["*"]), (81, &["*"])])], ..Mesh::default() };
    assert_eq!(compile(mesh, &[], &options, None).unwrap().0.listeners.len(), 2);
}

#[test]
fn a_server_with_an_address_of_its_own_is_a_listener_of_its_own() {
    let mut edge = gateway("edge", &[(80, &["*"]), (80, &["*"])]);
    edge.servers[1].bind = Some(ip("127.0.0.2"));
    let snapshot = snapshot(Mesh { gateways: vec![edge], ..Mesh::default() });
    let binds: Vec<String> = snapshot.listeners.iter().map(|listener| listener.bind.to_string()).collect();
    assert_eq!(binds, ["0.0.0.0:80", "127.0.0.2:80", "127.0.0.1:15001"]);
}

#[test]
fn a_route_is_logged_by_its_own_name_and_that_of_the_alternative() {
    let named = HttpMatch { name: Some("fast".to_owned()), ..prefix("/a") };
    let mut unnamed = answer("", vec![named.clone(), prefix("/b")]);
    unnamed.name = None;
    let mesh = Mesh {
        gateways: vec![gateway("edge", &[(80, &["*"])])],
        virtual_services: vec![virtual_service(
            "v",
            &["a.test"],
            vec![gateway_ref("edge")],
            vec![answer("users", vec![named, prefix("/b")]), unnamed],
        )],
        ..Mesh::default()
    };
    let snapshot = snapshot(mesh);
    let routes = &listener(&snapshot, "0.0.0.0_80").virtual_hosts[0].routes;
    assert_eq!(routes[0].log_name(Some(0)), "users.fast");
    assert_eq!(routes[0].log_name(Some(1)), "users");
    assert_eq!(routes[0].log_name(None), "users");
    assert_eq!(routes[1].log_name(Some(0)), "fast");
    assert_eq!(routes[1].log_name(Some(1)), "-");
}
