//! Consistent hashing: the hash function and the tables that say which endpoint owns which hash. Knows names and weights
//! only, no health. Read next: `ring.rs`, `maglev.rs`, and `balance/consistent_hash.rs`, which walks the tables.
//!
//! Hash and tables are those of Envoy ("Ring hash" and "Maglev" in its documentation, xxHash64 with seed 0). Members are
//! sorted by name before a table is built, so that every proxy comes to the same table whatever order it learnt the
//! endpoints in.

mod maglev;
mod ring;

use maglev::Maglev;
use ring::Ring;
use xxhash_rust::xxh64::xxh64;

/// The hash of a key, as Envoy computes it: xxHash64 with seed 0.
pub fn hash_key(key: &[u8]) -> u64 {
    xxh64(key, 0)
}

/// Which table answers for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TableKind {
    /// A ring of at least so many entries (ketama). Envoy's default is 1,024; more make shares finer.
    Ring {
        /// Fewest entries, 1 to 8,388,608.
        minimum_size: u32,
    },
    /// Google's Maglev table of so many slots, a prime number. Default 65,537. Shares are exact to one slot, and a lookup
    /// is one access; when members change, slightly more keys move than on a ring.
    Maglev {
        /// Slots, a prime below 5,000,011 and above the number of endpoints.
        table_size: u32,
    },
}

impl TableKind {
    /// Envoy's ring.
    pub const RING: Self = Self::Ring { minimum_size: 1024 };
    /// Envoy's Maglev table.
    pub const MAGLEV: Self = Self::Maglev { table_size: 65_537 };
}

/// A member of a table: its name, its weight and what the table shall answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'a> {
    pub(crate) name: &'a str,
    pub(crate) weight: u32,
    pub(crate) index: u32,
}

/// Who owns which hash.
#[derive(Debug)]
pub(crate) enum HashTable {
    Ring(Ring),
    Maglev(Maglev),
}

impl HashTable {
    /// The table for these members; their order does not matter.
    pub(crate) fn new(kind: TableKind, mut members: Vec<Member<'_>>) -> Self {
        members.sort_unstable_by(|a, b| a.name.cmp(b.name).then(a.index.cmp(&b.index)));
        match kind {
            TableKind::Ring { minimum_size } => Self::Ring(Ring::new(&members, minimum_size)),
            TableKind::Maglev { table_size } => Self::Maglev(Maglev::new(&members, table_size)),
        }
    }

    /// The owner of `hash`, then those who follow it in the table, once around. An owner appears as often as it has slots.
    pub(crate) fn owners(&self, hash: u64) -> impl Iterator<Item = usize> + '_ {
        let (slots, start) = match self {
            Self::Ring(ring) => (ring.owners(), ring.slot(hash)),
            Self::Maglev(maglev) => (maglev.owners(), maglev.slot(hash)),
        };
        slots[start..].iter().chain(&slots[..start]).map(|&index| index as usize)
    }
}
