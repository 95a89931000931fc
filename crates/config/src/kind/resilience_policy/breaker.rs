//! `circuitBreaker`: what trips it, how long it is open, how it comes back.

use meshwright_model::{BreakerPreset, BreakerScope, BreakerWindow, CircuitBreaker, Enforcement};

use super::{at_least, needs, number};
use crate::finding::Reporter;
use crate::record::Record;

/// Reads the block.
pub(super) fn read(record: &Record, reporter: &mut Reporter<'_>) -> CircuitBreaker {
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
