//! What the admin API and the metrics show of circuit breakers, limits and kept answers. Read next: `views.rs`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use meshwright_console as console;
use meshwright_model::Enforcement;
use meshwright_snapshot::Cluster;
use meshwright_telemetry::{AdaptiveGauges, BreakerGauges, CoalescingGauges, LastGoodGauges};
use meshwright_traffic::{BreakerState, CircuitBreaker};

/// Every breaker of a cluster, with the endpoint that it is for.
pub(super) fn circuit_breakers(cluster: &Cluster, now: Instant) -> Vec<console::CircuitBreakerView> {
    let Some(breakers) = &cluster.breakers else { return Vec::new() };
    let whole = breakers.cluster.iter().map(|breaker| (None, breaker));
    let of_endpoints = cluster.addresses.iter().map(|address| Some(*address)).zip(&breakers.endpoints);
    let view = |(endpoint, breaker): (Option<SocketAddr>, &Arc<CircuitBreaker>)| {
        let view = breaker.view(now);
        console::CircuitBreakerView {
            endpoint,
            state: view.state.to_string(),
            mode: view.mode.to_string(),
            cause: view.cause.map(|cause| cause.to_string()),
            since: Some(now.saturating_duration_since(view.since)),
            retry_in: view.until.map(|until| until.saturating_duration_since(now)),
            requests: view.counts.requests,
            failures: view.counts.total_failures,
            slow: view.counts.slow_calls,
            consecutive_failures: view.counts.consecutive_failures,
            openings: view.openings,
            refused: view.refused,
        }
    };
    whole.chain(of_endpoints).map(view).collect()
}

pub(super) fn adaptive_concurrency(cluster: &Cluster) -> Option<console::AdaptiveConcurrencyView> {
    let limit = &cluster.adaptive.as_ref()?.limit;
    let view = limit.view();
    Some(console::AdaptiveConcurrencyView {
        observes: limit.policy().observe,
        limit: view.limit,
        in_flight: view.in_flight,
        refused: view.refused,
        base_latency: view.base_latency,
    })
}

pub(super) fn bulkhead(cluster: &Cluster) -> Option<console::BulkheadView> {
    let bulkhead = cluster.hosts.bulkhead()?;
    Some(console::BulkheadView {
        observes: bulkhead.observe,
        max_requests_per_endpoint: bulkhead.max_requests,
        full_endpoints: cluster.hosts.full() as u64,
    })
}

pub(super) fn rate_limit(cluster: &Cluster) -> Option<console::RateLimitView> {
    let limiter = cluster.rate_limit.as_ref()?;
    let limit = &limiter.limit;
    Some(console::RateLimitView {
        observes: limit.enforcement == Enforcement::Observe,
        requests: limit.requests,
        per: Some(limit.per),
        burst: limit.burst,
        keys: limiter.buckets.keys() as u64,
    })
}

pub(super) fn last_good(cluster: &Cluster) -> Option<console::LastGoodView> {
    let kept = &cluster.shared_answers.as_ref()?.last_good.as_ref()?.answers;
    let (entries, bytes) = kept.usage();
    let bounds = kept.bounds();
    Some(console::LastGoodView {
        entries: entries as u64,
        max_entries: bounds.entries as u64,
        bytes: bytes as u64,
        max_bytes: bounds.bytes as u64,
    })
}

pub(super) fn coalescing(cluster: &Cluster) -> Option<console::CoalescingView> {
    let coalescer = &cluster.shared_answers.as_ref()?.coalescing.as_ref()?.coalescer;
    let (keys, waiting) = coalescer.usage();
    let bounds = coalescer.bounds();
    Some(console::CoalescingView {
        keys: keys as u64,
        max_keys: bounds.keys as u64,
        waiting,
        max_waiters: bounds.waiters,
    })
}

pub(super) fn last_good_gauges(cluster: &Cluster) -> Option<LastGoodGauges> {
    let (entries, bytes) = cluster.shared_answers.as_ref()?.last_good.as_ref()?.answers.usage();
    Some(LastGoodGauges { entries: entries as u64, bytes: bytes as u64 })
}

pub(super) fn coalescing_gauges(cluster: &Cluster) -> Option<CoalescingGauges> {
    let (keys, waiting) = cluster.shared_answers.as_ref()?.coalescing.as_ref()?.coalescer.usage();
    Some(CoalescingGauges { keys: keys as u64, waiting: waiting.into() })
}

pub(super) fn breaker_gauges(cluster: &Cluster, now: Instant) -> Option<BreakerGauges> {
    let mut gauges = BreakerGauges::default();
    for view in cluster.breakers.as_ref()?.all().map(|breaker| breaker.view(now)) {
        gauges.open += u64::from(view.state == BreakerState::Open);
        gauges.half_open += u64::from(view.state == BreakerState::HalfOpen);
        gauges.openings += view.openings;
        gauges.refused += view.refused;
    }
    Some(gauges)
}

pub(super) fn adaptive_gauges(cluster: &Cluster) -> Option<AdaptiveGauges> {
    let view = cluster.adaptive.as_ref()?.limit.view();
    Some(AdaptiveGauges { limit: u64::from(view.limit), in_flight: u64::from(view.in_flight), refused: view.refused })
}
