//! Heads and chunks to bytes. Framing is written from typed fields only, so that a message says its length once.
//!
//! Knows no buffers but the one it appends to. Names and values have been validated by whoever put them into the list.
//! Read next: `meshwright_message`.

use meshwright_message::{BodyLength, HeaderList, RequestHead, ResponseHead, Version};

/// How a response goes to one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyFraming {
    /// The client's version. The status line says HTTP/1.1 either way (RFC 9110, section 2.5).
    pub version: Version,
    /// The connection is closed after this response, and the head says so.
    pub close: bool,
    /// How the body is framed towards this client. The caller turns `Chunked` into `UntilClose` for HTTP/1.0, and gives
    /// `Empty` for every answer that has no body (to HEAD, 1xx, 204, 304).
    pub body: BodyLength,
}

/// Appends a request head as it goes upstream, always in HTTP/1.1 and origin form (`*` stays).
///
/// Host comes first, then the end-to-end fields in order, then what is rebuilt: `Content-Length` or
/// `Transfer-Encoding: chunked`, `TE: trailers`, `Upgrade`, `Connection` for these two, and `Expect: 100-continue`.
/// A body whose length is unknown can only go upstream chunked; `UntilClose` is written as `Chunked`.
pub fn write_request_head(head: &RequestHead, out: &mut Vec<u8>) {
    for part in [head.method.as_str(), " ", &head.target, " HTTP/1.1\r\nHost: ", &head.authority, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    head.headers.write_lines(out);
    match head.body {
        BodyLength::Empty => {}
        BodyLength::Sized(length) => write_content_length(length, out),
        BodyLength::Chunked | BodyLength::UntilClose => out.extend_from_slice(CHUNKED),
    }
    if let Some(upgrade) = &head.upgrade {
        write_field(b"Upgrade", upgrade.as_bytes(), out);
    }
    match (head.te_trailers, head.upgrade.is_some()) {
        (false, false) => {}
        (true, false) => out.extend_from_slice(b"TE: trailers\r\nConnection: TE\r\n"),
        (false, true) => out.extend_from_slice(b"Connection: Upgrade\r\n"),
        (true, true) => out.extend_from_slice(b"TE: trailers\r\nConnection: TE, Upgrade\r\n"),
    }
    if head.expect_continue {
        out.extend_from_slice(b"Expect: 100-continue\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a response head as it goes to one client.
///
/// 1xx and 204 never carry framing fields, 304 and answers without a body only `announced_length`. `Connection` is
/// `close` when the connection ends (also by `UntilClose`), `keep-alive` for an HTTP/1.0 client whose connection stays,
/// `Upgrade` with 101, and absent otherwise.
pub fn write_response_head(head: &ResponseHead, reply: ReplyFraming, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    let status = head.status;
    for digit in [status / 100 % 10, status / 10 % 10, status % 10] {
        out.push(b'0' + digit as u8);
    }
    out.push(b' ');
    if head.reason.is_empty() {
        out.extend_from_slice(reason_phrase(status).as_bytes());
    } else {
        out.extend_from_slice(&head.reason);
    }
    out.extend_from_slice(b"\r\n");
    head.headers.write_lines(out);
    let without_framing = matches!(status, 100..=199 | 204);
    match reply.body {
        _ if without_framing => {}
        BodyLength::Sized(length) if status != 304 => write_content_length(length, out),
        BodyLength::Chunked if status != 304 => out.extend_from_slice(CHUNKED),
        _ => head.announced_length.iter().for_each(|&length| write_content_length(length, out)),
    }
    if let (101, Some(upgrade)) = (status, &head.upgrade) {
        write_field(b"Upgrade", upgrade.as_bytes(), out);
        out.extend_from_slice(b"Connection: Upgrade\r\n");
    } else if !(100..200).contains(&status) {
        if reply.close || reply.body == BodyLength::UntilClose {
            out.extend_from_slice(b"Connection: close\r\n");
        } else if reply.version == Version::Http10 {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a chunk's size line. `len` is at least 1: a chunk of 0 bytes would end the body.
pub fn write_chunk_header(len: usize, out: &mut Vec<u8>) {
    debug_assert!(len > 0, "an empty chunk ends the body");
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        out.push(b"0123456789abcdef"[len >> (place * 4) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends what follows a chunk's data.
pub fn write_chunk_end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// Appends the last chunk and the trailers, which ends a chunked body.
pub fn write_last_chunk(trailers: Option<&HeaderList>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        trailers.write_lines(out);
    }
    out.extend_from_slice(b"\r\n");
}

const CHUNKED: &[u8] = b"Transfer-Encoding: chunked\r\n";

#[inline]
fn write_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn write_content_length(length: u64, out: &mut Vec<u8>) {
    // Twenty digits hold 2^64 - 1.
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = length;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    write_field(b"Content-Length", &digits[at..], out);
}

/// The usual reason phrase of a status (the IANA registry of HTTP status codes); empty when it has none.
pub const fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        102 => "Processing",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        208 => "Already Reported",
        226 => "IM Used",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        305 => "Use Proxy",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        423 => "Locked",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        506 => "Variant Also Negotiates",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        510 => "Not Extended",
        511 => "Network Authentication Required",
        _ => "",
    }
}
