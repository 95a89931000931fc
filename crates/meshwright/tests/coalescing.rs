//! Identical requests wait for one answer: which do, what they get, and what becomes of them when there is none for them.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use meshwright_testkit::{
    Ask, Config, Http2Client, Http2Origin, Launch, Meshwright, Origin, RawClient, Received, Response, Signal, binary,
    eventually, gateway_routes, gateway_to, pass, resilience_policy, service_entry,
};

const CLUSTER: &str = "outbound|80||svc.default.svc.cluster.local";
const SVC: [(&str, &str); 1] = [("cluster_name", CLUSTER)];
const WAITING: &str = "meshwright_cluster_coalescing_waiting";
const COLLAPSED: &str = "meshwright; fwd=miss; collapsed";

const ROUTE: &str =
    "- retries: {attempts: 0}\n  route: [{destination: {host: svc}}]\n  headers: {response: {set: {x-route: one}}}";

/// Holds the first request for each path until that path is opened.
#[derive(Default)]
struct Gate {
    paths: Mutex<(HashSet<String>, HashSet<String>)>,
    opened: Condvar,
}

impl Gate {
    fn open(&self, path: &str) {
        self.paths.lock().unwrap().1.insert(path.to_owned());
        self.opened.notify_all();
    }

    fn pass(&self, path: &str) {
        let mut paths = self.paths.lock().unwrap();
        if paths.0.insert(path.to_owned()) {
            let shut = |paths: &mut (HashSet<String>, HashSet<String>)| !paths.1.contains(path);
            drop(self.opened.wait_timeout_while(paths, Duration::from_secs(60), shut).unwrap());
        }
    }
}

struct Setup {
    process: Meshwright,
    origin: Origin,
    gate: Arc<Gate>,
    config: Config,
}

impl Setup {
    /// A gateway with two workers to a service that answers `script`, the first request for each path when it is opened.
    fn new(blocks: &str, script: impl Fn(&Received) -> String + Send + Sync + 'static) -> Self {
        let gate = Arc::new(Gate::default());
        let held = gate.clone();
        let origin = Origin::start(move |connection| {
            while let Some(received) = connection.request()? {
                held.pass(&received.target);
                let answer = script(&received);
                if answer.is_empty() {
                    return Ok(());
                }
                connection.send(answer)?;
            }
            Ok(())
        });
        let route = gateway_routes(ROUTE);
        let config = Config::new(&[&route, &resilience_policy("svc", blocks)]);
        let process = Launch::run(binary!())
            .file(config.path())
            .service_at("svc", origin.address())
            .args(&["--workers", "2", "--no-watch", "--access-log", "text"])
            .start();
        Self { process, origin, gate, config }
    }

    /// Sends a request and leaves its answer for later.
    fn send(&self, head: &str) -> RawClient {
        send(self.process.gateway(), head)
    }

    /// Sends a request that reaches the service, where it is held.
    fn lead(&self, head: &str) -> RawClient {
        let before = self.origin.count();
        let client = self.send(head);
        eventually("the request is with the service", || self.origin.count() == before + 1);
        client
    }

    /// Sends as many requests for the path, which wait.
    fn follow(&self, path: &str, count: u32) -> Vec<RawClient> {
        let clients = (0..count).map(|_| self.send(&format!("GET {path}"))).collect();
        self.process.metric_becomes(WAITING, &SVC, f64::from(count));
        clients
    }

    fn counts(&self, leaders: f64, followers: f64, released: f64) {
        for (name, value) in [("leaders", leaders), ("followers", followers), ("released", released)] {
            self.process.metric_becomes(&format!("meshwright_cluster_coalescing_{name}_total"), &SVC, value);
        }
    }
}

fn send(address: SocketAddr, head: &str) -> RawClient {
    let (line, fields) = head.split_once('\n').unwrap_or((head, ""));
    let fields: String = fields.lines().map(|field| format!("{field}\r\n")).collect();
    let mut client = RawClient::connect(address);
    client.send(format!("{line} HTTP/1.1\r\nHost: x\r\n{fields}\r\n"));
    client
}

fn ok(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}content-length: {}\r\n\r\n{body}", body.len())
}

fn is_collapsed(response: &Response) -> bool {
    response.values("cache-status").contains(&COLLAPSED)
}

