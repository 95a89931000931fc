//! The last good answer of a service stands in while it fails: which are kept, for whom, for how long.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use meshwright_testkit::{
    Config, Http2Client, Http2Origin, Launch, Meshwright, Origin, Received, Response, Signal, binary, destination_rule,
    eventually, gateway_routes, gateway_to, resilience_policy, service_entry,
};

const SVC: [(&str, &str); 1] = [("cluster_name", "outbound|80||svc.default.svc.cluster.local")];

struct Setup {
    process: Meshwright,
    origin: Origin,
    is_down: Arc<AtomicBool>,
    config: Config,
}

const ROUTE: &str =
    "- retries: {attempts: 0}\n  route: [{destination: {host: svc}}]\n  headers: {response: {set: {x-route: one}}}";

fn policy(settings: &str) -> String {
    resilience_policy("svc", &format!("fallback:\n  statuses: [503]\n  lastGood: {settings}"))
}

impl Setup {
    /// A gateway to a service that answers `script` while it is up and 503 while it is down; what it answered last stands in.
    fn new(settings: &str, script: impl Fn(&Received) -> String + Send + Sync + 'static) -> Self {
        Self::with(&[&policy(settings)], script)
    }

    /// The same with these documents.
    fn with(documents: &[&str], script: impl Fn(&Received) -> String + Send + Sync + 'static) -> Self {
        let is_down = Arc::new(AtomicBool::new(false));
        let down = is_down.clone();
        let origin = Origin::start(move |connection| {
            while let Some(received) = connection.request()? {
                if down.load(Ordering::SeqCst) {
                    connection.send("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\ndown")?;
                } else {
                    let answer = script(&received);
                    connection.send(&answer)?;
                    if answer.contains("connection: close") {
                        return Ok(());
                    }
                }
            }
            Ok(())
        });
        let route = gateway_routes(ROUTE);
        let mut all = vec![route.as_str()];
        all.extend(documents);
        let config = Config::new(&all);
        let process = Launch::run(binary!())
            .file(config.path())
            .service_at("svc", origin.address())
            .args(&["--workers", "1", "--no-watch", "--access-log", "text"])
            .start();
        Self { process, origin, is_down, config }
    }

    fn fail(&self, down: bool) {
        self.is_down.store(down, Ordering::SeqCst);
    }

    /// What is answered for a path when the service was asked with these fields while it was up and fails now.
    fn after(&self, path: &str, fields: &[(&str, &str)]) -> Response {
        self.fail(false);
        self.process.connect().request("GET", "x", path, fields, b"");
        self.fail(true);
        self.process.connect().get("x", path)
    }
}

fn ok(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}content-length: {}\r\n\r\n{body}", body.len())
}

fn kind(response: &Response) -> Option<&str> {
    response.header("x-meshwright-fallback")
}

#[test]
fn the_last_good_answer_stands_in_and_says_so() {
    let setup =
        Setup::new("{}", |received| ok("content-type: text/x\r\nage: 7\r\n", &format!("of {}", received.target)));
    let answer = setup.after("/a?b=1", &[]);
    assert_eq!((answer.status, answer.text().as_str(), kind(&answer)), (200, "of /a?b=1", Some("last-good")));
    assert_eq!((answer.header("content-type"), answer.header("x-route")), (Some("text/x"), Some("one")));
    assert!(answer.header("age").unwrap().parse::<u64>().unwrap() >= 7 && answer.header("date").is_some());
    setup.process.metric_becomes("meshwright_cluster_fallback_last_good_total", &SVC, 1.0);
    let over_http2 = Http2Client::connect(setup.process.gateway()).get("x", "/a?b=1");
    assert_eq!((over_http2.status, over_http2.header("x-meshwright-fallback")), (200, Some("last-good")));
    let mut client = setup.process.connect();
    for (authority, path) in [("x", "/a"), ("y", "/a?b=1"), ("x", "/a?b=2")] {
        assert_eq!(client.get(authority, path).status, 503, "another thing: {authority}{path}");
    }
    setup.fail(false);
    let back = client.get("x", "/a?b=1");
    assert_eq!((back.status, kind(&back)), (200, None), "a service that answers is asked");
}

