//! Closed-loop clients: each sends its next request when it has the whole answer to the last one.
//!
//! A client never sends a request twice: what fails is counted by its kind, and a connection that the proxy closed between
//! two requests is counted apart. Status and length of every answer are checked. The window's CPU time is read here, in the
//! same moment as the count of answers, so that both belong to the same span. Bounded in time and in requests. It does
//! not know which proxy it talks to. Read next: `load/http1.rs`, `load/http2.rs`.

mod http1;
mod http2;
mod transport;

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tokio::task::{JoinHandle, spawn_local};

use super::histogram::Histogram;
use super::measure;
use transport::{Dialer, Handshakes, Stream, Tls};

/// A client waits this long for an answer before it counts a failure.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many connections are opened at a time while idle ones are being built up.
const OPENERS: usize = 32;

/// Arguments of the hidden `bench-load`.
#[derive(Debug, clap::Args)]
pub(crate) struct LoadArguments {
    /// The proxy's address
    #[arg(long)]
    target: SocketAddr,
    /// Number of connections
    #[arg(long)]
    connections: usize,
    /// Speak HTTP/2 with so many requests in flight on each connection; without it HTTP/1.1 with one
    #[arg(long)]
    streams: Option<usize>,
    /// Use TLS and trust this certificate
    #[arg(long)]
    trust: Option<PathBuf>,
    /// Resume the last TLS session of the same client
    #[arg(long)]
    resume: bool,
    /// A connection of its own for each request
    #[arg(long)]
    close: bool,
    /// Authorities, given to the connections in turn
    #[arg(long, value_delimiter = ',', required = true)]
    hosts: Vec<String>,
    /// Request path
    #[arg(long, default_value = "/")]
    path: String,
    /// Length every body must have, in bytes
    #[arg(long)]
    body: usize,
    /// Milliseconds of load before the window
    #[arg(long, default_value_t = 500)]
    warm_up: u64,
    /// Milliseconds of the window
    #[arg(long, default_value_t = 1000)]
    window: u64,
    /// Stop after so many requests even when time is left
    #[arg(long, default_value_t = 50_000_000)]
    most_requests: u64,
    /// Processes whose CPU time belongs to the window
    #[arg(long, value_delimiter = ',')]
    processes: Vec<u32>,
    /// Make one request on each connection, print a line, and hold all of them idle until ended; with --streams hold so many
    /// streams on each, of whose answers nothing but the heads is taken
    #[arg(long, conflicts_with = "close")]
    hold: bool,
    /// Make one request and end; it is a failure when it has no proper answer
    #[arg(long)]
    probe: bool,
}

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    Connect,
    ClosedUnanswered,
    Broken,
    TimedOut,
    Status,
    Length,
}

const FAILURES: [(Failure, &str); 6] = [
    (Failure::Connect, "connect"),
    (Failure::ClosedUnanswered, "closed without answer"),
    (Failure::Broken, "broken answer"),
    (Failure::TimedOut, "no answer in time"),
    (Failure::Status, "wrong status"),
    (Failure::Length, "wrong length"),
];

/// What the clients count together.
struct Shared {
    body: usize,
    closes: bool,
    most_requests: u64,
    stop: Cell<bool>,
    measuring: Cell<bool>,
    answered: Cell<u64>,
    closed_idle: Cell<u64>,
    failures: RefCell<Vec<Failure>>,
    failed: Cell<u64>,
    latencies: RefCell<Histogram>,
    handshakes: Rc<Handshakes>,
}

impl Shared {
    /// Whether another request is to be sent.
    fn goes_on(&self) -> bool {
        !self.stop.get() && self.answered.get() < self.most_requests
    }

    fn answered(&self, began: Instant) {
        self.answered.set(self.answered.get() + 1);
        if self.measuring.get() {
            self.latencies.borrow_mut().record(began.elapsed());
        }
    }

    fn closed_idle(&self) {
        self.closed_idle.set(self.closed_idle.get() + 1);
    }

