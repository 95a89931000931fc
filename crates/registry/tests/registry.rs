//! Proposals, events and cursors against a slow oracle, and the rules that a user of the registry depends on.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::collections::BTreeMap;

use meshwright_registry::{
    Action, Change, Check, Entry, Event, Expected, Instance, InstanceKey, Limits, Override, Probe, Proposal, Reason,
    Refusal, Registry, Scope, Selector, ServiceKey, Stage, Status,
};
use proptest::prelude::*;

fn key(service: &str, id: &str) -> InstanceKey {
    InstanceKey::new(ServiceKey::new("", service).unwrap(), id).unwrap()
}

fn proposal(key: InstanceKey, expected: Expected, action: Action) -> Proposal {
    Proposal { key, expected, action }
}

fn register(registry: &mut Registry, key: InstanceKey, instance: Instance) -> Result<u64, Refusal> {
    commit(registry, proposal(key, Expected::Any, Action::Register(Box::new(instance))))
}

fn commit(registry: &mut Registry, proposal: Proposal) -> Result<u64, Refusal> {
    let mut stage = Stage::new(registry);
    let outcome = stage.propose(proposal)?;
    for event in stage.into_events() {
        registry.apply(event);
    }
    Ok(outcome.entry.modified)
}

#[test]
fn saying_the_same_again_changes_nothing_and_wakes_nobody() {
    let mut registry = Registry::new(Limits::default());
    register(&mut registry, key("users", "a"), Instance::new("10.0.0.1", 80)).unwrap();
    register(&mut registry, key("users", "a"), Instance::new("10.0.0.1", 80)).unwrap();
    assert_eq!(registry.revision(), 1);
    register(&mut registry, key("users", "a"), Instance::new("10.0.0.2", 80)).unwrap();
    assert_eq!(registry.revision(), 2);
    let entry = registry.instance(&key("users", "a")).unwrap();
    assert_eq!((entry.created, entry.modified), (1, 2));
}

#[test]
fn registering_again_keeps_an_override_and_the_answers_of_the_same_checks() {
    let mut registry = Registry::new(Limits::default());
    let tcp = || Check::new("tcp", Probe::Tcp { authority: None });
    let mut instance = Instance::new("10.0.0.1", 80);
    instance.checks = vec![tcp().with_result(Status::Passing, "connected")];
    instance.overridden = Some(Override { status: Status::OutOfService, reason: "upgrade".into() });
    register(&mut registry, key("users", "a"), instance).unwrap();
    let mut again = Instance::new("10.0.0.1", 80);
    again.checks = vec![tcp(), Check::new("other", Probe::Tcp { authority: None })];
    register(&mut registry, key("users", "a"), again).unwrap();
    let entry = registry.instance(&key("users", "a")).unwrap();
    assert_eq!(entry.instance.status(), Status::OutOfService);
    let statuses: Vec<_> = entry.instance.checks.iter().map(|check| check.status).collect();
    assert_eq!(statuses, [Status::Passing, Status::Starting]);
}

#[test]
fn a_change_on_the_ground_of_an_old_revision_is_a_conflict() {
    let mut registry = Registry::new(Limits::default());
    let old = register(&mut registry, key("users", "a"), Instance::new("10.0.0.1", 80)).unwrap();
    let new = register(&mut registry, key("users", "a"), Instance::new("10.0.0.2", 80)).unwrap();
    let evict = |revision| proposal(key("users", "a"), Expected::Modified(revision), Action::Remove(Reason::Expired));
    let conflict = Refusal::Conflict { key: key("users", "a"), modified: Some(new) };
    assert_eq!(commit(&mut registry, evict(old)), Err(conflict));
    assert!(commit(&mut registry, evict(new)).is_ok());
    let gone = Refusal::NotFound(key("users", "a"));
    assert_eq!(
        commit(&mut registry, proposal(key("users", "a"), Expected::Any, Action::Remove(Reason::Expired))),
        Err(gone)
    );
}

#[test]
fn limits_refuse_by_name_within_a_batch_too_and_room_that_is_made_counts() {
    let limits = Limits { services: 2, instances: 3, instances_per_service: 2, ..Limits::default() };
    let registry = Registry::new(limits);
    let mut stage = Stage::new(&registry);
    let mut put = |service: &str, id: &str| {
        let action = Action::Register(Box::new(Instance::new("10.0.0.1", 80)));
        stage.propose(proposal(key(service, id), Expected::Any, action)).map(|_| ())
    };
    assert!(put("a", "1").is_ok() && put("a", "2").is_ok());
    assert_eq!(put("a", "3"), Err(Refusal::Full { what: "instances of one service", limit: 2 }));
    assert!(put("b", "1").is_ok());
    assert_eq!(put("c", "1"), Err(Refusal::Full { what: "services", limit: 2 }));
    assert_eq!(put("b", "2"), Err(Refusal::Full { what: "instances", limit: 3 }));
    stage.propose(proposal(key("b", "1"), Expected::Any, Action::Remove(Reason::Deregistered))).unwrap();
    let action = Action::Register(Box::new(Instance::new("10.0.0.1", 80)));
    assert!(stage.propose(proposal(key("c", "1"), Expected::Any, action)).is_ok());
}

