//! What the pages show, and the few things they can ask for.
//!
//! Plain values and one trait, filled by the binary. Paths and formats are in `pages.rs` and `text.rs`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

/// What the binary lets the admin API see and do. The methods are called from many requests at once; each answers from
/// the state at that moment and may take as long as collecting it takes, but must not wait for traffic.
pub trait Views: Send + Sync + 'static {
    /// All metrics in the Prometheus text format.
    fn metrics(&self) -> String;

    /// Whether the process takes traffic.
    fn readiness(&self) -> Readiness;

    /// The live configuration with its origins.
    fn config_dump(&self) -> serde_json::Value;

    /// Every cluster with its endpoints.
    fn clusters(&self) -> Vec<ClusterView>;

    /// Every listener, draining ones included.
    fn listeners(&self) -> Vec<ListenerView>;

    /// The filter of the process's own log, as it was set last.
    fn log_level(&self) -> String;

    /// Sets the filter of the process's own log: a level, or `target=level` pairs joined by commas. Answers with the
    /// filter in force; the error says what is wrong with the directive.
    fn set_log_level(&self, directive: &str) -> Result<String, String>;

    /// Carries out an operator's word about one endpoint in every cluster of a service and records it for
    /// [`Self::audit`]. `service` is any name of the service. Answers with one sentence per change made.
    fn endpoint_action(
        &self,
        action: EndpointAction,
        service: &str,
        address: SocketAddr,
        actor: &str,
    ) -> Result<Vec<String>, ActionError>;

    /// Carries out an operator's word about all circuit breakers of a service and records it for [`Self::audit`].
    /// `service` is any name of the service. Answers with one sentence per change made.
    fn breaker_action(&self, action: BreakerAction, service: &str, actor: &str) -> Result<Vec<String>, ActionError>;

    /// What operators did, oldest first.
    fn audit(&self) -> Vec<AuditEntry>;
}

/// Answer to "does it take traffic?".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// True when new connections should come here. A failed reload does not change that.
    pub ready: bool,
    /// One word: `starting`, `serving`, `draining`.
    pub state: String,
    /// Further lines: the generation, why the last reload was refused, and so on.
    pub detail: Vec<String>,
}

/// One cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClusterView {
    /// Name, `outbound|80|v1|host`.
    pub name: String,
    /// Full host name of its service.
    pub service: String,
    /// Balancing policy, as the configuration names it.
    pub policy: String,
    /// Limits in force.
    pub limits: LimitsView,
    /// What of the limits is used.
    pub usage: UsageView,
    /// Its circuit breakers.
    pub circuit_breakers: Vec<CircuitBreakerView>,
    /// Its adaptive limit; `None` (`null`) without one.
    pub adaptive_concurrency: Option<AdaptiveConcurrencyView>,
    /// Its bulkhead; `None` (`null`) without one.
    pub bulkhead: Option<BulkheadView>,
    /// Its rate limit; `None` (`null`) without one.
    pub rate_limit: Option<RateLimitView>,
    /// Its last good answers; `None` (`null`) where none are kept.
    pub last_good: Option<LastGoodView>,
    /// Its requests that wait for one answer; `None` (`null`) where none do.
    pub coalescing: Option<CoalescingView>,
    /// Its endpoints.
    pub endpoints: Vec<EndpointView>,
}

/// One circuit breaker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CircuitBreakerView {
    /// The endpoint that it is for; `None` (`null`) for the whole cluster.
    pub endpoint: Option<SocketAddr>,
    /// `closed`, `open` or `half-open`.
    pub state: String,
    /// Who decides: `automatic`, `metrics-only`, `forced-open`, `forced-closed` or `disabled`.
    pub mode: String,
    /// Why it is in this state; `None` (`null`) for one that never changed.
    pub cause: Option<String>,
    /// How long it has been in this state; in JSON `for_ms`, whole milliseconds.
    #[serde(rename = "for_ms", serialize_with = "as_millis")]
    pub since: Option<Duration>,
    /// When open: time until probes are let through; in JSON `retry_in_ms`, whole milliseconds.
    #[serde(rename = "retry_in_ms", serialize_with = "as_millis")]
    pub retry_in: Option<Duration>,
    /// Tries in its window and in flight.
    pub requests: u32,
    /// Failures in its window.
    pub failures: u32,
    /// Slow tries in its window.
    pub slow: u32,
    /// Failures in a row.
    pub consecutive_failures: u32,
    /// Times that it opened.
    pub openings: u64,
    /// Tries that it refused, or would have refused.
    pub refused: u64,
}

/// An adaptive limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AdaptiveConcurrencyView {
    /// It learns and refuses nothing.
    pub observes: bool,
    /// Requests that may wait for an answer.
    pub limit: u32,
    /// Requests that do.
    pub in_flight: u32,
    /// Tries that it refused, or would have refused.
    pub refused: u64,
    /// Latency without load, as it sees it; in JSON `base_latency_us`, whole microseconds.
    #[serde(rename = "base_latency_us", serialize_with = "as_micros")]
    pub base_latency: Option<Duration>,
}

