//! Flags of the commands of the service registry: `services`, `register`, `deregister`, `drain`, `resolve`.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;

use super::Output;
use super::value::{self, AdminAddress, Label};

pub(super) const SERVICES_EXAMPLES: &str = "\
Examples:
  meshwright services                              all services
  meshwright services user-service                 its instances
  meshwright services -w                           and every change from now on
  meshwright services user-service -o json";

pub(super) const REGISTER_EXAMPLES: &str = "\
Examples:
  meshwright register user-service --port 9001 -- ./user-service --listen :9001
  meshwright register user-service --port 9001 --health /health --service-version v2 -- python3 app.py
  meshwright register user-service --port 9001                   renew until a signal, for a program that runs elsewhere
  meshwright register legacy-db --address 10.0.0.7 --port 5432 --static

A program is registered once it answers, renewed while it runs, drained on SIGTERM and SIGINT before it gets the signal, and
taken away when it ends; its exit code is the exit code.";

pub(super) const DRAIN_EXAMPLES: &str = "\
Examples:
  meshwright drain user-service/127.0.0.1:9001
  meshwright drain user-service/127.0.0.1:9001 --undo";

/// How the registry is reached.
#[derive(Clone, Debug, Args)]
pub struct RegistryClient {
    /// Where the admin API of the running process is
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:15000",
        value_parser = value::admin_address,
        env = "MESHWRIGHT_ADMIN"
    )]
    pub admin: AdminAddress,

    /// Token to show, where the registry asks for one
    #[arg(long, value_name = "TOKEN", env = "MESHWRIGHT_TOKEN", hide_env_values = true)]
    pub token: Option<String>,

    /// Namespace of the service
    #[arg(short, long, default_value = "default", value_parser = value::namespace, env = "MESHWRIGHT_NAMESPACE")]
    pub namespace: String,
}

/// Flags of `services`.
#[derive(Clone, Debug, Args)]
pub struct ServicesArgs {
    /// Service whose instances are shown; without it all services of all namespaces
    pub name: Option<String>,

    /// Go on with every change
    #[arg(short, long, env = "MESHWRIGHT_SERVICES_WATCH", value_parser = clap::builder::BoolishValueParser::new())]
    pub watch: bool,

    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Text, env = "MESHWRIGHT_OUTPUT")]
    pub output: Output,

    /// How the registry is reached.
    #[command(flatten)]
    pub registry: RegistryClient,
}

/// Flags of `register`.
#[derive(Clone, Debug, Args)]
pub struct RegisterArgs {
    /// Name of the service
    pub name: String,

    /// Port of the instance
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..), env = "MESHWRIGHT_PORT")]
    pub port: u16,

    /// Address of the instance
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1", env = "MESHWRIGHT_ADDRESS")]
    pub address: String,

    /// Id of the instance [default: its address and port]
    #[arg(long, value_name = "ID", env = "MESHWRIGHT_ID")]
    pub id: Option<String>,

    /// Path that answers 200 while the instance is well; the registry checks it, too. Without it a connection must be possible
    #[arg(long, value_name = "PATH", env = "MESHWRIGHT_HEALTH")]
    pub health: Option<String>,

    /// Time between two checks
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = value::duration, env = "MESHWRIGHT_INTERVAL")]
    pub interval: Duration,

    /// Time that the registration lasts without renewal; it is renewed three times as often
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = value::duration, env = "MESHWRIGHT_TTL")]
    pub ttl: Duration,

    /// Version of the instance, which subsets select by
    #[arg(long, value_name = "VERSION", default_value = "", env = "MESHWRIGHT_SERVICE_VERSION")]
    pub service_version: String,

    /// Weight in balancing
    #[arg(long, value_name = "N", default_value_t = 1, env = "MESHWRIGHT_WEIGHT")]
    pub weight: u32,

    /// Tag of the instance; repeatable
    #[arg(long = "tag", id = "tags", value_name = "TAG", value_delimiter = ',', env = "MESHWRIGHT_TAG")]
    pub tags: Vec<String>,

    /// Metadata of the instance; repeatable
    #[arg(
        long = "metadata",
        value_name = "KEY=VALUE",
        value_parser = value::label,
        value_delimiter = ',',
        env = "MESHWRIGHT_METADATA"
    )]
    pub metadata: Vec<Label>,

    /// Register for good and end at once
    #[arg(long = "static", id = "is_static", conflicts_with = "command", env = "MESHWRIGHT_STATIC", value_parser = clap::builder::BoolishValueParser::new())]
    pub is_static: bool,

    /// Time between draining and the signal to the program, for requests in flight
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = value::duration, env = "MESHWRIGHT_DRAIN_TIME")]
    pub drain_time: Duration,

    /// How the registry is reached.
    #[command(flatten)]
    pub registry: RegistryClient,

    /// Program to run, with its arguments
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// An instance on the command line: service and id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceName {
    /// Name of the service.
    pub service: String,
    /// Id of the instance.
    pub id: String,
}

fn instance(text: &str) -> Result<InstanceName, String> {
    match text.split_once('/') {
        Some((service, id)) if !service.is_empty() && !id.is_empty() => {
            Ok(InstanceName { service: service.to_owned(), id: id.to_owned() })
        }
        _ => Err("an instance is written SERVICE/ID, such as user-service/127.0.0.1:9001".to_owned()),
    }
}

/// Flags of `deregister`.
#[derive(Clone, Debug, Args)]
pub struct DeregisterArgs {
    /// The instance
    #[arg(value_name = "SERVICE/ID", value_parser = instance)]
    pub instance: InstanceName,

    /// How the registry is reached.
    #[command(flatten)]
    pub registry: RegistryClient,
}

/// Flags of `drain`.
#[derive(Clone, Debug, Args)]
pub struct DrainArgs {
    /// The instance
    #[arg(value_name = "SERVICE/ID", value_parser = instance)]
    pub instance: InstanceName,

    /// Let it take requests again
    #[arg(long, env = "MESHWRIGHT_UNDO", value_parser = clap::builder::BoolishValueParser::new())]
    pub undo: bool,

    /// Why, for those who look at it
    #[arg(long, value_name = "TEXT", default_value = "", env = "MESHWRIGHT_REASON")]
    pub reason: String,

    /// How the registry is reached.
    #[command(flatten)]
    pub registry: RegistryClient,
}

/// Flags of `resolve`.
#[derive(Clone, Debug, Args)]
pub struct ResolveArgs {
    /// Name of the service
    pub name: String,

    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Text, env = "MESHWRIGHT_OUTPUT")]
    pub output: Output,

    /// How the registry is reached.
    #[command(flatten)]
    pub registry: RegistryClient,
}
