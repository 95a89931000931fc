//! `ResiliencePolicy` as it was meant: what Istio's schema has no field for. Plain values; what is `None` has the default
//! of its preset or algorithm. Read next: `policy.rs` for what Istio has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::{Destination, HealthCheck, Origin, RetryPolicy};

/// Our own kind `ResiliencePolicy`: a circuit breaker, a retry budget and an adaptive limit for the clusters of a host.
#[derive(Clone, Debug)]
pub struct ResiliencePolicy {
    /// `metadata.name`.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Host or wildcard as written, lower-case.
    pub host: String,
    /// What it says about the clusters of that host.
    pub settings: ResilienceSettings,
    /// Where the document starts.
    pub origin: Origin,
}

/// The blocks of a [`ResiliencePolicy`]; a block that is `None` is off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResilienceSettings {
    /// Stops calls to what fails or is slow.
    pub circuit_breaker: Option<CircuitBreaker>,
    /// Retries of routes that say nothing of them; `None` is Istio's default policy.
    pub retries: Option<RetryPolicy>,
    /// Retries as a share of the requests.
    pub retry_budget: Option<RetryBudget>,
    /// When a request that only reads is sent once more while the first is under way.
    pub hedging: Option<Hedging>,
    /// A limit of concurrency that learns.
    pub adaptive_concurrency: Option<AdaptiveConcurrency>,
    /// How many requests each endpoint may have in flight.
    pub bulkhead: Option<Bulkhead>,
    /// How many requests there may be in a time.
    pub rate_limit: Option<RateLimit>,
    /// What is answered when there is no good answer.
    pub fallback: Option<Fallback>,
    /// Whether identical requests wait for one answer.
    pub coalescing: Option<Coalescing>,
    /// What endpoints are asked to know that they are well. It comes before what endpoints have of their own.
    pub health_check: Option<Arc<HealthCheck>>,
}

/// Whether a policy decides or only says what it would decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enforcement {
    /// It decides.
    #[default]
    Enforce,
    /// It counts and says, and refuses nothing.
    Observe,
}

/// `circuitBreaker`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CircuitBreaker {
    /// Where the values come from that are not given.
    pub preset: BreakerPreset,
    /// One breaker for what.
    pub scope: BreakerScope,
    /// Whether it refuses requests.
    pub enforcement: Enforcement,
    /// The calls that rates are taken over.
    pub window: Option<BreakerWindow>,
    /// Failures in a row that trip; 0 is off.
    pub consecutive_failures: Option<u32>,
    /// Share of failures that trips, in percent.
    pub failure_percent: Option<u32>,
    /// Time beyond which a call is slow, and the share of slow calls that trips, in percent.
    pub slow_calls: Option<(Duration, u32)>,
    /// Calls before a rate is looked at.
    pub minimum_calls: Option<u32>,
    /// Requests let through while half-open.
    pub max_requests: Option<u32>,
    /// Judge probes by their rates instead of each by itself.
    pub probes_by_rates: Option<bool>,
    /// Longest time half-open; zero is without end.
    pub max_half_open_time: Option<Duration>,
    /// Time that it stays open the first time.
    pub timeout: Option<Duration>,
    /// Each further open time in percent of the one before.
    pub timeout_growth_percent: Option<u32>,
    /// Longest open time.
    pub max_timeout: Option<Duration>,
    /// Share around the open time from which it is drawn, in percent.
    pub timeout_jitter_percent: Option<u32>,
}

/// Where a breaker's values come from that are not given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BreakerPreset {
    /// The defaults of sony/gobreaker.
    #[default]
    Gobreaker,
    /// The defaults of Hystrix.
    Hystrix,
    /// The defaults of resilience4j.
    Resilience4j,
    /// By the short name of the service.
    ServiceName,
}

/// One breaker for what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BreakerScope {
    /// For each cluster: (service, port, subset).
    #[default]
    Cluster,
    /// For each endpoint of each cluster; requests go to another one while it is open.
    Endpoint,
}

/// The calls that rates are taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerWindow {
    /// The last calls.
    Calls(u32),
    /// The calls of the last time.
    Time(Duration),
    /// The calls since the breaker closed, forgotten at every interval; zero never forgets.
    Interval(Duration),
}

/// `retryBudget`, as Istio and Envoy have it: retries in flight as a share of requests in flight or waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// Share in percent. Default 20.
    pub percent: u32,
    /// Retries that may always be in flight. Default 3.
    pub min_retry_concurrency: u32,
}

