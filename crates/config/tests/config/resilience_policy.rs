//! What is asked of a `ResiliencePolicy`.

use std::time::Duration;

use meshwright_model::{
    BreakerPreset, BreakerScope, BreakerWindow, Bulkhead, Coalescing, ConcurrencyAlgorithm, Destination, Enforcement,
    FallbackResponse, HealthCheck, HealthPort, HealthProbe, Hedging, IdentityCriticality, IdentityName, LastGood,
    RateLimit, RateLimitKey, RetryBudget, RetryMethods, RetryOn, RetryPolicy, Severity,
};

use crate::case::{error, expect, expect_with, mesh, read_with, warning};

fn policy(spec: &str) -> String {
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!("apiVersion: meshwright.io/v1alpha1\nkind: ResiliencePolicy\nmetadata: {{name: test}}\nspec:\n{spec}")
}

#[test]
fn every_field_means_what_it_says() {
    let text = policy(
        "host: Users
circuitBreaker:
  preset: HYSTRIX
  scope: ENDPOINT
  mode: OBSERVE
  consecutiveFailures: 7
  failurePercent: 40
  slowCallDuration: 2s
  minimumCalls: 30
  windowTime: 20s
  maxRequests: 3
  probesByRates: true
  maxHalfOpenTime: 0s
  timeout: 5s
  timeoutGrowthPercent: 200
  maxTimeout: 1m
  timeoutJitterPercent: 10
retries:
  attempts: 5
  retryOn: 5xx,409
  methods: IDEMPOTENT
  perTryTimeout: 2s
  backoff: 0.1s
  maxRetryAfter: 30s
retryBudget: {percent: 25}
adaptiveConcurrency:
  algorithm: VEGAS
  mode: ENFORCE
  initialLimit: 50
  minLimit: 10
  maxLimit: 500
  window: 0.5s
  criticalityHeader: X-Criticality
  criticalityByRoute: {reports: SHEDDABLE_PLUS}
  criticalityByIdentity:
  - {exact: 'spiffe://td/ns/batch/sa/a', criticality: SHEDDABLE}
  - {prefix: 'spiffe://td/ns/shop/', criticality: critical-plus}
  - {criticality: sheddable_plus}
  sheddablePercent: 30
hedging: {percentile: 90}
rateLimit: {requests: 50, per: 10s, burst: 5, key: {header: X-User, route: true}, maxKeys: 7, mode: OBSERVE, headers: true}
fallback:
  statuses: [503, 502, 503]
  destination: {host: Backup, port: {number: 8080}, subset: v1}
  lastGood: {staleIfError: 10s, maxAnswerBytes: 5, maxBytes: 60, maxEntries: 7}
  response: {status: 203, headers: {X-Stale: 'yes'}, body: {string: later}}
coalescing: {timeout: 3s, maxAnswerBytes: 9, maxKeys: 8}",
    );
    let mesh = mesh(&text);
    let [policy] = mesh.resilience_policies.as_slice() else { panic!("one policy") };
    assert_eq!((policy.name.as_str(), policy.namespace.as_str(), policy.host.as_str()), ("test", "default", "users"));
    let breaker = policy.settings.circuit_breaker.as_ref().expect("a breaker");
    assert_eq!((breaker.preset, breaker.scope), (BreakerPreset::Hystrix, BreakerScope::Endpoint));
    assert_eq!(breaker.enforcement, Enforcement::Observe);
    assert_eq!(breaker.window, Some(BreakerWindow::Time(Duration::from_secs(20))));
    assert_eq!((breaker.consecutive_failures, breaker.failure_percent), (Some(7), Some(40)));
    assert_eq!(breaker.slow_calls, Some((Duration::from_secs(2), 100)));
    assert_eq!((breaker.minimum_calls, breaker.max_requests), (Some(30), Some(3)));
    assert_eq!((breaker.probes_by_rates, breaker.max_half_open_time), (Some(true), Some(Duration::ZERO)));
    assert_eq!((breaker.timeout, breaker.max_timeout), (Some(Duration::from_secs(5)), Some(Duration::from_secs(60))));
    assert_eq!((breaker.timeout_growth_percent, breaker.timeout_jitter_percent), (Some(200), Some(10)));
    assert_eq!(
        policy.settings.retries,
        Some(RetryPolicy {
            attempts: 5,
            per_try_timeout: Some(Duration::from_secs(2)),
            on: RetryOn { server_error: true, status_codes: vec![409], ..RetryOn::default() },
            backoff: Duration::from_millis(100),
            avoid_previous_hosts: true,
            methods: RetryMethods::Idempotent,
            max_retry_after: Duration::from_secs(30),
        })
    );
    assert_eq!(policy.settings.retry_budget, Some(RetryBudget { percent: 25, min_retry_concurrency: 3 }));
    assert_eq!(policy.settings.hedging, Some(Hedging::Percentile(90)));
    let limit = RateLimit {
        requests: 50,
        per: Duration::from_secs(10),
        burst: 5,
        key: RateLimitKey { header: Some("x-user".to_owned()), source_ip: false, route: true },
        max_keys: 7,
        enforcement: Enforcement::Observe,
        headers: true,
    };
    assert_eq!(policy.settings.rate_limit, Some(limit));
    let fallback = policy.settings.fallback.as_ref().expect("a fallback");
    let backup = Destination { host: "backup".to_owned(), subset: Some("v1".to_owned()), port: Some(8080) };
    assert_eq!((fallback.statuses.as_slice(), &fallback.destination), (&[502, 503][..], &Some(backup)));
    let last_good =
        LastGood { stale_if_error: Duration::from_secs(10), max_answer_bytes: 5, max_bytes: 60, max_entries: 7 };
    assert_eq!(fallback.last_good, Some(last_good));
    let headers = vec![("x-stale".to_owned(), "yes".to_owned())];
    let response = FallbackResponse { status: 203, headers, body: b"later".to_vec() };
    assert_eq!(fallback.response, Some(response));
    let coalescing =
        Coalescing { timeout: Duration::from_secs(3), max_answer_bytes: 9, max_keys: 8, max_waiters: 10_000 };
    assert_eq!(policy.settings.coalescing, Some(coalescing));
    let adaptive = policy.settings.adaptive_concurrency.as_ref().expect("a limit");
    assert_eq!((adaptive.algorithm, adaptive.enforcement), (ConcurrencyAlgorithm::Vegas, Enforcement::Enforce));
    assert_eq!((adaptive.initial_limit, adaptive.min_limit, adaptive.max_limit), (Some(50), Some(10), Some(500)));
    assert_eq!(adaptive.window, Some(Duration::from_millis(500)));
    assert_eq!(adaptive.criticality_header.as_deref(), Some("x-criticality"));
    let by_route = [("reports".to_owned(), "sheddable-plus".to_owned())];
    assert_eq!(adaptive.criticality_by_route, by_route.into());
    let entry = |name, criticality: &str| IdentityCriticality { name, criticality: criticality.to_owned() };
    let by_identity = [
        entry(IdentityName::Exact("spiffe://td/ns/batch/sa/a".to_owned()), "sheddable"),
        entry(IdentityName::Prefix("spiffe://td/ns/shop/".to_owned()), "critical-plus"),
        entry(IdentityName::Anybody, "sheddable-plus"),
    ];
    assert_eq!(adaptive.criticality_by_identity, by_identity);
    assert_eq!((adaptive.sheddable_plus_percent, adaptive.sheddable_percent), (None, Some(30)));
}

