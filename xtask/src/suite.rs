//! `cargo xtask test`: everything that must hold before a change goes in, and a closing summary.
//!
//! Every step runs even when an earlier one failed, so that one run shows all that is wrong. It installs the third-party
//! programs that the tests talk to. It does not know what the tests test. Read next: docs/testing.md.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::install::{self, Requirement};
use crate::{tidy, tree};

/// Programs that capability tests use as clients, as upstreams and as stores.
const PROGRAMS: [Requirement; 12] = [
    Requirement { program: "curl", package: "curl" },
    Requirement { program: "nginx", package: "nginx" },
    Requirement { program: "openssl", package: "openssl" },
    Requirement { program: "h2load", package: "nghttp2-client" },
    Requirement { program: "nghttp", package: "nghttp2-client" },
    Requirement { program: "nghttpd", package: "nghttp2-server" },
    Requirement { program: "slowhttptest", package: "slowhttptest" },
    Requirement { program: "strace", package: "strace" },
    Requirement { program: "etcd", package: "etcd-server" },
    Requirement { program: "python3", package: "python3" },
    Requirement { program: "node", package: "nodejs" },
    Requirement { program: "npm", package: "npm" },
];

/// Python packages that capability tests use as clients, in `python` of the build directory.
const PYTHON_PACKAGES: [&str; 7] = [
    "grpcio==1.85.3",
    "websockets==17.4",
    "h2==4.4.1",
    "sslyze==6.3.1",
    "py-eureka-client==0.13.3",
    "py-consul==1.8.0",
    "schemathesis==4.32.5",
];

/// A client with the module name of another one: it has an environment of its own, `python-consul2`.
const OTHER_PYTHON_PACKAGES: [&str; 1] = ["python-consul2==0.1.5"];

/// Packages of Node.js that capability tests use as clients, in `node` of the build directory.
const NODE_PACKAGES: [&str; 2] = ["eureka-js-client@4.5.0", "consul@2.0.1"];

/// Autobahn's WebSocket test suite, which runs under Python 2.7 alone, in `autobahn` of the build directory.
const AUTOBAHN: [&str; 1] = ["autobahntestsuite==25.10.1"];

const NO_PYTHON2: &str = "there is no Python 2.7 with pip here, neither in the path nor of pyenv";

/// Property-test cases per property in the longer tier.
const LONG_CASES: &str = "8192";

/// Arguments of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub(crate) struct TestArguments {
    /// The longer tier: many more property-test cases, the tests marked `#[ignore]`, and advisories
    #[arg(long)]
    long: bool,
}

/// Arguments of `cargo xtask tools`.
#[derive(Debug, clap::Args)]
pub(crate) struct ToolsArguments {
    /// Also Autobahn's suite, which the longer tier runs where there is a Python 2.7
    #[arg(long)]
    long: bool,
}

struct Step {
    name: &'static str,
    took: Duration,
    outcome: Outcome,
}

enum Outcome {
    Passed,
    Failed(String),
    Skipped(&'static str),
}

/// Runs all steps.
///
/// # Errors
/// When the programs that tests need are missing and cannot be installed. Failing steps are reported in the summary and
/// by the exit code.
pub(crate) fn run(arguments: &TestArguments) -> Result<ExitCode> {
    let began = Instant::now();
    install_tools()?;
    let mut steps = vec![
        step("house rules (tidy)", tidy::check_tree),
        step("formatting", || cargo(&["fmt", "--all", "--check"])),
        step("lints", || cargo(&["clippy", "--workspace", "--all-targets", "--keep-going", "--", "-D", "warnings"])),
        step("tests", || cargo(&["test", "--workspace", "--no-fail-fast"])),
    ];
    if arguments.long {
        steps.push(step("tests, longer tier", long_tests));
        steps.push(autobahn());
        steps.push(step("every interleaving (loom)", loom_tests));
        steps.push(step("cargo-deny, installed", install_cargo_deny));
        steps.push(advisories());
    }
    steps.push(deny());
    Ok(summary(&steps, began.elapsed()))
}

/// Installs what the tests need, and what the longer tier needs when asked to.
///
/// # Errors
/// When something is missing and cannot be installed.
pub(crate) fn tools(arguments: &ToolsArguments) -> Result<ExitCode> {
    install_tools()?;
    if arguments.long && !install_autobahn()? {
        eprintln!("Autobahn's suite is not installed: {NO_PYTHON2}");
    }
    Ok(ExitCode::SUCCESS)
}

fn install_tools() -> Result<()> {
    install::ensure_programs(&PROGRAMS)?;
    install::ensure_python(&tree::target_directory()?.join("python"), &PYTHON_PACKAGES)?;
    install::ensure_python(&tree::target_directory()?.join("python-consul2"), &OTHER_PYTHON_PACKAGES)?;
    install::ensure_node(&tree::target_directory()?.join("node"), &NODE_PACKAGES)
}

fn step(name: &'static str, work: impl FnOnce() -> Result<()>) -> Step {
    println!("\n=== {name}");
    let began = Instant::now();
    let outcome = match work() {
        Ok(()) => Outcome::Passed,
        Err(error) => Outcome::Failed(format!("{error:#}")),
    };
    if let Outcome::Failed(reason) = &outcome {
        eprintln!("{reason}");
    }
    Step { name, took: began.elapsed(), outcome }
}

fn cargo(arguments: &[&str]) -> Result<()> {
    execute(tree::cargo().args(arguments), &format!("cargo {}", arguments.join(" ")))
}

fn execute(command: &mut Command, name: &str) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {name}"))?;
    if !status.success() {
        bail!("`{name}` failed with {status}");
    }
    Ok(())
}

