//! What registers by Consul's API: a service definition with its checks, mapped to an instance.
//!
//! What this registry cannot do (scripts, HTTPS checks, aliases, sidecars) is refused by name.

use std::collections::BTreeMap;
use std::time::Duration;

use meshwright_registry::{Check, Instance, Lease, Probe, Source, Status};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::http_probe;
use crate::duration;
use crate::object::Object;

/// A service of `PUT /v1/agent/service/register`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Service {
    pub(super) id: Option<String>,
    pub(super) name: String,
    pub(super) tags: Option<Vec<String>>,
    pub(super) port: Option<u16>,
    pub(super) address: Option<String>,
    pub(super) meta: Option<BTreeMap<String, String>>,
    pub(super) weights: Option<Weights>,
    #[serde(rename = "enabletagoverride")]
    pub(super) enable_tag_override: Option<bool>,
    pub(super) check: Option<Definition>,
    pub(super) checks: Option<Vec<Definition>>,
    pub(super) connect: Option<Value>,
    pub(super) proxy: Option<Value>,
    pub(super) kind: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Weights {
    #[serde(default)]
    passing: u32,
}

/// A check of a service, or of `PUT /v1/agent/check/register`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Definition {
    id: Option<String>,
    #[serde(rename = "checkid")]
    check_id: Option<String>,
    #[serde(rename = "serviceid")]
    pub(super) service_id: Option<String>,
    name: Option<String>,
    notes: Option<String>,
    status: Option<String>,
    ttl: Option<Value>,
    http: Option<String>,
    method: Option<String>,
    header: Option<Value>,
    body: Option<String>,
    tcp: Option<String>,
    grpc: Option<String>,
    #[serde(rename = "grpcusetls")]
    grpc_use_tls: Option<bool>,
    interval: Option<Value>,
    timeout: Option<Value>,
    #[serde(rename = "deregistercriticalserviceafter")]
    deregister_critical_service_after: Option<Value>,
    #[serde(rename = "successbeforepassing")]
    success_before_passing: Option<u32>,
    #[serde(rename = "failuresbeforecritical")]
    failures_before_critical: Option<u32>,
    args: Option<Value>,
    script: Option<String>,
    #[serde(rename = "dockercontainerid")]
    docker: Option<String>,
    #[serde(rename = "aliasservice")]
    alias_service: Option<String>,
    #[serde(rename = "aliasnode")]
    alias_node: Option<String>,
    udp: Option<String>,
    h2ping: Option<String>,
}

/// A body as a definition. Names do not differ by case, as with Consul itself: clients in Python write them small.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    let mut tree: Value = serde_json::from_slice(body)?;
    lower(&mut tree);
    serde_json::from_value::<Object<T>>(tree).map(|Object(read)| read)
}

/// Names of a definition and of the service and the checks in it in lower case without underscores; those of metadata stay.
fn lower(tree: &mut Value) {
    let Value::Object(map) = tree else { return };
    for (name, mut value) in std::mem::take(map) {
        let name = name.to_ascii_lowercase().replace('_', "");
        match (name.as_str(), &mut value) {
            ("checks", Value::Array(checks)) => checks.iter_mut().for_each(lower),
            ("check" | "weights" | "service", value) => lower(value),
            _ => {}
        }
        map.insert(name, value);
    }
}

/// A status in Consul's words.
pub(super) fn status(word: &str) -> Option<Status> {
    match word {
        "passing" => Some(Status::Passing),
        "warning" => Some(Status::Warning),
        "critical" => Some(Status::Critical),
        _ => None,
    }
}

impl Service {
    /// Its id: as given, else its name.
    pub(super) fn id(&self) -> String {
        self.id.clone().filter(|id| !id.is_empty()).unwrap_or_else(|| self.name.clone())
    }

