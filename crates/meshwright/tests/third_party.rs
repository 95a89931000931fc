//! Other people's clients and servers: curl, nginx, Python's http.client. What is missing is installed.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use meshwright_testkit::{Config, Launch, Meshwright, Origin, Pattern, binary, eventually, gateway_to};

/// apt-get can only run once at a time.
static INSTALLING: Mutex<()> = Mutex::new(());

/// Makes sure that a program is there.
fn need(program: &str, package: &str) {
    let _one_at_a_time = INSTALLING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let is_there = || {
        Command::new("sh")
            .args(["-c", &format!("command -v {program}")])
            .output()
            .is_ok_and(|output| output.status.success())
    };
    if is_there() {
        return;
    }
    let install = format!("apt-get update -qq && apt-get install -y -qq --no-install-recommends {package}");
    let output = Command::new("sh").args(["-c", &install]).env("DEBIAN_FRONTEND", "noninteractive").output().unwrap();
    assert!(is_there(), "{package} is needed and cannot be installed: {}", String::from_utf8_lossy(&output.stderr));
}

fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn in_front_of(address: SocketAddr) -> (Config, Meshwright) {
    let config = Config::new(&[&gateway_to("svc")]);
    let process = Launch::run(binary!())
        .file(config.path())
        .service_at("svc", address)
        .args(&["--no-watch", "--workers", "1"])
        .start();
    (config, process)
}

