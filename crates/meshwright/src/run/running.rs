//! A running proxy: started in one step or not at all, ended by a signal or by its owner.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use axum::Router;
use meshwright_control::{Command, Control, Settings as ControlSettings};
use meshwright_model::Diagnostic;
use meshwright_proxy::{AccessLog, BoundListener, Fleet, Pressure, Settings as FleetSettings};
use meshwright_telemetry::Metrics;
use meshwright_wire::Limits;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::publisher::ToFleet;
use super::system;
use super::views::AdminViews;
use super::{Faces, RegistrySettings};
use crate::args::Face;
use crate::logging::LogLevel;

/// How long the start waits for the first answers of DNS; without any name it does not wait at all.
const FIRST_ANSWERS: Duration = Duration::from_secs(2);

/// Everything that a proxy is started with.
pub struct Settings {
    /// Where the configuration comes from, and for which process.
    pub control: ControlSettings,
    /// Where the admin API listens.
    pub admin: Face,
    /// Worker threads.
    pub workers: usize,
    /// Limits on peers.
    pub limits: Limits,
    /// Access log; `None` is off.
    pub access_log: Option<AccessLog>,
    /// Time that connections get when a listener is removed or the process stops.
    pub drain_timeout: Duration,
    /// Put the reason of a failure into the body of our own answers.
    pub explain_errors: bool,
    /// Ports of listeners, as configured, whose connections begin with a PROXY header.
    pub proxy_protocol_ports: Vec<u16>,
    /// Resident bytes from which clients are turned away; `None` is no limit.
    pub max_memory: Option<u64>,
    /// Level of the process log.
    pub log_level: LogLevel,
    /// The service registry; `None` is to have none.
    pub registry: Option<RegistrySettings>,
    /// Connections that the admin API has at one time.
    pub api_connections: usize,
}

/// How a proxy ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Every connection ended by itself, or its time was over.
    Drained,
    /// A second signal ended it at once.
    Forced,
}

/// A proxy that serves.
pub struct Running {
    fleet: Arc<Fleet>,
    findings: Vec<Diagnostic>,
    admin: Option<SocketAddr>,
    faces: Faces,
    access_log: Option<AccessLog>,
    commands: mpsc::Sender<Command>,
    draining: Arc<AtomicBool>,
    stop: watch::Sender<bool>,
}

/// Time between two looks at the memory of the process.
const MEMORY_LOOKS: Duration = Duration::from_millis(250);

/// Turns clients away while the process is short of memory.
async fn watch_memory(most: u64, fleet: Arc<Fleet>, stopped: impl Future<Output = ()>) {
    let mut stopped = std::pin::pin!(stopped);
    let mut before = Pressure::None;
    loop {
        tokio::select! {
            () = tokio::time::sleep(MEMORY_LOOKS) => {}
            () = &mut stopped => return,
        }
        let now = system::pressure_of(system::resident_bytes().unwrap_or(0), most);
        if now != before {
            tracing::warn!(pressure = ?now, most, "memory: what is turned away has changed");
            fleet.set_pressure(now);
            before = now;
        }
    }
}

