//! How a gRPC call ends, and how much time it has: `grpc-status`, `grpc-message`, `grpc-timeout`.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

/// A status code of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(u16);

/// The names of the codes, in their order.
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

#[allow(missing_docs, reason = "the names are those of the gRPC documentation")]
impl Code {
    pub const OK: Self = Self(0);
    pub const CANCELLED: Self = Self(1);
    pub const INVALID_ARGUMENT: Self = Self(3);
    pub const DEADLINE_EXCEEDED: Self = Self(4);
    pub const NOT_FOUND: Self = Self(5);
    pub const RESOURCE_EXHAUSTED: Self = Self(8);
    pub const UNIMPLEMENTED: Self = Self(12);
    pub const INTERNAL: Self = Self(13);
    pub const UNAVAILABLE: Self = Self(14);

    /// Reads a number or a name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let numbered = text.parse::<usize>().ok().filter(|number| *number < NAMES.len());
        let named = || NAMES.iter().position(|name| name.eq_ignore_ascii_case(text));
        let number = numbered.or_else(named).and_then(|number| u16::try_from(number).ok());
        number
            .map(Self)
            .ok_or_else(|| format!("`{text}` is not a status; allowed are 0 to 16, or names such as UNAVAILABLE"))
    }
}

/// How a call ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    code: Code,
    message: Cow<'static, str>,
}

impl Status {
    /// The good end.
    pub const OK: Self = Self { code: Code::OK, message: Cow::Borrowed("") };

    /// An end with a sentence.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }

    /// Writes it as trailers have it; an empty message is left away.
    pub fn write(&self, fields: &mut HeaderMap) {
        fields.insert(HeaderName::from_static("grpc-status"), HeaderValue::from(self.code.0));
        if let Ok(message) = HeaderValue::from_str(&percent_encoded(&self.message))
            && !message.is_empty()
        {
            fields.insert(HeaderName::from_static("grpc-message"), message);
        }
    }
}

/// Everything but printable ASCII, and `%`, as `%XX`.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The time that a client gives: one to eight digits and a unit.
///
/// # Errors
/// It is not written like that.
pub fn timeout(metadata: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = metadata.get("grpc-timeout") else { return Ok(None) };
    let wrong =
        || Status::new(Code::INVALID_ARGUMENT, "grpc-timeout is one to eight digits and a unit of H, M, S, m, u, n");
    let [digits @ .., unit] = value.as_bytes() else { return Err(wrong()) };
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(wrong());
    }
    let number = digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Ok(Some(Duration::from_secs(number * 3600))),
        b'M' => Ok(Some(Duration::from_secs(number * 60))),
        b'S' => Ok(Some(Duration::from_secs(number))),
        b'm' => Ok(Some(Duration::from_millis(number))),
        b'u' => Ok(Some(Duration::from_micros(number))),
        b'n' => Ok(Some(Duration::from_nanos(number))),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_by_number_and_by_name() {
        assert_eq!(Code::parse("14"), Ok(Code::UNAVAILABLE));
        assert_eq!(Code::parse("not_found"), Ok(Code::NOT_FOUND));
        assert!(Code::parse("17").is_err() && Code::parse("FINE").is_err());
    }

    #[test]
    fn messages_are_percent_encoded() {
        let mut fields = HeaderMap::new();
        Status::new(Code::INTERNAL, "50 % \u{fc}ber\n").write(&mut fields);
        assert_eq!(fields["grpc-status"], "13");
        assert_eq!(fields["grpc-message"], "50 %25 %C3%BCber%0A");
        let mut fields = HeaderMap::new();
        Status::OK.write(&mut fields);
        assert_eq!((fields.len(), &fields["grpc-status"]), (1, &HeaderValue::from_static("0")));
    }

    #[test]
    fn timeouts_have_digits_and_a_unit() {
        let read = |text: &'static str| {
            let mut metadata = HeaderMap::new();
            metadata.insert("grpc-timeout", HeaderValue::from_static(text));
            timeout(&metadata).ok().flatten()
        };
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("7u"), Some(Duration::from_micros(7)));
        for wrong in ["", "5", "S", "123456789S", "-1S", "1s", "1.5S"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert_eq!(timeout(&HeaderMap::new()), Ok(None));
    }
}