    /// The instance that it describes; without an address it is at `peer`.
    pub(super) fn instance(&self, peer: &str) -> Result<Instance, String> {
        if self.name.is_empty() {
            return Err("Missing service name".to_owned());
        }
        let kind = self.kind.as_deref().unwrap_or_default();
        let unserved =
            [(self.connect.is_some(), "Connect"), (self.proxy.is_some(), "Proxy"), (!kind.is_empty(), "Kind")];
        if let Some((_, field)) = unserved.iter().find(|(given, _)| *given) {
            return Err(format!("{field} is not served by this registry"));
        }
        let address = self.address.as_deref().filter(|address| !address.is_empty()).unwrap_or(peer);
        let mut instance = Instance::new(address, self.port.unwrap_or(0));
        instance.source = Source::Consul;
        instance.lease = Lease::STATIC;
        instance.tags = self.tags.clone().unwrap_or_default();
        instance.metadata = self.meta.clone().unwrap_or_default().into();
        instance.version = instance.metadata.get("version").unwrap_or_default().to_owned();
        instance.weight = self.weights.as_ref().map_or(1, |weights| weights.passing.max(1));
        if self.enable_tag_override == Some(true) {
            instance.attributes.insert("consul.enableTagOverride", "true");
        }
        let id = self.id();
        let several = self.checks.as_deref().unwrap_or_default();
        for (index, definition) in self.check.iter().chain(several).enumerate() {
            let default = match self.check.iter().count() + several.len() {
                1 => format!("service:{id}"),
                _ => format!("service:{id}:{}", index + 1),
            };
            instance.checks.push(definition.check(&default, &self.name)?);
        }
        Ok(instance)
    }
}

impl Definition {
    /// The check that it describes, called `default` unless it says otherwise.
    pub(super) fn check(&self, default: &str, service: &str) -> Result<Check, String> {
        let unserved = [
            (self.args.is_some() || self.script.is_some(), "scripts"),
            (self.docker.is_some(), "Docker checks"),
            (self.alias_service.is_some() || self.alias_node.is_some(), "alias checks"),
            (self.udp.is_some(), "UDP checks"),
            (self.h2ping.is_some(), "H2PING checks"),
            (self.grpc_use_tls == Some(true), "gRPC checks over TLS"),
            (
                self.method.as_deref().is_some_and(|method| !method.is_empty() && method != "GET"),
                "other methods than GET",
            ),
            (self.header.as_ref().is_some_and(|header| !is_empty(header)), "header fields of checks"),
            (self.body.as_deref().is_some_and(|body| !body.is_empty()), "bodies of checks"),
        ];
        if let Some((_, what)) = unserved.iter().find(|(given, _)| *given) {
            return Err(format!("{what} are not served by this registry"));
        }
        let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let probe = match (time("TTL", &self.ttl)?, text(&self.http), text(&self.tcp), text(&self.grpc)) {
            (Some(ttl), None, None, None) => Probe::Ttl(ttl),
            (None, Some(url), None, None) => http_probe(&url).map_err(|invalid| invalid.to_string())?,
            (None, None, Some(authority), None) => Probe::Tcp { authority: Some(authority) },
            (None, None, None, Some(target)) => {
                let (authority, service) = target.split_once('/').unwrap_or((&target, ""));
                Probe::Grpc { authority: Some(authority.to_owned()), service: service.to_owned() }
            }
            _ => return Err("a check has exactly one of TTL, HTTP, TCP and GRPC".to_owned()),
        };
        let id = text(&self.check_id).or_else(|| text(&self.id)).unwrap_or_else(|| default.to_owned());
        let mut check = Check::new(&id, probe);
        check.name = text(&self.name).unwrap_or_else(|| format!("Service '{service}' check"));
        check = check.with_result(check.status, self.notes.as_deref().unwrap_or_default());
        if let Some(word) = text(&self.status) {
            check.status = status(&word).ok_or("a status is passing, warning or critical")?;
        }
        let interval = time("Interval", &self.interval)?;
        if interval.is_none() && !matches!(check.probe, Probe::Ttl(_)) {
            return Err("Interval must be > 0 for HTTP, TCP and GRPC checks".to_owned());
        }
        check.interval = interval.unwrap_or(check.interval);
        check.timeout = time("Timeout", &self.timeout)?.unwrap_or(Duration::from_secs(10));
        // Consul counts those that must come before the one that decides.
        check.rise = self.success_before_passing.unwrap_or(0).saturating_add(1);
        check.fall = self.failures_before_critical.unwrap_or(0).saturating_add(1);
        check.deregister_after = time("DeregisterCriticalServiceAfter", &self.deregister_critical_service_after)?;
        Ok(check)
    }
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty)
}

/// A duration: a text such as `10s`, or nanoseconds as Go's clients write them. Empty and 0 are none.
fn time(field: &str, value: &Option<Value>) -> Result<Option<Duration>, String> {
    let time = match value {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if text.is_empty() => None,
        Some(Value::String(text)) => Some(duration::parse(text).ok_or_else(|| format!("Invalid {field} {text:?}"))?),
        Some(Value::Number(number)) => {
            Some(number.as_u64().map(Duration::from_nanos).ok_or_else(|| format!("Invalid {field}"))?)
        }
        Some(_) => return Err(format!("Invalid {field}")),
    };
    Ok(time.filter(|time| !time.is_zero()))
}
