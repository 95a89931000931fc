//! The service registry of Meshwright from a Rust program: an instance registers itself and stays registered, and finds
//! others through a cache that follows every change.
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), meshwright_client::Error> {
//! use meshwright_client::{Client, Registration};
//!
//! let registry = Client::new("http://127.0.0.1:15000")?;
//! let registered = registry.register(Registration::new("user-service", 9001)).await?;
//! let posts = registry.discover("post-service").await?;
//! println!("posts are at {:?}", posts.instances());
//! registered.close().await?;
//! # Ok(()) }
//! ```
//!
//! [`Registered`] renews the lease, registers again when the registry has lost it, and takes the instance away at its end.
//! [`Discovery`] keeps the last instances it heard of while the registry is away. With the feature `balance`, `Balanced`
//! chooses among them and leaves out those that fail. It needs a tokio runtime, and spawns one task for each of both and
//! one for its connection. Registries speak HTTP in clear text; tokens go with every request.
//! Read next: `registered.rs`, `discovery.rs`.

#[cfg(feature = "balance")]
mod balance;
mod client;
mod discovery;
mod error;
mod instance;
mod line;
#[cfg(feature = "balance")]
mod load;
mod registered;
mod registration;

#[cfg(feature = "balance")]
pub use balance::{Balanced, Lease, NoInstance};
pub use client::Client;
pub use discovery::{Discovery, Query};
pub use error::Error;
pub use instance::{Instance, Status};
#[cfg(feature = "balance")]
pub use load::{InFlight, LOAD_HEADER, LOAD_PATH, Load};
#[cfg(feature = "balance")]
pub use meshwright_traffic::{BreakerPolicy, Policy as BalancingPolicy};
pub use registered::{Registered, Standing};
pub use registration::{Check, Registration};

/// The examples of the README, which are tests too.
#[cfg(all(doctest, feature = "balance"))]
#[doc = include_str!("../README.md")]
struct Readme;
