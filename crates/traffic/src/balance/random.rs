//! Weighted random choice. Stateless. Read next: `weighted_draw.rs`.

use super::Candidates;

/// One host at random by weight.
pub(super) fn pick(candidates: &mut Candidates<'_>, rng: &mut fastrand::Rng) -> Option<usize> {
    candidates.draw_first(rng).map(|(index, _)| index)
}
