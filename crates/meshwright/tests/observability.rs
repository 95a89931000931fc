//! What operators see, and what they can do while the process runs.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::BTreeSet;
use std::time::Duration;

use meshwright_testkit::{Config, Launch, Meshwright, Origin, RawClient, binary, eventually, gateway_to};

const CLUSTER: &str = "outbound|80||svc.default.svc.cluster.local";

struct Setting {
    process: Meshwright,
    origins: [Origin; 2],
    config: Config,
}

impl Setting {
    fn new(arguments: &[&str]) -> Self {
        let origins = [Origin::named("a"), Origin::named("b")];
        let rule = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: svc}
spec:
  host: svc
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    connectionPool: {tcp: {maxConnections: 77}}
    outlierDetection: {consecutive5xxErrors: 2, baseEjectionTime: 300s, maxEjectionPercent: 50}
";
        let config = Config::new(&[&gateway_to("svc"), rule]);
        let endpoints = origins.each_ref().map(|origin| format!("{};version=v1;app=web", origin.address()));
        let process = Launch::run(binary!())
            .file(config.path())
            .service("svc", &[&endpoints[0], &endpoints[1]])
            .args(&["--no-watch", "--workers", "1"])
            .args(arguments)
            .start();
        Self { process, origins, config }
    }

    fn address(&self, index: usize) -> String {
        self.origins[index].address().to_string()
    }

    /// Sends `count` requests; how many each origin got of them.
    fn shares(&self, count: usize) -> [usize; 2] {
        let before = self.origins.each_ref().map(Origin::count);
        let mut client = self.process.connect();
        for _ in 0..count {
            client.get("x", "/");
        }
        [self.origins[0].count() - before[0], self.origins[1].count() - before[1]]
    }

    /// The endpoint of `/clusters` at `address`.
    fn endpoint(&self, address: &str) -> serde_json::Value {
        let clusters = self.process.admin_get("/clusters?format=json").json();
        let clusters = clusters["clusters"].as_array().unwrap().clone();
        let cluster = clusters.into_iter().find(|cluster| cluster["name"] == CLUSTER).unwrap();
        let endpoints = cluster["endpoints"].as_array().unwrap().clone();
        endpoints.into_iter().find(|endpoint| endpoint["address"] == address).unwrap()
    }

    fn act(&self, address: &str, action: &str) -> u16 {
        self.process.admin_post(&format!("/endpoints/svc/{address}/{action}")).status
    }

    fn cli(&self, arguments: &[&str]) -> (i32, String, String) {
        let admin = format!("http://{}", self.process.admin());
        Launch::command(binary!()).args(arguments).args(&["--admin", &admin]).output()
    }
}

#[test]
fn a_line_of_the_text_access_log_has_istios_words_in_istios_order() {
    let setting = Setting::new(&["--access-log", "text"]);
    let mut client = setting.process.connect();
    let headers = [("User-Agent", "a \"quoted\" agent"), ("X-Forwarded-For", "10.1.1.1")];
    let answer = client.request("POST", "api.example.com", "/path?q=1", &headers, b"12345");
    assert_eq!(answer.status, 200);
    let record = setting.process.record_of("/path?q=1");
    let words: Vec<&str> = record.words.iter().map(String::as_str).collect();
    let [
        start,
        request,
        status,
        flags,
        details,
        terminated,
        transport,
        received,
        sent,
        duration,
        service_time,
        forwarded_for,
        agent,
        id,
        authority,
        upstream,
        cluster,
        upstream_local,
        local,
        remote,
        server_name,
        route,
    ] = words[..]
    else {
        panic!("{} words: {words:?}", words.len());
    };
    assert!(start.len() == 24 && start.ends_with('Z') && start.as_bytes()[10] == b'T', "{start}");
    assert_eq!(request, "POST /path?q=1 HTTP/1.1");
    assert_eq!((status, flags, details, terminated, transport), ("200", "-", "via_upstream", "-", "-"));
    assert_eq!((received, sent), ("5", "1"));
    assert!(duration.parse::<u64>().unwrap() < 10_000 && service_time.parse::<u64>().unwrap() < 10_000);
    assert_eq!(forwarded_for, "10.1.1.1,127.0.0.1");
    assert_eq!(agent, "a \\\"quoted\\\" agent");
    let seen_by_origin = setting.origins.iter().flat_map(Origin::requests).next().unwrap();
    assert_eq!(seen_by_origin.header("x-request-id"), Some(id));
    assert_eq!(authority, "api.example.com");
    assert!([setting.address(0), setting.address(1)].contains(&upstream.to_owned()));
    assert_eq!(cluster, CLUSTER);
    assert!(upstream_local.starts_with("127.0.0.1:"), "{upstream_local}");
    assert_eq!(local, setting.process.gateway().to_string());
    assert_eq!(remote, client.local_address().to_string());
    assert_eq!((server_name, route), ("-", "-"));
}

