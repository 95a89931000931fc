//! Keys and sessions under simulated time: what locks promise, whatever is asked in whatever order.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]
#![allow(clippy::disallowed_methods, reason = "a test has to begin at some moment")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meshwright_registry::{
    Behavior, KeyAction, KeyAnswer, KeyChange, KeyLimits, KeyRefusal, KeyScope, KeyStep, Keys, Lock, Pair, Session,
    SessionClock, decide,
};
use proptest::prelude::*;

struct World {
    keys: Keys,
    clock: SessionClock,
    now: Instant,
}

fn session(id: &str, ttl: Option<u64>, delay: u64, behavior: Behavior) -> KeyAction {
    KeyAction::Open(Box::new(Session {
        id: id.into(),
        name: String::new(),
        lock_delay: Duration::from_secs(delay),
        behavior,
        ttl: ttl.map(Duration::from_secs),
        node_checks: Vec::new(),
        checks: Vec::new(),
        created: 0,
        modified: 0,
    }))
}

impl World {
    fn new(limits: KeyLimits) -> Self {
        let (keys, now) = (Keys::new(limits), Instant::now());
        Self { clock: SessionClock::new(&keys, now), keys, now }
    }

    fn act(&mut self, action: &KeyAction) -> Result<bool, KeyRefusal> {
        Ok(self.answer(action)?.is_done())
    }

    fn answer(&mut self, action: &KeyAction) -> Result<KeyAnswer, KeyRefusal> {
        let decision = decide(&self.keys, &self.clock, action, self.now)?;
        for change in &decision.changes {
            self.clock.observe(&self.keys, change, self.now);
        }
        if !decision.changes.is_empty() {
            self.keys.apply(self.keys.revision() + 1, &decision.changes);
        }
        Ok(decision.answer)
    }

    fn put(&mut self, key: &str, value: &[u8], cas: Option<u64>, lock: Lock) -> Result<bool, KeyRefusal> {
        self.act(&KeyAction::Put { key: key.into(), value: value.into(), flags: 0, cas, lock })
    }

    fn acquire(&mut self, key: &str, id: &str) -> bool {
        self.put(key, id.as_bytes(), None, Lock::Acquire(id.into())).unwrap()
    }

    fn close(&mut self, id: &str) {
        assert!(self.act(&KeyAction::Close { id: id.into(), unrenewed: None }).unwrap());
    }

    /// Lets time pass, in steps that a running process makes, and ends what is over.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds * 2 {
            self.now += Duration::from_millis(500);
            for id in self.clock.sweep(self.now) {
                self.act(&KeyAction::Close { id, unrenewed: None }).unwrap();
            }
        }
    }

    fn pair(&self, key: &str) -> &Pair {
        self.keys.pair(key).unwrap()
    }
}

#[test]
fn a_lock_is_one_sessions_until_it_gives_it_back_and_then_anybodys_at_once() {
    let mut world = World::new(KeyLimits::default());
    for id in ["a", "b"] {
        world.act(&session(id, None, 15, Behavior::Release)).unwrap();
    }
    assert!(world.acquire("k", "a") && !world.acquire("k", "b"));
    assert!(world.acquire("k", "a"), "again by its own");
    assert_eq!((world.pair("k").lock_index, &*world.pair("k").value), (1, &b"a"[..]));
    assert!(world.put("k", b"plain", None, Lock::Keep).unwrap(), "locks are advisory");
    assert_eq!(world.pair("k").session.as_deref(), Some("a"));
    assert!(!world.put("k", b"x", None, Lock::Release("b".into())).unwrap());
    assert!(world.put("k", b"last", None, Lock::Release("a".into())).unwrap());
    assert!(world.acquire("k", "b"), "given back, it has no delay");
    assert_eq!(world.pair("k").lock_index, 2);
    let nobody = world.put("k", b"", None, Lock::Acquire("c".into()));
    assert_eq!(nobody, Err(KeyRefusal::NoSession("c".to_owned())));
}

