//! What is read by Consul's API, in its shapes: agent, catalog, health, status.
//!
//! There is one datacenter, `dc1`. Everything is on one node, `meshwright`, whose own check always passes, but what was registered
//! by the catalog's API for another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::http::StatusCode;
use meshwright_registry::{Check, DEFAULT_NAMESPACE, Entry, Probe, Registry, Status};
use serde_json::{Map, Value, json};

use super::catalog::{NODE_ADDRESS, NODE_META, NODE_NAME};
use super::{Answer, Call, Refused, agent as actions, bad, no_path, refused, service_key};

pub(super) const DATACENTER: &str = "dc1";
pub(super) const NODE: &str = "meshwright";
/// Any fixed UUID does: it tells this one node from others.
const NODE_ID: &str = "6d657368-7772-6967-6874-000000000001";
const VERSION: &str = "1.8.7";

fn address(call: &Call<'_>) -> String {
    call.ends.local.ip().to_canonical().to_string()
}

fn node(call: &Call<'_>) -> Value {
    let address = address(call);
    json!({
        "ID": NODE_ID, "Node": NODE, "Address": address, "Datacenter": DATACENTER,
        "TaggedAddresses": { "lan": address, "lan_ipv4": address, "wan": address, "wan_ipv4": address },
        "Meta": {}, "CreateIndex": 1, "ModifyIndex": 1,
    })
}

/// The node that an instance is on.
pub(super) fn node_name(entry: &Entry) -> &str {
    entry.instance.attributes.get(NODE_NAME).unwrap_or(NODE)
}

/// Whether it is on the node of the registry, which is everything that was registered otherwise than for another node.
pub(super) fn is_here(entry: &Entry) -> bool {
    node_name(entry) == NODE
}

/// The id of a service on its node.
fn service_id(entry: &Entry) -> &str {
    let id = entry.key.id();
    match is_here(entry) {
        true => id,
        false => id.rsplit_once('@').map_or(id, |(id, _)| id),
    }
}

/// The node that an instance is on, whole.
fn node_of(call: &Call<'_>, entry: &Entry) -> Value {
    if is_here(entry) {
        return node(call);
    }
    let attributes = &entry.instance.attributes;
    let meta = attributes.get(NODE_META).and_then(|meta| serde_json::from_str(meta).ok());
    json!({
        "ID": "", "Node": node_name(entry), "Address": attributes.get(NODE_ADDRESS), "Datacenter": DATACENTER,
        "TaggedAddresses": {}, "Meta": meta.unwrap_or_else(|| json!({})),
        "CreateIndex": entry.created, "ModifyIndex": entry.modified,
    })
}

/// The instances on a node that may be seen.
pub(super) fn of_node(call: &Call<'_>, node: &str) -> Vec<Arc<Entry>> {
    entries(call, |entry| node_name(entry) == node)
}

/// Instances that Consul's clients may see, of one service or of all.
fn entries(call: &Call<'_>, wanted: impl Fn(&Entry) -> bool) -> Vec<Arc<Entry>> {
    call.catalog.read(|registry| {
        let services = registry.services().filter(|(key, _)| key.namespace() == DEFAULT_NAMESPACE);
        let entries =
            services.filter(|(key, _)| call.access.may_read(key)).flat_map(|(_, service)| service.instances());
        entries.filter(|entry| wanted(entry)).cloned().collect()
    })
}

/// Instances of one service with all of the tags asked for, and the index of the service.
fn of_service(call: &Call<'_>, name: &str) -> Result<(Vec<Arc<Entry>>, u64), Refused> {
    let key = service_key(name)?;
    call.access.read(&key).map_err(refused)?;
    let tags: Vec<&str> = call.query.iter().filter(|(key, _)| key == "tag").map(|(_, value)| value.as_str()).collect();
    Ok(call.catalog.read(|registry| {
        let service = registry.service(&key);
        let instances = service.into_iter().flat_map(|service| service.instances());
        let tagged = |entry: &&Arc<Entry>| tags.iter().all(|tag| entry.instance.tags.iter().any(|own| own == tag));
        let index = service.map_or_else(|| registry.revision(), meshwright_registry::Service::modified);
        (instances.filter(tagged).cloned().collect(), index)
    }))
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Passing => "passing",
        Status::Warning => "warning",
        Status::Starting | Status::Critical | Status::OutOfService | Status::Draining => "critical",
    }
}

