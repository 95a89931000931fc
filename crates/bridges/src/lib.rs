//! The registry's faces: each is a codec and a mapping between a protocol and the registry, without state or timers of its own.
//!
//! `api` is our own HTTP API, `eureka` and `consul` speak to the clients of those, `dns` to
//! everybody; who may use a face is decided in `access.rs`. What is registered, for how long and where it is
//! kept is not known here: that is `meshwright-registry` and `meshwright-catalog`. Read next: `api/mod.rs`.

mod access;
mod api;
pub mod consul;
pub mod dns;
mod duration;
pub mod eureka;
mod metrics;
mod object;
mod query;

pub use access::{Access, Tokens, TokensError};
pub use api::{INDEX, router};
pub use metrics::metrics;
