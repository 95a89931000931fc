//! Why a request could not be served, and the one table of what follows from it. Read next: `failed.rs`.

/// What went wrong. [`FailureKind::outcome`] says what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FailureKind {
    /// The request is malformed.
    BadRequest,
    /// The request line is longer than allowed.
    UriTooLong,
    /// The header section is larger than allowed.
    HeadersTooLarge,
    /// An expectation other than `100-continue`.
    ExpectationFailed,
    /// A method that a gateway does not serve (CONNECT).
    MethodNotAllowed,
    /// A protocol version that is not served.
    VersionNotSupported,
    /// A transfer coding other than `chunked`.
    UnsupportedTransferCoding,
    /// The client did not send its request in time.
    RequestTimeout,
    /// No virtual host or no route matches.
    NoRoute,
    /// The mesh listener does not know the host (REGISTRY_ONLY).
    UnknownHost,
    /// The route names a service, port or subset that does not exist.
    NoCluster,
    /// No endpoint is healthy, or there is none.
    NoHealthyUpstream,
    /// A connection, pending or request limit is reached.
    Overflow,
    /// A circuit breaker is open.
    CircuitOpen,
    /// Every endpoint has as many requests in flight as one may have.
    BulkheadFull,
    /// The adaptive limit of requests is reached.
    ConcurrencyLimit,
    /// The client has sent more requests than its rate allows.
    RateLimited,
    /// The connection to the endpoint was refused or timed out.
    ConnectFailure,
    /// The endpoint closed the connection before an answer.
    UpstreamClosed,
    /// The endpoint's answer is not HTTP, or is ambiguous.
    UpstreamProtocol,
    /// The route's timeout is over.
    Timeout,
    /// The timeout of one try is over, and no retry is left.
    PerTryTimeout,
    /// The service answered with a status that a fallback replaces.
    UnwelcomeStatus,
    /// The client went away first.
    DownstreamClosed,
    /// Nothing moved for the idle time of the stream.
    StreamIdle,
    /// The authority is not served on this connection, whose certificate is another server's.
    MisdirectedRequest,
    /// The process is short of memory and takes no new requests.
    MemoryShort,
    /// A defect of this program.
    Defect,
}

/// Who caused a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The client.
    Downstream,
    /// The service.
    Upstream,
    /// Configuration or this process.
    Us,
}

/// What outlier detection makes of the end of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Says nothing about the endpoint.
    Ignored,
    /// An answer with this status.
    Status(u16),
    /// A failure seen only here: connect, reset, timeout.
    LocalOrigin,
}

/// Everything that follows from a [`FailureKind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// HTTP status of our own answer; 0 when the client is gone.
    pub status: u16,
    /// gRPC status code (issue of the HTTP engine uses it).
    pub grpc: u8,
    /// Response flag of the access log, Envoy's letters; empty for none.
    pub flag: &'static str,
    /// `response_code_details`.
    pub details: &'static str,
    /// Body of our answer, Envoy's text; may be empty.
    pub body: &'static str,
    /// Who caused it.
    pub blame: Blame,
    /// Whether the same request may be tried again when nothing of an answer was seen.
    pub retryable: bool,
    /// What outlier detection counts.
    pub verdict: Verdict,
    /// The reason in one sentence, for people.
    pub reason: &'static str,
}

impl FailureKind {
    /// Every kind, in table order.
    pub const ALL: [FailureKind; 28] = [
        Self::BadRequest,
        Self::UriTooLong,
        Self::HeadersTooLarge,
        Self::ExpectationFailed,
        Self::MethodNotAllowed,
        Self::VersionNotSupported,
        Self::UnsupportedTransferCoding,
        Self::RequestTimeout,
        Self::NoRoute,
        Self::UnknownHost,
        Self::NoCluster,
        Self::NoHealthyUpstream,
        Self::Overflow,
        Self::CircuitOpen,
        Self::BulkheadFull,
        Self::ConcurrencyLimit,
        Self::RateLimited,
        Self::ConnectFailure,
        Self::UpstreamClosed,
        Self::UpstreamProtocol,
        Self::Timeout,
        Self::PerTryTimeout,
        Self::UnwelcomeStatus,
        Self::DownstreamClosed,
        Self::StreamIdle,
        Self::MisdirectedRequest,
        Self::MemoryShort,
        Self::Defect,
    ];

