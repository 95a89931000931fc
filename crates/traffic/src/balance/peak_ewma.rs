//! Peak EWMA. Stateless: latency and load are in the hosts. Read next: `../ewma.rs` for the average.

use std::time::Instant;

use super::candidates::Candidates;
use crate::Host;

/// Load, in nanoseconds, of a host that has requests in flight and has never answered one: more than any latency.
/// Finagle's number, `Long.MaxValue >> 16`.
const PENALTY: f64 = (i64::MAX >> 16) as f64;

/// Draws two different hosts at random by weight and takes the one where the request would be over sooner (Finagle's
/// `PeakEwma` with its power of two choices).
pub(super) fn pick(candidates: &Candidates<'_>, rng: &mut fastrand::Rng) -> Option<usize> {
    let first = candidates.draw(None, rng)?;
    if candidates.group.len() == 1 {
        return Some(first);
    }
    let Some(second) = candidates.draw(Some(first), rng) else { return Some(first) };
    let hosts = candidates.hosts.hosts();
    let load = |index: usize| load(&hosts[index], candidates.now);
    Some(if load(second) < load(first) { second } else { first })
}

/// Latency times the requests there would be, per weight. A host that never answered is asked once at once, and not again
/// before its first answer.
fn load(host: &Host, now: Instant) -> f64 {
    let (latency, pending) = (host.state.latency_nanos(now), f64::from(host.state.in_flight()));
    let load = if latency == 0.0 && pending > 0.0 { PENALTY + pending } else { latency * (pending + 1.0) };
    load / f64::from(host.weight)
}
