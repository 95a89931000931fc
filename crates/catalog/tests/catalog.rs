//! The running registry: what is acknowledged is kept, what fails is said, who is silent leaves.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use meshwright_catalog::{Catalog, Hold, OpenError, Store, StoreError, WriteError};
use meshwright_registry::{
    Change, Event, Instance, InstanceKey, Lease, Limits, Override, Reason, Refusal, Registry, Scope, ServiceKey, Status,
};

const PATIENCE: Duration = Duration::from_secs(20);

fn key(id: &str) -> InstanceKey {
    InstanceKey::new(ServiceKey::new("", "users").unwrap(), id).unwrap()
}

fn ids(catalog: &Catalog) -> Vec<String> {
    catalog.read(|registry| {
        let entries = registry.services().flat_map(|(_, service)| service.instances());
        entries.map(|entry| entry.key.id().to_owned()).collect()
    })
}

fn short(seconds: u64) -> Instance {
    Instance { lease: Lease::heartbeat(Duration::from_secs(seconds)), ..Instance::new("10.0.0.1", 80) }
}

#[tokio::test]
async fn registering_is_seen_by_readers_and_wakes_those_who_wait() {
    let catalog = Catalog::in_memory(Limits::default(), 0);
    let waiting = tokio::spawn({
        let catalog = catalog.clone();
        async move { catalog.events(0, &Scope::All, PATIENCE).await }
    });
    let outcome = catalog.register(key("a"), Instance::new("10.0.0.1", 80)).await.unwrap();
    assert!(outcome.changed);
    assert_eq!(ids(&catalog), ["a"]);
    let (events, at) = waiting.await.unwrap().unwrap();
    assert_eq!((events.len(), at), (1, 1));
    let (none, at) = catalog.events(at, &Scope::All, Duration::ZERO).await.unwrap();
    assert_eq!((none.len(), at), (0, 1));
}

#[tokio::test]
async fn a_change_is_made_on_the_ground_of_what_is_there() {
    let catalog = Catalog::in_memory(Limits::default(), 0);
    let nobody = catalog.update(&key("a"), |_| {}).await;
    assert_eq!(nobody, Err(WriteError::Refused(Refusal::NotFound(key("a")))));
    catalog.register(key("a"), Instance::new("10.0.0.1", 80)).await.unwrap();
    let changes = (1..=20).map(|number: u32| {
        let catalog = catalog.clone();
        tokio::spawn(async move { catalog.update(&key("a"), |instance| instance.weight += number).await.unwrap() })
    });
    for change in changes.collect::<Vec<_>>() {
        change.await.unwrap();
    }
    let weight = catalog.read(|registry| registry.instance(&key("a")).unwrap().instance.weight);
    assert_eq!(weight, 1 + (1..=20).sum::<u32>());
}

#[tokio::test]
async fn who_is_silent_leaves_and_has_to_register_again() {
    let catalog = Catalog::in_memory(Limits::default(), 0);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let clock = tokio::spawn(catalog.clone().run(async move { drop(stopped.await) }));
    catalog.register(key("a"), short(1)).await.unwrap();
    let (_, at) = catalog.events(0, &Scope::All, PATIENCE).await.unwrap();
    let (events, _) = catalog.events(at, &Scope::All, PATIENCE).await.unwrap();
    assert!(matches!(events[0].change, Change::Remove { reason: Reason::Expired, .. }), "{events:?}");
    assert!(catalog.renew(&key("a")).is_none());
    drop(stop);
    clock.await.unwrap();
}

