//! The field tables of `ResiliencePolicy`.

use super::super::virtual_service::{DESTINATION, HTTP_BODY};
use super::super::{API_VERSION, KIND, METADATA, STATUS};
use crate::table::{Message, PORT, TEXT_MAP, Type, UINT32, Words, choice, full, message};

const PERCENT: Type = Type::Whole(1, 100);
const COUNT: Type = Type::Whole(1, 1_000_000);

/// The whole document.
pub(crate) static DOCUMENT: Message = message(
    "ResiliencePolicy",
    &[API_VERSION, KIND, METADATA, full("spec", Type::Message(&SPEC), "The policy."), STATUS],
);

pub(super) static SPEC: Message = message(
    "ResiliencePolicy.spec",
    &[
        full("host", Type::Text, "The service, or a wildcard over several; as in DestinationRule."),
        full("circuitBreaker", Type::Message(&CIRCUIT_BREAKER), "Stops requests to what fails or is slow."),
        full("retries", Type::Message(&RETRIES), "Retries of routes that say nothing of them."),
        full("retryBudget", Type::Message(&RETRY_BUDGET), "Retries as a share of the requests; replaces maxRetries."),
        full("hedging", Type::Message(&HEDGING), "Late requests that only read are sent to another endpoint too."),
        full("adaptiveConcurrency", Type::Message(&ADAPTIVE), "A limit of requests that learns from latency."),
        full("bulkhead", Type::Message(&BULKHEAD), "How many requests each endpoint may have in flight."),
        full("rateLimit", Type::Message(&RATE_LIMIT), "How many requests there may be in a time."),
        full("fallback", Type::Message(&FALLBACK), "What is answered when the service has no good answer."),
        full("coalescing", Type::Message(&COALESCING), "Identical GETs at one time wait for one answer."),
        full("healthCheck", Type::Message(&HEALTH_CHECK), "Endpoints are asked whether they are well."),
    ],
);

static CIRCUIT_BREAKER: Message = choice(
    "ResiliencePolicy.CircuitBreaker",
    &[
        full("preset", Type::Word(&PRESETS), "Where values come from that are not given; GOBREAKER by default."),
        full("scope", Type::Word(&SCOPES), "One breaker per cluster (the default), or per endpoint of it."),
        full("mode", Type::Word(&MODES), "ENFORCE by default; OBSERVE counts and says, and refuses nothing."),
        full("consecutiveFailures", UINT32, "Failures in a row that trip; 0 is off."),
        full("failurePercent", PERCENT, "Share of failed requests in the window that trips."),
        full("slowCallDuration", Type::Duration, "Time to the head of the answer beyond which a request is slow."),
        full("slowCallPercent", PERCENT, "Share of slow requests in the window that trips; 100 by default."),
        full("minimumCalls", UINT32, "Requests in the window before a share is looked at."),
        full("windowCalls", COUNT, "Shares are taken over so many requests."),
        full("windowTime", Type::Duration, "Shares are taken over so long, in buckets of a tenth."),
        full("interval", Type::DurationOrZero, "Shares are taken from the start, anew at every interval; 0s is never."),
        full("maxRequests", COUNT, "Requests let through while half-open."),
        full("probesByRates", Type::Boolean, "Judge these by their shares instead of each by itself."),
        full("maxHalfOpenTime", Type::DurationOrZero, "Longest time half-open; 0s, the default, is without end."),
        full("timeout", Type::Duration, "Time that it stays open the first time."),
        full("timeoutGrowthPercent", Type::Whole(100, 1_000), "Each further open time in percent of the one before."),
        full("maxTimeout", Type::Duration, "Longest open time; ten times timeout where that grows."),
        full("timeoutJitterPercent", Type::Whole(0, 100), "Share around the open time from which it is drawn."),
    ],
    &[&["windowCalls", "windowTime", "interval"]],
);

static PRESETS: Words =
    Words { what: "preset", values: &[("GOBREAKER", 0), ("HYSTRIX", 1), ("RESILIENCE4J", 2), ("SERVICE_NAME", 3)] };

static SCOPES: Words = Words { what: "scope", values: &[("CLUSTER", 0), ("ENDPOINT", 1)] };

static MODES: Words = Words { what: "mode", values: &[("ENFORCE", 0), ("OBSERVE", 1)] };

