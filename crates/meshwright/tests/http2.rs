//! HTTP/1.1 and HTTP/2 on either side of the gateway: heads, bodies, trailers and early ends come through all four pairs.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "support/pairs.rs"]
mod pairs;

use std::io::Write;
use std::sync::mpsc::channel;
use std::time::Duration;

use bytes::Bytes;
use meshwright_testkit::{
    Ask, Client, Http2Client, Http2Origin, Origin, PATIENCE, Pattern, Response, Speaks, eventually, holds_within,
};
use pairs::{Mesh, PAIRS, in_front_of};

/// Far more than any buffer on the way.
const LARGE: u64 = 64 << 20;

#[test]
fn heads_and_bodies_come_through_in_all_pairs() {
    for pair in PAIRS {
        let mut mesh = Mesh::start(pair);
        let body = Pattern::bytes(300_000);
        let ask = Ask::post("api.example.com", "/users/7?full=1", body.clone())
            .header("x-name", "value")
            .header("x-two", "1");
        let answer = mesh.client.request(&ask.header("x-two", "2"));
        assert_eq!((answer.status, answer.body == body), (200, true), "{pair:?}");
        assert_eq!(answer.header("x-target"), Some("/users/7?full=1"), "{pair:?}");
        let received = mesh.origin.last();
        let authority = if pair.1 == Speaks::Http2 { ":authority" } else { "host" };
        assert_eq!(
            (received.method.as_str(), received.header(authority)),
            ("POST", Some("api.example.com")),
            "{pair:?}"
        );
        assert_eq!((received.header("x-name"), received.values("x-two")), (Some("value"), vec!["1", "2"]), "{pair:?}");
        assert_eq!(received.header("x-forwarded-proto"), Some("http"), "{pair:?}");
        assert_eq!(received.header("x-forwarded-for"), Some("127.0.0.1"), "{pair:?}");
        assert!(received.body == body, "{pair:?}");
        let protocol = if pair.0 == Speaks::Http2 { "HTTP/2" } else { "HTTP/1.1" };
        let record = mesh.process.record_of("/users/7?full=1");
        assert_eq!(record.request(), format!("POST /users/7?full=1 {protocol}"));
        assert_eq!((record.bytes_received(), record.bytes_sent(), record.flags()), ("300000", "300000", "-"));
    }
}

#[test]
fn trailers_come_through_both_ways_in_all_pairs() {
    for pair in PAIRS {
        let mut mesh = Mesh::start(pair);
        for body in [&b"hello"[..], b""] {
            let ask = Ask::post("x", "/", body).trailer("x-sum", "5").trailer("x-more", "yes").header("te", "trailers");
            let answer = mesh.client.request(&ask);
            let expected = [("x-sum".to_owned(), "5".to_owned()), ("x-more".to_owned(), "yes".to_owned())];
            assert_eq!(mesh.origin.last().trailers, expected, "{pair:?}");
            assert_eq!((answer.body.as_slice(), answer.trailers.as_slice()), (body, &expected[..]), "{pair:?}");
        }
    }
}

#[test]
fn answers_without_body_have_none_in_all_pairs() {
    for (down, up) in PAIRS {
        let h1 = Origin::sends_by(|received| match received.target.as_str() {
            "/204" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
            "/304" => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\nETag: \"e\"\r\n\r\n".to_vec(),
            _ => b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n".to_vec(),
        });
        let h2 = Http2Origin::start(|stream| match stream.request()?.target.as_str() {
            "/204" => stream.only_head(204, &[]),
            "/304" => stream.only_head(304, &[("content-length", "9"), ("etag", "\"e\"")]),
            _ => stream.only_head(200, &[("content-length", "9")]),
        });
        let address = if up == Speaks::Http2 { h2.address() } else { h1.address() };
        let (_config, process) = in_front_of(address, up, &[]);
        let mut client = Client::connect(down, process.gateway());
        for turn in 0..2 {
            let head = client.request(&Ask::get("x", "/head").method("HEAD"));
            assert_eq!(
                (head.status, head.header("content-length"), head.body.len()),
                (200, Some("9"), 0),
                "{down:?} {up:?}"
            );
            let empty = client.request(&Ask::get("x", "/204"));
            assert_eq!(
                (empty.status, empty.header("content-length"), empty.body.len()),
                (204, None, 0),
                "{down:?} {up:?}"
            );
            let same = client.request(&Ask::get("x", "/304"));
            assert_eq!(
                (same.status, same.header("etag"), same.body.len()),
                (304, Some("\"e\""), 0),
                "{down:?} {up:?} {turn}"
            );
        }
        let connections = if up == Speaks::Http2 { h2.connections() } else { h1.connections() };
        assert_eq!(connections, 1, "{down:?} {up:?}");
    }
}

