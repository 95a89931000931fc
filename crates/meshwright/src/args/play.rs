//! Flags of `echo` and `demo`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::value::{self, Delay};

pub(super) const ECHO_EXAMPLES: &str = "\
Examples:
  meshwright echo --listen :9001 --name users-1
  meshwright echo --listen :9002 --delay exp:20ms --concurrency 8
  meshwright echo --listen :9003 --fail 20%
  meshwright echo --listen :9443 --tls
  curl 'localhost:9001/users/7?status=503&delay=10ms..50ms'
  curl 'localhost:9001/?size=1MiB' -o /dev/null
  curl localhost:9001/health
  curl --http2-prior-knowledge localhost:9001/
  curl -k https://localhost:9443/
  python3 -m websockets ws://localhost:9001/chat

Query parameters status, delay, size and fail win over the flags of the same name.
WebSockets are echoed, gRPC has grpc.health.v1.Health and meshwright.Echo: see docs/echo.md.";

pub(super) const DEMO_EXAMPLES: &str = "\
Examples:
  meshwright demo
  meshwright demo --rate 100
  meshwright demo --rate 0          no load: send your own";

/// Flags of `echo`.
#[derive(Clone, Debug, Args)]
pub struct EchoArgs {
    /// Address to listen on; `:9001` is every interface, port 0 a free port, which is printed
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:9001",
        value_parser = value::listener,
        env = "MESHWRIGHT_LISTEN"
    )]
    pub listen: SocketAddr,

    /// Name that answers carry
    #[arg(long, default_value = "echo", env = "MESHWRIGHT_NAME")]
    pub name: String,

    /// Status of answers, 200 to 599
    #[arg(long, default_value = "200", value_parser = value::status, env = "MESHWRIGHT_STATUS")]
    pub status: u16,

    /// Wait before an answer: `20ms`, `10ms..50ms` (uniform) or `exp:20ms` (exponential, by its mean)
    #[arg(long, value_name = "TIME", value_parser = value::delay, env = "MESHWRIGHT_DELAY")]
    pub delay: Option<Delay>,

    /// Share of requests that is answered with 503, in percent
    #[arg(long, value_name = "PERCENT", default_value = "0", value_parser = value::percent, env = "MESHWRIGHT_FAIL")]
    pub fail: f64,

    /// Answer with this many bytes instead of JSON: `1000`, `64KiB`, `1MiB`
    #[arg(long, value_name = "BYTES", value_parser = value::size, env = "MESHWRIGHT_SIZE")]
    pub size: Option<u64>,

    /// Requests answered at one time; further ones wait in line [default: no limit]
    #[arg(long, value_name = "N", value_parser = value::positive, env = "MESHWRIGHT_CONCURRENCY")]
    pub concurrency: Option<u32>,

    /// Speak TLS only, HTTP/2 and HTTP/1.1 by ALPN, with a certificate for localhost that is made at start
    #[arg(long, env = "MESHWRIGHT_TLS")]
    pub tls: bool,

    /// Speak TLS only, with the certificate chain in this PEM file
    #[arg(long, value_name = "FILE", requires = "tls_key", env = "MESHWRIGHT_TLS_CERTIFICATE")]
    pub tls_certificate: Option<PathBuf>,

    /// The private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_certificate", env = "MESHWRIGHT_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
}

/// Flags of `demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// Requests per second of the load, at most 1000; 0 for none
    #[arg(long, value_name = "N", default_value = "20", value_parser = value::rate, env = "MESHWRIGHT_RATE")]
    pub rate: u32,

    /// Log level, as in `run`
    #[arg(
        long,
        value_name = "LEVEL",
        default_value = "warn,meshwright_proxy::forward=info",
        value_parser = value::log_directives,
        env = "MESHWRIGHT_LOG"
    )]
    pub log: String,
}
