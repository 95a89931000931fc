//! The field tables of `DestinationRule`.

use crate::table::{
    INT32, Message, PORT, TEXT_MAP, TEXTS, Type, UINT32, Words, choice, full, message, refused, warned,
};

use super::super::{API_VERSION, KIND, METADATA, STATUS};

/// The whole document.
pub(crate) static DOCUMENT: Message = message(
    "DestinationRule",
    &[API_VERSION, KIND, METADATA, full("spec", Type::Message(&SPEC), "The destination rule."), STATUS],
);

/// `spec`.
pub(super) static SPEC: Message = message(
    "DestinationRule.spec",
    &[
        full("host", Type::Text, "The service, or a wildcard over several."),
        full("trafficPolicy", Type::Message(&TRAFFIC_POLICY), "Policy of the whole destination."),
        full("subsets", Type::List(&Type::Message(&SUBSET)), "Named selections of its endpoints by labels."),
        full("exportTo", TEXTS, "Namespaces that see it; `*` works, other values have no effect."),
        refused(
            "workloadSelector",
            Type::Message(&WORKLOAD_SELECTOR),
            "Calling workloads that the rule is for.",
            "without it the rule would hold for every caller",
        ),
    ],
);

static WORKLOAD_SELECTOR: Message =
    message("WorkloadSelector", &[refused("matchLabels", TEXT_MAP, "Labels.", "the rule would hold for every caller")]);

static SUBSET: Message = message(
    "Subset",
    &[
        full("name", Type::Text, "Name used by routes."),
        full("labels", TEXT_MAP, "All must be equal; none selects every endpoint."),
        full("trafficPolicy", Type::Message(&TRAFFIC_POLICY), "Blocks given here replace the rule's blocks whole."),
    ],
);

/// `trafficPolicy`.
static TRAFFIC_POLICY: Message = message(
    "TrafficPolicy",
    &[
        full("loadBalancer", Type::Message(&LOAD_BALANCER), "How an endpoint is chosen."),
        full("connectionPool", Type::Message(&CONNECTION_POOL), "Limits and timeouts."),
        full("outlierDetection", Type::Message(&OUTLIER_DETECTION), "Ejection of failing endpoints."),
        full("circuitBreaker", Type::Message(&OUTLIER_DETECTION), "Not Istio's: an alias of outlierDetection."),
        full("tls", Type::Message(&TLS), "TLS to the service; clear text when absent."),
        full("portLevelSettings", Type::List(&Type::Message(&PORT_POLICY)), "Policies of single ports."),
        warned("tunnel", Type::Message(&TUNNEL), "Tunnel to the service.", "connections are made directly"),
        full("proxyProtocol", Type::Message(&PROXY_PROTOCOL), "A PROXY header at the start of every connection."),
        full("retryBudget", Type::Message(&RETRY_BUDGET), "Retries as a share of the requests; replaces maxRetries."),
    ],
);

static PORT_POLICY: Message = message(
    "PortTrafficPolicy",
    &[
        full("port", Type::Message(&PORT_SELECTOR), "Port of the service."),
        full("loadBalancer", Type::Message(&LOAD_BALANCER), "How an endpoint is chosen."),
        full("connectionPool", Type::Message(&CONNECTION_POOL), "Limits and timeouts."),
        full("outlierDetection", Type::Message(&OUTLIER_DETECTION), "Ejection of failing endpoints."),
        full("circuitBreaker", Type::Message(&OUTLIER_DETECTION), "Not Istio's: an alias of outlierDetection."),
        full("tls", Type::Message(&TLS), "TLS to the service; clear text when absent."),
    ],
);

static PORT_SELECTOR: Message = message("PortSelector", &[full("number", PORT, "Port number.")]);

static LOAD_BALANCER: Message = choice(
    "LoadBalancerSettings",
    &[
        full("simple", Type::Word(&SIMPLE), "LEAST_REQUEST (default), ROUND_ROBIN or RANDOM."),
        full("consistentHash", Type::Message(&CONSISTENT_HASH), "The same endpoint for the same key."),
        full("localityLbSetting", Type::Message(&LOCALITY), "Preference of near endpoints; needs `--locality`."),
        full("zoneAwareLbSetting", Type::Message(&ZONE_AWARE), "The own zone as far as it can carry its share."),
        full("warmup", Type::Message(&WARMUP), "Slow start of new endpoints."),
        full("warmupDurationSecs", Type::Duration, "Deprecated; read as `warmup.duration`."),
    ],
    &[&["simple", "consistentHash"]],
);

static SIMPLE: Words = Words {
    what: "load balancer",
    values: &[
        ("UNSPECIFIED", 0),
        ("LEAST_CONN", 1),
        ("RANDOM", 2),
        ("PASSTHROUGH", 3),
        ("ROUND_ROBIN", 4),
        ("LEAST_REQUEST", 5),
    ],
};

