//! Weighted response time: one worker's weights and when they were made. Read next: `../ewma.rs`.

use std::time::{Duration, Instant};

use super::candidates::Candidates;

/// Weights are used for so long.
const REFRESH: Duration = Duration::from_secs(1);

/// Ribbon's `WeightedResponseTimeRule`: each host is drawn with the weight `sum of all response times - its own`, so that
/// of two hosts the one that takes nine times as long gets a tenth. Response times are the hosts' peak EWMA; a host
/// without one counts as 0 and gets the whole weight. As long as there are no weights, hosts are drawn by their own.
#[derive(Clone, Debug, Default)]
pub(super) struct ResponseTime {
    made: Option<Instant>,
    /// Sums of weights up to each place of the group, in microseconds times weight.
    sums: Vec<u64>,
}

impl ResponseTime {
    pub(super) fn pick(&mut self, candidates: &Candidates<'_>, rng: &mut fastrand::Rng) -> Option<usize> {
        let fresh = self.made.is_some_and(|made| candidates.now.saturating_duration_since(made) < REFRESH);
        if !fresh || self.sums.len() != candidates.group.len() {
            self.compute(candidates);
        }
        let total = self.sums.last().copied().unwrap_or(0);
        if total == 0 {
            return candidates.draw(None, rng);
        }
        for _ in 0..4 {
            let at = rng.u64(..total);
            let place = self.sums.partition_point(|sum| *sum <= at);
            let index = candidates.group.host_at(place);
            if candidates.fits(index, None) && candidates.accepts(index, rng) {
                return Some(index);
            }
        }
        // Everybody keeps at least one unit: the only host that is left must be found too.
        let weight = |index: usize| {
            let place = candidates.group.indices().position(|other| other == index).unwrap_or(0);
            let before = place.checked_sub(1).map_or(0, |before| self.sums[before]);
            (self.sums[place] - before).max(1)
        };
        candidates.draw_by(None, rng, weight)
    }

    fn compute(&mut self, candidates: &Candidates<'_>) {
        self.made = Some(candidates.now);
        let hosts = candidates.hosts.hosts();
        // Microseconds of at most a day are below 2^37; with a weight and a thousand hosts the sum stays below 2^64.
        let micros = |index: usize| (hosts[index].state.latency_nanos(candidates.now) / 1e3).clamp(0.0, 8.64e10) as u64;
        let times: Vec<u64> = candidates.group.indices().map(micros).collect();
        let all: u64 = times.iter().sum();
        let mut sum = 0u64;
        self.sums.clear();
        self.sums.extend(candidates.group.indices().zip(&times).map(|(index, time)| {
            sum = sum.saturating_add((all - time).saturating_mul(u64::from(hosts[index].weight)));
            sum
        }));
    }
}
