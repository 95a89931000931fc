//! Every metric there is: name, type and help text.
//!
//! Names of the `istio_*` family and their labels are Istio's, those of `envoy_cluster_*` are Envoy's, so that existing
//! dashboards work; the rest is ours. How they are counted is in `metrics.rs`, how they are written in `prometheus.rs`.

use crate::counters::{ClusterCounter, ClusterGauge, Counter, RefusalReason};

/// Type of a metric family in the Prometheus text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only goes up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets, sum and count.
    Histogram,
}

/// One metric family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) help: &'static str,
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Counter, help }
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help }
}

const fn histogram(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Histogram, help }
}

pub(crate) const REQUESTS: Family = counter("istio_requests_total", "Requests handled.");
pub(crate) const REQUEST_DURATION: Family =
    histogram("istio_request_duration_milliseconds", "Duration of requests in milliseconds.");
pub(crate) const REQUEST_BYTES: Family = histogram("istio_request_bytes", "Body bytes of requests.");
pub(crate) const RESPONSE_BYTES: Family = histogram("istio_response_bytes", "Body bytes of responses.");
pub(crate) const BUILD: Family = gauge("istio_build", "Always 1; the labels say which build runs.");

pub(crate) const CONNECTIONS_ACTIVE: Family =
    gauge("meshwright_downstream_connections_active", "Downstream connections that are open.");
pub(crate) const REFUSALS: Family =
    counter("meshwright_refusals_total", "Connections and requests refused by a limit or rule, by reason.");
pub(crate) const SERIES_DROPPED: Family = counter(
    "meshwright_metrics_series_dropped_total",
    "Requests counted in an overflow series because the cap on label sets was reached.",
);
pub(crate) const CONFIG_GENERATION: Family =
    gauge("meshwright_config_generation", "Generation of the configuration in use.");
pub(crate) const CONFIG_RELOADS: Family =
    counter("meshwright_config_reloads_total", "Configuration loads that took effect.");
pub(crate) const CONFIG_RELOAD_FAILURES: Family =
    counter("meshwright_config_reload_failures_total", "Configuration loads that were refused.");
pub(crate) const CONFIG_LAST_RELOAD_SUCCESSFUL: Family = gauge(
    "meshwright_config_last_reload_successful",
    "1 when the last configuration load took effect, 0 when it was refused.",
);
pub(crate) const CONFIG_LAST_RELOAD_SUCCESS: Family = gauge(
    "meshwright_config_last_reload_success_timestamp_seconds",
    "Unix time at which a configuration load last took effect.",
);
pub(crate) const CERTIFICATE_EXPIRATION: Family = gauge(
    "meshwright_certificate_expiration_timestamp_seconds",
    "Unix time at which an own certificate in use expires.",
);
pub(crate) const READY: Family = gauge("meshwright_ready", "1 while the process takes traffic.");

pub(crate) const PROCESS_START: Family = gauge("process_start_time_seconds", "Unix time at which the process started.");
pub(crate) const PROCESS_RESIDENT: Family = gauge("process_resident_memory_bytes", "Resident memory in bytes.");
pub(crate) const PROCESS_OPEN_FDS: Family = gauge("process_open_fds", "Open file descriptors.");
pub(crate) const PROCESS_MAX_FDS: Family = gauge("process_max_fds", "Limit of open file descriptors.");

pub(crate) const MEMBERSHIP_TOTAL: Family = gauge("envoy_cluster_membership_total", "Endpoints of the cluster.");
pub(crate) const MEMBERSHIP_HEALTHY: Family =
    gauge("envoy_cluster_membership_healthy", "Endpoints of the cluster that are healthy.");
pub(crate) const HEALTH_CHECK_ATTEMPTS: Family =
    counter("envoy_cluster_health_check_attempt", "Active health checks of endpoints.");
pub(crate) const HEALTH_CHECK_SUCCESSES: Family =
    counter("envoy_cluster_health_check_success", "Active health checks that found the endpoint well.");
