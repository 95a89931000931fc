//! A connection of HTTP/2 to an endpoint, shared by the requests of one worker.
//!
//! Its task only drives `h2`; requests open streams by themselves, as many as the endpoint and we allow. A connection whose
//! requests were often given up is replaced before `h2` counts its resets against those that still run. Read next:
//! `crate::pool`, which decides which connection a request gets.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Ping, PingPong};
use http::Request;
use meshwright_codec::{FrameFlood, FrameLimits, FrameMeter};

use super::metered::{Meter, Metered};
use super::{SEND_BUFFER, STREAM_WINDOW, Stream};
use crate::{Deadline, Transport};

/// Streams given up before their end after which a connection takes no further request. `h2` ends a connection when it had to
/// answer 1,024 times for streams that it has forgotten, and every request on it fails; each one given up may cause that.
const GIVEN_UP: u32 = 400;
/// Streams that were reset and are remembered, so that what is still on its way for them is no error.
const REMEMBERED_RESETS: usize = 512;

/// Limits on a connection to an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct ClientLimits {
    /// Streams at once; the endpoint may allow fewer.
    pub streams: u32,
    /// Requests over the life of the connection.
    pub requests: Option<u32>,
    /// Bytes of a header section, counted as name + value + 32 for each field.
    pub header_list: u32,
    /// Frames that the endpoint may send.
    pub frames: FrameLimits,
    /// Time between pings, and time for their answers; without an answer the connection is given up.
    pub keep_alive: Option<(Duration, Duration)>,
}

/// What the task of a connection tells those who use it.
#[derive(Default)]
struct State {
    closed: Cell<bool>,
    /// The endpoint has announced its settings.
    settled: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

impl State {
    fn wake(&self) {
        self.waiting.borrow_mut().drain(..).for_each(Waker::wake);
    }
}

/// A connection that takes requests.
pub struct ClientConnection {
    send: RefCell<SendRequest<Bytes>>,
    state: Rc<State>,
    limits: ClientLimits,
    active: Cell<u32>,
    begun: Cell<u32>,
    given_up: Cell<u32>,
    opened: Instant,
    idle_since: Cell<Instant>,
}

/// Begins HTTP/2 on a connection to an endpoint. The future that comes with it does the work until the connection ends;
/// without it nothing moves.
///
/// # Errors
/// The socket fails.
pub async fn open(
    transport: Transport,
    limits: &ClientLimits,
) -> io::Result<(Rc<ClientConnection>, impl Future<Output = ()> + use<>)> {
    let meter = Meter::new(FrameMeter::of_server(limits.frames));
    let (send, mut connection) = Builder::new()
        .enable_push(false)
        .initial_max_send_streams(limits.streams as usize)
        .max_header_list_size(limits.header_list)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(window_of(limits.streams))
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        .handshake(Metered::new(transport, Vec::new(), meter.clone()))
        .await
        .map_err(io::Error::other)?;
    let state = Rc::new(State::default());
    let now = Instant::now();
    let shared = Rc::new(ClientConnection {
        send: RefCell::new(send),
        state: state.clone(),
        limits: *limits,
        active: Cell::new(0),
        begun: Cell::new(0),
        given_up: Cell::new(0),
        opened: now,
        idle_since: Cell::new(now),
    });
    let mut pulse = Pulse::new(connection.ping_pong(), limits.keep_alive, state.clone());
    let drive = async move {
        let ended = std::future::poll_fn(|cx| {
            if pulse.poll_lost(cx).is_ready() {
                return Poll::Ready(Err("no answer to a ping".to_owned()));
            }
            let ended = std::pin::Pin::new(&mut connection).poll(cx).map_err(|error| error.to_string());
            match meter.flood().map(FrameFlood::as_str) {
                Some(flood) => Poll::Ready(Err(flood.to_owned())),
                None => ended,
            }
        })
        .await;
        if let Err(cause) = ended {
            tracing::debug!(%cause, "a connection of HTTP/2 to an endpoint ended");
        }
        state.closed.set(true);
        state.wake();
    };
    Ok((shared, drive))
}

/// Bytes that an endpoint may have under way over all streams of a connection: as much as on each of them, so that a client that
/// takes nothing of its answer holds up its own stream and no other client's.
fn window_of(streams: u32) -> u32 {
    const MOST: u32 = (1 << 31) - 1;
    STREAM_WINDOW.saturating_mul(streams).clamp(STREAM_WINDOW, MOST)
}

/// Pings of a connection: one at its beginning, whose answer comes behind the endpoint's settings, and those that find out
/// whether it is alive.
struct Pulse {
    pings: Option<PingPong>,
    interval: Option<(Duration, Duration)>,
    deadline: Deadline,
    waits: bool,
    state: Rc<State>,
}

impl Pulse {
    fn new(mut pings: Option<PingPong>, interval: Option<(Duration, Duration)>, state: Rc<State>) -> Self {
        let waits = pings.as_mut().is_some_and(|pings| pings.send_ping(Ping::opaque()).is_ok());
        let mut deadline = Deadline::default();
        if let Some((_, patience)) = interval {
            deadline.set_after(Instant::now(), patience);
        }
        Self { pings, interval, deadline, waits, state }
    }

