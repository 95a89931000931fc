//! Flags of `run` and `proxy`: what to serve, where to listen, how to end.
//!
//! Knows which addresses were given and which are defaults, but opens nothing.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args};
use meshwright_config::ServiceFlag;
use meshwright_model::HealthCheck;

use super::value::{self, AccessLog, Label, LocalListener, PortMapping};
use super::{LimitArgs, RegistryArgs};

pub(super) const RUN_EXAMPLES: &str = "\
Examples:
  meshwright run -f istio-config.yaml --map-port 80=8080 \\
      --service user-service=127.0.0.1:9001,127.0.0.1:9002 --service post-service=127.0.0.1:9003
  meshwright run -f mesh.d/ --service 'user-service=10.0.0.1:80;version=v1;weight=3,10.0.0.2:80;version=v2'
  cat istio-config.yaml | meshwright run -f - --map-port 80=8080 --access-log json
  meshwright run -f mesh.d/ --locality eu-west/a \
      --service 'user-service=10.0.0.1:80;locality=eu-west/a,10.1.0.1:80;locality=eu-west/b'
  meshwright run -f mesh.d/ --service user-service=127.0.0.1:9001,127.0.0.1:9002 --health
  meshwright run -f mesh.d/ --access-log text:/var/log/meshwright/access.log --drain-timeout 60s
  meshwright run -f mesh.d/ --credentials /etc/meshwright/credentials --map-port 443=8443

Signals: SIGHUP reads the configuration again; SIGTERM and SIGINT drain and end, a second one ends at once.";

pub(super) const PROXY_EXAMPLES: &str = "\
Examples:
  meshwright proxy --from :8080 --to :3000
  meshwright proxy --from :8080 --to :3000,:3001,10.0.0.7:3000 --lb round-robin
  meshwright proxy --from :8080 --to :3000,:3001 --lb peak-ewma
  meshwright proxy --from :8080 --to :3000,:3001 --health /ready
  meshwright proxy --from 127.0.0.1:8080 --to 'localhost:3000;weight=3,localhost:3001' --access-log text";

/// Default of `--admin`.
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15000);
/// Default of `--mesh`.
const MESH: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15001);

/// Name of the one service behind `proxy`.
pub const PROXY_SERVICE: &str = "upstream";

/// Where a listener of the process itself stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// Nobody asked for an address: when this one is busy, a free port is taken and printed.
    Default(SocketAddr),
    /// Somebody asked for it: when it is busy, that is an error.
    Explicit(SocketAddr),
    /// Not wanted.
    Off,
}

impl Face {
    fn new(given: Option<LocalListener>, default: SocketAddr) -> Self {
        match given {
            None => Self::Default(default),
            Some(LocalListener::At(address)) => Self::Explicit(address),
            Some(LocalListener::Off) => Self::Off,
        }
    }
}

/// What configuration to read and for which process: shared by `run` and `validate`.
#[derive(Clone, Debug, Args)]
pub struct MeshArgs {
    /// Istio or Kubernetes YAML: a file, a directory, or `-` for standard input; repeatable
    #[arg(short = 'f', long = "file", id = "files", value_name = "PATH", required = true, env = "MESHWRIGHT_FILE")]
    pub files: Vec<PathBuf>,

