//! The `Location` of a redirect. Knows no status and no response. Read next: `rewrite.rs`.

use std::borrow::Cow;

use meshwright_message::RequestHead;
use meshwright_model::{Redirect, RedirectPort};

use crate::Site;
use crate::rewrite::replace_prefix;

/// The `Location` that a redirect answers with. `prefix_len` is [`crate::Found::prefix_len`].
///
/// Every part that the redirect does not name is the request's own. The query is kept unless `uri` brings one of its
/// own (Envoy). Ports:
/// - `port: N` and the request's port replace whatever port the authority has;
/// - otherwise an authority of the redirect stays as written, and the request's own port stays only while the scheme
///   does: a port of `http` says nothing about where `https` is served;
/// - `:80` with `http` and `:443` with `https` are left out.
///
/// A request without authority (HTTP/1.0) gets a reference without one, which RFC 9110, section 10.2.2 allows.
pub fn redirect_location(redirect: &Redirect, head: &RequestHead, site: &Site, prefix_len: Option<usize>) -> String {
    let scheme = redirect.scheme.as_deref().unwrap_or(site.scheme.as_str());
    let target = target(redirect, head, prefix_len);
    let authority = redirect.authority.as_deref().unwrap_or(&head.authority);
    if authority.is_empty() {
        return target;
    }
    let (host, own_port) = split_port(authority);
    let port = match redirect.port {
        RedirectPort::Number(port) => Some(Cow::Owned(port.to_string())),
        RedirectPort::FromRequest => Some(Cow::Owned(site.port.to_string())),
        RedirectPort::ProtocolDefault => {
            let stays = redirect.authority.is_some() || scheme.eq_ignore_ascii_case(site.scheme.as_str());
            own_port.filter(|_| stays).map(Cow::Borrowed)
        }
    };
    let default = if scheme.eq_ignore_ascii_case("https") { "443" } else { "80" };
    match port.filter(|port| port != default) {
        Some(port) => format!("{scheme}://{host}:{port}{target}"),
        None => format!("{scheme}://{host}{target}"),
    }
}

/// Path and query.
fn target(redirect: &Redirect, head: &RequestHead, prefix_len: Option<usize>) -> String {
    // `OPTIONS *` speaks about the whole server, which is what the root is.
    let own = if head.path() == "*" { "/" } else { head.path() };
    let path = match (&redirect.uri, &redirect.prefix_rewrite) {
        (Some(uri), _) => Cow::Owned(replace_prefix(own, uri, None)),
        (None, Some(prefix)) => Cow::Owned(replace_prefix(own, prefix, prefix_len)),
        (None, None) => Cow::Borrowed(own),
    };
    match head.query() {
        Some(query) if !path.contains('?') => format!("{path}?{query}"),
        _ => path.into_owned(),
    }
}

/// Host and port of an authority; an empty port is none. An IPv6 literal keeps its brackets.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port).filter(|port| !port.is_empty())),
        _ => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use meshwright_message::Scheme;

    use super::*;

    const PLAIN: Redirect = Redirect {
        uri: None,
        prefix_rewrite: None,
        authority: None,
        scheme: None,
        port: RedirectPort::ProtocolDefault,
        status: 301,
    };

    fn location(redirect: Redirect, authority: &str, target: &str) -> String {
        let path_len = target.find('?').unwrap_or(target.len());
        let head = RequestHead {
            authority: authority.to_owned(),
            target: target.to_owned(),
            path_len,
            ..RequestHead::default()
        };
        redirect_location(&redirect, &head, &Site { port: 8080, scheme: Scheme::Http }, Some(4))
    }

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn paths_are_replaced_and_the_query_is_kept() {
        let to = |uri| Redirect { uri: text(uri), ..PLAIN };
        assert_eq!(location(to("/new"), "a.com", "/old/x?q=1"), "http://a.com/new?q=1");
        assert_eq!(location(to("/new?z"), "a.com", "/old?q=1"), "http://a.com/new?z");
        let prefix = Redirect { prefix_rewrite: text("/new"), ..PLAIN };
        assert_eq!(location(prefix, "a.com", "/old/x?q"), "http://a.com/new/x?q");
        assert_eq!(location(Redirect { authority: text("b.com"), ..PLAIN }, "a.com", "/x?q"), "http://b.com/x?q");
        assert_eq!(location(PLAIN, "a.com", "*"), "http://a.com/");
    }

    #[test]
    fn default_ports_are_left_out() {
        let https = || Redirect { scheme: text("https"), ..PLAIN };
        assert_eq!(location(https(), "a.com", "/"), "https://a.com/");
        assert_eq!(location(https(), "a.com:80", "/"), "https://a.com/");
        assert_eq!(location(https(), "a.com:8080", "/"), "https://a.com/");
        assert_eq!(
            location(Redirect { port: RedirectPort::Number(443), ..https() }, "a.com:8080", "/"),
            "https://a.com/"
        );
        assert_eq!(location(Redirect { port: RedirectPort::Number(80), ..PLAIN }, "a.com:8080", "/"), "http://a.com/");
        assert_eq!(location(Redirect { uri: text("/n"), ..PLAIN }, "a.com:80", "/"), "http://a.com/n");
        let port = Redirect { port: RedirectPort::Number(8443), ..https() };
        assert_eq!(location(port, "a.com", "/"), "https://a.com:8443/");
    }

    #[test]
    fn the_port_of_the_request_is_kept_while_the_scheme_is() {
        assert_eq!(location(Redirect { uri: text("/n"), ..PLAIN }, "a.com:81", "/"), "http://a.com:81/n");
        let from_request = Redirect { port: RedirectPort::FromRequest, ..PLAIN };
        assert_eq!(location(from_request, "a.com:81", "/"), "http://a.com:8080/");
        let elsewhere = Redirect { authority: text("b.com:99"), scheme: text("https"), ..PLAIN };
        assert_eq!(location(elsewhere, "a.com:81", "/"), "https://b.com:99/");
    }

    #[test]
    fn an_ipv6_literal_is_not_taken_for_a_port() {
        let https = || Redirect { scheme: text("https"), ..PLAIN };
        assert_eq!(location(https(), "[::1]:80", "/"), "https://[::1]/");
        assert_eq!(location(https(), "[::1]", "/"), "https://[::1]/");
    }

    #[test]
    fn a_request_without_authority_gets_a_reference_without_one() {
        assert_eq!(location(Redirect { uri: text("/n"), ..PLAIN }, "", "/?q"), "/n?q");
    }
}
