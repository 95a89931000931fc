//! Keys and sessions where they are kept: on disk beside the registry, and in etcd, where processes share them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::connect;
use meshwright_catalog::{Catalog, KeyError, Keyspace, OpenError};
use meshwright_registry::{Behavior, KeyAction, KeyLimits, KeyRefusal, KeyScope, KeyStep, Keys, Limits, Lock, Session};
use meshwright_testkit::{Etcd, PATIENCE};

fn put(key: &str, value: &[u8], cas: Option<u64>, lock: Lock) -> KeyAction {
    KeyAction::Put { key: key.into(), value: value.into(), flags: 7, cas, lock }
}

fn open(id: &str, ttl: Option<u64>, delay: u64, behavior: Behavior) -> KeyAction {
    KeyAction::Open(Box::new(Session {
        id: id.into(),
        name: "test".into(),
        lock_delay: Duration::from_secs(delay),
        behavior,
        ttl: ttl.map(Duration::from_secs),
        node_checks: vec!["serfHealth".into()],
        checks: Vec::new(),
        created: 0,
        modified: 0,
    }))
}

fn close(id: &str) -> KeyAction {
    KeyAction::Close { id: id.into(), unrenewed: None }
}

async fn acquire(keys: &Keyspace, key: &str, id: &str) -> bool {
    keys.propose(put(key, id.as_bytes(), None, Lock::Acquire(id.into()))).await.unwrap()
}

fn value(keys: &Keyspace, key: &str) -> Option<Vec<u8>> {
    keys.read(|keys| keys.pair(key).map(|pair| pair.value.to_vec()))
}

fn on_disk(directory: &std::path::Path) -> Result<Keyspace, OpenError> {
    Keyspace::open(Catalog::in_memory(Limits::default(), 0), directory, KeyLimits::default())
}

