//! Every row of the table of failures, as clients, the access log and the metrics see it.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::time::Duration;

use meshwright_testkit::{
    Config, Launch, Meshwright, Origin, RawClient, RefusingPort, Response, TextRecord, binary, eventually,
    gateway_routes,
};

/// Timeouts, retries that are off, and a service for every kind of failure.
const ROUTES: &str = "\
- match: [{uri: {prefix: /refusing}}]
  route: [{destination: {host: refusing}}]
  retries: {attempts: 0}
- match: [{uri: {prefix: /resetting}}]
  route: [{destination: {host: resetting}}]
  retries: {attempts: 0}
- match: [{uri: {prefix: /silent}}]
  timeout: 0.2s
  route: [{destination: {host: silent}}]
- match: [{uri: {prefix: /per-try}}]
  retries: {attempts: 1, perTryTimeout: 0.1s, retryOn: connect-failure}
  route: [{destination: {host: silent}}]
- match: [{uri: {prefix: /garbage}}]
  route: [{destination: {host: garbage}}]
- match: [{uri: {prefix: /empty}}]
  route: [{destination: {host: empty}}]
- match: [{uri: {prefix: /missing}}]
  route: [{destination: {host: missing}}]
- match: [{uri: {prefix: /full}}]
  route: [{destination: {host: full}}]
- match: [{uri: {prefix: /good}}]
  route: [{destination: {host: good}}]
";

const RULES: &str = "\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: full}
spec:
  host: full
  trafficPolicy:
    connectionPool: {http: {http2MaxRequests: 1}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: empty}
spec:
  hosts: [empty]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: []
";

struct Setting {
    process: Meshwright,
    silent: Origin,
    full: Origin,
    _others: Vec<Origin>,
    _refusing: RefusingPort,
    _config: Config,
}

impl Setting {
    fn new(arguments: &[&str]) -> Self {
        let (silent, full) = (Origin::never_answers(), Origin::never_answers());
        let refusing = RefusingPort::new();
        let others =
            vec![Origin::resets_before_answering(), Origin::sends("SSH-2.0-OpenSSH\r\n\r\n"), Origin::named("good")];
        let config = Config::new(&[&gateway_routes(ROUTES), RULES]);
        let process = Launch::run(binary!())
            .file(config.path())
            .service_at("refusing", refusing.address())
            .service_at("resetting", others[0].address())
            .service_at("garbage", others[1].address())
            .service_at("good", others[2].address())
            .service_at("silent", silent.address())
            .service_at("full", full.address())
            .args(&["--access-log", "text", "--no-watch"])
            .args(arguments)
            .start();
        Self { process, silent, full, _others: others, _refusing: refusing, _config: config }
    }

    fn record(&self, target: &str) -> TextRecord {
        self.process.record_of(target)
    }

    /// Asks for `target` and compares answer, log and metrics with a row of the table.
    fn check(&self, target: &str, row: (u16, &str, &str, &str)) -> Response {
        let answer = self.process.get("x", target);
        self.compare(&answer, target, row);
        answer
    }

    fn compare(&self, answer: &Response, target: &str, (status, flag, details, body): (u16, &str, &str, &str)) {
        assert_eq!((answer.status, answer.text().as_str()), (status, body), "{target}");
        let record = self.record(target);
        assert_eq!((record.status(), record.flags(), record.details()), (status, flag, details), "{target}");
        assert!(record.reason().is_some_and(|reason| reason.len() > 20), "{target}: {record:?}");
        let labels =
            [("response_code", &*status.to_string()), ("response_flags", flag)].map(|(a, b)| (a, b.to_owned()));
        let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert!(self.process.metrics().sum("istio_requests_total", &labels) >= 1.0, "{target}: {labels:?}");
    }
}

const RESET: &str = "upstream connect error or disconnect/reset before headers. reset reason: ";

#[test]
fn a_host_or_path_without_a_route_is_404_nr() {
    Setting::new(&[]).check("/nowhere", (404, "NR", "route_not_found", ""));
}

