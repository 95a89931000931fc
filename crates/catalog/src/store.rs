//! What keeps committed changes. The writer asks for one commit at a time and applies events only after it.

use meshwright_registry::{Event, Registry};

/// A place for committed changes.
pub trait Store: Send {
    /// Keeps `events`, all or none, on top of `before`, which is everything that was kept until now. When it returns, they
    /// survive whatever the store promises to survive.
    ///
    /// # Errors
    ///
    /// They are not kept, or it is not known whether they are; they count as not kept, and the next commit makes it so.
    fn commit(&mut self, before: &Registry, events: &[Event]) -> Result<(), StoreError>;
}

/// A commit failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub String);

/// Keeps nothing beyond the process.
#[derive(Debug, Default)]
pub(crate) struct Memory;

impl Store for Memory {
    fn commit(&mut self, _before: &Registry, _events: &[Event]) -> Result<(), StoreError> {
        Ok(())
    }
}
