//! The data plane: workers that accept connections and answer requests by the snapshot they were given.
//!
//! One request makes eight stops: accept, TLS, connection, **admit**, **route**, **forward**, **respond**, **record**.
//! `request.rs` holds the straight line through the last five; each of them is one file of the same name.
//! This crate knows no YAML, no file, no registry and no admin page: it gets an `Arc<Snapshot>` and works with the last
//! good one for as long as no other comes.
//! Read next: `request.rs`, then [`Fleet`].

mod accept;
mod admit;
mod affinity;
mod again;
mod broken;
mod clock;
mod coalesce;
mod connection;
mod contained;
mod exchange;
mod fallback;
mod fleet;
mod forward;
mod grpc;
mod hedge;
mod http2;
mod kept;
mod lease;
mod listener;
mod load_probe;
mod load_report;
mod log;
mod outlier;
mod own_answer;
mod permit;
mod rate;
mod record;
mod request;
mod respond;
mod retry;
mod shareable;
mod sources;
mod tasks;
mod tcp;
mod timeout;
mod unreachable;
mod upgrade;
mod view;
mod worker;

pub use fleet::{BoundListener, Fleet, Pressure, Settings};
pub use log::{AccessLog, AccessLogTarget};
