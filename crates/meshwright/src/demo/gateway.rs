//! The demo's gateway: started as `run` starts one, with the embedded configuration, on this machine only.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use meshwright_config::Options;
use meshwright_control::Settings as ControlSettings;
use meshwright_snapshot::{CompileOptions, ListenerKind};
use meshwright_wire::Limits;

use super::story::Addresses;
use super::{CONFIGURATION, GATEWAY_PORT, free_port};
use crate::args::{DemoArgs, Face};
use crate::run::{Running, Settings};
use crate::{logging, render};

/// This machine.
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Where the admin API listens when nothing else does.
const ADMIN_PORT: u16 = 15000;
/// Where the mesh listener listens when nothing else does.
const MESH_PORT: u16 = 15001;
/// Connections from clients at one time.
const CONNECTIONS: usize = 1000;
/// Time that connections get at the end.
const DRAIN: Duration = Duration::from_secs(3);

/// Starts the gateway in front of `services`, written as `--service` takes them.
///
/// # Errors
/// A socket or a thread cannot be had, or the configuration is refused.
pub async fn start(args: &DemoArgs, services: &[String]) -> anyhow::Result<Running> {
    let services = services.iter().map(|text| text.parse()).collect::<Result<_, String>>();
    let control = ControlSettings {
        paths: vec![PathBuf::from("-")],
        stdin: Some(CONFIGURATION.as_bytes().to_vec()),
        config_options: Options { services: services.map_err(|error| anyhow!(error))?, ..Options::default() },
        credentials: None,
        compile_options: CompileOptions {
            bind: HERE,
            port_map: BTreeMap::from([(GATEWAY_PORT, free_port(GATEWAY_PORT)?)]),
            mesh_bind: Some(SocketAddr::new(HERE, free_port(MESH_PORT)?)),
            ..CompileOptions::default()
        },
        watch: false,
        name_server: None,
        registry: None,
    };
    let settings = Settings {
        control,
        admin: Face::Default(SocketAddr::new(HERE, ADMIN_PORT)),
        workers: 1,
        limits: Limits { connections: CONNECTIONS, ..Limits::default() },
        access_log: None,
        drain_timeout: DRAIN,
        explain_errors: true,
        proxy_protocol_ports: Vec::new(),
        max_memory: None,
        log_level: logging::start(&args.log).map_err(|error| anyhow!(error))?,
        registry: None,
        api_connections: CONNECTIONS,
    };
    match Running::start(settings).await? {
        Ok(running) => Ok(running),
        Err(findings) => {
            let lines: Vec<_> = findings.iter().map(render::one_line).collect();
            bail!("the gateway does not start: {}", lines.join("\n"))
        }
    }
}

/// Where the parts of the gateway listen.
///
/// # Errors
/// One of them does not.
pub fn addresses(running: &Running) -> anyhow::Result<Addresses> {
    let listeners = running.listeners();
    let find = |kind: ListenerKind| listeners.iter().find(|listener| listener.kind == kind);
    Ok(Addresses {
        gateway: find(ListenerKind::Gateway).context("the gateway does not listen")?.address,
        mesh: find(ListenerKind::Mesh).context("the mesh listener does not listen")?.address,
        admin: running.admin().context("the admin API does not listen")?,
    })
}