#[test]
fn requests_that_come_while_one_is_under_way_get_its_answer_and_say_so() {
    let setup = Setup::new("coalescing: {}", |received| {
        ok("content-type: text/x\r\ncache-status: inner; hit\r\nage: 7\r\n", &format!("of {}", received.target))
    });
    let mut leader = setup.lead("GET /a?b=1");
    let mut followers = setup.follow("/a?b=1", 5);
    let http2 = Http2Client::connect(setup.process.gateway());
    let mut stream = http2.start(&Ask::get("x", "/a?b=1")).unwrap();
    setup.process.metric_becomes(WAITING, &SVC, 6.0);
    let text = setup.process.admin_get("/clusters").text();
    assert!(text.contains("coalescing::keys::1") && text.contains("coalescing::waiting::6"), "{text}");
    setup.gate.open("/a?b=1");
    let answer = leader.response();
    assert_eq!((answer.text().as_str(), is_collapsed(&answer)), ("of /a?b=1", false));
    let answers = followers.iter_mut().map(RawClient::response).chain([stream.response()]);
    for answer in answers {
        assert_eq!((answer.status, answer.text().as_str(), is_collapsed(&answer)), (200, "of /a?b=1", true));
        assert_eq!(answer.values("cache-status"), ["inner; hit", COLLAPSED]);
        assert_eq!((answer.header("content-type"), answer.header("x-route")), (Some("text/x"), Some("one")));
        assert!(answer.header("age").unwrap().parse::<u64>().unwrap() >= 7);
    }
    assert_eq!(setup.origin.count(), 1);
    let record = setup.process.record(|record| record.request().ends_with("HTTP/2"));
    assert_eq!((record.details(), record.flags()), ("coalesced", "-"));
    assert_eq!((record.status(), record.upstream_cluster(), record.upstream_host()), (200, CLUSTER, "-"));
    setup.counts(1.0, 6.0, 0.0);
    setup.process.metric_becomes(WAITING, &SVC, 0.0);
    // A connection that waited serves on, and who comes later asks anew.
    assert_eq!(followers[0].get("x", "/a?b=1").text(), "of /a?b=1");
    assert_eq!(setup.origin.count(), 2);
}

#[test]
fn an_answer_that_is_not_for_everybody_is_asked_for_by_each() {
    let setup = Setup::new("coalescing: {maxAnswerBytes: 10}", |received| match received.target.as_str() {
        "/vary" => ok("vary: accept\r\n", "1"),
        "/private" => ok("cache-control: private\r\n", "1"),
        "/no-store" => ok("cache-control: no-store\r\n", "1"),
        "/cookie" => ok("set-cookie: a=b\r\n", "1"),
        "/stale" => ok("cache-control: max-age=0\r\n", "1"),
        "/expired" => ok("expires: 0\r\n", "1"),
        "/404" => "HTTP/1.1 404 Not Found\r\ncontent-length: 1\r\n\r\n1".to_owned(),
        "/503" => "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 1\r\n\r\n1".to_owned(),
        "/long" => ok("", "12345678901"),
        "/trailers" => {
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n1\r\n0\r\nx-sum: 1\r\n\r\n".to_owned()
        }
        _ => unreachable!("{}", received.target),
    });
    let paths =
        ["/vary", "/private", "/no-store", "/cookie", "/stale", "/expired", "/404", "/503", "/long", "/trailers"];
    for (number, path) in paths.iter().enumerate() {
        let mut leader = setup.lead(&format!("GET {path}"));
        let mut followers = setup.follow(path, 2);
        setup.gate.open(path);
        let own = leader.response();
        for answer in followers.iter_mut().map(RawClient::response) {
            assert_eq!(
                (answer.status, answer.text(), is_collapsed(&answer)),
                (own.status, own.text(), false),
                "{path}"
            );
        }
        assert_eq!(setup.origin.count(), 3 * (number + 1), "{path}");
    }
    setup.counts(paths.len() as f64, 0.0, 2.0 * paths.len() as f64);
}

#[test]
fn an_answer_that_turns_out_too_long_releases_those_who_wait_before_it_ends() {
    let setup = Setup::new("coalescing: {timeout: 600s, maxAnswerBytes: 10}", |_| {
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nb\r\n12345678901\r\n".to_owned()
    });
    let _leader = setup.lead("GET /");
    let _followers = setup.follow("/", 3);
    setup.gate.open("/");
    eventually("each asks for itself", || setup.origin.count() == 4);
}

#[test]
fn requests_that_are_not_for_everybody_neither_wait_nor_are_waited_for() {
    let setup = Setup::new("coalescing: {timeout: 600s}", |_| ok("", "1"));
    let _leader = setup.lead("GET /held");
    let heads = [
        "GET /held\nauthorization: Basic eA==",
        "GET /held\ncookie: a=b",
        "GET /held\nrange: bytes=0-0",
        "GET /held\nif-none-match: \"a\"",
        "GET /held\ncache-control: no-cache",
        "GET /held\ncache-control: no-store",
        "GET /held\npragma: no-cache",
        "HEAD /held",
        "OPTIONS /held",
        "GET /held?",
        "GET http://y/held",
    ];
    for head in heads {
        setup.lead(head);
    }
    for (number, head) in heads.iter().enumerate().take(9) {
        let path = format!("/own/{number}");
        let _first = setup.lead(&head.replace("/held", &path));
        setup.lead(&format!("GET {path}"));
    }
    setup.process.metric_becomes(WAITING, &SVC, 0.0);
}

