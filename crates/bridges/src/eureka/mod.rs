//! Eureka's REST protocol, as Netflix's and Spring Cloud's servers speak it: `/eureka/apps/...`, with or without `v1` or `v2`
//! and trailing slashes, in JSON and XML.
//!
//! An application is a service of the namespace `default`, its name in lower case; an instance keeps what only Eureka's
//! clients read as attributes (`info.rs`). Leases last as long as clients say. Answers come from the registry at that moment:
//! there is no cache that lags. Read next: `info.rs` (the mapping), `view.rs` (what is fetched), `xml.rs`.

mod info;
mod view;
mod xml;

use std::sync::Arc;

use axum::Extension;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use meshwright_catalog::{Catalog, WriteError};
use meshwright_registry::{Entry, InstanceKey, Override, ServiceKey, Status};
use serde_json::{Value, json};

use crate::access::{self, Access, Tokens};
use crate::api::problem::Problem;
use crate::query;

/// Operations of one replication batch.
const LARGEST_BATCH: usize = 1000;
/// Largest body: a batch of peers.
const LARGEST_BODY: usize = 1 << 20;

/// Every path below `/eureka`, for whoever `tokens` lets in.
pub fn router(catalog: Catalog, tokens: Tokens) -> Router {
    Router::new()
        .route("/eureka/{*path}", any(serve))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(from_fn(move |request, next| access::check(tokens.clone(), request, next)))
        .with_state(catalog)
}

/// One request: who asks, of what, and in which form the answer is wanted.
struct Call<'a> {
    catalog: &'a Catalog,
    access: &'a Access,
    query: Vec<(String, String)>,
    json: bool,
}

/// A refusal: a status and a sentence.
type Refused = (StatusCode, String);

async fn serve(
    State(catalog): State<Catalog>,
    Extension(access): Extension<Access>,
    (method, uri, headers): (Method, Uri, HeaderMap),
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return Problem::from(rejection).in_plain_text(),
    };
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let query = query::pairs(uri.query().unwrap_or_default());
    let call = Call { catalog: &catalog, access: &access, query, json: accept.contains("json") };
    let path = uri.path().trim_start_matches("/eureka");
    let parts: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(query::decode).collect();
    let mut parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    if parts.first().is_some_and(|first| matches!(*first, "v1" | "v2")) {
        parts.remove(0);
    }
    let is_json =
        headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_none_or(|kind| !kind.contains("xml"));
    let answer = match (method.as_str(), parts.as_slice()) {
        ("GET", _) => call.fetch(&parts),
        ("POST", ["apps", app]) => call.register(app, &body, is_json).await,
        ("PUT", ["apps", app, id]) => call.renew(app, id),
        ("DELETE", ["apps", app, id]) => call.cancel(app, id).await,
        ("PUT", ["apps", app, id, "status"]) => call.override_status(app, id).await,
        ("DELETE", ["apps", app, id, "status"]) => call.withdraw_status(app, id).await,
        ("PUT", ["apps", app, id, "metadata"]) => call.metadata(app, id).await,
        ("POST", ["peerreplication", "batch"]) => call.batch(&body).await,
        _ => Err((StatusCode::NOT_FOUND, "there is no such path of Eureka".to_owned())),
    };
    answer.unwrap_or_else(|(status, sentence)| (status, format!("{sentence}\n")).into_response())
}

fn refused(problem: Problem) -> Refused {
    (problem.status, problem.detail)
}

fn write_error(error: WriteError) -> Refused {
    refused(error.into())
}

fn bad(sentence: &str) -> Refused {
    (StatusCode::BAD_REQUEST, sentence.to_owned())
}

fn not_found(key: &InstanceKey) -> Refused {
    (StatusCode::NOT_FOUND, format!("there is no instance {key}; it has to register again"))
}

