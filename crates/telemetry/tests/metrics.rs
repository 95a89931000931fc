//! What a scrape shows of what workers counted.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use meshwright_telemetry::{
    AdaptiveGauges, BreakerGauges, CertificateGauges, ClusterCounter, ClusterGauge, ClusterGauges, CoalescingGauges,
    ConfigGauges, Counter, DestinationLabels, EjectionTotals, Ending, HealthCheckTotals, LastGoodGauges, Metrics,
    ProcessGauges, RefusalReason, SERIES_PER_CLUSTER, ScrapeGauges, SourceLabels, VERSION,
};

const V1: &str = "outbound|80|v1|user-service.default.svc.cluster.local";

fn labels(cluster: &str) -> Arc<DestinationLabels> {
    let host = "user-service.default.svc.cluster.local";
    Arc::new(DestinationLabels::service(cluster, host, "user-service", "default").with_version("v1"))
}

fn scrape(metrics: &Metrics) -> String {
    let mut text = String::new();
    metrics.encode_prometheus(&ScrapeGauges::default(), &mut text);
    text
}

/// Every sample by its name and labels; fails on a line that is no sample, on a sample that appears twice, on a family
/// without or with more than one HELP and TYPE, and on a sample outside its family.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let mut families = HashSet::new();
    let mut family = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split(' ').next().expect("a name").to_owned();
            assert!(families.insert(family.clone()), "{family} appears twice");
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a type");
            assert_eq!(name, family);
            assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
            continue;
        }
        let (key, value) = line.rsplit_once(' ').expect("a sample has a value");
        let name = key.split('{').next().expect("a name");
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        assert!(name == family || base == Some(family.as_str()), "{line} stands under {family}");
        let value: f64 = value.parse().expect("a value is a number");
        assert!(samples.insert(key.to_owned(), value).is_none(), "{key} appears twice");
    }
    samples
}

fn sum_of(samples: &BTreeMap<String, f64>, name: &str, label: &str) -> f64 {
    let own = |key: &&String| key.split('{').next() == Some(name) && key.contains(label);
    samples.iter().filter(|(key, _)| own(key)).map(|(_, value)| value).sum()
}

#[test]
fn a_request_appears_with_istios_labels_in_istios_order() {
    let metrics = Metrics::new();
    let worker = metrics.worker();
    worker.cluster(&labels(V1)).record(Ending::http(200, ""), Duration::from_micros(1_234), 0, 4_294);
    let text = scrape(&metrics);
    let prefix = "reporter=\"source\",source_workload=\"meshwright-gateway\",\
        source_canonical_service=\"meshwright-gateway\",source_canonical_revision=\"latest\",\
        source_workload_namespace=\"default\",source_principal=\"unknown\",source_app=\"meshwright-gateway\",\
        source_version=\"unknown\",source_cluster=\"unknown\",destination_workload=\"user-service\",\
        destination_workload_namespace=\"default\",destination_principal=\"unknown\",\
        destination_app=\"user-service\",destination_version=\"v1\",\
        destination_service=\"user-service.default.svc.cluster.local\",\
        destination_canonical_service=\"user-service\",destination_canonical_revision=\"v1\",\
        destination_service_name=\"user-service\",destination_service_namespace=\"default\",\
        destination_cluster=\"unknown\",request_protocol=\"http\",response_code=\"200\",\
        grpc_response_status=\"\",response_flags=\"-\",connection_security_policy=\"unknown\"";
    for line in [
        format!("istio_requests_total{{{prefix}}} 1"),
        format!("istio_request_duration_milliseconds_bucket{{{prefix},le=\"1\"}} 0"),
        format!("istio_request_duration_milliseconds_bucket{{{prefix},le=\"5\"}} 1"),
        format!("istio_request_duration_milliseconds_bucket{{{prefix},le=\"+Inf\"}} 1"),
        format!("istio_request_duration_milliseconds_sum{{{prefix}}} 1.234"),
        format!("istio_request_duration_milliseconds_count{{{prefix}}} 1"),
        format!("istio_request_bytes_bucket{{{prefix},le=\"0.5\"}} 1"),
        format!("istio_response_bytes_bucket{{{prefix},le=\"2500\"}} 0"),
        format!("istio_response_bytes_bucket{{{prefix},le=\"5000\"}} 1"),
        format!("istio_response_bytes_sum{{{prefix}}} 4294"),
        format!("istio_build{{component=\"meshwright\",tag=\"{VERSION}\"}} 1"),
    ] {
        assert!(text.lines().any(|found| found == line), "missing: {line}\n{text}");
    }
    samples(&text);
}

