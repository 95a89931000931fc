//! What gRPC adds to HTTP: a status of its own, a deadline in a header, failures told in its way.
//!
//! Sources: the gRPC over HTTP/2 specification (`PROTOCOL-HTTP2.md`) and Envoy's documented behaviour for local replies.

use std::time::Duration;

use meshwright_message::{HeaderList, HeaderName, RequestHead, ResponseHead};
use meshwright_model::{Failure, Outcome};

/// Beginning of the media types of gRPC.
const MEDIA_TYPE: &[u8] = b"application/grpc";

/// Whether a request is a gRPC call, by its content type. gRPC-Web is not: its status stands in the body.
pub(crate) fn is_grpc(head: &RequestHead) -> bool {
    let Some(value) = head.headers.known(HeaderName::ContentType) else { return false };
    value.strip_prefix(MEDIA_TYPE).is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// The time that a call brings along. A value that is not as specified says nothing.
pub(crate) fn timeout(head: &RequestHead) -> Option<Duration> {
    parse_timeout(head.headers.get("grpc-timeout")?)
}

/// One to eight digits and a unit.
fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount = digits.iter().fold(0u64, |amount, digit| amount * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// `grpc-status` of a head or of trailers.
pub(crate) fn status(fields: &HeaderList) -> Option<u8> {
    std::str::from_utf8(fields.known(HeaderName::GrpcStatus)?).ok()?.parse().ok()
}

/// Makes an answer of ours out of a failure: 200 with nothing but a status and the reason, as a call that never had a body.
pub(crate) fn become_failure(head: &mut ResponseHead, outcome: &Outcome, failure: &Failure) {
    head.become_local(200, None, 0);
    head.headers.push_known(HeaderName::ContentType, MEDIA_TYPE);
    head.headers.push_known(HeaderName::GrpcStatus, outcome.grpc.to_string().as_bytes());
    head.headers.push(b"grpc-message", &percent_encoded(&failure.sentence()));
}

/// The text with every byte but the printable ones of ASCII, and `%`, as `%XX`.
fn percent_encoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            out.push(byte);
        } else {
            out.extend_from_slice(&[
                b'%',
                b"0123456789ABCDEF"[usize::from(byte >> 4)],
                b"0123456789ABCDEF"[usize::from(byte & 15)],
            ]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_read_as_specified_and_anything_else_says_nothing() {
        let read = |text: &str| parse_timeout(text.as_bytes());
        assert_eq!(read("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(read("2M"), Some(Duration::from_secs(120)));
        assert_eq!(read("3S"), Some(Duration::from_secs(3)));
        assert_eq!(read("100m"), Some(Duration::from_millis(100)));
        assert_eq!(read("5u"), Some(Duration::from_micros(5)));
        assert_eq!(read("99999999n"), Some(Duration::from_nanos(99_999_999)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for bad in ["", "S", "1", "-1S", "+1S", "123456789S", "99999999999H", "1s", "1 S", "0x1S"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn grpc_web_is_something_else() {
        let is = |media_type: &[u8]| {
            let mut head = RequestHead::default();
            head.headers.push_known(HeaderName::ContentType, media_type);
            is_grpc(&head)
        };
        assert!(is(b"application/grpc") && is(b"application/grpc+proto") && is(b"application/grpc; x=y"));
        assert!(!is(b"application/grpc-web") && !is(b"application/grpc-web-text") && !is(b"application/json"));
    }

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(percent_encoded("50% of \u{e4}\n"), b"50%25 of %C3%A4%0A");
    }
}
