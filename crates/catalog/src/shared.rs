//! What every handle of a catalog shares: the committed state, the leases, the checks, and who answers for which instance.
//!
//! Locks are held for one look or one change, in the order registry, leases, owners. It decides nothing.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use meshwright_probe::Prober;
use meshwright_registry::{Care, Entry, InstanceKey, Leases, Owners, Probes, Registry, Renewal};
use tokio::sync::{Notify, watch};
use tracing::{error, info};

use crate::StoreError;

/// Pause between two marks of revisions, and how many are kept: ten minutes.
const MARK_EVERY: Duration = Duration::from_secs(1);
const MOST_MARKS: usize = 600;

pub(crate) struct Shared {
    registry: RwLock<Registry>,
    leases: Mutex<Leases>,
    probes: Mutex<Probes>,
    prober: Prober,
    revision: watch::Sender<u64>,
    /// Rings when leases may end sooner than the clock thinks.
    wake: Notify,
    store: &'static str,
    trouble: Mutex<Option<String>>,
    /// Revisions with the moments they were reached, at most one a second, oldest first.
    marks: Mutex<VecDeque<(Instant, u64)>>,
    /// Whether the store was read.
    synced: AtomicBool,
    /// Where other processes share the store.
    ownership: Option<Ownership>,
}

/// Who answers for which instance, and what follows from changes of that.
pub(crate) struct Ownership {
    owners: Mutex<Owners>,
    /// Time that an instance without an owner has at least to be heard of somewhere.
    grace: Duration,
    /// Instances whose owner changed since the prober looked.
    changed: Mutex<Vec<InstanceKey>>,
    prober: Notify,
    /// Instances that this process wants to own.
    claims: Mutex<Vec<InstanceKey>>,
    claimer: Notify,
}

impl Ownership {
    pub(crate) fn new(me: &str, grace: Duration) -> Self {
        Self {
            owners: Mutex::new(Owners::new(me)),
            grace,
            changed: Mutex::default(),
            prober: Notify::new(),
            claims: Mutex::default(),
            claimer: Notify::new(),
        }
    }

