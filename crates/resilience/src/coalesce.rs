//! Calls for the same thing at the same time become one: the first leads, the others get a clone of what it brings. Known as singleflight
//! (Go's `golang.org/x/sync/singleflight`). The rules are in `meshwright-traffic`; here is the waiting. Read next: `policy.rs`.

use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use meshwright_traffic::{CoalesceBounds, Coalescer, Turn};
use tokio::time::timeout_at;

use crate::clock::now;

/// Bounds when nothing else is said.
const BOUNDS: CoalesceBounds = CoalesceBounds { keys: 10_000, waiters: 10_000 };

/// One call for all who ask for the same at the same time. Nothing is kept: who comes when the call has ended makes it anew.
///
/// `R` is the whole result of a call, errors included; it is cloned for everybody who waits: wrap what is large or cannot be cloned in
/// an [`Arc`]. A call must not ask for its own key within itself, for it would wait for itself.
///
/// A leader that is cancelled or panics loses nothing but itself: one of those who wait makes the call in its place, and the others
/// wait for that.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use meshwright_resilience::Coalesce;
/// # async fn fetch_user(id: u32) -> Result<String, &'static str> { tokio::task::yield_now().await; Ok(format!("user {id}")) }
///
/// let users = Coalesce::new();
/// let (one, other) = tokio::join!(users.call(7, || fetch_user(7)), users.call(7, || fetch_user(7)));
/// assert_eq!(one, other);   // fetched once
/// # }
/// ```
pub struct Coalesce<K, R> {
    /// `None` of a call that has ended is a result that is not for others.
    core: Arc<Coalescer<K, Option<R>>>,
    timeout: Option<Duration>,
}

impl<K: Clone + Eq + Hash, R: Clone> Coalesce<K, R> {
    /// At most 10,000 keys are under way and 10,000 calls wait; they wait for as long as it takes.
    pub fn new() -> Self {
        Self { core: Arc::new(Coalescer::new(BOUNDS)), timeout: None }
    }

    /// At most so many keys are under way at one time; further calls are made alone.
    #[must_use]
    pub fn with_max_keys(self, keys: usize) -> Self {
        let bounds = CoalesceBounds { keys, ..*self.core.bounds() };
        Self { core: Arc::new(Coalescer::new(bounds)), ..self }
    }

    /// At most so many calls wait at one time; further ones are made alone.
    #[must_use]
    pub fn with_max_waiters(self, waiters: u32) -> Self {
        let bounds = CoalesceBounds { waiters, ..*self.core.bounds() };
        Self { core: Arc::new(Coalescer::new(bounds)), ..self }
    }

    /// A call is waited for so long after it began; then everybody who waits makes it alone, and the next that comes leads anew.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Makes the call, or waits for one of the same key that is under way. Everybody gets what it brings, an error too.
    pub async fn call<F, Fut>(&self, key: K, call: F) -> R
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = R>,
    {
        self.call_when(key, call, |_| true).await
    }

    /// The same; a result for which `shares` is false is for nobody but whoever made the call: those who wait make it alone, all at once.
    pub async fn call_when<F, Fut>(&self, key: K, call: F, shares: impl FnOnce(&R) -> bool) -> R
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = R>,
    {
        loop {
            let now = now();
            let until = self.timeout.and_then(|timeout| now.checked_add(timeout));
            match self.core.join(key.clone(), now, until) {
                Turn::Alone => return call().await,
                Turn::Lead(leader) => {
                    let result = call().await;
                    leader.land(shares(&result).then(|| result.clone()));
                    return result;
                }
                Turn::Follow(follower) => {
                    let landed = match follower.until() {
                        Some(until) => timeout_at(until.into(), follower).await.unwrap_or(Some(None)),
                        None => follower.await,
                    };
                    match landed {
                        Some(Some(result)) => return result,
                        Some(None) => return call().await,
                        // The leader is gone: whoever comes first takes its place.
                        None => {}
                    }
                }
            }
        }
    }

    /// What is under way for that key may be out of date from now on, because the thing was changed: the next call leads anew.
    pub fn detach(&self, key: &K) {
        self.core.detach(key);
    }

    /// Keys that are under way, and calls that wait.
    pub fn usage(&self) -> (usize, u32) {
        self.core.usage()
    }
}

impl<K: Clone + Eq + Hash, R: Clone> Default for Coalesce<K, R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, R> Clone for Coalesce<K, R> {
    fn clone(&self) -> Self {
        Self { core: Arc::clone(&self.core), timeout: self.timeout }
    }
}

impl<K, R> fmt::Debug for Coalesce<K, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coalesce").field("core", &self.core).field("timeout", &self.timeout).finish()
    }
}