static RETRIES: Message = message(
    "ResiliencePolicy.Retries",
    &[
        full("attempts", Type::Whole(0, 100), "Retries after the first try; 2 by default, 0 is off."),
        full(
            "retryOn",
            Type::Text,
            "What is retried, a list as in VirtualService; `gateway-error,reset,connect-failure` by default.",
        ),
        full("methods", Type::Word(&METHODS), "What may be sent twice: SAFE (default), IDEMPOTENT or ANY."),
        full("perTryTimeout", Type::Duration, "Time for one try."),
        full("backoff", Type::Duration, "First back-off; 25ms by default."),
        full(
            "maxRetryAfter",
            Type::DurationOrZero,
            "Longest Retry-After that is waited for; 10s by default, 0s takes no notice of it.",
        ),
    ],
);

static METHODS: Words = Words { what: "methods", values: &[("SAFE", 0), ("IDEMPOTENT", 1), ("ANY", 2)] };

static RETRY_BUDGET: Message = message(
    "ResiliencePolicy.RetryBudget",
    &[
        full("percent", Type::Whole(0, 100), "Share of the requests in flight or waiting; 20 by default."),
        full("minRetryConcurrency", UINT32, "Retries that may always be in flight; 3 by default."),
    ],
);

static HEDGING: Message = choice(
    "ResiliencePolicy.Hedging",
    &[
        full(
            "percentile",
            Type::Whole(1, 99),
            "Late is what takes longer than this share of the recent ones; 95 by default.",
        ),
        full("delay", Type::Duration, "Late is what takes longer than this."),
    ],
    &[&["percentile", "delay"]],
);

static ADAPTIVE: Message = message(
    "ResiliencePolicy.AdaptiveConcurrency",
    &[
        full("algorithm", Type::Word(&ALGORITHMS), "GRADIENT2 by default."),
        full("mode", Type::Word(&MODES), "OBSERVE by default: it learns and refuses nothing. ENFORCE refuses."),
        full("initialLimit", COUNT, "Requests that may be in flight at first; 20 by default."),
        full("minLimit", COUNT, "The limit is never lower; 20 by default."),
        full("maxLimit", COUNT, "The limit is never higher; 200 by default."),
        full("window", Type::Duration, "Latencies are averaged over so long; 1s by default."),
        full(
            "criticalityHeader",
            Type::Text,
            "Header that says how critical a request is; without it all are critical.",
        ),
        full(
            "criticalityByRoute",
            TEXT_MAP,
            "How critical the requests of a route are, by its name; comes before the header.",
        ),
        full(
            "criticalityByIdentity",
            Type::List(&Type::Message(&IDENTITY)),
            "How critical requests are at most, by the client's certificate; the first that fits counts.",
        ),
        full(
            "sheddablePlusPercent",
            PERCENT,
            "Share of the limit for requests that are sheddable-plus; 80 by default.",
        ),
        full("sheddablePercent", PERCENT, "Share of the limit for requests that are sheddable; 50 by default."),
    ],
);

static IDENTITY: Message = choice(
    "ResiliencePolicy.IdentityCriticality",
    &[
        full(
            "exact",
            Type::Text,
            "A name (SAN: URI, DNS name or IP address) of the client's certificate; without it and prefix, everybody.",
        ),
        full("prefix", Type::Text, "The beginning of one."),
        full("criticality", Type::Text, "critical-plus, critical, sheddable-plus or sheddable; required."),
    ],
    &[&["exact", "prefix"]],
);

static ALGORITHMS: Words = Words { what: "algorithm", values: &[("GRADIENT2", 0), ("VEGAS", 1), ("AIMD", 2)] };

static BULKHEAD: Message = message(
    "ResiliencePolicy.Bulkhead",
    &[
        full("maxRequestsPerEndpoint", COUNT, "Requests in flight at one endpoint at most; required."),
        full("mode", Type::Word(&MODES), "ENFORCE by default; OBSERVE counts and leaves no endpoint out."),
    ],
);

static RATE_LIMIT: Message = message(
    "ResiliencePolicy.RateLimit",
    &[
        full("requests", COUNT, "Requests in every `per`; required."),
        full("per", Type::Duration, "The time that they come in, evenly; 1s by default."),
        full("burst", COUNT, "Requests that may come at once after a rest; `requests` by default."),
        full("key", Type::Message(&RATE_LIMIT_KEY), "One bucket for each value of this; without it one for all."),
        full("maxKeys", COUNT, "Keys with a bucket of their own; 10000 by default. Further keys share buckets."),
        full("mode", Type::Word(&MODES), "ENFORCE by default; OBSERVE counts and refuses nothing."),
        full("headers", Type::Boolean, "Add RateLimit and RateLimit-Policy to answers; false by default."),
    ],
);

static RATE_LIMIT_KEY: Message = message(
    "ResiliencePolicy.RateLimitKey",
    &[
        full("header", Type::Text, "The value of a header; requests without it share one bucket."),
        full("sourceIp", Type::Boolean, "The address of the client; of IPv6 its /64 network."),
        full("route", Type::Boolean, "The route that was chosen."),
    ],
);

