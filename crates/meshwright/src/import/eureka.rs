//! Eureka's applications in our words. Its servers write a list with one element as the element alone.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde_json::Value;

use super::mirror::Found;
use super::text;

/// The instances of `GET /apps`.
pub fn instances(answer: &Value) -> Result<Vec<Found>> {
    let Some(applications) = answer.get("applications").filter(|applications| applications.is_object()) else {
        bail!("the answer to /apps has no applications");
    };
    let all = list(&applications["application"]).flat_map(|application| list(&application["instance"]));
    Ok(all.filter_map(instance).collect())
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    let (many, one) = match value {
        Value::Array(many) => (many.as_slice(), None),
        Value::Null => (&[][..], None),
        one => (&[][..], Some(one)),
    };
    many.iter().chain(one)
}

/// One that has no application, address or port is not one that anybody could call.
fn instance(info: &Value) -> Option<Found> {
    let host = text(&info["hostName"]);
    let address = text(&info["ipAddr"]).or_else(|| host.clone())?;
    let id = text(&info["instanceId"]).or(host)?;
    let metadata: BTreeMap<String, String> = info["metadata"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| !key.starts_with('@'))
        .filter_map(|(key, value)| Some((key.clone(), text(value)?)))
        .collect();
    let zone = text(&info["dataCenterInfo"]["metadata"]["availability-zone"]);
    Some(Found {
        service: text(&info["app"])?.to_ascii_lowercase(),
        id,
        address,
        port: port(&info["port"]).or_else(|| port(&info["securePort"]))?,
        health: match text(&info["status"]).as_deref() {
            Some("UP") => "passing",
            Some("STARTING") => "starting",
            _ => "critical",
        },
        weight: 1,
        locality: zone.or_else(|| metadata.get("zone").cloned()).unwrap_or_default(),
        metadata,
        tags: Vec::new(),
    })
}

/// `{"$": 8080, "@enabled": "true"}`, where both may be text or not.
fn port(value: &Value) -> Option<u16> {
    let enabled = value["@enabled"].as_bool().or_else(|| value["@enabled"].as_str().map(|word| word == "true"));
    text(&value["$"])?.parse().ok().filter(|_| enabled.unwrap_or(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn applications_are_read_as_lists_and_as_single_elements() {
        let info = |id: &str, status: &str| {
            json!({
                "instanceId": id, "app": "USERS", "hostName": "h", "ipAddr": "10.0.0.1", "status": status,
                "port": { "$": 80, "@enabled": "false" }, "securePort": { "$": "443", "@enabled": "true" },
                "metadata": { "@class": "x", "version": "v2", "count": 3 },
                "dataCenterInfo": { "name": "Amazon", "metadata": { "availability-zone": "eu-1a" } },
            })
        };
        let many = json!({ "applications": { "application": [{ "name": "USERS", "instance": [info("a", "UP"), info("b", "OUT_OF_SERVICE")] }] } });
        let found = instances(&many).unwrap();
        assert_eq!((found.len(), found[0].service.as_str(), found[0].port), (2, "users", 443));
        assert_eq!((found[0].health, found[1].health, found[0].locality.as_str()), ("passing", "critical", "eu-1a"));
        assert_eq!(found[0].metadata, BTreeMap::from([("version".into(), "v2".into()), ("count".into(), "3".into())]));
        let one = json!({ "applications": { "application": { "name": "USERS", "instance": info("a", "UP") } } });
        assert_eq!(instances(&one).unwrap().len(), 1);
        assert!(instances(&json!({ "applications": { "application": [] } })).unwrap().is_empty());
        assert!(instances(&json!({ "apps": 1 })).is_err(), "an answer of somebody else is no empty registry");
    }
}
