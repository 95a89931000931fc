//! Stop three: one task per downstream connection, which reads a head, has it served, and begins again.
//!
//! Between requests a connection holds its socket, its timer and nothing else.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use meshwright_codec::{HeadError, HeadErrorClass, Progress, parse_request};
use meshwright_model::{Failure, FailureKind, Stage};
use meshwright_telemetry::{Counter, RefusalReason};
use meshwright_wire::net::TcpStream;
use meshwright_wire::{Deadline, Ends, Lease, Link};

use crate::exchange::ExchangeLease;
use crate::listener::ListenerSlot;
use crate::worker::Worker;
use crate::{own_answer, request};

/// Bytes of a refused request that are read and dropped before closing, so that the client sees the answer.
const LINGER_BYTES: usize = 256 * 1024;
/// Time for that.
const LINGER_TIME: Duration = Duration::from_secs(2);

/// A downstream connection.
pub(crate) struct Connection {
    pub(crate) worker: Rc<Worker>,
    pub(crate) slot: Rc<ListenerSlot>,
    pub(crate) link: Link,
    pub(crate) deadline: Deadline,
    pub(crate) peer: SocketAddr,
    /// Our exact address, where somebody logs it.
    local: Option<Box<SocketAddr>>,
    /// A request is being served: an end now must not look like the end of its answer.
    serving: bool,
}

/// What becomes of a connection after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// It waits for the next request.
    KeepAlive,
    /// It is closed; the answer was sent whole.
    Close,
    /// It is closed at once: what was sent is incomplete, and the client must see that.
    Abort,
}

enum Read {
    /// A request head is in the exchange.
    Request(ExchangeLease),
    /// A request that cannot be served, for the given reason.
    Refused(ExchangeLease, Failure),
    /// Nothing more comes.
    Ended,
}

impl Connection {
    pub(crate) fn new(worker: Rc<Worker>, slot: Rc<ListenerSlot>, stream: TcpStream, peer: SocketAddr) -> Self {
        let local = worker.log.as_ref().and_then(|_| stream.local_addr().ok()).map(Box::new);
        Self { worker, slot, link: Link::new(stream), deadline: Deadline::default(), peer, local, serving: false }
    }

    /// Both sides of an exchange over the leased connection, and what of the worker it needs.
    pub(crate) fn ends<'a>(&'a mut self, lease: &'a mut Lease) -> Ends<'a> {
        Ends {
            downstream: &mut self.link,
            upstream: lease.link(),
            buffers: &self.worker.buffers,
            limits: &self.worker.limits,
            deadline: &mut self.deadline,
        }
    }

    /// No further request should come on this connection.
    pub(crate) fn is_draining(&self) -> bool {
        self.slot.draining.get() || self.worker.draining.get()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.serving {
            abort(self);
        }
        self.link.use_ahead(usize::MAX, &self.worker.buffers);
        self.worker.shared.connections.fetch_sub(1, Ordering::Relaxed);
        self.worker.metrics.count(Counter::DownstreamConnectionsClosed);
    }
}

/// Serves a connection to its end.
pub(crate) async fn serve(mut connection: Connection) {
    let mut served = false;
    loop {
        let mut exchange = None;
        begin_waiting(&mut connection, served);
        let read = std::future::poll_fn(|cx| poll_next(&mut connection, cx, &mut exchange)).await;
        connection.serving = true;
        let after = match read {
            Read::Request(mut exchange) => request::handle(&mut connection, &mut exchange).await,
            Read::Refused(mut exchange, failure) => {
                Box::pin(own_answer::refuse(&mut connection, &mut exchange, failure)).await
            }
            Read::Ended => {
                connection.serving = false;
                return;
            }
        };
        connection.serving = false;
        served = true;
        match after {
            After::KeepAlive => {}
            After::Close => return Box::pin(linger(&mut connection)).await,
            After::Abort => return abort(&connection),
        }
    }
}

