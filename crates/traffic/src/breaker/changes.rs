//! Changes that a configuration makes to a preset. Plain values. Read next: `policy.rs`.

use std::time::Duration;

use super::{BreakerPolicy, OpenTime, Recovery, SlowCalls, Window};

/// Times the open time may grow to where it grows and nothing bounds it.
const LARGEST_GROWTH: u32 = 10;

/// Fields of a [`BreakerPolicy`] that differ from a preset; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BreakerChanges {
    /// Window of the rates.
    pub window: Option<Window>,
    /// Failures in a row that trip; 0 is off.
    pub consecutive_failures: Option<u32>,
    /// Share of failed calls that trips.
    pub failure_percent: Option<u32>,
    /// Share of slow calls that trips.
    pub slow_calls: Option<SlowCalls>,
    /// Calls before a rate is looked at.
    pub minimum_calls: Option<u32>,
    /// Calls let through while half-open.
    pub probes: Option<u32>,
    /// What they must show.
    pub recovery: Option<Recovery>,
    /// Longest time half-open; zero is without end.
    pub max_half_open_time: Option<Duration>,
    /// Time that it stays open the first time.
    pub open_time: Option<Duration>,
    /// Each further open time in percent of the one before; 100 is always the same.
    pub open_growth_percent: Option<u32>,
    /// Longest open time. Ten times the first where it grows and this is not given.
    pub max_open_time: Option<Duration>,
    /// Share around the open time from which it is drawn, in percent.
    pub open_jitter_percent: Option<u32>,
}

impl BreakerPolicy {
    /// This policy with the changes.
    #[must_use]
    pub fn with(mut self, changes: &BreakerChanges) -> Self {
        fn set<T: Clone>(place: &mut T, change: &Option<T>) {
            if let Some(change) = change {
                *place = change.clone();
            }
        }
        set(&mut self.window, &changes.window);
        set(&mut self.consecutive_failures, &changes.consecutive_failures);
        set(&mut self.minimum_calls, &changes.minimum_calls);
        set(&mut self.probes, &changes.probes);
        set(&mut self.recovery, &changes.recovery);
        self.failure_percent = changes.failure_percent.or(self.failure_percent);
        self.slow_calls = changes.slow_calls.or(self.slow_calls);
        self.max_half_open_time = changes.max_half_open_time.or(self.max_half_open_time);
        self.open_time = open_time(self.open_time, changes);
        self
    }
}

fn open_time(before: OpenTime, changes: &BreakerChanges) -> OpenTime {
    let share = |percent: u32| f64::from(percent) / 100.0;
    let base = changes.open_time.unwrap_or(before.base);
    let multiplier = changes.open_growth_percent.map_or(before.multiplier, share);
    let max =
        changes.max_open_time.unwrap_or(if multiplier > 1.0 { base.saturating_mul(LARGEST_GROWTH) } else { base });
    OpenTime { base, multiplier, max, jitter: changes.open_jitter_percent.map_or(before.jitter, share) }
}
