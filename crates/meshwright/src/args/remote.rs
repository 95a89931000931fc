//! Flags of the commands that talk to a running process through its admin API.

use clap::{Args, Subcommand, ValueEnum};

use super::Output;
use super::value::{self, AdminAddress};

pub(super) const ENDPOINTS_EXAMPLES: &str = "\
Examples:
  meshwright endpoints list
  meshwright endpoints list --service user-service -o json
  meshwright endpoints drain user-service 127.0.0.1:9001      no new requests, running ones end
  meshwright endpoints enable user-service 127.0.0.1:9001
  meshwright endpoints uneject user-service 127.0.0.1:9001    end an ejection early";

pub(super) const LOG_LEVEL_EXAMPLES: &str = "\
Examples:
  meshwright log-level                                         show it
  meshwright log-level debug
  meshwright log-level info,meshwright_control=debug --admin http://127.0.0.1:15000";

/// Flags of `endpoints`.
#[derive(Clone, Debug, Args)]
pub struct EndpointsArgs {
    /// Where the admin API of the running process is
    #[arg(
        long,
        global = true,
        value_name = "URL",
        default_value = "http://127.0.0.1:15000",
        value_parser = value::admin_address,
        env = "MESHWRIGHT_ADMIN"
    )]
    pub admin: AdminAddress,

    /// What to do with them.
    #[command(subcommand)]
    pub command: EndpointsCommand,
}

/// What to do with endpoints.
#[derive(Clone, Debug, Subcommand)]
pub enum EndpointsCommand {
    /// List them with their state
    #[command(
        after_help = "Examples:\n  meshwright endpoints list\n  meshwright endpoints list --service users -o json"
    )]
    List {
        /// Only those of this service
        #[arg(long, value_name = "NAME", env = "MESHWRIGHT_ENDPOINTS_SERVICE")]
        service: Option<String>,
        /// Form of the answer
        #[arg(short, long, value_enum, default_value_t = Output::Text, env = "MESHWRIGHT_OUTPUT")]
        output: Output,
    },
    /// Send no new requests to an endpoint and let the running ones end
    #[command(after_help = "Examples:\n  meshwright endpoints drain user-service 127.0.0.1:9001")]
    Drain(EndpointTarget),
    /// Send nothing to an endpoint
    #[command(after_help = "Examples:\n  meshwright endpoints disable user-service 127.0.0.1:9001")]
    Disable(EndpointTarget),
    /// Undo drain or disable
    #[command(after_help = "Examples:\n  meshwright endpoints enable user-service 127.0.0.1:9001")]
    Enable(EndpointTarget),
    /// End the ejection of an endpoint
    #[command(after_help = "Examples:\n  meshwright endpoints uneject user-service 127.0.0.1:9001")]
    Uneject(EndpointTarget),
}

/// One endpoint of one service.
#[derive(Clone, Debug, Args)]
pub struct EndpointTarget {
    /// Service, by any of its names
    pub service: String,
    /// Address of the endpoint, such as 127.0.0.1:9001
    #[arg(value_parser = value::endpoint)]
    pub address: std::net::SocketAddr,
}

pub(super) const BREAKERS_EXAMPLES: &str = "\
Examples:
  meshwright breakers force-open user-service       refuse every request to it
  meshwright breakers force-closed user-service     refuse nothing, and count
  meshwright breakers disable user-service          refuse nothing, and count nothing
  meshwright breakers reset user-service            start anew, as the configuration says";

/// Flags of `breakers`.
#[derive(Clone, Debug, Args)]
pub struct BreakersArgs {
    /// What to do with them
    #[arg(value_enum)]
    pub action: BreakersAction,
    /// Service, by any of its names
    pub service: String,

    /// Where the admin API of the running process is
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:15000",
        value_parser = value::admin_address,
        env = "MESHWRIGHT_ADMIN"
    )]
    pub admin: AdminAddress,
}

/// What to do with the circuit breakers of a service.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum BreakersAction {
    /// Refuse every request
    ForceOpen,
    /// Refuse nothing and count
    ForceClosed,
    /// Refuse nothing and count nothing
    Disable,
    /// Start anew, as the configuration says
    Reset,
}

/// Arguments of `log-level`.
#[derive(Clone, Debug, Args)]
pub struct LogLevelArgs {
    /// New level, such as `debug` or `info,meshwright_control=debug`; without it the present one is shown
    #[arg(value_parser = value::log_directives)]
    pub level: Option<String>,

    /// Where the admin API of the running process is
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:15000",
        value_parser = value::admin_address,
        env = "MESHWRIGHT_ADMIN"
    )]
    pub admin: AdminAddress,
}