#[test]
fn a_line_of_the_json_access_log_has_istios_keys() {
    let setting = Setting::new(&["--access-log", "json"]);
    assert_eq!(setting.process.get("api.example.com", "/path?q=1").status, 200);
    eventually("the line is written", || !setting.process.stdout().is_empty());
    let line = setting.process.stdout().remove(0);
    let record: serde_json::Value = serde_json::from_str(&line).unwrap();
    let keys: BTreeSet<&str> = record.as_object().unwrap().keys().map(String::as_str).collect();
    for key in [
        "start_time",
        "method",
        "path",
        "protocol",
        "response_code",
        "response_flags",
        "response_code_details",
        "connection_termination_details",
        "upstream_transport_failure_reason",
        "bytes_received",
        "bytes_sent",
        "duration",
        "upstream_service_time",
        "x_forwarded_for",
        "user_agent",
        "request_id",
        "authority",
        "upstream_host",
        "upstream_cluster",
        "upstream_local_address",
        "downstream_local_address",
        "downstream_remote_address",
        "requested_server_name",
        "route_name",
    ] {
        assert!(keys.contains(key), "{key} is missing in {line}");
    }
    assert_eq!(record["method"], "GET");
    assert_eq!(record["path"], "/path?q=1");
    assert_eq!(record["response_code"], 200);
    assert_eq!(record["response_flags"], "-");
    assert_eq!(record["upstream_cluster"], CLUSTER);
    assert_eq!(record["user_agent"], serde_json::Value::Null);
}

#[test]
fn hostile_values_cannot_forge_a_line_of_the_log() {
    let setting = Setting::new(&["--access-log", "text"]);
    let mut client = setting.process.connect();
    client.send(b"GET /a\"%0d%0a[forged] HTTP/1.1\r\nHost: x\r\nUser-Agent: x\" 200 \xe2\x80\xae\xff\r\n\r\n");
    assert_eq!(client.response().status, 200);
    eventually("the line is written", || !setting.process.stdout().is_empty());
    let lines = setting.process.stdout();
    assert_eq!(lines.len(), 1);
    assert!(lines[0].is_ascii() && !lines[0].contains(char::is_control), "{}", lines[0]);
    assert_eq!(setting.process.records()[0].status(), 200);
}

#[test]
fn the_access_log_can_go_to_a_file_and_is_off_by_default() {
    let setting = Setting::new(&[]);
    setting.shares(3);
    setting.process.metric_becomes("istio_requests_total", &[], 3.0);
    assert!(setting.process.stdout().is_empty());
    let path = setting.config.directory().join("access.log");
    let logged = Setting::new(&["--access-log", &format!("json:{}", path.display())]);
    logged.shares(2);
    eventually("the file has both lines", || {
        std::fs::read_to_string(&path).is_ok_and(|text| text.lines().count() == 2)
    });
}

#[test]
fn a_log_file_that_is_moved_away_is_opened_anew() {
    let directory = tempfile::tempdir().unwrap();
    let (path, rotated) = (directory.path().join("access.log"), directory.path().join("access.log.1"));
    let setting = Setting::new(&["--access-log", &format!("json:{}", path.display())]);
    let lines =
        |path: &std::path::Path, target: &str| std::fs::read_to_string(path).is_ok_and(|text| text.contains(target));
    setting.process.get("x", "/before");
    eventually("the first line is written", || lines(&path, "/before"));
    std::fs::rename(&path, &rotated).unwrap();
    setting.process.get("x", "/after");
    eventually("the new file has the next line", || lines(&path, "/after"));
    assert!(!lines(&rotated, "/after"));
}

