//! Who may ask: a browser that was lured to a foreign page may not.
//!
//! The admin API has no passwords; whoever can reach its port may use it. A web page in somebody's browser must not
//! count as reaching it: DNS rebinding is stopped by looking at `Host`, cross-site requests that change something by
//! looking at `Origin` and `Sec-Fetch-Site`. Which paths there are is not known here.

use std::net::{IpAddr, SocketAddr};

use axum::Extension;
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, HOST, HeaderName, ORIGIN, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Largest body of a page: a batch of registrations. Pages that read bodies refuse longer ones without a length, too.
const MAX_BODY_BYTES: u64 = 1024 * 1024;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The two ends of a connection; every request carries them as an extension.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Our end. It tells whether the API is open to the loopback interface alone.
    pub local: SocketAddr,
    /// The other end.
    pub peer: SocketAddr,
}

/// A layer that refuses what must not pass and marks every answer as not to be stored or guessed at.
pub async fn check(Extension(ends): Extension<Ends>, request: Request, next: Next) -> Response {
    let mut response = match refusal(&request, Some(ends.local.ip())) {
        Some(refused) => refused.into_response(),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Why a request that came in on the address `local` must not pass. Without `local` any `Host` will do: where the sender
/// has to show who it is, a page under a stranger's name gains nothing.
pub fn refusal(request: &Request, local: Option<IpAddr>) -> Option<(StatusCode, &'static str)> {
    let host = match authority(request) {
        Ok(host) => host,
        Err(reason) => return Some((StatusCode::BAD_REQUEST, reason)),
    };
    // Without a host it is HTTP/1.0: no browser speaks that.
    if let (Some(host), Some(local)) = (host, local)
        && !is_ours(host, local)
    {
        return Some((
            StatusCode::FORBIDDEN,
            "the admin API answers to its IP address or to localhost, not to this Host (DNS rebinding)\n",
        ));
    }
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    if changes && is_cross_site(request.headers(), host) {
        return Some((StatusCode::FORBIDDEN, "a page of another site may not change anything here\n"));
    }
    let length = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > MAX_BODY_BYTES) {
        return Some((StatusCode::PAYLOAD_TOO_LARGE, "the admin API takes no body of this size\n"));
    }
    None
}

/// Host and port the client asked for: the absolute form of the target wins (RFC 9112, section 3.2.2).
fn authority(request: &Request) -> Result<Option<&str>, &'static str> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err("more than one Host\n");
    }
    if let Some(authority) = request.uri().authority() {
        return Ok(Some(authority.as_str()));
    }
    match host {
        Some(host) => host.to_str().map(Some).map_err(|_| "Host is not a host name\n"),
        None if request.version() >= Version::HTTP_11 => Err("Host is missing\n"),
        None => Ok(None),
    }
}

/// Whether this name can only be ours. Names that a stranger's DNS could point here are refused: on a loopback address
/// everything but `localhost` and loopback addresses; on another address also names with a dot. An IP address in
/// `Host` was not looked up anywhere, and a name without a dot comes from the local network or a container's.
fn is_ours(authority: &str, local: IpAddr) -> bool {
    let Some(host) = without_port(authority) else { return false };
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let open = !local.to_canonical().is_loopback();
    match inner.parse::<IpAddr>() {
        Ok(address) => open || address.to_canonical().is_loopback(),
        Err(_) => {
            open && !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        }
    }
}

/// The host of `host`, `host:port`, `[ip]` or `[ip]:port`; none when it has another form.
fn without_port(authority: &str) -> Option<&str> {
    let end = match authority.starts_with('[') {
        true => authority.find(']')? + 1,
        false => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(end);
    let is_number = |digits: &str| digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_number)).then_some(host)
}

/// Whether a browser says that a page of another origin sent this.
fn is_cross_site(headers: &HeaderMap, host: Option<&str>) -> bool {
    let site = headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes);
    if site.is_some_and(|site| !matches!(site, b"same-origin" | b"none")) {
        return true;
    }
    headers.get_all(ORIGIN).iter().any(|origin| {
        let origin = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
        match (origin, host) {
            (Some(origin), Some(host)) => !origin.eq_ignore_ascii_case(host),
            _ => true,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: [u8; 4] = [127, 0, 0, 1];
    const OPEN: [u8; 4] = [10, 0, 0, 5];

    #[test]
    fn on_loopback_only_loopback_names_are_ours() {
        for host in ["localhost", "LOCALHOST:15000", "127.0.0.1", "127.9.9.9:1", "[::1]", "[::1]:15000"] {
            assert!(is_ours(host, LOOPBACK.into()), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "10.0.0.5",
            "gateway",
            "[::1",
            "[::1]x",
            "localhost:x",
        ] {
            assert!(!is_ours(host, LOOPBACK.into()), "{host}");
        }
    }

    #[test]
    fn on_an_open_address_addresses_and_local_names_are_ours() {
        for host in ["localhost:15000", "10.0.0.5:15000", "192.168.1.9", "gateway:15000", "[fd00::1]:80"] {
            assert!(is_ours(host, OPEN.into()), "{host}");
        }
        for host in ["", ":80", "evil.example:15000", "gateway.", "a b"] {
            assert!(!is_ours(host, OPEN.into()), "{host}");
        }
    }

    #[test]
    fn an_origin_that_is_not_the_host_itself_is_cross_site() {
        let judge = |name: HeaderName, value: &'static str| {
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
            is_cross_site(&headers, Some("localhost:15000"))
        };
        assert!(!is_cross_site(&HeaderMap::new(), Some("localhost:15000")));
        assert!(!judge(ORIGIN, "http://localhost:15000"));
        for origin in ["null", "http://localhost:3000", "http://evil.example", "https://localhost:15000"] {
            assert!(judge(ORIGIN, origin), "{origin}");
        }
        assert!(!judge(SEC_FETCH_SITE, "same-origin"));
        assert!(judge(SEC_FETCH_SITE, "cross-site"));
        assert!(judge(SEC_FETCH_SITE, "same-site"));
    }
}
