//! The HTTP server behind the admin API and the registry's faces: bounded connections, deadlines, room for requests that
//! wait, a graceful end, and a guard against browsers that were lured to a foreign page.
//!
//! It serves a router and knows no page of it; nothing that carries traffic goes through it.
//! Read next: `listen.rs`, `server.rs`, `guard.rs`, `head.rs`, `body.rs`, `stall.rs`, `waits.rs`.

mod body;
mod guard;
mod head;
mod listen;
mod server;
mod stall;
mod waits;

pub use body::is_late;
pub use guard::{Ends, check, refusal};
pub use listen::listen;
pub use server::serve;
pub use waits::{Wait, Waits};
