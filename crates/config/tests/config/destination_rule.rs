//! What is asked of a `DestinationRule`.

use std::time::Duration;

use meshwright_model::{Algorithm, OutlierDetection};

use crate::case::{destination_rule, error, expect, mesh, read, warning};

#[test]
fn every_mistake_in_a_destination_rule_is_named_at_its_place() {
    let policy = |text: &str| format!("host: a\ntrafficPolicy:\n  {text}");
    let cases = [
        ("§subsets: []".to_owned(), error("invalid-host", "spec.host", "the destination rule has no host")),
        ("host: §'*a'".to_owned(), error("invalid-host", "spec.host", "partial wildcard \"*a\" not allowed")),
        (
            "host: a\ntrafficPolicy: §{}".to_owned(),
            error("empty-block", "spec.trafficPolicy", "traffic policy must have at least one field"),
        ),
        (
            policy("connectionPool: §{}"),
            error("empty-block", "spec.trafficPolicy.connectionPool", "connection pool must have at least one field"),
        ),
        (
            policy("portLevelSettings: [{§port: {number: 80}}]"),
            error(
                "empty-block",
                "spec.trafficPolicy.portLevelSettings[0]",
                "port traffic policy must have at least one field",
            ),
        ),
        (
            policy("portLevelSettings: [{§loadBalancer: {simple: RANDOM}}]"),
            error(
                "port-range",
                "spec.trafficPolicy.portLevelSettings[0].port",
                "portTrafficPolicy must have valid port",
            ),
        ),
        (
            policy("portLevelSettings: [{port: {number: §0}, loadBalancer: {simple: RANDOM}}]"),
            error(
                "port-range",
                "spec.trafficPolicy.portLevelSettings[0].port.number",
                "portTrafficPolicy must have valid port",
            ),
        ),
        (
            "host: a\nsubsets: [{name: v1}, {name: §v1}]".to_owned(),
            error("duplicate-name", "spec.subsets[1].name", "duplicate subset names: v1"),
        ),
        ("host: a\nsubsets: [§null]".to_owned(), error("null-element", "spec.subsets[0]", "subset may not be null")),
        (
            "host: a\nsubsets: [{§labels: {a: b}}]".to_owned(),
            error("invalid-name", "spec.subsets[0].name", "subset name cannot be empty"),
        ),
        (
            "host: a\nsubsets: [{name: §v.1}]".to_owned(),
            error("invalid-name", "spec.subsets[0].name", "subset name is invalid: v.1"),
        ),
        (
            "host: a\nsubsets: [{name: v1, labels: {version: §'-x'}}]".to_owned(),
            error("invalid-label", "spec.subsets[0].labels.version", "invalid value \"-x\" of the label version"),
        ),
        (
            "host: a\nsubsets: [{name: v1, labels: {version: §1.0}}]".to_owned(),
            error("wrong-type", "spec.subsets[0].labels.version", "expected a string, found the number 1.0"),
        ),
        (
            policy("connectionPool: {tcp: {maxConnections: §-1}}"),
            error(
                "range",
                "spec.trafficPolicy.connectionPool.tcp.maxConnections",
                "max connections must be non-negative",
            ),
        ),
        (
            policy("connectionPool: {http: {http1MaxPendingRequests: §-1}}"),
            error(
                "range",
                "spec.trafficPolicy.connectionPool.http.http1MaxPendingRequests",
                "http1 max pending requests must be non-negative",
            ),
        ),
        (
            policy("connectionPool: {http: {maxRequestsPerConnection: §-1}}"),
            error(
                "range",
                "spec.trafficPolicy.connectionPool.http.maxRequestsPerConnection",
                "max requests per connection must be non-negative",
            ),
        ),
        (
            policy("connectionPool: {http: {h2UpgradePolicy: UPGRADE, useClientProtocol: §true}}"),
            error(
                "contradiction",
                "spec.trafficPolicy.connectionPool.http.useClientProtocol",
                "use client protocol must not be true when H2UpgradePolicy is UPGRADE",
            ),
        ),
        (
            policy("connectionPool: {http: {http2KeepAlive: {§timeout: 1s}}}"),
            error(
                "missing-field",
                "spec.trafficPolicy.connectionPool.http.http2KeepAlive.interval",
                "http2 keepalive interval is required",
            ),
        ),
        (
            policy("outlierDetection: {maxEjectionPercent: §101}"),
            error(
                "range",
                "spec.trafficPolicy.outlierDetection.maxEjectionPercent",
                "percentage 101 is not in range 0..100",
            ),
        ),
        (
            policy("outlierDetection: {interval: §5}"),
            error("duration", "spec.trafficPolicy.outlierDetection.interval", "invalid duration: 5"),
        ),
        (
            policy("{outlierDetection: {interval: 1s}, §circuitBreaker: {interval: 1s}}"),
            error("choice", "spec.trafficPolicy.circuitBreaker", "cannot both be given"),
        ),
        (
            policy("loadBalancer: {simple: §ROUNDROBIN}"),
            error("unknown-value", "spec.trafficPolicy.loadBalancer.simple", "invalid load balancer \"ROUNDROBIN\""),
        ),
        (
            policy("loadBalancer: {simple: RANDOM, §consistentHash: {useSourceIp: true}}"),
            error("choice", "spec.trafficPolicy.loadBalancer.consistentHash", "cannot both be given"),
        ),
        (
            policy("{retryBudget: {percent: §101}}"),
            error("range", "spec.trafficPolicy.retryBudget.percent", "from 0 to 100"),
        ),
        (
            policy("{tunnel: {}, §proxyProtocol: {version: V1}}"),
            error("choice", "spec.trafficPolicy.proxyProtocol", "tunnel and proxyProtocol must not be set together"),
        ),
        (
            "host: a\n§workloadSelector: {matchLabels: {a: b}}".to_owned(),
            error("not-supported", "spec.workloadSelector", "cannot be left out safely"),
        ),
    ];
    for (spec, expected) in &cases {
        expect(&destination_rule(spec), expected);
    }
}

