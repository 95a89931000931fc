//! The field section of a head: end-to-end fields into the header list, hop-by-hop and framing fields into facts.
//!
//! Knows what requests and responses have in common; what only one of them has (Host, Expect, Keep-Alive) is given back
//! to `request` and `response`. Read next: those two.

use meshwright_message::{HeaderList, HeaderName};

use crate::syntax::{Lines, PlainField, decimal, elements, is_token, is_token_byte, split_field, trim};
use crate::{HeadError, HeadLimits};

/// Elements that all Connection fields of a head may have together.
const CONNECTION_OPTIONS_MAX: usize = 64;

/// What the hop-by-hop and framing fields of a head said.
#[derive(Default)]
pub(crate) struct Hop {
    pub(crate) content_length: Option<u64>,
    pub(crate) chunked: bool,
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    /// Connection lists `upgrade`.
    pub(crate) upgrade_listed: bool,
    /// The protocols of Upgrade, without those that would take the connection away from us.
    pub(crate) upgrade: Option<String>,
    pub(crate) te_trailers: bool,
    /// Connection names a field that is not hop-by-hop by itself.
    nominates: bool,
    options: usize,
}

impl Hop {
    /// Reads a field that describes this hop only. False when it is an end-to-end field.
    fn read(&mut self, id: HeaderName, value: &[u8]) -> Result<bool, HeadError> {
        match id {
            HeaderName::ContentLength => self.read_content_length(value)?,
            HeaderName::TransferEncoding => self.read_transfer_encoding(value)?,
            HeaderName::Connection => self.read_connection(value)?,
            HeaderName::Upgrade => self.read_upgrade(value)?,
            HeaderName::Te => {
                self.te_trailers |= elements(value).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
            }
            HeaderName::KeepAlive
            | HeaderName::ProxyConnection
            | HeaderName::ProxyAuthenticate
            | HeaderName::ProxyAuthorization
            | HeaderName::Trailer
            | HeaderName::Http2Settings => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// RFC 9112, section 6.3, in the strict reading: one field, digits only. A list of equal numbers is refused too.
    fn read_content_length(&mut self, value: &[u8]) -> Result<(), HeadError> {
        if self.content_length.is_some() {
            return Err(HeadError::RepeatedContentLength);
        }
        let digits = framing_value(value).ok_or(HeadError::BadContentLength)?;
        self.content_length = Some(decimal(digits).ok_or(HeadError::BadContentLength)?);
        Ok(())
    }

    /// RFC 9112, section 6.1: one field, one coding, `chunked`.
    fn read_transfer_encoding(&mut self, value: &[u8]) -> Result<(), HeadError> {
        if self.chunked {
            return Err(HeadError::RepeatedTransferEncoding);
        }
        let value = framing_value(value).ok_or(HeadError::BadTransferEncoding)?;
        if value.eq_ignore_ascii_case(b"chunked") {
            self.chunked = true;
            return Ok(());
        }
        let mut others = false;
        for coding in elements(value) {
            if !is_token(coding) {
                return Err(HeadError::BadTransferEncoding);
            }
            others |= !coding.eq_ignore_ascii_case(b"chunked");
        }
        Err(if others { HeadError::UnsupportedTransferCoding } else { HeadError::BadTransferEncoding })
    }

    fn read_connection(&mut self, value: &[u8]) -> Result<(), HeadError> {
        if trim(value).eq_ignore_ascii_case(b"keep-alive") {
            // By far the most frequent value.
            self.options += 1;
            self.keep_alive = true;
            return if self.options > CONNECTION_OPTIONS_MAX { Err(HeadError::BadConnection) } else { Ok(()) };
        }
        for option in elements(value).filter(|option| !option.is_empty()) {
            self.options += 1;
            if self.options > CONNECTION_OPTIONS_MAX || !is_token(option) {
                return Err(HeadError::BadConnection);
            }
            if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade_listed = true;
            } else {
                self.nominates = true;
            }
        }
        Ok(())
    }

    /// Protocols that continue as HTTP on this very connection (`h2c`) are left out: behind a proxy such an upgrade
    /// would be a tunnel past every rule.
    fn read_upgrade(&mut self, value: &[u8]) -> Result<(), HeadError> {
        for protocol in elements(value).filter(|protocol| !protocol.is_empty()) {
            let is_protocol = |part: &[u8]| part.iter().all(|&byte| is_token_byte(byte) || byte == b'/');
            let text = Some(protocol).filter(|text| is_protocol(text)).and_then(|text| std::str::from_utf8(text).ok());
            let text = text.ok_or(HeadError::BadUpgrade)?;
            if text.eq_ignore_ascii_case("h2c") || text.eq_ignore_ascii_case("h2") {
                continue;
            }
            let upgrade = self.upgrade.get_or_insert_default();
            if !upgrade.is_empty() {
                upgrade.push_str(", ");
            }
            upgrade.push_str(text);
        }
        Ok(())
    }

    /// Whether the connection stays open, by version and Connection (RFC 9112, section 9.3).
    pub(crate) fn persists(&self, is_http11: bool) -> bool {
        !self.close && (is_http11 || self.keep_alive)
    }
}

/// A framing value without spaces around it. A tab beside it, though legal, has been read in different ways.
fn framing_value(value: &[u8]) -> Option<&[u8]> {
    let trimmed = trim(value);
    (!trimmed.is_empty() && !value.contains(&b'\t')).then_some(trimmed)
}

/// Reads the field section from where `lines` stands to its empty line. `special` takes fields that only one kind of
/// head knows: it is asked first, and answers whether it took the field. False when the section has not arrived whole.
#[inline]
pub(crate) fn read_section(
    lines: &mut Lines<'_>,
    limits: &HeadLimits,
    headers: &mut HeaderList,
    hop: &mut Hop,
    mut special: impl FnMut(HeaderName, &[u8]) -> Result<bool, HeadError>,
) -> Result<bool, HeadError> {
    lines.limit_section(limits.section());
    let mut count = 0usize;
    let mut size = 0usize;
    loop {
        let (id, name, raw, value, line) = match lines.next_plain(limits.field) {
            Some(PlainField { id, name, value, line }) => (id, name, value, value, line),
            None => {
                let Some(line) = lines.next(limits.field, HeadError::HeadersTooLarge)? else { return Ok(false) };
                if line.is_empty() {
                    return Ok(true);
                }
                let (name, raw) = split_field(line)?;
                (HeaderName::recognise(name), name, raw, trim(raw), lines.last(line))
            }
        };
        count += 1;
        size += name.len() + value.len() + 32;
        if count > limits.fields {
            return Err(HeadError::TooManyHeaders);
        }
        if size > limits.head || name.len() > usize::from(u16::MAX) {
            return Err(HeadError::HeadersTooLarge);
        }
        if id == HeaderName::Other {
            if imitates_framing(name) {
                return Err(HeadError::FramingAlias);
            }
            push(headers, id, name, value, line);
        } else if !special(id, value)? && !hop.read(id, raw)? {
            push(headers, id, name, value, line);
        }
    }
}

/// Keeps a field; a line in canonical form is copied as it is.
fn push(headers: &mut HeaderList, id: HeaderName, name: &[u8], value: &[u8], line: &[u8]) {
    if line.len() == name.len() + value.len() + 4 && line[name.len() + 1] == b' ' {
        headers.push_line(id, line, name.len());
    } else {
        headers.push_field(id, name, value);
    }
}

/// Names that some servers take for the framing fields, because they map `-` and `_` to the same variable.
pub(crate) fn imitates_framing(name: &[u8]) -> bool {
    match name.len() {
        14 => name.eq_ignore_ascii_case(b"content_length"),
        17 => name.eq_ignore_ascii_case(b"transfer_encoding"),
        _ => false,
    }
}

/// What becomes of a Connection field that nominates a protected field.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protected {
    /// The head is refused.
    Refuse,
    /// The nomination has no effect.
    Keep,
}

