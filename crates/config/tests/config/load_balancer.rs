//! What is asked of `loadBalancer`, and what annotations add to it.

use std::time::Duration;

use meshwright_config::balancing::{names, of_service_type, preset};
use meshwright_model::{
    Algorithm, ConsistentHash, HashCookie, HashKey, HashTable, LoadBalancer, LocalityFailover, LocalitySetting, Warmup,
};

use crate::case::{destination_rule, error, expect, mesh, warning};

/// A rule whose load balancer is `text`.
fn rule(text: &str) -> String {
    destination_rule(&format!("host: a\ntrafficPolicy:\n  loadBalancer: {text}\n  outlierDetection: {{interval: 5s}}"))
}

/// A rule with one annotation.
fn annotated(annotation: &str, policy: &str) -> String {
    let text = destination_rule(&format!("host: a\n{policy}"));
    text.replace("  name: test\n", &format!("  name: test\n  annotations:\n    {annotation}\n"))
}

fn read(text: &str) -> LoadBalancer {
    mesh(text).destination_rules[0].traffic_policy.load_balancer.clone().expect("a load balancer")
}

fn hashed(text: &str) -> ConsistentHash {
    match read(&rule(&format!("{{consistentHash: {text}}}"))).algorithm {
        Algorithm::ConsistentHash(hash) => hash,
        other => panic!("not hashed but {other:?}"),
    }
}

#[test]
fn every_mistake_in_a_load_balancer_is_named_at_its_place() {
    let at = |rest: &'static str| -> &'static str { format!("spec.trafficPolicy.loadBalancer.{rest}").leak() };
    let cases = [
        ("{consistentHash: {§maglev: {}}}", error("missing-field", at("consistentHash"), "no key")),
        (
            "{consistentHash: {httpCookie: {§ttl: 1s}}}",
            error("cookie", at("consistentHash.httpCookie.name"), "name required"),
        ),
        (
            "{consistentHash: {httpCookie: {name: §'a;b'}}}",
            error("cookie", at("consistentHash.httpCookie.name"), "invalid"),
        ),
        (
            "{consistentHash: {httpCookie: {§name: a, path: '/;x'}}}",
            error("cookie", at("consistentHash.httpCookie"), "may not hold"),
        ),
        (
            "{consistentHash: {useSourceIp: true, maglev: {tableSize: §100}}}",
            error("range", at("consistentHash.maglev.tableSize"), "prime number"),
        ),
        (
            "{consistentHash: {useSourceIp: true, maglev: {tableSize: §5000011}}}",
            error("range", at("consistentHash.maglev.tableSize"), "less than 5000011"),
        ),
        (
            "{consistentHash: {useSourceIp: true, §minimumRingSize: 5, maglev: {}}}",
            error("choice", at("consistentHash.minimumRingSize"), "only one of MinimumRingSize"),
        ),
        (
            "{consistentHash: {useSourceIp: true, §minimumRingSize: 5}}",
            warning("deprecated", at("consistentHash.minimumRingSize"), "deprecated"),
        ),
        (
            "{consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: §8388609}}}",
            error("range", at("consistentHash.ringHash.minimumRingSize"), "8388608"),
        ),
        ("{warmup: {§aggression: 2}}", error("missing-field", at("warmup.duration"), "duration is required")),
        ("{warmup: {duration: 5s, minimumPercent: §101}}", error("range", at("warmup.minimumPercent"), "0..100")),
        ("{warmup: {duration: 5s, aggression: §0.5}}", error("range", at("warmup.aggression"), "1..1000")),
        ("{§warmupDurationSecs: 5s}", warning("deprecated", at("warmupDurationSecs"), "deprecated")),
        (
            "{consistentHash: {useSourceIp: true}, §warmup: {duration: 5s}}",
            warning("ineffective", at("warmup"), "no effect with consistentHash"),
        ),
        (
            "{localityLbSetting: {distribute: [{from: §'a/*/b', to: {'a/b': 100}}]}}",
            error("locality", at("localityLbSetting.distribute[0].from"), "invalid locality"),
        ),
        (
            "{localityLbSetting: {distribute: [{from: a, to: {§'a/b': 50}}]}}",
            error("locality", at("localityLbSetting.distribute[0].to"), "total locality weight 50 != 100"),
        ),
        (
            "{localityLbSetting: {distribute: [{from: a, to: {§b: 0, c: 100}}]}}",
            error("locality", at("localityLbSetting.distribute[0].to.b"), "range [1, 100]"),
        ),
        (
            "{localityLbSetting: {distribute: [{from: a, to: {b: 50, §'b/c': 50}}]}}",
            error("locality", at("localityLbSetting.distribute[0].to.b/c"), "overlap"),
        ),
        (
            "{localityLbSetting: {distribute: [{from: a, to: {b: 100}}, {from: §'a/*', to: {b: 100}}]}}",
            error("locality", at("localityLbSetting.distribute[1].from"), "overlap"),
        ),
        (
            "{localityLbSetting: {distribute: [{from: a, to: {b: 100}}], §failover: [{from: a, to: b}]}}",
            error("choice", at("localityLbSetting.failover"), "can not simultaneously specify"),
        ),
        (
            "{localityLbSetting: {failover: [{§from: a, to: a}]}}",
            error("locality", at("localityLbSetting.failover[0]"), "different regions"),
        ),
        (
            "{localityLbSetting: {failoverPriority: [§'=v']}}",
            error("locality", at("localityLbSetting.failoverPriority[0]"), "is a label"),
        ),
        (
            "{localityLbSetting: {enabled: true}, §zoneAwareLbSetting: {enabled: true}}",
            error("choice", at("zoneAwareLbSetting"), "only one of"),
        ),
    ];
    for (text, expected) in &cases {
        expect(&rule(text), expected);
    }
}

