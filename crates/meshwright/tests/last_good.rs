//! The last good answer of a service stands in while it fails: which are kept, for whom, for how long.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use meshwright_testkit::{
    Config, Http2Client, Launch, Meshwright, Origin, Received, Response, binary, gateway_routes, resilience_policy,
};

const SVC: [(&str, &str); 1] = [("cluster_name", "outbound|80||svc.default.svc.cluster.local")];

struct Setup {
    process: Meshwright,
    origin: Origin,
    is_down: Arc<AtomicBool>,
    _config: Config,
}

impl Setup {
    /// A gateway to a service that answers `script` while it is up and 503 while it is down.
    fn new(settings: &str, script: impl Fn(&Received) -> String + Send + Sync + 'static) -> Self {
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
                connection.record(received);
            }
            Ok(())
        });
        let blocks = format!("fallback:\n  statuses: [503]\n  lastGood: {settings}");
        let route = gateway_routes(
            "- retries: {attempts: 0}\n  route: [{destination: {host: svc}}]\n  headers: {response: {set: {x-route: one}}}",
        );
        let config = Config::new(&[&route, &resilience_policy("svc", &blocks)]);
        let process = Launch::run(binary!())
            .file(config.path())
            .service_at("svc", origin.address())
            .args(&["--workers", "1", "--no-watch", "--access-log", "text"])
            .start();
        Self { process, origin, is_down, _config: config }
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
}
