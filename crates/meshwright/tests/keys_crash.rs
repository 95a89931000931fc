//! Keys and sessions under `strace`: killed at any system call on their file the process loses nothing that was acknowledged, and brings
//! nothing back that was deleted, unlocked or ended; and a disk that fails makes their writes fail, and nothing else.
//!
//! The same for the registry is in `registry_crash.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

#[path = "support/strace.rs"]
mod strace;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use meshwright_catalog::{Catalog, Keyspace};
use meshwright_registry::{KeyLimits, Limits};
use meshwright_testkit::{Config, Launch, Meshwright, RawClient, Response, Signal, binary, gateway_to};
use serde_json::{Value, json};
use strace::{Life, reopened, tampering, traced};

/// What is kept: keys with the length of their value and the name of the session that has them locked, and sessions by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    keys: BTreeMap<String, (usize, Option<String>)>,
    sessions: BTreeSet<String>,
}

/// One request that changes something.
#[derive(Clone, Copy, Debug)]
enum Deed {
    /// A key and the bytes of its value.
    Put(&'static str, usize),
    Delete(&'static str),
    Begin(&'static str, &'static str),
    /// A key and a session.
    Lock(&'static str, &'static str),
    Unlock(&'static str, &'static str),
    End(&'static str),
    /// Sets `t/0` to `t/9`, and deletes a key.
    Transaction(&'static str),
    DeleteTree(&'static str),
}

const LIFE: [Deed; 13] = [
    Deed::Put("a", 1),
    Deed::Put("b", 100_000),
    Deed::Begin("keeps", "release"),
    Deed::Lock("a", "keeps"),
    Deed::Begin("deletes", "delete"),
    Deed::Lock("c", "deletes"),
    Deed::Put("a", 2),
    Deed::Transaction("b"),
    Deed::End("deletes"),
    Deed::DeleteTree("t/"),
    Deed::Unlock("a", "keeps"),
    Deed::Delete("a"),
    Deed::End("keeps"),
];

impl Deed {
    fn apply(self, state: &mut State) {
        match self {
            Self::Put(key, length) => state.keys.entry(key.to_owned()).or_default().0 = length,
            Self::Delete(key) => drop(state.keys.remove(key)),
            Self::Begin(name, _) => drop(state.sessions.insert(name.to_owned())),
            Self::Lock(key, name) => drop(state.keys.insert(key.to_owned(), (0, Some(name.to_owned())))),
            Self::Unlock(key, _) => drop(state.keys.insert(key.to_owned(), (0, None))),
            Self::End(name) => {
                state.sessions.remove(name);
                state.keys.retain(|_, (_, owner)| name != "deletes" || owner.as_deref() != Some(name));
                state.keys.values_mut().filter(|key| key.1.as_deref() == Some(name)).for_each(|key| key.1 = None);
            }
            Self::Transaction(key) => {
                state.keys.extend((0..10).map(|number| (format!("t/{number}"), (3, None))));
                state.keys.remove(key);
            }
            Self::DeleteTree(prefix) => state.keys.retain(|key, _| !key.starts_with(prefix)),
        }
    }

    fn request(self, ids: &BTreeMap<String, String>) -> (&'static str, String, String) {
        match self {
            Self::Put(key, length) => ("PUT", format!("/v1/kv/{key}"), "x".repeat(length)),
            Self::Delete(key) => ("DELETE", format!("/v1/kv/{key}"), String::new()),
            Self::Begin(name, behavior) => {
                let body = json!({ "Name": name, "Behavior": behavior, "LockDelay": "0s" });
                ("PUT", "/v1/session/create".to_owned(), body.to_string())
            }
            Self::Lock(key, name) => ("PUT", format!("/v1/kv/{key}?acquire={}", ids[name]), String::new()),
            Self::Unlock(key, name) => ("PUT", format!("/v1/kv/{key}?release={}", ids[name]), String::new()),
            Self::End(name) => ("PUT", format!("/v1/session/destroy/{}", ids[name]), String::new()),
            Self::Transaction(key) => {
                let set = |number| json!({ "KV": { "Verb": "set", "Key": format!("t/{number}"), "Value": "eHh4" } });
                let mut operations: Vec<Value> = (0..10).map(set).collect();
                operations.push(json!({ "KV": { "Verb": "delete", "Key": key } }));
                ("PUT", "/v1/txn".to_owned(), json!(operations).to_string())
            }
            Self::DeleteTree(prefix) => ("DELETE", format!("/v1/kv/{prefix}?recurse"), String::new()),
        }
    }

    /// The answer, or none when the process is gone. Sessions that begin go into `ids`.
    fn send(self, process: &Meshwright, ids: &mut BTreeMap<String, String>) -> Option<Response> {
        let (method, path, body) = self.request(ids);
        let mut client = RawClient::try_connect(process.consul()).ok()?;
        let answer = client.try_request(method, "localhost", &path, &[], body.as_bytes()).ok()?;
        if answer.status == 200 {
            assert_ne!(answer.text(), "false", "{self:?}");
            if let Self::Begin(name, _) = self {
                ids.insert(name.to_owned(), answer.json()["ID"].as_str().unwrap().to_owned());
            }
        }
        Some(answer)
    }
}

/// The process whose keys lie in `data`, where `syscall` does `what` from the `when`-th time on.
fn start(data: &Path, syscall: &str, what: &str, when: &str) -> Meshwright {
    let config = Config::new(&[&gateway_to("users")]);
    let options = tampering((&data.join("keys"), "keys.redb"), syscall, what, when);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let arguments = ["--data", data.to_str().unwrap(), "--consul", "127.0.0.1:0"];
    traced(Launch::run(binary!()).file(config.path()).args(&arguments), &options).start()
}

/// What the file in `data` holds.
fn kept(data: &Path) -> State {
    let open = || Keyspace::open(Catalog::in_memory(Limits::default(), 0), data, KeyLimits::default());
    reopened(open).read(|keys| {
        let name = |id: &str| keys.session(id).map(|session| session.name.clone()).unwrap();
        let pairs = keys.with_prefix("");
        let pairs = pairs.map(|pair| (pair.key.to_string(), (pair.value.len(), pair.session.as_deref().map(name))));
        State { keys: pairs.collect(), sessions: keys.sessions().map(|session| session.name.clone()).collect() }
    })
}

/// Kills the process at the `when`-th such call; false when it lived to the end.
fn killed_at(syscall: &str, when: usize) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().canonicalize().unwrap();
    let (process, mut ids) = (start(&data, syscall, "signal=KILL", &when.to_string()), BTreeMap::new());
    let life = Life::of(process, &LIFE, Deed::apply, |deed, process| deed.send(process, &mut ids));
    life.check(&kept(&data), &format!("{syscall} {when}"));
    life.killed
}

/// The disk fails with `error` at the `when`-th such call. Writes say so and change nothing, and then go on.
fn fails_at(syscall: &str, error: &str, when: usize) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().canonicalize().unwrap();
    let mut process = start(&data, syscall, &format!("error={error}"), &when.to_string());
    let (mut state, mut ids, mut failed) = (State::default(), BTreeMap::new(), false);
    for deed in LIFE {
        for attempt in 0.. {
            let answer = deed.send(&process, &mut ids);
            let answer = answer.unwrap_or_else(|| panic!("{syscall} {error} {when}: it ended"));
            if answer.status == 200 {
                break;
            }
            failed = true;
            assert_eq!(answer.status, 503, "{syscall} {error} {when}, {deed:?}: {}", answer.text());
            assert_eq!(answer.header("retry-after"), Some("1"));
            let mut client = RawClient::connect(process.consul());
            let names = client.get("localhost", "/v1/kv/?keys").json();
            assert_eq!(names, json!(state.keys.keys().collect::<Vec<_>>()), "nothing is half there");
            assert!(attempt < 5, "{syscall} {error} {when}: it does not recover");
        }
        deed.apply(&mut state);
    }
    process.signal(Signal::KILL);
    process.wait_exit();
    assert_eq!(kept(&data), state, "{syscall} {error} {when}");
    failed
}

#[test]
fn i3_killed_at_some_system_calls_it_loses_no_key_that_was_acknowledged() {
    for (syscall, when) in [("pwrite64", 3), ("pwrite64", 40), ("fdatasync", 9), ("fdatasync", 20), ("rename", 1)] {
        assert!(killed_at(syscall, when), "{syscall} {when} was not reached");
    }
}

#[test]
fn i4_a_disk_that_fails_once_makes_a_write_of_a_key_answer_503_and_the_next_one_goes_on() {
    for (syscall, error, when) in [("fdatasync", "EIO", 8), ("pwrite64", "ENOSPC", 30)] {
        assert!(fails_at(syscall, error, when), "{syscall} {when} was not reached");
    }
}

#[test]
#[ignore = "a process for every system call takes minutes"]
fn i3_killed_at_every_system_call_it_loses_no_key_that_was_acknowledged() {
    for syscall in ["pwrite64", "fdatasync", "ftruncate", "rename", "fsync", "openat"] {
        let kills = (1..600).take_while(|when| killed_at(syscall, *when)).count();
        println!("{kills} kills at {syscall}");
        assert!(kills > 0 && kills < 599, "{kills} kills at {syscall}");
    }
}

#[test]
#[ignore = "a process for every system call and error takes minutes"]
fn i4_at_every_system_call_a_failing_disk_makes_writes_of_keys_answer_503_and_nothing_is_lost() {
    for (syscall, error) in [
        ("pwrite64", "EIO"),
        ("pwrite64", "ENOSPC"),
        ("fdatasync", "EIO"),
        ("ftruncate", "ENOSPC"),
        ("rename", "EIO"),
        ("fsync", "EIO"),
    ] {
        let failures = (1..600).take_while(|when| fails_at(syscall, error, *when)).count();
        println!("{failures} times {error} at {syscall}");
        assert!(failures > 0 && failures < 599, "{failures} times {error} at {syscall}");
    }
}