pub(crate) const HEALTH_CHECK_FAILURES: Family =
    counter("envoy_cluster_health_check_failure", "Active health checks that did not find the endpoint well.");
pub(crate) const HEALTH_CHECK_NETWORK_FAILURES: Family =
    counter("envoy_cluster_health_check_network_failure", "Active health checks without an answer.");
pub(crate) const HEALTH_CHECK_HEALTHY: Family =
    gauge("envoy_cluster_health_check_healthy", "Endpoints that active health checks do not keep out.");
pub(crate) const EJECTIONS_ACTIVE: Family =
    gauge("envoy_cluster_outlier_detection_ejections_active", "Endpoints that are ejected at this moment.");
pub(crate) const EJECTIONS_TOTAL: Family =
    counter("envoy_cluster_outlier_detection_ejections_enforced_total", "Ejections of endpoints.");
pub(crate) const EJECTIONS_OVERFLOW: Family = counter(
    "envoy_cluster_outlier_detection_ejections_overflow",
    "Ejections not carried out: beyond the maximal share, of the last endpoint, or not enforced.",
);
pub(crate) const EJECTIONS_CONSECUTIVE_5XX: Family =
    counter("envoy_cluster_outlier_detection_ejections_enforced_consecutive_5xx", "Ejections after errors in a row.");
pub(crate) const EJECTIONS_CONSECUTIVE_GATEWAY: Family = counter(
    "envoy_cluster_outlier_detection_ejections_enforced_consecutive_gateway_failure",
    "Ejections after gateway errors in a row.",
);
pub(crate) const EJECTIONS_CONSECUTIVE_LOCAL: Family = counter(
    "envoy_cluster_outlier_detection_ejections_enforced_consecutive_local_origin_failure",
    "Ejections after local failures in a row.",
);
pub(crate) const EJECTIONS_SUCCESS_RATE: Family = counter(
    "envoy_cluster_outlier_detection_ejections_enforced_success_rate",
    "Ejections of endpoints that succeeded less often than the others.",
);
pub(crate) const EJECTIONS_LOCAL_SUCCESS_RATE: Family = counter(
    "envoy_cluster_outlier_detection_ejections_enforced_local_origin_success_rate",
    "Ejections of endpoints that were reached less often than the others.",
);
pub(crate) const EJECTIONS_FAILURE_PERCENTAGE: Family = counter(
    "envoy_cluster_outlier_detection_ejections_enforced_failure_percentage",
    "Ejections of endpoints that failed too often.",
);
pub(crate) const EJECTIONS_LOCAL_FAILURE_PERCENTAGE: Family = counter(
    "envoy_cluster_outlier_detection_ejections_enforced_local_origin_failure_percentage",
    "Ejections of endpoints that were not reached too often.",
);
pub(crate) const UNREACHABLE_EJECTIONS: Family =
    counter("meshwright_cluster_unreachable_ejections_total", "Ejections of endpoints that could not be connected to.");
pub(crate) const UNREACHABLE_ACTIVE: Family = gauge(
    "meshwright_cluster_unreachable_endpoints",
    "Endpoints that are out at this moment because they could not be connected to.",
);
pub(crate) const CX_OPEN: Family =
    gauge("envoy_cluster_circuit_breakers_default_cx_open", "1 while the connection limit is reached.");
pub(crate) const PENDING_OPEN: Family = gauge(
    "envoy_cluster_circuit_breakers_default_rq_pending_open",
    "1 while the limit of pending requests is reached.",
);
pub(crate) const RQ_OPEN: Family =
    gauge("envoy_cluster_circuit_breakers_default_rq_open", "1 while the request limit is reached.");
pub(crate) const RETRY_OPEN: Family =
    gauge("envoy_cluster_circuit_breakers_default_rq_retry_open", "1 while the retry limit is reached.");
