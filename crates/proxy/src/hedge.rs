//! A late request that only reads is sent to another endpoint too; the first answer wins, and the other try is cancelled: its
//! connection is closed or its stream reset, its permit says nothing of its endpoint.
//!
//! Costs a look whether the cluster hedges; where it does, a short lock for the delay and one for each latency. A hedge takes
//! a place of the retry budget. When a request is late is decided in `meshwright-traffic`. Read next: `forward.rs`.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::Request;
use meshwright_codec::write_http2_request;
use meshwright_message::BodyLength;
use meshwright_model::{Failure, FailureKind, Stage};
use meshwright_telemetry::ClusterCounter;
use meshwright_traffic::Observation;
use meshwright_wire::{Deadlines, Lease, Protocol, Relay, RelayError, ResponseStart};

use crate::connection::Connection;
use crate::exchange::Exchange;
use crate::forward::{self, Awaited, Tries};
use crate::lease::{Admission, Place, Wanted};
use crate::outlier;
use crate::permit::{self, TryPermit};
use crate::view::WorkerCluster;

/// How long this request may take until it is hedged; `None` when it never is.
pub(crate) fn delay(exchange: &Exchange, cluster: &WorkerCluster, now: Instant) -> Option<Duration> {
    let of = &cluster.cluster;
    let hedge = of.hedge.as_ref()?;
    let head = &exchange.request;
    let fits = head.method.is_safe()
        && head.body.is_empty()
        && head.upgrade.is_none()
        && exchange.can_send_again()
        && of.addresses.len() > 1
        // Such a connection is another client's.
        && of.proxy_protocol.is_none();
    if fits { hedge.delay(now) } else { None }
}

/// The other try.
struct Second<'a> {
    place: Place<'a>,
    permit: Option<Box<TryPermit>>,
    /// The host that the answer's cookie would name.
    affine: Option<u32>,
}

