//! Which resilience policy a service gets, and what of breakers and limits survives a new snapshot.

use std::sync::Arc;
use std::time::Duration;

use meshwright_model::{
    AdaptiveConcurrency, BreakerPreset, BreakerScope, Bulkhead, CircuitBreaker, Coalescing, ConcurrencyAlgorithm,
    Enforcement, Fallback, LastGood, Mesh, Origin, ResiliencePolicy, ResilienceSettings, RetryBudget,
};
use meshwright_snapshot::{Cluster, CompileOptions, Snapshot, compile};
use meshwright_traffic::ActiveBudget;

mod common;
use common::service;

fn breaker(scope: BreakerScope, failures: u32) -> ResilienceSettings {
    let breaker = CircuitBreaker { scope, consecutive_failures: Some(failures), ..CircuitBreaker::default() };
    ResilienceSettings { circuit_breaker: Some(breaker), ..ResilienceSettings::default() }
}

fn policy(name: &str, namespace: &str, host: &str, settings: ResilienceSettings) -> ResiliencePolicy {
    let origin = Origin { source: Arc::from("test.yaml"), line: 1, column: 1 };
    ResiliencePolicy { name: name.to_owned(), namespace: namespace.to_owned(), host: host.to_owned(), settings, origin }
}

fn mesh(endpoints: &[&str], policies: Vec<ResiliencePolicy>) -> Mesh {
    Mesh { services: vec![service("users", &[80], endpoints)], resilience_policies: policies, ..Mesh::default() }
}

fn compiled(mesh: Mesh, previous: Option<&Snapshot>) -> (Snapshot, Vec<String>) {
    let (snapshot, found) = compile(mesh, &[], &CompileOptions::default(), previous).expect("a good mesh");
    (snapshot, found.iter().map(ToString::to_string).collect())
}

fn only(snapshot: &Snapshot) -> &Cluster {
    &snapshot.clusters[0]
}

fn failures(cluster: &Cluster) -> Option<u32> {
    let breakers = cluster.breakers.as_ref()?;
    breakers.all().next().map(|breaker| breaker.policy().consecutive_failures)
}

#[test]
fn the_most_specific_policy_of_the_nearest_namespace_wins_and_the_others_are_named() {
    let of = |failures| breaker(BreakerScope::Cluster, failures);
    let policies = vec![
        policy("all", "default", "*", of(1)),
        policy("suffix", "default", "*.svc.cluster.local", of(2)),
        policy("root", "istio-system", "users.default.svc.cluster.local", of(4)),
    ];
    let (snapshot, found) = compiled(mesh(&["10.0.0.1:9000"], policies.clone()), None);
    assert_eq!(failures(only(&snapshot)), Some(2));
    assert_eq!(found.iter().filter(|finding| finding.contains("resilience-policy-unused")).count(), 2, "{found:?}");
    let mut policies = policies;
    policies.push(policy("exact", "default", "users", of(3)));
    policies.push(policy("again", "default", "users", of(9)));
    let (snapshot, found) = compiled(mesh(&["10.0.0.1:9000"], policies), None);
    assert_eq!(failures(only(&snapshot)), Some(3), "of two for one host the earlier wins");
    assert!(found.iter().any(|finding| finding.contains("ResiliencePolicy/default/again")), "{found:?}");
    let (snapshot, found) = compiled(mesh(&["10.0.0.1:9000"], Vec::new()), None);
    assert!(only(&snapshot).breakers.is_none() && only(&snapshot).adaptive.is_none() && found.is_empty());
}

#[test]
fn breakers_live_on_while_their_policy_is_the_same() {
    let endpoints = ["10.0.0.1:9000", "10.0.0.2:9000"];
    let whole = |failures| vec![policy("p", "default", "users", breaker(BreakerScope::Cluster, failures))];
    let breaker_of = |snapshot: &Snapshot| only(snapshot).breakers.as_ref().and_then(|of| of.cluster.clone()).unwrap();
    let (first, _) = compiled(mesh(&endpoints, whole(3)), None);
    let (second, _) = compiled(mesh(&endpoints[..1], whole(3)), Some(&first));
    assert!(Arc::ptr_eq(&breaker_of(&first), &breaker_of(&second)), "other endpoints, the same breaker");
    let (third, _) = compiled(mesh(&endpoints, whole(4)), Some(&second));
    assert!(!Arc::ptr_eq(&breaker_of(&second), &breaker_of(&third)));

    let each = || vec![policy("p", "default", "users", breaker(BreakerScope::Endpoint, 3))];
    let of_endpoints = |snapshot: &Snapshot| only(snapshot).breakers.as_ref().unwrap().endpoints.clone();
    let (first, _) = compiled(mesh(&endpoints, each()), None);
    assert_eq!(of_endpoints(&first).len(), 2);
    let (second, _) = compiled(mesh(&["10.0.0.3:9000", "10.0.0.2:9000"], each()), Some(&first));
    assert!(Arc::ptr_eq(&of_endpoints(&first)[1], &of_endpoints(&second)[1]), "by address");
    assert!(!Arc::ptr_eq(&of_endpoints(&first)[0], &of_endpoints(&second)[0]));
}

