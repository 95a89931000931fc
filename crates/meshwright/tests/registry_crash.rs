//! The registry under `strace`: every acknowledgement comes after its sync; killed at any system call it loses nothing that
//! was acknowledged and brings nothing back that was deregistered; and a disk that fails makes writes fail, and nothing else.
//!
//! The same on a simulated disk that also forgets what was not synced is in `crates/catalog/src/disk/tests.rs`; the same for keys in
//! `keys_crash.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

#[path = "support/strace.rs"]
mod strace;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use meshwright_catalog::Catalog;
use meshwright_registry::{Action, Expected, Instance, InstanceKey, Limits, Proposal, Reason, ServiceKey};
use meshwright_testkit::{Config, Launch, Meshwright, RawClient, Response, Signal, binary, gateway_to};
use serde_json::{Value, json};
use strace::{Life, reopened};

/// What is registered: ids with the value of their metadata `n`.
type State = BTreeMap<String, u64>;

/// One request that changes something, or only renews.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Register(u16, u64),
    Renew(u16),
    Deregister(u16),
    /// Ports from, to and the value, in one batch.
    Batch(u16, u16, u64),
}

const LIFE: [Deed; 9] = [
    Deed::Register(1, 1),
    Deed::Register(2, 1),
    Deed::Renew(1),
    Deed::Register(1, 2),
    Deed::Deregister(2),
    Deed::Batch(10, 60, 3),
    Deed::Deregister(1),
    Deed::Register(2, 4),
    Deed::Deregister(10),
];

impl Deed {
    fn request(self) -> (&'static str, Value) {
        let small = |port: u16| json!({ "name": "users", "address": "10.0.0.1", "port": port });
        let instance =
            |port: u16, n: u64| json!({ "address": "10.0.0.1", "port": port, "metadata": { "n": n.to_string() } });
        match self {
            Self::Register(port, n) => {
                let mut body = small(port);
                body["metadata"] = json!({ "n": n.to_string() });
                ("/register", body)
            }
            Self::Renew(port) => ("/heartbeat", small(port)),
            Self::Deregister(port) => ("/deregister", small(port)),
            Self::Batch(from, to, n) => {
                let operation = |port| json!({ "op": "register", "service": "users", "instance": instance(port, n) });
                ("/v1/batch", json!({ "operations": (from..to).map(operation).collect::<Vec<_>>() }))
            }
        }
    }

    fn apply(self, state: &mut State) {
        let id = |port: u16| format!("10.0.0.1:{port}");
        match self {
            Self::Register(port, n) => drop(state.insert(id(port), n)),
            Self::Renew(_) => {}
            Self::Deregister(port) => drop(state.remove(&id(port))),
            Self::Batch(from, to, n) => state.extend((from..to).map(|port| (id(port), n))),
        }
    }

    /// The answer, or none when the process is gone.
    fn send(self, process: &Meshwright) -> Option<Response> {
        let (path, body) = self.request();
        let mut client = RawClient::try_connect(process.admin()).ok()?;
        client.try_request("POST", "localhost", path, &[], body.to_string().as_bytes()).ok()
    }
}

/// The binary with its registry in `data`, under `strace` with these options.
fn traced(config: &Config, data: &Path, options: &[&str]) -> Launch {
    let data = data.to_str().unwrap();
    strace::traced(Launch::run(binary!()).file(config.path()).args(&["--data", data]), options)
}

/// `strace` options that make `syscall` do `what` from its `when`-th time on the registry's own files.
fn tampering(data: &Path, syscall: &str, what: &str, when: &str) -> Vec<String> {
    strace::tampering((data, "registry.redb"), syscall, what, when)
}

fn start(config: &Config, data: &Path, options: &[String]) -> Meshwright {
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    traced(config, data, &options).start()
}

/// What the file in `data` holds.
fn kept(data: &Path) -> State {
    let catalog = reopened(|| Catalog::open(data, Limits::default()));
    catalog.read(|registry| {
        let entries = registry.services().flat_map(|(_, service)| service.instances());
        entries
            .map(|entry| (entry.key.id().to_owned(), entry.instance.metadata.get("n").unwrap().parse().unwrap()))
            .collect()
    })
}