#[test]
fn workers_are_summed_and_equal_labels_share_a_series() {
    let metrics = Metrics::new();
    let (first, second) = (metrics.worker(), metrics.worker());
    for (worker, times) in [(&first, 3), (&second, 4)] {
        for _ in 0..times {
            // A new configuration brings equal labels at a new address.
            let cluster = worker.cluster(&labels(V1));
            cluster.record(Ending::http(200, ""), Duration::from_millis(7), 10, 20);
            cluster.record(Ending::http(503, "UO"), Duration::from_millis(1), 10, 20);
            cluster.count(ClusterCounter::UpstreamRqTotal);
            cluster.raise(ClusterGauge::UpstreamCxActive);
        }
        worker.cluster(&labels(V1)).lower(ClusterGauge::UpstreamCxActive);
        worker.count(Counter::DownstreamConnectionsAccepted);
        worker.add(Counter::DownstreamBytesSent, 1000);
        worker.refuse(RefusalReason::HeadersTooLarge);
    }
    first.count(Counter::DownstreamConnectionsClosed);
    let found = samples(&scrape(&metrics));
    assert_eq!(sum_of(&found, "istio_requests_total", "response_code=\"200\""), 7.0);
    assert_eq!(sum_of(&found, "istio_requests_total", "response_flags=\"UO\""), 7.0);
    assert_eq!(found.keys().filter(|key| key.starts_with("istio_requests_total")).count(), 2);
    assert_eq!(found[&format!("envoy_cluster_upstream_rq_total{{cluster_name=\"{V1}\"}}")], 7.0);
    assert_eq!(found[&format!("envoy_cluster_upstream_cx_active{{cluster_name=\"{V1}\"}}")], 5.0);
    assert_eq!(found["meshwright_downstream_connections_accepted_total"], 2.0);
    assert_eq!(found["meshwright_downstream_connections_active"], 1.0);
    assert_eq!(found["meshwright_downstream_sent_bytes_total"], 2000.0);
    assert_eq!(found["meshwright_refusals_total{reason=\"headers_too_large\"}"], 2.0);
    assert_eq!(found["meshwright_refusals_total{reason=\"unknown_host\"}"], 0.0);
}

#[test]
fn clusters_that_differ_in_nothing_istio_names_are_one_series() {
    let metrics = Metrics::new();
    let worker = metrics.worker();
    for port in [80, 8080] {
        let cluster = worker.cluster(&labels(&format!("outbound|{port}||user-service")));
        cluster.record(Ending::http(200, ""), Duration::from_millis(1), 0, 0);
        cluster.count(ClusterCounter::UpstreamCxTotal);
    }
    // The same cluster under another version label.
    let relabelled = DestinationLabels::service("outbound|80||user-service", "user-service", "user-service", "default");
    worker.cluster(&Arc::new(relabelled)).count(ClusterCounter::UpstreamCxTotal);
    let found = samples(&scrape(&metrics));
    assert_eq!(sum_of(&found, "istio_requests_total", ""), 2.0);
    assert_eq!(found["envoy_cluster_upstream_cx_total{cluster_name=\"outbound|80||user-service\"}"], 2.0);
    assert_eq!(found["envoy_cluster_upstream_cx_total{cluster_name=\"outbound|8080||user-service\"}"], 1.0);
}

#[test]
fn series_of_a_removed_cluster_and_an_ended_worker_stay() {
    let metrics = Metrics::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let worker = metrics.worker();
            worker.cluster(&labels(V1)).record(Ending::http(200, ""), Duration::from_millis(1), 0, 0);
        });
    });
    let worker = metrics.worker();
    worker.cluster(&labels(V1)).record(Ending::http(200, ""), Duration::from_millis(1), 0, 0);
    assert_eq!(sum_of(&samples(&scrape(&metrics)), "istio_requests_total", ""), 2.0);
}