pub(crate) const REMAINING_CX: Family = gauge(
    "envoy_cluster_circuit_breakers_default_remaining_cx",
    "Connections until the limit; 4294967295 where there is none.",
);
pub(crate) const REMAINING_PENDING: Family = gauge(
    "envoy_cluster_circuit_breakers_default_remaining_pending",
    "Pending requests until the limit; 4294967295 where there is none.",
);
pub(crate) const REMAINING_RQ: Family = gauge(
    "envoy_cluster_circuit_breakers_default_remaining_rq",
    "Requests until the limit; 4294967295 where there is none.",
);
pub(crate) const REMAINING_RETRIES: Family = gauge(
    "envoy_cluster_circuit_breakers_default_remaining_retries",
    "Retries until the limit or the budget's; 4294967295 where there is none.",
);

pub(crate) const BREAKERS_OPEN: Family =
    gauge("meshwright_cluster_circuit_breakers_open", "Circuit breakers of the cluster that are open.");
pub(crate) const BREAKERS_HALF_OPEN: Family =
    gauge("meshwright_cluster_circuit_breakers_half_open", "Circuit breakers of the cluster that are half-open.");
pub(crate) const BREAKER_OPENINGS: Family =
    counter("meshwright_cluster_circuit_breaker_openings_total", "Times that a circuit breaker opened.");
pub(crate) const BREAKER_REFUSED: Family = counter(
    "meshwright_cluster_circuit_breaker_refused_total",
    "Tries refused by a circuit breaker, or that it would have refused where it observes.",
);
pub(crate) const ADAPTIVE_LIMIT: Family =
    gauge("meshwright_cluster_adaptive_concurrency_limit", "Requests that the service bears at this moment.");
pub(crate) const ADAPTIVE_IN_FLIGHT: Family =
    gauge("meshwright_cluster_adaptive_concurrency_in_flight", "Requests that wait for the head of their answer.");
pub(crate) const ADAPTIVE_REFUSED: Family = counter(
    "meshwright_cluster_adaptive_concurrency_refused_total",
    "Tries refused by the adaptive limit, or that it would have refused where it observes.",
);
pub(crate) const LAST_GOOD_ENTRIES: Family =
    gauge("meshwright_cluster_fallback_last_good_entries", "Answers that are kept to stand in for failures.");
pub(crate) const LAST_GOOD_BYTES: Family = gauge(
    "meshwright_cluster_fallback_last_good_bytes",
    "Bytes of the answers that are kept to stand in for failures, with heads and keys.",
);
pub(crate) const COALESCING_KEYS: Family =
    gauge("meshwright_cluster_coalescing_keys", "Requests under way that identical ones can wait for.");
pub(crate) const COALESCING_WAITING: Family =
    gauge("meshwright_cluster_coalescing_waiting", "Requests that wait for the answer of an identical one.");

pub(crate) const BULKHEAD_FULL: Family = gauge(
    "meshwright_cluster_bulkhead_full_endpoints",
    "Endpoints that have as many requests in flight as the bulkhead allows.",
);
const COALESCING_LEADERS: Family = counter(
    "meshwright_cluster_coalescing_leaders_total",
    "Requests sent to the service that identical ones could wait for.",
);
const COALESCING_FOLLOWERS: Family =
    counter("meshwright_cluster_coalescing_followers_total", "Requests answered with the answer of an identical one.");
const COALESCING_RELEASED: Family = counter(
    "meshwright_cluster_coalescing_released_total",
    "Requests that waited for an identical one in vain and were sent themselves.",
);
const COALESCING_OVERFLOW: Family = counter(
    "meshwright_cluster_coalescing_overflow_total",
    "Requests sent alone because too many were waited for, or waited.",
);
const FALLBACK_DESTINATION: Family = counter(
    "meshwright_cluster_fallback_destination_total",
    "Requests sent to the fallback destination because the service had no good answer.",
);
const FALLBACK_LAST_GOOD: Family = counter(
    "meshwright_cluster_fallback_last_good_total",
    "Requests answered with the last good answer because the service had none.",
);
const FALLBACK_RESPONSE: Family = counter(
    "meshwright_cluster_fallback_response_total",
    "Requests answered with the fallback response because the service had no good answer.",
);

