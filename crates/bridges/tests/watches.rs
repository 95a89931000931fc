//! Watches in numbers, and watchers that do not read: what they may take of the process.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]
#![allow(clippy::disallowed_methods, reason = "it connects a client that blocks")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use meshwright_bridges::{Tokens, consul, router};
use meshwright_catalog::Catalog;
use meshwright_registry::{Instance, InstanceKey, Limits, ServiceKey};
use meshwright_testkit::{RawClient, eventually};
use support::Server;

/// Connections of a server here; three quarters of them may wait.
const CONNECTIONS: usize = 8;

fn crowded(face: impl FnOnce(Catalog) -> axum::Router) -> Server {
    Server::of(Catalog::in_memory(Limits::default(), 0), CONNECTIONS, face)
}

#[test]
fn when_three_quarters_of_the_connections_wait_a_further_watch_is_refused_and_others_are_served() {
    let server = crowded(|catalog| router(catalog, Tokens::default()));
    let mut streams: Vec<RawClient> = (0..CONNECTIONS / 4 * 3)
        .map(|_| {
            let mut client = RawClient::connect(server.address);
            client.send("GET /v1/watch HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n");
            assert_eq!(client.head().status, 200);
            client
        })
        .collect();
    let revision = server.catalog.read(|registry| registry.revision());
    for target in ["/v1/watch?wait=10ms", &format!("/v1/services/users/instances?revision={revision}&wait=10ms")] {
        let refused = server.send("GET", target, &[], "");
        assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")), "{target}");
        assert_eq!(refused.header("connection"), Some("close"), "its connection is for others");
    }
    let body = "{\"address\":\"10.0.0.1\",\"port\":80}";
    assert_eq!(server.send("PUT", "/v1/services/users/instances/a", &[], body).status, 201);
    streams.pop();
    eventually("a place is free again", || server.send("GET", "/v1/watch?wait=10ms", &[], "").status == 200);
}

#[test]
fn blocking_queries_of_consul_have_the_same_limit() {
    let server = crowded(|catalog| consul::router(support::keys(catalog), Tokens::default()));
    let index = server.send("GET", "/v1/catalog/services", &[], "").header("x-consul-index").unwrap().to_owned();
    let waiting: Vec<RawClient> = (0..CONNECTIONS / 4 * 3)
        .map(|_| {
            let mut client = RawClient::connect(server.address);
            client.send(format!("GET /v1/catalog/services?index={index}&wait=60s HTTP/1.1\r\nhost: localhost\r\n\r\n"));
            client
        })
        .collect();
    let ask = || server.send("GET", &format!("/v1/catalog/services?index={index}&wait=1ms"), &[], "");
    eventually("no place is left", || ask().status == 429);
    assert_eq!(ask().header("retry-after"), Some("1"));
    assert_eq!(server.send("GET", "/v1/catalog/services", &[], "").status, 200, "who does not wait is served");
    drop(waiting);
    eventually("the places are free again", || ask().status == 200);
}

#[test]
fn a_watcher_that_does_not_read_is_left_behind_and_told_to_begin_again() {
    const CHANGES: u32 = 1000;
    let limits = Limits { history: 64, ..Limits::default() };
    let server = Server::of(Catalog::in_memory(limits, 0), 10, |catalog| router(catalog, Tokens::default()));
    let mut watcher = TcpStream::connect(server.address).unwrap();
    watcher.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(watcher, "GET /v1/watch HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n").unwrap();
    let mut received = Vec::new();
    read_until(&mut watcher, &mut received, "event: ready");

    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let key = InstanceKey::new(ServiceKey::new("", "users").unwrap(), "a").unwrap();
    let mut instance = Instance::new("10.0.0.1", 80);
    for number in 0..7 {
        instance.metadata.insert(&format!("padding{number}"), &"x".repeat(4000));
    }
    for weight in 1..=CHANGES {
        instance.weight = weight;
        runtime.block_on(server.catalog.register(key.clone(), instance.clone())).unwrap();
    }

    read_until(&mut watcher, &mut received, "event: resync");
    read_until(&mut watcher, &mut received, "\r\n0\r\n\r\n");
    let text = String::from_utf8_lossy(&received);
    let puts = text.matches("event: put").count();
    assert!(puts < CHANGES as usize, "what the sockets had no room for was not kept for it, but {puts} changes came");
    assert!(text.contains("\"compacted\":"), "it is told why");
}

/// Reads until `end` was received.
fn read_until(stream: &mut TcpStream, received: &mut Vec<u8>, end: &str) {
    let mut chunk = vec![0; 1 << 16];
    loop {
        // Only the end can be new.
        let from = received.len().saturating_sub((1 << 16) + end.len());
        if String::from_utf8_lossy(&received[from..]).contains(end) {
            return;
        }
        let count = stream.read(&mut chunk).unwrap();
        assert_ne!(count, 0, "{end:?} did not come");
        received.extend_from_slice(&chunk[..count]);
    }
}
