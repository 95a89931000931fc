//! `trafficPolicy`: connection pool, and the policies of single ports. Load balancing is in `load_balancer.rs`.
//!
//! 0 in a limit counts as unset, as in Istio, and is said to.

use meshwright_model::{
    ConnectionPool, Diagnostic, LoadBalancer, LocalitySetting, PortPolicy, ProxyProtocol, RetryBudget, TrafficPolicy,
};

use super::super::port_number;
use super::{load_balancer, outlier, tls};
use crate::finding::Reporter;
use crate::record::Record;

/// Pending requests for each allowed connection from which the pair of limits looks like a mistake.
const MANY_PENDING: u32 = 100;

/// Reads `trafficPolicy` of a rule or subset; the default one when it is absent.
pub(super) fn read(owner: &Record, reporter: &mut Reporter<'_>) -> TrafficPolicy {
    let Some(record) = owner.record("trafficPolicy") else { return TrafficPolicy::default() };
    if record.fields.is_empty() {
        empty_block(
            "traffic policy must have at least one field",
            record,
            "loadBalancer: {simple: ROUND_ROBIN}",
            reporter,
        );
    }
    let mut policy = TrafficPolicy {
        load_balancer: load_balancer::read(record, reporter),
        connection_pool: read_connection_pool(record, reporter),
        outlier_detection: outlier::read(record, reporter),
        tls: tls::read(record, reporter),
        proxy_protocol: read_proxy_protocol(record),
        retry_budget: record.record("retryBudget").map(|block| read_retry_budget(block, reporter)),
        port_level: Vec::new(),
    };
    if record.has("tunnel") && record.has("proxyProtocol") {
        let finding = Diagnostic::error("choice", "tunnel and proxyProtocol must not be set together")
            .with_allowed("one of tunnel, proxyProtocol")
            .with_suggestion("remove one of them");
        reporter.add(&record.key_of("proxyProtocol"), finding);
    }
    check_failover(policy.load_balancer.as_ref(), policy.outlier_detection.is_some(), record, reporter);
    for port in record.records("portLevelSettings") {
        policy.port_level.extend(read_port_policy(port, &policy, reporter));
    }
    policy
}

fn empty_block(message: &str, record: &Record, example: &str, reporter: &mut Reporter<'_>) {
    let finding = Diagnostic::error("empty-block", message)
        .with_value("{}")
        .with_allowed("at least one field")
        .with_effect("it would say nothing")
        .with_suggestion(format!("add for example `{example}`, or remove the block"));
    reporter.add(&record.place, finding);
}

fn read_port_policy(record: &Record, whole: &TrafficPolicy, reporter: &mut Reporter<'_>) -> Option<PortPolicy> {
    let blocks = ["loadBalancer", "connectionPool", "outlierDetection", "circuitBreaker", "tls"];
    if !blocks.iter().any(|block| record.has(block)) {
        let example = "loadBalancer: {simple: ROUND_ROBIN}";
        empty_block("port traffic policy must have at least one field", record, example, reporter);
    }
    let port = record.record("port");
    let number = port.and_then(|port| port.whole("number")).and_then(|number| u16::try_from(number).ok());
    let refused = record.has("port") && port.is_none();
    let Some(number) = number.filter(|number| *number > 0) else {
        if !refused {
            let written = port.and_then(|port| port.whole("number"));
            let mut finding = Diagnostic::error("port-range", "portTrafficPolicy must have valid port")
                .with_allowed("`port: {number: N}` with N in 1..65535")
                .with_effect("nobody would know which port is meant")
                .with_suggestion("add for example `port: {number: 8080}`");
            finding.value = written.map(|number| number.to_string());
            let place = port.map_or_else(|| record.place.field("port"), |port| port.place_of("number"));
            reporter.add(&place, finding);
        }
        return None;
    };
    if let Some(port) = port {
        port_number(port, "number", reporter)?;
    }
    let policy = PortPolicy {
        port: number,
        load_balancer: load_balancer::read(record, reporter),
        connection_pool: read_connection_pool(record, reporter),
        outlier_detection: outlier::read(record, reporter),
        tls: tls::read(record, reporter),
    };
    check_failover(policy.load_balancer.as_ref(), policy.outlier_detection.is_some(), record, reporter);
    let lost = [
        ("loadBalancer", whole.load_balancer.is_some() && policy.load_balancer.is_none()),
        ("connectionPool", whole.connection_pool.is_some() && policy.connection_pool.is_none()),
        ("outlierDetection", whole.outlier_detection.is_some() && policy.outlier_detection.is_none()),
        ("tls", whole.tls.is_some() && policy.tls.is_none() && !record.has("tls")),
    ];
    let lost: Vec<&str> = lost.iter().filter(|(_, lost)| *lost).map(|(name, _)| *name).collect();
    if !lost.is_empty() {
        let message = format!("port {number} loses {} of the whole destination", lost.join(", "));
        let finding = Diagnostic::warning("port-level-loss", message)
            .with_allowed("every block that the port needs, repeated here")
            .with_effect("blocks that are absent here have their defaults on this port, as in Istio")
            .with_suggestion("repeat them here, or leave the port to the policy of the whole destination");
        reporter.add(&record.place, finding);
    }
    Some(policy)
}

