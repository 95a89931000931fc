//! Upstream connections of one worker to one endpoint of one cluster: last in, first out.
//!
//! An idle connection costs no task. That it was closed by its peer is seen without a system call, because the runtime
//! has recorded the event by then; only after a longer pause the socket itself is asked.
//! The pool knows no limits of the cluster: the caller asks those before it opens, and hears of every close.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::net::{self, KeepAlive};
use crate::{Buffers, Link};

/// A reused connection that was idle for at least this long is asked for its state by a system call before use.
const ASK_AFTER: Duration = Duration::from_millis(20);
/// Safety distance from a `Keep-Alive: timeout` that the endpoint announced.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_millis(1000);

/// Every property that makes two upstream connections different. A connection is reused only when all are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolKey {
    /// Where it leads to.
    pub address: SocketAddr,
    /// Keep-alive probes asked of the kernel.
    pub keep_alive: Option<KeepAlive>,
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

struct Idle {
    link: Link,
    open: Open,
    requests: u32,
    opened: Instant,
    since: Instant,
    until: Option<Instant>,
}

/// A connection that counts as open. Dropping it counts it as closed and lets a waiting request go on.
struct Open {
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
            open: Cell::new(0),
            waiters: RefCell::default(),
            retired: Cell::new(false),
        }
    }

    /// What its connections have in common.
    pub fn key(&self) -> PoolKey {
        self.key
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
        for _ in 0..self.waiters.borrow().len() {
            self.wake_one();
        }
    }

    /// Requests wait for a connection.
    pub fn has_waiters(&self) -> bool {
        !self.waiters.borrow().is_empty()
    }

    /// The most recently used connection that is still alive.
    pub fn checkout(self: &Rc<Self>, limits: &PoolLimits, now: Instant) -> Option<Lease> {
        loop {
            let idle = self.idle.borrow_mut().pop()?;
            if is_usable(&idle, limits, now) {
                return Some(Lease {
                    link: Some(idle.link),
                    open: Some(idle.open),
                    pool: self.clone(),
                    requests: idle.requests,
                    opened: idle.opened,
                    reuse: Reuse::Reused,
                });
            }
        }
    }

    /// Opens a connection. The caller has made sure that it may; `on_close` is called once when the connection is closed,
    /// or when it could not be opened.
    pub async fn connect(self: Rc<Self>, timeout: Duration, on_close: OnClose) -> io::Result<Lease> {
        let open = Open::new(&self, on_close);
        let PoolKey { address, keep_alive } = self.key;
        let connected = match tokio::time::timeout(timeout, net::connect(address, keep_alive)).await {
            Ok(connected) => connected?,
            Err(_) => {
                let text = format!("no answer from {address} within {timeout:?}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
        };
        Ok(Lease {
            link: Some(Link::new(connected)),
            open: Some(open),
            pool: self,
            requests: 0,
            opened: Instant::now(),
            reuse: Reuse::Fresh,
        })
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
    }
}

fn is_usable(idle: &Idle, limits: &PoolLimits, now: Instant) -> bool {
    let paused = now.saturating_duration_since(idle.since);
    if idle.until.is_some_and(|until| now >= until)
        || limits.idle.is_some_and(|most| paused >= most)
        || limits.age.is_some_and(|most| now.saturating_duration_since(idle.opened) >= most)
    {
        return false;
    }
    let mut byte = [0];
    // Without a recorded event this is no system call; anything readable on an idle connection is its end.
    let quiet =
        matches!(idle.link.stream().try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
    quiet && (paused < ASK_AFTER || net::is_silent(idle.link.stream()))
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

/// A connection in use. Dropped, it is closed; [`Lease::give_back`] keeps it.
pub struct Lease {
    link: Option<Link>,
    open: Option<Open>,
    pool: Rc<EndpointPool>,
    requests: u32,
    opened: Instant,
    reuse: Reuse,
}

impl Lease {
    /// The connection.
    pub fn link(&mut self) -> &mut Link {
        self.link.as_mut().expect("present until given back")
    }

    /// Whether it has served before.
    pub fn reuse(&self) -> Reuse {
        self.reuse
    }

    /// Our address on this connection.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.link.as_ref().and_then(|link| link.stream().local_addr().ok())
    }

    /// Keeps the connection for the next request, unless it is used up. `keep_alive` is what the endpoint announced.
    pub fn give_back(mut self, limits: &PoolLimits, keep_alive: Option<Duration>, now: Instant) {
        let requests = self.requests + 1;
        let used_up = limits.requests.is_some_and(|most| requests >= most)
            || limits.age.is_some_and(|most| now.saturating_duration_since(self.opened) >= most)
            || self.pool.retired.get();
        if used_up {
            return;
        }
        let until = keep_alive.map(|announced| {
            let safe = announced.saturating_sub(KEEP_ALIVE_MARGIN).max(announced / 2);
            now + safe
        });
        if let (Some(link), Some(open)) = (self.link.take(), self.open.take()) {
            self.pool.idle.borrow_mut().push(Idle { link, open, requests, opened: self.opened, since: now, until });
            self.pool.wake_one();
        }
    }

    /// Closes the connection and gives its buffers back.
    pub fn discard(mut self, buffers: &Buffers) {
        if let Some(link) = &mut self.link {
            link.use_ahead(usize::MAX, buffers);
        }
    }
}
