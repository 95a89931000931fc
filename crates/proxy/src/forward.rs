//! Stop six: choosing a destination and an endpoint, sending the request, until there is an answer or no hope of one.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use meshwright_codec::{write_http2_request, write_request_head};
use meshwright_message::{BodyLength, HeaderName, Method, RequestHead};
use meshwright_model::{Failure, FailureKind, RetryPolicy, Stage};
use meshwright_snapshot::{Forward, WeightedCluster};
use meshwright_telemetry::ClusterCounter;
use meshwright_traffic::{Criticality, NoHost, Observation};
use meshwright_wire::{Deadlines, Ends, Lease, Protocol, Relay, RelayError, ResponseStart, Reuse};
use smallvec::SmallVec;

use crate::affinity::Affinity;
use crate::connection::Connection;
use crate::exchange::{Answered, Exchange};
use crate::lease::{Admission, Place, Wanted};
use crate::listener::ListenerView;
use crate::record::Record;
use crate::request::Chosen;
use crate::view::WorkerCluster;
use crate::worker::Worker;
use crate::{
    admit, again, broken, coalesce, fallback, hedge, load_probe, outlier, permit, rate, respond, shareable, timeout,
    upgrade,
};

/// Requests that are sent again because a kept connection was closed try a kept one at most this often; then a new one.
const STALE_TRIES: u32 = 2;
/// Picks of an endpoint whose last place another worker takes at the same moment, until the service counts as full.
const RACES: usize = 16;

/// What the tries so far have taught.
pub(crate) struct Tries<'a> {
    /// What is tried again.
    pub(crate) policy: &'a RetryPolicy,
    /// Hosts to avoid, by index.
    pub(crate) tried: SmallVec<[u32; 4]>,
    /// Retries of the policy that were made.
    pub(crate) retries: u32,
    /// Times that a kept connection was found closed.
    pub(crate) stale: u32,
    /// When the try began; the start of the request for the first.
    pub(crate) began: Instant,
    /// How much it matters that the request is answered, where the cluster asks for it.
    pub(crate) criticality: Criticality,
    /// Length of the request head within what is sent; a stream is opened with its head instead.
    pub(crate) head_length: usize,
    /// What is spoken to the endpoints.
    pub(crate) protocol: Protocol,
}

/// A try that ended without an answer.
pub(crate) struct TryFailure {
    pub(crate) failure: Failure,
    /// The host that is to blame, when one is.
    pub(crate) host: Option<usize>,
    pub(crate) nothing_sent: bool,
    pub(crate) answered: bool,
    pub(crate) reuse: Option<Reuse>,
}

impl TryFailure {
    fn before_sending(failure: Failure, host: Option<usize>) -> Self {
        Self { failure, host, nothing_sent: true, answered: false, reuse: None }
    }
}

/// The answer of an endpoint; its head is in the worker until the task yields, the lease of its connection in the exchange.
pub(crate) struct Answer<'a> {
    /// Where the body begins. Only valid until the task yields.
    pub(crate) start: ResponseStart,
    /// The destination that was chosen.
    pub(crate) destination: &'a WeightedCluster,
}