fn read_proxy_protocol(record: &Record) -> Option<ProxyProtocol> {
    let block = record.record("proxyProtocol")?;
    Some(match block.word("version") {
        Some("V2") => ProxyProtocol::Version2,
        _ => ProxyProtocol::Version1,
    })
}

/// A share in whole percent; Istio takes fractions.
fn read_retry_budget(record: &Record, reporter: &mut Reporter<'_>) -> RetryBudget {
    let written = record.number("percent");
    if let Some(percent) = written.filter(|percent| !(0.0..=100.0).contains(percent)) {
        let finding = Diagnostic::error("range", "the percentage of a retry budget must be from 0 to 100")
            .with_value(percent.to_string())
            .with_allowed("0 to 100")
            .with_effect("it would be no share of the requests")
            .with_suggestion("write for example `percent: 20`");
        reporter.add(&record.place_of("percent"), finding);
    }
    let percent = written.unwrap_or(20.0).clamp(0.0, 100.0);
    // In range.
    let whole = percent.round() as u32;
    if f64::from(whole) != percent {
        let finding =
            Diagnostic::warning("rounded", format!("a retry budget of {percent} percent is taken as {whole}"))
                .with_value(percent.to_string())
                .with_allowed("whole percent")
                .with_effect(format!("{whole} retries for 100 requests in flight"))
                .with_suggestion(format!("write `percent: {whole}`"));
        reporter.add(&record.place_of("percent"), finding);
    }
    let fewest = record.whole("minRetryConcurrency").and_then(|fewest| u32::try_from(fewest).ok());
    RetryBudget { percent: whole, min_retry_concurrency: fewest.unwrap_or(3) }
}

/// Without ejection nobody notices that the near endpoints fail, so that nothing would ever go elsewhere.
fn check_failover(balancer: Option<&LoadBalancer>, ejects: bool, record: &Record, reporter: &mut Reporter<'_>) {
    let Some(LoadBalancer { locality: LocalitySetting::Failover(rule), .. }) = balancer else { return };
    if ejects || (rule.regions.is_empty() && rule.labels.is_empty()) {
        return;
    }
    let finding = Diagnostic::warning("ineffective", "outlier detection policy must be provided for failover")
        .with_allowed("localityLbSetting together with outlierDetection")
        .with_effect("endpoints are chosen without regard to their locality")
        .with_suggestion("add for example `outlierDetection: {consecutive5xxErrors: 5}`");
    let place = record.record("loadBalancer").map(|block| block.key_of("localityLbSetting"));
    reporter.add(place.as_ref().unwrap_or(&record.place), finding);
}

