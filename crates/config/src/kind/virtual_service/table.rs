//! The field tables of `VirtualService`.

use crate::table::{
    INT32, Message, PORT, TEXT_MAP, TEXTS, Type, UINT32, Words, choice, full, message, refused, warned,
};

use super::super::{API_VERSION, KIND, METADATA, STATUS};

/// The whole document.
pub(crate) static DOCUMENT: Message = message(
    "VirtualService",
    &[API_VERSION, KIND, METADATA, full("spec", Type::Message(&SPEC), "The virtual service."), STATUS],
);

/// `spec`.
pub(super) static SPEC: Message = message(
    "VirtualService.spec",
    &[
        full("hosts", TEXTS, "Hosts that it is for: names, `*.suffix`, or `*` at gateways."),
        full("gateways", TEXTS, "Gateways that it binds to, `name` or `namespace/name`; `mesh` when absent."),
        full("http", Type::List(&Type::Message(&HTTP_ROUTE)), "Routes in order; the first that matches wins."),
        full("tls", Type::List(&Type::Message(&TLS_ROUTE)), "Routes for TLS that a gateway passes on, by server name."),
        full(
            "tcp",
            Type::List(&Type::Message(&TCP_ROUTE)),
            "Routes for connections to TCP and TLS ports of a gateway.",
        ),
        full("exportTo", TEXTS, "Namespaces that see it; `*` works, other values have no effect."),
    ],
);

/// `http[]`.
static HTTP_ROUTE: Message = message(
    "HTTPRoute",
    &[
        full("name", Type::Text, "Name of the route, for the access log."),
        full("match", Type::List(&Type::Message(&HTTP_MATCH)), "Alternatives; absent matches everything."),
        full("route", Type::List(&Type::Message(&HTTP_DESTINATION)), "Destinations with weights."),
        full("redirect", Type::Message(&REDIRECT), "Answer with a redirect instead."),
        full("directResponse", Type::Message(&DIRECT_RESPONSE), "Answer with a fixed response instead."),
        refused(
            "delegate",
            Type::Message(&DELEGATE),
            "Take the routes of another virtual service.",
            "without them the route would have no action",
        ),
        full("rewrite", Type::Message(&REWRITE), "Change path or host before forwarding."),
        full("timeout", Type::DurationOrZero, "Time for the whole request; 0s and absent are no limit."),
        full("retries", Type::Message(&RETRIES), "What is tried again; Istio's default policy when absent."),
        warned("fault", Type::Message(&FAULT), "Delays and aborts made on purpose.", "no fault is injected"),
        warned("mirror", Type::Message(&DESTINATION), "A destination that gets copies.", "nothing is mirrored"),
        warned("mirrors", Type::List(&Type::Message(&MIRROR)), "Destinations that get copies.", "nothing is mirrored"),
        warned("mirrorPercent", UINT32, "Deprecated share of mirrored requests.", "nothing is mirrored"),
        warned("mirrorPercentage", Type::Message(&PERCENT), "Share of mirrored requests.", "nothing is mirrored"),
        warned(
            "corsPolicy",
            Type::Message(&CORS),
            "Cross-origin answers.",
            "preflight requests go to the service and no CORS headers are added",
        ),
        full("headers", Type::Message(&HEADERS), "Header changes for every destination."),
    ],
);

/// `match[]`.
static HTTP_MATCH: Message = Message {
    name: "HTTPMatchRequest",
    fields: &[
        full("name", Type::Text, "Name of the alternative, for the access log."),
        full("uri", Type::Message(&STRING_MATCH), "Path without query."),
        full("scheme", Type::Message(&STRING_MATCH), "`http` or `https`."),
        full("method", Type::Message(&STRING_MATCH), "Method."),
        full("authority", Type::Message(&STRING_MATCH), "Host header as sent, port included."),
        full("headers", Type::Map(&Type::Message(&STRING_MATCH)), "Headers that must match; `{}` is presence."),
        full("port", PORT, "Port that the request came to."),
        refused(
            "sourceLabels",
            TEXT_MAP,
            "Labels of the calling workload.",
            "without the condition the rule would match every caller",
        ),
        full("gateways", TEXTS, "Overrides the gateways of the virtual service."),
        full("queryParams", Type::Map(&Type::Message(&STRING_MATCH)), "Query parameters that must match."),
        full("ignoreUriCase", Type::Boolean, "Compare exact and prefix paths without regard to case."),
        full("withoutHeaders", Type::Map(&Type::Message(&STRING_MATCH)), "Headers that must not match."),
        refused(
            "sourceNamespace",
            Type::Text,
            "Namespace of the calling workload.",
            "without the condition the rule would match every caller",
        ),
        warned("statPrefix", Type::Text, "Prefix of the statistics of this route.", "no statistics of its own"),
    ],
    one_of: &[],
    no_null: true,
    open: false,
};

