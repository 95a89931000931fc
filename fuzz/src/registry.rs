//! What holds for any bytes that the registry's faces receive: a clear answer, no panic, and a registry that is whole.
//!
//! The fuzz targets run these on bytes of the fuzzer, the tests of `meshwright-bridges` on the committed seeds and on changes
//! of them. Every function has a registry of its own. Knows nothing of which input is right: the faces' tests say that.

use std::net::SocketAddr;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::{Extension, Router};
use hickory_proto::op::{Message, MessageType};
use meshwright_bridges::{Tokens, consul, dns, eureka, router};
use meshwright_catalog::{Catalog, Keyspace};
use meshwright_registry::{Instance, InstanceKey, KeyLimits, Limits, ServiceKey};
use meshwright_site::{Ends, Waits};
use tower_service::Service;

/// What the own API is asked: method, path.
const API: [(&str, &str); 8] = [
    ("POST", "/register"),
    ("POST", "/deregister"),
    ("POST", "/heartbeat"),
    ("PUT", "/v1/services/users/instances/a"),
    ("POST", "/v1/services/users/instances"),
    ("PUT", "/v1/services/users/instances/a/status"),
    ("PUT", "/v1/services/users/instances/a/health"),
    ("POST", "/v1/batch"),
];

/// A registry with one instance.
fn catalog(runtime: &tokio::runtime::Runtime) -> Catalog {
    let catalog = Catalog::in_memory(Limits::default(), 0);
    let (service, instance) = (ServiceKey::new("", "users"), Instance::new("10.0.0.1", 80));
    let key = InstanceKey::new(service.expect("a name"), "a").expect("an id");
    runtime.block_on(catalog.register(key, instance)).expect("memory takes everything");
    catalog
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Asks `face`; the answer is one that a client can act on, and what is registered then can be shown.
fn ask(face: fn(Catalog) -> Router, request: Request<Body>) {
    let runtime = runtime();
    let catalog = catalog(&runtime);
    let address = SocketAddr::from(([127, 0, 0, 1], 15000));
    let ends = Extension(Ends { local: address, peer: address });
    let mut served = face(catalog.clone()).layer(ends).layer(Extension(Waits::of(4)));
    let shown = format!("{} {}", request.method(), request.uri());
    let response = match runtime.block_on(served.call(request)) {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let status = response.status();
    assert!(!status.is_server_error() || status == StatusCode::NOT_IMPLEMENTED, "{shown}: {status}");
    catalog.read(|registry| {
        for entry in registry.services().flat_map(|(_, service)| service.instances()) {
            entry.instance.validate(registry.limits()).expect("what is registered is valid");
        }
    });
    let all = Request::get("/eureka/apps").header(header::HOST, "localhost").body(Body::empty()).expect("a request");
    let mut faces = eureka::router(catalog, Tokens::default()).layer(Extension(Ends { local: address, peer: address }));
    let Ok(list) = runtime.block_on(faces.call(all));
    assert_eq!(list.status(), StatusCode::OK, "after {shown}");
}

fn request(method: &str, path: &str, kind: &str, body: &[u8]) -> Option<Request<Body>> {
    let request = Request::builder().method(method).uri(path).header(header::HOST, "localhost");
    request.header(header::CONTENT_TYPE, kind).body(Body::from(body.to_vec())).ok()
}

/// A body of the own API; the first byte says which path it goes to.
pub fn registry_api(bytes: &[u8]) {
    let Some((&choice, body)) = bytes.split_first() else { return };
    let (method, path) = API[usize::from(choice) % API.len()];
    if let Some(request) = request(method, path, "application/json", body) {
        ask(|catalog| router(catalog, Tokens::default()), request);
    }
}

/// A registration by Eureka's clients, in XML when the first byte is odd, else in JSON; `b` is a batch of another server.
pub fn registry_eureka(bytes: &[u8]) {
    let Some((&choice, body)) = bytes.split_first() else { return };
    let kind = if choice & 1 == 1 { "application/xml" } else { "application/json" };
    let path = if choice == b'b' { "/eureka/peerreplication/batch" } else { "/eureka/v2/apps/USERS" };
    if let Some(request) = request("POST", path, kind, body) {
        ask(|catalog| eureka::router(catalog, Tokens::default()), request);
    }
}

/// A request of Consul's clients: method, path and query in the first line, the body behind it.
pub fn registry_consul(bytes: &[u8]) {
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    let Some((method, target)) = std::str::from_utf8(&bytes[..end]).ok().and_then(|line| line.split_once(' ')) else {
        return;
    };
    // A blocking query waits as long as it is told to.
    if !target.starts_with('/') || target.contains("index") || target.contains('%') && target.contains("ndex") {
        return;
    }
    if let Some(request) = request(method, target, "application/json", bytes.get(end + 1..).unwrap_or_default()) {
        let face = |catalog| consul::router(Keyspace::in_memory(catalog, KeyLimits::default()), Tokens::default());
        ask(face, request);
    }
}

/// A DNS query: the answer is one, belongs to it, and is no longer than a datagram may be.
pub fn registry_dns(bytes: &[u8]) {
    let runtime = runtime();
    let Some(answer) = dns::answer(&catalog(&runtime), bytes) else { return };
    let message = Message::from_vec(&answer).expect("an answer can be read");
    assert_eq!(message.metadata.message_type, MessageType::Response);
    assert_eq!(message.metadata.id.to_be_bytes(), bytes[..2], "it is the answer to this query");
    assert!(answer.len() <= 1232, "{} bytes", answer.len());
}
