//! Atomics and locks: those of the standard library, or loom's stand-ins for them in the tests that try every interleaving
//! (`--cfg loom`, `tests/loom.rs`). Read next: `limits.rs`.

#[cfg(loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
};
#[cfg(not(loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
};
