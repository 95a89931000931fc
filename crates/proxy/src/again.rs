//! Between two tries: whether there is another one, when, and with what in its head. The conditions are in `retry.rs`.

use std::time::{Duration, Instant, SystemTime};

use meshwright_message::HeaderName;
use meshwright_model::{Failure, FailureKind};
use meshwright_telemetry::ClusterCounter;
use meshwright_traffic::{Backoff, Observation};
use meshwright_wire::{Protocol, Relay, ResponseStart, Reuse};

use crate::connection::Connection;
use crate::exchange::Exchange;
use crate::forward::{Tries, TryFailure};
use crate::lease::Admission;
use crate::view::WorkerCluster;
use crate::worker::Worker;
use crate::{outlier, retry, timeout};

/// How the line of the attempt count begins in a written head.
const ATTEMPT_COUNT: &[u8] = b"\r\nx-envoy-attempt-count: ";

/// When there is another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// Now: nothing but a closed connection was met.
    AtOnce,
    /// When the back-off is over.
    AfterBackoff,
    /// When the time is over that the service asked for.
    After(Duration),
}

/// Decides whether an answer is thrown away for another try.
pub(crate) fn after_answer(
    connection: &Connection,
    exchange: &mut Exchange,
    cluster: &WorkerCluster,
    tries: &mut Tries<'_>,
) -> Option<Again> {
    let policy = tries.policy;
    let answer = &*connection.worker.response.borrow();
    if !retry::on_answer(&policy.on, answer) {
        return None;
    }
    exchange.retries_used_up = policy.attempts > 0;
    if tries.retries >= policy.attempts || !retry::may_repeat(policy.methods, &exchange.request.method) {
        return None;
    }
    let asked =
        if policy.max_retry_after.is_zero() { None } else { retry::asked_pause(&answer.headers, SystemTime::now) };
    if let Some(asked) = asked {
        let over = exchange.relay.as_ref().and_then(|relay| relay.deadlines.route);
        let too_late = over.is_some_and(|over| Instant::now() + asked.min(policy.max_retry_after) >= over);
        if asked > policy.max_retry_after || too_late {
            // The client learns when to come again from the answer itself.
            cluster.metrics.count(ClusterCounter::RetryAfterTooLong);
            return None;
        }
    }
    if !may_retry(exchange, tries) {
        return None;
    }
    exchange.retries_used_up = false;
    Some(asked.map_or(Again::AfterBackoff, Again::After))
}

/// Decides whether another try is made after a failed one, and reports the failure to the endpoint's verdict.
pub(crate) fn after_failure(
    worker: &Worker,
    exchange: &mut Exchange,
    cluster: &WorkerCluster,
    tries: &mut Tries<'_>,
    failed: TryFailure,
) -> Result<Again, Failure> {
    let kind = failed.failure.kind;
    // Dropped where nothing is said about the endpoint.
    let permit = exchange.permit.take();
    let stale = failed.reuse == Some(Reuse::Reused)
        && kind == FailureKind::UpstreamClosed
        && retry::on_stale_connection(&exchange.request.method, failed.nothing_sent, failed.answered);
    if stale && exchange.can_send_again() {
        tries.stale += 1;
        return Ok(Again::AtOnce);
    }
    let observation = match kind {
        FailureKind::ConnectFailure
        | FailureKind::UpstreamClosed
        | FailureKind::UpstreamProtocol
        | FailureKind::Timeout
        | FailureKind::PerTryTimeout => Some(Observation::LocalOrigin),
        _ => None,
    };
    if let (Some(host), Some(observation)) = (failed.host, observation) {
        let now = Instant::now();
        cluster.measure_failure(host, tries.began, now);
        outlier::observe(worker, cluster, host, observation, now);
        if let Some(permit) = permit {
            permit.failed(worker, kind, now);
        }
    }
    match kind {
        FailureKind::Timeout => cluster.metrics.count(ClusterCounter::UpstreamRqTimeout),
        FailureKind::PerTryTimeout => cluster.metrics.count(ClusterCounter::UpstreamRqPerTryTimeout),
        FailureKind::ConnectFailure => {
            exchange.record.transport_failure =
                failed.failure.cause.clone().map(|cause| Box::new(cause.into_owned().into()));
        }
        _ => {}
    }
    let policy = tries.policy;
    let allowed = failed.nothing_sent || retry::may_repeat(policy.methods, &exchange.request.method);
    let wanted = allowed && retry::on_failure(&policy.on, kind, failed.nothing_sent);
    if wanted && tries.retries >= policy.attempts && tries.retries > 0 {
        exchange.retries_used_up = true;
    }
    if !wanted || tries.retries >= policy.attempts || !may_retry(exchange, tries) {
        return Err(failed.failure);
    }
    if policy.avoid_previous_hosts
        && let Some(host) = failed.host
    {
        tries.tried.push(host as u32);
    }
    Ok(Again::AfterBackoff)
}

/// Takes a place for a retry, when the request can be sent again at all.
fn may_retry(exchange: &mut Exchange, tries: &mut Tries<'_>) -> bool {
    let allowed = exchange.can_send_again() && exchange.admission.as_mut().is_some_and(Admission::try_retry);
    if allowed {
        tries.retries += 1;
    }
    allowed
}

/// An answer is thrown away for another try: its connection is kept when the answer is complete already.
pub(crate) fn recycle(exchange: &mut Exchange, cluster: &WorkerCluster, start: &ResponseStart) {
    let Some(mut lease) = exchange.upstream.take() else { return };
    let answer = exchange.answer;
    let sent = exchange.relay.as_ref().is_some_and(Relay::upload_is_done);
    if answer.keep_alive
        && answer.body.is_empty()
        && sent
        && start.in_scratch.is_empty()
        && lease.side().is_some_and(|side| side.is_clean())
    {
        let now = exchange.answered_at.unwrap_or_else(Instant::now);
        lease.give_back(&cluster.pool_limits, answer.keep_alive_timeout, now);
    }
}

/// Waits before a retry; a request that only met a closed connection goes on at once.
pub(crate) async fn pause(worker: &Worker, tries: &mut Tries<'_>, again: Again) {
    let backoff = Backoff { base: tries.policy.backoff };
    let delay = match again {
        Again::AtOnce => Duration::ZERO,
        Again::AfterBackoff => backoff.delay(tries.retries, &mut worker.rng.borrow_mut()),
        // With a back-off on top: others were told the same.
        Again::After(asked) => asked + backoff.delay(tries.retries, &mut worker.rng.borrow_mut()),
    };
    if delay > Duration::ZERO {
        tokio::time::sleep(delay).await;
    }
    tries.began = Instant::now();
}

/// Puts the request back to its start, with the number of the try and the time that is left in its head.
pub(crate) fn start_again(exchange: &mut Exchange, tries: &mut Tries<'_>) {
    let Some(relay) = &mut exchange.relay else { return };
    relay.rewind();
    let left = timeout::left(&relay.deadlines, tries.policy.per_try_timeout, tries.began);
    let count = (tries.retries + 1).to_string();
    if tries.protocol == Protocol::Http2 {
        exchange.request.headers.set_known(HeaderName::XEnvoyAttemptCount, count.as_bytes());
        timeout::tell(&mut exchange.request, exchange.is_grpc, left);
        return;
    }
    let mut replace = |name: &[u8], value: &[u8]| {
        tries.head_length = relay.upload.replace_value(tries.head_length, name, value);
    };
    replace(ATTEMPT_COUNT, count.as_bytes());
    if let Some(left) = left {
        timeout::tell_written(left, exchange.is_grpc, replace);
    }
}