/// What the process shows.
fn shown(process: &Meshwright) -> State {
    let list = process.admin_get("/v1/services/users/instances").json();
    let entries = list["instances"].as_array().unwrap().iter();
    let of = |entry: &Value| {
        (entry["id"].as_str().unwrap().to_owned(), entry["metadata"]["n"].as_str().unwrap().parse().unwrap())
    };
    entries.map(of).collect()
}

fn gateway() -> Config {
    Config::new(&[&gateway_to("users")])
}

/// Kills the process at the `when`-th such call; false when it lived to the end.
fn killed_at(syscall: &str, when: usize) -> bool {
    let (config, folder) = (gateway(), tempfile::tempdir().unwrap());
    let data = folder.path().canonicalize().unwrap();
    let process = start(&config, &data, &tampering(&data, syscall, "signal=KILL", &when.to_string()));
    let life = Life::of(process, &LIFE, Deed::apply, Deed::send);
    life.check(&kept(&data), &format!("{syscall} {when}"));
    life.killed
}

#[test]
fn i3_killed_at_some_system_calls_it_loses_nothing_that_was_acknowledged() {
    for (syscall, when) in [
        ("pwrite64", 2),
        ("pwrite64", 12),
        ("fdatasync", 1),
        ("fdatasync", 7),
        ("fdatasync", 8),
        ("rename", 1),
        ("fsync", 1),
    ] {
        assert!(killed_at(syscall, when), "{syscall} {when} was not reached");
    }
}

#[test]
#[ignore = "a process for every system call takes minutes"]
fn i3_killed_at_every_system_call_it_loses_nothing_that_was_acknowledged() {
    for syscall in ["pwrite64", "fdatasync", "ftruncate", "rename", "fsync", "openat"] {
        let kills = (1..400).take_while(|when| killed_at(syscall, *when)).count();
        println!("{kills} kills at {syscall}");
        assert!(kills > 0 && kills < 399, "{kills} kills at {syscall}");
    }
}

/// The disk fails with `error` from the `when`-th such call, once or for ever. Writes say so, and nothing else suffers; once
/// it works again, writing goes on.
fn fails_at(syscall: &str, error: &str, (when, for_ever): (usize, bool)) -> bool {
    let (config, folder) = (gateway(), tempfile::tempdir().unwrap());
    let data = folder.path().canonicalize().unwrap();
    let when = format!("{when}{}", if for_ever { "+" } else { "" });
    let mut process = start(&config, &data, &tampering(&data, syscall, &format!("error={error}"), &when));
    let (mut state, mut failed) = (State::new(), false);
    'life: for deed in LIFE {
        for attempt in 0.. {
            let answer = deed.send(&process).unwrap_or_else(|| panic!("{syscall} {error} {when}: it ended"));
            if answer.status == 200 {
                break;
            }
            failed = true;
            assert_eq!(answer.status, 503, "{syscall} {error} {when}, {deed:?}: {}", answer.text());
            assert_eq!(answer.header("retry-after"), Some("1"));
            assert!(answer.text().contains("cannot be written to"), "{}", answer.text());
            assert_eq!(shown(&process), state, "nothing is half there");
            let trouble = process.admin_get("/v1/status").json()["trouble"].as_str().unwrap_or_default().to_owned();
            assert!(trouble.contains("os error") || trouble.contains("I/O"), "{trouble:?}");
            if let Some(id) = state.keys().next() {
                let port = id.rsplit(':').next().unwrap().parse().unwrap();
                assert_eq!(Deed::Renew(port).send(&process).unwrap().status, 200, "renewals need no disk");
            }
            if for_ever {
                break 'life;
            }
            assert!(attempt < 5, "{syscall} {error} {when}: it does not recover");
        }
        deed.apply(&mut state);
        assert_eq!(shown(&process), state);
    }
    process.signal(Signal::KILL);
    process.wait_exit();
    let mut found = kept(&data);
    if for_ever && found != state {
        // The change that was answered 503 may be there, whole.
        let next = LIFE.iter().scan(State::new(), |state, deed| {
            deed.apply(state);
            Some(state.clone())
        });
        let mut pairs = next.clone().zip(next.skip(1));
        let there = state.is_empty() || pairs.any(|(before, after)| before == state && after == found);
        assert!(there, "{syscall} {error} {when}: {found:?}");
        found = state.clone();
    }
    assert_eq!(found, state, "{syscall} {error} {when}");
    failed
}

