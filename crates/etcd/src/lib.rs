//! A thin client of etcd's v3 API: ranges, transactions, leases, watches and passwords, over HTTP/2 with or without TLS.
//!
//! It speaks to one member at a time, tries nothing twice and follows no cluster: whoever uses it knows what may be repeated
//! and where a watch goes on. The messages are written by hand after etcd's `rpc.proto`, so that building needs no protoc.
//! Read next: `client.rs` (calls), `grpc.rs` (how a call travels), `endpoint.rs` (where to), `messages.rs`.

mod client;
mod endpoint;
mod grpc;
mod messages;

use std::sync::Arc;
use std::time::Duration;

pub use client::{Client, Login, Watch};
pub use endpoint::{BadEndpoint, Endpoint};
pub use messages::{
    Compare, DeleteRangeRequest, Event, KeyValue, PutRequest, RangeRequest, RangeResponse, RequestOp, ResponseHeader,
    ResponseOp, TxnRequest, TxnResponse, WatchCreateRequest, WatchResponse, prefix_end,
};

/// How to speak TLS to members: who may sign their certificates, and our own certificate. It must announce `h2` (ALPN).
pub type TlsConfig = Arc<rustls::ClientConfig>;

/// Why a call gave no answer that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no connection, or it broke. Whether the call had an effect is not known.
    #[error("{endpoint}: {reason}")]
    Connection {
        /// The member.
        endpoint: String,
        /// What happened.
        reason: String,
    },
    /// No answer came in time. Whether the call had an effect is not known.
    #[error("{endpoint}: no answer in {} ms", patience.as_millis())]
    Late {
        /// The member.
        endpoint: String,
        /// How long it was waited for.
        patience: Duration,
    },
    /// The member answered that it did not do it.
    #[error("{endpoint}: {message} (gRPC status {code})")]
    Refused {
        /// The member.
        endpoint: String,
        /// Status of gRPC.
        code: u32,
        /// etcd's sentence.
        message: String,
    },
    /// What was received is no answer of etcd.
    #[error("{endpoint}: {reason}")]
    Protocol {
        /// The member.
        endpoint: String,
        /// What is wrong.
        reason: String,
    },
}

impl Error {
    /// Whether a range asked for a revision that was compacted (gRPC status OUT_OF_RANGE).
    pub fn is_compacted(&self) -> bool {
        matches!(self, Self::Refused { code: 11, .. })
    }

    /// Whether a transaction has more operations or bytes than the member takes (gRPC status INVALID_ARGUMENT, which stands for other
    /// mistakes, too). It had no effect.
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::Refused { code: 3, .. })
    }
}
