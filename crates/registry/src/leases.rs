//! Who renewed when, and what follows: leases lapse, unless so many lapse at once that the fault is likely to be ours.
//!
//! ```text
//!            put, renew                 deadline                       sweep
//!  (unknown) ─────────▶ live ─────────────────────▶ lapsed ──────────────────────▶ evicted, for the caller to remove
//!                         ▲                            │ renew                │
//!                         └────────────────────────────┴──────────────────────┘ kept while preserving
//! ```
//!
//! Self-preservation is that of Netflix's Eureka (a partition must not empty the registry) for registries of any size: of
//! the instances that lapse within a minute, the first two and the first 15 % are evicted, further ones are kept until they
//! renew, the wave is over, or they were silent for an hour longer than they may. Times in which this process did not run
//! count for nobody. It knows no instance, only keys.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::InstanceKey;

/// Lapses within this time count as one wave.
const WAVE: Duration = Duration::from_secs(60);
/// A wave below this number is no wave.
const SMALLEST_WAVE: usize = 3;
/// Share of the leases in percent above which a wave is taken for our own fault.
const WAVE_PERCENT: usize = 15;
/// Nobody is kept longer than this beyond the end of the lease: what never comes back does not stay for ever.
const LONGEST_KEPT: Duration = Duration::from_secs(3600);
/// The caller sweeps at least so often while there are leases.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A sweep that is later than this shows that the process did not run.
const STALL: Duration = Duration::from_secs(2);

/// Left-over entries of the queue that are not worth looking for.
const SPARE_ENTRIES: usize = 1024;

/// What came of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// The lease lasts so long from now; `None` for ever.
    pub ttl: Option<Duration>,
}

/// Evictions are stopped because too many leases lapsed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preservation {
    /// Leases that are over and kept.
    pub lapsed: usize,
    /// Leases that can be over at all.
    pub leases: usize,
}

#[derive(Debug)]
struct Lease {
    /// `None` never ends.
    ttl: Option<Duration>,
    renewed: Duration,
    /// A connection holds it: it does not end meanwhile.
    held: bool,
    /// When its entry in the queue is due; other entries of its key are left over from before.
    queued: Option<Duration>,
}

impl Lease {
    fn deadline(&self) -> Option<Duration> {
        self.ttl.filter(|_| !self.held).map(|ttl| self.renewed + ttl)
    }
}

/// The leases of all instances. Times inside are on a clock that stands still while the process does.
#[derive(Debug)]
pub struct Leases {
    leases: HashMap<InstanceKey, Lease>,
    queue: BinaryHeap<Reverse<(Duration, InstanceKey)>>,
    lapsed: BTreeSet<InstanceKey>,
    evicted: VecDeque<Duration>,
    /// Leases that can end.
    mortal: usize,
    preserving: bool,
    origin: Instant,
    stalled: Duration,
    swept: Instant,
}

