//! How much a cluster may have open or in flight, and how much it has. Shared by all workers of the process. Does not
//! know what waits or who is refused: that is the data plane's. Read next: `outlier/mod.rs`.

use crossbeam_utils::CachePadded;

use crate::ActiveBudget;
use crate::sync::{AtomicU32, Ordering};

/// Limits of one cluster, summed over its hosts, per process (Envoy's circuit breaker thresholds). `u32::MAX` is
/// unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections open or being opened. Every host may have one more all the same: see [`Usage::add_connection`].
    pub max_connections: u32,
    /// Requests that wait for a connection.
    pub max_pending: u32,
    /// Requests in flight.
    pub max_requests: u32,
    /// Retries in flight. A retry budget replaces it.
    pub max_retries: u32,
    /// Retries in flight as a share of the requests that are in flight or wait; they are counted for it even where they
    /// are unlimited.
    pub retry_budget: Option<ActiveBudget>,
}

impl Default for Limits {
    /// Unlimited.
    fn default() -> Self {
        Self {
            max_connections: u32::MAX,
            max_pending: u32::MAX,
            max_requests: u32::MAX,
            max_retries: u32::MAX,
            retry_budget: None,
        }
    }
}

impl Limits {
    /// A limit that is never reached, but counted where a budget needs the count.
    fn counted(&self, limit: u32) -> u32 {
        if self.retry_budget.is_some() { limit.min(u32::MAX - 1) } else { limit }
    }
}

/// What one cluster has open or in flight, counted against [`Limits`]; shared by all workers, survives reloads.
///
/// Each `try_*` that answers `true` is owed one `release_*` **with the same limits**: an unlimited resource is neither
/// counted nor released, so its counter is never touched and reads 0. A guard therefore keeps the limits it was
/// admitted with (or the cluster they belong to), also across a reload that changes them; what was admitted while a
/// resource was unlimited does not count against a limit that came later.
///
/// Counting is exact: two workers that race for the last place never both get it.
#[derive(Debug, Default)]
pub struct Usage {
    connections: CachePadded<AtomicU32>,
    pending: CachePadded<AtomicU32>,
    requests: CachePadded<AtomicU32>,
    retries: CachePadded<AtomicU32>,
}

impl Usage {
    /// Nothing open, nothing in flight.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a place for a connection, or says that there is none.
    pub fn try_connection(&self, limits: &Limits) -> bool {
        take(&self.connections, limits.max_connections)
    }