#[test]
fn an_adaptive_limit_observes_and_a_breaker_decides_unless_told_otherwise() {
    let mesh = mesh(&policy("host: users\ncircuitBreaker: {windowCalls: 9}\nadaptiveConcurrency: {}"));
    let settings = &mesh.resilience_policies[0].settings;
    let (breaker, adaptive) = (settings.circuit_breaker.as_ref(), settings.adaptive_concurrency.as_ref());
    assert_eq!(breaker.map(|breaker| breaker.enforcement), Some(Enforcement::Enforce));
    assert_eq!(breaker.and_then(|breaker| breaker.window), Some(BreakerWindow::Calls(9)));
    assert_eq!(adaptive.map(|adaptive| adaptive.enforcement), Some(Enforcement::Observe));
}

#[test]
fn a_bulkhead_decides_unless_told_otherwise() {
    for (text, enforcement) in [("", Enforcement::Enforce), (", mode: OBSERVE", Enforcement::Observe)] {
        let mesh = mesh(&policy(&format!("host: users\nbulkhead: {{maxRequestsPerEndpoint: 7{text}}}")));
        let bulkhead = mesh.resilience_policies[0].settings.bulkhead;
        assert_eq!(bulkhead, Some(Bulkhead { max_requests_per_endpoint: 7, enforcement }));
    }
}

