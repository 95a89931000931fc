//! Rows A12 to A20: chunks, trailers, line ends and folded lines (RFC 9112, sections 2.2, 5.2 and 7.1).
//! Read next: `sequences.rs`.

use super::{Case, Expected, SMUGGLED, forwarded, latin1, post, refused};

const CODING: &str = "Transfer-Encoding: chunked\r\n";

/// A chunked request that must not arrive complete.
fn broken(row: &'static str, name: &str, body: &str) -> Case {
    refused(row, name, post(CODING, body)).broken()
}

/// A chunked request that arrives as `hello`.
fn hello(row: &'static str, name: &str, body: &str, trailers_dropped: &[&'static str]) -> Case {
    let expected = Expected::new("POST", "/p", "hello").without(trailers_dropped);
    forwarded(row, name, post(CODING, body), vec![expected])
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = sizes();
    cases.extend(size_lines());
    cases.extend(extensions());
    cases.extend(ends());
    cases.extend(well_framed());
    cases.extend(trailers());
    cases.extend(line_ends());
    cases.extend(values_with_line_ends());
    cases.extend(folds());
    cases
}

fn sizes() -> Vec<Case> {
    let tail = format!("\r\nhello\r\n0\r\n\r\n{SMUGGLED}");
    [
        ("hexadecimal prefix", "0x5"),
        ("plus", "+5"),
        ("minus", "-5"),
        ("minus one", "-1"),
        ("minus zero", "-0"),
        ("minus zero in hexadecimal", "-0x0"),
        ("underscore", "5_0"),
        ("a space before", " 5"),
        ("a space behind", "5 "),
        ("a tab before", "\t5"),
        ("a tab behind", "5\t"),
        ("empty", ""),
        ("CVE-2021-32714: seventeen digits", "10000000000000005"),
        ("CVE-2021-32714: all of sixteen digits", "ffffffffffffffff"),
        ("five modulo two to the 64th, in zeros", "000000000000000005"),
        ("the largest signed number and one", "8000000000000000"),
        ("a letter beyond f", "g"),
        ("a letter behind", "5g"),
        ("a NUL behind", "5\0"),
        ("quoted", "\"5\""),
        ("a fraction", "5.0"),
        ("a comma", "5,0"),
        ("a full-width digit", "\u{ef}\u{bc}\u{95}"),
        ("a no-break space behind", "5\u{a0}"),
        ("a vertical tab behind", "5\x0b"),
        ("a colon", "5: a"),
        ("two numbers", "5 5"),
    ]
    .into_iter()
    .map(|(name, size)| broken("A12", name, &format!("{size}{tail}")))
    .collect()
}

fn size_lines() -> Vec<Case> {
    let inner = "\r\n0\r\n\r\n";
    [
        ("LF", format!("5\nhello{inner}")),
        ("CR", format!("5\rhello{inner}")),
        ("CR and a letter", format!("5\rXhello{inner}")),
        ("two CR and LF", format!("5\r\r\nhello{inner}")),
        ("CVE-2025-43859: two CR and an extension", format!("5\r\r;ABCD\r\nhello{inner}")),
        ("LF and CR", format!("5\n\rhello{inner}")),
        ("LF behind the last size", "5\r\nhello\r\n0\n\r\n".to_owned()),
        ("CR behind the last size", "5\r\nhello\r\n0\r\r\n".to_owned()),
        ("a NUL between CR and LF", format!("5\r\0\nhello{inner}")),
        ("an empty line before the first size", format!("\r\n5\r\nhello{inner}")),
        ("LF before the first size", format!("\n5\r\nhello{inner}")),
    ]
    .into_iter()
    .map(|(name, body)| broken("A13", name, &format!("{body}{SMUGGLED}")))
    .collect()
}

fn extensions() -> Vec<Case> {
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(64 * 1024));
    let greedy = format!("{}0\r\n\r\n", format!("1;{}\r\nx\r\n", "a".repeat(200)).repeat(1000));
    let mut cases: Vec<Case> = [
        ("a semicolon alone", "5;"),
        ("two semicolons", "5;;"),
        ("a space and a semicolon alone", "5 ;"),
        ("CVE-2025-58056: LF inside", "5;a\nb"),
        ("LF at the end", "5;a\nhello\r\n0\r\n\r\n"),
        ("two CR inside", "5;a\r\rX"),
        ("CR inside", "5;a\rb"),
        ("a control byte", "5;\x01a"),
        ("a NUL", "5;a=\0"),
        ("a byte of 0x7f", "5;a=\x7f"),
        ("a byte of 0x80", "5;\u{80}"),
        ("an equals sign alone", "5;=b"),
    ]
    .into_iter()
    .map(|(name, line)| broken("A14", name, &format!("{line}\r\nhello\r\n0\r\n\r\n{SMUGGLED}")))
    .collect();
    cases.push(broken("A14", "64 KiB", &long));
    cases.push(broken("A14", "CVE-2023-39326: two hundred bytes for each byte of data", &greedy));
    cases
}

