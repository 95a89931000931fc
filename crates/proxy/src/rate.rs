//! Whether a request comes within the rate limit of its cluster, and what answers say of that.
//!
//! Costs a look whether there is a limit; with one, a short lock and the key, which is put together in the worker's memory.
//! The buckets are `meshwright-traffic`'s. Read next: `permit.rs`, for what may refuse a try.

use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use meshwright_message::HeaderName;
use meshwright_model::{Enforcement, Failure, FailureKind, RateLimit, RateLimitKey, Stage};
use meshwright_snapshot::Route;
use meshwright_telemetry::ClusterCounter;
use meshwright_traffic::Taken;

use crate::connection::Connection;
use crate::exchange::Exchange;
use crate::view::WorkerCluster;

/// Takes a token for the request, before anything of it is changed or sent.
pub(crate) fn admit(
    connection: &Connection,
    exchange: &mut Exchange,
    cluster: &WorkerCluster,
    route: &Route,
) -> Result<(), Failure> {
    let Some(limiter) = &cluster.cluster.rate_limit else { return Ok(()) };
    let key = &mut *connection.worker.value.borrow_mut();
    key.clear();
    write_key(&limiter.limit.key, connection, exchange, route, key);
    let taken = limiter.buckets.try_take(key, Instant::now());
    let observes = limiter.limit.enforcement == Enforcement::Observe;
    exchange.rate = Some(Box::new(taken));
    if taken.retry_after.is_none() {
        return Ok(());
    }
    cluster.metrics.count(ClusterCounter::RateLimited);
    if observes {
        return Ok(());
    }
    let RateLimit { requests, per, .. } = *limiter.limit;
    Err(Failure::new(Stage::Admit, FailureKind::RateLimited)
        .because(format!("{} takes {requests} requests in {per:?} of each key", cluster.cluster.name)))
}

/// The parts of a key. What is as long as the client likes has its length before it, so that two keys are never the same
/// bytes.
fn write_key(wanted: &RateLimitKey, connection: &Connection, exchange: &Exchange, route: &Route, key: &mut Vec<u8>) {
    if let Some(header) = wanted.header.as_deref() {
        let value = exchange.request.headers.get(header);
        let length = value.map_or(u32::MAX, |value| value.len() as u32);
        key.extend_from_slice(&length.to_le_bytes());
        key.extend_from_slice(value.unwrap_or_default());
    }
    if wanted.source_ip {
        match connection.client.peer.ip().to_canonical() {
            IpAddr::V4(address) => key.extend_from_slice(&address.octets()),
            IpAddr::V6(address) => key.extend_from_slice(&address.octets()[..8]),
        }
    }
    if wanted.route {
        // Where it was written; names of routes need not be unique.
        let _ = write!(key, "{}", route.origin);
    }
}

/// Adds what the client is told of the limit.
pub(crate) fn tell(connection: &Connection, exchange: &Exchange) {
    let (Some(taken), Some(cluster)) = (exchange.rate.as_deref(), &exchange.record.cluster) else { return };
    let Some(limiter) = &cluster.cluster.rate_limit else { return };
    let head = &mut *connection.worker.response.borrow_mut();
    if limiter.limit.headers {
        let (limit, remaining) = (&limiter.limit, taken.remaining);
        let (quota, window) = (limit.requests, seconds(limit.per));
        head.headers.set("ratelimit-policy", format!("\"default\";q={quota};w={window}").as_bytes());
        head.headers.set("ratelimit", format!("\"default\";r={remaining};t={}", seconds(taken.full_in)).as_bytes());
    }
}

/// Adds to a refusal when to come again.
pub(crate) fn tell_refused(connection: &Connection, taken: Option<&Taken>) {
    let Some(wait) = taken.and_then(|taken| taken.retry_after) else { return };
    let head = &mut *connection.worker.response.borrow_mut();
    head.headers.set_known(HeaderName::XEnvoyRatelimited, b"true");
    head.headers.set("retry-after", seconds(wait).to_string().as_bytes());
}

/// Whole seconds, rounded up.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