#[test]
fn i4_a_disk_that_fails_makes_writes_answer_503_and_nothing_else_fails() {
    for (syscall, error, when, for_ever) in [
        ("fdatasync", "EIO", 1, false),
        ("fdatasync", "EIO", 8, false),
        ("pwrite64", "ENOSPC", 12, false),
        ("pwrite64", "ENOSPC", 16, true),
        ("rename", "EIO", 1, false),
    ] {
        assert!(fails_at(syscall, error, (when, for_ever)), "{syscall} {when} was not reached");
    }
}

#[test]
#[ignore = "a process for every system call and error takes minutes"]
fn i4_at_every_system_call_a_failing_disk_makes_writes_answer_503_and_nothing_else_fails() {
    for (syscall, error) in [
        ("pwrite64", "EIO"),
        ("pwrite64", "ENOSPC"),
        ("fdatasync", "EIO"),
        ("fdatasync", "ENOSPC"),
        ("ftruncate", "ENOSPC"),
        ("rename", "EIO"),
        ("fsync", "EIO"),
    ] {
        for for_ever in [false, true] {
            let failures = (1..400).take_while(|when| fails_at(syscall, error, (*when, for_ever))).count();
            println!("{failures} times {error} at {syscall}");
            assert!(failures > 0 && failures < 399, "{failures} times {error} at {syscall}");
        }
    }
}

/// A mostly empty file of more than 16 MiB, which a start makes small, and what is in it.
fn large_file() -> (Vec<u8>, State) {
    let data = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(data.path(), Limits::default()).unwrap();
    let key = |id: u16| InstanceKey::new(ServiceKey::new("", "users").unwrap(), &format!("10.0.0.1:{id}")).unwrap();
    let propose = |id, action| Proposal { key: key(id), expected: Expected::Any, action };
    let register = |id: u16| {
        let mut instance = Instance::new("10.0.0.1", id);
        instance.metadata = (0..6).map(|entry| (format!("padding{entry}"), "x".repeat(4000))).collect();
        instance.metadata.insert("n", &id.to_string());
        propose(id, Action::Register(Box::new(instance)))
    };
    let remove = |id| propose(id, Action::Remove(Reason::Deregistered));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for proposals in [(0..800).map(register).collect::<Vec<_>>(), (5..800).map(remove).collect()] {
        assert!(runtime.block_on(catalog.propose(proposals)).unwrap().iter().all(Result::is_ok));
    }
    let bytes = std::fs::read(data.path().join("registry.redb")).unwrap();
    assert!(bytes.len() > 16 << 20, "{} bytes", bytes.len());
    (bytes, (0..5_u16).map(|id| (format!("10.0.0.1:{id}"), u64::from(id))).collect())
}

/// Kills a process that makes its file smaller at the `when`-th such call; false when it lived to serve.
fn killed_while_compacting(large: &(Vec<u8>, State), syscall: &str, when: usize) -> bool {
    let (config, folder) = (gateway(), tempfile::tempdir().unwrap());
    let data = folder.path().canonicalize().unwrap();
    std::fs::write(data.join("registry.redb"), &large.0).unwrap();
    let options = tampering(&data, syscall, "signal=KILL", &when.to_string());
    let started = std::panic::catch_unwind(|| start(&config, &data, &options));
    let killed = started.is_err();
    drop(started);
    if !killed {
        let size = std::fs::metadata(data.join("registry.redb")).unwrap().len();
        assert!(size < 1 << 20, "it is still {size} bytes");
    }
    assert_eq!(kept(&data), large.1, "{syscall} {when}");
    killed
}

#[test]
fn i3_killed_while_it_makes_its_file_smaller_it_loses_nothing() {
    let large = large_file();
    for (syscall, when) in [("fdatasync", 5), ("rename", 1), ("fsync", 1)] {
        assert!(killed_while_compacting(&large, syscall, when), "{syscall} {when} was not reached");
    }
    assert!(!killed_while_compacting(&large, "rename", 2));
}

