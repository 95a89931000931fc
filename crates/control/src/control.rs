//! The loop of the control plane: what wakes it, and the one transaction by which a configuration takes effect.
//!
//! ```text
//!  files, SIGHUP ─▶ read ─▶ config::load ─▶ snapshot::compile ─▶ Publisher::publish ─▶ current
//!                     │          │                │                    │
//!                     └──────────┴────────────────┴────────────────────┴─▶ refused: the last good one stays
//!  names, registry ─▶ Snapshot::with_endpoints ─▶ Publisher::publish ─▶ current
//! ```

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use meshwright_catalog::Catalog;
use meshwright_config as config;
use meshwright_model::{Diagnostic, Mesh, Severity};
use meshwright_snapshot::{Cluster, CompileOptions, Snapshot};
use meshwright_traffic::OutlierEvent;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinSet};
use tracing::{error, info, warn};

use crate::candidate::{Candidate, blank, candidate, is_blank};
use crate::certificates::Certificates;
use crate::debounce::Debounce;
use crate::health::Health;
use crate::registered::Registered;
use crate::resolution::{Lookup, Plan, names_of};
use crate::resolver::Resolver;
use crate::source::{OnceOnly, fingerprint, is_stdin, once_only, read_again, read_sources, watched_directories};
use crate::sweep::SweepPlan;
use crate::watch::FileWatch;
use crate::{Handle, Status};

/// While the registry changes all the time, following it takes one part in so many of the time: a service with thousands of instances
/// takes milliseconds, and whatever else runs on this thread must go on.
const FOLLOWING_SHARE: u32 = 4;

/// Pause before directories that could not be watched are tried again.
const WATCH_RETRY: Duration = Duration::from_secs(1);

/// What the control plane works with.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Files and directories, and `-` for standard input.
    pub paths: Vec<PathBuf>,
    /// What was read from standard input; it is the same at every reload.
    pub stdin: Option<Vec<u8>>,
    /// Namespace and services of the command line.
    pub config_options: config::Options,
    /// Where credentials are looked for that are not in the files (`--credentials`); `None` is nowhere.
    pub credentials: Option<PathBuf>,
    /// Addresses, labels and namespace of the process. Its credentials are read here and need not be given.
    pub compile_options: CompileOptions,
    /// Reload when files change.
    pub watch: bool,
    /// DNS server to ask instead of those of the system; `/etc/hosts` is left out then.
    pub name_server: Option<SocketAddr>,
    /// The service registry; `None` is to have none.
    pub registry: Option<Catalog>,
}

/// Who makes a snapshot take effect.
pub trait Publisher: Send + Sync + 'static {
    /// Opens the listeners that are new, for all workers, and hands the snapshot to the workers.
    ///
    /// # Errors
    ///
    /// Why not. Nothing of the snapshot applies then, and everything runs on as before.
    fn publish(&self, snapshot: Arc<Snapshot>) -> Result<(), Vec<Diagnostic>>;

    /// An ejection ended, by a sweep or by an operator. For counting; it is logged already.
    fn outlier_event(&self, cluster: &Cluster, event: &OutlierEvent) {
        let _ = (cluster, event);
    }
}

/// What the rest of the process asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Read and apply everything again, changed or not (SIGHUP).
    Reload,
}

/// The control plane. [`Control::start`] loads, [`Control::run`] keeps everything up to date.
pub struct Control {
    settings: Settings,
    handle: Handle,
    names: Plan,
    registered: Registered,
    /// Changes of the registry wait until then.
    rest: Option<Instant>,
    resolver: Resolver,
    lookups: JoinSet<Lookup>,
    looked_up: HashMap<Id, String>,
    sweeps: SweepPlan,
    health: Health,
    watch: Option<FileWatch>,
    watch_retry: Option<Instant>,
    debounce: Debounce,
    certificates: Certificates,
    /// With which the configuration that runs was compiled.
    options: CompileOptions,
    /// Texts of pipes and devices; they are the same at every reload.
    kept: OnceOnly,
    /// Of the texts tried last; `None` when they could not be read. Certificates are compared apart from them.
    fingerprint: Option<u64>,
}

