//! Stop four: what happens to a request before its route is looked for, and what a route changes of it. Each policy is one
//! line here. It comes first so that no route can match on a header that the client is not trusted with.
//!
//! Forwarded headers are those of Envoy with Istio's settings: at a gateway the client is not trusted, between services
//! the caller is.

use std::borrow::Cow;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use meshwright_codec::{normalize_path, write_proxy_header_v1, write_proxy_header_v2};
use meshwright_message::{HeaderName, RequestHead};
use meshwright_model::{HeaderOperations, ProxyProtocol};
use meshwright_route::{CompiledRewrite, rewrite_path};
use meshwright_snapshot::{Listener, ListenerKind};
use meshwright_telemetry::request_id;

use crate::connection::Connection;
use crate::exchange::Exchange;
use crate::view::WorkerCluster;
use crate::worker::Worker;

/// Prefix of headers by which Envoy's own components talk to each other.
const TRUSTED_PREFIX: &[u8] = b"x-envoy-";
/// A request id that a client may set is at most this long.
const LONGEST_REQUEST_ID: usize = 128;

/// Applies the policies of the listener to a request.
pub(crate) fn request(connection: &Connection, exchange: &mut Exchange, listener: &Listener) {
    let head = &mut exchange.request;
    let is_edge = listener.kind == ListenerKind::Gateway;
    if is_edge {
        head.headers.remove_prefix(TRUSTED_PREFIX);
        append_forwarded_for(head, connection.client.peer.ip(), &mut connection.worker.value.borrow_mut());
        head.headers.set_known(HeaderName::XForwardedProto, head.scheme.as_str().as_bytes());
    } else {
        head.headers.remove_known(HeaderName::XEnvoyOriginalPath);
        if !head.headers.has(HeaderName::XForwardedProto) {
            head.headers.push_known(HeaderName::XForwardedProto, head.scheme.as_str().as_bytes());
        }
    }
    ensure_request_id(&connection.worker, head, is_edge && !is_internal(connection.client.peer.ip()));
}

fn append_forwarded_for(head: &mut RequestHead, peer: IpAddr, value: &mut Vec<u8>) {
    value.clear();
    for known in head.headers.known_values(HeaderName::XForwardedFor) {
        value.extend_from_slice(known);
        value.extend_from_slice(b",");
    }
    push_address(peer, value);
    head.headers.set_known(HeaderName::XForwardedFor, value);
}

/// Appends an address as text. IPv4, the common case, is spelled out here: the formatting machinery costs more than the
/// rest of this policy.
pub(crate) fn push_address(address: IpAddr, out: &mut Vec<u8>) {
    let IpAddr::V4(address) = address.to_canonical() else {
        // Writing into memory cannot fail.
        let _ = write!(out, "{address}");
        return;
    };
    for (index, octet) in address.octets().into_iter().enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        if octet >= 100 {
            out.push(b'0' + octet / 100);
        }
        if octet >= 10 {
            out.push(b'0' + octet / 10 % 10);
        }
        out.push(b'0' + octet % 10);
    }
}

/// Keeps the id that a trusted caller sent, and makes one for everybody else.
fn ensure_request_id(worker: &Worker, head: &mut RequestHead, is_foreign: bool) {
    if let Some(id) = head.headers.known(HeaderName::XRequestId)
        && !is_foreign
        && !id.is_empty()
        && id.len() <= LONGEST_REQUEST_ID
        && id.iter().all(u8::is_ascii_graphic)
    {
        return;
    }
    let mut id = [0; 36];
    request_id(&mut worker.rng.borrow_mut(), &mut id);
    head.headers.set_known(HeaderName::XRequestId, &id);
}

/// Addresses that Envoy takes for the own network (RFC 1918, loopback, unique local).
fn is_internal(peer: IpAddr) -> bool {
    match peer.to_canonical() {
        IpAddr::V4(peer) => peer.is_private() || peer.is_loopback(),
        IpAddr::V6(peer) => peer.is_loopback() || peer.is_unique_local(),
    }
}

