//! What the mesh tells about itself: counters, histograms, the request record and their text encoders.
//!
//! Counting is per worker and lock-free ([`WorkerMetrics`], [`ClusterMetrics`]); a scrape sums what the workers wrote
//! ([`Metrics::encode_prometheus`]). One finished request is one [`RequestRecord`], written as a line by
//! [`AccessLogEncoder`]. This crate reads no clock and opens no file or socket: times and random numbers are arguments,
//! and where the text goes is the caller's business.
//! Read next: `names.rs` (every metric there is), then `metrics.rs` (how counting works).

mod access_log;
mod counters;
mod ending;
mod escape;
mod histogram;
mod labels;
mod metrics;
mod names;
mod prometheus;
mod record;
mod request_id;
mod scrape;

pub use access_log::{AccessLogEncoder, AccessLogFormat, encode_access_log};
pub use counters::{ClusterCounter, ClusterGauge, Counter, RefusalReason};
pub use ending::{Ending, RequestProtocol};
pub use escape::Printable;
pub use histogram::BUCKET_LABELS;
pub use labels::{DestinationLabels, SourceLabels};
pub use metrics::{ClusterMetrics, DEFAULT_SERIES_CAP, Metrics, SERIES_PER_CLUSTER, WorkerMetrics};
pub use record::RequestRecord;
pub use request_id::request_id;
pub use scrape::{
    AdaptiveGauges, BreakerGauges, CertificateGauges, ClusterGauges, CoalescingGauges, ConfigGauges, EjectionTotals,
    HealthCheckTotals, LastGoodGauges, ProcessGauges, ScrapeGauges,
};

/// Version of this build, as `istio_build` and the admin pages report it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
