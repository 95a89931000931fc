//! Host names as Istio reads them: short names, namespaced forms, wildcards.

/// The domain that Kubernetes and Istio put behind every service name.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// The namespace of objects that name none.
pub const DEFAULT_NAMESPACE: &str = "default";

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