#[test]
#[ignore = "a process for every system call takes minutes"]
fn i3_killed_at_every_system_call_of_making_its_file_smaller_it_loses_nothing() {
    let large = large_file();
    for syscall in ["pwrite64", "fdatasync", "ftruncate", "rename", "fsync"] {
        let kills = (1..400).take_while(|when| killed_while_compacting(&large, syscall, *when)).count();
        println!("{kills} kills at {syscall}");
        assert!(kills > 0 && kills < 399, "{kills} kills at {syscall}");
    }
}

#[test]
fn every_acknowledgement_comes_after_the_sync_of_its_change() {
    let (config, folder) = (gateway(), tempfile::tempdir().unwrap());
    let data = folder.path().join("data");
    let log = folder.path().join("strace");
    let calls = "--trace=pwrite64,fdatasync,fsync,ftruncate,rename,recvfrom,writev,sendto";
    let options = ["-y", "-s", "40", calls, "-o", log.to_str().unwrap()];
    let mut process = traced(&config, &data, &options).start();
    for deed in LIFE {
        assert_eq!(deed.send(&process).unwrap().status, 200, "{deed:?}");
    }
    process.signal(Signal::KILL);
    process.wait_exit();
    let complete = |text: &str| text.contains("+++ killed by SIGKILL +++");
    let end = Instant::now() + Duration::from_secs(20);
    while !complete(&std::fs::read_to_string(&log).unwrap()) && Instant::now() < end {
        std::thread::yield_now();
    }
    let text = std::fs::read_to_string(&log).unwrap();
    let (mut requests, mut acknowledgements) = (0, 0);
    // What was written or renamed and not synced yet, and syncs since the last request.
    let (mut unsynced, mut syncs) = (0, 0);
    for line in text.lines() {
        let file = line.contains("registry.redb");
        if line.contains("recvfrom(") && line.contains("\"POST ") {
            (requests, syncs) = (requests + 1, 0);
        } else if line.contains("rename(") || (file && (line.contains("pwrite64(") || line.contains("ftruncate("))) {
            unsynced += 1;
        } else if (line.contains("sync(") || line.contains("sync resumed>")) && line.contains(" = 0") {
            (unsynced, syncs) = (0, syncs + 1);
        } else if line.contains("\"HTTP/1.1 200 OK") {
            let deed = LIFE[acknowledgements];
            acknowledgements += 1;
            assert_eq!(requests, acknowledgements, "one after the other");
            assert_eq!(unsynced, 0, "{deed:?} is acknowledged before it is synced:\n{line}");
            match deed {
                Deed::Renew(_) => assert_eq!(syncs, 0, "a renewal needs no disk"),
                _ => assert!(syncs > 0, "{deed:?} is acknowledged without a sync:\n{line}"),
            }
        }
    }
    assert_eq!(acknowledgements, LIFE.len(), "{text:.2000}");
}

#[test]
fn a_second_process_on_the_same_directory_ends_with_a_sentence_that_says_who_has_it() {
    let (config, folder) = (gateway(), tempfile::tempdir().unwrap());
    let data = folder.path().to_str().unwrap();
    let launch = || Launch::run(binary!()).file(config.path()).args(&["--data", data]);
    let first = launch().start();
    let (code, _, errors) = launch().output();
    let sentence = format!("is in use by process {}; give each process its own with --data", first.id());
    assert!(code != 0 && errors.contains(&sentence), "{code}: {errors}");
}

#[test]
fn i6_a_damaged_file_ends_the_start_with_a_sentence_that_names_it_and_what_can_be_done() {
    let (config, folder) = (gateway(), tempfile::tempdir().unwrap());
    let file = folder.path().join("registry.redb");
    std::fs::write(&file, vec![7; 100_000]).unwrap();
    let data = folder.path().to_str().unwrap();
    let (code, _, errors) = Launch::run(binary!()).file(config.path()).args(&["--data", data]).output();
    assert!(code != 0 && !errors.contains("panicked"), "{code}: {errors}");
    assert!(errors.contains(file.to_str().unwrap()) && errors.contains("move it away"), "{errors}");
}
