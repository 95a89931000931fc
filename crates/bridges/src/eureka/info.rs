//! Eureka's `InstanceInfo` and our instance, both ways. It knows the JSON tree, which XML is turned into and made from.
//!
//! What only Eureka's clients read is kept as it came, in attributes `eureka.FIELD`, and given back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use meshwright_catalog::Catalog;
use meshwright_registry::{Entry, Instance, Lease, LeaseKind, Override, Source, Status};
use serde_json::{Map, Value, json};

use super::word_of;

/// Fields of an instance that are kept as texts.
const TEXTS: [&str; 10] = [
    "hostName",
    "appGroupName",
    "asgName",
    "homePageUrl",
    "statusPageUrl",
    "healthCheckUrl",
    "secureHealthCheckUrl",
    "vipAddress",
    "secureVipAddress",
    "lastDirtyTimestamp",
];
/// Duration of a lease that says none, in seconds.
const DURATION: u64 = 90;
/// Interval of renewals that a lease says when it says none, in seconds.
const INTERVAL: u64 = 30;
const MY_OWN: &str = "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo";

/// The instance in a body that may say `instance` around it.
pub(super) fn unwrapped(tree: &Value) -> &Value {
    tree.get("instance").unwrap_or(tree)
}

/// A text, or a number or truth written as one.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

fn number(value: &Value) -> Option<u64> {
    text(value)?.trim().parse().ok()
}

/// Number and whether it is in use, of `{"$": 8080, "@enabled": "true"}`.
fn port(value: &Value) -> Option<(u16, bool)> {
    let inner = value.get("$").unwrap_or(value);
    let number = u16::try_from(number(inner)?).ok()?;
    let enabled = value.get("@enabled").and_then(text).is_none_or(|word| word.eq_ignore_ascii_case("true"));
    Some((number, enabled))
}

/// What an instance says of itself by a word of Eureka's.
pub(super) fn reported(word: &str) -> Option<Status> {
    match word {
        "UP" => Some(Status::Passing),
        "STARTING" => Some(Status::Starting),
        "DOWN" | "OUT_OF_SERVICE" | "UNKNOWN" => Some(Status::Critical),
        _ => None,
    }
}

/// What an override by a word of Eureka's means: `UNKNOWN` is to have none.
pub(super) fn overriding(word: &str) -> Option<Option<Status>> {
    match word {
        "UP" => Some(Some(Status::Passing)),
        "STARTING" => Some(Some(Status::Starting)),
        "DOWN" => Some(Some(Status::Critical)),
        "OUT_OF_SERVICE" => Some(Some(Status::OutOfService)),
        "UNKNOWN" => Some(None),
        _ => None,
    }
}

/// Id and instance of `info`, which registers with the application `app`.
///
/// # Errors
/// What is missing or wrong, in the words that Eureka's server has for it.
pub(super) fn read(info: &Value, app: &str) -> Result<(String, Instance), String> {
    let field = |name: &str| text(&info[name]).filter(|text| !text.is_empty());
    let host = field("hostName").ok_or("Missing hostname")?;
    let address = field("ipAddr").ok_or("Missing ip address")?;
    let named = field("app").or_else(|| field("appName")).ok_or("Missing appName")?;
    if !named.eq_ignore_ascii_case(app) {
        return Err(format!("Mismatched appName, expecting {app} but was {named}"));
    }
    let center = info.get("dataCenterInfo").filter(|center| center.is_object()).ok_or("Missing dataCenterInfo")?;
    text(&center["name"]).ok_or("Missing dataCenterInfo Name")?;
    let id = field("instanceId").or_else(|| text(&center["metadata"]["instance-id"])).unwrap_or_else(|| host.clone());
    let plain = port(&info["port"]);
    let secure = port(&info["securePort"]);
    let open = plain.filter(|(_, enabled)| *enabled).or(secure.filter(|(_, enabled)| *enabled));
    let mut instance = Instance::new(&address, open.or(plain).map_or(0, |(number, _)| number));
    instance.source = Source::Eureka;
    let status = field("status").unwrap_or_else(|| "UP".to_owned());
    instance.reported = reported(&status).ok_or_else(|| format!("status {status} is not known"))?;
    if matches!(status.as_str(), "OUT_OF_SERVICE" | "UNKNOWN") {
        instance.attributes.insert("eureka.status", &status);
    }
    let word = field("overriddenstatus").or_else(|| field("overriddenStatus"));
    if let Some(Some(status)) = word.as_deref().and_then(overriding) {
        instance.overridden = Some(Override { status, reason: "by Eureka's status override".to_owned() });
    }
    for (key, value) in info["metadata"].as_object().into_iter().flatten().filter(|(key, _)| !key.starts_with('@')) {
        instance.metadata.insert(key, &text(value).unwrap_or_else(|| value.to_string()));
    }
    instance.version = instance.metadata.get("version").unwrap_or_default().to_owned();
    instance.locality = text(&center["metadata"]["availability-zone"])
        .or_else(|| instance.metadata.get("zone").map(str::to_owned))
        .unwrap_or_default();
    let duration = number(&info["leaseInfo"]["durationInSecs"]).unwrap_or(DURATION).clamp(1, 86_400);
    instance.lease = Lease { kind: LeaseKind::Heartbeat, ttl: Duration::from_secs(duration) };
    keep(info, center, &mut instance);
    if let Some((number, enabled)) = secure {
        instance.attributes.insert("eureka.securePort", &format!("{number} {enabled}"));
    }
    if let Some((number, false)) = plain {
        instance.attributes.insert("eureka.port", &number.to_string());
    }
    Ok((id, instance))
}

