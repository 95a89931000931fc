//! `meshwright run` and `meshwright proxy`: the wiring of control plane, data plane and admin API, from start to last byte.
//!
//! Order of the start: limits of the process, workers, admin socket, configuration (which opens the listeners), signals.
//! Order of the end: readiness says 503, listeners close when their queues are empty, connections finish or their time is
//! over, logs are flushed. Read next: `running.rs`.

mod dump;
mod publisher;
mod registry;
mod resilience;
mod running;
mod store;
mod system;
mod views;

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use meshwright_config::Options;
use meshwright_control::Settings as ControlSettings;
use meshwright_proxy::{AccessLog as AccessLogSink, AccessLogTarget};
use meshwright_snapshot::CompileOptions;
use meshwright_telemetry::AccessLogFormat;

use crate::args::value::AccessLog;
use crate::args::{EXIT_BAD_CONFIGURATION, EXIT_FAILURE, EXIT_OK, Face, ProcessArgs, ProxyArgs, RunArgs};
use crate::logging::{self, LogLevel};
use crate::{render, validate};

pub use registry::{Faces, RegistrySettings};
pub use running::{Running, Settings, Stopped};

/// Port of the gateway in the configuration that `proxy` makes; `--from` says where it listens.
const PROXY_PORT: u16 = 80;

/// Runs `meshwright run` until it is told to stop.
///
/// # Errors
/// The process cannot be set up: sockets, threads, files. A configuration that is refused is not an error here: it is
/// printed, and the exit code says so.
pub fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let log_level = logging::start(&args.process.log).map_err(|error| anyhow!(error))?;
    let registry = registry::open(&args.registry)?;
    let stdin = validate::standard_input(&args.mesh.files).context("cannot read standard input")?;
    let control = ControlSettings {
        paths: args.mesh.files.clone(),
        stdin,
        config_options: Options {
            namespace: args.mesh.namespace.clone(),
            services: args.mesh.services.clone(),
            health: args.mesh.health.clone(),
            ..Options::default()
        },
        credentials: args.mesh.credentials.clone(),
        compile_options: CompileOptions {
            bind: args.bind,
            port_map: args.mesh.port_map(),
            mesh_bind: mesh_address(args.mesh_listener()),
            namespace: args.mesh.namespace.clone(),
            gateway_labels: args.mesh.gateway_labels(),
            locality: args.mesh.locality.clone(),
            ..CompileOptions::default()
        },
        watch: args.watches(),
        name_server: None,
        registry: Some(registry.catalog.clone()),
    };
    let settings = settings(&args.process, args.admin(), control, log_level)?;
    serve(Settings { registry: Some(registry), ..settings })
}

/// Runs `meshwright proxy` until it is told to stop.
///
/// # Errors
/// As [`run`].
pub fn proxy(args: &ProxyArgs) -> anyhow::Result<ExitCode> {
    let log_level = logging::start(&args.process.log).map_err(|error| anyhow!(error))?;
    let service = args.service().map_err(|error| anyhow!("--to: {error}"))?;
    let control = ControlSettings {
        paths: vec![PathBuf::from("-")],
        stdin: Some(proxy_configuration(&args.lb).into_bytes()),
        config_options: Options { services: vec![service], health: args.health.clone(), ..Options::default() },
        credentials: None,
        compile_options: CompileOptions {
            bind: args.from.ip(),
            port_map: [(PROXY_PORT, args.from.port())].into(),
            ..CompileOptions::default()
        },
        watch: false,
        name_server: None,
        registry: None,
    };
    serve(settings(&args.process, args.admin(), control, log_level)?)
}

/// What `proxy` means, in the words of `run`.
fn proxy_configuration(load_balancer: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: proxy}}
spec:
  servers: [{{port: {{number: {PROXY_PORT}, name: http, protocol: HTTP}}, hosts: ['*']}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: proxy}}
