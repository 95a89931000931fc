//! Hosts that are chosen among together: a priority, and within it a locality. What balancers need to know about their
//! names and weights is computed once here and shared by all workers. Knows no health. Read next: `host_set.rs`, `locality.rs`.

use std::sync::OnceLock;

use crate::hash::{HashTable, Member, TableKind};
use crate::rotation::Rotation;
use crate::weighted_draw::WeightedDraw;
use crate::{Host, HostSet};

/// Hosts that are chosen among together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// 0 is preferred; what the healthy hosts of a priority cannot carry goes to the next.
    pub priority: u32,
    /// Share of the priority's requests relative to its other groups, at least 1.
    pub weight: u32,
    /// Indices of its hosts.
    pub hosts: Vec<u32>,
}

/// A group with its tables.
#[derive(Debug)]
pub(crate) struct GroupTables {
    pub(crate) priority: u32,
    pub(crate) weight: u32,
    members: Members,
    weight_sum: u64,
    draw: WeightedDraw,
    rotation: OnceLock<Rotation>,
    table: OnceLock<HashTable>,
}

/// Which hosts belong to a group.
#[derive(Debug)]
enum Members {
    /// The first so many: all of a set without groups.
    All(usize),
    Listed(Box<[u32]>),
}

impl GroupTables {
    /// The one group of a set without groups.
    pub(crate) fn of_all(hosts: &[Host]) -> Self {
        Self::new(0, 1, Members::All(hosts.len()), hosts)
    }

    /// A group of a set; indices that the set does not have are left out.
    pub(crate) fn listed(group: &Group, hosts: &[Host]) -> Self {
        let members = group.hosts.iter().copied().filter(|index| (*index as usize) < hosts.len()).collect();
        Self::new(group.priority, group.weight.max(1), Members::Listed(members), hosts)
    }

    fn new(priority: u32, weight: u32, members: Members, hosts: &[Host]) -> Self {
        let mut new = Self {
            priority,
            weight,
            members,
            weight_sum: 0,
            draw: WeightedDraw::Equal,
            rotation: OnceLock::new(),
            table: OnceLock::new(),
        };
        let weights: Vec<u32> = new.indices().map(|index| hosts[index].weight).collect();
        new.weight_sum = weights.iter().copied().map(u64::from).sum();
        new.draw = WeightedDraw::new(weights.iter().copied());
        new
    }

    /// Number of hosts.
    pub(crate) fn len(&self) -> usize {
        match &self.members {
            Members::All(count) => *count,
            Members::Listed(list) => list.len(),
        }
    }

    /// The host at a place in the group.
    pub(crate) fn host_at(&self, place: usize) -> usize {
        match &self.members {
            Members::All(_) => place,
            Members::Listed(list) => list[place] as usize,
        }
    }

    /// Every host of the group.
    pub(crate) fn indices(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.len()).map(|place| self.host_at(place))
    }

    /// The weights of its hosts, added up.
    pub(crate) fn weight_sum(&self) -> u64 {
        self.weight_sum
    }

    /// A random host by weight, whatever the health. The group must not be empty.
    pub(crate) fn draw(&self, rng: &mut fastrand::Rng) -> usize {
        self.host_at(self.draw.draw(self.len(), rng))
    }

    /// The order of round robin; its turns are places in the group.
    pub(crate) fn rotation(&self, set: &HostSet) -> &Rotation {
        self.rotation.get_or_init(|| {
            let weights: Vec<u32> = self.indices().map(|index| set.hosts()[index].weight).collect();
            Rotation::new(weights.iter().copied())
        })
    }

    /// Who owns which hash. The first caller decides about the kind: a set serves one policy.
    pub(crate) fn table(&self, set: &HostSet, kind: TableKind) -> &HashTable {
        self.table.get_or_init(|| {
            let member =
                |index: usize| Member { name: set.name(index), weight: set.hosts()[index].weight, index: index as u32 };
            HashTable::new(kind, self.indices().map(member).collect())
        })
    }
}