#[test]
fn a_lock_of_a_session_that_is_gone_without_giving_it_back_is_free() {
    let mut world = World::new(KeyLimits::default());
    for id in ["a", "b"] {
        world.act(&session(id, None, 0, Behavior::Release)).unwrap();
    }
    assert!(world.acquire("k", "a"));
    // As a store shows it that was changed by hand.
    world.keys.apply(world.keys.revision() + 1, &[KeyChange::Close("a".into())]);
    assert!(world.acquire("k", "b"));
    assert_eq!((world.pair("k").session.as_deref(), world.pair("k").lock_index), (Some("b"), 2));
}

#[test]
fn a_session_that_is_not_renewed_ends_and_nobody_gets_its_lock_before_the_delay_is_over() {
    let mut world = World::new(KeyLimits::default());
    world.act(&session("a", Some(10), 15, Behavior::Release)).unwrap();
    world.act(&session("b", None, 0, Behavior::Release)).unwrap();
    assert!(world.acquire("k", "a"));
    world.pass(8);
    assert!(world.clock.renew("a", world.now));
    world.pass(9);
    assert!(world.keys.session("a").is_some(), "it was renewed");
    world.pass(2);
    assert!(world.keys.session("a").is_none() && !world.clock.renew("a", world.now));
    assert_eq!((&world.pair("k").session, &*world.pair("k").value), (&None, &b"a"[..]));
    assert!(!world.acquire("k", "b"));
    assert!(
        world.put("k", b"plain", None, Lock::Keep).unwrap() && !world.acquire("k", "b"),
        "a value changes no delay"
    );
    world.pass(13);
    assert!(!world.acquire("k", "b"));
    world.pass(3);
    assert!(world.acquire("k", "b"));
    world.pass(3600);
    assert!(world.keys.session("b").is_some(), "a session without a time to live stays");
    world.close("b");
    world.act(&session("c", None, 0, Behavior::Release)).unwrap();
    assert!(world.acquire("k", "c"), "without a delay it is free at once");
}

#[test]
fn keys_of_a_session_with_the_behavior_delete_go_with_it_and_its_delay_stays() {
    let mut world = World::new(KeyLimits::default());
    world.act(&session("a", None, 5, Behavior::Delete)).unwrap();
    world.act(&session("b", None, 0, Behavior::Release)).unwrap();
    assert!(world.acquire("k", "a") && world.put("other", b"", None, Lock::Keep).unwrap());
    world.close("a");
    assert!(world.keys.pair("k").is_none() && world.keys.pair("other").is_some());
    assert!(!world.acquire("k", "b"));
    world.pass(6);
    assert!(world.acquire("k", "b"));
}

#[test]
fn after_a_restart_sessions_have_their_full_time_and_delays_begin_anew() {
    let mut world = World::new(KeyLimits::default());
    world.act(&session("a", None, 15, Behavior::Release)).unwrap();
    world.act(&session("b", Some(10), 0, Behavior::Release)).unwrap();
    assert!(world.acquire("k", "a"));
    world.close("a");
    world.pass(9);
    let pairs: Vec<Pair> = world.keys.with_prefix("").map(|pair| Pair::clone(pair)).collect();
    let sessions: Vec<Session> = world.keys.sessions().map(|session| Session::clone(session)).collect();
    world.keys = Keys::restore(KeyLimits::default(), pairs, sessions, world.keys.revision());
    world.clock = SessionClock::new(&world.keys, world.now);
    world.pass(9);
    assert!(world.keys.session("b").is_some() && !world.acquire("k", "b"));
    world.act(&session("c", None, 0, Behavior::Release)).unwrap();
    world.pass(7);
    assert!(world.keys.session("b").is_none() && world.acquire("k", "c"));
}

