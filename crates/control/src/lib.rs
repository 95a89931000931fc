//! The control plane: it owns what the configuration is.
//!
//! [`Control`] reads files, compiles them and hands snapshots to a [`Publisher`]; it watches the files, resolves names again
//! by their time to live, follows the service registry, checks the health of endpoints, ends ejections that are over and carries out what operators
//! say about endpoints ([`Handle`]).
//! It does not know listeners, connections or requests: those belong to whoever implements [`Publisher`].
//! Every timed part is a pure core that is asked when it wants to be woken (`debounce.rs`, `resolution.rs`, `sweep.rs`); the
//! one loop that wakes them is in `control.rs`. Read next: `control.rs`, then `source.rs`, `certificates.rs`,
//! `health.rs` and `watch.rs`.

mod breaker_action;
mod candidate;
mod certificates;
mod control;
mod debounce;
mod endpoint_action;
mod handle;
mod health;
mod registered;
mod resolution;
mod resolver;
mod source;
mod status;
mod sweep;
mod watch;

pub use breaker_action::BreakerAction;
pub use certificates::certificates_of;
pub use control::{Command, Control, Publisher, Settings};
pub use endpoint_action::{ActionError, AuditEntry, EndpointAction};
pub use handle::Handle;
pub use resolution::NameStatus;
pub use source::{STDIN, read_sources};
pub use status::Status;
