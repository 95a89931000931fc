//! What a shared cache may keep and for how long it may be used (RFC 9111, RFC 5861); stricter than the RFCs where being wrong would
//! show one client the answer of another. Nothing is kept here, and there is no clock.
//!
//! Read next: `crates/traffic/src/kept.rs`, where answers are kept.

use std::time::{Duration, SystemTime};

use meshwright_message::{HeaderName, Method, RequestHead, ResponseHead};

/// Times beyond this are read as this (RFC 9111, section 1.2.2).
const LONGEST: u64 = 1 << 31;

/// How long an answer may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// How old the answer was when it came: its `Age`.
    pub age: Duration,
    /// It is fresh up to this age: `s-maxage`, else `max-age`, else `Expires` less `Date`; `None` when it says nothing.
    pub fresh: Option<Duration>,
    /// How much longer it may stand in for an error: `stale-if-error`, nothing where the answer has to be validated once it is
    /// stale; `None` when it says nothing.
    pub stale_if_error: Option<Duration>,
}

impl Lifetime {
    /// For how long after it came the answer may stand in for an error; `unsaid` holds where it does not say how long when stale.
    pub fn in_errors(&self, unsaid: Duration) -> Duration {
        let fresh = self.fresh.unwrap_or_default();
        fresh.saturating_add(self.stale_if_error.unwrap_or(unsaid)).saturating_sub(self.age)
    }

    /// Whether so long after it came it may answer other requests that were there before it (RFC 9111, section 4): it is fresh, or
    /// does not say for how long it is.
    pub fn is_fresh_after(&self, passed: Duration) -> bool {
        self.fresh.is_none_or(|fresh| self.age.saturating_add(passed) < fresh)
    }
}

/// Whether the answer to this request may be one for everybody: a GET of a whole thing, without a body and without anything that
/// says who asks.
pub fn is_shareable(request: &RequestHead) -> bool {
    let headers = &request.headers;
    let is_personal = headers.has(HeaderName::Authorization)
        || headers.has(HeaderName::ProxyAuthorization)
        || headers.has(HeaderName::Cookie)
        || headers.get("x-forwarded-client-cert").is_some();
    let mut forbidden = false;
    let understood = each_directive(headers.values("cache-control"), |name, _| {
        forbidden |= name.eq_ignore_ascii_case(b"no-store");
    });
    request.method == Method::Get
        && request.body.is_empty()
        && request.upgrade.is_none()
        && !is_personal
        && headers.get("range").is_none()
        && understood
        && !forbidden
}

/// Whether the client asks for an answer under a condition (RFC 9110, section 13.1), such as that it does not have it already.
pub fn is_conditional(request: &RequestHead) -> bool {
    let names = ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"];
    names.iter().any(|name| request.headers.get(name).is_some())
}

/// Whether the client takes an answer that was kept: it does not ask for one that is validated or of some freshness.
pub fn takes_kept(request: &RequestHead) -> bool {
    let mut refused = request.headers.get("pragma").is_some();
    let understood = each_directive(request.headers.values("cache-control"), |name, _| {
        let words: [&[u8]; 4] = [b"no-cache", b"no-store", b"max-age", b"min-fresh"];
        refused |= words.iter().any(|word| name.eq_ignore_ascii_case(word));
    });
    understood && !refused
}

/// How long the answer to a shareable request may be used; `None` when it may not be kept. Answers that have a `Vary`, a coding or
/// trailers are not kept, whatever the request was. `came` is the time of day when it came, which stands for a `Date` that is
/// missing; else the clock of whoever answered is not compared with ours.
pub fn lifetime(response: &ResponseHead, came: SystemTime) -> Option<Lifetime> {
    let headers = &response.headers;
    let differs = ["vary", "content-encoding", "content-range"].iter().any(|name| headers.get(name).is_some());
    if response.status != 200 || differs || headers.has(HeaderName::SetCookie) || headers.has(HeaderName::Trailer) {
        return None;
    }
    let (mut max_age, mut shared_max_age, mut stale_if_error) = (None, None, None);
    let (mut forbidden, mut validated) = (false, false);
    let understood = each_directive(headers.values("cache-control"), |name, argument| {
        let read = |into: &mut Option<Duration>| {
            let time = seconds(argument).unwrap_or(Duration::ZERO);
            *into = Some(into.map_or(time, |before| before.min(time)));
        };
        match name.to_ascii_lowercase().as_slice() {
            b"no-store" | b"no-cache" | b"private" => forbidden = true,
            b"must-revalidate" | b"proxy-revalidate" => validated = true,
            // It stands for proxy-revalidate too (RFC 9111, section 5.2.2.10).
            b"s-maxage" => {
                validated = true;
                read(&mut shared_max_age);
            }
            b"max-age" => read(&mut max_age),
            b"stale-if-error" => read(&mut stale_if_error),
            _ => {}
        }
    });
    if forbidden || !understood {
        return None;
    }
    let age = match headers.get("age") {
        Some(value) => seconds(Some(value))?,
        None => Duration::ZERO,
    };
    let stale_if_error = if validated { Some(Duration::ZERO) } else { stale_if_error };
    let fresh = shared_max_age.or(max_age).or_else(|| expires(response, came));
    Some(Lifetime { age, fresh, stale_if_error })
}