/// Sends the request until an endpoint answers; `None` when the answer of an identical request was found instead.
pub(crate) async fn first_answer<'a>(
    connection: &mut Connection,
    exchange: &mut Exchange,
    listener: &ListenerView,
    chosen: &Chosen<'_>,
    forward: &'a Forward,
) -> Result<Option<Answer<'a>>, Failure> {
    let destination = choose(&connection.worker, forward);
    let Some(index) = destination.target.cluster(chosen.site.port) else {
        return Err(Failure::new(Stage::Forward, FailureKind::NoCluster));
    };
    let cluster = listener.view.clusters[index].clone();
    exchange.record.cluster = Some(cluster.clone());
    exchange.admission = Some(Admission::new(&cluster));
    if let Some(affinity) = &cluster.cluster.affinity {
        exchange.affinity.read(affinity, connection, &exchange.request);
    }
    rate::admit(connection, exchange, &cluster, chosen.route)?;
    shareable::begin(exchange, &cluster, forward, destination);
    let mut tries = prepare(connection, exchange, chosen, destination, &cluster);
    let followed = match coalesce::join(exchange) {
        Some(follower) => Box::pin(coalesce::wait(connection, exchange, follower, &mut tries)).await,
        None => Ok(false),
    };
    let ended = match followed {
        Ok(true) => return Ok(None),
        Ok(false) => until_answered(connection, exchange, &cluster, &mut tries).await,
        Err(failure) => Err(failure),
    };
    let start = if fallback::is_wanted(exchange, &cluster, &ended) {
        let other = fallback::destination(&listener.view, index, chosen);
        Box::pin(fallback::elsewhere(connection, exchange, (&cluster, other), (tries, chosen), ended)).await?
    } else {
        ended?
    };
    Ok(Some(Answer { start, destination }))
}

/// Tries until an endpoint of the cluster answers, or there is no hope of it.
pub(crate) async fn until_answered(
    connection: &mut Connection,
    exchange: &mut Exchange,
    cluster: &Rc<WorkerCluster>,
    tries: &mut Tries<'_>,
) -> Result<ResponseStart, Failure> {
    loop {
        let ended = one_try(connection, exchange, cluster, tries).await;
        if ended.is_err() {
            exchange.end_try();
        }
        let again = match ended {
            Ok(start) => match again::after_answer(connection, exchange, cluster, tries) {
                Some(again) => {
                    again::recycle(exchange, cluster, &start);
                    exchange.end_try();
                    again
                }
                None => return Ok(start),
            },
            Err(failed) => again::after_failure(&connection.worker, exchange, cluster, tries, failed)?,
        };
        Box::pin(again::pause(&connection.worker, tries, again)).await;
        again::start_again(exchange, tries);
    }
}

pub(crate) fn choose<'a>(worker: &Worker, forward: &'a Forward) -> &'a WeightedCluster {
    if let [only] = forward.destinations.as_slice() {
        return only;
    }
    forward.choose(worker.rng.borrow_mut().u32(..forward.total_weight))
}

/// Applies the changes of route and destination, and writes the request head into the relay, where bytes carry it.
fn prepare<'a>(
    connection: &Connection,
    exchange: &mut Exchange,
    chosen: &Chosen<'a>,
    destination: &WeightedCluster,
    cluster: &'a WorkerCluster,
) -> Tries<'a> {
    let route = chosen.route;
    let policy = route.retries(&cluster.cluster);
    let head = &mut exchange.request;
    let protocol = cluster.protocol(head.version);
    let criticality = permit::criticality(head, &connection.client, cluster, route);
    admit::change_request(head, &route.headers);
    admit::change_request(head, &destination.headers);
    if let Some(rewrite) = &route.rewrite {
        admit::rewrite(head, rewrite, chosen.found.prefix_len);
    }
    shareable::rewritten(exchange);
    let head = &mut exchange.request;
    head.headers.set_known(HeaderName::XEnvoyAttemptCount, b"1");
    // A head that came in pieces took its time: its first byte is no measure of now.
    let began = exchange.record.started.filter(|_| !exchange.record.head_came_in_pieces).unwrap_or_else(Instant::now);
    upgrade::translate(connection, head, protocol, &mut exchange.websocket_key);
    let mut deadlines = Deadlines::default();
    timeout::begin(&mut deadlines, head, exchange.is_grpc, (route.timeout, policy.per_try_timeout), began);
    let head_length = begin_relay(connection, exchange, protocol, deadlines);
    if connection.worker.log.is_none() && protocol == Protocol::Http1 && cluster.cluster.fallback.is_none() {
        // Only the log and another destination would still ask for it.
        exchange.release_head(&connection.worker);
    }
    Tries { policy, tried: SmallVec::new(), retries: 0, stale: 0, began, criticality, head_length, protocol }
}

