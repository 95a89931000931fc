//! How long a request may take, and how much of it the next hop is told: `grpc-timeout` of gRPC, and for every request
//! `x-envoy-expected-rq-timeout-ms`, which Envoy writes. Both shrink from try to try and from hop to hop.
//!
//! A client from outside cannot set the second: a gateway has removed it by then (`admit.rs`). Costs a look for the header,
//! and where a deadline holds one header written for each try. Read next: `again.rs`.

use std::time::{Duration, Instant};

use meshwright_message::{HeaderName, RequestHead};
use meshwright_wire::Deadlines;

use crate::grpc;

/// How the lines begin in a written head.
const EXPECTED: &[u8] = b"\r\nx-envoy-expected-rq-timeout-ms: ";
const OF_CALL: &[u8] = b"\r\ngrpc-timeout: ";

/// Sets the end of a request that began then, by the time of the route and of a try, and by what the caller allows; tells
/// the next hop.
pub(crate) fn begin(
    deadlines: &mut Deadlines,
    head: &mut RequestHead,
    is_grpc: bool,
    (of_route, of_try): (Option<Duration>, Option<Duration>),
    began: Instant,
) {
    match (asked(head, is_grpc), of_route) {
        (Some(asked), most) => {
            deadlines.route = began.checked_add(most.map_or(asked, |most| most.min(asked)));
        }
        (None, Some(timeout)) if head.body.is_empty() => deadlines.route = began.checked_add(timeout),
        (None, after_upload) => deadlines.after_upload = after_upload,
    }
    tell(head, is_grpc, left(deadlines, of_try, began));
}

/// What the caller allows.
fn asked(head: &RequestHead, is_grpc: bool) -> Option<Duration> {
    let of_hop = head.headers.known(HeaderName::XEnvoyExpectedRqTimeoutMs).and_then(millis);
    let of_call = if is_grpc { grpc::timeout(head) } else { None };
    of_hop.into_iter().chain(of_call).min()
}

/// A number of milliseconds; 0 is none in Envoy's headers.
fn millis(value: &[u8]) -> Option<Duration> {
    let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok().filter(|millis| *millis > 0).map(Duration::from_millis)
}

/// The time that is left for a try; `None` is without end.
pub(crate) fn left(deadlines: &Deadlines, of_try: Option<Duration>, now: Instant) -> Option<Duration> {
    let of_route = deadlines.route.map(|over| over.saturating_duration_since(now));
    of_route.into_iter().chain(deadlines.after_upload).chain(of_try).min()
}

/// Writes the time that is left into the head.
pub(crate) fn tell(head: &mut RequestHead, is_grpc: bool, left: Option<Duration>) {
    let Some(left) = left else { return };
    head.headers.set_known(HeaderName::XEnvoyExpectedRqTimeoutMs, number(left).as_bytes());
    if is_grpc {
        head.headers.set("grpc-timeout", of_call(left).as_bytes());
    }
}

/// Tells `replace`, which knows a written head, the lines and their values.
pub(crate) fn tell_written(left: Duration, is_grpc: bool, mut replace: impl FnMut(&[u8], &[u8])) {
    replace(EXPECTED, number(left).as_bytes());
    if is_grpc {
        replace(OF_CALL, of_call(left).as_bytes());
    }
}

/// A time of 0 would be no limit.
fn number(left: Duration) -> String {
    left.as_millis().max(1).to_string()
}

/// At most eight digits and a unit, as gRPC wants it.
fn of_call(left: Duration) -> String {
    match left.as_millis().max(1) {
        millis @ ..100_000_000 => format!("{millis}m"),
        _ => format!("{}S", left.as_secs().min(99_999_999)),
    }
}

#[cfg(test)]
mod tests {
    use meshwright_message::BodyLength;

    use super::*;

    fn begun(
        headers: &[(&str, &str)],
        of_route: Option<u64>,
        of_try: Option<u64>,
    ) -> (Deadlines, RequestHead, Instant) {
        let mut head = RequestHead::default();
        headers.iter().for_each(|(name, value)| head.headers.push(name.as_bytes(), value.as_bytes()));
        let (mut deadlines, began) = (Deadlines::default(), Instant::now());
        let times = (of_route.map(Duration::from_millis), of_try.map(Duration::from_millis));
        begin(&mut deadlines, &mut head, true, times, began);
        (deadlines, head, began)
    }

    fn told(head: &RequestHead) -> Option<&str> {
        let value = head.headers.known(HeaderName::XEnvoyExpectedRqTimeoutMs)?;
        std::str::from_utf8(value).ok()
    }

    #[test]
    fn the_shortest_of_all_times_holds_and_is_told() {
        let hop = |value: &'static str| [("x-envoy-expected-rq-timeout-ms", value), ("grpc-timeout", "5S")];
        for (headers, of_route, of_try, route, expected) in [
            (hop("900").as_slice(), None, None, Some(900), Some("900")),
            (hop("900").as_slice(), Some(700), None, Some(700), Some("700")),
            (hop("9000").as_slice(), Some(7000), None, Some(5000), Some("5000")),
            (hop("900").as_slice(), Some(700), Some(200), Some(700), Some("200")),
            (&[], Some(700), None, Some(700), Some("700")),
            (&[], None, Some(200), None, Some("200")),
            (&[], None, None, None, None),
        ] {
            let (deadlines, head, began) = begun(headers, of_route, of_try);
            assert_eq!(deadlines.route, route.map(|millis| began + Duration::from_millis(millis)), "{headers:?}");
            assert_eq!(told(&head), expected, "{headers:?} {of_route:?}");
            assert_eq!(head.headers.get("grpc-timeout").is_some(), expected.is_some());
        }
    }

    #[test]
    fn what_is_no_time_says_nothing() {
        for nonsense in ["", "0", "-1", "1.5", "1s", "99999999999999999999999"] {
            let (deadlines, _, _) = begun(&[("x-envoy-expected-rq-timeout-ms", nonsense)], None, None);
            assert_eq!(deadlines.route, None, "{nonsense}");
        }
    }

    #[test]
    fn a_request_with_a_body_has_its_time_from_its_end() {
        let mut head = RequestHead { body: BodyLength::Sized(3), ..RequestHead::default() };
        let (mut deadlines, began) = (Deadlines::default(), Instant::now());
        let time = Duration::from_millis(700);
        begin(&mut deadlines, &mut head, false, (Some(time), None), began);
        assert_eq!((deadlines.route, deadlines.after_upload), (None, Some(time)));
        assert_eq!((told(&head), head.headers.get("grpc-timeout")), (Some("700"), None));
    }

    #[test]
    fn less_than_a_millisecond_and_more_than_eight_digits_have_a_spelling() {
        let spelled = |left: Duration| (number(left), of_call(left));
        assert_eq!(spelled(Duration::ZERO), ("1".to_owned(), "1m".to_owned()));
        assert_eq!(spelled(Duration::from_secs(99_999)).1, "99999000m");
        assert_eq!(spelled(Duration::from_secs(100_000)).1, "100000S");
        assert_eq!(spelled(Duration::MAX).1, "99999999S");
    }
}
