//! The small API: `POST /register`, `POST /deregister`, `POST /heartbeat`, `GET /discover?name=`. An instance is its
//! service's name, address and port; errors are sentences in plain text.

use std::collections::BTreeMap;
use std::time::SystemTime;

use axum::Extension;
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use meshwright_catalog::{Catalog, WriteError};
use meshwright_registry::{Instance, InstanceKey, Refusal, ServiceKey, Status};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Access;
use crate::api::problem::Problem;
use crate::api::shape;
use crate::object::Object;

/// What is registered. A missing `health` is true; a lease lasts five minutes.
#[derive(Deserialize)]
struct Registration {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    address: Option<String>,
    port: Option<u16>,
    health: Option<bool>,
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
}

/// What is found.
#[derive(Serialize)]
struct Found {
    name: String,
    address: String,
    port: u16,
    health: bool,
    metadata: BTreeMap<String, String>,
    last_seen: String,
}

/// A refusal in plain text.
struct Sentence(StatusCode, String);

impl IntoResponse for Sentence {
    fn into_response(self) -> Response {
        let mut response = (self.0, format!("{}\n", self.1)).into_response();
        if self.0 == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<Problem> for Sentence {
    fn from(problem: Problem) -> Self {
        Self(problem.status, problem.detail)
    }
}

fn read(body: Result<Bytes, BytesRejection>) -> Result<(Registration, InstanceKey), Sentence> {
    let bad = |text: &str| Sentence(StatusCode::BAD_REQUEST, text.to_owned());
    let body = body.map_err(Problem::from)?;
    let Object(registration) =
        serde_json::from_slice::<Object<Registration>>(&body).map_err(|_| bad("Invalid JSON"))?;
    if registration.name.is_empty() {
        return Err(bad("Service name required"));
    }
    let service = ServiceKey::new(&registration.namespace, &registration.name).map_err(Problem::from)?;
    let (Some(address), Some(port)) = (&registration.address, registration.port) else {
        return Err(bad("Service address and port required"));
    };
    let id = format!("{address}:{port}");
    let key = InstanceKey::new(service, &id).map_err(Problem::from)?;
    Ok((registration, key))
}

pub(super) async fn register(
    State(catalog): State<Catalog>,
    Extension(access): Extension<Access>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let work = async {
        let (registration, key) = read(body)?;
        access.write(&key.service)?;
        let (address, port) = (registration.address.unwrap_or_default(), registration.port.unwrap_or_default());
        let mut instance = Instance::new(&address, port);
        instance.metadata = registration.metadata.unwrap_or_default().into();
        instance.version = instance.metadata.get("version").unwrap_or_default().to_owned();
        if registration.health == Some(false) {
            instance.reported = Status::Critical;
        }
        catalog.register(key, instance).await.map_err(Problem::from)?;
        Ok::<_, Sentence>(StatusCode::OK)
    };
    work.await.into_response()
}

pub(super) async fn deregister(
    State(catalog): State<Catalog>,
    Extension(access): Extension<Access>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let work = async {
        let (_, key) = read(body)?;
        access.write(&key.service)?;
        match catalog.deregister(key).await {
            // To be gone is what was asked for.
            Ok(_) | Err(WriteError::Refused(Refusal::NotFound(_))) => Ok(StatusCode::OK),
            Err(error) => Err(Sentence::from(Problem::from(error))),
        }
    };
    work.await.into_response()
}

pub(super) async fn heartbeat(
    State(catalog): State<Catalog>,
    Extension(access): Extension<Access>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let work = || {
        let (_, key) = read(body)?;
        access.write(&key.service)?;
        match catalog.renew(&key) {
            Some(_) => Ok(StatusCode::OK),
            None => Err(Sentence(StatusCode::NOT_FOUND, "Service not registered".to_owned())),
        }
    };
    work().into_response()
}

/// What is looked for.
#[derive(Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
}

pub(super) async fn discover(
    State(catalog): State<Catalog>,
    Extension(access): Extension<Access>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Response {
    let work = || {
        let Some(Query(wanted)) = wanted.ok().filter(|wanted| !wanted.name.is_empty()) else {
            return Err(Sentence(StatusCode::BAD_REQUEST, "Service name required".to_owned()));
        };
        let service = ServiceKey::new(&wanted.namespace, &wanted.name).map_err(Problem::from)?;
        access.read(&service)?;
        let entries: Vec<_> = catalog.read(|registry| {
            let instances = registry.service(&service).into_iter().flat_map(|service| service.instances());
            instances.filter(|entry| entry.instance.status().is_healthy()).cloned().collect()
        });
        let found = |entry: &std::sync::Arc<meshwright_registry::Entry>| Found {
            name: entry.key.service.name().to_owned(),
            address: entry.instance.address.clone(),
            port: entry.instance.port,
            health: true,
            metadata: entry.instance.metadata.to_map(),
            last_seen: shape::last_seen(&catalog, &entry.key).unwrap_or_else(now),
        };
        let services: Vec<Found> = entries.iter().map(found).collect();
        Ok(Json(json!({ "count": services.len(), "services": services })))
    };
    work().into_response()
}

fn now() -> String {
    jiff::Timestamp::try_from(SystemTime::now()).map(|time| format!("{time:.3}")).unwrap_or_default()
}
