//! Keys as they would be after changes that are not committed yet, and what those were decided on the ground of. Later steps of a
//! transaction see the earlier ones here. It decides nothing: that is `decide.rs` and `transaction.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::{Decision, Ground, KeyAnswer, KeyChange, KeyLimits, Keys, Pair, Session};

/// Changes on top of what is committed.
pub(super) struct Draft<'k> {
    keys: &'k Keys,
    /// What keys are, or that they are gone.
    changed: BTreeMap<Arc<str>, Option<Arc<Pair>>>,
    grounds: Vec<Ground>,
    /// Keys that are a ground.
    known: BTreeSet<Arc<str>>,
    len: usize,
    bytes: usize,
}

impl<'k> Draft<'k> {
    pub(super) fn new(keys: &'k Keys) -> Self {
        let (changed, grounds, known) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
        Self { keys, changed, grounds, known, len: keys.len(), bytes: keys.bytes() }
    }

    pub(super) fn limits(&self) -> &'k KeyLimits {
        self.keys.limits()
    }

    /// The revision that the changes will have.
    pub(super) fn revision(&self) -> u64 {
        self.keys.revision() + 1
    }

    /// Number of keys, and bytes of all keys and values.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.len, self.bytes)
    }

    /// One key, whose revision is a ground from now on.
    pub(super) fn pair(&mut self, key: &Arc<str>) -> Option<Arc<Pair>> {
        if self.known.insert(Arc::clone(key)) {
            self.grounds.push(Ground::Key(Arc::clone(key), self.keys.pair(key).map_or(0, |pair| pair.modified)));
        }
        self.changed.get(key).cloned().unwrap_or_else(|| self.keys.pair(key).cloned())
    }

    /// All keys that begin with `prefix`, in order. That there is no other, and each of them, are grounds from now on.
    pub(super) fn with_prefix(&mut self, prefix: &Arc<str>) -> Vec<Arc<Pair>> {
        self.grounds.push(Ground::Prefix(Arc::clone(prefix), self.keys.revision()));
        let committed = self.keys.with_prefix(prefix).map(|pair| Arc::clone(&pair.key));
        let from = self.changed.range::<str, _>((Bound::Included(&**prefix), Bound::Unbounded));
        let added = from.map(|(key, _)| Arc::clone(key)).take_while(|key| key.starts_with(&**prefix));
        let all: BTreeSet<Arc<str>> = committed.chain(added).collect();
        all.iter().filter_map(|key| self.pair(key)).collect()
    }

    /// One session, likewise.
    pub(super) fn session(&mut self, id: &Arc<str>) -> Option<&'k Arc<Session>> {
        let session = self.keys.session(id);
        let ground = Ground::Session(Arc::clone(id), session.map_or(0, |session| session.modified));
        if !self.grounds.contains(&ground) {
            self.grounds.push(ground);
        }
        session
    }

    /// Whether a session is there; no ground.
    pub(super) fn has_session(&self, id: &str) -> bool {
        self.keys.session(id).is_some()
    }

    /// Number of keys that a session has locked.
    pub(super) fn locks_of(&self, id: &str) -> usize {
        let committed = self.keys.locked_by(id).filter(|key| !self.changed.contains_key(*key)).count();
        let changed = self.changed.values().flatten();
        committed + changed.filter(|pair| pair.session.as_deref() == Some(id)).count()
    }

    /// The key is this. One that was deleted before by the same transaction was never away.
    pub(super) fn put(&mut self, pair: Pair) -> Arc<Pair> {
        let created = self.keys.pair(&pair.key).map_or(pair.created, |pair| pair.created);
        let pair = Arc::new(Pair { created, ..pair });
        self.change(&Arc::clone(&pair.key), Some(Arc::clone(&pair)));
        pair
    }

    pub(super) fn delete(&mut self, key: &Arc<str>) {
        self.change(key, None);
    }

    fn change(&mut self, key: &Arc<str>, now: Option<Arc<Pair>>) {
        if let Some(before) = self.pair(key) {
            (self.len, self.bytes) = (self.len - 1, self.bytes - before.size());
        }
        if let Some(now) = &now {
            (self.len, self.bytes) = (self.len + 1, self.bytes + now.size());
        }
        self.changed.insert(Arc::clone(key), now);
    }

    /// The decision with all changes, each key once.
    pub(super) fn decision(self, answer: KeyAnswer) -> Decision {
        let changes = self.changed.into_iter().filter_map(|(key, now)| match now {
            Some(pair) => Some(KeyChange::Put(pair)),
            None => self.keys.pair(&key).map(|_| KeyChange::Delete(key)),
        });
        Decision { answer, revision: self.keys.revision() + 1, changes: changes.collect(), grounds: self.grounds }
    }

    /// The decision that nothing changes.
    pub(super) fn dropped(self, answer: KeyAnswer) -> Decision {
        Decision { answer, revision: self.revision(), changes: Vec::new(), grounds: self.grounds }
    }
}