#[test]
fn a_time_in_which_the_process_did_not_run_ends_no_session() {
    let mut world = World::new(KeyLimits::default());
    world.pass(100);
    world.act(&session("a", Some(10), 0, Behavior::Release)).unwrap();
    world.pass(5);
    world.now += Duration::from_secs(600);
    world.pass(4);
    assert!(world.clock.renew("a", world.now));
    world.pass(11);
    assert!(world.keys.session("a").is_none(), "and a time in which it had nothing to do is none of those");
}

#[test]
fn limits_refuse_by_name_and_keep_what_is_there() {
    let limits = KeyLimits { keys: 2, key_bytes: 4, value_bytes: 8, bytes: 12, sessions: 1, locks_per_session: 1 };
    let mut world = World::new(limits);
    let full =
        |what| move |refusal: KeyRefusal| matches!(refusal, KeyRefusal::Full { what: named, .. } if named == what);
    for key in ["", "long!", "a\0"] {
        assert!(matches!(world.put(key, b"", None, Lock::Keep), Err(KeyRefusal::Invalid(_))), "{key:?}");
    }
    assert!(world.put("a", b"123456789", None, Lock::Keep).is_err_and(full("bytes in a value")));
    assert!(world.put("a", b"12345678", None, Lock::Keep).unwrap());
    assert!(world.put("b", b"123", None, Lock::Keep).is_err_and(full("bytes of keys and values")));
    assert!(world.put("b", b"1", None, Lock::Keep).unwrap() && world.put("a", b"", None, Lock::Keep).unwrap());
    assert!(world.put("c", b"", None, Lock::Keep).is_err_and(full("keys")));
    world.act(&session("s", None, 0, Behavior::Release)).unwrap();
    assert!(world.act(&session("t", None, 0, Behavior::Release)).is_err_and(full("sessions")));
    assert!(world.acquire("a", "s"));
    let second = world.put("b", b"", None, Lock::Acquire("s".into()));
    assert!(second.is_err_and(full("keys locked by one session")));
    assert_eq!((world.keys.len(), world.keys.bytes()), (2, 4));
    assert!(world.act(&session("u", Some(9), 0, Behavior::Release)).is_err());
    assert!(world.act(&session("u", None, 61, Behavior::Release)).is_err());
}

#[test]
fn an_index_moves_with_every_change_of_its_scope_and_with_no_other() {
    let mut world = World::new(KeyLimits::default());
    let index = |world: &World, scope| world.keys.index(scope);
    assert_eq!(index(&world, KeyScope::Key("a/1")), 1, "what never was has an index, too");
    world.put("a/1", b"", None, Lock::Keep).unwrap();
    let (one, all) = (index(&world, KeyScope::Key("a/1")), index(&world, KeyScope::Prefix("a/")));
    assert!(one > 1 && one == all);
    world.put("b", b"", None, Lock::Keep).unwrap();
    assert_eq!(index(&world, KeyScope::Prefix("a/")), all);
    assert!(
        !world.keys.changed_since(all, KeyScope::Prefix("a/")) && world.keys.changed_since(all, KeyScope::Key("b"))
    );
    world.put("b", b"", None, Lock::Keep).unwrap();
    let before = world.keys.revision();
    assert!(!world.keys.changed_since(before, KeyScope::Key("b")), "the same value again is no change");
    world.act(&KeyAction::Delete { key: "a/1".into(), cas: Some(one + 1) }).unwrap();
    assert!(world.keys.pair("a/1").is_some(), "another revision than was asked for");
    world.act(&KeyAction::Delete { key: "a/1".into(), cas: Some(one) }).unwrap();
    assert!(index(&world, KeyScope::Key("a/1")) > one && world.keys.changed_since(before, KeyScope::Prefix("a")));
}

fn set(key: &str, value: &[u8], cas: Option<u64>, lock: Lock) -> KeyStep {
    KeyStep::Put { key: key.into(), value: value.into(), flags: 0, cas, lock }
}