/// Family of a worker's counter.
pub(crate) const fn of_counter(which: Counter) -> Family {
    match which {
        Counter::DownstreamConnectionsAccepted => {
            counter("meshwright_downstream_connections_accepted_total", "Downstream connections accepted.")
        }
        Counter::DownstreamConnectionsClosed => {
            counter("meshwright_downstream_connections_closed_total", "Downstream connections that ended.")
        }
        Counter::DownstreamConnectionsForced => counter(
            "meshwright_downstream_connections_forced_total",
            "Downstream connections in use that were cut when the drain time was over.",
        ),
        Counter::DownstreamRequests => {
            counter("meshwright_downstream_requests_total", "Request heads read, malformed ones included.")
        }
        Counter::DownstreamUpgrades => {
            counter("meshwright_downstream_upgrades_total", "Connections that changed their protocol.")
        }
        Counter::DownstreamBytesReceived => {
            counter("meshwright_downstream_received_bytes_total", "Bytes read from downstream connections.")
        }
        Counter::DownstreamBytesSent => {
            counter("meshwright_downstream_sent_bytes_total", "Bytes written to downstream connections.")
        }
        Counter::AcceptErrors => counter("meshwright_accept_errors_total", "Failures to accept a connection."),
        Counter::AccessLogLinesDropped => counter(
            "meshwright_access_log_lines_dropped_total",
            "Access log lines lost because their sink could not keep up.",
        ),
    }
}

/// Family of a cluster's counter.
pub(crate) const fn of_cluster_counter(which: ClusterCounter) -> Family {
    match which {
        ClusterCounter::UpstreamCxTotal => {
            counter("envoy_cluster_upstream_cx_total", "Connection attempts to endpoints.")
        }
        ClusterCounter::UpstreamCxConnectFail => {
            counter("envoy_cluster_upstream_cx_connect_fail", "Connection attempts that failed or timed out.")
        }
        ClusterCounter::UpstreamCxOverflow => {
            counter("envoy_cluster_upstream_cx_overflow", "Times the connection limit stood in the way.")
        }
        ClusterCounter::UpstreamCxDestroy => {
            counter("envoy_cluster_upstream_cx_destroy", "Connections to endpoints that ended.")
        }
        ClusterCounter::UpstreamCxRxBytes => {
            counter("envoy_cluster_upstream_cx_rx_bytes_total", "Bytes of TCP connections, received from endpoints.")
        }
        ClusterCounter::UpstreamCxTxBytes => {
            counter("envoy_cluster_upstream_cx_tx_bytes_total", "Bytes of TCP connections, sent to endpoints.")
        }
        ClusterCounter::UpstreamRqTotal => {
            counter("envoy_cluster_upstream_rq_total", "Requests handed to endpoints; every try counts.")
        }
        ClusterCounter::UpstreamRqPendingOverflow => counter(
            "envoy_cluster_upstream_rq_pending_overflow",
            "Requests refused by the limit of pending requests or of requests.",
        ),
        ClusterCounter::UpstreamRqRetry => counter("envoy_cluster_upstream_rq_retry", "Retries made."),
        ClusterCounter::UpstreamRqRetryOverflow => {
            counter("envoy_cluster_upstream_rq_retry_overflow", "Retries not made because of the retry limit.")
        }
        ClusterCounter::RetryAfterTooLong => counter(
            "meshwright_cluster_retry_after_too_long_total",
            "Retries not made because the service asked for a longer pause (Retry-After) than is waited.",
        ),
        ClusterCounter::Hedges => {
            counter("meshwright_cluster_hedges_total", "Late requests that were sent to another endpoint too.")
        }
        ClusterCounter::HedgesWon => {
            counter("meshwright_cluster_hedges_won_total", "Late requests that the other endpoint answered first.")
        }
        ClusterCounter::LoadProbes => {
            counter("meshwright_cluster_load_probes_total", "Times that endpoints were asked for their load (PREQUAL).")
        }
        ClusterCounter::LoadProbesInVain => counter(
            "meshwright_cluster_load_probes_in_vain_total",
            "Times that an endpoint was asked for its load and said nothing of it, or did not answer.",
        ),
        ClusterCounter::UnreachableProbes => counter(
            "meshwright_cluster_unreachable_probes_total",
            "Times that it was tried to connect to an endpoint that is out because it could not be connected to.",
        ),
        ClusterCounter::RateLimited => counter(
            "meshwright_cluster_rate_limited_total",
            "Requests refused by the rate limit, or that it would have refused where it observes.",
        ),
        ClusterCounter::BulkheadRefused => counter(
            "meshwright_cluster_bulkhead_refused_total",
            "Tries refused because every endpoint was full, or that would have been where the bulkhead observes.",
        ),
        ClusterCounter::FallbackDestination => FALLBACK_DESTINATION,
        ClusterCounter::FallbackLastGood => FALLBACK_LAST_GOOD,
        ClusterCounter::FallbackResponse => FALLBACK_RESPONSE,
        ClusterCounter::CoalescingLeaders => COALESCING_LEADERS,
        ClusterCounter::CoalescingFollowers => COALESCING_FOLLOWERS,
        ClusterCounter::CoalescingReleased => COALESCING_RELEASED,
        ClusterCounter::CoalescingOverflow => COALESCING_OVERFLOW,
        ClusterCounter::UpstreamRqTimeout => {
            counter("envoy_cluster_upstream_rq_timeout", "Requests ended by the timeout of their route.")
        }
        ClusterCounter::UpstreamRqPerTryTimeout => {
            counter("envoy_cluster_upstream_rq_per_try_timeout", "Tries ended by the timeout of a try.")
        }
    }
}

