//! The service registry of the process: opened where the flags say, for whom they say.

use anyhow::{Context, Result};
use meshwright_bridges::Tokens;
use meshwright_catalog::{Catalog, OpenError};
use meshwright_registry::Limits;

use crate::args::{DataPlace, RegistryArgs};

/// The registry and who may use it.
#[derive(Clone)]
pub struct RegistrySettings {
    /// The registry.
    pub catalog: Catalog,
    /// Tokens of its clients.
    pub tokens: Tokens,
}

/// Opens the registry. The default directory gives way to memory when another process uses it; one that was asked for
/// does not.
///
/// # Errors
/// The directory or the file of tokens cannot be used.
pub fn open(args: &RegistryArgs) -> Result<RegistrySettings> {
    let limits = Limits::default();
    let catalog = match args.place() {
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
    Ok(RegistrySettings { catalog, tokens })
}
