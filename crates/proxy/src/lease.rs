//! Places at a cluster: a request's among those in flight, a connection's among those open, a turn among those that wait.
//!
//! Everything taken here is given back when it is dropped, also when the request is cancelled.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use meshwright_model::{Failure, FailureKind, Stage};
use meshwright_telemetry::{ClusterCounter, ClusterGauge};
use meshwright_wire::{Deadlines, Lease, Protocol, RelayError};

use crate::unreachable;
use crate::view::WorkerCluster;

/// Places that a request holds at its cluster and endpoint; given back when dropped.
pub(crate) struct Admission {
    cluster: Rc<WorkerCluster>,
    /// By index, of which a cluster has less than 2^32.
    host: Option<u32>,
    in_flight: bool,
    retrying: bool,
}

impl Admission {
    pub(crate) fn new(cluster: &Rc<WorkerCluster>) -> Self {
        Self { cluster: cluster.clone(), host: None, in_flight: false, retrying: false }
    }

    /// Takes over a place at a host of its cluster, and leaves the host before.
    pub(crate) fn occupy(&mut self, place: Place<'_>) {
        self.leave_host();
        self.host = place.keep();
    }

    /// Gives the place at the host back: the try is over.
    pub(crate) fn leave_host(&mut self) {
        if let Some(host) = self.host.take() {
            self.cluster.cluster.hosts.release(host as usize);
        }
    }

    /// Takes the place of a request in flight, once. As in Envoy a request has it from when it has a connection; until
    /// then it counts as pending.
    pub(crate) fn enter(&mut self) -> Result<(), Failure> {
        if self.in_flight {
            return Ok(());
        }
        let of = &self.cluster.cluster;
        if !of.usage.try_request(&of.limits) {
            self.cluster.metrics.count(ClusterCounter::UpstreamRqPendingOverflow);
            return Err(Failure::new(Stage::Forward, FailureKind::Overflow)
                .because(format!("{} has {} requests in flight", of.name, of.limits.max_requests)));
        }
        self.in_flight = true;
        self.cluster.metrics.raise(ClusterGauge::UpstreamRqActive);
        Ok(())
    }

    /// Takes the place of a retry for a request that is sent once more before the first has failed.
    pub(crate) fn try_hedge(&mut self) -> bool {
        let of = &self.cluster.cluster;
        let allowed = self.retrying || of.usage.try_retry(&of.limits);
        self.retrying = allowed;
        let counter = if allowed { ClusterCounter::Hedges } else { ClusterCounter::UpstreamRqRetryOverflow };
        self.cluster.metrics.count(counter);
        allowed
    }

    /// Takes the place of a retry, once, and counts the retry.
    pub(crate) fn try_retry(&mut self) -> bool {
        let of = &self.cluster.cluster;
        if !self.retrying && !of.usage.try_retry(&of.limits) {
            self.cluster.metrics.count(ClusterCounter::UpstreamRqRetryOverflow);
            return false;
        }
        self.retrying = true;
        self.cluster.metrics.count(ClusterCounter::UpstreamRqRetry);
        true
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.leave_host();
        let of = &self.cluster.cluster;
        if self.in_flight {
            of.usage.release_request(&of.limits);
            self.cluster.metrics.lower(ClusterGauge::UpstreamRqActive);
        }
        if self.retrying {
            of.usage.release_retry(&of.limits);
        }
    }
}

/// A request's place at a host, which was picked for it; given back when dropped.
#[must_use = "the host has room again as soon as it is dropped"]
pub(crate) struct Place<'a> {
    cluster: &'a WorkerCluster,
    host: usize,
    /// Where nobody looks at requests in flight none is counted.
    counted: bool,
}

impl Place<'_> {
    pub(crate) fn host(&self) -> usize {
        self.host
    }

    /// Leaves it to the caller to give the place back: the host, where a place is counted.
    fn keep(mut self) -> Option<u32> {
        let counted = std::mem::take(&mut self.counted);
        counted.then_some(self.host as u32)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.counted {
            self.cluster.cluster.hosts.release(self.host);
        }
    }
}

