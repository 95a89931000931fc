//! TLS chains, their certificates, and where bytes go, as JSON. Of certificates only what everybody may see.

use std::time::SystemTime;

use jiff::Timestamp;
use meshwright_identity::{CertificateFacts, ClientTls};
use meshwright_snapshot::{ListenerTls, Snapshot, TcpForward, TlsAction, TlsChain};
use serde_json::{Value, json};

use super::{of_forward, place};

pub(super) fn of_tls(snapshot: &Snapshot, tls: &ListenerTls) -> Value {
    json!({
        "chains": tls.chains.iter().map(|chain| of_chain(snapshot, chain)).collect::<Vec<_>>(),
        "default_chain": tls.default_chain.and_then(|index| tls.chains.get(index)).map(|chain| &chain.name),
    })
}

fn of_chain(snapshot: &Snapshot, chain: &TlsChain) -> Value {
    let mut value = json!({ "name": chain.name, "hosts": chain.hosts });
    match &chain.action {
        TlsAction::Terminate { config, then } => {
            value["certificates"] = config.certificates.iter().map(of_certificate).collect();
            value["then"] = then.as_ref().map_or_else(|| json!("http"), |then| of_tcp(snapshot, then));
        }
        TlsAction::Passthrough(forward) => value["passthrough"] = of_tcp(snapshot, forward),
    }
    value
}

pub(super) fn of_tcp(snapshot: &Snapshot, forward: &TcpForward) -> Value {
    forward
        .rules
        .iter()
        .map(|rule| {
            json!({
                "origin": place(&rule.origin),
                "destination_subnets": rule.destination_subnets.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "forward": of_forward(snapshot, &rule.forward),
            })
        })
        .collect()
}

/// Of TLS to a service.
pub(super) fn of_client(tls: &ClientTls) -> Value {
    json!({
        "server_name": tls.server_name.to_str(),
        "certificate": tls.certificate.as_ref().map(of_certificate),
    })
}

fn of_certificate(facts: &CertificateFacts) -> Value {
    json!({
        "subject": facts.subject,
        "issuer": facts.issuer,
        "serial": facts.serial,
        "dns_names": facts.dns_names,
        "other_names": facts.other_names,
        "not_before": moment(facts.not_before),
        "not_after": moment(facts.not_after),
    })
}

/// RFC 3339.
fn moment(time: SystemTime) -> Option<String> {
    Timestamp::try_from(time).ok().map(|time| time.to_string())
}
