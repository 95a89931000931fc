//! The last good answers of a service, bounded in number and bytes: the least recently used goes first. Knows no HTTP: what may be kept
//! and for how long is the caller's. Shared by threads: each call takes one lock, in which bytes are neither copied nor compared
//! but those of the key.
//!
//! Read next: `crates/codec/src/shared_cache.rs`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes that an entry counts for beside its key, its fields and its body.
const OVERHEAD: usize = 256;

/// How much is kept at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptBounds {
    /// Answers.
    pub entries: usize,
    /// Bytes of all answers, their keys and heads included.
    pub bytes: usize,
    /// Bytes of the body of one answer.
    pub answer_bytes: usize,
}

/// An answer that was kept.
#[derive(Debug, PartialEq, Eq)]
pub struct KeptAnswer {
    /// Names and values of its head.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// Its body.
    pub body: Vec<u8>,
    /// How old it was when it came.
    pub age: Duration,
    /// When it came.
    pub at: Instant,
    /// It may be used for so long after it came.
    pub usable: Duration,
}

impl KeptAnswer {
    /// How old it is.
    pub fn age_at(&self, now: Instant) -> Duration {
        self.age.saturating_add(now.saturating_duration_since(self.at))
    }

    fn size(&self, key: &[u8]) -> usize {
        let fields: usize = self.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        // The key is there twice.
        OVERHEAD + 2 * key.len() + fields + self.body.len()
    }
}

/// Answers by key.
#[derive(Debug)]
pub struct KeptAnswers {
    bounds: KeptBounds,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Arc<[u8]>, Entry>,
    /// Keys by when they were used, the longest ago first.
    order: BTreeMap<u64, Arc<[u8]>>,
    bytes: usize,
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    answer: Arc<KeptAnswer>,
    size: usize,
    used: u64,
}

impl KeptAnswers {
    /// Keeps nothing yet.
    pub fn new(bounds: KeptBounds) -> Self {
        Self { bounds, state: Mutex::default() }
    }

    /// What it was made with.
    pub fn bounds(&self) -> &KeptBounds {
        &self.bounds
    }

    /// Answers and bytes that are kept.
    pub fn usage(&self) -> (usize, usize) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.entries.len(), state.bytes)
    }

    /// Keeps an answer in the place of an earlier one of that key; one that is too large or of no use only takes the earlier away.
    pub fn keep(&self, key: &[u8], answer: KeptAnswer) {
        let size = answer.size(key);
        let fits = answer.body.len() <= self.bounds.answer_bytes && size <= self.bounds.bytes;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.remove(key);
        if !fits || answer.usable.is_zero() || self.bounds.entries == 0 {
            return;
        }
        while state.entries.len() >= self.bounds.entries || state.bytes + size > self.bounds.bytes {
            let Some((_, oldest)) = state.order.pop_first() else { break };
            state.remove(&oldest);
        }
        state.uses += 1;
        let (key, used): (Arc<[u8]>, u64) = (key.into(), state.uses);
        state.bytes += size;
        state.order.insert(used, Arc::clone(&key));
        state.entries.insert(key, Entry { answer: Arc::new(answer), size, used });
    }

    /// The answer of that key, while it may be used.
    pub fn find(&self, key: &[u8], now: Instant) -> Option<Arc<KeptAnswer>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = Arc::clone(&state.entries.get(key)?.answer);
        if now.saturating_duration_since(answer.at) >= answer.usable {
            state.remove(key);
            return None;
        }
        let State { entries, order, uses, .. } = &mut *state;
        if let Some(entry) = entries.get_mut(key)
            && let Some(key) = order.remove(&entry.used)
        {
            *uses += 1;
            entry.used = *uses;
            order.insert(*uses, key);
        }
        Some(answer)
    }

    /// Forgets the answer of that key.
    pub fn remove(&self, key: &[u8]) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

impl State {
    fn remove(&mut self, key: &[u8]) {
        if let Some(entry) = self.entries.remove(key) {
            self.order.remove(&entry.used);
            self.bytes -= entry.size;
        }
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

    fn answer(at: Instant, body: usize, usable: u64) -> KeptAnswer {
        KeptAnswer {
            fields: Vec::new(),
            body: vec![b'x'; body],
            age: Duration::from_secs(3),
            at,
            usable: Duration::from_secs(usable),
        }
    }

    fn bounds() -> impl Strategy<Value = KeptBounds> {
        (0..5_usize, 0..3000_usize, 0..800_usize).prop_map(|(entries, bytes, answer_bytes)| KeptBounds {
            entries,
            bytes,
            answer_bytes,
        })
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_a_list_in_order_of_use_would_keep(
            bounds in bounds(),
            steps in prop::collection::vec((0..3_u8, 0..8_u8, 0..1000_usize, 0..40_u64, 0..10_u64), 0..80),
        ) {
            let kept = KeptAnswers::new(bounds);
            let begin = start();
            let mut now = begin;
            // The longest unused first: key, size of the body, when it came, for how long it may be used.
            let mut list: Vec<(u8, usize, Instant, u64)> = Vec::new();
            let size = |body: usize| OVERHEAD + 2 + body;
            for (what, key, body, usable, passed) in steps {
                now += Duration::from_secs(passed);
                let known = list.iter().position(|entry| entry.0 == key);
                match what {
                    0 => {
                        kept.keep(&[key], answer(now, body, usable));
                        known.map(|index| list.remove(index));
                        let fits = body <= bounds.answer_bytes && size(body) <= bounds.bytes && bounds.entries > 0;
                        if fits && usable > 0 {
                            let total = |list: &[(u8, usize, Instant, u64)]| -> usize {
                                list.iter().map(|entry| size(entry.1)).sum()
                            };
                            while list.len() >= bounds.entries || total(&list) + size(body) > bounds.bytes {
                                list.remove(0);
                            }
                            list.push((key, body, now, usable));
                        }
                    }
                    1 => {
                        let found = kept.find(&[key], now).map(|answer| answer.body.len());
                        let entry = known.map(|index| list.remove(index));
                        let usable = entry.filter(|entry| now - entry.2 < Duration::from_secs(entry.3));
                        list.extend(usable);
                        prop_assert_eq!(found, usable.map(|entry| entry.1));
                    }
                    _ => {
                        kept.remove(&[key]);
                        known.map(|index| list.remove(index));
                    }
                }
                let (entries, bytes) = kept.usage();
                prop_assert_eq!(entries, list.len());
                prop_assert_eq!(bytes, list.iter().map(|entry| size(entry.1)).sum::<usize>());
                prop_assert!(bytes <= bounds.bytes && entries <= bounds.entries);
            }
        }
    }

    #[test]
    fn an_answer_gets_older_from_the_age_it_came_with() {
        let now = start();
        assert_eq!(answer(now, 0, 1).age_at(now + Duration::from_secs(4)), Duration::from_secs(7));
    }
}