#[test]
fn a_transaction_shows_what_its_steps_ask_for_or_says_which_of_them_do_not_hold() {
    let mut world = World::new(KeyLimits::default());
    world.act(&session("a", None, 15, Behavior::Release)).unwrap();
    world.put("t/1", b"one", None, Lock::Keep).unwrap();
    let known = world.pair("t/1").modified;
    let steps = vec![
        KeyStep::CheckIndex("t/1".into(), known),
        set("t/1", b"new", Some(known), Lock::Keep),
        set("t/2", b"two", Some(0), Lock::Acquire("a".into())),
        KeyStep::CheckSession("t/2".into(), "a".to_owned()),
        KeyStep::List("t/".into()),
        KeyStep::Delete { key: "t/1".into(), cas: None },
        KeyStep::CheckAbsent("t/1".into()),
        KeyStep::Get { key: "t/1".into(), required: false },
    ];
    let KeyAnswer::Shown(shown) = world.answer(&KeyAction::Transaction(steps)).unwrap() else { panic!("it holds") };
    let values = shown.iter().map(|shown| (&*shown.pair.key, &*shown.pair.value, shown.value)).collect::<Vec<_>>();
    let value = |key: &'static str, value: &'static str, is_shown| (key, value.as_bytes(), is_shown);
    let expected = [
        value("t/1", "one", false),
        value("t/1", "new", false),
        value("t/2", "two", false),
        value("t/2", "two", false),
        value("t/1", "new", true),
        value("t/2", "two", true),
        value("t/1", "", true),
    ];
    assert_eq!(values, expected);
    assert!(world.keys.pair("t/1").is_none());
    assert_eq!((world.pair("t/2").session.as_deref(), world.keys.revision()), (Some("a"), known + 1));

    let before = world.keys.revision();
    let steps = vec![
        set("t/3", b"", None, Lock::Keep),
        set("t/3", b"", Some(0), Lock::Keep),
        set("t/2", b"", None, Lock::Release("b".into())),
        set("t/2", b"", None, Lock::Acquire("b".into())),
        KeyStep::Get { key: "nobody".into(), required: true },
        KeyStep::CheckIndex("t/2".into(), 1),
        KeyStep::CheckIndex("nobody".into(), 1),
        KeyStep::CheckSession("t/2".into(), "b".to_owned()),
        KeyStep::CheckAbsent("t/2".into()),
        KeyStep::Delete { key: "t/2".into(), cas: Some(1) },
        set("", b"", None, Lock::Keep),
        KeyStep::DeletePrefix("t/".into()),
    ];
    let KeyAnswer::Failed(failures) = world.answer(&KeyAction::Transaction(steps)).unwrap() else { panic!("it fails") };
    assert_eq!(failures.iter().map(|failure| failure.step).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
    assert_eq!(failures[0].reason, "failed to set key \"t/3\", index is stale");
    assert_eq!(failures[2].reason, "invalid session \"b\"");
    assert_eq!((world.keys.len(), world.keys.revision()), (1, before), "nothing is half done");
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8, Option<bool>),
    Acquire(u8, u8),
    Release(u8, u8),
    Delete(u8),
    Prefix(u8),
    Open(u8, bool),
    Close(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let (key, id) = (0..6u8, 0..4u8);
    prop_oneof![
        (key.clone(), any::<u8>(), any::<Option<bool>>()).prop_map(|(key, value, cas)| Step::Put(key, value, cas)),
        (key.clone(), id.clone()).prop_map(|(key, id)| Step::Acquire(key, id)),
        (key.clone(), id.clone()).prop_map(|(key, id)| Step::Release(key, id)),
        key.clone().prop_map(Step::Delete),
        (0..3u8).prop_map(Step::Prefix),
        (id.clone(), any::<bool>()).prop_map(|(id, delete)| Step::Open(id, delete)),
        id.prop_map(Step::Close),
    ]
}

/// A slow model: values and owners by key, sessions with whether their keys go with them.
#[derive(Default)]
struct Model {
    pairs: BTreeMap<String, (Vec<u8>, Option<String>)>,
    sessions: BTreeMap<String, bool>,
}

impl Model {
    fn close(&mut self, id: &str) {
        if let Some(delete) = self.sessions.remove(id) {
            self.pairs.retain(|_, (_, owner)| !(delete && owner.as_deref() == Some(id)));
            self.pairs.values_mut().filter(|(_, owner)| owner.as_deref() == Some(id)).for_each(|pair| pair.1 = None);
        }
    }
}

/// Keys `0/0` to `2/1`.
fn name(key: u8) -> String {
    format!("{}/{}", key / 2, key % 2)
}

proptest! {
    #[test]
    fn keys_and_locks_are_those_of_a_slow_model(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new(KeyLimits::default());
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Put(key, value, cas) => {
                    let key = name(key);
                    let modified = world.keys.pair(&key).map_or(0, |pair| pair.modified);
                    let given = cas.map(|right| if right { modified } else { modified + 1 });
                    let done = world.put(&key, &[value], given, Lock::Keep).unwrap();
                    prop_assert_eq!(done, cas != Some(false));
                    if done {
                        model.pairs.entry(key).or_default().0 = vec![value];
                    }
                }
                Step::Acquire(key, id) => {
                    let (key, id) = (name(key), id.to_string());
                    let answer = world.put(&key, &[7], None, Lock::Acquire(id.as_str().into()));
                    let owner = model.pairs.get(&key).and_then(|pair| pair.1.clone());
                    match model.sessions.contains_key(&id) {
                        false => prop_assert!(answer.is_err()),
                        true => {
                            let free = owner.is_none_or(|owner| owner == id);
                            prop_assert_eq!(answer.unwrap(), free);
                            if free {
                                model.pairs.insert(key, (vec![7], Some(id)));
                            }
                        }
                    }
                }
                Step::Release(key, id) => {
                    let (key, id) = (name(key), id.to_string());
                    let done = world.put(&key, &[8], None, Lock::Release(id.as_str().into())).unwrap();
                    let holds = model.pairs.get(&key).is_some_and(|pair| pair.1.as_ref() == Some(&id));
                    prop_assert_eq!(done, holds);
                    if holds {
                        model.pairs.insert(key, (vec![8], None));
                    }
                }
                Step::Delete(key) => {
                    let delete = KeyAction::Delete { key: name(key).as_str().into(), cas: None };
                    prop_assert!(world.act(&delete).unwrap());
                    model.pairs.remove(&name(key));
                }
                Step::Prefix(prefix) => {
                    let prefix = format!("{prefix}/");
                    world.act(&KeyAction::DeletePrefix { prefix: prefix.as_str().into(), most: usize::MAX }).unwrap();
                    model.pairs.retain(|key, _| !key.starts_with(&prefix));
                }
                Step::Open(id, delete) if !model.sessions.contains_key(&id.to_string()) => {
                    let behavior = if delete { Behavior::Delete } else { Behavior::Release };
                    prop_assert!(world.act(&session(&id.to_string(), None, 0, behavior)).unwrap());
                    model.sessions.insert(id.to_string(), delete);
                }
                Step::Open(..) => {}
                Step::Close(id) => {
                    world.close(&id.to_string());
                    model.close(&id.to_string());
                }
            }
            let is: Vec<_> = world.keys.with_prefix("").map(|pair| {
                (pair.key.to_string(), (pair.value.to_vec(), pair.session.as_deref().map(str::to_owned)))
            }).collect();
            let should: Vec<_> = model.pairs.clone().into_iter().collect();
            prop_assert_eq!(is, should);
            let held: usize = model.sessions.keys().map(|id| world.keys.locked_by(id).count()).sum();
            prop_assert_eq!(held, model.pairs.values().filter(|pair| pair.1.is_some()).count());
            prop_assert_eq!(world.keys.bytes(), world.keys.with_prefix("").map(|pair| pair.size()).sum::<usize>());
        }
    }
}

