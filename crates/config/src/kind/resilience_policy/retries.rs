//! `retries`, `hedging` and `retryBudget`: what is sent again, when, and how often that may be.

use std::time::Duration;

use meshwright_model::{Hedging, RetryBudget, RetryMethods, RetryOn, RetryPolicy};

use super::super::virtual_service::read_retry_conditions;
use super::number;
use crate::finding::Reporter;
use crate::record::Record;

/// Reads `retries`.
pub(super) fn read(record: &Record, reporter: &mut Reporter<'_>) -> RetryPolicy {
    let default =
        RetryOn { gateway_error: true, reset: true, connect_failure: true, refused_stream: true, ..RetryOn::NOTHING };
    let conditions = record.text("retryOn").filter(|text| !text.trim().is_empty());
    RetryPolicy {
        attempts: number(record, "attempts").unwrap_or(2),
        per_try_timeout: record.duration("perTryTimeout"),
        on: conditions.map_or(default, |text| read_retry_conditions(text, &record.place_of("retryOn"), reporter)),
        backoff: record.duration("backoff").unwrap_or(RetryPolicy::ISTIO.backoff),
        avoid_previous_hosts: true,
        methods: match record.word("methods") {
            Some("ANY") => RetryMethods::Any,
            Some("IDEMPOTENT") => RetryMethods::Idempotent,
            _ => RetryMethods::Safe,
        },
        max_retry_after: record.duration("maxRetryAfter").unwrap_or(Duration::from_secs(10)),
    }
}

/// Reads `retryBudget`.
pub(super) fn read_budget(record: &Record) -> RetryBudget {
    RetryBudget {
        percent: number(record, "percent").unwrap_or(20),
        min_retry_concurrency: number(record, "minRetryConcurrency").unwrap_or(3),
    }
}

/// Reads `hedging`.
pub(super) fn read_hedging(record: &Record) -> Hedging {
    match record.duration("delay") {
        Some(delay) => Hedging::Delay(delay),
        None => Hedging::Percentile(number(record, "percentile").unwrap_or(95)),
    }
}
