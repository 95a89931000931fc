//! The only crate that opens sockets for traffic: listen, connect, HTTP/1 links, upstream pools, relay, deadlines.
//!
//! It moves heads and bodies; it does not know routes, clusters or policies. `meshwright-proxy` decides on heads and hands
//! the bodies to [`Relay`]; which protocol stands on either side is known only here, so that another one is a further
//! variant of the relay and not a change of the proxy.
//! Read next: [`Relay`] (how an exchange moves), [`EndpointPool`] (how connections are kept), [`net`] (sockets).

mod buffers;
mod deadline;
mod direction;
mod limits;
mod link;
pub mod net;
mod pool;
mod relay;

pub use buffers::{Buffers, Spare};
pub use deadline::Deadline;
pub use direction::{Direction, MoveError};
pub use limits::Limits;
pub use link::Link;
pub use pool::{EndpointPool, Lease, OnClose, Place, PoolKey, PoolLimits, Reuse};
pub use relay::{Deadlines, Ends, Relay, RelayError, ResponseStart};
