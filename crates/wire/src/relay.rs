//! An exchange between two sides: request up, response head, response down, both directions in one poll.
//!
//! Early answers, `100 Continue`, answers that outrun their request and upgraded connections are all the same loop with
//! other ends, and so are the four pairs of protocols: a side is a connection of HTTP/1 or a stream of HTTP/2. The head of a
//! request to HTTP/1 is the first bytes of the upload; a stream was opened with it.

use std::ops::Range;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use meshwright_codec::{Answered, BodyError, HeadError, HeadScan, Progress, parse_response, read_http2_response};
use meshwright_message::{BodyLength, ResponseHead};

use crate::http2::Stream;
use crate::{Buffers, Deadline, Direction, Limits, Link, MoveError, Side};

/// Bytes that a client must take of what waits for it, within the time for stalls, to be waited for longer.
const REAL_PROGRESS: u64 = 16 * 1024;

/// Why an exchange ended early.
#[derive(Debug)]
pub enum RelayError {
    /// The client closed, broke off its body or sent an invalid one.
    Downstream(String),
    /// The client's body is invalid: it is told so.
    DownstreamInvalid(BodyError),
    /// The endpoint closed or broke off; `answered` tells whether any byte of an answer was seen.
    Upstream {
        /// A byte of the answer arrived.
        answered: bool,
        /// The endpoint says that it has not begun with the request (RFC 9113, section 8.7).
        unprocessed: bool,
        /// What was seen.
        cause: String,
    },
    /// The head of the endpoint's answer is not valid HTTP.
    UpstreamInvalid(HeadError),
    /// The body of the endpoint's answer is not validly framed.
    UpstreamBodyInvalid(BodyError),
    /// The endpoint takes no more of the request.
    UpstreamStalled,
    /// The time of the route is over.
    RouteDeadline,
    /// The time of one try is over.
    TryDeadline,
    /// The client neither sends what it owes nor takes what it gets.
    Stalled,
}

/// Ends of the time for an answer; `None` is unlimited.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deadlines {
    /// Over all tries.
    pub route: Option<Instant>,
    /// Of this try, until the head of its answer is there.
    pub of_try: Option<Instant>,
    /// Time for the answer that begins when the request was sent whole; it becomes `route` then.
    pub after_upload: Option<Duration>,
}

impl Deadlines {
    /// The earlier one.
    pub fn next(&self) -> Option<Instant> {
        self.route.into_iter().chain(self.of_try).min()
    }

    /// Which one is over when the earlier one is.
    pub fn over(&self) -> RelayError {
        match (self.route, self.of_try) {
            (Some(route), Some(of_try)) if of_try < route => RelayError::TryDeadline,
            (None, Some(_)) => RelayError::TryDeadline,
            _ => RelayError::RouteDeadline,
        }
    }
}

/// A response head was read; the bytes behind it lie in the scratch area until the task yields, or ahead in the link.
#[derive(Clone, Debug)]
pub struct ResponseStart {
    /// Where in the scratch area the bytes behind the head lie.
    pub in_scratch: Range<usize>,
}

/// The two sides of an exchange and the memory of the worker.
pub struct Ends<'a> {
    /// Client side.
    pub downstream: &'a mut Side,
    /// Endpoint side.
    pub upstream: &'a mut Side,
    /// Memory.
    pub buffers: &'a Buffers,
    /// Limits.
    pub limits: &'a Limits,
    /// Timer of the downstream connection.
    pub deadline: &'a mut Deadline,
}

/// State of an exchange.
pub struct Relay {
    /// Request body.
    pub upload: Direction,
    /// Response body.
    pub download: Direction,
    upload_broken: bool,
    answered: bool,
    waited: bool,
    scan: HeadScan,
    /// When to give up.
    pub deadlines: Deadlines,
    /// The client need not send the rest of its request before it pauses (streaming calls).
    may_pause: bool,
    /// What had moved when one side was seen to stall.
    stalled_at: Option<u64>,
}

impl Relay {
    /// A new exchange whose request body is framed `from` by the client and `to` towards the endpoint.
    #[inline]
    pub fn new(from: BodyLength, to: BodyLength, limits: &Limits) -> Self {
        Self {
            upload: Direction::new(from, to, &limits.body),
            download: Direction::new(BodyLength::Empty, BodyLength::Empty, &limits.body),
            upload_broken: false,
            answered: false,
            waited: false,
            scan: HeadScan::default(),
            deadlines: Deadlines::default(),
            may_pause: false,
            stalled_at: None,
        }
    }

    /// The client may pause within its request for as long as it likes.
    pub fn allow_pauses(&mut self) {
        self.may_pause = true;
    }

