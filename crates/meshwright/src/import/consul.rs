//! Consul's services in our words. Ids are unique in a node there and in a service here: those that several nodes have get
//! the node's name behind an `@`.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use super::mirror::Found;

/// An entry of `GET /v1/health/service/NAME`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    node: Node,
    service: Service,
    checks: Option<Vec<Check>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    node: String,
    #[serde(default)]
    address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    port: u16,
    tags: Option<Vec<String>>,
    meta: Option<BTreeMap<String, String>>,
    weights: Option<Weights>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Weights {
    passing: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    status: String,
}

/// Names of `GET /v1/catalog/services`, without Consul itself.
pub fn services(answer: &Value) -> Result<Vec<String>> {
    let map = answer.as_object().context("the answer to /v1/catalog/services has no services")?;
    Ok(map.keys().filter(|name| *name != "consul").cloned().collect())
}

/// The instances of `GET /v1/health/service/NAME`.
pub fn instances(service: &str, answer: &Value) -> Result<Vec<Found>> {
    let entries = Vec::<Entry>::deserialize(answer);
    let entries =
        entries.with_context(|| format!("the answer to /v1/health/service/{service} is no list of its instances"))?;
    let mut times: HashMap<String, usize> = HashMap::new();
    for entry in &entries {
        *times.entry(entry.service.id.clone()).or_default() += 1;
    }
    let found = entries.into_iter().map(|Entry { node, service: one, checks }| Found {
        service: service.to_ascii_lowercase(),
        id: match times.get(&one.id) {
            Some(1) => one.id,
            _ => format!("{}@{}", one.id, node.node),
        },
        address: if one.address.is_empty() { node.address } else { one.address },
        port: one.port,
        health: worst(&checks.unwrap_or_default()),
        weight: one.weights.map_or(1, |weights| weights.passing.clamp(1, 65_535)),
        locality: String::new(),
        metadata: one.meta.unwrap_or_default(),
        tags: one.tags.unwrap_or_default(),
    });
    Ok(found.collect())
}

fn worst(checks: &[Check]) -> &'static str {
    let has = |wanted: &[&str]| checks.iter().any(|check| wanted.contains(&check.status.as_str()));
    match () {
        () if has(&["critical", "maintenance"]) => "critical",
        () if has(&["warning"]) => "warning",
        () => "passing",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn instances_have_the_address_of_their_node_and_its_name_where_ids_are_not_unique() {
        let entry = |node: &str, id: &str, address: &str, status: &str| {
            json!({
                "Node": { "Node": node, "Address": "10.0.0.1" },
                "Service": { "ID": id, "Service": "web", "Address": address, "Port": 80, "Tags": null, "Meta": null,
                             "Weights": { "Passing": 5, "Warning": 1 } },
                "Checks": [{ "Status": "passing" }, { "Status": status }],
            })
        };
        let answer = json!([
            entry("n1", "web", "", "passing"),
            entry("n2", "web", "10.0.0.9", "critical"),
            entry("n1", "w2", "", "warning")
        ]);
        let found = instances("Web", &answer).unwrap();
        let ids: Vec<&str> = found.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(ids, ["web@n1", "web@n2", "w2"]);
        assert_eq!((found[0].address.as_str(), found[1].address.as_str()), ("10.0.0.1", "10.0.0.9"));
        assert_eq!(found.iter().map(|one| one.health).collect::<Vec<_>>(), ["passing", "critical", "warning"]);
        assert_eq!((found[0].service.as_str(), found[0].weight), ("web", 5));
        assert_eq!(services(&json!({ "consul": [], "web": ["x"] })).unwrap(), ["web"]);
        assert!(services(&json!([])).is_err() && instances("web", &json!({})).is_err());
    }
}
