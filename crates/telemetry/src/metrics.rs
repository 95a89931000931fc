//! Counting: who owns which words, and how label sets come to be.
//!
//! Every worker owns its own blocks of words. It alone writes them (relaxed load and store, no locked instruction, no
//! line shared with another worker); a scrape reads and sums them, so every value it sees is one the worker wrote, and
//! counters never go back. The one lock guards the list of blocks: it is taken when a label set is seen for the first
//! time on a worker and by scrapes, never in the steady state of a request.
//!
//! Cardinality is bounded twice: a cluster has at most [`SERIES_PER_CLUSTER`] combinations of status, gRPC status and flags, what goes
//! beyond is counted in its series `response_code="other"`; all label sets together are at most
//! [`DEFAULT_SERIES_CAP`], what goes beyond is counted in one series whose destination is `overflow`.
//! This file knows no text format; see `prometheus.rs`.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::counters::{ClusterCounter, ClusterGauge, Counter, RefusalReason};
use crate::ending::{Ending, OTHER_STATUS, RequestProtocol};
use crate::histogram::{BYTES_BOUNDS, DURATION_BOUNDS, Histogram, HistogramTotal, add};
use crate::labels::{DestinationLabels, SourceLabels};
use crate::prometheus;
use crate::scrape::ScrapeGauges;

/// How many label sets (a destination with a status and flags; a cluster) are kept apart unless told otherwise.
pub const DEFAULT_SERIES_CAP: usize = 10_000;

/// How many combinations of status, gRPC status and response flags one cluster keeps apart.
pub const SERIES_PER_CLUSTER: usize = 64;

/// Flags of an overflow series.
const OTHER_FLAG: &str = "other";

/// Place of the overflow destination among the destinations.
const OVERFLOW: usize = 0;

/// All metrics of the process. Cloning it shares them.
#[derive(Clone)]
pub struct Metrics {
    shared: Arc<Shared>,
}

struct Shared {
    source: SourceLabels,
    cap: usize,
    registry: Mutex<Registry>,
}

#[derive(Default)]
struct Registry {
    workers: Vec<Arc<WorkerBlock>>,
    destinations: Vec<Destination>,
    index: HashMap<Arc<DestinationLabels>, usize>,
    label_sets: usize,
}

struct Destination {
    labels: Arc<DestinationLabels>,
    rendered: Box<str>,
    blocks: Vec<(usize, Arc<ClusterBlock>)>,
    series: Vec<Series>,
}

struct Series {
    ending: Ending,
    overflow: bool,
    blocks: Vec<(usize, Arc<RequestBlock>)>,
}

/// Words of one worker that belong to no cluster. Aligned so that no other worker's word is on its cache lines.
#[derive(Default)]
#[repr(align(128))]
struct WorkerBlock {
    counters: [AtomicU64; Counter::COUNT],
    refusals: [AtomicU64; RefusalReason::COUNT],
}

/// Words of one worker about one cluster. A gauge's word wraps: a sum over the workers is right even when one lowers
/// what another raised.
#[derive(Default)]
#[repr(align(128))]
struct ClusterBlock {
    counters: [AtomicU64; ClusterCounter::COUNT],
    gauges: [AtomicU64; ClusterGauge::COUNT],
}

/// Words of one worker about one label set. The number of requests is the count of the durations.
#[derive(Default)]
#[repr(align(128))]
struct RequestBlock {
    duration: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
}

impl RequestBlock {
    #[inline]
    fn observe(&self, duration: Duration, request_bytes: u64, response_bytes: u64) {
        let micros = duration.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(duration.subsec_micros()));
        self.duration.observe(&DURATION_BOUNDS, micros);
        self.request_bytes.observe(&BYTES_BOUNDS, request_bytes);
        self.response_bytes.observe(&BYTES_BOUNDS, response_bytes);
    }
}

impl Metrics {
    /// No series yet; the source is the gateway ([`SourceLabels::default`]), the cap [`DEFAULT_SERIES_CAP`].
    pub fn new() -> Self {
        Self::with(SourceLabels::default(), DEFAULT_SERIES_CAP)
    }

