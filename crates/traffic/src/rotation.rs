//! The order in which round robin visits hosts. Knows weights only, no health and no cursor. Read next:
//! `balance/round_robin.rs`.

/// Longest rotation that is laid out ahead, in turns.
const MAX_TURNS: u64 = 4096;
/// Most additions spent on laying one out (a few milliseconds).
const MAX_WORK: u64 = 4 << 20;

/// Smooth weighted round robin as nginx interleaves it: each turn every host gains its weight, the richest is chosen
/// and pays the sum of weights. Weights 5, 1, 1 give a a b a c a a: over one rotation each host has exactly its weight
/// in turns, and no host's turns are bunched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rotation {
    /// Who has which turn.
    pub(crate) order: Order,
    /// Turns in which everybody has about one at least: the sum of weights by the smallest. Workers start spread over
    /// this, and not over the whole rotation: weights 1001 and 1000 alternate nearly everywhere, so that starts far
    /// apart would all be at the same host.
    pub(crate) window: u64,
}

/// Who has which turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Equal weights: each host once, in order.
    Equal,
    /// Laid out: the host of each turn. Its length is the sum of the weights divided by their greatest common divisor.
    Laid(Box<[u32]>),
    /// Too long to lay out: turns are computed one by one.
    Computed,
}

impl Rotation {
    /// The rotation for weights of at least 1.
    pub(crate) fn new(weights: impl ExactSizeIterator<Item = u32>) -> Self {
        let mut weights: Vec<u64> = weights.map(u64::from).collect();
        let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
        for weight in &mut weights {
            *weight /= divisor;
        }
        let turns: u64 = weights.iter().sum();
        let window = turns.div_ceil(weights.iter().copied().min().unwrap_or(1));
        Self { order: Order::new(&weights, turns), window }
    }
}

impl Order {
    /// The order for weights without a common divisor, whose sum is `turns`.
    fn new(weights: &[u64], turns: u64) -> Self {
        if weights.iter().all(|&weight| weight == 1) {
            return Self::Equal;
        }
        if turns > MAX_TURNS || turns * weights.len() as u64 > MAX_WORK {
            return Self::Computed;
        }
        let mut credits = vec![0i64; weights.len()];
        let order = (0..turns).filter_map(|_| {
            let shares = weights.iter().enumerate().map(|(index, &weight)| (index, weight));
            smooth_turn(&mut credits, shares).map(|index| index as u32)
        });
        Self::Laid(order.collect())
    }
}

/// One turn among `shares` (index and weight of each host that takes part); the index chosen, or `None` without hosts.
/// `credits` is by index and belongs to the caller. The first of equally rich hosts is chosen.
pub(crate) fn smooth_turn(credits: &mut [i64], shares: impl Iterator<Item = (usize, u64)>) -> Option<usize> {
    let mut total = 0i64;
    let mut richest: Option<usize> = None;
    for (index, weight) in shares {
        let weight = i64::try_from(weight).unwrap_or(i64::MAX);
        credits[index] += weight;
        total += weight;
        if richest.is_none_or(|best| credits[index] > credits[best]) {
            richest = Some(index);
        }
    }
    let chosen = richest?;
    credits[chosen] -= total;
    Some(chosen)
}

fn greatest_common_divisor(left: u64, right: u64) -> u64 {
    if right == 0 { left } else { greatest_common_divisor(right, left % right) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(weights: &[u32]) -> Order {
        Rotation::new(weights.iter().copied()).order
    }

    #[test]
    fn five_one_one_is_interleaved_as_nginx_does_it() {
        assert_eq!(order(&[5, 1, 1]), Order::Laid([0, 0, 1, 0, 2, 0, 0].into()));
    }

    #[test]
    fn weights_are_reduced_before_they_are_laid_out() {
        assert_eq!(order(&[500, 100, 100]), order(&[5, 1, 1]));
        assert_eq!(order(&[7, 7, 7]), Order::Equal);
        assert_eq!(order(&[1_000_003, 1]), Order::Computed);
        assert_eq!(order(&[]), Order::Equal);
    }
}
