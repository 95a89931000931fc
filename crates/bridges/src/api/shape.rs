//! The JSON of the API: what a registration says, and what an instance looks like. The mapping to the registry's own words
//! is here and nowhere else.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use meshwright_catalog::Catalog;
use meshwright_registry::{
    Change, Check, Entry, Event, Instance, InstanceKey, Invalid, Lease, LeaseKind, Probe, ServiceKey, Status,
};
use serde::{Deserialize, Deserializer, Serialize};

use crate::duration;
use crate::object::Object;

/// A registration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Registration {
    /// Id; `address:port` when it is left out.
    pub(crate) id: Option<String>,
    /// IP address or name; the sender's address when it is left out.
    pub(crate) address: Option<String>,
    port: u16,
    health: Option<String>,
    metadata: BTreeMap<String, String>,
    tags: Vec<String>,
    locality: String,
    weight: Option<u32>,
    version: String,
    lease: Object<LeaseShape>,
    checks: Vec<Object<CheckShape>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LeaseShape {
    kind: Option<String>,
    #[serde(deserialize_with = "time")]
    ttl: Option<Duration>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CheckShape {
    id: Option<String>,
    name: String,
    /// A path, or a URL.
    http: Option<String>,
    /// `true`, or `host:port`.
    tcp: Option<TcpShape>,
    /// Name of the service asked for; empty is the server.
    grpc: Option<String>,
    #[serde(deserialize_with = "time")]
    ttl: Option<Duration>,
    #[serde(deserialize_with = "time")]
    interval: Option<Duration>,
    #[serde(deserialize_with = "time")]
    timeout: Option<Duration>,
    rise: Option<u32>,
    fall: Option<u32>,
    #[serde(deserialize_with = "time")]
    deregister_after: Option<Duration>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum TcpShape {
    Here(bool),
    There(String),
}

/// A duration: a text such as `30s`, or a number of seconds.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Seconds(f64),
        Text(String),
    }
    let Some(written) = Option::<Written>::deserialize(deserializer)? else { return Ok(None) };
    let time = match &written {
        Written::Seconds(seconds) => Duration::try_from_secs_f64(*seconds).ok(),
        Written::Text(text) => duration::parse(text),
    };
    time.map(Some)
        .ok_or_else(|| serde::de::Error::custom("a duration is a text such as \"30s\", or a number of seconds"))
}

impl Registration {
    /// The id of the instance: as it says, else as is said elsewhere, else its address and port.
    pub(crate) fn id(&self, given: Option<&str>, address: &str) -> String {
        let own = self.id.as_deref().or(given).map(str::to_owned);
        own.unwrap_or_else(|| format!("{address}:{}", self.port))
    }

    /// The instance that it describes, at `address`.
    pub(crate) fn instance(&self, address: &str) -> Result<Instance, Invalid> {
        let mut instance = Instance::new(address, self.port);
        instance.metadata = self.metadata.clone().into();
        instance.tags = self.tags.clone();
        instance.locality = self.locality.clone();
        instance.weight = self.weight.unwrap_or(1);
        instance.version = self.version.clone();
        if let Some(health) = &self.health {
            instance.reported = health.parse::<Status>()?;
        }
        let kind = self.lease.0.kind.as_deref().map(str::parse::<LeaseKind>).transpose()?;
        instance.lease = match kind.unwrap_or(LeaseKind::Heartbeat) {
            LeaseKind::Static => Lease::STATIC,
            kind => Lease { kind, ttl: self.lease.0.ttl.unwrap_or(instance.lease.ttl) },
        };
        instance.checks = self.checks.iter().map(|Object(check)| check.check()).collect::<Result<_, _>>()?;
        if instance.lease.kind == LeaseKind::Checks && instance.checks.is_empty() {
            return Err(Invalid::new("lease", "checks", "another kind, or come with a check that renews it"));
        }
        Ok(instance)
    }
}

impl CheckShape {
    fn check(&self) -> Result<Check, Invalid> {
        let probes = [
            self.http.as_ref().map(|target| ("http", http_probe(target))),
            self.tcp.as_ref().map(|target| ("tcp", tcp_probe(target))),
            self.grpc.as_ref().map(|service| ("grpc", Ok(Probe::Grpc { authority: None, service: service.clone() }))),
            self.ttl.map(|ttl| ("ttl", Ok(Probe::Ttl(ttl)))),
        ];
        let mut asked = probes.into_iter().flatten();
        let (Some((kind, probe)), None) = (asked.next(), asked.next()) else {
            let id = self.id.as_deref().unwrap_or_default();
            return Err(Invalid::new("check", id, "exactly one of http, tcp, grpc and ttl"));
        };
        let mut check = Check::new(self.id.as_deref().unwrap_or(kind), probe?);
        check.name = self.name.clone();
        check.interval = self.interval.unwrap_or(check.interval);
        check.timeout = self.timeout.unwrap_or(check.timeout.min(check.interval));
        check.rise = self.rise.unwrap_or(check.rise);
        check.fall = self.fall.unwrap_or(check.fall);
        check.deregister_after = self.deregister_after;
        Ok(check)
    }
}

