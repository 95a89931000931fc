//! What the backend says of its own load, for balancers that choose by it: requests in flight and latency. On every answer as
//! a header, and on a path of its own for those that ask without a request. Read next: `docs/balancing.md`.

use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue};
use meshwright_traffic::LoadMeter;

/// The header: `in-flight=3, latency-us=1500`.
pub(super) const HEADER: HeaderName = HeaderName::from_static("x-meshwright-load");
/// The path that is answered at once with the load.
pub(super) const PATH: &str = "/.well-known/meshwright/load";

/// The load of one backend.
#[derive(Debug, Default)]
pub(super) struct Load(LoadMeter);

/// A request in flight.
pub(super) struct InFlight<'a> {
    meter: &'a LoadMeter,
    before: u32,
    begun: Instant,
}

impl Load {
    /// Counts a request until the guard is dropped.
    pub(super) fn begin(&self) -> InFlight<'_> {
        InFlight { meter: &self.0, before: self.0.enter(), begun: Instant::now() }
    }

    /// Requests in flight, and the latency at that load.
    pub(super) fn read(&self) -> (u32, Duration) {
        self.0.read()
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
        self.meter.answered(self.before, self.begun.elapsed());
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.meter.leave();
    }
}
