//! Finding a service by any of the names that reach it.

use std::collections::HashMap;

use crate::{Service, host};

/// Index of a service in `Mesh::services`. Valid for the mesh it was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceId(pub usize);

/// All names of all services.
#[derive(Clone, Debug, Default)]
pub struct ServiceDirectory {
    names: HashMap<String, ServiceId>,
    short: HashMap<(String, String), ServiceId>,
    short_anywhere: HashMap<String, ServiceId>,
}

impl ServiceDirectory {
    /// Indexes `services`. When two services claim one name, the earlier keeps it.
    pub fn new(services: &[Service]) -> Self {
        let mut directory = Self::default();
        for (index, service) in services.iter().enumerate() {
            let id = ServiceId(index);
            directory.names.entry(service.host.clone()).or_insert(id);
            if let Some(short) = &service.short_name {
                directory.short.entry((short.clone(), service.namespace.clone())).or_insert(id);
                directory.short_anywhere.entry(short.clone()).or_insert(id);
            }
        }
        for (index, service) in services.iter().enumerate() {
            for alias in &service.aliases {
                directory.names.entry(alias.clone()).or_insert(ServiceId(index));
            }
        }
        directory
    }

    /// The service that `name` means to somebody in `namespace`: an exactly equal name first, then the short name
    /// in that namespace, then `name.namespace.svc.cluster.local`, then the short name wherever it is.
    /// `name` must be lower-case, without port and trailing dot.
    pub fn find(&self, name: &str, namespace: &str) -> Option<ServiceId> {
        if let Some(id) = self.names.get(name) {
            return Some(*id);
        }
        if !host::is_short(name) {
            return None;
        }
        self.short
            .get(&(name.to_owned(), namespace.to_owned()))
            .or_else(|| self.names.get(&host::fully_qualified(name, namespace)))
            .or_else(|| self.short_anywhere.get(name))
            .copied()
    }

    /// Every name that reaches `service`, with short names; for suggestions.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().chain(self.short_anywhere.keys()).map(String::as_str)
    }
}
