//! The ring: every member stands at several points, a key belongs to the next point (Karger et al., "Consistent hashing
//! and random trees", STOC 1997; the points are libketama's in Envoy's form). Read next: `mod.rs`.

use super::{Member, hash_key};

/// Entries of a ring at most, whatever the weights (Envoy's `maximum_ring_size`).
const MAXIMUM_SIZE: u32 = 8_388_608;

/// Points in ascending order, with their owners beside them.
#[derive(Debug)]
pub(crate) struct Ring {
    points: Box<[u64]>,
    owners: Box<[u32]>,
}

impl Ring {
    /// Each member gets points by its weight; the lightest gets a whole number of them, so that all do.
    pub(super) fn new(members: &[Member<'_>], minimum_size: u32) -> Self {
        let total: f64 = members.iter().map(|member| f64::from(member.weight)).sum();
        let lightest = members.iter().map(|member| f64::from(member.weight) / total).fold(1.0, f64::min);
        let wanted = f64::from(minimum_size.clamp(1, MAXIMUM_SIZE));
        let scale = ((lightest * wanted).ceil() / lightest).min(f64::from(MAXIMUM_SIZE));
        let mut entries: Vec<(u64, u32)> = Vec::new();
        let mut target = 0.0;
        let mut key = String::new();
        for member in members {
            target += scale * f64::from(member.weight) / total;
            let mut number = 0;
            while (entries.len() as f64) < target {
                key.clear();
                key.push_str(member.name);
                key.push('_');
                key.push_str(&number.to_string());
                entries.push((hash_key(key.as_bytes()), member.index));
                number += 1;
            }
        }
        entries.sort_unstable_by_key(|(point, _)| *point);
        Self {
            points: entries.iter().map(|(point, _)| *point).collect(),
            owners: entries.iter().map(|(_, owner)| *owner).collect(),
        }
    }

    /// The first point at or behind `hash`; behind the last one comes the first.
    pub(super) fn slot(&self, hash: u64) -> usize {
        let slot = self.points.partition_point(|point| *point < hash);
        if slot == self.points.len() { 0 } else { slot }
    }

    /// The owner of each point.
    pub(super) fn owners(&self) -> &[u32] {
        &self.owners
    }
}
