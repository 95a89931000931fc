//! Weighted round robin: one worker's place in the rotation. Read next: `rotation.rs` for the order itself.

use super::{Candidates, Stagger};
use crate::HostSet;
use crate::rotation::{Order, smooth_turn};

/// One worker's place in the rotation of a cluster.
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
    pub(super) fn new(hosts: &HostSet, stagger: Stagger) -> Self {
        let mut new = Self { turns: 0, place: 0, credits: Vec::new() };
        new.rebuild(hosts, stagger);
        new
    }

    /// Takes the same place in another rotation. With the same hosts and weights it is exactly the same place.
    pub(super) fn rebuild(&mut self, hosts: &HostSet, stagger: Stagger) {
        let length = match &hosts.rotation().order {
            Order::Equal => hosts.hosts().len(),
            Order::Laid(order) => order.len(),
            Order::Computed => {
                self.place_credits(hosts, stagger);
                return;
            }
        };
        self.credits = Vec::new();
        let length = length.max(1) as u64;
        // Below the length, which came from a usize.
        self.place = ((stagger.start(hosts.rotation().window) + self.turns % length) % length) as usize;
    }

    /// Credits as they are after so many turns: each host has gained its weight per turn and has paid for the turns it
    /// should have had by then, rounded. Only differences between credits matter, so the rounding is harmless.
    fn place_credits(&mut self, hosts: &HostSet, stagger: Stagger) {
        let total: u64 = hosts.hosts().iter().map(|host| u64::from(host.weight)).sum();
        let turn = i128::from((stagger.start(hosts.rotation().window) + self.turns % total.max(1)) % total.max(1));
        let total = i128::from(total.max(1));
        self.credits = hosts
            .hosts()
            .iter()
            .map(|host| {
                let gained = i128::from(host.weight) * turn;
                let paid = (2 * gained + total) / (2 * total);
                // At most half the total either way, and the total is far below 2^63.
                (gained - paid * total) as i64
            })
            .collect();
    }

    /// The next host in turn, or `None` when none may be picked.
    pub(super) fn pick(&mut self, candidates: &mut Candidates<'_>) -> Option<usize> {
        let hosts = candidates.hosts;
        match &hosts.rotation().order {
            Order::Equal => self.step(hosts.hosts().len(), candidates, |turn| turn),
            Order::Laid(order) => self.step(order.len(), candidates, |turn| order[turn] as usize),
            Order::Computed => {
                self.credits.resize(hosts.hosts().len(), 0);
                self.turns = self.turns.wrapping_add(1);
                let members = hosts.hosts().iter().enumerate();
                let shares = members
                    .filter(|(index, _)| candidates.admits(*index))
                    .map(|(index, host)| (index, u64::from(host.weight)));
                smooth_turn(&mut self.credits, shares)
            }
        }
    }

    fn step(
        &mut self,
        length: usize,
        candidates: &mut Candidates<'_>,
        host_of: impl Fn(usize) -> usize,
    ) -> Option<usize> {
        for _ in 0..length {
            let turn = if self.place < length { self.place } else { 0 };
            self.place = turn + 1;
            self.turns = self.turns.wrapping_add(1);
            let index = host_of(turn);
            if candidates.admits(index) {
                return Some(index);
            }
        }
        None
    }
}
