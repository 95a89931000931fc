//! Bytes and lines: what a token is, what a field value is, where a line ends.
//!
//! Knows the grammar of RFC 9110 section 5.6 and RFC 9112 section 2.2, not the meaning of any field. Read next: `fields`.

use memchr::memchr;
use meshwright_message::HeaderName;

use crate::HeadError;

/// `tchar` of RFC 9110, section 5.6.2.
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        let b = byte as u8;
        table[byte] = b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            );
        byte += 1;
    }
    table
};

/// Whether the byte may stand in a token.
pub(crate) const fn is_token_byte(byte: u8) -> bool {
    TOKEN[byte as usize]
}

/// Whether it is a token: at least one byte, all of them allowed.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

/// Whether every byte may stand in a field value: no control byte but HTAB, no DEL. Bytes from 0x80 up are opaque data.
pub(crate) fn is_field_value(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut suspicious = words.iter().fold(0, |found, word| found | control_bits(*word));
    if !rest.is_empty() {
        // The last eight bytes once more, or all there are.
        let last = bytes.last_chunk::<8>().copied().unwrap_or_else(|| {
            let mut last = [b' '; 8];
            last[..rest.len()].copy_from_slice(rest);
            last
        });
        suspicious |= control_bits(last);
    }
    suspicious == 0 || bytes.iter().all(|&byte| (byte >= 0x20 || byte == b'\t') && byte != 0x7f)
}

/// Not zero when one of eight bytes is below 0x20 or DEL: the classic test for a byte below a bound, eight at a time. HTAB
/// triggers it as well, bytes from 0x80 up do not.
const fn control_bits(word: [u8; 8]) -> u64 {
    let word = u64::from_le_bytes(word);
    let below = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
    below | zero_bits(word ^ (ONES * 0x7f))
}

/// Not zero when a byte is zero; the lowest bit tells which.
const fn zero_bits(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGH
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// How many bytes from the start may stand in a field value, counted in whole words as long as they are plain: never more
/// than there are, and less when a HTAB is among them.
fn plain_length(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let found = control_bits(*word);
        if found != 0 {
            // The lowest bit is exact: nothing borrows from below it.
            return index * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let plain = rest.iter().position(|&byte| byte < 0x20 || byte == 0x7f);
    words.len() * 8 + plain.unwrap_or(rest.len())
}

/// Where the first colon of the first few words is; names are seldom longer.
fn colon(bytes: &[u8]) -> Option<usize> {
    const WORDS: usize = 4;
    bytes.as_chunks::<8>().0.iter().take(WORDS).enumerate().find_map(|(index, word)| {
        let found = zero_bits(u64::from_le_bytes(*word) ^ (ONES * b':' as u64));
        (found != 0).then(|| index * 8 + found.trailing_zeros() as usize / 8)
    })
}

/// Optional white space of RFC 9110, section 5.6.3.
const fn is_white(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Without white space around it.
pub(crate) const fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes {
        if !is_white(*first) {
            break;
        }
        bytes = rest;
    }
    while let [rest @ .., last] = bytes {
        if !is_white(*last) {
            break;
        }
        bytes = rest;
    }
    bytes
}

/// The elements of a comma-separated list, trimmed, empty ones included.
pub(crate) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim)
}

/// One field line, split and validated: the name, and the value with the white space around it.
pub(crate) fn split_field(line: &[u8]) -> Result<(&[u8], &[u8]), HeadError> {
    let name_len = line.iter().position(|&byte| !is_token_byte(byte)).ok_or(HeadError::BadFieldName)?;
    let (name, rest) = line.split_at(name_len);
    match rest {
        [b':', value @ ..] if !name.is_empty() => {
            if is_field_value(value) {
                Ok((name, value))
            } else {
                Err(HeadError::BadFieldValue)
            }
        }
        [b' ' | b'\t', ..] if name.is_empty() => Err(HeadError::ObsoleteFold),
        [b' ' | b'\t', ..] => Err(HeadError::SpaceBeforeColon),
        _ => Err(HeadError::BadFieldName),
    }
}

/// A decimal number of digits alone. `None` for anything else and for 2^64 and above.
pub(crate) fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0u64, |value, &byte| match byte {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

/// A field line that needs no second look.
pub(crate) struct PlainField<'a> {
    pub(crate) id: HeaderName,
    pub(crate) name: &'a [u8],
    pub(crate) value: &'a [u8],
    /// The whole line with its CRLF.
    pub(crate) line: &'a [u8],
}

/// The lines of a head, one after the other, with limits.
///
/// Whatever part of a head has arrived, a verdict on it stays the same when more arrives: a line's length is judged
/// before its content, and content only once the line is complete.
pub(crate) struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    section_end: usize,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, section_end: usize::MAX }
    }

    /// Where the next line begins.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// The line that [`Lines::next`] gave last, with its CRLF.
    pub(crate) fn last(&self, line: &[u8]) -> &'a [u8] {
        &self.bytes[self.at - line.len() - 2..self.at]
    }

    /// From here on, no line may end after so many further bytes.
    pub(crate) fn limit_section(&mut self, section: usize) {
        self.section_end = self.at.saturating_add(section);
    }

    /// The next line, if it is a field as nearly all are: complete, `name: value` with one space, nothing but plain bytes in
    /// the value and no white space around it, within the limits. It says nothing about any other line, and takes none.
    #[inline]
    pub(crate) fn next_plain(&mut self, limit: usize) -> Option<PlainField<'a>> {
        let rest = &self.bytes[self.at..];
        let name = &rest[..colon(rest)?];
        let id = HeaderName::recognise(name);
        if id == HeaderName::Other && !is_token(name) {
            // A name that is known is a token.
            return None;
        }
        let value = rest[name.len()..].strip_prefix(b": ")?;
        let value = &value[..plain_length(value)];
        let line_len = name.len() + 2 + value.len();
        let surrounded = matches!(value, [b' ', ..] | [.., b' ']);
        if surrounded
            || line_len > limit
            || self.at + line_len + 1 >= self.section_end
            || !rest[line_len..].starts_with(b"\r\n")
        {
            return None;
        }
        self.at += line_len + 2;
        Some(PlainField { id, name, value, line: &rest[..line_len + 2] })
    }

    /// The next line without its CRLF, `None` when it has not arrived as a whole. `too_long` is the error for a line
    /// of more than `limit` bytes.
    #[inline]
    pub(crate) fn next(&mut self, limit: usize, too_long: HeadError) -> Result<Option<&'a [u8]>, HeadError> {
        let rest = &self.bytes[self.at..];
        let window = &rest[..rest.len().min(limit.saturating_add(2))];
        let Some(end) = memchr(b'\n', window) else {
            return if window.len() == limit.saturating_add(2) {
                Err(too_long)
            } else if self.bytes.len() > self.section_end {
                Err(HeadError::HeadersTooLarge)
            } else {
                Ok(None)
            };
        };
        if self.at + end >= self.section_end {
            return Err(HeadError::HeadersTooLarge);
        }
        if end == 0 || window[end - 1] != b'\r' {
            return Err(HeadError::BareLineFeed);
        }
        self.at += end + 1;
        Ok(Some(&window[..end - 1]))
    }
}
