//! What Eureka's clients fetch: all applications, one, or what changed in the last minutes with the hash of everything.
//!
//! The hash is a count for each status, sorted by name: `DOWN_1_UP_3_`. A client applies a delta, counts, and fetches
//! everything when its own hash is another one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use meshwright_catalog::Catalog;
use meshwright_registry::{Change, DEFAULT_NAMESPACE, Entry, InstanceKey, Scope, ServiceKey};
use serde_json::{Value, json};

use super::info;

/// How far back a delta reaches, as on Netflix's server.
const DELTA: Duration = Duration::from_secs(180);

/// Every instance that Eureka's clients see.
pub(super) fn entries(catalog: &Catalog) -> Vec<Arc<Entry>> {
    catalog.read(|registry| {
        let services = registry.services().filter(|(key, _)| key.namespace() == DEFAULT_NAMESPACE);
        services.flat_map(|(_, service)| service.instances()).cloned().collect()
    })
}

fn hash_code(entries: &[Arc<Entry>]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for entry in entries {
        *counts.entry(info::status(&entry.instance)).or_default() += 1;
    }
    counts.into_iter().map(|(status, count)| format!("{status}_{count}_")).collect()
}

/// Instances by application, in the shape of an answer.
fn shape(hash_code: &str, instances: Vec<(String, Value)>) -> Value {
    let mut applications: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (name, instance) in instances {
        applications.entry(name).or_default().push(instance);
    }
    let applications: Vec<Value> =
        applications.into_iter().map(|(name, instance)| json!({ "name": name, "instance": instance })).collect();
    json!({ "applications": { "versions__delta": "1", "apps__hashcode": hash_code, "application": applications } })
}

fn app_of(entry: &Entry) -> String {
    entry.key.service.name().to_ascii_uppercase()
}

/// These instances as applications.
pub(super) fn of(catalog: &Catalog, entries: &[Arc<Entry>]) -> Value {
    let instances = entries.iter().map(|entry| (app_of(entry), info::render(entry, catalog, None))).collect();
    shape(&hash_code(entries), instances)
}

/// All applications that `visible` shows.
pub(super) fn applications(catalog: &Catalog, visible: impl Fn(&Entry) -> bool) -> Value {
    let mut entries = entries(catalog);
    entries.retain(|entry| visible(entry));
    of(catalog, &entries)
}

/// One application; none without an instance.
pub(super) fn application(catalog: &Catalog, service: &ServiceKey) -> Option<Value> {
    let entries: Vec<Arc<Entry>> =
        catalog.read(|registry| Some(registry.service(service)?.instances().cloned().collect()))?;
    let instances: Vec<Value> = entries.iter().map(|entry| info::render(entry, catalog, None)).collect();
    Some(json!({ "application": { "name": service.name().to_ascii_uppercase(), "instance": instances } }))
}

/// What changed in the last three minutes, as far as the log reaches, each instance once, and the hash of everything.
pub(super) fn delta(catalog: &Catalog, visible: impl Fn(&Entry) -> bool) -> Value {
    let since = catalog.revision_before(DELTA);
    let mut present = entries(catalog);
    present.retain(|entry| visible(entry));
    let scope = Scope::Namespace(DEFAULT_NAMESPACE.to_owned());
    let mut changes: HashMap<InstanceKey, (Arc<Entry>, &str)> = HashMap::new();
    catalog.read(|registry| {
        let since = since.max(registry.compacted());
        for event in registry.events(since, &scope).into_iter().flatten() {
            match &event.change {
                Change::Put(entry) => {
                    let action = if entry.created > since { "ADDED" } else { "MODIFIED" };
                    changes.insert(event.key.clone(), (Arc::clone(entry), action));
                }
                Change::Remove { last, .. } => {
                    changes.insert(event.key.clone(), (Arc::clone(last), "DELETED"));
                }
            }
        }
    });
    let seen = changes.into_values().filter(|(entry, _)| visible(entry));
    let instances = seen.map(|(entry, action)| (app_of(&entry), info::render(&entry, catalog, Some(action)))).collect();
    shape(&hash_code(&present), instances)
}
