//! Stop seven: handing the answer of an endpoint on. Answers of our own are in `own_answer.rs`.

use std::io::Write;
use std::task::Poll;
use std::time::{Duration, Instant};

use meshwright_codec::{ReplyFraming, write_http2_response, write_response_head};
use meshwright_message::{BodyLength, HeaderName, Method, RequestHead, ResponseHead, Version};
use meshwright_model::{Failure, FailureKind, HeaderOperations, Stage};
use meshwright_telemetry::{ClusterCounter, Counter};
use meshwright_wire::{Buffers, Direction, Protocol, Relay, RelayError, ResponseStart, Side};

use crate::connection::{After, Connection};
use crate::exchange::Exchange;
use crate::forward::Answer;
use crate::request::Chosen;
use crate::{broken, fallback, grpc, rate, shareable, upgrade};

/// Value of `server` in answers that have none.
const SERVER: &[u8] = b"meshwright";

/// Hands the answer of the endpoint on, both bodies to their ends.
pub(crate) async fn relay(
    connection: &mut Connection,
    exchange: &mut Exchange,
    chosen: &Chosen<'_>,
    answer: Answer<'_>,
) -> Result<After, Failure> {
    let start = answer.start;
    let status = exchange.answer.status;
    let is_upgrade = status == 101;
    if is_upgrade {
        check_upgrade(exchange, connection.worker.response.borrow().upgrade.as_deref())?;
        upgrade::accept(connection, exchange)?;
    }
    exchange.record.answered(status);
    if exchange.is_grpc {
        // A call without a body has its status in the head; others have it in the trailers.
        exchange.record.grpc_status = grpc::status(&connection.worker.response.borrow().headers);
    }
    if exchange.retries_used_up {
        exchange.record.retries_were_used_up();
    }
    if exchange.shareable.is_some() {
        shareable::judge(connection, exchange, &connection.worker.response.borrow());
    }
    decorate(connection, exchange, &chosen.route.headers, &answer.destination.headers);
    rate::tell(connection, exchange);
    if exchange.fell_back {
        fallback::mark(connection, exchange);
    }
    if let Some(cluster) = &exchange.record.cluster {
        exchange.affinity.give_cookies(&cluster.cluster, &connection.worker);
    }
    let closes = begin(connection, exchange, is_upgrade);
    if is_upgrade {
        return Ok(Box::pin(tunnel(connection, exchange, start)).await);
    }
    shareable::copy(exchange);
    let moved = move_bodies(connection, exchange, start).await;
    match finish(connection, exchange, moved, closes)? {
        Some(after) => Ok(after),
        None => Ok(Box::pin(discard_rest(connection, exchange)).await),
    }
}

/// A connection changes its protocol only when that was asked for and nothing of the request is still on its way.
fn check_upgrade(exchange: &Exchange, chosen: Option<&str>) -> Result<(), Failure> {
    let Some(asked) = exchange.request.upgrade.as_deref() else {
        return Err(switched("it switched the protocol without being asked"));
    };
    let cause = if !upgrade::was_offered(chosen, asked) {
        "it switched to a protocol that it was not asked for"
    } else if !exchange.relay.as_ref().is_some_and(Relay::upload_is_done) {
        "it switched the protocol before the request was complete"
    } else {
        return Ok(());
    };
    Err(switched(cause))
}

fn switched(cause: &'static str) -> Failure {
    Failure::new(Stage::Forward, FailureKind::UpstreamProtocol).because(cause)
}

/// Adds what the proxy adds to every answer, and the changes of route and destination.
fn decorate(
    connection: &Connection,
    exchange: &mut Exchange,
    of_route: &HeaderOperations,
    of_destination: &HeaderOperations,
) {
    let Exchange { record, answered_at, .. } = exchange;
    let response = &mut *connection.worker.response.borrow_mut();
    if let Some(time) = record.service_time {
        let value = &mut *connection.worker.value.borrow_mut();
        value.clear();
        push_millis(time, value);
        response.headers.set_known(HeaderName::XEnvoyUpstreamServiceTime, value);
    }
    add_standard_headers(connection, response, *answered_at);
    change_response(response, of_route);
    change_response(response, of_destination);
}

fn push_millis(time: Duration, out: &mut Vec<u8>) {
    match time.as_millis() {
        below_ten @ 0..10 => out.push(b'0' + below_ten as u8),
        // Writing into memory cannot fail.
        more => drop(write!(out, "{more}")),
    }
}

pub(crate) fn add_standard_headers(connection: &Connection, head: &mut ResponseHead, now: Option<Instant>) {
    if !head.headers.has(HeaderName::Server) {
        head.headers.push_known(HeaderName::Server, SERVER);
    }
    if !head.headers.has(HeaderName::Date) {
        let now = now.unwrap_or_else(Instant::now);
        connection.worker.clock.http_date(now, |date| head.headers.push_known(HeaderName::Date, date));
    }
}

