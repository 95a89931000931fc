//! Ambiguous and malformed requests: refused, in one piece and in any pieces, and nothing of them reaches a service.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::time::Duration;

use meshwright_testkit::{Config, Launch, Meshwright, Origin, RawClient, ReadError, binary, gateway_to};

/// What must come of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Refused by its head with this status: not one byte reaches the service.
    Head(u16),
    /// Refused by its body: no complete request reaches the service, and the client is told 400 or cut off.
    Body,
}
use Verdict::{Body, Head};

struct Setting {
    origin: Origin,
    process: Meshwright,
}

impl Setting {
    fn new() -> Self {
        let origin = Origin::echoes();
        let config = Config::new(&[&gateway_to("svc")]);
        let process = Launch::run(binary!())
            .file(config.path())
            .service_at("svc", origin.address())
            .args(&["--no-watch", "--workers", "1", "--log", "error"])
            .start();
        Self { origin, process }
    }

    /// Sends one input in pieces, and looks at answer and service.
    fn judge(&self, input: &[u8], offsets: &[usize], expected: Verdict) {
        let bytes_before = self.origin.bytes();
        let requests_before = self.origin.count();
        let mut client = self.process.connect();
        client.send_split(input, offsets);
        let shown = || format!("{:?} split at {offsets:?}", String::from_utf8_lossy(input));
        match (expected, client.try_response(false)) {
            (Head(status), Ok(answer)) => {
                assert_eq!(answer.status, status, "{}", shown());
                assert!(answer.says_close(), "{}", shown());
                assert!(client.is_closed_within(Duration::from_secs(5)), "{}", shown());
                assert_eq!(self.origin.bytes(), bytes_before, "{}", shown());
            }
            (Body, Ok(answer)) => assert_eq!(answer.status, 400, "{}", shown()),
            (Body, Err(ReadError::Closed | ReadError::Truncated(_) | ReadError::Failed(_))) => {}
            (_, other) => panic!("{}: {other:?}", shown()),
        }
        assert_eq!(self.origin.count(), requests_before, "{}", shown());
    }

    /// Judges every input whole and split: at every offset when it is short, at a sample of them when it is long.
    fn judge_all(&self, inputs: &[(Vec<u8>, Verdict)]) {
        for (input, expected) in inputs {
            self.judge(input, &[], *expected);
            let step = (input.len() / 6).max(1);
            for offset in (1..input.len()).step_by(step) {
                self.judge(input, &[offset], *expected);
            }
            if input.len() < 400 {
                let all: Vec<usize> = (1..input.len()).collect();
                self.judge(input, &all, *expected);
            }
        }
        // Whatever came: it still serves.
        assert_eq!(self.process.get("x", "/still-here").status, 200);
    }
}

/// A POST with these header lines and this body.
fn post(lines: &str, body: &str) -> Vec<u8> {
    format!("POST /p HTTP/1.1\r\nHost: x\r\n{lines}\r\n{body}").into_bytes()
}

fn heads(status: u16, inputs: impl IntoIterator<Item = Vec<u8>>) -> Vec<(Vec<u8>, Verdict)> {
    inputs.into_iter().map(|input| (input, Head(status))).collect()
}

#[test]
fn two_framings_and_doubled_lengths_are_refused() {
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    Setting::new().judge_all(&heads(
        400,
        [
            post("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", smuggled),
            post("Transfer-Encoding: chunked\r\nContent-Length: 6\r\n", smuggled),
            post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"),
            post("Content-Length: 5, 6\r\n", "hello!"),
            post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
            post("Content-Length: 5, 5\r\n", "hello"),
            post("Content-Length:\r\n", ""),
            post("Content-Length:\r\nContent-Length: 59\r\n", smuggled),
        ],
    ));
}

