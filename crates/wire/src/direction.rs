//! One direction of an exchange: body bytes from one side to the other, decoded, framed anew, bounded in memory.
//!
//! At most one scratch area of bytes waits for a destination that does not take them; until they are gone nothing more is
//! read, so that a slow reader slows the sender. Framing is never copied: a body that came chunked leaves with chunk
//! sizes of our own, and extensions and forbidden trailers stay behind.

mod copy;
mod discard;
mod rewind;

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use meshwright_codec::{
    BodyDecoder, BodyError, BodyLimits, read_http2_trailers, write_chunk_end, write_chunk_header, write_http2_trailers,
    write_last_chunk,
};
use meshwright_message::{BodyLength, HeaderList};

use self::copy::BodyCopy;
use crate::http2::Stream;
use crate::splice::{Splice, Step};
use crate::{Buffers, Link, Side};

/// Runs of at least this many bytes are written from where they lie; shorter ones are gathered first.
const COPY_BELOW: usize = 4 * 1024;
/// What is read at once for a destination that could not take the last read whole.
const NARROW_READ: usize = 16 * 1024;
/// A request is kept for another try as long as it is not longer than this.
pub const RETAINED: usize = 64 * 1024;
/// Memory that a buffer has beyond what waits in it is given back from this many bytes on.
const LOOSE: usize = 512;

/// Why a direction cannot go on.
#[derive(Debug)]
pub enum MoveError {
    /// The source closed or broke before the end of the body.
    Closed(String),
    /// The framing of the source's body is invalid.
    Invalid(BodyError),
    /// The destination takes no more.
    Destination(io::Error),
}

fn splice(from: BodyLength, to: BodyLength) -> Option<Splice> {
    (from == BodyLength::UntilClose && to == BodyLength::UntilClose).then(Splice::default)
}

/// State of one direction.
pub struct Direction {
    decoder: BodyDecoder,
    /// Trailers that came on a stream; those behind a chunked body are the decoder's.
    trailers: Option<Box<HeaderList>>,
    /// Of the destination. A stream of HTTP/2 frames bodies itself: to it nothing is added.
    framing: BodyLength,
    out: Vec<u8>,
    sent: usize,
    retain: bool,
    ended: bool,
    narrow: bool,
    touched: bool,
    /// The destination took everything and has not sent it all (sealed records of TLS).
    flushing: bool,
    /// The end of the body is not said yet.
    held_open: bool,
    /// Bytes that leave as they come, to the end of the connection, may be spliced.
    splice: Option<Splice>,
    /// The destination failed. What the source still sends is decoded all the same, so that its end is known.
    broken: Option<io::Error>,
    /// What came of the body, where somebody wants to keep it.
    copy: Option<Box<BodyCopy>>,
    /// Body bytes taken from the source so far.
    pub moved: u64,
    /// Grows with every byte that moves; a stall is no change of it.
    pub progress: u64,
}

impl Direction {
    /// A direction whose source frames its body as `from` and whose destination gets it framed as `to`.
    #[inline]
    pub fn new(from: BodyLength, to: BodyLength, limits: &BodyLimits) -> Self {
        Self {
            decoder: BodyDecoder::new(from, limits),
            trailers: None,
            framing: to,
            out: Vec::new(),
            sent: 0,
            retain: false,
            ended: from.is_empty(),
            narrow: false,
            touched: false,
            flushing: false,
            held_open: false,
            splice: splice(from, to),
            broken: None,
            copy: None,
            moved: 0,
            progress: 0,
        }
    }

    /// Whether to leave it unsaid to a stream of HTTP/2 that the body has ended: what comes of the exchange may be a tunnel.
    pub fn hold_open(&mut self, held: bool) {
        self.held_open = held;
    }

    /// There is no tunnel: the end of the body is said.
    pub fn let_end(&mut self) {
        if std::mem::take(&mut self.held_open) {
            self.flushing = true;
        }
    }

