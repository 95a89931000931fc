//! What one request to the echo backend is answered with.
//!
//! Order of events: wait in line, read the request's body, wait the delay, answer. `/health` does none of these. gRPC calls
//! and WebSockets are answered elsewhere.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use super::Echo;
use super::body::EchoBody;
use super::connection::{Connection, Visit};
use super::load;
use super::tls::TlsFacts;
use crate::args::value::{self, Delay};

/// Header with the backend's name, where an answer has no JSON to carry it.
pub const ECHO_NAME: HeaderName = HeaderName::from_static("echo-name");

/// What the query asks for.
#[derive(Debug, Default, PartialEq)]
struct Knobs {
    status: Option<u16>,
    delay: Option<Delay>,
    size: Option<u64>,
    fail: Option<f64>,
}

/// The JSON answer.
#[derive(Serialize)]
struct Seen<'a> {
    name: &'a str,
    protocol: &'a str,
    method: &'a str,
    /// `:authority` of HTTP/2, where there is no `Host`.
    #[serde(skip_serializing_if = "Option::is_none")]
    authority: Option<&'a str>,
    path: &'a str,
    query: Option<&'a str>,
    headers: BTreeMap<&'a str, OneOrMore>,
    body_bytes: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    trailers: BTreeMap<&'a str, OneOrMore>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<&'a TlsFacts>,
    connection: u64,
    request: u64,
    request_on_connection: u64,
}

/// A header's value, or its values when it was sent several times.
#[derive(Serialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl Echo {
    /// Says at once how much there is to do.
    pub(super) fn load_answer(&self) -> Response<EchoBody> {
        let (in_flight, latency) = self.load.read();
        let text = format!("{{\"inFlight\":{in_flight},\"latencyUs\":{}}}\n", latency.as_micros());
        let mut answer = json(StatusCode::OK, text, None);
        answer.headers_mut().insert(load::HEADER, self.load.header());
        answer
    }

    /// Answers one request.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        connection: &Connection,
        visit: Visit,
    ) -> Response<EchoBody> {
        let (head, mut body) = request.into_parts();
        if head.method == Method::CONNECT {
            return self.refusal(StatusCode::METHOD_NOT_ALLOWED, "CONNECT opens nothing here but a WebSocket", None);
        }
        if head.uri.path() == "/health" {
            return json(StatusCode::OK, "{\"status\":\"ok\"}\n", None);
        }
        let knobs = match Knobs::parse(head.uri.query().unwrap_or_default()) {
            Ok(knobs) => knobs,
            Err(sentence) => return self.refusal(StatusCode::BAD_REQUEST, &sentence, None),
        };
        let permit = self.permit().await;
        let mut body_bytes = 0;
        let mut trailers = HeaderMap::new();
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                return self.refusal(StatusCode::BAD_REQUEST, "the request ended before its body was complete", permit);
            };
            let length = frame.data_ref().map_or(0, |data| data.len());
            body_bytes += u64::try_from(length).unwrap_or(u64::MAX);
            if let Ok(fields) = frame.into_trailers() {
                trailers = fields;
            }
        }
        let mut rng = fastrand::Rng::new();
        if let Some(delay) = knobs.delay.or(self.settings.delay) {
            tokio::time::sleep(delay.sample(&mut rng)).await;
        }
        if self.is_broken() {
            return self.refusal(StatusCode::SERVICE_UNAVAILABLE, "this instance is broken at the moment", permit);
        }
        let fail = knobs.fail.unwrap_or(self.settings.fail);
        if rng.f64() * 100.0 < fail {
            let sentence = format!("failed on purpose, as {fail} % of requests do");
            return self.refusal(StatusCode::SERVICE_UNAVAILABLE, &sentence, permit);
        }
        let status = knobs.status.unwrap_or(self.settings.status);
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return response(status, None, EchoBody::stream(0, permit));
        }
        if let Some(size) = knobs.size.or(self.settings.size) {
            return response(status, Some("application/octet-stream"), EchoBody::stream(size, permit));
        }
        let seen = Seen {
            name: &self.settings.name,
            protocol: protocol(head.version),
            method: head.method.as_str(),
            authority: head.uri.authority().map(http::uri::Authority::as_str),
            path: head.uri.path(),
            query: head.uri.query(),
            headers: headers(&head.headers),
            body_bytes,
            trailers: headers(&trailers),
            tls: connection.tls.as_ref(),
            connection: connection.number,
            request: visit.request,
            request_on_connection: visit.request_on_connection,
        };
        let mut text = serde_json::to_string_pretty(&seen).expect("strings and numbers always serialise");
        text.push('\n');
        json(status, text, permit)
    }

    fn refusal(&self, status: StatusCode, sentence: &str, permit: Option<OwnedSemaphorePermit>) -> Response<EchoBody> {
        let answer = serde_json::json!({ "name": self.settings.name, "error": sentence });
        json(status, format!("{answer:#}\n"), permit)
    }
}

