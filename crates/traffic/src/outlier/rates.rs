//! Comparing hosts over one interval: who succeeds much less often than the others, who fails too often. Pure arithmetic,
//! as in Envoy's documentation of outlier detection. Read next: `mod.rs`.

use super::{EjectionCause, FailurePercentagePolicy, OutlierPolicy, SuccessRatePolicy};
use crate::sync::{AtomicU32, Ordering};

/// Successes and tries of one host since the last sweep.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    successes: AtomicU32,
    total: AtomicU32,
}

/// A tally that was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) successes: u32,
    pub(super) total: u32,
}

impl Tally {
    pub(super) fn count(&self, success: bool) {
        if success {
            self.successes.fetch_add(1, Ordering::Relaxed);
        }
        self.total.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes what was counted and begins anew.
    pub(super) fn take(&self) -> Taken {
        let total = self.total.swap(0, Ordering::Relaxed);
        // A try that is counted meanwhile may be seen by half: never more successes than tries.
        Taken { successes: self.successes.swap(0, Ordering::Relaxed).min(total), total }
    }
}

impl Taken {
    fn rate(self) -> f64 {
        f64::from(self.successes) * 100.0 / f64::from(self.total.max(1))
    }
}

/// Who is to be ejected and why, in the order of the hosts; a host is named once. `tallies` holds each host that is in.
pub(super) fn outliers(
    policy: &OutlierPolicy,
    tallies: &[(usize, Taken)],
    local_origin: bool,
) -> Vec<(usize, EjectionCause)> {
    let mut found = Vec::new();
    if let Some(policy) = &policy.success_rate {
        by_success_rate(policy, tallies, local_origin, &mut found);
    }
    if let Some(policy) = &policy.failure_percentage {
        by_failure_percentage(policy, tallies, local_origin, &mut found);
    }
    found.sort_by_key(|(index, _)| *index);
    found.dedup_by_key(|(index, _)| *index);
    found
}

fn by_success_rate(
    policy: &SuccessRatePolicy,
    tallies: &[(usize, Taken)],
    local_origin: bool,
    found: &mut Vec<(usize, EjectionCause)>,
) {
    let rates: Vec<(usize, f64)> = taking_part(tallies, policy.request_volume);
    if rates.is_empty() || rates.len() < policy.minimum_hosts as usize {
        return;
    }
    let count = rates.len() as f64;
    let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / count;
    let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / count;
    let threshold = mean - variance.sqrt() * f64::from(policy.stdev_factor) / 1000.0;
    let below = rates.into_iter().filter(|(_, rate)| *rate < threshold);
    found.extend(below.map(|(index, rate)| {
        let cause =
            EjectionCause::SuccessRate { local_origin, rate: hundredths(rate), threshold: hundredths(threshold) };
        (index, cause)
    }));
}

fn by_failure_percentage(
    policy: &FailurePercentagePolicy,
    tallies: &[(usize, Taken)],
    local_origin: bool,
    found: &mut Vec<(usize, EjectionCause)>,
) {
    let rates = taking_part(tallies, policy.request_volume);
    if rates.len() < policy.minimum_hosts as usize {
        return;
    }
    let threshold = policy.threshold;
    for (index, rate) in rates {
        let percentage = 100.0 - rate;
        if percentage >= f64::from(threshold) {
            let percentage = hundredths(percentage);
            found.push((index, EjectionCause::FailurePercentage { local_origin, percentage, threshold }));
        }
    }
}

/// The success rates, in percent, of hosts with enough requests.
fn taking_part(tallies: &[(usize, Taken)], request_volume: u32) -> Vec<(usize, f64)> {
    let enough = tallies.iter().filter(|(_, taken)| taken.total >= request_volume.max(1));
    enough.map(|(index, taken)| (*index, taken.rate())).collect()
}

fn hundredths(percent: f64) -> u32 {
    // At most 10,000; a float becomes the nearest whole number that there is.
    (percent * 100.0).round().max(0.0) as u32
}
