//! The service registry of the process: opened where the flags say, for whom they say.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use meshwright_bridges::{Tokens, dns};
use meshwright_catalog::{Catalog, OpenError};
use meshwright_registry::Limits;

use tokio::net::TcpListener;
use tokio::sync::watch;

use super::running::told;
use super::store;
use crate::args::{DataPlace, RegistryArgs};

/// How long the start waits for a registry in etcd. Without it the process serves what its files say and is not ready.
const STORE_PATIENCE: Duration = Duration::from_secs(10);

/// The registry and who may use it.
#[derive(Clone)]
pub struct RegistrySettings {
    /// The registry.
    pub catalog: Catalog,
    /// Tokens of its clients.
    pub tokens: Tokens,
    /// Where Consul's clients find it.
    pub consul: Option<SocketAddr>,
    /// Where the DNS server listens, and who is asked for other names.
    pub dns: Option<(SocketAddr, Option<SocketAddr>)>,
}

/// Where the faces of the registry listen that have addresses of their own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faces {
    /// Consul's API.
    pub consul: Option<SocketAddr>,
    /// DNS.
    pub dns: Option<SocketAddr>,
}

impl RegistrySettings {
    /// Opens the faces with addresses of their own and starts everything that the registry does by itself, until `stopped`.
    ///
    /// # Errors
    /// An address cannot be bound.
    pub async fn start(self, connections: usize, stopped: &watch::Receiver<bool>) -> Result<Faces> {
        let mut faces = Faces::default();
        if let Some(address) = self.consul {
            let listener = TcpListener::bind(address).await;
            let listener =
                listener.with_context(|| format!("cannot listen on {address} for Consul's API (--consul)"))?;
            faces.consul = Some(listener.local_addr()?);
            let router = meshwright_bridges::consul::router(self.catalog.clone(), self.tokens.clone());
            let stopped = told(stopped.clone());
            tokio::spawn(async move {
                if let Err(error) = meshwright_site::serve(listener, router, connections, stopped).await {
                    tracing::error!(%error, "Consul's API ended");
                }
            });
        }
        if let Some((address, forward)) = self.dns {
            let server = dns::Server::bind(address, self.catalog.clone(), forward).await;
            let server = server.with_context(|| format!("cannot listen on {address} for DNS (--dns)"))?;
            faces.dns = Some(server.local_address()?);
            tokio::spawn(server.run(told(stopped.clone())));
        }
        let stop = told(stopped.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = self.tokens.follow() => {}
                () = stop => {}
            }
        });
        tokio::spawn(self.catalog.run(told(stopped.clone())));
        Ok(faces)
    }
}

/// Opens the registry. The default directory gives way to memory when another process uses it; one that was asked for
/// does not.
///
/// # Errors
/// The directory or the file of tokens cannot be used.
pub fn open(args: &RegistryArgs) -> Result<RegistrySettings> {
    let limits = Limits::default();
    let catalog = match args.place() {
        DataPlace::Store(url) => Catalog::connect(store::settings(args, url)?, limits, STORE_PATIENCE),
        DataPlace::Memory => Catalog::in_memory(limits),
        DataPlace::Explicit(data) => Catalog::claim(&data, limits).context("--data")?,
        DataPlace::Default(data) => match Catalog::open(&data, limits) {
            Err(OpenError::InUse { process, .. }) => {
                tracing::warn!(
                    data = %data.display(), process,
                    "the default data directory is in use; the registry of this process is in memory, unless --data gives it a directory"
                );
                Catalog::in_memory(limits)
            }
            opened => opened.context("the service registry (give it another place with --data, or `--data none`)")?,
        },
    };
    let tokens = match &args.tokens {
        Some(path) => Tokens::read(path).context("--registry-tokens")?,
        None => Tokens::default(),
    };
    let dns = args.dns().map(|address| (address, args.dns_forward));
    Ok(RegistrySettings { catalog, tokens, consul: args.consul(), dns })
}
