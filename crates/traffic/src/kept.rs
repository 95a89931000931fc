//! Values that are kept for when there is no better one, bounded in number and bytes: the least recently used goes first. Knows no
//! HTTP: what may be kept and for how long is the caller's. Shared by threads: each call takes one lock, in which nothing is copied
//! or compared but the key.
//!
//! Read next: `crates/codec/src/shared_cache.rs`.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes that an answer counts for beside its key, its fields and its body.
const OVERHEAD: usize = 256;

/// How much is kept at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptBounds {
    /// Values.
    pub entries: usize,
    /// Bytes of all values, as their owners count them.
    pub bytes: usize,
}

/// Values by key. Both are cloned: let them be cheap to clone.
pub struct Kept<K, V> {
    bounds: KeptBounds,
    state: Mutex<State<K, V>>,
}

struct State<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// Keys by when they were used, the longest ago first.
    order: BTreeMap<u64, K>,
    bytes: usize,
    uses: u64,
}

struct Entry<V> {
    value: V,
    size: usize,
    used: u64,
    until: Option<Instant>,
}

impl<K: Clone + Eq + Hash, V: Clone> Kept<K, V> {
    /// Keeps nothing yet.
    pub fn new(bounds: KeptBounds) -> Self {
        let state = State { entries: HashMap::new(), order: BTreeMap::new(), bytes: 0, uses: 0 };
        Self { bounds, state: Mutex::new(state) }
    }

    /// What it was made with.
    pub fn bounds(&self) -> &KeptBounds {
        &self.bounds
    }

    /// Values and bytes that are kept. What has had its time counts until it is looked for or makes room.
    pub fn usage(&self) -> (usize, usize) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.entries.len(), state.bytes)
    }

    /// Keeps a value of `size` bytes until then (`None` is for ever) in the place of an earlier one of that key; one that is too large
    /// only takes the earlier away.
    pub fn keep(&self, key: K, value: V, size: usize, until: Option<Instant>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let _earlier = state.remove(&key);
        if size > self.bounds.bytes || self.bounds.entries == 0 {
            return;
        }
        while state.entries.len() >= self.bounds.entries || state.bytes + size > self.bounds.bytes {
            let Some((_, oldest)) = state.order.pop_first() else { break };
            state.remove(&oldest);
        }
        state.uses += 1;
        let used = state.uses;
        state.bytes += size;
        state.order.insert(used, key.clone());
        state.entries.insert(key, Entry { value, size, used, until });
    }

    /// The value of that key, while it may be used.
    pub fn find<Q: Eq + Hash + ?Sized>(&self, key: &Q, now: Instant) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { entries, order, uses, .. } = &mut *state;
        let entry = entries.get_mut(key)?;
        if entry.until.is_some_and(|until| now >= until) {
            state.remove(key);
            return None;
        }
        if let Some(key) = order.remove(&entry.used) {
            *uses += 1;
            entry.used = *uses;
            order.insert(*uses, key);
        }
        Some(entry.value.clone())
    }

    /// Forgets the value of that key.
    pub fn remove<Q: Eq + Hash + ?Sized>(&self, key: &Q)
    where
        K: Borrow<Q>,
    {
        // What is forgotten is dropped when the lock is given back.
        let _forgotten = self.state.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

impl<K: Clone + Eq + Hash, V> State<K, V> {
    fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let entry = self.entries.remove(key)?;
        self.order.remove(&entry.used);
        self.bytes -= entry.size;
        Some(entry.value)
    }
}

impl<K, V> fmt::Debug for Kept<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

/// The last good answers of a service.
pub type KeptAnswers = Kept<Arc<[u8]>, Arc<KeptAnswer>>;

/// An answer that was kept.
#[derive(Debug, PartialEq, Eq)]
pub struct KeptAnswer {
    /// Names and values of its head.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// Its body.
    pub body: Arc<Vec<u8>>,
    /// How old it was when it came.
    pub age: Duration,
    /// When it came.
    pub at: Instant,
}

impl KeptAnswer {
    /// How old it is.
    pub fn age_at(&self, now: Instant) -> Duration {
        self.age.saturating_add(now.saturating_duration_since(self.at))
    }

    /// Bytes that it takes, its key included.
    pub fn size(&self, key: &[u8]) -> usize {
        let fields: usize = self.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        OVERHEAD + key.len() + fields + self.body.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[allow(clippy::disallowed_methods, reason = "the start of simulated time")]
    fn start() -> Instant {
        Instant::now()
    }

    fn bounds() -> impl Strategy<Value = KeptBounds> {
        (0..5_usize, 0..3000_usize).prop_map(|(entries, bytes)| KeptBounds { entries, bytes })
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_a_list_in_order_of_use_would_keep(
            bounds in bounds(),
            steps in prop::collection::vec((0..3_u8, 0..8_u8, 0..1000_usize, 0..40_u64, 0..10_u64), 0..80),
        ) {
            let kept = Kept::new(bounds);
            let mut now = start();
            // The longest unused first: key, size (which is the value too), until when it may be used; 0 is for ever.
            let mut list: Vec<(u8, usize, Option<Instant>)> = Vec::new();
            for (what, key, size, usable, passed) in steps {
                now += Duration::from_secs(passed);
                let known = list.iter().position(|entry| entry.0 == key);
                match what {
                    0 => {
                        let until = (usable > 0).then(|| now + Duration::from_secs(usable));
                        kept.keep(key, size, size, until);
                        known.map(|index| list.remove(index));
                        if size <= bounds.bytes && bounds.entries > 0 {
                            let total = |list: &[(u8, usize, _)]| -> usize { list.iter().map(|entry| entry.1).sum() };
                            while list.len() >= bounds.entries || total(&list) + size > bounds.bytes {
                                list.remove(0);
                            }
                            list.push((key, size, until));
                        }
                    }
                    1 => {
                        let entry = known.map(|index| list.remove(index));
                        let usable = entry.filter(|entry| entry.2.is_none_or(|until| now < until));
                        list.extend(usable);
                        prop_assert_eq!(kept.find(&key, now), usable.map(|entry| entry.1));
                    }
                    _ => {
                        kept.remove(&key);
                        known.map(|index| list.remove(index));
                    }
                }
                let (entries, bytes) = kept.usage();
                prop_assert_eq!(entries, list.len());
                prop_assert_eq!(bytes, list.iter().map(|entry| entry.1).sum::<usize>());
                prop_assert!(bytes <= bounds.bytes && entries <= bounds.entries);
            }
        }
    }

    #[test]
    fn an_answer_gets_older_from_the_age_it_came_with() {
        let at = start();
        let answer = KeptAnswer { fields: Vec::new(), body: Arc::default(), age: Duration::from_secs(3), at };
        assert_eq!(answer.age_at(at + Duration::from_secs(4)), Duration::from_secs(7));
    }
}
