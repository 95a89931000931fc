//! Rows B1 to B4: Host, the authority of a target, the request line and its method (RFC 9112, sections 3 and 7.2 of
//! RFC 9110). Read next: `fields.rs`.

use super::{Case, Expected, SMUGGLED, forwarded, latin1, refused, refused_with};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = hosts();
    cases.extend(authorities());
    cases.extend(request_lines());
    cases.extend(methods());
    cases
}

fn hosts() -> Vec<Case> {
    let mut cases: Vec<Case> = [
        ("none", ""),
        ("none, but one with an underscore", "Ho_st: x\r\n"),
        ("two that are equal", "Host: x\r\nHost: x\r\n"),
        ("two that differ", "Host: x\r\nHost: y\r\n"),
        ("two in two cases", "Host: x\r\nhost: y\r\n"),
        ("two apart", "Host: x\r\nA: b\r\nHost: y\r\n"),
        ("three", "Host: x\r\nHost: x\r\nHost: x\r\n"),
        ("two, one empty", "Host: x\r\nHost:\r\n"),
        ("two, the first empty", "Host:\r\nHost: x\r\n"),
        ("a space before the colon", "Host : x\r\n"),
        ("a space before the name", " Host: x\r\n"),
    ]
    .into_iter()
    .map(|(name, lines)| refused("B1", name, latin1(&format!("GET /p HTTP/1.1\r\n{lines}\r\n"))))
    .collect();
    for (name, host) in [
        ("empty", ""),
        ("a list", "a, b"),
        ("a list without a space", "a,b"),
        ("user information", "user@a"),
        ("user and password", "user:password@a"),
        ("a path", "a/b"),
        ("a slash behind", "a/"),
        ("a query", "a?b"),
        ("a fragment", "a#b"),
        ("a backslash", "a\\b"),
        ("a scheme", "http://a"),
        ("port zero", "a:0"),
        ("a port beyond", "a:99999"),
        ("one port too many", "a:65536"),
        ("a port of letters", "a:80x"),
        ("a port with a sign", "a:+80"),
        ("a negative port", "a:-1"),
        ("a port with a space", "a: 80"),
        ("two ports", "a:80:80"),
        ("a port alone", ":80"),
        ("a NUL", "a\0b"),
        ("a space", "a b"),
        ("a tab", "a\tb"),
        ("a zone", "[fe80::1%25eth0]"),
        ("a zone, not escaped", "[fe80::1%eth0]"),
        ("IPv6 without brackets", "::1"),
        ("an open bracket", "[::1"),
        ("something behind a bracket", "[::1]x"),
        ("a name in brackets", "[a]"),
        ("empty brackets", "[]"),
        ("an escape", "a%41"),
        ("an escaped dot", "a%2eb"),
        ("a letter beyond ASCII", "\u{c3}\u{a9}"),
        ("a full-width dot", "a\u{ef}\u{bc}\u{8e}b"),
        ("quotes", "\"a\""),
        ("a less-than sign", "<a>"),
        ("an asterisk", "*"),
        ("a semicolon", "a;b"),
        ("a dollar sign", "$a"),
    ] {
        cases.push(refused("B1", name, latin1(&format!("GET /p HTTP/1.1\r\nHost: {host}\r\n\r\n"))));
    }
    cases.push(refused("B1", "256 letters", format!("GET /p HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(256))));
    for (name, host) in [
        ("with a port", "example.com:8080"),
        ("an address", "10.0.0.1:1"),
        ("IPv6", "[::1]:8080"),
        ("an underscore", "user_service"),
    ] {
        let expected = Expected::new("GET", "/p", "").host(host);
        cases.push(forwarded("B1", name, format!("GET /p HTTP/1.1\r\nHost: {host}\r\n\r\n"), vec![expected]));
    }
    cases
}

fn authorities() -> Vec<Case> {
    let mut cases: Vec<Case> = [
        ("another host", "http://evil/p", "evil", "/p"),
        ("another port", "http://good:81/p", "good:81", "/p"),
        ("in capitals", "HTTP://EVIL/p", "evil", "/p"),
        ("of another scheme", "https://evil/p", "evil", "/p"),
        ("without a path", "http://evil", "evil", "/"),
        ("without a path, with a query", "http://evil?a=b", "evil", "/?a=b"),
        ("with dots in its path", "http://evil/a/../p", "evil", "/p"),
    ]
    .into_iter()
    .map(|(name, target, host, forwarded_target)| {
        let text = format!("GET {target} HTTP/1.1\r\nHost: good\r\n\r\n");
        let expected = Expected::new("GET", forwarded_target, "").host(host);
        forwarded("B2", name, text, vec![expected])
    })
    .collect();
    for (name, target) in [
        ("user information", "http://user@evil/p"),
        ("user information that looks like the host", "http://good@evil/p"),
        ("an empty authority", "http:///p"),
        ("a port of letters", "http://evil:x/p"),
        ("port zero", "http://evil:0/p"),
        ("one slash", "http:/evil/p"),
        ("no slash", "http:evil"),
        ("another scheme", "ftp://evil/p"),
        ("a scheme of a script", "javascript:alert(1)"),
        ("an authority alone", "evil:80"),
        ("a backslash", "http://evil\\good/p"),
        ("a fragment", "http://evil/p#good"),
        ("an escape in the host", "http://ev%69l/p"),
    ] {
        cases.push(refused("B2", name, format!("GET {target} HTTP/1.1\r\nHost: good\r\n\r\n")));
    }
    cases.push(refused("B2", "without Host", "GET http://evil/p HTTP/1.1\r\n\r\n"));
    cases.push(refused("B2", "with two Hosts", "GET http://evil/p HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"));
    cases
}

fn request_lines() -> Vec<Case> {
    let mut cases: Vec<Case> = [
        ("a fragment", "GET /a#b HTTP/1.1"),
        ("a space in the target", "GET /a b HTTP/1.1"),
        ("a tab behind the method", "GET\t/a HTTP/1.1"),
        ("a vertical tab behind the method", "GET\x0b/a HTTP/1.1"),
        ("a form feed behind the target", "GET /a\x0cHTTP/1.1"),
        ("a tab behind the target", "GET /a\tHTTP/1.1"),
        ("a carriage return behind the method", "GET\r/a HTTP/1.1"),
        ("a NUL behind the method", "GET\0/a HTTP/1.1"),
        ("a NUL in the target", "GET /a\0b HTTP/1.1"),
        ("an ESC in the target", "GET /\x1b[31m HTTP/1.1"),
        ("a byte of 0x7f in the target", "GET /\x7f HTTP/1.1"),
        ("a byte of 0x80 in the target", "GET /\u{80} HTTP/1.1"),
        ("UTF-8 in the target", "GET /\u{c3}\u{a9} HTTP/1.1"),
        ("two spaces behind the method", "GET  /a HTTP/1.1"),
        ("two spaces behind the target", "GET /a  HTTP/1.1"),
        ("a space behind the version", "GET /a HTTP/1.1 "),
        ("a tab behind the version", "GET /a HTTP/1.1\t"),
        ("a word behind the version", "GET /a HTTP/1.1 x"),
        ("no target", "GET HTTP/1.1"),
        ("an empty target", "GET  HTTP/1.1"),
        ("no version", "GET /a"),
        ("no version, with a space", "GET /a "),
        ("a method alone", "GET"),
        ("HTTP/0.9", "GET /a HTTP/0.9x"),
        ("a zero before the version", "GET /a HTTP/01.1"),
        ("a zero behind the version", "GET /a HTTP/1.10"),
        ("a version without a dot", "GET /a HTTP/11"),
        ("a version with a comma", "GET /a HTTP/1,1"),
        ("a version in lower case", "GET /a http/1.1"),
        ("a version beyond all numbers", "GET /a HTTP/4294967295.255"),
        ("a version with a sign", "GET /a HTTP/+1.1"),
        ("another protocol", "GET /a HTTPS/1.1"),
        ("ICY", "GET /a ICY/1.1"),
        ("no slash before the path", "GET nothing HTTP/1.1"),
        ("an asterisk", "GET * HTTP/1.1"),
        ("an asterisk with a path", "OPTIONS */a HTTP/1.1"),
        ("a question mark alone", "GET ? HTTP/1.1"),
        ("two dots alone", "GET .. HTTP/1.1"),
        ("an encoded NUL", "GET /%00 HTTP/1.1"),
        ("half an escape", "GET /%4 HTTP/1.1"),
        ("an escape of letters", "GET /%zz HTTP/1.1"),
    ]
    .into_iter()
    .map(|(name, line)| refused("B3", name, latin1(&format!("{line}\r\nHost: x\r\n\r\n"))))
    .collect();
    for (name, line) in [
        ("HTTP/1.2", "GET /a HTTP/1.2"),
        ("HTTP/1.9", "GET /a HTTP/1.9"),
        ("HTTP/2.0", "GET /a HTTP/2.0"),
        ("HTTP/3.0", "GET /a HTTP/3.0"),
        ("HTTP/0.9 spelt out", "GET /a HTTP/0.9"),
        ("the first line of HTTP/2", "PRI * HTTP/2.0"),
    ] {
        cases.push(refused_with("B3", name, format!("{line}\r\nHost: x\r\n\r\n"), &[505, 400]));
    }
    let options = vec![Expected::new("OPTIONS", "*", "")];
    cases.push(forwarded("B3", "an asterisk of OPTIONS", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", options));
    cases
}

fn methods() -> Vec<Case> {
    let mut cases: Vec<Case> = [
        ("lower case", "get"),
        ("mixed case", "Get"),
        ("a delimiter", "G(T"),
        ("a colon", "GET:"),
        ("a comma", "GET,POST"),
        ("quotes", "\"GET\""),
        ("an at sign", "@GET"),
        ("a slash", "GET/"),
        ("a NUL", "G\0T"),
        ("a byte of 0x80", "G\u{80}T"),
        ("a letter beyond ASCII", "G\u{c3}\u{8b}T"),
        ("a byte order mark", "\u{ef}\u{bb}\u{bf}POST"),
        ("empty", ""),
    ]
    .into_iter()
    .map(|(name, method)| {
        refused_with("B4", name, latin1(&format!("{method} /a HTTP/1.1\r\nHost: x\r\n\r\n")), &[400, 405, 501])
    })
    .collect();
    let long = format!("{} /a HTTP/1.1\r\nHost: x\r\n\r\n", "A".repeat(64 * 1024));
    cases.push(refused_with("B4", "64 KiB", long, &[400, 405, 414, 431, 501]));
    for (name, text) in [
        ("CONNECT", "CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n".to_owned()),
        (
            "CVE-2025-64763: CONNECT with data behind it",
            format!("CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n{SMUGGLED}"),
        ),
        ("CONNECT to a path", "CONNECT /a HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        (
            "CONNECT with a body",
            format!("CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\nContent-Length: 35\r\n\r\n{SMUGGLED}"),
        ),
    ] {
        cases.push(refused_with("B4", name, text, &[400, 404, 405, 501]));
    }
    let trace = refused_with("B4", "TRACE", "TRACE /a HTTP/1.1\r\nHost: x\r\n\r\n", &[405, 501]);
    cases.push(trace.or(vec![Expected::new("TRACE", "/a", "")]));
    for method in ["PURGE", "PROPFIND", "M-SEARCH", "QUERY", "X~!#$%&'*+-.^_`|"] {
        let text = format!("{method} /a HTTP/1.1\r\nHost: x\r\n\r\n");
        let case = refused_with("B4", format!("the token {method}"), text, &[400, 405, 501]);
        cases.push(case.or(vec![Expected::new(method, "/a", "")]));
    }
    cases
}
