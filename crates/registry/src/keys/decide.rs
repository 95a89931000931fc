//! What may happen next to keys and sessions: an action is decided on the ground of what is, and becomes changes.
//!
//! A decision says what it was made on the ground of, so that a store that others write to as well can see to it that this still
//! holds. Read next: `draft.rs`, `transaction.rs`, `state.rs`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::draft::Draft;
use super::transaction;
use super::{Behavior, Failure, KeyChange, KeyStep, Keys, Pair, Session, SessionClock, Shown};
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
    /// All of these steps, or none.
    Transaction(Vec<KeyStep>),
}

/// What a decision was made on the ground of: the revision of the last change, 0 for what is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ground {
    /// Of a key.
    Key(Arc<str>, u64),
    /// Of a session.
    Session(Arc<str>, u64),
    /// Of the newest of all keys that begin so, at most.
    Prefix(Arc<str>, u64),
}

/// What is answered to an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyAnswer {
    /// Whether what was wished for is so now: a condition that does not hold, or a lock that another has, makes it `false`.
    Done(bool),
    /// What the steps of a transaction show, in their order.
    Shown(Vec<Shown>),
    /// The steps that kept a transaction from being carried out.
    Failed(Vec<Failure>),
}

impl KeyAnswer {
    /// Whether what was wished for is so now.
    pub fn is_done(&self) -> bool {
        !matches!(self, Self::Done(false) | Self::Failed(_))
    }

    /// The answer with the revision `given` by a store in place of the one that was decided with.
    pub fn at(mut self, decided: u64, given: u64) -> Self {
        if let Self::Shown(shown) = &mut self {
            for Shown { pair, .. } in shown.iter_mut().filter(|shown| shown.pair.modified == decided) {
                let created = if pair.created == decided { given } else { pair.created };
                *pair = Arc::new(Pair { created, modified: given, ..Pair::clone(pair) });
            }
        }
        self
    }
}

/// What came of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What is answered once the changes are kept.
    pub answer: KeyAnswer,
    /// The next revision, which `modified` and `created` of what changes are; a store may give another one.
    pub revision: u64,
    /// What changes, in one revision.
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
        !matches!(self, Self::Put { cas: Some(_), .. } | Self::Delete { cas: Some(_), .. } | Self::Transaction(_))
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
            let mut draft = Draft::new(keys);
            let pair = put(&mut draft, clock, (key, value, *flags), (*cas, lock), now)?;
            Ok(draft.decision(KeyAnswer::Done(pair.is_some())))
        }
        KeyAction::Delete { key, cas } => {
            let mut draft = Draft::new(keys);
            let done = delete(&mut draft, key, *cas);
            Ok(draft.decision(KeyAnswer::Done(done)))
        }
        KeyAction::DeletePrefix { prefix, most } => {
            let pairs: Vec<_> = keys.with_prefix(prefix).take(*most).collect();
            let grounds = pairs.iter().map(|pair| Ground::Key(Arc::clone(&pair.key), pair.modified)).collect();
            let changes = pairs.iter().map(|pair| KeyChange::Delete(Arc::clone(&pair.key))).collect();
            Ok(Decision { answer: KeyAnswer::Done(true), revision: keys.revision() + 1, changes, grounds })
        }
        KeyAction::Open(session) => open(keys, session),
        KeyAction::Renew(id) => {
            let session = keys.session(id).ok_or_else(|| KeyRefusal::NoSession(id.to_string()))?;
            let renewed = Session { modified: keys.revision() + 1, ..Session::clone(session) };
            let grounds = vec![Ground::Session(Arc::clone(id), session.modified)];
            Ok(Decision {
                answer: KeyAnswer::Done(true),
                revision: keys.revision() + 1,
                changes: vec![KeyChange::Open(Arc::new(renewed))],
                grounds,
            })
        }
        KeyAction::Close { id, unrenewed } => Ok(close(keys, id, *unrenewed)),
        KeyAction::Transaction(steps) => Ok(transaction::decide(keys, clock, steps, now)),
    }
}

fn refused(keys: &Keys, grounds: Vec<Ground>) -> Decision {
    Decision { answer: KeyAnswer::Done(false), revision: keys.revision() + 1, changes: Vec::new(), grounds }
}

