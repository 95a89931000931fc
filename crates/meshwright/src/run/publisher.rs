//! Control plane to data plane: the one place where both are known.

use std::sync::Arc;

use meshwright_control::Publisher;
use meshwright_model::Diagnostic;
use meshwright_proxy::Fleet;
use meshwright_snapshot::Snapshot;

/// Hands what control compiles to the workers.
pub(super) struct ToFleet(pub(super) Arc<Fleet>);

impl Publisher for ToFleet {
    fn publish(&self, snapshot: Arc<Snapshot>) -> Result<(), Vec<Diagnostic>> {
        self.0.publish(&snapshot)
    }
}
