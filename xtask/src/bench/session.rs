//! One scenario at a time: start every proxy, measure them in turn, check the counts, end them.
//!
//! Rounds are interleaved (A B C D, A B C D, ...), so that what the machine does beside falls on all of them. It does not
//! know how a proxy is configured (`peer.rs`) and writes no text but progress (`report.rs` does).

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::child::{self, Child, Output};
use super::http;
use super::measure::{self, Memory};
use super::peer::{Peer, Programs, Wiring};
use super::scenario::Scenario;
use super::{backend, peer};
use crate::tree;

/// Load before each window, so that pools, caches and branch predictors are as in long service.
const WARM_UP: Duration = Duration::from_millis(500);
/// A proxy that has not answered by then is broken.
const START_PATIENCE: Duration = Duration::from_secs(15);
/// Records and log lines may trail behind the last answer by at most this.
const COUNT_PATIENCE: Duration = Duration::from_secs(3);

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Rounds of each scenario.
    pub(crate) rounds: u32,
    /// Seconds of each window.
    pub(crate) seconds: u32,
}

/// One window of one proxy.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// CPU microseconds of the proxy per request.
    pub(crate) cpu_us: f64,
    /// Requests per second.
    pub(crate) rate: f64,
    /// CPU time over wall time: 1 is a core that never rests.
    pub(crate) busy: f64,
    /// Median latency in microseconds.
    pub(crate) p50_us: f64,
    /// 99th percentile of latency in microseconds.
    pub(crate) p99_us: f64,
}

/// What several parties say about the number of requests of a scenario; all of them should agree.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    /// Answers that the clients had, right in status and length.
    pub(crate) clients: u64,
    /// Requests that the origin answered.
    pub(crate) origin: u64,
    /// Sum of `istio_requests_total`; ours only.
    pub(crate) metrics: Option<u64>,
    /// Lines of the access log; ours only, and only with logs.
    pub(crate) log_lines: Option<u64>,
    /// Requests that failed, by the clients' account.
    pub(crate) failed: u64,
    /// Connections that the proxy closed between two requests.
    pub(crate) closed_idle: u64,
    /// The kinds of failure.
    pub(crate) failures: String,
}

/// One proxy in one load scenario.
#[derive(Debug, Clone)]
pub(crate) struct LoadFigures {
    /// Whose figures.
    pub(crate) peer: Peer,
    /// One per round.
    pub(crate) samples: Vec<Sample>,
    /// Resident memory after the last round.
    pub(crate) memory: Memory,
    /// The counts of all rounds.
    pub(crate) counts: Counts,
}

/// One proxy in the idle scenario.
#[derive(Debug, Clone)]
pub(crate) struct IdleFigures {
    /// Whose figures.
    pub(crate) peer: Peer,
    /// Connections held.
    pub(crate) connections: u64,
    /// Resident memory before them, after a warm-up.
    pub(crate) before: Memory,
    /// Resident memory with them.
    pub(crate) with: Memory,
}

impl IdleFigures {
    /// Growth of the resident set per connection, in KiB.
    pub(crate) fn kib_per_connection(&self) -> f64 {
        self.with.rss_kib.saturating_sub(self.before.rss_kib) as f64 / (self.connections.max(1)) as f64
    }
}

/// The outcome of a scenario.
#[derive(Debug, Clone)]
pub(crate) enum Figures {
    /// CPU per request.
    Load(Vec<LoadFigures>),
    /// Memory per idle connection.
    Idle(Vec<IdleFigures>),
    /// Memory of `run` after its first requests; none when ours is not measured.
    Start(Option<Memory>),
}

/// Origin, programs and cores: everything that outlives a scenario.
pub(crate) struct Session {
    programs: Programs,
    plan: Plan,
    folder: PathBuf,
    load_core: usize,
    proxy_core: usize,
    origin: SocketAddr,
    _origin_process: Child,
}

struct Running {
    peer: Peer,
    child: Child,
    processes: Vec<u32>,
    listen: SocketAddr,
    admin: SocketAddr,
    access_log: Option<PathBuf>,
    counts: Counts,
    samples: Vec<Sample>,
    metrics_before: u64,
}

