//! Rows A27 to A29: answers of a service that cannot be trusted (RFC 9112, sections 6.3 and 8). Read next: `lines.rs`.

use std::sync::LazyLock;

/// What a service does behind its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It keeps the connection, which must not be used again.
    Stays,
    /// It closes.
    Closes,
    /// It resets the connection.
    Resets,
}

/// What the client must see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerMust {
    /// 502 or 503, or, when the status had been passed on already, a connection that is cut.
    Fail,
    /// This body with the status of the answer, complete.
    Deliver(&'static str),
    /// A failure, or this body and nothing behind it.
    FailOrDeliver(&'static str),
}

/// One answer and what must come of it.
#[derive(Clone, Debug)]
pub struct AnswerCase {
    /// Row of the checklist.
    pub row: &'static str,
    /// What is special about it.
    pub name: &'static str,
    /// Method of the request.
    pub method: &'static str,
    /// What the service sends.
    pub bytes: Vec<u8>,
    /// What it does then.
    pub ending: Ending,
    /// What the client must see.
    pub must: AnswerMust,
}

use AnswerMust::{Deliver, Fail, FailOrDeliver};
use Ending::{Closes, Resets, Stays};

/// All cases whose input is an answer, by row.
pub fn answers() -> &'static [AnswerCase] {
    static CASES: LazyLock<Vec<AnswerCase>> = LazyLock::new(cases);
    &CASES
}

fn cases() -> Vec<AnswerCase> {
    let mut cases = Vec::new();
    let mut add = |row, name, method, text: &str, ending, must| {
        cases.push(AnswerCase { row, name, method, bytes: super::latin1(text), ending, must });
    };
    let smuggled = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled";
    for (name, text) in HEADS {
        add("A27", name, "GET", &format!("{text}{smuggled}"), Stays, Fail);
    }
    add(
        "A27",
        "a head of 10 MiB",
        "GET",
        &format!("HTTP/1.1 200 OK\r\n{}", "X: yyyyyyyyyyyyyyyy\r\n".repeat(500_000)),
        Stays,
        Fail,
    );
    add(
        "A27",
        "a field of 1 MiB",
        "GET",
        &format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(1 << 20)),
        Stays,
        Fail,
    );
    add(
        "A27",
        "ten thousand fields",
        "GET",
        &format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(10_000)),
        Stays,
        Fail,
    );
    let many = "HTTP/1.1 102 Processing\r\n\r\n".repeat(1000);
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    add("A27", "a thousand informational ones", "GET", &format!("{many}{ok}"), Closes, FailOrDeliver("ok"));
    for (name, method, text, must) in NO_BODIES {
        add("A27", name, method, &format!("{text}{smuggled}"), Stays, *must);
    }
    for (name, text, ending, must) in BODIES {
        add("A28", name, "GET", text, *ending, *must);
    }
    let early = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nearly";
    add("A29", "complete, then a reset", "GET", early, Resets, Deliver("early"));
    add("A29", "complete, then the end", "GET", early, Closes, Deliver("early"));
    cases
}

