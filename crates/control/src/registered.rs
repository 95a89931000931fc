//! What the service registry means for the mesh: which services there are, and where their instances are now.
//!
//! It is a reader of the registry with a cursor. A service of the registry has the same names as one of any other source;
//! `--service` replaces it, and instances of one that a document has too join those of the document. It does not publish:
//! that is `control.rs`.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use meshwright_catalog::Catalog;
use meshwright_config as config;
use meshwright_model::{Endpoint, EndpointAddress, EndpointPorts, Mesh, Service, ServiceSource};
use meshwright_registry::{Instance, Registry, Scope, ServiceKey};
use tokio::sync::watch;
use tracing::{info, warn};

/// The registry as the mesh sees it; empty without one.
pub(crate) struct Registered {
    catalog: Option<Catalog>,
    revisions: Option<watch::Receiver<u64>>,
    /// Everything up to this revision is in `services`.
    at: u64,
    services: BTreeMap<ServiceKey, Found>,
    /// Names of services by their host in the mesh; usually one for each.
    hosts: BTreeMap<String, BTreeSet<ServiceKey>>,
    /// Those of `services` with an instance whose address is a name; usually few.
    named: BTreeSet<ServiceKey>,
    /// Hosts that another source names, too, of which was said what that means.
    shared: HashSet<String>,
}

/// One service of the registry.
struct Found {
    host: String,
    /// Instances that requests may go to.
    endpoints: Vec<Endpoint>,
}

impl Registered {
    /// Everything that `catalog` has now.
    pub(crate) fn new(catalog: Option<Catalog>) -> Self {
        let revisions = catalog.as_ref().map(Catalog::revisions);
        let mut registered = Self {
            catalog,
            revisions,
            at: 0,
            services: BTreeMap::new(),
            hosts: BTreeMap::new(),
            named: BTreeSet::new(),
            shared: HashSet::new(),
        };
        registered.read_everything();
        registered
    }

    /// Waits until something changed since [`Registered::follow`]; for ever without a registry.
    pub(crate) async fn changed(&mut self) {
        let ended = match &mut self.revisions {
            Some(revisions) => revisions.changed().await.is_err(),
            None => true,
        };
        if ended {
            std::future::pending::<()>().await;
        }
    }

    /// Takes in what changed; the hosts whose instances are not what they were.
    pub(crate) fn follow(&mut self) -> BTreeSet<String> {
        let Some(catalog) = self.catalog.clone() else { return BTreeSet::new() };
        let changed = catalog.read(|registry| {
            let events = registry.events(self.at, &Scope::All).ok()?;
            let keys: BTreeSet<ServiceKey> = events.map(|event| event.key.service.clone()).collect();
            let services = keys.into_iter().map(|key| (endpoints(registry, &key), key)).collect::<Vec<_>>();
            Some((services, registry.revision()))
        });
        match changed {
            Some((services, revision)) => {
                self.at = revision;
                services.into_iter().filter_map(|(endpoints, key)| self.set(key, endpoints)).collect()
            }
            // So much changed at once that the log does not reach back: all of it is looked at.
            None => self.read_everything(),
        }
    }

    fn read_everything(&mut self) -> BTreeSet<String> {
        let Some(catalog) = self.catalog.clone() else { return BTreeSet::new() };
        let (services, revision) = catalog.read(|registry| {
            let services = registry.services().map(|(key, _)| (key.clone(), endpoints(registry, key)));
            (services.collect::<BTreeMap<_, _>>(), registry.revision())
        });
        self.at = revision;
        let gone: Vec<ServiceKey> = self.services.keys().filter(|key| !services.contains_key(key)).cloned().collect();
        let gone = gone.into_iter().map(|key| (key, None));
        gone.chain(services).filter_map(|(key, endpoints)| self.set(key, endpoints)).collect()
    }

