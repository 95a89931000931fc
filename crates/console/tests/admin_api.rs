//! The admin API over real sockets, seen by a client that writes its own bytes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use meshwright_console::{
    ActionError, AdaptiveConcurrencyView, AdminState, AuditEntry, BreakerAction, BulkheadView, CircuitBreakerView,
    ClusterView, CoalescingView, EndpointAction, EndpointView, HealthCheckView, LastGoodView, LimitsView, ListenerView,
    RateLimitView, Readiness, UsageView, Views, router,
};
use meshwright_site::serve;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const CLUSTER: &str = "outbound|80|v1|user-service.default.svc.cluster.local";

/// A process whose state the tests set.
#[derive(Default)]
struct Process {
    readiness: Mutex<Readiness>,
    level: Mutex<String>,
    audit: Mutex<Vec<AuditEntry>>,
}

impl Views for Process {
    fn metrics(&self) -> String {
        "# HELP up Is it up.\n# TYPE up gauge\nup 1\n".to_owned()
    }

    fn readiness(&self) -> Readiness {
        self.readiness.lock().expect("no test panics while it holds the lock").clone()
    }

    fn config_dump(&self) -> serde_json::Value {
        serde_json::json!({ "generation": 7, "origin": "mesh.yaml:3:1" })
    }

    fn clusters(&self) -> Vec<ClusterView> {
        vec![ClusterView {
            name: CLUSTER.to_owned(),
            service: "user-service.default.svc.cluster.local".to_owned(),
            policy: "ROUND_ROBIN".to_owned(),
            limits: LimitsView { max_connections: Some(100), ..LimitsView::default() },
            usage: UsageView { connections: Some(3), ..UsageView::default() },
            circuit_breakers: vec![CircuitBreakerView {
                state: "open".to_owned(),
                mode: "automatic".to_owned(),
                cause: Some("5 failures in a row".to_owned()),
                since: Some(Duration::from_millis(20)),
                retry_in: Some(Duration::from_millis(980)),
                refused: 7,
                ..CircuitBreakerView::default()
            }],
            adaptive_concurrency: Some(AdaptiveConcurrencyView { observes: true, limit: 30, ..Default::default() }),
            bulkhead: Some(BulkheadView { observes: false, max_requests_per_endpoint: 9, full_endpoints: 1 }),
            rate_limit: Some(RateLimitView {
                requests: 5,
                per: Some(Duration::from_secs(2)),
                keys: 7,
                ..Default::default()
            }),
            last_good: Some(LastGoodView { entries: 2, max_entries: 9, bytes: 600, max_bytes: 1000 }),
            coalescing: Some(CoalescingView { keys: 1, max_keys: 9, waiting: 4, max_waiters: 8 }),
            endpoints: vec![
                endpoint("127.0.0.1:9001"),
                EndpointView {
                    admin: AdminState::Draining,
                    health_check: Some(HealthCheckView {
                        state: "unhealthy".to_owned(),
                        source: "--health".to_owned(),
                        last: Some("HTTP status 500".to_owned()),
                        since: Some(Duration::from_millis(1_200)),
                        next_in: Some(Duration::from_millis(800)),
                        failures: 4,
                        ..HealthCheckView::default()
                    }),
                    ejected: true,
                    ejected_for: Some(Duration::from_micros(1_500_900)),
                    ejection_ends_in: Some(Duration::from_millis(28_500)),
                    unreachable_for: Some(Duration::from_millis(1_500)),
                    unreachable_cause: Some("connection refused".to_owned()),
                    next_probe_in: Some(Duration::from_millis(700)),
                    failed_probes: Some(2),
                    ejection_cause: Some("5 server errors in a row".to_owned()),
                    ejections: 2,
                    consecutive_5xx: 5,
                    ..endpoint("[::1]:9002")
                },
            ],
        }]
    }

    fn listeners(&self) -> Vec<ListenerView> {
        let listener = |name: &str, port, draining| ListenerView {
            name: name.to_owned(),
            kind: "gateway".to_owned(),
            address: SocketAddr::from(([0, 0, 0, 0], port)),
            port: 80,
            protocol: "https".to_owned(),
            draining,
            hosts: vec!["api.example.com".to_owned()],
            server_names: vec!["*.example.com".to_owned()],
        };
        vec![listener("gateway:80", 8080, false), listener("gateway:81", 8081, true)]
    }

    fn log_level(&self) -> String {
        self.level.lock().expect("no test panics while it holds the lock").clone()
    }