#[test]
fn a_leader_that_fails_or_leaves_releases_those_who_wait() {
    let setup = Setup::new("coalescing: {timeout: 600s}", |received| {
        // The first closes without an answer.
        if received.target == "/fails" && received.header("x-first").is_some() { String::new() } else { ok("", "1") }
    });
    let mut leader = setup.lead("GET /fails\nx-first: 1");
    let mut followers = setup.follow("/fails", 3);
    setup.gate.open("/fails");
    assert_eq!(leader.response().status, 503);
    for answer in followers.iter_mut().map(RawClient::response) {
        assert_eq!((answer.status, is_collapsed(&answer)), (200, false));
    }
    assert_eq!(setup.origin.count(), 4);
    let leader = setup.lead("GET /leaves");
    let mut followers = setup.follow("/leaves", 3);
    drop(leader);
    for answer in followers.iter_mut().map(RawClient::response) {
        assert_eq!((answer.status, is_collapsed(&answer)), (200, false));
    }
    assert_eq!(setup.origin.count(), 8);
    setup.counts(2.0, 0.0, 6.0);
    // One that waits may leave, too.
    let _leader = setup.lead("GET /held");
    drop(setup.follow("/held", 2));
    setup.process.metric_becomes(WAITING, &SVC, 0.0);
}

#[test]
fn a_leader_that_takes_too_long_is_not_waited_for() {
    let setup = Setup::new("coalescing: {timeout: 4s}", |received| ok("", &received.target));
    let mut leader = setup.lead("GET /slow");
    let mut others = setup.follow("/slow", 2);
    for answer in others.iter_mut().map(RawClient::response) {
        assert_eq!((answer.text().as_str(), is_collapsed(&answer)), ("/slow", false));
    }
    assert_eq!(setup.process.get("x", "/slow").text(), "/slow", "the next one leads anew");
    assert_eq!(setup.origin.count(), 4);
    setup.counts(2.0, 0.0, 2.0);
    setup.gate.open("/slow");
    assert_eq!(leader.response().text(), "/slow");
}

#[test]
fn one_that_waits_keeps_to_its_own_deadline() {
    let setup = Setup::new("coalescing: {timeout: 600s}", |_| ok("", "1"));
    let mesh = setup.process.mesh();
    let held = |fields: &str| {
        let mut client = RawClient::connect(mesh);
        client.send(format!("GET /held HTTP/1.1\r\nHost: svc\r\n{fields}\r\n"));
        client
    };
    let mut leader = held("");
    eventually("the request is with the service", || setup.origin.count() == 1);
    let mut follower = held("x-envoy-expected-rq-timeout-ms: 300\r\n");
    assert_eq!(follower.response().status, 504);
    let record = setup.process.record(|record| record.status() == 504);
    assert_eq!((record.flags(), record.upstream_host()), ("UT", "-"));
    assert_eq!(setup.origin.count(), 1);
    setup.gate.open("/held");
    assert_eq!(leader.response().status, 200);
}

#[test]
fn what_is_beyond_a_bound_is_sent_alone() {
    let setup = Setup::new("coalescing: {timeout: 600s, maxKeys: 1, maxWaiters: 1}", |_| ok("", "1"));
    let mut leader = setup.lead("GET /one");
    let mut follower = setup.follow("/one", 1);
    assert_eq!(setup.process.get("x", "/one").text(), "1", "one too many to wait");
    setup.lead("GET /two");
    setup.lead("GET /two");
    setup.process.metric_becomes("meshwright_cluster_coalescing_overflow_total", &SVC, 3.0);
    setup.gate.open("/one");
    assert!(!is_collapsed(&leader.response()) && is_collapsed(&follower[0].response()));
}

#[test]
fn who_asks_after_a_write_does_not_get_an_answer_from_before_it() {
    let setup = Setup::new("coalescing: {timeout: 600s}", |received| ok("", &received.method));
    let mut leader = setup.lead("GET /thing");
    let mut before = setup.follow("/thing", 1);
    let written = setup.process.connect().request("PUT", "x", "/thing", &[], b"new");
    assert_eq!(written.status, 200);
    assert!(!is_collapsed(&setup.process.get("x", "/thing")));
    assert_eq!(setup.origin.count(), 3);
    setup.gate.open("/thing");
    assert!(!is_collapsed(&leader.response()) && is_collapsed(&before[0].response()));
}