#[test]
fn gauges_of_the_caller_appear_as_given() {
    let metrics = Metrics::with(SourceLabels::workload("edge", "prod"), 100);
    let gauges = ScrapeGauges {
        config: ConfigGauges {
            generation: 12,
            reloads: 11,
            reload_failures: 3,
            last_reload_successful: false,
            last_reload_success: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_500_250)),
        },
        ready: true,
        clusters: vec![ClusterGauges {
            name: V1.to_owned(),
            membership_total: 3,
            membership_healthy: 2,
            ejections_active: 1,
            unreachable: 1,
            ejections: EjectionTotals { unreachable: 6, consecutive_5xx: 2, ..EjectionTotals::default() },
            remaining_connections: 7,
            health_checks: Some(HealthCheckTotals {
                attempts: 9,
                successes: 5,
                failures: 4,
                network_failures: 3,
                healthy: 2,
            }),
            breakers: Some(BreakerGauges { open: 1, half_open: 0, openings: 4, refused: 77 }),
            adaptive: Some(AdaptiveGauges { limit: 40, in_flight: 12, refused: 5 }),
            last_good: Some(LastGoodGauges { entries: 3, bytes: 999 }),
            bulkhead_full: Some(2),
            coalescing: Some(CoalescingGauges { keys: 8, waiting: 15 }),
            ..ClusterGauges::default()
        }],
        certificates: vec![CertificateGauges {
            shown_by: "0.0.0.0_443/https".to_owned(),
            subject: "CN=\"a\"".to_owned(),
            serial: "0a".to_owned(),
            expires: SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000),
        }],
        process: ProcessGauges { resident_bytes: Some(4096), ..ProcessGauges::default() },
    };
    let mut text = String::new();
    metrics.encode_prometheus(&gauges, &mut text);
    let found = samples(&text);
    for (key, value) in [
        ("meshwright_config_generation", 12.0),
        ("meshwright_config_reloads_total", 11.0),
        ("meshwright_config_reload_failures_total", 3.0),
        ("meshwright_config_last_reload_successful", 0.0),
        ("meshwright_config_last_reload_success_timestamp_seconds", 1500.25),
        ("meshwright_ready", 1.0),
        (
            r#"meshwright_certificate_expiration_timestamp_seconds{shown_by="0.0.0.0_443/https",subject="CN=\"a\"",serial="0a"}"#,
            4_000_000_000.0,
        ),
        ("process_resident_memory_bytes", 4096.0),
    ] {
        assert_eq!(found[key], value, "{key}");
    }
    for (name, value) in [
        ("envoy_cluster_membership_total", 3.0),
        ("envoy_cluster_membership_healthy", 2.0),
        ("envoy_cluster_outlier_detection_ejections_active", 1.0),
        ("envoy_cluster_outlier_detection_ejections_enforced_total", 8.0),
        ("meshwright_cluster_unreachable_ejections_total", 6.0),
        ("meshwright_cluster_unreachable_endpoints", 1.0),
        ("envoy_cluster_circuit_breakers_default_rq_open", 1.0),
        ("envoy_cluster_circuit_breakers_default_cx_open", 0.0),
        ("envoy_cluster_circuit_breakers_default_remaining_cx", 7.0),
        ("envoy_cluster_circuit_breakers_default_remaining_rq", 0.0),
        ("envoy_cluster_health_check_attempt", 9.0),
        ("envoy_cluster_health_check_success", 5.0),
        ("envoy_cluster_health_check_failure", 4.0),
        ("envoy_cluster_health_check_network_failure", 3.0),
        ("envoy_cluster_health_check_healthy", 2.0),
        ("meshwright_cluster_circuit_breakers_open", 1.0),
        ("meshwright_cluster_circuit_breakers_half_open", 0.0),
        ("meshwright_cluster_circuit_breaker_openings_total", 4.0),
        ("meshwright_cluster_circuit_breaker_refused_total", 77.0),
        ("meshwright_cluster_adaptive_concurrency_limit", 40.0),
        ("meshwright_cluster_adaptive_concurrency_in_flight", 12.0),
        ("meshwright_cluster_adaptive_concurrency_refused_total", 5.0),
        ("meshwright_cluster_fallback_last_good_entries", 3.0),
        ("meshwright_cluster_fallback_last_good_bytes", 999.0),
        ("meshwright_cluster_bulkhead_full_endpoints", 2.0),
        ("meshwright_cluster_coalescing_keys", 8.0),
        ("meshwright_cluster_coalescing_waiting", 15.0),
    ] {
        assert_eq!(found[&format!("{name}{{cluster_name=\"{V1}\"}}")], value, "{name}");
    }
    assert!(!found.contains_key("process_open_fds"), "unknown values are left out");
}

#[test]
fn statuses_that_are_none_count_as_other_and_a_departed_client_as_zero() {
    let metrics = Metrics::new();
    let worker = metrics.worker();
    let cluster = worker.unrouted();
    for status in [1, 99, 600, 999, u16::MAX] {
        cluster.record(Ending::http(status, "-"), Duration::ZERO, 0, 0);
    }
    cluster.record(Ending::http(0, "DC"), Duration::ZERO, 0, 0);
    let found = samples(&scrape(&metrics));
    assert_eq!(sum_of(&found, "istio_requests_total", "response_code=\"other\""), 5.0);
    assert_eq!(sum_of(&found, "istio_requests_total", "response_code=\"0\""), 1.0);
    assert_eq!(sum_of(&found, "istio_requests_total", "destination_service=\"unknown\""), 6.0);
    assert_eq!(
        found.keys().filter(|key| key.starts_with("envoy_cluster_")).count(),
        0,
        "no cluster stands behind them"
    );
}