/// `/path`, or `http://host:port/path`.
pub(crate) fn http_probe(target: &str) -> Result<Probe, Invalid> {
    let wrong = || Invalid::new("check http", target, "a path such as /health, or an http URL");
    if target.len() > 2048 || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong());
    }
    if target.starts_with('/') {
        return Ok(Probe::Http { authority: None, path: target.to_owned() });
    }
    let rest = target.strip_prefix("http://").ok_or_else(wrong)?;
    let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
    match authority.is_empty() || authority.contains('@') {
        true => Err(wrong()),
        false => Ok(Probe::Http { authority: Some(authority.to_owned()), path: path.to_owned() }),
    }
}

fn tcp_probe(target: &TcpShape) -> Result<Probe, Invalid> {
    match target {
        TcpShape::Here(true) => Ok(Probe::Tcp { authority: None }),
        TcpShape::There(authority) if authority.contains(':') => Ok(Probe::Tcp { authority: Some(authority.clone()) }),
        TcpShape::Here(false) => Err(Invalid::new("check tcp", "false", "true, or host:port")),
        TcpShape::There(other) => Err(Invalid::new("check tcp", other, "true, or host:port")),
    }
}

/// An instance as it is shown.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct InstanceShape {
    namespace: String,
    service: String,
    id: String,
    address: String,
    port: u16,
    status: &'static str,
    reported: &'static str,
    #[serde(rename = "override", skip_serializing_if = "Option::is_none")]
    overridden: Option<OverrideShape>,
    metadata: BTreeMap<String, String>,
    tags: Vec<String>,
    locality: String,
    weight: u32,
    version: String,
    lease: LeaseView,
    checks: Vec<CheckView>,
    source: &'static str,
    created: u64,
    modified: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct OverrideShape {
    status: &'static str,
    reason: String,
}

#[derive(Clone, Debug, Serialize)]
struct LeaseView {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct CheckView {
    id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    kind: &'static str,
    status: &'static str,
    output: String,
}

impl InstanceShape {
    /// `entry` without the moment it was last heard of.
    pub(crate) fn of(entry: &Entry) -> Self {
        let Entry { key, instance, created, modified } = entry;
        let check = |check: &Check| CheckView {
            id: check.id.clone(),
            name: check.name.clone(),
            kind: match check.probe {
                Probe::Ttl(_) => "ttl",
                Probe::Word => "word",
                Probe::Http { .. } => "http",
                Probe::Tcp { .. } => "tcp",
                Probe::Grpc { .. } => "grpc",
            },
            status: check.status.as_str(),
            output: check.output.clone(),
        };
        Self {
            namespace: key.service.namespace().to_owned(),
            service: key.service.name().to_owned(),
            id: key.id().to_owned(),
            address: instance.address.clone(),
            port: instance.port,
            status: instance.status().as_str(),
            reported: instance.reported.as_str(),
            overridden: instance
                .overridden
                .as_ref()
                .map(|word| OverrideShape { status: word.status.as_str(), reason: word.reason.clone() }),
            metadata: instance.metadata.to_map(),
            tags: instance.tags.clone(),
            locality: instance.locality.clone(),
            weight: instance.weight,
            version: instance.version.clone(),
            lease: LeaseView {
                kind: instance.lease.kind.as_str(),
                ttl: instance.lease.expires_after().map(duration::write),
            },
            checks: instance.checks.iter().map(check).collect(),
            source: instance.source.as_str(),
            created: *created,
            modified: *modified,
            last_seen: None,
        }
    }

    /// `entry` as the catalog knows it now.
    pub(crate) fn now(entry: &Entry, catalog: &Catalog) -> Self {
        Self { last_seen: last_seen(catalog, &entry.key), ..Self::of(entry) }
    }
}

/// When an instance was last heard of, in RFC 3339 form, UTC.
pub(crate) fn last_seen(catalog: &Catalog, key: &InstanceKey) -> Option<String> {
    let seen = SystemTime::now().checked_sub(catalog.silence(key)?)?;
    jiff::Timestamp::try_from(seen).ok().map(|time| format!("{time:.3}"))
}

/// A change as it is shown.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct EventShape {
    pub(crate) revision: u64,
    pub(crate) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    instance: InstanceShape,
}

impl EventShape {
    pub(crate) fn of(event: &Event) -> Self {
        match &event.change {
            Change::Put(entry) => Self::put(entry, event.revision),
            Change::Remove { last, reason } => Self {
                revision: event.revision,
                kind: "remove",
                reason: Some(reason.as_str()),
                instance: InstanceShape::of(last),
            },
        }
    }

    pub(crate) fn put(entry: &Entry, revision: u64) -> Self {
        Self { revision, kind: "put", reason: None, instance: InstanceShape::of(entry) }
    }
}

/// A service in the list of services.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ServiceShape {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) instances: usize,
    pub(crate) healthy: usize,
    pub(crate) modified: u64,
}

impl ServiceShape {
    pub(crate) fn of(key: &ServiceKey, service: &meshwright_registry::Service) -> Self {
        Self {
            namespace: key.namespace().to_owned(),
            name: key.name().to_owned(),
            instances: service.instances().len(),
            healthy: service.instances().filter(|entry| entry.instance.status().is_healthy()).count(),
            modified: service.modified(),
        }
    }
}
