//! Rows B5 to B12 as far as they are one message: sizes, names, values, paths, long lists, and what would end up in a log
//! (RFC 9110, section 5; RFC 3986, section 6). What needs time or many connections is no data: the tests have it.

use super::{Case, Expected, forwarded, get, latin1, refused, refused_with};

/// What is too large may be called so in either way, or be malformed.
const TOO_LARGE: &[u16] = &[400, 413, 414, 431];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = sizes();
    cases.extend(names());
    cases.extend(values());
    cases.extend(paths());
    cases.extend(long_lists());
    cases.extend(what_is_logged());
    cases
}

fn sizes() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, size) in [("64 KiB", 64 * 1024), ("256 KiB", 256 * 1024)] {
        let target = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(size));
        cases.push(refused_with("B5", format!("a target of {name}"), target, TOO_LARGE));
        let query = format!("GET /?{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(size));
        cases.push(refused_with("B5", format!("a query of {name}"), query, TOO_LARGE));
        cases.push(refused_with(
            "B5",
            format!("a value of {name}"),
            get(&format!("X: {}\r\n", "a".repeat(size))),
            TOO_LARGE,
        ));
        cases.push(refused_with(
            "B5",
            format!("a name of {name}"),
            get(&format!("{}: y\r\n", "a".repeat(size))),
            TOO_LARGE,
        ));
        let spaces = get(&format!("X:{}y\r\n", " ".repeat(size)));
        cases.push(refused_with("B5", format!("{name} of spaces before a value"), spaces, TOO_LARGE));
    }
    cases.push(refused_with("B5", "ten thousand fields", get(&"X: y\r\n".repeat(10_000)), TOO_LARGE));
    cases.push(refused_with("B5", "a thousand fields of one letter", get(&"a:\r\n".repeat(1000)), TOO_LARGE));
    let fields = refused_with("B5", "101 fields with Host", get(&"X: y\r\n".repeat(100)), TOO_LARGE);
    cases.push(fields.or(vec![Expected::new("GET", "/p", "")]));
    cases.push(forwarded("B5", "fifty fields", get(&"X: y\r\n".repeat(50)), vec![Expected::new("GET", "/p", "")]));
    let value = "v".repeat(7000);
    let expected = Expected::new("GET", "/p", "").with("x", &value);
    cases.push(forwarded("B5", "a value of 7,000 bytes", get(&format!("X: {value}\r\n")), vec![expected]));
    let target = format!("/{}", "a".repeat(7000));
    let text = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
    cases.push(forwarded("B5", "a target of 7,001 bytes", text, vec![Expected::new("GET", &target, "")]));
    cases
}

fn names() -> Vec<Case> {
    let mut cases: Vec<Case> = [
        ("CVE-2023-25725: an empty name", ":"),
        ("CVE-2023-25725: an empty name with a value", ": Transfer-Encoding: chunked"),
        ("an empty name behind a space", " : v"),
        ("no colon", "nothing"),
        ("no colon, two words", "two words"),
        ("a colon behind a space", "a : v"),
        ("a colon behind a tab", "a\t: v"),
        ("a value alone", "=v"),
    ]
    .into_iter()
    .map(|(name, line)| refused("B6", name, latin1(&format!("GET /p HTTP/1.1\r\nHost: x\r\n{line}\r\n\r\n"))))
    .collect();
    let delimiters = "\"(),/;<=>?@[\\]{}".bytes();
    for byte in delimiters.chain([0x00, 0x01, 0x08, 0x0b, 0x0c, 0x1b, 0x20, 0x09, 0x7f, 0x80, 0x85, 0xa0, 0xc3, 0xff]) {
        let line = format!("a{}b: v", char::from(byte));
        let text = format!("GET /p HTTP/1.1\r\nHost: x\r\n{line}\r\n\r\n");
        cases.push(refused("B6", format!("byte {byte:#04x} in a name"), latin1(&text)));
    }
    let expected = Expected::new("GET", "/p", "").with("x!#$%&'*+-.^_`|~1", "v");
    cases.push(forwarded("B6", "every mark a token may have", get("X!#$%&'*+-.^_`|~1: v\r\n"), vec![expected]));
    cases
}

fn values() -> Vec<Case> {
    let mut cases = Vec::new();
    for byte in (0x00..0x20).chain([0x7f]).filter(|byte| ![b'\t', b'\n', b'\r'].contains(byte)) {
        for (place, value) in
            [("inside", format!("a{}b", char::from(byte))), ("behind", format!("a{}", char::from(byte)))]
        {
            cases.push(refused("B7", format!("byte {byte:#04x} {place} a value"), get(&format!("X: {value}\r\n"))));
        }
    }
    let tab = Expected::new("GET", "/p", "").with("x", "a\tb");
    cases.push(forwarded("B7", "a tab inside a value", get("X: a\tb\r\n"), vec![tab]));
    let all: String = (0x80..=0xff_u8).map(char::from).collect();
    for (name, value) in
        [("all of them", all.as_str()), ("UTF-8", "\u{c3}\u{a9}"), ("half of UTF-8", "\u{c3}"), ("0xff", "\u{ff}")]
    {
        let expected = Expected::new("GET", "/p", "").with("x", value);
        cases.push(forwarded(
            "B8",
            format!("bytes from 0x80 up, {name}"),
            get(&format!("X: {value}\r\n")),
            vec![expected],
        ));
    }
    cases
}