static CONSISTENT_HASH: Message = choice(
    "ConsistentHashLB",
    &[
        full("httpHeaderName", Type::Text, "Key: a header."),
        full("httpCookie", Type::Message(&HTTP_COOKIE), "Key: a cookie."),
        full("useSourceIp", Type::Boolean, "Key: the address of the client."),
        full("httpQueryParameterName", Type::Text, "Key: a query parameter."),
        full("ringHash", Type::Message(&RING_HASH), "A ring (the default)."),
        full("maglev", Type::Message(&MAGLEV), "A Maglev table."),
        full("minimumRingSize", UINT32, "Deprecated; read as `ringHash.minimumRingSize`."),
    ],
    &[&["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"], &["ringHash", "maglev"]],
);

static HTTP_COOKIE: Message = message(
    "HTTPCookie",
    &[
        full("name", Type::Text, "Name."),
        full("path", Type::Text, "Path."),
        full("ttl", Type::DurationOrZero, "Lifetime; 0s is the session. Without it no cookie is made."),
        full(
            "attributes",
            Type::List(&Type::Message(&COOKIE_ATTRIBUTE)),
            "Further attributes of a cookie that is made.",
        ),
    ],
);

static COOKIE_ATTRIBUTE: Message =
    message("HTTPCookie.Attribute", &[full("name", Type::Text, "Name."), full("value", Type::Text, "Value.")]);

static RING_HASH: Message =
    message("RingHash", &[full("minimumRingSize", UINT32, "Entries at least; 1024 by default.")]);

static MAGLEV: Message = message("MagLev", &[full("tableSize", UINT32, "Slots, a prime number; 65537 by default.")]);

static LOCALITY: Message = message(
    "LocalityLoadBalancerSetting",
    &[
        full("distribute", Type::List(&Type::Message(&DISTRIBUTE)), "Fixed shares."),
        full("failover", Type::List(&Type::Message(&FAILOVER)), "Which region stands in for which."),
        full("failoverPriority", TEXTS, "Labels: the more an endpoint shares with us from the first on, the better."),
        full("enabled", Type::Boolean, "On or off."),
    ],
);

static DISTRIBUTE: Message = message(
    "Distribute",
    &[full("from", Type::Text, "Locality of the caller."), full("to", Type::Map(&UINT32), "Shares by locality.")],
);

static FAILOVER: Message =
    message("Failover", &[full("from", Type::Text, "Region."), full("to", Type::Text, "Region.")]);

static ZONE_AWARE: Message = message(
    "ZoneAwareLoadBalancerSetting",
    &[
        full("enabled", Type::Boolean, "On or off."),
        full("failover", Type::List(&Type::Message(&FAILOVER)), "Which region stands in for which."),
        full("failoverPriority", TEXTS, "Labels: the more an endpoint shares with us from the first on, the better."),
        full("minClusterSize", UINT32, "With fewer endpoints zones are not regarded; 6 by default."),
    ],
);

static WARMUP: Message = message(
    "WarmupConfiguration",
    &[
        full("duration", Type::Duration, "Time until a new endpoint has its whole share."),
        full("minimumPercent", Type::Number, "Least share of the weight; 10 by default."),
        full("aggression", Type::Number, "Shape: 1 (default) is a straight line, more rises sooner."),
    ],
);

/// `connectionPool`.
static CONNECTION_POOL: Message = message(
    "ConnectionPoolSettings",
    &[full("tcp", Type::Message(&POOL_TCP), "Connections."), full("http", Type::Message(&POOL_HTTP), "Requests.")],
);

static POOL_TCP: Message = message(
    "TCPSettings",
    &[
        full("maxConnections", INT32, "Connections to the destination as a whole."),
        full("connectTimeout", Type::Duration, "Time to connect; 10s by default."),
        full("tcpKeepalive", Type::Message(&TCP_KEEPALIVE), "Keep-alive probes of TCP."),
        full("maxConnectionDuration", Type::Duration, "Age at which a connection gets no further request."),
        full("idleTimeout", Type::DurationOrZero, "Time that an unused connection is kept; 0s is for ever."),
    ],
);

static TCP_KEEPALIVE: Message = message(
    "TcpKeepalive",
    &[
        full("probes", UINT32, "Probes without answer until the connection is dead."),
        full("time", Type::Duration, "Idle time before the first probe."),
        full("interval", Type::Duration, "Time between probes."),
    ],
);

