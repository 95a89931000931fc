//! Services and instances of `/v1`: list, show, register, renew, leave, and what others say about an instance.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::{ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use meshwright_catalog::{Catalog, Hold};
use meshwright_registry::{
    Action, Entry, Expected, InstanceKey, Invalid, Lease, LeaseKind, Override, Proposal, Reason, Scope, Selector,
    ServiceKey, Status,
};
use meshwright_site::{Ends, Waits};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::api::problem::Problem;
use crate::api::shape::{InstanceShape, Registration, ServiceShape};
use crate::api::watch;
use crate::object::Object;
use crate::{Access, duration};

/// Revision of the registry at the time of an answer.
pub(super) const REVISION: &str = "meshwright-revision";
/// Longest wait of a long poll.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// Operations of one batch.
const LARGEST_BATCH: usize = 1000;
/// Time that a connection has to come back after a restart of the registry, unless the registration says otherwise.
const CONNECTION_TTL: Duration = Duration::from_secs(30);

/// `?namespace=`, which every path takes.
#[derive(Deserialize)]
pub(super) struct Place {
    #[serde(default)]
    pub(super) namespace: String,
}

/// What a list is to show, and how long to wait for a change.
#[derive(Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    healthy: bool,
    tag: Option<String>,
    /// `key=value`, several joined by commas.
    label: Option<String>,
    version: Option<String>,
    revision: Option<u64>,
    wait: Option<String>,
}

/// The query of a request, or the problem with it.
pub(super) type Asked<T> = Result<Query<T>, axum::extract::rejection::QueryRejection>;

pub(super) fn asked<T>(query: Asked<T>) -> Result<T, Problem> {
    query.map(|Query(query)| query).map_err(|rejection| Problem::bad_request(&rejection.body_text()))
}

/// A body as JSON.
fn json_of<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Problem> {
    let body = body?;
    serde_json::from_slice::<Object<T>>(&body)
        .map(|Object(read)| read)
        .map_err(|error| Problem::bad_request(&format!("Invalid JSON: {error}")))
}

fn instance_key(place: &Place, service: &str, id: &str) -> Result<InstanceKey, Problem> {
    Ok(InstanceKey::new(ServiceKey::new(&place.namespace, service)?, id)?)
}

pub(super) async fn services(
    State(catalog): State<Catalog>,
    Extension(access): Extension<Access>,
    query: Asked<Place>,
) -> Result<Response, Problem> {
    let Place { namespace } = asked(query)?;
    let (services, revision) = catalog.read(|registry| {
        let all = registry.services().filter(|(key, _)| namespace.is_empty() || key.namespace() == namespace);
        let seen = all.filter(|(key, _)| access.may_read(key));
        (seen.map(|(key, service)| ServiceShape::of(key, service)).collect::<Vec<_>>(), registry.revision())
    });
    Ok(with_revision(Json(json!({ "services": services })), revision))
}

fn with_revision(answer: impl IntoResponse, revision: u64) -> Response {
    let mut response = answer.into_response();
    response.headers_mut().insert(REVISION, HeaderValue::from(revision));
    response
}

impl Wanted {
    fn selector(&self) -> Result<Selector, Problem> {
        let mut selector = Selector { healthy: self.healthy, ..Selector::default() };
        selector.tags.extend(self.tag.iter().flat_map(|tags| tags.split(',')).map(str::to_owned));
        for label in self.label.iter().flat_map(|labels| labels.split(',')) {
            let pair = label.split_once('=').ok_or_else(|| Invalid::new("label", label, "key=value"))?;
            selector.labels.push((pair.0.to_owned(), pair.1.to_owned()));
        }
        selector.labels.extend(self.version.iter().map(|version| ("version".to_owned(), version.clone())));
        Ok(selector)
    }
}

/// The time to wait that a query asks for.
pub(super) fn wait_of(text: Option<&str>, default: Duration) -> Result<Duration, Problem> {
    let Some(text) = text else { return Ok(default) };
    let wait = duration::parse(text).ok_or_else(|| Invalid::new("wait", text, "a duration such as 30s"))?;
    Ok(wait.min(LONGEST_WAIT))
}

