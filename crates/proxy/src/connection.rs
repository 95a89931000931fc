//! Stop three: one task per downstream connection, which reads a head, has it served, and begins again.
//!
//! Between requests a connection of HTTP/1 holds its socket, its timer and nothing else. A client that begins with the
//! preface of HTTP/2 is handed to `http2.rs`, where each stream is a [`Connection`] of its own for one request.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use meshwright_codec::{HeadError, HeadErrorClass, Progress, parse_request};
use meshwright_model::{Failure, FailureKind, Stage};
use meshwright_telemetry::{Counter, RefusalReason};
use meshwright_wire::http2::{PREFACE, Stream};
use meshwright_wire::net::TcpStream;
use meshwright_wire::{Deadline, Ends, Lease, Link, Side, Transport};

use crate::exchange::ExchangeLease;
use crate::fleet::Pressure;
use crate::listener::ListenerSlot;
use crate::worker::Worker;
use crate::{http2, own_answer, request};

/// Bytes of a refused request that are read and dropped before closing, so that the client sees the answer.
const LINGER_BYTES: usize = 256 * 1024;
/// Time for that.
const LINGER_TIME: Duration = Duration::from_secs(2);

/// A downstream connection of HTTP/1, or one stream of an HTTP/2 connection.
pub(crate) struct Connection {
    pub(crate) worker: Rc<Worker>,
    pub(crate) slot: Rc<ListenerSlot>,
    pub(crate) side: Side,
    pub(crate) deadline: Deadline,
    pub(crate) client: Client,
    /// A request is being served: an end now must not look like the end of its answer.
    serving: bool,
}

/// Who is at the other end of a connection; shared by its streams.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) peer: SocketAddr,
    /// Our exact address, where somebody logs it.
    pub(crate) local: Option<Rc<SocketAddr>>,
    /// Facts of its TLS session.
    pub(crate) tls: Option<Rc<Tls>>,
    /// Its place among the connections of the process.
    _counted: Rc<Counted>,
}

/// What a request may ask about the TLS session that it came in.
pub(crate) struct Tls {
    /// The name that the client asked for (SNI).
    pub(crate) server_name: Option<Box<str>>,
    /// The names of the client's certificate, which was verified; empty without one.
    pub(crate) names: Box<[String]>,
}

impl Client {
    /// The names of its certificate; none without one.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.tls.iter().flat_map(|tls| tls.names.iter().map(String::as_str))
    }
}

/// A connection that counts as open; it no longer does when this is dropped.
pub(crate) struct Counted {
    worker: Rc<Worker>,
    source: IpAddr,
}

impl Counted {
    /// Takes a place, or says which limit leaves none.
    pub(crate) fn enter(worker: &Rc<Worker>, source: IpAddr) -> Result<Self, RefusalReason> {
        let (shared, limits) = (&worker.shared, &worker.limits);
        if shared.pressure() >= Pressure::Connections {
            return Err(RefusalReason::MemoryLimit);
        }
        if shared.connections.fetch_add(1, Ordering::Relaxed) >= limits.connections {
            shared.connections.fetch_sub(1, Ordering::Relaxed);
            return Err(RefusalReason::ConnectionLimit);
        }
        if !shared.sources.enter(source, limits.connections_per_source) {
            shared.connections.fetch_sub(1, Ordering::Relaxed);
            return Err(RefusalReason::SourceConnectionLimit);
        }
        Ok(Self { worker: worker.clone(), source })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.worker.shared.sources.leave(self.source);
        self.worker.shared.connections.fetch_sub(1, Ordering::Relaxed);
        self.worker.metrics.count(Counter::DownstreamConnectionsClosed);
    }
}

impl Client {
    /// The client of a connection that was counted when it was accepted.
    pub(crate) fn new(counted: Counted, tcp: &TcpStream, peer: SocketAddr) -> Self {
        let local = counted.worker.log.as_ref().and_then(|_| tcp.local_addr().ok()).map(Rc::new);
        Self { peer, local, tls: None, _counted: Rc::new(counted) }
    }
}

/// What becomes of a connection after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// It waits for the next request.
    KeepAlive,
    /// It is closed; the answer was sent whole. The client may still send something.
    Close,
    /// The same, as the client asked for; it owes nothing.
    Done,
    /// It is closed at once: what was sent is incomplete, and the client must see that.
    Abort,
}

