//! `ResiliencePolicy`, our own kind: circuit breaker, retry budget and adaptive concurrency of a host, for which Istio has
//! no field.
//!
//! Knows one document. Whether the host exists is asked in `check/destination.rs`, which policy a service gets is decided
//! in `meshwright-snapshot`.

use std::time::Duration;

use meshwright_model::{
    AdaptiveConcurrency, BreakerPreset, BreakerScope, BreakerWindow, CircuitBreaker, ConcurrencyAlgorithm, Diagnostic,
    Enforcement, ResiliencePolicy, ResilienceSettings, RetryBudget,
};

use super::{API_VERSION, Document, KIND, METADATA, Object, STATUS};
use crate::finding::Reporter;
use crate::name;
use crate::record::Record;
use crate::table::{Message, Type, UINT32, Words, choice, full, message};

/// The `apiVersion` of our own kinds.
pub(super) const API_VERSIONS: &[&str] = &["meshwright.io/v1alpha1"];

const PERCENT: Type = Type::Whole(1, 100);
const COUNT: Type = Type::Whole(1, 1_000_000);

/// The whole document.
pub(super) static DOCUMENT: Message = message(
    "ResiliencePolicy",
    &[API_VERSION, KIND, METADATA, full("spec", Type::Message(&SPEC), "The policy."), STATUS],
);

static SPEC: Message = message(
    "ResiliencePolicy.spec",
    &[
        full("host", Type::Text, "The service, or a wildcard over several; as in DestinationRule."),
        full("circuitBreaker", Type::Message(&CIRCUIT_BREAKER), "Stops requests to what fails or is slow."),
        full("retryBudget", Type::Message(&RETRY_BUDGET), "Retries as a share of the requests; replaces maxRetries."),
        full("adaptiveConcurrency", Type::Message(&ADAPTIVE), "A limit of requests that learns from latency."),
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

static RETRY_BUDGET: Message = message(
    "ResiliencePolicy.RetryBudget",
    &[
        full("percent", Type::Whole(0, 100), "Share of the requests in flight or waiting; 20 by default."),
        full("minRetryConcurrency", UINT32, "Retries that may always be in flight; 3 by default."),
    ],
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
            "sheddablePlusPercent",
            PERCENT,
            "Share of the limit for requests that are sheddable-plus; 80 by default.",
        ),
        full("sheddablePercent", PERCENT, "Share of the limit for requests that are sheddable; 50 by default."),
    ],
);

static ALGORITHMS: Words = Words { what: "algorithm", values: &[("GRADIENT2", 0), ("VEGAS", 1), ("AIMD", 2)] };

/// Reads a resilience policy.
pub(super) fn read(document: Document<'_>, reporter: &mut Reporter<'_>) -> Object<ResiliencePolicy> {
    let spec = document.spec(&SPEC);
    let settings = ResilienceSettings {
        circuit_breaker: spec.record("circuitBreaker").map(|block| read_breaker(block, reporter)),
        retry_budget: spec.record("retryBudget").map(read_budget),
        adaptive_concurrency: spec.record("adaptiveConcurrency").map(|block| read_adaptive(block, reporter)),
    };
    let blocks = ["circuitBreaker", "retryBudget", "adaptiveConcurrency"];
    if !blocks.iter().any(|block| spec.has(block)) {
        let finding = Diagnostic::error("empty-block", "the resilience policy says nothing")
            .with_allowed(crate::text::listed(&blocks))
            .with_effect("it would have no effect")
            .with_suggestion("add for example `circuitBreaker: {preset: HYSTRIX}`");
        reporter.add(&spec.place, finding);
    }
    let policy = ResiliencePolicy {
        name: document.name(),
        namespace: document.namespace.clone(),
        host: read_host(&spec, reporter),
        settings,
        origin: document.origin(),
    };
    document.object(spec, policy)
}

fn read_host(spec: &Record, reporter: &mut Reporter<'_>) -> String {
    let host = match spec.text("host") {
        Some(host) => host,
        None if spec.has("host") => return String::new(),
        None => "",
    };
    let problem = match host {
        "" => Some("the resilience policy has no host".to_owned()),
        host => name::host_problem(host),
    };
    if let Some(problem) = problem {
        let finding = Diagnostic::error("invalid-host", problem)
            .with_value(host)
            .with_allowed("a service: short, `name.namespace`, full, an external host, `*.suffix`, or `*`")
            .with_effect("the policy would belong to no service")
            .with_suggestion("add for example `host: my-service`");
        reporter.add(&spec.place_of("host"), finding);
    }
    host.to_ascii_lowercase()
}

fn number(record: &Record, field: &str) -> Option<u32> {
    record.whole(field).and_then(|value| u32::try_from(value).ok())
}

