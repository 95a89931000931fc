//! What a peer may cost us. Every limit is on by default and can be configured.

use std::time::Duration;

use meshwright_codec::{BodyLimits, FrameLimits, HeadLimits};

/// Limits on downstream connections and on upstream answers.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Sizes of a request or response head.
    pub head: HeadLimits,
    /// Sizes of chunk extensions and trailers.
    pub body: BodyLimits,
    /// Time from the first byte of a request head (or from accept) to its last. Default 10 s.
    pub head_timeout: Duration,
    /// Time that a downstream connection may wait for its next request. Default 1 h, as Envoy has it.
    pub idle_timeout: Duration,
    /// Time without any progress while bytes of a body are awaited from, or queued for, a client. Default 60 s.
    pub stall_timeout: Duration,
    /// Time without a byte in either direction of an upgraded connection. Default 1 h.
    pub tunnel_idle_timeout: Duration,
    /// Bytes of an unread request body that are read and dropped after an early answer, to keep the connection. Default 64 KiB.
    pub discard: u64,
    /// Downstream connections at once, over all listeners and workers. Default: derived from `RLIMIT_NOFILE`.
    pub connections: usize,
    /// The same from one source: an IPv4 address, or a /64 network of IPv6. Default: nine tenths
    /// of `connections`.
    pub connections_per_source: usize,
    /// Streams that one HTTP/2 connection of a client may have open. Default 100.
    pub streams: u32,
    /// As `stall_timeout`, for one stream of HTTP/2. Default 10 s.
    pub stream_stall_timeout: Duration,
    /// Streams that we reset because of what the client did, over the life of a connection. Default 200.
    pub stream_errors: usize,
    /// HTTP/2 frames that a peer may send.
    pub frames: FrameLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: HeadLimits::default(),
            body: BodyLimits::default(),
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(3600),
            stall_timeout: Duration::from_secs(60),
            tunnel_idle_timeout: Duration::from_secs(3600),
            discard: 64 * 1024,
            connections: usize::MAX,
            connections_per_source: usize::MAX,
            streams: 100,
            stream_stall_timeout: Duration::from_secs(10),
            stream_errors: 200,
            frames: FrameLimits::default(),
        }
    }
}
