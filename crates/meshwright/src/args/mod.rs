//! The command line: commands, flags, their environment variables, help with examples, exit codes.
//!
//! This module turns arguments into plain structures and does nothing with them. How one value is written
//! (addresses, durations, sizes) is in `value`; the flags of `run` and `proxy` are in `run`.
//! Read next: `main.rs`, which hands the structures to the commands.

mod import;
mod limits;
mod play;
mod registry;
mod remote;
mod run;
mod services;
mod simulate;
pub mod value;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

pub use import::{ImportArgs, SourceKind, SourceUrl};
pub use limits::LimitArgs;
pub use play::{DemoArgs, EchoArgs};
pub use registry::{DataPlace, RegistryArgs, StoreUrl};
pub use remote::{BreakersAction, BreakersArgs, EndpointTarget, EndpointsArgs, EndpointsCommand, LogLevelArgs};
pub use run::{Face, MeshArgs, ProcessArgs, ProxyArgs, RunArgs};
pub use services::{DeregisterArgs, DrainArgs, InstanceName, RegisterArgs, RegistryClient, ResolveArgs, ServicesArgs};
pub use simulate::{SimulateArgs, SimulateBreakerArgs, SimulateCommand, SimulateLbArgs};

/// Exit code of a command that did what it was asked to do.
pub const EXIT_OK: u8 = 0;
/// Exit code of a failure at start or at run time.
pub const EXIT_FAILURE: u8 = 1;
/// Exit code of configuration with at least one error (`EX_DATAERR` of sysexits).
pub const EXIT_BAD_CONFIGURATION: u8 = 65;
/// Exit code of configuration with warnings only (istioctl's code for findings).
pub const EXIT_WARNINGS: u8 = 79;

const EXIT_CODES: &str = "\
Exit codes:
  0   done, or nothing to complain about
  1   failure at start or at run time
  2   the command line cannot be understood
  65  the configuration has errors
  79  the configuration has warnings only (validate)

Every flag can also be given as an environment variable MESHWRIGHT_<FLAG>; the command line wins.";

const TOP_EXAMPLES: &str = "\
Examples:
  meshwright demo                                    a small mesh in one process, with traffic
  meshwright proxy --from :8080 --to :3000,:3001     balance over two local ports, no file
  meshwright validate -f istio-config.yaml           check configuration
  meshwright run -f istio-config.yaml --map-port 80=8080 \\
      --service user-service=127.0.0.1:9001,127.0.0.1:9002";

