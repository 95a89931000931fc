//! A worker: one thread, one runtime, its own sockets, pools and counters. Commands come through one channel.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::TcpListener as StdListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use meshwright_message::{HeadMemory, ResponseHead};
use meshwright_snapshot::Snapshot;
use meshwright_telemetry::{ClusterMetrics, DestinationLabels, Metrics, WorkerMetrics};
use meshwright_traffic::Stagger;
use meshwright_wire::{Buffers, Limits, Spare};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::exchange::Exchange;
use crate::fleet::{Pressure, key_of};
use crate::listener::{self, ListenerSlot, ListenerView};
use crate::log::{AccessLog, Batch};
use crate::sources::Sources;
use crate::view::View;

/// How often log lines are handed over.
const TICK: Duration = Duration::from_millis(200);
/// Every so many ticks the pools are swept and spare memory is trimmed.
const TICKS_PER_SWEEP: u32 = 5;

/// Spare exchanges kept at most.
const SPARE_EXCHANGES: usize = 4096;

/// What all workers share. Each field says how hot it is.
#[derive(Default)]
pub(crate) struct Shared {
    /// Downstream connections of the process; touched per connection.
    pub(crate) connections: AtomicUsize,
    /// The same by source; touched per connection.
    pub(crate) sources: Sources,
    /// [`Pressure`] as a number; read per request, written a few times a second.
    pub(crate) pressure: AtomicU8,
}

impl Shared {
    pub(crate) fn pressure(&self) -> Pressure {
        match self.pressure.load(Ordering::Relaxed) {
            0 => Pressure::None,
            1 => Pressure::Connections,
            _ => Pressure::Requests,
        }
    }
}

/// What a worker is told.
pub(crate) enum Command {
    /// Use this snapshot; open and drain listeners by key. Answered when it is in use and what is closed is closed.
    Publish { snapshot: Arc<Snapshot>, opened: Vec<Opened>, closed: Vec<String>, done: SyncSender<()> },
    /// Stop accepting, finish what is there, end.
    Drain,
}

/// A listening socket for one worker.
pub(crate) struct Opened {
    pub(crate) key: String,
    pub(crate) socket: StdListener,
}

/// Settings of a worker.
pub(crate) struct WorkerSettings {
    pub(crate) index: usize,
    pub(crate) workers: usize,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) drain_timeout: Duration,
    pub(crate) explain_errors: bool,
    pub(crate) proxy_protocol_ports: Arc<[u16]>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) seed: u64,
}

/// What a request can reach of its worker.
pub(crate) struct Worker {
    pub(crate) buffers: Buffers,
    pub(crate) metrics: WorkerMetrics,
    pub(crate) unrouted: Rc<ClusterMetrics>,
    pub(crate) black_hole: Rc<ClusterMetrics>,
    pub(crate) rng: RefCell<fastrand::Rng>,
    pub(crate) limits: Limits,
    pub(crate) clock: Clock,
    pub(crate) log: Option<RefCell<Batch>>,
    pub(crate) explain_errors: bool,
    /// Ports of listeners, as configured, whose connections begin with a PROXY header.
    pub(crate) proxy_protocol_ports: Arc<[u16]>,
    pub(crate) shared: Arc<Shared>,
    /// The head of the answer being handed on or composed. Like the scratch area it is valid until the task yields.
    pub(crate) response: RefCell<ResponseHead>,
    /// Memory for composing one header value.
    pub(crate) value: RefCell<Vec<u8>>,
    pub(crate) spare_exchanges: Spare<Box<Exchange>>,
    /// Memory of request heads: a head is needed only until it is sent, unless it will be logged.
    pub(crate) spare_heads: Spare<HeadMemory>,
    pub(crate) draining: Cell<bool>,
    view: RefCell<Option<Rc<View>>>,
    slots: RefCell<HashMap<String, Rc<ListenerSlot>>>,
    stagger: Stagger,
    drain_timeout: Duration,
}