    /// A service has these instances now, or is gone. Returns its host when that is a change.
    fn set(&mut self, key: ServiceKey, endpoints: Option<Vec<Endpoint>>) -> Option<String> {
        let is_name = |endpoint: &Endpoint| matches!(endpoint.address, EndpointAddress::Name(_));
        match endpoints.iter().flatten().any(is_name) {
            true => self.named.insert(key.clone()),
            false => self.named.remove(&key),
        };
        match endpoints {
            Some(endpoints) => {
                if let Some(found) = self.services.get_mut(&key) {
                    let changed = found.endpoints != endpoints;
                    found.endpoints = endpoints;
                    return changed.then(|| found.host.clone());
                }
                let host = config::registered_service(key.namespace(), key.name()).host;
                self.hosts.entry(host.clone()).or_default().insert(key.clone());
                self.services.insert(key, Found { host: host.clone(), endpoints });
                Some(host)
            }
            None => {
                let found = self.services.remove(&key)?;
                if let Some(keys) = self.hosts.get_mut(&found.host) {
                    keys.remove(&key);
                    if keys.is_empty() {
                        self.hosts.remove(&found.host);
                    }
                }
                Some(found.host)
            }
        }
    }

    /// Namespaces and names of all services.
    pub(crate) fn names(&self) -> Vec<(String, String)> {
        self.services.keys().map(|key| (key.namespace().to_owned(), key.name().to_owned())).collect()
    }

    /// Whether a service of that full name is registered.
    pub(crate) fn contains(&self, host: &str) -> bool {
        self.hosts.contains_key(host)
    }

    /// The instances that requests for `service` may go to.
    pub(crate) fn instances(&self, service: &Service) -> impl Iterator<Item = &Endpoint> {
        let keys = self.hosts.get(&service.host).filter(|_| service.source != ServiceSource::Flag);
        let found = keys.into_iter().flatten().filter_map(|key| self.services.get(key));
        found.flat_map(|found| &found.endpoints)
    }

    /// `mesh` with the services that are registered now instead of those that were.
    pub(crate) fn mesh(&self, mesh: &Mesh) -> Mesh {
        let mut mesh = mesh.clone();
        mesh.services.retain(|service| service.source != ServiceSource::Registry);
        let known: HashSet<String> = mesh.services.iter().map(|service| service.host.clone()).collect();
        let first = |keys: &BTreeSet<ServiceKey>| keys.first().cloned();
        let new = self.hosts.iter().filter(|(host, _)| !known.contains(*host)).filter_map(|(_, keys)| first(keys));
        mesh.services.extend(new.map(|key| config::registered_service(key.namespace(), key.name())));
        mesh
    }

    /// Addresses of instances that are names.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &String> {
        let endpoints = self.found_with_names().flat_map(|found| &found.endpoints);
        endpoints.filter_map(|endpoint| match &endpoint.address {
            EndpointAddress::Name(name) => Some(name),
            EndpointAddress::Ip(_) => None,
        })
    }

    /// Hosts of services with such addresses.
    pub(crate) fn hosts_with_names(&self) -> impl Iterator<Item = &str> {
        self.found_with_names().map(|found| found.host.as_str())
    }

    fn found_with_names(&self) -> impl Iterator<Item = &Found> {
        self.named.iter().filter_map(|key| self.services.get(key))
    }

    /// Says once of each service that another source names, too, who wins.
    pub(crate) fn report_shared(&mut self, mesh: &Mesh) {
        let named = |service: &&Service| service.source != ServiceSource::Registry && self.contains(&service.host);
        for service in mesh.services.iter().filter(named).collect::<Vec<_>>() {
            if !self.shared.insert(service.host.clone()) {
                continue;
            }
            let (host, source) = (&service.host, service.source);
            match source {
                ServiceSource::Flag => {
                    warn!(service = host, "registered instances get no requests: --service has this name and wins");
                }
                _ => info!(service = host, "registered instances join those of the {source} that has this name"),
            }
        }
    }
}

/// The instances of a service that requests may go to; `None` when it has no instance at all.
fn endpoints(registry: &Registry, key: &ServiceKey) -> Option<Vec<Endpoint>> {
    let instances = registry.service(key)?.instances().map(|entry| &entry.instance);
    let usable = instances.filter(|instance| instance.port != 0 && instance.status().is_healthy());
    Some(usable.map(endpoint).collect())
}

fn endpoint(instance: &Instance) -> Endpoint {
    let address = instance.address.trim_end_matches('.');
    Endpoint {
        address: match address.parse() {
            Ok(ip) => EndpointAddress::Ip(ip),
            Err(_) => EndpointAddress::Name(address.to_ascii_lowercase()),
        },
        ports: EndpointPorts::Fixed(instance.port),
        labels: instance.labels(),
        weight: instance.weight,
        locality: instance.locality.clone(),
        health_check: None,
    }
}
