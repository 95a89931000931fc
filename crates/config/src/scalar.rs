//! Scalars to numbers, booleans, names and bytes, as protobuf's JSON reads them.
//!
//! Each function returns the value, or a finding without a place; `field.rs` adds the place.

use meshwright_model::Diagnostic;

use crate::duration::{self, DurationError};
use crate::node::{Scalar, is_boolean, is_number, shorten};
use crate::record::Data;
use crate::table::Words;
use crate::text::{listed, nearest};

/// A string. A plain number or boolean is refused, because Istio refuses it too.
pub(crate) fn text(scalar: &Scalar) -> Result<Data, Box<Diagnostic>> {
    let text = &scalar.text;
    if !scalar.quoted && (is_boolean(text) || is_number(text)) {
        let what = if is_boolean(text) { "boolean" } else { "number" };
        let finding = Diagnostic::error("wrong-type", format!("expected a string, found the {what} {}", shorten(text)))
            .with_allowed("a string")
            .with_suggestion(format!("put it in quotes: \"{}\"", shorten(text)));
        return Err(Box::new(finding));
    }
    Ok(Data::Text(text.clone()))
}

/// `true` or `false`.
pub(crate) fn boolean(scalar: &Scalar) -> Result<Data, Box<Diagnostic>> {
    if !scalar.quoted && is_boolean(&scalar.text) {
        return Ok(Data::Boolean(scalar.text.eq_ignore_ascii_case("true")));
    }
    let truth = match scalar.text.to_ascii_lowercase().as_str() {
        "yes" | "y" | "on" | "1" | "true" => "true",
        "no" | "n" | "off" | "0" | "false" => "false",
        _ => "true or false",
    };
    let message = format!("expected true or false, found `{}`", shorten(&scalar.text));
    let finding = Diagnostic::error("wrong-type", message)
        .with_allowed("true or false")
        .with_suggestion(format!("write {truth} without quotes"));
    Err(Box::new(finding))
}

/// A whole number within limits, also as a string or with a fraction of zero.
pub(crate) fn whole(scalar: &Scalar, least: i64, most: i64) -> Result<i64, Box<Diagnostic>> {
    let text = scalar.text.trim();
    let refuse = |message: String, suggestion: String| {
        let finding = Diagnostic::error("wrong-type", message)
            .with_allowed(format!("a whole number from {least} to {most}"))
            .with_suggestion(suggestion);
        Err(Box::new(finding))
    };
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let base = digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if base {
        let message = format!("`{}` is not a plain decimal number", shorten(text));
        return refuse(
            message,
            "write it in decimal, without leading zeros (YAML versions read them differently)".into(),
        );
    }
    let value = match text.parse::<i64>() {
        Ok(value) => value,
        Err(_) => match text.parse::<f64>() {
            Ok(number) if number.fract() == 0.0 && number.abs() < 9e15 && is_number(text) => number as i64,
            _ => {
                let message = format!("expected a whole number, found `{}`", shorten(text));
                return refuse(message, "write a whole number such as 8080".into());
            }
        },
    };
    if value < least || value > most {
        let nearest = value.clamp(least, most);
        return refuse(format!("{value} must be in the range {least}..{most}"), format!("for example {nearest}"));
    }
    Ok(value)
}

/// Any finite number, also as a string.
pub(crate) fn number(scalar: &Scalar) -> Result<Data, Box<Diagnostic>> {
    match scalar.text.trim().parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(Data::Number(value)),
        _ => {
            let message = format!("expected a number, found `{}`", shorten(&scalar.text));
            let finding = Diagnostic::error("wrong-type", message)
                .with_allowed("a number such as 12.5")
                .with_suggestion("write a number without unit");
            Err(Box::new(finding))
        }
    }
}

/// A duration; zero only where it means something.
pub(crate) fn duration(scalar: &Scalar, zero: bool) -> Result<Data, Box<Diagnostic>> {
    let text = scalar.text.trim();
    let allowed = match zero {
        true => "0s, or at least 1ms in whole milliseconds, written with units: 1h, 1m, 1s, 1ms, 1.5s",
        false => "at least 1ms in whole milliseconds, written with units: 1h, 1m, 1s, 1ms, 1.5s",
    };
    let shown = shorten(text);
    let (message, suggestion) = match duration::parse(text) {
        Ok(value) if zero || !value.is_zero() => return Ok(Data::Duration(value)),
        Ok(_) => ("duration must be greater than 1ms".to_owned(), "write at least 1ms, or leave the field out".into()),
        Err(DurationError::TooShort) => ("duration must be greater than 1ms".to_owned(), "write at least 1ms".into()),
        Err(DurationError::TooFine) => {
            ("only durations to ms precision are supported".to_owned(), "round it to whole milliseconds".into())
        }
        Err(DurationError::NoUnit) => {
            (format!("invalid duration: {shown} (a number without a unit)"), format!("write {shown}s"))
        }
        Err(DurationError::Invalid) => {
            (format!("invalid duration: {shown}"), "write for example 5s, 250ms or 1m30s".to_owned())
        }
    };
    Err(Box::new(Diagnostic::error("duration", message).with_allowed(allowed).with_suggestion(suggestion)))
}

