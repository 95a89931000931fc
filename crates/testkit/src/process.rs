//! The binary as a process: started on free ports, read, signalled, measured, and ended with the test.

use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::{PATIENCE, RawClient, Response, Scrape, TextRecord, eventually};

/// A command line that is being put together.
pub struct Launch {
    command: Command,
    input: Stdio,
}

impl Launch {
    /// `run`, with every port chosen by the system: gateways for port 80, mesh listener and admin API on 127.0.0.1.
    pub fn run(binary: &str) -> Self {
        Self::run_at(binary, 0)
    }

    /// `run` with gateways for port 80 on this port of 127.0.0.1, everything else chosen by the system.
    pub fn run_at(binary: &str, port: u16) -> Self {
        let map = format!("80={port}");
        let ports = ["--bind", "127.0.0.1", "--map-port", &map, "--mesh", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        Self::command(binary).args(&["run"]).args(&ports)
    }

    /// `proxy` to these addresses, with every port chosen by the system.
    pub fn proxy(binary: &str, to: &[SocketAddr]) -> Self {
        let to: Vec<String> = to.iter().map(ToString::to_string).collect();
        Self::command(binary).args(&["proxy", "--from", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--to", &to.join(",")])
    }

    /// `run` with at most so many open files, without a mesh listener, by one worker.
    pub fn with_descriptors(binary: &str, most: u32) -> Self {
        let ports = ["--bind", "127.0.0.1", "--map-port", "80=0", "--mesh", "off", "--admin", "127.0.0.1:0"];
        let script = format!("ulimit -n {most}; exec \"$@\"");
        let run = Self::command(binary).args(&["run"]).args(&ports).args(&["--workers", "1", "--no-watch"]);
        run.under("/bin/sh", &["-c", &script, "sh"])
    }

    /// The binary without any argument and without settings of the surrounding environment.
    pub fn command(binary: &str) -> Self {
        let mut command = Command::new(binary);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("MESHWRIGHT_")) {
                command.env_remove(name);
            }
        }
        // What a test registers is nobody else's business, and no other test's.
        command.env("NO_COLOR", "1").env("MESHWRIGHT_DATA", "none");
        Self { command, input: Stdio::null() }
    }

    /// Starts it by another program, `strace` for example, with these options before the command line so far.
    pub fn under(mut self, program: &str, options: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(options).arg(self.command.get_program()).args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        self.command = command;
        self
    }

    /// Sets an environment variable.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Gives it a file as standard input; without this it has none.
    pub fn input(mut self, file: std::fs::File) -> Self {
        self.input = Stdio::from(file);
        self
    }

    /// Adds arguments.
    pub fn args(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    /// Adds a configuration file or directory.
    pub fn file(mut self, path: &Path) -> Self {
        self.command.arg("-f").arg(path);
        self
    }

    /// Adds a service with endpoints: an address each, perhaps with weight and labels behind semicolons.
    pub fn service(self, name: &str, endpoints: &[&str]) -> Self {
        let flag = format!("{name}={}", endpoints.join(","));
        self.args(&["--service", &flag])
    }

    /// Adds a service with one endpoint.
    pub fn service_at(self, name: &str, address: SocketAddr) -> Self {
        self.service(name, &[&address.to_string()])
    }

    /// Starts it and waits until it serves.
    ///
    /// # Panics
    /// It ends, or says nothing in time; the message has what it wrote.
    #[track_caller]
    pub fn start(mut self) -> Meshwright {
        self.command.stdin(self.input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().expect("the binary starts");
        let stdout = Lines::of(child.stdout.take().expect("standard output is piped"));
        let stderr = Lines::of(child.stderr.take().expect("standard error is piped"));
        let mut process =
            Meshwright { child, stdout, stderr, listeners: Vec::new(), admin: None, consul: None, dns: None };
        let end = Instant::now() + PATIENCE;
        while !process.stderr.lines().iter().any(|line| line == "ready") {
            let ended = process.child.try_wait().expect("the state of the process");
            if ended.is_some() || Instant::now() > end {
                process.stderr.finish(Duration::from_secs(1));
                panic!("it does not serve ({ended:?}):\n{}", process.stderr.lines().join("\n"));
            }
            thread::sleep(Duration::from_millis(2));
        }
        process.read_addresses();
        process
    }

    /// Runs it to its end: exit code, standard output, standard error.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn output(mut self) -> (i32, String, String) {
        let output = self.command.stdin(self.input).output().expect("the binary starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }
}

/// Lines that a process has written so far.
struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Lines {
    fn of(source: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let into = lines.clone();
        let reader = thread::spawn(move || {
            for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
                into.lock().unwrap_or_else(PoisonError::into_inner).push(String::from_utf8_lossy(&line).into_owned());
            }
        });
        Self { lines, reader: Some(reader) }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the end of the stream, so that nothing written is missing.
    fn finish(&mut self, most: Duration) {
        let Some(reader) = self.reader.take() else { return };
        if crate::holds_within(most, || reader.is_finished()) {
            let _ = reader.join();
        }
    }
}

/// A running process; killed when dropped.
pub struct Meshwright {
    child: Child,
    stdout: Lines,
    stderr: Lines,
    /// Name, kind, address.
    listeners: Vec<(String, String, SocketAddr)>,
    admin: Option<SocketAddr>,
    consul: Option<SocketAddr>,
    dns: Option<SocketAddr>,
}

impl Meshwright {
    fn read_addresses(&mut self) {
        for line in self.stderr.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["listening", name, kind, url] => {
                    self.listeners.push(((*name).to_owned(), (*kind).to_owned(), address(url)));
                }
                ["admin", url] => self.admin = Some(address(url)),
                ["consul", url] => self.consul = Some(address(url)),
                ["dns", socket] => self.dns = socket.parse().ok(),
                _ => {}
            }
        }
    }

    /// The address of the first gateway listener.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    pub fn gateway(&self) -> SocketAddr {
        self.of_kind("gateway")
    }

    /// The address of the mesh listener.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    pub fn mesh(&self) -> SocketAddr {
        self.of_kind("mesh")
    }

