//! A registry that several processes share in etcd: what one keeps, all have; who is gone is looked after; what etcd does not
//! keep is not acknowledged. Each catalog here is a process of its own to the others.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::connect;
use meshwright_catalog::{Catalog, WriteError};
use meshwright_registry::{
    Action, Change, Check, Expected, Instance, InstanceKey, Lease, Outcome, Probe, Proposal, Reason, Refusal, Scope,
    ServiceKey, Status,
};
use meshwright_testkit::{Etcd, PATIENCE, Signal};
use serde_json::json;

/// A process that shares the registry of `etcd`, with its clock.
struct Process {
    catalog: Catalog,
    clock: tokio::task::JoinHandle<()>,
}

impl Process {
    async fn of(etcd: &Etcd) -> Self {
        let catalog = connect(etcd.address()).await;
        let clock = tokio::spawn(catalog.clone().run(std::future::pending()));
        Self { catalog, clock }
    }

    /// It ends as a process that is killed does: nobody hears of it any more.
    fn kill(self) {
        self.clock.abort();
    }
}

fn key(id: &str) -> InstanceKey {
    InstanceKey::new(ServiceKey::new("", "users").unwrap(), id).unwrap()
}

fn instance(ttl: u64) -> Instance {
    Instance { lease: Lease::heartbeat(Duration::from_secs(ttl)), ..Instance::new("10.0.0.1", 80) }
}