/// The key as it is then; none when a condition does not hold, or another has the lock.
pub(super) fn put(
    draft: &mut Draft<'_>,
    clock: &SessionClock,
    (key, value, flags): (&Arc<str>, &Arc<[u8]>, u64),
    (cas, lock): (Option<u64>, &Lock),
    now: Instant,
) -> Result<Option<Arc<Pair>>, KeyRefusal> {
    let limits = draft.limits();
    if key.is_empty() || key.len() > limits.key_bytes || key.contains('\0') {
        return Err(Invalid::new("key", key, "1 to 1,024 bytes without NUL").into());
    }
    if value.len() > limits.value_bytes {
        return Err(KeyRefusal::Full { what: "bytes in a value", limit: limits.value_bytes });
    }
    let (current, revision) = (draft.pair(key), draft.revision());
    if cas.is_some_and(|cas| cas != current.as_ref().map_or(0, |pair| pair.modified)) {
        return Ok(None);
    }
    let before = current.as_deref();
    let mut pair = Pair {
        key: before.map_or_else(|| Arc::clone(key), |pair| Arc::clone(&pair.key)),
        value: Arc::clone(value),
        flags,
        session: before.and_then(|pair| pair.session.clone()),
        lock_index: before.map_or(0, |pair| pair.lock_index),
        lock_delay: before.map_or(Duration::ZERO, |pair| pair.lock_delay),
        created: before.map_or(revision, |pair| pair.created),
        modified: before.map_or(revision, |pair| pair.modified),
    };
    match lock {
        Lock::Keep => {}
        Lock::Release(id) if pair.session.as_ref() == Some(id) => pair.session = None,
        Lock::Release(_) => return Ok(None),
        Lock::Acquire(id) => {
            let session = draft.session(id).ok_or_else(|| KeyRefusal::NoSession(id.to_string()))?;
            match &pair.session {
                Some(owner) if owner == id => {}
                // One that somebody took out of a shared store by hand has nothing locked any more.
                Some(owner) if draft.has_session(owner) => return Ok(None),
                _ if clock.is_delayed(key, now) => return Ok(None),
                _ => {
                    let limit = limits.locks_per_session;
                    if draft.locks_of(id) >= limit {
                        return Err(KeyRefusal::Full { what: "keys locked by one session", limit });
                    }
                    pair.session = Some(Arc::clone(&session.id));
                    pair.lock_index += 1;
                    pair.lock_delay = Duration::ZERO;
                }
            }
        }
    }
    if let Some(current) = current.as_ref().filter(|current| ***current == pair) {
        return Ok(Some(Arc::clone(current)));
    }
    pair.modified = revision;
    let (len, bytes) = draft.size();
    if current.is_none() && len >= limits.keys {
        return Err(KeyRefusal::Full { what: "keys", limit: limits.keys });
    }
    if bytes + pair.size() - current.as_ref().map_or(0, |pair| pair.size()) > limits.bytes {
        return Err(KeyRefusal::Full { what: "bytes of keys and values", limit: limits.bytes });
    }
    Ok(Some(draft.put(pair)))
}

/// Whether the key is not there any more.
pub(super) fn delete(draft: &mut Draft<'_>, key: &Arc<str>, cas: Option<u64>) -> bool {
    // What is not there is deleted, whatever it was expected to be.
    let Some(current) = draft.pair(key) else { return true };
    let done = cas.is_none_or(|revision| revision == current.modified);
    if done {
        draft.delete(key);
    }
    done
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
    Ok(Decision {
        answer: KeyAnswer::Done(true),
        revision: keys.revision() + 1,
        changes: vec![KeyChange::Open(Arc::new(session))],
        grounds,
    })
}

fn close(keys: &Keys, id: &Arc<str>, unrenewed: Option<u64>) -> Decision {
    let Some(session) = keys.session(id) else {
        return Decision {
            answer: KeyAnswer::Done(true),
            revision: keys.revision() + 1,
            changes: Vec::new(),
            grounds: vec![Ground::Session(Arc::clone(id), 0)],
        };
    };
    let mut grounds = vec![Ground::Session(Arc::clone(id), session.modified)];
    if unrenewed.is_some_and(|revision| revision != session.modified) {
        return refused(keys, grounds);
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
    Decision { answer: KeyAnswer::Done(true), revision: keys.revision() + 1, changes, grounds }
}
