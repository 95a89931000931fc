//! A publisher that keeps what it is given, configuration texts, and waiting for a condition.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use meshwright_control::{Command, Control, Handle, Publisher, Settings};
use meshwright_model::Diagnostic;
use meshwright_snapshot::{Cluster, CompileOptions, Snapshot};
use meshwright_traffic::OutlierEvent;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Keeps every snapshot and event; refuses on demand.
#[derive(Default)]
pub struct Recorder {
    pub snapshots: Mutex<Vec<Arc<Snapshot>>>,
    pub events: Mutex<Vec<(String, OutlierEvent)>>,
    pub refuse: AtomicBool,
}

impl Publisher for Recorder {
    fn publish(&self, snapshot: Arc<Snapshot>) -> Result<(), Vec<Diagnostic>> {
        if self.refuse.load(Ordering::SeqCst) {
            return Err(vec![Diagnostic::error("listener-busy", "port 80 is taken")]);
        }
        self.snapshots.lock().unwrap().push(snapshot);
        Ok(())
    }

    fn outlier_event(&self, cluster: &Cluster, event: &OutlierEvent) {
        self.events.lock().unwrap().push((cluster.name.clone(), *event));
    }
}

/// A service `users.test` with one endpoint on that port of 127.0.0.1.
pub fn users_at(port: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\n\
         kind: ServiceEntry\n\
         metadata: {{name: users}}\n\
         spec:\n\
         \x20 hosts: [users.test]\n\
         \x20 ports: [{{number: 80, name: http, protocol: HTTP}}]\n\
         \x20 resolution: STATIC\n\
         \x20 endpoints:\n\
         \x20 - address: 127.0.0.1\n\
         \x20   ports: {{http: {port}}}\n"
    )
}

/// A service of that host whose only endpoint is a DNS name.
pub fn named_service(host: &str, endpoint: &str, resolution: &str) -> String {
    format!(
        "---\n\
         apiVersion: networking.istio.io/v1\n\
         kind: ServiceEntry\n\
         metadata: {{name: {}}}\n\
         spec:\n\
         \x20 hosts: [{host}]\n\
         \x20 ports: [{{number: 80, name: http, protocol: HTTP}}]\n\
         \x20 resolution: {resolution}\n\
         \x20 endpoints:\n\
         \x20 - address: {endpoint}\n\
         \x20   ports: {{http: 9000}}\n",
        host.replace('.', "-")
    )
}

pub fn settings(paths: &[PathBuf]) -> Settings {
    Settings {
        paths: paths.to_vec(),
        watch: true,
        compile_options: CompileOptions {
            mesh_bind: Some("127.0.0.1:15001".parse().unwrap()),
            ..CompileOptions::default()
        },
        ..Settings::default()
    }
}

/// A control plane that runs until it is stopped.
pub struct Running {
    pub handle: Handle,
    pub recorder: Arc<Recorder>,
    pub commands: mpsc::Sender<Command>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    pub fn start(settings: Settings) -> Self {
        let recorder = Arc::new(Recorder::default());
        let (control, _) = Control::start(settings, Arc::clone(&recorder) as Arc<dyn Publisher>).unwrap();
        let handle = control.handle();
        let (commands, receiver) = mpsc::channel(8);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(control.run(receiver, async {
            let _ = stopped.await;
        }));
        Self { handle, recorder, commands, stop, task }
    }

    pub async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.unwrap();
    }

    /// Addresses of a cluster of the snapshot that runs, sorted.
    pub fn addresses(&self, cluster: &str) -> Vec<SocketAddr> {
        let snapshot = self.handle.snapshot();
        let mut addresses = snapshot.cluster(cluster).map(|cluster| cluster.addresses.clone()).unwrap_or_default();
        addresses.sort();
        addresses
    }

    /// Port of the only endpoint of `users.test`.
    pub fn users_port(&self) -> u16 {
        self.addresses("outbound|80||users.test").first().map_or(0, SocketAddr::port)
    }
}

/// Waits until `condition` holds; fails after 20 s.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "still waiting until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
