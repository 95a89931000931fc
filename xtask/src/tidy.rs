//! `cargo xtask tidy`: the house rules that no compiler checks.
//!
//! Crate edges against the table in ARCHITECTURE.md (`tidy/ladder.rs`), sizes of files and functions and the opening words
//! of each file (`tidy/size.rs`), documents that name only what exists (`tidy/documents.rs`), words that have no place in
//! the tree (`tidy/words.rs`). A finding can be excused with a reason (`tidy/exceptions.rs`); an excuse that excuses
//! nothing is itself a finding. It knows nothing of what the code does.

mod documents;
mod exceptions;
mod ladder;
mod scan;
mod size;
mod words;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::tree;

/// A rule that is broken somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What the exceptions file names to excuse it: `path` or `path::item`.
    pub(crate) key: String,
    /// `path` or `path:line`.
    pub(crate) place: String,
    /// What is wrong, and what would be right.
    pub(crate) text: String,
}

/// A file of the tree and its text.
pub(crate) struct SourceFile {
    /// Path relative to the root, with `/`.
    pub(crate) path: String,
    /// Its text.
    pub(crate) text: String,
}

/// Prints every finding; the exit code says whether there is one.
///
/// # Errors
/// When the tree cannot be read.
pub(crate) fn run() -> Result<ExitCode> {
    let findings = findings(&tree::root())?;
    for finding in &findings {
        println!("{}: {}", finding.place, finding.text);
    }
    match findings.len() {
        0 => println!("tidy"),
        1 => println!("one finding"),
        count => println!("{count} findings"),
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The same as a step of the test run.
///
/// # Errors
/// When the tree cannot be read, and when there is a finding.
pub(crate) fn check_tree() -> Result<()> {
    let findings = findings(&tree::root())?;
    if findings.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = findings.iter().map(|finding| format!("{}: {}", finding.place, finding.text)).collect();
    bail!("{} findings:\n{}", findings.len(), lines.join("\n"))
}

fn findings(root: &Path) -> Result<Vec<Finding>> {
    let paths = tree::files(root)?;
    let files = read_texts(root, &paths)?;
    let architecture = text_of(&files, ladder::DOCUMENT);
    let mut found = ladder::check(architecture, &ladder::packages(&tree::metadata()?)?);
    found.extend(files.iter().filter(|file| file.path.ends_with(".rs")).flat_map(size::check));
    let names = documents::Names::collect(&paths, &tree::metadata()?, &files);
    found.extend(files.iter().filter(|file| documents::is_document(&file.path)).flat_map(|file| names.check(file)));
    found.extend(files.iter().flat_map(words::check));
    Ok(exceptions::apply(found, text_of(&files, exceptions::FILE)))
}

fn text_of<'a>(files: &'a [SourceFile], path: &str) -> &'a str {
    files.iter().find(|file| file.path == path).map_or("", |file| file.text.as_str())
}

/// Reads what the rules look into; other files (images, lock files) are left out.
fn read_texts(root: &Path, paths: &[String]) -> Result<Vec<SourceFile>> {
    const ENDINGS: [&str; 8] = [".rs", ".md", ".toml", ".yaml", ".yml", ".txt", ".sh", ".py"];
    let wanted = |path: &&String| ENDINGS.iter().any(|ending| path.ends_with(ending)) || path.starts_with(".ci/");
    let read = |path: &String| {
        let bytes = std::fs::read(root.join(path)).with_context(|| format!("cannot read {path}"))?;
        Ok(SourceFile { path: path.clone(), text: String::from_utf8_lossy(&bytes).into_owned() })
    };
    paths.iter().filter(wanted).map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        if let Err(error) = check_tree() {
            panic!("{error:#}");
        }
    }
}
