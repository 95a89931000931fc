//! What outlier detection is told of a try, and what the log and the counters are told of its decision. Knows no policy:
//! that is `meshwright-traffic`. Read next: `permit.rs`, for what may refuse a try.

use std::time::Instant;

use meshwright_traffic::{Observation, OutlierEvent};

use crate::view::WorkerCluster;
use crate::worker::Worker;

/// Tells outlier detection how a try ended, and the log what it decided.
pub(crate) fn observe(worker: &Worker, cluster: &WorkerCluster, host: usize, observation: Observation, now: Instant) {
    let of = &cluster.cluster;
    let Some(outlier) = &of.outlier else { return };
    let event = outlier.observe(&of.hosts, host, observation, now, &mut worker.rng.borrow_mut());
    if let Some(event) = event {
        tell(cluster, &event);
    }
}

/// Tells the log of a decision.
pub(crate) fn tell(cluster: &WorkerCluster, event: &OutlierEvent) {
    let of = &cluster.cluster;
    let (OutlierEvent::Ejected { index, .. } | OutlierEvent::Refused { index, .. } | OutlierEvent::Returned { index }) =
        event;
    let endpoint = of.addresses[*index];
    match event {
        OutlierEvent::Ejected { duration, cause, .. } => {
            tracing::info!(cluster = %of.name, %endpoint, ?duration, %cause, "endpoint ejected");
        }
        OutlierEvent::Refused { cause, reason, .. } => {
            tracing::info!(cluster = %of.name, %endpoint, %cause, %reason, "endpoint not ejected although it fails");
        }
        OutlierEvent::Returned { .. } => tracing::info!(cluster = %of.name, %endpoint, "endpoint returned"),
    }
}