impl Session {
    /// Starts the origin.
    ///
    /// # Errors
    /// When there are not two cores, or the origin does not start.
    pub(crate) fn begin(programs: Programs, plan: Plan, folder: &Path) -> Result<Session> {
        let (load_core, proxy_core) = child::two_cores()?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut process = Child::spawn("origin", &own_words(&["bench-backend"])?, Some(load_core), &Output::Pipe)?;
        let line = first_line(&mut process)?;
        let origin = line.trim().parse().with_context(|| format!("the origin printed no address but {line:?}"))?;
        let folder = folder.to_path_buf();
        Ok(Session { programs, plan, folder, load_core, proxy_core, origin, _origin_process: process })
    }

    /// Measures one scenario.
    ///
    /// # Errors
    /// When a proxy does not start or dies, or the load cannot run.
    pub(crate) fn measure(&self, scenario: Scenario, peers: &[Peer]) -> Result<Figures> {
        match scenario {
            Scenario::Idle => self.idle(peers).map(Figures::Idle),
            Scenario::Start if peers.contains(&Peer::Ours) => {
                self.start_memory().map(|memory| Figures::Start(Some(memory)))
            }
            Scenario::Start => Ok(Figures::Start(None)),
            _ => self.load(scenario, peers).map(Figures::Load),
        }
    }

    fn load(&self, scenario: Scenario, peers: &[Peer]) -> Result<Vec<LoadFigures>> {
        let mut running = peers.iter().map(|&peer| self.start(peer, scenario)).collect::<Result<Vec<_>>>()?;
        for round in 1..=self.plan.rounds {
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
        running.into_iter().map(|proxy| self.finish(proxy)).collect()
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
        };
        let launch = peer.launch(&self.programs, &wiring)?;
        let mut child = Child::spawn(peer.name(), &launch.words, Some(self.proxy_core), &launch.output)?;
        let authorities = scenario.authorities();
        let host = authorities.first().map_or("localhost", String::as_str);
        http::wait_for_ok(listen, host, "/small", START_PATIENCE, || still_alive(&mut child))
            .with_context(|| format!("{} did not come up; see {}", peer.name(), folder.display()))?;
        let processes = measure::tree_of(child.id())?;
        let mut running = Running {
            peer,
            child,
            processes,
            listen,
            admin,
            access_log,
            counts: Counts::default(),
            samples: Vec::new(),
            metrics_before: 0,
        };
        if peer == Peer::Ours {
            // The question whether it is up was a request, too: wait for its record, then count from there.
            running.metrics_before = settled(1, || metric_sum(admin))?;
            if let Some(log) = &running.access_log {
                settled(1, || count_lines(log))?;
                empty(log)?;
            }
        }
        Ok(running)
    }

