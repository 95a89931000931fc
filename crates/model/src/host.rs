//! Host names as Istio reads them: short names, namespaced forms, wildcards; and which addresses no health check goes to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The domain that Kubernetes and Istio put behind every service name.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// The namespace of objects that name none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Where clouds have their metadata outside of the link-local ranges: Alibaba, Oracle, Azure; Amazon and Google by IPv6.
const METADATA: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// Whether a health check may be sent to `address`. Link-local addresses and those of metadata services are left out, since
/// whoever can name an endpoint would have requests sent there; so are addresses of nobody and of many.
pub fn may_be_probed(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let of_one = match address {
        IpAddr::V4(address) => {
            !(address.is_link_local() || address.is_multicast() || address.is_broadcast() || address.is_unspecified())
        }
        IpAddr::V6(address) => !(address.is_unicast_link_local() || address.is_multicast() || address.is_unspecified()),
    };
    of_one && !METADATA.contains(&address)
}

/// `name.namespace.svc.cluster.local`.
pub fn fully_qualified(name: &str, namespace: &str) -> String {
    format!("{name}.{namespace}.svc.{CLUSTER_DOMAIN}")
}

/// True for a name without dots that is neither `*` nor an IPv6 address: the form that is completed with a namespace.
pub fn is_short(host: &str) -> bool {
    host != "*" && !host.contains('.') && !host.contains(':')
}

/// The host without its port, without a trailing dot. An IPv6 literal keeps its brackets.
pub fn without_port(authority: &str) -> &str {
    let host = match authority.rfind(':') {
        Some(colon) if !authority[colon + 1..].contains(']') => &authority[..colon],
        _ => authority,
    };
    host.strip_suffix('.').unwrap_or(host)
}

/// Whether `pattern` (`*`, `*.suffix` or an exact name) covers `host`. Both are compared as they are: lower-case them first.
///
/// `*.foo.com` covers `a.foo.com` and `a.b.foo.com`, but not `foo.com`.
pub fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some("") => true,
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => pattern == host,
    }
}

/// The more specific of two intersecting patterns, or `None` when no host name satisfies both.
pub fn intersection<'a>(left: &'a str, right: &'a str) -> Option<&'a str> {
    let bare = |pattern: &'a str| pattern.strip_prefix('*');
    match (bare(left), bare(right)) {
        (None, None) => (left == right).then_some(left),
        (Some(_), None) => covers(left, right).then_some(right),
        (None, Some(_)) => covers(right, left).then_some(left),
        (Some(a), Some(b)) if a.ends_with(b) => Some(left),
        (Some(a), Some(b)) if b.ends_with(a) => Some(right),
        (Some(_), Some(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_and_metadata_addresses_are_not_probed_however_they_are_written() {
        for address in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "169.254.0.1",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
        ] {
            assert!(!may_be_probed(address.parse().unwrap()), "{address}");
        }
        for address in ["127.0.0.1", "::1", "10.0.0.7", "fd00::7", "100.64.0.1", "168.63.129.17", "203.0.113.9"] {
            assert!(may_be_probed(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_wildcard_covers_deeper_names_but_not_its_own_suffix() {
        assert!(covers("*.foo.com", "a.foo.com"));
        assert!(covers("*.foo.com", "a.b.foo.com"));
        assert!(!covers("*.foo.com", "foo.com"));
        assert!(covers("*", "anything"));
        assert!(!covers("foo.com", "a.foo.com"));
    }

    #[test]
    fn the_port_and_the_trailing_dot_are_not_part_of_the_host() {
        assert_eq!(without_port("a.b:8080"), "a.b");
        assert_eq!(without_port("a.b.:8080"), "a.b");
        assert_eq!(without_port("[::1]:8080"), "[::1]");
        assert_eq!(without_port("[::1]"), "[::1]");
        assert_eq!(without_port("a.b"), "a.b");
    }

    #[test]
    fn the_intersection_is_the_more_specific_pattern() {
        assert_eq!(intersection("*", "a.b"), Some("a.b"));
        assert_eq!(intersection("*.b", "*.a.b"), Some("*.a.b"));
        assert_eq!(intersection("*.a.b", "*"), Some("*.a.b"));
        assert_eq!(intersection("*.a", "*.b"), None);
        assert_eq!(intersection("a", "b"), None);
    }
}