/// The PROXY header of a new connection to this cluster; empty where none is asked for, and nothing is allocated then.
pub(crate) fn proxy_header(connection: &mut Connection, cluster: &WorkerCluster) -> Vec<u8> {
    let mut header = Vec::new();
    let Some(version) = cluster.cluster.proxy_protocol else { return header };
    let source = connection.client.peer;
    // Without a known destination the client's own kind of "anywhere".
    let destination = connection.local_address().unwrap_or_else(|| SocketAddr::new(unspecified(source), 0));
    match version {
        ProxyProtocol::Version1 => write_proxy_header_v1(source, destination, &mut header),
        ProxyProtocol::Version2 => write_proxy_header_v2(source, destination, &mut header),
    }
    header
}

fn unspecified(like: SocketAddr) -> IpAddr {
    match like {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Applies the header changes of a route or a destination to a request. `host` changes the authority.
pub(crate) fn change_request(head: &mut RequestHead, operations: &HeaderOperations) {
    for name in &operations.request_remove {
        head.headers.remove(name.as_bytes());
    }
    for (name, value) in &operations.request_set {
        if !set_authority(head, name, value) {
            head.headers.set(name, value.as_bytes());
        }
    }
    for (name, value) in &operations.request_add {
        if !set_authority(head, name, value) {
            head.headers.push(name.as_bytes(), value.as_bytes());
        }
    }
}

/// Changes path and authority as the route says; the path as the client sent it goes along in a header, and into the log.
pub(crate) fn rewrite(head: &mut RequestHead, rewrite: &CompiledRewrite, prefix_len: Option<usize>) {
    if let Some(authority) = rewrite.authority() {
        head.authority.clear();
        head.authority.push_str(authority);
    }
    if !rewrite.changes_path() {
        return;
    }
    let rewritten = rewrite_path(head.path(), rewrite, prefix_len);
    // Joining two harmless parts can make dot segments: `/api` to `/` turns `/api../x` into `/../x`.
    let path = normalize_path(&rewritten).unwrap_or(Cow::Borrowed("/")).into_owned();
    let original = std::mem::take(&mut head.target);
    head.headers.set_known(HeaderName::XEnvoyOriginalPath, original.as_bytes());
    head.target = original;
    head.set_path(&path);
}

fn set_authority(head: &mut RequestHead, name: &str, value: &str) -> bool {
    let is_authority = name == "host" || name == ":authority";
    if is_authority {
        head.authority.clear();
        head.authority.push_str(value);
    }
    is_authority
}

#[cfg(test)]
mod tests {
    use meshwright_model::Rewrite;

    use super::*;

    #[test]
    fn a_rewrite_cannot_be_used_to_climb() {
        let to_root = Rewrite { uri: Some("/".to_owned()), ..Rewrite::default() };
        let rewrite = CompiledRewrite::compile(&to_root).unwrap();
        let mut head = RequestHead { target: "/api../admin?q".to_owned(), path_len: 12, ..RequestHead::default() };
        super::rewrite(&mut head, &rewrite, Some(4));
        assert_eq!(head.target, "/admin?q");
        assert_eq!(head.headers.known(HeaderName::XEnvoyOriginalPath), Some(&b"/api../admin?q"[..]));
    }

    #[test]
    fn addresses_are_written_as_the_standard_library_writes_them() {
        for text in ["0.0.0.0", "127.0.0.1", "10.20.99.100", "255.255.255.255", "192.168.10.9", "::1", "2001:db8::7"] {
            let address: IpAddr = text.parse().unwrap();
            let mut out = Vec::new();
            push_address(address, &mut out);
            assert_eq!(out, text.as_bytes());
        }
        let mut out = Vec::new();
        push_address("::ffff:10.0.0.1".parse().unwrap(), &mut out);
        assert_eq!(out, b"10.0.0.1", "a mapped address is the IPv4 address it stands for");
    }
}
