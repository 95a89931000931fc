//! What operators do with the circuit breakers of a service while the process runs. Knows no endpoint: see
//! `endpoint_action.rs`, which keeps the words and the record.

use std::time::Instant;

use meshwright_snapshot::Snapshot;
use meshwright_traffic::BreakerMode;

use crate::ActionError;
use crate::endpoint_action::Operators;

/// An action on all circuit breakers of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BreakerAction {
    /// They refuse every request.
    ForceOpen,
    /// They refuse nothing and still count.
    ForceClosed,
    /// They refuse nothing and count nothing.
    Disable,
    /// They start anew and do what the configuration says.
    Reset,
}

impl BreakerAction {
    /// Lower-case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ForceOpen => "force-open",
            Self::ForceClosed => "force-closed",
            Self::Disable => "disable",
            Self::Reset => "reset",
        }
    }

    /// Who decides from now on; `None` is the configuration.
    const fn mode(self) -> Option<BreakerMode> {
        match self {
            Self::ForceOpen => Some(BreakerMode::ForcedOpen),
            Self::ForceClosed => Some(BreakerMode::ForcedClosed),
            Self::Disable => Some(BreakerMode::Disabled),
            Self::Reset => None,
        }
    }
}

impl Operators {
    /// Puts the words about breakers in force, so that those which are new obey them too.
    pub(crate) fn apply_modes(&self, snapshot: &Snapshot) {
        let now = Instant::now();
        for (service, mode) in &self.modes {
            let breakers = snapshot.clusters_of(service).filter_map(|cluster| cluster.breakers.as_ref());
            for breaker in breakers.flat_map(|breakers| breakers.all()) {
                if breaker.view(now).mode != *mode {
                    breaker.set_mode(*mode, now);
                }
            }
        }
    }

    /// Carries the action out on every breaker of the service; a line for each cluster.
    pub(crate) fn act_on_breakers(
        &mut self,
        snapshot: &Snapshot,
        service: &str,
        action: BreakerAction,
    ) -> Result<Vec<String>, ActionError> {
        let now = Instant::now();
        let mut lines = Vec::new();
        for cluster in snapshot.clusters_of(service) {
            let Some(breakers) = &cluster.breakers else { continue };
            let mut mode = BreakerMode::Automatic;
            for breaker in breakers.all() {
                match action.mode() {
                    Some(word) => breaker.set_mode(word, now),
                    None => breaker.reset(now),
                };
                mode = breaker.view(now).mode;
            }
            lines.push(format!("{}: {} of {} circuit breakers", cluster.name, mode, breakers.all().count()));
        }
        if lines.is_empty() {
            return Err(ActionError::NoBreaker { service: service.to_owned() });
        }
        match action.mode() {
            Some(mode) => self.modes.insert(service.to_owned(), mode),
            None => self.modes.remove(service),
        };
        Ok(lines)
    }
}