#[test]
fn many_statuses_of_one_cluster_end_in_its_other_series() {
    let metrics = Metrics::new();
    let workers = [metrics.worker(), metrics.worker()];
    for worker in &workers {
        for status in 100..600 {
            worker.cluster(&labels(V1)).record(Ending::http(status, ""), Duration::ZERO, 0, 0);
        }
    }
    let found = samples(&scrape(&metrics));
    let series = found.keys().filter(|key| key.starts_with("istio_requests_total{")).count();
    assert_eq!(series, SERIES_PER_CLUSTER + 1);
    assert_eq!(sum_of(&found, "istio_requests_total", "destination_service_name=\"user-service\""), 1000.0);
    let rest = (1000 - 2 * SERIES_PER_CLUSTER) as f64;
    assert_eq!(sum_of(&found, "istio_requests_total", "response_code=\"other\""), rest);
    assert_eq!(found["meshwright_metrics_series_dropped_total"], rest);
}

#[test]
fn label_sets_beyond_the_cap_end_in_one_overflow_series() {
    let metrics = Metrics::with(SourceLabels::default(), 20);
    let worker = metrics.worker();
    for _ in 0..2 {
        for number in 0..200 {
            let host = format!("service-{number}.default.svc.cluster.local");
            let cluster = format!("outbound|80||{host}");
            let cluster = worker.cluster(&Arc::new(DestinationLabels::service(&cluster, &host, "service", "default")));
            cluster.record(Ending::http(200, ""), Duration::from_millis(1), 0, 0);
            cluster.record(Ending::http(404, ""), Duration::from_millis(1), 0, 0);
            cluster.count(ClusterCounter::UpstreamRqTotal);
        }
    }
    let text = scrape(&metrics);
    let found = samples(&text);
    let series = found.keys().filter(|key| key.starts_with("istio_requests_total{")).count();
    assert!(series <= 21, "{series} series");
    assert_eq!(sum_of(&found, "istio_requests_total", ""), 800.0, "every request is counted somewhere");
    let overflow = sum_of(&found, "istio_requests_total", "destination_service=\"overflow\"");
    assert!(overflow > 0.0);
    assert_eq!(found["meshwright_metrics_series_dropped_total"], overflow);
    assert_eq!(sum_of(&found, "envoy_cluster_upstream_rq_total", ""), 400.0);
    assert!(found["envoy_cluster_upstream_rq_total{cluster_name=\"overflow\"}"] > 0.0);
}

#[test]
fn label_values_cannot_break_out_of_their_quotes() {
    let metrics = Metrics::new();
    let worker = metrics.worker();
    let hostile = "a\"b\\c\nd\u{1b}[31m\u{202e}";
    worker.cluster(&labels(hostile)).count(ClusterCounter::UpstreamCxTotal);
    let text = scrape(&metrics);
    assert!(text.contains("envoy_cluster_upstream_cx_total{cluster_name=\"a\\\"b\\\\c\\nd_[31m_\"} 1\n"), "{text}");
    samples(&text);
}

#[test]
fn a_scrape_between_the_writes_of_workers_sees_counters_that_never_go_back() {
    const ROUNDS: u64 = 5_000;
    let metrics = Metrics::new();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let worker = metrics.worker();
                    for round in 0..ROUNDS {
                        let status = if round % 5 == 0 { 503 } else { 200 };
                        let cluster = worker.cluster(&labels(V1));
                        cluster.record(Ending::http(status, ""), Duration::from_micros(round), round, round);
                        cluster.count(ClusterCounter::UpstreamRqTotal);
                        worker.count(Counter::DownstreamRequests);
                    }
                })
            })
            .collect();
        let scraper = scope.spawn(|| {
            let mut before: HashMap<String, f64> = HashMap::new();
            let mut last = false;
            while !last {
                last = done.load(Ordering::Acquire);
                for (key, value) in samples(&scrape(&metrics)) {
                    let previous = before.insert(key.clone(), value).unwrap_or(0.0);
                    assert!(value >= previous, "{key} went from {previous} to {value}");
                }
            }
        });
        for worker in workers {
            worker.join().expect("a worker ends well");
        }
        done.store(true, Ordering::Release);
        scraper.join().expect("counters never go back");
    });
    let found = samples(&scrape(&metrics));
    assert_eq!(sum_of(&found, "istio_requests_total", ""), 2.0 * ROUNDS as f64);
    assert_eq!(found["meshwright_downstream_requests_total"], 2.0 * ROUNDS as f64);
}

#[test]
fn every_family_belongs_to_a_known_group_and_counters_of_ours_end_in_total() {
    let metrics = Metrics::new();
    let text = scrape(&metrics);
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').expect("a name and a type");
        let ours = name.starts_with("meshwright_");
        let group = ours || ["istio_", "envoy_cluster_", "process_"].iter().any(|group| name.starts_with(group));
        assert!(group, "{name}");
        assert!(!ours || (kind == "counter") == name.ends_with("_total"), "{name} is a {kind}");
    }
}
