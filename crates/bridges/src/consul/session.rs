//! Sessions by Consul's API: made, renewed, shown and destroyed.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use meshwright_registry::{KeyAction, Keys, Session, SessionCheck};
use serde::Deserialize;
use serde_json::{Value, json};

use super::agent;
use super::view::NODE;
use super::{Answer, Call, Refused, bad, key_error, no_path, refused};
use crate::duration;

/// The check that the node of the registry has; it always passes.
const NODE_CHECK: &str = "serfHealth";
/// A lock delay as a number that is smaller counts seconds, and nanoseconds otherwise, as with Consul.
const LEAST_NANOSECONDS: u64 = 1000;

/// Body of `PUT /v1/session/create`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    name: Option<String>,
    node: Option<String>,
    #[serde(rename = "lockdelay")]
    lock_delay: Option<Value>,
    ttl: Option<String>,
    behavior: Option<String>,
    checks: Option<Vec<String>>,
    #[serde(rename = "nodechecks")]
    node_checks: Option<Vec<String>>,
    #[serde(rename = "servicechecks")]
    service_checks: Option<Vec<ServiceCheck>>,
}

#[derive(Debug, Deserialize)]
struct ServiceCheck {
    #[serde(rename = "ID", alias = "id")]
    id: String,
}

/// `/v1/session/...`.
pub(super) async fn serve(call: &Call<'_>, method: &Method, parts: &[&str], body: &[u8]) -> Result<Answer, Refused> {
    call.access.keys(method != Method::GET).map_err(refused)?;
    match (method.as_str(), parts) {
        ("PUT", ["create"]) => create(call, body).await,
        ("PUT", ["destroy", id]) => {
            let close = KeyAction::Close { id: Arc::from(*id), unrenewed: None };
            call.keys.propose(close).await.map_err(key_error)?;
            Ok(Answer::json(Value::Bool(true)))
        }
        ("PUT", ["renew", id]) => match call.keys.renew(id).await.map_err(key_error)? {
            Some(session) => Ok(Answer::json(json!([shape(&session)]))),
            None => Err((StatusCode::NOT_FOUND, format!("Session id '{id}' not found"))),
        },
        ("GET", ["info", id]) => shown(call, |session| *session.id == **id).await,
        ("GET", ["list"]) => shown(call, |_| true).await,
        ("GET", ["node", node]) => shown(call, |_| *node == NODE).await,
        _ => Err(no_path()),
    }
}

async fn shown(call: &Call<'_>, wanted: impl Fn(&Session) -> bool) -> Result<Answer, Refused> {
    if let Some((index, wait)) = call.waits()? {
        call.keys.wait(wait, |keys: &Keys| keys.sessions_modified() != index).await;
    }
    Ok(call.keys.read(|keys| {
        let sessions = keys.sessions().filter(|session| wanted(session));
        Answer::at(sessions.map(|session| shape(session)).collect(), keys.sessions_modified())
    }))
}

fn shape(session: &Session) -> Value {
    let checks = session.checks.iter().map(|check| json!({ "ID": check.check, "Namespace": "" }));
    let checks: Vec<Value> = checks.collect();
    json!({
        "ID": session.id.as_ref(), "Name": session.name, "Node": NODE,
        "LockDelay": u64::try_from(session.lock_delay.as_nanos()).unwrap_or(u64::MAX),
        "Behavior": session.behavior.as_str(), "TTL": session.ttl.map(duration::write).unwrap_or_default(),
        "NodeChecks": session.node_checks, "ServiceChecks": (!checks.is_empty()).then_some(checks),
        "CreateIndex": session.created, "ModifyIndex": session.created,
    })
}

async fn create(call: &Call<'_>, body: &[u8]) -> Result<Answer, Refused> {
    let wanted: Wanted = if body.is_empty() { Wanted::default() } else { agent::json(body)? };
    if wanted.node.as_deref().is_some_and(|node| !node.is_empty() && node != NODE) {
        return Err(bad(format!("Missing node registration: sessions are of {NODE}")));
    }
    let ttl = wanted.ttl.as_deref().filter(|text| !text.is_empty());
    let ttl = ttl.map(|text| duration::parse(text).ok_or_else(|| bad(format!("Invalid Session TTL {text:?}"))));
    let behavior = wanted.behavior.as_deref().unwrap_or_default();
    let mut session = Session {
        id: identifier().into(),
        name: wanted.name.clone().unwrap_or_default(),
        lock_delay: lock_delay(wanted.lock_delay.as_ref())?,
        behavior: behavior.parse().map_err(|_| bad(format!("Invalid Behavior {behavior:?}: release or delete")))?,
        ttl: ttl.transpose()?.filter(|ttl| !ttl.is_zero()),
        node_checks: Vec::new(),
        checks: Vec::new(),
        created: 0,
        modified: 0,
    };
    let node_checks = wanted.node_checks.or(wanted.checks).unwrap_or_else(|| vec![NODE_CHECK.to_owned()]);
    let service_checks = wanted.service_checks.unwrap_or_default().into_iter().map(|check| check.id);
    for id in node_checks.into_iter().chain(service_checks) {
        if id == NODE_CHECK {
            session.node_checks.push(id);
            continue;
        }
        let missing = || bad(format!("Missing check '{id}' registration"));
        let entry = agent::with_check(call, &id).ok_or_else(missing)?;
        let check = SessionCheck { instance: entry.key.clone(), check: id.clone() };
        if !call.keys.is_well(&check) {
            return Err(bad(format!("Check '{id}' is in critical state")));
        }
        session.checks.push(check);
    }
    let id = Arc::clone(&session.id);
    call.keys.propose(KeyAction::Open(Box::new(session))).await.map_err(key_error)?;
    Ok(Answer::json(json!({ "ID": id.as_ref() })))
}

/// A duration as text, or a number.
fn lock_delay(given: Option<&Value>) -> Result<Duration, Refused> {
    let wrong = || bad("Invalid LockDelay: a duration of at most 60s, such as 15s");
    match given {
        None | Some(Value::Null) => Ok(Session::DELAY),
        Some(Value::String(text)) if text.is_empty() => Ok(Session::DELAY),
        Some(Value::String(text)) => duration::parse(text).ok_or_else(wrong),
        Some(Value::Number(number)) => {
            let number = number.as_u64().ok_or_else(wrong)?;
            Ok(if number < LEAST_NANOSECONDS { Duration::from_secs(number) } else { Duration::from_nanos(number) })
        }
        Some(_) => Err(wrong()),
    }
}

/// A random UUID (RFC 9562, version 4).
fn identifier() -> String {
    let bits = fastrand::u128(..) & !(0xf000 << 64 | 0xc000 << 48) | (0x4000 << 64 | 0x8000 << 48);
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_uuids_of_version_4() {
        for _ in 0..100 {
            let id = identifier();
            let parts: Vec<usize> = id.split('-').map(str::len).collect();
            assert_eq!(parts, [8, 4, 4, 4, 12], "{id}");
            assert_eq!(&id[14..15], "4", "{id}");
            assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"), "{id}");
        }
    }
}
