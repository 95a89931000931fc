//! Places at a cluster: a request's among those in flight, a connection's among those open, a turn among those that wait.
//!
//! Everything taken here is given back when it is dropped, also when the request is cancelled.

use std::rc::Rc;
use std::time::Instant;

use meshwright_model::{Failure, FailureKind, Stage};
use meshwright_telemetry::{ClusterCounter, ClusterGauge};
use meshwright_wire::Lease;

use crate::view::WorkerCluster;

/// Places that a request holds at its cluster and endpoint; given back when dropped.
pub(crate) struct Admission {
    cluster: Rc<WorkerCluster>,
    host: Option<usize>,
    retrying: bool,
}

impl Admission {
    pub(crate) fn enter(cluster: &Rc<WorkerCluster>) -> Result<Self, Failure> {
        let of = &cluster.cluster;
        if !of.usage.try_request(&of.limits) {
            cluster.metrics.count(ClusterCounter::UpstreamRqPendingOverflow);
            return Err(Failure::new(Stage::Forward, FailureKind::Overflow)
                .because(format!("{} has {} requests in flight", of.name, of.limits.max_requests)));
        }
        cluster.metrics.raise(ClusterGauge::UpstreamRqActive);
        Ok(Self { cluster: cluster.clone(), host: None, retrying: false })
    }

    pub(crate) fn occupy(&mut self, host: usize) {
        self.leave_host();
        if self.cluster.counts_in_flight {
            self.cluster.cluster.hosts.hosts()[host].state.acquire();
            self.host = Some(host);
        }
    }

    fn leave_host(&mut self) {
        if let Some(host) = self.host.take() {
            self.cluster.cluster.hosts.hosts()[host].state.release();
        }
    }

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
        of.usage.release_request(&of.limits);
        if self.retrying {
            of.usage.release_retry(&of.limits);
        }
        self.cluster.metrics.lower(ClusterGauge::UpstreamRqActive);
    }
}

impl WorkerCluster {
    /// A kept connection, unless others wait for one already.
    pub(crate) fn checkout(&self, host: usize, now: Instant) -> Option<Lease> {
        let pool = &self.pools[host];
        if pool.has_waiters() { None } else { pool.checkout(&self.pool_limits, now) }
    }

    /// A connection: a kept one as soon as there is one, or a new one as soon as the limits allow it.
    pub(crate) async fn lease(
        self: &Rc<Self>,
        host: usize,
        fresh_only: bool,
        deadline: Option<Instant>,
    ) -> Result<Lease, Failure> {
        let of = &self.cluster;
        if !of.usage.try_pending(&of.limits) {
            self.metrics.count(ClusterCounter::UpstreamRqPendingOverflow);
            return Err(Failure::new(Stage::Forward, FailureKind::Overflow)
                .because(format!("{} requests wait for a connection to {}", of.limits.max_pending, of.name)));
        }
        let _pending = Pending(self);
        let leased = self.lease_admitted(host, fresh_only);
        match deadline {
            None => leased.await,
            Some(at) => tokio::time::timeout_at(at.into(), leased)
                .await
                .unwrap_or_else(|_| Err(Failure::new(Stage::Forward, FailureKind::Timeout))),
        }
    }

    async fn lease_admitted(self: &Rc<Self>, host: usize, fresh_only: bool) -> Result<Lease, Failure> {
        let pool = &self.pools[host];
        let mut waited = false;
        loop {
            // A newcomer queues behind those who wait; whoever was woken is served.
            if (waited || !pool.has_waiters())
                && !fresh_only
                && let Some(lease) = pool.checkout(&self.pool_limits, Instant::now())
            {
                return Ok(lease);
            }
            if self.may_connect(host) {
                return self.connect(host).await;
            }
            if !waited {
                self.metrics.count(ClusterCounter::UpstreamCxOverflow);
            }
            waited = true;
            pool.wait().await;
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

    async fn connect(self: &Rc<Self>, host: usize) -> Result<Lease, Failure> {
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
        let connected = self.pools[host].clone().connect(self.pool_limits.connect_timeout, on_close).await;
        connected.map_err(|error| {
            self.metrics.count(ClusterCounter::UpstreamCxConnectFail);
            Failure::new(Stage::Forward, FailureKind::ConnectFailure)
                .because(format!("{}: {error}", self.cluster.addresses[host]))
        })
    }
}

/// A place among the requests that wait for a connection.
struct Pending<'a>(&'a WorkerCluster);

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let of = &self.0.cluster;
        of.usage.release_pending(&of.limits);
    }
}
