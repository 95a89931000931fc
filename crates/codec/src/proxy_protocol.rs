//! The PROXY protocol, versions 1 and 2: how a balancer in front of us says who its client is, and how we say it.
//!
//! Source: `proxy-protocol.txt` of HAProxy, revision of 2020. Strict: a header that is not exactly as specified ends the
//! connection, and nothing of it is trusted. Knows no sockets, and not who may send such a header.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest header of version 1, its CRLF included.
const LONGEST_V1: usize = 107;
/// Longest header of version 2 that is read, TLVs included.
const LONGEST_V2: usize = 16 + 4096;
/// How a header of version 2 begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What a header said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// A connection of the balancer itself (LOCAL, UNKNOWN): the addresses of the socket count.
    Local,
    /// A connection on behalf of a client.
    Proxied {
        /// The client.
        source: SocketAddr,
        /// What it connected to.
        destination: SocketAddr,
    },
}

/// A header is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeaderError(&'static str);

impl fmt::Display for ProxyHeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for ProxyHeaderError {}

/// Reads a header from the beginning of `input`: what it says and its length; `None` while it is not complete. With
/// 4,112 bytes the answer is never `None`.
///
/// # Errors
/// What comes is no header, or not a valid one. The same bytes give the same answer however they are split.
pub fn read_proxy_header(input: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyHeaderError> {
    let signature = SIGNATURE.len().min(input.len());
    if input[..signature] == SIGNATURE[..signature] && !input.is_empty() {
        return read_v2(input);
    }
    const START: &[u8] = b"PROXY ";
    let start = START.len().min(input.len());
    if input[..start] != START[..start] {
        return Err(ProxyHeaderError("the connection does not begin with a PROXY header"));
    }
    read_v1(input)
}

fn read_v1(input: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyHeaderError> {
    const BAD: ProxyHeaderError = ProxyHeaderError("the PROXY header of version 1 is malformed");
    let window = &input[..input.len().min(LONGEST_V1)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if input.len() >= LONGEST_V1 {
            Err(ProxyHeaderError("the PROXY header of version 1 is longer than 107 bytes"))
        } else {
            Ok(None)
        };
    };
    let line = std::str::from_utf8(&window[..end]).map_err(|_| BAD)?;
    let mut parts = line.split(' ').skip(1);
    let family = parts.next().ok_or(BAD)?;
    if family == "UNKNOWN" {
        return Ok(Some((ProxyHeader::Local, end + 2)));
    }
    let mut next = || parts.next().ok_or(BAD);
    let (source, destination) = (next()?, next()?);
    let (source_port, destination_port) = (v1_port(next()?).ok_or(BAD)?, v1_port(next()?).ok_or(BAD)?);
    if parts.next().is_some() {
        return Err(BAD);
    }
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let source = SocketAddr::new(address(source).ok_or(BAD)?, source_port);
    let destination = SocketAddr::new(address(destination).ok_or(BAD)?, destination_port);
    Ok(Some((ProxyHeader::Proxied { source, destination }, end + 2)))
}

/// Decimal digits without a leading zero, up to 65535.
fn v1_port(text: &str) -> Option<u16> {
    let is_canonical = text == "0" || !text.starts_with('0');
    (is_canonical && text.len() <= 5 && text.bytes().all(|digit| digit.is_ascii_digit())).then(|| text.parse().ok())?
}

fn read_v2(input: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyHeaderError> {
    const BAD: ProxyHeaderError = ProxyHeaderError("the PROXY header of version 2 is malformed");
    let Some(&[command, family, high, low]) = input.get(12..16).and_then(|bytes| bytes.first_chunk::<4>()) else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let whole = 16 + length;
    if whole > LONGEST_V2 {
        return Err(ProxyHeaderError("the PROXY header of version 2 is longer than 4112 bytes"));
    }
    if !matches!(command, 0x20 | 0x21) {
        return Err(ProxyHeaderError("the PROXY header has another version or command"));
    }
    let Some(payload) = input.get(16..whole) else { return Ok(None) };
    if command == 0x20 {
        // Whatever stands in it is to be passed over, the family included.
        return Ok(Some((ProxyHeader::Local, whole)));
    }
    let (addresses, tlvs) = match family {
        0x11 => payload.split_at_checked(12).ok_or(BAD)?,
        0x21 => payload.split_at_checked(36).ok_or(BAD)?,
        // Unspecified, datagrams and unix sockets: nothing that could be a client's address here.
        _ => (&[][..], &[][..]),
    };
    check_tlvs(tlvs).ok_or(BAD)?;
    let header = match family {
        0x11 => {
            let [a, b, c, d, e, f, g, h, ports @ ..] = addresses.first_chunk::<12>().ok_or(BAD)?;
            let [source, destination] = [[*a, *b, *c, *d], [*e, *f, *g, *h]].map(|octets| IpAddr::V4(octets.into()));
            proxied(source, destination, *ports)
        }
        0x21 => {
            let (source, rest) = addresses.split_first_chunk::<16>().ok_or(BAD)?;
            let (destination, ports) = rest.split_first_chunk::<16>().ok_or(BAD)?;
            let [source, destination] = [*source, *destination].map(|octets| IpAddr::V6(octets.into()));
            proxied(source, destination, *ports.first_chunk::<4>().ok_or(BAD)?)
        }
        _ => ProxyHeader::Local,
    };
    Ok(Some((header, whole)))
}

fn proxied(source: IpAddr, destination: IpAddr, [a, b, c, d]: [u8; 4]) -> ProxyHeader {
    ProxyHeader::Proxied {
        source: SocketAddr::new(source, u16::from_be_bytes([a, b])),
        destination: SocketAddr::new(destination, u16::from_be_bytes([c, d])),
    }
}

/// Type, length and value, one behind the other, with nothing left over.
fn check_tlvs(mut tlvs: &[u8]) -> Option<()> {
    while !tlvs.is_empty() {
        let ([_, high, low], rest) = tlvs.split_first_chunk::<3>()?;
        tlvs = rest.get(usize::from(u16::from_be_bytes([*high, *low]))..)?;
    }
    Some(())
}

/// Appends a header of version 1 for a client.
pub fn write_proxy_header_v1(source: SocketAddr, destination: SocketAddr, out: &mut Vec<u8>) {
    let (source, destination) = same_family(source, destination);
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let line =
        format!("PROXY {family} {} {} {} {}\r\n", source.ip(), destination.ip(), source.port(), destination.port());
    out.extend_from_slice(line.as_bytes());
}

/// Appends a header of version 2 for a client.
pub fn write_proxy_header_v2(source: SocketAddr, destination: SocketAddr, out: &mut Vec<u8>) {
    let (source, destination) = same_family(source, destination);
    out.extend_from_slice(SIGNATURE);
    out.push(0x21);
    out.push(if source.is_ipv4() { 0x11 } else { 0x21 });
    out.extend_from_slice(&(if source.is_ipv4() { 12u16 } else { 36 }).to_be_bytes());
    for address in [source.ip(), destination.ip()] {
        match address {
            IpAddr::V4(address) => out.extend_from_slice(&address.octets()),
            IpAddr::V6(address) => out.extend_from_slice(&address.octets()),
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
}

/// Both as IPv4 where both are, mapped addresses included; else both as IPv6.
fn same_family(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let both = [source, destination].map(|address| SocketAddr::new(address.ip().to_canonical(), address.port()));
    if both.iter().all(SocketAddr::is_ipv4) || both.iter().all(SocketAddr::is_ipv6) {
        return (both[0], both[1]);
    }
    let [source, destination] = both.map(|address| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(IpAddr::V6(ip.to_ipv6_mapped()), address.port()),
        IpAddr::V6(_) => address,
    });
    (source, destination)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addresses() -> impl Strategy<Value = SocketAddr> {
        prop_oneof![
            (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(IpAddr::V4(ip.into()), port)),
            (any::<[u8; 16]>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(IpAddr::V6(ip.into()), port)),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_whatever_comes_behind_it(
            source in addresses(), destination in addresses(), behind in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let (from, to) = same_family(source, destination);
            for write in [write_proxy_header_v1, write_proxy_header_v2] {
                let mut bytes = Vec::new();
                write(source, destination, &mut bytes);
                let length = bytes.len();
                for end in 0..length {
                    prop_assert_eq!(read_proxy_header(&bytes[..end]), Ok(None));
                }
                bytes.extend_from_slice(&behind);
                let header = ProxyHeader::Proxied { source: from, destination: to };
                prop_assert_eq!(read_proxy_header(&bytes), Ok(Some((header, length))));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_splits_change_nothing(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for start in [&b""[..], b"PROXY ", SIGNATURE] {
                let input = [start, &bytes].concat();
                let whole = read_proxy_header(&input);
                let first = (0..=input.len()).map(|end| read_proxy_header(&input[..end])).find(|read| *read != Ok(None));
                prop_assert_eq!(first.unwrap_or(Ok(None)), whole);
            }
        }
    }

    #[test]
    fn what_is_not_exactly_a_header_is_refused() {
        for bad in [
            "GET / HTTP/1.1\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
            "PROXY TCP4 ::1 ::2 1 2\r\n",
            "PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
            "PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n",
            "PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        ] {
            assert!(read_proxy_header(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(read_proxy_header(format!("PROXY UNKNOWN {}", "x".repeat(200)).as_bytes()).is_err());
        let unknown = b"PROXY UNKNOWN whatever\r\n";
        assert_eq!(read_proxy_header(unknown), Ok(Some((ProxyHeader::Local, unknown.len()))));
    }

    #[test]
    fn lengths_in_version_2_are_checked() {
        let header = |command: u8, family: u8, payload: &[u8]| {
            let mut bytes = SIGNATURE.to_vec();
            bytes.extend([command, family]);
            bytes.extend((payload.len() as u16).to_be_bytes());
            bytes.extend(payload);
            bytes
        };
        assert!(read_proxy_header(&header(0x21, 0x11, &[0; 11])).is_err(), "addresses cut short");
        assert!(
            read_proxy_header(&header(0x21, 0x11, &[[0; 12].as_slice(), &[4, 0, 9, 1]].concat())).is_err(),
            "a TLV cut short"
        );
        assert!(read_proxy_header(&header(0x31, 0x11, &[0; 12])).is_err(), "another version");
        assert!(read_proxy_header(&header(0x22, 0x11, &[0; 12])).is_err(), "another command");
        let local = header(0x20, 0x00, &[]);
        assert_eq!(read_proxy_header(&local), Ok(Some((ProxyHeader::Local, 16))));
        let with_tlv = header(0x21, 0x11, &[[0; 12].as_slice(), &[4, 0, 1, 1]].concat());
        assert!(matches!(read_proxy_header(&with_tlv), Ok(Some((ProxyHeader::Proxied { .. }, 32)))));
        let mut long = SIGNATURE.to_vec();
        long.extend([0x21, 0x11, 0xff, 0xff]);
        assert!(read_proxy_header(&long).is_err(), "more than anybody needs");
    }
}