static FALLBACK: Message = message(
    "ResiliencePolicy.Fallback",
    &[
        full(
            "statuses",
            Type::List(&Type::Whole(400, 599)),
            "Statuses of the service that are replaced too; without them only having no answer counts.",
        ),
        full("destination", Type::Message(&DESTINATION), "A service that is asked instead."),
        full(
            "lastGood",
            Type::Message(&LAST_GOOD),
            "Answers to GET are kept and given again, where no other destination has one.",
        ),
        full("response", Type::Message(&RESPONSE), "A fixed answer, where there is nothing else."),
    ],
);

static HEALTH_CHECK: Message = choice(
    "ResiliencePolicy.HealthCheck",
    &[
        full("http", Type::Message(&HTTP_CHECK), "`GET`; the default, with the path /health."),
        full("tcp", Type::Message(&TCP_CHECK), "A connection can be made."),
        full("grpc", Type::Message(&GRPC_CHECK), "`grpc.health.v1.Health/Check` answers SERVING."),
        full("port", PORT, "Port that is asked; the one that requests go to by default."),
        full("interval", Type::Duration, "From one answer to the next question; 30s by default."),
        full("intervalJitter", Type::DurationOrZero, "Each pause is longer by up to this; a tenth of it by default."),
        full("unhealthyInterval", Type::Duration, "The pause while an endpoint is out; `interval` by default."),
        full("timeout", Type::Duration, "Time for everything, at most 60s; 5s by default."),
        full("unhealthyThreshold", COUNT, "Failures in a row that take an endpoint out; 3 by default."),
        full("healthyThreshold", COUNT, "Successes in a row that bring it back; 2 by default."),
        full(
            "initialState",
            Type::Word(&INITIAL_STATES),
            "UNHEALTHY by default: an endpoint that joins takes part after its first success. HEALTHY: at once.",
        ),
    ],
    &[&["http", "tcp", "grpc"]],
);

static INITIAL_STATES: Words = Words { what: "initialState", values: &[("UNHEALTHY", 0), ("HEALTHY", 1)] };

static HTTP_CHECK: Message = message(
    "ResiliencePolicy.HttpHealthCheck",
    &[
        full("path", Type::Text, "Path and query; /health by default."),
        full("host", Type::Text, "`Host` of the request; the endpoint's address and port by default."),
        full("headers", TEXT_MAP, "Further fields of the request."),
        full(
            "expectedStatuses",
            Type::List(&Type::NumberOrText),
            "Statuses that are successes, such as 204 or 200-299; 200 by default. Redirects are not followed.",
        ),
    ],
);

static TCP_CHECK: Message = message("ResiliencePolicy.TcpHealthCheck", &[]);

static GRPC_CHECK: Message = message(
    "ResiliencePolicy.GrpcHealthCheck",
    &[
        full("service", Type::Text, "Service that is asked about; the server as a whole by default."),
        full("authority", Type::Text, "Authority of the call; the endpoint's address and port by default."),
    ],
);

static LAST_GOOD: Message = message(
    "ResiliencePolicy.LastGood",
    &[
        full(
            "staleIfError",
            Type::Duration,
            "How long an answer that is stale may stand in, where it has no `stale-if-error`; 5m by default.",
        ),
        full("maxAnswerBytes", Type::Whole(1, 16 << 20), "Longer answers are not kept; 262144 by default."),
        full("maxBytes", Type::Whole(1, 1 << 30), "All kept answers with their heads; 16777216 by default."),
        full("maxEntries", COUNT, "Answers that are kept; 1000 by default. The least recently used goes."),
    ],
);

static RESPONSE: Message = message(
    "ResiliencePolicy.FallbackResponse",
    &[
        full("status", Type::Whole(200, 599), "Status; 200 by default."),
        full("headers", TEXT_MAP, "Fields of the head; content-type is text/plain where a body has none."),
        full("body", Type::Message(&HTTP_BODY), "Body, at most 64 KiB."),
    ],
);

static COALESCING: Message = message(
    "ResiliencePolicy.Coalescing",
    &[
        full("timeout", Type::Duration, "How long a request is waited for, from when it came; 5s by default."),
        full("maxAnswerBytes", Type::Whole(1, 16 << 20), "Longer answers are not shared; 262144 by default."),
        full(
            "maxKeys",
            COUNT,
            "Requests that are waited for at one time; 1000 by default. Further ones are sent alone.",
        ),
        full("maxWaiters", COUNT, "Requests that wait at one time; 10000 by default. Further ones are sent alone."),
    ],
);
