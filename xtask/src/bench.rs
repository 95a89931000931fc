//! `cargo xtask bench`: CPU time per request of meshwright beside HAProxy, nginx and Envoy.
//!
//! One worker each, pinned to one core; origin and load share another one; medians of interleaved rounds. This file reads
//! the command line and goes through the scenarios; `session.rs` measures one, `peer.rs` knows the proxies, `report.rs`
//! the words. The method is told in docs/benchmarks.md, which `--write` renews.

pub(crate) mod backend;
mod certificate;
pub(crate) mod child;
mod counters;
mod counts;
mod figures;
mod histogram;
pub(crate) mod http;
pub(crate) mod load;
mod measure;
pub(crate) mod peer;
mod report;
pub(crate) mod scenario;
mod session;
mod statistics;
mod target;

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::tree;
use figures::Figures;
use peer::{Peer, Programs};
use scenario::Scenario;
use session::{Plan, Session};

/// Arguments of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArguments {
    /// Two rounds of half a second: a look, not a result
    #[arg(long)]
    quick: bool,
    /// Rounds of each scenario with a target, a third of it for the others; every round measures each proxy once
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Milliseconds measured in each round
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(100..=600_000))]
    window: u64,
    /// Proxies to measure; all when absent
    #[arg(long, value_enum, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// Scenarios to measure; all when absent
    #[arg(long, value_enum, value_delimiter = ',')]
    scenarios: Vec<Scenario>,
    /// Write docs/benchmarks.md
    #[arg(long)]
    write: bool,
    /// Measure the release binaries that are there
    #[arg(long, overrides_with = "no_build")]
    no_build: bool,
}

/// Builds, measures, prints, and with `--write` renews docs/benchmarks.md.
///
/// # Errors
/// When something cannot be built, installed, started or measured. A target that is missed is no error: it is reported.
pub(crate) fn run(arguments: &BenchArguments) -> Result<ExitCode> {
    let target = tree::target_directory()?;
    if !arguments.no_build {
        build(arguments)?;
    }
    if cfg!(debug_assertions) {
        return Err(continue_in_release(&target));
    }
    let peers = chosen(&arguments.peers);
    let scenarios = chosen(&arguments.scenarios);
    let programs = Programs::prepare(&peers, &target)?;
    if peers.contains(&Peer::Ours) && !programs.ours.is_file() {
        bail!("{} is not there; leave --no-build away", programs.ours.display());
    }
    let plan = if arguments.quick {
        Plan { rounds: 2, window: Duration::from_millis(500) }
    } else {
        Plan { rounds: arguments.rounds, window: Duration::from_millis(arguments.window) }
    };
    warn_of_company();
    let facts = report::Facts::collect(&peers, &programs, plan)?;
    let session = Session::begin(programs, plan, &target.join("bench"))?;
    let mut results: Vec<(Scenario, Figures)> = Vec::new();
    let mut failed = false;
    for scenario in scenarios {
        println!("{}: {}", scenario.name(), scenario.title());
        match session.measure(scenario, &peers) {
            Ok(figures) => results.push((scenario, figures)),
            Err(error) => {
                eprintln!("xtask: {}: {error:#}", scenario.name());
                failed = true;
            }
        }
    }
    drop(session);
    println!("\n{}", report::tables(&results));
    if failed {
        bail!("a scenario could not be measured");
    }
    if arguments.write {
        let path = tree::root().join("docs/benchmarks.md");
        std::fs::write(&path, report::document(&facts, &peers, &results))
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("wrote {}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// What was asked for, once each and in order; everything when nothing was.
fn chosen<T: clap::ValueEnum + Copy + Ord>(asked: &[T]) -> Vec<T> {
    let mut all = if asked.is_empty() { T::value_variants().to_vec() } else { asked.to_vec() };
    all.sort_unstable();
    all.dedup();
    all
}

/// Says so when other work runs on the machine: the figures of such a run are good for a look only.
fn warn_of_company() {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = text.split(' ').next().and_then(|word| word.parse::<f64>().ok()).unwrap_or(0.0);
    if load > 0.5 {
        eprintln!("warning: the load average is {load}; other work on this machine disturbs the measurement");
    }
}

/// Builds this tool and, when it takes part, the product, both in release mode.
fn build(arguments: &BenchArguments) -> Result<()> {
    let mut command = tree::cargo();
    command.args(["build", "--release", "--package", "xtask"]);
    if chosen(&arguments.peers).contains(&Peer::Ours) {
        command.args(["--package", "meshwright"]);
    }
    let status = command.status().context("cannot run cargo build")?;
    if !status.success() {
        bail!("the release build failed");
    }
    Ok(())
}

/// An unoptimised load generator would measure itself, so the release build of this tool takes over.
fn continue_in_release(target: &Path) -> anyhow::Error {
    let mut command = Command::new(target.join("release/xtask"));
    command.args(std::env::args_os().skip(1)).arg("--no-build");
    anyhow::Error::new(command.exec()).context("cannot start the release build of xtask")
}