/// The time from `Date` to `Expires`, where there is one (RFC 9111, section 5.3): nothing when it is no date, or said twice.
fn expires(response: &ResponseHead, came: SystemTime) -> Option<Duration> {
    let mut values = response.headers.values("expires");
    let until = date(values.next()?).filter(|_| values.next().is_none());
    let from = response.headers.known(HeaderName::Date).and_then(date).unwrap_or(came);
    Some(until.and_then(|until| until.duration_since(from).ok()).unwrap_or_default())
}

fn date(value: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()
}

/// Whether a 304 answer speaks of the answer whose fields these are (RFC 9111, section 4.3.4): it has the same strong `ETag`;
/// without one, every validator that it has is the same. One without validators speaks of none.
pub fn is_about(not_modified: &ResponseHead, kept: &[(Vec<u8>, Vec<u8>)]) -> bool {
    let of_kept = |name: &str| {
        kept.iter().find(|field| field.0.eq_ignore_ascii_case(name.as_bytes())).map(|field| field.1.as_slice())
    };
    let tag = not_modified.headers.get("etag");
    let modified = not_modified.headers.get("last-modified");
    match (tag, modified) {
        (Some(tag), _) if !tag.starts_with(b"W/") => of_kept("etag") == Some(tag),
        (None, None) => false,
        (tag, modified) => {
            tag.is_none_or(|tag| of_kept("etag").is_some_and(|kept| opaque(kept) == opaque(tag)))
                && modified.is_none_or(|modified| of_kept("last-modified") == Some(modified))
        }
    }
}

/// An `ETag` without the mark of a weak one.
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The head of an answer with these fields after a 304 that speaks of it: every field that the 304 has takes the place of those
/// of that name (RFC 9111, section 3.2).
pub fn freshened(kept: &[(Vec<u8>, Vec<u8>)], not_modified: &ResponseHead) -> ResponseHead {
    let mut head = ResponseHead { status: 200, ..ResponseHead::default() };
    let stays = |name: &[u8]| !not_modified.headers.iter().any(|(_, new, _)| new.eq_ignore_ascii_case(name));
    for (name, value) in kept.iter().filter(|field| stays(&field.0)) {
        head.headers.push(name, value);
    }
    for (id, name, value) in not_modified.headers.iter() {
        head.headers.push_field(id, name, value);
    }
    head
}

fn seconds(argument: Option<&[u8]>) -> Option<Duration> {
    let digits = argument?;
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, digit: &u8| (sum * 10 + u64::from(digit - b'0')).min(LONGEST);
    Some(Duration::from_secs(digits.iter().fold(0, add)))
}

