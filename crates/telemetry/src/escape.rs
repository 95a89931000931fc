//! Bytes from the network made safe to read: one line stays one line, quotes cannot be forged, nothing steers a
//! terminal or turns the direction of text.
//!
//! It knows no record and no key; see `access_log.rs`.

use std::fmt;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// What a byte needs in the text format.
const TEXT_SAFE: [bool; 256] = safe_bytes();

/// Printable ASCII other than `"` and `\`.
const fn safe_bytes() -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0x20;
    while byte < 0x7f {
        table[byte] = byte != b'"' as usize && byte != b'\\' as usize;
        byte += 1;
    }
    table
}

/// What is done with a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    /// It stays: the value stands between quotes.
    Keep,
    /// `\x20`: the value ends at the next space.
    Escape,
    /// `_`, as Envoy does in response code details.
    Underscore,
}

/// Appends `value` in printable ASCII. `"` and `\` get a backslash; control bytes and those above 0x7e become `\xNN`.
pub(crate) fn push_text(out: &mut Vec<u8>, value: &[u8], space: Space) {
    let mut rest = value;
    loop {
        let plain = |byte: &u8| TEXT_SAFE[usize::from(*byte)] && (space == Space::Keep || *byte != b' ');
        let run = rest.iter().position(|byte| !plain(byte)).unwrap_or(rest.len());
        out.extend_from_slice(&rest[..run]);
        let Some((byte, after)) = rest[run..].split_first() else { return };
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b' ' if space == Space::Underscore => out.push(b'_'),
            other => out.extend_from_slice(&[b'\\', b'x', HEX[usize::from(other >> 4)], HEX[usize::from(other & 0xf)]]),
        }
        rest = after;
    }
}

/// Appends `value` as a JSON string, quotes included, in printable ASCII. Bytes that are not UTF-8 become U+FFFD.
pub(crate) fn push_json(out: &mut Vec<u8>, value: &[u8]) {
    out.push(b'"');
    let run = value.iter().position(|byte| !TEXT_SAFE[usize::from(*byte)]).unwrap_or(value.len());
    out.extend_from_slice(&value[..run]);
    for chunk in value[run..].utf8_chunks() {
        for character in chunk.valid().chars() {
            push_json_character(out, character);
        }
        if !chunk.invalid().is_empty() {
            push_json_character(out, char::REPLACEMENT_CHARACTER);
        }
    }
    out.push(b'"');
}

fn push_json_character(out: &mut Vec<u8>, character: char) {
    match character {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        ' '..='~' => out.extend(u8::try_from(character)),
        other => {
            for unit in other.encode_utf16(&mut [0; 2]) {
                out.extend_from_slice(b"\\u");
                out.extend([12, 8, 4, 0].map(|shift| HEX[usize::from((*unit >> shift) & 0xf)]));
            }
        }
    }
}

/// Shows bytes from the network in printable ASCII, escaped as in the text access log: for log messages and pages.
#[derive(Clone, Copy, Debug)]
pub struct Printable<'a>(pub &'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Vec::with_capacity(self.0.len());
        push_text(&mut out, self.0, Space::Keep);
        f.write_str(std::str::from_utf8(&out).expect("the text escape writes ASCII"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escape_sequences_and_direction_marks_become_visible() {
        assert_eq!(
            Printable("a\x1b[31m\r\n\u{202e}\"\\".as_bytes()).to_string(),
            r#"a\x1b[31m\x0d\x0a\xe2\x80\xae\"\\"#
        );
    }

    proptest! {
        #[test]
        fn escaped_text_is_printable_and_has_no_free_quote(value in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut out = Vec::new();
            push_text(&mut out, &value, Space::Escape);
            prop_assert!(out.iter().all(|byte| (0x21..0x7f).contains(byte)));
            let mut bytes = out.iter();
            while let Some(byte) = bytes.next() {
                prop_assert_ne!(*byte, b'"');
                if *byte == b'\\' {
                    prop_assert!(bytes.next().is_some());
                }
            }
        }

        #[test]
        fn json_strings_hold_what_was_given(value in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..80), any::<String>().prop_map(String::into_bytes)]) {
            let mut out = Vec::new();
            push_json(&mut out, &value);
            prop_assert!(out.iter().all(|byte| (0x20..0x7f).contains(byte)));
            let back: String = serde_json::from_slice(&out).expect("the string is valid JSON");
            prop_assert_eq!(back, String::from_utf8_lossy(&value));
        }
    }
}
