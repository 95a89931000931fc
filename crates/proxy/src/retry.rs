//! Which ends of a try are worth another one. Pure; the limits on retries are the cluster's.
//!
//! Source: Envoy's `x-envoy-retry-on` conditions, with Istio's defaults.

use std::time::{Duration, SystemTime};

use meshwright_message::{HeaderList, HeaderName, Method, ResponseHead};
use meshwright_model::{FailureKind, RetryMethods, RetryOn};

/// Whether this answer is to be replaced by another try.
pub(crate) fn on_answer(on: &RetryOn, answer: &ResponseHead) -> bool {
    let status = answer.status;
    if answer.headers.has(HeaderName::XEnvoyOverloaded) {
        return false;
    }
    if answer.headers.has(HeaderName::XEnvoyRatelimited) {
        return on.envoy_ratelimited;
    }
    (on.server_error && (500..600).contains(&status))
        || (on.gateway_error && matches!(status, 502..=504))
        || (on.retriable_4xx && status == 409)
        || on.status_codes.contains(&status)
        || (!on.grpc.is_empty() && grpc_status(answer).is_some_and(|code| on.grpc.contains(&code)))
}

fn grpc_status(answer: &ResponseHead) -> Option<u8> {
    let value = answer.headers.known(HeaderName::GrpcStatus)?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Whether a try that ended without an answer is worth another one under the route's policy.
pub(crate) fn on_failure(on: &RetryOn, kind: FailureKind, nothing_sent: bool) -> bool {
    let any_reset = on.server_error || on.gateway_error || on.reset;
    match kind {
        FailureKind::ConnectFailure => on.connect_failure || any_reset,
        FailureKind::UpstreamClosed => any_reset || (nothing_sent && (on.reset_before_request || on.connect_failure)),
        FailureKind::UpstreamProtocol => any_reset,
        FailureKind::PerTryTimeout => any_reset,
        _ => false,
    }
}

/// Whether a request may be sent again although a host may have seen it.
pub(crate) fn may_repeat(methods: RetryMethods, method: &Method) -> bool {
    match methods {
        RetryMethods::Any => true,
        RetryMethods::Idempotent => method.is_idempotent(),
        RetryMethods::Safe => method.is_safe(),
    }
}

/// The pause that an answer asks for by `Retry-After` (RFC 9110, section 10.2.3); what cannot be understood says nothing.
pub(crate) fn asked_pause(answer: &HeaderList, now: impl FnOnce() -> SystemTime) -> Option<Duration> {
    let value = std::str::from_utf8(answer.get("retry-after")?).ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now()).unwrap_or_default())
}

/// Whether a request may be sent again, beside any policy, because a connection that was kept open turned out to be
/// closed: nothing was sent, or the method is idempotent and not one byte of an answer came (RFC 9110, section 9.2.2).
pub(crate) fn on_stale_connection(method: &Method, nothing_sent: bool, answered: bool) -> bool {
    !answered && (nothing_sent || method.is_idempotent())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16) -> ResponseHead {
        ResponseHead { status, ..ResponseHead::default() }
    }

    #[test]
    fn the_default_policy_repeats_only_what_was_never_sent() {
        let policy = meshwright_model::RetryPolicy::default();
        assert!(on_failure(&policy.on, FailureKind::ConnectFailure, true));
        assert!(on_failure(&policy.on, FailureKind::UpstreamClosed, true));
        assert!(!on_failure(&policy.on, FailureKind::UpstreamClosed, false));
        assert!(!on_failure(&policy.on, FailureKind::PerTryTimeout, false));
        assert!(!on_answer(&policy.on, &answer(503)));
    }

    #[test]
    fn overload_is_never_answered_by_more_load() {
        let on = RetryOn { server_error: true, ..RetryOn::default() };
        let mut overloaded = answer(503);
        assert!(on_answer(&on, &overloaded));
        overloaded.headers.push_known(HeaderName::XEnvoyOverloaded, b"true");
        assert!(!on_answer(&on, &overloaded));
        assert!(!on_failure(&on, FailureKind::Overflow, true));
    }

    #[test]
    fn a_pause_is_asked_for_in_seconds_or_by_a_date() {
        let asked = |value: &str| {
            let mut answer = answer(503);
            answer.headers.push(b"Retry-After", value.as_bytes());
            asked_pause(&answer.headers, || SystemTime::UNIX_EPOCH + Duration::from_secs(60))
        };
        assert_eq!(asked("3"), Some(Duration::from_secs(3)));
        assert_eq!(asked("0"), Some(Duration::ZERO));
        assert_eq!(asked("99999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        assert_eq!(asked("Thu, 01 Jan 1970 00:01:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(asked("Thu, 01 Jan 1970 00:00:30 GMT"), Some(Duration::ZERO), "a date that has passed");
        for nonsense in ["", "-1", "+1", "1.5", "soon"] {
            assert_eq!(asked(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn only_what_a_policy_trusts_is_repeated() {
        let repeats = |methods| [Method::Get, Method::Put, Method::Post].map(|method| may_repeat(methods, &method));
        assert_eq!(repeats(RetryMethods::Safe), [true, false, false]);
        assert_eq!(repeats(RetryMethods::Idempotent), [true, true, false]);
        assert_eq!(repeats(RetryMethods::Any), [true, true, true]);
    }

    #[test]
    fn a_post_is_repeated_on_a_stale_connection_only_when_nothing_was_sent() {
        assert!(on_stale_connection(&Method::Post, true, false));
        assert!(!on_stale_connection(&Method::Post, false, false));
        assert!(on_stale_connection(&Method::Get, false, false));
        assert!(!on_stale_connection(&Method::Get, false, true));
    }
}
