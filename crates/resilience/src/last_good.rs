//! The last good value of a call: kept by key, and given when the call fails. Knows no HTTP: whoever calls says what is the same and
//! what may be kept. Read next: `coalesce.rs`.

use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meshwright_traffic::{Kept, KeptBounds};

use crate::clock::now;

/// Values that are kept when nothing else is said.
const MAX_ENTRIES: usize = 1_000;

type Keeps<T> = dyn Fn(&T) -> bool + Send + Sync;
type Size<T> = dyn Fn(&T) -> usize + Send + Sync;
type OnStandIn<K> = dyn Fn(&K, Duration) + Send + Sync;

/// Keeps the last good value of each key for when there is no better one, as `stale-if-error` does for HTTP (RFC 5861, section 4). It is
/// no cache: the call is always made.
///
/// The least recently used value goes when there are too many. Values are cloned out of a short lock: wrap large ones in an [`Arc`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use std::time::Duration;
/// use meshwright_resilience::LastGood;
///
/// let prices = LastGood::new(Duration::from_secs(600));
/// assert_eq!(prices.call("tea", async { Ok::<_, &str>(3) }).await, Ok(3));
/// assert_eq!(prices.call("tea", async { Err("away") }).await, Ok(3));
/// assert_eq!(prices.call("rum", async { Err("away") }).await, Err("away"));
/// # }
/// ```
pub struct LastGood<K, T> {
    usable: Duration,
    bounds: KeptBounds,
    kept: Kept<K, (T, Instant)>,
    keeps: Option<Arc<Keeps<T>>>,
    size: Option<Arc<Size<T>>>,
    on_stand_in: Option<Arc<OnStandIn<K>>>,
}

impl<K: Clone + Eq + Hash, T: Clone> LastGood<K, T> {
    /// Keeps up to 1,000 values, each of use for so long after it came.
    pub fn new(usable: Duration) -> Self {
        let bounds = KeptBounds { entries: MAX_ENTRIES, bytes: usize::MAX };
        Self { usable, bounds, kept: Kept::new(bounds), keeps: None, size: None, on_stand_in: None }
    }

    /// Keeps so many values; 0 keeps none. What was kept is forgotten.
    #[must_use]
    pub fn with_max_entries(mut self, entries: usize) -> Self {
        self.bounds.entries = entries;
        self.kept = Kept::new(self.bounds);
        self
    }

    /// Bounds the bytes of all values too; `size` says how many one has. One that has more is not kept. What was kept is forgotten.
    #[must_use]
    pub fn with_max_bytes(mut self, bytes: usize, size: impl Fn(&T) -> usize + Send + Sync + 'static) -> Self {
        self.bounds.bytes = bytes;
        self.kept = Kept::new(self.bounds);
        self.size = Some(Arc::new(size));
        self
    }

    /// Says which values may be kept; by default all. One that may not takes the earlier one away.
    #[must_use]
    pub fn keeping(mut self, keeps: impl Fn(&T) -> bool + Send + Sync + 'static) -> Self {
        self.keeps = Some(Arc::new(keeps));
        self
    }

    /// Is told of every value that stands in for an error, with its key and how old it is.
    #[must_use]
    pub fn on_stand_in(mut self, tell: impl Fn(&K, Duration) + Send + Sync + 'static) -> Self {
        self.on_stand_in = Some(Arc::new(tell));
        self
    }

    /// Makes the call; for any error the last good value of that key stands in. A call that is dropped changes nothing.
    ///
    /// # Errors
    /// That of the call, when there is no value, or only one that is too old.
    pub async fn call<E>(&self, key: K, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        self.call_when(key, call, |_| true).await
    }

    /// Makes the call; a value stands in for those errors for which `stands_in` is true. Any other is an answer, such as that there is
    /// no such thing, and takes the value away.
    ///
    /// # Errors
    /// That of the call, when no value stands in.
    pub async fn call_when<E>(
        &self,
        key: K,
        call: impl Future<Output = Result<T, E>>,
        stands_in: impl FnOnce(&E) -> bool,
    ) -> Result<T, E> {
        match call.await {
            Ok(value) => {
                self.put(key, &value);
                Ok(value)
            }
            Err(error) if stands_in(&error) => {
                let Some((value, age)) = self.find(&key) else { return Err(error) };
                if let Some(tell) = &self.on_stand_in {
                    tell(&key, age);
                }
                Ok(value)
            }
            Err(error) => {
                self.forget(&key);
                Err(error)
            }
        }
    }

    fn put(&self, key: K, value: &T) {
        if self.keeps.as_ref().is_some_and(|keeps| !keeps(value)) {
            return self.forget(&key);
        }
        let size = self.size.as_ref().map_or(0, |size| size(value));
        let at = now();
        self.kept.keep(key, (value.clone(), at), size, at.checked_add(self.usable));
    }

    /// The value that would stand in now, and how old it is.
    pub fn find(&self, key: &K) -> Option<(T, Duration)> {
        let now = now();
        self.kept.find(key, now).map(|(value, at)| (value, now.saturating_duration_since(at)))
    }

    /// Forgets the value of that key, because it was changed for example.
    pub fn forget(&self, key: &K) {
        self.kept.remove(key);
    }

    /// Values that are kept, and their bytes where they are counted. What is too old counts until it is looked for or makes room.
    pub fn usage(&self) -> (usize, usize) {
        self.kept.usage()
    }
}

impl<K, T> fmt::Debug for LastGood<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LastGood").field("usable", &self.usable).field("bounds", &self.bounds).finish_non_exhaustive()
    }
}
