//! Our own HTTP API: the small one of four paths (`founding.rs`) and `/v1` (`instances.rs`, `watch.rs`), described by
//! `openapi.json`.
//!
//! This file has every path. Errors are `problem.rs`, the JSON is `shape.rs`.

mod founding;
mod instances;
pub(crate) mod problem;
mod shape;
mod watch;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post, put};
use meshwright_catalog::Catalog;

use crate::access::{self, Tokens};
use crate::query;

pub(crate) use shape::http_probe;

/// What the admin API's first page says about these paths.
pub const INDEX: &str = "
Service registry

POST /register         {name, address, port, health, metadata}; also /deregister, /heartbeat
GET  /discover?name=N  healthy instances of a service
GET  /v1/services      all services; /v1/services/N/instances is one; /v1/watch follows changes
GET  /v1/openapi.json  everything else of /v1, described
GET  /v1/status        how the registry fares
     /eureka/          Eureka's protocol, for its clients
";

/// Largest body: a batch of registrations.
const LARGEST_BODY: usize = 1 << 20;

const OPENAPI: &str = include_str!("openapi.json");

/// Every path of the API, for whoever `tokens` lets in.
pub fn router(catalog: Catalog, tokens: Tokens) -> Router {
    let mut router = Router::new();
    for (path, methods) in paths() {
        router = router.route(path, methods);
    }
    router
        .method_not_allowed_fallback(async || {
            problem::Problem::new(
                axum::http::StatusCode::METHOD_NOT_ALLOWED,
                "this path does not take this method; GET /v1/openapi.json lists both",
            )
        })
        .layer(from_fn(readable))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(from_fn(move |request, next| access::check(tokens.clone(), request, next)))
        .with_state(catalog)
}

/// Refuses a path that is no text once it is decoded: no name is like that.
async fn readable(request: Request, next: Next) -> Response {
    match query::is_text(request.uri().path()) {
        true => next.run(request).await,
        false => problem::Problem::bad_request("the path is not UTF-8").into_response(),
    }
}

fn paths() -> Vec<(&'static str, MethodRouter<Catalog>)> {
    vec![
        ("/register", post(founding::register)),
        ("/deregister", post(founding::deregister)),
        ("/heartbeat", post(founding::heartbeat)),
        ("/discover", get(founding::discover)),
        ("/v1/services", get(instances::services)),
        ("/v1/services/{service}/instances", get(instances::list).post(instances::register_any)),
        (
            "/v1/services/{service}/instances/{id}",
            get(instances::show).put(instances::register).delete(instances::deregister),
        ),
        ("/v1/services/{service}/instances/{id}/renew", post(instances::renew)),
        (
            "/v1/services/{service}/instances/{id}/status",
            put(instances::override_status).delete(instances::withdraw_status),
        ),
        ("/v1/services/{service}/instances/{id}/health", put(instances::report_health)),
        ("/v1/batch", post(instances::batch)),
        ("/v1/watch", get(watch::watch)),
        ("/v1/status", get(instances::status)),
        ("/v1/openapi.json", get(async || ([(CONTENT_TYPE, "application/json")], OPENAPI).into_response())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_describes_every_path_and_no_other() {
        let document: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let mut described: Vec<&str> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        let mut served: Vec<&str> = paths().into_iter().map(|(path, _)| path).collect();
        described.sort_unstable();
        served.sort_unstable();
        assert_eq!(described, served);
    }

    #[test]
    fn every_reference_in_the_document_leads_somewhere() {
        let document: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        let mut waiting = vec![&document];
        let mut references = 0;
        while let Some(value) = waiting.pop() {
            if let Some(reference) = value.get("$ref").and_then(|reference| reference.as_str()) {
                let pointer = reference.strip_prefix('#').expect("references stay in the document");
                assert!(document.pointer(pointer).is_some(), "{reference}");
                references += 1;
            }
            match value {
                serde_json::Value::Object(map) => waiting.extend(map.values()),
                serde_json::Value::Array(list) => waiting.extend(list),
                _ => {}
            }
        }
        assert!(references > 10);
    }
}
