//! Token buckets by key: so many per time for everybody, whoever that is. Knows no request; what a key is made of is the
//! caller's. Shared by threads: asking takes the lock of one of sixteen parts for some tens of nanoseconds.
//!
//! Memory is bounded: a key whose bucket is full again is forgotten when room is needed, and keys for which there is no room
//! share one bucket. Read next: `rate.rs`.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use crate::{Rate, TokenBucket};

/// Parts with a lock of their own.
const PARTS: usize = 16;

/// A key of more bytes is kept as its hash.
const LONGEST_KEY: usize = 128;

/// A part that had no room is not searched for it again before that.
const SEARCH_EVERY: Duration = Duration::from_millis(100);

/// Buckets of one rate, by key.
#[derive(Debug)]
pub struct KeyedBuckets {
    rate: Rate,
    most_of_part: usize,
    hasher: RandomState,
    parts: [CachePadded<Mutex<Part>>; PARTS],
}

#[derive(Debug, Default)]
struct Part {
    buckets: HashMap<Box<[u8]>, TokenBucket>,
    /// Of keys for which there is no room.
    shared: Option<TokenBucket>,
    search_at: Option<Instant>,
}

/// What came of asking for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Time until there is a token; `None` when one was taken.
    pub retry_after: Option<Duration>,
    /// Tokens that are left.
    pub remaining: u32,
    /// Time until the bucket is full again.
    pub full_in: Duration,
}

impl KeyedBuckets {
    /// Full buckets for about `most` keys, at least 16.
    pub fn new(rate: Rate, most: usize) -> Self {
        Self { rate, most_of_part: most.div_ceil(PARTS).max(1), hasher: RandomState::new(), parts: Default::default() }
    }

    /// Takes a token of `key`, or says when there is one.
    pub fn try_take(&self, key: &[u8], now: Instant) -> Taken {
        let hash = self.hasher.hash_one(key);
        let digest = hash.to_le_bytes();
        let key = if key.len() > LONGEST_KEY { &digest[..] } else { key };
        let mut part = self.parts[hash as usize % PARTS].lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = part.bucket(key, (self.rate, self.most_of_part), now);
        let retry_after = bucket.try_take(now).err();
        Taken { retry_after, remaining: bucket.remaining(now), full_in: bucket.full_in(now) }
    }

    /// Keys that have a bucket.
    pub fn keys(&self) -> usize {
        self.parts.iter().map(|part| part.lock().unwrap_or_else(PoisonError::into_inner).buckets.len()).sum()
    }

    /// The rate of every bucket.
    pub fn rate(&self) -> Rate {
        self.rate
    }
}

impl Part {
    fn bucket(&mut self, key: &[u8], (rate, most): (Rate, usize), now: Instant) -> &mut TokenBucket {
        if !self.buckets.contains_key(key) {
            if self.buckets.len() >= most && self.search_at.is_none_or(|at| now >= at) {
                self.buckets.retain(|_, bucket| !bucket.is_full(now));
                self.search_at = now.checked_add(SEARCH_EVERY);
            }
            if self.buckets.len() >= most {
                return self.shared.get_or_insert_with(|| TokenBucket::new(rate, now));
            }
        }
        self.buckets.entry(key.into()).or_insert_with(|| TokenBucket::new(rate, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods, reason = "the start of simulated time")]
    fn start() -> Instant {
        Instant::now()
    }

    const RATE: Rate = Rate { tokens: 2, per: Duration::from_secs(1), burst: 2 };

    #[test]
    fn every_key_has_its_own_bucket() {
        let now = start();
        let buckets = KeyedBuckets::new(RATE, 100);
        let long = [b'x'; 1_000];
        for key in [&b"a"[..], b"b", b"", &long] {
            let taken: Vec<Taken> = (0..3).map(|_| buckets.try_take(key, now)).collect();
            assert_eq!(taken.iter().map(|taken| taken.remaining).collect::<Vec<_>>(), [1, 0, 0]);
            assert_eq!(taken[1].full_in, Duration::from_secs(1));
            let waits: Vec<_> = taken.iter().map(|taken| taken.retry_after).collect();
            assert_eq!(waits, [None, None, Some(Duration::from_millis(500))]);
        }
        assert_eq!(buckets.keys(), 4);
        assert_eq!(buckets.try_take(b"a", now + Duration::from_millis(500)).retry_after, None);
    }

    #[test]
    fn keys_are_bounded_and_those_without_room_share_a_bucket() {
        let mut now = start();
        let buckets = KeyedBuckets::new(RATE, 32);
        let refused =
            (0u32..10_000).filter(|key| buckets.try_take(&key.to_le_bytes(), now).retry_after.is_some()).count();
        assert!(buckets.keys() <= 32, "{} keys", buckets.keys());
        assert!(refused >= 10_000 - 32 - 2 * PARTS, "{refused} were refused");
        now += Duration::from_secs(2);
        assert_eq!(buckets.try_take(b"new", now).retry_after, None);
        assert!(buckets.keys() <= 32, "full buckets made room for it");
    }
}
