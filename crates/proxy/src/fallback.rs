//! What is answered when a service has no good answer: that of another destination, else the last
//! good one that was kept (`kept.rs`), else a fixed one. An answer that stands in says
//! so, in `x-meshwright-fallback` and in the details of the access log.
//!
//! Costs a look whether the cluster has one when a request has its answer; with another destination the head of the request
//! is kept until then. Where the destination leads is compiled in `meshwright-snapshot`. Read next: `own_answer.rs`.

use std::rc::Rc;
use std::time::Instant;

use meshwright_model::{Failure, FailureKind, Stage};
use meshwright_telemetry::ClusterCounter;
use meshwright_wire::ResponseStart;
use smallvec::SmallVec;

use crate::affinity::Affinity;
use crate::connection::{After, Connection};
use crate::exchange::Exchange;
use crate::forward::{self, Tries};
use crate::lease::Admission;
use crate::request::Chosen;
use crate::view::{View, WorkerCluster};
use crate::{again, kept, own_answer, permit, shareable};

/// Says what stands in.
pub(crate) const MARK: &str = "x-meshwright-fallback";

/// Whether something else may be answered than what came of the tries.
pub(crate) fn is_wanted(exchange: &Exchange, cluster: &WorkerCluster, ended: &Result<ResponseStart, Failure>) -> bool {
    let Some(fallback) = &cluster.cluster.fallback else { return false };
    let is_bad = match ended {
        Ok(_) => fallback.statuses.binary_search(&exchange.answer.status).is_ok(),
        Err(failure) => stands_for_no_answer(failure),
    };
    is_bad && exchange.request.upgrade.is_none()
}

/// Whether the service is what the request failed at.
fn stands_for_no_answer(failure: &Failure) -> bool {
    failure.stage == Stage::Forward
        && matches!(
            failure.kind,
            FailureKind::NoHealthyUpstream
                | FailureKind::Overflow
                | FailureKind::CircuitOpen
                | FailureKind::BulkheadFull
                | FailureKind::ConcurrencyLimit
                | FailureKind::ConnectFailure
                | FailureKind::UpstreamClosed
                | FailureKind::UpstreamProtocol
                | FailureKind::Timeout
                | FailureKind::PerTryTimeout
                | FailureKind::UnwelcomeStatus
        )
}

/// The cluster that is asked instead of the one with this index.
pub(crate) fn destination(view: &View, index: usize, chosen: &Chosen<'_>) -> Option<Rc<WorkerCluster>> {
    let target = view.snapshot.fallbacks.get(&index)?;
    Some(view.clusters[target.cluster(chosen.site.port)?].clone())
}

/// Asks the other destination, where there is one. The answer that there is stays when nothing can stand in for it.
pub(crate) async fn elsewhere(
    connection: &mut Connection,
    exchange: &mut Exchange,
    (cluster, other): (&Rc<WorkerCluster>, Option<Rc<WorkerCluster>>),
    (tries, chosen): (Tries<'_>, &Chosen<'_>),
    ended: Result<ResponseStart, Failure>,
) -> Result<ResponseStart, Failure> {
    shareable::release(exchange);
    let other = other.filter(|other| can_go(exchange, other, &tries));
    let has_response = cluster.cluster.fallback.as_ref().is_some_and(|fallback| fallback.response.is_some());
    let stands_in = kept::find(exchange) || has_response;
    let mut failure = match ended {
        Ok(start) if other.is_none() && (exchange.is_grpc || !stands_in) => return Ok(start),
        Ok(_) => Failure::new(Stage::Forward, FailureKind::UnwelcomeStatus)
            .because(format!("{} answered {}", cluster.cluster.name, exchange.answer.status)),
        Err(failure) => failure,
    };
    exchange.discard_upstream(&connection.worker);
    if let Some(other) = other {
        cluster.metrics.count(ClusterCounter::FallbackDestination);
        exchange.record.cluster = Some(other.clone());
        match ask(connection, exchange, &other, (tries, chosen)).await {
            Ok(start) => {
                exchange.fell_back = true;
                return Ok(start);
            }
            Err(failed) => failure = failed,
        }
        exchange.record.cluster = Some(cluster.clone());
    }
    exchange.admission = None;
    Err(failure)
}