#[test]
fn lengths_that_are_no_plain_numbers_are_refused() {
    let lengths = [
        "+5",
        "-0",
        "-48",
        "0x10",
        "1_0",
        "1Z",
        "5 5",
        "\u{ff15}",
        "18446744073709551616",
        "99999999999999999999",
        "5;",
        "\"5\"",
    ];
    let mut inputs: Vec<Vec<u8>> =
        lengths.iter().map(|length| post(&format!("Content-Length: {length}\r\n"), "hello")).collect();
    inputs.push(post("Content-Length : 5\r\n", "hello"));
    inputs.push(b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length\x85: 5\r\n\r\nhello".to_vec());
    inputs.push(post("Content_Length: 5\r\n", "hello"));
    Setting::new().judge_all(&heads(400, inputs));
}

#[test]
fn transfer_codings_other_than_one_chunked_are_refused() {
    let chunked = "5\r\nhello\r\n0\r\n\r\n";
    let setting = Setting::new();
    setting.judge_all(&heads(
        400,
        [
            post("Transfer-Encoding: ,chunked\r\n", chunked),
            post("Transfer-Encoding: chunked,\r\n", chunked),
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunked),
            post("Transfer-Encoding:\r\n", chunked),
            post("Transfer-Encoding: \"chunked\"\r\n", chunked),
            post("Transfer-Encoding: \x0bchunked\r\n", chunked),
            post("Transfer-Encoding: \x0cchunked\r\n", chunked),
            post("Transfer-Encoding: chunked\0\r\n", chunked),
            post("Transfer-Encoding:\r\n chunked\r\n", chunked),
            post("Transfer_Encoding: chunked\r\n", chunked),
            b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \xa0chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_vec(),
            b"POST /p HTTP/1.1\r\n Transfer-Encoding: chunked\r\nHost: x\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_vec(),
            b"POST /p HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_vec(),
            b"POST /p HTTP/1.0\r\nHost: x\r\n\r\nhello".to_vec(),
        ],
    ));
    let mut client = setting.process.connect();
    for coding in ["chunked, chunked", "xchunked", "chunkedx", "identity", "gzip, chunked", "chunked;a=b"] {
        client.send(post(&format!("Transfer-Encoding: {coding}\r\n"), chunked));
        let answer = client.response();
        assert!([400, 501].contains(&answer.status), "{coding}: {}", answer.status);
        client = setting.process.connect();
    }
    assert_eq!(setting.origin.requests().iter().filter(|request| request.method == "POST").count(), 0);
}

#[test]
fn malformed_chunks_never_become_a_complete_request() {
    let tail = "\r\nhello\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut inputs = Vec::new();
    for size in
        ["0x5", "+5", "-1", "5_0", " 5", "5 ", "", "10000000000000005", "ffffffffffffffff", "5;", "5;;", "5;\x01a"]
    {
        inputs.push(format!("{size}{tail}"));
    }
    inputs.push("5\nhello\r\n0\r\n\r\n".to_owned());
    inputs.push("5\rhello\r\n0\r\n\r\n".to_owned());
    inputs.push("5\rXhello\r\n0\r\n\r\n".to_owned());
    inputs.push("5\r\r;ABCD\r\nhello\r\n0\r\n\r\n".to_owned());
    inputs.push("5;a\nb\r\nhello\r\n0\r\n\r\n".to_owned());
    inputs.push("5;a\r\rX\r\nhello\r\n0\r\n\r\n".to_owned());
    inputs.push("5\r\nhello!\r\n0\r\n\r\n".to_owned());
    inputs.push("5\r\nhelloXX0\r\n\r\n".to_owned());
    inputs.push("5\r\nhello\n0\r\n\r\n".to_owned());
    inputs.push("5\r\nhello\r\n0\r\nX y: z\r\n\r\n".to_owned());
    inputs.push("5\r\nhello\r\n0\r\nX: a\0b\r\n\r\n".to_owned());
    inputs.push(format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(64 * 1024)));
    let inputs: Vec<(Vec<u8>, Verdict)> =
        inputs.iter().map(|body| (post("Transfer-Encoding: chunked\r\n", body), Body)).collect();
    Setting::new().judge_all(&inputs);
}

#[test]
fn line_ends_and_folds_that_peers_read_differently_are_refused() {
    Setting::new().judge_all(&heads(
        400,
        [
            b"GET /p HTTP/1.1\nHost: x\n\n".to_vec(),
            b"GET /p HTTP/1.1\r\nHost: x\nX: y\r\n\r\n".to_vec(),
            b"GET /p HTTP/1.1\r\nHost: x\r\nTe\nst: x\r\n\r\n".to_vec(),
            b"GET /p HTTP/1.1\r\nHost: x\r\nVisible: :/\rSmuggled: :)\r\n\r\n".to_vec(),
            b"GET /p HTTP/1.1\r\nHost: x\r\nHeader: v\x00\ralue\r\n\r\n".to_vec(),
            b"GET /p HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n".to_vec(),
            b"GET /p HTTP/1.1\r\nHost: x\r\n y\r\n\r\n".to_vec(),
            post("Content-Length: 5\r\n 5\r\n", "hello"),
            post("X: y\r\n\tContent-Length: 5\r\n", "hello"),
            "\r\n".repeat(10_000).into_bytes(),
        ],
    ));
}