fn read_breaker(record: &Record, reporter: &mut Reporter<'_>) -> CircuitBreaker {
    let window = number(record, "windowCalls").map(BreakerWindow::Calls);
    let window = window.or_else(|| record.duration("windowTime").map(BreakerWindow::Time));
    let slow = record.duration("slowCallDuration");
    if record.has("slowCallPercent") && !record.has("slowCallDuration") {
        needs("slowCallPercent", "slowCallDuration", "2s", record, reporter);
    }
    let breaker = CircuitBreaker {
        preset: match record.word("preset") {
            Some("HYSTRIX") => BreakerPreset::Hystrix,
            Some("RESILIENCE4J") => BreakerPreset::Resilience4j,
            Some("SERVICE_NAME") => BreakerPreset::ServiceName,
            _ => BreakerPreset::Gobreaker,
        },
        scope: match record.word("scope") {
            Some("ENDPOINT") => BreakerScope::Endpoint,
            _ => BreakerScope::Cluster,
        },
        enforcement: match record.word("mode") {
            Some("OBSERVE") => Enforcement::Observe,
            _ => Enforcement::Enforce,
        },
        window: window.or_else(|| record.duration("interval").map(BreakerWindow::Interval)),
        consecutive_failures: number(record, "consecutiveFailures"),
        failure_percent: number(record, "failurePercent"),
        slow_calls: slow.map(|slow| (slow, number(record, "slowCallPercent").unwrap_or(100))),
        minimum_calls: number(record, "minimumCalls"),
        max_requests: number(record, "maxRequests"),
        probes_by_rates: record.boolean("probesByRates"),
        max_half_open_time: record.duration("maxHalfOpenTime"),
        timeout: record.duration("timeout"),
        timeout_growth_percent: number(record, "timeoutGrowthPercent"),
        max_timeout: record.duration("maxTimeout"),
        timeout_jitter_percent: number(record, "timeoutJitterPercent"),
    };
    match (breaker.timeout, breaker.max_timeout) {
        (Some(timeout), Some(max)) if max < timeout => at_least("maxTimeout", "timeout", record, reporter),
        (None, Some(_)) if !record.has("timeout") => needs("maxTimeout", "timeout", "10s", record, reporter),
        _ => {}
    }
    breaker
}

fn read_budget(record: &Record) -> RetryBudget {
    RetryBudget {
        percent: number(record, "percent").unwrap_or(20),
        min_retry_concurrency: number(record, "minRetryConcurrency").unwrap_or(3),
    }
}

fn read_adaptive(record: &Record, reporter: &mut Reporter<'_>) -> AdaptiveConcurrency {
    let header = record.text("criticalityHeader").map(str::to_ascii_lowercase);
    if let Some(header) = header.as_deref().filter(|header| !name::is_header_name(header)) {
        let finding = Diagnostic::error("invalid-name", format!("{header:?} is no name of a header"))
            .with_value(header)
            .with_allowed("letters, digits and hyphens")
            .with_suggestion("write for example `criticalityHeader: x-criticality`");
        reporter.add(&record.place_of("criticalityHeader"), finding);
    }
    for field in ["sheddablePlusPercent", "sheddablePercent"] {
        if record.has(field) && header.is_none() {
            let finding = Diagnostic::warning("ineffective", format!("{field} needs a criticalityHeader"))
                .with_effect("every request is critical and may use the whole limit")
                .with_suggestion("add for example `criticalityHeader: x-criticality`");
            reporter.add(&record.key_of(field), finding);
        }
    }
    let limits = ["minLimit", "maxLimit"].map(|field| number(record, field));
    let (min, max) = (limits[0].unwrap_or(20), limits[1].unwrap_or(200));
    if max < min {
        at_least("maxLimit", "minLimit", record, reporter);
    }
    AdaptiveConcurrency {
        algorithm: match record.word("algorithm") {
            Some("VEGAS") => ConcurrencyAlgorithm::Vegas,
            Some("AIMD") => ConcurrencyAlgorithm::Aimd,
            _ => ConcurrencyAlgorithm::Gradient2,
        },
        enforcement: match record.word("mode") {
            Some("ENFORCE") => Enforcement::Enforce,
            _ => Enforcement::Observe,
        },
        initial_limit: number(record, "initialLimit"),
        min_limit: limits[0],
        max_limit: limits[1],
        window: record.duration("window").filter(|window| *window > Duration::ZERO),
        criticality_header: header,
        sheddable_plus_percent: number(record, "sheddablePlusPercent"),
        sheddable_percent: number(record, "sheddablePercent"),
    }
}

fn needs(field: &str, other: &str, example: &str, record: &Record, reporter: &mut Reporter<'_>) {
    let finding = Diagnostic::error("missing-field", format!("{field} needs {other} beside it"))
        .with_allowed(format!("both, or {other} alone"))
        .with_effect("it would mean nothing")
        .with_suggestion(format!("add for example `{other}: {example}`"));
    reporter.add(&record.key_of(field), finding);
}

fn at_least(field: &str, least: &str, record: &Record, reporter: &mut Reporter<'_>) {
    let finding = Diagnostic::error("range", format!("{field} is less than {least}"))
        .with_allowed(format!("{least} or more"))
        .with_effect("no value could be in between")
        .with_suggestion(format!("raise {field}, or lower {least}"));
    let place = if record.has(field) { record.place_of(field) } else { record.place_of(least) };
    reporter.add(&place, finding);
}
