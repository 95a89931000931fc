//! The running keys and sessions: the state machine of `meshwright_registry::Keys` with a store, a writer and a clock.
//!
//! ```text
//!  propose ─▶ alone: writer thread, decide ─▶ keys.redb (durable) ─▶ Keys::apply ─▶ acknowledged, blocking queries wake
//!          └▶ etcd:  decide ─▶ transaction on its grounds ─▶ watch ─▶ Keys::apply ─▶ acknowledged
//!  renew ───▶ SessionClock (memory; in etcd written)    Keyspace::run ─▶ sweep, checks ─▶ sessions end
//! ```
//!
//! They lie beside the registry in a file of their own, so that large values and many writes do not slow registrations, and damage to
//! one is none to the other. Read next: `state.rs`, `writer.rs`, `disk.rs`; `crate::etcd::keys` where processes share them.

mod disk;
pub(crate) mod record;
mod state;
mod writer;

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use meshwright_registry::{
    Failure, KeyAction, KeyAnswer, KeyLimits, KeyRefusal, KeyStep, Keys, Session, SessionCheck, Shown, Status,
};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tracing::{debug, error, info};

use crate::Catalog;
use crate::catalog::STORE_AWAY;
use crate::disk::{DiskOf, OpenError};
use crate::etcd::KeyPath;
use crate::store::Memory;
pub(crate) use state::State;
use writer::{Job, KeyStore};

/// Sessions that end at one time, at most.
const MOST_AT_ONCE: usize = 64;
/// Keys of a prefix that are deleted in one transaction where processes share them.
const MOST_DELETED: usize = 64;

/// Why a change of keys or sessions had no effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It cannot be.
    #[error(transparent)]
    Refused(#[from] KeyRefusal),
    /// The store does not keep it now, or nobody knows whether it did; reads go on.
    #[error("keys cannot be written at present: {0}")]
    Unavailable(String),
}

/// The running keys and sessions; cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Keyspace {
    catalog: Catalog,
    state: Arc<State>,
    way: Way,
}

/// How changes are kept.
#[derive(Clone)]
enum Way {
    Alone(UnboundedSender<Job>),
    Shared(KeyPath),
}

impl std::fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyspace").field("keys", &self.read(Keys::len)).finish_non_exhaustive()
    }
}

impl Keyspace {
    /// Keys that live as long as the process. Sessions may live by checks of `catalog`.
    pub fn in_memory(catalog: Catalog, limits: KeyLimits) -> Self {
        Self::start(catalog, Keys::new(limits), Box::new(Memory))
    }

    /// The keys kept in the directory `keys` below `data`, which is made when the first is written.
    ///
    /// # Errors
    ///
    /// Another process has it open, or it cannot be read; the message says what can be done.
    pub fn open(catalog: Catalog, data: &Path, limits: KeyLimits) -> Result<Self, OpenError> {
        let (disk, keys) = DiskOf::<Keys>::open(&data.join("keys"), limits)?;
        Ok(Self::start(catalog, keys, Box::new(disk)))
    }

    /// The keys in etcd, for a registry that is there; `None` for another.
    pub fn shared(catalog: &Catalog) -> Option<Self> {
        let path = catalog.key_path()?.clone();
        Some(Self { catalog: catalog.clone(), state: Arc::clone(path.state()), way: Way::Shared(path) })
    }

    fn start(catalog: Catalog, keys: Keys, store: Box<dyn KeyStore>) -> Self {
        let state = Arc::new(State::new(keys));
        let (jobs, mut waiting) = mpsc::unbounded_channel();
        let writer = Arc::clone(&state);
        let work = move || writer::run(&writer, store, &mut waiting);
        if let Err(error) = thread::Builder::new().name("keys-writer".to_owned()).spawn(work) {
            // The other end of the channel is gone with the closure: every write answers that it is unavailable.
            error!(%error, "the writer of keys cannot be started");
        }
        Self { catalog, state, way: Way::Alone(jobs) }
    }

    /// The registry beside them.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Looks at what is committed. `look` must be short: the writer waits for it.
    pub fn read<R>(&self, look: impl FnOnce(&Keys) -> R) -> R {
        self.state.read(look)
    }

    /// Carries `action` out, durable. Whether what was wished for is so now: a condition that does not hold, or a lock that another has,
    /// makes it `false`. Everything that begins with a prefix goes in one transaction, in etcd in several of 64 keys.
    ///
    /// # Errors
    ///
    /// It cannot be, or the store failed.
    pub async fn propose(&self, action: KeyAction) -> Result<bool, KeyError> {
        let (Way::Shared(path), KeyAction::DeletePrefix { prefix, .. }) = (&self.way, &action) else {
            return self.carry_out(action).await.map(|answer| answer.is_done());
        };
        // What is written meanwhile is not deleted: those that are there now, and no more.
        for _ in 0..self.read(|keys| keys.with_prefix(prefix).count()).div_ceil(MOST_DELETED) {
            path.propose(&KeyAction::DeletePrefix { prefix: Arc::clone(prefix), most: MOST_DELETED }).await?;
        }
        Ok(true)
    }