    /// The buffer of bytes to be sent; a head is written into it before the first move.
    pub fn out(&mut self, buffers: &Buffers) -> &mut Vec<u8> {
        if self.out.capacity() == 0 {
            self.out = buffers.take();
        }
        &mut self.out
    }

    /// Keeps what is sent, up to [`RETAINED`] bytes, so that it can be sent again.
    pub fn retain(&mut self) {
        self.retain = true;
    }

    /// Everything taken from the source is still here: it can be sent to another endpoint from the start.
    pub fn can_rewind(&self) -> bool {
        self.retain
    }

    /// Nothing was sent so far.
    pub fn is_untouched(&self) -> bool {
        !self.touched
    }

    /// Begins another body behind what is queued already: the way down, once the answer's framing is known.
    pub fn begin(&mut self, from: BodyLength, to: BodyLength, limits: &BodyLimits) {
        self.decoder = BodyDecoder::new(from, limits);
        self.trailers = None;
        self.framing = to;
        self.splice = splice(from, to);
        self.ended = from.is_empty();
    }

    /// Stops keeping what was sent, and its memory, which an answer that is slow to be taken would hold to its end.
    pub fn release(&mut self, buffers: &Buffers) {
        if self.retain {
            self.retain = false;
            self.out.drain(..self.sent);
            self.sent = 0;
            if self.out.is_empty() {
                buffers.give_back(&mut self.out);
            }
        }
    }

    /// Gives back memory that what waits does not fill: it may wait for long, and the buffer had another use before.
    pub(crate) fn fit(&mut self) {
        if self.out.capacity() - self.out.len() >= LOOSE {
            self.out.shrink_to_fit();
        }
    }

    /// Bytes wait for the destination.
    pub fn has_unsent(&self) -> bool {
        self.sent < self.out.len() || self.flushing || self.splice.as_ref().is_some_and(Splice::is_holding)
    }

    /// The whole body was taken from the source and sent.
    pub fn is_done(&self) -> bool {
        self.ended && !self.has_unsent()
    }

    /// The whole body was taken from the source.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Trailers of the body, once it was taken whole and where it has any.
    pub fn trailers(&self) -> Option<&HeaderList> {
        self.trailers.as_deref().or_else(|| self.decoder.trailers())
    }

    /// Gives the memory back.
    pub fn dispose(&mut self, buffers: &Buffers) {
        buffers.give_back(&mut self.out);
        self.sent = 0;
        self.retain = false;
        self.flushing = false;
        self.splice = None;
        self.copy = None;
    }

    /// Moves as much as possible. Ready when the body is complete and sent.
    pub fn poll_move(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Side,
        destination: &mut Side,
        buffers: &Buffers,
    ) -> Poll<Result<(), MoveError>> {
        match source {
            Side::Http1(link) => self.poll_move_link(cx, link, destination, buffers),
            Side::Http2(stream) => self.poll_move_stream(cx, stream, destination, buffers),
        }
    }

