//! The handle that everybody shares, and the clock that ends leases.
//!
//! Locks are held for one look or one change, never across an await. It does not know where changes are kept: `store.rs`.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use meshwright_probe::Prober;
use meshwright_registry::{
    Action, Compacted, Event, Expected, Instance, InstanceKey, Limits, Outcome, Preservation, Probe, Proposal, Reason,
    Refusal, Registry, Renewal, Scope, Status,
};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::{oneshot, watch};
use tracing::{error, info, warn};

use crate::Store;
use crate::disk::{Disk, OpenError};
use crate::etcd::{self, EtcdSettings, KeyPath};
use crate::prober;
use crate::shared::Shared;
use crate::store::Memory;
use crate::writer::{self, Answers, Job};

/// Tries of a change that others get in the way of.
const MOST_TRIES: usize = 32;

/// Changes that are given to a reader at once.
const MOST_EVENTS: usize = 256;

/// Pause between two looks at a store that is away.
pub(crate) const STORE_AWAY: Duration = Duration::from_secs(1);

/// Why a write had no effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The registry refuses it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store does not keep it now; reads go on.
    #[error("the registry cannot be written to at present: {0}")]
    Unavailable(String),
}

/// The running registry; cheap to clone, usable from any thread. It ends when the last clone is dropped.
#[derive(Clone)]
pub struct Catalog {
    shared: Arc<Shared>,
    jobs: UnboundedSender<Job>,
    /// Where keys go, in etcd.
    keys: Option<KeyPath>,
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog").field("store", &self.shared.store()).finish_non_exhaustive()
    }
}

impl Catalog {
    /// A registry that lives as long as the process. Its revisions begin after `revision`, before which no cursor can go on:
    /// one that grows from process to process, as the time does, lets those who watched an earlier process begin anew.
    pub fn in_memory(limits: Limits, revision: u64) -> Self {
        Self::start(Registry::restore(limits, None, revision), Box::new(Memory), "memory")
    }

    /// The registry kept in the directory `data`, which is made when something is first registered.
    ///
    /// # Errors
    ///
    /// Another process has it open, or it cannot be read; the message says what can be done.
    pub fn open(data: &Path, limits: Limits) -> Result<Self, OpenError> {
        let (disk, registry) = Disk::open(data, limits)?;
        Ok(Self::start(registry, Box::new(disk), "redb"))
    }

    /// As [`Catalog::open`], and the directory is made and taken at once, so that nobody else can use it from now on.
    ///
    /// # Errors
    ///
    /// As [`Catalog::open`], or the directory cannot be made.
    pub fn claim(data: &Path, limits: Limits) -> Result<Self, OpenError> {
        let (mut disk, registry) = Disk::open(data, limits)?;
        disk.claim()?;
        Ok(Self::start(registry, Box::new(disk), "redb"))
    }

    /// A registry that begins as `registry` and is kept by `store`.
    pub fn start(registry: Registry, store: Box<dyn Store>, name: &'static str) -> Self {
        let shared = Arc::new(Shared::new(registry, name, None));
        let (jobs, mut waiting) = mpsc::unbounded_channel();
        let writer = Arc::clone(&shared);
        let work = move || writer::run(&writer, store, &mut waiting);
        if let Err(error) = thread::Builder::new().name("registry-writer".to_owned()).spawn(work) {
            // The other end of the channel is gone with the closure: every write answers that it is unavailable.
            error!(%error, "the registry's writer cannot be started");
        }
        Self { shared, jobs, keys: None }
    }

    /// The registry that several processes share in etcd. It waits for as long as `patience` to be read there; when that is
    /// not enough, it is empty and cannot be written to until etcd is reached.
    pub fn connect(settings: EtcdSettings, limits: Limits, patience: Duration) -> Self {
        let (shared, jobs, keys) = etcd::start(settings, limits, patience);
        Self { shared, jobs, keys: Some(keys) }
    }

    pub(crate) fn key_path(&self) -> Option<&KeyPath> {
        self.keys.as_ref()
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Whether the store was read. Only one in etcd may take a while.
    pub fn is_synced(&self) -> bool {
        self.shared.is_synced()
    }

    /// Number of processes that share the registry, with this one, as far as they are seen.
    pub fn members(&self) -> usize {
        self.shared.ownership().map_or(1, |ownership| ownership.owners().members())
    }

    /// Looks at what is committed. `look` must be short: the writer waits for it.
    pub fn read<R>(&self, look: impl FnOnce(&Registry) -> R) -> R {
        self.shared.read(look)
    }

    /// Name of the store: `memory`, `redb` or `etcd`.
    pub fn store(&self) -> &'static str {
        self.shared.store()
    }

