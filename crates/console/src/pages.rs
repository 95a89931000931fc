//! Every path of the admin API.
//!
//! What is shown comes from [`Views`]; who may ask is decided by the guard of `meshwright-site` before anything here runs.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_TYPE, USER_AGENT};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use meshwright_site::Ends;
use meshwright_telemetry::{Printable, VERSION};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::text;
use crate::views::{ActionError, BreakerAction, EndpointAction, Views};

type Shared = Arc<dyn Views>;

/// How much of a user agent goes into the audit.
const AGENT_BYTES: usize = 80;

/// What `GET /` says.
const INDEX: &str = "\
meshwright admin API

GET  /ready            200 while new connections are welcome, else 503; also /healthz/ready, /readyz
GET  /healthz          200 while the process lives; also /livez, /health
GET  /metrics          Prometheus text; also /stats/prometheus
GET  /config_dump      the live configuration with its origins, JSON
GET  /clusters         clusters and endpoints; ?format=json
GET  /listeners        listeners; ?format=json
GET  /logging          the log filter
POST /logging?level=L  sets it: a level, or target=level pairs joined by commas
POST /endpoints/{service}/{address}/{drain|disable|enable|uneject}
POST /breakers/{service}/{force-open|force-closed|disable|reset}
GET  /audit            what operators did, JSON
GET  /version          JSON
";

/// Every path, guarded. `further` pages come beside them with guards of their own; `/` lists them in the words of
/// `further_index`.
pub fn router(views: Arc<dyn Views>, further: Router, further_index: &str) -> Router {
    let index = format!("{INDEX}{further_index}");
    Router::new()
        .route("/", get(async move || index))
        .route("/ready", get(ready))
        .route("/readyz", get(ready))
        .route("/healthz/ready", get(ready))
        .route("/healthz", get(alive))
        .route("/livez", get(alive))
        .route("/health", get(alive))
        .route("/metrics", get(metrics))
        .route("/stats/prometheus", get(metrics))
        .route("/config_dump", get(config_dump))
        .route("/clusters", get(clusters))
        .route("/listeners", get(listeners))
        .route("/logging", get(log_level).post(set_log_level))
        .route("/endpoints/{service}/{address}/{action}", post(endpoint_action))
        .route("/breakers/{service}/{action}", post(breaker_action))
        .route("/audit", get(audit))
        .route("/version", get(version))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(axum::middleware::from_fn(meshwright_site::check))
        .with_state(views)
        .merge(further)
}

async fn unknown_path(uri: Uri) -> Response {
    let path = Printable(uri.path().as_bytes());
    (StatusCode::NOT_FOUND, format!("there is no page {path}; GET / lists them\n")).into_response()
}

async fn wrong_method() -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, "this page does not take this method; GET / lists pages and methods\n")
        .into_response()
}

async fn alive() -> &'static str {
    "alive\n"
}

async fn ready(State(views): State<Shared>) -> Response {
    let readiness = views.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, text::readiness(&readiness)).into_response()
}

async fn metrics(State(views): State<Shared>) -> Response {
    let render = move || ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], views.metrics());
    aside(render).await
}

async fn config_dump(State(views): State<Shared>) -> Response {
    aside(move || pretty(&views.config_dump())).await
}

/// The wish for JSON.
#[derive(Deserialize)]
struct Format {
    format: Option<String>,
}

impl Format {
    /// True for JSON, false for text (the default); the answer when it is neither.
    fn is_json(&self) -> Result<bool, (StatusCode, &'static str)> {
        match self.format.as_deref() {
            None | Some("text") => Ok(false),
            Some("json") => Ok(true),
            Some(_) => Err((StatusCode::BAD_REQUEST, "format is text or json\n")),
        }
    }
}

async fn clusters(State(views): State<Shared>, Query(format): Query<Format>) -> Response {
    match format.is_json() {
        Ok(true) => aside(move || pretty(&json!({ "scope": text::SCOPE, "clusters": views.clusters() }))).await,
        Ok(false) => aside(move || text::clusters(&views.clusters()).into_response()).await,
        Err(refused) => refused.into_response(),
    }
}

async fn listeners(State(views): State<Shared>, Query(format): Query<Format>) -> Response {
    match format.is_json() {
        Ok(true) => pretty(&json!({ "listeners": views.listeners() })),
        Ok(false) => text::listeners(&views.listeners()).into_response(),
        Err(refused) => refused.into_response(),
    }
}

