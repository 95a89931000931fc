//! Time of sessions: who renewed when, whose time is over, and which keys nobody may lock yet.
//!
//! Only this process knows it. Times inside are on a clock that stands still while the process does: a session is not ended
//! because its registry did not run. After a restart every session has its full time again, and every lock delay begins anew.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Behavior, KeyChange, Keys};

/// The caller sweeps at least so often while there is something to wait for.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A sweep that is later than this shows that the process did not run.
const STALL: Duration = Duration::from_secs(2);

/// Lives of sessions and delays of locks.
#[derive(Debug)]
pub struct SessionClock {
    /// Time to live and the last renewal.
    lives: HashMap<Arc<str>, (Duration, Duration)>,
    /// Until when keys cannot be locked.
    delays: HashMap<Arc<str>, Duration>,
    origin: Instant,
    stalled: Duration,
    swept: Instant,
}

impl SessionClock {
    /// The clock of `keys` as they were restored at `now`.
    pub fn new(keys: &Keys, now: Instant) -> Self {
        let (lives, delays) = (HashMap::new(), HashMap::new());
        let mut clock = Self { lives, delays, origin: now, stalled: Duration::ZERO, swept: now };
        clock.keep(keys, now);
        clock.delay(keys, 0, now);
        clock
    }

    /// Locks that came free by the end of a session after the revision `after`, as far as the keys say so, are delayed from now on.
    pub fn delay(&mut self, keys: &Keys, after: u64, now: Instant) {
        self.rested(now);
        let time = self.time(now);
        let free = keys.with_prefix("").filter(|pair| pair.session.is_none() && !pair.lock_delay.is_zero());
        let free = free.filter(|pair| pair.modified > after);
        self.delays.extend(free.map(|pair| (Arc::clone(&pair.key), time + pair.lock_delay)));
    }

    fn time(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.origin).saturating_sub(self.stalled)
    }

    /// While there was nothing to wait for, nobody had to sweep.
    fn rested(&mut self, now: Instant) {
        if self.lives.is_empty() && self.delays.is_empty() {
            self.swept = self.swept.max(now);
        }
    }

    /// A change is made on top of `before`.
    pub fn observe(&mut self, before: &Keys, change: &KeyChange, now: Instant) {
        self.rested(now);
        let time = self.time(now);
        match change {
            KeyChange::Open(session) => {
                if let Some(ttl) = session.ttl {
                    self.lives.insert(Arc::clone(&session.id), (ttl, time));
                }
            }
            KeyChange::Close(id) => {
                self.lives.remove(id);
                let Some(session) = before.session(id).filter(|session| !session.lock_delay.is_zero()) else { return };
                if session.behavior == Behavior::Delete {
                    let until = time + session.lock_delay;
                    self.delays.extend(before.locked_by(id).map(|key| (Arc::clone(key), until)));
                }
            }
            KeyChange::Put(pair) => {
                let held = before.pair(&pair.key).is_some_and(|pair| pair.session.is_some());
                if held && pair.session.is_none() && !pair.lock_delay.is_zero() {
                    self.delays.insert(Arc::clone(&pair.key), time + pair.lock_delay);
                }
            }
            KeyChange::Delete(_) => {}
        }
    }

    /// Sessions that nobody counts the time of have their full time from now on, and those that are gone are forgotten.
    pub fn keep(&mut self, keys: &Keys, now: Instant) {
        self.rested(now);
        let time = self.time(now);
        self.lives.retain(|id, _| keys.session(id).is_some());
        for session in keys.sessions() {
            if let Some(ttl) = session.ttl {
                self.lives.entry(Arc::clone(&session.id)).or_insert((ttl, time));
            }
        }
    }

    /// A session with a time to live is renewed. Whether it is there and not about to end.
    pub fn renew(&mut self, id: &str, now: Instant) -> bool {
        let time = self.time(now);
        self.lives.get_mut(id).is_some_and(|(_, renewed)| {
            *renewed = time.max(*renewed);
            true
        })
    }

    /// Whether nobody may lock the key yet, because the session that had it locked ended.
    pub fn is_delayed(&self, key: &str, now: Instant) -> bool {
        self.delays.get(key).is_some_and(|until| *until > self.time(now))
    }

    /// When to sweep again.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let first = self.lives.values().map(|(ttl, renewed)| *renewed + *ttl).min();
        let latest = self.swept + LONGEST_PAUSE;
        match first {
            Some(first) => Some(latest.min(self.origin + self.stalled + first)),
            None => (!self.delays.is_empty()).then_some(latest),
        }
    }

    /// The sessions that are over. They are forgotten here: a renewal that comes late finds nothing.
    pub fn sweep(&mut self, now: Instant) -> Vec<Arc<str>> {
        let pause = now.saturating_duration_since(self.swept);
        if pause > STALL && !(self.lives.is_empty() && self.delays.is_empty()) {
            self.stalled += pause - LONGEST_PAUSE;
        }
        self.swept = self.swept.max(now);
        let time = self.time(now);
        self.delays.retain(|_, until| *until > time);
        let mut over: Vec<_> =
            self.lives.extract_if(|_, (ttl, renewed)| *renewed + *ttl <= time).map(|(id, _)| id).collect();
        over.sort();
        over
    }
}
