//! How the registry fares with 100,000 instances of 10,000 services: memory, renewals, the time until everybody who watches
//! has seen a change, and what an idle watch costs. `cargo run --release -p meshwright-bridges --example registry_scale`
//!
//! Server and clients are one process with the allocator of the binary; it needs 20,000 file descriptors (`ulimit -n`). With `-- idle` it only measures the idle watches.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on ends here")]
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use meshwright_bridges::{Tokens, router};
use meshwright_catalog::Catalog;
use meshwright_registry::{Action, Expected, Instance, InstanceKey, Limits, Proposal, Scope, ServiceKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const SERVICES: usize = 10_000;
const INSTANCES: usize = 100_000;
const CURSORS: usize = 10_000;
const WATCHERS: usize = 2_000;
const IDLE: usize = 9_000;
const RENEWING: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(60);

fn key(number: usize) -> InstanceKey {
    let service = ServiceKey::new("", &format!("service-{}", number % SERVICES)).unwrap();
    InstanceKey::new(service, &format!("host-{number}.example.com:8080")).unwrap()
}

fn instance(number: usize) -> Instance {
    let mut instance = Instance::new(&format!("10.{}.{}.{}", number >> 16, (number >> 8) & 255, number & 255), 8080);
    instance.version = "v1".to_owned();
    instance.metadata.insert("zone", "eu-west-1a");
    instance.metadata.insert("team", "shop");
    instance
}

/// Resident memory of this process.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// Waits until memory no longer grows: a listener takes thousands of connections in its own time.
async fn settled() {
    let (mut before, mut quiet) = (resident(), 0);
    while quiet < 6 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = resident();
        quiet = if now == before { quiet + 1 } else { 0 };
        before = now;
    }
}

async fn fill(catalog: &Catalog) {
    let (before, began) = (resident(), Instant::now());
    let numbers: Vec<usize> = (0..INSTANCES).collect();
    for numbers in numbers.chunks(1000) {
        let register = |number: &usize| Proposal {
            key: key(*number),
            expected: Expected::Any,
            action: Action::Register(Box::new(instance(*number))),
        };
        let answers = catalog.propose(numbers.iter().map(register).collect()).await.unwrap();
        assert!(answers.iter().all(Result::is_ok));
    }
    let took = began.elapsed();
    let own: usize = (0..INSTANCES).map(|number| instance(number).size() + key(number).id().len()).sum();
    let beyond = (resident() - before).saturating_sub(own) / INSTANCES;
    println!(
        "{INSTANCES} instances of {SERVICES} services registered in {took:.1?}, {:.0} a second; {beyond} bytes each beyond their own \
         data ({} bytes)",
        INSTANCES as f64 / took.as_secs_f64(),
        own / INSTANCES
    );
}

fn renew(catalog: &Catalog) {
    let keys: Vec<InstanceKey> = (0..INSTANCES).map(key).collect();
    let (began, mut count) = (Instant::now(), 0_usize);
    while began.elapsed() < RENEWING {
        for key in keys.iter().cycle().skip(count % INSTANCES).take(1000) {
            assert!(catalog.renew(key).is_some());
        }
        count += 1000;
    }
    println!("{:.0} renewals a second on one core", count as f64 / began.elapsed().as_secs_f64());
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    println!("{what}: median {:.1?}, last {:.1?}", times[times.len() / 2], times[times.len() - 1]);
}

/// One change, and when each of `count` waiting tasks had seen it.
async fn change(catalog: &Catalog, times: &mut mpsc::UnboundedReceiver<Instant>, count: usize) -> Vec<Duration> {
    let began = Instant::now();
    catalog.update(&key(0), |instance| instance.weight += 1).await.unwrap();
    let mut seen = Vec::with_capacity(count);
    while seen.len() < count {
        seen.push(times.recv().await.unwrap().saturating_duration_since(began));
    }
    seen
}

async fn cursors(catalog: &Catalog) {
    let (tell, mut times) = mpsc::unbounded_channel();
    let at = catalog.read(|registry| registry.revision());
    for _ in 0..CURSORS {
        let (catalog, tell) = (catalog.clone(), tell.clone());
        tokio::spawn(async move {
            let (events, _) = catalog.events(at, &Scope::All, PATIENCE).await.unwrap();
            assert_eq!(events.len(), 1);
            tell.send(Instant::now()).unwrap();
        });
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    report(&format!("{CURSORS} cursors in the process see a change"), change(catalog, &mut times, CURSORS).await);
}

/// A long poll that reads until the answer has an event.
async fn watch(address: SocketAddr, at: u64) -> Instant {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /v1/watch?revision={at}&wait=50s HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut received = Vec::new();
    while !received.windows(9).any(|window| window == b"service-0") {
        assert_ne!(stream.read_buf(&mut received).await.unwrap(), 0, "{}", String::from_utf8_lossy(&received));
    }
    Instant::now()
}

/// The API on a thread of its own.
async fn serve(catalog: &Catalog) -> SocketAddr {
    let listener = meshwright_site::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let router = router(catalog.clone(), Tokens::default());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = listener.into_std().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            meshwright_site::serve(listener, router, 2 * IDLE, std::future::pending()).await.unwrap();
        });
    });
    address
}

async fn sockets(catalog: &Catalog, address: SocketAddr) {
    let (tell, mut times) = mpsc::unbounded_channel();
    let at = catalog.read(|registry| registry.revision());
    for _ in 0..WATCHERS {
        let tell = tell.clone();
        tokio::spawn(async move { tell.send(watch(address, at).await).unwrap() });
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    report(&format!("{WATCHERS} watchers over sockets see a change"), change(catalog, &mut times, WATCHERS).await);
}

/// What long polls cost the server that nobody answers. The client's side is a descriptor each.
async fn idle(catalog: &Catalog, address: SocketAddr) {
    let at = catalog.read(|registry| registry.revision());
    let request = format!("GET /v1/watch?revision={at}&wait=10m HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let before = resident();
    let waiting: Vec<std::net::TcpStream> = (0..IDLE)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
            stream
        })
        .collect();
    settled().await;
    println!("{} idle watches: {} bytes each", waiting.len(), resident().saturating_sub(before) / IDLE);
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let catalog = Catalog::in_memory(Limits::default(), 0);
        if std::env::args().any(|argument| argument == "idle") {
            let address = serve(&catalog).await;
            idle(&catalog, address).await;
            std::process::exit(0);
        }
        fill(&catalog).await;
        renew(&catalog);
        for _ in 0..3 {
            cursors(&catalog).await;
        }
        let address = serve(&catalog).await;
        idle(&catalog, address).await;
        sockets(&catalog, address).await;
    });
    std::process::exit(0);
}
