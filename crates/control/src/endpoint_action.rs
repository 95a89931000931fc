//! What operators do with endpoints while the process runs, and the record of it.
//!
//! It does not know who may do so: that is decided where the action comes in.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::SystemTime;

use meshwright_snapshot::Snapshot;
use meshwright_traffic::{AdminState, BreakerMode, OutlierEvent};

/// Entries of the audit record; the oldest make room.
const MAX_AUDIT: usize = 1_000;

/// An action on one endpoint of a service, in all clusters of that service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndpointAction {
    /// No new requests; those in flight end by themselves.
    Drain,
    /// No new requests, and idle connections may be closed.
    Disable,
    /// Takes `Drain` and `Disable` back.
    Enable,
    /// Ends an ejection now and forgives the errors that led to it.
    Uneject,
}

impl EndpointAction {
    /// Lower-case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Disable => "disable",
            Self::Enable => "enable",
            Self::Uneject => "uneject",
        }
    }

    const fn admin_state(self) -> Option<AdminState> {
        match self {
            Self::Drain => Some(AdminState::Draining),
            Self::Disable => Some(AdminState::Disabled),
            Self::Enable => Some(AdminState::Enabled),
            Self::Uneject => None,
        }
    }
}

impl fmt::Display for EndpointAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EndpointAction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::Drain, Self::Disable, Self::Enable, Self::Uneject];
        let found = all.into_iter().find(|action| action.as_str() == text);
        found.ok_or_else(|| format!("`{text}` is no action; allowed are drain, disable, enable and uneject"))
    }
}

/// Why an action was not carried out. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActionError {
    /// No service has that name.
    #[error("there is no service {service}")]
    UnknownService {
        /// The name as given.
        service: String,
    },
    /// The service has no endpoint there.
    #[error("service {service} has no endpoint {address}; it has {}", list(.known))]
    UnknownEndpoint {
        /// Canonical host name of the service.
        service: String,
        /// The address as given.
        address: SocketAddr,
        /// The addresses there are.
        known: Vec<SocketAddr>,
    },
    /// The service has no circuit breaker.
    #[error("service {service} has no circuit breaker; a ResiliencePolicy gives it one")]
    NoBreaker {
        /// Canonical host name of the service.
        service: String,
    },
}

fn list(addresses: &[SocketAddr]) -> String {
    match addresses {
        [] => "none".to_owned(),
        some => some.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// One line of the audit record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// When.
    pub time: SystemTime,
    /// Who, as the caller of the action knows it.
    pub actor: String,
    /// What was asked for, in one word.
    pub action: &'static str,
    /// Service, and address where one endpoint was meant.
    pub target: String,
    /// What came of it: `done`, or the reason why not.
    pub outcome: String,
}

/// An ejection that an operator ended: the name of the cluster, and the event.
pub(crate) type EndedEjection = (String, OutlierEvent);

/// The words of operators that are in force, and the record.
#[derive(Debug, Default)]
pub(crate) struct Operators {
    words: BTreeMap<(String, SocketAddr), AdminState>,
    /// Words about the circuit breakers of a service.
    pub(crate) modes: BTreeMap<String, BreakerMode>,
    audit: VecDeque<AuditEntry>,
}

impl Operators {
    /// Puts the words in force on every host of `snapshot`, so that an endpoint that was away keeps what was said about it.
    pub(crate) fn apply(&self, snapshot: &Snapshot) {
        self.apply_modes(snapshot);
        for ((service, address), state) in &self.words {
            for cluster in snapshot.clusters_of(service) {
                if let Some(index) = cluster.host_at(*address) {
                    cluster.hosts.hosts()[index].state.set_admin(*state);
                }
            }
        }
    }

    /// Carries the action out in every cluster of the service that has the endpoint; what was done, a line for each cluster.
    pub(crate) fn act(
        &mut self,
        snapshot: &Snapshot,
        service: &str,
        address: SocketAddr,
        action: EndpointAction,
    ) -> Result<(Vec<String>, Vec<EndedEjection>), ActionError> {
        let mut lines = Vec::new();
        let mut ended = Vec::new();
        let mut known: Vec<SocketAddr> = Vec::new();
        for cluster in snapshot.clusters_of(service) {
            known.extend(&cluster.addresses);
            let Some(index) = cluster.host_at(address) else { continue };
            if let Some(state) = action.admin_state() {
                cluster.hosts.hosts()[index].state.set_admin(state);
                lines.push(format!("{}: {address} is {}", cluster.name, state.as_str()));
                continue;
            }
            let event = cluster.unreachable.ejections().uneject(&cluster.hosts, index);
            match event {
                Some(event) => {
                    lines.push(format!("{}: {address} takes part again", cluster.name));
                    ended.push((cluster.name.clone(), event));
                }
                None => lines.push(format!("{}: {address} was not ejected", cluster.name)),
            }
        }
        if lines.is_empty() {
            known.sort_unstable();
            known.dedup();
            return Err(ActionError::UnknownEndpoint { service: service.to_owned(), address, known });
        }
        match action.admin_state() {
            Some(AdminState::Enabled) => {
                self.words.remove(&(service.to_owned(), address));
            }
            Some(state) => {
                self.words.insert((service.to_owned(), address), state);
            }
            None => {}
        }
        Ok((lines, ended))
    }

    pub(crate) fn record(&mut self, entry: AuditEntry) {
        if self.audit.len() == MAX_AUDIT {
            self.audit.pop_front();
        }
        self.audit.push_back(entry);
    }

    /// The record, oldest first.
    pub(crate) fn audit(&self) -> Vec<AuditEntry> {
        self.audit.iter().cloned().collect()
    }
}
