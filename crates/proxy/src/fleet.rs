//! The workers as one: binding listeners for all of them, handing out snapshots, draining.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use meshwright_model::Diagnostic;
use meshwright_snapshot::{Listener, ListenerKind, Snapshot, TlsAction, TlsChain};
use meshwright_telemetry::Metrics;
use meshwright_wire::{Limits, net};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::log::AccessLog;
use crate::worker::{self, Command, Opened, Shared, WorkerSettings};

/// How long a publication waits for a worker that does not answer; the worker gets the snapshot all the same.
const PATIENCE: Duration = Duration::from_secs(5);

/// Settings of the data plane.
pub struct Settings {
    /// Worker threads, at least 1.
    pub workers: usize,
    /// Limits on peers.
    pub limits: Limits,
    /// Where workers count.
    pub metrics: Metrics,
    /// Access log; `None` is off.
    pub access_log: Option<AccessLog>,
    /// How long connections may go on after their listener was removed or the process was told to stop.
    pub drain_timeout: Duration,
    /// Put the reason for a failure of ours into the body of the answer.
    pub explain_errors: bool,
    /// Ports of listeners, as configured, whose connections begin with a PROXY header (version 1 or 2).
    pub proxy_protocol_ports: Vec<u16>,
}

/// A listening socket that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundListener {
    /// Name of the listener, the same over reloads.
    pub name: String,
    /// For outside or between services.
    pub kind: ListenerKind,
    /// Where it listens.
    pub address: SocketAddr,
    /// What is spoken there: `http`, `https`, `tls` (handed on, or bytes inside) or `tcp`.
    pub scheme: &'static str,
}

/// What is turned away while memory is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Nothing.
    None,
    /// New connections.
    Connections,
    /// New connections, and new requests on those that are there.
    Requests,
}

struct Handle {
    commands: UnboundedSender<Command>,
    thread: JoinHandle<()>,
}

/// All workers. Dropping it drains them without waiting.
pub struct Fleet {
    handles: Mutex<Vec<Handle>>,
    /// Open listeners by [`key_of`].
    bound: Mutex<BTreeMap<String, BoundListener>>,
    shared: Arc<Shared>,
}