fn long_tests() -> Result<()> {
    let mut command = tree::cargo();
    command
        .args(["test", "--workspace", "--no-fail-fast", "--", "--include-ignored", "--skip", "autobahns_cases"])
        .env("PROPTEST_CASES", LONG_CASES);
    execute(&mut command, "cargo test --workspace -- --include-ignored")
}

/// Installs Autobahn's suite; false where there is no Python 2.7 to run it.
fn install_autobahn() -> Result<bool> {
    let Some(python) = install::find_python2() else { return Ok(false) };
    install::ensure_python2(&python, &tree::target_directory()?.join("autobahn"), &AUTOBAHN)?;
    Ok(true)
}

/// Its own step, because most systems have no Python 2.7 any more: the summary says so there.
fn autobahn() -> Step {
    const NAME: &str = "WebSocket (Autobahn's suite)";
    match install_autobahn() {
        Ok(false) => skipped(NAME, NO_PYTHON2),
        installed => step(NAME, || {
            installed?;
            cargo(&["test", "-p", "meshwright", "--test", "autobahn", "--", "--ignored"])
        }),
    }
}

/// The words that threads share without a lock, under every interleaving. Built apart: everything is compiled anew for it.
fn loom_tests() -> Result<()> {
    let mut command = tree::cargo();
    command
        .args(["test", "-p", "meshwright-traffic", "--test", "loom", "--target-dir"])
        .arg(tree::target_directory()?.join("loom"))
        .env("RUSTFLAGS", "--cfg loom");
    execute(&mut command, "cargo test -p meshwright-traffic --test loom")
}

fn install_cargo_deny() -> Result<()> {
    if has_deny() {
        return Ok(());
    }
    cargo(&["install", "--locked", "cargo-deny"])
}

fn has_deny() -> bool {
    let asked = tree::cargo().args(["deny", "--version"]).output();
    asked.is_ok_and(|output| output.status.success())
}

/// Licences, bans and sources, which need no network.
fn deny() -> Step {
    const NAME: &str = "dependencies (cargo-deny)";
    if has_deny() {
        return step(NAME, || cargo(&["deny", "--offline", "check", "bans", "licenses", "sources"]));
    }
    skipped(NAME, "cargo-deny is not installed; `cargo xtask test --long` installs it")
}

/// Advisories need the advisory database, which is fetched; where it cannot be had, there is nothing to judge by.
fn advisories() -> Step {
    const NAME: &str = "advisories (cargo-deny)";
    if !has_deny() || cargo(&["deny", "fetch", "db"]).is_err() {
        return skipped(NAME, "the advisory database cannot be fetched here");
    }
    step(NAME, || cargo(&["deny", "check", "advisories"]))
}

fn skipped(name: &'static str, reason: &'static str) -> Step {
    Step { name, took: Duration::ZERO, outcome: Outcome::Skipped(reason) }
}

fn summary(steps: &[Step], took: Duration) -> ExitCode {
    println!("\n=== summary");
    let mut failed = false;
    for step in steps {
        let (word, reason) = match &step.outcome {
            Outcome::Passed => ("passed ", String::new()),
            Outcome::Skipped(reason) => ("skipped", format!("  {reason}")),
            Outcome::Failed(reason) => {
                failed = true;
                ("FAILED ", format!("  {}", reason.lines().next().unwrap_or_default()))
            }
        };
        println!("{word} {:>6.1} s  {}{reason}", step.took.as_secs_f64(), step.name);
    }
    println!("{} in {:.0} s", if failed { "FAILED" } else { "all passed" }, took.as_secs_f64());
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
