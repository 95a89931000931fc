//! Endpoints that are ejected because they do worse than the others.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use meshwright_testkit::{Config, Launch, Meshwright, Origin, RefusingPort, binary, eventually, gateway_to};

const SVC: [(&str, &str); 1] = [("cluster_name", "outbound|80||svc.default.svc.cluster.local")];

fn start(origins: &[Origin], annotation: &str, detection: &str) -> (Config, Meshwright) {
    let endpoints: Vec<String> = origins.iter().map(|origin| origin.address().to_string()).collect();
    start_before(&endpoints, annotation, detection)
}

fn start_before(endpoints: &[String], annotation: &str, detection: &str) -> (Config, Meshwright) {
    let rule = format!(
        "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: svc, annotations: {{{annotation}}}}}
spec:
  host: svc
  trafficPolicy: {{loadBalancer: {{simple: ROUND_ROBIN}}, outlierDetection: {detection}}}
"
    );
    let config = Config::new(&[&gateway_to("svc"), &rule]);
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let process =
        Launch::run(binary!()).file(config.path()).service("svc", &endpoints).args(&["--workers", "2"]).start();
    (config, process)
}

/// An origin that answers every `n`-th request with this status.
fn fails_every(n: usize, status: u16) -> Origin {
    let count = std::sync::atomic::AtomicUsize::new(0);
    Origin::answers_by(move |_| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        (if number.is_multiple_of(n) { status } else { 200 }, String::new())
    })
}

#[test]
fn an_endpoint_with_a_low_success_rate_is_ejected_and_the_reason_is_shown() {
    let mut origins: Vec<Origin> = ["a", "b", "c", "d"].map(Origin::named).into();
    origins.push(fails_every(2, 500));
    let annotation = "meshwright.io/outlier-detection: 'success-rate; success-rate-request-volume=10'";
    // Two of five may be out; the errors are never in a row.
    let detection = "{consecutive5xxErrors: 0, interval: 300ms, baseEjectionTime: 60s, maxEjectionPercent: 40}";
    let (_config, process) = start(&origins, annotation, detection);
    let ejections = "envoy_cluster_outlier_detection_ejections_enforced_success_rate";
    eventually("the endpoint is ejected", || {
        let mut client = process.connect();
        (0..100).for_each(|_| drop(client.get("x", "/")));
        process.metrics().sum(ejections, &SVC) == 1.0
    });
    assert_eq!(process.metrics().sum("envoy_cluster_outlier_detection_ejections_enforced_total", &SVC), 1.0);
    let served = origins[4].count();
    assert!((0..20).all(|_| process.get("x", "/").status == 200));
    assert_eq!(origins[4].count(), served);
    let clusters = process.admin_get("/clusters?format=json").json();
    let out = &clusters["clusters"][0]["endpoints"][4];
    assert!(out["ejection_cause"].as_str().unwrap().contains("success rate"), "{out:#}");
    assert!(out["ejection_ends_in_ms"].as_u64() <= Some(60_000));
    eventually("the log says why", || process.stderr().contains("which the other hosts allow"));
}

#[test]
fn the_statuses_that_count_as_errors_can_be_chosen() {
    let origins = [fails_every(1, 429), Origin::named("good")];
    let detection = "{consecutive5xxErrors: 3, outlierDetectionHttpErrorCodes: [429], baseEjectionTime: 60s}";
    let (_config, process) = start(&origins, "", detection);
    eventually("the endpoint that is always overloaded is ejected", || {
        process.get("x", "/");
        process.metrics().sum("envoy_cluster_outlier_detection_ejections_enforced_consecutive_5xx", &SVC) == 1.0
    });
    assert!((0..10).all(|_| process.get("x", "/").status == 200));
}

#[test]
fn detection_that_is_not_enforced_only_says_what_it_would_do() {
    let origins = [fails_every(1, 500), Origin::named("good")];
    let annotation = "meshwright.io/outlier-detection: 'enforcing-consecutive-5xx=0'";
    let (_config, process) = start(&origins, annotation, "{consecutive5xxErrors: 3, baseEjectionTime: 60s}");
    eventually("the log says what would be", || {
        process.get("x", "/");
        process.stderr().contains("0 % of such ejections are enforced")
    });
    let before = origins[0].count();
    (0..10).for_each(|_| drop(process.get("x", "/")));
    assert!(origins[0].count() > before, "the endpoint still takes part");
    assert_eq!(process.metrics().sum("envoy_cluster_outlier_detection_ejections_enforced_total", &SVC), 0.0);
}

#[test]
fn an_endpoint_that_refuses_connections_is_left_alone_after_the_first_and_comes_back_when_it_listens() {
    let (refusing, good) = (RefusingPort::new(), Origin::named("good"));
    let endpoints = [refusing.address().to_string(), good.address().to_string()];
    let detection = "{consecutive5xxErrors: 0, splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 1, \
                     interval: 100ms, baseEjectionTime: 1s, maxEjectionPercent: 50}";
    let (_config, process) = start_before(&endpoints, "", detection);
    assert!((0..40).all(|_| process.get("x", "/").status == 200), "nothing was sent, so another endpoint is tried");
    let kind = "envoy_cluster_outlier_detection_ejections_enforced_consecutive_local_origin_failure";
    eventually("every connection that was refused led to an ejection", || {
        let metrics = process.metrics();
        let refused = metrics.sum("envoy_cluster_upstream_cx_connect_fail", &SVC);
        // In turn it would have been asked 20 times.
        (1.0..20.0).contains(&refused) && metrics.sum(kind, &SVC) == refused
    });
    eventually("the log says why", || process.stderr().contains("endpoint ejected"));
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let healed = refusing.listen(move |connection| {
        while connection.request()?.is_some() {
            connection.send(answer)?;
        }
        Ok(())
    });
    eventually("the endpoint serves requests", || {
        assert_eq!(process.get("x", "/").status, 200);
        healed.count() > 0
    });
    process.metric_becomes("envoy_cluster_outlier_detection_ejections_active", &SVC, 0.0);
}