fn curl(arguments: &[&str]) -> String {
    need("curl", "curl");
    let output = run(Command::new("curl").args(["-sS", "--max-time", "20", "--noproxy", ""]).args(arguments));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn curl_gets_posts_and_reuses_its_connection() {
    let origin = Origin::echoes();
    let (_config, process) = in_front_of(origin.address());
    let url = format!("http://{}/users/7?full=1", process.gateway());
    assert_eq!(curl(&["-H", "Host: api.example.com", "-d", "a=b", &url]), "a=b");
    let received = origin.last();
    assert_eq!((received.method.as_str(), received.target.as_str()), ("POST", "/users/7?full=1"));
    assert_eq!(received.header("host"), Some("api.example.com"));
    let codes = curl(&["-o", "/dev/null", "-o", "/dev/null", "-w", "%{http_code} %{num_connects}\n", &url, &url]);
    assert_eq!(codes, "200 1\n200 0\n");
    assert_eq!(curl(&["-I", "-o", "/dev/null", "-w", "%{http_code}", &url]), "200");
    assert_eq!(
        curl(&["-0", "-o", "/dev/null", "-w", "%{http_code} %{http_version}", &url]).split(' ').next(),
        Some("200")
    );
}

#[test]
fn curl_speaks_http_2_to_a_service_that_does_not() {
    let origin = Origin::echoes();
    let (_config, process) = in_front_of(origin.address());
    let url = format!("http://{}/users/7?full=1", process.gateway());
    let body = "x".repeat(300_000);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("body");
    std::fs::write(&file, &body).unwrap();
    let upload = format!("@{}", file.display());
    let told = ["--http2-prior-knowledge", "-H", "Host: api.example.com", "-w", "%{http_version}"];
    let echoed = curl(&[&told[..], &["--data-binary", &upload, &url]].concat());
    assert!(echoed == format!("{body}2"), "{} bytes came back", echoed.len());
    let received = origin.last();
    assert_eq!((received.target.as_str(), received.header("host")), ("/users/7?full=1", Some("api.example.com")));
    assert_eq!(curl(&[&told[..], &["-o", "/dev/null", "-I", &url]].concat()), "2");
}

#[test]
fn curl_uploads_a_large_body_with_an_expectation_and_in_chunks() {
    let origin = Origin::echoes();
    let (_config, process) = in_front_of(origin.address());
    let url = format!("http://{}/up", process.gateway());
    let directory = tempfile::tempdir().unwrap();
    let (sent, got) = (directory.path().join("sent"), directory.path().join("got"));
    std::fs::write(&sent, Pattern::bytes(3 << 20)).unwrap();
    let (data, out) = (format!("@{}", sent.display()), got.display().to_string());
    for headers in
        [&["-H", "Expect: 100-continue", "--expect100-timeout", "0.2"][..], &["-H", "Transfer-Encoding: chunked"]]
    {
        let mut arguments = vec!["--data-binary", &data, "-o", &out, "-w", "%{http_code}"];
        arguments.extend(headers);
        arguments.push(&url);
        assert_eq!(curl(&arguments), "200", "{headers:?}");
        assert!(std::fs::read(&got).unwrap() == std::fs::read(&sent).unwrap(), "{headers:?}");
    }
}

#[test]
fn curl_uses_the_mesh_listener_as_its_proxy() {
    let origin = Origin::named("users");
    let config = Config::new(&[meshwright_testkit::GATEWAY]);
    let process = Launch::run(binary!()).file(config.path()).service_at("user-service", origin.address()).start();
    let proxy = format!("http://{}", process.mesh());
    assert_eq!(curl(&["-x", &proxy, "http://user-service/users/7"]), "users");
    assert_eq!(curl(&["-x", &proxy, "-o", "/dev/null", "-w", "%{http_code}", "http://example.com/"]), "502");
}

/// A running nginx.
struct Nginx {
    child: Child,
    address: SocketAddr,
    directory: tempfile::TempDir,
}

impl Nginx {
    /// Starts nginx on a free port. Another process may take the port in between; then another one is tried.
    fn start() -> Self {
        need("nginx", "nginx-light");
        for _ in 0..5 {
            let directory = tempfile::tempdir().unwrap();
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let root = directory.path().display();
            std::fs::write(directory.path().join("big"), Pattern::bytes(2 << 20)).unwrap();
            std::fs::write(
                directory.path().join("nginx.conf"),
                format!(
                    "daemon off; worker_processes 1; pid {root}/pid; error_log {root}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log {root}/access.log; keepalive_timeout 1s; keepalive_requests 7;
  client_body_temp_path {root}/body; proxy_temp_path {root}/proxy; fastcgi_temp_path {root}/fastcgi;
  uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;
  server {{
    listen {address};
    root {root};
    location = /hello {{ default_type text/plain; return 200 'hello from nginx'; }}
    location = /post {{ default_type text/plain; return 200 'posted'; }}
    location = /none {{ return 204; }}
  }}
}}
"
                ),
            )
            .unwrap();
            let mut child = Command::new("nginx")
                .args([
                    "-p",
                    &root.to_string(),
                    "-e",
                    &format!("{root}/error.log"),
                    "-c",
                    &format!("{root}/nginx.conf"),
                ])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut serves = false;
            eventually("nginx serves or ends", || {
                serves = TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok();
                serves || child.try_wait().unwrap().is_some()
            });
            if serves {
                return Self { child, address, directory };
            }
        }
        panic!("nginx does not start");
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("access.log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // A polite end lets the master end its worker too.
        let _ = Command::new("kill").args(["-QUIT", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

#[test]
fn nginx_as_a_service_closes_kept_connections_and_no_post_fails() {
    let nginx = Nginx::start();
    let (_config, process) = in_front_of(nginx.address);
    let mut client = process.connect();
    assert_eq!(client.get("x", "/hello").text(), "hello from nginx");
    for index in 0..100 {
        // Every seventh answer closes the connection.
        let answer = client.request("POST", "x", "/post", &[], b"body");
        assert_eq!((answer.status, answer.text().as_str()), (200, "posted"), "request {index}");
    }
    // nginx closes idle connections after one second.
    meshwright_testkit::pass(Duration::from_millis(1300));
    assert_eq!(client.request("POST", "x", "/post", &[], b"body").status, 200);
    let big = client.get("x", "/big");
    assert!(Pattern::default().check(&big.body) && big.body.len() == 2 << 20);
    assert_eq!(client.get("x", "/none").status, 204);
    assert_eq!(client.get("x", "/missing").status, 404);
    let head = client.request("HEAD", "x", "/big", &[], b"");
    assert_eq!(head.header("content-length"), Some((2 << 20).to_string().as_str()));
    let range = client.request("GET", "x", "/big", &[("Range", "bytes=5-14")], b"");
    assert_eq!((range.status, range.body.len()), (206, 10));
    let sent = 107;
    process.metric_becomes("istio_requests_total", &[], f64::from(sent));
    eventually("nginx has logged every request once", || nginx.log().lines().count() == sent as usize);
}

#[test]
fn pythons_client_posts_in_every_way_over_one_connection() {
    need("python3", "python3-minimal");
    let origin = Origin::echoes();
    let (_config, process) = in_front_of(origin.address());
    let script = r#"
import http.client, sys
host, port = sys.argv[1].rsplit(":", 1)
connection = http.client.HTTPConnection(host, int(port), timeout=20)
def ask(method, target, **more):
    connection.request(method, target, **more)
    answer = connection.getresponse()
    return answer.status, answer.read()
for index in range(50):
    body = b"x" * index
    assert ask("POST", "/%d" % index, body=body) == (200, body), index
assert ask("POST", "/chunks", body=iter([b"one", b"two"]), headers={"Transfer-Encoding": "chunked"}, encode_chunked=True) == (200, b"onetwo")
assert ask("HEAD", "/")[0] == 200
assert ask("DELETE", "/")[0] == 200
large = bytes(range(256)) * 8192
assert ask("PUT", "/large", body=large) == (200, large)
print("fine")
"#;
    let output = run(Command::new("python3").args(["-c", script, &process.gateway().to_string()]));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "fine");
    assert_eq!(origin.count(), 54);
    process.metric_becomes("meshwright_downstream_connections_accepted_total", &[], 1.0);
}