    /// The same for another workload, and with another cap on label sets (at least 1).
    pub fn with(source: SourceLabels, series_cap: usize) -> Self {
        let mut registry = Registry::default();
        registry.destinations.push(Destination::new(&source, Arc::new(DestinationLabels::overflow())));
        Self { shared: Arc::new(Shared { source, cap: series_cap.max(1), registry: Mutex::new(registry) }) }
    }

    /// The counters of one more worker. Call it on the worker's own thread; blocks are never taken away again, so that
    /// counters stay monotone after a worker has ended.
    pub fn worker(&self) -> WorkerMetrics {
        let block = Arc::new(WorkerBlock::default());
        let mut registry = self.registry();
        let worker = registry.workers.len();
        registry.workers.push(Arc::clone(&block));
        drop(registry);
        WorkerMetrics { metrics: self.clone(), worker, block, clusters: RefCell::default() }
    }

    /// Appends everything in the Prometheus text format (version 0.0.4): one family after the other, each with one
    /// HELP and one TYPE line. The sums are taken under the lock, the text is written after it.
    pub fn encode_prometheus(&self, gauges: &ScrapeGauges, out: &mut String) {
        prometheus::encode(&self.totals(), gauges, out);
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        // A panic while the lock is held leaves at worst a block that is not listed.
        self.shared.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn totals(&self) -> Totals {
        let registry = self.registry();
        let mut totals = Totals::default();
        for block in &registry.workers {
            // Closed before accepted: a connection that ends in between must not make the difference negative.
            for (counter, total) in totals.counters.iter_mut().enumerate().rev() {
                *total = total.wrapping_add(block.counters[counter].load(Ordering::Relaxed));
            }
            for (reason, total) in totals.refusals.iter_mut().enumerate() {
                *total = total.wrapping_add(block.refusals[reason].load(Ordering::Relaxed));
            }
        }
        totals.destinations = registry.destinations.iter().map(Destination::total).collect();
        totals
    }

    /// The place of these labels, made when it is new; the overflow destination when the cap is reached.
    fn destination(&self, labels: &Arc<DestinationLabels>, worker: usize) -> (usize, Arc<ClusterBlock>) {
        let mut registry = self.registry();
        let place = match registry.index.get(labels) {
            Some(place) => *place,
            None if registry.label_sets >= self.shared.cap => OVERFLOW,
            None => {
                let place = registry.destinations.len();
                registry.destinations.push(Destination::new(&self.shared.source, Arc::clone(labels)));
                registry.index.insert(Arc::clone(labels), place);
                registry.label_sets += 1;
                place
            }
        };
        (place, block_of(&mut registry.destinations[place].blocks, worker))
    }

    /// This worker's block for a label set, made when it is new; that of an overflow series when a cap is reached.
    fn series(&self, destination: usize, ending: Ending, worker: usize) -> Arc<RequestBlock> {
        let mut registry = self.registry();
        let known = registry.destinations[destination].series.iter().position(|series| series.is(ending));
        if let Some(known) = known {
            return block_of(&mut registry.destinations[destination].series[known].blocks, worker);
        }
        let full = registry.destinations[destination].series.len() >= SERIES_PER_CLUSTER;
        if destination == OVERFLOW || registry.label_sets >= self.shared.cap {
            return registry.destinations[OVERFLOW].rest(worker);
        }
        if full {
            return registry.destinations[destination].rest(worker);
        }
        registry.label_sets += 1;
        let mut series = Series { ending, overflow: false, blocks: Vec::new() };
        let block = block_of(&mut series.blocks, worker);
        registry.destinations[destination].series.push(series);
        block
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registry = self.registry();
        f.debug_struct("Metrics")
            .field("workers", &registry.workers.len())
            .field("destinations", &registry.destinations.len())
            .field("label_sets", &registry.label_sets)
            .finish()
    }
}

/// This worker's block in a list of blocks.
fn block_of<T: Default>(blocks: &mut Vec<(usize, Arc<T>)>, worker: usize) -> Arc<T> {
    match blocks.iter().find(|(owner, _)| *owner == worker) {
        Some((_, block)) => Arc::clone(block),
        None => {
            let block = Arc::new(T::default());
            blocks.push((worker, Arc::clone(&block)));
            block
        }
    }
}

impl Destination {
    fn new(source: &SourceLabels, labels: Arc<DestinationLabels>) -> Self {
        let rendered = prometheus::render_labels(source, &labels).into_boxed_str();
        Self { labels, rendered, blocks: Vec::new(), series: Vec::new() }
    }