/// A step as an action of its own; the revision is that of the key before all of them.
fn as_action(step: &Step, modified: impl Fn(&str) -> u64) -> KeyAction {
    let put = |key: &u8, value: u8, cas, lock| {
        let key = name(*key);
        KeyAction::Put { key: key.as_str().into(), value: [value][..].into(), flags: 0, cas, lock }
    };
    match step {
        Step::Put(key, value, cas) => {
            put(key, *value, cas.map(|right| if right { modified(&name(*key)) } else { 999_999 }), Lock::Keep)
        }
        Step::Acquire(key, id) => put(key, 7, None, Lock::Acquire(id.to_string().as_str().into())),
        Step::Release(key, id) => put(key, 8, None, Lock::Release(id.to_string().as_str().into())),
        Step::Delete(key) => KeyAction::Delete { key: name(*key).as_str().into(), cas: None },
        Step::Prefix(prefix) | Step::Open(prefix, _) | Step::Close(prefix) => {
            KeyAction::DeletePrefix { prefix: format!("{prefix}/").as_str().into(), most: usize::MAX }
        }
    }
}

fn as_step(action: &KeyAction) -> KeyStep {
    match action.clone() {
        KeyAction::Put { key, value, flags, cas, lock } => KeyStep::Put { key, value, flags, cas, lock },
        KeyAction::Delete { key, cas } => KeyStep::Delete { key, cas },
        KeyAction::DeletePrefix { prefix, .. } => KeyStep::DeletePrefix(prefix),
        action => panic!("{action:?} is no step"),
    }
}

