//! What a service says of its own load, for balancers that choose by it (Prequal): requests in flight, and how long answers
//! take at that load. It knows no HTTP server: the program answers one path with the header, and may put it into all of its
//! answers.

use std::time::{Duration, Instant};

use meshwright_traffic::LoadMeter;

/// Name of the header that carries [`Load::header`].
pub const LOAD_HEADER: &str = "x-meshwright-load";

/// Path on which gateways ask for the load, with GET: answer at once with status 204 and the header, and do not count it.
pub const LOAD_PATH: &str = "/.well-known/meshwright/load";

/// The load of a service. Share it with an `Arc`.
///
/// ```
/// use meshwright_client::{LOAD_HEADER, LOAD_PATH, Load};
///
/// /// Status, header and body of an answer, whatever the HTTP server has for them.
/// fn answer(load: &Load, path: &str) -> (u16, Option<(&'static str, String)>, &'static str) {
///     if path == LOAD_PATH {
///         return (204, Some((LOAD_HEADER, load.header())), "");
///     }
///     let request = load.begin();
///     // ... the work, with any number of awaits ...
///     request.answered();
///     (200, None, "hello")
/// }
///
/// let load = Load::default();
/// answer(&load, "/");
/// let (_, header, _) = answer(&load, LOAD_PATH);
/// assert!(header.unwrap().1.starts_with("in-flight=0, latency-us="));
/// ```
#[derive(Debug, Default)]
pub struct Load(LoadMeter);

/// A request in flight, until it is dropped.
#[derive(Debug)]
#[must_use = "the request is in flight for as long as this lives"]
pub struct InFlight<'a> {
    load: &'a Load,
    before: u32,
    begun: Instant,
}

impl Load {
    /// A request came.
    pub fn begin(&self) -> InFlight<'_> {
        InFlight { load: self, before: self.0.enter(), begun: Instant::now() }
    }

    /// Requests in flight, and the time that answers take at about that many; zero before the first.
    pub fn read(&self) -> (u32, Duration) {
        self.0.read()
    }

    /// Value of the header.
    pub fn header(&self) -> String {
        let (in_flight, latency) = self.read();
        format!("in-flight={in_flight}, latency-us={}", latency.as_micros())
    }
}

impl InFlight<'_> {
    /// Its answer is ready: the time it took counts.
    pub fn answered(self) {
        self.load.0.answered(self.before, self.begun.elapsed());
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.load.0.leave();
    }
}