    pub(crate) fn owners(&self) -> MutexGuard<'_, Owners> {
        lock(&self.owners)
    }

    /// Waits for instances that are to be claimed.
    pub(crate) async fn claims(&self) -> Vec<InstanceKey> {
        self.claimer.notified().await;
        std::mem::take(&mut *lock(&self.claims))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Everything of `registry`, each lease with its full time. A registry that others share is read later.
    pub(crate) fn new(registry: Registry, store: &'static str, ownership: Option<Ownership>) -> Self {
        let now = Instant::now();
        let mut leases = Leases::new(now);
        for entry in registry.services().flat_map(|(_, service)| service.instances()) {
            leases.put(&entry.key, entry.instance.lease.expires_after(), now);
        }
        let at = registry.revision();
        Self {
            revision: watch::Sender::new(at),
            registry: RwLock::new(registry),
            leases: Mutex::new(leases),
            probes: Mutex::default(),
            prober: Prober::default(),
            wake: Notify::new(),
            store,
            trouble: Mutex::default(),
            marks: Mutex::new(VecDeque::from([(now, at)])),
            synced: AtomicBool::new(ownership.is_none()),
            ownership,
        }
    }

    pub(crate) fn store(&self) -> &'static str {
        self.store
    }

    pub(crate) fn ownership(&self) -> Option<&Ownership> {
        self.ownership.as_ref()
    }

    pub(crate) fn read<R>(&self, look: impl FnOnce(&Registry) -> R) -> R {
        look(&self.registry.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Registry) -> R) -> R {
        change(&mut self.registry.write().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn leases(&self) -> MutexGuard<'_, Leases> {
        lock(&self.leases)
    }

    pub(crate) fn probes(&self) -> MutexGuard<'_, Probes> {
        lock(&self.probes)
    }

    pub(crate) fn prober(&self) -> &Prober {
        &self.prober
    }

    pub(crate) fn revisions(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Tells watchers and the clock that something changed.
    pub(crate) fn announce(&self) {
        let revision = self.read(Registry::revision);
        if self.revision.send_if_modified(|seen| std::mem::replace(seen, revision) != revision) {
            self.mark(revision);
        }
        self.wake.notify_one();
    }

    fn mark(&self, revision: u64) {
        let now = Instant::now();
        let mut marks = lock(&self.marks);
        if marks.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= MARK_EVERY) {
            marks.push_back((now, revision));
        }
        while marks.len() > MOST_MARKS {
            marks.pop_front();
        }
    }

    /// A revision that was reached at least `time` ago, or the oldest that is known.
    pub(crate) fn revision_before(&self, time: Duration) -> u64 {
        let now = Instant::now();
        let marks = lock(&self.marks);
        let old = marks.iter().rev().find(|(at, _)| now.saturating_duration_since(*at) >= time);
        old.map_or_else(|| marks.front().map_or(0, |(_, revision)| *revision), |(_, revision)| *revision)
    }

    pub(crate) fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    /// Takes note of how the store fares, and says so when that changed.
    pub(crate) fn store_answered(&self, failure: Option<&StoreError>) {
        let mut trouble = lock(&self.trouble);
        let failure = failure.map(ToString::to_string);
        match (&*trouble, &failure) {
            (None, Some(now)) => {
                error!(reason = now, "the registry cannot be written to; discovery and routing go on");
            }
            (Some(before), Some(now)) if before != now => {
                error!(reason = now, "the registry cannot be written to still")
            }
            (Some(_), None) => info!("the registry can be written to again"),
            _ => {}
        }
        *trouble = failure;
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    pub(crate) fn set_synced(&self) {
        self.synced.store(true, Ordering::Release);
    }

    /// Instances that could not be evicted have their leases again.
    pub(crate) fn keep(&self, entries: &[Arc<Entry>]) {
        let now = Instant::now();
        self.read(|registry| {
            let mut leases = self.leases();
            for entry in entries {
                if registry.instance(&entry.key).is_some() && !leases.contains(&entry.key) {
                    leases.put(&entry.key, entry.instance.lease.expires_after(), now);
                }
            }
        });
    }

    /// Whether this process looks after the instance: its lease and its checks.
    pub(crate) fn cares(&self, key: &InstanceKey) -> bool {
        self.ownership.as_ref().is_none_or(|ownership| ownership.owners().care(key) != Care::Other)
    }

    /// The instance was heard of here, so that this process may come to own it. The answer to its renewal, where processes
    /// share the registry.
    pub(crate) fn heard(&self, key: &InstanceKey) -> Option<Renewal> {
        let ownership = self.ownership.as_ref()?;
        let ttl = self.read(|registry| registry.instance(key).map(|entry| entry.instance.lease.expires_after()))?;
        if ownership.owners().heard(key, ttl, Instant::now()) {
            lock(&ownership.claims).push(key.clone());
            ownership.claimer.notify_one();
        }
        Some(Renewal { ttl })
    }

    /// These instances may have another owner now, or be gone: their leases follow, and the prober is told.
    pub(crate) fn change_hands(&self, keys: Vec<InstanceKey>) {
        let Some(ownership) = self.ownership.as_ref().filter(|_| !keys.is_empty()) else { return };
        let now = Instant::now();
        self.read(|registry| {
            let (mut leases, mut owners) = (self.leases(), ownership.owners());
            for key in &keys {
                let Some(entry) = registry.instance(key) else {
                    leases.remove(key);
                    owners.forget(key);
                    continue;
                };
                let ttl = entry.instance.lease.expires_after();
                match owners.care(key) {
                    Care::Mine => leases.put(key, ttl, now),
                    Care::Orphan => leases.put(key, ttl.map(|ttl| ttl.max(ownership.grace)), now),
                    Care::Other => leases.put(key, None, now),
                }
            }
        });
        lock(&ownership.changed).extend(keys);
        ownership.prober.notify_one();
    }

    /// Waits until owners changed; for ever where nobody shares the registry.
    pub(crate) async fn owners_changed(&self) {
        match &self.ownership {
            Some(ownership) => ownership.prober.notified().await,
            None => std::future::pending().await,
        }
    }

    pub(crate) fn take_changed_owners(&self) -> Vec<InstanceKey> {
        self.ownership.as_ref().map(|ownership| std::mem::take(&mut *lock(&ownership.changed))).unwrap_or_default()
    }
}
