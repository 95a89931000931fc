//! The bytes below `h2`: what was read before it began, and the meter over what comes after.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use meshwright_codec::{FrameFlood, FrameMeter};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Transport;

/// What a client says first (RFC 9113, section 3.4). No request of HTTP/1 begins like this.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The meter of a connection, shared between its socket and its task.
pub(super) struct Meter {
    frames: RefCell<FrameMeter>,
    flood: Cell<Option<FrameFlood>>,
    /// Since when the peer takes nothing of what waits for it.
    pub(super) blocked_since: Cell<Option<Instant>>,
}

impl Meter {
    pub(super) fn new(frames: FrameMeter) -> Rc<Self> {
        Rc::new(Self { frames: RefCell::new(frames), flood: Cell::new(None), blocked_since: Cell::new(None) })
    }

    /// The limit that the peer has broken.
    pub(super) fn flood(&self) -> Option<FrameFlood> {
        self.flood.get()
    }

    /// Notes what became of a write.
    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Pending if self.blocked_since.get().is_none() => self.blocked_since.set(Some(Instant::now())),
            Poll::Ready(Ok(count)) => {
                self.blocked_since.set(None);
                self.frames.borrow_mut().sent(*count);
            }
            _ => {}
        }
    }
}

/// A transport that begins with bytes read earlier and is metered.
pub(super) struct Metered {
    transport: Transport,
    ahead: Vec<u8>,
    used: usize,
    meter: Rc<Meter>,
}

impl Metered {
    pub(super) fn new(transport: Transport, ahead: Vec<u8>, meter: Rc<Meter>) -> Self {
        Self { transport, ahead, used: 0, meter }
    }

    /// Hands out what was read earlier; the memory goes with its last byte.
    fn read_ahead(&mut self, buffer: &mut ReadBuf<'_>) {
        let count = buffer.remaining().min(self.ahead.len() - self.used);
        buffer.put_slice(&self.ahead[self.used..self.used + count]);
        self.used += count;
        if self.used == self.ahead.len() {
            self.ahead = Vec::new();
            self.used = 0;
        }
    }
}

impl AsyncRead for Metered {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.meter.flood().is_some() {
            // Nothing more is taken from it; the task ends the connection.
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        if self.ahead.is_empty() {
            ready!(Pin::new(&mut self.transport).poll_read(cx, buffer))?;
        } else {
            self.read_ahead(buffer);
        }
        let meter = &self.meter;
        let read = &buffer.filled()[before..];
        let observed = meter.frames.borrow_mut().observe(read, Instant::now);
        if let Err(flood) = observed {
            meter.flood.set(Some(flood));
            buffer.set_filled(before);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.transport.poll_write(cx, bytes);
        self.meter.wrote(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        runs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.transport.poll_write_vectored(cx, runs);
        self.meter.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.poll_shutdown(cx)
    }
}