static POOL_HTTP: Message = message(
    "HTTPSettings",
    &[
        full("http1MaxPendingRequests", INT32, "Requests that wait for a connection."),
        full("http2MaxRequests", INT32, "Requests in flight, HTTP/1 too."),
        full("maxRequestsPerConnection", INT32, "Requests that one connection serves; 1 switches keep-alive off."),
        full("maxRetries", INT32, "Retries in flight."),
        full("idleTimeout", Type::DurationOrZero, "Time that an unused connection is kept; 1h by default."),
        full("h2UpgradePolicy", Type::Word(&UPGRADE_POLICY), "UPGRADE speaks HTTP/2 to ports that do not say so."),
        full("useClientProtocol", Type::Boolean, "Speak what the client speaks."),
        full("maxConcurrentStreams", INT32, "Requests that one HTTP/2 connection carries at once; 100 by default."),
        full("http2KeepAlive", Type::Message(&HTTP2_KEEPALIVE), "HTTP/2 pings; off by default."),
    ],
);

static HTTP2_KEEPALIVE: Message = message(
    "Http2KeepAlive",
    &[full("interval", Type::Duration, "Time between pings."), full("timeout", Type::Duration, "Time for an answer.")],
);

static UPGRADE_POLICY: Words =
    Words { what: "h2UpgradePolicy", values: &[("DEFAULT", 0), ("DO_NOT_UPGRADE", 1), ("UPGRADE", 2)] };

/// `outlierDetection`.
static OUTLIER_DETECTION: Message = message(
    "OutlierDetection",
    &[
        full("consecutiveErrors", INT32, "Deprecated; read as consecutive5xxErrors."),
        full("consecutive5xxErrors", UINT32, "5xx answers and local failures in a row; 5 by default, 0 is off."),
        full("consecutiveGatewayErrors", UINT32, "502, 503, 504 and local failures in a row; off by default."),
        full("splitExternalLocalOriginErrors", Type::Boolean, "Count local failures apart from answers."),
        full("consecutiveLocalOriginFailures", UINT32, "Local failures in a row, with the split; 5 by default."),
        full("interval", Type::Duration, "Time between sweeps that end ejections; 10s by default."),
        full("baseEjectionTime", Type::Duration, "Ejection lasts this times the ejections in a row; 30s by default."),
        full("maxEjectionPercent", INT32, "Share of endpoints that may be out at once; 10 by default, one always may."),
        full("minHealthPercent", INT32, "Below this share of healthy endpoints ejection is ignored; 0 by default."),
        full("outlierDetectionHttpErrorCodes", Type::List(&UINT32), "What counts as an error; every 5xx by default."),
    ],
);

static TLS: Message = message(
    "ClientTLSSettings",
    &[
        full("mode", Type::Word(&TLS_MODES), "DISABLE, SIMPLE or MUTUAL; ISTIO_MUTUAL is an error in this version."),
        full("clientCertificate", Type::Text, "Own certificate for MUTUAL, a PEM file."),
        full("privateKey", Type::Text, "Its key, a PEM file that is not encrypted."),
        full("caCertificates", Type::Text, "Authorities of the service, a PEM file; those of the system when absent."),
        full("credentialName", Type::Text, "Secret with the authorities, and for MUTUAL the certificate and key."),
        full("subjectAltNames", TEXTS, "Names of which the certificate must have one, instead of the server name."),
        full("sni", Type::Text, "Server name that is asked for; the host of the service by default."),
        full("insecureSkipVerify", Type::Boolean, "Take any certificate; a warning says so."),
        full("caCrl", Type::Text, "Revoked certificates, a PEM file."),
    ],
);

static TLS_MODES: Words =
    Words { what: "TLS mode", values: &[("DISABLE", 0), ("SIMPLE", 1), ("MUTUAL", 2), ("ISTIO_MUTUAL", 3)] };

static TUNNEL: Message = message(
    "TunnelSettings",
    &[
        full("protocol", Type::Text, "CONNECT or POST."),
        full("targetHost", Type::Text, "Host behind the tunnel."),
        full("targetPort", UINT32, "Port behind the tunnel."),
    ],
);

static PROXY_PROTOCOL: Message =
    message("ProxyProtocol", &[full("version", Type::Word(&PROXY_VERSIONS), "V1 (text, the default) or V2 (binary).")]);

static PROXY_VERSIONS: Words = Words { what: "version", values: &[("V1", 0), ("V2", 1)] };

static RETRY_BUDGET: Message = message(
    "RetryBudget",
    &[
        full("percent", Type::Number, "Share of the requests in flight or waiting, 0 to 100; 20 by default."),
        full("minRetryConcurrency", UINT32, "Retries that may always be in flight; 3 by default."),
        warned(
            "budgetInterval",
            Type::Duration,
            "Time over which requests count.",
            "only requests that are in flight or wait at this moment count",
        ),
    ],
);
