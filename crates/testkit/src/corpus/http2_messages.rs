//! Rows C12 to C15 and D1 to D6: messages in well-formed frames that HTTP/2 forbids, or that would be something else in
//! HTTP/1 (RFC 9113, section 8). The last part of row C1 is here too.

use super::http2::{FrameCase, FrameMust, case, get, post};
use super::{Expected, SMUGGLED};
use crate::frames::{data, field, headers, request};
use FrameMust::{Alive, Forwarded, Refused};

pub(super) fn cases() -> Vec<FrameCase> {
    let mut cases = of_the_rfc();
    cases.extend(trailers());
    cases.extend(lengths());
    cases.extend(fields());
    cases.extend(pseudo_fields());
    cases.extend(injections());
    cases.extend(what_is_translated());
    cases.extend(bodies());
    cases
}

/// A block of these fields and no others.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(latin1(name), latin1(value))).collect()
}

fn latin1(text: &str) -> Vec<u8> {
    super::latin1(text)
}

/// A GET with these fields behind the usual ones.
fn with(fields: &[(&str, &str)]) -> Vec<u8> {
    headers(1, [request("GET", "/p", &[]), block(fields)].concat(), true)
}

/// A request of these fields alone, which must be refused.
fn alone(row: &'static str, name: impl Into<String>, fields: &[(&str, &str)]) -> FrameCase {
    case(row, name, &[headers(1, block(fields), true)], Refused(1))
}

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "http");
const PATH: (&str, &str) = (":path", "/p");
const AUTHORITY: (&str, &str) = (":authority", "x");

fn of_the_rfc() -> Vec<FrameCase> {
    let c1 = |name: &str, fields: &[(&str, &str)]| alone("C1", name, fields);
    vec![
        case(
            "C1",
            "8.1 a second HEADERS that does not end the stream",
            &[post(1), headers(1, block(&[("a", "b")]), false)],
            Refused(1),
        ),
        case("C1", "8.2.1 a name in capitals", &[with(&[("X-TEST", "ok")])], Refused(1)),
        c1("8.3 an unknown pseudo-field", &[METHOD, SCHEME, PATH, AUTHORITY, (":test", "ok")]),
        c1("8.3 a pseudo-field of answers", &[METHOD, SCHEME, PATH, AUTHORITY, (":status", "200")]),
        case(
            "C1",
            "8.3 a pseudo-field in trailers",
            &[post(1), headers(1, block(&[("a", "b"), METHOD]), true)],
            Refused(1),
        ),
        c1("8.3 a pseudo-field behind an ordinary one", &[METHOD, SCHEME, PATH, ("x-test", "ok"), AUTHORITY]),
        case("C1", "8.2.2 Connection", &[with(&[("connection", "keep-alive")])], Refused(1)),
        case(
            "C1",
            "8.2.2 TE of something else",
            &[with(&[("trailers", "test"), ("te", "trailers, deflate")])],
            Refused(1),
        ),
        c1("8.3.1 an empty path", &[METHOD, SCHEME, (":path", ""), AUTHORITY]),
        c1("8.3.1 no method", &[SCHEME, PATH, AUTHORITY]),
        c1("8.3.1 no scheme", &[METHOD, PATH, AUTHORITY]),
        c1("8.3.1 no path", &[METHOD, SCHEME, AUTHORITY]),
        c1("8.3.1 two methods", &[METHOD, METHOD, SCHEME, PATH, AUTHORITY]),
        c1("8.3.1 two schemes", &[METHOD, SCHEME, SCHEME, PATH, AUTHORITY]),
        c1("8.3.1 two paths", &[METHOD, SCHEME, PATH, PATH, AUTHORITY]),
        case("C1", "8.1.1 a length that is not that of DATA", &[sized("1"), data(1, "test", true)], Refused(1)),
        case(
            "C1",
            "8.1.1 a length that is not that of all DATA",
            &[sized("1"), data(1, "te", false), data(1, "st", true)],
            Refused(1),
        ),
    ]
}

/// The head of a POST with a Content-Length.
fn sized(length: &str) -> Vec<u8> {
    headers(1, [request("POST", "/p", &[]), block(&[("content-length", length)])].concat(), false)
}

