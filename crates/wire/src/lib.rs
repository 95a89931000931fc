//! The only crate that opens sockets for traffic: listen, connect, TLS, HTTP/1 links, HTTP/2 streams, upstream pools, relay.
//!
//! It moves heads and bodies; it does not know routes, clusters or policies. `meshwright-proxy` decides on heads and hands
//! the bodies to [`Relay`]; which protocol stands on either side of it is a [`Side`], and known only here.
//! Read next: [`Relay`] (how an exchange moves), [`Side`], [`EndpointPool`] (how connections are kept), [`http2`], [`net`].

mod ask;
mod buffers;
mod deadline;
mod direction;
pub mod hello;
pub mod http2;
mod lease;
mod limits;
mod link;
pub mod net;
mod pool;
mod relay;
mod side;
mod splice;
mod tls;
mod transport;

pub use buffers::{Buffers, Spare};
pub use deadline::Deadline;
pub use direction::{Direction, MoveError};
pub use lease::Lease;
pub use limits::Limits;
pub use link::Link;
pub use pool::{EndpointPool, OnClose, Place, PoolKey, PoolLimits, Protocol, Reuse};
pub use relay::{Deadlines, Ends, Relay, RelayError, ResponseStart};
pub use side::Side;
pub use tls::{Hello, TlsStream};
pub use transport::Transport;
