//! Upstream connections of one worker to one endpoint of one cluster: last in, first out.
//!
//! An idle connection of HTTP/1 costs no task. That it was closed by its peer is seen without a system call, because the
//! runtime has recorded the event by then; only after a longer pause the socket itself is asked. Connections of HTTP/2 have a
//! task each and are shared; a further one is opened when those that are there have no room.
//! The pool knows no limits of the cluster: the caller asks those before it opens, and hears of every close.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use meshwright_identity::{Alpn, ClientTls};

use crate::http2::{self, Attempt, ClientConnection, ClientLimits, StreamPlace};
use crate::net::{self, KeepAlive};
use crate::tls::TlsStream;
use crate::{Lease, Link, Side, Transport};

/// A reused connection that was idle for at least this long is asked for its state by a system call before use.
const ASK_AFTER: Duration = Duration::from_millis(20);

/// What is spoken to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Whatever: bytes are not looked at.
    Bytes,
}

/// Every property that makes two upstream connections different. A connection is reused only when all are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolKey {
    /// Where it leads to.
    pub address: SocketAddr,
    /// Keep-alive probes asked of the kernel.
    pub keep_alive: Option<KeepAlive>,
    /// TLS.
    pub tls: Option<Arc<ClientTls>>,
}

/// How long connections are kept. `None` is for ever.
#[derive(Clone, Copy, Debug)]
pub struct PoolLimits {
    /// Time to connect.
    pub connect_timeout: Duration,
    /// Requests per connection.
    pub requests: Option<u32>,
    /// Time without a request.
    pub idle: Option<Duration>,
    /// Age after which a connection serves no further request.
    pub age: Option<Duration>,
    /// Of connections that speak HTTP/2.
    pub http2: ClientLimits,
}

/// Whether a leased connection has served a request before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Just opened.
    Fresh,
    /// It has served requests: its peer may be closing it at this moment.
    Reused,
}

/// What is done once when a connection is closed, or could not be opened.
pub type OnClose = Box<dyn FnOnce()>;

pub(crate) struct Idle {
    pub(crate) link: Link,
    pub(crate) open: Open,
    pub(crate) requests: u32,
    pub(crate) opened: Instant,
    pub(crate) since: Instant,
    pub(crate) until: Option<Instant>,
}

/// A connection that counts as open. Dropping it counts it as closed and lets a waiting request go on.
pub(crate) struct Open {
    pool: Rc<EndpointPool>,
    on_close: Option<OnClose>,
}

impl Open {
    fn new(pool: &Rc<EndpointPool>, on_close: OnClose) -> Self {
        pool.open.set(pool.open.get() + 1);
        Self { pool: pool.clone(), on_close: Some(on_close) }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.pool.open.set(self.pool.open.get() - 1);
        if let Some(on_close) = self.on_close.take() {
            on_close();
        }
        self.pool.wake_one();
    }
}

/// A request that waits for a connection. It keeps its place in the queue until it has one or gives up.
#[derive(Default)]
struct Waiter {
    woken: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// Connections to one endpoint.
pub struct EndpointPool {
    key: PoolKey,
    idle: RefCell<Vec<Idle>>,
    /// Connections of HTTP/2 that take requests, each with its place among the open ones.
    shared: RefCell<Vec<Rc<ClientConnection>>>,
    attempt: RefCell<Option<Rc<Attempt>>>,
    open: Cell<u32>,
    waiters: RefCell<VecDeque<Rc<Waiter>>>,
    retired: Cell<bool>,
}

impl EndpointPool {
    /// An empty pool.
    pub fn new(key: PoolKey) -> Self {
        Self {
            key,
            idle: RefCell::default(),
            shared: RefCell::default(),
            attempt: RefCell::default(),
            open: Cell::new(0),
            waiters: RefCell::default(),
            retired: Cell::new(false),
        }
    }

    /// What its connections have in common.
    pub fn key(&self) -> &PoolKey {
        &self.key
    }

    /// Connections open now, idle or leased.
    pub fn open(&self) -> u32 {
        self.open.get()
    }

    /// Connections that wait for a request.
    pub fn idle(&self) -> usize {
        self.idle.borrow().len()
    }

    /// The endpoint left: idle connections close now, leased ones when they come back.
    pub fn retire(&self) {
        self.retired.set(true);
        let idle = std::mem::take(&mut *self.idle.borrow_mut());
        drop(idle);
        // Each ends with the last of its requests.
        let shared = std::mem::take(&mut *self.shared.borrow_mut());
        drop(shared);
        for _ in 0..self.waiters.borrow().len() {
            self.wake_one();
        }
    }

    /// Requests wait for a connection.
    pub fn has_waiters(&self) -> bool {
        !self.waiters.borrow().is_empty()
    }

