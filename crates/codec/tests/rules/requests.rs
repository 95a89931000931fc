//! Request heads, rule by rule.

use meshwright_codec::{HeadError, HeadErrorClass, HeadLimits, HeadScan, PathError, Progress, parse_request};
use meshwright_message::{BodyLength, Method, RequestHead, Version};

use super::{accepted, fields, get_with, refused};

fn target(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: good\r\n\r\n")
}

fn host(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n")
}

#[test]
fn a_plain_request_becomes_one_object() {
    let head = accepted(
        "POST /users/7?full=1&x=a%20b HTTP/1.1\r\nHost: API.example.com:8080\r\nAccept: */*\r\nX-Thing:\t a, b \r\n\
         x-empty:\r\nContent-Length: 5\r\n\r\nhello",
    );
    assert_eq!((head.method.as_str(), head.version), ("POST", Version::Http11));
    assert_eq!(head.authority, "api.example.com:8080");
    assert_eq!((head.path(), head.query()), ("/users/7", Some("full=1&x=a%20b")));
    assert_eq!(head.body, BodyLength::Sized(5));
    assert!(head.keep_alive && !head.expect_continue && !head.te_trailers && head.upgrade.is_none());
    let expected = [("Accept", "*/*"), ("X-Thing", "a, b"), ("x-empty", "")];
    assert_eq!(fields(&head.headers), expected.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())));
}

