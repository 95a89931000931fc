//! Views as lines of text, in the manner of Envoy's admin pages.
//!
//! JSON is derived in `views.rs`; this file only writes `name::key::value` lines.

use std::fmt::Write as _;

use crate::views::{
    AdaptiveConcurrencyView, AdminState, BulkheadView, CircuitBreakerView, ClusterView, CoalescingView, EndpointView,
    HealthCheckView, LastGoodView, ListenerView, RateLimitView, Readiness,
};

/// Appends one line. Control characters become U+FFFD: names and reasons come from files, and a line stays a line.
fn push(out: &mut String, line: std::fmt::Arguments<'_>) {
    let start = out.len();
    out.write_fmt(line).expect("writing to a String does not fail");
    if out[start..].contains(char::is_control) {
        let clean = out[start..].replace(char::is_control, "\u{fffd}");
        out.replace_range(start.., &clean);
    }
    out.push('\n');
}

/// The state, then the details, one per line.
pub(crate) fn readiness(readiness: &Readiness) -> String {
    let mut out = String::new();
    push(&mut out, format_args!("{}", readiness.state));
    for detail in &readiness.detail {
        push(&mut out, format_args!("{detail}"));
    }
    out
}

/// Whose limits, breakers and budgets are shown: those of this process, shared by its workers; another proxy has its own.
pub(crate) const SCOPE: &str = "process";

/// `cluster::key::value` and `cluster::address::key::value`.
pub(crate) fn clusters(clusters: &[ClusterView]) -> String {
    let mut out = String::new();
    for cluster in clusters {
        let name = &cluster.name;
        push(&mut out, format_args!("{name}::service::{}", cluster.service));
        push(&mut out, format_args!("{name}::policy::{}", cluster.policy));
        push(&mut out, format_args!("{name}::scope::{SCOPE}"));
        for (key, limit, used) in [
            ("connections", cluster.limits.max_connections, cluster.usage.connections),
            ("pending_requests", cluster.limits.max_pending, cluster.usage.pending),
            ("requests", cluster.limits.max_requests, cluster.usage.requests),
            ("retries", cluster.limits.max_retries, cluster.usage.retries),
        ] {
            // Envoy's way to write "unlimited" is the largest number.
            push(&mut out, format_args!("{name}::default_priority::max_{key}::{}", limit.unwrap_or(u32::MAX)));
            if let Some(used) = used {
                push(&mut out, format_args!("{name}::default_priority::used_{key}::{used}"));
            }
        }
        if let Some(percent) = cluster.limits.retry_budget_percent {
            push(&mut out, format_args!("{name}::default_priority::retry_budget_percent::{percent}"));
        }
        cluster.circuit_breakers.iter().for_each(|view| circuit_breaker(name, view, &mut out));
        if let Some(adaptive) = &cluster.adaptive_concurrency {
            adaptive_concurrency(name, adaptive, &mut out);
        }
        if let Some(view) = &cluster.bulkhead {
            bulkhead(name, view, &mut out);
        }
        if let Some(rate) = &cluster.rate_limit {
            rate_limit(name, rate, &mut out);
        }
        if let Some(kept) = &cluster.last_good {
            last_good(name, kept, &mut out);
        }
        if let Some(view) = &cluster.coalescing {
            coalescing(name, view, &mut out);
        }
        for view in &cluster.endpoints {
            endpoint(name, view, &mut out);
        }
    }
    out
}

