//! Closed-loop keep-alive clients: each sends its next request when it has the whole answer to the last one.
//!
//! A client never sends a request twice: what fails is counted by its kind, and a connection that the proxy closed between
//! two requests is counted apart. Status and length of every answer are checked. The window's CPU time is read here, in the
//! same moment as the count of answers, so that both belong to the same span. Bounded in time and in requests. It does
//! not know which proxy it talks to.

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::backend::head_end;
use super::histogram::Histogram;
use super::measure;

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
    /// Number of connections, one request in flight on each
    #[arg(long)]
    connections: usize,
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
    #[arg(long, default_value_t = 3000)]
    window: u64,
    /// Stop after so many requests even when time is left
    #[arg(long, default_value_t = 50_000_000)]
    most_requests: u64,
    /// Processes whose CPU time belongs to the window
    #[arg(long, value_delimiter = ',')]
    processes: Vec<u32>,
    /// Make one request on each connection, print a line, and hold all of them idle until ended
    #[arg(long)]
    hold: bool,
}

#[derive(Default)]
struct Failures {
    connect: u64,
    closed_unanswered: u64,
    broken: u64,
    timed_out: u64,
    wrong_status: u64,
    wrong_length: u64,
}

impl Failures {
    fn total(&self) -> u64 {
        self.connect + self.closed_unanswered + self.broken + self.timed_out + self.wrong_status + self.wrong_length
    }
}

struct Shared {
    target: SocketAddr,
    body: usize,
    most_requests: u64,
    stop: Cell<bool>,
    measuring: Cell<bool>,
    answered: Cell<u64>,
    closed_idle: Cell<u64>,
    failures: RefCell<Failures>,
    latencies: RefCell<Histogram>,
}

/// Runs the load and prints one line of JSON.
///
/// # Errors
/// When the runtime cannot start, no connection can be made at all, or a measured process is gone.
pub(crate) fn run(arguments: &LoadArguments) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let shared = Rc::new(Shared {
        target: arguments.target,
        body: arguments.body,
        most_requests: arguments.most_requests,
        stop: Cell::new(false),
        measuring: Cell::new(false),
        answered: Cell::new(0),
        closed_idle: Cell::new(0),
        failures: RefCell::default(),
        latencies: RefCell::new(Histogram::new()),
    });
    if arguments.hold {
        local.block_on(&runtime, hold(arguments, &shared))
    } else {
        local.block_on(&runtime, drive(arguments, &shared))
    }
}

fn requests(arguments: &LoadArguments) -> impl Iterator<Item = Rc<[u8]>> {
    let path = &arguments.path;
    arguments.hosts.iter().cycle().take(arguments.connections).map(move |host| {
        let text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n");
        Rc::from(text.into_bytes())
    })
}

async fn drive(arguments: &LoadArguments, shared: &Rc<Shared>) -> Result<ExitCode> {
    let clients: Vec<_> =
        requests(arguments).map(|request| tokio::task::spawn_local(client(Rc::clone(shared), request))).collect();
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
                shared.failures.borrow_mut().timed_out += 1;
            }
        }
    }
    let failures = shared.failures.borrow();
    let latencies = shared.latencies.borrow();
    let micros = |share: f64| latencies.quantile(share).as_secs_f64() * 1e6;
    let line = json!({
        "window_requests": answered_after - answered_before,
        "window_nanos": u64::try_from(took.as_nanos()).unwrap_or(u64::MAX),
        "cpu_nanos": cpu_after.saturating_sub(cpu_before),
        "answered": shared.answered.get(),
        "failed": failures.total(),
        "closed_idle": shared.closed_idle.get(),
        "failures": describe(&failures),
        "p50_us": micros(0.50), "p90_us": micros(0.90), "p99_us": micros(0.99), "p999_us": micros(0.999),
    });
    println!("{line}");
    Ok(ExitCode::SUCCESS)
}

fn describe(failures: &Failures) -> String {
    let kinds = [
        ("connect", failures.connect),
        ("closed without answer", failures.closed_unanswered),
        ("broken answer", failures.broken),
        ("no answer in time", failures.timed_out),
        ("wrong status", failures.wrong_status),
        ("wrong length", failures.wrong_length),
    ];
    let seen: Vec<String> =
        kinds.iter().filter(|(_, count)| *count > 0).map(|(kind, count)| format!("{kind}: {count}")).collect();
    seen.join(", ")
}

