//! HTTP/2 on the `h2` crate: one connection with many streams, each of which is one side of an exchange.
//!
//! `h2` does frames, HPACK and windows. Around it stand the meter of what it does not show (`metered`), and the rules for
//! when a connection takes no further stream. Read next: `stream` (a side of an exchange), `server`, `client`.

mod client;
mod held;
mod metered;
mod server;
mod stream;

pub use client::{Attempt, ClientConnection, ClientLimits, StreamPlace, open};
pub use metered::PREFACE;
pub use server::{Accepted, ServerConnection};
pub use stream::Stream;

/// Bytes that a peer may have under way on one stream before we have taken them.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same over all streams of a client's connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of one stream that wait for the socket at most.
const SEND_BUFFER: usize = 64 * 1024;
