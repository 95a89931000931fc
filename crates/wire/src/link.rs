//! One connection that speaks HTTP/1, with the bytes that were read ahead of their use.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use crate::net::TcpStream;
use crate::{Buffers, Transport};

/// Bytes that are read ahead while something else is awaited; more stay in the kernel.
const READ_AHEAD: usize = 16 * 1024;

/// A connection and what was read from it but not used yet (the next pipelined request, the start of a body).
pub struct Link {
    transport: Transport,
    ahead: Vec<u8>,
    used: usize,
}

impl Link {
    /// Wraps a connection from which `ahead` was read already.
    pub fn new(transport: Transport, ahead: Vec<u8>) -> Self {
        Self { transport, ahead, used: 0 }
    }

    /// The socket.
    pub fn tcp(&self) -> &TcpStream {
        self.transport.tcp()
    }

    /// The socket, where what it carries is what the connection says: there is no TLS.
    pub(crate) fn bare(&self) -> Option<&TcpStream> {
        (!self.is_tls()).then(|| self.tcp())
    }

    /// Whether it is a TLS session.
    pub fn is_tls(&self) -> bool {
        self.transport.tls().is_some()
    }

    /// Whether it is still open and silent while nothing is awaited ([`Transport::is_quiet`]).
    pub fn is_quiet(&mut self) -> bool {
        self.transport.is_quiet()
    }

    /// Gives the connection away, with what was read ahead.
    pub fn into_parts(self) -> (Transport, Vec<u8>) {
        let Self { transport, mut ahead, used } = self;
        ahead.drain(..used);
        (transport, ahead)
    }

    /// Bytes read ahead.
    pub fn ahead(&self) -> &[u8] {
        &self.ahead[self.used..]
    }

    /// Keeps `bytes` for later, behind what is kept already.
    pub fn keep(&mut self, bytes: &[u8], buffers: &Buffers) {
        if bytes.is_empty() {
            return;
        }
        if self.ahead.capacity() == 0 {
            self.ahead = buffers.take();
        }
        if self.used >= self.ahead.len() / 2 {
            // What was used goes now and then, or a client that never pauses would make this grow for ever.
            self.ahead.drain(..self.used);
            self.used = 0;
        }
        self.ahead.extend_from_slice(bytes);
    }

    /// Drops the first `count` bytes that were read ahead; an emptied buffer goes back to the worker.
    pub fn use_ahead(&mut self, count: usize, buffers: &Buffers) {
        self.used = self.used.saturating_add(count);
        if self.used >= self.ahead.len() {
            buffers.give_back(&mut self.ahead);
            self.used = 0;
        }
    }

    /// Reads from the socket, past what was read ahead. 0 is the end.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        self.transport.poll_read(cx, into)
    }

    /// Notices that the peer goes away while something else is awaited: ready with what was seen. Reads ahead a little of
    /// what it sends meanwhile.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>, buffers: &Buffers) -> Poll<String> {
        while self.ahead().len() < READ_AHEAD {
            let mut scratch = buffers.scratch();
            match self.poll_read(cx, &mut scratch[..READ_AHEAD]) {
                Poll::Ready(Ok(0)) => return Poll::Ready("it closed the connection".to_owned()),
                Poll::Ready(Ok(count)) => self.keep(&scratch[..count], buffers),
                Poll::Ready(Err(error)) => return Poll::Ready(error.to_string()),
                Poll::Pending => break,
            }
        }
        Poll::Pending
    }

    /// Writes. What is taken may still wait for [`Link::poll_flush`].
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.transport.poll_write(cx, bytes)
    }

    /// Writes two runs of bytes as one.
    pub fn poll_write_both(&mut self, cx: &mut Context<'_>, first: &[u8], second: &[u8]) -> Poll<io::Result<usize>> {
        self.transport.poll_write_vectored(cx, &[IoSlice::new(first), IoSlice::new(second)])
    }

    /// Ready when everything that was taken is on its way.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.poll_flush(cx)
    }

    /// Says that nothing more will be written.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.poll_shutdown(cx)
    }
}
