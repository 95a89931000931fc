//! What is measured: the scenarios, and what each one asks of proxy and load.
//!
//! It does not know how a proxy is configured for it. Read next: `peer.rs`.

use clap::ValueEnum;

use super::backend::{LARGE, LARGE_PATH, SMALL};

/// Hosts of the scenarios with a mesh configuration.
pub(crate) const HOSTS: usize = 100;
/// Connections held in the idle-memory scenario.
pub(crate) const IDLE_CONNECTIONS: usize = 5_000;

/// One thing to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Scenario {
    /// 128-byte answers, 64 connections
    Small64,
    /// 128-byte answers, 1,000 connections
    Small1000,
    /// 64 KiB answers, 64 connections
    Body64k,
    /// 100 hosts, three routes each, limits and outlier detection
    Mesh,
    /// the same with a JSON access log
    Log,
    /// resident memory per idle keep-alive connection
    Idle,
    /// resident memory of `run` with the sample configuration
    Start,
}

impl Scenario {
    /// Its name on the command line and in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Scenario::Small64 => "small64",
            Scenario::Small1000 => "small1000",
            Scenario::Body64k => "body64k",
            Scenario::Mesh => "mesh",
            Scenario::Log => "log",
            Scenario::Idle => "idle",
            Scenario::Start => "start",
        }
    }

    /// One line for the report.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Scenario::Small64 => "128-byte answers, 64 keep-alive connections",
            Scenario::Small1000 => "128-byte answers, 1,000 keep-alive connections",
            Scenario::Body64k => "64 KiB answers, 64 keep-alive connections",
            Scenario::Mesh => {
                "128-byte answers, 64 connections, 100 hosts with three routes, limits and outlier detection each"
            }
            Scenario::Log => "as `mesh`, with a JSON access log to a file",
            Scenario::Idle => "5,000 idle keep-alive connections, each after one request",
            Scenario::Start => "`run` with the sample gateway configuration and two services, default workers",
        }
    }

    /// Number of configured hosts; 0 is the plain one-upstream configuration.
    pub(crate) fn hosts(self) -> usize {
        if matches!(self, Scenario::Mesh | Scenario::Log) { HOSTS } else { 0 }
    }

    /// Whether access logs are on.
    pub(crate) fn logs(self) -> bool {
        self == Scenario::Log
    }

    /// Connections of the load.
    pub(crate) fn connections(self) -> usize {
        match self {
            Scenario::Small1000 => 1_000,
            Scenario::Idle => IDLE_CONNECTIONS,
            _ => 64,
        }
    }

    /// Path that is asked for, and the length of its answer in bytes.
    pub(crate) fn request(self) -> (&'static str, usize) {
        if self == Scenario::Body64k { (LARGE_PATH, LARGE) } else { ("/small", SMALL) }
    }

    /// The authorities that the connections use in turn.
    pub(crate) fn authorities(self) -> Vec<String> {
        match self.hosts() {
            0 => vec!["bench.example.com".to_owned()],
            hosts => (0..hosts).map(authority).collect(),
        }
    }
}

/// The authority of the n-th host in the mesh configurations.
pub(crate) fn authority(host: usize) -> String {
    format!("host-{host}.example.com")
}
