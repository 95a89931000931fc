//! A connection of HTTP/2 from a client: streams as they come, until the client goes or one of us ends it.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use h2::ext::Protocol;
use h2::server::Builder;
use http::request;
use meshwright_codec::{FrameFlood, FrameMeter};

use super::metered::{Meter, Metered};
use super::{CONNECTION_WINDOW, SEND_BUFFER, STREAM_WINDOW, Stream};
use crate::{Limits, Transport};

/// Streams that we reset and remember, so that what a client has under way for them is no error: early answers to uploads end
/// like this. `h2` remembers the first so many, and none beyond, until their time is over.
const REMEMBERED_RESETS: usize = 256;
/// How long they are remembered: what a client sent before it knew arrives within a round trip.
const REMEMBERED_FOR: Duration = Duration::from_millis(250);

/// What comes from a client.
pub enum Accepted {
    /// A request head, `:protocol` of an extended CONNECT, and the side it came from.
    Stream(Box<request::Parts>, Option<Box<str>>, Stream),
    /// It sends too much of something and was told so (ENHANCE_YOUR_CALM); what is left is [`ServerConnection::poll_closed`].
    Flood(FrameFlood),
    /// It is gone, for a reason when that was no clean end.
    Ended(Option<h2::Error>),
}

/// A client's connection.
pub struct ServerConnection {
    h2: h2::server::Connection<Metered, Bytes>,
    meter: Rc<Meter>,
    flooded: bool,
}

impl ServerConnection {
    /// Begins HTTP/2 on a connection; `ahead` was read from it already.
    ///
    /// # Errors
    /// The socket fails, or what comes is no HTTP/2.
    pub async fn begin(transport: Transport, ahead: Vec<u8>, limits: &Limits) -> io::Result<Self> {
        let meter = Meter::new(FrameMeter::of_client(limits.frames));
        let h2 = Builder::new()
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(u32::try_from(limits.head.head).unwrap_or(u32::MAX))
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(SEND_BUFFER)
            .max_concurrent_reset_streams(REMEMBERED_RESETS)
            .reset_stream_duration(REMEMBERED_FOR)
            .max_local_error_reset_streams(Some(limits.stream_errors))
            .enable_connect_protocol()
            .handshake(Metered::new(transport, ahead, meter.clone()))
            .await
            .map_err(io::Error::other)?;
        meter.take_heads();
        Ok(Self { h2, meter, flooded: false })
    }

    /// The next thing that comes, while everything else of the connection goes on.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Accepted> {
        let mut accepted = self.h2.poll_accept(cx);
        while accepted.is_pending() && self.meter.heads_were_taken() {
            accepted = self.h2.poll_accept(cx);
        }
        if let Some(flood) = self.meter.flood()
            && !self.flooded
        {
            self.flooded = true;
            self.h2.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            return Poll::Ready(Accepted::Flood(flood));
        }
        Poll::Ready(match ready!(accepted) {
            Some(Ok((request, respond))) => {
                let (parts, receive) = request.into_parts();
                let protocol = parts.extensions.get::<Protocol>().map(|protocol| protocol.as_str().into());
                Accepted::Stream(Box::new(parts), protocol, Stream::of_client(receive, respond))
            }
            Some(Err(error)) => Accepted::Ended(Some(error)),
            None => Accepted::Ended(None),
        })
    }

    /// A request that came was refused for what its head says. A client that sends too many of them is told to calm down.
    pub fn refused(&self) {
        self.meter.refused();
    }

    /// Tells the client by GOAWAY to open no further stream here; those that are open go on.
    pub fn drain(&mut self) {
        self.h2.graceful_shutdown();
    }

    /// Ends the connection at once, without blame.
    pub fn end(&mut self) {
        self.h2.abrupt_shutdown(Reason::NO_ERROR);
    }

    /// Ready when everything is said and the connection is closed.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut closed = self.h2.poll_closed(cx);
        while closed.is_pending() && self.meter.heads_were_taken() {
            closed = self.h2.poll_closed(cx);
        }
        closed.map(|_| ())
    }

    /// Since when the client takes nothing of what waits for it.
    pub fn blocked_since(&self) -> Option<Instant> {
        self.meter.blocked_since.get()
    }
}
