//! Errors as RFC 9457 describes them: `application/problem+json` with a title, a status and a sentence.

use axum::extract::rejection::BytesRejection;
use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use meshwright_catalog::WriteError;
use meshwright_registry::{Compacted, Invalid, Refusal};
use serde_json::{Value, json};

/// Seconds after which a write that found no store, or a watch that found no place, may be tried again.
const RETRY_SECONDS: &str = "1";

/// An error as an answer.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) detail: String,
    extra: Value,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: &str) -> Self {
        Self { status, detail: detail.to_owned(), extra: Value::Null }
    }

    pub(crate) fn bad_request(detail: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(crate) fn forbidden(detail: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    pub(crate) fn not_found(detail: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// Three quarters of the connections wait already.
    pub(crate) fn crowded() -> Self {
        let detail = "as many requests wait for changes here as there is room for; the other connections are for those that do not wait";
        Self::new(StatusCode::TOO_MANY_REQUESTS, detail)
    }

    /// The sentence alone, for clients that read no JSON from a refusal.
    pub(crate) fn in_plain_text(self) -> Response {
        (self.status, self.detail).into_response()
    }

    /// The problem as JSON, as it is also an element of a batch's answer.
    pub(crate) fn body(&self) -> Value {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let (Some(body), Value::Object(extra)) = (body.as_object_mut(), self.extra.clone()) {
            body.extend(extra);
        }
        body
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = format!("{}\n", self.body());
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        come_again(self.status, headers);
        response
    }
}

/// When to come again after an answer of this status. Who found no place to wait gives the connection back, too.
pub(crate) fn come_again(status: StatusCode, headers: &mut HeaderMap) {
    let crowded = status == StatusCode::TOO_MANY_REQUESTS;
    if crowded {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if crowded || status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_SECONDS));
    }
}

impl From<BytesRejection> for Problem {
    fn from(rejection: BytesRejection) -> Self {
        match meshwright_site::is_late(&rejection) {
            true => Self::new(StatusCode::REQUEST_TIMEOUT, "the body did not come within 30 seconds"),
            false => Self::new(rejection.status(), &rejection.body_text()),
        }
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        let extra = json!({ "field": invalid.field, "value": invalid.value, "allowed": invalid.allowed });
        Self { status: StatusCode::BAD_REQUEST, detail: invalid.to_string(), extra }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match &refusal {
            Refusal::NotFound(_) => StatusCode::NOT_FOUND,
            Refusal::Conflict { .. } => StatusCode::CONFLICT,
            Refusal::Invalid(invalid) => return invalid.clone().into(),
            Refusal::Full { .. } => StatusCode::INSUFFICIENT_STORAGE,
        };
        Self::new(status, &refusal.to_string())
    }
}

impl From<WriteError> for Problem {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Refused(refusal) => refusal.into(),
            WriteError::Unavailable(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        }
    }
}

impl From<Compacted> for Problem {
    fn from(compacted: Compacted) -> Self {
        let extra = json!({ "asked": compacted.asked, "compacted": compacted.compacted });
        Self { status: StatusCode::GONE, detail: compacted.to_string(), extra }
    }
}
