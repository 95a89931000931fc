//! Which hosts of a group may be picked for one try, and drawing among them. Read next: `outlook.rs`, `weighted_draw.rs`.

use std::time::Instant;

use super::outlook::Warmth;
use crate::HostSet;
use crate::group::GroupTables;

/// Redraws before the remaining hosts are counted out. A few catch nearly all cases where most hosts may be picked.
const DRAWS: usize = 4;
/// Units of a weight while some hosts have only a part of theirs.
const PARTS: f64 = 1024.0;

/// Order of preference, see the head of `mod.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tier {
    Untried,
    Any,
}

/// Which hosts of one group may be picked for one try.
#[derive(Clone, Copy)]
pub(super) struct Candidates<'a> {
    pub(super) hosts: &'a HostSet,
    pub(super) group: &'a GroupTables,
    pub(super) tried: &'a [u32],
    pub(super) tier: Tier,
    /// Ejections and what checks found are ignored.
    pub(super) panic: bool,
    /// There while some host is warming up.
    pub(super) warming: Option<Warmth<'a>>,
    pub(super) now: Instant,
}

impl Candidates<'_> {
    /// The host may be picked, tried or not.
    #[inline]
    pub(super) fn admits(&self, index: usize) -> bool {
        self.takes_part(index) && !self.hosts.has_no_place(index)
    }

    /// The host may be picked as soon as it has a place.
    #[inline]
    fn takes_part(&self, index: usize) -> bool {
        let host = &self.hosts.hosts()[index];
        host.is_enabled() && (self.panic || host.is_healthy())
    }

    /// A host that may be picked otherwise is full.
    pub(super) fn lacks_a_place(&self) -> bool {
        self.group.indices().any(|index| self.hosts.has_no_place(index) && self.takes_part(index))
    }

    /// The host may be picked in this tier and is not the one that is `excluded`.
    pub(super) fn fits(&self, index: usize, excluded: Option<usize>) -> bool {
        excluded != Some(index)
            && (self.tier == Tier::Any || !self.tried.contains(&(index as u32)))
            && self.admits(index)
    }

    /// The part of its weight that a host has.
    pub(super) fn warmth(&self, index: usize) -> f64 {
        self.warming.map_or(1.0, |warmth| warmth.of(index))
    }

    /// Whether a host that is warming up takes this request: it does as often as it is warm beside the warmest.
    pub(super) fn accepts(&self, index: usize, rng: &mut fastrand::Rng) -> bool {
        self.warming.is_none_or(|warmth| {
            let warmth = warmth.of(index);
            // The warmest costs no dice.
            warmth >= 1.0 || rng.f64() < warmth
        })
    }

    /// A host's weight in units that all hosts of the group share, the part that is not warm yet left out; at least 1.
    pub(super) fn weight(&self, index: usize) -> u64 {
        let weight = self.hosts.hosts()[index].weight;
        match self.warming {
            None => u64::from(weight),
            // Below 2^42, and never negative.
            Some(warmth) => ((f64::from(weight) * PARTS * warmth.of(index)) as u64).max(1),
        }
    }

    /// Every host of the group that fits.
    pub(super) fn fitting(&self, excluded: Option<usize>) -> impl Iterator<Item = usize> + '_ {
        self.group.indices().filter(move |index| self.fits(*index, excluded))
    }

    /// A host drawn at random by weight among those that fit, or `None` when none does. Drawing again after a miss and
    /// counting out the rest both give every fitting host exactly its share.
    pub(super) fn draw(&self, excluded: Option<usize>, rng: &mut fastrand::Rng) -> Option<usize> {
        if self.group.len() == 0 {
            return None;
        }
        for _ in 0..DRAWS {
            let index = self.group.draw(rng);
            if self.fits(index, excluded) && self.accepts(index, rng) {
                return Some(index);
            }
        }
        self.draw_by(excluded, rng, |index| self.weight(index))
    }

    /// A host drawn at random by these weights among those that fit; all of them are looked at.
    pub(super) fn draw_by(
        &self,
        excluded: Option<usize>,
        rng: &mut fastrand::Rng,
        weight: impl Fn(usize) -> u64,
    ) -> Option<usize> {
        let total: u64 = self.fitting(excluded).map(&weight).sum();
        if total == 0 {
            return None;
        }
        let mut rest = rng.u64(..total);
        let mut last = None;
        for index in self.fitting(excluded) {
            last = Some(index);
            let weight = weight(index);
            if rest < weight {
                break;
            }
            rest -= weight;
        }
        // Another thread may have changed a host's health between the two passes: then the last that fits is taken.
        last
    }
}
