//! Connections whose bytes are not looked at: one endpoint, both directions, each closed when its sender closes it.

use std::rc::Rc;
use std::time::Instant;

use meshwright_message::BodyLength;
use meshwright_model::{Failure, FailureKind, Stage};
use meshwright_telemetry::ClusterCounter;
use meshwright_traffic::{Criticality, Observation};
use meshwright_wire::{Lease, Protocol, Relay, RelayError};
use smallvec::SmallVec;

use crate::connection::{self, Connection};
use crate::exchange::Exchange;
use crate::lease::{Admission, Wanted};
use crate::listener::ListenerView;
use crate::view::WorkerCluster;
use crate::{accept, admit, broken, forward, outlier, permit};

/// Endpoints that are tried until one can be connected to. Nothing was sent, so that another one may be.
const TRIES: usize = 3;

/// Forwards a connection to its end. `chain` says whose rules hold: those of a TLS chain, or of the listener.
pub(crate) async fn forward(view: &Rc<ListenerView>, mut connection: Connection, chain: Option<usize>) {
    let mut exchange = connection::begin(&connection.worker, &connection.client);
    exchange.record.is_tcp = true;
    exchange.record.listener = Some(view.clone());
    match connect(&mut connection, &mut exchange, view, chain).await {
        Ok(lease) => {
            exchange.upstream = Some(lease);
            tunnel(&mut connection, &mut exchange).await;
        }
        Err(failure) => {
            exchange.record.failed(&failure);
            connection.break_off();
        }
    }
}

/// A connection to an endpoint of the cluster that the rules choose.
async fn connect(
    connection: &mut Connection,
    exchange: &mut Exchange,
    view: &ListenerView,
    chain: Option<usize>,
) -> Result<Lease, Failure> {
    let listener = &view.listener;
    let no_route = || Failure::new(Stage::Route, FailureKind::NoRoute);
    let local = connection.local_address().ok_or_else(no_route)?;
    let rules = accept::forward_of(listener, chain).and_then(|forward| forward.forward(local.ip()));
    let destination = forward::choose(&connection.worker, rules.ok_or_else(no_route)?);
    let index = destination.target.cluster(listener.port);
    let index = index.ok_or_else(|| Failure::new(Stage::Forward, FailureKind::NoCluster))?;
    let cluster = view.view.clusters[index].clone();
    exchange.record.cluster = Some(cluster.clone());
    exchange.admission = Some(Admission::new(&cluster));
    let header = admit::proxy_header(connection, &cluster);
    if let Some(affinity) = &cluster.cluster.affinity {
        // There is no head: of all keys only the client's address can be there.
        exchange.affinity.read(affinity, connection, &exchange.request);
    }
    let mut tried: SmallVec<[u32; 4]> = SmallVec::new();
    loop {
        let began = Instant::now();
        let asked = (Criticality::default(), began);
        let picked = permit::pick(&connection.worker, &cluster, exchange, &tried, asked);
        let place = picked?;
        let host = place.host();
        if let Some(admission) = &mut exchange.admission {
            admission.occupy(place);
        }
        exchange.record.upstream = Some(cluster.cluster.addresses[host]);
        let wanted = Wanted { host, protocol: Protocol::Bytes, fresh_only: true, header: &header };
        match cluster.connect_at_once(wanted).await {
            Ok(lease) => {
                let now = Instant::now();
                cluster.measure(host, now.saturating_duration_since(began), now);
                if let Some(permit) = exchange.permit.take() {
                    permit.connected(&connection.worker, now);
                }
                return Ok(lease);
            }
            Err(failure) => {
                exchange.end_try();
                let permit = exchange.permit.take();
                if failure.kind == FailureKind::ConnectFailure {
                    let now = Instant::now();
                    cluster.measure_failure(host, began, now);
                    outlier::observe(&connection.worker, &cluster, host, Observation::LocalOrigin, now);
                    if let Some(permit) = permit {
                        permit.failed(&connection.worker, failure.kind, now);
                    }
                }
                tried.push(host as u32);
                let others = tried.len() < TRIES.min(cluster.cluster.addresses.len());
                if failure.kind != FailureKind::ConnectFailure || !others {
                    return Err(failure);
                }
            }
        }
    }
}

/// Carries bytes both ways until both sides have ended.
async fn tunnel(connection: &mut Connection, exchange: &mut Exchange) {
    let mut relay = Relay::new(BodyLength::Empty, BodyLength::Empty, &connection.worker.limits);
    relay.become_tunnel(&connection.worker.limits);
    let Some(lease) = &mut exchange.upstream else { return };
    let Some(mut ends) = connection.ends(lease) else { return };
    let ended = std::future::poll_fn(|cx| relay.poll_tunnel(cx, &mut ends)).await;
    exchange.record.body_bytes_received = relay.upload.moved;
    exchange.record.body_bytes_sent = relay.download.moved;
    exchange.record.complete();
    count(exchange.record.cluster.as_deref(), &relay);
    relay.upload.dispose(&connection.worker.buffers);
    relay.download.dispose(&connection.worker.buffers);
    if let Err(error) = ended {
        if !matches!(error, RelayError::Stalled) {
            let failure = broken::failure_of(&mut exchange.record, Stage::Respond, error);
            exchange.record.failed(&failure);
        }
        // What one side has lost, the other must not take for complete.
        if let Some(side) = exchange.upstream.as_mut().and_then(Lease::side) {
            side.break_off();
        }
        connection.break_off();
    }
}

fn count(cluster: Option<&WorkerCluster>, relay: &Relay) {
    let Some(cluster) = cluster else { return };
    cluster.metrics.add(ClusterCounter::UpstreamCxTxBytes, relay.upload.moved);
    cluster.metrics.add(ClusterCounter::UpstreamCxRxBytes, relay.download.moved);
}
