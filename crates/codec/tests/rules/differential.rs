//! The same bytes given to hyper's server: what we accept, it takes for the same request; where we differ is listed.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use meshwright_codec::{
    BodyDecoder, BodyError, BodyLimits, HeadError, HeadLimits, HeadScan, Progress, normalize_path, parse_request,
};
use meshwright_message::RequestHead;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::get_with;

/// A request as a server understood it: method, normalised target, and how long its body was, unless that broke off.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    method: String,
    target: String,
    body: Option<usize>,
}

/// What hyper makes of the first request in these bytes; `None` when it refuses them or waits for more.
fn hyper_sees(bytes: &[u8]) -> Option<Seen> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers can be built");
    runtime.block_on(async {
        let seen = Rc::new(RefCell::new(None));
        let record = Rc::clone(&seen);
        let service = service_fn(move |request: Request<Incoming>| {
            let record = Rc::clone(&record);
            async move {
                let (parts, body) = request.into_parts();
                let path = normalize_path(parts.uri.path()).map_or_else(|_| parts.uri.path().to_owned(), String::from);
                let target = parts.uri.query().map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
                let body = body.collect().await.ok().map(|body| body.to_bytes().len());
                record.borrow_mut().get_or_insert(Seen { method: parts.method.to_string(), target, body });
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            }
        });
        let (mut client, server) = tokio::io::duplex(1 << 20);
        client.write_all(bytes).await.expect("the pipe is larger than the request");
        client.shutdown().await.expect("the server has not gone");
        let connection =
            hyper::server::conn::http1::Builder::new().half_close(true).serve_connection(TokioIo::new(server), service);
        let mut answer = Vec::new();
        let (_, _) = tokio::join!(connection, client.read_to_end(&mut answer));
        seen.take()
    })
}

/// Why we refuse a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Head(HeadError),
    Body(BodyError),
}

/// What we make of the first request in these bytes; `None` when its head is not complete.
fn we_see(bytes: &[u8]) -> Result<Option<Seen>, Refusal> {
    let mut head = RequestHead::default();
    let progress =
        parse_request(bytes, &mut HeadScan::default(), &HeadLimits::default(), &mut head).map_err(Refusal::Head)?;
    let Progress::Complete { mut consumed } = progress else { return Ok(None) };
    let mut decoder = BodyDecoder::new(head.body, &BodyLimits::default());
    let mut len = 0;
    while consumed < bytes.len() && !decoder.is_done() {
        let step = decoder.decode(&bytes[consumed..]).map_err(Refusal::Body)?;
        consumed += step.consumed;
        len += step.data.len();
    }
    let target = head.target;
    Ok(Some(Seen { method: head.method.as_str().to_owned(), target, body: decoder.is_done().then_some(len) }))
}

#[test]
fn what_only_hyper_accepts() {
    for (bytes, error) in [
        // Which host is meant must be certain.
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), HeadError::MissingHost),
        (get_with("Host: b"), HeadError::RepeatedHost),
        ("GET / HTTP/1.1\r\nHost: user@a\r\n\r\n".to_owned(), HeadError::BadHost),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".to_owned(), HeadError::BadHost),
        // Where the request ends must be certain.
        (
            get_with("Content-Length: 5\r\nTransfer-Encoding: chunked") + "0\r\n\r\n",
            HeadError::ContentLengthAndTransferEncoding,
        ),
        (get_with("Content-Length: 1\r\nContent-Length: 1") + "x", HeadError::RepeatedContentLength),
        (get_with("Transfer-Encoding: gzip, chunked") + "0\r\n\r\n", HeadError::UnsupportedTransferCoding),
        (get_with("Transfer-Encoding: chunked, chunked") + "0\r\n\r\n", HeadError::BadTransferEncoding),
        (get_with("Content_Length: 5"), HeadError::FramingAlias),
        // Where a line ends must be certain.
        ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), HeadError::BareLineFeed),
        // What the target is must be certain.
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), HeadError::BadTarget),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), HeadError::BadTarget),
        ("get / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), HeadError::BadMethod),
        // What is taken away on this hop must not matter to anybody else.
        (get_with("Connection: x-forwarded-for"), HeadError::ForbiddenNomination),
        (get_with("Expect: something"), HeadError::ExpectationFailed),
        // An HTTP/1.0 body without a length.
        ("POST / HTTP/1.0\r\n\r\n".to_owned(), HeadError::LengthRequired),
    ] {
        assert_eq!(we_see(bytes.as_bytes()), Err(Refusal::Head(error)), "{bytes:?}");
        assert!(hyper_sees(bytes.as_bytes()).is_some(), "hyper refuses this too: {bytes:?}");
    }
    for (body, error) in [
        ("5 \r\nhello\r\n0\r\n\r\n", BodyError::BadChunkSize),
        ("5;\r\nhello\r\n0\r\n\r\n", BodyError::BadChunkExtension),
    ] {
        let bytes = get_with("Transfer-Encoding: chunked") + body;
        assert_eq!(we_see(bytes.as_bytes()), Err(Refusal::Body(error)), "{body:?}");
        let hypers = hyper_sees(bytes.as_bytes()).and_then(|seen| seen.body);
        assert_eq!(hypers, Some(5), "hyper refuses this too: {body:?}");
    }
}

