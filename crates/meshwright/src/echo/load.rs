//! What the backend says of its own load, for balancers that choose by it: requests in flight and latency. On every answer as
//! a header, and on a path of its own for those that ask without a request. Read next: `docs/balancing.md`.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue};

/// The header: `in-flight=3, latency-us=1500`.
pub(super) const HEADER: HeaderName = HeaderName::from_static("x-meshwright-load");
/// The path that is answered at once with the load.
pub(super) const PATH: &str = "/.well-known/meshwright/load";

/// Latencies that count for the average, roughly.
const MEMORY: u64 = 16;

/// The load of one backend.
#[derive(Debug, Default)]
pub(super) struct Load {
    in_flight: AtomicU32,
    /// Average of the latest latencies, in microseconds; 0 before the first.
    latency: AtomicU64,
}

/// A request in flight.
pub(super) struct InFlight<'a> {
    load: &'a Load,
    begun: Instant,
}

impl Load {
    /// Counts a request until the guard is dropped.
    pub(super) fn begin(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight { load: self, begun: Instant::now() }
    }

    /// Requests in flight and average latency.
    pub(super) fn read(&self) -> (u32, Duration) {
        let latency = self.latency.load(Ordering::Relaxed);
        (self.in_flight.load(Ordering::Relaxed), Duration::from_micros(latency))
    }

    /// The value of the header.
    pub(super) fn header(&self) -> HeaderValue {
        let (in_flight, latency) = self.read();
        let text = format!("in-flight={in_flight}, latency-us={}", latency.as_micros());
        HeaderValue::from_str(&text).expect("digits and letters are a value")
    }
}

impl InFlight<'_> {
    /// The answer is ready: its latency counts.
    pub(super) fn answered(self) {
        let taken = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
        let before = self.load.latency.load(Ordering::Relaxed);
        let average = if before == 0 { taken } else { (before * (MEMORY - 1) + taken) / MEMORY };
        self.load.latency.store(average, Ordering::Relaxed);
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.load.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