#[test]
fn presets_are_laid_below_what_is_given() {
    let given = CircuitBreaker {
        preset: BreakerPreset::Hystrix,
        timeout: Some(Duration::from_secs(9)),
        ..CircuitBreaker::default()
    };
    let settings = ResilienceSettings { circuit_breaker: Some(given), ..ResilienceSettings::default() };
    let (snapshot, _) = compiled(mesh(&["10.0.0.1:9000"], vec![policy("p", "default", "users", settings)]), None);
    let breakers = only(&snapshot).breakers.as_ref().unwrap();
    let policy = breakers.cluster.as_ref().unwrap().policy();
    assert_eq!((policy.failure_percent, policy.minimum_calls), (Some(50), 20));
    assert_eq!(policy.open_time.base, Duration::from_secs(9));
}

#[test]
fn a_bulkhead_makes_requests_in_flight_counted_at_endpoints_that_keep_their_counts() {
    let settings = |max_requests_per_endpoint, enforcement| {
        let bulkhead = Some(Bulkhead { max_requests_per_endpoint, enforcement });
        vec![policy("p", "default", "users", ResilienceSettings { bulkhead, ..ResilienceSettings::default() })]
    };
    let (first, _) = compiled(mesh(&["10.0.0.1:9000"], settings(2, Enforcement::Enforce)), None);
    let hosts = &only(&first).hosts;
    assert!(only(&first).counts_in_flight());
    assert!(hosts.try_acquire(0) && hosts.try_acquire(0) && !hosts.try_acquire(0));
    let (second, _) = compiled(mesh(&["10.0.0.1:9000"], settings(3, Enforcement::Enforce)), Some(&first));
    let hosts = &only(&second).hosts;
    assert!(hosts.try_acquire(0) && !hosts.try_acquire(0), "two are there from before");
    let (third, _) = compiled(mesh(&["10.0.0.1:9000"], settings(1, Enforcement::Observe)), Some(&second));
    let hosts = &only(&third).hosts;
    assert!(hosts.try_acquire(0) && hosts.is_full());
}

#[test]
fn budgets_and_adaptive_limits_follow_from_the_policy_and_the_limit_lives_on() {
    let adaptive = AdaptiveConcurrency {
        algorithm: ConcurrencyAlgorithm::Aimd,
        enforcement: Enforcement::Observe,
        initial_limit: Some(7),
        min_limit: Some(5),
        max_limit: None,
        window: None,
        criticality_header: Some("x-criticality".to_owned()),
        criticality_by_route: Default::default(),
        criticality_by_identity: Vec::new(),
        sheddable_plus_percent: None,
        sheddable_percent: Some(10),
    };
    let settings = ResilienceSettings {
        retry_budget: Some(RetryBudget { percent: 30, min_retry_concurrency: 1 }),
        adaptive_concurrency: Some(adaptive),
        ..ResilienceSettings::default()
    };
    let policies = vec![policy("p", "default", "users", settings)];
    let (first, _) = compiled(mesh(&["10.0.0.1:9000"], policies.clone()), None);
    assert_eq!(only(&first).limits.retry_budget, Some(ActiveBudget { percent: 30, min_concurrency: 1 }));
    let limit = only(&first).adaptive.as_ref().unwrap();
    let policy = limit.limit.policy();
    assert_eq!((policy.observe, policy.initial, policy.min, policy.max), (true, 7, 5, 200));
    assert_eq!((policy.shed.sheddable_plus, policy.shed.sheddable), (80, 10));
    assert_eq!(limit.criticality_header.as_deref(), Some("x-criticality"));
    let (second, _) = compiled(mesh(&["10.0.0.2:9000"], policies), Some(&first));
    assert!(Arc::ptr_eq(&limit.limit, &only(&second).adaptive.as_ref().unwrap().limit));
}

#[test]
fn what_is_shared_lives_on_while_its_own_policy_is_the_same() {
    let coalescing = |timeout| Coalescing {
        timeout: Duration::from_secs(timeout),
        max_answer_bytes: 1,
        max_keys: 2,
        max_waiters: 3,
    };
    let last_good = LastGood { stale_if_error: Duration::ZERO, max_answer_bytes: 1, max_bytes: 2, max_entries: 3 };
    let compile = |timeout, previous| {
        let settings = ResilienceSettings {
            coalescing: Some(coalescing(timeout)),
            fallback: Some(Fallback { last_good: Some(last_good), ..Fallback::default() }),
            ..ResilienceSettings::default()
        };
        let policies = vec![policy("p", "default", "users", settings)];
        let shared = compiled(mesh(&["10.0.0.1:9000"], policies), previous).0;
        let of = only(&shared).shared_answers.clone().unwrap();
        (shared, of.last_good.unwrap().answers, of.coalescing.unwrap().coalescer)
    };
    let first = compile(1, None);
    let same = compile(1, Some(&first.0));
    assert!(Arc::ptr_eq(&first.1, &same.1) && Arc::ptr_eq(&first.2, &same.2));
    let other = compile(2, Some(&same.0));
    assert!(Arc::ptr_eq(&first.1, &other.1) && !Arc::ptr_eq(&first.2, &other.2));
}