/// Opens the keys once the process before has given them back; its writer may take a moment to end.
async fn reopened(directory: &std::path::Path) -> Keyspace {
    let end = Instant::now() + PATIENCE;
    loop {
        match on_disk(directory) {
            Ok(keys) => return keys,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn keys_sessions_locks_and_delays_survive_a_restart_and_one_process_has_them_at_one_time() {
    let directory = tempfile::tempdir().unwrap();
    let keys = on_disk(directory.path()).unwrap();
    assert!(!directory.path().join("keys").exists(), "nothing is made before something is written");
    for id in ["a", "b"] {
        assert!(keys.propose(open(id, Some(60), 60, Behavior::Release)).await.unwrap());
    }
    let bytes: Vec<u8> = (0..=255).collect();
    assert!(keys.propose(put("x/ä", &bytes, Some(0), Lock::Keep)).await.unwrap());
    assert!(keys.propose(put("gone", b"", None, Lock::Keep)).await.unwrap());
    assert!(keys.propose(KeyAction::Delete { key: "gone".into(), cas: None }).await.unwrap());
    assert!(acquire(&keys, "held", "a").await && acquire(&keys, "free", "b").await);
    keys.propose(close("b")).await.unwrap();
    let before = keys.read(|keys| keys.with_prefix("").map(|pair| (**pair).clone()).collect::<Vec<_>>());
    let revision = keys.read(Keys::revision);
    assert!(matches!(on_disk(directory.path()), Err(OpenError::InUse { .. })));
    drop(keys);
    let keys = reopened(directory.path()).await;
    let after = keys.read(|keys| keys.with_prefix("").map(|pair| (**pair).clone()).collect::<Vec<_>>());
    assert_eq!(after, before);
    assert_eq!(keys.read(Keys::revision), revision);
    assert_eq!(keys.read(|keys| keys.sessions().map(|session| session.id.to_string()).collect::<Vec<_>>()), ["a"]);
    assert!(keys.renew("a").await.unwrap().is_some() && keys.renew("b").await.unwrap().is_none());
    keys.propose(open("c", None, 0, Behavior::Delete)).await.unwrap();
    assert!(!acquire(&keys, "held", "c").await, "it is locked still");
    assert!(!acquire(&keys, "free", "c").await, "and the delay of the other is not forgotten");
    assert!(acquire(&keys, "new", "c").await);
}

fn set(key: &str, value: &[u8]) -> KeyStep {
    KeyStep::Put { key: key.into(), value: value.into(), flags: 0, cas: None, lock: Lock::Keep }
}

#[tokio::test]
async fn a_transaction_is_on_disk_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let keys = on_disk(directory.path()).unwrap();
    let steps = vec![set("a", b"1"), set("b", b"2"), KeyStep::Delete { key: "a".into(), cas: None }, set("c", b"3")];
    let shown = keys.transact(steps).await.unwrap().unwrap();
    let revision = keys.read(Keys::revision);
    assert!(shown.iter().all(|shown| shown.pair.modified == revision));
    let failed = keys.transact(vec![set("d", b"4"), KeyStep::CheckAbsent("b".into())]).await.unwrap().unwrap_err();
    assert_eq!(failed[0].step, 1);
    drop(keys);
    let keys = reopened(directory.path()).await;
    let kept = keys.read(|keys| keys.with_prefix("").map(|pair| pair.key.to_string()).collect::<Vec<_>>());
    assert_eq!((kept, keys.read(Keys::revision)), (vec!["b".to_owned(), "c".to_owned()], revision));
}

#[tokio::test]
async fn a_damaged_file_of_keys_is_refused_with_its_name_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys/keys.redb");
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    std::fs::write(&path, b"not a store at all").unwrap();
    let error = on_disk(directory.path()).map(|_| ()).unwrap_err().to_string();
    assert!(
        error.contains("the keys file") && error.contains("keys.redb") && error.contains("move it away"),
        "{error}"
    );
}

/// A process that shares the keys of `etcd`, with its clocks.
async fn process(address: SocketAddr) -> Keyspace {
    let catalog = connect(address).await;
    let keys = Keyspace::shared(&catalog).unwrap();
    tokio::spawn(catalog.run(std::future::pending()));
    tokio::spawn(keys.clone().run(std::future::pending()));
    keys
}

#[tokio::test]
async fn transactions_of_processes_on_one_etcd_see_all_that_was_before_them_and_nothing_that_comes_after() {
    let etcd = Etcd::start();
    let (one, two) = (process(etcd.address()).await, process(etcd.address()).await);
    // Each sees how many there are and adds one: whoever misses one that came meanwhile sees as many as another.
    let mut running = tokio::task::JoinSet::new();
    for number in 0..8 {
        let at = if number % 2 == 0 { one.clone() } else { two.clone() };
        running.spawn(async move {
            let steps = vec![KeyStep::List("t/".into()), set(&format!("t/{number}"), b"x")];
            let shown = at.transact(steps).await.unwrap().unwrap();
            let own = shown.last().unwrap().pair.clone();
            let kept = at.read(|keys| keys.pair(&own.key).cloned());
            assert_eq!(kept, Some(own), "with the revision that etcd gave it");
            shown.len() - 1
        });
    }
    let mut seen = running.join_all().await;
    seen.sort_unstable();
    assert_eq!(seen, (0..8).collect::<Vec<_>>());
    // A condition is judged by what etcd has, also where that was not heard of yet.
    assert!(one.propose(put("a", b"1", Some(0), Lock::Keep)).await.unwrap());
    let failed = two.transact(vec![KeyStep::CheckAbsent("a".into()), set("b", b"2")]).await.unwrap().unwrap_err();
    assert_eq!((failed[0].step, value(&two, "b")), (0, None));
    let modified = one.read(|keys| keys.pair("a").unwrap().modified);
    let steps = vec![KeyStep::CheckIndex("a".into(), modified), KeyStep::DeletePrefix("t/".into()), set("t/9", b"")];
    assert_eq!(two.transact(steps).await.unwrap().unwrap().len(), 2);
    one.wait(PATIENCE, |keys| keys.with_prefix("t/").count() == 1).await;
    assert_eq!(one.read(|keys| keys.with_prefix("t/").map(|pair| pair.key.to_string()).collect::<Vec<_>>()), ["t/9"]);
    for part in 0..3 {
        one.transact((0..50).map(|number| set(&format!("many/{part}/{number}"), b"")).collect())
            .await
            .unwrap()
            .unwrap();
    }
    let too_many = one.transact(vec![KeyStep::DeletePrefix("many/".into())]).await;
    assert!(matches!(too_many, Err(KeyError::Refused(KeyRefusal::Full { limit: 128, .. }))), "{too_many:?}");
}

#[tokio::test]
async fn of_two_processes_on_one_etcd_one_gets_a_lock_and_both_keep_its_delay() {
    let etcd = Etcd::start();
    let (one, two) = (process(etcd.address()).await, process(etcd.address()).await);
    assert!(one.propose(put("a", b"\n1", Some(0), Lock::Keep)).await.unwrap());
    assert!(!two.propose(put("a", b"2", Some(0), Lock::Keep)).await.unwrap(), "also when it has not heard of it yet");
    assert_eq!(value(&two, "a").unwrap(), b"\n1");
    for id in 0..8 {
        let at = if id % 2 == 0 { &one } else { &two };
        assert!(at.propose(open(&id.to_string(), None, 60, Behavior::Release)).await.unwrap());
    }
    let mut tries = tokio::task::JoinSet::new();
    for id in 0..8 {
        // Every session is used at the process that did not make it.
        let at = if id % 2 == 0 { two.clone() } else { one.clone() };
        tries.spawn(async move { (id, acquire(&at, "lock", &id.to_string()).await) });
    }
    let won: Vec<i32> = tries.join_all().await.into_iter().filter_map(|(id, won)| won.then_some(id)).collect();
    let [winner] = won.as_slice() else { panic!("{won:?}") };
    let owner = |keys: &Keys| keys.pair("lock").and_then(|pair| pair.session.as_deref().map(str::to_owned));
    two.wait(PATIENCE, |keys| owner(keys).is_some()).await;
    assert_eq!((one.read(owner), two.read(owner)), (Some(winner.to_string()), Some(winner.to_string())));
    assert!(one.propose(close(&winner.to_string())).await.unwrap());
    let other = ((winner + 1) % 8).to_string();
    assert!(!acquire(&one, "lock", &other).await && !acquire(&two, "lock", &other).await, "the lock delay");
    let refused = two.propose(put("lock", b"", None, Lock::Acquire(winner.to_string().into()))).await;
    assert_eq!(refused, Err(KeyError::Refused(KeyRefusal::NoSession(winner.to_string()))));
    let third = process(etcd.address()).await;
    assert_eq!(third.read(owner), None);
    assert!(!acquire(&third, "lock", &other).await, "who comes later keeps it, too");
}

#[tokio::test]
async fn processes_on_one_etcd_have_the_same_keys_and_a_prefix_of_any_size_goes() {
    let etcd = Etcd::start();
    let (one, two) = (process(etcd.address()).await, process(etcd.address()).await);
    let large = vec![7; 512 * 1024];
    assert!(one.propose(put("large", &large, None, Lock::Keep)).await.unwrap());
    for number in 0..150 {
        assert!(one.propose(put(&format!("many/{number:03}"), b"", None, Lock::Keep)).await.unwrap());
    }
    let revision = one.read(Keys::revision);
    two.wait(PATIENCE, |keys| keys.revision() >= revision).await;
    let all = |keys: &Keys| keys.with_prefix("").map(|pair| (**pair).clone()).collect::<Vec<_>>();
    assert_eq!(one.read(all), two.read(all));
    assert_eq!(two.read(|keys| keys.index(KeyScope::Prefix("many/"))), revision);
    assert!(two.propose(KeyAction::DeletePrefix { prefix: "many/".into(), most: usize::MAX }).await.unwrap());
    two.propose(open("s", None, 0, Behavior::Delete)).await.unwrap();
    assert!(acquire(&two, "temporary", "s").await);
    two.propose(close("s")).await.unwrap();
    let revision = two.read(Keys::revision);
    one.wait(PATIENCE, |keys| keys.revision() >= revision).await;
    assert_eq!(one.read(|keys| keys.with_prefix("").map(|pair| pair.key.to_string()).collect::<Vec<_>>()), ["large"]);
    let third = process(etcd.address()).await;
    assert_eq!(third.read(all), one.read(all), "who comes later reads the same");
    assert_eq!(value(&third, "large"), Some(large));
}

#[tokio::test]
#[ignore = "a session lives for at least ten seconds; part of the longer tier"]
async fn a_session_renewed_at_one_process_lives_at_all_and_ends_at_all_when_it_is_not() {
    let etcd = Etcd::start();
    let (one, two) = (process(etcd.address()).await, process(etcd.address()).await);
    one.propose(open("s", Some(10), 0, Behavior::Release)).await.unwrap();
    assert!(acquire(&two, "lock", "s").await);
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(one.renew("s").await.unwrap().is_some());
    }
    assert!(two.read(|keys| keys.session("s").is_some()));
    let ended = |keys: &Keys| keys.session("s").is_none() && keys.pair("lock").unwrap().session.is_none();
    one.wait(2 * PATIENCE, ended).await;
    two.wait(PATIENCE, ended).await;
    assert!(one.read(ended) && two.read(ended));
    assert!(two.renew("s").await.unwrap().is_none());
}