/// `cluster::circuit_breaker::key::value`, with the address between them where it is for an endpoint.
fn circuit_breaker(cluster: &str, view: &CircuitBreakerView, out: &mut String) {
    let of = match view.endpoint {
        Some(address) => format!("{cluster}::{address}::circuit_breaker"),
        None => format!("{cluster}::circuit_breaker"),
    };
    push(out, format_args!("{of}::state::{}", view.state));
    push(out, format_args!("{of}::mode::{}", view.mode));
    if let Some(cause) = &view.cause {
        push(out, format_args!("{of}::cause::{cause}"));
    }
    for (key, time) in [("for_ms", view.since), ("retry_in_ms", view.retry_in)] {
        if let Some(time) = time {
            push(out, format_args!("{of}::{key}::{}", time.as_millis()));
        }
    }
    for (key, value) in [
        ("requests", u64::from(view.requests)),
        ("failures", u64::from(view.failures)),
        ("slow", u64::from(view.slow)),
        ("consecutive_failures", u64::from(view.consecutive_failures)),
        ("openings", view.openings),
        ("refused", view.refused),
    ] {
        push(out, format_args!("{of}::{key}::{value}"));
    }
}

fn adaptive_concurrency(cluster: &str, view: &AdaptiveConcurrencyView, out: &mut String) {
    let mode = if view.observes { "observe" } else { "enforce" };
    push(out, format_args!("{cluster}::adaptive_concurrency::mode::{mode}"));
    push(out, format_args!("{cluster}::adaptive_concurrency::limit::{}", view.limit));
    push(out, format_args!("{cluster}::adaptive_concurrency::in_flight::{}", view.in_flight));
    push(out, format_args!("{cluster}::adaptive_concurrency::refused::{}", view.refused));
    if let Some(latency) = view.base_latency {
        push(out, format_args!("{cluster}::adaptive_concurrency::base_latency_us::{}", latency.as_micros()));
    }
}

fn bulkhead(cluster: &str, view: &BulkheadView, out: &mut String) {
    let mode = if view.observes { "observe" } else { "enforce" };
    push(out, format_args!("{cluster}::bulkhead::mode::{mode}"));
    let most = view.max_requests_per_endpoint;
    push(out, format_args!("{cluster}::bulkhead::max_requests_per_endpoint::{most}"));
    push(out, format_args!("{cluster}::bulkhead::full_endpoints::{}", view.full_endpoints));
}

fn rate_limit(cluster: &str, view: &RateLimitView, out: &mut String) {
    let mode = if view.observes { "observe" } else { "enforce" };
    push(out, format_args!("{cluster}::rate_limit::mode::{mode}"));
    push(out, format_args!("{cluster}::rate_limit::requests::{}", view.requests));
    push(out, format_args!("{cluster}::rate_limit::per_ms::{}", view.per.unwrap_or_default().as_millis()));
    push(out, format_args!("{cluster}::rate_limit::burst::{}", view.burst));
    push(out, format_args!("{cluster}::rate_limit::keys::{}", view.keys));
}

fn last_good(cluster: &str, view: &LastGoodView, out: &mut String) {
    for (key, value) in [
        ("entries", view.entries),
        ("max_entries", view.max_entries),
        ("bytes", view.bytes),
        ("max_bytes", view.max_bytes),
    ] {
        push(out, format_args!("{cluster}::last_good::{key}::{value}"));
    }
}

fn coalescing(cluster: &str, view: &CoalescingView, out: &mut String) {
    for (key, value) in [
        ("keys", view.keys),
        ("max_keys", view.max_keys),
        ("waiting", view.waiting.into()),
        ("max_waiters", view.max_waiters.into()),
    ] {
        push(out, format_args!("{cluster}::coalescing::{key}::{value}"));
    }
}

