//! From destinations to cluster indexes: every (service, port, subset) is registered once, in order of first appearance.
//!
//! It does not know listeners or live facts; it lists what clusters there must be, `cluster.rs` builds them.

use std::collections::HashMap;
use std::sync::Arc;

use meshwright_model::{
    ClientTlsPolicy, ConnectionPool, Destination, DestinationRule, Diagnostic, EndpointSet, Mesh, PortProtocol,
    ResiliencePolicy, Service, ServiceDirectory, ServiceId, UpstreamProtocol,
};

use crate::assign::assign;
use crate::balancing::Caller;
use crate::cluster::ClusterSpec;
use crate::credentials::Vault;
use crate::{CompileOptions, Target, destination_rule, resilience};

/// Port of a service that serves every port (`--service`), where nothing names one.
const DEFAULT_PORT: u16 = 80;

/// The part of `set` that this configuration has endpoints for.
pub(crate) fn usable_endpoints(service: &Service, set: &EndpointSet) -> EndpointSet {
    let known = set.addresses.iter().filter(|(index, _)| *index < service.endpoints.len());
    EndpointSet { addresses: known.cloned().collect(), ..set.clone() }
}

/// The clusters of one compilation.
pub(crate) struct Finished {
    /// In order of their index.
    pub(crate) clusters: Vec<(ServiceId, Arc<ClusterSpec>)>,
    /// Who is asked instead of them, by index.
    pub(crate) fallbacks: HashMap<usize, Target>,
}

/// Collects the clusters of one compilation.
pub(crate) struct Registry<'a> {
    mesh: &'a Mesh,
    directory: &'a ServiceDirectory,
    vault: Vault<'a>,
    rules: Vec<Option<&'a DestinationRule>>,
    resilience: Vec<Option<&'a ResiliencePolicy>>,
    hosts: Vec<Arc<str>>,
    caller: Arc<Caller>,
    index: HashMap<(ServiceId, u16, Option<String>), usize>,
    clusters: Vec<(ServiceId, Arc<ClusterSpec>)>,
}

impl<'a> Registry<'a> {
    pub(crate) fn new(
        mesh: &'a Mesh,
        directory: &'a ServiceDirectory,
        options: &CompileOptions,
        vault: Vault<'a>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let (services, client) = (&mesh.services, options.namespace.as_str());
        let rules = assign(&mesh.destination_rules, services, directory, client, diagnostics);
        diagnostics.extend(mesh.resilience_policies.iter().flat_map(|policy| resilience::unknown_routes(mesh, policy)));
        let resilience = assign(&mesh.resilience_policies, services, directory, client, diagnostics);
        Self {
            mesh,
            directory,
            vault,
            rules: rules.into_iter().map(|rule| rule.map(|index| &mesh.destination_rules[index])).collect(),
            resilience: resilience.into_iter().map(|of| of.map(|index| &mesh.resilience_policies[index])).collect(),
            hosts: mesh.services.iter().map(|service| Arc::from(service.host.as_str())).collect(),
            caller: Arc::new(Caller { locality: options.locality.clone(), labels: options.gateway_labels.clone() }),
            index: HashMap::new(),
            clusters: Vec::new(),
        }
    }

    /// Where a destination of a virtual service in `namespace` leads.
    pub(crate) fn target(&mut self, destination: &Destination, namespace: &str) -> Target {
        let Some(id) = self.directory.find(&destination.host, namespace) else { return Target::Missing };
        let subset = destination.subset.as_deref();
        let service = &self.mesh.services[id.0];
        match (destination.port, service.ports.as_slice()) {
            (Some(port), []) => self.single(id, port, subset),
            (Some(port), ports) if ports.iter().any(|known| known.number == port) => self.single(id, port, subset),
            (Some(_), _) => Target::Missing,
            (None, []) => self.single(id, DEFAULT_PORT, subset),
            (None, [only]) => self.single(id, only.number, subset),
            (None, ports) => self.by_port(id, ports.iter().map(|port| port.number), subset),
        }
    }

