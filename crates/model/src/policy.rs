//! `DestinationRule` as it was meant: subsets and traffic policies. 0 in a limit counts as unset, as in Istio.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{ClientTlsPolicy, LoadBalancer, Origin, RetryBudget};

/// Istio's `DestinationRule`.
#[derive(Clone, Debug)]
pub struct DestinationRule {
    /// `metadata.name`.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Host or wildcard as written, lower-case.
    pub host: String,
    /// Policy of the whole destination.
    pub traffic_policy: TrafficPolicy,
    /// Named selections of its endpoints.
    pub subsets: Vec<Subset>,
    /// Where the document starts.
    pub origin: Origin,
}

/// A named selection of endpoints by labels.
#[derive(Clone, Debug)]
pub struct Subset {
    /// Name used by routes.
    pub name: String,
    /// All must be equal; empty selects every endpoint.
    pub labels: BTreeMap<String, String>,
    /// Blocks given here replace the rule's blocks whole.
    pub traffic_policy: TrafficPolicy,
    /// Where the entry starts.
    pub origin: Origin,
}

/// `trafficPolicy`. A block that is `None` is inherited or defaulted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrafficPolicy {
    /// Load balancing.
    pub load_balancer: Option<LoadBalancer>,
    /// Limits and timeouts.
    pub connection_pool: Option<ConnectionPool>,
    /// Ejection of failing endpoints.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS to the service; `None` is clear text, as far as no wider policy says otherwise.
    pub tls: Option<ClientTlsPolicy>,
    /// A PROXY header at the start of each connection; a subset inherits it.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Retries as a share of the requests; a subset inherits it.
    pub retry_budget: Option<RetryBudget>,
    /// Per port; replaces the destination-level blocks as a whole: blocks absent here fall back to defaults.
    pub port_level: Vec<PortPolicy>,
}

/// One entry of `portLevelSettings[]`.
#[derive(Clone, Debug, PartialEq)]
pub struct PortPolicy {
    /// Service port.
    pub port: u16,
    /// Load balancing.
    pub load_balancer: Option<LoadBalancer>,
    /// Limits and timeouts.
    pub connection_pool: Option<ConnectionPool>,
    /// Ejection of failing endpoints.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS to the service.
    pub tls: Option<ClientTlsPolicy>,
}

/// `connectionPool`; `None` is unlimited, or the stated default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnectionPool {
    /// Connections to the destination as a whole.
    pub max_connections: Option<u32>,
    /// Time to connect; 10 s when absent.
    pub connect_timeout: Option<Duration>,
    /// Requests that wait for a connection.
    pub max_pending_requests: Option<u32>,
    /// Requests in flight.
    pub max_requests: Option<u32>,
    /// Requests that one connection serves before it is closed; 1 switches keep-alive off.
    pub max_requests_per_connection: Option<u32>,
    /// Retries in flight.
    pub max_retries: Option<u32>,
    /// Time that an unused connection is kept; 1 h when absent, `Some(ZERO)` is for ever.
    pub idle_timeout: Option<Duration>,
    /// TCP keep-alive probes on upstream connections: probes, time, interval; absent parts are the system's.
    pub tcp_keepalive: Option<(Option<u32>, Option<Duration>, Option<Duration>)>,
    /// Age at which a connection is not used for another request.
    pub max_connection_duration: Option<Duration>,
    /// Speak HTTP/2 whatever the service port says (`h2UpgradePolicy: UPGRADE`).
    pub upgrade_to_http2: bool,
    /// Speak what the client speaks, whatever the service port says.
    pub use_client_protocol: bool,
    /// Streams that one HTTP/2 connection carries at once.
    pub max_concurrent_streams: Option<u32>,
    /// HTTP/2 pings on upstream connections: interval, and time for the answer.
    pub http2_keepalive: Option<(Duration, Duration)>,
}

/// Which HTTP is spoken to a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2, with prior knowledge in clear text and by ALPN over TLS.
    Http2,
    /// What the client speaks.
    FollowClient,
}

/// Version of the PROXY header (haproxy.org, proxy-protocol.txt).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyProtocol {
    /// Text.
    Version1,
    /// Binary.
    Version2,
}

