//! What a request head and a response head are.
//!
//! One canonical object per message: what is routed, logged and forwarded is this, never the bytes that arrived.
//! Framing (`Content-Length`, `Transfer-Encoding`) and hop-by-hop headers are not in the header list: they are typed
//! fields, filled by the codec from validated values and written again by the codec. This crate knows no bytes on a wire.
//! Read next: `meshwright-codec`.

mod head;
mod headers;
mod method;

pub use head::{BodyLength, HeadMemory, RequestHead, ResponseHead, Scheme, Version};
pub use headers::{HeaderList, HeaderName};
pub use method::Method;