#[test]
fn every_mistake_is_named_at_its_place() {
    let breaker = |text: &str| format!("host: a\ncircuitBreaker: {{{text}}}");
    let adaptive = |text: &str| format!("host: a\nadaptiveConcurrency: {{{text}}}");
    let fallback = |text: &str| format!("host: a\nfallback: {{{text}}}");
    let retries = |text: &str| format!("host: a\nretries: {{{text}}}");
    let cases = [
        ("§retryBudget: {}".to_owned(), error("invalid-host", "spec.host", "the resilience policy has no host")),
        ("host: §'*a'\nretryBudget: {}".to_owned(), error("invalid-host", "spec.host", "partial wildcard")),
        ("§host: a".to_owned(), error("empty-block", "spec", "the resilience policy says nothing")),
        (breaker("§windowcalls: 1"), error("unknown-field", "spec.circuitBreaker.windowcalls", "unknown field")),
        (breaker("failurePercent: §101"), error("wrong-type", "spec.circuitBreaker.failurePercent", "101")),
        (breaker("maxRequests: §0"), error("wrong-type", "spec.circuitBreaker.maxRequests", "0")),
        (breaker("preset: §POLLY"), error("unknown-value", "spec.circuitBreaker.preset", "POLLY")),
        (breaker("timeout: §0s"), error("duration", "spec.circuitBreaker.timeout", "")),
        (breaker("windowCalls: 5, §interval: 10s"), error("choice", "spec.circuitBreaker.interval", "windowCalls")),
        (
            breaker("§slowCallPercent: 5"),
            error("missing-field", "spec.circuitBreaker.slowCallPercent", "needs slowCallDuration beside it"),
        ),
        (
            breaker("§maxTimeout: 5s"),
            error("missing-field", "spec.circuitBreaker.maxTimeout", "needs timeout beside it"),
        ),
        (
            breaker("timeout: 10s, maxTimeout: §5s"),
            error("range", "spec.circuitBreaker.maxTimeout", "maxTimeout is less than timeout"),
        ),
        (fallback("§statuses: [503]"), error("empty-block", "spec.fallback", "says what is answered")),
        (
            fallback("lastGood: {maxBytes: §100}"),
            error("range", "spec.fallback.lastGood.maxBytes", "maxBytes is less than maxAnswerBytes"),
        ),
        (fallback("statuses: [§200], response: {}"), error("wrong-type", "spec.fallback.statuses[0]", "200")),
        (
            fallback("destination: {host: §'*.x'}"),
            error("invalid-host", "spec.fallback.destination.host", "invalid destination host"),
        ),
        (
            fallback("response: {headers: {§content-length: '5'}}"),
            error("invalid-name", "spec.fallback.response.headers", "content-length cannot be chosen"),
        ),
        (
            "host: a\nrateLimit: §{}".to_owned(),
            error("missing-field", "spec.rateLimit.requests", "the number of requests"),
        ),
        (
            "host: a\nbulkhead: §{}".to_owned(),
            error("missing-field", "spec.bulkhead.maxRequestsPerEndpoint", "the number of requests of one endpoint"),
        ),
        (
            "host: a\nbulkhead: {maxRequestsPerEndpoint: §0}".to_owned(),
            error("wrong-type", "spec.bulkhead.maxRequestsPerEndpoint", "0"),
        ),
        (
            "host: a\nbulkhead: {maxRequestsPerEndpoint: 1, mode: §WATCH}".to_owned(),
            error("unknown-value", "spec.bulkhead.mode", "WATCH"),
        ),
        ("host: a\nrateLimit: {requests: §0}".to_owned(), error("wrong-type", "spec.rateLimit.requests", "0")),
        (
            "host: a\nrateLimit: {requests: 1, key: {header: §'a b'}}".to_owned(),
            error("invalid-name", "spec.rateLimit.key.header", "no name of a header"),
        ),
        (
            "host: a\nhedging: {percentile: 90, §delay: 1s}".to_owned(),
            error("choice", "spec.hedging.delay", "percentile"),
        ),
        (retries("methods: §SOME"), error("unknown-value", "spec.retries.methods", "SOME")),
        (retries("retryOn: §5xxx"), error("unknown-value", "spec.retries.retryOn", "5xxx")),
        (retries("attempts: §-1"), error("wrong-type", "spec.retries.attempts", "-1")),
        (
            adaptive("minLimit: 10, maxLimit: §5"),
            error("range", "spec.adaptiveConcurrency.maxLimit", "maxLimit is less than minLimit"),
        ),
        (
            adaptive("minLimit: §300"),
            error("range", "spec.adaptiveConcurrency.minLimit", "maxLimit is less than minLimit"),
        ),
        (
            adaptive("criticalityByRoute: {§a: urgent}"),
            error("unknown-value", "spec.adaptiveConcurrency.criticalityByRoute", "no criticality"),
        ),
        (
            adaptive("criticalityByIdentity: [{§exact: a}]"),
            error("missing-field", "spec.adaptiveConcurrency.criticalityByIdentity[0]", "needs its criticality"),
        ),
        (
            adaptive("criticalityByIdentity: [{prefix: a, criticality: §none}]"),
            error("unknown-value", "spec.adaptiveConcurrency.criticalityByIdentity[0].criticality", "no criticality"),
        ),
        (
            adaptive("criticalityHeader: §'x y'"),
            error("invalid-name", "spec.adaptiveConcurrency.criticalityHeader", "no name of a header"),
        ),
    ];
    for (spec, expected) in &cases {
        expect(&policy(spec), expected);
    }
    let shed = warning("ineffective", "spec.adaptiveConcurrency.sheddablePercent", "needs a criticalityHeader");
    expect(&policy(&adaptive("§sheddablePercent: 5")), &shed);
}

