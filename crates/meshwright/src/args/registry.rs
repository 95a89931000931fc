//! Flags of the service registry in `run`: where it is kept, and who may use it.
//!
//! It opens nothing; the place of the default directory is decided here.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::value::{self, LocalListener};

/// Flags of the service registry.
#[derive(Clone, Debug, Args)]
pub struct RegistryArgs {
    /// Directory that keeps the service registry, or `none` for memory [default: the state directory, once something registers]
    #[arg(long, value_name = "DIR", env = "MESHWRIGHT_DATA")]
    data: Option<PathBuf>,

    /// File with a token in each line that clients of the registry have to show; may be limited by namespace=N, service=S, read-only
    #[arg(long = "registry-tokens", value_name = "FILE", env = "MESHWRIGHT_REGISTRY_TOKENS")]
    pub tokens: Option<PathBuf>,

    /// Address of the API that Consul's clients speak, usually 127.0.0.1:8500 [default: off]
    #[arg(long = "consul", id = "consul_address", value_name = "ADDR", value_parser = value::local_listener, env = "MESHWRIGHT_CONSUL")]
    consul: Option<LocalListener>,

    /// Address of the DNS server, usually 127.0.0.1:8600; UDP and TCP [default: off]
    #[arg(long = "dns", id = "dns_address", value_name = "ADDR", value_parser = value::local_listener, env = "MESHWRIGHT_DNS")]
    dns: Option<LocalListener>,

    /// DNS server that is asked for names outside of `mesh.` and `consul.`; without it they are refused
    #[arg(long, value_name = "ADDR", requires = "dns_address", value_parser = value::endpoint, env = "MESHWRIGHT_DNS_FORWARD")]
    pub dns_forward: Option<SocketAddr>,
}

/// Where the registry is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataPlace {
    /// In memory.
    Memory,
    /// In a directory that somebody asked for.
    Explicit(PathBuf),
    /// In the state directory of this user.
    Default(PathBuf),
}

impl RegistryArgs {
    /// Where Consul's clients find the registry.
    pub fn consul(&self) -> Option<SocketAddr> {
        at(self.consul)
    }

    /// Where the DNS server listens.
    pub fn dns(&self) -> Option<SocketAddr> {
        at(self.dns)
    }

    /// Where the registry is kept.
    pub fn place(&self) -> DataPlace {
        match &self.data {
            Some(data) if data.as_os_str() == "none" => DataPlace::Memory,
            Some(data) => DataPlace::Explicit(data.clone()),
            None => state_directory().map_or(DataPlace::Memory, DataPlace::Default),
        }
    }
}

fn at(listener: Option<LocalListener>) -> Option<SocketAddr> {
    match listener {
        Some(LocalListener::At(address)) => Some(address),
        Some(LocalListener::Off) | None => None,
    }
}

/// `$XDG_STATE_HOME/meshwright`, `/var/lib/meshwright` for root, `~/.local/state/meshwright`; none without a home.
fn state_directory() -> Option<PathBuf> {
    let path = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(state) = path("XDG_STATE_HOME") {
        return Some(state.join("meshwright"));
    }
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/var/lib/meshwright"));
    }
    path("HOME").map(|home| home.join(".local/state/meshwright"))
}