spec:
  hosts: ['*']
  gateways: [proxy]
  http: [{{route: [{{destination: {{host: upstream}}}}]}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: proxy, annotations: {{meshwright.io/load-balancer: {load_balancer}}}}}
spec:
  host: upstream
"
    )
}

fn settings(
    process: &ProcessArgs,
    admin: Face,
    control: ControlSettings,
    log_level: LogLevel,
) -> anyhow::Result<Settings> {
    let mut limits = process.limits.limits();
    let descriptors = system::raise_descriptor_limit();
    if process.limits.max_connections.is_none() {
        limits.connections = system::connections_for(descriptors);
    }
    if process.limits.max_connections_per_source.is_none() {
        limits.connections_per_source = system::places_of_one_source(limits.connections);
    }
    Ok(Settings {
        control,
        admin,
        workers: process.workers.unwrap_or_else(system::cores),
        limits,
        access_log: open_access_log(&process.access_log)?,
        drain_timeout: process.drain_timeout,
        explain_errors: process.explain_errors,
        proxy_protocol_ports: process.proxy_protocol_ports.clone(),
        max_memory: process.limits.max_memory.or_else(system::usable_memory),
        log_level,
        registry: None,
        api_connections: system::api_connections_for(descriptors),
    })
}

fn open_access_log(wanted: &AccessLog) -> anyhow::Result<Option<AccessLogSink>> {
    let (format, path) = match wanted {
        AccessLog::Off => return Ok(None),
        AccessLog::Text(path) => (AccessLogFormat::Text, path),
        AccessLog::Json(path) => (AccessLogFormat::Json, path),
    };
    let target = path.clone().map_or(AccessLogTarget::Stdout, AccessLogTarget::File);
    let log = AccessLogSink::open(format, &target).with_context(|| match path {
        Some(path) => format!("cannot write the access log {}", path.display()),
        None => "cannot write the access log".to_owned(),
    })?;
    Ok(Some(log))
}

/// The mesh listener's address: a default one that is busy gives way to a free port.
fn mesh_address(face: Face) -> Option<SocketAddr> {
    match face {
        Face::Off => None,
        Face::Explicit(address) => Some(address),
        Face::Default(address) if system::is_free(address) => Some(address),
        Face::Default(address) => {
            tracing::warn!(busy = %address, "the default address of the mesh listener is in use; it moves to a free port");
            Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0))
        }
    }
}

/// Starts, says where, waits for the end.
fn serve(settings: Settings) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let sources = settings.control.clone();
    let ended = runtime.block_on(async move {
        let running = match Running::start(settings).await? {
            Ok(running) => running,
            Err(findings) => {
                let texts = meshwright_control::read_sources(&sources.paths, sources.stdin.as_deref());
                render::to_stderr(&findings, &texts.unwrap_or_default())?;
                return Ok(ExitCode::from(EXIT_BAD_CONFIGURATION));
            }
        };
        announce(&running, &mut io::stderr().lock())?;
        let stopped = running.until_signalled().await?;
        Ok(match stopped {
            Stopped::Drained => ExitCode::from(EXIT_OK),
            Stopped::Forced => ExitCode::from(EXIT_FAILURE),
        })
    });
    // The admin API may still render a page, and after a second signal workers still serve: nobody waits for either.
    runtime.shutdown_background();
    ended
}

fn announce(running: &Running, out: &mut dyn Write) -> io::Result<()> {
    for finding in running.findings() {
        writeln!(out, "{}", render::one_line(finding))?;
    }
    for listener in running.listeners() {
        let kind = views::kind_of(listener.kind);
        writeln!(out, "listening {} {kind} {}://{}", listener.name, listener.scheme, listener.address)?;
    }
    if let Some(admin) = running.admin() {
        writeln!(out, "admin http://{admin}")?;
    }
    if let Some(consul) = running.faces().consul {
        writeln!(out, "consul http://{consul}")?;
    }
    if let Some(dns) = running.faces().dns {
        writeln!(out, "dns {dns}")?;
    }
    writeln!(out, "ready")?;
    out.flush()
}
