//! `cargo xtask instructions`: what the cases of `bench` cost in instructions and in nanoseconds. Callgrind counts; the
//! difference between a run of N and one of 2 N is what N cost, without start and set-up. Read next: `bench/src/cases.rs`.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::install::{self, Requirement};
use crate::tree;

/// Times that each case is done in the shorter run.
const COUNT: u64 = 20_000;

/// Builds the cases, counts, and prints a table.
///
/// # Errors
/// When something cannot be installed, built or run.
pub(crate) fn run() -> Result<ExitCode> {
    install::ensure_programs(&[Requirement { program: "valgrind", package: "valgrind" }])?;
    let program = build()?;
    let list = Command::new(&program).arg("list").output().context("cannot run the cases")?;
    println!("{:<44} {:>12}", "per request", "instructions");
    for case in String::from_utf8_lossy(&list.stdout).lines() {
        let [shorter, longer] = [count(&program, case, COUNT)?, count(&program, case, 2 * COUNT)?];
        println!("{case:<44} {:>12.0}", longer.saturating_sub(shorter) as f64 / COUNT as f64);
    }
    println!();
    let status = Command::new(&program).status().context("cannot run the cases")?;
    ensure!(status.success(), "the cases ended with {status}");
    Ok(ExitCode::SUCCESS)
}

fn build() -> Result<PathBuf> {
    let target = tree::target_directory()?.join("bench");
    let manifest = tree::root().join("bench/Cargo.toml");
    let status = tree::cargo()
        .args(["build", "--release", "--locked", "--manifest-path"])
        .arg(manifest)
        .arg("--target-dir")
        .arg(&target)
        .status()
        .context("cannot run cargo build")?;
    ensure!(status.success(), "the cases could not be built");
    Ok(target.join("release/meshwright-bench"))
}

/// Instructions of one run.
fn count(program: &Path, case: &str, count: u64) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["run", case, &count.to_string()])
        .stdin(Stdio::null())
        .output()
        .context("cannot run valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("valgrind failed with {}: {said}", output.status);
    }
    let collected = said.lines().find_map(|line| line.split_once("Collected : ")).map(|(_, number)| number.trim());
    collected.and_then(|number| number.parse().ok()).with_context(|| format!("callgrind did not count: {said}"))
}