    /// The single table: statuses, flags, details and bodies as Envoy has them.
    pub const fn outcome(self) -> Outcome {
        use Blame::{Downstream, Upstream, Us};
        use Verdict::{Ignored, LocalOrigin};
        match self {
            Self::BadRequest => outcome(
                400,
                13,
                "DPE",
                "http1.codec_error",
                "",
                Downstream,
                false,
                Ignored,
                "the request is not valid HTTP",
            ),
            Self::UriTooLong => outcome(
                414,
                13,
                "DPE",
                "uri_too_long",
                "",
                Downstream,
                false,
                Ignored,
                "the request line is longer than the limit",
            ),
            Self::HeadersTooLarge => outcome(
                431,
                13,
                "DPE",
                "request_headers_too_large",
                "",
                Downstream,
                false,
                Ignored,
                "the request headers exceed the limit",
            ),
            Self::ExpectationFailed => outcome(
                417,
                13,
                "DPE",
                "expectation_failed",
                "",
                Downstream,
                false,
                Ignored,
                "the request expects something other than 100-continue",
            ),
            Self::MethodNotAllowed => outcome(
                405,
                12,
                "",
                "method_not_allowed",
                "",
                Downstream,
                false,
                Ignored,
                "the method is not served here",
            ),
            Self::VersionNotSupported => outcome(
                505,
                13,
                "DPE",
                "http_version_not_supported",
                "",
                Downstream,
                false,
                Ignored,
                "the HTTP version is not served here",
            ),
            Self::UnsupportedTransferCoding => outcome(
                501,
                12,
                "DPE",
                "unsupported_transfer_coding",
                "",
                Downstream,
                false,
                Ignored,
                "the transfer coding is not understood",
            ),
            Self::RequestTimeout => outcome(
                408,
                4,
                "DT",
                "request_header_timeout",
                "",
                Downstream,
                false,
                Ignored,
                "the client did not send its request in time",
            ),
            Self::NoRoute => outcome(
                404,
                12,
                "NR",
                "route_not_found",
                "",
                Us,
                false,
                Ignored,
                "no route matches the host and path of the request",
            ),
            Self::UnknownHost => outcome(
                502,
                14,
                "",
                "direct_response",
                "",
                Us,
                false,
                Ignored,
                "the mesh has no service of that name (REGISTRY_ONLY)",
            ),
            Self::NoCluster => outcome(
                503,
                14,
                "NC",
                "cluster_not_found",
                "",
                Us,
                false,
                Ignored,
                "the route names a service, port or subset that does not exist",
            ),
            Self::NoHealthyUpstream => outcome(
                503,
                14,
                "UH",
                "no_healthy_upstream",
                "no healthy upstream",
                Upstream,
                false,
                Ignored,
                "the service has no healthy endpoint",
            ),
            Self::Overflow => outcome(
                503,
                14,
                "UO",
                "upstream_reset_before_response_started{overflow}",
                "upstream connect error or disconnect/reset before headers. reset reason: overflow",
                Us,
                false,
                Ignored,
                "a connection, pending or request limit of the service is reached",
            ),
            Self::CircuitOpen => outcome(
                503,
                14,
                "UO",
                "circuit_breaker_open",
                "circuit breaker is open",
                Upstream,
                false,
                Ignored,
                "a circuit breaker of the service is open",
            ),
            Self::BulkheadFull => outcome(
                503,
                14,
                "UO",
                "bulkhead_full",
                "bulkhead is full",
                Us,
                false,
                Ignored,
                "every endpoint of the service has as many requests in flight as one may have",
            ),
            Self::ConcurrencyLimit => outcome(
                503,
                14,
                "UO",
                "reached_concurrency_limit",
                "reached concurrency limit",
                Upstream,
                false,
                Ignored,
                "the service bears no more requests at this moment",
            ),
            Self::RateLimited => outcome(
                429,
                14,
                "RL",
                "local_rate_limited",
                "local_rate_limited",
                Downstream,
                false,
                Ignored,
                "there are more requests than the rate limit allows",
            ),
            Self::ConnectFailure => outcome(
                503,
                14,
                "UF",
                "upstream_reset_before_response_started{remote_connection_failure}",
                "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure",
                Upstream,
                true,
                LocalOrigin,
                "the endpoint could not be connected to",
            ),
            Self::UpstreamClosed => outcome(
                503,
                14,
                "UC",
                "upstream_reset_before_response_started{connection_termination}",
                "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
                Upstream,
                true,
                LocalOrigin,
                "the endpoint closed the connection before it answered",
            ),
            Self::UpstreamProtocol => outcome(
                502,
                14,
                "UPE",
                "upstream_reset_before_response_started{protocol_error}",
                "upstream connect error or disconnect/reset before headers. reset reason: protocol error",
                Upstream,
                false,
                LocalOrigin,
                "the endpoint's answer is not valid HTTP",
            ),
            Self::Timeout => outcome(
                504,
                4,
                "UT",
                "response_timeout",
                "upstream request timeout",
                Upstream,
                false,
                LocalOrigin,
                "the service did not answer within the timeout of the route",
            ),
            Self::PerTryTimeout => outcome(
                504,
                4,
                "UT",
                "upstream_per_try_timeout",
                "upstream request timeout",
                Upstream,
                true,
                LocalOrigin,
                "the service did not answer within the timeout of one try",
            ),
            Self::UnwelcomeStatus => outcome(
                503,
                14,
                "",
                "unwelcome_status",
                "",
                Upstream,
                false,
                Ignored,
                "the service answered with a status that its fallback replaces",
            ),
            Self::DownstreamClosed => outcome(
                0,
                1,
                "DC",
                "downstream_remote_disconnect",
                "",
                Downstream,
                false,
                Ignored,
                "the client closed its connection first",
            ),
            Self::StreamIdle => outcome(
                408,
                4,
                "SI",
                "stream_idle_timeout",
                "stream timeout",
                Downstream,
                false,
                Ignored,
                "nothing moved in either direction for the idle time",
            ),
            Self::MisdirectedRequest => outcome(
                421,
                14,
                "",
                "misdirected_request",
                "",
                Downstream,
                false,
                Ignored,
                "the host of the request is not served under the certificate of this connection",
            ),
            Self::MemoryShort => outcome(
                503,
                8,
                "OM",
                "overload",
                "overloaded",
                Us,
                false,
                Ignored,
                "the proxy is short of memory and takes no new requests for the moment",
            ),
            Self::Defect => outcome(
                500,
                13,
                "",
                "internal_error",
                "",
                Us,
                false,
                Ignored,
                "a defect of the proxy ended the request; it is in the log",
            ),
        }
    }
}

#[allow(clippy::too_many_arguments, reason = "one call per table row; a builder would hide the table")]
const fn outcome(
    status: u16,
    grpc: u8,
    flag: &'static str,
    details: &'static str,
    body: &'static str,
    blame: Blame,
    retryable: bool,
    verdict: Verdict,
    reason: &'static str,
) -> Outcome {
    Outcome { status, grpc, flag, details, body, blame, retryable, verdict, reason }
}
