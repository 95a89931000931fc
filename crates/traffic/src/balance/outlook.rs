//! What one worker computed from the health of the hosts: which group gets what share, who is in panic, who warms up. It
//! is computed anew when an availability changed anywhere, so that picks do not count hosts. Read next: `mod.rs`.
//!
//! Priorities, panic and locality weights are Envoy's ("Priority levels", "Panic threshold", "Locality weighted load
//! balancing" in its documentation).

use std::time::Instant;

use crate::group::GroupTables;
use crate::host::availability_epoch;
use crate::rotation::smooth_turn;
use crate::{Host, HostSet, Warmup};

/// A priority or locality carries all of its load until less than 100/140 of its hosts are healthy (Envoy's
/// overprovisioning factor), in percent.
const OVERPROVISIONING: u64 = 140;
/// What loads and shares add up to.
const WHOLE: u64 = 1_000_000;

/// What one worker knows about the health of a set.
#[derive(Clone, Debug, Default)]
pub(super) struct Outlook {
    /// The state of the world that this was computed from; 0 is none.
    epoch: u64,
    /// By group.
    groups: Vec<GroupOutlook>,
    /// The group that gets everything, where one does.
    sole: Option<usize>,
    /// Credits of the groups for taking turns.
    credits: Vec<i64>,
    warm: Option<Warming>,
}

#[derive(Clone, Copy, Debug)]
struct GroupOutlook {
    /// Share of all requests; the shares of all groups need not add up to anything in particular.
    share: u64,
    /// Ejections and what checks found are ignored.
    panic: bool,
}

/// Hosts that are warming up.
#[derive(Clone, Debug)]
struct Warming {
    warmup: Warmup,
    /// When slow start of each host counts from, by index.
    since: Vec<Instant>,
    /// The earliest of these among the hosts of each group that may be picked.
    eldest: Vec<Option<Instant>>,
    /// When the last of them is warm.
    until: Instant,
}

/// How warm the hosts of a group are, beside the warmest of them: slow start shifts shares, and where nobody is warm there is
/// nobody to shift them to.
#[derive(Clone, Copy)]
pub(super) struct Warmth<'a> {
    warming: &'a Warming,
    /// The part of its weight that the warmest host has.
    most: f64,
    now: Instant,
}

impl Warmth<'_> {
    /// The part of its weight that a host has; 1 for the warmest.
    pub(super) fn of(&self, host: usize) -> f64 {
        let Some(since) = self.warming.since.get(host) else { return 1.0 };
        let factor = self.warming.warmup.factor(*since, self.now);
        // Nobody has anything: all are equal.
        if factor >= self.most { 1.0 } else { factor / self.most }
    }
}

/// Hosts of a group by health.
#[derive(Clone, Copy, Debug, Default)]
struct Census {
    /// Left in by operators.
    enabled: u64,
    /// Of these, healthy.
    available: u64,
}

impl Census {
    fn of(hosts: &HostSet, group: &GroupTables) -> Self {
        let mut census = Self::default();
        for index in group.indices() {
            let host = &hosts.hosts()[index];
            census.enabled += u64::from(host.is_enabled());
            census.available += u64::from(host.is_available());
        }
        census
    }

    fn plus(self, other: Self) -> Self {
        Self { enabled: self.enabled + other.enabled, available: self.available + other.available }
    }

    /// What share of its load it can carry, in percent.
    fn health(self) -> u64 {
        (self.available * OVERPROVISIONING).checked_div(self.enabled).unwrap_or(0).min(100)
    }

    /// Less than `percent` of the hosts that operators left in is available.
    fn is_below(self, percent: u32) -> bool {
        self.available * 100 < self.enabled * u64::from(percent.min(100))
    }
}

impl Outlook {
    /// Brings everything up to date. One load, as long as nothing changed.
    pub(super) fn refresh(&mut self, hosts: &HostSet, now: Instant) {
        let epoch = availability_epoch();
        if self.epoch != epoch || self.groups.len() != hosts.group_tables().len() {
            self.epoch = epoch;
            self.compute(hosts, now);
        }
        if self.warm.as_ref().is_some_and(|warm| warm.until <= now) {
            self.warm = None;
        }
    }

    /// Forgets everything: another set is looked at from now on.
    pub(super) fn forget(&mut self) {
        self.epoch = 0;
    }