async fn client(shared: Rc<Shared>, request: Rc<[u8]>) {
    let mut connection = None;
    let mut buffer = vec![0; 64 * 1024];
    while !shared.stop.get() && shared.answered.get() < shared.most_requests {
        let reused = connection.is_some();
        let mut stream = match connection.take() {
            Some(stream) => stream,
            None => match connect(shared.target).await {
                Some(stream) => stream,
                None => {
                    shared.failures.borrow_mut().connect += 1;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            },
        };
        if reused && is_closed(&stream) {
            shared.closed_idle.set(shared.closed_idle.get() + 1);
            continue;
        }
        let began = Instant::now();
        match exchange(&mut stream, &request, &mut buffer, &shared).await {
            Ok(stays_open) => {
                shared.answered.set(shared.answered.get() + 1);
                if shared.measuring.get() {
                    shared.latencies.borrow_mut().record(began.elapsed());
                }
                if stays_open {
                    connection = Some(stream);
                } else {
                    shared.closed_idle.set(shared.closed_idle.get() + 1);
                }
            }
            Err(failure) => failure.count(&mut shared.failures.borrow_mut()),
        }
    }
}

async fn connect(target: SocketAddr) -> Option<TcpStream> {
    let stream = tokio::time::timeout(PATIENCE, TcpStream::connect(target)).await.ok()?.ok()?;
    stream.set_nodelay(true).ok()?;
    Some(stream)
}

/// Whether the proxy has closed an idle connection. The runtime answers from what it knows: an idle connection was read
/// until nothing was left, so this costs no system call unless something arrived.
fn is_closed(stream: &TcpStream) -> bool {
    !matches!(stream.try_read(&mut [0; 1]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

enum Failure {
    ClosedUnanswered,
    Broken,
    TimedOut,
    Status,
    Length,
}

impl Failure {
    fn count(self, failures: &mut Failures) {
        let counter = match self {
            Failure::ClosedUnanswered => &mut failures.closed_unanswered,
            Failure::Broken => &mut failures.broken,
            Failure::TimedOut => &mut failures.timed_out,
            Failure::Status => &mut failures.wrong_status,
            Failure::Length => &mut failures.wrong_length,
        };
        *counter += 1;
    }
}

/// One request and its whole answer; `Ok(true)` when the connection may carry another one.
async fn exchange(stream: &mut TcpStream, request: &[u8], buffer: &mut [u8], shared: &Shared) -> Result<bool, Failure> {
    stream.write_all(request).await.map_err(|_| Failure::ClosedUnanswered)?;
    let mut filled = 0;
    let (head, end) = loop {
        match stream.read(&mut buffer[filled..]).await {
            Ok(0) | Err(_) if filled == 0 => return Err(Failure::ClosedUnanswered),
            Ok(0) | Err(_) => return Err(Failure::Broken),
            Ok(read) => filled += read,
        }
        if let Some(end) = head_end(&buffer[..filled.min(8 * 1024)]) {
            break (parse_head(&buffer[..end]).ok_or(Failure::Broken)?, end);
        }
        if filled == buffer.len() {
            return Err(Failure::Broken);
        }
    };
    if head.status != 200 {
        return Err(Failure::Status);
    }
    if head.length != shared.body {
        return Err(Failure::Length);
    }
    let mut received = filled - end;
    while received < head.length {
        match stream.read(buffer).await {
            Ok(0) | Err(_) => return Err(Failure::Broken),
            Ok(read) => received += read,
        }
    }
    if received > head.length {
        return Err(Failure::Length);
    }
    Ok(!head.closes)
}

struct Head {
    status: u16,
    length: usize,
    closes: bool,
}

/// Status, `Content-Length` and `Connection: close` of an answer's head; none when it is not HTTP/1 or has no length.
fn parse_head(head: &[u8]) -> Option<Head> {
    let mut lines = head.split(|&byte| byte == b'\n');
    let first = lines.next()?.strip_prefix(b"HTTP/1.1 ")?;
    let status = std::str::from_utf8(first.get(..3)?).ok()?.parse().ok()?;
    let (mut length, mut closes) = (None, false);
    for line in lines {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            length = Some(std::str::from_utf8(value).ok()?.parse().ok()?);
        } else if name.eq_ignore_ascii_case(b"connection") {
            closes = value.eq_ignore_ascii_case(b"close");
        }
    }
    Some(Head { status, length: length?, closes })
}

async fn hold(arguments: &LoadArguments, shared: &Rc<Shared>) -> Result<ExitCode> {
    let mut streams = Vec::with_capacity(arguments.connections);
    let mut waiting = requests(arguments);
    loop {
        let batch: Vec<_> = waiting
            .by_ref()
            .take(OPENERS)
            .map(|request| tokio::task::spawn_local(open_and_ask(Rc::clone(shared), request)))
            .collect();
        if batch.is_empty() {
            break;
        }
        for opened in batch {
            streams.extend(opened.await.context("a client was lost")?);
        }
    }
    let failures = shared.failures.borrow().total();
    println!("{}", json!({ "held": streams.len(), "failed": failures }));
    std::io::stdout().flush()?;
    // The parent ends this process when it has measured.
    std::future::pending::<()>().await;
    Ok(ExitCode::SUCCESS)
}

async fn open_and_ask(shared: Rc<Shared>, request: Rc<[u8]>) -> Option<TcpStream> {
    let Some(mut stream) = connect(shared.target).await else {
        shared.failures.borrow_mut().connect += 1;
        return None;
    };
    let mut buffer = vec![0; 16 * 1024];
    let asked = tokio::time::timeout(PATIENCE, exchange(&mut stream, &request, &mut buffer, &shared)).await;
    match asked.unwrap_or(Err(Failure::TimedOut)) {
        Ok(true) => Some(stream),
        Ok(false) => None,
        Err(failure) => {
            failure.count(&mut shared.failures.borrow_mut());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_gives_status_length_and_closing() {
        let head = parse_head(b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 128\r\nConnection: Close\r\n\r\n").unwrap();
        assert_eq!((head.status, head.length, head.closes), (200, 128, true));
        let head = parse_head(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n").unwrap();
        assert_eq!((head.status, head.length, head.closes), (503, 0, false));
    }

    #[test]
    fn an_answer_without_length_is_no_answer() {
        assert!(parse_head(b"HTTP/1.1 200 OK\r\n\r\n").is_none());
        assert!(parse_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_none());
        assert!(parse_head(b"ICY 200 OK\r\nContent-Length: 1\r\n\r\n").is_none());
    }
}
