//! The running registry: the state machine of `meshwright-registry` with a store, a writer and a clock.
//!
//! ```text
//!  propose ─▶ writer thread: Stage ─▶ Store::commit (durable) ─▶ Registry::apply ─▶ acknowledged, watchers wake
//!  renew ───▶ Leases (memory only)          Catalog::run ─▶ sweep ─▶ propose removals
//!                                           prober::run ──▶ checks ─▶ propose statuses
//! ```
//!
//! [`Catalog`] is the handle that everybody shares: reads come from memory, writes go through one writer that commits what
//! waits as one batch. Nothing is visible before it is durable. Renewals are not written: after a restart every lease has its
//! full time again. It knows no protocol; those are the faces of `meshwright-bridges`.
//! Read next: `catalog.rs`, `shared.rs`, `writer.rs`, `store.rs`, `disk.rs`; `etcd` for a registry that several processes
//! share; `keyspace` for the keys and sessions beside it; `prober.rs` carries checks out, `probe.rs` is one of them.

mod catalog;
mod disk;
mod etcd;
mod hold;
mod keyspace;
mod medium;
mod probe;
mod prober;
mod record;
mod shared;
mod store;
mod writer;

pub use catalog::{Catalog, WriteError};
pub use disk::OpenError;
pub use etcd::EtcdSettings;
pub use hold::Hold;
pub use keyspace::{KeyError, Keyspace};
pub use meshwright_etcd::{BadEndpoint, Endpoint, Login, TlsConfig};
pub use store::{Store, StoreError};
