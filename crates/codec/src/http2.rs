//! HTTP/2 heads (RFC 9113, section 8) to the one canonical form of a message, and back.
//!
//! The frames and HPACK are the `h2` crate's, which hands over a map of fields; what a field may be, which fields are
//! this hop's only, and what the framing of a body is, follows the same rules here as for HTTP/1, so that a message that
//! is translated from one to the other says one thing. Knows no streams and no windows. Read next: `request`, `fields`.

use std::sync::LazyLock;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode, Uri, request, response, uri};
use meshwright_message::{BodyLength, HeaderList, HeaderName, Method, RequestHead, ResponseHead, Scheme, Version};

use crate::authority::push_authority;
use crate::body::is_forbidden_trailer;
use crate::fields::imitates_framing;
use crate::request::{has_body_by_nature, is_standard_in_another_case, is_target_byte, read_target};
use crate::response::{Answered, without_body};
use crate::syntax::{decimal, elements, is_field_value, is_token, trim};
use crate::{BodyLimits, HeadError, HeadLimits};

/// Reads the head of a request that came on a stream of HTTP/2.
///
/// `protocol` is `:protocol` of an extended CONNECT; the canonical head is then a GET that asks for an upgrade, as HTTP/1
/// has it. `ended` says that no body follows. Cookie crumbs are joined (RFC 9113, section 8.2.3).
///
/// # Errors
/// [`HeadError`]: the stream is to be refused, the connection may go on.
pub fn read_http2_request(
    parts: &request::Parts,
    protocol: Option<&str>,
    ended: bool,
    limits: &HeadLimits,
    head: &mut RequestHead,
) -> Result<(), HeadError> {
    head.clear();
    head.version = Version::Http2;
    head.keep_alive = true;
    read_method(parts.method.as_str(), protocol, head)?;
    read_pseudo_target(&parts.uri, limits, head)?;
    let mut fields = Fields::default();
    let mut hosts = 0usize;
    let RequestHead { headers, authority, expect_continue, te_trailers, .. } = head;
    fields.read(&parts.headers, limits, headers, |id, value| {
        match id {
            HeaderName::Host => {
                hosts += 1;
                let mut host = String::new();
                push_authority(value, &mut host)?;
                if hosts > 1 || (!authority.is_empty() && *authority != host) {
                    return Err(HeadError::RepeatedHost);
                }
                *authority = host;
            }
            HeaderName::Expect => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(HeadError::ExpectationFailed);
                }
                *expect_continue = !ended;
            }
            HeaderName::Te => {
                if !value.eq_ignore_ascii_case(b"trailers") {
                    return Err(HeadError::ConnectionSpecific);
                }
                *te_trailers = true;
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if head.authority.is_empty() {
        return Err(HeadError::MissingHost);
    }
    head.body = match (fields.content_length, ended) {
        (Some(1..), true) => return Err(HeadError::BadContentLength),
        // A tunnel has no length.
        (Some(_), false) if head.upgrade.is_some() => return Err(HeadError::BadContentLength),
        (Some(length), _) => BodyLength::Sized(length),
        // HTTP/1 has no other way to say that the body of a POST is empty.
        (None, true) if has_body_by_nature(&head.method) => BodyLength::Sized(0),
        (None, true) => BodyLength::Empty,
        (None, false) if head.upgrade.is_some() => BodyLength::Empty,
        (None, false) => BodyLength::Chunked,
    };
    Ok(())
}

fn read_method(method: &str, protocol: Option<&str>, head: &mut RequestHead) -> Result<(), HeadError> {
    head.method = match (Method::from_token(method), protocol) {
        (Method::Connect, Some(protocol)) => {
            if !is_token(protocol.as_bytes()) {
                return Err(HeadError::BadUpgrade);
            }
            head.upgrade = Some(protocol.to_ascii_lowercase().into_boxed_str());
            Method::Get
        }
        (Method::Connect, None) => return Err(HeadError::ConnectRefused),
        (Method::Other(token), _) if is_standard_in_another_case(&token) => return Err(HeadError::BadMethod),
        (method, _) => method,
    };
    Ok(())
}

fn read_pseudo_target(uri: &Uri, limits: &HeadLimits, head: &mut RequestHead) -> Result<(), HeadError> {
    if uri.scheme().is_some_and(|scheme| *scheme != uri::Scheme::HTTP && *scheme != uri::Scheme::HTTPS) {
        return Err(HeadError::BadTarget);
    }
    if let Some(authority) = uri.authority() {
        push_authority(authority.as_str().as_bytes(), &mut head.authority)?;
    }
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    if target.len() > limits.request_line {
        return Err(HeadError::UriTooLong);
    }
    let has_form = target.starts_with('/') || target == "*";
    if !has_form || !target.bytes().all(is_target_byte) {
        return Err(HeadError::BadTarget);
    }
    read_target(target, head).map(|_| ())
}

/// What requests and responses have in common.
#[derive(Default)]
struct Fields {
    content_length: Option<u64>,
}

impl Fields {
    /// Reads all fields into `headers`. `special` is asked first and says whether it took the field.
    fn read(
        &mut self,
        map: &HeaderMap,
        limits: &HeadLimits,
        headers: &mut HeaderList,
        mut special: impl FnMut(HeaderName, &[u8]) -> Result<bool, HeadError>,
    ) -> Result<(), HeadError> {
        if map.len() > limits.fields {
            return Err(HeadError::TooManyHeaders);
        }
        let mut size = 0usize;
        let mut cookie = Vec::new();
        for (name, value) in map {
            let (name, value) = (name.as_str().as_bytes(), trim(value.as_bytes()));
            size = size.saturating_add(name.len() + value.len() + 32);
            if size > limits.head || name.len() + value.len() > limits.field {
                return Err(HeadError::HeadersTooLarge);
            }
            if !is_field_value(value) {
                return Err(HeadError::BadFieldValue);
            }
            let id = HeaderName::recognise(name);
            if special(id, value)? {
                continue;
            }
            match id {
                HeaderName::Other if imitates_framing(name) => return Err(HeadError::FramingAlias),
                HeaderName::ContentLength if self.content_length.is_some() => {
                    return Err(HeadError::RepeatedContentLength);
                }
                HeaderName::ContentLength => {
                    self.content_length = Some(decimal(value).ok_or(HeadError::BadContentLength)?);
                }
                HeaderName::Connection
                | HeaderName::TransferEncoding
                | HeaderName::Upgrade
                | HeaderName::KeepAlive
                | HeaderName::ProxyConnection
                | HeaderName::Http2Settings => return Err(HeadError::ConnectionSpecific),
                // This hop's only, as in HTTP/1.
                HeaderName::ProxyAuthenticate | HeaderName::ProxyAuthorization | HeaderName::Trailer => {}
                HeaderName::Cookie => join_cookie(&mut cookie, value),
                _ => headers.push_field(id, name, value),
            }
        }
        if !cookie.is_empty() {
            headers.push_known(HeaderName::Cookie, &cookie);
        }
        Ok(())
    }
}

/// An empty crumb says nothing; joined, it would leave white space at an end, which HTTP/1 does not have.
fn join_cookie(cookie: &mut Vec<u8>, crumb: &[u8]) {
    if crumb.is_empty() {
        return;
    }
    if !cookie.is_empty() {
        cookie.extend_from_slice(b"; ");
    }
    cookie.extend_from_slice(crumb);
}

/// Reads the head of a response that came on a stream of HTTP/2, informational ones included. `ended` says that no body
/// follows. An accepted extended CONNECT (2xx where `to` says CONNECT) becomes the 101 that HTTP/1 has for it.
///
/// # Errors
/// [`HeadError`]: the answer is not valid HTTP; the connection may go on.
pub fn read_http2_response(
    parts: &response::Parts,
    ended: bool,
    limits: &HeadLimits,
    to: Answered,
    head: &mut ResponseHead,
) -> Result<(), HeadError> {
    head.clear();
    head.version = Version::Http2;
    head.status = parts.status.as_u16();
    head.keep_alive = true;
    if head.status == 101 {
        return Err(HeadError::BadUpgrade);
    }
    let mut fields = Fields::default();
    fields.read(&parts.headers, limits, &mut head.headers, |_, _| Ok(false))?;
    if to.connect && (200..300).contains(&head.status) {
        head.status = 101;
        return Ok(());
    }
    head.body = match without_body(head.status, to.head_request, fields.content_length) {
        Some(announced) => {
            head.announced_length = announced;
            BodyLength::Empty
        }
        None => match (fields.content_length, ended) {
            (Some(1..), true) => return Err(HeadError::BadContentLength),
            (Some(length), _) => BodyLength::Sized(length),
            (None, true) => BodyLength::Sized(0),
            (None, false) => BodyLength::Chunked,
        },
    };
    Ok(())
}

/// The head of a request as it goes out on a stream of HTTP/2; an upgrade goes as an extended CONNECT, which the caller
/// completes with the protocol. Fields have been validated, so that only an authority or a target that a route made up
/// can be refused.
///
/// # Errors
/// Authority, target or method cannot be written in HTTP/2.
pub fn write_http2_request(head: &RequestHead, scheme: Scheme) -> Result<Request<()>, http::Error> {
    let target = if head.target == "*" { "*" } else { head.target.as_str() };
    let uri =
        Uri::builder().scheme(scheme.as_str()).authority(head.authority.as_str()).path_and_query(target).build()?;
    let method = if head.upgrade.is_some() { "CONNECT" } else { head.method.as_str() };
    let mut request = Request::builder().method(method).uri(uri).version(http::Version::HTTP_2).body(())?;
    let map = request.headers_mut();
    fill(&head.headers, map);
    if let BodyLength::Sized(length) = head.body {
        map.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if head.te_trailers {
        map.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if head.expect_continue {
        map.insert(header::EXPECT, HeaderValue::from_static("100-continue"));
    }
    Ok(request)
}

/// The head of a response as it goes out on a stream of HTTP/2. A 101 becomes the 200 that accepts an extended CONNECT.
pub fn write_http2_response(head: &ResponseHead, body: BodyLength) -> Response<()> {
    let mut response = Response::new(());
    let status = if head.status == 101 { 200 } else { head.status };
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let map = response.headers_mut();
    fill(&head.headers, map);
    let length = match body {
        BodyLength::Sized(length) if status != 304 && status != 204 => Some(length),
        _ => head.announced_length,
    };
    if let Some(length) = length.filter(|_| head.status != 101 && !(100..200).contains(&status)) {
        map.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

/// The names that the proxy knows, each at its place, made once: a name from bytes costs a search.
static NAMES: LazyLock<Vec<header::HeaderName>> =
    LazyLock::new(|| HeaderName::ALL.iter().map(|id| header::HeaderName::from_static(id.as_str())).collect());

/// Copies a list into a map. A field that HTTP/2 does not allow is left out: names and values were validated when they were
/// read, so that this concerns only what a configuration adds.
fn fill(list: &HeaderList, map: &mut HeaderMap) {
    map.reserve(list.len());
    for (id, name, value) in list.iter() {
        let name = match NAMES.get(id as usize) {
            Some(known) => Ok(known.clone()),
            None => header::HeaderName::from_bytes(name),
        };
        if let (Ok(name), Ok(mut value)) = (name, HeaderValue::from_bytes(value)) {
            // A value that never comes again would push those that do out of the table of HPACK; `h2` keeps out of it what it is
            // told to be sensitive.
            value.set_sensitive(id == HeaderName::XRequestId);
            map.append(name, value);
        }
    }
}

/// Trailers that came on a stream of HTTP/2, without those that may not be there; by the same rules as after a chunked body.
///
/// # Errors
/// [`HeadError::TooManyHeaders`] and [`HeadError::HeadersTooLarge`] beyond the limits of trailers.
pub fn read_http2_trailers(map: &HeaderMap, limits: &BodyLimits, trailers: &mut HeaderList) -> Result<(), HeadError> {
    if map.len() > limits.trailer_fields {
        return Err(HeadError::TooManyHeaders);
    }
    let mut size = 0usize;
    for (name, value) in map {
        let (name, value) = (name.as_str().as_bytes(), trim(value.as_bytes()));
        size = size.saturating_add(name.len() + value.len() + 32);
        if size > limits.trailers {
            return Err(HeadError::HeadersTooLarge);
        }
        let id = HeaderName::recognise(name);
        if is_field_value(value) && !is_forbidden_trailer(id, name) {
            trailers.push_field(id, name, value);
        }
    }
    Ok(())
}

/// Trailers as they go out on a stream of HTTP/2.
pub fn write_http2_trailers(trailers: &HeaderList) -> HeaderMap {
    let mut map = HeaderMap::new();
    fill(trailers, &mut map);
    map
}

/// Whether an `Upgrade` names WebSocket, the one protocol that extended CONNECT is used for (RFC 8441).
pub fn is_websocket(upgrade: &str) -> bool {
    elements(upgrade.as_bytes()).any(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
}