fn trailers() -> Vec<FrameCase> {
    let end = |fields: &[(&str, &str)]| headers(1, block(fields), true);
    let many = headers(1, field("x", "y").repeat(2000), true);
    let mut cases = vec![
        case(
            "C12",
            "trailers that do not end the stream",
            &[post(1), data(1, "a", false), headers(1, block(&[("a", "b")]), false)],
            Refused(1),
        ),
        case(
            "C12",
            "a pseudo-field alone in trailers is dropped",
            &[post(1), data(1, "a", false), end(&[PATH])],
            Forwarded(1, Box::new(Expected::new("POST", "/p", "a"))),
        ),
        case(
            "C12",
            "trailers with a name in capitals",
            &[post(1), data(1, "a", false), end(&[("A", "b")])],
            Refused(1),
        ),
        case(
            "C12",
            "trailers behind trailers",
            &[post(1), end(&[("a", "b")]), end(&[("a", "b")]), get(3)],
            FrameMust::StreamError(1, &[1, 5]),
        ),
        case("C12", "two thousand trailers", &[post(1), data(1, "a", false), many], Refused(1)),
    ];
    for name in ["content-length", "host", "authorization", "cookie", "x-forwarded-for", "grpc-encoding-x"] {
        let lacks: &[&'static str] = match name {
            "grpc-encoding-x" => &[],
            "content-length" => &["content-length"],
            "host" => &["host"],
            "authorization" => &["authorization"],
            "cookie" => &["cookie"],
            _ => &["x-forwarded-for"],
        };
        let expected = Expected::new("POST", "/p", "a").without(lacks);
        let frames = [post(1), data(1, "a", false), end(&[(name, "7")])];
        cases.push(case("C12", format!("the trailer {name}"), &frames, Forwarded(1, Box::new(expected))));
    }
    cases
}

fn lengths() -> Vec<FrameCase> {
    let mut cases = Vec::new();
    for (name, length, body) in [
        ("less DATA than its length", "9", "test"),
        ("more DATA than its length", "3", "test"),
        ("a length with a sign", "+4", "test"),
        ("a negative length", "-4", "test"),
        ("a length of letters", "four", "test"),
        ("an empty length", "", "test"),
        ("a list of lengths", "4, 4", "test"),
        ("a length beyond all numbers", "18446744073709551620", "test"),
        ("a hexadecimal length", "0x4", "test"),
    ] {
        cases.push(case("C13", name, &[sized(length), data(1, body, true)], Refused(1)));
    }
    let nothing = Expected::new("POST", "/p", "").with("content-length", "0");
    for (name, frames, must) in [
        ("DATA although its length is 0", vec![data(1, "test", true)], Refused(1)),
        ("DATA of one byte although its length is 0", vec![data(1, "", false), data(1, "x", false)], Refused(1)),
        ("a length of 0 and an end of its own", vec![data(1, "", true)], Forwarded(1, Box::new(nothing.clone()))),
        ("a length of 0 and trailers", vec![headers(1, block(&[("a", "b")]), true)], Forwarded(1, Box::new(nothing))),
    ] {
        cases.push(case("C13", name, &[&[sized("0")][..], &frames].concat(), must));
    }
    let tunnel = [(":method", "CONNECT"), (":protocol", "websocket"), SCHEME, PATH, AUTHORITY, ("content-length", "0")];
    cases.push(case("D6", "a tunnel with a length", &[headers(1, block(&tunnel), false)], Refused(1)));
    let two = headers(
        1,
        [request("POST", "/p", &[]), block(&[("content-length", "4"), ("content-length", "5")])].concat(),
        false,
    );
    cases.push(case("C13", "two lengths", &[two, data(1, "test", true)], Refused(1)));
    for length in ["1", "4", "40"] {
        let frames = [headers(1, [request("POST", "/p", &[]), block(&[("content-length", length)])].concat(), true)];
        cases.push(case("D5", format!("CVE-2026-33555: no DATA although its length is {length}"), &frames, Refused(1)));
        let frames = [sized(length), data(1, "", true)];
        cases.push(case("D5", format!("empty DATA although its length is {length}"), &frames, Refused(1)));
    }
    cases
}

