//! How a server measures what it says of its own load: requests in flight, and how long an answer takes at that load. Knows
//! no clock and no wire format. Read next: `report.rs`, the other end.

use std::time::Duration;

use crate::sync::{AtomicU32, Ordering};

/// Numbers of requests in flight that are told apart; more count as the last.
const LOADS: usize = 64;
/// Latencies that count for an average, roughly.
const MEMORY: u64 = 16;

/// The load of one server, as Prequal's servers keep it (NSDI 2024, section 4): each latency is remembered with the number of
/// requests that were in flight when its request came, and what is said is the latency near the present number. A server
/// that just got busy says so before its slow answers are out.
#[derive(Debug)]
pub struct LoadMeter {
    in_flight: AtomicU32,
    /// Average latency in microseconds by requests in flight at arrival; 0 before the first.
    latency: [AtomicU32; LOADS],
}

impl Default for LoadMeter {
    fn default() -> Self {
        Self { in_flight: AtomicU32::new(0), latency: std::array::from_fn(|_| AtomicU32::new(0)) }
    }
}

impl LoadMeter {
    /// A request came. Returns how many were there before it; whoever calls this owes one [`LoadMeter::leave`].
    pub fn enter(&self) -> u32 {
        self.in_flight.fetch_add(1, Ordering::Relaxed)
    }

    /// A request is gone, answered or not.
    pub fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// A request that came when `before` others were there was answered after so long.
    pub fn answered(&self, before: u32, latency: Duration) {
        let cell = &self.latency[place(before)];
        let taken = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).clamp(1, u64::from(u32::MAX));
        let old = u64::from(cell.load(Ordering::Relaxed));
        let average = if old == 0 { taken } else { (old * (MEMORY - 1) + taken) / MEMORY };
        // At most the larger of two numbers of 32 bits, and not 0, which means none.
        cell.store(average.max(1) as u32, Ordering::Relaxed);
    }

    /// Requests in flight, and the latency at that load or the nearest one that is known; zero before the first answer.
    pub fn read(&self) -> (u32, Duration) {
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        let known = |(at, cell): (usize, &AtomicU32)| {
            let micros = cell.load(Ordering::Relaxed);
            (micros > 0).then(|| (at.abs_diff(place(in_flight)), micros))
        };
        let nearest = self.latency.iter().enumerate().filter_map(known).min_by_key(|(distance, _)| *distance);
        (in_flight, Duration::from_micros(nearest.map_or(0, |(_, micros)| u64::from(micros))))
    }
}

fn place(in_flight: u32) -> usize {
    (in_flight as usize).min(LOADS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latency_is_that_at_the_present_load() {
        let meter = LoadMeter::default();
        assert_eq!(meter.read(), (0, Duration::ZERO));
        meter.answered(0, Duration::from_millis(10));
        meter.answered(8, Duration::from_millis(90));
        assert_eq!(meter.read().1, Duration::from_millis(10));
        (0..7).for_each(|_| {
            meter.enter();
        });
        assert_eq!(meter.read(), (7, Duration::from_millis(90)));
        (0..5).for_each(|_| meter.leave());
        assert_eq!(meter.read(), (2, Duration::from_millis(10)));
        meter.answered(1_000, Duration::MAX);
        meter.answered(0, Duration::from_millis(26));
        (0..2).for_each(|_| meter.leave());
        assert_eq!(meter.read(), (0, Duration::from_millis(11)));
    }
}
