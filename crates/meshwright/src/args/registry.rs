//! Flags of the service registry in `run`: where it is kept, and who may use it.
//!
//! It opens nothing; the place of the default directory is decided here.

use std::path::PathBuf;

use clap::Args;

/// Flags of the service registry.
#[derive(Clone, Debug, Args)]
pub struct RegistryArgs {
    /// Directory that keeps the service registry, or `none` for memory [default: the state directory, once something registers]
    #[arg(long, value_name = "DIR", env = "MESHWRIGHT_DATA")]
    data: Option<PathBuf>,

    /// File with a token in each line that clients of the registry have to show; may be limited by namespace=N, service=S, read-only
    #[arg(long = "registry-tokens", value_name = "FILE", env = "MESHWRIGHT_REGISTRY_TOKENS")]
    pub tokens: Option<PathBuf>,
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
    /// Where the registry is kept.
    pub fn place(&self) -> DataPlace {
        match &self.data {
            Some(data) if data.as_os_str() == "none" => DataPlace::Memory,
            Some(data) => DataPlace::Explicit(data.clone()),
            None => state_directory().map_or(DataPlace::Memory, DataPlace::Default),
        }
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