/// Gives every directive with its argument, quotes taken off; false when a quote does not end.
fn each_directive<'a>(
    values: impl Iterator<Item = &'a [u8]>,
    mut each: impl FnMut(&'a [u8], Option<&'a [u8]>),
) -> bool {
    for value in values {
        let (mut quoted, mut escaped) = (false, false);
        let mut parts = value.split(|byte| {
            let was_escaped = std::mem::take(&mut escaped);
            match byte {
                _ if was_escaped => {}
                b'\\' => escaped = quoted,
                b'"' => quoted = !quoted,
                b',' => return !quoted,
                _ => {}
            }
            false
        });
        for part in &mut parts {
            let mut sides = part.splitn(2, |byte| *byte == b'=');
            let name = sides.next().unwrap_or_default().trim_ascii();
            let argument = sides.next().map(<[u8]>::trim_ascii);
            let unquoted =
                argument.map(|text| text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text));
            if !name.is_empty() {
                each(name, unquoted);
            }
        }
        if quoted {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(fields: &[(&str, &str)]) -> ResponseHead {
        let mut head = ResponseHead { status: 200, ..ResponseHead::default() };
        for (name, value) in fields {
            head.headers.push(name.as_bytes(), value.as_bytes());
        }
        head
    }

    /// An answer that came at the time of RFC 9110's examples.
    fn came() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)
    }

    fn life(fields: &[(&str, &str)]) -> Option<Lifetime> {
        lifetime(&answer(fields), came())
    }

    fn request(fields: &[(&str, &str)]) -> RequestHead {
        let mut head = RequestHead { method: Method::Get, ..RequestHead::default() };
        for (name, value) in fields {
            head.headers.push(name.as_bytes(), value.as_bytes());
        }
        head
    }

    #[test]
    fn what_differs_from_client_to_client_is_not_kept() {
        let fields = [
            ("Vary", "accept"),
            ("vary", "*"),
            ("set-cookie", "a=b"),
            ("content-encoding", "gzip"),
            ("content-range", "bytes 0-1/2"),
            ("trailer", "x"),
            ("cache-control", "max-age=9, No-Store"),
            ("cache-control", "private=\"x-a, x-b\""),
            ("cache-control", "no-cache"),
            ("cache-control", "max-age=9, x=\"open"),
            ("age", "young"),
        ];
        for field in fields {
            assert_eq!(life(&[field]), None, "{field:?}");
        }
        assert_eq!(lifetime(&ResponseHead { status: 206, ..answer(&[]) }, came()), None);
        for name in ["authorization", "proxy-authorization", "cookie", "range", "x-forwarded-client-cert"] {
            assert!(!is_shareable(&request(&[(name, "x")])), "{name}");
        }
        assert!(!is_shareable(&RequestHead { method: Method::Head, ..request(&[]) }));
        assert!(is_shareable(&request(&[("accept", "*/*")])));
    }

    #[test]
    fn times_are_those_of_the_directives() {
        let of = |control: &str| {
            life(&[("cache-control", control)]).map(|life| life.in_errors(Duration::from_secs(1000)).as_secs())
        };
        assert_eq!(of("max-age=5"), Some(1005));
        assert_eq!(of("max-age=\"5\", stale-if-error=7"), Some(12));
        assert_eq!(of("max-age=5, max-age=3, stale-if-error=1"), Some(4));
        assert_eq!(of("max-age=x, stale-if-error=1"), Some(1));
        assert_eq!(of("max-age=5, s-maxage=2, stale-if-error=7"), Some(2));
        assert_eq!(of("must-revalidate, max-age=5, stale-if-error=7"), Some(5));
        assert_eq!(of("x=\"a,no-store\""), Some(1000), "a word in quotes is no directive");
        let old = life(&[("age", "4"), ("cache-control", "max-age=5, stale-if-error=0")]);
        assert_eq!(old.map(|life| life.in_errors(Duration::ZERO).as_secs()), Some(1));
    }

    #[test]
    fn what_is_stale_when_it_comes_answers_nobody_else() {
        let fresh = |fields: &[(&str, &str)], passed: u64| {
            life(fields).is_some_and(|life| life.is_fresh_after(Duration::from_secs(passed)))
        };
        let control = |value: &'static str| [("cache-control", value)];
        assert!(fresh(&[], 99) && fresh(&control("stale-if-error=0"), 0));
        assert!(fresh(&control("max-age=5"), 4) && !fresh(&control("max-age=5"), 5));
        assert!(!fresh(&control("max-age=0"), 0) && !fresh(&[("expires", "0")], 0));
        assert!(!fresh(&[("age", "3"), ("cache-control", "max-age=5")], 2));
    }

    #[test]
    fn a_condition_is_any_of_five_fields() {
        for name in ["If-Match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"] {
            assert!(is_conditional(&request(&[(name, "x")])), "{name}");
        }
        assert!(!is_conditional(&request(&[("if", "x")])));
    }

    #[test]
    fn expires_counts_from_the_date_where_nothing_else_is_said() {
        let fresh = |fields: &[(&str, &str)]| life(fields).map(|life| life.fresh.map(|fresh| fresh.as_secs()));
        let expires = ("expires", "Sun, 06 Nov 1994 08:49:47 GMT");
        assert_eq!(fresh(&[]), Some(None));
        assert_eq!(fresh(&[expires]), Some(Some(10)), "without a date it counts from when it came");
        assert_eq!(fresh(&[expires, ("date", "Sun, 06 Nov 1994 08:49:00 GMT")]), Some(Some(47)));
        assert_eq!(fresh(&[expires, ("date", "Mon, 07 Nov 1994 08:49:00 GMT")]), Some(Some(0)));
        assert_eq!(fresh(&[("expires", "Sunday, 06-Nov-94 08:49:38 GMT")]), Some(Some(1)), "the old spelling");
        for nothing in [&[("expires", "0")][..], &[expires, expires]] {
            assert_eq!(fresh(nothing), Some(Some(0)), "{nothing:?}");
        }
        assert_eq!(fresh(&[expires, ("cache-control", "max-age=3")]), Some(Some(3)));
        assert_eq!(fresh(&[expires, ("cache-control", "s-maxage=2")]), Some(Some(2)));
        assert_eq!(fresh(&[expires, ("cache-control", "public")]), Some(Some(10)));
    }

    #[test]
    fn a_304_speaks_of_the_answer_with_its_validator_and_of_no_other() {
        let is_about = |of_304: &[(&str, &str)], kept: &[(&str, &str)]| {
            let kept: Vec<_> = kept.iter().map(|(name, value)| (name.as_bytes().to_vec(), (*value).into())).collect();
            is_about(&ResponseHead { status: 304, ..answer(of_304) }, &kept)
        };
        let (one, other, weak) = (("etag", "\"1\""), ("ETag", "\"2\""), ("etag", "W/\"1\""));
        let (monday, tuesday) = (("last-modified", "Mon"), ("Last-Modified", "Tue"));
        assert!(is_about(&[one], &[one]) && is_about(&[one, tuesday], &[one, monday]));
        assert!(!is_about(&[one], &[other]) && !is_about(&[one], &[weak]) && !is_about(&[one], &[]));
        assert!(is_about(&[weak], &[one]) && is_about(&[weak], &[weak]) && !is_about(&[weak], &[other]));
        assert!(!is_about(&[weak, monday], &[one, tuesday]) && !is_about(&[weak, monday], &[one]));
        assert!(is_about(&[monday], &[monday]) && !is_about(&[monday], &[tuesday]) && !is_about(&[monday], &[]));
        assert!(!is_about(&[], &[]) && !is_about(&[], &[one]), "who names nothing speaks of nothing");
    }

    #[test]
    fn what_a_304_says_takes_the_place_of_what_was_said_before() {
        let kept = [("Cache-Control", "max-age=1"), ("x-a", "1"), ("x-b", "1"), ("X-A", "2")];
        let kept = kept.map(|(name, value)| (name.into(), value.into()));
        let head = freshened(&kept, &answer(&[("cache-control", "max-age=9"), ("X-a", "3")]));
        let fields: Vec<_> = head.headers.iter().map(|(_, name, value)| (name, value)).collect();
        assert_eq!(fields, [(&b"x-b"[..], &b"1"[..]), (b"cache-control", b"max-age=9"), (b"X-a", b"3")]);
        assert_eq!(lifetime(&head, came()).and_then(|life| life.fresh), Some(Duration::from_secs(9)));
        assert_eq!(lifetime(&freshened(&kept, &answer(&[("vary", "accept")])), came()), None);
    }

    #[test]
    fn a_client_that_asks_for_a_validated_answer_takes_none_that_was_kept() {
        for value in ["no-cache", "max-age=0", "x, min-fresh=3"] {
            assert!(!takes_kept(&request(&[("cache-control", value)])), "{value}");
        }
        assert!(takes_kept(&request(&[("cache-control", "max-stale=5")])));
    }

    proptest! {
        #[test]
        fn no_store_forbids_wherever_it_stands(
            before in "[a-z=0-9, -]{0,20}", after in "[ -~]{0,20}", upper in any::<bool>(),
        ) {
            let word = if upper { "NO-STORE" } else { "no-store" };
            let value = format!("{before},{word},{after}");
            prop_assert_eq!(life(&[("cache-control", &value)]), None);
            prop_assert!(!is_shareable(&request(&[("cache-control", &value)])));
        }
    }
}