impl Worker {
    fn new(settings: WorkerSettings) -> Self {
        let metrics = settings.metrics.worker();
        Self {
            buffers: Buffers::default(),
            unrouted: metrics.unrouted(),
            black_hole: metrics.cluster(&Arc::new(DestinationLabels::black_hole())),
            metrics,
            rng: RefCell::new(fastrand::Rng::with_seed(settings.seed)),
            limits: settings.limits,
            clock: Clock::new(),
            log: settings.access_log.map(|log| RefCell::new(log.batch())),
            explain_errors: settings.explain_errors,
            proxy_protocol_ports: settings.proxy_protocol_ports,
            shared: settings.shared,
            response: RefCell::default(),
            value: RefCell::default(),
            spare_exchanges: Spare::new(SPARE_EXCHANGES),
            spare_heads: Spare::new(SPARE_EXCHANGES),
            draining: Cell::new(false),
            view: RefCell::new(None),
            slots: RefCell::default(),
            stagger: Stagger { worker: settings.index, workers: settings.workers },
            drain_timeout: settings.drain_timeout,
        }
    }

    fn publish(
        self: &Rc<Self>,
        snapshot: Arc<Snapshot>,
        opened: Vec<Opened>,
        closed: &[String],
        listeners: &mut JoinSet<()>,
    ) -> Vec<Rc<ListenerSlot>> {
        let previous = self.view.borrow().clone();
        let view = Rc::new(View::new(snapshot, previous.as_deref(), &self.metrics, self.stagger));
        self.view.replace(Some(view.clone()));
        let mut slots = self.slots.borrow_mut();
        let gone: Vec<_> = closed.iter().filter_map(|key| slots.remove(key)).collect();
        gone.iter().for_each(|slot| slot.drain());
        let mut sockets: HashMap<String, Opened> =
            opened.into_iter().map(|opened| (opened.key.clone(), opened)).collect();
        for listener in &view.snapshot.listeners {
            let key = key_of(listener);
            let next = ListenerView { view: view.clone(), listener: listener.clone() };
            if let Some(opened) = sockets.remove(&key) {
                let slot = Rc::new(ListenerSlot::new(next));
                slots.insert(key, slot.clone());
                listeners.spawn_local(listener::run(self.clone(), slot, opened.socket, self.drain_timeout));
            } else if let Some(slot) = slots.get(&key) {
                slot.replace(next);
            }
        }
        gone
    }

    fn drain(&self) {
        self.draining.set(true);
        for (_, slot) in self.slots.borrow_mut().drain() {
            slot.drain();
        }
    }

    fn tick(&self, count: u32) {
        if let Some(log) = &self.log {
            log.borrow_mut().hand_over(&self.metrics);
        }
        if !count.is_multiple_of(TICKS_PER_SWEEP) {
            return;
        }
        self.buffers.trim();
        self.spare_exchanges.trim();
        self.spare_heads.trim();
        let view = self.view.borrow().clone();
        let now = Instant::now();
        for cluster in view.iter().flat_map(|view| &view.clusters) {
            for pool in &cluster.pools {
                pool.sweep(&cluster.pool_limits, now);
                // Limits are the process's: another worker may have made room.
                pool.wake_one();
            }
        }
    }
}

/// The life of a worker: until it is told to drain, or the fleet is gone, and its last connection has ended.
pub(crate) async fn run(settings: WorkerSettings, mut commands: UnboundedReceiver<Command>) {
    let worker = Rc::new(Worker::new(settings));
    let mut listeners = JoinSet::new();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut count = 0_u32;
    let mut open = true;
    loop {
        tokio::select! {
            command = commands.recv(), if open => match command {
                // Whoever publishes to a worker that is ending is answered, and its sockets are closed.
                Some(Command::Publish { done, .. }) if worker.draining.get() => drop(done.try_send(())),
                Some(Command::Publish { snapshot, opened, closed, done }) => {
                    let gone = worker.publish(snapshot, opened, &closed, &mut listeners);
                    listeners.spawn_local(async move {
                        for slot in gone {
                            slot.closed().await;
                        }
                        let _ = done.try_send(());
                    });
                }
                Some(Command::Drain) => worker.drain(),
                None => {
                    open = false;
                    worker.drain();
                }
            },
            Some(_) = listeners.join_next() => {}
            _ = ticks.tick() => {
                count = count.wrapping_add(1);
                worker.tick(count);
            }
        }
        if worker.draining.get() && listeners.is_empty() {
            break;
        }
    }
    if let Some(log) = &worker.log {
        log.borrow_mut().hand_over(&worker.metrics);
    }
}