enum Read {
    /// A request head is in the exchange.
    Request(ExchangeLease),
    /// A request that cannot be served, for the given reason.
    Refused(ExchangeLease, Failure),
    /// The client begins to speak HTTP/2.
    Http2,
    /// Nothing more comes.
    Ended,
}

impl Connection {
    pub(crate) fn new(worker: Rc<Worker>, slot: Rc<ListenerSlot>, side: Side, client: Client) -> Self {
        Self { worker, slot, side, deadline: Deadline::default(), client, serving: false }
    }

    /// Both sides of an exchange over the leased connection, and what of the worker it needs; `None` while the lease has no
    /// side yet.
    pub(crate) fn ends<'a>(&'a mut self, lease: &'a mut Lease) -> Option<Ends<'a>> {
        Some(Ends {
            downstream: &mut self.side,
            upstream: lease.side()?,
            buffers: &self.worker.buffers,
            limits: &self.worker.limits,
            deadline: &mut self.deadline,
        })
    }

    /// No further request should come on this connection.
    pub(crate) fn is_draining(&self) -> bool {
        self.slot.draining.get() || self.worker.draining.get()
    }

    /// Says whether an end of the task, from here on, is an end in the middle of a request.
    fn serves(&mut self, serving: bool) {
        self.serving = serving;
    }

    /// Serves the one request of a stream. While it does, an end of the task is seen by the client as such.
    #[expect(clippy::manual_async_fn, reason = "an async fn keeps its arguments and, once more, what it moves them to")]
    pub(crate) fn serve_stream(
        mut self,
        mut exchange: ExchangeLease,
        refused: Option<Box<Failure>>,
    ) -> impl Future<Output = ()> {
        async move {
            self.serves(true);
            let refused = match refused {
                Some(failure) => Some(failure),
                None if http2::announces_nothing(&self.side, &exchange.request) => {
                    Box::pin(http2::end_of_nothing(&mut self)).await.err().map(Box::new)
                }
                None => None,
            };
            let after = match refused {
                None => request::handle(&mut self, &mut exchange).await,
                Some(failure) => Box::pin(own_answer::refuse(&mut self, &mut exchange, *failure)).await,
            };
            // The record is complete before the client sees the end of a stream that was broken off.
            drop(exchange);
            self.serves(after == After::Abort);
        }
    }

    /// Breaks off, so that an incomplete answer is not taken for a complete one.
    pub(crate) fn break_off(&mut self) {
        self.side.break_off();
    }

    /// Closing now loses nothing: no byte is left unread, which would make the kernel send a reset instead of an end, and no
    /// last word of TLS is owed.
    fn can_just_close(&mut self) -> bool {
        self.side.link().is_some_and(|link| link.ahead().is_empty() && !link.is_tls() && link.is_quiet())
    }

    /// Our address on this connection, or what a balancer in front of us said that it is.
    pub(crate) fn local_address(&mut self) -> Option<SocketAddr> {
        match (&self.client.local, self.side.link()) {
            (Some(local), _) => Some(**local),
            (None, Some(link)) => link.tcp().local_addr().ok(),
            (None, None) => None,
        }
    }

