//! Rows A1 to A11: where a body ends, said twice, said wrongly, or said so that only some servers hear it
//! (RFC 9112, sections 6.1 to 6.3). Read next: `chunks.rs`.

use super::{Case, End, Expected, SMUGGLED, forwarded, get, latin1, post, refused, refused_with};

/// A chunked body of five bytes.
const CHUNKED: &str = "5\r\nhello\r\n0\r\n\r\n";

/// A coding that is refused may be called unknown as well as malformed.
const CODING: &[u16] = &[400, 501];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = both_framings();
    cases.extend(several_lengths());
    cases.extend(lengths_that_are_none());
    cases.extend(lengths_in_another_spelling());
    cases.extend(names_beside_the_name());
    cases.extend(codings());
    cases.extend(codings_beside_the_value());
    cases.extend(old_versions());
    cases
}

fn both_framings() -> Vec<Case> {
    let mut cases = Vec::new();
    let behind = format!("0\r\n\r\n{SMUGGLED}");
    for (name, lines) in [
        ("length, then coding", "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n"),
        ("coding, then length", "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n"),
        ("length, a field, coding", "Content-Length: 6\r\nX: y\r\nTransfer-Encoding: chunked\r\n"),
        ("length of nothing and coding", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"),
        ("lower case", "content-length: 6\r\ntransfer-encoding: chunked\r\n"),
        ("upper case", "CONTENT-LENGTH: 6\r\nTRANSFER-ENCODING: CHUNKED\r\n"),
        ("length and an unknown coding", "Content-Length: 6\r\nTransfer-Encoding: x\r\n"),
        ("length and identity", "Content-Length: 6\r\nTransfer-Encoding: identity\r\n"),
        ("two lengths and coding", "Content-Length: 6\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n"),
    ] {
        cases.push(refused_with("A1", name, post(lines, &behind), CODING));
    }
    cases.push(refused("A1", "GET with both", get("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n")));
    let tail = format!("3\r\nabc\r\n0\r\n\r\n{SMUGGLED}");
    for (name, length) in [("that of the framed body", 13), ("beyond the framed body", 48), ("one", 1)] {
        let lines = format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n");
        cases.push(refused("A1", format!("the length is {name}"), post(&lines, &tail)));
    }
    cases
}

fn several_lengths() -> Vec<Case> {
    let mut cases = Vec::new();
    let body = format!("hello{SMUGGLED}");
    for (name, lines) in [
        ("the larger last", "Content-Length: 5\r\nContent-Length: 40\r\n"),
        ("the smaller last", "Content-Length: 40\r\nContent-Length: 5\r\n"),
        ("a list", "Content-Length: 5, 6\r\n"),
        ("a list without a space", "Content-Length: 5,6\r\n"),
        ("zero first", "Content-Length: 0\r\nContent-Length: 40\r\n"),
        ("zero last", "Content-Length: 40\r\nContent-Length: 0\r\n"),
        ("apart", "Content-Length: 5\r\nA: b\r\nContent-Length: 6\r\n"),
        ("in two cases", "Content-Length: 5\r\ncontent-length: 6\r\n"),
        ("three", "Content-Length: 5\r\nContent-Length: 5\r\nContent-Length: 40\r\n"),
    ] {
        cases.push(refused("A2", name, post(lines, &body)));
    }
    // A list of equal numbers may be taken as one (RFC 9110, section 8.6).
    for (name, lines) in [
        ("in two lines", "Content-Length: 5\r\nContent-Length: 5\r\n"),
        ("in a list", "Content-Length: 5, 5\r\n"),
        ("in a list without a space", "Content-Length: 5,5\r\n"),
        ("in three lines", "Content-Length: 5\r\nContent-Length: 5\r\nContent-Length: 5\r\n"),
    ] {
        let expected = vec![Expected::new("POST", "/p", "hello")];
        cases.push(refused("A3", name, post(lines, "hello")).or(expected));
    }
    // CVE-2023-40225: the first, empty one was looked at, the second one was forwarded.
    for (name, lines) in [
        ("alone", "Content-Length:\r\n"),
        ("a space alone", "Content-Length: \r\n"),
        ("CVE-2023-40225: before another", "Content-Length:\r\nContent-Length: 40\r\n"),
        ("behind another", "Content-Length: 40\r\nContent-Length:\r\n"),
        ("in a list", "Content-Length: ,5\r\n"),
        ("at the end of a list", "Content-Length: 5,\r\n"),
        ("a comma alone", "Content-Length: ,\r\n"),
    ] {
        cases.push(refused("A4", format!("empty, {name}"), post(lines, &body)));
    }
    cases
}

fn lengths_that_are_none() -> Vec<Case> {
    [
        ("CVE-2021-32715: a plus sign", "+5"),
        ("minus zero", "-0"),
        ("negative", "-48"),
        ("minus one", "-1"),
        ("hexadecimal", "0x10"),
        ("hexadecimal digits", "a"),
        ("an underscore", "1_0"),
        ("a letter behind", "1Z"),
        ("a letter before", "Z1"),
        ("a space inside", "5 5"),
        ("a tab before", "\t5"),
        ("a tab behind", "5\t"),
        ("a full-width digit", "\u{ef}\u{bc}\u{95}"),
        ("a superscript", "\u{b2}"),
        ("two to the 64th", "18446744073709551616"),
        ("five more than two to the 64th", "18446744073709551621"),
        ("four more than two to the 64th", "18446744073709551620"),
        ("twenty digits", "99999999999999999999"),
        ("a thousand digits", &"9".repeat(1000)),
        ("a fraction", "5.0"),
        ("an exponent", "5e0"),
        ("a parameter", "5;a=b"),
        ("quoted", "\"5\""),
        ("octal", "0o5"),
        ("a NUL behind", "5\0"),
        ("a vertical tab behind", "5\x0b"),
        ("a form feed before", "\x0c5"),
        ("a no-break space behind", "5\u{a0}"),
        ("a carriage return behind", "5\r"),
    ]
    .into_iter()
    .map(|(name, length)| refused("A5", name, post(&format!("Content-Length: {length}\r\n"), "hello")))
    .collect()
}

fn lengths_in_another_spelling() -> Vec<Case> {
    let hello = || vec![Expected::new("POST", "/p", "hello").with("content-length", "5")];
    let zeros = |row_name: &str, text: &str, body: &str| {
        let case = refused("A6", row_name, post(&format!("Content-Length: {text}\r\n"), body));
        case.or(vec![Expected::new("POST", "/p", body).with("content-length", &body.len().to_string())])
    };
    vec![
        zeros("two zeros before", "005", "hello"),
        zeros("ten, not eight", "010", "helloworld"),
        zeros("forty zeros", &format!("{}5", "0".repeat(40)), "hello"),
        zeros("nothing in two digits", "00", ""),
        forwarded("A6", "a space behind", post("Content-Length: 5 \r\n", "hello"), hello()),
        forwarded("A6", "no space before", post("Content-Length:5\r\n", "hello"), hello()),
        forwarded("A6", "spaces before", post("Content-Length:    5\r\n", "hello"), hello()),
        forwarded("A6", "lower case", post("content-length: 5\r\n", "hello"), hello()),
    ]
}

fn names_beside_the_name() -> Vec<Case> {
    let body = format!("hello{SMUGGLED}");
    let mut cases: Vec<Case> = [
        ("a space before the colon", "Content-Length : 40"),
        ("a tab before the colon", "Content-Length\t: 40"),
        ("a next-line byte before the colon", "Content-Length\u{85}: 40"),
        ("a no-break space before the colon", "Content-Length\u{a0}: 40"),
        ("a NUL before the colon", "Content-Length\0: 40"),
        ("a vertical tab before the colon", "Content-Length\x0b: 40"),
        ("a carriage return before the colon", "Content-Length\r: 40"),
        ("an underscore", "Content_Length: 40"),
        ("an underscore in lower case", "content_length: 41"),
        ("a space before the name", " Content-Length: 40"),
        ("a tab before the name", "\tContent-Length: 40"),
        ("no colon", "Content-Length 41"),
        ("a quote before the name", "\"Content-Length: 40"),
        ("a byte order mark before the name", "\u{ef}\u{bb}\u{bf}Content-Length: 40"),
    ]
    .into_iter()
    .map(|(name, line)| refused("A7", name, post(&format!("{line}\r\n"), &body)))
    .collect();
    // CVE-2021-40346: a name so long that its length did not fit hid a second Content-Length.
    let lines = format!("Content-Length0{}: \r\nContent-Length: 40\r\n", "a".repeat(255));
    let inside = SMUGGLED.replace("/smuggled", "/inside!!");
    let expected = vec![Expected::new("POST", "/p", format!("hello{inside}"))];
    cases.push(forwarded(
        "A7",
        "CVE-2021-40346: a name of 270 bytes that begins like it",
        post(&lines, &format!("hello{inside}")),
        expected,
    ));
    for other in ["Content-Length-: 3", "Content-Lengt: 3", "X-Content-Length: 3", "ContentLength: 3"] {
        let lines = format!("{other}\r\nContent-Length: 5\r\n");
        let expected = vec![Expected::new("POST", "/p", "hello")];
        cases.push(forwarded("A7", format!("another field, {other}"), post(&lines, "hello"), expected));
    }
    cases
}

fn codings() -> Vec<Case> {
    let body = format!("{CHUNKED}{SMUGGLED}");
    let mut cases: Vec<Case> = [
        ("an empty element before", "Transfer-Encoding: ,chunked\r\n"),
        ("an empty element behind", "Transfer-Encoding: chunked,\r\n"),
        ("a comma alone", "Transfer-Encoding: ,\r\n"),
        ("twice in a list", "Transfer-Encoding: chunked, chunked\r\n"),
        ("CVE-2021-21299: in two lines", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        ("with identity in another line", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
        ("with identity in a line before", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n"),
        ("with an unknown one in another line", "Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n"),
        ("with an empty one in another line", "Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n"),
        ("with an empty one in a line before", "Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n"),
    ]
    .into_iter()
    .map(|(name, lines)| refused_with("A8", name, post(lines, &body), CODING))
    .collect();
    for (name, value) in [
        ("a letter before", "xchunked"),
        ("a letter behind", "chunkedx"),
        ("identity", "identity"),
        ("gzip", "gzip"),
        ("gzip before", "gzip, chunked"),
        ("CVE-2026-2835: chunked before another", "chunked, gzip"),
        ("identity behind", "chunked, identity"),
        ("a parameter", "chunked;a=b"),
        ("a semicolon", "chunked;"),
        ("empty", ""),
        ("quoted", "\"chunked\""),
        ("in single quotes", "'chunked'"),
        ("in parentheses", "(chunked)"),
        ("a space inside", "chun ked"),
        ("two words", "chunked identity"),
        ("a slash behind", "chunked/1"),
        ("reversed", "deknuhc"),
        ("a long s", "chunked\u{c5}\u{bf}"),
        ("a Kelvin sign", "chun\u{e2}\u{84}\u{aa}ed"),
        ("a null coding", "null"),
    ] {
        let case = refused_with("A9", name, post(&format!("Transfer-Encoding: {value}\r\n"), &body), CODING);
        cases.push(case);
    }
    cases
}

fn codings_beside_the_value() -> Vec<Case> {
    let body = format!("{CHUNKED}{SMUGGLED}");
    let mut cases: Vec<Case> = [
        ("a vertical tab before", "Transfer-Encoding: \x0bchunked"),
        ("a vertical tab behind", "Transfer-Encoding: chunked\x0b"),
        ("a form feed before", "Transfer-Encoding: \x0cchunked"),
        ("a no-break space before", "Transfer-Encoding: \u{a0}chunked"),
        ("a no-break space behind", "Transfer-Encoding: chunked\u{a0}"),
        ("a next-line byte behind", "Transfer-Encoding: chunked\u{85}"),
        ("a NUL behind", "Transfer-Encoding: chunked\0"),
        ("a NUL before", "Transfer-Encoding: \0chunked"),
        ("a tab before", "Transfer-Encoding:\tchunked"),
        ("a tab behind", "Transfer-Encoding: chunked\t"),
        ("a carriage return behind", "Transfer-Encoding: chunked\r"),
        ("a carriage return before", "Transfer-Encoding: \rchunked"),
        ("a fold before", "Transfer-Encoding:\r\n chunked"),
        ("a fold with a tab before", "Transfer-Encoding:\r\n\tchunked"),
        ("a fold behind", "Transfer-Encoding: chunked\r\n , identity"),
        ("an underscore", "Transfer_Encoding: chunked"),
        ("an underscore in lower case", "transfer_encoding: chunked"),
        ("a space before the colon", "Transfer-Encoding : chunked"),
        ("a tab before the colon", "Transfer-Encoding\t: chunked"),
        ("a NUL before the colon", "Transfer-Encoding\0: chunked"),
        ("a byte of 0xff before the colon", "Transfer-Encoding\u{ff}: chunked"),
        ("a space before the name", " Transfer-Encoding: chunked"),
        ("a tab before the name", "\tTransfer-Encoding: chunked"),
        ("in the value of a field behind a carriage return", "X: y\rTransfer-Encoding: chunked"),
        ("in the value of a field behind LF", "X: y\nTransfer-Encoding: chunked"),
        ("a field without a value before it, ended by LF", "X:\nTransfer-Encoding: chunked"),
    ]
    .into_iter()
    .map(|(name, line)| refused_with("A10", name, post(&format!("{line}\r\n"), &body), CODING))
    .collect();
    let first = format!("POST /p HTTP/1.1\r\n Transfer-Encoding: chunked\r\nHost: x\r\n\r\n{body}");
    cases.push(refused("A10", "as the first line, behind a space", latin1(&first)));
    for value in ["Chunked", "CHUNKED", "cHuNkEd", " chunked", "chunked  "] {
        let expected = vec![Expected::new("POST", "/p", "hello")];
        let bytes = post(&format!("Transfer-Encoding: {value}\r\n"), CHUNKED);
        cases.push(forwarded("A10", format!("the plain value, {value:?}"), bytes, expected));
    }
    cases
}

fn old_versions() -> Vec<Case> {
    let old = |method: &str, lines: &str, body: &str| {
        latin1(&format!("{method} /p HTTP/1.0\r\nHost: x\r\n{lines}\r\n{body}"))
    };
    let body = format!("{CHUNKED}{SMUGGLED}");
    let mut cases = vec![
        refused("A11", "CVE-2026-2835: a coding", old("POST", "Transfer-Encoding: chunked\r\n", &body)),
        refused("A11", "a coding of GET", old("GET", "Transfer-Encoding: chunked\r\n", &body)),
        refused(
            "A11",
            "a coding on a kept connection",
            old("POST", "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n", &body),
        ),
        refused("A11", "both framings", old("POST", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", &body)),
    ];
    for method in ["POST", "PUT", "PATCH"] {
        cases.push(refused_with("A11", format!("{method} without a length"), old(method, "", "hello"), &[400, 411]));
        let kept = old(method, "Connection: keep-alive\r\n", SMUGGLED);
        let name = format!("{method} without a length on a kept connection");
        cases.push(refused_with("A11", name, kept, &[400, 411]));
    }
    let plain = vec![Expected::new("GET", "/p", "")];
    cases.push(forwarded("A11", "a plain GET", old("GET", "", ""), plain.clone()).ending(End::Closes));
    let kept = forwarded("A11", "a kept GET", old("GET", "Connection: keep-alive\r\n", ""), plain);
    cases.push(kept.ending(End::ServesOrCloses));
    let hello = vec![Expected::new("POST", "/p", "hello")];
    let sized = forwarded("A11", "POST with a length", old("POST", "Content-Length: 5\r\n", "hello"), hello);
    cases.push(sized.ending(End::Closes));
    cases
}
