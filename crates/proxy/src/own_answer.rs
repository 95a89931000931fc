//! Stop seven, for answers of our own: failures, redirects, fixed answers.

use std::sync::OnceLock;
use std::task::Poll;
use std::time::Instant;

use meshwright_codec::{ReplyFraming, write_http2_response, write_response_head};
use meshwright_message::{BodyLength, HeaderName, Method, ResponseHead};
use meshwright_model::{DirectResponse, Failure, FailureKind, HeaderOperations, Origin, Redirect, RedirectPort, Stage};
use meshwright_snapshot::{Action, Route};
use meshwright_telemetry::RefusalReason;
use meshwright_wire::{Direction, Side};

use crate::connection::{After, Connection};
use crate::exchange::Exchange;
use crate::request::Chosen;
use crate::{fallback, grpc, rate, respond, shareable};

/// Media type of our own bodies.
pub(crate) const PLAIN_TEXT: &str = "text/plain";

/// Answers a request that failed.
pub(crate) async fn fail(connection: &mut Connection, exchange: &mut Exchange, failure: Failure) -> After {
    shareable::release(exchange);
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
        if failure.kind == FailureKind::Timeout
            && let Side::Http2(stream) = &mut connection.side
        {
            // A client of gRPC whose deadline is over reads this code as just that, any other as a defect.
            stream.cancel();
        }
        return After::Abort;
    }
    if let Some(cluster) = fallback::of_failure(exchange, &failure) {
        return fallback::respond(connection, exchange, &cluster).await;
    }
    // After a defect nobody knows what is still to come on the connection.
    let closes = failure.stage == Stage::Read || failure.kind == FailureKind::Defect;
    let outcome = failure.kind.outcome();
    let explained;
    let mut body = if connection.worker.explain_errors {
        explained = format!("{}\n", failure.sentence());
        explained.as_bytes()
    } else {
        outcome.body.as_bytes()
    };
    let content_type = (!body.is_empty()).then_some(PLAIN_TEXT);
    {
        let mut head = connection.worker.response.borrow_mut();
        if exchange.is_grpc {
            grpc::become_failure(&mut head, &outcome, &failure);
            exchange.record.status = head.status;
            exchange.record.grpc_status = Some(outcome.grpc);
            body = b"";
        } else {
            head.become_local(outcome.status, content_type, body.len());
        }
        if matches!(
            failure.kind,
            FailureKind::Overflow
                | FailureKind::BulkheadFull
                | FailureKind::ConcurrencyLimit
                | FailureKind::MemoryShort
        ) {
            head.headers.push_known(HeaderName::XEnvoyOverloaded, b"true");
        }
    }
    rate::tell(connection, exchange);
    if failure.kind == FailureKind::RateLimited {
        rate::tell_refused(connection, exchange.rate.as_deref());
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
    {
        let mut head = connection.worker.response.borrow_mut();
        head.become_local(redirect.status, None, 0);
        head.headers.push_known(HeaderName::Location, location.as_bytes());
    }
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
    connection.worker.response.borrow_mut().become_local(direct.status, content_type, direct.body.len());
    local(connection, exchange, chosen, &direct.body).await
}

async fn local(
    connection: &mut Connection,
    exchange: &mut Exchange,
    chosen: &Chosen<'_>,
    body: &[u8],
) -> Result<After, Failure> {
    {
        let mut head = connection.worker.response.borrow_mut();
        exchange.record.status = head.status;
        exchange.record.details = "direct_response";
        respond::change_response(&mut head, &chosen.route.headers);
    }
    Ok(send(connection, exchange, body, false).await)
}

/// Sends an answer of our own, then reads the rest of the request when the connection goes on.
pub(crate) async fn send(connection: &mut Connection, exchange: &mut Exchange, body: &[u8], closes: bool) -> After {
    if connection.side.is_http2() {
        return send_on_stream(connection, exchange, body).await;
    }
    let worker = connection.worker.clone();
    let (mut out, close) = compose(connection, exchange, body, closes);
    exchange.answer_begun = true;
    let complete = send_bytes(connection, &out).await;
    exchange.record.complete();
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
        respond::discard_request(connection, exchange, &mut upload).await
    };
    upload.dispose(&worker.buffers);
    after
}

/// The same on a stream, which ends with the answer.
async fn send_on_stream(connection: &mut Connection, exchange: &mut Exchange, body: &[u8]) -> After {
    exchange.answer_begun = true;
    {
        let worker = connection.worker.clone();
        let head = &mut *worker.response.borrow_mut();
        respond::add_standard_headers(connection, head, None);
        let framed = body_of(&exchange.request.method, head, body);
        let Side::Http2(stream) = &mut connection.side else { return After::Abort };
        if stream.send_head(write_http2_response(head, framed), framed.is_empty()).is_err() {
            return After::Abort;
        }
        if framed.is_empty() {
            exchange.record.complete();
            return After::KeepAlive;
        }
    }
    exchange.record.body_bytes_sent = body.len() as u64;
    let complete = send_bytes(connection, body).await;
    exchange.record.complete();
    if complete { After::KeepAlive } else { After::Abort }
}

/// Sends bytes that are there as a whole, and with them the end of a stream; false when the client does not take them.
async fn send_bytes(connection: &mut Connection, bytes: &[u8]) -> bool {
    let Connection { worker, side, deadline, .. } = connection;
    let mut sent = 0;
    let mut progress = usize::MAX;
    std::future::poll_fn(|cx| {
        let moved = loop {
            if sent == bytes.len() {
                break side.poll_flush(cx);
            }
            match side.poll_write(cx, &bytes[sent..], true) {
                Poll::Ready(Ok(count)) => sent += count,
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        match moved {
            Poll::Ready(done) => Poll::Ready(done.is_ok()),
            Poll::Pending => {
                if sent != progress {
                    progress = sent;
                    deadline.set_after(Instant::now(), worker.limits.stall_timeout);
                }
                deadline.poll_over(cx).map(|()| false)
            }
        }
    })
    .await
}

/// The framing of an answer of our own; HEAD, 204 and 304 have no body and may say how long it would be.
fn body_of(method: &Method, head: &mut ResponseHead, body: &[u8]) -> BodyLength {
    let is_head = *method == Method::Head;
    if is_head || head.status == 204 || head.status == 304 {
        head.announced_length = is_head.then_some(body.len() as u64);
        return BodyLength::Empty;
    }
    head.body
}

/// The bytes of an answer of our own, and whether the connection ends with it.
fn compose(connection: &Connection, exchange: &mut Exchange, body: &[u8], closes: bool) -> (Vec<u8>, bool) {
    let worker = &connection.worker;
    let head = &mut *worker.response.borrow_mut();
    respond::add_standard_headers(connection, head, None);
    let request = &exchange.request;
    // After a final answer to its expectation a client may leave its body out: what follows could not be told apart.
    let body_in_doubt = request.expect_continue && !request.body.is_empty();
    let close = closes || !request.keep_alive || connection.is_draining() || body_in_doubt;
    let framed = body_of(&request.method, head, body);
    let mut out = worker.buffers.take();
    write_response_head(head, ReplyFraming { version: request.version, close, body: framed }, &mut out);
    exchange.record.head_bytes_sent += out.len() as u64;
    if !framed.is_empty() {
        out.extend_from_slice(body);
        exchange.record.body_bytes_sent = body.len() as u64;
    }
    (out, close)
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
        retries: None,
        rewrite: None,
        headers: HeaderOperations::default(),
        origin: Origin::flag("tls.httpsRedirect"),
    })
}