/// Whether the request can be sent to another cluster: all of it is still here, time is left, and the protocol is the same or
/// there is nothing but a head.
fn can_go(exchange: &Exchange, other: &WorkerCluster, tries: &Tries<'_>) -> bool {
    let Some(relay) = &exchange.relay else { return false };
    let in_time = relay.deadlines.route.is_none_or(|over| Instant::now() < over);
    let fits = exchange.request.body.is_empty() || other.protocol(exchange.request.version) == tries.protocol;
    in_time && fits && exchange.can_send_again()
}

async fn ask(
    connection: &mut Connection,
    exchange: &mut Exchange,
    other: &Rc<WorkerCluster>,
    (before, chosen): (Tries<'_>, &Chosen<'_>),
) -> Result<ResponseStart, Failure> {
    exchange.permit = None;
    exchange.admission = Some(Admission::new(other));
    exchange.retries_used_up = false;
    exchange.affinity = Affinity::default();
    if let Some(affinity) = &other.cluster.affinity {
        exchange.affinity.read(affinity, connection, &exchange.request);
    }
    let mut tries = Tries {
        policy: chosen.route.retries(&other.cluster),
        tried: SmallVec::new(),
        retries: 0,
        stale: 0,
        began: Instant::now(),
        criticality: permit::criticality(&exchange.request, &connection.client, other, chosen.route),
        head_length: before.head_length,
        protocol: other.protocol(exchange.request.version),
    };
    if tries.protocol != before.protocol {
        let deadlines = exchange.relay.as_ref().map(|relay| relay.deadlines).unwrap_or_default();
        if let Some(mut relay) = exchange.relay.take() {
            relay.upload.dispose(&connection.worker.buffers);
        }
        tries.head_length = forward::begin_relay(connection, exchange, tries.protocol, deadlines);
    }
    again::start_again(exchange, &mut tries);
    forward::until_answered(connection, exchange, other, &mut tries).await
}

/// Says of the answer on its way that another destination gave it.
pub(crate) fn mark(connection: &Connection, exchange: &mut Exchange) {
    exchange.record.details = "fallback_destination";
    connection.worker.response.borrow_mut().headers.set(MARK, b"destination");
}

/// The cluster whose kept or fixed answer stands in for a failure. Calls of gRPC have no use for it.
pub(crate) fn of_failure(exchange: &Exchange, failure: &Failure) -> Option<Rc<WorkerCluster>> {
    let cluster = exchange.record.cluster.as_ref()?;
    if !kept::is_found(exchange) {
        cluster.cluster.fallback.as_ref()?.response.as_ref()?;
    }
    let stands_in = stands_for_no_answer(failure) && !exchange.is_grpc && exchange.request.upgrade.is_none();
    stands_in.then(|| cluster.clone())
}

/// Gives the last good answer, where one was found, else the fixed answer of the cluster.
pub(crate) async fn respond(connection: &mut Connection, exchange: &mut Exchange, cluster: &WorkerCluster) -> After {
    if let Some(after) = kept::respond(connection, exchange, cluster).await {
        return after;
    }
    let Some(response) = cluster.cluster.fallback.as_ref().and_then(|fallback| fallback.response.as_ref()) else {
        return After::Abort;
    };
    cluster.metrics.count(ClusterCounter::FallbackResponse);
    exchange.record.status = response.status;
    exchange.record.details = "fallback_response";
    {
        let head = &mut *connection.worker.response.borrow_mut();
        let content_type = (!response.body.is_empty()).then_some(own_answer::PLAIN_TEXT);
        head.become_local(response.status, content_type, response.body.len());
        for (name, value) in &response.headers {
            head.headers.set(name, value.as_bytes());
        }
        head.headers.set(MARK, b"response");
    }
    own_answer::send(connection, exchange, &response.body, false).await
}
