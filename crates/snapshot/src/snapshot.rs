//! The snapshot itself, and the exchange of endpoints within it.
//!
//! It does not know how the first one is made: that is `compile.rs`.

use std::collections::HashMap;
use std::sync::Arc;

use meshwright_model::{EndpointSet, Mesh, ServiceDirectory};

use crate::cluster::LiveFacts;
use crate::registry::usable_endpoints;
use crate::{Cluster, Listener, Target};

/// What runs: immutable, whole, numbered. A request reads exactly one.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts every publication, from 1.
    pub number: u64,
    /// Counts configurations, from 1; endpoint changes keep it.
    pub generation: u64,
    /// Sockets and what is served there; gateways in the order of the input, then the mesh listener.
    pub listeners: Vec<Arc<Listener>>,
    /// Every (service, port, subset) that can be reached. A cluster that did not change is the same `Arc` as in the
    /// snapshot before, though perhaps at another index.
    pub clusters: Vec<Arc<Cluster>>,
    /// Who is asked instead when a cluster has no good answer, by index of the cluster; few have somebody.
    pub fallbacks: Arc<HashMap<usize, Target>>,
    /// The configuration that it was compiled from.
    pub mesh: Arc<Mesh>,
    /// Names of the services of `mesh`.
    pub directory: Arc<ServiceDirectory>,
    /// Resolved endpoints; `resolved[n]` belongs to `ServiceId(n)`.
    pub resolved: Vec<Arc<EndpointSet>>,
    /// Indexes into `clusters`; `clusters_by_service[n]` belongs to `ServiceId(n)`.
    pub(crate) clusters_by_service: Arc<[Vec<usize>]>,
}

impl Snapshot {
    /// The same configuration with other endpoints for the services named in `sets`. Everything but the clusters of those
    /// services is shared, and so is a cluster whose endpoints turn out the same. `number` is one more, `generation` stays.
    ///
    /// Sets of services, and indexes of endpoints, that this configuration does not have are left out.
    ///
    /// It looks only at the clusters of those services; of everything else it copies a pointer.
    pub fn with_endpoints(&self, sets: &[EndpointSet]) -> Snapshot {
        let (mut resolved, mut clusters) = (self.resolved.clone(), self.clusters.clone());
        for set in sets {
            let id = set.service.0;
            let Some(service) = self.mesh.services.get(id) else { continue };
            let set = usable_endpoints(service, set);
            let indexes = &self.clusters_by_service[id];
            let mut facts = LiveFacts::of(indexes.iter().map(|index| &self.clusters[*index]));
            for &index in indexes {
                clusters[index] = facts.cluster(Arc::clone(&self.clusters[index].spec), service, &set);
            }
            resolved[id] = Arc::new(set);
        }
        Snapshot {
            number: self.number + 1,
            generation: self.generation,
            listeners: self.listeners.clone(),
            clusters,
            fallbacks: Arc::clone(&self.fallbacks),
            mesh: Arc::clone(&self.mesh),
            directory: Arc::clone(&self.directory),
            resolved,
            clusters_by_service: Arc::clone(&self.clusters_by_service),
        }
    }

    /// The cluster of that name, for example `outbound|80||api.default.svc.cluster.local`.
    pub fn cluster(&self, name: &str) -> Option<&Arc<Cluster>> {
        self.clusters.iter().find(|cluster| cluster.name == name)
    }

    /// Every cluster of the service with this canonical host name.
    pub fn clusters_of<'a>(&'a self, service: &'a str) -> impl Iterator<Item = &'a Arc<Cluster>> {
        self.clusters.iter().filter(move |cluster| &*cluster.service == service)
    }
}
