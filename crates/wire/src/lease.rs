//! A connection, or a stream of a shared one, while a request has it.
//!
//! Read next: `pool`, which hands it out.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::Request;

use crate::http2::StreamPlace;
use crate::pool::{Idle, Open};
use crate::{Buffers, EndpointPool, PoolLimits, Protocol, Reuse, Side};

/// Safety distance from a `Keep-Alive: timeout` that the endpoint announced.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_millis(1000);

/// A connection in use, or a stream of one. Dropped, it is closed; [`Lease::give_back`] keeps it.
pub struct Lease {
    /// Of HTTP/2 only once a request was sent.
    pub(crate) side: Option<Side>,
    /// The place of a stream on a shared connection.
    pub(crate) place: Option<StreamPlace>,
    /// The place of a connection that is this request's alone.
    pub(crate) open: Option<Open>,
    pub(crate) pool: Rc<EndpointPool>,
    pub(crate) requests: u32,
    pub(crate) opened: Instant,
    pub(crate) reuse: Reuse,
    /// It began with what is true of one client only (PROXY protocol).
    pub(crate) is_exclusive: bool,
}

impl Lease {
    /// The side of the endpoint; with HTTP/2 only behind [`Lease::open_stream`].
    pub fn side(&mut self) -> Option<&mut Side> {
        self.side.as_mut()
    }

    /// What is spoken.
    pub fn protocol(&self) -> Protocol {
        if self.place.is_some() { Protocol::Http2 } else { Protocol::Http1 }
    }

    /// Opens a stream with the head of a request; `protocol` is that of an extended CONNECT, `ended` says that no body
    /// follows.
    ///
    /// # Errors
    /// The connection takes no further stream, and nothing was sent; or it does not speak HTTP/2.
    pub fn open_stream(&mut self, mut request: Request<()>, protocol: Option<&str>, ended: bool) -> Result<(), String> {
        let Some(place) = &self.place else { return Err("the connection does not speak HTTP/2".to_owned()) };
        if let Some(protocol) = protocol {
            request.extensions_mut().insert(h2::ext::Protocol::from(protocol));
        }
        let stream = place.send(request, ended).map_err(|error| error.to_string())?;
        self.side = Some(Side::Http2(Box::new(stream)));
        Ok(())
    }

    /// Whether the endpoint takes WebSockets over HTTP/2; waits for its settings.
    pub async fn takes_extended_connect(&self) -> bool {
        match &self.place {
            Some(place) => place.takes_extended_connect().await.unwrap_or(false),
            None => false,
        }
    }

    /// Whether it has served before.
    pub fn reuse(&self) -> Reuse {
        self.reuse
    }

    /// Our address on this connection, where it is not shared.
    pub fn local_address(&self) -> Option<SocketAddr> {
        match &self.side {
            Some(Side::Http1(link)) => link.tcp().local_addr().ok(),
            _ => None,
        }
    }

    /// Keeps the connection for the next request, unless it is used up. `keep_alive` is what the endpoint announced. Nothing
    /// can be done with the lease afterwards but to drop it, where it lies.
    pub fn give_back(&mut self, limits: &PoolLimits, keep_alive: Option<Duration>, now: Instant) {
        if let Some(place) = &mut self.place {
            place.complete();
            drop(self.side.take());
            drop(self.place.take());
            self.pool.wake_one();
            return;
        }
        let requests = self.requests + 1;
        let used_up = limits.requests.is_some_and(|most| requests >= most)
            || limits.age.is_some_and(|most| now.saturating_duration_since(self.opened) >= most)
            || self.pool.is_retired()
            || self.is_exclusive;
        if used_up {
            return;
        }
        let until = keep_alive.map(|announced| {
            let safe = announced.saturating_sub(KEEP_ALIVE_MARGIN).max(announced / 2);
            now + safe
        });
        if let (Some(Side::Http1(link)), Some(open)) = (self.side.take(), self.open.take()) {
            self.pool.keep(Idle { link, open, requests, opened: self.opened, since: now, until });
        }
    }

    /// Closes the connection, or ends the stream, and gives its buffers back.
    pub fn discard(&mut self, buffers: &Buffers) {
        if let Some(side) = &mut self.side {
            side.dispose(buffers);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A stream goes before its place, and its place before whoever waits for one.
        self.side = None;
        if self.place.take().is_some() {
            self.pool.wake_one();
        }
    }
}
