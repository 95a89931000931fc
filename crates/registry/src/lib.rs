//! The service registry as a state machine.
//!
//! ```text
//!  Proposal ─▶ Stage (decides) ─▶ Event with a revision ─▶ a store keeps it ─▶ Registry::apply ─▶ readers, cursors
//!  renewal ──▶ Leases ─▶ sweep ─▶ what lapsed ─▶ Proposal (remove), unless too much lapses at once
//! ```
//!
//! [`Registry`] is what was committed: services, instances and a bounded log of changes, each with its revision. [`Leases`]
//! is what only this process knows: who renewed when. Nothing here stores, listens or reads a clock; `now` is an argument.
//! Read next: `instance.rs` (the words), `stage.rs` (what may happen), `registry.rs` (what happened),
//! `leases.rs` and `probes.rs` (time), `owners.rs` (whose task that is, where processes share a registry); `keys`, which is a state
//! machine of its own: keys with values, and sessions that lock them.

mod check;
mod instance;
mod keys;
mod leases;
mod limits;
mod name;
mod owners;
mod pairs;
mod probes;
mod registry;
mod selector;
mod stage;

pub use check::{Check, Probe};
pub use instance::{Instance, Lease, LeaseKind, Override, Source, Status, is_of_an_instance};
pub use keys::{
    Behavior, Decision, Failure, Ground, KeyAction, KeyAnswer, KeyChange, KeyLimits, KeyRefusal, KeyScope, KeyStep,
    Keys, Lock, Pair, Session, SessionCheck, SessionClock, Shown, decide,
};
pub use leases::{Leases, Preservation, Renewal};
pub use limits::Limits;
pub use name::{DEFAULT_NAMESPACE, InstanceKey, Invalid, ServiceKey};
pub use owners::{Care, Owners};
pub use pairs::Pairs;
pub use probes::{Probes, Task, Verdict};
pub use registry::{Change, Compacted, Entry, Event, Registry, Scope, Service};
pub use selector::Selector;
pub use stage::{Action, Expected, Outcome, Proposal, Reason, Refusal, Stage};