fn service(entry: &Entry) -> Value {
    let instance = &entry.instance;
    json!({
        "ID": service_id(entry), "Service": entry.key.service.name(), "Tags": instance.tags, "Address": instance.address,
        "TaggedAddresses": { "lan_ipv4": { "Address": instance.address, "Port": instance.port } },
        "Meta": instance.metadata.to_map(), "Port": instance.port, "Weights": { "Passing": instance.weight, "Warning": 1 },
        "EnableTagOverride": instance.attributes.contains_key("consul.enableTagOverride"),
        "Proxy": { "MeshGateway": {}, "Expose": {} }, "Connect": {},
        "CreateIndex": entry.created, "ModifyIndex": entry.modified,
    })
}

fn node_check() -> Value {
    json!({
        "Node": NODE, "CheckID": "serfHealth", "Name": "Serf Health Status", "Status": "passing", "Notes": "",
        "Output": "Agent alive and reachable", "ServiceID": "", "ServiceName": "", "ServiceTags": [], "Type": "",
        "Definition": {}, "CreateIndex": 1, "ModifyIndex": 1,
    })
}

fn check_value(entry: &Entry, (id, name, status): (&str, &str, &str), output: &str, kind: &str) -> Value {
    json!({
        "Node": node_name(entry), "CheckID": id, "Name": name, "Status": status, "Notes": "", "Output": output,
        "ServiceID": service_id(entry), "ServiceName": entry.key.service.name(), "ServiceTags": entry.instance.tags,
        "Type": kind, "Definition": {}, "CreateIndex": entry.created, "ModifyIndex": entry.modified,
    })
}

fn kind(check: &Check) -> &'static str {
    match check.probe {
        Probe::Ttl(_) => "ttl",
        Probe::Word => "",
        Probe::Http { .. } => "http",
        Probe::Tcp { .. } => "tcp",
        Probe::Grpc { .. } => "grpc",
    }
}

/// The checks of an instance. What others than its checks say is shown as a check, too, because clients look at nothing else.
fn checks(entry: &Entry) -> Vec<Value> {
    let instance = &entry.instance;
    let id = service_id(entry);
    let own = instance.checks.iter();
    let mut all: Vec<Value> = own
        .map(|check| check_value(entry, (&check.id, &check.name, word(check.status)), &check.output, kind(check)))
        .collect();
    if let Some(said) = instance.overridden.as_ref().filter(|said| !said.status.is_healthy()) {
        let check = (format!("_service_maintenance:{id}"), "Service Maintenance Mode");
        all.push(check_value(entry, (&check.0, check.1, "critical"), &said.reason, "maintenance"));
    }
    if instance.reported != Status::Passing {
        let output = format!("the instance says that it is {}", instance.reported);
        all.push(check_value(entry, (&format!("_reported:{id}"), "Own word", word(instance.reported)), &output, ""));
    }
    all
}

/// Whether an instance counts as passing; `?passing` leaves warnings out, as Consul does.
fn is_passing(entry: &Entry) -> bool {
    entry.instance.status() == Status::Passing
}

