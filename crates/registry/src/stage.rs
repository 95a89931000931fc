//! What may happen next: proposals are checked against the state and against each other, and become events.
//!
//! A stage is made for one batch, on top of the committed state, and changes nothing. The caller keeps the events, then
//! applies them. Read next: `registry.rs`.

use std::collections::HashMap;
use std::sync::Arc;

use crate::{Change, Entry, Event, Instance, InstanceKey, Invalid, Registry, ServiceKey};

/// A wish to change one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Which instance.
    pub key: InstanceKey,
    /// What it must be like now.
    pub expected: Expected,
    /// What is to happen.
    pub action: Action,
}

/// What an instance must be like for a proposal to be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Anything.
    Any,
    /// It is not registered.
    Absent,
    /// Its last change has this revision.
    Modified(u64),
}

/// What is to happen to an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It registers. When it is there already, others' words about it and answers of checks are kept.
    Register(Box<Instance>),
    /// It is exactly this from now on.
    Replace(Box<Instance>),
    /// It leaves.
    Remove(Reason),
}

/// Why an instance left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Somebody took it away, or it went itself.
    Deregistered,
    /// Its lease ended.
    Expired,
    /// Its connection was closed.
    ConnectionClosed,
    /// A check was critical for too long.
    Critical,
}

impl Reason {
    /// `deregistered`, `expired`, `connection_closed` or `critical`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deregistered => "deregistered",
            Self::Expired => "expired",
            Self::ConnectionClosed => "connection_closed",
            Self::Critical => "critical",
        }
    }
}

/// Why a proposal is not carried out. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such instance.
    #[error("there is no instance {0}")]
    NotFound(InstanceKey),
    /// It is not what the proposal expected.
    #[error("instance {key} was changed by somebody else")]
    Conflict {
        /// Which instance.
        key: InstanceKey,
        /// Revision of its last change; `None` when it is not registered.
        modified: Option<u64>,
    },
    /// A value is out of range.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A limit is reached.
    #[error("the registry is full: it takes no more than {limit} {what}")]
    Full {
        /// What there are too many of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

/// What came of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The instance as it is now; for a removal, as it was last.
    pub entry: Arc<Entry>,
    /// Whether something changed. A registration that says what is known already changes nothing and has no event.
    pub changed: bool,
}

/// Proposals of one batch on top of the committed state.
pub struct Stage<'r> {
    registry: &'r Registry,
    staged: HashMap<InstanceKey, Option<Arc<Entry>>>,
    /// Change of the number of instances, per service and in all.
    grown: HashMap<ServiceKey, isize>,
    instances: usize,
    services: usize,
    revision: u64,
    events: Vec<Event>,
}

impl<'r> Stage<'r> {
    /// A stage on top of `registry`.
    pub fn new(registry: &'r Registry) -> Self {
        Self {
            registry,
            staged: HashMap::new(),
            grown: HashMap::new(),
            instances: registry.len(),
            services: registry.services().len(),
            revision: registry.revision(),
            events: Vec::new(),
        }
    }

    /// Decides about one proposal, after all those before it.
    ///
    /// # Errors
    ///
    /// Why it is not carried out.
    pub fn propose(&mut self, proposal: Proposal) -> Result<Outcome, Refusal> {
        let Proposal { key, expected, action } = proposal;
        let current = self.current(&key);
        let modified = current.as_ref().map(|entry| entry.modified);
        let fits = match expected {
            Expected::Any => true,
            Expected::Absent => modified.is_none(),
            Expected::Modified(revision) => modified == Some(revision),
        };
        if !fits {
            return Err(Refusal::Conflict { key, modified });
        }
        match (action, current) {
            (Action::Remove(reason), Some(last)) => {
                self.count(&key.service, -1);
                let key = last.key.clone();
                self.record(key, None, Change::Remove { last: Arc::clone(&last), reason });
                Ok(Outcome { entry: last, changed: true })
            }
            (Action::Remove(_) | Action::Replace(_), None) => Err(Refusal::NotFound(key)),
            (Action::Register(mut instance), Some(before)) => {
                instance.succeed(&before.instance);
                self.put(key, *instance, Some(before))
            }
            (Action::Register(instance), None) => self.put(key, *instance, None),
            (Action::Replace(instance), Some(before)) => self.put(key, *instance, Some(before)),
        }
    }

    /// The events of everything that was accepted, in order.
    pub fn into_events(self) -> Vec<Event> {
        self.events
    }

    fn current(&self, key: &InstanceKey) -> Option<Arc<Entry>> {
        match self.staged.get(key) {
            Some(staged) => staged.clone(),
            None => self.registry.instance(key).cloned(),
        }
    }

    fn put(&mut self, key: InstanceKey, instance: Instance, before: Option<Arc<Entry>>) -> Result<Outcome, Refusal> {
        instance.validate(self.registry.limits())?;
        if let Some(before) = &before
            && before.instance == instance
        {
            return Ok(Outcome { entry: Arc::clone(before), changed: false });
        }
        let key = match &before {
            Some(before) => before.key.clone(),
            None => {
                self.has_room(&key.service)?;
                self.count(&key.service, 1);
                self.registry.known(key)
            }
        };
        let revision = self.revision + 1;
        let created = before.map_or(revision, |before| before.created);
        let entry = Arc::new(Entry { key: key.clone(), instance, created, modified: revision });
        self.record(key, Some(Arc::clone(&entry)), Change::Put(Arc::clone(&entry)));
        Ok(Outcome { entry, changed: true })
    }

    fn record(&mut self, key: InstanceKey, now: Option<Arc<Entry>>, change: Change) {
        self.revision += 1;
        self.staged.insert(key.clone(), now);
        self.events.push(Event { revision: self.revision, key, change });
    }

    fn size_of(&self, service: &ServiceKey) -> usize {
        let committed = self.registry.service(service).map_or(0, |service| service.instances().len());
        committed.saturating_add_signed(self.grown.get(service).copied().unwrap_or_default())
    }

    fn has_room(&self, service: &ServiceKey) -> Result<(), Refusal> {
        let limits = self.registry.limits();
        let size = self.size_of(service);
        if size == 0 && self.services >= limits.services {
            return Err(Refusal::Full { what: "services", limit: limits.services });
        }
        if size >= limits.instances_per_service {
            return Err(Refusal::Full { what: "instances of one service", limit: limits.instances_per_service });
        }
        if self.instances >= limits.instances {
            return Err(Refusal::Full { what: "instances", limit: limits.instances });
        }
        Ok(())
    }

    fn count(&mut self, service: &ServiceKey, change: isize) {
        let before = self.size_of(service);
        *self.grown.entry(service.clone()).or_default() += change;
        self.instances = self.instances.saturating_add_signed(change);
        match (before, self.size_of(service)) {
            (0, 1..) => self.services += 1,
            (1.., 0) => self.services = self.services.saturating_sub(1),
            _ => {}
        }
    }
}
