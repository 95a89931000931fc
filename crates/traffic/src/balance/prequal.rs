//! Prequal: one worker's pool of probes. Read next: `../report.rs` for what endpoints say of themselves.

use std::time::{Duration, Instant};

use super::candidates::Candidates;
use crate::Host;

/// Probes in the pool at most.
const POOL: usize = 16;
/// Probes that each pick adds.
const PROBES: usize = 3;
/// Age at which a probe says nothing any more.
const LONGEST_AGE: Duration = Duration::from_secs(1);
/// With fewer probes a host is drawn instead.
const FEWEST: usize = 2;
/// Probes at and above the quantile of a full pool.
const HOTTEST: usize = 4;
/// Quantile of the requests in flight above which a host is hot: 2^(-0.25).
const HOT_QUANTILE: f64 = 0.840_896_415;

/// Google's Prequal (Wydrowski, Kleinberg, Rumble, Archer: "Load is not what you should balance: Introducing Prequal", NSDI
/// 2024). Every pick adds three probes of hosts drawn at random to a pool of at most 16, drops those that are older than a
/// second and alternately the oldest or the worst one, and takes a host from the pool by the hot-cold lexicographic rule:
/// among hosts whose requests in flight are not among the highest the one with the smallest latency; when all are hot, the
/// one with the fewest requests in flight. A probe that was used counts one more request, and is used up after the
/// reuse budget of the paper.
///
/// A probe is what the host said of itself, as long as that is fresh; else what this process knows: its own requests in
/// flight there and the latency it saw. Nothing waits for a probe: the hosts drawn are named to the caller, who may ask them
/// and have what they say taken in when it comes ([`Prequal::learn`]). Requests in flight count per weight. Of equals the one
/// drawn last is taken, so that an idle cluster is used by its weights.
#[derive(Clone, Debug, Default)]
pub(super) struct Prequal {
    /// The oldest first.
    pool: Vec<Probe>,
    /// When the first pick was made: what ages count from.
    epoch: Option<Instant>,
    /// Most requests in flight, per weight, of a host that is not hot.
    limit: f64,
    /// How often a probe may be used, among so many hosts.
    reuse: Reuse,
    /// Which one is dropped next: the oldest, or the worst.
    drops_worst: bool,
    /// Hosts that the last pick drew.
    drawn: Drawn,
}

/// Hosts to probe.
pub(super) type Drawn = [Option<u32>; PROBES];

/// Small, for probes move up in the pool whenever one before them goes.
#[derive(Clone, Copy, Debug)]
struct Probe {
    host: u32,
    uses: u32,
    /// Requests in flight per weight.
    load: f64,
    /// What one more request adds to that.
    step: f64,
    nanos: f64,
    /// Time since the epoch of the pool.
    at: Duration,
}

impl Probe {
    fn of(index: u32, host: &Host, now: Instant, at: Duration, uses: u32) -> Self {
        let (in_flight, nanos) = host.state.load(now);
        // Most weights are 1 (and 0 counts as 1); a division takes longer than to see that.
        let step = if host.weight <= 1 { 1.0 } else { 1.0 / f64::from(host.weight) };
        Self { host: index, uses, load: f64::from(in_flight) * step, step, nanos, at }
    }
}

impl Prequal {
    pub(super) fn pick(&mut self, candidates: &Candidates<'_>, rng: &mut fastrand::Rng) -> Option<usize> {
        let hosts = candidates.hosts.hosts();
        let at = self.since_epoch(candidates.now);
        self.drop_old(at);
        self.drop_one(candidates.group.len());
        self.drawn = Drawn::default();
        if self.reuse.hosts != candidates.group.len() {
            self.reuse = Reuse::among(candidates.group.len());
        }
        for number in 0..PROBES {
            let index = candidates.draw(None, rng)?;
            let host = index as u32;
            self.drawn[number] = Some(host);
            // What is known anew of a host replaces what was known; the oldest makes room.
            match self.place_of(host) {
                Some(place) => drop(self.pool.remove(place)),
                None if self.pool.len() == POOL => drop(self.pool.remove(0)),
                None => {}
            }
            let uses = self.reuse.draw(rng);
            self.pool.push(Probe::of(host, &hosts[index], candidates.now, at, uses));
        }
        self.set_limit();
        while self.pool.len() >= FEWEST {
            let place = self.best()?;
            let probe = &mut self.pool[place];
            let host = probe.host as usize;
            if host >= hosts.len() || !candidates.fits(host, None) {
                self.pool.remove(place);
                continue;
            }
            probe.load += probe.step;
            probe.uses = probe.uses.saturating_sub(1);
            if probe.uses == 0 {
                self.pool.remove(place);
            }
            return Some(host);
        }
        candidates.draw(None, rng)
    }

