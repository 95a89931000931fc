//! Stop seven: handing an answer on, or giving one of our own.

use std::io::Write;
use std::sync::OnceLock;
use std::task::Poll;
use std::time::{Duration, Instant};

use meshwright_codec::{ReplyFraming, write_response_head};
use meshwright_message::{BodyLength, HeaderName, RequestHead, ResponseHead, Version};
use meshwright_model::{
    DirectResponse, Failure, FailureKind, HeaderOperations, Origin, Redirect, RedirectPort, RetryPolicy, Stage,
};
use meshwright_snapshot::{Action, Route};
use meshwright_telemetry::{Counter, RefusalReason};
use meshwright_wire::{Direction, Ends, RelayError, ResponseStart};

use crate::connection::{After, Connection};
use crate::exchange::Exchange;
use crate::forward::{self, Answer};
use crate::request::Chosen;

/// Value of `server` in answers that have none.
const SERVER: &[u8] = b"meshwright";
/// Media type of our own bodies.
const PLAIN_TEXT: &str = "text/plain";

/// Hands the answer of the endpoint on, both bodies to their ends.
pub(crate) async fn relay(
    connection: &mut Connection,
    exchange: &mut Exchange,
    chosen: &Chosen<'_>,
    answer: Answer<'_>,
) -> Result<After, Failure> {
    let start = answer.start;
    let status = exchange.response.status;
    exchange.record.answered(status);
    if exchange.retries_used_up {
        exchange.record.retries_were_used_up();
    }
    let is_upgrade = status == 101;
    if is_upgrade && exchange.request.upgrade.is_none() {
        return Err(Failure::new(Stage::Forward, FailureKind::UpstreamProtocol)
            .because("it switched the protocol without being asked"));
    }
    decorate(connection, exchange, &chosen.route.headers, &answer.destination.headers);
    let closes = begin(connection, exchange, is_upgrade);
    if is_upgrade {
        return Ok(Box::pin(tunnel(connection, exchange, start)).await);
    }
    let moved = move_bodies(connection, exchange, start).await;
    finish(connection, exchange, moved, closes).await
}