/// Heads that are refused.
const HEADS: &[(&str, &str)] = &[
    (
        "length and coding",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ),
    (
        "coding and length",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ),
    ("two different lengths", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
    ("a list of lengths", "HTTP/1.1 200 OK\r\nContent-Length: 3, 4\r\n\r\nabcd"),
    ("a length with a sign", "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc"),
    ("a length beyond all numbers", "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551619\r\n\r\nabc"),
    ("an empty length", "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n"),
    ("two codings", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("an unknown coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
    ("chunked behind gzip", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
    ("a coding in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
    ("an alias of the coding", "HTTP/1.1 200 OK\r\nTransfer_Encoding: chunked\r\nContent-Length: 0\r\n\r\n"),
    ("both framings of 204", "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("a NUL in a value", "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n"),
    ("a CR in a value", "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n"),
    ("a control byte in a value", "HTTP/1.1 200 OK\r\nX: a\x07b\r\nContent-Length: 0\r\n\r\n"),
    ("a folded field", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n"),
    ("a space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n"),
    ("a space in a name", "HTTP/1.1 200 OK\r\nX y: z\r\nContent-Length: 0\r\n\r\n"),
    ("an empty name", "HTTP/1.1 200 OK\r\n: z\r\nContent-Length: 0\r\n\r\n"),
    ("no colon", "HTTP/1.1 200 OK\r\nnothing\r\nContent-Length: 0\r\n\r\n"),
    ("LF alone", "HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
    ("LF behind a field", "HTTP/1.1 200 OK\r\nX: y\nContent-Length: 0\r\n\r\n"),
    ("no status line", "X: y\r\nContent-Length: 0\r\n\r\n"),
    ("the end of another answer", "abc\r\n\r\n"),
    ("another protocol", "SSH-2.0-OpenSSH_9.6\r\n\r\n"),
    ("version 2.0", "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("lower case", "http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("a status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"),
    ("a status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"),
    ("a status below 100", "HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n"),
    ("a status with a sign", "HTTP/1.1 +20 OK\r\nContent-Length: 0\r\n\r\n"),
    ("no status", "HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n"),
    ("a NUL in the reason", "HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n"),
    ("an empty line before", "\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    (
        "a switch of protocol nobody asked for",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n",
    ),
    ("a switch to nothing", "HTTP/1.1 101 Switching Protocols\r\n\r\n"),
];

/// Answers without a body, with bytes behind them that are nobody's.
const NO_BODIES: &[(&str, &str, &str, AnswerMust)] = &[
    ("204 with a length", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc", FailOrDeliver("")),
    (
        "204 with chunks",
        "GET",
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        FailOrDeliver(""),
    ),
    ("304 with a length", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\nabc", FailOrDeliver("")),
    ("HEAD with a body", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", FailOrDeliver("")),
    (
        "HEAD with chunks",
        "HEAD",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        FailOrDeliver(""),
    ),
    ("an informational one with a length", "GET", "HTTP/1.1 103 Early Hints\r\nContent-Length: 3\r\n\r\nabc", Fail),
];

/// Bodies that end at the wrong place.
const BODIES: &[(&str, &str, Ending, AnswerMust)] = &[
    (
        "bytes behind a sized body",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled",
        Stays,
        Deliver("ok"),
    ),
    ("one byte behind a sized body", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok!", Stays, Deliver("ok")),
    (
        "a line end behind a sized body",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\r\n",
        Stays,
        FailOrDeliver("ok"),
    ),
    (
        "bytes behind a chunked body",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled",
        Stays,
        Deliver("ok"),
    ),
    ("a sized body that ends early", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", Closes, Fail),
    ("a sized body that is reset", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", Resets, Fail),
    ("a sized body of which nothing comes", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", Closes, Fail),
    ("chunks without the last one", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", Closes, Fail),
    ("chunks that are reset", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", Resets, Fail),
    ("a chunk that ends early", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nok", Closes, Fail),
    (
        "a last chunk without its last line",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
        Closes,
        Fail,
    ),
    (
        "trailers that end early",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n",
        Closes,
        Fail,
    ),
    (
        "a chunk size that is none",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0x1\r\na\r\n0\r\n\r\n",
        Stays,
        Fail,
    ),
    (
        "a chunk longer than its size",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n",
        Stays,
        Fail,
    ),
    (
        "a chunk size beyond all numbers",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000002\r\nok\r\n0\r\n\r\n",
        Stays,
        Fail,
    ),
    (
        "an empty chunk extension",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;\r\nok\r\n0\r\n\r\n",
        Stays,
        Fail,
    ),
    ("LF behind a chunk size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n", Stays, Fail),
    (
        "a trailer with a NUL",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: \0\r\n\r\n",
        Stays,
        Fail,
    ),
    ("a head that ends early", "HTTP/1.1 200 OK\r\nContent-Le", Closes, Fail),
    ("a head that is reset", "HTTP/1.1 200 OK\r\nContent-Le", Resets, Fail),
    ("a body until the end", "HTTP/1.1 200 OK\r\n\r\nok", Closes, Deliver("ok")),
    ("a body until a reset", "HTTP/1.1 200 OK\r\n\r\nok", Resets, Fail),
];
