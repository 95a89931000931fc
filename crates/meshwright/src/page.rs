//! Texts generated from the command line's own description: completion scripts, manual pages, the version.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;

use crate::args::{Cli, Output};

/// Version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Writes the completion script for `shell`.
///
/// # Errors
/// The output cannot be written.
pub fn completions(shell: clap_complete::Shell, out: &mut impl Write) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "meshwright", &mut script);
    out.write_all(&script).context("cannot write the completion script")
}

/// Writes the main manual page to `out`, or one page per command into `directory`.
///
/// # Errors
/// The directory cannot be made, or a page cannot be written; the message names it.
pub fn manual(directory: Option<&Path>, out: &mut impl Write) -> anyhow::Result<()> {
    let mut command = Cli::command();
    command.build();
    let Some(directory) = directory else {
        return clap_mangen::Man::new(command).render(out).context("cannot write the manual page");
    };
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    write_pages(&command, directory)
}

fn write_pages(command: &clap::Command, directory: &Path) -> anyhow::Result<()> {
    let page = clap_mangen::Man::new(command.clone());
    let path = directory.join(page.get_filename());
    let mut text = Vec::new();
    page.render(&mut text)?;
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    command
        .get_subcommands()
        .filter(|command| command.get_name() != "help")
        .try_for_each(|child| write_pages(child, directory))
}

/// Writes the version.
///
/// # Errors
/// The output cannot be written.
pub fn version(output: Output, out: &mut impl Write) -> anyhow::Result<()> {
    match output {
        Output::Text => writeln!(out, "meshwright {VERSION}")?,
        Output::Json => writeln!(out, "{}", serde_json::json!({ "name": "meshwright", "version": VERSION }))?,
    }
    Ok(())
}
