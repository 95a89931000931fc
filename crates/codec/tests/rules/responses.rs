//! Response heads, rule by rule.

use std::time::Duration;

use meshwright_codec::{Answered, HeadError, HeadLimits, HeadScan, Progress, parse_response};
use meshwright_message::{BodyLength, ResponseHead, Version};

use super::{fields, invariants};

const HEAD_REQUEST: Answered = Answered { head_request: true, connect: false };
const GET: Answered = Answered { head_request: false, connect: false };

fn parse(bytes: &[u8], to: Answered) -> Result<Option<ResponseHead>, HeadError> {
    let mut head = ResponseHead::default();
    let progress = parse_response(bytes, &mut HeadScan::default(), &HeadLimits::default(), to, &mut head)?;
    invariants::response_head_to(bytes, to);
    Ok((progress != Progress::Partial).then_some(head))
}

fn accepted(text: &str, to: Answered) -> ResponseHead {
    match parse(text.as_bytes(), to) {
        Ok(Some(head)) => head,
        other => panic!("{text:?} gave {other:?}"),
    }
}

fn refused(bytes: impl AsRef<[u8]>) -> HeadError {
    match parse(bytes.as_ref(), GET) {
        Err(error) => error,
        other => panic!("{:?} gave {other:?}", String::from_utf8_lossy(bytes.as_ref())),
    }
}

fn with(status: &str, fields: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{fields}\r\n\r\n")
}

#[test]
fn a_plain_response_becomes_one_object() {
    let head = accepted(
        &with(
            "200 Very OK",
            "Server: x\r\nContent-Length: 012\r\nConnection: keep-alive\r\nKeep-Alive: max=9, timeout=5",
        ),
        GET,
    );
    assert_eq!((head.status, head.version, head.reason.as_slice()), (200, Version::Http11, &b"Very OK"[..]));
    assert_eq!((head.body, head.announced_length), (BodyLength::Sized(12), None));
    assert_eq!((head.keep_alive, head.keep_alive_timeout), (true, Some(Duration::from_secs(5))));
    assert_eq!(fields(&head.headers), [("Server".to_owned(), b"x".to_vec())]);
}

#[test]
fn status_and_method_decide_whether_there_is_a_body() {
    for status in ["100 Continue", "103 Early Hints", "204 No Content"] {
        for framing in ["Content-Length: 5", "Transfer-Encoding: chunked", "X: y"] {
            let head = accepted(&with(status, framing), GET);
            assert_eq!((head.body, head.announced_length), (BodyLength::Empty, None), "{status} {framing}");
        }
    }
    let head = accepted(&with("304 Not Modified", "Content-Length: 5"), GET);
    assert_eq!((head.body, head.announced_length), (BodyLength::Empty, Some(5)));
    let head = accepted(&with("200 OK", "Content-Length: 5"), HEAD_REQUEST);
    assert_eq!((head.body, head.announced_length), (BodyLength::Empty, Some(5)));
    let head = accepted(&with("200 OK", "Transfer-Encoding: chunked"), HEAD_REQUEST);
    assert_eq!((head.body, head.announced_length, head.keep_alive), (BodyLength::Empty, None, true));
    let head = accepted(&with("200 OK", "Content-Length: 5"), Answered { head_request: false, connect: true });
    assert_eq!(head.body, BodyLength::Empty);
    assert_eq!(accepted(&with("205 Reset Content", "Content-Length: 0"), GET).body, BodyLength::Sized(0));
}

#[test]
fn a_response_without_framing_lasts_until_the_connection_closes() {
    let head = accepted(&with("200 OK", "X: y\r\nConnection: keep-alive"), GET);
    assert_eq!((head.body, head.keep_alive), (BodyLength::UntilClose, false));
    let head = accepted("HTTP/1.0 200 OK\r\n\r\n", GET);
    assert_eq!((head.body, head.keep_alive, head.version), (BodyLength::UntilClose, false, Version::Http10));
    let head = accepted("HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: Keep-Alive\r\n\r\n", GET);
    assert_eq!((head.body, head.keep_alive), (BodyLength::Sized(1), true));
    assert!(!accepted("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", GET).keep_alive);
}

