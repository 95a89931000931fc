//! Stop three for HTTP/2: one task per connection, which begins a task for each stream, and ends with the last of them.
//!
//! What happens to a request is the same as on HTTP/1 (`request.rs`); a stream is a [`Connection`] for one request.

use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::request::Parts;
use meshwright_codec::{FrameFlood, HeadErrorClass, read_http2_request};
use meshwright_message::{BodyLength, RequestHead};
use meshwright_model::{Failure, FailureKind, Stage};
use meshwright_telemetry::RefusalReason;
use meshwright_wire::http2::{Accepted, ServerConnection, Stream};
use meshwright_wire::{Deadline, Side, Transport};

use crate::connection::{self, Client, Connection};
use crate::listener::ListenerSlot;
use crate::tasks::Tasks;
use crate::worker::Worker;

/// Serves a client that speaks HTTP/2, to the end of its connection. `ahead` was read from it already.
#[expect(clippy::manual_async_fn, reason = "an async fn keeps its arguments and, once more, what it moves them to")]
pub(crate) fn serve(
    worker: Rc<Worker>,
    slot: Rc<ListenerSlot>,
    client: Client,
    transport: Transport,
    ahead: Vec<u8>,
) -> impl Future<Output = ()> {
    async move {
        // Boxed: a connection that stays idle need not hold what its beginning took.
        let mut served = match Box::pin(begin(worker, slot, client, transport, ahead)).await {
            Some(served) => served,
            None => return,
        };
        let drain = served.slot.clone();
        let mut draining = pin!(drain.drained());
        std::future::poll_fn(|cx| {
            if served.state == State::Open && draining.as_mut().poll(cx).is_ready() {
                served.drain();
            }
            served.poll(cx)
        })
        .await;
        // Answers that are whole are on their way; what is left is broken off with the connection.
        served.streams.shutdown().await;
    }
}

async fn begin(
    worker: Rc<Worker>,
    slot: Rc<ListenerSlot>,
    client: Client,
    transport: Transport,
    ahead: Vec<u8>,
) -> Option<Box<Served>> {
    let begin = ServerConnection::begin(transport, ahead, &worker.limits);
    let connection = match tokio::time::timeout(worker.limits.head_timeout, begin).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            tracing::debug!(%error, peer = %client.peer, "HTTP/2 did not begin");
            worker.metrics.refuse(RefusalReason::MalformedRequest);
            return None;
        }
        Err(_) => {
            worker.metrics.refuse(RefusalReason::HeadTimeout);
            return None;
        }
    };
    Some(Box::new(Served {
        worker,
        slot,
        client,
        connection,
        streams: Tasks::default(),
        deadline: Deadline::default(),
        state: State::Open,
    }))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Streams come.
    Open,
    /// The client was told to open no more.
    Draining,
    /// The last words are on their way.
    Ending,
}

struct Served {
    worker: Rc<Worker>,
    slot: Rc<ListenerSlot>,
    client: Client,
    connection: ServerConnection,
    streams: Tasks,
    /// For the next stream, while there is none; for a client that takes nothing; for the last words.
    deadline: Deadline,
    state: State,
}

impl Served {
    fn drain(&mut self) {
        self.state = State::Draining;
        self.connection.drain();
    }

    fn end(&mut self) {
        self.state = State::Ending;
        self.deadline.set_after(Instant::now(), self.worker.limits.stream_stall_timeout);
    }