    fn poll_move_link(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Link,
        destination: &mut Side,
        buffers: &Buffers,
    ) -> Poll<Result<(), MoveError>> {
        if !self.ended && !source.ahead().is_empty() && self.out.len() - self.sent < COPY_BELOW {
            // The start of a body came with its head: both leave in one write.
            self.feed_ahead(cx, source, destination, buffers)?;
        }
        loop {
            if self.poll_flush(cx, destination, buffers)?.is_pending() {
                return Poll::Pending;
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            if !source.ahead().is_empty() {
                self.feed_ahead(cx, source, destination, buffers)?;
                continue;
            }
            if let Some(splice) = self.splice.as_mut().filter(|splice| splice.is_on())
                && let (Some(from), Some(to)) = (source.bare(), destination.link().and_then(|link| link.bare()))
            {
                match ready!(splice.poll_step(cx, (from, to), buffers))? {
                    Step::Taken(0) => self.end(buffers),
                    Step::Taken(count) => {
                        self.moved += count as u64;
                        self.progress += count as u64;
                    }
                    Step::Sent(count) => {
                        self.touched = true;
                        self.progress += count as u64;
                    }
                    Step::Impossible => {}
                }
                continue;
            }
            let mut scratch = buffers.scratch();
            let most = if self.narrow { NARROW_READ } else { scratch.len() };
            match source.poll_read(cx, &mut scratch[..most]) {
                Poll::Ready(Ok(0)) => {
                    self.decoder.finish_at_close().map_err(|error| MoveError::Closed(error.to_string()))?;
                    self.end(buffers);
                }
                Poll::Ready(Ok(count)) => {
                    self.progress += count as u64;
                    if let Some(splice) = &mut self.splice {
                        splice.note_read(count);
                    }
                    let consumed = self.feed(cx, &scratch[..count], destination, buffers)?;
                    source.keep(&scratch[consumed..count], buffers);
                    self.check_destination()?;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(MoveError::Closed(error.to_string()))),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_move_stream(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Stream,
        destination: &mut Side,
        buffers: &Buffers,
    ) -> Poll<Result<(), MoveError>> {
        let closed = |error: h2::Error| MoveError::Closed(error.to_string());
        loop {
            if self.poll_flush(cx, destination, buffers)?.is_pending() {
                source.hold(cx);
                return Poll::Pending;
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            match source.poll_data(cx) {
                Poll::Ready(Some(data)) => {
                    let data = data.map_err(closed)?;
                    self.note(&data);
                    self.progress += data.len() as u64;
                    self.forward(cx, data, destination, buffers);
                    self.check_destination()?;
                    if source.has_ended() {
                        self.end(buffers);
                    }
                }
                Poll::Ready(None) => {
                    let Poll::Ready(trailers) = source.poll_trailers(cx).map_err(closed)? else { return Poll::Pending };
                    if let Some(map) = trailers {
                        let mut list = HeaderList::new();
                        read_http2_trailers(&map, self.decoder.limits(), &mut list)
                            .map_err(|_| MoveError::Invalid(BodyError::TrailersTooLarge))?;
                        self.trailers = (!list.is_empty()).then(|| Box::new(list));
                    }
                    self.end(buffers);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Hands on one piece of a stream; between streams without a copy.
    fn forward(&mut self, cx: &mut Context<'_>, mut data: Bytes, destination: &mut Side, buffers: &Buffers) {
        if let Side::Http2(stream) = destination
            && !self.retain
            && !self.has_unsent()
        {
            while !data.is_empty() {
                match stream.poll_send_shared(cx, &mut data) {
                    Poll::Ready(Ok(sent)) => {
                        self.touched = true;
                        self.progress += sent as u64;
                    }
                    Poll::Ready(Err(error)) => return self.broken = Some(error),
                    Poll::Pending => break,
                }
            }
            if !data.is_empty() {
                self.out(buffers).extend_from_slice(&data);
            }
            return;
        }
        if !data.is_empty() {
            self.send(cx, &data, destination, buffers);
        }
    }

    /// Decodes bytes that the source link read ahead.
    fn feed_ahead(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Link,
        destination: &mut Side,
        buffers: &Buffers,
    ) -> Result<(), MoveError> {
        let consumed = self.feed(cx, source.ahead(), destination, buffers)?;
        source.use_ahead(consumed, buffers);
        self.check_destination()
    }

    /// Fails when the destination has, once everything that was decoded has been accounted for.
    pub fn check_destination(&mut self) -> Result<(), MoveError> {
        match self.broken.take() {
            Some(error) => Err(MoveError::Destination(error)),
            None => Ok(()),
        }
    }

    /// Decodes `input` and sends or queues its body bytes; returns how much was consumed (less only after the end of the
    /// body). A destination that fails on the way is reported by [`Direction::check_destination`]: what was decoded was
    /// consumed nevertheless, or the place of the next message would be lost.
    pub fn feed(
        &mut self,
        cx: &mut Context<'_>,
        input: &[u8],
        destination: &mut Side,
        buffers: &Buffers,
    ) -> Result<usize, MoveError> {
        let mut position = 0;
        while !self.ended && position < input.len() {
            let step = self.decoder.decode(&input[position..]).map_err(MoveError::Invalid)?;
            let data = &input[position + step.data.start..position + step.data.end];
            position += step.consumed;
            if !data.is_empty() {
                self.note(data);
                self.send(cx, data, destination, buffers);
            }
            if step.done {
                self.end(buffers);
            } else if step.consumed == 0 {
                break;
            }
        }
        Ok(position)
    }

    fn send(&mut self, cx: &mut Context<'_>, data: &[u8], destination: &mut Side, buffers: &Buffers) {
        if self.broken.is_some() {
            return;
        }
        let chunked = self.framing == BodyLength::Chunked;
        if chunked {
            write_chunk_header(data.len(), self.out(buffers));
        }
        if self.retain && self.out.len() + data.len() > RETAINED {
            self.release(buffers);
        }
        if self.retain || data.len() < COPY_BELOW {
            self.out(buffers).extend_from_slice(data);
        } else {
            self.send_in_place(cx, data, destination, buffers);
        }
        if chunked {
            write_chunk_end(self.out(buffers));
        }
    }

    /// Writes what is queued and `data` with one system call and queues the rest of `data`.
    fn send_in_place(&mut self, cx: &mut Context<'_>, data: &[u8], destination: &mut Side, buffers: &Buffers) {
        let queued = self.out.len() - self.sent;
        let written = match destination.poll_write_both(cx, &self.out[self.sent..], data) {
            Poll::Ready(Ok(written)) => written,
            Poll::Ready(Err(error)) => {
                self.broken = Some(error);
                return;
            }
            Poll::Pending => 0,
        };
        self.touched |= written > 0;
        self.progress += written as u64;
        let of_data = written.saturating_sub(queued);
        if written >= queued {
            self.out.clear();
            self.sent = 0;
        } else {
            self.sent += written;
        }
        self.narrow = of_data < data.len();
        if self.narrow {
            self.out(buffers).extend_from_slice(&data[of_data..]);
        }
    }

    fn end(&mut self, buffers: &Buffers) {
        self.ended = true;
        self.finish_copy();
        if self.framing == BodyLength::Chunked {
            if self.out.capacity() == 0 {
                self.out = buffers.take();
            }
            write_last_chunk(self.trailers.as_deref().or_else(|| self.decoder.trailers()), &mut self.out);
        }
    }

    /// Sends what is queued, and with the last of it the end of the body, where the destination has such an end.
    pub fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        destination: &mut Side,
        buffers: &Buffers,
    ) -> Poll<Result<(), MoveError>> {
        let last = self.ended && !self.held_open && destination.is_http2() && self.trailers().is_none();
        while self.sent < self.out.len() {
            match destination.poll_write(cx, &self.out[self.sent..], last) {
                Poll::Ready(Ok(written)) => {
                    self.touched = true;
                    self.sent += written;
                    self.progress += written as u64;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(MoveError::Destination(error))),
                Poll::Pending => return Poll::Pending,
            }
        }
        match destination {
            Side::Http2(stream) => {
                self.flushing = false;
                if self.ended && !self.held_open && !stream.is_finished() {
                    stream.finish(self.trailers().map(write_http2_trailers)).map_err(MoveError::Destination)?;
                }
            }
            Side::Http1(link) => {
                let flushed = link.poll_flush(cx).map_err(MoveError::Destination)?;
                self.flushing = flushed.is_pending();
                if self.flushing {
                    return Poll::Pending;
                }
            }
        }
        if !self.retain {
            self.sent = 0;
            buffers.give_back(&mut self.out);
        }
        Poll::Ready(Ok(()))
    }
}
