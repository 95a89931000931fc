//! What the admin API sees of this process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use meshwright_catalog::Catalog;
use meshwright_console as console;
use meshwright_control::{ActionError, BreakerAction, EndpointAction, Handle};
use meshwright_identity::CertificateFacts;
use meshwright_proxy::Fleet;
use meshwright_snapshot::{Cluster, HostCheck, ListenerKind, ListenerTls, Snapshot, TlsAction};
use meshwright_telemetry::{
    CertificateGauges, ClusterGauges, ConfigGauges, EjectionTotals, HealthCheckTotals, Metrics, ProcessGauges,
    ScrapeGauges,
};
use meshwright_traffic::{AdminState, EjectionKind, Ejections, HostHealth};
use rustix::process::{Resource, getrlimit};

use super::{dump, resilience, system};
use crate::logging::LogLevel;

/// Read-only views of everything, and the few actions.
pub(super) struct AdminViews {
    pub(super) metrics: Metrics,
    pub(super) fleet: Arc<Fleet>,
    pub(super) control: Handle,
    pub(super) log_level: LogLevel,
    pub(super) draining: Arc<AtomicBool>,
    pub(super) started: SystemTime,
    pub(super) admin: Option<SocketAddr>,
    pub(super) registry: Option<Catalog>,
}

/// The word for a kind of listener.
pub(super) fn kind_of(kind: ListenerKind) -> &'static str {
    match kind {
        ListenerKind::Gateway => "gateway",
        ListenerKind::Mesh => "mesh",
    }
}

impl console::Views for AdminViews {
    fn metrics(&self) -> String {
        let (status, now) = (self.control.status(), Instant::now());
        let gauges = ScrapeGauges {
            config: ConfigGauges {
                generation: status.generation,
                // The start is a load too.
                reloads: status.reloads_ok + 1,
                reload_failures: status.reloads_failed,
                last_reload_successful: status.last_reload_ok,
                last_reload_success: Some(status.loaded_at),
            },
            ready: console::Views::readiness(self).ready,
            clusters: self.control.snapshot().clusters.iter().map(|cluster| cluster_gauges(cluster, now)).collect(),
            certificates: certificates(&self.control.snapshot()),
            process: process_gauges(self.started),
        };
        let mut text = String::new();
        self.metrics.encode_prometheus(&gauges, &mut text);
        if let Some(catalog) = &self.registry {
            text.push_str(&meshwright_bridges::metrics(catalog));
        }
        text
    }

    fn readiness(&self) -> console::Readiness {
        let draining = self.draining.load(Ordering::Relaxed);
        let status = self.control.status();
        // What cannot be known yet is not taken for empty.
        let waiting = self.registry.as_ref().is_some_and(|catalog| !catalog.is_synced());
        let mut detail = vec![format!("generation {}", status.generation)];
        detail.extend(status.detail());
        let state = match (draining, waiting) {
            (true, _) => "draining",
            (false, true) => "waiting for the registry",
            (false, false) => "serving",
        };
        console::Readiness { ready: !draining && !waiting, state: state.to_owned(), detail }
    }

    fn config_dump(&self) -> serde_json::Value {
        dump::dump(&self.control.snapshot())
    }

    fn clusters(&self) -> Vec<console::ClusterView> {
        let now = Instant::now();
        self.control.snapshot().clusters.iter().map(|cluster| cluster_view(cluster, now)).collect()
    }

    fn listeners(&self) -> Vec<console::ListenerView> {
        let snapshot = self.control.snapshot();
        let bound = self.fleet.listeners();
        let mut views: Vec<_> = snapshot
            .listeners
            .iter()
            .filter_map(|listener| {
                let open = bound.iter().find(|open| open.name == listener.name)?;
                Some(console::ListenerView {
                    name: listener.name.clone(),
                    kind: kind_of(listener.kind).to_owned(),
                    address: open.address,
                    port: listener.port,
                    protocol: open.scheme.to_owned(),
                    draining: self.draining.load(Ordering::Relaxed),
                    hosts: listener.virtual_hosts.iter().map(|host| host.name.clone()).collect(),
                    server_names: listener.tls.iter().flat_map(server_names).collect(),
                })
            })
            .collect();
        views.extend(self.admin.map(|address| console::ListenerView {
            name: "admin".to_owned(),
            kind: "admin".to_owned(),
            address,
            port: address.port(),
            protocol: "http".to_owned(),
            draining: false,
            hosts: Vec::new(),
            server_names: Vec::new(),
        }));
        views
    }

    fn log_level(&self) -> String {
        self.log_level.current()
    }

    fn set_log_level(&self, directive: &str) -> Result<String, String> {
        self.log_level.set(directive)
    }

