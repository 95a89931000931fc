//! HTTP/2 peers on the `h2` crate: a client and an origin that block like everything here.
//!
//! Connections live in one background thread with a runtime of its own; whoever waits for something waits in its own thread,
//! at most [`PATIENCE`]. What can be said only with raw frames is not here. Read next: `client.rs`, `origin.rs`; gRPC and
//! WebSocket stand on top.

mod client;
mod origin;
mod streams;

use std::fmt;
use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use h2::Reason;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::runtime::{Builder, Handle};

use crate::PATIENCE;
pub use client::{Http2Client, Http2Exchange};
pub use origin::{Http2Origin, Http2Stream};
pub use streams::{Http2Body, Http2Sender};

/// What a peer announces.
#[derive(Clone, Copy, Debug)]
pub struct Http2Settings {
    /// Flow-control window of each stream, in bytes. Default 1 MiB.
    pub stream_window: u32,
    /// Flow-control window of the connection, in bytes. Default 4 MiB.
    pub connection_window: u32,
    /// Longest frame, in bytes. Default 16 KiB.
    pub max_frame: u32,
    /// Streams at one time. Default 1000.
    pub max_streams: u32,
}

impl Default for Http2Settings {
    fn default() -> Self {
        Self { stream_window: 1 << 20, connection_window: 4 << 20, max_frame: 1 << 14, max_streams: 1000 }
    }
}

/// How a stream or a connection ended, other than well. Codes are those of RFC 9113, section 7.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Http2Failure {
    /// The stream was reset with this code.
    Reset(u32),
    /// The connection went away with this code.
    GoAway(u32),
    /// The connection broke.
    Io(String),
    /// Anything else, in words.
    Other(String),
}

impl Http2Failure {
    /// The code, when there is one.
    pub fn code(&self) -> Option<u32> {
        match self {
            Self::Reset(code) | Self::GoAway(code) => Some(*code),
            _ => None,
        }
    }
}

impl fmt::Display for Http2Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset(code) => write!(f, "stream reset with {:?}", Reason::from(*code)),
            Self::GoAway(code) => write!(f, "connection went away with {:?}", Reason::from(*code)),
            Self::Io(error) => write!(f, "connection broke: {error}"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

impl From<h2::Error> for Http2Failure {
    fn from(error: h2::Error) -> Self {
        match error.reason() {
            Some(reason) if error.is_go_away() => Self::GoAway(reason.into()),
            Some(reason) => Self::Reset(reason.into()),
            None if error.is_io() => Self::Io(error.to_string()),
            None => Self::Other(error.to_string()),
        }
    }
}

/// The runtime that all HTTP/2 peers of this process live in.
fn runtime() -> &'static Handle {
    static RUNTIME: OnceLock<Handle> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let handle = runtime.handle().clone();
        std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
        handle
    })
}

/// Waits for `future` in this thread.
///
/// # Panics
/// It takes longer than [`PATIENCE`]; the message says `what` was waited for.
#[track_caller]
fn wait<T>(what: &str, future: impl Future<Output = T>) -> T {
    wait_at_most(PATIENCE, future).unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain: {what}"))
}

/// Waits for `future` in this thread, at most so long.
fn wait_at_most<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    runtime().block_on(async { tokio::time::timeout(time, future).await.ok() })
}

pub(crate) fn map_of(fields: &[(String, String)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a field name");
        map.append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a field value"));
    }
    map
}

fn list_of(map: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| value.as_bytes().iter().map(|byte| char::from(*byte)).collect();
    map.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

fn owned(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
