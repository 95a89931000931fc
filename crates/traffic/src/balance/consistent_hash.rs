//! Consistent hashing: the owner of the request's key, or who follows it. Stateless. Read next: `../hash/mod.rs`.

use xxhash_rust::xxh64::xxh64;

use super::candidates::Candidates;
use crate::{InFlight, TableKind};

/// Slots of the table that are looked at before the rest is settled by another hash.
const WALK: usize = 64;

/// Takes the first host from the key's slot on that may be picked.
///
/// With a `bound` (percent of the average load per weight, above 100) a host that would be above it is passed over too
/// (Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2018): the load of a popular key spreads to
/// the hosts behind its owner, always the same ones.
pub(super) fn pick(candidates: &Candidates<'_>, table: TableKind, bound: Option<u32>, hash: u64) -> Option<usize> {
    let owners = candidates.group.table(candidates.hosts, table).owners(hash);
    let bound = bound.and_then(|percent| Bound::new(candidates, percent));
    let allows = |index: &usize| bound.as_ref().is_none_or(|bound| bound.allows(candidates, *index));
    let mut passed_over = None;
    for index in owners.take(WALK).filter(|index| candidates.fits(*index, None)) {
        if allows(&index) {
            return Some(index);
        }
        passed_over.get_or_insert(index);
    }
    by_rendezvous(candidates, hash, allows).or(passed_over).or_else(|| by_rendezvous(candidates, hash, |_| true))
}

/// When most of the table is out: each host makes a number of the key and its own name, the highest wins (Thaler and
/// Ravishankar, "A name-based mapping scheme for rendezvous", 1996). All hosts are looked at.
fn by_rendezvous(candidates: &Candidates<'_>, hash: u64, allows: impl Fn(&usize) -> bool) -> Option<usize> {
    let rank = |index: &usize| xxh64(candidates.hosts.name(*index).as_bytes(), hash);
    candidates.fitting(None).filter(allows).max_by_key(rank)
}

/// How much a host may have in flight.
struct Bound {
    /// Requests there would be, times the bound.
    allowed: u64,
    /// Weights of the group.
    weights: u64,
}

impl Bound {
    fn new(candidates: &Candidates<'_>, percent: u32) -> Option<Self> {
        let in_flight = candidates.hosts.in_flight().map(InFlight::count)?;
        let weights = candidates.group.weight_sum();
        Some(Self { allowed: (u64::from(in_flight) + 1) * u64::from(percent.max(100)), weights })
    }

    /// One more request leaves the host within `ceil(percent / 100 x average x weight)`.
    fn allows(&self, candidates: &Candidates<'_>, index: usize) -> bool {
        let host = &candidates.hosts.hosts()[index];
        let capacity = u128::from(self.allowed) * u128::from(host.weight);
        u128::from(host.state.in_flight()) < capacity.div_ceil(100 * u128::from(self.weights.max(1)))
    }
}