    /// Ready when the endpoint does not answer pings.
    fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(pings) = &mut self.pings else { return Poll::Pending };
        if self.waits && pings.poll_pong(cx).is_ready() {
            self.waits = false;
            if !self.state.settled.replace(true) {
                self.state.wake();
            }
            if let Some((interval, _)) = self.interval {
                self.deadline.set_after(Instant::now(), interval);
            }
        }
        let Some((_, patience)) = self.interval else { return Poll::Pending };
        while self.deadline.poll_over(cx).is_ready() {
            if self.waits || pings.send_ping(Ping::opaque()).is_err() {
                return Poll::Ready(());
            }
            self.waits = true;
            let _ = pings.poll_pong(cx);
            self.deadline.set_after(Instant::now(), patience);
        }
        Poll::Pending
    }
}

impl ClientConnection {
    /// Takes further requests: it is open, and neither used up nor going away.
    pub fn is_usable(&self) -> bool {
        let is_ready = || {
            let ready = self.send.borrow_mut().poll_ready(&mut Context::from_waker(Waker::noop()));
            matches!(ready, Poll::Ready(Ok(())))
        };
        !self.state.closed.get()
            && is_ready()
            && self.given_up.get() < GIVEN_UP
            && self.limits.requests.is_none_or(|most| self.begun.get() < most)
    }

    /// Has room for one more stream now.
    pub fn has_room(&self) -> bool {
        let allowed = (self.limits.streams as usize).min(self.send.borrow().current_max_send_streams());
        (self.active.get() as usize) < allowed
    }

    /// Requests under way.
    pub fn active(&self) -> u32 {
        self.active.get()
    }

    /// When it was opened.
    pub fn opened(&self) -> Instant {
        self.opened
    }

    /// Since when it has no request.
    pub fn idle_since(&self) -> Instant {
        self.idle_since.get()
    }

    /// Takes a place for a stream.
    pub fn take(self: &Rc<Self>) -> StreamPlace {
        self.active.set(self.active.get() + 1);
        self.begun.set(self.begun.get() + 1);
        StreamPlace { connection: self.clone(), complete: false }
    }
}

/// A place for one stream; given up when dropped.
pub struct StreamPlace {
    connection: Rc<ClientConnection>,
    complete: bool,
}

impl StreamPlace {
    /// Opens the stream with the head of a request; `ended` says that no body follows.
    ///
    /// # Errors
    /// The connection takes no further stream. Nothing was sent.
    pub fn send(&self, request: Request<()>, ended: bool) -> Result<Stream, h2::Error> {
        // A handle of its own: one whose stream has to wait for its turn takes no other.
        let mut handle = self.connection.send.borrow().clone();
        let (response, send) = handle.send_request(request, ended)?;
        Ok(Stream::of_endpoint(response, (!ended).then_some(send)))
    }

    /// Whether it has served before.
    pub fn is_reused(&self) -> bool {
        self.connection.begun.get() > 1
    }

    /// Whether the endpoint takes extended CONNECT (RFC 8441); waits for its settings.
    ///
    /// # Errors
    /// The connection ends first.
    pub async fn takes_extended_connect(&self) -> io::Result<bool> {
        let state = &self.connection.state;
        std::future::poll_fn(|cx| {
            if state.closed.get() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            if state.settled.get() {
                return Poll::Ready(Ok(self.connection.send.borrow().is_extended_connect_protocol_enabled()));
            }
            state.waiting.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// The exchange was complete in both directions.
    pub fn complete(&mut self) {
        self.complete = true;
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let connection = &self.connection;
        connection.active.set(connection.active.get() - 1);
        if connection.active.get() == 0 {
            connection.idle_since.set(Instant::now());
        }
        if !self.complete {
            connection.given_up.set(connection.given_up.get() + 1);
        }
    }
}

/// Opening a connection, on which others wait too.
#[derive(Default)]
pub struct Attempt {
    joined: Cell<u32>,
    outcome: RefCell<Option<Result<(), String>>>,
    waiting: RefCell<Vec<Waker>>,
}

impl Attempt {
    /// Joins those who wait, when the connection would have room for one more of `streams`.
    pub fn join(&self, streams: u32) -> bool {
        // The first place is for whoever makes the attempt.
        let room = self.joined.get() + 1 < streams;
        if room {
            self.joined.set(self.joined.get() + 1);
        }
        room
    }

    /// Waits for its end. `Ok` says that it is worth looking for a connection again.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn wait(&self) -> Result<(), String> {
        std::future::poll_fn(|cx| match &*self.outcome.borrow() {
            Some(outcome) => Poll::Ready(outcome.clone()),
            None => {
                self.waiting.borrow_mut().push(cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    /// Ends it.
    pub(crate) fn end(&self, outcome: Result<(), String>) {
        self.outcome.borrow_mut().get_or_insert(outcome);
        self.waiting.borrow_mut().drain(..).for_each(Waker::wake);
    }
}
