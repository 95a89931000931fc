//! What may happen next to keys and sessions: an action is decided on the ground of what is, and becomes changes.
//!
//! A decision says what it was made on the ground of, so that a store that others write to as well can see to it that this still
//! holds. Read next: `state.rs`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Behavior, KeyChange, Keys, Pair, Session, SessionClock};
use crate::Invalid;

/// What becomes of the lock of a key that is put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lock {
    /// It stays as it is: locks are advisory.
    Keep,
    /// This session gets it, unless another has it.
    Acquire(Arc<str>),
    /// This session gives it back, when it has it.
    Release(Arc<str>),
}

/// A wish to change keys or sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyAction {
    /// A key gets a value.
    Put {
        /// The key.
        key: Arc<str>,
        /// Its value.
        value: Arc<[u8]>,
        /// Its flags.
        flags: u64,
        /// Only when its last change has this revision; 0 is a key that is not there.
        cas: Option<u64>,
        /// Its lock.
        lock: Lock,
    },
    /// A key goes.
    Delete {
        /// The key.
        key: Arc<str>,
        /// Only when its last change has this revision, or it is not there.
        cas: Option<u64>,
    },
    /// The first `most` keys that begin so go.
    DeletePrefix {
        /// The beginning.
        prefix: Arc<str>,
        /// How many at most.
        most: usize,
    },
    /// A session begins.
    Open(Box<Session>),
    /// A session is renewed, where renewals are written.
    Renew(Arc<str>),
    /// A session ends, and what it has locked is unlocked or deleted.
    Close {
        /// Its id.
        id: Arc<str>,
        /// Only when it was not renewed since this revision.
        unrenewed: Option<u64>,
    },
}

/// What a decision was made on the ground of: the revision of the last change, 0 for what is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ground {
    /// Of a key.
    Key(Arc<str>, u64),
    /// Of a session.
    Session(Arc<str>, u64),
}

/// What came of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether what was wished for is so now.
    pub done: bool,
    /// What changes, in one revision; `modified` and `created` of it are the next one's.
    pub changes: Vec<KeyChange>,
    /// What must still be so for that.
    pub grounds: Vec<Ground>,
}