impl Fleet {
    /// Starts the workers; they serve nothing until the first [`Fleet::publish`].
    pub fn start(settings: &Settings) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let workers = settings.workers.max(1);
        let mut handles = Vec::with_capacity(workers);
        for index in 0..workers {
            let (commands, receiver) = unbounded_channel();
            let of_worker = WorkerSettings {
                index,
                workers,
                limits: settings.limits.clone(),
                metrics: settings.metrics.clone(),
                access_log: settings.access_log.clone(),
                drain_timeout: settings.drain_timeout,
                explain_errors: settings.explain_errors,
                proxy_protocol_ports: settings.proxy_protocol_ports.as_slice().into(),
                shared: shared.clone(),
                seed: fastrand::u64(..),
            };
            let thread = thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                let runtime =
                    Builder::new_current_thread().enable_io().enable_time().build_local(LocalOptions::default());
                match runtime {
                    Ok(runtime) => {
                        // Requests and connections are contained by themselves; this is for the loop around them.
                        let served =
                            catch_unwind(AssertUnwindSafe(|| runtime.block_on(worker::run(of_worker, receiver))));
                        if served.is_err() {
                            tracing::error!(
                                worker = index,
                                "a worker ended by a defect of the proxy; the others serve on"
                            );
                        }
                    }
                    Err(error) => tracing::error!(%error, "a worker cannot start"),
                }
            })?;
            handles.push(Handle { commands, thread });
        }
        Ok(Self { handles: Mutex::new(handles), bound: Mutex::default(), shared })
    }

    /// Opens the listeners that are new in `snapshot`, hands it to every worker, and drains the listeners that are gone.
    /// When one address cannot be bound nothing changes, and every such address is reported.
    /// Returns when every worker uses the snapshot.
    pub fn publish(&self, snapshot: &Arc<Snapshot>) -> Result<(), Vec<Diagnostic>> {
        let handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        let mut opened: Vec<Vec<Opened>> = (0..handles.len()).map(|_| Vec::new()).collect();
        let mut next = BTreeMap::new();
        let mut problems = Vec::new();
        for listener in &snapshot.listeners {
            let key = key_of(listener);
            let address = match bound.get(&key) {
                Some(open) => Ok(open.address),
                None => open_for_all(&key, listener.bind, &mut opened),
            };
            match address {
                Ok(address) => {
                    let (name, kind, scheme) = (listener.name.clone(), listener.kind, scheme_of(listener));
                    next.insert(key, BoundListener { name, kind, address, scheme });
                }
                Err(error) => problems.push(cannot_listen(listener, &error)),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let closed: Vec<String> = bound.keys().filter(|key| !next.contains_key(*key)).cloned().collect();
        let (done, answers) = sync_channel(handles.len());
        for (handle, opened) in handles.iter().zip(opened) {
            let command =
                Command::Publish { snapshot: snapshot.clone(), opened, closed: closed.clone(), done: done.clone() };
            let _ = handle.commands.send(command);
        }
        for _ in 0..handles.len() {
            if answers.recv_timeout(PATIENCE).is_err() {
                tracing::warn!("a worker is slow to take the new configuration over");
                break;
            }
        }
        *bound = next;
        Ok(())
    }

    /// The listeners that are open, by name.
    pub fn listeners(&self) -> Vec<BoundListener> {
        let bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        bound.values().cloned().collect()
    }

    /// Turns away what `pressure` says, from now on.
    pub fn set_pressure(&self, pressure: Pressure) {
        self.shared.pressure.store(pressure as u8, Ordering::Relaxed);
    }

    /// Downstream connections open now.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Tells every worker to stop accepting and to end when its connections have, or the drain timeout is over.
    pub fn drain(&self) {
        for handle in self.handles.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ = handle.commands.send(Command::Drain);
        }
    }

    /// Waits until every worker has ended.
    pub fn join(&self) {
        let handles = std::mem::take(&mut *self.handles.lock().unwrap_or_else(PoisonError::into_inner));
        for handle in handles {
            drop(handle.commands);
            if handle.thread.join().is_err() {
                tracing::error!("a worker ended by a defect of the proxy");
            }
        }
    }
}

fn scheme_of(listener: &Listener) -> &'static str {
    let ends_http = |chain: &TlsChain| matches!(chain.action, TlsAction::Terminate { then: None, .. });
    match (&listener.tls, &listener.tcp) {
        (Some(tls), _) if tls.chains.iter().any(ends_http) => "https",
        (Some(_), _) => "tls",
        (None, Some(_)) => "tcp",
        (None, None) => "http",
    }
}

/// What makes a listener the same over reloads: its address, so that it may be renamed; its name where the system chose
/// the port.
pub(crate) fn key_of(listener: &Listener) -> String {
    match listener.bind.port() {
        0 => listener.name.clone(),
        _ => listener.bind.to_string(),
    }
}

fn open_for_all(key: &str, bind: SocketAddr, opened: &mut [Vec<Opened>]) -> io::Result<SocketAddr> {
    let sockets = net::listen(bind, opened.len())?;
    let local = sockets[0].local_addr()?;
    for (socket, of_worker) in sockets.into_iter().zip(opened) {
        of_worker.push(Opened { key: key.to_owned(), socket });
    }
    Ok(local)
}

fn cannot_listen(listener: &Listener, error: &io::Error) -> Diagnostic {
    let (bind, port) = (listener.bind, listener.port);
    let elsewhere = match listener.kind {
        ListenerKind::Gateway => format!("listen elsewhere with --map-port {port}=PORT"),
        ListenerKind::Mesh => "choose another --mesh ADDR".to_owned(),
    };
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("{elsewhere}, or allow ports below 1024 (CAP_NET_BIND_SERVICE)")
        }
        io::ErrorKind::AddrInUse => format!("stop the other process, or {elsewhere}"),
        _ => "check that the address belongs to this machine".to_owned(),
    };
    Diagnostic::error("cannot-listen", format!("cannot listen on {bind}: {error}"))
        .at(listener.origin.clone(), 1)
        .with_value(bind.to_string())
        .with_effect("nothing of this configuration takes effect")
        .with_suggestion(advice)
}
