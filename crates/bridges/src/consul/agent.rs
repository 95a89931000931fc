//! What changes by the agent's API: services and checks come and go, are put into maintenance, and give their words.

use std::sync::Arc;

use axum::http::StatusCode;
use meshwright_registry::{Entry, Instance, InstanceKey, Override, Probe, Source, Status};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::definition::{self, Definition, Service};
use super::view::is_here;
use super::{Answer, Call, Refused, bad, no_path, refused, service_key, write_error};

/// `PUT /v1/agent/...`.
pub(super) async fn put(call: &Call<'_>, parts: &[&str], body: &[u8]) -> Result<Answer, Refused> {
    match parts {
        ["service", "register"] => register(call, json(body)?).await,
        ["service", "deregister", id] => deregister(call, id).await,
        ["service", "maintenance", id] => maintenance(call, id).await,
        ["check", "register"] => register_check(call, json(body)?).await,
        ["check", "deregister", id] => deregister_check(call, id).await,
        ["check", "pass", id] => word(call, id, Status::Passing, call.parameter("note").unwrap_or_default()).await,
        ["check", "warn", id] => word(call, id, Status::Warning, call.parameter("note").unwrap_or_default()).await,
        ["check", "fail", id] => word(call, id, Status::Critical, call.parameter("note").unwrap_or_default()).await,
        ["check", "update", id] => {
            let update: Update = json(body)?;
            let status = definition::status(&update.status);
            let status = status.ok_or_else(|| bad(format!("Invalid check status: '{}'", update.status)))?;
            word(call, id, status, &update.output).await
        }
        _ => Err(no_path()),
    }
}

#[derive(Deserialize)]
struct Update {
    status: String,
    #[serde(default)]
    output: String,
}

pub(super) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    definition::read(body).map_err(|error| bad(format!("Request decode failed: {error}")))
}

/// The instances of this node with this id, whatever their service; those that came by this face first.
pub(super) fn by_id(call: &Call<'_>, id: &str) -> Option<Arc<Entry>> {
    call.catalog.read(|registry| {
        let entries = registry.with_id(id).filter(|entry| call.access.may_read(&entry.key.service) && is_here(entry));
        entries.min_by_key(|entry| entry.instance.source != Source::Consul).cloned()
    })
}

fn unknown_service(id: &str) -> Refused {
    (
        StatusCode::NOT_FOUND,
        format!("Unknown service ID {id:?}. Ensure that the service ID is passed, not the service name."),
    )
}

fn unknown_check(id: &str) -> Refused {
    (StatusCode::NOT_FOUND, format!("Unknown check ID {id:?}. Ensure that the check ID is passed, not the check name."))
}

/// The key of a service that may be changed.
fn writable(call: &Call<'_>, id: &str) -> Result<InstanceKey, Refused> {
    let entry = by_id(call, id).ok_or_else(|| unknown_service(id))?;
    call.access.write(&entry.key.service).map_err(refused)?;
    Ok(entry.key.clone())
}

async fn register(call: &Call<'_>, service: Service) -> Result<Answer, Refused> {
    let peer = call.peer().ip().to_canonical().to_string();
    let instance = service.instance(&peer).map_err(bad)?;
    let id = service.id();
    let key = InstanceKey::new(service_key(&service.name)?, &id).map_err(|invalid| bad(invalid.to_string()))?;
    call.access.write(&key.service).map_err(refused)?;
    let before = by_id(call, &id).filter(|entry| entry.instance.source == Source::Consul && entry.key != key);
    call.catalog.register(key, instance).await.map_err(write_error)?;
    if let Some(moved) = before {
        // An id belongs to one service: it has another name now.
        call.access.write(&moved.key.service).map_err(refused)?;
        let _ = call.catalog.deregister(moved.key.clone()).await;
    }
    Ok(Answer::done())
}

async fn deregister(call: &Call<'_>, id: &str) -> Result<Answer, Refused> {
    let key = writable(call, id)?;
    call.catalog.deregister(key).await.map_err(write_error)?;
    Ok(Answer::done())
}

async fn maintenance(call: &Call<'_>, id: &str) -> Result<Answer, Refused> {
    let enable = match call.parameter("enable") {
        Some("true" | "1") => true,
        Some("false" | "0") => false,
        Some(other) => return Err(bad(format!("Invalid value for enable: {other:?}"))),
        None => return Err(bad("Missing value for enable")),
    };
    let key = writable(call, id)?;
    let reason = call.parameter("reason").unwrap_or_default().chars().take(1024).collect();
    let said = enable.then_some(Override { status: Status::OutOfService, reason });
    call.catalog.update(&key, |instance| instance.overridden = said.clone()).await.map_err(write_error)?;
    Ok(Answer::done())
}

async fn register_check(call: &Call<'_>, definition: Definition) -> Result<Answer, Refused> {
    let service = definition.service_id.clone().filter(|id| !id.is_empty());
    let id = service.ok_or_else(|| bad("ServiceID is missing: checks of the node are not served by this registry"))?;
    let key = writable(call, &id)?;
    let check = definition.check(&format!("service:{id}"), key.service.name()).map_err(bad)?;
    let change = |instance: &mut Instance| {
        instance.checks.retain(|known| known.id != check.id);
        instance.checks.push(check.clone());
    };
    call.catalog.update(&key, change).await.map_err(write_error)?;
    Ok(Answer::done())
}

async fn deregister_check(call: &Call<'_>, id: &str) -> Result<Answer, Refused> {
    let entry = with_check(call, id).ok_or_else(|| unknown_check(id))?;
    call.access.write(&entry.key.service).map_err(refused)?;
    let change = |instance: &mut Instance| instance.checks.retain(|known| known.id != id);
    call.catalog.update(&entry.key, change).await.map_err(write_error)?;
    Ok(Answer::done())
}

/// The instance that has the check `id`. Ids that nobody chose name their service, and are found at once.
pub(super) fn with_check(call: &Call<'_>, id: &str) -> Option<Arc<Entry>> {
    let has = |entry: &Arc<Entry>| entry.instance.checks.iter().any(|check| check.id == id);
    if let Some(rest) = id.strip_prefix("service:") {
        let whole = by_id(call, rest).filter(&has);
        let numbered = || by_id(call, rest.rsplit_once(':')?.0).filter(&has);
        if let Some(entry) = whole.or_else(numbered) {
            return Some(entry);
        }
    }
    call.catalog.read(|registry| {
        let mut entries = registry.services().flat_map(|(_, service)| service.instances());
        entries.find(|entry| has(entry) && is_here(entry) && call.access.may_read(&entry.key.service)).cloned()
    })
}

async fn word(call: &Call<'_>, id: &str, status: Status, output: &str) -> Result<Answer, Refused> {
    let entry = with_check(call, id).ok_or_else(|| unknown_check(id))?;
    call.access.write(&entry.key.service).map_err(refused)?;
    let is_ttl = entry.instance.checks.iter().any(|check| check.id == id && matches!(check.probe, Probe::Ttl(_)));
    if !is_ttl {
        return Err(bad(format!("check {id:?} is not a TTL check")));
    }
    call.catalog.report(&entry.key, id, status, output).await.map_err(write_error)?;
    Ok(Answer::done())
}