    /// Endpoints of a service; repeatable. An address may be followed by `;weight=N`, `;locality=R/Z/S` and `;label=value` pairs
    #[arg(
        long = "service",
        id = "services",
        value_name = "NAME=ADDR[,ADDR...]",
        value_parser = value::service,
        value_delimiter = ' ',
        env = "MESHWRIGHT_SERVICE"
    )]
    pub services: Vec<ServiceFlag>,

    /// Check the endpoints of every --service: GET PATH every 30s must answer 200 within 5s [default PATH: /health]
    #[arg(
        long,
        value_name = "PATH",
        num_args = 0..=1,
        default_missing_value = HealthCheck::PATH,
        value_parser = value::request_path,
        requires = "services",
        env = "MESHWRIGHT_HEALTH"
    )]
    pub health: Option<String>,

    /// Listen on TO where the configuration says port FROM; repeatable
    #[arg(
        long = "map-port",
        id = "port_map",
        value_name = "FROM=TO",
        value_parser = value::port_mapping,
        value_delimiter = ',',
        env = "MESHWRIGHT_MAP_PORT"
    )]
    port_mappings: Vec<PortMapping>,

    /// Directory of certificates by credentialName: NAME/tls.crt, NAME/tls.key and NAME/ca.crt, or NAME.crt and NAME.key
    #[arg(long, value_name = "DIR", env = "MESHWRIGHT_CREDENTIALS")]
    pub credentials: Option<PathBuf>,

    /// Namespace of this process and of objects that name none
    #[arg(short, long, default_value = "default", value_parser = value::namespace, env = "MESHWRIGHT_NAMESPACE")]
    pub namespace: String,

    /// Where this process is, so that near endpoints can be preferred
    #[arg(
        long,
        value_name = "REGION[/ZONE[/SUBZONE]]",
        default_value = "",
        hide_default_value = true,
        value_parser = value::locality,
        env = "MESHWRIGHT_LOCALITY"
    )]
    pub locality: String,

    /// Label of this process that Gateway selectors must match; repeatable, replaces the default
    #[arg(
        long = "gateway-label",
        id = "gateway_labels",
        value_name = "KEY=VALUE",
        default_value = "istio=ingressgateway",
        value_parser = value::label,
        value_delimiter = ',',
        env = "MESHWRIGHT_GATEWAY_LABEL"
    )]
    labels: Vec<Label>,
}

impl MeshArgs {
    /// `--map-port` as a map from the configured port to the port listened on.
    pub fn port_map(&self) -> BTreeMap<u16, u16> {
        self.port_mappings.iter().map(|mapping| (mapping.from, mapping.to)).collect()
    }

    /// What flags say that are fine one by one and contradict each other.
    ///
    /// # Errors
    /// A sentence that names both.
    pub(super) fn check(&self) -> Result<(), String> {
        for (index, PortMapping { from, to }) in self.port_mappings.iter().enumerate() {
            let other = self.port_mappings[..index].iter().find(|before| before.from == *from && before.to != *to);
            if let Some(before) = other {
                return Err(format!(
                    "--map-port {from}={} and --map-port {from}={to} contradict each other",
                    before.to
                ));
            }
        }
        Ok(())
    }

    /// `--gateway-label` as a map. The last word on a key counts.
    pub fn gateway_labels(&self) -> BTreeMap<String, String> {
        self.labels.iter().map(|label| (label.key.clone(), label.value.clone())).collect()
    }
}

/// Flags of `run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// What to read, and for which process.
    #[command(flatten)]
    pub mesh: MeshArgs,

    /// Address that gateway ports are opened on
    #[arg(long, value_name = "IP", default_value = "0.0.0.0", value_parser = value::ip, env = "MESHWRIGHT_BIND")]
    pub bind: IpAddr,

    /// Address of the listener for calls between services, or `off` [default: 127.0.0.1:15001, or a free port]
    #[arg(
        long = "mesh",
        id = "mesh_address",
        value_name = "ADDR",
        value_parser = value::local_listener,
        env = "MESHWRIGHT_MESH"
    )]
    mesh_address: Option<LocalListener>,

    /// Read the configuration again when its files change
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "true",
        default_missing_value = "true",
        value_parser = BoolishValueParser::new(),
        action = ArgAction::Set,
        overrides_with = "no_watch",
        env = "MESHWRIGHT_WATCH"
    )]
    watch: bool,

    /// Read the configuration again only on SIGHUP
    #[arg(long, overrides_with = "watch")]
    no_watch: bool,

    /// The service registry.
    #[command(flatten)]
    pub registry: RegistryArgs,

    /// What `proxy` has too.
    #[command(flatten)]
    pub process: ProcessArgs,
}

impl RunArgs {
    /// Whether changes of files are followed.
    pub fn watches(&self) -> bool {
        self.watch && !self.no_watch
    }

    /// Where the admin API listens.
    pub fn admin(&self) -> Face {
        self.process.admin()
    }

    /// Where the mesh listener listens.
    pub fn mesh_listener(&self) -> Face {
        Face::new(self.mesh_address, MESH)
    }
}