    /// Counts a connection beyond the limit. As in Envoy, a host that has none may always get one, so that connections
    /// to other hosts (or of other workers) never starve it.
    pub fn add_connection(&self, limits: &Limits) {
        if limits.max_connections != u32::MAX {
            self.connections.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Gives the place of a connection back.
    pub fn release_connection(&self, limits: &Limits) {
        give_back(&self.connections, limits.max_connections);
    }

    /// Takes a place for a request that waits for a connection, or says that there is none.
    pub fn try_pending(&self, limits: &Limits) -> bool {
        take(&self.pending, limits.counted(limits.max_pending))
    }

    /// Gives the place of a waiting request back.
    pub fn release_pending(&self, limits: &Limits) {
        give_back(&self.pending, limits.counted(limits.max_pending));
    }

    /// Takes a place for a request in flight, or says that there is none.
    pub fn try_request(&self, limits: &Limits) -> bool {
        take(&self.requests, limits.counted(limits.max_requests))
    }

    /// Gives the place of a request back.
    pub fn release_request(&self, limits: &Limits) {
        give_back(&self.requests, limits.counted(limits.max_requests));
    }

    /// Takes a place for a retry, or says that there is none.
    pub fn try_retry(&self, limits: &Limits) -> bool {
        let most = match limits.retry_budget {
            Some(budget) => budget.retries(self.requests().saturating_add(self.pending())).min(u32::MAX - 1),
            None => limits.max_retries,
        };
        take(&self.retries, most)
    }

    /// Gives the place of a retry back.
    pub fn release_retry(&self, limits: &Limits) {
        give_back(&self.retries, limits.counted(limits.max_retries));
    }

    /// Connections counted; 0 where they are unlimited.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Waiting requests counted; 0 where they are unlimited.
    pub fn pending(&self) -> u32 {
        self.pending.load(Ordering::Relaxed)
    }

    /// Requests in flight counted; 0 where they are unlimited.
    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Retries in flight counted; 0 where they are unlimited.
    pub fn retries(&self) -> u32 {
        self.retries.load(Ordering::Relaxed)
    }
}

/// Takes one of `limit` places; `u32::MAX` is unlimited and not counted.
pub(crate) fn take(counter: &AtomicU32, limit: u32) -> bool {
    if limit == u32::MAX {
        return true;
    }
    let mut used = counter.load(Ordering::Relaxed);
    while used < limit {
        match counter.compare_exchange_weak(used, used + 1, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return true,
            Err(now) => used = now,
        }
    }
    false
}

fn give_back(counter: &AtomicU32, limit: u32) {
    if limit != u32::MAX {
        let before = counter.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a place was given back that was never taken");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_never_given_out_twice_however_many_threads_ask() {
        let usage = Usage::new();
        let limits = Limits { max_requests: 3, ..Limits::default() };
        let held = AtomicU32::new(0);
        let (most, admitted) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        if usage.try_request(&limits) {
                            most.fetch_max(held.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            admitted.fetch_add(1, Ordering::Relaxed);
                            std::thread::yield_now();
                            held.fetch_sub(1, Ordering::SeqCst);
                            usage.release_request(&limits);
                        }
                    }
                });
            }
        });
        assert!(most.into_inner() <= 3);
        assert!(admitted.into_inner() >= 2_000, "at least one thread's worth got in");
        assert_eq!(usage.requests(), 0);
    }

    #[test]
    fn an_unlimited_resource_is_not_counted() {
        let usage = Usage::new();
        let limits = Limits::default();
        assert!(usage.try_connection(&limits) && usage.try_pending(&limits));
        assert!(usage.try_request(&limits) && usage.try_retry(&limits));
        usage.add_connection(&limits);
        assert_eq!((usage.connections(), usage.pending(), usage.requests(), usage.retries()), (0, 0, 0, 0));
        usage.release_connection(&limits);
        usage.release_pending(&limits);
        usage.release_request(&limits);
        usage.release_retry(&limits);
        assert_eq!((usage.connections(), usage.pending(), usage.requests(), usage.retries()), (0, 0, 0, 0));
    }

    #[test]
    fn each_resource_has_its_own_limit() {
        let usage = Usage::new();
        let limits = Limits { max_connections: 1, max_pending: 2, max_requests: 3, max_retries: 0, retry_budget: None };
        assert!(usage.try_connection(&limits));
        assert!(!usage.try_connection(&limits));
        assert!(usage.try_pending(&limits) && usage.try_pending(&limits));
        assert!(!usage.try_pending(&limits));
        assert!(!usage.try_retry(&limits));
        usage.release_pending(&limits);
        assert!(usage.try_pending(&limits));
        assert_eq!((usage.connections(), usage.pending(), usage.requests(), usage.retries()), (1, 2, 0, 0));
    }

    #[test]
    fn a_retry_budget_is_a_share_of_the_requests_in_flight_and_waiting() {
        let usage = Usage::new();
        let budget = ActiveBudget { percent: 20, min_concurrency: 1 };
        let limits = Limits { max_retries: 0, retry_budget: Some(budget), ..Limits::default() };
        assert!(usage.try_retry(&limits), "one may always be in flight");
        assert!(!usage.try_retry(&limits));
        assert!((0..10).all(|_| usage.try_request(&limits)) && (0..4).all(|_| usage.try_pending(&limits)));
        assert!(usage.try_retry(&limits), "two of fourteen");
        assert!(!usage.try_retry(&limits));
        assert!(usage.try_pending(&limits));
        assert!(usage.try_retry(&limits), "three of fifteen");
        (0..3).for_each(|_| usage.release_retry(&limits));
        (0..10).for_each(|_| usage.release_request(&limits));
        (0..5).for_each(|_| usage.release_pending(&limits));
        assert_eq!((usage.pending(), usage.requests(), usage.retries()), (0, 0, 0));
    }

    #[test]
    fn a_connection_beyond_the_limit_counts_and_keeps_others_out() {
        let usage = Usage::new();
        let limits = Limits { max_connections: 1, ..Limits::default() };
        assert!(usage.try_connection(&limits));
        usage.add_connection(&limits);
        assert_eq!(usage.connections(), 2);
        usage.release_connection(&limits);
        assert!(!usage.try_connection(&limits));
        usage.release_connection(&limits);
        assert!(usage.try_connection(&limits));
    }
}