    fn endpoint_action(
        &self,
        action: console::EndpointAction,
        service: &str,
        address: SocketAddr,
        actor: &str,
    ) -> Result<Vec<String>, console::ActionError> {
        let action = match action {
            console::EndpointAction::Drain => EndpointAction::Drain,
            console::EndpointAction::Disable => EndpointAction::Disable,
            console::EndpointAction::Enable => EndpointAction::Enable,
            console::EndpointAction::Uneject => EndpointAction::Uneject,
        };
        self.control.endpoint_action(service, address, action, actor).map_err(|error| match &error {
            ActionError::UnknownService { service } => console::ActionError::UnknownService(service.clone()),
            ActionError::UnknownEndpoint { .. } => console::ActionError::UnknownEndpoint(error.to_string()),
            #[allow(unreachable_patterns, reason = "further refusals are refusals")]
            _ => console::ActionError::Refused(error.to_string()),
        })
    }

    fn breaker_action(
        &self,
        action: console::BreakerAction,
        service: &str,
        actor: &str,
    ) -> Result<Vec<String>, console::ActionError> {
        let action = match action {
            console::BreakerAction::ForceOpen => BreakerAction::ForceOpen,
            console::BreakerAction::ForceClosed => BreakerAction::ForceClosed,
            console::BreakerAction::Disable => BreakerAction::Disable,
            console::BreakerAction::Reset => BreakerAction::Reset,
        };
        self.control.breaker_action(service, action, actor).map_err(|error| match &error {
            ActionError::UnknownService { service } => console::ActionError::UnknownService(service.clone()),
            _ => console::ActionError::Refused(error.to_string()),
        })
    }

    fn audit(&self) -> Vec<console::AuditEntry> {
        let entries = self.control.audit();
        entries
            .into_iter()
            .map(|entry| console::AuditEntry {
                time: entry.time,
                actor: entry.actor,
                action: entry.action.to_owned(),
                target: entry.target,
                result: entry.outcome,
            })
            .collect()
    }
}

fn limit(value: u32) -> Option<u32> {
    (value != u32::MAX).then_some(value)
}

fn cluster_view(cluster: &Cluster, now: Instant) -> console::ClusterView {
    let (limits, usage) = (&cluster.limits, &cluster.usage);
    let used = |most: u32, used: u32| limit(most).map(|_| used);
    console::ClusterView {
        name: cluster.name.clone(),
        service: cluster.service.to_string(),
        policy: cluster.policy.as_str().to_owned(),
        limits: console::LimitsView {
            max_connections: limit(limits.max_connections),
            max_pending: limit(limits.max_pending),
            max_requests: limit(limits.max_requests),
            max_retries: limit(limits.max_retries),
            retry_budget_percent: limits.retry_budget.map(|budget| budget.percent),
        },
        usage: console::UsageView {
            connections: used(limits.max_connections, usage.connections()),
            pending: used(limits.max_pending, usage.pending()),
            requests: used(limits.max_requests, usage.requests()),
            retries: used(limits.max_retries, usage.retries()),
        },
        circuit_breakers: resilience::circuit_breakers(cluster, now),
        adaptive_concurrency: resilience::adaptive_concurrency(cluster),
        bulkhead: resilience::bulkhead(cluster),
        rate_limit: resilience::rate_limit(cluster),
        last_good: resilience::last_good(cluster),
        coalescing: resilience::coalescing(cluster),
        endpoints: (0..cluster.addresses.len()).map(|index| endpoint_view(cluster, index, now)).collect(),
    }
}

fn endpoint_view(cluster: &Cluster, index: usize, now: Instant) -> console::EndpointView {
    let host = &cluster.hosts.hosts()[index];
    let admin = match host.state.admin() {
        AdminState::Enabled => console::AdminState::Enabled,
        AdminState::Draining => console::AdminState::Draining,
        AdminState::Disabled => console::AdminState::Disabled,
    };
    let (ends, away) = (host.verdict.ejection_ends(), host.verdict.away());
    console::EndpointView {
        address: cluster.addresses[index],
        weight: host.weight,
        labels: cluster.labels_of[index].clone(),
        locality: cluster.localities[index].clone(),
        priority: cluster.hosts.priority(index),
        latency: cluster.policy.needs_latency().then(|| host.state.latency(now)),
        load_source: cluster.policy.reads_reports().then(|| host.state.load_source(now).as_str().to_owned()),
        in_flight: cluster.counts_in_flight().then(|| host.state.in_flight()),
        admin,
        health_check: cluster.checks[index].as_ref().map(|check| health_check(check, host.state.health(), now)),
        ejected: host.verdict.is_ejected(),
        ejected_for: host.verdict.ejected_since().map(|since| now.saturating_duration_since(since)),
        ejection_ends_in: ends.map(|(at, _)| at.saturating_duration_since(now)),
        ejection_cause: ends.map(|(_, cause)| cause.to_string()),
        unreachable_for: away.map(|away| now.saturating_duration_since(away.since)),
        unreachable_cause: away.map(|away| away.why.to_string()),
        next_probe_in: away.map(|away| away.next_probe.saturating_duration_since(now)),
        failed_probes: away.map(|away| away.failed_probes),
        ejections: host.verdict.total_ejections(),
        consecutive_5xx: host.verdict.consecutive_5xx(),
        consecutive_gateway_errors: host.verdict.consecutive_gateway_errors(),
        consecutive_local_origin_failures: host.verdict.consecutive_local_origin_failures(),
    }
}

