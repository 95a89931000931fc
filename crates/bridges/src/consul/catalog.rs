//! What changes by the catalog's API: services of nodes that run no agent are registered by somebody else, and taken away.
//!
//! Such an instance has a static lease, and its checks say what was said last; nobody carries them out. It remembers its node
//! in attributes, and is called `ID@NODE` by the other faces, because two nodes may have one id. A node is there for as long
//! as it has a service. Read next: `view.rs`, which shows them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use meshwright_catalog::WriteError;
use meshwright_registry::{Action, Check, Entry, Expected, Instance, InstanceKey, Probe, Proposal, Reason, Refusal};
use serde::Deserialize;
use serde_json::Value;

use super::agent::json;
use super::definition::{self, Service, Weights};
use super::view::{self, DATACENTER, NODE};
use super::{Answer, Call, Refused, bad, no_path, refused, service_key, write_error};

/// Attributes that say which node an instance is on.
pub(super) const NODE_NAME: &str = "consul.node";
pub(super) const NODE_ADDRESS: &str = "consul.nodeAddress";
pub(super) const NODE_META: &str = "consul.nodeMeta";

/// Longest name of a node.
const LONGEST_NODE: usize = 63;
/// Tries of a registration that others get in the way of.
const MOST_TRIES: usize = 32;

/// Body of `PUT /v1/catalog/register`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Registration {
    datacenter: Option<String>,
    node: Option<String>,
    address: Option<String>,
    #[serde(rename = "taggedaddresses")]
    tagged_addresses: Option<BTreeMap<String, Value>>,
    #[serde(rename = "nodemeta")]
    node_meta: Option<BTreeMap<String, String>>,
    service: Option<CatalogService>,
    check: Option<CatalogCheck>,
    checks: Option<Vec<CatalogCheck>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CatalogService {
    id: Option<String>,
    service: String,
    tags: Option<Vec<String>>,
    port: Option<u16>,
    address: Option<String>,
    meta: Option<BTreeMap<String, String>>,
    weights: Option<Weights>,
    #[serde(rename = "enabletagoverride")]
    enable_tag_override: Option<bool>,
    connect: Option<Value>,
    proxy: Option<Value>,
    kind: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CatalogCheck {
    #[serde(rename = "checkid")]
    check_id: Option<String>,
    name: Option<String>,
    notes: Option<String>,
    output: Option<String>,
    status: Option<String>,
    #[serde(rename = "serviceid")]
    service_id: Option<String>,
    definition: Option<Value>,
}

/// Body of `PUT /v1/catalog/deregister`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Deregistration {
    datacenter: Option<String>,
    node: Option<String>,
    #[serde(rename = "serviceid")]
    service_id: Option<String>,
    #[serde(rename = "checkid")]
    check_id: Option<String>,
}

/// `PUT /v1/catalog/...`.
pub(super) async fn put(call: &Call<'_>, parts: &[&str], body: &[u8]) -> Result<Answer, Refused> {
    match parts {
        ["register"] => register(call, json(body)?).await,
        ["deregister"] => deregister(call, json(body)?).await,
        _ => Err(no_path()),
    }
}

