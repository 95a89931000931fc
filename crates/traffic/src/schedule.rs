//! What is due when, by key. Knows no clock: the caller brings the time.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Instant;

/// Moments by key, the earliest at hand. Setting, removing and taking cost the logarithm of how many there are.
#[derive(Clone, Debug)]
pub struct Schedule<K> {
    due: HashMap<K, Instant>,
    order: BTreeSet<(Instant, K)>,
}

impl<K> Default for Schedule<K> {
    fn default() -> Self {
        Self { due: HashMap::new(), order: BTreeSet::new() }
    }
}

impl<K: Clone + Eq + Hash + Ord> Schedule<K> {
    /// `key` is due at that moment, and not at the one it was due at before.
    pub fn set(&mut self, key: K, due: Instant) {
        self.remove(&key);
        self.due.insert(key.clone(), due);
        self.order.insert((due, key));
    }

    /// `key` is not due any more.
    pub fn remove(&mut self, key: &K) {
        if let Some(due) = self.due.remove(key) {
            self.order.remove(&(due, key.clone()));
        }
    }

    /// When the next is due; `None` when nothing is.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.order.first().map(|(due, _)| *due)
    }

    /// Takes the one out that is due the longest; `None` when nothing is due at `now`.
    pub fn take_due(&mut self, now: Instant) -> Option<K> {
        if self.poll_timeout()? > now {
            return None;
        }
        let (_, key) = self.order.pop_first()?;
        self.due.remove(&key);
        Some(key)
    }
}

/// Results in a row that say the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct Streak {
    good: bool,
    length: u32,
}

impl Streak {
    /// Counts one more; how many in a row were like it, this one included.
    pub fn count(&mut self, good: bool) -> u32 {
        self.length = if self.length > 0 && self.good == good { self.length.saturating_add(1) } else { 1 };
        self.good = good;
        self.length
    }

    /// How many in a row there are that are `good`, or not.
    pub fn of(&self, good: bool) -> u32 {
        if self.good == good { self.length } else { 0 }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test has to begin at some moment")]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a list that is searched.
        #[test]
        fn what_is_due_is_taken_once_and_in_order(steps in prop::collection::vec((0..6u32, 0..3u8, 0..20u64), 0..60)) {
            let start = Instant::now();
            let (mut schedule, mut list) = (Schedule::default(), Vec::<(u32, u64)>::new());
            for (key, what, at) in steps {
                let moment = start + Duration::from_secs(at);
                match what {
                    0 => {
                        schedule.set(key, moment);
                        list.retain(|(other, _)| *other != key);
                        list.push((key, at));
                    }
                    1 => {
                        schedule.remove(&key);
                        list.retain(|(other, _)| *other != key);
                    }
                    _ => {
                        let least = list.iter().map(|(key, at)| (*at, *key)).filter(|(due, _)| *due <= at).min();
                        let taken = schedule.take_due(moment);
                        prop_assert_eq!(taken, least.map(|(_, key)| key));
                        list.retain(|(other, _)| Some(*other) != taken);
                    }
                }
                let next = list.iter().map(|(_, at)| start + Duration::from_secs(*at)).min();
                prop_assert_eq!(schedule.poll_timeout(), next);
            }
        }
    }
}