/// Why an action is not carried out. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefusal {
    /// There is no such session.
    #[error("invalid session {0:?}")]
    NoSession(String),
    /// A value is out of range.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A limit is reached.
    #[error("the registry takes no more than {limit} {what}")]
    Full {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

impl KeyAction {
    /// Whether it may be carried out twice with nobody noticing, when it is not known what came of it.
    pub fn is_repeatable(&self) -> bool {
        !matches!(self, Self::Put { cas: Some(_), .. } | Self::Delete { cas: Some(_), .. })
    }
}

/// Decides about `action`.
///
/// # Errors
///
/// Why it cannot be carried out at all.
pub fn decide(keys: &Keys, clock: &SessionClock, action: &KeyAction, now: Instant) -> Result<Decision, KeyRefusal> {
    match action {
        KeyAction::Put { key, value, flags, cas, lock } => {
            let limits = keys.limits();
            if key.is_empty() || key.len() > limits.key_bytes || key.contains('\0') {
                return Err(Invalid::new("key", key, "1 to 1,024 bytes without NUL").into());
            }
            if value.len() > limits.value_bytes {
                return Err(KeyRefusal::Full { what: "bytes in a value", limit: limits.value_bytes });
            }
            put(keys, clock, (key, value, *flags), (*cas, lock), now)
        }
        KeyAction::Delete { key, cas } => {
            let current = keys.pair(key).map_or(0, |pair| pair.modified);
            let grounds = vec![Ground::Key(Arc::clone(key), current)];
            // What is not there is deleted, whatever it was expected to be.
            let done = current == 0 || cas.is_none_or(|revision| revision == current);
            let gone = (done && current > 0).then(|| KeyChange::Delete(Arc::clone(key)));
            Ok(Decision { done, changes: gone.into_iter().collect(), grounds })
        }
        KeyAction::DeletePrefix { prefix, most } => {
            let pairs: Vec<_> = keys.with_prefix(prefix).take(*most).collect();
            let grounds = pairs.iter().map(|pair| Ground::Key(Arc::clone(&pair.key), pair.modified)).collect();
            let changes = pairs.iter().map(|pair| KeyChange::Delete(Arc::clone(&pair.key))).collect();
            Ok(Decision { done: true, changes, grounds })
        }
        KeyAction::Open(session) => open(keys, session),
        KeyAction::Renew(id) => {
            let session = keys.session(id).ok_or_else(|| KeyRefusal::NoSession(id.to_string()))?;
            let renewed = Session { modified: keys.revision() + 1, ..Session::clone(session) };
            let grounds = vec![Ground::Session(Arc::clone(id), session.modified)];
            Ok(Decision { done: true, changes: vec![KeyChange::Open(Arc::new(renewed))], grounds })
        }
        KeyAction::Close { id, unrenewed } => Ok(close(keys, id, *unrenewed)),
    }
}

fn refused(grounds: Vec<Ground>) -> Decision {
    Decision { done: false, changes: Vec::new(), grounds }
}

fn put(
    keys: &Keys,
    clock: &SessionClock,
    (key, value, flags): (&Arc<str>, &Arc<[u8]>, u64),
    (cas, lock): (Option<u64>, &Lock),
    now: Instant,
) -> Result<Decision, KeyRefusal> {
    let current = keys.pair(key);
    let revision = keys.revision() + 1;
    let mut grounds = vec![Ground::Key(Arc::clone(key), current.map_or(0, |pair| pair.modified))];
    if cas.is_some_and(|cas| cas != current.map_or(0, |pair| pair.modified)) {
        return Ok(refused(grounds));
    }
    let mut pair = Pair {
        key: current.map_or_else(|| Arc::clone(key), |pair| Arc::clone(&pair.key)),
        value: Arc::clone(value),
        flags,
        session: current.and_then(|pair| pair.session.clone()),
        lock_index: current.map_or(0, |pair| pair.lock_index),
        lock_delay: current.map_or(Duration::ZERO, |pair| pair.lock_delay),
        created: current.map_or(revision, |pair| pair.created),
        modified: current.map_or(revision, |pair| pair.modified),
    };
    match lock {
        Lock::Keep => {}
        Lock::Release(id) if pair.session.as_ref() == Some(id) => pair.session = None,
        Lock::Release(_) => return Ok(refused(grounds)),
        Lock::Acquire(id) => {
            let session = keys.session(id).ok_or_else(|| KeyRefusal::NoSession(id.to_string()))?;
            grounds.push(Ground::Session(Arc::clone(id), session.modified));
            match &pair.session {
                Some(owner) if owner == id => {}
                // One that somebody took out of a shared store by hand has nothing locked any more.
                Some(owner) if keys.session(owner).is_some() => return Ok(refused(grounds)),
                _ if clock.is_delayed(key, now) => return Ok(refused(grounds)),
                _ => {
                    let limit = keys.limits().locks_per_session;
                    if keys.locked_by(id).count() >= limit {
                        return Err(KeyRefusal::Full { what: "keys locked by one session", limit });
                    }
                    pair.session = Some(Arc::clone(&session.id));
                    pair.lock_index += 1;
                    pair.lock_delay = Duration::ZERO;
                }
            }
        }
    }
    if current.is_some_and(|current| **current == pair) {
        return Ok(Decision { done: true, changes: Vec::new(), grounds });
    }
    pair.modified = revision;
    let limits = keys.limits();
    if current.is_none() && keys.len() >= limits.keys {
        return Err(KeyRefusal::Full { what: "keys", limit: limits.keys });
    }
    if keys.bytes() + pair.size() - current.map_or(0, |pair| pair.size()) > limits.bytes {
        return Err(KeyRefusal::Full { what: "bytes of keys and values", limit: limits.bytes });
    }
    Ok(Decision { done: true, changes: vec![KeyChange::Put(Arc::new(pair))], grounds })
}

fn open(keys: &Keys, session: &Session) -> Result<Decision, KeyRefusal> {
    session.validate()?;
    let limit = keys.limits().sessions;
    if keys.sessions().len() >= limit {
        return Err(KeyRefusal::Full { what: "sessions", limit });
    }
    let revision = keys.revision() + 1;
    let session = Session { created: revision, modified: revision, ..session.clone() };
    let grounds = vec![Ground::Session(Arc::clone(&session.id), 0)];
    Ok(Decision { done: true, changes: vec![KeyChange::Open(Arc::new(session))], grounds })
}

fn close(keys: &Keys, id: &Arc<str>, unrenewed: Option<u64>) -> Decision {
    let Some(session) = keys.session(id) else {
        return Decision { done: true, changes: Vec::new(), grounds: vec![Ground::Session(Arc::clone(id), 0)] };
    };
    let mut grounds = vec![Ground::Session(Arc::clone(id), session.modified)];
    if unrenewed.is_some_and(|revision| revision != session.modified) {
        return refused(grounds);
    }
    let mut changes = vec![KeyChange::Close(Arc::clone(id))];
    for pair in keys.locked_by(id).filter_map(|key| keys.pair(key)) {
        grounds.push(Ground::Key(Arc::clone(&pair.key), pair.modified));
        changes.push(match session.behavior {
            Behavior::Delete => KeyChange::Delete(Arc::clone(&pair.key)),
            Behavior::Release => {
                let (lock_delay, modified) = (session.lock_delay, keys.revision() + 1);
                KeyChange::Put(Arc::new(Pair { session: None, lock_delay, modified, ..Pair::clone(pair) }))
            }
        });
    }
    Decision { done: true, changes, grounds }
}
