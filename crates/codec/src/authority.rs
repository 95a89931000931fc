//! The authority of a request: a host and an optional port, in one canonical spelling.
//!
//! Knows nothing of which hosts are served. Read next: `request`.

use std::net::Ipv6Addr;

use crate::HeadError;

/// Longest host accepted, in bytes: the longest DNS name.
const HOST_MAX: usize = 255;

/// Validates `host[:port]` and appends it in lower case.
///
/// Accepted: a name of letters, digits and `-._~` (IPv4 addresses are such names), or an IPv6 address in brackets;
/// a port from 1 to 65535 without leading zeros. That is narrower than RFC 3986, section 3.2.2: percent-encoding,
/// sub-delimiters, user information, zone identifiers and an empty port are refused, because components disagree
/// about them.
pub(crate) fn push_authority(bytes: &[u8], out: &mut String) -> Result<(), HeadError> {
    let host_len = match bytes {
        [b'[', rest @ ..] => {
            let inside = rest.iter().position(|&byte| byte == b']').ok_or(HeadError::BadHost)?;
            let address = std::str::from_utf8(&rest[..inside]).map_err(|_| HeadError::BadHost)?;
            address.parse::<Ipv6Addr>().map_err(|_| HeadError::BadHost)?;
            inside + 2
        }
        _ => bytes.iter().take_while(|byte| NAME[usize::from(**byte)]).count(),
    };
    let (host, port) = bytes.split_at(host_len);
    if host.is_empty() || host.len() > HOST_MAX {
        return Err(HeadError::BadHost);
    }
    match port {
        [] => {}
        [b':', digits @ ..] if is_port(digits) => {}
        _ => return Err(HeadError::BadHost),
    }
    let start = out.len();
    out.push_str(std::str::from_utf8(bytes).map_err(|_| HeadError::BadHost)?);
    out[start..].make_ascii_lowercase();
    Ok(())
}

/// Bytes of a name.
const NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        let b = byte as u8;
        table[byte] = b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        byte += 1;
    }
    table
};

fn is_port(digits: &[u8]) -> bool {
    digits.len() <= 5
        && digits.first() != Some(&b'0')
        && crate::syntax::decimal(digits).is_some_and(|port| port <= u64::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(authority: &str) -> Option<String> {
        let mut out = String::new();
        push_authority(authority.as_bytes(), &mut out).ok().map(|()| out)
    }

    #[test]
    fn names_and_addresses_are_lower_cased_and_kept() {
        for (given, expected) in [
            ("api.example.com", "api.example.com"),
            ("API.Example.COM:8080", "api.example.com:8080"),
            ("user_service", "user_service"),
            ("10.0.0.1:1", "10.0.0.1:1"),
            ("[::1]", "[::1]"),
            ("[2001:DB8::1]:65535", "[2001:db8::1]:65535"),
        ] {
            assert_eq!(canonical(given).as_deref(), Some(expected), "{given}");
        }
    }

    #[test]
    fn what_components_read_differently_is_refused() {
        for bad in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:080",
            "a:99999",
            "a:65536",
            "a:8x",
            "a,b",
            "a b",
            "user@a",
            "user:pass@a",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "a%41",
            "[::1",
            "::1",
            "[::1]x",
            "[fe80::1%25eth0]",
            "[fe80::1%eth0]",
            "[1.2.3.4]",
            "[]",
            "a\0b",
            "\u{e9}",
            "*",
            "a:80:80",
        ] {
            assert_eq!(canonical(bad), None, "{bad:?}");
        }
        assert_eq!(canonical(&"a".repeat(256)), None);
    }
}