pub(crate) fn change_response(head: &mut ResponseHead, operations: &HeaderOperations) {
    for name in &operations.response_remove {
        head.headers.remove(name.as_bytes());
    }
    for (name, value) in &operations.response_set {
        head.headers.set(name, value.as_bytes());
    }
    for (name, value) in &operations.response_add {
        head.headers.push(name.as_bytes(), value.as_bytes());
    }
}

/// Sends the head to this client, or writes it into the way down; returns whether the client's connection ends with the
/// answer.
fn begin(connection: &mut Connection, exchange: &mut Exchange, is_upgrade: bool) -> bool {
    let is_draining = connection.is_draining();
    let Exchange { request, relay, record, answer_begun, .. } = exchange;
    let Connection { worker, side, .. } = connection;
    let response = &*worker.response.borrow();
    let Some(relay) = relay else { return true };
    *answer_begun = true;
    let body = framing(request, response);
    if is_upgrade {
        relay.become_tunnel(&worker.limits);
    } else {
        relay.download.begin(response.body, body, &worker.limits.body);
        relay.upload.release(&worker.buffers);
        relay.upload.let_end();
    }
    if let Side::Http2(stream) = side {
        // A stream that was reset meanwhile is noticed when the body moves.
        let _ =
            stream.send_head(write_http2_response(response, response.body), response.body.is_empty() && !is_upgrade);
        record.head_bytes_sent +=
            response.headers.iter().map(|(_, name, value)| (name.len() + value.len()) as u64).sum::<u64>();
        return false;
    }
    // After a final answer to its expectation a client may leave its body out: what follows could not be told apart.
    let body_in_doubt = request.expect_continue && relay.upload.moved == 0 && !relay.upload.has_ended();
    let close = !is_upgrade && (!request.keep_alive || body == BodyLength::UntilClose || is_draining || body_in_doubt);
    let out = relay.download.out(&worker.buffers);
    let queued = out.len();
    write_response_head(response, ReplyFraming { version: request.version, close, body }, out);
    record.head_bytes_sent += (out.len() - queued) as u64;
    close
}

/// How the body of an answer is framed towards a client.
fn framing(request: &RequestHead, response: &ResponseHead) -> BodyLength {
    let has_none = request.method == Method::Head || matches!(response.status, 100..=199 | 204 | 304);
    match (response.body, request.version) {
        // A stream frames its body itself.
        (_, Version::Http2) => BodyLength::UntilClose,
        (BodyLength::Chunked | BodyLength::UntilClose, Version::Http10) => BodyLength::UntilClose,
        // The client need not lose its connection because the endpoint closes its own.
        (BodyLength::UntilClose, Version::Http11) => BodyLength::Chunked,
        // A stream of HTTP/2 that ended with its head: HTTP/1 has to say so.
        (BodyLength::Empty, _) if !has_none => BodyLength::Sized(0),
        (framed, _) => framed,
    }
}

async fn move_bodies(
    connection: &mut Connection,
    exchange: &mut Exchange,
    start: ResponseStart,
) -> Result<(), RelayError> {
    let (Some(relay), Some(lease)) = (&mut exchange.relay, &mut exchange.upstream) else { return Ok(()) };
    let Some(mut ends) = connection.ends(lease) else { return Ok(()) };
    let mut start = Some(start);
    std::future::poll_fn(|cx| {
        if let Some(start) = start.take() {
            relay.begin_response(cx, &start, &mut ends)?;
        }
        relay.poll_finish(cx, &mut ends)
    })
    .await
}