/// Flags of every process that serves traffic.
#[derive(Clone, Debug, Args)]
pub struct ProcessArgs {
    /// Address of the admin API, or `off` [default: 127.0.0.1:15000, or a free port]
    #[arg(
        long = "admin",
        id = "admin_address",
        value_name = "ADDR",
        value_parser = value::local_listener,
        env = "MESHWRIGHT_ADMIN"
    )]
    admin_address: Option<LocalListener>,

    /// Threads that serve traffic [default: one per core]
    #[arg(long, value_name = "N", value_parser = value::workers, env = "MESHWRIGHT_WORKERS")]
    pub workers: Option<usize>,

    /// Access log: `off`, `text` or `json`, to standard output or to `:PATH`
    #[arg(
        long,
        value_name = "off|text|json[:PATH]",
        default_value = "off",
        value_parser = value::access_log,
        env = "MESHWRIGHT_ACCESS_LOG"
    )]
    pub access_log: AccessLog,

    /// Log level: off, error, warn, info, debug, trace, or per module such as `info,meshwright_control=debug`
    #[arg(
        long,
        value_name = "LEVEL",
        default_value = "info",
        value_parser = value::log_directives,
        env = "MESHWRIGHT_LOG"
    )]
    pub log: String,

    /// Time that requests in flight get after SIGTERM, and connections of a removed listener
    #[arg(
        long,
        value_name = "TIME",
        default_value = "30s",
        value_parser = value::duration,
        env = "MESHWRIGHT_DRAIN_TIMEOUT"
    )]
    pub drain_timeout: Duration,

    /// Put the reason of a failure into the body of our own error answers
    #[arg(long, value_parser = BoolishValueParser::new(), env = "MESHWRIGHT_EXPLAIN_ERRORS")]
    pub explain_errors: bool,

    /// Port, as configured, whose connections begin with a PROXY header (version 1 or 2) of a balancer in front; repeatable
    #[arg(
        long = "proxy-protocol-port",
        id = "proxy_protocol_ports",
        value_name = "PORT",
        value_parser = clap::value_parser!(u16).range(1..),
        value_delimiter = ',',
        env = "MESHWRIGHT_PROXY_PROTOCOL_PORT"
    )]
    pub proxy_protocol_ports: Vec<u16>,

    /// Limits against hostile or broken clients.
    #[command(flatten)]
    pub limits: LimitArgs,
}

impl ProcessArgs {
    /// Where the admin API listens.
    pub fn admin(&self) -> Face {
        Face::new(self.admin_address, ADMIN)
    }
}

/// Flags of `proxy`.
#[derive(Clone, Debug, Args)]
pub struct ProxyArgs {
    /// Address to listen on; `:8080` is every interface
    #[arg(long, value_name = "ADDR", default_value = ":8080", value_parser = value::listener, env = "MESHWRIGHT_FROM")]
    pub from: SocketAddr,

    /// Where to send requests; repeatable. `:3000` is this machine; an address may be followed by `;weight=N`
    #[arg(
        long = "to",
        id = "targets",
        value_name = "ADDR[,ADDR...]",
        required = true,
        value_parser = value::targets,
        env = "MESHWRIGHT_TO"
    )]
    targets: Vec<String>,

    /// How to choose among several addresses: a load balancer, a type of service, or a rule of Ribbon
    #[arg(
        long,
        value_name = "NAME",
        default_value = "least-request",
        value_parser = value::load_balancer,
        env = "MESHWRIGHT_LB"
    )]
    pub lb: String,

    /// Check every target: GET PATH every 30s must answer 200 within 5s [default PATH: /health]
    #[arg(
        long,
        value_name = "PATH",
        num_args = 0..=1,
        default_missing_value = HealthCheck::PATH,
        value_parser = value::request_path,
        env = "MESHWRIGHT_HEALTH"
    )]
    pub health: Option<String>,

    /// What `run` has too.
    #[command(flatten)]
    pub process: ProcessArgs,
}

impl ProxyArgs {
    /// All of `--to` as one service named [`PROXY_SERVICE`].
    ///
    /// # Errors
    /// A sentence, when addresses that are fine one by one are not fine together.
    pub fn service(&self) -> Result<ServiceFlag, String> {
        format!("{PROXY_SERVICE}={}", self.targets.join(",")).parse()
    }

    /// Where the admin API listens.
    pub fn admin(&self) -> Face {
        self.process.admin()
    }
}
