//! One call for all who ask for the same at the same time: the first to come leads, the others follow and wait for what it
//! brings. Known as singleflight (Go), request coalescing (Varnish), `proxy_cache_lock` (nginx) and collapsed requests (RFC 9111,
//! section 4). Knows no HTTP, no clock and no runtime: a follower is a future that is woken when its leader ends.
//!
//! Nobody waits for somebody who is gone: a leader that is dropped, whatever the reason, releases everybody who waits for it. A call
//! takes a short lock when it comes and one when it ends, in which nothing is copied but keys and values: let both be cheap to clone.
//!
//! Read next: `crates/proxy/src/coalesce.rs` and `crates/resilience/src/coalesce.rs`.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crate::sync::{AtomicU32, Mutex, MutexGuard, Ordering};

/// How much may be waited for, and by how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoalesceBounds {
    /// Calls that are followed at one time.
    pub keys: usize,
    /// Callers that wait at one time, for whatever key.
    pub waiters: u32,
}

/// Calls that are under way, by key.
pub struct Coalescer<K, V> {
    bounds: CoalesceBounds,
    flights: Mutex<HashMap<K, Arc<Flight<V>>>>,
    waiting: AtomicU32,
}

/// One call that others may wait for.
struct Flight<V> {
    until: Option<Instant>,
    landing: Mutex<Landing<V>>,
}

struct Landing<V> {
    /// What came of the call, once it has ended; `Some(None)` is nothing for others.
    outcome: Option<Option<V>>,
    /// Those who wait, by place.
    wakers: BTreeMap<u64, Waker>,
    places: u64,
}

/// What a caller does.
#[derive(Debug)]
pub enum Turn<K: Eq + Hash, V> {
    /// It makes the call for itself and for those who come meanwhile.
    Lead(Leader<K, V>),
    /// It waits for a call that is under way.
    Follow(Follower<K, V>),
    /// It makes the call for itself alone: a bound is reached.
    Alone,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Clone + Eq + Hash, V: Clone> Coalescer<K, V> {
    /// Nothing is under way yet.
    pub fn new(bounds: CoalesceBounds) -> Self {
        Self { bounds, flights: Mutex::new(HashMap::new()), waiting: AtomicU32::new(0) }
    }

    /// What it was made with.
    pub fn bounds(&self) -> &CoalesceBounds {
        &self.bounds
    }

    /// Calls that are followed or may be, and callers that wait.
    pub fn usage(&self) -> (usize, u32) {
        (locked(&self.flights).len(), self.waiting.load(Ordering::Relaxed))
    }

    /// A call for that key. Whoever leads is followed until `until` (`None` is to its end); who comes later leads anew.
    pub fn join(self: &Arc<Self>, key: K, now: Instant, until: Option<Instant>) -> Turn<K, V> {
        let mut flights = locked(&self.flights);
        let room = flights.len() < self.bounds.keys;
        let flight = match flights.get_mut(&key) {
            Some(flight) if flight.until.is_none_or(|until| now < until) => {
                // Raised only here, under the lock: the bound holds.
                if self.waiting.load(Ordering::Relaxed) >= self.bounds.waiters {
                    return Turn::Alone;
                }
                self.waiting.fetch_add(1, Ordering::Relaxed);
                let follower = Follower { of: Arc::clone(self), flight: Arc::clone(flight), place: None };
                return Turn::Follow(follower);
            }
            Some(flight) => {
                *flight = Arc::new(Flight::new(until));
                Arc::clone(flight)
            }
            None if !room => return Turn::Alone,
            None => Arc::clone(flights.entry(key.clone()).or_insert_with(|| Arc::new(Flight::new(until)))),
        };
        Turn::Lead(Leader { of: Arc::clone(self), key, flight: Some(flight) })
    }

    /// What is under way for that key may be out of date for whoever comes from now on: the next one leads anew. Those who wait
    /// already came before, and wait on.
    pub fn detach<Q: Eq + Hash + ?Sized>(&self, key: &Q)
    where
        K: Borrow<Q>,
    {
        let _detached = locked(&self.flights).remove(key);
    }
}

impl<V> Flight<V> {
    fn new(until: Option<Instant>) -> Self {
        Self { until, landing: Mutex::new(Landing { outcome: None, wakers: BTreeMap::new(), places: 0 }) }
    }
}

impl<K, V> fmt::Debug for Coalescer<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coalescer").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

/// Whoever makes the call. Dropping it without an answer releases all who wait, at once.
pub struct Leader<K: Eq + Hash, V> {
    of: Arc<Coalescer<K, V>>,
    key: K,
    flight: Option<Arc<Flight<V>>>,
}

impl<K: Eq + Hash, V> Leader<K, V> {
    /// Gives what the call brought to all who wait.
    pub fn land(mut self, value: V) {
        self.end(Some(value));
    }

    fn end(&mut self, outcome: Option<V>) {
        let Some(flight) = self.flight.take() else { return };
        {
            let mut flights = locked(&self.of.flights);
            // By now another may lead for that key.
            if flights.get(&self.key).is_some_and(|current| Arc::ptr_eq(current, &flight)) {
                flights.remove(&self.key);
            }
        }
        // Whoever has joined before that polls either before this, and is woken, or after it, and finds the outcome.
        let wakers = {
            let mut landing = locked(&flight.landing);
            landing.outcome = Some(outcome);
            std::mem::take(&mut landing.wakers)
        };
        wakers.into_values().for_each(Waker::wake);
    }
}

impl<K: Eq + Hash, V> Drop for Leader<K, V> {
    fn drop(&mut self) {
        self.end(None);
    }
}

impl<K: Eq + Hash, V> fmt::Debug for Leader<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leader").finish_non_exhaustive()
    }
}

/// Whoever waits: a future of what the leader brings, or of `None` when it brings nothing for others. Dropping it gives its place back.
pub struct Follower<K: Eq + Hash, V> {
    of: Arc<Coalescer<K, V>>,
    flight: Arc<Flight<V>>,
    place: Option<u64>,
}

impl<K: Eq + Hash, V> Follower<K, V> {
    /// Until when it is worth to wait. Nothing ends by itself then: time is the caller's.
    pub fn until(&self) -> Option<Instant> {
        self.flight.until
    }
}

impl<K: Eq + Hash, V: Clone> Future for Follower<K, V> {
    type Output = Option<V>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<V>> {
        let this = self.get_mut();
        let mut landing = locked(&this.flight.landing);
        if let Some(outcome) = &landing.outcome {
            return Poll::Ready(outcome.clone());
        }
        let place = *this.place.get_or_insert_with(|| {
            landing.places += 1;
            landing.places
        });
        landing.wakers.insert(place, cx.waker().clone());
        Poll::Pending
    }
}

impl<K: Eq + Hash, V> Drop for Follower<K, V> {
    fn drop(&mut self) {
        self.of.waiting.fetch_sub(1, Ordering::Relaxed);
        if let Some(place) = self.place {
            let _waker = locked(&self.flight.landing).wakers.remove(&place);
        }
    }
}

impl<K: Eq + Hash, V> fmt::Debug for Follower<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").finish_non_exhaustive()
    }
}