/// Waits for the answer of a try that was sent, and after `delay` for that of another one too. `host` becomes the host of the
/// try that won.
pub(crate) async fn race(
    connection: &mut Connection,
    exchange: &mut Exchange,
    cluster: &Rc<WorkerCluster>,
    (tries, host): (&Tries<'_>, &mut usize),
    delay: Duration,
) -> Result<ResponseStart, RelayError> {
    if let Some(answered) = within(connection, exchange, tries.began.checked_add(delay)).await {
        return answered;
    }
    let Some(second) = pick(connection, exchange, cluster, tries, *host) else {
        return forward::await_answer(connection, exchange).await;
    };
    let second_host = second.place.host();
    let (mut relay, request) = begin(connection, exchange, cluster, tries.protocol);
    let wanted = Wanted { host: second_host, protocol: tries.protocol, fresh_only: false, header: &[] };
    let mut other = Other { relay: &mut relay, lease: None, failed: false, is_to_blame: false };
    let deadlines = other.relay.deadlines;
    let ended = {
        let mut leasing = pin!(lease(cluster, wanted, &deadlines, request));
        let mut first_failed = None;
        std::future::poll_fn(|cx| {
            if first_failed.is_none()
                && let Poll::Ready(ended) = poll_first(cx, connection, exchange)
            {
                match ended {
                    Err(error) if is_of_endpoint(&error) && !other.failed => first_failed = Some(error),
                    ended => return Poll::Ready((ended, false, None)),
                }
            }
            if !other.failed {
                if other.lease.is_none()
                    && let Poll::Ready(leased) = leasing.as_mut().poll(cx)
                {
                    other.leased(leased, cluster);
                }
                match other.poll(cx, connection, exchange) {
                    Poll::Ready(Err(error)) if is_of_endpoint(&error) => other.fail(),
                    Poll::Ready(ended) => return Poll::Ready((ended, true, first_failed.take())),
                    Poll::Pending => {}
                }
            }
            match first_failed.take() {
                Some(error) if other.failed => Poll::Ready((Err(error), false, None)),
                error => {
                    first_failed = error;
                    Poll::Pending
                }
            }
        })
        .await
    };
    let (ended, second_ended, first_failed) = ended;
    let lease = other.lease.take();
    if other.is_to_blame {
        outlier::observe(&connection.worker, cluster, second_host, Observation::LocalOrigin, Instant::now());
    }
    if second_ended && ended.is_ok() {
        if first_failed.is_some() {
            outlier::observe(&connection.worker, cluster, *host, Observation::LocalOrigin, Instant::now());
        }
        *host = second_host;
        replace(connection, exchange, (relay, lease), second);
        cluster.metrics.count(ClusterCounter::HedgesWon);
    } else {
        relay.upload.dispose(&connection.worker.buffers);
        relay.download.dispose(&connection.worker.buffers);
        if let Some(mut lease) = lease {
            lease.discard(&connection.worker.buffers);
        }
    }
    ended
}

/// The answer, when it comes before `late`.
async fn within(
    connection: &mut Connection,
    exchange: &mut Exchange,
    late: Option<Instant>,
) -> Option<Result<ResponseStart, RelayError>> {
    let mut first = pin!(forward::await_answer(connection, exchange));
    let Some(late) = late else { return Some(first.await) };
    let mut timer = pin!(tokio::time::sleep_until(late.into()));
    std::future::poll_fn(|cx| match first.as_mut().poll(cx) {
        Poll::Ready(answered) => Poll::Ready(Some(answered)),
        Poll::Pending => timer.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// Another host, and leave to send it the request; `None` when there is neither budget nor host. What the exchange holds for
/// the first try stays.
fn pick<'a>(
    connection: &Connection,
    exchange: &mut Exchange,
    cluster: &'a Rc<WorkerCluster>,
    tries: &Tries<'_>,
    first: usize,
) -> Option<Second<'a>> {
    let now = Instant::now();
    let held = (exchange.permit.take(), exchange.affinity);
    let mut tried = tries.tried.clone();
    tried.push(first as u32);
    let picked = permit::pick(&connection.worker, cluster, exchange, &tried, (tries.criticality, now));
    let (permit, affine) = (exchange.permit.take(), exchange.affinity.host);
    (exchange.permit, exchange.affinity) = held;
    let place = picked.ok().filter(|place| place.host() != first)?;
    let allowed = exchange.admission.as_mut().is_some_and(Admission::try_hedge);
    allowed.then(|| Second { place, permit, affine })
}

/// What moves the request a second time: the same bytes, or the same head for a stream.
fn begin(
    connection: &Connection,
    exchange: &mut Exchange,
    cluster: &WorkerCluster,
    protocol: Protocol,
) -> (Relay, Option<Request<()>>) {
    let worker = &connection.worker;
    let framing = if protocol == Protocol::Http2 { BodyLength::UntilClose } else { BodyLength::Empty };
    let mut relay = Relay::new(BodyLength::Empty, framing, &worker.limits);
    relay.upload.retain();
    if let Some(first) = &mut exchange.relay {
        relay.deadlines = first.deadlines;
        if protocol == Protocol::Http1 {
            relay.upload.out(&worker.buffers).extend_from_slice(first.upload.out(&worker.buffers));
        }
    }
    // The first try was sent with this head: it can be written.
    let request = (protocol == Protocol::Http2).then(|| write_http2_request(&exchange.request, cluster.scheme()).ok());
    (relay, request.flatten())
}

/// A connection, and the stream of the request where there is one.
async fn lease(
    cluster: &Rc<WorkerCluster>,
    wanted: Wanted<'_>,
    deadlines: &Deadlines,
    request: Option<Request<()>>,
) -> Result<Lease, Failure> {
    let kept = cluster.checkout(wanted.host, wanted.protocol, Instant::now());
    let mut lease = match kept {
        Some(lease) => lease,
        None => cluster.lease(wanted, deadlines, &Cell::new(false)).await?,
    };
    if let Some(request) = request {
        let opened = lease.open_stream(request, None, true);
        opened.map_err(|cause| Failure::new(Stage::Forward, FailureKind::UpstreamClosed).because(cause))?;
    }
    Ok(lease)
}

fn poll_first(
    cx: &mut Context<'_>,
    connection: &mut Connection,
    exchange: &mut Exchange,
) -> Poll<Result<ResponseStart, RelayError>> {
    let Exchange { request, relay, upstream, record, .. } = exchange;
    let (Some(relay), Some(lease)) = (relay, upstream) else { return Poll::Pending };
    forward::poll_answer(cx, connection, &mut Awaited { relay, lease, request, record: Some(record) })
}

/// The way of the other try.
struct Other<'a> {
    relay: &'a mut Relay,
    lease: Option<Lease>,
    failed: bool,
    /// Its endpoint is what it failed at.
    is_to_blame: bool,
}

impl Other<'_> {
    fn leased(&mut self, leased: Result<Lease, Failure>, cluster: &WorkerCluster) {
        match leased {
            Ok(lease) => {
                cluster.metrics.count(ClusterCounter::UpstreamRqTotal);
                self.lease = Some(lease);
            }
            Err(failure) => {
                self.failed = true;
                self.is_to_blame = failure.kind == FailureKind::ConnectFailure;
            }
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
        exchange: &Exchange,
    ) -> Poll<Result<ResponseStart, RelayError>> {
        let Some(lease) = &mut self.lease else { return Poll::Pending };
        let mut awaited = Awaited { relay: self.relay, lease, request: &exchange.request, record: None };
        forward::poll_answer(cx, connection, &mut awaited)
    }

    fn fail(&mut self) {
        self.failed = true;
        self.is_to_blame = true;
    }
}

/// Whether only this endpoint is lost; else the whole request is over.
fn is_of_endpoint(error: &RelayError) -> bool {
    matches!(error, RelayError::Upstream { .. } | RelayError::UpstreamInvalid(_))
}

/// The other try takes the place of the first, which is cancelled.
fn replace(
    connection: &Connection,
    exchange: &mut Exchange,
    (relay, lease): (Relay, Option<Lease>),
    second: Second<'_>,
) {
    let buffers = &connection.worker.buffers;
    if let Some(mut first) = exchange.relay.replace(relay) {
        first.upload.dispose(buffers);
        first.download.dispose(buffers);
    }
    if let Some(lease) = &lease
        && connection.worker.log.is_some()
    {
        exchange.record.upstream_local = lease.local_address().map(Box::new);
    }
    if let Some(mut first) = std::mem::replace(&mut exchange.upstream, lease) {
        first.discard(buffers);
    }
    exchange.permit = second.permit;
    exchange.affinity.host = second.affine;
    if let Some(cluster) = &exchange.record.cluster {
        exchange.record.upstream = Some(cluster.cluster.addresses[second.place.host()]);
    }
    if let Some(admission) = &mut exchange.admission {
        admission.occupy(second.place);
    }
}
