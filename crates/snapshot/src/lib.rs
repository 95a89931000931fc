//! From a validated mesh to what runs: one immutable, numbered [`Snapshot`].
//!
//! [`compile`] binds virtual services to listeners, merges them, resolves destinations to clusters and carries the live
//! facts of the previous snapshot over (usage, ejections, requests in flight), so that a reload forgets nothing.
//! [`Snapshot::with_endpoints`] exchanges the endpoints of some services and shares everything else.
//! The crate is pure: it knows no file, no socket, no clock and no DNS; those belong to `meshwright-control`.
//! Read next: `compile.rs` (the order of the work), then `gateway.rs` and `mesh.rs` (what is bound where),
//! `tls.rs` and `stream.rs` (connections that are not HTTP in clear text),
//! `credentials.rs` (certificates), `cluster.rs` (what survives). The reader of a snapshot is `meshwright-proxy`.

mod assign;
mod balancing;
mod cluster;
mod compile;
mod credentials;
mod destination_rule;
mod gateway;
mod health;
mod listener;
mod mesh;
mod registry;
mod resilience;
mod shared_answers;
mod snapshot;
mod stream;
mod tls;
mod virtual_host;

pub use balancing::{Affinity, policy};
pub use cluster::Cluster;
pub use compile::{CompileOptions, compile};
pub use credentials::Credentials;
pub use health::HostCheck;
pub use listener::{Action, Forward, Listener, ListenerKind, Route, Target, VirtualHost, WeightedCluster};
pub use resilience::{Adaptive, Breakers, RateLimiter, breaker_policy};
pub use shared_answers::{CoalescedRequests, LastGoodAnswers, RequestCoalescer, SharedAnswers};
pub use snapshot::Snapshot;
pub use tls::{ListenerTls, TcpForward, TcpRule, TlsAction, TlsChain};
