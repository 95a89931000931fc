//! What was committed: keys and sessions, and which keys changed lately. It applies changes and decides nothing: that is
//! `decide.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use super::{KeyLimits, Pair, Session};

/// Changes that are remembered for blocking queries, and for how long a key that is gone has an index.
const MOST_RECENT: usize = 4096;

/// What a change does. Those of one revision are committed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyChange {
    /// The key is this now.
    Put(Arc<Pair>),
    /// The key is gone.
    Delete(Arc<str>),
    /// The session is there, or was renewed.
    Open(Arc<Session>),
    /// The session is gone. It comes before what becomes of its keys.
    Close(Arc<str>),
}

/// What a blocking query looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyScope<'a> {
    /// One key.
    Key(&'a str),
    /// All keys that begin so.
    Prefix(&'a str),
}

impl KeyScope<'_> {
    fn covers(&self, key: &str) -> bool {
        match self {
            Self::Key(one) => key == *one,
            Self::Prefix(prefix) => key.starts_with(prefix),
        }
    }
}

/// The committed keys and sessions. A clone shares the values.
#[derive(Clone, Debug)]
pub struct Keys {
    limits: KeyLimits,
    pairs: BTreeMap<Arc<str>, Arc<Pair>>,
    sessions: BTreeMap<Arc<str>, Arc<Session>>,
    /// Keys that each session has locked.
    locked: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    bytes: usize,
    /// Which keys changed, and whether they are gone since then.
    recent: VecDeque<(u64, Arc<str>, bool)>,
    /// Revision of the last session that came or went.
    sessions_modified: u64,
    revision: u64,
}

impl Keys {
    /// No keys, at revision 1: an index of 0 means none to clients.
    pub fn new(limits: KeyLimits) -> Self {
        Self {
            limits,
            pairs: BTreeMap::new(),
            sessions: BTreeMap::new(),
            locked: BTreeMap::new(),
            bytes: 0,
            recent: VecDeque::new(),
            sessions_modified: 1,
            revision: 1,
        }
    }

    /// Keys and sessions as a store kept them.
    pub fn restore(
        limits: KeyLimits,
        pairs: impl IntoIterator<Item = Pair>,
        sessions: impl IntoIterator<Item = Session>,
        revision: u64,
    ) -> Self {
        let mut keys = Self::new(limits);
        sessions.into_iter().for_each(|session| keys.open(Arc::new(session)));
        pairs.into_iter().for_each(|pair| keys.put(Arc::new(pair)));
        keys.revision = revision.max(1);
        keys.sessions_modified = keys.revision;
        keys
    }

    /// The limits it was made with.
    pub fn limits(&self) -> &KeyLimits {
        &self.limits
    }

    /// Revision of the last change; at least 1.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Revision in which a session came or went last.
    pub fn sessions_modified(&self) -> u64 {
        self.sessions_modified
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// One key.
    pub fn pair(&self, key: &str) -> Option<&Arc<Pair>> {
        self.pairs.get(key)
    }

    /// All keys that begin with `prefix`, in order.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Arc<Pair>> {
        let from = self.pairs.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        from.map(|(_, pair)| pair).take_while(move |pair| pair.key.starts_with(prefix))
    }

    /// All sessions by id.
    pub fn sessions(&self) -> impl ExactSizeIterator<Item = &Arc<Session>> {
        self.sessions.values()
    }

    /// One session.
    pub fn session(&self, id: &str) -> Option<&Arc<Session>> {
        self.sessions.get(id)
    }

    /// Keys that a session has locked, in order.
    pub fn locked_by(&self, session: &str) -> impl Iterator<Item = &Arc<str>> {
        self.locked.get(session).into_iter().flatten()
    }

    /// Revision of the last change in `scope` that is known: of what is there, and of what went lately. At least 1.
    pub fn index(&self, scope: KeyScope<'_>) -> u64 {
        let gone = self.recent.iter().filter(|(_, key, gone)| *gone && scope.covers(key));
        let gone = gone.map(|(revision, ..)| *revision).max();
        let there = match scope {
            KeyScope::Key(key) => self.pair(key).map(|pair| pair.modified),
            KeyScope::Prefix(prefix) => self.with_prefix(prefix).map(|pair| pair.modified).max(),
        };
        gone.max(there).unwrap_or(1).max(1)
    }

    /// Whether something in `scope` changed, or may have, after `revision`.
    pub fn changed_since(&self, revision: u64, scope: KeyScope<'_>) -> bool {
        let mut newer = self.recent.iter().rev().take_while(|(at, ..)| *at > revision);
        let reaches_back =
            self.recent.len() < MOST_RECENT || self.recent.front().is_some_and(|(at, ..)| *at <= revision);
        revision < self.revision && !reaches_back || newer.any(|(_, key, _)| scope.covers(key))
    }

    /// Makes the changes of a committed revision part of the state. One that is not newer was applied before.
    pub fn apply<'c>(&mut self, revision: u64, changes: impl IntoIterator<Item = &'c KeyChange>) {
        if revision <= self.revision {
            return;
        }
        self.revision = revision;
        for change in changes {
            match change {
                KeyChange::Put(pair) => {
                    self.remember(revision, &pair.key, false);
                    self.put(Arc::clone(pair));
                }
                KeyChange::Delete(key) => {
                    self.remember(revision, key, true);
                    self.delete(key);
                }
                KeyChange::Open(session) => {
                    if !self.sessions.contains_key(&session.id) {
                        self.sessions_modified = revision;
                    }
                    self.open(Arc::clone(session));
                }
                KeyChange::Close(id) => {
                    self.sessions.remove(id);
                    self.sessions_modified = revision;
                }
            }
        }
    }

    fn remember(&mut self, revision: u64, key: &Arc<str>, gone: bool) {
        if self.recent.len() >= MOST_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((revision, Arc::clone(key), gone));
    }

    fn open(&mut self, session: Arc<Session>) {
        self.sessions.insert(Arc::clone(&session.id), session);
    }

    fn put(&mut self, pair: Arc<Pair>) {
        let key = Arc::clone(&pair.key);
        self.delete(&key);
        self.bytes += pair.size();
        if let Some(session) = &pair.session {
            self.locked.entry(Arc::clone(session)).or_default().insert(Arc::clone(&key));
        }
        self.pairs.insert(key, pair);
    }

    fn delete(&mut self, key: &str) {
        let Some(pair) = self.pairs.remove(key) else { return };
        self.bytes -= pair.size();
        if let Some(session) = &pair.session
            && let Some(keys) = self.locked.get_mut(session)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.locked.remove(session);
            }
        }
    }
}
