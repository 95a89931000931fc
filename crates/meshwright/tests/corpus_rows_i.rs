//! Rows I11 to I15 of the corpus: a process short of descriptors, of memory and of processor time, a network that loses its
//! temper, and services that are sick.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread;
use std::time::Duration;

use meshwright_testkit::{
    Config, Launch, Meshwright, Origin, Pattern, RawClient, Signal, binary, destination_rule, eventually,
    gateway_routes, gateway_to, holds_within, pass, raise_descriptor_limit, reset_at_end,
};

fn with_descriptors(most: u32, origin: &Origin, arguments: &[&str]) -> Meshwright {
    let config = Config::new(&[&gateway_to("svc")]);
    let launch = Launch::with_descriptors(binary!(), most).args(arguments);
    launch.file(config.path()).service_at("svc", origin.address()).start()
}

fn is_served(process: &Meshwright) -> bool {
    let Ok(mut client) = RawClient::try_connect(process.gateway()) else { return false };
    client.try_request("GET", "x", "/", &[], b"").is_ok_and(|answer| answer.text() == "ok")
}

#[test]
fn row_i11_cve_2024_47609_two_thousand_connections_for_a_process_with_few_descriptors() {
    raise_descriptor_limit();
    let origin = Origin::named("ok");
    // By the limit that follows from the descriptors; and beyond it, so that accepting itself fails.
    for (descriptors, arguments, fails) in
        [(400, &[][..], false), (256, &["--max-connections", "5000", "--max-connections-per-source", "5000"][..], true)]
    {
        let process = with_descriptors(descriptors, &origin, arguments);
        let mut kept = process.connect();
        assert_eq!(kept.get("x", "/").text(), "ok");
        let crowd: Vec<RawClient> = (0..2000).filter_map(|_| RawClient::try_connect(process.gateway()).ok()).collect();
        if fails {
            eventually("accepting fails", || process.stderr().contains("connections cannot be accepted"));
        }
        for _ in 0..20 {
            assert_eq!(kept.get("x", "/").text(), "ok", "who is connected is served");
        }
        if !fails {
            assert_eq!(process.admin_get("/healthz").status, 200, "the admin API has descriptors of its own");
        }
        drop(crowd);
        eventually("it serves new ones again", || is_served(&process));
        assert_eq!(process.admin_get("/healthz").status, 200);
    }
}

#[test]
fn row_i12_a_process_short_of_memory_sheds_instead_of_growing_and_recovers() {
    raise_descriptor_limit();
    let origin = Origin::named("ok");
    let config = Config::new(&[&gateway_to("svc")]);
    let mut process = Launch::run(binary!())
        .file(config.path())
        .service_at("svc", origin.address())
        .args(&["--no-watch", "--workers", "1", "--max-memory", "64MiB", "--header-timeout", "60s"])
        .start();
    // Heads that do not end, almost as long as they may be.
    let head = format!("GET / HTTP/1.1\r\nHost: x\r\n{}", format!("X: {}\r\n", "y".repeat(7000)).repeat(4));
    let crowd = |count: usize| -> Vec<RawClient> {
        let connected = (0..count).filter_map(|_| RawClient::try_connect(process.gateway()).ok());
        connected.filter_map(|mut client| client.try_send(&head).is_ok().then_some(client)).collect()
    };
    let first = crowd(2500);
    eventually("it sheds", || {
        drop(RawClient::try_connect(process.gateway()));
        process.metrics().sum("meshwright_refusals_total", &[("reason", "memory_limit")]) > 0.0
    });
    let rss = process.rss_bytes();
    let second = crowd(1000);
    let grown = process.rss_bytes().saturating_sub(rss);
    assert!(grown < 8 << 20, "{grown} bytes more although it sheds");
    assert_eq!(process.admin_get("/healthz").status, 200);
    drop((first, second));
    let recovered = holds_within(Duration::from_secs(120), || is_served(&process));
    println!("{rss} bytes when it shed, {} behind it", process.rss_bytes());
    assert!(recovered, "it sheds for ever");
    assert!(process.is_running());
}

#[test]
fn row_i13_a_tenth_of_the_processor_serves_everybody_in_the_end() {
    let origin = Origin::echoes();
    let config = Config::new(&[&gateway_to("svc")]);
    let process = Launch::run(binary!()).file(config.path()).service_at("svc", origin.address()).start();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                process.signal(Signal::STOP);
                pass(Duration::from_millis(45));
                process.signal(Signal::CONT);
                pass(Duration::from_millis(5));
            }
        });
        let asking: Vec<_> = (0..8)
            .map(|number| {
                let address = process.gateway();
                scope.spawn(move || {
                    let mut client = RawClient::connect(address);
                    (0..20).all(|round| {
                        let body = format!("{number} {round}");
                        client
                            .try_request("POST", "x", "/", &[], body.as_bytes())
                            .is_ok_and(|answer| answer.text() == body)
                    })
                })
            })
            .collect();
        let served = asking.into_iter().filter_map(|one| one.join().ok()).filter(|served| *served).count();
        over.store(true, Ordering::SeqCst);
        assert_eq!(served, 8);
    });
    assert_eq!(origin.count(), 160, "each request came once");
}

