//! Weighted round robin: one worker's place in the rotation. Read next: `rotation.rs` for the order itself.

use super::Stagger;
use super::candidates::Candidates;
use crate::HostSet;
use crate::group::GroupTables;
use crate::rotation::{Order, smooth_turn};

/// One worker's place in the rotation of a group of hosts.
///
/// A host that is out does not keep its turn: the place moves *past the host that is taken instead*, so the others are
/// visited exactly in the order of a rotation without it. Nobody inherits its share; it is spread over all by weight.
/// (A counter that only ever moves by one and probes forward would double the load of the host behind.)
#[derive(Clone, Debug)]
pub(super) struct RoundRobin {
    /// Turns since the start, skipped ones included; together with the stagger this is the place in any rotation.
    turns: u64,
    /// Next turn of the present rotation.
    place: usize,
    /// Credits by host, for rotations that are computed turn by turn; empty otherwise.
    credits: Vec<i64>,
}

impl RoundRobin {
    pub(super) fn new(hosts: &HostSet, group: &GroupTables, stagger: Stagger) -> Self {
        let mut new = Self { turns: 0, place: 0, credits: Vec::new() };
        new.rebuild(hosts, group, stagger);
        new
    }

    /// Takes the same place in another rotation. With the same hosts and weights it is exactly the same place.
    pub(super) fn rebuild(&mut self, hosts: &HostSet, group: &GroupTables, stagger: Stagger) {
        let rotation = group.rotation(hosts);
        let length = match &rotation.order {
            Order::Equal => group.len(),
            Order::Laid(order) => order.len(),
            Order::Computed => {
                self.place_credits(hosts, group, stagger);
                return;
            }
        };
        self.credits = Vec::new();
        let length = length.max(1) as u64;
        // Below the length, which came from a usize.
        self.place = ((stagger.start(rotation.window) + self.turns % length) % length) as usize;
    }

    /// Credits as they are after so many turns: each host has gained its weight per turn and has paid for the turns it
    /// should have had by then, rounded. Only differences between credits matter, so the rounding is harmless.
    fn place_credits(&mut self, hosts: &HostSet, group: &GroupTables, stagger: Stagger) {
        let total = group.weight_sum();
        let turn = i128::from((stagger.start(group.rotation(hosts).window) + self.turns % total.max(1)) % total.max(1));
        let total = i128::from(total.max(1));
        self.credits = group
            .indices()
            .map(|index| {
                let gained = i128::from(hosts.hosts()[index].weight) * turn;
                let paid = (2 * gained + total) / (2 * total);
                // At most half the total either way, and the total is far below 2^63.
                (gained - paid * total) as i64
            })
            .collect();
    }

    /// The next host in turn, or `None` when none may be picked.
    pub(super) fn pick(&mut self, candidates: &Candidates<'_>, rng: &mut fastrand::Rng) -> Option<usize> {
        let group = candidates.group;
        match &group.rotation(candidates.hosts).order {
            Order::Equal => self.step(group.len(), candidates, |turn| turn, rng),
            Order::Laid(order) => self.step(order.len(), candidates, |turn| order[turn] as usize, rng),
            Order::Computed => {
                self.credits.resize(group.len(), 0);
                self.turns = self.turns.wrapping_add(1);
                let members = group.indices().enumerate();
                let shares = members.filter(|(_, index)| candidates.admits(*index)).map(|(place, index)| {
                    // Of a host that warms up only the warm part gains.
                    let weight = f64::from(candidates.hosts.hosts()[index].weight) * candidates.warmth(index);
                    (place, (weight as u64).max(1))
                });
                smooth_turn(&mut self.credits, shares).map(|place| group.host_at(place))
            }
        }
    }

    /// The next turn whose host may be picked. A host that warms up passes on some of its turns. When everybody did, the place
    /// is where it was: whoever came first would be favoured, so the host is drawn.
    fn step(
        &mut self,
        length: usize,
        candidates: &Candidates<'_>,
        place_of: impl Fn(usize) -> usize,
        rng: &mut fastrand::Rng,
    ) -> Option<usize> {
        let mut passed = false;
        for _ in 0..length {
            let turn = if self.place < length { self.place } else { 0 };
            self.place = turn + 1;
            self.turns = self.turns.wrapping_add(1);
            let index = candidates.group.host_at(place_of(turn));
            if candidates.admits(index) {
                if candidates.accepts(index, rng) {
                    return Some(index);
                }
                passed = true;
            }
        }
        if passed { candidates.draw(None, rng) } else { None }
    }
}
