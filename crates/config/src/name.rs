//! What names may look like: hosts, labels, headers, ports.
//!
//! The rules are those of RFC 1123 and of Kubernetes' and Istio's validation. Pure text.

use std::net::IpAddr;

/// A DNS label: at most 63 lower-case letters, digits and inner hyphens (RFC 1123).
pub(crate) fn is_dns_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    (1..=63).contains(&bytes.len()) && bytes.iter().all(inner) && !bytes.starts_with(b"-") && !bytes.ends_with(b"-")
}

/// The DNS label nearest to `text`, for a suggestion; `None` when no letter or digit of it remains.
pub(crate) fn nearest_dns_label(text: &str) -> Option<String> {
    let lower = text.to_lowercase();
    let words: Vec<&str> =
        lower.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit()).filter(|word| !word.is_empty()).collect();
    let mut label = words.join("-");
    label.truncate(63);
    let label = label.trim_end_matches('-');
    is_dns_label(label).then(|| label.to_owned())
}

/// The domain nearest to `text`, for a suggestion; labels of which nothing remains are left out.
pub(crate) fn nearest_domain(text: &str) -> Option<String> {
    let labels: Vec<String> = text.split('.').filter_map(nearest_dns_label).collect();
    let domain = labels.join(".");
    is_domain(&domain).then_some(domain)
}

/// One or more DNS labels with dots between, at most 255 characters; lower-case.
pub(crate) fn is_domain(text: &str) -> bool {
    text.len() <= 255 && text.split('.').all(is_dns_label)
}

/// `*`, `*.domain` or a domain; lower-case.
pub(crate) fn is_wildcard_domain(text: &str) -> bool {
    text == "*" || is_domain(text.strip_prefix("*.").unwrap_or(text))
}

/// Why a host pattern is wrong, in Istio's words where it has some; `None` when it is right.
pub(crate) fn host_problem(host: &str) -> Option<String> {
    let lower = host.to_ascii_lowercase();
    if is_wildcard_domain(&lower) {
        return None;
    }
    if host.contains('*') {
        return Some(format!("partial wildcard {host:?} not allowed"));
    }
    if host.len() > 255 {
        return Some(format!("domain name {:?} too long (max 255)", crate::node::shorten(host)));
    }
    let label = lower.split('.').find(|label| !is_dns_label(label)).unwrap_or_default();
    Some(format!("domain name {host:?} invalid (label {label:?} invalid)"))
}

/// What a host pattern may be; for the field `allowed` of a finding.
pub(crate) const HOST_FORMS: &str = "a DNS name, `*.` before a DNS name, or `*`";

/// Whether the text is an IP address.
pub(crate) fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// Whether the text has the shape of an IPv4 address, right or wrong: digits and dots only.
pub(crate) fn looks_like_ip(text: &str) -> bool {
    text.contains('.') && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// A label name of Kubernetes: an optional DNS prefix with `/`, then at most 63 letters, digits, `-`, `_`, `.`.
pub(crate) fn is_label_key(text: &str) -> bool {
    let name = match text.split_once('/') {
        Some((prefix, name)) if is_domain(prefix) => name,
        Some(_) => return false,
        None => text,
    };
    !name.is_empty() && is_label_value(name)
}

/// A label value of Kubernetes: empty, or at most 63 letters, digits, `-`, `_`, `.` with a letter or digit at both ends.
pub(crate) fn is_label_value(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    bytes.len() <= 63
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
        && edge(bytes.first())
        && edge(bytes.last())
}

/// A header field name: a token of RFC 9110.
pub(crate) fn is_header_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// A header field value: no control characters but tab (RFC 9110, section 5.5).
pub(crate) fn is_header_value(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'\t' || (byte >= 0x20 && byte != 0x7f))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_judged_as_istio_judges_them() {
        for good in ["*", "*.foo.com", "a.b", "user-service", "a.b.svc.cluster.local", "API.Example.com"] {
            assert_eq!(host_problem(good), None, "{good}");
        }
        for (bad, phrase) in [
            ("*foo.com", "partial wildcard \"*foo.com\" not allowed"),
            ("foo.*", "partial wildcard"),
            ("a..b", "label \"\" invalid"),
            ("a_b.c", "label \"a_b\" invalid"),
            ("-a", "invalid"),
            ("", "invalid"),
        ] {
            let problem = host_problem(bad).expect(bad);
            assert!(problem.contains(phrase), "{bad}: {problem}");
        }
        assert!(host_problem(&"a.".repeat(200)).is_some_and(|problem| problem.contains("too long")));
    }

    #[test]
    fn a_suggested_name_is_always_a_valid_one() {
        let long = format!("{}_{}", "a".repeat(62), "b".repeat(62));
        for (text, expected) in [
            ("V_1!", Some("v-1")),
            ("--v1--", Some("v1")),
            ("v1.2", Some("v1-2")),
            ("a  _ b", Some("a-b")),
            (long.as_str(), Some("a".repeat(62).as_str())),
            ("!!", None),
            ("", None),
            ("\u{e9}", None),
        ] {
            assert_eq!(nearest_dns_label(text).as_deref(), expected, "{text}");
        }
        assert_eq!(nearest_domain("My_App..V1!").as_deref(), Some("my-app.v1"));
        assert_eq!(nearest_domain("..").as_deref(), None);
    }

    #[test]
    fn labels_and_headers_follow_their_rules() {
        assert!(is_label_key("app.kubernetes.io/name") && is_label_key("version") && !is_label_key("/a"));
        assert!(is_label_value("") && is_label_value("v1.2") && !is_label_value("-v1"));
        assert!(is_header_name("X-User") && !is_header_name("x user") && !is_header_name(""));
        assert!(is_header_value("a\tb") && !is_header_value("a\nb"));
    }
}
