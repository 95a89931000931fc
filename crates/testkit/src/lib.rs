//! What tests of the binary are made of: the process under test, peers that misbehave by name, a client that shows bytes.
//!
//! Everything blocks and has a deadline; every port is 0 until the system chose one; nothing is shared between tests. Waiting
//! is always for a condition ([`eventually`]), never for a time. A broken expectation panics: this crate is for tests only.
//! Read next: [`Launch`] and [`Meshwright`] (the process), [`Origin`] (upstream peers), [`RawClient`] (downstream peers),
//! [`Config`] (its YAML); [`Http2Client`] and [`Http2Origin`] with [`Grpc`] and [`WebSocket`] on top; [`Authority`] and
//! [`TlsClient`] for TLS; [`Etcd`] as a store; for hostile inputs [`corpus`], [`Judge`] and [`Recorder`],
//! and [`frames`] below HTTP/2.

mod ask;
mod certificates;
mod channel;
mod client;
mod config;
pub mod corpus;
mod etcd;
pub mod frames;
mod grpc;
mod http2;
mod judge;
mod message;
mod metrics;
mod origin;
mod pattern;
mod port;
mod process;
mod reading;
mod recorder;
mod records;
mod scripts;
mod tls;
mod websocket;

use std::time::{Duration, Instant};

pub use ask::{Ask, Client, Speaks};
pub use certificates::{Authority, Issued, Leaf};
pub use client::{RawClient, ReadError};
pub use config::{
    Config, GATEWAY, GATEWAY_FOR_BYTES, destination_rule, gateway_routes, gateway_to, gateway_with_https_to,
    https_gateway_to, indent, mesh_routes, resilience_policy, service_entry,
};
pub use etcd::Etcd;
pub use grpc::{Grpc, GrpcCall, GrpcEnd};
pub use http2::{
    Http2Body, Http2Client, Http2Exchange, Http2Failure, Http2Origin, Http2Sender, Http2Settings, Http2Stream,
};
pub use judge::{Grade, Judge, Seen};
pub use message::{Response, parse_chunked};
pub use metrics::Scrape;
pub use origin::{Origin, OriginConnection, Received};
pub use pattern::Pattern;
pub use port::{FullPort, RefusingPort};
pub use process::{Launch, Meshwright};
pub use reading::Reading;
pub use recorder::{Recorder, Tally};
pub use records::TextRecord;
pub use tls::{TlsClient, TlsFacts, TlsServer};
pub use websocket::{Frame, WebSocket};

pub use rustix::process::Signal;

/// Longest wait for anything in a test.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Time between two looks at a condition.
const GLANCE: Duration = Duration::from_millis(5);

/// Path of the binary under test; only in integration tests of the package that has the binary.
#[macro_export]
macro_rules! binary {
    () => {
        env!("CARGO_BIN_EXE_meshwright")
    };
}

/// Waits until `condition` holds.
///
/// # Panics
/// It does not hold within [`PATIENCE`]; the message says `what` was waited for.
#[track_caller]
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    assert!(holds_within(PATIENCE, condition), "waited {PATIENCE:?} in vain: {what}");
}

/// Whether `condition` comes to hold within `time`.
pub fn holds_within(time: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + time;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(GLANCE);
    }
}

/// Lets `time` pass. Not for waiting for a result: only where the passing of time itself is what is tested (a pace, a
/// connection that stays silent).
pub fn pass(time: Duration) {
    std::thread::sleep(time);
}

/// Raises the limit on open files of the test process as far as it may.
pub fn raise_descriptor_limit() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let wanted = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, wanted);
}

/// Makes the end of a connection a reset.
pub fn reset_at_end(stream: &std::net::TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