    fn failed(&self, failure: Failure) {
        self.failed.set(self.failed.get() + 1);
        let mut kinds = self.failures.borrow_mut();
        if !kinds.contains(&failure) {
            kinds.push(failure);
        }
    }

    fn describe_failures(&self) -> String {
        let kinds = self.failures.borrow();
        let names: Vec<&str> =
            FAILURES.iter().filter(|(kind, _)| kinds.contains(kind)).map(|(_, name)| *name).collect();
        names.join(", ")
    }
}

/// The clients that are to be, and what they count.
struct Load<'a> {
    arguments: &'a LoadArguments,
    tls: Option<Tls>,
    shared: Rc<Shared>,
}

/// Runs the load and prints one line of JSON.
///
/// # Errors
/// When the runtime cannot start, no connection can be made at all, or a measured process is gone.
pub(crate) fn run(arguments: &LoadArguments) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let protocol: &[u8] = if arguments.streams.is_some() { b"h2" } else { b"http/1.1" };
    let name = arguments.hosts.first().map_or("localhost", String::as_str);
    let tls = arguments.trust.as_ref().map(|trust| Tls::new(trust, name, protocol, arguments.resume)).transpose()?;
    let shared = Rc::new(Shared {
        body: arguments.body,
        closes: arguments.close,
        most_requests: arguments.most_requests,
        stop: Cell::new(false),
        measuring: Cell::new(false),
        answered: Cell::new(0),
        closed_idle: Cell::new(0),
        failures: RefCell::default(),
        failed: Cell::new(0),
        latencies: RefCell::new(Histogram::new()),
        handshakes: Rc::default(),
    });
    let load = Load { arguments, tls, shared };
    if arguments.probe {
        local.block_on(&runtime, load.probe())
    } else if arguments.hold {
        local.block_on(&runtime, load.hold())
    } else {
        local.block_on(&runtime, load.drive())
    }
}