/// The instances of one service; with `revision`, once something changed since then.
pub(super) async fn list(
    State(catalog): State<Catalog>,
    Extension(access): Extension<Access>,
    Extension(waits): Extension<Waits>,
    Path(service): Path<String>,
    query: Asked<Wanted>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let wanted = asked(query)?;
    let service = ServiceKey::new(&wanted.namespace, &service)?;
    access.read(&service)?;
    let selector = wanted.selector()?;
    let wait = wait_of(wanted.wait.as_deref(), Duration::from_secs(60))?;
    let revision = catalog.read(meshwright_registry::Registry::revision);
    if let Some(after) = wanted.revision.filter(|after| *after <= revision || catalog.store() == "etcd") {
        let _place = waits.begin().ok_or_else(Problem::crowded)?;
        // A cursor that is too old has missed something for certain, and so has one that this registry has not reached: the
        // list as it is now is the answer to that.
        let _ = catalog.events(after, &Scope::Service(service.clone()), wait).await;
    }
    let (entries, modified, revision) = catalog.read(|registry| {
        let found = registry.service(&service);
        let entries: Vec<Arc<Entry>> = found.into_iter().flat_map(|service| service.instances()).cloned().collect();
        (entries, found.map(meshwright_registry::Service::modified), registry.revision())
    });
    // The list is a function of the service's last change and of the question, which the client knows.
    let tag = modified.map_or_else(|| "W/\"none\"".to_owned(), |modified| format!("W/\"{modified}\""));
    let known = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let mut response = if known.is_some_and(|known| known.split(',').any(|known| known.trim() == tag)) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let matching = entries.iter().filter(|entry| selector.matches(entry));
        let instances: Vec<_> = matching.map(|entry| InstanceShape::now(entry, &catalog)).collect();
        Json(json!({
            "namespace": service.namespace(), "service": service.name(),
            "revision": modified.unwrap_or_default(), "instances": instances,
        }))
        .into_response()
    };
    response.headers_mut().insert(ETAG, HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("W/\"\"")));
    Ok(with_revision(response, revision))
}

pub(super) async fn show(
    State(catalog): State<Catalog>,
    Extension(access): Extension<Access>,
    Path((service, id)): Path<(String, String)>,
    query: Asked<Place>,
) -> Result<Response, Problem> {
    let key = instance_key(&asked(query)?, &service, &id)?;
    access.read(&key.service)?;
    let (entry, revision) = catalog.read(|registry| (registry.instance(&key).cloned(), registry.revision()));
    let entry = entry.ok_or_else(|| Problem::not_found(&format!("there is no instance {key}")))?;
    Ok(with_revision(Json(InstanceShape::now(&entry, &catalog)), revision))
}

/// Where and how an instance registers.
#[derive(Deserialize)]
pub(super) struct Registering {
    #[serde(default)]
    namespace: String,
    /// Keep the answer open; the instance leaves when it is closed.
    #[serde(default)]
    hold: bool,
}

pub(super) async fn register_any(
    state: State<Catalog>,
    access: Extension<Access>,
    ends: Extension<Ends>,
    Path(service): Path<String>,
    query: Asked<Registering>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let registration = json_of::<Registration>(body)?;
    register_as(state, access, ends.peer, (&service, None), (asked(query)?, registration)).await
}

pub(super) async fn register(
    state: State<Catalog>,
    access: Extension<Access>,
    ends: Extension<Ends>,
    Path((service, id)): Path<(String, String)>,
    query: Asked<Registering>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let registration = json_of::<Registration>(body)?;
    if registration.id.as_ref().is_some_and(|own| *own != id) {
        return Err(Problem::bad_request("the id in the body is not the id in the path"));
    }
    register_as(state, access, ends.peer, (&service, Some(&id)), (asked(query)?, registration)).await
}