fn text(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

/// The name of a node in a datacenter that there is.
fn node_in(datacenter: Option<&String>, node: Option<&String>) -> Result<String, Refused> {
    if text(datacenter).is_some_and(|name| name != DATACENTER) {
        return Err(bad(format!("No path to datacenter; there is {DATACENTER}")));
    }
    let node = text(node).ok_or_else(|| bad("Must provide node"))?;
    let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'@';
    match node.len() <= LONGEST_NODE && node.bytes().all(allowed) {
        true => Ok(node.to_owned()),
        false => Err(bad("a node's name is 1 to 63 visible ASCII characters without @")),
    }
}

/// What the service `id` of `node` is called in the registry.
fn registry_id(node: &str, id: &str) -> String {
    if node == NODE { id.to_owned() } else { format!("{id}@{node}") }
}

/// The service `id` of `node`, whatever it is called.
fn find(call: &Call<'_>, node: &str, id: &str) -> Option<Arc<Entry>> {
    let id = registry_id(node, id);
    call.catalog.read(|registry| {
        let mut entries = registry.with_id(&id).filter(|entry| view::node_name(entry) == node);
        entries.find(|entry| call.access.may_read(&entry.key.service)).cloned()
    })
}

impl CatalogService {
    /// The instance that it describes on the node at `address`, with its id.
    fn instance(self, address: &str) -> Result<(String, String, Instance), Refused> {
        let service = Service {
            id: self.id,
            name: self.service,
            tags: self.tags,
            port: self.port,
            address: self.address,
            meta: self.meta,
            weights: self.weights,
            enable_tag_override: self.enable_tag_override,
            connect: self.connect,
            proxy: self.proxy,
            kind: self.kind,
            ..Service::default()
        };
        let instance = service.instance(address).map_err(bad)?;
        Ok((service.id(), service.name, instance))
    }
}

impl CatalogCheck {
    /// The check with the word that it comes with.
    fn check(&self) -> Result<Check, Refused> {
        let said = |value: &Value| value.as_object().is_none_or(|map| !map.values().all(is_nothing));
        if self.definition.as_ref().is_some_and(|value| !value.is_null() && said(value)) {
            let sentence = "Definition is not served by this registry: nobody carries out checks of the catalog; \
                            register them with the agent";
            return Err(bad(sentence));
        }
        let id = text(self.check_id.as_ref()).or(text(self.name.as_ref()));
        let id = id.ok_or_else(|| bad("a check needs a CheckID or a Name"))?;
        let status = match text(self.status.as_ref()) {
            None => meshwright_registry::Status::Critical,
            Some(word) => definition::status(word).ok_or_else(|| bad(format!("Invalid check status: '{word}'")))?,
        };
        let output = text(self.output.as_ref()).or(text(self.notes.as_ref())).unwrap_or_default();
        let mut check = Check::new(id, Probe::Word).with_result(status, output);
        text(self.name.as_ref()).unwrap_or(id).clone_into(&mut check.name);
        Ok(check)
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty() || text == "0s",
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) => false,
    }
}

async fn register(call: &Call<'_>, registration: Registration) -> Result<Answer, Refused> {
    let node = node_in(registration.datacenter.as_ref(), registration.node.as_ref())?;
    let address = text(registration.address.as_ref()).ok_or_else(|| bad("Must provide address"))?;
    if registration.tagged_addresses.as_ref().is_some_and(|addresses| !addresses.is_empty()) {
        return Err(bad("TaggedAddresses are not served by this registry"));
    }
    let several = registration.checks.as_deref().unwrap_or_default();
    let given: Vec<&CatalogCheck> = registration.check.iter().chain(several).collect();
    let checks = given.iter().map(|check| check.check()).collect::<Result<Vec<_>, _>>()?;
    let described = match registration.service {
        None => None,
        Some(service) => Some(service.instance(address)?),
    };
    let id = match (&described, given.first()) {
        (Some((id, ..)), _) => id.clone(),
        (None, Some(check)) => text(check.service_id.as_ref()).unwrap_or_default().to_owned(),
        (None, None) => return Err(bad("Service is missing: a node without services is not kept by this registry")),
    };
    if let Some(odd) = given.iter().find(|check| text(check.service_id.as_ref()) != Some(id.as_str())) {
        return Err(bad(match text(odd.service_id.as_ref()) {
            None => "ServiceID is missing: checks of nodes are not served by this registry".to_owned(),
            Some(other) => format!("a registration is of one service, and a check of it names {other:?} beside {id:?}"),
        }));
    }
    let meta = registration.node_meta.as_ref().filter(|meta| !meta.is_empty()).map(|meta| serde_json::json!(meta));
    let attributes = [
        (NODE_NAME, Some(node.clone()).filter(|node| node != NODE)),
        (NODE_ADDRESS, Some(address.to_owned()).filter(|_| node != NODE)),
        (NODE_META, meta.map(|meta| meta.to_string()).filter(|_| node != NODE)),
    ];
    for _ in 0..MOST_TRIES {
        let known = find(call, &node, &id);
        let (service, mut instance) = match (&described, &known) {
            (Some((_, name, instance)), _) => (service_key(name)?, instance.clone()),
            (None, Some(known)) => (known.key.service.clone(), known.instance.clone()),
            (None, None) => return Err(bad(format!("there is no service {id:?} of node {node:?}"))),
        };
        call.access.write(&service).map_err(refused)?;
        for (name, value) in &attributes {
            if let Some(value) = value {
                instance.attributes.insert(name, value);
            }
        }
        // Checks stay until they are taken away, also when the service comes without them.
        instance.checks = known.as_ref().map(|known| known.instance.checks.clone()).unwrap_or_default();
        for check in &checks {
            instance.checks.retain(|known| known.id != check.id);
            instance.checks.push(check.clone());
        }
        if put_instance(call, service, &registry_id(&node, &id), (instance, known)).await? {
            return Ok(Answer::json(Value::Bool(true)));
        }
    }
    Err((StatusCode::CONFLICT, "others change this service all the time".to_owned()))
}

