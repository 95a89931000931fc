//! The short way: endpoints that changed, by DNS or by the registry, and names that were never registered before.
//!
//! It reads no file. What a configuration is, and when it is read, is `control.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use meshwright_model::ServiceId;
use meshwright_snapshot::{Snapshot, compile};
use tokio::task::{Id, JoinError};
use tracing::{error, info, warn};

use super::Control;
use crate::resolution::{Lookup, has_names};

impl Control {
    pub(super) fn start_lookups(&mut self, now: Instant) {
        for name in self.names.take_due(now) {
            match self.resolver.lookup(name.clone()) {
                Ok(lookup) => {
                    let task = self.lookups.spawn(lookup);
                    self.looked_up.insert(task.id(), name);
                }
                Err(failure) => {
                    self.answer(&name, failure, now);
                    self.show_names();
                }
            }
        }
    }

    /// One lookup ended; those that ended with it are taken along, so that they make one publication.
    pub(super) fn looked_up(&mut self, ended: Result<(Id, Lookup), JoinError>) {
        let now = Instant::now();
        let mut changed = false;
        let mut next = Some(ended);
        while let Some(ended) = next {
            let (id, lookup) = match ended {
                Ok((id, lookup)) => (id, lookup),
                Err(error) => (error.id(), Lookup::Failure(format!("the lookup broke off: {error}"))),
            };
            if let Some(name) = self.looked_up.remove(&id) {
                changed |= self.answer(&name, lookup, now);
            }
            next = self.lookups.try_join_next_with_id();
        }
        self.show_names();
        if changed {
            // Instances of the registry may have the name too.
            let current = self.handle.snapshot();
            let services = current.mesh.services.iter().enumerate();
            let named = services.filter(|(_, service)| has_names(service)).map(|(index, _)| ServiceId(index));
            let registered = self.registered.hosts_with_names().filter_map(|host| known(&current, host));
            self.publish_endpoints(&current, named.chain(registered).collect());
        }
    }

    /// Takes in what changed in the registry: other instances of services that are known take the short way, a new name is
    /// compiled in.
    pub(super) fn registry_changed(&mut self) {
        let changed = self.registered.follow();
        if changed.is_empty() {
            return;
        }
        let current = self.handle.snapshot();
        let is_new = |host: &String| self.registered.contains(host) && known(&current, host).is_none();
        if changed.iter().any(is_new) {
            self.publish_services(&current);
            self.follow(Instant::now());
        } else {
            self.publish_endpoints(&current, changed.iter().filter_map(|host| known(&current, host)).collect());
            self.follow_names(&current.mesh, Instant::now());
        }
    }

    /// The running configuration with the services that are registered now; it counts as the same configuration.
    fn publish_services(&mut self, current: &Snapshot) {
        let mesh = self.registered.mesh(&current.mesh);
        let resolved = self.names.endpoint_sets(&mesh, &self.registered);
        match compile(mesh, &resolved, &self.options, Some(current)) {
            Ok((mut snapshot, _)) => {
                snapshot.generation = current.generation;
                self.publish_change(snapshot);
            }
            Err(findings) => {
                for finding in findings {
                    error!(%finding, "registered services cannot be taken over");
                }
            }
        }
    }

    /// Takes note of an answer and says what a person should know; whether addresses changed.
    fn answer(&mut self, name: &str, lookup: Lookup, now: Instant) -> bool {
        let before = self.names.name(name);
        if matches!(lookup, Lookup::Failure(_)) {
            self.resolver.reset();
        }
        let changed = self.names.handle_event(name, lookup, now);
        let Some(after) = self.names.name(name) else { return false };
        let failed_before = before.is_some_and(|before| before.error.is_some());
        match &after.error {
            Some(error) if !failed_before => {
                warn!(name, %error, kept = after.addresses.len(), "name cannot be resolved; trying again");
            }
            None if failed_before || changed => info!(name, addresses = ?after.addresses, "name resolved"),
            _ => {}
        }
        changed
    }

    fn show_names(&mut self) {
        let names = self.names.status();
        self.handle.update_status(|status| status.names = names);
    }

    /// Publishes what the endpoints of `services` are now.
    fn publish_endpoints(&mut self, current: &Snapshot, services: BTreeSet<ServiceId>) {
        let set = |id: ServiceId| self.names.endpoint_set(id, &current.mesh.services[id.0], &self.registered);
        let changed: Vec<_> =
            services.into_iter().map(set).filter(|set| *current.resolved[set.service.0] != *set).collect();
        if changed.is_empty() {
            return;
        }
        self.publish_change(current.with_endpoints(&changed));
    }

    fn publish_change(&mut self, next: Snapshot) {
        let number = next.number;
        match self.handle.publish(Arc::new(next)) {
            Ok(()) => {
                self.handle.update_status(|status| {
                    status.number = number;
                    status.endpoint_updates += 1;
                });
                self.health.follow(&self.handle.snapshot(), Instant::now());
            }
            Err(findings) => {
                for finding in findings {
                    error!(%finding, "changed endpoints cannot be published");
                }
            }
        }
    }
}

/// The service of the running configuration with this full name.
fn known(current: &Snapshot, host: &str) -> Option<ServiceId> {
    let id = current.directory.find(host, "")?;
    (current.mesh.services[id.0].host == host).then_some(id)
}
