//! What every handle of the keys shares: the committed state, and the clock of sessions. Locks are held for one look or one change, in
//! the order keys, clock. It decides nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use meshwright_registry::{Decision, KeyAction, KeyChange, KeyRefusal, Keys, SessionClock, decide};
use tokio::sync::{Notify, watch};

pub(crate) struct State {
    keys: RwLock<Keys>,
    clock: Mutex<SessionClock>,
    revision: watch::Sender<u64>,
    /// Rings when sessions may end sooner than the clock thinks.
    wake: Notify,
}

impl State {
    pub(crate) fn new(keys: Keys) -> Self {
        Self {
            clock: Mutex::new(SessionClock::new(&keys, Instant::now())),
            revision: watch::Sender::new(keys.revision()),
            keys: RwLock::new(keys),
            wake: Notify::new(),
        }
    }

    pub(crate) fn read<R>(&self, look: impl FnOnce(&Keys) -> R) -> R {
        look(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn clock(&self) -> MutexGuard<'_, SessionClock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn revisions(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Decides on the ground of what is committed.
    pub(crate) fn decide(&self, action: &KeyAction) -> Result<Decision, KeyRefusal> {
        self.read(|keys| decide(keys, &self.clock(), action, Instant::now()))
    }

    /// Makes committed revisions part of the state. The clock has seen them when they were decided.
    pub(crate) fn apply<'c>(&self, revisions: impl IntoIterator<Item = (u64, &'c [KeyChange])>) {
        {
            let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
            revisions.into_iter().for_each(|(revision, changes)| keys.apply(revision, changes));
        }
        self.announce();
    }

    /// As [`State::apply`] for a revision that somebody decided about, here or elsewhere: the clock sees it now.
    pub(crate) fn take_in(&self, revision: u64, changes: &[KeyChange]) {
        {
            let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
            if revision <= keys.revision() {
                return;
            }
            let (now, mut clock) = (Instant::now(), self.clock());
            changes.iter().for_each(|change| clock.observe(&keys, change, now));
            keys.apply(revision, changes);
        }
        self.announce();
    }

    /// What was read is what is there from now on. The clock sees the difference: who was renewed or ended meanwhile.
    pub(crate) fn replace(&self, new: Keys) {
        {
            let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
            let (now, mut clock) = (Instant::now(), self.clock());
            for old in keys.sessions().filter(|old| new.session(&old.id).is_none()) {
                clock.observe(&keys, &KeyChange::Close(Arc::clone(&old.id)), now);
            }
            let known = |id: &str| keys.session(id).map_or(0, |session| session.modified);
            for session in new.sessions().filter(|session| session.modified != known(&session.id)) {
                clock.observe(&keys, &KeyChange::Open(Arc::clone(session)), now);
            }
            clock.delay(&new, keys.revision(), now);
            clock.keep(&new, now);
            *keys = new;
        }
        self.announce();
    }

    fn announce(&self) {
        let revision = self.read(Keys::revision);
        self.revision.send_if_modified(|seen| std::mem::replace(seen, revision) != revision);
        self.wake.notify_one();
    }

    /// Sessions whose time is over, with the revisions of their last renewals, and when to look again. No renewal comes between the two.
    pub(crate) fn over(&self, now: Instant) -> (Vec<(Arc<str>, u64)>, Option<Instant>) {
        self.read(|keys| {
            let mut clock = self.clock();
            let over = clock.sweep(now).into_iter();
            let over = over.filter_map(|id| keys.session(&id).map(|session| (id, session.modified))).collect();
            (over, clock.poll_timeout())
        })
    }

    /// Sessions that could not be ended have their time again.
    pub(crate) fn keep(&self, now: Instant) {
        self.read(|keys| self.clock().keep(keys, now));
    }
}