/// `GET /v1/health/...`.
pub(super) fn health(call: &Call<'_>, parts: &[&str]) -> Result<Answer, Refused> {
    let revision = call.catalog.read(Registry::revision);
    match parts {
        ["service", name] => {
            let (mut entries, index) = of_service(call, name)?;
            if call.flag("passing") {
                entries.retain(|entry| is_passing(entry));
            }
            let list = entries.iter().map(|entry| {
                let mut all: Vec<Value> = is_here(entry).then(node_check).into_iter().collect();
                all.extend(checks(entry));
                json!({ "Node": node_of(call, entry), "Service": service(entry), "Checks": all })
            });
            Ok(Answer::at(list.collect(), index))
        }
        ["checks", name] => {
            let (entries, index) = of_service(call, name)?;
            Ok(Answer::at(entries.iter().flat_map(|entry| checks(entry)).collect(), index))
        }
        ["node", name] => {
            let mut all: Vec<Value> = (*name == NODE).then(node_check).into_iter().collect();
            all.extend(of_node(call, name).iter().flat_map(|entry| checks(entry)));
            Ok(Answer::at(Value::Array(all), revision))
        }
        ["state", state] => {
            if !matches!(*state, "any" | "passing" | "warning" | "critical") {
                return Err(bad("a state is any, passing, warning or critical"));
            }
            let mut all = vec![node_check()];
            all.extend(entries(call, |_| true).iter().flat_map(|entry| checks(entry)));
            all.retain(|check| *state == "any" || check["Status"] == **state);
            Ok(Answer::at(Value::Array(all), revision))
        }
        _ => Err(no_path()),
    }
}

/// `GET /v1/catalog/...`.
pub(super) fn catalog(call: &Call<'_>, parts: &[&str]) -> Result<Answer, Refused> {
    let revision = call.catalog.read(Registry::revision);
    match parts {
        ["datacenters"] => Ok(Answer::json(json!([DATACENTER]))),
        ["nodes"] => {
            let mut others = entries(call, |entry| !is_here(entry));
            // Of what its registrations said about a node, the last word counts.
            others.sort_by_key(|entry| entry.modified);
            let others = others.iter().map(|entry| (node_name(entry).to_owned(), node_of(call, entry)));
            let others: BTreeMap<String, Value> = others.collect();
            Ok(Answer::at(std::iter::once(node(call)).chain(others.into_values()).collect(), revision))
        }
        ["services"] => {
            let mut services: BTreeMap<String, BTreeSet<String>> =
                BTreeMap::from([("consul".to_owned(), BTreeSet::new())]);
            for entry in entries(call, |_| true) {
                let tags = services.entry(entry.key.service.name().to_owned()).or_default();
                tags.extend(entry.instance.tags.iter().cloned());
            }
            Ok(Answer::at(json!(services), revision))
        }
        ["service", name] => {
            let (entries, index) = of_service(call, name)?;
            Ok(Answer::at(entries.iter().map(|entry| flat(call, entry)).collect(), index))
        }
        ["node", name] => {
            let entries = of_node(call, name);
            let node = match entries.iter().max_by_key(|entry| entry.modified) {
                _ if *name == NODE => node(call),
                Some(entry) => node_of(call, entry),
                None => return Ok(Answer::at(Value::Null, revision)),
            };
            let services: Map<String, Value> =
                entries.iter().map(|entry| (service_id(entry).to_owned(), service(entry))).collect();
            Ok(Answer::at(json!({ "Node": node, "Services": services }), revision))
        }
        _ => Err(no_path()),
    }
}

/// A service with its node, flat, as the catalog has it.
fn flat(call: &Call<'_>, entry: &Entry) -> Value {
    let mut value = node_of(call, entry);
    let meta = value["Meta"].take();
    let instance = &entry.instance;
    let fields = json!({
        "NodeMeta": meta, "ServiceKind": "", "ServiceID": service_id(entry), "ServiceName": entry.key.service.name(),
        "ServiceTags": instance.tags, "ServiceAddress": instance.address,
        "ServiceTaggedAddresses": { "lan_ipv4": { "Address": instance.address, "Port": instance.port } },
        "ServiceWeights": { "Passing": instance.weight, "Warning": 1 }, "ServiceMeta": instance.metadata.to_map(),
        "ServicePort": instance.port,
        "ServiceEnableTagOverride": instance.attributes.contains_key("consul.enableTagOverride"),
        "ServiceProxy": { "MeshGateway": {}, "Expose": {} }, "ServiceConnect": {},
        "CreateIndex": entry.created, "ModifyIndex": entry.modified,
    });
    if let (Some(value), Value::Object(fields)) = (value.as_object_mut(), fields) {
        value.remove("Meta");
        value.extend(fields);
    }
    value
}