/// The first head must come soon; the next one may take its time.
fn begin_waiting(connection: &mut Connection, served: bool) {
    if is_empty_lines(connection.link.ahead()) {
        // An empty line that came together with the body before it begins no request either.
        connection.link.use_ahead(usize::MAX, &connection.worker.buffers);
    }
    let limits = &connection.worker.limits;
    let wait = if served && connection.link.ahead().is_empty() { limits.idle_timeout } else { limits.head_timeout };
    // The record of the request before was finished within this poll: its reading of the clock is good enough.
    let now = if served { connection.worker.clock.latest() } else { connection.worker.clock.read() };
    connection.deadline.set_after(now, wait);
}

fn poll_next(connection: &mut Connection, cx: &mut Context<'_>, exchange: &mut Option<ExchangeLease>) -> Poll<Read> {
    let worker = connection.worker.clone();
    if exchange.is_none() && !connection.link.ahead().is_empty() {
        // A pipelined request, or the start of one, was read with the request before.
        if let Some(read) = parse_ahead(connection, exchange) {
            return Poll::Ready(read);
        }
    }
    loop {
        let mut scratch = worker.buffers.scratch();
        let count = match connection.link.poll_read(cx, &mut scratch) {
            Poll::Ready(Ok(0)) => return Poll::Ready(ended(exchange.take())),
            Poll::Ready(Err(_)) => return Poll::Ready(ended(exchange.take())),
            Poll::Ready(Ok(count)) => count,
            Poll::Pending => break,
        };
        if exchange.is_none() && connection.link.ahead().is_empty() && is_empty_lines(&scratch[..count]) {
            // An empty line behind a body is tolerated (RFC 9112, section 2.2) and does not begin a request.
            continue;
        }
        if exchange.is_none() && connection.link.ahead().is_empty() {
            // The common case: the head lies in the scratch area whole and is never copied as bytes.
            let mut lease = begin(connection);
            let inner = &mut *lease;
            match parse_request(&scratch[..count], &mut inner.scan, &worker.limits.head, &mut inner.request) {
                Ok(Progress::Complete { consumed }) => {
                    inner.record.head_bytes_received = consumed as u64;
                    connection.link.keep(&scratch[consumed..count], &worker.buffers);
                    return Poll::Ready(Read::Request(lease));
                }
                Ok(Progress::Partial) => {
                    connection.link.keep(&scratch[..count], &worker.buffers);
                    inner.record.head_came_in_pieces = true;
                    let started = inner.record.started.unwrap_or_else(Instant::now);
                    connection.deadline.set_after(started, worker.limits.head_timeout);
                    *exchange = Some(lease);
                }
                Err(error) => return Poll::Ready(refused(lease, error)),
            }
        } else {
            connection.link.keep(&scratch[..count], &worker.buffers);
            drop(scratch);
            if let Some(read) = parse_ahead(connection, exchange) {
                return Poll::Ready(read);
            }
        }
    }
    match connection.deadline.poll_over(cx) {
        Poll::Ready(()) => Poll::Ready(over_time(connection, exchange.take())),
        Poll::Pending => Poll::Pending,
    }
}

/// Nothing but empty lines, at most two, as older clients send them after a body.
fn is_empty_lines(bytes: &[u8]) -> bool {
    matches!(bytes, b"\r\n" | b"\r\n\r\n")
}

fn begin(connection: &Connection) -> ExchangeLease {
    let mut lease = ExchangeLease::new(&connection.worker);
    let record = &mut lease.record;
    record.started = Some(Instant::now());
    record.downstream = Some(connection.peer);
    record.downstream_local = connection.local.as_deref().copied();
    lease
}