#[test]
fn large_downloads_arrive_intact_in_all_pairs_with_constant_memory() {
    for (down, up) in PAIRS {
        let (h1, h2) = (Origin::sends_pattern(LARGE), Http2Origin::sends_pattern(LARGE));
        let address = if up == Speaks::Http2 { h2.address() } else { h1.address() };
        let (_config, process) = in_front_of(address, up, &[]);
        let before = process.rss_bytes();
        let mut pattern = Pattern::default();
        match Client::connect(down, process.gateway()) {
            Client::Http1(mut client) => {
                client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
                let response = client.response();
                assert!(pattern.check(&response.body), "{down:?} {up:?}");
            }
            Client::Http2(client) => {
                let mut exchange = client.start(&Ask::get("x", "/")).unwrap();
                exchange.body().read_pattern(&mut pattern).unwrap();
            }
        }
        assert_eq!(pattern.total(), LARGE, "{down:?} {up:?}");
        let grown = process.rss_bytes().saturating_sub(before);
        assert!(grown < 16 << 20, "{down:?} {up:?}: grew by {grown} bytes");
    }
}

#[test]
fn large_uploads_arrive_intact_in_all_pairs_with_constant_memory() {
    for (down, up) in PAIRS {
        let h1 = Origin::checks_pattern();
        let h2 = Http2Origin::start(|stream| {
            let mut pattern = Pattern::default();
            let length = stream.body.read_pattern(&mut pattern)?;
            stream.answer(200, &[], format!("intact {length}").as_bytes())
        });
        let address = if up == Speaks::Http2 { h2.address() } else { h1.address() };
        let (_config, process) = in_front_of(address, up, &[]);
        let before = process.rss_bytes();
        let mut pattern = Pattern::default();
        let answer = match Client::connect(down, process.gateway()) {
            Client::Http1(mut client) => {
                client.send(format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {LARGE}\r\n\r\n"));
                while pattern.total() < LARGE {
                    let most = usize::try_from(LARGE - pattern.total()).unwrap();
                    client.stream().write_all(pattern.next(most)).unwrap();
                }
                client.response()
            }
            Client::Http2(client) => {
                let ask = Ask::post("x", "/", "").header("content-length", &LARGE.to_string());
                let mut exchange = client.start(&ask.left_open()).unwrap();
                while pattern.total() < LARGE {
                    let most = usize::try_from(LARGE - pattern.total()).unwrap();
                    exchange.sender.send(Bytes::copy_from_slice(pattern.next(most))).unwrap();
                }
                exchange.sender.finish().unwrap();
                exchange.response()
            }
        };
        assert_eq!(answer.text(), format!("intact {LARGE}"), "{down:?} {up:?}");
        let grown = process.rss_bytes().saturating_sub(before);
        assert!(grown < 16 << 20, "{down:?} {up:?}: grew by {grown} bytes");
    }
}

#[test]
fn a_reader_that_does_not_read_stalls_the_sender_in_all_pairs() {
    /// What may be on its way between two ends that do not read: kernel buffers, windows and ours.
    const MOST: u64 = 24 << 20;
    let quiet = Duration::from_millis(500);
    for (down, up) in PAIRS {
        // A service that does not read the request.
        let h1 = Origin::start(|connection| {
            connection.head()?;
            connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            std::thread::park_timeout(PATIENCE);
            Ok(())
        });
        let h2 = Http2Origin::start(|stream| {
            stream.head(200, &[])?;
            stream.wait_for_reset(PATIENCE);
            Ok(())
        });
        let address = if up == Speaks::Http2 { h2.address() } else { h1.address() };
        let (_config, process) = in_front_of(address, up, &[]);
        let before = process.rss_bytes();
        let sent = match Client::connect(down, process.gateway()) {
            Client::Http1(mut client) => {
                client.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
                assert_eq!(client.head().status, 200);
                client.stream().set_write_timeout(Some(quiet)).unwrap();
                let chunk = [b"10000\r\n", &[b'x'; 1 << 16][..], b"\r\n"].concat();
                let mut sent = 0;
                while sent < 2 * MOST && client.stream().write_all(&chunk).is_ok() {
                    sent += 1 << 16;
                }
                sent
            }
            Client::Http2(client) => {
                let mut exchange = client.start(&Ask::post("x", "/", "").left_open()).unwrap();
                assert_eq!(exchange.head().status, 200);
                exchange.sender.send_until_stalled(&mut Pattern::default(), 2 * MOST, quiet).unwrap()
            }
        };
        assert!(sent < MOST, "{down:?} {up:?}: {sent} bytes were taken");
        let grown = process.rss_bytes().saturating_sub(before);
        assert!(grown < 4 << 20, "{down:?} {up:?}: grew by {grown} bytes");
    }
}

#[test]
fn a_client_that_does_not_read_stalls_the_service_in_all_pairs() {
    const MOST: u64 = 24 << 20;
    let quiet = Duration::from_millis(500);
    for (down, up) in PAIRS {
        let (taken, took) = channel();
        let of_h2 = taken.clone();
        let h1 = Origin::start(move |connection| {
            connection.request()?;
            connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            connection.set_write_timeout(quiet);
            let chunk = [b"10000\r\n", &[b'x'; 1 << 16][..], b"\r\n"].concat();
            let mut sent = 0;
            while sent < 2 * MOST && connection.send(&chunk).is_ok() {
                sent += 1 << 16;
            }
            taken.send(sent).unwrap();
            Ok(())
        });
        let h2 = Http2Origin::start(move |stream| {
            stream.request()?;
            stream.head(200, &[])?;
            of_h2.send(stream.sender().send_until_stalled(&mut Pattern::default(), 2 * MOST, quiet)?).unwrap();
            Ok(())
        });
        let address = if up == Speaks::Http2 { h2.address() } else { h1.address() };
        let (_config, process) = in_front_of(address, up, &[]);
        let before = process.rss_bytes();
        let (mut first, second);
        match Client::connect(down, process.gateway()) {
            Client::Http1(client) => {
                first = client;
                first.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
            }
            Client::Http2(client) => {
                second = client.start(&Ask::get("x", "/")).unwrap();
                let sent = took.recv_timeout(PATIENCE).unwrap();
                assert!(sent < MOST, "{down:?} {up:?}: {sent} bytes were taken");
                drop(second);
                continue;
            }
        }
        let sent = took.recv_timeout(PATIENCE).unwrap();
        assert!(sent < MOST, "{down:?} {up:?}: {sent} bytes were taken");
        let grown = process.rss_bytes().saturating_sub(before);
        assert!(grown < 4 << 20, "{down:?} {up:?}: grew by {grown} bytes");
    }
}

#[test]
fn an_early_answer_comes_through_in_all_pairs_and_the_request_ends() {
    for (down, up) in PAIRS {
        let h1 = Origin::start(|connection| {
            while let Some(received) = connection.head()? {
                connection.send("HTTP/1.1 413 Too Much\r\nContent-Length: 8\r\n\r\ntoo much")?;
                if received.method == "POST" {
                    connection.wait_for_close(PATIENCE);
                    break;
                }
            }
            Ok(())
        });
        let h2 = Http2Origin::start(|stream| stream.answer(413, &[], b"too much"));
        let address = if up == Speaks::Http2 { h2.address() } else { h1.address() };
        let (_config, process) = in_front_of(address, up, &[]);
        for _ in 0..3 {
            match Client::connect(down, process.gateway()) {
                Client::Http1(mut client) => {
                    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n");
                    assert_eq!(client.response().status, 413, "{down:?} {up:?}");
                }
                Client::Http2(client) => {
                    // Nothing is sent behind the head: the answer may be there before it could be.
                    let mut exchange = client.start(&Ask::post("x", "/", "").left_open()).unwrap();
                    assert_eq!(exchange.response().status, 413, "{down:?} {up:?}");
                    assert!(exchange.sender.reset_within(PATIENCE).is_some(), "{down:?} {up:?}: the upload goes on");
                    assert_eq!(client.get("x", "/").status, 413, "the connection goes on");
                }
            }
        }
    }
}

#[test]
fn early_answers_in_any_number_harm_no_other_request() {
    let origin = Http2Origin::start(|stream| {
        // Not reading it, the service resets the stream behind its answer.
        stream.answer(413, &[], b"too much")
    });
    let (_config, process) = in_front_of(origin.address(), Speaks::Http2, &[]);
    let client = Http2Client::connect(process.gateway());
    for round in 0..10 {
        let body = vec![b'x'; 200_000];
        let answers =
            client.requests((0..50).map(|number| Ask::post("x", &format!("/{round}/{number}"), body.clone())));
        for answer in answers {
            assert_eq!(answer.map(|answer| answer.status), Ok(413), "round {round}");
        }
    }
}

#[test]
fn an_expectation_is_met_and_informational_heads_come_through_in_all_pairs() {
    for (down, up) in PAIRS {
        let h1 = Origin::start(|connection| {
            while let Some(received) = connection.head()? {
                connection.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")?;
                if received.header("expect").is_some() {
                    connection.send("HTTP/1.1 100 Continue\r\n\r\n")?;
                }
                let received = connection.body_of(received)?;
                let length = received.body.len();
                connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX-Length: {length}\r\n\r\nx"))?;
            }
            Ok(())
        });
        let h2 = Http2Origin::start(|stream| {
            stream.inform(103, &[("link", "</a.css>")])?;
            if stream.received.header("expect").is_some() {
                stream.inform(100, &[])?;
            }
            let length = stream.request()?.body.len().to_string();
            stream.answer(200, &[("x-length", &length)], b"x")
        });
        let address = if up == Speaks::Http2 { h2.address() } else { h1.address() };
        let (_config, process) = in_front_of(address, up, &[]);
        match Client::connect(down, process.gateway()) {
            Client::Http1(mut client) => {
                client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
                let hint = client.head();
                assert_eq!((hint.status, hint.header("link")), (103, Some("</a.css>")), "{down:?} {up:?}");
                assert_eq!(client.head().status, 100, "{down:?} {up:?}");
                client.send("body");
                let answer = client.response();
                assert_eq!((answer.status, answer.header("x-length")), (200, Some("4")), "{down:?} {up:?}");
            }
            Client::Http2(client) => {
                let ask = Ask::post("x", "/", "").header("content-length", "4").header("expect", "100-continue");
                let mut exchange = client.start(&ask.left_open()).unwrap();
                let hint = exchange.informational();
                assert_eq!((hint.status, hint.header("link")), (103, Some("</a.css>")), "{down:?} {up:?}");
                assert_eq!(exchange.informational().status, 100, "{down:?} {up:?}");
                exchange.sender.send("body").unwrap();
                // The answer may be there already, for these are the four bytes that were announced.
                drop(exchange.sender.finish());
                let answer = exchange.response();
                assert_eq!((answer.status, answer.header("x-length")), (200, Some("4")), "{down:?} {up:?}");
            }
        }
    }
}

#[test]
fn fields_are_translated_by_rule() {
    for pair in PAIRS.into_iter().filter(|(down, _)| *down == Speaks::Http2) {
        let mut mesh = Mesh::start(pair);
        let ask = Ask::get("x", "/").header("cookie", "a=1").header("cookie", "b=2").header("cookie", "c=3");
        mesh.client.request(&ask.header("te", "trailers"));
        let received = mesh.origin.last();
        assert_eq!(received.values("cookie").join("; "), "a=1; b=2; c=3", "{pair:?}");
        if pair.1 == Speaks::Http1 {
            assert_eq!(received.values("cookie").len(), 1);
            assert!(received.values("host") == ["x"], "{:?}", received.headers);
        }
    }
    // What belongs to a connection of HTTP/1 stays on it.
    let origin =
        Origin::answers(200, &[("Connection", "X-Private"), ("X-Private", "1"), ("Keep-Alive", "timeout=5")], "x");
    let (_config, process) = in_front_of(origin.address(), Speaks::Http1, &[]);
    let answer = Http2Client::connect(process.gateway()).get("x", "/");
    for name in ["connection", "x-private", "keep-alive", "transfer-encoding"] {
        assert_eq!(answer.header(name), None, "{:?}", answer.headers);
    }
    assert!(answer.headers.iter().all(|(name, _)| *name == name.to_ascii_lowercase()), "{:?}", answer.headers);
    let second = Http2Origin::echoes();
    let (_config, process) = in_front_of(second.address(), Speaks::Http2, &[]);
    let headers = [
        ("Connection", "X-Private, keep-alive"),
        ("X-Private", "1"),
        ("Keep-Alive", "timeout=5"),
        ("TE", "trailers, gzip"),
    ];
    assert_eq!(process.connect().request("GET", "x", "/", &headers, b"").status, 200);
    let received = second.last();
    for name in ["connection", "x-private", "keep-alive", "host"] {
        assert_eq!(received.header(name), None, "{:?}", received.headers);
    }
    assert!(matches!(received.header("te"), None | Some("trailers")), "{:?}", received.headers);
}

#[test]
fn a_client_that_cancels_ends_the_request_at_the_service() {
    for up in [Speaks::Http1, Speaks::Http2] {
        let (ended, ends) = channel();
        let of_h2 = ended.clone();
        let h1 = Origin::start(move |connection| {
            connection.head()?;
            ended.send(connection.wait_for_close(PATIENCE)).unwrap();
            Ok(())
        });
        let h2 = Http2Origin::start(move |stream| {
            of_h2.send(stream.wait_for_reset(PATIENCE) == Some(8)).unwrap();
            Ok(())
        });
        let address = if up == Speaks::Http2 { h2.address() } else { h1.address() };
        let (_config, process) = in_front_of(address, up, &[]);
        let client = Http2Client::connect(process.gateway());
        for (before, path) in ["/open", "/sent"].into_iter().enumerate() {
            let ask = Ask::post("x", path, "body");
            let exchange = client.start(&if path == "/open" { ask.left_open() } else { ask }).unwrap();
            eventually("the request is with the service", || h1.heads() + h2.streams() == before + 1);
            drop(exchange);
            assert!(ends.recv_timeout(PATIENCE).unwrap(), "{up:?} {path}");
            assert_eq!(process.record_of(path).flags(), "DC", "{up:?} {path}");
        }
        // A client of HTTP/1 that goes away ends a stream too.
        let mut raw = process.connect();
        raw.send("GET /gone HTTP/1.1\r\nHost: x\r\n\r\n");
        eventually("it is there", || h1.heads() + h2.streams() == 3);
        drop(raw);
        assert!(ends.recv_timeout(PATIENCE).unwrap(), "{up:?}");
    }
}

#[test]
fn a_stream_that_the_service_breaks_off_is_broken_off_towards_the_client() {
    for (down, up) in PAIRS {
        let h1 = Origin::closes_mid_body();
        let h2 = Http2Origin::start(|stream| {
            stream.request()?;
            stream.head(200, &[])?;
            stream.sender().send("hello")?;
            stream.reset(2);
            Ok(())
        });
        let address = if up == Speaks::Http2 { h2.address() } else { h1.address() };
        let (_config, process) = in_front_of(address, up, &[]);
        let mut client = Client::connect(down, process.gateway());
        // A reset may overtake the head; then the gateway answers by itself.
        let whole = client.try_request(&Ask::get("x", "/")).map(|answer| answer.status);
        assert!(matches!(whole, Err(_) | Ok(503)), "{down:?} {up:?}: a part looks like the whole: {whole:?}");
        // On HTTP/2 only the stream is lost.
        if let Client::Http2(client) = &mut client {
            assert!(client.ping(), "{down:?} {up:?}");
        }
    }
}

#[test]
fn connections_are_shared_by_requests_in_turn_and_at_once() {
    for pair in PAIRS {
        let mut mesh = Mesh::start(pair);
        for number in 0..50 {
            assert_eq!(mesh.client.request(&Ask::post("x", &format!("/{number}"), "b")).text(), "b", "{pair:?}");
        }
        assert_eq!(mesh.origin.connections(), 1, "{pair:?}");
        mesh.process.metric_becomes("meshwright_downstream_connections_accepted_total", &[], 1.0);
        let Client::Http2(client) = &mesh.client else { continue };
        let answers = client.requests((0..100).map(|number| Ask::post("x", "/", format!("{number}"))));
        for (number, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer.unwrap().text(), number.to_string(), "{pair:?}");
        }
        if pair.1 == Speaks::Http2 {
            assert_eq!(mesh.origin.connections(), 1, "{pair:?}");
        }
    }
}

