//! Who gets the next request.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use meshwright_testkit::{Config, Launch, Meshwright, Origin, binary, eventually, gateway_to};

/// A process with one worker in front of `endpoints`, balanced by `simple`.
fn balanced(simple: &str, endpoints: &[String]) -> (Config, Meshwright) {
    let rule = format!(
        "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: svc}}
spec:
  host: svc
  trafficPolicy: {{loadBalancer: {{simple: {simple}}}}}
"
    );
    let config = Config::new(&[&gateway_to("svc"), &rule]);
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let process = Launch::run(binary!())
        .file(config.path())
        .service("svc", &endpoints)
        .args(&["--workers", "1", "--no-watch"])
        .start();
    (config, process)
}

fn origins(names: &[&str]) -> (Vec<Origin>, Vec<String>) {
    let origins: Vec<Origin> = names.iter().map(|name| Origin::named(name)).collect();
    let addresses = origins.iter().map(|origin| origin.address().to_string()).collect();
    (origins, addresses)
}

/// The names of the origins that answer the next `count` requests of one connection.
fn sequence(process: &Meshwright, count: usize) -> Vec<String> {
    let mut client = process.connect();
    (0..count).map(|_| client.get("x", "/").text()).collect()
}

#[test]
fn round_robin_is_an_exact_rotation() {
    let (_origins, addresses) = origins(&["a", "b", "c"]);
    let (_config, process) = balanced("ROUND_ROBIN", &addresses);
    let names = sequence(&process, 30);
    let first = &names[..3];
    let mut sorted = first.to_vec();
    sorted.sort();
    assert_eq!(sorted, ["a", "b", "c"]);
    for turn in names.chunks(3) {
        assert_eq!(turn, first);
    }
}

#[test]
fn the_rotation_goes_on_over_connections_of_clients() {
    let (origins, addresses) = origins(&["a", "b", "c"]);
    let (_config, process) = balanced("ROUND_ROBIN", &addresses);
    for _ in 0..30 {
        assert_eq!(process.get("x", "/").status, 200);
    }
    assert!(origins.iter().all(|origin| origin.count() == 10));
}

#[test]
fn round_robin_interleaves_unequal_weights() {
    let (_origins, mut addresses) = origins(&["a", "b", "c"]);
    addresses[0].push_str(";weight=5");
    let (_config, process) = balanced("ROUND_ROBIN", &addresses);
    let names = sequence(&process, 70);
    for turn in names.chunks(7) {
        assert_eq!(turn.iter().filter(|name| *name == "a").count(), 5, "{turn:?}");
        assert_eq!(turn.iter().filter(|name| *name == "b").count(), 1, "{turn:?}");
    }
    let longest = names.chunk_by(|a, b| a == b).map(<[String]>::len).max();
    assert!(longest <= Some(4), "weight 5 of 7 comes in no longer rows than over a border: {names:?}");
}

#[test]
fn random_uses_everybody_by_weight() {
    let (origins, mut addresses) = origins(&["a", "b"]);
    addresses[0].push_str(";weight=3");
    let (_config, process) = balanced("RANDOM", &addresses);
    sequence(&process, 1000);
    let a = origins[0].count();
    assert_eq!(a + origins[1].count(), 1000);
    // Five standard deviations of a binomial distribution with n = 1000, p = 3/4 are 69.
    assert!((681..=819).contains(&a), "{a} of 1000");
}

#[test]
fn least_request_leaves_a_slow_host_alone() {
    let is_slow = Arc::new(AtomicBool::new(true));
    let slow = {
        let is_slow = is_slow.clone();
        Origin::start(move |connection| {
            while connection.request()?.is_some() {
                meshwright_testkit::holds_within(Duration::from_secs(10), || !is_slow.load(Ordering::SeqCst));
                connection.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")?;
            }
            Ok(())
        })
    };
    let fast = Origin::named("fast");
    let (_config, process) = balanced("LEAST_REQUEST", &[slow.address().to_string(), fast.address().to_string()]);
    // Occupy the slow host: with two hosts both are looked at for every request.
    let mut held: Vec<_> = Vec::new();
    while slow.heads() < 1 {
        let mut client = process.connect();
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        eventually("the request is with a host", || slow.heads() + fast.count() > held.len());
        held.push(client);
    }
    let names = sequence(&process, 200);
    assert!(names.iter().all(|name| name == "fast"), "{names:?}");
    assert_eq!(slow.heads(), 1);
    is_slow.store(false, Ordering::SeqCst);
    assert!(held.iter_mut().all(|client| client.response().status == 200));
    eventually("the host that is quick again gets requests", || {
        sequence(&process, 20);
        slow.count() > 1
    });
}

#[test]
fn several_workers_share_the_hosts_evenly() {
    let (origins, addresses) = origins(&["a", "b", "c", "d"]);
    let config = Config::new(&[&gateway_to("svc")]);
    let endpoints: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let process =
        Launch::run(binary!()).file(config.path()).service("svc", &endpoints).args(&["--workers", "3"]).start();
    for _ in 0..400 {
        assert_eq!(process.get("x", "/").status, 200);
    }
    let counts: Vec<usize> = origins.iter().map(Origin::count).collect();
    assert_eq!(counts.iter().sum::<usize>(), 400);
    assert!(counts.iter().all(|count| (50..=150).contains(count)), "{counts:?}");
}

/// Each worker's own turns are exact, so that each endpoint is at most one request per worker off its share; workers start
/// staggered, and a reload goes on where they were.
#[test]
fn eight_workers_are_fair_to_one_percent_over_ten_thousand_requests_and_reloads() {
    const CLIENTS: usize = 20;
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let (origins, addresses) = origins(&names);
    let rule = |generation: usize| {
        format!(
            "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: svc}}
spec:
  host: svc
  trafficPolicy:
    loadBalancer: {{simple: ROUND_ROBIN}}
    connectionPool: {{http: {{http2MaxRequests: {}}}}}
",
            10_000 + generation
        )
    };
    let config = Config::new(&[&gateway_to("svc"), &rule(1)]);
    let endpoints: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let process = Launch::run(binary!())
        .file(config.path())
        .service("svc", &endpoints)
        .args(&["--workers", "8", "--no-watch", "--access-log", "off"])
        .start();
    for generation in 1..=4 {
        if generation > 1 {
            config.replace(&[&gateway_to("svc"), &rule(generation)]);
            process.signal(meshwright_testkit::Signal::HUP);
            process.generation_becomes(generation as f64);
        }
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let mut client = process.connect();
                    (0..2_500 / CLIENTS).for_each(|_| assert_eq!(client.get("x", "/").status, 200));
                });
            }
        });
    }
    let counts: Vec<usize> = origins.iter().map(Origin::count).collect();
    assert_eq!(counts.iter().sum::<usize>(), 10_000);
    assert!(counts.iter().all(|count| (990..=1_010).contains(count)), "{counts:?}");
}
