//! etcd as a process: members of a cluster on free ports, stopped, killed and started again, ended with the test.
//!
//! etcd cannot be told to choose a port, so one is looked for below those that the system gives to connections; whoever takes
//! it in between makes the start fail, and another is tried.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{RawClient, eventually, holds_within};

/// Ports that are tried. Systems give ports from 32,768 on to connections.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
/// Starts that are tried when others take the ports.
const MOST_STARTS: usize = 5;

/// A member of a cluster; killed when dropped.
pub struct Etcd {
    child: Child,
    arguments: Vec<String>,
    client: SocketAddr,
    /// Whether clients speak TLS with it.
    tls: bool,
    directory: TempDir,
}

impl Etcd {
    /// A cluster of one.
    ///
    /// # Panics
    /// It does not start; `cargo xtask tools` installs it.
    #[track_caller]
    pub fn start() -> Self {
        Self::cluster(1).remove(0)
    }

    /// A cluster of one that speaks TLS, with this certificate and key, and only with clients that `authority` signed.
    ///
    /// # Panics
    /// It does not start.
    #[track_caller]
    pub fn start_tls(certificate: &Path, key: &Path, authority: &Path) -> Self {
        let text = |path: &Path| path.display().to_string();
        let tls = [
            format!("--cert-file={}", text(certificate)),
            format!("--key-file={}", text(key)),
            format!("--trusted-ca-file={}", text(authority)),
            "--client-cert-auth".to_owned(),
        ];
        Self::start_all(1, true, &tls).remove(0)
    }

    /// A cluster of one with these further flags.
    ///
    /// # Panics
    /// It does not start.
    #[track_caller]
    pub fn start_with(flags: &[&str]) -> Self {
        let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
        Self::start_all(1, false, &flags).remove(0)
    }

    /// A cluster of this many members that serves.
    ///
    /// # Panics
    /// It does not start.
    #[track_caller]
    pub fn cluster(members: usize) -> Vec<Self> {
        Self::start_all(members, false, &[])
    }

    #[track_caller]
    fn start_all(members: usize, tls: bool, more: &[String]) -> Vec<Self> {
        for _ in 0..MOST_STARTS {
            let ports = free_ports(2 * members);
            let (clients, peers) = ports.split_at(members);
            let url = |port: &u16| format!("http://127.0.0.1:{port}");
            let cluster: Vec<String> =
                peers.iter().enumerate().map(|(number, port)| format!("m{number}={}", url(port))).collect();
            let mut started: Vec<Self> = (0..members)
                .map(|number| {
                    Self::member(number, clients[number], &url(&peers[number]), (&cluster.join(","), tls), more)
                })
                .collect();
            let mut ended = false;
            let serves = holds_within(crate::PATIENCE, || {
                ended = started.iter_mut().any(|member| member.child.try_wait().is_ok_and(|code| code.is_some()));
                ended || started.iter().all(Self::serves)
            });
            if !ended {
                let log = || started.iter().map(Self::log).collect::<String>();
                assert!(serves, "etcd does not serve:\n{}", log());
                return started;
            }
        }
        panic!("etcd does not start");
    }

    fn member(number: usize, port: u16, peer: &str, (cluster, tls): (&str, bool), more: &[String]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let client = format!("http{}://127.0.0.1:{port}", if tls { "s" } else { "" });
        let mut arguments = vec![
            format!("--name=m{number}"),
            format!("--data-dir={}", directory.path().join("data").display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster={cluster}"),
        ];
        arguments.extend_from_slice(more);
        let child = spawn(&arguments, directory.path());
        Self { child, arguments, client: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), tls, directory }
    }

    /// Where clients find it.
    pub fn address(&self) -> SocketAddr {
        self.client
    }

    /// Whether it answers and has a leader; one that speaks TLS is only asked whether it listens.
    fn serves(&self) -> bool {
        let Ok(mut client) = RawClient::try_connect(self.client) else { return false };
        if self.tls {
            return true;
        }
        client.set_patience(Duration::from_secs(2));
        client.try_request("GET", "localhost", "/health", &[], b"").is_ok_and(|answer| answer.text().contains("true"))
    }

    /// What it wrote.
    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// The process is gone.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process is there");
    }

    /// Kills it; what it has on disk stays.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on the same ports with what it has on disk; waits until it serves.
    ///
    /// # Panics
    /// It does not serve in time.
    #[track_caller]
    pub fn restart(&mut self) {
        self.child = spawn(&self.arguments, self.directory.path());
        eventually("etcd serves again", || {
            if self.child.try_wait().is_ok_and(|code| code.is_some()) {
                self.child = spawn(&self.arguments, self.directory.path());
            }
            self.serves()
        });
    }

    /// A call of etcd's JSON gateway.
    ///
    /// # Panics
    /// It does not answer 200.
    #[track_caller]
    pub fn call(&self, path: &str, body: &Value) -> Value {
        let mut client = RawClient::connect(self.client);
        let answer = client.request("POST", "localhost", path, &[], body.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// Forgets all history: a watch that is behind is told so.
    #[track_caller]
    pub fn compact(&self) {
        let range = self.call("/v3/kv/range", &json!({ "key": "AA==" }));
        let revision = range["header"]["revision"].as_str().expect("a revision").to_owned();
        self.call("/v3/kv/compaction", &json!({ "revision": revision, "physical": true }));
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("log of etcd:\n{}", self.log());
        }
    }
}

fn spawn(arguments: &[String], directory: &Path) -> Child {
    let log = File::options().create(true).append(true).open(directory.join("log")).expect("a log");
    let mut command = Command::new("etcd");
    if cfg!(target_arch = "aarch64") {
        // It wants to be asked for by name there.
        command.env("ETCD_UNSUPPORTED_ARCH", "arm64");
    }
    command.args(arguments).arg("--log-level=warn").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().expect("etcd starts; `cargo xtask tools` installs it")
}

/// Ports that nobody listens on at this moment.
fn free_ports(count: usize) -> Vec<u16> {
    let mut held: Vec<TcpListener> = Vec::with_capacity(count);
    while held.len() < count {
        let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), held.len());
        let port = PORTS.start + (random % u64::from(PORTS.end - PORTS.start)) as u16;
        held.extend(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
    }
    held.iter().map(|listener| listener.local_addr().expect("it is bound").port()).collect()
}
