//! One scenario at a time: start every proxy, measure them in turn, check the counts, end them.
//!
//! Rounds are interleaved (A B C D, A B C D, ...), so that what the machine does beside falls on all of them. It does not
//! know how a proxy is configured (`peer.rs`) and writes no text but progress (`report.rs` does).

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::certificate::Certificate;
use super::child::{self, Child, Output};
use super::counters::{self, Counters, Perf};
use super::counts::{Counts, count_lines, empty, metric_sum, settled};
use super::figures::{Figures, IdleFigures, LoadFigures, Sample};
use super::measure::{self, Memory};
use super::peer::{Peer, Programs, Wiring};
use super::scenario::{AUTHORITY, Scenario};
use super::{backend, http, peer, target};
use crate::tree;

/// Load before each window, so that pools, caches and branch predictors are as in long service.
const WARM_UP: Duration = Duration::from_millis(300);
/// A proxy that is slow, on a machine that is busy, may have no answer in a short window; then it gets another one.
const WINDOWS: u32 = 3;
/// Load of the window in which system calls are counted.
const COUNTED: Duration = Duration::from_millis(500);
/// Connections that make a proxy's pools and allocator ready before idle ones are counted.
const WARM_UP_CONNECTIONS: usize = 64;
/// A proxy that has not answered by then is broken.
const START_PATIENCE: Duration = Duration::from_secs(15);
/// How long one question whether a proxy is up may take.
const PROBE_PATIENCE: Duration = Duration::from_secs(12);

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Rounds of each scenario with a target for CPU time.
    pub(crate) rounds: u32,
    /// Length of each window.
    pub(crate) window: Duration,
}

impl Plan {
    /// Rounds of a scenario: those without a target get a third.
    pub(crate) fn rounds_of(self, scenario: Scenario) -> u32 {
        if target::is_judged(scenario) { self.rounds } else { self.rounds.div_ceil(3) }
    }
}

/// Origin, programs and cores: everything that outlives a scenario.
pub(crate) struct Session {
    programs: Programs,
    perf: Option<Perf>,
    plan: Plan,
    folder: PathBuf,
    load_core: usize,
    proxy_core: usize,
    certificate: Certificate,
    origin: SocketAddr,
    _origin_process: Child,
}

struct Running {
    peer: Peer,
    child: Child,
    processes: Vec<u32>,
    folder: PathBuf,
    listen: SocketAddr,
    admin: SocketAddr,
    access_log: Option<PathBuf>,
    counts: Counts,
    samples: Vec<Sample>,
    metrics_before: u64,
}

impl Session {
    /// Starts the origin, and finds out what can be counted.
    ///
    /// # Errors
    /// When there are not two cores, or the origin does not start.
    pub(crate) fn begin(programs: Programs, plan: Plan, folder: &Path) -> Result<Session> {
        let (load_core, proxy_core) = child::two_cores()?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let certificate = Certificate::make(folder, AUTHORITY)?;
        let mut process = Child::spawn("origin", &own_words(&["bench-backend"])?, Some(load_core), &Output::Pipe)?;
        let line = first_line(&mut process)?;
        let origin = line.trim().parse().with_context(|| format!("the origin printed no address but {line:?}"))?;
        let folder = folder.to_path_buf();
        let perf = Perf::prepare();
        Ok(Session {
            programs,
            perf,
            plan,
            folder,
            load_core,
            proxy_core,
            certificate,
            origin,
            _origin_process: process,
        })
    }

    /// Measures one scenario with those of `peers` that can take part in it.
    ///
    /// # Errors
    /// When a proxy does not start or dies, or the load cannot run.
    pub(crate) fn measure(&self, scenario: Scenario, peers: &[Peer]) -> Result<Figures> {
        let able: Vec<Peer> = peers.iter().copied().filter(|peer| peer.speaks(scenario.wire())).collect();
        match scenario {
            Scenario::Idle | Scenario::IdleTls | Scenario::StalledHttp2 => {
                self.idle(scenario, &able).map(Figures::Idle)
            }
            Scenario::Start if able.contains(&Peer::Ours) => {
                self.start_memory().map(|memory| Figures::Start(Some(memory)))
            }
            Scenario::Start => Ok(Figures::Start(None)),
            _ => self.load(scenario, &able).map(Figures::Load),
        }
    }

