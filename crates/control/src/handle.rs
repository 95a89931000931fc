//! The face of the control plane for the rest of the process: what runs, how it fares, and actions on endpoints.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use meshwright_model::host;
use meshwright_snapshot::Snapshot;
use tracing::{info, warn};

use crate::endpoint_action::Operators;
use crate::{ActionError, AuditEntry, BreakerAction, EndpointAction, Publisher, Status};

/// Shared view of a [`crate::Control`]; cheap to clone, usable from any thread, valid after the control plane ended.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

struct Shared {
    current: ArcSwap<Snapshot>,
    /// Guards the status for one copy or one change.
    status: Mutex<Status>,
    /// Guards the operators' words and the record for one action, or for putting the words on a snapshot.
    operators: Mutex<Operators>,
    publisher: Arc<dyn Publisher>,
    namespace: String,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl Handle {
    pub(crate) fn new(
        snapshot: Arc<Snapshot>,
        status: Status,
        publisher: Arc<dyn Publisher>,
        namespace: String,
    ) -> Self {
        let shared = Shared {
            current: ArcSwap::new(snapshot),
            status: Mutex::new(status),
            operators: Mutex::new(Operators::default()),
            publisher,
            namespace,
        };
        Self { shared: Arc::new(shared) }
    }

    /// The snapshot that runs.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.current.load_full()
    }

    /// How the control plane fares.
    pub fn status(&self) -> Status {
        self.lock_status().clone()
    }

    /// Carries `action` out on one endpoint of a service, in all clusters of the service, and keeps it over reloads and
    /// over the endpoint's absence. `service` is any of its names. Returns a line for each cluster, for people.
    ///
    /// Done or not, it is recorded with `actor`, the time and the outcome, and logged.
    ///
    /// # Errors
    ///
    /// The service or the endpoint is not known; nothing changed.
    pub fn endpoint_action(
        &self,
        service: &str,
        address: SocketAddr,
        action: EndpointAction,
        actor: &str,
    ) -> Result<Vec<String>, ActionError> {
        let target = format!("{service} {address}");
        let (snapshot, result) = self.act(service, action.as_str(), target, actor, |operators, snapshot, host| {
            operators.act(snapshot, host, address, action)
        });
        match &result {
            Ok(_) => info!(%action, service, %address, actor, "endpoint changed by an operator"),
            Err(error) => warn!(%action, service, %address, actor, %error, "endpoint not changed"),
        }
        let (lines, ended) = result?;
        for (name, event) in ended {
            if let Some(cluster) = snapshot.cluster(&name) {
                self.shared.publisher.outlier_event(cluster, &event);
            }
        }
        Ok(lines)
    }

    /// Carries `action` out on all circuit breakers of a service and keeps it over reloads. `service` is any of its names.
    /// Returns a line for each cluster, for people.
    ///
    /// Done or not, it is recorded with `actor`, the time and the outcome, and logged.
    ///
    /// # Errors
    ///
    /// The service is not known or has no breaker; nothing changed.
    pub fn breaker_action(
        &self,
        service: &str,
        action: BreakerAction,
        actor: &str,
    ) -> Result<Vec<String>, ActionError> {
        let target = format!("circuit breakers of {service}");
        let (_, result) = self.act(service, action.as_str(), target, actor, |operators, snapshot, host| {
            operators.act_on_breakers(snapshot, host, action)
        });
        let action = action.as_str();
        match &result {
            Ok(_) => info!(action, service, actor, "circuit breakers changed by an operator"),
            Err(error) => warn!(action, service, actor, %error, "circuit breakers not changed"),
        }
        result
    }

    /// Carries an operator's word out on the service of that name and records it, done or not.
    fn act<T>(
        &self,
        service: &str,
        action: &'static str,
        target: String,
        actor: &str,
        run: impl FnOnce(&mut Operators, &Snapshot, &str) -> Result<T, ActionError>,
    ) -> (Arc<Snapshot>, Result<T, ActionError>) {
        let mut operators = self.lock_operators();
        let snapshot = self.snapshot();
        let name = service.to_ascii_lowercase();
        let id = snapshot.directory.find(host::without_port(&name), &self.shared.namespace);
        let result = match id {
            Some(id) => run(&mut operators, &snapshot, &snapshot.mesh.services[id.0].host),
            None => Err(ActionError::UnknownService { service: service.to_owned() }),
        };
        let outcome = result.as_ref().map_or_else(ToString::to_string, |_| "done".to_owned());
        operators.record(AuditEntry { time: SystemTime::now(), actor: actor.to_owned(), action, target, outcome });
        (snapshot, result)
    }

    /// What operators did, oldest first; at most the last 1,000 actions.
    pub fn audit(&self) -> Vec<AuditEntry> {
        self.lock_operators().audit()
    }

    /// Hands `snapshot` to the publisher and, once that took it, makes it the current one.
    pub(crate) fn publish(&self, snapshot: Arc<Snapshot>) -> Result<(), Vec<meshwright_model::Diagnostic>> {
        self.lock_operators().apply(&snapshot);
        self.shared.publisher.publish(Arc::clone(&snapshot))?;
        self.shared.current.store(Arc::clone(&snapshot));
        // Once more: an action that came in between saw the snapshot before, which may not have had the endpoint.
        self.lock_operators().apply(&snapshot);
        Ok(())
    }

    pub(crate) fn publisher(&self) -> &dyn Publisher {
        &*self.shared.publisher
    }

    pub(crate) fn update_status(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.lock_status());
    }

    /// A thread that panicked while it held the lock left a whole status behind, at worst an old one.
    fn lock_status(&self) -> MutexGuard<'_, Status> {
        self.shared.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_operators(&self) -> MutexGuard<'_, Operators> {
        self.shared.operators.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