fn read_connection_pool(owner: &Record, reporter: &mut Reporter<'_>) -> Option<ConnectionPool> {
    let block = owner.record("connectionPool")?;
    if block.fields.is_empty() {
        empty_block("connection pool must have at least one field", block, "tcp: {maxConnections: 100}", reporter);
    }
    let mut pool = ConnectionPool::default();
    if let Some(tcp) = block.record("tcp") {
        pool.max_connections = limit(tcp, "maxConnections", "max connections", reporter);
        pool.connect_timeout = tcp.duration("connectTimeout");
        pool.max_connection_duration = tcp.duration("maxConnectionDuration");
        pool.idle_timeout = tcp.duration("idleTimeout");
        pool.tcp_keepalive = tcp.record("tcpKeepalive").map(|keepalive| {
            let probes = keepalive.whole("probes").and_then(|probes| u32::try_from(probes).ok());
            (probes, keepalive.duration("time"), keepalive.duration("interval"))
        });
    }
    if let Some(http) = block.record("http") {
        pool.max_pending_requests = limit(http, "http1MaxPendingRequests", "http1 max pending requests", reporter);
        pool.max_requests = limit(http, "http2MaxRequests", "http2 max requests", reporter);
        pool.max_requests_per_connection =
            limit(http, "maxRequestsPerConnection", "max requests per connection", reporter);
        pool.max_retries = limit(http, "maxRetries", "max retries", reporter);
        pool.idle_timeout = http.duration("idleTimeout").or(pool.idle_timeout);
        check_protocol(http, reporter);
        pool.upgrade_to_http2 = http.word("h2UpgradePolicy") == Some("UPGRADE");
        pool.use_client_protocol = http.boolean("useClientProtocol") == Some(true);
        pool.max_concurrent_streams = limit(http, "maxConcurrentStreams", "max concurrent streams", reporter);
        pool.http2_keepalive = http
            .record("http2KeepAlive")
            .and_then(|keepalive| Some((keepalive.duration("interval")?, keepalive.duration("timeout")?)));
    }
    check_proportion(&pool, block, reporter);
    Some(pool)
}

/// A limit; 0 is unset, with a warning.
fn limit(record: &Record, field: &str, called: &str, reporter: &mut Reporter<'_>) -> Option<u32> {
    let written = record.whole(field)?;
    match u32::try_from(written) {
        Ok(0) => {
            let finding = Diagnostic::warning("zero-limit", format!("{field}: 0 counts as not set"))
                .with_value("0")
                .with_allowed("1 or more; leave it out for no limit")
                .with_effect("there is no limit, as in Istio")
                .with_suggestion("write the limit that you want, or remove the field");
            reporter.add(&record.place_of(field), finding);
            None
        }
        Ok(limit) => Some(limit),
        Err(_) => {
            let finding = Diagnostic::error("range", format!("{called} must be non-negative"))
                .with_value(written.to_string())
                .with_allowed("1 or more; leave it out for no limit")
                .with_suggestion("write the limit that you want, or remove the field");
            reporter.add(&record.place_of(field), finding);
            None
        }
    }
}

fn check_protocol(http: &Record, reporter: &mut Reporter<'_>) {
    let upgrade = http.word("h2UpgradePolicy") == Some("UPGRADE");
    let client = http.boolean("useClientProtocol") == Some(true);
    if upgrade && client {
        let message = "use client protocol must not be true when H2UpgradePolicy is UPGRADE";
        let finding = Diagnostic::error("contradiction", message)
            .with_value("true")
            .with_allowed("one of useClientProtocol, h2UpgradePolicy: UPGRADE")
            .with_suggestion("remove one of them");
        reporter.add(&http.place_of("useClientProtocol"), finding);
    }
    if let Some(keepalive) = http.record("http2KeepAlive") {
        for (field, called) in [("interval", "interval"), ("timeout", "timeout")] {
            if !keepalive.has(field) {
                let finding = Diagnostic::error("missing-field", format!("http2 keepalive {called} is required"))
                    .with_allowed("interval and timeout")
                    .with_suggestion(format!("add for example `{field}: 10s`"));
                reporter.add(&keepalive.place.field(field), finding);
            }
        }
    }
}

fn check_proportion(pool: &ConnectionPool, block: &Record, reporter: &mut Reporter<'_>) {
    let (Some(connections), Some(pending)) = (pool.max_connections, pool.max_pending_requests) else { return };
    if pending / connections < MANY_PENDING {
        return;
    }
    let message = format!("{pending} requests may wait for {connections} connections");
    let finding = Diagnostic::warning("pool-proportion", message)
        .with_value(pending.to_string())
        .with_allowed("any numbers; usually not more waiting requests than some tens for each connection")
        .with_effect("requests wait for long instead of failing fast")
        .with_suggestion("raise tcp.maxConnections or lower http.http1MaxPendingRequests");
    let place =
        block.record("http").map_or_else(|| block.place.clone(), |http| http.place_of("http1MaxPendingRequests"));
    reporter.add(&place, finding);
}