/// Family of a cluster's gauge.
pub(crate) const fn of_cluster_gauge(which: ClusterGauge) -> Family {
    match which {
        ClusterGauge::UpstreamCxActive => gauge("envoy_cluster_upstream_cx_active", "Open connections to endpoints."),
        ClusterGauge::UpstreamRqActive => {
            gauge("envoy_cluster_upstream_rq_active", "Requests that are with endpoints.")
        }
        ClusterGauge::UpstreamRqPendingActive => {
            gauge("envoy_cluster_upstream_rq_pending_active", "Requests that wait for a connection.")
        }
    }
}

/// Label value of a refusal.
pub(crate) const fn of_refusal(reason: RefusalReason) -> &'static str {
    match reason {
        RefusalReason::ConnectionLimit => "connection_limit",
        RefusalReason::SourceConnectionLimit => "source_connection_limit",
        RefusalReason::MemoryLimit => "memory_limit",
        RefusalReason::HeadTimeout => "head_timeout",
        RefusalReason::IdleTimeout => "idle_timeout",
        RefusalReason::StreamIdleTimeout => "stream_idle_timeout",
        RefusalReason::RequestLineTooLong => "request_line_too_long",
        RefusalReason::HeadersTooLarge => "headers_too_large",
        RefusalReason::TooManyHeaders => "too_many_headers",
        RefusalReason::ChunkedBodyLimit => "chunked_body_limit",
        RefusalReason::MalformedRequest => "malformed_request",
        RefusalReason::MethodNotAllowed => "method_not_allowed",
        RefusalReason::VersionNotSupported => "version_not_supported",
        RefusalReason::UnsupportedTransferCoding => "unsupported_transfer_coding",
        RefusalReason::ExpectationFailed => "expectation_failed",
        RefusalReason::UnknownHost => "unknown_host",
        RefusalReason::UpstreamHeadLimit => "upstream_head_limit",
        RefusalReason::StreamResets => "stream_resets",
        RefusalReason::Pings => "pings",
        RefusalReason::Settings => "settings",
        RefusalReason::Glitches => "glitches",
        RefusalReason::Continuations => "continuations",
        RefusalReason::TlsHandshake => "tls_handshake",
        RefusalReason::UnknownServerName => "unknown_server_name",
        RefusalReason::ProxyHeader => "proxy_header",
        RefusalReason::MisdirectedRequest => "misdirected_request",
    }
}
