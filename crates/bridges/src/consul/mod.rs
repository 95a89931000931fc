//! Consul's HTTP API: agent, catalog, health and status, keys, sessions and transactions of keys, with blocking queries. Events and
//! Connect are not served, and say so.
//!
//! A service of Consul is a service of the namespace `default`; its id is unique over all services, as with an agent. The
//! registry is one node; others are those that registrations by the catalog's API name. Services stay until they are deregistered,
//! or a check of theirs was critical for too long.
//! Read next: `definition.rs` (what registers), `view.rs` (what is read), `agent.rs` (what changes), `catalog.rs` (what
//! others than agents register), `kv.rs`, `txn.rs` and `session.rs`.

mod agent;
mod catalog;
mod definition;
mod kv;
mod session;
mod txn;
mod view;

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use meshwright_catalog::{Catalog, KeyError, Keyspace, WriteError};
use meshwright_registry::{KeyRefusal, Scope, ServiceKey};
use meshwright_site::{Ends, Wait, Waits};
use serde_json::Value;

use crate::access::{self, Access, Tokens};
use crate::api::problem::{Problem, come_again};
use crate::{duration, query};

/// Largest body.
const LARGEST_BODY: usize = 1 << 20;
/// Wait of a blocking query that says none, and the longest.
const WAIT: Duration = Duration::from_secs(300);
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Every path, for whoever `tokens` lets in. It is a listener's whole router.
pub fn router(keys: Keyspace, tokens: Tokens) -> Router {
    Router::new()
        .fallback(serve)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(from_fn(move |request, next| access::check(tokens.clone(), request, next)))
        .with_state(keys)
}

/// A refusal: a status and a sentence.
type Refused = (StatusCode, String);

/// An answer: a body and the index of what it shows, for blocking queries.
struct Answer {
    body: Body,
    index: Option<u64>,
    status: StatusCode,
}

enum Body {
    Json(Value),
    /// Bytes of a client, which no browser may take for a page.
    Raw(Bytes),
    Empty,
}

impl Answer {
    fn json(body: Value) -> Self {
        Self { body: Body::Json(body), index: None, status: StatusCode::OK }
    }

    fn done() -> Self {
        Self { body: Body::Empty, index: None, status: StatusCode::OK }
    }

    fn at(body: Value, index: u64) -> Self {
        // An index of 0 would be no index: clients would ask without waiting.
        Self { index: Some(index.max(1)), ..Self::json(body) }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = match self.body {
            Body::Json(value) => (self.status, [(CONTENT_TYPE, "application/json")], value.to_string()).into_response(),
            Body::Raw(bytes) => {
                let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CONTENT_SECURITY_POLICY, "sandbox")];
                (self.status, headers, bytes).into_response()
            }
            Body::Empty => self.status.into_response(),
        };
        if let Some(index) = self.index {
            let headers = response.headers_mut();
            headers.insert("x-consul-index", HeaderValue::from(index));
            headers.insert("x-consul-knownleader", HeaderValue::from_static("true"));
            headers.insert("x-consul-lastcontact", HeaderValue::from_static("0"));
        }
        response
    }
}

/// One request.
struct Call<'a> {
    catalog: &'a Catalog,
    keys: &'a Keyspace,
    access: &'a Access,
    ends: Ends,
    waits: &'a Waits,
    query: Vec<(String, String)>,
}