impl WorkerCluster {
    /// A place at a host, unless it is full.
    pub(crate) fn place(&self, host: usize) -> Option<Place<'_>> {
        let counted = self.counts_in_flight;
        (!counted || self.cluster.hosts.try_acquire(host)).then_some(Place { cluster: self, host, counted })
    }

    /// A kept connection, unless others wait for one already.
    pub(crate) fn checkout(&self, host: usize, protocol: Protocol, now: Instant) -> Option<Lease> {
        let pool = &self.pools[host];
        if pool.has_waiters() { None } else { pool.checkout(protocol, &self.pool_limits, now) }
    }

    /// A connection: a kept one as soon as there is one, or a new one as soon as the limits allow it. With `fresh_only` a
    /// kept one makes room for a new one instead. `connecting` says, also after a failure or a cancellation, whether the
    /// endpoint was asked: time spent waiting says nothing about it.
    pub(crate) async fn lease(
        self: &Rc<Self>,
        wanted: Wanted<'_>,
        deadlines: &Deadlines,
        connecting: &Cell<bool>,
    ) -> Result<Lease, Failure> {
        let of = &self.cluster;
        if !of.usage.try_pending(&of.limits) {
            self.metrics.count(ClusterCounter::UpstreamRqPendingOverflow);
            return Err(Failure::new(Stage::Forward, FailureKind::Overflow)
                .because(format!("{} requests wait for a connection to {}", of.limits.max_pending, of.name)));
        }
        let _pending = Pending::new(self);
        let leased = self.lease_admitted(wanted, connecting);
        // Time for the answer of a request whose body is still to come counts from now while it waits here.
        let after_upload = deadlines.after_upload.and_then(|time| Instant::now().checked_add(time));
        let Some(at) = deadlines.next().into_iter().chain(after_upload).min() else { return leased.await };
        tokio::time::timeout_at(at.into(), leased).await.unwrap_or_else(|_| {
            let kind = match deadlines.over() {
                RelayError::TryDeadline if deadlines.of_try == Some(at) => FailureKind::PerTryTimeout,
                _ => FailureKind::Timeout,
            };
            Err(Failure::new(Stage::Forward, kind).because("there was no connection to the endpoint in time"))
        })
    }

    async fn lease_admitted(self: &Rc<Self>, wanted: Wanted<'_>, connecting: &Cell<bool>) -> Result<Lease, Failure> {
        let Wanted { host, protocol, fresh_only, .. } = wanted;
        let pool = &self.pools[host];
        let mut place = None;
        loop {
            // A newcomer queues behind those who wait, whatever there is; whoever has a place in the queue is served when
            // woken.
            if place.is_some() || !pool.has_waiters() {
                if !fresh_only && let Some(lease) = pool.checkout(protocol, &self.pool_limits, Instant::now()) {
                    return Ok(lease);
                }
                if protocol == Protocol::Http2
                    && let Some(attempt) = pool.join_attempt(&self.pool_limits)
                {
                    // Whoever makes the attempt answers for it; those who wait blame nobody.
                    attempt.wait().await.map_err(|cause| self.not_connected(host, cause))?;
                    continue;
                }
                if self.may_connect(host) || (fresh_only && pool.close_idle() && self.may_connect(host)) {
                    // The queue must not stand still while this one connects.
                    drop(place);
                    connecting.set(true);
                    return self.connect(wanted).await;
                }
            } else {
                // Room that another host or worker left is noticed by nobody but newcomers: it is for the first in turn.
                pool.wake_one();
            }
            if place.is_none() {
                self.metrics.count(ClusterCounter::UpstreamCxOverflow);
            }
            place.get_or_insert_with(|| pool.queue()).wait().await;
        }
    }

    /// Takes a place for a connection. A worker may always have one per host: connections of another worker, or to
    /// another host, never starve it.
    fn may_connect(&self, host: usize) -> bool {
        let of = &self.cluster;
        if of.usage.try_connection(&of.limits) {
            return true;
        }
        let none = self.pools[host].open() == 0;
        if none {
            of.usage.add_connection(&of.limits);
        }
        none
    }

    /// A new connection for bytes, or the limit that stands in its way; nobody waits for one.
    pub(crate) async fn connect_at_once(self: &Rc<Self>, wanted: Wanted<'_>) -> Result<Lease, Failure> {
        if self.may_connect(wanted.host) {
            return self.connect(wanted).await;
        }
        self.metrics.count(ClusterCounter::UpstreamCxOverflow);
        let of = &self.cluster;
        Err(Failure::new(Stage::Forward, FailureKind::Overflow)
            .because(format!("{} has {} connections", of.name, of.limits.max_connections)))
    }

    async fn connect(self: &Rc<Self>, wanted: Wanted<'_>) -> Result<Lease, Failure> {
        self.metrics.count(ClusterCounter::UpstreamCxTotal);
        self.metrics.raise(ClusterGauge::UpstreamCxActive);
        // The place is given back with the limits it was taken under, whatever configuration holds by then.
        let (usage, limits) = (self.cluster.usage.clone(), self.cluster.limits);
        let metrics = self.metrics.clone();
        let on_close = Box::new(move || {
            usage.release_connection(&limits);
            metrics.count(ClusterCounter::UpstreamCxDestroy);
            metrics.lower(ClusterGauge::UpstreamCxActive);
        });
        let pool = self.pools[wanted.host].clone();
        let connected = pool.connect(wanted.protocol, &self.pool_limits, wanted.header, on_close).await;
        connected.map_err(|error| {
            self.metrics.count(ClusterCounter::UpstreamCxConnectFail);
            unreachable::observe(self, wanted.host, &error);
            self.not_connected(wanted.host, error.to_string())
        })
    }

    fn not_connected(&self, host: usize, cause: String) -> Failure {
        let address = self.cluster.addresses[host];
        Failure::new(Stage::Forward, FailureKind::ConnectFailure).because(format!("{address}: {cause}"))
    }
}

/// What connection a request needs.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// To which host of the cluster.
    pub(crate) host: usize,
    pub(crate) protocol: Protocol,
    /// A new one, because those that were kept turned out to be closed.
    pub(crate) fresh_only: bool,
    /// What is sent on a new connection before anything else (PROXY protocol).
    pub(crate) header: &'a [u8],
}

/// A place among the requests that wait for a connection.
struct Pending<'a>(&'a WorkerCluster);

impl<'a> Pending<'a> {
    fn new(cluster: &'a WorkerCluster) -> Self {
        cluster.metrics.raise(ClusterGauge::UpstreamRqPendingActive);
        Self(cluster)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let of = &self.0.cluster;
        of.usage.release_pending(&of.limits);
        self.0.metrics.lower(ClusterGauge::UpstreamRqPendingActive);
    }
}