fn ends() -> Vec<Case> {
    let mut cases: Vec<Case> = [
        ("data longer than its size", "5\r\nhello!\r\n0\r\n\r\n"),
        ("data shorter than its size", "6\r\nhello\r\n0\r\n\r\n"),
        ("two letters behind the data", "5\r\nhelloXX0\r\n\r\n"),
        ("LF behind the data", "5\r\nhello\n0\r\n\r\n"),
        ("CR behind the data", "5\r\nhello\r0\r\n\r\n"),
        ("nothing behind the data", "5\r\nhello0\r\n\r\n"),
        ("two line ends behind the data", "5\r\nhello\r\n\r\n0\r\n\r\n"),
        ("a space behind the data", "5\r\nhello \r\n0\r\n\r\n"),
        ("a request where a size should be", "5\r\nhello\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("LF as the last line", "5\r\nhello\r\n0\r\n\n"),
        ("a request as the trailers", "5\r\nhello\r\n0\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"),
    ]
    .into_iter()
    .map(|(name, body)| broken("A15", name, &format!("{body}{SMUGGLED}")))
    .collect();
    for (name, body) in [
        ("no last chunk", "5\r\nhello\r\n"),
        ("the last chunk without its line end", "5\r\nhello\r\n0"),
        ("the last chunk without the last line", "5\r\nhello\r\n0\r\n"),
        ("half of the last line", "5\r\nhello\r\n0\r\n\r"),
        ("half of the data", "5\r\nhel"),
        ("a size and no more", "5"),
        ("a trailer and no more", "5\r\nhello\r\n0\r\nX: y\r\n"),
    ] {
        cases.push(broken("A15", name, body).finishing());
    }
    cases
}

fn well_framed() -> Vec<Case> {
    vec![
        hello("A16", "one chunk", "5\r\nhello\r\n0\r\n\r\n", &[]),
        hello("A16", "five chunks", "1\r\nh\r\n1\r\ne\r\n1\r\nl\r\n1\r\nl\r\n1\r\no\r\n0\r\n\r\n", &[]),
        hello("A16", "zeros before the size", "0005\r\nhello\r\n000\r\n\r\n", &[]),
        hello("A16", "an extension", "5;a\r\nhello\r\n0\r\n\r\n", &[]),
        hello("A16", "an extension with a value", "5;a=b;c=\"d e\"\r\nhello\r\n0;last\r\n\r\n", &[]),
        hello("A16", "an extension that looks like a size", "5;5\r\nhello\r\n0\r\n\r\n", &[]),
        forwarded(
            "A16",
            "digits in both cases",
            post(CODING, "a\r\nhelloworld\r\nA\r\nHELLOWORLD\r\n0\r\n\r\n"),
            vec![Expected::new("POST", "/p", "helloworldHELLOWORLD")],
        ),
        forwarded("A16", "no data", post(CODING, "0\r\n\r\n"), vec![Expected::new("POST", "/p", "")]),
        forwarded(
            "A16",
            "a request inside",
            post(CODING, &format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len())),
            vec![Expected::new("POST", "/p", SMUGGLED)],
        ),
        forwarded(
            "A16",
            "chunks inside a chunk",
            post(CODING, "e\r\n0\r\n\r\nGET / HTT\r\n0\r\n\r\n"),
            vec![Expected::new("POST", "/p", "0\r\n\r\nGET / HTT")],
        ),
    ]
}

fn trailers() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, line) in [
        ("content-length", "Content-Length: 40"),
        ("transfer-encoding", "Transfer-Encoding: chunked"),
        ("host", "Host: evil"),
        ("authorization", "Authorization: Basic YTpi"),
        ("cookie", "Cookie: a=b"),
        ("te", "TE: gzip"),
        ("x-forwarded-for", "X-Forwarded-For: 1.2.3.4"),
        ("content_length", "Content_Length: 40"),
    ] {
        let body = format!("5\r\nhello\r\n0\r\n{line}\r\n\r\n");
        cases.push(hello("A17", &format!("{name} is dropped"), &body, &[name]));
    }
    cases.push(hello("A17", "an ordinary one", "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", &[]));
    let many = format!("5\r\nhello\r\n0\r\n{}\r\n", "X: y\r\n".repeat(10_000));
    let case = broken("A17", "ten thousand", &many);
    cases.push(case.or(vec![Expected::new("POST", "/p", "hello")]));
    let long = format!("5\r\nhello\r\n0\r\nX: {}\r\n\r\n", "y".repeat(64 * 1024));
    let case = broken("A17", "one of 64 KiB", &long);
    cases.push(case.or(vec![Expected::new("POST", "/p", "hello")]));
    for (name, lines) in [
        ("a space in the name", "X y: z\r\n"),
        ("a space before the colon", "X : z\r\n"),
        ("an empty name", ": z\r\n"),
        ("a NUL in the value", "X: a\0b\r\n"),
        ("a CR in the value", "X: a\rb\r\n"),
        ("LF at its end", "X: y\nZ: a\r\n"),
        ("a fold", "X: y\r\n z\r\n"),
        ("no colon", "nothing\r\n"),
    ] {
        cases.push(broken("A17", name, &format!("5\r\nhello\r\n0\r\n{lines}\r\n{SMUGGLED}")));
    }
    cases
}