proptest! {
    /// A transaction is what its steps are one after the other, in one revision, or nothing when one of them does not hold.
    #[test]
    fn a_transaction_is_all_of_its_steps_or_none(
        before in prop::collection::vec(step(), 0..20),
        steps in prop::collection::vec(step(), 1..12),
    ) {
        let mut world = World::new(KeyLimits::default());
        for id in ["0", "1", "2"] {
            world.act(&session(id, None, 0, Behavior::Release)).unwrap();
        }
        for step in &before {
            let _ = world.act(&as_action(step, |_| 0));
        }
        let modified = |key: &str| world.keys.pair(key).map_or(0, |pair| pair.modified);
        let actions: Vec<KeyAction> = steps.iter().map(|step| as_action(step, modified)).collect();
        let clock = SessionClock::new(&world.keys, world.now);
        let mut alone = World { keys: world.keys.clone(), clock, now: world.now };
        let state = |world: &World| -> Vec<_> {
            let pairs = world.keys.with_prefix("");
            pairs.map(|pair| (pair.key.clone(), pair.value.clone(), pair.session.clone(), pair.lock_index)).collect()
        };
        let (untouched, revision) = (state(&world), world.keys.revision());
        let holds = actions.iter().map(|action| alone.act(action) == Ok(true)).collect::<Vec<_>>();
        let answer = world.answer(&KeyAction::Transaction(actions.iter().map(as_step).collect())).unwrap();
        match holds.iter().all(|holds| *holds) {
            true => {
                prop_assert!(matches!(answer, KeyAnswer::Shown(_)), "{:?}", answer);
                prop_assert_eq!(state(&world), state(&alone));
                prop_assert_eq!(world.keys.bytes(), alone.keys.bytes());
                prop_assert!(world.keys.revision() <= revision + 1);
            }
            false => {
                let KeyAnswer::Failed(failures) = answer else { return Err(TestCaseError::fail("it does not hold")) };
                let first = holds.iter().position(|holds| !holds).unwrap();
                prop_assert_eq!(failures[0].step, first);
                prop_assert_eq!(state(&world), untouched);
            }
        }
    }
}

#[test]
fn a_clone_shares_the_values() {
    let mut world = World::new(KeyLimits::default());
    world.put("a", b"value", None, Lock::Keep).unwrap();
    let clone = world.keys.clone();
    assert!(Arc::ptr_eq(clone.pair("a").unwrap(), world.keys.pair("a").unwrap()));
}