#[test]
fn as_many_streams_as_are_allowed_run_and_further_ones_wait() {
    let settings = meshwright_testkit::Http2Settings { max_streams: 10, ..Default::default() };
    let origin = Http2Origin::with(None, settings, |stream| {
        let received = stream.request()?;
        std::thread::park_timeout(Duration::from_millis(20));
        stream.answer(200, &[], &received.body)
    });
    let (_config, process) = in_front_of(origin.address(), Speaks::Http2, &["--max-streams", "50"]);
    let mut client = Http2Client::connect(process.gateway());
    assert!(client.ping());
    assert_eq!(client.allowed_streams(), 50);
    let answers = client.requests((0..500).map(|number| Ask::post("x", "/", format!("{number}"))));
    for (number, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.unwrap().text(), number.to_string());
    }
    assert_eq!(origin.count(), 500);
}

#[test]
fn a_service_that_goes_away_loses_no_request() {
    let origin = Http2Origin::start(|stream| {
        let received = stream.request()?;
        std::thread::park_timeout(Duration::from_millis(5));
        stream.answer(200, &[], &received.body)
    });
    let (_config, process) = in_front_of(origin.address(), Speaks::Http2, &[]);
    let client = Http2Client::connect(process.gateway());
    for round in 0..20 {
        std::thread::scope(|scope| {
            let asking =
                scope.spawn(|| client.requests((0..40).map(|number| Ask::post("x", "/", format!("{number}")))));
            eventually("some are there", || origin.streams() > round * 40 + 10);
            origin.go_away();
            for (number, answer) in asking.join().unwrap().into_iter().enumerate() {
                assert_eq!(
                    answer.map(|answer: Response| (answer.status, answer.text())),
                    Ok((200, number.to_string()))
                );
            }
        });
    }
    assert!(origin.connections() > 1);
    process.metric_becomes("istio_requests_total", &[("response_code", "200")], 800.0);
}