fn paths() -> Vec<Case> {
    let mut cases: Vec<Case> = [
        ("/a/../b", "/b"),
        ("/a/./b", "/a/b"),
        ("/../a", "/a"),
        ("/..", "/"),
        ("/a/..", "/"),
        ("/a/b/..", "/a/"),
        ("/%61dmin", "/admin"),
        ("/%2e%2e/a", "/a"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/.%2e/b", "/b"),
        ("/a\\b", "/a/b"),
        ("/a\\..\\b", "/b"),
        ("/a%2fb", "/a%2fb"),
        ("/a%2Fb", "/a%2Fb"),
        ("/a%5cb", "/a%5cb"),
        ("/a%252e%252e/b", "/a%252e%252e/b"),
        ("/a%c0%af..", "/a%c0%af.."),
        ("//a", "//a"),
        ("/a//b", "/a//b"),
        ("/..;/a", "/..;/a"),
        ("/a;x=y/b", "/a;x=y/b"),
        ("/a?x=/../b", "/a?x=/../b"),
        ("/a?x=%2e%2e", "/a?x=%2e%2e"),
        ("/a?b?c", "/a?b?c"),
        ("/a%20b", "/a%20b"),
        ("/a%0d%0aX:%20y", "/a%0d%0aX:%20y"),
        ("/%e2%80%ae", "/%e2%80%ae"),
        ("/a%23b", "/a%23b"),
        ("/a%3fb", "/a%3fb"),
        ("/~a_b-c.d", "/~a_b-c.d"),
        ("/a|b^c`d{e}\"<>", "/a|b^c`d{e}\"<>"),
    ]
    .into_iter()
    .map(|(sent, arrives)| {
        let text = format!("GET {sent} HTTP/1.1\r\nHost: x\r\n\r\n");
        forwarded("B9", sent, text, vec![Expected::new("GET", arrives, "")])
    })
    .collect();
    for target in ["/%00", "/a%00b", "/%", "/%4", "/%zz", "/%u0041", "/a/%0"] {
        cases.push(refused("B9", target, format!("GET {target} HTTP/1.1\r\nHost: y\r\n\r\n")));
    }
    cases
}

fn long_lists() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, field, element) in [
        ("ranges", "Range: bytes=0-", ",0-1"),
        ("codings", "Accept-Encoding: a", ",gzip"),
        ("cookies", "Cookie: a=b", "; a=b"),
        ("hops", "Forwarded: for=a", ", for=b"),
        ("addresses", "X-Forwarded-For: 1.2.3.4", ", 1.2.3.4"),
        ("languages", "Accept-Language: a", ",en;q=0.1"),
    ] {
        let lines = format!("{field}{}\r\n", element.repeat(10_000));
        cases.push(refused_with("B11", format!("ten thousand {name}"), get(&lines), TOO_LARGE));
        let lines = format!("{field}{}\r\n", element.repeat(100));
        cases.push(forwarded("B11", format!("a hundred {name}"), get(&lines), vec![Expected::new("GET", "/p", "")]));
    }
    let cookie = get(&format!("Cookie: a={}\r\n", "b".repeat(1 << 20)));
    cases.push(refused_with("B11", "a cookie of 1 MiB", cookie, TOO_LARGE));
    cases
}

fn what_is_logged() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, value) in [
        ("a right-to-left override", "\u{e2}\u{80}\u{ae}txt.exe"),
        ("a line separator", "a\u{e2}\u{80}\u{a8}b"),
        ("a C1 control", "a\u{c2}\u{9b}31mb"),
        ("quotes and backslashes", "\"\\\" \\x1b {\"a\": 1}"),
        ("a script", "<script>alert(1)</script>"),
        ("a format", "%s %n ${jndi:ldap://x} {{7*7}}"),
    ] {
        let expected = Expected::new("GET", "/p", "").with("user-agent", value);
        cases.push(forwarded("B12", name, get(&format!("User-Agent: {value}\r\n")), vec![expected]));
    }
    for (name, lines) in [
        ("CVE-2025-58160: an escape sequence", "User-Agent: a\x1b[2Jb\r\n"),
        ("a bell", "User-Agent: a\x07b\r\n"),
        ("a line that looks like a record", "User-Agent: a\r127.0.0.1 - - GET /forged\r\n"),
    ] {
        cases.push(refused("B12", name, get(lines)));
    }
    cases
}
