//! Stop one: accepting connections. A listener owns the tasks of its connections until the last of them has ended.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use meshwright_snapshot::Listener;
use meshwright_telemetry::Counter;
use meshwright_wire::net::{self, TcpListener, TcpStream};
use meshwright_wire::{Link, Side, Transport};
use tokio::sync::Notify;

use crate::accept;
use crate::connection::{self, Client, Connection, Counted};
use crate::tasks::Tasks;
use crate::view::View;
use crate::worker::Worker;

/// Pause after an accept error that is not about one connection (file descriptors used up).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a listener that takes nothing new waits for handshakes that had begun.
const HANDSHAKES: Duration = Duration::from_millis(50);

/// What a request reads once: the view, and the listener of it that its connection belongs to.
pub(crate) struct ListenerView {
    pub(crate) view: Rc<View>,
    pub(crate) listener: Arc<Listener>,
}

/// The place of a listener on one worker; it outlives the snapshots that name it.
pub(crate) struct ListenerSlot {
    current: RefCell<Rc<ListenerView>>,
    /// The listener is gone or the process stops: connections end after their next answer.
    pub(crate) draining: Cell<bool>,
    stop: Notify,
    closed: Notify,
    /// Told to connections of HTTP/2, which tell their clients.
    drained: Notify,
}

impl ListenerSlot {
    pub(crate) fn new(current: ListenerView) -> Self {
        Self {
            current: RefCell::new(Rc::new(current)),
            draining: Cell::new(false),
            stop: Notify::new(),
            closed: Notify::new(),
            drained: Notify::new(),
        }
    }

    /// The view that a request beginning now uses to its end.
    pub(crate) fn load(&self) -> Rc<ListenerView> {
        self.current.borrow().clone()
    }

    pub(crate) fn replace(&self, next: ListenerView) {
        self.current.replace(Rc::new(next));
    }

    /// Waits until the socket of a drained slot is closed; for one waiter.
    pub(crate) async fn closed(&self) {
        self.closed.notified().await;
    }

    /// Ends accepting; connections go on until their next answer.
    pub(crate) fn drain(&self) {
        self.draining.set(true);
        self.stop.notify_one();
        self.drained.notify_waiters();
    }

    /// Waits until the slot is drained.
    pub(crate) async fn drained(&self) {
        let notified = self.drained.notified();
        if !self.draining.get() {
            notified.await;
        }
    }
}

/// Accepts until the slot is drained, then waits for its connections, at most `grace`.
pub(crate) async fn run(worker: Rc<Worker>, slot: Rc<ListenerSlot>, socket: StdListener, grace: Duration) {
    let connections = Tasks::default();
    match TcpListener::from_std(socket) {
        Ok(listener) => {
            accept_while(&worker, &slot, &listener, &connections, slot.stop.notified()).await;
            if let Err(error) = net::take_no_more(&listener) {
                tracing::debug!(%error, "a closing listener cannot be made deaf; a connection that comes now may be lost");
            }
            accept_while(&worker, &slot, &listener, &connections, tokio::time::sleep(HANDSHAKES)).await;
            accept_queued(&worker, &slot, listener, &connections);
        }
        Err(error) => tracing::error!(%error, "a listening socket cannot be used"),
    }
    slot.closed.notify_one();
    if tokio::time::timeout(grace, connections.ended()).await.is_err() {
        let forced = connections.len();
        worker.metrics.add(Counter::DownstreamConnectionsForced, forced as u64);
        tracing::warn!(connections = forced, after = ?grace, "the drain time is over; connections are closed by force");
        connections.shutdown().await;
    }
}

/// Accepts until `end`.
async fn accept_while(
    worker: &Rc<Worker>,
    slot: &Rc<ListenerSlot>,
    listener: &TcpListener,
    connections: &Tasks,
    end: impl Future<Output = ()>,
) {
    let mut end = pin!(end);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => start(worker, slot, stream, peer, connections),
                Err(error) if net::concerns_one_connection(&error) => {}
                Err(error) => {
                    worker.metrics.count(Counter::AcceptErrors);
                    tracing::warn!(%error, "connections cannot be accepted for the moment");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            () = &mut end => return,
        }
    }
}

/// Takes what the kernel has queued already: closing the socket would reset those connections.
fn accept_queued(worker: &Rc<Worker>, slot: &Rc<ListenerSlot>, listener: TcpListener, connections: &Tasks) {
    let Ok(listener) = listener.into_std() else { return };
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                if stream.set_nonblocking(true).is_ok()
                    && let Ok(stream) = TcpStream::from_std(stream)
                {
                    start(worker, slot, stream, peer, connections);
                }
            }
            Err(error) if net::concerns_one_connection(&error) => {}
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    worker.metrics.count(Counter::AcceptErrors);
                }
                return;
            }
        }
    }
}

fn start(worker: &Rc<Worker>, slot: &Rc<ListenerSlot>, stream: TcpStream, peer: SocketAddr, connections: &Tasks) {
    worker.metrics.count(Counter::DownstreamConnectionsAccepted);
    let counted = match Counted::enter(worker, peer.ip()) {
        Ok(counted) => counted,
        Err(reason) => {
            worker.metrics.refuse(reason);
            return worker.metrics.count(Counter::DownstreamConnectionsClosed);
        }
    };
    let client = Client::new(counted, &stream, peer);
    if !accept::is_plain_http(worker, &slot.load().listener) {
        connections.spawn(accept::serve(worker.clone(), slot.clone(), stream, client));
        return;
    }
    let side = Side::Http1(Link::new(Transport::Tcp(stream), Vec::new()));
    connections.spawn(connection::serve(Connection::new(worker.clone(), slot.clone(), side, client)));
}
