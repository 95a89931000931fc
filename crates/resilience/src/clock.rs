//! The one place that reads the clock: tokio's, so that tests can pause and advance it. Works without a runtime too.

use std::time::Instant;

pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
