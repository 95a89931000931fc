//! Which destination rule a service gets, and which policy follows for one port and subset of it.
//!
//! Lookup and inheritance are Istio's: the namespace of the client, then that of the service, then the root namespace; in
//! each the most specific host. It does not know clusters; `registry.rs` asks here once per service.

use meshwright_model::{
    ClientTlsPolicy, ConnectionPool, DestinationRule, Diagnostic, LoadBalancer, Mesh, ObjectRef, OutlierDetection,
    ProxyProtocol, RetryBudget, Service, ServiceDirectory, ServiceId, Subset, TrafficPolicy, host,
};

/// Namespace whose rules apply when neither the client's nor the service's has one.
pub(crate) const ROOT_NAMESPACE: &str = "istio-system";

/// The policy of one cluster, every default filled in that does not depend on a unit of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ClusterPolicy {
    pub(crate) load_balancer: LoadBalancer,
    pub(crate) connection_pool: ConnectionPool,
    pub(crate) outlier_detection: Option<OutlierDetection>,
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
    pub(crate) retry_budget: Option<RetryBudget>,
}

/// For every service the index of its rule in `Mesh::destination_rules`, with a warning for each rule that covers a service
/// and is used by none.
pub(crate) fn assign(
    mesh: &Mesh,
    directory: &ServiceDirectory,
    client_namespace: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Option<usize>> {
    let hosts: Vec<(RuleHost<'_>, &str)> = mesh
        .destination_rules
        .iter()
        .map(|rule| (RuleHost::resolve(&rule.host, &rule.namespace, directory), rule.namespace.as_str()))
        .collect();
    let assigned: Vec<Option<usize>> = mesh
        .services
        .iter()
        .enumerate()
        .map(|(index, service)| choose(&hosts, ServiceId(index), service, client_namespace))
        .collect();
    for (index, rule) in mesh.destination_rules.iter().enumerate() {
        let covered = mesh
            .services
            .iter()
            .enumerate()
            .find(|(id, service)| hosts[index].0.specificity(ServiceId(*id), service).is_some());
        if let Some((id, service)) = covered
            && !assigned.contains(&Some(index))
        {
            let winner = assigned[id].map(|winner| &mesh.destination_rules[winner]);
            diagnostics.push(unused(rule, service, winner, client_namespace));
        }
    }
    assigned
}

/// The host of a rule, resolved with the namespace of the rule.
pub(crate) enum RuleHost<'a> {
    Service(ServiceId),
    Wildcard(&'a str),
    Unknown,
}

impl<'a> RuleHost<'a> {
    pub(crate) fn resolve(host: &'a str, namespace: &str, directory: &ServiceDirectory) -> Self {
        if host.starts_with('*') {
            return Self::Wildcard(host);
        }
        directory.find(host, namespace).map_or(Self::Unknown, Self::Service)
    }

    /// How narrowly it covers the service: an exact name beats every wildcard, a longer wildcard a shorter one.
    pub(crate) fn specificity(&self, id: ServiceId, service: &Service) -> Option<usize> {
        match self {
            Self::Service(own) => (*own == id).then_some(usize::MAX),
            Self::Wildcard(pattern) => host::covers(pattern, &service.host).then_some(pattern.len()),
            Self::Unknown => None,
        }
    }
}

/// The index of the rule that a service gets, of rules by host and namespace.
pub(crate) fn choose(
    hosts: &[(RuleHost<'_>, &str)],
    id: ServiceId,
    service: &Service,
    client_namespace: &str,
) -> Option<usize> {
    for namespace in [client_namespace, &service.namespace, ROOT_NAMESPACE] {
        let mut best: Option<(usize, usize)> = None;
        for (index, (host, of)) in hosts.iter().enumerate() {
            if *of != namespace {
                continue;
            }
            if let Some(specificity) = host.specificity(id, service)
                && best.is_none_or(|(highest, _)| specificity > highest)
            {
                best = Some((specificity, index));
            }
        }
        if let Some((_, index)) = best {
            return Some(index);
        }
    }
    None
}

fn unused(
    rule: &DestinationRule,
    service: &Service,
    winner: Option<&DestinationRule>,
    client_namespace: &str,
) -> Diagnostic {
    let object = |rule: &DestinationRule| ObjectRef {
        kind: "DestinationRule".to_owned(),
        namespace: rule.namespace.clone(),
        name: rule.name.clone(),
    };
    let message = match winner {
        Some(winner) => format!(
            "this destination rule is not used for {}: {} ({}) comes first",
            service.host,
            object(winner),
            winner.origin
        ),
        None => format!(
            "this destination rule is not used for {}: it is in another namespace than the client and the service",
            service.host
        ),
    };
    Diagnostic::warning("destination-rule-unused", message)
        .at(rule.origin.clone(), 1)
        .of(object(rule))
        .with_path("spec.host")
        .with_value(rule.host.clone())
        .with_allowed(format!(
            "rules are looked up in namespace {client_namespace} (ours), then {} (the service's), then {ROOT_NAMESPACE}; \
             in each the most specific host wins",
            service.namespace
        ))
        .with_effect("none of its subsets and policies apply; a route to one of its subsets gets 503 NC")
        .with_suggestion("merge it into the rule that is used, or move it to one of these namespaces")
}

/// The subset `name` of `rule`.
pub(crate) fn subset<'a>(rule: Option<&'a DestinationRule>, name: &str) -> Option<&'a Subset> {
    rule?.subsets.iter().find(|subset| subset.name == name)
}

/// The policy for one port: blocks of the subset replace blocks of the rule whole; settings of a port replace everything at
/// their level, so that a block they leave out falls back to its default and not to the level above.
///
/// The TLS policy is returned beside the rest: certificates are needed to make something of it.
pub(crate) fn policy<'a>(
    rule: Option<&'a DestinationRule>,
    subset: Option<&'a Subset>,
    port: u16,
) -> (ClusterPolicy, Option<&'a ClientTlsPolicy>) {
    let mut blocks = Blocks::default();
    if let Some(rule) = rule {
        blocks.apply(&rule.traffic_policy, port);
    }
    if let Some(subset) = subset {
        blocks.apply(&subset.traffic_policy, port);
    }
    let policy = ClusterPolicy {
        load_balancer: blocks.load_balancer.unwrap_or_default(),
        connection_pool: blocks.connection_pool.unwrap_or_default(),
        outlier_detection: blocks.outlier_detection,
        proxy_protocol: blocks.proxy_protocol,
        retry_budget: blocks.retry_budget,
    };
    (policy, blocks.tls)
}

#[derive(Default)]
struct Blocks<'a> {
    load_balancer: Option<LoadBalancer>,
    connection_pool: Option<ConnectionPool>,
    outlier_detection: Option<OutlierDetection>,
    proxy_protocol: Option<ProxyProtocol>,
    retry_budget: Option<RetryBudget>,
    tls: Option<&'a ClientTlsPolicy>,
}

impl<'a> Blocks<'a> {
    fn apply(&mut self, policy: &'a TrafficPolicy, port: u16) {
        // They have no place in the settings of a port, so these leave them alone.
        self.proxy_protocol = policy.proxy_protocol.or(self.proxy_protocol);
        self.retry_budget = policy.retry_budget.or(self.retry_budget);
        if let Some(own) = policy.port_level.iter().find(|own| own.port == port) {
            self.load_balancer = own.load_balancer.clone();
            self.connection_pool = own.connection_pool.clone();
            self.outlier_detection = own.outlier_detection.clone();
            self.tls = own.tls.as_ref();
            return;
        }
        self.load_balancer = policy.load_balancer.clone().or_else(|| self.load_balancer.take());
        self.connection_pool = policy.connection_pool.clone().or_else(|| self.connection_pool.take());
        self.outlier_detection = policy.outlier_detection.clone().or_else(|| self.outlier_detection.take());
        self.tls = policy.tls.as_ref().or(self.tls);
    }
}
