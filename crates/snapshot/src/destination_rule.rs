//! Which policy follows from the destination rule of a service for one port and subset of it.
//!
//! Inheritance is Istio's. Which rule a service gets is decided in `assign.rs`. It does not know clusters; `registry.rs` asks
//! here once per service.

use meshwright_model::{
    ClientTlsPolicy, ConnectionPool, DestinationRule, LoadBalancer, Origin, OutlierDetection, ProxyProtocol,
    RetryBudget, Subset, TrafficPolicy,
};

use crate::assign::{Assigned, Words};

/// The policy of one cluster, every default filled in that does not depend on a unit of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ClusterPolicy {
    pub(crate) load_balancer: LoadBalancer,
    pub(crate) connection_pool: ConnectionPool,
    pub(crate) outlier_detection: Option<OutlierDetection>,
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
    pub(crate) retry_budget: Option<RetryBudget>,
}

impl Assigned for DestinationRule {
    const WORDS: &'static Words = &Words {
        kind: "DestinationRule",
        name: "destination rule",
        rule: "rule",
        rules: "rules",
        code: "destination-rule-unused",
        order: "the most specific host wins",
        effect: "none of its subsets and policies apply; a route to one of its subsets gets 503 NC",
    };

    fn object(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }

    fn host(&self) -> &str {
        &self.host
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }
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
