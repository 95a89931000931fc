//! The project's own tasks: `cargo xtask tidy`, `cargo xtask test`, `cargo xtask tools`, `cargo xtask bench`.
//!
//! It knows the tree, the tools around it and other proxies; it does not know what is inside the product's crates and
//! links none of them but the test kit. Read next: `tidy.rs` for the house rules, `suite.rs` for the test run, `bench.rs` for
//! the figures, `corpus.rs` for the hostile inputs.

mod bench;
mod corpus;
mod install;
mod instructions;
mod suite;
mod tidy;
mod tree;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The command line of xtask.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "House rules, the whole test run, and benchmarks", max_term_width = 110)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Check the house rules: crate edges, sizes, documents, words
    Tidy,
    /// Run everything: formatting, lints, house rules, all tests; installs what the tests need
    Test(suite::TestArguments),
    /// Install the programs and Python packages that the tests need, as `test` does
    Tools(suite::ToolsArguments),
    /// Measure CPU per request beside HAProxy, nginx and Envoy
    Bench(bench::BenchArguments),
    /// Count the instructions of a choice, a circuit breaker and accounting, beside other crates; needs no quiet machine
    Instructions,
    /// Send the corpus of hostile inputs to other proxies too, and compare
    Corpus(corpus::CorpusArguments),
    /// (child of `bench`) the origin server behind the proxies
    #[command(hide = true)]
    BenchBackend(bench::backend::BackendArguments),
    /// (child of `bench`) closed-loop clients
    #[command(hide = true)]
    BenchLoad(bench::load::LoadArguments),
    /// (child of `bench`) pin to a core, then become another program
    #[command(hide = true)]
    BenchExec(bench::child::ExecArguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Tidy => tidy::run(),
        Task::Test(arguments) => suite::run(&arguments),
        Task::Tools(arguments) => suite::tools(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Instructions => instructions::run(),
        Task::Corpus(arguments) => corpus::run(&arguments),
        Task::BenchBackend(arguments) => bench::backend::run(&arguments),
        Task::BenchLoad(arguments) => bench::load::run(&arguments),
        Task::BenchExec(arguments) => bench::child::become_program(&arguments),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
