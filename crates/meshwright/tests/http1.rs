//! HTTP/1.1 on the wire: what clients and services may do to each other through the proxy.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::io::Write;
use std::time::Duration;

use meshwright_testkit::{
    Config, Launch, Meshwright, Origin, Pattern, RawClient, ReadError, binary, eventually, gateway_to,
};

fn in_front_of(origin: &Origin) -> Meshwright {
    let config = Config::new(&[&gateway_to("svc")]);
    let process = Launch::run(binary!())
        .file(config.path())
        .service_at("svc", origin.address())
        .args(&["--access-log", "text", "--no-watch", "--workers", "1"])
        .start();
    drop(config);
    process
}

#[test]
fn one_client_connection_and_one_upstream_connection_serve_many_requests() {
    let origin = Origin::echoes();
    let process = in_front_of(&origin);
    let mut client = process.connect();
    for index in 0..20 {
        let answer = client.request("POST", "x", &format!("/{index}"), &[], index.to_string().as_bytes());
        assert_eq!((answer.status, answer.text()), (200, index.to_string()));
        assert!(!answer.says_close());
    }
    assert_eq!(origin.connections(), 1);
    process.metric_becomes("meshwright_downstream_connections_active", &[], 1.0);
    process.metric_becomes("istio_requests_total", &[("response_code", "200")], 20.0);
}

#[test]
fn a_hundred_requests_in_one_segment_are_answered_in_order() {
    let origin = Origin::echoes();
    let process = in_front_of(&origin);
    let mut client = process.connect();
    let mut all = Vec::new();
    for index in 0..100 {
        // Bodies and none in turn: the next head begins right behind a body.
        let body = if index % 3 == 0 { format!("body {index}") } else { String::new() };
        let head = format!("POST /{index} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        all.extend_from_slice(head.as_bytes());
    }
    client.send(&all);
    for index in 0..100 {
        let answer = client.response();
        assert_eq!(answer.header("x-target"), Some(format!("/{index}").as_str()));
        let expected = if index % 3 == 0 { format!("body {index}") } else { String::new() };
        assert_eq!(answer.text(), expected);
    }
    assert_eq!(origin.count(), 100);
}

#[test]
fn a_valid_request_before_an_invalid_one_is_still_answered() {
    let origin = Origin::echoes();
    let process = in_front_of(&origin);
    let mut client = process.connect();
    client.send("GET /good HTTP/1.1\r\nHost: x\r\n\r\nGET /bad HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\nGET /never HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.response().status, 200);
    let refused = client.response();
    assert_eq!(refused.status, 400);
    assert!(refused.says_close());
    assert!(client.is_closed_within(Duration::from_secs(5)));
    assert_eq!(origin.requests().iter().map(|one| one.target.clone()).collect::<Vec<_>>(), ["/good"]);
}

#[test]
fn chunked_bodies_with_trailers_pass_both_ways() {
    let origin = Origin::echoes();
    let process = in_front_of(&origin);
    let mut client = process.connect();
    client.send(
        "POST /up HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n\
         5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 42\r\n\r\n",
    );
    let answer = client.response();
    assert_eq!(answer.text(), "hello world");
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    assert_eq!(answer.trailers, [("X-Sum".to_owned(), "42".to_owned())]);
    let received = origin.last();
    assert_eq!(received.body, b"hello world");
    assert_eq!(received.trailers, [("X-Sum".to_owned(), "42".to_owned())]);
    assert!(received.chunk_lines.iter().all(|line| !line.contains(';')), "{:?}", received.chunk_lines);
    assert_eq!(client.get("x", "/next").status, 200, "the connection goes on");
}

#[test]
fn the_client_gets_100_continue_from_the_service_and_then_the_answer() {
    let origin = Origin::answers_100_then(200, "done");
    let process = in_front_of(&origin);
    let mut client = process.connect();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.head().status, 100);
    client.send("hello");
    let answer = client.response();
    assert_eq!((answer.status, answer.text().as_str()), (200, "done"));
    assert_eq!(origin.last().body, b"hello");
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.response().informational, [100]);
}