#[test]
fn a_request_without_a_route_can_be_told_from_others_in_the_log() {
    let setting = Setting::new(&["--access-log", "text"]);
    let mesh = RawClient::connect(setting.process.mesh()).get("nobody.example", "/lost");
    assert_eq!(mesh.status, 502);
    let record = setting.process.record_of("/lost");
    assert_eq!(record.request_id().len(), 36, "{}", record.request_id());
}

#[test]
fn metrics_have_istios_names_labels_and_buckets_and_count_exactly_what_was_sent() {
    let setting = Setting::new(&[]);
    let mut client = setting.process.connect();
    for _ in 0..50 {
        client.request("POST", "x", "/", &[], b"0123456789");
    }
    for _ in 0..7 {
        setting.process.mesh_get("nobody", "/");
    }
    setting.process.metric_becomes("istio_requests_total", &[], 57.0);
    let metrics = setting.process.metrics();
    let served = [
        ("reporter", "source"),
        ("request_protocol", "http"),
        ("response_code", "200"),
        ("response_flags", "-"),
        ("destination_service", "svc.default.svc.cluster.local"),
        ("destination_service_name", "svc"),
        ("destination_service_namespace", "default"),
        ("destination_version", "v1"),
        ("destination_app", "web"),
        ("connection_security_policy", "unknown"),
    ];
    assert_eq!(metrics.sum("istio_requests_total", &served), 50.0);
    assert_eq!(metrics.sum("istio_requests_total", &[("response_code", "502")]), 7.0);
    for (name, sum) in [
        ("istio_request_bytes", Some(500.0)),
        ("istio_response_bytes", Some(50.0)),
        ("istio_request_duration_milliseconds", None),
    ] {
        assert_eq!(metrics.sum(&format!("{name}_count"), &served), 50.0, "{name}");
        let bucket = format!("{name}_bucket");
        assert_eq!(metrics.sum(&bucket, &[&served[..], &[("le", "+Inf")]].concat()), 50.0, "{name}");
        let bounds = metrics.values_of(&bucket, "le");
        let mut expected: Vec<String> = [
            "0.5", "1", "5", "10", "25", "50", "100", "250", "500", "1000", "2500", "5000", "10000", "30000", "60000",
            "300000", "600000", "1800000", "3600000", "+Inf",
        ]
        .map(str::to_owned)
        .to_vec();
        expected.sort();
        assert_eq!(bounds, expected, "{name}");
        if let Some(sum) = sum {
            assert_eq!(metrics.sum(&format!("{name}_sum"), &served), sum, "{name}");
        }
    }
    assert_eq!(metrics.sum("istio_request_bytes_bucket", &[&served[..], &[("le", "10")]].concat()), 50.0);
    assert_eq!(metrics.sum("istio_request_bytes_bucket", &[&served[..], &[("le", "5")]].concat()), 0.0);
    let cluster = [("cluster_name", CLUSTER)];
    assert_eq!(metrics.sum("envoy_cluster_upstream_rq_total", &cluster), 50.0);
    assert_eq!(metrics.sum("envoy_cluster_upstream_cx_total", &cluster), 2.0);
    assert_eq!(metrics.sum("envoy_cluster_upstream_cx_active", &cluster), 2.0);
    assert_eq!(metrics.sum("envoy_cluster_membership_total", &cluster), 2.0);
    assert_eq!(metrics.value("meshwright_downstream_requests_total"), 57.0);
    assert_eq!(metrics.count("istio_build", &[("component", "meshwright")]), 1);
    assert!(metrics.value("meshwright_downstream_received_bytes_total") > 500.0);
    assert!(metrics.value("process_resident_memory_bytes") > 1e6);
}

#[test]
fn hosts_that_nobody_knows_make_no_new_series() {
    let setting = Setting::new(&[]);
    let mut client = RawClient::connect(setting.process.mesh());
    for index in 0..200 {
        assert_eq!(client.get(&format!("host-{index}"), "/").status, 502);
    }
    setting.process.metric_becomes("istio_requests_total", &[("response_code", "502")], 200.0);
    assert_eq!(setting.process.metrics().count("istio_requests_total", &[]), 1);
}

