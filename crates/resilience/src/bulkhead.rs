//! A bulkhead: at most so many calls at once, a few that wait, the others refused, so that one slow destination does not
//! take everything. Read next: `adaptive.rs` for a limit that finds its own number.

use std::future::Future;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::Error;

/// At most so many calls at once. Those who wait come in the order they came.
#[derive(Debug)]
pub struct Bulkhead {
    running: Semaphore,
    /// Places for those who wait; one who waits holds one.
    queue: Semaphore,
    max_wait: Duration,
}

impl Bulkhead {
    /// At most `max_concurrent` calls (at least 1, at most 2^61); nobody waits (resilience4j's `maxWaitDuration` 0).
    pub fn new(max_concurrent: usize) -> Self {
        let places = max_concurrent.clamp(1, Semaphore::MAX_PERMITS);
        Self { running: Semaphore::new(places), queue: Semaphore::new(0), max_wait: Duration::ZERO }
    }

    /// Lets at most `max_waiting` calls wait for a place, each for at most `max_wait`.
    #[must_use]
    pub fn with_queue(mut self, max_waiting: usize, max_wait: Duration) -> Self {
        self.queue = Semaphore::new(max_waiting.min(Semaphore::MAX_PERMITS));
        self.max_wait = max_wait;
        self
    }

    /// Calls that may begin at once now.
    pub fn available(&self) -> usize {
        self.running.available_permits()
    }

    /// Makes the call when there is a place for it in time.
    ///
    /// # Errors
    /// [`Error::BulkheadFull`] when there was none, [`Error::Inner`] when the call failed.
    pub async fn call<T, E>(&self, call: impl Future<Output = Result<T, E>>) -> Result<T, Error<E>> {
        let _place = self.enter().await.ok_or(Error::BulkheadFull)?;
        call.await.map_err(Error::Inner)
    }

    pub(crate) async fn enter(&self) -> Option<SemaphorePermit<'_>> {
        if let Ok(place) = self.running.try_acquire() {
            return Some(place);
        }
        let _waiting = self.queue.try_acquire().ok()?;
        tokio::time::timeout(self.max_wait, self.running.acquire()).await.ok()?.ok()
    }
}
