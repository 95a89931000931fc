//! Room for requests that are answered later: they may not take every connection, or nobody else comes in.
//!
//! What they wait for is not known here.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places of a listener for requests that wait; every request carries it as an extension.
#[derive(Clone, Debug)]
pub struct Waits(Arc<Semaphore>);

/// A place. It is free again when this is dropped.
#[derive(Debug)]
pub struct Wait {
    _place: OwnedSemaphorePermit,
}

impl Waits {
    /// Three quarters of `connections`, at least one.
    pub fn of(connections: usize) -> Self {
        Self(Arc::new(Semaphore::new((connections - connections / 4).max(1))))
    }

    /// A place, when one is free.
    pub fn begin(&self) -> Option<Wait> {
        Arc::clone(&self.0).try_acquire_owned().ok().map(|place| Wait { _place: place })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_the_connections_stays_for_requests_that_do_not_wait() {
        let waits = Waits::of(8);
        let mut places: Vec<Wait> = (0..6).map(|_| waits.begin().unwrap()).collect();
        assert!(waits.begin().is_none());
        places.pop();
        assert!(waits.begin().is_some());
    }
}
