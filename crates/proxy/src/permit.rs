//! Leave to make a try, or a connection for bytes: the circuit breaker and the adaptive limit of a cluster, for clusters that have them.
//!
//! It knows no request and no answer, only how a try ended. A permit that is dropped, also when the request is cancelled,
//! says nothing and gives its places back.
//!
//! Cost: nothing for clusters without these policies but the look whether there is one. With one, a try takes a small
//! box. A breaker takes a short lock when
//! it is asked and when the try ends, an adaptive limit one when the try ends.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use meshwright_message::RequestHead;
use meshwright_model::{Failure, FailureKind, Stage};
use meshwright_snapshot::Route;
use meshwright_traffic::{
    BreakerRefusal, CircuitBreaker, Criticality, LimitSample, Outcome, Permit, Slot, StateChange,
};
use smallvec::SmallVec;

use crate::affinity::Affinity;
use crate::connection::Client;
use crate::exchange::Exchange;
use crate::forward;
use crate::lease::Place;
use crate::view::WorkerCluster;
use crate::worker::Worker;

/// Leave to make one try.
pub(crate) struct TryPermit {
    cluster: Rc<WorkerCluster>,
    breaker: Option<(Arc<CircuitBreaker>, Permit)>,
    slot: Option<Slot>,
}

/// A place at a host for one try; the leave to send it there is put into the exchange where leave is needed.
pub(crate) fn pick<'a>(
    worker: &Worker,
    cluster: &'a Rc<WorkerCluster>,
    exchange: &mut Exchange,
    tried: &[u32],
    (criticality, now): (Criticality, Instant),
) -> Result<Place<'a>, Failure> {
    let of = &cluster.cluster;
    if of.breakers.is_none() && of.adaptive.is_none() {
        return forward::pick(worker, cluster, &mut exchange.affinity, tried, now);
    }
    let mut permit = Box::new(TryPermit { cluster: Rc::clone(cluster), breaker: None, slot: None });
    if let Some(breaker) = of.breakers.as_ref().and_then(|breakers| breakers.cluster.as_ref()) {
        let asked = ask(worker, cluster, breaker, now);
        let asked = asked.map_err(|refusal| open(format!("the circuit breaker of {} refuses", of.name), refusal))?;
        permit.breaker = Some((Arc::clone(breaker), asked));
    }
    // Connections for bytes have no answer that the limit could learn from.
    if let Some(adaptive) = of.adaptive.as_ref().filter(|_| !exchange.record.is_tcp) {
        let Some(slot) = adaptive.limit.try_acquire(criticality, now) else {
            let limit = adaptive.limit.view().limit;
            return Err(Failure::new(Stage::Forward, FailureKind::ConcurrencyLimit)
                .because(format!("{} bears {limit} requests at this moment", of.name)));
        };
        permit.slot = Some(slot);
    }
    let place = match &of.breakers {
        Some(breakers) if !breakers.endpoints.is_empty() => {
            let (place, asked) = pick_closed(worker, cluster, &mut exchange.affinity, tried, now)?;
            permit.breaker = Some((Arc::clone(&breakers.endpoints[place.host()]), asked));
            place
        }
        _ => forward::pick(worker, cluster, &mut exchange.affinity, tried, now)?,
    };
    exchange.permit = Some(permit);
    Ok(place)
}

/// How critical the request is: what its route says, else its header, but never more than the client's identity allows; where
/// neither says anything, what the identity says, and critical where that is not looked at.
pub(crate) fn criticality(head: &RequestHead, client: &Client, cluster: &WorkerCluster, route: &Route) -> Criticality {
    let Some(adaptive) = &cluster.cluster.adaptive else { return Criticality::default() };
    let of_header = || Criticality::of_name(head.headers.get(adaptive.criticality_header.as_deref()?)?);
    let said = adaptive.criticality_by_route.get(&route.name).copied().or_else(of_header);
    match (said, adaptive.most_critical(client.names())) {
        // The more critical is the less.
        (Some(said), Some(most)) => said.max(most),
        (said, most) => said.or(most).unwrap_or_default(),
    }
}