#[test]
fn failover_without_ejection_is_said_to_do_nothing() {
    let text = "host: a\ntrafficPolicy:\n  loadBalancer: {§localityLbSetting: {failover: [{from: a, to: b}]}}";
    let path = "spec.trafficPolicy.loadBalancer.localityLbSetting";
    expect(&destination_rule(text), &warning("ineffective", path, "must be provided for failover"));
}

#[test]
fn keys_and_tables_are_read_with_their_defaults() {
    let header = hashed("{httpHeaderName: X-User}");
    assert_eq!(header.key, HashKey::Header("x-user".to_owned()));
    assert_eq!(header.table, HashTable::Ring(1024));
    assert_eq!(hashed("{useSourceIp: true, maglev: {}}").table, HashTable::Maglev(65_537));
    assert_eq!(hashed("{httpQueryParameterName: User, ringHash: {minimumRingSize: 7}}").table, HashTable::Ring(7));
    let cookie = hashed("{httpCookie: {name: s, path: /a, ttl: 0s, attributes: [{name: SameSite, value: Lax}]}}");
    let expected = HashCookie {
        name: "s".to_owned(),
        path: Some("/a".to_owned()),
        ttl: Some(Duration::ZERO),
        attributes: vec![("SameSite".to_owned(), "Lax".to_owned())],
    };
    assert_eq!(cookie.key, HashKey::Cookie(expected));
}

#[test]
fn localities_and_warmup_are_read_with_their_defaults() {
    let locality = |text: &str| read(&rule(text)).locality;
    assert_eq!(locality("{simple: RANDOM}"), LocalitySetting::Unset);
    assert_eq!(locality("{localityLbSetting: {enabled: false}}"), LocalitySetting::Off);
    let shares = vec![("a".to_owned(), vec![("a/*".to_owned(), 80), ("b".to_owned(), 20)])];
    let text = "{localityLbSetting: {distribute: [{from: a, to: {'a/*': 80, b: 20}}]}}";
    assert_eq!(locality(text), LocalitySetting::Distribute(shares));
    let failover = LocalityFailover {
        regions: vec![("a".to_owned(), "b".to_owned())],
        labels: vec!["rack".to_owned(), "version=v2".to_owned()],
    };
    let text = "{localityLbSetting: {failover: [{from: a, to: b}], failoverPriority: [rack, version=v2]}}";
    assert_eq!(locality(text), LocalitySetting::Failover(failover));
    let zones = LocalitySetting::ZoneAware { minimum_cluster_size: 6, failover: LocalityFailover::default() };
    assert_eq!(locality("{zoneAwareLbSetting: {enabled: true}}"), zones);
    let warmup = Warmup { duration: Duration::from_secs(30), minimum_percent: 10.0, aggression: 1.0 };
    assert_eq!(read(&rule("{warmup: {duration: 30s}}")).warmup, Some(warmup));
    let shaped = Warmup { minimum_percent: 2.5, aggression: 2.0, ..warmup };
    assert_eq!(read(&rule("{warmup: {duration: 30s, minimumPercent: 2.5, aggression: 2}}")).warmup, Some(shaped));
}

#[test]
fn annotations_name_what_istio_has_no_field_for() {
    let balancer = |annotation: &str| read(&annotated(annotation, ""));
    assert_eq!(balancer("meshwright.io/load-balancer: PEAK_EWMA").algorithm, Algorithm::PeakEwma);
    assert_eq!(balancer("meshwright.io/load-balancer: peak-ewma").algorithm, Algorithm::PeakEwma);
    let probed = |rate| Algorithm::Prequal { probes_per_second: rate };
    assert_eq!(balancer("meshwright.io/load-balancer: PREQUAL").algorithm, probed(100));
    let both = "meshwright.io/prequal-probes: '7'\n    meshwright.io/load-balancer: PREQUAL";
    assert_eq!(balancer(both).algorithm, probed(7), "in any order");
    assert_eq!(balancer("meshwright.io/service-type: stateless").algorithm, Algorithm::RoundRobin);
    let cookie = balancer("meshwright.io/session-cookie: s; ttl=1h; path=/a").session.expect("a cookie");
    assert_eq!((cookie.name.as_str(), cookie.ttl), ("s", Some(Duration::from_secs(3600))));
    assert_eq!(cookie.path.as_deref(), Some("/a"));
    let policy = "trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}";
    let Algorithm::ConsistentHash(hash) =
        read(&annotated("meshwright.io/hash-balance-factor: '150'", policy)).algorithm
    else {
        panic!("still hashed");
    };
    assert_eq!(hash.balance_factor, Some(150));
    assert!(mesh(&annotated("example.com/other: x", "")).destination_rules[0].traffic_policy.load_balancer.is_none());
}