/// Registers an instance in the place of the one that is `known`. Whether nobody else was quicker.
async fn put_instance(
    call: &Call<'_>,
    service: meshwright_registry::ServiceKey,
    id: &str,
    (instance, known): (Instance, Option<Arc<Entry>>),
) -> Result<bool, Refused> {
    let key = InstanceKey::new(service, id).map_err(|invalid| bad(invalid.to_string()))?;
    let mut proposals = Vec::new();
    let expected = match &known {
        Some(known) if known.key == key => Expected::Modified(known.modified),
        Some(moved) => {
            // An id belongs to one service of its node: it has another name now.
            call.access.write(&moved.key.service).map_err(refused)?;
            let expected = Expected::Modified(moved.modified);
            proposals.push(Proposal { key: moved.key.clone(), expected, action: Action::Remove(Reason::Deregistered) });
            Expected::Absent
        }
        None => Expected::Absent,
    };
    proposals.insert(0, Proposal { key, expected, action: Action::Register(Box::new(instance)) });
    let answers = call.catalog.propose(proposals).await.map_err(write_error)?;
    match answers.into_iter().next() {
        Some(Err(Refusal::Conflict { .. })) => Ok(false),
        Some(Err(refusal)) => Err(write_error(refusal.into())),
        _ => Ok(true),
    }
}

/// What is not there counts as taken away, as with Consul.
async fn deregister(call: &Call<'_>, wanted: Deregistration) -> Result<Answer, Refused> {
    let node = node_in(wanted.datacenter.as_ref(), wanted.node.as_ref())?;
    match (text(wanted.service_id.as_ref()), text(wanted.check_id.as_ref())) {
        (Some(id), _) => remove(call, find(call, &node, id).into_iter().collect()).await?,
        (None, Some(check)) => remove_check(call, &node, check).await?,
        (None, None) if node == NODE => {
            return Err(bad("this is the node of the registry itself; name a ServiceID or a CheckID"));
        }
        (None, None) => remove(call, view::of_node(call, &node)).await?,
    }
    Ok(Answer::json(Value::Bool(true)))
}

async fn remove(call: &Call<'_>, entries: Vec<Arc<Entry>>) -> Result<(), Refused> {
    for entry in &entries {
        call.access.write(&entry.key.service).map_err(refused)?;
    }
    let removal = |entry: &Arc<Entry>| Proposal {
        key: entry.key.clone(),
        expected: Expected::Any,
        action: Action::Remove(Reason::Deregistered),
    };
    if !entries.is_empty() {
        call.catalog.propose(entries.iter().map(removal).collect()).await.map_err(write_error)?;
    }
    Ok(())
}

async fn remove_check(call: &Call<'_>, node: &str, check: &str) -> Result<(), Refused> {
    let entries = view::of_node(call, node);
    let Some(entry) = entries.iter().find(|entry| entry.instance.checks.iter().any(|known| known.id == check)) else {
        return Ok(());
    };
    call.access.write(&entry.key.service).map_err(refused)?;
    let change = |instance: &mut Instance| instance.checks.retain(|known| known.id != check);
    match call.catalog.update(&entry.key, change).await {
        Err(WriteError::Refused(Refusal::NotFound(_))) | Ok(_) => Ok(()),
        Err(error) => Err(write_error(error)),
    }
}