fn health_check(check: &HostCheck, health: &HostHealth, now: Instant) -> console::HealthCheckView {
    let facts = health.facts();
    console::HealthCheckView {
        state: health.state().as_str().to_owned(),
        source: check.check.source.clone(),
        last: Some(facts.last).filter(|last| !last.is_empty()),
        since: facts.since.map(|since| now.saturating_duration_since(since)),
        next_in: facts.next.map(|next| next.saturating_duration_since(now)),
        successes: facts.successes,
        failures: facts.failures,
    }
}

/// Every name that some chain is for.
fn server_names(tls: &ListenerTls) -> impl Iterator<Item = String> {
    tls.chains.iter().flat_map(|chain| chain.hosts.iter().cloned())
}

/// Every own certificate in use, with where it is shown.
fn certificates(snapshot: &Snapshot) -> Vec<CertificateGauges> {
    let gauge = |shown_by: String, facts: &CertificateFacts| CertificateGauges {
        shown_by,
        subject: facts.subject.clone(),
        serial: facts.serial.clone(),
        expires: facts.not_after,
    };
    let mut gauges = Vec::new();
    for (listener, tls) in snapshot.listeners.iter().filter_map(|one| one.tls.as_ref().map(|tls| (one, tls))) {
        for (index, chain) in tls.chains.iter().enumerate() {
            let TlsAction::Terminate { config, .. } = &chain.action else { continue };
            // Names of ports are unique in a gateway, not among the gateways that share a listener.
            let shown_by = format!("{}/{index}/{}", listener.name, chain.name);
            gauges.extend(config.certificates.iter().map(|facts| gauge(shown_by.clone(), facts)));
        }
    }
    let clusters = snapshot.clusters.iter().filter_map(|cluster| Some((cluster, cluster.tls.as_ref()?)));
    gauges.extend(clusters.filter_map(|(cluster, tls)| Some(gauge(cluster.name.clone(), tls.certificate.as_ref()?))));
    gauges
}

fn cluster_gauges(cluster: &Cluster, now: Instant) -> ClusterGauges {
    let (limits, usage) = (&cluster.limits, &cluster.usage);
    let remaining = |most: u32, used: u32| if most == u32::MAX { most } else { most.saturating_sub(used) };
    let ejected = cluster.hosts.hosts().iter().filter(|host| host.verdict.is_ejected()).count();
    let unreachable = cluster.hosts.hosts().iter().filter(|host| host.verdict.away().is_some()).count();
    ClusterGauges {
        name: cluster.name.clone(),
        membership_total: cluster.addresses.len() as u64,
        membership_healthy: cluster.hosts.healthy() as u64,
        ejections_active: ejected as u64,
        unreachable: unreachable as u64,
        ejections: ejections(cluster.unreachable.ejections()),
        health_checks: cluster.is_checked().then(|| health_checks(cluster)),
        remaining_connections: remaining(limits.max_connections, usage.connections()),
        remaining_pending: remaining(limits.max_pending, usage.pending()),
        remaining_requests: remaining(limits.max_requests, usage.requests()),
        remaining_retries: match limits.retry_budget {
            Some(budget) => {
                budget.retries(usage.requests().saturating_add(usage.pending())).saturating_sub(usage.retries())
            }
            None => remaining(limits.max_retries, usage.retries()),
        },
        breakers: resilience::breaker_gauges(cluster, now),
        adaptive: resilience::adaptive_gauges(cluster),
        last_good: resilience::last_good_gauges(cluster),
        bulkhead_full: cluster.hosts.bulkhead().map(|_| cluster.hosts.full() as u64),
        coalescing: resilience::coalescing_gauges(cluster),
    }
}

fn health_checks(cluster: &Cluster) -> HealthCheckTotals {
    let hosts = cluster.hosts.hosts();
    HealthCheckTotals {
        attempts: cluster.health.attempts(),
        successes: cluster.health.successes(),
        failures: cluster.health.failures(),
        network_failures: cluster.health.network_failures(),
        healthy: hosts.iter().filter(|host| !host.state.health().is_out()).count() as u64,
    }
}

fn ejections(counts: &Ejections) -> EjectionTotals {
    EjectionTotals {
        consecutive_5xx: counts.ejected(EjectionKind::Consecutive5xx),
        consecutive_gateway_failure: counts.ejected(EjectionKind::ConsecutiveGatewayErrors),
        consecutive_local_origin_failure: counts.ejected(EjectionKind::ConsecutiveLocalOriginFailures),
        success_rate: counts.ejected(EjectionKind::SuccessRate),
        local_origin_success_rate: counts.ejected(EjectionKind::LocalOriginSuccessRate),
        failure_percentage: counts.ejected(EjectionKind::FailurePercentage),
        local_origin_failure_percentage: counts.ejected(EjectionKind::LocalOriginFailurePercentage),
        unreachable: counts.ejected(EjectionKind::Unreachable),
        refused: counts.refused(),
    }
}

fn process_gauges(started: SystemTime) -> ProcessGauges {
    let descriptors = std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64);
    ProcessGauges {
        start: Some(started),
        resident_bytes: system::resident_bytes(),
        open_descriptors: descriptors,
        max_descriptors: getrlimit(Resource::Nofile).current,
    }
}