#[test]
fn it_stands_in_when_nobody_is_there_and_the_access_log_says_why() {
    let setup = Setup::new("{}", |_| ok("", "kept"));
    assert_eq!(setup.process.get("x", "/first").text(), "kept");
    let Setup { process, origin, .. } = setup;
    drop(origin);
    let answer = process.get("x", "/first");
    assert_eq!((answer.text().as_str(), kind(&answer)), ("kept", Some("last-good")));
    assert_eq!(process.get("x", "/other").status, 503);
    let record = process.record(|record| record.details() == "fallback_last_good");
    assert_eq!((record.status(), record.flags()), (200, "UF"));
}

#[test]
fn what_is_not_for_everybody_is_neither_kept_nor_given() {
    let setup = Setup::new("{}", |received| match received.target.as_str() {
        "/vary" => ok("vary: accept\r\n", "1"),
        "/private" => ok("cache-control: private\r\n", "1"),
        "/no-store" => ok("cache-control: no-store\r\n", "1"),
        "/no-cache" => ok("cache-control: no-cache\r\n", "1"),
        "/cookie" => ok("set-cookie: a=b\r\n", "1"),
        "/gzip" => ok("content-encoding: gzip\r\n", "1"),
        "/must" => ok("cache-control: must-revalidate\r\n", "1"),
        "/shared" => ok("cache-control: s-maxage=0\r\n", "1"),
        "/error" => ok("cache-control: max-age=0, stale-if-error=0\r\n", "1"),
        "/206" => "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 0-0/2\r\ncontent-length: 1\r\n\r\n1".to_owned(),
        "/close" => "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n1".to_owned(),
        "/trailers" => {
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n1\r\n0\r\nx-sum: 1\r\n\r\n".to_owned()
        }
        _ => ok("cache-control: max-age=60\r\n", "1"),
    });
    let paths = "/vary /private /no-store /no-cache /cookie /gzip /must /shared /error /206 /close /trailers";
    for path in paths.split(' ') {
        let answer = setup.after(path, &[]);
        assert_eq!((answer.status, kind(&answer)), (503, None), "{path}");
    }
    let fields =
        [("authorization", "Basic eA=="), ("cookie", "a=b"), ("range", "bytes=0-0"), ("cache-control", "no-store")];
    for (number, field) in fields.iter().enumerate() {
        let answer = setup.after(&format!("/asked/{number}"), &[*field]);
        assert_eq!(answer.status, 503, "kept for {field:?}");
    }
    assert_eq!(setup.after("/good", &[]).status, 200);
    let mut client = setup.process.connect();
    for field in fields.iter().chain(&[("cache-control", "no-cache"), ("cache-control", "max-age=0")]) {
        assert_eq!(client.request("GET", "x", "/good", &[*field], b"").status, 503, "given for {field:?}");
    }
    assert_eq!(client.request("POST", "x", "/good", &[], b"x").status, 503);
    assert_eq!(client.request("GET", "x", "/good", &[], b"x").status, 503, "a body");
    assert_eq!(client.get("x", "/good").status, 200, "a POST that failed takes nothing away");
}

#[test]
fn an_answer_that_was_cut_off_is_not_kept_and_a_newer_word_takes_the_older_away() {
    let gone = Arc::new(AtomicBool::new(false));
    let now = gone.clone();
    let setup = Setup::new("{maxAnswerBytes: 10}", move |received| {
        let is_gone = now.load(Ordering::SeqCst);
        match received.target.as_str() {
            "/404" if is_gone => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
            "/private" if is_gone => ok("cache-control: private\r\n", "2"),
            "/long" if is_gone => {
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nb\r\n12345678901\r\n0\r\n\r\n".to_owned()
            }
            "/cut" => "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\n1".to_owned(),
            "/304" if is_gone => "HTTP/1.1 304 Not Modified\r\n\r\n".to_owned(),
            _ => ok("", "1"),
        }
    });
    let _ = setup.process.connect().try_request("GET", "x", "/cut", &[], b"");
    setup.fail(true);
    assert_eq!(setup.process.get("x", "/cut").status, 503, "half an answer");
    for (path, status) in [("/404", 503), ("/private", 503), ("/long", 503), ("/304", 200)] {
        gone.store(false, Ordering::SeqCst);
        assert_eq!(setup.after(path, &[]).status, 200, "{path}");
        gone.store(true, Ordering::SeqCst);
        assert_eq!(setup.after(path, &[("if-none-match", "\"a\"")]).status, status, "{path}");
    }
    gone.store(false, Ordering::SeqCst);
    assert_eq!(setup.after("/changed", &[]).status, 200);
    setup.fail(false);
    assert_eq!(setup.process.connect().request("PUT", "x", "/changed", &[], b"2").status, 200);
    setup.fail(true);
    assert_eq!(setup.process.get("x", "/changed").status, 503, "a PUT may have changed it");
}