#[test]
fn what_has_another_effect_than_one_may_think_is_a_warning() {
    let policy = |text: &str| format!("host: a\ntrafficPolicy:\n  {text}");
    let cases = [
        (
            policy("outlierDetection: {§consecutiveErrors: 3}"),
            warning(
                "deprecated",
                "spec.trafficPolicy.outlierDetection.consecutiveErrors",
                "outlier detection consecutive errors is deprecated, use consecutiveGatewayErrors or consecutive5xxErrors",
            ),
        ),
        (
            policy("outlierDetection: {consecutiveLocalOriginFailures: §3}"),
            warning(
                "ineffective",
                "spec.trafficPolicy.outlierDetection.consecutiveLocalOriginFailures",
                "split external local origin errors is set to false",
            ),
        ),
        (
            policy("connectionPool: {tcp: {maxConnections: §0}}"),
            warning("zero-limit", "spec.trafficPolicy.connectionPool.tcp.maxConnections", "0 counts as not set"),
        ),
        (
            policy("connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: §1000}}"),
            warning(
                "pool-proportion",
                "spec.trafficPolicy.connectionPool.http.http1MaxPendingRequests",
                "1000 requests may wait for 1 connections",
            ),
        ),
        (
            policy(
                "{loadBalancer: {simple: RANDOM}, portLevelSettings: [{§port: {number: 80}, connectionPool: {tcp: {maxConnections: 1}}}]}",
            ),
            warning("port-level-loss", "spec.trafficPolicy.portLevelSettings[0]", "port 80 loses loadBalancer"),
        ),
        (
            policy("loadBalancer: {simple: §PASSTHROUGH}"),
            warning("not-supported", "spec.trafficPolicy.loadBalancer.simple", "PASSTHROUGH is not supported"),
        ),
        (
            policy("loadBalancer: {simple: §LEAST_CONN}"),
            warning("deprecated", "spec.trafficPolicy.loadBalancer.simple", "LEAST_CONN is deprecated"),
        ),
    ];
    for (spec, expected) in &cases {
        expect(&destination_rule(spec), expected);
    }
}

#[test]
fn the_old_field_yields_to_the_new_one() {
    let rule = |text: &str| {
        mesh(&destination_rule(&format!("host: a\ntrafficPolicy: {{{text}}}"))).destination_rules[0].clone()
    };
    let detection = |text: &str| rule(text).traffic_policy.outlier_detection.expect("a block").consecutive_5xx;
    assert_eq!(detection("circuitBreaker: {consecutiveErrors: 3}"), 3);
    assert_eq!(detection("outlierDetection: {consecutiveErrors: 3, consecutive5xxErrors: 7}"), 7);
    assert_eq!(detection("outlierDetection: {consecutive_5xx_errors: 0}"), 0);
    assert_eq!(detection("outlierDetection: {interval: 1s}"), 5);
}

