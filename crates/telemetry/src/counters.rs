//! The closed sets of things that are counted.
//!
//! Only identities and their order; names and help texts stand in `names.rs`, storage in `metrics.rs`.

use meshwright_model::FailureKind;

/// Declares an enum whose variants index an array: `ALL` in declaration order, `COUNT`, `index()`.
macro_rules! closed_set {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            /// Every member, in the order of declaration.
            pub const ALL: [$name; $name::COUNT] = [$($name::$variant,)+];
            /// How many members there are.
            pub const COUNT: usize = [$(stringify!($variant),)+].len();

            /// Place of this member in [`Self::ALL`].
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

closed_set! {
    /// What a worker counts about its downstream side and about itself.
    Counter {
        /// A connection was accepted.
        DownstreamConnectionsAccepted,
        /// An accepted connection ended, whoever ended it.
        DownstreamConnectionsClosed,
        /// A connection still in use was cut because the drain time was over.
        DownstreamConnectionsForced,
        /// A request head was read, or failed to be read.
        DownstreamRequests,
        /// A connection changed its protocol after a 101 answer.
        DownstreamUpgrades,
        /// Bytes read from downstream connections, heads included.
        DownstreamBytesReceived,
        /// Bytes written to downstream connections, heads included.
        DownstreamBytesSent,
        /// `accept` failed (file descriptors used up and the like); the listener goes on.
        AcceptErrors,
        /// An access log line was lost because its sink could not keep up.
        AccessLogLinesDropped,
    }
}

closed_set! {
    /// What a worker counts about one upstream cluster, under Envoy's names.
    ClusterCounter {
        /// A connection attempt was started.
        UpstreamCxTotal,
        /// A connection attempt failed or timed out.
        UpstreamCxConnectFail,
        /// The connection limit stood in the way.
        UpstreamCxOverflow,
        /// A connection ended.
        UpstreamCxDestroy,
        /// Bytes of TCP connections, received from endpoints.
        UpstreamCxRxBytes,
        /// Bytes of TCP connections, sent to endpoints.
        UpstreamCxTxBytes,
        /// A request was handed to an endpoint; every try counts.
        UpstreamRqTotal,
        /// The pending or the request limit refused a request.
        UpstreamRqPendingOverflow,
        /// A request was tried again.
        UpstreamRqRetry,
        /// A retry was not made because of the retry limit.
        UpstreamRqRetryOverflow,
        /// A retry was not made because the service asked for a longer pause than is waited.
        RetryAfterTooLong,
        /// A late request was sent to another endpoint too.
        Hedges,
        /// The other endpoint answered first.
        HedgesWon,
        /// An endpoint was asked for its load.
        LoadProbes,
        /// An endpoint was asked for its load and said nothing of it.
        LoadProbesInVain,
        /// An endpoint that could not be connected to was tried again in the background.
        UnreachableProbes,
        /// A request was more than the rate limit allows.
        RateLimited,
        /// Every endpoint had as many requests as its bulkhead allows.
        BulkheadRefused,
        /// Another destination was asked instead.
        FallbackDestination,
        /// The last good answer was given instead.
        FallbackLastGood,
        /// A fixed answer was given instead.
        FallbackResponse,
        /// A request was sent that identical ones may wait for.
        CoalescingLeaders,
        /// A request was answered with the answer of an identical one.
        CoalescingFollowers,
        /// A request waited for an identical one in vain.
        CoalescingReleased,
        /// A request neither waited nor was waited for because of a bound.
        CoalescingOverflow,
        /// The route's timeout ended a request.
        UpstreamRqTimeout,
        /// The timeout of one try ended that try.
        UpstreamRqPerTryTimeout,
    }
}

closed_set! {
    /// What goes up and down per cluster. Raise and lower it on the same worker.
    ClusterGauge {
        /// Open connections, idle ones included.
        UpstreamCxActive,
        /// Requests that are with an endpoint.
        UpstreamRqActive,
        /// Requests that wait for a connection.
        UpstreamRqPendingActive,
    }
}

closed_set! {
    /// Why a limit or a rule of the data path refused a connection or a request. Each is one label value of
    /// `meshwright_refusals_total`.
    RefusalReason {
        /// The limit of downstream connections is reached.
        ConnectionLimit,
        /// The limit of connections from one source is reached.
        SourceConnectionLimit,
        /// The process is short of memory.
        MemoryLimit,
        /// The request head did not arrive in time.
        HeadTimeout,
        /// A keep-alive connection stayed idle for too long.
        IdleTimeout,
        /// Nothing of a body moved for too long.
        StreamIdleTimeout,
        /// The request line is too long.
        RequestLineTooLong,
        /// The header section has too many bytes.
        HeadersTooLarge,
        /// The header section has too many fields.
        TooManyHeaders,
        /// A chunk line or the trailer section breaks its limit.
        ChunkedBodyLimit,
        /// The request is malformed or its framing is ambiguous.
        MalformedRequest,
        /// CONNECT or another method that is not served.
        MethodNotAllowed,
        /// A protocol version that is not served.
        VersionNotSupported,
        /// A transfer coding other than `chunked`.
        UnsupportedTransferCoding,
        /// An expectation other than `100-continue`.
        ExpectationFailed,
        /// The mesh listener does not know the host.
        UnknownHost,
        /// The response head of an endpoint breaks a limit.
        UpstreamHeadLimit,
        /// An HTTP/2 client reset too many streams.
        StreamResets,
        /// An HTTP/2 client sent too many PING frames.
        Pings,
        /// An HTTP/2 client sent too many SETTINGS or GOAWAY frames.
        Settings,
        /// An HTTP/2 client sent too many PRIORITY, WINDOW_UPDATE, unknown or tiny DATA frames.
        Glitches,
        /// An HTTP/2 client sent a header block in too many CONTINUATION frames.
        Continuations,
        /// The TLS handshake failed.
        TlsHandshake,
        /// No server of the port has the name that a TLS client asked for.
        UnknownServerName,
        /// A PROXY header is missing or malformed.
        ProxyHeader,
        /// The authority of a request is not served under the certificate of its connection.
        MisdirectedRequest,
    }
}

impl RefusalReason {
    /// The reason that goes with a failure, for those failures that are refusals. Callers that know the exact limit
    /// ([`Self::TooManyHeaders`] rather than [`Self::HeadersTooLarge`]) name it themselves.
    pub const fn of(kind: FailureKind) -> Option<Self> {
        Some(match kind {
            FailureKind::BadRequest => Self::MalformedRequest,
            FailureKind::UriTooLong => Self::RequestLineTooLong,
            FailureKind::HeadersTooLarge => Self::HeadersTooLarge,
            FailureKind::ExpectationFailed => Self::ExpectationFailed,
            FailureKind::MethodNotAllowed => Self::MethodNotAllowed,
            FailureKind::VersionNotSupported => Self::VersionNotSupported,
            FailureKind::UnsupportedTransferCoding => Self::UnsupportedTransferCoding,
            FailureKind::RequestTimeout => Self::HeadTimeout,
            FailureKind::UnknownHost => Self::UnknownHost,
            FailureKind::StreamIdle => Self::StreamIdleTimeout,
            FailureKind::MisdirectedRequest => Self::MisdirectedRequest,
            FailureKind::MemoryShort => Self::MemoryLimit,
            FailureKind::NoRoute
            | FailureKind::NoCluster
            | FailureKind::NoHealthyUpstream
            | FailureKind::Overflow
            | FailureKind::CircuitOpen
            | FailureKind::BulkheadFull
            | FailureKind::ConcurrencyLimit
            | FailureKind::RateLimited
            | FailureKind::ConnectFailure
            | FailureKind::UpstreamClosed
            | FailureKind::UpstreamProtocol
            | FailureKind::Timeout
            | FailureKind::PerTryTimeout
            | FailureKind::UnwelcomeStatus
            | FailureKind::Defect
            | FailureKind::DownstreamClosed => return None,
        })
    }
}
