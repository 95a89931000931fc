//! Histograms with Istio's fixed buckets, written by one worker and read by any scrape.
//!
//! Values are integers in the histogram's own unit: microseconds for durations, bytes for sizes. Labels are not known
//! here; see `metrics.rs`.

use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the buckets as they are written (`le`), the same for milliseconds and for bytes. The last is `+Inf`.
pub const BUCKET_LABELS: [&str; BUCKETS] = [
    "0.5", "1", "5", "10", "25", "50", "100", "250", "500", "1000", "2500", "5000", "10000", "30000", "60000",
    "300000", "600000", "1800000", "3600000", "+Inf",
];

/// Number of buckets, `+Inf` included.
pub(crate) const BUCKETS: usize = 20;

/// The finite bounds in microseconds.
pub(crate) const DURATION_BOUNDS: [u64; BUCKETS - 1] = [
    500,
    1_000,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    600_000_000,
    1_800_000_000,
    3_600_000_000,
];

/// The finite bounds in bytes. "At most half a byte" is no byte.
pub(crate) const BYTES_BOUNDS: [u64; BUCKETS - 1] = [
    0, 1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000,
    3_600_000,
];

/// Adds to a word that only one thread writes: a plain load and a plain store, no locked instruction.
#[inline]
pub(crate) fn add(word: &AtomicU64, amount: u64) {
    word.store(word.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

/// Buckets (not cumulative) and the sum of one series.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

impl Histogram {
    /// Counts one value. Only the owning worker calls this.
    #[inline]
    pub(crate) fn observe(&self, bounds: &[u64; BUCKETS - 1], value: u64) {
        let bucket = bounds.partition_point(|bound| *bound < value);
        add(&self.buckets[bucket], 1);
        add(&self.sum, value);
    }

    /// Adds what was counted so far to `total`.
    pub(crate) fn add_to(&self, total: &mut HistogramTotal) {
        for (sum, bucket) in total.buckets.iter_mut().zip(&self.buckets) {
            *sum = sum.wrapping_add(bucket.load(Ordering::Relaxed));
        }
        total.sum = total.sum.wrapping_add(self.sum.load(Ordering::Relaxed));
    }
}

/// Plain sums over the workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HistogramTotal {
    /// Values per bucket, not cumulative.
    pub(crate) buckets: [u64; BUCKETS],
    /// Sum of all values in the histogram's unit.
    pub(crate) sum: u64,
}

impl HistogramTotal {
    /// Adds another total to this one.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (sum, bucket) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum = sum.wrapping_add(*bucket);
        }
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// How many values were counted.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |count, bucket| count.wrapping_add(*bucket))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bounds_agree_with_their_labels() {
        for (index, label) in BUCKET_LABELS.iter().take(BUCKETS - 1).enumerate() {
            let bound: f64 = label.parse().expect("a finite bound is a number");
            assert_eq!(DURATION_BOUNDS[index] as f64, bound * 1000.0, "microseconds of {label}");
            assert_eq!(BYTES_BOUNDS[index] as f64, bound.floor(), "bytes of {label}");
        }
    }

    proptest! {
        #[test]
        fn a_histogram_counts_like_its_slow_oracle(values in prop::collection::vec(
            prop_oneof![0u64..2_000, 0u64..10_000_000_000, prop::sample::select(DURATION_BOUNDS.to_vec())], 0..60)) {
            let histogram = Histogram::default();
            for value in &values {
                histogram.observe(&DURATION_BOUNDS, *value);
            }
            let mut total = HistogramTotal::default();
            histogram.add_to(&mut total);
            let mut cumulative = 0;
            for (index, label) in BUCKET_LABELS.iter().enumerate() {
                cumulative += total.buckets[index];
                let limit = label.parse::<f64>().unwrap_or(f64::INFINITY) * 1000.0;
                let expected = values.iter().filter(|value| **value as f64 <= limit).count();
                prop_assert_eq!(cumulative, expected as u64, "le={}", label);
            }
            prop_assert_eq!(total.sum, values.iter().sum::<u64>());
            prop_assert_eq!(total.count(), values.len() as u64);
        }
    }
}
