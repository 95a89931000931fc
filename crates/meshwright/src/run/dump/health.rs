//! Health checks as JSON.

use meshwright_model::{HealthProbe, HealthTransport};
use meshwright_snapshot::HostCheck;
use serde_json::{Value, json};

use super::seconds;

/// The check of one endpoint.
pub(super) fn of_check(check: &HostCheck) -> Value {
    let of = &*check.check;
    json!({
        "source": of.source,
        "target": check.target.to_string(),
        "probe": of_probe(&of.probe),
        "tls": match of.transport {
            HealthTransport::OfRequests => "as requests have it",
            HealthTransport::Plain => "never",
            HealthTransport::UnverifiedTls => "always, with any certificate",
        },
        "interval": seconds(of.interval),
        "interval_jitter": seconds(of.interval_jitter),
        "unhealthy_interval": seconds(of.unhealthy_interval),
        "timeout": seconds(of.timeout),
        "unhealthy_threshold": of.unhealthy_threshold,
        "healthy_threshold": of.healthy_threshold,
        "initial_delay": seconds(of.initial_delay),
        "initial_state": if of.initially_healthy { "healthy" } else { "unhealthy" },
    })
}

fn of_probe(probe: &HealthProbe) -> Value {
    match probe {
        HealthProbe::Http { path, host, headers, expected_statuses } => {
            let statuses: Vec<String> = expected_statuses
                .iter()
                .map(|of| {
                    if of.start() == of.end() { of.start().to_string() } else { format!("{}-{}", of.start(), of.end()) }
                })
                .collect();
            // Values may be secrets.
            let names: Vec<&String> = headers.iter().map(|(name, _)| name).collect();
            json!({ "http": { "path": path, "host": host, "headers": names, "expected_statuses": statuses } })
        }
        HealthProbe::Tcp => json!("tcp"),
        HealthProbe::Grpc { service, authority } => json!({ "grpc": { "service": service, "authority": authority } }),
    }
}