/// Makes what moves the request, with its head in it where bytes carry that; returns the length of the head.
pub(crate) fn begin_relay(
    connection: &Connection,
    exchange: &mut Exchange,
    protocol: Protocol,
    deadlines: Deadlines,
) -> usize {
    // Made where it stays: it is large enough for a copy to be seen.
    let Exchange { request: head, relay, is_grpc, .. } = exchange;
    // A stream frames its body itself.
    let framing = if protocol == Protocol::Http2 { BodyLength::UntilClose } else { head.body };
    let relay = relay.insert(Relay::new(head.body, framing, &connection.worker.limits));
    relay.deadlines = deadlines;
    if *is_grpc {
        relay.allow_pauses();
    }
    relay.upload.retain();
    let mut head_length = 0;
    relay.upload.hold_open(protocol == Protocol::Http2 && head.upgrade.is_some());
    if protocol == Protocol::Http1 {
        let out = relay.upload.out(&connection.worker.buffers);
        write_request_head(head, out);
        head_length = out.len();
    }
    head_length
}

/// One try: pick, connect, send, wait for the head.
async fn one_try(
    connection: &mut Connection,
    exchange: &mut Exchange,
    cluster: &Rc<WorkerCluster>,
    tries: &mut Tries<'_>,
) -> Result<ResponseStart, TryFailure> {
    let picked = permit::pick(&connection.worker, cluster, exchange, &tries.tried, (tries.criticality, tries.began));
    let place = picked.map_err(|failure| TryFailure::before_sending(failure, None))?;
    let mut host = place.host();
    if let Some(admission) = &mut exchange.admission {
        admission.occupy(place);
    }
    load_probe::begin(cluster, tries.began);
    let of_try = tries.policy.per_try_timeout.and_then(|time| tries.began.checked_add(time));
    let deadlines = match &mut exchange.relay {
        Some(relay) => {
            relay.deadlines.of_try = of_try;
            relay.deadlines
        }
        None => Deadlines::default(),
    };
    exchange.record.upstream = Some(cluster.cluster.addresses[host]);
    let header = admit::proxy_header(connection, cluster);
    let fresh_only = tries.stale >= STALE_TRIES || !header.is_empty();
    // Straight into the exchange: a future keeps every copy of what it moves.
    exchange.upstream = if fresh_only { None } else { cluster.checkout(host, tries.protocol, tries.began) };
    if exchange.upstream.is_none() {
        let wanted = Wanted { host, protocol: tries.protocol, fresh_only, header: &header };
        exchange.upstream = Some(Box::pin(lease(connection, cluster, wanted, deadlines)).await?);
    }
    if let Some(admission) = &mut exchange.admission {
        admission.enter().map_err(|failure| TryFailure::before_sending(failure, None))?;
    }
    if tries.protocol == Protocol::Http2 {
        Box::pin(open_stream(exchange, cluster)).await?;
    }
    let reuse = exchange.upstream.as_ref().map(Lease::reuse);
    if connection.worker.log.is_some() {
        exchange.record.upstream_local = exchange.upstream.as_ref().and_then(Lease::local_address).map(Box::new);
    }
    cluster.metrics.count(ClusterCounter::UpstreamRqTotal);
    let answered = match hedge::delay(exchange, cluster, tries.began) {
        None => await_answer(connection, exchange).await,
        Some(delay) => Box::pin(hedge::race(connection, exchange, cluster, (tries, &mut host), delay)).await,
    };
    let now = Instant::now();
    match answered {
        Ok(start) => {
            answered_by(connection, exchange, cluster, host, (tries.began, now));
            Ok(start)
        }
        Err(error) => {
            let unprocessed = matches!(error, RelayError::Upstream { unprocessed: true, .. });
            let untouched = exchange.relay.as_ref().is_some_and(|relay| relay.upload.is_untouched());
            let nothing_sent = unprocessed || (untouched && tries.protocol == Protocol::Http1);
            let answered =
                matches!(error, RelayError::Upstream { answered: true, .. } | RelayError::UpstreamInvalid(_));
            let failure = broken::failure_of(&mut exchange.record, Stage::Forward, error);
            Err(TryFailure { failure, host: Some(host), nothing_sent, answered, reuse })
        }
    }
}

