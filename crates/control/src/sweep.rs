//! When the ejections of which cluster are looked through. Pure: the caller brings the time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use meshwright_snapshot::{Cluster, Snapshot};

/// The next sweep of every cluster that has outlier detection, by cluster name.
#[derive(Debug, Default)]
pub(crate) struct SweepPlan {
    due: HashMap<String, Instant>,
}

impl SweepPlan {
    /// Takes over the clusters of `snapshot`. Those that stay keep their time, though no later than their new interval says.
    pub(crate) fn set_clusters(&mut self, snapshot: &Snapshot, now: Instant) {
        let mut due = HashMap::new();
        for cluster in &snapshot.clusters {
            if let Some(outlier) = &cluster.outlier {
                let latest = now + outlier.policy().interval;
                let at = self.due.get(&cluster.name).map_or(latest, |at| (*at).min(latest));
                due.insert(cluster.name.clone(), at);
            }
        }
        self.due = due;
    }

    /// When to ask [`SweepPlan::take_due`] again; `None` when no cluster has outlier detection.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.due.values().min().copied()
    }

    /// The clusters to sweep now. A sweep that comes late is not made up for: the next is an interval from now.
    pub(crate) fn take_due<'a>(&mut self, snapshot: &'a Snapshot, now: Instant) -> Vec<&'a Arc<Cluster>> {
        let mut clusters = Vec::new();
        for cluster in &snapshot.clusters {
            if let Some(outlier) = &cluster.outlier
                && let Some(at) = self.due.get_mut(&cluster.name)
                && *at <= now
            {
                *at = now + outlier.policy().interval;
                clusters.push(cluster);
            }
        }
        clusters
    }
}
