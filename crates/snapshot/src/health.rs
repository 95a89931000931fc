//! Which host is checked how, and whom no check goes to. It does not check: that is `meshwright-control`.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use meshwright_model::{
    Diagnostic, Endpoint, EndpointAddress, HealthCheck, HealthPort, Mesh, Service, ServiceId, host::may_be_probed,
};
use meshwright_traffic::HealthPolicy;

use crate::cluster::ClusterSpec;

/// How one host of a cluster is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCheck {
    /// What is asked, and when.
    pub check: Arc<HealthCheck>,
    /// Where: the host itself, perhaps at another port.
    pub target: SocketAddr,
}

impl HostCheck {
    /// When it is asked, and how many answers decide.
    pub fn policy(&self) -> HealthPolicy {
        HealthPolicy {
            interval: self.check.interval,
            unhealthy_interval: self.check.unhealthy_interval,
            jitter: self.check.interval_jitter,
            unhealthy_threshold: self.check.unhealthy_threshold,
            healthy_threshold: self.check.healthy_threshold,
            initial_delay: self.check.initial_delay,
        }
    }
}

/// What says how `endpoint` is checked: the policy of its service, else what it has of its own.
fn chosen<'a>(spec: &'a ClusterSpec, endpoint: &'a Endpoint) -> Option<&'a Arc<HealthCheck>> {
    spec.resilience.health_check.as_ref().or(endpoint.health_check.as_ref())
}

/// The check of `endpoint`, whose requests go to `address`.
pub(crate) fn check_of(
    spec: &ClusterSpec,
    service: &Service,
    endpoint: &Endpoint,
    address: SocketAddr,
) -> Option<HostCheck> {
    let check = Arc::clone(chosen(spec, endpoint)?);
    let port = match check.port {
        HealthPort::OfRequests => address.port(),
        HealthPort::OfService(port) => service.socket_port(endpoint, port),
        HealthPort::Number(port) => port,
    };
    Some(HostCheck { check, target: SocketAddr::new(address.ip(), port) })
}

/// An error for each endpoint that would be checked where nobody may be. An address behind a name is refused when the check
/// is carried out.
pub(crate) fn refused_targets(
    mesh: &Mesh,
    clusters: &[(ServiceId, Arc<ClusterSpec>)],
    diagnostics: &mut Vec<Diagnostic>,
) {
    let mut seen: HashSet<ServiceId> = HashSet::new();
    for (id, spec) in clusters.iter().filter(|(id, _)| seen.insert(*id)) {
        let service = &mesh.services[id.0];
        for endpoint in &service.endpoints {
            let Some(check) = chosen(spec, endpoint) else { continue };
            let EndpointAddress::Ip(ip) = endpoint.address else { continue };
            if may_be_probed(ip) {
                continue;
            }
            let message = format!("health checks are not sent to {ip}, an endpoint of {}", service.host);
            diagnostics.push(
                Diagnostic::error("health-check-target", message)
                    .at(service.origin.clone(), 1)
                    .with_value(ip.to_string())
                    .with_allowed("addresses that are neither link-local nor those of a cloud's metadata service")
                    .with_effect(format!("{} would send requests there", check.source))
                    .with_suggestion("remove the check or the endpoint"),
            );
        }
    }
}