async fn serve(
    State(keys): State<Keyspace>,
    Extension(access): Extension<Access>,
    (Extension(ends), Extension(waits)): (Extension<Ends>, Extension<Waits>),
    method: Method,
    uri: Uri,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return Problem::from(rejection).in_plain_text(),
    };
    let query = query::pairs(uri.query().unwrap_or_default());
    let call = Call { catalog: keys.catalog(), keys: &keys, access: &access, ends, waits: &waits, query };
    let parts: Vec<String> = uri.path().split('/').filter(|part| !part.is_empty()).map(query::decode).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let answer = match (method.as_str(), parts.as_slice()) {
        ("GET", ["v1", "agent", rest @ ..]) => view::agent(&call, rest),
        ("PUT", ["v1", "agent", rest @ ..]) => agent::put(&call, rest, &body).await,
        ("GET", ["v1", "catalog", rest @ ..]) => call.blocking(rest, view::catalog).await,
        ("PUT", ["v1", "catalog", rest @ ..]) => catalog::put(&call, rest, &body).await,
        ("GET", ["v1", "health", rest @ ..]) => call.blocking(rest, view::health).await,
        ("GET", ["v1", "status", rest @ ..]) => view::status(&call, rest),
        (_, ["v1", "kv", ..]) => kv::serve(&call, (&method, uri.path()), body).await,
        (_, ["v1", "session", rest @ ..]) => session::serve(&call, &method, rest, &body).await,
        (_, ["v1", "txn"]) => txn::serve(&call, &method, &body).await,
        (_, ["v1", "event" | "query" | "acl" | "connect" | "config" | "coordinate", ..]) => Err((
            StatusCode::NOT_IMPLEMENTED,
            "this registry serves Consul's agent, catalog, health, status, kv, session and txn; not this".to_owned(),
        )),
        _ => Err(no_path()),
    };
    match answer {
        Ok(answer) => answer.into_response(),
        Err((status, sentence)) => {
            let mut response = (status, sentence).into_response();
            come_again(status, response.headers_mut());
            response
        }
    }
}

fn no_path() -> Refused {
    (StatusCode::NOT_FOUND, "there is no such path of Consul, or not with this method".to_owned())
}

fn bad(sentence: impl Into<String>) -> Refused {
    (StatusCode::BAD_REQUEST, sentence.into())
}

fn refused(problem: Problem) -> Refused {
    (problem.status, problem.detail)
}

fn write_error(error: WriteError) -> Refused {
    refused(error.into())
}

fn key_error(error: KeyError) -> Refused {
    let status = match &error {
        KeyError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        KeyError::Refused(KeyRefusal::NoSession(_) | KeyRefusal::Invalid(_)) => StatusCode::BAD_REQUEST,
        KeyError::Refused(KeyRefusal::Full { .. }) => StatusCode::INSUFFICIENT_STORAGE,
    };
    (status, error.to_string())
}

fn service_key(name: &str) -> Result<ServiceKey, Refused> {
    ServiceKey::new("", name).map_err(|invalid| bad(invalid.to_string()))
}

impl Call<'_> {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A place for a request that waits.
    fn place(&self) -> Result<Wait, Refused> {
        self.waits.begin().ok_or_else(|| refused(Problem::crowded()))
    }

    /// A flag: `?passing`, `?passing=true` or `?passing=1`.
    fn flag(&self, name: &str) -> bool {
        self.parameter(name).is_some_and(|value| !matches!(value, "false" | "0"))
    }

    /// Where instances without an address are.
    fn peer(&self) -> SocketAddr {
        self.ends.peer
    }

    /// The index to wait for a change after, and for how long; `None` when the query does not wait.
    fn waits(&self) -> Result<Option<(u64, Duration)>, Refused> {
        let index = self.parameter("index").and_then(|text| text.parse::<u64>().ok());
        let Some(index) = index.filter(|index| *index > 0) else { return Ok(None) };
        let wait = match self.parameter("wait").filter(|text| !text.is_empty()) {
            Some(text) => duration::parse(text).ok_or_else(|| bad(format!("Invalid wait time {text:?}")))?,
            None => WAIT,
        };
        Ok(Some((index, if wait.is_zero() { WAIT } else { wait.min(LONGEST_WAIT) })))
    }

    /// An answer, after what it shows has changed since `?index=`, or the wait is over.
    async fn blocking(
        &self,
        parts: &[&str],
        view: fn(&Call<'_>, &[&str]) -> Result<Answer, Refused>,
    ) -> Result<Answer, Refused> {
        if self.parameter("filter").is_some() {
            return Err(bad("filter expressions are not served; use tag and passing"));
        }
        let Some((index, wait)) = self.waits()? else { return view(self, parts) };
        let scope = match parts {
            ["service" | "checks", name] => Scope::Service(service_key(name)?),
            _ => Scope::Namespace(meshwright_registry::DEFAULT_NAMESPACE.to_owned()),
        };
        let revision = self.catalog.read(meshwright_registry::Registry::revision);
        // An index from before a loss of everything has missed something for certain, and so has one that the log left behind.
        if index <= revision.max(1) {
            let _place = self.place()?;
            let _ = self.catalog.events(index, &scope, wait).await;
        }
        view(self, parts)
    }
}
