//! The service registry of the process: opened where the flags say, for whom they say.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use meshwright_bridges::{Tokens, dns};
use meshwright_catalog::{Catalog, Keyspace, OpenError};
use meshwright_registry::{KeyLimits, Limits};

use tokio::sync::watch;

use super::running::told;
use super::store;
use crate::args::{DataPlace, RegistryArgs};

/// How long the start waits for a registry in etcd. Without it the process serves what its files say and is not ready.
const STORE_PATIENCE: Duration = Duration::from_secs(10);

/// What to do when the directory cannot be used.
const ELSEWHERE: &str = "the service registry (give it another place with --data, or `--data none`)";

/// The registry and who may use it.
#[derive(Clone)]
pub struct RegistrySettings {
    /// The registry.
    pub catalog: Catalog,
    /// Tokens of its clients.
    pub tokens: Tokens,
    /// Where Consul's clients find it, and the keys that they have beside it.
    pub consul: Option<(SocketAddr, Keyspace)>,
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
        if let Some((address, keys)) = self.consul {
            let listener = meshwright_site::listen(address);
            let listener =
                listener.with_context(|| format!("cannot listen on {address} for Consul's API (--consul)"))?;
            faces.consul = Some(listener.local_addr()?);
            let router = meshwright_bridges::consul::router(keys.clone(), self.tokens.clone());
            tokio::spawn(keys.run(told(stopped.clone())));
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
    let mut data_of_keys = None;
    let catalog = match args.place() {
        DataPlace::Store(url) => Catalog::connect(store::settings(args, url)?, limits, STORE_PATIENCE),
        DataPlace::Memory => in_memory(limits),
        DataPlace::Explicit(data) => {
            let catalog = Catalog::claim(&data, limits).context("--data")?;
            data_of_keys = Some(data);
            catalog
        }
        DataPlace::Default(data) => match Catalog::open(&data, limits) {
            Err(OpenError::InUse { process, .. }) => {
                tracing::warn!(
                    data = %data.display(), process,
                    "the default data directory is in use; the registry of this process is in memory, unless --data gives it a directory"
                );
                in_memory(limits)
            }
            opened => {
                let catalog = opened.context(ELSEWHERE)?;
                data_of_keys = Some(data);
                catalog
            }
        },
    };
    let tokens = match &args.tokens {
        Some(path) => Tokens::read(path).context("--registry-tokens")?,
        None => Tokens::default(),
    };
    let dns = args.dns().map(|address| (address, args.dns_forward));
    let consul = match args.consul() {
        None => None,
        Some(address) => Some((address, keys(&catalog, data_of_keys.as_deref())?)),
    };
    Ok(RegistrySettings { catalog, tokens, consul, dns })
}

/// A registry that is gone with the process. Who asks the next process for changes since a revision of this one is told to
/// begin again, for revisions are microseconds of the time at the start and more.
fn in_memory(limits: Limits) -> Catalog {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Catalog::in_memory(limits, u64::try_from(time.as_micros()).unwrap_or_default())
}

/// The keys of Consul's clients, where the registry is: in etcd, in the directory `data`, or in memory.
fn keys(catalog: &Catalog, data: Option<&Path>) -> Result<Keyspace> {
    let limits = KeyLimits::default();
    match (Keyspace::shared(catalog), data) {
        (Some(keys), _) => Ok(keys),
        (None, Some(data)) => Keyspace::open(catalog.clone(), data, limits).context(ELSEWHERE),
        (None, None) => Ok(Keyspace::in_memory(catalog.clone(), limits)),
    }
}
