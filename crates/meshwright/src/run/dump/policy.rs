//! Clusters, services and destination rules as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use meshwright_model::{
    ClientTlsPolicy, ConnectionPool, DestinationRule, EndpointPorts, EndpointSet, OutlierDetection, PortProtocol,
    ProxyProtocol, Resolution, RetryPolicy, Service, Subset, TrafficPolicy, UpstreamProtocol,
};
use meshwright_snapshot::{Cluster, Snapshot};
use meshwright_traffic::{EjectionKind, Group, Limits, OutlierPolicy, UnreachablePolicy};
use serde_json::{Value, json};

use super::{health, load_balancer, place, resilience, rules, seconds, stream};

pub(super) fn of_cluster(cluster: &Cluster) -> Value {
    let endpoints: Vec<Value> = cluster
        .addresses
        .iter()
        .zip(cluster.hosts.hosts())
        .zip(cluster.labels_of.iter().zip(&cluster.checks))
        .map(|((address, host), (labels, check))| {
            let check = check.as_ref().map(health::of_check);
            json!({ "address": address.to_string(), "weight": host.weight, "labels": labels, "health_check": check })
        })
        .collect();
    json!({
        "name": cluster.name,
        "service": &*cluster.service,
        "port": cluster.port,
        "subset": cluster.subset,
        "policy": cluster.policy.as_str(),
        "groups": cluster.hosts.groups().map(|group| of_group(cluster, &group)).collect::<Vec<_>>(),
        "limits": of_limits(&cluster.limits),
        "retries": rules::of_retries(cluster.retries.as_ref().unwrap_or(&RetryPolicy::ISTIO)),
        "outlier_detection": cluster.outlier.as_ref().map(|detector| of_outlier_policy(detector.policy())),
        "unreachable": of_unreachable_policy(cluster.unreachable.policy()),
        "circuit_breaker": cluster.breakers.as_ref().map(resilience::of_breakers),
        "adaptive_concurrency": cluster.adaptive.as_ref().map(resilience::of_adaptive),
        "hedging": cluster.hedging().map(resilience::of_hedging),
        "bulkhead": cluster.hosts.bulkhead().map(resilience::of_bulkhead),
        "rate_limit": cluster.rate_limit.as_ref().map(resilience::of_rate_limit),
        "fallback": cluster.fallback.as_ref().map(resilience::of_fallback),
        "coalescing": cluster.shared_answers.as_ref().and_then(resilience::of_coalescing),
        "min_health_percent": cluster.hosts.min_health_percent(),
        "connect_timeout": seconds(cluster.connect_timeout),
        "idle_timeout": cluster.idle_timeout.map(seconds),
        "max_requests_per_connection": cluster.max_requests_per_connection,
        "max_connection_duration": cluster.max_connection_duration.map(seconds),
        "tcp_keepalive": cluster.tcp_keepalive.map(of_keepalive),
        "protocol": match cluster.protocol {
            UpstreamProtocol::Http1 => "HTTP/1.1",
            UpstreamProtocol::Http2 => "HTTP/2",
            UpstreamProtocol::FollowClient => "of the client",
        },
        "max_concurrent_streams": cluster.max_concurrent_streams,
        "http2_keepalive": cluster.http2_keepalive.map(of_http2_keepalive),
        "proxy_protocol": cluster.proxy_protocol.map(of_proxy_protocol),
        "tls": cluster.tls.as_deref().map(stream::of_client),
        "endpoints": endpoints,
    })
}

