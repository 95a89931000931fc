//! Following changes: a long poll by revision, or a stream of server-sent events whose ids are revisions.
//!
//! A watch is a revision in the client's hand; nothing is kept for it here but what waits to be sent.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures_util::stream::{self, Stream};
use meshwright_catalog::{Catalog, Hold};
use meshwright_registry::{Compacted, Entry, Event, Scope, ServiceKey};
use meshwright_site::{Wait, Waits};
use serde::Deserialize;
use serde_json::json;

use crate::Access;
use crate::api::instances::{Asked, asked, wait_of};
use crate::api::problem::Problem;
use crate::api::shape::{EventShape, InstanceShape};

/// Time between two signs of life on a stream that has nothing to say.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// What is followed, and from where.
#[derive(Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    namespace: String,
    service: Option<String>,
    revision: Option<u64>,
    wait: Option<String>,
}

pub(super) async fn watch(
    State(catalog): State<Catalog>,
    Extension(access): Extension<Access>,
    Extension(waits): Extension<Waits>,
    query: Asked<Wanted>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let wanted = asked(query)?;
    let scope = match &wanted.service {
        Some(service) => {
            let service = ServiceKey::new(&wanted.namespace, service)?;
            access.read(&service)?;
            Scope::Service(service)
        }
        None if wanted.namespace.is_empty() => Scope::All,
        None => Scope::Namespace(wanted.namespace.to_ascii_lowercase()),
    };
    ahead(&catalog, wanted.revision)?;
    let place = waits.begin().ok_or_else(Problem::crowded)?;
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if text(ACCEPT.as_str()).is_some_and(|accept| accept.contains("text/event-stream")) {
        let last = text("last-event-id").and_then(|id| id.parse().ok());
        ahead(&catalog, last)?;
        return Ok(stream((catalog, place), access, scope, last.or(wanted.revision)));
    }
    let wait = wait_of(wanted.wait.as_deref(), Duration::from_secs(60))?;
    let after = wanted.revision.unwrap_or_else(|| catalog.read(meshwright_registry::Registry::revision));
    let (events, revision) = catalog.events(after, &scope, wait).await?;
    let seen = events.iter().filter(|event| access.may_read(&event.key.service));
    let events: Vec<EventShape> = seen.map(EventShape::of).collect();
    Ok(Json(json!({ "revision": revision, "events": events })).into_response())
}

/// A revision that the registry has not reached is none of its own: it was lost and begun anew, and whoever has that revision
/// would wait in vain. Of several processes on one store, one may know a revision a moment before another.
fn ahead(catalog: &Catalog, after: Option<u64>) -> Result<(), Problem> {
    let revision = catalog.read(meshwright_registry::Registry::revision);
    match after {
        Some(after) if after > revision && matches!(catalog.store(), "memory" | "redb") => Err(Problem::new(
            StatusCode::GONE,
            &format!(
                "revision {after} is not of this registry, which is at {revision}: read everything, then go on from its revision"
            ),
        )),
        _ => Ok(()),
    }
}

/// What a stream has said and has still to say. It is asked for more when the client has taken what there was: for one that
/// does not read, nothing gathers here, and the log leaves it behind.
struct Following {
    catalog: Catalog,
    access: Access,
    scope: Scope,
    /// Everything up to this revision was said or waits in one of the queues.
    at: u64,
    present: VecDeque<Arc<Entry>>,
    /// The revision of `present`, to be said when all of it was.
    ready: Option<u64>,
    changes: VecDeque<Event>,
    ended: bool,
    _place: Wait,
}

/// Without a revision: first what there is, then `ready`, then changes. With one: changes since then.
fn stream((catalog, place): (Catalog, Wait), access: Access, scope: Scope, after: Option<u64>) -> Response {
    let (present, at) = match after {
        Some(after) => (VecDeque::new(), after),
        None => catalog.read(|registry| {
            let entries = registry.services().flat_map(|(_, service)| service.instances());
            (entries.filter(|entry| scope.covers(&entry.key)).cloned().collect(), registry.revision())
        }),
    };
    let ready = after.is_none().then_some(at);
    let changes = VecDeque::new();
    let following = Following { catalog, access, scope, at, present, ready, changes, ended: false, _place: place };
    sse(stream::unfold(following, |mut following| async move {
        let event = following.next().await?;
        Some((Ok(event), following))
    }))
}

impl Following {
    async fn next(&mut self) -> Option<SseEvent> {
        loop {
            if self.ended {
                return None;
            }
            if let Some(entry) = self.present.pop_front() {
                if self.access.may_read(&entry.key.service) {
                    return Some(event("put", None, &EventShape::put(&entry, entry.modified)));
                }
                continue;
            }
            // A stream may be silent for long: what was said leaves no room behind.
            self.present = VecDeque::new();
            if let Some(revision) = self.ready.take() {
                return Some(event("ready", Some(revision), &json!({ "revision": revision })));
            }
            if let Some(change) = self.changes.pop_front() {
                let shape = EventShape::of(&change);
                // Whoever goes on from an id has all changes of that revision.
                let last = self.changes.front().is_none_or(|next| next.revision != change.revision);
                return Some(event(shape.kind, last.then_some(change.revision), &shape));
            }
            self.changes = VecDeque::new();
            match self.catalog.events(self.at, &self.scope, Duration::from_secs(3600)).await {
                Ok((events, at)) => {
                    self.at = at;
                    let access = &self.access;
                    self.changes.extend(events.into_iter().filter(|event| access.may_read(&event.key.service)));
                }
                Err(compacted) => {
                    self.ended = true;
                    return Some(resync(compacted));
                }
            }
        }
    }
}

/// The reader was too slow: it has to begin again without a revision.
fn resync(compacted: Compacted) -> SseEvent {
    let detail = compacted.to_string();
    event("resync", None, &json!({ "detail": detail, "compacted": compacted.compacted }))
}

fn event(name: &str, id: Option<u64>, data: &impl serde::Serialize) -> SseEvent {
    let event = SseEvent::default().event(name);
    let event = id.map_or(event.clone(), |id| event.id(id.to_string()));
    // What is shown here has only texts as keys: it can always be written as JSON.
    event.json_data(data).unwrap_or_default()
}

fn sse(events: impl Stream<Item = Result<SseEvent, Infallible>> + Send + 'static) -> Response {
    Sse::new(events).keep_alive(KeepAlive::new().interval(SIGN_OF_LIFE)).into_response()
}

/// The answer to a registration that lasts as long as its connection: the instance, then signs of life.
pub(super) fn held(instance: InstanceShape, hold: Hold) -> Response {
    sse(stream::unfold((Some(instance), hold), |(instance, hold)| async move {
        match instance {
            Some(instance) => Some((Ok(event("registered", None, &instance)), (None, hold))),
            None => std::future::pending().await,
        }
    }))
}