    fn load(&self, scenario: Scenario, peers: &[Peer]) -> Result<Vec<LoadFigures>> {
        let mut running = peers.iter().map(|&peer| self.start(peer, scenario)).collect::<Result<Vec<_>>>()?;
        for round in 1..=self.plan.rounds_of(scenario) {
            let mut progress = format!("  round {round}:");
            for proxy in &mut running {
                self.one_window(scenario, proxy)
                    .with_context(|| format!("{} in {}", proxy.peer.name(), scenario.name()))?;
                if let Some(sample) = proxy.samples.last() {
                    progress.push_str(&format!("  {} {:.1} µs", proxy.peer.name(), sample.cpu_us));
                }
            }
            println!("{progress}");
        }
        running.into_iter().map(|proxy| self.finish(scenario, proxy)).collect()
    }

    fn start(&self, peer: Peer, scenario: Scenario) -> Result<Running> {
        let folder = self.fresh_folder(scenario, peer)?;
        let access_log = scenario.logs().then(|| folder.join("access.log"));
        let (listen, admin, spare) = (http::free_address()?, http::free_address()?, http::free_address()?);
        let wiring = Wiring {
            listen,
            admin,
            spare,
            origin: self.origin,
            folder: &folder,
            hosts: scenario.hosts(),
            access_log: access_log.as_deref(),
            wire: scenario.wire(),
            certificate: scenario.wire().tls.then_some(&self.certificate),
        };
        let launch = peer.launch(&self.programs, &wiring)?;
        let mut child = Child::spawn(peer.name(), &launch.words, Some(self.proxy_core), &launch.output)?;
        self.wait_for_answer(scenario, listen, &folder, &mut child)
            .with_context(|| format!("{} did not come up; see {}", peer.name(), folder.display()))?;
        let processes = measure::tree_of(child.id())?;
        let mut running = Running {
            peer,
            child,
            processes,
            folder,
            listen,
            admin,
            access_log,
            counts: Counts::default(),
            samples: Vec::new(),
            metrics_before: 0,
        };
        if counts_requests(peer, scenario) {
            // The question whether it is up was a request, too: wait for its record, then count from there.
            running.metrics_before = settled(1, || metric_sum(admin))?;
            if let Some(log) = &running.access_log {
                settled(1, || count_lines(log))?;
                empty(log)?;
            }
        }
        Ok(running)
    }