    /// Why the store cannot be written to, when the last try failed.
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble()
    }

    /// Whether evictions are stopped because too many leases lapsed at once.
    pub fn preservation(&self) -> Option<Preservation> {
        self.shared.leases().preservation()
    }

    /// Time since an instance was last heard of here. Of one that another process answers for only changes are heard.
    pub fn silence(&self, key: &InstanceKey) -> Option<Duration> {
        self.shared.leases().silence(key, Instant::now())
    }

    /// Makes every proposal that can be made, in order, durable; what came of each.
    ///
    /// # Errors
    ///
    /// The store failed. Nothing came of any, or, in etcd, it is not known what came of them.
    pub async fn propose(&self, proposals: Vec<Proposal>) -> Result<Vec<Result<Outcome, Refusal>>, WriteError> {
        let gone = || WriteError::Unavailable("its writer has ended".to_owned());
        let answers = self.enqueue(proposals).ok_or_else(gone)?.await.map_err(|_| gone())?;
        answers.map_err(|error| WriteError::Unavailable(error.to_string()))
    }

    fn enqueue(&self, proposals: Vec<Proposal>) -> Option<oneshot::Receiver<Answers>> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job { proposals, reply }).ok().map(|()| answer)
    }

    /// Proposes without waiting for what comes of it.
    pub(crate) fn propose_unattended(&self, proposals: Vec<Proposal>) {
        drop(self.enqueue(proposals));
    }

    async fn propose_one(&self, proposal: Proposal) -> Result<Outcome, WriteError> {
        let answer = self.propose(vec![proposal]).await?.pop();
        let answer = answer.ok_or_else(|| WriteError::Unavailable("its writer gave no answer".to_owned()))?;
        Ok(answer?)
    }

    /// Registers an instance, or renews and updates it when it is there already.
    ///
    /// # Errors
    ///
    /// The registry refuses it or cannot be written to.
    pub async fn register(&self, key: InstanceKey, instance: Instance) -> Result<Outcome, WriteError> {
        let action = Action::Register(Box::new(instance));
        self.propose_one(Proposal { key, expected: Expected::Any, action }).await
    }

    /// An instance says that it lives. `None` when it is not registered (any more): it has to register again. It is a matter
    /// of memory and never waits.
    pub fn renew(&self, key: &InstanceKey) -> Option<Renewal> {
        let renewal = self.shared.leases().renew(key, Instant::now())?;
        Some(self.shared.heard(key).unwrap_or(renewal))
    }

    /// Takes an instance away; what it was last.
    ///
    /// # Errors
    ///
    /// It is not registered, or the registry cannot be written to.
    pub async fn deregister(&self, key: InstanceKey) -> Result<Outcome, WriteError> {
        let action = Action::Remove(Reason::Deregistered);
        self.propose_one(Proposal { key, expected: Expected::Any, action }).await
    }

    /// Changes an instance by `change`, on the ground of what it is at that moment.
    ///
    /// # Errors
    ///
    /// It is not registered, the change is refused, others change it all the time, or the registry cannot be written to.
    pub async fn update(
        &self,
        key: &InstanceKey,
        mut change: impl FnMut(&mut Instance),
    ) -> Result<Outcome, WriteError> {
        let mut tries = 0;
        loop {
            let entry = self.read(|registry| registry.instance(key).cloned());
            let entry = entry.ok_or_else(|| Refusal::NotFound(key.clone()))?;
            let mut instance = entry.instance.clone();
            change(&mut instance);
            let (expected, action) = (Expected::Modified(entry.modified), Action::Replace(Box::new(instance)));
            tries += 1;
            match self.propose_one(Proposal { key: key.clone(), expected, action }).await {
                Err(WriteError::Refused(Refusal::Conflict { .. })) if tries < MOST_TRIES => {}
                result => return result,
            }
        }
    }

    /// An instance gives a word for its TTL check `check`. `None` when it has no such check.
    ///
    /// # Errors
    ///
    /// It is not registered, or the registry cannot be written to.
    pub async fn report(
        &self,
        key: &InstanceKey,
        check: &str,
        status: Status,
        output: &str,
    ) -> Result<Option<Outcome>, WriteError> {
        let mut found = false;
        let outcome = self
            .update(key, |instance| {
                let mut checks = instance.checks.iter_mut();
                let known = checks.find(|known| known.id == check && matches!(known.probe, Probe::Ttl(_)));
                if let Some(known) = known {
                    found = true;
                    *known = known.with_result(status, output);
                }
            })
            .await?;
        self.shared.probes().heard(key, check, Instant::now());
        self.shared.heard(key);
        Ok(found.then_some(outcome))
    }

    /// Who carries checks out, for others who check something in this process: its places are shared.
    pub fn prober(&self) -> Prober {
        self.shared.prober().clone()
    }

    /// The revision as it goes on, for loops that wait for any change.
    pub fn revisions(&self) -> watch::Receiver<u64> {
        self.shared.revisions()
    }

    /// A revision that was reached at least `time` ago, or the oldest that is known: no change of the last `time` is at it or
    /// before, as far as they were seen by this process.
    pub fn revision_before(&self, time: Duration) -> u64 {
        self.shared.revision_before(time)
    }

    /// What changed in `scope` after revision `after`, about 256 changes at most and whole revisions; waits for a first change, no longer
    /// than `patience`. Returns the revision to go on from, too.
    ///
    /// # Errors
    ///
    /// The log no longer reaches back so far.
    pub async fn events(&self, after: u64, scope: &Scope, patience: Duration) -> Result<(Vec<Event>, u64), Compacted> {
        let mut revisions = self.revisions();
        let deadline = tokio::time::Instant::now() + patience;
        let mut at = after;
        loop {
            revisions.mark_unchanged();
            let (events, revision) = self.read(|registry| {
                let events = registry.events(at, scope).map(whole_revisions);
                events.map(|events| (events, registry.revision()))
            })?;
            at = match events.last().filter(|_| events.len() >= MOST_EVENTS) {
                Some(last) => last.revision,
                None => at.max(revision),
            };
            if !events.is_empty() || tokio::time::timeout_at(deadline, revisions.changed()).await.is_err() {
                return Ok((events, at));
            }
        }
    }

    /// Ends leases and carries checks out, until `shutdown` is ready.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        let mut prober = pin!(prober::run(self.clone()));
        let mut preserving = false;
        loop {
            let wake = self.sweep(&mut preserving);
            let wake = async {
                match wake {
                    Some(wake) => tokio::time::sleep_until(wake.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = &mut shutdown => return,
                () = &mut prober => return,
                () = self.shared.woken() => {}
                () = wake => {}
            }
        }
    }

    /// Evicts what is over; when to come back. While a shared store is away nobody is evicted, and the leases take that time
    /// for one in which the process did not run.
    fn sweep(&self, preserving: &mut bool) -> Option<Instant> {
        if self.shared.ownership().is_some() && self.trouble().is_some() {
            return Some(Instant::now() + STORE_AWAY);
        }
        let mut leases = self.shared.leases();
        let over = leases.sweep(Instant::now());
        if !over.is_empty() {
            info!(instances = over.len(), first = %over[0], "leases ended without renewal; evicting");
            let evict = |key| Proposal { key, expected: Expected::Any, action: Action::Remove(Reason::Expired) };
            // Before the lock is given back: whoever is told to register again comes after the removal.
            self.propose_unattended(over.into_iter().map(evict).collect());
        }
        match leases.preservation() {
            Some(state) if !*preserving => {
                warn!(
                    lapsed = state.lapsed,
                    leases = state.leases,
                    "self-preservation: too many leases ended at once, so that nobody is evicted until they renew"
                );
                *preserving = true;
            }
            None if *preserving => {
                info!("self-preservation is over; evicting again");
                *preserving = false;
            }
            _ => {}
        }
        leases.poll_timeout()
    }
}

/// The first [`MOST_EVENTS`] of `events`, and those that were committed together with the last of them.
fn whole_revisions<'e>(events: impl Iterator<Item = &'e Event>) -> Vec<Event> {
    let mut taken: Vec<Event> = Vec::new();
    for event in events {
        if taken.len() >= MOST_EVENTS && taken.last().is_some_and(|last| last.revision != event.revision) {
            break;
        }
        taken.push(event.clone());
    }
    taken
}