#[test]
fn a_service_that_does_not_exist_is_503_nc() {
    Setting::new(&[]).check("/missing", (503, "NC", "cluster_not_found", ""));
}

#[test]
fn a_service_without_endpoints_is_503_uh() {
    Setting::new(&[]).check("/empty", (503, "UH", "no_healthy_upstream", "no healthy upstream"));
}

#[test]
fn a_refused_connection_is_503_uf() {
    let setting = Setting::new(&[]);
    let details = "upstream_reset_before_response_started{remote_connection_failure}";
    setting.check("/refusing", (503, "UF", details, &format!("{RESET}remote connection failure")));
    let labels = [("cluster_name", "outbound|80||refusing.default.svc.cluster.local")];
    setting.process.metric_becomes("envoy_cluster_upstream_cx_connect_fail", &labels, 1.0);
}

#[test]
fn a_reset_before_the_answer_is_503_uc() {
    let details = "upstream_reset_before_response_started{connection_termination}";
    Setting::new(&[]).check("/resetting", (503, "UC", details, &format!("{RESET}connection termination")));
}

#[test]
fn an_answer_that_is_no_http_is_502_upe() {
    let details = "upstream_reset_before_response_started{protocol_error}";
    Setting::new(&[]).check("/garbage", (502, "UPE", details, &format!("{RESET}protocol error")));
}

#[test]
fn an_answer_that_does_not_come_in_time_is_504_ut() {
    let setting = Setting::new(&[]);
    setting.check("/silent", (504, "UT", "response_timeout", "upstream request timeout"));
    eventually("the upstream connection is closed", || setting.silent.open() == 0);
    let labels = [("cluster_name", "outbound|80||silent.default.svc.cluster.local")];
    setting.process.metric_becomes("envoy_cluster_upstream_rq_timeout", &labels, 1.0);
}

#[test]
fn a_try_that_takes_too_long_is_504_ut_when_it_may_not_be_repeated() {
    let setting = Setting::new(&[]);
    setting.check("/per-try", (504, "UT", "upstream_per_try_timeout", "upstream request timeout"));
    assert_eq!(setting.silent.count(), 1);
    let labels = [("cluster_name", "outbound|80||silent.default.svc.cluster.local")];
    setting.process.metric_becomes("envoy_cluster_upstream_rq_per_try_timeout", &labels, 1.0);
}

#[test]
fn a_full_service_is_503_uo_and_says_so() {
    let setting = Setting::new(&[]);
    let mut holder = setting.process.connect();
    holder.send("GET /full/held HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually("the first request is with the service", || setting.full.count() == 1);
    let details = "upstream_reset_before_response_started{overflow}";
    let answer = setting.check("/full/refused", (503, "UO", details, &format!("{RESET}overflow")));
    assert_eq!(answer.header("x-envoy-overloaded"), Some("true"));
    assert_eq!(setting.full.count(), 1);
}

#[test]
fn a_request_that_is_not_http_is_400_dpe() {
    let setting = Setting::new(&[]);
    let mut client = setting.process.connect();
    client.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.response().status, 400);
    let record = setting.process.record(|record| record.status() == 400);
    assert_eq!((record.request(), record.flags(), record.details()), ("- - -", "DPE", "http1.codec_error"));
}

#[test]
fn refused_heads_have_their_status_and_details() {
    let setting = Setting::new(&[]);
    let long = "a".repeat(9000);
    for (head, status, details) in [
        (format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"), 414, "uri_too_long"),
        (format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(101)), 431, "request_headers_too_large"),
        ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: y\r\n\r\n".to_owned(), 417, "expectation_failed"),
        ("CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n".to_owned(), 405, "method_not_allowed"),
        ("GET / HTTP/1.2\r\nHost: x\r\n\r\n".to_owned(), 505, "http_version_not_supported"),
        (
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n".to_owned(),
            501,
            "unsupported_transfer_coding",
        ),
    ] {
        let mut client = setting.process.connect();
        client.send(head);
        assert_eq!(client.response().status, status);
        let record = setting.process.record(|record| record.status() == status);
        assert_eq!(record.details(), details);
    }
}

