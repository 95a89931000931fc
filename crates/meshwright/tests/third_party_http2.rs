//! Other people's HTTP/2 and other people's attacks: nghttp2's clients and server, slowhttptest. `cargo xtask tools` installs
//! them.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use meshwright_testkit::{
    Config, Launch, Meshwright, Origin, Recorder, binary, destination_rule, eventually, gateway_to,
};

/// A gateway in front of `address`.
fn in_front_of(address: SocketAddr, policy: Option<&str>) -> Meshwright {
    let rule = policy.map(|policy| destination_rule("svc", policy));
    let routes = gateway_to("svc");
    let documents: Vec<&str> = [Some(routes.as_str()), rule.as_deref()].into_iter().flatten().collect();
    let config = Config::new(&documents);
    Launch::run(binary!())
        .file(config.path())
        .service_at("svc", address)
        .args(&["--no-watch", "--workers", "1"])
        .start()
}

/// Runs a program to its end; what it wrote.
#[track_caller]
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{program} is needed, `cargo xtask tools` installs it: {error}"));
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn h2load_gets_every_answer_over_many_streams() {
    let origin = Origin::echoes();
    let process = in_front_of(origin.address(), None);
    let url = format!("http://{}/load", process.gateway());
    let said = run("h2load", &["-n", "3000", "-c", "6", "-m", "50", &url]);
    let requests = "requests: 3000 total, 3000 started, 3000 done, 3000 succeeded, 0 failed, 0 errored, 0 timeout";
    assert!(said.contains(requests), "{said}");
    assert!(said.contains("status codes: 3000 2xx, 0 3xx, 0 4xx, 0 5xx"), "{said}");
    assert_eq!(origin.count(), 3000);
}

#[test]
fn h2load_posts_bodies_and_gets_them_back() {
    let origin = Origin::echoes();
    let process = in_front_of(origin.address(), None);
    let folder = tempfile::tempdir().unwrap();
    let body = folder.path().join("body");
    std::fs::write(&body, vec![b'b'; 100_000]).unwrap();
    let url = format!("http://{}/upload", process.gateway());
    let said = run("h2load", &["-n", "200", "-c", "2", "-m", "20", "-d", &body.to_string_lossy(), &url]);
    assert!(said.contains("200 succeeded, 0 failed, 0 errored"), "{said}");
    assert!(origin.requests().iter().all(|request| request.body.len() == 100_000));
}

#[test]
fn nghttp_sees_its_request_as_the_service_saw_it() {
    let recorder = Recorder::start();
    let process = in_front_of(recorder.address(), None);
    let url = format!("http://{}/nghttp?a=b", process.gateway());
    let said = run("nghttp", &["-H", "x-mine: 1", "-H", "cookie: a=b", &url]);
    for part in ["GET /nghttp?a=b HTTP/1.1\r\n", "x-mine: 1\r\n", "cookie: a=b\r\n"] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
    let folder = tempfile::tempdir().unwrap();
    let body = folder.path().join("body");
    std::fs::write(&body, "hello").unwrap();
    let said = run("nghttp", &["-d", &body.to_string_lossy(), "--trailer", "x-sum: 7", &url]);
    assert!(said.contains("POST /nghttp?a=b HTTP/1.1\r\n"), "{said}");
    let tally = recorder.tally();
    assert_eq!((tally.requests, tally.faults.len()), (2, 0), "{:?}", tally.faults);
}

/// nghttpd with a folder of files, in clear text.
struct Nghttpd {
    child: Child,
    address: SocketAddr,
}

impl Nghttpd {
    fn start(folder: &std::path::Path) -> Self {
        // It takes no port 0: one that was free a moment ago.
        let address = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        let child = Command::new("nghttpd")
            .args(["--no-tls", "-a", "127.0.0.1", "-d"])
            .arg(folder)
            .arg(address.port().to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nghttpd is needed, `cargo xtask tools` installs it");
        #[allow(clippy::disallowed_methods, reason = "a test has nothing to do but wait")]
        let accepts = || TcpStream::connect(address).is_ok();
        eventually("nghttpd accepts", accepts);
        Self { child, address }
    }
}

impl Drop for Nghttpd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn nghttpd_serves_over_http2_what_clients_ask_for_in_http1_and_http2() {
    let folder = tempfile::tempdir().unwrap();
    let large: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_be_bytes).take(2_000_000).collect();
    std::fs::write(folder.path().join("large"), &large).unwrap();
    std::fs::write(folder.path().join("small"), "small").unwrap();
    let nghttpd = Nghttpd::start(folder.path());
    let policy = "{connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}";
    let process = in_front_of(nghttpd.address, Some(policy));
    let mut client = process.connect();
    let answer = client.get("x", "/small");
    assert_eq!((answer.status, answer.text().as_str()), (200, "small"));
    let answer = client.get("x", "/large");
    assert!(answer.status == 200 && answer.body == large, "{} bytes", answer.body.len());
    assert_eq!(client.get("x", "/missing").status, 404);
    let url = format!("http://{}/large", process.gateway());
    let said = run("h2load", &["-n", "100", "-c", "2", "-m", "10", &url]);
    assert!(said.contains("100 succeeded, 0 failed, 0 errored"), "{said}");
}

/// Runs slowhttptest with some hundred connections; the service must stay available to its probe.
#[track_caller]
fn slow(kind: &[&str]) {
    let origin = Origin::sends_pattern(300_000);
    let process = in_front_of(origin.address(), None);
    let url = format!("http://{}/slow", process.gateway());
    let common = ["-c", "400", "-r", "400", "-l", "4", "-p", "3", "-u", &url];
    let said = run("slowhttptest", &[kind, &common].concat());
    assert!(said.contains("service available:") && said.contains("YES"), "{said}");
    assert!(!said.contains("NO"), "{said}");
    assert_eq!(process.get("x", "/after").status, 200);
}

#[test]
fn slowhttptest_with_slow_heads_leaves_the_service_available() {
    slow(&["-H", "-i", "1", "-t", "GET"]);
}

#[test]
fn slowhttptest_with_slow_bodies_leaves_the_service_available() {
    slow(&["-B", "-i", "1", "-s", "8192", "-t", "POST"]);
}

#[test]
fn slowhttptest_with_slow_readers_leaves_the_service_available() {
    slow(&["-X", "-n", "1", "-w", "10", "-y", "20", "-z", "5", "-k", "1"]);
}

#[test]
fn slowhttptest_with_many_ranges_leaves_the_service_available() {
    slow(&["-R", "-a", "10", "-b", "3000", "-t", "HEAD"]);
}