    /// Carries all of `steps` out, durable, in one revision, or none. What they show, or which of them do not hold. One that only reads
    /// is answered from memory.
    ///
    /// # Errors
    ///
    /// It is too large for a store that processes share, or the store failed.
    pub async fn transact(&self, steps: Vec<KeyStep>) -> Result<Result<Vec<Shown>, Vec<Failure>>, KeyError> {
        let only_reads = steps.iter().all(KeyStep::only_reads);
        let action = KeyAction::Transaction(steps);
        let answer = match only_reads {
            true => self.state.decide(&action)?.answer,
            false => self.carry_out(action).await?,
        };
        Ok(match answer {
            KeyAnswer::Shown(shown) => Ok(shown),
            KeyAnswer::Failed(failures) => Err(failures),
            KeyAnswer::Done(_) => Ok(Vec::new()),
        })
    }

    async fn carry_out(&self, action: KeyAction) -> Result<KeyAnswer, KeyError> {
        match &self.way {
            Way::Shared(path) => path.propose(&action).await,
            Way::Alone(jobs) => {
                let gone = || KeyError::Unavailable("their writer has ended".to_owned());
                let (reply, answer) = oneshot::channel();
                jobs.send(Job { action, reply }).map_err(|_| gone())?;
                answer.await.map_err(|_| gone())?
            }
        }
    }

    /// A session says that it lives; the session, or `None` when it is not there (any more).
    ///
    /// # Errors
    ///
    /// The store failed, where renewals are written.
    pub async fn renew(&self, id: &str) -> Result<Option<Arc<Session>>, KeyError> {
        let session = self.read(|keys| keys.session(id).cloned());
        let Some(session) = session else { return Ok(None) };
        let lives = match &self.way {
            _ if session.ttl.is_none() => true,
            Way::Alone(_) => self.state.clock().renew(id, Instant::now()),
            Way::Shared(path) => match path.propose(&KeyAction::Renew(Arc::clone(&session.id))).await {
                Ok(answer) => answer.is_done(),
                Err(KeyError::Refused(_)) => false,
                Err(error) => return Err(error),
            },
        };
        Ok(lives.then_some(session))
    }

    /// Waits until `changed` says so about what is committed, no longer than `patience`.
    pub async fn wait(&self, patience: Duration, mut changed: impl FnMut(&Keys) -> bool) {
        let mut revisions = self.state.revisions();
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            revisions.mark_unchanged();
            if self.read(&mut changed) || tokio::time::timeout_at(deadline, revisions.changed()).await.is_err() {
                return;
            }
        }
    }

    /// Ends sessions whose time is over, or whose checks fail, until `shutdown` is ready.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        let mut registry = self.catalog.revisions();
        loop {
            registry.mark_unchanged();
            let wake = tokio::select! {
                () = &mut shutdown => return,
                wake = self.sweep() => wake,
            };
            let wake = async {
                match wake {
                    Some(wake) => tokio::time::sleep_until(wake.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = &mut shutdown => return,
                () = self.state.woken() => {}
                Ok(()) = registry.changed() => {}
                () = wake => {}
            }
        }
    }

    /// Ends what is over; when to come back. While a shared store is away nothing ends, and the clock takes that time for one in which
    /// the process did not run.
    async fn sweep(&self) -> Option<Instant> {
        if matches!(self.way, Way::Shared(_)) && (self.catalog.trouble().is_some() || !self.catalog.is_synced()) {
            return Some(Instant::now() + STORE_AWAY);
        }
        let (mut over, wake) = self.state.over(Instant::now());
        if !over.is_empty() {
            info!(sessions = over.len(), first = %over[0].0, "sessions ended without renewal");
        }
        over.extend(self.ailing());
        let mut running = JoinSet::new();
        for (id, modified) in over {
            if running.len() >= MOST_AT_ONCE {
                running.join_next().await;
            }
            let keyspace = self.clone();
            running.spawn(async move {
                let ended = keyspace.propose(KeyAction::Close { id, unrenewed: Some(modified) }).await;
                if let Err(error) = ended {
                    debug!(%error, "a session could not be ended");
                    keyspace.state.keep(Instant::now());
                }
            });
        }
        while running.join_next().await.is_some() {}
        wake
    }

    /// Sessions with a check that is critical or gone, with the revisions of their last renewals.
    fn ailing(&self) -> Vec<(Arc<str>, u64)> {
        let checked: Vec<Arc<Session>> = self.read(|keys| {
            let sessions = keys.sessions().filter(|session| !session.checks.is_empty());
            sessions.cloned().collect()
        });
        let ailing = checked.into_iter().filter(|session| !session.checks.iter().all(|check| self.is_well(check)));
        ailing.map(|session| (Arc::clone(&session.id), session.modified)).collect()
    }

    /// Whether a session may live by `check`.
    pub fn is_well(&self, check: &SessionCheck) -> bool {
        self.catalog.read(|registry| {
            let entry = registry.instance(&check.instance);
            let mut checks = entry.into_iter().flat_map(|entry| &entry.instance.checks);
            checks.any(|known| known.id == check.check && matches!(known.status, Status::Passing | Status::Warning))
        })
    }
}
