//! What endpoints say of their own load in the header of an answer: `x-meshwright-load: in-flight=3, latency-us=1500`. Read
//! only for policies that want it. Read next: `view.rs`, which passes it on.

use std::time::Duration;

use meshwright_message::ResponseHead;

/// The header, in answers of endpoints.
const NAME: &str = "x-meshwright-load";

/// Takes the report out of an answer: it is meant for us and not for the client.
pub(crate) fn take(head: &mut ResponseHead) -> Option<(u32, Duration)> {
    let report = parse(head.headers.get(NAME)?);
    head.headers.remove(NAME.as_bytes());
    report
}

/// Both parts must be there; others are left for later versions.
fn parse(value: &[u8]) -> Option<(u32, Duration)> {
    let text = std::str::from_utf8(value).ok()?;
    let part = |name: &str| {
        let parts = text.split(',').map(str::trim);
        parts.filter_map(|part| part.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let in_flight = part("in-flight")?.parse().ok()?;
    Some((in_flight, Duration::from_micros(part("latency-us")?.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_both_parts_and_does_not_go_on_to_the_client() {
        assert_eq!(parse(b"in-flight=3, latency-us=1500"), Some((3, Duration::from_micros(1_500))));
        assert_eq!(parse(b"latency-us=7,cpu=0.5,in-flight=0"), Some((0, Duration::from_micros(7))));
        for bad in
            [&b"in-flight=3"[..], b"in-flight=-1, latency-us=1", b"", b"\xff", b"in-flight=99999999999, latency-us=1"]
        {
            assert_eq!(parse(bad), None);
        }
        let mut head = ResponseHead::default();
        head.headers.push(NAME.as_bytes(), b"in-flight=3, latency-us=1500");
        assert!(take(&mut head).is_some());
        assert!(head.headers.is_empty());
    }
}