    /// This worker's block of the series that takes what has no series of its own.
    fn rest(&mut self, worker: usize) -> Arc<RequestBlock> {
        let place = self.series.iter().position(|series| series.overflow).unwrap_or_else(|| {
            self.series.push(Series {
                ending: Ending::http(OTHER_STATUS, OTHER_FLAG),
                overflow: true,
                blocks: Vec::new(),
            });
            self.series.len() - 1
        });
        block_of(&mut self.series[place].blocks, worker)
    }

    fn total(&self) -> DestinationTotal {
        let mut total = DestinationTotal {
            labels: Arc::clone(&self.labels),
            rendered: self.rendered.clone(),
            counters: [0; ClusterCounter::COUNT],
            gauges: [0; ClusterGauge::COUNT],
            used: !self.blocks.is_empty(),
            series: self.series.iter().map(Series::total).collect(),
        };
        for (_, block) in &self.blocks {
            for (sum, word) in total.counters.iter_mut().zip(&block.counters) {
                *sum = sum.wrapping_add(word.load(Ordering::Relaxed));
            }
            for (sum, word) in total.gauges.iter_mut().zip(&block.gauges) {
                *sum = sum.wrapping_add(word.load(Ordering::Relaxed));
            }
        }
        total
    }
}

impl Series {
    fn is(&self, ending: Ending) -> bool {
        !self.overflow && self.ending == ending
    }

    fn total(&self) -> SeriesTotal {
        let mut total = SeriesTotal {
            status: (self.ending.status != OTHER_STATUS).then_some(self.ending.status),
            protocol: self.ending.protocol,
            flag: self.ending.flag,
            overflow: self.overflow,
            duration: HistogramTotal::default(),
            request_bytes: HistogramTotal::default(),
            response_bytes: HistogramTotal::default(),
        };
        for (_, block) in &self.blocks {
            block.duration.add_to(&mut total.duration);
            block.request_bytes.add_to(&mut total.request_bytes);
            block.response_bytes.add_to(&mut total.response_bytes);
        }
        total
    }
}

/// Plain sums of everything, as of one scrape.
#[derive(Default)]
pub(crate) struct Totals {
    pub(crate) counters: [u64; Counter::COUNT],
    pub(crate) refusals: [u64; RefusalReason::COUNT],
    pub(crate) destinations: Vec<DestinationTotal>,
}

/// Sums of one destination.
pub(crate) struct DestinationTotal {
    pub(crate) labels: Arc<DestinationLabels>,
    /// Labels from `reporter` to `destination_cluster`, as written.
    pub(crate) rendered: Box<str>,
    pub(crate) counters: [u64; ClusterCounter::COUNT],
    /// Wrapped sums; read them as signed.
    pub(crate) gauges: [u64; ClusterGauge::COUNT],
    /// Some worker has asked for it.
    pub(crate) used: bool,
    pub(crate) series: Vec<SeriesTotal>,
}

/// Sums of one label set.
pub(crate) struct SeriesTotal {
    /// `None` is `other`.
    pub(crate) status: Option<u16>,
    pub(crate) protocol: RequestProtocol,
    pub(crate) flag: &'static str,
    pub(crate) overflow: bool,
    pub(crate) duration: HistogramTotal,
    pub(crate) request_bytes: HistogramTotal,
    pub(crate) response_bytes: HistogramTotal,
}

/// The counters of one worker. It stays on the thread that made it.
pub struct WorkerMetrics {
    metrics: Metrics,
    worker: usize,
    block: Arc<WorkerBlock>,
    clusters: RefCell<HashMap<Arc<DestinationLabels>, Rc<ClusterMetrics>>>,
}

impl WorkerMetrics {
    /// Counts one.
    #[inline]
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Counts several at once (bytes).
    #[inline]
    pub fn add(&self, counter: Counter, amount: u64) {
        add(&self.block.counters[counter.index()], amount);
    }

