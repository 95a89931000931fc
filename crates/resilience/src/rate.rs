//! A rate limiter by key: a token bucket for every key, in bounded memory. Local to the process. Read next: `policy.rs`.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use meshwright_traffic::{Rate, TokenBucket};

use crate::Error;
use crate::clock::now;

/// Keys that are remembered when nothing else is said.
const MAX_KEYS: usize = 10_000;

/// So many calls per time and key; `RateLimiter<()>` is one for all.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use meshwright_resilience::{Error, Rate, RateLimiter};
///
/// let limiter = RateLimiter::new(Rate::per_second(1));
/// assert!(limiter.check("alice").is_ok());
/// assert!(limiter.check("alice").is_err());
/// assert!(limiter.check("bob").is_ok());
/// # }
/// ```
#[derive(Debug)]
pub struct RateLimiter<K = ()> {
    rate: Rate,
    max_wait: Duration,
    max_keys: usize,
    /// Held for one look-up.
    buckets: Mutex<Buckets<K>>,
}

#[derive(Debug)]
struct Buckets<K> {
    by_key: HashMap<K, TokenBucket>,
    /// Shared by all keys that found the table full.
    others: TokenBucket,
    /// When full buckets were thrown away last.
    swept: Instant,
}

impl<K: Eq + Hash> RateLimiter<K> {
    /// A limiter whose buckets are all full; nobody waits.
    pub fn new(rate: Rate) -> Self {
        let now = now();
        let buckets = Buckets { by_key: HashMap::new(), others: TokenBucket::new(rate, now), swept: now };
        Self { rate, max_wait: Duration::ZERO, max_keys: MAX_KEYS, buckets: Mutex::new(buckets) }
    }

    /// Lets a call wait so long for its token.
    #[must_use]
    pub fn with_max_wait(mut self, max_wait: Duration) -> Self {
        self.max_wait = max_wait;
        self
    }

    /// Remembers so many keys (default 10,000). Keys whose bucket is full again are forgotten first; when there are none,
    /// all further keys share one bucket.
    #[must_use]
    pub fn with_max_keys(mut self, max_keys: usize) -> Self {
        self.max_keys = max_keys;
        self
    }

    /// Takes a token now.
    ///
    /// # Errors
    /// The time until there is one.
    pub fn check(&self, key: K) -> Result<(), Duration> {
        self.take(key, Duration::ZERO).map(|_| ())
    }

    /// Takes a token, and waits for it as long as is allowed.
    ///
    /// # Errors
    /// [`Error::RateLimited`] when it would take longer; nothing is taken then.
    pub async fn acquire<E>(&self, key: K) -> Result<(), Error<E>> {
        match self.take(key, self.max_wait) {
            Ok(Duration::ZERO) => Ok(()),
            Ok(wait) => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            Err(retry_after) => Err(Error::RateLimited { retry_after }),
        }
    }

    fn take(&self, key: K, wait: Duration) -> Result<Duration, Duration> {
        let now = now();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let buckets = &mut *buckets;
        if let Some(bucket) = buckets.by_key.get_mut(&key) {
            return bucket.take_within(wait, now);
        }
        if buckets.by_key.len() >= self.max_keys && now.saturating_duration_since(buckets.swept) >= self.rate.per {
            buckets.by_key.retain(|_, bucket| !bucket.is_full(now));
            buckets.swept = now;
        }
        if buckets.by_key.len() >= self.max_keys {
            return buckets.others.take_within(wait, now);
        }
        buckets.by_key.entry(key).or_insert_with(|| TokenBucket::new(self.rate, now)).take_within(wait, now)
    }
}