/// A condition on one value.
static STRING_MATCH: Message = Message {
    name: "StringMatch",
    fields: &[
        full("exact", Type::Text, "The value is exactly this."),
        full("prefix", Type::Text, "The value starts with this; a plain string, not path segments."),
        full("regex", Type::Text, "The whole value matches this regular expression (RE2 syntax)."),
    ],
    one_of: &[&["exact", "prefix", "regex"]],
    no_null: true,
    open: false,
};

/// `route[]`.
static HTTP_DESTINATION: Message = message(
    "HTTPRouteDestination",
    &[
        full("destination", Type::Message(&DESTINATION), "Where to."),
        full("weight", INT32, "Share of the sum of weights."),
        full("headers", Type::Message(&HEADERS), "Header changes for this destination, after those of the route."),
    ],
);

/// `destination`.
pub(crate) static DESTINATION: Message = message(
    "Destination",
    &[
        full("host", Type::Text, "A service: short name, `name.namespace`, full name or external host."),
        full("subset", Type::Text, "A subset of its destination rule."),
        full("port", Type::Message(&PORT_SELECTOR), "Port of the service; needed when it has several."),
    ],
);

static PORT_SELECTOR: Message = message("PortSelector", &[full("number", PORT, "Port number.")]);

static REDIRECT: Message = choice(
    "HTTPRedirect",
    &[
        full("uri", Type::Text, "Replaces the whole path; the query stays."),
        full("prefixRewrite", Type::Text, "Replaces the matched prefix."),
        full("authority", Type::Text, "Replaces the host."),
        full("port", PORT, "Port in the location."),
        full("derivePort", Type::Word(&DERIVE_PORT), "Where the port comes from."),
        full("scheme", Type::Text, "`http` or `https`."),
        full("redirectCode", UINT32, "301 (default), 302, 303, 307 or 308."),
    ],
    &[&["port", "derivePort"]],
);

static DERIVE_PORT: Words =
    Words { what: "derivePort", values: &[("FROM_PROTOCOL_DEFAULT", 0), ("FROM_REQUEST_PORT", 1)] };

static DIRECT_RESPONSE: Message = message(
    "HTTPDirectResponse",
    &[
        full("status", UINT32, "Status, 200 to 599."),
        full("body", Type::Message(&DIRECT_RESPONSE_BODY), "Body, at most 1 MiB."),
    ],
);

pub(crate) static DIRECT_RESPONSE_BODY: Message = choice(
    "HTTPBody",
    &[full("string", Type::Text, "Body as text."), full("bytes", Type::Bytes, "Body as base64.")],
    &[&["string", "bytes"]],
);

static DELEGATE: Message = message(
    "Delegate",
    &[
        refused("name", Type::Text, "Name of the virtual service.", "the route would have no action"),
        refused("namespace", Type::Text, "Its namespace.", "the route would have no action"),
    ],
);

static REWRITE: Message = message(
    "HTTPRewrite",
    &[
        full("uri", Type::Text, "Replaces the matched prefix, or the whole path of an exact or regex match."),
        full("authority", Type::Text, "Replaces the Host header."),
        full("uriRegexRewrite", Type::Message(&REGEX_REWRITE), "Substitution in the path."),
    ],
);

static REGEX_REWRITE: Message = message(
    "RegexRewrite",
    &[
        full("match", Type::Text, "Regular expression (RE2 syntax)."),
        full("rewrite", Type::Text, "Replacement; `\\1` is the first group."),
    ],
);

static RETRIES: Message = message(
    "HTTPRetry",
    &[
        full("attempts", INT32, "Retries after the first try; 0 is off."),
        full("perTryTimeout", Type::Duration, "Time for one try."),
        full("retryOn", Type::Text, "What is retried, a comma-separated list."),
        warned(
            "retryRemoteLocalities",
            Type::Boolean,
            "Retry in other localities.",
            "localities are not looked at when a retry chooses its endpoint",
        ),
        full("retryIgnorePreviousHosts", Type::Boolean, "Prefer endpoints that were not tried; true by default."),
        full("backoff", Type::Duration, "First back-off; 25ms by default."),
    ],
);

static PERCENT: Message = message("Percent", &[full("value", Type::Number, "0 to 100.")]);

static FAULT: Message = message(
    "HTTPFaultInjection",
    &[full("delay", Type::Message(&FAULT_DELAY), "Delay."), full("abort", Type::Message(&FAULT_ABORT), "Abort.")],
);

static FAULT_DELAY: Message = choice(
    "HTTPFaultInjection.Delay",
    &[
        full("percent", INT32, "Deprecated share."),
        full("percentage", Type::Message(&PERCENT), "Share of requests."),
        full("fixedDelay", Type::Duration, "The delay."),
        full("exponentialDelay", Type::Duration, "Never implemented by Istio."),
    ],
    &[&["fixedDelay", "exponentialDelay"]],
);