fn ids(catalog: &Catalog) -> Vec<String> {
    catalog.read(|registry| {
        let entries = registry.services().flat_map(|(_, service)| service.instances());
        entries.map(|entry| entry.key.id().to_owned()).collect()
    })
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + 2 * PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Writes until it is kept.
async fn insist(catalog: &Catalog, id: &str, instance: Instance) -> Outcome {
    let end = Instant::now() + 2 * PATIENCE;
    loop {
        match catalog.register(key(id), instance.clone()).await {
            Ok(outcome) => return outcome,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_one_process_keeps_all_have_with_the_revisions_of_etcd() {
    let etcd = Etcd::start();
    let (a, b) = (connect(etcd.address()).await, connect(etcd.address()).await);
    assert_eq!((a.store(), a.trouble()), ("etcd", None));
    let outcome = a.register(key("x/1"), instance(30)).await.unwrap();
    assert_eq!(a.read(|registry| registry.instance(&key("x/1")).cloned()).unwrap(), outcome.entry);
    let same = a.register(key("x/1"), instance(30)).await.unwrap();
    assert!(!same.changed, "what is known already is not written");
    eventually("the other one has it", || ids(&b) == ["x/1"]).await;
    let seen = b.read(|registry| registry.instance(&key("x/1")).cloned()).unwrap();
    assert_eq!(seen, outcome.entry);
    let changed = b.update(&key("x/1"), |instance| instance.weight = 7).await.unwrap();
    assert_eq!(changed.entry.created, outcome.entry.created);
    let stale = Proposal {
        key: key("x/1"),
        expected: Expected::Modified(outcome.entry.modified),
        action: Action::Replace(Box::new(instance(30))),
    };
    let refused = a.propose(vec![stale]).await.unwrap().remove(0).unwrap_err();
    assert!(matches!(refused, Refusal::Conflict { .. }), "{refused}");
    a.deregister(key("x/1")).await.unwrap();
    let (events, _) = b.events(changed.entry.modified, &Scope::All, PATIENCE).await.unwrap();
    assert!(matches!(events[0].change, Change::Remove { reason: Reason::Deregistered, .. }), "{events:?}");
    let late = connect(etcd.address()).await;
    assert!(ids(&late).is_empty());
    assert!(late.register(key("2"), instance(30)).await.unwrap().entry.created > events[0].revision);
}

#[tokio::test]
async fn changes_of_many_processes_at_once_are_all_made_and_a_batch_is_answered_one_by_one() {
    let etcd = Etcd::start();
    let (a, b) = (connect(etcd.address()).await, connect(etcd.address()).await);
    a.register(key("a"), instance(30)).await.unwrap();
    eventually("both have it", || ids(&b) == ["a"]).await;
    let changes = (1..=20_u32).map(|number| {
        let catalog = if number % 2 == 0 { a.clone() } else { b.clone() };
        tokio::spawn(async move { catalog.update(&key("a"), |instance| instance.weight += number).await.unwrap() })
    });
    for change in changes.collect::<Vec<_>>() {
        change.await.unwrap();
    }
    let expected = 1 + (1..=20).sum::<u32>();
    for catalog in [&a, &b] {
        let weight = || catalog.read(|registry| registry.instance(&key("a")).unwrap().instance.weight);
        eventually("nothing was lost", || weight() == expected).await;
    }
    let register = |id: &str| Action::Register(Box::new(Instance { weight: 2, ..instance(id.len() as u64 + 9) }));
    let proposal = |id: &str, action| Proposal { key: key(id), expected: Expected::Any, action };
    let batch = vec![
        proposal("b", register("b")),
        proposal("nobody", Action::Remove(Reason::Deregistered)),
        proposal("c", register("c")),
        proposal("c", Action::Remove(Reason::Deregistered)),
        proposal("d", register("d")),
        proposal("d", register("d2")),
    ];
    let answers = a.propose(batch).await.unwrap();
    let kept: Vec<bool> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(kept, [true, false, true, true, true, true]);
    assert_eq!(ids(&a), ["a", "b", "d"]);
    let last = answers[5].as_ref().unwrap().entry.clone();
    assert_eq!(a.read(|registry| registry.instance(&key("d")).cloned()).unwrap(), last);
    let many = (0..1000).map(|number| proposal(&format!("m{number}"), register("m"))).collect();
    let began = Instant::now();
    assert!(a.propose(many).await.unwrap().iter().all(Result::is_ok));
    println!("1,000 registrations in {:?}", began.elapsed());
    eventually("all are everywhere", || ids(&b).len() == 1003).await;
}

#[tokio::test]
async fn changes_that_are_written_together_have_one_revision_and_no_reader_gets_half_of_them() {
    let etcd = Etcd::start();
    let (a, b) = (connect(etcd.address()).await, connect(etcd.address()).await);
    let proposal =
        |number: usize, action| Proposal { key: key(&format!("{number:04}")), expected: Expected::Any, action };
    let register = |number| proposal(number, Action::Register(Box::new(instance(60))));
    let remove = |number| proposal(number, Action::Remove(Reason::Deregistered));
    let begun = b.read(|registry| registry.revision());
    let answers = a.propose((0..600).map(register).collect()).await.unwrap();
    let mut revisions: Vec<u64> = answers.iter().map(|answer| answer.as_ref().unwrap().entry.modified).collect();
    revisions.sort_unstable();
    revisions.dedup();
    assert!(revisions.len() <= 6, "as few as etcd takes: {revisions:?}");
    // One that is there twice and one that is not are answered for themselves.
    let answers = a.propose(vec![remove(3), register(1), remove(9999), remove(4)]).await.unwrap();
    let removed = |index: usize| answers[index].as_ref().is_ok_and(|outcome| outcome.changed);
    assert!(removed(0) && removed(3) && answers[1].as_ref().is_ok_and(|outcome| !outcome.changed));
    assert!(matches!(answers[2], Err(Refusal::NotFound(_))));
    eventually("both have the same", || ids(&b).len() == 598 && ids(&a) == ids(&b)).await;
    // Whoever reads by pages, and goes on from the revision of any, misses nothing.
    let (mut at, mut known, mut pages) = (begun, std::collections::BTreeSet::new(), 0);
    while known.len() < 598 || at < b.read(|registry| registry.revision()) {
        let (events, next) = b.events(at, &Scope::All, Duration::ZERO).await.unwrap();
        assert!(events.len() < 400 && !events.is_empty(), "{}", events.len());
        assert!(events.iter().all(|event| event.revision <= next));
        for event in events {
            match event.change {
                Change::Put(_) => known.insert(event.key.id().to_owned()),
                Change::Remove { .. } => known.remove(event.key.id()),
            };
        }
        (at, pages) = (next, pages + 1);
    }
    assert!(pages > 1);
    assert_eq!(known.into_iter().collect::<Vec<_>>(), ids(&b));
}

#[tokio::test]
async fn instances_of_a_process_that_is_gone_live_where_they_renew_and_leave_where_they_do_not() {
    let etcd = Etcd::start();
    let (a, b) = (Process::of(&etcd).await, Process::of(&etcd).await);
    for id in ["moves", "silent"] {
        a.catalog.register(key(id), instance(4)).await.unwrap();
    }
    let mut checked =
        Instance { lease: Lease { kind: meshwright_registry::LeaseKind::Checks, ..instance(4).lease }, ..instance(4) };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    (checked.address, checked.port) = ("127.0.0.1".to_owned(), listener.local_addr().unwrap().port());
    checked.checks =
        vec![Check { interval: Duration::from_millis(200), ..Check::new("tcp", Probe::Tcp { authority: None }) }];
    a.catalog.register(key("checked"), checked).await.unwrap();
    let passing = |catalog: &Catalog| {
        catalog.read(|registry| registry.instance(&key("checked")).map(|entry| entry.instance.status()))
    };
    eventually("its owner checks it", || passing(&b.catalog) == Some(Status::Passing)).await;
    assert_eq!((a.catalog.members(), b.catalog.members()), (2, 2));
    let at = b.catalog.read(|registry| registry.revision());
    a.kill();
    let end = Instant::now() + 2 * PATIENCE;
    while ids(&b.catalog) != ["checked", "moves"] {
        assert!(Instant::now() < end, "{:?}", ids(&b.catalog));
        assert!(b.catalog.renew(&key("moves")).is_some_and(|renewal| renewal.ttl == Some(Duration::from_secs(4))));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (events, _) = b.catalog.events(at, &Scope::All, Duration::ZERO).await.unwrap();
    assert!(matches!(events[0].change, Change::Remove { reason: Reason::Expired, .. }), "{events:?}");
    assert_eq!(b.catalog.members(), 1);
}

#[tokio::test]
async fn while_etcd_is_away_nobody_leaves_and_nothing_is_acknowledged_and_then_it_goes_on() {
    let etcd = Etcd::start();
    let (a, b) = (Process::of(&etcd).await, Process::of(&etcd).await);
    for id in ["1", "2", "3", "4"] {
        a.catalog.register(key(id), instance(3)).await.unwrap();
    }
    eventually("the other one has heard of them", || ids(&b.catalog).len() == 4).await;
    // All renew at the process that owns them, until some fall silent.
    let silent = Arc::new(AtomicBool::new(false));
    let (catalog, fell) = (a.catalog.clone(), Arc::clone(&silent));
    let renewing = tokio::spawn(async move {
        loop {
            for id in ["1", "2", "3", "4"].into_iter().take(if fell.load(Ordering::Relaxed) { 2 } else { 4 }) {
                assert!(catalog.renew(&key(id)).is_some(), "{id} is known whether etcd is away or not");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    etcd.signal(Signal::STOP);
    let refused = b.catalog.register(key("new"), instance(60)).await.unwrap_err();
    assert!(matches!(refused, WriteError::Unavailable(_)), "{refused}");
    eventually("it is known", || a.catalog.trouble().is_some() && b.catalog.trouble().is_some()).await;
    for catalog in [&a.catalog, &b.catalog] {
        assert_eq!(ids(catalog), ["1", "2", "3", "4"], "the last that is known is served");
    }
    etcd.signal(Signal::CONT);
    insist(&b.catalog, "new", instance(60)).await;
    eventually("the other one goes on, too", || ids(&a.catalog).len() == 5 && a.catalog.trouble().is_none()).await;
    silent.store(true, Ordering::Relaxed);
    eventually("who is silent leaves", || ids(&b.catalog) == ["1", "2", "new"]).await;
    assert!(!renewing.is_finished());
}

#[tokio::test]
async fn a_process_that_missed_what_etcd_compacted_reads_everything_anew() {
    let etcd = Etcd::start();
    let first = connect(etcd.address()).await;
    first.register(key("stays"), instance(60)).await.unwrap();
    first.register(key("goes"), instance(60)).await.unwrap();
    // A relay stands between the second process and etcd, and is cut.
    let relay = Relay::to(etcd.address()).await;
    let second = connect(relay.address).await;
    eventually("it has both", || ids(&second).len() == 2).await;
    let cursor = second.read(|registry| registry.revision());
    relay.cut(true);
    eventually("it is cut off", || second.trouble().is_some()).await;
    first.deregister(key("goes")).await.unwrap();
    for number in 0..5 {
        first.register(key(&format!("new{number}")), instance(60)).await.unwrap();
    }
    etcd.compact();
    assert_eq!(ids(&second).len(), 2, "the last that is known is served");
    relay.cut(false);
    eventually("it has what the other one has", || ids(&second) == ids(&first) && second.trouble().is_none()).await;
    assert!(second.events(cursor, &Scope::All, Duration::ZERO).await.is_err(), "an old cursor reads everything anew");
    second.register(key("again"), instance(60)).await.unwrap();
    eventually("changes go on", || ids(&first).contains(&"again".to_owned())).await;
}

#[tokio::test]
async fn keys_that_somebody_deletes_by_hand_are_gone_and_a_store_that_lost_everything_is_not_believed() {
    let etcd = Etcd::start();
    let relay = Relay::to(etcd.address()).await;
    let catalog = connect(relay.address).await;
    for id in ["1", "2", "3"] {
        catalog.register(key(id), instance(60)).await.unwrap();
    }
    // /meshwright/instances/default/users/1 to .../3, without the last one.
    let encode = |text: &str| base64(text.as_bytes());
    let place = |id: &str| encode(&format!("/meshwright/instances/default/users/{id}"));
    etcd.call("/v3/kv/deleterange", &json!({ "key": place("1"), "range_end": place("3") }));
    eventually("two of one revision are gone", || ids(&catalog) == ["3"]).await;
    etcd.call("/v3/kv/put", &json!({ "key": place("4"), "value": encode("no instance") }));
    catalog.register(key("5"), instance(60)).await.unwrap();
    assert_eq!(ids(&catalog), ["3", "5"]);
    let empty = Etcd::start();
    relay.turn_to(empty.address());
    eventually("it is found out", || catalog.trouble().is_some_and(|trouble| trouble.contains("lost what it had")))
        .await;
    assert_eq!(ids(&catalog), ["3", "5"]);
    assert!(catalog.register(key("6"), instance(60)).await.is_err());
    relay.turn_to(etcd.address());
    insist(&catalog, "6", instance(60)).await;
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = chunk.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..4 {
            match index <= chunk.len() {
                true => text.push(LETTERS[(number >> (18 - 6 * index)) as usize & 63] as char),
                false => text.push('='),
            }
        }
    }
    text
}

/// Carries connections to etcd, until it is cut or leads elsewhere.
struct Relay {
    address: SocketAddr,
    to: tokio::sync::watch::Sender<Option<SocketAddr>>,
    target: SocketAddr,
}

impl Relay {
    async fn to(target: SocketAddr) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (to, mut wanted) = tokio::sync::watch::channel(Some(target));
        tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let Some(target) = *wanted.borrow_and_update() else { continue };
                let mut changed = wanted.clone();
                tokio::spawn(async move {
                    let Ok(mut far) = tokio::net::TcpStream::connect(target).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = changed.changed() => {}
                    }
                });
            }
        });
        Self { address, to, target }
    }

    fn turn_to(&self, target: SocketAddr) {
        self.to.send_replace(Some(target));
    }

    fn cut(&self, cut: bool) {
        self.to.send_replace((!cut).then_some(self.target));
    }
}
