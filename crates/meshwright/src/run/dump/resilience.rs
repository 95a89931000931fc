//! Circuit breakers, adaptive limits and the policies they come from as JSON: what holds, with every default filled in.

use meshwright_model::{Enforcement, Fallback, Hedging, IdentityName, ResiliencePolicy};
use meshwright_snapshot::{Adaptive, Breakers, RateLimiter, SharedAnswers};
use meshwright_traffic::{BreakerPolicy, Bulkhead, Criticality, LimitAlgorithm, Recovery, Window};
use serde_json::{Value, json};

use super::{place, seconds};

/// All breakers of a cluster have one policy; `null` for one per endpoint without endpoints.
pub(super) fn of_breakers(breakers: &Breakers) -> Value {
    let scope = if breakers.cluster.is_some() { "CLUSTER" } else { "ENDPOINT" };
    json!({ "scope": scope, "policy": breakers.all().next().map(|breaker| of_breaker(breaker.policy())) })
}

fn of_breaker(policy: &BreakerPolicy) -> Value {
    let window = match policy.window {
        Window::Count(calls) => json!({ "calls": calls }),
        Window::Time { length, buckets } => json!({ "time": seconds(length), "buckets": buckets }),
        Window::Interval(interval) => json!({ "interval": interval.map(seconds) }),
    };
    let slow =
        policy.slow_calls.map(|slow| json!({ "longer_than": seconds(slow.longer_than), "percent": slow.percent }));
    json!({
        "window": window,
        "consecutive_failures": policy.consecutive_failures,
        "failure_percent": policy.failure_percent,
        "slow_calls": slow,
        "minimum_calls": policy.minimum_calls,
        "max_requests": policy.probes,
        "probes_by_rates": policy.recovery == Recovery::Rates,
        "max_half_open_time": policy.max_half_open_time.map(seconds),
        "timeout": seconds(policy.open_time.base),
        "timeout_growth_percent": policy.open_time.multiplier * 100.0,
        "max_timeout": seconds(policy.open_time.max),
        "timeout_jitter_percent": policy.open_time.jitter * 100.0,
    })
}

pub(super) fn of_adaptive(adaptive: &Adaptive) -> Value {
    let policy = adaptive.limit.policy();
    let algorithm = match policy.algorithm {
        LimitAlgorithm::Gradient2(_) => "GRADIENT2",
        LimitAlgorithm::Vegas(_) => "VEGAS",
        LimitAlgorithm::Aimd(_) => "AIMD",
    };
    json!({
        "algorithm": algorithm,
        "mode": if policy.observe { "OBSERVE" } else { "ENFORCE" },
        "initial_limit": policy.initial,
        "min_limit": policy.min,
        "max_limit": policy.max,
        "window": seconds(policy.window),
        "criticality_header": adaptive.criticality_header.as_deref(),
        "criticality_by_route": adaptive
            .criticality_by_route
            .iter()
            .map(|(route, criticality)| (route.clone(), json!(criticality.as_str())))
            .collect::<serde_json::Map<_, _>>(),
        "criticality_by_identity": adaptive.criticality_by_identity.iter().map(of_identity).collect::<Vec<_>>(),
        "sheddable_plus_percent": policy.shed.sheddable_plus,
        "sheddable_percent": policy.shed.sheddable,
    })
}

fn of_identity((name, criticality): &(IdentityName, Criticality)) -> Value {
    match name {
        IdentityName::Exact(exact) => json!({"exact": exact, "criticality": criticality.as_str()}),
        IdentityName::Prefix(prefix) => json!({"prefix": prefix, "criticality": criticality.as_str()}),
        IdentityName::Anybody => json!({"criticality": criticality.as_str()}),
    }
}

pub(super) fn of_bulkhead(bulkhead: Bulkhead) -> Value {
    json!({
        "max_requests_per_endpoint": bulkhead.max_requests,
        "mode": if bulkhead.observe { "OBSERVE" } else { "ENFORCE" },
    })
}

pub(super) fn of_rate_limit(limiter: &RateLimiter) -> Value {
    let limit = &limiter.limit;
    json!({
        "requests": limit.requests,
        "per": seconds(limit.per),
        "burst": limit.burst,
        "key": { "header": limit.key.header, "source_ip": limit.key.source_ip, "route": limit.key.route },
        "max_keys": limit.max_keys,
        "mode": if limit.enforcement == Enforcement::Observe { "OBSERVE" } else { "ENFORCE" },
        "headers": limit.headers,
    })
}

pub(super) fn of_hedging(hedging: Hedging) -> Value {
    match hedging {
        Hedging::Percentile(percent) => json!({ "percentile": percent }),
        Hedging::Delay(delay) => json!({ "delay": seconds(delay) }),
    }
}

pub(super) fn of_fallback(fallback: &Fallback) -> Value {
    json!({
        "statuses": fallback.statuses,
        "destination": fallback.destination.as_ref().map(|of| {
            json!({ "host": of.host, "port": of.port, "subset": of.subset })
        }),
        "last_good": fallback.last_good.map(|of| {
            json!({
                "stale_if_error": seconds(of.stale_if_error),
                "max_answer_bytes": of.max_answer_bytes,
                "max_bytes": of.max_bytes,
                "max_entries": of.max_entries,
            })
        }),
        "response": fallback.response.as_ref().map(|response| {
            json!({ "status": response.status, "headers": response.headers, "body_bytes": response.body.len() })
        }),
    })
}

pub(super) fn of_coalescing(shared: &SharedAnswers) -> Option<Value> {
    let policy = shared.coalescing.as_ref()?.policy;
    Some(json!({
        "timeout": seconds(policy.timeout),
        "max_answer_bytes": policy.max_answer_bytes,
        "max_keys": policy.max_keys,
        "max_waiters": policy.max_waiters,
    }))
}

/// The document; what it means for a cluster is shown there.
pub(super) fn of_policy(policy: &ResiliencePolicy) -> Value {
    json!({
        "name": policy.name,
        "namespace": policy.namespace,
        "host": policy.host,
        "origin": place(&policy.origin),
        "circuit_breaker": policy.settings.circuit_breaker.is_some(),
        "retries": policy.settings.retries.is_some(),
        "retry_budget": policy.settings.retry_budget.is_some(),
        "adaptive_concurrency": policy.settings.adaptive_concurrency.is_some(),
        "hedging": policy.settings.hedging.is_some(),
        "bulkhead": policy.settings.bulkhead.is_some(),
        "rate_limit": policy.settings.rate_limit.is_some(),
        "fallback": policy.settings.fallback.is_some(),
        "coalescing": policy.settings.coalescing.is_some(),
    })
}