fn endpoint(cluster: &str, view: &EndpointView, out: &mut String) {
    let address = view.address;
    if let Some(in_flight) = view.in_flight {
        push(out, format_args!("{cluster}::{address}::rq_active::{in_flight}"));
    }
    if let Some(latency) = view.latency {
        push(out, format_args!("{cluster}::{address}::latency_us::{}", latency.as_micros()));
    }
    if let Some(source) = &view.load_source {
        push(out, format_args!("{cluster}::{address}::load_source::{source}"));
    }
    push(out, format_args!("{cluster}::{address}::weight::{}", view.weight));
    if !view.locality.is_empty() {
        push(out, format_args!("{cluster}::{address}::locality::{}", view.locality));
    }
    if let Some(priority) = view.priority {
        push(out, format_args!("{cluster}::{address}::priority::{priority}"));
    }
    push(out, format_args!("{cluster}::{address}::health_flags::{}", health_flags(view)));
    push(out, format_args!("{cluster}::{address}::admin::{}", view.admin.as_str()));
    if let Some(time) = view.ejected_for {
        push(out, format_args!("{cluster}::{address}::ejected_for_ms::{}", time.as_millis()));
    }
    if let (Some(time), Some(cause)) = (view.ejection_ends_in, &view.ejection_cause) {
        push(out, format_args!("{cluster}::{address}::ejection_ends_in_ms::{}", time.as_millis()));
        push(out, format_args!("{cluster}::{address}::ejection_cause::{cause}"));
    }
    if let Some(check) = &view.health_check {
        health_check(&format!("{cluster}::{address}::health_check"), check, out);
    }
    if let (Some(time), Some(cause)) = (view.unreachable_for, &view.unreachable_cause) {
        push(out, format_args!("{cluster}::{address}::unreachable_for_ms::{}", time.as_millis()));
        push(out, format_args!("{cluster}::{address}::unreachable_cause::{cause}"));
        let (next, failed) = (view.next_probe_in.unwrap_or_default(), view.failed_probes.unwrap_or_default());
        push(out, format_args!("{cluster}::{address}::next_probe_in_ms::{}", next.as_millis()));
        push(out, format_args!("{cluster}::{address}::failed_probes::{failed}"));
    }
    for (key, value) in [
        ("ejections", view.ejections),
        ("consecutive_5xx", u64::from(view.consecutive_5xx)),
        ("consecutive_gateway_errors", u64::from(view.consecutive_gateway_errors)),
        ("consecutive_local_origin_failures", u64::from(view.consecutive_local_origin_failures)),
    ] {
        push(out, format_args!("{cluster}::{address}::{key}::{value}"));
    }
    for (key, value) in &view.labels {
        push(out, format_args!("{cluster}::{address}::label.{key}::{value}"));
    }
}

fn health_check(of: &str, view: &HealthCheckView, out: &mut String) {
    push(out, format_args!("{of}::state::{}", view.state));
    push(out, format_args!("{of}::source::{}", view.source));
    if let Some(last) = &view.last {
        push(out, format_args!("{of}::last::health check: {last}"));
    }
    for (key, time) in [("for_ms", view.since), ("next_in_ms", view.next_in)] {
        if let Some(time) = time {
            push(out, format_args!("{of}::{key}::{}", time.as_millis()));
        }
    }
    push(out, format_args!("{of}::successes::{}", view.successes));
    push(out, format_args!("{of}::failures::{}", view.failures));
}

/// Envoy's `healthy` and flags; that it cannot be connected to and an operator's word are shown the same way.
fn health_flags(view: &EndpointView) -> String {
    let mut flags = String::new();
    match view.health_check.as_ref().map(|check| check.state.as_str()) {
        Some("unhealthy") => flags.push_str("/failed_active_hc"),
        Some("pending") => flags.push_str("/pending_active_hc"),
        _ => {}
    }
    let unreachable = view.unreachable_for.is_some();
    if view.ejected && (view.ejection_ends_in.is_some() || !unreachable) {
        flags.push_str("/failed_outlier_check");
    }
    if unreachable {
        flags.push_str("/unreachable");
    }
    match view.admin {
        AdminState::Enabled => {}
        AdminState::Draining => flags.push_str("/admin_draining"),
        AdminState::Disabled => flags.push_str("/admin_disabled"),
    }
    if flags.is_empty() { "healthy".to_owned() } else { flags }
}

/// `name::address`, and ` (draining)` behind those that were removed.
pub(crate) fn listeners(listeners: &[ListenerView]) -> String {
    let mut out = String::new();
    for listener in listeners {
        let draining = if listener.draining { " (draining)" } else { "" };
        push(&mut out, format_args!("{}::{}{draining}", listener.name, listener.address));
    }
    out
}