impl Control {
    /// Reads the configuration, publishes its first snapshot and starts to watch the files. Returns every warning.
    ///
    /// DNS names are resolved by [`Control::first_answers`] or [`Control::run`]; until then their services have no endpoints.
    ///
    /// # Errors
    ///
    /// All findings, when one of them is an error, or the publisher's. Nothing was started.
    pub fn start(
        settings: Settings,
        publisher: Arc<dyn Publisher>,
    ) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        let now = Instant::now();
        // The watch comes first: a change between reading and watching would go unseen.
        let mut watch = start_watch(&settings);
        if let Some(watch) = &mut watch {
            watch.set_directories(watched_directories(&settings.paths));
        }
        let sources = read_sources(&settings.paths, settings.stdin.as_deref())?;
        let names = Plan::default();
        let mut certificates = Certificates::new(settings.credentials.clone());
        let registered = Registered::new(settings.registry.clone());
        let inputs = (&names, &registered, &mut certificates);
        let Candidate { snapshot, warnings, options } = candidate(&settings, &sources, inputs, None)?;
        let snapshot = Arc::new(snapshot);
        publisher.publish(Arc::clone(&snapshot)).map_err(|mut refusals| {
            let mut findings = warnings.clone();
            findings.append(&mut refusals);
            findings
        })?;
        let status = Status {
            generation: snapshot.generation,
            number: snapshot.number,
            loaded_at: SystemTime::now(),
            attempted_at: SystemTime::now(),
            last_reload_ok: true,
            diagnostics: warnings.clone(),
            reloads_ok: 0,
            reloads_failed: 0,
            endpoint_updates: 0,
            watching: watch.is_some(),
            names: Vec::new(),
        };
        let namespace = settings.compile_options.namespace.clone();
        let prober = settings.registry.as_ref().map(Catalog::prober).unwrap_or_default();
        let mut control = Self {
            resolver: Resolver::new(settings.name_server),
            kept: once_only(&settings.paths, &sources),
            settings,
            handle: Handle::new(snapshot, status, publisher, namespace),
            names,
            registered,
            rest: None,
            lookups: JoinSet::new(),
            looked_up: HashMap::new(),
            sweeps: SweepPlan::default(),
            health: Health::new(prober),
            watch,
            watch_retry: None,
            certificates,
            options,
            debounce: Debounce::default(),
            fingerprint: Some(fingerprint(&sources)),
        };
        control.watch_directories(now);
        control.follow(now);
        Ok((control, warnings))
    }

    /// The view of this control plane for everybody else.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Looks up every name once and publishes the answers, and has every endpoint checked once that waits for it, so that a
    /// process that then calls itself ready has endpoints and knows which are well. Waits no longer than `patience`; false when
    /// an answer is still missing then. [`Control::run`] goes on in either case.
    pub async fn first_answers(&mut self, patience: Duration) -> bool {
        let deadline = tokio::time::Instant::now() + patience;
        self.start_lookups(Instant::now());
        while !self.lookups.is_empty() {
            match tokio::time::timeout_at(deadline, self.lookups.join_next_with_id()).await {
                Ok(Some(ended)) => self.looked_up(ended),
                Ok(None) | Err(_) => return false,
            }
            self.start_lookups(Instant::now());
        }
        while self.health.is_waiting() {
            self.health.start_due(Instant::now());
            let due = sleep_until(self.health.poll_timeout());
            tokio::select! {
                ended = self.health.ended(), if self.health.is_busy() => self.health.take(ended),
                () = due => {}
                () = tokio::time::sleep_until(deadline) => return false,
            }
        }
        true
    }

    /// Reloads on command and when files change, resolves names, checks endpoints, ends ejections, until `shutdown` is ready.
    /// It may be called on any runtime with time and I/O; it reads files and compiles on the thread that polls it.
    pub async fn run(mut self, mut commands: mpsc::Receiver<Command>, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        let mut commands_open = true;
        loop {
            self.work(Instant::now());
            let wake = self.poll_timeout();
            tokio::select! {
                () = &mut shutdown => return,
                command = commands.recv(), if commands_open => match command {
                    Some(Command::Reload) => self.reload(true),
                    None => commands_open = false,
                },
                () = rested(self.rest, &mut self.registered) => {
                    let began = Instant::now();
                    self.registry_changed();
                    let ended = Instant::now();
                    self.rest = Some(ended + (ended - began) * (FOLLOWING_SHARE - 1));
                }
                () = changed(self.watch.as_ref()) => self.debounce.handle_event(Instant::now()),
                Some(ended) = self.lookups.join_next_with_id(), if !self.lookups.is_empty() => self.looked_up(ended),
                ended = self.health.ended() => self.health.take(ended),
                () = sleep_until(wake) => {}
            }
        }
    }

    /// The earliest moment at which there is something to do.
    fn poll_timeout(&self) -> Option<Instant> {
        let timers = [
            self.debounce.poll_timeout(),
            self.names.poll_timeout(),
            self.sweeps.poll_timeout(),
            self.health.poll_timeout(),
            self.watch_retry,
        ];
        timers.into_iter().flatten().min()
    }

    /// Everything that is due.
    fn work(&mut self, now: Instant) {
        if self.watch_retry.is_some_and(|at| at <= now) {
            self.watch_directories(now);
        }
        if self.debounce.take(now) {
            self.reload(false);
        }
        self.sweep(now);
        self.start_lookups(now);
        self.health.start_due(now);
    }

    /// Reads everything and applies it as one transaction. Without `forced`, what was tried last is left alone while neither
    /// texts nor certificates have changed.
    fn reload(&mut self, forced: bool) {
        let now = Instant::now();
        let sources = read_again(&self.settings.paths, self.settings.stdin.as_deref(), &self.kept);
        self.watch_directories(now);
        let sources = match sources {
            Ok(sources) if !forced && is_blank(&sources) => {
                self.fingerprint = None;
                return self.refused(vec![blank(&sources)], forced);
            }
            Ok(sources) => sources,
            Err(findings) => {
                self.fingerprint = None;
                return self.refused(findings, forced);
            }
        };
        let fingerprint = Some(fingerprint(&sources));
        if fingerprint == self.fingerprint && !forced && !self.certificates.changed() {
            return;
        }
        if forced {
            self.certificates.forget_system_roots();
        }
        self.fingerprint = fingerprint;
        self.resolver.reset();
        let previous = self.handle.snapshot();
        let inputs = (&self.names, &self.registered, &mut self.certificates);
        let candidate = candidate(&self.settings, &sources, inputs, Some(&previous));
        // Certificates that were not asked for before have directories of their own.
        self.watch_directories(now);
        let Candidate { snapshot, warnings, options } = match candidate {
            Ok(candidate) => candidate,
            Err(findings) => return self.refused(findings, true),
        };
        if let Err(mut refusals) = self.handle.publish(Arc::new(snapshot)) {
            let mut findings = warnings;
            findings.append(&mut refusals);
            return self.refused(findings, true);
        }
        self.options = options;
        self.accepted(warnings);
        self.follow(now);
    }

    fn accepted(&mut self, warnings: Vec<Diagnostic>) {
        let snapshot = self.handle.snapshot();
        let before = self.handle.status().diagnostics;
        for warning in warnings.iter().filter(|warning| !before.contains(warning)) {
            warn!(finding = %warning, "configuration");
        }
        info!(generation = snapshot.generation, warnings = warnings.len(), "configuration reloaded");
        self.handle.update_status(|status| {
            status.generation = snapshot.generation;
            status.number = snapshot.number;
            status.loaded_at = SystemTime::now();
            status.attempted_at = status.loaded_at;
            status.last_reload_ok = true;
            status.diagnostics = warnings;
            status.reloads_ok += 1;
        });
    }

    /// The last good configuration stays. The same findings again are said only when `always`: a file that an editor has
    /// moved away for a moment is reported once.
    fn refused(&mut self, findings: Vec<Diagnostic>, always: bool) {
        let status = self.handle.status();
        if !always && !status.last_reload_ok && status.diagnostics == findings {
            return;
        }
        for finding in &findings {
            match finding.severity {
                Severity::Error => error!(%finding, "configuration"),
                Severity::Warning => warn!(%finding, "configuration"),
            }
        }
        error!(generation = status.generation, "reload refused; the last good configuration keeps running");
        self.handle.update_status(|status| {
            status.attempted_at = SystemTime::now();
            status.last_reload_ok = false;
            status.diagnostics = findings;
            status.reloads_failed += 1;
        });
    }

    /// Brings timers and names in line with the snapshot that runs, and says what a person should know of it.
    fn follow(&mut self, now: Instant) {
        let snapshot = self.handle.snapshot();
        self.follow_names(&snapshot.mesh, now);
        self.sweeps.set_clusters(&snapshot, now);
        self.health.follow(&snapshot, now);
    }

    /// The part of it that depends on the instances of the registry.
    fn follow_names(&mut self, mesh: &Mesh, now: Instant) {
        self.registered.report_shared(mesh);
        let mut names = names_of(mesh);
        names.extend(self.registered.addresses().cloned());
        self.names.set_names(&names, now);
        let names = self.names.status();
        self.handle.update_status(|status| status.names = names);
    }

    fn watch_directories(&mut self, now: Instant) {
        let Some(watch) = &mut self.watch else { return };
        let mut directories = watched_directories(&self.settings.paths);
        directories.extend(self.certificates.watched_directories());
        let coverage = watch.set_directories(directories);
        self.watch_retry = (!coverage.complete).then_some(now + WATCH_RETRY);
        if coverage.gained {
            self.debounce.handle_event(now);
        }
    }

    fn sweep(&mut self, now: Instant) {
        if self.sweeps.poll_timeout().is_none_or(|due| due > now) {
            return;
        }
        let snapshot = self.handle.snapshot();
        for cluster in self.sweeps.take_due(&snapshot, now) {
            let Some(outlier) = &cluster.outlier else { continue };
            for event in outlier.sweep(&cluster.hosts, now, &mut fastrand::Rng::new()) {
                log_event(cluster, &event);
                self.handle.publisher().outlier_event(cluster, &event);
            }
        }
    }
}