#[tokio::test]
async fn an_instance_that_is_held_leaves_when_it_is_let_go() {
    let catalog = Catalog::in_memory(Limits::default(), 0);
    let outcome = catalog.register(key("a"), short(1)).await.unwrap();
    let hold = Hold::new(catalog.clone(), key("a"), outcome.entry.modified);
    drop(hold);
    let (events, _) = catalog.events(1, &Scope::All, PATIENCE).await.unwrap();
    assert!(matches!(events[0].change, Change::Remove { reason: Reason::ConnectionClosed, .. }), "{events:?}");
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart_with_revisions_that_go_on() {
    let data = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(data.path(), Limits::default()).unwrap();
    assert!(!data.path().join("registry.redb").exists(), "nothing is made before the first registration");
    catalog.register(key("a"), Instance::new("10.0.0.1", 80)).await.unwrap();
    catalog.register(key("b"), Instance::new("10.0.0.2", 80)).await.unwrap();
    let word = Override { status: Status::OutOfService, reason: "upgrade".into() };
    catalog.update(&key("b"), |instance| instance.overridden = Some(word.clone())).await.unwrap();
    catalog.deregister(key("a")).await.unwrap();
    drop(catalog);
    let catalog = reopen(data.path());
    assert_eq!(ids(&catalog), ["b"]);
    let entry = catalog.read(|registry| registry.instance(&key("b")).cloned()).unwrap();
    assert_eq!((entry.instance.status(), entry.created, entry.modified), (Status::OutOfService, 2, 3));
    assert!(catalog.events(3, &Scope::All, Duration::ZERO).await.is_err(), "an old cursor reads everything anew");
    assert!(catalog.renew(&key("b")).is_some(), "it has its lease again");
    let outcome = catalog.register(key("c"), Instance::new("10.0.0.3", 80)).await.unwrap();
    assert_eq!(outcome.entry.created, 5);
}

/// The writer of the catalog before closes the file a moment after the last handle is gone.
fn reopen(data: &Path) -> Catalog {
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        match Catalog::open(data, Limits::default()) {
            Ok(catalog) => return catalog,
            Err(OpenError::InUse { .. }) if std::time::Instant::now() < end => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_second_user_of_the_directory_is_told_who_has_it() {
    let data = tempfile::tempdir().unwrap();
    let first = Catalog::open(data.path(), Limits::default()).unwrap();
    first.register(key("a"), Instance::new("10.0.0.1", 80)).await.unwrap();
    let error = Catalog::open(data.path(), Limits::default()).unwrap_err().to_string();
    assert!(error.contains(&format!("in use by process {}", std::process::id())), "{error}");
}

#[tokio::test]
async fn a_directory_that_another_one_filled_meanwhile_is_not_overwritten() {
    let data = tempfile::tempdir().unwrap();
    let late = Catalog::open(data.path(), Limits::default()).unwrap();
    let first = Catalog::open(data.path(), Limits::default()).unwrap();
    first.register(key("a"), Instance::new("10.0.0.1", 80)).await.unwrap();
    let refused = late.register(key("b"), Instance::new("10.0.0.1", 80)).await.unwrap_err();
    assert!(matches!(&refused, WriteError::Unavailable(reason) if reason.contains("in use")), "{refused}");
    assert!(late.trouble().is_some());
    drop(first);
    assert_eq!(ids(&reopen(data.path())), ["a"]);
}

#[test]
fn damaged_and_foreign_files_are_refused_with_a_way_out_and_never_a_panic() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("registry.redb");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let catalog = Catalog::open(data.path(), Limits::default()).unwrap();
    runtime.block_on(async {
        for id in 0..50 {
            catalog.register(key(&id.to_string()), Instance::new("10.0.0.1", 80)).await.unwrap();
        }
    });
    drop(catalog);
    drop(reopen(data.path()));
    let whole = std::fs::read(&file).unwrap();
    let refusal = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        loop {
            match Catalog::open(data.path(), Limits::default()) {
                Err(OpenError::InUse { .. }) => std::thread::yield_now(),
                Err(error) => return Some(error.to_string()),
                Ok(_) => return None,
            }
        }
    };
    for bad in [&b""[..], b"not a database", &whole[..whole.len() / 2], &whole[..100]] {
        let sentence = refusal(bad).expect("it is refused");
        assert!(sentence.contains("damaged or not ours") && sentence.contains("move it away"), "{sentence}");
    }
    let step = whole.len() / 64;
    for start in (0..whole.len()).step_by(step) {
        let mut torn = whole.clone();
        torn[start..(start + 512).min(whole.len())].fill(0xa5);
        if let Some(sentence) = refusal(&torn) {
            assert!(sentence.contains("move it away"), "{sentence}");
        }
    }
    assert_eq!(refusal(&whole), None, "the whole file is accepted");
}

/// Lines that are logged while `work` runs.
fn logged(work: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);
    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, work);
    let text = lines.0.lock().unwrap().clone();
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn i6_a_file_that_is_older_than_what_was_acknowledged_is_told_about() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("registry.redb");
    let catalog = Catalog::open(data.path(), Limits::default()).unwrap();
    catalog.register(key("a"), Instance::new("10.0.0.1", 80)).await.unwrap();
    catalog.register(key("b"), Instance::new("10.0.0.1", 80)).await.unwrap();
    let copy = std::fs::read(&file).unwrap();
    catalog.register(key("c"), Instance::new("10.0.0.1", 80)).await.unwrap();
    let now = std::fs::read(&file).unwrap();
    drop(catalog);
    for (bytes, ids_then, told) in [(copy, 2, true), (now, 3, false)] {
        std::fs::write(data.path().join("lock"), format!("{:>10}\n{:>20}\n", 1, 3)).unwrap();
        // Whoever had the file before may still be closing it.
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, bytes).unwrap();
        let mut found = 0;
        let lines = logged(|| found = ids(&reopen(data.path())).len());
        assert_eq!((found, lines.contains("older copy, or damaged")), (ids_then, told), "{lines}");
    }
}

/// A store that fails when it is told to, after it kept or before.
struct Failing {
    broken: Arc<AtomicBool>,
}

impl Store for Failing {
    fn commit(&mut self, _before: &Registry, _events: &[Event]) -> Result<(), StoreError> {
        match self.broken.load(Ordering::Relaxed) {
            true => Err(StoreError("no space left on device".to_owned())),
            false => Ok(()),
        }
    }
}

#[tokio::test]
async fn while_the_store_fails_writes_say_why_and_reads_and_renewals_go_on() {
    let broken = Arc::new(AtomicBool::new(false));
    let store = Failing { broken: Arc::clone(&broken) };
    let catalog = Catalog::start(Registry::new(Limits::default()), Box::new(store), "failing");
    catalog.register(key("a"), Instance::new("10.0.0.1", 80)).await.unwrap();
    broken.store(true, Ordering::Relaxed);
    let refused = catalog.register(key("b"), Instance::new("10.0.0.2", 80)).await.unwrap_err();
    assert_eq!(refused, WriteError::Unavailable("no space left on device".to_owned()));
    assert_eq!(ids(&catalog), ["a"]);
    assert!(catalog.renew(&key("a")).is_some());
    let same = catalog.register(key("a"), Instance::new("10.0.0.1", 80)).await;
    assert!(same.is_ok_and(|outcome| !outcome.changed), "what changes nothing needs no store");
    broken.store(false, Ordering::Relaxed);
    catalog.register(key("b"), Instance::new("10.0.0.2", 80)).await.unwrap();
    assert_eq!(ids(&catalog), ["a", "b"]);
    assert_eq!(catalog.trouble(), None);
}