    /// The most recently used connection that is still alive, or a place on one that is shared.
    pub fn checkout(self: &Rc<Self>, protocol: Protocol, limits: &PoolLimits, now: Instant) -> Option<Lease> {
        match protocol {
            Protocol::Http1 => self.checkout_kept(limits, now),
            Protocol::Http2 => self.checkout_shared(limits, now),
            Protocol::Bytes => None,
        }
    }

    fn checkout_kept(self: &Rc<Self>, limits: &PoolLimits, now: Instant) -> Option<Lease> {
        loop {
            let mut idle = self.idle.borrow_mut().pop()?;
            if is_usable(&mut idle, limits, now) {
                return Some(Lease {
                    side: Some(Side::Http1(idle.link)),
                    place: None,
                    open: Some(idle.open),
                    pool: self.clone(),
                    requests: idle.requests,
                    opened: idle.opened,
                    reuse: Reuse::Reused,
                    is_exclusive: false,
                });
            }
        }
    }

    fn checkout_shared(self: &Rc<Self>, limits: &PoolLimits, now: Instant) -> Option<Lease> {
        let mut shared = self.shared.borrow_mut();
        shared.retain(|connection| {
            let is_old = limits.age.is_some_and(|most| now.saturating_duration_since(connection.opened()) >= most);
            !is_old && connection.is_usable()
        });
        let connection = shared.iter().find(|connection| connection.has_room())?;
        let reuse = Reuse::Reused;
        Some(self.lease_place(connection.take(), connection.opened(), reuse))
    }

    fn lease_place(self: &Rc<Self>, place: StreamPlace, opened: Instant, reuse: Reuse) -> Lease {
        Lease {
            side: None,
            place: Some(place),
            open: None,
            pool: self.clone(),
            requests: 0,
            opened,
            reuse,
            is_exclusive: false,
        }
    }

    /// Opens a connection. The caller has made sure that it may; `on_close` is called once when the connection is closed,
    /// or when it could not be opened. `header` is sent before anything else (PROXY protocol).
    ///
    /// # Errors
    /// The endpoint cannot be reached in time, or is not who it should be.
    pub async fn connect(
        self: Rc<Self>,
        protocol: Protocol,
        limits: &PoolLimits,
        header: &[u8],
        on_close: OnClose,
    ) -> io::Result<Lease> {
        let open = Open::new(&self, on_close);
        // A connection that is one client's alone is nothing to wait for.
        let attempt = (protocol == Protocol::Http2 && header.is_empty()).then(|| Attempting::begin(&self));
        let timeout = limits.connect_timeout;
        let connected = match tokio::time::timeout(timeout, self.dial(protocol, header)).await {
            Ok(connected) => connected,
            Err(_) => {
                let text = format!("no answer from {} within {timeout:?}", self.key.address);
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            }
        };
        let is_exclusive = !header.is_empty();
        let leased = match (connected, protocol) {
            (Ok(transport), Protocol::Http1 | Protocol::Bytes) => Ok(Lease {
                side: Some(Side::Http1(Link::new(transport, Vec::new()))),
                place: None,
                open: Some(open),
                pool: self.clone(),
                requests: 0,
                opened: Instant::now(),
                reuse: Reuse::Fresh,
                is_exclusive,
            }),
            (Ok(transport), Protocol::Http2) => self.share(transport, &limits.http2, open, is_exclusive).await,
            (Err(error), _) => Err(error),
        };
        if let Some(attempt) = attempt {
            attempt.end(leased.as_ref().map(|_| ()).map_err(ToString::to_string));
        }
        leased
    }

    async fn dial(&self, protocol: Protocol, header: &[u8]) -> io::Result<Transport> {
        let PoolKey { address, keep_alive, tls } = &self.key;
        let mut tcp = net::connect(*address, *keep_alive).await?;
        if !header.is_empty() {
            tokio::io::AsyncWriteExt::write_all(&mut tcp, header).await?;
        }
        Ok(match tls {
            None => Transport::Tcp(tcp),
            Some(tls) => {
                let alpn = match protocol {
                    Protocol::Http1 => Alpn::Http1,
                    Protocol::Http2 => Alpn::Http2,
                    Protocol::Bytes => Alpn::Nothing,
                };
                // Boxed: whoever waits for a connection in clear text need not hold what a handshake takes.
                let handshake = TlsStream::connect(tcp, tls.config_for(alpn).clone(), tls.server_name.clone());
                let stream = Box::pin(handshake).await?;
                if protocol == Protocol::Http2 && stream.protocol() != Some(b"h2") {
                    return Err(io::Error::other("the endpoint does not agree to HTTP/2 (ALPN h2)"));
                }
                Transport::Tls(Box::new(stream))
            }
        })
    }