fn start_watch(settings: &Settings) -> Option<FileWatch> {
    let files = settings.paths.iter().any(|path| !is_stdin(path));
    if !settings.watch || !files {
        return None;
    }
    match FileWatch::new() {
        Ok(watch) => Some(watch),
        Err(error) => {
            warn!(%error, "files cannot be watched; reload by SIGHUP");
            None
        }
    }
}

fn log_event(cluster: &Cluster, event: &OutlierEvent) {
    let at = |index: usize| cluster.addresses.get(index).map(SocketAddr::to_string).unwrap_or_default();
    match event {
        OutlierEvent::Ejected { index, duration, cause } => {
            info!(cluster = cluster.name, endpoint = at(*index), %cause, ?duration, "endpoint ejected");
        }
        OutlierEvent::Refused { index, cause, reason } => {
            info!(cluster = cluster.name, endpoint = at(*index), %cause, %reason, "endpoint not ejected");
        }
        OutlierEvent::Returned { index } => {
            info!(cluster = cluster.name, endpoint = at(*index), "endpoint takes part again");
        }
    }
}

async fn changed(watch: Option<&FileWatch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

/// Waits until the registry changed, and until it is followed again.
async fn rested(rest: Option<Instant>, registered: &mut Registered) {
    if let Some(rest) = rest {
        tokio::time::sleep_until(rest.into()).await;
    }
    registered.changed().await;
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake.into()).await,
        None => std::future::pending().await,
    }
}

mod endpoints;

#[cfg(test)]
mod tests;