    fn compute(&mut self, hosts: &HostSet, now: Instant) {
        self.groups = shares(hosts);
        self.credits.resize(self.groups.len(), 0);
        let mut carrying = (0..self.groups.len()).filter(|&group| self.groups[group].share > 0);
        self.sole = match (carrying.next(), carrying.next()) {
            (Some(only), None) => Some(only),
            (None, _) => Some(0),
            _ => None,
        };
        self.warm = hosts.warmup().and_then(|warmup| {
            // Whoever comes back from being out starts slowly again, whatever took it out.
            let since = |host: &Host| {
                let joined = host.verdict.join(now);
                host.state.health().recovered().map_or(joined, |recovered| joined.max(recovered))
            };
            let since: Vec<Instant> = hosts.hosts().iter().map(since).collect();
            let until = since.iter().max()?.checked_add(warmup.window)?;
            let eldest = hosts.group_tables().iter().zip(&self.groups).map(|(group, outlook)| {
                let all = &hosts.hosts();
                let picked = |index: &usize| all[*index].is_available() || (outlook.panic && all[*index].is_enabled());
                group.indices().filter(picked).map(|index| since[index]).min()
            });
            let eldest = eldest.collect();
            (until > now).then_some(Warming { warmup, since, eldest, until })
        });
    }

    /// The group whose turn it is; with a hash the one that the hash belongs to.
    pub(super) fn turn(&mut self, hash: Option<u64>) -> usize {
        if let Some(sole) = self.sole {
            return sole;
        }
        let shares = self.groups.iter().map(|group| group.share);
        let Some(hash) = hash else { return smooth_turn(&mut self.credits, shares.enumerate()).unwrap_or(0) };
        // The high half decides here, so that the low bits still spread evenly over the group's table.
        let total: u64 = shares.clone().sum();
        let mut at = ((u128::from(hash) * u128::from(total)) >> 64) as u64;
        for (group, share) in shares.enumerate() {
            if at < share {
                return group;
            }
            at -= share;
        }
        0
    }

    /// Number of groups.
    pub(super) fn count(&self) -> usize {
        self.groups.len()
    }

    /// Whether ejections are ignored in a group.
    pub(super) fn is_panicking(&self, group: usize) -> bool {
        self.groups.get(group).is_some_and(|group| group.panic)
    }

    /// How warm the hosts of a group are, while some host of the set is warming up.
    pub(super) fn warming(&self, group: usize, now: Instant) -> Option<Warmth<'_>> {
        let warming = self.warm.as_ref()?;
        let eldest = warming.eldest.get(group).copied().flatten()?;
        Some(Warmth { warming, most: warming.warmup.factor(eldest, now), now })
    }
}

/// The share of each group: its priority's load times its part of that.
fn shares(hosts: &HostSet) -> Vec<GroupOutlook> {
    let groups = hosts.group_tables();
    let census: Vec<Census> = groups.iter().map(|group| Census::of(hosts, group)).collect();
    // Groups are sorted by priority.
    let levels: Vec<std::ops::Range<usize>> = levels(groups);
    let of_level =
        |level: &std::ops::Range<usize>| census[level.clone()].iter().copied().fold(Census::default(), Census::plus);
    let totals: Vec<Census> = levels.iter().map(of_level).collect();
    let threshold = hosts.min_health_percent();
    let able: u64 = totals.iter().map(|level| level.health()).sum();
    // With several priorities nobody panics as long as they can carry everything together.
    let may_panic = levels.len() == 1 || able < 100;
    let panics: Vec<bool> = totals.iter().map(|level| may_panic && level.is_below(threshold)).collect();
    let loads = loads(&totals, able, &panics);
    let mut outlook = Vec::with_capacity(groups.len());
    for ((level, load), panic) in levels.into_iter().zip(loads).zip(panics) {
        let of_group = |group: usize| {
            let health = if panic { 100 } else { census[group].health() };
            if census[group].enabled == 0 { 0 } else { u64::from(groups[group].weight) * health }
        };
        let sum: u64 = level.clone().map(of_group).sum();
        outlook.extend(level.map(|group| {
            let share = u128::from(load) * u128::from(of_group(group)) / u128::from(sum.max(1));
            // At most `load`; whoever can carry anything gets something.
            GroupOutlook { share: (share as u64).max(u64::from(load > 0 && of_group(group) > 0)), panic }
        }));
    }
    outlook
}

/// Consecutive groups of one priority.
fn levels(groups: &[GroupTables]) -> Vec<std::ops::Range<usize>> {
    let mut levels = Vec::new();
    let mut start = 0;
    for level in groups.chunk_by(|a, b| a.priority == b.priority) {
        levels.push(start..start + level.len());
        start += level.len();
    }
    levels
}

/// What share of all requests each priority gets: as much as it can carry, the rest goes to the next. When all of them
/// together cannot carry everything, everybody gets more in proportion; when nobody carries anything and there is panic,
/// by the number of hosts.
fn loads(levels: &[Census], able: u64, panics: &[bool]) -> Vec<u64> {
    if able == 0 {
        let hosts: u64 = levels.iter().map(|level| level.enabled).sum();
        let panic = panics.iter().any(|panic| *panic);
        return levels.iter().map(|level| if panic { WHOLE * level.enabled / hosts.max(1) } else { 0 }).collect();
    }
    let able = able.min(100);
    let mut left = WHOLE;
    let load = |level: &Census| {
        let load = (WHOLE * level.health() / able).min(left);
        left -= load;
        load
    };
    levels.iter().map(load).collect()
}