#[test]
fn a_head_that_does_not_come_in_time_is_408_dt() {
    let setting = Setting::new(&["--header-timeout", "200ms"]);
    let mut client = setting.process.connect();
    client.send("GET / HTTP/1.1\r\nHost:");
    assert_eq!(client.response().status, 408);
    let record = setting.process.record(|record| record.status() == 408);
    assert_eq!((record.flags(), record.details()), ("DT", "request_header_timeout"));
}

#[test]
fn an_unknown_host_between_services_is_502() {
    let setting = Setting::new(&[]);
    let answer = setting.process.mesh_get("nobody", "/unknown");
    setting.compare(&answer, "/unknown", (502, "-", "direct_response", ""));
}

#[test]
fn a_client_that_leaves_is_logged_as_dc() {
    let setting = Setting::new(&[]);
    let mut client = setting.process.connect();
    client.send("GET /full/left HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually("the request is with the service", || setting.full.count() == 1);
    drop(client);
    let record = setting.record("/full/left");
    assert_eq!((record.status(), record.flags(), record.details()), (0, "DC", "downstream_remote_disconnect"));
}

#[test]
fn a_client_that_takes_nothing_of_its_answer_is_cut_off_as_si() {
    let origin = Origin::sends_pattern(64 << 20);
    let config = Config::new(&[&meshwright_testkit::gateway_to("big")]);
    let process = Launch::run(binary!())
        .file(config.path())
        .service_at("big", origin.address())
        .args(&["--access-log", "text", "--stall-timeout", "300ms"])
        .start();
    let mut client = process.connect();
    client.send("GET /stalled HTTP/1.1\r\nHost: x\r\n\r\n");
    let record = process.record_of("/stalled");
    assert_eq!((record.status(), record.flags(), record.details()), (200, "SI", "stream_idle_timeout"));
    eventually("the upstream connection is closed", || origin.open() == 0);
    process.metric_becomes("meshwright_refusals_total", &[("reason", "stream_idle_timeout")], 1.0);
}

#[test]
fn the_body_explains_the_failure_when_asked_to() {
    let setting = Setting::new(&["--explain-errors"]);
    for (target, status, sentences) in [
        ("/nowhere", 404, &["no route matches the host and path", "none of its routes matches"][..]),
        ("/missing", 503, &["the route names a service, port or subset that does not exist"]),
        ("/empty", 503, &["no healthy endpoint", "outbound|80||empty"]),
        ("/refusing", 503, &["could not be connected to", "refused"]),
        ("/resetting", 503, &["closed the connection before it answered"]),
        ("/garbage", 502, &["is not valid HTTP"]),
        ("/silent", 504, &["did not answer within the timeout of the route"]),
    ] {
        let answer = setting.process.get("x", target);
        assert_eq!(answer.status, status, "{target}");
        assert_eq!(answer.header("content-type"), Some("text/plain"));
        for sentence in sentences {
            assert!(answer.text().contains(sentence), "{target}: {}", answer.text());
        }
        assert!(setting.record(target).reason().is_some_and(|reason| reason.contains(sentences[0])), "{target}");
    }
}

#[test]
fn a_failure_of_one_request_does_not_cost_the_client_its_connection() {
    let setting = Setting::new(&[]);
    let mut client: RawClient = setting.process.connect();
    for target in ["/nowhere", "/missing", "/empty", "/refusing", "/resetting", "/garbage", "/silent", "/good"] {
        client.request("POST", "x", target, &[], b"body");
    }
    assert_eq!(client.get("x", "/good").text(), "good");
    setting.process.metric_becomes("meshwright_downstream_connections_accepted_total", &[], 1.0);
    assert!(!client.is_closed_within(Duration::from_millis(50)));
}