    fn fresh_folder(&self, scenario: Scenario, peer: Peer) -> Result<PathBuf> {
        let folder = self.folder.join("work").join(format!("{}-{}", scenario.name(), peer.name()));
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    fn load_words(&self, scenario: Scenario, target: SocketAddr) -> Result<Vec<String>> {
        let (path, body) = scenario.request();
        let (target, body, connections) = (target.to_string(), body.to_string(), scenario.connections().to_string());
        let hosts = scenario.authorities().join(",");
        let words = ["bench-load", "--target", &target, "--hosts", &hosts, "--path", path, "--body", &body];
        own_words(&[&words[..], &["--connections", &connections]].concat())
    }

    fn one_window(&self, scenario: Scenario, proxy: &mut Running) -> Result<()> {
        still_alive(&mut proxy.child)?;
        let origin_before = self.origin_count()?;
        let window = Duration::from_secs(u64::from(self.plan.seconds));
        let line = self.run_load(scenario, proxy, window)?;
        let number = |key: &str| line[key].as_f64().with_context(|| format!("the load printed no {key}"));
        let (requests, nanos, cpu) = (number("window_requests")?, number("window_nanos")?, number("cpu_nanos")?);
        if requests == 0.0 {
            bail!("not one request was answered: {}", line["failures"]);
        }
        proxy.samples.push(Sample {
            cpu_us: cpu / requests / 1e3,
            rate: requests / (nanos / 1e9),
            busy: cpu / nanos,
            p50_us: number("p50_us")?,
            p99_us: number("p99_us")?,
        });
        let whole = |key: &str| line[key].as_u64().with_context(|| format!("the load printed no {key}"));
        proxy.counts.clients += whole("answered")?;
        proxy.counts.failed += whole("failed")?;
        proxy.counts.closed_idle += whole("closed_idle")?;
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
        Ok(())
    }

    fn run_load(&self, scenario: Scenario, proxy: &Running, window: Duration) -> Result<Value> {
        let mut words = self.load_words(scenario, proxy.listen)?;
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

    fn finish(&self, mut proxy: Running) -> Result<LoadFigures> {
        still_alive(&mut proxy.child)?;
        let memory = measure::memory(&proxy.processes)?;
        if proxy.peer == Peer::Ours {
            let expected = proxy.metrics_before + proxy.counts.clients;
            let counted = settled(expected, || metric_sum(proxy.admin))?;
            proxy.counts.metrics = Some(counted.saturating_sub(proxy.metrics_before));
        }
        Ok(LoadFigures { peer: proxy.peer, samples: proxy.samples, memory, counts: proxy.counts })
    }

    fn idle(&self, peers: &[Peer]) -> Result<Vec<IdleFigures>> {
        let mut all = Vec::new();
        for &peer in peers {
            let proxy = self.start(peer, Scenario::Idle)?;
            // The allocator and the pools take what ordinary traffic needs first; only the growth belongs to idle connections.
            self.run_load(Scenario::Small64, &proxy, WARM_UP)?;
            std::thread::sleep(Duration::from_secs(1));
            let before = measure::memory(&proxy.processes)?;
            let mut words = self.load_words(Scenario::Idle, proxy.listen)?;
            words.push("--hold".to_owned());
            let mut clients = Child::spawn("idle clients", &words, Some(self.load_core), &Output::Pipe)?;
            let line: Value = serde_json::from_str(&first_line(&mut clients)?).context("the idle clients failed")?;
            std::thread::sleep(Duration::from_secs(1));
            let with = measure::memory(&proxy.processes)?;
            let connections = line["held"].as_u64().unwrap_or(0);
            if connections < Scenario::Idle.connections() as u64 {
                eprintln!("warning: {} held {connections} connections only ({line})", peer.name());
            }
            let figures = IdleFigures { peer, connections, before, with };
            println!("  {} {:.2} KiB per connection", peer.name(), figures.kib_per_connection());
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

/// Asks until the answer reaches `expected` or stops to be worth waiting for; gives the last answer.
fn settled(expected: u64, mut ask: impl FnMut() -> Result<u64>) -> Result<u64> {
    let deadline = Instant::now() + COUNT_PATIENCE;
    loop {
        let answer = ask()?;
        if answer >= expected || Instant::now() > deadline {
            return Ok(answer);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn metric_sum(admin: SocketAddr) -> Result<u64> {
    let (status, text) = http::get(admin, &admin.to_string(), "/metrics")?;
    if status != 200 {
        bail!("/metrics answered {status}");
    }
    Ok(sum_of("istio_requests_total", &text))
}

/// The sum over all series of a counter in Prometheus text.
fn sum_of(name: &str, text: &str) -> u64 {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.strip_prefix('{') {
            Some(labels) => labels.rsplit_once('}')?.1,
            None => rest.strip_prefix(' ')?,
        };
        value.split_whitespace().next()?.parse::<u64>().ok()
    });
    values.sum()
}

fn count_lines(path: &Path) -> Result<u64> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let mut buffer = vec![0; 1 << 20];
    let mut lines = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(lines);
        }
        lines += buffer[..read].iter().filter(|&&byte| byte == b'\n').count() as u64;
    }
}

/// Empties a log between rounds; the proxies append, so they go on at its new end.
fn empty(path: &Path) -> Result<()> {
    match OpenOptions::new().write(true).open(path) {
        Ok(file) => file.set_len(0).with_context(|| format!("cannot empty {}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot open {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_summed_over_its_series_and_not_over_its_neighbours() {
        let text = "# TYPE istio_requests_total counter\nistio_requests_total{code=\"200\",path=\"} 9\"} 40\n\
                    istio_requests_total{code=\"503\"} 2\nistio_requests_total_more 7\nistio_requests_total 1\n";
        assert_eq!(sum_of("istio_requests_total", text), 43);
    }

    #[test]
    fn a_count_that_never_arrives_is_given_back_as_it_is() {
        assert_eq!(settled(1, || Ok(5)).unwrap(), 5);
    }
}