#[test]
fn consumed_ends_at_the_body_and_the_scan_is_ready_for_the_next_head() {
    let first = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut bytes = first.to_vec();
    bytes.extend_from_slice(b"\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    let (mut scan, limits, mut head) = (HeadScan::default(), HeadLimits::default(), RequestHead::default());
    assert_eq!(parse_request(&bytes[..20], &mut scan, &limits, &mut head), Ok(Progress::Partial));
    let progress = parse_request(&bytes, &mut scan, &limits, &mut head);
    assert_eq!(progress, Ok(Progress::Complete { consumed: first.len() }));
    let rest = &bytes[first.len()..];
    let progress = parse_request(rest, &mut scan, &limits, &mut head);
    assert_eq!(progress, Ok(Progress::Complete { consumed: rest.len() }));
    assert_eq!(head.target, "/2");
}

#[test]
fn two_framings_in_one_request_are_refused() {
    for fields in ["Content-Length: 6\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 6"]
    {
        assert_eq!(refused(get_with(fields)), HeadError::ContentLengthAndTransferEncoding);
    }
}

#[test]
fn a_repeated_content_length_is_refused_equal_or_not() {
    for fields in ["Content-Length: 5\r\nContent-Length: 6", "Content-Length: 5\r\ncontent-length: 5"] {
        assert_eq!(refused(get_with(fields)), HeadError::RepeatedContentLength);
    }
    assert_eq!(refused(get_with("Content-Length:\r\nContent-Length: 59")), HeadError::BadContentLength);
    assert_eq!(refused(get_with("Content-Length: 59\r\nContent-Length:")), HeadError::RepeatedContentLength);
}

#[test]
fn a_content_length_that_is_not_digits_is_refused() {
    for value in [
        "",
        " ",
        "5, 5",
        "5, 6",
        "+5",
        "-0",
        "-48",
        "0x10",
        "1_0",
        "1Z",
        "5 5",
        "\u{ff15}",
        "18446744073709551616",
        "99999999999999999999",
        "5;",
        "5.0",
        "1e3",
        "\t5",
        "5\t",
        "NaN",
    ] {
        assert_eq!(refused(get_with(&format!("Content-Length: {value}"))), HeadError::BadContentLength, "{value:?}");
    }
}

#[test]
fn leading_zeros_of_a_content_length_do_not_survive() {
    for (value, length) in [("005", 5), ("010", 10), ("0", 0), ("00", 0), ("18446744073709551615", u64::MAX)] {
        let head = accepted(get_with(&format!("Content-Length: {value}")));
        assert_eq!(head.body, BodyLength::Sized(length));
        assert!(head.headers.is_empty());
    }
}

#[test]
fn framing_names_in_disguise_are_refused() {
    for (line, error) in [
        ("Content-Length : 5", HeadError::SpaceBeforeColon),
        ("Content-Length\t: 5", HeadError::SpaceBeforeColon),
        ("Content_Length: 5", HeadError::FramingAlias),
        ("Transfer_Encoding: chunked", HeadError::FramingAlias),
        (" Transfer-Encoding: chunked", HeadError::ObsoleteFold),
    ] {
        assert_eq!(refused(get_with(line)), error, "{line}");
    }
    let mut bytes = b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length\x85: 5\r\n\r\n".to_vec();
    assert_eq!(refused(&bytes), HeadError::BadFieldName);
    bytes.truncate(0);
    bytes.extend_from_slice(b"GET / HTTP/1.1\r\n Transfer-Encoding: chunked\r\nHost: a\r\n\r\n");
    assert_eq!(refused(&bytes), HeadError::ObsoleteFold);
}

#[test]
fn a_transfer_encoding_other_than_chunked_alone_is_refused() {
    for (value, class) in [
        (",chunked", HeadErrorClass::BadRequest),
        ("chunked,", HeadErrorClass::BadRequest),
        ("chunked, chunked", HeadErrorClass::BadRequest),
        ("chunked\r\nTransfer-Encoding: chunked", HeadErrorClass::BadRequest),
        ("chunked\r\nTransfer-Encoding: gzip", HeadErrorClass::BadRequest),
        ("xchunked", HeadErrorClass::UnsupportedTransferCoding),
        ("chunkedx", HeadErrorClass::UnsupportedTransferCoding),
        ("identity", HeadErrorClass::UnsupportedTransferCoding),
        ("gzip, chunked", HeadErrorClass::UnsupportedTransferCoding),
        ("chunked, gzip", HeadErrorClass::UnsupportedTransferCoding),
        ("chunked;a=b", HeadErrorClass::BadRequest),
        ("", HeadErrorClass::BadRequest),
        ("\"chunked\"", HeadErrorClass::BadRequest),
        ("\x0bchunked", HeadErrorClass::BadRequest),
        ("chunked\x0c", HeadErrorClass::BadRequest),
        ("\u{a0}chunked", HeadErrorClass::BadRequest),
        ("chunked\0", HeadErrorClass::BadRequest),
        ("\tchunked", HeadErrorClass::BadRequest),
        ("\r\n chunked", HeadErrorClass::BadRequest),
    ] {
        let error = refused(get_with(&format!("Transfer-Encoding: {value}")));
        assert_eq!(error.class(), class, "{value:?}: {error}");
    }
    assert_eq!(accepted(get_with("transfer-encoding: CHUNKED")).body, BodyLength::Chunked);
}

#[test]
fn http_1_0_has_no_chunked_coding_and_no_body_of_unknown_end() {
    let te = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(refused(te), HeadError::TransferEncodingInHttp10);
    for method in ["POST", "PUT", "PATCH"] {
        assert_eq!(refused(format!("{method} / HTTP/1.0\r\n\r\nbody")), HeadError::LengthRequired);
    }
    assert_eq!(accepted("POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc").body, BodyLength::Sized(3));
    let head = accepted("GET / HTTP/1.0\r\n\r\n");
    assert_eq!((head.body, head.authority.as_str(), head.keep_alive), (BodyLength::Empty, "", false));
    assert!(accepted("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").keep_alive);
    assert!(!accepted("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n").keep_alive);
}

#[test]
fn bare_line_ends_are_refused_at_once() {
    assert_eq!(refused("GET / HTTP/1.1\nHost: a\n\n"), HeadError::BareLineFeed);
    assert_eq!(refused("GET / HTTP/1.1\n"), HeadError::BareLineFeed);
    assert_eq!(refused(get_with("A: b\nC: d")), HeadError::BareLineFeed);
    assert_eq!(refused("GET / HTTP/1.1\r\nHost: a\r\n\n"), HeadError::BareLineFeed);
    assert_eq!(refused(get_with("Visible: :/\rSmuggled: :)")), HeadError::BadFieldValue);
    assert_eq!(refused(get_with("Te\nst: x")), HeadError::BareLineFeed);
    assert_eq!(refused(get_with("Header: v\0\ralue")), HeadError::BadFieldValue);
    assert_eq!(refused("GET / HTTP/1.1\rHost: a\r\n\r\n"), HeadError::BadRequestLine);
}

#[test]
fn two_empty_lines_before_a_request_are_skipped_and_no_more() {
    for lines in 0..=2 {
        assert_eq!(accepted(format!("{}GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n".repeat(lines))).authority, "a");
    }
    for lines in [3, 10_000] {
        let bytes = format!("{}GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n".repeat(lines));
        assert_eq!(refused(bytes), HeadError::LeadingEmptyLines);
    }
    assert_eq!(refused("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), HeadError::BadRequestLine);
    assert_eq!(refused(" \r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), HeadError::BadRequestLine);
}

#[test]
fn folded_lines_are_refused_wherever_they_are() {
    for field in
        ["X-Thing: a\r\n b", "Content-Length: 1\r\n\t0", "Transfer-Encoding: chunked\r\n x", "A: b\r\n \r\nC: d"]
    {
        assert_eq!(refused(get_with(field)), HeadError::ObsoleteFold, "{field:?}");
    }
    assert_eq!(refused("GET / HTTP/1.1\r\nHost: a\r\n .b\r\n\r\n"), HeadError::ObsoleteFold);
}

#[test]
fn methods_that_rarely_have_a_body_are_framed_like_all_others() {
    for method in ["GET", "HEAD", "OPTIONS", "DELETE"] {
        let head = accepted(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"));
        assert_eq!(head.body, BodyLength::Sized(4));
    }
    assert_eq!(accepted(get_with("Transfer-Encoding: chunked")).body, BodyLength::Chunked);
}

#[test]
fn only_the_expectation_of_100_continue_is_known() {
    let expecting = |more: &str| get_with(&format!("Expect: 100-Continue\r\n{more}"));
    assert!(accepted(expecting("Content-Length: 5")).expect_continue);
    assert!(accepted(expecting("Transfer-Encoding: chunked")).expect_continue);
    assert!(!accepted(expecting("Content-Length: 0")).expect_continue);
    assert!(!accepted("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").expect_continue);
    for value in ["x", "", "100-continue, x", "100-continue\r\nExpect: x"] {
        let error = refused(get_with(&format!("Expect: {value}")));
        assert_eq!(error.class(), HeadErrorClass::ExpectationFailed, "{value:?}");
    }
}

#[test]
fn connection_never_removes_framing_routing_or_trust() {
    for name in [
        "Transfer-Encoding",
        "Content-Length",
        "Host",
        "Authorization",
        "Cookie",
        "X-Forwarded-For",
        "x-forwarded-proto",
        "X-Envoy-Original-Path",
        "X-Request-Id",
        "Forwarded",
        "X-Real-IP",
    ] {
        let bytes = get_with(&format!("Connection: close, {name}\r\nX-Forwarded-For: 1.2.3.4"));
        assert_eq!(refused(bytes), HeadError::ForbiddenNomination, "{name}");
    }
}

#[test]
fn hop_by_hop_fields_and_nominated_ones_are_taken_out() {
    let head = accepted(get_with(
        "X-Private: 1\r\nConnection: X-Private, keep-alive\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\n\
         TE: gzip, Trailers\r\nTrailer: X-Sum\r\nUpgrade: websocket\r\nHTTP2-Settings: abc\r\n\
         Proxy-Authorization: Basic abc\r\nProxy-Authenticate: Basic\r\nx-private: 2\r\nX-Public: 3",
    ));
    assert_eq!(fields(&head.headers), [("X-Public".to_owned(), b"3".to_vec())]);
    assert!(head.te_trailers && head.keep_alive && head.upgrade.is_none());
    assert!(!accepted(get_with("Connection: Close")).keep_alive);
}

#[test]
fn a_connection_field_that_is_no_list_of_tokens_is_refused() {
    assert_eq!(refused(get_with("Connection: close;x")), HeadError::BadConnection);
    assert_eq!(refused(get_with("Connection: a b")), HeadError::BadConnection);
    assert_eq!(refused(get_with(&format!("Connection: {}", "a,".repeat(65)))), HeadError::BadConnection);
    assert!(accepted(get_with("Connection: ,keep-alive, ,")).keep_alive);
}

#[test]
fn an_upgrade_needs_connection_and_is_never_to_http_2() {
    let upgrade = |fields: &str| accepted(get_with(fields)).upgrade.map(String::from);
    assert_eq!(upgrade("Connection: Upgrade\r\nUpgrade: websocket").as_deref(), Some("websocket"));
    assert_eq!(upgrade("Upgrade: websocket"), None);
    assert_eq!(upgrade("Connection: upgrade"), None);
    assert_eq!(upgrade("Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x"), None);
    assert_eq!(upgrade("Connection: upgrade\r\nUpgrade: H2C, foo/2\r\nUpgrade: bar").as_deref(), Some("foo/2, bar"));
    assert_eq!(refused(get_with("Connection: upgrade\r\nUpgrade: a b")), HeadError::BadUpgrade);
    assert_eq!(accepted("GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").upgrade, None);
}

#[test]
fn there_is_exactly_one_valid_host() {
    assert_eq!(refused("GET / HTTP/1.1\r\nAccept: */*\r\n\r\n"), HeadError::MissingHost);
    assert_eq!(refused(host("Host: a\r\nHost: b")), HeadError::RepeatedHost);
    assert_eq!(refused(host("Host: a\r\nhost: a")), HeadError::RepeatedHost);
    for value in
        ["", "a, b", "user@a", "user:secret@a", "a/b", "a:0", "a:99999", "[fe80::1%25eth0]", "a b", "http://a", "a?x"]
    {
        assert_eq!(refused(host(&format!("Host: {value}"))), HeadError::BadHost, "{value}");
    }
    assert_eq!(refused(host("Host: a\0b")), HeadError::BadFieldValue);
    assert_eq!(accepted(host("Host: A.b:80")).authority, "a.b:80");
}

#[test]
fn the_targets_authority_wins_over_host() {
    let head = accepted(target("http://Evil.example:81/a/../b?c"));
    assert_eq!((head.authority.as_str(), head.target.as_str()), ("evil.example:81", "/b?c"));
    for (given, expected) in [("HTTP://e", "/"), ("https://e/", "/"), ("http://e?x=/y", "/?x=/y"), ("http://e/?", "/?")]
    {
        let head = accepted(target(given));
        assert_eq!((head.authority.as_str(), head.target.as_str()), ("e", expected), "{given}");
    }
    // The authority that loses is validated all the same, and must be there.
    assert_eq!(refused("GET http://e/ HTTP/1.1\r\nHost: a b\r\n\r\n"), HeadError::BadHost);
    assert_eq!(refused("GET http://e/ HTTP/1.1\r\nHost: e\r\nHost: e\r\n\r\n"), HeadError::RepeatedHost);
    assert_eq!(refused("GET http://e/ HTTP/1.1\r\n\r\n"), HeadError::MissingHost);
    assert_eq!(accepted("GET http://e/ HTTP/1.0\r\n\r\n").authority, "e");
    for bad in ["http:///x", "http://u@e/", "http://e:0/", "http://e,f/"] {
        assert_eq!(refused(target(bad)), HeadError::BadHost, "{bad}");
    }
    for bad in ["ftp://e/", "http:/e", "e/x", "e:80", "http://e\\@f/"] {
        assert_eq!(refused(target(bad)), HeadError::BadTarget, "{bad}");
    }
}

#[test]
fn the_asterisk_belongs_to_options() {
    let head = accepted("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((head.target.as_str(), head.path(), head.query()), ("*", "*", None));
    assert_eq!(accepted("OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n").target, "*");
    assert_eq!(accepted("OPTIONS http://b/ HTTP/1.1\r\nHost: a\r\n\r\n").target, "/");
    assert_eq!(refused(target("*")), HeadError::BadTarget);
    assert_eq!(refused("OPTIONS *x HTTP/1.1\r\nHost: a\r\n\r\n"), HeadError::BadTarget);
}

#[test]
fn request_lines_out_of_form_are_refused() {
    for (line, error) in [
        ("GET /a#b HTTP/1.1", HeadError::BadTarget),
        ("GET /a b HTTP/1.1", HeadError::BadRequestLine),
        ("GET\t/ HTTP/1.1", HeadError::BadRequestLine),
        ("GET /\x0bHTTP/1.1", HeadError::BadRequestLine),
        ("GET  / HTTP/1.1", HeadError::BadRequestLine),
        ("GET / HTTP/1.1 ", HeadError::BadRequestLine),
        ("GET\0/ HTTP/1.1", HeadError::BadRequestLine),
        ("GET /\0 HTTP/1.1", HeadError::BadTarget),
        ("GET /\x7f HTTP/1.1", HeadError::BadTarget),
        ("GET /\u{e9} HTTP/1.1", HeadError::BadTarget),
        ("GET HTTP/1.1", HeadError::BadRequestLine),
        ("GET  HTTP/1.1", HeadError::BadTarget),
        ("GET /", HeadError::BadRequestLine),
        ("GET a HTTP/1.1", HeadError::BadTarget),
        ("GET / HTTP/01.1", HeadError::BadRequestLine),
        ("GET / http/1.1", HeadError::BadRequestLine),
        ("GET / HTTP/1.1x", HeadError::BadRequestLine),
        ("GET / HTTP/4294967295.255", HeadError::BadRequestLine),
        ("GET / HTTP/1.2", HeadError::VersionNotSupported),
        ("GET / HTTP/0.9", HeadError::VersionNotSupported),
        ("GET / HTTP/3.0", HeadError::VersionNotSupported),
        ("PRI * HTTP/2.0", HeadError::VersionNotSupported),
        ("CONNECT a:443 HTTP/1.1", HeadError::ConnectRefused),
        ("CONNECT http://a/ HTTP/1.1", HeadError::ConnectRefused),
        ("get / HTTP/1.1", HeadError::BadMethod),
        ("Post / HTTP/1.1", HeadError::BadMethod),
        ("connect a:443 HTTP/1.1", HeadError::BadMethod),
        ("G(T / HTTP/1.1", HeadError::BadMethod),
        ("G\u{e9}T / HTTP/1.1", HeadError::BadMethod),
        ("\"GET\" / HTTP/1.1", HeadError::BadRequestLine),
        (" GET / HTTP/1.1", HeadError::BadRequestLine),
    ] {
        let bytes = format!("{line}\r\nHost: a\r\n\r\n");
        assert_eq!(refused(&bytes), error, "{line:?}");
    }
    assert_eq!(HeadError::ConnectRefused.class(), HeadErrorClass::MethodNotAllowed);
    assert_eq!(accepted("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n").method, Method::Trace);
    assert_eq!(accepted("M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n").method, Method::Other("M-SEARCH".into()));
}

#[test]
fn what_is_no_request_line_is_refused_before_its_head_ends() {
    // A TLS ClientHello, an HTTP/0.9 request, and a version out of range: none of them will send an empty line.
    for bytes in
        [&b"\x16\x03\x01\x02\x00\x01"[..], b"GET /\r\n", b"GET / HTTP/1.7\r\n", b"\x00", b"CONNECT a:1 HTTP/1.1\r\n"]
    {
        refused(bytes);
    }
}

#[test]
fn sizes_beyond_the_limits_are_refused_while_they_arrive() {
    let class = |bytes: String| refused(bytes).class();
    let fits = "a".repeat(8192 - "GET / HTTP/1.1".len());
    accepted(target(&format!("/{fits}")));
    assert_eq!(class(target(&format!("/{fits}a"))), HeadErrorClass::UriTooLong);
    assert_eq!(class(format!("GET /{}", "a".repeat(64 << 10))), HeadErrorClass::UriTooLong);
    assert_eq!(class("A".repeat(64 << 10)), HeadErrorClass::UriTooLong);
    assert_eq!(class(get_with(&format!("A: {}", "a".repeat(64 << 10)))), HeadErrorClass::HeadersTooLarge);
    assert_eq!(class(format!("GET / HTTP/1.1\r\nA{}", "a".repeat(64 << 10))), HeadErrorClass::HeadersTooLarge);
    accepted(get_with(&format!("A: {}", "a".repeat(16384 - 3))));
    assert_eq!(class(get_with(&format!("A: {}", "a".repeat(16384 - 2)))), HeadErrorClass::HeadersTooLarge);
    let many = |count: usize| vec!["A: b"; count].join("\r\n");
    accepted(get_with(&many(99)));
    assert_eq!(refused(get_with(&many(100))), HeadError::TooManyHeaders);
    assert_eq!(refused(get_with(&many(10_000))), HeadError::TooManyHeaders);
    let large = |count: usize| vec![format!("A: {}", "a".repeat(8000)); count].join("\r\n");
    accepted(get_with(&large(4)));
    assert_eq!(refused(get_with(&large(5))), HeadError::HeadersTooLarge);
    // White space that is trimmed counts on the wire.
    let padded = vec![format!("A: {}", " ".repeat(16000)); 5].join("\r\n");
    assert_eq!(refused(get_with(&padded)), HeadError::HeadersTooLarge);
}

#[test]
fn the_announced_buffer_always_holds_a_verdict() {
    let limits = HeadLimits { request_line: 40, field: 30, head: 60, fields: 3 };
    for start in ["", "\r\n\r\n"] {
        for line in ["GET / HTTP/1.1\r\nA: b\r\n", "GET / HTTP/1.1\r\n", "GET /", "GET / HTTP/1.1\r\nA: "] {
            let mut bytes = format!("{start}{line}").into_bytes();
            bytes.resize(limits.buffer(), b'a');
            let progress = parse_request(&bytes, &mut HeadScan::default(), &limits, &mut RequestHead::default());
            assert_ne!(progress, Ok(Progress::Partial), "{start:?} {line:?}");
        }
    }
}

#[test]
fn field_names_are_tokens() {
    for line in [": x", "A B: x", "A\0: x", "A\x7f: x", "A\u{e9}: x", "A(: x", "no colon", "A", "\"A\": x", "A\r: x"] {
        let error = refused(get_with(line));
        assert!(matches!(error, HeadError::BadFieldName | HeadError::SpaceBeforeColon), "{line:?}: {error}");
    }
}

#[test]
fn control_bytes_in_values_are_refused_and_high_bytes_kept() {
    for byte in (0u8..0x20).filter(|byte| !b"\t\n".contains(byte)).chain([0x7f]) {
        let mut bytes = b"GET / HTTP/1.1\r\nHost: a\r\nX: b".to_vec();
        bytes.push(byte);
        bytes.extend_from_slice(b"c\r\n\r\n");
        assert_eq!(refused(&bytes), HeadError::BadFieldValue, "{byte}");
    }
    let head = accepted(b"GET / HTTP/1.1\r\nHost: a\r\nX: b\x80\xff\tc\r\n\r\n");
    assert_eq!(head.headers.get("x"), Some(&b"b\x80\xff\tc"[..]));
}

#[test]
fn targets_have_one_normal_form() {
    for (given, expected) in [
        ("/a/%2e%2e/b?x=/../y", "/b?x=/../y"),
        ("/%2f%5c%252e", "/%2f%5c%252e"),
        ("/..;/a", "/..;/a"),
        ("//a//b", "//a//b"),
        ("/./a", "/a"),
        ("/a\\b?c\\d", "/a/b?c\\d"),
        ("/%c0%af", "/%c0%af"),
        ("/?%00%zz", "/?%00%zz"),
        ("/a|b\"<>{}^`", "/a|b\"<>{}^`"),
    ] {
        let head = accepted(target(given));
        assert_eq!(head.target, expected, "{given}");
    }
    assert_eq!(refused(target("/a%00b")), HeadError::BadPath(PathError::EncodedNul));
    assert_eq!(refused(target("/100%")), HeadError::BadPath(PathError::BadEscape));
}