#[test]
fn the_least_recently_used_answer_goes() {
    let setup = Setup::new("{maxEntries: 2}", |received| ok("", &received.target));
    for path in ["/1", "/2", "/1", "/3"] {
        assert_eq!(setup.after(path, &[]).text(), path);
    }
    let status = |path: &str| setup.process.get("x", path).status;
    assert_eq!([status("/1"), status("/2"), status("/3")], [200, 503, 200]);
    setup.process.metric_becomes("meshwright_cluster_fallback_last_good_entries", &SVC, 2.0);
    let bytes = setup.process.metrics().sum("meshwright_cluster_fallback_last_good_bytes", &SVC);
    let text = setup.process.admin_get("/clusters").text();
    assert!(bytes > 500.0 && text.contains("last_good::entries::2"), "{text}");
    assert!(
        text.contains("last_good::max_entries::2") && text.contains(&format!("last_good::bytes::{bytes}")),
        "{text}"
    );
}

#[test]
fn an_answer_stands_in_until_its_time_is_over() {
    let setup = Setup::new("{staleIfError: 1s}", |received| match received.target.as_str() {
        "/said" => ok("cache-control: max-age=0, stale-if-error=1\r\n", "1"),
        "/fresh" => ok("cache-control: max-age=1, must-revalidate\r\n", "1"),
        "/long" => ok("cache-control: stale-if-error=9999\r\n", "1"),
        // Fresh for ten minutes by its own clock, which is not ours.
        "/expires" => ok(
            "cache-control: must-revalidate\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\nexpires: Sun, 06 Nov 1994 08:59:37 GMT\r\n",
            "1",
        ),
        "/expired" => ok("cache-control: must-revalidate\r\nexpires: 0\r\n", "1"),
        _ => ok("", "1"),
    });
    let mut client = setup.process.connect();
    for path in ["/said", "/unsaid", "/fresh", "/long", "/expires", "/expired"] {
        assert_eq!(client.get("x", path).status, 200);
    }
    setup.process.metric_becomes("meshwright_cluster_fallback_last_good_entries", &SVC, 5.0);
    setup.fail(true);
    for path in ["/said", "/unsaid", "/fresh"] {
        eventually("its time is over", || client.get("x", path).status == 503);
    }
    setup.process.metric_becomes("meshwright_cluster_fallback_last_good_entries", &SVC, 2.0);
    let status = ["/long", "/expires", "/expired"].map(|path| client.get("x", path).status);
    assert_eq!(status, [200, 200, 503]);
}

#[test]
fn a_304_refreshes_the_answer_with_its_validator() {
    let setup = Setup::new("{}", |received| {
        if received.header("if-none-match").is_none() {
            return ok("cache-control: max-age=0, stale-if-error=1\r\netag: \"1\"\r\nx-a: 1\r\n", "whole");
        }
        let fields = match received.target.as_str() {
            "/same" => "etag: \"1\"\r\ncache-control: max-age=9999\r\nx-a: 2\r\n",
            "/another" => "etag: \"2\"\r\ncache-control: max-age=9999\r\n",
            "/none" => "cache-control: max-age=9999\r\n",
            _ => "etag: \"1\"\r\nvary: accept\r\ncache-control: max-age=9999\r\n",
        };
        format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n")
    });
    let mut client = setup.process.connect();
    for path in ["/same", "/another", "/none", "/vary"] {
        assert_eq!(client.get("x", path).status, 200);
        assert_eq!(client.request("GET", "x", path, &[("if-none-match", "\"1\"")], b"").status, 304);
    }
    setup.fail(true);
    for path in ["/another", "/none", "/vary"] {
        eventually("its time is over", || client.get("x", path).status == 503);
    }
    let answer = client.get("x", "/same");
    assert_eq!((answer.text().as_str(), answer.header("x-a"), kind(&answer)), ("whole", Some("2"), Some("last-good")));
    assert_eq!(answer.values("etag"), ["\"1\""]);
}

