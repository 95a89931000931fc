//! `VirtualService` as it was meant: hosts, ordered HTTP routes, what each does.

use std::time::Duration;

use crate::{GatewayRef, Origin, TcpRoute, TlsRoute};

/// Istio's `VirtualService`.
#[derive(Clone, Debug)]
pub struct VirtualService {
    /// `metadata.name`.
    pub name: String,
    /// Namespace; short host names inside are completed with it.
    pub namespace: String,
    /// Hosts as written, lower-case.
    pub hosts: Vec<String>,
    /// What it binds to; never empty (`mesh` when the field is absent).
    pub gateways: Vec<GatewayRef>,
    /// Routes in order; the first that matches wins.
    pub http: Vec<HttpRoute>,
    /// Routes for TLS connections that are passed on, by server name.
    pub tls: Vec<TlsRoute>,
    /// Routes for connections whose bytes are not looked at.
    pub tcp: Vec<TcpRoute>,
    /// Where the document starts.
    pub origin: Origin,
}

/// One entry of `http[]`.
#[derive(Clone, Debug)]
pub struct HttpRoute {
    /// Name for logs.
    pub name: Option<String>,
    /// Alternatives (OR); empty matches everything.
    pub matches: Vec<HttpMatch>,
    /// What to do.
    pub action: RouteAction,
    /// Path and authority changes before forwarding.
    pub rewrite: Option<Rewrite>,
    /// Time from the complete request to the complete response, over all attempts; `None` is no limit.
    pub timeout: Option<Duration>,
    /// Retries; `None` when the route says nothing of them.
    pub retries: Option<RetryPolicy>,
    /// Header changes for every destination.
    pub headers: HeaderOperations,
    /// Where the entry starts.
    pub origin: Origin,
}

/// The one action of a route.
#[derive(Clone, Debug)]
pub enum RouteAction {
    /// Send to one of these, chosen at random by weight; never empty, weights sum to more than 0.
    Forward(Vec<WeightedDestination>),
    /// Answer with a `Location`.
    Redirect(Redirect),
    /// Answer with a fixed status and body.
    DirectResponse(DirectResponse),
}

/// A destination with its share.
#[derive(Clone, Debug)]
pub struct WeightedDestination {
    /// Where to.
    pub destination: Destination,
    /// Share of the sum of weights. A single destination has weight 1 whatever was written.
    pub weight: u32,
    /// Header changes for this destination, applied after those of the route.
    pub headers: HeaderOperations,
    /// Where the entry starts.
    pub origin: Origin,
}

/// A service, a port of it, a subset of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    /// Host as written, lower-case; resolved with the namespace of the virtual service.
    pub host: String,
    /// Subset of the destination rule.
    pub subset: Option<String>,
    /// Service port; `None` is the service's only port, or the port the request came in on.
    pub port: Option<u16>,
}

/// `redirect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Replaces the whole path; the query stays.
    pub uri: Option<String>,
    /// Replaces the matched prefix.
    pub prefix_rewrite: Option<String>,
    /// Replaces the host.
    pub authority: Option<String>,
    /// Replaces the scheme: `http` or `https`.
    pub scheme: Option<String>,
    /// Port in the location.
    pub port: RedirectPort,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// Where the port of a redirect comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectPort {
    /// The port of the request stays while the scheme does, and is dropped when the scheme changes, as in Envoy.
    ProtocolDefault,
    /// The port that the request came to.
    FromRequest,
    /// This one (left out when it is the scheme's default).
    Number(u16),
}

/// `directResponse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectResponse {
    /// 200 to 599.
    pub status: u16,
    /// Body bytes, at most 1 MiB.
    pub body: Vec<u8>,
}

/// `rewrite`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Rewrite {
    /// With a prefix match replaces the matched prefix, otherwise the whole path; the query stays.
    pub uri: Option<String>,
    /// Regular expression (anchored nowhere) and its replacement (`\1` groups) over the path.
    pub uri_regex: Option<(String, String)>,
    /// Replaces the Host header.
    pub authority: Option<String>,
}

/// `headers`: what to set, add and remove, on the way in and on the way out. Names are lower-case.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct HeaderOperations {
    /// Request: overwrite.
    pub request_set: Vec<(String, String)>,
    /// Request: append another value.
    pub request_add: Vec<(String, String)>,
    /// Request: remove.
    pub request_remove: Vec<String>,
    /// Response: overwrite.
    pub response_set: Vec<(String, String)>,
    /// Response: append another value.
    pub response_add: Vec<(String, String)>,
    /// Response: remove.
    pub response_remove: Vec<String>,
}