#[test]
fn an_annotation_brings_what_envoy_compares() {
    let text = "success-rate; success-rate-request-volume=20; failure-percentage=60; max-ejection-time=10m; \
                max-ejection-time-jitter=5s; enforcing-success-rate=0; enforcing-unreachable=5";
    let mesh = mesh(&annotated(&format!("meshwright.io/outlier-detection: '{text}'"), ""));
    let detection = mesh.destination_rules[0].traffic_policy.outlier_detection.clone().expect("detection");
    let rate = detection.success_rate.expect("rates are compared");
    assert_eq!((rate.minimum_hosts, rate.request_volume, rate.stdev_factor), (5, 20, 1900));
    let share = detection.failure_percentage.expect("shares are compared");
    assert_eq!((share.threshold, share.minimum_hosts, share.request_volume), (60, 5, 50));
    assert_eq!(detection.max_ejection_time, Duration::from_secs(600));
    assert_eq!(detection.max_ejection_time_jitter, Duration::from_secs(5));
    assert_eq!((detection.enforcing.success_rate, detection.enforcing.failure_percentage), (0, 100));
    assert_eq!(detection.enforcing.unreachable, 5);
    assert_eq!(detection.consecutive_5xx, 5);
}

#[test]
fn every_mistake_in_an_annotation_is_named_at_its_place() {
    let at = |rest: &'static str| -> &'static str { format!("metadata.annotations[\"meshwright.io/{rest}\"]").leak() };
    let cases = [
        ("§meshwright.io/load-balance: X", error("unknown-annotation", at("load-balance"), "there is no annotation")),
        ("§meshwright.io/load-balancer: FAST", error("annotation", at("load-balancer"), "there is no load balancer")),
        (
            "§meshwright.io/hash-balance-factor: '150'",
            error("annotation", at("hash-balance-factor"), "needs consistentHash"),
        ),
        (
            "§meshwright.io/prequal-probes: '9'",
            error("annotation", at("prequal-probes"), "need the load balancer PREQUAL"),
        ),
        ("§meshwright.io/prequal-probes: '-1'", error("annotation", at("prequal-probes"), "no number of probes")),
        ("§meshwright.io/session-cookie: 'a; age=1'", error("annotation", at("session-cookie"), "neither ttl=TIME")),
        ("§meshwright.io/session-cookie: 'a; ttl=1'", error("annotation", at("session-cookie"), "no time")),
        ("§meshwright.io/outlier-detection: success", error("annotation", at("outlier-detection"), "no setting")),
        (
            "§meshwright.io/outlier-detection: enforcing-success-rate=101",
            error("annotation", at("outlier-detection"), "0 to 100"),
        ),
        (
            "§meshwright.io/outlier-detection: failure-percentage=101",
            error("annotation", at("outlier-detection"), "not in range 1..100"),
        ),
        ("§meshwright.io/service-type: database", warning("service-type", at("service-type"), "no rule for services")),
    ];
    for (text, expected) in &cases {
        expect(&annotated(text, ""), expected);
    }
}

#[test]
fn service_types_and_rules_of_ribbon_are_presets() {
    let types = ["stateless", "cpu_intensive", "CPU-intensive", "weighted", "anything else"].map(of_service_type);
    let expected = [Algorithm::RoundRobin, Algorithm::LeastRequest, Algorithm::LeastRequest, Algorithm::RoundRobin];
    assert_eq!(types[..4], expected);
    assert_eq!(types[4], Algorithm::Random);
    let rule = |name: &str| preset(name).expect("a rule of Ribbon").algorithm;
    assert_eq!(rule("com.netflix.loadbalancer.WeightedResponseTimeRule"), Algorithm::ResponseTime);
    assert_eq!(rule("BestAvailableRule"), Algorithm::LeastRequestOfAll);
    let zones = preset("ZoneAvoidanceRule").expect("a rule of Ribbon");
    assert!(matches!(zones.locality, LocalitySetting::ZoneAware { .. }));
    assert!(names().into_iter().all(|name| preset(name).is_some()));
    assert_eq!(preset("FastestRule"), None);
}
