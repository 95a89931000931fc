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
    /// Most requests in flight, per weight, of a host that is not hot.
    limit: f64,
    /// Which one is dropped next: the oldest, or the worst.
    drops_worst: bool,
    /// Hosts that the last pick drew.
    drawn: Drawn,
}

/// Hosts to probe.
pub(super) type Drawn = [Option<u32>; PROBES];

#[derive(Clone, Copy, Debug)]
struct Probe {
    host: usize,
    /// Requests in flight per weight.
    load: f64,
    /// What one more request adds to that.
    step: f64,
    nanos: f64,
    at: Instant,
    uses: u32,
}

impl Probe {
    fn of(index: usize, host: &Host, now: Instant, uses: u32) -> Self {
        let (in_flight, nanos) = host.state.load(now);
        let step = 1.0 / f64::from(host.weight);
        Self { host: index, load: f64::from(in_flight) * step, step, nanos, at: now, uses }
    }
}

impl Prequal {
    pub(super) fn pick(&mut self, candidates: &Candidates<'_>, rng: &mut fastrand::Rng) -> Option<usize> {
        let hosts = candidates.hosts.hosts();
        self.drop_old(candidates.now);
        self.drop_one(candidates.group.len());
        self.drawn = Drawn::default();
        for number in 0..PROBES {
            let index = candidates.draw(None, rng)?;
            self.drawn[number] = Some(index as u32);
            // What is known anew of a host replaces what was known; the oldest makes room.
            match self.pool.iter().position(|probe| probe.host == index) {
                Some(place) => drop(self.pool.remove(place)),
                None if self.pool.len() == POOL => drop(self.pool.remove(0)),
                None => {}
            }
            let uses = reuse(candidates.group.len(), rng);
            self.pool.push(Probe::of(index, &hosts[index], candidates.now, uses));
        }
        self.set_limit();
        while self.pool.len() >= FEWEST {
            let place = self.best()?;
            let probe = &mut self.pool[place];
            let host = probe.host;
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

    /// The hosts that the last pick drew, once.
    pub(super) fn take_drawn(&mut self) -> Drawn {
        std::mem::take(&mut self.drawn)
    }

    /// Something new is known of a host: it replaces what the pool has of it.
    pub(super) fn learn(&mut self, index: usize, host: &Host, now: Instant) {
        if let Some(place) = self.pool.iter().position(|probe| probe.host == index) {
            let uses = self.pool.remove(place).uses;
            self.pool.push(Probe::of(index, host, now, uses));
        }
    }

    /// Finds out how much load makes a host hot.
    fn set_limit(&mut self) {
        let mut loads = [0.0; POOL];
        let count = self.pool.len().min(POOL);
        for (place, probe) in loads.iter_mut().zip(&self.pool) {
            *place = probe.load;
        }
        // Below the count, which is at most 16.
        let at = (count.saturating_sub(1) as f64 * HOT_QUANTILE) as usize;
        if at < count {
            self.limit = *loads[..count].select_nth_unstable_by(at, f64::total_cmp).1;
        }
    }

    /// The fastest that is not hot, else the one with the least load; of equals the newest.
    fn best(&self) -> Option<usize> {
        let newest_first = || self.pool.iter().enumerate().rev();
        let cold = newest_first().filter(|(_, probe)| probe.load <= self.limit);
        let fastest = cold.min_by(|(_, a), (_, b)| a.nanos.total_cmp(&b.nanos));
        let idlest = || newest_first().min_by(|(_, a), (_, b)| a.load.total_cmp(&b.load));
        fastest.or_else(idlest).map(|(place, _)| place)
    }

    /// Drops what is too old; the oldest come first.
    fn drop_old(&mut self, now: Instant) {
        let fresh = |probe: &Probe| now.saturating_duration_since(probe.at) < LONGEST_AGE;
        let old = self.pool.iter().position(fresh).unwrap_or(self.pool.len());
        self.pool.drain(..old);
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
        let hot = self.pool.iter().enumerate().filter(|(_, probe)| probe.load > self.limit);
        let hottest = hot.max_by(|(_, a), (_, b)| a.load.total_cmp(&b.load));
        let slowest = || self.pool.iter().enumerate().max_by(|(_, a), (_, b)| a.nanos.total_cmp(&b.nanos));
        if let Some((place, _)) = hottest.or_else(slowest) {
            self.pool.remove(place);
        }
    }
}

/// How often a probe may be used: `max(1, (1 + d) / ((1 - m / n) r - r'))` with d = 1, pool size m, n hosts, r probes added
/// and r' = 1 removed per pick; the fraction by chance. With fewer hosts than places in the pool it has no end.
fn reuse(hosts: usize, rng: &mut fastrand::Rng) -> u32 {
    let gained = (1.0 - POOL as f64 / hosts.max(1) as f64) * PROBES as f64 - 1.0;
    if gained <= 0.0 {
        return u32::MAX;
    }
    let budget = (2.0 / gained).max(1.0);
    // At least 1 and at most some hundreds.
    budget as u32 + u32::from(rng.f64() < budget.fract())
}