    /// Ready when the connection is closed.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut was_busy = !self.streams.is_empty();
        loop {
            if self.state == State::Ending {
                if self.connection.poll_closed(cx).is_ready() {
                    return Poll::Ready(());
                }
                break;
            }
            match self.connection.poll_accept(cx) {
                Poll::Ready(Accepted::Stream(parts, protocol, stream)) => {
                    self.begin_stream(&parts, protocol.as_deref(), stream);
                    was_busy = true;
                }
                Poll::Ready(Accepted::Flood(flood)) => {
                    tracing::debug!(peer = %self.client.peer, reason = flood.as_str(), "a client is asked to calm down");
                    self.worker.metrics.refuse(reason_of(flood));
                    self.end();
                }
                Poll::Ready(Accepted::Ended(_)) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        self.poll_timers(cx, was_busy)
    }

    /// Ends a connection on which nothing happens for too long.
    fn poll_timers(&mut self, cx: &mut Context<'_>, was_busy: bool) -> Poll<()> {
        let limits = &self.worker.limits;
        let is_idle = self.streams.poll_ended(cx).is_ready();
        if self.state != State::Ending {
            let wanted = match self.connection.blocked_since() {
                Some(since) => since.checked_add(limits.stream_stall_timeout),
                None if !is_idle => None,
                None if was_busy || self.deadline.at().is_none() => Instant::now().checked_add(limits.idle_timeout),
                None => self.deadline.at(),
            };
            match wanted {
                Some(at) if self.deadline.at() != Some(at) => self.deadline.set(at),
                Some(_) => {}
                None => self.deadline.clear(),
            }
        }
        if self.deadline.poll_over(cx).is_pending() {
            return Poll::Pending;
        }
        match self.state {
            State::Ending => Poll::Ready(()),
            _ if self.connection.blocked_since().is_some() => {
                self.worker.metrics.refuse(RefusalReason::StreamIdleTimeout);
                Poll::Ready(())
            }
            _ => {
                self.worker.metrics.refuse(RefusalReason::IdleTimeout);
                self.connection.end();
                self.end();
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    /// Reads a head and begins to serve it. The map of fields is gone before anything is awaited.
    fn begin_stream(&mut self, parts: &Parts, protocol: Option<&str>, mut stream: Stream) {
        let mut exchange = connection::begin(&self.worker, &self.client);
        let inner = &mut *exchange;
        let ended = stream.has_ended();
        inner.record.head_bytes_received = head_bytes(parts);
        let read = read_http2_request(parts, protocol, ended, &self.worker.limits.head, &mut inner.request);
        let refused = read.err().map(|error| {
            let failure = connection::refusal(&mut exchange, error);
            if error.class() == HeadErrorClass::BadRequest {
                stream.refuse();
            }
            Box::new(failure)
        });
        if refused.is_some() {
            self.connection.refused();
        }
        let side = Side::Http2(Box::new(stream));
        let connection = Connection::new(self.worker.clone(), self.slot.clone(), side, self.client.clone());
        self.streams.spawn(connection.serve_stream(exchange, refused));
    }
}

/// Whether a request announces a body without bytes and its stream goes on all the same. An empty DATA frame may end it yet;
/// before it does, nobody knows whether it is a request at all (RFC 9113, section 8.1.1).
pub(crate) fn announces_nothing(side: &Side, request: &RequestHead) -> bool {
    request.body == BodyLength::Sized(0) && matches!(side, Side::Http2(stream) if !stream.has_ended())
}

/// Waits for the end of such a request, which is a part of its head.
///
/// # Errors
/// It has a body, does not end in time, or was given up.
pub(crate) async fn end_of_nothing(connection: &mut Connection) -> Result<(), Failure> {
    let Connection { side: Side::Http2(stream), deadline, worker, .. } = connection else { return Ok(()) };
    deadline.set_after(Instant::now(), worker.limits.head_timeout);
    let ended = std::future::poll_fn(|cx| match stream.poll_nothing(cx) {
        Poll::Ready(ended) => Poll::Ready(Some(ended)),
        Poll::Pending => deadline.poll_over(cx).map(|()| None),
    })
    .await;
    let kind = match ended {
        Some(Ok(())) => return Ok(()),
        Some(Err(true)) => {
            stream.refuse();
            FailureKind::BadRequest
        }
        Some(Err(false)) => FailureKind::DownstreamClosed,
        None => FailureKind::RequestTimeout,
    };
    Err(Failure::new(Stage::Read, kind).because("Content-Length is 0, and the request goes on"))
}

/// What the fields of a head are, before they were compressed.
fn head_bytes(parts: &Parts) -> u64 {
    parts.headers.iter().map(|(name, value)| (name.as_str().len() + value.len()) as u64).sum()
}

fn reason_of(flood: FrameFlood) -> RefusalReason {
    match flood {
        FrameFlood::Resets => RefusalReason::StreamResets,
        FrameFlood::Pings => RefusalReason::Pings,
        FrameFlood::Settings => RefusalReason::Settings,
        FrameFlood::Glitches => RefusalReason::Glitches,
        FrameFlood::Continuations => RefusalReason::Continuations,
    }
}