/// Adds what the proxy adds to every answer, and the changes of route and destination.
fn decorate(
    connection: &Connection,
    exchange: &mut Exchange,
    of_route: &HeaderOperations,
    of_destination: &HeaderOperations,
) {
    let Exchange { request, response, record, answered_at, .. } = exchange;
    if let Some(time) = record.service_time {
        request.spare.clear();
        push_millis(time, &mut request.spare);
        response.headers.set_known(HeaderName::XEnvoyUpstreamServiceTime, &request.spare);
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

fn add_standard_headers(connection: &Connection, head: &mut ResponseHead, now: Option<Instant>) {
    if !head.headers.has(HeaderName::Server) {
        head.headers.push_known(HeaderName::Server, SERVER);
    }
    if !head.headers.has(HeaderName::Date) {
        let now = now.unwrap_or_else(Instant::now);
        connection.worker.clock.http_date(now, |date| head.headers.push_known(HeaderName::Date, date));
    }
}

fn change_response(head: &mut ResponseHead, operations: &HeaderOperations) {
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

/// Writes the head for this client into the way down; returns whether the client's connection ends with the answer.
fn begin(connection: &Connection, exchange: &mut Exchange, is_upgrade: bool) -> bool {
    let Exchange { request, response, relay, record, answer_begun, .. } = exchange;
    let Some(relay) = relay else { return true };
    let body = match (response.body, request.version) {
        (BodyLength::Chunked | BodyLength::UntilClose, Version::Http10) => BodyLength::UntilClose,
        // The client need not lose its connection because the endpoint closes its own.
        (BodyLength::UntilClose, Version::Http11) => BodyLength::Chunked,
        (framed, _) => framed,
    };
    // After a final answer to its expectation a client may leave its body out: what follows could not be told apart.
    let body_in_doubt = request.expect_continue && relay.upload.moved == 0 && !relay.upload.has_ended();
    let close = !is_upgrade
        && (!request.keep_alive || body == BodyLength::UntilClose || connection.is_draining() || body_in_doubt);
    relay.download = Direction::new(response.body, body, &connection.worker.limits.body);
    if is_upgrade {
        relay.become_tunnel(&connection.worker.limits);
    } else {
        relay.upload.release();
    }
    let out = relay.download.out(&connection.worker.buffers);
    write_response_head(response, ReplyFraming { version: request.version, close, body }, out);
    record.head_bytes_sent += out.len() as u64;
    *answer_begun = true;
    close
}

async fn move_bodies(
    connection: &mut Connection,
    exchange: &mut Exchange,
    start: ResponseStart,
) -> Result<(), RelayError> {
    let worker = &connection.worker;
    let (Some(relay), Some(lease)) = (&mut exchange.relay, &mut exchange.upstream) else { return Ok(()) };
    let mut ends = Ends {
        downstream: &mut connection.link,
        upstream: lease.link(),
        buffers: &worker.buffers,
        limits: &worker.limits,
        deadline: &mut connection.deadline,
    };
    let mut start = Some(start);
    std::future::poll_fn(|cx| {
        if let Some(start) = start.take() {
            relay.begin_response(cx, &start, &mut ends)?;
        }
        relay.poll_finish(cx, &mut ends)
    })
    .await
}

/// After the bodies: the upstream connection is kept or closed, the client's serves on or ends.
async fn finish(
    connection: &mut Connection,
    exchange: &mut Exchange,
    moved: Result<(), RelayError>,
    closes: bool,
) -> Result<After, Failure> {
    let (Some(relay), Some(mut lease)) = (&mut exchange.relay, exchange.upstream.take()) else {
        return Ok(After::Close);
    };
    exchange.record.body_bytes_received = relay.upload.moved;
    exchange.record.body_bytes_sent = relay.download.moved;
    if let Err(error) = moved {
        lease.discard(&connection.worker.buffers);
        return Err(forward::failure_of(&mut exchange.record, Stage::Respond, error));
    }
    let cluster = exchange.record.cluster.as_ref();
    let reusable = exchange.response.keep_alive
        && exchange.response.body != BodyLength::UntilClose
        && relay.upload_is_done()
        && lease.link().ahead().is_empty();
    match cluster {
        Some(cluster) if reusable => {
            let now = exchange.answered_at.unwrap_or_else(Instant::now);
            lease.give_back(&cluster.pool_limits, exchange.response.keep_alive_timeout, now);
        }
        _ => lease.discard(&connection.worker.buffers),
    }
    if closes {
        return Ok(After::Close);
    }
    if relay.upload.has_ended() {
        return Ok(After::KeepAlive);
    }
    let mut upload = exchange.relay.take().map(|relay| relay.upload);
    Ok(Box::pin(discard_request(connection, exchange, upload.as_mut())).await)
}

/// Reads what is left of a request body after an early answer, so that the next request can be found behind it.
async fn discard_request(
    connection: &mut Connection,
    exchange: &mut Exchange,
    upload: Option<&mut Direction>,
) -> After {
    let Some(upload) = upload else { return After::Close };
    let worker = connection.worker.clone();
    let now = Instant::now();
    // For the service and for the record the exchange is over; only the client still owes bytes.
    exchange.admission = None;
    exchange.record.ended = Some(now);
    connection.deadline.set_after(now, worker.limits.head_timeout);
    let complete = std::future::poll_fn(|cx| {
        match upload.poll_drop(cx, &mut connection.link, worker.limits.discard, &worker.buffers) {
            Poll::Ready(done) => Poll::Ready(done.unwrap_or(false)),
            Poll::Pending => connection.deadline.poll_over(cx).map(|()| false),
        }
    })
    .await;
    exchange.record.body_bytes_received = upload.moved;
    if complete { After::KeepAlive } else { After::Close }
}

/// Carries bytes both ways after a 101 answer, until both sides have ended.
async fn tunnel(connection: &mut Connection, exchange: &mut Exchange, start: ResponseStart) -> After {
    let worker = connection.worker.clone();
    worker.metrics.count(Counter::DownstreamUpgrades);
    let (Some(relay), Some(lease)) = (&mut exchange.relay, &mut exchange.upstream) else { return After::Abort };
    connection.deadline.clear();
    let mut ends = Ends {
        downstream: &mut connection.link,
        upstream: lease.link(),
        buffers: &worker.buffers,
        limits: &worker.limits,
        deadline: &mut connection.deadline,
    };
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
    match ended {
        Ok(()) => After::Close,
        Err(_) => After::Abort,
    }
}

/// Hands an informational answer on; HTTP/1.0 clients do not know them. Returns the bytes sent.
pub(crate) async fn interim(
    ends: &mut Ends<'_>,
    request: &RequestHead,
    response: &ResponseHead,
) -> Result<u64, RelayError> {
    if request.version == Version::Http10 {
        return Ok(0);
    }
    let mut out = ends.buffers.take();
    let framing = ReplyFraming { version: request.version, close: false, body: BodyLength::Empty };
    write_response_head(response, framing, &mut out);
    let mut sent = 0;
    let written = std::future::poll_fn(|cx| {
        while sent < out.len() {
            match ends.downstream.poll_write(cx, &out[sent..]) {
                Poll::Ready(Ok(count)) => sent += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    })
    .await;
    let length = out.len() as u64;
    ends.buffers.give_back(&mut out);
    written.map(|()| length).map_err(|error| RelayError::Downstream(error.to_string()))
}

/// Answers a request that failed.
pub(crate) async fn fail(connection: &mut Connection, exchange: &mut Exchange, failure: Failure) -> After {
    if let Some(relay) = &exchange.relay {
        exchange.record.body_bytes_received = relay.upload.moved;
    }
    exchange.record.failed(&failure);
    if exchange.retries_used_up {
        exchange.record.retries_were_used_up();
    }
    if let Some(reason) = exchange.record.refusal.or(RefusalReason::of(failure.kind)) {
        connection.worker.metrics.refuse(reason);
    }
    if exchange.answer_begun || failure.kind == FailureKind::DownstreamClosed {
        return After::Abort;
    }
    let closes = failure.stage == Stage::Read;
    let outcome = failure.kind.outcome();
    let explained;
    let body = if connection.worker.explain_errors {
        explained = format!("{}\n", failure.sentence());
        explained.as_bytes()
    } else {
        outcome.body.as_bytes()
    };
    let content_type = (!body.is_empty()).then_some(PLAIN_TEXT);
    exchange.response.become_local(outcome.status, content_type, body.len());
    if failure.kind == FailureKind::Overflow {
        exchange.response.headers.push_known(HeaderName::XEnvoyOverloaded, b"true");
    }
    send(connection, exchange, body, closes).await
}

/// Answers a request whose head was not accepted, and ends the connection: what follows cannot be trusted.
pub(crate) async fn refuse(connection: &mut Connection, exchange: &mut Exchange, failure: Failure) -> After {
    exchange.request.keep_alive = false;
    exchange.request.body = BodyLength::Empty;
    fail(connection, exchange, failure).await
}

/// Answers with the redirect of a route.
pub(crate) async fn redirect(
    connection: &mut Connection,
    exchange: &mut Exchange,
    chosen: &Chosen<'_>,
    redirect: &Redirect,
) -> Result<After, Failure> {
    let location =
        meshwright_route::redirect_location(redirect, &exchange.request, &chosen.site, chosen.found.prefix_len);
    exchange.response.become_local(redirect.status, None, 0);
    exchange.response.headers.push_known(HeaderName::Location, location.as_bytes());
    local(connection, exchange, chosen, b"").await
}

/// Answers with the fixed answer of a route.
pub(crate) async fn direct(
    connection: &mut Connection,
    exchange: &mut Exchange,
    chosen: &Chosen<'_>,
    direct: &DirectResponse,
) -> Result<After, Failure> {
    let content_type = (!direct.body.is_empty()).then_some(PLAIN_TEXT);
    exchange.response.become_local(direct.status, content_type, direct.body.len());
    local(connection, exchange, chosen, &direct.body).await
}

async fn local(
    connection: &mut Connection,
    exchange: &mut Exchange,
    chosen: &Chosen<'_>,
    body: &[u8],
) -> Result<After, Failure> {
    exchange.record.status = exchange.response.status;
    exchange.record.details = "direct_response";
    change_response(&mut exchange.response, &chosen.route.headers);
    Ok(send(connection, exchange, body, false).await)
}

/// Sends an answer of our own, then reads the rest of the request when the connection goes on.
async fn send(connection: &mut Connection, exchange: &mut Exchange, body: &[u8], closes: bool) -> After {
    let worker = connection.worker.clone();
    add_standard_headers(connection, &mut exchange.response, None);
    let request = &exchange.request;
    let is_head = request.method == meshwright_message::Method::Head;
    let body_in_doubt = request.expect_continue && !request.body.is_empty();
    let close = closes || !request.keep_alive || connection.is_draining() || body_in_doubt;
    let response = &mut exchange.response;
    let mut framed = response.body;
    if is_head || response.status == 204 || response.status == 304 {
        response.announced_length = if is_head { Some(body.len() as u64) } else { None };
        framed = BodyLength::Empty;
    }
    let mut out = worker.buffers.take();
    write_response_head(response, ReplyFraming { version: request.version, close, body: framed }, &mut out);
    exchange.record.head_bytes_sent += out.len() as u64;
    if !framed.is_empty() {
        out.extend_from_slice(body);
        exchange.record.body_bytes_sent = body.len() as u64;
    }
    exchange.answer_begun = true;
    connection.deadline.set_after(Instant::now(), worker.limits.stall_timeout);
    let mut sent = 0;
    let complete = std::future::poll_fn(|cx| {
        while sent < out.len() {
            match connection.link.poll_write(cx, &out[sent..]) {
                Poll::Ready(Ok(count)) => sent += count,
                Poll::Ready(Err(_)) => return Poll::Ready(false),
                Poll::Pending => return connection.deadline.poll_over(cx).map(|()| false),
            }
        }
        Poll::Ready(true)
    })
    .await;
    worker.buffers.give_back(&mut out);
    if !complete {
        return After::Abort;
    }
    if close {
        return After::Close;
    }
    let mut upload = exchange.relay.take().map_or_else(
        || Direction::new(exchange.request.body, BodyLength::Empty, &worker.limits.body),
        |relay| relay.upload,
    );
    let after = if upload.has_ended() {
        After::KeepAlive
    } else {
        discard_request(connection, exchange, Some(&mut upload)).await
    };
    upload.dispose(&worker.buffers);
    after
}

/// The route of hosts whose server entry asks for https.
pub(crate) fn https_redirect() -> &'static Route {
    static ROUTE: OnceLock<Route> = OnceLock::new();
    ROUTE.get_or_init(|| Route {
        name: "-".to_owned(),
        match_names: Vec::new(),
        action: Action::Redirect(Redirect {
            uri: None,
            prefix_rewrite: None,
            authority: None,
            scheme: Some("https".to_owned()),
            port: RedirectPort::ProtocolDefault,
            status: 301,
        }),
        timeout: None,
        retries: RetryPolicy::default(),
        rewrite: None,
        headers: HeaderOperations::default(),
        origin: Origin::flag("tls.httpsRedirect"),
    })
}
