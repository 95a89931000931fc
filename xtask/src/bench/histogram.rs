//! A histogram of durations with a bounded relative error, for latency percentiles.
//!
//! Buckets are linear inside each power of two (the idea of HdrHistogram): 32 to a power, so a value is known to about
//! three per cent, in constant memory and without sorting. It does not know what is measured.

use std::time::Duration;

const SUB_BITS: u32 = 5;
const SUB: u64 = 1 << SUB_BITS;
const BUCKETS: usize = ((64 - SUB_BITS as usize) + 1) << SUB_BITS;

/// Counts of durations by nanosecond bucket.
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    highest: u64,
}

impl Histogram {
    /// An empty histogram.
    pub(crate) fn new() -> Histogram {
        Histogram { counts: vec![0; BUCKETS], total: 0, highest: 0 }
    }

    /// Counts one duration.
    pub(crate) fn record(&mut self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket_of(nanos)] += 1;
        self.total += 1;
        self.highest = self.highest.max(nanos);
    }

    /// The duration that `share` (0 to 1) of all values do not exceed, by the upper end of its bucket; zero when empty.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let wanted = ((self.total as f64) * share).ceil().max(1.0);
        let mut seen = 0_u64;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if *count > 0 && seen as f64 >= wanted {
                return Duration::from_nanos(upper_end(bucket).min(self.highest));
            }
        }
        Duration::from_nanos(self.highest)
    }
}

fn bucket_of(nanos: u64) -> usize {
    if nanos < SUB {
        return usize::try_from(nanos).unwrap_or(0);
    }
    let power = 63 - nanos.leading_zeros();
    let within = (nanos >> (power - SUB_BITS)) & (SUB - 1);
    let group = u64::from(power - SUB_BITS + 1);
    usize::try_from((group << SUB_BITS) | within).unwrap_or(BUCKETS - 1)
}

fn upper_end(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let (group, within) = (bucket >> SUB_BITS, bucket & (SUB - 1));
    if group == 0 { within } else { (((SUB + within + 1) << (group - 1)) as u128 - 1) as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_at_most_four_per_cent_above_the_exact_one() {
        let mut histogram = Histogram::new();
        let mut exact: Vec<u64> = (1..=10_000_u64).map(|step| step * step * 37 % 90_000_019).collect();
        for &nanos in &exact {
            histogram.record(Duration::from_nanos(nanos));
        }
        exact.sort_unstable();
        for (share, rank) in [(0.5, 5_000), (0.9, 9_000), (0.99, 9_900), (0.999, 9_990), (1.0, 10_000)] {
            let truth = exact[rank - 1] as f64;
            let found = histogram.quantile(share).as_nanos() as f64;
            assert!(found >= truth && found <= truth * 1.04, "share {share}: {found} for {truth}");
        }
    }

    #[test]
    fn every_value_lies_in_its_bucket() {
        for nanos in (0..63).flat_map(|power| [1_u64 << power, (1 << power) + 1, (1_u64 << power).wrapping_sub(1)]) {
            let bucket = bucket_of(nanos);
            assert!(upper_end(bucket) >= nanos, "{nanos} above the end of bucket {bucket}");
            assert!(bucket == 0 || upper_end(bucket - 1) < nanos, "{nanos} belongs below bucket {bucket}");
        }
    }

    #[test]
    fn an_empty_histogram_answers_zero() {
        assert_eq!(Histogram::new().quantile(0.99), Duration::ZERO);
    }
}
