//! A router served on a thread of its own.

use std::net::SocketAddr;

use axum::Router;
use meshwright_catalog::{Catalog, Keyspace};
use meshwright_registry::{KeyLimits, Limits};
use meshwright_testkit::{RawClient, Response};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Keys in memory beside `catalog`, with their clock; called within a runtime or before it.
#[allow(dead_code, reason = "every test file uses its own part")]
pub fn keys(catalog: Catalog) -> Keyspace {
    let keys = Keyspace::in_memory(catalog, KeyLimits::default());
    let run = keys.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run.run(std::future::pending()));
    });
    keys
}

/// A registry in memory with one face.
pub struct Server {
    pub address: SocketAddr,
    #[allow(dead_code, reason = "every test file uses its own part")]
    pub catalog: Catalog,
    _stop: oneshot::Sender<()>,
}

impl Server {
    /// Serves what `face` makes of the registry.
    #[allow(dead_code, reason = "every test file uses its own part")]
    pub fn start(face: impl FnOnce(Catalog) -> Router) -> Self {
        Self::of(Catalog::in_memory(Limits::default(), 0), 1000, face)
    }

    /// Serves `catalog` to so many connections.
    #[allow(dead_code, reason = "every test file uses its own part")]
    pub fn of(catalog: Catalog, connections: usize, face: impl FnOnce(Catalog) -> Router) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let (served, router) = (catalog.clone(), face(catalog.clone()));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                tokio::spawn(served.run(std::future::pending()));
                let stopped = async move { drop(stopped.await) };
                meshwright_site::serve(listener, router, connections, stopped).await.unwrap();
            });
        });
        Self { address: told.recv().unwrap(), catalog, _stop: stop }
    }

    pub fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Response {
        RawClient::connect(self.address).request(method, "localhost", target, headers, body.as_bytes())
    }
}
