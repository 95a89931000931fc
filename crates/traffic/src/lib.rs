//! Traffic decisions as pure state: which endpoint is next, which is out for a while, how much may be in flight, how
//! long to wait before a retry.
//!
//! Nothing here opens a socket, reads a clock or allocates per request: time and chance are arguments. The
//! configuration structs are this crate's own, so that it depends on nothing else of the workspace;
//! `meshwright-snapshot` fills them.
//!
//! - [`Host`], [`HostSet`]: the endpoints of a cluster with their shared facts ([`HostState`]) and verdicts
//!   ([`HostVerdict`]).
//! - [`Balancer`]: one worker's choice among them. Each algorithm is one file in `balance/`.
//! - [`OutlierDetector`]: ejection of hosts that fail in a row.
//! - [`CircuitBreaker`]: stops calls to what fails or is slow. Its policy and presets are in `breaker/policy.rs`.
//! - [`Limits`], [`Usage`]: how much may be open or in flight.
//! - [`Backoff`]: the pause before a retry.
//!
//! Read next: `balance/mod.rs` and `outlier.rs`.

mod backoff;
mod balance;
mod breaker;
mod host;
mod host_set;
mod limits;
mod outlier;
mod rotation;
mod verdict;
mod weighted_draw;

pub use backoff::Backoff;
pub use balance::{Balancer, NoHost, Policy, Stagger};
pub use breaker::{
    Admission, BreakerMode, BreakerPolicy, BreakerRefusal, BreakerState, BreakerView, CircuitBreaker, Counts, OpenTime,
    Outcome, Permit, ReadyToTrip, Recovery, SlowCalls, StateCause, StateChange, Window,
};
pub use host::{AdminState, Host, HostState};
pub use host_set::HostSet;
pub use limits::{Limits, Usage};
pub use outlier::{EjectionCause, EjectionRefusal, Observation, OutlierDetector, OutlierEvent, OutlierPolicy};
pub use verdict::HostVerdict;