/// `adaptiveConcurrency`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdaptiveConcurrency {
    /// How it learns.
    pub algorithm: ConcurrencyAlgorithm,
    /// Whether it refuses requests. It observes unless told to enforce.
    pub enforcement: Enforcement,
    /// Where it begins. Default 20.
    pub initial_limit: Option<u32>,
    /// It is never lower. Default 20.
    pub min_limit: Option<u32>,
    /// It is never higher. Default 200.
    pub max_limit: Option<u32>,
    /// Samples are averaged over so long. Default 1 s.
    pub window: Option<Duration>,
    /// Header that says how critical a request is; `None` takes all as critical.
    pub criticality_header: Option<String>,
    /// How critical the requests of a route are, by the name of the route, in the words of that header; comes before it.
    pub criticality_by_route: BTreeMap<String, String>,
    /// How critical the requests of a client are at most, by the names of its certificate; the first that fits counts.
    pub criticality_by_identity: Vec<IdentityCriticality>,
    /// Share of the limit for requests that are sheddable-plus, in percent. Default 80.
    pub sheddable_plus_percent: Option<u32>,
    /// Share of the limit for requests that are sheddable, in percent. Default 50.
    pub sheddable_percent: Option<u32>,
}

/// One entry of `criticalityByIdentity`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityCriticality {
    /// By a subject alternative name of the client's certificate: a URI (SPIFFE), a DNS name or an IP address.
    pub name: IdentityName,
    /// In the words of the header.
    pub criticality: String,
}

/// Which clients are meant, by the names of their certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityName {
    /// Those with this name.
    Exact(String),
    /// Those with a name that begins like this.
    Prefix(String),
    /// Every client, also without a certificate.
    Anybody,
}

impl IdentityName {
    /// Whether a client with a certificate of these names is meant.
    pub fn fits<'a>(&self, mut names: impl Iterator<Item = &'a str>) -> bool {
        match self {
            Self::Exact(exact) => names.any(|name| name == exact),
            Self::Prefix(prefix) => names.any(|name| name.starts_with(prefix.as_str())),
            Self::Anybody => true,
        }
    }
}

/// How an adaptive limit learns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConcurrencyAlgorithm {
    /// By the ratio of long-term to present latency.
    #[default]
    Gradient2,
    /// By the estimated queue at the destination.
    Vegas,
    /// Up one by one, down by a tenth.
    Aimd,
}

/// `bulkhead`: requests in flight at each endpoint, so that a slow one does not hold everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bulkhead {
    /// Requests in flight at one endpoint at most; at least 1.
    pub max_requests_per_endpoint: u32,
    /// Whether full endpoints are left out.
    pub enforcement: Enforcement,
}

/// `fallback`: what is answered when the service has no good answer. What comes first is tried first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fallback {
    /// Statuses of the service that are no good answers, sorted. Without any, only having no answer counts.
    pub statuses: Vec<u16>,
    /// Who is asked instead.
    pub destination: Option<Destination>,
    /// Which good answers are kept to be given again.
    pub last_good: Option<LastGood>,
    /// What is said instead.
    pub response: Option<FallbackResponse>,
}

/// `fallback.lastGood`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastGood {
    /// How long an answer may stand in after it has become stale, where it does not say so itself.
    pub stale_if_error: Duration,
    /// Bytes of the body of one answer at most.
    pub max_answer_bytes: u32,
    /// Bytes of all answers at most.
    pub max_bytes: u32,
    /// Answers at most.
    pub max_entries: u32,
}

/// `coalescing`: identical GETs that come while one is on its way wait for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coalescing {
    /// How long a request is waited for, from when it came.
    pub timeout: Duration,
    /// Bytes of the body of an answer that others get at most.
    pub max_answer_bytes: u32,
    /// Requests that are waited for at one time at most.
    pub max_keys: u32,
    /// Requests that wait at one time at most.
    pub max_waiters: u32,
}

/// `fallback.response`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FallbackResponse {
    /// 200 to 599.
    pub status: u16,
    /// Fields of the head; names are lower-case.
    pub headers: Vec<(String, String)>,
    /// Body bytes, at most 64 KiB.
    pub body: Vec<u8>,
}

/// `rateLimit`: token buckets, one for all requests or one for each key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests in every `per`; at least 1.
    pub requests: u32,
    /// The time that they come in.
    pub per: Duration,
    /// Requests that may come at once after a rest; at least 1.
    pub burst: u32,
    /// What of a request its bucket is chosen by.
    pub key: RateLimitKey,
    /// Keys that have a bucket of their own at most.
    pub max_keys: u32,
    /// Whether it refuses requests.
    pub enforcement: Enforcement,
    /// Whether answers carry `RateLimit` and `RateLimit-Policy`.
    pub headers: bool,
}

/// What of a request its bucket is chosen by; all that is given counts together. Nothing given is one bucket for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateLimitKey {
    /// The value of this header, lower-case.
    pub header: Option<String>,
    /// The address of the client; of IPv6 its first 64 bits.
    pub source_ip: bool,
    /// The route that was chosen.
    pub route: bool,
}

/// `hedging`: when a request is late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hedging {
    /// When it takes longer than so many percent of the recent ones.
    Percentile(u32),
    /// After that time.
    Delay(Duration),
}