/// Characters that RFC 3986 wants encoded and that clients send all the same; they mean the same to everybody.
#[test]
fn what_only_we_accept() {
    let mut found = Vec::new();
    for character in (b'!'..=b'~').filter(|byte| !b"#%".contains(byte)).map(char::from) {
        for target in [format!("/a{character}b"), format!("/?{character}")] {
            let bytes = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            assert!(we_see(bytes.as_bytes()).is_ok_and(|seen| seen.is_some()), "{target}");
            if hyper_sees(bytes.as_bytes()).is_none() {
                found.push(target);
            }
        }
    }
    assert_eq!(found, ["/?\"", "/a<b", "/?<", "/a>b", "/?>", "/a`b"]);
}

/// RFC 9112, section 3.2.4 asks a proxy for the asterisk; a server that is no proxy sees the empty path as `/`.
#[test]
fn what_we_read_otherwise() {
    let bytes = b"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n";
    let target = |seen: Option<Seen>| seen.map(|seen| seen.target);
    assert_eq!(we_see(bytes).map(target), Ok(Some("*".to_owned())));
    assert_eq!(target(hyper_sees(bytes)), Some("/".to_owned()));
}

fn near_exchange() -> impl Strategy<Value = Vec<u8>> {
    let line = "(GET|POST|PUT|HEAD|OPTIONS|DELETE|M-SEARCH|G@T) (/|/a/\\.\\./b\\?c=\\.\\./d|//x|/%2e%2E/y|http://b:80/c\\?|http://b|\\*|/a\\|b) HTTP/1\\.[01]\r\n";
    let field = "(Host: a|Host: a:8080|Content-Length: 5|Content-Length: 005|Content-Length: 0|Transfer-Encoding: chunked|Connection: close|Connection: keep-alive, x-a|Connection: upgrade|Upgrade: foo|TE: trailers|Expect: 100-continue|X-A: b|X-Empty:|X-Tab:\tb\t|X-A : b|Content-Length: +5|: x)\r\n";
    let body = "(hello|5\r\nhello\r\n0\r\n\r\n|5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n|05\r\nhello\r\n00\r\n\r\n|5\r\nhel|5 \r\nhello\r\n0\r\n\r\n|)(GET /next HTTP/1\\.1\r\nHost: a\r\n\r\n)?";
    (line, prop::collection::vec(field, 0..4), body)
        .prop_map(|(line, fields, body)| format!("{line}Host: h\r\n{}\r\n{body}", fields.concat()).into_bytes())
}

proptest! {
    #[test]
    fn what_we_accept_hyper_takes_for_the_same_request(bytes in near_exchange(), drop_host: bool) {
        // Half of the heads have only the Host that they were generated with.
        let bytes = if drop_host { String::from_utf8_lossy(&bytes).replacen("Host: h\r\n", "", 1).into_bytes() } else { bytes };
        if let Ok(Some(ours)) = we_see(&bytes) {
            let mut hypers = hyper_sees(&bytes);
            if ours.target == "*" {
                hypers.iter_mut().for_each(|seen| "*".clone_into(&mut seen.target));
            }
            prop_assert_eq!(hypers, Some(ours));
        }
    }
}