fn line_ends() -> Vec<Case> {
    let plain = || vec![Expected::new("GET", "/p", "")];
    let mut cases: Vec<Case> = [
        ("LF everywhere", "GET /p HTTP/1.1\nHost: x\n\n"),
        ("LF behind the request line", "GET /p HTTP/1.1\nHost: x\r\n\r\n"),
        ("LF behind a field", "GET /p HTTP/1.1\r\nHost: x\nX: y\r\n\r\n"),
        ("LF behind the last field", "GET /p HTTP/1.1\r\nHost: x\r\nX: y\n\r\n"),
        ("LF as the last line", "GET /p HTTP/1.1\r\nHost: x\r\n\n"),
    ]
    .into_iter()
    .map(|(name, text)| refused("A18", name, latin1(text)).or(plain()))
    .collect();
    for (name, text) in [
        ("CR everywhere", "GET /p HTTP/1.1\rHost: x\r\r\n\r\n"),
        ("CR behind the request line", "GET /p HTTP/1.1\rHost: x\r\n\r\n"),
        ("two CR behind the request line", "GET /p HTTP/1.1\r\r\nHost: x\r\n\r\n"),
        ("CR, a space and LF", "GET /p HTTP/1.1\r \nHost: x\r\n\r\n"),
        ("LF and CR behind the request line", "GET /p HTTP/1.1\n\rHost: x\r\n\r\n"),
        ("a space before the request line", " GET /p HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("a NUL before the request line", "\0GET /p HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("a byte order mark before the request line", "\u{ef}\u{bb}\u{bf}GET /p HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("an empty line of LF before the request line", "\nGET /p HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("an empty line of CR before the request line", "\rGET /p HTTP/1.1\r\nHost: x\r\n\r\n"),
    ] {
        cases.push(refused("A18", name, latin1(text)).or(plain()));
    }
    cases.push(forwarded("A18", "one empty line before", latin1("\r\nGET /p HTTP/1.1\r\nHost: x\r\n\r\n"), plain()));
    let many = format!("{}GET /p HTTP/1.1\r\nHost: x\r\n\r\n", "\r\n".repeat(10_000));
    cases.push(refused("A18", "ten thousand empty lines before", latin1(&many)).or(plain()));
    cases
}

fn values_with_line_ends() -> Vec<Case> {
    [
        ("LF in a name", "Te\nst: x"),
        ("CR in a name", "Te\rst: x"),
        ("CR in a value", "Visible: :/\rSmuggled: :)"),
        ("NUL and CR in a value", "Header: v\0\ralue"),
        ("LF in a value", "X: a\nTransfer-Encoding: chunked"),
        ("CR and a space in a value", "X: a\r b"),
        ("a next-line byte in a name", "X\u{85}Y: z"),
        ("an empty line of CR inside the head", "X: a\r\rGET /smuggled HTTP/1.1"),
        ("CR at the end of a value", "X: a\r"),
        ("CR as a value", "X: \r"),
        ("CR as a name", "\r: x"),
    ]
    .into_iter()
    .map(|(name, line)| refused("A19", name, latin1(&format!("GET /p HTTP/1.1\r\nHost: x\r\n{line}\r\n\r\n"))))
    .collect()
}

fn folds() -> Vec<Case> {
    [
        ("an ordinary field", "Host: x\r\nX: a\r\n b\r\n"),
        ("an ordinary field, with a tab", "Host: x\r\nX: a\r\n\tb\r\n"),
        ("a line of spaces", "Host: x\r\nX: a\r\n  \r\nY: b\r\n"),
        ("Host", "Host: x\r\n y\r\n"),
        ("Host behind its colon", "Host:\r\n x\r\n"),
        ("Content-Length", "Host: x\r\nContent-Length: 5\r\n 5\r\n"),
        ("Content-Length behind its colon", "Host: x\r\nContent-Length:\r\n 5\r\n"),
        ("a field that hides Content-Length", "Host: x\r\nX: y\r\n\tContent-Length: 5\r\n"),
        ("Transfer-Encoding", "Host: x\r\nTransfer-Encoding: chunked\r\n , identity\r\n"),
        ("a field that hides Transfer-Encoding", "Host: x\r\nX: y\r\n Transfer-Encoding: chunked\r\n"),
        ("the first field", " X: y\r\nHost: x\r\n"),
        ("the request line", " x\r\nHost: x\r\n"),
    ]
    .into_iter()
    .map(|(name, lines)| refused("A20", name, latin1(&format!("POST /p HTTP/1.1\r\n{lines}\r\nhello"))))
    .collect()
}
