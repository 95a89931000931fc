//! The tower layers around a service, and settings from JSON.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use meshwright_resilience::{
    BreakerPolicy, BreakerState, CircuitBreaker, CircuitBreakerLayer, Error, OpenTime, Policy, PolicyLayer, Recovery,
    Retry, ServiceSettings, SlowCalls, Window,
};
use tower_layer::Layer;
use tower_service::Service;

/// Answers with the status it is asked for; counts its calls.
#[derive(Clone, Default)]
struct Statuses(Arc<AtomicU32>);

impl Service<u32> for Statuses {
    type Response = u32;
    type Error = &'static str;
    type Future = Ready<Result<u32, &'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, status: u32) -> Self::Future {
        self.0.fetch_add(1, Ordering::Relaxed);
        ready(if status == 0 { Err("reset") } else { Ok(status) })
    }
}

#[tokio::test]
async fn a_breaker_layer_opens_on_what_counts_as_a_failure() {
    let policy = BreakerPolicy { consecutive_failures: 2, ..BreakerPolicy::default() };
    let breaker = Arc::new(CircuitBreaker::new("statuses", policy));
    let layer = CircuitBreakerLayer::new(Arc::clone(&breaker))
        .with_failures(|result: &Result<u32, _>| !matches!(result, Ok(status) if *status < 500));
    let service = Statuses::default();
    let mut guarded = layer.layer(service.clone());
    assert_eq!(guarded.call(200).await, Ok(200));
    assert_eq!(guarded.call(503).await, Ok(503));
    assert_eq!(guarded.call(0).await, Err(Error::Inner("reset")));
    assert_eq!(breaker.state(), BreakerState::Open);
    assert!(matches!(guarded.call(200).await, Err(Error::Open { .. })));
    assert_eq!(service.0.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn a_policy_layer_tries_again_and_falls_back() {
    let policy = Policy::new().with_retry(Retry::new(2)).with_fallback_value(204);
    let service = Statuses::default();
    let mut guarded = PolicyLayer::new(policy).layer(service.clone());
    assert_eq!(guarded.call(0).await, Ok(204));
    assert_eq!(service.0.load(Ordering::Relaxed), 3);
}

fn read(json: &str) -> Result<ServiceSettings, serde_json::Error> {
    serde_json::from_str(json)
}

#[test]
fn settings_are_laid_over_a_preset() {
    let settings = read(
        r#"{ "default": { "preset": "hystrix", "timeout": "250ms", "timeoutGrowthPercent": 200 },
             "services": {
               "a": { "preset": "resilience4j", "windowCalls": 10, "failurePercent": 25, "slowCallDuration": "1s500ms" },
               "b": { "windowTime": "20s", "consecutiveFailures": 0, "minimumCalls": 7, "probesByRates": true,
                      "maxTimeout": "5m", "timeout": "1m", "timeoutJitterPercent": 50, "maxHalfOpenTime": "0" } } }"#,
    );
    let breakers = settings.unwrap().into_breakers().unwrap();
    let other = breakers.named("other").policy().clone();
    assert_eq!(
        other.open_time,
        OpenTime { base: Duration::from_millis(250), multiplier: 2.0, max: Duration::from_millis(2_500), jitter: 0.0 }
    );
    assert_eq!(other.failure_percent, Some(50));
    let a = breakers.named("a").policy().clone();
    assert_eq!((a.window, a.failure_percent, a.minimum_calls), (Window::Count(10), Some(25), 10));
    assert_eq!(a.slow_calls, Some(SlowCalls { longer_than: Duration::from_millis(1_500), percent: 100 }));
    let b = breakers.named("b").policy().clone();
    assert_eq!(b.window, Window::Time { length: Duration::from_secs(20), buckets: 10 });
    assert_eq!((b.consecutive_failures, b.minimum_calls, b.recovery), (0, 7, Recovery::Rates));
    assert_eq!((b.open_time.max, b.max_half_open_time), (Duration::from_secs(300), None));
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    for (settings, expected) in [
        (r#"{"preset": "polly"}"#, "default: preset: \"polly\" is none of gobreaker, hystrix, resilience4j"),
        (r#"{"maxRequests": 0}"#, "default: maxRequests: 0 is not between 1 and 4294967295"),
        (r#"{"failurePercent": 101}"#, "default: failurePercent: 101 is not between 1 and 100"),
        (r#"{"slowCallPercent": 50}"#, "default: slowCallPercent: needs slowCallDuration beside it"),
        (
            r#"{"interval": "1m", "windowCalls": 5}"#,
            "default: interval: only one of interval, windowCalls and windowTime may be given",
        ),
        (r#"{"timeout": "1 m"}"#, "default: timeout: \"1 m\" is no duration such as 1m30s or 250ms"),
        (r#"{"timeout": ""}"#, "default: timeout: \"\" is no duration such as 1m30s or 250ms"),
        (r#"{"timeout": "99999999999h"}"#, "default: timeout: \"99999999999h\" is no duration such as 1m30s or 250ms"),
        (r#"{"timeoutGrowthPercent": 50}"#, "default: timeoutGrowthPercent: 50 is not between 100 and 1000"),
        (r#"{"timeoutJitterPercent": 200}"#, "default: timeoutJitterPercent: 200 is not between 0 and 100"),
        (r#"{"maxTimeout": "1s"}"#, "default: maxTimeout: 1s is less than timeout 60s"),
    ] {
        let settings = read(&format!("{{\"default\": {settings}}}")).unwrap();
        assert_eq!(settings.into_breakers().unwrap_err().to_string(), expected);
    }
    assert!(read(r#"{"default": {"maxrequests": 5}}"#).unwrap_err().to_string().contains("unknown field"));
}