    /// Where certificates come from.
    pub(crate) fn vault(&mut self) -> &mut Vault<'a> {
        &mut self.vault
    }

    /// Where a request for the service itself leads, without any route: its only HTTP port whatever port the request
    /// names, else the port that the request names. An HTTPS port counts when requests get their TLS here.
    pub(crate) fn own_target(&mut self, id: ServiceId) -> Target {
        let ports = &self.mesh.services[id.0].ports;
        if ports.is_empty() {
            return self.single(id, DEFAULT_PORT, None);
        }
        let rule = self.rules[id.0];
        let originated = |port: u16| matches!(destination_rule::policy(rule, None, port).1, Some(tls) if is_on(tls));
        let http: Vec<u16> = ports
            .iter()
            .filter(|port| port.protocol.is_http() || (port.protocol == PortProtocol::Https && originated(port.number)))
            .map(|port| port.number)
            .collect();
        match http.as_slice() {
            [] => Target::Missing,
            [only] => self.single(id, *only, None),
            several => self.by_port(id, several.iter().copied(), None),
        }
    }

    fn single(&mut self, id: ServiceId, port: u16, subset: Option<&str>) -> Target {
        self.register(id, port, subset).map_or(Target::Missing, Target::Cluster)
    }

    fn by_port(&mut self, id: ServiceId, ports: impl Iterator<Item = u16>, subset: Option<&str>) -> Target {
        let clusters: Option<Vec<(u16, usize)>> =
            ports.map(|port| self.register(id, port, subset).map(|cluster| (port, cluster))).collect();
        clusters.map_or(Target::Missing, Target::ByPort)
    }

    /// The index of a cluster; `None` when the service's rule has no such subset.
    fn register(&mut self, id: ServiceId, port: u16, subset: Option<&str>) -> Option<usize> {
        let key = (id, port, subset.map(str::to_owned));
        if let Some(index) = self.index.get(&key) {
            return Some(*index);
        }
        let rule = self.rules[id.0];
        let selection = match subset {
            Some(name) => Some(destination_rule::subset(rule, name)?),
            None => None,
        };
        let service = &self.mesh.services[id.0];
        let (policy, tls) = destination_rule::policy(rule, selection, port);
        let protocol = upstream_protocol(service, port, &policy.connection_pool);
        let tls = match tls {
            Some(ClientTlsPolicy::Originate(settings)) => {
                let namespace = rule.map_or(service.namespace.as_str(), |rule| rule.namespace.as_str());
                self.vault.client(settings, namespace, &service.host, protocol)
            }
            Some(ClientTlsPolicy::Disable) | None => None,
        };
        let spec = ClusterSpec {
            service: Arc::clone(&self.hosts[id.0]),
            service_name: service_name(service).to_owned(),
            namespace: service.namespace.clone(),
            port,
            subset: key.2.clone(),
            selector: selection.map(|subset| subset.labels.clone()).unwrap_or_default(),
            policy,
            protocol,
            tls,
            caller: Arc::clone(&self.caller),
            resilience: self.resilience[id.0].map(|policy| policy.settings.clone()).unwrap_or_default(),
        };
        let index = self.clusters.len();
        self.clusters.push((id, Arc::new(spec)));
        self.index.insert(key, index);
        Some(index)
    }

    /// Registers what no route named: every port of every service, and each subset on the ports its service has so far.
    /// Then the destinations that stand in for clusters. What was found about them and about certificates goes to
    /// `diagnostics`.
    pub(crate) fn finish(mut self, diagnostics: &mut Vec<Diagnostic>) -> Finished {
        let mut routed: HashMap<ServiceId, Vec<u16>> = HashMap::new();
        for (id, spec) in &self.clusters {
            routed.entry(*id).or_default().push(spec.port);
        }
        for index in 0..self.mesh.services.len() {
            let id = ServiceId(index);
            let declared = &self.mesh.services[index].ports;
            let mut ports: Vec<u16> = declared.iter().map(|port| port.number).collect();
            if declared.is_empty() {
                ports.push(DEFAULT_PORT);
                ports.extend(routed.get(&id).into_iter().flatten());
                ports.sort_unstable();
                ports.dedup();
            }
            let subsets = self.rules[index].map(|rule| rule.subsets.as_slice()).unwrap_or_default();
            for port in ports {
                self.register(id, port, None);
                for subset in subsets {
                    self.register(id, port, Some(&subset.name));
                }
            }
        }
        let fallbacks = self.fallbacks(diagnostics);
        diagnostics.append(&mut self.vault.into_diagnostics());
        Finished { clusters: self.clusters, fallbacks }
    }

    /// Who is asked instead of each cluster whose policy names somebody. That may be a cluster which nobody named so far.
    fn fallbacks(&mut self, diagnostics: &mut Vec<Diagnostic>) -> HashMap<usize, Target> {
        let mut fallbacks = HashMap::new();
        let mut index = 0;
        while let Some((id, _)) = self.clusters.get(index) {
            if let Some(policy) = self.resilience[id.0]
                && let Some(destination) = policy.settings.fallback.as_ref().and_then(|of| of.destination.as_ref())
            {
                let target = self.target(destination, &policy.namespace);
                if matches!(target, Target::Missing) {
                    diagnostics.push(resilience::no_fallback(policy, destination));
                }
                fallbacks.insert(index, target);
            }
            index += 1;
        }
        fallbacks
    }
}

fn is_on(tls: &ClientTlsPolicy) -> bool {
    matches!(tls, ClientTlsPolicy::Originate(_))
}

/// What is spoken to a port: what the policy says, else what the port says, else HTTP/1.1.
fn upstream_protocol(service: &Service, port: u16, pool: &ConnectionPool) -> UpstreamProtocol {
    let declared = service.ports.iter().find(|declared| declared.number == port);
    if pool.use_client_protocol {
        UpstreamProtocol::FollowClient
    } else if pool.upgrade_to_http2 || declared.is_some_and(|port| port.protocol == PortProtocol::Http2) {
        UpstreamProtocol::Http2
    } else {
        UpstreamProtocol::Http1
    }
}

/// The short name that metrics show: the configured one, else the first label of a cluster-local name, else the host.
fn service_name(service: &Service) -> &str {
    if let Some(short) = &service.short_name {
        return short;
    }
    match service.host.split_once('.') {
        Some((name, rest)) if rest.ends_with(".svc.cluster.local") => name,
        _ => &service.host,
    }
}
