//! How an instance is written down: JSON with a version, read by this and later versions. It is the store's own shape;
//! nobody else reads it.

use std::collections::BTreeMap;
use std::time::Duration;

use meshwright_registry::{
    Check, Entry, Instance, InstanceKey, Invalid, Lease, LeaseKind, Override, Probe, ServiceKey, Status,
};
use serde::{Deserialize, Serialize};

/// An instance on paper.
#[derive(Serialize, Deserialize)]
struct Record {
    namespace: String,
    service: String,
    id: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    created: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    modified: u64,
    address: String,
    port: u16,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    locality: String,
    weight: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    version: String,
    lease: String,
    ttl_ms: u64,
    reported: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    overridden: Option<(String, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    checks: Vec<CheckRecord>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    attributes: BTreeMap<String, String>,
    source: String,
}

#[derive(Serialize, Deserialize)]
struct CheckRecord {
    id: String,
    name: String,
    probe: ProbeRecord,
    interval_ms: u64,
    timeout_ms: u64,
    rise: u32,
    fall: u32,
    status: String,
    output: String,
    deregister_after_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ProbeRecord {
    Ttl { ms: u64 },
    Word {},
    Http { authority: Option<String>, path: String },
    Tcp { authority: Option<String> },
    Grpc { authority: Option<String>, service: String },
}

/// Why a record is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Invalid(#[from] Invalid),
}

/// Where the record of an instance stands: namespace, service and id, which have no zero byte in them.
pub(crate) fn place(key: &InstanceKey) -> Vec<u8> {
    [key.service.namespace(), key.service.name(), key.id()].join("\0").into_bytes()
}

fn is_zero(revision: &u64) -> bool {
    *revision == 0
}

/// The record of `entry`.
pub(crate) fn write(entry: &Entry) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&record(entry))
}

/// The record of `entry` without revisions, for a store that gives them itself.
pub(crate) fn write_shared(entry: &Entry) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Record { created: 0, modified: 0, ..record(entry) })
}

fn record(entry: &Entry) -> Record {
    let Entry { key, instance, created, modified } = entry;
    Record {
        namespace: key.service.namespace().to_owned(),
        service: key.service.name().to_owned(),
        id: key.id().to_owned(),
        created: *created,
        modified: *modified,
        address: instance.address.clone(),
        port: instance.port,
        metadata: instance.metadata.to_map(),
        tags: instance.tags.clone(),
        locality: instance.locality.clone(),
        weight: instance.weight,
        version: instance.version.clone(),
        lease: instance.lease.kind.as_str().to_owned(),
        ttl_ms: milliseconds(instance.lease.ttl),
        reported: instance.reported.as_str().to_owned(),
        overridden: instance.overridden.as_ref().map(|word| (word.status.as_str().to_owned(), word.reason.clone())),
        checks: instance.checks.iter().map(write_check).collect(),
        attributes: instance.attributes.to_map(),
        source: instance.source.as_str().to_owned(),
    }
}

fn write_check(check: &Check) -> CheckRecord {
    CheckRecord {
        id: check.id.clone(),
        name: check.name.clone(),
        probe: match &check.probe {
            Probe::Ttl(ttl) => ProbeRecord::Ttl { ms: milliseconds(*ttl) },
            Probe::Word => ProbeRecord::Word {},
            Probe::Http { authority, path } => ProbeRecord::Http { authority: authority.clone(), path: path.clone() },
            Probe::Tcp { authority } => ProbeRecord::Tcp { authority: authority.clone() },
            Probe::Grpc { authority, service } => {
                ProbeRecord::Grpc { authority: authority.clone(), service: service.clone() }
            }
        },
        interval_ms: milliseconds(check.interval),
        timeout_ms: milliseconds(check.timeout),
        rise: check.rise,
        fall: check.fall,
        status: check.status.as_str().to_owned(),
        output: check.output.clone(),
        deregister_after_ms: check.deregister_after.map(milliseconds),
    }
}

/// The entry that a record holds.
pub(crate) fn read(bytes: &[u8]) -> Result<Entry, Unreadable> {
    let record: Record = serde_json::from_slice(bytes)?;
    let service = ServiceKey::new(&record.namespace, &record.service)?;
    let overridden = match record.overridden {
        Some((status, reason)) => Some(Override { status: status.parse()?, reason }),
        None => None,
    };
    let instance = Instance {
        address: record.address,
        port: record.port,
        metadata: record.metadata.into(),
        tags: record.tags,
        locality: record.locality,
        weight: record.weight,
        version: record.version,
        lease: Lease { kind: record.lease.parse::<LeaseKind>()?, ttl: Duration::from_millis(record.ttl_ms) },
        checks: record.checks.into_iter().map(read_check).collect::<Result<_, _>>()?,
        reported: record.reported.parse::<Status>()?,
        overridden,
        attributes: record.attributes.into(),
        source: record.source.parse()?,
    };
    let key = InstanceKey::new(service, &record.id)?;
    Ok(Entry { key, instance, created: record.created, modified: record.modified })
}

fn read_check(record: CheckRecord) -> Result<Check, Invalid> {
    Ok(Check {
        id: record.id,
        name: record.name,
        probe: match record.probe {
            ProbeRecord::Ttl { ms } => Probe::Ttl(Duration::from_millis(ms)),
            ProbeRecord::Word {} => Probe::Word,
            ProbeRecord::Http { authority, path } => Probe::Http { authority, path },
            ProbeRecord::Tcp { authority } => Probe::Tcp { authority },
            ProbeRecord::Grpc { authority, service } => Probe::Grpc { authority, service },
        },
        interval: Duration::from_millis(record.interval_ms),
        timeout: Duration::from_millis(record.timeout_ms),
        rise: record.rise,
        fall: record.fall,
        status: record.status.parse()?,
        output: record.output,
        deregister_after: record.deregister_after_ms.map(Duration::from_millis),
    })
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_is_read_again_as_it_was() {
        let mut instance = Instance::new("10.0.0.1", 80);
        instance.metadata.insert("zone", "ä\n");
        instance.tags = vec!["canary".into()];
        instance.overridden = Some(Override { status: Status::Draining, reason: "upgrade".into() });
        let probes = [
            Probe::Ttl(Duration::from_millis(1500)),
            Probe::Http { authority: Some("10.0.0.1:81".into()), path: "/health".into() },
            Probe::Tcp { authority: None },
            Probe::Word,
            Probe::Grpc { authority: None, service: "users".into() },
        ];
        let checks = probes.into_iter().enumerate();
        instance.checks = checks.map(|(index, probe)| Check::new(&index.to_string(), probe)).collect();
        instance.checks[0].deregister_after = Some(Duration::from_secs(60));
        let key = InstanceKey::new(ServiceKey::new("shop", "users").unwrap(), "a:b/c").unwrap();
        let entry = Entry { key, instance, created: 3, modified: u64::MAX };
        assert_eq!(read(&write(&entry).unwrap()).unwrap(), entry);
    }
}