/// Tells everybody who judges the endpoint how its answer came.
fn answered_by(
    connection: &Connection,
    exchange: &mut Exchange,
    cluster: &WorkerCluster,
    host: usize,
    (began, now): (Instant, Instant),
) {
    exchange.answer = Answered::of(&connection.worker.response.borrow());
    let service_time = now.saturating_duration_since(began);
    exchange.record.service_time = Some(service_time);
    cluster.measure(host, service_time, now);
    if let Some(hedge) = &cluster.cluster.hedge {
        hedge.record(service_time, now);
    }
    cluster.report(host, &mut connection.worker.response.borrow_mut(), now);
    outlier::observe(&connection.worker, cluster, host, Observation::Status(exchange.answer.status), now);
    if let Some(permit) = exchange.permit.take() {
        permit.answered(&connection.worker, exchange.answer.status, now);
    }
    exchange.answered_at = Some(now);
}

/// A connection to the endpoint, unless the client goes away before there is one: nobody waits for it then.
async fn lease(
    connection: &mut Connection,
    cluster: &Rc<WorkerCluster>,
    wanted: Wanted<'_>,
    deadlines: Deadlines,
) -> Result<Lease, TryFailure> {
    let connecting = Cell::new(false);
    let mut leased = pin!(cluster.lease(wanted, &deadlines, &connecting));
    let Connection { side, worker, .. } = connection;
    let leased = std::future::poll_fn(|cx| match leased.as_mut().poll(cx) {
        Poll::Ready(leased) => Poll::Ready(leased),
        Poll::Pending => side
            .poll_gone(cx, &worker.buffers)
            .map(|cause| Err(Failure::new(Stage::Forward, FailureKind::DownstreamClosed).because(cause))),
    })
    .await;
    // Waiting for a connection says nothing about the endpoint.
    leased.map_err(|failure| TryFailure::before_sending(failure, connecting.get().then_some(wanted.host)))
}

/// Opens a stream with the head of the request.
async fn open_stream(exchange: &mut Exchange, cluster: &WorkerCluster) -> Result<(), TryFailure> {
    let Exchange { request: head, upstream: Some(lease), .. } = exchange else { return Ok(()) };
    if head.upgrade.is_some() && !lease.takes_extended_connect().await {
        let failure = Failure::new(Stage::Forward, FailureKind::UpstreamProtocol)
            .because("the endpoint takes no upgrades over HTTP/2 (extended CONNECT, RFC 8441)");
        return Err(TryFailure::before_sending(failure, None));
    }
    let request = write_http2_request(head, cluster.scheme()).map_err(|error| {
        let failure = Failure::new(Stage::Forward, FailureKind::BadRequest).because(error.to_string());
        TryFailure::before_sending(failure, None)
    })?;
    let ended = head.body.is_empty() && head.upgrade.is_none();
    lease.open_stream(request, head.upgrade.as_deref(), ended).map_err(|cause| TryFailure {
        failure: Failure::new(Stage::Forward, FailureKind::UpstreamClosed).because(cause),
        host: None,
        nothing_sent: true,
        answered: false,
        reuse: Some(Reuse::Reused),
    })
}

