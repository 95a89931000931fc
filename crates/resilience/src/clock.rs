//! The one place that reads the clock and rolls dice. The clock is tokio's, so that tests can pause and advance it; it
//! works without a runtime too.

use std::time::Instant;

pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Dice seeded from the thread's own.
pub(crate) fn dice() -> fastrand::Rng {
    fastrand::Rng::new()
}