impl Load<'_> {
    fn dialer(&self) -> Dialer {
        Dialer::new(self.arguments.target, self.tls.as_ref(), Rc::clone(&self.shared.handshakes))
    }

    /// The authority of each connection.
    fn hosts(&self) -> impl Iterator<Item = &String> {
        self.arguments.hosts.iter().cycle().take(self.arguments.connections)
    }

    fn begin(&self) -> Result<Vec<JoinHandle<()>>> {
        let path = &self.arguments.path;
        let clients = self.hosts().map(|host| {
            let (shared, dialer) = (Rc::clone(&self.shared), self.dialer());
            Ok(match self.arguments.streams {
                Some(streams) => {
                    let request = http2::request(host, path, self.tls.is_some())?;
                    spawn_local(http2::client(shared, dialer, request, streams))
                }
                None => {
                    let request = http1::request(host, path, self.arguments.close);
                    spawn_local(http1::client(shared, dialer, request))
                }
            })
        });
        clients.collect()
    }

    async fn drive(&self) -> Result<ExitCode> {
        let (arguments, shared) = (self.arguments, &self.shared);
        let clients = self.begin()?;
        tokio::time::sleep(Duration::from_millis(arguments.warm_up)).await;

        let (began, cpu_before, answered_before) =
            (Instant::now(), measure::cpu_nanos(&arguments.processes)?, shared.answered.get());
        shared.measuring.set(true);
        tokio::time::sleep(Duration::from_millis(arguments.window)).await;
        let (took, cpu_after, answered_after) =
            (began.elapsed(), measure::cpu_nanos(&arguments.processes)?, shared.answered.get());
        shared.measuring.set(false);
        shared.stop.set(true);

        // Every client finishes the request it has begun, so that the total is what the proxy and the origin counted, too.
        let deadline = tokio::time::Instant::now() + PATIENCE;
        for mut client in clients {
            match tokio::time::timeout_at(deadline, &mut client).await {
                Ok(ended) => ended.context("a client was lost")?,
                Err(_) => {
                    client.abort();
                    shared.failed(Failure::TimedOut);
                }
            }
        }
        let latencies = shared.latencies.borrow();
        let micros = |share: f64| latencies.quantile(share).as_secs_f64() * 1e6;
        let line = json!({
            "window_requests": answered_after - answered_before,
            "window_nanos": u64::try_from(took.as_nanos()).unwrap_or(u64::MAX),
            "cpu_nanos": cpu_after.saturating_sub(cpu_before),
            "answered": shared.answered.get(),
            "failed": shared.failed.get(),
            "closed_idle": shared.closed_idle.get(),
            "failures": shared.describe_failures(),
            "handshakes": shared.handshakes.all.get(),
            "resumed": shared.handshakes.resumed.get(),
            "p50_us": micros(0.50), "p90_us": micros(0.90), "p99_us": micros(0.99), "p999_us": micros(0.999),
        });
        println!("{line}");
        Ok(ExitCode::SUCCESS)
    }

    /// One request in the way of this load.
    async fn probe(&self) -> Result<ExitCode> {
        let (arguments, dialer) = (self.arguments, self.dialer());
        let host = arguments.hosts.first().context("no authority")?;
        let asked = async {
            if arguments.streams.is_some() {
                let request = http2::request(host, &arguments.path, self.tls.is_some()).map_err(|_| Failure::Broken)?;
                return http2::ask_once(&dialer, request, arguments.body).await;
            }
            let mut stream = dialer.dial().await.map_err(|_| Failure::Connect)?;
            let request = http1::request(host, &arguments.path, arguments.close);
            http1::exchange(&mut stream, &request, &mut vec![0; 64 * 1024], arguments.body).await.map(|_| ())
        };
        if let Err(failure) = tokio::time::timeout(PATIENCE, asked).await.unwrap_or(Err(Failure::TimedOut)) {
            bail!("the probe failed: {failure:?}");
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn hold(&self) -> Result<ExitCode> {
        match self.arguments.streams {
            Some(streams) => self.hold_streams(streams).await,
            None => self.hold_connections().await,
        }
    }

    async fn hold_streams(&self, streams: usize) -> Result<ExitCode> {
        let mut held = Vec::new();
        for host in self.hosts() {
            let request = http2::request(host, &self.arguments.path, self.tls.is_some())?;
            match http2::stall(&self.dialer(), &request, streams).await {
                Ok(connection) => held.push(connection),
                Err(failure) => self.shared.failed(failure),
            }
        }
        self.say_and_wait(held.len() * streams).await
    }

    /// The parent ends this process when it has measured.
    async fn say_and_wait(&self, held: usize) -> Result<ExitCode> {
        println!("{}", json!({ "held": held, "failed": self.shared.failed.get() }));
        std::io::stdout().flush()?;
        std::future::pending::<()>().await;
        Ok(ExitCode::SUCCESS)
    }

    async fn hold_connections(&self) -> Result<ExitCode> {
        let mut streams = Vec::with_capacity(self.arguments.connections);
        let mut waiting = self.hosts();
        loop {
            let batch: Vec<_> = waiting
                .by_ref()
                .take(OPENERS)
                .map(|host| {
                    let request = http1::request(host, &self.arguments.path, false);
                    spawn_local(open_and_ask(Rc::clone(&self.shared), self.dialer(), request))
                })
                .collect();
            if batch.is_empty() {
                break;
            }
            for opened in batch {
                streams.extend(opened.await.context("a client was lost")?);
            }
        }
        self.say_and_wait(streams.len()).await
    }
}

async fn open_and_ask(shared: Rc<Shared>, dialer: Dialer, request: Rc<[u8]>) -> Option<Stream> {
    let asked = async {
        let mut stream = dialer.dial().await.map_err(|_| Failure::Connect)?;
        let stays_open = http1::exchange(&mut stream, &request, &mut vec![0; 16 * 1024], shared.body).await?;
        Ok(stays_open.then_some(stream))
    };
    match tokio::time::timeout(PATIENCE, asked).await.unwrap_or(Err(Failure::TimedOut)) {
        Ok(stream) => stream,
        Err(failure) => {
            shared.failed(failure);
            None
        }
    }
}
