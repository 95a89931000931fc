//! Rows A21 to A26: what stands behind a message: unusual bodies, early answers, expectations, pipelines, upgrades, and
//! fields that Connection names (RFC 9110, sections 7.6.1, 7.8 and 10.1.1; RFC 9112, section 9.3).
//! Read next: `lines.rs`.

use super::{Case, End, Expected, SMUGGLED, forwarded, latin1, refused, refused_with};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = unusual_bodies();
    cases.extend(early_answers());
    cases.extend(expectations());
    cases.extend(pipelines());
    cases.extend(upgrades());
    cases.extend(nominations());
    cases
}

/// A request with lines and a body of known length.
fn sized(method: &str, target: &str, lines: &str, body: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// A request with lines and a body in one chunk.
fn chunked(method: &str, target: &str, lines: &str, body: &str) -> String {
    let head = format!("{method} {target} HTTP/1.1\r\nHost: x\r\n{lines}Transfer-Encoding: chunked\r\n\r\n");
    format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

fn plain(method: &str, target: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n")
}

fn unusual_bodies() -> Vec<Case> {
    let mut cases = Vec::new();
    for method in ["GET", "HEAD", "OPTIONS", "DELETE", "PURGE", "M-SEARCH"] {
        let one = |body: &str| vec![Expected::new(method, "/one", body), Expected::new("GET", "/two", "")];
        let two = plain("GET", "/two");
        let text = format!("{}{two}", sized(method, "/one", "", SMUGGLED));
        cases.push(forwarded("A21", format!("{method} with a sized body"), text, one(SMUGGLED)));
        let text = format!("{}{two}", chunked(method, "/one", "", SMUGGLED));
        cases.push(forwarded("A21", format!("{method} with a chunked body"), text, one(SMUGGLED)));
    }
    let text = format!("{}{}", sized("GET", "/one", "", ""), plain("GET", "/two"));
    let expected = vec![Expected::new("GET", "/one", ""), Expected::new("GET", "/two", "")];
    cases.push(forwarded("A21", "GET with a body of no bytes", text, expected));
    cases
}

fn early_answers() -> Vec<Case> {
    let mut cases = Vec::new();
    let long = SMUGGLED.repeat(3000);
    for (name, status) in [("401", 401), ("413", 413), ("a redirect", 302), ("an error", 500)] {
        let target = format!("/early/{status}");
        for (framing, text) in
            [("sized", sized("POST", &target, "", SMUGGLED)), ("chunked", chunked("POST", &target, "", SMUGGLED))]
        {
            let expected = vec![Expected::new("POST", &target, SMUGGLED).answered(status)];
            let name = format!("CVE-2025-4366: {name} before a {framing} body");
            cases.push(forwarded("A22", name, text, expected).ending(End::ServesOrCloses));
        }
    }
    for (name, text) in
        [("sized", sized("POST", "/early/403", "", &long)), ("chunked", chunked("POST", "/early/403", "", &long))]
    {
        let expected = vec![Expected::new("POST", "/early/403", &long).answered(403)];
        let name = format!("before a {name} body of 100 KiB");
        cases.push(forwarded("A22", name, text, expected).ending(End::ServesOrCloses));
    }
    cases
}

fn expectations() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, value) in [
        ("unknown", "x"),
        ("known and unknown", "100-continue, x"),
        ("with a parameter", "100-continue;a=b"),
        ("another number", "101-continue"),
        ("a number alone", "100"),
    ] {
        let lines = format!("Expect: {value}\r\n");
        cases.push(refused_with("A23", name, sized("POST", "/p", &lines, SMUGGLED), &[417, 400]));
    }
    let lines = "Expect: 100-continue\r\n";
    for (name, text) in [
        ("a sized body", sized("POST", "/continue", lines, "hello")),
        ("a chunked body", chunked("POST", "/continue", lines, "hello")),
        ("a sized body, in capitals", sized("POST", "/continue", "EXPECT: 100-CONTINUE\r\n", "hello")),
        ("a sized body, said twice", sized("POST", "/continue", &lines.repeat(2), "hello")),
    ] {
        cases.push(forwarded("A23", name, text, vec![Expected::new("POST", "/continue", "hello")]));
    }
    for (name, status) in [("refused", 417), ("forbidden", 403), ("answered", 201)] {
        let target = format!("/final/{status}");
        for (framing, text) in
            [("sized", sized("POST", &target, lines, SMUGGLED)), ("chunked", chunked("POST", &target, lines, SMUGGLED))]
        {
            let expected = vec![Expected::new("POST", &target, SMUGGLED).answered(status)];
            let name = format!("CVE-2024-24791: {name} at once, the {framing} body comes nevertheless");
            cases.push(forwarded("A23", name, text, expected).ending(End::ServesOrCloses));
        }
    }
    let text = format!("GET /p HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
    cases.push(forwarded("A23", "without a body", text, vec![Expected::new("GET", "/p", "")]));
    let text = format!("POST /p HTTP/1.0\r\nHost: x\r\n{lines}Content-Length: 5\r\n\r\nhello");
    let old = forwarded("A23", "in HTTP/1.0", text, vec![Expected::new("POST", "/p", "hello")]);
    cases.push(old.ending(End::Closes));
    cases
}

fn pipelines() -> Vec<Case> {
    let one = || Expected::new("GET", "/one", "");
    let two = || Expected::new("GET", "/two", "");
    let mut cases = Vec::new();
    let both = format!("{}{}", plain("GET", "/one"), plain("GET", "/two"));
    cases.push(forwarded("A24", "two", both, vec![one(), two()]));
    let posts = format!("{}{}", sized("POST", "/one", "", "hello"), chunked("PUT", "/two", "", "world"));
    let expected = vec![Expected::new("POST", "/one", "hello"), Expected::new("PUT", "/two", "world")];
    cases.push(forwarded("A24", "two with bodies", posts, expected));
    let (many, expected): (String, Vec<Expected>) =
        (0..200).map(|n| (plain("GET", &format!("/{n}")), Expected::new("GET", &format!("/{n}"), ""))).unzip();
    cases.push(forwarded("A24", "two hundred", many, expected));
    for (name, behind) in [
        ("no Host", "GET /smuggled HTTP/1.1\r\n\r\n"),
        (
            "two framings",
            "POST /smuggled HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
        ),
        ("a bare LF", "GET /smuggled HTTP/1.1\nHost: x\r\n\r\n"),
        ("no request line", "\0\x01\x02\r\n\r\n"),
        ("a space before the colon", "GET /smuggled HTTP/1.1\r\nHost : x\r\n\r\n"),
        ("a chunk where none is due", "0\r\n\r\n"),
    ] {
        for (before, text, expected) in [
            ("a plain request", plain("GET", "/one"), one()),
            ("a sized body", sized("POST", "/one", "", "hello"), Expected::new("POST", "/one", "hello")),
            ("a chunked body", chunked("POST", "/one", "", "hello"), Expected::new("POST", "/one", "hello")),
        ] {
            let case = refused("A24", format!("{name} behind {before}"), latin1(&format!("{text}{behind}")));
            cases.push(Case { forwarded: vec![expected], ..case });
        }
    }
    let broken = format!(
        "{}{}",
        plain("GET", "/one"),
        "POST /smuggled HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"
    );
    cases.push(Case { forwarded: vec![one()], ..refused("A24", "a broken body behind a request", broken).broken() });
    let inside = format!("{}{}", sized("POST", "/one", "", &SMUGGLED.repeat(3)), plain("GET", "/two"));
    let expected = vec![Expected::new("POST", "/one", SMUGGLED.repeat(3)), two()];
    cases.push(forwarded("A24", "requests inside a body", inside, expected));
    let close = format!("GET /one HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n{SMUGGLED}");
    cases.push(forwarded("A24", "behind a request that closes", close, vec![one()]).ending(End::Closes));
    cases
}

fn upgrades() -> Vec<Case> {
    let mut cases = Vec::new();
    let lines = "Connection: Upgrade\r\nUpgrade: foo\r\n";
    let behind = || Expected::new("GET", "/two", "");
    for (id, status) in [("answered", 200), ("refused", 403), ("told to upgrade", 426), ("failed", 500)] {
        let target = format!("/switch/{status}");
        let expected = || vec![Expected::new("GET", &target, "").answered(status), behind()];
        let text = format!("GET {target} HTTP/1.1\r\nHost: x\r\n{lines}\r\n{}", plain("GET", "/two"));
        cases.push(forwarded("A25", format!("CVE-2024-23326: {id}, with a request behind it"), text, expected()));
        let text = format!("GET {target} HTTP/1.1\r\nHost: x\r\nUpgrade: foo\r\n\r\n{}", plain("GET", "/two"));
        cases.push(forwarded("A25", format!("{id}, not named in Connection"), text, expected()));
        let text = format!("{}{}", sized("POST", &target, lines, SMUGGLED), plain("GET", "/two"));
        let requests = vec![Expected::new("POST", &target, SMUGGLED).answered(status), behind()];
        cases.push(forwarded("A25", format!("CVE-2026-2833: {id}, with a body"), text, requests));
    }
    let lines = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n";
    let text = format!("GET /one HTTP/1.1\r\nHost: x\r\n{lines}\r\n{}", plain("GET", "/two"));
    let expected = Expected::new("GET", "/one", "").without(&["upgrade", "http2-settings"]);
    cases.push(forwarded("A25", "to HTTP/2 in clear text, which is not passed on", text, vec![expected, behind()]));
    let text = format!("GET /one HTTP/1.0\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n{SMUGGLED}");
    let expected = vec![Expected::new("GET", "/one", "").without(&["upgrade"])];
    cases.push(forwarded("A25", "in HTTP/1.0", text, expected).ending(End::Closes));
    for (name, value) in [("with a control byte", "foo\x01"), ("with LF", "foo\nbar")] {
        let text = format!("GET /one HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: {value}\r\n\r\n");
        cases.push(refused("A25", name, latin1(&text)));
    }
    cases
}

fn nominations() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in [
        "Transfer-Encoding",
        "Content-Length",
        "Host",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "Authorization",
        "Cookie",
    ] {
        for value in [name.to_owned(), format!("close, {name}"), format!("keep-alive,{}", name.to_lowercase())] {
            let lines = format!("Connection: {value}\r\nAuthorization: Basic YTpi\r\nCookie: a=b\r\n");
            let text = match name {
                "Transfer-Encoding" => chunked("POST", "/p", &lines, "hello"),
                _ => sized("POST", "/p", &lines, "hello"),
            };
            let kept = Expected::new("POST", "/p", "hello").with("authorization", "Basic YTpi").with("cookie", "a=b");
            cases.push(refused("A26", format!("Connection: {value}"), text).or(vec![kept]));
        }
    }
    let text = "GET /p HTTP/1.1\r\nHost: x\r\nConnection: x-mine, keep-alive\r\nX-Mine: 1\r\nX-Other: 2\r\n\r\n";
    let expected = Expected::new("GET", "/p", "").without(&["x-mine", "connection"]).with("x-other", "2");
    cases.push(forwarded("A26", "a field of the client's own", text, vec![expected]));
    let hop =
        "Keep-Alive: timeout=9\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nProxy-Authorization: Basic YTpi\r\n";
    let text = format!("GET /p HTTP/1.1\r\nHost: x\r\n{hop}\r\n");
    let expected =
        Expected::new("GET", "/p", "").without(&["keep-alive", "proxy-connection", "te", "proxy-authorization"]);
    cases.push(forwarded("A26", "fields of this hop", text, vec![expected]));
    for (name, value) in [("no token", "a b"), ("quotes", "\"close\""), ("a control byte", "close\x02")] {
        let text = format!("GET /p HTTP/1.1\r\nHost: x\r\nConnection: {value}\r\n\r\n");
        cases.push(refused("A26", format!("Connection with {name}"), text));
    }
    cases
}