/// A bound on the requests in flight at each endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BulkheadView {
    /// It counts and leaves no endpoint out.
    pub observes: bool,
    /// Requests in flight at one endpoint at most.
    pub max_requests_per_endpoint: u32,
    /// Endpoints that have as many at this moment.
    pub full_endpoints: u64,
}

/// A rate limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RateLimitView {
    /// It counts and refuses nothing.
    pub observes: bool,
    /// Requests in every `per`, for each key.
    pub requests: u32,
    /// In JSON `per_ms`, whole milliseconds.
    #[serde(rename = "per_ms", serialize_with = "as_millis")]
    pub per: Option<Duration>,
    /// Requests that may come at once.
    pub burst: u32,
    /// Keys that have a bucket at this moment.
    pub keys: u64,
}

/// Answers that are kept to stand in for failures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LastGoodView {
    /// Answers.
    pub entries: u64,
    /// Answers at most.
    pub max_entries: u64,
    /// Bytes that they take, with heads and keys.
    pub bytes: u64,
    /// Bytes at most.
    pub max_bytes: u64,
}

/// Identical requests that wait for one answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CoalescingView {
    /// Requests under way that may be waited for.
    pub keys: u64,
    /// The most there may be.
    pub max_keys: u64,
    /// Requests that wait.
    pub waiting: u32,
    /// The most that may.
    pub max_waiters: u32,
}

/// Limits of a cluster; `None` (`null`) is unlimited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LimitsView {
    /// Connections.
    pub max_connections: Option<u32>,
    /// Requests that wait for a connection.
    pub max_pending: Option<u32>,
    /// Requests with an endpoint.
    pub max_requests: Option<u32>,
    /// Retries at one time.
    pub max_retries: Option<u32>,
    /// Share of the requests that may be retries, in percent; replaces `max_retries`.
    pub retry_budget_percent: Option<u32>,
}

/// What of the limits is used; `None` (`null`) where no limit makes it counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UsageView {
    /// Connections.
    pub connections: Option<u32>,
    /// Requests that wait for a connection.
    pub pending: Option<u32>,
    /// Requests with an endpoint.
    pub requests: Option<u32>,
    /// Retries at this moment.
    pub retries: Option<u32>,
}

/// One endpoint of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndpointView {
    /// Where it is.
    pub address: SocketAddr,
    /// Weight in balancing.
    pub weight: u32,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// `region/zone/subzone`; empty when unknown.
    pub locality: String,
    /// How near it is: 0 is preferred. `None` (`null`) when it gets no requests because of where it is.
    pub priority: Option<u32>,
    /// Peak-sensitive average of the time until its answers begin; in JSON `latency_us`, whole microseconds. `None` (`null`)
    /// where no policy makes it measured.
    #[serde(rename = "latency_us", serialize_with = "as_micros")]
    pub latency: Option<Duration>,
    /// Where its load is known from when the policy reads what endpoints say: `reported`, or `local` for what this process
    /// counted and measured. `None` (`null`) under other policies.
    pub load_source: Option<String>,
    /// Requests that are with it, from all clusters; `None` (`null`) where no policy makes them counted.
    pub in_flight: Option<u32>,
    /// An operator's word.
    pub admin: AdminState,
    /// What active health checks say of it; `None` (`null`) where nobody checks it.
    pub health_check: Option<HealthCheckView>,
    /// It is kept out: by outlier detection, or because it could not be connected to.
    pub ejected: bool,
    /// How long it has been kept out; in JSON `ejected_for_ms`, whole milliseconds.
    #[serde(rename = "ejected_for_ms", serialize_with = "as_millis")]
    pub ejected_for: Option<Duration>,
    /// Time until outlier detection may let it come back; in JSON `ejection_ends_in_ms`, whole milliseconds.
    #[serde(rename = "ejection_ends_in_ms", serialize_with = "as_millis")]
    pub ejection_ends_in: Option<Duration>,
    /// What outlier detection keeps it out for.
    pub ejection_cause: Option<String>,
    /// How long it has been kept out because it could not be connected to; in JSON `unreachable_for_ms`, whole milliseconds.
    /// `None` (`null`) when it is not, here and below.
    #[serde(rename = "unreachable_for_ms", serialize_with = "as_millis")]
    pub unreachable_for: Option<Duration>,
    /// Why it could not.
    pub unreachable_cause: Option<String>,
    /// Time until that is tried again; in JSON `next_probe_in_ms`, whole milliseconds.
    #[serde(rename = "next_probe_in_ms", serialize_with = "as_millis")]
    pub next_probe_in: Option<Duration>,
    /// Times that it was tried in vain since.
    pub failed_probes: Option<u32>,
    /// How often it has been ejected.
    pub ejections: u64,
    /// 5xx answers in a row.
    pub consecutive_5xx: u32,
    /// 502, 503 and 504 answers in a row.
    pub consecutive_gateway_errors: u32,
    /// Connect failures, resets and timeouts in a row.
    pub consecutive_local_origin_failures: u32,
}