impl Call<'_> {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn key(&self, app: &str, id: &str) -> Result<InstanceKey, Refused> {
        let wrong = |invalid: meshwright_registry::Invalid| bad(&invalid.to_string());
        let service = ServiceKey::new("", app).map_err(wrong)?;
        InstanceKey::new(service, id).map_err(wrong)
    }

    fn writable(&self, app: &str, id: &str) -> Result<InstanceKey, Refused> {
        let key = self.key(app, id)?;
        self.access.write(&key.service).map_err(refused)?;
        Ok(key)
    }

    /// An answer in the form that the client wants.
    fn answer(&self, value: &Value) -> Response {
        match self.json {
            true => ([(CONTENT_TYPE, "application/json")], value.to_string()).into_response(),
            false => ([(CONTENT_TYPE, "application/xml")], xml::write(value)).into_response(),
        }
    }

    fn fetch(&self, parts: &[&str]) -> Result<Response, Refused> {
        let none = |what: &str| (StatusCode::NOT_FOUND, format!("there is no {what}"));
        let value = match parts {
            ["apps"] => view::applications(self.catalog, |entry| self.access.may_read(&entry.key.service)),
            ["apps", "delta"] => view::delta(self.catalog, |entry| self.access.may_read(&entry.key.service)),
            ["apps", app] => {
                let service = ServiceKey::new("", app).map_err(|invalid| bad(&invalid.to_string()))?;
                self.access.read(&service).map_err(refused)?;
                view::application(self.catalog, &service).ok_or_else(|| none("such application"))?
            }
            ["apps", app, id] => self.instance(&self.key(app, id)?)?,
            ["instances", id] => {
                let entry = self.all().into_iter().find(|entry| entry.key.id() == *id);
                let entry = entry.ok_or_else(|| none("such instance"))?;
                json!({ "instance": info::render(&entry, self.catalog, None) })
            }
            ["vips", address] => self.vip(address, "eureka.vipAddress")?,
            ["svips", address] => self.vip(address, "eureka.secureVipAddress")?,
            _ => return Err(none("such path of Eureka")),
        };
        Ok(self.answer(&value))
    }

    fn all(&self) -> Vec<Arc<Entry>> {
        let mut entries = view::entries(self.catalog);
        entries.retain(|entry| self.access.may_read(&entry.key.service));
        entries
    }

    fn instance(&self, key: &InstanceKey) -> Result<Value, Refused> {
        self.access.read(&key.service).map_err(refused)?;
        let entry = self.catalog.read(|registry| registry.instance(key).cloned()).ok_or_else(|| not_found(key))?;
        Ok(json!({ "instance": info::render(&entry, self.catalog, None) }))
    }

    fn vip(&self, address: &str, attribute: &str) -> Result<Value, Refused> {
        let mut entries = self.all();
        entries
            .retain(|entry| info::vip(entry, attribute).split(',').any(|one| one.trim().eq_ignore_ascii_case(address)));
        match entries.is_empty() {
            true => Err((StatusCode::NOT_FOUND, format!("nobody has the address {address}"))),
            false => Ok(view::of(self.catalog, &entries)),
        }
    }

    async fn register(&self, app: &str, body: &[u8], is_json: bool) -> Result<Response, Refused> {
        let tree = match is_json {
            true => serde_json::from_slice(body).map_err(|error| bad(&format!("Invalid JSON: {error}")))?,
            false => xml::read(body).map_err(|reason| bad(&format!("Invalid XML: {reason}")))?,
        };
        self.register_info(app, info::unwrapped(&tree)).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    }

    async fn register_info(&self, app: &str, info: &Value) -> Result<(), Refused> {
        let (id, instance) = info::read(info, app).map_err(|sentence| bad(&sentence))?;
        let key = self.writable(app, &id)?;
        self.catalog.register(key, instance).await.map_err(write_error)?;
        Ok(())
    }

    fn renew(&self, app: &str, id: &str) -> Result<Response, Refused> {
        let key = self.writable(app, id)?;
        let entry = self.catalog.read(|registry| registry.instance(&key).cloned()).ok_or_else(|| not_found(&key))?;
        // The instance knows something newer of itself than it has told us: it has to tell.
        let theirs = self.parameter("lastDirtyTimestamp").and_then(|text| text.parse::<u64>().ok());
        let ours = entry.instance.attributes.get("eureka.lastDirtyTimestamp").and_then(|text| text.parse::<u64>().ok());
        if theirs.zip(ours).is_some_and(|(theirs, ours)| theirs > ours) || self.catalog.renew(&key).is_none() {
            return Err(not_found(&key));
        }
        Ok(StatusCode::OK.into_response())
    }

    async fn cancel(&self, app: &str, id: &str) -> Result<Response, Refused> {
        let key = self.writable(app, id)?;
        self.catalog.deregister(key).await.map_err(write_error)?;
        Ok(StatusCode::OK.into_response())
    }

    async fn override_status(&self, app: &str, id: &str) -> Result<Response, Refused> {
        let word = self.parameter("value").unwrap_or_default().to_owned();
        self.set_override(app, id, &word).await?;
        Ok(StatusCode::OK.into_response())
    }

    async fn set_override(&self, app: &str, id: &str, word: &str) -> Result<(), Refused> {
        let key = self.writable(app, id)?;
        let status =
            info::overriding(word).ok_or_else(|| bad("a status is UP, DOWN, STARTING, OUT_OF_SERVICE or UNKNOWN"))?;
        let word = status.map(|status| Override { status, reason: "by Eureka's status override".to_owned() });
        self.catalog.update(&key, |instance| instance.overridden = word.clone()).await.map_err(write_error)?;
        Ok(())
    }

    async fn withdraw_status(&self, app: &str, id: &str) -> Result<Response, Refused> {
        let key = self.writable(app, id)?;
        // `value` is what the instance counts as until it says something of itself.
        let said = self.parameter("value").and_then(info::reported);
        let change = |instance: &mut meshwright_registry::Instance| {
            instance.overridden = None;
            if let Some(status) = said {
                instance.reported = status;
                instance.attributes.remove("eureka.status");
            }
        };
        self.catalog.update(&key, change).await.map_err(write_error)?;
        Ok(StatusCode::OK.into_response())
    }

    async fn metadata(&self, app: &str, id: &str) -> Result<Response, Refused> {
        let key = self.writable(app, id)?;
        let pairs = self.query.iter().filter(|(key, _)| key != "token");
        let more: Vec<(String, String)> = pairs.cloned().collect();
        let change = |instance: &mut meshwright_registry::Instance| {
            more.iter().for_each(|(key, value)| instance.metadata.insert(key, value));
            if let Some(version) = instance.metadata.get("version") {
                version.clone_into(&mut instance.version);
            }
        };
        self.catalog.update(&key, change).await.map_err(write_error)?;
        Ok(StatusCode::OK.into_response())
    }

    /// What another Eureka server heard from its clients.
    async fn batch(&self, body: &[u8]) -> Result<Response, Refused> {
        let tree: Value = serde_json::from_slice(body).map_err(|error| bad(&format!("Invalid JSON: {error}")))?;
        let list = tree["replicationList"].as_array().ok_or_else(|| bad("replicationList is missing"))?;
        if list.len() > LARGEST_BATCH {
            return Err(bad("a batch has at most 1000 operations"));
        }
        let mut responses = Vec::with_capacity(list.len());
        for item in list {
            let status = match self.replicated(item).await {
                Ok(()) => StatusCode::OK,
                Err((status, _)) => status,
            };
            responses.push(json!({ "statusCode": status.as_u16() }));
        }
        Ok(self.answer_json(&json!({ "responseList": responses })))
    }

    fn answer_json(&self, value: &Value) -> Response {
        ([(CONTENT_TYPE, "application/json")], value.to_string()).into_response()
    }

    async fn replicated(&self, item: &Value) -> Result<(), Refused> {
        let text = |name: &str| item[name].as_str().unwrap_or_default();
        let (app, id) = (text("appName"), text("id"));
        match text("action") {
            "Register" => self.register_info(app, &item["instanceInfo"]).await,
            "Heartbeat" => {
                let key = self.writable(app, id)?;
                self.catalog.renew(&key).map(|_| ()).ok_or_else(|| not_found(&key))
            }
            "Cancel" => self.cancel(app, id).await.map(|_| ()),
            "StatusUpdate" => self.set_override(app, id, text("status")).await,
            "DeleteStatusOverride" => self.set_override(app, id, "UNKNOWN").await,
            _ => Err(bad("an action is Register, Heartbeat, Cancel, StatusUpdate or DeleteStatusOverride")),
        }
    }
}

/// A status in Eureka's words.
fn word_of(status: Status) -> &'static str {
    match status {
        Status::Passing | Status::Warning => "UP",
        Status::Starting => "STARTING",
        Status::Critical => "DOWN",
        Status::OutOfService | Status::Draining => "OUT_OF_SERVICE",
    }
}