#[test]
fn a_service_that_closes_idle_connections_loses_no_request() {
    let origin = Http2Origin::echoes();
    let (_config, process) = in_front_of(origin.address(), Speaks::Http2, &[]);
    let client = Http2Client::connect(process.gateway());
    // A connection that ends without a word may have taken a POST with it; one that goes away says what it took.
    for round in 0..30 {
        assert_eq!(client.get("x", "/").status, 200, "round {round}");
        origin.close_connections();
    }
    // What may be asked again meets the last of those ends; a POST might not survive it.
    assert_eq!(client.get("x", "/").status, 200);
    for round in 0..30 {
        assert_eq!(client.request(&Ask::post("x", "/", "body")).text(), "body", "round {round}");
        origin.go_away();
    }
}

#[test]
fn a_drain_finishes_streams_and_takes_no_new_ones() {
    let origin = Http2Origin::streams_back();
    let (_config, mut process) = in_front_of(origin.address(), Speaks::Http2, &["--drain-timeout", "20s"]);
    let client = Http2Client::connect(process.gateway());
    let mut streams: Vec<_> =
        (0..20).map(|number| client.start(&Ask::post("x", &format!("/{number}"), "").left_open()).unwrap()).collect();
    for stream in &mut streams {
        assert_eq!(stream.head().status, 200);
    }
    process.signal(meshwright_testkit::Signal::TERM);
    eventually("the client is told to go", || !client.takes_requests_within(Duration::from_secs(1)));
    for stream in &mut streams {
        stream.sender.send("after the signal").unwrap();
        stream.sender.finish().unwrap();
        assert_eq!(stream.response().text(), "after the signal");
    }
    eventually("the connection ends well", || client.ended() == Some(Ok(())));
    assert_eq!(process.wait_exit(), 0);
}

#[test]
fn requests_that_never_stop_are_all_answered_while_the_configuration_changes() {
    let origin = Http2Origin::echoes();
    let config = meshwright_testkit::Config::new(&[
        &meshwright_testkit::gateway_to("svc"),
        &meshwright_testkit::service_entry("svc", "HTTP2", origin.address()),
    ]);
    let process = meshwright_testkit::Launch::run(meshwright_testkit::binary!()).file(config.path()).start();
    let client = Http2Client::connect(process.gateway());
    let mut waiting = client.start(&Ask::post("x", "/open", "").left_open()).unwrap();
    for round in 0..20 {
        let note = format!("# {round}\n{}", meshwright_testkit::gateway_to("svc"));
        config.replace(&[&note, &meshwright_testkit::service_entry("svc", "HTTP2", origin.address())]);
        process.generation_becomes(f64::from(round + 2));
        let answers = client.requests((0..20).map(|_| Ask::post("x", "/", "b")));
        assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|answer| answer.text() == "b")), "round {round}");
    }
    waiting.sender.send("still").unwrap();
    waiting.sender.finish().unwrap();
    assert_eq!(waiting.response().text(), "still");
    assert!(holds_within(PATIENCE, || client.ended().is_none()));
}