impl Leases {
    /// No leases yet, at `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            leases: HashMap::new(),
            queue: BinaryHeap::new(),
            lapsed: BTreeSet::new(),
            evicted: VecDeque::new(),
            mortal: 0,
            preserving: false,
            origin: now,
            stalled: Duration::ZERO,
            swept: now,
        }
    }

    fn time(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.origin).saturating_sub(self.stalled)
    }

    /// The instance is registered with a lease of `ttl` (`None` for ever), renewed at `now`.
    pub fn put(&mut self, key: &InstanceKey, ttl: Option<Duration>, now: Instant) {
        let renewed = self.time(now);
        let lease = self.leases.entry(key.clone()).or_insert(Lease { ttl: None, renewed, held: false, queued: None });
        match (lease.ttl, ttl) {
            (None, Some(_)) => self.mortal += 1,
            (Some(_), None) => self.mortal -= 1,
            _ => {}
        }
        lease.ttl = ttl;
        lease.renewed = renewed;
        self.lapsed.remove(key);
        self.enqueue(key);
    }

    /// The instance lives. `None` when it is not registered, or about to be evicted: it has to register again.
    pub fn renew(&mut self, key: &InstanceKey, now: Instant) -> Option<Renewal> {
        let renewed = self.time(now);
        let lease = self.leases.get_mut(key)?;
        lease.renewed = lease.renewed.max(renewed);
        let ttl = lease.ttl;
        if self.lapsed.remove(key) {
            self.enqueue(key);
        }
        Some(Renewal { ttl })
    }

    /// A connection holds the lease from now on, or no longer. A lease that is let go has its full time from `now`.
    pub fn hold(&mut self, key: &InstanceKey, held: bool, now: Instant) {
        let renewed = self.time(now);
        if let Some(lease) = self.leases.get_mut(key) {
            lease.held = held;
            lease.renewed = renewed;
            self.lapsed.remove(key);
            self.enqueue(key);
        }
    }

    /// The instance is gone.
    pub fn remove(&mut self, key: &InstanceKey) {
        if let Some(lease) = self.leases.remove(key)
            && lease.ttl.is_some()
        {
            self.mortal -= 1;
        }
        self.lapsed.remove(key);
    }

    /// Whether the instance has a lease.
    pub fn contains(&self, key: &InstanceKey) -> bool {
        self.leases.contains_key(key)
    }

    /// Time since the instance was last heard of.
    pub fn silence(&self, key: &InstanceKey, now: Instant) -> Option<Duration> {
        self.leases.get(key).map(|lease| self.time(now).saturating_sub(lease.renewed))
    }

    /// Whether evictions are stopped at this moment, and how it stands.
    pub fn preservation(&self) -> Option<Preservation> {
        self.preserving.then_some(Preservation { lapsed: self.lapsed.len(), leases: self.mortal })
    }

    /// When to sweep next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.mortal == 0 {
            return None;
        }
        let latest = self.swept + LONGEST_PAUSE;
        match self.queue.peek() {
            Some(Reverse((deadline, _))) => Some(latest.min(self.origin + self.stalled + *deadline)),
            None => Some(latest),
        }
    }

    /// The leases that are over and to be evicted. They are forgotten here: a renewal that comes late finds nothing, and its
    /// sender registers again.
    pub fn sweep(&mut self, now: Instant) -> Vec<InstanceKey> {
        let pause = now.saturating_duration_since(self.swept);
        if pause > STALL && self.mortal > 0 {
            self.stalled += pause - LONGEST_PAUSE;
        }
        self.swept = self.swept.max(now);
        let time = self.time(now);
        self.collect_lapsed(time);
        while self.evicted.front().is_some_and(|at| *at + WAVE <= time) {
            self.evicted.pop_front();
        }
        let gone = self.lapsed.len() + self.evicted.len();
        let leases = self.mortal + self.evicted.len();
        let wave = gone >= SMALLEST_WAVE && gone * 100 > leases * WAVE_PERCENT;
        self.preserving = wave && !self.lapsed.is_empty();
        let over: Vec<InstanceKey> = match wave {
            true => self.lapsed.iter().filter(|key| self.is_kept_too_long(key, time)).cloned().collect(),
            false => self.lapsed.iter().cloned().collect(),
        };
        for key in &over {
            self.remove(key);
            self.evicted.push_back(time);
        }
        over
    }

    fn is_kept_too_long(&self, key: &InstanceKey, time: Duration) -> bool {
        let deadline = self.leases.get(key).and_then(Lease::deadline);
        deadline.is_some_and(|deadline| deadline + LONGEST_KEPT <= time)
    }

    fn collect_lapsed(&mut self, time: Duration) {
        while let Some(Reverse((due, _))) = self.queue.peek() {
            if *due > time {
                break;
            }
            let Some(Reverse((due, key))) = self.queue.pop() else { break };
            let Some(lease) = self.leases.get_mut(&key).filter(|lease| lease.queued == Some(due)) else { continue };
            lease.queued = None;
            match lease.deadline() {
                Some(deadline) if deadline <= time => {
                    self.lapsed.insert(key);
                }
                // Renewed meanwhile: it comes back at its new time.
                Some(_) => self.enqueue(&key),
                None => {}
            }
        }
    }

    /// Sees to it that the lease is looked at no later than its deadline. A renewal does not move an entry that is due
    /// sooner: it is moved once, when it is due.
    fn enqueue(&mut self, key: &InstanceKey) {
        let Some(lease) = self.leases.get_mut(key) else { return };
        let Some(deadline) = lease.deadline() else { return };
        if lease.queued.is_none_or(|due| due > deadline) {
            lease.queued = Some(deadline);
            self.queue.push(Reverse((deadline, key.clone())));
        }
        if self.queue.len() > 2 * self.leases.len() + SPARE_ENTRIES {
            let leases = &self.leases;
            self.queue.retain(|Reverse((due, key))| leases.get(key).is_some_and(|lease| lease.queued == Some(*due)));
        }
    }
}
