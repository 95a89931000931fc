//! `retries`: how often, on what, how fast.

use std::time::Duration;

use meshwright_model::{Diagnostic, RetryOn, RetryPolicy};

use crate::duration::show;
use crate::finding::Reporter;
use crate::node::Place;
use crate::record::Record;
use crate::text::nearest;

/// Every condition by name, as Envoy documents them for `x-envoy-retry-on` and `x-envoy-retry-grpc-on`.
const CONDITIONS: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "envoy-ratelimited",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

/// Reads `retries` of a route.
pub(super) fn read(route: &Record, timeout: Option<Duration>, reporter: &mut Reporter<'_>) -> Option<RetryPolicy> {
    let retries = route.record("retries")?;
    let attempts = read_attempts(retries, reporter);
    let mut policy = RetryPolicy { attempts, ..RetryPolicy::default() };
    policy.per_try_timeout = retries.duration("perTryTimeout");
    if let Some(text) = retries.text("retryOn").filter(|text| !text.trim().is_empty()) {
        policy.on = read_conditions(text, &retries.place_of("retryOn"), reporter);
    }
    if let Some(backoff) = retries.duration("backoff") {
        policy.backoff = backoff;
    }
    if let Some(avoid) = retries.boolean("retryIgnorePreviousHosts") {
        policy.avoid_previous_hosts = avoid;
    }
    check_time(&policy, retries, timeout, reporter);
    Some(policy)
}

fn read_attempts(retries: &Record, reporter: &mut Reporter<'_>) -> u32 {
    let attempts = match retries.whole("attempts") {
        Some(attempts) => attempts,
        None if retries.has("attempts") => return 0,
        None => 0,
    };
    let Ok(count) = u32::try_from(attempts) else {
        let finding = Diagnostic::error("range", "attempts cannot be negative")
            .with_value(attempts.to_string())
            .with_allowed("0 (off) or more")
            .with_suggestion("write 0 to switch retries off");
        reporter.add(&retries.place_of("attempts"), finding);
        return 0;
    };
    let other = ["perTryTimeout", "retryOn", "backoff", "retryRemoteLocalities"];
    if let Some(field) = other.into_iter().find(|field| count == 0 && retries.has(field)) {
        let finding =
            Diagnostic::error("contradiction", "http retry policy configured when attempts are set to 0 (disabled)")
                .with_value(field)
                .with_allowed("attempts of at least 1, or no other field of retries")
                .with_effect("nothing would be retried")
                .with_suggestion("write for example `attempts: 2`");
        reporter.add(&retries.key_of(field), finding);
    }
    count
}

/// Reads a list of conditions.
pub(crate) fn read_conditions(text: &str, place: &Place, reporter: &mut Reporter<'_>) -> RetryOn {
    let mut on = RetryOn::default();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match word {
            "5xx" => on.server_error = true,
            "gateway-error" => on.gateway_error = true,
            "reset" => on.reset = true,
            "reset-before-request" => on.reset_before_request = true,
            "connect-failure" => on.connect_failure = true,
            "envoy-ratelimited" => on.envoy_ratelimited = true,
            "retriable-4xx" => on.retriable_4xx = true,
            "refused-stream" => on.refused_stream = true,
            "retriable-status-codes" => {}
            "cancelled" => on.grpc.push(1),
            "deadline-exceeded" => on.grpc.push(4),
            "resource-exhausted" => on.grpc.push(8),
            "internal" => on.grpc.push(13),
            "unavailable" => on.grpc.push(14),
            "retriable-headers" | "http3-post-connect-failure" => {
                let finding =
                    Diagnostic::warning("not-supported", format!("retryOn {word} is not supported by this version"))
                        .with_value(word)
                        .with_effect("nothing is retried because of it")
                        .with_suggestion("remove it from the list");
                reporter.add(place, finding);
            }
            number if number.parse::<u16>().is_ok_and(|code| (100..=599).contains(&code)) => {
                on.status_codes.extend(number.parse::<u16>());
            }
            unknown => reporter.add(place, unknown_condition(unknown)),
        }
    }
    on
}

fn unknown_condition(word: &str) -> Diagnostic {
    let mut finding = Diagnostic::error("unknown-value", format!("{word:?} is not a valid retryOn policy"))
        .with_value(word)
        .with_allowed(format!("{}, and status codes by number", CONDITIONS.join(", ")))
        .with_effect("nothing would be retried because of it");
    finding.suggestion = nearest(word, CONDITIONS).map(|near| format!("did you mean {near}?"));
    finding
}

/// Tries that do not fit into the time of the whole request are a frequent mistake.
fn check_time(policy: &RetryPolicy, retries: &Record, timeout: Option<Duration>, reporter: &mut Reporter<'_>) {
    let (Some(timeout), Some(one)) = (timeout, policy.per_try_timeout) else { return };
    let tries = policy.attempts.saturating_add(1);
    let all = one.saturating_mul(tries);
    if all <= timeout {
        return;
    }
    let message = format!("{tries} tries of {} do not fit into the timeout of {}", show(one), show(timeout));
    let finding = Diagnostic::warning("retry-time", message)
        .with_value(show(one))
        .with_allowed(format!("perTryTimeout x (attempts + 1) of at most {}", show(timeout)))
        .with_effect("the request ends with 504 UT before all tries were made")
        .with_suggestion(format!("raise the timeout to {}, or shorten perTryTimeout", show(all)));
    reporter.add(&retries.place_of("perTryTimeout"), finding);
}
