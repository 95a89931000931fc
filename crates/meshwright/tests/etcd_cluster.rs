//! The longer tier of a shared registry: three members of etcd and two processes under load, of which any one dies, and
//! partitions that heal. `cargo test -p meshwright --test etcd_cluster -- --ignored --nocapture --test-threads 1` prints figures;
//! with `MESHWRIGHT_TEST_BINARY=target/release/meshwright`, built before, they are those of that binary.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]
#![allow(clippy::disallowed_methods, reason = "the threads of a load keep its rate")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use meshwright_testkit::{Config, Etcd, Launch, Meshwright, Origin, RawClient, Signal, binary, eventually, gateway_to};
use serde_json::json;

/// Threads that write, and the share of etcd's own rate that they write at together.
const WRITERS: usize = 64;
const SHARE: f64 = 0.5;
/// Time that each fault has to show what it does, before and after it is over.
const PHASE: Duration = Duration::from_secs(5);

/// Where a process is now; none while it is dead or does not run on purpose.
#[derive(Clone, Copy)]
struct Faces {
    admin: SocketAddr,
    gateway: SocketAddr,
}

type Places = Arc<[Mutex<Option<Faces>>; 2]>;

fn faces(process: &Meshwright) -> Faces {
    Faces { admin: process.admin(), gateway: process.gateway() }
}

struct Cluster {
    etcd: Vec<Etcd>,
    config: Config,
}

impl Cluster {
    fn start() -> Self {
        Self { etcd: Etcd::cluster(3), config: Config::new(&[&gateway_to("users")]) }
    }

    fn process(&self) -> Meshwright {
        let members: Vec<String> = self.etcd.iter().map(|member| member.address().to_string()).collect();
        let store = format!("etcd://{}", members.join(","));
        // The processes under load are another build than this test when somebody says so; a relative path begins at the workspace.
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let chosen = std::env::var("MESHWRIGHT_TEST_BINARY").map(|path| workspace.join(path).display().to_string());
        Launch::run(chosen.as_deref().unwrap_or(binary!())).file(self.config.path()).args(&["--store", &store]).start()
    }
}

