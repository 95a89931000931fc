//! Generated heads: what is written is read as the same, and no bytes whatever break the invariants.

use meshwright_codec::{Answered, HeadLimits, HeadScan, Progress, parse_request, write_request_head};
use meshwright_message::{BodyLength, HeaderList, Method, RequestHead};
use proptest::prelude::*;

use super::{fields, invariants};

fn header_list() -> impl Strategy<Value = HeaderList> {
    let name = "(x|Accept|User-Agent|X-[A-Z][a-z]{0,8}|cookie|!#\\$%&'\\*\\+-\\.\\^_`\\|~|grpc-status)";
    let value = prop_oneof![
        "[!-~]([ -~\t]{0,20}[!-~])?".prop_map(String::into_bytes),
        Just(Vec::new()),
        prop::collection::vec(0x80u8..=0xff, 1..6),
    ];
    prop::collection::vec((name, value), 0..12).prop_map(|pairs| {
        let mut list = HeaderList::new();
        for (name, value) in pairs {
            list.push(name.as_bytes(), &value);
        }
        list
    })
}

fn canonical_request() -> impl Strategy<Value = RequestHead> {
    let method = prop_oneof![
        Just(Method::Get),
        Just(Method::Post),
        Just(Method::Options),
        "[A-Z][A-Z0-9-]{0,10}".prop_map(|token| Method::from_token(&token)),
    ]
    .prop_filter("CONNECT is refused", |method| *method != Method::Connect);
    let path = "(/[a-zA-Z0-9_~!$&'()*+,;=:@-]{1,8}(%2[fF]|%20|\\.[a-z])?){1,4}/?";
    let body =
        prop_oneof![Just(BodyLength::Empty), any::<u64>().prop_map(BodyLength::Sized), Just(BodyLength::Chunked)];
    let flags = (any::<bool>(), any::<bool>(), prop::option::of("[a-z]{1,9}(/[0-9])?"));
    let authority = "([a-z0-9][a-z0-9.-]{0,20}|\\[::1\\])(:[1-9][0-9]{0,3})?";
    (method, path, prop::option::of("[ -~&&[^ #]]{0,20}"), authority, header_list(), body, flags).prop_map(
        |(method, path, query, authority, headers, body, (expect, te_trailers, upgrade))| RequestHead {
            method,
            target: query.map_or_else(|| path.clone(), |query| format!("{path}?{query}")),
            path_len: path.len(),
            authority,
            headers,
            body,
            keep_alive: true,
            expect_continue: expect && !body.is_empty(),
            te_trailers,
            upgrade: upgrade.filter(|text| text != "h2c" && text != "h2").map(String::into_boxed_str),
            ..RequestHead::default()
        },
    )
}

/// Pieces of heads, right and wrong, so that strings of them come close to heads.
fn near_request() -> impl Strategy<Value = Vec<u8>> {
    let line = "(GET|POST|get|OPTIONS|CONNECT|G T|\t)( |  |\t)(/|/a/\\.\\./b|\\*|http://b/c|/a#|/%00|/%|a)( )(HTTP/1\\.1|HTTP/1\\.0|HTTP/2\\.0|x)(\r\n|\n)";
    let field = prop_oneof![
        6 => Just("Host: a\r\n"),
        1 => Just("host: b:80\r\n"),
        1 => Just("Content-Length: 5\r\n"),
        1 => Just("Content-Length: +5\r\n"),
        1 => Just("Transfer-Encoding: chunked\r\n"),
        1 => Just("Transfer-Encoding: gzip, chunked\r\n"),
        1 => Just("Connection: close, x-a\r\n"),
        1 => Just("Connection: upgrade, host\r\n"),
        1 => Just("Connection: upgrade\r\nUpgrade: foo\r\n"),
        1 => Just("TE: trailers\r\n"),
        1 => Just("Expect: 100-continue\r\n"),
        4 => Just("X-A: b\r\n"),
        1 => Just("X-A : b\r\n"),
        1 => Just(" fold\r\n"),
        1 => Just("X-A: b\n"),
        1 => Just("X-A: b\r"),
        1 => Just("\u{e9}: \0\r\n"),
    ];
    let good = "(GET|POST|OPTIONS) (/|/a/\\.\\./b\\?c|http://b/c) HTTP/1\\.[01]\r\n";
    (prop_oneof![good, line], prop::collection::vec(field, 0..6), prop_oneof![Just("\r\n"), Just(""), Just("\r\nrest")])
        .prop_map(|(line, fields, end)| [line.as_str(), &fields.concat(), end].concat().into_bytes())
}

proptest! {
    #[test]
    fn a_canonical_request_is_read_as_it_was_written(head in canonical_request()) {
        let mut bytes = Vec::new();
        write_request_head(&head, &mut bytes);
        let mut again = RequestHead::default();
        let progress = parse_request(&bytes, &mut HeadScan::default(), &HeadLimits::default(), &mut again);
        prop_assert_eq!(progress, Ok(Progress::Complete { consumed: bytes.len() }));
        prop_assert_eq!(fields(&again.headers), fields(&head.headers));
        prop_assert_eq!(
            (again.method, again.target, again.path_len, again.authority, again.body, again.keep_alive),
            (head.method, head.target, head.path_len, head.authority, head.body, head.keep_alive)
        );
        prop_assert_eq!(
            (again.expect_continue, again.te_trailers, again.upgrade),
            (head.expect_continue, head.te_trailers, head.upgrade)
        );
    }

    #[test]
    fn requests_do_not_depend_on_how_they_are_split(bytes in near_request()) {
        invariants::request_head(&bytes);
    }

    #[test]
    fn responses_do_not_depend_on_how_they_are_split(
        text in "HTTP/1\\.[01] (100|101|200|204|304|20|999)( OK| |)\r\n((Content-Length: 0?5|Transfer-Encoding: chunked|Connection: close|Connection: x-a, keep-alive|Connection: upgrade|Upgrade: foo|Keep-Alive: timeout=9|X-A: b|X : y)(\r\n|\n)?){0,5}\r\n(\r\n)?",
        head_request: bool,
        connect: bool,
    ) {
        invariants::response_head_to(text.as_bytes(), Answered { head_request, connect });
    }

    #[test]
    fn arbitrary_bytes_break_nothing(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[\\x00-\\x7f]{0,100}") {
        for bytes in [&bytes[..], text.as_bytes()] {
            invariants::request_head(bytes);
            invariants::response_head(bytes);
            invariants::chunked_body(bytes);
        }
    }
}
