//! What a peer may cost us. Every limit is on by default and can be configured.

use std::time::Duration;

use meshwright_codec::{BodyLimits, HeadLimits};

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
        }
    }
}