/// A name of a closed set, by name or by number.
pub(crate) fn word(scalar: &Scalar, words: &'static Words) -> Result<Data, Box<Diagnostic>> {
    let text = &*scalar.text;
    let by_name = words.values.iter().find(|(name, _)| *name == text);
    let by_number = || {
        let number = text.parse::<i64>().ok().filter(|_| !scalar.quoted)?;
        words.values.iter().find(|(_, value)| *value == number)
    };
    if let Some((name, _)) = by_name.or_else(by_number) {
        return Ok(Data::Word(name));
    }
    let names: Vec<&str> = words.values.iter().map(|(name, _)| *name).collect();
    let mut finding = Diagnostic::error("unknown-value", format!("invalid {} {:?}", words.what, shorten(text)))
        .with_allowed(listed(&names));
    let same = names.iter().copied().find(|name| name.eq_ignore_ascii_case(text));
    if let Some(name) = same.or_else(|| nearest(text, names.iter().copied())) {
        finding = finding.with_suggestion(format!("did you mean {name}?"));
    }
    Err(Box::new(finding))
}

/// Base64 (RFC 4648, standard or URL alphabet, padding optional), as protobuf's JSON reads it.
pub(crate) fn base64(scalar: &Scalar) -> Result<Data, Box<Diagnostic>> {
    let refuse = || {
        let finding = Diagnostic::error("wrong-type", "expected base64")
            .with_allowed("letters, digits, `+`, `/` and padding by `=`")
            .with_suggestion("encode the bytes with `base64`, or use the string form of the field");
        Box::new(finding)
    };
    base64_bytes(&scalar.text).map(Data::Bytes).ok_or_else(refuse)
}

/// Base64 decoded, with or without padding, in either alphabet of RFC 4648; `None` for anything else.
pub(crate) fn base64_bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let mut buffer: u32 = 0;
    let mut bits = 0;
    for byte in digits.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        buffer = (buffer << 6) | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(((buffer >> bits) & 0xff) as u8);
        }
    }
    (digits.len() % 4 != 1).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    fn plain(text: &str) -> Scalar {
        Scalar { text: Rc::from(text), quoted: false }
    }

    fn quoted(text: &str) -> Scalar {
        Scalar { text: Rc::from(text), quoted: true }
    }

    #[test]
    fn whole_numbers_are_read_as_json_of_protobuf_has_them() {
        assert_eq!(whole(&plain("8080"), 0, 65535).ok(), Some(8080));
        assert_eq!(whole(&quoted("8080"), 0, 65535).ok(), Some(8080));
        assert_eq!(whole(&plain("5.0"), 0, 10).ok(), Some(5));
        assert_eq!(whole(&plain("-1"), -10, 10).ok(), Some(-1));
        for bad in ["017", "0x1F", "abc", "1.5", "", "1e400", "99999999999999999999"] {
            assert!(whole(&plain(bad), 0, 100_000).is_err(), "{bad}");
        }
        assert!(whole(&plain("11"), 0, 10).is_err());
    }

    #[test]
    fn base64_is_decoded_and_nonsense_refused() {
        let decoded = |text: &str| match base64(&quoted(text)) {
            Ok(Data::Bytes(bytes)) => Some(bytes),
            _ => None,
        };
        assert_eq!(decoded("aGVsbG8=").as_deref(), Some(b"hello".as_slice()));
        assert_eq!(decoded("aGVsbG8").as_deref(), Some(b"hello".as_slice()));
        assert_eq!(decoded("_-8").as_deref(), Some([0xff, 0xef].as_slice()));
        assert_eq!(decoded("a"), None);
        assert_eq!(decoded("a b"), None);
    }

    #[test]
    fn an_unquoted_number_is_no_string() {
        assert!(text(&plain("1.10")).is_err());
        assert!(text(&plain("true")).is_err());
        assert!(text(&quoted("1.10")).is_ok());
        assert!(text(&plain("v1")).is_ok());
        assert!(text(&plain("10.0.0.1")).is_ok());
    }
}