/// Removes the fields that Connection names (RFC 9110, section 7.6.1), in a section that was read already. Fields that
/// carry framing, routing, credentials or trust are never removed that way.
pub(crate) fn remove_nominated(
    section: &[u8],
    hop: &Hop,
    protected: Protected,
    headers: &mut HeaderList,
) -> Result<(), HeadError> {
    if !hop.nominates {
        return Ok(());
    }
    let mut lines = Lines::new(section, 0);
    while let Some(line) = lines.next(usize::MAX, HeadError::HeadersTooLarge)? {
        if line.is_empty() {
            break;
        }
        let (name, value) = split_field(line)?;
        if HeaderName::recognise(name) != HeaderName::Connection {
            continue;
        }
        for option in elements(value).filter(|option| !option.is_empty()) {
            if !is_protected(option) {
                headers.remove(option);
            } else if protected == Protected::Refuse {
                return Err(HeadError::ForbiddenNomination);
            }
        }
    }
    Ok(())
}

fn is_protected(name: &[u8]) -> bool {
    let starts_with = |prefix: &[u8]| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    const NAMES: [&[u8]; 9] = [
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"authorization",
        b"cookie",
        b"set-cookie",
        b"forwarded",
        b"x-real-ip",
        b"x-request-id",
    ];
    starts_with(b"x-forwarded-")
        || starts_with(b"x-envoy-")
        || NAMES.iter().any(|protected| name.eq_ignore_ascii_case(protected))
}