#[test]
fn a_policy_for_nobody_is_named_and_one_for_everybody_is_not() {
    let text = policy("host: §usres\ncircuitBreaker: {}");
    let nobody = warning("resilience-policy-host", "spec.host", "does not match any services in the mesh");
    expect_with(&text, &["users=127.0.0.1:9001"], &nobody);
    for host in ["'*'", "users", "users.default.svc.cluster.local", "'*.svc.cluster.local'"] {
        let outcome = read_with(&policy(&format!("host: {host}\ncircuitBreaker: {{}}")), &["users=127.0.0.1:9001"]);
        let found: Vec<String> = outcome.diagnostics.iter().map(ToString::to_string).collect();
        assert!(found.is_empty() && outcome.mesh.is_some(), "{host}: {found:?}");
        assert!(outcome.diagnostics.iter().all(|finding| finding.severity == Severity::Warning));
    }
}

fn check(block: &str) -> HealthCheck {
    let mesh = mesh(&policy(&format!("host: '*'\nhealthCheck: {{{block}}}")));
    HealthCheck::clone(mesh.resilience_policies[0].settings.health_check.as_ref().expect("a check"))
}

#[test]
fn a_health_check_has_its_defaults_and_every_field_its_meaning() {
    let default = check("");
    assert_eq!(default, HealthCheck::http("/health", "ResiliencePolicy default/test"));
    assert_eq!((default.interval, default.timeout), (Duration::from_secs(30), Duration::from_secs(5)));
    assert_eq!((default.unhealthy_threshold, default.healthy_threshold, default.initially_healthy), (3, 2, false));
    let all = check(
        "http: {path: '/r?a=1', host: a.example.com, headers: {X-A: b}, expectedStatuses: [204, 300-399]}, port: 81, \
         interval: 10s, intervalJitter: 0s, unhealthyInterval: 2s, timeout: 1s, unhealthyThreshold: 5, healthyThreshold: 4, \
         initialState: HEALTHY",
    );
    assert_eq!(
        all.probe,
        HealthProbe::Http {
            path: "/r?a=1".to_owned(),
            host: Some("a.example.com".to_owned()),
            headers: vec![("x-a".to_owned(), "b".to_owned())],
            expected_statuses: vec![204..=204, 300..=399],
        }
    );
    assert_eq!((all.port, all.initially_healthy), (HealthPort::Number(81), true));
    let times = [all.interval, all.interval_jitter, all.unhealthy_interval, all.timeout];
    assert_eq!(times.map(|time| time.as_secs()), [10, 0, 2, 1]);
    assert_eq!((all.unhealthy_threshold, all.healthy_threshold), (5, 4));
    let ten = check("tcp: {}, interval: 10s");
    assert_eq!((ten.probe, ten.interval_jitter), (HealthProbe::Tcp, Duration::from_secs(1)));
    assert_eq!(ten.unhealthy_interval, Duration::from_secs(10));
    let grpc = HealthProbe::Grpc { service: "a.B".to_owned(), authority: None };
    assert_eq!(check("grpc: {service: a.B}").probe, grpc);
}

#[test]
fn mistakes_in_a_health_check_are_named_at_their_place() {
    for (block, expected) in [
        ("http: {path: §health}", error("invalid-path", "spec.healthCheck.http.path", "is no path of a health check")),
        ("http: {host: §'a b'}", error("invalid-name", "spec.healthCheck.http.host", "is no host")),
        (
            "http: {headers: {§Connection: close}}",
            error("invalid-name", "spec.healthCheck.http.headers", "connection cannot be chosen"),
        ),
        (
            "http: {expectedStatuses: [200, §299-200]}",
            error("range", "spec.healthCheck.http.expectedStatuses[1]", "neither a status nor a range"),
        ),
        ("timeout: §61s", error("range", "spec.healthCheck.timeout", "at most a minute")),
        ("port: §0", error("port-range", "spec.healthCheck.port", "must be in the range")),
    ] {
        expect(&policy(&format!("host: '*'\nhealthCheck: {{{block}}}")), &expected);
    }
}