    fn since_epoch(&mut self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.epoch.get_or_insert(now))
    }

    fn place_of(&self, host: u32) -> Option<usize> {
        self.pool.iter().position(|probe| probe.host == host)
    }

    /// The hosts that the last pick drew, once.
    pub(super) fn take_drawn(&mut self) -> Drawn {
        std::mem::take(&mut self.drawn)
    }

    /// Something new is known of a host: it replaces what the pool has of it.
    pub(super) fn learn(&mut self, index: usize, host: &Host, now: Instant) {
        let at = self.since_epoch(now);
        if let Some(place) = self.place_of(index as u32) {
            let uses = self.pool.remove(place).uses;
            self.pool.push(Probe::of(index as u32, host, now, at, uses));
        }
    }

    /// Finds out how much load makes a host hot: the load at the quantile, which is the lowest of the few highest.
    fn set_limit(&mut self) {
        let Some(last) = self.pool.len().checked_sub(1) else { return };
        // At most 4, for the pool has at most 16.
        let highest = (last - (last as f64 * HOT_QUANTILE) as usize + 1).min(HOTTEST);
        let mut top = [0.0; HOTTEST];
        for probe in &self.pool {
            let mut load = probe.load;
            for place in &mut top {
                // Without a branch, which would be guessed wrong as often as right.
                let (higher, lower) = if load > *place { (load, *place) } else { (*place, load) };
                (*place, load) = (higher, lower);
            }
        }
        self.limit = top[highest - 1];
    }

    /// How bad a choice the host is: cold ones by their latency, and behind them hot ones by their load. Numbers that are not
    /// negative are in the order of their bits.
    fn badness(&self, probe: &Probe) -> u64 {
        const HOT: u64 = 1 << 63;
        if probe.load > self.limit { HOT | probe.load.to_bits() } else { probe.nanos.to_bits() }
    }

    /// The fastest that is not hot, else the one with the least load; of equals the newest.
    fn best(&self) -> Option<usize> {
        let badness = self.pool.iter().map(|probe| self.badness(probe)).enumerate();
        badness.reduce(|best, next| if next.1 <= best.1 { next } else { best }).map(|(place, _)| place)
    }

    /// Drops what is too old; the oldest come first.
    fn drop_old(&mut self, at: Duration) {
        let old = self.pool.iter().take_while(|probe| at.saturating_sub(probe.at) >= LONGEST_AGE).count();
        if old > 0 {
            self.pool.drain(..old);
        }
    }

    /// Drops the oldest or the worst probe, in turn, once there is more than a pick adds. The worst is the hottest, and when
    /// none is hot the slowest.
    fn drop_one(&mut self, hosts: usize) {
        if self.pool.len() <= PROBES.min(hosts) {
            return;
        }
        self.drops_worst = !self.drops_worst;
        if !self.drops_worst {
            self.pool.remove(0);
            return;
        }
        let badness = self.pool.iter().map(|probe| self.badness(probe)).enumerate();
        let worst = badness.reduce(|worst, next| if next.1 >= worst.1 { next } else { worst });
        if let Some((place, _)) = worst {
            self.pool.remove(place);
        }
    }
}

/// How often a probe may be used: `max(1, (1 + d) / ((1 - m / n) r - r'))` with d = 1, pool size m, n hosts, r probes added
/// and r' = 1 removed per pick; the fraction by chance. With fewer hosts than places in the pool it has no end.
#[derive(Clone, Copy, Debug, Default)]
struct Reuse {
    hosts: usize,
    whole: u32,
    fraction: f64,
}

impl Reuse {
    fn among(hosts: usize) -> Self {
        let gained = (1.0 - POOL as f64 / hosts.max(1) as f64) * PROBES as f64 - 1.0;
        if gained <= 0.0 {
            return Self { hosts, whole: u32::MAX, fraction: 0.0 };
        }
        let budget = (2.0 / gained).max(1.0);
        // At least 1 and at most some hundreds.
        Self { hosts, whole: budget as u32, fraction: budget.fract() }
    }

    fn draw(&self, rng: &mut fastrand::Rng) -> u32 {
        if self.fraction > 0.0 { self.whole + u32::from(rng.f64() < self.fraction) } else { self.whole }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pool(probes: &[(u32, u32)]) -> Prequal {
        let probe = |(load, nanos): &(u32, u32)| Probe {
            host: 0,
            uses: 1,
            load: f64::from(*load),
            step: 1.0,
            nanos: f64::from(*nanos),
            at: Duration::ZERO,
        };
        Prequal { pool: probes.iter().map(probe).collect(), ..Prequal::default() }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// The rule as the paper tells it, by sorting.
        #[test]
        fn it_is_the_hot_cold_lexicographic_rule(probes in prop::collection::vec((0u32..6, 0u32..6), 1..=POOL)) {
            let mut prequal = pool(&probes);
            prequal.set_limit();
            let mut loads: Vec<u32> = probes.iter().map(|(load, _)| *load).collect();
            loads.sort_unstable();
            let limit = loads[((probes.len() - 1) as f64 * HOT_QUANTILE) as usize];
            prop_assert_eq!(prequal.limit, f64::from(limit));
            let ranked = |place: &usize| {
                let (load, nanos) = probes[*place];
                if load <= limit { (0, nanos) } else { (1, load) }
            };
            let newest_of_best = (0..probes.len()).rev().min_by_key(ranked);
            prop_assert_eq!(prequal.best(), newest_of_best);
            let worst = (0..probes.len()).max_by_key(ranked);
            prequal.drops_worst = false;
            let (before, most) = (prequal.pool.clone(), PROBES.min(probes.len()));
            prequal.drop_one(usize::MAX);
            if before.len() > most {
                let mut left: Vec<_> = before.iter().map(|probe| (probe.load, probe.nanos)).collect();
                left.remove(worst.unwrap_or_default());
                let kept: Vec<_> = prequal.pool.iter().map(|probe| (probe.load, probe.nanos)).collect();
                prop_assert_eq!(kept, left);
            }
        }
    }
}