/// What a POST to `/logging` asks for.
#[derive(Deserialize)]
struct Level {
    level: Option<String>,
}

async fn log_level(State(views): State<Shared>, Query(wish): Query<Level>) -> Response {
    match wish.level {
        None => format!("{}\n", views.log_level()).into_response(),
        Some(_) => (StatusCode::METHOD_NOT_ALLOWED, "the level is set by POST\n").into_response(),
    }
}

async fn set_log_level(State(views): State<Shared>, Query(wish): Query<Level>) -> Response {
    let Some(directive) = wish.level else {
        return (StatusCode::BAD_REQUEST, "say which level: POST /logging?level=debug\n").into_response();
    };
    match views.set_log_level(&directive) {
        Ok(level) => {
            tracing::info!(%level, "the log level was changed through the admin API");
            format!("{level}\n").into_response()
        }
        Err(reason) => (StatusCode::BAD_REQUEST, format!("{reason}\n")).into_response(),
    }
}

async fn endpoint_action(
    State(views): State<Shared>,
    Extension(ends): Extension<Ends>,
    Path((service, address, action)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    let action: EndpointAction = match action.parse() {
        Ok(action) => action,
        Err(reason) => return failure(StatusCode::NOT_FOUND, &reason),
    };
    let Ok(address) = address.parse::<SocketAddr>() else {
        return failure(
            StatusCode::BAD_REQUEST,
            "the address is an IP address and a port, 127.0.0.1:9001 or [::1]:9001",
        );
    };
    let actor = actor(&ends, &headers);
    match views.endpoint_action(action, &service, address, &actor) {
        Ok(changes) => pretty(&json!({
            "action": action, "service": service, "address": address, "actor": actor, "changes": changes,
        })),
        Err(error) => refused(&error),
    }
}

async fn breaker_action(
    State(views): State<Shared>,
    Extension(ends): Extension<Ends>,
    Path((service, action)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let action: BreakerAction = match action.parse() {
        Ok(action) => action,
        Err(reason) => return failure(StatusCode::NOT_FOUND, &reason),
    };
    let actor = actor(&ends, &headers);
    match views.breaker_action(action, &service, &actor) {
        Ok(changes) => pretty(&json!({ "action": action, "service": service, "actor": actor, "changes": changes })),
        Err(error) => refused(&error),
    }
}

/// Who asks, as far as it is known.
fn actor(ends: &Ends, headers: &HeaderMap) -> String {
    match headers.get(USER_AGENT) {
        Some(agent) => {
            let agent = agent.as_bytes();
            format!("{} ({})", ends.peer, Printable(&agent[..agent.len().min(AGENT_BYTES)]))
        }
        None => ends.peer.to_string(),
    }
}

fn refused(error: &ActionError) -> Response {
    let status = match error {
        ActionError::UnknownService(_) | ActionError::UnknownEndpoint(_) => StatusCode::NOT_FOUND,
        ActionError::Refused(_) => StatusCode::CONFLICT,
    };
    failure(status, &error.to_string())
}

async fn audit(State(views): State<Shared>) -> Response {
    pretty(&json!({ "audit": views.audit() }))
}

async fn version() -> Response {
    Json(json!({ "name": "meshwright", "version": VERSION })).into_response()
}

/// An error as JSON.
fn failure(status: StatusCode, reason: &str) -> Response {
    (status, pretty(&json!({ "error": reason }))).into_response()
}

/// JSON for people: indented, with a newline at the end.
fn pretty<T: Serialize>(value: &T) -> Response {
    match serde_json::to_string_pretty(value) {
        Ok(mut text) => {
            text.push('\n');
            ([(CONTENT_TYPE, "application/json")], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Renders a page that may be long beside the admin threads, so that `/ready` never waits for it.
async fn aside<R: IntoResponse>(render: impl FnOnce() -> R + Send + 'static) -> Response {
    match tokio::task::spawn_blocking(move || render().into_response()).await {
        Ok(response) => response,
        Err(error) => {
            tracing::error!(%error, "an admin page could not be rendered");
            (StatusCode::INTERNAL_SERVER_ERROR, "the page could not be rendered\n").into_response()
        }
    }
}
