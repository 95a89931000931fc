//! What holds for any bytes that a port with TLS receives first: a PROXY header or none, then a ClientHello or none.
//!
//! The fuzz target runs this on bytes of the fuzzer, the tests of `meshwright-wire` on the committed seeds and on changes of
//! them. Knows no certificate: what a handshake makes of a ClientHello is rustls' own.

use std::net::IpAddr;

use meshwright_codec::read_proxy_header;
use meshwright_wire::hello::{HelloScan, LONGEST_HELLO, server_name};

/// What becomes of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// More has to come.
    Incomplete,
    /// No PROXY header and no ClientHello.
    Refused,
    /// A ClientHello, and the server that it asks for.
    Named(Option<String>),
}

/// The verdict on bytes that arrive in pieces of `step` bytes.
pub fn verdict(bytes: &[u8], step: usize) -> Verdict {
    let mut scan = HelloScan::default();
    let mut start = 0;
    let mut end = 0;
    while end < bytes.len() {
        end = (end + step.max(1)).min(bytes.len());
        if start == 0 && announces_proxy(bytes) {
            match read_proxy_header(&bytes[..end]) {
                Ok(Some((_, length))) => start = length,
                Ok(None) => continue,
                Err(_) => return Verdict::Refused,
            }
        }
        match scan.read(&bytes[start..end]) {
            Ok(Some(hello)) => return Verdict::Named(server_name(&hello)),
            Ok(None) => {}
            Err(_) => return Verdict::Refused,
        }
    }
    Verdict::Incomplete
}

/// No record of TLS begins like this; a port expects a PROXY header or it does not, and here that depends on the bytes.
fn announces_proxy(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(b'P' | b'\r'))
}

/// The first host name in the ClientHello of whole records, as RFC 8446 and RFC 6066 lay it out, read by counting and nothing
/// else.
fn plain_reading(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    let mut records = bytes;
    while let Some((header, rest)) = records.split_at_checked(5)
        && header[0] == 22
    {
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        // Behind the hello something may have begun.
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        message.extend_from_slice(payload);
        records = rest;
    }
    let mut hello = Cursor(message.get(4..)?);
    hello.take(2 + 32)?;
    hello.vector(1)?;
    hello.vector(2)?;
    hello.vector(1)?;
    let mut extensions = Cursor(hello.vector(2)?);
    loop {
        let kind = extensions.take(2)?;
        let content = extensions.vector(2)?;
        if kind == [0, 0] {
            let mut names = Cursor(Cursor(content).vector(2)?);
            return (names.take(1)? == [0]).then(|| names.vector(2).map(<[u8]>::to_vec))?;
        }
    }
}

/// Bytes from which fields are taken one after the other.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// What follows its own length of `width` bytes.
    fn vector(&mut self, width: usize) -> Option<&'a [u8]> {
        let length = self.take(width)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        self.take(length)
    }
}

/// Splitting changes nothing, a hello ends within what it may take, and the name is the one that anybody would read in it.
pub fn client_hello(bytes: &[u8]) {
    let whole = verdict(bytes, bytes.len());
    // Long ones are split less finely.
    for step in [1 + bytes.len() / 512, 7 + bytes.len() / 512, 1 + bytes.len() / 2] {
        assert_eq!(verdict(bytes, step), whole, "the verdict depends on the split ({step})");
    }
    match whole {
        Verdict::Incomplete => assert!(bytes.len() < LONGEST_HELLO + 4112, "a hello that never ends"),
        Verdict::Refused => {}
        Verdict::Named(name) => {
            let mut hello = bytes;
            if announces_proxy(bytes)
                && let Ok(Some((_, length))) = read_proxy_header(bytes)
            {
                hello = &bytes[length..];
            }
            let read = plain_reading(hello).map(|name| String::from_utf8_lossy(&name).into_owned());
            match (name, read) {
                (Some(name), Some(read)) => {
                    // A dot at the end says that the name is complete; it is not part of what is looked up.
                    let read = read.to_ascii_lowercase();
                    assert_eq!(name, read.strip_suffix('.').unwrap_or(&read));
                    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
                    assert!(name.len() <= 253 && name.bytes().all(fits), "{name:?} is no name of a host");
                }
                (None, Some(read)) => assert!(read.parse::<IpAddr>().is_ok(), "{read:?} was not seen"),
                (Some(name), None) => panic!("{name:?} came from nowhere"),
                (None, None) => {}
            }
        }
    }
}
