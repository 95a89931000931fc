//! Drawing an index at random by weight in constant time. Knows numbers only. Read next: `balance/mod.rs`.

/// Walker's alias method with Vose's construction (ACM TOMS 3, 1977; IEEE TSE 17, 1991), in whole numbers, so that the
/// shares are exact: each of `n` columns holds `total` units, of which the first `cut` belong to the column's own index
/// and the rest to its `alias`.
#[derive(Debug)]
pub(crate) enum WeightedDraw {
    /// All weights are equal: no table is needed.
    Equal,
    /// Columns in the order of indices.
    Columns { total: u64, columns: Box<[Column]> },
}

/// One column of the alias table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    cut: u64,
    alias: u32,
}

impl WeightedDraw {
    /// Prepares a table for weights of at least 1.
    pub(crate) fn new(weights: impl ExactSizeIterator<Item = u32> + Clone) -> Self {
        let count = weights.len();
        let Some(first) = weights.clone().next() else { return Self::Equal };
        if weights.clone().all(|weight| weight == first) {
            return Self::Equal;
        }
        let total: u64 = weights.clone().map(u64::from).sum();
        let mut columns: Vec<Column> =
            weights.map(|weight| Column { cut: u64::from(weight) * count as u64, alias: 0 }).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..count).partition(|&index| columns[index].cut < total);
        while let (Some(under), Some(&over)) = (small.pop(), large.last()) {
            columns[under].alias = over as u32;
            columns[over].cut -= total - columns[under].cut;
            if columns[over].cut < total {
                large.pop();
                small.push(over);
            }
        }
        Self::Columns { total, columns: columns.into() }
    }

    /// An index below `count`, which is at least 1 and the number of weights.
    pub(crate) fn draw(&self, count: usize, rng: &mut fastrand::Rng) -> usize {
        let index = rng.usize(..count);
        match self {
            Self::Equal => index,
            Self::Columns { total, columns } => {
                let column = columns[index];
                if rng.u64(..*total) < column.cut { index } else { column.alias as usize }
            }
        }
    }

    /// Units of each index over all columns; shares are exact when this is the weight times the number of columns.
    #[cfg(test)]
    fn units(&self) -> Vec<u64> {
        match self {
            Self::Equal => Vec::new(),
            Self::Columns { total, columns } => {
                let mut units = vec![0; columns.len()];
                for (index, column) in columns.iter().enumerate() {
                    let own = column.cut.min(*total);
                    units[index] += own;
                    units[column.alias as usize] += total - own;
                }
                units
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn every_index_owns_exactly_its_share(weights in prop::collection::vec(1u32.., 1..40)) {
            let draw = WeightedDraw::new(weights.iter().copied());
            let expected: Vec<u64> = weights.iter().map(|&weight| u64::from(weight) * weights.len() as u64).collect();
            if let WeightedDraw::Columns { .. } = draw {
                prop_assert_eq!(draw.units(), expected);
            } else {
                prop_assert!(weights.windows(2).all(|pair| pair[0] == pair[1]));
            }
        }
    }
}
