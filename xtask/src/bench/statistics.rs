//! Medians, and how sure a ratio is. Pure arithmetic: it does not know what was measured.

/// Probability with which the true median must lie below the upper bound.
const CONFIDENCE: f64 = 0.95;

/// The value in the middle; not a number when there is none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => f64::NAN,
        (count, middle) if count % 2 == 1 => values[middle],
        (_, middle) => (values[middle - 1] + values[middle]) / 2.0,
    }
}

/// The lowest and the highest value.
pub(crate) fn extremes(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}

/// A ratio of pairs that were measured one right after the other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ratio {
    /// The median of the pairs' ratios.
    pub(crate) median: f64,
    /// The upper end of the one-sided confidence interval of that median; none with too few pairs.
    pub(crate) bound: Option<f64>,
}

/// The ratio of `ours` to `theirs`, pair by pair.
///
/// The bound is the smallest of the sorted ratios that the true median exceeds with a probability of at most 5 % (the
/// interval that belongs to the sign test: Conover, Practical Nonparametric Statistics, 3rd edition, section 3.2). It
/// assumes nothing about how the noise is distributed. Of 15 pairs it is the twelfth ratio, with a confidence of 98 %.
pub(crate) fn paired_ratio(ours: &[f64], theirs: &[f64]) -> Ratio {
    let mut ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    ratios.sort_by(f64::total_cmp);
    // Each ratio lies below the true median with probability one half, so their number is binomial.
    let mut below = 0.0;
    let mut term = 0.5_f64.powi(i32::try_from(ratios.len()).unwrap_or(i32::MAX));
    let mut bound = None;
    for (rank, ratio) in ratios.iter().enumerate() {
        below += term;
        if below >= CONFIDENCE {
            bound = Some(*ratio);
            break;
        }
        term *= (ratios.len() - rank) as f64 / (rank + 1) as f64;
    }
    Ratio { median: median(ratios), bound }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(vec![9.0, 1.0, 5.0]), 5.0);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn the_bound_of_fifteen_pairs_is_the_twelfth_ratio_and_of_five_the_highest() {
        let ours: Vec<f64> = (1..=15).rev().map(f64::from).collect();
        let ratio = paired_ratio(&ours, &[1.0; 15]);
        assert_eq!(ratio, Ratio { median: 8.0, bound: Some(12.0) });
        assert_eq!(paired_ratio(&ours[..5], &[1.0; 5]).bound, Some(15.0));
        assert_eq!(paired_ratio(&ours[..4], &[1.0; 4]).bound, None);
    }

    #[test]
    fn one_wild_pair_moves_neither_median_nor_bound() {
        let mut ours = vec![1.0; 15];
        ours[3] = 1_000.0;
        assert_eq!(paired_ratio(&ours, &[2.0; 15]), Ratio { median: 0.5, bound: Some(0.5) });
    }
}