    /// Counts a refusal.
    #[inline]
    pub fn refuse(&self, reason: RefusalReason) {
        add(&self.block.refusals[reason.index()], 1);
    }

    /// The counters of one cluster on this worker. Equal labels give the same counters, whichever configuration they
    /// come from; ask once per configuration and keep the answer. Beyond the cap on label sets the answer counts into
    /// the overflow series.
    pub fn cluster(&self, labels: &Arc<DestinationLabels>) -> Rc<ClusterMetrics> {
        if let Some(known) = self.clusters.borrow().get(labels) {
            return Rc::clone(known);
        }
        let (destination, block) = self.metrics.destination(labels, self.worker);
        let cluster = Rc::new(ClusterMetrics {
            metrics: self.metrics.clone(),
            worker: self.worker,
            destination,
            block,
            series: RefCell::default(),
            rest: OnceCell::new(),
        });
        if destination != OVERFLOW {
            self.clusters.borrow_mut().insert(Arc::clone(labels), Rc::clone(&cluster));
        }
        cluster
    }

    /// The counters for requests that reach no cluster because nothing matched them.
    pub fn unrouted(&self) -> Rc<ClusterMetrics> {
        self.cluster(&Arc::new(DestinationLabels::unknown()))
    }
}

impl fmt::Debug for WorkerMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerMetrics").field("worker", &self.worker).finish_non_exhaustive()
    }
}

/// The counters of one cluster on one worker.
pub struct ClusterMetrics {
    metrics: Metrics,
    worker: usize,
    destination: usize,
    block: Arc<ClusterBlock>,
    series: RefCell<Vec<LocalSeries>>,
    rest: OnceCell<Arc<RequestBlock>>,
}

struct LocalSeries {
    ending: Ending,
    block: Arc<RequestBlock>,
}

impl ClusterMetrics {
    /// Counts one finished request: `istio_requests_total` and the three histograms. Sizes are those of the bodies. The
    /// duration counts in whole microseconds.
    #[inline]
    pub fn record(&self, ending: Ending, duration: Duration, request_bytes: u64, response_bytes: u64) {
        let ending = ending.bounded();
        let series = self.series.borrow();
        match series.iter().find(|series| series.ending == ending) {
            Some(series) => series.block.observe(duration, request_bytes, response_bytes),
            None => {
                drop(series);
                self.first_of_series(ending).observe(duration, request_bytes, response_bytes);
            }
        }
    }

    #[cold]
    fn first_of_series(&self, ending: Ending) -> Arc<RequestBlock> {
        let mut series = self.series.borrow_mut();
        if series.len() >= SERIES_PER_CLUSTER {
            let rest = self.rest.get_or_init(|| {
                let mut registry = self.metrics.registry();
                registry.destinations[self.destination].rest(self.worker)
            });
            return Arc::clone(rest);
        }
        let shared = if ending.flag.is_empty() { Ending { flag: "-", ..ending } } else { ending };
        let block = self.metrics.series(self.destination, shared, self.worker);
        series.push(LocalSeries { ending, block: Arc::clone(&block) });
        block
    }

    /// Counts many.
    pub fn add(&self, counter: ClusterCounter, count: u64) {
        add(&self.block.counters[counter.index()], count);
    }

    /// Counts one.
    #[inline]
    pub fn count(&self, counter: ClusterCounter) {
        add(&self.block.counters[counter.index()], 1);
    }

    /// One more of what the gauge shows.
    #[inline]
    pub fn raise(&self, gauge: ClusterGauge) {
        add(&self.block.gauges[gauge.index()], 1);
    }

    /// One less of what the gauge shows.
    #[inline]
    pub fn lower(&self, gauge: ClusterGauge) {
        add(&self.block.gauges[gauge.index()], u64::MAX);
    }
}

impl fmt::Debug for ClusterMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterMetrics")
            .field("worker", &self.worker)
            .field("destination", &self.destination)
            .finish_non_exhaustive()
    }
}