    fn set_log_level(&self, directive: &str) -> Result<String, String> {
        if !["info", "debug"].contains(&directive) {
            return Err(format!("{directive} is no level"));
        }
        directive.clone_into(&mut self.level.lock().expect("no test panics while it holds the lock"));
        Ok(directive.to_owned())
    }

    fn endpoint_action(
        &self,
        action: EndpointAction,
        service: &str,
        address: SocketAddr,
        actor: &str,
    ) -> Result<Vec<String>, ActionError> {
        if service != "user-service" {
            return Err(ActionError::UnknownService(service.to_owned()));
        }
        if action == EndpointAction::Uneject {
            return Err(ActionError::Refused(format!("{address} is not ejected")));
        }
        self.audit.lock().expect("no test panics while it holds the lock").push(AuditEntry {
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_452_904_123),
            actor: actor.to_owned(),
            action: action.as_str().to_owned(),
            target: format!("{service} {address}"),
            result: "done".to_owned(),
        });
        Ok(vec![format!("{address}: {}", action.as_str())])
    }

    fn breaker_action(&self, action: BreakerAction, service: &str, _: &str) -> Result<Vec<String>, ActionError> {
        match service {
            "user-service" => Ok(vec![format!("{CLUSTER}: {}", action.as_str())]),
            "plain" => Err(ActionError::Refused("service plain has no circuit breaker".to_owned())),
            other => Err(ActionError::UnknownService(other.to_owned())),
        }
    }

    fn audit(&self) -> Vec<AuditEntry> {
        self.audit.lock().expect("no test panics while it holds the lock").clone()
    }
}

fn endpoint(address: &str) -> EndpointView {
    EndpointView {
        address: address.parse().expect("an address"),
        weight: 1,
        labels: BTreeMap::from([("version".to_owned(), "v1".to_owned())]),
        locality: String::new(),
        priority: Some(0),
        latency: Some(Duration::from_micros(2_500)),
        load_source: Some("local".to_owned()),
        in_flight: Some(4),
        admin: AdminState::Enabled,
        health_check: None,
        ejected: false,
        ejected_for: None,
        ejection_ends_in: None,
        ejection_cause: None,
        unreachable_for: None,
        unreachable_cause: None,
        next_probe_in: None,
        failed_probes: None,
        ejections: 0,
        consecutive_5xx: 0,
        consecutive_gateway_errors: 0,
        consecutive_local_origin_failures: 0,
    }
}

/// A running admin API.
struct Admin {
    address: SocketAddr,
    process: Arc<Process>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<std::io::Result<()>>,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn json(&self) -> serde_json::Value {
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_str(&self.body).expect("the body is JSON")
    }
}