/// What a network does to the bytes of one direction of a connection.
#[derive(Clone, Copy)]
enum Fault {
    /// Nothing.
    None,
    /// They come in pieces of at most so many bytes, each up to 2 ms late.
    Jitter(usize),
    /// The connection is reset behind so many of them.
    Reset(usize),
    /// 1 Mbit/s.
    Slow,
}

/// Passes bytes on until an end or the fault.
fn pump(mut from: TcpStream, mut to: TcpStream, fault: Fault, mut seed: u32) {
    let mut buffer = [0; 4096];
    let mut passed = 0;
    loop {
        let most = if let Fault::Jitter(most) = fault { most } else { buffer.len() };
        let Ok(count) = from.read(&mut buffer[..most]) else { break };
        if count == 0 {
            break;
        }
        match fault {
            Fault::None => {}
            Fault::Jitter(_) => {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                pass(Duration::from_micros(u64::from(seed >> 21)));
            }
            Fault::Slow => pass(Duration::from_micros(count as u64 * 8)),
            Fault::Reset(after) if passed + count > after => {
                let _ = to.write_all(&buffer[..after - passed]);
                for end in [&from, &to] {
                    reset_at_end(end);
                    // Wakes the other direction, so that all handles are closed.
                    let _ = end.shutdown(Shutdown::Read);
                }
                return;
            }
            Fault::Reset(_) => {}
        }
        passed += count;
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// A network between the gateway and `address`.
fn network(address: SocketAddr, up: Fault, down: Fault) -> Origin {
    Origin::start(move |connection| {
        let (there, here) = (RawClient::try_connect(address)?.stream().try_clone()?, connection.socket()?);
        let (there_too, here_too) = (there.try_clone()?, here.try_clone()?);
        let upwards = thread::spawn(move || pump(here_too, there_too, up, 1));
        pump(there, here, down, 2);
        let _ = upwards.join();
        Ok(())
    })
}

fn over(network: &Origin, route: &str) -> (Config, Meshwright) {
    let config = Config::new(&[&gateway_routes(route)]);
    let process = Launch::run(binary!()).file(config.path()).service_at("svc", network.address());
    (config, process.args(&["--no-watch", "--workers", "1"]).start())
}

const TO_SERVICE: &str = "- route: [{destination: {host: svc}}]";

#[test]
fn row_i14_jitter_and_little_bandwidth_change_no_byte() {
    let origin = Origin::echoes();
    for (fault, length) in [(Fault::Jitter(7), 5_000), (Fault::Jitter(1000), 100_000), (Fault::Slow, 40_000)] {
        let between = network(origin.address(), fault, fault);
        let (_config, process) = over(&between, TO_SERVICE);
        let mut client = process.connect();
        for round in 1..=3 {
            let body = Pattern::bytes(length / round);
            assert!(client.request("POST", "x", "/", &[], &body).body == body, "round {round}");
        }
    }
    assert_eq!(origin.count(), 9);
}

#[test]
fn row_i14_resets_anywhere_cut_answers_visibly_and_repeat_no_post() {
    let origin = Origin::echoes();
    let body = Pattern::bytes(2_000);
    // In the answer: its head has some 70 bytes.
    for after in [0, 1, 9, 40, 71, 72, 100, 1_000, 2_000, 2_050] {
        let between = network(origin.address(), Fault::None, Fault::Reset(after));
        let (_config, process) = over(&between, TO_SERVICE);
        let before = origin.count();
        let answer = process.connect().try_request("POST", "x", "/", &[], &body);
        let is_whole = answer.as_ref().is_ok_and(|answer| answer.status == 200);
        assert!(!is_whole || answer.as_ref().is_ok_and(|answer| answer.body == body), "reset after {after}");
        assert!(answer.as_ref().map_or(true, |answer| is_whole || answer.status >= 500), "reset after {after}");
        assert_eq!(origin.count(), before + 1, "reset after {after}: a POST that may have arrived is not repeated");
    }
    // In the request: it never arrives whole, and what arrived is not answered as if it had.
    for after in [0, 1, 50, 150, 1_000] {
        let between = network(origin.address(), Fault::Reset(after), Fault::None);
        let (_config, process) = over(&between, TO_SERVICE);
        let before = origin.count();
        assert_eq!(process.connect().request("POST", "x", "/", &[], &body).status, 503, "reset after {after}");
        assert_eq!(origin.count(), before, "reset after {after}");
    }
}

#[test]
fn row_i14_retries_stay_within_their_budget_when_every_connection_breaks() {
    let origin = Origin::echoes();
    let between = network(origin.address(), Fault::Reset(10), Fault::None);
    let route = "- retries: {attempts: 3, retryOn: 'reset,connect-failure', backoff: 1ms}\n  route: [{destination: {host: svc}}]";
    let (_config, process) = over(&between, route);
    let mut client = process.connect();
    for _ in 0..20 {
        assert_eq!(client.get("x", "/").status, 503);
    }
    let tries = between.connections();
    assert!((20..=80).contains(&tries), "{tries} tries for 20 requests");
    assert_eq!(origin.count(), 0);
}

fn switchable(status: &Arc<AtomicU16>) -> Origin {
    let status = status.clone();
    Origin::answers_by(move |_| (status.load(Ordering::SeqCst), String::new()))
}

fn sick(origins: &[Origin], policy: &str, route: &str) -> (Config, Meshwright) {
    let config = Config::new(&[&gateway_routes(route), &destination_rule("svc", policy)]);
    let addresses: Vec<String> = origins.iter().map(|origin| origin.address().to_string()).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let process = Launch::run(binary!()).file(config.path()).service("svc", &addresses);
    (config, process.args(&["--no-watch", "--workers", "1"]).start())
}

fn statuses(client: &mut RawClient, count: usize) -> Vec<u16> {
    (0..count).map(|_| client.get("x", "/").status).collect()
}

#[test]
fn row_i15_when_too_few_are_healthy_all_are_used() {
    let status = Arc::new(AtomicU16::new(500));
    let origins: Vec<Origin> = (0..4).map(|_| switchable(&status)).collect();
    let policy = "{loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {consecutive5xxErrors: 1, baseEjectionTime: 60s, \
                   maxEjectionPercent: 100, minHealthPercent: 50}}";
    let (_config, process) = sick(&origins, policy, TO_SERVICE);
    let mut client = process.connect();
    statuses(&mut client, 20);
    status.store(200, Ordering::SeqCst);
    let counts: Vec<usize> = origins.iter().map(Origin::count).collect();
    assert!(statuses(&mut client, 20).iter().all(|status| *status == 200), "nobody waits for the end of an ejection");
    assert!(origins.iter().zip(counts).all(|(origin, before)| origin.count() > before), "all of them are used");
}

#[test]
fn row_i15_the_sick_half_is_left_alone_and_no_more_than_it() {
    let (bad, good) = (Arc::new(AtomicU16::new(500)), Arc::new(AtomicU16::new(200)));
    let origins: Vec<Origin> = [&bad, &bad, &good, &good].map(switchable).into();
    let policy = "{loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {consecutive5xxErrors: 2, baseEjectionTime: 60s, \
                   maxEjectionPercent: 50}}";
    let (_config, process) = sick(&origins, policy, TO_SERVICE);
    let mut client = process.connect();
    let first = statuses(&mut client, 20);
    assert_eq!(first.iter().filter(|status| **status == 500).count(), 4, "{first:?}");
    assert!(statuses(&mut client, 40).iter().all(|status| *status == 200));
    good.store(500, Ordering::SeqCst);
    assert!(statuses(&mut client, 20).iter().all(|status| *status == 500), "the others stay in use");
    process.metric_becomes("envoy_cluster_outlier_detection_ejections_active", &[], 2.0);
}

#[test]
fn row_i15_an_endpoint_that_flaps_ten_times_a_second_fails_no_request() {
    let (flapping, good) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicU16::new(200)));
    let origins: Vec<Origin> = [&flapping, &good, &good].map(switchable).into();
    let policy = "{loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {consecutive5xxErrors: 1, interval: 50ms, \
                   baseEjectionTime: 100ms, maxEjectionPercent: 50}}";
    let route = "- retries: {attempts: 2, retryOn: 5xx, backoff: 1ms}\n  route: [{destination: {host: svc}}]";
    let (_config, process) = sick(&origins, policy, route);
    let mut client = process.connect();
    let mut asked = 0;
    for phase in 0..20 {
        flapping.store(if phase % 2 == 0 { 500 } else { 200 }, Ordering::SeqCst);
        for _ in 0..10 {
            assert_eq!(client.get("x", "/").status, 200, "phase {phase}");
            asked += 1;
            pass(Duration::from_millis(5));
        }
    }
    let ejected = process.metrics().sum("envoy_cluster_outlier_detection_ejections_enforced_total", &[]);
    println!("{asked} requests, {ejected} ejections, {} tries at the one that flaps", origins[0].count());
    assert!(ejected >= 1.0);
    let all: usize = origins.iter().map(Origin::count).sum();
    assert!(all <= asked + asked / 4, "{all} tries for {asked} requests");
}
