//! HTTP as a sans-I/O codec: HTTP/1.1 bytes to heads and bodies, and back; heads of HTTP/2 to the same canonical form.
//!
//! Strict by design (RFC 9110, RFC 9112): what could be read in two ways is refused, and what is accepted becomes one
//! canonical [`meshwright_message`] object whose framing is written anew from parsed values. The bytes that arrived
//! are never handed on as a head. All rules against request smuggling stand in this crate and nowhere else.
//!
//! The crate knows no sockets, no clock, no routes and no policy: it takes slices and fills buffers.
//!
//! | file | what |
//! |---|---|
//! | `request` | request heads: request line, target, authority |
//! | `response` | response heads: status line, body length by status and method |
//! | `fields` | the field section shared by both, hop-by-hop fields, framing fields |
//! | `scan` | heads that arrive in pieces: linear cost, the same verdict as in one piece |
//! | `shared_cache` | what may be kept for everybody and for how long |
//! | `path` | the normal form of paths |
//! | `body` | message bodies: sized, chunked with trailers, until close |
//! | `write` | heads and chunks to bytes |
//! | `frames` | a meter of HTTP/2 frames against floods |
//! | `proxy_protocol` | who a balancer speaks for |
//! | `websocket` | the proof of a WebSocket handshake |
//! | `http2` | heads and trailers of HTTP/2, from and to the maps of the `h2` crate |
//!
//! Read next: [`parse_request`], then `fields`.

mod authority;
mod body;
mod error;
mod fields;
mod frames;
mod http2;
mod limits;
mod path;
mod proxy_protocol;
mod request;
mod response;
mod scan;
mod shared_cache;
mod syntax;
mod websocket;
mod write;

pub use body::{BodyDecoder, Decoded};
pub use error::{BodyError, HeadError, HeadErrorClass};
pub use frames::{FrameFlood, FrameLimits, FrameMeter};
pub use http2::{
    is_websocket, read_http2_request, read_http2_response, read_http2_trailers, write_http2_request,
    write_http2_response, write_http2_trailers,
};
pub use limits::{BodyLimits, HeadLimits};
pub use path::{PathError, normalize_path};
pub use proxy_protocol::{
    ProxyHeader, ProxyHeaderError, read_proxy_header, write_proxy_header_v1, write_proxy_header_v2,
};
pub use request::parse_request;
pub use response::{Answered, parse_response};
pub use scan::{HeadScan, Progress};
pub use shared_cache::{Lifetime, freshened, is_about, is_conditional, is_shareable, lifetime, takes_kept};
pub use websocket::WebSocketKey;
pub use write::{
    ReplyFraming, reason_phrase, write_chunk_end, write_chunk_header, write_last_chunk, write_request_head,
    write_response_head,
};