/// What active health checks say of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HealthCheckView {
    /// `healthy`, `pending` (out until its first answer) or `unhealthy`.
    pub state: String,
    /// Who asks for the check: `--health`, or a document.
    pub source: String,
    /// What the last check found; `None` (`null`) before the first.
    pub last: Option<String>,
    /// How long it has been in this state; in JSON `for_ms`, whole milliseconds.
    #[serde(rename = "for_ms", serialize_with = "as_millis")]
    pub since: Option<Duration>,
    /// Time until it is checked next; in JSON `next_in_ms`, whole milliseconds. `None` (`null`) while it is being checked.
    #[serde(rename = "next_in_ms", serialize_with = "as_millis")]
    pub next_in: Option<Duration>,
    /// Successes in a row.
    pub successes: u32,
    /// Failures in a row.
    pub failures: u32,
}

/// An operator's word about an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminState {
    /// It takes requests as its health allows.
    #[default]
    Enabled,
    /// No new requests; running ones end.
    Draining,
    /// No requests.
    Disabled,
}

impl AdminState {
    /// The word used in JSON and text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Draining => "draining",
            Self::Disabled => "disabled",
        }
    }
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListenerView {
    /// Name.
    pub name: String,
    /// `gateway`, `mesh` or `admin`.
    pub kind: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// The port that the configuration names.
    pub port: u16,
    /// `http`, `https`, `tls` (no HTTP inside, or passed on) or `tcp`.
    pub protocol: String,
    /// It was removed and serves the connections it has to their end.
    pub draining: bool,
    /// Hosts that it serves by HTTP.
    pub hosts: Vec<String>,
    /// Names that TLS clients may ask for; empty without TLS.
    pub server_names: Vec<String>,
}

/// What an operator can do to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointAction {
    /// No new requests; running ones end.
    Drain,
    /// No requests.
    Disable,
    /// Takes requests again.
    Enable,
    /// Ends an ejection by outlier detection.
    Uneject,
}

impl EndpointAction {
    /// Every action.
    pub const ALL: [Self; 4] = [Self::Drain, Self::Disable, Self::Enable, Self::Uneject];

    /// The word used in paths, JSON and text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Disable => "disable",
            Self::Enable => "enable",
            Self::Uneject => "uneject",
        }
    }
}

impl FromStr for EndpointAction {
    type Err = String;

    /// The error names the words that there are.
    fn from_str(word: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|action| action.as_str() == word).ok_or_else(|| {
            let words = Self::ALL.map(Self::as_str).join(", ");
            format!("there is no such action; the actions are {words}")
        })
    }
}

/// What an operator can do to the circuit breakers of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerAction {
    /// Refuse every request.
    ForceOpen,
    /// Refuse nothing and count.
    ForceClosed,
    /// Refuse nothing and count nothing.
    Disable,
    /// Start anew, as the configuration says.
    Reset,
}

impl BreakerAction {
    /// Every action.
    pub const ALL: [Self; 4] = [Self::ForceOpen, Self::ForceClosed, Self::Disable, Self::Reset];

    /// The word used in paths, JSON and text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ForceOpen => "force-open",
            Self::ForceClosed => "force-closed",
            Self::Disable => "disable",
            Self::Reset => "reset",
        }
    }
}

impl FromStr for BreakerAction {
    type Err = String;

    /// The error names the words that there are.
    fn from_str(word: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|action| action.as_str() == word).ok_or_else(|| {
            let words = Self::ALL.map(Self::as_str).join(", ");
            format!("there is no such action; the actions are {words}")
        })
    }
}

/// Why an operator's word had no effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActionError {
    /// No service has this name.
    #[error("no service is called {0}")]
    UnknownService(String),
    /// The service has no such endpoint; the text says which it has.
    #[error("{0}")]
    UnknownEndpoint(String),
    /// The endpoint's state does not allow it; the text says why.
    #[error("{0}")]
    Refused(String),
}

/// One thing that an operator did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditEntry {
    /// When; in JSON in RFC 3339 form, UTC.
    #[serde(serialize_with = "as_timestamp")]
    pub time: SystemTime,
    /// Who, as far as it is known.
    pub actor: String,
    /// What.
    pub action: String,
    /// To what.
    pub target: String,
    /// What came of it.
    pub result: String,
}

fn as_millis<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration.map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)).serialize(serializer)
}

fn as_micros<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration.map(|duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)).serialize(serializer)
}

fn as_timestamp<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    match jiff::Timestamp::try_from(*time) {
        Ok(timestamp) => serializer.collect_str(&format_args!("{timestamp:.3}")),
        Err(_) => serializer.serialize_none(),
    }
}