#[test]
fn values_out_of_range_are_refused_with_their_field() {
    let field = |change: fn(&mut Instance)| {
        let mut registry = Registry::new(Limits::default());
        let mut instance = Instance::new("10.0.0.1", 80);
        change(&mut instance);
        match register(&mut registry, key("users", "a"), instance) {
            Err(Refusal::Invalid(invalid)) => invalid.field,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(field(|instance| instance.address = "10.0.0.1:80".into()), "address");
    assert_eq!(field(|instance| instance.weight = 0), "weight");
    assert_eq!(field(|instance| instance.lease.ttl = std::time::Duration::ZERO), "ttl");
    assert_eq!(field(|instance| instance.reported = Status::Draining), "health");
    assert_eq!(field(|instance| instance.tags = vec!["a\nb".into()]), "tag");
    assert_eq!(field(|instance| instance.metadata.insert("k", &"v".repeat(5000))), "metadata");
    assert_eq!(
        field(|instance| {
            for index in 0..10 {
                instance.metadata.insert(&index.to_string(), &"v".repeat(4000));
            }
        }),
        "instance"
    );
}

#[test]
fn a_selector_finds_by_health_tags_and_labels() {
    let mut instance = Instance::new("10.0.0.1", 80);
    instance.version = "v2".into();
    instance.tags = vec!["canary".into()];
    let entry = |instance: &Instance| Entry { key: key("a", "1"), instance: instance.clone(), created: 1, modified: 1 };
    let label = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
    let by = |selector: Selector, instance: &Instance| selector.matches(&entry(instance));
    assert!(by(Selector { tags: vec!["canary".into()], labels: label("version", "v2"), healthy: true }, &instance));
    assert!(!by(Selector { tags: vec!["blue".into()], ..Selector::default() }, &instance));
    assert!(!by(Selector { labels: label("version", "v1"), ..Selector::default() }, &instance));
    instance.reported = Status::Critical;
    assert!(by(Selector::default(), &instance));
    assert!(!by(Selector { healthy: true, ..Selector::default() }, &instance));
}

#[derive(Clone, Debug)]
enum Step {
    Register(u8, u8, u8),
    Remove(u8, u8),
    Conditional(u8, u8, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3u8, 0..4u8, 0..3u8).prop_map(|(service, id, port)| Step::Register(service, id, port)),
        1 => (0..3u8, 0..4u8).prop_map(|(service, id)| Step::Remove(service, id)),
        1 => (0..3u8, 0..4u8, 0..3u8).prop_map(|(service, id, back)| Step::Conditional(service, id, back)),
    ]
}

fn to_proposal(step: &Step, registry: &Registry) -> Proposal {
    let of = |service: &u8, id: &u8| key(&format!("s{service}"), &format!("i{id}"));
    match step {
        Step::Register(service, id, port) => {
            let instance = Instance::new("10.0.0.1", 8000 + u16::from(*port));
            proposal(of(service, id), Expected::Any, Action::Register(Box::new(instance)))
        }
        Step::Remove(service, id) => proposal(of(service, id), Expected::Any, Action::Remove(Reason::Deregistered)),
        Step::Conditional(service, id, back) => {
            let revision = registry.revision().saturating_sub(u64::from(*back));
            proposal(of(service, id), Expected::Modified(revision), Action::Remove(Reason::Expired))
        }
    }
}

/// What a reader knows who starts with nothing and follows events.
#[derive(Default)]
struct Reader {
    known: BTreeMap<InstanceKey, Entry>,
    at: u64,
}

impl Reader {
    fn read(&mut self, registry: &Registry, scope: &Scope) {
        match registry.events(self.at, scope).map(|events| events.cloned().collect::<Vec<Event>>()) {
            Ok(events) => events.into_iter().for_each(|event| match event.change {
                Change::Put(entry) => drop(self.known.insert(event.key, (*entry).clone())),
                Change::Remove { .. } => drop(self.known.remove(&event.key)),
            }),
            Err(_) => self.known = everything(registry, scope),
        }
        self.at = registry.revision();
    }
}

fn everything(registry: &Registry, scope: &Scope) -> BTreeMap<InstanceKey, Entry> {
    let entries = registry.services().flat_map(|(_, service)| service.instances());
    entries.filter(|entry| scope.covers(&entry.key)).map(|entry| (entry.key.clone(), (**entry).clone())).collect()
}

proptest! {
    /// Batches of any size give the state that a map gives; readers that come rarely, and those that fall behind the log,
    /// know the same as the registry; a registry restored from its entries is the same.
    #[test]
    fn the_state_is_that_of_a_map_and_readers_of_events_know_the_same(
        batches in prop::collection::vec(prop::collection::vec(step(), 1..6), 1..40),
        history in 1..12usize,
    ) {
        let limits = Limits { history, ..Limits::default() };
        let mut registry = Registry::new(limits);
        let mut oracle: BTreeMap<InstanceKey, (u16, u64)> = BTreeMap::new();
        let mut revision = 0;
        let one = Scope::Service(ServiceKey::new("", "s1").unwrap());
        let (mut often, mut rare, mut narrow) = (Reader::default(), Reader::default(), Reader::default());
        for (number, batch) in batches.iter().enumerate() {
            let mut stage = Stage::new(&registry);
            for step in batch {
                let proposal = to_proposal(step, &registry);
                let known = oracle.get(&proposal.key).copied();
                let expected = match proposal.expected {
                    Expected::Modified(at) => known.is_some_and(|(_, modified)| modified == at),
                    _ => true,
                };
                let wanted = match (&proposal.action, expected) {
                    (_, false) => false,
                    (Action::Register(instance), _) => {
                        if known.is_none_or(|(port, _)| port != instance.port) {
                            revision += 1;
                            oracle.insert(proposal.key.clone(), (instance.port, revision));
                        }
                        true
                    }
                    (_, true) => match oracle.remove(&proposal.key) {
                        Some(_) => { revision += 1; true }
                        None => false,
                    },
                };
                prop_assert_eq!(stage.propose(proposal).is_ok(), wanted);
            }
            for event in stage.into_events() {
                registry.apply(event.clone());
                registry.apply(event);
            }
            prop_assert_eq!(registry.revision(), revision);
            often.read(&registry, &Scope::All);
            narrow.read(&registry, &one);
            if number % 4 == 3 {
                rare.read(&registry, &Scope::All);
            }
        }
        rare.read(&registry, &Scope::All);
        let state = everything(&registry, &Scope::All);
        let seen: BTreeMap<_, _> = state.iter().map(|(key, entry)| (key.clone(), (entry.instance.port, entry.modified))).collect();
        prop_assert_eq!(&seen, &oracle);
        prop_assert_eq!(registry.len(), oracle.len());
        for id in 0..4 {
            let id = format!("i{id}");
            let mut found: Vec<_> = registry.with_id(&id).map(|entry| entry.key.clone()).collect();
            found.sort();
            prop_assert_eq!(found, oracle.keys().filter(|key| key.id() == id).cloned().collect::<Vec<_>>());
        }
        prop_assert_eq!(&often.known, &state);
        prop_assert_eq!(&rare.known, &state);
        prop_assert_eq!(narrow.known, everything(&registry, &one));
        let restored = Registry::restore(limits, state.values().cloned(), registry.revision());
        prop_assert_eq!(everything(&restored, &Scope::All), state);
        prop_assert!(revision == 0 || restored.events(revision - 1, &Scope::All).is_err());
        prop_assert!(restored.events(revision, &Scope::All).is_ok());
    }
}

#[test]
fn changes_that_were_committed_together_are_seen_together_or_not_at_all() {
    let mut registry = Registry::new(Limits { history: 2, ..Limits::default() });
    let event = |revision: u64, id: &str| {
        let key = key("users", id);
        let (created, instance) = (revision, Instance::new("10.0.0.1", 80));
        let entry = Entry { key: key.clone(), instance, created, modified: revision };
        Event { revision, key, change: Change::Put(std::sync::Arc::new(entry)) }
    };
    registry.apply_all([event(5, "a"), event(5, "b"), event(9, "c")]);
    assert_eq!((registry.len(), registry.revision()), (3, 9));
    registry.apply_all([event(9, "late")]);
    assert_eq!(registry.len(), 3, "a revision is applied once");
    let seen = |after: u64| registry.events(after, &Scope::All).map(Iterator::count);
    assert!(seen(4).is_err(), "half of a revision is not given to anybody");
    assert_eq!((seen(5), seen(9)), (Ok(1), Ok(0)));
}