    /// Starts again towards another endpoint: everything retained of the request is sent once more.
    pub fn rewind(&mut self) {
        self.upload.rewind();
        self.upload_broken = false;
        self.answered = false;
        self.scan = HeadScan::default();
    }

    /// The request was sent whole.
    pub fn upload_is_done(&self) -> bool {
        self.upload.is_done() && !self.upload_broken
    }

    /// The response took more than one poll to hand on: readings of the clock from before are old.
    pub fn has_waited(&self) -> bool {
        self.waited
    }

    /// Sends the request and reads the next response head (perhaps an informational one).
    pub fn poll_response_head(
        &mut self,
        cx: &mut Context<'_>,
        ends: &mut Ends<'_>,
        to: Answered,
        head: &mut ResponseHead,
    ) -> Poll<Result<ResponseStart, RelayError>> {
        let sent = self.poll_upload(cx, ends)?.is_ready();
        if sent && let Some(time) = self.deadlines.after_upload.take() {
            self.deadlines.route = Instant::now().checked_add(time);
        }
        // An informational answer may still be on its way down; it holds nothing up.
        if self.download.has_unsent()
            && let Poll::Ready(Err(error)) = self.download.poll_flush(cx, ends.downstream, ends.buffers)
        {
            return Poll::Ready(Err(self.download_error(error)));
        }
        match self.poll_read_head(cx, ends, to, head) {
            Poll::Pending => {}
            ready => return ready,
        }
        if sent {
            watch_client(cx, ends)?;
        } else {
            self.watch_blocked_client(cx, ends)?;
        }
        self.poll_timers(cx, ends).map(Err)
    }