#[test]
fn a_service_of_http2_has_last_good_answers_too() {
    let is_down = Arc::new(AtomicBool::new(false));
    let down = is_down.clone();
    let origin = Http2Origin::start(move |stream| {
        let received = stream.request()?;
        let path = received.target.as_str();
        if down.load(Ordering::SeqCst) {
            return stream.answer(503, &[], b"down");
        }
        if path == "/trailers" {
            stream.head(200, &[])?;
            stream.sender().send("body")?;
            return stream.sender().finish_with(&[("x-sum", "1")]);
        }
        stream.answer(200, &[("x-path", path)], b"body")
    });
    let blocks = "fallback: {statuses: [503], lastGood: {}}";
    let config = Config::new(&[
        &gateway_to("modern.example"),
        &service_entry("modern.example", "HTTP2", origin.address()),
        &resilience_policy("modern.example", blocks),
    ]);
    let process = Launch::run(binary!()).file(config.path()).args(&["--workers", "1", "--no-watch"]).start();
    for path in ["/", "/trailers"] {
        assert_eq!(process.get("x", path).text(), "body");
    }
    is_down.store(true, Ordering::SeqCst);
    let answer = process.get("x", "/");
    assert_eq!(
        (answer.text().as_str(), answer.header("x-path"), kind(&answer)),
        ("body", Some("/"), Some("last-good"))
    );
    assert_eq!(process.get("x", "/trailers").status, 503);
    let over_http2 = Http2Client::connect(process.gateway()).get("x", "/");
    assert_eq!((over_http2.text().as_str(), over_http2.header("x-meshwright-fallback")), ("body", Some("last-good")));
}

/// Whatever keeps the service from being asked, the answer stands in and the log says why.
fn stands_in(setup: &Setup, flags: &str) {
    let answer = setup.process.get("x", "/good");
    assert_eq!((answer.status, answer.text().as_str(), kind(&answer)), (200, "good", Some("last-good")));
    let record = setup.process.record(|record| record.details() == "fallback_last_good");
    assert_eq!(record.flags(), flags);
}

#[test]
fn it_stands_in_behind_an_open_circuit_breaker() {
    let blocks = "circuitBreaker: {consecutiveFailures: 1, timeout: 600s}\nfallback: {lastGood: {}}";
    let setup = Setup::with(&[&resilience_policy("svc", blocks)], |_| ok("", "good"));
    assert_eq!(setup.after("/good", &[]).text(), "down", "an answer is an answer");
    let asked = setup.origin.count();
    stands_in(&setup, "UO");
    assert_eq!(setup.origin.count(), asked);
}

#[test]
fn it_stands_in_while_no_endpoint_is_healthy() {
    let ejection = destination_rule(
        "svc",
        "{outlierDetection: {consecutive5xxErrors: 1, interval: 0.1s, baseEjectionTime: 600s, maxEjectionPercent: 100}}",
    );
    let policy = resilience_policy("svc", "fallback: {lastGood: {}}");
    let setup = Setup::with(&[&ejection, &policy], |_| ok("", "good"));
    assert_eq!(setup.after("/good", &[]).text(), "down");
    stands_in(&setup, "UH");
}

#[test]
fn it_stands_in_for_requests_beyond_a_limit() {
    let limit = destination_rule("svc", "{connectionPool: {http: {http2MaxRequests: 1}}}");
    let policy = resilience_policy("svc", "fallback: {lastGood: {}}");
    // Half a head keeps a request with the service.
    let setup = Setup::with(&[&limit, &policy], |received| {
        if received.target == "/held" { "HTTP/1.1 200".to_owned() } else { ok("", "good") }
    });
    assert_eq!(setup.process.get("x", "/good").text(), "good");
    let mut held = setup.process.connect();
    held.send("GET /held HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually("the request is held", || setup.origin.count() == 2);
    stands_in(&setup, "UO");
}

#[test]
fn what_is_kept_stays_over_a_reload_that_leaves_its_policy_alone() {
    let setup = Setup::new("{}", |_| ok("", "kept"));
    assert_eq!(setup.process.get("x", "/").text(), "kept");
    setup.fail(true);
    let reload = |generation: f64, route: &str, settings: &str| {
        setup.config.replace(&[&gateway_routes(route), &policy(settings)]);
        setup.process.signal(Signal::HUP);
        setup.process.metric_becomes("meshwright_config_generation", &[], generation);
    };
    reload(2.0, &ROUTE.replace("one", "two"), "{}");
    let answer = setup.process.get("x", "/");
    assert_eq!((answer.text().as_str(), answer.header("x-route")), ("kept", Some("two")));
    reload(3.0, ROUTE, "{maxEntries: 7}");
    assert_eq!(setup.process.get("x", "/").status, 503, "another policy begins with nothing");
}