impl Admin {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let process = Arc::new(Process::default());
        *process.level.lock().expect("a fresh lock") = "info".to_owned();
        *process.readiness.lock().expect("a fresh lock") =
            Readiness { ready: true, state: "serving".to_owned(), detail: vec!["generation 7".to_owned()] };
        let (stop, stopped) = oneshot::channel::<()>();
        let views: Arc<dyn Views> = Arc::clone(&process) as _;
        let pages = router(views, axum::Router::new(), "");
        let served = tokio::spawn(serve(listener, pages, 256, async move {
            let _ = stopped.await;
        }));
        Self { address, process, stop, served }
    }

    /// Sends these bytes and reads to the end of the connection.
    async fn raw(&self, bytes: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.expect("the API listens");
        stream.write_all(bytes.as_bytes()).await.expect("it reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("it answers in text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// Sends one request with these further header lines.
    async fn request(&self, line: &str, headers: &str) -> Answer {
        let host = self.address;
        self.raw(&format!("{line} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n")).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.request(&format!("GET {path}"), "").await
    }

    async fn post(&self, path: &str) -> Answer {
        self.request(&format!("POST {path}"), "Content-Length: 0\r\n").await
    }
}

#[tokio::test]
async fn every_path_of_the_index_answers() {
    let admin = Admin::start().await;
    let index = admin.get("/").await;
    assert_eq!(index.status, 200);
    let mut paths = 0;
    for line in index.body.lines().filter_map(|line| line.strip_prefix("GET ")) {
        let path = line.split_whitespace().next().expect("a path");
        let aliases = line.split("also ").nth(1).unwrap_or("").split(", ").filter(|alias| alias.starts_with('/'));
        for path in std::iter::once(path).chain(aliases) {
            let answer = admin.get(path).await;
            assert_eq!(answer.status, 200, "{path}");
            assert!(!answer.body.is_empty(), "{path}");
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
            paths += 1;
        }
    }
    assert_eq!(paths, 14);
    let missing = admin.get("/quit").await;
    assert_eq!(missing.status, 404);
    assert_eq!(missing.header("x-content-type-options"), Some("nosniff"));
}

#[tokio::test]
async fn readiness_follows_the_process_and_says_why() {
    let admin = Admin::start().await;
    let detail = "the last reload was refused:\nmesh.yaml:3:1 \u{1b}[31m".to_owned();
    for (ready, state, status) in [(false, "starting", 503), (true, "serving", 200), (false, "draining", 503)] {
        *admin.process.readiness.lock().expect("no panic") =
            Readiness { ready, state: state.to_owned(), detail: vec![detail.clone()] };
        for path in ["/ready", "/readyz", "/healthz/ready"] {
            let answer = admin.get(path).await;
            assert_eq!(answer.status, status, "{path} while {state}");
            let expected = format!("{state}\nthe last reload was refused:\u{fffd}mesh.yaml:3:1 \u{fffd}[31m\n");
            assert_eq!(answer.body, expected, "{path}");
        }
        assert_eq!(admin.get("/healthz").await.status, 200, "alive while {state}");
    }
}

#[tokio::test]
async fn metrics_have_the_content_type_of_prometheus() {
    let admin = Admin::start().await;
    let answer = admin.get("/metrics").await;
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(answer.body.ends_with("up 1\n"), "{}", answer.body);
    let head = admin.request("HEAD /metrics", "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[tokio::test]
async fn clusters_are_lines_like_envoys_or_json() {
    let admin = Admin::start().await;
    let text = admin.get("/clusters").await.body;
    for line in [
        "default_priority::max_connections::100",
        "default_priority::used_connections::3",
        "default_priority::max_retries::4294967295",
        "127.0.0.1:9001::rq_active::4",
        "127.0.0.1:9001::latency_us::2500",
        "127.0.0.1:9001::priority::0",
        "127.0.0.1:9001::load_source::local",
        "127.0.0.1:9001::health_flags::healthy",
        "127.0.0.1:9001::label.version::v1",
        "[::1]:9002::health_flags::/failed_active_hc/failed_outlier_check/unreachable/admin_draining",
        "[::1]:9002::unreachable_for_ms::1500",
        "[::1]:9002::unreachable_cause::connection refused",
        "[::1]:9002::next_probe_in_ms::700",
        "[::1]:9002::failed_probes::2",
        "[::1]:9002::health_check::state::unhealthy",
        "[::1]:9002::health_check::source::--health",
        "[::1]:9002::health_check::last::health check: HTTP status 500",
        "[::1]:9002::health_check::for_ms::1200",
        "[::1]:9002::health_check::next_in_ms::800",
        "[::1]:9002::health_check::failures::4",
        "[::1]:9002::ejected_for_ms::1500",
        "[::1]:9002::ejection_ends_in_ms::28500",
        "[::1]:9002::ejection_cause::5 server errors in a row",
        "[::1]:9002::consecutive_5xx::5",
        "circuit_breaker::state::open",
        "circuit_breaker::cause::5 failures in a row",
        "circuit_breaker::retry_in_ms::980",
        "circuit_breaker::refused::7",
        "adaptive_concurrency::mode::observe",
        "adaptive_concurrency::limit::30",
        "bulkhead::mode::enforce",
        "bulkhead::max_requests_per_endpoint::9",
        "bulkhead::full_endpoints::1",
        "rate_limit::mode::enforce",
        "rate_limit::per_ms::2000",
        "rate_limit::keys::7",
        "last_good::entries::2",
        "last_good::max_bytes::1000",
        "coalescing::keys::1",
        "coalescing::waiting::4",
        "coalescing::max_waiters::8",
    ] {
        let line = format!("{CLUSTER}::{line}");
        assert!(text.lines().any(|found| found == line), "missing {line} in\n{text}");
    }
    let json = admin.get("/clusters?format=json").await.json();
    let cluster = &json["clusters"][0];
    assert_eq!(cluster["name"], CLUSTER);
    assert_eq!(
        cluster["limits"],
        serde_json::json!({
        "max_connections": 100, "max_pending": null, "max_requests": null, "max_retries": null,
            "retry_budget_percent": null })
    );
    assert_eq!(cluster["usage"]["connections"], 3);
    let breaker = &cluster["circuit_breakers"][0];
    assert_eq!((&breaker["state"], &breaker["for_ms"], &breaker["endpoint"]), (&"open".into(), &20.into(), &().into()));
    assert_eq!(cluster["adaptive_concurrency"]["limit"], 30);
    assert_eq!(cluster["last_good"]["bytes"], 600);
    assert_eq!(cluster["coalescing"]["waiting"], 4);
    assert_eq!(cluster["endpoints"][0]["ejected_for_ms"], serde_json::Value::Null);
    assert_eq!(
        cluster["endpoints"][1],
        serde_json::json!({
        "address": "[::1]:9002", "weight": 1, "labels": { "version": "v1" }, "locality": "", "priority": 0,
        "latency_us": 2500, "load_source": "local", "in_flight": 4, "admin": "draining",
        "health_check": {
            "state": "unhealthy", "source": "--health", "last": "HTTP status 500", "for_ms": 1200, "next_in_ms": 800,
            "successes": 0, "failures": 4
        },
        "ejected": true, "ejected_for_ms": 1500, "ejection_ends_in_ms": 28_500,
        "ejection_cause": "5 server errors in a row", "unreachable_for_ms": 1500,
        "unreachable_cause": "connection refused", "next_probe_in_ms": 700, "failed_probes": 2, "ejections": 2, "consecutive_5xx": 5,
        "consecutive_gateway_errors": 0, "consecutive_local_origin_failures": 0 })
    );
    assert_eq!(admin.get("/clusters?format=xml").await.status, 400);
}

#[tokio::test]
async fn circuit_breakers_obey_an_operator() {
    let admin = Admin::start().await;
    let done = admin.request("POST /breakers/user-service/force-open", "").await;
    assert_eq!(done.status, 200, "{}", done.body);
    assert_eq!(done.json()["changes"][0], format!("{CLUSTER}: force-open"));
    assert_eq!(done.json()["action"], "force-open");
    for (path, status) in [("nobody/reset", 404), ("plain/reset", 409), ("user-service/open", 404)] {
        assert_eq!(admin.request(&format!("POST /breakers/{path}"), "").await.status, status, "{path}");
    }
    assert_eq!(admin.get("/breakers/user-service/reset").await.status, 405);
}

#[tokio::test]
async fn listeners_and_the_configuration_are_shown() {
    let admin = Admin::start().await;
    assert_eq!(admin.get("/listeners").await.body, "gateway:80::0.0.0.0:8080\ngateway:81::0.0.0.0:8081 (draining)\n");
    let json = admin.get("/listeners?format=json").await.json();
    assert_eq!(json["listeners"][1]["draining"], true);
    assert_eq!(json["listeners"][0]["hosts"][0], "api.example.com");
    assert_eq!(json["listeners"][0]["protocol"], "https");
    assert_eq!(json["listeners"][0]["server_names"][0], "*.example.com");
    assert_eq!(admin.get("/config_dump").await.json()["generation"], 7);
    assert_eq!(admin.get("/version").await.json()["name"], "meshwright");
}

#[tokio::test]
async fn the_log_level_changes_by_post_only() {
    let admin = Admin::start().await;
    assert_eq!(admin.get("/logging").await.body, "info\n");
    assert_eq!(admin.get("/logging?level=debug").await.status, 405);
    assert_eq!(admin.get("/logging").await.body, "info\n");
    let set = admin.post("/logging?level=debug").await;
    assert_eq!((set.status, set.body.as_str()), (200, "debug\n"));
    assert_eq!(admin.get("/logging").await.body, "debug\n");
    let wrong = admin.post("/logging?level=loud").await;
    assert_eq!((wrong.status, wrong.body.as_str()), (400, "loud is no level\n"));
    assert_eq!(admin.post("/logging").await.status, 400);
    assert_eq!(admin.get("/logging").await.body, "debug\n");
}

#[tokio::test]
async fn an_operators_word_is_carried_out_and_audited() {
    let admin = Admin::start().await;
    let done = admin
        .request("POST /endpoints/user-service/127.0.0.1:9001/drain", "User-Agent: cli\"/1\r\nContent-Length: 0\r\n")
        .await;
    assert_eq!(done.status, 200, "{}", done.body);
    assert_eq!(done.json()["changes"][0], "127.0.0.1:9001: drain");
    assert_eq!(admin.post("/endpoints/user-service/%5B::1%5D:9002/disable").await.status, 200);
    let audit = admin.get("/audit").await.json();
    let first = &audit["audit"][0];
    assert_eq!(first["action"], "drain");
    assert_eq!(first["target"], "user-service 127.0.0.1:9001");
    assert_eq!(first["time"], "2026-11-23T16:55:04.123Z");
    let actor = first["actor"].as_str().expect("an actor");
    assert!(actor.starts_with("127.0.0.1:") && actor.ends_with(" (cli\\\"/1)"), "{actor}");
    assert_eq!(audit["audit"][1]["target"], "user-service [::1]:9002");
}

#[tokio::test]
async fn a_word_that_cannot_be_carried_out_says_why() {
    let admin = Admin::start().await;
    for (path, status, reason) in [
        ("/endpoints/nobody/127.0.0.1:9001/drain", 404, "no service is called nobody"),
        ("/endpoints/user-service/127.0.0.1:9001/uneject", 409, "127.0.0.1:9001 is not ejected"),
        ("/endpoints/user-service/127.0.0.1:9001/delete", 404, "drain, disable, enable, uneject"),
        ("/endpoints/user-service/here/drain", 400, "127.0.0.1:9001"),
    ] {
        let answer = admin.post(path).await;
        assert_eq!(answer.status, status, "{path}");
        let error = answer.json()["error"].as_str().unwrap_or_default().to_owned();
        assert!(error.contains(reason), "{path}: {error}");
    }
    let get = admin.get("/endpoints/user-service/127.0.0.1:9001/drain").await;
    assert_eq!((get.status, get.header("allow")), (405, Some("POST")));
    assert!(admin.process.audit().is_empty(), "nothing happened");
}

#[tokio::test]
async fn a_page_of_another_site_reaches_nothing() {
    let admin = Admin::start().await;
    let close = "Connection: close\r\n\r\n";
    for host in ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.1.2.3"] {
        let answer = admin.raw(&format!("GET /config_dump HTTP/1.1\r\nHost: {host}\r\n{close}")).await;
        assert_eq!(answer.status, 403, "{host}");
        assert!(!answer.body.contains("generation"), "{host}");
    }
    let absolute = admin.raw(&format!("GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost\r\n{close}")).await;
    assert_eq!(absolute.status, 403);
    let twice = admin.raw(&format!("GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n{close}")).await;
    assert_eq!(twice.status, 400);
    assert_eq!(admin.raw(&format!("GET / HTTP/1.1\r\n{close}")).await.status, 400);
    assert_eq!(admin.raw(&format!("GET / HTTP/1.1\r\nHost: LocalHost:1\r\n{close}")).await.status, 200);
    assert_eq!(admin.raw("GET /ready HTTP/1.0\r\n\r\n").await.status, 200);

    for headers in ["Origin: http://evil.example\r\n", "Origin: null\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
        let answer = admin.request("POST /logging?level=debug", &format!("{headers}Content-Length: 0\r\n")).await;
        assert_eq!(answer.status, 403, "{headers}");
    }
    assert_eq!(admin.get("/logging").await.body, "info\n");
    let own = format!("Origin: http://{}\r\nContent-Length: 0\r\n", admin.address);
    assert_eq!(admin.request("POST /logging?level=debug", &own).await.status, 200);
}

#[tokio::test]
async fn a_large_body_is_refused() {
    let admin = Admin::start().await;
    let answer = admin.request("POST /logging?level=debug", "Content-Length: 1000000000\r\n").await;
    assert_eq!(answer.status, 413);
    assert_eq!(admin.get("/logging").await.body, "info\n");
}

#[tokio::test]
async fn shutdown_ends_idle_connections_and_the_listener() {
    let admin = Admin::start().await;
    let mut idle = TcpStream::connect(admin.address).await.expect("the API listens");
    let request = format!("GET /version HTTP/1.1\r\nHost: {}\r\n\r\n", admin.address);
    idle.write_all(request.as_bytes()).await.expect("it reads");
    let mut first = [0u8; 12];
    idle.read_exact(&mut first).await.expect("it answers");
    assert_eq!(&first, b"HTTP/1.1 200");
    admin.stop.send(()).expect("the server runs");
    admin.served.await.expect("it does not panic").expect("it ends well");
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.expect("the idle connection is closed");
    assert!(TcpStream::connect(admin.address).await.is_err(), "nobody listens any more");
}