/// After the bodies: the upstream connection is kept or closed, the client's serves on or ends. `None`: what is left of the
/// request has to be read before that is known.
fn finish(
    connection: &mut Connection,
    exchange: &mut Exchange,
    moved: Result<(), RelayError>,
    closes: bool,
) -> Result<Option<After>, Failure> {
    let (Some(relay), Some(_)) = (&exchange.relay, &exchange.upstream) else { return Ok(Some(After::Close)) };
    exchange.record.body_bytes_received = relay.upload.moved;
    exchange.record.body_bytes_sent = relay.download.moved;
    let cluster = exchange.record.cluster.clone();
    if let Err(error) = moved {
        exchange.discard_upstream(&connection.worker);
        if let (RelayError::RouteDeadline, Some(cluster)) = (&error, &cluster) {
            cluster.metrics.count(ClusterCounter::UpstreamRqTimeout);
        }
        return Err(broken::failure_of(&mut exchange.record, Stage::Respond, error));
    }
    exchange.record.complete();
    let (Some(relay), Some(lease)) = (&exchange.relay, &mut exchange.upstream) else { return Ok(Some(After::Close)) };
    if exchange.is_grpc
        && let Some(status) = relay.download.trailers().and_then(grpc::status)
    {
        exchange.record.grpc_status = Some(status);
    }
    let answer = exchange.answer;
    let reusable = answer.keep_alive
        && answer.body != BodyLength::UntilClose
        && relay.upload_is_done()
        && lease.side().is_some_and(|side| side.is_clean());
    // An answer that was handed on in the poll in which it came took no time that is worth a reading of the clock.
    let at_once = exchange.answered_at.filter(|_| !relay.has_waited());
    let now = at_once.unwrap_or_else(Instant::now);
    exchange.record.ended = Some(now);
    connection.worker.clock.note(now);
    match cluster {
        Some(cluster) if reusable => {
            lease.give_back(&cluster.pool_limits, answer.keep_alive_timeout, now);
        }
        _ => lease.discard(&connection.worker.buffers),
    }
    // It ends where it lies: to move it out would copy it.
    exchange.upstream = None;
    if closes {
        let is_done = !exchange.request.keep_alive && relay.upload.has_ended();
        return Ok(Some(if is_done { After::Done } else { After::Close }));
    }
    let is_whole = relay.upload.has_ended() || connection.side.is_http2();
    Ok(is_whole.then_some(After::KeepAlive))
}

async fn discard_rest(connection: &mut Connection, exchange: &mut Exchange) -> After {
    let Some(mut upload) = exchange.relay.take().map(|relay| relay.upload) else { return After::Close };
    discard_request(connection, exchange, &mut upload).await
}

/// Reads what is left of a request body after an early answer, so that the next request can be found behind it.
pub(crate) async fn discard_request(
    connection: &mut Connection,
    exchange: &mut Exchange,
    upload: &mut Direction,
) -> After {
    let Connection { worker, side: Side::Http1(link), deadline, .. } = connection else { return After::KeepAlive };
    let now = Instant::now();
    // For the service and for the record the exchange is over; only the client still owes bytes.
    exchange.admission = None;
    exchange.record.ended = Some(now);
    deadline.set_after(now, worker.limits.head_timeout);
    let complete =
        std::future::poll_fn(|cx| match upload.poll_drop(cx, link, worker.limits.discard, &worker.buffers) {
            Poll::Ready(done) => Poll::Ready(done.unwrap_or(false)),
            Poll::Pending => deadline.poll_over(cx).map(|()| false),
        })
        .await;
    exchange.record.body_bytes_received = upload.moved;
    worker.clock.read();
    if complete { After::KeepAlive } else { After::Close }
}

/// Carries bytes both ways after a 101 answer, until both sides have ended.
async fn tunnel(connection: &mut Connection, exchange: &mut Exchange, start: ResponseStart) -> After {
    connection.worker.metrics.count(Counter::DownstreamUpgrades);
    let (Some(relay), Some(lease)) = (&mut exchange.relay, &mut exchange.upstream) else { return After::Abort };
    connection.deadline.clear();
    let Some(mut ends) = connection.ends(lease) else { return After::Abort };
    let mut start = Some(start);
    let ended = std::future::poll_fn(|cx| {
        if let Some(start) = start.take() {
            relay.begin_response(cx, &start, &mut ends)?;
        }
        relay.poll_tunnel(cx, &mut ends)
    })
    .await;
    exchange.record.body_bytes_received = relay.upload.moved;
    exchange.record.body_bytes_sent = relay.download.moved;
    exchange.record.complete();
    match ended {
        Ok(()) => {
            if let (Some(mut lease), Some(cluster)) = (exchange.upstream.take(), &exchange.record.cluster)
                && lease.protocol() == Protocol::Http2
            {
                lease.give_back(&cluster.pool_limits, None, Instant::now());
            }
            After::Close
        }
        Err(_) => After::Abort,
    }
}

/// Hands an informational answer on; HTTP/1.0 clients do not know them. Returns its length, where it has one.
pub(crate) fn queue_interim(
    relay: &mut Relay,
    downstream: &mut Side,
    buffers: &Buffers,
    request: &RequestHead,
    head: &ResponseHead,
) -> u64 {
    if request.version == Version::Http10 {
        return 0;
    }
    if let Side::Http2(stream) = downstream {
        stream.send_informational(write_http2_response(head, BodyLength::Empty));
        return 0;
    }
    let out = relay.download.out(buffers);
    let queued = out.len();
    let framing = ReplyFraming { version: request.version, close: false, body: BodyLength::Empty };
    write_response_head(head, framing, out);
    (out.len() - queued) as u64
}