impl Running {
    /// Starts workers, admin API and control plane on the current runtime.
    ///
    /// # Errors
    /// The outer one: threads or sockets of the process itself cannot be had. The inner one: the configuration is refused,
    /// with every finding.
    pub async fn start(settings: Settings) -> anyhow::Result<Result<Self, Vec<Diagnostic>>> {
        let metrics = Metrics::new();
        let admin = bind_admin(settings.admin)?;
        let fleet = Fleet::start(&FleetSettings {
            workers: settings.workers,
            limits: settings.limits,
            metrics: metrics.clone(),
            access_log: settings.access_log.clone(),
            drain_timeout: settings.drain_timeout,
            explain_errors: settings.explain_errors,
            proxy_protocol_ports: settings.proxy_protocol_ports,
        })
        .context("cannot start the workers")?;
        let fleet = Arc::new(fleet);
        let (mut control, findings) = match Control::start(settings.control, Arc::new(ToFleet(fleet.clone()))) {
            Ok(started) => started,
            Err(findings) => return Ok(Err(findings)),
        };
        // Endpoints that are names get a moment to be resolved, so that the first request finds them.
        control.first_answers(FIRST_ANSWERS).await;
        let draining = Arc::new(AtomicBool::new(false));
        let (stop, stopped) = watch::channel(false);
        let admin_address = match &admin {
            Some(listener) => Some(listener.local_addr()?),
            None => None,
        };
        if let Some(listener) = admin {
            let views = Arc::new(AdminViews {
                metrics,
                fleet: fleet.clone(),
                control: control.handle(),
                log_level: settings.log_level,
                draining: draining.clone(),
                started: SystemTime::now(),
                admin: admin_address,
                registry: settings.registry.as_ref().map(|registry| registry.catalog.clone()),
            });
            let pages = match &settings.registry {
                Some(RegistrySettings { catalog, tokens, .. }) => {
                    let faces = meshwright_bridges::router(catalog.clone(), tokens.clone())
                        .merge(meshwright_bridges::eureka::router(catalog.clone(), tokens.clone()));
                    meshwright_console::router(views, faces, meshwright_bridges::INDEX)
                }
                None => meshwright_console::router(views, Router::new(), ""),
            };
            tokio::spawn(serve_admin(listener, pages, settings.api_connections, told(stopped.clone())));
        }
        let faces = match settings.registry {
            Some(registry) => registry.start(settings.api_connections, &stopped).await?,
            None => Faces::default(),
        };
        if let Some(most) = settings.max_memory {
            tokio::spawn(watch_memory(most, fleet.clone(), told(stopped.clone())));
        }
        let (commands, receiver) = mpsc::channel(1);
        tokio::spawn(control.run(receiver, told(stopped)));
        Ok(Ok(Self {
            fleet,
            findings,
            admin: admin_address,
            faces,
            access_log: settings.access_log,
            commands,
            draining,
            stop,
        }))
    }

    /// Warnings of the first configuration.
    pub fn findings(&self) -> &[Diagnostic] {
        &self.findings
    }

    /// Listeners that are open.
    pub fn listeners(&self) -> Vec<BoundListener> {
        self.fleet.listeners()
    }

    /// Where the faces of the registry listen that have addresses of their own.
    pub fn faces(&self) -> Faces {
        self.faces
    }

    /// Where the admin API listens.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Serves until SIGTERM or SIGINT, then drains; SIGHUP reloads.
    ///
    /// # Errors
    /// Signals cannot be listened to.
    pub async fn until_signalled(self) -> io::Result<Stopped> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hang_up.recv() => {
                    // A reload that is already asked for does for this one too.
                    let _ = self.commands.try_send(Command::Reload);
                }
            }
        }
        tracing::info!(connections = self.fleet.connections(), "draining; a second signal ends at once");
        tokio::select! {
            () = self.drain() => Ok(Stopped::Drained),
            _ = terminate.recv() => Ok(Stopped::Forced),
            _ = interrupt.recv() => Ok(Stopped::Forced),
        }
    }

    /// Says that it is not ready any more, finishes what is there, and stops.
    pub async fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.fleet.drain();
        let (fleet, access_log) = (self.fleet.clone(), self.access_log.clone());
        let ended = tokio::task::spawn_blocking(move || {
            fleet.join();
            if let Some(log) = access_log {
                log.flush();
            }
        });
        if let Err(error) = ended.await {
            tracing::error!(%error, "the workers could not be waited for");
        }
        tracing::info!("drained");
        let _ = self.stop.send(true);
    }
}

fn bind_admin(face: Face) -> anyhow::Result<Option<TcpListener>> {
    let bound = match face {
        Face::Off => return Ok(None),
        Face::Explicit(address) => {
            let bound = meshwright_site::listen(address);
            bound.with_context(|| format!("cannot listen on {address} for the admin API; choose another --admin"))?
        }
        Face::Default(address) => match meshwright_site::listen(address) {
            Ok(bound) => bound,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                tracing::warn!(busy = %address, "the default address of the admin API is in use; it moves to a free port, which client commands need as --admin");
                meshwright_site::listen(SocketAddr::new(address.ip(), 0))?
            }
            Err(error) => return Err(error).with_context(|| format!("cannot listen on {address} for the admin API")),
        },
    };
    let address = bound.local_addr()?;
    if !is_loopback(address.ip()) {
        tracing::warn!(%address, "the admin API is reachable from other machines and asks for no password");
    }
    Ok(Some(bound))
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

async fn serve_admin(
    listener: TcpListener,
    pages: Router,
    connections: usize,
    stopped: impl Future<Output = ()> + Send,
) {
    if let Err(error) = meshwright_site::serve(listener, pages, connections, stopped).await {
        tracing::error!(%error, "the admin API ended");
    }
}

/// Ready when the owner has stopped, or is gone.
pub(super) async fn told(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
