//! Where a member of a cluster is. It opens nothing.

use std::fmt;
use std::str::FromStr;

/// Port that etcd's clients use when none is named.
const DEFAULT_PORT: u16 = 2379;

/// Host and port of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// IP address without brackets, or DNS name.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// A text that names no member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no member of etcd: it must be HOST or HOST:PORT, an IPv6 address in brackets")]
pub struct BadEndpoint(pub String);

impl FromStr for Endpoint {
    type Err = BadEndpoint;

    fn from_str(text: &str) -> Result<Self, BadEndpoint> {
        let bad = || BadEndpoint(text.to_owned());
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or_else(bad)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
                (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(bad)?) })
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
        if host.is_empty() || host.len() > 253 || !host.bytes().all(letter) {
            return Err(bad());
        }
        let port = port.map_or(Ok(DEFAULT_PORT), str::parse).map_err(|_| bad())?;
        if port == 0 {
            return Err(bad());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_names_and_numbers_with_and_without_a_port() {
        let shown = |text: &str| text.parse::<Endpoint>().map(|endpoint| endpoint.to_string());
        assert_eq!(shown("etcd-1.example.com:2380").as_deref(), Ok("etcd-1.example.com:2380"));
        assert_eq!(shown("127.0.0.1").as_deref(), Ok("127.0.0.1:2379"));
        assert_eq!(shown("[::1]:1").as_deref(), Ok("[::1]:1"));
        assert_eq!(shown("[::1]").as_deref(), Ok("[::1]:2379"));
        for bad in ["", ":1", "a:", "a:0", "a:65536", "a b", "::1", "[::1]1", "[a]:1", "user:password@host:1", "a/b"] {
            assert!(shown(bad).is_err(), "{bad}");
        }
    }
}