    fn of_kind(&self, wanted: &str) -> SocketAddr {
        let found = self.listeners.iter().find(|(_, kind, _)| kind == wanted);
        found.unwrap_or_else(|| panic!("no {wanted} among {:?}", self.listeners)).2
    }

    /// The address of the gateway listener for a configured port as it is now; `None` when there is none.
    pub fn listener(&self, port: u16) -> Option<SocketAddr> {
        let listeners = self.admin_get("/listeners?format=json").json();
        let found =
            listeners["listeners"].as_array()?.iter().find(|one| one["kind"] == "gateway" && one["port"] == port)?;
        found["address"].as_str()?.parse().ok()
    }

    /// The address of the admin API.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    pub fn admin(&self) -> SocketAddr {
        self.admin.expect("there is an admin API")
    }

    /// The address of the API for Consul's clients.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    pub fn consul(&self) -> SocketAddr {
        self.consul.expect("there is a listener for Consul's clients")
    }

    /// The address of the DNS server.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    pub fn dns(&self) -> SocketAddr {
        self.dns.expect("there is a DNS server")
    }

    /// A page of the admin API.
    #[track_caller]
    pub fn admin_get(&self, target: &str) -> Response {
        RawClient::connect(self.admin()).get("localhost", target)
    }

    /// A POST to the admin API.
    #[track_caller]
    pub fn admin_post(&self, target: &str) -> Response {
        RawClient::connect(self.admin()).request("POST", "localhost", target, &[], b"")
    }

    /// All metrics now.
    #[track_caller]
    pub fn metrics(&self) -> Scrape {
        let page = self.admin_get("/metrics");
        assert_eq!(page.status, 200, "{}", page.text());
        Scrape::parse(&page.text())
    }

    /// Waits until the sum of a metric is `expected`: counters are written when a request has ended, which may be a moment
    /// after its answer was read.
    #[track_caller]
    pub fn metric_becomes(&self, name: &str, labels: &[(&str, &str)], expected: f64) {
        let mut last = f64::NAN;
        let reached = crate::holds_within(Duration::from_secs(5), || {
            last = self.metrics().sum(name, labels);
            last == expected
        });
        assert!(reached, "{name}{labels:?} is {last}, not {expected}");
    }

    /// A new connection to the first gateway listener.
    #[track_caller]
    pub fn connect(&self) -> RawClient {
        RawClient::connect(self.gateway())
    }

    /// A GET on a new connection to the first gateway listener.
    #[track_caller]
    pub fn get(&self, host: &str, target: &str) -> Response {
        self.connect().get(host, target)
    }

    /// A GET on a new connection to the mesh listener.
    #[track_caller]
    pub fn mesh_get(&self, host: &str, target: &str) -> Response {
        RawClient::connect(self.mesh()).get(host, target)
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// The process is gone.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process is there");
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end; the exit code, -1 when a signal ended it.
    ///
    /// # Panics
    /// It does not end in time.
    #[track_caller]
    pub fn wait_exit(&mut self) -> i32 {
        let mut code = None;
        eventually("the process ends", || {
            code = self.child.try_wait().expect("the state of the process");
            code.is_some()
        });
        self.stdout.finish(PATIENCE);
        self.stderr.finish(PATIENCE);
        code.and_then(|status| status.code()).unwrap_or(-1)
    }

    /// What it wrote to standard error.
    pub fn stderr(&self) -> String {
        self.stderr.lines().join("\n")
    }

    /// Lines that it wrote to standard output: the access log.
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.lines()
    }

    /// The one record of the text access log that `wanted` selects; waits for it.
    ///
    /// # Panics
    /// It does not come, or there are several.
    #[track_caller]
    pub fn record(&self, wanted: impl Fn(&TextRecord) -> bool) -> TextRecord {
        let mut found: Vec<TextRecord> = Vec::new();
        let came = crate::holds_within(Duration::from_secs(5), || {
            found = self.records().into_iter().filter(&wanted).collect();
            !found.is_empty()
        });
        assert!(came, "no such line in\n{}", self.stdout().join("\n"));
        assert_eq!(found.len(), 1, "several such lines: {found:?}");
        found.remove(0)
    }

    /// The record of the request for this target; waits for it.
    #[track_caller]
    pub fn record_of(&self, target: &str) -> TextRecord {
        self.record(|record| record.request().split(' ').nth(1) == Some(target))
    }

    /// All records of the text access log so far.
    pub fn records(&self) -> Vec<TextRecord> {
        self.stdout().iter().map(|line| TextRecord::parse(line)).collect()
    }

    /// Resident memory.
    ///
    /// # Panics
    /// The process is gone.
    pub fn rss_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("the process is there");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line VmRSS");
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kilobytes * 1024
    }

    /// Processor time that it has used so far, in the kernel and outside. Ticks of 10 ms.
    ///
    /// # Panics
    /// The process is gone.
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).expect("the process is there");
        // The name, in parentheses, may have spaces; user and system time are the 12th and 13th word behind it.
        let words: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 = words[11..13].iter().map(|word| word.parse::<u64>().expect("a number")).sum();
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }

    /// Waits until the given generation of the configuration is in use.
    #[track_caller]
    pub fn generation_becomes(&self, generation: f64) {
        self.metric_becomes("meshwright_config_generation", &[], generation);
    }
}

impl Drop for Meshwright {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("standard error of the process under test:\n{}", self.stderr());
        }
    }
}

/// `http://IP:PORT`, or with another scheme, where every interface means this machine.
fn address(url: &str) -> SocketAddr {
    let text = url.split_once("://").map_or(url, |(_, address)| address);
    let mut address: SocketAddr = text.parse().unwrap_or_else(|_| panic!("not an address: {url}"));
    if address.ip().is_unspecified() {
        address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    address
}
