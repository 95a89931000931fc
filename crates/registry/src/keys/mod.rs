//! Keys with values, and sessions that lock them, as a state machine of their own beside the instances.
//!
//! ```text
//!  KeyAction ─▶ decide, on the ground of Keys and SessionClock ─▶ KeyChanges of one revision ─▶ a store keeps them
//!                                                                   ─▶ Keys::apply ─▶ readers, blocking queries
//!  renewal ───▶ SessionClock ─▶ sweep ─▶ sessions that are over ─▶ KeyAction::Close
//! ```
//!
//! Behaviour is that of Consul's KV store and sessions (its documentation, "Sessions and distributed locks"): a lock is a session in a key,
//! advisory, and what becomes of it when the session ends is the session's behavior; nobody else gets the lock for the lock delay.
//! Read next: `state.rs` (what is), `decide.rs` (what may be), `transaction.rs` (several at once), `clock.rs` (time).

mod clock;
mod decide;
mod draft;
mod state;
mod transaction;

use std::sync::Arc;
use std::time::Duration;

use crate::{InstanceKey, Invalid};

pub use clock::SessionClock;
pub use decide::{Decision, Ground, KeyAction, KeyAnswer, KeyRefusal, Lock, decide};
pub use state::{KeyChange, KeyScope, Keys};
pub use transaction::{Failure, KeyStep, Shown};

/// Limits of the keys. Every one refuses with its name; none drops what was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLimits {
    /// Keys. Default 100,000.
    pub keys: usize,
    /// Bytes of a key. Default 1,024.
    pub key_bytes: usize,
    /// Bytes of a value. Default 512 KiB, as with Consul.
    pub value_bytes: usize,
    /// Bytes of all keys and values. Default 128 MiB.
    pub bytes: usize,
    /// Sessions. Default 10,000.
    pub sessions: usize,
    /// Keys that one session may lock at one time. Default 64: they are given back in one transaction.
    pub locks_per_session: usize,
}

impl Default for KeyLimits {
    fn default() -> Self {
        Self {
            keys: 100_000,
            key_bytes: 1024,
            value_bytes: 512 * 1024,
            bytes: 128 << 20,
            sessions: 10_000,
            locks_per_session: 64,
        }
    }
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The key.
    pub key: Arc<str>,
    /// The value, any bytes.
    pub value: Arc<[u8]>,
    /// A number that belongs to the clients.
    pub flags: u64,
    /// The session that has it locked.
    pub session: Option<Arc<str>>,
    /// How often it was locked.
    pub lock_index: u64,
    /// Time for which it could not be locked after its last lock's session had ended; zero when it was given back.
    pub lock_delay: Duration,
    /// Revision in which it was made.
    pub created: u64,
    /// Revision of its last change.
    pub modified: u64,
}

impl Pair {
    /// How a key is shown that is not there.
    pub fn absent(key: &Arc<str>) -> Self {
        Self {
            key: Arc::clone(key),
            value: Arc::from([]),
            flags: 0,
            session: None,
            lock_index: 0,
            lock_delay: Duration::ZERO,
            created: 0,
            modified: 0,
        }
    }

    /// Bytes that count for [`KeyLimits::bytes`].
    pub fn size(&self) -> usize {
        self.key.len() + self.value.len()
    }
}

/// What becomes of the keys that a session has locked when it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behavior {
    /// They stay, unlocked.
    #[default]
    Release,
    /// They are deleted.
    Delete,
}

impl Behavior {
    /// `release` or `delete`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Delete => "delete",
        }
    }
}

impl std::str::FromStr for Behavior {
    type Err = Invalid;

    fn from_str(word: &str) -> Result<Self, Invalid> {
        match word {
            "" | "release" => Ok(Self::Release),
            "delete" => Ok(Self::Delete),
            _ => Err(Invalid::new("Behavior", word, "release or delete")),
        }
    }
}

/// A check of an instance that a session lives by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionCheck {
    /// The instance.
    pub instance: InstanceKey,
    /// Id of the check.
    pub check: String,
}

/// A session: whoever has it may lock keys for as long as it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: Arc<str>,
    /// A name for people; may be empty.
    pub name: String,
    /// Time for which nobody gets what it had locked when it ends. 0 to 60 s.
    pub lock_delay: Duration,
    /// What becomes of what it has locked when it ends.
    pub behavior: Behavior,
    /// Time it lives after a renewal, 10 s to 24 h; `None` until it is destroyed.
    pub ttl: Option<Duration>,
    /// Checks of the node that it was made with. That of the registry's node always passes.
    pub node_checks: Vec<String>,
    /// Checks of instances: it ends when one is critical or gone.
    pub checks: Vec<SessionCheck>,
    /// Revision in which it was made.
    pub created: u64,
    /// Revision of its last renewal where renewals are written, else that in which it was made.
    pub modified: u64,
}

impl Session {
    /// Shortest and longest life without renewal, as with Consul.
    pub const TTL: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(86_400));
    /// Longest lock delay, as with Consul.
    pub const LONGEST_DELAY: Duration = Duration::from_secs(60);
    /// Lock delay of sessions that say none, as with Consul.
    pub const DELAY: Duration = Duration::from_secs(15);
    /// Most checks of a session.
    const MOST_CHECKS: usize = 16;

    /// Whether it may be.
    ///
    /// # Errors
    ///
    /// The first value that is out of range.
    pub fn validate(&self) -> Result<(), Invalid> {
        let id_byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if self.id.is_empty() || self.id.len() > 64 || !self.id.bytes().all(id_byte) {
            return Err(Invalid::new("session id", &self.id, "1 to 64 letters, digits and `-`"));
        }
        if self.name.len() > 256 || self.name.chars().any(char::is_control) {
            return Err(Invalid::new("session name", &self.name, "at most 256 bytes without control characters"));
        }
        if self.lock_delay > Self::LONGEST_DELAY {
            return Err(Invalid::new("LockDelay", &format!("{:?}", self.lock_delay), "at most 60s"));
        }
        if self.ttl.is_some_and(|ttl| ttl < Self::TTL.0 || ttl > Self::TTL.1) {
            return Err(Invalid::new("Session TTL", &format!("{:?}", self.ttl.unwrap_or_default()), "10s to 86400s"));
        }
        let checks = self.node_checks.len() + self.checks.len();
        if checks > Self::MOST_CHECKS || self.node_checks.iter().any(|check| check.len() > 256) {
            return Err(Invalid::new(
                "Checks",
                &checks.to_string(),
                "at most 16 checks with names of at most 256 bytes",
            ));
        }
        Ok(())
    }
}