/// `GET /v1/agent/...`.
pub(super) fn agent(call: &Call<'_>, parts: &[&str]) -> Result<Answer, Refused> {
    let all = || entries(call, is_here);
    match parts {
        ["self"] => Ok(Answer::json(json!({
            "Config": { "Datacenter": DATACENTER, "NodeName": NODE, "NodeID": NODE_ID, "Server": true, "Version": VERSION, "Revision": "" },
            "Member": member(call), "Meta": {}, "Stats": {},
        }))),
        ["members"] => Ok(Answer::json(json!([member(call)]))),
        ["services"] => {
            let services: Map<String, Value> =
                all().iter().map(|entry| (entry.key.id().to_owned(), agent_service(entry))).collect();
            Ok(Answer::json(Value::Object(services)))
        }
        ["service", id] => {
            let entry = actions::by_id(call, id);
            let entry = entry.ok_or_else(|| (StatusCode::NOT_FOUND, format!("unknown service ID: {id}")))?;
            Ok(Answer::json(agent_service(&entry)))
        }
        ["checks"] => {
            let checks = all().iter().flat_map(|entry| checks(entry)).collect::<Vec<_>>();
            let named =
                checks.into_iter().map(|check| (check["CheckID"].as_str().unwrap_or_default().to_owned(), check));
            Ok(Answer::json(Value::Object(named.collect())))
        }
        ["health", "service", "id", id] => {
            let entry = actions::by_id(call, id);
            let entry = entry.ok_or_else(|| (StatusCode::NOT_FOUND, format!("ServiceId {id} not found")))?;
            Ok(aggregated(&[Arc::clone(&entry)], agent_health(&entry)))
        }
        ["health", "service", "name", name] => {
            let (entries, _) = of_service(call, name)?;
            if entries.is_empty() {
                return Err((StatusCode::NOT_FOUND, format!("No service with name {name} found")));
            }
            let list = entries.iter().map(|entry| agent_health(entry)).collect();
            Ok(aggregated(&entries, list))
        }
        _ => Err(no_path()),
    }
}

fn agent_service(entry: &Entry) -> Value {
    let mut value = service(entry);
    if let Some(map) = value.as_object_mut() {
        map.remove("Proxy");
        map.remove("Connect");
        map.insert("Datacenter".to_owned(), json!(DATACENTER));
    }
    value
}

fn agent_health(entry: &Entry) -> Value {
    json!({ "AggregatedStatus": aggregate(entry), "Service": agent_service(entry), "Checks": checks(entry) })
}

fn aggregate(entry: &Entry) -> &'static str {
    match entry.instance.status() {
        Status::OutOfService | Status::Draining => "maintenance",
        status => word(status),
    }
}

/// The worst of the instances decides about the status of the answer: 200 passing, 429 warning, 503 otherwise.
fn aggregated(entries: &[Arc<Entry>], body: Value) -> Answer {
    let worst = entries.iter().map(|entry| entry.instance.status()).max().unwrap_or(Status::Critical);
    let status = match worst {
        Status::Passing => StatusCode::OK,
        Status::Warning => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    Answer { status, ..Answer::json(body) }
}

fn member(call: &Call<'_>) -> Value {
    json!({
        "Name": NODE, "Addr": address(call), "Port": 8301, "Status": 1, "ProtocolMin": 1, "ProtocolMax": 5, "ProtocolCur": 2,
        "DelegateMin": 2, "DelegateMax": 5, "DelegateCur": 4,
        "Tags": { "build": VERSION, "dc": DATACENTER, "id": NODE_ID, "role": "consul", "port": "8300" },
    })
}

/// `GET /v1/status/...`.
pub(super) fn status(call: &Call<'_>, parts: &[&str]) -> Result<Answer, Refused> {
    let leader = format!("{}:8300", address(call));
    match parts {
        ["leader"] => Ok(Answer::json(json!(leader))),
        ["peers"] => Ok(Answer::json(json!([leader]))),
        _ => Err(no_path()),
    }
}
