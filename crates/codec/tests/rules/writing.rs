//! Heads and chunks as they are written.

use meshwright_codec::{
    ReplyFraming, write_chunk_end, write_chunk_header, write_last_chunk, write_request_head, write_response_head,
};
use meshwright_message::{BodyLength, HeaderList, RequestHead, ResponseHead, Version};

use super::{accepted, get_with};

fn request(head: &RequestHead) -> String {
    let mut out = Vec::new();
    write_request_head(head, &mut out);
    String::from_utf8(out).expect("the test heads are text")
}

fn response(head: &ResponseHead, version: Version, close: bool, body: BodyLength) -> String {
    let mut out = Vec::new();
    write_response_head(head, ReplyFraming { version, close, body }, &mut out);
    String::from_utf8(out).expect("the test heads are text")
}

fn status(status: u16) -> ResponseHead {
    ResponseHead { status, ..ResponseHead::default() }
}

#[test]
fn a_request_goes_upstream_with_rebuilt_framing() {
    let head = accepted(
        "GET http://B/x/../y?q HTTP/1.0\r\nHost: a\r\nX-A: 1\r\nContent-Length: 007\r\nConnection: close, x-b\r\nx-b: 2\r\n\r\n",
    );
    assert_eq!(request(&head), "GET /y?q HTTP/1.1\r\nHost: b\r\nX-A: 1\r\nContent-Length: 7\r\n\r\n");
    let head = accepted(get_with("transfer-encoding: Chunked\r\nExpect: 100-continue"));
    assert_eq!(
        request(&head),
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    );
    assert_eq!(request(&accepted(get_with("X: y"))), "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n");
    assert_eq!(
        request(&accepted(get_with("Content-Length: 0"))),
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
    );
    let options = accepted("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(request(&options), "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
}

#[test]
fn upgrade_and_te_are_announced_in_connection() {
    for (fields, expected) in [
        ("TE: trailers", "TE: trailers\r\nConnection: TE\r\n"),
        ("Connection: upgrade\r\nUpgrade: websocket", "Upgrade: websocket\r\nConnection: Upgrade\r\n"),
        (
            "Connection: te, upgrade\r\nUpgrade: websocket\r\nTE: trailers",
            "Upgrade: websocket\r\nTE: trailers\r\nConnection: TE, Upgrade\r\n",
        ),
    ] {
        assert_eq!(request(&accepted(get_with(fields))), format!("GET / HTTP/1.1\r\nHost: a\r\n{expected}\r\n"));
    }
}

#[test]
fn a_response_says_its_length_once_and_what_becomes_of_the_connection() {
    let mut head = status(200);
    head.headers.push(b"X", b"y");
    let expect = |version, close, body, tail: &str| {
        assert_eq!(response(&head, version, close, body), format!("HTTP/1.1 200 OK\r\nX: y\r\n{tail}\r\n"));
    };
    expect(Version::Http11, false, BodyLength::Sized(12), "Content-Length: 12\r\n");
    expect(Version::Http11, true, BodyLength::Sized(0), "Content-Length: 0\r\nConnection: close\r\n");
    expect(Version::Http11, false, BodyLength::Sized(u64::MAX), "Content-Length: 18446744073709551615\r\n");
    expect(Version::Http11, false, BodyLength::Chunked, "Transfer-Encoding: chunked\r\n");
    expect(Version::Http11, false, BodyLength::UntilClose, "Connection: close\r\n");
    expect(Version::Http10, false, BodyLength::Sized(1), "Content-Length: 1\r\nConnection: keep-alive\r\n");
    expect(Version::Http10, false, BodyLength::UntilClose, "Connection: close\r\n");
    head.reason = b"Fine".to_vec();
    assert!(response(&head, Version::Http11, false, BodyLength::Empty).starts_with("HTTP/1.1 200 Fine\r\n"));
}

#[test]
fn answers_without_a_body_have_no_framing_but_an_announced_length() {
    let mut head = status(304);
    head.announced_length = Some(9);
    let tail = "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n";
    assert_eq!(response(&head, Version::Http11, false, BodyLength::Empty), tail);
    head.status = 200;
    let tail = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
    assert_eq!(response(&head, Version::Http11, false, BodyLength::Empty), tail);
    for (code, line) in [(100, "100 Continue"), (204, "204 No Content")] {
        head.status = code;
        for body in [BodyLength::Empty, BodyLength::Sized(0), BodyLength::Chunked] {
            assert_eq!(response(&head, Version::Http11, false, body), format!("HTTP/1.1 {line}\r\n\r\n"));
        }
    }
    assert_eq!(
        response(&status(799), Version::Http11, false, BodyLength::Sized(0)),
        "HTTP/1.1 799 \r\nContent-Length: 0\r\n\r\n"
    );
}

#[test]
fn a_101_announces_its_protocol() {
    let mut head = status(101);
    head.upgrade = Some("websocket".into());
    assert_eq!(
        response(&head, Version::Http11, false, BodyLength::Empty),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    );
}

#[test]
fn chunks_are_written_in_hexadecimal() {
    for (len, expected) in
        [(1, "1"), (15, "f"), (16, "10"), (4096, "1000"), (65535, "ffff"), (usize::MAX, "ffffffffffffffff")]
    {
        let mut out = Vec::new();
        write_chunk_header(len, &mut out);
        write_chunk_end(&mut out);
        assert_eq!(String::from_utf8_lossy(&out), format!("{expected}\r\n\r\n"));
    }
    let mut trailers = HeaderList::new();
    trailers.push(b"X-Sum", b"1");
    let mut out = Vec::new();
    write_last_chunk(Some(&trailers), &mut out);
    write_last_chunk(None, &mut out);
    assert_eq!(String::from_utf8_lossy(&out), "0\r\nX-Sum: 1\r\n\r\n0\r\n\r\n");
}