/// Gateway, sidecar and load balancer in one binary, configured by Istio YAML, with or without Kubernetes.
#[derive(Debug, Parser)]
#[command(
    name = "meshwright",
    version,
    propagate_version = true,
    max_term_width = 120,
    after_help = TOP_EXAMPLES,
    after_long_help = format!("{TOP_EXAMPLES}\n\n{EXIT_CODES}")
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// All commands.
#[allow(clippy::large_enum_variant, reason = "there is one of it, once")]
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the gateways and the mesh listener that the configuration describes
    #[command(after_help = run::RUN_EXAMPLES)]
    Run(RunArgs),
    /// Balance one port over some addresses, without any file
    #[command(after_help = run::PROXY_EXAMPLES)]
    Proxy(ProxyArgs),
    /// Start a backend to play with: it answers with what it saw, and fails or waits on demand
    #[command(after_help = play::ECHO_EXAMPLES)]
    Echo(EchoArgs),
    /// Start services, a gateway in front of them and a gentle load, all in this process
    #[command(after_help = play::DEMO_EXAMPLES)]
    Demo(DemoArgs),
    /// Calculate what a load balancer would do to a load, without any socket
    #[command(after_help = simulate::SIMULATE_EXAMPLES)]
    Simulate(SimulateArgs),
    /// Check configuration and say everything that is wrong with it, with places and advice
    #[command(
        visible_aliases = ["check", "test-config"],
        short_flag = 't',
        short_flag_alias = 'c',
        after_help = VALIDATE_EXAMPLES
    )]
    Validate(ValidateArgs),
    /// Override the circuit breakers of a service in a running process
    #[command(after_help = remote::BREAKERS_EXAMPLES)]
    Breakers(BreakersArgs),
    /// Show or change the endpoints of a running process
    #[command(after_help = remote::ENDPOINTS_EXAMPLES)]
    Endpoints(EndpointsArgs),
    /// Show or change the log level of a running process
    #[command(after_help = remote::LOG_LEVEL_EXAMPLES)]
    LogLevel(LogLevelArgs),
    /// Show the services of the registry of a running process, or the instances of one
    #[command(after_help = services::SERVICES_EXAMPLES)]
    Services(ServicesArgs),
    /// Register an instance of a service, and run its program if there is one
    #[command(after_help = services::REGISTER_EXAMPLES)]
    Register(RegisterArgs),
    /// Mirror the registrations of an Eureka or Consul into the registry of a running process
    #[command(after_help = import::IMPORT_EXAMPLES)]
    Import(ImportArgs),
    /// Take an instance out of the registry
    #[command(after_help = "Examples:\n  meshwright deregister user-service/127.0.0.1:9001")]
    Deregister(DeregisterArgs),
    /// Send no new requests to a registered instance and let the running ones end
    #[command(after_help = services::DRAIN_EXAMPLES)]
    Drain(DrainArgs),
    /// Print the addresses of the healthy instances of a service
    #[command(after_help = "Examples:\n  meshwright resolve user-service\n  meshwright resolve user-service -o json")]
    Resolve(ResolveArgs),
    /// Print the version
    #[command(after_help = "Examples:\n  meshwright version\n  meshwright version -o json")]
    Version(VersionArgs),
    /// Print a completion script for a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArgs),
    /// Write manual pages
    #[command(after_help = "Examples:\n  meshwright man | man -l -\n  meshwright man /usr/local/share/man/man1")]
    Man(ManArgs),
}

const VALIDATE_EXAMPLES: &str = "\
Examples:
  meshwright validate -f istio-config.yaml
  meshwright validate -f mesh.d/ -f extra.yaml -o json
  cat istio-config.yaml | meshwright validate -f -
  meshwright -t -f istio-config.yaml --service user-service=127.0.0.1:9001

Exit codes: 0 clean, 79 warnings only, 65 errors, 2 usage.";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  meshwright completions bash > /etc/bash_completion.d/meshwright
  meshwright completions zsh > ~/.zfunc/_meshwright
  meshwright completions fish > ~/.config/fish/completions/meshwright.fish";

/// Flags of `validate`.
#[derive(Clone, Debug, Args)]
pub struct ValidateArgs {
    /// What to read, and for which process.
    #[command(flatten)]
    pub mesh: MeshArgs,
    /// Form of the findings on standard output
    #[arg(short, long, value_enum, default_value_t = Output::Text, env = "MESHWRIGHT_OUTPUT")]
    pub output: Output,
    /// When to use colors; `auto` means on a terminal, unless NO_COLOR is set
    #[arg(long, value_enum, default_value_t = ColorChoice::Auto, env = "MESHWRIGHT_COLOR")]
    pub color: ColorChoice,
}

/// Flags of `version`.
#[derive(Clone, Debug, Args)]
pub struct VersionArgs {
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Text, env = "MESHWRIGHT_OUTPUT")]
    pub output: Output,
}

/// Arguments of `completions`.
#[derive(Clone, Debug, Args)]
pub struct CompletionsArgs {
    /// Shell to write for
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Clone, Debug, Args)]
pub struct ManArgs {
    /// Directory for one page per command, made when it is missing; without it the main page goes to standard output
    pub directory: Option<PathBuf>,
}

/// Form of an answer on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Text,
    /// For programs
    Json,
}

