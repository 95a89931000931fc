//! The bytes below `h2`: what was read before it began, and the meter over what comes after.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use meshwright_codec::{FrameFlood, FrameMeter};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::Transport;

/// What a client says first (RFC 9113, section 3.4). No request of HTTP/1 begins like this.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes that are read at once where heads may come.
const HEADS_AT_ONCE: u64 = 2048;

/// DATA frames after which others get their turn. `h2` takes every frame there is to read before whoever waits for its bytes can
/// run, and ends the connection when many small ones have piled up (see `held`).
const DATA_AT_ONCE: u32 = 500;

/// The meter of a connection, shared between its socket and its task.
pub(super) struct Meter {
    frames: RefCell<FrameMeter>,
    flood: Cell<Option<FrameFlood>>,
    /// Since when the peer takes nothing of what waits for it.
    pub(super) blocked_since: Cell<Option<Instant>>,
    heads: Heads,
    /// DATA frames at the last pause.
    paused_at: Cell<u32>,
}

/// `h2` decodes every head there is to read before it hands out the first. A decoded head takes up to 70 times its bytes, so
/// heads are read only as fast as they are taken.
#[derive(Default)]
struct Heads {
    /// Whether they are taken one by one.
    are_taken: Cell<bool>,
    /// Some were read and may not have been taken.
    wait: Cell<bool>,
}

impl Meter {
    pub(super) fn new(frames: FrameMeter) -> Rc<Self> {
        Rc::new(Self {
            frames: RefCell::new(frames),
            flood: Cell::new(None),
            blocked_since: Cell::new(None),
            heads: Heads::default(),
            paused_at: Cell::new(0),
        })
    }

    /// The limit that the peer has broken.
    pub(super) fn flood(&self) -> Option<FrameFlood> {
        self.flood.get()
    }

    /// A request was refused for what its head says, which counts as frames do that nobody needs.
    pub(super) fn refused(&self) {
        if let Err(flood) = self.frames.borrow_mut().refused(Instant::now()) {
            self.flood.set(Some(flood));
        }
    }

    /// From now on nothing is read behind a head until [`Meter::heads_were_taken`].
    pub(super) fn take_heads(&self) {
        self.heads.are_taken.set(true);
    }

    /// All heads that were read have been taken; whether reading had to wait for that and goes on now.
    pub(super) fn heads_were_taken(&self) -> bool {
        self.heads.wait.replace(false)
    }

    /// Whether so many DATA frames came that others should have their turn now; it says so once.
    fn is_to_pause(&self) -> bool {
        let frames = self.frames.borrow().data_frames();
        let pause = frames.wrapping_sub(self.paused_at.get()) >= DATA_AT_ONCE;
        if pause {
            self.paused_at.set(frames);
        }
        pause
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
        if self.meter.heads.wait.get() {
            // Whoever takes the heads asks again.
            return Poll::Pending;
        }
        if self.meter.is_to_pause() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        if !self.ahead.is_empty() {
            self.read_ahead(buffer);
        } else if self.meter.heads.are_taken.get() && !self.meter.frames.borrow().is_in_data() {
            let mut little = (&mut self.transport).take(HEADS_AT_ONCE);
            ready!(Pin::new(&mut little).poll_read(cx, buffer))?;
        } else {
            ready!(Pin::new(&mut self.transport).poll_read(cx, buffer))?;
        }
        let meter = &self.meter;
        let read = &buffer.filled()[before..];
        let heads = meter.frames.borrow().heads();
        let observed = meter.frames.borrow_mut().observe(read, Instant::now);
        meter.heads.wait.set(meter.heads.are_taken.get() && meter.frames.borrow().heads() != heads);
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