#[test]
fn every_page_answers_under_all_its_names() {
    let setting = Setting::new(&[]);
    let get = |target: &str| setting.process.admin_get(target);
    for target in ["/ready", "/readyz", "/healthz/ready"] {
        let page = get(target);
        assert_eq!(page.status, 200, "{target}");
        assert!(page.text().starts_with("serving\n") && page.text().contains("generation 1"), "{}", page.text());
    }
    for target in ["/healthz", "/livez", "/health", "/metrics", "/stats/prometheus", "/", "/listeners", "/clusters"] {
        assert_eq!(get(target).status, 200, "{target}");
    }
    assert!(get("/stats/prometheus").text().contains("# TYPE istio_requests_total counter"));
    assert_eq!(get("/nothing").status, 404);
    assert_eq!(get("/version").json()["name"], "meshwright");
    let listeners = get("/listeners?format=json").json();
    let kinds: BTreeSet<String> =
        listeners["listeners"].as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds, ["admin", "gateway", "mesh"].map(str::to_owned).into());
}

#[test]
fn the_dump_shows_what_runs_and_where_it_was_written() {
    let setting = Setting::new(&[]);
    let dump = setting.process.admin_get("/config_dump").json();
    assert_eq!(dump["generation"], 1);
    let listener = &dump["listeners"][0];
    assert_eq!((&listener["kind"], &listener["port"]), (&"gateway".into(), &80.into()));
    let route = &listener["virtual_hosts"][0]["routes"][0];
    assert_eq!(route["action"]["forward"][0]["cluster"], CLUSTER);
    let origin = route["origin"].as_str().unwrap();
    let file = setting.config.path().display().to_string();
    let place = origin.strip_prefix(&format!("{file}:")).unwrap_or_else(|| panic!("{origin} in {file}"));
    let text = std::fs::read_to_string(setting.config.path()).unwrap();
    let line: usize = place.split(':').next().unwrap().parse().unwrap();
    assert!(text.lines().nth(line - 1).unwrap().contains("- route:"), "{origin}");
    let cluster = dump["clusters"].as_array().unwrap().iter().find(|cluster| cluster["name"] == CLUSTER).unwrap();
    assert_eq!(cluster["limits"]["max_connections"], 77);
    assert_eq!(cluster["outlier_detection"]["base_ejection_time"], "300s");
    assert_eq!(cluster["policy"], "ROUND_ROBIN");
    assert!(dump["destination_rules"][0]["origin"].as_str().unwrap().starts_with(&file));
    assert!(dump["gateways"][0]["origin"].as_str().unwrap().starts_with(&file));
    assert_eq!(dump["services"][0]["source"], "--service");
}

#[test]
fn clusters_show_the_state_of_every_endpoint() {
    let setting = Setting::new(&[]);
    setting.shares(4);
    let endpoint = setting.endpoint(&setting.address(0));
    assert_eq!(
        (&endpoint["admin"], &endpoint["ejected"], &endpoint["weight"]),
        (&"enabled".into(), &false.into(), &1.into())
    );
    assert_eq!(endpoint["labels"]["version"], "v1");
    let text = setting.process.admin_get("/clusters").text();
    assert!(text.contains(&format!("{CLUSTER}::{}::health_flags::healthy", setting.address(0))), "{text}");
    assert!(text.contains(&format!("{CLUSTER}::default_priority::max_connections::77")), "{text}");
}

#[test]
fn the_log_level_changes_while_running() {
    let setting = Setting::new(&["--log", "info"]);
    assert_eq!(setting.process.admin_get("/logging").text().trim(), "info");
    assert_eq!(setting.process.admin_post("/logging?level=debug").status, 200);
    assert_eq!(setting.process.admin_get("/logging").text().trim(), "debug");
    assert_eq!(setting.process.admin_post("/logging?level=louder").status, 400);
    assert_eq!(setting.cli(&["log-level", "warn"]).0, 0);
    assert_eq!(setting.cli(&["log-level"]).1.trim(), "warn");
}

#[test]
fn an_endpoint_is_drained_and_enabled_through_the_api() {
    let setting = Setting::new(&[]);
    assert_eq!(setting.shares(10), [5, 5]);
    let first = setting.address(0);
    for (action, state) in [("drain", "draining"), ("disable", "disabled")] {
        assert_eq!(setting.act(&first, action), 200);
        assert_eq!(setting.endpoint(&first)["admin"], state);
        assert_eq!(setting.shares(10), [0, 10], "{action}");
        assert_eq!(setting.act(&first, "enable"), 200);
        assert_eq!(setting.endpoint(&first)["admin"], "enabled");
        assert_eq!(setting.shares(10), [5, 5], "enabled after {action}");
    }
    assert_eq!(setting.act("127.0.0.1:1", "drain"), 404);
    assert_eq!(setting.process.admin_post(&format!("/endpoints/nobody/{first}/drain")).status, 404);
    assert_eq!(setting.act(&first, "explode"), 404);
}

