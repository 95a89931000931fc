//! `ResiliencePolicy`, our own kind: what a host does when it fails, is slow or is asked for too much, for which Istio has no
//! field. Each block is one file.
//!
//! Knows one document. Whether the host exists is asked in `check/destination.rs`, which policy a service gets is decided
//! in `meshwright-snapshot`.

mod adaptive;
mod breaker;
mod bulkhead;
mod coalescing;
mod fallback;
mod health;
mod rate_limit;
mod retries;
mod table;

use std::sync::Arc;

use meshwright_model::{Diagnostic, ResiliencePolicy, ResilienceSettings};

use super::{Document, Object};
use crate::finding::Reporter;
use crate::record::Record;

pub(super) use table::DOCUMENT;
use table::SPEC;

/// The `apiVersion` of our own kinds.
pub(super) const API_VERSIONS: &[&str] = &["meshwright.io/v1alpha1"];

/// Reads a resilience policy.
pub(super) fn read(document: Document<'_>, reporter: &mut Reporter<'_>) -> Object<ResiliencePolicy> {
    let spec = document.spec(&SPEC);
    let settings = ResilienceSettings {
        circuit_breaker: spec.record("circuitBreaker").map(|block| breaker::read(block, reporter)),
        retries: spec.record("retries").map(|block| retries::read(block, reporter)),
        retry_budget: spec.record("retryBudget").map(retries::read_budget),
        hedging: spec.record("hedging").map(retries::read_hedging),
        adaptive_concurrency: spec.record("adaptiveConcurrency").map(|block| adaptive::read(block, reporter)),
        bulkhead: spec.record("bulkhead").map(|block| bulkhead::read(block, reporter)),
        rate_limit: spec.record("rateLimit").map(|block| rate_limit::read(block, reporter)),
        fallback: spec.record("fallback").map(|block| fallback::read(block, reporter)),
        coalescing: spec.record("coalescing").map(coalescing::read),
        health_check: spec.record("healthCheck").map(|block| Arc::new(health::read(block, &document, reporter))),
    };
    let blocks = [
        "circuitBreaker",
        "retries",
        "retryBudget",
        "hedging",
        "adaptiveConcurrency",
        "bulkhead",
        "rateLimit",
        "fallback",
        "coalescing",
        "healthCheck",
    ];
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
        host: super::read_host(
            &spec,
            "resilience policy",
            "a service: short, `name.namespace`, full, an external host, `*.suffix`, or `*`",
            reporter,
        ),
        settings,
        origin: document.origin(),
    };
    document.object(spec, policy)
}

fn number(record: &Record, field: &str) -> Option<u32> {
    record.whole(field).and_then(|value| u32::try_from(value).ok())
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
