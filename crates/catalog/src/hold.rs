//! An instance that is registered for as long as somebody holds on to it: a connection, usually.

use std::sync::Arc;
use std::time::Instant;

use meshwright_registry::{Action, Entry, Expected, InstanceKey, Proposal, Reason};

use crate::Catalog;

/// Keeps the lease of an instance from ending; when it is dropped, the instance leaves.
pub struct Hold {
    catalog: Catalog,
    key: InstanceKey,
    revision: u64,
}

impl Hold {
    /// Holds the instance `key`, whose registration has `revision`.
    pub fn new(catalog: Catalog, key: InstanceKey, revision: u64) -> Self {
        catalog.shared().leases().hold(&key, true, Instant::now());
        Self { catalog, key, revision }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // Somebody who registered the instance anew since then holds it himself.
        let entry = self.catalog.read(|registry| registry.instance(&self.key).cloned());
        let ours = |entry: &Arc<Entry>| entry.created <= self.revision && self.catalog.shared().cares(&entry.key);
        if let Some(entry) = entry.filter(ours) {
            self.catalog.shared().leases().hold(&self.key, false, Instant::now());
            let action = Action::Remove(Reason::ConnectionClosed);
            let expected = Expected::Modified(entry.modified);
            self.catalog.propose_unattended(vec![Proposal { key: self.key.clone(), expected, action }]);
        }
    }
}