impl HeaderOperations {
    /// True when nothing changes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One alternative of `match[]`; all conditions must hold.
#[derive(Clone, Debug, Default)]
pub struct HttpMatch {
    /// Name for logs.
    pub name: Option<String>,
    /// Path without query.
    pub uri: Option<StringMatch>,
    /// Compare exact and prefix paths without regard to case.
    pub ignore_uri_case: bool,
    /// `http` or `https`.
    pub scheme: Option<StringMatch>,
    /// Method.
    pub method: Option<StringMatch>,
    /// Host header as sent, port included.
    pub authority: Option<StringMatch>,
    /// Headers that must match; names lower-case.
    pub headers: Vec<(String, HeaderMatch)>,
    /// Headers that must not match; names lower-case.
    pub without_headers: Vec<(String, HeaderMatch)>,
    /// Query parameters that must match (first occurrence, not percent-decoded).
    pub query: Vec<(String, HeaderMatch)>,
    /// Port that the request came to, as the configuration numbers it.
    pub port: Option<u16>,
    /// Overrides the gateways of the virtual service for this alternative.
    pub gateways: Option<Vec<GatewayRef>>,
}

/// Istio's `StringMatch`. A regular expression must match the whole value and is known to compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StringMatch {
    /// The value is exactly this.
    Exact(String),
    /// The value starts with this (plain string prefix, not segment based).
    Prefix(String),
    /// The whole value matches.
    Regex(String),
}

/// A header or query condition: a [`StringMatch`], or mere presence (`{}`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderMatch {
    /// The header is there.
    Present,
    /// Its values, joined by commas, match.
    Value(StringMatch),
}

/// `retries`, with Istio's defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Retries after the first try; 0 is off.
    pub attempts: u32,
    /// Time for one try; `None` is the route's timeout.
    pub per_try_timeout: Option<Duration>,
    /// What is retried.
    pub on: RetryOn,
    /// First back-off; the n-th is random in [0, (2^n - 1) x base), at most ten times the base.
    pub backoff: Duration,
    /// Prefer hosts that were not tried.
    pub avoid_previous_hosts: bool,
    /// Which requests may be sent again after they may have reached a host.
    pub methods: RetryMethods,
    /// The longest `Retry-After` that is waited for; an answer that asks for more goes to the client.
    pub max_retry_after: Duration,
}

/// Which requests may be sent again after they may have reached a host. One that was never sent may be in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryMethods {
    /// All, as in Istio.
    Any,
    /// Those that change nothing, or nothing more the second time (RFC 9110, section 9.2.2).
    Idempotent,
    /// Those that only read (RFC 9110, section 9.2.1).
    Safe,
}

impl RetryPolicy {
    /// Istio's policy for routes that say nothing: 2 retries when the connection failed or was refused.
    pub const ISTIO: Self = {
        let mut on = RetryOn::NOTHING;
        on.connect_failure = true;
        on.refused_stream = true;
        Self {
            attempts: 2,
            per_try_timeout: None,
            on,
            backoff: Duration::from_millis(25),
            avoid_previous_hosts: true,
            methods: RetryMethods::Any,
            max_retry_after: Duration::from_secs(10),
        }
    };
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::ISTIO
    }
}

impl RetryOn {
    /// No condition.
    pub const NOTHING: Self = Self {
        server_error: false,
        gateway_error: false,
        reset: false,
        reset_before_request: false,
        connect_failure: false,
        refused_stream: false,
        retriable_4xx: false,
        envoy_ratelimited: false,
        status_codes: Vec::new(),
        grpc: Vec::new(),
    };
}

/// `retries.retryOn`, parsed. The gRPC conditions `unavailable` and `cancelled` of the default policy are kept as names.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RetryOn {
    /// Any 5xx answer, or no answer at all (disconnect, reset, read timeout).
    pub server_error: bool,
    /// 502, 503, 504.
    pub gateway_error: bool,
    /// No answer: disconnect, reset, read timeout.
    pub reset: bool,
    /// Reset before any byte of the request was sent.
    pub reset_before_request: bool,
    /// The connection could not be made.
    pub connect_failure: bool,
    /// HTTP/2 REFUSED_STREAM: the request was not processed.
    pub refused_stream: bool,
    /// 409.
    pub retriable_4xx: bool,
    /// Answers with `x-envoy-ratelimited`.
    pub envoy_ratelimited: bool,
    /// Status codes listed by number.
    pub status_codes: Vec<u16>,
    /// `grpc-status` values listed by name.
    pub grpc: Vec<u8>,
}