    /// Gives away the connection and what was read from it.
    fn into_transport(mut self) -> Option<(Transport, Vec<u8>)> {
        match std::mem::replace(&mut self.side, Side::Http2(Box::new(Stream::ended()))) {
            Side::Http1(link) => Some(link.into_parts()),
            Side::Http2(_) => None,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.serving {
            self.break_off();
        }
        self.side.dispose(&self.worker.buffers);
    }
}

/// Serves a connection to its end.
#[expect(clippy::manual_async_fn, reason = "an async fn keeps its argument and, once more, what it moves it to")]
pub(crate) fn serve(mut connection: Connection) -> impl Future<Output = ()> {
    async move {
        let mut served = false;
        loop {
            let mut exchange = None;
            begin_waiting(&mut connection, served);
            let read = std::future::poll_fn(|cx| poll_next(&mut connection, cx, &mut exchange)).await;
            connection.serves(true);
            let after = match read {
                Read::Request(mut exchange) => request::handle(&mut connection, &mut exchange).await,
                Read::Refused(mut exchange, failure) => {
                    Box::pin(own_answer::refuse(&mut connection, &mut exchange, failure)).await
                }
                Read::Http2 => {
                    connection.serves(false);
                    if let Some(http2) = begin_http2(connection) {
                        Box::pin(http2).await;
                    }
                    return;
                }
                Read::Ended => {
                    connection.serves(false);
                    return;
                }
            };
            connection.serves(false);
            served = true;
            match after {
                After::KeepAlive => {}
                After::Done if connection.can_just_close() => return,
                After::Close | After::Done => return Box::pin(linger(&mut connection)).await,
                After::Abort => return connection.break_off(),
            }
        }
    }
}

fn begin_http2(connection: Connection) -> Option<impl Future<Output = ()>> {
    let (worker, slot, client) = (connection.worker.clone(), connection.slot.clone(), connection.client.clone());
    let (transport, ahead) = connection.into_transport()?;
    Some(http2::serve(worker, slot, client, transport, ahead))
}

/// The first head must come soon; the next one may take its time.
fn begin_waiting(connection: &mut Connection, served: bool) {
    let Side::Http1(link) = &mut connection.side else { return };
    if is_empty_lines(link.ahead()) {
        // An empty line that came together with the body before it begins no request either.
        link.use_ahead(usize::MAX, &connection.worker.buffers);
    }
    let limits = &connection.worker.limits;
    let wait = if served && link.ahead().is_empty() { limits.idle_timeout } else { limits.head_timeout };
    // The record of the request before was finished within this poll: its reading of the clock is good enough.
    let now = if served { connection.worker.clock.latest() } else { connection.worker.clock.read() };
    connection.deadline.set_after(now, wait);
}

fn poll_next(connection: &mut Connection, cx: &mut Context<'_>, exchange: &mut Option<ExchangeLease>) -> Poll<Read> {
    let Connection { worker, side: Side::Http1(link), deadline, client, .. } = connection else {
        return Poll::Ready(Read::Ended);
    };
    let worker = &*worker;
    if exchange.is_none() && !link.ahead().is_empty() {
        // A pipelined request, or the start of one, was read with the request before.
        if let Some(read) = parse_ahead(link, worker, client, exchange) {
            return Poll::Ready(read);
        }
    }
    loop {
        let mut scratch = worker.buffers.scratch();
        let count = match link.poll_read(cx, &mut scratch) {
            Poll::Ready(Ok(0)) => return Poll::Ready(ended(exchange.take())),
            Poll::Ready(Err(_)) => return Poll::Ready(ended(exchange.take())),
            Poll::Ready(Ok(count)) => count,
            Poll::Pending => break,
        };
        if exchange.is_none() && link.ahead().is_empty() && is_empty_lines(&scratch[..count]) {
            // An empty line behind a body is tolerated (RFC 9112, section 2.2) and does not begin a request.
            continue;
        }
        if exchange.is_none() && link.ahead().is_empty() {
            // The common case: the head lies in the scratch area whole and is never copied as bytes.
            let mut lease = begin(worker, client);
            let inner = &mut *lease;
            match parse_request(&scratch[..count], &mut inner.scan, &worker.limits.head, &mut inner.request) {
                Ok(Progress::Complete { consumed }) => {
                    inner.record.head_bytes_received = consumed as u64;
                    link.keep(&scratch[consumed..count], &worker.buffers);
                    return Poll::Ready(Read::Request(lease));
                }
                Ok(Progress::Partial) => {
                    link.keep(&scratch[..count], &worker.buffers);
                    inner.record.head_came_in_pieces = true;
                    let started = inner.record.started.unwrap_or_else(Instant::now);
                    deadline.set_after(started, worker.limits.head_timeout);
                    *exchange = Some(lease);
                }
                Err(_) if begins_http2(&scratch[..count]) => {
                    link.keep(&scratch[..count], &worker.buffers);
                    *exchange = Some(lease);
                    if is_http2(link.ahead(), exchange) {
                        return Poll::Ready(Read::Http2);
                    }
                }
                Err(error) => return Poll::Ready(refused(lease, error)),
            }
        } else {
            link.keep(&scratch[..count], &worker.buffers);
            drop(scratch);
            if let Some(read) = parse_ahead(link, worker, client, exchange) {
                return Poll::Ready(read);
            }
        }
    }
    match deadline.poll_over(cx) {
        Poll::Ready(()) => Poll::Ready(over_time(worker, exchange.take())),
        Poll::Pending => Poll::Pending,
    }
}

/// Whether what is no request of HTTP/1 may be the preface of HTTP/2, as far as it has come.
fn begins_http2(bytes: &[u8]) -> bool {
    bytes.starts_with(PREFACE) || PREFACE.starts_with(bytes)
}

/// Whether the preface is there as a whole; no request has begun then.
fn is_http2(ahead: &[u8], exchange: &mut Option<ExchangeLease>) -> bool {
    let is_whole = ahead.len() >= PREFACE.len();
    if is_whole && let Some(lease) = exchange.take() {
        lease.forget();
    }
    is_whole
}

/// Nothing but empty lines, at most two, as older clients send them after a body.
fn is_empty_lines(bytes: &[u8]) -> bool {
    matches!(bytes, b"\r\n" | b"\r\n\r\n")
}

/// The exchange of a request whose first byte has come.
pub(crate) fn begin(worker: &Rc<Worker>, client: &Client) -> ExchangeLease {
    let mut lease = ExchangeLease::new(worker);
    let record = &mut lease.record;
    record.started = Some(Instant::now());
    record.downstream = Some(client.peer);
    record.downstream_local.clone_from(&client.local);
    record.tls.clone_from(&client.tls);
    lease
}

fn parse_ahead(
    link: &mut Link,
    worker: &Rc<Worker>,
    client: &Client,
    exchange: &mut Option<ExchangeLease>,
) -> Option<Read> {
    let lease = exchange.get_or_insert_with(|| begin(worker, client));
    let inner = &mut **lease;
    let parsed = parse_request(link.ahead(), &mut inner.scan, &worker.limits.head, &mut inner.request);
    match parsed {
        Ok(Progress::Partial) => {
            inner.record.head_came_in_pieces = true;
            None
        }
        Ok(Progress::Complete { consumed }) => {
            inner.record.head_bytes_received = consumed as u64;
            link.use_ahead(consumed, &worker.buffers);
            exchange.take().map(Read::Request)
        }
        Err(_) if begins_http2(link.ahead()) => is_http2(link.ahead(), exchange).then_some(Read::Http2),
        Err(error) => exchange.take().map(|lease| refused(lease, error)),
    }
}

fn refused(mut lease: ExchangeLease, error: HeadError) -> Read {
    let failure = refusal(&mut lease, error);
    Read::Refused(lease, failure)
}

/// What follows from a head that is not accepted.
pub(crate) fn refusal(lease: &mut ExchangeLease, error: HeadError) -> Failure {
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
    Failure::new(Stage::Read, kind).because(error.as_str())
}

/// The client closed. In the middle of a head that is a request that failed; between requests it is nothing at all.
fn ended(exchange: Option<ExchangeLease>) -> Read {
    if let Some(mut exchange) = exchange {
        let failure = Failure::new(Stage::Read, FailureKind::DownstreamClosed);
        exchange.record.failed(&failure);
    }
    Read::Ended
}

fn over_time(worker: &Worker, exchange: Option<ExchangeLease>) -> Read {
    match exchange {
        Some(lease) => Read::Refused(lease, Failure::new(Stage::Read, FailureKind::RequestTimeout)),
        None => {
            worker.metrics.refuse(RefusalReason::IdleTimeout);
            Read::Ended
        }
    }
}

/// Closes so that the answer is not lost: says that nothing more comes, then reads what the client still sends, within
/// bounds. Closing with unread bytes would make the kernel reset the connection and drop the answer on its way.
async fn linger(connection: &mut Connection) {
    let Connection { worker, side: Side::Http1(link), deadline, .. } = connection else { return };
    deadline.set_after(Instant::now(), LINGER_TIME);
    let mut budget = LINGER_BYTES;
    let mut said = false;
    std::future::poll_fn(|cx| {
        // Once: each further word would be a system call that fails.
        if !said && link.poll_shutdown(cx).is_pending() {
            return deadline.poll_over(cx);
        }
        said = true;
        loop {
            let mut scratch = worker.buffers.scratch();
            match link.poll_read(cx, &mut scratch) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(count)) => match budget.checked_sub(count) {
                    Some(rest) => budget = rest,
                    None => return Poll::Ready(()),
                },
                Poll::Pending => return deadline.poll_over(cx),
            }
        }
    })
    .await;
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
        assert!((300..1450).contains(&size), "{size} bytes");
    }

    #[test]
    fn only_empty_lines_are_empty_lines() {
        assert!(is_empty_lines(b"\r\n") && is_empty_lines(b"\r\n\r\n"));
        assert!(!is_empty_lines(b"\r\n\r\n\r\n") && !is_empty_lines(b"\r") && !is_empty_lines(b"\n"));
    }
}
