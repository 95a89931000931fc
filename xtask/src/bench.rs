//! `cargo xtask bench`: CPU time per request of meshwright beside HAProxy, nginx and Envoy.
//!
//! One worker each, pinned to one core; origin and load share another one; medians of interleaved rounds. This file reads
//! the command line and goes through the scenarios; `session.rs` measures one, `peer.rs` knows the proxies, `report.rs`
//! the words. The method is told in docs/benchmarks.md, which `--write` renews.

pub(crate) mod backend;
pub(crate) mod child;
mod histogram;
pub(crate) mod http;
pub(crate) mod load;
mod measure;
pub(crate) mod peer;
mod report;
mod scenario;
mod session;

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::tree;
use peer::{Peer, Programs};
use scenario::Scenario;
use session::{Figures, Plan, Session};

/// Arguments of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArguments {
    /// Two rounds of one second: a look, not a result
    #[arg(long)]
    quick: bool,
    /// Rounds of each scenario; every round measures each proxy once
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds measured in each round
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Proxies to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Peer::Ours, Peer::Haproxy, Peer::Nginx, Peer::Envoy])]
    peers: Vec<Peer>,
    /// Scenarios to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [
        Scenario::Small64, Scenario::Small1000, Scenario::Body64k, Scenario::Mesh, Scenario::Log, Scenario::Idle, Scenario::Start,
    ])]
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
    let mut peers = arguments.peers.clone();
    peers.sort_unstable();
    peers.dedup();
    let mut scenarios = arguments.scenarios.clone();
    scenarios.sort_unstable();
    scenarios.dedup();
    let programs = Programs::prepare(&peers, &target)?;
    if peers.contains(&Peer::Ours) && !programs.ours.is_file() {
        bail!("{} is not there; leave --no-build away", programs.ours.display());
    }
    let plan = if arguments.quick {
        Plan { rounds: 2, seconds: 1 }
    } else {
        Plan { rounds: arguments.rounds, seconds: arguments.seconds }
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
    if arguments.peers.contains(&Peer::Ours) {
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
