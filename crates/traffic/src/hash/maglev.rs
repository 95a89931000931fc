//! Maglev's table: every member fills slots in an order of its own until all are taken (Eisenbud et al., "Maglev: A Fast
//! and Reliable Software Network Load Balancer", NSDI 2016, section 3.4; weights as Envoy adds them). Read next: `mod.rs`.

use xxhash_rust::xxh64::xxh64;

use super::Member;

/// The owner of each slot.
#[derive(Debug)]
pub(crate) struct Maglev {
    owners: Box<[u32]>,
}

/// A member while the table is filled.
struct Filling {
    index: u32,
    offset: u64,
    skip: u64,
    next: u64,
    /// Share of the heaviest member's.
    weight: f64,
    target: f64,
}

impl Filling {
    /// The next slot in this member's order.
    fn propose(&mut self, size: u64) -> usize {
        let slot = (self.offset + self.skip * self.next) % size;
        self.next += 1;
        // Below `size`, which came from a u32.
        slot as usize
    }
}

impl Maglev {
    /// `table_size` should be prime, or a member's order would not reach every slot; it is raised to the number of members.
    pub(super) fn new(members: &[Member<'_>], table_size: u32) -> Self {
        const FREE: u32 = u32::MAX;
        if members.is_empty() {
            return Self { owners: Box::default() };
        }
        let size = u64::from(table_size.max(3)).max(members.len() as u64);
        let heaviest = members.iter().map(|member| f64::from(member.weight)).fold(1.0, f64::max);
        let mut filling: Vec<Filling> = members
            .iter()
            .map(|member| Filling {
                index: member.index,
                offset: xxh64(member.name.as_bytes(), 0) % size,
                skip: xxh64(member.name.as_bytes(), 1) % (size - 1) + 1,
                next: 0,
                weight: f64::from(member.weight) / heaviest,
                target: 0.0,
            })
            .collect();
        let mut owners = vec![FREE; size as usize];
        let mut free = owners.len();
        let mut round = 1.0;
        while free > 0 {
            for member in &mut filling {
                // The heaviest has a turn in every round, one of a third of its weight in every third.
                if round * member.weight < member.target {
                    continue;
                }
                member.target += 1.0;
                // With a size that is not prime an order may end before it meets a free slot: then the first free one.
                let slot = (0..size).map(|_| member.propose(size)).find(|slot| owners[*slot] == FREE);
                let slot = slot.or_else(|| owners.iter().position(|owner| *owner == FREE));
                let Some(slot) = slot else { break };
                owners[slot] = member.index;
                free -= 1;
                if free == 0 {
                    break;
                }
            }
            round += 1.0;
        }
        Self { owners: owners.into() }
    }

    /// The slot of `hash`.
    pub(super) fn slot(&self, hash: u64) -> usize {
        // Below the length, which is a usize.
        (hash % self.owners.len().max(1) as u64) as usize
    }

    /// The owner of each slot.
    pub(super) fn owners(&self) -> &[u32] {
        &self.owners
    }
}
