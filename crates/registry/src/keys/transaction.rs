//! Transactions: steps that read, check and change keys, all or none, in one revision. Steps are those of Consul's transactions (its
//! documentation, "Transaction HTTP API"), and so are the sentences about those that fail.

use std::sync::Arc;
use std::time::Instant;

use super::decide::{delete, put};
use super::draft::Draft;
use super::{Decision, KeyAnswer, KeyRefusal, Keys, Lock, Pair, SessionClock};

/// Most bytes that the steps of one transaction show together, each key counted with what an answer has around it.
const MOST_SHOWN: usize = 32 << 20;
const AROUND: usize = 256;

/// One step of a transaction. Each sees what those before it changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyStep {
    /// A key gets a value; as [`super::KeyAction::Put`].
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
    /// A key goes; as [`super::KeyAction::Delete`].
    Delete {
        /// The key.
        key: Arc<str>,
        /// Only when its last change has this revision, or it is not there.
        cas: Option<u64>,
    },
    /// All keys that begin so go.
    DeletePrefix(Arc<str>),
    /// A key is shown.
    Get {
        /// The key.
        key: Arc<str>,
        /// Whether it must be there.
        required: bool,
    },
    /// All keys that begin so are shown.
    List(Arc<str>),
    /// The last change of a key has this revision.
    CheckIndex(Arc<str>, u64),
    /// A key is locked by this session.
    CheckSession(Arc<str>, String),
    /// A key is not there.
    CheckAbsent(Arc<str>),
}

/// What a step shows of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The key; in revision 0 when it is not there.
    pub pair: Arc<Pair>,
    /// Whether its value is shown, too.
    pub value: bool,
}

/// A step that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Number of the step, from 0.
    pub step: usize,
    /// Why.
    pub reason: String,
}

impl KeyStep {
    /// Whether it changes nothing.
    pub fn only_reads(&self) -> bool {
        !matches!(self, Self::Put { .. } | Self::Delete { .. } | Self::DeletePrefix(_))
    }
}

/// Decides about a transaction.
pub(super) fn decide(keys: &Keys, clock: &SessionClock, steps: &[KeyStep], now: Instant) -> Decision {
    let mut draft = Draft::new(keys);
    let (mut shown, mut failures, mut bytes) = (Vec::new(), Vec::new(), 0);
    for (number, step) in steps.iter().enumerate() {
        let mut fail = |reason| failures.push(Failure { step: number, reason });
        match carry_out(&mut draft, clock, step, now) {
            Ok(pairs) => {
                bytes += pairs.iter().map(|shown| shown.pair.size() + AROUND).sum::<usize>();
                match bytes > MOST_SHOWN {
                    true => fail("what the transaction shows is more than 32 MiB".to_owned()),
                    false => shown.extend(pairs),
                }
            }
            Err(reason) => fail(reason),
        }
    }
    match failures.is_empty() {
        true => draft.decision(KeyAnswer::Shown(shown)),
        false => draft.dropped(KeyAnswer::Failed(failures)),
    }
}

/// What a step shows, or why it does not hold.
fn carry_out(draft: &mut Draft<'_>, clock: &SessionClock, step: &KeyStep, now: Instant) -> Result<Vec<Shown>, String> {
    let name = |pair: Arc<Pair>| vec![Shown { pair, value: false }];
    match step {
        KeyStep::Put { key, value, flags, cas, lock } => {
            let pair = put(draft, clock, (key, value, *flags), (*cas, lock), now);
            let pair = pair.map_err(|refusal: KeyRefusal| refusal.to_string())?;
            pair.map(name).ok_or_else(|| match (cas, lock) {
                (Some(_), _) | (_, Lock::Keep) => format!("failed to set key {key:?}, index is stale"),
                (_, Lock::Acquire(_)) => format!("failed to lock key {key:?}, lock is already held"),
                (_, Lock::Release(_)) => {
                    format!("failed to unlock key {key:?}, lock isn't held, or is held by another session")
                }
            })
        }
        KeyStep::Delete { key, cas } => match delete(draft, key, *cas) {
            true => Ok(Vec::new()),
            false => Err(format!("failed to delete key {key:?}, index is stale")),
        },
        KeyStep::DeletePrefix(prefix) => {
            draft.with_prefix(prefix).iter().for_each(|pair| draft.delete(&pair.key));
            Ok(Vec::new())
        }
        KeyStep::Get { key, required } => match draft.pair(key) {
            None if *required => Err(format!("key {key:?} doesn't exist")),
            pair => Ok(vec![Shown { pair: pair.unwrap_or_else(|| Arc::new(Pair::absent(key))), value: true }]),
        },
        KeyStep::List(prefix) => {
            Ok(draft.with_prefix(prefix).into_iter().map(|pair| Shown { pair, value: true }).collect())
        }
        KeyStep::CheckIndex(key, index) => match draft.pair(key) {
            None => Err(format!("failed to check index, key {key:?} doesn't exist")),
            Some(pair) if pair.modified != *index => {
                Err(format!("failed index check for key {key:?}, current modify index {} != {index}", pair.modified))
            }
            Some(pair) => Ok(name(pair)),
        },
        KeyStep::CheckSession(key, session) => match draft.pair(key) {
            None => Err(format!("failed to check session, key {key:?} doesn't exist")),
            Some(pair) => match pair.session.as_deref().unwrap_or_default() {
                current if current == session => Ok(name(pair)),
                current => {
                    Err(format!("failed session check for key {key:?}, current session {current:?} != {session:?}"))
                }
            },
        },
        KeyStep::CheckAbsent(key) => match draft.pair(key) {
            None => Ok(Vec::new()),
            Some(_) => Err(format!("key {key:?} exists")),
        },
    }
}
