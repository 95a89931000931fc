//! One side of an exchange: a connection that speaks HTTP/1, or a stream of HTTP/2.
//!
//! The four pairs of protocols are two of these. Everything that the relay asks of a side stands here; what only one of the
//! protocols has stays with its own type. Read next: `direction`, `relay`.

use std::io;
use std::task::{Context, Poll};

use crate::http2::Stream;
use crate::{Buffers, Link};

/// A client or an endpoint.
pub enum Side {
    /// HTTP/1: the connection itself.
    Http1(Link),
    /// HTTP/2: one stream.
    Http2(Box<Stream>),
}

impl Side {
    /// The connection, where it speaks HTTP/1.
    pub fn link(&mut self) -> Option<&mut Link> {
        match self {
            Self::Http1(link) => Some(link),
            Self::Http2(_) => None,
        }
    }

    /// The stream, where it speaks HTTP/2.
    pub fn stream(&mut self) -> Option<&mut Stream> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(stream) => Some(stream),
        }
    }

    /// Whether it is a stream of HTTP/2.
    pub fn is_http2(&self) -> bool {
        matches!(self, Self::Http2(_))
    }

    /// Nothing was read from it that belongs to no message yet.
    pub fn is_clean(&self) -> bool {
        match self {
            Self::Http1(link) => link.ahead().is_empty(),
            Self::Http2(_) => true,
        }
    }

    /// Notices that the peer goes away while something else is awaited ([`Link::poll_gone`], [`Stream::poll_gone`]).
    pub fn poll_gone(&mut self, cx: &mut Context<'_>, buffers: &Buffers) -> Poll<String> {
        match self {
            Self::Http1(link) => link.poll_gone(cx, buffers),
            Self::Http2(stream) => stream.poll_gone(cx),
        }
    }

    /// Writes body bytes, which are not empty. With `last` a stream ends with them; a connection has no such end.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8], last: bool) -> Poll<io::Result<usize>> {
        match self {
            Self::Http1(link) => link.poll_write(cx, bytes),
            Self::Http2(stream) => stream.poll_send(cx, bytes, last),
        }
    }

    /// Writes two runs of body bytes; the first may be empty.
    pub(crate) fn poll_write_both(
        &mut self,
        cx: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Http1(link) => link.poll_write_both(cx, first, second),
            Self::Http2(stream) if first.is_empty() => stream.poll_send(cx, second, false),
            Self::Http2(stream) => stream.poll_send(cx, first, false),
        }
    }

    /// Ready when everything that was taken is on its way.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Http1(link) => link.poll_flush(cx),
            Self::Http2(_) => Poll::Ready(Ok(())),
        }
    }

    /// Says that nothing more will be written. A stream has said so with the end of its body.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Http1(link) => link.poll_shutdown(cx),
            Self::Http2(_) => Poll::Ready(Ok(())),
        }
    }

    /// Breaks off, so that what was sent is not taken for complete.
    pub fn break_off(&mut self) {
        match self {
            // A socket that is closed already needs none of it.
            Self::Http1(link) => drop(link.tcp().set_zero_linger()),
            Self::Http2(stream) => stream.abort(),
        }
    }

    /// Gives buffers back.
    pub fn dispose(&mut self, buffers: &Buffers) {
        if let Self::Http1(link) = self {
            link.use_ahead(usize::MAX, buffers);
        }
    }
}