#[test]
fn every_block_of_a_policy_is_read() {
    let mesh = mesh(&destination_rule(
        "host: A
trafficPolicy:
  loadBalancer: {simple: 2}
  connectionPool:
    tcp: {maxConnections: 1, connectTimeout: 30ms, maxConnectionDuration: 1h, idleTimeout: 0s, tcpKeepalive: {probes: 3, time: 60s}}
    http: {http1MaxPendingRequests: 2, http2MaxRequests: 3, maxRequestsPerConnection: 4, maxRetries: 5}
  outlierDetection: {consecutiveGatewayErrors: 2, splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 4, minHealthPercent: 30}
  portLevelSettings:
  - {port: {number: 80}, loadBalancer: {simple: ROUND_ROBIN}, connectionPool: {http: {idleTimeout: 5s}}, outlierDetection: {interval: 1s}}
subsets:
- {name: v1, labels: {version: v1}, trafficPolicy: {loadBalancer: {simple: UNSPECIFIED}}}",
    ));
    let rule = &mesh.destination_rules[0];
    assert_eq!(rule.host, "a");
    let policy = &rule.traffic_policy;
    assert_eq!(policy.load_balancer, Some(Algorithm::Random.into()));
    let pool = policy.connection_pool.as_ref().expect("a pool");
    assert_eq!(pool.connect_timeout, Some(Duration::from_millis(30)));
    assert_eq!(pool.max_connection_duration, Some(Duration::from_secs(3600)));
    assert_eq!(pool.idle_timeout, Some(Duration::ZERO));
    assert_eq!(pool.tcp_keepalive, Some((Some(3), Some(Duration::from_secs(60)), None)));
    let limits = (pool.max_connections, pool.max_pending_requests, pool.max_requests);
    assert_eq!(limits, (Some(1), Some(2), Some(3)));
    assert_eq!((pool.max_requests_per_connection, pool.max_retries), (Some(4), Some(5)));
    let expected = OutlierDetection {
        consecutive_gateway_errors: 2,
        split_local_origin: true,
        consecutive_local_origin_failures: 4,
        min_health_percent: 30,
        ..OutlierDetection::default()
    };
    assert_eq!(policy.outlier_detection, Some(expected));
    let port = &policy.port_level[0];
    assert_eq!((port.port, port.load_balancer.clone()), (80, Some(Algorithm::RoundRobin.into())));
    assert_eq!(port.connection_pool.as_ref().and_then(|pool| pool.idle_timeout), Some(Duration::from_secs(5)));
    assert_eq!(rule.subsets[0].traffic_policy.load_balancer, Some(Algorithm::LeastRequest.into()));
}

#[test]
fn rules_for_one_host_are_joined_and_what_is_dropped_is_said() {
    let rule = |name: &str, spec: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n---\n"
        )
    };
    let text = [
        rule("a", "host: a, subsets: [{name: v1, labels: {version: v1}}]"),
        rule("b", "host: a.default.svc.cluster.local, trafficPolicy: {loadBalancer: {simple: RANDOM}}, subsets: [{name: v1, labels: {version: other}}, {name: v2}]"),
        rule("c", "host: a, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}"),
        rule("d", "host: b"),
    ]
    .concat();
    let outcome = read(&text);
    let conflicts: Vec<&str> = outcome
        .diagnostics
        .iter()
        .filter(|finding| finding.code == "destination-rule-conflict")
        .map(|finding| finding.path.as_str())
        .collect();
    assert_eq!(conflicts, ["spec.subsets[0].name", "spec.trafficPolicy"]);
    let rules = outcome.mesh.expect("a mesh").destination_rules;
    assert_eq!(rules.len(), 2);
    assert_eq!(rules[0].traffic_policy.load_balancer, Some(Algorithm::Random.into()));
    let names: Vec<&str> = rules[0].subsets.iter().map(|subset| subset.name.as_str()).collect();
    assert_eq!(names, ["v1", "v2"]);
    assert_eq!(rules[0].subsets[0].labels["version"], "v1");
}
