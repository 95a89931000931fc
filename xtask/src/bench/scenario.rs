//! What is measured: the scenarios, and what each one asks of proxy and load.
//!
//! It does not know how a proxy is configured for it. Read next: `peer.rs`.

use std::time::Duration;

use clap::ValueEnum;

use super::backend::{LARGE, LARGE_PATH, SMALL};

/// Hosts of the scenarios with a mesh configuration.
pub(crate) const HOSTS: usize = 100;
/// The authority of the scenarios without one, and the name in the certificate.
pub(crate) const AUTHORITY: &str = "bench.example.com";
/// Streams that are open at a time on each connection of HTTP/2.
const STREAMS: usize = 16;

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
    /// HTTP/1.1 over TLS
    #[value(name = "tls-h1")]
    TlsHttp1,
    /// HTTP/2 over TLS
    #[value(name = "tls-h2")]
    TlsHttp2,
    /// HTTP/2 in clear text to HTTP/1.1
    #[value(name = "h2-h1")]
    Http2ToHttp1,
    /// HTTP/2 in clear text to HTTP/2
    #[value(name = "h2-h2")]
    Http2ToHttp2,
    /// a connection for each request
    Close,
    /// a TLS connection for each request, sessions resumed
    CloseTls,
    /// a TLS connection for each request, full handshakes
    Handshake,
    /// small messages over TCP proxying
    Tcp,
    /// 64 KiB pieces over TCP proxying
    #[value(name = "tcp64k")]
    Tcp64k,
    /// resident memory per idle keep-alive connection
    Idle,
    /// resident memory per idle TLS connection
    IdleTls,
    /// resident memory per stream of HTTP/2 whose client takes nothing
    #[value(name = "stalled-h2")]
    StalledHttp2,
    /// resident memory of `run` with the sample configuration
    Start,
}

/// A version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// HTTP/1.1
    Http1,
    /// HTTP/2: by ALPN over TLS, by prior knowledge in clear text.
    Http2,
}

/// What is spoken on both sides of a proxy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wire {
    /// Clients come with TLS.
    pub(crate) tls: bool,
    /// The proxy carries bytes and knows no HTTP.
    pub(crate) bytes: bool,
    /// What clients speak.
    pub(crate) client: Version,
    /// What the origin speaks; always in clear text.
    pub(crate) service: Version,
}

impl Wire {
    /// HTTP/1.1 in clear text on both sides.
    pub(crate) const PLAIN: Wire = Wire { tls: false, bytes: false, client: Version::Http1, service: Version::Http1 };
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
            Scenario::TlsHttp1 => "tls-h1",
            Scenario::TlsHttp2 => "tls-h2",
            Scenario::Http2ToHttp1 => "h2-h1",
            Scenario::Http2ToHttp2 => "h2-h2",
            Scenario::Close => "close",
            Scenario::CloseTls => "close-tls",
            Scenario::Handshake => "handshake",
            Scenario::Tcp => "tcp",
            Scenario::Tcp64k => "tcp64k",
            Scenario::Idle => "idle",
            Scenario::IdleTls => "idle-tls",
            Scenario::StalledHttp2 => "stalled-h2",
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
            Scenario::TlsHttp1 => "HTTP/1.1 over TLS, 128-byte answers, 64 keep-alive connections",
            Scenario::TlsHttp2 => {
                "HTTP/2 over TLS, HTTP/1.1 to the origin, 128-byte answers, 8 connections with 16 streams each"
            }
            Scenario::Http2ToHttp1 => "HTTP/2 in clear text, HTTP/1.1 to the origin, else as `tls-h2`",
            Scenario::Http2ToHttp2 => "HTTP/2 in clear text on both sides, else as `tls-h2`",
            Scenario::Close => "a new connection for each request, 128-byte answers, 64 clients",
            Scenario::CloseTls => "a new TLS connection for each request, sessions resumed by tickets, 64 clients",
            Scenario::Handshake => "a new TLS connection for each request, every handshake in full, 64 clients",
            Scenario::Tcp => "TCP proxying, messages of 128 bytes and their answers, 64 connections",
            Scenario::Tcp64k => "TCP proxying, answers of 64 KiB, 64 connections",
            Scenario::Idle => "5,000 idle keep-alive connections, each after one request",
            Scenario::IdleTls => "4,000 idle TLS connections with HTTP/1.1, each after one request",
            Scenario::StalledHttp2 => {
                "2,000 streams of HTTP/2 on 20 connections whose clients take the heads of their answers and nothing more"
            }
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

    /// What clients and origin speak.
    pub(crate) fn wire(self) -> Wire {
        match self {
            Scenario::TlsHttp1 | Scenario::CloseTls | Scenario::Handshake | Scenario::IdleTls => {
                Wire { tls: true, ..Wire::PLAIN }
            }
            Scenario::TlsHttp2 => Wire { tls: true, client: Version::Http2, ..Wire::PLAIN },
            Scenario::Http2ToHttp1 | Scenario::StalledHttp2 => Wire { client: Version::Http2, ..Wire::PLAIN },
            Scenario::Http2ToHttp2 => Wire { client: Version::Http2, service: Version::Http2, ..Wire::PLAIN },
            Scenario::Tcp | Scenario::Tcp64k => Wire { bytes: true, ..Wire::PLAIN },
            _ => Wire::PLAIN,
        }
    }

    /// Whether each request has a connection of its own.
    pub(crate) fn closes(self) -> bool {
        matches!(self, Scenario::Close | Scenario::CloseTls | Scenario::Handshake)
    }

    /// Whether a client resumes its last TLS session when it connects anew.
    pub(crate) fn resumes(self) -> bool {
        self == Scenario::CloseTls
    }

    /// Connections of the load.
    pub(crate) fn connections(self) -> usize {
        match self {
            Scenario::Small1000 => 1_000,
            Scenario::Idle => 5_000,
            Scenario::IdleTls => 4_000,
            Scenario::StalledHttp2 => 20,
            _ if self.wire().client == Version::Http2 => 8,
            _ => 64,
        }
    }

    /// Streams on each connection, where there are any.
    pub(crate) fn streams(self) -> Option<usize> {
        (self.wire().client == Version::Http2).then_some(if self == Scenario::StalledHttp2 { 100 } else { STREAMS })
    }

    /// Time from when all is held to when its memory is read. Allocators give pages back some seconds after their last use.
    pub(crate) fn settles(self) -> Duration {
        Duration::from_secs(if self == Scenario::StalledHttp2 { 8 } else { 1 })
    }

    /// Path that is asked for, and the length of its answer in bytes.
    pub(crate) fn request(self) -> (&'static str, usize) {
        if matches!(self, Scenario::Body64k | Scenario::Tcp64k) { (LARGE_PATH, LARGE) } else { ("/small", SMALL) }
    }

    /// The authorities that the connections use in turn.
    pub(crate) fn authorities(self) -> Vec<String> {
        match self.hosts() {
            0 => vec![AUTHORITY.to_owned()],
            hosts => (0..hosts).map(authority).collect(),
        }
    }
}

/// The authority of the n-th host in the mesh configurations.
pub(crate) fn authority(host: usize) -> String {
    format!("host-{host}.example.com")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_is_chosen_by_the_name_that_the_report_gives_it() {
        for scenario in Scenario::value_variants() {
            assert_eq!(scenario.to_possible_value().unwrap().get_name(), scenario.name());
        }
    }
}