fn parse_ahead(connection: &mut Connection, exchange: &mut Option<ExchangeLease>) -> Option<Read> {
    let worker = connection.worker.clone();
    let lease = exchange.get_or_insert_with(|| begin(connection));
    let inner = &mut **lease;
    let parsed = parse_request(connection.link.ahead(), &mut inner.scan, &worker.limits.head, &mut inner.request);
    match parsed {
        Ok(Progress::Partial) => {
            inner.record.head_came_in_pieces = true;
            None
        }
        Ok(Progress::Complete { consumed }) => {
            inner.record.head_bytes_received = consumed as u64;
            connection.link.use_ahead(consumed, &worker.buffers);
            exchange.take().map(Read::Request)
        }
        Err(error) => exchange.take().map(|lease| refused(lease, error)),
    }
}

fn refused(mut lease: ExchangeLease, error: HeadError) -> Read {
    let kind = match error.class() {
        HeadErrorClass::BadRequest => FailureKind::BadRequest,
        HeadErrorClass::UriTooLong => FailureKind::UriTooLong,
        HeadErrorClass::HeadersTooLarge => FailureKind::HeadersTooLarge,
        HeadErrorClass::VersionNotSupported => FailureKind::VersionNotSupported,
        HeadErrorClass::UnsupportedTransferCoding => FailureKind::UnsupportedTransferCoding,
        HeadErrorClass::ExpectationFailed => FailureKind::ExpectationFailed,
        HeadErrorClass::MethodNotAllowed => FailureKind::MethodNotAllowed,
    };
    if error == HeadError::TooManyHeaders {
        lease.record.refusal = Some(RefusalReason::TooManyHeaders);
    }
    Read::Refused(lease, Failure::new(Stage::Read, kind).because(error.as_str()))
}

/// The client closed. In the middle of a head that is a request that failed; between requests it is nothing at all.
fn ended(exchange: Option<ExchangeLease>) -> Read {
    if let Some(mut exchange) = exchange {
        let failure = Failure::new(Stage::Read, FailureKind::DownstreamClosed);
        exchange.record.failed(&failure);
    }
    Read::Ended
}

fn over_time(connection: &Connection, exchange: Option<ExchangeLease>) -> Read {
    match exchange {
        Some(lease) => Read::Refused(lease, Failure::new(Stage::Read, FailureKind::RequestTimeout)),
        None => {
            connection.worker.metrics.refuse(RefusalReason::IdleTimeout);
            Read::Ended
        }
    }
}

/// Closes so that the answer is not lost: says that nothing more comes, then reads what the client still sends, within
/// bounds. Closing with unread bytes would make the kernel reset the connection and drop the answer on its way.
async fn linger(connection: &mut Connection) {
    let worker = connection.worker.clone();
    connection.deadline.set_after(Instant::now(), LINGER_TIME);
    let mut budget = LINGER_BYTES;
    std::future::poll_fn(|cx| {
        if connection.link.poll_shutdown(cx).is_pending() {
            return connection.deadline.poll_over(cx);
        }
        loop {
            let mut scratch = worker.buffers.scratch();
            match connection.link.poll_read(cx, &mut scratch) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(count)) => match budget.checked_sub(count) {
                    Some(rest) => budget = rest,
                    None => return Poll::Ready(()),
                },
                Poll::Pending => return connection.deadline.poll_over(cx),
            }
        }
    })
    .await;
}

/// Closes with a reset, so that an incomplete answer is not taken for a complete one.
fn abort(connection: &Connection) {
    let _ = connection.link.stream().set_zero_linger();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the future that `function` makes of a connection.
    fn future_size<F: Future>(function: impl Fn(Connection) -> F) -> usize {
        let _ = function;
        size_of::<F>()
    }

    #[test]
    fn the_state_of_a_connection_stays_small() {
        // Thousands of idle connections hold this; what only a request needs is boxed or lent by the worker.
        let size = future_size(serve);
        assert!((300..1300).contains(&size), "{size} bytes");
    }

    #[test]
    fn only_empty_lines_are_empty_lines() {
        assert!(is_empty_lines(b"\r\n") && is_empty_lines(b"\r\n\r\n"));
        assert!(!is_empty_lines(b"\r\n\r\n\r\n") && !is_empty_lines(b"\r") && !is_empty_lines(b"\n"));
    }
}