impl Knobs {
    /// Reads the knobs among the parameters of `query`; others are of no concern. The first of a name counts.
    fn parse(query: &str) -> Result<Self, String> {
        let mut knobs = Self::default();
        for pair in query.split('&') {
            let Some((name, value)) = pair.split_once('=') else { continue };
            let value = percent_decoded(value);
            match name {
                "status" => fill(&mut knobs.status, name, value::status(&value))?,
                "delay" => fill(&mut knobs.delay, name, value::delay(&value))?,
                "size" => fill(&mut knobs.size, name, value::size(&value))?,
                "fail" => fill(&mut knobs.fail, name, value::percent(&value))?,
                _ => {}
            }
        }
        Ok(knobs)
    }
}

fn fill<T>(knob: &mut Option<T>, name: &str, value: Result<T, String>) -> Result<(), String> {
    let value = value.map_err(|sentence| format!("query parameter {name}: {sentence}"))?;
    knob.get_or_insert(value);
    Ok(())
}

/// Replaces `%XX` by its byte; what is not such a sequence stays. Bytes that are not UTF-8 are replaced.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let decoded = match (first, tail) {
            (b'%', [high, low, ..]) => digit(*high).zip(digit(*low)).map(|(high, low)| high * 16 + low),
            _ => None,
        };
        bytes.push(decoded.unwrap_or(*first));
        rest = if decoded.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn digit(character: u8) -> Option<u8> {
    char::from(character).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn headers(headers: &HeaderMap) -> BTreeMap<&str, OneOrMore> {
    let mut seen = BTreeMap::new();
    for name in headers.keys() {
        let mut values: Vec<String> =
            headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect();
        let values = if values.len() == 1 { OneOrMore::One(values.remove(0)) } else { OneOrMore::More(values) };
        seen.insert(name.as_str(), values);
    }
    seen
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

/// An answer of JSON text.
pub fn json(status: StatusCode, text: impl Into<String>, permit: Option<OwnedSemaphorePermit>) -> Response<EchoBody> {
    response(status, Some("application/json"), EchoBody::text(text.into(), permit))
}

fn response(status: StatusCode, content_type: Option<&'static str>, body: EchoBody) -> Response<EchoBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if let Some(content_type) = content_type {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn knobs_are_found_among_other_parameters() {
        let knobs = Knobs::parse("full=1&status=503&delay=exp%3A20ms&x&size=1MiB&fail=20%25").unwrap();
        let delay = Some(Delay::Exponential(Duration::from_millis(20)));
        assert_eq!(knobs, Knobs { status: Some(503), delay, size: Some(1 << 20), fail: Some(20.0) });
        assert_eq!(Knobs::parse("").unwrap(), Knobs::default());
    }

    #[test]
    fn a_bad_knob_is_named_with_what_is_allowed() {
        assert!(Knobs::parse("delay=5").unwrap_err().starts_with("query parameter delay: the unit is missing"));
        assert!(Knobs::parse("status=99").unwrap_err().contains("200 to 599"));
    }

    #[test]
    fn percent_decoding_leaves_broken_sequences_alone() {
        assert_eq!(percent_decoded("a%20b%zz%4"), "a b%zz%4");
    }
}