/// Keeps what only Eureka's clients read.
fn keep(info: &Value, center: &Value, instance: &mut Instance) {
    let kept = TEXTS.iter().filter_map(|name| Some((*name, text(&info[*name]).filter(|text| !text.is_empty())?)));
    for (name, value) in kept {
        instance.attributes.insert(&format!("eureka.{name}"), &value);
    }
    if let Some(interval) = number(&info["leaseInfo"]["renewalIntervalInSecs"]) {
        instance.attributes.insert("eureka.renewalIntervalInSecs", &interval.to_string());
    }
    if text(&center["name"]).as_deref() != Some("MyOwn") {
        instance.attributes.insert("eureka.dataCenterInfo", &center.to_string());
    }
}

/// The address by which clients look for an instance; that of an instance of another face is its service's name.
pub(super) fn vip(entry: &Entry, attribute: &str) -> String {
    let own = entry.instance.attributes.get(attribute).map(str::to_owned);
    own.unwrap_or_else(|| match entry.instance.source == Source::Eureka {
        true => String::new(),
        false => entry.key.service.name().to_owned(),
    })
}

/// The status in Eureka's words.
pub(super) fn status(instance: &Instance) -> String {
    let own = instance.attributes.get("eureka.status").filter(|_| instance.reported == Status::Critical);
    own.unwrap_or_else(|| word_of(instance.status())).to_owned()
}

/// `entry` as `InstanceInfo`, with the action of a delta.
pub(super) fn render(entry: &Entry, catalog: &Catalog, action: Option<&str>) -> Value {
    let instance = &entry.instance;
    let kept = |name: &str| instance.attributes.get(&format!("eureka.{name}")).map(str::to_owned);
    let silence = catalog.silence(&entry.key).unwrap_or_default();
    let seen = SystemTime::now().checked_sub(silence).and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let seen = u64::try_from(seen.unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
    let renewal = kept("renewalIntervalInSecs").and_then(|text| text.parse().ok()).unwrap_or(INTERVAL);
    let plain = kept("port").map_or((instance.port, true), |port| (port.parse().unwrap_or(instance.port), false));
    let secure = kept("securePort").unwrap_or_else(|| "443 false".to_owned());
    let (secure, secure_enabled) = secure.split_once(' ').unwrap_or(("443", "false"));
    let center = kept("dataCenterInfo").and_then(|text| serde_json::from_str::<Value>(&text).ok());
    let mut metadata: Map<String, Value> =
        instance.metadata.iter().map(|(key, value)| (key.to_owned(), json!(value))).collect();
    if metadata.is_empty() {
        metadata.insert("@class".to_owned(), json!("java.util.Collections$EmptyMap"));
    }
    let overridden = instance.overridden.as_ref().map_or("UNKNOWN", |word| word_of(word.status));
    let mut info = json!({
        "instanceId": entry.key.id(),
        "hostName": kept("hostName").unwrap_or_else(|| instance.address.clone()),
        "app": entry.key.service.name().to_ascii_uppercase(),
        "ipAddr": instance.address,
        "status": status(instance),
        "overriddenstatus": overridden,
        "port": { "$": plain.0, "@enabled": plain.1.to_string() },
        "securePort": { "$": secure.parse::<u16>().unwrap_or(443), "@enabled": secure_enabled },
        "countryId": 1,
        "dataCenterInfo": center.unwrap_or_else(|| json!({ "@class": MY_OWN, "name": "MyOwn" })),
        "leaseInfo": {
            "renewalIntervalInSecs": renewal,
            "durationInSecs": instance.lease.ttl.as_secs(),
            "registrationTimestamp": seen, "lastRenewalTimestamp": seen,
            "evictionTimestamp": 0, "serviceUpTimestamp": seen,
        },
        "metadata": metadata,
        "vipAddress": vip(entry, "eureka.vipAddress"),
        "secureVipAddress": vip(entry, "eureka.secureVipAddress"),
        "isCoordinatingDiscoveryServer": "false",
        "lastUpdatedTimestamp": seen.to_string(),
        "lastDirtyTimestamp": kept("lastDirtyTimestamp").unwrap_or_else(|| seen.to_string()),
    });
    for name in ["appGroupName", "asgName", "homePageUrl", "statusPageUrl", "healthCheckUrl", "secureHealthCheckUrl"] {
        if let Some(value) = kept(name) {
            info[name] = json!(value);
        }
    }
    if let Some(action) = action {
        info["actionType"] = json!(action);
    }
    info
}