/// When to use colors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Cli {
    /// Parses the arguments of this process. Help, the version or a usage error is printed, and ends the process.
    pub fn from_process() -> Self {
        Self::from_arguments(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    /// Parses `arguments`, the program name first.
    ///
    /// # Errors
    /// A clap error, which is also how help and version texts arrive.
    pub fn from_arguments(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let matches = Self::command().try_get_matches_from(arguments)?;
        let mut cli = Self::from_arg_matches(&matches)?;
        let Some((_, flags)) = matches.subcommand() else { return Ok(cli) };
        let mesh = match &mut cli.command {
            Command::Run(args) => {
                args.registry
                    .check()
                    .map_err(|sentence| Self::command().error(ErrorKind::ArgumentConflict, sentence))?;
                &mut args.mesh
            }
            Command::Validate(args) => &mut args.mesh,
            _ => return Ok(cli),
        };
        split_environment_paths(flags, &mut mesh.files);
        mesh.check().map_err(|sentence| Self::command().error(ErrorKind::ArgumentConflict, sentence))?;
        Ok(cli)
    }
}

/// MESHWRIGHT_FILE holds several paths as PATH does, separated by colons; `-f` holds one, which may contain a colon.
fn split_environment_paths(flags: &ArgMatches, files: &mut Vec<PathBuf>) {
    if flags.value_source("files") == Some(ValueSource::EnvVariable) {
        *files = files.iter().flat_map(|list| std::env::split_paths(list).collect::<Vec<_>>()).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_port_cannot_be_sent_to_two_places() {
        let line =
            |maps: &str| Cli::from_arguments(format!("meshwright run -f x {maps}").split(' ').map(OsString::from));
        let error = line("--map-port 80=8080 --map-port 80=8081").unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("--map-port 80=8080 and --map-port 80=8081"), "{error}");
        assert!(line("--map-port 80=8080 --map-port 80=8080 --map-port 81=8081").is_ok());
    }

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::from_arguments(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_has_an_environment_variable() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments() {
                let Some(long) = argument.get_long() else { continue };
                if matches!(long, "help" | "version" | "no-watch") {
                    continue;
                }
                let variable = argument.get_env().and_then(|name| name.to_str()).unwrap_or_default();
                assert!(variable.starts_with("MESHWRIGHT_"), "--{long} of {} has no variable", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn every_command_shows_examples() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:\n  "), "{} has no examples", command.get_name());
            assert!(help.contains("meshwright"), "{} has no example that can be run", command.get_name());
        }
    }

    #[test]
    fn the_documented_main_job_parses() {
        let cli = parse(
            "meshwright run -f istio-config.yaml --map-port 80=8080 \
             --service user-service=127.0.0.1:9001,127.0.0.1:9002 --service post-service=127.0.0.1:9003",
        )
        .unwrap();
        let Command::Run(args) = cli.command else { panic!("not run") };
        assert_eq!(args.mesh.files, [PathBuf::from("istio-config.yaml")]);
        assert_eq!(args.mesh.services.len(), 2);
        assert_eq!(args.mesh.port_map()[&80], 8080);
        assert!(args.watches());
        assert_eq!(args.admin(), Face::Default("127.0.0.1:15000".parse().unwrap()));
    }

    #[test]
    fn an_explicit_admin_address_is_known_to_be_explicit() {
        let Command::Run(args) = parse("meshwright run -f x --admin :15000 --mesh off").unwrap().command else {
            panic!("not run")
        };
        assert_eq!(args.admin(), Face::Explicit("127.0.0.1:15000".parse().unwrap()));
        assert_eq!(args.mesh_listener(), Face::Off);
    }

    #[test]
    fn watching_can_be_switched_off() {
        for (line, expected) in [("--no-watch", false), ("--watch", true), ("--watch=false", false), ("", true)] {
            let Command::Run(args) = parse(&format!("meshwright run -f x {line}")).unwrap().command else {
                panic!("not run")
            };
            assert_eq!(args.watches(), expected, "{line}");
        }
    }

    #[test]
    fn validate_answers_to_the_letters_that_fingers_know() {
        for line in ["meshwright -t -f x", "meshwright -c -f x", "meshwright check -f x", "meshwright validate -f x"] {
            assert!(matches!(parse(line).unwrap().command, Command::Validate(_)), "{line}");
        }
    }
}