#[test]
fn those_who_wait_pay_the_rate_limit_and_no_place_of_the_service() {
    let blocks = "coalescing: {timeout: 600s}\nrateLimit: {requests: 3, per: 600s, headers: true}\n\
        adaptiveConcurrency: {mode: ENFORCE, initialLimit: 1, minLimit: 1, maxLimit: 1}";
    let setup = Setup::new(blocks, |_| ok("", "1"));
    let mut leader = setup.lead("GET /");
    let mut followers = setup.follow("/", 2);
    assert_eq!(setup.process.get("x", "/").status, 429);
    setup.gate.open("/");
    assert_eq!(leader.response().status, 200);
    for answer in followers.iter_mut().map(RawClient::response) {
        assert!(is_collapsed(&answer) && answer.header("ratelimit").is_some());
    }
}

#[test]
fn an_answer_that_was_shared_is_kept_as_the_last_good_one_too() {
    let setup = Setup::new("coalescing: {}\nfallback: {statuses: [503], lastGood: {}}", |received| {
        if received.header("x-fail").is_some() {
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".to_owned()
        } else {
            ok("", "good")
        }
    });
    let mut leader = setup.lead("GET /");
    let mut followers = setup.follow("/", 1);
    setup.gate.open("/");
    assert_eq!((leader.response().text(), followers[0].response().text()), ("good".to_owned(), "good".to_owned()));
    let answer = setup.process.connect().request("GET", "x", "/", &[("x-fail", "1")], b"");
    assert_eq!((answer.text().as_str(), answer.header("x-meshwright-fallback")), ("good", Some("last-good")));
}

#[test]
fn a_service_of_http2_is_asked_once_too() {
    let gate = Arc::new(Gate::default());
    let held = gate.clone();
    let origin = Http2Origin::start(move |stream| {
        let received = stream.request()?;
        held.pass(&received.target);
        stream.answer(200, &[("x-path", &received.target)], b"body")
    });
    let config = Config::new(&[
        &gateway_to("modern.example"),
        &service_entry("modern.example", "HTTP2", origin.address()),
        &resilience_policy("modern.example", "coalescing: {timeout: 600s}"),
    ]);
    let process = Launch::run(binary!()).file(config.path()).args(&["--workers", "2", "--no-watch"]).start();
    let mut leader = send(process.gateway(), "GET /");
    eventually("the request is with the service", || origin.count() == 1);
    let mut followers = [send(process.gateway(), "GET /"), send(process.gateway(), "GET /")];
    process.metric_becomes(WAITING, &[], 2.0);
    gate.open("/");
    assert_eq!(leader.response().text(), "body");
    for answer in followers.iter_mut().map(RawClient::response) {
        assert_eq!((answer.text().as_str(), answer.header("x-path"), is_collapsed(&answer)), ("body", Some("/"), true));
    }
    assert_eq!(origin.count(), 1);
}

#[test]
fn those_who_wait_get_their_answer_over_a_reload_that_changes_the_policy() {
    let setup = Setup::new("coalescing: {timeout: 600s}", |_| ok("", "1"));
    let mut leader = setup.lead("GET /");
    let mut followers = setup.follow("/", 2);
    setup.config.replace(&[&gateway_routes(ROUTE), &resilience_policy("svc", "rateLimit: {requests: 99}")]);
    setup.process.signal(Signal::HUP);
    setup.process.metric_becomes("meshwright_config_generation", &[], 2.0);
    setup.gate.open("/");
    assert_eq!(leader.response().text(), "1");
    for answer in followers.iter_mut().map(RawClient::response) {
        assert_eq!((answer.text().as_str(), is_collapsed(&answer)), ("1", true));
    }
    assert_eq!(setup.process.get("x", "/").text(), "1");
}

#[test]
fn nobody_is_lost_among_many_who_come_and_go() {
    const CLIENTS: usize = 16;
    const REQUESTS: usize = 40;
    let setup = Setup::new("coalescing: {timeout: 600s}", |received| {
        // As long as it takes others to come.
        pass(Duration::from_millis(2));
        let good = if received.target == "/4" { "cache-control: private\r\n" } else { "" };
        ok(good, &received.target)
    });
    (0..5).for_each(|path| setup.gate.open(&format!("/{path}")));
    let gateway = setup.process.gateway();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                let mut kept = RawClient::connect(gateway);
                for number in 0..REQUESTS {
                    let path = format!("/{}", number % 5);
                    if (client + number) % 7 == 0 {
                        // Leaves without its answer, whether it leads or follows.
                        drop(send(gateway, &format!("GET {path}")));
                    }
                    assert_eq!(kept.get("x", &path).text(), path);
                }
            });
        }
    });
    let counts = |name: &str| setup.process.metrics().sum(&format!("meshwright_cluster_coalescing_{name}_total"), &SVC);
    assert!(counts("followers") > 0.0 && counts("leaders") > 0.0);
    setup.process.metric_becomes(WAITING, &SVC, 0.0);
    setup.process.metric_becomes("meshwright_cluster_coalescing_keys", &SVC, 0.0);
}