    /// Begins HTTP/2 on a connection, which others may use too from now on.
    async fn share(
        self: &Rc<Self>,
        transport: Transport,
        limits: &ClientLimits,
        open: Open,
        is_exclusive: bool,
    ) -> io::Result<Lease> {
        let (connection, drive) = http2::open(transport, limits).await?;
        tokio::task::spawn_local(async move {
            drive.await;
            drop(open);
        });
        if !self.retired.get() && !is_exclusive {
            self.shared.borrow_mut().push(connection.clone());
        }
        Ok(self.lease_place(connection.take(), connection.opened(), Reuse::Fresh))
    }

    /// Joins those who wait for a connection of HTTP/2 that is being opened, when it would have room for one more.
    pub fn join_attempt(&self, limits: &PoolLimits) -> Option<Rc<Attempt>> {
        let attempt = self.attempt.borrow();
        attempt.as_ref().filter(|attempt| attempt.join(limits.http2.streams)).cloned()
    }

    /// Keeps a connection for the next request.
    pub(crate) fn keep(&self, idle: Idle) {
        self.idle.borrow_mut().push(idle);
        self.wake_one();
    }

    /// The endpoint left.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.get()
    }

    /// Takes the last place in the queue for a connection. First come, first served: whoever is not in the queue takes a
    /// kept connection only while nobody is ([`EndpointPool::has_waiters`]).
    pub fn queue(self: &Rc<Self>) -> Place {
        let waiter = Rc::new(Waiter::default());
        self.waiters.borrow_mut().push_back(waiter.clone());
        Place { pool: self.clone(), waiter }
    }

    /// Lets the first who waits try again: a connection came back or was closed, or a limit has room.
    pub fn wake_one(&self) {
        let waiters = self.waiters.borrow();
        let Some(waiter) = waiters.iter().find(|waiter| !waiter.woken.get()) else { return };
        waiter.woken.set(true);
        if let Some(waker) = waiter.waker.take() {
            waker.wake();
        }
    }

    /// Closes the connection that was idle for longest, to make room for a new one; whether there was one.
    pub fn close_idle(&self) -> bool {
        let mut idle = self.idle.borrow_mut();
        if idle.is_empty() {
            return false;
        }
        let oldest = idle.remove(0);
        drop(idle);
        drop(oldest);
        true
    }

    /// Closes idle connections that are dead or over their time.
    pub fn sweep(&self, limits: &PoolLimits, now: Instant) {
        let over: Vec<Idle> = self.idle.borrow_mut().extract_if(.., |idle| !is_usable(idle, limits, now)).collect();
        drop(over);
        self.shared.borrow_mut().retain(|connection| {
            let is_idle = connection.active() == 0
                && limits.idle.is_some_and(|most| now.saturating_duration_since(connection.idle_since()) >= most);
            !is_idle && connection.is_usable()
        });
    }
}

/// An attempt to open a connection that others may wait for. Given up, they try themselves.
struct Attempting {
    pool: Rc<EndpointPool>,
    attempt: Rc<Attempt>,
}

impl Attempting {
    fn begin(pool: &Rc<EndpointPool>) -> Self {
        let attempt = Rc::new(Attempt::default());
        pool.attempt.replace(Some(attempt.clone()));
        Self { pool: pool.clone(), attempt }
    }

    fn end(self, outcome: Result<(), String>) {
        self.attempt.end(outcome);
    }
}

impl Drop for Attempting {
    fn drop(&mut self) {
        self.attempt.end(Ok(()));
        let mut current = self.pool.attempt.borrow_mut();
        if current.as_ref().is_some_and(|current| Rc::ptr_eq(current, &self.attempt)) {
            *current = None;
        }
    }
}

fn is_usable(idle: &mut Idle, limits: &PoolLimits, now: Instant) -> bool {
    let paused = now.saturating_duration_since(idle.since);
    if idle.until.is_some_and(|until| now >= until)
        || limits.idle.is_some_and(|most| paused >= most)
        || limits.age.is_some_and(|most| now.saturating_duration_since(idle.opened) >= most)
    {
        return false;
    }
    idle.link.is_quiet() && (paused < ASK_AFTER || net::is_silent(idle.link.tcp()))
}

/// A place in the queue for a connection; given up when dropped.
pub struct Place {
    pool: Rc<EndpointPool>,
    waiter: Rc<Waiter>,
}

impl Place {
    /// Waits until it is worth trying again.
    pub async fn wait(&mut self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waiter.woken.replace(false) {
            return Poll::Ready(());
        }
        self.waiter.waker.replace(Some(cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pool.waiters.borrow_mut().retain(|other| !Rc::ptr_eq(other, &self.waiter));
        // Whoever leaves, served or not, may leave something for the next: there may be more idle connections than one.
        if self.waiter.woken.get() || self.pool.idle() > 0 {
            self.pool.wake_one();
        }
    }
}