/// A place at the host that the balancer chooses for the next try.
pub(crate) fn pick<'a>(
    worker: &Worker,
    cluster: &'a WorkerCluster,
    affinity: &mut Affinity,
    tried: &[u32],
    now: Instant,
) -> Result<Place<'a>, Failure> {
    let of = &cluster.cluster;
    let ask = affinity.ask(tried, now);
    affinity.host = None;
    if of.hosts.bulkhead().is_some_and(|bulkhead| bulkhead.observe) && of.hosts.is_full() {
        cluster.metrics.count(ClusterCounter::BulkheadRefused);
    }
    for _ in 0..RACES {
        match cluster.balancer.borrow_mut().pick(&of.hosts, &ask, &mut worker.rng.borrow_mut()) {
            Ok(host) => {
                // Another worker may have been faster.
                if let Some(place) = cluster.place(host) {
                    affinity.host = Some(host as u32);
                    return Ok(place);
                }
            }
            Err(NoHost::Full) => break,
            Err(NoHost::Unhealthy) => {
                return Err(Failure::new(Stage::Forward, FailureKind::NoHealthyUpstream).because(format!(
                    "{} has {} endpoints, none of them available",
                    of.name,
                    of.addresses.len()
                )));
            }
        }
    }
    cluster.metrics.count(ClusterCounter::BulkheadRefused);
    let most = of.hosts.bulkhead().map_or(0, |bulkhead| bulkhead.max_requests);
    Err(Failure::new(Stage::Forward, FailureKind::BulkheadFull)
        .because(format!("every available endpoint of {} has {most} requests in flight", of.name)))
}

/// A request on its way to one endpoint.
pub(crate) struct Awaited<'a> {
    pub(crate) relay: &'a mut Relay,
    pub(crate) lease: &'a mut Lease,
    pub(crate) request: &'a RequestHead,
    /// Where informational answers count; `None` drops them.
    pub(crate) record: Option<&'a mut Record>,
}

/// Sends the request and waits for the final head of the answer; informational ones are handed on as they come.
pub(crate) async fn await_answer(
    connection: &mut Connection,
    exchange: &mut Exchange,
) -> Result<ResponseStart, RelayError> {
    let Exchange { request, relay, upstream, record, .. } = exchange;
    let (Some(relay), Some(lease)) = (relay, upstream) else { return Err(no_connection()) };
    let mut awaited = Awaited { relay, lease, request, record: Some(record) };
    std::future::poll_fn(|cx| poll_answer(cx, connection, &mut awaited)).await
}

fn no_connection() -> RelayError {
    RelayError::Upstream { answered: false, unprocessed: true, cause: "there is no connection".to_owned() }
}

/// Ready with the final head of the answer, which is the worker's until the task yields.
pub(crate) fn poll_answer(
    cx: &mut Context<'_>,
    connection: &mut Connection,
    awaited: &mut Awaited<'_>,
) -> Poll<Result<ResponseStart, RelayError>> {
    let worker = &connection.worker;
    let Awaited { relay, lease, request, record } = awaited;
    let Some(upstream) = lease.side() else { return Poll::Ready(Err(no_connection())) };
    let to = meshwright_codec::Answered {
        head_request: request.method == Method::Head,
        // An upgrade goes to HTTP/2 as an extended CONNECT.
        connect: upstream.is_http2() && request.upgrade.is_some(),
    };
    loop {
        // As `Connection::ends`, which would borrow the worker's response head too.
        let mut ends = Ends {
            downstream: &mut connection.side,
            upstream: &mut *upstream,
            buffers: &worker.buffers,
            limits: &worker.limits,
            deadline: &mut connection.deadline,
        };
        let head = &mut *worker.response.borrow_mut();
        let start = ready!(relay.poll_response_head(cx, &mut ends, to, head))?;
        if !head.is_informational() {
            // A response that has begun may take as long as the route allows.
            relay.deadlines.of_try = None;
            return Poll::Ready(Ok(start));
        }
        relay.keep_behind_head(&start, &mut ends);
        if let Some(record) = record {
            record.head_bytes_sent += respond::queue_interim(relay, ends.downstream, &worker.buffers, request, head);
        }
    }
}