/// Writes that etcd takes in a second from 16 connections, by its JSON gateway.
fn write_rate(etcd: &[Etcd]) -> f64 {
    let (count, began) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let writers: Vec<JoinHandle<()>> = (0..16)
        .map(|number: usize| {
            let (address, count) = (etcd[number % etcd.len()].address(), Arc::clone(&count));
            thread::spawn(move || {
                let mut client = RawClient::connect(address);
                // A value as large as a record: base64 of 300 bytes.
                let body = json!({ "key": "cmF0ZQ==", "value": "QUFB".repeat(100) }).to_string();
                while began.elapsed() < Duration::from_secs(3) {
                    assert_eq!(client.request("POST", "localhost", "/v3/kv/put", &[], body.as_bytes()).status, 200);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    count.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64()
}

/// Services that the load registers instances of; one alone may not have as many.
const SERVICES: usize = 32;

/// What the load found.
#[derive(Default)]
struct Findings {
    registered: Mutex<BTreeSet<String>>,
    deregistered: Mutex<BTreeSet<String>>,
    /// Writes, registrations and deregistrations together.
    acknowledged: AtomicU64,
    slowest: AtomicU64,
    requests: AtomicU64,
    failures: Mutex<Vec<String>>,
}

/// A client that keeps its connection to one process for as long as that works.
#[derive(Default)]
struct Caller {
    kept: Option<(SocketAddr, RawClient)>,
}

impl Caller {
    /// One request to the process at `index`, or to the other one; the status, when one of them answered.
    fn ask(&mut self, places: &Places, index: usize, method: &str, path: &str, body: &str) -> Option<u16> {
        for index in [index, 1 - index] {
            let Some(faces) = *places[index].lock().unwrap() else { continue };
            let kept = self.kept.take().filter(|(address, _)| *address == faces.admin);
            let client = kept.map(|(_, client)| client).or_else(|| RawClient::try_connect(faces.admin).ok());
            let Some(mut client) = client else { continue };
            client.set_patience(Duration::from_secs(8));
            if let Ok(answer) = client.try_request(method, "localhost", path, &[], body.as_bytes()) {
                self.kept = Some((faces.admin, client));
                return Some(answer.status);
            }
        }
        None
    }
}

/// Registers at a steady rate until it is told to stop; every fourth instance leaves again. What is not acknowledged is said
/// again, to either process, until it is.
fn write(number: usize, every: Duration, places: &Places, findings: &Findings, stop: &AtomicBool) {
    let body = json!({ "address": "10.0.0.1", "port": 80, "lease": { "ttl": "1h" } }).to_string();
    let (mut due, mut count) = (Instant::now(), 0_u64);
    let mut caller = Caller::default();
    let mut insist = |method: &str, path: &str, body: &str, done: &[u16]| {
        let began = Instant::now();
        let mut turn = number;
        while !caller.ask(places, turn % 2, method, path, body).is_some_and(|status| done.contains(&status)) {
            turn += 1;
            assert!(began.elapsed() < Duration::from_secs(60), "{path} is not acknowledged");
            thread::sleep(Duration::from_millis(20));
        }
        let took = u64::try_from(began.elapsed().as_millis()).unwrap();
        findings.slowest.fetch_max(took, Ordering::Relaxed);
        findings.acknowledged.fetch_add(1, Ordering::Relaxed);
    };
    while !stop.load(Ordering::Relaxed) {
        let id = format!("w{number}-{count}");
        let path = format!("/v1/services/load-{}/instances/{id}", number % SERVICES);
        insist("PUT", &path, &body, &[200, 201]);
        if count % 4 == 3 {
            // 404: an answer to it was lost.
            insist("DELETE", &path, "", &[204, 404]);
            findings.deregistered.lock().unwrap().insert(id);
            due += every;
        } else {
            findings.registered.lock().unwrap().insert(id);
        }
        count += 1;
        due += every;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// Sends requests through the gateway of a process and discovers there, for as long as it is meant to live. Both must work.
fn read(index: usize, places: &Places, findings: &Findings, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let Some(faces) = *places[index].lock().unwrap() else {
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        let one = |address: SocketAddr, path: &str| {
            let answer = RawClient::try_connect(address).map_err(|error| error.to_string()).and_then(|mut client| {
                client.try_request("GET", "localhost", path, &[], b"").map_err(|error| error.to_string())
            });
            match answer {
                Ok(answer) if answer.status == 200 => {
                    (!answer.text().contains("\"count\":0")).then_some(()).ok_or_else(|| "nobody is found".to_owned())
                }
                Ok(answer) => Err(format!("{path}: {}", answer.status)),
                Err(error) => Err(format!("{path}: {error}")),
            }
        };
        for result in [one(faces.gateway, "/"), one(faces.admin, "/discover?name=users")] {
            findings.requests.fetch_add(1, Ordering::Relaxed);
            // One that was under way when the process was killed is nobody's fault.
            let lives = || places[index].lock().unwrap().is_some_and(|now| now.admin == faces.admin);
            if let Err(failure) = result
                && lives()
            {
                findings.failures.lock().unwrap().push(failure);
            }
        }
        thread::sleep(Duration::from_millis(2));
    }
}

fn wait(time: Duration) {
    let began = Instant::now();
    eventually("the phase is over", || began.elapsed() >= time);
}

fn ids(admin: SocketAddr, service: &str) -> BTreeSet<String> {
    let path = format!("/v1/services/{service}/instances");
    let answer = RawClient::connect(admin).get("localhost", &path).json();
    let instances = answer["instances"].as_array().unwrap().iter();
    instances.map(|instance| instance["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
#[ignore = "longer tier: two minutes, and figures need the machine for themselves"]
fn any_one_process_or_member_may_die_under_load() {
    let mut cluster = Cluster::start();
    let rate = write_rate(&cluster.etcd) * SHARE;
    let origin = Origin::answers(200, &[], "hello");
    let mut processes = [Some(cluster.process()), Some(cluster.process())];
    let places: Places = Arc::new([0, 1].map(|index| Mutex::new(processes[index].as_ref().map(faces))));
    let user =
        json!({ "address": "127.0.0.1", "port": origin.address().port(), "lease": { "ttl": "10s" } }).to_string();
    assert_eq!(Caller::default().ask(&places, 0, "PUT", "/v1/services/users/instances/u", &user), Some(201));
    for process in processes.iter().flatten() {
        eventually("it is served", || process.get("localhost", "/").status == 200);
    }
    let (findings, stop) = (Arc::new(Findings::default()), Arc::new(AtomicBool::new(false)));
    let every = Duration::from_secs_f64(WRITERS as f64 / rate);
    let mut load: Vec<JoinHandle<()>> = Vec::new();
    for number in 0..WRITERS {
        let (places, findings, stop) = (Arc::clone(&places), Arc::clone(&findings), Arc::clone(&stop));
        load.push(thread::spawn(move || write(number, every, &places, &findings, &stop)));
    }
    for index in 0..2 {
        let (places, findings, stop) = (Arc::clone(&places), Arc::clone(&findings), Arc::clone(&stop));
        load.push(thread::spawn(move || read(index, &places, &findings, &stop)));
    }
    // The one that requests go to renews until everything was looked at.
    let (renewing, over) = (Arc::clone(&places), Arc::new(AtomicBool::new(false)));
    let looked_at = Arc::clone(&over);
    let renewal = thread::spawn(move || {
        let mut caller = Caller::default();
        while !looked_at.load(Ordering::Relaxed) {
            caller.ask(&renewing, 0, "POST", "/v1/services/users/instances/u/renew", "{}");
            thread::sleep(Duration::from_millis(500));
        }
    });
    let began = Instant::now();
    let (mut counted, mut since) = (0, began);
    let mut said = |what: &str| {
        let (acknowledged, now) = (findings.acknowledged.load(Ordering::Relaxed), Instant::now());
        let rate = (acknowledged - counted) as f64 / (now - since).as_secs_f64();
        let slowest = findings.slowest.swap(0, Ordering::Relaxed);
        println!(
            "{:>6.1} s  {what}: {rate:.0} writes/s acknowledged, slowest write {slowest} ms",
            began.elapsed().as_secs_f64()
        );
        (counted, since) = (acknowledged, now);
    };
    wait(PHASE);
    said("nothing died");
    for number in 0..3 {
        cluster.etcd[number].kill();
        wait(PHASE);
        cluster.etcd[number].restart();
        wait(PHASE);
        said(&format!("member {number} of etcd was killed and came back"));
    }
    for index in 0..2 {
        *places[index].lock().unwrap() = None;
        processes[index].as_ref().unwrap().signal(Signal::KILL);
        processes[index] = None;
        wait(2 * PHASE);
        let process = cluster.process();
        *places[index].lock().unwrap() = Some(faces(&process));
        processes[index] = Some(process);
        wait(PHASE);
        said(&format!("process {index} was killed, and another one came"));
    }
    let average = findings.acknowledged.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    load.into_iter().for_each(|thread| thread.join().unwrap());
    let (registered, deregistered) = (findings.registered.lock().unwrap(), findings.deregistered.lock().unwrap());
    let (requests, failures) = (findings.requests.load(Ordering::Relaxed), findings.failures.lock().unwrap());
    println!(
        "etcd takes {:.0} writes/s; half of it is {rate:.0}/s; {average:.0} writes/s were acknowledged on average; {} instances \
         registered, {} left again; {requests} requests and discoveries, {} failed",
        rate / SHARE,
        registered.len(),
        deregistered.len(),
        failures.len()
    );
    assert!(failures.is_empty(), "{failures:?}");
    let late = cluster.process();
    for process in processes.iter().flatten().chain([&late]) {
        eventually("it has all that was acknowledged, and nothing else", || {
            let ids = (0..SERVICES).flat_map(|service| ids(process.admin(), &format!("load-{service}")));
            ids.collect::<BTreeSet<_>>() == *registered
        });
        assert_eq!(process.get("localhost", "/").status, 200);
    }
    over.store(true, Ordering::Relaxed);
    renewal.join().unwrap();
}

#[test]
#[ignore = "longer tier: a minute"]
fn a_partition_heals_without_mass_eviction() {
    const EACH: usize = 40;
    let cluster = Cluster::start();
    let processes = [cluster.process(), cluster.process()];
    let body = json!({ "address": "10.0.0.1", "port": 80, "lease": { "ttl": "6s" } }).to_string();
    let expected: BTreeSet<String> =
        (0..2).flat_map(|index| (0..EACH).map(move |id| format!("p{index}-{id}"))).collect();
    let path = |id: &str| format!("/v1/services/many/instances/{id}");
    let at = |id: &str| processes[usize::from(id.starts_with("p1"))].admin();
    for id in &expected {
        let answer = RawClient::connect(at(id)).request("PUT", "localhost", &path(id), &[], body.as_bytes());
        assert_eq!(answer.status, 201);
    }
    // Each instance reaches only the process that it registered at.
    let stop = Arc::new(AtomicBool::new(false));
    let renewing: Vec<JoinHandle<usize>> = processes
        .iter()
        .enumerate()
        .map(|(index, process)| {
            let (admin, stop) = (process.admin(), Arc::clone(&stop));
            thread::spawn(move || {
                let mut forgotten = 0;
                while !stop.load(Ordering::Relaxed) {
                    for id in 0..EACH {
                        let path = format!("/v1/services/many/instances/p{index}-{id}/renew");
                        let Ok(mut client) = RawClient::try_connect(admin) else { continue };
                        client.set_patience(Duration::from_secs(30));
                        let answer = client.try_request("POST", "localhost", &path, &[], b"{}");
                        forgotten += usize::from(answer.is_ok_and(|answer| answer.status == 404));
                    }
                    thread::sleep(Duration::from_millis(500));
                }
                forgotten
            })
        })
        .collect();
    let all_there = |what: &str, process: &Meshwright, time: Duration| {
        let (began, mut fewest) = (Instant::now(), usize::MAX);
        eventually(what, || {
            fewest = fewest.min(ids(process.admin(), "many").len());
            began.elapsed() >= time
        });
        println!("{what}: {fewest} of {} instances at the least", expected.len());
        fewest
    };
    // Two leave before what is lost with them is taken for our own fault.
    let most_lost = 2;
    processes[1].signal(Signal::STOP);
    let fewest = all_there("a process stands still", &processes[0], Duration::from_secs(17));
    assert!(fewest >= expected.len() - most_lost, "{fewest}");
    processes[1].signal(Signal::CONT);
    for process in &processes {
        assert!(all_there("it goes on", process, Duration::from_secs(8)) >= expected.len() - most_lost);
    }
    for member in &cluster.etcd {
        member.signal(Signal::STOP);
    }
    assert!(all_there("etcd stands still", &processes[0], Duration::from_secs(12)) >= expected.len() - most_lost);
    for member in &cluster.etcd {
        member.signal(Signal::CONT);
    }
    for process in &processes {
        assert!(all_there("etcd goes on", process, Duration::from_secs(10)) >= expected.len() - most_lost);
    }
    stop.store(true, Ordering::Relaxed);
    let forgotten: usize = renewing.into_iter().map(|thread| thread.join().unwrap()).sum();
    println!("{forgotten} renewals were told to register again");
    let answer =
        RawClient::connect(processes[1].admin()).request("PUT", "localhost", &path("new"), &[], body.as_bytes());
    assert_eq!(answer.status, 201, "it can be written to");
}
