//! Bytes from socket to socket that never come into our memory: `splice(2)` through a pipe.
//!
//! Knows two sockets in clear text and a pipe, and when it is worth while. Read next: `direction`, which keeps the books.

use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use tokio::io::Interest;

use crate::net::TcpStream;
use crate::{Buffers, MoveError};

/// Bytes are spliced after so many reads in a row of at least so many bytes, and copied again after a smaller one: splicing
/// saves copies, and costs a system call more where there is little to move.
const AFTER: u8 = 4;
const LARGE_READ: usize = 16 * 1024;
/// What a pipe holds at most; the size that the kernel gives it unasked, and no more than is copied at once otherwise.
const ROOM: usize = 64 * 1024;

/// Whether one direction of a connection is spliced just now.
#[derive(Default)]
pub(crate) struct Splice {
    /// Reads in a row that were large.
    large_reads: u8,
    /// There while bytes in it wait for the destination.
    pipe: Option<Pipe>,
}

/// What a step has moved.
pub(crate) enum Step {
    /// So many bytes came from the source; 0 is its end.
    Taken(usize),
    /// So many bytes went to the destination.
    Sent(usize),
    /// There is no pipe to be had: bytes are copied.
    Impossible,
}

impl Splice {
    /// Notes a read of bytes that leave as they come.
    pub(crate) fn note_read(&mut self, count: usize) {
        self.large_reads = if count >= LARGE_READ { self.large_reads.saturating_add(1) } else { 0 };
    }

    /// Whether the next bytes are to be spliced.
    pub(crate) fn is_on(&self) -> bool {
        self.large_reads >= AFTER || self.is_holding()
    }

    /// Bytes wait for the destination.
    pub(crate) fn is_holding(&self) -> bool {
        self.pipe.is_some()
    }

    /// Moves something, while [`Splice::is_on`].
    pub(crate) fn poll_step(
        &mut self,
        cx: &mut Context<'_>,
        (from, to): (&TcpStream, &TcpStream),
        buffers: &Buffers,
    ) -> Poll<Result<Step, MoveError>> {
        let Some(mut pipe) = self.pipe.take().or_else(|| buffers.take_pipe()) else {
            self.large_reads = 0;
            return Poll::Ready(Ok(Step::Impossible));
        };
        let step = if pipe.is_empty() {
            let taken = pipe.poll_fill(cx, from);
            if let Poll::Ready(Ok(count)) = taken {
                self.note_read(count);
            }
            taken.map_ok(Step::Taken).map_err(|error| MoveError::Closed(error.to_string()))
        } else {
            pipe.poll_drain(cx, to).map_ok(Step::Sent).map_err(MoveError::Destination)
        };
        if pipe.is_empty() {
            buffers.give_back_pipe(pipe);
        } else {
            self.pipe = Some(pipe);
        }
        step
    }
}

/// A pipe, and how much is in it. It is filled only when it is empty.
pub(crate) struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    held: usize,
}

impl Pipe {
    /// A new pipe.
    ///
    /// # Errors
    /// File descriptors are used up.
    pub(crate) fn open() -> io::Result<Self> {
        let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Self { out, into, held: 0 })
    }

    /// Nothing is in it: it may serve somebody else.
    pub(crate) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Takes what the socket has; 0 is the end. Call it only while the pipe is empty: one that is full looks like a socket that
    /// has nothing.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>, from: &TcpStream) -> Poll<io::Result<usize>> {
        debug_assert!(self.is_empty(), "a pipe is emptied before it is filled");
        loop {
            ready!(from.poll_read_ready(cx))?;
            let moved = from.try_io(Interest::READABLE, || Ok(splice(from, None, &self.into, None, ROOM, FLAGS)?));
            if let Some(moved) = unless_blocked(moved) {
                self.held = moved.as_ref().map_or(0, |count| *count);
                return Poll::Ready(moved);
            }
        }
    }

    /// Gives what the socket takes, at least a byte. Call it only while there is something.
    pub(crate) fn poll_drain(&mut self, cx: &mut Context<'_>, to: &TcpStream) -> Poll<io::Result<usize>> {
        loop {
            ready!(to.poll_write_ready(cx))?;
            let moved = to.try_io(Interest::WRITABLE, || Ok(splice(&self.out, None, to, None, self.held, FLAGS)?));
            if let Some(moved) = unless_blocked(moved) {
                self.held -= moved.as_ref().map_or(0, |count| *count);
                return Poll::Ready(moved);
            }
        }
    }
}

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

fn unless_blocked(moved: io::Result<usize>) -> Option<io::Result<usize>> {
    match moved {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        moved => Some(moved),
    }
}