#[test]
fn ambiguous_framing_is_refused_whatever_the_status() {
    for status in ["200 OK", "204 No Content", "304 Not Modified", "100 Continue"] {
        let error = |fields: &str| refused(with(status, fields));
        let both = "Content-Length: 5\r\nTransfer-Encoding: chunked";
        assert_eq!(error(both), HeadError::ContentLengthAndTransferEncoding);
        assert_eq!(error("Content-Length: 5\r\nContent-Length: 5"), HeadError::RepeatedContentLength);
        assert_eq!(error("Content-Length: 5, 5"), HeadError::BadContentLength);
        assert_eq!(error("Transfer-Encoding: gzip, chunked"), HeadError::UnsupportedTransferCoding);
        assert_eq!(
            error("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
            HeadError::RepeatedTransferEncoding
        );
    }
    let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(refused(old), HeadError::TransferEncodingInHttp10);
}

#[test]
fn malformed_responses_are_refused() {
    for line in [
        "HTTP/1.1",
        "HTTP/1.1 ",
        "HTTP/1.1 20",
        "HTTP/1.1 2000",
        "HTTP/1.1 099",
        "HTTP/1.1 2x0",
        "HTTP/1.1  200",
        "HTTP/1.1 200OK",
        "HTTP/1.1 +20 OK",
        "http/1.1 200 OK",
        "ICY 200 OK",
        "200 OK",
        "<html>",
        "HTTP/1.1 200 a\0b",
        "HTTP/1.1 200 a\rb",
        "",
    ] {
        assert_eq!(refused(format!("{line}\r\nContent-Length: 0\r\n\r\n")), HeadError::BadStatusLine, "{line:?}");
    }
    assert_eq!(refused("HTTP/2.0 200 OK\r\n\r\n"), HeadError::VersionNotSupported);
    assert_eq!(refused("<html>no status line at all"), HeadError::BadStatusLine);
    assert_eq!(refused("\r\nHTTP/1.1 200 OK\r\n\r\n"), HeadError::BadStatusLine);
    assert_eq!(refused(with("200 OK", "X: a\0b")), HeadError::BadFieldValue);
    assert_eq!(refused(with("200 OK", "X: a\r\n b")), HeadError::ObsoleteFold);
    assert_eq!(refused("HTTP/1.1 200 OK\nX: y\n\n"), HeadError::BareLineFeed);
    assert_eq!(refused(format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(10 << 20))), HeadError::HeadersTooLarge);
    assert_eq!(refused(format!("HTTP/1.1 200 {}", "x".repeat(10 << 20))), HeadError::HeadersTooLarge);
}

#[test]
fn an_empty_reason_is_fine_with_and_without_its_space() {
    for line in ["HTTP/1.1 200", "HTTP/1.1 200 "] {
        let head = accepted(&format!("{line}\r\nContent-Length: 0\r\n\r\n"), GET);
        assert!(head.reason.is_empty());
    }
    let mut head = ResponseHead::default();
    let bytes = b"HTTP/1.1 200 \xe9t\xe9\r\n\r\n";
    let progress =
        parse_response(bytes, &mut HeadScan::default(), &HeadLimits::default(), Answered::default(), &mut head);
    assert_eq!(
        (progress, head.reason.as_slice()),
        (Ok(Progress::Complete { consumed: bytes.len() }), &b"\xe9t\xe9"[..])
    );
}

#[test]
fn connection_in_a_response_removes_what_it_may() {
    let head = accepted(
        &with(
            "200 OK",
            "Content-Length: 1\r\nSet-Cookie: a\r\nX-Hop: b\r\nConnection: x-hop, set-cookie, content-length",
        ),
        GET,
    );
    assert_eq!(head.body, BodyLength::Sized(1));
    assert_eq!(fields(&head.headers), [("Set-Cookie".to_owned(), b"a".to_vec())]);
}

#[test]
fn a_101_names_its_protocol() {
    let head = accepted(&with("101 Switching Protocols", "Connection: Upgrade\r\nUpgrade: websocket"), GET);
    assert_eq!((head.upgrade.as_deref(), head.is_informational()), (Some("websocket"), false));
    assert_eq!(refused(with("101 Switching Protocols", "Connection: Upgrade")), HeadError::BadUpgrade);
    assert_eq!(refused(with("101 Switching Protocols", "Upgrade: h2c")), HeadError::BadUpgrade);
    let head = accepted(&with("426 Upgrade Required", "Upgrade: websocket\r\nContent-Length: 0"), GET);
    assert!(head.upgrade.is_none() && head.headers.is_empty());
}