async fn register_as(
    State(catalog): State<Catalog>,
    Extension(access): Extension<Access>,
    peer: SocketAddr,
    (service, id): (&str, Option<&str>),
    (registering, registration): (Registering, Registration),
) -> Result<Response, Problem> {
    let service = ServiceKey::new(&registering.namespace, service)?;
    access.write(&service)?;
    let (key, mut instance) = read(&service, id, &registration, peer)?;
    if registering.hold {
        let ttl = instance.lease.ttl.min(CONNECTION_TTL);
        instance.lease = Lease { kind: LeaseKind::Connection, ttl };
    } else if instance.lease.kind == LeaseKind::Connection {
        return Err(Problem::bad_request("a lease of kind connection is asked for by ?hold=true"));
    }
    let outcome = catalog.register(key, instance).await?;
    let revision = catalog.read(meshwright_registry::Registry::revision);
    if registering.hold {
        let hold = Hold::new(catalog.clone(), outcome.entry.key.clone(), outcome.entry.created);
        return Ok(watch::held(InstanceShape::now(&outcome.entry, &catalog), hold));
    }
    let status = match outcome.changed && outcome.entry.created == outcome.entry.modified {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    Ok(with_revision((status, Json(InstanceShape::now(&outcome.entry, &catalog))), revision))
}

/// The instance that a registration describes; without an address it is where the request came from.
fn read(
    service: &ServiceKey,
    id: Option<&str>,
    registration: &Registration,
    peer: SocketAddr,
) -> Result<(InstanceKey, meshwright_registry::Instance), Problem> {
    let address = registration.address.clone().unwrap_or_else(|| peer.ip().to_canonical().to_string());
    let key = InstanceKey::new(service.clone(), &registration.id(id, &address))?;
    Ok((key, registration.instance(&address)?))
}

pub(super) async fn renew(
    State(catalog): State<Catalog>,
    Extension(access): Extension<Access>,
    Path((service, id)): Path<(String, String)>,
    query: Asked<Place>,
) -> Result<Json<Value>, Problem> {
    let key = instance_key(&asked(query)?, &service, &id)?;
    access.write(&key.service)?;
    renewed(&catalog, &key).map(Json)
}

fn renewed(catalog: &Catalog, key: &InstanceKey) -> Result<Value, Problem> {
    match catalog.renew(key) {
        Some(renewal) => Ok(json!({ "ttl": renewal.ttl.map(duration::write) })),
        None => Err(Problem::not_found(&format!("there is no instance {key}; it has to register again"))),
    }
}

pub(super) async fn deregister(
    State(catalog): State<Catalog>,
    Extension(access): Extension<Access>,
    Path((service, id)): Path<(String, String)>,
    query: Asked<Place>,
) -> Result<StatusCode, Problem> {
    let key = instance_key(&asked(query)?, &service, &id)?;
    access.write(&key.service)?;
    catalog.deregister(key).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Somebody's word about an instance.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Word {
    status: String,
    #[serde(default)]
    reason: String,
}

pub(super) async fn override_status(
    State(catalog): State<Catalog>,
    Extension(access): Extension<Access>,
    Path((service, id)): Path<(String, String)>,
    query: Asked<Place>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<InstanceShape>, Problem> {
    let key = instance_key(&asked(query)?, &service, &id)?;
    access.write(&key.service)?;
    let word = json_of::<Word>(body)?;
    let status = word.status.parse::<Status>()?;
    if word.reason.len() > 1024 {
        return Err(Invalid::new("reason", &word.reason, "at most 1024 bytes").into());
    }
    let said = Override { status, reason: word.reason };
    let outcome = catalog.update(&key, |instance| instance.overridden = Some(said.clone())).await?;
    tracing::info!(instance = %key, %status, "status overridden");
    Ok(Json(InstanceShape::now(&outcome.entry, &catalog)))
}

pub(super) async fn withdraw_status(
    State(catalog): State<Catalog>,
    Extension(access): Extension<Access>,
    Path((service, id)): Path<(String, String)>,
    query: Asked<Place>,
) -> Result<Json<InstanceShape>, Problem> {
    let key = instance_key(&asked(query)?, &service, &id)?;
    access.write(&key.service)?;
    let outcome = catalog.update(&key, |instance| instance.overridden = None).await?;
    tracing::info!(instance = %key, "status no longer overridden");
    Ok(Json(InstanceShape::now(&outcome.entry, &catalog)))
}

/// What an instance says of itself, as a whole or by one of its TTL checks.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    status: String,
    check: Option<String>,
    #[serde(default)]
    output: String,
}

pub(super) async fn report_health(
    State(catalog): State<Catalog>,
    Extension(access): Extension<Access>,
    Path((service, id)): Path<(String, String)>,
    query: Asked<Place>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<InstanceShape>, Problem> {
    let key = instance_key(&asked(query)?, &service, &id)?;
    access.write(&key.service)?;
    let report = json_of::<Report>(body)?;
    let status = report.status.parse::<Status>()?;
    if matches!(status, Status::OutOfService | Status::Draining) {
        let allowed = "passing, warning, starting or critical";
        return Err(Invalid::new("status", status.as_str(), allowed).into());
    }
    let outcome = match report.check {
        None => catalog.update(&key, |instance| instance.reported = status).await?,
        Some(check) => match catalog.report(&key, &check, status, &report.output).await? {
            Some(outcome) => outcome,
            None => return Err(Problem::not_found(&format!("instance {key} has no ttl check {check:?}"))),
        },
    };
    catalog.renew(&key);
    Ok(Json(InstanceShape::now(&outcome.entry, &catalog)))
}

/// One operation of a batch.
#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
enum Operation {
    Register {
        service: String,
        #[serde(default)]
        namespace: String,
        #[serde(default)]
        expected: Option<u64>,
        instance: Box<Object<Registration>>,
    },
    Renew {
        service: String,
        #[serde(default)]
        namespace: String,
        id: String,
    },
    Deregister {
        service: String,
        #[serde(default)]
        namespace: String,
        id: String,
        #[serde(default)]
        expected: Option<u64>,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    operations: Vec<Object<Operation>>,
}

/// Operations in order, those that write as one commit; each with its own result.
pub(super) async fn batch(
    State(catalog): State<Catalog>,
    Extension(access): Extension<Access>,
    Extension(ends): Extension<Ends>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let Batch { operations } = json_of(body)?;
    if operations.len() > LARGEST_BATCH {
        return Err(Problem::bad_request("a batch has at most 1000 operations"));
    }
    let mut results: Vec<Value> = Vec::with_capacity(operations.len());
    let mut proposals = Vec::new();
    for Object(operation) in operations {
        match proposal(operation, &catalog, &access, ends.peer) {
            Ok(Step::Done(result)) => results.push(json!({ "status": 200, "renewed": result })),
            Ok(Step::Propose(proposal)) => {
                proposals.push((results.len(), *proposal));
                results.push(Value::Null);
            }
            Err(problem) => results.push(problem.body()),
        }
    }
    let (places, proposals): (Vec<usize>, Vec<Proposal>) = proposals.into_iter().unzip();
    if !proposals.is_empty() {
        let answers = catalog.propose(proposals).await?;
        for (place, answer) in places.into_iter().zip(answers) {
            results[place] = match answer {
                Ok(outcome) => json!({ "status": 200, "instance": InstanceShape::of(&outcome.entry) }),
                Err(refusal) => Problem::from(refusal).body(),
            };
        }
    }
    Ok(Json(json!({ "results": results })))
}

enum Step {
    Done(Value),
    Propose(Box<Proposal>),
}

fn proposal(operation: Operation, catalog: &Catalog, access: &Access, peer: SocketAddr) -> Result<Step, Problem> {
    // The revision of the last change; there is none at 0.
    let propose = |key, expected: Option<u64>, action| {
        let expected = match expected {
            None => Expected::Any,
            Some(0) => Expected::Absent,
            Some(modified) => Expected::Modified(modified),
        };
        Step::Propose(Box::new(Proposal { key, expected, action }))
    };
    match operation {
        Operation::Register { service, namespace, expected, instance } => {
            let service = ServiceKey::new(&namespace, &service)?;
            access.write(&service)?;
            let (key, instance) = read(&service, None, &instance.0, peer)?;
            Ok(propose(key, expected, Action::Register(Box::new(instance))))
        }
        Operation::Renew { service, namespace, id } => {
            let key = instance_key(&Place { namespace }, &service, &id)?;
            access.write(&key.service)?;
            renewed(catalog, &key).map(Step::Done)
        }
        Operation::Deregister { service, namespace, id, expected } => {
            let key = instance_key(&Place { namespace }, &service, &id)?;
            access.write(&key.service)?;
            Ok(propose(key, expected, Action::Remove(Reason::Deregistered)))
        }
    }
}

/// How the registry fares.
pub(super) async fn status(State(catalog): State<Catalog>) -> Json<Value> {
    let (revision, compacted, services, instances) =
        catalog.read(|registry| (registry.revision(), registry.compacted(), registry.services().len(), registry.len()));
    let preservation = catalog.preservation().map(|state| json!({ "lapsed": state.lapsed, "leases": state.leases }));
    Json(json!({
        "store": catalog.store(), "members": catalog.members(), "revision": revision, "compacted": compacted, "services": services,
        "instances": instances, "self_preservation": preservation, "trouble": catalog.trouble(),
    }))
}