#[test]
fn with_every_endpoint_disabled_the_answer_is_503_uh() {
    let setting = Setting::new(&["--access-log", "text"]);
    for index in 0..2 {
        assert_eq!(setting.act(&setting.address(index), "disable"), 200);
    }
    assert_eq!(setting.process.get("x", "/none").status, 503);
    assert_eq!(setting.process.record_of("/none").flags(), "UH");
}

#[test]
fn operators_use_the_command_line_and_every_action_is_audited() {
    let setting = Setting::new(&[]);
    let first = setting.address(0);
    let (code, list, _) = setting.cli(&["endpoints", "list", "--service", "svc"]);
    assert_eq!(code, 0);
    assert!(list.lines().any(|line| line.contains(&first) && line.contains("enabled")), "{list}");
    let (code, said, error) = setting.cli(&["endpoints", "drain", "svc", &first]);
    assert_eq!((code, said.is_empty()), (0, false), "{error}");
    assert_eq!(setting.shares(10), [0, 10]);
    let (_, list, _) = setting.cli(&["endpoints", "list"]);
    assert!(list.lines().any(|line| line.contains(&first) && line.contains("draining")), "{list}");
    assert_eq!(setting.cli(&["endpoints", "enable", "svc", &first]).0, 0);
    assert_eq!(setting.shares(10), [5, 5]);
    let (code, _, error) = setting.cli(&["endpoints", "drain", "nobody", &first]);
    assert_eq!(code, 1);
    assert!(error.contains("nobody"), "{error}");
    let audit = setting.process.admin_get("/audit").json();
    let entries = audit["audit"].as_array().unwrap();
    let actions: Vec<&str> = entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(&actions[..2], ["drain", "enable"]);
    assert!(entries[0]["target"].as_str().unwrap().contains(&first), "{entries:?}");
    assert!(entries[0]["actor"].as_str().unwrap().contains("meshwright/"), "{entries:?}");
    assert!(entries[0]["time"].as_str().unwrap().ends_with('Z'), "{entries:?}");
}

#[test]
fn an_ejection_is_shown_and_ended_by_hand() {
    let (bad, good) = (Origin::answers(503, &[], "bad"), Origin::named("good"));
    let config = Config::new(&[
        &gateway_to("svc"),
        "\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: svc}
spec:
  host: svc
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    outlierDetection: {consecutive5xxErrors: 2, baseEjectionTime: 300s, maxEjectionPercent: 50}
",
    ]);
    let process = Launch::run(binary!())
        .file(config.path())
        .service("svc", &[&bad.address().to_string(), &good.address().to_string()])
        .args(&["--workers", "1"])
        .start();
    let mut client = process.connect();
    while bad.count() < 2 {
        client.get("x", "/");
    }
    let flags = format!("{CLUSTER}::{}::health_flags::/failed_outlier_check", bad.address());
    assert!(process.admin_get("/clusters").text().contains(&flags));
    assert_eq!(client.get("x", "/").text(), "good");
    let admin = format!("http://{}", process.admin());
    let address = bad.address().to_string();
    let (code, _, error) =
        Launch::command(binary!()).args(&["endpoints", "uneject", "svc", &address, "--admin", &admin]).output();
    assert_eq!(code, 0, "{error}");
    assert!(!process.admin_get("/clusters").text().contains("failed_outlier_check"));
    let names: Vec<String> = (0..2).map(|_| client.get("x", "/").text()).collect();
    assert!(names.contains(&"bad".to_owned()), "{names:?}");
}

#[test]
fn requests_in_flight_end_at_a_draining_endpoint() {
    let slow = Origin::answers_after(Duration::from_millis(300), "slow");
    let config = Config::new(&[&gateway_to("svc")]);
    let process = Launch::run(binary!()).file(config.path()).service_at("svc", slow.address()).start();
    let mut client = process.connect();
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually("the request is with the service", || slow.count() == 1);
    assert_eq!(process.admin_post(&format!("/endpoints/svc/{}/drain", slow.address())).status, 200);
    assert_eq!(client.response().text(), "slow");
    assert_eq!(client.get("x", "/").status, 503);
}
