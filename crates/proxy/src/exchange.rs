//! The memory of one request: heads, parse state and its record. Idle connections have none; workers keep a few spare.

use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::time::{Duration, Instant};

use meshwright_codec::HeadScan;
use meshwright_message::{BodyLength, RequestHead, ResponseHead};
use meshwright_traffic::Taken;
use meshwright_wire::{Lease, Relay};

use crate::affinity::Affinity;
use crate::lease::Admission;
use crate::permit::TryPermit;
use crate::record::Record;
use crate::shareable::Shareable;
use crate::worker::Worker;

/// Memory of a head that has grown beyond this many bytes is not kept.
const LARGEST_SPARE: usize = 32 * 1024;

/// Everything that a request needs while it is served.
#[derive(Default)]
pub(crate) struct Exchange {
    pub(crate) request: RequestHead,
    pub(crate) scan: HeadScan,
    pub(crate) record: Record,
    /// Moves the bodies; there once the request is forwarded.
    pub(crate) relay: Option<Relay>,
    /// The connection to the endpoint.
    pub(crate) upstream: Option<Lease>,
    /// Leave to make the present try, where leave is needed.
    pub(crate) permit: Option<Box<TryPermit>>,
    /// Places held at the cluster.
    pub(crate) admission: Option<Admission>,
    /// What of the request decides about its endpoint.
    pub(crate) affinity: Affinity,
    /// What stays of the head of the answer; the head itself is the worker's, for it is used and gone within one poll.
    pub(crate) answer: Answered,
    /// When the head of the answer came.
    pub(crate) answered_at: Option<Instant>,
    /// A final head was sent: a failure can only be shown by breaking off.
    pub(crate) answer_begun: bool,
    /// The last try failed and no retry was left.
    pub(crate) retries_used_up: bool,
    /// What the rate limit said, where there is one.
    pub(crate) rate: Option<Box<Taken>>,
    /// Another destination was asked than the route says.
    pub(crate) fell_back: bool,
    /// What it has to do with answers for everybody, where the cluster keeps or shares some.
    pub(crate) shareable: Option<Box<Shareable>>,
    /// The client speaks gRPC: failures are told in its way.
    pub(crate) is_grpc: bool,
    /// The key of a WebSocket handshake, where one side needs it and the other does not have it.
    /// Rare: one pointer wide.
    pub(crate) websocket_key: Option<Box<Box<[u8]>>>,
}

/// A size class of the allocator: what waits for a client that takes nothing holds one exchange for each stream.
const _: () = assert!(size_of::<Exchange>() <= 1280, "an exchange has outgrown its size class: box what is rare");

/// Facts of an answer that are needed after its head was handed on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) body: BodyLength,
    pub(crate) keep_alive: bool,
    pub(crate) keep_alive_timeout: Option<Duration>,
}

impl Answered {
    pub(crate) fn of(head: &ResponseHead) -> Self {
        Self {
            status: head.status,
            body: head.body,
            keep_alive: head.keep_alive,
            keep_alive_timeout: head.keep_alive_timeout,
        }
    }
}

impl Exchange {
    /// Everything that was taken of the request is still here.
    pub(crate) fn can_send_again(&self) -> bool {
        self.relay.as_ref().is_some_and(|relay| relay.upload.can_rewind())
    }

    /// Gives back what the present try holds: its connection and its place at the endpoint.
    pub(crate) fn end_try(&mut self) {
        self.upstream = None;
        if let Some(admission) = &mut self.admission {
            admission.leave_host();
        }
    }

    /// Gives the memory of the request head back, once nobody needs authority, target and headers any more.
    pub(crate) fn release_head(&mut self, worker: &Worker) {
        let memory = self.request.take_memory();
        if (1..=LARGEST_SPARE).contains(&memory.capacity_bytes()) {
            worker.spare_heads.keep(memory);
        }
    }

    /// Closes the connection to the endpoint, or ends the stream, where one is left.
    pub(crate) fn discard_upstream(&mut self, worker: &Worker) {
        if let Some(lease) = &mut self.upstream {
            lease.discard(&worker.buffers);
        }
        self.upstream = None;
    }

    /// Gives back everything but the memory of the heads.
    fn release(&mut self, worker: &Worker) {
        self.discard_upstream(worker);
        if let Some(relay) = &mut self.relay {
            relay.upload.dispose(&worker.buffers);
            relay.download.dispose(&worker.buffers);
        }
        self.relay = None;
        self.permit = None;
        self.admission = None;
        self.affinity = Affinity::default();
        self.answer = Answered::default();
        self.answered_at = None;
        self.answer_begun = false;
        self.retries_used_up = false;
        self.rate = None;
        self.fell_back = false;
        self.shareable = None;
        self.is_grpc = false;
        self.websocket_key = None;
    }
}

/// An exchange on loan. Dropping it, also when the task is cancelled, writes the record and gives the memory back.
pub(crate) struct ExchangeLease {
    exchange: Option<Box<Exchange>>,
    worker: Rc<Worker>,
}

impl ExchangeLease {
    pub(crate) fn new(worker: &Rc<Worker>) -> Self {
        let mut exchange: Box<Exchange> = worker.spare_exchanges.take().unwrap_or_default();
        exchange.request.use_memory(worker.spare_heads.take().unwrap_or_default());
        Self { exchange: Some(exchange), worker: worker.clone() }
    }

    /// No request has begun after all: nothing is recorded.
    pub(crate) fn forget(mut self) {
        self.record = Record::default();
    }
}

impl Deref for ExchangeLease {
    type Target = Exchange;

    fn deref(&self) -> &Exchange {
        self.exchange.as_ref().expect("present until dropped")
    }
}

impl DerefMut for ExchangeLease {
    fn deref_mut(&mut self) -> &mut Exchange {
        self.exchange.as_mut().expect("present until dropped")
    }
}

impl Drop for ExchangeLease {
    fn drop(&mut self) {
        let Some(mut exchange) = self.exchange.take() else { return };
        exchange.finish_record(&self.worker);
        exchange.release(&self.worker);
        exchange.release_head(&self.worker);
        exchange.request.clear();
        exchange.scan = HeadScan::default();
        self.worker.spare_exchanges.keep(exchange);
    }
}