    /// While the endpoint takes nothing, nothing is read of the client either; that it gives a stream up is noticed all the same.
    fn watch_blocked_client(&self, cx: &mut Context<'_>, ends: &mut Ends<'_>) -> Result<(), RelayError> {
        if self.upload.has_unsent() && ends.downstream.is_http2() { watch_client(cx, ends) } else { Ok(()) }
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>, ends: &mut Ends<'_>) -> Poll<Result<(), RelayError>> {
        if self.upload_broken {
            return Poll::Ready(Ok(()));
        }
        match self.upload.poll_move(cx, ends.downstream, ends.upstream, ends.buffers) {
            Poll::Ready(Err(MoveError::Destination(_))) => {
                // The endpoint may have answered before it closed: its answer counts, not the failed write.
                self.upload_broken = true;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(MoveError::Closed(cause))) => Poll::Ready(Err(RelayError::Downstream(cause))),
            Poll::Ready(Err(MoveError::Invalid(cause))) => Poll::Ready(Err(RelayError::DownstreamInvalid(cause))),
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_read_head(
        &mut self,
        cx: &mut Context<'_>,
        ends: &mut Ends<'_>,
        to: Answered,
        head: &mut ResponseHead,
    ) -> Poll<Result<ResponseStart, RelayError>> {
        match ends.upstream {
            Side::Http1(link) => self.poll_read_link(cx, link, (ends.buffers, ends.limits), to, head),
            Side::Http2(stream) => self.poll_read_stream(cx, stream, ends.limits, to, head),
        }
    }

    fn poll_read_stream(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        limits: &Limits,
        to: Answered,
        head: &mut ResponseHead,
    ) -> Poll<Result<ResponseStart, RelayError>> {
        let answer = match stream.poll_answer(cx) {
            Poll::Ready(Ok(answer)) => answer,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(self.stream_error(&error))),
            Poll::Pending => return Poll::Pending,
        };
        self.answered = true;
        read_http2_response(&answer.parts, answer.ended, &limits.head, to, head)
            .map_err(RelayError::UpstreamInvalid)?;
        Poll::Ready(Ok(ResponseStart { in_scratch: 0..0 }))
    }

    fn poll_read_link(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link,
        (buffers, limits): (&Buffers, &Limits),
        to: Answered,
        head: &mut ResponseHead,
    ) -> Poll<Result<ResponseStart, RelayError>> {
        if !link.ahead().is_empty()
            && let Some(start) = self.parse_ahead(link, (buffers, limits), to, head)?
        {
            return Poll::Ready(Ok(start));
        }
        loop {
            let mut scratch = buffers.scratch();
            let count = match link.poll_read(cx, &mut scratch) {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(self.broken("it closed the connection".to_owned())));
                }
                Poll::Ready(Ok(count)) => count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.broken(error.to_string()))),
                Poll::Pending => return Poll::Pending,
            };
            self.answered = true;
            if link.ahead().is_empty() {
                match parse_response(&scratch[..count], &mut self.scan, &limits.head, to, head) {
                    Ok(Progress::Complete { consumed }) => {
                        return Poll::Ready(Ok(ResponseStart { in_scratch: consumed..count }));
                    }
                    Ok(Progress::Partial) => link.keep(&scratch[..count], buffers),
                    Err(error) => return Poll::Ready(Err(RelayError::UpstreamInvalid(error))),
                }
            } else {
                link.keep(&scratch[..count], buffers);
                drop(scratch);
                if let Some(start) = self.parse_ahead(link, (buffers, limits), to, head)? {
                    return Poll::Ready(Ok(start));
                }
            }
        }
    }

    fn parse_ahead(
        &mut self,
        link: &mut Link,
        (buffers, limits): (&Buffers, &Limits),
        to: Answered,
        head: &mut ResponseHead,
    ) -> Result<Option<ResponseStart>, RelayError> {
        match parse_response(link.ahead(), &mut self.scan, &limits.head, to, head) {
            Ok(Progress::Complete { consumed }) => {
                link.use_ahead(consumed, buffers);
                Ok(Some(ResponseStart { in_scratch: 0..0 }))
            }
            Ok(Progress::Partial) => Ok(None),
            Err(error) => Err(RelayError::UpstreamInvalid(error)),
        }
    }

    fn broken(&self, cause: String) -> RelayError {
        RelayError::Upstream { answered: self.answered, unprocessed: false, cause }
    }

    /// What the end of a stream by its endpoint means: what it has refused, or did not get to before it went away, it has not
    /// begun with.
    fn stream_error(&self, error: &h2::Error) -> RelayError {
        let reason = error.reason();
        let unprocessed = reason == Some(h2::Reason::REFUSED_STREAM)
            || (error.is_go_away() && error.is_remote() && reason == Some(h2::Reason::NO_ERROR));
        RelayError::Upstream { answered: self.answered, unprocessed, cause: error.to_string() }
    }

    /// An informational head was handed on: keeps what was read behind it for the next head. Call it before the task yields.
    pub fn keep_behind_head(&mut self, start: &ResponseStart, ends: &mut Ends<'_>) {
        if let Side::Http1(link) = ends.upstream {
            let scratch = ends.buffers.scratch();
            link.keep(&scratch[start.in_scratch.clone()], ends.buffers);
        }
    }

    /// Begins the way down: `download` already holds the head as bytes; the body bytes behind the head are sent from
    /// where they lie. Call it before the task yields.
    pub fn begin_response(
        &mut self,
        cx: &mut Context<'_>,
        start: &ResponseStart,
        ends: &mut Ends<'_>,
    ) -> Result<(), RelayError> {
        let Side::Http1(link) = &mut ends.upstream else { return Ok(()) };
        let scratch = ends.buffers.scratch();
        let behind = &scratch[start.in_scratch.clone()];
        match self.download.feed(cx, behind, ends.downstream, ends.buffers) {
            Ok(consumed) => {
                link.keep(&behind[consumed..], ends.buffers);
                self.download.check_destination().map_err(|error| self.download_error(error))
            }
            Err(error) => Err(self.download_error(error)),
        }
    }

    fn download_error(&self, error: MoveError) -> RelayError {
        match error {
            MoveError::Closed(cause) => RelayError::Upstream { answered: true, unprocessed: false, cause },
            MoveError::Invalid(error) => RelayError::UpstreamBodyInvalid(error),
            MoveError::Destination(error) => RelayError::Downstream(error.to_string()),
        }
    }

    /// Moves the response, and what is left of the request, until the response is complete.
    pub fn poll_finish(&mut self, cx: &mut Context<'_>, ends: &mut Ends<'_>) -> Poll<Result<(), RelayError>> {
        let down = self.download.poll_move(cx, ends.upstream, ends.downstream, ends.buffers);
        match down {
            Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(self.download_error(error))),
            Poll::Pending => {}
        }
        self.waited = true;
        if self.upload_broken || self.upload.is_done() || self.poll_upload(cx, ends)?.is_ready() {
            // A quiet response must not keep a client's place after the client has gone.
            watch_client(cx, ends)?;
        } else {
            self.watch_blocked_client(cx, ends)?;
        }
        self.poll_timers(cx, ends).map(Err)
    }

    /// Moves bytes both ways until both sides have ended; for connections that changed their protocol.
    pub fn poll_tunnel(&mut self, cx: &mut Context<'_>, ends: &mut Ends<'_>) -> Poll<Result<(), RelayError>> {
        let before = self.upload.progress + self.download.progress;
        let down = self.download.poll_move(cx, ends.upstream, ends.downstream, ends.buffers);
        let down_done = match down {
            Poll::Ready(Err(error)) => return Poll::Ready(Err(self.download_error(error))),
            Poll::Ready(Ok(())) => ends.downstream.poll_shutdown(cx).is_ready(),
            Poll::Pending => false,
        };
        let up = self.upload.poll_move(cx, ends.downstream, ends.upstream, ends.buffers);
        let up_done = match up {
            Poll::Ready(Err(MoveError::Closed(cause))) => return Poll::Ready(Err(RelayError::Downstream(cause))),
            Poll::Ready(Err(MoveError::Invalid(error))) => {
                return Poll::Ready(Err(RelayError::DownstreamInvalid(error)));
            }
            Poll::Ready(Err(MoveError::Destination(error))) => {
                let cause = error.to_string();
                return Poll::Ready(Err(RelayError::Upstream { answered: true, unprocessed: false, cause }));
            }
            Poll::Ready(Ok(())) => ends.upstream.poll_shutdown(cx).is_ready(),
            Poll::Pending => false,
        };
        if down_done && up_done {
            return Poll::Ready(Ok(()));
        }
        let takes_none = self.upload.has_unsent() || self.download.has_unsent();
        if takes_none {
            if self.moves_on(true) || ends.deadline.at().is_none() {
                ends.deadline.set_after(Instant::now(), stall_of(true, ends));
            }
        } else if self.stalled_at.take().is_some()
            || self.upload.progress + self.download.progress != before
            || ends.deadline.at().is_none()
        {
            ends.deadline.set_after(Instant::now(), ends.limits.tunnel_idle_timeout);
        }
        ends.deadline.poll_over(cx).map(|()| Err(RelayError::Stalled))
    }

    /// Prepares both directions for [`Relay::poll_tunnel`]; what the client sent behind its request is sent on then, not
    /// before.
    pub fn become_tunnel(&mut self, limits: &Limits) {
        self.download = raw(limits);
        self.upload = raw(limits);
        self.upload_broken = false;
    }

    /// Ready with the reason when the time for the answer is over, or one side has stalled.
    fn poll_timers(&mut self, cx: &mut Context<'_>, ends: &mut Ends<'_>) -> Poll<RelayError> {
        let endpoint_stalls = !self.upload_broken && self.upload.has_unsent();
        let owes = !self.may_pause && !self.upload.has_ended() && !self.upload_broken && !endpoint_stalls;
        let takes_none = self.download.has_unsent();
        let give_up = self.deadlines.next();
        if !owes && !takes_none && !endpoint_stalls {
            self.stalled_at = None;
            let Some(at) = give_up else {
                ends.deadline.clear();
                return Poll::Pending;
            };
            ends.deadline.set(at);
            return ends.deadline.poll_over(cx).map(|()| self.deadlines.over());
        }
        if takes_none && self.stalled_at.is_none() {
            self.download.fit();
        }
        if self.moves_on(takes_none) || ends.deadline.at().is_none() {
            let stall = Instant::now() + stall_of(takes_none, ends);
            ends.deadline.set(give_up.map_or(stall, |at| at.min(stall)));
        }
        let at = ends.deadline.at();
        ends.deadline.poll_over(cx).map(|()| {
            if give_up.is_some() && at == give_up {
                self.deadlines.over()
            } else if endpoint_stalls && !takes_none {
                RelayError::UpstreamStalled
            } else {
                RelayError::Stalled
            }
        })
    }

    /// Whether there was progress since the last stall was noted, which begins a new time. A client that takes what waits for
    /// it a few bytes at a time makes none: until the queue is empty only a real amount counts.
    fn moves_on(&mut self, takes_none: bool) -> bool {
        let moved = self.upload.progress + self.download.progress;
        let enough = if takes_none { REAL_PROGRESS } else { 1 };
        let moves_on = self.stalled_at.is_none_or(|at| moved >= at + enough);
        if moves_on {
            self.stalled_at = Some(moved);
        }
        moves_on
    }
}

/// How long a client may take nothing, or send nothing of what it owes.
fn stall_of(takes_none: bool, ends: &Ends<'_>) -> Duration {
    if takes_none && ends.downstream.is_http2() { ends.limits.stream_stall_timeout } else { ends.limits.stall_timeout }
}

fn raw(limits: &Limits) -> Direction {
    Direction::new(BodyLength::UntilClose, BodyLength::UntilClose, &limits.body)
}

/// While an answer is awaited, notices that the client went away, and reads ahead a little of a pipelined request.
fn watch_client(cx: &mut Context<'_>, ends: &mut Ends<'_>) -> Result<(), RelayError> {
    match ends.downstream.poll_gone(cx, ends.buffers) {
        Poll::Ready(cause) => Err(RelayError::Downstream(cause)),
        Poll::Pending => Ok(()),
    }
}
