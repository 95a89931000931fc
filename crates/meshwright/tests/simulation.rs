//! What the simulator says, held against real backends; and what an adaptive limit saves when they are asked for too much.
//! Both take a minute and want the machine for themselves.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use meshwright_testkit::{Config, Launch, Meshwright, RawClient, binary, gateway_to, resilience_policy};
use support::{Backend, meshwright, output};

/// Held by each test: what they measure is worth nothing beside another one.
static ALONE: Mutex<()> = Mutex::new(());

/// A process in front of so many `echo`s, which all have these flags.
fn start(count: usize, echo: &[&str], documents: &[&str], lb: &str) -> (Vec<Backend>, Config, Meshwright) {
    let backends: Vec<Backend> = (0..count).map(|_| Backend::start(echo)).collect();
    let addresses: Vec<String> = backends.iter().map(|backend| backend.address.to_string()).collect();
    let rule = format!(
        "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: svc, annotations: {{meshwright.io/load-balancer: {lb}}}}}
spec: {{host: svc}}
"
    );
    let gateway = gateway_to("svc");
    let mut all = vec![gateway.as_str(), rule.as_str()];
    all.extend(documents);
    let config = Config::new(&all);
    let endpoints: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let process = Launch::run(binary!())
        .file(config.path())
        .service("svc", &endpoints)
        .args(&["--workers", "1", "--access-log", "off"])
        .start();
    (backends, config, process)
}

/// Milliseconds at these quantiles.
fn quantiles(latencies: &mut [Duration]) -> [f64; 2] {
    latencies.sort_unstable();
    [0.5, 0.99].map(|quantile| {
        let at = ((latencies.len() as f64 * quantile) as usize).min(latencies.len() - 1);
        latencies[at].as_secs_f64() * 1e3
    })
}

/// p50 and p99 of the one policy in the simulator's table, in milliseconds.
fn simulated(policy: &str, backends: &str, load: &str) -> [f64; 2] {
    let (code, page, error) =
        output(&mut meshwright(&["simulate", "lb", "--policy", policy, "--backends", backends, "--load", load]));
    assert_eq!(code, 0, "{error}");
    let line = page.lines().find(|line| line.starts_with(policy)).expect("the line of the policy");
    let cells: Vec<&str> = line.split_whitespace().collect();
    [3, 5].map(|cell| cells[cell].trim_end_matches("ms").parse().expect("milliseconds"))
}

#[test]
#[ignore = "longer tier: real time, and latencies that mean something only on a machine without other work"]
fn real_backends_agree_with_the_simulator() {
    const CLIENTS: usize = 24;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for policy in ["ROUND_ROBIN", "LEAST_REQUEST", "PEAK_EWMA"] {
        let expected = simulated(policy, "4xexp:20ms;concurrency=4", "24 clients;for=300s");
        let (_backends, _config, process) = start(4, &["--delay", "exp:20ms", "--concurrency", "4"], &[], policy);
        let over = AtomicBool::new(false);
        let begin = Instant::now();
        let client = || {
            let mut client = process.connect();
            let mut latencies = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let sent = Instant::now();
                assert_eq!(client.get("x", "/").status, 200);
                latencies.push(sent.elapsed());
                if begin.elapsed() > Duration::from_secs(20) {
                    over.store(true, Ordering::Relaxed);
                }
            }
            latencies.drain(..latencies.len() / 10);
            latencies
        };
        let mut latencies: Vec<Duration> = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
            clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
        });
        let real = quantiles(&mut latencies);
        println!(
            "{policy}: simulated p50 {:.1} p99 {:.1}, real p50 {:.1} p99 {:.1} ms",
            expected[0], expected[1], real[0], real[1]
        );
        let off = |at: usize| (real[at] / expected[at] - 1.0).abs();
        assert!(off(0) <= 0.10 && off(1) <= 0.20, "{policy}: {real:?} instead of {expected:?}");
    }
}

/// Two backends that do 200 requests per second together are asked for 800.
#[test]
#[ignore = "longer tier: real time, with 256 clients"]
#[allow(clippy::disallowed_methods, reason = "clients that send at their times, whatever becomes of their requests")]
fn an_enforced_limit_keeps_the_goodput_at_four_times_the_capacity() {
    const CLIENTS: u32 = 256;
    const PAUSE: Duration = Duration::from_millis(320);
    const LENGTH: Duration = Duration::from_secs(20);
    const SETTLING: Duration = Duration::from_secs(4);
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let policy = resilience_policy("svc", "adaptiveConcurrency: {mode: ENFORCE}");
    let echo = ["--delay", "40ms", "--concurrency", "4"];
    let (_backends, _config, process) = start(2, &echo, &[&policy], "LEAST_REQUEST");
    let (good, sent) = (AtomicU64::new(0), AtomicU64::new(0));
    let begin = Instant::now();
    let client = |number: u32| {
        let mut client: RawClient = process.connect();
        let mut due = begin + PAUSE * number / CLIENTS;
        while due < begin + LENGTH {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let answer = client.get("x", "/");
            let now = Instant::now();
            if now > begin + SETTLING && now < begin + LENGTH {
                sent.fetch_add(1, Ordering::Relaxed);
                good.fetch_add(u64::from(answer.status == 200), Ordering::Relaxed);
            }
            due += PAUSE;
        }
    };
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            scope.spawn(move || client(number));
        }
    });
    let seconds = (LENGTH - SETTLING).as_secs_f64();
    let (good, sent) = (good.into_inner() as f64 / seconds, sent.into_inner() as f64 / seconds);
    println!("offered {sent:.0}/s, answered {good:.0}/s of 200/s");
    assert!(good > 160.0, "{good} of 200 per second");
}
