//! The `meshwright` binary: one process that is a gateway, a sidecar or a load balancer, configured by Istio YAML.
//!
//! This file only hands the parsed command line to the command. Read next: `args` (flags), `run` (serving),
//! `validate` (checking), `services`, `register` and `import` (the registry), `echo` and `demo` (playing), `simulate` (calculating).

mod args;
mod client;
mod demo;
#[cfg(test)]
mod documents;
mod echo;
mod import;
mod logging;
mod page;
mod register;
mod remote;
mod render;
mod run;
mod services;
mod simulate;
mod validate;

use std::io::Write;
use std::process::ExitCode;

use args::{Cli, Command};

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = Cli::from_process();
    match dispatch(cli.command) {
        Ok(code) => code,
        // Whoever reads our output has seen enough (`| head`); there is nobody to tell.
        Err(error) if is_broken_pipe(&error) => ExitCode::from(args::EXIT_FAILURE),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::from(args::EXIT_FAILURE)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .root_cause()
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout();
    match command {
        Command::Run(args) => return run::run(&args),
        Command::Proxy(args) => return run::proxy(&args),
        Command::Echo(args) => return echo::run(&args),
        Command::Demo(args) => return demo::run(&args),
        Command::Simulate(args) => return simulate::run(&args),
        Command::Validate(args) => return validate::run(&args),
        Command::Breakers(args) => return remote::breakers(&args),
        Command::Endpoints(args) => return remote::endpoints(&args),
        Command::LogLevel(args) => return remote::log_level(&args),
        Command::Services(args) => return services::services(&args),
        Command::Register(args) => return register::run(args),
        Command::Import(args) => return import::run(&args),
        Command::Deregister(args) => return services::deregister(&args),
        Command::Drain(args) => return services::drain(&args),
        Command::Resolve(args) => return services::resolve(&args),
        Command::Version(args) => page::version(args.output, &mut out)?,
        Command::Completions(args) => page::completions(args.shell, &mut out)?,
        Command::Man(args) => page::manual(args.directory.as_deref(), &mut out)?,
    }
    Ok(ExitCode::from(args::EXIT_OK))
}