/// `outlierDetection`, with the defaults that apply as soon as the block is present.
#[derive(Clone, Debug, PartialEq)]
pub struct OutlierDetection {
    /// 5xx answers in a row, local failures included, until ejection; 0 is off. Default 5.
    pub consecutive_5xx: u32,
    /// 502, 503, 504 in a row, local failures included; 0 is off. Default 0.
    pub consecutive_gateway_errors: u32,
    /// Count local failures (connect, reset, timeout) apart from answers. Default false.
    pub split_local_origin: bool,
    /// Local failures in a row, only with `split_local_origin`. Default 5.
    pub consecutive_local_origin_failures: u32,
    /// Statuses that are errors, sorted; `None` is every 5xx.
    pub error_statuses: Option<Vec<u16>>,
    /// Ejection of endpoints that succeed much less often than the others. Default off.
    pub success_rate: Option<SuccessRateDetection>,
    /// Ejection of endpoints that fail too often. Default off.
    pub failure_percentage: Option<FailurePercentageDetection>,
    /// Time between sweeps that end ejections and compare endpoints. Default 10 s.
    pub interval: Duration,
    /// Ejection lasts this times the number of ejections in a row, capped at the larger of this and the longest.
    /// Default 30 s.
    pub base_ejection_time: Duration,
    /// The longest ejection. Default 300 s.
    pub max_ejection_time: Duration,
    /// Each ejection takes up to this much longer, at random. Default 0.
    pub max_ejection_time_jitter: Duration,
    /// How many of the ejections that a kind of detection asks for are carried out.
    pub enforcing: Enforcing,
    /// Share of endpoints that may be out at once, in percent; one always may. Default 10.
    pub max_ejection_percent: u32,
    /// Below this share of healthy endpoints, in percent, ejection is ignored. Default 0.
    pub min_health_percent: u32,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            consecutive_gateway_errors: 0,
            split_local_origin: false,
            consecutive_local_origin_failures: 5,
            error_statuses: None,
            success_rate: None,
            failure_percentage: None,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejection_time_jitter: Duration::ZERO,
            enforcing: Enforcing::default(),
            max_ejection_percent: 10,
            min_health_percent: 0,
        }
    }
}

/// Shares of ejections that are carried out, by kind of detection, in percent (Envoy's `enforcing_*`). Default 100 each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is the kind of detection of that name")]
pub struct Enforcing {
    pub consecutive_5xx: u8,
    pub consecutive_gateway_failure: u8,
    pub consecutive_local_origin_failure: u8,
    pub success_rate: u8,
    pub local_origin_success_rate: u8,
    pub failure_percentage: u8,
    pub failure_percentage_local_origin: u8,
    pub unreachable: u8,
}

impl Default for Enforcing {
    fn default() -> Self {
        Self {
            consecutive_5xx: 100,
            consecutive_gateway_failure: 100,
            consecutive_local_origin_failure: 100,
            success_rate: 100,
            local_origin_success_rate: 100,
            failure_percentage: 100,
            failure_percentage_local_origin: 100,
            unreachable: 100,
        }
    }
}

/// Success rates are compared with `mean - factor x standard deviation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuccessRateDetection {
    /// Endpoints with enough requests that are needed. Default 5.
    pub minimum_hosts: u32,
    /// Requests in an interval that an endpoint needs. Default 100.
    pub request_volume: u32,
    /// The factor in thousandths. Default 1900.
    pub stdev_factor: u32,
}

impl Default for SuccessRateDetection {
    fn default() -> Self {
        Self { minimum_hosts: 5, request_volume: 100, stdev_factor: 1900 }
    }
}

/// Shares of failures are compared with a fixed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailurePercentageDetection {
    /// The share in percent. Default 85.
    pub threshold: u32,
    /// Endpoints with enough requests that are needed. Default 5.
    pub minimum_hosts: u32,
    /// Requests in an interval that an endpoint needs. Default 50.
    pub request_volume: u32,
}

impl Default for FailurePercentageDetection {
    fn default() -> Self {
        Self { threshold: 85, minimum_hosts: 5, request_volume: 50 }
    }
}