#[test]
fn hosts_that_are_not_exactly_one_name_are_refused() {
    let mut inputs: Vec<Vec<u8>> = vec![
        b"GET /p HTTP/1.1\r\n\r\n".to_vec(),
        b"GET /p HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n".to_vec(),
        b"GET /p HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n".to_vec(),
        b"GET http://user@evil/ HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
    ];
    for host in ["", "a, b", "user@a", "a/b", "a:0", "a:99999", "a\0b", "[fe80::1%25eth0]", "a b", "::1"] {
        inputs.push(format!("GET /p HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes());
    }
    Setting::new().judge_all(&heads(400, inputs));
}

#[test]
fn request_lines_that_are_not_a_method_a_target_and_a_version_are_refused() {
    let lines = [
        "GET /a#b HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET\t/a HTTP/1.1",
        "GET\x0b/a HTTP/1.1",
        "GET\0/ HTTP/1.1",
        "GET HTTP/1.1",
        "GET /",
        "GET / HTTP/01.1",
        "GET / http/1.1",
        "GET / HTTP/4294967295.255",
        "get / HTTP/1.1",
        "G(T / HTTP/1.1",
        "GET nothing HTTP/1.1",
        "GET * HTTP/1.1",
        "GET /%00 HTTP/1.1",
        "GET / HTTP/1.1 ",
    ];
    let setting = Setting::new();
    setting.judge_all(&heads(400, lines.iter().map(|line| format!("{line}\r\nHost: x\r\n\r\n").into_bytes())));
    setting.judge_all(&heads(
        505,
        ["GET / HTTP/1.2", "GET / HTTP/2.0", "PRI * HTTP/2.0"]
            .map(|line| format!("{line}\r\nHost: x\r\n\r\n").into_bytes()),
    ));
    setting.judge_all(&heads(405, [b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n".to_vec()]));
    setting.judge_all(&heads(417, [post("Content-Length: 5\r\nExpect: x\r\n", "hello")]));
}

#[test]
fn header_names_and_values_with_bytes_that_may_not_be_there_are_refused() {
    let mut inputs: Vec<Vec<u8>> = Vec::new();
    for name in [&b""[..], b"a b", b"a\0b", b"a\x7fb", b"a\x80b", b"a(b", b"a ", b"\"a\""] {
        inputs.push([b"GET /p HTTP/1.1\r\nHost: x\r\n", name, b": v\r\n\r\n"].concat());
    }
    inputs.push(b"GET /p HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n".to_vec());
    for byte in [0x00, 0x01, 0x08, 0x0b, 0x0c, 0x1f, 0x7f] {
        inputs.push([b"GET /p HTTP/1.1\r\nHost: x\r\nX: a", &[byte][..], b"b\r\n\r\n"].concat());
    }
    Setting::new().judge_all(&heads(400, inputs));
}

#[test]
fn what_is_large_is_refused_as_large() {
    let setting = Setting::new();
    let target = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(64 * 1024));
    setting.judge_all(&heads(414, [target.into_bytes()]));
    let method = format!("{} / HTTP/1.1\r\nHost: x\r\n\r\n", "A".repeat(64 * 1024));
    setting.judge_all(&heads(414, [method.into_bytes()]));
    let value = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(64 * 1024));
    let name = format!("GET / HTTP/1.1\r\nHost: x\r\n{}: y\r\n\r\n", "a".repeat(64 * 1024));
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(10_000));
    setting.judge_all(&heads(431, [value.into_bytes(), name.into_bytes(), many.into_bytes()]));
}

#[test]
fn what_is_unambiguous_is_forwarded_in_one_canonical_form() {
    let setting = Setting::new();
    let mut client = setting.process.connect();
    // Lengths with leading zeros mean the number.
    client.send(post("Content-Length: 005\r\n", "hello"));
    let answer = client.try_response(false);
    match answer {
        Ok(answer) if answer.status == 200 => assert_eq!(setting.origin.last().header("content-length"), Some("5")),
        Ok(answer) => {
            assert_eq!(answer.status, 400);
            client = setting.process.connect();
        }
        Err(error) => panic!("{error}"),
    }
    // Sizes are written anew, extensions are dropped, forbidden trailers too.
    client.send(post(
        "Transfer-Encoding: chunked\r\nTE: trailers\r\n",
        "005;a=b\r\nhello\r\n0\r\nX-Ok: 1\r\nContent-Length: 9\r\nTransfer-Encoding: x\r\nHost: evil\r\nAuthorization: a\r\n\r\n",
    ));
    let answer = client.try_response(false).unwrap();
    assert_eq!(answer.status, 200);
    let received = setting.origin.last();
    assert_eq!(received.body, b"hello");
    assert!(received.chunk_lines.iter().all(|line| line == "5" || line == "0"), "{:?}", received.chunk_lines);
    assert_eq!(received.trailers, [("X-Ok".to_owned(), "1".to_owned())]);
    // One or two empty lines before a request are skipped.
    client.send("\r\nGET /after-empty HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.response().status, 200);
    // The authority of the target wins over Host, and there is one.
    client.send("GET http://Target.example:80/abs?q HTTP/1.1\r\nHost: other\r\n\r\n");
    assert_eq!(client.response().status, 200);
    let received = setting.origin.last();
    assert_eq!(received.values("host"), ["target.example:80"]);
    assert_eq!(received.target, "/abs?q");
    // Bytes above 0x7f in values pass as they are.
    client.send(b"GET /bytes HTTP/1.1\r\nHost: x\r\nX-Bytes: \xe4\xff\x80\r\n\r\n");
    assert_eq!(client.response().status, 200);
    assert_eq!(setting.origin.last().header("x-bytes"), Some("\u{e4}\u{ff}\u{80}"));
    // Paths take one form, and that form is forwarded.
    for (sent, forwarded) in [
        ("/a/../b", "/b"),
        ("/%61dmin", "/admin"),
        ("/a/%2e%2E/b", "/b"),
        ("/a\\b", "/a/b"),
        ("/a%2fb", "/a%2fb"),
        ("//a", "//a"),
        ("/..;/a", "/..;/a"),
        ("/a?x=/../b", "/a?x=/../b"),
    ] {
        assert_eq!(client.get("x", sent).header("x-target"), Some(forwarded), "{sent}");
    }
}

#[test]
fn methods_with_unusual_bodies_leave_the_connection_in_order() {
    let setting = Setting::new();
    for method in ["GET", "OPTIONS", "DELETE", "TRACE", "PURGE"] {
        let mut client = setting.process.connect();
        client.send(format!(
            "{method} /one HTTP/1.1\r\nHost: x\r\nContent-Length: 44\r\n\r\n\
             GET /inside HTTP/1.1\r\nHost: x\r\nX-Pad: 12\r\n\r\n\
             {method} /two HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        ));
        assert_eq!(client.response().header("x-target"), Some("/one"), "{method}");
        let second = client.response();
        assert_eq!((second.header("x-target"), second.text().as_str()), (Some("/two"), "abc"), "{method}");
    }
    assert!(setting.origin.requests().iter().all(|request| request.target != "/inside"));
}

#[test]
fn every_refusal_is_counted_with_its_reason() {
    let setting = Setting::new();
    let send = |bytes: &[u8]| {
        let mut client: RawClient = setting.process.connect();
        client.send(bytes);
        client.response();
    };
    send(b"GET / HTTP/1.1\r\n\r\n");
    send(b"GET / HTTP/1.2\r\nHost: x\r\n\r\n");
    send(b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n");
    send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n");
    send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: y\r\n\r\n");
    for reason in [
        "malformed_request",
        "version_not_supported",
        "method_not_allowed",
        "unsupported_transfer_coding",
        "expectation_failed",
    ] {
        setting.process.metric_becomes("meshwright_refusals_total", &[("reason", reason)], 1.0);
    }
    setting.process.metric_becomes("istio_requests_total", &[("response_flags", "DPE")], 4.0);
}