#[test]
fn a_final_answer_to_an_expectation_comes_without_the_body_and_ends_the_connection() {
    let origin = Origin::answers_early_without_reading(401);
    let process = in_front_of(&origin);
    let mut client = process.connect();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    let answer = client.response();
    assert_eq!((answer.status, answer.text().as_str()), (401, "early"));
    assert!(answer.informational.is_empty());
    // The body may or may not follow: nobody can tell it from a request.
    assert!(answer.says_close());
    assert!(client.is_closed_within(Duration::from_secs(5)));
}

#[test]
fn an_answer_to_head_has_its_length_and_no_body() {
    let origin = Origin::sends("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n");
    let process = in_front_of(&origin);
    let mut client = process.connect();
    for _ in 0..2 {
        let answer = client.request("HEAD", "x", "/", &[], b"");
        assert_eq!((answer.status, answer.header("content-length")), (200, Some("1234")));
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn answers_204_and_304_have_no_body_whatever_they_announce() {
    let origin = Origin::sends_by(|request| match request.target.as_str() {
        "/204" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "/304" => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\nETag: \"a\"\r\n\r\n".to_vec(),
        _ => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(),
    });
    let process = in_front_of(&origin);
    let mut client = process.connect();
    let none = client.get("x", "/204");
    assert_eq!((none.status, none.header("transfer-encoding"), none.header("content-length")), (204, None, None));
    let cached = client.get("x", "/304");
    assert_eq!(
        (cached.status, cached.header("etag"), cached.header("content-length")),
        (304, Some("\"a\""), Some("77"))
    );
    assert_eq!(client.get("x", "/").text(), "ok");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_http_10_client_gets_what_it_understands_and_its_connection_is_closed() {
    let origin = Origin::sends("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    let process = in_front_of(&origin);
    let mut client = process.connect();
    client.send("GET / HTTP/1.0\r\nHost: x\r\n\r\n");
    let text = String::from_utf8(client.read_to_end()).unwrap();
    assert!(text.starts_with("HTTP/1.") && text.contains(" 200 "), "{text}");
    assert!(text.ends_with("\r\n\r\nhello"), "no chunked coding: {text}");
    assert!(!text.to_ascii_lowercase().contains("transfer-encoding"), "{text}");
    assert_eq!(origin.last().head.lines().next(), Some("GET / HTTP/1.1"));
}

#[test]
fn an_http_10_client_that_asks_for_it_keeps_its_connection() {
    let origin = Origin::named("ok");
    let process = in_front_of(&origin);
    let mut client = process.connect();
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n");
        let answer = client.response();
        assert_eq!(answer.text(), "ok");
        assert_eq!(answer.header("connection").map(str::to_ascii_lowercase).as_deref(), Some("keep-alive"));
    }
}

#[test]
fn a_service_that_ends_its_answer_by_closing_does_not_cost_the_client_its_connection() {
    let origin = Origin::start(|connection| {
        connection.request()?;
        connection.send("HTTP/1.1 200 OK\r\nX: y\r\n\r\nuntil the end")
    });
    let process = in_front_of(&origin);
    let mut client = process.connect();
    for _ in 0..3 {
        let answer = client.get("x", "/");
        assert_eq!(answer.text(), "until the end");
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    }
    assert_eq!(origin.connections(), 3);
}

#[test]
fn an_http_10_service_is_understood() {
    let origin = Origin::start(|connection| {
        connection.request()?;
        connection.send("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")
    });
    let process = in_front_of(&origin);
    let mut client = process.connect();
    for _ in 0..2 {
        assert_eq!(client.get("x", "/").text(), "ok");
    }
    assert_eq!(origin.connections(), 2, "HTTP/1.0 without keep-alive is not pooled");
}

#[test]
fn an_early_answer_is_delivered_while_the_body_is_still_coming() {
    let origin = Origin::answers_early_without_reading(413);
    let process = in_front_of(&origin);
    let mut client = process.connect();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nbegin");
    let answer = client.response();
    assert_eq!((answer.status, answer.text().as_str()), (413, "early"));
    drop(client);
    let record = process.record(|record| record.status() == 413);
    assert_eq!(record.details(), "via_upstream");
}

#[test]
fn an_answer_before_the_end_of_the_request_is_delivered_although_the_service_resets_then() {
    let origin = Origin::start(|connection| {
        if let Some(received) = connection.head()? {
            connection.record(received);
            connection.send("HTTP/1.1 401 No\r\nContent-Length: 7\r\nConnection: close\r\n\r\nleave me")?;
            // Unread bytes of the body turn the close into a reset.
            connection.reset();
        }
        Ok(())
    });
    let process = in_front_of(&origin);
    let mut delivered = 0;
    for _ in 0..10 {
        let mut client = process.connect();
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n");
        client.send(vec![b'x'; 200_000]);
        delivered += usize::from(client.response().status == 401);
    }
    assert_eq!(delivered, 10);
}

#[test]
fn a_short_rest_of_a_body_after_an_early_answer_is_dropped_and_the_connection_serves_on() {
    let origin = Origin::start(|connection| {
        let Some(received) = connection.head()? else { return Ok(()) };
        if received.method == "GET" {
            connection.record(received);
            return connection.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnext");
        }
        connection.send("HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\nearly")?;
        connection.wait_for_close(Duration::from_secs(10));
        Ok(())
    });
    let process = in_front_of(&origin);
    let mut client = process.connect();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n");
    assert_eq!(client.response().status, 403);
    client.send(vec![b'x'; 1000]);
    assert_eq!(client.get("x", "/next").text(), "next");
}

#[test]
fn an_answer_byte_by_byte_is_the_same_answer() {
    let origin = Origin::one_byte_at_a_time(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n3\r\nabc\r\n4;x\r\ndefg\r\n0\r\nX-T: 1\r\n\r\n",
    );
    let process = in_front_of(&origin);
    let mut client = process.connect();
    for _ in 0..2 {
        let answer = client.request("GET", "x", "/", &[("TE", "trailers")], b"");
        assert_eq!((answer.status, answer.text().as_str(), answer.header("x-a")), (200, "abcdefg", Some("b")));
        assert_eq!(answer.trailers, [("X-T".to_owned(), "1".to_owned())]);
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_request_byte_by_byte_is_the_same_request() {
    let origin = Origin::echoes();
    let process = in_front_of(&origin);
    let request = b"POST /slow?q=1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let mut client = process.connect();
    client.send_split(request, &(1..request.len()).collect::<Vec<_>>());
    let answer = client.response();
    assert_eq!((answer.status, answer.text().as_str()), (200, "abc"));
    assert_eq!(answer.header("x-target"), Some("/slow?q=1"));
}

#[test]
fn a_truncated_answer_is_seen_as_truncated_and_its_connection_is_not_reused() {
    let origin = Origin::closes_mid_body();
    let process = in_front_of(&origin);
    let mut client = process.connect();
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    match client.try_response(false) {
        Err(ReadError::Truncated(response)) => assert!(response.body.len() <= 5, "{response:?}"),
        other => panic!("{other:?}"),
    }
    let record = process.record_of("/");
    assert_eq!((record.status(), record.flags()), (200, "UC"));
}

#[test]
fn hop_by_hop_fields_stop_here() {
    let origin = Origin::echoes();
    let process = in_front_of(&origin);
    let mut client = process.connect();
    client.send(
        "POST / HTTP/1.1\r\nHost: x\r\nConnection: x-secret, keep-alive\r\nX-Secret: 1\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: keep-alive\r\nAuthorization: Bearer t\r\nContent-Length: 3\r\n\r\nabc",
    );
    assert_eq!(client.response().text(), "abc");
    let received = origin.last();
    for name in ["x-secret", "keep-alive", "proxy-connection"] {
        assert_eq!(received.header(name), None, "{name}");
    }
    assert_eq!(received.header("content-length"), Some("3"));
    assert_eq!(received.header("authorization"), Some("Bearer t"));
}

#[test]
fn framing_and_trust_cannot_be_removed_by_naming_them_in_connection() {
    let origin = Origin::echoes();
    let process = in_front_of(&origin);
    for name in ["Content-Length", "Transfer-Encoding", "Host", "X-Forwarded-For", "Authorization"] {
        let mut client = process.connect();
        client.send(format!("POST / HTTP/1.1\r\nHost: x\r\nConnection: {name}\r\nContent-Length: 3\r\n\r\nabc"));
        assert_eq!(client.response().status, 400, "{name}");
    }
    assert_eq!(origin.bytes(), 0);
}

#[test]
fn a_client_that_goes_away_takes_its_upstream_request_with_it() {
    let origin = Origin::never_answers();
    let process = in_front_of(&origin);
    let mut client = process.connect();
    client.send("GET /gone HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually("the request arrives", || origin.count() == 1);
    drop(client);
    eventually("the upstream connection is closed", || origin.open() == 0);
    let record = process.record_of("/gone");
    assert_eq!((record.status(), record.flags()), (0, "DC"));
    process.metric_becomes("istio_requests_total", &[("response_flags", "DC")], 1.0);
}

#[test]
fn a_service_that_answers_badly_gets_502_and_a_new_connection() {
    for bad in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
    ] {
        let origin = Origin::sends(bad);
        let process = in_front_of(&origin);
        let mut client = process.connect();
        for round in 1..=2 {
            assert_eq!(client.get("x", "/").status, 502, "{bad:?}");
            assert_eq!(origin.connections(), round, "{bad:?}");
        }
        process.metric_becomes("istio_requests_total", &[("response_flags", "UPE")], 2.0);
    }
}

#[test]
fn bytes_behind_an_answer_are_not_the_answer_of_the_next_request() {
    let origin = Origin::sends(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
    );
    let process = in_front_of(&origin);
    let mut client = process.connect();
    for _ in 0..3 {
        assert_eq!(client.get("x", "/").text(), "ok");
    }
    assert_eq!(origin.connections(), 3, "such a connection is not used again");
}

#[test]
fn bodies_where_none_may_be_never_reach_the_next_answer() {
    let forged = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
    for (method, bad) in [
        ("GET", format!("HTTP/1.1 204 No Content\r\nContent-Length: {}\r\n\r\n{forged}", forged.len())),
        ("GET", format!("HTTP/1.1 204 No Content\r\n\r\n{forged}")),
        ("GET", format!("HTTP/1.1 304 Not Modified\r\nContent-Length: {}\r\n\r\n{forged}", forged.len())),
        ("HEAD", format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{forged}", forged.len())),
        ("HEAD", format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{forged}")),
        ("GET", format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{forged}")),
        ("GET", format!("HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n{forged}")),
    ] {
        let sent = bad.clone();
        let origin = Origin::sends_by(move |request| match request.target.as_str() {
            "/bad" => sent.clone().into_bytes(),
            _ => b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood".to_vec(),
        });
        let process = in_front_of(&origin);
        let mut client = process.connect();
        let answer = client.request(method, "x", "/bad", &[], b"");
        assert!(answer.body.is_empty(), "{bad:?}: {answer:?}");
        for _ in 0..2 {
            assert_eq!(client.get("x", "/good").text(), "good", "{bad:?}");
        }
        assert_eq!(origin.connections(), 2, "{bad:?}");
    }
}

#[test]
fn informational_answers_before_the_final_one_all_reach_the_client() {
    let mut text = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(20);
    text.push_str("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let origin = Origin::sends(text);
    let process = in_front_of(&origin);
    let answer = process.get("x", "/");
    assert_eq!((answer.text().as_str(), answer.informational.len()), ("ok", 20));
}

#[test]
fn a_connection_that_asks_to_be_closed_is_closed_behind_the_answer() {
    let origin = Origin::named("ok");
    let process = in_front_of(&origin);
    let mut client = process.connect();
    let answer = client.request("GET", "x", "/", &[("Connection", "close")], b"");
    assert!(answer.says_close());
    assert!(client.is_closed_within(Duration::from_secs(5)));
    assert_eq!(process.get("x", "/").status, 200);
    assert_eq!(origin.connections(), 1, "the upstream connection outlives the client's");
}

#[test]
fn ten_thousand_pipelined_requests_are_answered_in_order() {
    const COUNT: usize = 10_000;
    let origin = Origin::sends_by(|request| {
        let body = &request.target;
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    });
    let process = in_front_of(&origin);
    let mut client = process.connect();
    let mut writer = client.stream().try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let all: String = (0..COUNT).map(|index| format!("GET /{index} HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
        writer.write_all(all.as_bytes()).unwrap();
    });
    for index in 0..COUNT {
        assert_eq!(client.response().text(), format!("/{index}"));
    }
    sender.join().unwrap();
    assert_eq!(origin.count(), COUNT);
}

/// A request with a random body in a random framing: its bytes and its body.
fn random_request(rng: &mut fastrand::Rng, index: usize) -> (Vec<u8>, Vec<u8>) {
    let length = match rng.u8(..4) {
        0 => 0,
        1 => rng.usize(..20),
        2 => rng.usize(..5_000),
        _ => rng.usize(..100_000),
    };
    let body = Pattern::bytes(length);
    let mut bytes =
        format!("POST /{index} HTTP/1.1\r\nHost: x\r\nX-Pad: {}\r\n", "p".repeat(rng.usize(..300))).into_bytes();
    if rng.bool() {
        bytes.extend_from_slice(format!("Content-Length: {length}\r\n\r\n").as_bytes());
        bytes.extend_from_slice(&body);
        return (bytes, body);
    }
    bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
    let mut rest = &body[..];
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at(rng.usize(1..=rest.len().min(20_000)));
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
        rest = behind;
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    (bytes, body)
}

#[test]
fn random_messages_in_random_pieces_come_back_intact_and_in_order() {
    let origin = Origin::echoes();
    let process = in_front_of(&origin);
    for seed in 0..6 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let messages: Vec<_> = (0..60).map(|index| random_request(&mut rng, index)).collect();
        let mut client = process.connect();
        let mut writer = client.stream().try_clone().unwrap();
        let all: Vec<u8> = messages.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let sender = std::thread::spawn(move || {
            let mut rest = &all[..];
            while !rest.is_empty() {
                let most = [3, 100, 5_000, 200_000][rng.usize(..4)];
                let (piece, behind) = rest.split_at(rng.usize(1..=rest.len().min(most)));
                writer.write_all(piece).unwrap();
                rest = behind;
            }
        });
        for (index, (_, body)) in messages.iter().enumerate() {
            let answer = client.response();
            assert_eq!(answer.header("x-target"), Some(format!("/{index}").as_str()), "seed {seed}");
            assert!(answer.body == *body, "seed {seed}, message {index} of {} bytes", body.len());
        }
        sender.join().unwrap();
    }
}

#[test]
fn a_service_that_says_close_gets_no_further_request_on_that_connection() {
    let origin = Origin::answers(200, &[("Connection", "close")], "bye");
    let process = in_front_of(&origin);
    let mut client = process.connect();
    for _ in 0..3 {
        let answer = client.get("x", "/");
        assert_eq!((answer.text().as_str(), answer.says_close()), ("bye", false));
    }
    assert_eq!(origin.connections(), 3);
}

#[test]
fn many_connections_at_once_are_all_served() {
    let origin = Origin::named("ok");
    let process = in_front_of(&origin);
    let mut clients: Vec<RawClient> = (0..200).map(|_| process.connect()).collect();
    for round in 0..2 {
        for client in &mut clients {
            client.send(format!("GET /{round} HTTP/1.1\r\nHost: x\r\n\r\n"));
        }
        for client in &mut clients {
            assert_eq!(client.response().text(), "ok");
        }
    }
    process.metric_becomes("istio_requests_total", &[("response_code", "200")], 400.0);
    process.metric_becomes("meshwright_downstream_connections_active", &[], 200.0);
}

#[test]
#[ignore = "longer tier"]
fn eight_thousand_keep_alive_connections_are_served() {
    const CONNECTIONS: usize = 8_000;
    meshwright_testkit::raise_descriptor_limit();
    let origin = Origin::named("ok");
    let process = in_front_of(&origin);
    process.get("x", "/warm");
    let before = process.rss_bytes();
    let mut clients: Vec<RawClient> = (0..CONNECTIONS).map(|_| process.connect()).collect();
    for _ in 0..2 {
        for client in &mut clients {
            assert_eq!(client.get("x", "/").text(), "ok");
        }
    }
    process.metric_becomes("meshwright_downstream_connections_active", &[], CONNECTIONS as f64);
    let each = process.rss_bytes().saturating_sub(before) / CONNECTIONS as u64;
    assert!(each < 8 * 1024, "{each} bytes for each idle connection");
}
