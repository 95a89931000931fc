//! What was committed: services with their instances, and the log of what changed.
//!
//! It applies events in the order of their revisions and decides nothing: that is `stage.rs`. Every watch is a revision in
//! somebody's hand; a cursor behind the log is told to read everything again.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::{Instance, InstanceKey, Limits, Reason, ServiceKey};

/// A registered instance with its revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who it is.
    pub key: InstanceKey,
    /// What it is.
    pub instance: Instance,
    /// Revision of its first registration.
    pub created: u64,
    /// Revision of its last change.
    pub modified: u64,
}

/// One committed change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its revision: one more than that of the change before in an own store, larger in a shared one, where changes that
    /// were committed together have the same.
    pub revision: u64,
    /// Which instance.
    pub key: InstanceKey,
    /// What happened to it.
    pub change: Change,
}

/// What a change does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The instance is this now.
    Put(Arc<Entry>),
    /// The instance is gone.
    Remove {
        /// What it was last.
        last: Arc<Entry>,
        /// Why.
        reason: Reason,
    },
}

impl Change {
    /// Why the instance is gone, when it is.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Put(_) => None,
            Self::Remove { reason, .. } => Some(*reason),
        }
    }
}

/// A service with at least one instance.
#[derive(Clone, Debug, Default)]
pub struct Service {
    instances: BTreeMap<Arc<str>, Arc<Entry>>,
    modified: u64,
}

impl Service {
    /// Its instances by id.
    pub fn instances(&self) -> impl ExactSizeIterator<Item = &Arc<Entry>> {
        self.instances.values()
    }

    /// Revision of the last change of any of its instances, removals included.
    pub fn modified(&self) -> u64 {
        self.modified
    }
}

/// What a cursor looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    All,
    /// One namespace.
    Namespace(String),
    /// One service.
    Service(ServiceKey),
}

impl Scope {
    /// Whether a change of `key` is in it.
    pub fn covers(&self, key: &InstanceKey) -> bool {
        match self {
            Self::All => true,
            Self::Namespace(namespace) => key.service.namespace() == namespace,
            Self::Service(service) => key.service == *service,
        }
    }
}

/// The log no longer reaches back to a cursor: what it missed can only be had by reading everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "revision {asked} is compacted; the log begins after {compacted}: read everything, then go on from its revision"
)]
pub struct Compacted {
    /// The revision asked for.
    pub asked: u64,
    /// The last revision that is not in the log any more.
    pub compacted: u64,
}

/// The committed state.
#[derive(Clone, Debug)]
pub struct Registry {
    limits: Limits,
    services: BTreeMap<ServiceKey, Service>,
    /// Services that have an instance with an id; nearly always one.
    ids: HashMap<Arc<str>, Vec<ServiceKey>>,
    instances: usize,
    log: VecDeque<Event>,
    compacted: u64,
    revision: u64,
}

impl Registry {
    /// An empty registry at revision 0.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            services: BTreeMap::new(),
            ids: HashMap::new(),
            instances: 0,
            log: VecDeque::new(),
            compacted: 0,
            revision: 0,
        }
    }

    /// A registry as a store kept it: no cursor from before `revision` can be served.
    pub fn restore(limits: Limits, entries: impl IntoIterator<Item = Entry>, revision: u64) -> Self {
        let mut registry = Self::new(limits);
        for mut entry in entries {
            entry.key = registry.known(entry.key);
            registry.put(Arc::new(entry));
        }
        registry.revision = revision;
        registry.compacted = revision;
        registry
    }

    /// The limits it was made with.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Revision of the last change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The last revision that cursors can no longer go on from.
    pub fn compacted(&self) -> u64 {
        self.compacted
    }

    /// Number of instances of all services.
    pub fn len(&self) -> usize {
        self.instances
    }

    /// Whether nothing is registered.
    pub fn is_empty(&self) -> bool {
        self.instances == 0
    }

    /// Services with at least one instance, by namespace and name.
    pub fn services(&self) -> impl ExactSizeIterator<Item = (&ServiceKey, &Service)> {
        self.services.iter()
    }

    /// One service, when it has an instance.
    pub fn service(&self, key: &ServiceKey) -> Option<&Service> {
        self.services.get(key)
    }

    /// One instance.
    pub fn instance(&self, key: &InstanceKey) -> Option<&Arc<Entry>> {
        self.services.get(&key.service)?.instances.get(key.id())
    }

    /// The instances of all services that have this id.
    pub fn with_id(&self, id: &str) -> impl Iterator<Item = &Arc<Entry>> {
        let services = self.ids.get(id).into_iter().flatten();
        let id = id.to_owned();
        services.filter_map(move |service| self.services.get(service)?.instances.get(id.as_str()))
    }

    pub(crate) fn service_key(&self, key: &ServiceKey) -> Option<&ServiceKey> {
        self.services.get_key_value(key).map(|(key, _)| key)
    }

    /// `key` with the names of its service as they are known here already, so that equal names are kept once.
    pub fn known(&self, key: InstanceKey) -> InstanceKey {
        self.service_key(&key.service).map_or_else(|| key.clone(), |service| key.shared(service))
    }

    /// Makes a committed change part of the state. Events come in the order of their revisions; one that is not newer than
    /// the state was applied before and changes nothing.
    pub fn apply(&mut self, event: Event) {
        self.apply_all([event]);
    }

    /// As [`Registry::apply`] for the changes of whole revisions: those that were committed together stand together.
    pub fn apply_all(&mut self, events: impl IntoIterator<Item = Event>) {
        let applied = self.revision;
        for event in events.into_iter().filter(|event| event.revision > applied) {
            self.apply_one(event);
        }
    }

    fn apply_one(&mut self, event: Event) {
        self.revision = event.revision;
        match &event.change {
            Change::Put(entry) => self.put(Arc::clone(entry)),
            Change::Remove { .. } => self.remove(&event.key, event.revision),
        }
        self.log.push_back(event);
        while self.log.len() > self.limits.history {
            if let Some(oldest) = self.log.pop_front() {
                self.compacted = oldest.revision;
            }
        }
    }

    fn put(&mut self, entry: Arc<Entry>) {
        let key = entry.key.clone();
        let service = self.services.entry(key.service.clone()).or_default();
        service.modified = service.modified.max(entry.modified);
        if service.instances.insert(key.id_shared(), entry).is_none() {
            self.instances += 1;
            // Room for the one that there is nearly always, not for four.
            self.ids.entry(key.id_shared()).or_insert_with(|| Vec::with_capacity(1)).push(key.service);
        }
    }

    fn remove(&mut self, key: &InstanceKey, revision: u64) {
        let Some(service) = self.services.get_mut(&key.service) else { return };
        service.modified = revision;
        if service.instances.remove(key.id()).is_some() {
            self.instances -= 1;
            if let Some(services) = self.ids.get_mut(key.id()) {
                services.retain(|service| *service != key.service);
                if services.is_empty() {
                    self.ids.remove(key.id());
                }
            }
        }
        if service.instances.is_empty() {
            self.services.remove(&key.service);
        }
    }

    /// What changed in `scope` after revision `after`, oldest first. A revision that lies ahead has seen everything.
    ///
    /// # Errors
    ///
    /// The log no longer reaches back so far.
    pub fn events(&self, after: u64, scope: &Scope) -> Result<impl Iterator<Item = &Event>, Compacted> {
        if after < self.compacted {
            return Err(Compacted { asked: after, compacted: self.compacted });
        }
        let start = self.log.partition_point(|event| event.revision <= after);
        Ok(self.log.range(start..).filter(move |event| scope.covers(&event.key)))
    }
}