/// Endpoints that are chosen among together, by address.
fn of_group(cluster: &Cluster, group: &Group) -> Value {
    let addresses = group.hosts.iter().filter_map(|index| cluster.addresses.get(*index as usize));
    json!({
        "priority": group.priority,
        "weight": group.weight,
        "endpoints": addresses.map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// `null` is unlimited.
fn of_limits(limits: &Limits) -> Value {
    let bounded = |limit: u32| (limit != u32::MAX).then_some(limit);
    json!({
        "max_connections": bounded(limits.max_connections),
        "max_pending": bounded(limits.max_pending),
        "max_requests": bounded(limits.max_requests),
        "max_retries": bounded(limits.max_retries),
        "retry_budget": limits.retry_budget.map(|budget| {
            json!({ "percent": budget.percent, "min_retry_concurrency": budget.min_concurrency })
        }),
    })
}

fn of_outlier_policy(policy: &OutlierPolicy) -> Value {
    json!({
        "consecutive_5xx": policy.consecutive_5xx,
        "consecutive_gateway_errors": policy.consecutive_gateway_errors,
        "split_local_origin": policy.split_local_origin,
        "consecutive_local_origin_failures": policy.consecutive_local_origin_failures,
        "interval": seconds(policy.interval),
        "error_statuses": policy.error_statuses,
        "success_rate": policy.success_rate.map(|rule| json!({
            "minimum_hosts": rule.minimum_hosts,
            "request_volume": rule.request_volume,
            "stdev_factor": rule.stdev_factor,
        })),
        "failure_percentage": policy.failure_percentage.map(|rule| json!({
            "threshold": rule.threshold,
            "minimum_hosts": rule.minimum_hosts,
            "request_volume": rule.request_volume,
        })),
        "base_ejection_time": seconds(policy.base_ejection_time),
        "max_ejection_time": seconds(policy.max_ejection_time),
        "max_ejection_time_jitter": seconds(policy.max_ejection_time_jitter),
        "enforcing": EjectionKind::ALL.map(|kind| (kind.name(), policy.enforcing.percent(kind))).into_iter()
            .collect::<BTreeMap<_, _>>(),
        "max_ejection_percent": policy.max_ejection_percent,
    })
}

fn of_unreachable_policy(policy: &UnreachablePolicy) -> Value {
    json!({
        "first_probe": seconds(policy.first_probe),
        "longest_pause": seconds(policy.longest_pause),
        "enforcing": policy.enforcing,
        "max_ejection_percent": policy.max_ejection_percent,
    })
}

fn of_keepalive((probes, time, interval): (Option<u32>, Option<Duration>, Option<Duration>)) -> Value {
    json!({ "probes": probes, "time": time.map(seconds), "interval": interval.map(seconds) })
}

pub(super) fn of_services(snapshot: &Snapshot) -> Vec<Value> {
    let services = snapshot.mesh.services.iter().enumerate();
    services.map(|(index, service)| of_service(service, snapshot.resolved.get(index).map(AsRef::as_ref))).collect()
}

fn protocol(protocol: PortProtocol) -> &'static str {
    match protocol {
        PortProtocol::Http => "HTTP",
        PortProtocol::Http2 => "HTTP2",
        PortProtocol::Https => "HTTPS",
        PortProtocol::Tls => "TLS",
        PortProtocol::Tcp => "TCP",
        PortProtocol::Other => "other",
    }
}

fn of_service(service: &Service, resolved: Option<&EndpointSet>) -> Value {
    let resolution = match service.resolution {
        Resolution::Static => "STATIC",
        Resolution::Dns => "DNS",
        Resolution::DnsRoundRobin => "DNS_ROUND_ROBIN",
    };
    let ports: Vec<Value> = service
        .ports
        .iter()
        .map(|port| {
            json!({
                "number": port.number,
                "name": port.name,
                "protocol": protocol(port.protocol),
                "target_port": port.target_port,
            })
        })
        .collect();
    let endpoints: Vec<Value> = service
        .endpoints
        .iter()
        .enumerate()
        .map(|(index, endpoint)| {
            let ports = match &endpoint.ports {
                EndpointPorts::Fixed(number) => json!(number),
                EndpointPorts::ByName(ports) => json!(ports),
            };
            let addresses = resolved.and_then(|set| set.addresses.iter().find(|(of, _)| *of == index));
            json!({
                "address": endpoint.address.to_string(),
                "resolved": addresses.map(|(_, ips)| ips.iter().map(ToString::to_string).collect::<Vec<_>>()),
                "ports": ports,
                "labels": endpoint.labels,
                "weight": endpoint.weight,
                "locality": endpoint.locality,
            })
        })
        .collect();
    json!({
        "host": service.host,
        "namespace": service.namespace,
        "aliases": service.aliases,
        "short_name": service.short_name,
        "source": service.source.to_string(),
        "origin": place(&service.origin),
        "resolution": resolution,
        "ports": ports,
        "endpoints": endpoints,
    })
}

pub(super) fn of_destination_rule(rule: &DestinationRule) -> Value {
    json!({
        "name": rule.name,
        "namespace": rule.namespace,
        "host": rule.host,
        "origin": place(&rule.origin),
        "traffic_policy": of_traffic_policy(&rule.traffic_policy),
        "subsets": rule.subsets.iter().map(of_subset).collect::<Vec<_>>(),
    })
}

fn of_subset(subset: &Subset) -> Value {
    json!({
        "name": subset.name,
        "labels": subset.labels,
        "origin": place(&subset.origin),
        "traffic_policy": of_traffic_policy(&subset.traffic_policy),
    })
}

/// A block that is `null` is inherited or has its defaults.
fn of_traffic_policy(policy: &TrafficPolicy) -> Value {
    let ports: Vec<Value> = policy
        .port_level
        .iter()
        .map(|port| {
            json!({
                "port": port.port,
                "load_balancer": port.load_balancer.as_ref().map(load_balancer::of),
                "connection_pool": port.connection_pool.as_ref().map(of_connection_pool),
                "outlier_detection": port.outlier_detection.as_ref().map(of_outlier_detection),
                "tls": port.tls.as_ref().map(of_tls),
            })
        })
        .collect();
    json!({
        "load_balancer": policy.load_balancer.as_ref().map(load_balancer::of),
        "connection_pool": policy.connection_pool.as_ref().map(of_connection_pool),
        "outlier_detection": policy.outlier_detection.as_ref().map(of_outlier_detection),
        "tls": policy.tls.as_ref().map(of_tls),
        "proxy_protocol": policy.proxy_protocol.map(of_proxy_protocol),
        "retry_budget": policy.retry_budget.map(|budget| {
            json!({ "percent": budget.percent, "min_retry_concurrency": budget.min_retry_concurrency })
        }),
        "port_level_settings": ports,
    })
}

/// The mode.
fn of_tls(tls: &ClientTlsPolicy) -> &str {
    match tls {
        ClientTlsPolicy::Disable => "DISABLE",
        ClientTlsPolicy::Originate(settings) => &settings.block.name,
    }
}

fn of_proxy_protocol(version: ProxyProtocol) -> &'static str {
    match version {
        ProxyProtocol::Version1 => "V1",
        ProxyProtocol::Version2 => "V2",
    }
}

fn of_connection_pool(pool: &ConnectionPool) -> Value {
    json!({
        "max_connections": pool.max_connections,
        "connect_timeout": pool.connect_timeout.map(seconds),
        "max_pending_requests": pool.max_pending_requests,
        "max_requests": pool.max_requests,
        "max_requests_per_connection": pool.max_requests_per_connection,
        "max_retries": pool.max_retries,
        "idle_timeout": pool.idle_timeout.map(seconds),
        "tcp_keepalive": pool.tcp_keepalive.map(of_keepalive),
        "max_connection_duration": pool.max_connection_duration.map(seconds),
        "upgrade_to_http2": pool.upgrade_to_http2,
        "use_client_protocol": pool.use_client_protocol,
        "max_concurrent_streams": pool.max_concurrent_streams,
        "http2_keepalive": pool.http2_keepalive.map(of_http2_keepalive),
    })
}

fn of_http2_keepalive((interval, timeout): (Duration, Duration)) -> Value {
    json!({ "interval": seconds(interval), "timeout": seconds(timeout) })
}

fn of_outlier_detection(detection: &OutlierDetection) -> Value {
    json!({
        "consecutive_5xx": detection.consecutive_5xx,
        "consecutive_gateway_errors": detection.consecutive_gateway_errors,
        "split_local_origin": detection.split_local_origin,
        "consecutive_local_origin_failures": detection.consecutive_local_origin_failures,
        "interval": seconds(detection.interval),
        "error_statuses": detection.error_statuses,
        "success_rate": detection.success_rate.is_some(),
        "failure_percentage": detection.failure_percentage.map(|rule| rule.threshold),
        "base_ejection_time": seconds(detection.base_ejection_time),
        "max_ejection_time": seconds(detection.max_ejection_time),
        "max_ejection_time_jitter": seconds(detection.max_ejection_time_jitter),
        "max_ejection_percent": detection.max_ejection_percent,
        "min_health_percent": detection.min_health_percent,
    })
}
