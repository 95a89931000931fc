//! What only the caller of a scrape knows: plain values that are read at that moment.
//!
//! Nothing here is counted by workers; see `metrics.rs` for that.

use std::time::SystemTime;

/// Values handed to [`crate::Metrics::encode_prometheus`].
#[derive(Clone, Debug, Default)]
pub struct ScrapeGauges {
    /// What is known of the configuration.
    pub config: ConfigGauges,
    /// Whether the process takes traffic: `/ready` answers 200.
    pub ready: bool,
    /// One entry per live cluster.
    pub clusters: Vec<ClusterGauges>,
    /// One entry per own certificate in use.
    pub certificates: Vec<CertificateGauges>,
    /// What is known of the process.
    pub process: ProcessGauges,
}

/// State of the configuration.
#[derive(Clone, Debug, Default)]
pub struct ConfigGauges {
    /// Generation of the configuration in use; 0 before the first.
    pub generation: u64,
    /// Loads that took effect, the first one included.
    pub reloads: u64,
    /// Loads that were refused.
    pub reload_failures: u64,
    /// Whether the last load took effect.
    pub last_reload_successful: bool,
    /// When a load last took effect.
    pub last_reload_success: Option<SystemTime>,
}

/// State of one live cluster, summed over its endpoints.
#[derive(Clone, Debug, Default)]
pub struct ClusterGauges {
    /// Name of the cluster.
    pub name: String,
    /// Endpoints.
    pub membership_total: u64,
    /// Endpoints that are healthy.
    pub membership_healthy: u64,
    /// Endpoints that are ejected at this moment.
    pub ejections_active: u64,
    /// Of these, those that could not be connected to.
    pub unreachable: u64,
    /// Ejections there were.
    pub ejections: EjectionTotals,
    /// Active health checks, where there are some.
    pub health_checks: Option<HealthCheckTotals>,
    /// Connections until their limit is reached; `u32::MAX` where there is none, here and below.
    pub remaining_connections: u32,
    /// Requests that may wait beyond those that do.
    pub remaining_pending: u32,
    /// Requests that may be in flight beyond those that are.
    pub remaining_requests: u32,
    /// Retries that may be in flight beyond those that are.
    pub remaining_retries: u32,
    /// Its circuit breakers, where it has some.
    pub breakers: Option<BreakerGauges>,
    /// Its adaptive limit, where it has one.
    pub adaptive: Option<AdaptiveGauges>,
    /// Its last good answers, where some are kept.
    pub last_good: Option<LastGoodGauges>,
    /// Endpoints that are full, where it has a bulkhead.
    pub bulkhead_full: Option<u64>,
    /// Its requests that wait for one answer, where they may.
    pub coalescing: Option<CoalescingGauges>,
}

/// Active health checks of the endpoints of a cluster.
#[derive(Clone, Copy, Debug, Default)]
pub struct HealthCheckTotals {
    /// Checks begun.
    pub attempts: u64,
    /// Checks that found an endpoint well.
    pub successes: u64,
    /// Checks that did not.
    pub failures: u64,
    /// Of these, those without an answer.
    pub network_failures: u64,
    /// Endpoints that checks do not keep out at this moment.
    pub healthy: u64,
}

/// Circuit breakers of a cluster, summed.
#[derive(Clone, Debug, Default)]
pub struct BreakerGauges {
    /// Breakers that are open.
    pub open: u64,
    /// Breakers that are half-open.
    pub half_open: u64,
    /// Times that one opened.
    pub openings: u64,
    /// Requests refused, or that would have been.
    pub refused: u64,
}

/// The adaptive limit of a cluster.
#[derive(Clone, Debug, Default)]
pub struct AdaptiveGauges {
    /// Requests that may be in flight.
    pub limit: u64,
    /// Requests in flight.
    pub in_flight: u64,
    /// Requests refused, or that would have been.
    pub refused: u64,
}

/// The last good answers of a cluster.
#[derive(Clone, Debug, Default)]
pub struct LastGoodGauges {
    /// Answers that are kept.
    pub entries: u64,
    /// Bytes that they take.
    pub bytes: u64,
}

/// Identical requests of a cluster.
#[derive(Clone, Debug, Default)]
pub struct CoalescingGauges {
    /// Requests under way that may be waited for.
    pub keys: u64,
    /// Requests that wait.
    pub waiting: u64,
}

/// Ejections, by what led to them.
#[derive(Clone, Copy, Debug, Default)]
pub struct EjectionTotals {
    /// Errors in a row.
    pub consecutive_5xx: u64,
    /// Gateway errors in a row.
    pub consecutive_gateway_failure: u64,
    /// Local failures in a row.
    pub consecutive_local_origin_failure: u64,
    /// A success rate below that of the others.
    pub success_rate: u64,
    /// The same of local failures.
    pub local_origin_success_rate: u64,
    /// Too large a share of failures.
    pub failure_percentage: u64,
    /// The same of local failures.
    pub local_origin_failure_percentage: u64,
    /// A connection that was refused.
    pub unreachable: u64,
    /// Not carried out because of the maximal share of ejected endpoints, or for another reason.
    pub refused: u64,
}

impl EjectionTotals {
    /// Ejections whatever led to them.
    pub fn all(&self) -> u64 {
        self.consecutive_5xx
            + self.consecutive_gateway_failure
            + self.consecutive_local_origin_failure
            + self.success_rate
            + self.local_origin_success_rate
            + self.failure_percentage
            + self.local_origin_failure_percentage
            + self.unreachable
    }
}

/// An own certificate in use.
#[derive(Clone, Debug)]
pub struct CertificateGauges {
    /// Where it is shown: `listener/index/port name`, or the name of a cluster. Unique together with the serial number.
    pub shown_by: String,
    /// Whose it is.
    pub subject: String,
    /// Serial number in hexadecimal.
    pub serial: String,
    /// When it expires.
    pub expires: SystemTime,
}

/// State of the process; what is `None` is left out.
#[derive(Clone, Debug, Default)]
pub struct ProcessGauges {
    /// When the process started.
    pub start: Option<SystemTime>,
    /// Resident memory in bytes.
    pub resident_bytes: Option<u64>,
    /// Open file descriptors.
    pub open_descriptors: Option<u64>,
    /// Limit of open file descriptors.
    pub max_descriptors: Option<u64>,
}