static FAULT_ABORT: Message = choice(
    "HTTPFaultInjection.Abort",
    &[
        full("httpStatus", INT32, "Status to answer with."),
        full("grpcStatus", Type::Text, "gRPC status to answer with."),
        full("http2Error", Type::Text, "Never implemented by Istio."),
        full("percentage", Type::Message(&PERCENT), "Share of requests."),
    ],
    &[&["httpStatus", "grpcStatus", "http2Error"]],
);

static MIRROR: Message = message(
    "HTTPMirrorPolicy",
    &[
        full("destination", Type::Message(&DESTINATION), "Where copies go."),
        full("percentage", Type::Message(&PERCENT), "Share of requests."),
    ],
);

static CORS: Message = message(
    "CorsPolicy",
    &[
        full("allowOrigin", TEXTS, "Deprecated list of origins."),
        full("allowOrigins", Type::List(&Type::Message(&STRING_MATCH)), "Origins."),
        full("allowMethods", TEXTS, "Methods."),
        full("allowHeaders", TEXTS, "Request headers."),
        full("exposeHeaders", TEXTS, "Response headers."),
        full("maxAge", Type::DurationOrZero, "Time that a preflight answer is kept."),
        full("allowCredentials", Type::Boolean, "Whether credentials may be sent."),
        full("unmatchedPreflights", Type::Word(&PREFLIGHTS), "What happens to other preflights."),
    ],
);

static PREFLIGHTS: Words =
    Words { what: "unmatchedPreflights", values: &[("UNSPECIFIED", 0), ("FORWARD", 1), ("IGNORE", 2)] };

static HEADERS: Message = message(
    "Headers",
    &[
        full("request", Type::Message(&HEADER_OPERATIONS), "Changes on the way to the service."),
        full("response", Type::Message(&HEADER_OPERATIONS), "Changes on the way back."),
    ],
);

static HEADER_OPERATIONS: Message = message(
    "HeaderOperations",
    &[
        full("set", TEXT_MAP, "Overwrite."),
        full("add", TEXT_MAP, "Append another value."),
        full("remove", TEXTS, "Remove."),
    ],
);

static TLS_ROUTE: Message = message(
    "TLSRoute",
    &[
        full("match", Type::List(&Type::Message(&TLS_MATCH)), "Alternatives, at least one."),
        full("route", Type::List(&Type::Message(&ROUTE_DESTINATION)), "Destinations with weights, per connection."),
    ],
);

static TLS_MATCH: Message = Message {
    name: "TLSMatchAttributes",
    fields: &[
        full("sniHosts", TEXTS, "Server names or `*.suffix`, each covered by a host of the virtual service."),
        full("destinationSubnets", TEXTS, "Networks of the address that the client connected to."),
        full("port", PORT, "Port that the client connected to."),
        refused(
            "sourceLabels",
            TEXT_MAP,
            "Labels of the calling workload.",
            "without the condition the rule would match every caller",
        ),
        full("gateways", TEXTS, "Overrides the gateways of the virtual service."),
        refused(
            "sourceNamespace",
            Type::Text,
            "Namespace of the calling workload.",
            "without the condition the rule would match every caller",
        ),
    ],
    one_of: &[],
    no_null: true,
    open: false,
};

static TCP_ROUTE: Message = message(
    "TCPRoute",
    &[
        full("match", Type::List(&Type::Message(&L4_MATCH)), "Alternatives; absent matches everything."),
        full("route", Type::List(&Type::Message(&ROUTE_DESTINATION)), "Destinations with weights, per connection."),
    ],
);

static L4_MATCH: Message = Message {
    name: "L4MatchAttributes",
    fields: &[
        full("destinationSubnets", TEXTS, "Networks of the address that the client connected to."),
        full("port", PORT, "Port that the client connected to."),
        refused(
            "sourceLabels",
            TEXT_MAP,
            "Labels of the calling workload.",
            "without the condition the rule would match every caller",
        ),
        full("gateways", TEXTS, "Overrides the gateways of the virtual service."),
        refused(
            "sourceNamespace",
            Type::Text,
            "Namespace of the calling workload.",
            "without the condition the rule would match every caller",
        ),
        refused(
            "sourceSubnet",
            Type::Text,
            "Never implemented by Istio.",
            "without the condition the rule would match every caller",
        ),
    ],
    one_of: &[],
    no_null: true,
    open: false,
};

static ROUTE_DESTINATION: Message = message(
    "RouteDestination",
    &[
        full("destination", Type::Message(&DESTINATION), "Where to."),
        full("weight", INT32, "Share of the sum of weights."),
    ],
);
