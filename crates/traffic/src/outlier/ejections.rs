//! The ejections of one cluster: how often there was one, and who may decide about the next. Read next: `mod.rs` and
//! `unreachable.rs`, which decide.

use std::sync::PoisonError;

use super::{EjectionKind, OutlierEvent};
use crate::HostSet;
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering};

/// What was ejected from a cluster, by kind of cause, and how often that was refused. Whoever ejects its hosts shares it, and
/// the snapshots that follow each other do.
#[derive(Debug, Default)]
pub struct Ejections {
    ejected: [AtomicU64; EjectionKind::ALL.len()],
    refused: AtomicU64,
    /// Held while a host changes sides (counting who is out is part of the decision), for one pass over the hosts.
    /// Never taken on the path of a success. Guards no data of its own.
    decision: Mutex<()>,
}

impl Ejections {
    /// Ejections of one kind.
    pub fn ejected(&self, kind: EjectionKind) -> u64 {
        self.ejected[kind as usize].load(Ordering::Relaxed)
    }

    /// Ejections that were not carried out.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Takes a host in again at an operator's word and forgives it everything; `None` when it was not out.
    pub fn uneject(&self, hosts: &HostSet, index: usize) -> Option<OutlierEvent> {
        let _decision = self.decide();
        let verdict = &*hosts.hosts().get(index)?.verdict;
        let was_out = verdict.is_ejected();
        verdict.clear();
        was_out.then_some(OutlierEvent::Returned { index })
    }

    /// From here on nobody else decides, until the guard is dropped.
    pub(super) fn decide(&self) -> MutexGuard<'_, ()> {
        self.decision.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count_ejected(&self, kind: EjectionKind) {
        self.ejected[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}