    /// Asks for an answer in the way of the scenario's clients until there is one.
    fn wait_for_answer(&self, scenario: Scenario, at: SocketAddr, folder: &Path, proxy: &mut Child) -> Result<()> {
        let mut words = self.load_words(scenario, at, 1)?;
        words.push("--probe".to_owned());
        let output = Output::Log(folder.join("probe.log"));
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            still_alive(proxy)?;
            let mut probe = Child::spawn("the probe", &words, Some(self.load_core), &output)?;
            match probe.wait_until(Instant::now() + PROBE_PATIENCE) {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn fresh_folder(&self, scenario: Scenario, peer: Peer) -> Result<PathBuf> {
        let folder = self.folder.join("work").join(format!("{}-{}", scenario.name(), peer.name()));
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    fn load_words(&self, scenario: Scenario, target: SocketAddr, connections: usize) -> Result<Vec<String>> {
        let (path, body) = scenario.request();
        let (target, body, connections) = (target.to_string(), body.to_string(), connections.to_string());
        let hosts = scenario.authorities().join(",");
        let words = ["bench-load", "--target", &target, "--hosts", &hosts, "--path", path, "--body", &body];
        let mut words = own_words(&[&words[..], &["--connections", &connections]].concat())?;
        let wire = scenario.wire();
        if wire.tls {
            words.extend(["--trust".to_owned(), self.certificate.chain.to_string_lossy().into_owned()]);
        }
        if let Some(streams) = scenario.streams() {
            words.extend(["--streams".to_owned(), streams.to_string()]);
        }
        words.extend(scenario.closes().then(|| "--close".to_owned()));
        words.extend(scenario.resumes().then(|| "--resume".to_owned()));
        Ok(words)
    }

    fn one_window(&self, scenario: Scenario, proxy: &mut Running) -> Result<()> {
        for _ in 0..WINDOWS {
            let line = self.counted_load(scenario, proxy, |words| (words, self.plan.window))?;
            let number = |key: &str| line[key].as_f64().with_context(|| format!("the load printed no {key}"));
            let (requests, nanos, cpu) = (number("window_requests")?, number("window_nanos")?, number("cpu_nanos")?);
            if requests > 0.0 {
                proxy.samples.push(Sample {
                    cpu_us: cpu / requests / 1e3,
                    rate: requests / (nanos / 1e9),
                    busy: cpu / nanos,
                    p50_us: number("p50_us")?,
                    p99_us: number("p99_us")?,
                });
                return Ok(());
            }
        }
        bail!("not one request was answered in {WINDOWS} windows: {}", proxy.counts.failures)
    }

    /// A short load in which the kernel counts what the proxy does.
    fn counters(&self, scenario: Scenario, proxy: &mut Running) -> Result<Counters> {
        let Some(perf) = &self.perf else { return Ok(Counters::default()) };
        let into = proxy.folder.join("perf.csv");
        let processes = proxy.processes.clone();
        let line = self.counted_load(scenario, proxy, |words| (perf.around(&words, &processes, &into), COUNTED))?;
        let answered = line["answered"].as_f64().unwrap_or(0.0);
        counters::read(&into, answered.max(1.0))
    }

    /// Runs load and adds to the proxy's counts what everybody counted; gives what the load printed.
    fn counted_load(
        &self,
        scenario: Scenario,
        proxy: &mut Running,
        wrap: impl FnOnce(Vec<String>) -> (Vec<String>, Duration),
    ) -> Result<Value> {
        still_alive(&mut proxy.child)?;
        let origin_before = self.origin_count()?;
        let (words, window) = wrap(self.load_words(scenario, proxy.listen, scenario.connections())?);
        let line = self.run_load(words, proxy, window)?;
        let whole = |key: &str| line[key].as_u64().with_context(|| format!("the load printed no {key}"));
        proxy.counts.clients += whole("answered")?;
        proxy.counts.failed += whole("failed")?;
        proxy.counts.closed_idle += whole("closed_idle")?;
        proxy.counts.handshakes += whole("handshakes")?;
        proxy.counts.resumed += whole("resumed")?;
        proxy.counts.origin += self.origin_count()? - origin_before;
        if let Some(kinds) = line["failures"].as_str().filter(|kinds| !kinds.is_empty()) {
            proxy.counts.failures = kinds.to_owned();
        }
        if let Some(log) = &proxy.access_log {
            if proxy.peer == Peer::Ours {
                let lines = proxy.counts.log_lines.unwrap_or(0);
                let expected = proxy.counts.clients - lines;
                proxy.counts.log_lines = Some(lines + settled(expected, || count_lines(log))?);
            }
            empty(log)?;
        }
        Ok(line)
    }

    fn run_load(&self, mut words: Vec<String>, proxy: &Running, window: Duration) -> Result<Value> {
        let processes: Vec<String> = proxy.processes.iter().map(u32::to_string).collect();
        words.extend(["--processes".to_owned(), processes.join(",")]);
        words.extend(["--window".to_owned(), window.as_millis().to_string()]);
        words.extend(["--warm-up".to_owned(), WARM_UP.as_millis().to_string()]);
        let mut load = Child::spawn("load", &words, Some(self.load_core), &Output::Pipe)?;
        let line = first_line(&mut load)?;
        load.wait_until(Instant::now() + Duration::from_secs(5))?;
        serde_json::from_str(&line).with_context(|| format!("the load printed {line:?}"))
    }

    fn origin_count(&self) -> Result<u64> {
        let (_, body) = http::get(self.origin, "origin", backend::COUNT_PATH)?;
        body.trim().parse().context("the origin gave no count")
    }

    fn finish(&self, scenario: Scenario, mut proxy: Running) -> Result<LoadFigures> {
        still_alive(&mut proxy.child)?;
        let memory = measure::memory(&proxy.processes)?;
        let counters = self.counters(scenario, &mut proxy)?;
        if counts_requests(proxy.peer, scenario) {
            let expected = proxy.metrics_before + proxy.counts.clients;
            let counted = settled(expected, || metric_sum(proxy.admin))?;
            proxy.counts.metrics = Some(counted.saturating_sub(proxy.metrics_before));
        }
        Ok(LoadFigures { peer: proxy.peer, samples: proxy.samples, memory, counts: proxy.counts, counters })
    }

    fn idle(&self, scenario: Scenario, peers: &[Peer]) -> Result<Vec<IdleFigures>> {
        let mut all = Vec::new();
        for &peer in peers {
            let proxy = self.start(peer, scenario)?;
            // The allocator and the pools take what ordinary traffic needs first; only the growth belongs to idle connections.
            let connections = if scenario.streams().is_some() { 1 } else { WARM_UP_CONNECTIONS };
            self.run_load(self.load_words(scenario, proxy.listen, connections)?, &proxy, WARM_UP)?;
            std::thread::sleep(scenario.settles());
            let before = measure::memory(&proxy.processes)?;
            let mut words = self.load_words(scenario, proxy.listen, scenario.connections())?;
            words.push("--hold".to_owned());
            let mut clients = Child::spawn("idle clients", &words, Some(self.load_core), &Output::Pipe)?;
            let line: Value = serde_json::from_str(&first_line(&mut clients)?).context("the idle clients failed")?;
            std::thread::sleep(scenario.settles());
            let with = measure::memory(&proxy.processes)?;
            let held = line["held"].as_u64().unwrap_or(0);
            if held < (scenario.connections() * scenario.streams().unwrap_or(1)) as u64 {
                eprintln!("warning: {} held {held} only ({line})", peer.name());
            }
            let figures = IdleFigures { peer, held, before, with };
            println!("  {} {:.2} KiB each", peer.name(), figures.kib_each());
            all.push(figures);
        }
        Ok(all)
    }

    /// `run` as a person would start it: the sample configuration, two services, default workers, no pinning.
    fn start_memory(&self) -> Result<Memory> {
        let folder = self.fresh_folder(Scenario::Start, Peer::Ours)?;
        let (listen, admin, mesh) = (http::free_address()?, http::free_address()?, http::free_address()?);
        let sample = tree::root().join("crates/config/tests/data/gateway.yaml");
        let map = format!("80={}", listen.port());
        let (admin, mesh) = (admin.to_string(), mesh.to_string());
        let services = ["user-service", "post-service"].map(|name| format!("{name}={}", self.origin));
        let mut words = vec![self.programs.ours.to_string_lossy().into_owned(), "run".to_owned(), "-f".to_owned()];
        words.push(sample.to_string_lossy().into_owned());
        let options = ["--map-port", &map, "--bind", "127.0.0.1", "--admin", &admin, "--mesh", &mesh];
        words.extend(options.map(str::to_owned));
        words.extend(services.into_iter().flat_map(|service| ["--service".to_owned(), service]));
        let mut child = Child::spawn("meshwright", &words, None, &Output::Log(folder.join("meshwright.log")))?;
        for path in ["/users/7", "/posts/1"] {
            http::wait_for_ok(listen, "api.example.com", path, START_PATIENCE, || still_alive(&mut child))
                .with_context(|| format!("`run` did not come up; see {}", folder.display()))?;
        }
        std::thread::sleep(Duration::from_secs(1));
        let memory = measure::memory(&[child.id()])?;
        println!("  {:.1} MiB resident", memory.rss_kib as f64 / 1024.0);
        Ok(memory)
    }
}

/// Whether this proxy counts the scenario's requests in a way that is read here.
fn counts_requests(peer: Peer, scenario: Scenario) -> bool {
    peer == Peer::Ours && !scenario.wire().bytes
}

fn own_words(arguments: &[&str]) -> Result<Vec<String>> {
    let own = std::env::current_exe().context("cannot find the own program file")?;
    Ok(peer::words(&own, arguments))
}

fn first_line(child: &mut Child) -> Result<String> {
    let pipe = child.take_stdout().context("the child has no pipe")?;
    let mut line = String::new();
    BufReader::new(pipe).read_line(&mut line).context("cannot read from the child")?;
    if line.is_empty() {
        bail!("the child ended without a word");
    }
    Ok(line)
}

fn still_alive(child: &mut Child) -> Result<()> {
    match child.ended()? {
        None => Ok(()),
        Some(status) => bail!("it ended by itself with {status}"),
    }
}