fn fields() -> Vec<FrameCase> {
    [
        ("connection", "close"),
        ("connection", "x-forwarded-for"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("upgrade", "h2c"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
        ("te", "chunked"),
        ("X-Upper", "a"),
        ("x-uppeR", "a"),
        ("", "an empty name"),
        ("content_length", "40"),
        ("transfer_encoding", "chunked"),
    ]
    .into_iter()
    .map(|(name, value)| case("C14", format!("{name}: {value}"), &[with(&[(name, value)])], Refused(1)))
    .collect()
}

fn pseudo_fields() -> Vec<FrameCase> {
    let c15 = |name: &str, fields: &[(&str, &str)]| alone("C15", name, fields);
    let mut cases = vec![
        c15("no authority and no host", &[METHOD, SCHEME, PATH]),
        c15("two authorities", &[METHOD, SCHEME, PATH, AUTHORITY, AUTHORITY]),
        c15("an empty authority", &[METHOD, SCHEME, PATH, (":authority", "")]),
        c15("a pseudo-field behind the others", &[("x", "y"), METHOD, SCHEME, PATH, AUTHORITY]),
        c15("an empty method", &[(":method", ""), SCHEME, PATH, AUTHORITY]),
        c15("a method in lower case", &[(":method", "get"), SCHEME, PATH, AUTHORITY]),
        c15("CONNECT", &[(":method", "CONNECT"), AUTHORITY]),
        c15("CONNECT with a path", &[(":method", "CONNECT"), SCHEME, PATH, AUTHORITY]),
        c15("an empty scheme", &[METHOD, (":scheme", ""), PATH, AUTHORITY]),
        c15("a scheme that is none", &[METHOD, (":scheme", "1http"), PATH, AUTHORITY]),
        c15("a scheme of a script", &[METHOD, (":scheme", "javascript"), PATH, AUTHORITY]),
        c15("a scheme with a host", &[METHOD, (":scheme", "http://evil"), PATH, AUTHORITY]),
    ];
    for path in ["p", "p/", "?a", "*", "http://evil/p", "//", "/a b", "/\u{e9}", "/%00", "/%zz", " /p", "/p "] {
        if path != "//" {
            cases.push(c15(&format!("the path {path:?}"), &[METHOD, SCHEME, (":path", path), AUTHORITY]));
        }
    }
    for host in [
        "a/b", "user@a", "a b", "a:0", "a:99999", "a,b", "[::1", "a#b", "a?b", "a\\b", "\u{e9}", "a:80:80", "<a>",
        "a%41",
    ] {
        cases.push(c15(&format!("the authority {host:?}"), &[METHOD, SCHEME, PATH, (":authority", host)]));
    }
    cases
}

fn injections() -> Vec<FrameCase> {
    let mut cases = Vec::new();
    let line = format!("a\r\n\r\n{SMUGGLED}");
    for (what, bytes) in [
        ("CR and LF", "a\r\nb: c"),
        ("LF", "a\nb: c"),
        ("CR", "a\rb: c"),
        ("NUL", "a\0b"),
        ("a request", line.as_str()),
        ("a version and a request", " HTTP/1.1\r\nHost: x\r\n\r\nGET /smuggled"),
    ] {
        let path = format!("/{bytes}");
        cases.push(alone("D1", format!("{what} in :path"), &[METHOD, SCHEME, (":path", &path), AUTHORITY]));
        cases.push(alone("D1", format!("{what} in :method"), &[(":method", bytes), SCHEME, PATH, AUTHORITY]));
        cases.push(alone("D1", format!("{what} in :authority"), &[METHOD, SCHEME, PATH, (":authority", bytes)]));
        cases.push(alone("D1", format!("{what} in :scheme"), &[METHOD, (":scheme", bytes), PATH, AUTHORITY]));
        if what != "a version and a request" || bytes.contains('\r') {
            cases.push(case("D1", format!("{what} in a value"), &[with(&[("x", bytes)])], Refused(1)));
        }
        cases.push(case("D1", format!("{what} in a name"), &[with(&[(bytes, "y")])], Refused(1)));
    }
    for byte in (1..0x20_u8).chain([0x7f]).filter(|byte| ![b'\t', b'\n', b'\r'].contains(byte)) {
        let value = format!("a{}b", char::from(byte));
        cases.push(case("D1", format!("byte {byte:#04x} in a value"), &[with(&[("x", &value)])], Refused(1)));
    }
    for name in ["a:b", "a b", ":a", "a\u{e9}", "a(b", "a\x7fb", " a", "a "] {
        cases.push(case("D4", format!("the name {name:?}"), &[with(&[(name, "v")])], Refused(1)));
    }
    for (name, authority, host) in
        [("another host", "x", "y"), ("another port", "x:80", "x:81"), ("a bad host", "x", "x/y")]
    {
        let fields = [METHOD, SCHEME, PATH, (":authority", authority), ("host", host)];
        cases.push(alone("D2", format!("{name} beside :authority"), &fields));
    }
    cases.push(alone("D2", "two hosts", &[METHOD, SCHEME, PATH, ("host", "x"), ("host", "y")]));
    cases.push(alone(
        "D2",
        "two equal hosts beside :authority",
        &[METHOD, SCHEME, PATH, AUTHORITY, ("host", "x"), ("host", "x")],
    ));
    cases.push(alone("D2", "user information", &[METHOD, SCHEME, PATH, (":authority", "user:password@x")]));
    for protocol in ["a b", "", "websocket\r\nx: y", "\0"] {
        let fields = [(":method", "CONNECT"), (":protocol", protocol), SCHEME, PATH, AUTHORITY];
        cases.push(alone("D6", format!("the protocol {protocol:?}"), &fields));
    }
    cases.push(alone("D6", "a protocol of GET", &[METHOD, (":protocol", "websocket"), SCHEME, PATH, AUTHORITY]));
    cases
}

fn what_is_translated() -> Vec<FrameCase> {
    let forwarded = |name: &str, row: &'static str, frames: &[Vec<u8>], expected: Expected| {
        case(row, name, frames, Forwarded(1, Box::new(expected)))
    };
    let crumbs = with(&[("cookie", "a=b"), ("x", "y"), ("cookie", "c=d"), ("cookie", "e=f")]);
    let host = block(&[METHOD, SCHEME, PATH, ("host", "x")]);
    let both = block(&[METHOD, SCHEME, PATH, AUTHORITY, ("host", "x")]);
    let dots = block(&[METHOD, SCHEME, (":path", "/a/../b?c"), AUTHORITY]);
    let high: String = (0x80..=0xff_u8).map(char::from).collect();
    vec![
        forwarded(
            "cookie crumbs are joined",
            "D4",
            &[crumbs],
            Expected::new("GET", "/p", "").with("cookie", "a=b; c=d; e=f"),
        ),
        forwarded(
            "empty cookie crumbs leave no trace",
            "D4",
            &[with(&[("cookie", ""), ("cookie", "a=b"), ("cookie", "")])],
            Expected::new("GET", "/p", "").with("cookie", "a=b"),
        ),
        forwarded(
            "white space around a value goes",
            "D4",
            &[with(&[("x", " y ")])],
            Expected::new("GET", "/p", "").with("x", "y"),
        ),
        forwarded(
            "bytes beyond ASCII stay",
            "D4",
            &[with(&[("x", &high)])],
            Expected::new("GET", "/p", "").with("x", &high),
        ),
        forwarded("te: trailers", "D4", &[with(&[("te", "trailers")])], Expected::new("GET", "/p", "")),
        forwarded(
            "host instead of :authority",
            "D2",
            &[headers(1, host, true)],
            Expected::new("GET", "/p", "").host("x"),
        ),
        forwarded("host beside :authority", "D2", &[headers(1, both, true)], Expected::new("GET", "/p", "").host("x")),
        forwarded(
            "a fragment goes",
            "C15",
            &[headers(1, block(&[METHOD, SCHEME, (":path", "/a#b"), AUTHORITY]), true)],
            Expected::new("GET", "/a", ""),
        ),
        forwarded("a path takes one form", "D4", &[headers(1, dots, true)], Expected::new("GET", "/b?c", "")),
        case(
            "D4",
            "proxy-authorization stays here",
            &[with(&[("proxy-authorization", "Basic YTpi")])],
            Forwarded(1, Box::new(Expected::new("GET", "/p", "").without(&["proxy-authorization"]))),
        ),
        case("C13", "DATA behind a stream of no body is another stream's business", &[get(1), get(3)], Alive),
    ]
}

fn bodies() -> Vec<FrameCase> {
    let forwarded = |name: &str, row: &'static str, frames: &[Vec<u8>], expected: Expected| {
        case(row, name, frames, Forwarded(1, Box::new(expected)))
    };
    vec![
        forwarded(
            "a body without a length becomes chunked",
            "D3",
            &[post(1), data(1, "hello", true)],
            Expected::new("POST", "/p", "hello").with("transfer-encoding", "chunked").without(&["content-length"]),
        ),
        forwarded(
            "a body with its length",
            "D3",
            &[sized("5"), data(1, "hello", true)],
            Expected::new("POST", "/p", "hello").with("content-length", "5"),
        ),
        forwarded(
            "a request inside a body",
            "D3",
            &[post(1), data(1, SMUGGLED, true)],
            Expected::new("POST", "/p", SMUGGLED),
        ),
        forwarded(
            "chunks inside a body",
            "D3",
            &[post(1), data(1, format!("0\r\n\r\n{SMUGGLED}"), true)],
            Expected::new("POST", "/p", format!("0\r\n\r\n{SMUGGLED}")),
        ),
        forwarded("a body of no bytes", "D3", &[post(1), data(1, "", true)], Expected::new("POST", "/p", "")),
        forwarded(
            "a POST without a body",
            "D3",
            &[headers(1, request("POST", "/p", &[]), true)],
            Expected::new("POST", "/p", "").with("content-length", "0"),
        ),
    ]
}