/// A host whose breaker lets the try through; those that refuse are avoided like hosts that were tried.
fn pick_closed<'a>(
    worker: &Worker,
    cluster: &'a WorkerCluster,
    affinity: &mut Affinity,
    tried: &[u32],
    now: Instant,
) -> Result<(Place<'a>, Permit), Failure> {
    let of = &cluster.cluster;
    let breakers = of.breakers.as_ref().map_or(&[][..], |breakers| breakers.endpoints.as_slice());
    let mut avoided: SmallVec<[u32; 8]> = SmallVec::from_slice(tried);
    loop {
        let place = forward::pick(worker, cluster, affinity, &avoided, now)?;
        let host = place.host();
        match ask(worker, cluster, &breakers[host], now) {
            Ok(permit) => return Ok((place, permit)),
            Err(refusal) => {
                // A host that comes again though it refused is the sign that there is no other.
                if avoided[tried.len()..].contains(&(host as u32)) {
                    return Err(open(format!("the circuit breakers of all endpoints of {} refuse", of.name), refusal));
                }
                avoided.push(host as u32);
            }
        }
    }
}

fn ask(
    worker: &Worker,
    cluster: &WorkerCluster,
    breaker: &CircuitBreaker,
    now: Instant,
) -> Result<Permit, BreakerRefusal> {
    let admission = breaker.try_acquire(now, &mut worker.rng.borrow_mut());
    tell(cluster, breaker, admission.change);
    admission.permit
}

fn open(who: String, refusal: BreakerRefusal) -> Failure {
    let why = match refusal {
        BreakerRefusal::Open { retry_after } => format!("open for {} s more", retry_after.as_secs_f32().ceil()),
        BreakerRefusal::ProbesInFlight => "half-open, its probes are under way".to_owned(),
        BreakerRefusal::Forced => "forced open by an operator".to_owned(),
    };
    Failure::new(Stage::Forward, FailureKind::CircuitOpen).because(format!("{who}: {why}"))
}

/// Logs a change of state.
fn tell(cluster: &WorkerCluster, breaker: &CircuitBreaker, change: Option<StateChange>) {
    let Some(change) = change else { return };
    let of = &cluster.cluster;
    let place = of.breakers.as_ref().and_then(|breakers| {
        breakers.endpoints.iter().position(|own| std::ptr::eq(&**own, breaker)).map(|index| of.addresses[index])
    });
    let (from, to, cause, open_time) = (change.from, change.to, change.cause, change.open_time);
    let endpoint = place.map(tracing::field::display);
    if change.enforced {
        tracing::warn!(cluster = %of.name, endpoint, %from, %to, %cause, ?open_time, "circuit breaker changed");
    } else {
        tracing::info!(cluster = %of.name, endpoint, %from, %to, %cause, ?open_time, "circuit breaker would have changed");
    }
}

impl TryPermit {
    /// The head of the answer came.
    pub(crate) fn answered(mut self, worker: &Worker, status: u16, now: Instant) {
        let outcome = if status >= 500 { Outcome::Failure } else { Outcome::Success };
        // What an overloaded service says; other errors are answers, with a latency that counts.
        let sample = if matches!(status, 429 | 503 | 504) { LimitSample::Dropped } else { LimitSample::Success };
        self.end(worker, outcome, sample, now);
    }

    /// A connection for bytes was made.
    pub(crate) fn connected(mut self, worker: &Worker, now: Instant) {
        self.end(worker, Outcome::Success, LimitSample::Ignored, now);
    }

    /// There was no answer, and the endpoint is to blame.
    pub(crate) fn failed(mut self, worker: &Worker, kind: FailureKind, now: Instant) {
        let timed_out = matches!(kind, FailureKind::Timeout | FailureKind::PerTryTimeout);
        let sample = if timed_out { LimitSample::Dropped } else { LimitSample::Ignored };
        self.end(worker, Outcome::Failure, sample, now);
    }

    fn end(&mut self, worker: &Worker, outcome: Outcome, sample: LimitSample, now: Instant) {
        if let Some((breaker, permit)) = self.breaker.take() {
            let change = breaker.record(permit, outcome, now, &mut worker.rng.borrow_mut());
            tell(&self.cluster, &breaker, change);
        }
        if let (Some(slot), Some(adaptive)) = (self.slot.take(), &self.cluster.cluster.adaptive) {
            adaptive.limit.end(slot, sample, now, &mut worker.rng.borrow_mut());
        }
    }
}

impl Drop for TryPermit {
    fn drop(&mut self) {
        if let Some((breaker, permit)) = self.breaker.take() {
            breaker.release(permit);
        }
        if let (Some(slot), Some(adaptive)) = (self.slot.take(), &self.cluster.cluster.adaptive) {
            adaptive.limit.release(slot);
        }
    }
}
